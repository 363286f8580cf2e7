"""The language model: three verbs over rows, generate, score and observe, and stream for one."""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    DynamicCache,
    GenerationConfig,
    LogitsProcessorList,
    StoppingCriteriaList,
)
from transformers.utils import logging as transformers_logging

from overlay.errors import ArgumentError, GenerationFailed, InterventionError, ModelUnavailable
from overlay.model.ban import BanList
from overlay.model.batching import MAX_BATCH_ROWS, Load, batches
from overlay.model.blocks import find_blocks
from overlay.model.catalog import resolve_model
from overlay.model.census import Census, hooks_on
from overlay.model.decoding import Attempt, Decoder, Endings, add_biases
from overlay.model.hardware import best_device, torch_dtype
from overlay.model.intervention import NOTHING, Intervention
from overlay.model.plan import Plan
from overlay.model.prefix_cache import SHORTEST, KeyValues, PrefixCache, shared_groups, stack
from overlay.model.prompt import Prompts
from overlay.model.residents import ResidentAdapters
from overlay.model.row import Completion, Encoded, Observation, Pool, Row, Scored
from overlay.model.span import Positions, When, start_of
from overlay.model.steering import Steering
from overlay.model.stream import PieceStream
from overlay.progress import Progress

Result = TypeVar("Result")

Padding = Literal["left", "right"]

ROWS_WITH_GRADIENTS = 8
"""Rows of one backward pass: all activations of a forward pass are kept for it."""


@dataclass(frozen=True)
class _Begun:
    """A row's prompt, and how many of its first tokens are encoded already."""

    prompt: Encoded
    key: str | None
    limit: int
    found: KeyValues | None = None
    known: int = 0


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
        self.tokenizer = tokenizer
        self.name = name
        self.digest = digest or _parameters_digest(module)
        self.steering = Steering(self.blocks)
        self.prefixes = PrefixCache()
        self._residents = ResidentAdapters(module, lambda: self.steering.current)
        self._prompts = Prompts(tokenizer)
        self._lock = threading.RLock()
        accepted = inspect.signature(type(module).forward).parameters
        self._takes_positions = "position_ids" in accepted
        self._takes_logits_to_keep = "logits_to_keep" in accepted
        self._ends = _end_tokens(module, tokenizer)
        # A model's own defaults (beams, penalties, sampling) would act on rows that never asked for them.
        module.generation_config = GenerationConfig()

        # A function of its own: an adapter may copy the head, and a copied method would copy this whole model.
        def after_head(head: Any, args: tuple[Any, ...], output: Tensor) -> Tensor | None:
            return self._after_head(head, args, output)

        module.get_output_embeddings().register_forward_hook(after_head)

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
        return self._prompts.encode(row)

    @property
    def own_system(self) -> str:
        """What the chat template says as the system where nobody does; a system message takes its place."""
        return self._prompts.own_system()

    def decode(self, tokens: Sequence[int]) -> str:
        """Tokens as text, without special tokens."""
        return str(self.tokenizer.decode(list(tokens), skip_special_tokens=True))

    def tokenize(self, text: str) -> tuple[int, ...]:
        """A text as the tokens it has in the middle of others: no special tokens around it."""
        return tuple(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def census(self) -> Census:
        """Everything on the model that could change what it computes: equal before and after any call."""
        if not self.steering.has_plan:
            # A thread that is killed on its way out leaves it to whoever comes next.
            self._residents.settle()
        return Census(
            hooks=hooks_on(self.module),
            adapters=tuple(sorted(self._residents.found)),
            awake=self._residents.awake(),
            scalings=self._residents.scalings(),
            plan=self.steering.has_plan,
            training=tuple(name for name, part in self.module.named_modules() if part.training),
            frozen=sum(not weight.requires_grad for weight in self.module.parameters()),
            attention=str(getattr(self.module.config, "_attn_implementation", "")),
        )

    # --- the verbs -------------------------------------------------------------------------------

    def generate(self, rows: Sequence[Row], progress: Callable[[int], None] | None = None) -> list[Completion]:
        """Continue each row. Results come back in order; `progress` gets the number of rows done."""

        self._require_traceable(rows)

        def run(chosen: Sequence[Row], begun: Sequence[_Begun]) -> list[Completion]:
            return self._generate_batch(chosen, begun)

        return self._in_batches(rows, [row.sampling.max_tokens for row in rows], run, progress, reuse=True)

    def stream(self, row: Row, cancelled: threading.Event | None = None) -> Generator[str | Completion, None, None]:
        """Yield pieces of text as they come and, last, the Completion.

        Set `cancelled`, or close the iterator, to stop early; what was generated so far is kept.
        """
        self._require_traceable([row])
        cancelled = cancelled or threading.Event()
        stream = PieceStream(self.tokenizer, row)

        def work() -> None:
            try:
                with self._lock:
                    begun = self._begin([row], reuse=True)
                    (completion,) = self._generate_batch([row], begun, stream=stream, cancelled=cancelled)
                stream.finish(completion)
            except Exception as error:
                stream.finish(error)
            except BaseException as error:
                # Whatever kills this thread is not meant for the one that listens.
                stream.finish(GenerationFailed(f"the generating thread was stopped ({type(error).__name__})"))
                raise

        worker = threading.Thread(target=work, name="overlay-stream", daemon=True)
        worker.start()
        try:
            yield from stream.pieces(worker)
        finally:
            cancelled.set()
            worker.join()

    def score(self, rows: Sequence[Row], progress: Callable[[int], None] | None = None) -> list[Scored]:
        """Log-probability of each row's options as continuations of its prompt.

        The prompt is encoded once per row, under the row's intervention; options follow from its cache.

        Raises:
            ArgumentError: a row has no options, or an option is empty.
        """
        if not all(row.options and all(row.options) for row in rows):
            raise ArgumentError("a row to score needs options, none of them empty", "give `options=(…, …)`")
        return self._in_batches(rows, [0] * len(rows), self._score_batch, progress, reuse=True)

    def observe(
        self, rows: Sequence[Row], *, pool: Pool = "ramp", progress: Callable[[int], None] | None = None
    ) -> list[Observation]:
        """Block outputs of each row, pooled over its tokens of the current turn, or over chosen positions.

        Position 0 is an attention sink of enormous norm and is left out.

        Raises:
            ArgumentError: an unknown pool, or a chosen position that a row doesn't have.
        """
        if not (pool in ("ramp", "mean", "last") or (isinstance(pool, tuple) and pool and max(pool) < 0)):
            raise ArgumentError(
                f"'{pool}' is not a pool", "use ramp, mean, last, or positions counted from the end such as (-1, -2)"
            )

        def run(chosen: Sequence[Row], begun: Sequence[_Begun]) -> list[Observation]:
            return self._observe_batch(chosen, [one.prompt for one in begun], pool)

        return self._in_batches(rows, [0] * len(rows), run, progress, reuse=False)

    def gradients(
        self, rows: Sequence[Row], progress: Callable[[int], None] | None = None
    ) -> list[NDArray[np.float32]]:
        """How each row's likelihood would change if something were added to the residual stream behind a block.

        Per row (layers, width): the gradient of what `score` calls `per_token`, of its only option, with respect to
        one vector added at all tokens behind a block, in nats per token and unit of the stream. No weight gets one.

        Raises:
            ArgumentError: a row doesn't have just one option, or it is empty. InterventionError: a row has an
                intervention; it isn't part of what is differentiated.
        """
        if not all(len(row.options) == 1 and row.options[0] for row in rows):
            raise ArgumentError("a row to differentiate needs one option that isn't empty", "give `options=(…,)`")
        if any(row.intervention != NOTHING for row in rows):
            raise InterventionError(
                "gradients are those of the bare model", "leave out the intervention of rows to differentiate"
            )
        extra = [self._option_tokens(row) for row in rows]

        def run(chosen: Sequence[Row], begun: Sequence[_Begun]) -> list[NDArray[np.float32]]:
            return self._differentiate_batch(chosen, [one.prompt for one in begun])

        return self._in_batches(rows, extra, run, progress, reuse=False, at_once=ROWS_WITH_GRADIENTS)

    def residual_norms(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Median norm of the residual stream behind each block, (layers,), over all tokens but position 0.

        Raises:
            ArgumentError: no text has a second token.
        """
        rows = [Row(text=text) for text in texts]
        norms: list[list[Tensor]] = [[] for _ in range(self.layers)]

        def run(chosen: Sequence[Row], begun: Sequence[_Begun]) -> list[None]:
            prompts = [one.prompt for one in begun]
            with self._influence(chosen, prompts, record=True) as plan:
                ids, mask = self._pad(prompts)
                self._forward(ids, mask, keep=1)
                counted = mask.cumsum(-1) > 1
                for layer, hidden in enumerate(plan.recorded):
                    if hidden is not None:
                        norms[layer].append(hidden.float().norm(dim=-1)[counted])
            return [None] * len(chosen)

        self._in_batches(rows, [0] * len(rows), run, None, reuse=False)
        if not any(len(part) for part in norms[0]):
            raise ArgumentError("residual norms of texts without a second token", "give a sentence or more")
        return np.array([float(torch.cat(parts).median()) for parts in norms], np.float32)

    def logits(
        self,
        tokens: Sequence[Sequence[int]],
        rows: Sequence[Row],
        *,
        padding: Padding = "left",
        last: int | None = None,
    ) -> Iterator[tuple[int, Tensor]]:
        """Next-token logits at every position of given `tokens`, under each row's intervention (bans left out).

        Yields (index, logits) with logits of shape (tokens, vocabulary), float32, in batches of one
        fixed layout, so that runs which differ only in their interventions can be compared bit for bit.
        `padding` says on which side shorter rows are filled up; it changes nothing but roundings.

        Args:
            last: only so many last positions of each row; of a small model the head is half of the work.

        Raises:
            ArgumentError: a row has no tokens, or the last positions of rows are asked for that are filled up there.
        """
        if last is not None and (last < 1 or padding != "left"):
            raise ArgumentError(f"the last {last} positions of rows padded on the {padding}", "1 or more, on the left")
        prompts = [Encoded(tuple(given), 0) for given in tokens]
        if not all(prompt.tokens for prompt in prompts):
            raise ArgumentError("a row has no tokens", "give at least one")
        for prompt, row in zip(prompts, rows, strict=True):
            texts = [focus.keys for focus in row.intervention.focus if isinstance(focus.keys, str)]
            own = self.encode(row).tokens if texts else ()
            if prompt.tokens[: len(own)] != own:
                raise ArgumentError(
                    f"a focus on '{texts[0]}' has its place in the row's prompt, and other tokens were given",
                    "give the prompt's tokens, or a focus on positions",
                )
        loads = [
            Load(
                len(prompt.tokens),
                len(prompt.tokens),
                self._residents.batch_key(row.intervention.adapters),
                min(len(prompt.tokens), last or len(prompt.tokens)) * self._vocabulary,
            )
            for prompt, row in zip(prompts, rows, strict=True)
        ]
        for batch in batches(loads):
            chosen = [rows[index] for index in batch]
            with self._lock, self._influence(chosen, [prompts[index] for index in batch], exact=True):
                ids, mask = self._pad([prompts[index] for index in batch], padding)
                output = self._forward(ids, mask, keep=last)
            for place, index in enumerate(batch):
                given = prompts[index].tokens
                wanted = min(len(given), last or len(given))
                columns = slice(wanted) if padding == "right" else slice(-wanted, None)
                logits = output.logits[place, columns].float()
                biases = self._biases(rows[index].intervention)
                yield index, add_biases(logits, given, biases, shift=wanted - len(given)) if biases else logits

    # --- adapters --------------------------------------------------------------------------------

    @property
    def adapters(self) -> Mapping[str, Path]:
        """Adapters attached from a folder, by name. Attached means resident and asleep until a row uses it."""
        return {
            name: resident.folder for name, resident in self._residents.found.items() if resident.folder is not None
        }

    def attach(self, name: str, folder: Path) -> None:
        """Make a LoRA adapter resident; it acts only on rows whose intervention names it.

        Raises:
            AdapterError: the name is taken, the folder holds no safetensors weights, or they don't fit this model;
                the model is then as it was before the call.
        """
        with self._lock:
            self._residents.attach(name, folder, self.name)

    def detach(self, name: str) -> None:
        """Remove an attached adapter; after the last one the module is what it was before the first."""
        with self._lock:
            self._residents.detach(name)

    def grow(self, name: str, settings: Mapping[str, Any]) -> Mapping[str, nn.Parameter]:
        """Lay a new LoRA adapter beside the model, to be trained where it lies; it acts only on rows that name it.

        Its first weights come from torch's global random numbers. `detach` removes it like any other.

        Args:
            settings: a PEFT configuration of LoRA.

        Returns:
            Its weights by their names in a saved adapter. Change them inside `learning` only.

        Raises:
            AdapterError: the name is taken, or the settings don't fit; the model is then as it was before the call.
        """
        with self._lock:
            return self._residents.grow(name, settings)

    @contextlib.contextmanager
    def learning(self, name: str) -> Iterator[None]:
        """Inside the `with` a grown adapter acts on whatever runs through `module`, with gradients; for its trainer.

        None of the three verbs may be called inside, and no other thread gets the model meanwhile.

        Raises:
            AdapterError: no such adapter is grown.
        """
        with self._lock, torch.enable_grad(), self._residents.learning(name):
            yield

    # --- batches ---------------------------------------------------------------------------------

    def _in_batches(
        self,
        rows: Sequence[Row],
        extra: Sequence[int],
        run: Callable[[Sequence[Row], Sequence[_Begun]], list[Result]],
        progress: Callable[[int], None] | None,
        *,
        reuse: bool,
        at_once: int = MAX_BATCH_ROWS,
    ) -> list[Result]:
        """Run rows in batches of similar cost; results come back in order."""
        results: dict[int, Result] = {}
        with self._lock:
            begun = self._begin(rows, reuse=reuse)
            loads = [
                Load(
                    len(one.prompt.tokens) - one.known,
                    len(one.prompt.tokens) + more,
                    self._residents.batch_key(row.intervention.adapters),
                    self._option_tokens(row) * self._vocabulary,
                )
                for row, one, more in zip(rows, begun, extra, strict=True)
            ]
        for batch in batches(loads, at_once):
            with self._lock:
                found = run([rows[index] for index in batch], [begun[index] for index in batch])
            results.update(zip(batch, found, strict=True))
            if progress:
                progress(len(results))
        return [results[index] for index in range(len(rows))]

    def _begin(self, rows: Sequence[Row], *, reuse: bool) -> list[_Begun]:
        """Encode prompts as tokens, and find or make the encodings that rows have in common."""
        prompts = [self.encode(row) for row in rows]
        if not all(prompt.tokens for prompt in prompts):
            raise ArgumentError("a prompt has no tokens", "give some text")
        if not reuse or not self.prefixes.limit:
            return [_Begun(prompt, None, 0) for prompt in prompts]
        begun = [self._look_up(row, prompt) for row, prompt in zip(rows, prompts, strict=True)]
        shared: list[tuple[list[int], int]] = []
        for key in dict.fromkeys(one.key for one in begun if one.key is not None):
            members = [index for index, one in enumerate(begun) if one.key == key]
            tokens = [np.asarray(prompts[index].tokens[: begun[index].limit], np.int64) for index in members]
            for group, common in shared_groups(tokens, [begun[index].known for index in members]):
                shared.append(([members[place] for place in group], common))
        firsts = [group[0] for group, _ in shared]
        lengths = [common for _, common in shared]
        encoded = self._encode_prefixes([rows[first] for first in firsts], [begun[first] for first in firsts], lengths)
        for (group, common), found in zip(shared, encoded, strict=True):
            for index in group:
                begun[index] = replace(begun[index], found=found, known=common)
        return begun

    def _look_up(self, row: Row, prompt: Encoded) -> _Begun:
        # Only what lies before the current turn is shared, whatever the intervention: arms are batched alike.
        limit = len(prompt.tokens) - 1 if row.text is not None else min(prompt.turn_start, len(prompt.tokens) - 1)
        key = self._encoding_key(row.intervention, prompt, limit) if limit >= SHORTEST else None
        if key is None:
            return _Begun(prompt, None, limit)
        found, known = self.prefixes.find(key, prompt.tokens[:limit])
        return _Begun(prompt, key, limit, found, known)

    def _encoding_key(self, intervention: Intervention, prompt: Encoded, limit: int) -> str | None:
        """What the encoding of the first `limit` tokens depends on beside them; None if on this prompt alone."""
        acting = []
        for dose in intervention.doses:
            if isinstance(dose.span, Positions):
                return None
            stretch = dose.span.within if isinstance(dose.span, When) else dose.span
            if dose.coefficient and start_of(stretch, prompt.turn_start, prompt.generated_start) < limit:
                acting.append(dose)
        for focus in intervention.focus:
            if focus.weight and start_of(focus.span, prompt.turn_start, prompt.generated_start) < limit:
                return None
        worn = self._residents.encoding_key(intervention.adapters)
        return f"{Intervention(tuple(acting)).digest}:{worn}"

    def _encode_prefixes(self, rows: Sequence[Row], begun: Sequence[_Begun], lengths: Sequence[int]) -> list[KeyValues]:
        """Encode the first so many tokens of each row's prompt, from what is known of them, and keep the results."""
        prefixes = [
            Encoded(one.prompt.tokens[:length], one.prompt.turn_start)
            for one, length in zip(begun, lengths, strict=True)
        ]
        # No focus acts on what is shared, and its places may be counted from the end of the whole prompt.
        unfocused = [replace(row, intervention=replace(row.intervention, focus=())) for row in rows]
        loads = [
            Load(length - one.known, length, self._residents.batch_key(row.intervention.adapters))
            for row, one, length in zip(unfocused, begun, lengths, strict=True)
        ]
        found: dict[int, KeyValues] = {}
        for batch in batches(loads):
            chosen = [prefixes[index] for index in batch]
            with self._influence([unfocused[index] for index in batch], chosen):
                cache = self._resumed(
                    [(begun[index].found, begun[index].known) for index in batch], chosen, counts=False
                )
                ids, mask = self._pad(chosen)
                self._forward(ids[:, cache.get_seq_length() :], mask, keep=1, cache=cache, use_cache=True)
            for place, index in enumerate(batch):
                found[index] = KeyValues.taken(cache, place, ids.shape[1] - lengths[index], lengths[index])
                self._keep(begun[index].key, chosen[place].tokens, found[index], lengths[index] - begun[index].known)
        return [found[index] for index in range(len(rows))]

    def _keep(self, key: str | None, tokens: Sequence[int], found: KeyValues, encoded: int) -> None:
        if key is not None:
            self.prefixes.keep(key, tokens, found)
            self.prefixes.tokens_encoded += encoded

    def _resumed(
        self,
        starts: Sequence[tuple[KeyValues | None, int]],
        prompts: Sequence[Encoded],
        *,
        counts: bool = True,
    ) -> DynamicCache:
        """The cache that a batch begins with. All rows encode equally many last tokens, so that nothing but padding
        on the left separates a row's tokens."""
        rest = max(len(prompt.tokens) - known for prompt, (_, known) in zip(prompts, starts, strict=True))
        used = [max(0, len(prompt.tokens) - rest) for prompt in prompts]
        if counts:
            self.prefixes.tokens_reused += sum(used)
        return stack([(found, length) for (found, _), length in zip(starts, used, strict=True)], rest)

    def _require_traceable(self, rows: Sequence[Row]) -> None:
        """Raise InterventionError where the volatility of a row is asked for and can't be measured beside it."""
        for row in rows:
            if row.trace_volatility and self._residents.batch_key(row.intervention.adapters):
                names = ", ".join(use.name for use in row.intervention.adapters)
                raise InterventionError(
                    f"the volatility of adapters {names} can't be traced: one of them isn't plain LoRA and acts on "
                    "whole batches, the row without it included",
                    "measure it with VolatilityGauge",
                )

    # --- one batch -------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _influence(
        self, rows: Sequence[Row], prompts: Sequence[Encoded], *, record: bool = False, exact: bool = False
    ) -> Iterator[Plan]:
        """Everything the rows' interventions ask of the model acts inside the `with`, and nothing of it after.

        Whoever comes here holds the lock: held by a suspended generator, it would outlive a thread that is killed.
        """
        interventions = [row.intervention for row in rows]
        with (
            torch.inference_mode(),
            self.steering.plan(
                interventions,
                prompts,
                locate=lambda row, text: self._prompts.locate(rows[row], text),
                record=record,
                exact=exact,
            ) as plan,
            self._residents.worn(plan, [intervention.adapters for intervention in interventions]),
        ):
            yield plan

    def _biases(self, intervention: Intervention) -> tuple[tuple[tuple[int, ...], float], ...]:
        """Logit biases by token ids. Raises InterventionError for tokens the vocabulary doesn't have."""
        found = []
        for bias in intervention.biases:
            tokens = bias.target
            if isinstance(tokens, str):
                tokens = self.tokenize(tokens)
            if not tokens or max(tokens) >= self._vocabulary:
                raise InterventionError(
                    f"a logit bias on {bias.target!r}, which is no token here",
                    f"give ids from 0 to {self._vocabulary - 1}",
                )
            found.append((tokens, bias.nats))
        return tuple(found)

    def _pad(self, prompts: Sequence[Encoded], padding: Padding = "left") -> tuple[Tensor, Tensor]:
        """Padded token ids and mask, each (rows, longest prompt)."""
        longest = max(len(prompt.tokens) for prompt in prompts)
        ids = torch.full((len(prompts), longest), self._pad_token)
        mask = torch.zeros_like(ids)
        for row, prompt in enumerate(prompts):
            first = longest - len(prompt.tokens) if padding == "left" else 0
            ids[row, first : first + len(prompt.tokens)] = torch.tensor(prompt.tokens)
            mask[row, first : first + len(prompt.tokens)] = 1
        return ids.to(self.device), mask.to(self.device)

    @property
    def _vocabulary(self) -> int:
        return int(self.module.get_output_embeddings().weight.shape[0])

    def _option_tokens(self, row: Row) -> int:
        """How many positions a row's options take together, padding included."""
        lengths = [len(self.tokenize(option)) for option in row.options]
        return len(lengths) * max(lengths, default=0)

    @property
    def _pad_token(self) -> int:
        pad = self.tokenizer.pad_token_id
        return pad if pad is not None else (self._ends[0] if self._ends else 0)

    def _forward(
        self, ids: Tensor | None, mask: Tensor, keep: int | None = None, cache: Any = None, **options: Any
    ) -> Any:
        """`ids` may be left out where `inputs_embeds` are given."""
        if self._takes_positions:
            positions = (mask.long().cumsum(-1) - 1).clamp(min=0)
            options["position_ids"] = positions if ids is None else positions[:, -ids.shape[1] :]
        if keep is not None and self._takes_logits_to_keep:
            options["logits_to_keep"] = keep
        return self.module(input_ids=ids, attention_mask=mask, past_key_values=cache, **options)

    def _after_head(self, head: Any, args: tuple[Any, ...], output: Tensor) -> Tensor | None:
        """Logits that are compared are computed in float32.

        A bfloat16 logit of 16 moves in steps of 0.125 nats: more than the effects that are measured.
        """
        plan = self.steering.current
        if plan is None or not plan.exact or output.dtype == torch.float32 or type(head) is not nn.Linear:
            return None
        bias = None if head.bias is None else head.bias.float()
        return nn.functional.linear(args[0].float(), head.weight.float(), bias)

    def _generate_batch(
        self,
        rows: Sequence[Row],
        begun: Sequence[_Begun],
        stream: PieceStream | None = None,
        cancelled: threading.Event | None = None,
    ) -> list[Completion]:
        attempts = [
            Attempt(
                row,
                one.prompt,
                BanList(row.intervention.bans) if row.intervention.bans else None,
                self._biases(row.intervention),
            )
            for row, one in zip(rows, begun, strict=True)
        ]
        starts: list[tuple[KeyValues | None, int]] = [(one.found, one.known) for one in begun]
        waiting = self._run(attempts, starts, begun, stream, cancelled)
        while waiting:
            starts = [(attempt.resume, len(attempt.encoded.tokens) - 1) for attempt in waiting]
            waiting = self._run(waiting, starts, (), stream, cancelled)
        return [attempt.completion(self.tokenizer) for attempt in attempts]

    def _run(
        self,
        attempts: Sequence[Attempt],
        starts: Sequence[tuple[KeyValues | None, int]],
        begun: Sequence[_Begun],
        stream: PieceStream | None,
        cancelled: threading.Event | None,
    ) -> list[Attempt]:
        """One pass of the library's own generation; returns the attempts that turned back and have to go on."""
        traced = [row for row, attempt in enumerate(attempts) if attempt.row.trace_volatility]
        twins = {row: len(attempts) + place for place, row in enumerate(traced)}
        rows = [attempt.row for attempt in attempts]
        rows += [replace(attempts[row].row, intervention=NOTHING) for row in traced]
        prompts = [attempt.encoded for attempt in attempts] + [attempts[row].encoded for row in traced]
        known = [*starts, *(self._twin_start(attempts[row], begun[row] if begun else None) for row in traced)]
        for attempt in attempts:
            attempt.turned_back = False
            if stream is not None:
                stream.begin(attempt.kept)
        settings = GenerationConfig(
            max_new_tokens=max(attempt.row.sampling.max_tokens - len(attempt.kept) for attempt in attempts),
            do_sample=False,
            eos_token_id=list(self._ends) or None,
            pad_token_id=self._pad_token,
        )
        with self._influence(rows, prompts):
            cache = self._resumed(known, prompts)
            ids, mask = self._pad(prompts)
            self.module.generate(
                input_ids=ids,
                attention_mask=mask,
                past_key_values=cache,
                generation_config=settings,
                logits_processor=LogitsProcessorList([Decoder(attempts, twins, self.tokenizer, self._ends)]),
                stopping_criteria=StoppingCriteriaList(
                    [Endings(attempts, twins, self.tokenizer, self._ends, cancelled)]
                ),
                streamer=stream,
            )
            pads = [ids.shape[1] - len(prompt.tokens) for prompt in prompts]
            for row, one in enumerate(begun):
                if attempts[row].row.text is None and one.limit - one.known >= SHORTEST:
                    found = KeyValues.taken(cache, row, pads[row], one.limit)
                    self._keep(one.key, one.prompt.tokens[: one.limit], found, one.limit - one.known)
            waiting = [row for row, attempt in enumerate(attempts) if attempt.turned_back]
            for row in waiting:
                length = len(attempts[row].encoded.tokens) - 1
                attempts[row].resume = KeyValues.taken(cache, row, pads[row], length)
                if row in twins:
                    attempts[row].twin_resume = KeyValues.taken(cache, twins[row], pads[row], length)
        return [attempts[row] for row in waiting]

    def _twin_start(self, attempt: Attempt, begun: _Begun | None) -> tuple[KeyValues | None, int]:
        """What is encoded already of the row that follows another without its intervention."""
        if attempt.twin_resume is not None:
            return attempt.twin_resume, len(attempt.encoded.tokens) - 1
        if begun is not None and begun.key == self._encoding_key(NOTHING, begun.prompt, begun.limit):
            return begun.found, begun.known
        return None, 0

    def _score_batch(self, rows: Sequence[Row], begun: Sequence[_Begun]) -> list[Scored]:
        prompts = [one.prompt for one in begun]
        owners = [index for index, row in enumerate(rows) for _ in row.options]
        options = [self.tokenize(option) for row in rows for option in row.options]
        biases = [self._biases(row.intervention) for row in rows]
        with self._influence(rows, prompts, exact=True):
            cache = self._resumed([(one.found, one.known) for one in begun], prompts)
            ids, mask = self._pad(prompts)
            passed = cache.get_seq_length()
            output = self._forward(ids[:, passed:], mask, keep=1, cache=cache, use_cache=True)
            first = output.logits[:, -1].float()
            cache = output.past_key_values
            for index, one in enumerate(begun):
                if rows[index].text is None and one.limit - one.known >= SHORTEST:
                    found = KeyValues.taken(cache, index, ids.shape[1] - len(one.prompt.tokens), one.limit)
                    self._keep(one.key, one.prompt.tokens[: one.limit], found, one.limit - one.known)
        place = torch.tensor(owners, device=ids.device)
        cache.batch_select_indices(place)
        longest = max(map(len, options))
        option_ids = torch.full((len(options), longest), self._pad_token)
        option_mask = torch.zeros_like(option_ids)
        for index, tokens in enumerate(options):
            option_ids[index, : len(tokens)] = torch.tensor(tokens)
            option_mask[index, : len(tokens)] = 1
        option_ids, option_mask = option_ids.to(ids.device), option_mask.to(ids.device)
        with self._influence([rows[owner] for owner in owners], [prompts[owner] for owner in owners], exact=True):
            joint = torch.cat([mask[place], option_mask], 1)
            rest = self._forward(option_ids, joint, cache=cache).logits.float()
        totals = []
        for index, (tokens, owner) in enumerate(zip(options, owners, strict=True)):
            logits = torch.cat([first[owner][None], rest[index, : len(tokens) - 1]])
            if biases[owner]:
                logits = add_biases(logits, tokens, biases[owner], shift=1)
            likely = logits.log_softmax(-1)
            totals.append(float(likely[torch.arange(len(tokens)), torch.tensor(tokens, device=likely.device)].sum()))
        results: list[Scored] = []
        start = 0
        for row, prompt in zip(rows, prompts, strict=True):
            stop = start + len(row.options)
            lengths = tuple(len(tokens) for tokens in options[start:stop])
            results.append(Scored(tuple(totals[start:stop]), lengths, prompt.tokens))
            start = stop
        return results

    def _differentiate_batch(self, rows: Sequence[Row], prompts: Sequence[Encoded]) -> list[NDArray[np.float32]]:
        """Frozen weights leave nothing to follow back but the embeddings: they are what the graph begins with."""
        options = [self.tokenize(row.options[0]) for row in rows]
        whole = [
            Encoded((*prompt.tokens, *tokens), prompt.turn_start)
            for prompt, tokens in zip(prompts, options, strict=True)
        ]
        ids, mask = self._pad(whole)
        with torch.enable_grad(), self.steering.unsteered(whole, record=True) as plan:
            embedded = self.module.get_input_embeddings()(ids).detach().requires_grad_()
            longest = max(map(len, options))
            logits = self._forward(None, mask, keep=longest + 1, inputs_embeds=embedded, use_cache=False).logits
            # One selection from all rows: each selection of its own would go back through zeros as large as all logits.
            places = [(row, -place) for row, tokens in enumerate(options) for place in range(len(tokens), 0, -1)]
            rows_of, columns = torch.tensor(places, device=ids.device).T
            likely = logits[rows_of, columns - 1].float().log_softmax(-1)
            shares = torch.tensor([1 / len(options[row]) for row, _ in places], device=ids.device)
            total = (likely.gather(1, ids[rows_of, columns, None])[:, 0] * shares).sum()
            found = torch.autograd.grad(total, [hidden for hidden in plan.recorded if hidden is not None])
        if len(found) != self.layers:
            raise InterventionError("some blocks were never run", "report this model's architecture")
        summed = torch.stack([part.float().sum(1) for part in found], 1).cpu().numpy().astype(np.float32)
        return list(summed)

    def _observe_batch(self, rows: Sequence[Row], prompts: Sequence[Encoded], pool: Pool) -> list[Observation]:
        with self._influence(rows, prompts, record=True) as plan:
            ids, mask = self._pad(prompts)
            self._forward(ids, mask, keep=1)
            starts = torch.tensor([max(1, prompt.turn_start) for prompt in prompts], device=ids.device)
            positions = mask.long().cumsum(-1) - 1
            counted = (positions >= starts[:, None]) & (mask > 0)
            # A single token has nothing but the sink: then the sink is all there is to see.
            counted = torch.where(counted.any(1, keepdim=True), counted, mask > 0)
            if isinstance(pool, tuple):
                counted = _chosen(pool, prompts, counted)
            weights = _pool_weights(counted, positions, pool)
            means = [
                torch.einsum("rtw,rt->rw", hidden.float(), weights) for hidden in plan.recorded if hidden is not None
            ]
        if len(means) != self.layers:
            raise InterventionError("some blocks were never run", "report this model's architecture")
        stacked = torch.stack(means, 1).cpu().numpy().astype(np.float32)
        return [Observation(stacked[row], int(count)) for row, count in enumerate(counted.sum(1))]


def _chosen(places: tuple[int, ...], prompts: Sequence[Encoded], counted: Tensor) -> Tensor:
    """Which columns stand for the chosen positions; rows end together, so these count from the end for all."""
    for prompt in prompts:
        if -min(places) > len(prompt.tokens):
            raise ArgumentError(
                f"position {min(places)} of a row of {len(prompt.tokens)} tokens", "choose positions every row has"
            )
    chosen = torch.zeros_like(counted)
    chosen[:, list(places)] = True
    return chosen


def _pool_weights(counted: Tensor, positions: Tensor, pool: Pool) -> Tensor:
    """Weights over positions, (rows, tokens), zero where `counted` is False; each row sums to 1."""
    if pool == "last":
        weights = counted & (positions == positions.max(1, keepdim=True).values)
        return weights.float()
    weights = counted.float()
    if pool == "ramp":
        weights = weights * weights.cumsum(1)
    return weights / weights.sum(1, keepdim=True)


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
