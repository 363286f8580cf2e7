"""Emergent axes: born of a theme that stays, of nothing else, and followed for as long as the drift lasts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from toy_axis import BUDGET

from overlay.axes import Evidence, load_axis
from overlay.axes.axis import project
from overlay.errors import ArgumentError, AxisUnproven, RecordDamaged, WrongBaseModel
from overlay.inner import Drift, DriftSettings, Influence, State, Voice, ordinary_subjects
from overlay.inner.dialogue import Asked, asked_about
from overlay.inner.emergence import Emergence, EmergenceSettings, Event, calibrated, reading_scale
from overlay.inner.inner_neutral import (
    FEWEST_SAMPLES,
    InnerNeutral,
    gather_inner_neutral,
    setup_digest,
)
from overlay.inner.ledger import Segment, SourcedMessage
from overlay.model import Direction, VolatilityGauge

LAYERS, WIDTH = 4, 48
BLOCKS = tuple(range(LAYERS))
NORMS = np.array([1, 2, 4, 8], np.float32)
SETTINGS = EmergenceSettings(shuffles=199)
THEME = 0.8
"""Per block, in residual norms; one turn's noise is 2.1 long."""

Array = NDArray[np.float64]


def noise(generator: np.random.Generator, count: int, memory: float = 0.0) -> Array:
    """(count, layers, width): some directions vary much more than others, and blocks vary together."""
    together = generator.standard_normal((count, 1, WIDTH))
    apart = generator.standard_normal((count, LAYERS, WIDTH))
    found = (np.sqrt(0.8) * together + np.sqrt(0.2) * apart) * np.arange(1, WIDTH + 1) ** -0.5
    for turn in range(1, count):
        found[turn] = memory * found[turn - 1] + np.sqrt(1 - memory**2) * found[turn]
    return np.asarray(found)


def themes(count: int, seed: int = 7) -> Array:
    """Orthonormal directions, the same at each block: (count, layers, width)."""
    basis, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((WIDTH, count)))
    return np.repeat(basis.T[:, None], LAYERS, axis=1)


class Life:
    """A simulated life: `signal` (turns, layers, width) in residual norms, on top of noise."""

    def __init__(
        self,
        signal: Array,
        seed: int = 0,
        half_life: float = 32.0,
        memory: float = 0.0,
        settings: EmergenceSettings = SETTINGS,
        loudness: float = 1.0,
    ) -> None:
        generator = np.random.default_rng(seed)
        level = generator.standard_normal((LAYERS, WIDTH)).astype(np.float32)
        scale = NORMS[:, None].astype(np.float64)
        still = 0.5 + loudness * noise(generator, 48)
        self.neutral = InnerNeutral((still * scale + level).astype(np.float32), level, NORMS, "model", "setup")
        lived = 0.5 + loudness * noise(generator, len(signal), memory) + signal
        self.drift = Drift.none(LAYERS, WIDTH, "model", DriftSettings(half_life=half_life))
        self.looks = [Emergence.none(LAYERS, WIDTH, "model")]
        self.drifts = [self.drift]
        self.events: list[Event] = []
        for number, turn in enumerate(lived, 1):
            self.drift = self.drift.observe((turn * scale + level).astype(np.float32), level, turn=f"s:{number}")
            if self.looks[-1].due(self.drift, settings):
                found, events = self.look(self.looks[-1], f"s:{number}", settings)
                self.looks.append(found)
                self.drifts.append(self.drift)
                self.events += events

    def look(
        self, before: Emergence, turn: str, settings: EmergenceSettings = SETTINGS
    ) -> tuple[Emergence, tuple[Event, ...]]:
        return before.look(self.drift, self.neutral, settings, turn, seed=len(self.drift.turns), blocks=range(LAYERS))

    @property
    def now(self) -> Emergence:
        return self.looks[-1]

    def names(self, kind: str) -> list[str]:
        return [event.axis for event in self.events if event.kind == kind]


def one_theme(turns: int = 40, size: float = THEME) -> Array:
    return np.repeat(themes(1) * size, turns, axis=0)


def many_themes(turns: int, size: float, seed: int) -> Array:
    """A theme of its own for each turn."""
    found = np.random.default_rng([seed, 1]).standard_normal((turns, 1, WIDTH))
    return np.repeat(found / np.linalg.norm(found, axis=2, keepdims=True) * size, LAYERS, axis=1)


def cosine(vectors: NDArray[Any], other: NDArray[Any]) -> float:
    return float((vectors * other).sum(1).mean() / np.linalg.norm(other, axis=1).mean())


def same(one: Emergence, other: Emergence) -> bool:
    facts = ("model_digest", "layers", "width", "next_number", "looks", "seen")
    axis_facts = ("name", "strength", "p", "stability", "born", "age", "missed", "loadings", "digest")

    def candidates(emergence: Emergence) -> bytes:
        return b"" if emergence.candidates is None else emergence.candidates.tobytes()

    return (
        all(getattr(one, fact) == getattr(other, fact) for fact in facts)
        and candidates(one) == candidates(other)
        and len(one.axes) == len(other.axes)
        and all(getattr(a, f) == getattr(b, f) for a, b in zip(one.axes, other.axes, strict=True) for f in axis_facts)
    )


@pytest.fixture(scope="module")
def themed() -> Life:
    return Life(one_theme())


# --- birth ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
def test_a_life_on_one_theme_gives_birth_to_an_axis_along_it(seed: int) -> None:
    life = Life(one_theme(), seed)
    assert life.names("born")[0] == "e1" and "e1" in [axis.name for axis in life.now.axes]
    axis = life.now.axes[0]
    assert cosine(axis.vectors, themes(1)[0]) > 0.75 and axis.p <= SETTINGS.p
    assert axis.strength == pytest.approx(THEME, rel=0.4)


def test_its_twin_of_many_themes_gives_birth_in_at_most_one_life_of_twenty() -> None:
    born = [bool(Life(many_themes(40, 2 * THEME, seed), seed).names("born")) for seed in range(60)]
    # With a true rate of 5%, more than six of sixty happen once in a hundred times.
    assert sum(born) <= 6


@pytest.mark.parametrize("memory", [0.0, 0.5])
def test_a_life_without_any_theme_seldom_gives_birth_even_when_turns_resemble_their_neighbours(memory: float) -> None:
    still = np.zeros((40, LAYERS, WIDTH))
    assert sum(bool(Life(still, seed, memory=memory).names("born")) for seed in range(60)) <= 6


def test_the_order_of_the_turns_of_one_theme_does_not_matter() -> None:
    sizes = np.linspace(0.6, 1.4, 40) * THEME
    for order in (sizes, sizes[::-1], np.random.default_rng(0).permutation(sizes)):
        life = Life(themes(1) * order[:, None, None])
        assert life.now.axes and cosine(life.now.axes[0].vectors, themes(1)[0]) > 0.75


def test_nothing_is_born_at_the_first_look(themed: Life) -> None:
    first = themed.looks[1]
    assert not first.axes and first.candidates is not None and first.seen == SETTINGS.after
    assert themed.looks[2].axes[0].born == f"s:{SETTINGS.after + SETTINGS.every}"
    assert themed.looks[2].axes[0].stability is None


def test_two_themes_are_both_found_and_keep_their_names() -> None:
    first, second = themes(2)
    sides = np.repeat([1.0, -1.0, 1.0, -1.0], 12)[:, None, None]
    for seed in range(3):
        life = Life(1.5 * first + 1.5 * sides * second, seed)
        assert life.names("born") == ["e1", "e2"] and not life.names("retired")
        one, other = life.now.axes
        assert abs(cosine(one.vectors, first)) > 0.75 and abs(cosine(other.vectors, second)) > 0.75


def test_the_turns_that_load_most_are_those_with_most_of_the_theme() -> None:
    sizes = np.full(40, 0.5)
    sizes[[20, 30, 35]] = 6.0
    axis = Life(themes(1) * sizes[:, None, None]).now.axes[0]
    assert {turn for turn, _ in axis.loadings[:3]} == {"s:21", "s:31", "s:36"}
    assert [loading for _, loading in axis.loadings] == sorted((at for _, at in axis.loadings), reverse=True)


@pytest.mark.parametrize("side", [1, -1])
def test_a_newborn_axis_points_to_where_life_is(side: int) -> None:
    """Whatever sign a decomposition happens to give."""
    for seed in range(8):
        life = Life(side * one_theme(20), seed)
        axis = life.now.axes[0]
        assert cosine(axis.vectors, side * themes(1)[0]) > 0.5 and axis.strength > 0


@pytest.mark.parametrize(("size", "is_born"), [(0.012, False), (0.05, True)])
def test_a_drift_that_is_sure_and_too_weak_to_matter_gives_birth_to_nothing(size: float, is_born: bool) -> None:
    """Speech that hardly varies makes the smallest theme sure."""
    for seed in range(4):
        life = Life(one_theme(size=size), seed, loudness=size / THEME)
        assert bool(life.names("born")) is is_born and (is_born or life.now.candidates is not None)
        anything = SETTINGS.model_copy(update={"strength": 0.0})
        assert Life(one_theme(size=size), seed, loudness=size / THEME, settings=anything).names("born")


def test_a_weak_theme_that_grows_gives_birth_once_it_is_strong_enough() -> None:
    growing = themes(1) * np.concatenate([np.full(24, 0.01), np.full(24, 0.1)])[:, None, None]
    life = Life(growing, loudness=0.01)
    born = next(event for event in life.events if event.kind == "born")
    assert 24 < int(born.turn.removeprefix("s:")) < 40


# --- what it reads -------------------------------------------------------------------------------


def test_the_life_that_an_axis_was_born_of_reads_as_about_one_and_neutral_speech_as_zero() -> None:
    """In deviations of neutral speech it reads beyond five: a tanh of half of that is full at the first utterance."""
    for seed in range(4):
        life = Life(one_theme(size=4.0), seed, loudness=0.5)
        axis = life.now.axes[0]
        direction = Direction("e1", axis.vectors.copy(), NORMS)

        def readings(samples: NDArray[Any], mean: float, deviation: float, along: Direction = direction) -> Array:
            return np.array([(project(one, along, BLOCKS) - mean) / deviation for one in samples])

        lived = life.drift.recorded + life.neutral.level
        unlived = reading_scale(direction, BLOCKS, life.neutral, Drift.none(LAYERS, WIDTH, "model"))
        assert np.median(readings(lived, *unlived)) > 5
        mean, deviation = reading_scale(direction, BLOCKS, life.neutral, life.drift)
        felt = readings(lived, mean, deviation)
        assert 0.7 < np.median(felt) < 1.3 and np.abs(felt).max() < 2.5
        still = readings(life.neutral.samples, mean, deviation)
        assert np.mean(still) == pytest.approx(0, abs=1e-3) and np.std(still) <= 1


def test_a_life_near_neutral_is_read_in_deviations_of_neutral_speech() -> None:
    life = Life(np.zeros((40, LAYERS, WIDTH)), seed=1)
    direction = Direction("x", themes(1)[0].astype(np.float32), NORMS)
    _, alone = reading_scale(direction, BLOCKS, life.neutral, Drift.none(LAYERS, WIDTH, "model"))
    _, together = reading_scale(direction, BLOCKS, life.neutral, life.drift)
    assert alone <= together < 1.4 * alone


# --- told again ----------------------------------------------------------------------------------


def test_what_had_emerged_at_an_earlier_look_is_told_by_the_axes_in_force_and_the_events_until_then(
    toy_axis: Any,
) -> None:
    first, second = themes(2)
    signal = np.concatenate([[1.2 * first] * 30, np.zeros((50, LAYERS, WIDTH)), [1.2 * second] * 40])
    life = Life(signal, half_life=6.0)
    counts = set()
    for look, drift in zip(life.looks[1:], life.drifts[1:], strict=True):
        until = [vars(one) for one in life.events if int(one.turn.removeprefix("s:")) <= drift.count]
        axes = {
            one.name: replace(
                toy_axis,
                name=one.name,
                direction=Direction(one.name, one.vectors.copy(), NORMS),
                evidence=Evidence(chance=one.p),
            )
            for one in look.axes
        }
        found = life.now.as_of(drift, axes, until, life.neutral, SETTINGS, len(drift.turns), range(LAYERS))
        facts = ("looks", "seen", "next_number")
        assert [getattr(found, fact) for fact in facts] == [getattr(look, fact) for fact in facts]
        for one, other in zip(found.axes, look.axes, strict=True):
            for fact in ("name", "born", "age", "missed", "p", "loadings"):
                assert getattr(one, fact) == getattr(other, fact), (look.looks, fact)
            assert one.strength == pytest.approx(other.strength)
        count = [0 if one.candidates is None else len(one.candidates) for one in (found, look)]
        assert count[0] == count[1]
        if look.candidates is not None:
            np.testing.assert_allclose(found.candidates, look.candidates, atol=1e-4)
        counts.add((len(look.axes), count[1]))
    assert len(counts) > 2, "lives with and without axes and candidates"


# --- life and death ------------------------------------------------------------------------------


def test_a_steady_life_keeps_its_axis_stable_and_counts_its_age() -> None:
    life = Life(one_theme(64, 1.2))
    assert life.names("born") == ["e1"] and not life.names("retired")
    axis = life.now.axes[0]
    assert axis.stability is not None and axis.stability > 0.97
    assert axis.age == life.now.looks - 2 and axis.missed == 0
    np.testing.assert_allclose(np.linalg.norm(axis.vectors, axis=1), 1, atol=1e-5)


def test_an_axis_retires_when_its_theme_stops_and_its_number_is_not_used_again() -> None:
    first, second = themes(2)
    signal = np.concatenate([[1.2 * first] * 30, np.zeros((50, LAYERS, WIDTH)), [1.2 * second] * 40])
    life = Life(signal, half_life=6.0)
    assert life.names("retired")[0] == "e1" and life.names("born")[0] == "e1"
    assert "e1" not in life.names("born")[1:] and life.now.axes
    assert cosine(life.now.axes[0].vectors, second) > 0.75
    assert life.now.next_number > int(life.now.axes[0].name[1:])
    last = [event for event in life.events if event.axis == "e1"][-1]
    assert last.kind == "retired" and "e1 retired" in last.words and last.turn.startswith("s:")


def test_an_axis_that_is_missed_once_stays_as_it_was_and_one_of_more_patience_stays_longer(themed: Life) -> None:
    still = Life(np.zeros((40, LAYERS, WIDTH)), seed=3)
    before = replace(still.now, axes=themed.now.axes)
    once, (event,) = still.look(before, "s:41")
    assert event.kind == "missed" and once.axes[0].missed == 1
    np.testing.assert_array_equal(once.axes[0].vectors, themed.now.axes[0].vectors)
    gone, (event,) = still.look(once, "s:45")
    assert event.kind == "retired" and not gone.axes
    patient, _ = still.look(once, "s:45", EmergenceSettings(shuffles=199, patience=3))
    assert [axis.missed for axis in patient.axes] == [2]


@pytest.mark.parametrize("angle", [0.0, 0.3, np.pi / 4])
def test_names_stick_to_directions_when_components_turn_or_change_sign(angle: float) -> None:
    """The components of two equal themes may come out in any order, turned and mirrored: the axes don't follow that."""
    first, second = themes(2)
    sides = np.repeat([1.0, -1.0, 1.0, -1.0], 12)[:, None, None]
    life = Life(1.5 * first + 1.5 * sides * second)
    one, other = (axis.vectors.astype(np.float64) for axis in life.now.axes)
    turned = (np.cos(angle) * one + np.sin(angle) * other, np.sin(angle) * one - np.cos(angle) * other)
    for vectors in (turned, turned[::-1], tuple(-both for both in turned)):
        unit = [(v / np.linalg.norm(v, axis=1, keepdims=True)).astype(np.float32) for v in vectors]
        renamed = [replace(axis, vectors=v) for axis, v in zip(life.now.axes, unit, strict=True)]
        found, events = life.look(replace(life.now, axes=tuple(renamed)), "s:48")
        assert [event.kind for event in events] == ["kept", "kept"]
        assert [axis.name for axis in found.axes] == ["e1", "e2"]
        for axis, before in zip(found.axes, unit, strict=True):
            assert axis.stability is not None and axis.stability == pytest.approx(cosine(axis.vectors, before), 1e-3)
            assert axis.stability > 0.9


def test_no_more_axes_live_than_settings_allow() -> None:
    signal = np.concatenate([np.repeat(2.0 * theme[None], 10, axis=0) for theme in themes(5)])
    life = Life(signal, half_life=64.0)
    assert all(len(look.axes) <= SETTINGS.components for look in life.looks)


# --- looking -------------------------------------------------------------------------------------


def test_looking_twice_sees_the_same_bit_for_bit(themed: Life) -> None:
    for before in (themed.looks[1], themed.now):
        one, other = (themed.look(before, "s:40") for _ in range(2))
        assert same(one[0], other[0]) and one[1] == other[1]


def test_a_look_is_due_after_the_first_turns_and_then_every_so_many(themed: Life) -> None:
    assert [look.seen for look in themed.looks[1:]] == [12, 16, 20, 24, 28, 32, 36, 40]
    assert not themed.now.due(themed.drift, SETTINGS)


def test_the_same_life_of_other_units_at_its_blocks_gives_the_same_axes(themed: Life) -> None:
    """Blocks are measured in their own residual norms."""
    scale = np.array([3, 0.5, 10, 1], np.float32)
    one = themed.neutral
    wide = InnerNeutral(
        one.samples * scale[:, None], one.level * scale[:, None], one.norms * scale, one.model_digest, "setup"
    )
    drift = replace(themed.drift, recent=tuple(turn * scale[:, None] for turn in themed.drift.recent))
    found, _ = themed.looks[1].look(drift, wide, SETTINGS, "s:40", 5, range(LAYERS))
    usual, _ = themed.looks[1].look(themed.drift, one, SETTINGS, "s:40", 5, range(LAYERS))
    assert len(found.axes) == len(usual.axes) == 1
    np.testing.assert_allclose(found.axes[0].vectors, usual.axes[0].vectors, atol=1e-4)
    assert found.axes[0].strength == pytest.approx(usual.axes[0].strength, rel=1e-4)


def test_identical_turns_and_too_few_of_them(themed: Life) -> None:
    drift = Drift.none(LAYERS, WIDTH, "model")
    for number in range(3):
        drift = drift.observe(themed.neutral.level, themed.neutral.level, turn=str(number))
    none = Emergence.none(LAYERS, WIDTH, "model")
    with pytest.raises(ArgumentError, match="3 turns"):
        none.look(drift, themed.neutral, SETTINGS, "x", 0, range(LAYERS))
    flat = replace(themed.neutral, samples=np.zeros_like(themed.neutral.samples), level=np.zeros((LAYERS, WIDTH), "f"))
    for _ in range(9):
        drift = drift.observe(flat.level, flat.level, turn="same")
    still, events = none.look(
        replace(drift, recent=(flat.level,) * 9, turns=("a",) * 9), flat, SETTINGS, "x", 0, range(LAYERS)
    )
    assert not still.axes and still.candidates is None and not events


def test_parts_of_several_models_and_of_other_shapes_are_refused(themed: Life) -> None:
    with pytest.raises(WrongBaseModel):
        themed.now.look(replace(themed.drift, model_digest="other"), themed.neutral, SETTINGS, "x", 0, [0])
    with pytest.raises(ArgumentError, match="give shape"):
        Emergence.none(2, 2, "model").look(themed.drift, themed.neutral, SETTINGS, "x", 0, [0])
    with pytest.raises(ArgumentError, match="blocks"):
        themed.now.look(themed.drift, themed.neutral, SETTINGS, "x", 0, [LAYERS])


# --- files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("look", [0, 1, -1])
def test_what_is_saved_is_read_back_and_goes_on_alike(themed: Life, look: int, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "emergent.safetensors"
    themed.looks[look].save(path)
    found = Emergence.load(path, "model")
    assert same(found, themed.looks[look]) and [one.name for one in path.parent.iterdir()] == [path.name]
    assert same(themed.look(found, "x")[0], themed.look(themed.looks[look], "x")[0])
    with pytest.raises(WrongBaseModel):
        Emergence.load(path, "other")


def test_neutral_speech_is_read_back_or_refused(themed: Life, tmp_path: Path) -> None:
    path = tmp_path / "neutral.safetensors"
    themed.neutral.save(path)
    found = InnerNeutral.load(path, "model")
    assert found.digest == themed.neutral.digest and found.setup_digest == "setup"
    with pytest.raises(WrongBaseModel):
        InnerNeutral.load(path, "other")


@pytest.mark.parametrize("kind", [Emergence, InnerNeutral])
def test_damage_is_noticed(themed: Life, kind: type[Emergence | InnerNeutral], tmp_path: Path) -> None:
    path = tmp_path / "file.safetensors"
    (themed.now if kind is Emergence else themed.neutral).save(path)
    whole = path.read_bytes()
    for place in [*range(0, 900, 7), *range(900, len(whole), len(whole) // 40)]:
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
        try:
            found = kind.load(path, "model")
        except RecordDamaged as error:
            assert str(path) in error.problem and error.next_step
        else:
            assert isinstance(found, InnerNeutral) or same(found, themed.now), place
            assert isinstance(found, Emergence) or found.digest == themed.neutral.digest, place
    for content in (b"", whole[:-1]):
        path.write_bytes(content)
        with pytest.raises(RecordDamaged):
            kind.load(path, "model")


# --- with a model --------------------------------------------------------------------------------

VOICES = (
    Voice(name="one", description="x", mask="You see.", max_tokens=8),
    Voice(name="two", description="y", mask="You count.", max_tokens=8),
)
OPENING = (SourcedMessage("system", (Segment("system", "You think."),)),)
QUESTIONS = (("none", "What is it?"), ("side", "Who is missing?"))


def asked(
    voices: Sequence[Voice] = VOICES, questions: Sequence[tuple[str, str]] = QUESTIONS, count: int = 12
) -> list[list[Asked]]:
    return [asked_about(text, questions, voices) for text in ordinary_subjects()[:count]]


@pytest.fixture(scope="module")
def tiny_neutral(tiny_llama: Any) -> InnerNeutral:
    return gather_inner_neutral(tiny_llama, asked(), OPENING, seed=3)


@pytest.fixture(scope="module")
def tiny_emergence(tiny_llama: Any, tiny_neutral: InnerNeutral) -> Emergence:
    generator = np.random.default_rng(0)
    theme = generator.standard_normal((tiny_llama.layers, tiny_llama.width))
    drift = Drift.none(tiny_llama.layers, tiny_llama.width, tiny_llama.digest)
    emergence = Emergence.none(tiny_llama.layers, tiny_llama.width, tiny_llama.digest)
    for number in range(24):
        sample = tiny_neutral.samples[generator.integers(len(tiny_neutral.samples))]
        lived = sample + theme * tiny_neutral.norms[:, None] * 0.5
        drift = drift.observe(lived.astype(np.float32), tiny_neutral.level, turn=f"s:{number}")
        if emergence.due(drift, SETTINGS):
            emergence, _ = emergence.look(drift, tiny_neutral, SETTINGS, f"s:{number}", number)
    return emergence


def test_neutral_speech_is_gathered_alike_twice_and_knows_its_setup(
    tiny_llama: Any, tiny_neutral: InnerNeutral
) -> None:
    again = gather_inner_neutral(tiny_llama, asked(), OPENING, seed=3)
    assert again.digest == tiny_neutral.digest
    assert tiny_neutral.samples.shape == (12, tiny_llama.layers, tiny_llama.width)
    assert tiny_neutral.setup_digest == setup_digest(asked(), OPENING, 3)
    others = [
        (asked(VOICES[:1]), OPENING, 3),
        (asked(), (), 3),
        (asked(questions=QUESTIONS[:1]), OPENING, 3),
        (asked(count=11), OPENING, 3),
        (asked(), OPENING, 4),
    ]
    assert len({tiny_neutral.setup_digest, *(setup_digest(*other) for other in others)}) == 6


def test_too_little_neutral_speech_is_refused(tiny_llama: Any, tiny_neutral: InnerNeutral) -> None:
    with pytest.raises(ArgumentError, match="1 of 1 neutral subjects"):
        gather_inner_neutral(tiny_llama, asked(count=1), OPENING, seed=0)
    with pytest.raises(ArgumentError, match="samples"):
        replace(tiny_neutral, samples=tiny_neutral.samples[: FEWEST_SAMPLES - 1])


def test_a_calibrated_axis_is_proven_reads_neutral_speech_as_neutral_and_can_be_dosed(
    tiny_llama: Any, tiny_gauge: VolatilityGauge, tiny_neutral: InnerNeutral, tiny_emergence: Emergence, tmp_path: Path
) -> None:
    still = Drift.none(tiny_llama.layers, tiny_llama.width, tiny_llama.digest)
    axis = calibrated(tiny_emergence.axes[0], tiny_llama, tiny_gauge, tiny_neutral, still, BUDGET)
    assert axis.proven and axis.name == "e1" and axis.method == "emergent" and axis.lexicon == ()
    readings = [axis.project(sample) for sample in tiny_neutral.samples]
    assert np.mean(readings) == pytest.approx(0, abs=1e-4) and np.std(readings, ddof=1) == pytest.approx(1, rel=1e-3)
    influence = Influence([axis], tiny_gauge, BUDGET)
    found = influence.of(State({"e1": 0.5}))
    assert found.intervention.doses and 0 < found.volatility.mean <= BUDGET and influence.unproven == ()
    assert set(influence.read(tiny_llama, ["Some text to read."])[0]) == {"e1"}
    loaded = load_axis(axis.save(tmp_path), tiny_llama.digest)
    assert loaded.evidence == axis.evidence and loaded.evidence.chance == tiny_emergence.axes[0].p
    with pytest.raises(WrongBaseModel):
        calibrated(
            tiny_emergence.axes[0], tiny_llama, tiny_gauge, replace(tiny_neutral, model_digest="other"), still, BUDGET
        )


@pytest.mark.parametrize(("chance", "passes"), [(0.002, True), (0.05, True), (0.051, False), (float("nan"), False)])
def test_an_axis_that_may_owe_itself_to_chance_is_unproven(toy_axis: Any, chance: float, passes: bool) -> None:
    axis = replace(toy_axis, evidence=Evidence(chance=chance))
    assert axis.proven is passes
    if not passes:
        with pytest.raises(AxisUnproven, match="chance"):
            axis.require_proof()
