"""Which texts are a length of time, a number of bytes or a rate, and what they are worth."""

from __future__ import annotations

import re
from datetime import timedelta
from math import isfinite
from typing import final

__all__ = ("EnvText", "UnfitError", "parse_bytes", "parse_rate", "parse_seconds", "plain_number")


@final
class EnvText(str):
    """Text from an environment variable, where numbers and booleans have no type of their own."""

    __slots__ = ()


class UnfitError(ValueError):
    """A value does not fit its setting.

    Args:
        problem: What is wrong, for people.
        accepted: What would fit.
    """

    def __init__(self, problem: str, accepted: str | None = None) -> None:
        super().__init__(problem, accepted)
        self.problem = problem
        self.accepted = accepted

    def __str__(self) -> str:
        return (
            self.problem if self.accepted is None else f"{self.problem}: expected {self.accepted}"
        )


_TIME = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_TIME_ACCEPTED = "seconds as a number, or a text such as '250ms', '5s' or '1h30m'"
_TIME_PART = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(us|ms|s|min|m|h|d)", re.ASCII)

_BYTES = {
    "": 1, "b": 1,
    "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12,
    "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40,
}  # fmt: skip
_BYTES_ACCEPTED = "bytes as an integer, or a text such as '512KiB', '16MiB' or '1GB'"
_BYTES_TEXT = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]*)", re.ASCII)

# The forms that hastack.ratelimit takes for a rate; that package lies above this one, so the
# grammar is written down twice and a test holds the two together.
_RATE_UNITS = "us|ms|s|sec|second|m|min|minute|h|hr|hour|d|day"
_RATE_ACCEPTED = "permits per second as a number > 0, or a text such as '100/s' or '5000 per hour'"
_DIGITS = r"[0-9][0-9_]*(?:\.[0-9_]+)?(?:e[0-9]+)?"
_RATE_TEXT = re.compile(
    rf"({_DIGITS})\s*(?:/|\bper\b)\s*({_DIGITS})?\s*(?:{_RATE_UNITS})s?", re.ASCII
)


def plain_number(value: object, accepted: str) -> float:
    """A finite number; text only when it comes from the environment."""
    if isinstance(value, EnvText):
        try:
            value = float(value)
        except ValueError:
            raise UnfitError(f"{shown(value)} is not a number", accepted) from None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise UnfitError(f"expected a number, got {kind_of(value)}", accepted)
    try:
        number = float(value)
    except OverflowError:
        number = float("inf")
    if not isfinite(number):
        raise UnfitError(f"{shown(value)} is not a finite number", accepted)
    return number


def parse_seconds(value: object) -> float:
    """``5``, ``0.25``, ``"250ms"``, ``"1h30m"`` or a timedelta as seconds."""
    if isinstance(value, timedelta):
        return value.total_seconds()
    if not isinstance(value, str) or _is_number(value):
        return plain_number(value, _TIME_ACCEPTED)
    total, at = 0.0, 0
    text = value.strip()
    while match := _TIME_PART.match(text, at):
        total += float(match[1]) * _TIME[match[2]]
        at = match.end()
    if at != len(text) or not text or not isfinite(total):
        raise UnfitError(f"{shown(value)} is not a length of time", _TIME_ACCEPTED)
    return total


def parse_bytes(value: object) -> int:
    """``1024``, ``"16MiB"`` or ``"1.5GB"`` as a whole number of bytes."""
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise UnfitError(f"expected bytes, got {kind_of(value)}", _BYTES_ACCEPTED)
    if isinstance(value, int):
        return value
    match = _BYTES_TEXT.fullmatch(value.strip().lower())
    factor = _BYTES.get(match[2]) if match else None
    # A bare number in quotes is a slip in a file, and the only way to write one in a variable.
    if match is None or factor is None or not (match[2] or isinstance(value, EnvText)):
        raise UnfitError(f"{shown(value)} is not a number of bytes", _BYTES_ACCEPTED)
    whole, _, part = match[1].partition(".")
    size, rest = divmod(int(whole + part) * factor, int(10 ** len(part)))
    if rest:
        raise UnfitError(f"{shown(value)} is not a whole number of bytes", _BYTES_ACCEPTED)
    return size


def parse_rate(value: object) -> str | float:
    """``100`` or ``"5000 per hour"``, checked and left as written."""
    if isinstance(value, str) and not _is_number(value):
        match = _RATE_TEXT.fullmatch(value.strip().lower())
        if match is None or not all(0.0 < float(n) < float("inf") for n in match.groups() if n):
            raise UnfitError(f"{shown(value)} is not a rate", _RATE_ACCEPTED)
        return str(value)
    number = plain_number(value, _RATE_ACCEPTED)
    if number <= 0.0:
        raise UnfitError(f"{shown(value)} is not above zero", _RATE_ACCEPTED)
    return number


def _is_number(text: str) -> bool:
    if not isinstance(text, EnvText):
        return False
    try:
        float(text)
    except ValueError:
        return False
    return True


_KINDS = {
    bool: "a boolean", int: "an integer", float: "a number", str: "a string", EnvText: "a string",
    dict: "a table", list: "a list", tuple: "a list", type(None): "nothing",
}  # fmt: skip


def kind_of(value: object) -> str:
    """What ``value`` is, in the words of a configuration file; never the value itself."""
    return _KINDS.get(type(value), type(value).__name__)


def shown(value: object) -> str:
    """``value`` as it goes into a message: quoted and short."""
    text = repr(str(value)) if isinstance(value, str) else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
