"""First come, first served: the queues in which callers of a limiter wait.

A caller takes its place once and is woken once. Only the head of a key's queue has a timer, set
for the moment at which the limiter will have its permits; when it rings, the head is admitted,
and with it everybody behind whose turn has come too. Nothing is taken from the limiter before
that moment, so a caller that leaves the queue has nothing to give back and those behind it move
up by themselves; one that was admitted but did not live to see it gives its permits back.

Threads and tasks of any number of event loops stand in the same queue. As long as a queue holds
tasks of one loop only, its timer is that loop's own, and no other thread is involved.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, final

from hastack._core._clock import SYSTEM_CLOCK
from hastack._core._errors import ClosedError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Hashable

    from hastack.context import Context
    from hastack.typing import Clock

    Refuse = Callable[[Hashable, float, str, float | None], Exception]


_SLACK = 1e-9  # see `_gcra`


class WaitedOn(Protocol):
    """What a queue needs from a limiter. Called with the lock held."""

    waiting: bool

    def take_or_wait(self, key: Any, cost: float, now: float) -> float:
        """Take and answer 0.0, or say in how many seconds to come back; inf: when served."""
        ...

    def slot_in(self, key: Any, ahead: float, cost: float, now: float) -> float:
        """Seconds until ``cost`` permits are free after ``ahead`` others; 0.0 when unknown."""
        ...

    def mark(self, key: Any, cost: float, now: float) -> Any:
        """What `charge` wants to know about a taking just now, should it be given back."""

    def charge(self, key: Any, cost: float, now: float, mark: Any = None) -> None:
        """Take whatever the level; negative gives back what ``mark`` was made for."""

    def refresh(self) -> None:
        """``waiting`` changed."""


class _Waiter(ABC):
    """One caller in a queue; `wake` may run on any thread."""

    __slots__ = ("cost", "gone", "granted", "key", "loop", "mark", "misfit")

    def __init__(self, key: Hashable, cost: float, loop: asyncio.AbstractEventLoop | None) -> None:
        self.key = key
        self.cost = cost
        self.loop = loop
        self.granted = False
        self.mark: Any = None  # made when the permits were taken
        self.gone = False  # no longer in line, for whatever reason
        self.misfit = False  # asked for more than the limit, lowered meanwhile, will ever have

    def admitted(self) -> bool:
        """Whether the permits were taken for this caller; may change at any moment."""
        return self.granted

    @abstractmethod
    def wake(self) -> bool:
        """Let the caller go on; False when it can no longer be reached."""


@final
class _ThreadWaiter(_Waiter):
    __slots__ = ("event",)

    def __init__(self, key: Hashable, cost: float) -> None:
        super().__init__(key, cost, None)
        self.event = threading.Event()

    def wake(self) -> bool:
        self.event.set()
        return True


@final
class _TaskWaiter(_Waiter):
    __slots__ = ("future",)

    loop: asyncio.AbstractEventLoop

    def __init__(self, key: Hashable, cost: float, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(key, cost, loop)
        self.future: asyncio.Future[None] = loop.create_future()

    def wake(self) -> bool:
        # A ManualClock runs its timers while its loop is in select() and must hear of the wake.
        if _running_loop() is self.loop and not hasattr(self.loop, "_hastack_clock"):
            self._resolve()
            return True
        try:
            self.loop.call_soon_threadsafe(self._resolve)
        except RuntimeError:  # that loop is closed, and with it the task
            return False
        return True

    def _resolve(self) -> None:
        if not self.future.done():
            self.future.set_result(None)


class _Queue:
    __slots__ = ("alarm", "alarm_loop", "cost", "gone", "mixed", "waiters")

    def __init__(self) -> None:
        self.waiters: deque[_Waiter] = deque()
        self.cost = 0.0
        self.gone = 0
        self.mixed = False  # whether waiters of several loops, or threads, stand in it
        self.alarm: Callable[[], object] | None = None  # cancels the head's timer
        self.alarm_loop: asyncio.AbstractEventLoop | None = None  # whose timer it is


@final
class WaitingRoom:
    """The queues of one limiter.

    Args:
        limiter: Where permits come from.
        name: Of the limiter, for errors.
        clock: Times the waits.
        lock: The limiter's reentrant lock.
        max_waiting: Most callers in the queue of one key.
        refuse: Makes the error for (key, cost, reason, retry_after) and reports it.
        largest: The largest cost that can ever be taken; default: any.
        freed: Called without the lock when an admitted caller that is gone gave permits back.

    Attributes:
        lock: See above.
        wakeups: How many callers were woken so far.
    """

    def __init__(
        self,
        limiter: WaitedOn,
        *,
        name: str,
        clock: Clock,
        lock: Any,
        max_waiting: int,
        refuse: Refuse,
        largest: Callable[[], float] | None = None,
        freed: Callable[[], None] | None = None,
    ) -> None:
        self._limiter = limiter
        self._name = name
        self._clock = clock
        self.lock = lock
        self._max_waiting = max_waiting
        self._refuse = refuse
        self._largest = largest
        self._freed = freed
        self._queues: dict[Hashable, _Queue] = {}
        self._closed = False
        self.wakeups = 0

    def __len__(self) -> int:
        with self.lock:
            return sum(len(queue.waiters) - queue.gone for queue in self._queues.values())

    def ahead(self, key: Hashable) -> float:
        """Permits that others wait for under ``key``. With the lock held."""
        queue = self._queues.get(key)
        return 0.0 if queue is None else queue.cost

    # -- waiting --------------------------------------------------------------------------

    def wait(self, key: Hashable, cost: float, timeout: float | None, ctx: Context | None) -> Any:
        """Block this thread until admitted; return the limiter's mark for giving it back.

        Raises:
            Rejected: The turn comes after ``timeout`` or the context's deadline (said at once),
                or the queue is full.
            ContextError: The context ended meanwhile.
            ClosedError: The limiter was closed.
        """
        if ctx is not None:
            timeout = _bounded(timeout, ctx)
        waiter = _ThreadWaiter(key, cost)
        if self._enter(waiter, timeout):
            return waiter.mark
        stop = None if ctx is None else ctx._watch(waiter.wake)
        try:
            self._clock.wait(waiter.event, timeout)
            self._conclude(waiter, ctx)
        except BaseException:
            self._leave(waiter)
            raise
        finally:
            if stop is not None:
                stop()
        return waiter.mark

    async def wait_async(
        self,
        key: Hashable,
        cost: float,
        timeout: float | None,  # the same face as wait
        ctx: Context | None,
    ) -> Any:
        """`wait` for a task: suspends it, and raises CancelledError when it is cancelled."""
        import asyncio

        if ctx is not None:
            timeout = _bounded(timeout, ctx)
        loop = asyncio.get_running_loop()
        waiter = _TaskWaiter(key, cost, loop)
        if self._enter(waiter, timeout):
            return waiter.mark
        call_up = partial(self._call_up, waiter)
        stop = None if ctx is None else ctx._watch(call_up)
        cancel = None if timeout is None else self._call_in(timeout, call_up, loop)[0]
        try:
            await waiter.future
            self._conclude(waiter, ctx)
        except BaseException:
            self._leave(waiter)
            raise
        finally:
            if cancel is not None:
                cancel()
            if stop is not None:
                stop()
        return waiter.mark

    def _enter(self, waiter: _Waiter, timeout: float | None) -> bool:
        """Admit at once (True), or stand in line, or raise."""
        key, cost = waiter.key, waiter.cost
        with self.lock:
            if self._closed:
                raise ClosedError(self._name)
            now = self._clock.monotonic()
            queue = self._queues.get(key)
            if queue is None and self._limiter.take_or_wait(key, cost, now) == 0.0:
                waiter.mark = self._limiter.mark(key, cost, now)
                return True
            ahead = 0.0 if queue is None else queue.cost
            slot = self._limiter.slot_in(key, ahead, cost, now)
            reason = ""
            if timeout is not None and (slot > timeout + _SLACK or timeout <= 0.0):
                reason = "deadline" if timeout > 0.0 else "limited"
            elif (0 if queue is None else len(queue.waiters) - queue.gone) >= self._max_waiting:
                reason = "queue full"
            if not reason:
                self._stand(waiter, queue, now)
                return False
        raise self._refuse(key, cost, reason, slot or None)

    def _stand(self, waiter: _Waiter, queue: _Queue | None, now: float) -> None:
        if queue is None:
            queue = self._queues[waiter.key] = _Queue()
            queue.mixed = waiter.loop is None
            self._limiter.waiting = True
            self._limiter.refresh()
        elif not queue.mixed and waiter.loop is not queue.waiters[0].loop:
            # The head's loop may be busy; from here on the clock's timer serves everybody.
            queue.mixed = True
        queue.waiters.append(waiter)
        queue.cost += waiter.cost
        if len(queue.waiters) == 1 or (queue.mixed and queue.alarm_loop is not None):
            self._wake(self._serve_held(waiter.key, queue, now))

    def _conclude(self, waiter: _Waiter, ctx: Context | None) -> None:
        """After waking: return when admitted, else raise why not."""
        if waiter.admitted():
            return
        if self._closed:
            raise ClosedError(self._name)
        if waiter.misfit:
            raise self._refuse(waiter.key, waiter.cost, "limit lowered", None)
        # The end of the wait and the head's timer may be due at the same instant.
        self.serve(waiter.key)
        with self.lock:
            if waiter.admitted():
                return
            now = self._clock.monotonic()
            slot = self._limiter.slot_in(waiter.key, self.ahead(waiter.key), 0.0, now)
        if ctx is not None:
            error = ctx.err()
            if error is not None:
                raise error
        raise self._refuse(waiter.key, waiter.cost, "deadline", slot or None)

    def _call_up(self, waiter: _TaskWaiter) -> None:
        """End a task's wait; those ahead whose turn comes at this very moment go on before it."""
        self.serve(waiter.key)
        waiter.wake()

    def _leave(self, waiter: _Waiter) -> None:
        """The caller is gone, admitted or not."""
        key = waiter.key
        with self.lock:
            now = self._clock.monotonic()
            queue = self._queues.get(key)
            gave_back = waiter.granted
            if gave_back:
                waiter.granted = False
                self._limiter.charge(key, -waiter.cost, now, waiter.mark)
            elif queue is not None and not waiter.gone:
                waiter.gone = True
                queue.gone += 1
                queue.cost -= waiter.cost
                if queue.waiters[0] is not waiter:
                    if queue.gone > 64 and queue.gone * 2 > len(queue.waiters):
                        queue.waiters = deque(w for w in queue.waiters if not w.gone)
                        queue.gone = 0
                    return
            woken = [] if queue is None else self._serve_held(key, queue, now)
        self._wake(woken)
        if gave_back and self._freed is not None:
            self._freed()

    # -- serving --------------------------------------------------------------------------

    def serve(self, key: Hashable) -> None:
        """Admit from the head of ``key``'s queue for as long as there are permits."""
        with self.lock:
            queue = self._queues.get(key)
            if queue is None:
                return
            woken = self._serve_held(key, queue, self._clock.monotonic())
        self._wake(woken)

    def serve_all(self) -> None:
        """`serve` every key: the limit changed."""
        with self.lock:  # a caller that was just refused may be about to stand in line
            keys = list(self._queues)
        for key in keys:
            self.serve(key)

    def _serve_held(self, key: Hashable, queue: _Queue, now: float) -> list[_Waiter]:
        woken: list[_Waiter] = []
        waiters = queue.waiters
        if queue.alarm is not None:
            # A loop's timer may only be cancelled on that loop; elsewhere it is left to ring in
            # vain, once.
            if queue.alarm_loop is None or queue.alarm_loop is _running_loop():
                queue.alarm()
            queue.alarm = queue.alarm_loop = None
        while waiters:
            head = waiters[0]
            if head.gone:
                queue.gone -= 1
            elif self._largest is not None and head.cost > self._largest():
                # It would stand there for ever, and everybody behind it.
                head.gone = head.misfit = True
                queue.cost -= head.cost
                woken.append(head)
            else:
                wait = self._limiter.take_or_wait(key, head.cost, now)
                if wait > 0.0:
                    if wait < float("inf"):
                        self._arm(key, queue, wait)
                    return woken
                head.granted = True
                head.mark = self._limiter.mark(key, head.cost, now)
                self.wakeups += 1
                queue.cost -= head.cost
                woken.append(head)
            waiters.popleft()
        del self._queues[key]
        if not self._queues:
            self._limiter.waiting = False
            self._limiter.refresh()
        return woken

    def _arm(self, key: Hashable, queue: _Queue, delay: float) -> None:
        loop = None if queue.mixed else queue.waiters[0].loop
        queue.alarm, queue.alarm_loop = self._call_in(delay, partial(self.serve, key), loop)

    def _call_in(
        self, delay: float, call: Callable[[], object], loop: asyncio.AbstractEventLoop | None
    ) -> tuple[Callable[[], object], asyncio.AbstractEventLoop | None]:
        """A timer on ``loop`` when we run on it and it keeps our time, else on the clock."""
        if (
            loop is not None
            and _running_loop() is loop
            and (
                self._clock is SYSTEM_CLOCK or getattr(loop, "_hastack_clock", None) is self._clock
            )
        ):
            return loop.call_later(delay, call).cancel, loop

        def ring() -> None:
            call()

        return self._clock.call_at(self._clock.monotonic() + delay, ring), None

    def _wake(self, woken: list[_Waiter]) -> None:
        for waiter in woken:
            if not waiter.wake():
                self._leave(waiter)

    # -- ending ---------------------------------------------------------------------------

    def close(self) -> None:
        """Wake everybody with ClosedError."""
        with self.lock:
            self._closed = True
            everybody = [w for q in self._queues.values() for w in q.waiters if not w.gone]
            for waiter in everybody:
                waiter.gone = True
            # Timers that are still set will find no queue.
            self._queues.clear()
        for waiter in everybody:
            waiter.wake()

    def after_fork(self, lock: Any) -> None:
        """Forget everybody: the threads and loops that waited stayed in the parent."""
        self.lock = lock
        self._queues = {}
        self._limiter.waiting = False
        self._limiter.refresh()


def _running_loop() -> asyncio.AbstractEventLoop | None:
    import asyncio

    return asyncio._get_running_loop()


def _bounded(timeout: float | None, ctx: Context) -> float | None:
    """The shorter of ``timeout`` and what the context has left."""
    error = ctx.err()
    if error is not None:
        raise error
    remaining = ctx.remaining()
    if remaining is None:
        return timeout
    return remaining if timeout is None else min(timeout, remaining)
