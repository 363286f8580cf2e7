"""The plain chat: a program gets replies and nothing else, a person gets a prompt and can stop a reply."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pexpect
import pytest
from chat_home import endless_parts, make_home

from overlay.home import Home
from overlay.session import last_record

pytestmark = pytest.mark.real

COMMAND = [sys.executable, "-m", "overlay.cli", "chat", "--plain", "--home"]
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONUTF8": "1"}


@pytest.fixture(scope="module")
def saved_model(tmp_path_factory: pytest.TempPathFactory, tiny_llama: Any) -> str:
    folder = tmp_path_factory.mktemp("chat-model")
    tiny_llama.module.save_pretrained(folder)
    tiny_llama.tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture
def endless_model(tmp_path: Path) -> str:
    module, tokenizer = endless_parts()
    module.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    return str(tmp_path / "model")


@pytest.fixture
def home_with(tmp_path: Path, embedder_folder: Path, saved_model: str) -> Callable[..., Home]:
    return lambda **changes: make_home(tmp_path / "home", embedder_folder, **({"model": saved_model} | changes))


def pipe(home: Home, text: bytes) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [*COMMAND, str(home.folder)], input=text, capture_output=True, env=ENVIRONMENT, timeout=300, check=False
    )


def at_a_terminal(home: Home) -> Any:
    child = pexpect.spawn(
        COMMAND[0],
        [*COMMAND[1:], str(home.folder)],
        env=ENVIRONMENT | {"NO_COLOR": "1"},
        dimensions=(30, 200),
        timeout=120,
        encoding="utf-8",
        codec_errors="replace",
    )
    child.expect("you> ")
    return child


def test_through_a_pipe_stdout_holds_the_reply_and_stderr_the_rest(home_with: Callable[..., Home]) -> None:
    home = home_with()
    done = pipe(home, b"\n   \nWhere is the kettle?\n")
    assert done.returncode == 0, done.stderr
    record = last_record(home.sessions)
    assert record is not None
    assert (record["number"], record["user"]) == (1, "Where is the kettle?")
    assert done.stdout.decode() == record["reply"] + "\n"
    status = done.stderr.decode().splitlines()[-1]
    assert f"vowels {record['state_after']['vowels']:+.2f}" in status
    assert f"volatility {record['volatility'][0]:.3f} of 0.030" in status
    assert "Where is the kettle?" in status
    assert "\x1b" not in done.stderr.decode()


def test_commands_answer_without_a_turn(home_with: Callable[..., Home]) -> None:
    home = home_with()
    done = pipe(home, b"/state\n/recalled\n/help\n/nonsense\n/quit\nnever read\n")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.decode().splitlines()
    assert lines[:2] == ["vowels +0.00", "nothing was recalled"]
    assert any(line.startswith("/quit") for line in lines)
    assert b"no command /nonsense" in done.stderr
    assert last_record(home.sessions) is None


def test_input_that_is_no_text_is_refused_by_its_line(home_with: Callable[..., Home]) -> None:
    home = home_with(reply={"max_tokens": 1})
    done = pipe(home, b"a line\n\xff\xfe\n")
    assert done.returncode == 2
    assert b"line 2" in done.stderr
    record = last_record(home.sessions)
    assert record is not None
    assert record["user"] == "a line"


def test_at_a_terminal_ctrl_c_stops_the_reply_and_then_leaves(
    home_with: Callable[..., Home], endless_model: str
) -> None:
    home = home_with(model=endless_model, reply={"max_tokens": 8000, "temperature": 1.5})
    child = at_a_terminal(home)
    child.sendline("Where is the kettle?")
    child.expect(r"kettle\?\r\n")
    child.expect(r"\S")
    child.sendintr()
    child.expect("stopped · vowels")
    child.expect("you> ")
    record = last_record(home.sessions)
    assert record is not None
    assert record["ended"] == "cancelled"
    assert record["reply"].strip()
    child.sendline("/recalled")
    child.expect(r"\d\.\d\d  Where is the kettle\?")
    child.expect("you> ")
    child.sendintr()
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0


def test_a_home_that_cannot_be_opened_ends_with_its_message(tmp_path: Path) -> None:
    done = pipe(make_home(tmp_path / "home", tmp_path / "nothing-here"), b"hi\n")
    assert done.returncode == 1
    assert done.stdout == b""
    assert b"nothing-here" in done.stderr
    assert b"Traceback" not in done.stderr
