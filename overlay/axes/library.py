"""The axis library of a home: contrast sets and control vectors, and the axes built from them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from overlay.axes.axis import Axis, load_axis
from overlay.axes.calibration import DOSES, FULL, QUICK, calibrate_fully
from overlay.axes.contrast import ContrastSet, read_contrast
from overlay.axes.control_vector import ControlVector, axis_vector, read_control_vector, write_control_vector
from overlay.axes.separation import DEFAULT_METHOD, DEFAULT_WRITES, METHODS
from overlay.axes.text import Text
from overlay.errors import (
    ArgumentError,
    AxisMissing,
    DocumentError,
    OverlayError,
    RecordDamaged,
    WrongBaseModel,
)
from overlay.records import write_record

if TYPE_CHECKING:
    from overlay.model import LanguageModel, Pool, VolatilityGauge
    from overlay.progress import Progress

CONFIRMATION_SUFFIX = ".confirm.yaml"

Pairs = Sequence[tuple[str, str]]
"""A text that an axis should fire on and its twin, each."""


@dataclass(frozen=True)
class AxisStatus:
    """One axis of a home: whether it is built, and what speaks against using it.

    Attributes:
        problem: why it can't be used, or what it did not pass though somebody forced it; empty when
            nothing is wrong.
    """

    name: str
    axis: Axis | None
    problem: str

    @property
    def proven(self) -> bool:
        """Whether it is built and passed its checks."""
        return self.axis is not None and self.axis.proven

    @property
    def forced(self) -> bool:
        """Whether it may be used only because a person decided so."""
        return self.axis is not None and self.axis.forced and not self.axis.proven


class AxisLibrary:
    """What axes are made from in `written`, the axes themselves in `built` (NAME.safetensors).

    An axis is made from a contrast set (NAME.yaml) or from an imported control vector (NAME.gguf):
    either is its source, and everything in `built` can be made from it again. An imported axis has a
    name, a status and can be loaded like any other; it has no contrast set and no evidence.
    Pairs of texts that an axis was grown from beyond its contrast set lie beside it, by its data digest.
    """

    def __init__(self, written: Path, built: Path) -> None:
        self._written = written
        self._built = built

    @property
    def names(self) -> tuple[str, ...]:
        """All axes that have a source."""
        written = [path for path in self._written.glob("*.yaml") if not path.name.endswith(CONFIRMATION_SUFFIX)]
        return tuple(sorted({path.stem for path in (*written, *self._written.glob("*.gguf"))}))

    def source(self, name: str) -> ContrastSet | ControlVector:
        """What an axis is made from.

        Raises:
            AxisMissing: it has no source. DocumentError: its contrast set is wrong, or it has two sources.
            RecordDamaged: its control vector can't be read.
        """
        path, vector = self._written / f"{name}.yaml", self._written / f"{name}.gguf"
        if name not in self.names:
            raise AxisMissing(
                f"there is no axis '{name}': {path} does not exist",
                f"known axes: {', '.join(self.names) or 'none'}; write a contrast set to add one",
            )
        if not path.exists():
            return read_control_vector(vector)
        if vector.exists():
            raise DocumentError(path, None, f"{vector.name} beside it is an axis of the same name", "rename one")
        contrast = read_contrast(path)
        if contrast.name != name:
            raise DocumentError(
                path, None, f"the axis in this file is named '{contrast.name}'", "give file and axis the same name"
            )
        return contrast

    def contrast(self, name: str) -> ContrastSet:
        """The contrast set of an axis. Raises AxisMissing, also for an imported axis, DocumentError."""
        source = self.source(name)
        if isinstance(source, ControlVector):
            raise AxisMissing(
                f"axis '{name}' was imported from a control vector: it has no contrast set", "write one to check it"
            )
        return source

    def confirmation(self, name: str) -> dict[str, tuple[Text, ...]]:
        """Texts by group that only confirm an axis; empty when there are none. Raises DocumentError."""
        from overlay.axes.build import read_confirmation

        path = self._written / f"{name}{CONFIRMATION_SUFFIX}"
        return read_confirmation(path) if path.exists() else {}

    def grown(self, name: str, pairs: Pairs) -> ContrastSet:
        """The contrast set of an axis with further pairs. Raises as `contrast`, ValueError: these can't be added."""
        written = self.contrast(name)
        positive = (*written.positive, *(one for one, _ in pairs))
        negative = (*written.negative, *(twin for _, twin in pairs))
        return ContrastSet.model_validate({**dict(written), "positive": positive, "negative": negative})

    def load(self, name: str, model_digest: str | None = None) -> Axis:
        """A built axis that fits its source as it is now and, when a model's digest is given, that model.

        Raises:
            AxisMissing: it has no source, isn't built, or its source changed since.
            DocumentError, WrongBaseModel, RecordDamaged
        """
        source = self.source(name)
        axis = load_axis(self._file(name), model_digest)
        if axis.data_digest != source.digest and not self._growth(axis):
            raise AxisMissing(f"{_changed(source, name)} after it was built", f"run `overlay axes build {name}`")
        return axis

    def ready(
        self, name: str, model: LanguageModel, gauge: VolatilityGauge, budget: float, progress: Progress | None = None
    ) -> Axis:
        """The axis, built first when it isn't built for this model, these texts and this budget yet.

        An axis can always be built again, so one that can't be read (an older format) is replaced as well.
        """
        pairs: Pairs = ()
        try:
            axis = self.load(name, model.digest)
            if axis.calibration.budget == budget:
                return axis
            pairs = self._growth(axis)
        except (AxisMissing, RecordDamaged, WrongBaseModel):
            pass
        choices = self._earlier_choices(name, model)
        return self.build(name, model, gauge, budget=budget, pairs=pairs, progress=progress, **choices)

    def build(
        self,
        name: str,
        model: LanguageModel,
        gauge: VolatilityGauge,
        *,
        budget: float,
        method: str | None = None,
        writes: str | None = None,
        pool: Pool = "ramp",
        force: bool = False,
        pairs: Pairs = (),
        into: Path | None = None,
        progress: Progress | None = None,
    ) -> Axis:
        """Build and save an axis, whether it passes its checks or not.

        Args:
            method: how contrast texts become a direction; levelled when not given.
            writes: along what a dose acts, `gradient` (when not given) or `reading`.
            force: let it be used even if it does not pass; it stays unproven.
            pairs, into: texts to grow it from beside those that people wrote; another folder to save it in.

        Raises:
            ArgumentError: unknown method or pool, or a method for an imported axis.
            AxisMissing, DocumentError, RecordDamaged, WrongBaseModel
        """
        source = self.source(name)
        if isinstance(source, ControlVector):
            from overlay.axes.imported import build_imported_axis

            if method is not None:
                raise ArgumentError(
                    f"axis '{name}' was imported: there are no texts for the method '{method}'", "leave out --method"
                )
            if writes == "gradient":
                raise ArgumentError(
                    f"axis '{name}' was imported: there are no texts to differentiate", "leave out --writes"
                )
            axis = build_imported_axis(name, source, model, gauge, pool=pool, budget=budget, progress=progress)
        else:
            from overlay.axes.build import build_axis

            axis = build_axis(
                self.grown(name, pairs) if pairs else source,
                model,
                gauge,
                method=method or DEFAULT_METHOD,
                writes=writes or DEFAULT_WRITES,
                pool=pool,
                budget=budget,
                confirmation=self.confirmation(name) or None,
                progress=progress,
            )
        axis = replace(axis, forced=force)
        if pairs:
            write_record(growth_file(into or self._built, axis), json.dumps(pairs, ensure_ascii=False))
        axis.save(into or self._built)
        return axis

    def calibrate(
        self,
        name: str,
        model: LanguageModel,
        gauge: VolatilityGauge,
        *,
        budget: float,
        doses: int = DOSES,
        directions: int | None = None,
        quick: bool = False,
        progress: Progress | None = None,
    ) -> Axis:
        """Measure fully what doses of an axis do, and save it with the axis, which is built first if need be.

        The confirmation texts are measured; without any, the contrast texts, which the axis was built from. An
        imported axis has no texts: only its costs and its limit are found. The axis is replaced at the very end.

        Raises:
            ArgumentError: doses or directions that mean nothing, a text too short to be scored, or nothing to measure.
            AxisMissing, DocumentError, RecordDamaged
        """
        axis = self.ready(name, model, gauge, budget, progress)
        source = self.source(name)
        fresh = self.confirmation(name) if isinstance(source, ContrastSet) else {}
        groups: Mapping[str, Sequence[Text]] = {} if isinstance(source, ControlVector) else source.groups()
        calibration = calibrate_fully(
            axis.writing,
            axis.blocks,
            fresh or groups,
            gauge,
            budget,
            fresh=bool(fresh),
            doses=doses,
            directions=directions,
            effort=QUICK if quick else FULL,
            progress=progress,
        )
        axis = replace(axis, calibration=calibration)
        axis.save(self._built)
        return axis

    def import_vector(
        self,
        path: Path,
        name: str,
        model: LanguageModel,
        gauge: VolatilityGauge,
        *,
        budget: float,
        pool: Pool = "ramp",
        force: bool = False,
        progress: Progress | None = None,
    ) -> Axis:
        """Make an axis of a control vector and keep a copy of the file as the axis's source.

        Raises:
            ArgumentError: no such file, a name that isn't one or is taken, unknown pool.
            RecordDamaged: the file is no control vector. WrongBaseModel: it doesn't fit the model.
        """
        from overlay.axes.imported import build_imported_axis

        self.require_free(name, path)
        vector = read_control_vector(path)
        axis = build_imported_axis(name, vector, model, gauge, pool=pool, budget=budget, progress=progress)
        axis = replace(axis, forced=force)
        write_record(self._written / f"{name}.gguf", path.read_bytes())
        axis.save(self._built)
        return axis

    def require_free(self, name: str, path: Path) -> None:
        """Raise ArgumentError unless an axis of this name may be made of the control vector in `path`."""
        if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
            raise ArgumentError(f"'{name}' is no name for an axis", "use small letters, digits and _")
        if not path.is_file():
            raise ArgumentError(f"there is no file {path}", "name a control vector in GGUF format")
        kept = self._written / f"{name}.gguf"
        if name in self.names and not (kept.exists() and kept.read_bytes() == path.read_bytes()):
            raise ArgumentError(f"there is an axis '{name}' already", "give another --name")

    def export_vector(self, name: str, path: Path, amount: float = 1.0) -> Axis:
        """Write a built axis as a control vector: llama.cpp's scale 1 is `amount` times its budget dose.

        Raises:
            ArgumentError: the file exists, the axis acts at block 0, or the amount is 0.
            AxisMissing, AxisUnproven, DocumentError, RecordDamaged
        """
        axis = self.load(name)
        axis.require_proof()
        vector = axis_vector(axis, amount)
        state = "proven" if axis.proven else f"unproven, forced: {'; '.join(axis.evidence.failures)}"
        write_control_vector(
            path,
            vector,
            name,
            f"axis '{name}' of {axis.model_name} by {axis.method}, {state}; scale 1 is {amount:g} times the dose that "
            f"costs {axis.calibration.budget:g} nats per token",
        )
        return axis

    def status(self) -> list[AxisStatus]:
        """Every axis of the home, without loading a model."""
        found = []
        for name in self.names:
            axis, problem = None, ""
            try:
                source = self.source(name)
                axis = load_axis(self._file(name))
                if axis.data_digest != source.digest and not self._growth(axis):
                    problem = f"{_changed(source, name)} after it was built"
                else:
                    axis.require_proof()
                    if not axis.proven:
                        problem = f"unproven, forced: {'; '.join(axis.evidence.failures)}"
            except AxisMissing:
                problem = "not built yet"
            except OverlayError as error:
                problem = error.problem
            found.append(AxisStatus(name, axis, problem))
        return found

    def _file(self, name: str) -> Path:
        return self._built / f"{name}.safetensors"

    def _growth(self, axis: Axis) -> Pairs:
        """The pairs that an axis was grown from, while they and what people wrote are still what it was made of."""
        try:
            found = json.loads(growth_file(self._built, axis).read_text(encoding="utf-8"))
            pairs = tuple((str(one), str(twin)) for one, twin in found)
            return pairs if self.grown(axis.name, pairs).digest == axis.data_digest else ()
        except (OSError, ValueError, TypeError, AxisMissing, DocumentError):
            return ()

    def _earlier_choices(self, name: str, model: LanguageModel) -> dict[str, Any]:
        """How the axis was built before, as arguments of `build`: building again must not change what it is.

        Force holds for the axis that was looked at: the same source on the same model.
        """
        try:
            axis = load_axis(self._file(name))
        except OverlayError:
            return {}
        fits = axis.data_digest == self.source(name).digest or bool(self._growth(axis))
        same = axis.model_digest == model.digest and fits
        choices: dict[str, Any] = {"pool": axis.pool, "force": axis.forced and same}
        if axis.method in METHODS:
            choices |= {"method": axis.method, "writes": axis.writes}
        return choices


def growth_file(folder: Path, axis: Axis) -> Path:
    """Where the pairs lie that an axis was grown from."""
    return folder / f"{axis.name}.{axis.data_digest[:16]}.grown.json"


def _changed(source: ContrastSet | ControlVector, name: str) -> str:
    what = "texts" if isinstance(source, ContrastSet) else "control vector"
    return f"the {what} of axis '{name}' changed"
