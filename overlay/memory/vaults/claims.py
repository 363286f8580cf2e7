"""Which file of which vault each note came from, and what stood in it: what makes a second import quick."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

from overlay.memory.truth import Truth
from overlay.memory.vaults.page import RawLink

# What a file says, beside the vault_files of the truth: a row goes, or gets another id, with the row of that file.
_SCHEMA = """
CREATE TABLE IF NOT EXISTS vault_pages (
    note_id TEXT PRIMARY KEY REFERENCES vault_files(note_id) ON DELETE CASCADE ON UPDATE CASCADE,
    aliases TEXT NOT NULL,
    links TEXT NOT NULL,      -- (line, target, style) of each link as it stands on the page
    targets TEXT NOT NULL     -- ids of the notes that they were taken for
) WITHOUT ROWID
"""

# The digest of a file that was claimed by an import which has not written its note yet.
UNWRITTEN = ""


@dataclass(frozen=True)
class Claim:
    """A file of a vault and its note.

    folder: of the vault, relative to the memory's. file: in the vault. digest, size, mtime_ns: of the file
    when it was last read. aliases, links, targets: of the page. is_current: whether the note holds.
    """

    note_id: str
    folder: str
    file: str
    digest: str = UNWRITTEN
    size: int = -1
    mtime_ns: int = -1
    aliases: tuple[str, ...] = ()
    links: tuple[RawLink, ...] = ()
    targets: tuple[str, ...] = ()
    is_current: bool = True


class Claims:
    """The claims of all vaults of one memory."""

    def __init__(self, truth: Truth) -> None:
        self._truth = truth
        if not truth.rows("SELECT 1 FROM sqlite_master WHERE name = 'vault_pages'"):
            with truth.transaction():
                truth.run(_SCHEMA)

    def all(self) -> dict[str, Claim]:
        """Every claim, by note id."""
        rows = self._truth.rows(
            """SELECT vault_files.*, aliases, links, targets,
                    notes.key IS NOT NULL AND notes.valid_to IS NULL AS is_current
                FROM vault_files LEFT JOIN vault_pages USING (note_id) LEFT JOIN notes ON notes.id = note_id"""
        )
        return {
            row["note_id"]: Claim(
                note_id=row["note_id"],
                folder=row["folder"],
                file=row["file"],
                # Without its annex a claim was made, and the import cut short.
                digest=UNWRITTEN if row["links"] is None else row["digest"],
                size=row["size"],
                mtime_ns=row["mtime_ns"],
                aliases=tuple(json.loads(row["aliases"] or "[]")),
                links=tuple(RawLink(*link) for link in json.loads(row["links"] or "[]")),
                targets=tuple(json.loads(row["targets"] or "[]")),
                is_current=bool(row["is_current"]),
            )
            for row in rows
        }

    def write(self, claims: Iterable[Claim]) -> None:
        """Write claims, each in the place of what stood under its id."""
        with self._truth.transaction():
            for claim in claims:
                self._truth.run(
                    """INSERT INTO vault_files(note_id, folder, file, digest, size, mtime_ns) VALUES (?, ?, ?, ?, ?, ?)
                        ON CONFLICT(note_id) DO UPDATE SET folder = excluded.folder, file = excluded.file,
                            digest = excluded.digest, size = excluded.size, mtime_ns = excluded.mtime_ns""",
                    (claim.note_id, claim.folder, claim.file, claim.digest, claim.size, claim.mtime_ns),
                )
                if claim.digest == UNWRITTEN:
                    self._truth.run("DELETE FROM vault_pages WHERE note_id = ?", (claim.note_id,))
                    continue
                self._truth.run(
                    "INSERT OR REPLACE INTO vault_pages VALUES (?, ?, ?, ?)",
                    (claim.note_id, *map(_json, (claim.aliases, claim.links, claim.targets))),
                )

    def drop(self, note_ids: Iterable[str]) -> None:
        """These files are gone."""
        with self._truth.transaction():
            for note_id in note_ids:
                self._truth.run("DELETE FROM vault_files WHERE note_id = ?", (note_id,))

    def rename(self, before: str, note_id: str, file: str, source: str, at: float) -> None:
        """A file has moved: its note goes on under another id, and so do its versions and all links to it."""
        with self._truth.transaction():
            run = self._truth.run
            versions = [before]
            versions += [
                row["id"] for row in self._truth.rows("SELECT id FROM notes WHERE superseded_by = ?", (before,))
            ]
            for version in versions:
                after = note_id + version.removeprefix(before)
                run("UPDATE notes SET id = ? WHERE id = ?", (after, version))
                run("UPDATE OR REPLACE links SET target = ? WHERE target = ?", (after, version))
                run("UPDATE journal SET note_id = ? WHERE note_id = ?", (after, version))
            run("UPDATE notes SET superseded_by = ? WHERE superseded_by = ?", (note_id, before))
            run("UPDATE notes SET source = ? WHERE id = ?", (source, note_id))
            run("UPDATE vault_files SET note_id = ?, file = ? WHERE note_id = ?", (note_id, file, before))
            self._truth.journal.write(at, "moved", note_id)


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
