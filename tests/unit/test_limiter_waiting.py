import asyncio
import contextlib
import gc
import threading

import pytest

from hastack import context
from hastack.errors import Cancelled, ClosedError, DeadlineExceeded, RateLimited
from hastack.ratelimit import (
    FixedWindow,
    LeakyBucket,
    SlidingWindowCounter,
    SlidingWindowLog,
    TokenBucket,
)
from hastack.testing import ManualClock


def make(kind=TokenBucket, rate="10/s", **options):
    clock = ManualClock(start=0.0)
    return kind(rate, clock=clock, **options), clock


async def queue_up(limiter, count, served, clock, key=None, **options):
    async def one(n):
        await limiter.acquire_async(key, **options)
        served.append((n, clock.monotonic()))

    tasks = [asyncio.ensure_future(one(n)) for n in range(count)]
    await asyncio.sleep(0)
    return tasks


def test_fifo_and_each_woken_once():
    bucket, clock = make(burst=3)
    served = []

    async def main():
        await asyncio.gather(*await queue_up(bucket, 10, served, clock))

    clock.run(main())
    assert [n for n, _ in served] == list(range(10))
    assert [t for _, t in served] == pytest.approx([0, 0, 0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7])
    assert bucket.stats().wakeups == 7
    assert bucket.stats().waiting == 0


def test_ten_thousand_waiters():
    bucket, clock = make(rate="1000/s", burst=100)
    served = []

    async def main():
        await asyncio.gather(*await queue_up(bucket, 10_000, served, clock))

    clock.run(main())
    assert [n for n, _ in served] == list(range(10_000))
    assert bucket.stats().wakeups == 10_000 - 100
    assert clock.monotonic() == pytest.approx(9.9)


@pytest.mark.parametrize(
    ("kind", "rate", "expected"),
    [
        (SlidingWindowLog, "2/s", [0, 0, 1, 1, 2, 2]),
        (SlidingWindowCounter, "2/s", [0, 0, 1.1, 1.1, 2.2, 2.2]),
        (FixedWindow, "2/s", [0, 0, 1, 1, 2, 2]),
        (LeakyBucket, "2/s", [0, 0.5, 1, 1.5, 2, 2.5]),
    ],
)
def test_every_limiter_waits(kind, rate, expected):
    limiter, clock = make(kind, rate)
    served = []

    async def main():
        tasks = await queue_up(limiter, 6, served, clock)
        # What is foretold for one more comes true.
        no = limiter.try_acquire()
        assert not no
        assert limiter.peek().retry_after == no.retry_after
        assert no.retry_after == pytest.approx(expected[-1] + expected[2] * (kind is not LeakyBucket) + 0.5 * (kind is LeakyBucket))  # fmt: skip
        await asyncio.gather(*tasks)

    clock.run(main())
    assert served == [(n, pytest.approx(at)) for n, at in enumerate(expected)]


def test_nobody_overtakes_the_queue():
    bucket, clock = make(burst=5)

    async def main():
        bucket.try_acquire(cost=5)
        big = asyncio.ensure_future(bucket.acquire_async(cost=5))
        await asyncio.sleep(0.3)
        no = bucket.try_acquire(cost=1)  # three permits are there, but not for us
        assert not no
        assert no.retry_after == pytest.approx(0.3)
        assert bucket.peek().retry_after == pytest.approx(0.3)
        assert not bucket.peek()
        assert bucket.try_acquire("other")
        await big
        assert clock.monotonic() == pytest.approx(0.5)
        assert not bucket.try_acquire()

    clock.run(main())


@pytest.mark.parametrize("ends", ["timeout", "context"])
def test_a_wait_that_ends_at_its_turn_overtakes_nobody(ends):
    log, clock = make(SlidingWindowLog, rate="3/s")
    order = []

    async def ask(n, cost, seconds=None):
        if seconds is not None and ends == "context":
            with context.timeout(seconds):
                await log.acquire_async(cost=cost)
        else:
            await log.acquire_async(cost=cost, timeout=seconds)
        order.append((n, clock.monotonic()))

    async def main():
        tasks = [asyncio.ensure_future(ask(n, cost)) for n, cost in enumerate([3, 3, 1])]
        await asyncio.sleep(0)
        # Its timer was set before the head's and is due at the same moment.
        tasks.append(asyncio.ensure_future(ask(3, 1, 2.0)))
        await asyncio.gather(*tasks)

    clock.run(main())
    assert order == [(0, 0.0), (1, 1.0), (2, 2.0), (3, 2.0)]


def test_cancelled_waiters_take_nothing_and_others_move_up():
    bucket, clock = make(burst=1)
    served = []

    async def main():
        tasks = await queue_up(bucket, 6, served, clock)
        for n in (1, 3, 5):
            tasks[n].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    clock.run(main())
    assert served == [(0, 0.0), (2, pytest.approx(0.1)), (4, pytest.approx(0.2))]
    assert bucket.peek().retry_after == pytest.approx(0.1)


def test_what_is_foretold_forgets_those_who_left():
    bucket, clock = make(burst=1)

    async def main():
        tasks = await queue_up(bucket, 6, [], clock)
        assert bucket.try_acquire().retry_after == pytest.approx(0.6)
        tasks[2].cancel()
        tasks[4].cancel()
        await asyncio.sleep(0)
        assert bucket.try_acquire().retry_after == pytest.approx(0.4)
        await bucket.acquire_async(timeout=0.4)
        assert clock.monotonic() == pytest.approx(0.4)

    clock.run(main())


def test_cancel_between_turn_and_waking_gives_the_permit_back():
    bucket, clock = make(burst=1)
    served = []

    async def main():
        bucket.try_acquire()
        first, second = await queue_up(bucket, 2, served, clock)
        clock.advance(0.1)
        bucket._room.serve(None)  # the turn of the first; its task has not run yet
        assert bucket.stats().wakeups == 1
        first.cancel()
        await asyncio.gather(first, second, return_exceptions=True)
        assert first.cancelled()

    clock.run(main())
    assert served == [(1, pytest.approx(0.1))]


def test_mass_cancel_leaves_no_trace():
    bucket, clock = make(burst=1)
    served = []

    async def main():
        tasks = await queue_up(bucket, 500, served, clock)
        for task in tasks[2:499]:
            task.cancel()
        await asyncio.sleep(0)
        queue = bucket._room._queues[None]
        assert len(queue.waiters) < 140  # those that left are swept out
        assert bucket.stats().waiting == 2
        await asyncio.gather(*tasks, return_exceptions=True)

    clock.run(main())
    assert [n for n, _ in served] == [0, 1, 499]
    assert not bucket._room._queues
    assert not bucket._core.waiting


def test_too_late_is_said_at_once():
    bucket, clock = make(burst=1)
    served = []

    async def main():
        await asyncio.gather(
            *await queue_up(bucket, 6, served, clock, timeout=0.3), return_exceptions=True
        )

    clock.run(main())
    assert [n for n, _ in served] == [0, 1, 2, 3]
    bucket, clock = make(burst=1)
    bucket.acquire()
    with pytest.raises(RateLimited, match=r"\(deadline\); retry after 0.1 s"):
        bucket.acquire(timeout=0.09)
    assert clock.monotonic() == 0.0  # no pointless sleep
    bucket.acquire(timeout=0.1)
    with context.timeout(0.05, parent=context.background(clock=clock)), pytest.raises(RateLimited):
        bucket.acquire()
    with context.timeout(0.15, parent=context.background(clock=clock)):
        bucket.acquire()
    assert clock.monotonic() == pytest.approx(0.2)


def test_context_ends_while_waiting():
    bucket, clock = make(burst=1)
    bucket.acquire()
    ctx = context.with_cancel(context.background(clock=clock))
    clock.call_at(0.05, ctx.cancel)
    with pytest.raises(Cancelled):
        bucket.acquire(ctx=ctx)
    assert clock.monotonic() == pytest.approx(0.05)
    with pytest.raises(Cancelled):
        bucket.acquire(ctx=ctx)

    async def main():
        ctx = context.with_cancel(context.background(clock=clock))
        clock.call_at(0.07, ctx.cancel)
        with pytest.raises(Cancelled):
            await bucket.acquire_async(ctx=ctx)
        async with context.timeout(0.02, parent=context.background(clock=clock)):
            with pytest.raises(RateLimited):
                await bucket.acquire_async()

    clock.run(main())
    assert bucket.peek().retry_after == pytest.approx(0.1 - clock.monotonic())
    expired = context.timeout(0.0, parent=context.background(clock=clock))
    with pytest.raises(DeadlineExceeded):
        bucket.acquire(ctx=expired)
    assert bucket.stats().waiting == 0


def test_deadline_passes_while_waiting_because_the_limit_was_lowered():
    bucket, clock = make(burst=1)
    bucket.acquire()

    async def main():
        ctx = context.timeout(0.15, parent=context.background(clock=clock))
        tasks = [
            asyncio.ensure_future(bucket.acquire_async(timeout=0.15)),
            asyncio.ensure_future(bucket.acquire_async(timeout=0.25)),
        ]
        await asyncio.sleep(0.05)
        bucket.update(rate="1/s")
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(a) for a in answers] == [RateLimited, RateLimited]
        assert clock.monotonic() == pytest.approx(0.25)
        with pytest.raises(DeadlineExceeded):
            await bucket.acquire_async(ctx=ctx)

    clock.run(main())


def test_update_serves_the_queue_anew():
    bucket, clock = make(rate="1/s", burst=1)
    served = []

    async def main():
        tasks = await queue_up(bucket, 3, served, clock)
        await asyncio.sleep(0.5)
        bucket.update(rate="10/s")
        await asyncio.gather(*tasks)

    clock.run(main())
    assert [t for _, t in served] == pytest.approx([0.0, 0.55, 0.65])


def test_a_cost_above_the_lowered_burst_leaves_the_queue():
    bucket, clock = make(burst=10)

    async def main():
        bucket.try_acquire(cost=10)
        big = asyncio.ensure_future(bucket.acquire_async(cost=8))
        small = asyncio.ensure_future(bucket.acquire_async(cost=1))
        await asyncio.sleep(0)
        bucket.update(burst=5)
        with pytest.raises(RateLimited, match="limit lowered"):
            await big
        await small

    clock.run(main())
    assert clock.monotonic() == pytest.approx(0.1)


def test_reset_serves_the_queue():
    bucket, clock = make(rate="1/h", burst=2)
    served = []

    async def main():
        tasks = await queue_up(bucket, 4, served, clock)
        bucket.reset(None)
        await asyncio.gather(*tasks)

    clock.run(main())
    assert [t for _, t in served] == [0.0] * 4


def test_close_wakes_everybody():
    bucket, clock = make(rate="1/h", burst=1)
    served = []

    async def main():
        tasks = await queue_up(bucket, 4, served, clock)
        bucket.close()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(a) for a in answers] == [type(None), ClosedError, ClosedError, ClosedError]

    clock.run(main())
    room = bucket._room
    with pytest.raises(ClosedError):
        room.wait(None, 1.0, None, None)


def test_the_queue_is_bounded():
    bucket, clock = make(burst=1, max_waiting=2)

    async def main():
        served = []
        tasks = await queue_up(bucket, 5, served, clock)
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert [str(a) for a in answers[3:]] == [
            "TokenBucket: rate limit exceeded (queue full); retry after 0.3 s"
        ] * 2
        assert len(served) == 3

    clock.run(main())
    none, _ = make(burst=1, max_waiting=0)
    none.acquire()
    with pytest.raises(RateLimited, match="queue full"):
        none.acquire()


def test_keys_wait_apart():
    bucket, clock = make(burst=1)
    served = []

    async def main():
        a = await queue_up(bucket, 3, served, clock, key="a")
        b = await queue_up(bucket, 3, served, clock, key="b")
        await asyncio.gather(*a, *b)

    clock.run(main())
    assert [n for n, _ in served] == [0, 0, 1, 1, 2, 2]


def test_threads_and_tasks_in_one_queue():
    bucket, clock = make(burst=1)
    served = []
    lined_up = threading.Barrier(2)

    def block():
        lined_up.wait()
        bucket.acquire()
        served.append("thread")

    async def main():
        bucket.try_acquire()
        first = asyncio.ensure_future(bucket.acquire_async())
        first.add_done_callback(lambda _: served.append("first"))
        await asyncio.sleep(0)
        thread = threading.Thread(target=block)
        thread.start()
        lined_up.wait()
        while bucket.stats().waiting < 2:  # a thread gets there
            await asyncio.sleep(0)
        last = asyncio.ensure_future(bucket.acquire_async())
        last.add_done_callback(lambda _: served.append("last"))
        clock.advance(0.1)
        await first
        clock.advance(0.1)
        while thread.is_alive():
            await asyncio.sleep(0)
        clock.advance(0.1)
        await last

    clock = ManualClock(start=0.0, autojump=None)
    bucket = TokenBucket("10/s", burst=1, clock=clock)
    clock.run(main())
    assert served == ["first", "thread", "last"]
    assert bucket.stats().wakeups == 3


def test_a_waiter_whose_loop_was_closed_blocks_nobody():
    bucket, clock = make(burst=1)
    bucket.acquire()
    lost = clock.loop()
    task = lost.create_task(bucket.acquire_async())
    lost.run_until_complete(asyncio.sleep(0))
    lost.close()  # without cancelling what ran in it
    bucket.acquire()
    assert clock.monotonic() == pytest.approx(0.1)
    assert bucket.stats().waiting == 0
    # asyncio complains about that task, rightly, when it is collected.
    with contextlib.suppress(RuntimeError):
        task._log_destroy_pending = False
        task.get_coro().close()
    del task
    gc.collect()


def test_interrupted_thread_leaves_the_queue():
    class Interrupting:
        monotonic = staticmethod(lambda: 0.0)

        def call_at(self, when, callback):
            return lambda: None

        def wait(self, event, timeout=None):
            raise KeyboardInterrupt

    bucket = TokenBucket("1/s", burst=1, clock=Interrupting())
    bucket.acquire()
    with pytest.raises(KeyboardInterrupt):
        bucket.acquire()
    assert bucket.stats().waiting == 0


def test_real_time():
    bucket = TokenBucket("100/s", burst=1)
    served = []

    async def main():
        await asyncio.gather(*[bucket.acquire_async() for _ in range(5)])
        served.append("tasks")

    asyncio.run(main())
    bucket.acquire()
    assert bucket.stats().wakeups == 5
