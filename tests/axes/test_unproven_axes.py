"""An axis that did not pass is refused, or used because somebody forced it: then it says so wherever it shows."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from toy_axis import BUDGET, LETTERS, toy_contrast, toy_texts, write_contrast

from overlay.axes import Axis, AxisLibrary, ContrastSet, Evidence, build_axis, load_axis
from overlay.errors import AxisUnproven, RecordDamaged
from overlay.model import VolatilityGauge


@pytest.fixture
def unproven(toy_axis: Axis) -> Axis:
    return replace(toy_axis, evidence=replace(toy_axis.evidence, auroc={"negative": 0.5, "liquids": 0.6}))


@pytest.fixture
def library(tmp_path: Path) -> AxisLibrary:
    write_contrast(tmp_path / "written", toy_contrast())
    return AxisLibrary(tmp_path / "written", tmp_path / "built")


def test_forcing_lets_an_axis_be_used_and_does_not_prove_it(unproven: Axis, toy_axis: Axis) -> None:
    with pytest.raises(AxisUnproven, match=r"negative is 0\.50.*liquids is 0\.60") as caught:
        unproven.require_proof()
    assert "--force" in caught.value.next_step
    forced = replace(unproven, forced=True)
    forced.require_proof()
    assert not forced.proven and not unproven.proven and toy_axis.proven


def test_an_axis_without_any_evidence_is_not_proven(toy_axis: Axis) -> None:
    bare = replace(toy_axis, evidence=Evidence())
    assert not bare.proven
    with pytest.raises(AxisUnproven, match="it has no texts"):
        bare.require_proof()


def test_force_is_saved_with_the_axis(unproven: Axis, tmp_path: Path) -> None:
    assert load_axis(replace(unproven, forced=True).save(tmp_path)).forced
    assert not load_axis(unproven.save(tmp_path)).forced


@pytest.mark.parametrize("written", ["yes", 1, None])
def test_a_file_that_does_not_say_plainly_whether_it_was_forced_is_damaged(
    unproven: Axis, tmp_path: Path, written: Any
) -> None:
    path = unproven.save(tmp_path)
    with safe_open(path, framework="numpy") as file:
        metadata = dict(file.metadata())
    metadata["axis"] = json.dumps(json.loads(metadata["axis"]) | {"forced": written})
    save_file(load_file(path), path, metadata=metadata)
    with pytest.raises(RecordDamaged, match="forced"):
        load_axis(path)


def test_the_status_of_a_forced_axis_carries_the_reasons(library: AxisLibrary, unproven: Axis, tmp_path: Path) -> None:
    unproven.save(tmp_path / "built")
    (refused,) = library.status()
    assert not refused.proven and not refused.forced and "did not pass its checks" in refused.problem
    replace(unproven, forced=True).save(tmp_path / "built")
    (forced,) = library.status()
    assert not forced.proven and forced.forced
    assert forced.problem.startswith("unproven, forced: held-out AUROC against negative is 0.50")


def test_a_proven_axis_does_not_count_as_forced(
    library: AxisLibrary, tiny_llama: Any, tiny_gauge: VolatilityGauge
) -> None:
    library.build("vowels", tiny_llama, tiny_gauge, budget=BUDGET, force=True)
    (status,) = library.status()
    assert status.proven and not status.forced and status.problem == ""


def test_force_holds_for_the_texts_that_were_looked_at_and_no_others(
    library: AxisLibrary, tmp_path: Path, tiny_llama: Any, tiny_gauge: VolatilityGauge
) -> None:
    weak = toy_contrast(positive=toy_texts(LETTERS["negative"], seed=1))
    write_contrast(tmp_path / "written", weak)
    assert not library.build("vowels", tiny_llama, tiny_gauge, budget=BUDGET, force=True).proven
    cheaper = library.ready("vowels", tiny_llama, tiny_gauge, BUDGET / 2)
    assert cheaper.calibration.budget == BUDGET / 2 and cheaper.forced
    write_contrast(tmp_path / "written", weak | {"neutral": toy_texts(LETTERS["neutral"], seed=2)})
    assert not library.ready("vowels", tiny_llama, tiny_gauge, BUDGET).forced


# --- evidence ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("share", "passes"), [(0.5, True), (0.49, False), (None, True)])
def test_an_axis_that_points_backwards_is_refused(toy_axis: Axis, share: float | None, passes: bool) -> None:
    assert (not replace(toy_axis.evidence, pairs_in_order=share).failures) is passes


def test_the_order_of_held_out_pairs_is_measured(toy_axis: Axis, tiny_llama: Any, tiny_gauge: VolatilityGauge) -> None:
    assert toy_axis.evidence.pairs_in_order == 1
    same = toy_texts(LETTERS["negative"], seed=1)
    lost = build_axis(ContrastSet(**toy_contrast(positive=same)), tiny_llama, tiny_gauge, budget=BUDGET)
    assert 0.1 < (lost.evidence.pairs_in_order or 0) < 0.9


def test_the_share_of_own_texts_that_the_dose_makes_less_likely_is_counted_text_by_text(
    toy_axis: Axis, tiny_llama: Any, tiny_gauge: VolatilityGauge
) -> None:
    """Each text alone says whether it moved the wrong way; the share is the mean of that, whatever the mean effect."""
    own = toy_texts(LETTERS["positive"], 6, 3)
    other = toy_texts(LETTERS["foil"], 2, 3)
    assert toy_axis.evidence.acts_against_sign is None

    def evidence(texts: list[str]) -> Evidence:
        contrast = ContrastSet(**toy_contrast())
        fresh = {"positive": texts, "liquids": other}
        return build_axis(contrast, tiny_llama, tiny_gauge, budget=BUDGET, confirmation=fresh).evidence

    alone = [evidence([text]) for text in own]
    assert [one.acts_against_sign for one in alone] == [float(one.writing["positive"] < 0) for one in alone]
    together = evidence(own)
    assert together.acts_against_sign == pytest.approx(sum(one.acts_against_sign or 0 for one in alone) / len(own))
    assert together.writing["positive"] == pytest.approx(
        sum(one.writing["positive"] for one in alone) / len(own), abs=1e-4
    )
