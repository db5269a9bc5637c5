"""Guards and retries around the calls of gRPC clients: what both kinds of channels share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias, final

from hastack._core._errors import Cancelled, InvalidArgument
from hastack._core._extras import require

from ._client_calls import check_rules, not_sent
from ._grpc_status import DETAILS, PUSHBACK

if TYPE_CHECKING:
    from collections.abc import Collection

    from hastack.ratelimit import Guard, Retry

    Idempotent: TypeAlias = bool | Collection[str]

grpc: Any = require("grpc", extra="grpc")

# The rest are answers of a server that works.
FAILURES = frozenset(
    {
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DATA_LOSS,
    }
)


@final
class Outgoing:
    """One call that a client is about to make; what key and cost functions get.

    Attributes:
        method: Full name, ``"/orders.v1.Orders/Create"``.
        request: The message, or the iterator of messages.
        metadata: What the caller gave along, as pairs, or ``None``.
    """

    __slots__ = ("metadata", "method", "request")

    def __init__(self, method: str | bytes, request: Any, metadata: Any) -> None:
        self.method = method.decode() if isinstance(method, bytes) else method
        self.request = request
        self.metadata = metadata

    def __repr__(self) -> str:
        return f"Outgoing({self.method!r})"


@final
class CallRules:
    """Guard and retry of the calls of a channel.

    Raises:
        InvalidArgument: See `_client_calls.check_rules`; or ``idempotent`` are no method names.
    """

    def __init__(self, guard: Guard | None, retry: Retry | None, idempotent: Idempotent) -> None:
        check_rules(guard, retry)
        self.guard = guard
        self.retry = retry
        self._all = idempotent is True
        self._methods: frozenset[str] = frozenset()
        if not isinstance(idempotent, bool):
            if isinstance(idempotent, str) or not all(
                str(each).startswith("/") for each in idempotent
            ):
                accepted = "True, or names such as '/package.Service/Method'"
                raise InvalidArgument("idempotent", idempotent, accepted)
            self._methods = frozenset(idempotent)

    @property
    def any(self) -> bool:
        """Whether there is anything to do."""
        return self.guard is not None or self.retry is not None

    def repeatable(self, outgoing: Outgoing, error: Exception) -> bool:
        """Whether making the call again after ``error`` can do no harm, and may help."""
        if not_sent(error):
            return True
        if not (self._all or outgoing.method in self._methods):
            return False
        if hasattr(outgoing.request, "__next__") or hasattr(outgoing.request, "__anext__"):
            return False  # read once, and gone
        code = getattr(error, "code", None)
        if not isinstance(error, grpc.RpcError) or code is None:
            return False
        after = said_to_wait(error)
        if after is not None and after < 0.0:
            return False  # gRFC A6: the server does not want to see it again
        if after is not None:
            vars(error)["retry_after"] = after  # where Retry looks
        known = code()
        if known is grpc.StatusCode.UNAVAILABLE:
            return True
        return known is grpc.StatusCode.RESOURCE_EXHAUSTED and after is not None


def said_to_wait(error: Any) -> float | None:
    """Seconds in the pushback or the ``RetryInfo`` of an error; below zero for "never again"."""
    trailers = dict(error.trailing_metadata() or ())
    pushback = trailers.get(PUSHBACK)
    if pushback is not None:
        try:
            return int(pushback) / 1000.0
        except ValueError:
            return -1.0  # as gRFC A6 has it
    details = trailers.get(DETAILS)
    if not isinstance(details, bytes):
        return None
    from hastack.observe._answers import retry_info  # large, and errors are rare

    return retry_info(details)


def judged(error: BaseException) -> BaseException | None:
    """What guards are told of ``error``: nothing bad, when the server works."""
    code = getattr(error, "code", None)
    if not isinstance(error, grpc.RpcError) or code is None:
        return error
    return judged_code(code(), error)


def judged_code(code: Any, error: BaseException | None) -> BaseException | None:
    """`judged`, where there is only a status code."""
    if code is grpc.StatusCode.CANCELLED:
        return Cancelled("call cancelled")
    if code not in FAILURES:
        return None
    return error or grpc.RpcError(str(code))
