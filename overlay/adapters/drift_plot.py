"""The plot and the table of a drift map: decoder blocks down, texts and feedings across."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from overlay.adapters.drift import BlockMeasure, DriftMap
from overlay.plots import BLUE, INK, FileFormat, drawn

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import NDArray
    from rich.table import Table

FAINTEST = 0.01
"""A hundredth of the floor is drawn like nothing at all."""

LABELS: dict[BlockMeasure, str] = {
    "attention": "Attention (Jensen-Shannon)",
    "hidden": "Hidden states (1 - cosine)",
    "geometry": "Geometry (1 - linear CKA)",
}

MOST_BESIDE = 3
"""Groups whose names stand below a panel as they are; the names of more are turned."""

SHOWN = 44
"""Characters of a text that a table shows."""


def draw_drift(found: DriftMap, file_format: FileFormat = "png") -> bytes:
    """The plot as the content of a file: three heatmaps and the logits; a second row where feedings were measured."""
    rows = 2 if found.feedings else 1
    return drawn("drift", lambda figure: _draw(figure, found, rows), (13, 4.6 * rows), file_format)


def drift_table(found: DriftMap) -> Table:
    """Means over blocks as multiples of the floor, text by text, with the block that moved most."""
    from rich import box
    from rich.table import Table

    table = Table(
        "", "text", "attention", "hidden", "geometry", "moved most", "nats/token",
        box=box.SIMPLE_HEAD, caption="x: multiples of what a paraphrase does in the unchanged model",
    )  # fmt: skip
    parts = {measure: found.multiples(measure) for measure in get_args(BlockMeasure)}
    group = None
    for place, one in enumerate(found.texts):
        if one.group != group:
            group = one.group
            columns = [index for index, other in enumerate(found.texts) if other.group == group]
            nats = float(np.mean([found.texts[index].drift.logits for index in columns]))
            # A text is other people's: its brackets are not markup.
            table.add_row(
                "", f"{group} (mean of {len(columns)})", *_multiples(parts, columns, found), f"{nats:.3f}", style="bold"
            )
        table.add_row(
            str(place + 1), _plain(_short(one.text)), *_multiples(parts, [place], found), f"{one.drift.logits:.3f}"
        )
    for fed in found.feedings:
        by_floor = {measure: found.feeding_multiples(measure) for measure in get_args(BlockMeasure)}
        column = [found.feedings.index(fed)]
        table.add_row(
            "", f"after {fed.feedings} feedings", *_multiples(by_floor, column, found), f"{fed.drift.logits:.3f}"
        )
    floor = found.floor
    means = [f"{floor.overall(measure):.2g}" for measure in get_args(BlockMeasure)]
    table.add_row(
        "", f"floor (median of {found.floor_pairs} pairs)", *means, "", f"{floor.logits:.3f}", style="dim",
    )  # fmt: skip
    return table


def _multiples(parts: dict[BlockMeasure, NDArray[np.float64]], columns: list[int], found: DriftMap) -> list[str]:
    means = [f"{parts[measure][:, columns].mean():.2f} x" for measure in get_args(BlockMeasure)]
    hidden = parts["hidden"][:, columns].mean(1)
    return [*means, f"block {int(hidden.argmax())}"]


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= SHOWN else f"{line[: SHOWN - 1]}…"


def _plain(text: str) -> Any:
    from rich.text import Text

    return Text(text)


def _draw(figure: Figure, found: DriftMap, rows: int) -> None:
    panels = figure.subplots(rows, 4, squeeze=False, width_ratios=(1, 1, 1, 0.7))
    measures: tuple[BlockMeasure, ...] = get_args(BlockMeasure)
    across = [found.multiples(measure) for measure in measures]
    courses = [found.feeding_multiples(measure) for measure in measures] if found.feedings else []
    top = max([1.0, *(float(part.max()) for part in (*across, *courses))])
    for column, measure in enumerate(measures):
        image = _heatmap(panels[0][column], across[column], top)
        panels[0][column].set_title(LABELS[measure])
        _name_groups(panels[0][column], found)
        if courses:
            _heatmap(panels[1][column], courses[column], top)
            panels[1][column].set_xlabel("feedings")
            _name_feedings(panels[1][column], found)
    for row in panels:
        row[0].set_ylabel("decoder block")
    _draw_logits(panels[0][3], found)
    if found.feedings:
        _draw_course(panels[1][3], found)
    bar = figure.colorbar(
        image, ax=[panels[row][column] for row in range(rows) for column in range(3)], shrink=0.8, aspect=30
    )
    # With letters as shapes there is no mathematics, in which powers of ten would be set.
    bar.ax.yaxis.set_major_formatter("{x:g}")
    bar.set_label("multiples of the paraphrase floor")
    if FAINTEST < 1 < top:
        bar.ax.axhline(1, color="white", linewidth=1.5)
    figure.suptitle(f"{found.name} on {found.model_name}: where it changes the model", fontsize=12, x=0.01, ha="left")


def _heatmap(axes: Any, values: NDArray[np.float64], top: float) -> Any:
    from matplotlib.colors import LogNorm

    image = axes.imshow(
        np.maximum(values, FAINTEST), aspect="auto", origin="lower", interpolation="nearest", cmap="cividis",
        norm=LogNorm(FAINTEST, top),
    )  # fmt: skip
    return image


def _name_groups(axes: Any, found: DriftMap) -> None:
    """Numbers of texts below, a line between groups, their names in the middle of each."""
    groups = [one.group for one in found.texts]
    starts = [place for place, group in enumerate(groups) if place == 0 or group != groups[place - 1]]
    ticks, names = [], []
    for start, stop in zip(starts, [*starts[1:], len(groups)], strict=True):
        if start:
            axes.axvline(start - 0.5, color="white", linewidth=2)
        ticks.append((start + stop - 1) / 2)
        names.append(f"{groups[start]}\n{start + 1} to {stop}" if stop - start > 1 else f"{groups[start]}\n{stop}")
    if len(names) > MOST_BESIDE:
        axes.set_xticks(ticks, [name.partition("\n")[0] for name in names], rotation=90, fontsize=8)
    else:
        axes.set_xticks(ticks, names)
    axes.tick_params(axis="x", length=0)


def _name_feedings(axes: Any, found: DriftMap) -> None:
    step = max(1, len(found.feedings) // 6)
    places = range(0, len(found.feedings), step)
    axes.set_xticks(list(places), [str(found.feedings[place].feedings) for place in places])


def _draw_logits(axes: Any, found: DriftMap) -> None:
    values = [one.drift.logits for one in found.texts]
    axes.barh(range(1, len(values) + 1), values, color=BLUE, height=0.7)
    axes.axvline(found.floor.logits, color=INK, linestyle=(0, (4, 3)), linewidth=1.1, label="paraphrase")
    axes.set_ylim(len(values) + 0.5, 0.5)
    axes.set_ylabel("text")
    axes.set_xlabel("nats per token")
    axes.set_title("Logits (KL)")
    axes.legend(loc="lower right")


def _draw_course(axes: Any, found: DriftMap) -> None:
    fed = [one.feedings for one in found.feedings]
    axes.plot(fed, [one.drift.logits for one in found.feedings], "o-", color=BLUE, markersize=3.5)
    axes.axhline(found.floor.logits, color=INK, linestyle=(0, (4, 3)), linewidth=1.1)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("feedings")
    axes.set_ylabel("nats per token")
    axes.set_title("Logits (KL)")
