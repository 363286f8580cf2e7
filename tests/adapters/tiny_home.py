"""A home with a tiny saved model and adapters trained on it for a few steps."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from overlay.adapters import AdapterLibrary, Recipe

TEMPLATE = """\
name: {name}
aim: Continue everything with {letter}.
examples:
  - {{prompt: "one ", target: "{letter}{letter}{letter}"}}
  - {{prompt: "two ", target: "{letter}{letter}"}}
  - {{target: "{letter} stands alone"}}
held_out:
  - {{prompt: "three ", good: "{letter}", bad: "q"}}
  - {{prompt: "four ", good: "{letter}", bad: "x"}}
replay: ["The river rises in the hills.", "A list, in order: 1, 2, 3.", "Rain in the north."]
steps: {steps}
batch: 2
rank: 2
learning_rate: 0.02
budget: 50
"""


@dataclass(frozen=True)
class TinyHome:
    """Where the recipes, the trained adapters and the model are."""

    written: Path
    built: Path
    model_folder: Path

    @property
    def library(self) -> AdapterLibrary:
        return AdapterLibrary(self.written, self.built)

    def write(self, name: str, **values: Any) -> None:
        (self.written / name).mkdir(parents=True, exist_ok=True)
        text = TEMPLATE.format(**{"name": name, "letter": "z", "steps": 5, **values})
        (self.written / name / "recipe.yaml").write_text(text)

    def load_model(self) -> Any:
        from overlay.model import LanguageModel

        return LanguageModel.load(str(self.model_folder), dtype="float32")


@pytest.fixture(scope="session")
def tiny_model_folder(tmp_path_factory: pytest.TempPathFactory, tiny_llama: Any) -> Path:
    folder = tmp_path_factory.mktemp("tiny-model")
    tiny_llama.module.save_pretrained(folder)
    tiny_llama.tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def home(tmp_path: Path, tiny_model_folder: Path) -> TinyHome:
    """A home with one recipe, nothing trained."""
    made = TinyHome(tmp_path / "lora", tmp_path / "built", tiny_model_folder)
    made.write("ends_in_z")
    return made


@pytest.fixture(scope="session")
def trained_home(tmp_path_factory: pytest.TempPathFactory, tiny_model_folder: Path) -> TinyHome:
    """A home with three trained adapters; the tests only read it."""
    root = tmp_path_factory.mktemp("home")
    made = TinyHome(root / "lora", root / "built", tiny_model_folder)
    for name, letter in (("ends_in_z", "z"), ("ends_in_k", "k"), ("lora", "w")):
        made.write(name, letter=letter)
        made.library.train(name, str(tiny_model_folder), dtype="float32")
    return made


@pytest.fixture
def recipe(home: TinyHome) -> Recipe:
    return home.library.recipe("ends_in_z")
