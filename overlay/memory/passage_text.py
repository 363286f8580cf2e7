"""What of a passage is embedded, indexed and looked at: its text below the title of its note."""

from __future__ import annotations

PASSAGE_TEXTS = """
    SELECT passages.key, passages.position, passages.start, passages.end, notes.title,
        substr(notes.text, passages.start + 1, passages.end - passages.start) AS text
    FROM passages JOIN notes ON notes.key = passages.note
"""


def embedded_text(title: str, text: str, position: int) -> str:
    """What of a passage is embedded: the note's title, unless the note begins with it, and the passage.

    A passage from the middle of a text seldom says what the text is about.
    """
    if not title or (position == 0 and text.lstrip("# \n").casefold().startswith(title.casefold())):
        return text
    return f"{title}\n{text}"
