"""Quotas: so many permits per so much time, and the strings people write them in."""

from __future__ import annotations

import re
from typing import TypeAlias

import attrs

from hastack._core._errors import InvalidArgument
from hastack._core._validate import Seconds, positive, seconds

_UNITS = {
    "us": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "sec": 1.0,
    "second": 1.0,
    "m": 60.0,
    "min": 60.0,
    "minute": 60.0,
    "h": 3600.0,
    "hr": 3600.0,
    "hour": 3600.0,
    "d": 86400.0,
    "day": 86400.0,
}
_ACCEPTED = (
    "a quota such as '100/s', '5000 per hour' or '1000/100ms' "
    "with a unit of us, ms, s, sec, second, m, min, minute, h, hr, hour, d or day"
)
_DIGITS = r"[0-9][0-9_]*(?:\.[0-9_]+)?(?:e[0-9]+)?"
_PATTERN = re.compile(
    rf"(?P<permits>{_DIGITS}) \s* (?:/|\bper\b) \s* (?P<count>{_DIGITS})? \s* (?P<unit>[a-zµ]+)",
    re.VERBOSE,
)


def _permits(value: float) -> float:
    return positive("permits", value)


def _per(value: Seconds) -> float:
    return seconds("per", value)


@attrs.frozen
class Quota:
    """``permits`` per ``per`` seconds.

    Args:
        permits: How many; a finite number above zero.
        per: Length of the period in seconds, as a number or a timedelta.

    Raises:
        InvalidArgument: A number that is not finite or not above zero.

    Example:
        >>> Quota.parse("5000 per hour")
        Quota(permits=5000.0, per=3600.0)
        >>> Quota(10, 2).rate
        5.0
    """

    permits: float = attrs.field(converter=_permits)
    per: float = attrs.field(default=1.0, converter=_per)

    @property
    def rate(self) -> float:
        """Permits per second."""
        return self.permits / self.per

    @classmethod
    def parse(cls, text: str, *, parameter: str = "quota") -> Quota:
        """Read ``"100/s"``, ``"5 per 2 minutes"``, ``"1_000/100ms"``; case does not matter.

        Args:
            text: The quota.
            parameter: How to name it in the error.

        Raises:
            InvalidArgument: Not of that form, an unknown unit, or zero.
        """
        match = _PATTERN.fullmatch(text.strip().lower())
        if match is None:
            raise InvalidArgument(parameter, text, _ACCEPTED)
        unit = match["unit"]
        length = _UNITS.get(unit) or _UNITS.get(unit.removesuffix("s"))
        if length is None:
            raise InvalidArgument(parameter, text, _ACCEPTED)
        try:
            return cls(float(match["permits"]), float(match["count"] or 1) * length)
        except ValueError:
            raise InvalidArgument(parameter, text, f"{_ACCEPTED}, and numbers > 0") from None

    def __str__(self) -> str:
        return f"{self.permits:g}/{self.per:g}s"


QuotaLike: TypeAlias = Quota | str | float
"""What limiters take for a rate; a bare number means permits per second."""


def to_quota(parameter: str, value: QuotaLike) -> Quota:
    """``value`` as a Quota, with errors that name ``parameter``."""
    if isinstance(value, Quota):
        return value
    if isinstance(value, str):
        return Quota.parse(value, parameter=parameter)
    if not isinstance(value, (int, float)):
        raise InvalidArgument(parameter, value, f"{_ACCEPTED}, or a number of permits per second")
    return Quota(positive(parameter, value), 1.0)
