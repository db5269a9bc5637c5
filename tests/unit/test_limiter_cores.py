"""Corners of the decision cores that no sequence of public calls reaches for certain."""

import asyncio
import gc
import threading

import pytest

from hastack import context, events
from hastack.errors import ClosedError, RateLimited
from hastack.ratelimit import (
    AllOf,
    ConcurrencyLimit,
    FixedWindow,
    LeakyBucket,
    RequestRejected,
    SlidingWindowCounter,
    SlidingWindowLog,
    TokenBucket,
)
from hastack.ratelimit._bulkhead import Bulkhead
from hastack.ratelimit._gcra import Gcra
from hastack.ratelimit._window_counter import WindowCounter
from hastack.ratelimit._window_fixed import WindowFixed
from hastack.ratelimit._window_log import WindowLimit, WindowLog
from hastack.testing import ManualClock


class Nobody:
    subscribers = ()


def gcra(clock, **options):
    core = Gcra(
        "g", 10.0, 3.0, max_keys=2, admit_when_full=False, monotonic=clock.monotonic, **options
    )
    lock = threading.RLock()
    core.bind(lock.acquire, lock.release, lambda key: 0.0, Nobody, print)
    return core


def test_without_the_lock_every_answer_is_the_same():
    clock = ManualClock(start=0.0)
    locking, free = gcra(clock), gcra(clock)
    free.locking = False
    for step in range(200):
        clock.advance(step % 7 * 0.03)
        key = ("a", "b", None, 7, ("t", 1))[step % 5]
        for call in ("take", "admit"):
            cost = (1.0, 2.0, 1)[step % 3]
            args = (key, cost) if call == "take" else (key, cost, clock.monotonic())
            answers = [getattr(core, call)(*args) for core in (locking, free)]
            assert repr(answers[0]) == repr(answers[1])


def test_lock_is_skipped_for_plain_keys_in_the_table_only():
    taken = []
    core = gcra(ManualClock())
    core.bind(lambda: taken.append(1), lambda: None, lambda key: 0.0, Nobody, print)
    core.locking = False
    core.take("a")
    assert len(taken) == 1  # the first time, to get a place in the table
    core.take("a")
    core.admit("a", 1.0, 1000.0)
    assert len(taken) == 1
    core.take(("a",))
    assert len(taken) > 1
    core.locking = True
    taken.clear()
    core.take("a")
    core.admit("a", 1.0, 1000.0)
    assert len(taken) == 2


def test_a_key_that_another_thread_has_put_in_meanwhile():
    core = gcra(ManualClock(start=0.0))
    core.take("a")
    assert core._recall("a", 0.0) == pytest.approx(0.1)


def test_giving_back_to_an_unknown_key_does_nothing():
    core = gcra(ManualClock(start=0.0))
    core.charge("a", -1.0, 0.0)
    assert len(core.table) == 0
    for key in "ab":
        core.take(key, 3.0)
    core.charge("c", 1.0, 0.0)  # no room, and nobody to tell
    assert len(core.table) == 2


def test_a_detour_refuses_guards_as_well():
    clock = ManualClock(start=0.0)
    core = gcra(clock)
    core.change(20.0, 3.0, 0.0)
    assert [core.admit("a", 1.0, 0.0) for _ in range(3)] == [0.0] * 3
    assert core.admit("a", 1.0, 0.0) == pytest.approx(0.05)
    assert core.admit("a", 1.0, 0.05) == 0.0


def test_waiting_for_one_key_leaves_others_alone():
    clock = ManualClock(start=0.0)
    limiters = [
        TokenBucket("10/s", burst=2, clock=clock),
        SlidingWindowLog("2/s", clock=clock),
        ConcurrencyLimit(2, clock=clock),
    ]

    async def main():
        for limiter in limiters:
            for _ in range(2):
                limiter.try_acquire("a")
            waiting = asyncio.ensure_future(limiter.acquire_async("a"))
            await asyncio.sleep(0)
            assert not limiter.peek("a")
            assert not limiter.try_acquire("a")
            assert limiter.peek("b")
            assert limiter.try_acquire("b")
            with pytest.raises(limiter._error):
                limiter.acquire("a", timeout=0)
            waiting.cancel()
            await asyncio.sleep(0)

    clock.run(main())


def test_limits_lowered_below_a_cost():
    limit = WindowLimit(5.0, 10.0, 0.1)
    for kind in (WindowLog, WindowCounter):
        state = kind(limit)
        assert state.wait(9.0, 0.0) == pytest.approx(10.0, abs=0.2)
        state.give_back(1.0, 0.0)
        assert state.level(0.0) == 5.0


def test_fixed_window_slot_now():
    state = WindowFixed(WindowLimit(5.0, 10.0))
    assert state.slot_in(0.0, 3.0, 0.0) == 0.0
    state.take(4.0, 0.0)
    assert state.slot_in(0.0, 1.0, 0.0) == 0.0
    assert state.slot_in(1.0, 1.0, 0.0) == pytest.approx(10.0)
    assert state.slot_in(7.0, 1.0, 0.0) == pytest.approx(20.0)


def test_slot_end_falls_behind_every_admission():
    state = WindowCounter(WindowLimit(1e9, 1.0, 0.1))
    for n in range(3000):
        now = n * 0.1 + 1e5
        state.take(1.0, now)
        assert state._slots[-1][0] > now


@pytest.mark.parametrize("kind", [SlidingWindowLog, SlidingWindowCounter, FixedWindow, LeakyBucket])
def test_state_limiters_report_and_close(kind):
    limiter = kind("1/s", clock=ManualClock(), name="x")
    limiter.try_acquire("a")
    with events.record(RequestRejected) as seen:
        limiter.try_acquire("a")
    assert [(e.name, e.reason) for e in seen] == [("x", "limited")]
    limiter.close()
    with pytest.raises(ClosedError):
        limiter._core.ask("a", 1.0, 0.0)
    with pytest.raises(ClosedError):
        limiter.try_acquire("a")


def test_concurrency_reset():
    limit = ConcurrencyLimit(1)
    limit.try_acquire("a")
    limit.try_acquire("b")
    limit.reset("a")
    assert limit.in_flight("a") == 0
    limit.reset()
    assert len(limit) == 0
    core = Bulkhead("b", 1.0, max_keys=1, admit_when_full=False)
    assert core.table._busy_until(1.0) == float("inf")
    core.closed = True
    with pytest.raises(ClosedError):
        core.ask("a", 1.0, 0.0)


def test_permits_of_before_a_fork_are_not_given_back():
    limit = ConcurrencyLimit(2)
    before = limit._admit(0.0, (), {})
    limit._after_fork()
    assert limit.in_flight() == 0
    now = limit._admit(0.0, (), {})
    limit._settle(before, 0.0, None, None)
    assert limit.in_flight() == 1
    limit._settle(now, 0.0, None, None)
    assert limit.in_flight() == 0
    bucket = TokenBucket("1/h", burst=1)
    both = AllOf(bucket, limit)
    both._after_fork()
    bucket._after_fork()
    assert both.try_acquire()


def test_the_documented_method_is_the_shortcut():
    bucket = TokenBucket("1/h", burst=1)
    assert TokenBucket.try_acquire(bucket, "a")
    assert not bucket.try_acquire("a")


def test_dependents_do_not_outlive_themselves():
    bucket = TokenBucket("1/h", burst=1)
    for _ in range(5):
        AllOf(bucket)
    gc.collect()
    keep = AllOf(bucket)
    assert len(bucket._dependents) == 1
    bucket.reset()
    assert keep.try_acquire()


def test_all_of_reports_refusals_of_its_queue():
    clock = ManualClock(start=0.0)
    all_of = AllOf(TokenBucket("1/s", burst=1, clock=clock), name="both", max_waiting=0)
    all_of.try_acquire()

    async def main():
        with pytest.raises(RateLimited, match="queue full"):
            await all_of.acquire_async()
        with pytest.raises(RateLimited):
            await all_of.acquire_async(timeout=0)

    with events.record(RequestRejected) as seen:
        clock.run(main())
    assert [(e.name, e.reason) for e in seen] == [("both", "queue full"), ("both", "limited")]


def test_all_of_deadline_passes_in_the_queue():
    clock = ManualClock(start=0.0)
    inside = ConcurrencyLimit(1, clock=clock)
    all_of = AllOf(inside)
    inside.try_acquire()
    with pytest.raises(RateLimited, match="deadline"):
        all_of.acquire(timeout=1.0)
    assert clock.monotonic() == pytest.approx(1.0)


def test_permits_that_come_back_before_the_queue_is_entered():
    """Between the first no and standing in line, another thread may have made room."""
    limit = ConcurrencyLimit(1)
    limit._room.wait(None, 1.0, None, None)
    assert limit.in_flight() == 1

    async def main():
        limit.release()
        await limit._room.wait_async(None, 1.0, None, None)

    asyncio.run(main())
    assert limit.in_flight() == 1


def test_waiting_without_a_context():
    clock = ManualClock(start=0.0)
    bucket = TokenBucket("10/s", burst=1, clock=clock)
    bucket.acquire()
    bucket._room.wait(None, 1.0, 1.0, None)

    async def main():
        await bucket._room.wait_async(None, 1.0, 1.0, None)

    clock.run(main())
    assert clock.monotonic() == pytest.approx(0.2)
    with context.timeout(5.0):
        bucket.acquire()


def test_serving_a_key_without_a_queue():
    bucket = TokenBucket("10/s")
    bucket._room.serve("nobody")
    assert bucket.stats().wakeups == 0
