"""The check: cells of probes that sagged, and what was passed before and is no longer.

A cell's mean says what happened to a kind of knowledge; one probe of it may fall while another rises. So a probe that
the walk has passed is asked again at each check as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from overlay.probes import cells_of
from overlay.teaching.curriculum import Curriculum, ProbeNode
from overlay.teaching.questions import Questions


def cell_margins(questions: Questions, found: Sequence[float], least: int) -> dict[str, float]:
    """The mean margin of every cell that holds at least `least` of the watched probes, nats per token, by its name.

    What the walk teaches and asks for rises, and would cover what falls beside it: those probes are cells of their own.
    """
    by_probe = {probe.id: margin for probe, margin in zip(questions.watched, found, strict=True)}
    means = {}
    for asked, words in ((True, ", asked"), (False, "")):
        probes = [probe for probe in questions.watched if questions.asks(probe) == asked]
        for cell, held in cells_of(probes).items():
            if len(held) >= least:
                means[f"{cell}{words}"] = sum(by_probe[probe.id] for probe in held) / len(held)
    return means


def sagging(
    cells: Mapping[str, float], good: Mapping[str, float], base: Mapping[str, float], limit: float
) -> dict[str, str]:
    """Cells whose mean margin lies more than `limit` nats per token below the last good state's, or the base's."""
    found = {}
    for name, margin in cells.items():
        for whose, reference in (("the last good state's", good[name]), ("the base's", base[name])):
            if reference - margin > limit:
                found[name] = f"{name} sagged to {margin:+.3f} nats per token, {reference - margin:.3f} below {whose}"
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
