"""Leases and kept keys of the embedded store."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Self, final

from hastack import context
from hastack._core._cancel import BACKGROUND
from hastack._core._errors import InvalidArgument, LeaseLost, StoreError

from ._memory_watch import Wake
from ._records import as_bytes

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from hastack.context import Context

    from ._records import Batch, Key
    from ._store import Lease
    from .memory import Store

__all__ = ("MemoryKept", "MemoryLease")


@final
class MemoryLease:
    """See `hastack.discovery.Lease`. It lives as long as its block: the store is in this process.

    Attributes:
        id: Its number; 0 before it is entered.
        ttl: Seconds that it outlives an outage.
    """

    def __init__(self, store: Store, ttl: float) -> None:
        self.id = 0
        self.ttl = ttl
        assert store._engine is not None
        self._store = store
        self._engine = store._engine
        self._context = context.with_cancel(context.background(clock=store._engine.clock))

    @property
    def context(self) -> Context:
        """Cancelled, with a `LeaseLost` as cause, the moment the lease ends."""
        return self._context

    async def __aenter__(self) -> Self:
        if self.id:
            raise InvalidArgument("lease", self, "a lease that was not entered before")
        self._store._check()
        self.id = self._engine.grant(self.ttl, held=True, ended=self._context.cancel)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._end(LeaseLost(f"lease {self.id:x} was left", lease=self.id))

    async def _end(self, why: Exception) -> None:
        """Give it back: nobody needs what hangs on it any more."""
        self._engine.forget(self.id)
        try:
            self._engine.revoke(self.id)
        except StoreError:
            pass  # it had ended, or ends by itself: the store is away
        self._context.cancel(why)

    def __repr__(self) -> str:
        return f"<lease {self.id:x}, {self.ttl:g} s>"


def _nothing() -> None:
    pass


@final
class MemoryKept:
    """See `hastack.discovery.Kept`."""

    def __init__(self, store: Store, key: bytes, value: bytes, ttl: float) -> None:
        self.key = key
        self._store = store
        self._value = value
        self._ttl = ttl
        self._lease: Lease | None = None
        self._revision = 0  # of the last put
        self._present = False
        self._tasks: list[asyncio.Task[None]] = []
        self._forget: Callable[[], object] = _nothing

    @property
    def present(self) -> bool:
        """Whether the store was last known to hold it."""
        return self._present

    async def set(self, value: Key) -> None:
        """Change the value; returns once the store has it."""
        if not self._tasks:
            raise InvalidArgument("kept", self, "a kept key inside its `async with`")
        self._value = as_bytes("value", value)
        await self._put()

    async def __aenter__(self) -> Self:
        if self._tasks:
            raise InvalidArgument("kept", self, "a kept key that was not entered before")
        loop = asyncio.get_running_loop()
        self._turn = asyncio.Lock()
        self._gone = asyncio.Event()
        self._told = Wake(loop, self._gone.set)
        await self._put()
        with context.using(BACKGROUND):  # the deadline of this call is not that of the key
            self._tasks = [loop.create_task(work) for work in (self._follow(), self._restore())]
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._forget()
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)
        self._present = False
        if self._lease is not None:
            await self._lease.__aexit__(None, None, None)

    async def _put(self) -> None:
        """Have the store hold the key, on a lease that lives."""
        async with self._turn:
            lease = self._lease
            if lease is None or lease.context.done:
                lease = self._store.lease(self._ttl)
                await lease.__aenter__()
                self._lease = lease
                self._forget()
                self._forget = lease.context.after_func(self._told)
            self._revision = (await self._store.put(self.key, self._value, lease=lease)).revision
            self._present = True

    async def _follow(self) -> None:
        """Notice when the key has gone."""
        while True:
            try:
                async with self._store.watch(self.key) as watch:
                    async for batch in watch:
                        if self._shows_gone(batch):
                            self._present = False
                            self._gone.set()
            except StoreError:
                await asyncio.sleep(1.0)

    def _shows_gone(self, batch: Batch) -> bool:
        """Whether the key has gone since it was last put."""
        if batch.events:
            last = batch.events[-1]
            return last.kind == "delete" and last.kv.mod_revision > self._revision
        return batch.reason == "snapshot" and batch.revision >= self._revision

    async def _restore(self) -> None:
        """Put the key back whenever it, or its lease, has gone."""
        pause = 0.05
        while True:
            await self._gone.wait()
            self._gone.clear()
            try:
                await self._put()
                pause = 0.05
            except StoreError:
                self._present = False
                self._gone.set()
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))
                pause = min(pause * 2.0, 1.0)

    def __repr__(self) -> str:
        return f"<kept {self.key!r}>"
