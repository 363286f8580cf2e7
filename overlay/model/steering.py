"""Steering: one permanent hook per decoder block, which does what the current plan says.

The hooks are silent unless a plan is present, and a plan exists only inside `Steering.plan(...)`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from overlay.errors import InterventionError
from overlay.model.blocks import Blocks
from overlay.model.intervention import Intervention
from overlay.model.row import Encoded


@dataclass
class _Layer:
    """What one block adds: `deltas` (spans, rows, width), each from position `starts` (spans, rows) on."""

    deltas: Tensor
    starts: Tensor
    total: Tensor
    reached: bool = False


@dataclass
class Plan:
    """What the hooks do during the forward passes of one batch."""

    layers: dict[int, _Layer] = field(default_factory=dict)
    last_start: int = 0
    record: bool = False
    recorded: list[Tensor | None] = field(default_factory=list)
    positions: Tensor | None = None
    """(rows, tokens): absolute positions of the tokens now passing, or None when all doses act on all of them."""


class Steering:
    """The hooks of one model. Only one plan can be present at a time."""

    def __init__(self, blocks: Blocks) -> None:
        self._blocks = blocks
        self._plan: Plan | None = None
        self._handles = [blocks.body.register_forward_pre_hook(self._before_body, with_kwargs=True)]
        for index, block in enumerate(blocks.modules):
            self._handles.append(block.register_forward_hook(self._after_block(index)))

    @property
    def has_plan(self) -> bool:
        """Whether a plan is present (it never is outside a `with`)."""
        return self._plan is not None

    def remove(self) -> None:
        """Take the hooks off the model for good."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    @contextlib.contextmanager
    def plan(
        self,
        interventions: Sequence[Intervention],
        prompts: Sequence[Encoded],
        *,
        record: bool = False,
    ) -> Iterator[Plan]:
        """Steer every forward pass inside the `with`; row i gets intervention i.

        Raises:
            InterventionError: a direction doesn't fit the model, or a dose reached no forward pass.
        """
        if self._plan is not None:
            raise InterventionError("a plan is already present", "run one batch at a time on one model")
        plan = self._compile(interventions, prompts)
        plan.record = record
        plan.recorded = [None] * len(self._blocks)
        self._plan = plan
        try:
            yield plan
            missed = [index for index, layer in plan.layers.items() if not layer.reached]
            if missed:
                raise InterventionError(
                    f"blocks {missed} were never run, so their doses did nothing", "report this model's architecture"
                )
        finally:
            self._plan = None

    def _compile(self, interventions: Sequence[Intervention], prompts: Sequence[Encoded]) -> Plan:
        rows, width = len(interventions), self._blocks.width
        sums: dict[int, dict[int, Tensor]] = {}
        starts: dict[tuple[int, int], list[int]] = {}
        plan = Plan()
        for row, (intervention, prompt) in enumerate(zip(interventions, prompts, strict=True)):
            start_of = {"all": 0, "turn": prompt.turn_start, "generated": len(prompt.tokens)}
            slots = {"all": 0, "turn": 1, "generated": 2}
            for dose in intervention.doses:
                if dose.direction.vectors.shape != (len(self._blocks), width):
                    raise InterventionError(
                        f"direction '{dose.direction.name}' has shape {dose.direction.vectors.shape}, this model needs "
                        f"{(len(self._blocks), width)}",
                        "it was made for another model: build it anew for this one",
                    )
                slot = slots[dose.span]
                plan.last_start = max(plan.last_start, start_of[dose.span])
                for block in dose.blocks:
                    delta = torch.from_numpy(
                        dose.direction.vectors[block] * (dose.coefficient * float(dose.direction.norms[block]))
                    )
                    by_slot = sums.setdefault(block, {})
                    if slot not in by_slot:
                        by_slot[slot] = torch.zeros(rows, width)
                        starts[block, slot] = [0] * rows
                    by_slot[slot][row] += delta
                    starts[block, slot][row] = start_of[dose.span]
        parameter = next(self._blocks.body.parameters())
        for block, by_slot in sums.items():
            deltas = torch.stack(list(by_slot.values())).to(parameter.device)
            plan.layers[block] = _Layer(
                deltas.to(parameter.dtype),
                torch.tensor([starts[block, slot] for slot in by_slot], device=parameter.device),
                deltas.sum(0).to(parameter.dtype).unsqueeze(1),
            )
        return plan

    def _before_body(self, body: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        plan = self._plan
        if plan is None or not plan.layers:
            return
        if plan.last_start == 0:
            plan.positions = None
            return
        tokens = args[0] if args else kwargs.get("input_ids")
        if tokens is None:
            tokens = kwargs["inputs_embeds"]
        count = tokens.shape[1]
        mask = kwargs.get("attention_mask")
        if mask is None:
            # transformers drops a mask without padding; then the cache says how far the rows are.
            cache = kwargs.get("past_key_values")
            past = cache.get_seq_length() if cache is not None else 0
            positions = torch.arange(past, past + count, device=tokens.device).expand(tokens.shape[0], -1)
        elif mask.dim() == 2:
            # The tensor's length says nothing about padding or the cache; the mask does.
            positions = mask.long().cumsum(-1)[:, -count:] - 1
        else:
            raise InterventionError(
                f"the model was run with an attention mask of shape {tuple(mask.shape)}",
                "pass a padding mask of shape (rows, tokens)",
            )
        plan.positions = None if int(positions.min()) >= plan.last_start else positions

    def _after_block(self, index: int) -> Any:
        def hook(block: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
            plan = self._plan
            if plan is None:
                return None
            layer = plan.layers.get(index)
            if layer is None and not plan.record:
                return None
            hidden = output[0] if isinstance(output, tuple) else output
            if layer is not None:
                layer.reached = True
                if plan.positions is None:
                    hidden = hidden + layer.total
                else:
                    for delta, start in zip(layer.deltas, layer.starts, strict=True):
                        acting = (plan.positions >= start[:, None]).to(hidden.dtype)
                        hidden = hidden + delta[:, None, :] * acting[:, :, None]
            if plan.record:
                plan.recorded[index] = hidden
            return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

        return hook
