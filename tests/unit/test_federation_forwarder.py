"""Forwarders over embedded stores, on a manual clock: bridging, dying, taking over, freezing."""

from __future__ import annotations

import asyncio
import itertools
from functools import partial

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
from hastack.discovery import Batch, Instance, Put, memory
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
    evict,
)
from hastack.errors import InvalidArgument, LifecycleError, OriginHeld
from hastack.testing import ManualClock

_serial = itertools.count()


def key(number, *, origin="east", namespace="default", service="db"):
    return InstanceKey("reg", origin, namespace, service, f"{number:05}").to_bytes()


def value(address=None):
    return Instance(service="db", id="x", address=address or f"h:{next(_serial)}").to_bytes()


async def fill(store, numbers, **where):
    numbers = list(numbers)
    for first in range(0, len(numbers), 100):
        some = numbers[first : first + 100]
        await store.txn([], [Put(key(n, **where), value()) for n in some])


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
            await asyncio.sleep(1.0)
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


# Dying. What a forwarder does from its first to its last operation is cut at each of them.


async def _seed(east):
    await fill(east, range(260))
    await fill(east, range(3), origin="west")  # registered under another name: not exported
    await east.put(InstanceKey("mir", "north", "default", "db", "1").to_bytes(), value())


async def _churn(east):
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


async def _bulk(east):
    await east.delete(key(100), end=key(240))  # 140 keys at one revision: two transactions
    await east.put(key(150), value())
    await east.put(key(1), value())


async def _run_until(east, west, moment, **options):
    """A forwarder that is killed at some moment while it lives."""
    fuse = Fuse()
    forwarder = Forwarder(FusedStore(east, fuse), FusedStore(west, fuse), origin="east", **options)
    await forwarder.start()
    await moment(forwarder)
    fuse.blow()
    await forwarder.stop()


async def _from_nothing(east, west):
    await _seed(east)


async def _in_doubt(east, west):
    """Something was held back when it died, something later was written."""
    await _seed(east)

    async def moment(forwarder):
        await settled(forwarder, east, west)
        await _churn(east)
        await asyncio.sleep(0.3)
        assert forwarder.status().pending

    await _run_until(east, west, moment)
    token = Token.parse((await west.get(checkpoint("east"))).value)
    assert 0 < token.low < token.high
    await east.put(key(900), value())


async def _another_epoch(east, west):
    await _seed(east)
    await _run_until(east, west, lambda forwarder: settled(forwarder, east, west))
    await east.put(EPOCH, "2")
    await _bulk(east)


async def _compacted(east, west):
    await _in_doubt(east, west)
    await _bulk(east)
    await east.compact((await east.identity()).revision)


async def _one_death(east, west, *, scene, after, lost_reply):
    """Kill a forwarder at its operation number ``after``, and let another one go on."""
    async with History(east, "reg", "east") as said, History(west, "mir", "east") as mirrored:
        await scene(east, west)
        fuse = Fuse(after, lost_reply=lost_reply)
        options = {"origin": "east", "share": 1.0}
        first = Forwarder(FusedStore(east, fuse), FusedStore(west, fuse), **options)
        await first.start()
        work = asyncio.create_task(_churn(east))
        blown = asyncio.create_task(fuse.blown.wait())
        await asyncio.wait({blown}, timeout=10.0)
        blown.cancel()
        died = fuse.blown.is_set()
        fuse.blow()
        await first.stop()
        await work
        await _bulk(east)
        live = Fuse()
        async with Forwarder(FusedStore(east, live), west, **options) as second:
            await settled(second, east, west)
            await asyncio.sleep(6.0)
            assert second.status().revision > 0
        assert await same(east, west, "east")
        assert (await content(west, "mir", "west")) == (await content(west, "mir", "north")) == {}
        assert_exactly_once(said, mirrored)
        return died


@pytest.mark.parametrize("scene", [_from_nothing, _in_doubt, _another_epoch, _compacted])
@pytest.mark.parametrize("lost_reply", [False, True], ids=["unsent", "unanswered"])
def test_a_kill_at_any_operation_loses_nothing_and_repeats_nothing(lost_reply, scene):
    points = 0
    for after in itertools.count():
        one_death = partial(_one_death, scene=scene, after=after, lost_reply=lost_reply)
        died = on_manual_clock(one_death)
        if not died:
            break
        points += 1
    assert points > 15


async def _cancelled(east, west, *, after):
    """Stop a forwarder while its operation number ``after`` waits for an answer."""
    await _seed(east)
    fuse = Fuse(after)
    forwarder = Forwarder(FusedStore(east, fuse), FusedStore(west, fuse), origin="east")
    await forwarder.start()
    blown = asyncio.create_task(fuse.blown.wait())
    await asyncio.wait({blown}, timeout=3.0)
    blown.cancel()
    await forwarder.stop()
    await forwarder.stop()
    assert forwarder.status().phase == "stopped"
    await asyncio.sleep(0.0)
    assert asyncio.all_tasks() == {asyncio.current_task()}
    return fuse.blown.is_set()


def test_a_stop_at_any_await_leaves_nothing_behind():
    for after in itertools.count():
        if not on_manual_clock(partial(_cancelled, after=after)):
            break
    assert after > 10


# Two of one origin


def test_the_later_of_two_writes_and_the_earlier_one_stands_by_until_it_ends():
    async def main(east, west):
        await fill(east, range(150))
        async with History(east, "reg", "east") as said, History(west, "mir", "east") as mirrored:
            with events.record(ForwarderSuperseded) as seen:
                first = Forwarder(east, west, origin="east")
                second = Forwarder(east, west, origin="east")
                async with first:
                    await settled(first, east, west)
                    async with second:
                        for number in range(60):
                            await east.put(key(number), value())
                            await asyncio.sleep(0.05)
                        await settled(second, east, west)
                        assert first.status().phase == "standby"
                        assert second.status().phase == "forwarding"
                        written = first.status().puts
                        await east.put(key(70), value())
                        await settled(second, east, west)
                        assert first.status().puts == written
                        assert len(seen) == 1
                    await east.put(key(71), value())
                    await settled(first, east, west)
                    assert first.status().phase == "forwarding"
            await asyncio.sleep(0)
            assert_exactly_once(said, mirrored)

    on_manual_clock(main)


def test_many_at_once_end_with_one_that_writes():
    async def main(east, west):
        await fill(east, range(150))
        async with History(east, "reg", "east") as said, History(west, "mir", "east") as mirrored:
            several = [Forwarder(east, west, origin="east", coalesce=0.0) for _ in range(4)]
            for each in several:
                await each.start()
            for number in range(100):
                await east.put(key(number % 7), value())
                await asyncio.sleep(0.02)
            await until(lambda: same(east, west, "east"))
            phases = sorted(each.status().phase for each in several)
            assert phases == ["forwarding", "standby", "standby", "standby"]
            for each in several:
                await each.stop()
            assert_exactly_once(said, mirrored)

    on_manual_clock(main)


def test_without_preemption_a_successor_waits_for_the_heartbeat_to_expire():
    async def main(east, west):
        await fill(east, range(5))
        await _run_until(east, west, lambda forwarder: settled(forwarder, east, west), ttl=9.0)
        loop = asyncio.get_running_loop()
        began = loop.time()
        async with Forwarder(east, west, origin="east", preempt=False, ttl=9.0) as second:
            await east.put(key(1), value())
            await asyncio.sleep(1.0)
            assert second.status().phase == "standby"
            await settled(second, east, west)
            assert 5.0 < loop.time() - began < 20.0
        began = loop.time()
        await _run_until(east, west, lambda forwarder: settled(forwarder, east, west), ttl=9.0)
        await east.put(key(2), value())
        async with Forwarder(east, west, origin="east") as third:
            await settled(third, east, west)
            assert loop.time() - began < 2.0  # taken over at once

    on_manual_clock(main)


def test_a_heartbeat_or_a_token_that_somebody_touched_is_read_again():
    async def main(east, west):
        await fill(east, range(50))
        async with History(east, "reg", "east") as said, History(west, "mir", "east") as mirrored:
            async with Forwarder(east, west, origin="east") as forwarder:
                await settled(forwarder, east, west)
                with events.record(ForwarderFailed) as seen:
                    await west.put(checkpoint("east"), "no token at all")
                    await east.put(key(1), value())
                    await settled(forwarder, east, west)
                    assert "earlier life" in str(seen[0].error)
                    await west.delete(heartbeat("east"))
                    await asyncio.sleep(5.0)
                    await east.put(key(2), value())
                    await settled(forwarder, east, west)
                    assert [each.part for each in seen] == ["destination", "destination"]
                assert Heartbeat.parse((await west.get(heartbeat("east"))).value).live
            assert_exactly_once(said, mirrored)

    on_manual_clock(main)


# Sources that are away, or come back as others


def test_a_dead_source_blocks_nothing_and_its_instances_stay():
    async def main(east, west):
        await fill(east, range(20))
        await _run_until(east, west, lambda forwarder: settled(forwarder, east, west))
        with east.outage(), events.record(ForwarderFailed) as seen:
            async with Forwarder(east, west, origin="east") as forwarder:
                await west.put("/local", "write")
                await asyncio.sleep(60.0)
                status = forwarder.status()
                assert status.state is OriginState.STALE
                assert (status.mirrored, status.pending) == (20, 0)
                assert "source: StoreUnavailable" in status.error
                beat = await west.get(heartbeat("east"))
                assert Heartbeat.parse(beat.value).state is OriginState.STALE
                assert 10 < len(seen) < 60  # backs off
        assert len(await content(west, "mir", "east")) == 20

    on_manual_clock(main)


@pytest.mark.parametrize("policy", ["keep", "drain", "revoke"])
def test_states_of_an_origin_and_what_its_policy_does(policy):
    async def main(east, west):
        await fill(east, range(130))
        async with Forwarder(
            east, west, origin="east", policy=policy, grace=60.0, stale_after=10.0
        ) as forwarder:
            await settled(forwarder, east, west)
            before = await content(east, "reg", "east")
            await asyncio.sleep(1.0)
            with events.record(OriginChanged) as seen:
                with east.outage():
                    await asyncio.sleep(40.0)
                    assert await content(west, "mir", "east") == before
                    assert forwarder.status().state is OriginState.STALE
                    await asyncio.sleep(60.0)
                    now = await content(west, "mir", "east")
                    if policy == "keep":
                        assert now == before
                    elif policy == "drain":
                        parsed = [
                            Instance.parse(each, service="db", id="1", namespace="n", origin="east")
                            for each in now.values()
                        ]
                        assert len(parsed) == 130
                        assert all(each.draining for each in parsed)
                    else:
                        assert now == {}
                await settled(forwarder, east, west)
                await asyncio.sleep(1.0)
                states = [each.after.value for each in seen]
                done = {"keep": [], "drain": ["drained"], "revoke": ["revoked"]}[policy]
                assert states == ["stale", *done, "live"]

    on_manual_clock(main)


@pytest.mark.parametrize("policy", ["drain", "revoke"])
def test_a_forwarder_that_dies_while_drained_brings_all_back(policy):
    async def main(east, west):
        await fill(east, range(130))
        options = {"policy": policy, "grace": 5.0, "stale_after": 5.0}

        async def moment(forwarder):
            await settled(forwarder, east, west)
            with east.outage():
                await asyncio.sleep(30.0)
            assert forwarder.status().revision == 0

        await _run_until(east, west, moment, **options)
        async with Forwarder(east, west, origin="east", **options) as second:
            await settled(second, east, west)

    on_manual_clock(main)


def test_a_source_restored_from_an_old_backup_is_listed_anew():
    async def main(east, west):
        clock = east._engine.clock
        await fill(east, range(300))
        await _run_until(east, west, lambda forwarder: settled(forwarder, east, west))
        other = memory.Store(clock=clock)
        await fill(other, range(100, 200))
        with events.record(OriginRelisted) as seen:
            async with Forwarder(other, west, origin="east") as forwarder:
                await settled(forwarder, other, west)
                assert [each.reason for each in seen] == ["replaced"]

    on_manual_clock(main)


def test_a_listing_after_compaction_deletes_what_is_gone():
    async def main(east, west):
        await fill(east, range(300))
        await _run_until(east, west, lambda forwarder: settled(forwarder, east, west))
        await east.delete(key(7))
        await east.put(key(8), value())
        await east.compact((await east.identity()).revision)
        with events.record(OriginRelisted) as seen:
            async with Forwarder(east, west, origin="east") as forwarder:
                await settled(forwarder, east, west)
                assert [(each.reason, each.changes) for each in seen] == [("compacted", 2)]

    on_manual_clock(main)


def test_an_outage_of_the_destination_is_survived():
    async def main(east, west):
        await fill(east, range(50))
        async with History(east, "reg", "east") as said, History(west, "mir", "east") as mirrored:
            async with Forwarder(east, west, origin="east") as forwarder:
                await settled(forwarder, east, west)
                with west.outage():
                    await east.put(key(1), value())
                    await east.delete(key(2))
                    await asyncio.sleep(40.0)  # longer than its lease
                    assert "destination" in forwarder.status().error
                await settled(forwarder, east, west)
                await asyncio.sleep(1.0)
                assert forwarder.status().error == ""
            assert_exactly_once(said, mirrored)

    on_manual_clock(main)


# Self-preservation


def test_many_deletions_of_an_origin_in_doubt_are_held_until_it_is_believed():
    async def main(east, west):
        await fill(east, range(100))
        async with Forwarder(east, west, origin="east", window=30.0) as forwarder:
            await settled(forwarder, east, west)
            await asyncio.sleep(40.0)
            with events.record(EvictionFrozen, EvictionThawed) as seen:
                with east.outage():
                    await asyncio.sleep(20.0)
                await east.delete(key(0), end=key(40))
                await asyncio.sleep(2.0)
                status = forwarder.status()
                assert (status.frozen, status.held, status.mirrored) == (True, 40, 100)
                assert 20.0 < status.thaws_in <= 30.0
                await east.put(key(0), value())  # one comes back
                await east.delete(key(50))
                await asyncio.sleep(2.0)
                assert forwarder.status().held == 40
                await settled(forwarder, east, west)
                assert [type(each) for each in seen] == [EvictionFrozen, EvictionThawed]
                assert (seen[0].missing, seen[0].population) == (40, 100)
            await east.delete(key(60), end=key(99))  # no doubt any more
            await settled(forwarder, east, west, seconds=2.0)

    on_manual_clock(main)


def test_a_freeze_outlives_the_forwarder_and_an_operator_may_end_it():
    async def main(east, west):
        await fill(east, range(100))
        await _run_until(east, west, lambda forwarder: settled(forwarder, east, west))
        await east.delete(key(0), end=key(40))

        async def frozen(forwarder):
            await asyncio.sleep(5.0)
            assert forwarder.status().held == 40
            await east.put(key(90), value())
            await asyncio.sleep(1.0)

        await _run_until(east, west, frozen)
        async with Forwarder(east, west, origin="east") as second:
            await asyncio.sleep(5.0)
            assert second.status().held == 40
            second.thaw()
            await settled(second, east, west, seconds=1.0)

    on_manual_clock(main)


# Bounds


def test_a_flapping_instance_is_coalesced_and_a_new_life_is_not():
    async def main(east, west):
        await fill(east, range(3))
        async with History(west, "mir", "east") as mirrored:
            async with Forwarder(east, west, origin="east", coalesce=5.0) as forwarder:
                await settled(forwarder, east, west)
                await asyncio.sleep(6.0)
                loop = asyncio.get_running_loop()
                began = loop.time()
                while loop.time() < began + 20.0:
                    await east.put(key(0), value())
                    await asyncio.sleep(0.05)
                await settled(forwarder, east, west)
                changes = mirrored.by_key()[b"default/db/00000"]
                assert 5 <= len(changes) <= 7
                await east.put(key(0), value())
                await east.delete(key(0))
                await east.put(key(0), value())
                await settled(forwarder, east, west, seconds=1.0)
                assert forwarder.status().coalesced > 300

    on_manual_clock(main)


def test_a_flood_of_instances_is_refused_and_fetched_when_there_is_room():
    async def main(east, west):
        await fill(east, range(150))
        async with Forwarder(east, west, origin="east", max_instances=200) as forwarder:
            await settled(forwarder, east, west)
            await fill(east, range(150, 400))
            await asyncio.sleep(5.0)
            status = forwarder.status()
            assert (status.mirrored, status.refused, status.revision) == (200, 200, 0)
            await asyncio.sleep(40.0)
            await east.delete(key(0), end=key(210))
            await settled(forwarder, east, west)
            assert forwarder.status().revision > 0

    on_manual_clock(main)


def test_writes_keep_to_their_rate():
    async def main(east, west):
        await fill(east, range(1000))
        loop = asyncio.get_running_loop()
        began = loop.time()
        async with Forwarder(east, west, origin="east", rate="100/s", burst=120) as forwarder:
            await settled(forwarder, east, west)
            assert loop.time() - began >= (1000 - 120) / 100

    on_manual_clock(main)


def test_namespaces_are_selected_and_a_new_selection_is_listed():
    async def main(east, west):
        for namespace in ("a", "b/c", "d"):
            await fill(east, range(3), namespace=namespace)
        await east.put(origin_prefix("reg", "east") + b"odd", "no instance")

        async def there(names):
            found = {k.split(b"/")[0] for k in await content(west, "mir", "east")}
            return found == names

        async with Forwarder(east, west, origin="east", namespaces=["a", "b/c"], share=1.0) as one:
            await until(lambda: there({b"a", b"b%2Fc"}))
            assert one.status().mirrored == 6
        async with Forwarder(east, west, origin="east", namespaces=["b/c", "d"], share=1.0):
            await until(lambda: there({b"b%2Fc", b"d"}))

    on_manual_clock(main)


# Mistakes


def test_mirrors_are_not_passed_on_in_a_ring():
    async def main(east, west):
        await fill(east, range(5), origin="east")
        await fill(west, range(5), origin="west")
        async with Forwarder(east, west, origin="east"), Forwarder(west, east, origin="west"):
            await until(lambda: same(east, west, "east"))
            await until(lambda: same(west, east, "west"))
            await asyncio.sleep(5.0)
            assert await content(east, "mir", "east") == {}
            assert await content(west, "mir", "west") == {}

    on_manual_clock(main)


def test_an_origin_of_the_destination_itself_is_refused():
    async def main(east, west):
        await fill(east, range(5))
        await fill(west, range(5))
        async with Forwarder(east, west, origin="east") as forwarder:
            await asyncio.sleep(5.0)
            assert "are registered in the destination" in forwarder.status().error
            assert await content(west, "mir", "east") == {}

    on_manual_clock(main)


def test_one_cluster_under_two_handles_is_refused():
    async def main():
        one, again = (memory.connect("memory://federation-of-one") for _ in range(2))
        await fill(one, range(5))
        async with Forwarder(one, again, origin="other") as forwarder:

            async def refused():
                return "the same cluster" in forwarder.status().error

            await until(refused)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("arguments", "parameter"),
    [
        ({"origin": ""}, "origin"),
        ({"namespaces": "default"}, "namespaces"),
        ({"namespaces": []}, "namespaces"),
        ({"namespaces": [""]}, "namespaces"),
        ({"policy": "forget"}, "policy"),
        ({"grace": -1.0}, "grace"),
        ({"stale_after": 0.0}, "stale_after"),
        ({"coalesce": -1.0}, "coalesce"),
        ({"share": 0.0}, "share"),
        ({"window": -1.0}, "window"),
        ({"ttl": 0.0}, "ttl"),
        ({"timeout": 0.0}, "timeout"),
        ({"backoff": 0.0}, "backoff"),
        ({"burst": 119}, "burst"),
        ({"max_instances": 0}, "max_instances"),
        ({"preempt": 1}, "preempt"),
        ({"name": ""}, "name"),
        ({"rate": "much"}, "rate"),
    ],
)
def test_bad_arguments_are_named(arguments, parameter):
    with pytest.raises(InvalidArgument) as caught:
        Forwarder(memory.Store(), memory.Store(), **{"origin": "east", **arguments})
    assert caught.value.parameter == parameter


def test_a_store_is_not_forwarded_to_itself_and_nothing_starts_twice():
    store = memory.Store()
    with pytest.raises(InvalidArgument, match="destination"):
        Forwarder(store, store, origin="east")

    async def main(east, west):
        forwarder = Forwarder(east, west, origin="east")
        assert forwarder.status().phase == "new"
        assert "'east'" in repr(forwarder)
        await forwarder.stop()
        forwarder.thaw()
        async with forwarder:
            forwarder.thaw()
            with pytest.raises(LifecycleError):
                await forwarder.start()

    on_manual_clock(main)


# What a watch sums up


class Summing:
    """A store whose watches, told to, sum up what they have missed: as after a compaction."""

    def __init__(self, store):
        self._store = store
        self.open = asyncio.Event()
        self.open.set()

    def __getattr__(self, name):
        return getattr(self._store, name)

    def watch(self, *args, **options):
        return SummingWatch(self, self._store.watch(*args, **options))


class SummingWatch:
    def __init__(self, store, inner):
        self._store, self._inner = store, inner
        self.age = 0.0

    async def __aenter__(self):
        await self._inner.__aenter__()
        return self

    async def __aexit__(self, *exc):
        await self._inner.__aexit__(*exc)

    def __aiter__(self):
        return self

    async def __anext__(self):
        batch = await anext(self._inner)
        if self._store.open.is_set():
            return batch
        missed = [batch]
        waiting = asyncio.ensure_future(self._store.open.wait())
        while not waiting.done():
            following = asyncio.ensure_future(anext(self._inner))
            await asyncio.wait({waiting, following}, return_when=asyncio.FIRST_COMPLETED)
            if following.done():
                missed.append(following.result())
            else:
                following.cancel()
                await asyncio.wait({following})
        last = {event.kv.key: event for batch in missed for event in batch.events}
        events = tuple(last[key] for key in sorted(last))
        return Batch(events, missed[-1].revision, True, "compacted")


def test_the_difference_that_a_watch_tells_needs_no_second_listing():
    async def main(east, west):
        summing = Summing(east)
        await fill(east, range(200))
        async with Forwarder(summing, west, origin="east", share=1.0) as forwarder:
            await settled(forwarder, east, west)
            await east.put(key(0), value())
            await settled(forwarder, east, west)
            summing.open.clear()
            await east.put(key(7), value())
            await fill(east, range(150, 260))
            await east.delete(key(3))
            await east.delete(key(4))
            await east.put(key(4), value())
            await east.put(key(2), value())
            await asyncio.sleep(1.0)
            assert not await same(east, west, "east")
            summing.open.set()
            await settled(forwarder, east, west)
            status = forwarder.status()
            assert (status.relists, status.connects) == (1, 1)
            assert status.behind == 0
            await east.put(key(5), value())
            await settled(forwarder, east, west)

    on_manual_clock(main)


# By hand


@pytest.mark.parametrize("eviction", ["drain", "revoke", "forget"])
def test_a_mirror_without_a_forwarder_is_evicted_by_hand_and_comes_back_with_one(eviction):
    async def main(east, west):
        await fill(east, range(300))
        async with Forwarder(east, west, origin="east") as forwarder:
            await settled(forwarder, east, west)
            with pytest.raises(OriginHeld, match="is forwarded by") as info:
                await evict(west, origin="east", eviction=eviction)
            assert info.value.origin == "east"
            assert await same(east, west, "east")
        await west.put(InstanceKey("mir", "north", "default", "db", "1").to_bytes(), value())
        assert await evict(west, origin="east", eviction=eviction) == 300
        assert await evict(west, origin="east", eviction=eviction) == 0
        held = await content(west, "mir", "east")
        if eviction == "drain":
            assert len(held) == 300
            assert all(b'"draining":true' in each for each in held.values())
        else:
            assert not held
        assert (await west.get(checkpoint("east")) is None) == (eviction == "forget")
        assert await west.get(heartbeat("east")) is None
        assert len(await content(west, "mir", "north")) == 1
        async with Forwarder(east, west, origin="east") as forwarder:
            await settled(forwarder, east, west)

    on_manual_clock(main)


def test_a_forwarder_that_starts_meanwhile_takes_over_from_a_hand():
    async def main(east, west):
        await fill(east, range(300))
        async with Forwarder(east, west, origin="east") as forwarder:
            await settled(forwarder, east, west)
        later = Forwarder(east, west, origin="east")
        slow = asyncio.create_task(evict(west, origin="east", eviction="revoke", rate="100/s"))
        await asyncio.sleep(1.0)
        assert not slow.done()
        async with later:
            with pytest.raises(OriginHeld):
                await slow
            await settled(later, east, west)

    on_manual_clock(main)


def test_what_cannot_be_done_by_hand_is_named():
    with pytest.raises(InvalidArgument, match="'drain', 'revoke' or 'forget'"):
        asyncio.run(evict(memory.Store(), origin="east", eviction="keep"))
    with pytest.raises(InvalidArgument, match="origin"):
        asyncio.run(evict(memory.Store(), origin="", eviction="drain"))
