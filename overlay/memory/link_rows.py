"""Links between notes: as they were written, and by mention."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence

from overlay.memory.database import Database
from overlay.memory.keys import key_list
from overlay.memory.scope import Scope

# Links that are followed from one note, each way: beyond it a note is about everything.
_LINKS_OF_ONE = 16

# Notes whose links one step follows.
_LINKED_AT_ONCE = 64


class LinkRows:
    """The links of all notes; a link names the id of its goal, whoever has that id."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def write(self, key: int, links: Sequence[str]) -> None:
        """Write the links of a note, in order."""
        if links:
            self._database.run_many(
                "INSERT OR REPLACE INTO links(key, target, position, made_by) VALUES (?, ?, ?, 'written')",
                [(key, target, position) for position, target in enumerate(links)],
            )

    def replace(self, key: int, links: Sequence[str]) -> None:
        """Put these links in the place of those that were written; links by mention stay."""
        self._database.run("DELETE FROM links WHERE key = ? AND made_by = 'written'", (key,))
        self.write(key, links)

    def write_mentions(self, links: Iterable[tuple[int, str]]) -> None:
        """Write (note, id of the note that it mentions); where somebody has written the same link, that one stands."""
        self._database.run_many(
            "INSERT OR IGNORE INTO links(key, target, position, made_by) VALUES (?, ?, 0, 'mention')", links
        )

    def drop_mentions(self, note_id: str) -> None:
        """Take away the links by which texts mention this note, whose title has changed."""
        self._database.run("DELETE FROM links WHERE target = ? AND made_by = 'mention'", (note_id,))

    def drop_to(self, note_id: str) -> None:
        """Take away every link to this note."""
        self._database.run("DELETE FROM links WHERE target = ?", (note_id,))

    def around(self, keys: Iterable[int], hops: int, scope: Scope) -> tuple[set[tuple[int, int]], list[int]]:
        """Links within `hops` steps of `keys`, either way, between notes that held then; and the notes met.

        Only so many are followed from one note, and on each step: a note that everything links to says
        nothing about anything. The notes met are in order: nearest first, and then those with more links.
        """
        links: set[tuple[int, int]] = set()
        frontier = sorted(set(keys))
        seen, met = set(frontier), []
        for _ in range(hops):
            found = self._links_of(frontier[:_LINKED_AT_ONCE], scope)
            degrees = Counter(key for link in found for key in link if key not in seen)
            links |= found
            frontier = sorted(degrees, key=lambda key: (-degrees[key], key))
            seen.update(frontier)
            met.extend(frontier)
            if not frontier:
                break
        return links, met

    def among(self) -> list[tuple[int, int]]:
        """All links between notes that hold, as pairs of keys."""
        rows = self._database.rows(
            """SELECT links.key AS one, goal.key AS other FROM links JOIN notes AS origin ON origin.key = links.key
                JOIN notes AS goal ON coalesce(goal.superseded_by, goal.id) = links.target
                WHERE origin.valid_to IS NULL AND goal.valid_to IS NULL AND origin.key <> goal.key
                ORDER BY one, other"""
        )
        return [(row["one"], row["other"]) for row in rows]

    def _links_of(self, keys: Iterable[int], scope: Scope) -> set[tuple[int, int]]:
        rows = self._database.rows(
            f"""SELECT key, name,
                    (SELECT json_group_array(target) FROM (
                        SELECT target FROM links WHERE links.key = chosen.key LIMIT {_LINKS_OF_ONE})) AS away,
                    (SELECT json_group_array(key) FROM (
                        SELECT key FROM links WHERE links.target = chosen.name LIMIT {_LINKS_OF_ONE})) AS here
                FROM (SELECT key, coalesce(superseded_by, id) AS name FROM notes
                    WHERE key IN (SELECT value FROM json_each(?))) AS chosen""",
            (key_list(keys),),
        )
        away = [(row["key"], target) for row in rows for target in json.loads(row["away"])]
        here = [(origin, row["key"]) for row in rows for origin in json.loads(row["here"])]
        goals = self._holders({target for _, target in away}, scope)
        origins = set(self._holding({origin for origin, _ in here}, scope))
        found = {(one, goals[target]) for one, target in away if target in goals}
        found.update(pair for pair in here if pair[0] in origins)
        return {(one, other) for one, other in found if one != other}

    def _holders(self, names: Iterable[str], scope: Scope) -> dict[str, int]:
        """By id, the note that had it and held."""
        rows = self._database.rows(
            f"""SELECT key, coalesce(superseded_by, id) AS name FROM notes
                WHERE coalesce(superseded_by, id) IN (SELECT value FROM json_each(:names)) AND {scope.held()}""",
            {"names": json.dumps(sorted(names)), **scope.values()},
        )
        return {row["name"]: row["key"] for row in rows}

    def _holding(self, keys: Iterable[int], scope: Scope) -> list[int]:
        """Those of these notes that held."""
        rows = self._database.rows(
            f"SELECT key FROM notes WHERE key IN (SELECT value FROM json_each(:keys)) AND {scope.held()}",
            {"keys": key_list(keys), **scope.values()},
        )
        return [row["key"] for row in rows]
