"""Bans: text that may never appear in an output, so that the model has to find another way to say it."""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache

from overlay.errors import InterventionError

_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\uff66-\uff9f"
    "\U00020000-\U0003ffff"
)
"""Scripts that write without spaces: there a word has no border to look for."""

_ONE_LETTER = str.maketrans({"\u0131": "i"})
"""The dotless i is what other languages' capital I stands for."""

_FIRST_VOWEL_SIGN = 0x370
"""Marks before it are accents, which were joined to their letters already wherever that is possible."""

_FIRST_SIGNED_SCRIPT = 0x590
"""From Hebrew on, signs belong to the word. Beside Latin, Greek or Cyrillic letters they are noise, and end it."""

_LONGEST_FORM = 3
"""Characters that one folded character can come from: a decomposed syllable or letter with two accents."""


@dataclass(frozen=True)
class Ban:
    """A word or phrase that may not be generated, whatever its case; a final `*` bans all words that begin so.

    Whole words are meant: banning "art" leaves "party" and "artist" alone, `art*` doesn't leave "artist". Signs end a
    word: banning "it" bans "it's" and "_it_". Words of a phrase may be parted by any white space. How accents are
    encoded makes no difference.

    Raises:
        InterventionError: nothing to ban, or a `*` at a letter that isn't the last.
    """

    text: str

    def __post_init__(self) -> None:
        if not self.text.strip(" *\n\t"):
            raise InterventionError(f"a ban of '{self.text}' bans nothing", "give a word or a phrase")
        if re.search(r"\*\w|\w\*(?!\**\s*\Z)", self.text):
            raise InterventionError(
                f"a ban of '{self.text}': a * stands for more letters, and only at the end", "name the words one by one"
            )

    @property
    def words(self) -> tuple[str, ...]:
        """Its words in the form in which texts are compared."""
        return tuple(_fold(self.text).rstrip().rstrip("*").split())

    @property
    def opens_word(self) -> bool:
        """Whether it counts only when no letter comes before it."""
        return _is_letter(self.words[0][0])

    @property
    def ends_word(self) -> bool:
        """Whether it counts only when no letter follows."""
        return _is_letter(_fold(self.text).rstrip()[-1])


@dataclass(frozen=True)
class BannedText:
    """A place where a text breaks a ban: characters from `start` to `end`, the last of its words from `last_word` on.

    `closed` if nothing can rescue it.
    """

    ban: str
    start: int
    last_word: int
    end: int
    closed: bool


class BanList:
    """Finds the first banned text in what a row has generated."""

    def __init__(self, bans: Sequence[Ban]) -> None:
        self._bans = tuple(bans)
        self._closed, self._open = _patterns(self._bans)
        self._reach = _LONGEST_FORM * max(len(ban.words[-1]) for ban in bans)

    def find(self, text: str, *, final: bool) -> BannedText | None:
        """The first banned text; at the end of an unfinished text a word may still grow longer: it is `closed` only
        when more follows, or when `final`."""
        folded = _fold(text)
        found = self._closed.search(folded)
        if found:
            return self._named(found, text, True)
        found = self._open.search(folded)
        return self._named(found, text, final) if found else None

    def settled(self, text: str) -> int:
        """How many characters of an unfinished text are certain to stay, whatever follows."""
        return max(_last_word(text), len(text) - self._reach)

    def _named(self, found: re.Match[str], text: str, closed: bool) -> BannedText:
        start, end = found.span()
        start, last, end = (_unfolded(text, place) for place in (start, start + _last_word(found[0]), end))
        return BannedText(self._bans[int((found.lastgroup or "")[3:])].text, start, last, end, closed)


@lru_cache(256)
def _patterns(bans: tuple[Ban, ...]) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """What finds banned text that nothing can rescue, and such as may still grow longer; a group "banN" names it."""
    kinds: dict[tuple[bool, bool, bool], list[str]] = {}
    for index, ban in enumerate(bans):
        body = r"\s+".join(map(re.escape, ban.words))
        signs = any(ord(character) >= _FIRST_SIGNED_SCRIPT for character in body)
        kinds.setdefault((ban.opens_word, ban.ends_word, signs), []).append(f"{body}(?P<ban{index}>)")
    closed, growing = [], []
    for (opens, ends, signs), bodies in kinds.items():
        letter = _letter() if signs else _bare_letter()
        # Looking for a first letter before anything else passes over most of a text at once.
        initials = "".join(sorted({body[:2] if body[0] == "\\" else body[0] for body in bodies}))
        begin = f"(?=[{initials}])" + (f"(?<!{letter})" if opens else "") + f"(?:{'|'.join(bodies)})"
        # At the end of the text a letter may still come: something that is none must stand there.
        closed.append(begin + (rf"(?!{letter})(?!\Z)" if ends else ""))
        if ends:
            growing.append(begin + r"\Z")
    return re.compile("|".join(closed)), re.compile("|".join(growing) or r"\Z.")


def _last_word(text: str) -> int:
    found = re.search(r"\S*\Z", text)
    return found.start() if found else 0


def _fold(text: str) -> str:
    """The form in which texts are compared: composed, and caseless (Unicode 16, section 3.13.5)."""
    caseless = unicodedata.normalize("NFC", text).casefold().translate(_ONE_LETTER)
    return unicodedata.normalize("NFC", caseless).replace("i\u0307", "i")


def _unfolded(text: str, place: int) -> int:
    """Where in `text` the character stands that has index `place` in its folded form."""
    if text.isascii():
        return place
    return bisect_right(range(len(text)), place, key=lambda index: len(_fold(text[: index + 1])))


def _is_letter(character: str) -> bool:
    """Whether it belongs to a word, and to a script that writes with spaces."""
    return re.fullmatch(_letter(), character) is not None


def _bare_letter() -> str:
    """A regular expression for one letter or digit of a script that writes with spaces."""
    return rf"[^\W_{_UNSPACED}]"


@cache
def _letter() -> str:
    """A regular expression for one letter, digit or vowel sign of a script that writes with spaces."""
    codes = [code for code in range(_FIRST_VOWEL_SIGN, 0x20000) if unicodedata.category(chr(code)).startswith("M")]
    marks = "".join(chr(code) for code in codes if not re.match(f"[{_UNSPACED}]", chr(code)))
    return rf"(?:{_bare_letter()}|[{marks}])"
