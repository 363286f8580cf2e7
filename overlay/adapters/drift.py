"""Drift: where inside the model an intervention changes something, and how much beside a mere paraphrase.

Four measures, the first three per decoder block: attention (Jensen-Shannon divergence of attention
rows), hidden states (1 - cosine), their geometry (1 - linear CKA) and logits (KL). A bare number says
little, so the same measures are taken between texts and their paraphrases in the unchanged model: this
is the noise floor, and drift is read as multiples of it.

Position 0 is an attention sink of enormous norm and is left out: as a position, and as a key that is
looked at; what attention is left beside it is taken as a whole.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from difflib import SequenceMatcher
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field, RootModel

from overlay.adapters.example import Text
from overlay.adapters.paraphrases import PARAPHRASES
from overlay.documents import read_document
from overlay.errors import ArgumentError, InterventionError
from overlay.model import NOTHING, Intervention, Row
from overlay.records import parse_record, read_record, write_record

if TYPE_CHECKING:
    from torch import Tensor

    from overlay.adapters.library import AdapterLibrary
    from overlay.adapters.recipe import Recipe
    from overlay.model import LanguageModel
    from overlay.progress import Progress

DRIFT = "drift.json"
"""In an adapter's folder: its drift map."""

FORMAT = 1

_KIND = ("a drift map", "measure it again")

Measure = Literal["attention", "hidden", "geometry", "logits"]

BlockMeasure = Literal["attention", "hidden", "geometry"]

CHUNK = 4
"""Texts whose insides are held in memory at once: attention and logits of one take about 10 MB on a small model."""

SHORTEST = 4
"""Tokens: beside the sink three are left, and with two points every geometry is the same."""

TAUGHT, NEUTRAL = 12, 12
"""Texts of each kind on which an adapter is measured: as many columns as a plot can show."""

_NO_MASS = 1e-12
"""Added to each share of attention beside the sink, so that a row that sees nothing but the sink is even, not 0/0."""


@dataclass(frozen=True)
class Drift:
    """How far two runs of a model are apart.

    Attributes:
        attention: per block, Jensen-Shannon divergence of attention rows, nats (0 to 0.69), mean over heads and
            querying positions.
        hidden: per block, 1 - cosine of the residual stream, mean over positions.
        geometry: per block, 1 - linear CKA over positions, each scaled to unit length (Kornblith et al. 2019,
            arXiv 1905.00414); with fewer positions than dimensions it is small: compare it with the floor, not with 1.
        logits: KL(base ‖ other), nats per token.
        tokens: how many positions were compared.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    attention: tuple[float, ...]
    hidden: tuple[float, ...]
    geometry: tuple[float, ...]
    logits: float
    tokens: int

    def per_block(self, measure: BlockMeasure) -> NDArray[np.float64]:
        """One measure, (layers,)."""
        return np.array(getattr(self, measure), np.float64)

    def overall(self, measure: Measure) -> float:
        """One measure, as the mean over blocks where it has one per block."""
        return float(np.mean(getattr(self, measure)))


@dataclass(frozen=True)
class TextDrift:
    """The drift on one text. `group` says why the text is there: taught, neutral, or given by hand."""

    group: str
    text: str
    drift: Drift


@dataclass(frozen=True)
class FeedingDrift:
    """The drift after so many feedings, mean over the texts."""

    feedings: int
    drift: Drift


@dataclass(frozen=True)
class DriftMap:
    """An intervention's drift on a list of texts, with the floor by which it is read.

    Attributes:
        name: whose drift it is. weights_sha256: of the adapter that was measured; empty for other interventions.
        texts: one column of the map each.
        floor: the medians over paraphrase pairs, `floor_pairs` many, in the unchanged model.
        feedings: the course of the drift while it was learned, if that was asked for.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    name: str
    model_name: str
    model_digest: str
    weights_sha256: str
    texts: tuple[TextDrift, ...]
    floor: Drift
    floor_pairs: int
    feedings: tuple[FeedingDrift, ...] = ()

    @property
    def layers(self) -> int:
        """Number of decoder blocks."""
        return len(self.floor.hidden)

    def multiples(self, measure: BlockMeasure) -> NDArray[np.float64]:
        """One measure as multiples of the floor, (layers, texts)."""
        floor = self.floor.per_block(measure)[:, None]
        return np.stack([one.drift.per_block(measure) for one in self.texts], 1) / floor

    def feeding_multiples(self, measure: BlockMeasure) -> NDArray[np.float64]:
        """The same after each feeding that was measured, (layers, feedings)."""
        floor = self.floor.per_block(measure)[:, None]
        return np.stack([one.drift.per_block(measure) for one in self.feedings], 1) / floor

    def to_json(self) -> str:
        """The whole map as one JSON document."""
        return json.dumps({"format": FORMAT, **_rounded(asdict(self))}, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> DriftMap:
        """Read what `to_json` wrote. Raises RecordDamaged."""
        return parse_record(text, cls, *_KIND, format=FORMAT)


def default_texts(recipe: Recipe | None, model: LanguageModel) -> tuple[tuple[str, str], ...]:
    """(group, text) pairs on which an adapter is measured: held-out texts of what it was taught, and neutral ones."""
    from overlay.model import neutral_texts

    held_out = [item.prompt + item.good for item in recipe.held_out] if recipe is not None else []
    long_enough = [text for text in held_out if len(model.encode(Row(text=text)).tokens) >= SHORTEST]
    taught = [("taught", text) for text in long_enough[:TAUGHT]]
    return (*taught, *(("neutral", text) for text in neutral_texts()[:NEUTRAL]))


def measure_drift(
    model: LanguageModel,
    intervention: Intervention,
    texts: Sequence[tuple[str, str]],
    *,
    name: str = "",
    weights_sha256: str = "",
    progress: Progress | None = None,
) -> DriftMap:
    """The drift map of an intervention on (group, text) pairs, with the floor of this model.

    No other thread may use the model meanwhile: it computes attention in the way that shows it.

    Raises:
        ArgumentError: no texts, or one of fewer than four tokens.
        InterventionError: the model's attention can't be read.
    """
    if not texts:
        raise ArgumentError("a drift map of no texts", "give at least one")
    found: list[TextDrift] = []
    for first in range(0, len(texts), CHUNK):
        if progress:
            progress.step("measuring drift", first, len(texts))
        chosen = texts[first : first + CHUNK]
        plain = record_traces(model, [text for _, text in chosen])
        bent = record_traces(model, [text for _, text in chosen], intervention)
        for (group, text), base, other in zip(chosen, plain, bent, strict=True):
            found.append(TextDrift(group, text, compare(base, other)))
    floor = paraphrase_floor(model, progress=progress)
    return DriftMap(name, model.name, model.digest, weights_sha256, tuple(found), floor, len(PARAPHRASES))


def variant_drift(
    model: LanguageModel, text: str, variants: Sequence[tuple[str, str]], progress: Progress | None = None
) -> DriftMap:
    """How far (kind, variant) pairs of a text move the unchanged model from it, with the floor of this model.

    A variant that shares fewer than three tokens with the text beside the first can't be compared, and is left out.

    Raises:
        ArgumentError: none is left. InterventionError: the model's attention can't be read.
    """
    found: list[TextDrift] = []
    for place, (kind, variant) in enumerate(sorted(variants, key=lambda pair: pair[0])):
        if progress:
            progress.step("measuring the drift of variants", place, len(variants))
        try:
            (drift,) = text_drift(model, [(text, variant)])
        except ArgumentError:
            continue
        found.append(TextDrift(kind, variant, drift))
    if not found:
        raise ArgumentError(f"no variant of {text[:40]!r} can be compared with it", "give a longer text")
    floor = paraphrase_floor(model, progress=progress)
    return DriftMap(f"variants of '{text[:40]}'", model.name, model.digest, "", tuple(found), floor, len(PARAPHRASES))


def paraphrase_floor(
    model: LanguageModel,
    pairs: Sequence[tuple[str, str]] = PARAPHRASES,
    progress: Progress | None = None,
) -> Drift:
    """The medians over pairs of the drift between a text and its paraphrase in the unchanged model."""
    found = text_drift(model, pairs, progress=progress)
    return _pooled(found, np.median)


def text_drift(
    model: LanguageModel,
    pairs: Sequence[tuple[str, str]],
    intervention: Intervention = NOTHING,
    progress: Progress | None = None,
) -> list[Drift]:
    """The drift between the two texts of each pair, at the tokens that they share in the same order.

    Attention to what only one of the texts has is counted as one further place to look at.

    Raises:
        ArgumentError: two texts share fewer than three tokens beside the first position.
    """
    found: list[Drift] = []
    size = max(1, CHUNK // 2)
    for first in range(0, len(pairs), size):
        if progress:
            progress.step("measuring the paraphrase floor", first, len(pairs))
        chosen = pairs[first : first + size]
        traces = record_traces(model, [text for pair in chosen for text in pair], intervention)
        found += [compare(one, other) for one, other in zip(traces[::2], traces[1::2], strict=True)]
    return found


@dataclass(frozen=True, eq=False)
class Trace:
    """What one text looks like inside the model.

    tokens: its token ids. hidden: (layers, tokens, width). attention: (layers, heads, tokens, tokens).
    likely: log-probabilities of the next token, (tokens, vocabulary). All float32 on the CPU.
    """

    tokens: tuple[int, ...]
    hidden: Tensor
    attention: Tensor
    likely: Tensor


def record_traces(model: LanguageModel, texts: Sequence[str], intervention: Intervention = NOTHING) -> list[Trace]:
    """Run texts through the model and keep what is inside; see `measure_drift` for what it needs.

    Raises:
        ArgumentError: a text has fewer than four tokens.
        InterventionError: the model's attention can't be read.
    """
    import torch

    rows = [Row(text=text, intervention=intervention) for text in texts]
    tokens = [model.encode(row).tokens for row in rows]
    for text, given in zip(texts, tokens, strict=True):
        if len(given) < SHORTEST:
            raise ArgumentError(f"{text!r} is too short to be measured", f"give a text of {SHORTEST} tokens or more")
    found: dict[int, Trace] = {}
    with _watched(model) as seen:
        place, run = 0, -1
        for index, logits in model.logits(tokens, rows):
            # Rows come out in the order in which they lie in their batch.
            place, run = (place + 1, run) if seen.runs == run else (0, seen.runs)
            columns = slice(-len(tokens[index]), None)
            hidden = torch.stack([kept[place, columns].float().cpu() for kept in seen.hidden.values()])
            looks = torch.stack([kept[place, :, columns, columns].float().cpu() for kept in seen.attention.values()])
            if len(hidden) != model.layers or len(looks) != model.layers:
                raise InterventionError("the attention of some blocks can't be read", "report this architecture")
            found[index] = Trace(tuple(tokens[index]), hidden, looks, logits.log_softmax(-1).cpu())
    return [found[index] for index in range(len(texts))]


def compare(base: Trace, other: Trace) -> Drift:
    """How far two traces are apart, at the tokens that both have in the same order.

    Raises:
        ArgumentError: these are fewer than three beside the first position.
    """
    import torch

    here, there = _shared(base.tokens, other.tokens)
    if len(here) < SHORTEST - 1:
        raise ArgumentError("two texts that share too few tokens to be compared", "give texts that are closer")
    with torch.no_grad():
        one, two = base.hidden[:, here], other.hidden[:, there]
        hidden = 1 - torch.nn.functional.cosine_similarity(one.double(), two.double(), dim=-1).mean(-1)
        geometry = 1 - _linear_cka(one.double(), two.double())
        attention = _attention_shift(base.attention, other.attention, here, there)
        expected = base.likely[here]
        logits = (expected.exp() * (expected - other.likely[there])).sum(-1).mean()
    return Drift(
        attention=tuple(attention.clamp(min=0).tolist()),
        hidden=tuple(hidden.clamp(min=0).tolist()),
        geometry=tuple(geometry.clamp(min=0).tolist()),
        logits=max(0.0, float(logits)),
        tokens=len(here),
    )


class DriftWatch:
    """Measures the drift again and again while a model learns; call it after a feeding.

    Made before the first feeding, when the model is still the base: what that looked like is kept, so choose few texts.
    """

    def __init__(self, model: LanguageModel, texts: Sequence[str]) -> None:
        self._texts = tuple(texts)
        self._base = record_traces(model, texts)
        self.floor = paraphrase_floor(model)
        self.feedings: list[FeedingDrift] = []

    def __call__(self, feedings: int, model: LanguageModel, worn: Intervention = NOTHING) -> None:
        """Measure the model as it is now, or as it is under `worn`."""
        found = []
        for first in range(0, len(self._texts), CHUNK):
            chosen = slice(first, first + CHUNK)
            now = record_traces(model, self._texts[chosen], worn)
            found += [compare(base, other) for base, other in zip(self._base[chosen], now, strict=True)]
        self.feedings.append(FeedingDrift(feedings, _pooled(found, np.mean)))


def store_drift(folder: Path, found: DriftMap) -> Path:
    """Write a drift map beside an adapter. Raises StorageFull."""
    path = folder / DRIFT
    write_record(path, found.to_json())
    return path


def stored_drift(folder: Path) -> DriftMap | None:
    """The drift map beside an adapter, if there is one. Raises RecordDamaged."""
    return read_record(folder / DRIFT, DriftMap, *_KIND, format=FORMAT)


def adapter_drift(
    library: AdapterLibrary,
    name: str,
    model_name: str,
    *,
    texts: Path | None = None,
    again: bool = False,
    dtype: str = "auto",
    progress: Progress | None = None,
) -> DriftMap:
    """The drift map of a trained adapter: the stored one, or one that is measured now and stored beside the adapter.

    With `texts`, a YAML list, it is measured on those and not stored; `again` measures in any case.

    Raises:
        AdapterError, WrongBaseModel: as `AdapterLibrary.load`.
        ArgumentError, InterventionError: as `measure_drift`.
        DocumentError: the file of texts is wrong.
        RecordDamaged: what is stored can't be read.
        ModelUnavailable, StorageFull
    """
    given = None if texts is None else tuple(("given", text) for text in read_document(texts, _Texts).root)
    adapter = library.load(name)
    known = stored_drift(adapter.folder)
    if known is not None and known.weights_sha256 != adapter.weights_sha256:
        known = None
    if known is not None and given is None and not again:
        return known
    from overlay.model import LanguageModel

    model = LanguageModel.load(model_name, dtype=dtype, progress=progress)
    with library.worn(model, name) as worn:
        found = measure_drift(
            model,
            worn,
            given or default_texts(library.recipe(name) if adapter.origin == "trained" else None, model),
            name=name,
            weights_sha256=adapter.weights_sha256,
            progress=progress,
        )
    if given is None:
        # What was seen while it was learned can't be measured again.
        found = replace(found, feedings=known.feedings if known is not None else ())
        store_drift(adapter.folder, found)
    return found


# --- inside -------------------------------------------------------------------------------------


class _Texts(RootModel[Annotated[tuple[Text, ...], Field(min_length=1)]]):
    """A file of texts: one YAML list."""


@dataclass
class _Seen:
    """What the hooks saw in the last forward pass, by block, and how many passes there were."""

    runs: int = 0
    hidden: dict[int, Tensor] = field(default_factory=dict)
    attention: dict[int, Tensor] = field(default_factory=dict)


@contextlib.contextmanager
def _watched(model: LanguageModel) -> Iterator[_Seen]:
    """Inside the `with` the model computes attention as rows that can be read, and keeps what it computes.

    The faster kernels never hold the rows; the outputs agree but for rounding.
    """
    usual = model.module.config._attn_implementation
    seen, handles = _Seen(), []
    try:
        handles.append(model.blocks.body.register_forward_pre_hook(_forget(seen)))
        for index, (block, attention) in enumerate(zip(model.blocks.modules, model.blocks.attention, strict=True)):
            handles.append(block.register_forward_hook(_keep_hidden(seen, index)))
            handles.append(attention.register_forward_hook(_keep_attention(seen, index)))
        model.module.set_attn_implementation("eager")
        yield seen
    finally:
        for handle in handles:
            handle.remove()
        model.module.set_attn_implementation(usual)


def _forget(seen: _Seen) -> Callable[[Any, Any], None]:
    def hook(body: Any, args: Any) -> None:
        seen.runs += 1
        seen.hidden.clear()
        seen.attention.clear()

    return hook


def _keep_hidden(seen: _Seen, index: int) -> Callable[[Any, Any, Any], None]:
    def hook(block: Any, args: Any, output: Any) -> None:
        seen.hidden[index] = output[0] if isinstance(output, tuple) else output

    return hook


def _keep_attention(seen: _Seen, index: int) -> Callable[[Any, Any, Any], None]:
    def hook(attention: Any, args: Any, output: Any) -> None:
        if not isinstance(output, tuple) or len(output) < 2 or output[1] is None:
            raise InterventionError(f"the attention of block {index} can't be read", "report this architecture")
        seen.attention[index] = output[1]

    return hook


def _shared(one: Sequence[int], other: Sequence[int]) -> tuple[list[int], list[int]]:
    """Positions of the tokens that both have in the same order, the first position left out on either side."""
    if one == other:
        both = list(range(1, len(one)))
        return both, both
    blocks = SequenceMatcher(None, one, other, autojunk=False).get_matching_blocks()
    pairs = [(block.a + step, block.b + step) for block in blocks for step in range(block.size)]
    pairs = [(here, there) for here, there in pairs if here and there]
    return [here for here, _ in pairs], [there for _, there in pairs]


def _linear_cka(one: Tensor, two: Tensor) -> Tensor:
    """Linear centred kernel alignment of (layers, points, width) with another such, (layers,)."""
    import torch

    # Single tokens beside the first have enormous norms as well, and would be all that is seen. Nor do they count for
    # more in the model, which normalises each position before anything reads it.
    one, two = (torch.nn.functional.normalize(points, dim=-1) for points in (one, two))
    one, two = one - one.mean(1, keepdim=True), two - two.mean(1, keepdim=True)
    # By Gram matrices: there are fewer points than dimensions.
    first, second = one @ one.mT, two @ two.mT
    aligned: Tensor = (first * second).sum((-2, -1)) / (first.norm(dim=(-2, -1)) * second.norm(dim=(-2, -1)))
    return aligned


def _attention_shift(one: Tensor, two: Tensor, here: list[int], there: list[int]) -> Tensor:
    """Jensen-Shannon divergence of attention rows, nats, mean over heads and queries, (layers,)."""
    import torch

    # A query at position 1 can look at the sink and at itself: nothing to compare.
    asking = [(a, b) for a, b in zip(here, there, strict=True) if a > 1 and b > 1]
    total = torch.zeros(one.shape[0], dtype=torch.float64)
    for a, b in asking:
        before = [(x, y) for x, y in zip(here, there, strict=True) if x <= a and y <= b]
        first = _shares(one[:, :, a, : a + 1], [x for x, _ in before])
        second = _shares(two[:, :, b, : b + 1], [y for _, y in before])
        middle = ((first + second) / 2).log()
        apart = (first * (first.log() - middle)).sum(-1) + (second * (second.log() - middle)).sum(-1)
        total += apart.mean(-1) / 2
    return total / max(1, len(asking))


def _shares(row: Tensor, keys: list[int]) -> Tensor:
    """How the attention beside the sink is shared among `keys`, and last all others: (layers, heads, keys + 1)."""
    import torch

    row = row.double()
    chosen = row[:, :, keys]
    elsewhere = (row[:, :, 1:].sum(-1, keepdim=True) - chosen.sum(-1, keepdim=True)).clamp(min=0)
    shares = torch.cat([chosen, elsewhere], -1) + _NO_MASS
    return shares / shares.sum(-1, keepdim=True)


def _pooled(found: Sequence[Drift], pool: Callable[..., Any]) -> Drift:
    def blocks(measure: BlockMeasure) -> tuple[float, ...]:
        return tuple(pool([one.per_block(measure) for one in found], axis=0).tolist())

    return Drift(
        attention=blocks("attention"),
        hidden=blocks("hidden"),
        geometry=blocks("geometry"),
        logits=float(pool([one.logits for one in found])),
        tokens=sum(one.tokens for one in found),
    )


def _rounded(value: Any) -> Any:
    """Six digits are more than the measures are worth, and keep the file readable."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {key: _rounded(part) for key, part in value.items()}
    return [_rounded(part) for part in value] if isinstance(value, list | tuple) else value
