"""Keys of notes and passages as SQL takes many of them: a JSON list, unpacked by json_each."""

from __future__ import annotations

import json
from collections.abc import Iterable


def key_list(keys: Iterable[int]) -> str:
    """The keys in order, as JSON."""
    return json.dumps(sorted(int(key) for key in keys))
