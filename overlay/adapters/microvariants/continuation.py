"""Continuation: a few words behind the text that anybody would have expected there."""

from __future__ import annotations

from collections.abc import Sequence

from overlay.adapters.microvariants.edit import Edit, edited, ending_of, language_of

_TAILS = {
    "en": (", of course", ", as usual", ", as always", " again", " after all", ", and that was that", ", as expected"),
    "ru": (", конечно", ", как обычно", ", как всегда", " опять", ", вот и всё", ", само собой"),
}
_SENTENCES = {
    "en": (" Of course.", " As usual.", " That is all.", " And so it was.", " So it goes."),
    "ru": (" Конечно.", " Как обычно.", " Вот и всё.", " Так и было.", " Так бывает."),
}
_PROVERBS = {
    "better late": " than never",
    "actions speak louder": " than words",
    "the early bird": " catches the worm",
    "when in rome": ", do as the Romans do",
    "an apple a day": " keeps the doctor away",
    "practice makes": " perfect",
    "once bitten": ", twice shy",
    "easy come": ", easy go",
    "out of sight": ", out of mind",
    "no smoke": " without fire",
    "лучше поздно": ", чем никогда",
    "тише едешь": ", дальше будешь",
    "семь раз отмерь": ", один раз отрежь",
    "без труда": " не вытащишь и рыбку из пруда",
    "век живи": ", век учись",
    "в гостях хорошо": ", а дома лучше",
    "не имей сто рублей": ", а имей сто друзей",
    "старый друг лучше": " новых двух",
    "нет дыма": " без огня",
    "цыплят по осени": " считают",
}


def continuations(text: str, likely: Sequence[str] = ()) -> list[Edit]:
    """A proverb's ending, words that the model itself would go on with (`likely`), and common tails and sentences."""
    language = language_of(text)
    closing, end = ending_of(text), len(text.rstrip())
    stem = text[:closing].lower()
    tails = [tail for beginning, tail in _PROVERBS.items() if stem.endswith(beginning)]
    tails += [*likely, *_TAILS[language]]
    found = [edited(text, "continuation", (closing, closing, tail)) for tail in tails]
    return found + [edited(text, "continuation", (end, end, sentence)) for sentence in _SENTENCES[language]]
