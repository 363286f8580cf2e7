"""Pooling: over which positions of a text an axis is read."""

from __future__ import annotations

import re
from typing import Any

from overlay.errors import ArgumentError
from overlay.model import Pool

POOLS = ("ramp", "mean", "last")

_EXPECTED = f"use {', '.join(POOLS)}, or positions counted from the end, such as -1,-2"


def read_pool(text: str) -> Pool:
    """A pool as people write it: "ramp", "mean", "last", or positions from the end such as "-1,-2".

    Raises:
        ArgumentError: it is none of these.
    """
    if re.fullmatch(r"\s*-\d+\s*(,\s*-\d+\s*)*", text):
        return check_pool(tuple(int(part) for part in text.split(",")))
    return check_pool(text)


def check_pool(pool: Any) -> Pool:
    """The pool itself, when it is one.

    Raises:
        ArgumentError: it is no known word, and no tuple of different negative positions.
    """
    known = pool in POOLS if isinstance(pool, str) else _are_positions(pool)
    if not known:
        raise ArgumentError(f"{write_pool(pool)!r} is not a pool", _EXPECTED)
    found: Pool = pool
    return found


def write_pool(pool: Any) -> str:
    """A pool as people write it; `read_pool` reads it back."""
    return ",".join(str(position) for position in pool) if isinstance(pool, tuple | list) else str(pool)


def _are_positions(pool: Any) -> bool:
    if not isinstance(pool, tuple) or not pool:
        return False
    return all(type(position) is int and position < 0 for position in pool) and len(set(pool)) == len(pool)
