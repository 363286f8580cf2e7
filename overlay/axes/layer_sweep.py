"""Layer sweep: where in the depth of the model the same volatility buys most of an axis's own effect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from overlay.axes.budget import spend_budget
from overlay.axes.response import OWN, Effect, Likelihoods, Values, mean_effect, specific_effect
from overlay.errors import ArgumentError
from overlay.model import Direction, Dose, Intervention
from overlay.progress import Progress, SilentProgress

if TYPE_CHECKING:
    from overlay.model import VolatilityGauge


@dataclass(frozen=True)
class WindowEffect:
    """What the axis does in one window of blocks at the dose that spends the budget there.

    Attributes:
        dose: coefficient, as a fraction of each block's median residual norm.
        volatility: what it costs, mean, nats per token.
        own, specific: the change of the own texts, and own minus other groups.
        gain: specific effect minus that of the window where the axis acts now, text by text.
    """

    blocks: tuple[int, ...]
    dose: float
    volatility: float
    own: Effect
    specific: Effect
    gain: Effect


@dataclass(frozen=True)
class LayerSweep:
    """Windows of as many blocks as the axis acts on, from the first to the last; all cost the same.

    Attributes:
        texts: by group, how many texts were scored.
        current: the blocks where the axis acts now; one of the windows.
        left_out: first blocks of windows on which no dose spends the budget or the axis has no direction.
    """

    texts: dict[str, int]
    current: tuple[int, ...]
    windows: tuple[WindowEffect, ...]
    left_out: tuple[int, ...] = ()

    @property
    def best(self) -> WindowEffect:
        """The window of the largest specific effect; as the best of many it flatters."""
        return max(self.windows, key=lambda window: window.specific.mean)

    @property
    def own_window(self) -> WindowEffect:
        """The window where the axis acts now."""
        return next(window for window in self.windows if window.blocks == self.current)


def windows_of(layers: int, blocks: tuple[int, ...], step: int) -> list[tuple[int, ...]]:
    """Windows of as many neighbouring blocks as `blocks`, every `step` blocks, and `blocks` itself."""
    size = len(blocks)
    starts = {*range(0, layers - size + 1, step), layers - size}
    return sorted({blocks, *(tuple(range(start, start + size)) for start in starts)})


def sweep_layers(
    direction: Direction,
    blocks: tuple[int, ...],
    likelihoods: Likelihoods,
    gauge: VolatilityGauge,
    *,
    cost: float,
    budget_dose: float,
    step: int,
    progress: Progress | None = None,
) -> LayerSweep:
    """Find in each window the dose that costs as much as the budget dose of the axis, and measure what it does."""
    progress = progress or SilentProgress()
    doses: list[Dose] = []
    left_out: list[int] = []
    windows = windows_of(len(direction.norms), blocks, step)
    for place, window in enumerate(windows):
        progress.step("calibrating windows of blocks", place, len(windows))
        if window == blocks:
            doses.append(Dose(direction, budget_dose, window))
            continue
        if not all(direction.vectors[block].any() for block in window):
            left_out.append(window[0])
            continue
        try:
            doses.append(Dose(direction, spend_budget(direction, window, gauge, cost)[0], window))
        except ArgumentError:
            left_out.append(window[0])
    changes = likelihoods.changes(doses, "measuring windows of blocks")
    now = next(change for dose, change in zip(doses, changes, strict=True) if dose.blocks == blocks)
    return LayerSweep(
        texts=dict(likelihoods.texts),
        current=blocks,
        windows=tuple(
            WindowEffect(
                blocks=dose.blocks,
                dose=dose.coefficient,
                volatility=gauge.measure(Intervention((dose,))).mean,
                own=mean_effect(change[OWN]),
                specific=specific_effect(change),
                gain=specific_effect(_minus(change, now)),
            )
            for dose, change in zip(doses, changes, strict=True)
        ),
        left_out=tuple(left_out),
    )


def _minus(change: Mapping[str, Values], now: Mapping[str, Values]) -> dict[str, Values]:
    return {group: values - now[group] for group, values in change.items()}


def as_spans(blocks: Sequence[int]) -> str:
    """Blocks as people write them: "12 to 19"."""
    return f"{blocks[0]} to {blocks[-1]}" if len(blocks) > 1 else str(blocks[0])
