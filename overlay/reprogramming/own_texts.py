"""Own texts: what the agent itself said in some turns, without what would teach it nothing or the wrong thing.

The agent's own words differ from people's in more than the state, so texts of the state alone would make an axis of
"written by this model". Each text therefore has a twin: what the same voice said in calm turns.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from overlay.axes import find_words, text_parts
from overlay.home import Home
from overlay.inner import LivedTurn, Segment, lived_contexts
from overlay.records import read_journal

LEAST_WORDS = 8
"""Shorter texts say too little to be learned from, and could be anybody's."""

ECHO = 5
"""So many words in a row that somebody else wrote don't stand in an own text by chance."""


@dataclass(frozen=True)
class OwnText:
    """What the agent said in one turn: "reply", or "voice:NAME" of its inner dialogue."""

    session: str
    number: int
    source: str
    text: str

    @property
    def place(self) -> str:
        """Where it stands in the journals."""
        return f"{self.session}:{self.number}:{self.source}"


Pair = tuple[OwnText, OwnText]
"""What was said while the state stayed, and its calm twin."""


def own_pairs(
    home: Home, axis: str, stay: Sequence[LivedTurn], calm: Sequence[LivedTurn]
) -> tuple[tuple[Pair, ...], dict[str, int]]:
    """What was said while the state of an axis stayed, newest first, with its twins; how much was left out, and why.

    Raises:
        AxisMissing: people wrote no contrast set to compare with. DocumentError, RecordDamaged
    """
    contrast = home.axes.contrast(axis)
    records = [record for path in sorted(home.sessions.glob("*.jsonl")) for record in read_journal(path)]
    records.sort(key=lambda record: float(record["time"]), reverse=True)
    written = [part for texts in contrast.groups().values() for text in texts for part in text_parts(text)]
    foreign = _runs_of_words({*written, *_foreign_texts(records)})
    names_state = find_words(contrast.lexicon + contrast.lexicon_ru)
    left_out: Counter[str] = Counter()

    def sift(turns: Sequence[LivedTurn]) -> dict[str, OwnText]:
        """What may be learned from, by its words."""
        places = {(turn.session, turn.number) for turn in turns}
        kept: dict[str, OwnText] = {}
        for own in _own_texts(record for record in records if (record["session"], record["number"]) in places):
            words = _words(own.text)
            key = " ".join(words)
            if len(words) < LEAST_WORDS:
                left_out["too short"] += 1
            elif key in kept:
                left_out["said before"] += 1
            elif names_state(own.text):
                left_out["names the state"] += 1
            elif not foreign.isdisjoint(_runs_of_words([own.text])):
                left_out["holds others' words"] += 1
            else:
                kept[key] = own
        return kept

    stayed, twins = sift(stay), sift(calm)
    for key in stayed.keys() & twins.keys():
        left_out["said in calm turns as well"] += 2
        del stayed[key], twins[key]
    pairs = []
    for own in stayed.values():
        twin = next((key for key, one in twins.items() if one.source == own.source), None)
        if twin is None:
            left_out["without a calm twin"] += 1
        else:
            pairs.append((own, twins.pop(twin)))
    return tuple(pairs), dict(left_out)


def _own_texts(records: Iterable[Mapping[str, Any]]) -> Iterator[OwnText]:
    """What the agent said itself, in the order of the records: its replies and what its voices said."""
    for record in records:
        said = [("reply", record["reply"])]
        said += [(f"voice:{utterance['voice']}", utterance["text"]) for utterance in record["inner_speech"]]
        for source, text in said:
            if text.strip():
                yield OwnText(str(record["session"]), int(record["number"]), source, text.strip())


def _foreign_texts(records: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """All that stood before the agent and that it did not say: users' words, notes, masks, questions, the system's."""
    for record in records:
        yield str(record["user"])
        for lived in lived_contexts([record]):
            yield from (segment.text for segment in lived.context.segments if not _is_own(segment))


def _is_own(segment: Segment) -> bool:
    """Whether the agent said it, now or in a turn that was remembered."""
    is_remembered = segment.source.startswith("note:session:") and segment.source.endswith(":reply")
    return segment.source == "reply" or segment.kind == "voice" or is_remembered


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())


def _runs_of_words(texts: Iterable[str]) -> set[tuple[str, ...]]:
    """All runs of ECHO words of all texts."""
    return {
        tuple(words[start : start + ECHO]) for words in map(_words, texts) for start in range(len(words) - ECHO + 1)
    }
