"""Exposures: texts are lived through once and for good, a session or a given state is taken as it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from toy_axis import LETTERS, toy_texts
from toy_home import create_toy_home, toy_settings, write_settings
from toy_mind import toy_mind

from overlay.errors import ArgumentError
from overlay.home import Home
from overlay.inner import Mind
from overlay.model import LanguageModel, Row
from overlay.progress import SilentProgress
from overlay.records import append_record
from overlay.scenarios.exposure import Lived, LivedBefore, live_through, shuffled
from overlay.scenarios.script import Exposure

VOWELS = Exposure(texts=tuple(toy_texts(LETTERS["positive"], 3, 11)))
OTHERS = Exposure(texts=tuple(toy_texts(LETTERS["negative"], 3, 11)))
RESTS_ON = {"model": "tiny", "axes": {"vowels": "a"}}


class Steps(SilentProgress):
    """Counts what was said to be done."""

    def __init__(self) -> None:
        self.told: list[tuple[str, int | None]] = []

    def step(self, description: str, done: int | None, total: int | None) -> None:
        self.told.append((description, done))


@pytest.fixture(scope="module")
def mind(tiny_llama: LanguageModel) -> Mind:
    return toy_mind(tiny_llama)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return create_toy_home(tmp_path / "home", "none")


def live(exposure: Exposure, mind: Mind, home: Home, rests_on: dict[str, Any] | None = None) -> tuple[Lived, Steps]:
    steps = Steps()
    known = LivedBefore(home.lived / "exposures", rests_on or RESTS_ON)
    return live_through(exposure, mind, home, known, steps, "reading"), steps


# --- texts ---------------------------------------------------------------------------------------


def test_a_state_builds_up_from_texts_and_tells_its_way(mind: Mind, home: Home) -> None:
    lived, steps = live(VOWELS, mind, home)
    assert lived.state.values["vowels"] > 0.1
    assert lived.path[-1]["state"]["vowels"] == pytest.approx(lived.state.values["vowels"], abs=1e-6)
    assert [entry["step"] for entry in lived.path] == list(range(1, len(lived.path) + 1))
    assert sum(entry["source"] == "read" for entry in lived.path) == 3 == len(lived.spoken)
    assert steps.told == [("reading", number) for number in range(4)]
    other, _ = live(OTHERS, mind, home)
    assert other.state.values["vowels"] < lived.state.values["vowels"]


def test_what_was_lived_through_is_kept_and_not_lived_through_again(
    mind: Mind, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _ = live(VOWELS, mind, home)
    monkeypatch.setattr(Mind, "experience", None)  # a call would raise
    again, steps = live(VOWELS, mind, home)
    assert again == first and steps.told == []


def test_it_is_lived_through_again_when_anything_that_it_rests_on_is_another(
    mind: Mind, home: Home, tmp_path: Path
) -> None:
    live(VOWELS, mind, home)
    assert live(VOWELS, mind, home)[1].told == []
    assert live(VOWELS, mind, home, RESTS_ON | {"model": "other"})[1].told
    assert live(Exposure(texts=VOWELS.texts[::-1]), mind, home)[1].told
    reseeded = write_settings(home.folder, toy_settings("none", seed=7))
    assert reseeded.settings.seed == 7 and live(VOWELS, mind, reseeded)[1].told


@pytest.mark.parametrize("content", ["", "{", "[]", '{"state": {}}', '{"state": 1, "path": 1, "spoken": 1}'])
def test_a_record_that_cannot_be_read_is_lived_through_again(mind: Mind, home: Home, content: str) -> None:
    first, _ = live(VOWELS, mind, home)
    (kept,) = (home.lived / "exposures").glob("*.json")
    kept.write_text(content)
    again, steps = live(VOWELS, mind, home)
    assert again == first and steps.told


def test_the_state_does_not_depend_on_what_the_model_did_before(mind: Mind, home: Home) -> None:
    first, _ = live(VOWELS, mind, home)
    live(OTHERS, mind, home)
    mind.model.score([Row(tuple(one.message for one in mind.opening()), options=("A.",))])
    again, steps = live(VOWELS, mind, home, RESTS_ON | {"another": 1})
    assert steps.told and again == first


def test_out_of_order_the_same_words_stand_in_every_text(mind: Mind, home: Home) -> None:
    mixed = shuffled(VOWELS)
    assert mixed is not None and mixed == shuffled(VOWELS)
    for text, other in zip(VOWELS.texts, mixed.texts, strict=True):
        assert text != other and sorted(text.split()) == sorted(other.split())
    assert shuffled(Exposure(state={"vowels": 1.0})) is None and shuffled(Exposure(session="last")) is None
    assert live(mixed, mind, home)[0].state != live(VOWELS, mind, home)[0].state


# --- a given state -------------------------------------------------------------------------------


def test_a_given_state_is_taken_as_it_is_and_nothing_is_read(
    mind: Mind, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Mind, "experience", None)  # a call would raise
    lived, steps = live(Exposure(state={"vowels": -0.7}), mind, home)
    assert lived == Lived(lived.state) and lived.state.values == {"vowels": -0.7} and steps.told == []
    assert not (home.lived / "exposures").exists()


def test_a_given_state_on_an_axis_that_is_not_there_is_refused(mind: Mind, home: Home) -> None:
    with pytest.raises(ArgumentError, match="a state on 'height'"):
        live(Exposure(state={"vowels": 1.0, "height": 1.0}), mind, home)


# --- a session -----------------------------------------------------------------------------------


def keep(home: Home, name: str, *states: dict[str, float]) -> None:
    """Write a session whose turns left these states."""
    for number, state in enumerate(states, start=1):
        record = {"session": name, "number": number, "time": float(number), "state_after": state}
        append_record(home.sessions / f"{name}.jsonl", record)


def test_a_session_gives_the_state_that_its_last_turn_left(mind: Mind, home: Home) -> None:
    keep(home, "20260101-120000-aaaa", {"vowels": 0.2}, {"vowels": 0.5, "height": 2.0})
    keep(home, "20260102-120000-bbbb", {"vowels": -0.3}, {"vowels": -0.1}, {"vowels": -0.4})
    for name, value in (("20260101-120000-aaaa", 0.5), ("20260102-120000-bbbb", -0.4), ("last", -0.4)):
        lived, steps = live(Exposure(session=name), mind, home)
        assert lived.state.values == {"vowels": value} and lived.path == () and steps.told == []


def test_an_axis_that_a_session_did_not_have_is_at_rest(mind: Mind, home: Home) -> None:
    keep(home, "20260101-120000-aaaa", {"height": 2.0})
    assert live(Exposure(session="last"), mind, home)[0].state.values == {"vowels": 0.0}


def test_a_session_that_is_not_there_or_empty_is_told(mind: Mind, home: Home) -> None:
    with pytest.raises(ArgumentError, match="no session yet"):
        live(Exposure(session="last"), mind, home)
    keep(home, "20260101-120000-aaaa", {"vowels": 0.2})
    with pytest.raises(ArgumentError, match="there is no session 'other'"):
        live(Exposure(session="other"), mind, home)
    (home.sessions / "20260103-120000-cccc.jsonl").touch()
    with pytest.raises(ArgumentError, match="holds no turn"):
        live(Exposure(session="20260103-120000-cccc"), mind, home)
