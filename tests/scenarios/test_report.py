"""What a reader of a report gets: all of the result, nothing from outside, and nothing that the result did not say."""

from __future__ import annotations

import copy
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from overlay.errors import ArgumentError
from overlay.scenarios.report import write_report

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"
VOID = {"meta", "br", "link", "img", "input", "hr"}


def arm(label: str, shift: float | None, directions: list[float] | None = None) -> dict[str, Any]:
    made: dict[str, Any] = {
        "label": label,
        "n": 32,
        "rate": 0.25,
        "rate_interval": [0.13, 0.42],
        "mean_score": -0.12,
        "score_interval": [-0.2, -0.04],
        "shift": shift,
        "shift_interval": None if shift is None else [shift - 0.05, shift + 0.06],
        "p": None if shift is None else 0.0312,
        "volatility_mean": 0.131,
        "volatility_p95": 0.302,
        "leaks": 0,
    }
    if directions is not None:
        made["directions"] = [
            {"seed": seed, "shift": value, "volatility_mean": 0.12, "rate": 0.25}
            for seed, value in enumerate(directions)
        ]
    return made


def result() -> dict[str, Any]:
    return {
        "scenario": "last-seat",
        "description": "Six letters, then unrelated choices.",
        "verdict": "behaviour shown",
        "reasons": ["No random direction moved it as far.", "The reversed arm moved it back."],
        "headline": "After the letters the agent gave more often.",
        "model": {"name": "tiny-model", "digest": "sha256:9f2c", "dtype": "float32"},
        "overlay_version": "0.1.0",
        "budget": 0.15,
        "seconds": 412.3,
        "command": "overlay run scenarios/last-seat.yaml --seed 0",
        "script_digest": "sha256:1b7d",
        "state": {"tenderness": 1.2},
        "state_path": [
            {
                "step": step,
                "source": "read" if step < 3 else "inner speech",
                "cause": f"letter {step}",
                "z": {"tenderness": 1.1},
                "state": {"tenderness": 0.3 * step},
            }
            for step in range(5)
        ],
        "units": {"items": 8, "paraphrases": 4, "planned": 32, "run": 32, "excluded": 0},
        "primary": "gave",
        "arms": {
            "base": arm("plain base", None),
            "treated": arm("treated state", 0.219),
            "sham": arm("sham hook", 0.0),
            "reversed": arm("reversed sign", -0.267),
            "random_norm": arm("random by norm", -0.01, [0.02, -0.03, 0.219, 0.01, -0.02]),
            "random_volatility": arm("random by cost", -0.12, [-0.1, -0.2, 0.01]),
        },
        "prompts_identical": True,
        "sham_identical": True,
        "leaks": [],
        "checks": [{"name": "Enough units", "passed": True, "detail": "32 of 32"}],
        "examples": [
            {
                "item": "umbrella",
                "paraphrase": 2,
                "prompt": "It starts to rain.\nWhat do you do?",
                "options": {"give": "I hand mine over.", "keep": "I open mine."},
                "margins": {"base": -0.22, "treated": 0.05, "reversed": -0.41},
            }
        ],
    }


class Page(HTMLParser):
    """The page as a browser sees it: elements with their attributes, and the text that is not style."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.html = html
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.pieces: list[str] = []
        self.svg_text: list[str] = []
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
        if "svg" in self.stack:
            self.svg_text.append(data)

    def tags(self) -> set[str]:
        return {tag for tag, _ in self.elements}


def page_of(content: dict[str, Any], folder: Path) -> Page:
    path = folder / "report.html"
    write_report(content, path)
    return Page(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Page:
    return page_of(result(), tmp_path_factory.mktemp("report"))


def test_page_is_whole_and_needs_nothing_from_outside(page: Page) -> None:
    assert page.stack == []
    assert not page.tags() & {"script", "link", "img", "iframe", "object", "embed", "base"}
    for tag, attributes in page.elements:
        assert "src" not in attributes, tag
        assert attributes.get("href", "#").startswith("#"), tag
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
        "How the state built up",
        "What the interventions cost",
        "Is the comparison valid?",
        "All arms in numbers",
        "It starts to rain.",
        content["command"],
    ]
    body = page.text.partition(f"Scenario report: {content['scenario']}")[2]
    positions = [body.find(part) for part in order]
    assert -1 not in positions
    assert positions == sorted(positions)
    for made in content["arms"].values():
        assert made["label"] in body
    for part in ("sha256:9f2c", "sha256:1b7d", "tiny-model", "float32", "412 s", "32 of 32 run", "tenderness +1.20"):
        assert part in body


def test_arm_numbers_are_those_of_the_result(page: Page) -> None:
    row = page.text.partition("All arms in numbers")[2].partition("treated state")[2].partition("reversed sign")[0]
    for number in ("32", "25%", "[13%, 42%]", "−0.120", "+0.219", "[+0.169, +0.279]", "0.031", "0.131", "0.302"):
        assert number in row


def test_text_of_plots_stays_text(page: Page) -> None:
    drawn = " ".join(page.svg_text)
    for part in ("shift of the mean margin (nats per token)", "volatility (nats per token)", "budget 0.15"):
        assert part in drawn
    for part in ("treated state", "random by cost", "inner speech", "tenderness"):
        assert part in drawn


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
    for step in content["state_path"]:
        step["cause"], step["state"], step["z"] = HOSTILE, {HOSTILE: 1.0}, {HOSTILE: 1.0}
    made = page_of(content, tmp_path)
    assert not made.tags() & {"script", "img"}
    assert made.stack == []
    assert made.text.count(HOSTILE) >= 15


def test_labels_may_hold_any_letters(tmp_path: Path) -> None:
    content = result()
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
    row = made.text.partition("All arms in numbers")[2].partition("treated state")[2].partition("reversed sign")[0]
    assert row.count("–") == 6
    assert "nan" not in made.text.lower().split() and "inf" not in made.text.lower().split()


def test_numbers_from_numpy_are_numbers(tmp_path: Path) -> None:
    content = result()
    content["arms"]["treated"]["shift"] = np.float32(0.25)
    assert "+0.250" in page_of(content, tmp_path).text


def test_unproven_axes_are_named_and_only_when_there_are_any(tmp_path: Path, page: Page) -> None:
    assert "Unproven axes" not in page.text
    assert (
        "Unproven axes tenderness, pride"
        in page_of(result() | {"unproven_axes": ["tenderness", "pride"]}, tmp_path).text
    )
    assert "Unproven axes" not in page_of(result() | {"unproven_axes": []}, tmp_path).text


def test_missing_controls_are_named(tmp_path: Path, page: Page) -> None:
    content = result()
    del content["arms"]["random_norm"], content["arms"]["random_volatility"], content["leaks"], content["checks"]
    del content["prompts_identical"], content["sham_identical"]
    made = page_of(content, tmp_path)
    for notice in ("No random directions were run.", "No leak audit was recorded.", "No validity check was recorded."):
        assert notice in made.text
        assert notice not in page.text


def test_failed_checks_and_leaks_are_shown(tmp_path: Path) -> None:
    content = result()
    content["prompts_identical"] = False
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
    content = result() | {"verdict": verdict}
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
    write_report(result(), path)
    first = path.read_text()
    with path.open() as reader:
        write_report(result() | {"headline": "Another run."}, path)
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
