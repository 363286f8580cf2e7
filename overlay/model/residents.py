"""Resident adapters: LoRA weights that lie beside an unchanged model, asleep until a row uses them.

Plain LoRA acts through one permanent hook per wrapped layer, which adds each row's own adapters at each
row's own scale; any other kind of adapter is switched on for a batch of its own and off again.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from overlay.errors import AdapterError
from overlay.model.intervention import AdapterUse
from overlay.model.plan import Plan, scales_by_adapter

WEIGHTS = "adapter_model.safetensors"


@dataclass(frozen=True)
class Resident:
    """An attached adapter: where it came from, the sha256 of its weights, and whether it can share a batch."""

    folder: Path
    digest: str
    is_plain: bool


class ResidentAdapters:
    """The adapters of one model. `current` tells the plan that is present, if any."""

    def __init__(self, module: Any, current: Callable[[], Plan | None]) -> None:
        self._module = module
        self._current = current
        self._peft: Any = None
        self._found: dict[str, Resident] = {}
        self._hooked: set[int] = set()
        self._mark_trainable()

    @property
    def found(self) -> Mapping[str, Resident]:
        """All attached adapters by name."""
        return dict(self._found)

    def require(self, name: str) -> Resident:
        """The attached adapter of this name. Raises AdapterError."""
        if name not in self._found:
            raise AdapterError(f"adapter '{name}' is not attached", "attach it with `model.attach(name, folder)`")
        return self._found[name]

    def attach(self, name: str, folder: Path, made_for: str) -> None:
        """Load an adapter; it stays asleep.

        Raises:
            AdapterError: the name is taken, the folder holds no safetensors weights, or they don't fit this model;
                the model is then as it was before the call.
        """
        weights = folder / WEIGHTS
        if not weights.is_file():
            raise AdapterError(f"{folder} holds no {WEIGHTS}", "only safetensors weights are loaded")
        if name in self._found:
            raise AdapterError(f"an adapter named '{name}' is already attached", "detach it first")
        try:
            self._load(_peft_name(name), str(folder))
            self.sleep()
            is_plain = self._hook_layers(_peft_name(name))
        except BaseException as error:
            # PEFT leaves what it loaded before the error in place, and awake.
            self._remove_layers(_peft_name(name))
            if not isinstance(error, Exception):
                raise
            reason = " ".join(str(error).split())[:240] or type(error).__name__
            raise AdapterError(
                f"the adapter in {folder} can't be attached as '{name}': {reason}",
                f"check that it was trained on '{made_for}'",
            ) from error
        self._found[name] = Resident(folder, hashlib.sha256(weights.read_bytes()).hexdigest(), is_plain)

    def detach(self, name: str) -> None:
        """Remove an attached adapter; after the last one the module is what it was before the first."""
        if name not in self._found:
            raise AdapterError(f"no adapter named '{name}' is attached", "`model.adapters` lists the attached ones")
        del self._found[name]
        if self._found:
            # PEFT warns when it deletes an active adapter, asleep or not.
            self._peft.base_model.set_adapter([])
            self._peft.delete_adapter(_peft_name(name))
            self.sleep()
        else:
            self._peft.unload()
            self._peft = None
            self._hooked.clear()
            self._mark_trainable()

    def batch_key(self, uses: tuple[AdapterUse, ...]) -> tuple[AdapterUse, ...]:
        """Rows of equal keys can run in one batch: plain adapters mix freely, others only with their like."""
        if all(self.require(use.name).is_plain for use in uses):
            return ()
        return uses

    def encoding_key(self, uses: Sequence[AdapterUse]) -> tuple[tuple[str, float], ...]:
        """What the encoding of tokens depends on: the weights and scales of the adapters that act."""
        return tuple(sorted((self.require(use.name).digest, use.scale) for use in uses if use.scale))

    @contextlib.contextmanager
    def worn(self, plan: Plan, uses: Sequence[tuple[AdapterUse, ...]]) -> Iterator[None]:
        """Row i wears `uses[i]` inside the `with`; afterwards all adapters sleep again."""
        named = {use.name for row in uses for use in row}
        if all(self.require(name).is_plain for name in named):
            plan.adapters = {_peft_name(name): use for name, use in scales_by_adapter(uses, self._device).items()}
            try:
                yield
            finally:
                plan.adapters = {}
            return
        with self._awake(uses[0]):
            yield

    def sleep(self) -> None:
        """Switch every adapter off, whatever PEFT left on."""
        if self._peft is not None:
            self._peft.base_model.disable_adapter_layers()
        self._mark_trainable()

    def awake(self) -> tuple[str, ...]:
        """Adapters that act outside any plan; there should be none."""
        if self._peft is None:
            return ()
        layers = list(_tuner_layers(self._module))
        names = {name for _, layer in layers if not layer.disable_adapters for name in layer.active_adapters}
        names |= {name for _, layer in layers for name in getattr(layer, "merged_adapters", ())}
        return tuple(sorted(name.removeprefix("adapter-") for name in names))

    def scalings(self) -> tuple[tuple[str, str, float], ...]:
        """(layer, adapter, scaling) of every layer an adapter is attached to."""
        return tuple(
            (place, name.removeprefix("adapter-"), float(value))
            for place, layer in _tuner_layers(self._module)
            for name, value in getattr(layer, "scaling", {}).items()
        )

    @property
    def _device(self) -> Any:
        return next(self._module.parameters()).device

    def _load(self, peft_name: str, folder: str) -> None:
        from peft import PeftConfig, PeftModel

        if self._peft is None:
            config = PeftConfig.from_pretrained(folder)
            config.inference_mode = True
            self._peft = PeftModel(self._module, config, adapter_name=peft_name)
        result = self._peft.load_adapter(folder, peft_name, is_trainable=False)
        missing = [key for key in result.missing_keys if f".{peft_name}." in key]
        if missing or result.unexpected_keys:
            raise AdapterError(f"weights missing: {missing[:2]}, not known: {result.unexpected_keys[:2]}")

    def _hook_layers(self, peft_name: str) -> bool:
        """Hook the layers this adapter is the first to wrap; say whether all of it is plain LoRA on linear layers."""
        from peft.tuners.lora import Linear
        from peft.utils.other import AuxiliaryTrainingWrapper

        is_plain = self._peft.peft_config[peft_name].bias == "none" and not any(
            isinstance(part, AuxiliaryTrainingWrapper) and peft_name in part._adapters
            for part in self._module.modules()
        )
        for _, layer in _tuner_layers(self._module):
            if peft_name not in getattr(layer, "scaling", {}):
                continue
            plain_layer = isinstance(layer, Linear) and peft_name in layer.lora_A
            is_plain &= plain_layer and peft_name not in layer.lora_variant and not layer.lora_bias[peft_name]
            if plain_layer and id(layer) not in self._hooked:
                layer.register_forward_hook(self._add_rows)
                self._hooked.add(id(layer))
        return is_plain

    def _add_rows(self, layer: Any, args: tuple[Any, ...], output: Tensor) -> Tensor | None:
        """The output of a wrapped layer plus what each row's adapters add: scale · B(A(x))."""
        plan = self._current()
        if plan is None or not plan.adapters:
            return None
        for name, (rows, scales) in plan.adapters.items():
            if name not in layer.lora_A:
                continue
            down, up = layer.lora_A[name], layer.lora_B[name]
            whole = len(rows) == len(output)
            given = args[0] if whole else args[0][rows]
            added = up(down(given.to(down.weight.dtype))) * (scales * layer.scaling[name])
            added = added.to(output.dtype)
            output = output + added if whole else output.index_add(0, rows, added)
        return output

    @contextlib.contextmanager
    def _awake(self, uses: tuple[AdapterUse, ...]) -> Iterator[None]:
        """The given adapters act on everything inside the `with`, at their scales; all sleep again after it."""
        scaled: list[tuple[Any, str, float]] = []
        try:
            self._peft.base_model.enable_adapter_layers()
            self._peft.base_model.set_adapter([_peft_name(use.name) for use in uses])
            for _, layer in _tuner_layers(self._module):
                scaling = getattr(layer, "scaling", {})
                for use in uses:
                    name = _peft_name(use.name)
                    if name in scaling:
                        scaled.append((scaling, name, scaling[name]))
                        scaling[name] = scaling[name] * use.scale
            yield
        finally:
            for scaling, name, before in scaled:
                scaling[name] = before
            self.sleep()

    def _remove_layers(self, peft_name: str) -> None:
        from peft.tuners.tuners_utils import BaseTunerLayer

        for parent in list(self._module.modules()):
            for child_name, layer in list(parent.named_children()):
                if isinstance(layer, BaseTunerLayer) and not self._found:
                    setattr(parent, child_name, layer.get_base_layer())
                elif isinstance(layer, BaseTunerLayer):
                    layer.delete_adapter(peft_name)
        if self._found:
            self._peft.peft_config.pop(peft_name, None)
            self.sleep()
        else:
            self._peft = None
            self._hooked.clear()
            if hasattr(self._module, "peft_config"):
                del self._module.peft_config
            self._mark_trainable()

    def _mark_trainable(self) -> None:
        """Keep every weight marked as trainable, as transformers loads it; nothing here ever trains it.

        PEFT freezes the base, and on a CPU torch then takes another bfloat16 kernel: 2.5 times slower
        (0.5 s against 1.3 s for the same batch on two cores), and not bit-identical.
        """
        self._module.requires_grad_(True)


def _tuner_layers(module: nn.Module) -> Iterator[tuple[str, Any]]:
    from peft.tuners.tuners_utils import BaseTunerLayer

    for place, part in module.named_modules():
        if isinstance(part, BaseTunerLayer):
            yield place, part


def _peft_name(name: str) -> str:
    """The name an adapter has inside PEFT, which chokes on "train" and "keys" and loads "a" or "lora" wrongly."""
    return f"adapter-{name}"
