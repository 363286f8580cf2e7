"""Calibration: the scale is the embedder's own, everyday sentences stay below it, and it is kept as plain data."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from word_embedder import WordEmbedder

from overlay.errors import ArgumentError
from overlay.frames import Calibration, Frame, FrameGraph, calibrate, ready_calibration
from overlay.frames.calibration import FALSE_ALARMS, neutral_sentences
from overlay.frames.cues import script_of

FRAMES = [
    Frame(name="repair", description="r", cues=("something broke here", "how do I fix this", "как это починить")),
    Frame(name="rest", description="r", cues=("I am so tired", "we need a break", "я очень устал")),
]


class CrowdedEmbedder(WordEmbedder):
    """The same meanings, but all texts of a script share most of their direction, as with many embedders."""

    digest = "crowded words"

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        vectors = super().embed(texts)
        for row, text in enumerate(texts):
            vectors[row, 0 if script_of(text) == "latin" else 1] += 3
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture(params=[WordEmbedder, CrowdedEmbedder])
def embedder(request: pytest.FixtureRequest) -> WordEmbedder:
    return request.param()  # type: ignore[no-any-return]


def calibrated(embedder: WordEmbedder) -> FrameGraph:
    return FrameGraph(FRAMES, embedder, calibration=calibrate(FRAMES, embedder))


@pytest.mark.parametrize(("text", "name"), [("oh, something broke, how do I fix this", "repair"), ("я устал", "rest")])
def test_a_near_text_wakes_its_frame_however_crowded_the_space_is(embedder: WordEmbedder, text: str, name: str) -> None:
    frames = calibrated(embedder)
    assert [one.frame.name for one in frames.turn({}, text).active] == [name]


@pytest.mark.parametrize("script", ["latin", "cyrillic"])
def test_at_most_the_stated_share_of_neutral_sentences_wakes_anything(embedder: WordEmbedder, script: str) -> None:
    frames = calibrated(embedder)
    sentences = [sentence for sentence in neutral_sentences() if script_of(sentence) == script]
    woken = [sentence for sentence in sentences if frames.turn({}, sentence).active]
    assert len(woken) <= FALSE_ALARMS * len(sentences)


def test_without_calibration_a_crowded_space_wakes_everything() -> None:
    frames = FrameGraph(FRAMES, CrowdedEmbedder())
    assert all(frames.turn({}, sentence).active for sentence in neutral_sentences()[:20])


def test_energy_grows_with_the_standing_from_nothing_to_one() -> None:
    (baseline, _) = calibrate(FRAMES, WordEmbedder()).baselines.values()
    energies = [baseline.energy(standing) for standing in np.linspace(-3, 4 * baseline.floor, 200)]
    assert energies[0] == 0.0 and energies[-1] == 1.0 and energies == sorted(energies)
    assert baseline.energy(baseline.floor) == pytest.approx(FRAMES[0].threshold)
    assert baseline.energy(baseline.floor / 2) == 0.0


def test_a_calibration_comes_back_from_json_bit_for_bit(embedder: WordEmbedder) -> None:
    made = calibrate(FRAMES, embedder)
    back = Calibration.from_plain(json.loads(json.dumps(made.to_plain())))
    assert back.to_plain() == made.to_plain()
    text = "this broke, we need to fix it"
    assert FrameGraph(FRAMES, embedder, calibration=back).match(text) == FrameGraph(
        FRAMES, embedder, calibration=made
    ).match(text)


@pytest.mark.parametrize(
    "wrong", [{}, {"form": 0}, {"form": 1, "embedder": "a", "cues": "b"}, {"form": 1, "baselines": 3}]
)
def test_what_is_no_calibration_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ArgumentError, match="no calibration"):
        Calibration.from_plain(wrong)


def test_a_kept_calibration_is_used_until_cues_or_embedder_change(tmp_path: Path) -> None:
    path = tmp_path / "calibration.json"
    ready_calibration(path, FRAMES, WordEmbedder())
    again = WordEmbedder()
    kept = ready_calibration(path, FRAMES, again)
    FrameGraph(FRAMES, again, calibration=kept)
    assert again.embedded == []
    fewer = ready_calibration(path, FRAMES[:1], again)
    assert fewer.fits(FRAMES[:1], again) and not fewer.fits(FRAMES, again)
    other = CrowdedEmbedder()
    assert ready_calibration(path, FRAMES[:1], other).embedder == other.digest


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b"\xff\xfe", b'{"form": 1}'])
def test_a_damaged_calibration_is_made_anew(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "calibration.json"
    path.write_bytes(damage)
    assert ready_calibration(path, FRAMES, WordEmbedder()).fits(FRAMES, WordEmbedder())
    assert json.loads(path.read_text())["form"] == 1


def test_a_calibration_of_other_cues_is_refused_by_the_graph() -> None:
    with pytest.raises(ArgumentError, match="other cues"):
        FrameGraph(FRAMES[:1], WordEmbedder(), calibration=calibrate(FRAMES, WordEmbedder()))


def test_no_frames_can_be_calibrated_and_match_nothing() -> None:
    frames = FrameGraph([], WordEmbedder(), calibration=calibrate([], WordEmbedder()))
    assert frames.match("anything") == {}


@pytest.mark.parametrize(
    ("text", "script"),
    [("Привет", "cyrillic"), ("hello", "latin"), ("", "latin"), ("OK, привет всем", "cyrillic"), ("你好", "latin")],
)
def test_the_script_is_that_of_most_letters(text: str, script: str) -> None:
    assert script_of(text) == script
