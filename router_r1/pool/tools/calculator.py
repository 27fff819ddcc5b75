"""Arithmetic, from an expression to its value in words.

Numbers are exact fractions as long as the operations allow it, so that 0.1 + 0.2 is 0.3; roots and
broken exponents give floating-point numbers. Written are whole numbers below 10**30, and 12 digits
of any other.

Guarantees: nothing but numbers, the operators and the functions named here is evaluated; no
expression takes longer than a moment, for every value on the way is bounded; whatever the text,
:func:`calculate` gives a value or raises :class:`CalculationError`.
"""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Callable
from decimal import Context, Decimal
from fractions import Fraction

LONGEST_EXPRESSION_CHARACTERS = 300
# Of numerator and denominator together; 2**4096 has 1,234 digits.
_MOST_BITS = 4096
_MOST_ROUNDED_DIGITS = 100
_WRITTEN_IN_FULL = 10**30
_PRECISION = Context(prec=12)
_LIKE_PYTHON = str.maketrans({"^": "**", "×": "*", "·": "*", "÷": "/", "−": "-"})  # noqa: RUF001

# Strings, and a number that runs into a word: Python warns of these where it does not refuse them.
_NO_ARITHMETIC = re.compile(r"[\"'\\]|[\d.](?=[A-Za-z])(?![eE][+-]?\d)")

Number = Fraction | float


class CalculationError(ValueError):
    """An expression without a value; the message says why."""


def calculate(expression: str) -> str:
    """The value of ``expression``, such as "3 * (4 + 5)", "2^10" or "sqrt(2)".

    Known are ``+ - * / // % ** ^``, parentheses, and ``abs``, ``max``, ``min``, ``round``,
    ``sqrt``. An "=" or "?" at the end is left out.

    Raises:
        CalculationError: if it is none, or has no value that can be given.
    """
    text = expression.translate(_LIKE_PYTHON).strip().rstrip("=? ")
    if len(text) > LONGEST_EXPRESSION_CHARACTERS:
        raise CalculationError(
            f"the expression has more than {LONGEST_EXPRESSION_CHARACTERS} characters"
        )
    if _NO_ARITHMETIC.search(text):
        raise CalculationError("this is no arithmetic expression")
    try:
        return _written(_value(ast.parse(text, mode="eval").body))
    except ZeroDivisionError as error:
        raise CalculationError("division by zero") from error
    except OverflowError as error:
        raise CalculationError("a value is too large") from error
    except CalculationError:
        raise
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        raise CalculationError("this is no arithmetic expression") from error


def _value(node: ast.expr) -> Number:
    """The value of a part, within the bounds."""
    match node:
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            value: Number | int = Fraction(repr(number))  # of a float, the shortest text for it
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            value = -_value(operand)
        case ast.UnaryOp(op=ast.UAdd(), operand=operand):
            value = _value(operand)
        case ast.BinOp(left=left, op=ast.Pow(), right=right):
            value = _power(_value(left), _value(right))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            value = _OPERATORS[type(op)](_value(left), _value(right))
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in _FUNCTIONS:
            value = _call(name, [_value(argument) for argument in args])
        case _:
            raise CalculationError(
                "only numbers, + - * / // % ** and parentheses can be used, and "
                f"{', '.join(_FUNCTIONS)}"
            )
    return _bounded(value)


def _bounded(value: Number | int) -> Number:
    """The value, exact if it is whole; raises :class:`OverflowError` if it is too large."""
    if isinstance(value, float):
        if not math.isfinite(value):
            raise OverflowError
        return value
    exact = Fraction(value)
    if exact.numerator.bit_length() + exact.denominator.bit_length() > _MOST_BITS:
        raise OverflowError
    return exact


def _power(base: Number, exponent: Number) -> Number:
    if isinstance(base, Fraction) and isinstance(exponent, Fraction) and abs(base) not in (0, 1):
        bits = max(base.numerator.bit_length(), base.denominator.bit_length())
        if (bits - 1) * abs(exponent) > _MOST_BITS:
            raise OverflowError
    value = base**exponent
    if isinstance(value, complex):
        raise CalculationError("the root of a negative number is not real")
    return value


def _call(name: str, arguments: list[Number]) -> Number:
    least, most, function = _FUNCTIONS[name]
    if not least <= len(arguments) <= most:
        raise CalculationError(f"{name} does not take {len(arguments)} numbers")
    return function(*arguments)


def _round(value: Number, digits: Number = Fraction(0)) -> Number:
    if not -_MOST_ROUNDED_DIGITS <= digits <= _MOST_ROUNDED_DIGITS or digits != int(digits):
        raise CalculationError(
            f"round takes a whole number of digits, at most {_MOST_ROUNDED_DIGITS}"
        )
    return round(Fraction(value), int(digits))


def _sqrt(value: Number) -> Number:
    if value < 0:
        raise CalculationError("the root of a negative number is not real")
    return math.sqrt(value)


_OPERATORS: dict[type[ast.operator], Callable[[Number, Number], Number | int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
# Name to least and most numbers that it takes, and what it does with them.
_FUNCTIONS: dict[str, tuple[int, int, Callable[..., Number]]] = {
    "abs": (1, 1, abs),
    "max": (1, LONGEST_EXPRESSION_CHARACTERS, max),
    "min": (1, LONGEST_EXPRESSION_CHARACTERS, min),
    "round": (1, 2, _round),
    "sqrt": (1, 1, _sqrt),
}


def _written(value: Number) -> str:
    in_full = -_WRITTEN_IN_FULL < value < _WRITTEN_IN_FULL
    if isinstance(value, Fraction) and value.denominator == 1 and in_full:
        return str(value.numerator)
    numerator, denominator = value.as_integer_ratio()
    rounded = _PRECISION.divide(Decimal(numerator), Decimal(denominator)).normalize(_PRECISION)
    if not rounded:
        return "0"
    return f"{rounded:f}" if -7 < rounded.adjusted() < 15 else f"{rounded:e}"
