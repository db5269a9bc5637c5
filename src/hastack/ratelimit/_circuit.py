"""The circuit breaker as a guard."""

from __future__ import annotations

import random
import threading
from math import inf
from typing import TYPE_CHECKING, Any

import attrs

from hastack import context
from hastack._core import _validate
from hastack._core._clock import SYSTEM_CLOCK
from hastack._core._errors import CircuitOpen, DeadlineExceeded, InvalidArgument
from hastack._core._fork import renew_in_child

from ._breaker import FAILURE, IGNORED, BreakerCore, BreakerRules, BreakerState, Signal
from ._breaker_events import BREAKER_CHANGED, BreakerChanged
from ._breaker_gate import Gate, Verdicts
from ._guard import Admission, Refusal, checked_name
from ._limit_events import REJECTED, RequestRejected
from ._outcome_window import TimeWindow
from ._permit import Permit

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta

    from hastack.typing import Clock

    from ._breaker import Change
    from ._outcome_window import Epoch

__all__ = ("BreakerSnapshot", "CircuitBreaker")

DEFAULT_WINDOW = 10.0


@attrs.frozen(kw_only=True)
class BreakerSnapshot:
    """A circuit breaker at one moment.

    Attributes:
        name: Name of the breaker.
        state: Its state.
        generation: Grows by one with each change of the state.
        calls: Calls in the window; while half-open, probes that reported.
        failures: Failed ones among them.
        slow: Slow ones among them.
        probes_in_flight: Half-open probes that have not reported yet.
        opened_in_row: Openings since the last healthy close; drives the exponential open time.
        retry_after: Seconds until the open time is over; ``None`` when not open.
    """

    name: str
    state: BreakerState
    generation: int
    calls: int
    failures: int
    slow: int
    probes_in_flight: int
    opened_in_row: int
    retry_after: float | None

    @property
    def failure_rate(self) -> float:
        """Share of failures among ``calls``; 0.0 without calls."""
        return self.failures / self.calls if self.calls else 0.0

    @property
    def slow_rate(self) -> float:
        """Share of slow calls among ``calls``; 0.0 without calls."""
        return self.slow / self.calls if self.calls else 0.0


class CircuitBreaker(Admission):
    """Stops calling a dependency that fails, and finds out carefully when it is well again.

    Closed, it counts outcomes. When the failure rate or the slow-call rate of the window is
    reached it opens and refuses calls with `CircuitOpen`. After the open time it is half-open: a
    few probes pass, and their outcomes close it or open it again for longer.

    Neither admitting nor settling a call takes a lock while the breaker is closed and the call
    succeeds, and no code of yours ever runs under one. A result that comes in after the breaker
    changed its state changes nothing. After Michael Nygard, *Release It!*; the rates, states and
    the probe quota follow resilience4j's vocabulary.

    Args:
        failure_rate: Share of failures in the window at which the breaker opens, in (0, 1].
        window: Length of the window in seconds; 10.0 unless ``window_calls`` is given. It moves
            on in tenths.
        window_calls: Look at this many last calls instead of a length of time.
        min_calls: Fewer calls than this in the window decide nothing.
        slow_call: A call that took longer than this many seconds is slow; ``None`` turns the
            slow-call rate off. A slow probe counts as failed. A call that its caller cancels
            after this time counts as slow, earlier as nothing.
        slow_rate: Share of slow calls in the window at which the breaker opens.
        open_for: First open time in seconds.
        open_factor: Each further opening lasts this many times longer, until the breaker has
            stayed closed for at least as long as it had been open.
        open_max: Upper bound of the open time in seconds, before jitter.
        jitter: The open time is varied by up to this share, so that a fleet does not probe
            in step.
        half_open_calls: Quota of probes: never more are in flight or counted while half-open.
        half_open_success: Share of the probes that must succeed to close the breaker.
        half_open_timeout: A probe that has not reported after this many seconds counts as
            failed, so that half-open always ends.
        failures: Class or classes of errors that count as failures, or a predicate on the error.
            Other errors count as successes: the dependency answered. A predicate that raises
            counts as a failure and is reported once, to the logger ``hastack.ratelimit``.
        ignore: Class or classes of errors that count as nothing. Cancellation, `GeneratorExit`,
            `KeyboardInterrupt`, `SystemExit` and `Rejected` (a guard further in refused) always
            do; a cancellation because the context's deadline passed is a failure.
        result_failure: Predicate that says whether a returned value is a failure.
        name: Appears in errors and events; default: the class name.
        clock: Source of time.
        rng: Source of numbers in [0, 1) for the jitter.

    Raises:
        InvalidArgument: A setting is out of its range.

    Example:
        >>> from hastack.ratelimit import CircuitBreaker
        >>> from hastack.testing import ManualClock
        >>> clock = ManualClock()
        >>> db = CircuitBreaker(min_calls=2, open_for=5.0, jitter=0.0, clock=clock)
        >>> for _ in range(2):
        ...     db.try_acquire().failure()
        >>> db.state.value, db.try_acquire().retry_after
        ('open', 5.0)
        >>> clock.advance(5.0)
        >>> probe = db.try_acquire()
        >>> db.state.value, bool(probe)
        ('half-open', True)
        >>> probe.success()
        >>> db.state.value
        'closed'
    """

    _settles = True

    def __init__(
        self,
        *,
        failure_rate: float = 0.5,
        window: float | timedelta | None = None,
        window_calls: int | None = None,
        min_calls: int = 20,
        slow_call: float | timedelta | None = None,
        slow_rate: float = 0.5,
        open_for: float | timedelta = 5.0,
        open_factor: float = 2.0,
        open_max: float | timedelta = 60.0,
        jitter: float = 0.1,
        half_open_calls: int = 1,
        half_open_success: float = 1.0,
        half_open_timeout: float | timedelta = 30.0,
        failures: (
            type[BaseException]
            | tuple[type[BaseException], ...]
            | Callable[[BaseException], object]
        ) = Exception,
        ignore: type[BaseException] | tuple[type[BaseException], ...] = (),
        result_failure: Callable[[Any], object] | None = None,
        name: str | None = None,
        clock: Clock = SYSTEM_CLOCK,
        rng: Callable[[], float] = random.random,
    ) -> None:
        if window is not None and window_calls is not None:
            raise InvalidArgument("window_calls", window_calls, "None when window is given")
        rules = BreakerRules(
            failure_rate=_validate.fraction("failure_rate", failure_rate),
            slow_rate=_validate.fraction("slow_rate", slow_rate),
            slow_call=inf if slow_call is None else _validate.seconds("slow_call", slow_call),
            window=_validate.seconds("window", DEFAULT_WINDOW if window is None else window),
            window_calls=(
                0 if window_calls is None else _validate.integer("window_calls", window_calls)
            ),
            min_calls=_validate.integer("min_calls", min_calls),
            open_for=_validate.seconds("open_for", open_for),
            open_factor=_validate.number(
                "open_factor", open_factor, "a finite number >= 1", valid=lambda v: v >= 1.0
            ),
            open_max=_validate.seconds("open_max", open_max),
            jitter=_validate.number(
                "jitter", jitter, "a fraction in [0, 1)", valid=lambda v: 0.0 <= v < 1.0
            ),
            half_open_calls=_validate.integer("half_open_calls", half_open_calls),
            half_open_success=_validate.fraction("half_open_success", half_open_success),
            half_open_timeout=_validate.seconds("half_open_timeout", half_open_timeout),
        )
        if window_calls is not None and min_calls > window_calls:
            raise InvalidArgument("min_calls", min_calls, f"at most window_calls={window_calls}")
        if rules.open_max < rules.open_for:
            raise InvalidArgument("open_max", open_max, f"at least open_for={rules.open_for}")
        self.name = checked_name(self, name)
        self._clock = clock
        self._reported: list[object] = []
        self._lock = threading.Lock()
        core = BreakerCore(rules, rng, clock.monotonic())
        self._gate = Gate(
            core,
            _verdicts(failures, ignore, result_failure, self._report),
            self._lock,
            self._announce,
            self._refuse,
        )
        # The gate's methods have the protocol's signatures: plans call them without a detour.
        vars(self)["_admit"] = self._gate.admit
        vars(self)["_settle"] = self._gate.settle
        renew_in_child(self)

    @property
    def state(self) -> BreakerState:
        """The state now. An open breaker stays open until the first call after its open time."""
        return self._gate.core.state

    def try_acquire(self) -> Permit:
        """Ask for one call; never waits and never raises."""
        now = self._clock.monotonic()
        epoch = self._gate.request(now)
        if epoch is None:
            return Permit(self, None, self._refused(now))
        return Permit(self, (epoch, now), 0.0)

    def acquire(self) -> Permit:
        """Like `try_acquire`, but raise when refused.

        Raises:
            CircuitOpen: The breaker is open, or half-open with all probes taken.
        """
        permit = self.try_acquire()
        if not permit.allowed:
            raise CircuitOpen(self.name, retry_after=permit.retry_after)
        return permit

    def force_open(self) -> None:
        """Refuse every call until `enable`, `reset` or another mode."""
        self._gate.fire(Signal.FORCE_OPEN, self._clock.monotonic())

    def disable(self) -> None:
        """Let every call pass and count nothing until `enable`, `reset` or another mode."""
        self._gate.fire(Signal.DISABLE, self._clock.monotonic())

    def observe_only(self) -> None:
        """Let every call pass and count it; report openings as events only."""
        self._gate.fire(Signal.OBSERVE_ONLY, self._clock.monotonic())

    def enable(self) -> None:
        """End `force_open`, `disable` or `observe_only`: closed, with an empty window."""
        self._gate.fire(Signal.ENABLE, self._clock.monotonic())

    def reset(self) -> None:
        """Close and forget everything, from whatever state."""
        self._gate.fire(Signal.RESET, self._clock.monotonic())

    def snapshot(self) -> BreakerSnapshot:
        """State, counts and rates at this moment."""
        now = self._clock.monotonic()
        with self._lock:
            core = self._gate.core
            if core.epoch is not None:
                core.epoch.look(now)
            calls, failures, slow = core.counts()
            return BreakerSnapshot(
                name=self.name,
                state=core.state,
                generation=core.generation,
                calls=calls,
                failures=failures,
                slow=slow,
                probes_in_flight=len(core.probes),
                opened_in_row=core.opened_in_row,
                retry_after=core.retry_after(now),
            )

    def __repr__(self) -> str:
        return f"<CircuitBreaker {self.name!r} {self.state.value}>"

    def _admit(self, now: float, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return self._gate.admit(now, args, kwargs)

    def _settle(self, permit: Any, now: float, error: BaseException | None, result: Any) -> None:
        self._gate.settle(permit, now, error, result)

    def _decide(
        self, now: float, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Any, Refusal | None]:
        epoch = self._gate.request(now)
        if epoch is None:
            return None, Refusal(None, 1.0, "circuit open", self._gate.core.retry_after(now))
        return (epoch, now), None

    def _try_quietly(self) -> tuple[Permit, Refusal | None]:
        permit, refusal = self._decide(self._clock.monotonic(), (), {})
        return (Permit.passed(self) if refusal else Permit(self, permit, 0.0)), refusal

    def _adopt(self, fresh: Any) -> None:
        rules: BreakerRules = fresh._gate.core.rules
        with self._lock:
            core = self._gate.core
            # Its window is what counts now; one of another size would have to begin empty.
            rules.window, rules.window_calls = core.rules.window, core.rules.window_calls
            core.rules = rules
            self._gate.slow_call = rules.slow_call
            if isinstance(core.epoch, TimeWindow):
                core.epoch.min_calls = rules.min_calls
                core.epoch.calm_until = -inf  # looks again at the next call

    def _fail(self, permit: tuple[Epoch, float], now: float) -> None:
        self._gate.record(*permit, now, FAILURE)

    def _release(self, permit: tuple[Epoch, float], now: float) -> None:
        self._gate.record(*permit, now, IGNORED)

    def _refuse(self, now: float) -> CircuitOpen:
        """The error for a refused call, which is reported."""
        return CircuitOpen(self.name, retry_after=self._refused(now))

    def _refused(self, now: float) -> float | None:
        """Report a refused call; seconds until it may be tried again."""
        retry_after = self._gate.core.retry_after(now)
        if REJECTED.subscribers:
            REJECTED.publish(
                RequestRejected(
                    at=now,
                    name=self.name,
                    key=None,
                    cost=1.0,
                    reason="circuit open",
                    retry_after=retry_after,
                )
            )
        return retry_after

    def _announce(self, change: Change, now: float) -> None:
        if BREAKER_CHANGED.subscribers:
            BREAKER_CHANGED.publish(
                BreakerChanged(
                    at=now,
                    name=self.name,
                    old=change.old,
                    new=change.new,
                    reason=change.signal.value,
                    generation=change.generation,
                    calls=change.calls,
                    failures=change.failures,
                    slow=change.slow,
                )
            )

    def _report(self, predicate: object, error: Exception) -> None:
        """Say once that a predicate of the user raised; its outcome counted as a failure."""
        if any(each is predicate for each in self._reported):
            return
        self._reported.append(predicate)
        import logging

        logging.getLogger("hastack.ratelimit").error(
            "%s: predicate %r raised; its calls count as failures (reported once)",
            self.name,
            predicate,
            exc_info=error,
        )

    def _after_fork(self) -> None:
        interrupted = self._lock.locked()
        self._lock = self._gate.lock = threading.Lock()
        core = self._gate.core
        core.forget_callers()
        if interrupted and core.state not in {BreakerState.FORCED_OPEN, BreakerState.DISABLED}:
            # A thread of the parent was inside a step that will never end in this copy.
            core.fire(Signal.RESET, self._clock.monotonic())


def _verdicts(
    failures: object,
    ignore: object,
    result_failure: Callable[[Any], object] | None,
    report: Callable[[object, Exception], None],
) -> Verdicts:
    if result_failure is not None and not callable(result_failure):
        raise InvalidArgument("result_failure", result_failure, "a callable, or None")
    ignored = _classes("ignore", ignore)
    if callable(failures) and not isinstance(failures, type):
        return Verdicts((), failures, ignored, result_failure, report, _overdue)
    classes = _classes("failures", failures)
    return Verdicts(classes, None, ignored, result_failure, report, _overdue)


def _overdue() -> bool:
    return isinstance(context.current().err(), DeadlineExceeded)


def _classes(parameter: str, value: object) -> tuple[type[BaseException], ...]:
    given: tuple[object, ...] = value if isinstance(value, tuple) else (value,)
    classes = tuple(c for c in given if isinstance(c, type) and issubclass(c, BaseException))
    if len(classes) != len(given):
        accepted = "an exception class or a tuple of them"
        if parameter == "failures":
            accepted += ", or a predicate"
        raise InvalidArgument(parameter, value, accepted)
    return classes
