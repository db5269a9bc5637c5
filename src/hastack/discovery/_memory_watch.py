"""A watch of the embedded store: waiting on an event loop for what a subscription holds."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self, final

from hastack._core._cancel import BACKGROUND, _current
from hastack._core._errors import ClosedError, HastackError, InvalidArgument

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from types import TracebackType

    from ._mvcc_watch import Subscription
    from ._records import Batch
    from .memory import Store

__all__ = ("MemoryWatch", "Wake", "resolve")


@final
class MemoryWatch:
    """See `hastack.discovery.Watch`."""

    def __init__(self, store: Store, subscription: Subscription) -> None:
        assert store._engine is not None
        self._store = store
        self._engine = store._engine
        self._subscription = subscription
        self._entered = False
        self._left: HastackError | None = None  # why there is nothing more to come
        self._waiting = False

    async def __aenter__(self) -> Self:
        if self._entered:
            raise InvalidArgument("watch", self, "a watch that was not entered before")
        self._store._check()
        self._engine.subscribe(self._subscription)
        self._entered = True
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._end(ClosedError("the watch"))

    def _end(self, why: HastackError) -> None:
        """Hand over nothing more: the block was left, or the store closed."""
        if self._left is None:
            self._left = why
        self._engine.unsubscribe(self._subscription)

    def __aiter__(self) -> AsyncIterator[Batch]:
        return self

    async def __anext__(self) -> Batch:
        if not self._entered:
            raise InvalidArgument("watch", self, "a watch inside its `async with`")
        if self._waiting:
            raise InvalidArgument("watch", self, "one task at a time that iterates")
        ctx = _current.get()
        ctx.check()
        loop = asyncio.get_running_loop()
        self._waiting = True
        try:
            while True:
                if self._left is not None:
                    raise self._left
                ready: asyncio.Future[None] = loop.create_future()
                batch = self._engine.take(self._subscription, Wake(loop, resolve(ready)))
                if batch is not None:
                    return batch
                if ctx is BACKGROUND:
                    await ready
                    continue
                stop = ctx.after_func(Wake(loop, resolve(ready)))
                try:
                    await ready
                finally:
                    stop()
                ctx.check()
        finally:
            self._waiting = False

    @property
    def age(self) -> float:
        """Seconds since it was last certain to be current: nothing but an outage comes between."""
        away = self._engine.away
        return 0.0 if away is None else self._engine.clock.monotonic() - away

    @property
    def trouble(self) -> Exception | None:
        """Nothing: a store of this process can always be asked."""
        return None

    def __repr__(self) -> str:
        return f"<watch {self._subscription.key!r} of {self._store.url}>"


@final
class Wake:
    """Calls ``callback`` on ``loop``, from any thread."""

    __slots__ = ("_callback", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop, callback: Callable[[], object]) -> None:
        self._loop = loop
        self._callback = callback

    def __call__(self) -> None:
        # A task of that very loop need not go through the pipe that wakes it. Outside of a task it
        # may be just about to wait: a manual clock rings while it does.
        if asyncio._get_running_loop() is self._loop and asyncio.current_task() is not None:
            self._callback()
            return
        try:
            self._loop.call_soon_threadsafe(self._callback)
        except RuntimeError:
            pass  # the loop is closed, and nobody waits on it


def resolve(future: asyncio.Future[None]) -> Callable[[], None]:
    """What resolves ``future`` unless that has happened."""

    def wake() -> None:
        if not future.done():
            future.set_result(None)

    return wake
