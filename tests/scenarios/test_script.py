"""Scenario scripts: every mistake is told with file and line before anything is run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overlay.axes import AxisLibrary, find_words
from overlay.errors import DocumentError, ExpressionError
from overlay.frames import read_frames
from overlay.home import Home
from overlay.inner import read_voices
from overlay.scenarios import Scenario, read_scenario
from overlay.scenarios.detectors import LedgerDetector, fires
from overlay.scenarios.script import Item, Option, fill
from overlay.scenarios.transcript import Event, Transcript
from overlay.scenarios.world import Action, Situation, World

ROOT = Path(__file__).parents[2]
SHIPPED = sorted((ROOT / "scenarios").glob("*.yaml"))

SCRIPT = """\
name: night_shift
description: Two jobs.
axes: [vowels]
exposure:
  - Somebody kneels beside a dog.
  - A door closes.
trial:
  setting: You keep the stores.
  question: What do you do next?
  items:
    - id: wood
      resources: {logs: 12}
      paraphrases:
        - There are 12 logs. A stranger asks.
        - A stranger asks for logs. You have 12.
      options:
        - {id: give, text: I hand over four logs., effects: {logs: -4}}
        - {id: keep, text: I keep the logs.}
    - id: flour
      resources: {sacks: 9, hours: 2}
      paraphrases: [There are 9 sacks.]
      options:
        - {id: keep, text: I keep the sacks.}
        - {id: give, text: I send one sack., effects: {sacks: -1}}
detectors:
  - {name: gave, kind: ledger, spent_at_least: 1}
  - {name: offered, kind: choice, option: give}
primary: gave
forbidden: [tender, take care]
"""


STEPPED = """\
name: stepped
description: A post with a shed.
axes: [vowels]
exposure: {file: scenes}
neutral: [A clerk sorts the receipts.]
levels: {topic: Something tender., prompted: You are tender.}
positive_control: Be tender and take care of them.
world:
  resources: {hours: 6}
  facts: {raining: false}
  places: {desk: [yard], yard: [desk]}
  start: desk
  actions:
    - {id: count, text: I count the planks., effects: {hours: -2}}
    - {id: fetch, text: I fetch a plank., when: at == 'yard', effects: {hours: -1}, asked: false}
  others:
    - name: driver
      reactions:
        - {when: did('fetch'), says: That will do.}
  rules:
    - {name: dusk, when: hours < 2, says: It is dusk., ends: true}
    - {name: rain, when: step >= 3, effects: {raining: true}}
trial:
  setting: You keep the stores.
  question: And now?
  items:
    - id: gate
      facts: {late: true}
      paraphrases:
        - There is a gate.
      actions:
        - {id: open, text: I open the gate., effects: {hours: -1}, moves_to: yard}
    - id: wall
      resources: {bricks: 3}
      facts: {late: false}
      place: yard
      paraphrases:
        - There is a wall.
      actions:
        - {id: build, text: I build on., effects: {bricks: -1}}
  steps:
    - {id: come, say: 'A car stops. {situation}'}
    - {id: note, free: {asks: "Write a line. {hours} hours are left."}}
    - {id: shift, act: {times: 2, question: 'What next at the {at}?'}, branches: {count: note}}
    - id: close
      choose:
        question: Is that all?
        options:
          - {id: stay, text: I stay an hour., effects: {hours: -1}, asked: false}
          - {id: leave, text: I leave the post.}
      branches: {leave: end}
    - {act: {}}
detectors:
  - {name: extra, kind: volunteered}
  - {name: wrote, kind: pattern, pattern: 'planks?'}
primary: extra
forbidden: [tender, take care]
"""
SCENES = "description: Two scenes.\ntexts:\n  - Somebody kneels.\n  - >-\n    A door\n    closes.\n"


def write(folder: Path, text: str) -> Path:
    path = folder / "night_shift.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def write_stepped(folder: Path, text: str = STEPPED, scenes: str = SCENES) -> Path:
    (folder / "exposures").mkdir(exist_ok=True)
    (folder / "exposures" / "scenes.yaml").write_text(scenes, encoding="utf-8")
    path = folder / "stepped.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def line_of(text: str, part: str) -> int:
    """The line on which `part` begins; there must be one such place only."""
    assert text.count(part) == 1, part
    return text[: text.index(part)].count("\n") + 1


@pytest.fixture
def scenario(tmp_path: Path) -> Scenario:
    return read_scenario(write(tmp_path, SCRIPT))


def test_a_script_without_mistakes_is_read(scenario: Scenario) -> None:
    assert [item.id for item in scenario.trial.items] == ["wood", "flour"]
    assert scenario.primary_detector.name == "gave"


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        ("question: What do you", "question: 'What do you", None, "not valid YAML"),
        ("  items:", " items:", 10, "not valid YAML"),
        ("description:", "descripton:", 2, "'descripton' is not a known key"),
        ("resources: {logs: 12}", "resurces: {logs: 12}", 12, "resurces"),
        ("effects: {logs: -4}", "effect: {logs: -4}", 17, "effect"),
        ("axes: [vowels]", "axes: []", 3, "axes"),
        ("        - {id: keep, text: I keep the logs.}\n", "", 11, "at least two"),
        ("keep, text: I keep the logs.", "give, text: I keep the logs.", 11, "names the option 'give' twice"),
        ("{logs: -4}", "{planks: -4}", 11, "changes 'planks', which isn't there"),
        ("{logs: -4}", "{logs: -13}", 11, "spends more 'logs' than there is"),
        ("{logs: -4}", "{logs: 4}", 11, "doesn't tell the options of item 'wood' apart"),
        ("{sacks: -1}", "{}", 19, "doesn't tell the options of item 'flour' apart"),
        ("spent_at_least: 1", "spent_at_least: 2", 19, "doesn't tell the options of item 'flour' apart"),
        ("primary: gave", "primary: give", 28, "'give' is none of the detectors gave, offered"),
        ("name: offered", "name: gave", 25, "name one twice"),
        ("id: flour", "id: wood", 10, "name one twice"),
        ("kind: ledger, spent_at_least: 1", "kind: ledger", 26, "needs either spent_at_least or when"),
        ("kind: choice, option: give", "kind: choice", 27, "option' is missing"),
        ("kind: choice, option: give", "kind: judged, option: give", 27, "kind"),
        ("{logs: 12}", "{logs: -1}", 12, "greater than or equal to 0"),
        ("{logs: 12}", "{logs: many}", 12, "found 'many'"),
        ("paraphrases: [There are 9 sacks.]", "paraphrases: []", 21, "at least 1"),
        ("name: night_shift", "name: Night shift", 1, "name"),
        ("A door closes.", "''", 6, "at least 1 character"),
        ("A door closes.", "7", 6, "exposure.1: Input should be a valid string"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_file_and_line(tmp_path: Path, old: str, new: str, line: int | None, said: str) -> None:
    assert old in SCRIPT
    path = write(tmp_path, SCRIPT.replace(old, new, 1))
    with pytest.raises(DocumentError) as caught:
        read_scenario(path)
    assert caught.value.path == path and said in str(caught.value)
    assert caught.value.line == (line or caught.value.line) is not None
    assert str(caught.value).startswith(f"{path}:{caught.value.line}: ")


@pytest.fixture
def stepped(tmp_path: Path) -> Scenario:
    return read_scenario(write_stepped(tmp_path))


@pytest.mark.parametrize(
    ("old", "new", "line", "word"),
    [
        ("A door closes.", "A tender door.", 6, "tender"),
        ("You keep the stores.", "Take care of the stores.", 8, "take care"),
        ("What do you do next?", "Tender, and now?", 9, "tender"),
        ("A stranger asks for logs.", "A TENDER stranger.", 15, "tender"),
        ("I send one sack.", "I take care and send one.", 24, "take care"),
        ("A door closes.", "A dog sits\n    there and is tender.", 6, "tender"),
        (
            "Two jobs.\naxes: [vowels]\nexposure:\n  - Some",
            "Tender.\naxes: [vowels]\nexposure:\n  - Tender, some",
            5,
            "tender",
        ),
        ("A door closes.", "Somebody has to take\n    care of it.", 6, "take care"),
    ],
)
def test_a_forbidden_word_is_told_with_the_line_of_its_text(
    tmp_path: Path, old: str, new: str, line: int, word: str
) -> None:
    path = write(tmp_path, SCRIPT.replace(old, new, 1))
    with pytest.raises(DocumentError, match=f"forbidden word '{word}'") as caught:
        read_scenario(path)
    assert caught.value.line == line


def test_the_list_of_forbidden_words_itself_is_no_leak_wherever_it_stands(tmp_path: Path) -> None:
    first = SCRIPT.replace("forbidden: [tender, take care]\n", "")
    path = write(tmp_path, "forbidden:\n- tender\n- take care\n" + first.replace("A door closes.", "So tender."))
    with pytest.raises(DocumentError) as caught:
        read_scenario(path)
    assert caught.value.line == 9
    read_scenario(write(tmp_path, "forbidden:\n- tender\n" + first))


def test_a_script_that_is_not_there_is_told_by_its_path(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match=r"none\.yaml: this file does not exist"):
        read_scenario(tmp_path / "none.yaml")


# --- steps and worlds --------------------------------------------------------------------------------------------


def test_a_script_of_steps_and_a_world_is_read_with_what_is_not_written_filled_in(stepped: Scenario) -> None:
    assert [step.kind for step in stepped.trial.steps] == ["say", "free", "act", "choose", "act"]
    assert stepped.trial.step_ids == ("come", "note", "shift", "close", "act-5")
    assert stepped.exposure.texts == ("Somebody kneels.", "A door closes.")
    assert stepped.probes is not None and stepped.probes.forced
    assert stepped.preregistration.comparisons == ("treated",)


def test_one_choice_is_the_trial_where_no_steps_are_written(scenario: Scenario) -> None:
    assert [step.kind for step in scenario.trial.steps] == ["choose"]


@pytest.mark.parametrize(
    ("old", "new", "where", "said"),
    [
        ("{id: come, say:", "{id: come, act: {}, say:", "{id: come", "this one is say and act"),
        ("- {act: {}}", "- {id: last}", "{id: last}", "this one is none"),
        ("- {act: {}}", "- {id: last, when: raining}", "{id: last", "one of say, choose, act, free"),
        ("{count: note}", "{count: nowhere}", "{id: shift", "branches to 'nowhere', which is no step"),
        ("{leave: end}", "{leave: act-6}", "id: close", "branches to 'act-6', which is no step"),
        ("{id: shift,", "{id: note,", "steps:", "name one twice"),
        ("{hours} hours are left", "{planks} are left", "{id: note", "{planks} names nothing in the world of item"),
        ("at the {at}?", "at the {place}?", "{id: shift", "{place} names nothing"),
        ("A car stops.", "A {car} stops.", "{id: come", "{car} names nothing"),
        ("Is that all?", "'Are these {bricks} all?'", "id: close", "{bricks} names nothing in the world of item"),
        ("- There is a wall.", "- 'A wall of {stones}.'", "- 'A wall", "{stones} names nothing"),
        ("- There is a wall.", "- 'A wall: {situation}'", "- 'A wall", "{situation} names nothing"),
        ("          - {id: leave, text: I leave the post.}\n", "", "id: close", "has 1 options: a choice needs at"),
        ("{id: leave, text", "{id: stay, text", "id: close", "names the option 'stay' twice"),
        ("an hour., effects: {hours: -1}", "an hour., effects: {hours: -7}", "id: close", "spends more 'hours'"),
        ("an hour., effects: {hours: -1}", "an hour., effects: {days: -1}", "id: close", "changes 'days', which isn't"),
        ("hours < 2", "6 / (hours - 6) > 2", "{name: dusk", "divides by zero"),
        ("step >= 3", "bricks > 3", "{name: rain", "'bricks' is not defined"),
        ("step >= 3", "step >= spent('days')", "{name: rain", "spent('days') names no resource"),
        ("step >= 3", "step >=", "{name: rain", "is no expression"),
        ("at == 'yard'", "1 / raining > 2", "{id: fetch", "divides by zero"),
        ("gate., effects", "gate., when: bricks > 0, effects", "{id: open", "'bricks' is not defined"),
        ("moves_to: yard", "moves_to: road", "{id: open", "moves to 'road', which is no place of this world"),
        ("{bricks: -1}", "{stones: -1}", "{id: build", "changes 'stones', which isn't there"),
        ("{id: build", "{id: count", "- id: wall", "offers two actions of one id: count, fetch, count"),
        ("{id: fetch", "{id: count", "actions:\n    - {id: count, text: I count", "two actions have the id 'count'"),
        ("place: yard", "place: road", "- id: wall", "starts at 'road', which is no place"),
        ("start: desk", "start: road", "start: road", "must be one of the places"),
        ("yard: [desk]", "yard: [road]", "places:", "leads to 'road'"),
        ("{raining: false}", "{step: 2}", "world:", "'step' can't name a resource or a fact"),
        ("{times: 2,", "{times: 0,", "{id: shift", "greater than or equal to 1"),
        ("hours are left.\"", "hours are left.\", max_tokens: 0", "{id: note", "greater than or equal to 1"),
        ("hours are left.\"", "hours are left.\", temperature: 3", "{id: note", "less than or equal to 2"),
        ("question: And now?", "seeds: [-1]", "seeds:", "greater than or equal to 0"),
        ("question: And now?", "longest: 0", "longest:", "greater than or equal to 1"),
        ("kind: volunteered", "kind: choice, option: fetched", "{name: extra", "no item offers 'fetched'"),
        ("kind: volunteered", "kind: volunteered, option: x", "{name: extra", "'detectors.0.volunteered.option'"),
        ("'planks?'", "'planks('", "{name: wrote", "no regular expression"),
        ("name: wrote", "name: extra", "detectors:", "name one twice"),
        ("primary: extra", "primary: more", "primary:", "'more' is none of the detectors extra, wrote"),
        ("primary: extra", "primary: extra\npreregistration:\n  detectors: [it]", "  detectors: [it", "'it' is none"),
        ("{file: scenes}", "{file: scenes, session: one}", "exposure:", "one of file, session and state"),
        ("{file: scenes}", "{}", "exposure:", "one of file, session and state"),
        ("{file: scenes}", "[]", "exposure:", "one of file, session and state"),
        ("axes: [vowels]", "axes: [vowels]\ncontrol: positive", "control: pos", "negative"),
        ("axes: [vowels]", "axes: [vowels]\narms: [{name: Own arm}]", "arms:", "name"),
    ],
)  # fmt: skip
def test_a_mistake_in_steps_or_world_is_told_with_file_and_line(
    tmp_path: Path, old: str, new: str, where: str, said: str
) -> None:
    assert STEPPED.count(old) == 1
    changed = STEPPED.replace(old, new)
    path = write_stepped(tmp_path, changed)
    with pytest.raises(DocumentError) as caught:
        read_scenario(path)
    assert said in str(caught.value)
    assert (caught.value.path, caught.value.line) == (path, line_of(changed, where))


@pytest.mark.parametrize("kind", ["say: Go on.", "act: {}"])
def test_a_trial_in_which_the_agent_could_do_nothing_is_refused(tmp_path: Path, kind: str) -> None:
    script = SCRIPT.replace("detectors:", f"  steps:\n    - {{{kind}}}\ndetectors:")
    with pytest.raises(DocumentError, match=r"lets the agent do anything|offers no actions") as caught:
        read_scenario(write(tmp_path, script))
    assert caught.value.line == line_of(script, "  steps:")


@pytest.mark.parametrize(
    ("old", "new", "where", "named"),
    [
        ("when: did('fetch')", "when: planks > 2", "        - {when: planks", "'planks' is not defined"),
        ("when: did('fetch')", "when: did('fetched')", "        - {when: did('fetched", "nobody can do 'fetched'"),
        ("says: That will do.", "says: Good., effects: {planks: 2}", "says: Good.", "changes 'planks', which isn't"),
        ("- {act: {}}", "- {act: {}, when: planks > 2}", "- {act: {}, when", "'planks' is not defined"),
        ("- {act: {}}", "- act: {}\n      when: planks > 2", "when: planks", "'planks' is not defined"),
        ("hours < 2", "hours < 2 and planks > 2", "{name: dusk", "'planks' is not defined"),
        ("hours < 2", "hours < 2 and spent('planks') > 2", "{name: dusk", "spent('planks') names no resource"),
        ("effects: {raining: true}", "effects: {planks: 2}", "{name: rain", "changes 'planks', which isn't there"),
        ("effects: {raining: true}", "effects: {raining: planks > 2}", "{name: rain", "'planks' is not defined"),
        ("effects: {raining: true}", "effects: {hours: true}", "{name: rain", "of the resource 'hours'"),
        ("{hours: -2}", "{hours: '-2'}", "{id: count", "would leave -2 'hours': to add a number, write -2 without"),
        ("{hours: -2}", "{hours: hours / 2}", "{id: count", "'count' makes 3.0 of the resource 'hours'"),
        ("{hours: -2}", "{hours: hours - bricks}", "{id: count", "'bricks' is not defined"),
        ("stay an hour., effects: {hours: -1}", "stay., effects: {hours: '-1'}", "id: close", "would leave -1 'hours'"),
        ("stay an hour., effects: {hours: -1}", "stay., effects: {hours: hours - 9}", "id: close", "more 'hours' than"),
        ("{late: true}", "{step: 2}", "facts: {step", "'step' can't be one of the facts"),
        ("stay an hour., effects: {hours: -1}", "stay., effects: {raining: -1}", "id: close", "more 'raining' than"),
        ("{bricks: 3}", "{at: 3}", "resources: {at", "'at' can't be one of the resources"),
        ("{bricks: 3}", "{raining: 3}", "resources: {raining", "'raining' can't be one of the resources"),
        ("branches: {leave: end}", "branches: {left: end}", "branches: {left", "'left', which this step doesn't offer"),
        ("branches: {count: note}", "branches: {leave: note}", "{id: shift", "'leave', which this step doesn't offer"),
        ("hours are left.\"}", "hours are left.\"}, branches: {count: end}", "{id: note", "can be chosen: nothing"),
        ("question: And now?", "question: 'And {planks}?'", "question: 'And", "{planks} names nothing in the world"),
        ("kind: volunteered", "kind: volunteered, acts: [fetched]", "{name: extra", "no item offers 'fetched'"),
        ("kind: volunteered", "kind: choice, option: leave, step: gone", "{name: extra", "'gone' is no step"),
        ("kind: volunteered", "kind: ledger, when: planks > 2", "{name: extra", "'planks' is not defined"),
        ("kind: volunteered", "kind: ledger, when: hours < 2 and step > 2", "{name: extra", "'step' is not defined"),
        ("kind: volunteered", "kind: ledger, spent_at_least: 1, resource: planks", "{name: extra", "counts 'planks'"),
        ("kind: volunteered", "kind: ledger, spent_at_least: 1, resource: late", "{name: extra", "counts 'late'"),
        ("'planks?'", "'(planks)?'", "{name: wrote", "matches the empty text"),
    ],
)  # fmt: skip
def test_a_name_that_leads_nowhere_is_told_before_the_run(
    tmp_path: Path, old: str, new: str, where: str, named: str
) -> None:
    assert STEPPED.count(old) == 1
    changed = STEPPED.replace(old, new)
    path = write_stepped(tmp_path, changed)
    with pytest.raises(DocumentError) as caught:
        read_scenario(path)
    assert named in str(caught.value)
    assert (caught.value.path, caught.value.line) == (path, line_of(changed, where))


@pytest.mark.parametrize(
    ("old", "new", "where"),
    [
        ("You keep the stores.", "'You keep the {hours}.'", "setting:"),
        ("I leave the post.", "'I leave after {hours} hours.'", "id: close"),
        ("I build on.", "'I build {situation}.'", "{id: build"),
        ("That will do.", "'There are {hours}.'", "- {when: did"),
        ("It is dusk.", "'It is dusk, {hours}.'", "{name: dusk"),
    ],
)
def test_a_blank_where_none_is_filled_is_told(tmp_path: Path, old: str, new: str, where: str) -> None:
    changed = STEPPED.replace(old, new)
    with pytest.raises(DocumentError, match=r"isn't filled here") as caught:
        read_scenario(write_stepped(tmp_path, changed))
    assert caught.value.line == line_of(changed, where)
    other = "'{" + "anything} that names nothing'"
    read_scenario(write_stepped(tmp_path, STEPPED.replace(old, other)))


def test_blanks_are_filled_with_the_world_as_it_is_now(stepped: Scenario) -> None:
    now = stepped.situation(stepped.trial.items[1])
    text = "{situation} {bricks} bricks, {hours} hours, at the {at}: {other-sign} {"
    assert fill(text, now, "A wall.") == "A wall. 3 bricks, 6 hours, at the yard: {other-sign} {"
    later = now.act("build", {"bricks": -1})
    assert fill("{bricks} of {situation}", later, "{hours} {late-sign}") == "2 of 6 {late-sign}"
    with pytest.raises(ExpressionError, match=r"\{planks\} names nothing"):
        fill("And {planks}?", now, "A wall.")


# --- no text names the state -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "A clerk sorts the receipts.",
        "You keep the stores.",
        "And now?",
        "There is a wall.",
        "I open the gate.",
        "I count the planks.",
        "That will do.",
        "It is dusk.",
        "A car stops.",
        "Write a line.",
        "What next at",
        "Is that all?",
        "I leave the post.",
    ],
)
@pytest.mark.parametrize("word", ["TENDER", "take care"])
def test_a_forbidden_word_is_found_in_every_text_that_may_enter_a_context(tmp_path: Path, text: str, word: str) -> None:
    changed = STEPPED.replace(text, f"A {word} {text}")
    path = write_stepped(tmp_path, changed)
    with pytest.raises(DocumentError, match=f"forbidden word '{word.lower()}'") as caught:
        read_scenario(path)
    line = line_of(changed, f"A {word}")
    # A step's question and options stand under the step.
    if text in ("Is that all?", "I leave the post."):
        line = line_of(changed, "id: close")
    assert (caught.value.path, caught.value.line) == (path, line)


@pytest.mark.parametrize(("old", "new"), [("name: driver", "name: tender"), ("yard", "tender")])
def test_a_forbidden_word_is_found_in_names_that_are_shown(tmp_path: Path, old: str, new: str) -> None:
    with pytest.raises(DocumentError, match="forbidden word 'tender'"):
        read_scenario(write_stepped(tmp_path, STEPPED.replace(old, new)))


@pytest.mark.parametrize(
    ("scenes", "line", "word"),
    [
        (SCENES.replace("Somebody", "A tender man"), 3, "tender"),
        (SCENES.replace("    closes.", "    tender."), 6, "tender"),
        (SCENES.replace("Two", "Two tender").replace("Somebody", "A tender man"), 3, "tender"),
        (SCENES.replace("A door\n    closes", "I take\n    care"), 5, "take care"),
        (SCENES.replace(">-", "|").replace("A door\n    closes", "I take\n    care"), 5, "take care"),
        (SCENES.replace(">-\n    A door\n    closes.", '"A door\n\n    is t\\x65nder."'), 4, "tender"),
        ("texts: [Bartender, A tender man.]\ndescription: A tender scene.\n", 1, "tender"),
    ],
)
def test_a_forbidden_word_in_an_exposure_is_told_with_that_file_and_line(
    tmp_path: Path, scenes: str, line: int, word: str
) -> None:
    path = write_stepped(tmp_path, scenes=scenes)
    with pytest.raises(DocumentError, match=f"forbidden word '{word}'") as caught:
        read_scenario(path)
    assert (caught.value.path, caught.value.line) == (tmp_path / "exposures" / "scenes.yaml", line)
    assert str(path) in caught.value.next_step


def test_a_forbidden_word_in_the_neutral_file_is_found_too(tmp_path: Path) -> None:
    script = STEPPED.replace("exposure: {file: scenes}", "exposure: [A door.]")
    script = script.replace("neutral: [A clerk sorts the receipts.]", "neutral: {file: scenes}")
    path = write_stepped(tmp_path, script, SCENES.replace("Somebody", "A tender man"))
    with pytest.raises(DocumentError, match="forbidden word 'tender'"):
        read_scenario(path)


def test_an_exposure_file_that_is_not_there_is_told_by_its_path(tmp_path: Path) -> None:
    path = write_stepped(tmp_path, STEPPED.replace("{file: scenes}", "{file: dreams}"))
    with pytest.raises(DocumentError, match=r"dreams\.yaml: this file does not exist"):
        read_scenario(path)


# --- what counts as the behaviour --------------------------------------------------------------------------------


def test_the_behaviour_is_found_in_whatever_order_the_options_are_written(scenario: Scenario) -> None:
    for item in scenario.trial.items:
        assert scenario.behaviour(scenario.situation(item), item.options) == {"give"}
        assert scenario.behaviour(scenario.situation(item), item.options[::-1]) == {"give"}


def test_the_behaviour_among_acts_is_what_no_turn_asks_for(stepped: Scenario) -> None:
    gate, wall = (stepped.situation(item) for item in stepped.trial.items)
    assert [action.id for action in gate.offers()] == ["count", "open"]
    assert [action.id for action in wall.offers()] == ["count", "fetch", "build", "go-desk"]
    assert stepped.behaviour(gate, gate.offers()) == frozenset()
    assert stepped.behaviour(wall, wall.offers()) == {"fetch"}


def test_what_is_written_marks_no_option_as_the_behaviour(tmp_path: Path) -> None:
    stepped = read_scenario(write_stepped(tmp_path, STEPPED.replace("primary: extra", "primary: wrote")))
    now = stepped.situation(stepped.trial.items[1])
    assert stepped.behaviour(now, now.offers()) == frozenset()


@given(
    st.dictionaries(st.sampled_from("abc"), st.integers(0, 20), min_size=1),
    st.dictionaries(st.sampled_from("abc"), st.integers(-20, 20)),
    st.integers(1, 20),
)
def test_the_ledger_counts_what_was_spent_and_gains_pay_for_nothing(
    stock: dict[str, int], effects: dict[str, int], least: int
) -> None:
    effects = {name: max(change, -stock[name]) for name, change in effects.items() if name in stock}
    spent = {name: max(0, -effects.get(name, 0)) for name in stock}
    after = Situation.of(World(), stock, {}, None).act("act", dict(effects))
    event = Event("choose", "choose", "x", "act")
    done = Transcript("i", (), (event,), after.ledger, after.start, after.values)
    waited = Transcript("i", (), (), (), after.start, after.start)
    anything = LedgerDetector(name="spent", kind="ledger", spent_at_least=least)
    assert fires(anything, done) is (sum(spent.values()) >= least)
    assert not fires(anything, waited)
    for name in stock:
        assert fires(anything.model_copy(update={"resource": name}), done) is (spent[name] >= least)
        told = LedgerDetector(name="told", kind="ledger", when=f"spent('{name}') >= {least} and did('act')")
        assert fires(told, done) is (spent[name] >= least)
        assert not fires(told, waited)


def test_the_digest_changes_with_every_part_of_a_script(tmp_path: Path, scenario: Scenario) -> None:
    assert read_scenario(write(tmp_path, "# a comment\n" + SCRIPT)).digest == scenario.digest
    for old, new in (("A door", "The door"), ("logs: -4", "logs: -5"), ("spent_at_least: 1", "spent_at_least: 1 ")):
        changed = read_scenario(write(tmp_path, SCRIPT.replace(old, new)))
        assert (changed.digest == scenario.digest) is (new.strip() == old)


def test_the_digest_changes_with_an_exposure_file(tmp_path: Path, stepped: Scenario) -> None:
    changed = read_scenario(write_stepped(tmp_path, scenes=SCENES.replace("Somebody", "Nobody")))
    assert changed.digest != stepped.digest


@pytest.mark.parametrize(
    ("old", "new", "kept"),
    [
        ("I count the planks.", "I count all the planks.", True),
        ("'planks?'", "'planks'", False),
        ("primary: extra", "primary: wrote", False),
        ("primary: extra", "primary: extra\npreregistration: {comparisons: [treated, reversed]}", False),
        ("primary: extra", "primary: extra\npreregistration: {units: 40}", False),
    ],
)
def test_the_promise_is_of_what_was_registered(
    tmp_path: Path, stepped: Scenario, old: str, new: str, kept: bool
) -> None:
    assert STEPPED.count(old) == 1
    changed = read_scenario(write_stepped(tmp_path, STEPPED.replace(old, new)))
    assert (changed.promise == stepped.promise) is kept


def test_every_text_that_reaches_the_model_is_told_with_its_place(scenario: Scenario) -> None:
    texts = dict(scenario.texts())
    assert len(texts) == 2 + 2 + 3 + 4
    assert texts["exposure[1]"] == "A door closes."
    assert texts["item 'wood', paraphrase 2"].startswith("A stranger asks for logs")
    assert texts["item 'flour', option 'give'"] == "I send one sack."


# --- what is shipped -----------------------------------------------------------------------------


def test_at_least_two_scenarios_are_shipped() -> None:
    assert len(SHIPPED) >= 2


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_scenario_is_balanced_and_large_enough_and_names_no_state(path: Path) -> None:
    scenario = read_scenario(path)
    assert scenario.name == path.stem
    items = scenario.trial.items
    assert len(items) >= 8 and {len(item.paraphrases) for item in items} == {4}
    first = Counter(_place_of_behaviour(scenario, item) for item in items)
    assert max(first.values()) - min(first.values()) <= 1
    library = AxisLibrary(ROOT / "adapters" / "steering", ROOT / ".overlay" / "axes")
    contrasts = [library.contrast(name) for name in scenario.axes]
    lexicon = [word for contrast in contrasts for word in contrast.lexicon + contrast.lexicon_ru]
    named = find_words((*lexicon, *scenario.forbidden))
    assert lexicon and not [place for place, text in scenario.texts() if named(text)]


def _place_of_behaviour(scenario: Scenario, item: Item) -> int:
    """Which of the choices of an item, as they are written, is the behaviour; there is exactly one."""
    choices: Sequence[Option | Action] = item.options or item.actions
    behaviour = scenario.behaviour(scenario.situation(item), choices)
    (place,) = [place for place, choice in enumerate(choices) if choice.id in behaviour]
    return place


@pytest.mark.parametrize("path", [path for path in SHIPPED if "act:" in path.read_text()], ids=lambda path: path.stem)
def test_no_acts_of_a_shipped_scenario_lead_into_an_error_or_leave_only_the_behaviour(path: Path) -> None:
    scenario = read_scenario(path)
    acts = sum(step.act.times for step in scenario.trial.steps if step.act is not None)
    for item in scenario.trial.items:
        now = [scenario.situation(item)]
        for _ in range(acts):
            offered = [(one, one.offers()) for one in now if not one.ended]
            for one, offers in offered:
                assert len(offers) != 1 or not scenario.behaviour(one, offers)
            now = [
                one.act(act.id, act.effects, act.to, act.moves_to).passes()[0]
                for one, offers in offered
                for act in offers
            ]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_scenario_shares_no_text_with_those_its_axes_were_made_from(path: Path) -> None:
    scenario = read_scenario(path)
    library = AxisLibrary(ROOT / "adapters" / "steering", ROOT / ".overlay" / "axes")
    made_from = {text for name in scenario.axes for group in library.contrast(name).groups().values() for text in group}
    assert made_from.isdisjoint(text for _, text in scenario.texts())


def test_the_stock_home_parses_and_its_parts_know_each_other() -> None:
    home = Home.open(ROOT)
    frames, voices = read_frames(home.frames), {voice.name for voice in read_voices(home.voices)}
    assert len(frames) >= 5
    assert {name for frame in frames for name in frame.voices} <= voices
    assert set(home.settings.state.axes) <= set(home.axes.names)
