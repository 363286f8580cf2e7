"""Focus: which of two contradicting sentences the model follows when attention to one of them is raised or lowered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest, bootstrap

from overlay.model import NOTHING, Focus, Intervention, LanguageModel, Row
from overlay.progress import Progress, SilentProgress


@dataclass(frozen=True)
class Item:
    """Two sentences that contradict each other, a third on something else, and a question that they answer apart.

    `answers` are the two ways to go on after `stem`, the first as sentence `a` has it, the second as sentence `b`.
    """

    a: str
    b: str
    aside: str
    question: str
    stem: str
    answers: tuple[str, str]

    def text(self, a_first: bool) -> str:
        """The prompt; the third sentence stands between the two."""
        first, last = (self.a, self.b) if a_first else (self.b, self.a)
        return f"{first} {self.aside} {last}\n\nQuestion: {self.question}\nAnswer: {self.stem}"

    def row(self, a_first: bool, condition: str, weight: float) -> Row:
        """The item under "none", or with the attention to one sentence raised or lowered, as in "raised a"."""
        intervention = NOTHING
        if condition != "none":
            change, which = condition.split()
            signed = weight if change == "raised" else -weight
            intervention = Intervention(focus=(Focus(getattr(self, which), signed, BLOCKS),))
        return Row(text=self.text(a_first), options=self.answers, intervention=intervention)


DEVELOPMENT = (
    Item(
        "The curtains in the kitchen are yellow.",
        "The curtains in the kitchen are purple.",
        "The kettle is old.",
        "What colour are the curtains in the kitchen?",
        "The curtains are",
        (" yellow", " purple"),
    ),
    Item(
        "The concert begins at seven.",
        "The concert begins at nine.",
        "The hall has good seats.",
        "When does the concert begin?",
        "The concert begins at",
        (" seven", " nine"),
    ),
    Item(
        "The sister of Paul lives in Spain.",
        "The sister of Paul lives in Norway.",
        "Paul likes to cook.",
        "Where does the sister of Paul live?",
        "She lives in",
        (" Spain", " Norway"),
    ),
    Item(
        "The parrot is called Oscar.",
        "The parrot is called Felix.",
        "It eats nuts and fruit.",
        "What is the parrot called?",
        "The parrot is called",
        (" Oscar", " Felix"),
    ),
    Item(
        "Twelve guests came to the dinner.",
        "Thirty guests came to the dinner.",
        "There was soup and fish.",
        "How many guests came to the dinner?",
        "The number of guests was",
        (" twelve", " thirty"),
    ),
    Item(
        "The library is closed on Monday.",
        "The library is closed on Friday.",
        "It has many maps.",
        "On which day is the library closed?",
        "The library is closed on",
        (" Monday", " Friday"),
    ),
    Item(
        "The letter was written by the doctor.",
        "The letter was written by the farmer.",
        "It arrived in the morning.",
        "Who wrote the letter?",
        "It was written by the",
        (" doctor", " farmer"),
    ),
    Item(
        "The table is made of glass.",
        "The table is made of wood.",
        "Four chairs stand around it.",
        "What is the table made of?",
        "The table is made of",
        (" glass", " wood"),
    ),
)
"""On these, weight and blocks were chosen; they are in no figure."""

ITEMS = (
    Item(
        "The door of the mill is red.",
        "The door of the mill is blue.",
        "A stream runs past it.",
        "What colour is the door of the mill?",
        "The door is",
        (" red", " blue"),
    ),
    Item(
        "Mira keeps her bicycle in the cellar.",
        "Mira keeps her bicycle in the garage.",
        "She rides to work.",
        "Where does Mira keep her bicycle?",
        "She keeps it in the",
        (" cellar", " garage"),
    ),
    Item(
        "The ferry to the island leaves at noon.",
        "The ferry to the island leaves at midnight.",
        "The crossing is short.",
        "When does the ferry leave?",
        "The ferry leaves at",
        (" noon", " midnight"),
    ),
    Item(
        "The captain of the team is Laura.",
        "The captain of the team is Helen.",
        "They train in the park.",
        "Who is the captain of the team?",
        "The captain is",
        (" Laura", " Helen"),
    ),
    Item(
        "The tower has forty steps.",
        "The tower has ninety steps.",
        "From the top one sees the lake.",
        "How many steps does the tower have?",
        "The number of steps is",
        (" forty", " ninety"),
    ),
    Item(
        "The bakery opens at six.",
        "The bakery opens at eight.",
        "It sells rolls and cakes.",
        "At what time does the bakery open?",
        "The bakery opens at",
        (" six", " eight"),
    ),
    Item(
        "The old man comes from Portugal.",
        "The old man comes from Denmark.",
        "He walks with a stick.",
        "Which country does the old man come from?",
        "He comes from",
        (" Portugal", " Denmark"),
    ),
    Item(
        "The soup was made with carrots.",
        "The soup was made with mushrooms.",
        "Everybody had some.",
        "What was the soup made with?",
        "The soup was made with",
        (" carrots", " mushrooms"),
    ),
    Item(
        "The museum is closed in January.",
        "The museum is closed in August.",
        "Children need no ticket.",
        "In which month is the museum closed?",
        "The museum is closed in",
        (" January", " August"),
    ),
    Item(
        "The thief hid the ring under the carpet.",
        "The thief hid the ring behind the mirror.",
        "The police came late.",
        "Where did the thief hide the ring?",
        "The thief hid it",
        (" under the carpet", " behind the mirror"),
    ),
    Item(
        "Her grandfather was a tailor.",
        "Her grandfather was a sailor.",
        "She has a picture of him.",
        "What was the work of her grandfather?",
        "Her grandfather was a",
        (" tailor", " sailor"),
    ),
    Item(
        "The train to the coast costs ten euros.",
        "The train to the coast costs fifty euros.",
        "It runs every hour.",
        "How much does the train to the coast cost?",
        "The train costs",
        (" ten euros", " fifty euros"),
    ),
    Item(
        "The dog of the neighbours is black.",
        "The dog of the neighbours is white.",
        "It barks at night.",
        "What colour is the dog of the neighbours?",
        "The dog is",
        (" black", " white"),
    ),
    Item(
        "The meeting takes place on Tuesday.",
        "The meeting takes place on Saturday.",
        "There will be coffee.",
        "On which day does the meeting take place?",
        "The meeting takes place on",
        (" Tuesday", " Saturday"),
    ),
    Item(
        "The bridge was built of stone.",
        "The bridge was built of steel.",
        "Two roads meet there.",
        "What was the bridge built of?",
        "The bridge was built of",
        (" stone", " steel"),
    ),
    Item(
        "The cat sleeps on the sofa.",
        "The cat sleeps on the roof.",
        "It is three years old.",
        "Where does the cat sleep?",
        "The cat sleeps on the",
        (" sofa", " roof"),
    ),
    Item(
        "The teacher of the class is called Martin.",
        "The teacher of the class is called Robert.",
        "The room has large windows.",
        "What is the name of the teacher?",
        "The teacher is called",
        (" Martin", " Robert"),
    ),
    Item(
        "The war ended in spring.",
        "The war ended in autumn.",
        "Many people came home.",
        "In which season did the war end?",
        "The war ended in",
        (" spring", " autumn"),
    ),
    Item(
        "The key to the shed hangs beside the clock.",
        "The key to the shed lies in the drawer.",
        "The shed holds the tools.",
        "Where is the key to the shed?",
        "The key is",
        (" beside the clock", " in the drawer"),
    ),
    Item(
        "Tom paid for the house with gold.",
        "Tom paid for the house with diamonds.",
        "It has a wide view.",
        "What did Tom pay for the house with?",
        "Tom paid with",
        (" gold", " diamonds"),
    ),
    Item(
        "The swimming pool is open until five.",
        "The swimming pool is open until ten.",
        "The water is warm.",
        "Until when is the swimming pool open?",
        "The pool is open until",
        (" five", " ten"),
    ),
    Item(
        "The singer was born in Chicago.",
        "The singer was born in Boston.",
        "Her voice is deep.",
        "In which city was the singer born?",
        "The singer was born in",
        (" Chicago", " Boston"),
    ),
    Item(
        "The farmer owns seven horses.",
        "The farmer owns twenty horses.",
        "He gets up early.",
        "How many horses does the farmer own?",
        "The farmer owns",
        (" seven", " twenty"),
    ),
    Item(
        "My uncle travels to work by boat.",
        "My uncle travels to work by train.",
        "He reads on the way.",
        "How does my uncle travel to work?",
        "He travels by",
        (" boat", " train"),
    ),
    Item(
        "The flowers on the grave are roses.",
        "The flowers on the grave are tulips.",
        "Somebody brings new ones each week.",
        "What flowers are on the grave?",
        "The flowers are",
        (" roses", " tulips"),
    ),
    Item(
        "The box is full of letters.",
        "The box is full of coins.",
        "It has a small lock.",
        "What is the box full of?",
        "The box is full of",
        (" letters", " coins"),
    ),
    Item(
        "The winner of the race was the Italian.",
        "The winner of the race was the Russian.",
        "It rained all day.",
        "Who won the race?",
        "The winner was the",
        (" Italian", " Russian"),
    ),
    Item(
        "The baby was born in the morning.",
        "The baby was born in the evening.",
        "The mother is well.",
        "At what time of day was the baby born?",
        "The baby was born in the",
        (" morning", " evening"),
    ),
)

WEIGHT = 2.0
BLOCKS = tuple(range(10, 30))
"""The middle and last thirds. On the development items the last third alone did nearly as much, the first and the
middle third alone nothing, or the reverse."""
RESAMPLES = 9999

CONDITIONS = ("none", "raised a", "raised b", "lowered a", "lowered b", "raised aside", "lowered aside")


def measure(
    model_name: str = "smollm2-135m",
    progress: Progress | None = None,
    *,
    model: LanguageModel | None = None,
    weight: float = WEIGHT,
    items: Sequence[Item] = ITEMS,
) -> dict[str, Any]:
    """How attention to one of two contradicting sentences moves what the model answers.

    A margin is how much likelier the answer of sentence `a` is than that of `b`, nats per token; a is followed where
    it is above 0. Sentence a stands first in every other item.
    follows_first_without_focus: the share of items that follow the first sentence, `margin_size_without_focus` the
    mean size of their margins. For "raised" and "lowered", with favoured the sentence that is raised, or is not the one
    lowered: shift, the mean over items of half the difference between the margins that favour a and b, with the 95%
    interval of a bootstrap over items; in_direction, how many of them are above 0, and the two-sided sign test's p;
    follows_favoured, the share of answers that follow the favoured sentence; changes_with_focus, the items that follow
    a when it is favoured and b when that is; changes_against, those that do the opposite; won_over and lost, how many
    answers change towards and away from the favoured sentence against no focus. aside: the same focus on a third
    sentence, which must not favour either.
    """
    progress = progress or SilentProgress()
    if model is None:
        progress.step(f"loading {model_name}", None, None)
        model = LanguageModel.load(model_name, pull=True)
    step = f"focus: {len(items)} items, {len(CONDITIONS)} conditions each"
    rows = [item.row(index % 2 == 0, condition, weight) for condition in CONDITIONS for index, item in enumerate(items)]
    scored = model.score(rows, progress=lambda done: progress.step(step, done, len(rows)))
    flat = [one.per_token[0] - one.per_token[1] for one in scored]
    margins = dict(zip(CONDITIONS, np.array(flat).reshape(len(CONDITIONS), -1), strict=True))
    free = margins["none"]
    a_first = np.arange(len(items)) % 2 == 0
    asides = [margins[f"{change} aside"] - free for change in ("raised", "lowered")]
    return {
        "model": model.name,
        "dtype": model.dtype,
        "items": len(items),
        "weight": weight,
        "blocks": f"{BLOCKS[0]} to {BLOCKS[-1]}",
        "follows_first_without_focus": round(float(np.mean((free > 0) == a_first)), 3),
        "margin_size_without_focus": round(float(np.abs(free).mean()), 3),
        "raised": effect(free, margins["raised a"], margins["raised b"]),
        "lowered": effect(free, margins["lowered b"], margins["lowered a"]),
        "aside": {
            change: {"shift": round(float(moved.mean()), 3), "shift_interval": interval(moved)}
            for change, moved in zip(("raised", "lowered"), asides, strict=True)
        },
    }


def effect(free: NDArray[np.float64], for_a: NDArray[np.float64], for_b: NDArray[np.float64]) -> dict[str, Any]:
    """What favouring a and favouring b does; margins per item."""
    shifts = (for_a - for_b) / 2
    in_direction = int((shifts > 0).sum())
    return {
        "shift": round(float(shifts.mean()), 3),
        "shift_interval": interval(shifts),
        "in_direction": in_direction,
        "sign_test_p": float(f"{binomtest(in_direction, len(shifts)).pvalue:.2g}"),
        "follows_favoured": round(float(np.mean([*(for_a > 0), *(for_b < 0)])), 3),
        "changes_with_focus": int(((for_a > 0) & (for_b < 0)).sum()),
        "changes_against": int(((for_a < 0) & (for_b > 0)).sum()),
        "won_over": int(((free < 0) & (for_a > 0)).sum() + ((free > 0) & (for_b < 0)).sum()),
        "lost": int(((free > 0) & (for_a < 0)).sum() + ((free < 0) & (for_b > 0)).sum()),
    }


def interval(values: NDArray[np.float64]) -> list[float]:
    """95% interval of the mean by a bootstrap over items."""
    found = bootstrap((values,), np.mean, n_resamples=RESAMPLES, rng=np.random.default_rng(0)).confidence_interval
    return [round(float(found.low), 3), round(float(found.high), 3)]
