"""The tree under real threads, signals, forks and many contexts."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import os
import random
import signal
import subprocess
import sys
import threading
import time
import weakref

import pytest

from hastack import context
from hastack.errors import Cancelled, DeadlineExceeded


def test_raw_threads_start_with_the_background_and_bind_carries_over():
    seen = []
    with context.with_value("user", "ada"):
        plain = threading.Thread(target=lambda: seen.append(context.current().value("user")))
        bound = threading.Thread(
            target=context.bind(lambda: seen.append(context.current().value("user")))
        )
        for thread in (plain, bound):
            thread.start()
            thread.join()
    assert seen == [None, "ada"]


def test_bind_in_executors_and_to_thread_without():
    def user():
        return context.current().value("user")

    async def main():
        loop = asyncio.get_running_loop()
        async with context.with_value("user", "ada"):
            return (
                await loop.run_in_executor(None, user),
                await loop.run_in_executor(None, context.bind(user)),
                await asyncio.to_thread(user),
            )

    assert asyncio.run(main()) == (None, "ada", "ada")
    with (
        concurrent.futures.ThreadPoolExecutor(4) as pool,
        context.with_value("user", "bob"),
    ):
        assert list(pool.map(context.bind(lambda _: user()), range(20))) == ["bob"] * 20


def test_cancel_wakes_a_waiting_thread():
    ctx = context.with_cancel()
    woken = []
    thread = threading.Thread(target=lambda: woken.append(ctx.wait(60.0)))
    thread.start()
    time.sleep(0.02)
    ctx.cancel()
    thread.join(30.0)
    assert woken == [True]


def test_deadline_wakes_a_waiting_thread_and_rings():
    start = time.monotonic()
    with context.timeout(0.03) as ctx:
        rang = threading.Event()
        ctx.after_func(rang.set)
        with pytest.raises(DeadlineExceeded):
            context.sleep(50.0)
        assert 0.03 <= time.monotonic() - start < 30.0
        assert rang.wait(30.0)


def test_cancel_from_another_thread_reaches_the_task():
    async def main():
        task = asyncio.current_task()
        for _ in range(20):
            ctx = context.with_cancel()
            thread = threading.Thread(target=ctx.cancel, args=("elsewhere",))
            with pytest.raises(Cancelled, match="elsewhere"):
                async with ctx, context.timeout(30.0):
                    thread.start()
                    await asyncio.get_running_loop().create_future()
            thread.join()
            assert task.cancelling() == 0
            assert await ctx.wait_async(5.0) is True

    asyncio.run(main())


def test_cancel_from_threads_races_with_normal_exit():
    async def main():
        rng = random.Random(7)
        task = asyncio.current_task()
        outcomes = {"completed": 0, "cancelled": 0}
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            for _ in range(400):
                ctx = context.with_cancel()
                pause = rng.random() * 2e-4
                try:
                    async with ctx:
                        pool.submit(lambda pause=pause, ctx=ctx: (time.sleep(pause), ctx.cancel()))
                        for _ in range(rng.randrange(6)):
                            await asyncio.sleep(0)
                    outcomes["completed"] += 1
                except Cancelled:
                    outcomes["cancelled"] += 1
                assert task.cancelling() == 0
                await asyncio.sleep(0)
        return outcomes

    outcomes = asyncio.run(main())
    assert outcomes["completed"]
    assert sum(outcomes.values()) == 400


def test_callbacks_run_exactly_once_whoever_comes_first():
    """after_func, stop and cancel from different threads at the same time."""
    for round_ in range(150):
        top = context.with_cancel()
        ran, stopped = [], []
        barrier = threading.Barrier(3)
        leaves = [context.with_cancel(context.with_cancel(top)) for _ in range(20)]

        def watch(leaves=leaves, ran=ran, stopped=stopped, barrier=barrier):
            barrier.wait()
            for n, leaf in enumerate(leaves):
                stop = leaf.after_func(lambda n=n: ran.append(n))
                if n % 3 == 0 and stop():
                    stopped.append(n)

        threads = [
            threading.Thread(target=watch),
            threading.Thread(target=lambda b=barrier, t=top: (b.wait(), t.cancel("a"))),
            threading.Thread(target=lambda b=barrier, t=top: (b.wait(), t.cancel("b"))),
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(ran + stopped) == list(range(20)), round_
        assert top._live is None
        assert len({str(leaf.err()) for leaf in leaves}) == 1


def test_a_hundred_thousand_contexts_deep_and_wide_leak_nothing():
    class Mark:
        """Weakly referenceable value."""

    def build():
        refs, ran = [], []
        top = context.with_cancel()
        deep = top
        for _ in range(50_000):
            deep = context.with_cancel(deep)
            refs.append(weakref.ref(deep))
        deep.after_func(lambda: ran.append("deep"))
        wide = []
        for n in range(50_000):
            ctx = context.with_value("mark", Mark(), context.timeout(3600.0, parent=top))
            ctx.after_func(lambda n=n: ran.append(n))
            refs.append(weakref.ref(ctx))
            wide.append(ctx)
        assert top.cancel("all") is True
        assert len(ran) == 50_001
        assert wide[77].done
        assert deep.done
        assert top._live is None
        return refs

    gc.collect()
    before = len(gc.get_objects())
    refs = build()
    gc.collect()
    alive = sum(ref() is not None for ref in refs)
    assert alive == 0
    del refs
    gc.collect()
    assert len(gc.get_objects()) - before < 500


def test_unlinked_contexts_of_a_long_lived_root_are_freed():
    root = context.with_cancel()
    refs = []
    for _ in range(1000):
        with context.timeout(60.0, parent=root) as ctx:
            ctx.after_func(lambda: None)
            child = context.with_cancel(ctx)
            child.after_func(lambda: None)
        refs.append(weakref.ref(ctx))
    del ctx, child
    gc.collect()
    assert sum(ref() is not None for ref in refs) == 0
    assert root._live is None


def test_a_signal_handler_may_cancel_at_any_moment():
    """SIGTERM cancels the root while this thread is inside the tree's own sections."""
    cancelled = []

    def handler(signum, frame):
        victim.cancel("signal")
        cancelled.append(victim)

    old = signal.signal(signal.SIGVTALRM, handler)
    ran = 0

    def count():
        nonlocal ran
        ran += 1

    victim = context.with_cancel()
    ended = 0
    signal.setitimer(signal.ITIMER_VIRTUAL, 0.0005, 0.0005)
    try:
        end = time.monotonic() + 0.7
        while time.monotonic() < end:
            victim = root = context.with_cancel()
            for _ in range(10):
                leaf = context.with_cancel(context.timeout(60.0, parent=root))
                before, ran = ran, 0
                stop = leaf.after_func(count)
                stopped = stop()
                assert ran + stopped == 1
                ran = before
            ended += root.done
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0.0)
        signal.signal(signal.SIGVTALRM, old)
    assert ended
    assert all(each.done for each in cancelled)


def test_a_signal_handler_ends_a_wait_of_its_own_thread():
    ctx = context.with_cancel()
    old = signal.signal(signal.SIGUSR1, lambda *_: ctx.cancel("signal"))
    timer = threading.Timer(0.03, os.kill, (os.getpid(), signal.SIGUSR1))
    timer.start()
    try:
        with pytest.raises(Cancelled, match="signal"):
            context.sleep(10.0, ctx=ctx)
    finally:
        timer.join()
        signal.signal(signal.SIGUSR1, old)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_fork_while_other_threads_use_the_tree():
    """The child gets a usable tree, whatever other threads were doing at the fork."""
    stop = threading.Event()

    def churn():
        root = context.with_cancel()
        while not stop.is_set():
            with context.timeout(60.0, parent=root) as ctx:
                ctx.after_func(lambda: None)

    threads = [threading.Thread(target=churn) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        with context.timeout(60.0) as ctx:
            for _ in range(10):
                pid = os.fork()
                if pid == 0:
                    os._exit(_use_the_tree_in_the_child(ctx))
                assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
            assert not ctx.done
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def _use_the_tree_in_the_child(ctx):
    try:
        signal.alarm(10)
        assert context.current() is ctx
        ran = []
        child = context.timeout(0.02, parent=ctx)
        rang = threading.Event()
        child.after_func(rang.set)
        assert rang.wait(30.0)
        assert child.wait(5.0)
        ctx.after_func(lambda: ran.append(1))
        ctx.cancel("child only")
        return 0 if ran == [1] else 3
    except BaseException:
        return 4


def test_contexts_work_across_asyncio_loops_in_threads():
    """One context, tasks on three loops; one cancel ends them all."""
    top = context.with_cancel()
    outcomes = []
    ready = threading.Barrier(4)

    def serve():
        async def task():
            try:
                async with context.timeout(30.0, parent=top):
                    await asyncio.to_thread(ready.wait)
                    await asyncio.get_running_loop().create_future()
            except Cancelled:
                outcomes.append(asyncio.current_task().cancelling())

        asyncio.run(task())

    threads = [threading.Thread(target=serve) for _ in range(3)]
    for thread in threads:
        thread.start()
    ready.wait()
    top.cancel("all")
    for thread in threads:
        thread.join(10.0)
    assert outcomes == [0, 0, 0]
    assert top._live is None


def test_import_brings_no_asyncio():
    code = (
        "import sys; from hastack import context\n"
        "with context.timeout(1.0): pass\n"
        "print('asyncio' in sys.modules, 'attrs' in sys.modules)"
    )
    out = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
    )
    assert out.stdout.split() == ["False", "False"], out.stderr
