"""Kept ladders: the samples and the finished rungs of a ladder on disk, in a folder named by all it depends on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from overlay.equivalence.ladder_settings import LadderSettings
from overlay.equivalence.query_set import QuerySet
from overlay.equivalence.result import Rung, RungName
from overlay.equivalence.target import Sample, read_samples, samples_record
from overlay.errors import RecordDamaged
from overlay.model import LanguageModel, Treatment, environment
from overlay.records import read_record, write_record

FORMAT = 3
"""The layout of a ladder's folder; one of another format has another name."""

ANEW = "run the command again with --anew"


def ladder_folder(
    folder: Path,
    model: LanguageModel,
    treatment: Treatment,
    queries: QuerySet,
    settings: LadderSettings,
    material: Sequence[str] = (),
) -> Path:
    """The folder of one ladder, named by all that it depends on: an adapter is its weights, not its name."""
    state = hashlib.sha256(treatment.intervention.digest.encode())
    for use in treatment.intervention.adapters:
        for path in sorted(model.adapters[use.name].glob("adapter_*")):
            state.update(path.read_bytes())
    before = [[message.role, message.text] for message in treatment.before]
    asked, how = queries.model_dump(mode="json"), asdict(settings)
    rounds = [model.dtype, str(model.device), environment()]
    facts = [FORMAT, model.digest, rounds, before, treatment.own, asked, how, list(material)]
    state.update(json.dumps(facts, sort_keys=True, ensure_ascii=False).encode())
    slug = "".join(sign if sign.isalnum() else "-" for sign in treatment.name.lower())[:40]
    return folder / f"{slug}-{state.hexdigest()[:16]}"


class KeptLadder:
    """One ladder's folder; without one nothing is kept."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    @property
    def journal(self) -> Path | None:
        """Where searches write what they measured."""
        return self._folder / "search.jsonl" if self._folder else None

    def samples(self) -> tuple[Sample, ...] | None:
        """The samples that were drawn; None when none are kept. Raises RecordDamaged."""
        path = self._folder / "samples.json" if self._folder else None
        if path is None or not path.exists():
            return None
        try:
            return read_samples(json.loads(path.read_text(encoding="utf-8"))["samples"])
        except (ValueError, KeyError, TypeError) as error:
            raise RecordDamaged(f"{path} can't be read: {error}", ANEW) from error

    def keep_samples(self, samples: Sequence[Sample]) -> None:
        """Keep the samples."""
        if self._folder is not None:
            record = {"format": FORMAT, "samples": samples_record(samples)}
            write_record(self._folder / "samples.json", json.dumps(record) + "\n")

    def rung(self, name: RungName) -> Rung | None:
        """A finished rung; None when it isn't kept. Raises RecordDamaged."""
        path = self._path(name)
        return read_record(path, Rung, "a rung of a ladder", ANEW) if path is not None else None

    def keep_rung(self, rung: Rung) -> None:
        """Keep a finished rung."""
        path = self._path(rung.name)
        if path is not None:
            write_record(path, rung.to_json())

    def _path(self, name: RungName) -> Path | None:
        return self._folder / f"rung-{name.replace(' ', '-')}.json" if self._folder else None
