"""The concurrency limit, or bulkhead: so many calls inside at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

from hastack._core._errors import ConcurrencyLimited, InvalidArgument
from hastack._core._validate import integer

from ._bulkhead import Bulkhead
from ._guard import Refusal, checked_name
from ._limiter import RateLimiter, full_table

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from hastack._core._validate import Seconds
    from hastack.typing import Clock

    from ._limiter import WhenFull


@final
class ConcurrencyLimit(RateLimiter):
    """At most ``limit`` calls inside at once; others wait in a bounded queue, or are refused.

    A call that leaves hands its permit to the first in line; nobody is woken in vain. Decorating
    and ``with`` give permits back by themselves; whoever calls `try_acquire` or `acquire` calls
    `release`, or uses ``with limiter.reserve(key):``.

    Args:
        limit: Most permits out at once, per key; at least 1.
        max_waiting: Most callers in the queue of one key.
        max_wait: Longest time in seconds that a decorated call or a ``with`` block waits; 0
            refuses at once, ``None`` waits until the context's deadline.
        key: From the arguments of the guarded call, whose limit it counts against. Default: one
            limit for all.
        cost: Permits that one guarded call takes, or a function of its arguments.
        name: Appears in errors and events.
        max_keys: Most keys with calls inside at once.
        when_full: What happens to a call of one more key: ``"reject"`` or ``"admit"``, uncounted.
        clock: Source of time for waits.

    Raises:
        InvalidArgument: An argument is outside of its range.

    Example:
        >>> from hastack import ratelimit
        >>> db = ratelimit.ConcurrencyLimit(10, max_wait=0.5, name="db")
        >>> with db:
        ...     db.in_flight()
        1
        >>> db.in_flight()
        0
    """

    _settles = True
    _keeps = False
    _error = ConcurrencyLimited

    def __init__(
        self,
        limit: float,
        *,
        max_waiting: int = 1000,
        max_wait: Seconds | None = 0.0,
        key: Callable[..., Hashable] | None = None,
        cost: float | Callable[..., float] = 1.0,
        name: str | None = None,
        max_keys: int = 100_000,
        when_full: WhenFull = "reject",
        clock: Clock | None = None,
    ) -> None:
        self._bulkhead = Bulkhead(
            checked_name(self, name),
            _limit(limit),
            max_keys=integer("max_keys", max_keys),
            admit_when_full=full_table("when_full", when_full),
        )
        # Permits of before a fork were taken by threads that this process does not have.
        self._epoch = 0
        super().__init__(
            self._bulkhead,
            name=name,
            key=key,
            cost=cost,
            max_wait=max_wait,
            max_waiting=max_waiting,
            clock=clock,
        )

    @property
    def limit(self) -> float:
        """Most permits out at once."""
        return self._bulkhead.limit

    def in_flight(self, key: Hashable = None) -> float:
        """Permits that are out under ``key`` now."""
        self._bulkhead.check(key, 1.0)
        inside = self._bulkhead.table.young.get(key, 0.0)
        return int(inside) if inside == int(inside) else inside

    def release(self, key: Hashable = None, cost: float = 1.0) -> None:
        """Give back what `try_acquire` or `acquire` took.

        Args:
            key: As given there.
            cost: As given there.
        """
        self._charge(key, -cost)

    def update(self, *, limit: float) -> None:
        """Change the limit live.

        A lower limit ends no call; new ones wait until enough have left. A higher one lets those
        in line in at once.
        """
        with self._lock:
            self._bulkhead.limit = _limit(limit)
        self._changed()

    def _adopt(self, fresh: Any) -> None:
        super()._adopt(fresh)
        self.update(limit=fresh.limit)

    # -- guarding -------------------------------------------------------------------------

    def _admit(self, now: float, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        key = None if self._key is None else self._key(*args, **kwargs)
        cost = self._cost if self._cost_of is None else self._cost_of(*args, **kwargs)
        if self._bulkhead.admit(key, cost, now) != 0.0:
            raise self._refuse(key, cost, "limited", None)
        return (key, cost, self._epoch)

    def _decide(
        self, now: float, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Any, Refusal | None]:
        key, cost = self._asked(args, kwargs)
        if self._bulkhead.admit(key, cost, now) != 0.0:
            return None, Refusal(key, cost, "limited", None)
        return (key, cost, self._epoch), None

    def _admit_waiting(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        key, cost = self._asked(args, kwargs)
        self.acquire(key, cost, timeout=self._max_wait)
        return (key, cost, self._epoch)

    async def _admit_waiting_async(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        key, cost = self._asked(args, kwargs)
        await self.acquire_async(key, cost, timeout=self._max_wait)
        return (key, cost, self._epoch)

    def _settle(self, permit: Any, now: float, error: BaseException | None, result: Any) -> None:
        key, cost, epoch = permit
        if epoch == self._epoch:
            self._bulkhead.leave(key, cost)
            if self._bulkhead.waiting:
                self._room.serve(key)
            if self._dependents:
                self._returned()

    def _after_fork(self) -> None:
        self._epoch += 1
        self._bulkhead.reset_all()
        super()._after_fork()


def _limit(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InvalidArgument("limit", value, "a finite number >= 1")
    if not 1.0 <= value < float("inf"):
        raise InvalidArgument("limit", value, "a finite number >= 1")
    return float(value)
