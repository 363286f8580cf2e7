"""The decision: what became of a proposal, in the journal, and whether it was carried out."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from overlay.axes import load_axis
from overlay.errors import OverlayError, RecordDamaged
from overlay.home import Home
from overlay.records import append_record, read_journal
from overlay.reprogramming_settings import Writes

Outcome = Literal["adopted", "rolled back", "dropped", "undone", "cut off"]
"""Rolled back: built, checked and refused. Dropped: there was nothing to build from. Cut off: the process ended before
what it had adopted was put in place, so the one before it stayed in force."""

_OPEN = ".open-"
"""A folder of this name and a decision's number is there until that decision is carried out wholly."""


@dataclass(frozen=True)
class Decision:
    """What became of one proposal.

    Attributes:
        number: from 1.
        name: the axis or adapter that it is about.
        reasons: why it was not adopted.
        words: what it means for the agent, in words.
        proposal: as `Proposal.record` gives it.
        before, after: the evidence for what was in force and for the candidate.
        file: what was replaced or made, inside the home; empty where nothing was.
        digest_before, digest_after: sha256 of that file; empty where there is none.
        was, became: what it is made from, as the data digest of an axis or the weights' digest of an adapter.
        undoes: the number of the decision that this one undoes or found cut off; 0 for none.
        dry_run: nothing was adopted and nothing journalled.
    """

    number: int
    time: float
    axis: str
    writes: Writes
    outcome: Outcome
    lived_until: float
    name: str = ""
    reasons: tuple[str, ...] = ()
    words: str = ""
    proposal: Mapping[str, Any] = field(default_factory=dict)
    before: Mapping[str, Any] = field(default_factory=dict)
    after: Mapping[str, Any] = field(default_factory=dict)
    file: str = ""
    digest_before: str = ""
    digest_after: str = ""
    was: str = ""
    became: str = ""
    undoes: int = 0
    dry_run: bool = False


_KEYS = {entry.name for entry in fields(Decision)}


def decisions(home: Home) -> tuple[Decision, ...]:
    """Every decision of a home, oldest first; one whose adoption was cut off is told as such. Raises RecordDamaged."""
    found = _log(home)
    if found and _is_cut_off(home, found[-1]):
        found[-1] = replace(found[-1], outcome="cut off")
    return tuple(found)


def holding(log: Sequence[Decision]) -> list[Decision]:
    """Decisions that were carried out."""
    void = {one.undoes for one in log if one.outcome == "cut off"}
    return [one for one in log if one.number not in void and one.outcome != "cut off"]


def adoptions(log: Sequence[Decision]) -> list[Decision]:
    """Adoptions that weren't undone, oldest first."""
    held = holding(log)
    undone = {one.undoes for one in held if one.outcome == "undone"}
    return [one for one in held if one.outcome == "adopted" and one.number not in undone]


def in_force(home: Home, decision: Decision) -> str:
    """What the file of a decision is made from now; empty when there is none."""
    file = home.folder / decision.file
    if decision.writes == "adapter":
        return file_digest(file)
    try:
        return load_axis(file).data_digest
    except OverlayError:
        return ""


def journalled(home: Home, decision: Decision) -> Decision:
    """The same decision, once the journal holds it. Raises StorageFull."""
    append_record(journal_path(home), asdict(decision))
    return decision


def mend_journal(home: Home, now: float) -> None:
    """Say in the journal what was cut off, and clear away what an ended process left."""
    log = _log(home)
    if log and _is_cut_off(home, log[-1]):
        reason = f"decision {log[-1].number} ({log[-1].outcome}) was cut off before it was carried out"
        journalled(
            home,
            replace(
                log[-1],
                number=len(log) + 1,
                time=now,
                outcome="cut off",
                reasons=(reason,),
                words="what was in force before it stayed in force",
                undoes=log[-1].number,
            ),
        )
    for left in _folder(home).glob(f"{_OPEN}*"):
        shutil.rmtree(left, ignore_errors=True)


def journal_path(home: Home) -> Path:
    """The journal of decisions."""
    return home.lived / "reprogramming.jsonl"


def open_place(home: Home, number: int) -> Path:
    """The folder that is there until the decision of this number is carried out wholly."""
    return _folder(home) / f"{_OPEN}{number}"


def file_digest(path: Path) -> str:
    """sha256 of a file; empty when there is none."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def _is_cut_off(home: Home, last: Decision) -> bool:
    """Whether a decision was journalled and not carried out."""
    if last.outcome not in ("adopted", "undone") or not open_place(home, last.number).exists():
        return False
    return in_force(home, last) != last.became


def _folder(home: Home) -> Path:
    return home.lived / "reprogramming"


def _log(home: Home) -> list[Decision]:
    """The journal as it was written."""
    path = journal_path(home)
    return [_read_decision(path, record) for record in read_journal(path)]


def _read_decision(path: Path, record: Mapping[str, Any]) -> Decision:
    try:
        # Journals outlive versions: what a later one adds to a decision is left out.
        kept = {key: record[key] for key in _KEYS & record.keys()}
        return Decision(**kept | {"reasons": tuple(kept.get("reasons", ()))})
    except TypeError as error:
        raise RecordDamaged(
            f"{path} holds a record that is no decision ({error})", f"move {path.name} aside"
        ) from error
