"""Mistakes of written files: what a check tells of each, as lines for people and as rows for programs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from overlay.document_schema import JsonSchema
    from overlay.errors import DocumentError

MISTAKEN = 2
"""The exit code when a written file has mistakes."""

_ALSO = re.compile(r"\n  also line (\d+): ")
_UNKNOWN_KEY = re.compile(r"'([^']*)' is not a known key")


@dataclass(frozen=True)
class Mistake:
    """One mistake of one file; `next_step` is empty but at the last of those that are told together.

    `expected` says which keys may stand where an unknown one stands.
    """

    file: str
    line: int | None
    problem: str
    expected: str = ""
    next_step: str = ""

    def __str__(self) -> str:
        expected = f"; expected: {self.expected}" if self.expected else ""
        return f"{_place(self.file, self.line)}: {self.problem}{expected}"


def mistakes_of(error: DocumentError, schema: JsonSchema) -> list[Mistake]:
    """Each mistake that an error lists by itself; `schema` is that of the file with the mistakes."""
    file = str(error.path)
    first, *others = _ALSO.split(error.problem.removeprefix(f"{_place(file, error.line)}: "))
    found = [(error.line, first), *zip(map(int, others[::2]), others[1::2], strict=True)]
    last = len(found) - 1
    return [
        Mistake(file, line, problem, _expected(problem, schema), error.next_step if place == last else "")
        for place, (line, problem) in enumerate(found)
    ]


def print_mistakes(mistakes: Iterable[Mistake]) -> None:
    """A line for each, and what to do about them."""
    for mistake in mistakes:
        print(mistake)
        if mistake.next_step:
            print(f"  -> {mistake.next_step}")


def tell_checked(found: Mapping[str, Sequence[Mistake]], what: str, *, key: str = "file", as_json: bool) -> None:
    """Print what a check found and end with the exit code for mistakes if there are any.

    Args:
        found: the mistakes of everything that was checked, by what `key` says: its file, or its name.
        what: was checked, in the plural, such as "frames".
    """
    wrong = sum(map(bool, found.values()))
    if as_json:
        rows = [
            {key: name, "ok": not mistakes, "mistakes": [asdict(one) for one in mistakes]}
            for name, mistakes in found.items()
        ]
        print(json.dumps(rows, ensure_ascii=False))
    else:
        print_mistakes(one for mistakes in found.values() for one in mistakes)
        print(f"{len(found)} {what}, {wrong} with mistakes" if wrong else f"{len(found)} {what}: OK")
    if wrong:
        raise typer.Exit(MISTAKEN)


def _expected(problem: str, schema: JsonSchema) -> str:
    import difflib

    from overlay.document_schema import known_keys

    unknown = _UNKNOWN_KEY.fullmatch(problem)
    keys = known_keys(schema, unknown[1]) if unknown else ()
    if not unknown or not keys:
        return ""
    near = difflib.get_close_matches(unknown[1].rpartition(".")[2], keys, 1)
    return (f"'{near[0]}', or another of " if near else "one of ") + ", ".join(keys)


def _place(file: str, line: int | None) -> str:
    return file if line is None else f"{file}:{line}"
