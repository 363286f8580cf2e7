"""The stock frames: whole, linked, spoken in two languages, and known to editors; and the drawings of them."""

from __future__ import annotations

import re
import runpy
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator
from pydantic import ValidationError
from word_embedder import WordEmbedder

from overlay.document_schema import schema_text
from overlay.documents import parse_document
from overlay.errors import ArgumentError
from overlay.frames import Frame, FrameGraph, LearnedWeights, read_frames
from overlay.frames.calibration import neutral_sentences
from overlay.frames.cues import script_of
from overlay.frames.drawing import as_dot, as_page
from overlay.frames.schema import frame_schema
from overlay.frames.template import new_frame

ROOT = Path(__file__).parents[2]
FRAMES = read_frames(
    ROOT / "memory" / "frames",
    voices=[path.stem for path in (ROOT / "memory" / "voices").glob("*.yaml")],
    axes=[],
    adapters=[],
)
FILES = sorted((ROOT / "memory" / "frames").glob("*.yaml"))
SCHEMA = Draft7Validator(frame_schema())
SITUATIONS: dict[str, Any] = yaml.safe_load((ROOT / "benchmarks" / "frames.yaml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("frame", FRAMES, ids=lambda frame: frame.name)
def test_every_stock_frame_can_wake_in_two_languages_asks_and_is_linked(frame: Frame) -> None:
    scripts = [script_of(cue) for cue in frame.cues]
    assert 6 <= scripts.count("latin") <= 10 and 4 <= scripts.count("cyrillic") <= 6
    assert 4 <= len(frame.questions) <= 6 and frame.links and frame.voices
    assert any(frame.name in other.links for other in FRAMES)


def test_there_are_enough_frames_and_some_links_hold_others_down() -> None:
    assert len(FRAMES) >= 15
    assert any(weight < 0 for frame in FRAMES for weight in frame.links.values())


@pytest.mark.parametrize("chosen", ["development", "held_out"])
def test_each_frame_has_four_situations_and_none_is_copied_from_a_cue(chosen: str) -> None:
    assert {name: len(texts) for name, texts in SITUATIONS[chosen].items()} == {frame.name: 4 for frame in FRAMES}
    assert runpy.run_path(str(ROOT / "benchmarks" / "frames.py"))["copied"](FRAMES) == []


def test_sentences_that_alarms_are_counted_on_did_not_set_the_scale() -> None:
    assert len(SITUATIONS["neutral"]) >= 60
    assert not set(SITUATIONS["neutral"]) & set(neutral_sentences())


# --- schema and template -------------------------------------------------------------------------


def test_the_published_schema_is_that_of_the_code() -> None:
    published = (ROOT / "memory" / "frame.schema.json").read_text(encoding="utf-8")
    assert published == schema_text(frame_schema()), "overlay frames schema --out memory/frame.schema.json writes it"
    Draft7Validator.check_schema(frame_schema())


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_stock_frames_fit_the_schema_that_their_first_line_names(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# yaml-language-server: $schema=../frame.schema.json\n")
    assert [error.message for error in SCHEMA.iter_errors(yaml.safe_load(text))] == []


@pytest.mark.parametrize(
    "change",
    [
        {"nmae": "a"},
        {"name": "A Frame"},
        {"cues": []},
        {"cues": "a text"},
        {"links": {"b": 2}},
        {"links": {"B!": 0.5}},
        {"pushes": {"calm": "much"}},
        {"recall": {"kinds": ["gossip"]}},
        {"recall": {"boost": -1}},
        {"adapter": {"scale": 1}},
        {"threshold": 0},
        {"threshold": 1},
        {"adapter": None},
        {"recall": {}},
    ],
)
def test_the_schema_and_the_reader_agree(change: dict[str, Any]) -> None:
    document = {"name": "a", "description": "b", "cues": ["c"]} | change
    try:
        Frame.model_validate(document)
    except ValidationError:
        assert not SCHEMA.is_valid(document)
    else:
        assert SCHEMA.is_valid(document)


def test_the_template_is_a_frame_as_it_stands_and_with_all_its_parts() -> None:
    text = new_frame("shorter_way")
    whole = re.sub(r"(?m)^#(?=\S|  )", "", text)
    assert parse_document(text, Frame, "x.yaml").name == "shorter_way"
    assert parse_document(whole, Frame, "x.yaml").name == "shorter_way"
    assert set(yaml.safe_load(whole)) == set(Frame.model_fields)
    assert SCHEMA.is_valid(yaml.safe_load(whole))


@pytest.mark.parametrize("name", ["no", "null", "2026", "a-b_c"])
def test_a_name_is_a_text_whatever_yaml_takes_it_for(name: str) -> None:
    assert parse_document(new_frame(name), Frame, "x.yaml").name == name


@pytest.mark.parametrize("name", ["", "Frame", "a frame", "../frame", "-a", "рамка", "a\n"])
def test_a_name_that_no_frame_can_have_is_refused(name: str) -> None:
    with pytest.raises(ArgumentError, match="can't name a frame"):
        new_frame(name)


# --- drawings ------------------------------------------------------------------------------------

GRAPH = FrameGraph(FRAMES, WordEmbedder())
ENERGIES = {"ledger": 0.9, "trade_off": 0.4, "origin": 0.1}


def test_the_page_shows_every_frame_and_link_and_loads_nothing() -> None:
    page = as_page(GRAPH, ENERGIES, causes={"ledger": 'near "<Who pays?>"'}, when="turn 3")
    svg = ElementTree.fromstring(re.search(r"<svg.*</svg>", page, re.DOTALL)[0])  # type: ignore[index]
    links = sum(len(frame.links) for frame in FRAMES)
    assert len([one for one in svg.iter("path") if one.get("class", "").startswith("link")]) == links
    assert {one.text.strip() for one in svg.iter("text") if one.text} == set(GRAPH.frames)
    assert page.count('class="node active"') == 2
    assert "&lt;Who pays?&gt;" in page and "turn 3" in page
    assert not re.search(r"""(src|href)=|https?:|<script|@import""", page)
    assert as_page(GRAPH, ENERGIES, causes={"ledger": 'near "<Who pays?>"'}, when="turn 3") == page


@pytest.mark.parametrize("count", [0, 1, 2, 60])
def test_graphs_of_any_size_are_drawn(count: int) -> None:
    frames = [Frame(name=f"f{one}", description="d", cues=("c",)) for one in range(count)]
    page = as_page(FrameGraph(frames, WordEmbedder()), {})
    assert page.count('class="node"') == count


def test_graphviz_text_and_page_show_what_was_learned() -> None:
    learned = LearnedWeights({"origin": {"ledger": 0.33}}, turns=7)
    assert '"origin" -> "ledger" [label="+0.33"' in as_dot(GRAPH, ENERGIES, learned)
    page = as_page(GRAPH, ENERGIES, learned)
    assert "origin to ledger: +0.33 (+0.33 of it learned)" in page and "from 7 turns" in page
