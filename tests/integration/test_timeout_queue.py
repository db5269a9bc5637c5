"""Timeouts on the process clock share one loop timer."""

import asyncio
import gc
import threading
import time
import weakref

import pytest

from hastack import context
from hastack.errors import Cancelled, DeadlineExceeded
from hastack.ratelimit._timeout import Timeout
from hastack.ratelimit._timeout_queue import DeadlineQueue


def queue_of(guarded):
    cells = dict(zip(guarded.__code__.co_freevars, guarded.__closure__, strict=True))
    return cells["queue"].cell_contents


def test_each_call_gets_its_own_deadline():
    ended = []

    @Timeout(0.05)
    async def nap(seconds):
        await asyncio.sleep(seconds)
        return seconds

    async def one(start, seconds):
        await asyncio.sleep(start)
        begin = time.monotonic()
        try:
            return await nap(seconds)
        except DeadlineExceeded:
            ended.append(time.monotonic() - begin)
            return "late"
        finally:
            assert asyncio.current_task().cancelling() == 0

    async def main():
        starts = [(i * 0.01, 0.0 if i % 2 else 30.0) for i in range(10)]
        return await asyncio.gather(*(one(*each) for each in starts))

    assert asyncio.run(main()) == ["late", 0.0] * 5
    assert len(ended) == 5
    assert all(0.04 < took < 20.0 for took in ended), ended


def test_one_timer_for_all():
    async def main():
        timers = []
        loop = asyncio.get_running_loop()
        real = loop.call_at
        loop.call_at = lambda when, *rest, **kw: timers.append(when) or real(when, *rest, **kw)

        @Timeout(30.0)
        async def call():
            pass

        for _ in range(50):
            await call()
        assert len(timers) == 1

    asyncio.run(main())


def test_what_was_left_is_sorted_out():
    async def main():
        release = asyncio.Event()

        @Timeout(30.0)
        async def call(wait):
            if wait:
                await release.wait()

        first = asyncio.create_task(call(wait=True))
        await asyncio.sleep(0)
        for _ in range(1000):
            await call(wait=False)
            assert len(queue_of(call).scopes) <= 68
        release.set()
        await first

    asyncio.run(main())


def test_a_finished_call_is_not_kept_alive():
    class Answer:
        pass

    async def main():
        @Timeout(30.0)
        async def call():
            return Answer()

        async def in_task():
            with context.with_value("payload", Answer()) as ctx:
                values.append(weakref.ref(ctx.value("payload")))
                values.append(weakref.ref(answer := await call()))
            return answer

        values = []
        await asyncio.create_task(in_task())
        await asyncio.sleep(0)  # the loop itself holds the task in the step that woke this one
        gc.collect()
        assert [ref() for ref in values] == [None, None]

    asyncio.run(main())


def test_idle_queue_lets_go_of_its_loop():
    @Timeout(0.01)
    async def call(nap=0.0):
        await asyncio.sleep(nap)

    async def main():
        await call()
        assert queue_of(call).loop is asyncio.get_running_loop()
        await asyncio.sleep(0.05)
        assert queue_of(call).loop is None
        with pytest.raises(DeadlineExceeded):  # and it starts again
            await call(5.0)

    asyncio.run(main())
    asyncio.run(main())


def test_one_function_on_loops_of_many_threads():
    @Timeout(0.1)
    async def nap(seconds):
        await asyncio.sleep(seconds)

    async def main():
        for _ in range(20):
            await asyncio.gather(nap(0.0), nap(0.001))
        with pytest.raises(DeadlineExceeded):
            await nap(50.0)

    failures = []

    def work():
        try:
            asyncio.run(main())
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20.0)
        assert not thread.is_alive()
    assert not failures


def test_under_a_parent():
    @Timeout(1.0)
    async def nap(seconds):
        await asyncio.sleep(seconds)

    async def main():
        with context.with_cancel() as ctx:
            await nap(0.0)
            asyncio.get_running_loop().call_later(0.01, ctx.cancel, "shutdown")
            with pytest.raises(Cancelled):
                await nap(50.0)
        start = time.monotonic()
        async with context.timeout(60.0):
            with pytest.raises(DeadlineExceeded):
                await nap(50.0)
        with pytest.raises(DeadlineExceeded):
            async with context.timeout(0.02):
                await nap(50.0)
        assert time.monotonic() - start < 20.0
        assert asyncio.current_task().cancelling() == 0

    asyncio.run(main())


def test_an_earlier_deadline_of_a_parent_does_not_queue_up():
    @Timeout(50.0)
    async def nap(seconds):
        await asyncio.sleep(seconds)

    async def main():
        holder = asyncio.create_task(nap(40.0))
        await asyncio.sleep(0)
        start = time.monotonic()
        with context.timeout(0.02), pytest.raises(DeadlineExceeded):  # no scope of the task
            await nap(40.0)
        assert time.monotonic() - start < 20.0
        holder.cancel()

    asyncio.run(main())


def test_a_parent_that_ends_on_entering():
    """The parent ends after it was looked at and before the scope is linked to it."""

    async def main():
        ctx = context.with_cancel()
        child = context.timeout(5.0, parent=ctx)
        ctx.cancel()
        queue = DeadlineQueue(None).enter(child)
        with pytest.raises(asyncio.CancelledError):
            await asyncio.sleep(1.0)
        assert asyncio.current_task().uncancel() == 0
        assert len(queue.scopes) == 1

    asyncio.run(main())


def test_no_task_no_timeout():
    @Timeout(1.0)
    async def call():
        pass

    coroutine = call()
    with pytest.raises(RuntimeError, match="running event loop"):
        coroutine.send(None)


def test_a_watcher_learns_of_the_end():
    ended = []

    @Timeout(5.0)
    def call():
        context.current().after_func(lambda: ended.append(1))
        return context.current()

    ctx = call()
    assert ended == [1]
    assert ctx.done
    assert isinstance(ctx.err(), Cancelled)
