"""Banks: files of probes that people wrote, and what is refused of them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Annotated, Self

import yaml
from pydantic import Field, field_validator, model_validator

from overlay.documents import Document, MistakeAt, read_document
from overlay.errors import ArgumentError, DocumentError
from overlay.probes.probe import Check, Choice, Probe, Text, cells_of
from overlay.records import digest_of

NAME_PATTERN = r"^[a-z][a-z0-9_]*$"

ENDING = ".yaml"


class ProbeBank(Document):
    """Probes for the semantic map, and checks of what the model writes itself.

    Attributes:
        about: in one line, what the probes ask.
        source: whose texts they are, with the licence if they aren't the bank's own.
    """

    name: Annotated[str, Field(pattern=NAME_PATTERN)]
    about: Text
    source: Text
    probes: tuple[Probe, ...] = ()
    checks: tuple[Check, ...] = ()

    @field_validator("probes")
    @classmethod
    def _cells_hold_several(cls, probes: tuple[Probe, ...]) -> tuple[Probe, ...]:
        _require_differing(probes)
        for cell, found in cells_of(probes).items():
            if len(found) == 1:
                raise MistakeAt(
                    (probes.index(found[0]), "level"),
                    f"the only probe of the cell {cell}: one item says nothing about a cell, write at least two "
                    "(twelve show something)",
                )
        return probes

    @field_validator("checks")
    @classmethod
    def _checks_differ(cls, checks: tuple[Check, ...]) -> tuple[Check, ...]:
        _require_differing(checks)
        kinds = [check.kind for check in checks]
        for place, kind in enumerate(kinds):
            if kinds.count(kind) == 1:
                raise MistakeAt(
                    (place, "kind"),
                    f"the only check of the kind {kind}: one says nothing of a kind, write at least two "
                    "(six of them can show that something was left alone)",
                )
        return checks

    @model_validator(mode="after")
    def _asks_something(self) -> Self:
        if not (self.probes or self.checks):
            raise ValueError("a bank without probes and checks asks nothing: write at least two probes of one cell")
        return self

    @property
    def digest(self) -> str:
        """sha256 of everything that is asked: banks of equal digests ask the same."""
        content = self.model_dump(mode="json", include={"probes", "checks"})
        return digest_of(content)

    def picked(
        self,
        *,
        levels: Collection[str] = (),
        layers: Collection[str] = (),
        languages: Collection[str] = (),
        topics: Collection[str] = (),
    ) -> ProbeBank:
        """The bank with the probes that are of one of the levels, layers, languages and topics; nothing given, all.

        Raises:
            ArgumentError: none is left, or a topic leaves a cell with one probe.
        """
        probes = tuple(
            probe
            for probe in self.probes
            if (not levels or probe.level in levels)
            and (not layers or probe.layer in layers)
            and (not languages or probe.language in languages)
            and (not topics or set(topics) & set(probe.topic))
        )
        if not probes:
            known = (f"{cell}" for cell in cells_of(self.probes))
            raise ArgumentError(
                f"no probe of '{self.name}' is of the chosen kind", f"it has the cells {'; '.join(known)}"
            )
        require_cells(probes)
        return self.model_copy(update={"probes": probes})


def require_cells(probes: Sequence[Probe]) -> None:
    """Raise ArgumentError where there is no probe, or a cell has only one: that says nothing about the cell."""
    if not probes:
        raise ArgumentError("there are no probes to measure by", "choose a bank with probes")
    for cell, found in cells_of(probes).items():
        if len(found) == 1:
            raise ArgumentError(
                f"'{found[0].id}' is the only probe of the cell {cell}",
                "one item says nothing about a cell: add probes to it, or leave this one out",
            )


def read_bank(path: Path | str) -> ProbeBank:
    """Read one bank, or all banks of a folder as one.

    Raises:
        DocumentError: a file is wrong, with its line; a name isn't the file's; an id stands in two files.
        ArgumentError: the folder holds no bank.
    """
    path = Path(path)
    if not path.is_dir():
        return _read(path)
    files = sorted(path.glob(f"*{ENDING}"))
    if not files:
        raise ArgumentError(f"there is no probe bank in {path}", f"write one, NAME{ENDING}, or name another folder")
    banks = [_read(file) for file in files]
    if len(banks) == 1:
        return banks[0]
    for kind in ("probes", "checks"):
        _require_apart(files, banks, kind)
    return ProbeBank.model_construct(
        name=path.resolve().name,
        about="; ".join(bank.about for bank in banks),
        source="; ".join(dict.fromkeys(bank.source for bank in banks)),
        probes=tuple(probe for bank in banks for probe in bank.probes),
        checks=tuple(check for bank in banks for check in bank.checks),
    )


def _read(path: Path) -> ProbeBank:
    bank = read_document(path, ProbeBank)
    if bank.name != path.stem:
        raise DocumentError(
            path, None, f"the bank is named '{bank.name}' and its file '{path.name}'", "give both the same name"
        )
    return bank


def _require_differing(choices: Sequence[Choice]) -> None:
    ids: set[str] = set()
    asked: dict[tuple[str, str], str] = {}
    for place, choice in enumerate(choices):
        if choice.id in ids:
            raise MistakeAt((place, "id"), f"'{choice.id}' stands here twice: give each its own id")
        ids.add(choice.id)
        first = asked.setdefault((choice.prompt, choice.good), choice.id)
        if first != choice.id:
            raise MistakeAt((place, "prompt"), f"'{choice.id}' asks what '{first}' asks: it would only count twice")


def _require_apart(files: Sequence[Path], banks: Sequence[ProbeBank], kind: str) -> None:
    first: dict[str, Path] = {}
    for file, bank in zip(files, banks, strict=True):
        for place, choice in enumerate(getattr(bank, kind)):
            if choice.id in first:
                raise DocumentError(
                    file,
                    _line(file, kind, place),
                    f"the id '{choice.id}' stands in {first[choice.id].name} as well",
                    "give each its own id: records name them by it",
                )
            first[choice.id] = file


def _line(file: Path, kind: str, place: int) -> int:
    """Where an item of a bank that could be read stands in its file."""
    root = yaml.compose(file.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    assert isinstance(root, yaml.MappingNode)
    items = next(value for key, value in root.value if key.value == kind)
    return int(items.value[place].start_mark.line) + 1
