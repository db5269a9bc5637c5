import pytest

from hastack.errors import InvalidArgument, InvalidKey, RateLimited
from hastack.ratelimit import (
    FixedWindow,
    LeakyBucket,
    Quota,
    SlidingWindowCounter,
    SlidingWindowLog,
)
from hastack.testing import ManualClock

WINDOWS = [SlidingWindowLog, SlidingWindowCounter, FixedWindow]


def admitted(limiter, tries, key=None, cost=1.0):
    return sum(bool(limiter.try_acquire(key, cost)) for _ in range(tries))


@pytest.mark.parametrize("kind", WINDOWS)
def test_limit_per_window(kind):
    clock = ManualClock(start=0.0)
    limiter = kind("5/10s", clock=clock)
    assert (limiter.limit, limiter.window) == (5, 10)
    assert admitted(limiter, 9, "a") == 5
    no = limiter.try_acquire("a")
    assert no.remaining == 0
    assert 0 < no.retry_after <= 10.1
    clock.advance(no.retry_after)
    assert admitted(limiter, 9, "a") == 5
    assert admitted(limiter, 9, "b") == 5
    clock.advance(100)
    assert limiter.peek("a").reset_after == 0.0
    assert limiter.peek("a").remaining == 5


@pytest.mark.parametrize("kind", WINDOWS)
def test_default_window_is_a_minute(kind):
    limiter = kind(7)
    assert (limiter.limit, limiter.window) == (7, 60)
    assert kind(7, window=2).window == 2
    assert kind(Quota(7, 3)).window == 3


def test_log_is_exact():
    clock = ManualClock(start=0.0)
    log = SlidingWindowLog("3/10s", clock=clock)
    for at in (0.0, 4.0, 9.0):
        clock.set(at)
        assert log.try_acquire()
    clock.set(9.5)
    assert log.peek().retry_after == pytest.approx(0.5)
    assert log.peek(cost=2).retry_after == pytest.approx(4.5)
    assert log.peek(cost=3).retry_after == pytest.approx(9.5)
    clock.set(9.999)
    assert not log.try_acquire()
    clock.set(10.0)
    assert log.try_acquire()
    assert not log.try_acquire()


def test_counter_holds_over_any_window():
    # A burst at the end of one aligned second and at the start of the next: 16 of 10 pass the
    # usual two-counter estimate.
    clock = ManualClock(start=0.0)
    counter = SlidingWindowCounter("10/s", clock=clock)
    passed = []
    for step in range(400):
        clock.set(0.9 + step * 0.0137)
        if counter.try_acquire():
            passed.append(clock.monotonic())
    for start in passed:
        assert sum(start <= t < start + 1.0 for t in passed) <= 10
    assert len(passed) >= 10 * 4


def test_counter_gives_back_one_slot_late_at_most():
    clock = ManualClock(start=0.0)
    counter = SlidingWindowCounter("1/s", clock=clock)
    clock.set(0.05)
    assert counter.try_acquire()
    assert counter.peek().retry_after == pytest.approx(1.05)
    clock.set(1.0999)
    assert not counter.try_acquire()
    clock.set(1.1)
    assert counter.try_acquire()
    assert counter.slot == 0.1


def test_counter_memory_is_slots_not_calls():
    clock = ManualClock(start=0.0)
    counter = SlidingWindowCounter(1_000_000, clock=clock)
    for _ in range(3000):
        counter.try_acquire()
        clock.advance(0.05)
    assert len(counter._core._find(None)._slots) <= 602


def test_fixed_window_is_aligned():
    clock = ManualClock(start=7.0)
    fixed = FixedWindow("2/10s", clock=clock)
    assert admitted(fixed, 5) == 2
    assert fixed.peek().retry_after == pytest.approx(3.0)
    clock.set(10.0)
    assert admitted(fixed, 5) == 2
    assert fixed.peek().retry_after == pytest.approx(10.0)


@pytest.mark.parametrize("kind", WINDOWS)
def test_backward_clock_adds_nothing(kind):
    clock = ManualClock(start=100.0)
    limiter = kind("3/10s", clock=clock)
    assert admitted(limiter, 9) == 3
    clock.set(55.0)
    assert admitted(limiter, 9) == 0
    clock.set(101.0)
    assert admitted(limiter, 9) == 0
    clock.set(111.0)
    assert admitted(limiter, 9) == 3


@pytest.mark.parametrize("kind", [SlidingWindowLog, SlidingWindowCounter])
def test_backward_clock_while_counting(kind):
    clock = ManualClock(start=100.0)
    limiter = kind("3/10s", clock=clock)
    assert limiter.try_acquire()
    clock.set(50.0)
    assert limiter.try_acquire()
    clock.set(105.0)
    assert admitted(limiter, 9) == 1


@pytest.mark.parametrize("kind", WINDOWS)
def test_costs_and_settling(kind):
    clock = ManualClock(start=1.0)
    limiter = kind("10/10s", clock=clock)
    first = limiter.reserve("a", 6)
    clock.advance(0.3)
    second = limiter.reserve("a", 3)
    first.settle(1)
    assert limiter.peek("a").remaining == 6
    second.cancel()
    assert limiter.peek("a").remaining == 9
    limiter.reserve("a", 1).settle(30)
    assert limiter.peek("a").remaining == 0
    limiter.reset("a")
    assert limiter.peek("a").remaining == 10
    late = limiter.reserve("b", 2)
    limiter.reset()
    late.settle(5)
    assert limiter.peek("b").remaining == 7
    gone = limiter.reserve("c", 2)
    limiter.reset()
    gone.cancel()
    assert limiter.peek("c").remaining == 10
    fraction = limiter.reserve("d", 0.1)
    limiter.reserve("d", 0.2).cancel()
    fraction.cancel()
    assert limiter.peek("d", 10)


@pytest.mark.parametrize("kind", WINDOWS)
def test_update(kind):
    clock = ManualClock(start=0.0)
    limiter = kind("4/10s", clock=clock)
    assert admitted(limiter, 9) == 4
    limiter.update(limit=6)
    assert admitted(limiter, 9) == 2
    limiter.update(limit=2)
    assert not limiter.peek()
    assert limiter.peek().remaining == 0
    assert limiter.window == 10
    limiter.update(limit="3/5s")
    assert (limiter.limit, limiter.window) == (3, 5)
    clock.advance(11)
    assert admitted(limiter, 9) == 3
    with pytest.raises(InvalidArgument) as caught:
        limiter.update(limit=0)
    assert caught.value.parameter == "limit"


@pytest.mark.parametrize("kind", WINDOWS)
@pytest.mark.parametrize("cost", [0, -1, 6, float("nan"), "1", None])
def test_bad_costs(kind, cost):
    limiter = kind("5/s")
    for call in (limiter.try_acquire, limiter.peek, limiter.acquire):
        with pytest.raises(InvalidArgument) as caught:
            call("a", cost)
        assert caught.value.parameter == "cost"
        assert "5" in caught.value.accepted
    with pytest.raises(InvalidKey):
        limiter.try_acquire({})


def test_bad_windows():
    for kind in WINDOWS:
        with pytest.raises(InvalidArgument) as caught:
            kind("5/s", window=3)
        assert caught.value.parameter == "window"
        with pytest.raises(InvalidArgument) as caught:
            kind(5, window=0)
        assert caught.value.parameter == "window"
    for slot in (0, -1, 2.0, 1e-6, float("nan")):
        with pytest.raises(InvalidArgument) as caught:
            SlidingWindowCounter("5/s", slot=slot)
        assert caught.value.parameter == "slot"
    counter = SlidingWindowCounter("5/s")
    with pytest.raises(InvalidArgument):
        counter.update(limit="5/50ms")
    assert counter.window == 1


@pytest.mark.parametrize("kind", WINDOWS)
def test_guard(kind):
    clock = ManualClock(start=0.0)
    f = kind("1/10s", clock=clock, name="logins")(lambda: 1)
    assert f() == 1
    with pytest.raises(RateLimited, match="logins") as caught:
        f()
    assert 9 < caught.value.retry_after < 11


def test_leaky_bucket_spaces_calls():
    clock = ManualClock(start=0.0)
    bucket = LeakyBucket("10/s", clock=clock)
    assert bucket.rate == 10
    assert bucket.try_acquire()
    no = bucket.try_acquire()
    assert not no
    assert no.retry_after == pytest.approx(0.1)
    assert no.remaining == 0
    times = []
    for _ in range(3):
        bucket.acquire()
        times.append(clock.monotonic())
    assert times == pytest.approx([0.1, 0.2, 0.3])
    bucket.acquire(cost=5)
    bucket.acquire()
    assert clock.monotonic() == pytest.approx(0.9)
    clock.advance(50.0)  # no credit for idle time
    assert admitted(bucket, 5) == 1
    bucket.update(rate="1/s")
    clock.advance(0.1)
    assert admitted(bucket, 5) == 1
    assert bucket.peek().retry_after == pytest.approx(1.0)
    bucket.reserve(timeout=None).cancel()
    assert bucket.peek()
    with pytest.raises(InvalidArgument) as caught:
        LeakyBucket("1/s", queue=-1)
    assert caught.value.parameter == "queue"
    with pytest.raises(InvalidArgument):
        bucket.try_acquire(cost=float("inf"))
