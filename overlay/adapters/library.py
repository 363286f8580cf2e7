"""The adapter library of a home: recipes that people wrote, and the adapters trained by them."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from overlay.adapters.adapter import MANIFEST, Adapter, Notes, Origin, check_adapter, file_digest, stale
from overlay.adapters.lora_files import CONFIG, WEIGHTS, base_shapes
from overlay.adapters.recipe import NAME_PATTERN, Recipe, read_recipe
from overlay.errors import AdapterError, ArgumentError, DocumentError, OverlayError
from overlay.model import AdapterUse, Intervention
from overlay.records import storage_errors, write_record

if TYPE_CHECKING:
    from overlay.model import LanguageModel
    from overlay.progress import Progress

RECIPE = "recipe.yaml"


class StaleAdapterWarning(UserWarning):
    """An adapter is worn that learned from notes which hold no longer."""


@dataclass(frozen=True)
class AdapterStatus:
    """One adapter of a home: what it was measured to do if it is trained, and why it can't be used if it can't.

    Attributes:
        stale: why what it learned is out of date; it can be used all the same.
    """

    name: str
    adapter: Adapter | None
    problem: str
    stale: tuple[str, ...] = ()


class AdapterLibrary:
    """Recipes in `written` (NAME/recipe.yaml), adapters in `built` (NAME/).

    An adapter that was taught by a curriculum, imported or mixed has no recipe.
    """

    def __init__(self, written: Path, built: Path) -> None:
        self._written = written
        self._built = built
        # A resident adapter keeps its weights when its folder is trained anew: remember which ones they are.
        self._resident: WeakKeyDictionary[LanguageModel, dict[str, str]] = WeakKeyDictionary()

    @property
    def written(self) -> Path:
        """Where the recipes lie that people wrote, one folder each."""
        return self._written

    @property
    def built(self) -> Path:
        """Where the adapters lie, one folder each."""
        return self._built

    @property
    def names(self) -> tuple[str, ...]:
        """All adapters that have a recipe, or weights."""
        found = [
            *self._written.glob(f"*/{RECIPE}"),
            *self._built.glob(f"[a-z]*/{MANIFEST}"),
        ]
        return tuple(sorted({path.parent.name for path in found}))

    def require(self, name: str) -> None:
        """Raise AdapterError unless there is an adapter of this name, trained or not; ArgumentError if it can't be."""
        check_name(name)
        if name not in self.names:
            raise AdapterError(
                f"there is no adapter '{name}'",
                f"known adapters: {', '.join(self.names) or 'none'}; write a recipe to add one",
            )

    def require_free(self, name: str) -> None:
        """Raise AdapterError if an adapter of this name is there already; ArgumentError if it can't be a name."""
        check_name(name)
        if name in self.names or (self._built / name).exists():
            raise AdapterError(f"there is an adapter '{name}' already", "choose another name, or remove that one first")

    def recipe(self, name: str) -> Recipe:
        """The recipe of an adapter.

        Raises:
            AdapterError: there is none.
            ArgumentError: the name can't be that of an adapter.
            DocumentError: the recipe is wrong, or carries another name than its folder.
        """
        check_name(name)
        path = self._written / name / RECIPE
        if not path.is_file():
            raise AdapterError(
                f"there is no adapter '{name}': {path} does not exist",
                f"known adapters: {', '.join(self.names) or 'none'}; write a recipe to add one",
            )
        recipe = read_recipe(path)
        if recipe.name != name:
            raise DocumentError(
                path, None, f"the recipe is named '{recipe.name}' and its folder '{name}'", "give both the same name"
            )
        return recipe

    def train(
        self,
        name: str,
        model_name: str,
        *,
        dtype: str = "auto",
        overrides: Mapping[str, Any] | None = None,
        resume: bool = False,
        progress: Progress | None = None,
    ) -> Adapter:
        """Train an adapter by its recipe on a copy of the model loaded for this alone. As `training.train`."""
        from overlay.adapters.training import train

        return train(
            self.recipe(name),
            model_name,
            self._built,
            dtype=dtype,
            overrides=overrides,
            resume=resume,
            progress=progress,
        )

    def add(
        self,
        model: LanguageModel,
        name: str,
        config: Mapping[str, Any],
        weights: bytes,
        *,
        aim: str,
        origin: Origin,
        made_at: float,
        notes: tuple[str, ...] = (),
        examples: tuple[str, ...] = (),
        parts: Mapping[str, float] | None = None,
        remark: str = "",
    ) -> Adapter:
        """Keep an adapter that no recipe made, after measuring on the neutral texts what it costs this model.

        `config` and `weights` have passed `check_config` and `check_weights`; the other arguments are those of
        `Adapter`. The folder is complete or not there at all, and the model is afterwards what it was before.

        Raises:
            AdapterError: the name is taken, or the weights can't be attached.
            StorageFull
        """
        from overlay.model import VolatilityGauge

        self.require_free(name)
        begun = time.monotonic()
        with storage_errors(self._built / name):
            self._built.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=f".{name}.", dir=self._built) as place:
                # The folder that is renamed lies inside, so that what remains is always cleaned up.
                made = Path(place) / name
                written = json.dumps(dict(config), indent=2).encode()
                write_record(made / CONFIG, written)
                write_record(made / WEIGHTS, weights)
                model.attach(name, made)
                try:
                    cost = VolatilityGauge(model).measure(Intervention(adapters=(AdapterUse(name),)))
                finally:
                    model.detach(name)
                adapter = Adapter(
                    name=name,
                    folder=self._built / name,
                    aim=aim,
                    recipe_digest="",
                    base_model=model.name,
                    base_digest=model.digest,
                    dtype=model.dtype,
                    weights_sha256=hashlib.sha256(weights).hexdigest(),
                    config_sha256=hashlib.sha256(written).hexdigest(),
                    held_out=0,
                    accuracy_before=None,
                    accuracy_after=None,
                    volatility_mean=cost.mean,
                    volatility_p95=cost.p95,
                    replay_kl=None,
                    steps=0,
                    ended="untrained",
                    seconds=time.monotonic() - begun,
                    seed=0,
                    origin=origin,
                    made_at=made_at,
                    notes=notes,
                    examples=examples,
                    parts=dict(parts or {}),
                    remark=remark,
                )
                write_record(made / MANIFEST, adapter.manifest())
                made.rename(self._built / name)
        return adapter

    def load(
        self, name: str, model_digest: str | None = None, shapes: Mapping[str, tuple[int, ...]] | None = None
    ) -> Adapter:
        """An adapter that fits this base model and its recipe as it is now, checked but not attached.

        Args:
            model_digest: the base model's hash; left away, any base will do.
            shapes: of the base model's layers, from `base_shapes`.

        Raises:
            AdapterError: it isn't trained, its recipe changed since, or it is not safe to load.
            WrongBaseModel: it was made on another model.
        """
        check_name(name)
        if not (self._built / name / MANIFEST).is_file():
            # Says that there is no such adapter, or no recipe that can be read, before it says that it isn't trained.
            self.recipe(name)
        adapter = check_adapter(self._built / name, model_digest, shapes)
        if adapter.origin == "trained" and adapter.recipe_digest != self.recipe(name).digest:
            raise AdapterError(
                f"the recipe of adapter '{name}' changed after it was trained", f"run `overlay adapters train {name}`"
            )
        return adapter

    @contextlib.contextmanager
    def worn(
        self, model: LanguageModel, name: str, scale: float = 1.0, memory: Notes | None = None
    ) -> Iterator[Intervention]:
        """The adapter is resident inside the `with`: put the yielded intervention on the rows that should wear it.

        An adapter that was resident before stays so; otherwise the model is afterwards what it was before,
        whatever happened inside. With `memory`, warns (StaleAdapterWarning) if notes that it learned from hold no
        longer.

        Raises:
            AdapterError: as `load`, or other weights are attached under this name.
            WrongBaseModel
        """
        worn = Intervention(adapters=(AdapterUse(name, scale),))
        adapter = self.load(name, model.digest, base_shapes(model.module))
        reasons = stale(adapter, memory) if memory is not None else ()
        if reasons:
            warnings.warn(f"adapter '{name}' is stale: {'; '.join(reasons)}", StaleAdapterWarning, stacklevel=3)
        resident = self._resident.setdefault(model, {})
        if name in model.adapters:
            if resident.get(name) != adapter.weights_sha256:
                raise AdapterError(
                    f"other weights than those in {adapter.folder} are attached as '{name}'",
                    f"detach them first: model.detach('{name}')",
                )
            yield worn
            return
        try:
            model.attach(name, adapter.folder)
            if file_digest(adapter.folder / WEIGHTS) != adapter.weights_sha256:
                raise AdapterError(f"{adapter.folder} was replaced while it was loaded", "load it again")
            resident[name] = adapter.weights_sha256
            yield worn
        finally:
            resident.pop(name, None)
            if name in model.adapters:
                model.detach(name)

    def status(self, memory: Notes | None = None) -> list[AdapterStatus]:
        """Every adapter of the home, without loading a model; with `memory`, also which of them are stale."""
        found = []
        for name in self.names:
            adapter, problem = None, ""
            try:
                check_name(name)
                if (self._built / name).exists():
                    adapter = check_adapter(self._built / name)
                    if adapter.origin == "trained" and adapter.recipe_digest != self.recipe(name).digest:
                        problem = "its recipe changed after it was trained"
                else:
                    self.recipe(name)
                    problem = "not trained yet"
            except OverlayError as error:
                problem = error.problem
            reasons = stale(adapter, memory) if adapter is not None and memory is not None else ()
            found.append(AdapterStatus(name, adapter, problem, reasons))
        return found


def check_name(name: str) -> None:
    """Raise ArgumentError for what can't be the name of an adapter, and so of its folder."""
    if not re.fullmatch(NAME_PATTERN, name):
        raise ArgumentError(
            f"'{name}' can't be the name of an adapter",
            "use a-z, 0-9 and _, a letter first, 64 at most",
        )
