"""The engine: what steering, mixing, batching and swapping cost and bring, as ratios within one run on this machine."""

from __future__ import annotations

import ctypes
import functools
import resource
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import GenerationConfig

from overlay.errors import GenerationFailed
from overlay.model import (
    AdapterUse,
    Ban,
    Direction,
    Dose,
    Focus,
    Intervention,
    LanguageModel,
    LogitBias,
    Message,
    Row,
    Sampling,
    neutral_texts,
)
from overlay.progress import Progress, SilentProgress

REPEATS = 5
TOKENS = 24
ROWS = 32
FAULTS = 1000

VOICES, ROUNDS, HISTORY = 4, 3, 1000
"""The turn whose history is encoded once: four voices, three rounds, a thousand tokens."""

UTTERANCES = (1, 8, 32)
"""Tokens an utterance. The cache saves encoding only, so the longer the voices speak, the less of the turn it saves."""


def measure(
    model_name: str = "smollm2-135m", *, faults: int = FAULTS, progress: Progress | None = None
) -> dict[str, Any]:
    """Ratios of medians over interleaved repeats; memory of the whole process in MB.

    steering_overhead_*: greedy generation of one row with doses over the library's own `generate` of that row.
    row_mix_efficiency: tokens/s of rows that all differ in their steering, over plain rows; `_of_all_kinds`: rows that
        differ in steering, adapters, logit biases and focus.
    batch_speedup: rows in one batch over the same rows one at a time.
    prefix_reuse_speedup: a turn of four voices and three rounds over a long history, each voice saying 8 tokens, prefix
        cache off over on; `_by_utterance_tokens`: the same for shorter and longer utterances.
    swap_ms: switching from one resident adapter to another and back, per switch.
    trace_cost: generation with `trace_volatility` over generation without.
    faults_survived: planted faults after which the census and the base model's logits were exactly as before.
    """
    progress = progress or SilentProgress()
    progress.step(f"loading {model_name}", None, None)
    model = LanguageModel.load(model_name, pull=True)
    norms = model.residual_norms(neutral_texts())
    with tempfile.TemporaryDirectory() as folder:
        for name in ("one", "two"):
            model.attach(name, _random_adapter(model, Path(folder) / name, seed=len(name)))
        found = _speeds(model, norms, progress)
        found |= {"swap_ms": round(_swap_ms(model), 3)}
        found |= _survive(model, _row(model, norms, 3, _middle(model)), faults, progress)
    scale = 1 / 1024 if sys.platform != "darwin" else 1 / 1024**2
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale
    return (
        {"model": model.name, "dtype": model.dtype, "threads": torch.get_num_threads()}
        | found
        | {"peak_mb": round(peak)}
    )


def _speeds(model: LanguageModel, norms: Any, progress: Progress) -> dict[str, Any]:
    middle = _middle(model)
    greedy = Sampling(TOKENS)
    one_block = _row(model, norms, 1, middle[:1], greedy)
    all_blocks = _row(model, norms, 1, tuple(range(model.layers)), greedy)
    progress.step("measuring what steering costs", None, None)
    plain, one, every = _times(
        [
            lambda: _library_generate(model, one_block),
            lambda: model.generate([one_block]),
            lambda: model.generate([all_blocks]),
        ]
    )
    progress.step("measuring batches", None, None)
    rows = [_row(model, norms, seed) for seed in range(ROWS)]
    mixed = [_row(model, norms, seed, middle[seed % 3 :]) for seed in range(ROWS)]
    kinds = [_row_of_any_kind(model, norms, seed, middle) for seed in range(ROWS)]
    traced = [Row(**{**vars(row), "trace_volatility": True}) for row in mixed[:4]]
    batch, mix, mix_kinds, four, four_traced = _times(
        [functools.partial(model.generate, given) for given in (rows, mixed, kinds, mixed[:4], traced)]
    )
    (alone,) = _times([lambda: [model.generate([one]) for one in rows[:8]]], repeats=2)
    progress.step("measuring a turn of four voices", None, None)
    turns = [functools.partial(_turn, model, tokens, reuse=reuse) for tokens in UTTERANCES for reuse in (False, True)]
    seconds = _times(turns, repeats=2)
    by_tokens = {
        tokens: round(seconds[2 * place] / seconds[2 * place + 1], 2) for place, tokens in enumerate(UTTERANCES)
    }
    return {
        "steering_overhead_1_block": round(one / plain, 3),
        "steering_overhead_all_blocks": round(every / plain, 3),
        "row_mix_efficiency": round(batch / mix, 3),
        "row_mix_efficiency_of_all_kinds": round(batch / mix_kinds, 3),
        "batch_speedup": round(alone / 8 * ROWS / batch, 2),
        "tokens_per_second_1_row": round(TOKENS * 8 / alone, 1),
        f"tokens_per_second_{ROWS}_rows": round(ROWS * TOKENS / batch, 1),
        "prefix_reuse_speedup": by_tokens[8],
        "prefix_reuse_speedup_by_utterance_tokens": by_tokens,
        "trace_cost": round(four_traced / four, 2),
    }


def _middle(model: LanguageModel) -> tuple[int, ...]:
    return tuple(range(round(0.4 * model.layers), round(0.67 * model.layers)))


def _row(
    model: LanguageModel, norms: Any, seed: int, blocks: tuple[int, ...] = (), sampling: Sampling | None = None
) -> Row:
    doses = (Dose(_direction(model, norms, seed), 0.01, blocks),) if blocks else ()
    return Row(
        text=neutral_texts()[seed % len(neutral_texts())],
        intervention=Intervention(doses),
        sampling=sampling or Sampling(TOKENS, 0.8),
        seed=seed,
    )


def _row_of_any_kind(model: LanguageModel, norms: Any, seed: int, middle: tuple[int, ...]) -> Row:
    direction = _direction(model, norms, seed)
    text = neutral_texts()[seed % len(neutral_texts())]
    kinds = (
        Intervention((Dose(direction, 0.01, middle),)),
        Intervention((Dose(direction, 1.0, middle, operator="project out"),)),
        Intervention(adapters=(AdapterUse("one", 0.5 + seed / 100),)),
        Intervention(adapters=(AdapterUse("two"), AdapterUse("one", 0.3))),
        Intervention(biases=(LogitBias((100 + seed,), 1.0),)),
        Intervention(focus=(Focus(text.split()[0], 1.0, blocks=middle),)),
    )
    return Row(text=text, intervention=kinds[seed % len(kinds)], sampling=Sampling(TOKENS, 0.8), seed=seed)


def _library_generate(model: LanguageModel, row: Row) -> None:
    """The library's own greedy generation, hooks silent, of as many tokens as ours."""
    ids = torch.tensor([model.encode(row).tokens])
    settings = GenerationConfig(
        max_new_tokens=TOKENS, min_new_tokens=TOKENS, do_sample=False, pad_token_id=0, eos_token_id=None
    )
    with torch.inference_mode():
        model.module.generate(ids, attention_mask=torch.ones_like(ids), generation_config=settings)


def _turn(model: LanguageModel, tokens: int, *, reuse: bool) -> None:
    limit = model.prefixes.limit
    model.prefixes.clear()
    model.prefixes.limit = limit if reuse else 0
    words = " ".join(neutral_texts()).split()
    try:
        opening = [Message("system", "You are a careful assistant.")]
        while len(model.encode(Row((*opening, Message("user", ".")))).tokens) < HISTORY:
            place = 40 * len(opening)
            opening.append(Message("user", " ".join(words[place % 200 : place % 200 + 40])))
            opening.append(Message("assistant", " ".join(words[place % 150 : place % 150 + 40])))
        for number in range(ROUNDS):
            asked = [
                Message("user", f"{neutral_texts()[number]} You are voice {voice}. What is there to be seen?")
                for voice in range(VOICES)
            ]
            sampling = Sampling(tokens, 0.8, top_p=0.95)
            model.generate([Row((*opening, last), sampling=sampling, seed=seed) for seed, last in enumerate(asked)])
    finally:
        model.prefixes.limit = limit


def _swap_ms(model: LanguageModel, swaps: int = 50) -> float:
    """The median time to put on the other resident adapter and take it off again, without running the model."""
    rows = [Row(text="a", intervention=Intervention(adapters=(AdapterUse(name),))) for name in ("one", "two")]
    prompts = [model.encode(row) for row in rows]
    taken = []
    for number in range(swaps):
        row, prompt = rows[number % 2], prompts[number % 2]
        start = time.perf_counter()
        with model._influence([row], [prompt]):
            pass
        taken.append((time.perf_counter() - start) * 1000)
    return statistics.median(taken)


def _random_adapter(model: LanguageModel, folder: Path, seed: int) -> Path:
    """An adapter whose weights are small and random: it does something, and nothing sensible."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(seed)
    config = AutoConfig.for_model(**model.module.config.to_dict())
    with torch.device("meta"):
        bare = AutoModelForCausalLM.from_config(config)
    wrapped = get_peft_model(bare, LoraConfig(r=8, target_modules="all-linear", task_type="CAUSAL_LM"))
    folder.mkdir()
    wrapped.peft_config["default"].save_pretrained(folder)
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    weights = get_peft_model_state_dict(wrapped)
    save_file(
        {name: torch.randn(weight.shape) * 0.01 for name, weight in weights.items()},
        folder / "adapter_model.safetensors",
    )
    return folder


def _direction(model: LanguageModel, norms: Any, seed: int) -> Direction:
    vectors = np.random.default_rng(seed).standard_normal((model.layers, model.width)).astype(np.float32)
    return Direction(f"random-{seed}", vectors / np.linalg.norm(vectors, axis=1, keepdims=True), norms)


def _times(works: Sequence[Callable[[], Any]], repeats: int = REPEATS) -> list[float]:
    """Median seconds of each; they take turns, so that a slow moment of the machine hits all of them."""
    for work in works:
        work()
    taken: list[list[float]] = [[] for _ in works]
    for _ in range(repeats):
        for index, work in enumerate(works):
            start = time.perf_counter()
            work()
            taken[index].append(time.perf_counter() - start)
    return [statistics.median(times) for times in taken]


# --- faults ---------------------------------------------------------------------------------------


class Planted(Exception):
    """A fault of ours, which must come out as it is and leave nothing behind."""


def _survive(model: LanguageModel, row: Row, faults: int, progress: Progress) -> dict[str, Any]:
    """How many planted faults left the census, the base logits and the model's ability to go on as they were."""
    kinds: list[Callable[[LanguageModel, Row, int], None]] = [
        _raising_hook, _raising_hook_in_adapter, _raising_processor, _cancelled_stream, _killed_thread,
    ]  # fmt: skip
    tokens = [model.encode(row).tokens]
    before, clean = model.census(), dict(model.logits(tokens, [Row(text="clean")]))[0]
    survived = {kind.__name__.strip("_"): 0 for kind in kinds}
    for number in range(faults):
        progress.step("planting faults", number, faults)
        kind = kinds[number % len(kinds)]
        kind(model, row, number)
        same = model.census() == before
        again = dict(model.logits(tokens, [Row(text="clean")]))[0]
        survived[kind.__name__.strip("_")] += int(same and bool((again == clean).all()))
    return {"faults_planted": faults, "faults_survived": sum(survived.values()), "faults_survived_by_kind": survived}


@contextmanager
def _hook(module: Any, work: Callable[..., None]) -> Iterator[None]:
    handle = module.register_forward_hook(work)
    try:
        yield
    finally:
        handle.remove()


def _raise(*_: Any) -> None:
    raise Planted


def _expect(work: Callable[[], Any]) -> None:
    try:
        work()
    except Planted:
        return
    raise AssertionError("the planted fault did not come out")


def _raising_hook(model: LanguageModel, row: Row, number: int) -> None:
    with _hook(model.blocks.modules[number % model.layers], _raise):
        _expect(lambda: model.observe([row]))


def _raising_hook_in_adapter(model: LanguageModel, row: Row, number: int) -> None:
    """A mixed batch of adapters, of which one layer fails."""
    mixed = [
        Row(text=row.text, intervention=row.intervention + Intervention(adapters=(AdapterUse(name, 0.7),)))
        for name in ("one", "two")
    ]
    layers = [part for name, part in model.module.named_modules() if name.endswith("down_proj")]
    with _hook(layers[number % len(layers)], _raise):
        _expect(lambda: model.generate([row, *mixed]))


def _raising_processor(model: LanguageModel, row: Row, number: int) -> None:
    """The tokenizer fails inside the logits processor, which asks it whether a ban is broken."""
    banned = Row(
        text=row.text, intervention=row.intervention + Intervention(bans=(Ban("the"),)), sampling=Sampling(6, 0.9)
    )
    tokenizer, calls = model.tokenizer, iter(range(10_000))

    class Failing:
        def __getattr__(self, name: str) -> Any:
            return getattr(tokenizer, name)

        def decode(self, *given: Any, **options: Any) -> Any:
            if next(calls) >= number % 5:
                raise Planted
            return tokenizer.decode(*given, **options)

    model.tokenizer = Failing()
    try:
        _expect(lambda: model.generate([banned]))
    finally:
        model.tokenizer = tokenizer


def _cancelled_stream(model: LanguageModel, row: Row, number: int) -> None:
    stream = model.stream(Row(text=row.text, intervention=row.intervention, sampling=Sampling(40, 0.9), seed=number))
    for _ in range(number % 3):
        next(stream, None)
    stream.close()


def _killed_thread(model: LanguageModel, row: Row, number: int) -> None:
    """The generating thread gets an exception from outside, somewhere in its work."""
    stream = model.stream(Row(text=row.text, intervention=row.intervention, sampling=Sampling(40, 0.9), seed=number))
    listener = threading.Thread(target=_drain, args=(stream,), daemon=True)
    listener.start()
    time.sleep(0.002 * (number % 97))
    for worker in threading.enumerate():
        if worker.name == "overlay-stream" and worker.ident:
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(worker.ident), ctypes.py_object(SystemExit))
            worker.join()
    listener.join()


def _drain(stream: Iterator[Any]) -> None:
    """Take what comes until it ends, or says that its thread was killed."""
    with suppress(GenerationFailed):
        for _ in stream:
            pass
