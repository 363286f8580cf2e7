"""Bans: text that may never appear in an output, so that the model has to find another way to say it."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from overlay.errors import InterventionError

# Scripts that write without spaces: there a word has no border to look for.
_UNSPACED = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")


@dataclass(frozen=True)
class Ban:
    """A word or phrase that may not be generated, whatever its case; a final `*` bans all words that begin so.

    Whole words are meant: banning "art" leaves "party" and "artist" alone, `art*` doesn't leave "artist".
    Words of a phrase may be parted by any white space.
    """

    text: str

    def __post_init__(self) -> None:
        if not self.text.rstrip("*").strip():
            raise InterventionError(f"a ban of '{self.text}' bans nothing", "give a word or a phrase")

    @property
    def pattern(self) -> str:
        """A regular expression for the banned text, without its right border."""
        words = unicodedata.normalize("NFC", self.text).rstrip("*").split()
        body = r"\s+".join(re.escape(word) for word in words)
        opens = "" if _UNSPACED.match(words[0][0]) or not _is_word(words[0][0]) else r"(?<!\w)"
        return opens + body

    @property
    def needs_border(self) -> bool:
        """Whether the banned text counts only when no letter follows."""
        last = self.text.strip()[-1]
        return _is_word(last) and not _UNSPACED.match(last)


@dataclass(frozen=True)
class BannedText:
    """A place where a text breaks a ban: characters from `start` to `end`; `closed` if nothing can rescue it."""

    ban: str
    start: int
    end: int
    closed: bool


class BanList:
    """Finds the first banned text in what a row has generated."""

    def __init__(self, bans: Sequence[Ban]) -> None:
        self._words = {f"ban{index}": ban.text for index, ban in enumerate(bans)}
        listed = sorted(zip(self._words, bans, strict=True), key=lambda pair: -len(pair[1].text))
        closed = [f"(?P<{name}>{ban.pattern}{_closing(ban)})" for name, ban in listed]
        open_ended = [f"(?P<{name}>{ban.pattern})\\Z" for name, ban in listed if ban.needs_border]
        self._closed = re.compile("|".join(closed), re.IGNORECASE)
        self._open = re.compile("|".join(open_ended), re.IGNORECASE) if open_ended else None
        self.reach = max(len(ban.text) for ban in bans) * 2 + 32
        """How many of the last characters have to be looked at when something was added."""

    def find(self, text: str, *, final: bool) -> BannedText | None:
        """The first banned text; at the end of an unfinished text a word may still grow longer: it is `closed` only
        when more follows, or when `final`."""
        text = unicodedata.normalize("NFC", text)
        found = self._closed.search(text)
        if found:
            return self._named(found, True)
        found = self._open.search(text) if self._open else None
        return self._named(found, final) if found else None

    def _named(self, found: re.Match[str], closed: bool) -> BannedText:
        name = found.lastgroup or ""
        return BannedText(self._words[name], found.start(name), found.end(name), closed)


def _closing(ban: Ban) -> str:
    # A character that can't continue the word must stand there: at the end of the text it may still come.
    return r"(?=[^\w])" if ban.needs_border else ""


def _is_word(character: str) -> bool:
    return re.match(r"\w", character) is not None
