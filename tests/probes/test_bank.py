"""Banks: what is read, what is refused and at which line, and what raises doubts."""

from __future__ import annotations

from pathlib import Path

import pytest
from probes.toy_bank import toy_bank, toy_content, toy_probes, write_bank

from overlay.errors import ArgumentError, DocumentError
from overlay.probes import Cell, ProbeBank, cells_of, doubts, read_bank
from overlay.probes.template import new_bank

HEAD = "name: letters\nabout: Letters.\nsource: own texts\nprobes:\n"
PROBE = "  - {id: %s, level: %s, layer: logical, prompt: 'At the %s stood',\n     good: '%s',\n     bad: '%s'}\n"


def write(folder: Path, *probes: tuple[str, str, str, str, str]) -> Path:
    path = folder / "letters.yaml"
    path.write_text(HEAD + "".join(PROBE % probe for probe in probes), encoding="utf-8")
    return path


def refused(path: Path) -> DocumentError:
    with pytest.raises(DocumentError) as caught:
        read_bank(path)
    return caught.value


FIRST = ("one", "causality", "mill", " a boy.", " a dog.")


def test_the_probes_of_a_file_come_by_cell_in_its_order(tmp_path: Path) -> None:
    bank = read_bank(write_bank(tmp_path, toy_content()))
    cells = cells_of(bank.probes)
    assert list(cells) == [Cell("causality", "logical", "en"), Cell("definition", "logical", "en")]
    assert [len(held) for held in cells.values()] == [12, 12]


def test_a_cell_of_one_probe_is_refused_at_the_line_of_its_level(tmp_path: Path) -> None:
    error = refused(
        write(
            tmp_path,
            FIRST,
            ("two", "causality", "gate", " a boy.", " a dog."),
            ("lone", "analogy", "road", " a boy.", " a dog."),
        )
    )
    assert error.line == 11
    assert "only probe of the cell analogy / logical / en" in error.problem


@pytest.mark.parametrize(
    ("second", "line", "says"),
    [
        (("one", "causality", "gate", " a boy.", " a dog."), 8, "stands here twice"),
        (("two", "causality", "mill", " a boy.", " a cow."), 8, "asks what 'one' asks"),
        (("two", "causality", "gate", " a boy.", " A boy."), 10, "there is nothing to choose"),
        (("two", "causality", "gate", " a boy.", " nobody at all came."), 10, "characters"),
        (("two", "causality", "gate", " a boy.", "a dog."), 10, "begin with a blank"),
        (("two", "causality", "gate", "  ", " a"), 9, "nothing but blanks"),
        (("two", "rumour", "gate", " a boy.", " a dog."), 8, "level"),
        (("Two", "causality", "gate", " a boy.", " a dog."), 8, "id"),
    ],
)
def test_a_probe_that_would_measure_something_else_is_refused_at_its_line(
    tmp_path: Path, second: tuple[str, str, str, str, str], line: int, says: str
) -> None:
    error = refused(write(tmp_path, FIRST, second))
    assert error.line == line
    assert says in error.problem


def test_a_prompt_that_ends_in_a_blank_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, FIRST, FIRST)
    path.write_text(path.read_text().replace("mill stood'", "mill stood '", 1), encoding="utf-8")
    assert "ends in a blank" in refused(path).problem


def test_short_options_may_differ_by_a_few_characters_and_long_ones_by_a_share() -> None:
    toy_bank(probes=toy_probes("causality", "yes", "no"))
    toy_bank(probes=toy_probes("causality", "a" * 100, "b" * 71))
    with pytest.raises(ValueError, match="30% of the longer one"):
        toy_bank(probes=toy_probes("causality", "a" * 100, "b" * 69))


def test_a_bank_that_asks_nothing_is_refused(tmp_path: Path) -> None:
    assert "asks nothing" in refused(write_bank(tmp_path, toy_content(probes=[]))).problem


def test_a_bank_is_named_like_its_file(tmp_path: Path) -> None:
    path = write_bank(tmp_path, toy_content())
    assert "give both the same name" in refused(path.rename(tmp_path / "other.yaml")).next_step


def test_a_folder_is_one_bank_of_all_its_files(tmp_path: Path) -> None:
    write_bank(tmp_path, toy_content(name="a", probes=toy_probes("causality", "z", "q")))
    write_bank(tmp_path, toy_content(name="b", probes=toy_probes("definition", "k", "w")))
    bank = read_bank(tmp_path)
    assert len(bank.probes) == 24
    assert bank.source == "own texts"


def test_an_id_that_stands_in_two_files_is_refused_at_the_second(tmp_path: Path) -> None:
    write_bank(tmp_path, toy_content(name="a", probes=toy_probes("causality", "z", "q")))
    (tmp_path / "b.yaml").write_text(
        (tmp_path / "a.yaml").read_text().replace("name: a\n", "name: b\n").replace("river", "sea", 1)
    )
    error = refused(tmp_path)
    assert error.path.name == "b.yaml"
    assert "causality_mill" in error.problem
    assert error.line == (tmp_path / "b.yaml").read_text().splitlines().index("- id: causality_mill") + 1


def test_a_folder_without_banks_says_so(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="no probe bank"):
        read_bank(tmp_path)


def test_what_is_picked_is_of_the_chosen_kind() -> None:
    bank = toy_bank()
    picked = bank.picked(levels=["causality"])
    assert {probe.level for probe in picked.probes} == {"causality"}
    assert picked.digest != bank.digest
    with pytest.raises(ArgumentError, match="no probe"):
        bank.picked(languages=["ru"])


def test_a_topic_that_leaves_a_cell_with_one_probe_is_refused() -> None:
    probes = toy_probes("causality", "z", "q")
    probes[0]["topic"] = ["water"]
    with pytest.raises(ArgumentError, match="only probe of the cell"):
        toy_bank(probes=probes).picked(topics=["water"])


def test_equal_digests_ask_the_same() -> None:
    assert toy_bank().digest == toy_bank(about="Other words.").digest
    assert toy_bank().digest != toy_bank(probes=toy_probes("causality", "z", "q")).digest


def test_a_cell_of_few_probes_raises_a_doubt() -> None:
    (doubt,) = doubts(toy_bank(probes=toy_probes("causality", "z", "q", count=5)))
    assert doubt.reason.startswith("5 probes")


@pytest.mark.parametrize(
    ("good", "bad", "says"),
    [
        (" nearby", " far", "is longer"),
        (" far", " nearby", "is longer"),
        (" the river", " a sailor", "words of the prompt"),
    ],
)
def test_a_cue_without_meaning_that_tells_good_from_bad_raises_a_doubt(good: str, bad: str, says: str) -> None:
    probes = [probe | {"good": good, "bad": bad} for probe in toy_probes("causality", "z", "q")]
    assert any(says in doubt.reason for doubt in doubts(toy_bank(probes=probes)))


def test_a_cue_that_points_both_ways_raises_none() -> None:
    probes = [
        probe | ({"good": " nearby", "bad": " afar"} if place % 2 else {"good": " afar", "bad": " nearby"})
        for place, probe in enumerate(toy_probes("causality", "z", "q"))
    ]
    assert doubts(toy_bank(probes=probes)) == ()


def test_negations_that_mark_what_is_wrong_raise_a_doubt() -> None:
    probes = toy_probes("causality", "here", "not")
    assert any("negations" in doubt.reason for doubt in doubts(toy_bank(probes=probes)))


def test_a_new_bank_is_without_mistakes_also_with_all_that_may_stand_in_it(tmp_path: Path) -> None:
    text = new_bank("tides")
    (tmp_path / "tides.yaml").write_text(text, encoding="utf-8")
    assert len(read_bank(tmp_path / "tides.yaml").probes) == 2
    assert "overlay probes check tides\n" in text
    before, _, after = text.partition("\n#checks:\n")
    used = [before, "checks:", *(line.removeprefix("#") for line in after.splitlines())]
    (tmp_path / "tides.yaml").write_text("\n".join(used), encoding="utf-8")
    assert len(read_bank(tmp_path / "tides.yaml").checks) == 4
    with pytest.raises(ArgumentError):
        new_bank("No name")


def test_the_only_check_of_a_kind_is_refused_at_its_line(tmp_path: Path) -> None:
    (tmp_path / "tides.yaml").write_text(
        "name: tides\nabout: a\nsource: b\nchecks:\n"
        "  - {id: a, kind: unrelated, prompt: a, good: ' b', bad: ' c'}\n"
        "  - {id: b, kind: unrelated, prompt: b, good: ' b', bad: ' c'}\n"
        "  - {id: c, kind: other_words, prompt: c, good: ' b', bad: ' c'}\n",
        encoding="utf-8",
    )
    error = refused(tmp_path / "tides.yaml")
    assert error.line == 7
    assert "the only check of the kind other_words" in error.problem


def test_patterns_that_are_none_are_refused_at_their_line(tmp_path: Path) -> None:
    (tmp_path / "tides.yaml").write_text(
        "name: tides\nabout: a\nsource: b\nchecks:\n"
        "  - {id: a, kind: unrelated, prompt: a, good: ' b', bad: ' c',\n     expect: {contains: [x, '(']}}\n",
        encoding="utf-8",
    )
    error = refused(tmp_path / "tides.yaml")
    assert error.line == 6
    assert "no regular expression" in error.problem


def test_the_schema_accepts_what_can_be_read_and_names_its_keys() -> None:
    from overlay.document_schema import known_keys
    from overlay.probes.schema import bank_schema

    assert set(ProbeBank.model_fields) == set(bank_schema()["properties"])
    assert {"good", "bad", "level", "layer"} <= set(known_keys(bank_schema(), "probes.0.wrong"))
