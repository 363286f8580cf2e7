"""The chat application: what a person at the terminal sees, and that nothing they do loses a turn."""

from __future__ import annotations

import asyncio
import os
import resource
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pexpect
import pytest
from chat_home import endless_parts, make_home
from textual.app import App
from textual.pilot import Pilot

from overlay.agent import Agent
from overlay.errors import HomeLocked
from overlay.home import Home
from overlay.inner import StateSettings
from overlay.progress import Progress
from overlay.session import last_record
from overlay.tui.app import ChatApp, Said
from overlay.tui.inner_speech import InnerSpeech
from overlay.tui.panel import Panel
from overlay.tui.prompt import Prompt
from overlay.tui.stage import Stage

pytestmark = pytest.mark.real

WIDE = (120, 36)
ENDLESS = {"max_tokens": 8000}

Steps = Callable[[ChatApp, Pilot[None]], Coroutine[Any, Any, None]]


@pytest.fixture
def home_with(tmp_path: Path, embedder_folder: Path) -> Callable[..., Home]:
    return lambda **changes: make_home(tmp_path / "home", embedder_folder, **changes)


@pytest.fixture(scope="module")
def endless_llama() -> Any:
    from overlay.model import LanguageModel

    return LanguageModel(*endless_parts(), "endless-llama")


def chat(home: Home, model: Any, steps: Steps, size: tuple[int, int] = WIDE) -> ChatApp:
    """Run the application on a real agent until `steps` are done."""

    def open_agent(progress: Progress) -> Agent:
        return Agent.open(home, model=model, progress=progress)

    app = ChatApp(home, open_agent)

    async def run() -> None:
        async with app.run_test(size=size) as pilot:
            await until(pilot, lambda: app.agent is not None or app.failure is not None)
            await steps(app, pilot)
            await app.workers.wait_for_complete()

    try:
        asyncio.run(run())
    finally:
        if app.agent is not None:
            app.agent.close()
    return app


async def until(pilot: Pilot[None], condition: Callable[[], Any]) -> None:
    for _ in range(1200):
        if condition():
            await pilot.pause()
            return
        await pilot.pause(0.05)
    raise AssertionError("it never came to that")


async def say(app: ChatApp, pilot: Pilot[None], text: str) -> None:
    """Type a line, send it, and wait for the end of the turn."""
    app.query_one(Prompt).value = text
    await pilot.press("enter")
    await until(pilot, lambda: not app.is_answering or app.failure)


@contextmanager
def full_disk() -> Iterator[None]:
    """No file of this process can grow beyond a kilobyte."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def said(app: ChatApp, role: str) -> list[str]:
    return [entry.text for entry in app.query(Said) if entry.has_class(role)]


def shown(app: App[None], section: str) -> str:
    return str(app.query_one(f"#{section}").render())


def test_a_turn_shows_what_was_said_and_fills_the_panel(home_with: Callable[..., Home], tiny_llama: Any) -> None:
    home = home_with()

    async def steps(app: ChatApp, pilot: Pilot[None]) -> None:
        assert "nothing spent" in shown(app, "volatility")
        await say(app, pilot, "Where is the kettle?")
        record = last_record(home.sessions)
        assert record is not None
        assert said(app, "user") == ["Where is the kettle?"]
        assert len(said(app, "reply")) == 1
        after = record["state_after"]["vowels"]
        assert abs(after) > 0.005
        assert f"{after:+.2f}" in shown(app, "state")
        assert ("▲" if after > 0 else "▼") in shown(app, "state")
        assert f"{record['volatility'][0]:.3f} of 0.030" in shown(app, "volatility")
        assert f"95th percentile {record['volatility'][1]:.3f}" in shown(app, "volatility")
        assert f"{record['recalled'][0]['score']:.2f}" in shown(app, "recalled")
        assert "kettle" in shown(app, "recalled")
        assert all(frame["name"] in shown(app, "frames") for frame in record["frames"])
        assert "off" in shown(app, "dialogue")
        assert f"vowels {after:+.2f}" in said(app, "status")[0]

    chat(home, tiny_llama, steps)


def test_the_reply_on_the_screen_is_the_reply_on_disk(home_with: Callable[..., Home], tiny_llama: Any) -> None:
    home = home_with()

    async def steps(app: ChatApp, pilot: Pilot[None]) -> None:
        await say(app, pilot, "One.")
        await say(app, pilot, "Two.")
        record = last_record(home.sessions)
        assert record is not None
        kept = "".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in record["reply"])
        assert said(app, "reply")[1] == kept

    chat(home, tiny_llama, steps)


def test_escape_stops_a_reply_keeps_it_and_the_chat_goes_on(home_with: Callable[..., Home], endless_llama: Any) -> None:
    home = home_with(reply=ENDLESS)

    async def steps(app: ChatApp, pilot: Pilot[None]) -> None:
        app.query_one(Prompt).value = "Tell me everything."
        await pilot.press("enter")
        assert app.query_one(Prompt).disabled
        await until(pilot, lambda: app.query_one(Stage).doing == "replying")
        await pilot.press("escape")
        await until(pilot, lambda: not app.is_answering)
        record = last_record(home.sessions)
        assert record is not None
        assert record["ended"] == "cancelled"
        assert record["reply_tokens"]
        assert "stopped here" in said(app, "status")[0]
        assert app.focused is app.query_one(Prompt)
        assert app.query_one(Stage).doing == ""

    chat(home, endless_llama, steps)


def test_leaving_in_the_middle_of_a_reply_keeps_what_was_said(
    home_with: Callable[..., Home], endless_llama: Any
) -> None:
    home = home_with(reply=ENDLESS)

    async def steps(app: ChatApp, pilot: Pilot[None]) -> None:
        app.query_one(Prompt).value = "Tell me everything."
        await pilot.press("enter")
        await until(pilot, lambda: app.query_one(Stage).doing == "replying")
        await pilot.press("ctrl+c")
        await until(pilot, lambda: not app.is_running)

    app = chat(home, endless_llama, steps)
    record = last_record(home.sessions)
    assert record is not None
    assert (record["ended"], bool(record["reply_tokens"])) == ("cancelled", True)
    assert (app.failure, app.return_code) == (None, 0)


def test_a_turn_that_fails_says_why_and_can_be_sent_again(home_with: Callable[..., Home], tiny_llama: Any) -> None:
    home = home_with()

    async def steps(app: ChatApp, pilot: Pilot[None]) -> None:
        with full_disk():
            await say(app, pilot, "Are you there?")
        assert len(said(app, "error")) == 1
        assert "the disk is full" in said(app, "error")[0]
        assert "→ free some space" in said(app, "error")[0]
        assert "+0.00  · +0.00" in shown(app, "state")
        assert app.query_one(Prompt).value == "Are you there?"
        await pilot.press("enter")
        await until(pilot, lambda: not app.is_answering)
        assert len(said(app, "error")) == 1
        assert last_record(home.sessions) is not None

    chat(home, tiny_llama, steps)


def test_the_panel_needs_room_unless_the_user_wants_it(home_with: Callable[..., Home], tiny_llama: Any) -> None:
    async def steps(app: ChatApp, pilot: Pilot[None]) -> None:
        panel = app.query_one(Panel)
        assert not panel.display
        await pilot.resize_terminal(90, 30)
        await until(pilot, lambda: panel.display)
        await pilot.press("ctrl+b")
        assert not panel.display
        await pilot.press("ctrl+b")
        await pilot.resize_terminal(89, 30)
        await pilot.pause()
        assert panel.display

    chat(home_with(), tiny_llama, steps, size=(89, 30))


def test_up_and_down_walk_through_what_was_sent(home_with: Callable[..., Home], tiny_llama: Any) -> None:
    async def steps(app: ChatApp, pilot: Pilot[None]) -> None:
        await say(app, pilot, "one")
        await say(app, pilot, "two")
        prompt = app.query_one(Prompt)
        await pilot.press("t", "h", "up")
        assert prompt.value == "two"
        await pilot.press("up", "up")
        assert prompt.value == "one"
        await pilot.press("down", "down")
        assert prompt.value == "th"

    chat(home_with(reply={"max_tokens": 1}), tiny_llama, steps)


def test_inner_speech_is_shown_only_when_asked_for(home_with: Callable[..., Home], tiny_llama: Any) -> None:
    home = home_with(dialogue={"mode": "silent", "rounds": 1, "voices": 1})

    async def steps(app: ChatApp, pilot: Pilot[None]) -> None:
        await pilot.press("ctrl+o")
        assert not isinstance(app.screen, InnerSpeech)
        await say(app, pilot, "Who pays for it?")
        record = last_record(home.sessions)
        assert record is not None
        (utterance,) = record["inner_speech"]
        assert f"1 utterance · {record['dialogue_ended']}" in shown(app, "dialogue")
        assert not [text for text in screen_texts(app) if utterance["question"] in text]
        await pilot.press("ctrl+o")
        assert isinstance(app.screen, InnerSpeech)
        assert [text for text in screen_texts(app) if utterance["question"] in text]
        await pilot.press("escape")
        assert not isinstance(app.screen, InnerSpeech)

    chat(home, tiny_llama, steps)


def screen_texts(app: ChatApp) -> list[str]:
    return [str(widget.render()) for widget in app.screen.query("Static")]


def test_a_pasted_text_of_several_lines_is_kept_whole(home_with: Callable[..., Home], tiny_llama: Any) -> None:
    from textual import events

    async def steps(app: ChatApp, pilot: Pilot[None]) -> None:
        prompt = app.query_one(Prompt)
        prompt.value = "Read: "
        prompt.cursor_position = 6
        prompt.post_message(events.Paste("first line\nsecond line\n"))
        await pilot.pause()
        assert prompt.value == "Read: first line second line"

    chat(home_with(), tiny_llama, steps)


def test_an_agent_that_cannot_be_opened_ends_the_chat_with_its_error(
    home_with: Callable[..., Home], tiny_llama: Any
) -> None:
    home = home_with()

    async def steps(app: ChatApp, pilot: Pilot[None]) -> None:
        await until(pilot, lambda: not app.is_running)

    with Agent.open(home, model=tiny_llama):
        app = chat(home, tiny_llama, steps)
    assert isinstance(app.failure, HomeLocked)


def test_leaving_while_the_agent_is_being_opened_stops_the_opening(home_with: Callable[..., Home]) -> None:
    began, left = threading.Event(), threading.Event()

    def open_agent(progress: Progress) -> Agent:
        progress.step("reading the contrast texts", 1, 2)
        began.set()
        assert left.wait(60)
        progress.step("reading the contrast texts", 2, 2)
        raise AssertionError("it went on")

    app = ChatApp(home_with(), open_agent)

    async def run() -> None:
        async with app.run_test(size=WIDE) as pilot:
            await until(pilot, began.is_set)
            assert "1 of 2" in shown(app, "stage")
            await pilot.press("ctrl+q")
            left.set()
            await until(pilot, lambda: not app.is_running)

    asyncio.run(run())
    assert isinstance(app.failure, KeyboardInterrupt)
    assert app.agent is None


def test_the_state_bar_spans_from_cap_to_cap(home_with: Callable[..., Home]) -> None:
    axes = {"calm": {"cap": 1.0}, "long_name_of_an_axis_that_nobody_would_give": {"cap": 2.0}}
    settings = home_with().settings.model_copy(update={"state": StateSettings.model_validate({"axes": axes})})

    class Alone(App[None]):
        def compose(self) -> Any:
            yield Panel(settings)

    async def bars(values: dict[str, float]) -> list[str]:
        app = Alone()
        async with app.run_test(size=WIDE):
            app.query_one(Panel).show_state(values, values)
            return [line for line in shown(app, "state").splitlines() if "┼" in line]

    full, empty = asyncio.run(bars({"calm": 1.0, "long_name_of_an_axis_that_nobody_would_give": 0.0}))
    assert full.split("┼")[1] == full[-1] * (len(full) // 2)
    assert set(full.split("┼")[0]) == set(empty) - {"┼"}
    low, _ = asyncio.run(bars({"calm": -0.5, "long_name_of_an_axis_that_nobody_would_give": 0.0}))
    assert low.split("┼")[0].count(full[-1]) == len(full) // 4
    assert full[-1] not in low.split("┼")[1]


def test_the_command_prints_the_error_and_leaves_the_terminal(tmp_path: Path) -> None:
    home = make_home(tmp_path / "home", tmp_path / "nothing-here")
    child = pexpect.spawn(
        sys.executable,
        ["-m", "overlay.cli", "chat", "--home", str(home.folder)],
        env=os.environ | {"TERM": "xterm-256color", "OMP_NUM_THREADS": "1"},
        dimensions=(36, 120),
        timeout=120,
        encoding="utf-8",
    )
    child.expect(pexpect.EOF)
    child.close()
    shown_last = child.before.rpartition("\x1b[?1049l")[2]
    assert "overlay: " in shown_last
    assert "nothing-here" in shown_last
    assert child.exitstatus == 1
