"""Plans: what the interventions of one batch come to, block by block, as tensors that the hooks apply."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from overlay.errors import InterventionError
from overlay.model.focus import Focus
from overlay.model.intervention import AdapterUse, Dose, Intervention
from overlay.model.row import Encoded
from overlay.model.span import Positions, When, start_of

Locate = Callable[[int, str], tuple[int, ...]]
"""Where in the prompt of row `i` a text stands, as token positions."""

_NEVER = -2
"""A position that no token has."""


@dataclass
class Shift:
    """What doses with a plain stretch add at one block: one sum per stretch and row.

    deltas: (stretches, rows, width). starts: (stretches, rows), the first position of each. total: (rows, 1, width).
    """

    deltas: Tensor
    starts: Tensor
    total: Tensor

    def apply(self, hidden: Tensor, positions: Tensor | None) -> Tensor:
        if positions is None:
            return hidden + self.total
        for delta, start in zip(self.deltas, self.starts, strict=True):
            acting = (positions >= start[:, None]).to(hidden.dtype)
            hidden = hidden + delta[:, None, :] * acting[:, :, None]
        return hidden


@dataclass
class Hold:
    """One dose a row that clamps, or acts at chosen positions or under a condition; rows without one have strength 0.

    vectors: (rows, width). The others: (rows,); added, target, above and below in units of the residual stream.
    chosen: (rows, positions), or None when no row has a list of them; `listed` (rows,) says which rows have one.
    """

    vectors: Tensor
    added: Tensor
    firmness: Tensor
    target: Tensor
    starts: Tensor
    above: Tensor
    below: Tensor
    chosen: Tensor | None
    listed: Tensor

    def apply(self, hidden: Tensor, before: Tensor, positions: Tensor) -> Tensor:
        """`before` is the block's own output, of which the condition speaks."""
        running = (before.float() * self.vectors[:, None, :]).sum(-1)
        acting = positions >= self.starts[:, None]
        acting &= (running > self.above[:, None]) & (running < self.below[:, None])
        if self.chosen is not None:
            acting &= (positions[:, :, None] == self.chosen[:, None, :]).any(-1) | ~self.listed[:, None]
        along = (hidden.float() * self.vectors[:, None, :]).sum(-1)
        strength = self.added[:, None] + self.firmness[:, None] * (self.target[:, None] - along)
        return hidden + ((strength * acting)[:, :, None] * self.vectors[:, None, :]).to(hidden.dtype)


@dataclass
class Layer:
    """What happens behind one block: shifts first, then each row's holds in the order they were given."""

    shift: Shift | None = None
    holds: list[Hold] = field(default_factory=list)
    reached: bool = False

    def apply(self, hidden: Tensor, positions: Tensor | None) -> Tensor:
        before = hidden
        if self.shift is not None:
            hidden = self.shift.apply(hidden, positions)
        for hold in self.holds:
            assert positions is not None
            hidden = hold.apply(hidden, before, positions)
        return hidden


@dataclass(frozen=True)
class Gaze:
    """One row's focus: `weight` is added where its queries from `start` on look at `keys`."""

    row: int
    keys: tuple[int, ...]
    weight: float
    heads: tuple[int, ...] | None
    start: int


@dataclass
class Plan:
    """What the hooks do during the forward passes of one batch."""

    rows: int
    layers: dict[int, Layer] = field(default_factory=dict)
    gazes: dict[int, tuple[Gaze, ...]] = field(default_factory=dict)
    gazed: set[int] = field(default_factory=set)
    adapters: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
    """By adapter: the rows that use it (n,), and at which scale (n, 1, 1)."""
    last_start: int = 0
    always_place: bool = False
    exact: bool = False
    record: bool = False
    recorded: list[Tensor | None] = field(default_factory=list)
    positions: Tensor | None = None
    """(rows, tokens): positions of the tokens now passing, or None when all doses act on all of them."""
    placed: Tensor | None = None
    """(rows, tokens): the same, whether or not a dose needs it."""
    pads: Tensor | None = None
    """(rows,): how many padding columns each row begins with."""
    open_mask: Tensor | None = None
    """(rows, 1, 1, keys): a mask that hides nothing."""
    biases: dict[tuple[Gaze, ...], Tensor] = field(default_factory=dict)
    """Attention biases of the present forward pass."""
    thread: threading.Thread = field(default_factory=threading.current_thread)

    def attention_bias(self, gazes: tuple[Gaze, ...], keys: int, heads: int) -> Tensor:
        """What is added to the attention logits: (rows, heads or 1, queries, keys), float32."""
        known = self.biases.get(gazes)
        if known is not None and known.shape[-1] == keys:
            return known
        assert self.placed is not None and self.pads is not None
        per_head = any(gaze.heads is not None for gaze in gazes)
        bias = torch.zeros(self.rows, heads if per_head else 1, self.placed.shape[1], keys, device=self.placed.device)
        for gaze in gazes:
            columns = torch.tensor(gaze.keys, device=bias.device) + self.pads[gaze.row]
            columns = columns[columns < keys]
            asking = (self.placed[gaze.row] >= gaze.start).float() * gaze.weight
            chosen = slice(None) if gaze.heads is None else list(gaze.heads)
            bias[gaze.row, chosen, :, :] += _columns(asking, columns, keys)
        self.biases[gazes] = bias
        return bias


def compile_plan(
    interventions: Sequence[Intervention],
    prompts: Sequence[Encoded],
    *,
    layers: int,
    width: int,
    heads: int,
    dtype: torch.dtype,
    device: torch.device,
    locate: Locate,
) -> Plan:
    """Put the interventions of a batch together, row i under intervention i.

    Raises:
        InterventionError: a direction, block or head that this model doesn't have, or a focus on text that isn't there.
    """
    plan = Plan(len(interventions))
    shifts: dict[int, dict[str, tuple[Tensor, list[int]]]] = {}
    holds: dict[int, list[list[tuple[Dose, Encoded]]]] = {}
    for row, (intervention, prompt) in enumerate(zip(interventions, prompts, strict=True)):
        for dose in intervention.doses:
            if dose.direction.vectors.shape != (layers, width):
                raise InterventionError(
                    f"direction '{dose.direction.name}' has shape {dose.direction.vectors.shape}, this model needs "
                    f"{(layers, width)}",
                    "it was made for another model: build it anew for this one",
                )
            if dose.operator == "add" and isinstance(dose.span, str):
                start = start_of(dose.span, prompt.turn_start, prompt.generated_start)
                plan.last_start = max(plan.last_start, start)
                for block in dose.blocks:
                    delta = dose.direction.vectors[block] * (dose.coefficient * float(dose.direction.norms[block]))
                    sums, starts = shifts.setdefault(block, {}).setdefault(
                        dose.span, (torch.zeros(plan.rows, width), [0] * plan.rows)
                    )
                    sums[row] += torch.from_numpy(delta)
                    starts[row] = start
            elif dose.coefficient:
                for block in dose.blocks:
                    by_row = holds.setdefault(block, [[] for _ in range(plan.rows)])
                    by_row[row].append((dose, prompt))
    for block, by_stretch in shifts.items():
        deltas = torch.stack([sums for sums, _ in by_stretch.values()]).to(device)
        plan.layers[block] = Layer(
            Shift(
                deltas.to(dtype),
                torch.tensor([starts for _, starts in by_stretch.values()], device=device),
                deltas.sum(0).to(dtype).unsqueeze(1),
            )
        )
    for block, by_row in holds.items():
        layer = plan.layers.setdefault(block, Layer())
        for slot in range(max(map(len, by_row))):
            chosen = [doses[slot] if slot < len(doses) else None for doses in by_row]
            layer.holds.append(_hold(block, chosen, width, device))
    plan.always_place = bool(holds)
    _compile_focus(plan, interventions, prompts, layers, heads, locate)
    return plan


def _hold(block: int, chosen: Sequence[tuple[Dose, Encoded] | None], width: int, device: torch.device) -> Hold:
    rows = len(chosen)
    vectors = torch.zeros(rows, width)
    facts = torch.zeros(6, rows)
    facts[4], facts[5] = -torch.inf, torch.inf
    places: list[tuple[int, ...] | None] = [None] * rows
    for row, entry in enumerate(chosen):
        if entry is None:
            continue
        dose, prompt = entry
        norm = float(dose.direction.norms[block])
        vectors[row] = torch.tensor(dose.direction.vectors[block])
        if dose.operator == "add":
            facts[0, row] = dose.coefficient * norm
        else:
            facts[1, row], facts[2, row] = dose.coefficient, dose.target * norm
        if isinstance(dose.span, Positions):
            places[row] = dose.span.within(prompt.generated_start)
        else:
            stretch = dose.span.within if isinstance(dose.span, When) else dose.span
            facts[3, row] = start_of(stretch, prompt.turn_start, prompt.generated_start)
        if isinstance(dose.span, When):
            facts[4, row], facts[5, row] = dose.span.above * norm, dose.span.below * norm
    table = None
    if any(places):
        longest = max(len(place) for place in places if place)
        table = torch.full((rows, longest), _NEVER)
        for row, place in enumerate(places):
            if place:
                table[row, : len(place)] = torch.tensor(place)
        table = table.to(device)
    listed = torch.tensor([place is not None for place in places], device=device)
    added, firmness, target, starts, above, below = facts.to(device)
    return Hold(vectors.to(device), added, firmness, target, starts, above, below, table, listed)


def _compile_focus(
    plan: Plan,
    interventions: Sequence[Intervention],
    prompts: Sequence[Encoded],
    layers: int,
    heads: int,
    locate: Locate,
) -> None:
    found: dict[int, list[Gaze]] = {}
    for row, (intervention, prompt) in enumerate(zip(interventions, prompts, strict=True)):
        for focus in intervention.focus:
            if not focus.weight:
                continue
            _require_focus(focus, layers, heads)
            keys = locate(row, focus.keys) if isinstance(focus.keys, str) else focus.keys.within(prompt.generated_start)
            start = start_of(focus.span, prompt.turn_start, prompt.generated_start)
            for block in range(layers) if focus.blocks is None else focus.blocks:
                found.setdefault(block, []).append(Gaze(row, keys, focus.weight, focus.heads, start))
    plan.gazes = {block: tuple(gazes) for block, gazes in found.items()}


def _require_focus(focus: Focus, layers: int, heads: int) -> None:
    if focus.blocks is not None and max(focus.blocks) >= layers:
        raise InterventionError(f"a focus at block {max(focus.blocks)}", f"give blocks from 0 to {layers - 1}")
    if focus.heads is not None and max(focus.heads) >= heads:
        raise InterventionError(f"a focus of head {max(focus.heads)}", f"give heads from 0 to {heads - 1}")


def _columns(asking: Tensor, columns: Tensor, keys: int) -> Tensor:
    """(queries, keys): each query's weight at the chosen columns, 0 elsewhere."""
    looked = torch.zeros(keys, device=asking.device)
    looked[columns] = 1.0
    return asking[:, None] * looked[None, :]


def scales_by_adapter(uses: Sequence[tuple[AdapterUse, ...]], device: torch.device) -> dict[str, tuple[Tensor, Tensor]]:
    """For each adapter the rows that use it, and their scales."""
    rows: dict[str, list[tuple[int, float]]] = {}
    for row, worn in enumerate(uses):
        for use in worn:
            rows.setdefault(use.name, []).append((row, use.scale))
    return {
        name: (
            torch.tensor([row for row, _ in found], device=device),
            torch.tensor([scale for _, scale in found], device=device)[:, None, None],
        )
        for name, found in rows.items()
    }
