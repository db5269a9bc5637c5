"""Waiting for a reader of shared memory: threads, tasks, contexts, and closing at any moment."""

from __future__ import annotations

import os
import select
import threading
import time
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from hastack import context
from hastack._core import _validate
from hastack._core._errors import ClosedError, ForkUnsafe
from hastack._core._fork import renew_in_child

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from types import TracebackType

    from hastack._core._validate import Seconds

__all__ = ("BATCH", "Reader")

# Records in a batch: more at once are slower, as their memory leaves the processor's cache.
BATCH = 2048
_BUSY_PAUSE = 0.001  # seconds, while a program is writing the record that is next

BatchT = TypeVar("BatchT")


class Reader(Generic[BatchT]):
    """Takes batches out of shared memory; a subclass says how.

    ``_lock`` is held by whoever takes records or closes.
    """

    _what = "reader"

    def __init__(self, name: str, descriptors: tuple[int, ...]) -> None:
        self.name = name
        self._descriptors = descriptors
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._lock = threading.Lock()
        self._idle = threading.Condition()
        self._waiting = 0
        self._loops: set[Any] = set()
        self._closed = self._forked = False
        renew_in_child(self)

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._closed

    def _look(self, limit: int) -> tuple[BatchT, bool]:
        """What is there now, and whether a record is being written; the lock is held."""
        raise NotImplementedError

    def _settle(self) -> None:
        """Keep what can only be read before closing; the lock is held."""

    def _release(self) -> None:
        """Give the memory back; nobody reads any more."""
        raise NotImplementedError

    def _check(self) -> None:
        if self._forked:
            raise ForkUnsafe(
                f"{self._what} {self.name} was opened before the fork: open one in this process"
            )
        if self._closed:
            raise ClosedError(f"{self._what} {self.name}")

    def take(self, *, limit: int = BATCH) -> BatchT:
        """What is there now, without waiting.

        Args:
            limit: How many records at most.

        Raises:
            ClosedError: The reader was closed.
            ForkUnsafe: It belongs to the parent process.
        """
        return self._take(_validate.integer("limit", limit))[0]

    def _take(self, limit: int) -> tuple[BatchT, bool]:
        self._check()
        with self._lock:
            self._check()
            return self._look(limit)

    def read_batch(self, *, timeout: Seconds | None = None, limit: int = BATCH) -> BatchT:
        """Wait for records and take them; an empty batch when there are none in time.

        Args:
            timeout: Seconds to wait at most, ``None`` for no limit. The context's deadline counts
                as well.
            limit: How many records at most.

        Raises:
            ContextError: The context ended.
            ClosedError: The reader was closed.
            ForkUnsafe: It belongs to the parent process.
        """
        limit = _validate.integer("limit", limit)
        patience = _validate.optional_seconds("timeout", timeout, zero=True)
        ctx = context.current()
        ends = None if patience is None else time.monotonic() + patience
        while True:
            batch, stopped = self._take(limit)
            if batch:
                return batch
            left = None if ends is None else ends - time.monotonic()
            if left is not None and left <= 0.0:
                return batch
            ctx.check()
            remaining = ctx.remaining()
            if remaining is not None and (left is None or remaining < left):
                left = remaining
            if stopped:
                time.sleep(_BUSY_PAUSE)
            else:
                self._wait(left, ctx)

    def _wait(self, timeout: float | None, ctx: context.Context) -> None:
        """Until there are records, the time is over, the context has ended, or it is closed."""
        with self._idle:
            self._check()
            self._waiting += 1
        stop = ctx._watch(self._ring_up)
        try:
            with select.epoll() as poll:
                for fd in self._descriptors:
                    poll.register(fd, select.EPOLLIN)
                poll.register(self._wake, select.EPOLLIN)
                poll.poll(timeout)
        finally:
            stop()
            with self._idle:
                self._waiting -= 1
                if not self._closed and not self._waiting:
                    self._quiet()
                self._idle.notify_all()

    def _ring_up(self) -> None:
        try:
            os.eventfd_write(self._wake, 1)
        except (OSError, ValueError):  # closed meanwhile, or rung already
            pass

    def _quiet(self) -> None:
        try:
            os.eventfd_read(self._wake)
        except BlockingIOError:
            pass

    async def read_batch_async(
        self, *, timeout: Seconds | None = None, limit: int = BATCH
    ) -> BatchT:
        """`read_batch` for a task: the event loop watches the ring meanwhile."""
        import asyncio

        limit = _validate.integer("limit", limit)
        patience = _validate.optional_seconds("timeout", timeout, zero=True)
        loop = asyncio.get_running_loop()
        ends = None if patience is None else loop.time() + patience
        while True:
            batch, stopped = self._take(limit)
            if batch:
                return batch
            left = None if ends is None else ends - loop.time()
            if left is not None and left <= 0.0:
                return batch
            context.current().check()
            remaining = context.current().remaining()
            if remaining is not None and (left is None or remaining < left):
                left = remaining
            if stopped:
                await asyncio.sleep(_BUSY_PAUSE)
            else:
                await self._wait_async(left)

    async def _wait_async(self, timeout: float | None) -> None:
        import asyncio

        loop = asyncio.get_running_loop()
        ready: asyncio.Future[None] = loop.create_future()

        def there() -> None:
            if not ready.done():
                ready.set_result(None)

        def call_up() -> None:
            try:
                loop.call_soon_threadsafe(there)
            except RuntimeError:  # the loop has ended, and its tasks with it
                pass

        # Descriptors of its own: another task of this loop may watch them as well, and a loop
        # knows one callback per descriptor.
        with self._idle:
            self._check()
            self._loops.add(call_up)
            copies = [os.dup(fd) for fd in self._descriptors]
        stop = context.current()._watch(call_up)
        try:
            for fd in copies:
                loop.add_reader(fd, there)
            # Not wait_for: before Python 3.12 it may swallow that the task is cancelled.
            async with asyncio.timeout(timeout):
                await ready
        except TimeoutError:
            pass  # the caller looks at the clock
        finally:
            stop()
            for fd in copies:
                loop.remove_reader(fd)
                os.close(fd)
            self._loops.discard(call_up)

    def __iter__(self) -> Iterator[BatchT]:
        """Batches as they come, until the reader is closed."""
        try:
            while True:
                yield self.read_batch()
        except ClosedError:
            return

    async def __aiter__(self) -> AsyncIterator[BatchT]:
        """Batches as they come, until the reader is closed."""
        try:
            while True:
                yield await self.read_batch_async()
        except ClosedError:
            return

    def close(self) -> None:
        """Stop reading; waits for a batch that is being taken, ends those that wait."""
        if self._forked:
            return
        with self._lock:
            if self._closed:
                return
            self._settle()
            self._closed = True
        self._ring_up()
        for call_up in list(self._loops):
            call_up()
        with self._idle:
            self._idle.wait_for(lambda: not self._waiting, timeout=10.0)
        self._give_back()

    def _give_back(self) -> None:
        self._release()
        for fd in (*self._descriptors, self._wake):
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if not getattr(self, "_closed", True):
            self.close()

    def _after_fork(self) -> None:
        """The parent goes on reading; here the records would be taken away from it."""
        self._lock = threading.Lock()
        self._idle = threading.Condition()
        if not self._closed:
            self._closed = self._forked = True
            self._give_back()
