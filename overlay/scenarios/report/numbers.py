"""Numbers as a reader sees them: signed, in percent, with their intervals; what was not measured is a dash."""

from __future__ import annotations

import json
import math
from numbers import Real
from typing import Any

NOTHING = "–"


def number(value: Any) -> float | None:
    """A finite float, or None for all else; truth values are no numbers."""
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    return float(value) if is_number and math.isfinite(value) else None


def pair(value: Any) -> tuple[float, float] | None:
    """Both ends of an interval, or None when an end is missing."""
    if value is None:
        return None
    low, high = (number(end) for end in value)
    return None if low is None or high is None else (low, high)


def signed(value: Any, digits: int = 3) -> str:
    found = number(value)
    if found is None:
        return NOTHING
    text = f"{abs(found):.{digits}f}"
    # What rounds to zero has no sign worth printing.
    return text if float(text) == 0 else ("+" if found > 0 else "−") + text


def plain(value: Any, digits: int = 3) -> str:
    found = number(value)
    return NOTHING if found is None else f"{found:.{digits}f}".replace("-", "−")


def percent(value: Any) -> str:
    found = number(value)
    return NOTHING if found is None else f"{100 * found:.0f}%"


def points(value: Any) -> str:
    """A difference of two rates, in percentage points."""
    found = number(value)
    return NOTHING if found is None else signed(100 * found, 0)


def p_value(value: Any) -> str:
    found = number(value)
    if found is None:
        return NOTHING
    return "< 0.001" if found < 0.001 else f"{found:.3f}"


def evidence(value: Any) -> str:
    """An e-value, to three digits."""
    found = number(value)
    return NOTHING if found is None else f"{found:.3g}"


def span(value: Any) -> str:
    ends = pair(value)
    return "" if ends is None else f"[{signed(ends[0])}, {signed(ends[1])}]"


def percent_span(value: Any) -> str:
    ends = pair(value)
    return "" if ends is None else f"[{percent(ends[0])}, {percent(ends[1])}]"


def points_span(value: Any) -> str:
    ends = pair(value)
    return "" if ends is None else f"[{points(ends[0])}, {points(ends[1])}]"


def listing(value: Any) -> str:
    """Nested settings as indented JSON."""
    return json.dumps(value, ensure_ascii=False, indent=1, default=str)


FILTERS = {
    made.__name__: made
    for made in (signed, plain, percent, points, p_value, evidence, span, percent_span, points_span, listing)
}
"""The names under which templates use them."""
