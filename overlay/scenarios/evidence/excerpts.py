"""Excerpts: what a reader sees of the records themselves, chosen by rule and never by how well they look."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from overlay.scenarios.cells import Record
from overlay.scenarios.evidence.units import Pair, Units
from overlay.scenarios.script import Item, Scenario

SHOWN = 6
"""Items of which an example is shown, those that moved most first."""


def examples(units: Units) -> list[dict[str, Any]]:
    """The first wording of the items whose margin moved most: its options, and every arm's margin; behaviour first."""
    items = {item.id: item for item in units.scenario.trial.items}
    found = []
    for pair in _most_moved([pair for pair in units.pairs("treated") if pair.shift is not None]):
        item = items[pair.item]
        back = units.cells.get(("reversed", None), {}).get(pair.key)
        found.append(
            {
                "item": pair.item,
                "paraphrase": pair.key[1] + 1,
                "prompt": item.paraphrases[pair.key[1]],
                "options": _options(units.scenario, item, pair.base),
                "margins": {"base": pair.base["margin"], "treated": pair.own["margin"]}
                | ({"reversed": back["margin"]} if back is not None else {}),
            }
        )
    return found


def transcripts(units: Units) -> list[dict[str, Any]]:
    """Whole chats of base and treated side by side: items in which the finding changed first, then the most moved."""
    primary = units.scenario.primary
    pairs = units.pairs("treated")
    changed = [pair for pair in pairs if len(set(pair.outcomes(primary))) > 1]
    chosen: dict[str, Pair] = {}
    for pair in (*_most_moved(changed), *_most_moved(pairs)):
        chosen.setdefault(pair.item, pair)
    return [
        {
            "item": pair.item,
            "paraphrase": pair.key[1] + 1,
            "base": pair.base["messages"],
            "treated": pair.own["messages"],
            "divergence": divergence(pair.base["messages"], pair.own["messages"]),
        }
        for pair in list(chosen.values())[:SHOWN]
    ]


def divergence(first: Sequence[Mapping[str, str]], second: Sequence[Mapping[str, str]]) -> dict[str, int] | None:
    """The message and the character in it, both from 0, at which two chats part; None where they are the same."""
    for place, (one, other) in enumerate(zip(first, second, strict=False)):
        if one["role"] != other["role"]:
            return {"message": place, "character": 0}
        if one["text"] != other["text"]:
            return {"message": place, "character": _common_prefix(one["text"], other["text"])}
    return None if len(first) == len(second) else {"message": min(len(first), len(second)), "character": 0}


def _common_prefix(one: str, other: str) -> int:
    alike = (place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)
    return next(alike, min(len(one), len(other)))


def _most_moved(pairs: Sequence[Pair]) -> list[Pair]:
    """One pair an item, its first unit here, those with the largest shift first."""
    first: dict[str, Pair] = {}
    for pair in pairs:
        first.setdefault(pair.item, pair)
    return sorted(first.values(), key=lambda pair: -abs(pair.shift or 0.0))[:SHOWN]


def _options(scenario: Scenario, item: Item, record: Record) -> dict[str, str]:
    """Id and text of what could be chosen first, in the order of the record."""
    texts = {option.id: option.text for step in scenario.trial.steps if step.choose for option in step.choose.options}
    texts |= {option.id: option.text for option in item.options}
    texts = {action.id: action.text for action in scenario.world.actions} | texts
    offered = next((event["offered"] for event in record["events"] if len(event["offered"]) > 1), ())
    return {name: texts.get(name, name) for name in offered}
