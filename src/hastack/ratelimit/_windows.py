"""Limits over a window of time: exact log, slotted counter, fixed window."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

from hastack._core._clock import SYSTEM_CLOCK
from hastack._core._errors import InvalidArgument
from hastack._core._validate import integer, seconds

from ._guard import checked_name
from ._limiter import RateLimiter, full_table
from ._quota import Quota, to_quota
from ._state_core import StateCore
from ._window_counter import WindowCounter
from ._window_fixed import WindowFixed
from ._window_log import WindowLimit, WindowLog

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from hastack._core._validate import Seconds
    from hastack.typing import Clock

    from ._limiter import WhenFull
    from ._quota import QuotaLike
    from ._state_core import KeyState

_MINUTE = 60.0
_MOST_SLOTS = 10_000


class _Window(RateLimiter):
    """What the three have in common."""

    _state: Callable[[WindowLimit], KeyState]

    def __init__(
        self,
        limit: QuotaLike,
        *,
        window: Seconds | None = None,
        key: Callable[..., Hashable] | None = None,
        cost: float | Callable[..., float] = 1.0,
        name: str | None = None,
        max_wait: Seconds | None = 0.0,
        max_waiting: int = 10_000,
        max_keys: int = 100_000,
        when_full: WhenFull = "reject",
        clock: Clock | None = None,
    ) -> None:
        self._limit = _window_limit(limit, window)
        core = StateCore(
            checked_name(self, name),
            self._limit,
            type(self)._state,
            max_keys=integer("max_keys", max_keys),
            admit_when_full=full_table("when_full", when_full),
            monotonic=(SYSTEM_CLOCK if clock is None else clock).monotonic,
        )
        super().__init__(
            core,
            name=name,
            key=key,
            cost=cost,
            max_wait=max_wait,
            max_waiting=max_waiting,
            clock=clock,
        )

    @property
    def limit(self) -> float:
        """Permits per window."""
        return self._limit.permits

    @property
    def window(self) -> float:
        """Length of the window in seconds."""
        return self._limit.length

    def update(self, *, limit: QuotaLike) -> None:
        """Change the limit live; what was counted stays counted.

        Args:
            limit: Permits per window as it is, or a quota that also sets a new window.
        """
        window = None if isinstance(limit, (str, Quota)) else self._limit.length
        new = _window_limit(limit, window)
        with self._lock:
            self._check_window(new)
            self._limit.permits = new.permits
            self._limit.length = new.length
        self._changed()

    def _adopt(self, fresh: Any) -> None:
        super()._adopt(fresh)
        self.update(limit=Quota(fresh.limit, fresh.window))

    def _check_window(self, new: WindowLimit) -> None:
        """Raise when this limiter cannot do with that window."""


@final
class SlidingWindowLog(_Window):
    """At most ``limit`` permits in any window, exactly, by remembering each admission.

    Memory per key grows with the limit: up to ``limit`` entries of about 130 bytes. Where that
    is too much, `SlidingWindowCounter` holds the same promise with a coarser memory.

    Args:
        limit: A quota such as ``"100/min"``, or a number of permits per ``window``.
        window: Length in seconds, with a plain number only; default 60.
        key: See `TokenBucket`, as for all that follow.
        cost: Permits that one guarded call takes.
        name: Appears in errors and events.
        max_wait: Longest time in seconds that a decorated call waits.
        max_waiting: Most callers in the queue of one key.
        max_keys: Most keys in memory.
        when_full: What happens to a new key when all ``max_keys`` are in use.
        clock: Source of time.

    Raises:
        InvalidArgument: An argument is outside of its range.

    Example:
        >>> from hastack import ratelimit
        >>> logins = ratelimit.SlidingWindowLog("3 per 10 minutes", key=lambda user: user)
        >>> [bool(logins.try_acquire("ada")) for _ in range(4)]
        [True, True, True, False]
    """

    _state = WindowLog


@final
class SlidingWindowCounter(_Window):
    """At most ``limit`` permits in any window, counted in slots with an exact running total.

    A slot counts for as long as any part of it lies in the window. So no window, aligned or not,
    holds more than the limit, and permits come back at most one slot later than they could. (The
    well-known two-counter estimate may let more through.) Memory per key: at most
    ``min(limit, window / slot + 1)`` entries.

    Args:
        limit: A quota such as ``"6000/min"``, or a number of permits per ``window``.
        window: Length in seconds, with a plain number only; default 60.
        slot: Length of a slot in seconds, at most the window and at least a 10,000th of it.
        key: See `TokenBucket`, as for all that follow.
        cost: Permits that one guarded call takes.
        name: Appears in errors and events.
        max_wait: Longest time in seconds that a decorated call waits.
        max_waiting: Most callers in the queue of one key.
        max_keys: Most keys in memory.
        when_full: What happens to a new key when all ``max_keys`` are in use.
        clock: Source of time.

    Raises:
        InvalidArgument: An argument is outside of its range.

    Example:
        >>> from hastack import ratelimit
        >>> api = ratelimit.SlidingWindowCounter(100)  # per minute
        >>> sum(bool(api.try_acquire()) for _ in range(150))
        100
    """

    _state = WindowCounter

    def __init__(
        self,
        limit: QuotaLike,
        *,
        window: Seconds | None = None,
        slot: Seconds = 0.1,
        key: Callable[..., Hashable] | None = None,
        cost: float | Callable[..., float] = 1.0,
        name: str | None = None,
        max_wait: Seconds | None = 0.0,
        max_waiting: int = 10_000,
        max_keys: int = 100_000,
        when_full: WhenFull = "reject",
        clock: Clock | None = None,
    ) -> None:
        super().__init__(
            limit,
            window=window,
            key=key,
            cost=cost,
            name=name,
            max_wait=max_wait,
            max_waiting=max_waiting,
            max_keys=max_keys,
            when_full=when_full,
            clock=clock,
        )
        self._limit.slot = seconds("slot", slot)
        self._check_window(self._limit)

    @property
    def slot(self) -> float:
        """Length of a slot in seconds."""
        return self._limit.slot

    def _check_window(self, new: WindowLimit) -> None:
        slot = self._limit.slot
        if not new.length / _MOST_SLOTS <= slot <= new.length:
            accepted = f"seconds from {new.length / _MOST_SLOTS:g} to {new.length:g}, the window"
            raise InvalidArgument("slot", slot, accepted)


@final
class FixedWindow(_Window):
    """At most ``limit`` permits between two multiples of the window on the clock.

    The cheapest rule and the one that contracts are written in, but up to twice the limit may
    pass within one window's time around a boundary. Memory per key: two numbers.

    Args:
        limit: A quota such as ``"1000/h"``, or a number of permits per ``window``.
        window: Length in seconds, with a plain number only; default 60.
        key: See `TokenBucket`, as for all that follow.
        cost: Permits that one guarded call takes.
        name: Appears in errors and events.
        max_wait: Longest time in seconds that a decorated call waits.
        max_waiting: Most callers in the queue of one key.
        max_keys: Most keys in memory.
        when_full: What happens to a new key when all ``max_keys`` are in use.
        clock: Source of time.

    Raises:
        InvalidArgument: An argument is outside of its range.

    Example:
        >>> from hastack import ratelimit
        >>> from hastack.testing import ManualClock
        >>> clock = ManualClock(start=5.0)
        >>> quota = ratelimit.FixedWindow("2/10s", clock=clock)
        >>> [bool(quota.try_acquire()) for _ in range(3)]
        [True, True, False]
        >>> quota.peek().retry_after
        5.0
    """

    _state = WindowFixed


def _window_limit(limit: QuotaLike, window: Seconds | None) -> WindowLimit:
    if isinstance(limit, (str, Quota)):
        if window is not None:
            raise InvalidArgument("window", window, "nothing beside a quota, which has its own")
        quota = to_quota("limit", limit)
        return WindowLimit(_whole(quota.permits, limit), quota.per)
    length = _MINUTE if window is None else seconds("window", window)
    return WindowLimit(_whole(limit, limit), length)


def _whole(permits: object, given: object) -> float:
    """At least one permit: with less, no call could ever pass."""
    if isinstance(permits, bool) or not isinstance(permits, (int, float)):
        raise InvalidArgument("limit", given, "a quota or a number of permits >= 1")
    if not 1.0 <= permits < float("inf"):
        raise InvalidArgument("limit", given, "a quota or a number of permits >= 1")
    return float(permits)
