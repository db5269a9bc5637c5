"""Watches of a real etcd while nothing goes wrong: loops, threads, cancellation, contexts."""

from __future__ import annotations

import asyncio
import gc
import itertools
import threading
import time

import pytest
from watch_real import Follower, Mirror

from hastack import context
from hastack.discovery import etcd
from hastack.errors import Cancelled, ClosedError, DeadlineExceeded, InvalidArgument

BOUND = 40.0  # seconds; ends what hangs
_number = itertools.count()


@pytest.fixture
def run(shared_etcd):
    """Runs ``main(client)`` with a namespace that nobody else uses."""

    def go(main, **options):
        options.setdefault("namespace", f"watch {next(_number)}/")

        async def bounded():
            async with asyncio.timeout(BOUND), etcd.Client(shared_etcd.endpoint, **options) as c:
                await main(c)
                if c._hub is not None:
                    await until(lambda: c._hub._core.watches == 0)

        asyncio.run(bounded())

    return go


async def until(done):
    end = time.monotonic() + 10.0
    while not done():
        assert time.monotonic() < end
        await asyncio.sleep(0.005)


def told(batch):
    return [(e.kind, e.kv.key) for e in batch.events]


async def gather(watch, count):
    """What is told, in as many batches as it takes."""
    found = []
    while len(found) < count:
        found += told(await anext(watch))
    return found


def test_a_namespace_is_not_shown(run):
    async def main(client):
        await client.put("a", "1")
        async with client.watch("", prefix=True, prev=True) as watch:
            (event,) = (await anext(watch)).events
            assert event.kv.key == b"a"
            await client.put("a", "2")
            await client.delete("a")
            found = []
            while len(found) < 2:
                found += (await anext(watch)).events
            put, gone = found
            assert (put.kv.key, put.kv.value) == (b"a", b"2")
            assert (put.prev.key, put.prev.value) == (b"a", b"1")
            assert (gone.kind, gone.kv.key, gone.prev.value) == ("delete", b"a", b"2")

    run(main)


def test_what_was_put_before_is_in_the_snapshot_even_of_a_watch_that_is_shared(run):
    async def main(client):
        async with client.watch("k", prefix=True) as first:
            await anext(first)
            for number in range(30):
                await client.put(f"k{number}", "")
                async with client.watch("k", prefix=True) as second:
                    assert len((await anext(second)).events) == number + 1
            assert client._hub._core.watches == 1

    run(main)


def test_a_listing_of_many_pages(run):
    async def main(client):
        for part in range(12):
            await client.txn([], [etcd_put(f"k{part:02}{n:03}", b"x" * 100) for n in range(120)])
        async with client.watch("k", prefix=True) as watch:
            batch = await anext(watch)
            keys = [e.kv.key for e in batch.events]
            assert keys == sorted(keys)
            assert len(keys) == 1440

    run(main)


def etcd_put(key, value):
    from hastack.discovery import Put

    return Put(key, value)


def test_many_subscribers_on_many_loops_and_threads_share_one_watch(run):
    async def main(client):
        results = []
        ready = threading.Barrier(5)

        async def follow():
            async with client.watch("k", prefix=True) as watch:
                await anext(watch)
                await asyncio.to_thread(ready.wait, 20)
                return await gather(watch, 2)

        def on_a_loop():
            results.append(asyncio.run(follow()))

        def in_a_thread():
            with client.sync.watch("k", prefix=True) as watch:
                next(watch)
                ready.wait(20)
                found = []
                while len(found) < 2:
                    found += told(next(watch))
                results.append(found)

        threads = [threading.Thread(target=t) for t in (on_a_loop, on_a_loop, in_a_thread)]
        for thread in threads:
            thread.start()
        mine = asyncio.create_task(follow())
        await asyncio.to_thread(ready.wait, 20)
        assert client._hub._core.watches == 1
        await client.put("k1", "")
        await client.put("k2", "")
        for thread in threads:
            await asyncio.to_thread(thread.join, 20)
        results.append(await mine)
        assert results == [[("put", b"k1"), ("put", b"k2")]] * 4

    run(main)


def test_a_blocked_loop_delays_nobody_else(run):
    async def main(client):
        seen = []

        def in_a_thread():
            with client.sync.watch("k", prefix=True) as watch:
                for batch in watch:
                    seen.extend(batch.events or [batch])
                    if len(seen) == 3:
                        return

        async with client.watch("k", prefix=True) as watch:
            await anext(watch)
            thread = threading.Thread(target=in_a_thread)
            thread.start()
            await until(lambda: seen)
            for _ in range(2):
                await client.put("k", "")
            thread.join(20)  # blocks this loop
            assert len(seen) == 3
            assert await gather(watch, 2) == [("put", b"k")] * 2

    run(main)


def test_the_context_ends_the_iteration_and_nothing_is_lost(run):
    async def main(client):
        async with client.watch("k", prefix=True) as watch:
            await anext(watch)
            with pytest.raises(DeadlineExceeded):
                async with context.timeout(0.05):
                    await anext(watch)
            with context.timeout(0.05), pytest.raises(DeadlineExceeded):
                await anext(watch)
            with context.with_cancel() as ctx:
                asyncio.get_running_loop().call_later(0.05, ctx.cancel, "enough")
                with pytest.raises(Cancelled, match="enough"):
                    await anext(watch)
                with pytest.raises(Cancelled):
                    await anext(watch)
            await client.put("k1", "")
            assert told(await anext(watch)) == [("put", b"k1")]

    run(main)


def test_a_deadline_of_the_subscriber_is_not_the_streams(run):
    async def main(client):
        with context.timeout(0.2):
            watch = await client.watch("k", prefix=True).__aenter__()
        await anext(watch)
        await asyncio.sleep(0.4)
        await client.put("k", "")
        assert told(await anext(watch)) == [("put", b"k")]
        await watch.__aexit__(None, None, None)

    run(main)


def test_cancelled_at_every_await_it_leaves_nothing_and_loses_nothing(run):
    async def main(client):
        """A task that is cancelled after so many steps of its loop, and then goes on."""
        tasks = asyncio.all_tasks()
        async with client.watch("k", prefix=True) as watch:
            await anext(watch)
            seen = []

            async def follow():
                async for batch in watch:
                    seen.extend(e.kv.value for e in batch.events)

            for number in range(60):
                task = asyncio.create_task(follow())
                writing = asyncio.create_task(client.put("k", b"%d" % number))
                for _ in range(number % 7):
                    await asyncio.sleep(0)
                if number % 3 == 0:
                    await asyncio.sleep(0.002)
                task.cancel()
                await asyncio.wait((task, writing))
            task = asyncio.create_task(follow())
            await until(lambda: len(seen) == 60)
            task.cancel()
            await asyncio.wait((task,))
            assert seen == [b"%d" % number for number in range(60)]
        for steps in range(12):

            async def short():
                async with client.watch("j", prefix=True) as watch:
                    await anext(watch)
                    await anext(watch)

            task = asyncio.create_task(short())
            for _ in range(steps):
                await asyncio.sleep(0.001 if steps % 2 else 0)
            task.cancel()
            await asyncio.wait((task,))
        assert asyncio.all_tasks() == tasks

    run(main)


def test_a_watch_is_used_as_it_is_meant(run):
    async def main(client):
        watch = client.watch("k", prefix=True)
        with pytest.raises(InvalidArgument, match="inside its `async with`"):
            await anext(watch)
        async with watch:
            with pytest.raises(InvalidArgument, match="not entered before"):
                await watch.__aenter__()
            await anext(watch)
            task = asyncio.create_task(anext(watch))
            await asyncio.sleep(0.01)
            with pytest.raises(InvalidArgument, match="one task at a time"):
                await anext(watch)

            def elsewhere():
                with pytest.raises(InvalidArgument, match="event loop on which it was entered"):
                    asyncio.run(anext_of(watch))

            task.cancel()
            await asyncio.wait((task,))
            await asyncio.to_thread(elsewhere)
            assert repr(watch).startswith("<watch of b'")
            task = asyncio.create_task(anext(watch))
            await asyncio.sleep(0.01)
        with pytest.raises(ClosedError, match="the watch is closed"):
            await task
        with pytest.raises(ClosedError, match="the watch is closed"):
            await anext(watch)
        for bad in ({"buffer": 0}, {"start_revision": 0}, {"start_revision": -1}):
            with pytest.raises(InvalidArgument, match=next(iter(bad))):
                client.watch("k", **bad)

    async def anext_of(watch):
        return await anext(watch)

    run(main)


def test_closing_the_client_ends_watches(run):
    async def main(client):
        watch = await client.watch("k", prefix=True).__aenter__()
        await anext(watch)
        waiting = asyncio.create_task(anext(watch))
        await asyncio.sleep(0.01)
        early = client.watch("k")
        hub = client._hub
        await client.aclose()
        for _ in range(2):
            with pytest.raises(ClosedError, match="etcd client is closed"):
                await waiting
            waiting = asyncio.create_task(anext(watch))
        waiting.cancel()
        with pytest.raises(ClosedError):
            await early.__aenter__()
        with pytest.raises(ClosedError):
            client.watch("k")
        await watch.__aexit__(None, None, None)
        assert hub._core.watches == 0
        await until(lambda: not hub._tasks)

    run(main)


def test_a_loop_that_was_closed_with_a_watch_open_is_left(run):
    async def main(client):
        def leave_it_open():
            async def enter():
                await client.watch("k", prefix=True).__aenter__()

            asyncio.run(enter())

        await asyncio.to_thread(leave_it_open)
        gc.collect()
        await client.put("k1", "")  # the snapshot may have come before that loop was closed
        await until(lambda: client._hub._core.watches == 0)

    run(main)


def test_age_says_how_current_it_is(run):
    async def main(client):
        async with client.watch("k", prefix=True) as watch:
            before = time.monotonic()
            await anext(watch)
            assert 0.0 <= watch.age <= time.monotonic() - before + 1.0
            await asyncio.sleep(0.2)
            assert watch.age >= 0.2
            await client.put("k", "")
            await anext(watch)
            assert watch.age < 0.2

    run(main)


def test_it_may_begin_in_the_past_and_in_the_future(shared_etcd):
    async def main():
        async with asyncio.timeout(BOUND), etcd.Client(shared_etcd.endpoint) as client:
            first = (await client.put("past", "1")).revision
            await client.put("past", "2")
            last = (await client.delete("past")).revision
            async with client.watch("past", start_revision=first + 1) as watch:
                batch = await anext(watch)
                found = [(e.kind, e.kv.value) for e in batch.events]
                if len(found) < 2:
                    found += [(e.kind, e.kv.value) for e in (await anext(watch)).events]
                assert found == [("put", b"2"), ("delete", b"")]
                assert not batch.resync
            async with client.watch("past", start_revision=last + 3) as watch:
                waiting = asyncio.create_task(anext(watch))
                await until(lambda: client._hub._core._stream is not None)
                for value in ("3", "4", "5", "6"):
                    await client.put("past", value)
                batch = await waiting
                assert batch.events[0].kv.value == b"5"

    asyncio.run(main())


def test_one_transaction_is_one_batch_and_one_revision(run):
    async def main(client):
        async with client.watch("k", prefix=True) as watch:
            await anext(watch)
            for _ in range(20):
                await client.txn([], [etcd_put(f"k{n}", "") for n in range(100)])
            seen = 0
            while seen < 20:
                batch = await anext(watch)
                revisions = [e.kv.mod_revision for e in batch.events]
                for revision in set(revisions):
                    assert revisions.count(revision) == 100
                assert batch.revision == revisions[-1]
                seen += len(set(revisions))

    run(main)


def test_a_slow_subscriber_gets_the_difference_and_holds_nobody_up(make_etcd, etcd_binary):
    async def main():
        mirror = Mirror(server)
        async with asyncio.timeout(BOUND), etcd.Client(server.endpoint) as client:
            fast = Follower(client, mirror, b"k")
            slow = Follower(client, mirror, b"k", buffer=50)
            slow.may_go.clear()
            await fast.until(lambda: fast.batches and slow.batches)
            for number in range(400):
                await mirror.put(b"k%d" % (number % 7))
            await mirror.change([(b"k3", None)])
            await fast.settle()
            assert len(fast.events) == 401
            slow.may_go.set()
            await slow.settle()
            assert slow.resyncs == ["snapshot", "overflow"]
            assert len(slow.batches[-1].events) <= 7
            await mirror.put(b"k1")
            await slow.settle()
            assert not slow.batches[-1].resync
            for each in (fast, slow):
                await each.leave()
        await mirror.aclose()

    server = make_etcd(binary=etcd_binary)
    asyncio.run(main())


def test_a_revision_of_five_megabytes_comes_whole(make_etcd, etcd_binary):
    """What one request may hold is not split; it is by a server that is started with less."""

    async def gather(watch):
        sizes = {}
        while True:
            for event in (batch := await anext(watch)).events:
                sizes[event.kv.mod_revision] = sizes.get(event.kv.mod_revision, 0) + 1
            assert batch.revision == batch.events[-1].kv.mod_revision
            if batch.revision == 4:
                return sizes

    async def main():
        mirror = Mirror(server, max_request_bytes=6 * 2**20)
        answers = []
        async with asyncio.timeout(BOUND), etcd.Client(server.endpoint) as client:
            core = client._watch_hub()._core
            received = core.received
            core.received = lambda answer, now: (answers.append(answer), received(answer, now))
            async with client.watch("big", prefix=True, prev=True) as watch:
                await anext(watch)
                for _ in range(2):
                    await mirror.change([(b"big%d" % n, b"x" * 100_000) for n in range(50)])
                await mirror.put(b"big0")
                assert await gather(watch) == {2: 50, 3: 50, 4: 1}
            answers.clear()
            server.kill()
            server.options = ()
            server.start()
            async with client.watch("big", prefix=True, start_revision=2) as watch:
                assert await gather(watch) == {2: 50, 3: 50, 4: 1}
            assert sum(answer.fragment for answer in answers) >= 3
        await mirror.aclose()

    server = make_etcd(binary=etcd_binary, options=("--max-request-bytes", str(6 * 2**20)))
    asyncio.run(main())


def test_a_thousand_watches_on_one_stream(make_etcd, etcd_binary):
    async def main():
        async with asyncio.timeout(50), etcd.Client(server.endpoint) as client:
            watches = [client.watch(f"k{n}") for n in range(1000)]
            for watch in watches:
                await watch.__aenter__()
            for watch in watches:
                assert (await anext(watch)).reason == "snapshot"
            assert client._hub._core.watches == 1000
            for n in range(0, 1000, 100):
                await client.put(f"k{n}", "")
                assert told(await anext(watches[n])) == [("put", b"k%d" % n)]
            for watch in watches:
                await watch.__aexit__(None, None, None)
            await until(lambda: client._hub._core.watches == 0)

    server = make_etcd(binary=etcd_binary)
    asyncio.run(main())
