"""The curriculum file: YAML or JSON lines, read with the line of every mistake, those of its graph included."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, TypeVar

import yaml

from overlay.documents import Document, parse_document, read_document
from overlay.errors import DocumentError
from overlay.teaching.curriculum import Curriculum, Edge, ExampleNode, Header, ProbeNode
from overlay.teaching.graph import Mistake, Place, mistakes
from overlay.teaching.questions import Questions, questions

Part = TypeVar("Part", bound=Document)

OWN_CURRICULUM = "curriculum.json"
"""In an adapter's own folder: the curriculum that it was taught by, where no person wrote it."""

# What YAML takes for the end of a line, or doesn't take at all, though JSON lets it stand in a string.
_AWKWARD = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff\ud800-\udfff]")


def read_curriculum(path: Path, banks: Path | None = None) -> tuple[Curriculum, Questions]:
    """A curriculum that can be walked, and its probes.

    Args:
        banks: the folder of probe banks; only a curriculum that names a bank needs it.

    Raises:
        DocumentError: the file is wrong; every mistake of its graph is listed, each with its line.
    """
    if path.suffix == ".jsonl":
        curriculum, lines = _read_lines(path)
    else:
        curriculum = read_document(path, Curriculum)
        lines = _yaml_lines(path)
    if curriculum.name != path.stem:
        raise DocumentError(
            path,
            lines.get(("name",)),
            f"the curriculum is named '{curriculum.name}' and its file '{path.stem}'",
            "give both the same name",
        )
    found = mistakes(curriculum)
    if found:
        raise _listed(path, found, lines)
    asked, unknown = questions(curriculum, banks)
    if unknown:
        raise _listed(path, unknown, lines)
    return curriculum, asked


def _listed(path: Path, found: list[Mistake], lines: dict[Place, int]) -> DocumentError:
    placed = sorted((_line_of(mistake.place, lines), mistake.problem) for mistake in found)
    (line, first), *others = placed
    more = "".join(f"\n  also line {number}: {problem}" for number, problem in others)
    return DocumentError(path, line, first + more, "mend the line and run the command again")


def _line_of(place: Place, lines: dict[Place, int]) -> int:
    return next((lines[place[:depth]] for depth in range(len(place), 0, -1) if place[:depth] in lines), 1)


def _yaml_lines(path: Path) -> dict[Place, int]:
    """The lines of a document's keys and items, down to the keys of each node and edge."""
    root = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    lines: dict[Place, int] = {}

    def note(node: Any, place: Place) -> None:
        if len(place) > 3:
            return
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                note(value, (*place, key.value))
                lines[(*place, key.value)] = key.start_mark.line + 1
        elif isinstance(node, yaml.SequenceNode):
            for index, value in enumerate(node.value):
                lines[(*place, index)] = value.start_mark.line + 1
                note(value, (*place, index))

    note(root, ())
    return lines


def _read_lines(path: Path) -> tuple[Curriculum, dict[Place, int]]:
    try:
        written = path.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise DocumentError(path, None, f"this file is not UTF-8 text ({error.reason})", "save it as UTF-8") from None
    except OSError as error:
        raise DocumentError(path, None, f"this file can't be read: {error.strerror}", "check the path") from None
    header: Header | None = None
    parts: dict[str, list[Document]] = {"nodes": [], "edges": []}
    lines: dict[Place, int] = {}
    for number, line in enumerate(written, start=1):
        if not line.strip():
            continue
        content = _json(path, number, line)
        if header is None:
            header = _parsed(path, number, content, Header)
            lines |= dict.fromkeys(((key,) for key in content), number)
            continue
        schema: type[Document]
        if "from" in content:
            kind, schema = "edges", Edge
        elif content.get("kind") == "example":
            kind, schema = "nodes", ExampleNode
        elif content.get("kind") == "probe":
            kind, schema = "nodes", ProbeNode
        else:
            raise DocumentError(
                path, number, "neither a node nor an edge", "a node has a `kind`, example or probe; an edge has `from`"
            )
        lines[kind, len(parts[kind])] = number
        parts[kind].append(_parsed(path, number, content, schema))
    if header is None:
        raise DocumentError(path, 1, "the file is empty", f"expected: {', '.join(Header.model_fields)}")
    whole = header.model_dump(by_alias=True) | {
        kind: [one.model_dump(by_alias=True) for one in found] for kind, found in parts.items()
    }
    return Curriculum.model_validate(whole), lines


def _json(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        content = json.loads(line)
    except ValueError as error:
        raise DocumentError(path, number, f"not valid JSON: {error}", "write one JSON object a line") from None
    except RecursionError:
        raise DocumentError(path, number, "not valid JSON: it is nested too deeply", "write a flat object") from None
    if not isinstance(content, dict):
        raise DocumentError(path, number, "not a JSON object", "write one JSON object a line")
    return content


def _parsed(path: Path, number: int, content: dict[str, Any], schema: type[Part]) -> Part:
    """One line as a document of its own, its mistakes told with the line of the file."""
    text = _AWKWARD.sub(lambda found: f"\\u{ord(found[0]):04x}", json.dumps(content, ensure_ascii=False))
    try:
        return parse_document(text, schema, path)
    except DocumentError as error:
        problem = error.problem.removeprefix(f"{path}:{error.line}: ")
        problem = re.sub(r"\n  also line \d+: ", "\n  also: ", problem)
        raise DocumentError(path, number, problem, error.next_step) from None
