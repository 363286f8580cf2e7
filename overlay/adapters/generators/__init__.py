"""Generators: from plain texts to examples, by rules that the project wrote.

In go short sentences as anyone would write them; out come examples whose targets are spelled as the
adapter should spell, with the characters that changed, and choices about words that no example shows.
The same texts and seed always give the same examples. Nothing here loads a model.
"""

from __future__ import annotations

from overlay.adapters.generators.british_spelling import BritishSpelling
from overlay.adapters.generators.generator import Generator
from overlay.adapters.generators.misspelling import Misspelling
from overlay.adapters.generators.old_orthography import OldOrthography

__all__ = ["GENERATORS", "BritishSpelling", "Generator", "Misspelling", "OldOrthography"]

GENERATORS: dict[str, type[Generator]] = {
    "british_spelling": BritishSpelling,
    "misspelling": Misspelling,
    "old_orthography": OldOrthography,
}
