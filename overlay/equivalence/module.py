"""Modules of meaning: short prompts of one purpose, one YAML file each, from which a selector picks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from overlay.adapters import Example
from overlay.documents import Document, MistakeAt, read_document
from overlay.errors import DocumentError

Kind = Literal["anchor", "few_shot", "instruction"]


class PromptModule(Document):
    """One module: an anchor or an instruction has a text, a few-shot block has examples.

    Attributes:
        name: as its file. about: what it is for, one line.
    """

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    kind: Kind
    about: Annotated[str, Field(min_length=1)]
    text: str = ""
    examples: tuple[Example, ...] = ()

    @model_validator(mode="after")
    def _has_what_its_kind_needs(self) -> Self:
        needed, other = ("examples", "text") if self.kind == "few_shot" else ("text", "examples")
        if not (self.examples if needed == "examples" else self.text.strip()):
            raise MistakeAt(("kind",), f"a module of kind {self.kind} needs {needed}")
        if self.examples if other == "examples" else self.text:
            raise MistakeAt((other,), f"a module of kind {self.kind} has {needed}, no {other}")
        for place, example in enumerate(self.examples):
            if not example.prompt.strip():
                raise MistakeAt(("examples", place), "an example of a module needs a prompt")
        return self


def read_modules(folder: Path) -> tuple[PromptModule, ...]:
    """All modules of a folder, by name. A folder that isn't there holds none.

    Raises:
        DocumentError: one is wrong, with its line, or carries another name than its file.
    """
    found = []
    for path in sorted(folder.glob("*.yaml")):
        module = read_document(path, PromptModule)
        if module.name != path.stem:
            raise DocumentError(
                path, 1, f"the module in this file is named '{module.name}'", "give file and module the same name"
            )
        found.append(module)
    return tuple(found)
