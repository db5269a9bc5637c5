"""The embedded store in one process: names, manual time, outages, kept keys, threads."""

from __future__ import annotations

import asyncio
import contextlib
import threading

import pytest

from hastack import context, events
from hastack.discovery import Compare, Put, memory
from hastack.discovery.etcd import KeyContested, KeyDown, KeyRestored
from hastack.errors import (
    ClosedError,
    Compacted,
    DeadlineExceeded,
    InvalidArgument,
    LeaseLost,
    StoreError,
    StoreUnavailable,
)
from hastack.testing import ManualClock


def on_manual_time(main):
    """``main(store, clock)`` on a clock that jumps."""
    clock = ManualClock(0.0)
    return clock.run(main(memory.Store(clock=clock), clock))


@contextlib.contextmanager
def heard(event):
    """The events of that class, as they come."""
    found = []
    stop = events.subscribe(found.append, event)
    yield found
    stop()


def told(batch):
    return [(event.kind, event.kv.key, event.kv.value) for event in batch.events]


def test_a_name_is_one_store_in_a_process():
    async def main():
        await memory.connect("memory://test%20one").put("a", "1")
        assert (await memory.connect("memory://test%20one").get("a")).value == b"1"
        assert await memory.connect("memory://test-two").get("a") is None
        assert await memory.Store().get("a") is None
        await memory.connect("memory://").put("default", "1")
        assert await memory.connect().get("default") is not None
        await memory.connect().delete("default")

    asyncio.run(main())


def test_closing_one_handle_closes_no_other():
    async def main():
        one, other = memory.connect("memory://handles"), memory.connect("memory://handles")
        async with one, one.lease(5.0) as lease, one.watch("a") as watch:
            await anext(watch)
            await one.put("a", "", lease=lease)
            await anext(watch)
            await one.aclose()
            assert lease.context.done
            assert isinstance(lease.context.cause(), ClosedError)
            with pytest.raises(ClosedError):
                await anext(watch)
        with pytest.raises(ClosedError):
            await one.get("a")
        assert await other.get("a") is None
        assert (await other.put("a", "1")).revision > 1

    asyncio.run(main())


@pytest.mark.parametrize(
    "url", ["etcd://a", "memory://a/b", "memory://a?b", "memory:///a/", "memory://[", 5]
)
def test_bad_urls(url):
    with pytest.raises(InvalidArgument, match="url="):
        memory.connect(url)


def test_bounds_are_checked_and_hold():
    for name in ("history_events", "history_bytes", "quota"):
        with pytest.raises(InvalidArgument, match=name):
            memory.Store(**{name: 0})

    async def main():
        store = memory.Store(history_events=10, quota=100)
        for n in range(20):
            await store.put("a", str(n))
        with pytest.raises(Compacted):
            await store.get("a", revision=5)
        with pytest.raises(StoreError) as full:
            await store.put("b", "x" * 100)
        assert full.value.code == "RESOURCE_EXHAUSTED"

    asyncio.run(main())


# Time


def test_raw_leases_expire_in_the_stores_time():
    async def main(store, clock):
        lease = await store.grant(10.0)
        await store.put("a", "", lease=lease)
        async with store.watch("a") as watch:
            await anext(watch)
            await asyncio.sleep(8.0)
            assert await store.renew(lease) == 10.0
            assert told(await anext(watch)) == [("delete", b"a", b"")]
            assert clock.monotonic() == 18.0
        for call in (store.renew, store.revoke):
            with pytest.raises(LeaseLost):
                await call(lease)

    on_manual_time(main)


def test_a_lease_that_ran_out_is_gone_before_the_timer_rings():
    clock = ManualClock(0.0)
    store = memory.Store(clock=clock).sync
    lease = store.grant(5.0)
    store.put("a", "", lease=lease)
    clock.set(6.0)  # time moves, and no timer runs
    assert store.get("a") is None


def test_many_leases_end_each_at_its_time():
    async def main(store, clock):
        leases = [await store.grant(ttl) for ttl in (3.0, 1.0, 2.0)]
        for n, lease in enumerate(leases):
            await store.put(f"k{n}", "", lease=lease)
        ends = []
        async with store.watch("k", prefix=True) as watch:
            await anext(watch)
            while len(ends) < 3:
                ends += [(clock.monotonic(), e.kv.key) for e in (await anext(watch)).events]
        assert ends == [(1.0, b"k1"), (2.0, b"k2"), (3.0, b"k0")]

    on_manual_time(main)


def test_a_held_lease_never_ends_by_itself():
    async def main(store, clock):
        async with store.lease(1.0) as lease:
            await store.put("a", "", lease=lease)
            await asyncio.sleep(1000.0)
            assert not lease.context.done
            assert await store.get("a") is not None
            with pytest.raises(InvalidArgument):
                await lease.__aenter__()
        assert isinstance(lease.context.cause(), LeaseLost)
        assert await store.get("a") is None
        async with lease:  # and again
            assert not lease.context.done

    on_manual_time(main)


def test_what_was_not_entered_says_so():
    async def main(store, clock):
        with pytest.raises(InvalidArgument):
            store.lease(1.0).context  # noqa: B018
        with pytest.raises(InvalidArgument):
            await anext(store.watch("a"))
        with pytest.raises(ClosedError):
            await store.keep("a", "", ttl=1.0).set("b")
        async with store.watch("a") as watch:
            with pytest.raises(InvalidArgument):
                await watch.__aenter__()
            await anext(watch)
            first = asyncio.ensure_future(anext(watch))
            await asyncio.sleep(0)
            with pytest.raises(InvalidArgument, match="one task"):
                await anext(watch)
            first.cancel()
            await asyncio.wait((first,))
        with pytest.raises(ClosedError):
            await anext(watch)
        async with store.keep("a", "", ttl=1.0) as kept:
            with pytest.raises(InvalidArgument):
                await kept.__aenter__()

    on_manual_time(main)


def test_waiting_for_changes_ends_with_the_context():
    async def main(store, clock):
        async with store.watch("a") as watch:
            await anext(watch)
            with pytest.raises(DeadlineExceeded):
                async with context.timeout(5.0):
                    await anext(watch)
            with context.timeout(5.0), pytest.raises(DeadlineExceeded):
                await anext(watch)
            assert clock.monotonic() == 10.0
            await store.put("a", "1")
            assert told(await anext(watch)) == [("put", b"a", b"1")]

    on_manual_time(main)


# Outages


def test_an_outage_refuses_calls_and_holds_back_changes():
    async def main(store, clock):
        async with store.watch("a") as watch:
            await anext(watch)
            waiting = asyncio.ensure_future(anext(watch))
            with store.outage():
                for call in (store.get("a"), store.put("a", ""), store.identity(), store.grant(1)):
                    with pytest.raises(StoreUnavailable):
                        await call
                with pytest.raises(InvalidArgument), store.outage():
                    pass
                await asyncio.sleep(3.0)
                assert watch.age == 3.0
                assert not waiting.done()
            assert watch.age == 0.0
            await store.put("a", "1")
            assert told(await waiting) == [("put", b"a", b"1")]

    on_manual_time(main)


def test_a_lease_outlives_a_short_outage_and_no_long_one():
    async def main(store, clock):
        async with store.lease(5.0) as lease:
            await store.put("a", "", lease=lease)
            with store.outage():
                await asyncio.sleep(4.9)
            assert not lease.context.done
            await asyncio.sleep(100.0)
            assert await store.get("a") is not None
            with store.outage():
                assert await lease.context.wait_async(60.0)
                assert clock.monotonic() == pytest.approx(109.9)
            assert await store.get("a") is None

    on_manual_time(main)


def test_a_kept_key_is_back_after_an_outage():
    async def main(store, clock):
        async with store.keep("a", "1", ttl=5.0) as kept:
            lease = kept.lease
            assert kept.present
            with store.outage():
                await asyncio.sleep(6.0)
                assert not kept.present
                with pytest.raises(StoreUnavailable):
                    await kept.set("2", timeout=1.0)
            began = clock.monotonic()
            while not kept.present:
                await asyncio.sleep(0.05)
            assert clock.monotonic() - began < 2.0
            found = await store.get("a")
            assert (found.value, found.lease) == (b"2", kept.lease)
            assert found.lease != lease
        assert await store.get("a") is None

    with heard(KeyDown) as down, heard(KeyRestored) as up:
        on_manual_time(main)
    assert [event.loss for event in down] == ["lease lost"]
    assert len(up) == 1


def test_a_key_is_not_kept_when_the_store_stays_away():
    async def main(store, clock):
        with store.outage(), pytest.raises(StoreUnavailable):
            async with store.keep("a", "1", ttl=5.0):
                pass
        assert clock.monotonic() == 5.0
        with pytest.raises(DeadlineExceeded):
            async with context.timeout(1.0):
                with store.outage():
                    async with store.keep("a", "1", ttl=5.0):
                        pass
        assert len(asyncio.all_tasks()) == 1

    on_manual_time(main)


def test_a_refused_value_is_said_and_another_is_taken():
    async def main():
        clock = ManualClock(0.0)
        store = memory.Store(clock=clock, quota=100)
        async with store.keep("a", "1", ttl=5.0) as kept:
            with pytest.raises(StoreError) as refused:
                await kept.set("x" * 200)
            assert refused.value.code == "RESOURCE_EXHAUSTED"
            await kept.set("2")
            assert (await store.get("a")).value == b"2"

    asyncio.run(main())


def test_two_that_keep_one_key_slow_down():
    async def main(store, clock):
        async with store.keep("a", "1", ttl=5.0), store.keep("a", "2", ttl=5.0):
            await asyncio.sleep(600.0)
            return (await store.get("a")).version

    with heard(KeyContested) as contested:
        assert on_manual_time(main) < 100
    assert contested


def test_a_kept_key_ends_with_the_store():
    async def main(store, clock):
        async with store.keep("a", "1", ttl=5.0) as kept:
            await store.aclose()
            await asyncio.sleep(1.0)
            with pytest.raises((ClosedError, StoreError)):
                await kept.set("2")

    on_manual_time(main)


# Threads


def test_the_blocking_face():
    store = memory.Store().sync
    with store:
        store.put("k/a", "1")
        assert [kv.key for kv in store.scan("k/")] == [b"k/a"]
        assert store.range("k/", prefix=True).count == 1
        assert store.txn([Compare.present("k/a")], [Put("k/b", "2")]).succeeded
        with store.watch("k/", prefix=True) as watch:
            assert len(next(watch).events) == 2
            timer = threading.Timer(0.05, store.put, ("k/c", "3"))
            timer.start()
            assert told(next(watch)) == [("put", b"k/c", b"3")]
            timer.join()
            with context.timeout(0.01), pytest.raises(DeadlineExceeded):
                next(watch)
            assert watch.age == 0.0
        with store.lease(5.0) as lease, store.keep("k/d", "4", ttl=5.0) as kept:
            store.put("k/e", "", lease=lease.id)
            assert kept.present
            kept.set("5")
            assert store.get("k/d").value == b"5"
        assert store.delete("k/", prefix=True).deleted == 3
        assert store.identity().revision > 1
    with pytest.raises(ClosedError):
        store.get("k/a")


def test_the_blocking_face_works_inside_a_loop_where_nothing_waits():
    async def main():
        store = memory.Store().sync
        store.put("a", "1")
        with pytest.raises(RuntimeError, match="event loop"), store.watch("a"):
            pass
        return store.get("a").value

    assert asyncio.run(main()) == b"1"


def test_threads_and_loops_see_one_order():
    store = memory.Store()

    async def follow():
        async with store.watch("n", start_revision=1) as watch:
            ready.wait()
            found = []
            while len(found) < 400:
                found += [event.kv.value for event in (await anext(watch)).events]
            orders.append(found)

    def write(name):
        ready.wait()
        for n in range(100):
            store.sync.put("n", f"{name} {n}")

    ready, orders = threading.Barrier(8), []
    threads = [threading.Thread(target=asyncio.run, args=(follow(),)) for _ in range(4)]
    threads += [threading.Thread(target=write, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(orders) == 4
    assert all(order == orders[0] for order in orders)
    for name in "abcd":
        assert [one for one in orders[0] if one.startswith(name.encode())] == [
            f"{name} {n}".encode() for n in range(100)
        ]


def test_a_lease_ends_on_whatever_thread_and_wakes_the_loop():
    async def main():
        store = memory.Store()
        async with store.lease(5.0) as lease:
            thread = threading.Timer(0.02, store.sync.revoke, (lease.id,))
            thread.start()
            assert await lease.context.wait_async(10.0)
            thread.join()
            assert "revoked" in str(lease.context.cause())

    asyncio.run(main())


def test_it_says_what_it_is():
    store = memory.Store()
    assert repr(store) == "<memory.Store memory://>"
    assert "b'a'" in repr(store.watch("a"))
    assert "5 s" in repr(store.lease(5.0))
    assert "not entered" in repr(store.keep("a", "", ttl=1.0))
