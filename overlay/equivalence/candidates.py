"""Candidates: the prompts that stand on each rung of the ladder, and the phrases that a search is made of."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from overlay.adapters import Example
from overlay.equivalence.logit_bias import fit_biases
from overlay.equivalence.prompt import Prompt
from overlay.equivalence.query_set import QuerySet
from overlay.equivalence.target import Sample, Target

SHOTS = (1, 2, 4)
"""Examples of a few-shot prompt."""

FAVOURED = 8
"""Words that the treatment makes likelier, as material for the search."""

TELLING = 3
"""Letters of a word that says something by itself."""


def few_shot(target: Target, queries: QuerySet, samples: Sequence[Sample], seed: int) -> list[Prompt]:
    """Few-shot prompts, two draws of each size.

    The examples are the query set's or, where it has none, what the treated model wrote in `samples`: a query then
    never sees its own answer.
    """
    own = [
        Example(prompt=target.queries[sample.query], target=text)
        for sample in samples
        if (text := target.model.decode(sample.tokens)).strip()
    ]
    given = [example for example in queries.examples if example.prompt.strip() or not target.chat]
    generator = np.random.default_rng(seed)
    found = []
    for count in SHOTS:
        for _ in range(2):
            # One more than is shown: it takes the place of a query's own answer.
            pool = given or own
            drawn = generator.permutation(len(pool))[: count if given else count + 1]
            if len(drawn) >= count:
                found.append(Prompt(shots=tuple(pool[int(place)] for place in drawn), count=count))
    return list(dict.fromkeys(found))


def openings_and_biases(target: Target, openings: Sequence[str], samples: Sequence[Sample]) -> list[Prompt]:
    """Each opening, and none, with the logit biases that fit it best on `samples`."""
    treated = [target.likely(sample) for sample in samples]
    found = []
    for opening in dict.fromkeys(["", *openings]):
        prompt = Prompt(opening=opening)
        prompted = target.prompted_distributions([(prompt, sample) for sample in samples])
        found.append(Prompt(opening=opening, biases=fit_biases(treated, prompted)))
    return found


def favoured_words(target: Target, samples: Sequence[Sample]) -> tuple[str, ...]:
    """Words whose tokens the treatment makes likelier most, on `samples`: each alone, and all of them in a row."""
    base = target.prompted_distributions([(Prompt(), sample) for sample in samples])
    gained = torch.stack(
        [(target.likely(sample).exp() - one.exp()).sum(0) for sample, one in zip(samples, base, strict=True)]
    ).sum(0)
    order = gained.argsort(descending=True)[: FAVOURED * 8].tolist()
    texts = [target.model.decode([token]).strip() for token in order if gained[token] > 0]
    texts = list(dict.fromkeys(text for text in texts if text and text.isprintable() and "�" not in text))
    words = [text for text in texts if text.isalpha() and len(text) >= TELLING]
    chosen = (words or texts)[:FAVOURED]
    return (*chosen, ", ".join(chosen)) if len(chosen) > 1 else tuple(chosen)


def search_phrases(queries: QuerySet, material: Sequence[str], favoured: Sequence[str]) -> tuple[str, ...]:
    """Everything that a search may put together, without repetition."""
    return tuple(dict.fromkeys([*queries.instructions, *queries.anchors, *queries.phrases, *material, *favoured]))
