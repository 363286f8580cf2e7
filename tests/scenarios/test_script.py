"""Scenario scripts: every mistake is told with file and line before anything is run."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overlay.axes import AxisLibrary, find_words
from overlay.errors import DocumentError
from overlay.frames import read_frames
from overlay.home import Home
from overlay.inner import read_voices
from overlay.scenarios import Scenario, read_scenario
from overlay.scenarios.script import Detector, Item, Option

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


def write(folder: Path, text: str) -> Path:
    path = folder / "night_shift.yaml"
    path.write_text(text, encoding="utf-8")
    return path


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
        ("        - {id: keep, text: I keep the logs.}\n", "", 11, "exactly two"),
        ("keep, text: I keep the logs.", "give, text: I keep the logs.", 11, "names both options 'give'"),
        ("{logs: -4}", "{planks: -4}", 11, "changes 'planks', which isn't there"),
        ("{logs: -4}", "{logs: -13}", 11, "spends more 'logs' than there is"),
        ("{logs: -4}", "{logs: 4}", 11, "doesn't tell the options of item 'wood' apart"),
        ("{sacks: -1}", "{}", 19, "doesn't tell the options of item 'flour' apart"),
        ("spent_at_least: 1", "spent_at_least: 2", 19, "doesn't tell the options of item 'flour' apart"),
        ("primary: gave", "primary: give", 28, "'give' is none of the detectors gave, offered"),
        ("name: offered", "name: gave", 25, "name one twice"),
        ("id: flour", "id: wood", 10, "name one twice"),
        ("kind: ledger, spent_at_least: 1", "kind: ledger", 26, "needs spent_at_least"),
        ("kind: choice, option: give", "kind: choice", 27, "needs option"),
        ("kind: choice, option: give", "kind: judged, option: give", 27, "kind"),
        ("{logs: 12}", "{logs: -1}", 12, "greater than or equal to 0"),
        ("{logs: 12}", "{logs: many}", 12, "found 'many'"),
        ("paraphrases: [There are 9 sacks.]", "paraphrases: []", 21, "at least 1"),
        ("name: night_shift", "name: Night shift", 1, "name"),
        ("A door closes.", "''", 6, "at least 1 character"),
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


# --- what counts as the behaviour ----------------------------------------------------------------


def test_the_behaviour_comes_first_in_whatever_order_the_options_are_written(scenario: Scenario) -> None:
    assert [[option.id for option in scenario.options_in_order(item)] for item in scenario.trial.items] == [
        ["give", "keep"],
        ["give", "keep"],
    ]


@given(
    st.dictionaries(st.sampled_from("abc"), st.integers(0, 20), min_size=1),
    st.dictionaries(st.sampled_from("abc"), st.integers(-20, 20)),
    st.integers(1, 20),
)
def test_the_ledger_counts_what_was_spent_and_gains_pay_for_nothing(
    stock: dict[str, int], effects: dict[str, int], least: int
) -> None:
    effects = {name: max(change, -stock[name]) for name, change in effects.items() if name in stock}
    item = Item(
        id="i",
        resources=stock,
        paraphrases=("x",),
        options=(Option(id="act", text="x", effects=effects), Option(id="wait", text="y")),
    )
    detector = Detector(name="spent", kind="ledger", spent_at_least=least)
    spent = -sum(change for change in effects.values() if change < 0)
    assert detector.fires(item, item.options[0]) is (spent >= least)
    assert not detector.fires(item, item.options[1])


def test_the_digest_changes_with_every_part_of_a_script(tmp_path: Path, scenario: Scenario) -> None:
    assert read_scenario(write(tmp_path, "# a comment\n" + SCRIPT)).digest == scenario.digest
    for old, new in (("A door", "The door"), ("logs: -4", "logs: -5"), ("spent_at_least: 1", "spent_at_least: 1 ")):
        changed = read_scenario(write(tmp_path, SCRIPT.replace(old, new)))
        assert (changed.digest == scenario.digest) is (new.strip() == old)


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
    first = [scenario.primary_detector.fires(item, item.options[0]) for item in items]
    assert abs(sum(first) - len(items) / 2) <= 0.5
    library = AxisLibrary(ROOT / "adapters" / "steering", ROOT / ".overlay" / "axes")
    contrasts = [library.contrast(name) for name in scenario.axes]
    lexicon = [word for contrast in contrasts for word in contrast.lexicon + contrast.lexicon_ru]
    named = find_words((*lexicon, *scenario.forbidden))
    assert lexicon and not [place for place, text in scenario.texts() if named(text)]


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
