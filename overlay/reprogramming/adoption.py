"""Adoption: a proposal is decided about, and what was adopted is undone again."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from overlay.errors import ArgumentError, HomeError
from overlay.home import Home
from overlay.inner import read_history
from overlay.memory import WriterLock
from overlay.progress import Progress, SilentProgress
from overlay.records import write_record
from overlay.reprogramming.adapter_training import trained_adapter
from overlay.reprogramming.axis_growth import grown_axis, kept_axis
from overlay.reprogramming.decision import (
    Decision,
    adoptions,
    decisions,
    file_digest,
    in_force,
    journal_path,
    journalled,
    mend_journal,
    open_place,
)
from overlay.reprogramming.proposal import Proposal, due
from overlay.reprogramming.trial import Trial

if TYPE_CHECKING:
    from overlay.model import LanguageModel, VolatilityGauge


def decide(
    home: Home,
    proposal: Proposal,
    model: LanguageModel | None = None,
    gauge: VolatilityGauge | None = None,
    progress: Progress | None = None,
    *,
    now: float | None = None,
    dry_run: bool = False,
    locked: bool = False,
) -> Decision:
    """Build what was proposed, check it, and adopt it or roll it back; the journal says which, and why.

    Whatever ends the process before, what was in force stays in force. An agent that is open goes on with the axis
    that it has loaded.

    Args:
        model, gauge: needed unless the proposal has a hindrance.
        now: epoch seconds.
        dry_run: build and check alone; nothing is adopted and nothing is journalled.
        locked: whoever calls holds the home's lock already.

    Raises:
        HomeError: it is off, or the proposal isn't due any more. HomeLocked: an agent is open in this home.
        ArgumentError: no model. AxisMissing, WrongBaseModel: the axis isn't built for this model as it is written now.
        DocumentError, ModelUnavailable, RecordDamaged, StorageFull
    """
    now = time.time() if now is None else now
    settings = home.settings.reprogramming
    if settings is None:
        raise HomeError(
            "self-reprogramming is off", f"it is on once `reprogramming` stands in {home.folder / 'agent.yaml'}"
        )
    with contextlib.nullcontext() if locked else _locked(home):
        if due(home) != proposal:
            raise HomeError(
                "this proposal isn't due any more: something was lived or decided since it was made",
                "ask anew what is due, as with `overlay reprogram`",
            )
        if not dry_run:
            mend_journal(home, now)
        decision = Decision(
            number=len(decisions(home)) + 1,
            time=now,
            axis=proposal.axis,
            writes=proposal.writes,
            outcome="dropped",
            lived_until=proposal.lived_until,
            reasons=(proposal.hindrance,),
            words="nothing was built",
            proposal=proposal.record(),
            dry_run=dry_run,
        )
        if proposal.hindrance:
            return decision if dry_run else journalled(home, decision)
        if model is None or gauge is None:
            raise ArgumentError("this proposal has to be built and checked on a model", "give a model and its gauge")
        place = open_place(home, decision.number)
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        try:
            trial = Trial(home, settings, proposal, model, gauge, progress or SilentProgress(), place)
            candidate = (grown_axis if proposal.writes == "axis" else trained_adapter)(trial, decision)
            if not dry_run:
                # Journalled first: what is in force is then always told, and a cut off adoption can be seen.
                journalled(home, candidate.decision)
        except BaseException:
            shutil.rmtree(place, ignore_errors=True)
            raise
        if candidate.decision.outcome == "adopted" and not dry_run:
            candidate.put()
        shutil.rmtree(place, ignore_errors=True)
        return candidate.decision


def undo(home: Home, now: float | None = None) -> Decision:
    """Put back what was in force before the last adoption that wasn't undone yet, and say so in the journal.

    Raises:
        HomeError: nothing was adopted, something else is in force now, or agent.yaml asks for the adapter.
        HomeLocked: an agent is open in this home. RecordDamaged: the file to be put back isn't what it was.
    """
    now = time.time() if now is None else now
    if not journal_path(home).exists():
        raise HomeError("nothing was adopted yet", "see `overlay reprogram`")
    with _locked(home):
        mend_journal(home, now)
        log = decisions(home)
        adopted = adoptions(log)
        if not adopted:
            raise HomeError("nothing that was adopted is left to be undone", "see `overlay reprogram`")
        last = adopted[-1]
        if in_force(home, last) != last.became:
            raise HomeError(
                f"'{last.name}' is not what decision {last.number} adopted any more",
                "it was built, trained or removed since then: there is nothing to put back",
            )
        file = home.folder / last.file
        content = b""
        if last.writes == "axis":
            content = kept_axis(home, last)
        else:
            home.require_unworn(last.name)
        decision = Decision(
            number=len(log) + 1,
            time=now,
            axis=last.axis,
            writes=last.writes,
            outcome="undone",
            lived_until=max([last.lived_until, *(turn.time for turn in read_history(home.sessions))]),
            name=last.name,
            words="the axis before it is in force again" if content else "it is out of the adapters' folder",
            file=last.file,
            digest_before=file_digest(file),
            digest_after=last.digest_before,
            was=last.became,
            became=last.was,
            undoes=last.number,
        )
        place = open_place(home, decision.number)
        place.mkdir(parents=True, exist_ok=True)
        journalled(home, decision)
        if content:
            write_record(file, content)
        else:
            file.parent.rename(place / last.name)
        shutil.rmtree(place, ignore_errors=True)
        return decision


@contextlib.contextmanager
def _locked(home: Home) -> Iterator[None]:
    lock = WriterLock(home.lived / "memory.lock")
    try:
        yield
    finally:
        lock.release()
