"""The memory commands: what goes in is found with its terms and source, what goes out is gone, mistakes are told."""

from __future__ import annotations

import io
import json
import re
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from command import Command, Done, command
from toy_home import create_toy_home

from overlay.cli import memory
from overlay.memory import RecallWeights

pytestmark = pytest.mark.real

KEY = "The spare key lies under the third stone."


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, embedder_folder: Path) -> Path:
    return create_toy_home(tmp_path_factory.mktemp("memory-command") / "home", embedder_folder).folder


@pytest.fixture
def overlay(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], home: Path) -> Command:
    monkeypatch.setenv("OVERLAY_HOME", str(home))
    return command(monkeypatch, capsys, "memory")


def done(overlay: Command, *words: object) -> Done:
    ended = overlay(*words)
    assert ended.code == 0, ended.told
    return ended


def found(overlay: Command, query: str, *options: object) -> list[dict[str, Any]]:
    return list(json.loads(done(overlay, "search", query, "--json", *options).out))


def texts(overlay: Command, query: str, *options: object) -> list[str]:
    return [hit["text"] for hit in found(overlay, query, *options)]


def add(overlay: Command, *words: object) -> str:
    return str(json.loads(done(overlay, "add", *words, "--json").out)["id"])


def shown(overlay: Command, note: str) -> dict[str, Any]:
    return dict(json.loads(done(overlay, "show", note, "--json").out))


def refused(overlay: Command, code: int, *words: object) -> str:
    ended = overlay(*words)
    assert (ended.code, ended.out) == (code, "") and "Traceback" not in ended.told
    message = ended.told[ended.told.index("overlay: ") :]
    assert message.count("overlay: ") == 1 and "\n  -> " in message
    return message


# --- add, search, show ---------------------------------------------------------------------------


def test_a_note_is_found_with_its_source_and_the_terms_that_make_its_score(overlay: Command) -> None:
    note = done(overlay, "add", KEY, "--tag", "home", "--title", "Key").out.split()[-1]
    (first, *_) = found(overlay, "Where is the spare key?")
    assert (first["id"], first["text"], first["title"], first["tags"]) == (note, KEY, "Key", ["home"])
    assert first["source"] == "command line" and first["passage"]["text"] == KEY
    told = done(overlay, "search", "Where is the spare key?", "--explain", "--count", 1)
    assert note in told.out and KEY in told.out
    # Under its weight, each term of the score; those that are nothing for every note are left out.
    header, weights, values = [
        line.split()
        for line in told.out.splitlines()
        if "score" in line or "weight" in line or line.strip().startswith(note)
    ]
    assert header[:2] == ["note", "score"] and set(header[2:]) == {name for name, v in first["terms"].items() if v}
    assert f"{first['score']:.3f}" == values[1]
    total = sum(float(weight) * float(value) for weight, value in zip(weights[1:], values[2:], strict=True))
    assert total == pytest.approx(first["score"], abs=0.01)


def test_what_a_note_says_already_is_not_kept_twice(overlay: Command) -> None:
    note = add(overlay, "The pump stands in the cellar.")
    again = done(overlay, "add", "the pump  stands in the cellar", "--tag", "water")
    assert again.out.startswith(f"{note} says this already")
    assert shown(overlay, note)["tags"] == ["water"]


def test_a_text_comes_from_standard_input(overlay: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "Вода в колодце поднимается весной.\nThe well is deep."
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    assert shown(overlay, add(overlay, "-"))["text"] == text
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\xff\xfe\x00")))
    assert "not UTF-8" in refused(overlay, 2, "add", "-")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"")))
    assert "needs a text" in refused(overlay, 2, "add", "-")


def test_the_filters_of_a_search_keep_what_they_say(overlay: Command) -> None:
    query = "When does the ferry leave?"
    said = "The ferry leaves at nine, she said."
    add(overlay, said, "--kind", "said", "--tag", "ferry", "--namespace", "harbour")
    add(overlay, "The ferry leaves at ten on Sundays.", "--tag", "boat")

    def ferries(*options: object) -> set[str]:
        return {text for text in texts(overlay, query, *options) if "ferry" in text}

    both = ferries()
    assert len(both) == 2
    assert ferries("--kind", "said") == ferries("--tag", "ferry") == ferries("--namespace", "harbour") == {said}
    assert ferries("--tag", "ferry", "--tag", "boat") == ferries("--kind", "said", "--kind", "fact") == both
    assert ferries("--namespace", "") == both - {said}
    assert ferries("--height", 0) == both and ferries("--height", 1) == set()
    assert ferries("--as-of", "2020-01-01") == set()
    assert "not a kind of note" in refused(overlay, 2, "search", query, "--kind", "rumour")


def test_as_of_asks_what_held_at_the_end_of_a_day(overlay: Command, tmp_path: Path) -> None:
    (tmp_path / "past.jsonl").write_text(
        json.dumps({"id": "mill", "text": "The mill grinds rye.", "event_at": 1_600_000_000}) + "\n"  # 2020-09-13
    )
    done(overlay, "import", tmp_path / "past.jsonl")
    replaced = done(overlay, "supersede", "mill", "The mill grinds barley.")
    assert "mill" in replaced.out
    query = "What does the mill grind?"
    assert texts(overlay, query)[0] == "The mill grinds barley."
    for past in ("2021-01-01", "2020-09-14", "2021-01-01T10:30", "2021-01-01T10:30Z", "2021-01-01T10:30+05:30"):
        assert texts(overlay, query, "--as-of", past)[0] == "The mill grinds rye.", past
    assert "The mill grinds rye." not in texts(overlay, query, "--as-of", "2020-09-11")
    for wrong in ("yesterday", "2021-13-01", "01.02.2021", "9999-12-31", ""):
        assert "is no date" in refused(overlay, 2, "search", query, "--as-of", wrong), wrong


def test_a_note_is_shown_with_all_that_is_known_of_it(overlay: Command) -> None:
    note = add(overlay, "The bell rings at dusk.", "--importance", 0.9, "--pin", "--namespace", "abbey", "--ttl", "2d")
    document = shown(overlay, note)
    assert (document["importance"], document["pinned"], document["namespace"]) == (0.9, True, "abbey")
    assert document["expires_at"] - document["written_at"] == pytest.approx(2 * 86_400, abs=60)
    told = done(overlay, "show", note).out
    for words in ("The bell rings at dusk.", note, "fact", "command line", "abbey", "0.9, pinned"):
        assert words in told
    linked = done(overlay, "show", "vault:budget").words
    assert "links to vault:volatility" in linked
    assert "there is no note 'nowhere'" in refused(overlay, 1, "show", "nowhere")


@pytest.mark.parametrize(
    ("written", "seconds"), [("90m", 5_400), ("12h", 43_200), ("1.5d", 129_600), ("2w", 1_209_600), ("1y", 31_557_600)]
)
def test_a_time_to_live_is_a_number_and_its_unit(overlay: Command, written: str, seconds: float) -> None:
    document = shown(overlay, add(overlay, f"This lasts {written}.", "--ttl", written))
    assert document["expires_at"] - document["written_at"] == pytest.approx(seconds, abs=60)


def test_mistakes_in_a_note_are_told_and_nothing_is_kept(overlay: Command) -> None:
    before = json.loads(done(overlay, "stats", "--json").out)
    for wrong in ("30", "d", "0d", "-3d", "soon", "3 months"):
        assert "is no time to live" in refused(overlay, 2, "add", "A text.", f"--ttl={wrong}"), wrong
    assert "not a kind of note" in refused(overlay, 2, "add", "A text.", "--kind", "rumour")
    assert "overlay memory fold" in refused(overlay, 2, "add", "A text.", "--kind", "fold")
    assert "needs a text" in refused(overlay, 2, "add", "  ")
    assert "control character" in refused(overlay, 2, "add", "a\x1b[2Jb")
    assert overlay("add", "A text.", "--importance", "2").code == 2
    for words in (["supersede", "nowhere", "A text."], ["forget", "nowhere"], ["pin", "vault:budget", "nowhere"]):
        assert "there is no note 'nowhere'" in refused(overlay, 1, *words)
    after = json.loads(done(overlay, "stats", "--json").out)
    assert (after["kinds"], after["pinned"]) == (before["kinds"], before["pinned"])


# --- pin, forget ---------------------------------------------------------------------------------


def test_notes_are_pinned_and_unpinned(overlay: Command) -> None:
    one, other = add(overlay, "The gate is green."), add(overlay, "The fence is white.")
    done(overlay, "pin", one, other)
    assert shown(overlay, one)["pinned"] and shown(overlay, other)["pinned"]
    done(overlay, "unpin", one)
    assert not shown(overlay, one)["pinned"] and shown(overlay, other)["pinned"]


def test_what_is_forgotten_is_found_by_no_command_and_in_no_file(overlay: Command, home: Path, tmp_path: Path) -> None:
    note = add(overlay, "The zephyrine rose blooms twice.")
    done(overlay, "supersede", note, "The zephyrine rose blooms thrice.")
    assert "zephyrine" in " ".join(texts(overlay, "Which rose blooms?"))
    assert "nowhere" in refused(overlay, 1, "forget", note, "nowhere")
    assert "zephyrine" in " ".join(texts(overlay, "Which rose blooms?"))
    done(overlay, "forget", note, note)
    assert "zephyrine" not in " ".join(texts(overlay, "Which rose blooms?", "--count", 100))
    done(overlay, "export", tmp_path / "all.jsonl")
    assert "zephyrine" not in (tmp_path / "all.jsonl").read_text(encoding="utf-8")
    refused(overlay, 1, "show", note)
    files = [path for path in (home / ".overlay").rglob("*") if path.is_file()]
    assert files and not [path for path in files if b"zephyrine" in path.read_bytes()]


# --- import, export ------------------------------------------------------------------------------


def test_a_vault_is_imported_with_a_report_of_what_is_wrong_with_it(overlay: Command, tmp_path: Path) -> None:
    vault = tmp_path / "vault"
    (vault / "a").mkdir(parents=True)
    (vault / "b").mkdir()
    (vault / "Колодец.md").write_text("# Колодец\n\nСм. [[nowhere]] и\n[[twin]].\n", encoding="utf-8")
    (vault / "a" / "twin.md").write_text("The first twin.\n")
    (vault / "b" / "twin.md").write_text("The second twin.\n")
    (vault / "bad.md").write_text("---\ntitle: [\n---\nText.\n")
    told = done(overlay, "import", vault)
    assert told.out.startswith("3 added, 0 changed, 0 unchanged")
    well = vault / "Колодец.md"
    assert f"{well}:3: no note is called 'nowhere'" in told.told
    assert f"{well}:4: 'twin' was taken for " in told.told
    (skipped,) = [line for line in told.told.splitlines() if line.startswith("skipped ")]
    assert f"{vault / 'bad.md'}:" in skipped
    report = json.loads(done(overlay, "import", vault, "--json").out)
    assert (report["added"], report["changed"], len(report["unchanged"])) == ([], [], 3)
    assert (report["broken"][0]["line"], report["broken"][0]["target"]) == (3, "nowhere")
    assert report["skipped"][0]["file"].endswith("bad.md") and report["skipped"][0]["line"]
    assert "vault" in texts(overlay, "Колодец")[0] or "nowhere" in texts(overlay, "Колодец")[0]


def test_one_wrong_file_is_a_mistake_with_its_line_and_imports_nothing(overlay: Command, tmp_path: Path) -> None:
    path = tmp_path / "facts.jsonl"
    path.write_text('{"text": "Fine."}\n{"txt": "Not."}\n')
    assert f"{path}:2: " in refused(overlay, 2, "import", path)
    assert f"there is nothing at {tmp_path / 'none'}" in refused(overlay, 2, "import", tmp_path / "none")
    assert "Fine." not in texts(overlay, "Fine.")


def test_an_export_imported_into_an_empty_home_gives_the_same_export(
    overlay: Command, tmp_path: Path, embedder_folder: Path
) -> None:
    add(overlay, "Der Müller mahlt Roggen — 100 %.", "--tag", "mill", "--title", "Müller")
    first, again = tmp_path / "notes.jsonl", tmp_path / "again.jsonl"
    told = done(overlay, "export", first)
    assert told.out.startswith(f"{len(first.read_text(encoding='utf-8').splitlines()):,} notes")
    other = create_toy_home(tmp_path / "other", embedder_folder)
    for note in other.notes.iterdir():
        note.unlink()
    done(overlay, "import", first, "--home", other.folder)
    done(overlay, "export", again, "--home", other.folder)
    assert again.read_bytes() == first.read_bytes()
    done(overlay, "export", tmp_path / "markdown")
    assert any("Roggen" in path.read_text(encoding="utf-8") for path in (tmp_path / "markdown").rglob("*.md"))


# --- upkeep --------------------------------------------------------------------------------------


def test_the_figures_count_what_is_there(overlay: Command) -> None:
    before = json.loads(done(overlay, "stats", "--json").out)
    note = add(overlay, "A swan was seen.", "--kind", "said", "--pin", "--namespace", "lake")
    done(overlay, "supersede", note, "Two swans were seen.")
    after = json.loads(done(overlay, "stats", "--json").out)
    hold, once = before["kinds"].get("said", (0, 0))
    assert after["kinds"]["said"] == [hold + 1, once + 1]
    assert after["hold"] == before["hold"] + 1 and after["namespaces"]["lake"] == 1
    assert all(size > 0 for size in after["bytes"].values())
    told = done(overlay, "stats").out
    assert "said" in told and "embedder" in told and "MB" in told
    done(overlay, "forget", note)
    assert json.loads(done(overlay, "stats", "--json").out)["kinds"] == before["kinds"]


def test_the_index_is_checked_and_repaired(overlay: Command) -> None:
    told = json.loads(done(overlay, "check", "--json").out)
    assert told["is_whole"] and told["notes"] > 0
    assert "indexed" in done(overlay, "check", "--repair").out


def test_the_memory_is_folded_and_the_tree_is_drawn(overlay: Command) -> None:
    for number in range(12):
        add(overlay, f"Ship number {number} carries {number + 3} crates of tea to port {number % 3}.")
    report = json.loads(done(overlay, "fold", "--json").out)
    assert report
    roots = json.loads(done(overlay, "tree", "--json").out)

    def count(nodes: list[dict[str, Any]]) -> int:
        return sum(1 + count(node["children"]) for node in nodes)

    assert roots and all(root["height"] >= 1 for root in roots)
    drawn = done(overlay, "tree").out
    assert all(root["id"] in drawn for root in roots)
    assert len(done(overlay, "tree", "--depth", 1).out.splitlines()) < len(drawn.splitlines())
    stats = json.loads(done(overlay, "stats", "--json").out)
    assert sum(stats["folds"].values()) > 0
    (fold, *_) = found(overlay, "Which ship carries tea?", "--height", 1)
    assert fold["kind"] == "fold" and fold["height"] == 1 and fold["links"]


def test_vectors_are_computed_again_by_command(overlay: Command) -> None:
    counted = json.loads(done(overlay, "stats", "--json").out)
    told = done(overlay, "reembed").out
    assert "passages embedded with" in told and int(told.split()[0].replace(",", "")) >= counted["hold"]
    assert json.loads(done(overlay, "check", "--json").out)["is_whole"]


# --- what the documentation says -----------------------------------------------------------------


def test_the_documentation_states_the_shipped_weights_and_every_command() -> None:
    page = (Path(__file__).parents[2] / "docs" / "memory.md").read_text(encoding="utf-8")
    table = dict(re.findall(r"^\| `(\w+)` \| ([0-9.]+) \| -?[01] to [01] \|", page, re.MULTILINE))
    assert {term: float(weight) for term, weight in table.items()} == asdict(RecallWeights())
    assert {one.name for one in memory.app.registered_commands} == set(re.findall(r"overlay memory (\w+)", page))
