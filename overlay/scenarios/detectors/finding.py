"""Findings: what one detector says about one transcript."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """What one detector says about one transcript.

    Attributes:
        fired: whether the behaviour shows; None where the detector can't tell, which leaves the unit out.
        score: what was compared with the detector's margin, in the detector's own unit; None where it only says yes
            or no.
        reason: why it can't tell; empty where it can.
    """

    fired: bool | None
    score: float | None = None
    reason: str = ""

    @classmethod
    def excluded(cls, reason: str) -> Finding:
        """A unit that this detector leaves out."""
        return cls(None, None, reason)
