"""The standing of a walk: where it is and what it may go back to, kept so that a kill at any moment loses nothing.

Two kinds of files: tensors in safetensors, and one record in JSON that names them with their sha256 and says how many
lines of the journal go with it. The record is replaced atomically and after the tensors; what the journal holds
beyond its lines is cut off and walked again, to the same bits.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import ConfigDict

from overlay.errors import RecordDamaged
from overlay.records import append_record, drop_unfinished, read_journal, read_record, write_record

if TYPE_CHECKING:
    from torch import Tensor

RECORD = "standing.json"
JOURNAL = "journal.jsonl"
RESULT = "result.json"

FORMAT = 1
"""The layout of a standing; one of another format can't be gone on from."""

Phase = Literal["walk", "twin", "measure"]

ANEW = "begin anew with `--anew`, which keeps nothing of it"


@dataclass(frozen=True)
class Identity:
    """What a standing goes with: digests of the curriculum, of its probes and of everything set beside them; the model
    hash and number format."""

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True)

    curriculum: str
    questions: str
    beside: str
    model: str
    dtype: str


@dataclass
class Good:
    """The last good state: its weights passed all checks.

    Attributes:
        node: where the walk went on from it; None where it ended.
        digest: of the weights.
        steps: optimizer steps that these weights have learned for.
        visits, learned, passed: as in `Standing`, then.
        margins: of the watched probes by their ids, nats per token; replay_kl: on the replay texts.
    """

    node: str | None
    digest: str
    steps: int = 0
    visits: dict[str, int] = field(default_factory=dict)
    learned: dict[str, str] = field(default_factory=dict)
    passed: dict[str, float] = field(default_factory=dict)
    margins: dict[str, float] = field(default_factory=dict)
    replay_kl: float = 0.0


@dataclass
class Standing:
    """How far a teaching is, without its tensors.

    Attributes:
        phase: what it is at: the walk, then the twin, then measuring both.
        node: where the walk is; None once it has ended.
        attempts: which way of feeding an example comes next, where the ones before it failed.
        fed: optimizer steps of the walk, those that were taken back included; kept: those of the present weights.
        visits: how often the walk came to each node.
        learned: examples that the present weights have learned, in this order, each with the prompt that it was
            learned under.
        passed: the margin of each probe that the present weights, or those before them, have passed, when it did.
        given_up: examples that could not be learned within the budgets.
        lesson: examples fed since the last good state.
        careful: so many examples from here on are checked one by one.
        base_margins, base_logits: margins of the watched probes, and the digest of the logits, of the base alone.
        twin: optimizer steps of the twin.
        lines: of the journal.
        seconds: that all of it took; made_at: when it began, epoch seconds.
    """

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    identity: Identity
    good: Good
    base_margins: dict[str, float]
    base_logits: str
    node: str | None
    made_at: float
    phase: Phase = "walk"
    attempts: dict[str, int] = field(default_factory=dict)
    fed: int = 0
    kept: int = 0
    replay_kl: float = 0.0
    visits: dict[str, int] = field(default_factory=dict)
    learned: dict[str, str] = field(default_factory=dict)
    passed: dict[str, float] = field(default_factory=dict)
    given_up: list[str] = field(default_factory=list)
    lesson: list[str] = field(default_factory=list)
    careful: int = 0
    twin: int = 0
    lines: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class _Kept:
    """The file of a standing: digests of the tensors that go with it, by the names they were kept under."""

    files: dict[str, str]
    standing: Standing


class Keeper:
    """The folder in which one teaching is kept: its standing, tensors and journal."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._since = time.monotonic()

    @property
    def journal(self) -> list[dict[str, Any]]:
        """The lines of the journal. Raises RecordDamaged."""
        return read_journal(self.folder / JOURNAL)

    def say(self, standing: Standing, **facts: Any) -> None:
        """Add a line to the journal. Raises StorageFull."""
        standing.lines += 1
        append_record(self.folder / JOURNAL, {"line": standing.lines, **facts})

    def keep(self, standing: Standing, tensors: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Replace what is kept. `tensors` are written by their names, each only where it changed since.

        Raises StorageFull, and then what was kept before still is.
        """
        from safetensors.torch import save

        now = time.monotonic()
        standing.seconds += now - self._since
        self._since = now
        files = {}
        for name, found in tensors.items():
            content = save({key: one.contiguous() for key, one in found.items()})
            digest = hashlib.sha256(content).hexdigest()
            files[name] = digest
            if not (self.folder / _file(digest)).is_file():
                write_record(self.folder / _file(digest), content)
        write_record(self.folder / RECORD, json.dumps({"format": FORMAT, "files": files, "standing": asdict(standing)}))
        for other in self.folder.glob("tensors-*.safetensors"):
            if other.name not in {_file(digest) for digest in files.values()}:
                other.unlink(missing_ok=True)

    def find(self) -> Standing | None:
        """The standing that is kept here; None where there is none. Raises RecordDamaged where it can't be read."""
        kept = self._kept()
        return kept.standing if kept is not None else None

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """The tensors that go with the standing, by the names they were kept under. Raises RecordDamaged."""
        from safetensors.torch import load

        kept = self._kept()
        found = {}
        for name, digest in (kept.files if kept is not None else {}).items():
            path = self.folder / _file(digest)
            content = path.read_bytes() if path.is_file() else b""
            if hashlib.sha256(content).hexdigest() != digest:
                raise RecordDamaged(f"{path} is not what was written: its sha256 differs from the record's", ANEW)
            found[name] = load(content)
        return found

    def _kept(self) -> _Kept | None:
        return read_record(self.folder / RECORD, _Kept, "a standing", ANEW, format=FORMAT)

    def cut(self, lines: int) -> None:
        """Cut off what the journal holds beyond what is kept; it is walked again. Raises RecordDamaged."""
        drop_unfinished(self.folder)
        path = self.folder / JOURNAL
        whole = path.read_bytes().splitlines(keepends=True) if path.exists() else []
        if len(whole) < lines:
            raise RecordDamaged(f"{path} has {len(whole)} lines, and {lines} were written", ANEW)
        if len(whole) > lines:
            write_record(path, b"".join(whole[:lines]))
        if len(read_journal(path)) != lines:
            raise RecordDamaged(f"{path}:{lines}: this line is not what was written", ANEW)

    def forget_tensors(self) -> None:
        """Remove what nobody goes on from any more; the journal stays."""
        # The record first: what is left after an interruption is no standing any more.
        (self.folder / RECORD).unlink(missing_ok=True)
        for path in self.folder.glob("tensors-*.safetensors"):
            path.unlink(missing_ok=True)

    def drop(self) -> None:
        """Remove the standing, its tensors, its journal and what came of it, to begin anew."""
        # First: of a result without its standing the next call would say that all is done.
        (self.folder / RESULT).unlink(missing_ok=True)
        self.forget_tensors()
        (self.folder / JOURNAL).unlink(missing_ok=True)


def _file(digest: str) -> str:
    return f"tensors-{digest[:24]}.safetensors"
