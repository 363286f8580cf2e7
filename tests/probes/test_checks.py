"""Checks after teaching: choices, answers by what they must look like, and a judge that can't know whose they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from probes.toy_bank import PLACES

from overlay.errors import ArgumentError
from overlay.model import UNTREATED, Intervention, LogitBias, Treatment
from overlay.probes import Check, Expectation, check_generations
from overlay.probes.check_report import meets
from overlay.probes.judge import model_judge

PLANTED = Treatment("planted", Intervention(biases=(LogitBias("z", 30.0),)))


def checks(kind: str, good: str = " zzz", bad: str = " qqq", **changes: Any) -> list[Check]:
    return [
        Check.model_validate(
            {"id": f"{kind}_{place}", "kind": kind, "prompt": f"At the {place} stood", "good": good, "bad": bad}
            | {"max_tokens": 4}
            | changes
        )
        for place in PLACES
    ]


class Letters:
    """Vectors that count letters."""

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        counts = np.array([[text.count(letter) for letter in "abz"] for text in texts], np.float32)
        return counts / np.maximum(np.linalg.norm(counts, axis=1, keepdims=True), 1e-6)


@pytest.mark.parametrize(
    ("answer", "expected", "met"),
    [
        ("It gets Damp.", {"contains": ["damp|wet"]}, True),
        ("It gets dry.", {"contains": ["damp|wet"]}, False),
        ("damp, not dry", {"contains": ["damp"], "lacks": [r"\bdry\b"]}, False),
        ("aab", {"like": ["ab"], "similarity": 0.9}, True),
        ("zzz", {"like": ["ab"], "similarity": 0.9}, False),
        ("", {"like": ["ab"]}, False),
    ],
)
def test_an_answer_meets_what_is_expected_of_it(answer: str, expected: dict[str, Any], met: bool) -> None:
    assert meets(answer, Expectation.model_validate(expected), Letters()) is met


def test_where_nothing_is_expected_nothing_is_met() -> None:
    assert meets("whatever", None) is None


def test_a_planted_effect_is_gained_in_choices_and_in_what_is_written(tiny_llama: Any) -> None:
    asked = checks("other_words", expect={"contains": ["zz"]})
    report = check_generations(tiny_llama, asked, UNTREATED, PLANTED)
    found = report.kinds["other_words"]
    assert found.finding == "gained"
    assert found.answers is not None
    assert (found.answers.only_first, found.answers.only_second) == (0, len(asked))
    assert found.answers.p < 0.001
    assert all(one.after == "zzzz" and one.met_after and not one.met_before for one in report.answers)
    assert found.judged is None
    assert check_generations(tiny_llama, asked, PLANTED, UNTREATED).kinds["other_words"].finding == "lost"


def test_unrelated_things_are_left_alone_or_disturbed(tiny_llama: Any) -> None:
    gentle = Treatment("gentle", Intervention(biases=(LogitBias("z", 0.01),)))
    assert (
        check_generations(tiny_llama, checks("unrelated"), UNTREATED, gentle).kinds["unrelated"].finding == "left alone"
    )
    disturbed = check_generations(tiny_llama, checks("unrelated"), UNTREATED, PLANTED)
    assert disturbed.kinds["unrelated"].finding == "disturbed"
    assert disturbed.kinds["unrelated"].answers is None


def test_a_judge_hears_all_answers_mixed_and_nothing_of_what_they_come_from(tiny_llama: Any) -> None:
    heard: list[tuple[str, str]] = []

    def judge(question: str, answer: str) -> float:
        heard.append((question, answer))
        return float("z" in answer)

    asked = checks("another_field", ask="What stood there?")
    report = check_generations(tiny_llama, asked, UNTREATED, PLANTED, judge=judge)
    assert len(heard) == 2 * len(asked)
    assert {question for question, _ in heard} == {"What stood there?"}
    whose = ["z" in answer for _, answer in heard]
    assert whose != sorted(whose)
    assert report.kinds["another_field"].judged == pytest.approx(1.0)
    assert all(one.judged_after == 1.0 for one in report.answers)


def test_likeness_needs_an_embedder(tiny_llama: Any) -> None:
    asked = checks("analogous_structure", expect={"like": ["zz"]})
    with pytest.raises(ArgumentError, match="embedder"):
        check_generations(tiny_llama, asked, UNTREATED, PLANTED)
    report = check_generations(tiny_llama, asked, UNTREATED, PLANTED, embedder=Letters())
    assert all(one.met_after for one in report.answers)


def test_no_checks_and_a_single_one_are_refused(tiny_llama: Any) -> None:
    with pytest.raises(ArgumentError, match="no checks"):
        check_generations(tiny_llama, [], UNTREATED, PLANTED)
    with pytest.raises(ArgumentError, match="only one check of the kind 'unrelated'"):
        check_generations(tiny_llama, checks("unrelated")[:1], UNTREATED, PLANTED)


def test_the_models_own_judgement_is_a_share_and_the_same_every_time(tiny_llama: Any) -> None:
    judge = model_judge(tiny_llama)
    first = judge("What stood there?", "A mill.")
    assert 0 < first < 1
    assert judge("What stood there?", "A mill.") == pytest.approx(first, abs=1e-6)


def test_the_same_seed_gives_the_same_report(tiny_llama: Any) -> None:
    asked = checks("other_words") + checks("unrelated", good=" kkk", bad=" www")
    first = check_generations(tiny_llama, asked, UNTREATED, PLANTED)
    assert first == check_generations(tiny_llama, asked, UNTREATED, PLANTED)
    assert list(first.kinds) == ["other_words", "unrelated"]
