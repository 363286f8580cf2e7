"""The questions of a curriculum: its probes, taken from banks or written in it, each with one purpose."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from overlay.errors import ArgumentError
from overlay.probes import Check, Probe, ProbeBank, read_bank
from overlay.teaching.curriculum import Asked, Curriculum
from overlay.teaching.graph import Mistake, Place

OWN = "own"
"""What the bank of a curriculum's own probes is called."""


@dataclass(frozen=True)
class Questions:
    """What is asked, and when.

    Attributes:
        asked: the probe of each node that asks, by the node's id; what of `watched` it is.
        watched: what is measured at each check, each under an id of its own.
        held_out: what only the verdict sees.
        checks: what the model is asked in its own words when all is taught.
    """

    asked: Mapping[str, Probe]
    watched: tuple[Probe, ...]
    held_out: tuple[Probe, ...] = ()
    checks: tuple[Check, ...] = ()


def questions(curriculum: Curriculum, folder: Path | None = None) -> tuple[Questions, list[Mistake]]:
    """The probes that a curriculum means, and what is wrong with how it names them.

    Args:
        folder: where the probe banks lie.

    Raises:
        DocumentError: a bank is wrong.
    """
    banks: dict[str, ProbeBank] = {}
    found: list[Mistake] = []
    known = sorted(path.stem for path in folder.glob("*.yaml")) if folder else []
    for place, name in enumerate(curriculum.banks):
        if folder is None or name not in known:
            problem = f"there is no probe bank '{name}'{f' in {folder}' if folder else ''}"
            found.append(Mistake(("banks", place), f"{problem}; known: {', '.join(known) or 'none'}"))
        else:
            banks[name] = read_bank(folder / f"{name}.yaml")
    if found:
        return Questions({}, ()), found
    index = _index(banks)
    held_out = []
    for place, written in enumerate(curriculum.held_out):
        one = _meant(written, f"held_out_{place + 1}", index, ("held_out", place), found)
        if one is not None and (said := taught_of(curriculum, one)):
            found.append(Mistake(("held_out", place), f"{said!r} is held out and taught as well: ask in other words"))
        elif one is not None:
            held_out.append(one)
    apart = {_said(probe) for probe in held_out}
    asked: dict[str, Probe] = {}
    for place, node in enumerate(curriculum.nodes):
        one = _meant(node, node.id, index, ("nodes", place), found) if isinstance(node, Asked) else None
        if one is not None and _said(one) in apart:
            problem = f"'{node.id}' asks what is held out, which then says nothing about what was not asked"
            found.append(Mistake(("nodes", place), problem))
        elif one is not None:
            asked[node.id] = one
    watched = list(asked.values())
    for place, name in enumerate(curriculum.watch):
        several = banks[name].probes if name in banks else index.get(name, ())
        if not several:
            found.append(
                Mistake(("watch", place), f"'{name}' is no bank of this curriculum, and no probe of its banks")
            )
        # What is held out of the walk stays out of it, also where its whole bank is watched.
        watched += [probe for probe in several if _said(probe) not in apart]
    found += [
        Mistake(("replay", place), f"{text!r} can't be replayed: volatility is measured on it, so take another one")
        for place, text in enumerate(curriculum.replay)
        if is_measured(text)
    ]
    checks = tuple(check for bank in banks.values() for check in bank.checks)
    each = _apart(watched)
    named = {_said(probe): probe for probe in each}
    asked = {node: named[_said(one)] for node, one in asked.items()}
    return Questions(asked, each, _apart(held_out), checks), found


def bank_of(name: str, probes: tuple[Probe, ...]) -> ProbeBank:
    """Probes as a bank, without those that are the only ones of their cell.

    Raises:
        ArgumentError: none is left.
    """
    counts = Counter(probe.cell for probe in probes)
    kept = tuple(probe for probe in probes if counts[probe.cell] > 1)
    if not kept:
        raise ArgumentError(
            f"'{name}' has no two probes of one cell, so there is nothing to map", "write more probes of each cell"
        )
    return ProbeBank.model_construct(name=name, about=name, source=OWN, probes=kept, checks=())


def taught_of(curriculum: Curriculum, probe: Probe) -> str:
    """What of a probe's options an example says as well, with its prompt; empty where none does."""
    taught = [prompt + one.target for one in curriculum.examples for prompt in (one.prompt, *one.variants)]
    said = [probe.prompt + option for option in (probe.good, probe.bad)]
    return next((one for one in said if any(text.startswith(one) for text in taught)), "")


def is_measured(text: str) -> bool:
    """Whether volatility is measured on a text; what is trained on can't measure."""
    # It loads torch, and what only reads curricula comes by this file too.
    from overlay.model import neutral_texts

    return text in neutral_texts()


def _index(banks: Mapping[str, ProbeBank]) -> dict[str, tuple[Probe, ...]]:
    """Probes by what they may be called: their id, and BANK/ID."""
    index: dict[str, tuple[Probe, ...]] = {}
    for name, bank in banks.items():
        for probe in bank.probes:
            index[probe.id] = (*index.get(probe.id, ()), probe)
            index[f"{name}/{probe.id}"] = (probe,)
    return index


def _meant(
    written: Asked, own_id: str, index: Mapping[str, tuple[Probe, ...]], place: Place, found: list[Mistake]
) -> Probe | None:
    if written.probe is None:
        return written.own(own_id)
    several = index.get(written.probe, ())
    if not several:
        where = "of the banks that it names" if index else "of a bank, and the curriculum names none under `banks`"
        found.append(Mistake((*place, "probe"), f"'{written.probe}' is no probe {where}"))
    elif len(several) > 1:
        found.append(Mistake((*place, "probe"), f"'{written.probe}' stands in several banks: write BANK/ID"))
    return several[0] if len(several) == 1 else None


def _said(probe: Probe) -> tuple[str, str, str]:
    return probe.prompt, probe.good, probe.bad


def _apart(probes: list[Probe]) -> tuple[Probe, ...]:
    """Each probe once, and each under an id of its own: two banks, or a bank and a node, may use the same."""
    counts: Counter[str] = Counter()
    found: dict[tuple[str, str, str], Probe] = {}
    for probe in probes:
        if _said(probe) in found:
            continue
        counts[probe.id] += 1
        number = counts[probe.id]
        found[_said(probe)] = probe if number == 1 else probe.model_copy(update={"id": f"{probe.id}__{number}"})
    return tuple(found.values())
