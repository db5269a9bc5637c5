"""Forwarders over embedded stores, on a manual clock: bridging, dying, taking over, freezing."""

from __future__ import annotations

import asyncio
import itertools

import pytest
from fused_store import (
    Fuse,
    FusedStore,
    History,
    assert_exactly_once,
    content,
    same,
    until,
)

from hastack import events
from hastack.discovery import Delete, Instance, Put, memory
from hastack.discovery._forward_token import Token
from hastack.discovery._layout import EPOCH, InstanceKey, checkpoint, heartbeat, origin_prefix
from hastack.discovery._origin import Heartbeat
from hastack.discovery.federation import (
    EvictionFrozen,
    EvictionThawed,
    Forwarder,
    ForwarderFailed,
    ForwarderSuperseded,
    OriginChanged,
    OriginRelisted,
    OriginState,
)
from hastack.errors import InvalidArgument, LifecycleError
from hastack.testing import ManualClock

_serial = itertools.count()


def key(number, *, origin="east", namespace="default", service="db"):
    return InstanceKey("reg", origin, namespace, service, f"{number:05}").to_bytes()


def value(address=None):
    return Instance(service="db", id="x", address=address or f"h:{next(_serial)}").to_bytes()


async def fill(store, numbers, **where):
    for some in itertools.batched(numbers, 100) if hasattr(itertools, "batched") else _by(numbers):
        await store.txn([], [Put(key(n, **where), value()) for n in some])


def _by(numbers):
    numbers = list(numbers)
    return [numbers[i : i + 100] for i in range(0, len(numbers), 100)]


def on_manual_clock(main, **options):
    clock = ManualClock()

    async def run():
        east, west = (memory.Store(clock=clock, **options) for _ in range(2))
        return await main(east, west)

    return clock.run(run())


async def settled(forwarder, east, west, origin="east", seconds=120.0):
    async def there():
        return forwarder.status().pending == 0 and await same(east, west, origin)

    await until(there, seconds=seconds)


def test_what_is_registered_is_mirrored_with_its_changes():
    async def main(east, west):
        await fill(east, range(300))
        async with Forwarder(east, west, origin="east") as forwarder:
            await settled(forwarder, east, west)
            assert forwarder.status().mirrored == 300
            await east.put(key(5), value())
            await east.delete(key(6))
            await east.put(key(900), value())
            await settled(forwarder, east, west)
            status = forwarder.status()
            assert (status.state, status.phase) == (OriginState.LIVE, "forwarding")
            assert (status.puts, status.deletes, status.relists) == (302, 1, 1)
            beat = await west.get(heartbeat("east"))
            assert Heartbeat.parse(beat.value).live
            assert beat.lease
        assert forwarder.status().phase == "stopped"
        assert await west.get(heartbeat("east")) is None  # nobody forwards any more
        assert await same(east, west, "east")  # and what is mirrored stays

    on_manual_clock(main)


# What a forwarder does from its first to its last operation, to be cut at each of them.


async def _before(east):
    await fill(east, range(260))
    await fill(east, range(3), origin="west")  # registered under another name: not exported
    await east.put(InstanceKey("mir", "north", "default", "db", "1").to_bytes(), value())


async def _while_it_runs(east):
    await east.put(key(1), value())
    await east.txn([], [Put(key(n), value()) for n in range(10, 20)])
    await asyncio.sleep(0.2)
    await east.put(key(1), value())  # flaps: waits
    await east.delete(key(2))
    await asyncio.sleep(0.2)
    await east.put(key(2), value())  # a new life
    await east.put(key(3), value())
    await east.delete(key(3))
    await east.put(key(1), value())


async def _while_it_is_away(east):
    await east.delete(key(100), end=key(240))  # 140 keys at one revision: two transactions
    await east.put(key(150), value())
    await east.put(key(1), value())


async def _one_death(east, west, after, *, lost_reply, compact):
    """Kill a forwarder at its operation number ``after``, and let another one go on."""
    async with History(east, "reg", "east") as said, History(west, "mir", "east") as mirrored:
        await _before(east)
        fuse = Fuse(after, lost_reply=lost_reply)
        options = {"origin": "east", "share": 1.0}
        first = Forwarder(FusedStore(east, fuse), FusedStore(west, fuse), **options)
        await first.start()
        work = asyncio.create_task(_while_it_runs(east))
        blown = asyncio.create_task(fuse.blown.wait())
        await asyncio.wait({blown}, timeout=20.0)
        blown.cancel()
        died = fuse.blown.is_set()
        fuse.blow()
        await first.stop()
        await work
        await _while_it_is_away(east)
        if compact:
            await east.compact((await east.identity()).revision)
        async with Forwarder(east, west, **options) as second:
            await settled(second, east, west)
            await asyncio.sleep(6.0)
            assert second.status().revision > 0
        assert await same(east, west, "east")
        assert (await content(west, "mir", "west")) == (await content(west, "mir", "north")) == {}
        assert_exactly_once(said, mirrored)
        return died


@pytest.mark.parametrize("compact", [False, True], ids=["resumed", "compacted"])
@pytest.mark.parametrize("lost_reply", [False, True], ids=["unsent", "unanswered"])
def test_a_kill_at_any_operation_loses_nothing_and_repeats_nothing(lost_reply, compact):
    points = 0
    for after in itertools.count():
        died = on_manual_clock(
            lambda east, west: _one_death(
                east, west, after, lost_reply=lost_reply, compact=compact
            )
        )
        if not died:
            break
        points += 1
    assert points > 20
