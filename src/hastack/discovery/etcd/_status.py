"""What an answer of etcd that is no success means: try again, where, and as which error."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

from hastack._core._errors import (
    Compacted,
    LeaseLost,
    NotAuthorized,
    RequestTooLarge,
    StoreError,
    StoreTimeout,
    StoreUnavailable,
)

if TYPE_CHECKING:
    from collections.abc import Callable

_SERVER = "etcdserver: "


class Verdict(enum.Enum):
    """What to do after a failed try."""

    RAISE = "the answer is final"
    AGAIN = "not applied; the endpoint is well but busy"
    ELSEWHERE = "not applied; another endpoint may do better"
    UNSURE = "perhaps applied; only what may be repeated is tried elsewhere"
    LOGIN = "not applied; the token is not accepted any more"


# The texts are those of etcd's rpctypes/error.go, without their prefix. Matched by beginning.
_NOT_APPLIED = (
    "no leader",
    "not capable",
    "rpc not supported for learner",
    "unhealthy cluster",
)
# What the client's own half says when a request has not left it.
_NOT_SENT = (
    "failed to connect to all addresses",
    "DNS resolution failed",
    "Name resolution failure",
    "empty address list",
)
_LOGIN = ("invalid auth token", "revision of auth store is old", "user name is empty")
_DENIED = ("authentication failed", "user name not found", "user name is empty")


def judge(code: str, details: str) -> Verdict:
    """What to do after an answer with gRPC status ``code`` and text ``details``."""
    text = details.removeprefix(_SERVER)
    if code == "UNAVAILABLE":
        if text.startswith(_NOT_APPLIED) or text.startswith(_NOT_SENT):
            return Verdict.ELSEWHERE
        return Verdict.UNSURE
    if code == "RESOURCE_EXHAUSTED" and text.startswith("too many requests"):
        return Verdict.AGAIN
    if code in {"UNAUTHENTICATED", "INVALID_ARGUMENT", "UNKNOWN"} and text.startswith(_LOGIN):
        return Verdict.LOGIN
    if code == "UNKNOWN" and text.startswith("raft proposal dropped"):
        return Verdict.ELSEWHERE
    if code == "DEADLINE_EXCEEDED":
        return Verdict.UNSURE
    return Verdict.RAISE


def error_of(code: str, details: str, *, endpoint: str, indeterminate: bool = False) -> StoreError:
    """The error for an answer.

    Args:
        code: Name of the gRPC status.
        details: Its text.
        endpoint: Who answered.
        indeterminate: Whether a write may have been applied all the same.
    """
    text = details.removeprefix(_SERVER) or code.lower().replace("_", " ")
    if code == "UNAVAILABLE":
        return StoreUnavailable(text, code=code, endpoint=endpoint, indeterminate=indeterminate)
    if code == "DEADLINE_EXCEEDED":
        return StoreTimeout(text, endpoint=endpoint, indeterminate=indeterminate)
    if "required revision has been compacted" in text:
        return Compacted(text, endpoint=endpoint)
    if text.startswith("requested lease not found"):
        return LeaseLost(text)
    if text.startswith("request is too large") or "received message larger than max" in text:
        return RequestTooLarge("bytes", endpoint=endpoint)
    if text.startswith("too many operations in txn request"):
        return RequestTooLarge("operations", endpoint=endpoint)
    kind: Callable[..., StoreError] = StoreError
    if code in {"PERMISSION_DENIED", "UNAUTHENTICATED"} or text.startswith(_DENIED):
        kind = NotAuthorized
    return kind(text, code=code, endpoint=endpoint)
