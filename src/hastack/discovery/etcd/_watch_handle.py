"""What a subscriber holds: batches, on its own event loop."""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING, Self, final

from hastack._core._cancel import BACKGROUND, _current
from hastack._core._errors import ClosedError, InvalidArgument

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable
    from types import TracebackType

    from hastack._core._cancel import Context
    from hastack.discovery._records import Batch

    from ._watch import WatchHub
    from ._watch_subscriber import Subscriber

__all__ = ("EtcdWatch", "wake_all")


@final
class EtcdWatch:
    """See `hastack.discovery.Watch`. Made by `Client.watch`.

    It belongs to the event loop on which it is entered. Nothing runs there while it waits: the
    stream is read on the process's background loop, and one call wakes all who wait on a loop.
    """

    __slots__ = ("_hub", "_left", "_loop", "_pid", "_subscriber", "_waiter")

    def __init__(self, hub: WatchHub, subscriber: Subscriber) -> None:
        self._hub = hub
        self._subscriber = subscriber
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._left = False
        self._pid = os.getpid()
        subscriber.owner = self

    async def __aenter__(self) -> Self:
        if self._loop is not None:
            raise InvalidArgument("watch", self, "a watch that was not entered before")
        self._hub.check_open()
        self._loop = asyncio.get_running_loop()
        self._hub.attach(self._subscriber)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._left = True
        self._subscriber.parcels.clear()
        self._wake()
        self._hub.detach(self._subscriber)

    def __aiter__(self) -> AsyncIterator[Batch]:
        return self

    async def __anext__(self) -> Batch:
        if self._waiter is not None:
            raise InvalidArgument("watch", self, "one task at a time that iterates")
        ctx = _current.get()
        if ctx is not BACKGROUND:
            ctx.check()
        subscriber = self._subscriber
        while (batch := subscriber.take()) is None:
            self._check()
            if subscriber.lagging:
                self._hub.drained(subscriber)
            assert self._loop is not None
            self._waiter = waiter = self._loop.create_future()
            try:
                # What came in between has its wake-up still before it, on this loop.
                if ctx is BACKGROUND:
                    await waiter
                else:
                    await self._wait(waiter, ctx)
            finally:
                self._waiter = None
        return batch

    def _check(self) -> None:
        """Whether there is anything to wait for."""
        if self._left:
            raise ClosedError("the watch")
        if self._loop is None:
            raise InvalidArgument("watch", self, "a watch inside its `async with`")
        error = self._subscriber.error
        if error is not None:
            raise error
        if self._pid != os.getpid():
            raise ClosedError("a watch of the parent process")
        if asyncio.get_running_loop() is not self._loop:
            raise InvalidArgument("watch", self, "the event loop on which it was entered")

    async def _wait(self, waiter: asyncio.Future[None], ctx: Context) -> None:
        loop = waiter.get_loop()

        def ended() -> None:
            try:
                loop.call_soon_threadsafe(_resolve, waiter)
            except RuntimeError:
                pass  # the loop is closed, and nobody waits on it

        stop = ctx.after_func(ended)
        try:
            await waiter
        finally:
            stop()
        ctx.check()

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None:
            _resolve(waiter)

    @property
    def age(self) -> float:
        """Seconds since what it was given was last certain to be the present.

        It grows to the interval between two questions to the server (five seconds) and begins
        anew with each answer; it goes on growing while the store is away, while the server catches
        up, or while batches wait to be taken.
        """
        return max(0.0, time.monotonic() - self._subscriber.certain_at())

    @property
    def trouble(self) -> Exception | None:
        """Why the store could not be asked last; ``None`` as soon as it answers."""
        return self._hub.trouble

    def __repr__(self) -> str:
        where = self._subscriber.where
        return f"<watch of {where.key!r}{'' if where.end is None else '...'}>"


def _resolve(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


def wake_all(watches: Iterable[EtcdWatch]) -> None:
    """Wake those that wait; on their loop."""
    for each in watches:
        waiter = each._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
