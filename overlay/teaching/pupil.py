"""The pupil: a model with a LoRA that learns beside it, fed and measured so that a kill changes no bit of what follows.

Whatever is measured is measured from nothing: keys and values of an earlier measurement would give the same numbers
but for their roundings, and a walk that goes on after a kill hasn't got them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from overlay.adapters import Example, zone_share
from overlay.errors import AdapterError
from overlay.model import NOTHING, UNTREATED, Intervention, Row, Sampling, Treatment, neutral_texts
from overlay.probes import Probe, margins
from overlay.teaching.curriculum import Curriculum, ExampleNode

if TYPE_CHECKING:
    from torch import Tensor

    from overlay.adapters import Fitting
    from overlay.adapters import Sequence as Tokens
    from overlay.model import LanguageModel

TEXTS_COMPARED = 4
"""Neutral texts whose logits under the base alone are compared bit for bit."""

WORDS_ASKED = 24
"""Tokens that a pupil may say in its own words at a probe."""

Blocks = tuple[int, int]


@dataclass(frozen=True)
class Helping:
    """One row of a step: a node's example, with the prompt that it was fed under."""

    node: str
    prompt: str


@dataclass(frozen=True)
class Meal:
    """What one optimizer step learned from.

    Attributes:
        group: of the replay texts. scale: of the learning rate. blocks: the only ones that learned; None for all.
    """

    helpings: tuple[Helping, ...]
    group: int
    scale: float = 1.0
    blocks: Blocks | None = None

    def record(self) -> dict[str, Any]:
        """As it stands in a journal; `read_meal` reads it back."""
        return {
            "helpings": [[one.node, one.prompt] for one in self.helpings],
            "group": self.group,
            "scale": self.scale,
            "blocks": list(self.blocks) if self.blocks else None,
        }


def read_meal(record: Mapping[str, Any]) -> Meal:
    """A meal as `Meal.record` gave it."""
    blocks = record["blocks"]
    return Meal(
        tuple(Helping(node, prompt) for node, prompt in record["helpings"]),
        record["group"],
        record["scale"],
        (blocks[0], blocks[1]) if blocks else None,
    )


class Pupil:
    """A fitting that is open, and the curriculum that it is taught."""

    def __init__(self, model: LanguageModel, fitting: Fitting, curriculum: Curriculum) -> None:
        self.model = model
        self._fitting = fitting
        self._curriculum = curriculum
        self._settings = curriculum.teaching
        self._encoded: dict[Helping, Tokens] = {}
        self._variants: dict[str, tuple[str, ...]] = {}
        self._places = {
            name: index
            for index, block in enumerate(model.blocks.modules)
            for name, part in model.module.named_modules()
            if part is block
        }
        if self._has_zone:
            written = [Helping(node.id, prompt) for node in curriculum.examples for prompt in _prompts(node)]
            self._encoded = {one: self._encode(one) for one in written}
            fitting.prepare(list(self._encoded.values()))

    # --- learning -------------------------------------------------------------------------------

    def eat(self, meal: Meal, step: int) -> float:
        """One optimizer step, the one after `step` others; its loss on the examples, nats per token.

        Raises:
            AdapterError: the loss is no number any more; the weights are then what they were.
        """
        fitting, settings = self._fitting, self._settings
        before = fitting.state() if meal.blocks else {}
        fitting.learning_rate = settings.learning_rate * meal.scale
        losses = fitting.step(
            [self._tokens(one) for one in meal.helpings],
            replay=[meal.group],
            anchor=settings.anchor,
            share=self._share(step),
        )
        if meal.blocks:
            self._keep_elsewhere(before, meal.blocks)
        return losses.loss

    def tokens(self, meal: Meal) -> int:
        """How many tokens of examples a meal holds, prompts included."""
        return sum(len(self._tokens(one).tokens) for one in meal.helpings)

    def prompts(self, node: ExampleNode, count: int) -> tuple[str, ...]:
        """Up to `count` other prompts for an example: those that are written, then microvariants of the first one."""
        written = node.variants[:count]
        if len(written) == count or not node.prompt.strip():
            return written
        if node.id not in self._variants:
            from overlay.adapters.microvariants import collect

            self.model.prefixes.clear()
            found = collect(self.model, node.prompt, count=self._settings.variants)
            self._variants[node.id] = tuple(one.edit.text for one in found.variants)
        more = [text for text in self._variants[node.id] if text not in _prompts(node)]
        return (*written, *more)[:count]

    # --- measuring ------------------------------------------------------------------------------

    @property
    def groups(self) -> int:
        """How many groups of replay texts there are."""
        return self._fitting.groups

    @property
    def treatment(self) -> Treatment:
        """The model as it was taught so far."""
        return self.treated("taught")

    def treated(self, name: str) -> Treatment:
        """The same, under another name in tables and records."""
        return Treatment(name, self._fitting.intervention())

    def replay_kl(self) -> float:
        """KL(base ‖ taught) on the replay texts, nats per token."""
        return self._fitting.replay_kl()

    def margins(self, probes: Sequence[Probe], *, base: bool = False) -> list[float]:
        """log p(good) - log p(bad), nats per token, of each probe; of the base alone where that is asked for."""
        if not probes:
            return []
        self.model.prefixes.clear()
        return [float(one) for one in margins(self.model, probes, UNTREATED if base else self.treatment)]

    def margins_by_id(self, probes: Sequence[Probe], *, base: bool = False) -> dict[str, float]:
        """The same by the probes' ids, each of which is one probe's."""
        return {probe.id: one for probe, one in zip(probes, self.margins(probes, base=base), strict=True)}

    def says(self, prompt: str) -> str:
        """What the model goes on with in its own words, the likeliest token each time."""
        self.model.prefixes.clear()
        row = Row(text=prompt, intervention=self.treatment.intervention, sampling=Sampling(max_tokens=WORDS_ASKED))
        return self.model.generate([row])[0].text

    def base_logits(self) -> str:
        """sha256 of what the base alone says on neutral texts: equal digests are equal bits."""
        texts = neutral_texts()[:TEXTS_COMPARED]
        rows = [Row(text=text, intervention=NOTHING) for text in texts]
        digest = hashlib.sha256()
        logits = dict(self.model.logits([self.model.encode(row).tokens for row in rows], rows))
        for index in range(len(rows)):
            digest.update(logits[index].cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    # --- keeping --------------------------------------------------------------------------------

    def state(self) -> dict[str, Tensor]:
        """Weights and the optimizer's moments, to come back to."""
        return self._fitting.state()

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go back to a state that `state` gave."""
        self._fitting.restore(state)

    def digest(self) -> str:
        """sha256 over names and bits of the weights."""
        return weights_digest(self._fitting.weights())

    @property
    def intervention(self) -> Intervention:
        """What rows wear to be treated by what was taught so far."""
        return self._fitting.intervention()

    @property
    def fitting(self) -> Fitting:
        """The fitting itself, to be saved."""
        return self._fitting

    @property
    def _has_zone(self) -> bool:
        """Whether some tokens of the targets may be too surprising to be learned from."""
        return self._settings.safe_zone is not None and self._settings.exempt == "spans"

    def _tokens(self, helping: Helping) -> Tokens:
        if helping not in self._encoded:
            self._encoded[helping] = self._encode(helping)
            if self._has_zone:
                # By itself: how surprising a token is must not depend on where a walk went on from.
                self._fitting.prepare([self._encoded[helping]])
        return self._encoded[helping]

    def _encode(self, helping: Helping) -> Tokens:
        from overlay.adapters import encode

        node = self._curriculum[helping.node]
        if not isinstance(node, ExampleNode):
            raise AdapterError(f"'{helping.node}' is no example", "teach it anew")
        example = Example(prompt=helping.prompt, target=node.target, spans=node.spans)
        return encode(self.model, example, whole=self._settings.exempt == "targets")

    def _share(self, step: int) -> float | None:
        """How much of the targets may be learned from; None where they are exempt as a whole."""
        settings = self._settings
        if settings.safe_zone is None or not self._has_zone:
            return None
        planned = min(settings.steps, settings.feedings * len(self._curriculum.examples))
        return zone_share(settings.safe_zone, min(step + 1, planned), planned)

    def _keep_elsewhere(self, before: Mapping[str, Tensor], blocks: Blocks) -> None:
        """Put back what a step changed outside of `blocks`, the optimizer's moments too."""
        after = self._fitting.state()
        first, last = blocks
        mixed = {}
        for name in after:
            place = next((index for path, index in self._places.items() if f".{path}." in f".{name}"), None)
            if place is not None and first <= place <= last:
                mixed[name] = after[name]
            elif name in before:
                mixed[name] = before[name]
        self._fitting.restore(mixed)


def weights_digest(weights: Mapping[str, Tensor]) -> str:
    """sha256 over names and bits of tensors."""
    import torch

    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(name.encode())
        # As bytes: NumPy has no bfloat16.
        digest.update(weights[name].cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _prompts(node: ExampleNode) -> tuple[str, ...]:
    return (node.prompt, *node.variants)
