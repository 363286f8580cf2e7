"""Report: one page that shows what a run found, next to everything that could have made it up.

The page is a single HTML file: no network, no script, plots as inline SVG whose text stays text. It shows the
result as it is given and computes nothing that a verdict could rest on.
"""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import jinja2
from markupsafe import Markup

from overlay.errors import ArgumentError
from overlay.records import write_record

REQUIRED = ("scenario", "verdict", "headline", "model", "arms")
# The class that colours the band; the words are always there too.
VERDICTS = {"behaviour shown": "shown", "no change detected": "unchanged", "invalid": "invalid"}

# Rows of every plot and table, top to bottom; arms of other names follow in the order given.
ARM_ORDER = ("base", "treated", "reversed", "random_norm", "random_volatility", "sham")
ARM_MEANING = {
    "base": "the unchanged model",
    "treated": "the accumulated state acts",
    "reversed": "the same intervention, sign turned",
    "random_norm": "random directions with the norm of the treated dose",
    "random_volatility": "random directions with the volatility of the treated arm",
    "sham": "hook on, dose 0",
}
RANDOM_ARMS = {"random_norm": "of the same norm", "random_volatility": "of the same volatility"}

# Okabe and Ito's colours, told apart under every common colour blindness; controls are greys.
BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY = "#0072B2", "#D55E00", "#009E73", "#AA4499", "#E69F00", "#56B4E9"
INK, GREY, PALE = "#20262d", "#68717c", "#d5d9de"
ARM_COLOUR = {"treated": BLUE, "reversed": VERMILION, "base": INK}
AXIS_COLOURS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY)
SOURCE_MARKERS = {"read": "o", "inner speech": "D"}

NOTHING = "–"


@dataclass(frozen=True)
class Canvas:
    """One width that every plot is drawn at, in inches; `label` is the room left of the axes, `numbers` right."""

    name: str
    width: float
    label: float
    numbers: float
    characters: int


# A plot scaled down to a phone can't be read, so each is drawn twice and the page picks one by its width.
WIDE = Canvas("wide", width=8.6, label=1.95, numbers=2.05, characters=24)
NARROW = Canvas("narrow", width=4.3, label=1.3, numbers=0.2, characters=16)
_ROW, _TOP, _BOTTOM = 0.42, 0.26, 0.5


def write_report(result: dict[str, Any], path: Path) -> None:
    """Write the page of one scenario's result to `path`, replacing it whole or not at all.

    `result` is what `overlay run --json` prints: margins and shifts in nats per token, volatility in nats per
    token, rates as shares of 1, `seconds` in seconds. Parts that a run did not reach may be missing; the intervals
    are labelled with the result's "confidence", 0.95 where it has none.

    Raises:
        ArgumentError: a part that no report can do without is missing, or the verdict is none of the three.
        StorageFull: the disk is full.
    """
    for key in REQUIRED:
        if key not in result:
            raise ArgumentError(f"a report needs the result's {key!r}", "pass the whole result of a run")
    if result["verdict"] not in VERDICTS:
        raise ArgumentError(
            f"{result['verdict']!r} is not a verdict", "give one of: " + ", ".join(map(repr, VERDICTS)) + "."
        )
    write_record(path, _template().render(**_page(result)))


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        signed=_signed, plain=_plain, percent=_percent, p_value=_p_value, span=_span, percent_span=_percent_span
    )
    return environment.get_template("report.html.j2")


def _page(result: Mapping[str, Any]) -> dict[str, Any]:
    arms = {name: _Arm.of(name, result["arms"][name]) for name in _in_order(result["arms"])}
    path: list[Mapping[str, Any]] = list(result.get("state_path") or [])
    examples = list(result.get("examples") or [])
    options = list(examples[0]["options"]) if examples else []
    budget = _number(result.get("budget"))
    return {
        "result": result,
        "band": VERDICTS[result["verdict"]],
        "arms": arms,
        "path": path,
        "options": options,
        "examples": examples,
        "budget": budget,
        "confidence": result.get("confidence", 0.95),
        "axes": _axes_of(path),
        "sources": [source for source in SOURCE_MARKERS if any(step.get("source") == source for step in path)],
        "checks": _checks(result),
        "comparisons": list(_comparisons(arms)),
        "controlled": any(arms[name].directions for name in RANDOM_ARMS if name in arms),
        "effect": _plots("effect", "Shift of each arm against base", _effect_rows(arms), _draw_effect),
        "rates": _plots(
            "rates", "Choice rate of each arm", [a for a in arms.values() if a.rate is not None], _draw_rates
        ),
        "volatility": _plots(
            "volatility",
            "Volatility of each arm against the budget",
            [a for a in arms.values() if a.volatility_mean is not None],
            lambda axes, rows, canvas: _draw_volatility(axes, rows, canvas, budget),
        ),
        "state": _plots("state", "State after each step", path, _draw_state),
    }


@dataclass(frozen=True)
class _Arm:
    """One arm with every number either finite or None, so that a broken one leaves a gap and not a crash."""

    name: str
    label: str
    meaning: str
    colour: str
    n: int | None
    leaks: int | None
    rate: float | None
    rate_interval: tuple[float, float] | None
    mean_score: float | None
    score_interval: tuple[float, float] | None
    shift: float | None
    shift_interval: tuple[float, float] | None
    p: float | None
    volatility_mean: float | None
    volatility_p95: float | None
    directions: tuple[Mapping[str, Any], ...]

    @classmethod
    def of(cls, name: str, arm: Mapping[str, Any]) -> _Arm:
        return cls(
            name=name,
            label=str(arm.get("label") or name),
            meaning=ARM_MEANING.get(name, ""),
            colour=ARM_COLOUR.get(name, GREY),
            n=arm.get("n"),
            leaks=arm.get("leaks"),
            rate=_number(arm.get("rate")),
            rate_interval=_pair(arm.get("rate_interval")),
            mean_score=_number(arm.get("mean_score")),
            score_interval=_pair(arm.get("score_interval")),
            shift=_number(arm.get("shift")),
            shift_interval=_pair(arm.get("shift_interval")),
            p=_number(arm.get("p")),
            volatility_mean=_number(arm.get("volatility_mean")),
            volatility_p95=_number(arm.get("volatility_p95")),
            directions=tuple(arm.get("directions") or ()),
        )

    def cloud(self, key: str) -> list[float]:
        numbers = (_number(direction.get(key)) for direction in self.directions)
        return [number for number in numbers if number is not None]


def _in_order(arms: Mapping[str, Any]) -> list[str]:
    return [name for name in ARM_ORDER if name in arms] + [name for name in arms if name not in ARM_ORDER]


def _effect_rows(arms: Mapping[str, _Arm]) -> list[_Arm]:
    """The arms that have a shift; base is the zero line, not a row."""
    return [arm for name, arm in arms.items() if name != "base" and (arm.shift is not None or arm.cloud("shift"))]


def _comparisons(arms: Mapping[str, _Arm]) -> Iterator[str]:
    """How many random directions of each matching went at least as far as the treated arm, in words."""
    treated = arms["treated"].shift if "treated" in arms else None
    if treated is None:
        return
    for name, matching in RANDOM_ARMS.items():
        shifts = arms[name].cloud("shift") if name in arms else []
        if shifts:
            way = math.copysign(1.0, treated)
            as_far = sum(shift * way >= treated * way for shift in shifts)
            yield f"{as_far} of {len(shifts)} random directions {matching}"


def _checks(result: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    known = {
        "prompts_identical": ("Same prompts in all arms", "the tokens of every trial were compared between arms"),
        "sham_identical": ("Sham arm equals base", "hook on at dose 0 against no hook"),
    }
    own = [
        {"name": name, "passed": bool(result[key]), "detail": detail}
        for key, (name, detail) in known.items()
        if result.get(key) is not None
    ]
    return own + list(result.get("checks") or [])


def _axes_of(path: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(axis for step in path for axis in step.get("state", {})))


# --- numbers as text -------------------------------------------------------------------------------------------


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, Real) and math.isfinite(value) else None


def _pair(value: Any) -> tuple[float, float] | None:
    if value is None:
        return None
    low, high = (_number(end) for end in value)
    return None if low is None or high is None else (low, high)


def _signed(value: Any, digits: int = 3) -> str:
    number = _number(value)
    if number is None:
        return NOTHING
    text = f"{abs(number):.{digits}f}"
    # What rounds to zero has no sign worth printing.
    return text if float(text) == 0 else ("+" if number > 0 else "−") + text


def _plain(value: Any, digits: int = 3) -> str:
    number = _number(value)
    return NOTHING if number is None else f"{number:.{digits}f}".replace("-", "−")


def _percent(value: Any) -> str:
    number = _number(value)
    return NOTHING if number is None else f"{100 * number:.0f}%"


def _p_value(value: Any) -> str:
    number = _number(value)
    if number is None:
        return NOTHING
    return "< 0.001" if number < 0.001 else f"{number:.3f}"


def _span(value: Any) -> str:
    pair = _pair(value)
    return "" if pair is None else f"[{_signed(pair[0])}, {_signed(pair[1])}]"


def _percent_span(value: Any) -> str:
    pair = _pair(value)
    return "" if pair is None else f"[{_percent(pair[0])}, {_percent(pair[1])}]"


# --- plots -----------------------------------------------------------------------------------------------------


Draw = Callable[[Any, Sequence[Any], Canvas], float]


def _plots(name: str, title: str, rows: Sequence[Any], draw: Draw) -> Markup | None:
    """The plot at both widths as inline SVG, or None when there is nothing to draw."""
    if not rows:
        return None
    return Markup("").join(_plot(name, title, rows, draw, canvas) for canvas in (WIDE, NARROW))


def _plot(name: str, title: str, rows: Sequence[Any], draw: Draw, canvas: Canvas) -> Markup:
    import warnings

    import matplotlib
    from matplotlib.figure import Figure

    settings = {
        "svg.fonttype": "none",
        # Labels are other people's text: a dollar sign in one is not mathematics.
        "text.parse_math": False,
        "svg.hashsalt": name,
        "font.size": 9,
        "axes.edgecolor": GREY,
        "axes.labelcolor": INK,
        "text.color": INK,
        "xtick.color": GREY,
        "ytick.color": GREY,
        "xtick.labelcolor": INK,
        "ytick.labelcolor": INK,
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        # The reader's browser has the letters that the measuring font lacks.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure = Figure()
        height = draw(figure.add_subplot(), rows, canvas)
        figure.set_size_inches(canvas.width, height)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    return _inline(buffer.getvalue(), f"{name}-{canvas.name}-", title, canvas.name)


def _inline(svg: bytes, prefix: str, title: str, css_class: str) -> Markup:
    """Make an SVG document safe to stand in a page beside others: own ids, no style or metadata of its own."""
    root = ElementTree.fromstring(svg)
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.rpartition("}")[2] in {"metadata", "style"}:
                parent.remove(child)
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        attributes = {key.rpartition("}")[2]: value for key, value in element.attrib.items()}
        if "id" in attributes:
            attributes["id"] = prefix + attributes["id"]
        if "href" in attributes:
            attributes["href"] = attributes["href"].replace("#", "#" + prefix)
        if "clip-path" in attributes:
            attributes["clip-path"] = attributes["clip-path"].replace("url(#", "url(#" + prefix)
        element.attrib.clear()
        element.attrib.update(attributes)
    for size in ("width", "height"):
        root.attrib.pop(size, None)
    root.attrib.update({"class": css_class, "role": "img", "aria-label": title})
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def _printable(text: str) -> str:
    """Without the control characters that XML has no way to carry."""
    return "".join(character if character.isprintable() else " " for character in text)


def _wrapped(text: str, characters: int) -> str:
    lines = textwrap.wrap(_printable(text), characters, max_lines=2, placeholder=" …")
    return "\n".join(lines)


def _set_rows(axes: Any, rows: Sequence[_Arm], canvas: Canvas, top: float = _TOP) -> float:
    """Name one row per arm from the top down, place the axes, and return the figure's height in inches."""
    axes.set_yticks(range(len(rows)), [_wrapped(arm.label, canvas.characters) for arm in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0, pad=8)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x", color=PALE, linewidth=0.6)
    axes.set_axisbelow(True)
    height = top + _ROW * len(rows) + _BOTTOM
    _place(axes, canvas, height, canvas.label, canvas.numbers, top)
    return height


def _place(axes: Any, canvas: Canvas, height: float, left: float, right: float, top: float) -> None:
    """Put the axes inside margins given in inches, so that rows line up from plot to plot."""
    width = canvas.width
    axes.set_position(
        (left / width, _BOTTOM / height, (width - left - right) / width, (height - top - _BOTTOM) / height)
    )


def _write_numbers(axes: Any, canvas: Canvas, numbers: Sequence[tuple[str, str]]) -> None:
    """An estimate and its interval at the end of each row, where the canvas leaves room for them."""
    if canvas is not WIDE:
        return
    for row, columns in enumerate(numbers):
        for text, offset, colour in zip(columns, (14, 54), (INK, GREY), strict=True):
            axes.annotate(
                text, (1, row), xycoords=("axes fraction", "data"), xytext=(offset, 0), textcoords="offset points",
                va="center", color=colour,
            )  # fmt: skip


def _scatter_cloud(axes: Any, numbers: Sequence[float], row: int, colour: str) -> None:
    # Neighbours in size are set apart up and down, so that equal directions stay countable.
    lanes = (0.0, 0.2, -0.2, 0.1, -0.1)
    heights = [row + lanes[place % len(lanes)] for place in range(len(numbers))]
    axes.scatter(sorted(numbers), heights, s=16, color=colour, alpha=0.45, linewidths=0, zorder=2)


def _interval_bar(
    axes: Any, row: int, value: float | None, interval: tuple[float, float] | None, colour: str, marker: str = "o"
) -> None:
    if interval is not None:
        axes.plot(interval, (row, row), color=colour, linewidth=2, solid_capstyle="butt", zorder=3)
        for end in interval:
            axes.plot((end, end), (row - 0.12, row + 0.12), color=colour, linewidth=1.4, zorder=3)
    if value is not None:
        axes.plot([value], [row], marker, color=colour, markersize=7, markeredgecolor="white", zorder=4)


def _draw_effect(axes: Any, rows: Sequence[_Arm], canvas: Canvas) -> float:
    axes.axvline(0, color=INK, linewidth=1.1, zorder=1)
    for row, arm in enumerate(rows):
        _scatter_cloud(axes, arm.cloud("shift"), row, arm.colour)
        _interval_bar(axes, row, arm.shift, arm.shift_interval, arm.colour, "D" if arm.directions else "o")
    axes.annotate(
        "base", (0, 1), xycoords=("data", "axes fraction"), xytext=(0, 3), textcoords="offset points", ha="center",
        color=GREY,
    )  # fmt: skip
    axes.margins(x=0.06)
    axes.set_xlabel("shift of the mean margin (nats per token)" if canvas is WIDE else "shift (nats per token)")
    _write_numbers(axes, canvas, [(_signed(arm.shift), _span(arm.shift_interval)) for arm in rows])
    return _set_rows(axes, rows, canvas)


def _draw_rates(axes: Any, rows: Sequence[_Arm], canvas: Canvas) -> float:
    for row, arm in enumerate(rows):
        _scatter_cloud(axes, [100 * rate for rate in arm.cloud("rate")], row, arm.colour)
        ends = None if arm.rate_interval is None else (100 * arm.rate_interval[0], 100 * arm.rate_interval[1])
        _interval_bar(axes, row, None if arm.rate is None else 100 * arm.rate, ends, arm.colour)
    axes.set_xlim(-2, 102)
    axes.set_xticks(range(0, 101, 25))
    axes.set_xlabel("units in which it happened (%)")
    _write_numbers(axes, canvas, [(_percent(arm.rate), _percent_span(arm.rate_interval)) for arm in rows])
    return _set_rows(axes, rows, canvas, top=0.08)


def _draw_volatility(axes: Any, rows: Sequence[_Arm], canvas: Canvas, budget: float | None) -> float:
    for row, arm in enumerate(rows):
        mean, high = arm.volatility_mean or 0.0, arm.volatility_p95
        axes.barh(row, mean, height=0.5, color=arm.colour, alpha=0.85, zorder=2)
        if high is not None and high > mean:
            axes.plot((mean, high), (row, row), color=arm.colour, linewidth=1.2, zorder=2)
            axes.plot((high, high), (row - 0.14, row + 0.14), color=arm.colour, linewidth=1.4, zorder=2)
        dots = arm.cloud("volatility_mean")
        axes.scatter(dots, [row] * len(dots), s=11, color="white", edgecolors=INK, linewidths=0.6, zorder=4)
    if budget is not None:
        axes.axvline(budget, color=INK, linewidth=1.2, linestyle=(0, (4, 3)), zorder=3)
        axes.annotate(
            f"budget {budget:g}", (budget, 1), xycoords=("data", "axes fraction"), xytext=(0, 3),
            textcoords="offset points", ha="center", color=INK,
        )  # fmt: skip
    highest = max([0.0, *(arm.volatility_p95 or 0.0 for arm in rows), *(arm.volatility_mean or 0.0 for arm in rows)])
    axes.set_xlim(0, 1.06 * max(highest, budget or 0.0) or 1.0)
    axes.set_xlabel("volatility (nats per token)")
    _write_numbers(axes, canvas, [(_plain(arm.volatility_mean), f"p95 {_plain(arm.volatility_p95)}") for arm in rows])
    return _set_rows(axes, rows, canvas)


def _draw_state(axes: Any, path: Sequence[Mapping[str, Any]], canvas: Canvas) -> float:
    from matplotlib.lines import Line2D
    from matplotlib.ticker import MaxNLocator

    names = _axes_of(path)
    # Past about thirty steps, markers of full size would hide the lines.
    size = 6 if len(path) <= 30 else 3.5
    axes.axhline(0, color=PALE, linewidth=1, zorder=1)
    handles = []
    for place, name in enumerate(names):
        colour, dashes = AXIS_COLOURS[place % len(AXIS_COLOURS)], "-" if place < len(AXIS_COLOURS) else "--"
        steps = [(step["step"], _number(step.get("state", {}).get(name)), step.get("source")) for step in path]
        known = [(at, value, source) for at, value, source in steps if value is not None]
        axes.plot([at for at, _, _ in known], [value for _, value, _ in known], dashes, color=colour, linewidth=1.8)
        for at, value, source in known:
            hollow = source != "read"
            axes.plot(
                [at], [value], SOURCE_MARKERS.get(str(source), "s"), color=colour, markersize=size,
                markerfacecolor="white" if hollow else colour, markeredgewidth=1.4, zorder=3,
            )  # fmt: skip
        handles.append(Line2D([], [], color=colour, linestyle=dashes, label=_wrapped(name, 24)))
    handles += [
        Line2D([], [], linestyle="", marker=marker, color=GREY, markerfacecolor=fill, label=source)
        for (source, marker), fill in zip(SOURCE_MARKERS.items(), (GREY, "white"), strict=True)
        if any(step.get("source") == source for step in path)
    ]
    axes.grid(axis="y", color=PALE, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("step")
    axes.set_ylabel("state")
    columns = 4 if canvas is WIDE else 2
    legend_rows = math.ceil(len(handles) / columns)
    axes.legend(
        handles=handles, loc="lower left", bbox_to_anchor=(0, 1.0), ncols=columns, frameon=False, borderaxespad=0.2,
        handletextpad=0.6, columnspacing=1.4,
    )  # fmt: skip
    top = 0.2 + 0.2 * legend_rows
    height = 2.3 + top
    _place(axes, canvas, height, left=0.65, right=0.2, top=top)
    return height
