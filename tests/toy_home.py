"""Toy homes: the stock home made small, with an axis that a random-weight model can have."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import yaml
from adapters.tiny_home import TEMPLATE
from tiny_models import byte_tokenizer, tiny_module
from toy_axis import BUDGET, toy_contrast, write_contrast

from overlay.frames import calibrate, cues_digest, read_frames
from overlay.home import Home, create_home
from overlay.memory import SentenceEmbedder
from overlay.model import LanguageModel, VolatilityGauge

KEPT_NOTES = ("volatility.md", "budget.md", "axis.md")
KEPT_FRAMES = ("analogy", "cause_and_effect", "contradiction", "ledger", "other_side")


def toy_settings(embedder: Path | str, **changes: Any) -> dict[str, Any]:
    """The content of a quick agent.yaml."""
    settings: dict[str, Any] = {
        "name": "toy",
        "embedder": str(embedder),
        "system": "You answer.",
        "budget": BUDGET,
        "state": {"axes": {"vowels": {"half_life": 4, "gain": 0.3}}},
        "dialogue": {"rounds": 1, "voices": 2},
        "recall": {"count": 2, "history": 4},
        "reply": {"max_tokens": 12},
    }
    return settings | changes


def create_toy_home(folder: Path, embedder: Path | str, **changes: Any) -> Home:
    """A home with few notes and frames, quick voices and the axis "vowels"."""
    home = create_home(folder)
    for note in home.notes.iterdir():
        if note.name not in KEPT_NOTES:
            note.unlink()
    for path in home.frames.glob("*.yaml"):
        frame = yaml.safe_load(path.read_text(encoding="utf-8"))
        if path.stem not in KEPT_FRAMES:
            path.unlink()
            continue
        frame["links"] = {goal: weight for goal, weight in frame.get("links", {}).items() if goal in KEPT_FRAMES}
        path.write_text(yaml.safe_dump(frame, allow_unicode=True), encoding="utf-8")
    for path in home.voices.glob("*.yaml"):
        voice = yaml.safe_load(path.read_text(encoding="utf-8"))
        path.write_text(yaml.safe_dump(voice | {"max_tokens": 8}), encoding="utf-8")
    shutil.rmtree(home.folder / "adapters" / "steering")
    write_contrast(home.folder / "adapters" / "steering", toy_contrast())
    home = write_settings(home.folder, toy_settings(embedder, **changes))
    if Path(embedder).is_dir():
        # What an agent would make when it is opened for the first time, and every toy home's is the same.
        home.calibrated_frames.parent.mkdir(exist_ok=True)
        home.calibrated_frames.write_text(calibrated_frames(home.frames, Path(embedder)), encoding="utf-8")
    return home


_CALIBRATED: dict[tuple[Path, str], str] = {}


def calibrated_frames(frames: Path, embedder: Path) -> str:
    """The calibration of the frames in a folder, as a home keeps it."""
    written = read_frames(frames)
    key = (embedder, cues_digest(written))
    if key not in _CALIBRATED:
        _CALIBRATED[key] = json.dumps(calibrate(written, SentenceEmbedder(embedder, embedder.name)).to_plain())
    return _CALIBRATED[key]


def build_along_reading(home: Home, model: LanguageModel) -> None:
    """Build "vowels" anew to act along what it reads; what makes random weights likelier, no attention does."""
    home.axes.build("vowels", model, VolatilityGauge(model), budget=BUDGET, method="discriminant", writes="reading")


def write_settings(folder: Path, settings: dict[str, Any]) -> Home:
    """Replace agent.yaml and open the home again."""
    (folder / "agent.yaml").write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
    return Home.open(folder)


def create_fading_home(folder: Path, embedder: Path | str, **changes: Any) -> Home:
    """A toy home whose model lies beside it, with an adapter that fades in along "vowels"."""
    tiny_module("llama").save_pretrained(folder / "model")
    byte_tokenizer().save_pretrained(folder / "model")
    model = str(folder / "model")
    home = create_toy_home(folder / "home", embedder, model=model, **changes)
    recipe = home.folder / "adapters" / "lora" / "ends_in_z" / "recipe.yaml"
    recipe.parent.mkdir(parents=True)
    recipe.write_text(TEMPLATE.format(name="ends_in_z", letter="z", steps=5))
    home.adapters.train("ends_in_z", model, dtype="float32")
    fades = [{"axis": "vowels", "adapter": "ends_in_z", "from": 0.1, "to": 0.3}]
    state = {"axes": {"vowels": {"gain": 0.5}}, "fades_in": fades}
    return write_settings(home.folder, toy_settings(embedder, model=model, state=state, **changes))
