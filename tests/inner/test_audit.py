"""The audit: a leak of each kind is found wherever it is planted, and what may stand where it stands is none."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from paraphrases import AGENT_SENTENCES, PARAPHRASES
from tiny_models import byte_tokenizer

from overlay.axes import ContrastSet, read_contrast
from overlay.frames import read_frames
from overlay.home import Home, stock_folder
from overlay.inner import (
    Context,
    LivedContext,
    Segment,
    SourcedMessage,
    StateNames,
    audit,
    examine,
    read_voices,
    source_tokens,
    tokens_digest,
)
from overlay.memory import SentenceEmbedder
from overlay.model import neutral_texts
from overlay.scenarios import read_scenario

LEXICON = ("tender", "take care", "нежность")


def context(*segments: tuple[str, str], purpose: str = "reply", role: str = "user") -> Context:
    return Context(purpose, (SourcedMessage(role, tuple(Segment(source, text) for source, text in segments)),))


# --- words of the state --------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["system", "frame:ledger", "note:vault:a", "reply", "mask:witness", "script:item"])
@pytest.mark.parametrize("text", ["Be tender.", "TENDER", "so (tender)!", "We take care of it", "и Нежность."])
def test_a_planted_word_is_found_with_its_place(source: str, text: str) -> None:
    planted = context(("user", "Hello. "), (source, text), ("frame:x", " More."))
    (leak,) = audit([context(("system", "Plain.")), planted], LEXICON)
    assert (leak.kind, leak.source, leak.purpose, leak.context) == ("state word", source, "reply", 1)
    assert leak.word == leak.entry in LEXICON and leak.word in leak.excerpt.lower()


@pytest.mark.parametrize(
    ("text", "word", "entry"),
    [
        ("with tenderness", "tenderness", "tender"),
        ("taking care of it", "taking care", "take care"),
        ("took  it, take  care", "take  care", "take care"),
        ("с нежностью", "нежностью", "нежность"),
    ],
)
def test_a_planted_inflection_is_found_with_the_word_it_is_of(text: str, word: str, entry: str) -> None:
    (leak,) = audit([context(("frame:ledger", text))], LEXICON)
    assert (leak.kind, leak.word, leak.entry) == ("state word", word, entry)


def test_every_occurrence_counts() -> None:
    found = audit([context(("system", "tender, Tender"), ("note:1", "tender"))], LEXICON)
    assert [leak.source for leak in found] == ["system", "system", "note:1"]


def test_the_users_own_words_are_no_leak_now_nor_when_they_are_remembered() -> None:
    remembered = "note:session:20260101-120000-ab12:turn:1:user"
    assert audit([context(("user", "Be tender and take care."), (remembered, "Be tender."))], LEXICON) == []


@pytest.mark.parametrize("text", ["pretender", "the tend of it", "take no care", "intend", "нежилой"])
def test_other_words_are_no_leak(text: str) -> None:
    assert audit([context(("system", text))], LEXICON) == []


def test_a_word_made_of_two_segments_is_found_and_blamed_on_the_one_that_is_not_the_users() -> None:
    (leak,) = audit([context(("user", "It was ten"), ("template", "der."))], LEXICON)
    assert (leak.word, leak.source, leak.excerpt) == ("tender", "template", "It was tender.")
    assert audit([context(("user", "It was ten"), ("user", "der."))], LEXICON) == []


@given(st.text(), st.sampled_from(["system", "note:1", "frame:x"]))
def test_without_a_lexicon_there_is_nothing_to_find(text: str, source: str) -> None:
    assert audit([context((source, text))], ()) == []


@given(
    st.text(st.characters(exclude_categories=["L", "N", "Pc", "Mn", "Mc", "Me", "Cs"]), max_size=20),
    st.text(st.characters(exclude_categories=["L", "N", "Pc", "Mn", "Mc", "Me", "Cs"]), max_size=20),
)
def test_no_punctuation_hides_a_word(before: str, after: str) -> None:
    (leak,) = audit([context(("note:1", f"{before}Tender{after}"))], LEXICON)
    assert leak.word == "tender"


# --- inner speech and notes ----------------------------------------------------------------------


def test_inner_speech_in_a_reply_is_found_and_in_a_voices_own_context_is_not() -> None:
    spoken = ("voice:witness", "I see the pump.")
    (leak,) = audit([context(("user", "Hello."), spoken)], LEXICON)
    assert (leak.kind, leak.source, leak.excerpt) == ("inner speech", "voice:witness", "I see the pump.")
    assert audit([context(("user", "Hello."), spoken, purpose="voice:accountant")], LEXICON) == []
    assert audit([context(spoken)], LEXICON, silent=False) == []


@pytest.mark.parametrize("silent", [True, False])
def test_inner_speech_may_never_stand_in_a_trial(silent: bool) -> None:
    (leak,) = audit([context(("voice:witness", "I see."), purpose="trial")], LEXICON, silent=silent)
    assert leak.kind == "inner speech"


@pytest.mark.parametrize("purpose", ["voice:witness", "trial", "script"])
def test_a_note_may_stand_in_a_reply_only(purpose: str) -> None:
    note = ("note:vault:budget", "The budget is a limit.")
    (leak,) = audit([context(("user", "Hello."), note, purpose=purpose)], LEXICON)
    assert (leak.kind, leak.source, leak.purpose) == ("misplaced note", "note:vault:budget", purpose)
    assert audit([context(("user", "Hello."), note)], LEXICON) == []


def test_a_state_word_in_inner_speech_is_found_even_where_inner_speech_may_stand() -> None:
    (leak,) = audit([context(("voice:witness", "so tender"), purpose="voice:accountant")], LEXICON)
    assert leak.kind == "state word"


@pytest.mark.parametrize("source", ["", "memory", "note:"])
def test_text_from_nowhere_is_found(source: str) -> None:
    (leak,) = audit([context(("user", "Hello."), (source, "Some text."))], LEXICON)
    assert (leak.kind, leak.source, leak.excerpt) == ("unknown source", source, "Some text.")


def test_inner_speech_under_another_name_is_found_where_it_was_silent() -> None:
    said = ("The rope on the left is the one that broke.",)
    moved = context(("user", "Hello."), ("system", "Note: The rope on the left\nis the one that broke. Be short."))
    voice = context(("system", said[0]), purpose="voice:witness")

    def kinds(*lived: LivedContext) -> list[tuple[str, str]]:
        return [(leak.kind, leak.source) for leak in examine(lived, []).leaks]

    assert kinds(LivedContext(moved, unspoken=said)) == [("inner speech", "system")]
    assert kinds(LivedContext(moved)) == kinds(LivedContext(moved, unspoken=said, silent=False)) == []
    assert kinds(LivedContext(voice, unspoken=said)) == []
    for own in ("user", "reply", "note:session:a:turn:1:reply"):
        assert kinds(LivedContext(context((own, said[0])), unspoken=said)) == []


def test_clean_contexts_give_nothing() -> None:
    clean = [context(("system", "You keep the stores."), ("user", "Be tender."), ("note:1", "The shed is dry."))]
    assert audit(clean, LEXICON) == [] and audit([], LEXICON) == []


# --- paraphrases ---------------------------------------------------------------------------------


class Letters:
    """Reads a sentence as its share of each letter: equal letters, equal meaning."""

    name, digest, dimension = "letters", "none", 26

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        counts = np.array([[text.lower().count(chr(97 + place)) for place in range(26)] for text in texts], np.float32)
        return counts / np.maximum(np.linalg.norm(counts, axis=1, keepdims=True), 1e-9)


STATE = StateNames("quiet", ("hush",), ("no noise at all now",))


def paraphrased(source: str, text: str, **options: Any) -> list[Any]:
    lived = [LivedContext(context(("user", "no noise at all now"), (source, f"\n{text}")), turn=4, place=2)]
    return list(examine(lived, [STATE], embedder=Letters(), **options).leaks)


def test_a_sentence_as_near_as_the_threshold_is_told_with_its_nearness_and_place() -> None:
    (leak,) = paraphrased("frame:ledger", "Count it. At all now no noise! Go on.", threshold=0.99)
    assert (leak.kind, leak.source, leak.excerpt) == ("near-paraphrase", "frame:ledger", "At all now no noise!")
    assert (leak.word, leak.turn, leak.place) == ("no noise at all now", 4, 2) and leak.similarity > 0.999


def test_a_sentence_below_the_threshold_or_of_the_user_is_none() -> None:
    assert paraphrased("frame:ledger", "The pump runs every hour.", threshold=0.9) == []
    assert paraphrased("user", "At all now no noise!", threshold=0.9) == []


@pytest.mark.parametrize("purpose", ["voice:witness", "reply"])
@pytest.mark.parametrize("source", ["voice:witness", "reply", "note:session:a:turn:1:reply"])
def test_what_the_model_said_by_itself_is_doubtful_when_it_is_only_near_and_a_leak_when_it_names_the_state(
    source: str, purpose: str
) -> None:
    def told(text: str) -> tuple[list[str], list[tuple[str, int, int]]]:
        lived = [LivedContext(context((source, text), purpose=purpose), turn=4, place=2, silent=False)]
        found = examine(lived, [STATE], embedder=Letters(), threshold=0.99)
        leaks = [one.kind for one in found.leaks if one.kind != "misplaced note"]
        return leaks, [(one.kind, one.turn, one.place) for one in found.doubtful]

    assert told("At all now no noise!") == ([], [("near-paraphrase", 4, 2)])
    assert told("So hush, all of you.") == (["state word"], [])


@pytest.mark.parametrize("source", ["system", "mask:witness", "frame:ledger", "note:vault:a", "template"])
def test_what_was_given_to_the_model_is_a_leak_when_it_is_only_near(source: str) -> None:
    for purpose in ("voice:witness", "reply"):
        lived = [LivedContext(context((source, "At all now no noise!"), purpose=purpose))]
        found = examine(lived, [STATE], embedder=Letters(), threshold=0.99)
        assert "near-paraphrase" in [leak.kind for leak in found.leaks] and found.doubtful == ()


def test_a_sentence_that_holds_a_word_of_the_state_is_told_once() -> None:
    (leak,) = paraphrased("frame:ledger", "No noise at all now, hush.", threshold=0.5)
    assert (leak.kind, leak.word) == ("state word", "hush")


def test_without_a_measured_threshold_nothing_is_compared_and_that_is_told() -> None:
    found = examine([LivedContext(context(("system", "no noise at all now")))], [STATE], embedder=Letters())
    assert found.leaks == () and any(
        "no threshold was measured for the embedder 'letters'" in one for one in found.unchecked
    )


@pytest.fixture(scope="module")
def embedder(embedder_folder: Path) -> SentenceEmbedder:
    return SentenceEmbedder(embedder_folder, "minilm-l6-v2")


@pytest.fixture(scope="module")
def stock_state() -> StateNames:
    return StateNames.of(read_contrast(stock_folder() / "adapters" / "steering" / "tenderness.yaml"))


def near(texts: Sequence[str], state: StateNames, embedder: SentenceEmbedder) -> set[str]:
    """Those texts of which a sentence is a paraphrase of the state."""
    lived = [LivedContext(context(("system", text)), turn=place) for place, text in enumerate(texts)]
    found = examine(lived, [state], embedder=embedder)
    assert any(one.startswith("near-paraphrases") for one in found.checked)
    return {texts[leak.turn] for leak in found.leaks if leak.kind == "near-paraphrase"}


@pytest.mark.real
def test_about_half_of_the_paraphrases_of_the_stock_state_are_found_though_they_hold_none_of_its_words(
    stock_state: StateNames, embedder: SentenceEmbedder
) -> None:
    assert audit([context(("system", text)) for text in PARAPHRASES], stock_state.words) == []
    found = near(PARAPHRASES, stock_state, embedder)
    assert len(found) / len(PARAPHRASES) >= 0.45


@pytest.mark.real
def test_nothing_that_ships_with_the_program_is_a_paraphrase_of_the_stock_state(
    stock_state: StateNames, embedder: SentenceEmbedder
) -> None:
    home = Home.open(stock_folder())
    contrast = home.axes.contrast("tenderness")
    texts = [home.settings.system, *neutral_texts(), *AGENT_SENTENCES]
    texts += [path.read_text(encoding="utf-8") for path in home.notes.glob("*.md")]
    texts += [question for frame in read_frames(home.frames) for question in frame.questions]
    texts += [voice.mask for voice in read_voices(home.voices)]
    texts += [text for path in home.scenarios.glob("*.yaml") for _, text in read_scenario(path).texts()]
    texts += [text for group in contrast.groups().values() for text in group if isinstance(text, str)]
    # Exposures are in many scripts.
    assert near(list(dict.fromkeys(texts)), stock_state, embedder) == set()


@pytest.mark.real
def test_sentences_that_the_embedder_does_not_read_are_told(
    stock_state: StateNames, embedder: SentenceEmbedder
) -> None:
    found = examine([LivedContext(context(("system", "Это совсем другое дело.")))], [stock_state], embedder=embedder)
    assert any("1 sentences that aren't English" in one for one in found.unchecked)


def test_a_state_is_defined_by_its_first_sentence_and_its_english_words() -> None:
    contrast = ContrastSet.model_construct(
        name="quiet", description="No noise. The texts are twins.", lexicon=("hush",), lexicon_ru=("тихо",)
    )
    state = StateNames.of(contrast)
    assert state.words == ("hush", "тихо")
    assert state.definitions == ("feeling hush toward others",)
    longer = contrast.model_copy(update={"description": "No noise at all. The texts are twins."})
    assert StateNames.of(longer).definitions == ("No noise at all.", "feeling hush toward others")


# --- tokens --------------------------------------------------------------------------------------


def test_tokens_that_no_segment_accounts_for_are_found_at_the_first_of_them() -> None:
    tokenizer = byte_tokenizer()
    clean = context(("system", "Plain. "), ("user", "Hello."))
    tokens = source_tokens(clean, tokenizer).tokens
    more = source_tokens(context(("system", "Plain. Be tender. "), ("user", "Hello.")), tokenizer).tokens
    found = examine([LivedContext(clean, 3, 1, tokens), LivedContext(clean, 3, 2, more)], [], tokenizer=tokenizer)
    (leak,) = found.leaks
    assert (leak.kind, leak.turn, leak.place) == ("unknown tokens", 3, 2) and "Be tender" in leak.excerpt
    assert found.tokens == 2 * len(tokens)


def test_a_context_whose_tokens_nobody_kept_is_traced_by_their_digest() -> None:
    tokenizer = byte_tokenizer()
    got = context(("system", "Plain. "), ("mask:a", "You count."), purpose="voice:a")
    digest = tokens_digest(source_tokens(got, tokenizer).tokens)
    told = context(("system", "Plain. "), ("mask:a", "You see."), purpose="voice:a")
    lived = [LivedContext(got, 3, 1), LivedContext(told, 3, 2), LivedContext(told, 3, 3)]
    found = examine(lived, [], tokenizer=tokenizer, prompts=[digest, digest, ""])
    assert [(leak.kind, leak.turn, leak.place) for leak in found.leaks] == [("unknown tokens", 3, 2)]
    assert any("2 of 3 contexts" in one for one in found.checked)


def test_an_examination_says_how_much_it_read_and_what_it_could_not_look_for() -> None:
    lived = [
        LivedContext(context(("user", "Hi."), ("note:a", "There.")), 1, 1, (1, 2, 3)),
        LivedContext(context(("user", "Hi.")), 2, 1, (4,)),
    ]
    found = examine(lived, [STATE, StateNames("bare", (), ())], why_no_embedder="it is away")
    assert (found.turns, found.contexts, found.segments, found.tokens) == (2, 2, 3, 4)
    assert "words of 'quiet' (1 entries) and their inflections" in found.checked
    assert "near-paraphrases: it is away" in found.unchecked
    assert "the source of each token: no tokenizer was given" in found.unchecked
    assert "words of 'bare': its axis has no lexicon" in found.unchecked


def test_each_leak_of_a_session_has_its_turn_and_its_place() -> None:
    lived = [
        LivedContext(context(("system", "Plain.")), 1, 1),
        LivedContext(context(("voice:witness", "I see.")), 1, 2, silent=False),
        LivedContext(context(("voice:witness", "I see.")), 2, 1),
        LivedContext(context(("frame:x", "no hush here")), 2, 2),
    ]
    found = [(leak.kind, leak.turn, leak.place, leak.context) for leak in examine(lived, [STATE]).leaks]
    assert found == [("inner speech", 2, 1, 2), ("state word", 2, 2, 3)]
