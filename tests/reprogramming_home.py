"""A toy home with a life that its agent may write into itself: calm turns first, then turns beyond a threshold."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from toy_axis import LETTERS, toy_texts
from toy_home import create_toy_home

from overlay.home import Home
from overlay.session import Session, TurnRecord

START = 1_700_000_000.0
SESSION = "20260101-000000-aaaa"
USERS_WORDS = "zebra waltz vexes quick jumping box wizards nightly"
GUARD: dict[str, Any] = {"axis": "vowels", "threshold": 0.8, "turns": 4, "cooldown": 6, "texts": 9}


def create_home(
    folder: Path, guard: dict[str, Any] | None = GUARD, embedder: Path | str = "unused", **changes: Any
) -> Home:
    """A toy home whose axis has confirmation texts; it watches itself unless `guard` is None."""
    settings = changes | ({"reprogramming": guard} if guard is not None else {})
    home = create_toy_home(folder, embedder, **settings)
    # What a random model says of the stock banks means nothing, and what watches it would decide by that.
    shutil.rmtree(home.folder / "adapters" / "probes")
    fresh = {
        group: toy_texts(LETTERS[letters], 8, 3)
        for group, letters in {"positive": "positive", "negative": "negative", "liquids": "foil"}.items()
    }
    (home.folder / "adapters" / "steering" / "vowels.confirm.yaml").write_text(json.dumps(fresh))
    return home


def own_texts(letters: str, count: int, seed: int = 0) -> list[str]:
    """Texts of twelve words, each of its own."""
    halves = toy_texts(letters, 2 * count, seed)
    return [f"{halves[2 * place]} {halves[2 * place + 1]}" for place in range(count)]


def live(home: Home, values: list[float], said: list[tuple[str, str]] | None = None, **changes: Any) -> None:
    """Journal one turn a value; `said` gives (reply, inner speech of the voice "plain") by turn."""
    session = Session(home.sessions, SESSION)
    before = 0.0
    for place, value in enumerate(values):
        reply, thought = said[place] if said else ("", "")
        session.append(
            TurnRecord(
                **{
                    "session": session.name,
                    "number": session.count + 1,
                    "kind": "turn",
                    "time": START + session.count * 60,
                    "seed": 0,
                    "user": USERS_WORDS,
                    "reply": reply,
                    "state_before": {"vowels": before},
                    "state_after": {"vowels": value},
                    "energies": {},
                    "inner_speech": [{"voice": "plain", "text": thought}] if thought else [],
                    "contexts": [
                        {
                            "purpose": "reply",
                            "messages": [
                                {"role": "system", "segments": [{"source": "system", "text": "You answer."}]},
                                {"role": "user", "segments": [{"source": "user", "text": USERS_WORDS}]},
                            ],
                        }
                    ],
                }
                | changes
            )
        )
        before = value


def live_whole(home: Home, letters: str = LETTERS["positive"], turns: int = 8, **changes: Any) -> list[str]:
    """Calm turns that speak with the letters of the negative texts, then as many beyond the threshold; gives what was
    said in these."""
    calm, own = own_texts(LETTERS["negative"], 2 * turns, 21), own_texts(letters, 2 * turns, 22)
    pairs = [(texts[2 * place], texts[2 * place + 1]) for texts in (calm, own) for place in range(turns)]
    live(home, [0.0] * turns + [1.0] * turns, pairs, **changes)
    return own
