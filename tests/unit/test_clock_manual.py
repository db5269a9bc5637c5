"""ManualClock: what moves it, what does not, and in which order."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from datetime import timedelta

import pytest

from hastack import context
from hastack.errors import InvalidArgument
from hastack.testing import ManualClock
from hastack.typing import Clock


def test_satisfies_the_protocol():
    assert isinstance(ManualClock(), Clock)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), "now", True])
def test_refuses_bad_start(bad):
    with pytest.raises(InvalidArgument, match="start"):
        ManualClock(bad)
    with pytest.raises(InvalidArgument, match="now"):
        ManualClock().set(bad)


@pytest.mark.parametrize("bad", [-1.0, float("nan"), float("inf"), "1"])
def test_refuses_bad_seconds(bad):
    with pytest.raises(InvalidArgument, match="autojump"):
        ManualClock(autojump=bad)
    with pytest.raises(InvalidArgument, match="seconds"):
        ManualClock().advance(bad)
    with pytest.raises(InvalidArgument, match="seconds"):
        ManualClock().sleep(bad)


class TestTimers:
    def test_run_in_order_of_time_then_of_setting(self):
        clock = ManualClock(0.0)
        ran = []
        for when, name in [(2.0, "c"), (1.0, "a"), (1.0, "b"), (9.0, "never")]:
            clock.call_at(when, lambda name=name: ran.append((name, clock.monotonic())))
        clock.advance(5.0)
        assert ran == [("a", 1.0), ("b", 1.0), ("c", 2.0)]
        assert clock.monotonic() == 5.0

    def test_cancelled_do_not_run(self):
        clock = ManualClock(0.0)
        ran = []
        cancel = clock.call_at(1.0, lambda: ran.append(1))
        keep = clock.call_at(1.0, lambda: ran.append(2))
        cancel()
        cancel()
        clock.advance(1.0)
        keep()
        assert ran == [2]
        assert clock._timers == []

    def test_set_by_a_timer_may_run_in_the_same_advance(self):
        clock = ManualClock(0.0)
        ran = []
        clock.call_at(1.0, lambda: clock.call_at(2.0, lambda: ran.append(clock.monotonic())))
        clock.advance(3.0)
        assert ran == [2.0]

    def test_due_already_run_at_the_next_move(self):
        clock = ManualClock(10.0)
        ran = []
        clock.call_at(3.0, lambda: ran.append(clock.monotonic()))
        clock.advance(timedelta(0))
        assert ran == [10.0]

    def test_what_a_timer_raises_reaches_advance_and_the_rest_stays(self):
        clock = ManualClock(0.0)
        ran = []
        clock.call_at(1.0, lambda: 1 / 0)
        clock.call_at(2.0, lambda: ran.append(1))
        with pytest.raises(ZeroDivisionError):
            clock.advance(5.0)
        assert clock.monotonic() == 1.0
        clock.advance(4.0)
        assert ran == [1]


class TestSet:
    def test_backwards_and_forwards_without_timers(self):
        clock = ManualClock(100.0)
        ran = []
        clock.call_at(105.0, lambda: ran.append(1))
        clock.set(200.0)
        assert ran == []
        clock.set(50.0)
        assert clock.monotonic() == 50.0
        clock.advance(54.0)
        assert ran == []
        clock.advance(1.0)
        assert ran == [1]

    def test_a_wait_that_began_before_ends_at_its_old_end(self):
        clock = ManualClock(100.0)
        clock.call_at(101.0, lambda: clock.set(90.0))
        clock.sleep(5.0)
        assert clock.monotonic() == 105.0


class TestAlone:
    """One thread: every jump is immediate."""

    def test_wait_takes_no_real_time(self):
        clock = ManualClock(0.0)
        start = time.perf_counter()
        for _ in range(200):
            assert clock.wait(threading.Event(), 3600.0) is False
        assert time.perf_counter() - start < 20.0
        assert clock.monotonic() == 200 * 3600.0

    def test_wait_stops_at_timers_that_set_the_event(self):
        clock = ManualClock(0.0)
        event = threading.Event()
        clock.call_at(1.0, lambda: None)
        clock.call_at(2.0, event.set)
        assert clock.wait(event, 10.0) is True
        assert clock.monotonic() == 2.0

    def test_older_threads_do_not_count_until_they_wait(self):
        release = threading.Event()
        bystander = threading.Thread(target=release.wait, args=(10.0,))
        bystander.start()
        try:
            clock = ManualClock(0.0)
            assert clock._grace(0.0) > 0.0  # nobody waits yet
            with_one_waiting = []
            clock.call_at(1.0, lambda: with_one_waiting.append(clock._grace(0.0)))
            clock.sleep(2.0)
            assert with_one_waiting == [0.0]
        finally:
            release.set()
            bystander.join()

    def test_wait_for_something_set_already(self):
        clock = ManualClock(0.0)
        event = threading.Event()
        event.set()
        assert clock.wait(event, 10.0) is True
        assert clock.monotonic() == 0.0
        assert clock.wait(threading.Event(), 0.0) is False
        assert clock.wait(threading.Event(), -1.0) is False

    def test_wait_without_timeout_runs_through_the_timers(self):
        clock = ManualClock(0.0)
        event = threading.Event()
        clock.call_at(7.0, event.set)
        assert clock.wait(event) is True
        assert clock.monotonic() == 7.0


class TestThreads:
    def test_waits_end_in_order_of_time(self):
        clock = ManualClock(0.0)
        order = []

        def sleeper(n):
            for _ in range(3):
                clock.sleep(n)
                order.append(clock.monotonic())

        threads = [threading.Thread(target=sleeper, args=(n,)) for n in (5.0, 2.0, 3.0)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30.0)
        assert order == sorted(order)
        assert order[-1] == 15.0

    def test_a_busy_thread_holds_time_for_as_long_as_asked(self):
        clock = ManualClock(0.0, autojump=5.0)
        event = threading.Event()

        def work():
            time.sleep(0.05)  # real work, unknown to the clock
            event.set()

        thread = threading.Thread(target=work)
        thread.start()
        assert clock.wait(event, 100.0) is True
        thread.join()
        assert clock.monotonic() == 0.0

    @pytest.mark.skipif(sys.platform != "linux", reason="only Linux says who is running")
    def test_a_thread_that_computes_holds_time_by_itself(self):
        def held():
            clock = ManualClock(0.0)
            event = threading.Event()

            def work():
                while time.thread_time() < 0.1:
                    pass
                event.set()

            thread = threading.Thread(target=work)
            thread.start()
            assert clock.wait(event, 100.0) is True
            thread.join()
            return clock.monotonic() == 0.0

        # Looking from outside can miss a thread that other threads keep from the interpreter. A
        # clock that did not look would jump each time: the work takes twenty times its patience.
        assert any(held() for _ in range(5))

    def test_without_autojump_only_advance_moves_time(self):
        clock = ManualClock(0.0, autojump=None)
        done = []
        thread = threading.Thread(target=lambda: (clock.sleep(10.0), done.append(1)))
        thread.start()
        end = time.monotonic() + 30.0
        while not clock._waiting:
            assert time.monotonic() < end
            time.sleep(0.001)
        thread.join(0.03)
        assert clock.monotonic() == 0.0
        clock.advance(9.0)
        thread.join(0.03)
        assert not done
        clock.advance(1.0)
        thread.join(30.0)
        assert done
        assert clock.monotonic() == 10.0

    def test_an_event_nobody_times_is_waited_for_in_real_time(self):
        clock = ManualClock(0.0)
        event = threading.Event()
        timer = threading.Timer(0.02, event.set)
        timer.start()
        assert clock.wait(event) is True
        timer.join()
        assert clock.monotonic() == 0.0


class TestLoop:
    def test_sleeps_take_no_real_time(self):
        clock = ManualClock(0.0)

        async def main():
            start = time.perf_counter()
            await asyncio.sleep(30 * 86400.0)
            return time.perf_counter() - start

        assert clock.run(main()) < 2.0
        assert clock.monotonic() == pytest.approx(30 * 86400.0)

    def test_tasks_interleave_exactly(self):
        clock = ManualClock(0.0)
        log = []

        async def tick(name, step):
            for _ in range(3):
                await asyncio.sleep(step)
                log.append((clock.monotonic(), name))

        async def main():
            await asyncio.gather(tick("a", 2.0), tick("b", 3.0))

        clock.run(main())
        assert log == [(2.0, "a"), (3.0, "b"), (4.0, "a"), (6.0, "b"), (6.0, "a"), (9.0, "b")]

    def test_timers_of_the_clock_run_on_the_way(self):
        clock = ManualClock(0.0)
        ran = []
        clock.call_at(5.0, lambda: ran.append(clock.monotonic()))
        clock.run(asyncio.sleep(9.0))
        assert ran == [5.0]

    def test_timeouts_end_waits_for_nothing(self):
        async def main():
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(60.0):
                    await asyncio.get_running_loop().create_future()

        clock = ManualClock(0.0)
        clock.run(main())
        assert clock.monotonic() == 60.0

    def test_contexts_inside_run_on_the_clock(self):
        clock = ManualClock(0.0)

        async def main():
            assert context.current().clock is clock
            ctx = context.timeout(5.0)
            await asyncio.sleep(6.0)
            return ctx.done

        assert clock.run(main()) is True
        assert context.current() is context.background()

    def test_to_thread_work_in_real_time_holds_the_clock(self):
        def held():
            clock = ManualClock(0.0)

            async def main():
                async with asyncio.timeout(1.0):
                    return await asyncio.to_thread(lambda: (time.sleep(0.02), "done")[1])

            try:
                return clock.run(main()) == "done" and clock.monotonic() == 0.0
            except (TimeoutError, RuntimeWarning):  # the latter from the executor's shutdown
                return False

        # On a machine that is too busy the work may take longer than what it is given.
        assert any(held() for _ in range(5))

    def test_to_thread_sleeping_on_the_clock_keeps_order(self):
        clock = ManualClock(0.0)
        log = []

        async def main():
            async def ticks():
                for _ in range(4):
                    await asyncio.sleep(1.0)
                    log.append(clock.monotonic())

            def work():
                clock.sleep(2.5)
                log.append(clock.monotonic())

            await asyncio.gather(ticks(), asyncio.to_thread(work))

        clock.run(main())
        assert log == [1.0, 2.0, 2.5, 3.0, 4.0]

    def test_a_worker_that_waits_for_the_loop_does_not_hang(self):
        clock = ManualClock(0.0)
        event = threading.Event()

        async def main():
            loop = asyncio.get_running_loop()
            loop.call_later(3.0, event.set)
            return await loop.run_in_executor(None, event.wait, 10.0)

        assert clock.run(main()) is True
        assert clock.monotonic() == 3.0

    def test_real_sockets(self):
        clock = ManualClock(0.0)

        async def main():
            async def echo(reader, writer):
                writer.write(await reader.readline())
                await asyncio.sleep(2.0)
                writer.write(b"later\n")
                await writer.drain()
                writer.close()
                await writer.wait_closed()

            server = await asyncio.start_server(echo, "127.0.0.1", 0)
            async with server:
                port = server.sockets[0].getsockname()[1]
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(b"hello\n")
                async with asyncio.timeout(1.0):
                    first = await reader.readline()
                second = await reader.readline()
                writer.close()
                await writer.wait_closed()
                return first, second

        assert clock.run(main()) == (b"hello\n", b"later\n")
        assert clock.monotonic() == 2.0

    def test_a_socket_served_by_another_thread(self):
        import socket

        listener = socket.create_server(("127.0.0.1", 0))

        def serve():
            peer, _ = listener.accept()
            with peer:
                data = peer.recv(10)
                time.sleep(0.001)
                peer.sendall(data[::-1])

        thread = threading.Thread(target=serve)
        thread.start()
        clock = ManualClock(0.0)  # younger than the thread, which does not count then

        async def main():
            reader, writer = await asyncio.open_connection(*listener.getsockname())
            writer.write(b"abc")
            async with asyncio.timeout(30.0):
                answer = await reader.read(10)
            writer.close()
            await writer.wait_closed()
            return answer

        assert clock.run(main()) == b"cba"
        thread.join(30.0)
        listener.close()

    def test_call_soon_threadsafe_wakes_a_loop_without_timers(self):
        clock = ManualClock(0.0)

        async def main():
            loop = asyncio.get_running_loop()
            future = loop.create_future()
            thread = threading.Timer(
                0.02, lambda: loop.call_soon_threadsafe(future.set_result, "woken")
            )
            thread.start()
            try:
                return await future
            finally:
                thread.join()

        assert clock.run(main()) == "woken"

    def test_without_autojump_the_loop_waits_for_advance(self):
        clock = ManualClock(0.0, autojump=None)
        thread = threading.Timer(0.03, clock.advance, (5.0,))
        thread.start()
        clock.run(asyncio.sleep(5.0))
        thread.join()
        assert clock.monotonic() == 5.0
