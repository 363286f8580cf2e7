"""Resident adapters: LoRA weights that lie beside an unchanged model, asleep until a row uses them.

Most are loaded from a folder; one that is grown begins as nothing, and learns where it lies.

Plain LoRA acts through one permanent hook per wrapped layer, which adds each row's own adapters at each
row's own scale; any other kind of adapter is switched on for a batch of its own and off again.
"""

from __future__ import annotations

import contextlib
import hashlib
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from overlay.errors import AdapterError
from overlay.model.intervention import AdapterUse
from overlay.model.peft_warnings import without_peft_warnings
from overlay.model.plan import Plan, scales_by_adapter

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"

_HARMLESS_STARTS = (True, False, "gaussian", "orthogonal")
"""What `init_lora_weights` may say: the others (pissa, olora, corda, loftq) rewrite weights of the base."""


@dataclass(frozen=True)
class Resident:
    """An attached adapter.

    Attributes:
        folder: where it came from; None for one that is grown here.
        digest: sha256 of its weights and configuration; of a grown one, what it is known by until it learns again.
        is_plain: whether it is LoRA on linear layers and nothing else, and so can share a batch with anything.
        is_whole: whether it replaces weights of the base, which has no half: it acts at scale 1 or not at all.
    """

    folder: Path | None
    digest: str
    is_plain: bool
    is_whole: bool


class ResidentAdapters:
    """The adapters of one model. `current` tells the plan that is present, if any."""

    def __init__(self, module: Any, current: Callable[[], Plan | None]) -> None:
        self._module = module
        self._current = current
        self._peft: Any = None
        self._found: dict[str, Resident] = {}
        self._hooked: set[int] = set()
        self._scaled: list[tuple[dict[str, float], str, float]] = []
        self._awake_for: object = None
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
            AdapterError: the name is taken, the folder holds no safetensors weights, or they don't fit this model,
                or would change the base itself; the model is then as it was before the call.
        """
        weights, config = folder / WEIGHTS, folder / CONFIG
        if not weights.is_file():
            raise AdapterError(f"{folder} holds no {WEIGHTS}", "only safetensors weights are loaded")
        if not config.is_file():
            raise AdapterError(f"{folder} holds no {CONFIG}", "PEFT writes it beside the weights")
        if name in self._found:
            raise AdapterError(f"an adapter named '{name}' is already attached", "detach it first")
        digest = hashlib.sha256(config.read_bytes() + weights.read_bytes()).hexdigest()
        try:
            self._load(_peft_name(name), str(folder))
            self._settle_in(name, folder, digest)
        except BaseException as error:
            self._take_off_failed(name)
            if not isinstance(error, Exception) or isinstance(error, AdapterError):
                raise
            raise AdapterError(
                f"the adapter in {folder} can't be attached as '{name}': {_reason(error)}",
                f"check that it was trained on '{made_for}'",
            ) from error

    def grow(self, name: str, settings: Mapping[str, Any]) -> dict[str, nn.Parameter]:
        """Lay a new adapter beside the model, asleep, as random as PEFT begins one; see `LanguageModel.grow`."""
        from peft import LoraConfig, PeftModel

        if name in self._found:
            raise AdapterError(f"an adapter named '{name}' is already attached", "detach it first")
        own = _peft_name(name)
        try:
            config = LoraConfig(**{key: value for key, value in settings.items() if key != "peft_type"})
            with without_peft_warnings():
                if self._peft is None:
                    self._peft = PeftModel(self._module, config, adapter_name=own)
                else:
                    self._peft.add_adapter(own, config)
            self._module.eval()
            self._settle_in(name, None, uuid.uuid4().hex)
            return {
                f"base_model.model.{place.replace(f'.{own}', '', 1)}": weight
                for place, weight in self._module.named_parameters()
                if own in place.split(".")
            }
        except BaseException as error:
            self._take_off_failed(name)
            if not isinstance(error, Exception) or isinstance(error, AdapterError):
                raise
            raise AdapterError(f"no adapter can be laid beside this model: {_reason(error)}") from error

    @contextlib.contextmanager
    def learning(self, name: str) -> Iterator[None]:
        """A grown adapter acts on everything inside the `with`, where its weights may change; then it sleeps again."""
        if self.require(name).folder is not None:
            raise AdapterError(f"adapter '{name}' was loaded, and doesn't learn", "grow one")
        try:
            with self._awake((AdapterUse(name),)):
                yield
        finally:
            if name in self._found:
                # What was encoded under the weights before must not be taken for what these would give.
                self._found[name] = replace(self._found[name], digest=uuid.uuid4().hex)

    def detach(self, name: str) -> None:
        """Remove an attached adapter; after the last one the module is what it was before the first."""
        if name not in self._found:
            raise AdapterError(f"no adapter named '{name}' is attached", "`model.adapters` lists the attached ones")
        del self._found[name]
        self._take_off(_peft_name(name))

    def batch_key(self, uses: tuple[AdapterUse, ...]) -> tuple[AdapterUse, ...]:
        """Rows of equal keys can run in one batch: plain adapters mix freely, others only with their like.

        Raises AdapterError for an adapter that isn't attached, or can't act at the given scale.
        """
        for use in uses:
            if self.require(use.name).is_whole and use.scale not in (0, 1):
                raise AdapterError(
                    f"adapter '{use.name}' replaces whole weights and can't act at scale {use.scale:g}",
                    "use it at scale 1, or 0 to leave it off",
                )
        return () if self._are_plain(uses) else _acting(uses)

    def encoding_key(self, uses: Sequence[AdapterUse]) -> tuple[tuple[str, float], ...]:
        """What the encoding of tokens depends on: the weights and scales of the adapters that act."""
        return tuple(sorted((self.require(use.name).digest, use.scale) for use in uses if use.scale))

    @contextlib.contextmanager
    def worn(self, plan: Plan, uses: Sequence[tuple[AdapterUse, ...]]) -> Iterator[None]:
        """Row i wears `uses[i]` inside the `with`; afterwards all adapters sleep again."""
        self.settle()
        if all(self._are_plain(row) for row in uses):
            plan.adapters = {_peft_name(name): use for name, use in scales_by_adapter(uses, self._device).items()}
            try:
                yield
            finally:
                plan.adapters = {}
            return
        with self._awake(_acting(uses[0])):
            yield

    def settle(self) -> None:
        """Clear away what a killed thread left awake; only where nothing else is at work."""
        if self._awake_for is not None:
            self.sleep()

    def sleep(self) -> None:
        """Switch every adapter off, whatever PEFT left on, at the scale it had."""
        while self._scaled:
            scaling, name, before = self._scaled[-1]
            scaling[name] = before
            del self._scaled[-1]
        if self._peft is not None:
            self._peft.base_model.disable_adapter_layers()
        self._mark_trainable()
        self._awake_for = None

    def awake(self) -> tuple[str, ...]:
        """Adapters that act outside any plan; there should be none."""
        if self._peft is None:
            return ()
        layers = list(_tuner_layers(self._module))
        names = {name for _, layer in layers if not layer.disable_adapters for name in layer.active_adapters}
        names |= {name for _, layer in layers for name in getattr(layer, "merged_adapters", ())}
        names |= {
            name for part in _replaced_parts(self._module) if not part.disable_adapters for name in part.active_adapters
        }
        return tuple(sorted(map(_own_name, names)))

    def scalings(self) -> tuple[tuple[str, str, float], ...]:
        """(layer, adapter, scaling) of every layer an adapter is attached to."""
        return tuple(
            (place, _own_name(name), float(value))
            for place, layer in _tuner_layers(self._module)
            for name, value in getattr(layer, "scaling", {}).items()
        )

    def _are_plain(self, uses: tuple[AdapterUse, ...]) -> bool:
        return all(self.require(use.name).is_plain for use in _acting(uses))

    @property
    def _device(self) -> Any:
        return next(self._module.parameters()).device

    def _load(self, peft_name: str, folder: str) -> None:
        from peft import PeftConfig, PeftModel

        config = PeftConfig.from_pretrained(folder)
        _require_apart(config, folder)
        for part in _replaced_parts(self._module):
            part.adapter_state_dict_load_map = _own_weights(part)
        with without_peft_warnings():
            if self._peft is None:
                config.inference_mode = True
                self._peft = PeftModel(self._module, config, adapter_name=peft_name)
            result = self._peft.load_adapter(folder, peft_name, is_trainable=False)
        missing = [key for key in result.missing_keys if f".{peft_name}." in key]
        if missing or result.unexpected_keys:
            raise ValueError(f"weights missing: {missing[:2]}, not known: {result.unexpected_keys[:2]}")

    def _settle_in(self, name: str, folder: Path | None, digest: str) -> None:
        self.sleep()
        is_plain, is_whole = self._hook_layers(_peft_name(name))
        self._found[name] = Resident(folder, digest, is_plain, is_whole)

    def _take_off_failed(self, name: str) -> None:
        # PEFT leaves what it loaded before an error in place, and awake.
        self._found.pop(name, None)
        self._take_off(_peft_name(name))

    def _hook_layers(self, peft_name: str) -> tuple[bool, bool]:
        """Hook the layers this adapter is the first to wrap; say whether it is plain, and whether it is whole."""
        from peft.tuners.lora import Linear

        is_whole = any(peft_name in part._adapters for part in _replaced_parts(self._module))
        is_plain = not is_whole
        for _, layer in _tuner_layers(self._module):
            if peft_name not in getattr(layer, "scaling", {}):
                continue
            plain_layer = isinstance(layer, Linear) and peft_name in layer.lora_A
            is_plain &= plain_layer and peft_name not in layer.lora_variant and not layer.lora_bias[peft_name]
            if plain_layer and id(layer) not in self._hooked:
                layer.register_forward_hook(self._add_rows)
                self._hooked.add(id(layer))
        return is_plain, is_whole

    def _add_rows(self, layer: Any, args: tuple[Any, ...], output: Tensor) -> Tensor | None:
        """The output of a wrapped layer plus what each row's adapters add: scale · B(A(x))."""
        plan = self._current()
        if plan is None or not plan.adapters:
            return None
        shape, source = output.shape, args[0]
        if output.dim() == 2:
            # Some layers (OPT's) see the tokens of all rows in one line.
            if len(output) % plan.rows:
                raise AdapterError("a wrapped layer sees part of the tokens only", "report this model's architecture")
            output = output.view(plan.rows, -1, shape[-1])
            source = source.view(plan.rows, -1, source.shape[-1])
        for name, (rows, scales) in plan.adapters.items():
            if name not in layer.lora_A:
                continue
            down, up = layer.lora_A[name], layer.lora_B[name]
            whole = len(rows) == len(output)
            given = source if whole else source[rows]
            added = up(down(given.to(down.weight.dtype))) * (scales * layer.scaling[name])
            added = added.to(output.dtype)
            output = output + added if whole else output.index_add(0, rows, added)
        return output.view(shape)

    @contextlib.contextmanager
    def _awake(self, uses: tuple[AdapterUse, ...]) -> Iterator[None]:
        """The given adapters act on everything inside the `with`, at their scales; all sleep again after it."""
        ours = object()
        try:
            self._awake_for = ours
            self._peft.base_model.enable_adapter_layers()
            self._peft.base_model.set_adapter([_peft_name(use.name) for use in uses])
            for _, layer in _tuner_layers(self._module):
                scaling = getattr(layer, "scaling", {})
                for use in uses:
                    name = _peft_name(use.name)
                    if name in scaling:
                        self._scaled.append((scaling, name, scaling[name]))
                        scaling[name] = scaling[name] * use.scale
            yield
        finally:
            # What a killed thread left may be cleared away late, when others are awake.
            if self._awake_for is ours:
                try:
                    self.sleep()
                except BaseException:
                    # An exception from outside may strike here as well.
                    self.sleep()
                    raise

    def _take_off(self, peft_name: str) -> None:
        """Remove an adapter, and begin again if an exception from outside strikes in between."""
        try:
            self._remove(peft_name)
        except BaseException:
            self._remove(peft_name)
            raise

    def _remove(self, peft_name: str) -> None:
        """Take an adapter off, loaded wholly or in part; what no other one needs is not wrapped any more.

        PEFT's own ways leave things behind: its `unload` keeps replaced weights in place of the base's, its
        `delete_adapter` wakes another adapter, and neither takes off a part that failed to load.
        """
        from peft.tuners.tuners_utils import BaseTunerLayer
        from peft.utils.other import AuxiliaryTrainingWrapper

        if self._found:
            # PEFT must know one active adapter, awake or not, or it loads no further one.
            self._peft.base_model.active_adapter = _peft_name(next(iter(self._found)))
            for _, layer in _tuner_layers(self._module):
                layer.set_adapter([])
                layer.delete_adapter(peft_name)
            for part in _replaced_parts(self._module):
                part.delete_adapter(peft_name, None)
            self._peft.peft_config.pop(peft_name, None)
        for parent in list(self._module.modules()):
            for child_name, part in list(parent.named_children()):
                if isinstance(part, BaseTunerLayer) and not (self._found and part._all_available_adapter_names()):
                    setattr(parent, child_name, part.get_base_layer())
                    self._hooked.discard(id(part))
                elif isinstance(part, AuxiliaryTrainingWrapper) and not (self._found and part._adapters):
                    setattr(parent, child_name, part.original_module)
        if not self._found:
            self._peft = None
            if hasattr(self._module, "peft_config"):
                del self._module.peft_config
        self.sleep()

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


def _replaced_parts(module: nn.Module) -> Iterator[Any]:
    """Parts of the base that an adapter replaces, or trains in part, by weights of its own."""
    from peft.utils.other import AuxiliaryTrainingWrapper

    for part in module.modules():
        if isinstance(part, AuxiliaryTrainingWrapper):
            yield part


def _own_weights(part: Any) -> Callable[[str], dict[str, str]]:
    """PEFT asks every replaced part for weights of every adapter; a part has those that replace it, and no others."""
    plain = type(part).adapter_state_dict_load_map
    return lambda peft_name: plain(part, peft_name) if peft_name in part._adapters else {}


def _acting(uses: tuple[AdapterUse, ...]) -> tuple[AdapterUse, ...]:
    return tuple(use for use in uses if use.scale)


def _require_apart(config: Any, folder: str) -> None:
    """Raise AdapterError for an adapter that would change the base, or can't be scaled."""
    from safetensors import safe_open

    kind = getattr(config.peft_type, "value", config.peft_type)
    trained = "another kind can't be switched off and on again: train plain LoRA"
    if kind != "LORA":
        raise AdapterError(f"the adapter in {folder} is of type {kind}, and only LORA is attached", trained)
    for setting, is_harmless in (
        ("bias", config.bias == "none"),
        ("init_lora_weights", config.init_lora_weights in _HARMLESS_STARTS),
        ("layer_replication", not config.layer_replication),
    ):
        if not is_harmless:
            raise AdapterError(
                f"the adapter in {folder} has {setting}={getattr(config, setting)!r}, which changes the base model",
                trained,
            )
    whole = tuple(config.modules_to_save or ())
    with safe_open(str(Path(folder) / WEIGHTS), framework="numpy") as file:
        for key in file.keys():  # noqa: SIM118 (not a dictionary)
            parts = key.split(".")
            is_ours = any(part.startswith("lora_") or part == "token_adapter" for part in parts)
            # PEFT takes whatever ends in one of the names; anything else it would load over the base's own.
            places = accumulate(parts, "{}.{}".format)
            if not is_ours and not any(place.endswith(whole) for place in places):
                raise AdapterError(f"the adapter in {folder} holds '{key}', a weight of the base model", trained)


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:240] or type(error).__name__


def _peft_name(name: str) -> str:
    """The name an adapter has inside PEFT, which chokes on "train" and "keys", loads "a" or "lora" wrongly, and takes
    whatever ends in the name of a layer for that layer."""
    return f"adapter-{name}-"


def _own_name(peft_name: str) -> str:
    return peft_name.removeprefix("adapter-").removesuffix("-")
