"""Neighbours: one token replaced by the nearest of the model's input embeddings that is written alike."""

from __future__ import annotations

import unicodedata
from functools import cached_property
from typing import TYPE_CHECKING

from overlay.adapters.microvariants.edit import Edit, edited

if TYPE_CHECKING:
    import torch

    from overlay.model import LanguageModel

NEAREST = 3
"""How many neighbours of a token are proposed."""

SHORTEST = 2
"""Letters: shorter tokens are mostly endings and function words, whose neighbours are other grammar."""


class Neighbourhood:
    """The tokens of a model's vocabulary by nearness in its input embeddings (cosine)."""

    def __init__(self, model: LanguageModel) -> None:
        self.model = model

    def edits(self, text: str) -> list[Edit]:
        """One token replaced, by each of its nearest with the same leading space, case and alphabet."""
        tokenizer = self.model.tokenizer
        encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        found = []
        for token, (start, stop) in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True):
            shape = self._shapes[token]
            if shape is None or not text[start:stop].endswith(tokenizer.decode([token]).strip()):
                continue
            for near in self._nearest(token):
                new = tokenizer.decode([near])
                # Some tokenizers count the space before a word to its place, some don't.
                new = new if text[start:stop].startswith(" ") else new.lstrip(" ")
                found.append(edited(text, "neighbour", (start, stop, new)))
        return found

    def _nearest(self, token: int) -> list[int]:
        rows = self._by_shape[self._shapes[token]]
        likeness = self._directions[rows] @ self._directions[token]
        order = likeness.argsort(descending=True)[: NEAREST + 1].tolist()
        return [rows[place] for place in order if rows[place] != token][:NEAREST]

    @cached_property
    def _directions(self) -> torch.Tensor:
        """Unit embeddings, (vocabulary, width)."""
        weights = self.model.module.get_input_embeddings().weight.detach().float()
        directions: torch.Tensor = weights / weights.norm(dim=-1, keepdim=True).clamp(min=1e-12)
        return directions

    @cached_property
    def _shapes(self) -> list[tuple[bool, str, str] | None]:
        """Leading space, case and alphabet of each token; None for what isn't letters alone."""
        count = len(self.model.tokenizer)
        return [_shape(text) for text in self.model.tokenizer.batch_decode([[token] for token in range(count)])]

    @cached_property
    def _by_shape(self) -> dict[tuple[bool, str, str] | None, list[int]]:
        found: dict[tuple[bool, str, str] | None, list[int]] = {}
        for token, shape in enumerate(self._shapes):
            found.setdefault(shape, []).append(token)
        return found


def _shape(text: str) -> tuple[bool, str, str] | None:
    word = text.removeprefix(" ")
    if len(word) < SHORTEST or not word.isalpha():
        return None
    case = "lower" if word.islower() else "upper" if word.isupper() else "title" if word.istitle() else "mixed"
    return text.startswith(" "), case, unicodedata.name(word[0], "?").split()[0]
