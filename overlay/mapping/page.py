"""The page of a map: a table for the terminal, and the same with its words in Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from overlay.mapping.intervention_map import InterventionMap, PlaceFacts
from overlay.mapping.verdict import verdict

if TYPE_CHECKING:
    from rich.table import Table

_SHOWN = 6
"""Words of token rows that a page names."""


def map_table(found: InterventionMap) -> Table:
    """Every place: what teaching there brought, what random labels brought, and how often choices come out right."""
    from rich import box
    from rich.table import Table

    # The rest, on the page, would not fit a terminal.
    table = Table(*_HEADINGS[:_IN_TERMINAL], box=box.SIMPLE_HEAD)
    for place in found.places:
        table.add_row(*_row(found, place)[:_IN_TERMINAL])
    return table


def map_words(found: InterventionMap) -> list[str]:
    """What the map says, in sentences: the claim and its verdict, the best place, and what activations say."""
    words = []
    judged = verdict(found)
    if judged is not None:
        words.append(f'"{found.claim}" {judged.outcome}: {judged.reason}.'.replace("..", "."))
    else:
        words.append("Nothing was claimed of its place.")
    fair = [place for place in found.places if found.is_reached(place.name)] or found.places
    best = max(fair, key=lambda place: found.spreads[place.name].value)
    spread = found.spreads[best.name]
    beyond = "beyond the null" if found.is_beyond_null(best.name) else "not beyond the null"
    if found.null_reach is None:
        beyond = "with no null measured"
    words.append(
        f"Largest gain: {best.name}, {spread.value:+.2f} nats per token ({spread.low:+.2f} to {spread.high:+.2f}), "
        f"{beyond}; the best of {len(fair)} flatters."
    )
    if found.null_reach is not None:
        words.append(f"Random labels brought {found.null_reach:+.2f} at the most.")
    short = [cell.place for cell in found.cells if not cell.reached and not cell.is_null]
    if short:
        names = ", ".join(sorted(set(short)))
        words.append(f"Not at the common volatility, whatever the scale, and so not compared: {names}.")
    probed = max(found.readings, key=lambda reading: reading.accuracy)
    words.append(
        f"Activations: a probe is right most often behind block {probed.block} ({probed.accuracy:.0%}, "
        f"{probed.low:.0%} to {probed.high:.0%})."
    )
    steered = [(one.gain, one) for one in found.readings if one.gain is not None]
    if steered:
        gain, one = max(steered, key=lambda pair: pair[0])
        words[-1] += (
            f" Steering gains most at block {one.block} ({gain:+.2f}, {one.gain_low:+.2f} to {one.gain_high:+.2f})."
        )
    return words


def map_page(found: InterventionMap, picture: str = "") -> str:
    """The whole map in Markdown; `picture` is the name of the heatmap's file beside it."""
    settings = found.settings
    lines = [
        f"# Where to intervene: {found.aim} on {found.model}",
        "",
        f"Recipe `{found.recipe}`, {settings.seeds} seeds, {settings.steps} steps of {settings.batch} examples; every "
        f"place scaled to a 95th percentile of {settings.p95:g} nats per token on neutral text; {len(found.base)} "
        f"held-out choices, of which the unchanged model gets {found.base_accuracy:.0%} right. Gains are changes of "
        "ln p(good) - ln p(bad) per token, with 95% intervals over seeds and choices.",
        "",
        *(f"- {sentence}" for sentence in map_words(found)),
        "",
        *([f"![Heatmap]({picture})", ""] if picture else []),
        f"| {' | '.join(_HEADINGS)} |",
        f"|{'---|' * len(_HEADINGS)}",
        *(f"| {' | '.join(_row(found, place))} |" for place in found.places),
    ]
    judged = verdict(found)
    if judged is not None and judged.rivals:
        lines += ["", f"Claimed: {found.claimed}. Its lead, nats per token, over", ""]
        lines += [
            f"- {region}: {lead.value:+.2f} ({lead.low:+.2f} to {lead.high:+.2f})"
            for region, lead in judged.rivals.items()
        ]
    lines += ["", "| block | probe accuracy | steering gain |", "|---|---|---|"]
    for reading in found.readings:
        gain = (
            "no dose" if reading.gain is None
            else f"{reading.gain:+.2f} ({reading.gain_low:+.2f} to {reading.gain_high:+.2f})"
        )  # fmt: skip
        lines.append(f"| {reading.block} | {reading.accuracy:.2f} ({reading.low:.2f} to {reading.high:.2f}) | {gain} |")
    return "\n".join(lines) + "\n"


_HEADINGS = ("place", "claimed", "gain (95%)", "random labels", "accuracy", "scale", "rank", "parameters", "where")
_IN_TERMINAL = 5


def _row(found: InterventionMap, place: PlaceFacts) -> tuple[str, ...]:
    spread, null = found.spreads[place.name], found.null_gain(place.name)
    cells = [cell for cell in found.cells if cell.place == place.name and not cell.is_null]
    scales = [cell.scale for cell in cells]
    star = "*" if found.is_beyond_null(place.name) else ""
    return (
        place.name,
        "claimed" if place.region == found.claimed else "",
        f"{spread.value:+.2f} ({spread.low:+.2f} to {spread.high:+.2f}){star}",
        "" if null is None else f"{null:+.2f}",
        f"{found.accuracy(place.name):.2f}",
        f"{min(scales):.2g} to {max(scales):.2g}" + ("" if found.is_reached(place.name) else " (other p95)"),
        "" if place.name == "tokens" else str(place.rank),
        f"{place.parameters:,}",
        _where(place),
    )


def _where(place: PlaceFacts) -> str:
    words, blocks = place.where["tokens"], place.where["blocks"]
    if words:
        return f"rows of {', '.join(words[:_SHOWN])}" + (
            f" and {len(words) - _SHOWN} more" if len(words) > _SHOWN else ""
        )
    if place.where["head"]:
        return "output head"
    return "all blocks" if blocks == "all" else f"blocks {blocks[0]} to {blocks[1]}"
