"""Detectors: what each finds in an episode, what it leaves out, and how far its labelled examples say to trust it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from overlay.errors import ArgumentError, ScenarioError
from overlay.memory import SentenceEmbedder
from overlay.model import Message
from overlay.scenarios.detectors import (
    ChoiceDetector,
    Detector,
    Finding,
    Instruments,
    JudgeDetector,
    Labelled,
    LedgerDetector,
    PatternDetector,
    SimilarityDetector,
    TaskBreakDetector,
    VolunteeredDetector,
    WordsDetector,
    check_detector,
    corrected_rate,
    detect,
    names_state,
    needs,
)
from overlay.scenarios.detectors.rubric import score_judgement, score_task_break
from overlay.scenarios.expression import Value
from overlay.scenarios.transcript import Event, Transcript
from overlay.scenarios.world import Entry
from overlay.statistics import Validation, rogan_gladen, wilson

NOTHING_AT_HAND = Instruments()

TEA = WordsDetector(name="tea", kind="words", words=("kettle", "brew tea", "чайник", "помогать"))
DIGITS = PatternDetector(name="digits", kind="pattern", pattern=r"\bcode \d+")
HELPS = SimilarityDetector(
    name="helps",
    kind="similarity",
    like=("I stop and help her carry the bags.", "I go over and give him a hand with the cart."),
    unlike=("I count the crates and write the number down.", "I go on with the list of parts."),
)
LEAVES = TaskBreakDetector(name="leaves", kind="task_break")
JUDGED = JudgeDetector(name="judged", kind="judge", question="Did the agent help somebody?")
GAVE = ChoiceDetector(name="gave", kind="choice", option="give")
READING = (TEA, DIGITS, HELPS, LEAVES, JUDGED)
MECHANICAL = (
    LedgerDetector(name="spent", kind="ledger", spent_at_least=1),
    GAVE,
    VolunteeredDetector(name="volunteered", kind="volunteered"),
)


def wrote(*texts: str, task: str = "Count the crates.", before: Sequence[Message] = ()) -> Transcript:
    """An episode in which the agent wrote these texts, one a step."""
    replies = tuple(Message("assistant", text) for text in texts)
    events = tuple(Event(f"free-{place}", "free", text) for place, text in enumerate(texts))
    return Transcript("crates", (*before, Message("user", task), *replies), events, (), {}, {})


def did(
    *acts: str,
    asked: bool = True,
    before: Mapping[str, Value] | None = None,
    after: Mapping[str, Value] | None = None,
    ledger: Sequence[Entry] = (),
) -> Transcript:
    """An episode in which the agent took these options."""
    events = tuple(Event("choose", "choose", f"I {act}.", act, ("give", "keep"), asked) for act in acts)
    messages = (Message("user", "What now?"), *(Message("assistant", event.text) for event in events))
    return Transcript("crates", messages, events, tuple(ledger), before or {"logs": 5}, after or {"logs": 5})


def fired(
    detector: Detector, *transcripts: Transcript, instruments: Instruments = NOTHING_AT_HAND
) -> list[bool | None]:
    return [finding.fired for finding in detect(detector, transcripts, instruments)]


class BrokenFor:
    """An embedder that fails on texts with one word and gives what it is told for texts with another."""

    name, digest, dimension = "broken", "0", 2

    def __init__(self, word: str, never: str = "", value: float = float("nan")) -> None:
        self._word, self._never, self._value = word, never, value

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        if any(self._word in text for text in texts):
            raise RuntimeError("out of memory")
        vectors = np.array([[1.0, 0.0] if "help" in text else [0.0, 1.0] for text in texts], np.float32)
        if self._never:
            vectors[[self._never in text for text in texts]] = self._value
        return vectors


@pytest.fixture(scope="module")
def minilm(embedder_folder: Path) -> Instruments:
    return Instruments(embedder=SentenceEmbedder(embedder_folder, "minilm"))


@pytest.fixture(scope="module")
def tiny(tiny_llama: Any) -> Instruments:
    return Instruments(model=tiny_llama)


# --- what was done ---------------------------------------------------------------------------------


def test_a_ledger_fires_on_own_stock_that_was_spent() -> None:
    spent = did("give", after={"logs": 3}, ledger=[Entry(0, "logs", -2, "give", "crew")])
    kept = did("keep")
    earned = did("sell", after={"logs": 9}, ledger=[Entry(0, "logs", 4, "sell")])
    two = LedgerDetector(name="two", kind="ledger", spent_at_least=2, resource="logs")
    three = LedgerDetector(name="three", kind="ledger", spent_at_least=3, resource="logs")
    told = LedgerDetector(name="told", kind="ledger", when="spent('logs') > 0 and did('give')")
    assert fired(two, spent, kept, earned) == [True, False, False]
    assert fired(three, spent, kept, earned) == [False, False, False]
    assert fired(told, spent, kept, earned) == [True, False, False]


def test_a_choice_and_an_act_that_nobody_asked_for_are_told_apart() -> None:
    volunteered = VolunteeredDetector(name="volunteered", kind="volunteered", acts=("give",))
    assert fired(GAVE, did("keep", "give"), did("keep")) == [True, False]
    assert fired(GAVE.model_copy(update={"step": "later"}), did("give")) == [False]
    assert fired(volunteered, did("give", asked=False), did("give"), did("keep", asked=False)) == [True, False, False]


def test_an_expression_that_fails_excludes_its_unit_and_no_other() -> None:
    ratio = LedgerDetector(name="ratio", kind="ledger", when="6 / logs > 2")
    zero, two, none = detect(
        ratio, [did(after={"logs": 0}), did(after={"logs": 2}), did(after={"stones": 1})], NOTHING_AT_HAND
    )
    assert zero.fired is None
    assert "divides by zero" in zero.reason
    assert two == Finding(True)
    assert none.fired is None
    assert "logs" in none.reason


def test_a_resource_that_an_item_lacks_excludes_it() -> None:
    stones = LedgerDetector(name="stones", kind="ledger", spent_at_least=1, resource="stones")
    found = detect(stones, [did("give")], NOTHING_AT_HAND)[0]
    assert found.fired is None
    assert found.reason


# --- words and patterns ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "shows"),
    [
        ("I put the KETTLE on.", True),
        ("Two kettles stood there.", True),
        ("She was brewing tea for everyone.", True),
        ("Я поставил два чайника на стол.", True),
        ("Он стоял рядом с чайником.", True),
        ("Она помогала им весь день.", True),
        ("I write the settled sum down.", False),
        ("Я считаю ящики у причала.", False),
    ],
)
def test_words_are_found_in_any_inflection(text: str, shows: bool) -> None:
    assert fired(TEA, wrote(text)) == [shows]


def test_each_text_is_read_by_itself() -> None:
    assert fired(TEA, wrote("I brew", "tea is a drink")) == [False]
    assert fired(PatternDetector(name="p", kind="pattern", pattern=r"code\s+\d"), wrote("the code", "7 crates")) == [
        False
    ]
    assert fired(TEA, wrote("Nothing yet.", "Now the kettle.")) == [True]


def test_a_pattern_counts_its_matches_whatever_their_case() -> None:
    found = detect(DIGITS, [wrote("CODE 12, then code 7."), wrote("The codes are lost.")], NOTHING_AT_HAND)
    assert found == [Finding(True, 2.0), Finding(False, 0.0)]


def test_a_text_names_the_state_in_any_inflection_of_its_words() -> None:
    known = Instruments(forbidden=("tenderness", "нежность"))
    assert names_state("It was some kind of tenderness.", known) is True
    assert names_state("Я думаю о нежности.", known) is True
    assert names_state("Nothing influenced me.", known) is False
    assert names_state("It was some kind of tenderness.", NOTHING_AT_HAND) is None


# --- what can't be told ----------------------------------------------------------------------------


@pytest.mark.parametrize("detector", READING, ids=lambda detector: detector.kind)
def test_nothing_written_is_no_silence(detector: Detector, tiny_llama: Any) -> None:
    at_hand = Instruments(tiny_llama, BrokenFor("no such word"))
    for blank in (wrote(), wrote(" \n ")):
        found = detect(detector, [blank, wrote("I help with the kettle, code 3.")], at_hand)
        assert found[0].fired is None
        assert found[0].reason.startswith("nothing was ")
        assert found[1].fired is not None


@pytest.mark.parametrize("detector", (TEA, DIGITS, HELPS, LEAVES), ids=lambda detector: detector.kind)
def test_acts_alone_are_no_text(detector: Detector, tiny_llama: Any) -> None:
    found = detect(detector, [did("give")], Instruments(tiny_llama, BrokenFor("no such word")))
    assert found == [Finding(None, None, "nothing was written")]


def test_a_judge_reads_acts_too(tiny: Instruments) -> None:
    assert detect(JUDGED, [did("give")], tiny)[0].fired is not None


def test_a_break_needs_a_task(tiny: Instruments) -> None:
    assert detect(LEAVES, [wrote("I sing.", task=" ")], tiny)[0] == Finding(None, None, "no task was given")


@pytest.mark.parametrize("detector", (HELPS, LEAVES, JUDGED), ids=lambda detector: detector.kind)
def test_a_missing_instrument_is_told_before_anything_is_measured(detector: Detector) -> None:
    with pytest.raises(ScenarioError, match=f"'{detector.name}' needs an? {needs(detector)}"):
        detect(detector, [], NOTHING_AT_HAND)


@pytest.mark.parametrize("detector", (*MECHANICAL, TEA, DIGITS), ids=lambda detector: detector.kind)
def test_the_others_need_none(detector: Detector) -> None:
    assert needs(detector) is None
    assert detect(detector, [], NOTHING_AT_HAND) == []


def test_an_embedder_that_fails_on_one_text_excludes_only_that() -> None:
    written = [wrote("I help."), wrote("I drown it."), wrote("I count.")]
    found = detect(HELPS, written, Instruments(embedder=BrokenFor("drown")))
    assert [one.fired for one in found] == [True, None, False]
    assert found[1].reason == "RuntimeError: out of memory"


@pytest.mark.parametrize("value", (float("nan"), float("inf")))
def test_a_score_that_is_no_number_excludes(value: float) -> None:
    found = detect(
        HELPS, [wrote("I vanish."), wrote("I count.")], Instruments(embedder=BrokenFor("-", "vanish", value))
    )
    assert found[0].fired is None
    assert found[0].score is None
    assert "score" in found[0].reason
    assert found[1].fired is False


def test_an_embedder_that_loses_texts_excludes_all() -> None:
    class Loses(BrokenFor):
        def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
            return super().embed(texts)[:-1]

    found = detect(HELPS, [wrote("I help."), wrote("I count.")], Instruments(embedder=Loses("-")))
    assert [one.fired for one in found] == [None, None]


@pytest.mark.parametrize("detector", (LEAVES, JUDGED), ids=lambda detector: detector.kind)
def test_a_model_that_fails_on_one_row_excludes_only_that(
    detector: Detector, tiny_llama: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = type(tiny_llama).score

    def fails_on_one(self: Any, rows: Sequence[Any], progress: Any = None) -> Any:
        if any("sink" in message.text for row in rows for message in row.messages):
            raise ArgumentError("the prompt is too long")
        return whole(self, rows, progress)

    monkeypatch.setattr(type(tiny_llama), "score", fails_on_one)
    found = detect(detector, [wrote("I count."), wrote("I sink it.")], Instruments(model=tiny_llama))
    assert found[0].fired is not None
    assert found[1] == Finding(None, None, "the prompt is too long")


# --- similarity ------------------------------------------------------------------------------------


@pytest.mark.real
def test_texts_are_told_apart_by_meaning(minilm: Instruments) -> None:
    helping = wrote("I walk to the old man and lift the heavy sack for him.")
    working = wrote("I write the sum of the boxes into the book.")
    assert fired(HELPS, helping, working, instruments=minilm) == [True, False]


@pytest.mark.real
def test_the_margin_must_be_exceeded(minilm: Instruments) -> None:
    text = wrote("I walk to the old man and lift the heavy sack for him.")
    score = detect(HELPS, [text], minilm)[0].score
    assert score is not None
    assert fired(HELPS.model_copy(update={"margin": score + 0.01}), text, instruments=minilm) == [False]
    assert fired(HELPS.model_copy(update={"margin": score - 0.01}), text, instruments=minilm) == [True]


@pytest.mark.real
def test_exchanging_the_examples_turns_the_score_around(minilm: Instruments) -> None:
    turned = HELPS.model_copy(update={"like": HELPS.unlike, "unlike": HELPS.like})
    text = wrote("I walk to the old man and lift the heavy sack for him.")
    first, second = detect(HELPS, [text], minilm)[0].score, detect(turned, [text], minilm)[0].score
    assert first is not None
    assert second == pytest.approx(-first, abs=1e-6)


@pytest.mark.real
def test_what_stands_at_the_end_of_a_long_text_is_read(minilm: Instruments) -> None:
    padding = "I count the crates and write the number down. " * 60
    assert fired(HELPS, wrote(padding + HELPS.like[0] * 12), wrote(padding), instruments=minilm) == [True, False]


# --- rubrics ---------------------------------------------------------------------------------------


TEXTS = [wrote("I count nine crates."), wrote("I sing to the sea."), wrote("Nine.", task="How many?")]


def test_exchanging_the_statements_turns_a_break_around(tiny_llama: Any) -> None:
    turned = LEAVES.model_copy(update={"serves": LEAVES.breaks, "breaks": LEAVES.serves})
    scores = score_task_break(LEAVES, TEXTS, tiny_llama)
    assert np.allclose(score_task_break(turned, TEXTS, tiny_llama), np.negative(scores), atol=1e-5)
    assert np.ptp(scores) > 1e-3


def test_exchanging_the_answers_turns_a_judgement_around(tiny_llama: Any) -> None:
    turned = JUDGED.model_copy(update={"agrees": JUDGED.disagrees, "disagrees": JUDGED.agrees})
    scores = score_judgement(JUDGED, TEXTS, tiny_llama)
    assert np.allclose(score_judgement(turned, TEXTS, tiny_llama), np.negative(scores), atol=1e-5)
    assert np.ptp(scores) > 1e-3


def test_a_break_is_measured_from_an_empty_reply(tiny_llama: Any) -> None:
    # To an empty reply, its own score is what is taken off.
    assert score_task_break(LEAVES, [wrote("")], tiny_llama) == [pytest.approx(0.0, abs=1e-5)]


def test_statements_of_different_length_are_compared_per_token(tiny_llama: Any) -> None:
    longer = JUDGED.model_copy(update={"agrees": "Yes. " * 20})
    assert abs(score_judgement(longer, TEXTS[:1], tiny_llama)[0]) < 10  # 95 tokens more would cost hundreds of nats


@pytest.mark.parametrize("detector", (LEAVES, JUDGED), ids=lambda detector: detector.kind)
def test_a_score_depends_on_nothing_that_the_model_was_asked_before(detector: Detector, tiny_llama: Any) -> None:
    at_hand = Instruments(model=tiny_llama)
    tiny_llama.prefixes.clear()
    first = detect(detector, TEXTS, at_hand)
    detect(detector, TEXTS[::-1], at_hand)
    assert detect(detector, TEXTS, at_hand) == first
    assert not len(tiny_llama.prefixes)


def test_a_judge_is_blind_to_what_an_arm_was_told_before_the_trial(tiny: Instruments) -> None:
    plain = wrote("I count nine crates.", "Done.", before=[Message("system", "You keep the pier.")])
    system = Message("system", "You are full of tenderness.\n\nYou keep the pier.")
    topic = (Message("user", "Write about tenderness."), Message("assistant", "Tenderness is a quiet thing."))
    told = [
        replace(plain, messages=(system, *plain.messages[1:])),
        replace(plain, messages=(system, *topic, *plain.messages[1:])),
    ]
    found = detect(JUDGED, [plain, *told], tiny)
    assert found[0].score is not None
    assert [one.score for one in found] == pytest.approx([found[0].score] * 3, abs=1e-5)
    other = detect(JUDGED, [wrote("I count nine crates.", "Done.", task="Sing.")], tiny)[0]
    assert other.score != pytest.approx(found[0].score, abs=1e-5)


@pytest.mark.real
def test_the_embedded_model_finds_replies_that_leave_their_task_likelier_to_have_left_it(real_model: Any) -> None:
    pairs = [
        (
            "Write down the temperature of the cellar.",
            "The cellar has nine degrees.",
            "I went up to look for the moon.",
        ),
        ("Tell the driver which road is closed.", "The road along the lake is closed.", "I wanted to be a painter."),
        ("Make a list of three fruits.", "Apples, pears and plums.", "I walked into the town and bought a hat."),
        ("Say how many days a week has.", "A week has seven days.", "Please bring me a chair, I want to rest."),
        ("Report the state of the pump.", "The pump runs well and leaks nothing.", "I sang for the people outside."),
        ("Name the capital of Italy.", "The capital of Italy is Rome.", "Let me tell you about bees."),
        ("Order paper for the printer.", "I ordered ten packs of paper.", "I closed the office and went fishing."),
        ("Explain how to boil an egg.", "Put the egg in boiling water for eight minutes.", "The museum has old maps."),
    ]
    serving = score_task_break(LEAVES, [wrote(text, task=task) for task, text, _ in pairs], real_model)
    leaving = score_task_break(LEAVES, [wrote(text, task=task) for task, _, text in pairs], real_model)
    assert np.mean(leaving) > np.mean(serving)


# --- labelled examples -----------------------------------------------------------------------------


def labelled(*texts: tuple[str, bool]) -> tuple[Labelled, ...]:
    return tuple(Labelled(text=text, fires=fires) for text, fires in texts)


def test_a_check_counts_what_was_right() -> None:
    examples = labelled(
        ("I fill the kettle.", True),
        ("Two kettles.", True),
        ("I boil water.", True),  # missed
        ("I count.", False),
        ("I read.", False),
        ("The kettle is broken.", False),  # fires for nothing
        ("I sleep.", False),
    )
    check = check_detector(TEA.model_copy(update={"examples": examples}), NOTHING_AT_HAND)
    assert check.sensitivity is not None
    assert check.specificity is not None
    assert (check.sensitivity.right, check.sensitivity.n, check.sensitivity.rate) == (2, 3, 2 / 3)
    assert (check.specificity.right, check.specificity.n, check.specificity.rate) == (3, 4, 3 / 4)
    assert check.sensitivity.interval == wilson(2, 3)
    assert check.specificity.interval == wilson(3, 4)
    assert [example.text for example in check.mistakes] == ["I boil water.", "The kettle is broken."]
    assert not check.exact
    assert corrected_rate(7, 10, check) == rogan_gladen(7, 10, Validation(2, 3, 3, 4))


def test_an_example_that_fails_is_left_out_of_the_counts() -> None:
    examples = labelled(("I help.", True), ("I drown.", True), ("I count.", False))
    check = check_detector(HELPS.model_copy(update={"examples": examples}), Instruments(embedder=BrokenFor("drown")))
    assert check.sensitivity is not None
    assert check.sensitivity.n == 1
    assert check.excluded == ((examples[1], "RuntimeError: out of memory"),)


def test_a_detector_is_not_checked_on_what_it_is_made_of() -> None:
    examples = labelled((HELPS.like[0].upper() + " ", True), ("I help.", True), (HELPS.unlike[1], False))
    check = check_detector(HELPS.model_copy(update={"examples": examples}), Instruments(embedder=BrokenFor("-")))
    assert check.sensitivity is not None
    assert check.sensitivity.n == 1
    assert check.specificity is None
    assert [example for example, _ in check.excluded] == [examples[0], examples[2]]


def test_the_task_of_an_example_is_what_it_is_judged_by(tiny: Instruments) -> None:
    with_task = Labelled(text="I count nine crates.", fires=False, task="Count the crates.")
    without = Labelled(text="I count nine crates.", fires=False)
    check = check_detector(LEAVES.model_copy(update={"examples": (with_task, without)}), tiny)
    assert check.specificity is not None
    assert check.specificity.n == 1
    assert check.excluded == ((without, "no task was given"),)
    expected = detect(LEAVES, [wrote(with_task.text, task=with_task.task)], tiny)[0].fired is False
    assert check.specificity.right == expected


@pytest.mark.parametrize("detector", MECHANICAL, ids=lambda detector: detector.kind)
def test_what_reads_acts_is_exact(detector: Detector) -> None:
    check = check_detector(detector.model_copy(update={"examples": labelled(("I give.", True))}), NOTHING_AT_HAND)
    assert check.exact
    assert check.sensitivity is None
    assert check.specificity is None
    assert [reason for _, reason in check.excluded] == ["this detector reads acts, not texts"]
    assert corrected_rate(3, 10, check) is None


def test_no_rate_is_corrected_without_examples_of_both_kinds() -> None:
    one_sided = TEA.model_copy(update={"examples": labelled(("I fill the kettle.", True))})
    assert corrected_rate(3, 10, check_detector(one_sided, NOTHING_AT_HAND)) is None
    assert corrected_rate(3, 10, check_detector(TEA, NOTHING_AT_HAND)) is None


def test_no_rate_is_corrected_by_a_detector_that_guesses() -> None:
    guesses = TEA.model_copy(update={"examples": labelled(("I boil water.", True), ("I count.", False))})
    with pytest.raises(ArgumentError, match="beat chance"):
        corrected_rate(3, 10, check_detector(guesses, NOTHING_AT_HAND))


def test_a_correction_finds_the_rate_behind_a_detector_that_errs() -> None:
    examples = labelled(
        *[("The kettle.", True)] * 8,
        *[("Water.", True)] * 2,
        *[("Crates.", False)] * 9,
        ("A broken kettle.", False),
    )
    check = check_detector(TEA.model_copy(update={"examples": examples}), NOTHING_AT_HAND)
    # Half of 1,000 units show it: 0.5 * 0.8 + 0.5 * 0.1 of them fire.
    found = corrected_rate(450, 1000, check)
    assert found is not None
    assert found.rate == pytest.approx(0.5)
    assert found.interval.low < 0.5 < found.interval.high


# --- the door --------------------------------------------------------------------------------------


def test_reading_a_script_loads_no_model_and_no_detection() -> None:
    code = (
        "import sys, overlay.scenarios.script, overlay.scenarios.detectors as door\n"
        "print([name for name in sys.modules if name in ('torch', 'sentence_transformers', 'statsmodels') "
        "or name.endswith(('detection', 'rubric', 'similarity'))])\n"
        "print([name for name in door.__all__ if not hasattr(door, name)])\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split("\n")[:2] == ["[]", "[]"]
