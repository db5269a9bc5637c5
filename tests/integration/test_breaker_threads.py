"""The breaker among real threads, event loops and forked processes."""

import asyncio
import gc
import itertools
import os
import random
import sys
import threading
import time
from collections import Counter

import pytest

from hastack import events
from hastack.errors import CircuitOpen
from hastack.ratelimit import BreakerChanged, BreakerState, CircuitBreaker
from hastack.testing import ManualClock


@pytest.fixture
def eager_switching():
    """Let threads take turns as often as the interpreter can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def together(count, work):
    """Run ``work(number)`` on ``count`` threads that start at once; re-raise what they raise."""
    barrier = threading.Barrier(count)
    errors = []

    def run(number):
        barrier.wait()
        try:
            work(number)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30.0)
        assert not thread.is_alive()
    if errors:
        raise errors[0]


def test_calls_run_side_by_side():
    meeting = threading.Barrier(5, timeout=20.0)  # one after the other nobody would come
    guarded = CircuitBreaker()(meeting.wait)
    together(5, lambda _: guarded())


@pytest.mark.parametrize("window", [{"window": 1e6}, {"window_calls": 10_000_000}])
def test_no_success_is_lost_or_counted_twice(eager_switching, window):
    breaker = CircuitBreaker(min_calls=10, failure_rate=1.0, **window)

    def calls(_):
        for _ in range(5_000):
            breaker.acquire().success()

    together(4, calls)
    breaker.acquire().failure()
    assert breaker.snapshot().calls == 20_001
    assert breaker.snapshot().failures == 1


def test_half_open_quota_holds_among_threads(eager_switching):
    clock = ManualClock()
    for _ in range(100):
        breaker = CircuitBreaker(min_calls=1, half_open_calls=3, clock=clock)
        breaker.acquire().failure()
        clock.advance(10.0)
        admitted = []

        def ask(_, breaker=breaker, admitted=admitted):
            permit = breaker.try_acquire()
            if permit:
                admitted.append(permit)

        together(6, ask)
        assert len(admitted) == 3
        together(3, lambda number, admitted=admitted: admitted[number].success())
        assert breaker.state is BreakerState.CLOSED


def test_random_traffic_keeps_every_promise(eager_switching):
    """Transitions form one unbroken chain and half-open never holds more than its quota."""
    quota = 2
    clock = ManualClock()
    breaker = CircuitBreaker(
        min_calls=3, open_for=0.01, open_max=0.02, half_open_calls=quota, clock=clock
    )
    over_quota = []
    seen = []

    def traffic(number):
        rng = random.Random(number)
        for _ in range(1_500):
            permit = breaker.try_acquire()
            if breaker.snapshot().probes_in_flight > quota:
                over_quota.append(number)
            if not permit:
                clock.advance(rng.random() * 0.01)
                continue
            draw = rng.random()
            if draw < 0.4:
                permit.success()
            elif draw < 0.8:
                permit.failure()
            elif draw < 0.9:
                permit.failure(asyncio.CancelledError())
            else:
                permit.release()

    stop = events.subscribe(seen.append, BreakerChanged)
    try:
        together(4, traffic)
    finally:
        stop()
    assert not over_quota
    seen.sort(key=lambda event: event.generation)
    assert [event.generation for event in seen] == list(range(1, len(seen) + 1))
    assert all(first.new is second.old for first, second in itertools.pairwise(seen))
    assert Counter(event.new for event in seen)[BreakerState.CLOSED] > 3
    # Everybody has reported: what is left resolves.
    for _ in range(10):
        clock.advance(1.0)
        permit = breaker.try_acquire()
        if permit:
            permit.success()
    assert breaker.state is BreakerState.CLOSED


def test_a_result_older_than_the_close_never_counts(eager_switching):
    clock = ManualClock()
    for _ in range(50):
        breaker = CircuitBreaker(min_calls=2, clock=clock)
        old = [breaker.acquire() for _ in range(8)]
        breaker.acquire().failure()
        breaker.acquire().failure()
        clock.advance(10.0)
        breaker.acquire().success()

        def report(number, old=old):
            old[2 * number].failure()
            old[2 * number + 1].success()

        together(4, report)
        assert breaker.state is BreakerState.CLOSED
        assert breaker.snapshot().calls == 0


def test_guarded_functions_of_every_kind():
    breaker = CircuitBreaker(min_calls=2, open_for=60.0)

    @breaker
    def broken():
        raise OSError("down")

    @breaker
    async def broken_too():
        raise OSError("down")

    with pytest.raises(OSError, match="down"):
        broken()
    with pytest.raises(OSError, match="down"):
        asyncio.run(broken_too())
    assert breaker.state is BreakerState.OPEN
    with pytest.raises(CircuitOpen):
        broken()
    with pytest.raises(CircuitOpen):
        asyncio.run(broken_too())


def test_cancelled_tasks_return_their_probe():
    clock = ManualClock()
    breaker = CircuitBreaker(min_calls=1, open_for=1.0, jitter=0.0, clock=clock)
    breaker.acquire().failure()

    @breaker
    async def call(seconds):
        await asyncio.sleep(seconds)

    async def main():
        await asyncio.sleep(1.0)
        for _ in range(20):
            task = asyncio.create_task(call(3600.0))
            await asyncio.sleep(0)
            with pytest.raises(CircuitOpen):
                await call(0.0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        await call(0.0)

    clock.run(main())
    assert breaker.state is BreakerState.CLOSED


def test_forked_child_has_working_locks_and_no_probe_of_its_parent():
    clock = ManualClock()
    breaker = CircuitBreaker(min_calls=1, clock=clock)
    breaker.acquire().failure()
    clock.advance(10.0)
    probe = breaker.acquire()
    busy = CircuitBreaker(min_calls=1)
    busy.acquire().failure()
    forced = CircuitBreaker(min_calls=1)
    forced.force_open()
    gc.collect()
    busy._lock.acquire()  # as if another thread were inside at the fork
    forced._lock.acquire()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            again = breaker.try_acquire()
            probe.success()
            half = breaker.state is BreakerState.HALF_OPEN
            again.success()
            closed = breaker.state is BreakerState.CLOSED
            busy.acquire().success()
            still = forced.state is BreakerState.FORCED_OPEN and not forced.try_acquire()
            forced.enable()
            code = 0 if bool(again) and half and closed and still else 2
        finally:
            os._exit(code)
    busy._lock.release()
    forced._lock.release()
    deadline = time.monotonic() + 30.0
    while time.monotonic() < deadline:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            break
        time.sleep(0.01)
    else:
        os.kill(child, 9)
        os.waitpid(child, 0)
        raise AssertionError("the child hangs")
    assert os.waitstatus_to_exitcode(status) == 0
    probe.success()
    assert breaker.state is BreakerState.CLOSED
