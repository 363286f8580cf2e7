"""Adapters: LoRA weights with a manifest, and the checks before anything of them is loaded."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from pydantic import ConfigDict, TypeAdapter, ValidationError

from overlay.adapters.lora_files import CONFIG as CONFIG
from overlay.adapters.lora_files import LARGEST_CONFIG, LARGEST_WEIGHTS, check_config, check_weights
from overlay.adapters.lora_files import WEIGHTS as WEIGHTS
from overlay.adapters.recipe import NAME_PATTERN
from overlay.errors import AdapterError, NoteError, WrongBaseModel

if TYPE_CHECKING:
    from overlay.adapters.example import Example

FORMAT = 1
"""The layout of an adapter's folder; one of another format is trained again."""

MANIFEST = "manifest.json"

LARGEST_MANIFEST = 2**24
"""Bytes: room for the digests of a hundred thousand examples."""

_HARMLESS = {".json", ".safetensors", ".md", ".txt", ".png"}

Ended = Literal["steps", "budget", "interrupted", "curriculum", "untrained"]

Origin = Literal["trained", "taught", "imported", "mixed"]

_VERBS: Mapping[Origin, str] = {"trained": "train", "taught": "teach", "imported": "import", "mixed": "mix"}


@dataclass(frozen=True)
class Adapter:
    """An adapter: what made it, and what it was measured to do.

    Attributes:
        recipe_digest: sha256 of the recipe that it was trained by; empty where no recipe made it.
        curriculum_digest: sha256 of the curriculum that it was taught by; empty where none was.
        base_model: name of the model that it was made on; `base_digest` is its model hash.
        accuracy_before: share of the `held_out` choices that the base model gets right; `accuracy_after` with it.
            None where there are no such choices.
        volatility_mean: KL(base ‖ adapted) on the neutral texts, nats per token; `volatility_p95` its 95th percentile.
        replay_kl: the same on the recipe's own replay texts, which the budget limits.
        steps: optimizer steps in the kept state; `ended` says why there are no more.
        seconds: what training and measuring took.
        made_at: when the examples that it learned from were read, epoch seconds.
        notes: ids of the notes that the examples came from; `examples` are digests of the examples themselves.
        overrides: settings of the recipe that were set otherwise for this training.
        parts: of a mixture, the weights of its adapters by name.
        remark: what whoever wears it should know.
    """

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    name: str
    folder: Path
    aim: str
    recipe_digest: str
    base_model: str
    base_digest: str
    dtype: str
    weights_sha256: str
    config_sha256: str
    held_out: int
    accuracy_before: float | None
    accuracy_after: float | None
    volatility_mean: float
    volatility_p95: float
    replay_kl: float | None
    steps: int
    ended: Ended
    seconds: float
    seed: int
    origin: Origin = "trained"
    curriculum_digest: str = ""
    made_at: float = field(default_factory=time.time)
    notes: tuple[str, ...] = ()
    examples: tuple[str, ...] = ()
    overrides: dict[str, Any] = field(default_factory=dict)
    parts: dict[str, float] = field(default_factory=dict)
    remark: str = ""

    def manifest(self) -> str:
        """What stands in manifest.json: everything but the folder."""
        facts = {"format": FORMAT, **asdict(self)}
        del facts["folder"]
        return json.dumps(facts, indent=2, ensure_ascii=False) + "\n"


class NoteLike(Protocol):
    """What is asked of a note: since when its text stands, and whether it still holds."""

    @property
    def written_at(self) -> float: ...
    @property
    def is_current(self) -> bool: ...
    @property
    def superseded_by(self) -> str | None: ...


class Notes(Protocol):
    """What is asked of a memory: its notes by id. A NoteError means that there is none."""

    def get(self, note_id: str) -> NoteLike: ...


def stale(adapter: Adapter, memory: Notes) -> tuple[str, ...]:
    """Why what an adapter learned is out of date: a reason for each of its notes that no longer says what it said.

    A note that is superseded keeps its id for the newer text, so a note that was written after the adapter
    had read it counts as superseded as well.
    """
    reasons = []
    for note_id in adapter.notes:
        try:
            note = memory.get(note_id)
        except NoteError:
            reasons.append(f"note '{note_id}' was forgotten")
            continue
        if note.superseded_by is not None or (note.is_current and note.written_at > adapter.made_at):
            reasons.append(f"note '{note_id}' was superseded")
        elif not note.is_current:
            reasons.append(f"note '{note_id}' was retired")
    return tuple(reasons)


def example_digest(example: Example) -> str:
    """sha256 of what the model is shown of an example: equal digests taught the same."""
    return hashlib.sha256(json.dumps([example.prompt, example.target], ensure_ascii=False).encode()).hexdigest()


def check_adapter(
    folder: Path, model_digest: str | None = None, shapes: Mapping[str, tuple[int, ...]] | None = None
) -> Adapter:
    """Check an adapter's folder before anything acts on it.

    Args:
        model_digest: the base model's hash; the adapter must have been made on it.
        shapes: of the base model's layers, from `base_shapes`; the weights must fit them.

    Raises:
        AdapterError: it isn't trained, is damaged or changed, doesn't fit, or holds anything that isn't plain LoRA
            weights.
        WrongBaseModel: it was made on another model.
    """
    again = f"train it anew: `overlay adapters train {folder.name}`"
    if not (folder / MANIFEST).is_file():
        raise AdapterError(f"adapter '{folder.name}' isn't trained yet: {folder / MANIFEST} does not exist", again)
    for entry in sorted(folder.rglob("*")):
        if entry.is_symlink() or (entry.is_file() and entry.suffix.lower() not in _HARMLESS):
            raise AdapterError(
                f"{entry} does not belong to an adapter: only safetensors weights are loaded, and files of other kinds "
                "may hold code",
                f"remove this file if you know where it came from; otherwise {again}",
            )
    adapter = read_manifest(folder, again)
    if adapter.origin != "trained":
        again = f"{_VERBS[adapter.origin]} it anew"
    if model_digest is not None and adapter.base_digest != model_digest:
        raise WrongBaseModel(
            f"adapter '{adapter.name}' was made on {adapter.base_model} ({adapter.base_digest[:12]}), and this is "
            f"another model ({model_digest[:12]})",
            f"load that model, or {again}",
        )
    config = check_config(
        _signed(folder / CONFIG, adapter.config_sha256, LARGEST_CONFIG, again), folder / CONFIG, again
    )
    weights = _signed(folder / WEIGHTS, adapter.weights_sha256, LARGEST_WEIGHTS, again)
    check_weights(weights, config, folder / WEIGHTS, again, shapes)
    return adapter


def file_digest(path: Path) -> str:
    """sha256 over a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _signed(path: Path, expected: str, limit: int, again: str) -> bytes:
    """A file's content, read once, if its hash is the manifest's."""
    if not path.is_file():
        raise AdapterError(f"{path} is missing", again)
    if path.stat().st_size > limit:
        raise AdapterError(f"{path} has {path.stat().st_size} bytes, and {limit} is the limit", again)
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != expected:
        raise AdapterError(f"{path} is not what was trained: its sha256 differs from the manifest's", again)
    return content


def read_manifest(folder: Path, again: str = "train it again") -> Adapter:
    """What a folder's manifest says, its files unread. Raises AdapterError."""
    path = folder / MANIFEST
    try:
        if path.stat().st_size > LARGEST_MANIFEST:
            raise ValueError(f"it has {path.stat().st_size} bytes")
        facts = json.loads(path.read_text(encoding="utf-8"))
        written = facts.pop("format")
        given = json.dumps({**facts, "folder": str(folder)})
        adapter = TypeAdapter(Adapter).validate_json(given)
    except ValidationError as error:
        mistake = error.errors(include_url=False)[0]
        place = ".".join(map(str, mistake["loc"]))
        raise AdapterError(
            f"{path} can't be read as an adapter's manifest: {place}: {mistake['msg']}", again
        ) from error
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise AdapterError(f"{path} can't be read as an adapter's manifest: {error}", again) from error
    if written != FORMAT:
        raise AdapterError(f"{path} has format {written}, and this program reads format {FORMAT}", again)
    if not re.fullmatch(NAME_PATTERN, adapter.name):
        raise AdapterError(f"{path} names its adapter {adapter.name!r}: a name is made of a-z, 0-9 and _", again)
    if adapter.name != folder.name:
        raise AdapterError(f"{path} belongs to adapter '{adapter.name}', not '{folder.name}'", again)
    return adapter
