"""The adapter library of a home: recipes that people wrote, and the adapters trained by them."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from overlay.adapters.adapter import Adapter, check_adapter
from overlay.adapters.recipe import NAME_PATTERN, Recipe, read_recipe
from overlay.errors import AdapterError, ArgumentError, DocumentError, OverlayError
from overlay.model import AdapterUse, Intervention

if TYPE_CHECKING:
    from overlay.model import LanguageModel
    from overlay.progress import Progress

RECIPE = "recipe.yaml"

OWN_RECIPE = "recipe.json"
"""In an adapter's own folder: a recipe that no person wrote."""


@dataclass(frozen=True)
class AdapterStatus:
    """One adapter of a home: what it was measured to do if it is trained, and why it can't be used if it can't."""

    name: str
    adapter: Adapter | None
    problem: str


class AdapterLibrary:
    """Recipes in `written` (NAME/recipe.yaml), adapters in `built` (NAME/).

    An adapter that an agent trained on its own texts carries its recipe in its own folder (NAME/recipe.json).
    """

    def __init__(self, written: Path, built: Path) -> None:
        self._written = written
        self._built = built
        # A resident adapter keeps its weights when its folder is trained anew: remember which ones they are.
        self._resident: WeakKeyDictionary[LanguageModel, dict[str, str]] = WeakKeyDictionary()

    @property
    def names(self) -> tuple[str, ...]:
        """All adapters that have a recipe."""
        found = (*self._written.glob(f"*/{RECIPE}"), *self._built.glob(f"[a-z]*/{OWN_RECIPE}"))
        return tuple(sorted({path.parent.name for path in found}))

    def recipe(self, name: str) -> Recipe:
        """The recipe of an adapter.

        Raises:
            AdapterError: there is none.
            ArgumentError: the name can't be that of an adapter.
            DocumentError: the recipe is wrong, or carries another name than its folder.
        """
        _check_name(name)
        path = self._written / name / RECIPE
        if not path.is_file() and (self._built / name / OWN_RECIPE).is_file():
            path = self._built / name / OWN_RECIPE
        if not path.is_file():
            raise AdapterError(
                f"there is no adapter '{name}': {path} does not exist",
                f"known adapters: {', '.join(self.names) or 'none'}; write a recipe to add one",
            )
        recipe = read_recipe(path) if path.name == RECIPE else _read_own(path)
        if recipe.name != name:
            raise DocumentError(
                path, None, f"the recipe is named '{recipe.name}' and its folder '{name}'", "give both the same name"
            )
        return recipe

    def train(self, name: str, model_name: str, *, dtype: str = "auto", progress: Progress | None = None) -> Adapter:
        """Train an adapter by its recipe on a copy of the model loaded for this alone. Raises as `training.train`."""
        from overlay.adapters.training import train

        return train(self.recipe(name), model_name, self._built, dtype=dtype, progress=progress)

    def load(self, name: str, model_digest: str) -> Adapter:
        """A trained adapter that fits this base model and its recipe as it is now, checked but not attached.

        Raises:
            AdapterError: it isn't trained, its recipe changed since, or it is not safe to load.
            WrongBaseModel: it was trained on another model.
        """
        recipe = self.recipe(name)
        adapter = check_adapter(self._built / name, model_digest)
        if adapter.recipe_digest != recipe.digest:
            raise AdapterError(
                f"the recipe of adapter '{name}' changed after it was trained", f"run `overlay adapters train {name}`"
            )
        return adapter

    @contextlib.contextmanager
    def worn(self, model: LanguageModel, name: str, scale: float = 1.0) -> Iterator[Intervention]:
        """The adapter is resident inside the `with`: put the yielded intervention on the rows that should wear it.

        An adapter that was resident before stays so; otherwise the model is afterwards what it was before,
        whatever happened inside.

        Raises:
            AdapterError: as `load`, or other weights are attached under this name.
            WrongBaseModel
        """
        worn = Intervention(adapters=(AdapterUse(name, scale),))
        adapter = self.load(name, model.digest)
        resident = self._resident.setdefault(model, {})
        if name in model.adapters:
            if resident.get(name) != adapter.weights_sha256:
                raise AdapterError(
                    f"other weights than those in {adapter.folder} are attached as '{name}'",
                    f"detach them first: model.detach('{name}')",
                )
            yield worn
            return
        model.attach(name, adapter.folder)
        resident[name] = adapter.weights_sha256
        try:
            yield worn
        finally:
            del resident[name]
            model.detach(name)

    def status(self) -> list[AdapterStatus]:
        """Every adapter of the home, without loading a model."""
        found = []
        for name in self.names:
            adapter, problem = None, ""
            try:
                recipe = self.recipe(name)
                if not (self._built / name).exists():
                    problem = "not trained yet"
                else:
                    adapter = check_adapter(self._built / name)
                    if adapter.recipe_digest != recipe.digest:
                        problem = "its recipe changed after it was trained"
            except OverlayError as error:
                problem = error.problem
            found.append(AdapterStatus(name, adapter, problem))
        return found


def _read_own(path: Path) -> Recipe:
    try:
        return Recipe.model_validate_json(path.read_bytes())
    except ValueError as error:
        raise DocumentError(path, None, f"this is not the recipe that was kept: {error}", "undo the adapter") from None


def _check_name(name: str) -> None:
    if not re.fullmatch(NAME_PATTERN, name):
        raise ArgumentError(
            f"'{name}' can't be the name of an adapter", "use a-z, 0-9 and _, and a letter at the start"
        )
