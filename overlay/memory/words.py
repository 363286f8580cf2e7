"""Words and their stems, so that inflections meet: "practises" and "practising", "ёжика" and "ежик".

Latin words get the English Snowball stemmer, Cyrillic ones the Russian; all others stay whole.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Callable

# Letters and digits, as the tokenizer of SQLite's full-text index sees them: no underscore.
_WORD = re.compile(r"[^\W_]+")

# Stems that are remembered; a language has fewer words than this that anybody uses.
_REMEMBERED = 200_000

# No word is longer; what is (keys, checksums, lines of base64) has no inflection.
_LONGEST_WORD = 40


def words(text: str) -> list[str]:
    """The words of a text in order, in lower case and with one spelling for each letter ("ё" as "е")."""
    return _WORD.findall(unicodedata.normalize("NFC", text).casefold().replace("ё", "е"))


def stems(text: str) -> list[str]:
    """The stems of a text's words, in order."""
    return [_stem(word) for word in words(text)]


def stemmer_version() -> str:
    """What the stems in a full-text index depend on: with another version it is filled anew."""
    from importlib.metadata import version

    return f"snowball {version('snowballstemmer')} 1"


@functools.lru_cache(maxsize=_REMEMBERED)
def _stem(word: str) -> str:
    if len(word) > _LONGEST_WORD:
        return word
    if "a" <= word[0] <= "z" or "À" <= word[0] <= "ɏ":
        return _stemmer("english")(word)
    if "Ѐ" <= word[0] <= "ӿ":
        return _stemmer("russian")(word)
    return word


@functools.cache
def _stemmer(language: str) -> Callable[[str], str]:
    import snowballstemmer

    stem: Callable[[str], str] = snowballstemmer.stemmer(language).stemWord
    return stem
