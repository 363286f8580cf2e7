"""Energies: bounded whatever is linked to what, explained, and depending on nothing but what is given."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from word_embedder import WordEmbedder

from overlay.errors import ArgumentError
from overlay.frames import Frame, FrameGraph, calibrate


def frame(name: str, cues: Sequence[str] = (), links: dict[str, float] | None = None, threshold: float = 0.35) -> Frame:
    return Frame(
        name=name, description=name, cues=tuple(cues) or (f"cue {name}",), links=links or {}, threshold=threshold
    )


def graph(*frames: Frame, **settings: float) -> FrameGraph:
    return FrameGraph(frames, WordEmbedder(), **settings)  # type: ignore[arg-type]


weights = st.floats(-1, 1).filter(lambda weight: weight != 0)
numbers = st.floats(-1e9, 1e9) | st.floats(0, 1)


@st.composite
def random_graphs(draw: st.DrawFn) -> FrameGraph:
    names = [f"f{number}" for number in range(draw(st.integers(1, 7)))]
    links = draw(st.dictionaries(st.tuples(st.sampled_from(names), st.sampled_from(names)), weights))
    frames = [
        frame(name, links={goal: weight for (origin, goal), weight in links.items() if origin == name != goal})
        for name in names
    ]
    share = st.floats(0, 1)
    return FrameGraph(frames, WordEmbedder(), decay=draw(share), spread=draw(share), hops=draw(st.integers(0, 6)))


@given(frames=random_graphs(), data=st.data())
def test_energies_stay_bounded_over_turns_in_any_graph(frames: FrameGraph, data: st.DataObject) -> None:
    some = st.dictionaries(st.sampled_from(list(frames.frames)), numbers)
    energies = data.draw(some)
    for _ in range(4):
        given_input = data.draw(some)
        before, input_before = dict(energies), dict(given_input)
        after = frames.spread(energies, given_input)
        assert set(after) == set(frames.frames)
        assert all(0 <= energy <= 1 for energy in after.values())
        assert (energies, given_input) == (before, input_before)
        assert frames.spread(energies, given_input) == after
        causes = frames.explain(energies, given_input)
        assert {name: cause.energy for name, cause in causes.items()} == after
        energies = after


@given(frames=random_graphs(), data=st.data())
def test_without_input_everything_fades_unless_frames_wake_each_other(frames: FrameGraph, data: st.DataObject) -> None:
    calm = FrameGraph(list(frames.frames.values()), WordEmbedder(), decay=0.5, spread=0.0)
    energies = {name: data.draw(st.floats(0, 1)) for name in frames.frames}
    assert calm.spread(energies, {}) == {name: energy / 2 for name, energy in energies.items()}


@given(frames=random_graphs(), data=st.data())
def test_no_loop_of_links_keeps_energy_alive_or_makes_more_of_it(frames: FrameGraph, data: st.DataObject) -> None:
    names = list(frames.frames)
    energies = {name: data.draw(st.floats(0, 1)) for name in names}
    given_input = data.draw(st.dictionaries(st.sampled_from(names), st.floats(0, 1)))
    after = frames.spread(energies, given_input)
    allowed = frames.fading * max(energies.values()) + frames.reach * max(given_input.values(), default=0.0)
    assert max(after.values()) <= allowed + 1e-9


@pytest.mark.parametrize("weight", [1.0, -1.0, 0.3])
def test_a_huge_graph_where_all_are_linked_in_both_directions_fades_like_a_small_one(weight: float) -> None:
    count = 150
    frames = graph(
        *(
            frame(f"f{one}", links={f"f{other}": weight for other in range(count) if other != one})
            for one in range(count)
        )
    )
    energies = {name: 1.0 for name in frames.frames}
    for _ in range(3):
        before = max(energies.values())
        energies = frames.spread(energies, {})
        assert 0 <= max(energies.values()) <= before * frames.fading + 1e-9
    assert frames.fading == pytest.approx(7 / 8)


def test_a_cue_wakes_its_frame_and_the_best_cue_counts() -> None:
    frames = graph(frame("repair", ["something broke", "how do I fix this"]), frame("rest", ["I am so tired"]))
    woken = frames.wake("my bicycle chain broke, how do I fix this")
    assert woken["repair"] > 0.5
    assert woken["rest"] < woken["repair"]
    assert frames.match("how do I fix this")["repair"].cue == "how do I fix this"
    assert frames.wake("how do I fix this")["repair"] == pytest.approx(1.0)


def test_far_texts_and_empty_texts_wake_nothing() -> None:
    frames = graph(frame("repair", ["something broke"]))
    for text in ("", "  \n", "zebras graze", "🎄", "\ud800"):
        assert frames.wake(text) == {"repair": 0.0}
    assert graph().wake("anything") == {}
    assert graph().turn({}, "anything").active == ()


def test_energy_spreads_along_links_and_as_far_as_the_hops() -> None:
    chain = [frame("a", links={"b": 1.0}), frame("b", links={"c": 0.5}), frame("c", links={"d": 1.0}), frame("d")]
    after = graph(*chain, spread=0.5, hops=2).spread({}, {"a": 0.8})
    assert after == pytest.approx({"a": 0.8, "b": 0.4, "c": 0.1, "d": 0.0})
    assert graph(*chain, hops=0).spread({}, {"a": 0.8})["b"] == 0.0


def test_a_negative_link_holds_down_and_does_not_wake_two_links_on() -> None:
    frames = graph(frame("a", links={"b": -1.0}), frame("b", links={"c": -1.0}), frame("c"), spread=1.0, hops=3)
    after = frames.spread({"b": 1.0}, {"a": 0.3})
    assert after["b"] == pytest.approx(0.5 - 0.3)
    assert after["c"] == 0.0
    assert frames.spread({}, {"a": 1.0}) == {"a": 1.0, "b": 0.0, "c": 0.0}


def test_energies_carry_over_and_decay() -> None:
    frames = graph(frame("a"), decay=0.5)
    energies = frames.spread({}, {"a": 0.8})
    energies = frames.spread(energies, {"a": 0.1})
    assert energies["a"] == pytest.approx(0.5)


def test_energies_of_frames_that_are_gone_are_dropped_and_unknown_input_is_refused() -> None:
    frames = graph(frame("a"))
    assert frames.spread({"gone": 1.0}, {}) == {"a": 0.0}
    with pytest.raises(ArgumentError, match="'gone'"):
        frames.spread({}, {"gone": 1.0})
    with pytest.raises(ArgumentError, match="finite"):
        frames.spread({"a": float("nan")}, {})


def test_at_most_three_frames_are_active_sorted_and_above_their_own_threshold() -> None:
    frames = graph(*[frame(name, threshold=0.9 if name == "e" else 0.35) for name in "abcde"])
    active = frames.active({"a": 0.4, "b": 0.35, "c": 0.7, "d": 0.5, "e": 0.8})
    assert [(one.frame.name, one.energy) for one in active] == [("c", 0.7), ("d", 0.5), ("a", 0.4)]
    assert [one.frame.name for one in frames.active({"b": 0.35})] == ["b"]
    assert frames.active({"b": 0.349}) == ()


def test_a_turn_says_why_each_frame_has_its_energy() -> None:
    frames = graph(frame("repair", ["something broke"], {"care": 0.8}), frame("care", ["look after somebody"]))
    first = frames.turn({}, "oh no, something broke")
    second = frames.turn(first.energies, "zebras graze")
    repair, care = first.causes["repair"], first.causes["care"]
    assert repair.cue == "something broke"
    assert repair.woken == frames.wake("oh no, something broke")["repair"]
    assert care.cue is None
    assert care.contributions == (("repair", pytest.approx(0.5 * 0.8 * repair.energy)),)
    assert first.active[0].cause == repair
    assert "something broke" in str(repair)
    assert "from repair" in str(care)
    assert second.causes["repair"].kept == pytest.approx(first.energies["repair"] / 2)
    assert second.causes["repair"].cue is None


def test_cues_are_embedded_once_and_only_when_needed() -> None:
    embedder = WordEmbedder()
    frames = FrameGraph([frame("a", ["cue"])], embedder)
    frames.spread({}, {"a": 1.0})
    assert embedder.embedded == []
    frames.wake("one")
    frames.wake("two")
    assert embedder.embedded == ["cue", "one", "two"]


@pytest.mark.parametrize("wrong", [{"decay": 1.1}, {"spread": -0.1}, {"hops": -1}, {"floor": float("nan")}])
def test_settings_outside_their_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ArgumentError):
        graph(frame("a"), **wrong)


def test_links_to_nothing_and_double_names_are_refused() -> None:
    with pytest.raises(ArgumentError, match="ghost"):
        graph(frame("a", links={"ghost": 0.5}))
    with pytest.raises(ArgumentError, match="same name"):
        graph(frame("a"), frame("a"))


@pytest.mark.real
def test_real_vectors_wake_frames_by_meaning(embedder_folder: Path) -> None:
    from overlay.memory import SentenceEmbedder

    written = [
        frame("loss", ["someone close to me died", "I lost what mattered to me"]),
        frame("repair", ["a device is broken", "how do I fix this machine"]),
        frame("money", ["I can't pay my bills", "the budget is too small"]),
    ]
    embedder = SentenceEmbedder(embedder_folder, "minilm")
    frames = FrameGraph(written, embedder, calibration=calibrate(written, embedder))
    for text, name in [
        ("My grandmother passed away last week", "loss"),
        ("The washing machine makes a strange noise and stops", "repair"),
        ("Rent is due and my account is empty", "money"),
    ]:
        woken = frames.wake(text)
        assert max(woken, key=lambda one: woken[one]) == name
        assert [one.frame.name for one in frames.turn({}, text).active][:1] == [name]
    assert frames.turn({}, "The comet will be visible in the northern sky").active == ()
