"""Feeding: a model learns from one small meal of texts after another, and is looked at in between.

This is how a recipe trains, cut down to what watching needs: LoRA on all linear layers of the blocks, cross-entropy
on the meal plus KL(base ‖ tuned) on replay texts. Nothing is saved: afterwards the model is what it was before.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from overlay.adapters.batch_order import BatchOrder
from overlay.adapters.example import Example
from overlay.adapters.fitting import Fitting
from overlay.adapters.recipe import Where
from overlay.adapters.sequences import encode
from overlay.errors import AdapterError, ArgumentError
from overlay.model import Intervention

if TYPE_CHECKING:
    from overlay.model import LanguageModel
    from overlay.progress import Progress

OnState = Callable[[int, "LanguageModel", Intervention], None]
"""Called with the number of feedings so far, the model, and what rows wear to be treated by what it has learned."""


@dataclass(frozen=True)
class Diet:
    """What is fed, and how.

    Attributes:
        texts: what is learned; a feeding takes the next `meal` of them, or all if there are fewer, shuffled anew when
            all were eaten.
        replay: ordinary texts on which the model should stay what it was.
        rank, alpha: of the LoRA matrices; learning_rate: of AdamW, one step a feeding.
        anchor: weight of KL(base ‖ tuned) on the replay texts.
    """

    texts: tuple[str, ...]
    replay: tuple[str, ...]
    meal: int = 4
    rank: int = 8
    alpha: float = 16.0
    learning_rate: float = 5e-4
    anchor: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.texts or not self.replay or self.meal < 1:
            raise ArgumentError("a diet without texts, without replay texts or with empty meals", "give some of each")


@dataclass(frozen=True)
class Meal:
    """What a feeding cost before its step: cross-entropy on its texts and KL on the replay texts, nats per token."""

    loss: float
    replay_kl: float


def feed(
    model: LanguageModel,
    diet: Diet,
    feedings: int,
    on_state: OnState | None = None,
    *,
    every: int = 1,
    progress: Progress | None = None,
) -> tuple[Meal, ...]:
    """Feed a model, and call `on_state` before the first feeding, after each `every`-th and after the last.

    No other thread may use the model meanwhile. Afterwards, whatever happened, the model is what it was, and so are
    the caller's random numbers.

    Raises:
        ArgumentError: a text has fewer than two tokens.
        AdapterError: the loss is no number any more, or the model is being fed already.
    """
    texts = [encode(model, Example(target=text)) for text in diet.texts]
    order = BatchOrder(len(texts), diet.meal, diet.seed)
    eaten: list[Meal] = []
    with Fitting(
        model,
        Where(),
        rank=diet.rank,
        alpha=diet.alpha,
        learning_rate=diet.learning_rate,
        seed=diet.seed,
        replay=diet.replay,
        name="feeding",
    ) as fitting:
        if on_state:
            on_state(0, model, fitting.intervention())
        for count in range(1, feedings + 1):
            unanchored = None if diet.anchor else fitting.replay_kl()
            try:
                losses = fitting.step(
                    [texts[index] for index in order.next()], replay=range(fitting.groups), anchor=diet.anchor
                )
            except AdapterError as error:
                raise AdapterError(f"meal {count}: {error.problem}", error.next_step) from error
            kept = losses.replay_kl if unanchored is None else unanchored
            assert kept is not None
            eaten.append(Meal(losses.loss, kept))
            if progress:
                detail = f"loss {losses.loss:.2f}, replay KL {kept:.3f} nats per token"
                progress.step("feeding", count, feedings, detail)
            if on_state and (count % every == 0 or count == feedings):
                on_state(count, model, fitting.intervention())
    return tuple(eaten)
