"""The inner dialogue: it ends, it is reproducible, and every part of every context says where it came from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from toy_axis import BUDGET

from overlay.axes import Axis
from overlay.documents import parse_document
from overlay.errors import DocumentError
from overlay.inner import (
    Accumulator,
    Dialogue,
    DialogueSettings,
    Influence,
    State,
    StateSettings,
    Voice,
    audit,
    read_voices,
)
from overlay.inner.dialogue import DAMPING, FIXED_POINT, run_dialogue
from overlay.inner.ledger import Segment, SourcedMessage
from overlay.model import Row, VolatilityGauge

ROOT = Path(__file__).parents[2]
SITUATION = "The pump stands still and the cellar fills."
QUESTIONS = [("ledger", "What is left?"), ("other_side", "Who is not here?"), ("ledger", "Who pays?")]
VOICES = [
    Voice(name="first", description="One.", mask="You count.", max_tokens=10),
    Voice(name="second", description="Two.", mask="You look.", max_tokens=10),
]


@pytest.fixture(scope="module")
def influence(toy_axis: Axis, tiny_gauge: VolatilityGauge) -> Influence:
    return Influence([toy_axis], tiny_gauge, BUDGET)


def talk(
    influence: Influence,
    *,
    gain: float = 0.3,
    cap: float = 3.0,
    rounds: int = 3,
    seed: int = 1,
    start: float = 0.0,
    voices: list[Voice] = VOICES[:1],
    opening: Sequence[SourcedMessage] = (),
    dialogue: DialogueSettings | None = None,
) -> Dialogue:
    settings = StateSettings(axes={"vowels": Accumulator(gain=gain, cap=cap)})
    return run_dialogue(
        SITUATION,
        QUESTIONS,
        voices,
        State({"vowels": start}),
        model=influence.gauge.model,
        influence=influence,
        settings=settings,
        dialogue=dialogue or DialogueSettings(rounds=rounds),
        consulted={voice.name: voice for voice in voices},
        seed=seed,
        opening=opening,
    )


@pytest.mark.parametrize("rounds", [1, 3, 8])
def test_what_moves_nothing_ends_after_one_round_at_a_fixed_point(influence: Influence, rounds: int) -> None:
    found = talk(influence, gain=0.0, rounds=rounds, start=0.7)
    assert found.ended == "fixed point" and [said.round for said in found.utterances] == [1]
    assert found.state.values == {"vowels": pytest.approx(0.7)}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("rounds", [1, 2, 5])
def test_it_goes_on_while_something_moves_and_stops_at_the_round_limit(
    influence: Influence, seed: int, rounds: int
) -> None:
    found = talk(influence, gain=0.3, rounds=rounds, seed=seed)
    by_round: dict[int, float] = {}
    for change in found.changes:
        number = int(change.cause.split("round ")[1].split()[0])
        by_round[number] = by_round.get(number, 0.0) + change.after - change.before
    moved = [abs(by_round[number]) for number in sorted(by_round)]
    assert [said.round for said in found.utterances] == list(range(1, len(moved) + 1)) and len(moved) <= rounds
    assert all(step >= FIXED_POINT for step in moved[:-1])
    assert found.ended == ("fixed point" if moved[-1] < FIXED_POINT else "round limit")
    assert found.ended == "fixed point" or len(moved) == rounds


@pytest.mark.parametrize("seed", range(4))
def test_no_round_moves_the_state_further_than_the_one_before(influence: Influence, seed: int) -> None:
    """Resonance is measured and damped: the moves shrink like 0.9^r, whatever the gain."""
    found = talk(influence, gain=2.0, cap=3.0, rounds=8, seed=seed)
    moves: dict[int, float] = {}
    for change in found.changes:
        number = int(change.cause.split("round ")[1].split()[0])
        moves[number] = moves.get(number, 0.0) + change.after - change.before
    for number in range(1, len(moves)):
        assert abs(moves[number + 1]) <= max(DAMPING * abs(moves[number]), FIXED_POINT) + 1e-9
    for one in found.resonance:
        damped = [change for change in found.changes if change.cause.startswith(f"damped: round {one.round} ")]
        assert bool(damped) == one.damped


def test_a_state_at_its_cap_is_a_fixed_point_however_strong_the_resonance(influence: Influence) -> None:
    pushed = [talk(influence, gain=2.0, cap=1.0, rounds=8, start=start) for start in (-1.0, 1.0)]
    for found in pushed:
        values = [change.after for change in found.changes]
        assert all(abs(value) <= 1.0 for value in values)
        assert len(found.utterances) <= 8


def test_the_same_seed_says_the_same_and_another_seed_something_else(influence: Influence) -> None:
    assert talk(influence, voices=VOICES) == talk(influence, voices=VOICES)
    said = {talk(influence, seed=seed, voices=VOICES).utterances for seed in range(4)}
    assert len(said) == 4


def test_what_a_voice_says_first_does_not_depend_on_the_other_voices(influence: Influence) -> None:
    alone = talk(influence, rounds=1).utterances[0]
    together = talk(influence, rounds=1, voices=VOICES).utterances[0]
    assert alone == together


def test_the_state_moves_by_inner_speech_alone_and_says_by_whose(influence: Influence) -> None:
    found = talk(influence, rounds=2, voices=VOICES)
    assert {change.source for change in found.changes} <= {"inner speech", "damping"}
    said = [change.cause for change in found.changes if not change.cause.startswith("damped")]
    assert said == [f"{one.voice}, round {one.round}" for one in found.utterances if one.text]
    assert found.changes[-1].after == found.state.values["vowels"]
    before = [0.0, *[change.after for change in found.changes]]
    assert [change.before for change in found.changes] == before[:-1]


def test_questions_are_taken_in_turn(influence: Influence) -> None:
    found = talk(influence, rounds=2, voices=VOICES)
    asked = [(said.frame, said.question) for said in found.utterances]
    assert asked == [QUESTIONS[0], QUESTIONS[1], QUESTIONS[2], QUESTIONS[0]]


def test_every_part_of_a_voices_context_says_where_it_came_from(influence: Influence) -> None:
    found = talk(influence, rounds=2, voices=VOICES)
    assert [context.purpose for context in found.contexts] == ["voice:first", "voice:second"] * 2
    for context, said in zip(found.contexts, found.utterances, strict=True):
        (user,) = context.messages
        sources = [segment.source for segment in user.segments]
        assert sources[0] == "user" and user.segments[0].text == SITUATION
        assert sources[-1] == f"frame:{said.frame}" and said.question in user.segments[-1].text
        other = "second" if said.voice == "first" else "first"
        assert sources[1:-2] == ([f"voice:{other}"] if said.round == 2 else [])
        assert sources[-2] == f"mask:{said.voice}"
        assert "".join(segment.text for segment in user.segments) == context.chat[0].text


def test_a_voice_hears_what_the_others_said_in_the_round_before_and_not_itself(influence: Influence) -> None:
    found = talk(influence, rounds=2, voices=VOICES)
    first_words = {said.voice: said.text for said in found.utterances if said.round == 1}
    for context, voice in zip(found.contexts[2:], ("first", "second"), strict=True):
        heard = [segment.text for segment in context.messages[0].segments if segment.source.startswith("voice:")]
        other = "second" if voice == "first" else "first"
        assert heard == [f"\nAnother thought: {first_words[other]}"]


def test_inner_speech_in_voices_contexts_is_no_leak(influence: Influence) -> None:
    assert audit(talk(influence, rounds=3, voices=VOICES).contexts, ("vowel",)) == []


def test_what_all_voices_have_before_them_is_encoded_once(influence: Influence) -> None:
    model = influence.gauge.model
    opening = [
        SourcedMessage("system", (Segment("system", "You work on a ship, day and night."),)),
        SourcedMessage("user", (Segment("user", "The pump was repaired yesterday and the day before."),)),
        SourcedMessage("assistant", (Segment("reply", "Then let us look at the valve this time."),)),
    ]
    voices = [Voice(name=name, description="One.", mask=f"You are {name}.", max_tokens=4) for name in ("a", "b", "c")]
    model.prefixes.clear()
    before = model.prefixes.tokens_encoded
    found = talk(influence, rounds=3, voices=voices, opening=opening)
    shared = model.encode(Row(found.contexts[0].chat)).turn_start
    assert {model.encode(Row(context.chat)).turn_start for context in found.contexts} == {shared}
    assert model.prefixes.tokens_encoded - before == shared
    model.prefixes.limit, limit = 0, model.prefixes.limit
    try:
        assert talk(influence, rounds=3, voices=voices, opening=opening).utterances == found.utterances
    finally:
        model.prefixes.limit = limit


def test_a_sober_voice_speaks_as_if_there_were_no_state(influence: Influence) -> None:
    """`lean` 0 takes the state's intervention off this voice."""
    sober = [VOICES[0].model_copy(update={"lean": 0.0})]
    calm, moved = (talk(influence, gain=0.0, start=start, voices=sober).utterances for start in (0.0, 3.0))
    assert calm == moved


# --- copies, budgets, forbidden words ------------------------------------------------------------

ASKING = [
    Voice(name="first", description="One.", mask="You count.", max_tokens=10, consults=("second", "third")),
    Voice(name="second", description="Two.", mask="You look.", max_tokens=10, consults=("first", "third")),
    Voice(name="third", description="Three.", mask="You wait.", max_tokens=10),
]


def test_a_voice_opens_a_dialogue_of_its_own_down_to_the_depth(influence: Influence) -> None:
    for depth in range(4):
        settings = DialogueSettings(rounds=1, depth=depth)
        found = talk(influence, voices=ASKING, dialogue=settings)
        within = {said.within for said in found.utterances}
        assert max(map(len, within)) == min(depth, 2)
        # No voice consults one that it is being consulted by, so that two who ask each other come to an end.
        assert all(len({*said.within, said.voice}) == len(said.within) + 1 for said in found.utterances)
    asked = next(said for said in found.utterances if said.within == ("first",) and said.voice == "second")
    context = next(one for one in found.contexts if one.purpose == "voice:first>second")
    thought = next(said.text for said in found.utterances if said.voice == "first" and not said.within)
    assert thought in context.chat[-1].text and asked.question in context.chat[-1].text


def test_a_consultation_comes_back_as_one_observation(influence: Influence) -> None:
    found = talk(influence, voices=ASKING, dialogue=DialogueSettings(rounds=1, depth=1))
    causes = [change.cause for change in found.changes]
    assert causes == ["first, round 1", "second, round 1", "third, round 1", "copies for first, round 1",
                      "copies for second, round 1"]  # fmt: skip
    assert audit(found.contexts, ("vowel",)) == []


@pytest.mark.parametrize("tokens", [1, 7, 25, 60, 200])
def test_the_token_budget_is_kept_and_said(influence: Influence, tokens: int) -> None:
    found = talk(influence, voices=ASKING, dialogue=DialogueSettings(rounds=8, depth=2, tokens=tokens))
    assert found.tokens <= tokens
    assert found.ended in ("token budget", "fixed point") or found.tokens + len(ASKING) <= tokens


def test_forbidden_words_are_in_no_inner_speech_and_what_was_avoided_is_known(influence: Influence) -> None:
    free = talk(influence, rounds=2, voices=VOICES)
    letters = {letter for said in free.utterances for letter in said.text.lower() if letter.isalpha()}
    word = sorted(letters)[0]
    mute = [VOICES[0].model_copy(update={"forbids": (f"{word}*",)}), VOICES[1]]
    found = talk(influence, rounds=2, voices=mute)
    said = [one for one in found.utterances if one.voice == "first"]
    words = " ".join("".join(c if c.isalnum() else " " for c in one.text.lower()) for one in said).split()
    assert not any(one.startswith(word) for one in words)


def test_a_mask_pushes_its_own_copy_of_the_state_only(influence: Influence) -> None:
    pushed = [VOICES[0].model_copy(update={"pushes": {"vowels": 1.5}})]
    plain = talk(influence, gain=0.0, rounds=1)
    moved = talk(influence, gain=0.0, rounds=1, voices=pushed)
    leaning = talk(influence, gain=0.0, rounds=1, start=1.5)
    assert moved.utterances == leaning.utterances and moved.utterances != plain.utterances
    assert moved.state.values == plain.state.values


# --- voices --------------------------------------------------------------------------------------


def test_the_shipped_voices_parse_and_are_at_least_two() -> None:
    voices = read_voices(ROOT / "memory" / "voices")
    assert len(voices) >= 2 and len({voice.name for voice in voices}) == len(voices)


def test_a_folder_without_voices_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match="no voice"):
        read_voices(tmp_path)


def test_a_voice_with_a_mistake_is_told_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("name: a\ndescription: x\nmask: You are.\ntemprature: 0.2\n")
    with pytest.raises(DocumentError, match=r"a\.yaml:4: 'temprature' is not a known key"):
        read_voices(tmp_path)


def test_two_voices_of_one_name_are_refused(tmp_path: Path) -> None:
    """They would share their seed, and each would take the other's words for its own."""
    for file in ("a", "b"):
        (tmp_path / f"{file}.yaml").write_text("name: same\ndescription: x\nmask: You are.\n")
    with pytest.raises(DocumentError, match="'same'"):
        read_voices(tmp_path)


def test_a_consulted_voice_that_does_not_exist_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("name: a\ndescription: x\nmask: You are.\nconsults: [nobody]\n")
    with pytest.raises(DocumentError, match=r"a\.yaml:4: consults\[0\] is 'nobody'"):
        read_voices(tmp_path)


def test_a_voice_that_pushes_an_axis_that_is_not_there_is_told_with_its_line(tmp_path: Path) -> None:
    written = "name: a\ndescription: x\nmask: You are.\npushes:\n  calm: 0.5\n  clam: 0.5\n"
    (tmp_path / "a.yaml").write_text(written)
    with pytest.raises(DocumentError, match=r"a\.yaml:6: the voice 'a' pushes the axis 'clam'") as caught:
        read_voices(tmp_path, {"calm", "joy"})
    assert "calm, joy" in caught.value.next_step
    with pytest.raises(DocumentError, match=r"a\.yaml:5: .*'calm'"):
        read_voices(tmp_path, ())
    (voice,) = read_voices(tmp_path, {"calm", "clam"})
    assert read_voices(tmp_path) == (voice,) and voice.pushes == {"calm": 0.5, "clam": 0.5}


# --- settings ------------------------------------------------------------------------------------


@pytest.mark.parametrize("written", ["off", '"off"', "Off", "false"])
def test_off_may_be_written_bare(written: str) -> None:
    assert parse_document(f"mode: {written}", DialogueSettings, "agent.yaml").mode == "off"


@pytest.mark.parametrize("written", ["on", "true", "0", "loud"])
def test_what_is_no_mode_is_still_refused(written: str) -> None:
    with pytest.raises(DocumentError, match=r"agent\.yaml:1: mode"):
        parse_document(f"mode: {written}", DialogueSettings, "agent.yaml")
