"""An agent writes a state that stayed into itself only when it may, from its own words, after checks, and not for
good; whatever goes wrong, what was in force stays in force bit for bit."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from reprogramming_home import GUARD, SESSION, USERS_WORDS, create_home, live, live_whole, own_texts
from tiny_models import byte_tokenizer, tiny_module
from toy_axis import BUDGET, LETTERS, toy_contrast, toy_texts, write_contrast
from toy_home import toy_settings, write_settings

from overlay import Agent
from overlay.axes import load_axis
from overlay.errors import AxisMissing, DocumentError, HomeError, HomeLocked, RecordDamaged
from overlay.home import Home
from overlay.memory import WriterLock
from overlay.model import LanguageModel, VolatilityGauge
from overlay.records import read_journal, write_record
from overlay.reprogramming import Proposal, adapter_training, axis_growth, decide, decisions, due, undo
from overlay.teaching import Curriculum

NOW = 1_800_000_000.0
ADAPTER: dict[str, Any] = GUARD | {"writes": "adapter", "texts": 15, "share": 1.0}
ADAPTER_BUDGET = 0.06
"""Twice the toy axes' own, so that an adapter can learn something within it."""


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reprogramming-model")
    tiny_module("llama").save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def model(model_folder: Path) -> LanguageModel:
    return LanguageModel.load(str(model_folder), dtype="float32")


@pytest.fixture(scope="module")
def gauge(model: LanguageModel) -> VolatilityGauge:
    return VolatilityGauge(model)


@pytest.fixture(scope="module")
def built_axes(tmp_path_factory: pytest.TempPathFactory, model: LanguageModel, gauge: VolatilityGauge) -> Path:
    home = create_home(tmp_path_factory.mktemp("built") / "home")
    # Not the defaults: what grows has to stay what it was.
    home.axes.build("vowels", model, gauge, budget=BUDGET, method="discriminant", writes="reading")
    return home.lived / "axes"


Make = Callable[..., Home]


@pytest.fixture
def make(tmp_path: Path, model_folder: Path, built_axes: Path) -> Make:
    """A home with a built axis, in which nothing was lived yet."""

    def home(guard: dict[str, Any] | None = GUARD, **changes: Any) -> Home:
        made = create_home(tmp_path / "home", guard, model=str(model_folder), **changes)
        shutil.copytree(built_axes, made.lived / "axes")
        return made

    return home


def proposal_of(home: Home) -> Proposal:
    found = due(home)
    assert found is not None
    return found


def people_wrote(home: Home) -> dict[str, bytes]:
    return files(home.folder, lambda path: ".overlay" not in path.parts)


def files(folder: Path, chosen: Callable[[Path], bool] = lambda path: True) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and chosen(path.relative_to(folder))
    }


def axis_file(home: Home) -> Path:
    return home.lived / "axes" / "vowels.safetensors"


# --- what is due ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "side"),
    [
        ([], None),
        ([0.9] * 3, None),
        ([0.9] * 4, "high"),
        ([0.1, 0.8, 0.8, 0.8, 0.8], "high"),
        ([0.9, 0.9, 0.79, 0.9, 0.9], None),
        ([0.9] * 4 + [0.1], None),
        ([-0.9] * 4, "low"),
        ([0.9, 0.9, -0.9, -0.9], None),
    ],
)
def test_it_is_due_once_an_accumulator_has_stayed_beyond_the_threshold_on_one_side(
    make: Make, values: list[float], side: str | None
) -> None:
    home = make()
    live(home, values)
    found = due(home)
    assert (found and found.side) == side
    if found:
        first = len(values) - 3
        assert found.turns == tuple((SESSION, first + place) for place in range(4))


def test_without_a_word_in_the_settings_nothing_is_ever_due(
    make: Make, model: LanguageModel, gauge: VolatilityGauge
) -> None:
    home = make(None)
    live_whole(home)
    before = files(home.lived)
    assert home.settings.reprogramming is None and due(home) is None
    asked = Home(home.folder, on(home, GUARD).settings)
    off = Home(home.folder, home.settings)
    with pytest.raises(HomeError, match="off"):
        decide(off, proposal_of(asked), model, gauge)
    assert files(home.lived) == before


def on(home: Home, guard: dict[str, Any]) -> Home:
    from overlay.reprogramming_settings import ReprogrammingSettings

    settings = ReprogrammingSettings.model_validate(guard)
    return Home(home.folder, home.settings.model_copy(update={"reprogramming": settings}))


def test_a_reset_ends_a_stay(make: Make) -> None:
    home = make()
    live(home, [0.9] * 4)
    assert due(home) is not None
    live(home, [0.0], kind="reset")
    live(home, [0.9] * 3)
    assert due(home) is None
    live(home, [0.9])
    assert due(home) is not None


@pytest.mark.parametrize(
    ("changes", "told"), [({"axis": "joy"}, "'joy', which is not under state"), ({"threshold": 1.6}, "its cap is 1.5")]
)
def test_what_can_never_be_due_is_a_mistake_in_the_settings(make: Make, changes: dict[str, Any], told: str) -> None:
    with pytest.raises(DocumentError, match=r"agent\.yaml") as caught:
        due(make(GUARD | changes))
    assert told in str(caught.value)


def test_an_adapter_that_could_not_be_checked_is_refused_with_its_line(make: Make) -> None:
    with pytest.raises(DocumentError, match=r"agent\.yaml:\d+: reprogramming\.texts"):
        make(GUARD | {"writes": "adapter", "texts": 14})


# --- own words -----------------------------------------------------------------------------------


def said(proposal: Proposal) -> list[str]:
    return [own.text for own, _ in proposal.pairs]


def test_it_learns_from_what_it_said_in_those_turns_beside_what_the_same_voice_said_in_calm_ones(make: Make) -> None:
    home = make()
    own = live_whole(home)
    found = proposal_of(home)
    assert set(said(found)) == set(own) and not found.hindrance and found.left_out == {}
    twins = [twin for _, twin in found.pairs]
    assert {twin.text for twin in twins} == set(own_texts(LETTERS["negative"], 16, 21))
    assert all(one.source == twin.source and one.number > 8 >= twin.number for one, twin in found.pairs)
    assert {one.source for one, _ in found.pairs} == {"reply", "voice:plain"}


def context(*segments: tuple[str, str]) -> list[dict[str, Any]]:
    parts = [{"source": source, "text": text} for source, text in segments]
    return [{"purpose": "reply", "messages": [{"role": "user", "segments": parts}]}]


@pytest.mark.parametrize(
    "source", ["user", "note:river", "note:session:a:turn:1:user", "mask:plain", "frame:f", "system"]
)
def test_nobody_elses_words_are_learned_even_where_the_agent_repeats_them(make: Make, source: str) -> None:
    home = make()
    own = live_whole(home)
    foreign = "Rivers Rise in the quiet hills"
    echo = f"aeiou aei {foreign.lower()}, aeiou eea"
    live(home, [1.0], [(echo, "aeiou " + USERS_WORDS)], contexts=context((source, foreign)))
    found = proposal_of(home)
    assert set(said(found)) == set(own) and found.left_out == {"holds others' words": 2}


def test_its_own_words_stay_its_own_when_they_are_remembered(make: Make) -> None:
    home = make()
    own = live_whole(home)
    remembered = (f"note:session:{SESSION}:turn:9:reply", own[0])
    live(home, [1.0], [("", "")], contexts=context(remembered, ("reply", own[2]), ("voice:plain", own[1])))
    assert set(said(proposal_of(home))) == set(own)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("aeiou iou aei", "too short"),
        (own_texts(LETTERS["positive"], 1, 22)[0].upper(), "said before"),
        ("aei " * 8 + "VOWEL", "names the state"),
        (f"{toy_contrast()['positive'][0]} aei aei aei", "holds others' words"),
        (own_texts(LETTERS["negative"], 1, 21)[0], "said in calm turns as well"),
    ],
)
def test_what_would_teach_nothing_or_the_wrong_thing_is_left_out(make: Make, text: str, reason: str) -> None:
    home = make()
    live_whole(home)
    live(home, [1.0], [(text, "")])
    found = proposal_of(home)
    assert found.left_out[reason] >= 1 and len(found.pairs) <= 16
    assert reason == "said before" or text not in said(found)


def test_with_too_few_own_texts_it_is_dropped_with_its_reason_and_no_model(make: Make) -> None:
    home = make(GUARD | {"texts": 17})
    live_whole(home)
    before = people_wrote(home), axis_file(home).read_bytes()
    decision = decide(home, proposal_of(home), now=NOW)
    assert decision.outcome == "dropped" and "16 own texts" in decision.reasons[0] and "17" in decision.reasons[0]
    assert decisions(home) == (decision,) and due(home) is None
    assert (people_wrote(home), axis_file(home).read_bytes()) == before


def test_without_calm_turns_there_is_nothing_to_compare_with(make: Make) -> None:
    home = make()
    texts = own_texts(LETTERS["positive"], 20, 5)
    live(home, [1.0] * 20, [(text, "") for text in texts])
    found = proposal_of(home)
    assert found.pairs == () and found.left_out == {"without a calm twin": 20} and "0 own texts" in found.hindrance


def test_an_axis_does_not_grow_by_what_it_should_not_fire_on(make: Make) -> None:
    home = make()
    live(home, [0.0] * 8 + [-1.0] * 8, [(text, "") for text in own_texts("aeiou", 16, 5)])
    assert "low side" in proposal_of(home).hindrance and decide(home, proposal_of(home)).outcome == "dropped"


def test_where_no_fresh_texts_could_tell_the_axis_stays_as_it_is(
    make: Make, model: LanguageModel, gauge: VolatilityGauge
) -> None:
    home = make()
    live_whole(home)
    (home.folder / "adapters" / "steering" / "vowels.confirm.yaml").unlink()
    before = files(home.lived / "axes")
    decision = decide(home, proposal_of(home), model, gauge)
    assert decision.outcome == "dropped" and "no confirmation texts" in decision.reasons[0]
    assert files(home.lived / "axes") == before


# --- an axis -------------------------------------------------------------------------------------


def test_an_axis_that_grew_and_passed_is_in_force_for_everybody_who_asks_for_it(
    make: Make, model: LanguageModel, gauge: VolatilityGauge
) -> None:
    home = make()
    live_whole(home)
    wrote, old = people_wrote(home), axis_file(home).read_bytes()
    decision = decide(home, proposal_of(home), model, gauge, now=NOW)
    assert decision.outcome == "adopted" and decision.reasons == () and decisions(home) == (decision,)
    new = axis_file(home).read_bytes()
    assert new != old and hashlib.sha256(new).hexdigest() == decision.digest_after
    assert decision.digest_before == hashlib.sha256(old).hexdigest()
    axis = home.axes.load("vowels", model.digest)
    assert axis.data_digest == decision.became != decision.was and axis.proven
    assert (axis.method, axis.pool, axis.calibration.budget) == ("discriminant", "ramp", BUDGET)
    assert 0.5 < decision.after["cosine"] < 1 and decision.after["texts"] == 11
    assert set(decision.before["confirmation"]) == set(decision.after["confirmation"]) == {"negative", "liquids"}
    assert home.axes.status()[0].problem == "" and home.axes.ready("vowels", model, gauge, BUDGET) == axis
    assert people_wrote(home) == wrote and list((home.lived / "reprogramming").iterdir()) == []


def test_a_grown_axis_is_built_again_as_it_was_grown_for_another_budget(
    make: Make, model: LanguageModel, gauge: VolatilityGauge
) -> None:
    home = make()
    live_whole(home)
    decision = decide(home, proposal_of(home), model, gauge)
    again = home.axes.ready("vowels", model, gauge, BUDGET / 2)
    assert again.data_digest == decision.became and again.calibration.budget == BUDGET / 2
    assert home.axes.load("vowels", model.digest) == again


def test_what_people_change_counts_more_than_what_was_grown(
    make: Make, model: LanguageModel, gauge: VolatilityGauge
) -> None:
    home = make()
    live_whole(home)
    decide(home, proposal_of(home), model, gauge)
    changed = toy_contrast(neutral=toy_texts(LETTERS["neutral"], seed=4))
    write_contrast(home.folder / "adapters" / "steering", changed)
    with pytest.raises(AxisMissing, match="changed after it was built"):
        home.axes.load("vowels", model.digest)
    built = home.axes.ready("vowels", model, gauge, BUDGET)
    assert built.data_digest == home.axes.contrast("vowels").digest
    with pytest.raises(HomeError, match="not what decision 1 adopted"):
        undo(home)


def test_no_word_of_the_user_stands_in_what_it_was_grown_from(
    make: Make, model: LanguageModel, gauge: VolatilityGauge
) -> None:
    home = make()
    live_whole(home)
    live(home, [1.0], [(f"aeiou {USERS_WORDS}", USERS_WORDS)])
    assert decide(home, proposal_of(home), model, gauge).outcome == "adopted"
    (grown,) = (home.lived / "axes").glob("*.grown.json")
    assert not any(word in grown.read_text() for word in USERS_WORDS.split())


def test_own_texts_that_look_like_a_foil_are_rolled_back_with_the_foils_name(
    make: Make, model: LanguageModel, gauge: VolatilityGauge
) -> None:
    home = make()
    live_whole(home, LETTERS["foil"])
    wrote, old = people_wrote(home), files(home.lived / "axes")
    decision = decide(home, proposal_of(home), model, gauge, now=NOW)
    assert decision.outcome == "rolled back" and "stays in force" in decision.words
    assert any("fails its own checks" in reason and "liquids" in reason for reason in decision.reasons)
    assert any("on fresh texts its AUROC against liquids falls from 1.000" in reason for reason in decision.reasons)
    assert (people_wrote(home), files(home.lived / "axes")) == (wrote, old)
    assert read_journal(home.lived / "reprogramming.jsonl")[0]["outcome"] == "rolled back"
    assert due(home) is None


def test_the_next_proposal_waits_and_looks_at_later_turns_alone(
    make: Make, model: LanguageModel, gauge: VolatilityGauge
) -> None:
    home = make()
    live_whole(home, LETTERS["foil"])
    decide(home, proposal_of(home), model, gauge)
    live(home, [1.0] * 5)
    assert due(home) is None
    live(home, [1.0])
    assert [number for _, number in proposal_of(home).turns] == list(range(17, 23))


def test_a_proposal_that_was_decided_already_or_outlived_is_refused(
    make: Make, model: LanguageModel, gauge: VolatilityGauge
) -> None:
    home = make()
    live_whole(home)
    old = proposal_of(home)
    live(home, [1.0])
    with pytest.raises(HomeError, match="isn't due any more"):
        decide(home, old, model, gauge)
    found = proposal_of(home)
    decide(home, found, model, gauge)
    with pytest.raises(HomeError, match="isn't due any more"):
        decide(home, found, model, gauge)
    assert len(decisions(home)) == 1


def test_a_dry_run_tells_the_same_and_changes_nothing(make: Make, model: LanguageModel, gauge: VolatilityGauge) -> None:
    home = make()
    live_whole(home)
    before = files(home.folder, lambda path: path.name != "memory.lock")
    tried = decide(home, proposal_of(home), model, gauge, now=NOW, dry_run=True)
    assert files(home.folder, lambda path: path.name != "memory.lock") == before
    done = decide(home, proposal_of(home), model, gauge, now=NOW)
    # The header of a safetensors file has no fixed order: the same axis may have another file, never other data.
    assert done.outcome == "adopted" and replace(tried, dry_run=False, digest_after=done.digest_after) == done


def test_while_an_agent_is_open_nothing_is_decided_unless_it_is_the_agent_that_decides(
    make: Make, model: LanguageModel, gauge: VolatilityGauge
) -> None:
    home = make()
    live_whole(home)
    lock = WriterLock(home.lived / "memory.lock")
    try:
        with pytest.raises(HomeLocked):
            decide(home, proposal_of(home), model, gauge)
        assert decisions(home) == ()
        assert decide(home, proposal_of(home), model, gauge, locked=True).outcome == "adopted"
        with pytest.raises(HomeLocked):
            undo(home)
    finally:
        lock.release()


# --- an agent that decides by itself ---------------------------------------------------------------


def test_an_agent_that_may_writes_what_is_due_into_itself_when_it_is_opened_and_goes_on_with_it(
    make: Make, model: LanguageModel, embedder_folder: Path
) -> None:
    home = make(embedder=embedder_folder)
    live_whole(home)
    wrote = people_wrote(home)
    with Agent.open(home, model=model, clock=lambda: NOW) as agent:
        (decision,) = decisions(home)
        assert (decision.outcome, decision.time) == ("adopted", NOW)
        assert agent.notices == ("self-reprogramming of 'vowels': adopted; see `overlay reprogram`",)
        grown = agent.influence.axes["vowels"]
        assert grown.data_digest == decision.became != decision.was
        record = agent.turn("aei iou aeiou").record
        assert record.made_with["axes"] == {"vowels": grown.digest}
    with Agent.open(home, model=model) as again:
        assert again.notices == () and again.influence.axes["vowels"] == grown
    assert decisions(home) == (decision,) and people_wrote(home) == wrote


def test_an_agent_that_was_not_allowed_to_leaves_itself_as_it_is(
    make: Make, model: LanguageModel, embedder_folder: Path
) -> None:
    home = make(None, embedder=embedder_folder)
    live_whole(home)
    axes = files(home.lived / "axes")
    with Agent.open(home, model=model) as agent:
        assert agent.notices == () and agent.influence.axes["vowels"] == load_axis(axis_file(home))
    assert files(home.lived / "axes") == axes and decisions(home) == ()


# --- what goes wrong -----------------------------------------------------------------------------


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError, MemoryError])
def test_an_end_in_the_middle_of_building_leaves_everything_as_it_was(
    make: Make, model: LanguageModel, gauge: VolatilityGauge, error: type[BaseException]
) -> None:
    home = make()
    live_whole(home)
    before = files(home.folder, lambda path: path.name != "memory.lock")

    class Ends:
        def step(self, description: str, done: int | None, total: int | None, detail: str = "") -> None:
            if description == "reading the confirmation texts":
                raise error

    found = proposal_of(home)
    with pytest.raises(error):
        decide(home, found, model, gauge, Ends())
    assert files(home.folder, lambda path: path.name != "memory.lock") == before and due(home) == found
    assert decide(home, found, model, gauge).outcome == "adopted"


@pytest.mark.parametrize("guard", [GUARD, ADAPTER])
def test_an_end_between_deciding_and_adopting_leaves_the_old_one_in_force_and_is_told(
    make: Make,
    model: LanguageModel,
    gauge: VolatilityGauge,
    monkeypatch: pytest.MonkeyPatch,
    guard: dict[str, Any],
) -> None:
    home = make(guard, budget=ADAPTER_BUDGET)
    home.axes.ready("vowels", model, gauge, ADAPTER_BUDGET)
    live_whole(home, turns=12)
    old, found = axis_file(home).read_bytes(), proposal_of(home)

    def write(path: Path, content: str | bytes) -> None:
        if path == axis_file(home):
            raise KeyboardInterrupt
        write_record(path, content)

    def rename(path: Path, target: Path) -> Path:
        if target.parent == home.lived / "adapters":
            raise KeyboardInterrupt
        return moved(path, target)

    moved = Path.rename
    with monkeypatch.context() as patched:
        patched.setattr(axis_growth, "write_record", write)
        patched.setattr(Path, "rename", rename)
        with pytest.raises(KeyboardInterrupt):
            decide(home, found, model, gauge, now=NOW)
    assert axis_file(home).read_bytes() == old and not list((home.lived / "adapters").glob("own*"))
    assert [one.outcome for one in decisions(home)] == ["cut off"] and due(home) == found
    with pytest.raises(HomeError, match="left to be undone"):
        undo(home)
    again = decide(home, found, model, gauge, now=NOW + 1)
    assert again.outcome == "adopted" and [one.outcome for one in decisions(home)] == ["adopted", "cut off", "adopted"]
    assert list((home.lived / "reprogramming").iterdir()) == [] and undo(home).undoes == again.number


# --- undo ----------------------------------------------------------------------------------------


def test_undo_puts_the_axis_back_bit_for_bit_and_writes_it_down(
    make: Make, model: LanguageModel, gauge: VolatilityGauge
) -> None:
    home = make()
    live_whole(home)
    old = axis_file(home).read_bytes()
    adopted = decide(home, proposal_of(home), model, gauge)
    undone = undo(home, NOW)
    assert axis_file(home).read_bytes() == old and home.axes.load("vowels").data_digest == adopted.was
    assert (undone.outcome, undone.undoes, undone.digest_after) == ("undone", 1, adopted.digest_before)
    assert decisions(home) == (adopted, undone) and due(home) is None
    with pytest.raises(HomeError, match="left to be undone"):
        undo(home)


def test_what_was_adopted_one_after_the_other_is_undone_one_after_the_other(
    make: Make, model: LanguageModel, gauge: VolatilityGauge
) -> None:
    home = make()
    live_whole(home)
    contents = [axis_file(home).read_bytes()]
    decide(home, proposal_of(home), model, gauge)
    contents.append(axis_file(home).read_bytes())
    more = own_texts(LETTERS["positive"], 16, 77)
    live(home, [1.0] * 8, [(more[2 * place], more[2 * place + 1]) for place in range(8)])
    assert decide(home, proposal_of(home), model, gauge).outcome == "adopted"
    grown = home.axes.load("vowels", model.digest)
    assert grown == load_axis(axis_file(home)) and axis_file(home).read_bytes() not in contents
    for content in reversed(contents):
        undo(home)
        assert axis_file(home).read_bytes() == content
        home.axes.load("vowels", model.digest)


def test_undo_refuses_what_it_cannot_put_back(make: Make, model: LanguageModel, gauge: VolatilityGauge) -> None:
    home = make()
    with pytest.raises(HomeError, match="nothing was adopted yet"):
        undo(home)
    live_whole(home)
    decide(home, proposal_of(home), model, gauge)
    (kept,) = (home.lived / "axes").glob("*.kept")
    kept.write_bytes(b"something else")
    new = axis_file(home).read_bytes()
    with pytest.raises(RecordDamaged, match="overlay axes build vowels"):
        undo(home)
    assert axis_file(home).read_bytes() == new and len(decisions(home)) == 1


# --- an adapter ----------------------------------------------------------------------------------


def adapter_home(make: Make, model: LanguageModel, gauge: VolatilityGauge, **changes: Any) -> Home:
    home = make(ADAPTER | changes, budget=ADAPTER_BUDGET)
    home.axes.ready("vowels", model, gauge, ADAPTER_BUDGET)
    return home


def test_an_adapter_that_passed_is_there_by_its_name_and_worn_by_nobody(
    make: Make, model: LanguageModel, gauge: VolatilityGauge, model_folder: Path
) -> None:
    home = adapter_home(make, model, gauge)
    own = live_whole(home, turns=12)
    wrote, axes = people_wrote(home), files(home.lived / "axes")
    decision = decide(home, proposal_of(home), model, gauge)
    assert decision.outcome == "adopted" and decision.name == "own_vowels_1", decision.reasons
    assert "worn by nobody" in decision.words and "agent.yaml" in decision.words
    assert decision.after["gain_own"] > 0 and decision.after["p"] < 0.05
    assert decision.after["volatility"] <= ADAPTER_BUDGET
    assert (people_wrote(home), files(home.lived / "axes")) == (wrote, axes) and model.adapters == {}
    folder = home.lived / "adapters" / "own_vowels_1"
    written = (folder / "curriculum.json").read_text()
    curriculum = Curriculum.model_validate_json(written)
    taught = {example.target for example in curriculum.examples}
    assert taught < set(own) and not any(example.prompt for example in curriculum.examples)
    assert curriculum.teaching.anchor > 0 and curriculum.teaching.budget == 0.5 * ADAPTER_BUDGET
    asked = {f"{probe.prompt}{probe.good}" for probe in curriculum.probes}
    assert asked and not any(one.startswith(probe) for one in taught for probe in asked)
    assert not any(word in written for word in USERS_WORDS.split())
    adapter = home.adapters.load("own_vowels_1", model.digest)
    assert (adapter.origin, adapter.curriculum_digest) == ("taught", curriculum.digest)
    assert adapter.weights_sha256 == decision.became


def test_an_adapter_that_would_make_what_the_home_asks_sag_is_taken_back_while_it_is_taught(
    make: Make, model: LanguageModel, gauge: VolatilityGauge
) -> None:
    home = adapter_home(make, model, gauge)
    own = live_whole(home, turns=12)
    banks = home.folder / "adapters" / "probes"
    banks.mkdir()
    probe = {"level": "definition", "layer": "lexical"}
    # What is said in that state is what these probes hold for wrong.
    probes = [
        {"id": f"probe_{place}", **probe, "prompt": text[:8].rstrip(), "good": " qxqxqxqxqx", "bad": f" {text[8:18]}"}
        for place, text in enumerate(own[:4])
    ]
    (banks / "calm.yaml").write_text(json.dumps({"name": "calm", "about": "a", "source": "own", "probes": probes}))
    decision = decide(home, proposal_of(home), model, gauge)
    assert decision.outcome == "rolled back" or decision.after["steps_back"] > 0


def test_texts_that_do_not_read_on_the_axis_are_not_trained_on(
    make: Make, model: LanguageModel, gauge: VolatilityGauge
) -> None:
    home = adapter_home(make, model, gauge)
    live_whole(home, LETTERS["foil"], turns=12)
    decision = decide(home, proposal_of(home), model, gauge)
    assert decision.outcome == "rolled back" and "shows nothing of the state" in decision.reasons[0]
    assert not (home.lived / "adapters").exists()


def test_an_adapter_that_could_not_learn_within_its_limit_is_rolled_back(
    make: Make, model: LanguageModel, gauge: VolatilityGauge
) -> None:
    home = adapter_home(make, model, gauge, share=0.001)
    live_whole(home, turns=12)
    decision = decide(home, proposal_of(home), model, gauge)
    assert decision.outcome == "rolled back" and "nats" in decision.reasons[0]
    assert not (home.lived / "adapters").exists() and model.adapters == {}


GOOD = {"volatility": 0.01, "p": 0.01, "p_over_calm": 0.01, "gain_own": 0.3, "gain_calm": 0.1, "coherent": True}
WRITES = {"writes": {"surprise": 2.0, "repetition": 0.1, "diversity": 0.9}}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"volatility": 0.031}, "0.031 nats per token, and 0.030"),
        ({"p": 0.06}, "did not become likelier"),
        ({"gain_own": 0.015, "gain_calm": 0.0}, "did not become likelier"),
        ({"p_over_calm": 0.06}, "nothing of the state"),
        ({"coherent": False}, "falls apart"),
    ],
)
def test_each_check_of_an_adapter_can_stop_it(changes: dict[str, Any], told: str) -> None:
    assert adapter_training.adapter_failures(WRITES, GOOD | WRITES, 0.03) == []
    (reason,) = adapter_training.adapter_failures(WRITES, GOOD | WRITES | changes, 0.03)
    assert told in reason


def test_an_adapter_is_undone_unless_agent_yaml_asks_for_it_and_its_name_is_never_used_again(
    make: Make, model: LanguageModel, gauge: VolatilityGauge
) -> None:
    home = adapter_home(make, model, gauge)
    live_whole(home, turns=12)
    decide(home, proposal_of(home), model, gauge)
    settings = toy_settings("unused", adapter={"name": "own_vowels_1"})
    wearing = write_settings(home.folder, settings)
    with pytest.raises(HomeError, match=r"agent\.yaml, under `adapter`, asks for the adapter 'own_vowels_1'"):
        undo(wearing)
    assert undo(home).outcome == "undone" and list((home.lived / "adapters").iterdir()) == []
    more = own_texts(LETTERS["positive"], 24, 77)
    live(home, [1.0] * 12, [(more[2 * place], more[2 * place + 1]) for place in range(12)])
    assert decide(home, proposal_of(home), model, gauge).name == "own_vowels_2"
