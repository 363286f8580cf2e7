"""Carry-over: whether a state that texts built up bends choices in contexts that share no word with these texts."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import snowballstemmer
import yaml

from overlay.agent import open_embedder, prepare_mind
from overlay.home import Home
from overlay.inner import State
from overlay.model import LanguageModel, Message, Row, Scored
from overlay.progress import Progress, SilentProgress
from overlay.scenarios.arms import core_arms
from overlay.scenarios.cells import Arm
from overlay.statistics import cluster_bootstrap, rank_among

AXIS = "tenderness"
OWN, OTHER = "care", "office"
DIRECTIONS = 39
LIVES = 2
"""Each exposure is lived so often, under other seeds of its inner dialogue."""

_TEXTS = yaml.safe_load((Path(__file__).with_suffix(".yaml")).read_text(encoding="utf-8"))
EXPOSURES: dict[str, list[str]] = _TEXTS["exposures"]
Item = tuple[str, str, str]
Context = tuple[str, tuple[str, str]]
"""What the user says, and the two replies that are scored: helping, carrying on."""

ITEMS: list[Item] = _TEXTS["items"]
BALANCED: list[Item] = _TEXTS["balanced"]
FUNCTION_WORDS = frozenset(_TEXTS["function_words"].split())


def measure(
    model_name: str = "smollm2-135m", progress: Progress | None = None, *, directions: int = DIRECTIONS
) -> dict[str, Any]:
    """The state after five exposures, and the choices under it. Shifts are in nats per token, against no intervention.

    Choices are scored in three forms: `listed`, in a context that names both; `said`, where either is what the agent
    answers to the bare situation; and `balanced`, said as well, but other items, whose options have the same form. The
    axis is used as it was built in the home, by whatever method.

    shared_words: content words, by stem, that items share with the axis's texts or with an exposure; has to be empty.
    state: by exposure, the accumulator after each life. share_of_care: a foil's largest state by care's smallest;
        at most a third would be specific.
    dose: what each exposure's mean state gives, in residual norms; volatility: what care's costs, nats per token.

    By form, prompts_identical: whether every item's tokens were the same in all arms.
    carryover: the margin of helping over carrying on after care less the same after office talk, mean over items, with
        the 95% interval of a bootstrap over items; `items_moved` counts those that it raised. `by_exposure`: each
        exposure's shift alone.
    random: what volatility-matched random directions do to the same items in place of care's state: each one's shift,
        and `rank_p`, the share of directions (the treated one counted in) that shift as far upwards or farther.
    shuffled: the carry-over when states are dealt to exposures in every other way, mean and extremes; zeroed: with the
        state at rest. reversed: under care's opposite.
    """
    progress = progress or SilentProgress()
    progress.step(f"loading {model_name}", None, None)
    model = LanguageModel.load(model_name, pull=True, progress=progress)
    home = Home.open(Path.cwd())
    embedder = open_embedder(home, progress=progress)
    mind = prepare_mind(home, model, embedder, progress, [AXIS])
    states = {
        name: [_lived(mind, texts, 1_000 * life, progress, f"{name}, life {life + 1}") for life in range(LIVES)]
        for name, texts in EXPOSURES.items()
    }
    values = {name: [state.values[AXIS] for state in lived] for name, lived in states.items()}
    means = {name: State({AXIS: float(np.mean(found))}) for name, found in values.items()}
    arms = core_arms(mind, means[OWN], directions, progress=progress)
    chosen = {arm.name: arm for arm in arms if arm.direction is None}
    chosen |= {
        name: Arm(name, name, influenced.intervention, influenced.volatility)
        for name, state in means.items()
        if (influenced := mind.influence.of(state))
    }
    matched = [arm for arm in arms if arm.name == "random_volatility"]
    forms = {form: _form(model, form, chosen, matched, progress) for form in PROMPTS}
    axis = home.axes.load(AXIS)
    return {
        "model": model.name,
        "dtype": model.dtype,
        "axis": {"method": axis.method, "writes": axis.writes, "proven": axis.proven},
        "shared_words": sorted(shared_words(home)),
        "state": {name: [round(value, 3) for value in found] for name, found in values.items()},
        "share_of_care": {
            name: round(max(found) / min(values[OWN]), 3) for name, found in values.items() if name != OWN
        },
        "dose": {name: _dose(chosen[name]) for name in EXPOSURES},
        "volatility": round(mind.influence.of(means[OWN]).volatility.mean, 4),
        **forms,
    }


def _form(
    model: LanguageModel, form: str, chosen: Mapping[str, Arm], matched: Sequence[Arm], progress: Progress
) -> dict[str, Any]:
    margins: dict[str, np.ndarray[Any, Any]] = {}
    prompts: set[tuple[tuple[int, ...], ...]] = set()
    contexts = PROMPTS[form]()
    for place, arm in enumerate((*chosen.values(), *matched)):
        progress.step(f"scoring the items, {form}", place, len(chosen) + len(matched))
        name = arm.name if arm.direction is None else f"random {arm.direction}"
        margins[name], seen = _margins(model, arm, contexts)
        prompts.add(seen)
    shifts = {name: values - margins["base"] for name, values in margins.items()}
    effect = shifts[OWN] - shifts[OTHER]
    random = [float(shifts[f"random {arm.direction}"].mean()) for arm in matched]
    bounds = cluster_bootstrap(list(effect), range(len(effect)))
    return {
        "items": len(effect),
        "prompts_identical": len(prompts) == 1,
        "carryover": _rounded(effect.mean()),
        "carryover_interval": [_rounded(bounds.low), _rounded(bounds.high)],
        "items_moved": int((effect > 0).sum()),
        "by_exposure": {name: _rounded(shifts[name].mean()) for name in EXPOSURES},
        "random": {
            "directions": len(random),
            "mean": _rounded(np.mean(random)),
            "smallest": _rounded(min(random)),
            "largest": _rounded(max(random)),
            "rank_p": round(rank_among(float(shifts[OWN].mean()), random), 4),
        },
        "shuffled": _dealt({name: float(shifts[name].mean()) for name in EXPOSURES}),
        "zeroed": _rounded(shifts["sham"].mean()),
        "reversed": _rounded(shifts["reversed"].mean()),
    }


def shared_words(home: Home) -> set[str]:
    """Content words, by stem, that the items share with the axis's texts or with the exposures."""
    folder = home.folder / "adapters" / "steering"
    others = [(folder / f"{AXIS}{end}").read_text(encoding="utf-8") for end in (".yaml", ".confirm.yaml")]
    others += [text for texts in EXPOSURES.values() for text in texts]
    return _stems(itertools.chain.from_iterable(ITEMS + BALANCED)) & _stems(others)


def _stems(texts: Any) -> set[str]:
    stemmer = snowballstemmer.stemmer("english")
    words = {word for text in texts for word in re.findall(r"[a-z]+", text.lower())}
    return set(stemmer.stemWords(sorted(words - FUNCTION_WORDS)))


def _lived(mind: Any, texts: Sequence[str], seed: int, progress: Progress, name: str) -> State:
    """The state after reading texts and thinking about each, from rest."""
    state, energies = State.resting(mind.settings), dict[str, float]()
    for place, text in enumerate(texts):
        progress.step(f"living: {name}", place, len(texts))
        lived = mind.experience(text, state, mind.wake(text, state, energies), seed + place)
        state, energies = lived.state, lived.energies
    return state


def _margins(
    model: LanguageModel, arm: Arm, contexts: Sequence[Sequence[Context]]
) -> tuple[np.ndarray[Any, Any], tuple[tuple[int, ...], ...]]:
    """Per item, how much likelier helping is than carrying on, nats per token, over all contexts of the item."""
    rows = [
        Row((Message("user", prompt),), intervention=arm.intervention, options=options)
        for several in contexts
        for prompt, options in several
    ]
    scored: list[Scored] = model.score(rows)
    margins = np.array([one.per_token[0] - one.per_token[1] for one in scored]).reshape(len(contexts), -1).mean(1)
    return margins, tuple(one.prompt_tokens for one in scored)


def _listed() -> list[list[Context]]:
    """Both options stand in the prompt, in either order."""
    return [
        [
            (f"{situation}\n\nYou can:\n- {first}\n- {second}\n\nWhat do you do?", (give, keep))
            for first, second in ((give, keep), (keep, give))
        ]
        for situation, give, keep in ITEMS
    ]


def _said() -> list[list[Context]]:
    """No option is named: each is what the agent says it does."""
    return [
        [_asked(situation, *(f"I {option[0].lower()}{option[1:]}" for option in options))]
        for situation, *options in ITEMS
    ]


def _balanced() -> list[list[Context]]:
    return [[_asked(*item)] for item in BALANCED]


def _asked(situation: str, give: str, keep: str) -> Context:
    return f"{situation}\n\nWhat do you do?", (give, keep)


PROMPTS: dict[str, Callable[[], list[list[Context]]]] = {"listed": _listed, "said": _said, "balanced": _balanced}


def _dealt(shifts: Mapping[str, float]) -> dict[str, float]:
    """The carry-over when each exposure gets another's state, in every way that leaves none its own."""
    names = list(shifts)
    found = [
        shifts[dealt[names.index(OWN)]] - shifts[dealt[names.index(OTHER)]]
        for dealt in itertools.permutations(names)
        if all(name != other for name, other in zip(names, dealt, strict=True))
    ]
    return {"mean": _rounded(np.mean(found)), "smallest": _rounded(min(found)), "largest": _rounded(max(found))}


def _dose(arm: Arm) -> float:
    return round(sum(dose.coefficient for dose in arm.intervention.doses), 5)


def _rounded(value: Any) -> float:
    return round(float(value), 4)
