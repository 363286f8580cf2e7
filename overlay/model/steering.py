"""Steering: permanent hooks on a model's body, blocks and attention, which do what the current plan says.

The hooks are silent unless a plan is present, and a plan exists only inside `Steering.plan(...)`.
"""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from overlay.errors import InterventionError
from overlay.model.blocks import Blocks
from overlay.model.intervention import NOTHING, Intervention
from overlay.model.plan import Gaze, Locate, Plan, compile_plan
from overlay.model.row import Encoded


class Steering:
    """The hooks of one model. Only one plan can be present at a time."""

    def __init__(self, blocks: Blocks) -> None:
        self._blocks = blocks
        # Only the `with` that made a plan holds it: however that ends, the plan ends with it.
        self._present: Callable[[], Plan | None] = _absent
        parameter = next(blocks.body.parameters())
        self._opens_masks = parameter.device.type == "cpu" and parameter.dtype == torch.bfloat16
        self._handles = [blocks.body.register_forward_pre_hook(self._before_body, with_kwargs=True)]
        for index, block in enumerate(blocks.modules):
            self._handles.append(block.register_forward_hook(self._after_block(index)))
            self._handles.append(
                blocks.attention[index].register_forward_pre_hook(self._before_attention(index), with_kwargs=True)
            )

    @property
    def has_plan(self) -> bool:
        """Whether a plan is present (it never is outside a `with`)."""
        return self.current is not None

    @property
    def current(self) -> Plan | None:
        """The plan that is present, for hooks on parts that come and go (adapters)."""
        plan = self._present()
        # What is left of a thread that was killed may hold its plan until it is collected: it rules nothing any more.
        return plan if plan is not None and plan.thread.is_alive() else None

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
        locate: Locate,
        record: bool = False,
        exact: bool = False,
    ) -> Iterator[Plan]:
        """Steer every forward pass inside the `with`; row i gets intervention i.

        With `record` the plan keeps each block's output; with `exact` logits are computed in float32.

        Raises:
            InterventionError: a direction doesn't fit the model, or a dose or focus reached no forward pass.
        """
        # Whoever comes here holds the model's lock: a plan of another thread belongs to one that was killed.
        present = self._present()
        if present is not None and present.thread is threading.current_thread():
            raise InterventionError("a plan is already present", "run one batch at a time on one model")
        parameter = next(self._blocks.body.parameters())
        plan = compile_plan(
            interventions,
            prompts,
            layers=len(self._blocks),
            width=self._blocks.width,
            heads=self._blocks.heads,
            dtype=parameter.dtype,
            device=parameter.device,
            locate=locate,
        )
        plan.record, plan.exact = record, exact
        plan.recorded = [None] * len(self._blocks)
        try:
            self._present = weakref.ref(plan)
            yield plan
            missed = sorted({index for index, layer in plan.layers.items() if not layer.reached})
            missed += sorted(plan.gazes.keys() - plan.gazed)
            if missed:
                raise InterventionError(
                    f"blocks {missed} were never run, so what was to act there did nothing",
                    "report this model's architecture",
                )
        finally:
            # What a killed thread left may be cleared away late, when another plan is present.
            if self._present() is plan:
                self._present = _absent

    def unsteered(self, prompts: Sequence[Encoded], *, record: bool = False) -> contextlib.AbstractContextManager[Plan]:
        """A plan under which nothing acts and logits are computed in float32. Raises InterventionError."""
        return self.plan([NOTHING] * len(prompts), prompts, locate=lambda row, text: (), record=record, exact=True)

    def _before_body(self, body: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        plan = self.current
        if plan is None or not (plan.layers or plan.gazes):
            return
        plan.biases.clear()
        if plan.last_start == 0 and not plan.gazes and not plan.always_place:
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
            plan.pads = torch.zeros(tokens.shape[0], dtype=torch.long, device=tokens.device)
        elif mask.dim() == 2:
            # The tensor's length says nothing about padding or the cache; the mask does.
            seen = mask.long().cumsum(-1)
            positions = seen[:, -count:] - 1
            plan.pads = (seen == 0).sum(-1)
        else:
            raise InterventionError(
                f"the model was run with an attention mask of shape {tuple(mask.shape)}",
                "pass a padding mask of shape (rows, tokens)",
            )
        plan.placed = positions
        everywhere = not plan.always_place and int(positions.min()) >= plan.last_start
        plan.positions = None if everywhere else positions

    def _before_attention(self, index: int) -> Any:
        def hook(attention: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            plan = self.current
            if plan is None:
                return None
            gazes = plan.gazes.get(index)
            if not gazes:
                return self._with_open_mask(plan, index, args, kwargs) if self._opens_masks else None
            if "attention_mask" not in kwargs:
                raise InterventionError(
                    f"attention of block {index} takes no mask by name", "report this model's architecture"
                )
            plan.gazed.add(index)
            return args, kwargs | {"attention_mask": self._biased(plan, gazes, index, args, kwargs)}

        return hook

    def _with_open_mask(self, plan: Plan, index: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A mask that hides nothing, where the library would go without one for a single new token.

        Without a mask it takes torch's own grouped attention, which on a CPU in bfloat16 is slower by a factor of
        4 to 9 (0.6 against 5.4 ms a block for four rows with 1,330 tokens behind them).
        """
        hidden = args[0] if args else kwargs["hidden_states"]
        cache = kwargs.get("past_key_values", kwargs.get("layer_past"))
        if hidden.shape[1] != 1 or cache is None or kwargs.get("attention_mask", True) is not None:
            return None
        keys = cache.get_seq_length(index) + 1
        if plan.open_mask is None or plan.open_mask.shape[-1] != keys:
            plan.open_mask = torch.ones(hidden.shape[0], 1, 1, keys, dtype=torch.bool, device=hidden.device)
        return args, kwargs | {"attention_mask": plan.open_mask}

    def _biased(
        self, plan: Plan, gazes: tuple[Gaze, ...], index: int, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Tensor:
        """The block's attention mask as an additive one, plus what the focus adds."""
        hidden = args[0] if args else kwargs["hidden_states"]
        mask = kwargs["attention_mask"]
        queries = hidden.shape[1]
        if mask is None:
            cache = kwargs.get("past_key_values", kwargs.get("layer_past"))
            past = cache.get_seq_length(index) if cache is not None else 0
            places = torch.arange(past + queries, device=hidden.device)
            mask = (places[None, :] <= places[past:, None])[None, None]
        lowest = torch.finfo(hidden.dtype).min
        if mask.dtype == torch.bool:
            mask = torch.where(mask, 0.0, lowest)
        bias = plan.attention_bias(gazes, mask.shape[-1], self._blocks.heads)
        biased: Tensor = (mask.float() + bias).clamp(min=lowest).to(hidden.dtype)
        return biased

    def _after_block(self, index: int) -> Any:
        def hook(block: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
            plan = self.current
            if plan is None:
                return None
            layer = plan.layers.get(index)
            if layer is None and not plan.record:
                return None
            hidden = output[0] if isinstance(output, tuple) else output
            if layer is not None:
                layer.reached = True
                hidden = layer.apply(hidden, plan.positions)
            if plan.record:
                plan.recorded[index] = hidden
            return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

        return hook


def _absent() -> None:
    """No plan is present."""
