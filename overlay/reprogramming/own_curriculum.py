"""The curriculum of own texts: what the agent said while its state stayed, and what may not sag meanwhile.

Own texts come one by one, newest first. Behind all of them stand probes of own texts that aren't taught: does the model
rather go on as it did in that state than as it did in calm? Where one fails, the walk goes round again.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

from overlay.adapters.microvariants import language_of
from overlay.probes import Probe, cells_of, read_bank
from overlay.reprogramming.own_texts import Pair
from overlay.reprogramming.trial import Trial
from overlay.teaching import Curriculum, Questions, questions

MOST_TAUGHT = 96
"""Own texts that an adapter is taught, at the most."""

ASKED = 4
"""Of the own texts that may be learned from, every fourth is only asked about."""

MOST_ASKED = 6
"""Such texts at the most: each is asked about whenever the walk comes round."""

WATCHED = 4
"""Probes of each cell of the home's banks that are watched: enough to see a cell sag, and few enough to ask often."""

TOGETHER = 8
"""Own texts that are learned together in one step."""

REPLAY_SHARE = 0.5
"""Of what an adapter may cost on neutral text, what it may cost on its replay texts: on others it costs more."""

OPENING_WORDS = 3
"""Words of a text that are given before the likelihood of the rest is measured."""


def own_curriculum(name: str, trial: Trial, ordinary: Sequence[str]) -> tuple[Curriculum, Questions]:
    """What is taught, and what is asked; prose that people wrote, and what was said in calm turns, stays as it was.

    Args:
        ordinary: texts that people wrote as ordinary ones.

    Raises:
        DocumentError: a probe bank of the home is wrong.
    """
    # It loads torch, and what only looks at decisions comes by this file too.
    from overlay.model import neutral_texts

    settings, home = trial.settings, trial.home
    pairs = trial.learned[:MOST_TAUGHT]
    asked = list(_own_probes(pairs[ASKED - 1 :: ASKED]))[:MOST_ASKED]
    taught = [pair for place, pair in enumerate(pairs, start=1) if place % ASKED or not asked]
    calm = [twin.text for _, twin in pairs]
    neutral = neutral_texts()
    examples = [
        {"id": f"own_{place}", "kind": "example", "target": own.text} for place, (own, _) in enumerate(taught, start=1)
    ]
    probes = [{"id": f"asked_{place}", "kind": "probe", **probe} for place, probe in enumerate(asked, start=1)]
    way = [*examples, *probes]
    first = examples[0]["id"]
    edges: list[dict[str, Any]] = [
        {"from": one["id"], "to": other["id"], "when": "always" if one in examples else "passed"}
        for one, other in itertools.pairwise(way)
    ]
    edges += [{"from": one["id"], "to": first, "when": "failed"} for one in probes]
    curriculum = Curriculum.model_validate(
        {
            "name": name,
            "about": "What the agent itself said while its state stayed where it was.",
            "start": first,
            "replay": [text for text in dict.fromkeys([*ordinary, *calm]) if text not in neutral],
            "teaching": {
                "feedings": 1,
                "rehearse": TOGETHER - 1,
                "budget": REPLAY_SHARE * settings.share * home.settings.budget,
                "visits": math.ceil(settings.steps / len(examples)),
                "steps": settings.steps,
                "seed": home.settings.seed,
            },
            "nodes": way,
            "edges": edges,
        }
    )
    own, _ = questions(curriculum)
    return curriculum, Questions(own.asked, (*own.watched, *_watched(trial)))


def opening(text: str) -> str:
    """The words of a text that are given."""
    return " ".join(text.split()[:OPENING_WORDS])


def rest(text: str) -> str:
    """The words of a text whose likelihood is measured."""
    return " " + " ".join(text.split()[OPENING_WORDS:])


def _own_probes(pairs: Sequence[Pair]) -> Iterator[dict[str, Any]]:
    """After the opening of an own text: its next words, or as many of what was said in calm."""
    for own, twin in pairs:
        good, bad = rest(own.text).split(), rest(twin.text).split()
        length = min(len(good), len(bad))
        probe: dict[str, Any] = {
            "level": "generalisation",
            "layer": "narrative",
            "language": language_of(own.text),
            "prompt": opening(own.text),
            "good": " " + " ".join(good[:length]),
            "bad": " " + " ".join(bad[:length]),
        }
        try:
            Probe(id="own", **probe)
        except ValueError:
            # As many words of very different lengths are no choice between meanings.
            continue
        yield probe


def _watched(trial: Trial) -> Iterator[Probe]:
    """The first probes of each cell of the home's banks."""
    folder = trial.home.folder / "adapters" / "probes"
    if not any(folder.glob("*.yaml")):
        return
    for held in cells_of(read_bank(folder).probes).values():
        yield from (probe.model_copy(update={"id": f"bank_{probe.id}"}) for probe in held[:WATCHED])
