"""A concurrency limit that finds its own value."""

from __future__ import annotations

import threading
from math import inf
from typing import TYPE_CHECKING, Any

import attrs

from hastack import context
from hastack._core import _validate
from hastack._core._clock import SYSTEM_CLOCK
from hastack._core._errors import (
    Cancelled,
    ConcurrencyLimited,
    DeadlineExceeded,
    InvalidArgument,
    Rejected,
)
from hastack._core._fork import renew_in_child

from ._adaptive import AdaptiveCore
from ._adaptive_events import LIMIT_CHANGED, LimitChanged
from ._gradient import FAILURE, IGNORED, OVERLOAD, SUCCESS, GradientRules
from ._guard import Admission, Refusal, checked_name
from ._limit_events import REJECTED, RequestRejected
from ._permit import Permit
from ._waiters import WaitingRoom

if TYPE_CHECKING:
    from collections.abc import Hashable
    from datetime import timedelta

    from hastack.context import Context
    from hastack.typing import Clock

__all__ = ("AdaptiveLimit", "AdaptiveSnapshot")


@attrs.frozen(kw_only=True)
class AdaptiveSnapshot:
    """An adaptive limit at one moment.

    Attributes:
        name: Its name.
        limit: Calls that may be in flight.
        inflight: Calls in flight.
        waiting: Callers in line.
        latency: Mean latency in seconds of the last judged period; 0.0 before the first.
        baseline: Estimated latency in seconds without queueing; 0.0 while unknown.
        throughput: Successes per second in the last judged period.
        rate: Calls per second that the limit lets through at this latency; 0.0 while unknown.
    """

    name: str
    limit: int
    inflight: int
    waiting: int
    latency: float
    baseline: float
    throughput: float
    rate: float


class AdaptiveLimit(Admission):
    """Admits as many calls at once as the dependency can work on, and finds that number itself.

    The limit follows ``tolerance`` x throughput x latency without queueing (Little's law). It
    grows while more calls in flight bring more throughput and shrinks when they only bring
    latency. One bad period is held, two in a row are a reason to cut; a cut that does not bring
    the latency down is taken back, because then load was not the reason. To keep the baseline
    from following a long overload, the limit dips a little below the estimated knee for some
    round trips every few seconds; it never drops to a minimum to take measure.

    The gradient of latencies comes from Netflix's concurrency-limits and Envoy's adaptive
    concurrency filter, the question of whether throughput follows from failsafe-go; dips and cuts
    as experiments are hastack's own.

    Args:
        min_limit: The limit never goes below.
        max_limit: Nor above.
        initial: The limit to begin with.
        tolerance: Mean latency to aim at, as a multiple of the latency without queueing. More
            gives bursts more room, less keeps the tail shorter.
        max_healthy_latency: Seconds above which a mean latency is never taken for normal,
            however long it lasts; ``None`` trusts the measurements.
        overload: Class or classes of errors that tell of congestion, besides a cancellation by
            the context's deadline. Other errors count neither as fast nor as slow; while more
            than one call in twenty fails, the limit does not grow.
        period: Shortest time in seconds over which calls are judged together.
        min_samples: Fewest calls to judge by. A period lasts until both are reached and the mean
            latency is known well enough.
        max_wait: Longest time in seconds that a call waits for a place; 0.0 refuses at once.
        max_waiting: Most callers in line; the next one is refused.
        name: Appears in errors and events; default: the class name.
        clock: Source of time.

    Raises:
        InvalidArgument: A setting is out of its range.

    Example:
        >>> from hastack.ratelimit import AdaptiveLimit
        >>> limit = AdaptiveLimit(initial=2)
        >>> with limit:
        ...     limit.inflight
        1
        >>> first, second, third = (limit.try_acquire() for _ in range(3))
        >>> bool(second), bool(third)
        (True, False)
        >>> first.success(); second.failure(TimeoutError())
        >>> limit.inflight
        0
    """

    _settles = True

    def __init__(
        self,
        *,
        min_limit: int = 1,
        max_limit: int = 1000,
        initial: int = 20,
        tolerance: float = 1.5,
        max_healthy_latency: float | timedelta | None = None,
        overload: type[BaseException] | tuple[type[BaseException], ...] = TimeoutError,
        period: float | timedelta = 0.25,
        min_samples: int = 40,
        max_wait: float | timedelta = 0.0,
        max_waiting: int = 100,
        name: str | None = None,
        clock: Clock | None = None,
    ) -> None:
        _validate.integer("min_limit", min_limit)
        _validate.integer("max_limit", max_limit, minimum=min_limit)
        if _validate.integer("initial", initial, minimum=min_limit) > max_limit:
            raise InvalidArgument("initial", initial, f"at most max_limit={max_limit}")
        healthy = _validate.optional_seconds("max_healthy_latency", max_healthy_latency)
        rules = GradientRules(
            min_limit=min_limit,
            max_limit=max_limit,
            initial=initial,
            tolerance=_validate.number(
                "tolerance", tolerance, "a number in (1, 10]", valid=lambda v: 1.0 < v <= 10.0
            ),
            max_healthy_latency=inf if healthy is None else healthy,
            period=_validate.seconds("period", period),
            min_samples=_validate.integer("min_samples", min_samples, minimum=10),
        )
        self.name = checked_name(self, name)
        self._clock = SYSTEM_CLOCK if clock is None else clock
        self._overload = _classes(overload)
        self._max_wait = _validate.seconds("max_wait", max_wait, zero=True)
        self._waits = self._max_wait > 0.0
        self._lock = threading.RLock()
        self._core = AdaptiveCore(rules, self._clock.monotonic())
        self._room = WaitingRoom(
            self._core,
            name=self.name,
            clock=self._clock,
            lock=self._lock,
            max_waiting=_validate.integer("max_waiting", max_waiting),
            refuse=self._refuse,
            freed=_nothing,
        )
        renew_in_child(self)

    @property
    def limit(self) -> int:
        """Calls that may be in flight now."""
        return self._core.controller.limit

    @property
    def inflight(self) -> int:
        """Calls in flight now."""
        return self._core.inflight

    @property
    def rate(self) -> float:
        """Calls per second that the limit lets through at the present latency; 0.0 if unknown."""
        controller = self._core.controller
        return controller.limit / controller.latency if controller.latency else 0.0

    def try_acquire(self) -> Permit:
        """Ask for one place; never waits and never raises. The permit wants a report."""
        with self._lock:
            admitted = self._core.admit()
        if admitted:
            return Permit(self, (self._core.epoch, self._clock.monotonic()), 0.0)
        return Permit(self, None, self._refused("limited"))

    def acquire(
        self, *, timeout: float | timedelta | None = None, ctx: Context | None = None
    ) -> Permit:
        """Ask for one place, blocking this thread until there is one.

        Args:
            timeout: Longest wait in seconds; ``None`` waits for as long as the context lasts.
            ctx: The context to honour; default: the current one.

        Raises:
            ConcurrencyLimited: No place became free in time, or the line is full.
            ContextError: The context ended while waiting.
        """
        limit = _validate.optional_seconds("timeout", timeout, zero=True)
        return Permit(self, self._wait(limit, ctx), 0.0)

    async def acquire_async(
        self,
        *,
        timeout: float | timedelta | None = None,  # the same face as acquire
        ctx: Context | None = None,
    ) -> Permit:
        """`acquire` for a task: suspends it instead of blocking the thread."""
        limit = _validate.optional_seconds("timeout", timeout, zero=True)
        return Permit(self, await self._wait_async(limit, ctx), 0.0)

    def snapshot(self) -> AdaptiveSnapshot:
        """The limit and what it is made of, at this moment."""
        with self._lock:
            controller = self._core.controller
            return AdaptiveSnapshot(
                name=self.name,
                limit=controller.limit,
                inflight=self._core.inflight,
                waiting=len(self._room),
                latency=controller.latency,
                baseline=controller.baseline,
                throughput=controller.throughput,
                rate=self.rate,
            )

    def __repr__(self) -> str:
        return f"<AdaptiveLimit {self.name!r} {self.inflight}/{self.limit}>"

    # -- guarding -------------------------------------------------------------------------

    def _admit(
        self, now: float, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[int, float]:
        core = self._core
        # Half the cost of a with statement, which this path and `_leave` feel.
        self._lock.acquire()
        try:
            admitted = core.admit()
        finally:
            self._lock.release()
        if not admitted:
            raise self._refuse(None, 1.0, "limited", None)
        return core.epoch, now

    def _decide(
        self, now: float, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Any, Refusal | None]:
        core = self._core
        with self._lock:
            admitted = core.admit()
        if not admitted:
            return None, Refusal(None, 1.0, "limited", core.controller.latency or None)
        return (core.epoch, now), None

    def _try_quietly(self) -> tuple[Permit, Refusal | None]:
        permit, refusal = self._decide(self._clock.monotonic(), (), {})
        return (Permit.passed(self) if refusal else Permit(self, permit, 0.0)), refusal

    def _admit_waiting(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[int, float]:
        return self._wait(self._max_wait, None)

    async def _admit_waiting_async(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[int, float]:
        return await self._wait_async(self._max_wait, None)

    def _settle(
        self, permit: tuple[int, float], now: float, error: BaseException | None, result: Any
    ) -> None:
        outcome = SUCCESS if error is None else self._judge(error, now - permit[1])
        self._leave(permit, now, outcome)

    def _fail(self, permit: tuple[int, float], now: float) -> None:
        self._leave(permit, now, FAILURE)

    def _release(self, permit: tuple[int, float], now: float) -> None:
        self._leave(permit, now, IGNORED)

    def _adopt(self, fresh: Any) -> None:
        with self._lock:
            self._core.controller.follow(fresh._core.controller.rules)
            if self._waits is fresh._waits:
                self._max_wait = fresh._max_wait
            self._room._max_waiting = fresh._room._max_waiting
        self._room.serve_all()

    # -- inside ---------------------------------------------------------------------------

    def _wait(self, timeout: float | None, ctx: Context | None) -> tuple[int, float]:
        with self._lock:
            admitted = self._core.admit()
        if not admitted:
            self._room.wait(None, 1.0, timeout, context.current() if ctx is None else ctx)
        return self._core.epoch, self._clock.monotonic()

    async def _wait_async(self, limit: float | None, ctx: Context | None) -> tuple[int, float]:
        with self._lock:
            admitted = self._core.admit()
        if not admitted:
            now_ctx = context.current() if ctx is None else ctx
            await self._room.wait_async(None, 1.0, limit, now_ctx)
        return self._core.epoch, self._clock.monotonic()

    def _leave(self, permit: tuple[int, float], now: float, outcome: int) -> None:
        core = self._core
        controller = core.controller
        epoch, started = permit
        self._lock.acquire()
        try:
            before = controller.limit
            core.leave(epoch, started, now, outcome)
            after = controller.limit
            line = core.waiting
        finally:
            self._lock.release()
        if line:
            self._room.serve(None)
        if before != after and LIMIT_CHANGED.subscribers:
            LIMIT_CHANGED.publish(
                LimitChanged(
                    at=now,
                    name=self.name,
                    old=before,
                    new=after,
                    latency=core.controller.latency,
                    baseline=core.controller.baseline,
                )
            )

    def _judge(self, error: BaseException, latency: float) -> int:
        if isinstance(error, Rejected):
            return IGNORED  # a guard further in: the dependency was not asked
        if isinstance(error, self._overload):
            return OVERLOAD
        if isinstance(error, Exception) and not isinstance(error, Cancelled):
            return FAILURE
        if isinstance(error, (KeyboardInterrupt, SystemExit, GeneratorExit)):
            return IGNORED
        if isinstance(context.current().err(), DeadlineExceeded):
            return OVERLOAD
        # Given up by the caller. That it had taken that long already is known all the same.
        baseline = self._core.controller.baseline
        return OVERLOAD if baseline and latency > 4.0 * baseline else IGNORED

    def _refuse(
        self, key: Hashable, cost: float, reason: str, retry_after: float | None
    ) -> ConcurrencyLimited:
        text = None if reason == "limited" else f"concurrency limit reached ({reason})"
        return ConcurrencyLimited(self.name, retry_after=self._refused(reason), reason=text)

    def _refused(self, reason: str) -> float | None:
        """Report a refused call; seconds until the calls now in flight will have made room."""
        retry_after = self._core.controller.latency or None
        if REJECTED.subscribers:
            REJECTED.publish(
                RequestRejected(
                    at=self._clock.monotonic(),
                    name=self.name,
                    key=None,
                    cost=1.0,
                    reason=reason,
                    retry_after=retry_after,
                )
            )
        return retry_after

    def _after_fork(self) -> None:
        self._lock = threading.RLock()
        self._core.forget_callers()
        self._room.after_fork(self._lock)


def _nothing() -> None:
    """A place that came back goes to the next in line; nobody else has to know."""


def _classes(value: object) -> tuple[type[BaseException], ...]:
    given: tuple[object, ...] = value if isinstance(value, tuple) else (value,)
    classes = tuple(c for c in given if isinstance(c, type) and issubclass(c, BaseException))
    if len(classes) != len(given):
        raise InvalidArgument("overload", value, "an exception class or a tuple of them")
    return classes
