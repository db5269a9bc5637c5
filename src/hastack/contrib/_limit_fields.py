"""What a response says about the limits that its request met.

Source: draft-ietf-httpapi-ratelimit-headers-11 (2026-05), fields ``RateLimit-Policy`` and
``RateLimit``, written as structured fields (RFC 9651); and the three headers of its drafts up to
06 with their older ``X-`` names, which are what most clients read today.
"""

from __future__ import annotations

from base64 import b64encode
from functools import lru_cache
from math import ceil
from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from hastack._core._errors import InvalidArgument
from hastack._rejection import whole_seconds
from hastack.ratelimit import AllOf, ConcurrencyLimit, LeakyBucket, TokenBucket

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from hastack.ratelimit._limiter import RateLimiter

Fields: TypeAlias = "tuple[tuple[str, str], ...]"

_STYLES = {"draft": "", "legacy": "ratelimit-", "x": "x-ratelimit-"}
_LARGEST = 999_999_999_999_999  # an Integer of RFC 9651 has at most 15 digits
_WINDOWS = (60, 3600, 86_400)


class Policy(NamedTuple):
    """A limit as ``RateLimit-Policy`` puts it.

    Attributes:
        quota: Permits per window.
        window: Whole seconds; ``None`` for a concurrency limit.
    """

    quota: int
    window: int | None


class Standing(NamedTuple):
    """How one limit stands after it was asked.

    Attributes:
        name: Name of the policy.
        policy: What it allows in general.
        remaining: Whole permits left.
        seconds: The time for which they have to do; ``None`` when that is nobody's guess.
        refused: Whether it refused the request.
        unit: Bytes that one permit stands for; 0 for requests.
        partition: Whose quota it is, when the client may know.
    """

    name: str
    policy: Policy
    remaining: int
    seconds: float | None
    refused: bool
    unit: int = 0
    partition: bytes | None = None


def styles(value: str | Iterable[str] | None) -> tuple[str, ...]:
    """The header styles in ``value``: one, several or none."""
    given = (value,) if isinstance(value, str) else tuple(value or ())
    if not set(given) <= set(_STYLES):
        accepted = "'draft', 'legacy', 'x', a tuple of these, or None"
        raise InvalidArgument("headers", value, accepted)
    return given


def limits_of(guard: RateLimiter | AllOf) -> tuple[RateLimiter, ...]:
    """The limits behind one guard."""
    return guard.limits if isinstance(guard, AllOf) else (guard,)


_SHAPE = ("rate", "burst", "limit", "window")


def shape_of(limiter: RateLimiter) -> Callable[[RateLimiter], object]:
    """A quick look at what the limiter's policy is made of, to notice when it has changed."""
    return attrgetter(*(name for name in _SHAPE if hasattr(limiter, name)))


def policy_of(limiter: RateLimiter) -> Policy:
    """The policy of a limiter as it is now."""
    if isinstance(limiter, ConcurrencyLimit):
        return Policy(int(limiter.limit), None)
    if isinstance(limiter, TokenBucket):
        return _windowed(limiter.burst, limiter.rate)
    if isinstance(limiter, LeakyBucket):
        return _windowed(1.0, limiter.rate)
    permits: float = limiter.limit  # type: ignore[attr-defined]  # the three windows
    return _windowed(permits, permits / limiter.window)  # type: ignore[attr-defined]  # as above


def _windowed(permits: float, rate: float) -> Policy:
    """``permits`` and ``rate`` in whole permits per whole seconds, never more than there are.

    A window is the time in which an empty bucket fills. Where whole seconds would take more than
    one percent of the rate away (a burst of 1 at 100 a minute), a longer window keeps it.
    """
    first = max(ceil(permits / rate - 1e-9), 1)
    for window in (first, *_WINDOWS):
        exact = rate * window
        quota = int(exact + 1e-6)
        if window >= first and quota >= exact * 0.99:
            return Policy(quota, window)
    return Policy(max(int(rate * first + 1e-6), 1), first)


def fields(standings: Iterable[Standing], style: tuple[str, ...]) -> Fields:
    """The response headers, names in lower case."""
    found = tuple(standings)
    if not found or not style:
        return ()
    headers: list[tuple[str, str]] = []
    for each in style:
        prefix = _STYLES[each]
        headers += _three(_tightest(found), prefix) if prefix else _two(found)
    return tuple(headers)


def _two(standings: tuple[Standing, ...]) -> list[tuple[str, str]]:
    # Beside a Retry-After, no window should end later than that says (section 6): a refusal
    # speaks of what refused, and of nothing else.
    refused = tuple(each for each in standings if each.refused) or standings
    return [
        ("ratelimit-policy", ", ".join(map(_policy_item, standings))),
        ("ratelimit", ", ".join(map(_limit_item, refused))),
    ]


def _policy_item(standing: Standing) -> str:
    return _policy_text(standing.name, standing.policy, standing.unit) + _partition(standing)


@lru_cache(1024)
def _policy_text(name: str, policy: Policy, unit: int) -> str:
    """The same for every request, as long as the limit does not change."""
    quota, window = policy
    item = f"{_string(name)};q={_integer(quota * (unit or 1))}"
    if window is None:
        return item + ';qu="concurrent-requests"'
    if unit:
        item += ';qu="content-bytes"'
    return f"{item};w={_integer(window)}"


def _limit_item(standing: Standing) -> str:
    left = _integer(standing.remaining * (standing.unit or 1))
    item = f"{_string(standing.name)};r={left}"
    if standing.seconds is not None:
        item += f";t={_whole(standing)}"
    return item + _partition(standing)


def _partition(standing: Standing) -> str:
    if standing.partition is None:
        return ""
    return f";pk=:{b64encode(standing.partition).decode()}:"


def _whole(standing: Standing) -> int:
    seconds = whole_seconds(standing.seconds or 0.0)
    # The same number as in Retry-After, which is never zero.
    return _integer(max(seconds, 1) if standing.refused else seconds)


def _tightest(standings: tuple[Standing, ...]) -> Standing:
    """The one that speaks for all where only one can: what refused, or has least left."""
    return min(standings, key=lambda each: (not each.refused, each.remaining))


def _three(standing: Standing, prefix: str) -> list[tuple[str, str]]:
    headers = [
        (f"{prefix}limit", str(_integer(standing.policy.quota))),
        (f"{prefix}remaining", str(_integer(standing.remaining))),
    ]
    if standing.seconds is not None:
        headers.append((f"{prefix}reset", str(_whole(standing))))
    return headers


def _integer(value: float) -> int:
    return int(min(max(value, 0), _LARGEST))


@lru_cache(1024)
def _string(text: str) -> str:
    """``text`` as a String of RFC 9651, which has ASCII only."""
    kept = "".join(each if " " <= each <= "~" else "?" for each in text)
    return '"' + kept.replace("\\", "\\\\").replace('"', '\\"') + '"'
