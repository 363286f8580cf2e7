"""Which method finds what: activations with a planted direction, and a confound that foils share with the positive."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from numpy.typing import NDArray

from overlay.axes.separation import METHODS, WRITES, gradient, read_method, read_writes
from overlay.errors import ArgumentError

Groups = dict[str, NDArray[np.float32]]

LAYERS, WIDTH, TEXTS = 3, 48, 60
NOISE, STRENGTH, CONFOUND = 0.05, 0.3, 0.4


def planted(seed: int = 0) -> tuple[Groups, NDArray[np.float32], NDArray[np.float32]]:
    """Texts by group, the planted direction (layers, width) and the confound, at right angles to it.

    Positive texts carry both; the foil carries the confound alone; twins and neutral texts carry neither. Twins
    share a scene, which is as large as what is planted.
    """
    draw = np.random.default_rng(seed)
    basis = np.stack([np.linalg.qr(draw.standard_normal((WIDTH, 3)))[0].T for _ in range(LAYERS)])
    wanted, confound, scenery = basis[:, 0], basis[:, 1], basis[:, 2]

    def noise() -> NDArray[np.float64]:
        return NOISE * draw.standard_normal((TEXTS, LAYERS, WIDTH))

    scenes = STRENGTH * draw.standard_normal((TEXTS, 1, 1)) * scenery
    groups = {
        "positive": noise() + scenes + STRENGTH * wanted + CONFOUND * confound,
        "negative": noise() + scenes,
        "foil": noise() + CONFOUND * confound,
        "neutral": noise(),
    }
    return {group: found.astype(np.float32) for group, found in groups.items()}, wanted, confound


def direct(method: str, groups: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float32]:
    others = {group: found for group, found in groups.items() if group != "positive"}
    return METHODS[method](groups["positive"], others)


def cosines(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float32]:
    return (one * other).sum(-1) / (np.linalg.norm(one, axis=-1) * np.linalg.norm(other, axis=-1))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("seed", range(3))
def test_every_method_finds_what_was_planted_with_unit_length_and_the_right_sign(method: str, seed: int) -> None:
    groups, wanted, _ = planted(seed)
    found = direct(method, groups)
    assert found.dtype == np.float32 and found.shape == (LAYERS, WIDTH)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    assert (cosines(found, wanted) > 0.5).all()


@pytest.mark.parametrize(("method", "blind"), [
    ("difference", True), ("pca", True), ("projected", False), ("discriminant", False), ("logistic", False),
])  # fmt: skip
def test_only_methods_that_look_at_foils_tell_the_planted_direction_from_the_confound(method: str, blind: bool) -> None:
    groups, wanted, confound = planted()
    found = direct(method, groups)
    towards_confound = cosines(found, confound)
    if blind:
        # The confound is larger than what is wanted, and neither method has any way to know which is which.
        assert (towards_confound > cosines(found, wanted)).all()
    else:
        assert (np.abs(towards_confound) < 0.6 * cosines(found, wanted)).all()


def test_projected_is_at_right_angles_to_every_foil() -> None:
    groups, _, _ = planted()
    groups |= {"second": planted(5)[0]["foil"], "third": planted(6)[0]["positive"]}
    found = direct("projected", groups)
    for foil in ("foil", "second", "third"):
        towards = groups[foil].mean(0) - groups["neutral"].mean(0)
        np.testing.assert_allclose(cosines(found, towards), 0, atol=1e-5)


def test_discriminant_reads_negatives_and_foils_level_with_neutral_text() -> None:
    groups, _, _ = planted()
    found = direct("discriminant", groups)
    levels = {group: (texts.mean(0) * found).sum(-1) for group, texts in groups.items()}
    others = (levels["negative"] + levels["foil"]) / 2
    np.testing.assert_allclose(others, levels["neutral"], atol=1e-5)
    assert (levels["positive"] > levels["neutral"] + 0.1).all()


# --- principal component -------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(8))
def test_the_sign_of_a_principal_component_comes_from_the_pairs_and_not_from_the_data(seed: int) -> None:
    groups, _, _ = planted(seed)
    found = direct("pca", groups)
    swapped = groups | {"positive": groups["negative"], "negative": groups["positive"]}
    negated = {group: -texts for group, texts in groups.items()}
    order = np.random.default_rng(seed).permutation(TEXTS)
    shuffled = groups | {group: groups[group][order] for group in ("positive", "negative")}
    np.testing.assert_allclose(direct("pca", swapped), -found, atol=1e-4)
    np.testing.assert_allclose(direct("pca", negated), -found, atol=1e-4)
    np.testing.assert_allclose(direct("pca", shuffled), found, atol=1e-4)
    above = ((groups["positive"] - groups["negative"]) * found).sum(-1) > 0
    assert (above.mean(0) > 0.9).all()


def test_the_principal_component_is_that_of_the_differences_not_of_the_scenes() -> None:
    """Scenes vary more than anything else here, but twins share them."""
    groups, wanted, confound = planted()
    both = STRENGTH * wanted + CONFOUND * confound
    assert (cosines(direct("pca", groups), both) > 0.95).all()


def test_pairs_without_a_common_direction_give_a_component_but_the_mean_decides_its_sign() -> None:
    draw = np.random.default_rng(1)
    groups, wanted, _ = planted()
    lean = np.where(np.arange(TEXTS) < 0.7 * TEXTS, 1.0, -1.0)[:, None, None]
    differences = (STRENGTH * lean * wanted + 0.01 * draw.standard_normal((TEXTS, LAYERS, WIDTH))).astype(np.float32)
    groups["positive"] = groups["negative"] + differences
    assert (cosines(direct("pca", groups), wanted) > 0.95).all()


# --- weights -------------------------------------------------------------------------------------


def test_a_logistic_probe_does_not_mind_how_many_texts_a_foil_has() -> None:
    groups, _, _ = planted()
    doubled = groups | {"foil": np.concatenate([groups["foil"]] * 2)}
    assert (cosines(direct("logistic", groups), direct("logistic", doubled)) > 0.9999).all()


def test_a_logistic_probe_does_not_mind_the_scale_of_the_residual_stream() -> None:
    groups, _, _ = planted()
    scaled = {group: 100 * texts for group, texts in groups.items()}
    assert (cosines(direct("logistic", groups), direct("logistic", scaled)) > 0.9999).all()


# --- nothing to find -----------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["difference", "projected", "pca"])
def test_groups_that_do_not_differ_have_no_direction_rather_than_one_of_noise(method: str) -> None:
    groups, _, _ = planted()
    groups["positive"] = groups["negative"].copy()
    assert not direct(method, groups).any()


@pytest.mark.parametrize("method", METHODS)
def test_a_dead_layer_has_no_direction_and_disturbs_no_other(method: str) -> None:
    groups, _, _ = planted()
    whole = direct(method, groups)
    for texts in groups.values():
        texts[:, 1] = 0
    found = direct(method, groups)
    assert np.isfinite(found).all() and not found[1].any()
    np.testing.assert_array_equal(found[[0, 2]], whole[[0, 2]])


def test_an_unknown_method_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ArgumentError, match="'magic' is not a method") as caught:
        read_method("magic")
    assert all(method in caught.value.next_step for method in METHODS)
    assert [read_method(method) for method in METHODS] == list(METHODS)


@pytest.mark.parametrize("seed", range(3))
def test_levelled_reads_each_group_as_neutral_text_where_the_discriminant_only_does_on_average(seed: int) -> None:
    groups, wanted, confound = planted(seed)
    draw = np.random.default_rng(100 + seed)
    # Two foils on either side of neutral text, along what is wanted: their mean is level, neither of them is.
    for name, sign in (("high", 1), ("low", -1)):
        aside = groups["neutral"] + sign * STRENGTH * (0.5 * wanted + confound)
        groups[name] = (aside + NOISE * draw.standard_normal(aside.shape)).astype(np.float32)

    def tilts(method: str) -> dict[str, float]:
        found = direct(method, groups)
        own = (groups["positive"].mean(0) - groups["neutral"].mean(0)) * found
        return {
            group: float(
                np.abs(((groups[group].mean(0) - groups["neutral"].mean(0)) * found).sum(-1) / own.sum(-1)).max()
            )
            for group in ("negative", "foil", "high", "low")
        }

    assert max(tilts("levelled").values()) < 1e-3
    assert max(tilts("discriminant").values()) > 0.05


def test_levelled_takes_foils_that_are_the_same_and_ones_that_are_neutral() -> None:
    groups, wanted, _ = planted()
    groups |= {"again": groups["foil"], "ordinary": groups["neutral"]}
    assert (cosines(direct("levelled", groups), wanted) > 0.5).all()


def test_the_gradient_raises_own_texts_and_no_other_group_above_neutral_whatever_its_scale() -> None:
    groups, wanted, _ = planted()
    for scale in (1.0, 1e-9):
        scaled = {group: (found * scale).astype(np.float32) for group, found in groups.items()}
        found = gradient(scaled["positive"], {group: part for group, part in scaled.items() if group != "positive"})
        assert (cosines(found, wanted) > 0.5).all()
        np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
        for group in ("negative", "foil"):
            gain = ((scaled[group].mean(0) - scaled["neutral"].mean(0)) * found).sum(-1)
            assert np.abs(gain).max() < 1e-3 * scale
    same = dict.fromkeys(("negative", "foil", "neutral"), np.zeros_like(groups["positive"]))
    assert not gradient(np.zeros_like(groups["positive"]), same).any()


def test_an_unknown_way_to_act_names_the_known_ones() -> None:
    with pytest.raises(ArgumentError) as caught:
        read_writes("downhill")
    assert all(way in caught.value.next_step for way in WRITES)
    assert [read_writes(way) for way in WRITES] == list(WRITES)
