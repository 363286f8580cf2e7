"""The ladder: rung by rung, resumed, judged, and written down."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from equivalence.ladders import QUERIES, SPOKEN, Stopping, asked, count_tokens, spoken, steered

from overlay.equivalence import (
    RUNGS,
    Equivalence,
    LadderSettings,
    Rung,
    Split,
    equivalence_record,
    ladder_folder,
    measure_equivalence,
    table_rows,
    verdict,
    write_page,
)
from overlay.errors import ArgumentError, RecordDamaged
from overlay.model import UNTREATED, LanguageModel

QUICK = LadderSettings(budget=14_000, draws=2, length=5)


@pytest.fixture(scope="module")
def climbed(tiny_llama: Any) -> Equivalence:
    queries = asked(instructions=("say it", SPOKEN), anchors=("top",), openings=(" So",), phrases=("zz", "river"))
    return measure_equivalence(tiny_llama, spoken(), queries, settings=QUICK)


def test_every_rung_is_there_and_the_prompt_that_is_the_treatment_wins(climbed: Equivalence) -> None:
    assert tuple(rung.name for rung in climbed.rungs) == RUNGS
    nothing, instruction = climbed.rung("nothing"), climbed.rung("instruction")
    assert nothing is not None and instruction is not None
    assert climbed.in_domain(nothing).value == climbed.held_out(nothing).value == pytest.approx(1, abs=1e-5)
    assert nothing.tokens == 0 and nothing.spent == 0
    assert instruction.prompt == SPOKEN and set(instruction.own_prompts) == {SPOKEN}
    for estimate in (climbed.per_query(instruction), climbed.in_domain(instruction), climbed.held_out(instruction)):
        assert estimate is not None and estimate.high < 1e-4
    assert instruction.js < 1e-5 and instruction.p95 < 1e-4 and climbed.base_p95 > 0.01
    assert verdict(climbed).rungs["instruction"] == "stands in"
    assert verdict(climbed).claim == "refuted"


def test_halves_share_no_query_and_hold_them_all(climbed: Equivalence) -> None:
    assert sorted((*climbed.split.in_domain, *climbed.split.held_out)) == list(range(len(QUERIES)))
    assert Split.of(7, 1).held_out != Split.of(7, 2).held_out and len(Split.of(7).held_out) == 4


def test_the_table_and_the_record_say_the_same(climbed: Equivalence, tmp_path: Path) -> None:
    files = write_page(climbed, tmp_path / "page.md", "overlay equivalence prompt:x")
    record = json.loads((tmp_path / "page.json").read_text())
    assert record == json.loads(json.dumps(equivalence_record(climbed)))
    page = files[0].read_text()
    for row, rung in zip(table_rows(climbed), record["rungs"], strict=True):
        assert row[0] == rung["name"] and row[5].startswith(f"{rung['held_out']['value']:.2f} (")
        assert "| " + " | ".join(row) + " |" in page
        assert len(rung["held_out"]["by_draw"]) == QUICK.draws
    assert (tmp_path / "page.png").read_bytes()[:4] == b"\x89PNG" and b"<svg" in (tmp_path / "page.svg").read_bytes()
    assert all(sentence in page for sentence in record["sentences"])


def test_a_prompt_that_leads_away_is_called_harmful(tiny_llama: Any, random_direction: Any) -> None:
    faint = steered(tiny_llama, random_direction, 0.02)
    queries = asked(instructions=("a very long and quite unrelated instruction",))
    found = measure_equivalence(tiny_llama, faint, queries, settings=LadderSettings(budget=0, draws=1, length=5))
    instruction = found.rung("instruction")
    assert instruction is not None and found.held_out(instruction).value > 1
    judged = verdict(found)
    assert judged.rungs["instruction"] == "harmful"
    assert any(one.startswith("Harmful: instruction") for one in judged.sentences)
    assert found.rung("searched") is None and dict(found.left_out).keys() == {"anchor", "searched", "soft"}
    assert judged.sentences[-1].startswith("Left out: anchor (")


def test_a_ladder_that_was_stopped_goes_on_to_the_same(
    tiny_llama: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    queries = asked(instructions=("say it",), phrases=("zz", "top"))
    settings = LadderSettings(budget=12_000, draws=1, length=4)
    place = ladder_folder(tmp_path, tiny_llama, spoken(), queries, settings)
    whole = measure_equivalence(tiny_llama, spoken(), queries, settings=settings)
    for at in ("choosing: few-shot", "measuring: opening", "searching one", "searching a prompt", "training"):
        with pytest.raises(KeyboardInterrupt):
            measure_equivalence(tiny_llama, spoken(), queries, settings=settings, folder=place, progress=Stopping(at))
    monkeypatch.setattr(LanguageModel, "generate", None)  # nothing is sampled anew
    done = measure_equivalence(tiny_llama, spoken(), queries, settings=settings, folder=place)
    assert [rung.name for rung in done.rungs] == [rung.name for rung in whole.rungs]
    for one, other in zip(done.rungs, whole.rungs, strict=True):
        assert (one.prompt, one.own_prompts, one.spent) == (other.prompt, other.own_prompts, other.spent)
        np.testing.assert_allclose(one.one, other.one, rtol=1e-4, atol=1e-6)
    read = count_tokens(monkeypatch)
    assert measure_equivalence(tiny_llama, spoken(), queries, settings=settings, folder=place).rungs == done.rungs
    once = sum(read)
    # Only the treatment and the base are read again.
    assert once < 0.2 * sum(rung.spent for rung in done.rungs)
    (place / "rung-soft.json").write_text("{}")
    with pytest.raises(RecordDamaged):
        measure_equivalence(tiny_llama, spoken(), queries, settings=settings, folder=place)


def test_another_treatment_query_or_setting_has_a_folder_of_its_own(
    tiny_llama: Any, random_direction: Any, tmp_path: Path
) -> None:
    treatments = (spoken(), spoken("other"), steered(tiny_llama, random_direction))
    folders = {ladder_folder(tmp_path, tiny_llama, one, asked(), QUICK) for one in treatments}
    folders.add(ladder_folder(tmp_path, tiny_llama, spoken(), asked(anchors=("x",)), QUICK))
    folders.add(ladder_folder(tmp_path, tiny_llama, spoken(), asked(), LadderSettings()))
    folders.add(ladder_folder(tmp_path, tiny_llama, spoken(), asked(), QUICK, ("module",)))
    assert len(folders) == 6


def test_a_treatment_that_does_nothing_is_refused(tiny_llama: Any) -> None:
    with pytest.raises(ArgumentError, match="does nothing"):
        measure_equivalence(tiny_llama, UNTREATED, asked(), settings=QUICK)
    with pytest.raises(ArgumentError, match="out of range"):
        LadderSettings(draws=0)


def rung(name: Any, one: float, own: float) -> Rung:
    """A rung with these E, with a little scatter over eight queries and two draws."""
    scatter = np.linspace(0.95, 1.05, 16).reshape(8, 2)
    return Rung(
        name, f"{name} text", ("a",) * 8, 5, 5, 10, (one * scatter).tolist(), (own * scatter).tolist(), one, (own,) * 8,
        0.1, 0.2,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("one", "own", "claim", "why"),
    [
        (0.9, 0.2, "confirmed", "no one prompt does across queries"),
        (0.2, 0.1, "refuted", "one prompt does at least half of it across queries"),
        (0.95, 0.8, "refuted", "not even with a prompt for each query"),
        (0.5, 0.3, "undecided", "leave both open"),
    ],
)
def test_the_claim_is_judged_by_its_intervals(one: float, own: float, claim: str, why: str) -> None:
    ones = np.ones((8, 2)).tolist()
    split = Split((0, 2, 4, 6), (1, 3, 5, 7))
    found = Equivalence(
        "adapter:x", "tiny", "d", tuple("abcdefgh"), True, split,
        (rung("nothing", 1, 1), rung("instruction", one, own), rung("soft", 0.01, 0.01)),
        ones, ones, 0.1, 0.2, 0, 0,
    )  # fmt: skip
    judged = verdict(found)
    assert judged.claim == claim
    (sentence,) = (said for said in judged.sentences if "The claim" in said)
    assert claim in sentence and why in sentence and f"{own:.2f}" in sentence
