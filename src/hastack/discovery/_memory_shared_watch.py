"""A watch of a shared store: goes on over whatever link there is.

A pump on the background loop takes batches from the link and puts one at a time where any loop can
fetch it; what comes meanwhile stays with the owner, in the buffer that the watch asked for. When
the link is lost and the next one leads to the same data, it goes on at the next revision; when it
leads to other data, the subscriber gets the exact difference.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from typing import TYPE_CHECKING, Self, final

from hastack import context
from hastack._core._cancel import BACKGROUND, _current
from hastack._core._errors import (
    ClosedError,
    HastackError,
    InvalidArgument,
    StoreError,
    StoreUnavailable,
)
from hastack._core._portal import PORTAL

from ._memory_client import LinkLost
from ._memory_watch import Wake, resolve
from ._memory_wire import WatchCall
from ._mvcc import TO_THE_LAST
from ._mvcc_view import View
from ._records import prefix_end

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from types import TracebackType

    from hastack._core._portal import Handle

    from ._memory_client import Feed, Link
    from ._memory_shared import Shared
    from ._records import Batch

__all__ = ("SharedWatch",)


@final
class SharedWatch:
    """See `hastack.discovery.Watch`."""

    def __init__(self, shared: Shared, call: WatchCall) -> None:
        self._shared = shared
        self._call = call
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._slot: Batch | None = None  # what the subscriber gets next
        self._wake: Wake | None = None  # the subscriber, when it waits
        self._failure: HastackError | None = None  # why nothing more will come
        self._taken: asyncio.Event | None = None
        self._pump: Handle[None] | None = None
        self._waiting = False
        self._heard = time.monotonic()
        self._link: Link | None = None
        self.trouble: Exception | None = None

    async def __aenter__(self) -> Self:
        if self._pump is not None:
            raise InvalidArgument("watch", self, "a watch that was not entered before")
        _current.get().check()
        self._pid = os.getpid()
        with context.using(BACKGROUND):  # what runs there outlives the call that is current
            self._pump = PORTAL.spawn(self._run(), name=repr(self))
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._end(ClosedError("the watch"))

    def _end(self, why: HastackError) -> None:
        """Hand over nothing more."""
        if self._pump is not None and self._pid == os.getpid():
            self._pump.cancel()
        self._fail(why)

    def _fail(self, why: HastackError) -> None:
        with self._lock:
            if self._failure is None:
                self._failure = why
            wake, self._wake = self._wake, None
        if wake is not None:
            wake()

    # The subscriber, on its loop

    def __aiter__(self) -> AsyncIterator[Batch]:
        return self

    async def __anext__(self) -> Batch:
        if self._pump is None:
            raise InvalidArgument("watch", self, "a watch inside its `async with`")
        if self._pid != os.getpid():
            raise ClosedError("the watch, which belongs to the parent process,")
        if self._waiting:
            raise InvalidArgument("watch", self, "one task at a time that iterates")
        ctx = _current.get()
        ctx.check()
        loop = asyncio.get_running_loop()
        self._waiting = True
        try:
            while True:
                ready: asyncio.Future[None] = loop.create_future()
                batch = self._take(Wake(loop, resolve(ready)))
                if batch is not None:
                    return batch
                stop = ctx.after_func(Wake(loop, resolve(ready)))
                try:
                    await ready
                finally:
                    stop()
                ctx.check()
        finally:
            self._waiting = False

    def _take(self, wake: Wake) -> Batch | None:
        with self._lock:
            if self._failure is not None:
                raise self._failure
            batch, self._slot = self._slot, None
            self._wake = wake if batch is None else None
            taken = self._taken
        if batch is not None and taken is not None:
            PORTAL.loop.call_soon_threadsafe(taken.set)
        return batch

    @property
    def age(self) -> float:
        """Seconds since the owner was last heard of."""
        link = self._link
        heard = self._heard if link is None else max(self._heard, link.heard)
        return max(0.0, time.monotonic() - heard)

    def __repr__(self) -> str:
        return f"<watch {self._call.key!r} of memory://{self._shared.path}>"

    # The pump, on the background loop

    async def _run(self) -> None:
        self._taken = asyncio.Event()
        view = View(prev=self._call.prev)
        try:
            while True:
                try:
                    await self._follow(await self._shared.linked(), view)
                except StoreUnavailable as error:
                    self.trouble = error
                    await asyncio.sleep(0.01)
        except HastackError as error:
            self._fail(error)

    async def _follow(self, link: Link, view: View) -> None:
        """Hand over what comes over one link, until it is lost."""
        feed, reason = await self._begin(link, view)
        self._link, self.trouble = link, None
        try:
            while True:
                batch = await feed.next()
                if batch.reason in {"snapshot", "compacted"}:
                    batch = view.compare(batch, reason or batch.reason, cluster=link.cluster)
                else:
                    batch = view.note(batch)
                reason = ""
                await self._offer(batch)
        finally:
            self._heard, self._link = max(self._heard, link.heard), None
            feed.close()

    async def _begin(self, link: Link, view: View) -> tuple[Feed, str]:
        """Watch on from where the subscriber is; with the reason for a listing if it gets one."""
        call = self._call
        start = call.start_revision
        reason = ""
        if view.cluster not in {0, link.cluster}:
            start, reason = None, "restored"
        elif view.revision:
            start = view.revision + 1
        elif start is not None:
            await self._know(link, view, start - 1)
        asked = WatchCall(call.key, call.prefix, start, call.prev, call.buffer)
        return await link.watch(asked), reason

    async def _know(self, link: Link, view: View, revision: int) -> None:
        """Find out which keys a subscriber knows that begins after ``revision``.

        Should the store be replaced by another one, it has to be told of their end.
        """
        call = self._call
        key, end = (call.key, prefix_end(call.key) if call.prefix else None)
        if not key:
            key, end = b"\0", TO_THE_LAST
        try:
            found = await link.call("range", (key, end, revision, 0, not call.prev, False))
        except LinkLost:
            raise
        except StoreError:
            return  # compacted, or in the future
        view.begin(found.kvs, revision)
        view.cluster = link.cluster

    async def _offer(self, batch: Batch) -> None:
        """Put a batch where the subscriber finds it, and wait until it has."""
        assert self._taken is not None
        self._taken.clear()
        with self._lock:
            self._slot = batch
            wake, self._wake = self._wake, None
        if wake is not None:
            wake()
        await self._taken.wait()
