"""Ring buffers: batches in threads and tasks, an exact account, closing at any moment."""

from __future__ import annotations

import asyncio
import os
import threading
import time

import pytest
from bpf_objects import built, needs, open_descriptors
from forking import run_in_fork

from hastack import context, ebpf
from hastack.errors import Cancelled, ClosedError, DeadlineExceeded, InvalidArgument


@pytest.fixture(scope="module")
def spec():
    return ebpf.open(built("basics"), name="basics")


@pytest.fixture
def obj(spec):
    needs("program:xdp", "map:ringbuf")
    with ebpf.load(spec, programs=["burst", "odd_sizes", "named"]) as made:
        yield made


def burst(obj: ebpf.Object, count: int) -> None:
    obj.burst.test_run(count.to_bytes(2, "little") + bytes(62))


def test_batches_of_tuples(obj):
    with obj.ring("events") as ring:
        assert ring.fields == ("pid", "n", "at", "comm")
        burst(obj, 1000)
        batch = ring.read_batch(timeout=5)
        assert len(batch) == 1000
        assert batch.column("n") == list(range(1000))
        assert {row[0] for row in batch} == {os.getpid()}
        assert batch.rows[0][3].startswith(b"p")
        made = batch.objects()
        assert (made[7].n, made[7].pid) == (7, os.getpid())
        assert "\0" not in made[7].comm
        assert batch.column("at") == sorted(batch.column("at"))
        with pytest.raises(InvalidArgument, match="field='x'"):
            batch.column("x")
        empty = ring.read_batch(timeout=0)
        assert not empty
        assert len(empty) == 0
        assert "1000 records read" in repr(ring)


def test_limits_and_other_sizes(obj):
    with obj.ring("events") as ring:
        burst(obj, 10)
        assert [len(ring.take(limit=4)) for _ in range(4)] == [4, 4, 2, 0]
        obj.odd_sizes.test_run(bytes(64))
        batch = ring.take()
        assert (len(batch.rows), batch.others) == (1, (b"odd\0",))
        assert "1 of another size" in repr(batch)
        assert ring.account().consumed == 12
        with pytest.raises(InvalidArgument, match="limit=0"):
            ring.take(limit=0)
    with obj.ring("small") as raw:
        assert raw.take().fields == ()
    with obj.ring("events", type="struct pair") as wrong:
        burst(obj, 2)
        assert [len(each) for each in wrong.take().others] == [32, 32]
    with pytest.raises(InvalidArgument, match="type ringbuf"):
        ebpf.RingBuffer(obj.maps.table)


def test_produced_is_consumed_and_lost(spec):
    needs("program:xdp", "map:ringbuf")
    with (
        ebpf.load(spec, programs=["burst"], globals={"label": "discard"}) as obj,
        obj.ring("events") as ring,
    ):
        for _ in range(5):
            burst(obj, 5000)  # 200 kB of 256
        wanted, before = 25_000, ring.account()
        assert before.lost > 0
        assert before.waiting > 0
        while ring.take():
            pass
        after = ring.account()
        assert after.produced == after.consumed + after.discarded + after.lost == wanted
        assert after.waiting == 0
        assert after.discarded > 0
        final = after
    assert ring.account()[:3] == final[:3]


def test_a_thread_waits_and_is_woken(obj):
    with obj.ring("events") as ring, obj.named.attach(pid=os.getpid()):
        got = []
        thread = threading.Thread(target=lambda: got.append(ring.read_batch(timeout=20)))
        thread.start()
        time.sleep(0.05)
        burst(obj, 3)
        thread.join(20)
        assert len(got[0]) == 3


def test_waiting_honours_the_context(obj):
    with obj.ring("events") as ring:
        with context.timeout(0.05), pytest.raises(DeadlineExceeded):
            ring.read_batch()
        started = time.monotonic()
        assert not ring.read_batch(timeout=0.05)
        assert time.monotonic() - started < 10
        with context.with_cancel() as ctx:
            timer = threading.Timer(0.05, ctx.cancel)
            timer.start()
            with pytest.raises(Cancelled):
                ring.read_batch()
            timer.join()
        burst(obj, 1)
        assert len(ring.read_batch()) == 1


def test_tasks_wait_without_threads(obj):
    async def main() -> None:
        with obj.ring("events") as ring:
            assert not await ring.read_batch_async(timeout=0.01)
            task = asyncio.create_task(ring.read_batch_async())
            await asyncio.sleep(0.02)
            threads = threading.active_count()
            burst(obj, 4)
            assert len(await asyncio.wait_for(task, 20)) == 4
            assert threading.active_count() == threads
            # Cancelled while waiting, nothing is lost.
            task = asyncio.create_task(ring.read_batch_async())
            await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            burst(obj, 2)
            assert len(await ring.read_batch_async()) == 2
            with pytest.raises(DeadlineExceeded):
                async with context.timeout(0.03):
                    await ring.read_batch_async()

    before = open_descriptors()
    asyncio.run(main())
    assert open_descriptors() <= before


def test_iteration_ends_with_close(obj):
    async def main() -> list[int]:
        sizes = []
        with obj.ring("events") as ring:
            burst(obj, 3)
            asyncio.get_running_loop().call_later(0.05, ring.close)
            async for batch in ring:
                sizes.append(len(batch))
        return sizes

    assert asyncio.run(main()) == [3]
    ring = obj.ring("events")
    burst(obj, 2)
    threading.Timer(0.05, ring.close).start()
    assert [len(batch) for batch in ring] == [2]
    with pytest.raises(ClosedError):
        ring.take()


def test_two_tasks_and_two_loops_may_wait(obj):
    async def main() -> int:
        with obj.ring("events") as ring:
            tasks = [asyncio.create_task(ring.read_batch_async(timeout=2)) for _ in range(2)]
            await asyncio.sleep(0.02)
            burst(obj, 5)
            return sum(len(batch) for batch in await asyncio.gather(*tasks))

    assert asyncio.run(main()) == 5


def test_closing_while_threads_read(obj):
    """Nothing crashes, nothing hangs, and every record has one reader."""
    for round_ in range(10):
        ring = obj.ring("events")
        counts, failures = [], []

        def read(ring=ring, counts=counts, failures=failures):
            try:
                counts.extend(len(batch) for batch in ring)
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=read) for _ in range(3)]
        for thread in threads:
            thread.start()
        written = 0
        for _ in range(round_):
            burst(obj, 50)
            written += 50
        ring.close()
        for thread in threads:
            thread.join(20)
            assert not thread.is_alive()
        assert not failures
        account = ring.account()
        assert sum(counts) == account.consumed <= written
        with obj.ring("events") as rest:
            while rest.take():
                pass
            assert account.consumed + rest.account().consumed == written


def test_the_object_closes_its_readers(spec):
    needs("program:xdp", "map:ringbuf")
    before = open_descriptors()
    obj = ebpf.load(spec, programs=["burst"])
    ring = obj.ring("events")
    done = threading.Event()

    def read(ring=ring) -> None:
        for _ in ring:
            pass
        done.set()

    thread = threading.Thread(target=read)
    thread.start()
    time.sleep(0.02)
    obj.close()
    assert done.wait(20)
    thread.join()
    assert ring.closed
    del obj, ring, read, thread
    assert open_descriptors() == before


def test_perf_buffers(spec):
    needs("program:xdp", "map:perf_event_array")
    before = open_descriptors()
    with ebpf.load(spec, programs=["samples_out"]) as obj:
        with obj.perf("samples", pages=2) as buffer:
            obj.samples_out.test_run((5).to_bytes(2, "little") + bytes(62))
            batch = buffer.read_batch(timeout=10)
            assert [each.n for each in batch] == [0, 1, 2, 3, 4]
            assert batch.rows[0].comm == "sampled"
            assert batch.fields == ("pid", "n", "at", "comm")
            lost = 0
            for _ in range(20):
                obj.samples_out.test_run((1000).to_bytes(2, "little") + bytes(62))
            while buffer.take():
                pass
            # The kernel says how many were lost with the next that finds room.
            obj.samples_out.test_run((1).to_bytes(2, "little") + bytes(62))
            assert buffer.take()
            account = buffer.account()
            lost = account.lost
            assert lost > 0
            assert account.produced == 20_006
            assert "records read" in repr(buffer)

            async def main(buffer=buffer, obj=obj):
                task = asyncio.create_task(buffer.read_batch_async(timeout=10))
                await asyncio.sleep(0.01)
                obj.samples_out.test_run((2).to_bytes(2, "little") + bytes(62))
                return len(await task)

            assert asyncio.run(main()) == 2
        with obj.perf("samples", type="struct pair") as wrong:
            obj.samples_out.test_run((2).to_bytes(2, "little") + bytes(62))
            assert len(wrong.read_batch(timeout=10).others) == 2
        with pytest.raises(InvalidArgument, match="a power of two"):
            obj.perf("samples", pages=3)
        with pytest.raises(InvalidArgument, match="perf_event_array"):
            obj.perf("table")
        left = obj.perf("samples")
    assert left.closed
    with pytest.raises(ClosedError, match="perf buffer samples"):
        left.take()
    del left, obj, buffer, wrong
    assert open_descriptors() == before


def test_user_ring_buffers(spec):
    needs("program:xdp", "map:user_ringbuf")
    before = open_descriptors()
    with ebpf.load(spec, programs=["drain"]) as obj:
        with obj.sender("orders") as out:
            sent = 0
            while out.send({"kind": 1, "amount": sent}):
                sent += 1
            assert sent == 4096 // 16
            assert out.waiting == 4096
            obj.drain.test_run(bytes(64))
            assert (obj.ordered, obj.amount) == (sent, sum(range(sent)))
            assert out.waiting == 0
            assert out.send(b"12345678")
            obj.drain.test_run(bytes(64))
            assert obj.ordered == sent + 1
            with pytest.raises(InvalidArgument, match=r"value\.nope"):
                out.send({"nope": 1})

            def child(out=out) -> None:
                assert out.closed

            run_in_fork(child)
        with pytest.raises(ClosedError):
            out.send({})
        assert "closed" in repr(out)
        raw = ebpf.UserRingBuffer(obj.maps.orders)
        with pytest.raises(InvalidArgument, match="at most 4088 bytes"):
            raw.send(bytes(5000))
        raw.close()
        with pytest.raises(InvalidArgument, match="user_ringbuf"):
            obj.sender("table")
        left = obj.sender("orders")
    assert left.closed
    del obj, out, raw, left, child
    assert open_descriptors() == before


def test_a_cancel_at_the_very_moment_of_a_batch_is_not_lost(obj):
    async def main(ring):
        task = asyncio.create_task(ring.read_batch_async(timeout=20))
        while not ring._loops:
            await asyncio.sleep(0)
        for call_up in list(ring._loops):
            call_up()
        asyncio.get_running_loop().call_soon(task.cancel)
        with pytest.raises(asyncio.CancelledError):
            await task

    with obj.ring("events") as ring:
        asyncio.run(main(ring))
