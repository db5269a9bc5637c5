"""Leases and kept keys of the embedded store."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Self, final

from hastack import context
from hastack._core._errors import ContextError, InvalidArgument, LeaseLost, StoreError

from ._records import Compare, Put, as_bytes

if TYPE_CHECKING:
    from types import TracebackType

    from hastack.context import Context

    from ._records import Key
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
        self._store = store
        self._context = context.with_cancel(context.background(clock=store._engine.clock))

    @property
    def context(self) -> Context:
        """Cancelled, with a `LeaseLost` as cause, the moment the lease ends."""
        return self._context

    async def __aenter__(self) -> Self:
        if self.id:
            raise InvalidArgument("lease", self, "a lease that was not entered before")
        self._store._check()
        self._store._open_leases.add(self)
        self.id = self._store._engine.grant(self.ttl, held=True, ended=self._context.cancel)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._end(LeaseLost(f"lease {self.id:x} was left", lease=self.id))

    def _end(self, why: Exception) -> None:
        """Give it back: nobody needs what hangs on it any more."""
        engine = self._store._engine
        engine.forget(self.id)
        try:
            engine.revoke(self.id)
        except StoreError:
            pass  # it had ended, or ends by itself: the store is away
        self._context.cancel(why)

    def __repr__(self) -> str:
        return f"<lease {self.id:x}, {self.ttl:g} s>"


@final
class MemoryKept:
    """See `hastack.discovery.Kept`."""

    def __init__(self, store: Store, key: bytes, value: bytes, ttl: float) -> None:
        self.key = key
        self._store = store
        self._value = value
        self._ttl = ttl
        self._lease: Lease | None = None
        self._present = False
        self._task: asyncio.Task[None] | None = None

    @property
    def present(self) -> bool:
        """Whether the store was last known to hold it."""
        return self._present

    async def set(self, value: Key) -> None:
        """Change the value; returns once the store has it."""
        if self._task is None:
            raise InvalidArgument("kept", self, "a kept key inside its `async with`")
        self._value = as_bytes("value", value)
        await self._put()

    async def __aenter__(self) -> Self:
        if self._task is not None:
            raise InvalidArgument("kept", self, "a kept key that was not entered before")
        await self._put()
        self._task = asyncio.get_running_loop().create_task(self._keep(), name=repr(self))
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.wait((self._task,))
        self._present = False
        if self._lease is not None:
            await self._lease.__aexit__(None, None, None)

    async def _put(self) -> None:
        """Have the store hold the key, on a lease that lives."""
        if self._lease is None or self._lease.context.done:
            lease = self._store.lease(self._ttl)
            await lease.__aenter__()
            self._lease = lease
        await self._store.put(self.key, self._value, lease=self._lease)
        self._present = True

    async def _keep(self) -> None:
        """Put the key back whenever it has gone, for as long as the block runs."""
        with context.using(context.without_cancel()):
            pause = 0.05
            while True:
                try:
                    async with self._store.watch(self.key) as watch:
                        async for batch in watch:
                            self._present = bool(batch.events) and batch.events[-1].kind == "put"
                            if not self._present:
                                await self._put_back()
                            pause = 0.05
                except (StoreError, ContextError):
                    self._present = False
                    await asyncio.sleep(pause * random.uniform(0.5, 1.0))
                    pause = min(pause * 2.0, 1.0)

    async def _put_back(self) -> None:
        """Put it if it is still missing: a `set` may have been faster."""
        if self._lease is None or self._lease.context.done:
            await self._put()
            return
        put = Put(self.key, self._value, self._lease.id)
        await self._store.txn([Compare.absent(self.key)], [put])
        self._present = True

    def __repr__(self) -> str:
        return f"<kept {self.key!r}>"
