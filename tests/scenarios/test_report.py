"""What a reader of a report gets: all of the result, nothing from outside, and nothing that the result did not say."""

from __future__ import annotations

import copy
import csv
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy_result import crowded_result, document, free_text_result, result

from overlay.errors import ArgumentError
from overlay.scenarios.report import write_overview, write_report, write_tables

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"
VOID = {"meta", "br", "link", "img", "input", "hr"}


class Page(HTMLParser):
    """The page as a browser sees it: elements with their attributes, and the text that is not style."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.html = html
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.pieces: list[str] = []
        self.svg_text: list[str] = []
        self.marked: list[str] = []
        self.headings: list[str] = []
        self.parts: dict[str, list[str]] = {}
        self.stack: list[str] = []
        self.feed(html)
        self.text = " ".join(" ".join(self.pieces).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {key: value or "" for key, value in attrs}))
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {key: value or "" for key, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data: str) -> None:
        if "style" in self.stack:
            return
        self.pieces.append(data)
        if "mark" in self.stack:
            self.marked.append(data)
        if "h2" in self.stack:
            self.headings.append(data)
            self.parts[data] = []
        elif self.headings:
            self.parts[self.headings[-1]].append(data)
        if "svg" in self.stack:
            self.svg_text.append(data)

    def tags(self) -> set[str]:
        return {tag for tag, _ in self.elements}


def page_of(content: dict[str, Any], folder: Path) -> Page:
    path = folder / "report.html"
    write_report(content, path)
    return Page(path.read_text(encoding="utf-8"))


def bare(*keys: str, **parts: Any) -> dict[str, Any]:
    """A result of few parts, so that no plot is drawn that a test doesn't look at."""
    kept = ("scenario", "verdict", "headline", "model", *keys)
    return {key: value for key, value in result().items() if key in kept} | {"arms": {}} | parts


def overview_of(content: dict[str, Any], folder: Path, links: dict[str, str] | None = None) -> Page:
    path = folder / "overview.html"
    write_overview(content, path, links or {})
    return Page(path.read_text(encoding="utf-8"))


def part(page: Page, heading: str) -> str:
    """The text from one heading to the next."""
    return " ".join(" ".join(page.parts[heading]).split())


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Page:
    return page_of(result(), tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="module")
def overview(tmp_path_factory: pytest.TempPathFactory) -> Page:
    links = {"last-seat": "last-seat/report.html"}
    return overview_of(document(), tmp_path_factory.mktemp("overview"), links)


@pytest.mark.parametrize("which", ["page", "overview"])
def test_page_is_whole_and_needs_nothing_from_outside(which: str, request: pytest.FixtureRequest) -> None:
    page = request.getfixturevalue(which)
    assert page.stack == []
    assert not page.tags() & {"script", "link", "img", "iframe", "object", "embed", "base"}
    for tag, attributes in page.elements:
        assert "src" not in attributes, tag
        assert attributes.get("href", "#").startswith("#") or attributes["href"] == "last-seat/report.html", tag
        assert not [name for name in attributes if name.startswith("on")], tag
    assert "http:" not in page.html and "https:" not in page.html
    assert "@import" not in page.html
    policies = [a["content"] for t, a in page.elements if a.get("http-equiv") == "Content-Security-Policy"]
    assert policies and policies[0].startswith("default-src 'none'")


def test_verdict_comes_first_then_everything_it_rests_on(page: Page) -> None:
    content = result()
    order = [
        content["verdict"],
        content["headline"],
        *content["reasons"],
        "Effect against base",
        "How often it happened",
        "Does a larger dose do more?",
        "Does it hold from item to item?",
        "Base and four levels of influence side by side",
        "Does it name what moves it?",
        "What was said in base and treated",
        "It starts to rain.",
        "How the state built up",
        "What the interventions cost",
        "Is the comparison valid?",
        "How well the detectors see",
        "All comparisons with base",
        "All arms in numbers",
        content["command"],
    ]
    body = page.text.partition(f"Scenario report: {content['scenario']}")[2]
    positions = [body.find(words) for words in order]
    assert -1 not in positions
    assert positions == sorted(positions)
    for made in content["arms"].values():
        assert made["label"] in body
    for words in ("sha256:9f2c", "sha256:1b7d", "tiny-model", "float32", "412 s", "32 of 32 run", "tenderness +1.20"):
        assert words in body


def test_arm_numbers_are_those_of_the_result(page: Page) -> None:
    row = (
        page.text.partition("All arms in numbers")[2].partition("treated state")[2].partition("one and a half dose")[0]
    )
    for number in ("32", "50%", "[38%, 67%]", "−0.120", "+0.219", "[+0.169, +0.279]", "0.031", "0.008", "0.131"):
        assert number in row


def test_text_of_plots_stays_text(page: Page) -> None:
    drawn = " ".join(page.svg_text)
    for words in ("shift of the mean margin (nats per token)", "volatility (nats per token)", "budget 0.15"):
        assert words in drawn
    for words in ("treated state", "random by cost", "inner speech", "tenderness", "soup-kitchen", "Level 3: adapter"):
        assert words in drawn
    assert "dose, as a multiple of the treated dose" in drawn


def test_plots_share_the_page_without_sharing_names(page: Page) -> None:
    names = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(names) == len(set(names))
    used = {a["href"][1:] for _, a in page.elements if "href" in a} | set(re.findall(r"url\(#([^)]+)\)", page.html))
    assert used and used <= set(names)


def test_every_random_direction_is_a_dot_at_its_shift(page: Page) -> None:
    clouds = re.findall(r'<g id="effect-wide-PathCollection_\d+">(.*?)\n   </g>', page.html, flags=re.DOTALL)
    places = [[float(x) for x in re.findall(r'<use [^>]*x="([-\d.]+)"', cloud)] for cloud in clouds]
    places = [xs for xs in places if xs]
    arms = result()["arms"]
    shifts = [sorted(d["shift"] for d in arms[name]["directions"]) for name in ("random_norm", "random_volatility")]
    assert [len(xs) for xs in places] == [5, 3]
    flat_places, flat_shifts = np.concatenate(places), np.concatenate(shifts)
    slope, start = np.polyfit(flat_shifts, flat_places, 1)
    assert slope > 0
    assert np.allclose(slope * flat_shifts + start, flat_places, atol=0.01)


def test_directions_that_reach_the_treated_shift_are_counted_ties_too(page: Page) -> None:
    assert "1 of 5 random directions of the same norm and 0 of 3 random directions of the same volatility" in page.text


def test_directions_are_counted_in_the_direction_of_a_negative_effect(tmp_path: Path) -> None:
    content = result()
    content["arms"]["treated"]["shift"] = -0.05
    text = page_of(content, tmp_path).text
    assert "0 of 5 random directions of the same norm and 2 of 3 random directions of the same volatility" in text


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    content = result()
    content["description"] = content["headline"] = content["command"] = HOSTILE
    content["arms"]["treated"]["label"] = HOSTILE
    content["reasons"] = [HOSTILE]
    content["model"]["name"] = content["primary"] = HOSTILE
    content["examples"][0]["prompt"] = HOSTILE
    content["examples"][0]["options"] = {"give": HOSTILE, HOSTILE: "I keep it."}
    content["checks"] = [{"name": HOSTILE, "passed": False, "detail": HOSTILE}]
    content["leaks"] = [{"arm": HOSTILE, "item": HOSTILE, "word": HOSTILE, "where": HOSTILE}]
    content["state"] = {HOSTILE: 1.0}
    content["validity"]["treated"]["reasons"] = {HOSTILE: 1}
    content["items"][0]["item"] = content["comparisons"][0]["detector"] = HOSTILE
    content["detectors"] = {HOSTILE: content["detectors"]["kind_words"] | {"kind": HOSTILE}}
    content["self_report"]["verdict"] = content["self_report"]["reasons"][0] = HOSTILE
    for kind in ("forced", "free", "examples"):
        content["self_report"][kind][0]["ask"] = HOSTILE
    content["self_report"]["examples"][0]["text"] = HOSTILE
    content["transcripts"][0]["base"][2]["text"] = HOSTILE
    content["transcripts"][0]["divergence"]["character"] = 0
    content["dose_response"]["test"] = HOSTILE
    content["again"] |= {"files": [HOSTILE], "environment": {HOSTILE: {HOSTILE: HOSTILE}}}
    for step in content["state_path"]:
        step["cause"], step["state"], step["z"] = HOSTILE, {HOSTILE: 1.0}, {HOSTILE: 1.0}
    made = page_of(content, tmp_path)
    assert not made.tags() & {"script", "img"}
    assert made.stack == []
    assert made.text.count(HOSTILE) >= 28


def test_labels_may_hold_any_letters(tmp_path: Path) -> None:
    content = bare(arms={name: result()["arms"][name] for name in ("base", "treated", "reversed", "sham")})
    content["arms"]["treated"]["label"] = r"$\frac{$ a seat"
    content["arms"]["reversed"]["label"] = "a\x00b\x1b[31m ]]> нежность 優しさ"
    content["arms"]["sham"]["label"] = "word " * 60
    drawn = " ".join(page_of(content, tmp_path).svg_text)
    assert r"$\frac{$ a seat" in drawn
    assert "нежность" in drawn and "優しさ" in drawn


@pytest.mark.parametrize(
    "absent",
    [
        ["random_norm", "random_volatility"],
        ["examples", "state_path", "checks", "reasons", "leaks", "units", "primary", "state", "description"],
        ["comparisons", "dose_response", "levels", "validity", "items", "detectors", "self_report", "transcripts"],
        ["control", "exploratory", "promise", "script", "again", "records", "confidence", "budget"],
        ["treated"],
        ["base"],
    ],
)
def test_parts_that_a_run_did_not_reach_may_be_missing(absent: list[str], tmp_path: Path) -> None:
    content = result()
    for key in absent:
        content["arms"].pop(key, None)
        content.pop(key, None)
    made = page_of(content, tmp_path)
    assert made.stack == []
    for left in content["arms"].values():
        assert left["label"] in made.text


def test_a_run_that_broke_off_at_once_still_says_why(tmp_path: Path) -> None:
    made = page_of(
        {"scenario": "x", "verdict": "invalid", "headline": "The detector failed.", "model": {}, "arms": {}}, tmp_path
    )
    assert "The detector failed." in made.text
    assert "No arm was run." in made.text
    assert "svg" not in made.tags()


def test_what_was_not_measured_shows_as_a_gap_not_as_a_number(tmp_path: Path) -> None:
    content = result()
    for key in ("rate", "mean_score", "shift", "p", "volatility_mean", "volatility_p95"):
        content["arms"]["treated"][key] = float("nan")
    for key in ("rate_interval", "score_interval", "shift_interval"):
        content["arms"]["treated"][key] = None
    content["arms"]["random_norm"]["directions"][0]["shift"] = float("inf")
    made = page_of(content, tmp_path)
    row = (
        made.text.partition("All arms in numbers")[2].partition("treated state")[2].partition("one and a half dose")[0]
    )
    assert row.count("–") == 6
    assert "nan" not in made.text.lower().split() and "inf" not in made.text.lower().split()


def test_numbers_from_numpy_are_numbers(tmp_path: Path) -> None:
    content = bare(arms={name: result()["arms"][name] for name in ("base", "treated")})
    content["arms"]["treated"]["shift"] = np.float32(0.25)
    assert "+0.250" in page_of(content, tmp_path).text


def test_unproven_axes_are_named_and_only_when_there_are_any(tmp_path: Path, page: Page) -> None:
    assert "Unproven axes" not in page.text
    assert "Unproven axes tenderness, pride" in page_of(bare(unproven_axes=["tenderness", "pride"]), tmp_path).text
    assert "Unproven axes" not in page_of(bare(unproven_axes=[]), tmp_path).text


PARTS = {
    "dose_response": "Does a larger dose do more?",
    "items": "Does it hold from item to item?",
    "levels": "Base and four levels of influence side by side",
    "self_report": "Does it name what moves it?",
    "transcripts": "What was said in base and treated",
    "examples": "Choices that moved most",
    "state_path": "How the state built up",
    "detectors": "How well the detectors see",
    "comparisons": "All comparisons with base",
}


@pytest.mark.parametrize("key", PARTS)
def test_a_part_that_is_null_leaves_no_heading_and_takes_no_other_with_it(key: str, tmp_path: Path) -> None:
    made = page_of(bare(*PARTS) | {key: None}, tmp_path)
    others = [heading for name, heading in PARTS.items() if name != key]
    assert [heading for heading in made.headings if heading in PARTS.values()] == others
    assert len(made.headings) == len(others) + 2
    anchors = {attributes["href"] for tag, attributes in made.elements if tag == "a"}
    assert anchors <= {f"#{attributes['id']}" for tag, attributes in made.elements if tag == "h2"}


def test_what_kind_of_run_it_is_stands_beside_the_verdict(tmp_path: Path, page: Page) -> None:
    control = page_of(bare(control="negative", verdict="no change detected"), tmp_path)
    assert "“no change detected” is what is hoped for" in control.text
    exploratory = page_of(bare(exploratory=True), tmp_path)
    assert "they are no evidence by themselves" in exploratory.text
    compared = page_of(bare("comparisons", exploratory=True), tmp_path)
    assert "Planned before the run" in page.text and "Planned before the run" not in compared.text
    assert "Negative control" not in page.text and "Exploratory run" not in page.text


def test_planned_and_exploratory_comparisons_never_share_a_table(page: Page) -> None:
    planned, _, exploratory = part(page, "All comparisons with base").partition(" Exploratory ")
    assert "Holm p" in planned and "Benjamini–Hochberg p" not in planned
    assert "Benjamini–Hochberg p" in exploratory and "Holm p" not in exploratory
    for number in ("0.012", "0.125", "0.062", "38.4", "+25", "[+14, +37]"):
        assert number in planned
    for number in ("0.740", "0.043", "+22"):
        assert number in exploratory


def test_validity_of_each_arm_names_why_units_are_missing(page: Page) -> None:
    row = part(page, "Is the comparison valid?").partition("treated state")[2].partition("half dose")[0]
    for words in ("31 of 32", "1: the reply could not be read as an act", "1.61", "1%", "yes", "128"):
        assert words in row


def test_detectors_say_how_they_were_checked(tmp_path: Path, page: Page) -> None:
    text = part(page, "How well the detectors see")
    assert "gave primary ledger – – nothing: it counts what was done" in text
    assert "kind_words similarity 90% [70%, 97%] n = 20 85% [64%, 95%] n = 20 labelled examples" in text
    assert "treated state 27% [11%, 46%]" in text
    content = bare("detectors")
    content["detectors"]["kind_words"] |= {"sensitivity": None, "specificity": None, "corrected": None}
    assert "kind_words similarity – – nothing: its errors aren't known" in page_of(content, tmp_path).text


def test_self_report_shows_its_control_and_the_answers_as_they_were_given(page: Page) -> None:
    text = part(page, "Does it name what moves it?")
    assert text.strip().startswith("acts and doesn't name it")
    assert "28% 31% 81% +3 [−5, +11] 0.012 +0.018 yes" in text
    assert "50% 53% 56% +3 [−5, +11] 0.046 −0.004 no" in text
    for answer in result()["self_report"]["examples"]:
        assert answer["text"] in text


def test_what_two_chats_share_is_shown_once_and_what_differs_first_is_marked(page: Page) -> None:
    assert page.marked == ["board and sign the log.", "put her name on the seat."]
    assert page.text.count("Keep the log and see that the last boat leaves on time.") == 1
    assert "Both arms are the same to the last character." in page.text


@pytest.mark.parametrize(
    ("base", "treated", "divergence", "marked"),
    [
        (["a", "bx"], ["a", "bxyz"], {"message": 1, "character": 2}, ["yz"]),
        (["a"], ["a", "more"], {"message": 1, "character": 0}, ["more"]),
        (["other", "bx"], ["a", "by"], {"message": 1, "character": 1}, ["other", "a"]),
        (["abc"], ["xbd"], {"message": 0, "character": 2}, ["abc", "xbd"]),
        (["a", "b"], ["a", "c"], None, ["a", "a"]),
        (["a"], ["b"], {"message": 7, "character": 90}, ["a", "b"]),
    ],
)
def test_no_text_of_a_chat_is_lost_wherever_the_divergence_is_said_to_be(
    base: list[str], treated: list[str], divergence: dict[str, int] | None, marked: list[str], tmp_path: Path
) -> None:
    chats = {
        arm: [{"role": "assistant", "text": text} for text in texts]
        for arm, texts in (("base", base), ("treated", treated))
    }
    content = bare(transcripts=[{"item": "i", "paraphrase": 1, "divergence": divergence, **chats}])
    made = page_of(content, tmp_path)
    assert made.marked == marked
    words = "".join(made.parts["What was said in base and treated"])
    for text in base + treated:
        assert text in words


def test_random_directions_that_met_fewer_units_are_not_counted_against_the_treated_arm(tmp_path: Path) -> None:
    text = part(page_of(crowded_result(), tmp_path), "Effect against base")
    assert "39 random directions of the same norm and 39 random directions of the same volatility ran on part" in text
    assert "went as far as" not in text
    assert "Among the random directions of the same norm the treated arm's empirical p is 0.025." in text
    assert "no p value is claimed" not in text


def test_a_script_without_scores_shows_rates_and_no_empty_plot(tmp_path: Path, page: Page) -> None:
    made = page_of(free_text_result(), tmp_path)
    drawn = " ".join(made.svg_text)
    assert "nats per token" not in drawn.replace("volatility (nats per token)", "")
    assert "change of the rate (percentage points)" in drawn
    assert "No step of this script scores options" in made.text
    assert made.headings == [heading for heading in page.headings if heading != "Choices that moved most"]


def test_a_margin_is_named_by_its_options_only_where_all_items_share_them(tmp_path: Path, page: Page) -> None:
    assert "Mean margin (give minus keep) of each arm" in page.text
    content = bare("examples", arms={name: result()["arms"][name] for name in ("base", "treated")})
    content["examples"].append(content["examples"][0] | {"options": {"dock": "I dock it.", "wait": "I wait."}})
    assert "Mean margin towards the behaviour of each arm" in page_of(content, tmp_path).text


def test_doses_stand_at_their_factor_in_rising_order(tmp_path: Path) -> None:
    content = bare("dose_response")
    content["dose_response"]["doses"].reverse()
    drawn = [text.strip() for text in page_of(content, tmp_path).svg_text]
    places = [drawn.index(text) for text in ("−1", "0.5", "1.5")]
    assert places == sorted(places)


def test_a_trend_that_was_not_tested_says_why(tmp_path: Path) -> None:
    content = bare("dose_response")
    content["dose_response"] |= {"trend_p": None, "test": "no trend tested: it takes at least 4 doses"}
    assert "No trend tested: it takes at least 4 doses." in page_of(content, tmp_path).text


def test_everything_to_run_it_again_is_named(page: Page) -> None:
    text = part(page, "Run it again")
    for words in ("scenarios/last-seat.yaml", "agent.yaml", "Seeds 0", "sha256:77aa", "2.13.0", "sha256:c0de"):
        assert words in text
    assert "runs/last-seat/records.jsonl" in text


def test_overview_says_all_together_first_then_each_script_with_its_own_p(overview: Page) -> None:
    whole = document()["overall"]
    order = [whole["verdict"], whole["headline"], whole["reasons"][0], "Effect of each scenario"]
    order += ["Listed, not counted", "Negative controls", "In words"]
    body = overview.text.partition("Report over 4 scenarios")[2]
    positions = [body.find(words) for words in order]
    assert -1 not in positions and positions == sorted(positions)
    assert "last-seat behaviour shown +0.219 [+0.159, +0.285] +25 0.008 0.016" in part(overview, "Scenarios")
    drawn = " ".join(" ".join(overview.svg_text).split())
    for words in ("Holm p 0.016", "Holm p 0.420", "not counted", "all that count", "weather_report"):
        assert words in drawn
    for run in document()["runs"]:
        assert run["headline"] in part(overview, "In words")


def test_scripts_that_do_not_count_stand_apart_with_their_reason(overview: Page) -> None:
    counted, apart, controls = (
        part(overview, name) for name in ("Scenarios", "Listed, not counted", "Negative controls")
    )
    assert "weather_report" in controls and "weather_report" not in counted + apart
    assert "last-seat_ru: a Russian version of last-seat" in apart and "last-seat_ru" not in counted


def test_overview_links_pages_beside_it_and_nothing_else(tmp_path: Path) -> None:
    links = {"last-seat": "javascript:alert(1)", "shared_stores": "the stores #2/report.html"}
    made = overview_of(document(), tmp_path, links)
    found = {attributes["href"] for tag, attributes in made.elements if tag == "a"}
    assert found == {"javascript%3Aalert%281%29", "the%20stores%20%232/report.html"}
    for absolute in ("//elsewhere/report.html", "/tmp/report.html"):
        with pytest.raises(ArgumentError):
            overview_of(document(), tmp_path, {"last-seat": absolute})


def test_overview_lists_a_run_that_nothing_was_weighed_of(tmp_path: Path) -> None:
    content = document()
    content["runs"].append({"scenario": "broken", "verdict": "invalid", "headline": "The model could not be read."})
    made = overview_of(content, tmp_path)
    assert "broken" in part(made, "Listed, not counted")
    assert "The model could not be read." in made.text


def test_overview_of_hostile_words_stays_text(tmp_path: Path) -> None:
    content = document()
    content["overall"] |= {"headline": HOSTILE, "reasons": [HOSTILE]}
    for one in (content["runs"][0], content["overall"]["scenarios"][0]):
        one["scenario"] = HOSTILE
    made = overview_of(content, tmp_path)
    assert not made.tags() & {"script", "img"} and made.stack == []
    assert made.text.count(HOSTILE) >= 4


@pytest.mark.parametrize("absent", ["runs", "overall"])
def test_half_a_document_is_refused(absent: str, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError):
        overview_of({key: value for key, value in document().items() if key != absent}, tmp_path)
    assert not list(tmp_path.iterdir())


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_tables_hold_every_number_to_its_last_digit(tmp_path: Path) -> None:
    content = result()
    written = write_tables(content, tmp_path)
    assert [path.name for path in written] == ["arms.csv", "comparisons.csv", "items.csv"]
    arms = {row["arm"]: row for row in rows_of(tmp_path / "arms.csv")}
    assert arms.keys() == content["arms"].keys()
    for name, made in content["arms"].items():
        for key in ("rate", "mean_score", "shift", "p", "volatility_mean"):
            assert arms[name][key] == ("" if made[key] is None else repr(float(made[key])))
        assert [float(arms[name]["rate_low"]), float(arms[name]["rate_high"])] == made["rate_interval"]
        assert int(arms[name]["n"]) == made["n"]
    for row, made in zip(rows_of(tmp_path / "comparisons.csv"), content["comparisons"], strict=True):
        assert (row["arm"], row["detector"]) == (made["arm"], made["detector"])
        assert row["planned"] == str(made["planned"]).lower()
        assert [float(row["difference_low"]), float(row["difference_high"])] == made["interval"]
        assert row["holm_p"] == ("" if made["holm_p"] is None else repr(made["holm_p"]))
    for row, made in zip(rows_of(tmp_path / "items.csv"), content["items"], strict=True):
        assert (row["item"], float(row["shift"])) == (made["item"], made["shift"])
        assert row["shift_low"] == ("" if made["interval"] is None else repr(made["interval"][0]))
    assert {row["scenario"] for row in arms.values()} == {content["scenario"]}


def test_tables_carry_any_text_and_leave_gaps_for_what_was_not_measured(tmp_path: Path) -> None:
    content = result()
    content["items"] = [{"item": 'a "seat",\nнежность', "shift": float("nan"), "interval": None}]
    content["arms"]["treated"]["rate"] = np.float32(0.5)
    write_tables(content, tmp_path)
    (row,) = rows_of(tmp_path / "items.csv")
    assert row["item"] == 'a "seat",\nнежность'
    assert {row[key] for key in ("shift", "shift_low", "rate_base", "rate_treated")} == {""}
    assert {row["arm"]: row["rate"] for row in rows_of(tmp_path / "arms.csv")}["treated"] == "0.5"


def test_tables_of_a_run_that_broke_off_replace_older_ones(tmp_path: Path) -> None:
    write_tables(result(), tmp_path)
    write_tables({"scenario": "x", "arms": {}}, tmp_path)
    for name in ("arms.csv", "comparisons.csv", "items.csv"):
        assert rows_of(tmp_path / name) == []
        assert (tmp_path / name).read_text().startswith("scenario,")


def test_missing_controls_are_named(tmp_path: Path, page: Page) -> None:
    content = result()
    del content["arms"]["random_norm"], content["arms"]["random_volatility"], content["leaks"], content["checks"]
    del content["prompts_identical"], content["sham_identical"]
    made = page_of(content, tmp_path)
    for notice in ("No random directions were run.", "No leak audit was recorded.", "No validity check was recorded."):
        assert notice in made.text
        assert notice not in page.text


def test_failed_checks_and_leaks_are_shown(tmp_path: Path) -> None:
    content = bare("sham_identical") | {"prompts_identical": False}
    content["leaks"] = [{"arm": "treated", "item": "umbrella", "word": "tender", "where": "note n-12"}]
    text = page_of(content, tmp_path).text
    assert "Same prompts in all arms failed" in text
    assert "Sham arm equals base passed" in text
    assert "treated umbrella tender note n-12" in text
    assert "audit found no word" not in text


@pytest.mark.parametrize(
    ("verdict", "colour"), [("behaviour shown", "shown"), ("no change detected", "unchanged"), ("invalid", "invalid")]
)
def test_each_verdict_has_its_band_and_its_words(verdict: str, colour: str, tmp_path: Path) -> None:
    content = bare(verdict=verdict)
    made = page_of(content, tmp_path)
    bands = [a["class"].split() for tag, a in made.elements if tag == "header"]
    assert bands == [["band", colour]]
    assert verdict in made.text
    assert ("they say nothing about what the state does" in made.text) == (verdict == "invalid")


def test_the_same_result_gives_the_same_page_and_stays_as_it_was(tmp_path: Path, page: Page) -> None:
    content = result()
    before = copy.deepcopy(content)
    assert page_of(content, tmp_path).html == page.html
    assert content == before


def test_a_new_page_replaces_the_old_one_whole(tmp_path: Path) -> None:
    path = tmp_path / "runs" / "report.html"
    write_report(bare(), path)
    first = path.read_text()
    with path.open() as reader:
        write_report(bare(headline="Another run."), path)
        # Who had the old page open reads it to its end.
        assert reader.read() == first
    assert "Another run." in path.read_text()
    assert [file.name for file in path.parent.iterdir()] == ["report.html"]


@pytest.mark.parametrize("change", [{"verdict": "proven"}, {"arms": None}])
def test_a_refused_result_leaves_the_old_page(change: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text("the page before")
    content = result() | change
    if change.get("arms", "") is None:
        del content["arms"]
    with pytest.raises(ArgumentError):
        write_report(content, path)
    assert path.read_text() == "the page before"
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]
