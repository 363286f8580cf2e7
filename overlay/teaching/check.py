"""The check: cells of probes that sagged, and what was passed before and is no longer.

A cell that nobody teaches sags when its mean margin falls by more than the curriculum's `sag`, and by more than the
spread of its probes explains: a dozen probes move up and down by several times that limit whatever is learned, and a
walk that steps back for it learns nothing. A cell that the walk asks for sags with any such fall. A cell's mean says
what happened to a kind of knowledge; one probe of it may fall while another rises. So a probe that the walk has passed
is asked again at each check as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from overlay.probes import Probe, cells_of
from overlay.teaching.curriculum import Curriculum, ProbeNode
from overlay.teaching.questions import Questions

CERTAINTY = 0.05
"""The p, one-sided and paired over probes, below which a fall is more than their spread explains."""

ASKED = ", asked"
"""What the name of a cell ends with whose probes the walk asks for."""

FEWEST = 6
"""Probes of a cell from which on their spread is told apart: of fewer it can't be, and caution comes first."""

Margins = Mapping[str, float]
"""Margins of watched probes by their ids, nats per token."""


def watched_cells(questions: Questions, least: int) -> dict[str, list[Probe]]:
    """Cells of `least` probes or more; those that the walk asks for are cells of their own.

    What is taught rises, and would cover what falls beside it.
    """
    asked = {probe.id for probe in questions.asked.values()}
    groups = {
        "": [probe for probe in questions.watched if probe.id not in asked],
        ASKED: [probe for probe in questions.watched if probe.id in asked],
    }
    return {
        f"{cell}{words}": held
        for words, probes in groups.items()
        for cell, held in cells_of(probes).items()
        if len(held) >= least
    }


def means(cells: Mapping[str, Sequence[Probe]], found: Margins) -> dict[str, float]:
    """The mean margin of each cell, nats per token."""
    return {name: float(np.mean([found[probe.id] for probe in held])) for name, held in cells.items()}


def sagging(
    cells: Mapping[str, Sequence[Probe]], now: Margins, good: Margins, base: Margins, limit: float
) -> dict[str, str]:
    """Cells whose mean margin fell by more than `limit` nats per token since the last good state, or the base.

    What is asked for is held to the last good state alone, for the base never knew it, and there every fall counts: a
    lesson may well undo one thing that was learned and leave the others.
    """
    found = {}
    for name, held in cells.items():
        is_asked = name.endswith(ASKED)
        references = {"the last good state's": good} | ({} if is_asked else {"the base's": base})
        for whose, reference in references.items():
            falls = np.array([reference[probe.id] - now[probe.id] for probe in held])
            if falls.mean() > limit and (is_asked or _is_certain(falls)):
                mean = np.mean([now[probe.id] for probe in held])
                found[name] = f"{name} sagged to {mean:+.3f} nats per token, {falls.mean():.3f} below {whose}"
                break
    return found


def lost(curriculum: Curriculum, now: Mapping[str, float], passed: Mapping[str, float]) -> dict[str, str]:
    """Probes that were passed and would fail now, by more than the curriculum's `sag` below what they were.

    Args:
        now, passed: margins by node, nats per token, as they are and when they passed.
    """
    found = {}
    for name, margin in now.items():
        node = curriculum[name]
        if isinstance(node, ProbeNode) and margin <= node.least and passed[name] - margin > curriculum.teaching.sag:
            found[name] = f"'{name}' was passed at {passed[name]:+.3f} nats per token, and is lost at {margin:+.3f}"
    return found


def _is_certain(falls: np.ndarray) -> bool:
    """Whether falls lie above 0 by more than their spread explains (paired t); of too few, each fall counts."""
    from scipy.stats import ttest_1samp

    if len(falls) < FEWEST or np.ptp(falls) < 1e-9:
        return True
    return bool(ttest_1samp(falls, 0.0, alternative="greater").pvalue < CERTAINTY)
