"""The language model: three verbs over rows, generate, score and observe, and stream for one."""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    LogitsProcessorList,
    StoppingCriteria,
    StoppingCriteriaList,
    TextIteratorStreamer,
)
from transformers.utils import logging as transformers_logging

from overlay.errors import AdapterError, ArgumentError, InterventionError, ModelUnavailable
from overlay.model.blocks import find_blocks
from overlay.model.catalog import resolve_model
from overlay.model.hardware import best_device, torch_dtype
from overlay.model.intervention import AdapterUse
from overlay.model.noise import RowSampler
from overlay.model.row import Completion, Encoded, Message, Observation, Pool, Row, Scored
from overlay.model.steering import Steering
from overlay.progress import Progress

MAX_BATCH_ROWS = 32
"""More rows gain little on two CPU cores (64 rows give a third more tokens a second than 32) and cost memory."""

MAX_BATCH_TOKENS = 8192
"""Rows times padded length of one batch: bounds the memory of the key/value cache and logits."""


class LanguageModel:
    """An unchanged causal language model with hooks that can skew it row by row.

    Args:
        module: a transformers causal language model.
        tokenizer: its tokenizer; without a chat template, messages are written as "Role: text" lines.
        name: what people call it.
        digest: the model hash; computed from the parameters when not given.
    """

    def __init__(self, module: Any, tokenizer: Any, name: str, digest: str | None = None) -> None:
        self.blocks = find_blocks(module)
        self.module = module.eval()
        self._mark_trainable()
        self.tokenizer = tokenizer
        self.name = name
        self.digest = digest or _parameters_digest(module)
        self.steering = Steering(self.blocks)
        self._peft: Any = None
        self._adapters: dict[str, Path] = {}
        self._lock = threading.RLock()
        accepted = inspect.signature(type(module).forward).parameters
        self._takes_positions = "position_ids" in accepted
        self._takes_logits_to_keep = "logits_to_keep" in accepted
        self._ends = _end_tokens(module, tokenizer)
        self._exact_logits = False
        module.get_output_embeddings().register_forward_hook(self._after_head)

    @classmethod
    def load(
        cls,
        name: str,
        *,
        dtype: str = "auto",
        device: str | None = None,
        pull: bool = False,
        progress: Progress | None = None,
    ) -> LanguageModel:
        """Load a model by directory, GGUF file, known name or hub id; `pull` fetches a known one when missing.

        Raises:
            ModelUnavailable: nothing goes by this name, it isn't fetched yet, or it can't be steered.
        """
        device = device or best_device()
        wanted = torch_dtype(dtype, device)
        source = resolve_model(name, pull=pull, progress=progress)
        place = str(source.path or source.name)
        try:
            transformers_logging.disable_progress_bar()
            module = AutoModelForCausalLM.from_pretrained(
                place, dtype=wanted, use_safetensors=True, trust_remote_code=False
            )
            tokenizer = AutoTokenizer.from_pretrained(place, trust_remote_code=False)
        except (OSError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            raise ModelUnavailable(
                f"'{name}' can't be loaded: {reason}", "`overlay models` lists the models that are ready to use"
            ) from error
        return cls(module.to(device), tokenizer, name, source.digest)

    # --- facts -----------------------------------------------------------------------------------

    @property
    def layers(self) -> int:
        """Number of decoder blocks."""
        return len(self.blocks)

    @property
    def width(self) -> int:
        """Width of the residual stream."""
        return self.blocks.width

    @property
    def dtype(self) -> str:
        """Number format of the weights, such as "bfloat16"."""
        return str(next(self.module.parameters()).dtype).removeprefix("torch.")

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return torch.device(next(self.module.parameters()).device)

    def encode(self, row: Row) -> Encoded:
        """A row's prompt as tokens, with the position at which its current turn begins."""
        if row.text is not None:
            return Encoded(tuple(self.tokenizer(row.text)["input_ids"]), 0)
        tokens = self._render(row.messages, reply=True)
        earlier = self._render(row.messages[:-1], reply=False) if len(row.messages) > 1 else ()
        shared = 0
        while shared < len(earlier) and earlier[shared] == tokens[shared]:
            shared += 1
        return Encoded(tokens, shared)

    def decode(self, tokens: Sequence[int]) -> str:
        """Tokens as text, without special tokens."""
        return str(self.tokenizer.decode(list(tokens), skip_special_tokens=True))

    def _render(self, messages: Sequence[Message], reply: bool) -> tuple[int, ...]:
        chat = [{"role": message.role, "content": message.text} for message in messages]
        if getattr(self.tokenizer, "chat_template", None):
            text = self.tokenizer.apply_chat_template(chat, add_generation_prompt=reply, tokenize=False)
            return tuple(self.tokenizer(text, add_special_tokens=False)["input_ids"])
        text = "".join(f"{turn['role'].capitalize()}: {turn['content']}\n" for turn in chat)
        return tuple(self.tokenizer(text + ("Assistant:" if reply else ""))["input_ids"])

    # --- the verbs -------------------------------------------------------------------------------

    def generate(self, rows: Sequence[Row], progress: Callable[[int], None] | None = None) -> list[Completion]:
        """Continue each row. Results come back in order; `progress` gets the number of rows done."""
        results: list[Completion | None] = [None] * len(rows)
        done = 0
        for batch in self._batches(rows, [row.sampling.max_tokens for row in rows]):
            chosen = [rows[index] for index in batch]
            for index, completion in zip(batch, self._generate_batch(chosen), strict=True):
                results[index] = completion
            done += len(batch)
            if progress:
                progress(done)
        return [result for result in results if result is not None]

    def stream(self, row: Row, cancelled: threading.Event | None = None) -> Iterator[str | Completion]:
        """Yield pieces of text as they come and, last, the Completion.

        Set `cancelled`, or close the iterator, to stop early; what was generated so far is kept.
        """
        cancelled = cancelled or threading.Event()
        streamer = TextIteratorStreamer(self.tokenizer, skip_prompt=True, skip_special_tokens=True)
        outcome: list[Completion] = []
        failure: list[BaseException] = []

        def work() -> None:
            try:
                outcome.extend(self._generate_batch([row], streamer=streamer, cancelled=cancelled))
            except BaseException as error:
                failure.append(error)
                streamer.end()

        worker = threading.Thread(target=work, name="overlay-stream", daemon=True)
        worker.start()
        finished = False
        try:
            for piece in streamer:
                if piece:
                    yield piece
            finished = True
        finally:
            if not finished:
                cancelled.set()
            worker.join()
        if failure:
            raise failure[0]
        yield outcome[0]

    def score(self, rows: Sequence[Row], progress: Callable[[int], None] | None = None) -> list[Scored]:
        """Log-probability of each row's options as continuations of its prompt.

        The prompt is encoded once per row, under the row's intervention; options follow from its cache.

        Raises:
            ArgumentError: a row has no options, or an option is empty.
        """
        if not all(row.options and all(row.options) for row in rows):
            raise ArgumentError("a row to score needs options, none of them empty", "give `options=(…, …)`")
        results: list[Scored | None] = [None] * len(rows)
        done = 0
        for batch in self._batches(rows, [0] * len(rows)):
            for index, scored in zip(batch, self._score_batch([rows[index] for index in batch]), strict=True):
                results[index] = scored
            done += len(batch)
            if progress:
                progress(done)
        return [result for result in results if result is not None]

    def observe(
        self, rows: Sequence[Row], *, pool: Pool = "ramp", progress: Callable[[int], None] | None = None
    ) -> list[Observation]:
        """Block outputs of each row, pooled over its tokens of the current turn.

        Position 0 is an attention sink of enormous norm and is left out.
        """
        results: list[Observation | None] = [None] * len(rows)
        done = 0
        for batch in self._batches(rows, [0] * len(rows)):
            for index, seen in zip(batch, self._observe_batch([rows[index] for index in batch], pool), strict=True):
                results[index] = seen
            done += len(batch)
            if progress:
                progress(done)
        return [result for result in results if result is not None]

    def residual_norms(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Median norm of the residual stream behind each block, (layers,), over all tokens but position 0."""
        rows = [Row(text=text) for text in texts]
        norms: list[list[Tensor]] = [[] for _ in range(self.layers)]
        for batch in self._batches(rows, [0] * len(rows)):
            prompts = [self.encode(rows[index]) for index in batch]
            with self._influence([rows[index] for index in batch], prompts, record=True) as plan:
                ids, mask = self._pad(prompts)
                self._forward(ids, mask, keep=1)
                counted = mask.cumsum(-1) > 1
                for layer, hidden in enumerate(plan.recorded):
                    norms[layer].append(hidden.float().norm(dim=-1)[counted])
        return np.array([float(torch.cat(parts).median()) for parts in norms], np.float32)

    def logits(self, tokens: Sequence[Sequence[int]], rows: Sequence[Row]) -> Iterator[tuple[int, Tensor]]:
        """Next-token logits at every position of given `tokens`, under each row's intervention.

        Yields (index, logits) with logits of shape (tokens, vocabulary), float32, in batches of one
        fixed layout, so that runs which differ only in their interventions can be compared bit for bit.
        """
        for batch in self._batches(rows, [0] * len(rows)):
            prompts = [Encoded(tuple(tokens[index]), 0) for index in batch]
            chosen = [rows[index] for index in batch]
            with self._influence(chosen, prompts), self._exact():
                ids, mask = self._pad(prompts)
                output = self._forward(ids, mask)
            for place, index in enumerate(batch):
                length = len(tokens[index])
                yield index, output.logits[place, -length:].float()

    # --- adapters --------------------------------------------------------------------------------

    @property
    def adapters(self) -> Mapping[str, Path]:
        """Attached adapters by name. Attached means resident and asleep until a row uses it."""
        return dict(self._adapters)

    def attach(self, name: str, folder: Path) -> None:
        """Make a LoRA adapter resident; it acts only on rows whose intervention names it.

        Raises:
            AdapterError: the name is taken, the folder holds no safetensors weights, or they don't fit this model;
                the model is then as it was before the call.
        """
        if not (folder / "adapter_model.safetensors").is_file():
            raise AdapterError(f"{folder} holds no adapter_model.safetensors", "only safetensors weights are loaded")
        with self._lock:
            if name in self._adapters:
                raise AdapterError(f"an adapter named '{name}' is already attached", "detach it first")
            try:
                self._load_adapter(_peft_name(name), str(folder))
                self._sleep()
            except BaseException as error:
                # PEFT leaves what it loaded before the error in place, and awake.
                self._remove_layers(_peft_name(name))
                if not isinstance(error, Exception):
                    raise
                reason = " ".join(str(error).split())[:240] or type(error).__name__
                raise AdapterError(
                    f"the adapter in {folder} can't be attached as '{name}': {reason}",
                    f"check that it was trained on '{self.name}'",
                ) from error
            self._adapters[name] = folder

    def _load_adapter(self, peft_name: str, folder: str) -> None:
        from peft import PeftConfig, PeftModel

        if self._peft is None:
            config = PeftConfig.from_pretrained(folder)
            config.inference_mode = True
            self._peft = PeftModel(self.module, config, adapter_name=peft_name)
        result = self._peft.load_adapter(folder, peft_name, is_trainable=False)
        missing = [key for key in result.missing_keys if f".{peft_name}." in key]
        if missing or result.unexpected_keys:
            raise AdapterError(f"weights missing: {missing[:2]}, not known: {result.unexpected_keys[:2]}")

    def _remove_layers(self, peft_name: str) -> None:
        from peft.tuners.tuners_utils import BaseTunerLayer

        for parent in list(self.module.modules()):
            for child_name, layer in list(parent.named_children()):
                if isinstance(layer, BaseTunerLayer) and not self._adapters:
                    setattr(parent, child_name, layer.get_base_layer())
                elif isinstance(layer, BaseTunerLayer):
                    layer.delete_adapter(peft_name)
        if self._adapters:
            self._peft.peft_config.pop(peft_name, None)
            self._sleep()
        else:
            self._peft = None
            if hasattr(self.module, "peft_config"):
                del self.module.peft_config

    def detach(self, name: str) -> None:
        """Remove an attached adapter; after the last one the module is what it was before the first."""
        with self._lock:
            if name not in self._adapters:
                raise AdapterError(f"no adapter named '{name}' is attached", "`model.adapters` lists the attached ones")
            del self._adapters[name]
            if self._adapters:
                # PEFT warns when it deletes an active adapter, asleep or not.
                self._peft.base_model.set_adapter([])
                self._peft.delete_adapter(_peft_name(name))
                self._sleep()
            else:
                self.module = self._peft.unload()
                self._peft = None
                self._mark_trainable()

    def _mark_trainable(self) -> None:
        """Keep every weight marked as trainable, as transformers loads it; nothing here ever trains it.

        PEFT freezes the base, and on a CPU torch then takes another bfloat16 kernel: 2.5 times slower
        (0.5 s against 1.3 s for the same batch on two cores), and not bit-identical.
        """
        self.module.requires_grad_(True)

    def _sleep(self) -> None:
        self._peft.base_model.disable_adapter_layers()
        self._mark_trainable()

    @contextlib.contextmanager
    def _awake(self, uses: tuple[AdapterUse, ...]) -> Iterator[None]:
        """The given adapters act inside the `with`, at their scales; all sleep again after it."""
        if not uses:
            yield
            return
        missing = [use.name for use in uses if use.name not in self._adapters]
        if missing:
            raise AdapterError(f"adapter '{missing[0]}' is not attached", "attach it with `model.attach(name, folder)`")
        tuner = self._peft.base_model
        scaled: list[tuple[Any, str, float]] = []
        try:
            tuner.enable_adapter_layers()
            tuner.set_adapter([_peft_name(use.name) for use in uses])
            for part in tuner.model.modules():
                scaling = getattr(part, "scaling", None)
                if not isinstance(scaling, dict):
                    continue
                for use in uses:
                    name = _peft_name(use.name)
                    if name in scaling:
                        scaled.append((scaling, name, scaling[name]))
                        scaling[name] = scaling[name] * use.scale
            yield
        finally:
            for scaling, name, before in scaled:
                scaling[name] = before
            self._sleep()

    # --- one batch -------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _influence(self, rows: Sequence[Row], prompts: Sequence[Encoded], record: bool = False) -> Iterator[Any]:
        with (
            self._lock,
            torch.inference_mode(),
            self._awake(rows[0].intervention.adapters),
            self.steering.plan([row.intervention for row in rows], prompts, record=record) as plan,
        ):
            yield plan

    def _batches(self, rows: Sequence[Row], extra: Sequence[int]) -> list[list[int]]:
        """Indexes of rows to run together: same adapters, similar length, bounded rows and tokens.

        The layout depends on lengths and adapters alone, never on doses: arms are batched alike.
        """
        lengths = [len(self.encode(row).tokens) + more for row, more in zip(rows, extra, strict=True)]
        kinds: dict[tuple[AdapterUse, ...], list[int]] = {}
        for index, row in enumerate(rows):
            kinds.setdefault(row.intervention.adapters, []).append(index)
        batches: list[list[int]] = []
        for members in kinds.values():
            members.sort(key=lambda index: lengths[index])
            current: list[int] = []
            for index in members:
                if current and (
                    len(current) == MAX_BATCH_ROWS or lengths[index] * (len(current) + 1) > MAX_BATCH_TOKENS
                ):
                    batches.append(current)
                    current = []
                current.append(index)
            batches.append(current)
        return [batch for batch in batches if batch]

    def _pad(self, prompts: Sequence[Encoded]) -> tuple[Tensor, Tensor]:
        """Left-padded token ids and mask, each (rows, longest prompt)."""
        if not all(prompt.tokens for prompt in prompts):
            raise ArgumentError("a prompt has no tokens", "give some text")
        longest = max(len(prompt.tokens) for prompt in prompts)
        ids = torch.full((len(prompts), longest), self._pad_token)
        mask = torch.zeros_like(ids)
        for row, prompt in enumerate(prompts):
            ids[row, longest - len(prompt.tokens) :] = torch.tensor(prompt.tokens)
            mask[row, longest - len(prompt.tokens) :] = 1
        return ids.to(self.device), mask.to(self.device)

    @property
    def _pad_token(self) -> int:
        pad = self.tokenizer.pad_token_id
        return pad if pad is not None else (self._ends[0] if self._ends else 0)

    def _forward(self, ids: Tensor, mask: Tensor, keep: int | None = None, cache: Any = None, **options: Any) -> Any:
        if self._takes_positions:
            positions = (mask.long().cumsum(-1) - 1).clamp(min=0)[:, -ids.shape[1] :]
            options["position_ids"] = positions
        if keep is not None and self._takes_logits_to_keep:
            options["logits_to_keep"] = keep
        return self.module(input_ids=ids, attention_mask=mask, past_key_values=cache, **options)

    def _after_head(self, head: Any, args: tuple[Any, ...], output: Tensor) -> Tensor | None:
        """Logits that are compared are computed in float32.

        A bfloat16 logit of 16 moves in steps of 0.125 nats: more than the effects that are measured.
        """
        if not self._exact_logits or output.dtype == torch.float32 or type(head) is not nn.Linear:
            return None
        bias = None if head.bias is None else head.bias.float()
        return nn.functional.linear(args[0].float(), head.weight.float(), bias)

    @contextlib.contextmanager
    def _exact(self) -> Iterator[None]:
        before, self._exact_logits = self._exact_logits, True
        try:
            yield
        finally:
            self._exact_logits = before

    def _generate_batch(
        self,
        rows: Sequence[Row],
        streamer: Any = None,
        cancelled: threading.Event | None = None,
    ) -> list[Completion]:
        prompts = [self.encode(row) for row in rows]
        ids, mask = self._pad(prompts)
        width = ids.shape[1]
        endings = _RowEndings(rows, self.tokenizer, width, self._ends, cancelled)
        sampler = RowSampler([row.sampling for row in rows], [row.seed for row in rows], width)
        settings = GenerationConfig(
            max_new_tokens=max(row.sampling.max_tokens for row in rows),
            do_sample=False,
            eos_token_id=list(self._ends) or None,
            pad_token_id=self._pad_token,
        )
        with self._influence(rows, prompts):
            output = self.module.generate(
                input_ids=ids,
                attention_mask=mask,
                generation_config=settings,
                logits_processor=LogitsProcessorList([sampler]),
                stopping_criteria=StoppingCriteriaList([endings]),
                streamer=streamer,
            )
        results: list[Completion] = []
        for row, (prompt, tokens) in enumerate(zip(prompts, output[:, width:].tolist(), strict=True)):
            count, ended = endings.result(row)
            kept = tuple(tokens[:count])
            text = self.decode(kept)
            for stop in rows[row].sampling.stop:
                text = text.split(stop, 1)[0]
            results.append(Completion(text.strip(), kept, prompt.tokens, ended))
        return results

    def _score_batch(self, rows: Sequence[Row]) -> list[Scored]:
        prompts = [self.encode(row) for row in rows]
        owners = [index for index, row in enumerate(rows) for _ in row.options]
        options = [
            list(self.tokenizer(option, add_special_tokens=False)["input_ids"])
            for row in rows
            for option in row.options
        ]
        with self._influence(rows, prompts), self._exact():
            ids, mask = self._pad(prompts)
            output = self._forward(ids, mask, keep=1, use_cache=True)
            first = output.logits[:, -1].float().log_softmax(-1)
        cache = output.past_key_values
        place = torch.tensor(owners, device=ids.device)
        cache.batch_select_indices(place)
        longest = max(map(len, options))
        option_ids = torch.full((len(options), longest), self._pad_token)
        option_mask = torch.zeros_like(option_ids)
        for index, tokens in enumerate(options):
            option_ids[index, : len(tokens)] = torch.tensor(tokens)
            option_mask[index, : len(tokens)] = 1
        option_ids, option_mask = option_ids.to(ids.device), option_mask.to(ids.device)
        with self._influence([rows[owner] for owner in owners], [prompts[owner] for owner in owners]), self._exact():
            joint = torch.cat([mask[place], option_mask], 1)
            rest = self._forward(option_ids, joint, cache=cache).logits.float().log_softmax(-1)
        totals = []
        for index, tokens in enumerate(options):
            total = first[owners[index], tokens[0]]
            if len(tokens) > 1:
                total = total + rest[index, torch.arange(len(tokens) - 1), torch.tensor(tokens[1:])].sum()
            totals.append(float(total))
        results: list[Scored] = []
        start = 0
        for row, prompt in zip(rows, prompts, strict=True):
            stop = start + len(row.options)
            lengths = tuple(len(tokens) for tokens in options[start:stop])
            results.append(Scored(tuple(totals[start:stop]), lengths, prompt.tokens))
            start = stop
        return results

    def _observe_batch(self, rows: Sequence[Row], pool: Pool) -> list[Observation]:
        prompts = [self.encode(row) for row in rows]
        with self._influence(rows, prompts, record=True) as plan:
            ids, mask = self._pad(prompts)
            self._forward(ids, mask, keep=1)
            starts = torch.tensor([max(1, prompt.turn_start) for prompt in prompts], device=ids.device)
            positions = mask.long().cumsum(-1) - 1
            counted = (positions >= starts[:, None]) & (mask > 0)
            # A single token has nothing but the sink: then the sink is all there is to see.
            counted = torch.where(counted.any(1, keepdim=True), counted, mask > 0)
            weights = _pool_weights(counted, positions, pool)
            means = [
                torch.einsum("rtw,rt->rw", hidden.float(), weights) for hidden in plan.recorded if hidden is not None
            ]
        if len(means) != self.layers:
            raise InterventionError("some blocks were never run", "report this model's architecture")
        stacked = torch.stack(means, 1).cpu().numpy().astype(np.float32)
        return [Observation(stacked[row], int(count)) for row, count in enumerate(counted.sum(1))]


def _peft_name(name: str) -> str:
    """The name an adapter has inside PEFT, which chokes on "train" and "keys" and loads "a" or "lora" wrongly."""
    return f"adapter-{name}"


def _pool_weights(counted: Tensor, positions: Tensor, pool: Pool) -> Tensor:
    """Weights over positions, (rows, tokens), zero where `counted` is False; each row sums to 1."""
    if pool == "last":
        weights = counted & (positions == positions.max(1, keepdim=True).values)
        return weights.float()
    weights = counted.float()
    if pool == "ramp":
        weights = weights * weights.cumsum(1)
    return weights / weights.sum(1, keepdim=True)


class _RowEndings(StoppingCriteria):
    """Ends each row by itself: end token, stop string, its own length limit, or cancellation."""

    def __init__(
        self,
        rows: Sequence[Row],
        tokenizer: Any,
        prompt_width: int,
        ends: Sequence[int],
        cancelled: threading.Event | None,
    ) -> None:
        self._rows = rows
        self._tokenizer = tokenizer
        self._width = prompt_width
        self._ends = set(ends)
        self._cancelled = cancelled
        self._results: dict[int, tuple[int, Any]] = {}

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Any:
        count = input_ids.shape[1] - self._width
        newest = input_ids[:, -1].tolist()
        for index, row in enumerate(self._rows):
            if index in self._results:
                continue
            if newest[index] in self._ends:
                self._results[index] = (count - 1, "end")
            elif row.sampling.stop and self._has_stop(input_ids[index, self._width :].tolist(), row.sampling.stop):
                self._results[index] = (count, "stop")
            elif count >= row.sampling.max_tokens:
                self._results[index] = (count, "length")
            elif self._cancelled is not None and self._cancelled.is_set():
                self._results[index] = (count, "cancelled")
        return torch.tensor([index in self._results for index in range(len(self._rows))], device=input_ids.device)

    def _has_stop(self, tokens: list[int], stops: Sequence[str]) -> bool:
        text = self._tokenizer.decode(tokens, skip_special_tokens=True)
        return any(stop in text for stop in stops)

    def result(self, row: int) -> tuple[int, Any]:
        return self._results[row]


def _end_tokens(module: Any, tokenizer: Any) -> tuple[int, ...]:
    found: list[int] = []
    for source in (tokenizer.eos_token_id, getattr(module.generation_config, "eos_token_id", None)):
        found.extend(source if isinstance(source, list) else [] if source is None else [source])
    return tuple(dict.fromkeys(found))


def _parameters_digest(module: Any) -> str:
    """sha256 over names, shapes and bytes of all parameters, as float32."""
    state = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        state.update(f"{name}{tuple(tensor.shape)}".encode())
        state.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
    return state.hexdigest()
