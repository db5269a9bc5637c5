"""Stores that end a process at a chosen operation, and what tests of federation ask of a mirror."""

from __future__ import annotations

import asyncio
from collections import defaultdict

from hastack import context
from hastack.discovery import Batch
from hastack.discovery._layout import origin_prefix
from hastack.errors import LeaseLost, StoreUnavailable


class Fuse:
    """Burns down with each operation of the stores that share it; then they are dead to all.

    Args:
        after: Operations that succeed; ``None`` for no end.
        lost_reply: Whether the last one is carried out and only its answer is lost.
    """

    def __init__(self, after: int | None = None, *, lost_reply: bool = False) -> None:
        self.after = after
        self.lost_reply = lost_reply
        self.count = 0
        self.blown = asyncio.Event()

    async def guard(self, call):
        if self.blown.is_set():
            raise StoreUnavailable("this process is dead")
        self.count += 1
        if self.after is None or self.count <= self.after:
            return await call()
        if self.lost_reply:
            await call()
        self.blown.set()
        await asyncio.Future()  # no answer ever comes; whoever waits is ended from outside

    def blow(self) -> None:
        self.blown.set()


class RawLease:
    """A lease as a separate process would hold it: when that is dead, nobody revokes it."""

    def __init__(self, store, fuse: Fuse, ttl: float) -> None:
        self.store, self.fuse, self.ttl = store, fuse, ttl
        self.id = 0
        self.context = context.with_cancel()

    async def __aenter__(self):
        self.id = await self.fuse.guard(lambda: self.store.grant(self.ttl))
        self.renewing = asyncio.create_task(self._renew())
        return self

    async def _renew(self):
        while not self.fuse.blown.is_set():
            await asyncio.sleep(self.ttl / 3)
            if self.fuse.blown.is_set():
                return
            try:
                await self.store.renew(self.id)
            except LeaseLost as lost:
                self.context.cancel(lost)
                return
            except StoreUnavailable:
                pass

    async def __aexit__(self, *exc):
        self.renewing.cancel()
        if not self.fuse.blown.is_set():
            try:
                await self.store.revoke(self.id)
            except (LeaseLost, StoreUnavailable):
                pass


class OneByOne:
    """A watch that hands over each revision on its own, as slowly as a network may."""

    def __init__(self, watch) -> None:
        self.watch, self.waiting = watch, []

    async def __aenter__(self):
        await self.watch.__aenter__()
        return self

    async def __aexit__(self, *exc):
        await self.watch.__aexit__(*exc)

    def __aiter__(self):
        return self

    async def __anext__(self):
        if not self.waiting:
            batch = await anext(self.watch)
            if batch.resync:
                return batch
            revisions = sorted({event.kv.mod_revision for event in batch.events})
            self.waiting = [
                Batch([e for e in batch.events if e.kv.mod_revision == each], each)
                for each in revisions
            ]
        else:
            await asyncio.sleep(0.01)
        return self.waiting.pop(0)

    @property
    def age(self):
        return self.watch.age

    @property
    def trouble(self):
        return self.watch.trouble


class FusedStore:
    """A store whose calls pass through a `Fuse`."""

    def __init__(self, store, fuse: Fuse) -> None:
        self.store, self.fuse, self.url = store, fuse, store.url

    def __getattr__(self, name):
        async def call(*args, **kwargs):
            return await self.fuse.guard(lambda: getattr(self.store, name)(*args, **kwargs))

        return call

    def watch(self, *args, **kwargs):
        return OneByOne(self.store.watch(*args, **kwargs))

    def lease(self, ttl):
        return RawLease(self.store, self.fuse, ttl)


async def content(store, area: str, origin: str) -> dict[bytes, bytes]:
    """What lies under an origin, without the prefix."""
    prefix = origin_prefix(area, origin)
    found = await store.range(prefix, prefix=True)
    return {kv.key[len(prefix) :]: kv.value for kv in found.kvs}


async def same(source, destination, origin: str) -> bool:
    return await content(source, "reg", origin) == await content(destination, "mir", origin)


async def until(condition, *, seconds: float = 60.0, step: float = 0.05):
    """Wait for a condition, on the loop's clock."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while not await condition():
        assert loop.time() < end, "it did not come to that"
        await asyncio.sleep(step)


class History:
    """Every change under an origin, in order, as a watch saw it from the start."""

    def __init__(self, store, area: str, origin: str) -> None:
        self.store, self.prefix = store, origin_prefix(area, origin)
        self.events = []

    async def __aenter__(self):
        self.watch = self.store.watch(self.prefix, prefix=True, start_revision=1)
        await self.watch.__aenter__()
        self.task = asyncio.create_task(self._collect())
        return self

    async def _collect(self):
        async for batch in self.watch:
            assert not batch.resync
            self.events += batch.events

    async def __aexit__(self, *exc):
        self.task.cancel()
        await asyncio.wait({self.task})
        await self.watch.__aexit__(None, None, None)

    def by_key(self) -> dict[bytes, list[bytes | None]]:
        found = defaultdict(list)
        for event in self.events:
            value = None if event.kind == "delete" else event.kv.value
            found[event.kv.key[len(self.prefix) :]].append(value)
        return found


def assert_exactly_once(source: History, mirror: History) -> None:
    """Each key of the mirror went through states of the source, in order, each at most once.

    The values that a test writes must all differ.
    """
    said = source.by_key()
    for key, values in mirror.by_key().items():
        place = 0
        states = said[key]
        for value in values:
            assert value in states[place:], (key, values, states)
            place = states.index(value, place) + 1
