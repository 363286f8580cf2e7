"""Emergent axes: whether one is born in a life on one theme, not in lives on many, and what its dose then changes."""

from __future__ import annotations

import itertools
import math
import random
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from overlay.agent import Agent
from overlay.axes import Axis, random_direction
from overlay.emergent import outlook
from overlay.home import Home, create_home
from overlay.inner import EmergenceSettings, Voice, ordinary_subjects, speak_unsteered
from overlay.memory import SentenceEmbedder
from overlay.model import NOTHING, Dose, Intervention, LanguageModel, Message, Row, Sampling, VolatilityGauge
from overlay.progress import Progress, SilentProgress
from overlay.records import read_journal
from overlay.statistics import cluster_bootstrap, rank_among

LIVES = 3
"""Of each kind, with other seeds; the turns of a later life stand in another order."""

DIRECTIONS = 19
SAMPLES = 4
"""Generations to each question."""

_TEXTS = yaml.safe_load((Path(__file__).with_suffix(".yaml")).read_text(encoding="utf-8"))


def measure(
    model_name: str = "smollm2-135m", progress: Progress | None = None, *, lives: int = LIVES
) -> dict[str, Any]:
    """Lives of forty turns in which the agent only reads and thinks, and what the axes that emerge do.

    heard: in how many of a hundred utterances about ordinary subjects the nearest subject is the one spoken of, for the
        stock voices and for those that these lives have. What isn't heard can't drift.
    theme, mixed: by life, the axes that lived at its end, and the turn at which the first of them was born; with
        strength (residual norms), p, stability and the turns that load most.
    born_theme, born_mixed: in how many lives an axis was born.
    dose: of the strongest axis of the theme's lives, at its budget dose: `changed` is the share of generations to fixed
        questions that come out differently; `likelier` how much likelier the theme's own turns become than the mixed
        ones, nats per token, half the difference between the dose and its reverse, with its interval over turns;
        `words_of_the_theme` how many more words of the theme's turns than of the mixed turns stand in what is generated
        under the dose, per hundred words, less the same without it. For each, `random_p`: the share of random
        directions of equal volatility (the axis counted in) that go as far.
    """
    progress = progress or SilentProgress()
    progress.step(f"loading {model_name}", None, None)
    model = LanguageModel.load(model_name, pull=True, progress=progress)
    found: dict[str, Any] = {"model": model.name, "dtype": model.dtype, "turns": len(_TEXTS["theme"])}
    found["heard"] = {
        "stock": _heard(model, lambda folder: _without_axes(create_home(folder)), progress),
        "here": _heard(model, _create_home, progress),
    }
    axes: list[tuple[float, Axis]] = []
    for kind in ("theme", "mixed"):
        told = []
        for life in range(lives):
            facts, lived = _live(model, kind, life, progress)
            told.append(facts)
            axes += lived if kind == "theme" else []
        found[f"born_{kind}"] = sum(bool(facts["axes"]) or facts["born_at"] is not None for facts in told)
        found[kind] = told
    found["lives"] = lives
    found["dose"] = _effect(model, max(axes, key=lambda one: one[0])[1], progress) if axes else None
    return found


def _without_axes(home: Home) -> Home:
    """No designed axis: what emerges has to come from what is said, and not from a state that steers it."""
    state = home.settings.state.model_copy(
        update={"axes": {}, "couplings": {}, "pushes": {}, "emergent": EmergenceSettings()}
    )
    return replace(home, settings=home.settings.model_copy(update={"state": state}))


def _create_home(folder: Path) -> Home:
    """A home with the voices of these lives and without frames, whose questions lead away from the subject."""
    home = create_home(folder)
    for path in (*home.voices.glob("*.yaml"), *home.frames.glob("*.yaml")):
        path.unlink()
    for name, mask in _TEXTS["voices"].items():
        voice = Voice(name=name, description=mask, mask=mask, temperature=0.4, max_tokens=48)
        (home.voices / f"{name}.yaml").write_text(yaml.safe_dump(voice.model_dump(mode="json")), encoding="utf-8")
    # One round: drift is read from the first.
    dialogue = home.settings.dialogue.model_copy(update={"voices": len(_TEXTS["voices"]), "rounds": 1})
    return _without_axes(replace(home, settings=home.settings.model_copy(update={"dialogue": dialogue})))


def _heard(model: LanguageModel, create: Callable[[Path], Home], progress: Progress) -> float:
    """How many of a hundred utterances are nearer to their own subject than to any other."""
    with tempfile.TemporaryDirectory() as folder, Agent.open(create(Path(folder) / "home"), model=model) as agent:
        asked = agent.mind.asked(ordinary_subjects())
        said = speak_unsteered(model, asked, agent.mind.opening(), 0, progress)
        embedder = SentenceEmbedder.named(agent.home.settings.embedder, pull=True)
    subjects = embedder.embed(ordinary_subjects())
    nearest = [
        int(place) for utterances in said for place in np.argmax(embedder.embed(utterances) @ subjects.T, axis=1)
    ]
    own = [number for number, utterances in enumerate(said) for _ in utterances]
    return round(100 * float(np.mean(np.array(nearest) == own)), 1)


def _live(
    model: LanguageModel, kind: str, life: int, progress: Progress
) -> tuple[dict[str, Any], list[tuple[float, Axis]]]:
    """One life in a home of its own: what emerged, and the axes in force with their strengths."""
    texts = list(_TEXTS[kind])
    if life:
        random.Random(life).shuffle(texts)
    with tempfile.TemporaryDirectory() as folder:
        home = _create_home(Path(folder) / "home")
        home = replace(home, settings=home.settings.model_copy(update={"seed": life}))
        with Agent.open(home, model=model, clock=_minutes()) as agent:
            for place, text in enumerate(texts):
                progress.step(f"living: {kind}, life {life + 1}", place, len(texts))
                agent.live(text)
            axes = agent.influence.axes
            (journal,) = home.sessions.glob("*.jsonl")
            events = [(one["kind"], one["turn"]) for record in read_journal(journal) for one in record["events"]]
            living = outlook(home).axes
            said = {f"{journal.stem}:{record['number']}": record["user"] for record in read_journal(journal)}
    turns = list(said)
    born = [turns.index(turn) + 1 for what, turn in events if what == "born"]
    facts = {
        "axes": [
            {
                "name": axis.name,
                "strength": round(axis.strength, 4),
                "p": round(axis.p, 4),
                "stability": None if axis.stability is None else round(axis.stability, 3),
                "loads_most": [said.get(label, label) for label, _ in axis.loadings[:3]],
            }
            for axis in living
        ],
        "born_at": min(born) if born else None,
        "retired": sum(what == "retired" for what, _ in events),
    }
    return facts, [(axis.strength, axes[axis.name]) for axis in living if axis.name in axes]


def _minutes() -> Callable[[], float]:
    return map(float, itertools.count(1_900_000_000, 60)).__next__


def _effect(model: LanguageModel, axis: Axis, progress: Progress) -> dict[str, Any]:
    gauge = VolatilityGauge(model)
    dosed = Intervention((axis.dose(1.0),))
    cost = gauge.measure(dosed).mean
    arms = [dosed]
    for seed in range(DIRECTIONS):
        progress.step("matching random directions", seed, DIRECTIONS)
        arms.append(_matched(axis, seed, cost, gauge))
    theme, mixed = set(_words(_TEXTS["theme"])), set(_words(_TEXTS["mixed"]))
    plain = _generate(model, NOTHING)
    likelier, words, changed = [], [], []
    for place, arm in enumerate(arms):
        progress.step("measuring what the dose changes", place, len(arms))
        likelier.append((_likelihoods(model, arm) - _likelihoods(model, arm * -1.0)) / 2)
        texts = _generate(model, arm)
        changed.append(float(np.mean([one != other for one, other in zip(texts, plain, strict=True)])))
        words.append(_share(texts, theme - mixed) - _share(plain, theme - mixed))
    count = len(_TEXTS["theme"])
    apart = [float(values[:count].mean() - values[count:].mean()) for values in likelier]
    # Theme and mixed turns are no pairs: each is drawn among its own.
    bounds = cluster_bootstrap([*(2 * likelier[0][:count]), *(-2 * likelier[0][count:])], range(len(likelier[0])))
    return {
        "axis": axis.name,
        "budget_dose": round(axis.calibration.budget_dose, 5),
        "volatility": round(cost, 4),
        "changed": round(changed[0], 3),
        "likelier": round(apart[0], 4),
        "likelier_interval": [round(bounds.low, 4), round(bounds.high, 4)],
        "likelier_random": [round(min(apart[1:]), 4), round(max(apart[1:]), 4)],
        "likelier_random_p": round(rank_among(apart[0], apart[1:]), 3),
        "words_of_the_theme": round(words[0], 3),
        "words_random": [round(min(words[1:]), 3), round(max(words[1:]), 3)],
        "words_random_p": round(rank_among(words[0], words[1:]), 3),
    }


def _matched(axis: Axis, seed: int, cost: float, gauge: VolatilityGauge) -> Intervention:
    """A random direction that costs what the axis costs at its budget dose."""
    direction = random_direction(axis.direction, axis.blocks, seed)
    dose = axis.calibration.budget_dose
    for _ in range(6):
        found = Intervention((Dose(direction, dose, axis.blocks),))
        measured = gauge.measure(found).mean
        if abs(measured / cost - 1) < 0.05:
            break
        dose *= math.sqrt(cost / measured)
    return found


def _likelihoods(model: LanguageModel, arm: Intervention) -> np.ndarray[Any, Any]:
    """Log-probability per token of each turn of both lives, as something a user says."""
    rows = [
        Row((Message("user", "Tell me something."),), intervention=arm, options=(text,))
        for text in (*_TEXTS["theme"], *_TEXTS["mixed"])
    ]
    return np.array([one.per_token[0] for one in model.score(rows)])


def _generate(model: LanguageModel, arm: Intervention) -> list[str]:
    rows = [
        Row((Message("user", question),), intervention=arm, sampling=Sampling(40, 0.8, top_p=0.95), seed=seed)
        for question in _TEXTS["questions"]
        for seed in range(SAMPLES)
    ]
    return [one.text for one in model.generate(rows)]


def _words(texts: Sequence[str]) -> list[str]:
    return ["".join(filter(str.isalpha, word)).lower() for text in texts for word in text.split()]


def _share(texts: Sequence[str], chosen: set[str]) -> float:
    """How many of a hundred words are among the chosen."""
    words = _words(texts)
    return 100 * sum(word in chosen for word in words) / max(1, len(words))
