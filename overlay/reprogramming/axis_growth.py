"""Axis growth: an axis built again, from what people wrote and from own texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from overlay.axes import Axis, Text
from overlay.errors import ArgumentError, RecordDamaged
from overlay.home import Home
from overlay.records import write_record
from overlay.reprogramming.decision import Decision, file_digest
from overlay.reprogramming.trial import Candidate, Trial, judged


def grown_axis(trial: Trial, decision: Decision) -> Candidate:
    """The axis of the proposal, grown and checked beside the one in force.

    Raises:
        AxisMissing, WrongBaseModel: it isn't built for this model as it is written now. DocumentError, RecordDamaged
    """
    home, name, place = trial.home, trial.proposal.axis, trial.place
    old = home.axes.load(name, trial.model.digest)
    written = len(home.axes.contrast(name).positive)
    # What people wrote stays at least half of it, and each time it grows from that alone: it can't wander off.
    pairs = [(own.text, twin.text) for own, twin in trial.learned[:written]]
    folder = home.lived / "axes"
    file, made = folder / f"{name}.safetensors", place / f"{name}.safetensors"
    content, digest = file.read_bytes(), file_digest(file)
    decision = replace(
        decision, name=name, file=file.relative_to(home.folder).as_posix(), digest_before=digest, was=old.data_digest
    )
    fresh = home.axes.confirmation(name)
    if not fresh:
        reason = f"axis '{name}' has no confirmation texts: nothing would show whether it got worse"
        return Candidate(replace(decision, reasons=(reason,)))
    try:
        new = home.axes.build(
            name,
            trial.model,
            trial.gauge,
            budget=home.settings.budget,
            method=old.method,
            writes=old.writes,
            pool=old.pool,
            pairs=pairs,
            into=place,
            progress=trial.progress,
        )
    except ArgumentError as error:
        return Candidate(judged(decision, [error.problem]))
    before, after = (_evidence(axis, trial, fresh) | {"written_texts": written} for axis in (old, new))
    after["cosine"] = float((old.direction.vectors * new.direction.vectors).sum(-1)[list(new.blocks)].mean())
    after["texts"] = len(pairs)
    reasons = [f"it fails its own checks: {failure}" for failure in new.evidence.failures]
    reasons += [
        f"on fresh texts its AUROC against {group} falls from {before['confirmation'][group]:.3f} to {value:.3f}, "
        f"by more than {trial.settings.tolerance:g}"
        for group, value in after["confirmation"].items()
        if value < before["confirmation"][group] - trial.settings.tolerance
    ]
    if after["own"] < before["own"]:
        reasons.append(
            f"it tells held-out own texts from their twins worse than before: AUROC {after['own']:.2f} after "
            f"{before['own']:.2f}"
        )

    def put() -> None:
        write_record(_kept_file(home, name, digest), content)
        for source in place.glob("*.grown.json"):
            write_record(folder / source.name, source.read_bytes())
        write_record(file, made.read_bytes())

    words = f"'{name}' now reads and acts as it was grown; an agent takes it up when it is opened next"
    found = {"before": before, "after": after, "digest_after": file_digest(made), "became": new.data_digest}
    return Candidate(judged(decision, reasons, words, **found), put)


def kept_axis(home: Home, adoption: Decision) -> bytes:
    """The file of the axis that an adoption replaced. Raises RecordDamaged."""
    path = _kept_file(home, adoption.name, adoption.digest_before)
    if file_digest(path) != adoption.digest_before:
        raise RecordDamaged(
            f"{path} is not the axis that decision {adoption.number} kept",
            f"build the axis from what people wrote: `overlay axes build {adoption.name}`",
        )
    return path.read_bytes()


def _kept_file(home: Home, name: str, digest: str) -> Path:
    """Where an axis that was replaced is kept, beside the one in force."""
    return home.lived / "axes" / f"{name}.{digest[:16]}.kept"


def _evidence(axis: Axis, trial: Trial, fresh: Mapping[str, Sequence[Text]]) -> dict[str, Any]:
    """What an axis shows on texts that it was not made from, old and new measured on the same ones."""
    from overlay.axes import auroc  # brings torch

    readings = {group: trial.readings(axis, texts) for group, texts in fresh.items()}
    own, calm = (trial.readings(axis, [one.text for one in texts]) for texts in zip(*trial.held, strict=True))
    return {
        "held_out": dict(axis.evidence.auroc),
        "held_out_without_telling_words": dict(axis.evidence.auroc_ablated),
        "confirmation": {
            group: auroc(readings["positive"], found) for group, found in readings.items() if group != "positive"
        },
        "own": auroc(own, calm),
        "budget_dose": axis.calibration.budget_dose,
    }
