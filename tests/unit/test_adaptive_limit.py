"""AdaptiveLimit as a guard and through its direct interface."""

import asyncio
import math

import pytest

from hastack import context, events
from hastack.errors import (
    Cancelled,
    ConcurrencyLimited,
    DeadlineExceeded,
    InvalidArgument,
    RateLimited,
)
from hastack.ratelimit import AdaptiveLimit, LimitChanged, RequestRejected
from hastack.testing import ManualClock


@pytest.fixture
def clock():
    return ManualClock()


def make(clock, **settings):
    return AdaptiveLimit(**({"initial": 2, "name": "db", "clock": clock} | settings))


def tally(limit):
    controller = limit._core.controller
    return controller.count, controller.failures, controller.overloads


def test_admits_up_to_the_limit_and_refuses_the_next(clock):
    limit = make(clock)
    first, second, third = (limit.try_acquire() for _ in range(3))
    assert bool(first)
    assert bool(second)
    assert not third
    assert third.retry_after is None
    assert limit.inflight == 2
    with pytest.raises(ConcurrencyLimited, match="db: concurrency limit reached"):
        limit._admit(clock.monotonic(), (), {})
    first.success()
    first.success()
    third.success()
    assert limit.inflight == 1
    second.failure()
    assert tally(limit) == (1, 1, 0)
    assert repr(limit) == "<AdaptiveLimit 'db' 0/2>"


def test_retry_after_is_the_latency_of_the_calls_in_flight(clock):
    limit = make(clock)
    limit._core.controller.latency = 0.25
    with limit, limit:
        assert limit.try_acquire().retry_after == 0.25
        assert limit.rate == 8.0
    assert limit.inflight == 0


def test_outcomes(clock):
    limit = make(clock, overload=(TimeoutError, BlockingIOError), initial=5)
    for error, expected in [
        (None, (1, 0, 0)),
        (OSError(), (1, 1, 0)),
        (TimeoutError(), (1, 1, 1)),
        (DeadlineExceeded(), (1, 1, 2)),
        (BlockingIOError(), (1, 1, 3)),
        (RateLimited("inner"), (1, 1, 3)),
        (Cancelled(), (1, 1, 3)),
        (KeyboardInterrupt(), (1, 1, 3)),
        (asyncio.CancelledError(), (1, 1, 3)),
    ]:
        permit = limit.try_acquire()
        permit.success() if error is None else permit.failure(error)
        assert tally(limit) == expected, error
    limit.try_acquire().release()
    assert tally(limit) == (1, 1, 3)
    assert limit.inflight == 0


def test_a_cancelled_call_that_had_taken_long_is_overload(clock):
    limit = make(clock)
    limit._core.controller.baseline = 0.1
    for seconds in (0.3, 0.5):
        permit = limit.try_acquire()
        clock.advance(seconds)
        permit.failure(asyncio.CancelledError())
    assert tally(limit) == (0, 0, 1)


def test_a_deadline_further_out_is_overload(clock):
    limit = make(clock)

    @limit
    async def hang():
        await asyncio.sleep(3600.0)

    async def main():
        with pytest.raises(DeadlineExceeded):
            async with context.timeout(1.0, parent=context.background(clock=clock)):
                await hang()

    clock.run(main())
    assert tally(limit) == (0, 0, 1)


def saturate(clock, limit, seconds, servers=20, service=0.05):
    """Calls in lockstep on a service of ``servers`` places, always as many as the limit allows."""
    end = clock.monotonic() + seconds
    while clock.monotonic() < end:
        permits = []
        while permit := limit.try_acquire():
            permits.append(permit)
        # All wait for each other; shares of the time as if they had left one by one.
        clock.advance(max(service, len(permits) / servers * service))
        for permit in permits:
            permit.success()


def test_learns_and_reports(clock):
    limit = make(clock, initial=4)
    with events.record(LimitChanged) as seen:
        saturate(clock, limit, 20.0)
    assert seen[0].old == 4
    assert {event.name for event in seen} == {"db"}
    assert all(event.new != event.old for event in seen)
    snapshot = limit.snapshot()
    assert 18 <= max(event.new for event in seen) <= 60
    assert snapshot.limit == limit.limit
    assert snapshot.baseline == pytest.approx(0.05, rel=0.25)
    assert snapshot.inflight == snapshot.waiting == 0
    assert snapshot.rate == pytest.approx(snapshot.limit / snapshot.latency)


def test_subscriber_that_raises_changes_nothing(clock, caplog):
    def broken(_):
        raise ZeroDivisionError

    stop = events.subscribe(broken, LimitChanged, RequestRejected)
    try:
        limit = make(clock, initial=4)
        saturate(clock, limit, 10.0)
    finally:
        stop()
    assert limit.limit >= 16
    assert limit.inflight == 0
    assert caplog.records


def test_refusals_are_reported(clock):
    limit = make(clock, initial=1)
    with events.record(RequestRejected) as seen, limit:
        limit.try_acquire()
    assert [(e.name, e.reason) for e in seen] == [("db", "limited")]


def test_waits_for_a_place(clock):
    limit = make(clock, initial=1, max_wait=1.0)
    order = []

    @limit
    async def call(number):
        order.append((number, round(clock.monotonic() - start, 3)))
        await asyncio.sleep(0.4)

    async def main():
        results = await asyncio.gather(
            *(call(number) for number in range(4)), return_exceptions=True
        )
        assert [type(result) for result in results[:3]] == [type(None)] * 3
        assert isinstance(results[3], ConcurrencyLimited)
        assert "deadline" in str(results[3])

    start = clock.monotonic()
    clock.run(main())
    assert order == [(0, 0.0), (1, 0.4), (2, 0.8)]
    assert limit.inflight == 0


def test_the_line_is_bounded_and_nobody_overtakes(clock):
    limit = make(clock, initial=1, max_waiting=1)

    async def main():
        first = await limit.acquire_async()
        waiting = asyncio.create_task(limit.acquire_async())
        await asyncio.sleep(0)
        with pytest.raises(ConcurrencyLimited, match="queue full"):
            await limit.acquire_async()
        assert limit.snapshot().waiting == 1
        first.success()
        assert not limit.try_acquire()
        (await waiting).success()

    clock.run(main())
    assert limit.inflight == 0


def test_a_place_that_is_about_to_go_to_the_line_is_not_taken(clock):
    limit = make(clock)
    limit._core.waiting = True
    assert not limit.try_acquire()


def test_cancelled_while_waiting_takes_nothing(clock):
    limit = make(clock, initial=1)

    async def main():
        first = await limit.acquire_async()
        tasks = [asyncio.create_task(limit.acquire_async()) for _ in range(3)]
        await asyncio.sleep(0)
        first.success()  # the first in line has its turn, but is cancelled before it runs
        tasks[0].cancel()
        tasks[1].cancel()
        (await tasks[2]).success()

    clock.run(main())
    assert limit.inflight == 0


def test_blocking_acquire(clock):
    limit = make(clock, initial=1)
    permit = limit.acquire()
    with pytest.raises(ConcurrencyLimited):
        limit.acquire(timeout=0.5)
    short = context.timeout(0.5, parent=context.background(clock=clock))
    with short as ctx, pytest.raises((ConcurrencyLimited, DeadlineExceeded)):
        limit.acquire(ctx=ctx)
    permit.success()
    limit.acquire(timeout=0.0).success()
    waiting = make(clock, initial=1, max_wait=0.5)
    with waiting, pytest.raises(ConcurrencyLimited), waiting:
        pass


def test_permits_of_before_a_fork_do_not_count_after(clock):
    limit = make(clock)
    before = limit.try_acquire()
    limit._after_fork()
    assert limit.inflight == 0
    before.success()
    assert limit.inflight == 0
    limit.try_acquire().success()
    assert limit.inflight == 0


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("min_limit", 0),
        ("max_limit", 0),
        ("initial", 0),
        ("initial", 1001),
        ("tolerance", 1.0),
        ("tolerance", math.nan),
        ("max_healthy_latency", 0.0),
        ("overload", "timeout"),
        ("overload", (TimeoutError, 5)),
        ("period", 0.0),
        ("min_samples", 1),
        ("max_wait", -1.0),
        ("max_waiting", 0),
    ],
)
def test_bad_settings_are_named(parameter, value):
    with pytest.raises(InvalidArgument) as caught:
        AdaptiveLimit(**{parameter: value})
    assert caught.value.parameter == parameter


def test_defaults():
    assert AdaptiveLimit().name == "AdaptiveLimit"
    assert AdaptiveLimit().rate == 0.0


def test_a_clock_that_goes_backwards_makes_no_latency_negative():
    clock = ManualClock(start=1000.0)
    guard = AdaptiveLimit(clock=clock, min_samples=10, period=0.25)
    for _ in range(20):
        permits = [guard.try_acquire() for _ in range(4)]
        clock.set(clock.monotonic() - 0.01)
        for permit in permits:
            permit.success()
        clock.advance(0.1)
    assert guard.inflight == 0
    assert 0.0 < guard.snapshot().latency < 1e-3
