"""Word order: adverbs and times moved, and listed things swapped, where the sense stays."""

from __future__ import annotations

import re

from overlay.adapters.microvariants.edit import FUNCTION_WORDS, Edit, edited, language_of, like, lowered
from overlay.adapters.microvariants.synonym import synonyms

_ADVERBS = {
    "en": r"(?:now|soon|often|always|again|today|yesterday|tomorrow|later|twice|together|once more|"
    r"every (?:day|morning|evening|week|year|winter|summer|spring|autumn|Sunday|Monday|Saturday)|"
    r"in the (?:morning|evening|afternoon)|"
    r"at (?:night|noon|dawn|dusk)|(?!only|early|family|reply|supply|apply|July|fly|ugly|likely|daily|lonely)\w{2,}ly)",
    "ru": r"(?:сейчас|скоро|часто|всегда|опять|снова|сегодня|вчера|завтра|потом|дважды|вместе|утром|вечером|днем|днём|"
    r"ночью|весной|летом|осенью|зимой|каждый (?:день|вечер|год)|каждое утро|по утрам|по вечерам|"
    r"тихо|громко|быстро|осторожно|внимательно|\w{2,}(?:енно|анно|ично|ельно))",
}
_AND = {"en": "and|or", "ru": "и|или"}
_SENTENCE = re.compile(r"[^.!?…\n]+")


def reorderings(text: str) -> list[Edit]:
    """An adverb or a time moved to its sentence's beginning, end or a word on, or two listed words swapped."""
    return [*_swaps(text), *_moves(text)]


def _swaps(text: str) -> list[Edit]:
    """Two words around "and" or a listing comma, of one form as far as their endings tell."""
    language = language_of(text)
    joint = re.compile(rf"\b(?P<first>\w{{3,}})(?=(?P<joint> (?:{_AND[language]}) |, )(?P<second>\w{{3,}})\b)")
    found = []
    for pair in joint.finditer(text):
        first, second = pair["first"], pair["second"]
        listed = pair["joint"] != ", " or re.match(rf"(?:,| (?:{_AND[language]})) ", text[pair.end("second") :])
        if not listed or {first.lower(), second.lower()} & FUNCTION_WORDS or not _alike(first, second, language):
            continue
        swapped = f"{like(second, first)}{pair['joint']}{like(first, second)}"
        found.append(edited(text, "word_order", (pair.start(), pair.end("second"), swapped)))
    return found


def _alike(first: str, second: str, language: str) -> bool:
    if first[0].isupper() != second[0].isupper():
        return False
    endings = ("ing", "ed", "ly") if language == "en" else ("ть", "ла", "ли", "л", "ый", "ая", "ые", "но")
    return all(first.endswith(end) == second.endswith(end) for end in endings)


def _may_follow(word: str, language: str) -> bool:
    """Whether an adverb behind this word may stand before it: English puts none between an article and its noun."""
    if language == "en":
        return word.endswith("ed") or bool(synonyms(word))
    return word.lower() not in FUNCTION_WORDS


def _moves(text: str) -> list[Edit]:
    language = language_of(text)
    adverb = re.compile(rf"(?<![\w-]){_ADVERBS[language]}(?![\w-])", re.IGNORECASE)
    found = []
    for sentence in _SENTENCE.finditer(text):
        start = sentence.start() + len(sentence[0]) - len(sentence[0].lstrip())
        end = sentence.start() + len(sentence[0].rstrip())
        for moved in adverb.finditer(text, start, end):
            begin, stop = moved.span()
            if begin > start and text[begin - 1] == " ":
                opening = lowered(text, start)
                if opening is not None:
                    found.append(
                        edited(
                            text,
                            "word_order",
                            (start, start + 1, f"{like(moved[0], 'A')} {opening}"),
                            (begin - 1, stop, ""),
                        )
                    )
                if stop < end and text[stop] == " ":
                    found.append(edited(text, "word_order", (begin, stop + 1, ""), (end, end, f" {moved[0]}")))
                before = re.search(r"(\w+) $", text[start:begin])
                if before and before.start() and _may_follow(before[1], language):
                    place = start + before.start()
                    found.append(edited(text, "word_order", (place, stop, f"{moved[0]} {before[1]}")))
    return found
