"""Interventions are values: checked when made, compared by what they do, stored and read back without loss."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from overlay.errors import InterventionError, RecordDamaged
from overlay.model import (
    NOTHING,
    AdapterUse,
    Ban,
    Direction,
    Dose,
    Focus,
    Intervention,
    LogitBias,
    Operator,
    Positions,
    Row,
    Span,
    Stretch,
    When,
)
from overlay.model.intervention import FORMAT

LAYERS, WIDTH = 4, 6


def direction(seed: int, name: str = "made") -> Direction:
    vectors = np.random.default_rng(seed).standard_normal((LAYERS, WIDTH)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return Direction(name, vectors, np.arange(1, LAYERS + 1, dtype=np.float32) + seed)


# --- what can be written ---------------------------------------------------------------------------

finite = st.floats(-8, 8, allow_nan=False)
places = st.lists(st.integers(-50, 500), min_size=1, max_size=4).map(tuple)
names = st.text("abcfobrя -_", min_size=1, max_size=8)
stretches = st.sampled_from(get_args(Stretch))
spans: st.SearchStrategy[Span] = st.one_of(
    stretches,
    places.map(Positions),
    st.builds(
        lambda low, high, within: When(*((low, high) if low < high else (low, math.inf)), within=within),
        finite | st.just(-math.inf),
        finite | st.just(math.inf),
        stretches,
    ),
)
blocks = st.lists(st.integers(0, LAYERS - 1), min_size=1, max_size=LAYERS, unique=True).map(tuple)


@st.composite
def doses(draw: st.DrawFn) -> Dose:
    operator: Operator = draw(st.sampled_from(get_args(Operator)))
    return Dose(
        direction(draw(st.integers(0, 3)), draw(names)),
        draw(finite if operator == "add" else st.floats(0, 1)),
        draw(blocks),
        draw(spans),
        operator,
        draw(finite) if operator == "clamp" else 0.0,
    )


interventions = st.builds(
    Intervention,
    st.lists(doses(), max_size=3).map(tuple),
    st.lists(st.builds(AdapterUse, names, finite), max_size=3, unique_by=lambda use: use.name).map(tuple),
    st.lists(
        st.builds(LogitBias, names | st.lists(st.integers(0, 300), min_size=1, max_size=3).map(tuple), finite),
        max_size=2,
    ).map(tuple),
    st.lists(st.builds(Ban, st.sampled_from(["ferry", "noon*", "the boat", "судно"])), max_size=2).map(tuple),
    st.lists(
        st.builds(
            Focus,
            st.sampled_from(["boat", "at noon"]) | places.map(Positions),
            finite,
            st.none() | blocks,
            st.none() | blocks,
            stretches,
        ),
        max_size=2,
    ).map(tuple),
)


# --- as values -------------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(interventions)
def test_what_is_stored_is_read_back(one: Intervention) -> None:
    found = Intervention.from_bytes(one.to_bytes())
    assert found == one and hash(found) == hash(one) and found.digest == one.digest
    assert [dose.direction.vectors.tobytes() for dose in found.doses] == [
        dose.direction.vectors.tobytes() for dose in one.doses
    ]
    assert {type(dose.span) for dose in found.doses} == {type(dose.span) for dose in one.doses}


@settings(max_examples=60, deadline=None)
@given(interventions, interventions)
def test_equal_values_have_equal_digests_and_others_have_others(one: Intervention, other: Intervention) -> None:
    assert (one == other) == (one.digest == other.digest)


def test_numbers_that_are_equal_are_the_same_number() -> None:
    one = direction(1)
    for whole, same in (
        (Dose(one, 1, (0,)), Dose(one, np.float64(1.0), (np.int64(0),))),
        (Dose(one, 0.0, (0,)), Dose(one, -0.0, (0,))),
        (Dose(one, 0.5, (0,)), Dose(one, np.float32(0.5), (0,))),
        (Dose(one, 1.0, (0,), When(0.0)), Dose(one, 1.0, (0,), When(-0.0))),
    ):
        first, second = Intervention((whole,)), Intervention((same,))
        assert first == second and first.digest == second.digest
        assert Intervention.from_bytes(second.to_bytes()) == first
    assert Intervention(adapters=(AdapterUse("a", 1),)).digest == Intervention(adapters=(AdapterUse("a", 1.0),)).digest
    assert Intervention(biases=(LogitBias("a", 2),)).digest == Intervention(biases=(LogitBias("a", 2.0),)).digest


def test_the_digest_knows_everything_that_acts() -> None:
    whole = Intervention(
        (Dose(direction(1), 0.5, (0, 1), When(0.0, 1.0), "clamp", 0.5),),
        (AdapterUse("foo", 0.5),),
        (LogitBias((3, 4), 1.0),),
        (Ban("ferry"),),
        (Focus("boat", 1.0, (0,), (1,), "turn"),),
    )
    (dose,), (use,), (bias,), (focus,) = whole.doses, whole.adapters, whole.biases, whole.focus
    others = [
        *(
            replace(whole, doses=(changed,))
            for changed in (
                replace(dose, direction=direction(2)),
                replace(dose, direction=Direction("made", dose.direction.vectors.copy(), dose.direction.norms * 2)),
                replace(dose, coefficient=0.25),
                replace(dose, blocks=(0, 2)),
                replace(dose, blocks=(0,)),
                replace(dose, span="all"),
                replace(dose, span="turn"),
                replace(dose, span=Positions((0, 1))),
                replace(dose, span=When(0.0)),
                replace(dose, span=When(0.0, 1.0, "turn")),
                replace(dose, operator="add", target=0.0),
                replace(dose, target=0.25),
            )
        ),
        replace(whole, doses=()),
        replace(whole, doses=(dose, dose)),
        replace(whole, adapters=(replace(use, name="foobar"),)),
        replace(whole, adapters=(replace(use, scale=-0.5),)),
        replace(whole, adapters=()),
        replace(whole, biases=(replace(bias, target=(4, 3)),)),
        replace(whole, biases=(replace(bias, target="34"),)),
        replace(whole, biases=(replace(bias, nats=-1.0),)),
        replace(whole, bans=()),
        replace(whole, bans=(Ban("ferry*"),)),
        replace(whole, focus=(replace(focus, keys="boats"),)),
        replace(whole, focus=(replace(focus, keys=Positions((1,))),)),
        replace(whole, focus=(replace(focus, weight=2.0),)),
        replace(whole, focus=(replace(focus, blocks=None),)),
        replace(whole, focus=(replace(focus, heads=None),)),
        replace(whole, focus=(replace(focus, span="all"),)),
    ]
    assert len({one.digest for one in (whole, *others)}) == len(others) + 1
    assert all(one != whole for one in others)
    renamed = replace(dose, direction=Direction("called otherwise", dose.direction.vectors, dose.direction.norms))
    assert replace(whole, doses=(renamed,)).digest == whole.digest


@settings(max_examples=60, deadline=None)
@given(interventions, interventions, interventions, st.sampled_from([0.0, 0.25, 0.5, 1.0]))
def test_joining_and_scaling_follow_their_laws(
    one: Intervention, other: Intervention, third: Intervention, factor: float
) -> None:
    try:
        joined = (one + other) + third
    except InterventionError as error:
        assert "name one twice" in error.problem
        return
    assert joined == one + (other + third)
    assert one + NOTHING == NOTHING + one == one == one * 1
    assert factor * one == one * factor
    assert (one * factor) + (other * factor) == (one + other) * factor
    assert (one * factor).bans == one.bans, "a ban has no strength"


def test_an_adapter_named_twice_is_refused_also_when_joined() -> None:
    foo = Intervention(adapters=(AdapterUse("foo"),))
    with pytest.raises(InterventionError, match=r"\['foo', 'foo'\] name one twice") as caught:
        foo + Intervention(adapters=(AdapterUse("foo", 0.5),))
    assert "once" in caught.value.next_step
    assert len((foo + Intervention(adapters=(AdapterUse("foobar"),))).adapters) == 2


# --- what is refused -------------------------------------------------------------------------------

NAN, INFINITE = math.nan, math.inf

REFUSED: list[tuple[Any, str]] = [
    (lambda: Dose(direction(1), NAN, (0,)), "'made' is nan"),
    (lambda: Dose(direction(1), INFINITE, (0,)), "'made' is inf"),
    (lambda: Dose(direction(1), 1.0, (0,), operator="clamp", target=NAN), "target nan"),
    (lambda: Dose(direction(1), 1.5, (0,), operator="clamp"), "held by 1.5"),
    (lambda: Dose(direction(1), -0.5, (0,), operator="project out"), "held by -0.5"),
    (lambda: Dose(direction(1), 1.0, (0,), operator="multiply"), "'multiply' is not an operator"),
    (lambda: Dose(direction(1), 1.0, (0,), target=0.5), "a target means nothing to 'add'"),
    (lambda: Dose(direction(1), 1.0, (0,), operator="project out", target=0.5), "nothing to 'project out'"),
    (lambda: Dose(direction(1), 1.0, (0,), span="prompt"), "'prompt' is not a span"),
    (lambda: Dose(direction(1), 1.0, ()), r"blocks \(\)"),
    (lambda: Dose(direction(1), 1.0, (0, LAYERS)), r"blocks \(0, 4\)"),
    (lambda: Dose(direction(1), 1.0, (-1,)), r"blocks \(-1,\)"),
    (lambda: Positions(()), "no positions"),
    (lambda: When(1.0, 1.0), "above 1.0 and below 1.0"),
    (lambda: When(2.0, -2.0), "above 2.0"),
    (lambda: When(NAN), "above nan"),
    (lambda: When(within="prompt"), "'prompt' is not a span"),
    (lambda: AdapterUse("foo", NAN), "'foo' is nan"),
    (lambda: AdapterUse("foo", -INFINITE), "'foo' is -inf"),
    (lambda: Intervention(adapters=(AdapterUse("foo"), AdapterUse("foo"))), "name one twice"),
    (lambda: LogitBias("", 1.0), "bias on nothing"),
    (lambda: LogitBias((), 1.0), "bias on nothing"),
    (lambda: LogitBias((3, -1), 1.0), "count from 0"),
    (lambda: LogitBias("a", -INFINITE), "use a Ban"),
    (lambda: LogitBias("a", NAN), "bias of nan"),
    (lambda: Ban(""), "bans nothing"),
    (lambda: Ban("  "), "bans nothing"),
    (lambda: Ban("*"), "bans nothing"),
    (lambda: Ban(" **"), "bans nothing"),
    (lambda: Focus("boat", NAN), "a focus of nan"),
    (lambda: Focus("boat", 20.5), "a focus of 20.5"),
    (lambda: Focus("boat", -21), "a focus of -21"),
    (lambda: Focus(" \n", 1.0), "no text"),
    (lambda: Focus("boat", 1.0, blocks=()), r"blocks \(\)"),
    (lambda: Focus("boat", 1.0, heads=(-1,)), r"heads \(-1,\)"),
    (lambda: Focus("boat", 1.0, blocks=(1, 1)), r"blocks \(1, 1\)"),
    (lambda: Focus("boat", 1.0, heads=(0, 2, 0)), r"heads \(0, 2, 0\)"),
    (lambda: Focus("boat", 1.0, span="prompt"), "'prompt' is not a span"),
    (lambda: Focus("boat", 1.0, span=Positions((1,))), "is not a span"),
    (lambda: Intervention(focus=(Focus("boat", 15.0),)) * 2, "a focus of 30"),
    (lambda: Intervention(adapters=(AdapterUse("foo"),)) * NAN, "'foo' is nan"),
    (lambda: Direction("long", np.full((2, 3), 2.0, np.float32), np.ones(2, np.float32)), "unit length"),
    (lambda: Direction("odd", np.eye(3, dtype=np.float32), np.ones(2, np.float32)), "norms"),
    (lambda: Direction("nan", np.eye(2, dtype=np.float32), np.array([1, NAN], np.float32)), "finite"),
]


@pytest.mark.parametrize(("make", "problem"), REFUSED, ids=[problem for _, problem in REFUSED])
def test_what_makes_no_sense_is_refused_when_it_is_made(make: Any, problem: str) -> None:
    with pytest.raises(InterventionError, match=problem) as caught:
        make()
    assert caught.value.next_step or "use a Ban" in str(caught.value)


@pytest.mark.parametrize("verb", ["generate", "score", "logits"])
def test_a_bias_on_a_token_that_the_vocabulary_lacks_is_refused(tiny_llama: Any, verb: str) -> None:
    for target in ((258,), (3, 9999)):
        row = Row(text="The boat", intervention=Intervention(biases=(LogitBias(target, 1.0),)), options=("a",))
        with pytest.raises(InterventionError, match="no token here") as caught:
            list(tiny_llama.logits([(5, 6)], [row])) if verb == "logits" else getattr(tiny_llama, verb)([row])
        assert "from 0 to 257" in caught.value.next_step


def test_a_direction_cannot_be_changed_once_it_is_made() -> None:
    one = direction(1)
    with pytest.raises(ValueError):
        one.vectors[0, 0] = 5.0
    assert one == direction(1) and hash(one) == hash(direction(1)) and one != direction(2)


# --- what was stored and is damaged ----------------------------------------------------------------

STORED = Intervention(
    (Dose(direction(1), 0.5, (0, 1), When(0.0), "clamp", 0.5), Dose(direction(2), -0.25, (3,), "turn")),
    (AdapterUse("foo", 0.5),),
    (LogitBias((3, 4), 1.0), LogitBias(" noon", -1.0)),
    (Ban("ferry"),),
    (Focus(Positions((1, -2)), 1.0, (0,), (1,), "turn"),),
)


@settings(max_examples=400, deadline=None)
@given(st.integers(0, len(STORED.to_bytes()) - 1), st.integers(1, 255))
def test_a_changed_byte_is_noticed_or_means_nothing(place: int, change: int) -> None:
    data = bytearray(STORED.to_bytes())
    data[place] ^= change
    try:
        found = Intervention.from_bytes(bytes(data))
    except RecordDamaged as error:
        assert error.next_step
    else:
        # Such as a letter of a direction's name, which doesn't act.
        assert found == STORED


@settings(max_examples=60, deadline=None)
@given(st.integers(0, len(STORED.to_bytes()) - 1))
def test_a_cut_end_is_noticed(length: int) -> None:
    with pytest.raises(RecordDamaged):
        Intervention.from_bytes(STORED.to_bytes()[:length])


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4) | st.just(10**400),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_what_another_program_wrote_is_refused_and_nothing_else_happens(data: st.DataObject) -> None:
    """A whole record, or one field of it, of any shape."""
    content = json.loads(
        json.loads(STORED.to_bytes()[8 : 8 + int.from_bytes(STORED.to_bytes()[:8], "little")])["__metadata__"][
            "intervention"
        ]
    )
    field = data.draw(st.sampled_from([None, *content]))
    value = data.draw(anything)
    if field is None:
        content = value
    elif (
        content[field]
        and isinstance(content[field], list)
        and isinstance(content[field][0], dict)
        and data.draw(st.booleans())
    ):
        content[field][0][data.draw(st.sampled_from(sorted(content[field][0])))] = value
    else:
        content[field] = value
    tensors = {
        f"{one.digest}.{part}": getattr(one, part)
        for one in (direction(1), direction(2))
        for part in ("vectors", "norms")
    }
    metadata = {"format": FORMAT, "intervention": json.dumps(content), "sha256": STORED.digest}
    try:
        found = Intervention.from_bytes(save(tensors, metadata=metadata))
    except RecordDamaged:
        return
    assert found == STORED


@pytest.mark.parametrize("data", [b"", b"\0" * 8, b"\xff" * 40, b"{}", save({}), save({}, metadata={"format": "x"})])
def test_what_is_no_intervention_is_refused(data: bytes) -> None:
    with pytest.raises(RecordDamaged, match="isn't a stored intervention"):
        Intervention.from_bytes(data)


def test_a_header_nested_without_end_is_refused() -> None:
    header = b'{"__metadata__":' + b"[" * 100_000
    with pytest.raises(RecordDamaged):
        Intervention.from_bytes(len(header).to_bytes(8, "little") + header)
