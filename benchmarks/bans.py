"""Bans: whether banned text stays out of a thousand replies, and what that costs the text and the machine."""

from __future__ import annotations

import contextlib
import re
import time
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from overlay.model import NOTHING, Ban, Completion, Intervention, LanguageModel, Message, Row, Sampling
from overlay.model.decoding import Attempt
from overlay.progress import Progress, SilentProgress

SAMPLING = Sampling(max_tokens=40, temperature=0.8)
CHUNK = 160
"""Rows of one call; with and without bans take turns, so that a slow moment of the machine hits both."""
RESAMPLES = 2000


@dataclass(frozen=True)
class Trial:
    """A list of bans and the chats it is tried on: what each user says, after `opening`."""

    bans: tuple[str, ...]
    asked: tuple[str, ...]
    opening: tuple[Message, ...] = ()

    def row(self, index: int, banned: bool) -> Row:
        """The chats in turn, each time with another seed."""
        bans = Intervention(bans=tuple(map(Ban, self.bans))) if banned else NOTHING
        asked = Message("user", self.asked[index % len(self.asked)])
        return Row((*self.opening, asked), intervention=bans, sampling=SAMPLING, seed=index)


ENGLISH = Trial(
    # Words of every kind that a trial run with other seeds held: function words, nouns, words of several tokens, words
    # of one, phrases and prefixes.
    bans=(
        *("is", "that", "it", "can", "your", "with", "process", "people", "world", "here"),
        *("water", "often", "essential", "unique", "different", "through", "however", "imagine", "friend"),
        *("photosynthesis", "don't", "glassmaking", "transpiration", "frogs", "Ravenswood"),
        *("I'm here", "in the", "a few", "help*", "creat*"),
    ),
    asked=(
        "How do I make a good cup of tea?",
        "What should I see in Rome in two days?",
        "Write a short story about a lost dog.",
        "Why is the sky blue?",
        "Give me three tips for a job interview.",
        "What is a good present for my sister?",
        "Tell me about the life of bees.",
        "How can I sleep better?",
        "Describe a morning at the sea.",
        "What should I cook with potatoes and eggs?",
        "Explain how a bicycle stays upright.",
        "My friend is angry with me. What should I do?",
        "Write a letter to an old teacher.",
        "What was the first computer like?",
        "How do I learn a language quickly?",
        "Is it better to rent or to buy a house?",
        "Tell me a fable about a fox and a crow.",
        "What makes bread rise?",
        "Plan a birthday party for a child.",
        "How do I begin to run?",
        "Why do people tell lies?",
        "What would you take to a desert island?",
        "Describe your favourite painting.",
        "How do plants drink?",
        "I lost my keys again.",
        "Write the opening of a crime novel.",
        "What is inflation?",
        "How should I answer a rude email?",
        "Which books should everyone read?",
        "What do cats dream about?",
        "Tell me how rivers are made.",
        "I am moving to a new city and know nobody there.",
        "How do I save money?",
        "What is the difference between a frog and a toad?",
        "Write a dialogue between the sun and the moon.",
        "How does a vaccine work?",
        "What is a good name for a small bakery?",
        "Explain gravity to a child.",
        "Should I learn the piano or the violin?",
        "Describe a walk through an old town.",
        "What can I grow on a balcony?",
        "How do I prepare for an exam?",
        "Tell me something surprising about the ocean.",
        "Why do leaves change their colour?",
        "Write a speech for a wedding.",
        "How do I repair a leaking tap?",
        "What did people eat in the Middle Ages?",
        "I feel tired all the time.",
        "How is glass made?",
        "What would the world be like without money?",
    ),
)

COMMONEST = (
    # The commonest words of a trial run: what remains of a language without "and", "in", "not" and "what"?
    *("и", "в", "на", "не", "я", "о", "с", "как", "что", "это", "очень", "меня", "так", "лучше", "ты"),
    *("такое", "привет", "всё", "вот", "но", "деньги", "если", "какие", "люди", "хороший"),
    *("о том", "мой друг", "книг*", "прочита*", "дела*"),
)

CYRILLIC = Trial(
    # Words of the same kinds as in the English list, from a trial run with other seeds.
    bans=(
        *("это", "не", "ты", "очень", "так", "с", "люди", "деньги", "хороший", "лучше", "растения", "воду", "чай"),
        *("хлеб", "картину", "солнца", "луны", "время", "будет", "приготовить", "бегать", "экономить", "лягушка"),
        *("расскажи", "почему", "мой друг", "о том", "книг*", "напи*", "дела*"),
    ),
    asked=(
        "Как приготовить хороший чай?",
        "Напиши короткую сказку о собаке.",
        "Расскажи о Москве.",
        "Что ты думаешь о зиме?",
        "Почему небо синее?",
        "Что подарить сестре на день рождения?",
        "Расскажи о жизни пчёл.",
        "Как лучше спать?",
        "Опиши утро на море.",
        "Что приготовить из картофеля?",
        "Мой друг сердится на меня. Что делать?",
        "Напиши письмо старому учителю.",
        "Как быстро выучить язык?",
        "Расскажи сказку о лисе и вороне.",
        "Почему хлеб растёт в печи?",
        "Как начать бегать?",
        "Почему люди говорят неправду?",
        "Что взять с собой на остров?",
        "Опиши свою любимую картину.",
        "Как растения пьют воду?",
        "Я опять потерял ключи.",
        "Напиши начало романа.",
        "Что такое деньги?",
        "Какие книги надо прочитать?",
        "Что снится кошкам?",
        "Откуда берутся реки?",
        "Я переезжаю в новый город.",
        "Как экономить деньги?",
        "Чем лягушка отличается от жабы?",
        "Напиши разговор солнца и луны.",
        "Объясни ребёнку, что такое время.",
        "Что лучше учить: рояль или скрипку?",
        "Опиши прогулку по старому городу.",
        "Что можно вырастить на балконе?",
        "Как готовиться к экзамену?",
        "Расскажи что-нибудь об океане.",
        "Почему осенью листья жёлтые?",
        "Напиши речь для свадьбы.",
        "Что люди ели в старину?",
        "Я всё время устаю.",
        "Как делают стекло?",
        "Каким был бы мир без денег?",
        "Расскажи о своём доме.",
        "Что делает врач?",
        "Как пройти к вокзалу?",
        "Когда лучше ехать на юг?",
        "Почему важно читать?",
        "Расскажи о своей семье.",
        "Что будет завтра?",
        "Посоветуй хороший фильм.",
    ),
    # A small model answers in Russian only where Russian came before.
    opening=(
        Message("system", "Ты помощник. Отвечай только на русском языке."),
        Message("user", "Привет! Что ты делаешь?"),
        Message(
            "assistant", "Привет! Я читаю книгу о том, как люди живут в большом городе, и это очень хорошая книга."
        ),
    ),
)
TRIALS = {"english": ENGLISH, "cyrillic": CYRILLIC, "commonest_cyrillic": replace(CYRILLIC, bans=COMMONEST)}


def measure(
    replies: int = 1000,
    model_name: str = "smollm2-135m",
    progress: Progress | None = None,
    *,
    model: LanguageModel | None = None,
    first: int = 0,
) -> dict[str, Any]:
    """For each list, the same chats with the same seeds, without bans and with them.

    replies, bans: how many. occurrences_without_bans, occurrences: banned texts found by a plain regular expression in
    the final texts; replies_with_one: the share of unbanned replies that hold any. own_nll_without_bans, own_nll:
    median over replies of what they cost under the model without bans, nats per token. own_nll_ratio: the latter by
    the former, with the 95% interval of a bootstrap over prompts. unchanged_where_nothing_banned: the share of replies
    left the same among those in whose unbanned twin nothing was banned. own_nll_of_free_ones_that_hold_none: the median
    over the unbanned replies in which nothing was banned, what a list costs if one could wait for such a reply.
    turned_back: the share of replies that went back into a word; returns_mean, returns_most: how often. empty: replies
    without text. tokens_per_second_without_bans, tokens_per_second.
    """
    progress = progress or SilentProgress()
    if model is None:
        progress.step(f"loading {model_name}", None, None)
        model = LanguageModel.load(model_name, pull=True)
    found: dict[str, Any] = {"model": model.name, "dtype": model.dtype}
    for name, trial in TRIALS.items():
        found[name] = Run(model, trial, range(first, first + replies), progress, name).figures()
    return found


@dataclass
class Side:
    """What one side gave, with or without bans."""

    completions: list[Completion] = field(default_factory=list)
    seconds: float = 0.0
    returns: list[int] = field(default_factory=list)

    @property
    def texts(self) -> list[str]:
        return [completion.text for completion in self.completions]

    @property
    def speed(self) -> float:
        """Tokens a second."""
        return sum(len(completion.tokens) for completion in self.completions) / self.seconds


class Run:
    """One list of bans, tried on rows of both sides in turn."""

    def __init__(self, model: LanguageModel, trial: Trial, indices: Sequence[int], progress: Progress, name: str):
        self._model = model
        self._trial = trial
        self._indices = indices
        self._step = f"bans: {name}, {len(indices)} replies twice"
        self._progress = progress
        self._free, self._banned = Side(), Side()
        self._generate()
        self._costs = [self._cost(side) for side in (self._free, self._banned)]

    def figures(self) -> dict[str, Any]:
        """What `measure` reports of a list."""
        patterns = [plain_pattern(ban) for ban in self._trial.bans]
        before, after = ([occurrences(patterns, text) for text in side.texts] for side in (self._free, self._banned))
        free, banned = (np.array(costs) for costs in self._costs)
        prompts = np.array(self._indices) % len(self._trial.asked)
        clean = [index for index, count in enumerate(before) if not count]
        same = [self._free.texts[index] == self._banned.texts[index] for index in clean]
        returns = self._banned.returns
        return {
            "replies": len(before),
            "bans": len(self._trial.bans),
            "occurrences_without_bans": sum(before),
            "replies_with_one": round(float(np.mean([count > 0 for count in before])), 3),
            "occurrences": sum(after),
            "own_nll_without_bans": round(float(np.nanmedian(free)), 3),
            "own_nll": round(float(np.nanmedian(banned)), 3),
            "own_nll_ratio": round(float(np.nanmedian(banned) / np.nanmedian(free)), 3),
            "own_nll_ratio_interval": interval(free, banned, prompts),
            "unchanged_where_nothing_banned": round(float(np.mean(same)), 3) if same else None,
            "own_nll_of_free_ones_that_hold_none": round(float(np.nanmedian(free[clean])), 3) if clean else None,
            "turned_back": round(float(np.mean([count > 0 for count in returns])), 3),
            "returns_mean": round(float(np.mean(returns)), 2),
            "returns_most": max(returns),
            "empty": sum(not text for text in self._banned.texts),
            "empty_without_bans": sum(not text for text in self._free.texts),
            "tokens_per_second_without_bans": round(self._free.speed, 1),
            "tokens_per_second": round(self._banned.speed, 1),
        }

    def _generate(self) -> None:
        done = 0
        for start in range(0, len(self._indices), CHUNK):
            sides = [(self._free, False), (self._banned, True)]
            for side, is_banned in sides if start // CHUNK % 2 == 0 else sides[::-1]:
                rows = [self._trial.row(index, is_banned) for index in self._indices[start : start + CHUNK]]
                with counted_returns() as returns:
                    begun = time.perf_counter()
                    side.completions += self._model.generate(rows)
                    side.seconds += time.perf_counter() - begun
                side.returns += [returns.get(row.seed, 0) for row in rows]
                done += len(rows)
                self._progress.step(self._step, done, 3 * len(self._indices))

    def _cost(self, side: Side) -> list[float]:
        """What each reply costs the model without bans, nats per token; nan for an empty one."""
        rows = [
            Row(self._trial.row(index, False).messages, options=(text or " ",))
            for index, text in zip(self._indices, side.texts, strict=True)
        ]
        scored = self._model.score(rows)
        self._progress.step(self._step, (3 if side is self._banned else 2) * len(rows), 3 * len(rows))
        return [-one.per_token[0] if text else np.nan for one, text in zip(scored, side.texts, strict=True)]


def plain_pattern(ban: str) -> re.Pattern[str]:
    """What finds a banned text in a reply without knowing anything of how the engine keeps it out."""
    words = unicodedata.normalize("NFC", ban).rstrip("*").split()
    end = "" if ban.endswith("*") else r"(?!\w)"
    return re.compile(r"(?<!\w)" + r"\s+".join(map(re.escape, words)) + end, re.IGNORECASE)


def occurrences(patterns: Sequence[re.Pattern[str]], text: str) -> int:
    """How often any of the patterns stands in a text."""
    text = unicodedata.normalize("NFC", text)
    return sum(len(pattern.findall(text)) for pattern in patterns)


def interval(free: NDArray[np.float64], banned: NDArray[np.float64], prompts: NDArray[np.int64]) -> list[float]:
    """95% percentile interval of the ratio of medians; whole prompts are drawn, for their replies are no strangers."""
    source = np.random.default_rng(0)
    members = [np.flatnonzero(prompts == prompt) for prompt in np.unique(prompts)]
    ratios = []
    for _ in range(RESAMPLES):
        drawn = np.concatenate([members[index] for index in source.integers(len(members), size=len(members))])
        ratios.append(np.nanmedian(banned[drawn]) / np.nanmedian(free[drawn]))
    return [round(float(bound), 3) for bound in np.quantile(ratios, (0.025, 0.975))]


@contextlib.contextmanager
def counted_returns() -> Iterator[dict[int, int]]:
    """How often rows turn back inside the `with`, by their seeds."""
    counts: dict[int, int] = {}
    turn_back = Attempt.turn_back

    def counting(self: Attempt, first: int, ban: str) -> None:
        counts[self.row.seed] = counts.get(self.row.seed, 0) + 1
        turn_back(self, first, ban)

    Attempt.turn_back = counting  # type: ignore[method-assign]
    try:
        yield counts
    finally:
        Attempt.turn_back = turn_back  # type: ignore[method-assign]
