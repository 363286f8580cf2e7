"""Inflections: the words of a lexicon in any of their forms, English or Russian, wherever a text has them.

Two words belong together when the Snowball stemmer gives them one stem. That alone is too coarse ("careful" and
"cares", "compass" and "compassion", "любой" and "любить" share stems), so what the two words add to what they have in
common must also be endings of one word class, and of a class that the lexicon shows the word to have.
"""

from __future__ import annotations

import functools
import itertools
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

SHORTEST_STEM = 3
"""Letters that two forms of an English word share at least: "lov" in "love" and "loving"."""

_ENGLISH_ENDINGS: tuple[tuple[str, frozenset[str]], ...] = (
    ("noun", frozenset({"", "s", "es"})),
    ("noun", frozenset({"y", "ies"})),
    ("verb", frozenset({"", "s", "es", "d", "ed", "ing", "edly", "ingly"})),
    ("verb", frozenset({"e", "es", "ed", "ing", "edly", "ingly"})),
    ("verb", frozenset({"y", "ies", "ied"})),
    ("adjective", frozenset({"", "r", "er", "st", "est", "ly", "ness", "nesses"})),
    ("adjective", frozenset({"e", "y"})),
    ("adjective", frozenset({"y", "ier", "iest", "ily", "iness"})),
)
"""Endings that go together, after what two forms have in common."""

_DERIVING = ("ly", "ness", "nesses", "ily", "iness")
"""Endings that make a word of another kind: "warm" is no form of "warmly", as "warmly" is of "warm"."""

_RUSSIAN_ENDINGS = {
    "noun": re.compile(
        r"(?:а|я|о|е|ь|й|ы|и|у|ю|ой|ей|ою|ею|ом|ем|ам|ям|ами|ями|ах|ях|ов|ев|ий|ия|ию|ии|ие|ией|иею|ием|иям|иями|иях"
        r"|ью|ья|ье|ьи|ьем|ьям|ьями|ьях)?"
    ),
    "noun of quality": re.compile(r"н?ост(?:ь|и|ью|ей|ям|ями|ях)"),
    "verb": re.compile(
        r"(?:[аяиеыую]?(?:ть|л|ла|ло|ли|в|вши|вш.{2,3}|н|на|но|ны|нн.{2,3}|м.{2,3}|ющ.{2,3}|ящ.{2,3}|щ.{1,3})"
        r"|[аяе]?(?:ю|ешь|ет|ем|ете|ют|й|йте)|я|у|ут|ишь|ит|им|ите|ат|ят|и|ь|ьте|ти|ущ.{2,3}|ащ.{2,3}|ящ.{2,3})"
        r"(?:ся|сь)?"
    ),
    "verb in -овать": re.compile(r"ова.*|у(?:ю|ешь|ет|ем|ете|ют|й|йте|я|ющ.{2,3})(?:ся|сь)?"),
    # The stemmer makes one н of two.
    "adjective": re.compile(
        r"н?(?:ый|ий|ой|ая|яя|ое|ее|ые|ие|ого|его|ому|ему|ым|им|ом|ем|ую|юю|ей|ою|ею|ых|их|ыми|ими|а|я|о|е|ы|и|ь"
        r"|ейш.{2,3})?"
    ),
}

_WORD = re.compile(r"[^\W\d_]+")
_JOINT = re.compile(r"[\s\-‐-―'’]*")
"""What may stand between the words of a phrase."""


@dataclass(frozen=True)
class Found:
    """A word of a lexicon in a text: where it stands, how it is written there, and the lexicon's form of it."""

    start: int
    end: int
    word: str
    entry: str


class WordFinder:
    """Finds the words and phrases of a lexicon and their inflections, whatever their case, accents and hidden signs.

    Words of the lexicon count in any sense. Scripts other than Latin and Cyrillic are found as they are written.
    """

    def __init__(self, lexicon: Sequence[str]) -> None:
        self._words: dict[str, str] = {}
        self._phrases: list[tuple[tuple[str, ...], str]] = []
        self._signs: list[tuple[str, str]] = []
        for entry in lexicon:
            plain = _Plain(entry.strip()).text
            words = tuple(_WORD.findall(plain))
            if len(words) == 1:
                self._words.setdefault(words[0], entry)
            elif words:
                self._phrases.append((words, entry))
                if "-" in entry:
                    self._words.setdefault("".join(words), entry)
            elif plain:
                self._signs.append((plain, entry))
        self._families = _families(self._words)
        self._known: dict[str, str | None] = {}

    def __call__(self, text: str) -> list[Found]:
        """All places in `text`, in order; a word inside a longer find isn't told twice."""
        plain = _Plain(text)
        words = [(match.start(), match.end(), match.group()) for match in _WORD.finditer(plain.text)]
        spans = [(start, end, entry) for start, end, word in words if (entry := self._entry(word)) is not None]
        longest = max((len(phrase) for phrase, _ in self._phrases), default=0)
        for place in range(len(words) if longest else 0):
            spans += self._phrases_at(plain.text, words[place : place + longest])
        for sign, entry in self._signs:
            spans += [(match.start(), match.end(), entry) for match in re.finditer(re.escape(sign), plain.text)]
        found: list[Found] = []
        for start, end, entry in sorted(spans, key=lambda span: (span[0], -span[1])):
            first, last = plain.places[start], plain.places[end - 1] + 1
            if not found or first >= found[-1].end:
                found.append(Found(first, last, plain.text[start:end], entry))
        return found

    def _entry(self, word: str) -> str | None:
        """The entry that `word` is a form of."""
        if word not in self._known:
            self._known[word] = self._look_up(word)
        return self._known[word]

    def _look_up(self, word: str) -> str | None:
        if word in self._words:
            return self._words[word]
        for key in _stems(word):
            family = self._families.get(key, ())
            forms = [entry for entry in family if _classes(entry, word) & _shown_classes(entry, family)]
            if forms:
                return self._words[max(forms, key=lambda form: (_shared(form, word), -len(form)))]
        return None

    def _phrases_at(self, text: str, words: Sequence[tuple[int, int, str]]) -> list[tuple[int, int, str]]:
        found = []
        for phrase, entry in self._phrases:
            here = words[: len(phrase)]
            if len(here) == len(phrase) and all(
                word == wanted or is_inflection(word, wanted) for (_, _, word), wanted in zip(here, phrase, strict=True)
            ):
                gaps = [text[left[1] : right[0]] for left, right in itertools.pairwise(here)]
                if all(_JOINT.fullmatch(gap) for gap in gaps):
                    found.append((here[0][0], here[-1][1], entry))
        return found


def is_inflection(word: str, of: str) -> bool:
    """Whether two words, in small letters, are forms of one word as far as their endings tell."""
    return bool(set(_own_stems(of)) & set(_stems(word))) and bool(_classes(of, word))


def _families(words: Iterable[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for word in words:
        for key in _own_stems(word):
            found.setdefault(key, []).append(word)
    return found


def _shown_classes(word: str, family: Sequence[str]) -> frozenset[str]:
    """The word classes that the lexicon's other forms of a word show it to have; all, where it has no other form."""
    others = [other for other in family if other != word]
    shown = frozenset[str]().union(*(_classes(word, other) | _classes(other, word) for other in others))
    return shown or frozenset(_RUSSIAN_ENDINGS)


@functools.lru_cache(4096)
def _classes(one: str, other: str) -> frozenset[str]:
    """The word classes in which `other` may be a form of `one`, by their endings after what they have in common."""
    if _is_cyrillic(one):
        stem = max(set(_own_stems(one)) & set(_stems(other)), key=len, default=None)
        if stem is None:
            return frozenset()
        ends = [word[len(stem) :] for word in (one, other)]
        return frozenset(
            name for name, endings in _RUSSIAN_ENDINGS.items() if all(endings.fullmatch(end) for end in ends)
        )
    shared = _shared(one, other)
    if shared < SHORTEST_STEM:
        return frozenset()
    first, second = (_undoubled(word, shared) for word in (one, other))
    if first in _DERIVING:
        return frozenset()
    return frozenset(name for name, endings in _ENGLISH_ENDINGS if first in endings and second in endings)


def _undoubled(word: str, shared: int) -> str:
    """What follows the shared letters, without a doubled consonant, as in "hugging" after "hug"."""
    rest = word[shared:]
    return rest[1:] if rest[:1] == word[shared - 1] and rest[1:] in ("ed", "er", "est", "ing") else rest


def _shared(one: str, other: str) -> int:
    """How many letters two words begin with alike."""
    return next(
        (place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
    )


@functools.lru_cache(65536)
def _stems(word: str) -> tuple[str, ...]:
    """What the stemmer leaves of a word. English comparatives and adverbs in -ily it leaves: their base is stemmed."""
    if _is_cyrillic(word):
        # Verbs in -овать lose that in their present tense, and participles keep a vowel that the stemmer leaves.
        stem = _stemmer("russian").stemWord(word)
        return tuple(dict.fromkeys((stem, stem.removesuffix("ова"), stem.rstrip("аеиоуыюя"))))
    if not word.isascii():
        return ()
    bases = [word]
    for ending in ("er", "est"):
        if word.endswith(ending) and len(word) - len(ending) >= SHORTEST_STEM:
            base = word[: -len(ending)]
            bases += [base, base + "e"]
            bases += [base[:-1] + "y"] if base.endswith("i") else [base[:-1]] if base[-1] == base[-2] else []
    if word.endswith("ily"):
        bases.append(word[:-3] + "y")
    return tuple(dict.fromkeys(_stemmer("english").stemWord(base) for base in bases))


def _own_stems(word: str) -> tuple[str, ...]:
    """The stems by which a word of the lexicon is found: "tender" is no comparative of "tend"."""
    return _stems(word)[:2] if _is_cyrillic(word) else _stems(word)[:1]


def is_latin(text: str) -> bool:
    """Whether a text is written in Latin letters, accents and signs aside."""
    return not any(
        unicodedata.category(sign).startswith("L") and "LATIN" not in unicodedata.name(sign, "") for sign in text
    )


def _is_cyrillic(word: str) -> bool:
    return all("\u0400" <= letter <= "\u04ff" for letter in word)


@functools.cache
def _stemmer(language: str) -> Any:
    import snowballstemmer

    return snowballstemmer.stemmer(language)


class _Plain:
    """A text as words are compared: small letters without accents and invisible signs, and where each stood."""

    def __init__(self, text: str) -> None:
        self.text: str = text.lower()
        self.places: Sequence[int] = range(len(text))
        if text.isascii():
            return
        letters: list[str] = []
        places: list[int] = []
        for place, sign in enumerate(text):
            if unicodedata.category(sign) in ("Mn", "Me", "Cf"):
                if sign == "\u0306" and letters and letters[-1] == "и":
                    letters[-1] = "й"
                continue
            for part in _unfolded(sign):
                letters.append(part)
                places.append(place)
        self.text, self.places = "".join(letters), places


@functools.lru_cache(4096)
def _unfolded(sign: str) -> str:
    # й is a letter of its own, not an accented и. Signs such as ™ would unfold into letters and join the word before.
    if sign in "йЙ" or not sign.isalnum():
        return sign.casefold()
    return "".join(part for part in unicodedata.normalize("NFKD", sign.casefold()) if not unicodedata.combining(part))
