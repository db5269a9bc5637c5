"""The token bucket: a steady rate with room for bursts."""

from __future__ import annotations

import sys
from types import FunctionType
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, final

from hastack._core._clock import SYSTEM_CLOCK
from hastack._core._errors import InvalidArgument
from hastack._core._validate import integer, number, seconds

from ._gcra import Gcra
from ._guard import checked_name
from ._limiter import RateLimiter, WhenFull, full_table
from ._quota import to_quota

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from hastack._core._validate import Seconds
    from hastack.typing import Clock

    from ._quota import QuotaLike

# Whether a call of the compiled core is one step for all other threads; see `Gcra`. Before
# Python 3.12 the garbage collector may run Python code inside of it.
_ATOMIC = (
    not isinstance(Gcra.take, FunctionType)
    and sys.version_info >= (3, 12)
    and getattr(sys, "_is_gil_enabled", lambda: True)()
)

Start: TypeAlias = Literal["full", "empty", "warm-up"]


@final
class TokenBucket(RateLimiter):
    """At most ``burst`` calls at once and ``rate`` per second in the long run, per key.

    In any window of ``w`` seconds at most ``burst + rate * w`` permits are given out. The
    algorithm is GCRA (ITU-T I.371), which keeps one number per key: about 170 bytes with its
    slot in the table, so ``max_keys`` bounds memory.

    Args:
        rate: A quota such as ``"100/s"`` or ``"5000 per hour"``, a `Quota`, or permits per second.
        burst: Size of the bucket in permits, at least 1; default: the quota's permits.
        key: From the arguments of the guarded call, whose bucket it draws on. Default: one bucket
            for all.
        cost: Permits that one guarded call takes, or a function of its arguments.
        name: Appears in errors and events; default: the class name.
        max_wait: Longest time in seconds that a decorated call or a ``with`` block waits for its
            permits; 0 refuses at once, ``None`` waits until the context's deadline.
        max_waiting: Most callers in the queue of one key; the next one is refused.
        max_keys: Most keys in memory. Keys whose bucket is full again make room for new ones.
        when_full: What happens to a new key when all ``max_keys`` are in use: ``"reject"`` keeps
            the limit, ``"admit"`` lets the call through uncounted. `stats` counts both.
        start: What a new limiter gives: ``"full"`` buckets; ``"empty"`` ones, so that a restart is
            no way around the limit; ``"warm-up"``: empty, and the rate grows from a third to its
            full value over ``warm_up`` seconds, for callees with cold caches.
        warm_up: Seconds of warming up; only with ``start="warm-up"``.
        clock: Source of time.

    Raises:
        InvalidArgument: An argument is outside of its range.

    Example:
        >>> from hastack import ratelimit
        >>> from hastack.testing import ManualClock
        >>> clock = ManualClock()
        >>> api = ratelimit.TokenBucket("10/s", burst=2, clock=clock)
        >>> [bool(api.try_acquire("ada")) for _ in range(3)]
        [True, True, False]
        >>> round(api.try_acquire("ada").retry_after, 3)
        0.1
        >>> clock.advance(0.1); bool(api.try_acquire("ada"))
        True
    """

    def __init__(
        self,
        rate: QuotaLike,
        *,
        burst: float | None = None,
        key: Callable[..., Hashable] | None = None,
        cost: float | Callable[..., float] = 1.0,
        name: str | None = None,
        max_wait: Seconds | None = 0.0,
        max_waiting: int = 10_000,
        max_keys: int = 100_000,
        when_full: WhenFull = "reject",
        start: Start = "full",
        warm_up: Seconds | None = None,
        clock: Clock | None = None,
    ) -> None:
        quota = to_quota("rate", rate)
        size = max(1.0, quota.permits) if burst is None else _burst(burst)
        if start not in {"full", "empty", "warm-up"}:
            raise InvalidArgument("start", start, "'full', 'empty' or 'warm-up'")
        if (start == "warm-up") is (warm_up is None):
            raise InvalidArgument("warm_up", warm_up, "seconds > 0, with start='warm-up' only")
        core = Gcra(
            checked_name(self, name),
            quota.rate,
            size,
            max_keys=integer("max_keys", max_keys),
            admit_when_full=full_table("when_full", when_full),
            monotonic=(SYSTEM_CLOCK if clock is None else clock).monotonic,
            empty=start == "empty",
            warm_up=0.0 if warm_up is None else seconds("warm_up", warm_up),
        )
        core.locking = not _ATOMIC
        super().__init__(
            core,
            name=name,
            key=key,
            cost=cost,
            max_wait=max_wait,
            max_waiting=max_waiting,
            clock=clock,
        )
        self._gcra = core

    @property
    def rate(self) -> float:
        """Permits per second."""
        return self._gcra.rate

    @property
    def burst(self) -> float:
        """Size of the bucket in permits."""
        return self._gcra.burst

    def update(self, *, rate: QuotaLike | None = None, burst: float | None = None) -> None:
        """Change the limit live; every key keeps the share of its bucket that it had.

        Costs the same for a million keys as for one. Callers in line are served by the new rate;
        one whose cost no longer fits into the burst waits until it does or its time is up.

        Args:
            rate: The new rate; default: as it is.
            burst: The new burst; default: as it is, even when ``rate`` is a quota.
        """
        with self._lock:
            new_rate = self.rate if rate is None else to_quota("rate", rate).rate
            new_burst = self.burst if burst is None else _burst(burst)
            self._gcra.change(new_rate, new_burst, self._clock.monotonic())
        self._changed()

    def _adopt(self, fresh: Any) -> None:
        super()._adopt(fresh)
        self.update(rate=fresh.rate, burst=fresh.burst)


def _burst(value: object) -> float:
    return number("burst", value, "a finite number >= 1", valid=lambda v: v >= 1.0)
