"""What every store promises: the same tests for the embedded one and for etcd.

Keys of each test lie under a prefix of their own and revisions are relative, so that a server may
serve many tests.
"""

from __future__ import annotations

import asyncio
import itertools
import subprocess
import sys
from contextlib import asynccontextmanager, contextmanager

import pytest
from etcd_servers import Etcd, binaries

from hastack import context
from hastack.discovery import Compare, Delete, Get, KeyValue, Put, etcd, memory
from hastack.errors import (
    ClosedError,
    Compacted,
    DeadlineExceeded,
    InvalidArgument,
    RequestTooLarge,
    StoreError,
)

_number = itertools.count()
BOUND = 20.0  # seconds; ends what hangs


class Kind:
    """How to reach one kind of store."""

    name = "memory"

    def __init__(self, directory):
        self.directory = directory

    @asynccontextmanager
    async def open(self):
        store = memory.connect("memory://contract")
        yield store
        await store.aclose()


class SharedOwner(Kind):
    """In the process that serves a shared store."""

    name = "shared-owner"

    @asynccontextmanager
    async def open(self):
        store = memory.connect(f"memory://{self.directory}/store")
        try:
            yield store
        finally:
            await store.aclose()


class SharedPeer(SharedOwner):
    """In another process than the one that serves a shared store."""

    name = "shared-peer"

    @asynccontextmanager
    async def open(self):
        with owner_process(self.directory / "store"):
            async with super().open() as store:
                yield store


@contextmanager
def owner_process(path):
    """Another process that serves the store at ``path``."""
    process = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(path)], stdout=subprocess.PIPE, stdin=subprocess.PIPE
    )
    try:
        assert process.stdout.readline() == b"ready\n"
        yield process
    finally:
        process.kill()
        process.wait(BOUND)
        process.stdout.close()
        process.stdin.close()


OWNER = """
import asyncio, sys
from hastack.discovery import memory
async def main():
    store = memory.connect("memory://" + sys.argv[1])
    await store.identity()
    print("ready", flush=True)
    await asyncio.sleep(300)
asyncio.run(main())
"""


class RealEtcd(Kind):
    """An etcd server, by its client."""

    name = "etcd"

    def __init__(self, member):
        self.member = member

    @asynccontextmanager
    async def open(self):
        async with etcd.Client(self.member.endpoint) as client:
            yield client


KINDS = ["memory", "shared-owner", "shared-peer", "etcd-3.4", "etcd-3.5"]


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    """etcd servers by version, started when first asked for; each serves many tests."""
    started = {}

    def get(version):
        if version not in started:
            if version not in binaries():
                pytest.skip(f"no etcd {version} on this machine")
            directory = tmp_path_factory.mktemp(f"etcd-{version}")
            started[version] = Etcd(directory, binary=binaries()[version]).start()
        return started[version]

    yield get
    for member in started.values():
        member.kill()


@pytest.fixture(params=KINDS)
def kind(request, tmp_path, servers):
    name, _, version = request.param.partition("-")
    if name == "etcd":
        return RealEtcd(servers(version))
    return {"memory": Kind, "owner": SharedOwner, "peer": SharedPeer}[version or name](tmp_path)


@pytest.fixture
def run(kind):
    """Runs ``main(store, prefix)`` against a store, with a prefix that nobody else uses."""

    def go(main):
        async def bounded():
            async with asyncio.timeout(BOUND), kind.open() as store:
                return await main(store, f"/contract/{next(_number)}/".encode())

        return asyncio.run(bounded())

    return go


def told(batch):
    return [(e.kind, e.kv.key, e.kv.value) for e in batch.events]


async def gather(watch, count):
    """Batches until ``count`` events have come."""
    found = []
    while len(found) < count:
        batch = await anext(watch)
        assert not batch.resync
        revisions = [e.kv.mod_revision for e in batch.events]
        assert revisions == sorted(revisions)
        assert revisions[-1] <= batch.revision
        found += batch.events
    assert len(found) == count
    return found


# Keys


def test_put_get_delete(run):
    async def main(store, p):
        assert await store.get(p) is None
        first = await store.put(p + b"k", "1")
        assert first.prev is None
        second = await store.put(p + b"k", b"2", prev=True)
        assert second.revision == first.revision + 1
        assert second.prev == KeyValue(p + b"k", b"1", first.revision, first.revision, 1)
        now = KeyValue(p + b"k", b"2", first.revision, second.revision, 2)
        assert await store.get(p + b"k") == now
        gone = await store.delete(p + b"k", prev=True)
        assert (gone.deleted, gone.revision, gone.prev) == (1, second.revision + 1, (now,))
        again = await store.delete(p + b"k")
        assert (again.deleted, again.revision, again.prev) == (0, gone.revision, ())
        assert await store.get(p + b"k") is None
        anew = await store.put(p + b"k", "")
        assert (await store.get(p + b"k")) == KeyValue(
            p + b"k", b"", anew.revision, anew.revision, 1
        )

    run(main)


def test_text_and_bytes_are_keys_alike(run):
    async def main(store, p):
        await store.put(p.decode() + "ä", "ö")
        assert (await store.get(p + "ä".encode())).value == "ö".encode()
        odd = p + bytes(range(256))
        await store.put(odd, bytes(range(256)))
        assert (await store.get(odd)).value == bytes(range(256))

    run(main)


def test_range_limit_count_and_kinds(run):
    async def main(store, p):
        for name in (b"b", b"a", b"d", b"c"):
            await store.put(p + name, b"v" + name)
        last = await store.put(p[:-1], "not under the prefix")
        whole = await store.range(p, prefix=True)
        assert [kv.key for kv in whole.kvs] == [p + n for n in (b"a", b"b", b"c", b"d")]
        assert (whole.count, whole.more, whole.revision) == (4, False, last.revision)
        some = await store.range(p, prefix=True, limit=2)
        assert ([kv.value for kv in some.kvs], some.count, some.more) == ([b"va", b"vb"], 4, True)
        exact = await store.range(p, prefix=True, limit=4)
        assert (len(exact.kvs), exact.more) == (4, False)
        half = await store.range(p + b"b", end=p + b"d")
        assert [kv.key for kv in half.kvs] == [p + b"b", p + b"c"]
        assert (await store.range(p + b"d", end=p + b"b")).count == 0
        names = await store.range(p, prefix=True, keys_only=True, limit=1)
        assert names.kvs == (attr_value(whole.kvs[0], b""),)
        counted = await store.range(p, prefix=True, count_only=True)
        assert (counted.kvs, counted.count, counted.more) == ((), 4, False)
        onwards = await store.range(p + b"c", end=b"\0")
        assert [kv.key for kv in onwards.kvs][:2] == [p + b"c", p + b"d"]

    def attr_value(kv, value):
        return KeyValue(kv.key, value, kv.create_revision, kv.mod_revision, kv.version, kv.lease)

    run(main)


def test_the_past_the_future_and_what_is_compacted(run):
    async def main(store, p):
        first = (await store.put(p + b"a", "1")).revision
        await store.put(p + b"a", "2")
        gone = (await store.delete(p + b"a")).revision
        last = (await store.put(p + b"b", "3")).revision
        assert (await store.get(p + b"a", revision=first)).value == b"1"
        assert (await store.get(p + b"a", revision=first + 1)).value == b"2"
        assert await store.get(p + b"a", revision=gone) is None
        old = await store.range(p, prefix=True, revision=first)
        assert [kv.value for kv in old.kvs] == [b"1"]
        assert old.revision == last
        with pytest.raises(StoreError) as future:
            await store.get(p + b"a", revision=last + 1)
        assert not isinstance(future.value, Compacted)
        assert future.value.code == "OUT_OF_RANGE"
        await store.compact(gone)
        with pytest.raises(Compacted):
            await store.get(p + b"a", revision=gone - 1)
        assert await store.get(p + b"a", revision=gone) is None
        with pytest.raises(Compacted):
            await store.compact(gone)
        with pytest.raises(StoreError) as future:
            await store.compact(last + 1)
        assert not isinstance(future.value, Compacted)
        assert (await store.get(p + b"b")).value == b"3"

    run(main)


def test_scan_reads_one_revision_whatever_happens_meanwhile(run):
    async def main(store, p):
        for n in range(7):
            await store.put(p + b"%d" % n, b"old")
        found = []
        async for kv in store.scan(p, page=3):
            found.append((kv.key, kv.value))
            await store.put(p + b"6", b"new")
            await store.delete(p + b"5")
        assert found == [(p + b"%d" % n, b"old") for n in range(7)]
        assert [kv.value async for kv in store.scan(p, keys_only=True)] == [b""] * 6

    run(main)


def test_delete_of_ranges(run):
    async def main(store, p):
        for name in (b"a", b"b", b"c", b"d"):
            await store.put(p + name, name)
        some = await store.delete(p + b"b", end=p + b"d", prev=True)
        assert (some.deleted, [kv.key for kv in some.prev]) == (2, [p + b"b", p + b"c"])
        rest = await store.delete(p, prefix=True)
        assert (rest.deleted, rest.revision) == (2, some.revision + 1)
        assert (await store.range(p, prefix=True)).count == 0

    run(main)


def test_bad_arguments_are_refused_before_anything_is_sent(run):
    async def main(store, p):
        for call in (
            lambda: store.put("", "x"),
            lambda: store.get(""),
            lambda: store.put(p, 5),
            lambda: store.get(5),
            lambda: store.range(p, limit=-1),
            lambda: store.range(p, end=b"z", prefix=True),
            lambda: store.delete(p, end=b""),
            lambda: store.get(p, timeout=-1.0),
            lambda: store.get(p, revision=-1),
        ):
            with pytest.raises(InvalidArgument):
                await call()
        with pytest.raises(InvalidArgument):
            store.lease(0.0)
        with pytest.raises(InvalidArgument):
            store.watch("")
        with pytest.raises(InvalidArgument):
            store.watch(p, buffer=0)

    run(main)


def test_a_call_ends_with_its_context(run):
    async def main(store, p):
        with pytest.raises(DeadlineExceeded):
            async with context.timeout(0.0):
                await store.put(p, "x")
        with context.with_cancel() as ctx:
            ctx.cancel()
            with pytest.raises(context_error()):
                await store.put(p, "x")
        assert await store.get(p) is None

    def context_error():
        from hastack.errors import ContextError

        return ContextError

    run(main)


# Transactions


def test_a_transaction_is_one_revision(run):
    async def main(store, p):
        before = (await store.put(p + b"a", "0")).revision
        done = await store.txn(
            [Compare(p + b"a", "mod_revision", "==", before), Compare.absent(p + b"b")],
            [
                Get(p + b"b"),
                Put(p + b"b", "1"),
                Get(p + b"a", p + b"z"),
                Delete(p + b"a", prev=True),
                Put(p + b"c", "2"),
            ],
            [Get(p + b"a")],
        )
        revision = before + 1
        assert (done.succeeded, done.revision) == (True, revision)
        absent, put, both, deleted, other = done.results
        assert (absent.kvs, absent.count) == ((), 0)
        assert put.revision == deleted.revision == other.revision == revision
        assert [(kv.key, kv.value) for kv in both.kvs] == [(p + b"a", b"0"), (p + b"b", b"1")]
        assert deleted.deleted == 1
        assert deleted.prev == (KeyValue(p + b"a", b"0", before, before, 1),)
        assert (await store.get(p + b"b")) == KeyValue(p + b"b", b"1", revision, revision, 1)
        failed = await store.txn([Compare.absent(p + b"b")], [Put(p, "x")], [Get(p + b"b")])
        assert (failed.succeeded, failed.revision) == (False, revision)
        assert failed.results[0].kvs[0].value == b"1"

    run(main)


def test_conditions(run):
    async def main(store, p):
        lease = await store.grant(60.0)
        k = p + b"k"
        revision = (await store.put(k, "m", lease=lease)).revision

        async def holds(*compare):
            return (await store.txn(compare, [])).succeeded

        assert await holds()
        assert await holds(Compare.present(k), Compare.absent(p))
        assert not await holds(Compare.present(k), Compare.absent(k))
        for relation, other, wanted in (
            ("==", b"m", True),
            ("==", b"n", False),
            ("!=", b"n", True),
            ("!=", b"m", False),
            ("<", b"n", True),
            ("<", b"m", False),
            (">", b"l", True),
            (">", b"m", False),
        ):
            assert await holds(Compare(k, "value", relation, other)) is wanted
        assert await holds(Compare(k, "create_revision", "==", revision))
        assert await holds(Compare(k, "mod_revision", "<", revision + 1))
        assert await holds(Compare(k, "version", ">", 0))
        assert await holds(Compare(k, "lease", "==", lease))
        assert await holds(Compare(p, "lease", "==", 0), Compare(p, "mod_revision", "==", 0))
        # What is not there has no value, not even one that differs.
        assert not await holds(Compare(p, "value", "!=", b"m"))
        assert not await holds(Compare(p, "value", "==", b""))
        await store.revoke(lease)

    run(main)


def test_transactions_that_are_refused(run):
    async def main(store, p):
        for then in (
            [Put(p, "1"), Put(p, "2")],
            [Put(p, "1"), Delete(p)],
            [Put(p + b"b", "1"), Delete(p + b"a", p + b"c")],
        ):
            with pytest.raises(StoreError) as twice:
                await store.txn([], then)
            assert twice.value.code == "INVALID_ARGUMENT"
        for many in (
            ([], [Put(p + b"%d" % n, "") for n in range(129)]),
            ([Compare.absent(p)] * 129, []),
            ([], [], [Get(p)] * 129),
        ):
            with pytest.raises(RequestTooLarge):
                await store.txn(*many)
        with pytest.raises(RequestTooLarge):
            await store.put(p, b"x" * 3_000_000)
        assert (await store.range(p, prefix=True)).count == 0
        many = [Put(p + b"%d" % n, "") for n in range(128)]
        assert len((await store.txn([], many)).results) == 128

    run(main)


# Leases


def test_what_hangs_on_a_lease_goes_with_it(run):
    async def main(store, p):
        lease = await store.grant(60.0)
        for name in (b"a", b"b", b"c"):
            await store.put(p + name, "", lease=lease)
        await store.put(p + b"c", "stays")
        assert (await store.get(p + b"a")).lease == lease
        assert (await store.get(p + b"c")).lease == 0
        assert await store.renew(lease) >= 1.0
        before = (await store.identity()).revision
        await store.revoke(lease)
        found = await store.range(p, prefix=True)
        assert [kv.key for kv in found.kvs] == [p + b"c"]
        assert found.revision == before + 1
        for call in (
            lambda: store.renew(lease),
            lambda: store.revoke(lease),
            lambda: store.put(p + b"a", "", lease=lease),
        ):
            with pytest.raises(StoreError) as lost:
                await call()
            assert lost.value.code == "NOT_FOUND"
        assert await store.get(p + b"a") is None

    run(main)


def test_a_lease_that_nobody_renews_expires(run):
    async def main(store, p):
        lease = await store.grant(1.0)
        await store.put(p + b"a", "", lease=lease)
        async with store.watch(p, prefix=True) as watch:
            assert len((await anext(watch)).events) == 1
            assert told(await anext(watch)) == [("delete", p + b"a", b"")]

    run(main)


def test_a_lease_lives_as_long_as_its_block(run):
    async def main(store, p):
        async with store.lease(2.0) as lease:
            assert lease.ttl >= 2.0
            assert not lease.context.done
            await store.put(p + b"a", "", lease=lease)
            assert (await store.get(p + b"a")).lease == lease.id
        assert lease.context.done
        assert await store.get(p + b"a") is None

    run(main)


def test_a_revoked_lease_says_so(run):
    async def main(store, p):
        async with store.lease(3.0) as lease:
            await store.revoke(lease.id)
            assert await lease.context.wait_async(BOUND / 2)
            assert lease.context.cause() is not None

    run(main)


def test_a_kept_key_comes_back(run):
    async def main(store, p):
        k = p + b"kept"
        async with store.keep(k, "1", ttl=3.0) as kept:
            assert kept.key == k
            assert kept.present
            first = await store.get(k)
            assert first.value == b"1"
            assert first.lease
            async with store.watch(k, start_revision=first.mod_revision + 1) as watch:
                await kept.set("2")
                assert (await store.get(k)).value == b"2"
                await store.delete(k)
                assert [(e.kind, e.kv.value) for e in await gather(watch, 3)] == [
                    ("put", b"2"),
                    ("delete", b""),
                    ("put", b"2"),
                ]
                back = await store.get(k)
                assert back.lease
                await store.revoke(back.lease)
                again = await gather(watch, 2)
                assert [e.kind for e in again] == ["delete", "put"]
                assert again[1].kv.value == b"2"
                assert again[1].kv.lease
        assert await store.get(k) is None

    run(main)


# Watches


def test_a_watch_begins_with_a_snapshot(run):
    async def main(store, p):
        await store.put(p + b"a", "1")
        last = await store.put(p + b"b", "2")
        async with store.watch(p, prefix=True) as watch:
            batch = await anext(watch)
            assert (batch.resync, batch.reason) == (True, "snapshot")
            assert sorted(told(batch)) == [("put", p + b"a", b"1"), ("put", p + b"b", b"2")]
            assert batch.revision >= last.revision
            assert watch.age < BOUND
        async with store.watch(p + b"nothing") as watch:
            batch = await anext(watch)
            assert (list(batch.events), batch.reason) == ([], "snapshot")

    run(main)


def test_changes_come_in_order_each_once(run):
    async def main(store, p):
        async with store.watch(p, prefix=True, prev=True) as watch:
            await anext(watch)
            first = (await store.put(p + b"a", "1")).revision
            await store.put(p[:-1] + b"0", "after the prefix")
            await store.put(p + b"a", "2")
            await store.delete(p + b"a")
            events = await gather(watch, 3)
        assert [(e.kind, e.kv.value, e.kv.mod_revision) for e in events] == [
            ("put", b"1", first),
            ("put", b"2", first + 2),
            ("delete", b"", first + 3),
        ]
        assert events[2].kv == KeyValue(p + b"a", b"", 0, first + 3, 0)
        assert [e.prev and e.prev.value for e in events] == [None, b"1", b"2"]

    run(main)


def test_a_watch_of_one_key_sees_no_other(run):
    async def main(store, p):
        async with store.watch(p + b"a") as watch:
            await anext(watch)
            await store.put(p + b"ab", "")
            await store.put(p + b"a", "1")
            (event,) = await gather(watch, 1)
            assert event.kv.key == p + b"a"
            assert event.prev is None

    run(main)


def test_a_watch_may_begin_in_the_past(run):
    async def main(store, p):
        first = (await store.put(p + b"a", "1")).revision
        await store.put(p + b"a", "2")
        await store.delete(p + b"a")
        async with store.watch(p, prefix=True, start_revision=first + 1) as watch:
            assert [e.kind for e in await gather(watch, 2)] == ["put", "delete"]
            await store.put(p + b"a", "3")
            (event,) = await gather(watch, 1)
            assert event.kv.value == b"3"

    run(main)


def test_a_transaction_comes_whole(run):
    async def main(store, p):
        async with store.watch(p, prefix=True) as watch:
            await anext(watch)
            await store.put(p + b"old", "")
            await gather(watch, 1)
            done = await store.txn(
                [], [Put(p + b"%d" % n, "") for n in range(100)] + [Delete(p + b"old")]
            )
            batch = await anext(watch)
            assert len(batch.events) == 101
            assert {e.kv.mod_revision for e in batch.events} == {done.revision}
            assert batch.revision >= done.revision

    run(main)


def test_a_long_history_comes_whole(run):
    async def main(store, p):
        first = (await store.identity()).revision + 1
        for begin in range(0, 2500, 100):
            await asyncio.gather(
                *[store.put(p + b"k", b"%d" % n) for n in range(begin, begin + 100)]
            )
        async with store.watch(p, prefix=True, start_revision=first) as watch:
            events = await gather(watch, 2500)
        revisions = [e.kv.mod_revision for e in events]
        assert revisions == sorted(set(revisions))

    run(main)


def test_a_watch_that_begins_before_the_history_gets_a_listing(run):
    async def main(store, p):
        first = (await store.put(p + b"a", "1")).revision
        await store.put(p + b"b", "2")
        await store.delete(p + b"a")
        last = (await store.put(p + b"c", "3")).revision
        await store.compact(last)
        async with store.watch(p, prefix=True, start_revision=first) as watch:
            batch = await anext(watch)
            assert (batch.resync, batch.reason) == (True, "compacted")
            puts = [e for e in batch.events if e.kind == "put"]
            assert sorted(e.kv.key for e in puts) == [p + b"b", p + b"c"]
            assert batch.revision >= last
            await store.put(p + b"b", "4")
            (event,) = await gather(watch, 1)
            assert event.kv.value == b"4"

    run(main)


def test_a_slow_subscriber_gets_the_difference(run, kind):
    async def main(store, p):
        for name in (b"kept", b"changed", b"deleted"):
            await store.put(p + name, "old")
        async with store.watch(p, prefix=True, buffer=5) as watch:
            given = {e.kv.key: e.kv for e in (await anext(watch)).events}
            for n in range(30):
                await store.put(p + b"changed", b"%d" % n)
            await store.put(p + b"brief", "")
            await store.delete(p + b"brief")
            await store.delete(p + b"deleted")
            last = (await store.put(p + b"new", "")).revision
            await asyncio.sleep(0.2)
            resyncs = 0
            while True:
                batch = await anext(watch)
                resyncs += batch.resync
                if batch.resync:
                    assert batch.reason == "overflow"
                for event in batch.events:
                    if event.kind == "put":
                        assert given.get(event.kv.key) != event.kv
                        given[event.kv.key] = event.kv
                    else:
                        del given[event.kv.key]  # only what was there is deleted
                if batch.revision >= last:
                    break
            # What etcd sends may come only while it is being taken, and then all fits.
            assert resyncs or isinstance(kind, RealEtcd)
            now = await store.range(p, prefix=True)
            assert given == {kv.key: kv for kv in now.kvs}

    run(main)


def test_iterating_goes_on_where_it_stopped(run):
    async def main(store, p):
        async with store.watch(p, prefix=True) as watch:
            async for batch in watch:
                assert batch.reason == "snapshot"
                break
            await store.put(p + b"a", "1")
            async for batch in watch:
                assert told(batch) == [("put", p + b"a", b"1")]
                break
            waiting = asyncio.ensure_future(anext(watch))
            await asyncio.sleep(0.05)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            await store.put(p + b"a", "2")
            assert told(await anext(watch)) == [("put", p + b"a", b"2")]

    run(main)


def test_many_subscribers_see_the_same(run):
    async def main(store, p):
        async def follow(watch):
            return [e.kv.value for e in await gather(watch, 20)]

        async with asyncio.TaskGroup() as group, _entered(store, p, 25) as watches:
            tasks = [group.create_task(follow(watch)) for watch in watches]
            for n in range(20):
                await store.put(p + b"k", b"%d" % n)
            found = [await task for task in tasks]
        assert found == [[b"%d" % n for n in range(20)]] * 25

    @asynccontextmanager
    async def _entered(store, p, count):
        from contextlib import AsyncExitStack

        async with AsyncExitStack() as stack:
            watches = []
            for _ in range(count):
                watch = await stack.enter_async_context(store.watch(p, prefix=True))
                assert (await anext(watch)).reason == "snapshot"
                watches.append(watch)
            yield watches

    run(main)


# The store itself


def test_identity_stays_and_revisions_grow(run):
    async def main(store, p):
        one = await store.identity()
        put = await store.put(p, "")
        other = await store.identity()
        assert one.cluster == other.cluster != 0
        assert other.revision == put.revision == one.revision + 1

    run(main)


def test_a_closed_store_takes_no_more_calls(kind):
    async def main():
        async with asyncio.timeout(BOUND), kind.open() as store:
            async with store.watch("/contract/closed") as watch:
                await anext(watch)
                waiting = asyncio.ensure_future(anext(watch))
                await asyncio.sleep(0.05)
                await store.aclose()
                with pytest.raises((ClosedError, StopAsyncIteration)):
                    await waiting
            with pytest.raises(ClosedError):
                await store.get("/contract/closed")
            await store.aclose()

    asyncio.run(main())
