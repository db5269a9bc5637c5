"""The error classes; `hastack.errors` is their public face and draws the tree."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = (
    "Cancelled",
    "CircuitOpen",
    "ClosedError",
    "Compacted",
    "ConcurrencyLimited",
    "ConfigError",
    "ConfigMistake",
    "ContextError",
    "DeadlineExceeded",
    "DiscoveryError",
    "ForkUnsafe",
    "HastackError",
    "InvalidArgument",
    "InvalidKey",
    "LeaseLost",
    "LifecycleError",
    "MissingDependency",
    "NoInstance",
    "NotAuthorized",
    "OriginHeld",
    "RateLimited",
    "Rejected",
    "RequestTooLarge",
    "RetryBudgetExhausted",
    "ShutdownRequested",
    "StartFailed",
    "StopFailed",
    "StoreError",
    "StoreTimeout",
    "StoreUnavailable",
)


class HastackError(Exception):
    """Root of every error raised by hastack."""


class ContextError(HastackError):
    """The current context ended. Retry policies let this pass untouched."""


class Cancelled(ContextError):
    """The context was cancelled.

    Args:
        message: What was cancelled.
        cause: The reason given to ``cancel()``; also available as ``__cause__``.
    """

    def __init__(
        self, message: str = "context cancelled", *, cause: BaseException | None = None
    ) -> None:
        super().__init__(message)
        self.cause = cause
        self.__cause__ = cause


class DeadlineExceeded(ContextError, TimeoutError):
    """The context's deadline passed."""


def _short(number: float) -> str:
    """Three digits are enough, but 3600 is 3600 and not 3.6e+03."""
    return f"{number:.0f}" if 100.0 <= number < 1e12 else f"{number:.3g}"


class Rejected(HastackError):
    """A guard refused the call; the guarded function did not run.

    Args:
        name: Name of the guard that refused.
        retry_after: Seconds until a new try may succeed; ``None`` when unknown.
        reason: One clause for people, put into the message.
    """

    reason_text = "rejected"

    def __init__(
        self, name: str, *, retry_after: float | None = None, reason: str | None = None
    ) -> None:
        super().__init__(name, retry_after, reason)
        self.name = name
        self.retry_after = retry_after
        self.reason = reason

    def __str__(self) -> str:
        text = f"{self.name}: {self.reason or self.reason_text}"
        if self.retry_after is not None:
            text += f"; retry after {_short(self.retry_after)} s"
        return text

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild_rejected, (type(self), self.name, self.retry_after, self.reason))


def _rebuild_rejected(
    cls: type[Rejected], name: str, retry_after: float | None, reason: str | None
) -> Rejected:
    return cls(name, retry_after=retry_after, reason=reason)


class RateLimited(Rejected):
    """A rate limit is used up."""

    reason_text = "rate limit exceeded"


class ConcurrencyLimited(Rejected):
    """A concurrency limit (bulkhead or adaptive) is full."""

    reason_text = "concurrency limit reached"


class CircuitOpen(Rejected):
    """A circuit breaker is open, or half-open with all probes taken."""

    reason_text = "circuit open"


class NoInstance(Rejected):
    """A service has no instance that could take the call."""

    reason_text = "no instance"


class RetryBudgetExhausted(Rejected):
    """The call failed and the shared retry budget allows no further try."""

    reason_text = "retry budget exhausted"


class InvalidArgument(HastackError, ValueError):
    """An argument is outside of its accepted range.

    Args:
        parameter: Name of the parameter as the caller wrote it.
        value: What was given.
        accepted: The accepted range or form, for people.
    """

    def __init__(self, parameter: str, value: object, accepted: str) -> None:
        super().__init__(parameter, value, accepted)
        self.parameter = parameter
        self.value = value
        self.accepted = accepted

    def __str__(self) -> str:
        return f"{self.parameter}={self.value!r}: expected {self.accepted}"


class InvalidKey(InvalidArgument, TypeError):
    """A key is not hashable."""


class ConfigMistake(HastackError, ValueError):
    """One mistake in a configuration.

    Args:
        path: Dotted path of the setting, ``ratelimit.default.rate``.
        problem: What is wrong with it.
        accepted: Accepted values or form, or ``None``.
        source: Where the value came from: a file with its line, an environment variable.
    """

    def __init__(
        self, path: str, problem: str, *, accepted: str | None = None, source: str | None = None
    ) -> None:
        super().__init__(path, problem, accepted, source)
        self.path = path
        self.problem = problem
        self.accepted = accepted
        self.source = source

    def __str__(self) -> str:
        text = f"{self.path}: {self.problem}"
        if self.accepted:
            text += f" (accepted: {self.accepted})"
        if self.source:
            text += f" [{self.source}]"
        return text

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild_mistake, (self.path, self.problem, self.accepted, self.source))


def _rebuild_mistake(
    path: str, problem: str, accepted: str | None, source: str | None
) -> ConfigMistake:
    return ConfigMistake(path, problem, accepted=accepted, source=source)


class ConfigError(HastackError, ExceptionGroup[ConfigMistake]):
    """All mistakes of one configuration at once, each with its path."""

    def derive(self, excs: Sequence[ConfigMistake], /) -> ConfigError:  # type: ignore[override]  # typeshed widens the element type
        """Keep the class when ``split()`` or ``except*`` divides the group."""
        return ConfigError(self.message, excs)

    def __str__(self) -> str:
        lines = [f"{self.message}:"]
        lines += [f"  - {mistake}" for mistake in self.exceptions]
        return "\n".join(lines)


class ClosedError(HastackError, RuntimeError):
    """The object was closed and takes no more calls.

    Args:
        name: Name of the closed object.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name

    def __str__(self) -> str:
        return f"{self.name} is closed"


class LifecycleError(HastackError, RuntimeError):
    """Starting or stopping a service went wrong."""


class StartFailed(LifecycleError):
    """A component did not start; those started before it were stopped again.

    Args:
        message: What happened.
        component: Name of the component; its error is the ``__cause__``.
        report: The `hastack.lifecycle.ShutdownReport` of the unwinding.
    """

    def __init__(
        self, message: str, *, component: str | None = None, report: object = None
    ) -> None:
        super().__init__(message)
        self.component = component
        self.report = report


class StopFailed(LifecycleError):
    """Components did not stop within the budget; the message names them.

    Args:
        message: What happened.
        components: Names of the components that did not stop.
        report: The whole `hastack.lifecycle.ShutdownReport`.
    """

    def __init__(
        self, message: str, *, components: Sequence[str] = (), report: object = None
    ) -> None:
        super().__init__(message)
        self.components = tuple(components)
        self.report = report


class ShutdownRequested(LifecycleError):
    """Why the root context of a stopping service was cancelled.

    Args:
        reason: Who asked, for people.
        signal: Number of the signal that asked, or ``None``.
    """

    def __init__(self, reason: str = "shutdown requested", *, signal: int | None = None) -> None:
        super().__init__(reason)
        self.signal = signal


class ForkUnsafe(HastackError, RuntimeError):
    """This process was forked from one with open gRPC connections: gRPC does not survive that."""

    def __init__(
        self,
        message: str = "gRPC cannot be used in a process that was forked from one with open "
        "connections: close the client before the fork, or use it only after; or start the "
        "process with spawn",
    ) -> None:
        super().__init__(message)


class DiscoveryError(HastackError):
    """Service discovery could not do what was asked."""


class OriginHeld(DiscoveryError):
    """A forwarder that is alive has this origin: what becomes of its mirror is that one's to do.

    Args:
        origin: The forwarded cluster.
        writer: Who has it, as host, process and a random part.
    """

    def __init__(self, origin: str, writer: str) -> None:
        super().__init__(f"origin {origin!r} is forwarded by {writer}: stop that one first")
        self.origin = origin
        self.writer = writer

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.origin, self.writer)


class StoreError(DiscoveryError):
    """The store refused a request.

    Args:
        message: What it said, or what is wrong with the request.
        code: The store's own code for it, ``"RESOURCE_EXHAUSTED"`` for example.
        endpoint: Who answered.
    """

    def __init__(self, message: str, *, code: str = "", endpoint: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.endpoint = endpoint


class StoreUnavailable(StoreError, ConnectionError):
    """No endpoint of the store could be reached, or none had a quorum behind it.

    Args:
        message: What happened.
        code: The store's own code for it.
        endpoint: Who was asked last.
        indeterminate: The request was a write and had been sent: it may have been applied, or may
            yet be. Read before you repeat it.
    """

    def __init__(
        self, message: str, *, code: str = "", endpoint: str = "", indeterminate: bool = False
    ) -> None:
        super().__init__(message, code=code, endpoint=endpoint)
        self.indeterminate = indeterminate


class StoreTimeout(StoreUnavailable, TimeoutError):
    """The store did not answer within the call's timeout.

    The context goes on: if its deadline had passed, that would be a `DeadlineExceeded`.
    """

    def __init__(
        self,
        message: str,
        *,
        code: str = "DEADLINE_EXCEEDED",
        endpoint: str = "",
        indeterminate: bool = False,
    ) -> None:
        super().__init__(message, code=code, endpoint=endpoint, indeterminate=indeterminate)


class NotAuthorized(StoreError, PermissionError):
    """The store does not let this user do that, or does not know the user."""


class RequestTooLarge(StoreError, ValueError):
    """A request is larger than the store takes; it was not applied.

    Args:
        unit: What there is too much of: ``"bytes"`` or ``"operations"``.
        size: How much there is; 0 when only the store said so.
        limit: How much the store takes; 0 when only the store said so.
        endpoint: Who said so; empty when it was not sent.
    """

    def __init__(self, unit: str, size: int = 0, limit: int = 0, *, endpoint: str = "") -> None:
        counts = f": {size:,} {unit}, at most {limit:,}" if limit else f": too many {unit}"
        super().__init__(
            f"request is too large{counts}", code="INVALID_ARGUMENT", endpoint=endpoint
        )
        self.unit = unit
        self.size = size
        self.limit = limit

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild_too_large, (self.unit, self.size, self.limit, self.endpoint))


def _rebuild_too_large(unit: str, size: int, limit: int, endpoint: str) -> RequestTooLarge:
    return RequestTooLarge(unit, size, limit, endpoint=endpoint)


class Compacted(StoreError):
    """The revision asked for is no longer kept.

    Args:
        message: What happened.
        revision: The oldest revision that can still be read.
    """

    def __init__(self, message: str, *, revision: int = 0, endpoint: str = "") -> None:
        super().__init__(message, code="OUT_OF_RANGE", endpoint=endpoint)
        self.revision = revision


class LeaseLost(StoreError):
    """A lease ended before its time: expired, revoked, or out of reach for too long.

    Args:
        message: What happened.
        lease: Its id.
    """

    def __init__(self, message: str, *, lease: int = 0) -> None:
        super().__init__(message, code="NOT_FOUND")
        self.lease = lease


class MissingDependency(HastackError, ImportError):
    """An optional package is not installed.

    Args:
        package: The package that could not be imported.
        extra: The hastack extra that brings it.
    """

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(
            f"{package} is not installed. Install it with: pip install 'hastack[{extra}]'",
            name=package,
        )
        self.package = package
        self.extra = extra

    def __reduce__(self) -> tuple[object, ...]:
        return (MissingDependency, (self.package, self.extra))


# Users meet these classes as `hastack.errors.X`; tracebacks and pickles should say the same.
def _publish() -> None:
    for name in __all__:
        globals()[name].__module__ = "hastack.errors"


_publish()
