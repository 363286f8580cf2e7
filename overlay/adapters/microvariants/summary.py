"""Summary: an arrow behind the text and a few of its own words."""

from __future__ import annotations

from collections.abc import Sequence

from overlay.adapters.microvariants.edit import Edit, content_words, edited

LENGTHS = (1, 2, 3, 4)
"""Words of a summary."""


def summaries(text: str, arrows: Sequence[str]) -> list[Edit]:
    """The text, an arrow, and its longest content words in their order; longer words name the topic more often."""
    words = list(dict.fromkeys(found[0].lower() for found in content_words(text)))
    by_length = sorted(words, key=lambda word: (-len(word), words.index(word)))
    found = []
    for arrow in arrows:
        for length in LENGTHS[: len(words)]:
            chosen = [word for word in words if word in by_length[:length]]
            found.append(edited(text, "summary", (len(text), len(text), f" {arrow} {' '.join(chosen)}")))
    return found
