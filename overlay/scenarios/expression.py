"""Expressions: the small safe language of a world's rules. Numbers, truth values, places, and what was done."""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AfterValidator
from simpleeval import DEFAULT_OPERATORS, InvalidExpression, NumberTooHigh, SimpleEval

from overlay.errors import ExpressionError

Value = bool | int | float | str

LARGEST = 10**15
"""The largest whole number that arithmetic gives: far above any stock, far below where arithmetic takes long."""

_DIGITS = 15
"""Digits to which a number is rounded at most: a float has no more."""

_LANGUAGE = (
    *(ast.Constant, ast.Name, ast.UnaryOp, ast.BinOp, ast.BoolOp, ast.Compare, ast.IfExp, ast.Call),
    *(ast.operator, ast.unaryop, ast.boolop, ast.cmpop, ast.expr_context),
)
_ARITHMETIC = (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.Pow, ast.LShift, ast.RShift)


def _round(number: float, digits: int | None = None) -> float:
    if digits is not None and abs(digits) > _DIGITS:
        raise NumberTooHigh(f"a number is rounded to {_DIGITS} digits at most")
    return round(number, digits)


FUNCTIONS: Mapping[str, Callable[..., Value]] = {"min": min, "max": max, "abs": abs, "round": _round}
"""What every expression may call besides `spent(resource)` and `did(act)`, which the world answers."""


def evaluate(
    expression: str, names: Mapping[str, Value], functions: Mapping[str, Callable[..., Value]] | None = None
) -> Value:
    """The value of an expression such as `logs >= 4 and not did('leave')`.

    Texts are only compared; whole numbers stay within `LARGEST`, so that no expression runs long.

    Raises:
        ExpressionError: it divides by zero, names what isn't there, counts too far, nests too deeply or is no
            expression.
    """
    evaluator = SimpleEval(
        operators=_OPERATORS, names=dict(names), functions={**FUNCTIONS, **(functions or {})}, allowed_attrs={}
    )
    try:
        found = evaluator.eval(expression, _parse(expression))
    except ZeroDivisionError:
        raise ExpressionError(f"`{expression}` divides by zero", "guard the divisor, as in `n > 0 and 6 / n`") from None
    except (RecursionError, MemoryError):
        raise ExpressionError(_too_deep(expression), "write it with fewer brackets and signs") from None
    except (InvalidExpression, SyntaxError, TypeError, ValueError, ArithmeticError, AttributeError, KeyError) as error:
        raise ExpressionError(f"`{expression}` can't be evaluated: {error}", _known(names)) from None
    if not isinstance(found, bool | int | float | str):
        raise ExpressionError(f"`{expression}` gives {type(found).__name__}", "let it give a number, a text or a truth")
    return found


@dataclass(frozen=True)
class Mentions:
    """What an expression speaks of.

    Attributes:
        names: values of the world, in the order in which they stand.
        functions: what it calls.
        spent, did: the resources and acts that `spent` and `did` are asked about.
        signed: whether it is nothing but a number with a sign, such as `-2`.
    """

    names: tuple[str, ...]
    functions: tuple[str, ...]
    spent: tuple[str, ...]
    did: tuple[str, ...]
    signed: bool


def mentions(expression: str) -> Mentions:
    """What an expression speaks of, also where evaluating it would never get there. Raises ValueError."""
    tree = _parse(expression)
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    called = [node.func for node in calls if isinstance(node.func, ast.Name)]
    named = [node for node in ast.walk(tree) if isinstance(node, ast.Name) and node not in called]
    return Mentions(
        names=tuple(dict.fromkeys(node.id for node in named)),
        functions=tuple(dict.fromkeys(node.id for node in called)),
        spent=tuple(_asked("spent", calls)),
        did=tuple(_asked("did", calls)),
        signed=isinstance(tree, ast.UnaryOp) and isinstance(tree.operand, ast.Constant),
    )


def _asked(function: str, calls: list[ast.Call]) -> Iterator[str]:
    for call in calls:
        if isinstance(call.func, ast.Name) and call.func.id == function:
            for written in call.args:
                if isinstance(written, ast.Constant) and isinstance(written.value, str):
                    yield written.value


def require_known(expression: str, names: Mapping[str, Value], resources: Mapping[str, Value], acts: set[str]) -> None:
    """See that all that an expression speaks of is there, also what it gets to only later.

    Raises:
        ExpressionError: it names no value of `names`, asks about none of `resources` or `acts`, or calls what isn't
            there.
    """
    found = mentions(expression)
    unknown = [name for name in found.names if name not in names]
    unknown += [name for name in found.functions if name not in {*FUNCTIONS, "spent", "did"}]
    if unknown:
        raise ExpressionError(f"`{expression}` can't be evaluated: '{unknown[0]}' is not defined", _known(names))
    for name in found.spent:
        if name not in resources:
            listed = ", ".join(resources) or "no resources"
            raise ExpressionError(f"`{expression}`: spent('{name}') names no resource", f"there are {listed}")
    for name in found.did:
        if name not in acts:
            raise ExpressionError(
                f"`{expression}`: nobody can do '{name}'", f"what can be done: {', '.join(sorted(acts)) or 'nothing'}"
            )


def _parse(expression: str) -> ast.expr:
    """The tree of an expression. Raises ValueError and SyntaxError, and RecursionError where it nests too deeply."""
    tree = ast.parse(expression.strip(), mode="eval").body
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and not isinstance(node.func, ast.Name):
            node = node.func
        elif isinstance(node, _LANGUAGE):
            continue
        raise ValueError(f"{_NOT_IN_IT.get(type(node), type(node).__name__)} is not part of the language")
    return tree


_NOT_IN_IT: dict[type[ast.AST], str] = {
    ast.Attribute: "a dot after a name",
    ast.Subscript: "an index in brackets",
    ast.JoinedStr: "a text with blanks in it",
    ast.NamedExpr: "an assignment",
    ast.keyword: "an argument by name",
}


def _arithmetic(kind: type[ast.operator]) -> Callable[[Any, Any], Any]:
    """An operator on numbers that refuses texts and what would run long."""
    operate: Callable[[Any, Any], Any] = DEFAULT_OPERATORS[kind]

    def counted(left: Any, right: Any) -> Any:
        if not (isinstance(left, int | float) and isinstance(right, int | float)):
            raise TypeError("only numbers can be counted with: texts can only be compared")
        whole = isinstance(left, int) and isinstance(right, int)
        if kind is ast.Pow and whole and abs(left) > 1 and right * math.log2(abs(left)) > math.log2(LARGEST):
            raise NumberTooHigh(f"a number above {LARGEST}")
        found = operate(left, right)
        if isinstance(found, int) and abs(found) > LARGEST:
            raise NumberTooHigh(f"a number above {LARGEST}")
        return found

    return counted


_OPERATORS: dict[type[ast.AST], Callable[..., Any]] = {
    **DEFAULT_OPERATORS,
    **{kind: _arithmetic(kind) for kind in _ARITHMETIC},
}


def _known(names: Mapping[str, Value]) -> str:
    return f"names that it may use: {', '.join(sorted(names))}; functions: spent, did, {', '.join(FUNCTIONS)}"


def _too_deep(expression: str) -> str:
    shown = expression if len(expression) <= 60 else f"{expression[:60]}…"
    return f"`{shown}` is nested too deeply"


def _is_expression(text: str) -> str:
    try:
        _parse(text)
    except (RecursionError, MemoryError):
        raise ValueError(_too_deep(text)) from None
    except SyntaxError as error:
        raise ValueError(f"`{text}` is no expression: {error.msg}") from None
    except ValueError as error:
        raise ValueError(f"`{text}` is no expression: {error}") from None
    return text


Expression = Annotated[str, AfterValidator(_is_expression)]
