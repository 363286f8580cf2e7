"""Documents: the YAML files that people write, begun from a template and read with the line of every mistake."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from overlay.errors import ArgumentError, DocumentError

Location = tuple[str | int, ...]

_PLACEHOLDER = "NAME"


class Document(BaseModel):
    """Base of every schema for a written file: unknown keys are mistakes, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class MistakeAt(ValueError):
    """What a validator of a whole document raises for a mistake in one part of it, so that the line is that part's.

    `place` leads from the validated model to the part: keys and indexes, outermost first.
    """

    def __init__(self, place: Location, problem: str) -> None:
        super().__init__(problem)
        self.place = place


Schema = TypeVar("Schema", bound=BaseModel)


def read_document(path: Path | str, schema: type[Schema]) -> Schema:
    """Read one YAML file into `schema`.

    Raises:
        DocumentError: the file is missing, isn't YAML, repeats a key, or doesn't fit the schema;
            every mistake of the schema is listed, each with its line.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise DocumentError(path, None, "this file does not exist", "check the path") from None
    except UnicodeDecodeError as error:
        raise DocumentError(path, None, f"this file is not UTF-8 text ({error.reason})", "save it as UTF-8") from None
    except OSError as error:
        raise DocumentError(path, None, f"this file can't be read: {error.strerror}", "check the path") from None
    return parse_document(text, schema, path)


def parse_document(text: str, schema: type[Schema], path: Path | str) -> Schema:
    """Parse YAML `text` into `schema`; `path` is only named in errors. Raises as `read_document`."""
    lines: dict[Location, int] = {}
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        if root is not None:
            _note_lines(root, (), lines, path)
        content = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise DocumentError(
            path,
            mark.line + 1 if mark else None,
            f"not valid YAML: {error.problem or error.context}",
            "check indentation, colons and quotes on this line and the one above",
        ) from None
    except yaml.YAMLError as error:
        raise DocumentError(path, None, f"not valid YAML: {error}", "save the file as plain UTF-8 text") from None
    except (ValueError, RecursionError) as error:
        # The reader's own errors leave out dates such as 2024-13-45 and parts that stand inside themselves.
        reason = "it is nested too deeply, or in itself" if isinstance(error, RecursionError) else str(error)
        raise DocumentError(path, None, f"not valid YAML: {reason}", "put dates and long numbers in quotes") from None
    if root is None:
        raise DocumentError(path, 1, "the file is empty", f"expected: {', '.join(schema.model_fields)}")
    try:
        return schema.model_validate(content)
    except ValidationError as error:
        mistakes = [(_line_of(_location(mistake), lines), mistake) for mistake in error.errors(include_url=False)]
        # What is missing has no line of its own, and is often a misspelt key that has one.
        mistakes.sort(key=lambda pair: (pair[1]["type"] == "missing", pair[0]))
        first_line, first = mistakes[0]
        others = "".join(f"\n  also line {line}: {_phrase(mistake)}" for line, mistake in mistakes[1:])
        raise DocumentError(
            path, first_line, _phrase(first) + others, "mend the line and run the command again"
        ) from None


def new_document(name: str, room: str) -> str:
    """The text of a new document: the commented `template.yaml` of a room, such as "overlay.frames", with its name.

    The name stands where the template says `name: NAME`, and in the commands that it tells to run with NAME.
    """
    template = resources.files(room).joinpath("template.yaml").read_text(encoding="utf-8")
    # YAML reads names such as 2026 or no as something else than text: its own writer puts those in quotes.
    written = yaml.safe_dump(name).splitlines()[0]
    named = template.replace(f"name: {_PLACEHOLDER}\n", f"name: {written}\n", 1)
    return re.sub(rf"(overlay \w+ \w+) {_PLACEHOLDER}\n", rf"\1 {name}\n", named)


def require_name(name: str, schema: type[BaseModel], what: str, rule: str) -> None:
    """Refuse a name that no document of this schema can have in its field `name`.

    Args:
        what: is to be named, such as "a frame".
        rule: what names have to be like, as advice.

    Raises:
        ArgumentError
    """
    field = schema.model_fields["name"]
    written: Any = Annotated[field.annotation, *field.metadata]
    try:
        TypeAdapter(written).validate_python(name)
    except ValidationError:
        raise ArgumentError(f"'{name}' can't name {what}", rule) from None


def _note_lines(node: yaml.Node, location: Location, lines: dict[Location, int], path: Path | str) -> None:
    lines[location] = node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            name = str(key.value)
            line = key.start_mark.line + 1
            if name in seen:
                raise DocumentError(path, line, f"the key '{name}' stands twice in one mapping", "remove one of them")
            seen.add(name)
            _note_lines(value, (*location, name), lines, path)
            lines[(*location, name)] = line
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            _note_lines(value, (*location, index), lines, path)


def _location(mistake: Any) -> Location:
    cause = mistake.get("ctx", {}).get("error")
    return (*mistake["loc"], *(cause.place if isinstance(cause, MistakeAt) else ()))


def _line_of(location: Location, lines: dict[Location, int]) -> int:
    """The line of the deepest part of `location` that the file contains."""
    for depth in range(len(location), -1, -1):
        # Schema-internal names (union tags, "[key]") may stand inside a location: skip them.
        if location[:depth] in lines:
            return lines[location[:depth]]
    return 1


def _phrase(mistake: Any) -> str:
    where = ".".join(str(part) for part in _location(mistake))
    if mistake["type"] == "extra_forbidden":
        return f"'{where}' is not a known key"
    if mistake["type"] == "missing":
        return f"'{where}' is missing"
    message = str(mistake["msg"]).removeprefix("Value error, ")
    given = "" if isinstance(mistake["input"], dict | list) else f" (found {mistake['input']!r})"
    return f"{where or 'the file'}: {message}{given}"
