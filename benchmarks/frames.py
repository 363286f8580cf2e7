"""Frames: whether the right one wakes for situations that it has never seen, and how many wake for nothing."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from statsmodels.stats.proportion import proportion_confint

from overlay.agent import open_embedder
from overlay.frames import Frame, FrameGraph, KnownEmbedder, calibrate, cues_digest, read_frames
from overlay.home import Home
from overlay.progress import Progress, SilentProgress

_WRITTEN = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
SETS: dict[str, dict[str, list[str]]] = {name: _WRITTEN[name] for name in ("development", "held_out", "russian")}
NEUTRAL: list[str] = _WRITTEN["neutral"]
FROZEN_CUES: str = _WRITTEN["frozen_cues"]
"""The cues before which the held-out situations had not been written."""

TOP = 3
"""As many frames as can be active at once."""

GRAM = 4
"""A situation that shares so many words in a row with a cue is copied from it."""

Ranked = Callable[[str], Sequence[str]]


def measure(progress: Progress | None = None, *, embedder: KnownEmbedder | None = None) -> dict[str, Any]:
    """How often the right frame wakes. A share stands with its 95% Wilson interval and how many it is of.

    frames, cues, cues_as_frozen: what was measured, and whether the cues are still those that the held-out situations
        were written after. copied: situations that share four words in a row with a cue; has to be empty.
    development, held_out, russian: top_1 and top_3, how often the right frame is the nearest or among the three
        nearest; active, how often it is active in a turn that begins from rest, links included; by frame, how many of
        its situations have it among the three nearest. `russian` says what the embedder makes of Russian.
    false_alarms: the share of everyday sentences on which any frame becomes active; they aren't among those that set
        the scale.
    without_calibration: the same when the cosine with the nearest cue is the energy, and a frame is active from the
        cosine on at which the everyday sentences give as many false alarms (`active_at_equal_alarms`).
    """
    progress = progress or SilentProgress()
    home = Home.open(Path.cwd())
    frames = read_frames(home.frames)
    embedder = embedder or open_embedder(home, progress=progress)
    progress.step("calibrating the frames", None, None)
    graph = FrameGraph(frames, embedder, calibration=calibrate(frames, embedder))
    plain = FrameGraph(frames, embedder)
    progress.step("waking frames", None, None)
    alarms = [bool(graph.turn({}, sentence).active) for sentence in NEUTRAL]
    return {
        "frames": len(frames),
        "cues": sum(len(frame.cues) for frame in frames),
        "cues_as_frozen": cues_digest(frames) == FROZEN_CUES,
        "copied": copied(frames),
        **{name: _shares(graph, situations) for name, situations in SETS.items()},
        "false_alarms": _share(alarms),
        "without_calibration": _without(plain, sum(alarms)),
    }


def copied(frames: Iterable[Frame]) -> list[str]:
    """Situations that share four words in a row with a cue."""
    cues = {gram for frame in frames for cue in frame.cues for gram in _grams(cue)}
    return [
        text for situations in SETS.values() for texts in situations.values() for text in texts if cues & _grams(text)
    ]


def _grams(text: str) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+", text.lower())
    return {tuple(words[start : start + GRAM]) for start in range(len(words) - GRAM + 1)}


def _shares(graph: FrameGraph, situations: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    def ranked(text: str) -> list[str]:
        matches = graph.match(text)
        return sorted(matches, key=lambda name: -(matches[name].standing or 0.0))

    active = [
        name in {one.frame.name for one in graph.turn({}, text).active}
        for name, texts in situations.items()
        for text in texts
    ]
    return _ranks(ranked, situations) | {"active": _share(active)}


def _ranks(ranked: Ranked, situations: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    ranks = {name: [list(ranked(text)).index(name) for text in texts] for name, texts in situations.items()}
    flat = [rank for found in ranks.values() for rank in found]
    return {
        "top_1": _share([rank < 1 for rank in flat]),
        "top_3": _share([rank < TOP for rank in flat]),
        "by_frame": {name: f"{sum(rank < TOP for rank in found)}/{len(found)}" for name, found in ranks.items()},
    }


def _without(graph: FrameGraph, alarms: int) -> dict[str, Any]:
    """What cosines alone find; they are compared at the threshold that lets as many everyday sentences through."""

    def cosines(text: str) -> dict[str, float]:
        return {name: match.cosine for name, match in graph.match(text).items()}

    def ranked(text: str) -> list[str]:
        found = cosines(text)
        return sorted(found, key=lambda name: -found[name])

    highest = sorted((max(cosines(sentence).values()) for sentence in NEUTRAL), reverse=True)
    threshold = highest[alarms]
    found: dict[str, Any] = {
        "false_alarms_at_0.35": _share([cosine >= 0.35 for cosine in highest]),
        "threshold_at_equal_alarms": round(threshold, 3),
    }
    for name, situations in SETS.items():
        strong = [
            frame in ranked(text)[:TOP] and cosines(text)[frame] > threshold
            for frame, texts in situations.items()
            for text in texts
        ]
        shares = _ranks(ranked, situations)
        found[name] = {**{key: shares[key] for key in ("top_1", "top_3")}, "active_at_equal_alarms": _share(strong)}
    return found


def _share(hits: Sequence[bool]) -> dict[str, Any]:
    interval = proportion_confint(sum(hits), len(hits), method="wilson")
    return {
        "share": round(float(np.mean(hits)), 3),
        "interval": [round(float(end), 3) for end in interval],
        "of": len(hits),
    }
