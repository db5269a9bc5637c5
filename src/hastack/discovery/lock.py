"""A lock that several processes share, fair and with fencing tokens, on any store.

A lock on leases is not safe by itself: a holder that is stopped (a paused machine, a long garbage
collection, a slow disk) may wake up after its lease has ended and somebody else holds the lock,
and go on for a moment. So each holder gets a *fence*, a number larger than that of every holder
before it. Hand it along with every write, and have whatever is written to refuse a smaller one
than it has seen. For keys in the store itself, `Held.check` is that refusal.

Martin Kleppmann, "How to do distributed locking", 2016, shows what happens without one.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, final

import attrs

from hastack import context
from hastack._core._errors import InvalidArgument
from hastack._core._portal import PORTAL
from hastack._core._validate import seconds, text

from . import _layout
from ._queue import first, hold
from ._records import Compare

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager
    from types import TracebackType

    from hastack._core._validate import Seconds
    from hastack.context import Context

    from ._queue import Place
    from ._records import KeyValue
    from ._store import Lease, Store

__all__ = ("Held", "Lock", "SyncLock")


@final
@attrs.frozen
class Held:
    """A lock that is held.

    Attributes:
        key: The holder's key in the store.
        fence: Fencing token: larger than that of every holder before. After the store was restored
            from a backup it may be smaller, as all revisions.
        context: Ends when the lock can no longer be relied on, with a `LeaseLost` as cause.
    """

    key: bytes
    fence: int
    context: Context

    @property
    def check(self) -> Compare:
        """The condition that this holder still holds the lock, for a transaction of the store.

        Example:
            >>> from hastack.discovery import Put
            >>> async def save(store, held):
            ...     done = await store.txn([held.check], [Put("/total", "42")])
            ...     return done.succeeded
        """
        return Compare(self.key, "create_revision", "==", self.fence)


@final
class Lock:
    """A lock that processes share, held by one of them at a time in the order of asking.

    One object is one turn: enter it once at a time, and make another for another task. The block
    runs under `Held.context`: when the lock is lost, it is cancelled and `hastack.errors.Cancelled`
    with the `LeaseLost` as cause is raised. Waiting lasts as long as the current context allows.

    Args:
        store: Where the lock is; every store of `hastack.discovery` will do.
        name: Name of the lock.
        ttl: Seconds after which a holder that has died or cannot be reached loses it. A holder
            that is alive keeps it for as long as it likes.

    Raises:
        InvalidArgument: An argument is not what its name asks for, or (from entering) it is
            entered already.
        ContextError: (from entering) The current context ended before the lock was free.
        LeaseLost: (from entering) The place in the queue was lost.
        StoreError: (from entering) The store could not be reached, or refused.

    Example:
        >>> import asyncio
        >>> from hastack.discovery import memory
        >>> from hastack.discovery.lock import Lock
        >>> async def main():
        ...     store = memory.Store()
        ...     async with Lock(store, "reports", ttl=10.0) as held:
        ...         return held.fence
        >>> asyncio.run(main())
        2
    """

    def __init__(self, store: Store, name: str, *, ttl: Seconds = 10.0) -> None:
        self.name = text("name", name)
        self._store = store
        self._prefix = _layout.lock_prefix(name)
        self._ttl = seconds("ttl", ttl)
        self._turn = Turn(store, self._prefix, self._ttl, b"")

    async def __aenter__(self) -> Held:
        return _held(await self._turn.enter())

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._turn.leave(exc_type, exc, traceback)

    def sync(self) -> SyncLock:
        """The same for a thread without an event loop: ``with lock.sync() as held: ...``."""
        return SyncLock(self._turn)

    async def holder(self) -> KeyValue | None:
        """The key of whoever holds it now; ``None`` when nobody does. Its lease tells who it is.

        Raises:
            StoreError: The store could not be reached, or refused.
        """
        return first((await self._store.range(self._prefix, prefix=True)).kvs)

    def __repr__(self) -> str:
        return f"<Lock {self.name!r}, {'entered' if self._turn.entered else 'not entered'}>"


def _held(turn: tuple[Place, Context]) -> Held:
    place, ctx = turn
    return Held(place.key, place.revision, ctx)


@final
class SyncLock:
    """`Lock` for threads; from `Lock.sync`.

    What runs in the block is cancelled cooperatively: `hastack.context` is `Held.context` there,
    and everything in hastack that blocks looks at it.
    """

    def __init__(self, turn: Turn) -> None:
        self._turn = turn
        self._scope: Context | None = None

    def __enter__(self) -> Held:
        self._turn.claim()
        try:
            place, ctx = PORTAL.call(self._turn.take)
        except BaseException:
            self._release()
            raise
        self._scope = ctx.__enter__()
        return Held(place.key, place.revision, ctx)

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            scope, self._scope = self._scope, None
            assert scope is not None
            scope.__exit__(exc_type, exc, traceback)
        finally:
            self._release()

    def _release(self) -> None:
        # Whatever has become of the caller's context: the next one in the queue is waiting.
        PORTAL.call(self._turn.release, ctx=context.background())


@final
class Turn:
    """One turn in a queue, taken and given back."""

    def __init__(self, store: Store, prefix: bytes, ttl: float, value: bytes) -> None:
        self._store = store
        self._prefix = prefix
        self._ttl = ttl
        self._value = value
        self._claim = threading.Lock()
        self._manager: AbstractAsyncContextManager[tuple[Place, Lease, Context]] | None = None
        self._scope: Context | None = None
        self.lease: Lease | None = None

    @property
    def entered(self) -> bool:
        """Whether it is taken, or somebody waits for it."""
        return self._claim.locked()

    def claim(self) -> None:
        """Make sure that nobody else uses this object meanwhile."""
        if not self._claim.acquire(blocking=False):
            raise InvalidArgument("lock", self, "one that is not entered already")

    async def enter(self) -> tuple[Place, Context]:
        """Wait for the turn; the caller's block then runs under its context."""
        self.claim()
        try:
            place, ctx = await self.take()
            self._scope = await ctx.__aenter__()
        except BaseException:
            await self.release()
            raise
        return place, ctx

    async def leave(
        self,
        exc_type: type[BaseException] | None = None,
        exc: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        """End the caller's block, and give the turn back; the second time, do nothing."""
        scope, self._scope = self._scope, None
        try:
            if scope is not None:
                await scope.__aexit__(exc_type, exc, traceback)
        finally:
            await self.release()

    async def take(self) -> tuple[Place, Context]:
        """Wait for the turn."""
        manager = hold(self._store, self._prefix, self._ttl, self._value)
        place, self.lease, ctx = await manager.__aenter__()
        self._manager = manager
        return place, ctx

    async def release(self) -> None:
        """Give it back if it is held."""
        manager, self._manager = self._manager, None
        try:
            if manager is not None:
                await manager.__aexit__(None, None, None)
        finally:
            if self._claim.locked():
                self._claim.release()
