"""Duplicates: whether a text says what stands there already, and whether it only repeats what was recalled.

Losing a fact is worse than keeping it twice, so only what changes no meaning is set aside: letter
case, white space, typographic signs, and words that fill pauses. "Anna moved to Tver" and "Anna
moved to Omsk" have a cosine of .9 and nearly all words in common, also in the middle of a long
text; the numbers, the negations and every other word must therefore be the same, in the same order.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Iterable, Sequence

from overlay.memory.passages import sentences
from overlay.memory.words import stems, words

# Words that can go without a change of meaning.
_FILLER_WORDS = (
    "a an the oh um uh er hmm well just really actually please ну вот же ведь э эм ах ох уж просто пожалуйста"
)
_FILLERS = frozenset(_FILLER_WORDS.split())

# Signs at the edge of a word that don't change what it says. A question mark does, and the signs in "C++" or "-5" do.
_EDGES = ".,;:!…\"'«»“”„‘’()[]*_`–—"
_DASH = re.compile(r"^[-–—]+$")

# Words that turn a statement round: with another one of them it is another statement.
_NEGATION_WORDS = (
    "no not never none nobody nothing neither nor without cannot hardly t isn aren wasn weren don doesn didn won"
    " wouldn couldn shouldn hasn haven hadn не нет ни никогда никто ничего без нельзя"
)
_NEGATIONS = frozenset(_NEGATION_WORDS.split())

# What stands around a repeated statement: who says or remembers it, and words that only hold a sentence together.
_FRAME_WORDS = (
    "say said says tell told tells remember remembers recall recalls mention mentioned note noted know knew think"
    " believe write wrote ask asked yes yeah ok okay sure indeed right true fact earlier before already again"
    " i you he she it we they me him her us them my your his its our their mine yours this that these those"
    " is are was were be been am do does did has have had will would can could should may might must"
    " of to in on at by for with from as about and or but so then also too if because that there here"
    " сказать сказал сказала говорил говорила говорить говорит помню помнить помнишь помнит вспомнил вспомнила"
    " упомянул упомянула знаю знаешь думаю да конечно верно правда раньше уже снова"
    " я ты он она оно мы вы они меня мне тебя тебе его ему её ей нас нам вас вам их им мой твой наш ваш"
    " это этот эта эти то что как и а но или так тоже также если потому в на с к о об от до по за у из для"
    " был была было были есть будет"
)
_FRAMES = frozenset(stem for word in _FRAME_WORDS.split() for stem in stems(word))


def folded(text: str) -> str:
    """A text without what doesn't change what it says; equal for duplicates, and never empty for a text that isn't."""
    found = []
    for token in unicodedata.normalize("NFC", text).casefold().replace("ё", "е").split():
        word = token.strip(_EDGES) or token
        if word not in _FILLERS and not _DASH.match(word):
            found.append(word)
    return " ".join(found) or " ".join(text.split())


def is_echo(text: str, recalled: Iterable[str]) -> bool:
    """Whether a text says nothing but what one of the recalled texts says.

    Each of its sentences must repeat a part of a single recalled sentence: all its words but those
    of saying and remembering stand there in the same order, with the same numbers and negations.
    A text of nothing but such frames repeats nothing.
    """
    known = [
        (stems(other[first:last]), _negations(other[first:last]))
        for other in recalled
        for first, last in sentences(other)
    ]
    has_repeated = False
    for first, last in sentences(text):
        sentence = text[first:last]
        content = _content(stems(sentence))
        if not content:
            if _negations(sentence) or _is_question(sentence):
                return False
            continue
        if _is_question(sentence) or not any(
            _negations(sentence) == negations and _repeats(content, other) for other, negations in known
        ):
            return False
        has_repeated = True
    return has_repeated


def _repeats(content: Sequence[str], other: Sequence[str]) -> bool:
    """Whether the content stands in the other sentence in its order."""
    # One word alone is in too many sentences to be a statement from one of them.
    if len(content) < 2 and len(_content(other)) > 1:
        return False
    remaining = iter(other)
    return all(stem in remaining for stem in content)


def _content(found: Sequence[str]) -> list[str]:
    return [stem for stem in found if stem not in _FRAMES and stem not in _NEGATIONS and stem not in _FILLERS]


def _negations(sentence: str) -> int:
    found = words(sentence)
    # "doesn't" is two words and one negation, as is "can't".
    halves = sum(word == "t" and before in _NEGATIONS for before, word in itertools.pairwise(found))
    return sum(word in _NEGATIONS for word in found) - halves


def _is_question(sentence: str) -> bool:
    return sentence.rstrip("\"'»”’) ").endswith("?")
