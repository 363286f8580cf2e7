"""Records: after a crash or on a full disk a file holds what it held before or what it should hold, never a part."""

from __future__ import annotations

import errno
import json
import os
import signal
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overlay.errors import RecordDamaged, StorageFull
from overlay.records import (
    append_record,
    digest_of,
    read_journal,
    read_record,
    replace_folder,
    set_damage_aside,
    storage_errors,
    write_record,
)


def full(*_: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def with_file_limit(limit: int, code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run code in a process that may write no file beyond `limit` bytes: its disk is full there."""
    prelude = (
        "import resource, sys; from pathlib import Path; from overlay.errors import *; from overlay.records import *\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit})); folder = Path(sys.argv[1])\n"
    )
    return subprocess.run(
        [sys.executable, "-c", prelude + code, str(folder)], capture_output=True, text=True, timeout=60, check=False
    )


# --- record files --------------------------------------------------------------------------------


def test_a_record_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "state.json"
    for content in ("first", "the second, longer", b"\x00\xff", ""):
        write_record(path, content)
        assert path.read_bytes() == (content.encode() if isinstance(content, str) else content)
    assert list(path.parent.iterdir()) == [path]


def test_a_record_is_as_readable_as_the_users_other_files(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("x")
    write_record(tmp_path / "record", "x")
    assert stat.S_IMODE((tmp_path / "record").stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_record_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    path = tmp_path / "state.json"
    write_record(path, "old")
    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        with pytest.raises(StorageFull, match="disk is full") as caught:
            write_record(path, "new")
    assert str(path) in caught.value.problem and str(tmp_path) in caught.value.next_step
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
    write_record(path, "new")
    assert path.read_text() == "new"


def test_a_really_full_disk_leaves_the_old_record(tmp_path: Path) -> None:
    write_record(tmp_path / "state.json", "old")
    code = "try: write_record(folder / 'state.json', 'n' * 20_000)\nexcept StorageFull as error: print(error)"
    done = with_file_limit(10_000, code, tmp_path)
    assert "disk is full" in done.stdout, done.stderr
    path = tmp_path / "state.json"
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_other_errors_of_the_system_keep_their_own_names(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), storage_errors(tmp_path / "x"):
        raise PermissionError(errno.EACCES, "no")
    for code in (errno.ENOSPC, errno.EDQUOT):
        with pytest.raises(StorageFull), storage_errors(tmp_path / "x"):
            raise OSError(code, "full")


# --- journals ------------------------------------------------------------------------------------

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(st.dictionaries(st.text(), values, max_size=3), max_size=5))
def test_records_come_back_as_they_were_appended(tmp_path_factory: pytest.TempPathFactory, records: list[Any]) -> None:
    path = tmp_path_factory.mktemp("journal") / "a" / "journal.jsonl"
    for record in records:
        append_record(path, record)
    assert read_journal(path) == records


def test_a_journal_that_was_never_written_is_empty(tmp_path: Path) -> None:
    assert read_journal(tmp_path / "none.jsonl") == []


@pytest.mark.parametrize("size", [3, 5_000, 70_000])
def test_a_line_cut_off_anywhere_costs_that_line_only(tmp_path: Path, size: int) -> None:
    """A killed process leaves a torn last line, possibly longer than one read."""
    path = tmp_path / "journal.jsonl"
    append_record(path, {"number": 1, "text": "ö" * size})
    whole = path.stat().st_size
    append_record(path, {"number": 2, "text": "ü" * size})
    data = path.read_bytes()
    for end in sorted({whole + 1, whole + 4, (whole + len(data)) // 2, len(data) - 1}):
        path.write_bytes(data[:end])
        assert [record["number"] for record in read_journal(path)] == [1]
        append_record(path, {"number": 3})
        assert [record["number"] for record in read_journal(path)] == [1, 3]


def test_a_journal_that_is_one_torn_line_begins_anew(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_bytes(b'{"number": 1')
    assert read_journal(path) == []
    append_record(path, {"number": 2})
    assert read_journal(path) == [{"number": 2}]


def test_damage_inside_a_journal_is_told_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    for number in (1, 2, 3):
        append_record(path, {"number": number, "text": "said"})
    whole = path.read_bytes()
    for damaged in (whole.replace(b'{"number":2', b'{"number":5'), whole.replace(b'"said"', b'"sAid"', 2)):
        path.write_bytes(damaged)
        with pytest.raises(RecordDamaged, match=rf"{path}:[12]: this line is not what was written"):
            read_journal(path)


def test_damage_is_set_aside_and_what_is_whole_before_it_is_used(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    for number in (1, 2, 3):
        append_record(path, {"number": number})
    assert set_damage_aside(path) is None
    damaged = path.read_bytes().replace(b'{"number":2', b'{"number":7')
    path.write_bytes(damaged)
    told = set_damage_aside(path)
    assert told is not None and f"{path}:2" in told and "journal.jsonl.damaged" in told
    assert read_journal(path) == [{"number": 1}]
    assert path.with_name("journal.jsonl.damaged").read_bytes() == damaged
    append_record(path, {"number": 4})
    assert read_journal(path) == [{"number": 1}, {"number": 4}]


def test_a_full_disk_keeps_earlier_records_and_the_next_append_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "journal.jsonl"
    append_record(path, {"number": 1})
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(StorageFull):
            append_record(path, {"number": 2})
    assert read_journal(path) == [{"number": 1}]
    append_record(path, {"number": 3})
    assert read_journal(path) == [{"number": 1}, {"number": 3}]


def test_an_append_that_is_interrupted_did_not_happen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    path = tmp_path / "journal.jsonl"
    append_record(path, {"number": 1})
    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        append_record(path, {"number": 2})
    assert read_journal(path) == [{"number": 1}]


@pytest.mark.parametrize("length", [600, 4_000, 9_000, 20_000, 100_000])
@pytest.mark.parametrize("room", [10, 500, 5_000, 8_500])
def test_a_really_full_disk_leaves_no_part_of_a_record(tmp_path: Path, length: int, room: int) -> None:
    """What doesn't fit wholly is not there at all, whatever part of it the system had taken already."""
    path = tmp_path / "journal.jsonl"
    append_record(path, {"number": 1})
    if length < room:
        length = room + 100
    code = (
        f"try: append_record(folder / 'journal.jsonl', {{'number': 2, 'text': 'x' * {length}}})\n"
        "except StorageFull as error: print(error)"
    )
    whole = path.read_bytes()
    done = with_file_limit(path.stat().st_size + room, code, tmp_path)
    assert "disk is full" in done.stdout, done.stderr
    assert path.read_bytes() == whole


def test_a_process_killed_between_appends_loses_none_that_returned(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from overlay.records import append_record\n"
        "for number in range(10**9):\n"
        "    append_record(Path(sys.argv[1]), {'number': number, 'text': 'x' * 9000})\n"
        "    print(number, flush=True)\n"
    )
    path = tmp_path / "journal.jsonl"
    child = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    acknowledged = [int(child.stdout.readline()) for _ in range(20)]
    child.send_signal(signal.SIGKILL)
    acknowledged += [int(line) for line in child.stdout.read().splitlines()]
    child.wait()
    numbers = [record["number"] for record in read_journal(path)]
    assert numbers == list(range(len(numbers))) and len(numbers) >= len(acknowledged) >= 20
    append_record(path, {"number": -1})
    assert [record["number"] for record in read_journal(path)] == [*numbers, -1]


def test_a_journal_is_plain_lines_of_json(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    append_record(path, {"text": "a\nb ü"})
    (line,) = path.read_text(encoding="utf-8").splitlines()
    assert "ü" in line and json.loads(line)["text"] == "a\nb ü"


@dataclass
class Kept:
    name: str
    places: tuple[int, ...] = ()


def test_a_record_is_read_as_what_it_was_written_as(tmp_path: Path) -> None:
    path = tmp_path / "kept.json"
    assert read_record(path, Kept, "a kept one", "write it again") is None
    write_record(path, '{"format": 2, "name": "a", "places": [1, 2]}')
    assert read_record(path, Kept, "a kept one", "write it again", format=2) == Kept("a", (1, 2))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"format": 1, "name": "a"}', "it has format 1, and this program reads format 2"),
        ('{"format": 2, "name": 3}', "name: Input should be a valid string"),
        ('{"format": 2}', "name: Field required"),
        ("[]", "kept.json can't be read as a kept one"),
        ('{"format": 2, "na', "kept.json can't be read as a kept one"),
    ],
)
def test_a_record_of_anything_else_is_refused(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "kept.json"
    path.write_text(text)
    with pytest.raises(RecordDamaged, match=says) as refused:
        read_record(path, Kept, "a kept one", "write it again", format=2)
    assert refused.value.next_step == "write it again"


def test_equal_contents_have_equal_digests_whatever_the_order_of_their_keys() -> None:
    assert digest_of({"a": [1, "ё"], "b": None}) == digest_of({"b": None, "a": [1, "ё"]})
    assert digest_of([1, 2]) != digest_of([2, 1])


def test_a_folder_that_is_replaced_comes_back_if_anything_strikes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    final, made, aside = (tmp_path / name for name in ("final", "made", "aside"))
    for folder in (final, made):
        folder.mkdir()
        (folder / "whose").write_text(folder.name)
    rename = Path.rename

    def struck(self: Path, target: Path) -> Path:
        if self == made:
            raise KeyboardInterrupt
        return rename(self, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", struck)
        with pytest.raises(KeyboardInterrupt):
            replace_folder(made, final, aside)
    assert (final / "whose").read_text() == "final" and not aside.exists()
    replace_folder(made, final, aside)
    assert (final / "whose").read_text() == "made" and not made.exists()
