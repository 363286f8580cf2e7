"""The command line: every command explains itself, every mistake ends in one clear message and its exit code."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_models import byte_tokenizer, tiny_module
from toy_home import create_toy_home, toy_settings, write_settings
from toy_scenario import write_scenario
from typer.testing import CliRunner

from overlay.cli import app, main
from overlay.errors import NoteError
from overlay.home import create_home
from overlay.memory.lock import WriterLock

COMMAND = [sys.executable, "-m", "overlay.cli"]
ENVIRONMENT = os.environ | {"COLUMNS": "200", "TERM": "dumb", "NO_COLOR": "1", "OMP_NUM_THREADS": "1"}


def overlay(
    *arguments: object, limit: Callable[[], None] | None = None, folder: Path | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        preexec_fn=limit,
        cwd=folder,
        timeout=170,
        check=False,
    )


def refuse(code: int, *arguments: object, **settings: Any) -> str:
    """Run a command that has to fail with `code`, and give its one message."""
    done = overlay(*arguments, **settings)
    assert (done.returncode, done.stdout) == (code, ""), done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    message = done.stderr[done.stderr.index("overlay: ") :]
    assert message.count("overlay: ") == 1 and "\n  -> " in message
    return message


@pytest.fixture
def refuse_here(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """`refuse` without a process of its own, for commands that load a model library."""

    def run(code: int, *arguments: object) -> str:
        monkeypatch.setattr(sys, "argv", ["overlay", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        out, told = capsys.readouterr()
        assert (end.value.code, out) == (code, "") and told.count("overlay: ") == 1
        return told[told.index("overlay: ") :]

    return run


# --- help ----------------------------------------------------------------------------------------

EVERY_HELP = """
import contextlib, io, json, sys
import typer.main
from overlay.cli import app, main

def commands(node, path):
    yield path, node
    for name, child in sorted(getattr(node, "commands", {}).items()):
        yield from commands(child, [*path, name])

found = {}
for path, node in commands(typer.main.get_command(app), []):
    out = io.StringIO()
    sys.argv = ["overlay", *path, "--help"]
    with contextlib.redirect_stdout(out):
        try:
            main()
        except SystemExit as end:
            found[" ".join(path)] = [end.code, out.getvalue(), bool(getattr(node, "commands", {}))]
heavy = {"torch", "transformers", "chromadb", "scipy", "matplotlib", "textual"} & set(sys.modules)
print(json.dumps([found, sorted(heavy)]))
"""


def test_every_command_explains_itself_with_an_example_and_loads_nothing_heavy() -> None:
    done = subprocess.run(
        [sys.executable, "-c", EVERY_HELP], capture_output=True, text=True, env=ENVIRONMENT, timeout=60, check=True
    )
    found, heavy = json.loads(done.stdout)
    assert heavy == []
    groups = {
        "memory": ["add", "search", "import", "forget"],
        "axes": ["build", "list", "export", "import"],
        "adapters": ["train", "list"],
    }
    wanted = ["init", "chat", "run", "doctor", "demo", "models", "models pull"]
    wanted += [f"{group} {name}" for group, names in groups.items() for name in names]
    assert set(wanted) <= set(found)
    for name, (code, text, is_group) in found.items():
        assert code == 0 and "Usage:" in text, name
        if not is_group:
            assert f"overlay {name}" in text[text.index("Example") :], name


def test_importing_the_command_line_imports_no_model_library() -> None:
    code = "import sys, overlay.cli; print(sorted({'torch', 'transformers', 'chromadb'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


def test_the_version_is_printed() -> None:
    from overlay import __version__

    done = overlay("--version")
    assert (done.returncode, done.stdout) == (0, f"{__version__}\n")


# --- mistakes ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A toy home for commands that need no model."""
    return create_toy_home(tmp_path_factory.mktemp("cli") / "home", "minilm-l6-v2").folder


@pytest.mark.parametrize(
    "words",
    [
        ["nonsense"],
        ["run"],
        ["run", "a.yaml", "--directions", "0"],
        ["chat", "--loud"],
        ["axes", "demolish"],
    ],
)
def test_a_command_that_is_not_one_is_a_usage_error(words: list[str]) -> None:
    done = overlay(*words)
    assert (done.returncode, done.stdout) == (2, "") and "Usage:" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("words", [["chat"], ["run", "x.yaml"], ["axes", "list"]])
def test_a_missing_home_is_told_with_how_to_make_one(tmp_path: Path, words: list[str]) -> None:
    message = refuse(1, *words, "--home", tmp_path / "nowhere")
    assert "nowhere is no home" in message and "overlay init" in message


def test_the_present_folder_is_the_home_unless_another_is_named(tmp_path: Path, home: Path) -> None:
    assert f"{tmp_path} is no home" in refuse(1, "axes", "list", folder=tmp_path)
    done = overlay("axes", "list", "--json", folder=home)
    assert done.returncode == 0 and [axis["name"] for axis in json.loads(done.stdout)] == ["vowels"]


def test_a_mistake_in_agent_yaml_is_told_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "agent.yaml").write_text("name: a\nsystem: b\nbudgte: 1\n")
    assert "agent.yaml:3: 'budgte' is not a known key" in refuse(2, "chat", "--home", tmp_path)


def test_a_mistake_in_a_script_is_told_with_its_line_before_anything_is_run(home: Path, tmp_path: Path) -> None:
    fine, broken = write_scenario(tmp_path, "fine"), tmp_path / "broken.yaml"
    broken.write_text("name: broken\n  axes: [vowels]\n")
    assert f"{broken}:2: not valid YAML" in refuse(2, "run", fine, broken, "--home", home)
    broken.write_text(fine.read_text() + "forbidden: [logs]\n")
    message = refuse(2, "run", fine, broken, "--home", home)
    line = next(number for number, text in enumerate(broken.read_text().splitlines(), 1) if "12 logs" in text)
    assert f"{broken}:{line}: " in message and "forbidden word 'logs'" in message
    assert not (home / ".overlay" / "runs").exists()


def test_a_script_that_is_not_there_and_one_given_twice_are_refused(home: Path, tmp_path: Path) -> None:
    assert "none.yaml: this file does not exist" in refuse(2, "run", tmp_path / "none.yaml", "--home", home)
    fine = write_scenario(tmp_path)
    assert "two scripts are named 'toy'" in refuse(2, "run", fine, fine, "--home", home)


def test_a_scenario_that_names_a_missing_axis_is_refused_with_the_known_ones(home: Path, tmp_path: Path) -> None:
    message = refuse(1, "run", write_scenario(tmp_path, axes=["vowels", "joy"]), "--home", home)
    assert "there is no axis 'joy'" in message and "known axes: vowels" in message


def test_a_name_that_nobody_knows_is_told_with_the_known_ones(home: Path, refuse_here: Callable[..., str]) -> None:
    known = {
        ("axes", "build", "joy", "--home", home): (1, "vowels"),
        ("models", "pull", "gpt-99"): (1, "smollm2-135m"),
        ("adapters", "train", "klingon", "--home", home): (1, "british_spelling"),
        ("bench", "nothing"): (2, "engine"),
    }
    for words, (code, names) in known.items():
        message = refuse_here(code, *words)
        assert str(words[2] if len(words) > 2 else words[1]) in message and names in message


def test_an_optional_model_is_listed_but_fetched_only_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OVERLAY_CACHE", str(tmp_path))
    monkeypatch.setattr("overlay.model.pull.pull", lambda name, progress: tmp_path / name)
    rows = json.loads(CliRunner().invoke(app, ["models", "--json"]).stdout)
    optional = [row["name"] for row in rows if row["optional"]]
    always = [row["name"] for row in rows if not row["optional"]]
    assert optional and always

    def fetched(*words: str) -> list[str]:
        said = CliRunner().invoke(app, ["models", "pull", *words]).stdout
        return [line.split(":")[0] for line in said.splitlines() if str(tmp_path) in line]

    assert fetched() == fetched("--missing") == always
    assert fetched(optional[0]) == fetched(optional[0], "--missing") == optional[:1]


def test_a_folder_that_holds_something_is_no_place_for_a_home(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    assert "isn't an empty folder" in refuse(1, "init", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_a_place_where_no_folder_can_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "file" in refuse(1, "init", tmp_path / "file" / "home")


def test_a_full_disk_has_its_own_exit_code_and_leaves_no_half_of_a_home(tmp_path: Path) -> None:
    def small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, 2_000))

    assert "the disk is full" in refuse(4, "init", tmp_path / "home", limit=small_files)
    assert list(tmp_path.iterdir()) == []


def test_the_doctor_says_what_is_missing_and_fails(tmp_path: Path) -> None:
    done = overlay("doctor", "--json", "--home", tmp_path / "nowhere")
    findings = {finding["what"]: finding for finding in json.loads(done.stdout)}
    assert done.returncode == 1 and not all(finding["fine"] for finding in findings.values())
    assert any("overlay init" in finding["next_step"] for finding in findings.values())
    assert findings["Python"]["fine"] and findings["Python"]["next_step"] == ""


def test_init_makes_a_home_that_the_other_commands_accept(tmp_path: Path) -> None:
    made = overlay("init", tmp_path / "new")
    assert made.returncode == 0 and "overlay chat --home" in made.stdout
    listed = overlay("axes", "list", "--json", "--home", tmp_path / "new")
    (axis,) = [axis for axis in json.loads(listed.stdout) if axis["name"] == "tenderness"]
    assert (axis["built"], axis["problem"]) == (False, "not built yet")


# --- with a model --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real_home(tmp_path_factory: pytest.TempPathFactory, embedder_folder: Path) -> Path:
    """A toy home whose model is a tiny one in a folder, as anybody's own model would be."""
    folder = tmp_path_factory.mktemp("cli-real")
    tiny_module("llama").save_pretrained(folder / "model")
    byte_tokenizer().save_pretrained(folder / "model")
    return create_toy_home(folder / "home", embedder_folder, model=str(folder / "model")).folder


@pytest.mark.real
def test_ctrl_c_in_the_middle_of_a_run_keeps_what_was_done_and_the_run_goes_on_from_there(
    real_home: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    path = write_scenario(tmp_path, items=8)
    arguments = ["run", str(path), "--home", str(real_home), "--out", str(out), "--directions", "6"]
    child = subprocess.Popen(
        [*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT
    )
    assert child.stderr is not None
    for line in child.stderr:
        if "running the arms" in line:
            child.send_signal(signal.SIGINT)
            break
    said, told = child.communicate(timeout=120)
    assert (child.returncode, said) == (130, "") and "Traceback" not in told
    assert "overlay: stopped" in told and f"--out {out}" in told
    kept = {path.name: path.read_bytes() for path in (out / "cells").glob("*.json")}
    assert not (out / "result.json").exists()

    done = CliRunner().invoke(app, [*arguments, "--json"])
    assert done.exit_code == 0, done.exception
    result = json.loads(done.stdout)
    assert done.stdout.count("\n") == 1
    assert {"verdict", "reasons", "arms", "prompts_identical", "sham_identical", "seconds", "report"} <= set(result)
    for arm in result["arms"].values():
        assert {"n", "rate", "rate_interval", "p", "volatility_mean", "leaks"} <= set(arm)
    assert Path(result["report"]).read_text(encoding="utf-8").lstrip().lower().startswith("<!doctype html")
    cells = {path.name: path.read_bytes() for path in (out / "cells").glob("*.json")}
    assert kept.items() <= cells.items() and len(cells) == 8 * (2 * 4 + 1 * 2 * 6)


@pytest.mark.real
def test_a_model_that_nobody_knows_is_told_by_its_name(
    embedder_folder: Path, tmp_path: Path, refuse_here: Callable[..., str]
) -> None:
    other = create_home(tmp_path / "home").folder
    write_settings(other, toy_settings(embedder_folder, model="no-such-model", state={}))
    message = refuse_here(1, "run", other / "scenarios" / "shared_stores.yaml", "--home", other)
    assert "no-such-model" in message and "smollm2-135m" in message


@pytest.mark.real
def test_a_home_that_another_process_has_open_has_its_own_exit_code(
    real_home: Path, refuse_here: Callable[..., str]
) -> None:
    (real_home / ".overlay").mkdir(exist_ok=True)
    holder = WriterLock(real_home / ".overlay" / "memory.lock")
    try:
        message = refuse_here(3, "memory", "add", "A note.", "--home", real_home)
    finally:
        holder.release()
    assert f"process {os.getpid()}" in message


@pytest.mark.real
def test_notes_are_added_found_and_forgotten_from_the_command_line(real_home: Path, tmp_path: Path) -> None:
    def run(*words: str) -> str:
        result = CliRunner().invoke(app, ["memory", *words, "--home", str(real_home)])
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == 0
        return result.stdout

    note = run("add", "The spare key lies under the third stone.", "--tag", "home").split()[-1]
    (first, *_) = json.loads(run("search", "Where is the spare key?", "--json"))
    assert (first["id"], first["text"]) == (note, "The spare key lies under the third stone.")
    assert first["score"] > 0 and first["terms"]
    (tmp_path / "fact.md").write_text("# Pump\n\nThe pump stands in the cellar.\n")
    assert run("import", str(tmp_path / "fact.md")).startswith("1 added")
    assert run("import", str(tmp_path / "fact.md")).startswith("0 added, 0 changed, 1 unchanged")
    run("forget", note)
    assert note not in [found["id"] for found in json.loads(run("search", "Where is the spare key?", "--json"))]
    with pytest.raises(NoteError, match=note):
        run("forget", note)
    assert "notes" in run("check")
