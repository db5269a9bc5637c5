"""A bounded queue between those who emit events and one slow consumer."""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections import deque
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, final

from ._errors import InvalidArgument
from ._validate import Seconds, integer, seconds

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterator

T = TypeVar("T")


@final
class Queue(Generic[T]):
    """A subscriber that keeps events for somebody slower; publishing to it never waits.

    Threads take with `get`, `take` or `until`; coroutines with `get_async`. Several consumers
    may take from one queue: each event goes to one of them.

    Args:
        maxsize: Events kept at most.
        policy: What is given up when the queue is full: ``"drop-oldest"`` keeps the newest
            events (the default: a dashboard wants the present), ``"drop-newest"`` the first
            ones (the beginning of an incident).

    Attributes:
        dropped: Events given up so far because the queue was full.

    Raises:
        InvalidArgument: ``maxsize`` is below 1 or the policy is unknown.

    Example:
        >>> from hastack import events
        >>> queue = events.Queue(2)
        >>> for number in (1, 2, 3):
        ...     queue(number)
        >>> queue.take(), queue.dropped
        ([2, 3], 1)
    """

    def __init__(
        self,
        maxsize: int = 1024,
        *,
        policy: Literal["drop-oldest", "drop-newest"] = "drop-oldest",
    ) -> None:
        if policy not in {"drop-oldest", "drop-newest"}:
            raise InvalidArgument("policy", policy, "'drop-oldest' or 'drop-newest'")
        self.maxsize = integer("maxsize", maxsize)
        self.policy = policy
        self.dropped = 0
        self._items: deque[T] = deque()
        self._reset()
        _queues.add(self)

    def _reset(self) -> None:
        # After a fork the lock may be held by a thread that is not there, and waiting
        # coroutines belong to the parent's loop. The condition's lock is reentrant because a
        # finalizer may publish while this thread is inside.
        self._changed = threading.Condition()
        self._waiters: deque[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = deque()

    def __call__(self, event: T) -> None:
        """Keep ``event``, or give one up by the policy. Never blocks on a consumer."""
        with self._changed:
            if len(self._items) >= self.maxsize:
                self.dropped += 1
                if self.policy == "drop-newest":
                    return
                self._items.popleft()
            self._items.append(event)
            self._changed.notify()
            self._wake_one()

    def _wake_one(self) -> None:
        while self._waiters:
            loop, future = self._waiters.popleft()
            if future.done():
                continue
            try:
                loop.call_soon_threadsafe(_resolve, future)
            except RuntimeError:  # that loop is closed and its waiter gone with it
                continue
            return

    def __len__(self) -> int:
        return len(self._items)

    def take(self) -> list[T]:
        """Everything that is waiting, oldest first; never waits."""
        with self._changed:
            items = list(self._items)
            self._items.clear()
        return items

    def get(self, timeout: Seconds) -> T | None:
        """The oldest event, or ``None`` when none came within ``timeout`` seconds.

        Raises:
            InvalidArgument: ``timeout`` is negative or not a number.
        """
        end = time.monotonic() + seconds("timeout", timeout, zero=True)
        with self._changed:
            while not self._items:
                left = end - time.monotonic()
                if left <= 0.0:
                    return None
                self._changed.wait(min(left, threading.TIMEOUT_MAX))
            return self._items.popleft()

    def until(self, timeout: Seconds) -> Iterator[T]:
        """Events as they come, until ``timeout`` seconds from now.

        Raises:
            InvalidArgument: ``timeout`` is negative or not a number.
        """
        return self._until(time.monotonic() + seconds("timeout", timeout, zero=True))

    def _until(self, end: float) -> Iterator[T]:
        while (event := self.get(max(0.0, end - time.monotonic()))) is not None:
            yield event
            if time.monotonic() >= end:
                return

    async def get_async(self, timeout: Seconds) -> T | None:  # the same face as get
        """Like `get`, on the running event loop. Cancelling it loses no event."""
        import asyncio

        loop = asyncio.get_running_loop()
        end = loop.time() + seconds("timeout", timeout, zero=True)
        while True:
            with self._changed:
                if self._items:
                    return self._items.popleft()
                left = end - loop.time()
                if left <= 0.0:
                    return None
                waiter: tuple[Any, asyncio.Future[None]] = (loop, loop.create_future())
                self._waiters.append(waiter)
            try:
                await asyncio.wait((waiter[1],), timeout=left)
            finally:
                self._leave(waiter)

    def _leave(self, waiter: tuple[Any, asyncio.Future[None]]) -> None:
        """Give up a waiter's place; a wake-up that it did not use goes to the next one."""
        with self._changed:
            try:
                self._waiters.remove(waiter)
            except ValueError:
                if self._items:
                    self._wake_one()

    def __repr__(self) -> str:
        return f"Queue({len(self)}/{self.maxsize}, policy={self.policy!r}, dropped={self.dropped})"


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


_queues: weakref.WeakSet[Queue[Any]] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for queue in list(_queues):
        queue._reset()


os.register_at_fork(after_in_child=_after_fork_in_child)
