"""A queue of keys, ordered by when each was created: what locks and elections are made of.

The recipe is that of ZooKeeper and of etcd's ``concurrency`` package: everybody puts a key of
their own, on their own lease, under one prefix. The oldest key is first; each of the others
watches only the key just before its own, so that one departure wakes one waiter.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Final, final

from hastack import context
from hastack._core._errors import Cancelled, LeaseLost, StoreError, StoreUnavailable

from ._records import Compare, Get, KeyValue, Put, RangeResult

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from typing import TypeVar

    from hastack.context import Context

    from ._store import Lease, Store

    T = TypeVar("T")

__all__ = ("Place", "first", "hold")

PAUSE: Final = 0.5
"""Longest pause in seconds before a store that is away is asked again."""


def first(kvs: tuple[KeyValue, ...]) -> KeyValue | None:
    """The key whose turn it is."""
    return min(kvs, key=_age, default=None)


def _age(kv: KeyValue) -> int:
    return kv.create_revision


@asynccontextmanager
async def _while_held(lease: Lease) -> AsyncIterator[None]:
    """Cancel the block when ``lease`` is lost, and raise its error instead."""
    scope = context.with_cancel()
    stop = lease.context.after_func(lambda: scope.cancel(lease.context.cause()))
    try:
        async with scope:
            yield
    except Cancelled as error:
        if isinstance(error.cause, LeaseLost):
            raise error.cause from None
        raise
    finally:
        stop()


async def _persist(call: Callable[[], Awaitable[T]]) -> T:
    """Repeat ``call`` while the store is away; whoever waits has a lease or a deadline to end it."""
    pause = 0.02
    while True:
        try:
            return await call()
        except StoreUnavailable:
            await asyncio.sleep(pause * (0.5 + 0.5 * random.random()))
            pause = min(pause * 2.0, PAUSE)


@final
class Place:
    """One place in a queue.

    Args:
        store: Where the queue is.
        prefix: Under which its keys are; ends with a slash.
        lease: What this one's key hangs on.
        value: What it holds.

    Attributes:
        key: Its key.
        revision: The revision that created it; 0 before `join`.
    """

    def __init__(self, store: Store, prefix: bytes, lease: Lease, value: bytes) -> None:
        self.key = prefix + b"%016x" % lease.id
        self.revision = 0
        self._store = store
        self._prefix = prefix
        self._lease = lease
        self._value = value

    async def join(self) -> None:
        """Take the last place. May be repeated: a place that is taken stays."""
        put = Put(self.key, self._value, self._lease.id)
        look = Get(self.key)
        async with _while_held(self._lease):
            answer = await _persist(
                lambda: self._store.txn([Compare.absent(self.key)], [put, look], [look])
            )
        found = answer.results[-1]
        assert isinstance(found, RangeResult)
        self.revision = found.kvs[0].create_revision

    async def wait(self) -> None:
        """Return when this is the first place.

        Raises:
            LeaseLost: The place is lost: the lease is, or somebody deleted the key.
        """
        async with _while_held(self._lease):
            while (before := await _persist(self._before)) is not None:
                await _persist(partial(self._until_gone, *before))

    async def _before(self) -> tuple[KeyValue, int] | None:
        """The key just before this one and the revision at which it was seen; ``None`` if first."""
        found = await self._store.range(self._prefix, prefix=True, keys_only=True)
        if not any(kv.key == self.key and kv.create_revision == self.revision for kv in found.kvs):
            raise LeaseLost(f"{self.key!r} was deleted", lease=self._lease.id)
        ahead = [kv for kv in found.kvs if kv.create_revision < self.revision]
        return (max(ahead, key=_age), found.revision) if ahead else None

    async def _until_gone(self, before: KeyValue, revision: int) -> None:
        async with self._store.watch(before.key, start_revision=revision + 1) as watch:
            async for batch in watch:
                if batch.resync or any(event.kind == "delete" for event in batch.events):
                    return  # after a resync the queue is read anew

    async def until_lost(self) -> None:
        """Return when the key of this place is not there any more."""
        while True:
            try:
                kv = await self._store.get(self.key)
                if kv is None or kv.create_revision != self.revision:
                    return
                await self._until_gone(kv, kv.mod_revision)
            except StoreError:
                await asyncio.sleep(PAUSE * (0.5 + 0.5 * random.random()))


@asynccontextmanager
async def hold(
    store: Store, prefix: bytes, ttl: float, value: bytes
) -> AsyncIterator[tuple[Place, Lease, Context]]:
    """Take a place, wait for the turn, and leave the queue afterwards.

    Yields:
        The place, its lease, and a context that ends when either is lost.
    """
    async with AsyncExitStack() as stack:
        lease = await stack.enter_async_context(store.lease(ttl))
        place = Place(store, prefix, lease, value)
        await place.join()
        await place.wait()
        held = context.with_cancel()
        stack.callback(held.cancel, "it was left")
        stack.callback(lease.context.after_func(lambda: held.cancel(lease.context.cause())))
        guard = asyncio.get_running_loop().create_task(
            _guard(place, lease, held), name=f"guard of {place.key!r}"
        )
        stack.push_async_callback(_end, guard)
        yield place, lease, held


async def _guard(place: Place, lease: Lease, held: Context) -> None:
    with context.using(context.without_cancel()):
        await place.until_lost()
    held.cancel(LeaseLost(f"{place.key!r} was deleted", lease=lease.id))


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait((task,))
