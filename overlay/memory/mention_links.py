"""Links by mention: a text that names another note's title is linked to it, whichever of them came first."""

from __future__ import annotations

from overlay.memory.mentions import Titles, title_words
from overlay.memory.truth import Truth
from overlay.memory.words import stems

# Links that one text can get by what it mentions: what names more is a list of everything.
_MOST = 32

# Older texts that are read through for a new title: one that stands in more is a common word.
_OLDER_TEXTS = 256


class MentionLinks:
    """Finds mentions while notes are written, inside the transaction that writes them.

    The titles of all notes are kept in memory from the first write on. Notes mention each other
    only within their namespace; folds, which quote everything, mention nothing.
    """

    def __init__(self, truth: Truth) -> None:
        self._truth = truth
        self._titles: dict[str, Titles] | None = None

    def reset(self) -> None:
        """Read the titles again before the next use: notes were deleted, or a transaction was undone."""
        self._titles = None

    def link(self, key: int, text: str, title: str, namespace: str, *, is_new_text: bool) -> None:
        """Link a note that was just written with what it mentions, if its text is new, and with what mentions it."""
        titles = self._known().setdefault(namespace, Titles({}))
        if is_new_text:
            self._link_away(key, text, titles)
        if name := title_words(title):
            titles.add(key, title)
            self._link_here(key, title, name, namespace)

    def _link_away(self, key: int, text: str, titles: Titles) -> None:
        mentioned = titles.mentioned_in(text) - {key}
        if mentioned:
            targets = self._truth.rows(
                """SELECT DISTINCT id FROM notes WHERE key IN (SELECT value FROM json_each(?)) AND valid_to IS NULL
                    AND id <> (SELECT id FROM notes WHERE key = ?) ORDER BY key LIMIT ?""",
                (str(sorted(mentioned)), key, _MOST),
            )
            self._truth.links.write_mentions([(key, row["id"]) for row in targets])

    def _link_here(self, key: int, title: str, name: tuple[str, ...], namespace: str) -> None:
        named = Titles({key: title})
        found = self._truth.rows(
            """SELECT DISTINCT notes.key, notes.text FROM passages_text
                JOIN passages ON passages.key = passages_text.rowid JOIN notes ON notes.key = passages.note
                WHERE passages_text MATCH ? AND notes.key <> ? AND namespace = ? AND kind <> 'fold'
                AND valid_to IS NULL LIMIT ?""",
            ('"' + " ".join(stems(" ".join(name))) + '"', key, namespace, _OLDER_TEXTS),
        )
        [target] = [row["id"] for row in self._truth.rows("SELECT id FROM notes WHERE key = ?", (key,))]
        self._truth.links.write_mentions([(row["key"], target) for row in found if named.mentioned_in(row["text"])])

    def _known(self) -> dict[str, Titles]:
        if self._titles is None:
            self._titles = {}
            rows = self._truth.rows(
                "SELECT key, namespace, title FROM notes WHERE title <> '' AND kind <> 'fold' AND valid_to IS NULL"
            )
            for row in rows:
                self._titles.setdefault(row["namespace"], Titles({})).add(row["key"], row["title"])
        return self._titles
