"""Swaps: whether the base model is bit for bit what it was after a thousand adapters that fail on the way in,
while they are worn, or on the way out."""

from __future__ import annotations

import itertools
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save, save_file

from overlay.adapters import AdapterLibrary
from overlay.adapters.adapter import file_digest
from overlay.adapters.targets import target_layers
from overlay.errors import AdapterError
from overlay.model import LanguageModel, Message, Row, Sampling
from overlay.progress import Progress, SilentProgress

FAULTS = 1000
RANK = 4

CHAT = (
    Message(
        "user", "The boats leave from the old harbour at ten, at noon and at four, except on the days of the fair."
    ),
    Message("assistant", "Then we will take the one at noon."),
    Message("user", "And if it rains?"),
)


class Planted(BaseException):
    """A fault of ours. Not an Exception: nothing may catch it on its way."""


def measure(
    model_name: str = "smollm2-135m", *, faults: int = FAULTS, progress: Progress | None = None
) -> dict[str, Any]:
    """How many of the swaps with a planted fault left the model's census, adapters and base logits as they were.

    swaps_with_faults: swaps; each puts on an adapter of random weights from its folder, or tries to.
    base_unchanged: after how many of them everything was exactly as before; `_by_kind` the same by kind of fault.
    faults_reached: in how many the planted fault struck; the others passed it by (a late one may find its call over).
    """
    progress = progress or SilentProgress()
    progress.step(f"loading {model_name}", None, None)
    model = LanguageModel.load(model_name, pull=True)
    with tempfile.TemporaryDirectory() as place:
        library = random_library(model, Path(place))
        found = survive(model, library, faults, progress)
    return {"model": model.name, "dtype": model.dtype, **found}


def random_library(model: LanguageModel, place: Path) -> AdapterLibrary:
    """A library with the adapters `one` and `two`, of random weights on every linear layer of every block."""
    library = AdapterLibrary(place / "lora", place / "built")
    layers = target_layers(model, "all", ("attention", "mlp"))
    for seed, name in enumerate(("one", "two")):
        generator = torch.Generator().manual_seed(seed)
        weights = {}
        for layer in layers:
            outer, inner = model.module.get_submodule(layer).weight.shape
            weights[f"base_model.model.{layer}.lora_A.weight"] = (
                torch.randn(RANK, inner, generator=generator) / inner**0.5
            )
            weights[f"base_model.model.{layer}.lora_B.weight"] = torch.randn(outer, RANK, generator=generator) * 0.05
        config = {
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "r": RANK,
            "lora_alpha": RANK,
            "target_modules": layers,
        }
        library.add(model, name, config, save(weights), aim="Random weights.", origin="imported", made_at=0.0)
    return library


def survive(
    model: LanguageModel, library: AdapterLibrary, faults: int, progress: Progress | None = None
) -> dict[str, Any]:
    """Plant so many faults into swaps between the library's adapters `one` and `two`; see `measure`."""
    progress = progress or SilentProgress()
    kinds: list[Callable[[LanguageModel, AdapterLibrary, int], bool]] = [
        _truncated, _wrong_shapes, _interrupted_attach, _raising_body, _raising_block, _raising_adapter,
        _interrupted_generation, _left_stream, _interrupted_detach,
    ]  # fmt: skip
    base = Row(text="The boat leaves at noon.")
    tokens = [model.encode(base).tokens]

    def logits() -> torch.Tensor:
        ((_, found),) = model.logits(tokens, [base])
        return torch.as_tensor(found)

    before, census, adapters = logits(), model.census(), dict(model.adapters)
    whole = {kind.__name__.strip("_"): 0 for kind in kinds}
    reached = 0
    for number in range(faults):
        progress.step("swapping with planted faults", number, faults)
        kind = kinds[number % len(kinds)]
        reached += kind(model, library, number // len(kinds))
        unchanged = model.census() == census and model.adapters == adapters and torch.equal(logits(), before)
        whole[kind.__name__.strip("_")] += int(unchanged)
    return {
        "swaps_with_faults": faults,
        "faults_reached": reached,
        "base_unchanged": sum(whole.values()),
        "base_unchanged_by_kind": whole,
    }


def _rows(*worn: Any) -> list[Row]:
    sampling = Sampling(max_tokens=3)
    return [Row(CHAT, sampling=sampling), *(Row(CHAT, intervention=one, sampling=sampling) for one in worn)]


def _truncated(model: LanguageModel, library: AdapterLibrary, number: int) -> bool:
    """Weights cut off at some byte, with a manifest that agrees with them."""

    def spoil(folder: Path) -> None:
        content = (folder / "adapter_model.safetensors").read_bytes()
        (folder / "adapter_model.safetensors").write_bytes(content[: len(content) * (number % 97) // 97])

    return _refused(model, library, spoil)


def _wrong_shapes(model: LanguageModel, library: AdapterLibrary, number: int) -> bool:
    """One tensor of another shape, or none at all; every second time past our checks, into PEFT itself."""

    def spoil(folder: Path) -> None:
        path = folder / "adapter_model.safetensors"
        weights = load_file(path)
        key = sorted(weights)[number * 7 % len(weights)]
        weights[key] = weights[key][:-1].contiguous()
        if number % 3 == 0:
            del weights[key]
        save_file(weights, path)

    return _refused(model, library, spoil, past_checks=number % 2 == 1)


def _refused(
    model: LanguageModel, library: AdapterLibrary, spoil: Callable[[Path], None], *, past_checks: bool = False
) -> bool:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(shutil.copytree(library.built / "one", Path(place) / "one"))
        spoil(folder)
        manifest = json.loads((folder / "manifest.json").read_text())
        manifest["weights_sha256"] = file_digest(folder / "adapter_model.safetensors")
        (folder / "manifest.json").write_text(json.dumps(manifest))
        try:
            if past_checks:
                model.attach("broken", folder)
            else:
                with library.worn(model, "two") as two, AdapterLibrary(Path(place), Path(place)).worn(model, "one"):
                    model.generate(_rows(two))
        except AdapterError:
            return True
    raise AssertionError("an adapter that was spoiled was worn")


@contextmanager
def _striking(count: int, inside: str) -> Iterator[list[bool]]:
    """Raise Planted at the `count`-th call of a Python function within a function named `inside`, once."""
    calls = itertools.count()
    struck: list[bool] = []
    depth = 0

    def watch(frame: Any, event: str, _: Any) -> None:
        nonlocal depth
        if frame.f_code.co_name == inside:
            depth += {"call": 1, "return": -1}.get(event, 0)
        elif depth and event == "call" and next(calls) == count:
            sys.setprofile(None)
            struck.append(True)
            raise Planted

    sys.setprofile(watch)
    try:
        yield struck
    except Planted:
        pass
    finally:
        sys.setprofile(None)


def _interrupted_attach(model: LanguageModel, library: AdapterLibrary, number: int) -> bool:
    """Struck anywhere while the weights are put in place."""
    with library.worn(model, "two") as two:
        with _striking(number * 41, "_load") as struck, library.worn(model, "one") as one:
            model.generate(_rows(one))
        model.generate(_rows(two))
    return bool(struck)


def _raising_body(model: LanguageModel, library: AdapterLibrary, number: int) -> bool:
    try:
        with library.worn(model, "one") as one, library.worn(model, "two", 0.5) as two:
            model.generate(_rows(one, one + two))
            raise Planted
    except Planted:
        return True


def _raising_block(model: LanguageModel, library: AdapterLibrary, number: int) -> bool:
    return _raising_part(model, library, model.blocks.modules[number % model.layers], number)


def _raising_adapter(model: LanguageModel, library: AdapterLibrary, number: int) -> bool:
    """A hook that fails inside a wrapped layer, when some rows of the batch have got their share."""
    with library.worn(model, "one"):
        ends = ("lora_B.adapter-one-", "lora_A.adapter-one-", "base_layer")
        parts = [part for name, part in model.module.named_modules() if name.endswith(ends)]
        return _raising_part(model, library, parts[number * 13 % len(parts)], number)


def _raising_part(model: LanguageModel, library: AdapterLibrary, part: Any, number: int) -> bool:
    calls = itertools.count()

    def fail(*_: Any) -> None:
        if next(calls) == number % 3:
            raise Planted

    handle = part.register_forward_hook(fail)
    model.prefixes.clear()
    try:
        with library.worn(model, "one") as one, library.worn(model, "two", 0.7) as two:
            model.generate(_rows(one, two, one + two))
    except Planted:
        return True
    finally:
        handle.remove()
    return False


def _interrupted_generation(model: LanguageModel, library: AdapterLibrary, number: int) -> bool:
    """Struck anywhere while rows with several adapters are generated."""
    with _striking(number * 211, "_generate_batch") as struck, library.worn(model, "one") as one:
        model.generate(_rows(one, one * 0.5))
    return bool(struck)


def _left_stream(model: LanguageModel, library: AdapterLibrary, number: int) -> bool:
    with library.worn(model, "one") as one:
        stream = model.stream(Row(CHAT, intervention=one, sampling=Sampling(8, 0.9), seed=number))
        for _ in range(number % 4):
            next(stream, None)
        stream.close()
    return True


def _interrupted_detach(model: LanguageModel, library: AdapterLibrary, number: int) -> bool:
    """Struck once, anywhere while the weights are taken off."""
    with _striking(number * 23, "_remove") as struck, library.worn(model, "one") as one:
        model.generate(_rows(one))
    return bool(struck)
