"""Nothing is left behind: after any fault the model is what it was, bit for bit, and still does its work.

Each check plants one fault in the middle of a call that mixes doses, focus, bans and adapters, then compares
`model.census()` and the base model's logits with those from before, and runs the same rows again.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import itertools
import json
import random
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_adapters import write_lora, write_peft
from tiny_models import byte_tokenizer, tiny_module

from overlay.errors import AdapterError, GenerationFailed, InterventionError
from overlay.model import (
    NOTHING,
    AdapterUse,
    Ban,
    Completion,
    Dose,
    Focus,
    Intervention,
    LanguageModel,
    LogitBias,
    Message,
    Row,
    Sampling,
)
from overlay.model.decoding import Decoder, Endings
from overlay.model.growing_layer import GrowingLayer
from overlay.model.noise import RowSampler
from overlay.model.plan import Hold, Plan, Shift
from overlay.model.prefix_cache import KeyValues, PrefixCache
from overlay.model.prompt import Prompts

pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

CHAT = (
    Message("user", "Which boats leave today?"),
    Message("assistant", "The first at ten."),
    Message("user", "And who is on it?"),
)
PLAIN_ADAPTERS = ("one", "two")


class Planted(BaseException):
    """Not an Exception: nothing may catch it on its way."""


class Watched:
    """A model, what is on it, and what it computes when nothing acts."""

    def __init__(self, model: Any, rows: list[Row]) -> None:
        self.model = model
        self.rows = rows
        self._base = Row(text="The boat leaves at noon.")
        self.results()
        self.census = model.census()
        self.logits = self.base_logits()
        self.expected = self.results()
        assert self.census.is_silent

    def base_logits(self) -> torch.Tensor:
        ((_, found),) = self.model.logits([self.model.encode(self._base).tokens], [self._base])
        return found

    def results(self) -> Any:
        scored = [tuple(round(total, 3) for total in one.total) for one in self.model.score(self.rows)]
        return [one.tokens for one in self.model.generate(self.rows)], scored

    def check(self, where: object = "") -> None:
        assert self.model.census() == self.census, where
        assert torch.equal(self.base_logits(), self.logits), where

    def check_work(self) -> None:
        self.check()
        assert self.results() == self.expected


def rows_for(model: Any, make: Any, adapters: bool, tokens: int = 3) -> list[Row]:
    first, second = make(model, 1), make(model, 2)
    chosen = Sampling(max_tokens=tokens, stop=("xyz",))
    options = (" nobody", " it")
    rows = [
        Row(CHAT, intervention=Intervention((Dose(first, 0.4, (0, 2), "turn"),)), sampling=chosen, options=options),
        Row(
            CHAT[:1],
            intervention=Intervention(
                (Dose(second, 1.0, (1,), "all", "project out"),),
                biases=(LogitBias("e", 3.0),),
                bans=(Ban("e*"),),
                focus=(Focus("boats", 2.0),),
            ),
            sampling=chosen,
            options=options,
        ),
        Row(CHAT, sampling=Sampling(max_tokens=tokens, temperature=1.0), seed=5, options=options),
    ]
    if adapters:
        both = (AdapterUse("one", 0.5), AdapterUse("two", -1.0))
        rows.append(Row(CHAT, intervention=Intervention(adapters=both[:1]), sampling=chosen, options=options))
        rows.append(Row(text="The boat", intervention=Intervention(adapters=both), sampling=chosen, options=options))
    return rows


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Adapters of every kind for the tiny llama."""
    from peft import LoraConfig

    root = tmp_path_factory.mktemp("adapters")
    found = {name: write_lora(root / name, tiny_module("llama"), seed) for seed, name in enumerate(PLAIN_ADAPTERS)}
    some = {"task_type": "CAUSAL_LM", "r": 2, "target_modules": ["q_proj", "down_proj"]}
    kinds: dict[str, dict[str, Any]] = {
        "dora": {"use_dora": True},
        "norm": {"modules_to_save": ["norm"]},
        "head": {"modules_to_save": ["lm_head"]},
        "tokens": {"trainable_token_indices": [66, 67, 70, 71]},
    }
    for seed, (name, more) in enumerate(kinds.items()):
        found[name] = write_peft(root / name, tiny_module("llama"), seed, LoraConfig(**{**some, **more}))
    return found


@pytest.fixture(scope="module")
def bare(random_direction: Any) -> Watched:
    model = LanguageModel(tiny_module("llama"), byte_tokenizer(), "bare")
    return Watched(model, rows_for(model, random_direction, adapters=False))


@pytest.fixture(scope="module")
def adapted(random_direction: Any, folders: dict[str, Path]) -> Watched:
    """With two adapters that mix, and rows that use one of them or both."""
    model = LanguageModel(tiny_module("llama"), byte_tokenizer(), "adapted")
    for name in PLAIN_ADAPTERS:
        model.attach(name, folders[name])
    return Watched(model, rows_for(model, random_direction, adapters=True))


@pytest.fixture(scope="module")
def oddly_adapted(random_direction: Any, folders: dict[str, Path]) -> Watched:
    """With every kind of adapter, most of which can't mix."""
    model = LanguageModel(tiny_module("llama"), byte_tokenizer(), "oddly adapted")
    for name, folder in folders.items():
        model.attach(name, folder)
    options, chosen = (" nobody", " it"), Sampling(max_tokens=2)
    uses = [
        (AdapterUse("dora", 0.5),),
        (AdapterUse("norm"), AdapterUse("one", 0.5)),
        (AdapterUse("tokens"),),
        (AdapterUse("head"), AdapterUse("dora", 0.7), AdapterUse("two")),
    ]
    rows = [Row(CHAT, intervention=Intervention(adapters=use), sampling=chosen, options=options) for use in uses]
    rows += rows_for(model, random_direction, adapters=True, tokens=2)[::2]
    return Watched(model, rows)


def raise_at(count: int, error: type[BaseException]) -> Callable[..., None]:
    """A function that raises the `count`-th time it is called, counted from 1."""
    calls = itertools.count(1)

    def strike(*_: Any, **__: Any) -> None:
        if next(calls) == count:
            raise error("planted")

    return strike


def verbs(watched: Watched) -> Iterator[tuple[str, Callable[[], Any]]]:
    model, rows = watched.model, watched.rows
    yield "generate", lambda: model.generate(rows)
    yield "score", lambda: model.score(rows)
    yield "observe", lambda: model.observe(rows)
    yield "residual_norms", lambda: model.residual_norms(["The boat leaves."])
    yield "logits", lambda: list(model.logits([model.encode(row).tokens for row in rows], rows))
    yield "stream", lambda: list(model.stream(rows[-1]))


def striking(inner: Callable[..., Any], count: int) -> Callable[..., Any]:
    """The same function, which raises before its `count`-th call."""
    strike = raise_at(count, Planted)

    @functools.wraps(inner)
    def planted(*args: Any, **kwargs: Any) -> Any:
        strike()
        return inner(*args, **kwargs)

    return planted


PARTS = (
    "layers.0",
    "layers.2",
    "attn",
    "q_proj",
    "down_proj",
    "norm",
    "embed_tokens",
    "lm_head",
    "model",
    "lora_A",
    "lora_B",
)


@pytest.mark.parametrize(
    ("kind", "when"),
    [("bare", "after"), ("adapted", "before"), ("adapted", "after"), ("oddly_adapted", "before")],
)
def test_a_hook_that_raises(request: pytest.FixtureRequest, kind: str, when: str) -> None:
    """Before or after every part of the model, in the first pass or a later one, in every verb."""
    watched: Watched = request.getfixturevalue(kind)
    names = [(name, part) for name, part in watched.model.module.named_modules() if name]
    struck = 0
    for place, wanted in enumerate(PARTS):
        parts = [part for name, part in names if name.split(".adapter-")[0].endswith(wanted)]
        for count, (verb, run) in zip((1, 2, 1, 1, 3, 2), verbs(watched), strict=True):
            if not parts:
                continue
            part = parts[(place + count) % len(parts)]
            hook = raise_at(count, (Planted, RuntimeError, KeyboardInterrupt)[place % 3])
            watched.model.prefixes.clear()
            register = part.register_forward_pre_hook if when == "before" else part.register_forward_hook
            handle = register(hook)
            try:
                with contextlib.suppress(Planted, RuntimeError, KeyboardInterrupt, GenerationFailed):
                    run()
                    struck -= 1
                struck += 1
            finally:
                handle.remove()
            watched.check((wanted, verb))
    assert struck > 20, "the planted faults were never reached"
    watched.check_work()


WITHIN: list[tuple[Any, str, int]] = [
    (Decoder, "__call__", 1),
    (Decoder, "__call__", 3),
    (Decoder, "_skew", 2),
    (Decoder, "_choose_unbanned", 1),
    (Endings, "__call__", 1),
    (Endings, "__call__", 2),
    (RowSampler, "apply", 2),
    (Shift, "apply", 1),
    (Shift, "apply", 5),
    (Hold, "apply", 2),
    (Plan, "attention_bias", 3),
    (KeyValues, "taken", 1),
    (KeyValues, "taken", 2),
    (PrefixCache, "keep", 1),
    (PrefixCache, "find", 2),
    (GrowingLayer, "update", 4),
    (GrowingLayer, "fill", 2),
    (Prompts, "locate", 1),
    (LanguageModel, "_pad", 1),
    (LanguageModel, "_pad", 2),
    (LanguageModel, "_forward", 2),
    (LanguageModel, "_biases", 2),
]


@pytest.mark.parametrize("kind", ["adapted", "oddly_adapted"])
def test_a_step_of_our_own_that_raises(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    watched: Watched = request.getfixturevalue(kind)
    struck = 0
    called = dict(verbs(watched))
    for (owner, name, count), verb in itertools.product(WITHIN, ("generate", "score")):
        original = vars(owner)[name]
        inner = original.__func__ if isinstance(original, classmethod) else original
        planted = striking(inner, count)
        watched.model.prefixes.clear()
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, classmethod(planted) if isinstance(original, classmethod) else planted)
            with contextlib.suppress(Planted):
                called[verb]()
                struck -= 1
            struck += 1
        watched.check((name, count, verb))
    assert struck > 25, "the planted faults were never reached"
    watched.check_work()


def test_a_tokenizer_that_raises(adapted: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = adapted.model.tokenizer
    for count in (1, 2, 3, 5, 8):
        for owner, name, verb in ((tokenizer, "decode", "generate"), (type(tokenizer), "__call__", "score")):
            with monkeypatch.context() as patch:
                patch.setattr(owner, name, striking(getattr(owner, name), count))
                with pytest.raises(Planted):
                    getattr(adapted.model, verb)(adapted.rows)
            adapted.check((name, count))
    adapted.check_work()


def test_a_listener_that_raises(adapted: Watched) -> None:
    with pytest.raises(Planted):
        adapted.model.generate(adapted.rows, progress=raise_at(1, Planted))
    adapted.check_work()
    unfinished = adapted.model.logits([adapted.model.encode(row).tokens for row in adapted.rows], adapted.rows)
    next(unfinished)
    adapted.check()
    unfinished.close()
    adapted.check_work()


def test_streams_that_are_left_or_cancelled(adapted: Watched) -> None:
    """After any piece: closed, cancelled, dropped, or left by an error of the listener."""
    rows = [Row(**{**vars(row), "sampling": Sampling(max_tokens=8)}) for row in (*adapted.rows[:1], *adapted.rows[3:])]
    for pieces, row in itertools.product(range(5), rows):
        stream = adapted.model.stream(row)
        taken = list(itertools.islice(stream, pieces))
        stream.close()  # type: ignore[attr-defined]
        adapted.check((pieces, "closed"))

        cancelled = threading.Event()
        given: list[Any] = []
        for piece in adapted.model.stream(row, cancelled):
            given.append(piece)
            if len(given) > pieces:
                cancelled.set()
        assert isinstance(given[-1], Completion)
        assert len(taken) < pieces or given[-1].ended in ("cancelled", "end", "length")
        adapted.check((pieces, "cancelled"))

        with contextlib.suppress(Planted):
            for number, _ in enumerate(adapted.model.stream(row)):
                if number == pieces:
                    raise Planted
        adapted.check((pieces, "the listener raised"))
    assert not [thread for thread in threading.enumerate() if thread.name == "overlay-stream"]
    adapted.check_work()


def kill(thread: threading.Thread, error: type[BaseException]) -> None:
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(error))


@pytest.mark.parametrize("kind", ["adapted", "oddly_adapted"])
def test_a_thread_that_is_killed(request: pytest.FixtureRequest, kind: str) -> None:
    """At moments that differ from time to time; SystemExit ends a thread without a word."""
    watched: Watched = request.getfixturevalue(kind)
    chance = random.Random(0)
    died = 0
    for number in range(48):
        run = dict(verbs(watched))[("generate", "score", "observe", "logits")[number % 4]]
        finished: list[bool] = []
        thread = threading.Thread(target=lambda run=run, finished=finished: (run(), finished.append(True)))
        watched.model.prefixes.clear()
        thread.start()
        # Waiting for the plan puts the blow inside of the call; a random number of looks moves it about.
        while thread.is_alive() and not watched.model.steering.has_plan:
            pass
        for _ in range(chance.randrange(20_000)):
            pass
        if thread.is_alive():
            kill(thread, SystemExit)
        thread.join()
        died += not finished
        watched.check(number)
    assert died > 15, "hardly any thread was hit"
    watched.check_work()


def test_a_stream_whose_thread_is_killed(adapted: Watched) -> None:
    chance = random.Random(1)
    row = Row(**{**vars(adapted.rows[-1]), "sampling": Sampling(max_tokens=40)})
    died = 0
    for number in range(20):
        stream = adapted.model.stream(row)
        pieces = [next(stream)]
        (worker,) = (thread for thread in threading.enumerate() if thread.name == "overlay-stream")
        for _ in range(chance.randrange(5_000)):
            pass
        kill(worker, SystemExit)
        try:
            pieces += stream
        except GenerationFailed as error:
            died += 1
            assert "stopped" in error.problem or "killed" in error.problem
        assert died or isinstance(pieces[-1], Completion)
        adapted.check(number)
    assert died > 5
    adapted.check_work()


@contextlib.contextmanager
def struck_at(line: int, seen: list[str]) -> Iterator[None]:
    """Raises at the `line`-th line that the engine's own code runs, `finally` blocks and all."""
    lines = itertools.count(1)

    def trace(frame: Any, event: str, argument: Any) -> Any:
        if "/overlay/model/" not in frame.f_code.co_filename and not frame.f_code.co_filename.endswith("contextlib.py"):
            return None
        if event == "line" and next(lines) == line:
            seen.append(f"{frame.f_code.co_filename}:{frame.f_lineno}")
            raise Planted
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield
    except Planted:
        pass
    finally:
        sys.settrace(before)


def test_a_blow_at_any_line(oddly_adapted: Watched, random_direction: Any) -> None:
    """An interrupt can come between any two lines, also while things are switched off again."""
    model = oddly_adapted.model
    rows = [oddly_adapted.rows[0], *rows_for(model, random_direction, adapters=True, tokens=2)[1::3]]
    seen: list[str] = []
    chance = random.Random(2)
    for verb, lines, blows in (("generate", 6000, 30), ("score", 4000, 30), ("observe", 2000, 10)):
        for _ in range(blows):
            model.prefixes.clear()
            line = chance.randrange(1, lines)
            with struck_at(line, seen):
                getattr(model, verb)(rows)
            oddly_adapted.check((verb, line, seen[-1:]))
    assert len(seen) > 35, "most blows came after the end"
    oddly_adapted.check_work()


def test_a_call_inside_of_a_call_is_refused(adapted: Watched) -> None:
    model = adapted.model
    for verb, run in verbs(adapted):
        refused: list[str] = []

        def nested(*_: Any, refused: list[str] = refused) -> None:
            try:
                model.observe(adapted.rows)
            except InterventionError as error:
                refused.append(error.problem)
                raise

        handle = model.blocks.modules[1].register_forward_hook(nested)
        try:
            with pytest.raises(InterventionError, match="already present"):
                run()
        finally:
            handle.remove()
        assert refused == ["a plan is already present"], verb
        adapted.check(verb)
    adapted.check_work()


def test_what_is_refused_changes_nothing(adapted: Watched, random_direction: Any) -> None:
    wide = random_direction(type("Wide", (), {"layers": 3, "width": 8})(), 1)
    for given in (
        Intervention(adapters=(AdapterUse("absent"),)),
        Intervention((Dose(wide, 0.3, (0,)),)),
        Intervention(focus=(Focus("not there", 1.0),)),
        Intervention(focus=(Focus("boats", 1.0, blocks=(7,)),)),
    ):
        rows = [*adapted.rows, Row(CHAT, intervention=given, options=("a",))]
        for verb in ("generate", "score", "observe"):
            with pytest.raises((InterventionError, AdapterError)) as caught:
                getattr(adapted.model, verb)(rows)
            assert caught.value.next_step
            adapted.check(verb)
    adapted.check_work()


# --- attaching and detaching ---------------------------------------------------------------------


def damaged(folder: Path, target: Path, way: str) -> Path:
    target.mkdir()
    weights = load_file(folder / "adapter_model.safetensors")
    config = json.loads((folder / "adapter_config.json").read_text())
    first = next(key for key in weights if "lora_A" in key)
    if way == "a weight is missing":
        del weights[first]
    elif way == "a weight too many":
        weights[first.replace("layers.0", "layers.9")] = weights[first].clone()
    elif way == "a weight of the base":
        weights["base_model.model.model.norm.weight"] = torch.zeros(32)
    elif way == "a weight of the base under a layer":
        weights["base_model.model.model.layers.0.self_attn.q_proj.base_layer.weight"] = torch.zeros(32, 32)
    elif way == "another shape":
        weights[first] = torch.zeros(2, 5)
    elif way == "another layer":
        config["target_modules"] = ["not_there"]
    elif way == "biases":
        config["bias"] = "all"
    elif way == "a start that rewrites the base":
        config["init_lora_weights"] = "pissa"
    elif way == "more blocks":
        config["layer_replication"] = [[0, 2], [1, 3]]
    elif way == "another kind":
        config = {"peft_type": "IA3", "target_modules": ["q_proj"], "feedforward_modules": []}
    save_file(weights, target / "adapter_model.safetensors")
    (target / "adapter_config.json").write_text(json.dumps(config))
    if way == "no configuration":
        (target / "adapter_config.json").unlink()
    elif way == "not JSON":
        (target / "adapter_config.json").write_text("{")
    elif way == "not safetensors":
        (target / "adapter_model.safetensors").write_bytes(b"PK\x03\x04")
    elif way == "no weights":
        (target / "adapter_model.safetensors").rename(target / "adapter_model.bin")
    return target


DAMAGES = (
    "a weight is missing",
    "a weight too many",
    "a weight of the base",
    "a weight of the base under a layer",
    "another shape",
    "another layer",
    "another kind",
    "biases",
    "a start that rewrites the base",
    "more blocks",
    "no configuration",
    "not JSON",
    "not safetensors",
    "no weights",
)


@pytest.mark.parametrize("kind", ["bare", "adapted", "oddly_adapted"])
def test_an_adapter_that_cannot_be_attached(
    request: pytest.FixtureRequest, folders: dict[str, Path], tmp_path: Path, kind: str
) -> None:
    watched: Watched = request.getfixturevalue(kind)
    weights = {name: value.clone() for name, value in watched.model.module.state_dict().items()}
    for source, way in itertools.product(("one", "head"), DAMAGES):
        folder = damaged(folders[source], tmp_path / f"{source} {way}", way)
        with pytest.raises(AdapterError) as caught:
            watched.model.attach("fresh", folder)
        assert caught.value.next_step, way
        watched.check((source, way))
        after = watched.model.module.state_dict()
        assert after.keys() >= weights.keys()
        assert all(torch.equal(after[name], value) for name, value in weights.items()), way
    watched.model.attach("fresh", folders["two"])
    watched.model.detach("fresh")
    watched.check_work()


def test_an_attachment_that_is_interrupted(
    adapted: Watched, folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from peft import PeftModel

    for source, error in itertools.product(("two", "dora", "norm", "tokens"), (KeyboardInterrupt, Planted)):
        original = PeftModel.load_adapter

        def load_and_raise(*args: Any, error: Any = error, original: Any = original, **kwargs: Any) -> None:
            original(*args, **kwargs)
            raise error

        with monkeypatch.context() as patch:
            patch.setattr(PeftModel, "load_adapter", load_and_raise)
            with pytest.raises(error):
                adapted.model.attach("fresh", folders[source])
        adapted.check(source)
    adapted.check_work()


def test_adapters_come_and_go_in_any_order(folders: dict[str, Path]) -> None:
    """Whatever else is or was attached, the base is the base, and each adapter does what it does alone."""
    model = LanguageModel(tiny_module("llama"), byte_tokenizer(), "visited")
    watched = Watched(model, [Row(CHAT, options=(" it",), sampling=Sampling(max_tokens=2))])
    modules = [id(part) for part in model.module.modules()]

    def acting(name: str) -> torch.Tensor:
        row = Row(text="The boat leaves.", intervention=Intervention(adapters=(AdapterUse(name),)))
        return next(iter(model.logits([model.encode(row).tokens], [row])))[1]

    alone = {}
    for name, folder in folders.items():
        model.attach(name, folder)
        alone[name] = acting(name)
        model.detach(name)
        watched.check(name)
    chance = random.Random(3)
    for _ in range(4):
        for name in chance.sample(list(folders), len(folders)):
            model.attach(name, folders[name])
            assert torch.equal(watched.base_logits(), watched.logits)
        leaving = chance.sample(list(folders), len(folders))
        while leaving:
            for name in leaving:
                torch.testing.assert_close(acting(name), alone[name], atol=1e-5, rtol=0)
            model.detach(leaving.pop())
            assert torch.equal(watched.base_logits(), watched.logits)
            assert model.census().is_silent
        watched.check_work()
        assert [id(part) for part in model.module.modules()] == modules


@pytest.mark.parametrize(
    "name",
    ["lora", "lora_A", "a", "train", "keys", "norm", "q_proj", "default", "base_layer", "0", "my ferry", "судно"],
)
def test_an_adapter_may_have_any_name(folders: dict[str, Path], name: str) -> None:
    model = LanguageModel(tiny_module("llama"), byte_tokenizer(), "named")
    row = Row(text="The boat leaves.", intervention=Intervention(adapters=(AdapterUse("plain"),)))
    called = Row(text=row.text, intervention=Intervention(adapters=(AdapterUse(name),)))
    model.attach("plain", folders["one"])
    model.attach(name, folders["one"])
    model.attach("replaced", folders["norm"])
    tokens = model.encode(row).tokens
    found = dict(model.logits([tokens, tokens], [row, called]))
    assert torch.equal(found[0], found[1])
    assert set(model.adapters) == {"plain", name, "replaced"}
    assert name in {owner for _, owner, _ in model.census().scalings}


def test_names_that_begin_alike_are_two_names(folders: dict[str, Path]) -> None:
    model = LanguageModel(tiny_module("llama"), byte_tokenizer(), "alike")
    text = Row(text="The boat leaves.")
    tokens = model.encode(text).tokens

    def acting(*uses: AdapterUse) -> torch.Tensor:
        row = Row(text=text.text, intervention=Intervention(adapters=uses))
        return next(iter(model.logits([tokens], [row])))[1]

    model.attach("foo", folders["one"])
    foo = acting(AdapterUse("foo"))
    model.attach("foobar", folders["two"])
    foobar = acting(AdapterUse("foobar"))
    assert torch.equal(acting(AdapterUse("foo")), foo) and not torch.equal(foo, foobar)
    model.detach("foo")
    assert torch.equal(acting(AdapterUse("foobar")), foobar)
    model.attach("foo", folders["two"])
    assert torch.equal(acting(AdapterUse("foo")), foobar)
    model.detach("foobar")
    assert torch.equal(acting(AdapterUse("foo")), foobar) and tuple(model.adapters) == ("foo",)
    with pytest.raises(AdapterError, match="'foobar' is not attached"):
        acting(AdapterUse("foobar"))


# --- what adapters that aren't plain can't do ------------------------------------------------------


def test_an_adapter_that_replaces_weights_has_no_half(oddly_adapted: Watched) -> None:
    for name in ("norm", "head", "tokens"):
        for scale in (0.5, -1.0, 2.0):
            row = Row(CHAT, intervention=Intervention(adapters=(AdapterUse(name, scale),)), options=("a",))
            for verb in ("generate", "score", "observe"):
                with pytest.raises(AdapterError, match=f"'{name}' replaces whole weights") as caught:
                    getattr(oddly_adapted.model, verb)([row])
                assert "scale 1" in caught.value.next_step
    oddly_adapted.check()


def test_any_adapter_at_scale_zero_is_none(oddly_adapted: Watched, folders: dict[str, Path]) -> None:
    # Place by place: which place of a batch a row has may change the last bit of what it gives.
    plain = [Row(CHAT, options=("a", "b")) for _ in folders]
    others = [
        replace(row, intervention=Intervention(adapters=(AdapterUse(name, 0.0),)))
        for row, name in zip(plain, folders, strict=True)
    ]
    found = zip(oddly_adapted.model.score(others), oddly_adapted.model.score(plain), strict=True)
    assert all(other.total == bare.total for other, bare in found)
    both = Intervention(adapters=(AdapterUse("dora", 0.0), AdapterUse("one", 0.5)))
    one = Intervention(adapters=(AdapterUse("one", 0.5),))
    given, expected = (
        oddly_adapted.model.score([Row(CHAT, intervention=each, options=("a",))])[0] for each in (both, one)
    )
    assert given.total == expected.total


def test_rows_with_adapters_of_any_kind_run_in_one_call(oddly_adapted: Watched) -> None:
    model, rows = oddly_adapted.model, oddly_adapted.rows
    alone = [(model.generate([row])[0].tokens, model.score([row])[0].total) for row in rows]
    together = zip(model.generate(rows), model.score(rows), strict=True)
    for (tokens, totals), (completion, scored) in zip(alone, together, strict=True):
        assert completion.tokens == tokens and scored.total == pytest.approx(totals, abs=1e-4)
    plain = model.score([Row(CHAT, options=(" nobody", " it"), intervention=NOTHING)])[0].total
    assert all(
        abs(totals[0] - plain[0]) > 1e-4
        for (_, totals), row in zip(alone, rows, strict=True)
        if row.intervention.adapters
    )


def test_the_volatility_of_what_acts_on_whole_batches_is_not_traced(oddly_adapted: Watched) -> None:
    given = Intervention(adapters=(AdapterUse("one", 0.5), AdapterUse("dora")))
    row = Row(CHAT, intervention=given, trace_volatility=True)
    for run in (lambda: oddly_adapted.model.generate([row]), lambda: list(oddly_adapted.model.stream(row))):
        with pytest.raises(InterventionError, match="can't be traced") as caught:
            run()
        assert "VolatilityGauge" in caught.value.next_step
    oddly_adapted.check()


def test_the_plan_of_a_dead_thread_rules_nothing_even_while_something_holds_it(tiny_llama: Any) -> None:
    """A traceback or a cycle may keep it alive for a while; a bare forward pass must not be steered by it."""
    steering, held = tiny_llama.steering, []

    def die() -> None:
        scope = steering.plan([NOTHING], [tiny_llama.encode(Row(text="a"))], locate=lambda row, text: ())
        held.append((scope, scope.__enter__()))

    thread = threading.Thread(target=die)
    thread.start()
    thread.join()
    assert not steering.has_plan and steering.current is None
    held[0][0].__exit__(None, None, None)
    assert not steering.has_plan
