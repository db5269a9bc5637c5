"""Keys and transactions against real servers, both versions."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from hastack.discovery import (
    Compare,
    Delete,
    DeleteResult,
    Get,
    Put,
    PutResult,
    RangeResult,
    TxnResult,
    etcd,
)
from hastack.errors import (
    Compacted,
    InvalidArgument,
    LeaseLost,
    RequestTooLarge,
    StoreError,
)

BOUND = 30.0  # seconds; ends what hangs


_number = itertools.count()


@pytest.fixture
def run(shared_etcd):
    """Runs ``main(client)`` with a namespace that nobody else uses; options go to the client."""

    def go(main, **options):
        options.setdefault("namespace", f"test {next(_number)}/")

        async def bounded():
            client = etcd.Client(shared_etcd.endpoint, **options)
            async with asyncio.timeout(BOUND), client:
                return await main(client)

        return asyncio.run(bounded())

    return go


def test_range_sorts_limits_counts_and_leaves_values_out(run):
    async def main(client):
        for name in ("b", "a", "c"):
            await client.put(name, f"value of {name}")
        await client.put("a", "z")
        keys = [kv.key for kv in (await client.range("", prefix=True)).kvs]
        assert keys == [b"a", b"b", b"c"]
        down = await client.range("", prefix=True, descending=True, limit=2)
        assert ([kv.key for kv in down.kvs], down.more, down.count) == ([b"c", b"b"], True, 3)
        for sort, expected in {
            "version": b"a",
            "create_revision": b"c",
            "mod_revision": b"a",
            "value": b"a",
        }.items():
            last = await client.range("", prefix=True, sort=sort, descending=True, limit=1)
            assert last.kvs[0].key == expected, sort
        up = await client.range("", prefix=True, sort="create_revision")
        assert [kv.key for kv in up.kvs] == [b"b", b"a", b"c"]
        bare = await client.range("a", end=b"\0", keys_only=True, serializable=True)
        assert [kv.value for kv in bare.kvs] == [b"", b"", b""]
        count = await client.range("b", end=b"d", count_only=True)
        assert (count.count, count.kvs) == (2, ())
        with pytest.raises(InvalidArgument, match="sort='size'"):
            await client.range("a", sort="size")

    run(main)


def test_a_scan_reads_one_revision_however_many_pages_it_takes(run):
    async def main(client):
        for n in range(25):
            await client.put(f"k/{n:02}", str(n))
        await client.put("other", "")
        found = []
        async for kv in client.scan("k/", page=4):
            found.append(kv.key)
            if len(found) == 6:  # changes in the middle of it are not seen
                await client.put("k/24x", "")
                await client.delete("k/20")
        assert found == [f"k/{n:02}".encode() for n in range(25)]
        assert [kv.value async for kv in client.scan("", page=7, keys_only=True)] == [b""] * 26
        assert [kv async for kv in client.scan("nothing/")] == []

    run(main)


def test_a_scan_whose_revision_is_compacted_says_so(run):
    async def main(client):
        for n in range(5):
            await client.put(f"k{n}", "")
        found = []
        with pytest.raises(Compacted):
            async for kv in client.scan("k", page=2):
                found.append(kv.key)
                if len(found) == 2:
                    last = await client.put("k9", "")
                    await client.maintenance.compact(last.revision)
        assert found == [b"k0", b"k1"]
        with pytest.raises(Compacted):
            await client.get("k0", revision=last.revision - 1)
        with pytest.raises(StoreError, match="future revision"):
            await client.get("k0", revision=10**9)

    run(main)


def test_transactions_nest_and_every_result_has_its_type(run):
    async def main(client):
        await client.put("a", "1")
        inner = etcd.Txn([Compare.absent("b")], [Put("b", "2"), Get("b")], [Delete("a")])
        answer = await client.txn(
            [Compare("a", "value", "==", b"1"), Compare("a", "version", "<", 2)],
            [Get("a"), Put("a2", "x", prev=True), inner, Delete("a2x", end=b"a3", prev=True)],
        )
        assert answer.succeeded
        kinds = [type(each) for each in answer.results]
        assert kinds == [RangeResult, PutResult, TxnResult, DeleteResult]
        nested = answer.results[2]
        assert nested.succeeded
        assert nested.results[1].kvs[0].value == b"2"
        assert nested.revision == nested.results[0].revision == answer.revision
        again = await client.txn([Compare("a", "mod_revision", ">", 10**9)], [], [inner])
        assert not again.succeeded
        assert again.results[0].results == (DeleteResult(1, again.revision),)
        with pytest.raises(StoreError, match="duplicate key"):
            await client.txn([], [Put("k", "1"), Put("k", "2")])

    run(main)


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        (Compare.present("k"), True),
        (Compare.absent("k"), False),
        (Compare("k", "version", "==", 1), True),
        (Compare("k", "version", "!=", 1), False),
        (Compare("k", "create_revision", ">", 1), True),
        (Compare("k", "value", "<", b"w"), True),
        (Compare("k", "lease", "==", 0), True),
        (Compare("absent", "mod_revision", "==", 0), True),
    ],
    ids=str,
)
def test_conditions(run, condition, holds):
    async def main(client):
        await client.put("k", "v")
        assert (await client.txn([condition], [])).succeeded is holds

    run(main)


def test_a_namespace_is_put_on_and_taken_off_everywhere(run):
    async def main(plain):
        around = plain._shared.options.namespace.decode()
        async with etcd.Client(plain._shared.options.endpoints, namespace=around + "ns/") as inside:
            await plain.put("ns", "before")
            await plain.put("ns0", "after")
            await inside.put("a", "1")
            await inside.put("b", "2")
            assert (await inside.put("a", "3", prev=True)).prev.key == b"a"
            assert (await inside.get("a")).key == b"a"
            assert (await plain.get("ns/a")).value == b"3"
            everything = await inside.range("", prefix=True)
            assert [kv.key for kv in everything.kvs] == [b"a", b"b"]
            assert (await inside.range("b", end=b"\0")).count == 1
            assert [kv.key async for kv in inside.scan("", page=1)] == [b"a", b"b"]
            answer = await inside.txn(
                [Compare("a", "value", "==", b"3")],
                [Get("a"), etcd.Txn([Compare.present("b")], [Delete("b", prev=True)])],
            )
            assert answer.results[0].kvs[0].key == b"a"
            assert answer.results[1].results[0].prev[0].key == b"b"
            gone = await inside.delete("", prefix=True, prev=True)
            assert [kv.key for kv in gone.prev] == [b"a"]
            assert (await inside.delete("", end=b"\0")).deleted == 0
        assert (await plain.range("", prefix=True)).count == 2

    run(main)


def test_a_put_on_a_lease_that_is_not_there(run):
    async def main(client):
        with pytest.raises(LeaseLost) as info:
            await client.put("k", "v", lease=12345)
        assert info.value.lease == 12345
        assert await client.get("k") is None

    run(main)


class TestLimits:
    def test_more_operations_than_the_server_takes_are_not_sent(self, run):
        async def main(client):
            puts = [Put(f"k{n}", "") for n in range(129)]
            with pytest.raises(RequestTooLarge, match="129 operations, at most 128") as info:
                await client.txn([], puts)
            assert (info.value.unit, info.value.size, info.value.limit) == ("operations", 129, 128)
            await client.txn([], puts[:128])

        run(main)

    def test_and_the_server_has_the_last_word(self, run):
        async def main(client):
            with pytest.raises(RequestTooLarge, match="too many operations") as info:
                await client.txn([], [Put(f"k{n}", "") for n in range(129)])
            assert info.value.endpoint
            with pytest.raises(RequestTooLarge, match="too many bytes"):
                await client.put("k", b"x" * 1_600_000)
            with pytest.raises(RequestTooLarge, match="too many bytes"):
                await client.put("k", b"x" * 4_000_000)

        run(main, max_txn_ops=1000, max_request_bytes=10_000_000)

    def test_a_request_that_is_too_large_is_not_sent(self, run):
        async def main(client):
            with pytest.raises(RequestTooLarge, match=r"1,600,0.. bytes, at most 1,572,864"):
                await client.put("k", b"x" * 1_600_000)
            await client.put("k", b"x" * 1_500_000)

        run(main)

    def test_an_answer_may_be_larger_than_grpc_takes_by_default(self, run):
        async def main(client):
            for n in range(5):
                await client.put(f"k{n}", b"x" * 1_000_000)
            found = await client.range("k", prefix=True)
            assert sum(len(kv.value) for kv in found.kvs) == 5_000_000

        run(main)


def test_the_blocking_face_has_the_same_calls(run):
    async def main(client):
        def work():
            sync = client.sync
            assert sync.put("a", "1").prev is None
            assert sync.get("a").value == b"1"
            assert sync.range("", prefix=True).count == 1
            for n in range(5):
                sync.put(f"s/{n}", "")
            assert [kv.key[-1:] for kv in sync.scan("s/", page=2)] == [b"0", b"1", b"2", b"3", b"4"]
            first = next(iter(sync.scan("s/", page=2)))
            assert first.key == b"s/0"
            assert sync.txn([Compare.present("a")], [Delete("a")]).succeeded
            assert sync.delete("s/", prefix=True).deleted == 5
            assert sync.identity().cluster
            return sync.maintenance.status().version

        version = await asyncio.to_thread(work)
        assert version.startswith("3.")
        with pytest.raises(RuntimeError, match="await the asynchronous face"):
            client.sync.get("a")

    run(main)
