"""Several limits at once, all or nothing."""

from __future__ import annotations

import threading
from operator import itemgetter
from typing import TYPE_CHECKING, Any, TypeAlias, cast, final

from hastack._core._errors import ClosedError, InvalidArgument, RateLimited, Rejected
from hastack._core._fork import renew_in_child
from hastack._core._validate import integer, optional_seconds

from ._concurrency import ConcurrencyLimit
from ._decision import Decision, decision
from ._guard import Admission, Refusal
from ._limit_events import REJECTED, RequestRejected
from ._limiter import RateLimiter, _nothing, context_or_current
from ._reservation import Reservation
from ._waiters import WaitingRoom

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Sequence
    from types import TracebackType

    from hastack._core._validate import Seconds
    from hastack.context import Context


Cost: TypeAlias = "float | Sequence[float]"

_UNKNOWN = float("inf")


@final
class _Ask:
    """What one caller wants of each limit: its cost as far as the waiting room is concerned.

    The room adds and compares costs only to know how many permits are queued, which means
    nothing across several limits; so it counts callers.
    """

    __slots__ = ("costs", "keys")

    def __init__(self, keys: tuple[Hashable, ...], costs: tuple[float, ...]) -> None:
        self.keys = keys
        self.costs = costs

    @property
    def key(self) -> Hashable:
        """The key for everybody, or all of them."""
        return self.keys[0] if len(set(self.keys)) == 1 else self.keys

    def parts(
        self, members: Sequence[RateLimiter]
    ) -> Iterator[tuple[RateLimiter, Hashable, float]]:
        """Who is asked for what."""
        return zip(members, self.keys, self.costs, strict=True)

    def __radd__(self, other: float) -> float:
        return other + 1.0

    def __rsub__(self, other: float) -> float:
        return other - 1.0

    def __neg__(self) -> _Ask:
        return self  # "give this back", which is all that `_AllCore.charge` does


@final
class _AllCore:
    """The limits seen as one; `WaitedOn` for the room."""

    def __init__(self, members: Sequence[RateLimiter]) -> None:
        self.members = members
        self.waiting = False
        self._clock = members[0]._clock  # they share it
        # One order for everybody: two compositions of the same limits cannot deadlock.
        self._order = sorted(set(members), key=id)

    def take_or_wait(self, key: Any, cost: Any, now: float) -> float:
        return max((wait for _, wait in self.ask(cost)), default=0.0)

    def ask(self, ask: _Ask) -> list[tuple[RateLimiter, float]]:
        """Take from all, or from none; the limits that refuse, each with its wait."""
        taken: list[tuple[RateLimiter, Hashable, float]] = []
        refused: list[tuple[RateLimiter, float]] = []
        now = self._clock.monotonic()
        locked = 0
        try:
            for member in self._order:
                member._lock.acquire()
                locked += 1
            for member, key, cost in ask.parts(self.members):
                wait = member._core.ask(key, cost, now)
                if wait > 0.0:
                    refused.append((member, wait))
                else:
                    taken.append((member, key, cost))
            if not refused:
                taken.clear()
        finally:
            for member, key, cost in reversed(taken):
                member._core.charge(key, -cost, now)
            for member in self._order[:locked]:
                member._lock.release()
        return refused

    def slot_in(self, key: Any, ahead: float, cost: Any, now: float) -> float:
        """At the earliest when each limit would allow it, were it the only one."""
        if not isinstance(cost, _Ask):
            return 0.0
        slot = 0.0
        for member, each, size in cost.parts(self.members):
            with member._lock:
                first = member._room.ahead(each)
                slot = max(slot, member._core.slot_in(each, first, size, now))
        return slot

    def mark(self, key: Any, cost: Any, now: float) -> list[Any]:
        """What each limit wants to know when it gets its part back."""
        marks = []
        for member, each, size in cost.parts(self.members):
            with member._lock:
                marks.append(member._core.mark(each, size, now))
        return marks

    def charge(self, key: Any, cost: Any, now: float, mark: Any = None) -> None:
        """Only ever gives back: the caller that was admitted is gone."""
        for (member, each, size), noted in zip(cost.parts(self.members), mark, strict=True):
            with member._lock:
                member._core.charge(each, -size, now, noted)

    def refresh(self) -> None:
        """Nothing is derived from ``waiting``."""


@final
class Reservations:
    """Permits of several limits, taken together; made by `AllOf.reserve`.

    Attributes:
        parts: One `Reservation` per limit, in the order of the limits.
    """

    __slots__ = ("parts",)

    def __init__(self, parts: tuple[Reservation, ...]) -> None:
        self.parts = parts

    def settle(self, actual: Cost) -> None:
        """Correct the costs, one for all limits or one each; see `Reservation.settle`."""
        for part, cost in zip(self.parts, _each("actual", actual, len(self.parts)), strict=True):
            part.settle(cost)

    def cancel(self) -> None:
        """Give everything back."""
        for part in self.parts:
            part.cancel()

    def __enter__(self) -> Reservations:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for part in self.parts:
            part.__exit__(kind, error, trace)

    async def __aenter__(self) -> Reservations:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.__exit__(kind, error, trace)


@final
class AllOf(Admission):
    """Several limits as one: a call takes from all of them, or is refused and takes from none.

    For quotas such as "10 per second and 1000 per hour", or requests, tokens and concurrency of
    one paid API. The decision is made with all limits locked, so nobody sees half of it.

    A guarded call asks each limit with that limit's own key and cost functions. The direct
    methods take one key for all, and one cost for all or a sequence with one for each.

    Args:
        *limits: Rate limiters and concurrency limits; another `AllOf` brings its own.
        max_wait: Longest time in seconds that a guarded call waits for all of them; 0 refuses
            at once, ``None`` waits until the context's deadline.
        max_waiting: Most callers in the queue of one key.
        name: Appears in errors and events.

    Raises:
        InvalidArgument: No limits, something else than a limit, or different clocks.

    Example:
        >>> from hastack import ratelimit
        >>> both = ratelimit.AllOf(
        ...     ratelimit.TokenBucket("10/min"), ratelimit.TokenBucket("12/h"), name="quota"
        ... )
        >>> sum(bool(both.try_acquire("ada")) for _ in range(20))
        10
        >>> both.limits[1].peek("ada").remaining
        2
    """

    def __init__(
        self,
        *limits: RateLimiter | AllOf,
        max_wait: Seconds | None = 0.0,
        max_waiting: int = 10_000,
        name: str = "AllOf",
    ) -> None:
        members: list[RateLimiter] = []
        for limit in limits:
            if isinstance(limit, AllOf):
                members += limit.limits
            elif isinstance(limit, RateLimiter):
                members.append(limit)
            else:
                raise InvalidArgument("limits", limit, "rate limiters and concurrency limits")
        if not members:
            raise InvalidArgument("limits", limits, "at least one limit")
        self._clock = members[0]._clock
        if any(member._clock is not self._clock for member in members):
            raise InvalidArgument("limits", limits, "limits that share one clock")
        self.name = name
        self.limits: tuple[RateLimiter, ...] = tuple(members)
        self._max_wait = optional_seconds("max_wait", max_wait, zero=True)
        self._waits = self._max_wait != 0.0
        self._settles = any(isinstance(member, ConcurrencyLimit) for member in members)
        self._closed = False
        self._core = _AllCore(self.limits)
        self._room = WaitingRoom(
            self._core,
            name=name,
            clock=self._clock,
            lock=threading.RLock(),
            max_waiting=integer("max_waiting", max_waiting, minimum=0),
            refuse=self._refuse,
            freed=self._returned,
        )
        for member in set(members):
            member._depend(self._room.serve_all)
        renew_in_child(self)

    def __repr__(self) -> str:
        return f"<AllOf {self.name!r} of {', '.join(map(repr, self.limits))}>"

    def _after_fork(self) -> None:
        self._room.after_fork(threading.RLock())

    def _returned(self) -> None:
        """A caller that was admitted and is gone gave permits back to every limit."""
        for member in self._core.members:
            member._changed()

    # -- asking ---------------------------------------------------------------------------

    def try_acquire(self, key: Hashable = None, cost: Cost = 1.0) -> Decision:
        """Take from every limit now, or from none; never waits.

        Args:
            key: Whose permits.
            cost: How many, for all limits or one number for each.
        """
        ask = self._asks(key, cost)
        refused = self._try(ask)
        retry_after = _longest(refused)
        if refused and REJECTED.subscribers:
            self._publish(ask, "limited", retry_after)
        return self._answer(ask, allowed=not refused, retry_after=retry_after or 0.0)

    def peek(self, key: Hashable = None, cost: Cost = 1.0) -> Decision:
        """What `try_acquire` would answer now, without taking anything."""
        ask = self._asks(key, cost)
        answers = [m.peek(key, c) for m, c in zip(self.limits, ask.costs, strict=True)]
        return decision(
            all(answer.allowed for answer in answers),
            min(answer.level for answer in answers),
            max(answer.retry_after for answer in answers),
            max(answer.reset_after for answer in answers),
        )

    def acquire(
        self,
        key: Hashable = None,
        cost: Cost = 1.0,
        *,
        timeout: Seconds | None = None,
        ctx: Context | None = None,
    ) -> Decision:
        """Take from every limit, blocking until all of them allow it at the same moment.

        Raises:
            Rejected: Not within ``timeout`` or the context's deadline, or the queue is full.
            ContextError: The context ended while waiting.
            ClosedError: One of the limits, or this object, was closed.
        """
        ask = self._asks(key, cost)
        self._take(ask, optional_seconds("timeout", timeout, zero=True), ctx)
        return self._answer(ask, allowed=True, retry_after=0.0)

    async def acquire_async(
        self,
        key: Hashable = None,
        cost: Cost = 1.0,
        *,
        timeout: Seconds | None = None,  # the same face as acquire
        ctx: Context | None = None,
    ) -> Decision:
        """`acquire` for a task."""
        ask = self._asks(key, cost)
        await self._take_async(ask, optional_seconds("timeout", timeout, zero=True), ctx)
        return self._answer(ask, allowed=True, retry_after=0.0)

    def reserve(
        self,
        key: Hashable = None,
        cost: Cost = 1.0,
        *,
        timeout: Seconds | None = 0.0,
        ctx: Context | None = None,
    ) -> Reservations:
        """Take estimated costs now; settle the true ones on the result."""
        self.acquire(key, cost, timeout=timeout, ctx=ctx)
        return self._reserved(key, cost)

    async def reserve_async(
        self,
        key: Hashable = None,
        cost: Cost = 1.0,
        *,
        timeout: Seconds | None = 0.0,  # the same face as reserve
        ctx: Context | None = None,
    ) -> Reservations:
        """`reserve` for a task."""
        await self.acquire_async(key, cost, timeout=timeout, ctx=ctx)
        return self._reserved(key, cost)

    def release(self, key: Hashable = None, cost: Cost = 1.0) -> None:
        """Give back to the concurrency limits what `try_acquire` or `acquire` took."""
        costs = _each("cost", cost, len(self.limits))
        self._release(_Ask((key,) * len(costs), costs))

    def close(self) -> None:
        """End this object, not its limits: whoever waits and whoever comes gets ClosedError."""
        self._closed = True
        self._room.close()

    # -- guarding -------------------------------------------------------------------------

    def _admit(self, now: float, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        ask = self._asked(args, kwargs)
        refused = self._try(ask)
        if refused:
            raise self._refused(ask, refused)
        return ask

    def _decide(
        self, now: float, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Any, Refusal | None]:
        ask = self._asked(args, kwargs)
        refused = self._try(ask)
        return ask, self._refusal(ask, refused) if refused else None

    def _try_quietly(
        self, key: Hashable = None, cost: Cost = 1.0
    ) -> tuple[Decision, Refusal | None]:
        ask = self._asks(key, cost)
        refused = self._try(ask)
        answer = self._answer(ask, allowed=True, retry_after=0.0)
        return answer, self._refusal(ask, refused) if refused else None

    def _admit_waiting(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        ask = self._asked(args, kwargs)
        self._take(ask, self._max_wait, None)
        return ask

    async def _admit_waiting_async(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        ask = self._asked(args, kwargs)
        await self._take_async(ask, self._max_wait, None)
        return ask

    def _settle(self, permit: Any, now: float, error: BaseException | None, result: Any) -> None:
        self._release(permit)

    # -- inside ---------------------------------------------------------------------------

    def _asked(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Ask:
        pairs = [member._asked(args, kwargs) for member in self.limits]
        for member, (key, cost) in zip(self.limits, pairs, strict=True):
            member._core.check(key, cost)
        return _Ask(tuple(key for key, _ in pairs), tuple(cost for _, cost in pairs))

    def _asks(self, key: Hashable, cost: Cost) -> _Ask:
        costs = _each("cost", cost, len(self.limits))
        for member, size in zip(self.limits, costs, strict=True):
            member._core.check(key, size)
        return _Ask((key,) * len(costs), costs)

    def _try(self, ask: _Ask) -> list[tuple[RateLimiter, float]]:
        """The limits that refuse; empty when all were taken from."""
        if self._closed:
            raise ClosedError(self.name)
        with self._room.lock:
            if self._room.ahead(ask.keys) > 0.0:
                return [(self.limits[0], _UNKNOWN)]
            return self._core.ask(ask)

    def _take(self, ask: _Ask, timeout: float | None, ctx: Context | None) -> None:
        refused = self._try(ask)
        if refused and timeout == 0.0:
            raise self._refused(ask, refused)
        if refused:
            self._room.wait(ask.keys, cast(Any, ask), timeout, context_or_current(ctx))

    async def _take_async(
        self,
        ask: _Ask,
        timeout: float | None,  # the same face as _take
        ctx: Context | None,
    ) -> None:
        refused = self._try(ask)
        if refused and timeout == 0.0:
            raise self._refused(ask, refused)
        if refused:
            await self._room.wait_async(ask.keys, cast(Any, ask), timeout, context_or_current(ctx))

    def _answer(self, ask: _Ask, *, allowed: bool, retry_after: float) -> Decision:
        answers = [member._core.peek(key) for member, key, _ in ask.parts(self.limits)]
        level = min(answer.level for answer in answers)
        return decision(allowed, level, retry_after, max(a.reset_after for a in answers))

    def _reserved(self, key: Hashable, cost: Cost) -> Reservations:
        costs = _each("cost", cost, len(self.limits))
        return Reservations(
            tuple(
                member._reserved(key, size) for member, size in zip(self.limits, costs, strict=True)
            )
        )

    def _reserve_quietly(self, key: Hashable, cost: Cost) -> tuple[Reservations, Refusal | None]:
        refusal = self._try_quietly(key, cost)[1]
        if refusal is None:
            return self._reserved(key, cost), None
        asks = self._asks(key, cost).parts(self.limits)
        parts = (Reservation(each, size, _nothing, keeps=m._keeps) for m, each, size in asks)
        return Reservations(tuple(parts)), refusal

    def _release(self, ask: _Ask) -> None:
        for member, key, cost in ask.parts(self.limits):
            if isinstance(member, ConcurrencyLimit):
                member.release(key, cost)

    def _refusal(self, ask: _Ask, refused: list[tuple[RateLimiter, float]]) -> Refusal:
        return Refusal(ask.key, max(ask.costs), "limited", _longest(refused))

    def _refused(self, ask: _Ask, refused: list[tuple[RateLimiter, float]]) -> Rejected:
        """The error of the limit that keeps the caller away longest, in this object's name."""
        retry_after = _longest(refused)
        if REJECTED.subscribers:
            self._publish(ask, "limited", retry_after)
        member = max(refused, key=itemgetter(1))[0]
        return member._error(
            self.name, retry_after=retry_after, reason=f"{member.name}: {member._error.reason_text}"
        )

    def _refuse(self, key: Hashable, cost: Any, reason: str, retry_after: float | None) -> Rejected:
        if REJECTED.subscribers:
            self._publish(cost, reason, retry_after)
        return RateLimited(
            self.name, retry_after=retry_after, reason=f"{RateLimited.reason_text} ({reason})"
        )

    def _publish(self, ask: _Ask, reason: str, retry_after: float | None) -> None:
        REJECTED.publish(
            RequestRejected(
                at=self._clock.monotonic(),
                name=self.name,
                key=ask.key,
                cost=max(ask.costs),
                reason=reason,
                retry_after=retry_after,
            )
        )


def _longest(refused: list[tuple[RateLimiter, float]]) -> float | None:
    """The longest wait, ``None`` when one of them is unknown or nobody refused."""
    wait = max((wait for _, wait in refused), default=_UNKNOWN)
    return None if wait == _UNKNOWN else wait


def _each(parameter: str, cost: Cost, count: int) -> tuple[float, ...]:
    if isinstance(cost, (int, float)):
        return (cost,) * count
    costs = tuple(cost)
    if len(costs) != count:
        raise InvalidArgument(parameter, cost, f"a number, or a sequence of {count} numbers")
    return costs
