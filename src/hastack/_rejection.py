"""How hastack's errors look over HTTP: status, Retry-After and a problem document."""

from __future__ import annotations

import json
from math import ceil, isfinite
from typing import TYPE_CHECKING

import attrs

from ._core._errors import (
    Cancelled,
    ConcurrencyLimited,
    DeadlineExceeded,
    HastackError,
    LifecycleError,
    PolicyDenied,
    RateLimited,
    Rejected,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

PROBLEM = "application/problem+json"

# draft-ietf-httpapi-ratelimit-headers-11, section 5.1
_QUOTA_EXCEEDED = "https://iana.org/assignments/http-problem-types#quota-exceeded"

REASONS = {
    403: "Forbidden",
    429: "Too Many Requests",
    499: "Client Closed Request",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}


@attrs.frozen
class Problem:
    """One error response (RFC 9457)."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    @property
    def status_line(self) -> str:
        """Status and reason, as WSGI wants it."""
        return f"{self.status} {REASONS[self.status]}"


def problem(error: BaseException, *, policies: Sequence[str] = ()) -> Problem | None:
    """The response for ``error``, or ``None`` when it is not one of ours to answer.

    Args:
        error: What was raised.
        policies: Names of the quota policies that refused, as in the ``RateLimit`` header.

    A group whose members are all answerable (a `asyncio.TaskGroup` whose children were rejected)
    is answered like its first member.
    """
    if isinstance(error, BaseExceptionGroup):
        answers = [problem(each) for each in error.exceptions]
        return answers[0] if all(answers) else None
    status = _status(error)
    if status is None:
        return None
    assert isinstance(error, HastackError)
    headers: list[tuple[str, str]] = []
    body: dict[str, object] = {"title": REASONS[status], "status": status, "detail": str(error)}
    if policies and status == 429:
        body["type"] = _QUOTA_EXCEEDED
        body["violated-policies"] = list(policies)
    if isinstance(error, Rejected):
        body["guard"] = error.name
        after = error.retry_after
        if after is not None and isfinite(after):
            # RFC 9110: whole seconds; at least one, since zero invites a busy loop.
            headers.append(("retry-after", str(max(whole_seconds(after), 1))))
    data = json.dumps(body).encode() + b"\n"
    headers += [("content-type", PROBLEM), ("content-length", str(len(data)))]
    return Problem(status, tuple(headers), data)


def whole_seconds(seconds: float) -> int:
    """``seconds`` rounded up, since an early retry is refused again; but not for a rounding error.

    Half a minute stays one when the arithmetic of a limiter makes it 30.000000000001 s.
    """
    return ceil(round(seconds, 6))


def _status(error: BaseException) -> int | None:
    if isinstance(error, RateLimited | ConcurrencyLimited):
        return 429
    if isinstance(error, PolicyDenied):
        return 403
    if isinstance(error, Rejected):
        return 503
    if isinstance(error, DeadlineExceeded):
        return 504
    if isinstance(error, Cancelled):
        # Cancelled by the end of the service: somebody else can answer. Otherwise the client
        # has gone, and 499 (nginx's convention) is for the access log only.
        return 503 if isinstance(error.cause, LifecycleError) else 499
    return None
