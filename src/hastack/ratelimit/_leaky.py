"""The leaky bucket: shaping instead of refusing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

from hastack._core._clock import SYSTEM_CLOCK
from hastack._core._validate import integer

from ._guard import checked_name
from ._limiter import RateLimiter, full_table
from ._quota import to_quota
from ._spacing import Spacing
from ._state_core import StateCore
from ._window_log import WindowLimit

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from hastack._core._validate import Seconds
    from hastack.typing import Clock

    from ._limiter import WhenFull
    from ._quota import QuotaLike

_LARGEST_COST = 1e9


@final
class LeakyBucket(RateLimiter):
    """Lets calls through one by one, ``1 / rate`` seconds apart; the others wait in a queue.

    Calls are spaced out, never sent on in bursts; only when the queue is full is one refused. A
    call of cost ``c`` keeps the next one away ``c`` times as long. `try_acquire` succeeds only
    when nobody waits and the last call is long enough ago.

    Args:
        rate: A quota such as ``"20/s"``, a `Quota`, or calls per second.
        queue: Most callers that wait under one key.
        key: See `TokenBucket`, as for all that follow.
        cost: How many gaps one guarded call takes.
        name: Appears in errors and events.
        max_wait: Longest time in seconds that a decorated call waits; the default waits until
            the context's deadline.
        max_keys: Most keys in memory; two numbers each.
        when_full: What happens to a new key when all ``max_keys`` are in use.
        clock: Source of time.

    Raises:
        InvalidArgument: An argument is outside of its range.

    Example:
        >>> from hastack import ratelimit
        >>> from hastack.testing import ManualClock
        >>> clock = ManualClock(start=0.0)
        >>> smtp = ratelimit.LeakyBucket("2/s", queue=100, clock=clock)
        >>> @smtp
        ... def send(letter: str) -> float:
        ...     return clock.monotonic()
        >>> [send(letter) for letter in "abc"]
        [0.0, 0.5, 1.0]
    """

    def __init__(
        self,
        rate: QuotaLike,
        *,
        queue: int = 1000,
        key: Callable[..., Hashable] | None = None,
        cost: float | Callable[..., float] = 1.0,
        name: str | None = None,
        max_wait: Seconds | None = None,
        max_keys: int = 100_000,
        when_full: WhenFull = "reject",
        clock: Clock | None = None,
    ) -> None:
        quota = to_quota("rate", rate)
        self._limit = WindowLimit(quota.permits, quota.per)
        core = StateCore(
            checked_name(self, name),
            self._limit,
            Spacing,
            largest=_LARGEST_COST,
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
            max_waiting=integer("queue", queue, minimum=0),
            clock=clock,
        )

    @property
    def rate(self) -> float:
        """Calls per second."""
        return self._limit.permits / self._limit.length

    def update(self, *, rate: QuotaLike) -> None:
        """Change the rate live; the gap before the next call stays, later ones change."""
        quota = to_quota("rate", rate)
        with self._lock:
            self._limit.permits = quota.permits
            self._limit.length = quota.per
        self._changed()

    def _adopt(self, fresh: Any) -> None:
        super()._adopt(fresh)
        self.update(rate=fresh.rate)
