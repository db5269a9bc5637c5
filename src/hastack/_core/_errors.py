"""The error classes; `hastack.errors` is their public face and draws the tree."""

from __future__ import annotations

from errno import errorcode as _errorcode
from os import strerror as _strerror
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = (
    "AuditBroken",
    "Cancelled",
    "CircuitOpen",
    "ClosedError",
    "Compacted",
    "CompileFailed",
    "ConcurrencyLimited",
    "ConfigError",
    "ConfigMistake",
    "ContextError",
    "DeadlineExceeded",
    "DiscoveryError",
    "EbpfError",
    "ForkUnsafe",
    "GuestDeadline",
    "GuestExit",
    "GuestFailed",
    "HastackError",
    "InvalidArgument",
    "InvalidKey",
    "InvalidModule",
    "KernelRefused",
    "LeaseLost",
    "LifecycleError",
    "MalformedObject",
    "MapIncompatible",
    "MissingDependency",
    "ModuleRefused",
    "NoInstance",
    "NotAuthorized",
    "NotTrusted",
    "OriginHeld",
    "OutOfBounds",
    "OutOfFuel",
    "PolicyDenied",
    "PolicyViolation",
    "PoolExhausted",
    "RateLimited",
    "Rejected",
    "RequestTooLarge",
    "RetryBudgetExhausted",
    "ShutdownRequested",
    "SignatureInvalid",
    "StartFailed",
    "StopFailed",
    "StoreError",
    "StoreTimeout",
    "StoreUnavailable",
    "Trap",
    "UnresolvedImports",
    "Unsupported",
    "VerifierError",
    "WasmError",
    "WorkerDied",
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


class PolicyDenied(Rejected):
    """A policy says no to a request."""

    reason_text = "denied by policy"


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


class EbpfError(HastackError):
    """Something about an eBPF object, or about the kernel that should run it."""


class MalformedObject(EbpfError, ValueError):
    """A file is no eBPF object that could be loaded.

    Args:
        problem: What is wrong.
        where: The part of the file: a section, a type, an instruction.
    """

    def __init__(self, problem: str, *, where: str = "") -> None:
        super().__init__(problem, where)
        self.problem = problem
        self.where = where

    def __str__(self) -> str:
        return f"{self.where}: {self.problem}" if self.where else self.problem

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild_malformed, (type(self), self.problem, self.where))


def _rebuild_malformed(cls: type[MalformedObject], problem: str, where: str) -> MalformedObject:
    return cls(problem, where=where)


class Unsupported(EbpfError, NotImplementedError):
    """This machine lacks something that was asked for.

    Args:
        feature: What is missing.
        reason: How that was found out.
        remedy: How to get it; empty when nothing is known.
    """

    def __init__(self, feature: str, reason: str, *, remedy: str = "") -> None:
        super().__init__(feature, reason, remedy)
        self.feature = feature
        self.reason = reason
        self.remedy = remedy

    def __str__(self) -> str:
        text = f"{self.feature} is not available: {self.reason}"
        return f"{text}. {self.remedy}" if self.remedy else text

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild_unsupported, (self.feature, self.reason, self.remedy))


def _rebuild_unsupported(feature: str, reason: str, remedy: str) -> Unsupported:
    return Unsupported(feature, reason, remedy=remedy)


class KernelRefused(EbpfError, OSError):
    """The kernel, or libbpf before it, refused an operation.

    Args:
        operation: What was tried, with the name of the program, map or link.
        errno: The error number, positive.
        hint: What usually causes that; empty when nothing is known.
        detail: What libbpf said, unchanged; for logs.
    """

    def __init__(self, operation: str, errno: int, *, hint: str = "", detail: str = "") -> None:
        super().__init__(errno, _strerror(errno))
        self.operation = operation
        self.hint = hint
        self.detail = detail

    def __str__(self) -> str:
        name = _errorcode.get(self.errno or 0, str(self.errno))
        text = f"{self.operation}: {self.strerror} ({name})"
        return f"{text}; {self.hint}" if self.hint else text

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild_refused, (self.operation, self.errno or 0, self.hint, self.detail))


def _rebuild_refused(operation: str, errno: int, hint: str, detail: str) -> KernelRefused:
    return KernelRefused(operation, errno, hint=hint, detail=detail)


class VerifierError(KernelRefused):
    """The kernel's verifier rejected a program.

    Args:
        program: Its name.
        errno: The error number, positive.
        reason: The verifier's sentence that says why.
        instruction: Index of the instruction it stopped at, or ``None``.
        source: The line of the source that belongs to it, ``"file.c:12: text"``; may be empty.
        hint: What usually causes that; empty when nothing is known.
        log: The whole log.
    """

    def __init__(
        self,
        program: str,
        errno: int,
        *,
        reason: str,
        instruction: int | None = None,
        source: str = "",
        hint: str = "",
        log: str = "",
    ) -> None:
        super().__init__(f"load {program}", errno, hint=hint)
        self.program = program
        self.reason = reason
        self.instruction = instruction
        self.source = source
        self.log = log

    def __str__(self) -> str:
        text = f"{self.program}: {self.reason}"
        if self.instruction is not None:
            text += f" (instruction {self.instruction})"
        if self.source:
            text += f"\n  at {self.source}"
        return f"{text}\n  hint: {self.hint}" if self.hint else text

    def __reduce__(self) -> tuple[object, ...]:
        fields = (self.reason, self.instruction, self.source, self.hint, self.log)
        return (_rebuild_verifier, (self.program, self.errno or 0, *fields))


def _rebuild_verifier(
    program: str,
    errno: int,
    reason: str,
    instruction: int | None,
    source: str,
    hint: str,
    log: str,
) -> VerifierError:
    return VerifierError(
        program,
        errno,
        reason=reason,
        instruction=instruction,
        source=source,
        hint=hint,
        log=log,
    )


class MapIncompatible(EbpfError, ValueError):
    """A map that exists already has another shape than the object wants.

    Args:
        name: The map.
        differences: What differs, one clause each.
    """

    def __init__(self, name: str, differences: Sequence[str]) -> None:
        super().__init__(name, tuple(differences))
        self.name = name
        self.differences = tuple(differences)

    def __str__(self) -> str:
        return f"map {self.name}: {'; '.join(self.differences)}"


class PolicyViolation(EbpfError, PermissionError):
    """An object does what its policy forbids; nothing of it was loaded.

    Args:
        violations: One clause each, with program and instruction.
    """

    def __init__(self, violations: Sequence[str]) -> None:
        super().__init__(tuple(violations))
        self.violations = tuple(violations)

    def __str__(self) -> str:
        return "; ".join(self.violations)


class SignatureInvalid(EbpfError, PermissionError):
    """A signature is missing, or no trusted key made it; nothing was loaded."""


class WorkerDied(HastackError, RuntimeError):
    """A worker process died, and so did those that were given its work again.

    Args:
        work: What it was working on.
        exit_status: How the last one ended; negative for a signal.
    """

    def __init__(self, work: str, exit_status: int) -> None:
        ended = f"signal {-exit_status}" if exit_status < 0 else f"exit status {exit_status}"
        super().__init__(f"worker process died ({ended}) with {work}")
        self.work = work
        self.exit_status = exit_status

    def __reduce__(self) -> tuple[object, ...]:
        return (WorkerDied, (self.work, self.exit_status))


class WasmError(HastackError):
    """The plugin host could not do what was asked."""


class InvalidModule(WasmError, ValueError):
    """Bytes are no WebAssembly module.

    Args:
        message: What is wrong with them.
        offset: At which byte.
    """

    def __init__(self, message: str, *, offset: int | None = None) -> None:
        super().__init__(message if offset is None else f"{message} (at byte {offset})")
        self.offset = offset


class ModuleRefused(WasmError):
    """A module asks for more than its limits allow; nothing of it was compiled.

    Args:
        reasons: Each limit that it exceeds, for people.
    """

    def __init__(self, reasons: Sequence[str]) -> None:
        super().__init__(tuple(reasons))
        self.reasons = tuple(reasons)

    def __str__(self) -> str:
        return f"module refused: {'; '.join(self.reasons)}"


class UnresolvedImports(WasmError, LookupError):
    """A module imports what nobody granted.

    Args:
        imports: Each of them, as ``module.name: type``.
    """

    def __init__(self, imports: Sequence[str]) -> None:
        super().__init__(tuple(imports))
        self.imports = tuple(imports)

    def __str__(self) -> str:
        return f"imports that were not granted: {', '.join(self.imports)}"


class CompileFailed(WasmError):
    """A module did not compile, or not within its time and memory."""


class NotTrusted(WasmError, PermissionError):
    """A module is not signed as the trust policy demands; nothing of it was compiled."""


class AuditBroken(WasmError):
    """An audit log is not what was written.

    Args:
        line: Number of the first line that shows it.
        message: What is wrong there.
    """

    def __init__(self, line: int, message: str) -> None:
        super().__init__(line, message)
        self.line = line
        self.message = message

    def __str__(self) -> str:
        return f"line {self.line}: {self.message}"


class PoolExhausted(WasmError):
    """All instances that a plugin may have are busy."""


class OutOfBounds(WasmError, IndexError):
    """A pointer and a length, from the guest or for it, lie outside of its memory.

    Args:
        pointer: Where it begins.
        length: How many bytes.
        size: Size of the memory in bytes.
    """

    def __init__(self, pointer: int, length: int, size: int) -> None:
        super().__init__(pointer, length, size)
        self.pointer = pointer
        self.length = length
        self.size = size

    def __str__(self) -> str:
        return f"{self.length} bytes at {self.pointer} lie outside of a memory of {self.size}"


class GuestFailed(WasmError, RuntimeError):
    """A guest says that it failed; the message is its own, and not to be trusted."""


class GuestExit(GuestFailed):
    """A guest ended itself with a status other than 0.

    Args:
        status: What it gave to ``proc_exit``.
    """

    def __init__(self, status: int) -> None:
        super().__init__(f"guest ended with status {status}")
        self.status = status

    def __reduce__(self) -> tuple[object, ...]:
        return (GuestExit, (self.status,))


class Trap(WasmError, RuntimeError):
    """A guest did what it may not; its instance is thrown away.

    Args:
        message: What WebAssembly calls it.
        code: Short name of the kind: ``"unreachable"``, ``"stack_overflow"``.
    """

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message, code)
        self.message = message
        self.code = code

    def __str__(self) -> str:
        return self.message


class GuestDeadline(Trap, TimeoutError):
    """A guest ran longer than its limit; the caller's own deadline had not passed."""


class OutOfFuel(Trap):
    """A guest used up the instructions that it may run in one call."""


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
