"""Forwarders of two origins under random work, crashes, compactions and restored backups."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter

from fused_store import Fuse, FusedStore, History, assert_exactly_once, content, same, until
from hypothesis import given, settings
from hypothesis import strategies as st

from hastack.discovery import Delete, Put, memory
from hastack.discovery._layout import EPOCH, InstanceKey
from hastack.discovery.federation import Forwarder
from hastack.errors import Compacted
from hastack.testing import ManualClock

ORIGINS = ("east", "north")
numbers = st.integers(0, 5)
pauses = st.sampled_from([0.0, 0.01, 0.3, 3.0, 6.0, 20.0, 45.0])
steps = st.one_of(
    st.tuples(st.just("change"), st.dictionaries(numbers, st.booleans(), min_size=1)),
    st.tuples(st.just("sleep"), pauses),
    st.tuples(st.just("crash"), st.tuples(st.integers(0, 12), st.booleans())),
    st.tuples(st.just("rival"), st.none()),
    st.tuples(st.just("compact"), st.none()),
    st.tuples(st.just("epoch"), st.none()),
    st.tuples(st.just("restore"), st.integers(0, 30)),
    st.tuples(st.just("source away"), pauses),
    st.tuples(st.just("destination away"), pauses),
)


def key(origin, number):
    return InstanceKey("reg", origin, "default", "db", str(number)).to_bytes()


class Side:
    """One source, and whoever forwards it."""

    def __init__(self, clock, origin, west, options):
        self.clock, self.origin, self.west, self.options = clock, origin, west, options
        self.store = memory.Store(clock=clock)
        self.serial = itertools.count()
        self.backups = []
        self.lives = 1
        self.running = []
        self.histories = []

    async def listen(self):
        history = History(self.store, "reg", self.origin)
        await history.__aenter__()
        self.histories.append(history)

    async def start(self, fuse=None):
        fuse = fuse or Fuse()
        one = Forwarder(
            FusedStore(self.store, fuse),
            FusedStore(self.west, fuse),
            origin=self.origin,
            **self.options,
        )
        await one.start()
        self.running.append((one, fuse))

    async def kill(self):
        for one, fuse in self.running:
            fuse.blow()
            await one.stop()
        self.running = []

    async def change(self, puts):
        await self.store.txn(
            [],
            [
                Put(key(self.origin, n), b'{"address":"h:%d"}' % next(self.serial))
                if there
                else Delete(key(self.origin, n))
                for n, there in puts.items()
            ],
        )
        self.backups.append(await content(self.store, "reg", self.origin))

    async def restore(self, which):
        """Another store with an older state takes the place of the source."""
        await self.kill()
        backup = self.backups[which % len(self.backups)] if self.backups else {}
        self.store = memory.Store(clock=self.clock)
        self.lives += 1
        await self.listen()
        for name, value in backup.items():
            await self.store.put(f"/hs/1/reg/{self.origin}/".encode() + name, value)
        await self.start()

    async def step(self, what, detail):
        if what == "change":
            await self.change(detail)
        elif what == "sleep":
            await asyncio.sleep(detail)
        elif what == "crash":
            fuse = Fuse(detail[0], lost_reply=detail[1])
            await self.kill()
            await self.start(fuse)
        elif what == "rival":
            if len(self.running) < 3:
                await self.start()
        elif what == "compact":
            try:
                await self.store.compact((await self.store.identity()).revision)
            except Compacted:
                pass
        elif what == "epoch":
            await self.store.put(EPOCH, str(next(self.serial)))
        elif what == "restore":
            await self.restore(detail)
        elif what == "source away":
            with self.store.outage():
                await asyncio.sleep(detail)
        else:
            with self.west.outage():
                await asyncio.sleep(detail)


async def scenario(clock, script, options):
    west = memory.Store(clock=clock)
    await west.put(key("west", 1), b"local")
    await west.put("/hs/1/mir/south/default/db/1", b"foreign")
    sides = [Side(clock, origin, west, options) for origin in ORIGINS]
    mirrors = [History(west, "mir", origin) for origin in ORIGINS]
    for side, mirror in zip(sides, mirrors, strict=True):
        await mirror.__aenter__()
        await side.listen()
        await side.start()
    for index, (what, detail) in script:
        await sides[index].step(what, detail)
    for side, mirror in zip(sides, mirrors, strict=True):
        # Whoever is dead is started anew, as a supervisor would.
        if all(fuse.blown.is_set() or fuse.after is not None for _, fuse in side.running):
            await side.kill()
            await side.start()
        await until(lambda side=side: same(side.store, west, side.origin), seconds=300.0)
        await asyncio.sleep(10.0)
        assert await same(side.store, west, side.origin)
        if side.lives == 1:
            assert_exactly_once(side.histories[0], mirror)
        for values in mirror.by_key().values():
            assert all(one != other for one, other in itertools.pairwise(values))
            written = Counter(value for value in values if value is not None)
            assert max(written.values()) <= side.lives
        await side.kill()
        for history in [*side.histories, mirror]:
            await history.__aexit__()
    assert (await west.get(key("west", 1))).version == 1
    assert (await west.get("/hs/1/mir/south/default/db/1")).version == 1


@settings(max_examples=60)
@given(
    script=st.lists(st.tuples(st.integers(0, 1), steps), max_size=25),
    share=st.sampled_from([0.15, 1.0]),
    coalesce=st.sampled_from([0.0, 5.0]),
)
def test_at_rest_mirrors_are_what_is_registered_and_nothing_was_done_twice(script, share, coalesce):
    clock = ManualClock()
    clock.run(scenario(clock, script, {"share": share, "coalesce": coalesce}))
