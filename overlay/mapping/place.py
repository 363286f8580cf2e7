"""Places: the parts of a model in which an aim can be taught, each with as many parameters as the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from overlay.adapters import Where, target_layers
from overlay.errors import ArgumentError

if TYPE_CHECKING:
    from overlay.model import LanguageModel

Depth = Literal["early", "middle", "late", "all"]

DEPTHS: tuple[Depth, ...] = ("early", "middle", "late", "all")

Part = Literal["attention", "mlp", "both"]

PARTS: dict[Part, tuple[str, ...]] = {"attention": ("attention",), "mlp": ("mlp",), "both": ("attention", "mlp")}

RANKS = range(2, 7)
"""Ranks of LoRA on everything, of which the one is taken that lets the other places come nearest to its size."""


@dataclass(frozen=True)
class Place:
    """A part of the model.

    Attributes:
        name: such as "early attention", "head", "tokens".
        where: the same as a recipe says it.
        rank: of its LoRA matrices. parameters: how many numbers are trained there.
    """

    name: str
    where: Where
    rank: int
    parameters: int


def places_of(model: LanguageModel, texts: Sequence[str]) -> tuple[Place, ...]:
    """The grid of depths and parts, then the head and the rows of the commonest tokens of `texts`.

    Ranks are whole numbers, so sizes agree as near as these allow. Token rows are as many as there are: where the
    texts hold fewer words of one token than the others' size asks for, this place is smaller. It is left out where
    they hold none.

    Raises:
        ArgumentError: the model has fewer than three blocks.
    """
    if model.layers < len(DEPTHS) - 1:
        raise ArgumentError(f"'{model.name}' has {model.layers} blocks", "a map needs a model of three or more")
    edges = [round(model.layers * third / 3) for third in range(4)]
    wheres: dict[str, Where] = {}
    for index, depth in enumerate(DEPTHS):
        blocks: Literal["all"] | tuple[int, int] = "all"
        if depth != "all":
            blocks = (edges[index], edges[index + 1] - 1)
        for part, modules in PARTS.items():
            wheres[f"{depth} {part}"] = Where(blocks=blocks, modules=modules)
    wheres["head"] = Where(modules=(), head=True)
    widths = {name: _per_rank(model, where) for name, where in wheres.items()}

    def worst(rank: int) -> float:
        size = rank * widths["all both"]
        return max(abs(_rank(size, width) * width / size - 1) for width in widths.values())

    size = min(RANKS, key=worst) * widths["all both"]
    found = [
        Place(name, where, _rank(size, widths[name]), _rank(size, widths[name]) * widths[name])
        for name, where in wheres.items()
    ]
    words, rows = _words(model, texts, size // model.width)
    if words:
        # No LoRA lies beside token rows: the rank means nothing.
        found.append(Place("tokens", Where(modules=(), tokens=words), 1, rows * model.width))
    return tuple(found)


def _rank(size: int, width: int) -> int:
    return max(1, round(size / width))


def _per_rank(model: LanguageModel, where: Where) -> int:
    """How many numbers LoRA of rank 1 has there: inputs and outputs of each layer."""
    if where.head:
        return sum(model.module.get_output_embeddings().weight.shape)
    layers = target_layers(model, where.blocks, where.modules)
    return sum(sum(model.module.get_submodule(layer).weight.shape) for layer in layers)


def _words(model: LanguageModel, texts: Sequence[str], rows: int) -> tuple[tuple[str, ...], int]:
    """Words of one token, the commonest first, whose rows (alone and after a space) are at most `rows`; and how many.

    Tokens that are no whole word when they stand alone, such as parts of a letter, can't be named in a recipe.
    """
    counts = Counter(token for text in texts for token in model.tokenize(text))
    words: list[str] = []
    known: set[int] = set()
    for token, _ in counts.most_common():
        word = model.tokenizer.decode([token]).strip()
        if not word or word in words:
            continue
        forms = [model.tokenize(form) for form in (word, f" {word}")]
        ids = {form[0] for form in forms if len(form) == 1}
        if token in ids and len(known | ids) <= rows:
            words.append(word)
            known |= ids
    return tuple(words), len(known)
