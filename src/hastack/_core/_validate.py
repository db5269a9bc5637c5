"""Argument checks that every public constructor shares: one error, one wording."""

from __future__ import annotations

from datetime import timedelta
from math import inf, isfinite, isnan
from typing import TYPE_CHECKING, TypeAlias

from ._errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Callable

Seconds: TypeAlias = float | timedelta
"""A length of time as users may give it."""


def number(
    parameter: str,
    value: object,
    accepted: str,
    *,
    valid: Callable[[float], bool],
) -> float:
    """``value`` as float when it is a real, finite number for which ``valid`` holds."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InvalidArgument(parameter, value, accepted)
    try:
        result = float(value)
    except OverflowError:  # an int beyond the largest float
        result = inf
    if not isfinite(result) or not valid(result):
        raise InvalidArgument(parameter, value, accepted)
    return result


def positive(parameter: str, value: object) -> float:
    """A finite number above zero."""
    return number(parameter, value, "a finite number > 0", valid=lambda v: v > 0.0)


def fraction(parameter: str, value: object) -> float:
    """A share above zero and at most one."""
    return number(parameter, value, "a fraction in (0, 1]", valid=lambda v: 0.0 < v <= 1.0)


def integer(parameter: str, value: object, *, minimum: int = 1) -> int:
    """A whole number of at least ``minimum``."""
    accepted = f"an integer >= {minimum}"
    if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
        raise InvalidArgument(parameter, value, accepted)
    return value


def text(parameter: str, value: object) -> str:
    """A string that is not empty."""
    if not isinstance(value, str) or not value:
        raise InvalidArgument(parameter, value, "a non-empty string")
    return value


def seconds(parameter: str, value: object, *, zero: bool = False) -> float:
    """A length of time in seconds, from a number or a timedelta; above zero unless ``zero``."""
    if isinstance(value, timedelta):
        value = value.total_seconds()
    accepted = f"seconds {'>=' if zero else '>'} 0, as a number or a timedelta"
    return number(parameter, value, accepted, valid=lambda v: v >= 0.0 if zero else v > 0.0)


def optional_seconds(parameter: str, value: object, *, zero: bool = False) -> float | None:
    """Like `seconds`, with ``None`` for "no limit"."""
    if value is None:
        return None
    if isinstance(value, float) and isnan(value):
        raise InvalidArgument(parameter, value, "seconds, or None for no limit")
    return seconds(parameter, value, zero=zero)
