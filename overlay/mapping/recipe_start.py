"""The start of a recipe: a new one's text, with the place that a map found best."""

from __future__ import annotations

import re

import yaml

from overlay.mapping.intervention_map import InterventionMap, best_place, places_by_gain

ALPHA = 2
"""LoRA's numerator by rank: what is learned is scaled as in the stock recipes."""

_WHERE = re.compile(r"^where:\n(?:[ #].*\n)+", re.MULTILINE)
_RANK = re.compile(r"^rank: .*\nalpha: .*\n", re.MULTILINE)


def placed_recipe(text: str, found: InterventionMap) -> str:
    """The text of a new recipe, its `where` and `rank` replaced by those of the best place of a map.

    Raises:
        ArgumentError: no place of the map is beyond the null.
    """
    where = best_place(found).model_dump(mode="json", exclude_defaults=True) or {"blocks": "all"}
    place = places_by_gain(found)[0]
    spread = found.spreads[place.name]
    comment = (
        f"# The best of the {len(found.places)} places on the map of '{found.aim}' ({found.model}): {place.name}, "
        f"{spread.value:+.2f} nats per\n# token ({spread.low:+.2f} to {spread.high:+.2f}).\n"
    )
    written = yaml.safe_dump({"where": where}, default_flow_style=None, sort_keys=False, allow_unicode=True, width=110)
    text = _WHERE.sub(lambda _: comment + written, text, count=1)
    return _RANK.sub(f"rank: {place.rank}\nalpha: {place.rank * ALPHA}\n", text, count=1)
