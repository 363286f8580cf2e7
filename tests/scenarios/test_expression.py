"""Expressions: what a world's rules can say, and that they can neither reach out nor run away."""

from __future__ import annotations

import operator
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overlay.documents import Document, parse_document
from overlay.errors import DocumentError, ExpressionError
from overlay.scenarios.expression import Expression, Value, evaluate, require_known

NAMES: dict[str, Value] = {"logs": 12, "raining": True, "at": "shed"}
NUMBERS = st.integers(-1000, 1000)
COMPARED = {
    "<": operator.lt,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    ">=": operator.ge,
}
COUNTED = {"+": operator.add, "-": operator.sub, "*": operator.mul, "//": operator.floordiv, "%": operator.mod}


class Written(Document):
    """A file with one expression, for the tests."""

    name: str
    when: Expression


@given(NUMBERS, NUMBERS, st.sampled_from(sorted(COMPARED)), st.sampled_from(sorted(COUNTED)))
def test_it_counts_and_compares_as_one_expects(left: int, right: int, compared: str, counted: str) -> None:
    names = {"left": left, "right": right}
    assert evaluate(f"left {compared} right", names) is COMPARED[compared](left, right)
    if right or counted not in ("//", "%"):
        assert evaluate(f"left {counted} right", names) == COUNTED[counted](left, right)


@given(st.booleans(), st.booleans(), NUMBERS)
def test_truths_are_joined_and_numbers_bounded(one: bool, other: bool, number: int) -> None:
    names = {"one": one, "other": other, "number": number}
    assert evaluate("one and not other", names) == (one and not other)
    assert evaluate("one or other", names) == (one or other)
    assert evaluate("max(0, min(number, 10))", names) == max(0, min(number, 10))
    assert evaluate("abs(number) if one else round(0.4)", names) == (abs(number) if one else 0)


def test_it_knows_places_and_what_the_world_answers() -> None:
    functions: dict[str, Callable[..., Value]] = {"did": lambda act: act == "leave", "spent": lambda name: 3}
    assert evaluate("at == 'shed' and did('leave') and spent('logs') >= 3", NAMES, functions) is True
    assert evaluate("did('stay')", NAMES, functions) is False


@pytest.mark.parametrize("expression", ["6 / zero", "6 // zero", "6 % zero", "6 / (logs - 12)", "0 ** -1"])
def test_dividing_by_zero_is_told_with_its_expression_and_a_way_out(expression: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        evaluate(expression, {**NAMES, "zero": 0})
    assert f"`{expression}` divides by zero" in caught.value.problem and "guard" in caught.value.next_step


def test_a_guarded_division_is_none() -> None:
    assert evaluate("zero > 0 and 6 / zero > 2", {"zero": 0}) is False


@pytest.mark.parametrize(("expression", "unknown"), [("planks > 2", "planks"), ("logs > 2 and spend('logs')", "spend")])
def test_what_is_unknown_is_named_with_what_is_known(expression: str, unknown: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        evaluate(expression, NAMES)
    assert expression in caught.value.problem and unknown in caught.value.problem
    assert all(known in caught.value.next_step for known in (*NAMES, "spent", "did", "min", "max", "abs", "round"))


@pytest.mark.parametrize(
    "expression",
    [
        "logs.__class__",
        "().__class__.__bases__",
        "at.__class__.__mro__",
        "min.__self__",
        "did.__globals__",
        "did.__closure__",
        "__import__('os')",
        "import os",
        "__builtins__",
        "globals()",
        "getattr(logs, 'real')",
        "eval('1')",
        "exec('1')",
        "open('agent.yaml')",
        "'{0.__class__}'.format(logs)",
        "f'{logs.__class__}'",
        "(lambda: 1)()",
        "[one for one in at]",
        "{'a': 1}",
        "(logs := 3)",
        "logs.real",
        "at.upper()",
        "at[0]",
        "max(1, 2, key=abs)",
    ],
)
def test_it_reaches_nothing_but_the_world(expression: str) -> None:
    with pytest.raises(ExpressionError):
        evaluate(expression, NAMES, {"did": lambda act: False})


@pytest.mark.parametrize(
    "expression",
    [
        "9**9**9",
        "9**9**9 > logs",
        "1 << 1000000000",
        "'a' * 1000000000",
        "'a' * 99999 * 99999",
        "9**99999 > 0",
        "3999999**3999999",
        "(9**15)**15",
        "999999999999999 * logs",
        "'%0999999d' % logs",
        "f'{logs:999999999}'",
        "at + at",
        "round(logs, -999999999)",
        "1 << 10000",
        "-" * 5000 + "1",
        "not " * 900 + "1",
        "(" * 5000 + "1" + ")" * 5000,
        "1" + " + 1" * 5000,
    ],
)
def test_what_would_run_long_or_grow_large_is_refused(expression: str) -> None:
    with pytest.raises(ExpressionError):
        evaluate(expression, NAMES)


@pytest.mark.parametrize(
    ("expression", "gives"), [("None", "NoneType"), ("min", "builtin"), ("(-8) ** 0.5", "complex")]
)
def test_what_gives_no_value_is_refused(expression: str, gives: str) -> None:
    with pytest.raises(ExpressionError, match=gives):
        evaluate(expression, NAMES)


@pytest.mark.parametrize("expression", ["", "   ", "at > 2", "max(1, at)", "min()", "abs(at)", "round(1e400)", "\0"])
def test_what_makes_no_sense_is_refused(expression: str) -> None:
    with pytest.raises(ExpressionError):
        evaluate(expression, NAMES)


def test_powers_and_rounding_of_a_reasonable_size_are_counted() -> None:
    assert evaluate("logs ** 3", NAMES) == 1728 and evaluate("2 ** -1", NAMES) == 0.5
    assert evaluate("round(logs / 7, 2)", NAMES) == 1.71 and evaluate("round(logs / 7)", NAMES) == 2


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("hours > 2 and planks > 2", "'planks' is not defined"),
        ("hours > 2 and spend('logs')", "'spend' is not defined"),
        ("hours > 2 and spent('planks') > 2", "spent('planks') names no resource"),
        ("hours > 2 and did('fly')", "nobody can do 'fly'"),
    ],
)
def test_what_is_unknown_is_found_without_evaluating_it(expression: str, said: str) -> None:
    world: dict[str, Value] = {"hours": 1, "logs": 2}
    assert evaluate(expression, world) is False
    with pytest.raises(ExpressionError) as caught:
        require_known(expression, world, world, {"leave"})
    assert said in caught.value.problem and caught.value.next_step
    require_known("max(hours, 2) > 2 and spent('logs') > 2 or did('leave')", world, world, {"leave"})


@given(st.text("n01 +-*%/<>=()',.[]:not", max_size=30))
def test_whatever_is_written_gives_a_value_or_a_clear_error(written: str) -> None:
    names: dict[str, Value] = {"n": 3}
    try:
        found = evaluate(written, names)
    except ExpressionError as error:
        assert error.problem and error.next_step
    else:
        assert isinstance(found, bool | int | float | str)
    assert names == {"n": 3}


@pytest.mark.parametrize(
    "written", ["logs >", "logs = 3", "logs := 3", "1; 2", "when logs", "  ", "at.upper()", "-" * 5000 + "1"]
)
def test_what_is_no_expression_is_told_with_its_line_before_anything_runs(written: str) -> None:
    with pytest.raises(DocumentError) as caught:
        parse_document(f'name: dusk\nwhen: "{written}"\n', Written, "rules.yaml")
    assert caught.value.line == 2 and ("is no expression" in str(caught.value) or "too deeply" in str(caught.value))
