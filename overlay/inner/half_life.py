"""Half-lives: how fast something fades, counted in turns or in wall-clock time."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BeforeValidator, PlainSerializer

from overlay.errors import ArgumentError

LONGEST_TURNS = 10_000.0

LONGEST_SECONDS = 10 * 365.25 * 86_400
"""Ten years."""

_SECONDS = {"second": 1, "minute": 60, "hour": 3_600, "day": 86_400, "week": 604_800}
_WRITTEN = re.compile(r"([0-9][0-9.eE+-]*)\s*([a-z]+)")
_EXAMPLES = "write turns as a number (8), or a time with its unit: 30 minutes, 6 hours, 2 days"


@dataclass(frozen=True)
class HalfLife:
    """After this many turns, or seconds, half of a distance is left.

    Raises:
        ArgumentError: it isn't above 0, or above 10,000 turns or ten years.
    """

    amount: float
    unit: Literal["turns", "seconds"] = "turns"

    def __post_init__(self) -> None:
        longest = LONGEST_TURNS if self.unit == "turns" else LONGEST_SECONDS
        if not 0 < self.amount <= longest:
            limit = "10,000 turns" if self.unit == "turns" else "ten years"
            raise ArgumentError(f"a half-life of {self.amount:g} {self.unit}", f"give more than 0 and up to {limit}")

    @classmethod
    def read(cls, written: object) -> HalfLife:
        """A half-life as people write it: a number of turns, or an amount with a unit. Raises ValueError."""
        if isinstance(written, HalfLife):
            return written
        if isinstance(written, int | float) and not isinstance(written, bool):
            return cls._within(float(written), "turns")
        match = _WRITTEN.fullmatch(written.strip()) if isinstance(written, str) else None
        unit = match[2].removesuffix("s") if match else ""
        if match is None or (unit != "turn" and unit not in _SECONDS):
            raise ValueError(f"this is no half-life: {_EXAMPLES}")
        try:
            amount = float(match[1])
        except ValueError:
            raise ValueError(f"'{match[1]}' is no number: {_EXAMPLES}") from None
        return cls._within(amount, "turns") if unit == "turn" else cls._within(amount * _SECONDS[unit], "seconds")

    @classmethod
    def _within(cls, amount: float, unit: Literal["turns", "seconds"]) -> HalfLife:
        try:
            return cls(amount, unit)
        except ArgumentError as error:
            # A validator's message is one line, and says where by itself.
            raise ValueError(f"{error.problem}: {error.next_step}") from None

    def kept(self, turns: float, seconds: float) -> float:
        """The share of a distance that is left after so many turns or seconds, from 0 to 1."""
        passed = turns if self.unit == "turns" else seconds
        return float(2.0 ** (-passed / self.amount)) if passed else 1.0

    def __str__(self) -> str:
        """As `read` reads it."""
        if self.unit == "turns":
            return _counted(self.amount, "turn")
        return spell_time(self.amount)


def spell_time(seconds: float) -> str:
    """Seconds in the largest unit that they are a whole number of, such as "90 minutes"."""
    for unit, length in reversed(_SECONDS.items()):
        if seconds >= length and seconds % length == 0:
            return _counted(seconds / length, unit)
    return _counted(seconds, "second")


def spell_passed(turns: float, seconds: float) -> str:
    """How much has passed, for people: seconds in three digits of their largest unit."""
    parts = [_counted(turns, "turn")] if turns else []
    if seconds:
        unit, length = next((pair for pair in reversed(_SECONDS.items()) if seconds >= pair[1]), ("second", 1))
        parts.append(_counted(float(f"{seconds / length:.3g}"), unit))
    return " and ".join(parts) or "no time"


def _counted(amount: float, unit: str) -> str:
    number = f"{amount:.0f}" if amount % 1 == 0 else repr(float(amount))
    return f"{number} {unit}" if amount == 1 else f"{number} {unit}s"


WrittenHalfLife = Annotated[HalfLife, BeforeValidator(HalfLife.read), PlainSerializer(str)]
"""A half-life in a file that people write."""
