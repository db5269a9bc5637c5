"""The circuit breaker through its direct interface, on a manual clock."""

import asyncio
import gc
import math
from datetime import timedelta

import pytest

from hastack import context, events
from hastack.errors import (
    Cancelled,
    CircuitOpen,
    DeadlineExceeded,
    InvalidArgument,
    RateLimited,
)
from hastack.ratelimit import BreakerChanged, BreakerState, CircuitBreaker, RequestRejected
from hastack.testing import ManualClock


def make(clock=None, **settings):
    defaults = {"min_calls": 4, "jitter": 0.0, "name": "db"}
    return CircuitBreaker(clock=clock or ManualClock(), **(defaults | settings))


def fail(breaker, times=1):
    for _ in range(times):
        breaker.acquire().failure()


def succeed(breaker, times=1):
    for _ in range(times):
        breaker.acquire().success()


def tripped(clock, **settings):
    breaker = make(clock, **settings)
    fail(breaker, 4)
    assert breaker.state is BreakerState.OPEN
    return breaker


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def changes():
    seen = []
    stop = events.subscribe(seen.append, BreakerChanged)
    yield seen
    stop()


def test_opens_when_the_failure_rate_is_reached_and_not_before_the_minimum(clock):
    breaker = make(clock, failure_rate=0.5, min_calls=4)
    fail(breaker, 3)
    assert breaker.state is BreakerState.CLOSED
    succeed(breaker)  # the fourth call decides, whatever it was
    assert breaker.state is BreakerState.OPEN


def test_below_the_rate_stays_closed(clock):
    breaker = make(clock, failure_rate=0.5, min_calls=4)
    succeed(breaker, 6)
    fail(breaker, 5)
    assert breaker.state is BreakerState.CLOSED
    fail(breaker)
    assert breaker.state is BreakerState.OPEN


def test_rate_is_exact_where_floats_are_not(clock):
    breaker = make(clock, failure_rate=0.1, min_calls=30)
    succeed(breaker, 27)
    fail(breaker, 3)  # 0.1 * 30 > 3 in floating point
    assert breaker.state is BreakerState.OPEN


def test_old_failures_leave_a_time_window(clock):
    breaker = make(clock, window=10.0, min_calls=4)
    fail(breaker, 3)
    clock.advance(11.0)
    succeed(breaker, 3)
    fail(breaker)
    assert breaker.state is BreakerState.CLOSED
    assert breaker.snapshot().calls == 4
    assert breaker.snapshot().failure_rate == 0.25


def test_old_successes_leave_a_time_window_too(clock):
    breaker = make(clock, window=10.0, min_calls=4, failure_rate=0.5)
    succeed(breaker, 100)
    clock.advance(5.0)
    fail(breaker, 10)
    assert breaker.state is BreakerState.CLOSED
    clock.advance(5.5)  # the successes are gone, the failures are not
    succeed(breaker)
    assert breaker.state is BreakerState.OPEN


def test_count_window_looks_at_the_last_calls_only(clock):
    breaker = make(clock, window_calls=4, min_calls=4, failure_rate=0.75)
    succeed(breaker, 100)
    clock.advance(1e6)
    fail(breaker, 2)
    assert breaker.state is BreakerState.CLOSED
    assert breaker.snapshot().calls == 4
    fail(breaker)
    assert breaker.state is BreakerState.OPEN


def test_slow_calls_open_it_and_the_threshold_itself_is_not_slow(clock):
    breaker = make(clock, slow_call=timedelta(milliseconds=500), slow_rate=0.5)
    for seconds in (0.5, 0.5, 0.75, 0.1):
        permit = breaker.acquire()
        clock.advance(seconds)
        permit.success()
    assert breaker.state is BreakerState.CLOSED
    assert breaker.snapshot().slow_rate == 0.25
    for _ in range(2):
        permit = breaker.acquire()
        clock.advance(0.75)
        permit.success()
    assert breaker.state is BreakerState.OPEN


def test_open_refuses_with_name_and_time(clock):
    breaker = tripped(clock, open_for=5.0)
    clock.advance(2.0)
    refusal = breaker.try_acquire()
    assert not refusal
    assert not refusal.allowed
    assert refusal.retry_after == 3.0
    with pytest.raises(CircuitOpen, match="db: circuit open; retry after 3 s") as caught:
        breaker.acquire()
    assert caught.value.retry_after == 3.0
    refusal.failure()
    refusal.success()
    refusal.release()
    assert breaker.snapshot().failures == 0


def test_half_open_admits_its_quota_and_closes(clock):
    breaker = tripped(clock, half_open_calls=3)
    clock.advance(5.0)
    probes = [breaker.try_acquire() for _ in range(5)]
    assert [bool(probe) for probe in probes] == [True] * 3 + [False] * 2
    assert probes[3].retry_after is None
    assert breaker.snapshot().probes_in_flight == 3
    probes[0].success()
    # A probe that reported keeps its place: the quota is of calls, not only of calls at once.
    assert not breaker.try_acquire()
    probes[1].success()
    assert breaker.state is BreakerState.HALF_OPEN
    probes[2].success()
    assert breaker.state is BreakerState.CLOSED
    assert breaker.snapshot().calls == 0


def test_guarded_calls_are_probes_too(clock):
    breaker = tripped(clock, half_open_calls=2)
    clock.advance(5.0)
    with events.record(BreakerChanged) as seen, breaker:
        assert breaker.state is BreakerState.HALF_OPEN
        with breaker, pytest.raises(CircuitOpen), breaker:
            pytest.fail("beyond the quota")
    assert [event.new for event in seen] == [BreakerState.HALF_OPEN, BreakerState.CLOSED]


def test_one_failed_probe_opens_again(clock):
    breaker = tripped(clock, half_open_calls=3)
    clock.advance(5.0)
    first, second = breaker.acquire(), breaker.acquire()
    first.failure()
    assert breaker.state is BreakerState.OPEN
    second.success()
    assert breaker.state is BreakerState.OPEN


def test_half_open_success_share(clock):
    breaker = tripped(clock, half_open_calls=4, half_open_success=0.5)
    clock.advance(5.0)
    probes = [breaker.acquire() for _ in range(4)]
    probes[0].failure()
    probes[1].failure()
    probes[2].success()
    assert breaker.state is BreakerState.HALF_OPEN
    assert breaker.snapshot().failure_rate == pytest.approx(2 / 3)
    probes[3].success()
    assert breaker.state is BreakerState.CLOSED


def test_cancelled_probe_returns_its_slot(clock):
    breaker = tripped(clock)
    clock.advance(5.0)
    for error in (asyncio.CancelledError(), GeneratorExit(), KeyboardInterrupt(), Cancelled()):
        probe = breaker.acquire()
        assert not breaker.try_acquire()
        probe.failure(error)
    breaker.acquire().release()
    assert breaker.state is BreakerState.HALF_OPEN
    breaker.acquire().success()
    assert breaker.state is BreakerState.CLOSED


def test_slow_probe_counts_as_failed(clock):
    breaker = tripped(clock, slow_call=1.0)
    clock.advance(5.0)
    probe = breaker.acquire()
    clock.advance(1.5)
    probe.success()
    assert breaker.state is BreakerState.OPEN


def test_call_cancelled_after_the_slow_time_counts_as_slow(clock):
    breaker = make(clock, slow_call=1.0, slow_rate=1.0, min_calls=2)
    for seconds in (0.5, 1.5, 1.5):
        assert breaker.state is BreakerState.CLOSED
        permit = breaker.acquire()
        clock.advance(seconds)
        permit.failure(asyncio.CancelledError())
    assert breaker.state is BreakerState.OPEN
    clock.advance(60.0)
    probe = breaker.acquire()
    clock.advance(1.5)
    probe.failure(asyncio.CancelledError())
    assert breaker.state is BreakerState.OPEN


def test_probe_that_never_reports_opens_again(clock):
    breaker = tripped(clock, half_open_timeout=30.0, open_for=5.0)
    clock.advance(5.0)
    lost = breaker.acquire()
    clock.advance(29.0)
    assert not breaker.try_acquire()
    clock.advance(1.0)
    assert breaker.try_acquire().retry_after == 10.0
    lost.success()
    assert breaker.state is BreakerState.OPEN


def test_overdue_probe_uses_up_its_place_when_others_may_still_decide(clock):
    breaker = tripped(clock, half_open_calls=2, half_open_success=0.5, half_open_timeout=30.0)
    clock.advance(5.0)
    lost = breaker.acquire()
    clock.advance(31.0)
    second = breaker.acquire()
    assert breaker.state is BreakerState.HALF_OPEN
    assert not breaker.try_acquire()
    lost.success()
    assert breaker.state is BreakerState.HALF_OPEN
    second.success()
    assert breaker.state is BreakerState.CLOSED


def test_late_result_of_an_older_generation_changes_nothing(clock):
    breaker = make(clock)
    late = [breaker.acquire() for _ in range(8)]
    fail(breaker, 4)
    assert breaker.state is BreakerState.OPEN
    late[0].success()
    late[1].failure()
    assert breaker.state is BreakerState.OPEN
    clock.advance(5.0)
    probe = breaker.acquire()
    late[2].success()
    late[3].failure()
    assert breaker.state is BreakerState.HALF_OPEN
    probe.success()
    for permit in late[4:]:
        permit.failure()
    assert breaker.state is BreakerState.CLOSED
    assert breaker.snapshot().calls == 0


def test_a_permit_reports_once(clock):
    breaker = make(clock)
    permit = breaker.acquire()
    permit.failure()
    permit.failure()
    permit.success()
    permit.release()
    assert breaker.snapshot().calls == 1
    assert breaker.snapshot().failures == 1
    assert repr(permit) == "Permit(allowed=True, retry_after=0.0)"


def test_open_time_doubles_to_its_cap_and_starts_over_after_a_healthy_close(clock):
    breaker = tripped(clock, open_for=5.0, open_factor=2.0, open_max=15.0)
    for expected in (5.0, 10.0, 15.0, 15.0):
        assert breaker.snapshot().retry_after == expected
        clock.advance(expected)
        breaker.acquire().failure()
    clock.advance(15.0)
    breaker.acquire().success()
    assert breaker.snapshot().opened_in_row == 5
    clock.advance(15.0)
    fail(breaker, 4)
    assert breaker.snapshot().retry_after == 5.0


def test_flapping_keeps_growing_the_open_time(clock):
    breaker = tripped(clock, open_for=5.0)
    clock.advance(5.0)
    breaker.acquire().success()
    clock.advance(4.0)  # closed for less time than it had been open
    fail(breaker, 4)
    assert breaker.snapshot().retry_after == 10.0


def test_many_openings_do_not_overflow(clock):
    breaker = tripped(clock, open_for=1.0, open_factor=1000.0, open_max=2.0)
    for _ in range(400):
        clock.advance(2.0)
        breaker.acquire().failure()
    assert breaker.snapshot().retry_after == 2.0


@pytest.mark.parametrize(("luck", "expected"), [(0.0, 4.5), (0.5, 5.0), (0.999999, 5.5)])
def test_jitter(clock, luck, expected):
    breaker = make(clock, jitter=0.1, rng=lambda: luck)
    fail(breaker, 4)
    assert breaker.snapshot().retry_after == pytest.approx(expected, abs=1e-3)


def test_error_classes(clock):
    breaker = make(clock, failures=(OSError, ValueError), ignore=FileNotFoundError, min_calls=100)
    breaker.acquire().failure(OSError())
    breaker.acquire().failure(ValueError())
    breaker.acquire().failure(KeyError())  # the dependency answered
    breaker.acquire().failure(FileNotFoundError())
    breaker.acquire().failure(RateLimited("inner"))
    snapshot = breaker.snapshot()
    assert (snapshot.calls, snapshot.failures) == (3, 2)


def test_deadline_exceeded_is_a_failure(clock):
    breaker = make(clock)
    breaker.acquire().failure(DeadlineExceeded())
    assert breaker.snapshot().failures == 1


def test_cancellation_by_a_deadline_is_a_failure(clock):
    breaker = make(clock)

    @breaker
    async def hang():
        await asyncio.sleep(3600.0)

    async def main():
        with pytest.raises(DeadlineExceeded):
            async with context.timeout(1.0, parent=context.background(clock=clock)):
                await hang()

    clock.run(main())
    snapshot = breaker.snapshot()
    assert (snapshot.calls, snapshot.failures) == (1, 1)


def test_predicates(clock):
    breaker = make(
        clock,
        failures=lambda error: "5" in str(error),
        result_failure=lambda result: result == 503,
        min_calls=100,
    )
    breaker.acquire().failure(OSError("500"))
    breaker.acquire().failure(OSError("404"))
    breaker.acquire().success(200)
    breaker.acquire().success(503)
    snapshot = breaker.snapshot()
    assert (snapshot.calls, snapshot.failures) == (4, 2)


def test_predicate_that_raises_counts_as_failure_and_is_reported_once(clock, caplog):
    def broken(_):
        raise ZeroDivisionError

    breaker = make(clock, failures=broken, result_failure=broken, min_calls=100)
    for _ in range(3):
        breaker.acquire().failure(OSError())
        breaker.acquire().success()
    assert breaker.snapshot().failures == 6
    assert len(caplog.records) == 1
    assert caplog.records[0].args[:2] == ("db", broken)


def test_forced_open_disabled_and_back(clock):
    breaker = make(clock)
    breaker.force_open()
    clock.advance(1e6)
    refusal = breaker.try_acquire()
    assert not refusal
    assert refusal.retry_after is None
    breaker.disable()
    fail(breaker, 100)
    succeed(breaker, 100)
    assert breaker.state is BreakerState.DISABLED
    assert breaker.snapshot().calls == 0
    breaker.enable()
    assert breaker.state is BreakerState.CLOSED
    breaker.enable()
    assert breaker.snapshot().generation == 3
    fail(breaker, 4)
    assert breaker.state is BreakerState.OPEN
    breaker.reset()
    assert breaker.state is BreakerState.CLOSED
    assert breaker.snapshot().opened_in_row == 0


def test_observe_only_reports_what_would_have_opened(clock, changes):
    breaker = make(clock)
    breaker.observe_only()
    fail(breaker, 4)
    assert breaker.state is BreakerState.OBSERVE_ONLY
    fail(breaker, 3)
    assert [(event.old, event.new, event.reason) for event in changes] == [
        (BreakerState.CLOSED, BreakerState.OBSERVE_ONLY, "observe_only()"),
        (BreakerState.OBSERVE_ONLY, BreakerState.OBSERVE_ONLY, "failure rate reached"),
    ]


def test_events_tell_the_story(clock, changes):
    breaker = make(clock, slow_call=1.0, slow_rate=0.5)
    fail(breaker, 4)
    clock.advance(5.0)
    breaker.acquire().failure()
    clock.advance(10.0)
    breaker.acquire().success()
    slow = [breaker.acquire() for _ in range(4)]
    clock.advance(2.0)
    for permit in slow:
        permit.success()
    closed, opened, half = BreakerState.CLOSED, BreakerState.OPEN, BreakerState.HALF_OPEN
    assert [(e.old, e.new, e.reason, e.calls, e.failures, e.slow) for e in changes] == [
        (closed, opened, "failure rate reached", 4, 4, 0),
        (opened, half, "open time over", 0, 0, 0),
        (half, opened, "probes failed", 1, 1, 0),
        (opened, half, "open time over", 0, 0, 0),
        (half, closed, "probes succeeded", 1, 0, 0),
        (closed, opened, "slow-call rate reached", 4, 0, 4),
    ]
    assert [e.generation for e in changes] == [1, 2, 3, 4, 5, 6]
    assert {e.name for e in changes} == {"db"}
    assert changes[-1].at == clock.monotonic()


def test_refusals_are_reported(clock):
    breaker = tripped(clock, open_for=5.0)
    with events.record(RequestRejected) as seen:
        breaker.try_acquire()
        with pytest.raises(CircuitOpen):
            breaker._admit(clock.monotonic(), (), {})
    assert [(e.name, e.reason, e.retry_after) for e in seen] == [("db", "circuit open", 5.0)] * 2


def test_subscriber_that_raises_changes_nothing(clock, caplog):
    def broken(_):
        raise ZeroDivisionError

    stop = events.subscribe(broken, BreakerChanged)
    try:
        breaker = tripped(clock)
        clock.advance(5.0)
        breaker.acquire().success()
    finally:
        stop()
    assert breaker.state is BreakerState.CLOSED
    assert len(caplog.records) == 1


def test_subscriber_may_use_the_breaker(clock):
    seen = []
    breaker = make(clock)
    stop = events.subscribe(lambda event: seen.append(breaker.snapshot().state), BreakerChanged)
    try:
        fail(breaker, 4)
    finally:
        stop()
    assert seen == [BreakerState.OPEN]


def test_clock_going_backwards_neither_trips_nor_lengthens_a_wait(clock):
    breaker = tripped(clock, open_for=5.0, half_open_timeout=30.0)
    clock.set(10.0)
    assert breaker.try_acquire().retry_after == 5.0
    clock.advance(5.0)
    breaker.acquire()
    clock.set(1.0)
    assert not breaker.try_acquire()
    clock.advance(30.0)
    assert not breaker.try_acquire()
    assert breaker.state is BreakerState.OPEN

    closed = make(clock, slow_call=1.0)
    permit = closed.acquire()
    clock.set(0.0)
    permit.success()
    assert closed.snapshot().slow == 0
    assert closed.snapshot().calls == 1


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("failure_rate", 0.0),
        ("failure_rate", 1.1),
        ("failure_rate", math.nan),
        ("slow_rate", -1.0),
        ("slow_call", 0.0),
        ("window", 0.0),
        ("window", "10s"),
        ("window_calls", 0),
        ("min_calls", 0),
        ("min_calls", 2.5),
        ("open_for", -1.0),
        ("open_for", math.inf),
        ("open_factor", 0.5),
        ("open_max", 1.0),
        ("jitter", 1.0),
        ("half_open_calls", True),
        ("half_open_success", 0.0),
        ("half_open_timeout", None),
        ("failures", "OSError"),
        ("failures", (OSError, 5)),
        ("ignore", int),
        ("result_failure", 5),
    ],
)
def test_bad_settings_are_named(parameter, value):
    with pytest.raises(InvalidArgument) as caught:
        CircuitBreaker(**{parameter: value})
    assert caught.value.parameter == parameter


def test_windows_exclude_each_other_and_bound_the_minimum():
    with pytest.raises(InvalidArgument, match="window_calls"):
        CircuitBreaker(window=10.0, window_calls=10)
    with pytest.raises(InvalidArgument, match="min_calls"):
        CircuitBreaker(window_calls=10, min_calls=11)


def test_names_and_repr():
    assert repr(make()) == "<CircuitBreaker 'db' closed>"
    assert CircuitBreaker().name == "CircuitBreaker"


def test_breakers_are_collected():
    import weakref

    ref = weakref.ref(make())
    gc.collect()
    assert ref() is None


def test_guard_protocol(clock):
    breaker = make(clock)
    now = clock.monotonic()
    for method_admit, method_settle in (
        (breaker._admit, breaker._settle),
        (CircuitBreaker._admit.__get__(breaker), CircuitBreaker._settle.__get__(breaker)),
    ):
        for error in (None, OSError()):
            permit = method_admit(now, (), {})
            method_settle(permit, now, error, None)
    assert breaker.state is BreakerState.OPEN
    with pytest.raises(CircuitOpen) as caught:
        breaker._admit(now, (), {})
    assert caught.value.retry_after == 5.0


@pytest.mark.parametrize("busy", [False, True])
def test_after_a_fork(clock, busy):
    """What runs in the child; with ``busy`` a thread of the parent was inside at the fork."""
    breaker = tripped(clock)
    clock.advance(5.0)
    lost = breaker.acquire()
    forced = make(clock)
    forced.force_open()
    for each in (breaker, forced):
        if busy:
            each._lock.acquire()
        each._after_fork()
    assert breaker.state is (BreakerState.CLOSED if busy else BreakerState.HALF_OPEN)
    lost.failure()
    breaker.acquire().success()
    assert breaker.state is BreakerState.CLOSED
    assert forced.state is BreakerState.FORCED_OPEN
