"""What an answer means for the units in the request. Each protocol has rules of its own.

===============  =========================================  ==========================================
protocol         sent again                                 never sent again
===============  =========================================  ==========================================
OTLP/HTTP        429, 502, 503, 504, no answer              every other 4xx and 5xx, 408 and 500 too
OTLP/gRPC        CANCELLED, DEADLINE_EXCEEDED, ABORTED,     everything else
                 OUT_OF_RANGE, UNAVAILABLE, DATA_LOSS;
                 RESOURCE_EXHAUSTED with RetryInfo
remote write     every 5xx, 429, no answer                  every other 4xx
Loki push        every 5xx, 429, no answer                  every other 4xx
===============  =========================================  ==========================================

A request that is too long (413, or RESOURCE_EXHAUSTED because of the size) is split. Sources: OTLP
specification 1.x ("Failures", "OTLP/HTTP Response"), Prometheus remote write 2.0 ("Retries &
Backoff", "Required Written Response Headers"), Loki's HTTP API and the behaviour of Grafana's own clients.
"""

from __future__ import annotations

import enum
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, final

import attrs

from hastack.ratelimit._retry_after import parse_retry_after

from ._answers import (
    GrpcAnswer,
    HttpAnswer,
    NoAnswer,
    partial_success,
    retry_info,
    status_message,
)

if TYPE_CHECKING:
    from datetime import datetime

    from ._answers import Answer


class Kind(enum.Enum):
    """What is to be done."""

    DELIVERED = "delivered"
    RETRY = "retry"
    SPLIT = "split"
    DROP = "drop"
    FALL_BACK = "fall back"
    """The receiver knows only the older version of the protocol."""


@final
@attrs.frozen(kw_only=True)
class Verdict:
    """What an answer means.

    Attributes:
        kind: What is to be done.
        rejected: Units that the backend did not take although it answered with success.
        after: Seconds that it asked to wait.
        reason: Under which name the units are counted when they are dropped.
        healthy: Whether the backend as such is well: what its breaker is told.
        note: What it said, for people.
    """

    kind: Kind
    rejected: int = 0
    after: float | None = None
    reason: str = ""
    healthy: bool = True
    note: str = ""


class RetryRules(enum.Enum):
    """Whose rules apply."""

    OTLP_HTTP = "otlp-http"
    OTLP_GRPC = "otlp-grpc"
    REMOTE_WRITE_1 = "remote-write-1"
    REMOTE_WRITE_2 = "remote-write-2"
    LOKI = "loki"


_RETRIED_HTTP = frozenset({429, 502, 503, 504})
_RETRIED_GRPC = frozenset(
    {"CANCELLED", "DEADLINE_EXCEEDED", "ABORTED", "OUT_OF_RANGE", "UNAVAILABLE", "DATA_LOSS"}
)
_WRITTEN = "x-prometheus-remote-write-samples-written"
# How gRPC's implementations word it when a message is longer than the receiver takes.
_TOO_LONG = ("larger than max", "too large", "message size", "exceeds maximum", "exceeds the limit")


def judge(protocol: RetryRules, answer: Answer, *, units: int) -> Verdict:
    """What ``answer`` means for a request with ``units`` units."""
    if isinstance(answer, NoAnswer):
        return Verdict(
            kind=Kind.RETRY,
            healthy=answer.kind == "aborted",
            note=f"{answer.kind}: {answer.detail}" if answer.detail else answer.kind,
        )
    if isinstance(answer, GrpcAnswer):
        return _grpc(answer, units)
    return _http(protocol, answer, units)


def _http(protocol: RetryRules, answer: HttpAnswer, units: int) -> Verdict:
    status = answer.status
    if 200 <= status < 300:
        return _taken(protocol, answer, units)
    note = _said(protocol, answer)
    if status == 413:
        return Verdict(kind=Kind.SPLIT, reason="too_large", note=note)
    if status == 415 and protocol is RetryRules.REMOTE_WRITE_2:
        return Verdict(kind=Kind.FALL_BACK, reason="http_415", note=note)
    if protocol is RetryRules.OTLP_HTTP:
        again = status in _RETRIED_HTTP
    else:
        again = status == 429 or status >= 500
    if again:
        after = retry_after(answer)
        # A backend that says when to come back is busy, not broken.
        return Verdict(
            kind=Kind.RETRY, after=after, healthy=status == 429 or after is not None, note=note
        )
    return Verdict(kind=Kind.DROP, reason=f"http_{status}", healthy=status < 500, note=note)


def _taken(protocol: RetryRules, answer: HttpAnswer, units: int) -> Verdict:
    if protocol is RetryRules.OTLP_HTTP:
        rejected, message = partial_success(answer.body)
        return Verdict(kind=Kind.DELIVERED, rejected=min(rejected, units), note=message)
    if protocol is RetryRules.REMOTE_WRITE_2 and _WRITTEN not in answer.headers:
        # A receiver of version 1 skips every field of a request of version 2 and calls it a
        # success (Prometheus before 2.54); one of version 2 says what it wrote.
        note = "the receiver knows version 1 only"
        return Verdict(kind=Kind.FALL_BACK, reason="http_415", note=note)
    return Verdict(kind=Kind.DELIVERED)


def _grpc(answer: GrpcAnswer, units: int) -> Verdict:
    code = answer.code
    if code == "OK":
        rejected, message = partial_success(answer.body)
        return Verdict(kind=Kind.DELIVERED, rejected=min(rejected, units), note=message)
    note = f"{code}: {answer.details}" if answer.details else code
    after = retry_info(answer.status)
    if code == "RESOURCE_EXHAUSTED":
        if after is not None:
            return Verdict(kind=Kind.RETRY, after=after, note=note)
        said = answer.details.lower()
        if any(words in said for words in _TOO_LONG):
            return Verdict(kind=Kind.SPLIT, reason="too_large", note=note)
        return Verdict(kind=Kind.DROP, reason="grpc_resource_exhausted", note=note)
    if code in _RETRIED_GRPC:
        return Verdict(kind=Kind.RETRY, after=after, healthy=after is not None, note=note)
    return Verdict(kind=Kind.DROP, reason=f"grpc_{code.lower()}", note=note)


def _said(protocol: RetryRules, answer: HttpAnswer) -> str:
    text = ""
    if protocol is RetryRules.OTLP_HTTP and "protobuf" in answer.headers.get("content-type", ""):
        text = status_message(answer.body)
    else:
        text = answer.body[:300].decode("utf-8", "replace").strip()
    return f"HTTP {answer.status}: {text}" if text else f"HTTP {answer.status}"


def retry_after(answer: HttpAnswer) -> float | None:
    """Seconds in ``Retry-After``.

    A date is compared with the server's own ``Date``, so that a wrong clock on this side, or one
    that is being set, changes nothing.
    """
    value = answer.headers.get("retry-after")
    if value is None:
        return None
    return parse_retry_after(value, now=_date(answer.headers.get("date")))


def _date(value: str | None) -> datetime | None:
    if value is None:
        return None
    try:
        date = parsedate_to_datetime(value)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return date.replace(tzinfo=UTC) if date.tzinfo is None else date
