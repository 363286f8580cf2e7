"""Expressions: the small safe language of a world's rules. Numbers, truth values, places, and what was done."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from typing import Annotated

from pydantic import AfterValidator
from simpleeval import InvalidExpression, SimpleEval

from overlay.errors import ExpressionError

Value = bool | int | float | str

FUNCTIONS: Mapping[str, Callable[..., Value]] = {"min": min, "max": max, "abs": abs, "round": round}
"""What every expression may call besides `spent(resource)` and `did(act)`, which the world answers."""


def evaluate(
    expression: str, names: Mapping[str, Value], functions: Mapping[str, Callable[..., Value]] | None = None
) -> Value:
    """The value of an expression such as `logs >= 4 and not did('leave')`.

    Raises:
        ExpressionError: it divides by zero, names what isn't there, takes too long or is no expression.
    """
    evaluator = SimpleEval(names=dict(names), functions={**FUNCTIONS, **(functions or {})})
    try:
        found = evaluator.eval(expression)
    except ZeroDivisionError:
        raise ExpressionError(f"`{expression}` divides by zero", "guard the divisor, as in `n > 0 and 6 / n`") from None
    except (InvalidExpression, SyntaxError, TypeError, ValueError, ArithmeticError, AttributeError, KeyError) as error:
        raise ExpressionError(f"`{expression}` can't be evaluated: {error}", _known(names)) from None
    if not isinstance(found, bool | int | float | str):
        raise ExpressionError(f"`{expression}` gives {type(found).__name__}", "let it give a number, a text or a truth")
    return found


def _known(names: Mapping[str, Value]) -> str:
    return f"names that it may use: {', '.join(sorted(names))}; functions: spent, did, {', '.join(FUNCTIONS)}"


def _is_expression(text: str) -> str:
    try:
        ast.parse(text.strip(), mode="eval")
    except SyntaxError as error:
        raise ValueError(f"`{text}` is no expression: {error.msg}") from None
    return text


Expression = Annotated[str, AfterValidator(_is_expression)]
