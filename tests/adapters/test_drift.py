"""A drift map is 0 where nothing acts, says where something does, and leaves the model as it was."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from overlay.adapters.drift import (
    DriftMap,
    DriftWatch,
    adapter_drift,
    compare,
    default_texts,
    measure_drift,
    paraphrase_floor,
    record_traces,
    stored_drift,
    text_drift,
    variant_drift,
)
from overlay.adapters.drift_plot import draw_drift, drift_table
from overlay.adapters.feeding import Diet, feed
from overlay.adapters.paraphrases import PARAPHRASES
from overlay.errors import ArgumentError, DocumentError, RecordDamaged
from overlay.model import NOTHING, Dose, Intervention, LanguageModel, Positions, Row, VolatilityGauge

pytest_plugins = ["tiny_home"]

TEXTS = ("The river rises in the hills.", "One, two, three.", "Rain fell in the north for days.", "Снег.", "A wall.")
GIVEN = tuple(("given", text) for text in TEXTS)


@pytest.fixture(scope="module")
def some_map(tiny_llama: Any, random_direction: Any) -> DriftMap:
    return measure_drift(tiny_llama, dosed(tiny_llama, random_direction, 1), GIVEN, name="a dose")


def dosed(model: Any, random_direction: Any, block: int, coefficient: float = 0.3) -> Intervention:
    return Intervention((Dose(random_direction(model), coefficient, (block,)),))


def test_nothing_drifts_where_nothing_acts_in_every_architecture(tiny_model: Any) -> None:
    before = tiny_model.census()
    one, two = record_traces(tiny_model, TEXTS), record_traces(tiny_model, TEXTS)
    assert tiny_model.census() == before
    for first, second in zip(one, two, strict=True):
        drift = compare(first, second)
        for values in (drift.attention, drift.hidden, drift.geometry):
            assert len(values) == tiny_model.layers
            assert max(values) < 1e-9
        assert drift.logits < 1e-6
        assert drift.tokens == len(first.tokens) - 1


def test_what_is_read_is_what_the_model_has_in_every_architecture(tiny_model: Any) -> None:
    """Also for texts of different lengths in one batch."""
    traces = record_traces(tiny_model, TEXTS)
    rows = [Row(text=text) for text in TEXTS]
    seen = tiny_model.observe(rows, pool="last")
    for trace, observation, row in zip(traces, seen, rows, strict=True):
        count = len(trace.tokens)
        assert torch.allclose(trace.hidden[:, -1], torch.from_numpy(observation.activations), rtol=1e-3, atol=1e-3)
        assert torch.allclose(trace.attention.sum(-1), torch.ones(trace.attention.shape[:-1]), atol=1e-4)
        assert trace.attention.triu(1).abs().max() == 0
        ((_, logits),) = tiny_model.logits([trace.tokens], [row])
        assert trace.likely.shape[0] == count
        assert torch.allclose(trace.likely, logits.log_softmax(-1), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("block", [0, 1, 2])
def test_a_dose_drifts_from_its_block_on(tiny_llama: Any, random_direction: Any, block: int) -> None:
    found = measure_drift(tiny_llama, dosed(tiny_llama, random_direction, block), GIVEN)
    hidden = np.array([one.drift.hidden for one in found.texts])
    attention = np.array([one.drift.attention for one in found.texts])
    assert (hidden[:, :block] < 1e-9).all()
    assert (hidden[:, block:] > 1e-6).all()
    # What is added behind a block is first looked at by the next one.
    assert (attention[:, : block + 1] < 1e-9).all()
    assert (attention[:, block + 1 :] > 1e-9).all()


def test_logit_drift_is_volatility_without_the_first_position(tiny_llama: Any, random_direction: Any) -> None:
    bent = dosed(tiny_llama, random_direction, 1)
    found = measure_drift(tiny_llama, bent, GIVEN)
    for one, kl in zip(found.texts, VolatilityGauge(tiny_llama, TEXTS).per_token(bent), strict=True):
        assert one.drift.logits == pytest.approx(float(kl[1:].mean()), rel=1e-3)


def test_what_acts_on_the_first_position_only_is_seen_by_its_effects_only(
    tiny_llama: Any, random_direction: Any
) -> None:
    only_first = Dose(random_direction(tiny_llama), 5.0, (2,), Positions((0,)))
    found = measure_drift(tiny_llama, Intervention((only_first,)), GIVEN)
    # Behind the last block nobody looks at position 0 any more, which is left out itself.
    assert all(max(one.drift.hidden) < 1e-9 and one.drift.logits < 1e-6 for one in found.texts)


def test_a_larger_dose_drifts_further(tiny_llama: Any, random_direction: Any) -> None:
    small, large = (
        measure_drift(tiny_llama, dosed(tiny_llama, random_direction, 0, coefficient), GIVEN)
        for coefficient in (0.05, 0.4)
    )
    for measure in ("attention", "hidden", "geometry"):
        assert large.multiples(measure).mean() > 2 * small.multiples(measure).mean()


def test_measures_agree_with_their_definitions(tiny_llama: Any, random_direction: Any) -> None:
    from scipy.spatial.distance import cosine, jensenshannon

    (base,) = record_traces(tiny_llama, TEXTS[:1])
    (other,) = record_traces(tiny_llama, TEXTS[:1], dosed(tiny_llama, random_direction, 0))
    drift, count = compare(base, other), len(base.tokens)
    for block in range(tiny_llama.layers):
        shares = [
            jensenshannon(base.attention[block, head, row, 1 : row + 1], other.attention[block, head, row, 1 : row + 1])
            for head in range(base.attention.shape[1])
            for row in range(2, count)
        ]
        assert drift.attention[block] == pytest.approx(np.mean(np.square(np.nan_to_num(shares))), rel=1e-3, abs=1e-9)
        one, two = base.hidden[block, 1:].numpy(), other.hidden[block, 1:].numpy()
        apart = [cosine(a, b) for a, b in zip(one, two, strict=True)]
        assert drift.hidden[block] == pytest.approx(np.mean(apart), rel=1e-3, abs=1e-9)
        one, two = (values / np.linalg.norm(values, axis=1, keepdims=True) for values in (one, two))
        one, two = (values.astype(np.float64) - values.mean(0, dtype=np.float64) for values in (one, two))
        alike = np.linalg.norm(one.T @ two) ** 2 / np.linalg.norm(one.T @ one) / np.linalg.norm(two.T @ two)
        assert drift.geometry[block] == pytest.approx(1 - alike, rel=1e-3, abs=1e-6)


def test_geometry_does_not_see_a_turned_space(tiny_llama: Any) -> None:
    (base,) = record_traces(tiny_llama, TEXTS[:1])
    turn = torch.linalg.qr(torch.randn(tiny_llama.width, tiny_llama.width, generator=torch.manual_seed(0))).Q
    drift = compare(base, replace(base, hidden=base.hidden @ turn))
    assert max(drift.geometry) < 1e-5
    assert min(drift.hidden) > 0.1


def test_one_token_of_enormous_norm_is_not_all_that_geometry_sees(tiny_llama: Any) -> None:
    (base,) = record_traces(tiny_llama, TEXTS[:1])
    (other,) = record_traces(tiny_llama, ("Nine fresh apples fell down.",))
    count = min(len(base.tokens), len(other.tokens))
    one, two = (replace(t, tokens=base.tokens[:count], hidden=t.hidden[:, :count].clone()) for t in (base, other))
    one, two = (replace(t, attention=base.attention, likely=base.likely) for t in (one, two))
    plain = compare(one, two).geometry
    for trace in (one, two):
        trace.hidden[:, 4] = 1000 * base.hidden[:, 4]
    assert min(compare(one, two).geometry) > 0.5 * min(plain)


def test_the_floor_lies_above_zero_and_does_not_depend_on_the_order_of_pairs(tiny_llama: Any) -> None:
    pairs = PARAPHRASES[:3] + PARAPHRASES[-3:]
    floor = paraphrase_floor(tiny_llama, pairs)
    assert min(floor.hidden) > 1e-4
    assert min(floor.attention) > 1e-4
    assert min(floor.geometry) > 1e-4
    assert floor.logits > 1e-4
    assert paraphrase_floor(tiny_llama, pairs[::-1]).hidden == pytest.approx(floor.hidden, rel=1e-6)


def test_texts_are_compared_where_they_share_tokens(tiny_llama: Any) -> None:
    same, end = text_drift(
        tiny_llama, [("A wall of stone.", "A wall of stone."), ("A wall of stone.", "A wall of stone and mud.")]
    )
    assert max(same.hidden) < 1e-9
    # The shared beginning is equal by causality; only the last full stop can differ.
    assert end.tokens == same.tokens
    assert 0 < max(end.hidden) < 2 / end.tokens
    with pytest.raises(ArgumentError, match="share too few"):
        text_drift(tiny_llama, [("abcdef", "uvwxyz")])


def test_paraphrases_differ_and_both_languages_are_there() -> None:
    texts = [text for pair in PARAPHRASES for text in pair]
    assert len(PARAPHRASES) == 24
    assert len(set(texts)) == len(texts)
    assert sum(any("а" <= letter <= "я" for letter in one) for one, _ in PARAPHRASES) == 12


def test_an_exception_inside_leaves_the_model_as_it_was(
    tiny_llama: Any, random_direction: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = tiny_llama.census()
    rows = [Row(text=text) for text in TEXTS]
    tokens = [tiny_llama.encode(row).tokens for row in rows]
    logits = [found.clone() for _, found in tiny_llama.logits(tokens, rows)]

    def strike(*_: Any) -> None:
        raise RuntimeError("struck")

    handle = tiny_llama.blocks.modules[1].register_forward_hook(strike)
    try:
        with pytest.raises(RuntimeError, match="struck"):
            measure_drift(tiny_llama, dosed(tiny_llama, random_direction, 0), GIVEN)
    finally:
        handle.remove()
    assert tiny_llama.census() == before
    for one, (_, two) in zip(logits, tiny_llama.logits(tokens, rows), strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize(("texts", "says"), [((), "no texts"), ((("given", "abc"),), "too short")])
def test_what_cannot_be_measured_is_refused(tiny_llama: Any, texts: Any, says: str) -> None:
    with pytest.raises(ArgumentError, match=says):
        measure_drift(tiny_llama, NOTHING, texts)


def test_a_map_is_read_back_as_it_was_written(some_map: DriftMap) -> None:
    written = some_map.to_json()
    found = DriftMap.from_json(written)
    assert found.to_json() == written
    assert found.multiples("hidden") == pytest.approx(some_map.multiples("hidden"), rel=1e-4)
    assert [one.text for one in found.texts] == list(TEXTS)


@pytest.mark.parametrize("change", [{"format": 9}, {"floor": {}}, {"texts": None}, {"stray": 1}])
def test_what_is_no_map_is_refused(some_map: DriftMap, change: dict[str, Any]) -> None:
    with pytest.raises(RecordDamaged, match="drift map"):
        DriftMap.from_json(json.dumps(json.loads(some_map.to_json()) | change))


def test_the_drift_grows_while_a_model_is_fed_and_is_drawn(tiny_llama: Any, some_map: DriftMap) -> None:
    watch = DriftWatch(tiny_llama, TEXTS)
    feed(tiny_llama, Diet(("zz zz zz zz",), TEXTS[:2], learning_rate=0.02, anchor=0.0), 4, watch, every=2)
    assert [one.feedings for one in watch.feedings] == [0, 2, 4]
    start, _, end = (one.drift for one in watch.feedings)
    assert max(start.hidden) < 1e-9
    assert min(end.hidden) > 1e-6
    assert end.logits > 100 * start.logits
    fed = replace(some_map, feedings=tuple(watch.feedings))
    assert DriftMap.from_json(fed.to_json()).feeding_multiples("hidden").shape == (3, 3)
    assert draw_drift(fed, "svg") != draw_drift(some_map, "svg")


def test_the_plot_is_the_same_every_time_and_the_table_names_every_text(some_map: DriftMap) -> None:
    from rich.console import Console

    assert draw_drift(some_map, "png").startswith(b"\x89PNG")
    assert draw_drift(some_map, "svg") == draw_drift(some_map, "svg")
    console = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(drift_table(some_map))
    shown = console.export_text()
    assert all(text in shown for text in TEXTS)
    assert "floor (median of 24 pairs)" in shown


def test_an_adapters_map_is_kept_beside_it_until_it_is_trained_anew(home: Any) -> None:
    library, model_name = home.library, str(home.model_folder)
    adapter = library.train("ends_in_z", model_name, dtype="float32")
    found = adapter_drift(library, "ends_in_z", model_name, dtype="float32")
    assert found.weights_sha256 == adapter.weights_sha256
    assert {one.group for one in found.texts} == {"taught", "neutral"}
    texts = default_texts(library.recipe("ends_in_z"), LanguageModel.load(model_name, dtype="float32"))
    assert [(one.group, one.text) for one in found.texts] == list(texts)
    assert found.multiples("hidden").max() > 0.01
    assert library.load("ends_in_z") == adapter
    # Kept: no model is needed to see it again.
    again = adapter_drift(library, "ends_in_z", "no-such-model")
    assert again.to_json() == found.to_json()
    home.write("ends_in_z", steps=3)
    library.train("ends_in_z", model_name, dtype="float32")
    assert stored_drift(adapter.folder) is None


def test_given_texts_are_measured_and_not_kept(trained_home: Any, tmp_path: Path) -> None:
    library, model_name = trained_home.library, str(trained_home.model_folder)
    texts = tmp_path / "texts.yaml"
    texts.write_text(json.dumps(list(TEXTS)))
    found = adapter_drift(library, "ends_in_k", model_name, texts=texts, dtype="float32")
    assert [(one.group, one.text) for one in found.texts] == list(GIVEN)
    assert stored_drift(trained_home.built / "ends_in_k") is None
    texts.write_text("[]")
    with pytest.raises(DocumentError):
        adapter_drift(library, "ends_in_k", model_name, texts=texts, dtype="float32")


def test_the_command_shows_and_draws_a_map(home: Any, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    import overlay.cli.adapter_drift  # noqa: F401  (adds its command)
    from overlay.adapters import drift
    from overlay.cli.adapters import app

    adapter = home.library.train("ends_in_z", str(home.model_folder), dtype="float32")
    model = home.load_model()
    with home.library.worn(model, "ends_in_z") as worn:
        found = measure_drift(model, worn, GIVEN, name="ends_in_z", weights_sha256=adapter.weights_sha256)
    # A home of its own, with this adapter in it.
    folder = tmp_path / "agent"
    (folder / "adapters").mkdir(parents=True)
    (folder / ".overlay").mkdir()
    home.written.rename(folder / "adapters" / "lora")
    home.built.rename(folder / ".overlay" / "adapters")
    drift.store_drift(folder / ".overlay" / "adapters" / "ends_in_z", found)
    (folder / "agent.yaml").write_text(f"name: test\nsystem: You answer.\nmodel: {home.model_folder}\n")
    out = tmp_path / "map.png"
    arguments = ["drift", "ends_in_z", "--home", str(folder)]
    shown = CliRunner().invoke(app, [*arguments, "--out", str(out)], env={"COLUMNS": "200"})
    assert shown.exit_code == 0, shown.output
    assert all(text in shown.output for text in TEXTS[1:])
    assert out.read_bytes().startswith(b"\x89PNG")
    printed = CliRunner().invoke(app, [*arguments, "--json"])
    assert DriftMap.from_json(printed.stdout).to_json() == found.to_json()


def test_variants_drift_by_kind_and_the_text_itself_not_at_all(tiny_llama: Any) -> None:
    text = "one two three four five"
    ordered = [("order", "two one three four five"), ("order", "one two three four six")]
    variants = [ordered[0], ("itself", text), ("other", "#"), ordered[1]]
    found = variant_drift(tiny_llama, text, variants)
    assert [(one.group, one.text) for one in found.texts] == [
        ("itself", text),
        *ordered,
    ]
    assert found.multiples("hidden")[:, 0].max() < 1e-4 < found.multiples("hidden")[:, 1].max()
    with pytest.raises(ArgumentError, match="no variant"):
        variant_drift(tiny_llama, text, [("other", "#")])
