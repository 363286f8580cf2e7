"""A run: the same tokens in all arms, a sham that is base bit for bit, a budget that holds, and nothing run twice."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from toy_axis import BUDGET, LETTERS, toy_contrast, toy_texts, write_contrast
from toy_home import create_toy_home, toy_settings, write_settings

from overlay.errors import ArgumentError, AxisMissing, AxisUnproven, RecordDamaged
from overlay.home import Home
from overlay.progress import SilentProgress
from overlay.records import read_journal
from overlay.scenarios import Scenario, run_scenario
from overlay.scenarios.run import RANDOM_PARAPHRASES

DIRECTIONS = 2
ITEMS = 6
ARMS = {"base", "treated", "sham", "reversed", "random_norm", "random_volatility"}


def toy_script(**changes: Any) -> Scenario:
    """Six items of two paraphrases; options of different lengths, the behaviour first in every other item."""
    items = []
    for number in range(ITEMS):
        options = [
            {"id": "give", "text": f"I give {number + 1} away.", "effects": {"logs": -1 - number}},
            {"id": "keep", "text": "I keep all of it."},
        ]
        items.append(
            {
                "id": f"item-{number}",
                "resources": {"logs": 12},
                "paraphrases": [
                    f"There are 12 logs at place {number}.",
                    f"Place {number} has 12 logs, all of them dry.",
                ],
                "options": options if number % 2 else options[::-1],
            }
        )
    content: dict[str, Any] = {
        "name": "toy",
        "description": "For tests.",
        "axes": ["vowels"],
        "exposure": toy_texts(LETTERS["positive"], 3, 11),
        "trial": {"setting": "You keep the stores.", "question": "What now?", "items": items},
        "detectors": [
            {"name": "gave", "kind": "ledger", "spent_at_least": 1},
            {"name": "gave_much", "kind": "ledger", "spent_at_least": 4},
        ],
        "primary": "gave",
    }
    return Scenario(**content | changes)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, embedder_folder: Path) -> Home:
    return create_toy_home(tmp_path_factory.mktemp("toy") / "home", embedder_folder)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, home: Home, tiny_llama: Any) -> tuple[dict[str, Any], Path]:
    """One whole run: its result and its folder."""
    out = tmp_path_factory.mktemp("run") / "out"
    return run_scenario(toy_script(), home, model=tiny_llama, out=out, random_directions=DIRECTIONS), out


def numbers(result: dict[str, Any]) -> dict[str, Any]:
    """Everything of a result but how long it took and where it lies."""
    return {key: value for key, value in result.items() if key not in ("seconds", "records")}


@pytest.mark.real
def test_a_result_names_all_that_a_reader_needs(finished: tuple[dict[str, Any], Path]) -> None:
    result, out = finished
    assert {"verdict", "reasons", "headline", "arms", "prompts_identical", "sham_identical", "seconds"} <= set(result)
    assert result["verdict"] in ("behaviour shown", "no change detected", "invalid") and result["reasons"]
    assert set(result["arms"]) == ARMS
    for name, arm in result["arms"].items():
        wanted = {
            "label",
            "n",
            "rate",
            "rate_interval",
            "mean_score",
            "score_interval",
            "p",
            "volatility_mean",
            "leaks",
        }
        assert wanted <= set(arm)
        assert arm["n"] == ITEMS * (RANDOM_PARAPHRASES * DIRECTIONS if name.startswith("random") else 2)
        assert arm["rate_interval"][0] <= arm["rate"] <= arm["rate_interval"][1]
        assert arm["score_interval"][0] <= arm["mean_score"] <= arm["score_interval"][1]
        assert (arm["p"] is not None) == (name in ("treated", "sham", "reversed"))
    assert result["model"] == {"name": "tiny-llama", "digest": result["model"]["digest"], "dtype": "float32"}
    assert json.loads((out / "result.json").read_text()) == result


@pytest.mark.real
def test_the_trial_has_the_same_tokens_in_every_arm(finished: tuple[dict[str, Any], Path]) -> None:
    result, out = finished
    assert result["prompts_identical"] is True
    hashes: dict[tuple[str, int], set[str]] = {}
    for record in read_journal(out / "records.jsonl"):
        hashes.setdefault((record["item"], record["paraphrase"]), set()).add(record["prompts"])
    assert len(hashes) == ITEMS * 2 and all(len(found) == 1 for found in hashes.values())
    assert len(set.union(*hashes.values())) == ITEMS * 2


@pytest.mark.real
def test_sham_is_base_bit_for_bit_and_treated_is_not(finished: tuple[dict[str, Any], Path]) -> None:
    result, out = finished
    assert result["sham_identical"] is True and result["arms"]["sham"]["volatility_mean"] == 0
    scores: dict[str, list[Any]] = {}
    for record in read_journal(out / "records.jsonl"):
        scores.setdefault(record["arm"], []).append(record["scores_by_order"])
    assert scores["sham"] == scores["base"] != scores["treated"] != scores["reversed"]
    assert result["arms"]["sham"]["shift"] == 0 and result["arms"]["sham"]["p"] == 1


@pytest.mark.real
def test_treated_stays_inside_the_budget_and_the_random_arms_are_matched_to_it(
    finished: tuple[dict[str, Any], Path],
) -> None:
    result, _ = finished
    treated = result["arms"]["treated"]["volatility_mean"]
    assert 0 < treated <= result["budget"] == BUDGET
    for direction in result["arms"]["random_volatility"]["directions"]:
        assert direction["volatility_mean"] == pytest.approx(treated, rel=0.06)
    shifts = [entry["shift"] for entry in result["arms"]["random_norm"]["directions"]]
    assert len(shifts) == DIRECTIONS == len(set(shifts))
    assert result["arms"]["random_norm"]["shift"] == pytest.approx(sum(shifts) / DIRECTIONS)


@pytest.mark.real
def test_the_exposure_is_told_step_by_step_to_the_state_that_acts(finished: tuple[dict[str, Any], Path]) -> None:
    result, _ = finished
    path = result["state_path"]
    assert result["state"]["vowels"] > 0.1
    assert path[-1]["state"]["vowels"] == pytest.approx(result["state"]["vowels"])
    assert [step["step"] for step in path] == list(range(1, len(path) + 1))
    assert sum(step["source"] == "read" for step in path) == 3


@pytest.mark.real
def test_every_record_says_what_was_chosen_and_what_that_did_to_the_stock(
    finished: tuple[dict[str, Any], Path],
) -> None:
    _, out = finished
    script = toy_script()
    for record in read_journal(out / "records.jsonl"):
        item = next(item for item in script.trial.items if item.id == record["item"])
        spent = 12 - record["stock"]["logs"]
        assert spent == (1 + script.trial.items.index(item) if record["chosen"] == "give" else 0)
        assert record["detectors"] == {"gave": spent >= 1, "gave_much": spent >= 4}
        assert (record["chosen"] == "give") == (record["margin"] > 0)
        by_order = [scores[0] - scores[1] for scores in record["scores_by_order"]]
        assert record["margin"] == pytest.approx(sum(by_order) / 2)


@pytest.mark.real
def test_rates_and_shifts_are_those_of_the_records(finished: tuple[dict[str, Any], Path]) -> None:
    result, out = finished
    records = read_journal(out / "records.jsonl")
    base = {(r["item"], r["paraphrase"]): r for r in records if r["arm"] == "base"}
    for name, arm in result["arms"].items():
        own = [record for record in records if record["arm"] == name]
        assert arm["rate"] == pytest.approx(sum(record["detectors"]["gave"] for record in own) / len(own))
        shifts = [record["margin"] - base[record["item"], record["paraphrase"]]["margin"] for record in own]
        assert arm["shift"] == (None if name == "base" else pytest.approx(math.fsum(shifts) / len(shifts)))


@pytest.mark.real
def test_a_second_call_runs_no_cell_again_and_finds_the_same(
    finished: tuple[dict[str, Any], Path], home: Home, tiny_llama: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    result, out = finished
    journal = (out / "records.jsonl").read_bytes()
    monkeypatch.setattr(tiny_llama, "score", None)  # a call would raise
    again = run_scenario(toy_script(), home, model=tiny_llama, out=out, random_directions=DIRECTIONS)
    assert numbers(again) == numbers(result)
    assert (out / "records.jsonl").read_bytes() == journal


class Interrupts(SilentProgress):
    """Presses Ctrl-C after so many steps of the arms."""

    def __init__(self, after: int) -> None:
        self.left = after

    def step(self, description: str, done: int | None, total: int | None) -> None:
        if description == "running the arms":
            self.left -= 1
            if self.left < 0:
                raise KeyboardInterrupt


@pytest.mark.real
def test_an_interrupted_run_keeps_its_cells_and_goes_on_to_the_same_end(
    finished: tuple[dict[str, Any], Path], home: Home, tiny_llama: Any, tmp_path: Path
) -> None:
    result, out = finished
    again = tmp_path / "again"
    for after in (3, 2):
        with pytest.raises(KeyboardInterrupt):
            run_scenario(
                toy_script(),
                home,
                model=tiny_llama,
                out=again,
                random_directions=DIRECTIONS,
                progress=Interrupts(after),
            )
        assert not tiny_llama.steering.has_plan and not (again / "result.json").exists()
    kept = read_journal(again / "records.jsonl")
    assert kept == read_journal(out / "records.jsonl")[: 3 * ITEMS]
    with open(again / "records.jsonl", "ab") as file:
        file.write(b'{"scenario":"to')  # a kill in the middle of a line
    resumed = run_scenario(toy_script(), home, model=tiny_llama, out=again, random_directions=DIRECTIONS)
    assert read_journal(again / "records.jsonl") == read_journal(out / "records.jsonl")
    assert numbers(resumed) == numbers(result)


@pytest.mark.real
def test_cells_lost_from_the_middle_of_a_batch_come_back_the_same(
    finished: tuple[dict[str, Any], Path], home: Home, tiny_llama: Any, tmp_path: Path
) -> None:
    result, out = finished
    again = Path(shutil.copytree(out, tmp_path / "again"))
    lines = (out / "records.jsonl").read_bytes().splitlines(keepends=True)
    (again / "records.jsonl").write_bytes(b"".join(line for place, line in enumerate(lines) if place % 5))
    resumed = run_scenario(toy_script(), home, model=tiny_llama, out=again, random_directions=DIRECTIONS)
    assert numbers(resumed) == numbers(result)
    assert sorted((again / "records.jsonl").read_bytes().splitlines(keepends=True)) == sorted(lines)


@pytest.mark.real
def test_more_directions_add_cells_and_change_none(
    finished: tuple[dict[str, Any], Path], home: Home, tiny_llama: Any, tmp_path: Path
) -> None:
    result, out = finished
    again = Path(shutil.copytree(out, tmp_path / "again"))
    more = run_scenario(toy_script(), home, model=tiny_llama, out=again, random_directions=DIRECTIONS + 1)
    journal, before = read_journal(again / "records.jsonl"), read_journal(out / "records.jsonl")
    assert journal[: len(before)] == before and len(journal) == len(before) + 2 * RANDOM_PARAPHRASES * ITEMS
    assert more["arms"]["treated"] == result["arms"]["treated"]


# --- what is refused, and what is invalid --------------------------------------------------------


@pytest.mark.real
def test_the_folder_of_another_script_is_refused_untouched(
    finished: tuple[dict[str, Any], Path], home: Home, tiny_llama: Any
) -> None:
    _, out = finished
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    other = toy_script(description="Changed by a word.")
    with pytest.raises(ArgumentError, match="another version of a script") as caught:
        run_scenario(other, home, model=tiny_llama, out=out, random_directions=DIRECTIONS)
    assert "--out" in caught.value.next_step
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


@pytest.mark.real
def test_a_damaged_marker_or_journal_is_told_by_its_path(
    finished: tuple[dict[str, Any], Path], home: Home, tiny_llama: Any, tmp_path: Path
) -> None:
    _, out = finished
    again = Path(shutil.copytree(out, tmp_path / "again"))
    (again / "scenario.json").write_text("{")
    with pytest.raises(RecordDamaged, match=r"scenario\.json"):
        run_scenario(toy_script(), home, model=tiny_llama, out=again)
    shutil.copy(out / "scenario.json", again)
    journal = again / "records.jsonl"
    journal.write_bytes(b"nonsense\n" + journal.read_bytes())
    with pytest.raises(RecordDamaged, match=r"records\.jsonl:1"):
        run_scenario(toy_script(), home, model=tiny_llama, out=again)


@pytest.mark.real
def test_a_missing_axis_is_told_before_a_model_is_loaded_or_a_folder_made(home: Home, tmp_path: Path) -> None:
    with pytest.raises(AxisMissing, match="there is no axis 'tenderness'") as caught:
        run_scenario(toy_script(axes=["vowels", "tenderness"]), home, out=tmp_path / "out")
    assert "vowels" in caught.value.next_step and not (tmp_path / "out").exists()


@pytest.mark.real
def test_an_axis_that_does_not_pass_its_checks_is_no_evidence(
    home: Home, embedder_folder: Path, tiny_llama: Any, tmp_path: Path
) -> None:
    other = Path(shutil.copytree(home.folder, tmp_path / "home"))
    write_contrast(
        other / "adapters" / "steering", toy_contrast("blind", positive=toy_texts(LETTERS["negative"], seed=1))
    )
    opened = write_settings(other, toy_settings(embedder_folder))
    with pytest.raises(AxisUnproven, match="'blind'"):
        run_scenario(toy_script(axes=["blind"]), opened, model=tiny_llama, out=tmp_path / "out")


@pytest.mark.real
def test_a_forced_axis_is_named_as_unproven_in_the_result_and_its_reasons(
    home: Home, tiny_llama: Any, tmp_path: Path, finished: tuple[dict[str, Any], Path]
) -> None:
    opened = Home.open(shutil.copytree(home.folder, tmp_path / "home"))
    axis = opened.axes.load("vowels", tiny_llama.digest)
    weak = replace(axis, evidence=replace(axis.evidence, auroc={"negative": 0.6}), forced=True)
    weak.save(opened.lived / "axes")
    result = run_scenario(toy_script(), opened, model=tiny_llama, out=tmp_path / "out", random_directions=1)
    assert result["unproven_axes"] == ["vowels"]
    assert "axis 'vowels' is unproven and was forced: held-out AUROC against negative is 0.60" in result["reasons"][-1]
    assert finished[0]["unproven_axes"] == [] and not any("unproven" in reason for reason in finished[0]["reasons"])


@pytest.mark.real
def test_an_effect_is_never_measured_without_its_controls(home: Home, tiny_llama: Any, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="0 random directions"):
        run_scenario(toy_script(), home, model=tiny_llama, out=tmp_path / "out", random_directions=0)


@pytest.mark.real
def test_a_word_of_the_state_in_the_trial_makes_the_run_invalid(home: Home, tiny_llama: Any, tmp_path: Path) -> None:
    trial = toy_script().trial
    leaking = toy_script(trial=trial.model_copy(update={"question": "Which Vowel now?"}).model_dump())
    result = run_scenario(leaking, home, model=tiny_llama, out=tmp_path / "out", random_directions=1)
    assert result["verdict"] == "invalid" and any(reason.startswith("no leak") for reason in result["reasons"])
    assert {leak["word"] for leak in result["leaks"]} == {"vowel"}
    assert all(arm["leaks"] == len(result["leaks"]) > 0 for arm in result["arms"].values())


@pytest.mark.real
def test_too_few_items_make_the_run_invalid(home: Home, tiny_llama: Any, tmp_path: Path) -> None:
    trial = toy_script().trial
    small = toy_script(trial=trial.model_copy(update={"items": trial.items[:2]}).model_dump())
    result = run_scenario(small, home, model=tiny_llama, out=tmp_path / "out", random_directions=1)
    assert result["verdict"] == "invalid" and any(reason.startswith("enough units") for reason in result["reasons"])


@pytest.mark.real
def test_an_exposure_that_moves_nothing_makes_the_run_invalid(
    home: Home, embedder_folder: Path, tiny_llama: Any, tmp_path: Path
) -> None:
    other = Path(shutil.copytree(home.folder, tmp_path / "home"))
    settings = toy_settings(embedder_folder, state={"axes": {"vowels": {"gain": 0.0}}})
    result = run_scenario(
        toy_script(), write_settings(other, settings), model=tiny_llama, out=tmp_path / "out", random_directions=1
    )
    assert result["verdict"] == "invalid"
    assert any(reason.startswith("a state built up") for reason in result["reasons"])
