"""The census: everything on a model that could change what it computes, for "nothing is left behind"."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Census:
    """What is on a model at one moment; two censuses are equal when nothing was left behind between them.

    Attributes:
        hooks: (module, kind, hook) of every hook on every module, those that belong to the model for good included.
        adapters: attached adapters. awake: those that act outside any row; there should be none.
        scalings: (layer, adapter, scaling) of every wrapped layer.
        plan: whether a plan is present. training: modules in training mode.
        attention: the attention implementation in use.
    """

    hooks: tuple[tuple[str, str, str], ...]
    adapters: tuple[str, ...]
    awake: tuple[str, ...]
    scalings: tuple[tuple[str, str, float], ...]
    plan: bool
    training: tuple[str, ...]
    frozen: int
    attention: str

    @property
    def is_silent(self) -> bool:
        """Whether nothing acts on the model now."""
        return not (self.awake or self.plan or self.training)


_KINDS = ("_forward_pre_hooks", "_forward_hooks", "_backward_hooks", "_backward_pre_hooks")


def hooks_on(module: Any) -> tuple[tuple[str, str, str], ...]:
    """(module, kind, hook) of every hook on `module` and its parts."""
    return tuple(
        (place, kind.strip("_").removesuffix("s"), getattr(hook, "__qualname__", type(hook).__qualname__))
        for place, part in module.named_modules()
        for kind in _KINDS
        for hook in (getattr(part, kind, None) or {}).values()
    )
