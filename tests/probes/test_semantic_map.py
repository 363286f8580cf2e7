"""Semantic maps on a tiny model: a planted effect shows in its cell, its neighbour is honest, and forms don't mix."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from probes.toy_bank import toy_bank, toy_probes

from overlay.errors import ArgumentError
from overlay.model import UNTREATED, Dose, Intervention, LogitBias, Message, Row, Treatment
from overlay.plots import format_of
from overlay.probes import Cell, Probe, SemanticMap, draw_map, map_table, margins, semantic_map
from overlay.probes.map_table import map_page

PLANTED = Treatment("planted", Intervention(biases=(LogitBias("z", 3.0),)))
CAUSALITY, DEFINITION = Cell("causality", "logical", "en"), Cell("definition", "logical", "en")


@pytest.fixture(scope="module")
def planted(tiny_llama: Any) -> SemanticMap:
    return semantic_map(tiny_llama, toy_bank(), UNTREATED, PLANTED)


def test_a_margin_is_the_difference_of_log_probabilities_per_token(tiny_llama: Any) -> None:
    (probe,) = [Probe.model_validate(one) for one in toy_probes("causality", "zz", "qqqq", count=1)]
    (scored,) = tiny_llama.score([Row(text="At the river stood", options=(" zz", " qqqq"))])
    expected = scored.total[0] / 3 - scored.total[1] / 5
    assert margins(tiny_llama, [probe], UNTREATED) == pytest.approx([expected])


def test_a_planted_effect_shows_in_its_cell_and_its_neighbour_is_unchanged(planted: SemanticMap) -> None:
    assert planted.cells[CAUSALITY].verdict in ("strengthened", "became possible")
    assert planted.cells[CAUSALITY].shift > 1
    assert planted.cells[DEFINITION].verdict == "unchanged"
    assert list(planted.changed) == [CAUSALITY]


def test_the_reverse_comparison_says_the_reverse(tiny_llama: Any, planted: SemanticMap) -> None:
    back = semantic_map(tiny_llama, toy_bank(), PLANTED, UNTREATED)
    assert back.cells[CAUSALITY].verdict == "sagged"
    assert back.cells[CAUSALITY].shift == pytest.approx(-planted.cells[CAUSALITY].shift, abs=1e-6)


def test_a_treatment_against_itself_changes_nothing_at_all(tiny_llama: Any, random_direction: Any) -> None:
    dose = Dose(random_direction(tiny_llama), 0.3, tuple(range(tiny_llama.layers)))
    steered = Treatment("steered", Intervention(doses=(dose,)))
    found = semantic_map(tiny_llama, toy_bank(), steered, steered)
    assert all(shift.shift == 0 and shift.verdict == "unchanged" for shift in found.cells.values())
    assert found.before_digest == found.after_digest != UNTREATED.digest


@pytest.mark.parametrize("chat", [False, True])
def test_a_prompt_is_compared_in_the_same_form(tiny_llama: Any, chat: bool) -> None:
    prompt = Treatment("prompt", before=(Message("system", "Say z."),))
    probe = Probe.model_validate(toy_probes("causality", "zzz", "qqq")[0])
    forms = [treatment.row(probe.prompt, chat=chat) for treatment in (UNTREATED, prompt)]
    assert {row.text is None for row in forms} == {chat}
    found = semantic_map(tiny_llama, toy_bank(), UNTREATED, prompt, chat=chat)
    assert found.probes[0].after == pytest.approx(float(margins(tiny_llama, [probe], prompt, chat=chat)[0]), abs=1e-5)
    assert any(one.before != one.after for one in found.probes)


def test_it_can_be_measured_again_to_the_same_record(tiny_llama: Any, planted: SemanticMap) -> None:
    again = semantic_map(tiny_llama, toy_bank(), UNTREATED, PLANTED)
    record = json.loads(json.dumps(planted.to_json()))
    assert record == json.loads(json.dumps(again.to_json()))
    (cell, _) = record["cells"]
    assert (cell["level"], cell["layer"], cell["language"], cell["n"]) == ("causality", "logical", "en", 12)
    assert len(record["probes"]) == 24


def test_a_cell_of_one_probe_is_refused_however_it_came_about(tiny_llama: Any) -> None:
    bank = toy_bank()
    lone = bank.model_copy(update={"probes": bank.probes[:13]})
    with pytest.raises(ArgumentError, match="only probe of the cell definition"):
        semantic_map(tiny_llama, lone, UNTREATED, PLANTED)


def test_the_model_is_afterwards_what_it_was(tiny_llama: Any) -> None:
    census = tiny_llama.census()
    semantic_map(tiny_llama, toy_bank(), UNTREATED, PLANTED)
    assert tiny_llama.census() == census


def test_table_page_and_heatmap_tell_the_verdicts(planted: SemanticMap, tmp_path: Any) -> None:
    from rich.console import Console

    console = Console(record=True, width=200)
    console.print(map_table(planted))
    said = console.export_text()
    verdict = planted.cells[CAUSALITY].verdict
    assert verdict in said
    assert "unchanged" in said
    page = map_page(planted)
    assert f"**{verdict}**" in page
    assert [line.split(" | ")[0] for line in page.splitlines()[-2:]] == ["| causality", "| definition"]
    assert draw_map(planted, "png").startswith(b"\x89PNG")
    assert draw_map(planted, format_of(tmp_path / "a.svg")) == draw_map(planted, "svg")


def test_progress_counts_the_probes_of_both_treatments(tiny_llama: Any) -> None:
    class Heard:
        def __init__(self) -> None:
            self.steps: list[tuple[str, int | None]] = []

        def step(self, description: str, done: int | None, total: int | None, detail: str = "") -> None:
            self.steps.append((description, done))

    heard = Heard()
    semantic_map(tiny_llama, toy_bank(), UNTREATED, PLANTED, progress=heard)
    assert {("probes under base", 24), ("probes under planted", 24)} <= set(heard.steps)


def test_nothing_is_left_to_measure_is_refused(tiny_llama: Any) -> None:
    bank = toy_bank().model_copy(update={"probes": ()})
    with pytest.raises(ArgumentError, match="no probes"):
        semantic_map(tiny_llama, bank, UNTREATED, PLANTED)
    assert np.isfinite(margins(tiny_llama, toy_bank().probes, UNTREATED)).all()
