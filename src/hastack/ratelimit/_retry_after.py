"""What the other side said about when to come back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from math import isfinite

LONGEST = 366.0 * 86400.0
"""Seconds; anything longer is a mistake of the sender and is ignored."""


def parse_retry_after(value: str, *, now: datetime | None = None) -> float | None:
    """Seconds to wait according to a ``Retry-After`` header field.

    Args:
        value: The field's value: whole seconds, or an HTTP date (RFC 9110, section 10.2.3).
        now: The wall-clock time that a date is compared with; the present by default.

    Returns:
        Seconds, 0.0 for a date that has passed, or ``None`` for a value that is neither form.

    Example:
        >>> from hastack.ratelimit import parse_retry_after
        >>> parse_retry_after("120")
        120.0
        >>> parse_retry_after("soon")
    """
    text = value.strip()
    if text.isascii() and text.isdigit():
        return _sane(float(text[:32]))
    from email.utils import parsedate_to_datetime  # heavy, and dates are rare

    try:
        date = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)  # "-0000": UTC without claiming a zone (RFC 5322, 3.3)
    return _sane(max(0.0, (date - (now or datetime.now(UTC))).total_seconds()))


def said_by(outcome: object) -> float | None:
    """Seconds in the ``retry_after`` attribute of an error, as hastack's rejections carry it."""
    value = getattr(outcome, "retry_after", None)
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return _sane(float(value))


def http_retry_after(outcome: object) -> float | None:
    """Seconds asked for by an HTTP response, or by an error that carries one.

    Reads ``outcome.retry_after``, then the ``Retry-After`` field of ``outcome.headers`` or
    ``outcome.response.headers``, where httpx, requests and aiohttp have it. Meant for
    ``Retry(retry_after=http_retry_after)``.
    """
    said = said_by(outcome)
    if said is not None:
        return said
    for carrier in (outcome, getattr(outcome, "response", None)):
        headers = getattr(carrier, "headers", None)
        if headers is None:
            continue
        try:
            value = headers.get("Retry-After") or headers.get("retry-after")
        except (AttributeError, TypeError):
            continue
        if isinstance(value, str):
            return parse_retry_after(value)
    return None


def _sane(seconds: float) -> float | None:
    return seconds if isfinite(seconds) and 0.0 <= seconds <= LONGEST else None
