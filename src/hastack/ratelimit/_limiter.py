"""The shell that every rate limiter shares: lock, clock, waiting, events, decorating."""

from __future__ import annotations

import threading
import weakref
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

import attrs

from hastack._core._clock import SYSTEM_CLOCK
from hastack._core._errors import InvalidArgument, RateLimited, Rejected
from hastack._core._fork import renew_in_child
from hastack._core._validate import integer, optional_seconds, seconds

from ._decision import Decision, decision
from ._guard import Admission, Refusal, checked_name
from ._limit_events import REJECTED, RequestRejected
from ._reservation import Reservation
from ._waiters import WaitedOn, WaitingRoom

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from hastack._core._validate import Seconds
    from hastack.context import Context
    from hastack.typing import Clock

    from ._keyed import KeyTable

WhenFull: TypeAlias = Literal["reject", "admit"]

_ALL: Any = object()


class LimiterCore(WaitedOn, Protocol):
    """What the shell needs from a decision core."""

    closed: bool
    table: KeyTable

    def bind(
        self,
        acquire: Callable[[], Any],
        release: Callable[[], None],
        ahead: Callable[[Any], float],
        topic: Any,
        report: Callable[[Any, float, float | None], None],
    ) -> None: ...

    def take(self, key: Any = None, cost: Any = 1.0, quiet: bool = False) -> Decision: ...
    def admit(self, key: Any, cost: Any, now: float) -> float: ...
    def ask(self, key: Any, cost: float, now: float) -> float: ...
    def peek(self, key: Any = None, cost: Any = 1.0) -> Decision: ...
    def largest(self) -> float: ...
    def check(self, key: Any, cost: Any) -> None: ...
    def reset(self, key: Any, now: float) -> None: ...
    def reset_all(self) -> None: ...


@attrs.frozen(kw_only=True)
class LimiterStats:
    """Counters of a limiter since it was made.

    Attributes:
        keys: Keys in the table now.
        evicted: Idle keys dropped.
        turned_away: New keys that found every slot of the table in use.
        waiting: Callers in queues now.
        wakeups: Callers woken from queues.
    """

    keys: int
    evicted: int
    turned_away: int
    waiting: int
    wakeups: int


class RateLimiter(Admission):
    """Base of the rate limiters; what they all can do.

    A limiter decorates functions of any kind, works as ``with`` and ``async with``, and answers
    directly through the methods below. All of them may be called from any thread, and the
    asynchronous ones from any event loop.
    """

    _error: type[Rejected] = RateLimited
    _keeps = True
    """Whether permits are spent rather than held: what a reservation keeps stays taken."""

    def __init__(
        self,
        core: LimiterCore,
        *,
        name: str | None,
        key: Callable[..., Hashable] | None,
        cost: float | Callable[..., float],
        max_wait: Seconds | None,
        max_waiting: int,
        clock: Clock | None,
    ) -> None:
        self.name = checked_name(self, name)
        self._core = core
        self._clock = SYSTEM_CLOCK if clock is None else clock
        if key is not None and not callable(key):
            raise InvalidArgument("key", key, "a function of the guarded call's arguments, or None")
        self._key = key
        self._cost_of: Callable[..., float] | None = None
        self._cost = 1.0
        if callable(cost):
            self._cost_of = cost
        else:
            core.check(None, cost)
            self._cost = cost
        self._max_wait = optional_seconds("max_wait", max_wait, zero=True)
        self._waits = self._max_wait != 0.0
        self._lock = threading.RLock()
        self._room = WaitingRoom(
            core,
            name=self.name,
            clock=self._clock,
            lock=self._lock,
            max_waiting=integer("max_waiting", max_waiting, minimum=0),
            refuse=self._refuse,
            largest=core.largest,
            freed=self._returned,
        )
        # Called when permits come back; see `AllOf`.
        self._dependents: tuple[weakref.WeakMethod[Callable[[], None]], ...] = ()
        self._bind()
        # Straight to the core: one call less on the hottest path there is.
        self.try_acquire = core.take  # type: ignore[method-assign]  # same signature and more
        renew_in_child(self)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"

    def _bind(self) -> None:
        lock = self._lock
        self._core.bind(lock.acquire, lock.release, self._room.ahead, REJECTED, self._report)

    def _after_fork(self) -> None:
        self._lock = threading.RLock()
        self._room.after_fork(self._lock)
        self._bind()

    # -- asking ---------------------------------------------------------------------------

    def try_acquire(self, key: Hashable = None, cost: float = 1.0) -> Decision:
        """Take ``cost`` permits now if they are there; never waits.

        A key with callers waiting in line is answered no: nobody overtakes them.

        Args:
            key: Whose permits; ``None`` is a key like any other.
            cost: How many permits.

        Raises:
            InvalidArgument: ``cost`` is not a number within the limit.
            InvalidKey: ``key`` is not hashable.
            ClosedError: The limiter was closed.
        """
        return self._core.take(key, cost)

    def peek(self, key: Hashable = None, cost: float = 1.0) -> Decision:
        """What `try_acquire` would answer now, without taking anything."""
        return self._core.peek(key, cost)

    def acquire(
        self,
        key: Hashable = None,
        cost: float = 1.0,
        *,
        timeout: Seconds | None = None,
        ctx: Context | None = None,
    ) -> Decision:
        """Take ``cost`` permits, blocking this thread until its turn.

        Callers of one key are served in the order in which they came, threads and tasks alike.

        Args:
            key: Whose permits.
            cost: How many.
            timeout: Longest wait in seconds; ``None`` waits for as long as the context lasts.
            ctx: The context whose deadline and cancellation are honoured; default: the current.

        Returns:
            A decision that is allowed, with what is left.

        Raises:
            InvalidArgument: ``timeout`` is negative or no number, or as in `try_acquire`.
            RateLimited: The turn would come after ``timeout`` or the deadline. This is known,
                and said, at once.
            ContextError: The context ended while waiting.
            ClosedError: The limiter was closed.
        """
        if timeout is not None:
            timeout = seconds("timeout", timeout, zero=True)
        decision = self._core.take(key, cost, True)
        if decision.allowed:
            return decision
        self._room.wait(key, cost, timeout, context_or_current(ctx))
        return self._after_wait(key)

    async def acquire_async(
        self,
        key: Hashable = None,
        cost: float = 1.0,
        *,
        timeout: Seconds | None = None,  # the same face as acquire
        ctx: Context | None = None,
    ) -> Decision:
        """`acquire` for a task: suspends it instead of blocking the thread.

        A task that is cancelled while it waits, or between its turn and its waking, takes
        nothing from the limiter.
        """
        if timeout is not None:
            timeout = seconds("timeout", timeout, zero=True)
        decision = self._core.take(key, cost, True)
        if decision.allowed:
            return decision
        await self._room.wait_async(key, cost, timeout, context_or_current(ctx))
        return self._after_wait(key)

    def reserve(
        self,
        key: Hashable = None,
        cost: float = 1.0,
        *,
        timeout: Seconds | None = 0.0,
        ctx: Context | None = None,
    ) -> Reservation:
        """Take an estimated ``cost`` now; settle the true one on the `Reservation` later.

        Args:
            key: Whose permits.
            cost: The estimate.
            timeout: Longest wait in seconds; by default none.
            ctx: See `acquire`.

        Raises:
            RateLimited: The permits are not there in time.
        """
        if timeout is not None:
            timeout = seconds("timeout", timeout, zero=True)
        with self._lock:  # nobody takes between the taking and the mark
            if self._core.take(key, cost, True).allowed:
                return self._reserved(key, cost)
        mark = self._room.wait(key, cost, timeout, context_or_current(ctx))
        return Reservation(key, cost, partial(self._charge, mark=mark), keeps=self._keeps)

    async def reserve_async(
        self,
        key: Hashable = None,
        cost: float = 1.0,
        *,
        timeout: Seconds | None = 0.0,  # the same face as reserve
        ctx: Context | None = None,
    ) -> Reservation:
        """`reserve` for a task."""
        if timeout is not None:
            timeout = seconds("timeout", timeout, zero=True)
        with self._lock:
            if self._core.take(key, cost, True).allowed:
                return self._reserved(key, cost)
        mark = await self._room.wait_async(key, cost, timeout, context_or_current(ctx))
        return Reservation(key, cost, partial(self._charge, mark=mark), keeps=self._keeps)

    # -- managing -------------------------------------------------------------------------

    def reset(self, key: Hashable = _ALL) -> None:
        """Give ``key``, or every key, its full allowance back."""
        with self._lock:
            if key is _ALL:
                self._core.reset_all()
            else:
                self._core.check(key, 1.0)
                self._core.reset(key, self._clock.monotonic())
        self._changed()

    def close(self) -> None:
        """End the limiter: whoever waits and whoever comes gets ClosedError."""
        with self._lock:
            self._core.closed = True
            self._core.refresh()
        self._room.close()

    def __len__(self) -> int:
        """How many keys are held in memory."""
        return len(self._core.table)

    def __bool__(self) -> bool:
        return True  # an empty table is no reason to take ``if limiter:`` for None

    def stats(self) -> LimiterStats:
        """Counters, for metrics."""
        table = self._core.table
        return LimiterStats(
            keys=len(table),
            evicted=table.evicted,
            turned_away=table.turned_away,
            waiting=len(self._room),
            wakeups=self._room.wakeups,
        )

    # -- guarding -------------------------------------------------------------------------

    def _admit(self, now: float, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        key = None if self._key is None else self._key(*args, **kwargs)
        cost = self._cost if self._cost_of is None else self._cost_of(*args, **kwargs)
        wait = self._core.admit(key, cost, now)
        if wait > 0.0:
            raise self._refuse(key, cost, "limited", wait)

    def _decide(
        self, now: float, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Any, Refusal | None]:
        key, cost = self._asked(args, kwargs)
        wait = self._core.admit(key, cost, now)
        return None, None if wait <= 0.0 else Refusal(key, cost, "limited", _known(wait))

    def _try_quietly(
        self, key: Hashable = None, cost: float = 1.0
    ) -> tuple[Decision, Refusal | None]:
        found = self._core.take(key, cost, True)
        if found.allowed:
            return found, None
        passed = decision(True, found.level, 0.0, found.reset_after)
        return passed, Refusal(key, cost, "limited", _known(found.retry_after or inf))

    def _admit_waiting(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        key, cost = self._asked(args, kwargs)
        self.acquire(key, cost, timeout=self._max_wait)

    async def _admit_waiting_async(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        key, cost = self._asked(args, kwargs)
        await self.acquire_async(key, cost, timeout=self._max_wait)

    def _enter(self) -> Any:
        try:
            return super()._enter()
        except TypeError as error:
            raise self._without_arguments(error) from None

    async def _enter_async(self) -> Any:
        try:
            return await super()._enter_async()
        except TypeError as error:
            raise self._without_arguments(error) from None

    def _without_arguments(self, error: TypeError) -> Exception:
        """What to say when a with block, which has no arguments, met a function that needs some."""
        from inspect import signature

        for parameter, function in (("key", self._key), ("cost", self._cost_of)):
            if function is None:
                continue
            try:
                signature(function).bind()
            except TypeError:
                accepted = "a function without arguments, for a with block; see .reserve()"
                return InvalidArgument(parameter, function, accepted)
            except ValueError:  # written in C, and keeps its signature to itself
                continue
        return error

    def _asked(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Hashable, float]:
        key = None if self._key is None else self._key(*args, **kwargs)
        return key, self._cost if self._cost_of is None else self._cost_of(*args, **kwargs)

    # -- inside ---------------------------------------------------------------------------

    def _reserved(self, key: Hashable, cost: float) -> Reservation:
        """The reservation of permits that were taken just now."""
        with self._lock:
            mark = self._core.mark(key, cost, self._clock.monotonic())
        return Reservation(key, cost, partial(self._charge, mark=mark), keeps=self._keeps)

    def _reserve_quietly(self, key: Hashable, cost: Any) -> tuple[Reservation, Refusal | None]:
        with self._lock:
            refusal = self._try_quietly(key, cost)[1]
            if refusal is None:
                return self._reserved(key, cost), None
        return Reservation(key, cost, _nothing, keeps=self._keeps), refusal

    def _adopt(self, fresh: Any) -> None:
        if self._waits is fresh._waits:  # plans were made for a guard that waits, or for one not
            self._max_wait = fresh._max_wait
        self._room._max_waiting = fresh._room._max_waiting

    def _charge(self, key: Hashable, cost: float, mark: Any = None) -> None:
        with self._lock:
            self._core.charge(key, cost, self._clock.monotonic(), mark)
        if cost < 0.0:
            if self._core.waiting:
                self._room.serve(key)
            self._returned()

    def _changed(self) -> None:
        """Permits may have become free under any key."""
        self._room.serve_all()
        self._returned()

    def _returned(self) -> None:
        for reference in self._dependents:
            dependent = reference()
            if dependent is not None:
                dependent()

    def _depend(self, dependent: Callable[[], None]) -> None:
        """Call the method ``dependent`` when permits come back, for as long as it lives."""
        with self._lock:
            alive = [each for each in self._dependents if each() is not None]
            self._dependents = (*alive, weakref.WeakMethod(dependent))

    def _after_wait(self, key: Hashable) -> Decision:
        left = self._core.peek(key)
        return decision(True, left.level, 0.0, left.reset_after)

    def _refuse(
        self, key: Hashable, cost: float, reason: str, retry_after: float | None
    ) -> Rejected:
        if REJECTED.subscribers:
            self._publish(key, cost, reason, retry_after)
        text = None if reason == "limited" else f"{self._error.reason_text} ({reason})"
        return self._error(self.name, retry_after=retry_after, reason=text)

    def _report(self, key: Hashable, cost: float, retry_after: float | None) -> None:
        self._publish(key, cost, "limited", retry_after)

    def _publish(self, key: Hashable, cost: float, reason: str, retry_after: float | None) -> None:
        REJECTED.publish(
            RequestRejected(
                at=self._clock.monotonic(),
                name=self.name,
                key=key,
                cost=cost,
                reason=reason,
                retry_after=retry_after,
            )
        )


def _nothing(key: Hashable, cost: float) -> None:
    """What settling a reservation of nothing charges."""


def _known(wait: float) -> float | None:
    """``wait``, when it is the time that somebody knows."""
    return None if wait == inf else wait


def context_or_current(ctx: Context | None) -> Context:
    """The context to honour."""
    if ctx is not None:
        return ctx
    from hastack.context import current

    return current()


def full_table(parameter: str, value: str) -> bool:
    """Whether a new key is let in when the table is full."""
    if value not in {"reject", "admit"}:
        raise InvalidArgument(parameter, value, "'reject' or 'admit'")
    return value == "admit"
