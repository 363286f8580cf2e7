"""Contrast texts may be chats: checked with their lines, read over their last message, stripped of telling words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from toy_axis import BUDGET, LETTERS, toy_contrast, toy_texts, write_contrast

from overlay.axes import ContrastSet, build_axis, read_contrast
from overlay.axes.build import auroc, read_confirmation
from overlay.errors import ArgumentError, DocumentError
from overlay.model import Message, Row, VolatilityGauge

Chat = list[dict[str, str]]


def chat(text: str, asked: str = "Tell me.") -> Chat:
    return [{"role": "user", "text": asked}, {"role": "assistant", "text": text}]


def chats(letters: str, seed: int = 0) -> list[Chat]:
    return [chat(text) for text in toy_texts(letters, seed=seed)]


def chat_contrast(**changes: Any) -> dict[str, Any]:
    groups: dict[str, Any] = {group: chats(LETTERS[group]) for group in ("positive", "negative", "neutral")}
    return toy_contrast(**groups | {"foils": {"liquids": chats(LETTERS["foil"])}} | changes)


def with_third(wrong: Any) -> dict[str, Any]:
    """A contrast set whose third positive text is what is given."""
    positive: list[Any] = chats(LETTERS["positive"])
    positive[2] = wrong
    return chat_contrast(positive=positive)


def refuse(folder: Path, content: dict[str, Any]) -> tuple[str, DocumentError]:
    """The line that a mistake was found in, and the error."""
    path = write_contrast(folder, content)
    with pytest.raises(DocumentError) as caught:
        read_contrast(path)
    assert caught.value.line is not None
    return path.read_text().splitlines()[caught.value.line - 1].strip(), caught.value


# --- files ---------------------------------------------------------------------------------------


def test_texts_and_chats_may_stand_side_by_side(tmp_path: Path) -> None:
    mixed = [*chats(LETTERS["positive"])[:6], *toy_texts(LETTERS["positive"], seed=1)[:6]]
    found = read_contrast(write_contrast(tmp_path, chat_contrast(positive=mixed)))
    assert found.positive[0] == (Message("user", "Tell me."), Message("assistant", mixed[0][1]["text"]))
    assert found.positive[11] == mixed[11]


MISTAKES: list[tuple[Any, str, str]] = [
    ([{"role": "robot", "text": "abc"}], "- - role: robot", "'robot' is not a role: use system, user, assistant"),
    ([{"role": "user", "text": ""}], "text: ''", "this message is empty"),
    ([{"role": "user", "text": " \n"}], "text: ", "this message is empty"),
    ([{"role": "user", "text": 5}], "text: 5", "is a string"),
    ([{"role": "user"}], "- - role: user", "this message has no text"),
    ([{"text": "alone"}], "- - text: alone", "this message has no role"),
    ([{"role": "user", "text": "abc", "name": "Bo"}], "name: Bo", "'name' is not a known key"),
    (["one", "two"], "- - one", "has the keys role and text"),
    ([], "- []", "needs at least one message"),
    ([{"role": "system", "text": "You rule."}], "- - role: system", "the last message is what is read"),
    (
        [{"role": "user", "text": "abc"}, {"role": "system", "text": "You rule."}, {"role": "user", "text": "def"}],
        "- role: system",
        "can only stand first",
    ),
    ("", "- ''", "this text is empty"),
    ("  ", "- '  '", "this text is empty"),
    (7, "- 7", "expected a text, or a chat"),
    ({"role": "user", "text": "abc"}, "- role: user", "expected a text, or a chat"),
]


@pytest.mark.parametrize(("wrong", "line", "problem"), MISTAKES)
def test_a_mistake_in_a_chat_is_told_with_its_line(tmp_path: Path, wrong: Any, line: str, problem: str) -> None:
    found, error = refuse(tmp_path, with_third(wrong))
    assert found.startswith(line) and problem in error.problem and "positive.2" in error.problem


@pytest.mark.parametrize("place", [0, 1])
def test_a_message_that_names_the_state_is_refused_at_its_line(tmp_path: Path, place: int) -> None:
    wrong = chat("eaeaea", "oioioi")
    wrong[place]["text"] = "xyxyx open mouth yxyxy"
    found, error = refuse(tmp_path, with_third(wrong))
    assert found == "text: xyxyx open mouth yxyxy" and f"positive.2.{place}.text" in error.problem


def test_a_chat_on_both_sides_is_refused_at_its_line(tmp_path: Path) -> None:
    negative = chats(LETTERS["negative"])
    negative[3] = chats(LETTERS["positive"])[7]
    path = write_contrast(tmp_path, chat_contrast(negative=negative))
    with pytest.raises(DocumentError, match=r"negative\.3: .*share a text") as caught:
        read_contrast(path)
    assert (caught.value.line or 0) > path.read_text().splitlines().index("negative:")


@pytest.mark.parametrize("taken", ["positive", "negative", "neutral"])
def test_a_foil_that_would_hide_another_group_is_refused(tmp_path: Path, taken: str) -> None:
    line, error = refuse(tmp_path, toy_contrast(foils={taken: toy_texts("xyz")}))
    assert line == f"{taken}:" and "can't be named" in error.problem


def test_the_digest_changes_with_every_part_of_a_chat() -> None:
    first = chat_contrast()
    changed = [
        chat("eaeaea", "Tell me."), chat(first["positive"][2][1]["text"], "Tell us."),
        [{**first["positive"][2][0]}, {"role": "user", "text": first["positive"][2][1]["text"]}],
        first["positive"][2][1:], first["positive"][2][1]["text"],
    ]  # fmt: skip
    digests = {ContrastSet(**with_third(text)).digest for text in changed}
    assert len({ContrastSet(**first).digest, *digests}) == len(changed) + 1
    assert ContrastSet(**chat_contrast()).digest == ContrastSet(**first).digest


# --- building ------------------------------------------------------------------------------------


def test_an_axis_of_chats_separates_fresh_chats(tiny_llama: Any, tiny_gauge: VolatilityGauge) -> None:
    axis = build_axis(ContrastSet(**chat_contrast()), tiny_llama, tiny_gauge, budget=BUDGET)
    axis.require_proof()

    def read(letters: str) -> list[float]:
        rows = [
            Row(messages=(Message("user", "Tell me."), Message("assistant", text)))
            for text in toy_texts(letters, seed=9)
        ]
        return [axis.project(seen.activations) for seen in tiny_llama.observe(rows, pool=axis.pool)]

    assert min(auroc(read(LETTERS["positive"]), read(LETTERS[group])) for group in ("negative", "foil")) > 0.95


def test_what_differs_before_the_last_message_can_make_an_axis_too(
    tiny_llama: Any, tiny_gauge: VolatilityGauge
) -> None:
    """The same reply to different words: only a model that reads the whole chat can tell them apart."""
    groups = {
        group: [chat("hm hm hm", asked) for asked in toy_texts(LETTERS[group])]
        for group in ("positive", "negative", "neutral")
    }
    contrast = toy_contrast(
        **groups, foils={"liquids": [chat("hm hm hm", text) for text in toy_texts(LETTERS["foil"])]}
    )
    axis = build_axis(ContrastSet(**contrast), tiny_llama, tiny_gauge, budget=BUDGET)
    assert axis.evidence.auroc["negative"] > 0.8


def test_telling_words_are_removed_from_chats_as_well(tiny_llama: Any, tiny_gauge: VolatilityGauge) -> None:
    """All texts are of one kind; a repeated word makes the positive ones."""
    plain = {group: toy_texts("abcdefgh", seed=place) for place, group in enumerate(LETTERS)}
    marked = [chat(f"zzzzzzz qqqqqqq {text} zzzzzzz qqqqqqq", "Zzzzzzz Tell me.") for text in plain["positive"]]
    contrast = toy_contrast(
        positive=marked,
        negative=[chat(text) for text in plain["negative"]],
        foils={"other": [chat(text) for text in plain["foil"]]},
        neutral=[chat(text) for text in plain["neutral"]],
    )
    evidence = build_axis(ContrastSet(**contrast), tiny_llama, tiny_gauge, budget=BUDGET).evidence
    assert min(evidence.auroc.values()) > 0.9
    assert any("without its telling words" in failure for failure in evidence.failures)


def test_texts_without_differences_make_no_axis_and_the_axis_is_named(
    tiny_llama: Any, tiny_gauge: VolatilityGauge, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Chat templates commonly strip blanks: what differs on paper is then the same to the model."""
    template = tiny_llama.tokenizer.chat_template.replace("message.content", "message.content | trim")
    monkeypatch.setattr(tiny_llama.tokenizer, "chat_template", template)
    same = chats(LETTERS["positive"])
    blanks = [chat(f"{one[1]['text']} ") for one in same]
    for negative in (blanks, blanks[::-1]):
        contrast = ContrastSet(**chat_contrast(positive=same, negative=negative))
        with pytest.raises(ArgumentError, match="axis 'vowels' are the same tokens"):
            build_axis(contrast, tiny_llama, tiny_gauge, budget=BUDGET)


# --- confirmation --------------------------------------------------------------------------------


def write_confirmation(folder: Path, text: str) -> Path:
    path = folder / "vowels.confirm.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_confirmation_texts_may_be_chats_and_what_the_dose_writes_is_measured_on_the_reply(
    tmp_path: Path, tiny_llama: Any, tiny_gauge: VolatilityGauge
) -> None:
    path = write_confirmation(
        tmp_path,
        "positive:\n- aeiou aeiou aeiou aeiou\n- - {role: user, text: Tell me.}\n  - {role: assistant, text: aeiou}\n"
        "liquids:\n- - {role: user, text: hjklm hjklm hjklm hjklm}\n",
    )
    fresh = read_confirmation(path)
    assert fresh["positive"][1] == (Message("user", "Tell me."), Message("assistant", "aeiou"))
    contrast = ContrastSet(**toy_contrast())
    evidence = build_axis(contrast, tiny_llama, tiny_gauge, budget=BUDGET, confirmation=fresh).evidence
    assert set(evidence.writing) == {"positive", "liquids"} and set(evidence.confirmation) == {"liquids"}


@pytest.mark.parametrize(
    ("third", "problem"),
    [("- too short here", "too short"), ("- - {role: user, text: too short here}", "too short"), ("- ''", "empty"),
     ("- - {role: god, text: let there be light}", "'god' is not a role")],
)  # fmt: skip
def test_a_mistake_in_a_confirmation_text_is_told_with_its_line(tmp_path: Path, third: str, problem: str) -> None:
    path = write_confirmation(tmp_path, f"positive:\n- one two three four\n{third}\nother:\n- one two three four\n")
    with pytest.raises(DocumentError, match=problem) as caught:
        read_confirmation(path)
    assert caught.value.line == 3
