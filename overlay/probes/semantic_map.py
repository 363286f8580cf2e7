"""The semantic map: what a treatment did to every cell of probes, with a verdict for each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

from overlay.model import Treatment
from overlay.probes.bank import ProbeBank, require_cells
from overlay.probes.margins import ProbeMargin, margins
from overlay.probes.probe import Cell, cells_of
from overlay.probes.shift import LEAST_SHIFT, Shift, weigh
from overlay.progress import Progress, SilentProgress

if TYPE_CHECKING:
    from overlay.model import LanguageModel


@dataclass(frozen=True)
class SemanticMap:
    """What the treatment `after` did to the model as it is under `before`, cell by cell.

    Attributes:
        model_digest, bank_digest, before_digest, after_digest: hashes of what was measured, by what, and under what.
        chat: whether probes were asked as chat messages.
        seed: of the bootstrap.
        least_shift: nats per token that a shift must exceed to be a change.
        cells: by level, layer and language.
        probes: every probe's own margins.
    """

    model: str
    model_digest: str
    bank: str
    bank_digest: str
    before: str
    before_digest: str
    after: str
    after_digest: str
    chat: bool
    seed: int
    least_shift: float
    cells: Mapping[Cell, Shift]
    probes: tuple[ProbeMargin, ...]

    @property
    def changed(self) -> dict[Cell, Shift]:
        """The cells whose verdict isn't "unchanged"."""
        return {cell: shift for cell, shift in self.cells.items() if shift.verdict != "unchanged"}

    def to_json(self) -> dict[str, Any]:
        """Everything, as a program reads it: a list of cells, each with its level, layer and language."""
        facts = {one.name: getattr(self, one.name) for one in fields(self) if one.name not in ("cells", "probes")}
        cells = [cell._asdict() | asdict(shift) for cell, shift in self.cells.items()]
        return facts | {"cells": cells, "probes": [asdict(one) for one in self.probes]}


def semantic_map(
    model: LanguageModel,
    bank: ProbeBank,
    before: Treatment,
    after: Treatment,
    *,
    chat: bool = False,
    seed: int = 0,
    least_shift: float = LEAST_SHIFT,
    progress: Progress | None = None,
) -> SemanticMap:
    """Measure every probe under both treatments, asked in the same form, and weigh the cells as `weigh` does.

    Args:
        chat: as `margins` takes it.
        seed: of the bootstrap.

    Raises:
        ArgumentError: the bank has no probes, a cell has only one, or `least_shift` is below 0.
    """
    require_cells(bank.probes)
    progress = progress or SilentProgress()
    found = []
    for treatment in (before, after):

        def told(done: int, name: str = treatment.name) -> None:
            progress.step(f"probes under {name}", done, len(bank.probes))

        told(0)
        found.append(margins(model, bank.probes, treatment, chat=chat, progress=told))
    measured = {
        probe.id: ProbeMargin(probe.id, float(one), float(other))
        for probe, one, other in zip(bank.probes, *found, strict=True)
    }
    cells = {cell: [measured[probe.id] for probe in held] for cell, held in cells_of(bank.probes).items()}
    return SemanticMap(
        model=model.name,
        model_digest=model.digest,
        bank=bank.name,
        bank_digest=bank.digest,
        before=before.name,
        before_digest=before.digest,
        after=after.name,
        after_digest=after.digest,
        chat=chat,
        seed=seed,
        least_shift=least_shift,
        cells=weigh(cells, seed=seed, least_shift=least_shift),
        probes=tuple(measured.values()),
    )
