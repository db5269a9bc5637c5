"""The background loop: called from threads and from other loops, forked, ended with the process."""

from __future__ import annotations

import asyncio
import contextvars
import os
import signal
import subprocess
import sys
import textwrap
import threading

import pytest
from forking import run_in_fork

from hastack import context
from hastack._core._portal import PORTAL
from hastack.errors import Cancelled, DeadlineExceeded
from hastack.testing import ManualClock

BOUND = 20.0  # seconds; ends what hangs


async def thread_name():
    return threading.current_thread().name


class Sleeper:
    """A coroutine that notes what becomes of it."""

    def __init__(self):
        self.started = threading.Event()
        self.ended = threading.Event()
        self.cancelled = False

    async def sleep(self):
        self.started.set()
        try:
            await asyncio.sleep(BOUND)
        except asyncio.CancelledError:
            await asyncio.sleep(0.05)  # clean-up takes a moment
            self.cancelled = True
            raise
        finally:
            self.ended.set()


class TestCall:
    def test_runs_on_the_background_thread_and_returns(self):
        assert PORTAL.call(thread_name) == "hastack-portal"
        assert PORTAL.call(asyncio.sleep, 0.0, "result") == "result"

    def test_errors_come_back(self):
        async def fail():
            raise KeyError("k")

        with pytest.raises(KeyError):
            PORTAL.call(fail)

    def test_context_variables_come_along(self):
        variable = contextvars.ContextVar("variable", default="unset")
        variable.set("mine")

        async def read():
            return variable.get(), context.current().value("user")

        with context.with_value("user", "ada"):
            assert PORTAL.call(read) == ("mine", "ada")

    @pytest.mark.parametrize("how", ["timeout", "context", "cancel"])
    def test_the_end_of_the_context_cancels_it_and_waits_for_that(self, how):
        sleeper = Sleeper()
        if how == "timeout":
            with pytest.raises(DeadlineExceeded):
                PORTAL.call(sleeper.sleep, timeout=0.1)
        elif how == "context":
            with context.timeout(0.1), pytest.raises(DeadlineExceeded):
                PORTAL.call(sleeper.sleep)
        else:
            ctx = context.with_cancel()
            threading.Timer(0.1, ctx.cancel, ["enough"]).start()
            with pytest.raises(Cancelled, match="enough"):
                PORTAL.call(sleeper.sleep, ctx=ctx)
        assert sleeper.cancelled

    def test_nothing_starts_in_a_context_that_has_ended(self):
        ctx = context.with_cancel()
        ctx.cancel("before")
        sleeper = Sleeper()
        with pytest.raises(Cancelled, match="before"):
            PORTAL.call(sleeper.sleep, ctx=ctx)
        assert not sleeper.started.is_set()

    def test_a_context_of_another_clock_counts_by_that_clock(self):
        clock = ManualClock()
        ctx = context.timeout(60.0, parent=context.background(clock=clock))
        sleeper = Sleeper()
        failures = []

        def work():
            try:
                PORTAL.call(sleeper.sleep, ctx=ctx)
            except DeadlineExceeded as error:
                failures.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        assert sleeper.started.wait(BOUND)
        clock.advance(61.0)
        thread.join(BOUND)
        assert len(failures) == 1
        assert sleeper.cancelled

    def test_what_finished_in_spite_of_it_is_not_lost(self):
        async def stubborn():
            try:
                await asyncio.sleep(BOUND)
            except asyncio.CancelledError:
                return "granted"

        assert PORTAL.call(stubborn, timeout=0.05) == "granted"

    def test_a_running_loop_is_not_stopped_by_it(self):
        async def main():
            with pytest.raises(RuntimeError, match="await the asynchronous face"):
                PORTAL.call(thread_name)

        asyncio.run(main())
        PORTAL.call(main)  # nor its own
        assert PORTAL.call(thread_name)

    def test_many_threads(self):
        results = []

        def work(number):
            for n in range(50):
                results.append(PORTAL.call(asyncio.sleep, 0.0, (number, n)))

        threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(BOUND)
        assert sorted(results) == [(t, n) for t in range(8) for n in range(50)]

    def test_an_interrupt_cancels_it(self):
        sleeper = Sleeper()

        def interrupt():
            sleeper.started.wait(BOUND)
            os.kill(os.getpid(), signal.SIGINT)

        # A runner in the background of a shell ignores SIGINT.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            threading.Thread(target=interrupt).start()
            with pytest.raises(KeyboardInterrupt):
                PORTAL.call(sleeper.sleep)
        finally:
            signal.signal(signal.SIGINT, before)
        assert sleeper.cancelled


class TestRun:
    def test_from_any_loop_and_from_its_own(self):
        async def main():
            assert await PORTAL.run(thread_name()) == "hastack-portal"

            async def inside():
                return await PORTAL.run(thread_name())

            return await PORTAL.run(inside())

        assert asyncio.run(main()) == "hastack-portal"

    def test_cancelling_the_waiter_cancels_it_and_waits_for_that(self):
        sleeper = Sleeper()

        async def main():
            task = asyncio.create_task(PORTAL.run(sleeper.sleep()))
            await asyncio.to_thread(sleeper.started.wait, BOUND)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert sleeper.cancelled

        asyncio.run(main())

    def test_a_coroutine_that_is_cancelled_cancels_the_waiter(self):
        async def give_up():
            raise asyncio.CancelledError

        async def main():
            with pytest.raises(asyncio.CancelledError):
                await PORTAL.run(give_up())

        asyncio.run(main())

    def test_errors_and_variables_travel(self):
        async def main():
            async def fail():
                raise KeyError(context.current().value("user"))

            with context.with_value("user", "ada"), pytest.raises(KeyError, match="ada"):
                await PORTAL.run(fail())

        asyncio.run(main())


class TestSpawn:
    def test_join_waits_and_hands_out_what_it_came_to(self):
        handle = PORTAL.spawn(asyncio.sleep(0.05, "result"), name="nap")
        assert not handle.done
        assert "nap" in repr(handle)
        assert handle.join(BOUND) == "result"
        assert handle.done
        assert handle.join() == "result"

    def test_join_gives_up_after_its_time(self):
        sleeper = Sleeper()
        handle = PORTAL.spawn(sleeper.sleep())
        with pytest.raises(TimeoutError):
            handle.join(0.05)
        handle.cancel()
        with pytest.raises(asyncio.CancelledError):
            handle.join(BOUND)
        assert sleeper.cancelled
        handle.cancel()

    def test_cancelled_before_it_began(self):
        sleeper = Sleeper()
        blocked = threading.Event()
        PORTAL.loop.call_soon_threadsafe(blocked.wait, BOUND)
        handle = PORTAL.spawn(sleeper.sleep())
        handle.cancel()
        blocked.set()
        with pytest.raises(asyncio.CancelledError):
            handle.join(BOUND)
        assert not sleeper.started.is_set()

    def test_join_on_its_own_loop_is_refused(self):
        async def main():
            handle = PORTAL.spawn(asyncio.sleep(0.0))
            with pytest.raises(RuntimeError, match="await it"):
                handle.join()
            await handle

        PORTAL.call(main)


def test_a_forked_child_has_a_loop_of_its_own():
    parent = PORTAL.call(thread_name) and PORTAL.loop
    sleeper = Sleeper()
    handle = PORTAL.spawn(sleeper.sleep())
    assert sleeper.started.wait(BOUND)

    def child():
        assert PORTAL._loop is None
        for step in (handle.join, handle.cancel):
            with pytest.raises(RuntimeError, match="parent process"):
                step()
        assert PORTAL.call(thread_name) == "hastack-portal"
        assert PORTAL.loop is not parent

    run_in_fork(child)
    assert PORTAL.loop is parent
    assert PORTAL.call(thread_name)  # the parent's loop still hears
    handle.cancel()
    with pytest.raises(asyncio.CancelledError):
        handle.join(BOUND)


def program(code):
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=BOUND,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_the_process_ends_quietly_whatever_still_runs():
    out = program(
        """
        import asyncio
        from hastack._core._portal import PORTAL

        async def clean():
            try:
                await asyncio.sleep(60)
            finally:
                print("cleaned up")

        async def stubborn():
            while True:
                try:
                    await asyncio.sleep(60)
                except asyncio.CancelledError:
                    pass

        PORTAL.spawn(clean())
        PORTAL.spawn(stubborn())
        PORTAL.call(asyncio.sleep, 0.01)
        print("end of main")
        """
    )
    assert out.split("\n") == ["end of main", "cleaned up", ""]


def test_a_forked_child_ends_quietly_too():
    out = program(
        """
        import asyncio, os, sys, warnings
        warnings.simplefilter("ignore", DeprecationWarning)  # fork beside threads, since 3.12
        from hastack._core._portal import PORTAL

        PORTAL.spawn(asyncio.sleep(60))
        PORTAL.call(asyncio.sleep, 0.01)
        pid = os.fork()
        if pid == 0:
            print(PORTAL.call(asyncio.sleep, 0.01, "child"), flush=True)
            sys.exit(0)
        os.waitpid(pid, 0)
        print(PORTAL.call(asyncio.sleep, 0.01, "parent"))
        """
    )
    assert out == "child\nparent\n"
