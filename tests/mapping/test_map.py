"""A map holds every place to the same size and volatility, goes on where it was stopped, and leaves the model alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mapping.toy_aim import toy_aim, toy_recipe

from overlay.adapters import AdapterLibrary, target_layers
from overlay.errors import AdapterError, ArgumentError, DocumentError, RecordDamaged
from overlay.mapping import (
    InterventionMap,
    MapSettings,
    best_place,
    known_aims,
    map_aim,
    map_path,
    places_by_gain,
    read_aim,
    read_map,
)
from overlay.mapping.measurement import Measurement
from overlay.mapping.place import places_of
from overlay.model import Row

STOCK = Path(__file__).parents[2] / "adapters" / "lora"

QUICK = MapSettings(seeds=1, null_seeds=1, steps=6, batch=3, p95=0.05)
"""What tiny models of 258 tokens say is so even that nothing moves it by half a nat."""

SHORT = MapSettings(seeds=1, null_seeds=0, steps=1, batch=2, p95=0.01)


class Stop:
    """Presses Ctrl-C when so many cells were begun."""

    def __init__(self, at: int) -> None:
        self._at = at
        self.begun = 0

    def step(self, description: str, done: int | None, total: int | None, detail: str = "") -> None:
        if description.startswith("mapping"):
            self.begun += 1
            if self.begun == self._at:
                raise KeyboardInterrupt


def logits(model: Any) -> torch.Tensor:
    rows = [Row(text="ten z")]
    return next(found.clone() for _, found in model.logits([model.encode(rows[0]).tokens], rows))


@pytest.fixture(scope="module")
def drawn(tiny_llama: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[InterventionMap, Path]:
    folder = tmp_path_factory.mktemp("maps")
    return map_aim(tiny_llama, toy_aim(folder), folder / "maps", QUICK), folder


def test_places_are_disjoint_thirds_of_about_the_same_size(tiny_model: Any) -> None:
    places = {place.name: place for place in places_of(tiny_model, ["zebra and kiwi"])}
    assert list(places)[-2:] == ["head", "tokens"]
    for part in ("attention", "mlp"):
        depths = [
            set(target_layers(tiny_model, places[f"{depth} {part}"].where.blocks, (part,)))
            for depth in ("early", "middle", "late", "all")
        ]
        assert not depths[0] & depths[1] and not depths[1] & depths[2]
        assert depths[0] | depths[1] | depths[2] == depths[3]
    sizes = [place.parameters for name, place in places.items() if name != "tokens"]
    assert max(sizes) / min(sizes) < 1.6
    assert places["tokens"].parameters == tiny_model.width * len(set("zebra and kiwi".replace(" ", "")))


def test_sizes_agree_within_a_few_percent_where_layers_are_wide(tiny_llama: Any) -> None:
    from tiny_models import byte_tokenizer, tiny_module

    from overlay.adapters import Fitting
    from overlay.model import LanguageModel

    model = LanguageModel(tiny_module("llama", layers=9, width=64), byte_tokenizer(), "nine")
    places = places_of(model, [])
    sizes = [place.parameters for place in places]
    assert max(sizes) / min(sizes) < 1.15
    for place in (places[0], places[4], places[-1]):
        with Fitting(model, place.where, rank=place.rank) as fitting:
            assert sum(one.numel() for one in fitting.weights().values()) == place.parameters
    with pytest.raises(ArgumentError, match="three or more"):
        places_of(LanguageModel(tiny_module("llama", layers=2), byte_tokenizer(), "two"), [])


def test_every_cell_costs_the_same_and_what_is_taught_is_learned(drawn: Any) -> None:
    found, _ = drawn
    assert [place.name for place in found.places[-2:]] == ["head", "tokens"]
    assert len(found.cells) == 2 * len(found.places) == 28
    for cell in found.cells:
        assert cell.reached == (abs(cell.p95 - 0.05) <= 0.0025)
    assert sum(cell.reached for cell in found.cells) >= 24
    assert all(set(cell.items) == set(range(10)) for cell in found.cells if not cell.is_null)
    assert all(len(cell.items) == 5 for cell in found.cells if cell.is_null)
    # Six examples that all end alike teach it nearly everywhere, and random labels nowhere as much.
    assert found.null_reach is not None
    best = places_by_gain(found)[0]
    assert found.spreads[best.name].value > 2 * found.null_reach
    assert best_place(found).model_dump(mode="json") == best.where
    assert found.accuracy(best.name) > found.base_accuracy
    assert [reading.block for reading in found.readings] == [0, 1, 2]
    assert all(reading.low <= reading.accuracy <= reading.high for reading in found.readings)


def test_a_map_is_stored_whole_and_read_back(drawn: Any, tiny_llama: Any) -> None:
    found, folder = drawn
    path = map_path(folder / "maps", tiny_llama.digest, "ends_in_z")
    assert read_map(path) == found
    with pytest.raises(ArgumentError, match="overlay map nothing"):
        read_map(path.with_name("nothing.json"))
    damaged = path.with_name("damaged.json")
    for text in (found.to_json()[:-9], json.dumps({**json.loads(found.to_json()), "format": 99}), "[]"):
        damaged.write_text(text)
        with pytest.raises(RecordDamaged, match="draw it again"):
            read_map(damaged)
    damaged.unlink()


def test_a_map_that_was_stopped_goes_on_and_the_model_is_what_it_was(tiny_llama: Any, tmp_path: Path) -> None:
    before, census, aim = logits(tiny_llama), tiny_llama.census(), toy_aim(tmp_path)
    for at in (2, 4):
        with pytest.raises(KeyboardInterrupt):
            map_aim(tiny_llama, aim, tmp_path / "maps", SHORT, Stop(at))
    (folder,) = map_path(tmp_path / "maps", tiny_llama.digest, "ends_in_z").with_suffix("").iterdir()
    files = sorted(folder.iterdir())
    assert len(files) == 4
    kept = {path: path.read_bytes() for path in files}
    watch = Stop(0)
    found = map_aim(tiny_llama, aim, tmp_path / "maps", SHORT, watch)
    assert watch.begun == 10
    assert all(path.read_bytes() == content for path, content in kept.items())
    # As if it had never been stopped.
    measurement = Measurement(tiny_llama, aim, SHORT)
    for place, cell in list(zip(places_of(tiny_llama, ["z"]), found.cells, strict=True))[2:5]:
        alone = measurement.cell(place, 0)
        assert (alone.place, alone.scale, alone.margins) == (cell.place, cell.scale, cell.margins)
    assert torch.equal(logits(tiny_llama), before)
    assert tiny_llama.census() == census
    assert found.null_reach is None
    files[0].write_text("{")
    with pytest.raises(RecordDamaged, match="remove it"):
        map_aim(tiny_llama, aim, tmp_path / "maps", SHORT)


def test_what_was_stopped_inside_a_training_leaves_the_model_alone(tiny_llama: Any, tmp_path: Path) -> None:
    before, census = logits(tiny_llama), tiny_llama.census()
    wild = toy_recipe(tmp_path, **{"learning_rate: 0.02": "learning_rate: 1.0", "rank: 2": "rank: 2\nalpha: 1.0e+300"})
    from overlay.mapping import Aim

    with pytest.raises(AdapterError, match="early attention, seed 0: diverged"):
        map_aim(tiny_llama, Aim("wild", wild), tmp_path / "maps", QUICK)
    assert torch.equal(logits(tiny_llama), before)
    assert tiny_llama.census() == census


def test_aims_are_known_by_name_or_by_recipe_and_need_choices(tmp_path: Path) -> None:
    library = AdapterLibrary(STOCK, tmp_path)
    for claim in known_aims():
        aim = read_aim(library, claim.name)
        assert aim.claim == claim
        assert len(aim.recipe.held_out) >= 24
    assert read_aim(library, "causes").claim == read_aim(library, "logic").claim
    assert read_aim(library, "tender_texts").claim is None
    with pytest.raises(AdapterError, match="no aim 'peace'") as caught:
        read_aim(library, "peace")
    assert "spelling" in caught.value.next_step and "terse_style" in caught.value.next_step
    own = AdapterLibrary(tmp_path / "lora", tmp_path / "built")
    toy_recipe(tmp_path / "lora", **{'  - {prompt: "ten ", good: "z", bad: "q"}\n': ""})
    assert read_aim(own, "ends_in_z").claim is None
    text = (tmp_path / "lora" / "ends_in_z" / "recipe.yaml").read_text()
    few = [line for line in text.splitlines() if "good" not in line or "twenty" in line]
    (tmp_path / "lora" / "ends_in_z" / "recipe.yaml").write_text("\n".join(few))
    with pytest.raises(ArgumentError, match=r"1 held-out choices, and 8 are needed"):
        read_aim(own, "ends_in_z")
    (tmp_path / "lora" / "ends_in_z" / "recipe.yaml").write_text("\n".join(line for line in few if "good" not in line))
    with pytest.raises(DocumentError, match="held_out"):
        read_aim(own, "ends_in_z")


def test_settings_that_measure_nothing_are_refused() -> None:
    for wrong in ({"seeds": 0}, {"steps": 0}, {"batch": 0}, {"null_seeds": 4}, {"p95": 0.0}):
        with pytest.raises(ArgumentError, match="can't be measured"):
            MapSettings(**wrong)


def test_a_probe_finds_what_is_there_and_nothing_where_nothing_is() -> None:
    from overlay.mapping.activations import probe_hits

    random = np.random.default_rng(0)
    noise = random.standard_normal((40, 30)).astype(np.float32)
    assert 8 <= probe_hits(noise).sum() <= 32
    assert probe_hits(noise + 3 * random.standard_normal(30).astype(np.float32)).sum() >= 38
