"""Banned text never appears, whatever else a row asks for; the rest of what a row says is its own."""

from __future__ import annotations

import re
import runpy
import threading
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from overlay.errors import InterventionError
from overlay.model import Ban, Completion, Intervention, LogitBias, Row, Sampling
from overlay.model.ban import BanList

# What a random model is pulled to write with (signs, capitals, two bytes a letter, three, accents of their own), and
# words and phrases of which it is then full.
ALPHABETS = {
    "latin": "art .,",
    "capitals": "aArR \n",
    "cyrillic": "кот ",
    "chinese": "東京",
    "composed": "ér ",
    "decomposed": "e\u0301r ",
}
BANS = {
    "latin": ("ar", "r", "aa", "a a", "rr*"),
    "capitals": ("aa", "RA", "r", "a\tR", "rrr*"),
    "cyrillic": ("ОТ", "т", "к", "о т", "тт*"),
    "chinese": ("東京", "京京京"),
    "composed": ("re\u0301", "é", "r ré", "rér*"),
    "decomposed": ("ŕ", "r", "é r", "rr*"),
}


@pytest.fixture(scope="module")
def pulled(tiny_llama: Any) -> Callable[[str], tuple[LogitBias, ...]]:
    """Biases that make the model write with the letters of an alphabet."""

    def biases(alphabet: str) -> tuple[LogitBias, ...]:
        found = {}
        for letter in alphabet:
            tokens = tuple(tiny_llama.tokenizer(letter)["input_ids"])
            for length in range(1, len(tokens) + 1):
                found[tokens[:length]] = LogitBias(tokens[:length], 16.0 * length)
        return tuple(found.values())

    return biases


@pytest.fixture(scope="module")
def row(pulled: Callable[[str], tuple[LogitBias, ...]]) -> Callable[..., Row]:
    def make(alphabet: str, bans: Sequence[str] = (), seed: int = 0, **sampling: Any) -> Row:
        sampling = {"max_tokens": 24, "temperature": 1.0} | sampling
        bent = Intervention(biases=pulled(alphabet), bans=tuple(map(Ban, bans)))
        return Row(text="The ferry", intervention=bent, sampling=Sampling(**sampling), seed=seed)

    return make


def occurrences(bans: Sequence[str], text: str) -> list[str]:
    """Banned words in a text, found by plain regular expressions that know nothing of tokens."""
    found = []
    for ban in bans:
        words = map(re.escape, unicodedata.normalize("NFC", ban).rstrip("*").split())
        border = "" if re.search("[東京]", ban) else r"(?<!\w)", "" if re.search(r"[東京*]$", ban) else r"(?!\w)"
        pattern = border[0] + r"\s+".join(words) + border[1]
        found += re.findall(pattern, unicodedata.normalize("NFC", text), re.IGNORECASE)
    return found


def seen(completion: Completion) -> tuple[Any, ...]:
    """What of a completion must not depend on batch mates; probabilities do, in their last digits."""
    avoided = [(entry.text, entry.step) for entry in completion.avoided]
    return completion.text, completion.tokens, completion.ended, avoided


@pytest.mark.parametrize("name", ALPHABETS)
def test_banned_text_that_rows_are_full_of_is_gone_and_they_say_as_much_as_before(
    name: str, tiny_llama: Any, row: Any
) -> None:
    temperatures = (0.0, 0.5, 1.0, 1.5)
    free = tiny_llama.generate(
        [row(ALPHABETS[name], (), seed, temperature=temperatures[seed % 4]) for seed in range(24)]
    )
    kept = tiny_llama.generate(
        [row(ALPHABETS[name], BANS[name], seed, temperature=temperatures[seed % 4]) for seed in range(24)]
    )
    assert sum(len(occurrences(BANS[name], completion.text)) for completion in free) >= 12
    assert [occurrences(BANS[name], completion.text) for completion in kept] == [[]] * 24
    assert [completion.ended for completion in kept].count("length") >= 22
    assert all(len(completion.tokens) == 24 for completion in kept if completion.ended == "length")


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_mix_of_bans_temperatures_lengths_and_stop_strings_lets_a_banned_text_through(
    data: st.DataObject, tiny_llama: Any, row: Any
) -> None:
    alphabet = ALPHABETS[data.draw(st.sampled_from(["latin", "capitals", "cyrillic", "chinese"]))]
    letters = [letter for letter in alphabet if letter.isalpha()]
    word = st.text(letters, min_size=1, max_size=3)
    bans = data.draw(st.lists(st.one_of(word, word.map("{}*".format), st.tuples(word, word).map(" ".join)), max_size=6))
    stops = data.draw(st.lists(st.text(list(alphabet), min_size=1, max_size=3), max_size=2))
    rows = [
        row(
            alphabet,
            bans,
            data.draw(st.integers(0, 10**6)),
            max_tokens=data.draw(st.integers(1, 20)),
            temperature=data.draw(st.sampled_from([0.0, 0.7, 1.0, 1.5])),
            top_p=data.draw(st.sampled_from([1.0, 0.5, 0.01])),
            stop=tuple(stops),
        )
        for _ in range(3)
    ]
    for asked, completion in zip(rows, tiny_llama.generate(rows), strict=True):
        assert not occurrences(bans, completion.text)
        assert not any(stop in completion.text for stop in stops)
        assert len(completion.tokens) <= asked.sampling.max_tokens
    *pieces, completion = tiny_llama.stream(rows[0])
    assert "".join(pieces) == completion.text
    assert seen(completion) == seen(tiny_llama.generate(rows[:1])[0])


def test_a_banned_word_is_missing_also_where_the_length_runs_out_and_at_the_very_beginning(
    tiny_llama: Any, row: Any
) -> None:
    bans = ("a", "ar", "art", "r", "rat", "t")
    rows = [row("art ", bans, seed, max_tokens=length) for length in range(1, 13) for seed in range(4)]
    free = tiny_llama.generate([row("art ", (), one.seed, max_tokens=one.sampling.max_tokens) for one in rows])
    assert any(re.match(rf"({'|'.join(bans)})\b", completion.text) for completion in free)
    assert any(re.search(rf"\b({'|'.join(bans)})\Z", completion.text) for completion in free)
    for completion in tiny_llama.generate(rows):
        assert not occurrences(bans, completion.text)


def test_whole_words_are_meant_and_a_star_means_all_that_begin_so(tiny_llama: Any, row: Any) -> None:
    def texts(*bans: str) -> str:
        rows = [row("art ", bans, seed, max_tokens=40) for seed in range(24)]
        return " | ".join(completion.text for completion in tiny_llama.generate(rows))

    assert not re.search(r"\bra\b", texts("ra"))
    assert re.search(r"\Bra\b", texts("ra")) and re.search(r"\bra\B", texts("ra"))
    assert not re.search(r"\bra", texts("ra*"))
    assert re.search(r"\Bra", texts("ra*"))


def test_a_row_without_matches_is_the_row_without_bans(tiny_llama: Any, row: Any) -> None:
    for temperature in (0.0, 1.0, 1.5):
        rows = [row("art .", (), seed, temperature=temperature) for seed in range(8)]
        watched = [row("art .", ("butter", "кот", "a r t*"), seed, temperature=temperature) for seed in range(8)]
        for free, kept in zip(tiny_llama.generate(rows), tiny_llama.generate(watched), strict=True):
            assert seen(kept) == seen(free) and kept.avoided == ()


def test_a_banned_row_in_a_batch_gives_what_it_gives_alone(tiny_llama: Any, row: Any) -> None:
    rows = [
        row(ALPHABETS[name], BANS[name] if seed % 3 else (), seed, max_tokens=10 + 4 * seed, temperature=0.5 * seed)
        for name in ALPHABETS
        for seed in range(4)
    ]
    together = tiny_llama.generate(rows)
    assert any(completion.avoided for completion in together)
    assert [seen(completion) for completion in together] == [seen(tiny_llama.generate([one])[0]) for one in rows]


@pytest.mark.parametrize("name", ALPHABETS)
def test_streamed_pieces_are_the_text_and_nothing_is_taken_back(name: str, tiny_llama: Any, row: Any) -> None:
    turned = 0
    for seed in range(8):
        stop = (ALPHABETS[name][0] * 3,) if seed % 2 else ()
        asked = row(ALPHABETS[name], BANS[name], seed, max_tokens=36, stop=stop)
        *pieces, completion = tiny_llama.stream(asked)
        assert "".join(pieces) == completion.text
        assert all(pieces)
        assert seen(completion) == seen(tiny_llama.generate([asked])[0])
        turned += bool(completion.avoided)
    assert turned >= 4


def test_a_character_of_which_only_some_bytes_have_come_may_still_end_a_stop_string(tiny_llama: Any, row: Any) -> None:
    for seed in range(24):
        asked = row("東京", (), seed, max_tokens=24, stop=("東東", "京京"))
        *pieces, completion = tiny_llama.stream(asked)
        assert "".join(pieces) == completion.text


def test_a_stream_brings_words_as_they_come(tiny_llama: Any, row: Any) -> None:
    *pieces, completion = tiny_llama.stream(row("art ", ("art", "ra t"), 3, max_tokens=60))
    assert len(pieces) > len(completion.text.split()) // 2 > 4
    *pieces, completion = tiny_llama.stream(row("東京", ("東京東",), 3, max_tokens=60))
    assert len(pieces) > 4


class CancelledAfter(threading.Event):
    """An event that somebody sets when it has been looked at so many times."""

    def __init__(self, looks: int) -> None:
        super().__init__()
        self._looks = looks

    def is_set(self) -> bool:
        self._looks -= 1
        return self._looks < 0 or super().is_set()


@pytest.mark.parametrize("name", ["latin", "cyrillic"])
def test_a_stream_cancelled_anywhere_ends_without_banned_text(name: str, tiny_llama: Any, row: Any) -> None:
    shortened = 0
    for looks in range(24):
        asked = row(ALPHABETS[name], BANS[name], seed=looks % 3, max_tokens=400)
        *pieces, completion = tiny_llama.stream(asked, CancelledAfter(looks))
        assert completion.ended == "cancelled"
        assert "".join(pieces) == completion.text
        assert not occurrences(BANS[name], completion.text)
        assert not occurrences(BANS[name], tiny_llama.decode(completion.tokens))
        shortened += bool(completion.avoided and completion.avoided[-1].step == len(completion.tokens))
    assert shortened


def test_what_was_avoided_is_told_with_its_step_and_probability(tiny_llama: Any, row: Any) -> None:
    asked = row("art ", ("a*", "r*"), 5, max_tokens=30)
    (completion,) = tiny_llama.generate([asked])
    assert {entry.text for entry in completion.avoided} == {"a*", "r*"}
    assert [entry.step for entry in completion.avoided] == sorted(entry.step for entry in completion.avoided)
    (logits,) = [
        found
        for _, found in tiny_llama.logits(
            [completion.prompt_tokens + completion.tokens],
            [Row(text="x", intervention=Intervention(biases=asked.intervention.biases))],
        )
    ]
    likely = logits.softmax(-1)[len(completion.prompt_tokens) - 1 :]
    for entry in completion.avoided:
        (token,) = tiny_llama.tokenizer(entry.text[0])["input_ids"]
        assert entry.mass == pytest.approx(float(likely[entry.step, token]), abs=1e-3)
        # A word begins here: at the start, or behind something that is no letter.
        assert not tiny_llama.decode(completion.tokens[: entry.step])[-1:].isalpha()


def test_a_word_is_left_where_another_way_was_likeliest(tiny_llama: Any) -> None:
    """Of the tokens that wrote a banned word, the one with the likeliest alternative gives way to it."""
    letters = {"b": 20.0, "bu": 24.0, "but": 24.0}
    biases = tuple(LogitBias(text, nats) for text, nats in letters.items())
    others = (LogitBias("d", 14.0), LogitBias("bi", 22.0), LogitBias("bun", 8.0))
    asked = Row(
        text="The ferry",
        intervention=Intervention(biases=(*biases, *others), bans=(Ban("but*"),)),
        sampling=Sampling(max_tokens=3),
    )
    (completion,) = tiny_llama.generate([asked])
    assert completion.text.startswith("bi")
    assert [(entry.text, entry.step) for entry in completion.avoided] == [("but*", 1)]
    assert 0.5 < completion.avoided[0].mass < 0.95


def test_generation_ends_within_its_length_when_nearly_everything_is_banned(tiny_llama: Any, row: Any) -> None:
    vowels = tuple(f"{vowel}*" for vowel in "aeiouy")
    letters = tuple(f"{letter}*" for letter in "abcdefghijklmnopqrstuvwxyz0123456789")
    pairs = ("a", "r", "t", *(first + second for first in "art" for second in "art"))
    for bans, alphabet in (
        (vowels, "aeiou "),
        (letters, "abc "),
        (pairs, "art "),
        (("art*", "ar*", "a*", "ra*"), "ar"),
    ):
        rows = [row(alphabet, bans, seed, max_tokens=30, temperature=seed / 4, top_p=0.3) for seed in range(6)]
        for completion in tiny_llama.generate(rows):
            assert len(completion.tokens) <= 30
            assert not occurrences(bans, completion.text)


def test_a_nucleus_of_banned_tokens_gives_way_to_what_is_likeliest_beyond_it(tiny_llama: Any, row: Any) -> None:
    for completion in tiny_llama.generate([row("ar ", ("a*", "r*"), seed, top_p=0.05) for seed in range(8)]):
        assert not {tiny_llama.tokenizer.pad_token_id, tiny_llama.tokenizer.eos_token_id} & set(completion.tokens)
        assert len(completion.tokens) == 24


def test_volatility_is_traced_for_what_was_kept(tiny_llama: Any, row: Any) -> None:
    from dataclasses import replace

    asked = row("art ", ("r", "ra", "a", "at"), 1, max_tokens=30)
    (traced,) = tiny_llama.generate([replace(asked, trace_volatility=True)])
    (plain,) = tiny_llama.generate([asked])
    assert traced.avoided and traced.tokens == plain.tokens
    assert len(traced.volatility) == len(traced.tokens)
    assert all(0 < nats < 100 for nats in traced.volatility)


# --- finding -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ban", "text", "found"),
    [
        ("art", "an art.", "art"),
        ("art", "ART, they said", "ART"),
        ("art", "Art's sake", "Art"),
        ("art", "_art_ and (art)", "art"),
        ("art", "party artist arts smart", None),
        ("art", "art2 2art", None),
        ("art*", "the artist", "art"),
        ("art*", "party", None),
        ("new york", "in New \n York,", "New \n York"),
        ("new york", "a new, york", None),
        ("new york*", "new yorkers", "new york"),
        ("it's", "I think it's", "it's"),
        ("c++", "in C++11", "C++"),
        ("\\d", "a \\d b", "\\d"),
        ("^x", "a ^x", "^x"),
        ("масло", "Масло и хлеб", "Масло"),
        ("масло", "маслом", None),
        ("масл*", "маслом", "масл"),
        ("café", "a cafe\u0301!", "cafe\u0301"),
        ("cafe\u0301", "CAFÉ", "CAFÉ"),
        ("cafe", "a café", None),
        ("cafe", "a cafe\u0301", None),
        ("straße", "in der STRASSE", "STRASSE"),
        ("strasse", "die Straße.", "Straße"),
        ("istanbul", "İSTANBUL'da", "İSTANBUL"),
        ("ὀδυσσεύς", "ὈΔΥΣΣΕΎΣ", "ὈΔΥΣΣΕΎΣ"),
        ("東京", "私は大東京に", "東京"),
        ("Tシャツ", "私のTシャツを", "Tシャツ"),
        ("art", "日本art本", "art"),
        ("कर", "काम करें", None),
        ("कर", "वह कर रहा", "कर"),
    ],
)
def test_what_counts_as_the_banned_text(ban: str, text: str, found: str | None) -> None:
    place = BanList([Ban(ban)]).find(text, final=True)
    assert (place and text[place.start : place.end]) == found
    assert place is None or (place.ban == ban and place.closed)


def test_a_word_at_the_end_may_still_grow_longer() -> None:
    bans = BanList([Ban("art"), Ban("new york"), Ban("東京")])
    growing = bans.find("party art", final=False)
    assert growing is not None and not growing.closed and (growing.start, growing.end) == (6, 9)
    for text in ("party art", "party art ", "party art'", "party art本", "大東京", "new\tyork."):
        closed = bans.find(text, final=len(text) == 9)
        assert closed is not None and closed.closed
    assert bans.find("party arti", final=False) is None
    phrase = bans.find("in new  york", final=False)
    assert phrase is not None and (phrase.start, phrase.last_word, phrase.end) == (3, 8, 12)


def test_a_ban_that_means_nothing_is_refused() -> None:
    for text in ("", " ", "*", " ** "):
        with pytest.raises(InterventionError, match="bans nothing"):
            Ban(text)
    for text in ("*ing", "a*b", "new* york"):
        with pytest.raises(InterventionError, match="only at the end"):
            Ban(text)


CHARACTERS = [*"abAB 'é1кК東京", "\u0301", "\n"]
WORDS = st.text([letter for letter in CHARACTERS if letter.isalnum()], min_size=1, max_size=3)
ANY_BAN = st.one_of(WORDS, WORDS.map("{}*".format), st.tuples(WORDS, WORDS).map(" ".join))


@settings(max_examples=400, deadline=None)
@given(
    bans=st.lists(ANY_BAN, min_size=1, max_size=4),
    text=st.text(CHARACTERS, max_size=12),
    more=st.text(CHARACTERS, max_size=6),
)
def test_what_is_closed_stays_found_and_what_is_settled_stays_free(bans: list[str], text: str, more: str) -> None:
    listed = BanList(list(map(Ban, bans)))
    found = listed.find(text, final=False)
    if found is not None and found.closed:
        # An accent may still change the last letter.
        assume(not more.startswith("\u0301"))
        assert listed.find(text + more, final=False) is not None
        return
    later = listed.find(text + more, final=True)
    if later is not None:
        assert later.last_word >= listed.settled(text)


@settings(max_examples=400, deadline=None)
@given(
    bans=st.lists(ANY_BAN, min_size=1, max_size=4),
    text=st.text([one for one in CHARACTERS if one not in "東京\u0301"], max_size=14),
)
def test_a_list_finds_what_plain_patterns_find(bans: list[str], text: str) -> None:
    assume(not any(re.search("[東京]", ban) for ban in bans))
    assert (BanList(list(map(Ban, bans))).find(text, final=True) is not None) == bool(occurrences(bans, text))


# --- the real model ------------------------------------------------------------------------------


def test_signs_belong_to_words_of_their_own_scripts_and_end_all_others() -> None:
    cyrillic, hindi = BanList([Ban("с"), Ban("ты")]), BanList([Ban("क")])
    assert all(cyrillic.find(text, final=True) for text in ("как\u093eс та", "ты\u0903", "\u0483ты", "ты\u0301"))
    assert hindi.find("क्या है", final=True) is None and hindi.find("कि है", final=True) is None
    assert hindi.find("क है", final=True) is not None


@pytest.mark.real
def test_thirty_banned_words_stay_out_of_real_replies_which_stay_fluent(real_model: Any) -> None:
    bench = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "bans.py"))
    figures = bench["measure"](7, model=real_model)
    for name in bench["TRIALS"]:
        found = figures[name]
        assert found["bans"] == 30 and found["replies"] == 7
        assert found["occurrences_without_bans"] > 4
        assert found["occurrences"] == 0
        assert found["unchanged_where_nothing_banned"] in (None, 1.0)
        assert found["own_nll_ratio"] < 1.6
