"""A calibrated axis carries what its doses do, refuses the ones that break text, and says only what was measured."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from toy_axis import BUDGET, LETTERS, toy_contrast, toy_texts, write_contrast

from overlay.axes import Axis, AxisLibrary, Calibration, calibration_tables, findings, load_axis, write_page
from overlay.axes.calibration import QUICK, calibrate_fully
from overlay.errors import ArgumentError, InterventionError, RecordDamaged
from overlay.model import VolatilityGauge

FRESH = {group: tuple(toy_texts(LETTERS[group], 6, seed=3)) for group in ("positive", "negative", "foil")}
DIRECTIONS = 2


@pytest.fixture(scope="module")
def calibrated(toy_axis: Axis, tiny_gauge: VolatilityGauge) -> Axis:
    found = calibrate_fully(
        toy_axis.writing, toy_axis.blocks, FRESH, tiny_gauge, BUDGET,
        fresh=True, doses=7, directions=DIRECTIONS, effort=QUICK,
    )  # fmt: skip
    return replace(toy_axis, calibration=found)


def limited(axis: Axis, reach: float) -> Axis:
    """The axis with a limit of `reach` budget doses."""
    found = axis.calibration
    return replace(axis, calibration=replace(found, limit=reach * found.budget_dose, falls_apart=True))


# --- doses ---------------------------------------------------------------------------------------


def test_every_built_axis_has_a_limit_that_its_budget_dose_respects(toy_axis: Axis) -> None:
    found = toy_axis.calibration
    assert 0 < found.budget_dose <= found.limit and found.spends_budget
    assert {point.dose for point in found.coherence} >= {0.0, found.limit, -found.limit}
    assert found.response is None and not found.comparisons and found.sweep is None


@pytest.mark.parametrize("sign", [1, -1])
def test_a_dose_beyond_the_limit_is_refused_with_the_limit_and_what_to_give(toy_axis: Axis, sign: int) -> None:
    axis = limited(toy_axis, 1.75)
    assert axis.reach == pytest.approx(1.75)
    for amount in (1.75, axis.reach, 1.0, 0.0):
        dose = axis.dose(sign * amount)
        assert dose.coefficient == pytest.approx(sign * amount * axis.calibration.budget_dose)
    for amount in (1.76, 3.0, 1e9):
        with pytest.raises(InterventionError, match=f"axis 'vowels' is beyond {axis.calibration.limit:.4f}") as caught:
            axis.dose(sign * amount)
        assert "at most 1.75 times the budget dose" in caught.value.next_step


# --- files ---------------------------------------------------------------------------------------


def test_a_calibration_comes_back_as_it_was_saved(tmp_path: Path, calibrated: Axis) -> None:
    found = load_axis(calibrated.save(tmp_path))
    assert found.calibration == calibrated.calibration and found == calibrated
    assert Calibration.from_json(json.loads(json.dumps(calibrated.calibration.to_json()))) == calibrated.calibration


@pytest.mark.parametrize(
    "damage", [{"limit": "wide"}, {"costs": [[0.1]]}, {"response": {"fresh": True}}, {"coherence": None}]
)
def test_a_damaged_calibration_is_refused_with_what_is_wrong(
    tmp_path: Path, calibrated: Axis, damage: dict[str, Any]
) -> None:
    path = calibrated.save(tmp_path)
    with safe_open(path, framework="numpy") as file:
        metadata = dict(file.metadata())
    facts = json.loads(metadata["axis"])
    facts["calibration"] |= damage
    save_file(load_file(path), path, metadata=metadata | {"axis": json.dumps(facts)})
    with pytest.raises(RecordDamaged, match=rf"calibration\.{next(iter(damage))}"):
        load_axis(path)


# --- the library ---------------------------------------------------------------------------------


@pytest.fixture
def library(tmp_path: Path) -> AxisLibrary:
    write_contrast(tmp_path / "written", toy_contrast())
    return AxisLibrary(tmp_path / "written", tmp_path / "built")


def confirm(folder: Path) -> None:
    texts = {group: list(found) for group, found in FRESH.items()}
    (folder / "written" / "vowels.confirm.yaml").write_text(yaml.safe_dump(texts))


def test_calibrating_replaces_the_quick_limit_and_is_kept_when_the_agent_opens(
    library: AxisLibrary, tmp_path: Path, tiny_llama: Any, tiny_gauge: VolatilityGauge
) -> None:
    confirm(tmp_path)
    done = library.calibrate("vowels", tiny_llama, tiny_gauge, budget=BUDGET, doses=7, directions=1, quick=True)
    response = done.calibration.response
    assert response is not None and response.fresh
    assert response.texts == {group: len(texts) for group, texts in FRESH.items()}
    assert library.ready("vowels", tiny_llama, tiny_gauge, BUDGET) == done
    assert not any("flatters it" in sentence for sentence in findings(done))


def test_without_confirmation_texts_the_contrast_texts_are_used_and_it_is_said(
    library: AxisLibrary, tiny_llama: Any, tiny_gauge: VolatilityGauge
) -> None:
    done = library.calibrate("vowels", tiny_llama, tiny_gauge, budget=BUDGET, doses=7, directions=1, quick=True)
    response = done.calibration.response
    assert response is not None and not response.fresh and set(response.texts) == set(toy_groups())
    said = " ".join(findings(done))
    assert "the texts that the axis was built from" in said and "flatters it" in said


def toy_groups() -> list[str]:
    return ["positive", "negative", "liquids", "neutral"]


def test_an_interrupted_calibration_leaves_the_axis_as_it_was(
    library: AxisLibrary, tmp_path: Path, tiny_llama: Any, tiny_gauge: VolatilityGauge
) -> None:
    built = library.ready("vowels", tiny_llama, tiny_gauge, BUDGET)
    before = (tmp_path / "built" / "vowels.safetensors").read_bytes()

    class Impatient:
        def step(self, description: str, done: int | None, total: int | None, detail: str = "") -> None:
            if "random directions of the same norm" in description:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        library.calibrate(
            "vowels", tiny_llama, tiny_gauge, budget=BUDGET, doses=7, directions=1, quick=True, progress=Impatient()
        )
    assert (tmp_path / "built" / "vowels.safetensors").read_bytes() == before
    assert [path.name for path in (tmp_path / "built").iterdir()] == ["vowels.safetensors"]
    assert library.load("vowels") == built


@pytest.mark.parametrize("wrong", [{"doses": 8}, {"doses": 5}, {"directions": 0}])
def test_a_measurement_that_would_mean_nothing_is_refused(
    toy_axis: Axis, tiny_gauge: VolatilityGauge, wrong: dict[str, Any]
) -> None:
    with pytest.raises(ArgumentError):
        calibrate_fully(toy_axis.writing, toy_axis.blocks, FRESH, tiny_gauge, BUDGET, fresh=True, **wrong)


def test_an_axis_without_texts_gets_its_costs_and_limit_alone(toy_axis: Axis, tiny_gauge: VolatilityGauge) -> None:
    found = calibrate_fully(
        toy_axis.writing, toy_axis.blocks, {}, tiny_gauge, BUDGET, fresh=False, doses=7, effort=QUICK
    )
    assert found == toy_axis.calibration
    axis = replace(toy_axis, calibration=found)
    assert [table.title for table in calibration_tables(axis)] == ["Where text falls apart"]


# --- the page ------------------------------------------------------------------------------------


def test_the_page_its_plot_and_its_numbers_are_written(tmp_path: Path, calibrated: Axis) -> None:
    files = write_page(calibrated, tmp_path / "docs" / "axes", "overlay axes calibrate vowels")
    assert sorted(path.name for path in files.page.parent.iterdir()) == [
        "vowels.json", "vowels.md", "vowels.png", "vowels.svg",
    ]  # fmt: skip
    page = files.page.read_text()
    assert "](vowels.svg)" in page and "`overlay axes calibrate vowels`" in page
    for title in ("Dose-response", "Random directions of the same dose", "of the same volatility", "Windows of blocks"):
        assert f"{title}" in page
    assert files.svg.read_bytes().startswith(b"<?xml") and files.svg.stat().st_size > 20_000
    assert files.png.read_bytes().startswith(b"\x89PNG") and files.png.stat().st_size > 20_000
    again = write_page(calibrated, tmp_path / "again", "overlay axes calibrate vowels")
    for name in ("page", "svg", "png", "record"):
        assert getattr(again, name).read_bytes() == getattr(files, name).read_bytes()


def test_the_numbers_hold_everything_that_the_page_says(tmp_path: Path, calibrated: Axis) -> None:
    record = json.loads(write_page(calibrated, tmp_path).record.read_text())
    assert set(record) == {
        "axis", "model", "model_digest", "method", "writes", "blocks", "proven", "failures", "findings", "budget",
        "budget_dose", "spends_budget", "costs", "limit", "falls_apart", "coherence", "response", "comparisons",
        "sweep", "random", "best_window",
    }  # fmt: skip
    assert len(record["response"]["points"]) == 7
    assert set(record["response"]["points"][0]["groups"]) == set(FRESH)
    assert [one["matching"] for one in record["random"]] == ["norm", "volatility"]
    for one in record["random"]:
        assert one["directions"] == DIRECTIONS and len(one["specific"]) == len(one["as_far_specific"]) == 7
        assert all(entry["low"] <= entry["mean"] <= entry["high"] for entry in one["own"] + one["specific"])
    assert record["best_window"] in [window["blocks"] for window in record["sweep"]["windows"]]


def test_a_page_of_an_axis_that_was_only_built_is_written_as_well(tmp_path: Path, toy_axis: Axis) -> None:
    files = write_page(toy_axis, tmp_path)
    assert files.png.stat().st_size > 10_000 and "## Where text falls apart" in files.page.read_text()
    assert "Dose-response" not in files.page.read_text()


def test_random_directions_that_do_as_well_are_reported_as_such(calibrated: Axis) -> None:
    """Whatever came out is said: here every random direction goes a nat further than the axis."""
    comparisons = tuple(
        replace(
            one,
            specific=(tuple(value + np.sign(dose) for value, dose in zip(one.axis_specific, one.doses, strict=True)),)
            * DIRECTIONS,
        )
        for one in calibrated.calibration.comparisons
    )
    axis = replace(calibrated, calibration=replace(calibrated.calibration, comparisons=comparisons))
    said = [sentence for sentence in findings(axis) if sentence.startswith("Random directions")]
    assert len(said) == 2 and all(sentence.count("2 of 2 went as far") == 2 for sentence in said)


def test_a_budget_that_text_does_not_survive_and_an_unproven_axis_are_told(calibrated: Axis) -> None:
    found = replace(calibrated.calibration, spends_budget=False, falls_apart=True)
    weak = replace(calibrated.evidence, auroc={"anger": 0.6})
    said = " ".join(findings(replace(calibrated, calibration=found, evidence=weak)))
    assert "falls apart before the budget" in said and "held-out AUROC against anger is 0.60" in said
    assert "Larger ones are refused" in said
