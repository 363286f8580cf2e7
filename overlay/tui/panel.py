"""The side panel: the state, what it costs, what was recalled, which frames woke, and how the voices ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Static

from overlay.tui.printable import printable
from overlay.tui.status import note_words

if TYPE_CHECKING:
    from overlay.frames import ActiveFrame
    from overlay.home import AgentSettings
    from overlay.inner import Dialogue
    from overlay.memory import Recalled
    from overlay.model import Volatility

_WIDTH = 33
"""Cells of a bar; odd, so that zero has a cell of its own."""

Part = str | tuple[str, str]

_FILLED = "━"
_DIM = "$foreground 55%"
_TRACK = "$foreground 25%"


class Section(Static):
    """One part of the panel: a heading and what it holds."""

    def __init__(self, heading: str, section_id: str) -> None:
        super().__init__(id=section_id, markup=False, classes="section")
        self.border_title = heading

    def fill(self, *parts: Part) -> None:
        """Show these parts of text, styled where a style is given."""
        self.update(Content.assemble(*parts))


class Panel(VerticalScroll):
    """What the last turn did, beside the conversation."""

    can_focus = False

    def __init__(self, settings: AgentSettings) -> None:
        super().__init__(id="panel")
        self._settings = settings

    def compose(self) -> ComposeResult:
        """Lay out the sections."""
        yield Section("State", "state")
        yield Section("Volatility", "volatility")
        yield Section("Recalled", "recalled")
        yield Section("Frames", "frames")
        yield Section("Inner dialogue", "dialogue")

    def on_mount(self) -> None:
        """Show what is known before the first turn."""
        self.show_state({}, {})
        budget = self._settings.budget
        self._section("volatility").fill((f"nothing spent of {budget:.3f} nats/token", _DIM))
        for name in ("recalled", "frames"):
            self._section(name).fill(("nothing yet", _DIM))
        self.show_dialogue(None)

    def show_state(self, values: Mapping[str, float], before: Mapping[str, float]) -> None:
        """One bar an axis, from -cap to cap; the part that moved since `before` stands out."""
        axes = self._settings.state.axes
        if not axes:
            self._section("state").fill(("agent.yaml names no axes", _DIM))
            return
        parts: list[Part] = []
        for name, accumulator in axes.items():
            value = values.get(name, accumulator.rest)
            moved = value - before.get(name, value)
            figures = f"{value:+.2f}  {_arrow(moved)} {moved:+.2f}"
            label = name if len(name) + len(figures) < _WIDTH else f"{name[: _WIDTH - len(figures) - 2]}…"
            parts += [("\n\n" if parts else ""), (label, "bold"), " " * (_WIDTH - len(label) - len(figures))]
            parts += [(figures[:5], "bold $primary"), (figures[5:], "$accent" if abs(moved) >= 0.005 else _DIM), "\n"]
            parts += _balance(value, value - moved, accumulator.cap)
            low, high = f"{-accumulator.cap:g}", f"+{accumulator.cap:g}"
            middle = _WIDTH // 2
            parts += [("\n" + low.ljust(middle) + "0" + high.rjust(_WIDTH - middle - 1), _DIM)]
        self._section("state").fill(*parts)

    def show_volatility(self, volatility: Volatility) -> None:
        """This turn's cost on neutral text against the budget, nats per token."""
        budget = self._settings.budget
        filled = round(_WIDTH * min(1.0, volatility.mean / budget))
        self._section("volatility").fill(
            (f"{volatility.mean:.3f}", "bold $primary"),
            f" of {budget:.3f} nats/token\n",
            (_FILLED * filled, "$primary"),
            ("─" * (_WIDTH - filled), _TRACK),
            (f"\n95th percentile {volatility.p95:.3f}", _DIM),
        )

    def show_recalled(self, recalled: Sequence[Recalled]) -> None:
        """Notes of the reply's context, best first, each with its score."""
        self._list("recalled", [(entry.score, printable(note_words(entry))) for entry in recalled])

    def show_frames(self, frames: Sequence[ActiveFrame]) -> None:
        """Active frames with their energy, in [0, 1]."""
        self._list("frames", [(entry.energy, entry.frame.name) for entry in frames])

    def show_dialogue(self, dialogue: Dialogue | None) -> None:
        """How much the voices said and how it ended; what they said stays out of sight."""
        if dialogue is not None:
            count = len(dialogue.utterances)
            self._section("dialogue").fill(
                (f"{count}", "bold $primary"),
                f" utterance{'s' if count != 1 else ''} · {dialogue.ended}\n",
                ("Ctrl+O shows what was said", _DIM),
            )
        else:
            is_off = self._settings.dialogue.mode == "off"
            self._section("dialogue").fill(("off in agent.yaml" if is_off else "nothing yet", _DIM))

    def _list(self, name: str, entries: Sequence[tuple[float, str]]) -> None:
        parts: list[Part] = []
        for figure, words in entries:
            parts += ["\n" if parts else "", (f"{figure:.2f}", "$primary"), f"  {words}"]
        self._section(name).fill(*(parts or [("none", _DIM)]))

    def _section(self, name: str) -> Section:
        return self.query_one(f"#{name}", Section)


def _arrow(moved: float) -> str:
    if abs(moved) < 0.005:
        return "·"
    return "▲" if moved > 0 else "▼"


def _balance(value: float, before: float, cap: float) -> list[Part]:
    """A bar from -cap to cap: filled from zero to the value, the part between `before` and the value apart."""
    middle = _WIDTH // 2
    place, earlier = (round(max(-1.0, min(1.0, amount / cap)) * middle) for amount in (value, before))
    parts: list[Part] = []
    for cell in range(-middle, middle + 1):
        is_filled = min(0, place) <= cell <= max(0, place)
        has_moved = min(earlier, place) <= cell <= max(earlier, place) and earlier != place and cell != earlier
        if cell == 0:
            parts.append(("┼", "$foreground"))
        elif has_moved:
            parts.append((_FILLED if is_filled else "╍", "$accent"))
        else:
            parts.append((_FILLED, "$primary") if is_filled else ("─", _TRACK))
    return parts
