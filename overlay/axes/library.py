"""The axis library of a home: contrast sets that people wrote, and the axes built from them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from overlay.axes.axis import Axis, load_axis
from overlay.axes.contrast import ContrastSet, read_contrast
from overlay.errors import AxisMissing, DocumentError, OverlayError, RecordDamaged, WrongBaseModel

if TYPE_CHECKING:
    from overlay.model import LanguageModel, VolatilityGauge
    from overlay.progress import Progress

CONFIRMATION_SUFFIX = ".confirm.yaml"


@dataclass(frozen=True)
class AxisStatus:
    """One axis of a home: whether it is built, and why it can't be used if it can't."""

    name: str
    axis: Axis | None
    problem: str


class AxisLibrary:
    """Contrast sets in `written` (NAME.yaml), axes in `built` (NAME.safetensors)."""

    def __init__(self, written: Path, built: Path) -> None:
        self._written = written
        self._built = built

    @property
    def names(self) -> tuple[str, ...]:
        """All axes that have a contrast set."""
        return tuple(
            sorted(path.stem for path in self._written.glob("*.yaml") if not path.name.endswith(CONFIRMATION_SUFFIX))
        )

    def contrast(self, name: str) -> ContrastSet:
        """The contrast set of an axis. Raises AxisMissing, DocumentError."""
        path = self._written / f"{name}.yaml"
        if name not in self.names:
            raise AxisMissing(
                f"there is no axis '{name}': {path} does not exist",
                f"known axes: {', '.join(self.names) or 'none'}; write a contrast set to add one",
            )
        contrast = read_contrast(path)
        if contrast.name != name:
            raise DocumentError(
                path, None, f"the axis in this file is named '{contrast.name}'", "give file and axis the same name"
            )
        return contrast

    def load(self, name: str, model_digest: str) -> Axis:
        """A built axis that fits the model and its contrast set as it is now.

        Raises:
            AxisMissing: it has no contrast set, isn't built, or its contrast set changed since.
            WrongBaseModel, RecordDamaged
        """
        contrast = self.contrast(name)
        axis = load_axis(self._built / f"{name}.safetensors", model_digest)
        if axis.data_digest != contrast.digest:
            raise AxisMissing(
                f"the texts of axis '{name}' changed after it was built", f"run `overlay axes build {name}`"
            )
        return axis

    def ready(
        self, name: str, model: LanguageModel, gauge: VolatilityGauge, budget: float, progress: Progress | None = None
    ) -> Axis:
        """The axis, built first when it isn't built for this model, these texts and this budget yet.

        An axis can always be built again, so one that can't be read (an older format) is replaced as well.
        """
        try:
            axis = self.load(name, model.digest)
            if axis.calibration.budget == budget:
                return axis
        except (AxisMissing, RecordDamaged, WrongBaseModel):
            pass
        return self.build(name, model, gauge, budget=budget, progress=progress)

    def build(
        self,
        name: str,
        model: LanguageModel,
        gauge: VolatilityGauge,
        *,
        budget: float,
        method: str = "discriminant",
        progress: Progress | None = None,
    ) -> Axis:
        """Build and save an axis, whether it passes its checks or not."""
        from overlay.axes.build import build_axis, read_confirmation

        confirmation = self._written / f"{name}{CONFIRMATION_SUFFIX}"
        axis = build_axis(
            self.contrast(name),
            model,
            gauge,
            method=method,
            budget=budget,
            confirmation=read_confirmation(confirmation) if confirmation.exists() else None,
            progress=progress,
        )
        axis.save(self._built)
        return axis

    def status(self) -> list[AxisStatus]:
        """Every axis of the home, without loading a model."""
        found = []
        for name in self.names:
            axis, problem = None, ""
            try:
                contrast = self.contrast(name)
                axis = load_axis(self._built / f"{name}.safetensors")
                axis.require_proof()
                if axis.data_digest != contrast.digest:
                    problem = "its texts changed after it was built"
            except AxisMissing:
                problem = "not built yet"
            except OverlayError as error:
                problem = error.problem
            found.append(AxisStatus(name, axis, problem))
        return found
