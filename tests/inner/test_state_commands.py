"""The state on disk: shown, told, drawn and reset from the journals alone, from the shell as from Python."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from toy_home import create_toy_home, toy_settings, write_settings
from typer.testing import CliRunner

from overlay.cli import app
from overlay.errors import ArgumentError, HomeError, HomeLocked, ModelUnavailable, OverlayError, RecordDamaged
from overlay.home import Home
from overlay.inner import LivedTurn, State, StateSettings
from overlay.inner.state_plot import placed_turns
from overlay.memory.lock import WriterLock
from overlay.records import append_record, read_journal
from overlay.session import Session, TurnRecord
from overlay.state import history, plot, present, reset, save_state

SETTINGS = {
    "axes": {
        "vowels": {"half_life": 4, "gain": 0.5, "rest": 0.1},
        "slow": {"half_life": "2 hours", "gain": 0.5, "cap": 2},
    }
}
HOUR = 3600.0
START = 1_700_000_000.0

READINGS = [(3.0, 0.0), (-1.0, 2.0), (0.5, 0.5), (4.0, -3.0)]
"""z on vowels and slow, by turn; turns are an hour apart, and a session begins with the third."""


def live(home: Home, *, saved: bool = True) -> list[dict[str, Any]]:
    """Four turns in two sessions, journalled as an agent does."""
    settings = home.settings.state
    state, records = State.resting(settings), []
    sessions = [Session(home.sessions, name) for name in ("20260101-000000-aaaa", "20260102-000000-bbbb")]
    for number, z in enumerate(READINGS):
        session, before = sessions[number // 2], state
        state, faded = state.passed(settings, seconds=HOUR)
        state, moved = state.observe(
            dict(zip(settings.axes, z, strict=True)), settings, source="read", cause=f"text {number}", turns=1.0
        )
        record = TurnRecord(
            session=session.name,
            number=session.count + 1,
            kind="lived",
            time=START + number * HOUR,
            seed=number,
            user=f"text {number}",
            reply="",
            state_before=dict(before.values),
            state_after=dict(state.values),
            energies={"ledger": 0.25},
            changes=[asdict(change) for change in faded + moved],
        )
        session.append(record)
        records.append(asdict(record))
    if saved:
        save_state(home, records[-1])
    return records


@pytest.fixture
def fresh(tmp_path: Path) -> Home:
    return create_toy_home(tmp_path / "home", "minilm-l6-v2", state=SETTINGS)


@pytest.fixture
def home(fresh: Home) -> Home:
    live(fresh)
    return fresh


def run(*words: object, code: int = 0, told: str | None = None) -> str:
    done = CliRunner().invoke(app, ["state", *map(str, words)], input=told)
    assert done.exit_code == code, done.output
    return done.stdout


def run_json(home: Home, *words: object) -> Any:
    said = run(*words, "--home", home.folder, "--json")
    assert said.count("\n") == 1
    return json.loads(said)


# --- show ----------------------------------------------------------------------------------------


def test_what_has_lived_nothing_is_shown_at_rest(fresh: Home) -> None:
    rows = run_json(fresh, "show")
    assert [(row["axis"], row["value"], row["rest"], row["last"]) for row in rows] == [
        ("vowels", 0.1, 0.1, []),
        ("slow", 0.0, 0.0, []),
    ]
    assert "nothing yet" in run("show", "--home", fresh.folder)


def test_the_state_of_the_newest_turn_is_shown_with_what_moved_it_last(home: Home) -> None:
    after = live_records(home)[-1]["state_after"]
    vowels, slow = present(home, START + 3 * HOUR)
    assert (vowels.value, slow.value) == (after["vowels"], after["slow"])
    assert (slow.cap, slow.half_life, vowels.half_life) == (2.0, "2 hours", "4 turns")
    assert [change.cause for _, change in vowels.last] == ["text 3", "text 2", "text 1"]
    assert [change.source for _, change in slow.last] == ["read", "time", "read"]
    assert vowels.last[0][1].after == vowels.value


def test_what_fades_by_the_clock_has_faded_when_it_is_shown(home: Home) -> None:
    now = dict((one.axis, one.value) for one in present(home, START + 3 * HOUR))
    later = dict((one.axis, one.value) for one in present(home, START + 5 * HOUR))
    assert later["vowels"] == now["vowels"] and later["slow"] == pytest.approx(now["slow"] / 2)
    # A clock that was set back lets no time pass.
    assert dict((one.axis, one.value) for one in present(home, START)) == now


def test_the_table_has_a_bar_towards_the_cap_on_the_values_side(home: Home) -> None:
    lines = {line.split()[0]: line for line in run("show", "--home", home.folder).splitlines() if "│" in line}
    values = {row["axis"]: row["value"] for row in run_json(home, "show")}
    assert set(lines) == set(values) == {"vowels", "slow"} and values["vowels"] > 0.3
    left, right = lines["vowels"].split("│")
    assert "█" in right and "█" not in left


def test_axes_that_are_new_begin_at_rest_and_those_that_are_gone_are_not_shown(home: Home) -> None:
    settings = StateSettings.model_validate({"axes": {"slow": {"half_life": "2 hours"}, "new": {"rest": -0.3}}})
    changed = Home(home.folder, home.settings.model_copy(update={"state": settings}))
    found = {one.axis: one for one in present(changed, START + 3 * HOUR)}
    assert list(found) == ["slow", "new"] and found["new"].value == -0.3 and found["new"].last == ()
    assert found["slow"].value == live_records(home)[-1]["state_after"]["slow"]


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> int:
    """A terminal of 80 columns, and lives whose causes are longer than that."""
    monkeypatch.setenv("COLUMNS", "80")
    return 80


LONG = "the [bold]pump[/bold] stands still, the cellar fills, and nobody knows who has the key"


def live_wordily(folder: Path, sessions: int) -> Home:
    """One turn a session, moved from two sources for long reasons, on axes as people name them."""
    axes = {"tenderness": {"half_life": "30 minutes"}, "homesickness": {"half_life": 12}}
    home = create_toy_home(folder, "minilm-l6-v2", state={"axes": axes})
    state = State.resting(home.settings.state)
    for number in range(sessions):
        before = state
        changes: tuple[Any, ...] = ()
        for source, z in (("read", -12.5), ("inner speech", 3.0)):
            state, moved = state.observe(dict.fromkeys(axes, z), home.settings.state, source=source, cause=LONG)
            changes += moved
        session = Session(home.sessions, f"2026010{number + 1}-000000-abcd")
        values = {"state_before": dict(before.values), "state_after": dict(state.values), "energies": {}}
        session.append(
            TurnRecord(session.name, 1, "lived", START + number, 0, LONG, "", **values, changes=[*map(asdict, changes)])
        )
    return home


def test_a_narrow_terminal_shows_every_bar_and_number_and_cuts_the_causes(narrow: int, tmp_path: Path) -> None:
    home = live_wordily(tmp_path / "home", 2)
    told = run("show", "--home", home.folder)
    assert max(map(len, told.splitlines())) <= narrow
    for row in run_json(home, "show"):
        (line,) = [line for line in told.splitlines() if line.startswith(row["axis"]) and "│" in line]
        bar = next(word for word in line.split() if "│" in word)
        assert len(bar) == 21 and bar[10] == "│" and "…" not in line
        assert f"{row['value']:+.3f}" in line and line.rstrip().endswith(row["half_life"])
    for axis in home.settings.state.axes:
        told_last = [line for line in told.splitlines() if line.startswith(axis) and "│" not in line]
        assert len(told_last) == 3 and all(": the [bold]pump[/bold] st" in line and "…" in line for line in told_last)


@pytest.mark.parametrize("sessions", [1, 3])
def test_a_narrow_terminal_tells_each_change_on_one_line_and_every_session_whole(
    narrow: int, tmp_path: Path, sessions: int
) -> None:
    home = live_wordily(tmp_path / "home", sessions)
    lines = run("history", "--home", home.folder).splitlines()
    assert max(map(len, lines)) <= narrow
    rows = run_json(home, "history")
    for row in rows:
        numbers = [f"{row['z']:+.2f}", f"{row['before']:+.3f}", f"{row['after']:+.3f}"]
        cause = f"{row['source']}: the"
        assert [line for line in lines if line.split()[-3:] == numbers and row["axis"] in line and cause in line]
    names = [line.removeprefix("Session ") for line in lines if line.startswith("Session ")]
    assert names == sorted({row["session"] for row in rows}) and len(names) == sessions


# --- history -------------------------------------------------------------------------------------


def live_records(home: Home) -> list[dict[str, Any]]:
    return [record for path in sorted(home.sessions.glob("*.jsonl")) for record in read_journal(path)]


def test_the_history_tells_every_move_with_its_turn_and_cause(home: Home) -> None:
    rows = run_json(home, "history")
    expected = [
        (record["session"], record["number"], change["axis"], change["source"], change["cause"], change["after"])
        for record in live_records(home)
        for change in record["changes"]
        if change["before"] != change["after"]
    ]
    keys = ("session", "turn", "axis", "source", "cause", "after")
    assert [tuple(row[key] for key in keys) for row in rows] == expected
    assert {row["source"] for row in rows} == {"read", "time"}
    told = run("history", "--home", home.folder)
    assert all(f"text {number}" in " ".join(told.split()) for number in range(4))


def test_the_history_can_be_narrowed_to_one_axis_and_to_the_last_changes(home: Home) -> None:
    slow = run_json(home, "history", "--axis", "slow")
    assert {row["axis"] for row in slow} == {"slow"}
    assert run_json(home, "history", "--axis", "slow", "--last", "2") == slow[-2:]
    assert run_json(home, "history", "--last", "999") == run_json(home, "history")
    assert history(home, axis="slow", last=1)[0][1].cause == slow[-1]["cause"]


def test_what_moved_nothing_yet_has_no_history(fresh: Home) -> None:
    assert run_json(fresh, "history") == [] and "Nothing has moved" in run("history", "--home", fresh.folder)


def test_an_axis_that_nobody_knows_is_refused_with_the_known_ones(home: Home) -> None:
    with pytest.raises(ArgumentError, match="'joy'") as caught:
        history(home, axis="joy")
    assert "slow, vowels" in caught.value.next_step


def test_axes_that_are_gone_from_the_settings_keep_their_history(home: Home) -> None:
    settings = StateSettings.model_validate({"axes": {"new": {}}})
    changed = Home(home.folder, home.settings.model_copy(update={"state": settings}))
    assert history(changed, axis="vowels") == history(home, axis="vowels") != ()


def test_journals_of_other_versions_are_told_as_far_as_they_go(home: Home) -> None:
    path = home.sessions / "20260101-000000-aaaa.jsonl"
    records = read_journal(path)
    for record in records:
        for change in record["changes"]:
            del change["share"], change["seconds"], change["turns"]
            change["mood"] = "later versions may say more"
    path.unlink()
    for record in records:
        append_record(path, record)
    assert len(history(home)) == len(history(home, axis="vowels")) + len(history(home, axis="slow")) > 0


def test_a_journal_that_is_none_is_told_by_its_name(home: Home) -> None:
    append_record(home.sessions / "broken.jsonl", {"time": 1})
    with pytest.raises(RecordDamaged, match=r"broken\.jsonl"):
        history(home)


# --- plot ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "starts"), [("state.png", b"\x89PNG"), ("state.SVG", b"<?xml")])
def test_the_plot_is_a_file_of_the_kind_that_was_asked_for_and_the_same_every_time(
    home: Home, tmp_path: Path, name: str, starts: bytes
) -> None:
    found = run_json(home, "plot", "--out", tmp_path / name)
    assert found == {"file": str(tmp_path / name), "turns": 4, "axes": ["vowels", "slow"]}
    content = (tmp_path / name).read_bytes()
    assert content.startswith(starts)
    plot(home, tmp_path / name)
    assert (tmp_path / name).read_bytes() == content


def test_the_plot_shows_what_was_lived(home: Home, tmp_path: Path) -> None:
    plot(home, tmp_path / "before.svg")
    reset(home, START + 4 * HOUR)
    assert plot(home, tmp_path / "after.svg") == 4, "a reset is no turn"
    assert (tmp_path / "before.svg").read_bytes() != (tmp_path / "after.svg").read_bytes()


def test_a_look_at_what_has_emerged_is_no_turn_and_leaves_the_plot_as_it_is(home: Home, tmp_path: Path) -> None:
    plot(home, tmp_path / "before.svg")
    *_, last = live_records(home)
    values = {"state_before": last["state_after"], "state_after": last["state_after"], "energies": {}}
    session = Session(home.sessions, last["session"])
    session.append(TurnRecord(session.name, 3, "emerged", START + 4 * HOUR, 0, "", "", **values))
    assert plot(home, tmp_path / "after.svg") == run_json(home, "plot")["turns"] == 4
    assert (tmp_path / "before.svg").read_bytes() == (tmp_path / "after.svg").read_bytes()


def test_a_reset_is_drawn_as_a_jump_at_the_turn_before_it() -> None:
    kinds = ["reset", "lived", "emerged", "turn", "reset", "reset", "turn"]
    lived = [LivedTurn(START + place, "s", place, kind, {}, {}, ()) for place, kind in enumerate(kinds)]
    placed = [(place, turn.kind) for place, turn in placed_turns(lived)]
    assert placed == [(0, "reset"), (1, "lived"), (2, "turn"), (2, "reset"), (2, "reset"), (3, "turn")]


def test_an_empty_life_can_be_drawn_and_so_can_one_without_axes(fresh: Home, home: Home, tmp_path: Path) -> None:
    none = Home(home.folder, home.settings.model_copy(update={"state": StateSettings()}))
    assert plot(fresh, tmp_path / "a.svg") == plot(none, tmp_path / "b.png") == 4


def test_without_a_name_the_plot_lies_beside_the_state(fresh: Home) -> None:
    said = run("plot", "--home", fresh.folder)
    assert (fresh.lived / "state" / "state.png").read_bytes().startswith(b"\x89PNG") and "0 turns" in said


def test_a_plot_of_another_kind_is_refused(home: Home, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"state\.gif"):
        plot(home, tmp_path / "state.gif")
    assert not (tmp_path / "state.gif").exists()


# --- reset ---------------------------------------------------------------------------------------


def test_a_reset_is_one_more_record_and_leaves_the_others_as_they_were(home: Home) -> None:
    before = live_records(home)
    found = run_json(home, "reset", "--yes")
    *earlier, record = live_records(home)
    assert earlier == before
    assert (record["kind"], record["session"], record["number"]) == ("reset", before[-1]["session"], 3)
    assert (found["session"], found["turn"]) == (record["session"], record["number"])
    assert record["state_before"] == found["before"] == before[-1]["state_after"]
    assert record["state_after"] == found["after"] == {"vowels": 0.1, "slow": 0.0}
    assert record["energies"] == before[-1]["energies"]
    assert [one.value for one in present(home, record["time"])] == [0.1, 0.0]
    assert [change.source for _, change in history(home, last=2)] == ["reset", "reset"]
    kept = json.loads((home.lived / "state" / "state.json").read_text())
    assert (kept["number"], kept["state_after"]) == (3, record["state_after"])


def test_a_reset_asks_first_and_takes_no_for_an_answer(home: Home) -> None:
    before = live_records(home)
    assert run("reset", "--home", home.folder, code=1, told="n\n").endswith("Nothing was changed.\n")
    run("reset", "--home", home.folder, code=1, told="")
    assert live_records(home) == before
    assert "at rest" in run("reset", "--home", home.folder, told="y\n")
    assert live_records(home)[-1]["kind"] == "reset"


def test_a_reset_for_a_program_has_to_be_meant(home: Home) -> None:
    done = CliRunner().invoke(app, ["state", "reset", "--json", "--home", str(home.folder)])
    assert isinstance(done.exception, ArgumentError) and "--yes" in done.exception.next_step
    assert live_records(home)[-1]["kind"] == "lived"


def test_where_nothing_was_lived_a_reset_writes_nothing(fresh: Home) -> None:
    assert reset(fresh, START) is None and not fresh.lived.exists()
    assert "Nothing was lived" in run("reset", "--yes", "--home", fresh.folder)
    assert run_json(fresh, "reset", "--yes") is None


def test_an_open_agent_is_not_reset_from_outside(home: Home) -> None:
    lock = WriterLock(home.lived / "memory.lock")
    try:
        with pytest.raises(HomeLocked, match=str(os.getpid())):
            reset(home, START + 4 * HOUR)
    finally:
        lock.release()
    assert live_records(home)[-1]["kind"] == "lived" and reset(home, START + 4 * HOUR) is not None


def test_a_turn_that_was_cut_off_is_finished_before_it_is_reset(fresh: Home) -> None:
    """Only an agent can write its notes; a record behind it would hide that they are missing."""
    live(fresh, saved=False)
    with pytest.raises(HomeError, match="cut off") as caught:
        reset(fresh, START + 4 * HOUR)
    assert "overlay chat" in caught.value.next_step and live_records(fresh)[-1]["kind"] == "lived"


def test_the_commands_load_no_model_library(home: Home) -> None:
    code = (
        "import sys\nfrom overlay.cli import app\n"
        "for words in (['show'], ['history'], ['reset', '--yes']):\n"
        "    app(['state', *words, '--json', '--home', sys.argv[1]], standalone_mode=False)\n"
        "heavy = {'torch', 'transformers', 'chromadb', 'sentence_transformers', 'matplotlib'} & set(sys.modules)\n"
        "print(sorted(heavy), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(home.folder)], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stderr.strip() == "[]" and len(done.stdout.splitlines()) == 3


# --- going on ------------------------------------------------------------------------------------


def test_an_older_session_is_refused_before_anything_is_loaded(home: Home) -> None:
    """Model and embedder are nowhere: if they were looked for first, that would be told instead."""
    write_settings(home.folder, toy_settings("no-such-embedder", model="no-such-model", state=SETTINGS))
    old, new = sorted(path.stem for path in home.sessions.glob("*.jsonl"))

    def told(name: str) -> OverlayError:
        done = CliRunner().invoke(app, ["chat", "--plain", "--session", name, "--home", str(home.folder)])
        assert isinstance(done.exception, OverlayError)
        return done.exception

    refused = told(old)
    assert isinstance(refused, ArgumentError) and f"'{old}' is not the newest" in refused.problem
    assert new in refused.next_step and f"overlay fork {old}" in refused.next_step
    assert isinstance(told(new), ModelUnavailable) and isinstance(told("last"), ModelUnavailable)
