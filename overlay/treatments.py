"""Treatments of a home by their names: an adapter, an axis, the present state or a prompt, all the same to use."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from overlay.emergent import kept_axis, living, living_axes, state_settings
from overlay.errors import ArgumentError
from overlay.home import Home
from overlay.inner import Influence, State
from overlay.model import UNTREATED, AdapterUse, Intervention, Message, Treatment
from overlay.state import present

if TYPE_CHECKING:
    from overlay.axes import Axis
    from overlay.model import LanguageModel
    from overlay.progress import Progress

FORMS = "adapter:NAME, adapter:NAME@SCALE, axis:NAME, axis:NAME@DOSE, state, prompt:TEXT, prompt:@FILE or base"
"""How treatments are written. SCALE: 1 is as trained. DOSE: in budget doses, below 0 for the axis reversed."""


def require_treatment(text: str, home: Home) -> None:
    """Raise what is wrong with a treatment that can be told before a model is loaded.

    Raises:
        ArgumentError: it has none of the FORMS, or its number, prompt or file is none.
        AdapterError, AxisMissing, DocumentError: there is no such adapter or axis, or it isn't ready.
    """
    kind, rest = _parts(text)
    if kind == "adapter":
        home.adapters.load(_strength(text, rest)[0])
    elif kind == "axis":
        name, _ = _strength(text, rest)
        if name not in living(home):
            home.axes.source(name)
    elif kind == "prompt":
        _prompt(text, rest)


@contextmanager
def read_treatment(
    text: str,
    home: Home,
    model: LanguageModel,
    *,
    progress: Progress | None = None,
    clock: Callable[[], float] = time.time,
) -> Iterator[Treatment]:
    """What a treatment's name stands for, ready inside the `with`; whatever it attached is detached after it.

    An axis that isn't built for this model yet is built first. The state is what stands in the home's journals, less
    what faded since; it acts as it would in the next turn, within the home's budget, beside what is worn always.

    Args:
        text: one of the FORMS.
        clock: gives epoch seconds: what has faded of the state goes by it.

    Raises:
        ArgumentError: it has none of the FORMS, or its number, prompt or file is none.
        AdapterError, AxisMissing, AxisUnproven, DocumentError, InterventionError, RecordDamaged, WrongBaseModel
    """
    kind, rest = _parts(text)
    with ExitStack() as stack:
        if kind == "base":
            yield UNTREATED
        elif kind == "prompt":
            yield Treatment(text, before=(Message("system", _prompt(text, rest)),), own=model.own_system)
        elif kind == "adapter":
            name, scale = _strength(text, rest)
            yield Treatment(text, stack.enter_context(home.adapters.worn(model, name, scale)))
        elif kind == "axis":
            yield lasting_treatment(text, home, model, progress=progress)
        else:
            intervention = _present(home, model, stack, progress, clock())
            yield Treatment(
                "state" if intervention != Intervention() else "state (which does nothing now)", intervention
            )


def lasting_treatment(text: str, home: Home, model: LanguageModel, *, progress: Progress | None = None) -> Treatment:
    """An adapter or an axis by its name, to be used again and again; an adapter must be resident whenever it is.

    Raises:
        ArgumentError: it is neither, or its number is none.
        AxisMissing, AxisUnproven, DocumentError: there is no such axis, or it isn't ready.
    """
    kind, rest = _parts(text)
    if kind not in ("adapter", "axis"):
        raise ArgumentError(f"'{text}' is neither an adapter nor an axis", "write adapter:NAME or axis:NAME")
    name, amount = _strength(text, rest)
    if kind == "adapter":
        return Treatment(text, Intervention(adapters=(AdapterUse(name, amount),)))
    axis = _axis(home, name, model, progress)
    axis.require_proof()
    called = text if axis.proven else f"{text} (unproven)"
    return Treatment(called, Intervention(doses=(axis.dose(amount),)))


def _parts(text: str) -> tuple[str, str]:
    """The kind of a treatment and what is said of it."""
    kind, colon, rest = text.partition(":")
    named = kind in ("adapter", "axis", "prompt") and rest
    if not (named or (kind in ("state", "base") and not colon)):
        raise ArgumentError(f"'{text}' is no treatment", f"write {FORMS}")
    return kind, rest


def _strength(text: str, rest: str) -> tuple[str, float]:
    """A name and its scale or dose, 1 where none is given."""
    name, at, written = rest.partition("@")
    try:
        strength = float(written) if at else 1.0
    except ValueError:
        strength = math.nan
    if not math.isfinite(strength):
        raise ArgumentError(f"'{written}' in '{text}' is no number", f"write a number behind the @, such as {name}@0.5")
    return name, strength


def _prompt(text: str, rest: str) -> str:
    said = rest
    if rest.startswith("@"):
        try:
            said = Path(rest[1:]).read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise ArgumentError(f"{rest[1:]} is not UTF-8 text ({error.reason})", "save it as UTF-8") from error
        except OSError as error:
            raise ArgumentError(f"{rest[1:] or 'a file'} can't be read: {error.strerror}", "check the path") from error
    if not said.strip():
        raise ArgumentError(f"the prompt of '{text}' says nothing", "write some text")
    return said.strip()


def _axis(home: Home, name: str, model: LanguageModel, progress: Progress | None) -> Axis:
    from overlay.model import VolatilityGauge

    if digest := living(home).get(name):
        return kept_axis(home, name, digest, model.digest)
    return home.axes.ready(name, model, VolatilityGauge(model), home.settings.budget, progress)


def _present(home: Home, model: LanguageModel, stack: ExitStack, progress: Progress | None, now: float) -> Intervention:
    from overlay.model import VolatilityGauge

    settings, worn = state_settings(home), home.settings.adapter
    # What is worn always shares the budget with the state, so both must be there when their cost is measured.
    for name in dict.fromkeys([*([worn.name] if worn else []), *(fade.adapter for fade in settings.fades_in)]):
        stack.enter_context(home.adapters.worn(model, name))
    gauge = VolatilityGauge(model)
    axes = [home.axes.ready(name, model, gauge, home.settings.budget, progress) for name in home.settings.state.axes]
    influence = Influence(
        [*axes, *living_axes(home, model.digest)],
        gauge,
        home.settings.budget,
        settings,
        [AdapterUse(worn.name, worn.scale)] if worn else [],
    )
    return influence.of(State({standing.axis: standing.value for standing in present(home, now)})).intervention
