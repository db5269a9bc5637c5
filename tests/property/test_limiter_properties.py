"""What every limiter promises, for any sequence of calls."""

from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hastack.ratelimit import (
    AllOf,
    FixedWindow,
    LeakyBucket,
    SlidingWindowCounter,
    SlidingWindowLog,
    TokenBucket,
)
from hastack.testing import ManualClock

EPSILON = 1e-6

gaps = st.one_of(
    st.just(0.0), st.floats(0.0, 0.05), st.floats(0.0, 3.0), st.sampled_from([0.1, 0.2, 1.0])
)
starts = st.sampled_from([0.0, 1.7, 1000.0, 86_400.123, 4e6])
rates = st.floats(0.5, 500.0)
bursts = st.floats(1.0, 50.0)


def play(limiter, clock, calls):
    """Make the calls; the (time, cost) of those that were allowed."""
    passed = []
    for gap, share in calls:
        clock.advance(gap)
        cost = max(1.0, share * limit_of(limiter))
        if limiter.try_acquire("k", cost):
            passed.append((clock.monotonic(), cost))
    return passed


def limit_of(limiter):
    return limiter.burst if isinstance(limiter, TokenBucket) else limiter.limit


calls = st.lists(st.tuples(gaps, st.sampled_from([0.0, 0.0, 0.0, 0.3, 1.0])), max_size=60)


@given(starts, rates, bursts, calls)
def test_token_bucket_bound_in_every_window(start, rate, burst, calls):
    clock = ManualClock(start=start)
    passed = play(TokenBucket(rate, burst=burst, clock=clock), clock, calls)
    for i, (first, _) in enumerate(passed):
        total = 0.0
        for last, cost in passed[i:]:
            total += cost
            assert total <= burst + rate * (last - first) + EPSILON


@given(starts, st.integers(1, 20), st.sampled_from([0.5, 1.0, 2.5]), calls)
@pytest.mark.parametrize("kind", [SlidingWindowLog, SlidingWindowCounter])
def test_sliding_bound_in_every_window(kind, start, limit, window, calls):
    clock = ManualClock(start=start)
    passed = play(kind(limit, window=window, clock=clock), clock, calls)
    for i, (first, _) in enumerate(passed):
        inside = [cost for at, cost in passed[i:] if at < first + window - EPSILON]
        assert sum(inside) <= limit + EPSILON


@given(starts, st.integers(1, 20), st.sampled_from([0.5, 1.0, 2.5]), calls)
def test_fixed_bound_in_aligned_windows(start, limit, window, calls):
    clock = ManualClock(start=start)
    passed = play(FixedWindow(limit, window=window, clock=clock), clock, calls)
    counts = {}
    for at, cost in passed:
        number = (at + 1e-9) // window
        counts[number] = counts.get(number, 0.0) + cost
    assert all(count <= limit + EPSILON for count in counts.values())


@given(starts, st.floats(0.5, 100.0), st.lists(gaps, max_size=60))
def test_leaky_bucket_spacing(start, rate, gaps):
    clock = ManualClock(start=start)
    bucket = LeakyBucket(rate, clock=clock)
    passed = []
    for gap in gaps:
        clock.advance(gap)
        if bucket.try_acquire():
            passed.append(clock.monotonic())
    assert all(b - a >= 1 / rate - EPSILON for a, b in pairwise(passed))


# Binary fractions are exact in floats: no tolerance between the limiter and its oracle.
ticks = st.integers(0, 4096).map(lambda n: n / 1024)


@given(
    st.integers(-3, 6),
    st.integers(1, 40),
    st.lists(st.tuples(ticks, st.integers(1, 12)), max_size=80),
)
def test_token_bucket_oracle(exponent, burst, calls):
    rate = 2.0**exponent
    clock = ManualClock(start=0.0)
    bucket = TokenBucket(rate, burst=burst, clock=clock)
    tokens, at = Fraction(burst), Fraction(0)
    for gap, wish in calls:
        clock.advance(gap)
        now = Fraction(clock.monotonic())
        tokens = min(Fraction(burst), tokens + (now - at) * Fraction(rate))
        at = now
        cost = min(wish, burst)
        answer = bucket.try_acquire(None, cost)
        assert answer.allowed == (tokens >= cost)
        if answer.allowed:
            tokens -= cost
            assert answer.retry_after == 0.0
        else:
            assert answer.retry_after == pytest.approx(float((cost - tokens) / Fraction(rate)))
        assert answer.remaining == int(tokens)
        assert answer.reset_after == pytest.approx(float((burst - tokens) / Fraction(rate)))


@given(st.integers(1, 12), st.lists(st.tuples(ticks, st.integers(1, 5)), max_size=80))
def test_window_log_oracle(limit, calls):
    clock = ManualClock(start=0.0)
    log = SlidingWindowLog(limit, window=2.0, clock=clock)
    passed = []
    for gap, wish in calls:
        clock.advance(gap)
        now = clock.monotonic()
        cost = min(wish, limit)
        used = sum(size for at, size in passed if at > now - 2.0)
        answer = log.try_acquire(None, cost)
        assert answer.allowed == (used + cost <= limit)
        assert answer.remaining == limit - used - cost * answer.allowed
        if answer:
            passed.append((now, cost))


@given(st.integers(1, 12), st.lists(st.tuples(ticks, st.integers(1, 5)), max_size=80))
def test_window_counter_oracle(limit, calls):
    clock = ManualClock(start=0.0)
    counter = SlidingWindowCounter(limit, window=2.0, slot=0.125, clock=clock)
    passed = []
    for gap, wish in calls:
        clock.advance(gap)
        now = clock.monotonic()
        cost = min(wish, limit)
        used = sum(size for at, size in passed if (at // 0.125 + 1) * 0.125 > now - 2.0)
        answer = counter.try_acquire(None, cost)
        assert answer.allowed == (used + cost <= limit)
        assert answer.remaining == limit - used - cost * answer.allowed
        if answer:
            passed.append((now, cost))


def every_limiter(clock):
    fast = TokenBucket("7/s", burst=3, clock=clock)
    return [
        TokenBucket("7/s", burst=4, clock=clock),
        TokenBucket("7/s", burst=4, start="warm-up", warm_up=2.0, clock=clock),
        SlidingWindowLog("4/s", clock=clock),
        SlidingWindowCounter("4/s", clock=clock),
        FixedWindow("4/s", clock=clock),
        LeakyBucket("7/s", clock=clock),
        AllOf(fast, SlidingWindowLog("4/s", clock=clock)),
    ]


@given(starts, st.integers(0, 6), st.lists(st.tuples(gaps, st.integers(1, 3)), max_size=40))
def test_retry_after_is_right_and_a_refusal_takes_nothing(start, which, calls):
    clock = ManualClock(start=start)
    limiter = every_limiter(clock)[which]
    for gap, cost in calls:
        clock.advance(gap)
        foretold = limiter.peek("k", cost)
        before = limiter.peek("k").remaining
        answer = limiter.try_acquire("k", cost)
        assert foretold.allowed == answer.allowed
        if answer:
            continue
        assert limiter.peek("k").remaining == before
        assert answer.retry_after == pytest.approx(foretold.retry_after)
        assert answer.retry_after > 0.0
        if answer.retry_after > 1e-3:
            clock.advance(answer.retry_after - 1e-4)
            assert not limiter.peek("k", cost)
            clock.advance(1e-4)
        else:
            clock.advance(answer.retry_after)
        if not isinstance(limiter, AllOf):
            assert limiter.peek("k", cost)


@given(rates, bursts, st.integers(1, 40))
def test_saturated_bucket_gives_its_rate(rate, burst, seconds):
    clock = ManualClock(start=0.0)
    bucket = TokenBucket(rate, burst=burst, clock=clock)
    while bucket.try_acquire():
        pass
    count = 0
    end = float(seconds) / rate * 5
    while True:
        wait = bucket.peek().retry_after
        if clock.monotonic() + wait > end:
            break
        clock.advance(wait)
        assert bucket.try_acquire()
        count += 1
    assert count >= int(rate * end) - 1


@given(rates, bursts, st.integers(1, 30), st.floats(0.0, 3.0))
def test_n_at_once_wait_as_long_as_n_times_one(rate, burst, n, idle):
    n = min(n, int(burst))
    clocks = [ManualClock(start=0.0) for _ in range(2)]
    one, many = [TokenBucket(rate, burst=burst, clock=clock) for clock in clocks]
    for bucket, clock in zip((one, many), clocks, strict=True):
        bucket.acquire(cost=int(burst))
        clock.advance(idle)
    one.acquire(cost=n)
    for _ in range(n):
        many.acquire()
    assert clocks[0].monotonic() == pytest.approx(clocks[1].monotonic(), abs=1e-6)
    assert one.peek().reset_after == pytest.approx(many.peek().reset_after, abs=1e-6)


@given(st.integers(0, 4), st.lists(st.floats(0.0, 30.0), min_size=1, max_size=60))
def test_backward_clock_adds_nothing(which, readings):
    clock = ManualClock(start=0.0)
    kinds = [
        (lambda: TokenBucket("2/s", burst=3, clock=clock), 3, 2.0),
        (lambda: SlidingWindowLog(3, window=1.0, clock=clock), 6, 3.0),
        (lambda: SlidingWindowCounter(3, window=1.0, clock=clock), 6, 3.0),
        (lambda: FixedWindow(3, window=1.0, clock=clock), 6, 3.0),
        (lambda: LeakyBucket("2/s", clock=clock), 1, 2.0),
    ]
    make, burst, rate = kinds[which]
    limiter = make()
    count, low, high = 0, readings[0], readings[0]
    for now in readings:
        clock.set(now)
        low, high = min(low, now), max(high, now)
        count += sum(bool(limiter.try_acquire()) for _ in range(4))
        # However the readings jump about, only the time between the extremes can give permits.
        assert count <= burst + rate * (high - low) + EPSILON


@given(st.lists(st.tuples(rates, bursts, st.floats(0.0, 0.2), st.floats(0.01, 1.0)), max_size=12))
def test_updates_keep_the_share(steps):
    clock = ManualClock(start=5.0)
    bucket = TokenBucket("10/s", burst=10, clock=clock)
    bucket.try_acquire("k", 6)
    for rate, burst, gap, part in steps:
        share = bucket.peek("k").level / bucket.burst
        bucket.update(rate=rate, burst=burst)
        level = bucket.peek("k").level
        assert level / burst == pytest.approx(share, abs=1e-6)
        clock.advance(gap)
        grown = bucket.peek("k").level
        assert grown == pytest.approx(min(burst, level + rate * gap), abs=1e-5)
        bucket.try_acquire("k", max(burst * part, 1e-3))
        refused = bucket.try_acquire("k", burst)
        if not refused:
            clock.advance(refused.retry_after)
            assert bucket.peek("k", burst)
            bucket.try_acquire("k", burst / 2)


@settings(max_examples=40)
@given(st.integers(1, 30), st.lists(st.tuples(st.integers(0, 60), gaps), max_size=150))
def test_a_bounded_table_never_forgets_a_debt(max_keys, calls):
    """With a table of any size, no key gets more than with a table that holds everybody."""
    clock = ManualClock(start=0.0)
    small = TokenBucket("1/s", burst=2, max_keys=max_keys, clock=clock)
    large = TokenBucket("1/s", burst=2, clock=clock)
    for key, gap in calls:
        clock.advance(gap)
        answer = large.peek(key)
        turned_away = small.stats().turned_away
        got = small.try_acquire(key)
        if small.stats().turned_away == turned_away:
            assert got.allowed == answer.allowed
            large.try_acquire(key)
        else:
            assert not got
        assert len(small) <= max_keys
