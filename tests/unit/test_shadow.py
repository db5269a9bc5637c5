"""Guards in the shadow: they decide and record, and every call passes."""

import asyncio
import logging

import pytest

from hastack import config, events, ratelimit
from hastack.errors import CircuitOpen, DeadlineExceeded, InvalidArgument, RateLimited
from hastack.testing import ManualClock


@pytest.fixture
def clock():
    return ManualClock(start=100.0)


@pytest.fixture
def seen():
    with events.record(ratelimit.ShadowRejected, ratelimit.RequestRejected) as found:
        yield found


def limiters(clock):
    return [
        ratelimit.TokenBucket("1/min", name="it", clock=clock),
        ratelimit.SlidingWindowLog("1/min", name="it", clock=clock),
        ratelimit.SlidingWindowCounter("1/min", name="it", clock=clock),
        ratelimit.FixedWindow("1/min", name="it", clock=clock),
        ratelimit.LeakyBucket("1/min", name="it", clock=clock),
        ratelimit.AllOf(ratelimit.TokenBucket("1/min", clock=clock), name="it"),
        ratelimit.StepRule(ratelimit.TokenBucket("1/min", name="it", clock=clock), max_p95=1.0),
    ]


@pytest.mark.parametrize("which", range(7))
def test_every_limiter_lets_all_pass_and_says_so_once_each(which, clock, seen):
    shadow = ratelimit.Shadow(limiters(clock)[which])
    calls = []
    guarded = shadow(calls.append)
    for number in range(3):
        guarded(number)
    assert calls == [0, 1, 2]
    assert [type(event) for event in seen] == [ratelimit.ShadowRejected] * 2
    assert {event.name for event in seen} == {"it"}
    assert all(event.retry_after == pytest.approx(60.0, abs=60.0) for event in seen)
    assert shadow.refusals == 2
    assert clock.monotonic() == 100.0  # nobody waited


@pytest.mark.parametrize("which", range(6))
def test_asked_directly_the_answer_is_a_yes_and_the_counters_are_the_guards(which, clock, seen):
    guard = limiters(clock)[which]
    shadow = ratelimit.Shadow(guard)
    assert [bool(shadow.try_acquire("ada")) for _ in range(3)] == [True] * 3
    assert bool(shadow.acquire("ada", timeout=5.0))
    assert bool(asyncio.run(shadow.acquire_async("ada")))
    assert [event.key for event in seen] == ["ada"] * 4
    assert not guard.peek("ada")  # the first call was counted
    assert not shadow.peek("ada")
    assert bool(shadow.try_acquire("bob"))
    assert len(seen) == 4


def test_a_key_function_names_the_key_and_the_cost(clock, seen):
    bucket = ratelimit.TokenBucket(
        "1/min", burst=2, key=lambda user, n: user, cost=lambda user, n: n, clock=clock
    )
    guarded = ratelimit.Shadow(bucket, name="trial")(lambda user, n: n)
    assert guarded("ada", 2) == 2
    assert guarded("ada", 1.5) == 1.5
    (event,) = seen
    assert (event.name, event.key, event.cost, event.reason) == ("trial", "ada", 1.5, "limited")
    assert event.retry_after == pytest.approx(90.0)


def test_a_rule_that_fails_lets_the_call_pass(clock, seen, caplog):
    bucket = ratelimit.TokenBucket("1/min", key=lambda user: user["id"], clock=clock)
    guarded = ratelimit.Shadow(bucket)(lambda user: user)
    with caplog.at_level(logging.ERROR, "hastack.ratelimit"):
        assert guarded({}) == {}
        assert guarded({}) == {}
    assert [(event.reason, type(event.error)) for event in seen] == [("error", KeyError)] * 2
    assert len(caplog.records) == 1
    assert bool(ratelimit.Shadow(bucket).try_acquire("ada", 1e9))
    assert isinstance(seen[-1].error, InvalidArgument)
    bucket.close()
    assert bool(ratelimit.Shadow(bucket).try_acquire("ada"))


def test_a_call_that_would_wait_is_delayed_one_that_waits_too_long_is_limited(clock, seen):
    guard = ratelimit.TokenBucket("1/s", burst=1, max_wait=1.5, clock=clock)
    shadow = ratelimit.Shadow(guard)
    for _ in range(2):
        shadow(lambda: None)()
    assert [event.reason for event in seen] == ["delayed"]
    slow = ratelimit.Shadow(ratelimit.TokenBucket("1/min", max_wait=1.5, clock=clock))
    for _ in range(2):
        slow(lambda: None)()
    assert [event.reason for event in seen] == ["delayed", "limited"]


def test_a_concurrency_limit_counts_those_it_would_have_let_in(clock, seen):
    guard = ratelimit.ConcurrencyLimit(1, clock=clock)
    shadow = ratelimit.Shadow(guard)
    with shadow, shadow:
        assert guard.in_flight() == 1
        assert len(seen) == 1
    assert guard.in_flight() == 0
    assert bool(shadow.try_acquire())
    assert bool(shadow.try_acquire())
    shadow.release()
    assert guard.in_flight() == 1  # of two calls, one the guard never knew of
    shadow.release()
    assert guard.in_flight() == 0


def test_permits_by_hand(clock, seen):
    guard = ratelimit.AdaptiveLimit(initial=1, clock=clock)
    shadow = ratelimit.Shadow(guard)
    first, second = shadow.try_acquire(), shadow.try_acquire()
    assert first.allowed
    assert second.allowed
    second.failure(TimeoutError())
    assert guard.inflight == 1
    first.success()
    assert guard.inflight == 0
    assert [event.reason for event in seen] == ["limited"]


def test_reservations_are_kept_or_are_of_nothing(clock, seen):
    guard = ratelimit.TokenBucket("10/min", clock=clock)
    shadow = ratelimit.Shadow(guard)
    with shadow.reserve(cost=6.0) as estimate:
        estimate.settle(4.0)
    assert guard.peek().remaining == 6
    with shadow.reserve(cost=9.0) as estimate:
        estimate.settle(2.0)
    assert guard.peek().remaining == 6
    assert [event.cost for event in seen] == [9.0]

    async def asked():
        async with await shadow.reserve_async(cost=6.0):
            pass

    asyncio.run(asked())
    assert guard.peek().remaining == 0
    both = ratelimit.Shadow(ratelimit.AllOf(guard, ratelimit.ConcurrencyLimit(1, clock=clock)))
    both.reserve(cost=1.0).settle(1.0)
    assert len(seen) == 2


def test_a_breaker_watches_outcomes_and_closes_again(clock, seen):
    breaker = ratelimit.CircuitBreaker(min_calls=2, open_for=5.0, jitter=0.0, clock=clock)
    shadow = ratelimit.Shadow(breaker)
    broken = [True]

    @shadow
    def fetch():
        if broken[0]:
            raise ConnectionError
        return "fine"

    for _ in range(2):
        with pytest.raises(ConnectionError):
            fetch()
    assert breaker.state.value == shadow.state.value == "open"
    with pytest.raises(ConnectionError):  # the call itself was made
        fetch()
    assert [(event.reason, event.retry_after) for event in seen] == [("circuit open", 5.0)]
    broken[0] = False
    clock.advance(5.0)
    assert fetch() == "fine"
    assert breaker.state.value == "closed"
    breaker.force_open()
    permit = shadow.try_acquire()
    assert permit.allowed
    permit.success()
    assert len(seen) == 2


def test_policies_run_the_call_once_and_say_what_they_would_have_done(clock, seen):
    tries = []

    def fail():
        tries.append(1)
        raise ConnectionError

    with pytest.raises(ConnectionError):
        ratelimit.Shadow(ratelimit.Retry(5, retry_on=ConnectionError))(fail)()
    with pytest.raises(ConnectionError):
        ratelimit.Shadow(ratelimit.Fallback(value=1))(fail)()
    with pytest.raises(ConnectionError):
        ratelimit.Shadow(ratelimit.Retry(5, retry_on=KeyError))(fail)()
    assert tries == [1, 1, 1]
    again = ratelimit.Retry(5, retry_result=lambda result: result is None)
    assert ratelimit.Shadow(again)(lambda: None)() is None

    shadow = ratelimit.Shadow(ratelimit.Timeout(1.0))
    shadow._clock = clock
    shadow(lambda: clock.advance(2.0))()
    with shadow:
        clock.advance(0.5)
    with shadow:
        clock.advance(2.0)
    hedge = ratelimit.Shadow(ratelimit.Hedge(1.0))
    hedge._clock = clock
    hedge(lambda: clock.advance(2.0))()
    reasons = [event.reason for event in seen]
    assert reasons == ["retry", "fallback", "retry", "timeout", "timeout", "hedge"]


def test_policies_of_coroutines(clock, seen):
    shadow = ratelimit.Shadow(ratelimit.Timeout(0.001))
    shadow._clock = clock

    async def slow():
        clock.advance(1.0)
        await asyncio.sleep(0)
        return 7

    async def main():
        async with shadow:
            pass
        return await shadow(slow)()

    assert asyncio.run(main()) == 7
    assert [event.reason for event in seen] == ["timeout"]


def test_a_predicate_that_raises_is_recorded(seen):
    def broken(error):
        raise LookupError

    with pytest.raises(ConnectionError):
        ratelimit.Shadow(ratelimit.Retry(retry_on=broken)).call(_refuse)
    assert isinstance(seen[0].error, LookupError)


def _refuse():
    raise ConnectionError


def test_a_pipeline_asks_each_of_its_guards(clock, seen):
    row = ratelimit.compose(
        ratelimit.TokenBucket("1/min", name="a", clock=clock),
        ratelimit.TokenBucket("1/min", name="b", clock=clock),
        ratelimit.Timeout(10.0),
    )
    shadow = ratelimit.Shadow(row)
    guarded = shadow(lambda: 1)
    assert (guarded(), guarded()) == (1, 1)
    with shadow:
        pass
    assert [event.name for event in seen] == ["a", "b"] * 2
    assert shadow.refusals == 4
    assert ratelimit.compose(shadow, ratelimit.Timeout(1.0))(lambda: 2)() == 2
    shadow.switch(active=False)
    with pytest.raises(RateLimited):
        guarded()


async def _ticks():
    yield 1
    yield 2


def test_all_kinds_of_callables(clock, seen):
    shadow = ratelimit.Shadow(ratelimit.TokenBucket("1/min", clock=clock))

    @shadow
    async def coroutine():
        return 1

    @shadow
    def generator():
        yield 1

    async def main():
        found = [await coroutine(), await coroutine()]
        found += [tick async for tick in shadow(_ticks)()]
        async with shadow:
            return found

    assert asyncio.run(main()) == [1, 1, 1, 2]
    assert list(generator()) == [1]
    assert len(seen) == 4


def test_put_in_force_and_back(clock, seen):
    shadow = ratelimit.Shadow(ratelimit.TokenBucket("1/min", clock=clock))
    guarded = shadow(lambda: 1)
    guarded()
    shadow.switch(active=False)
    assert not shadow.active
    with pytest.raises(RateLimited):
        guarded()
    assert not shadow.try_acquire()
    with pytest.raises(RateLimited):
        shadow.acquire(timeout=0.0)
    with pytest.raises(RateLimited):
        asyncio.run(shadow.acquire_async(timeout=0.0))
    with pytest.raises(RateLimited):
        shadow.reserve()
    with pytest.raises(RateLimited):
        asyncio.run(shadow.reserve_async())
    shadow.switch(active=True)
    assert guarded() == 1
    assert isinstance(seen[-1], ratelimit.ShadowRejected)
    policy = ratelimit.Shadow(ratelimit.Timeout(1e-9), active=False)
    with pytest.raises(DeadlineExceeded):
        policy(lambda: ratelimit.Timeout(1.0)(lambda: None)())()
    breaker = ratelimit.Shadow(ratelimit.CircuitBreaker(), active=False)
    breaker.force_open()
    with pytest.raises(CircuitOpen):
        breaker(lambda: None)()


def test_a_waiting_guard_waits_once_in_force(clock):
    shadow = ratelimit.Shadow(ratelimit.LeakyBucket("1/s", clock=clock), active=False)
    assert [shadow(clock.monotonic)() for _ in range(2)] == [100.0, 101.0]

    async def main():
        shadow.switch(active=True)
        await shadow(_nothing)()
        async with shadow:
            return clock.monotonic()

    assert asyncio.run(main()) == 101.0


async def _nothing():
    pass


def test_bad_arguments():
    with pytest.raises(InvalidArgument, match="guard"):
        ratelimit.Shadow(7)
    with pytest.raises(InvalidArgument, match="active"):
        ratelimit.Shadow(ratelimit.Timeout(1.0), active=1)
    with pytest.raises(InvalidArgument, match="guard"):
        ratelimit.Shadow(ratelimit.Timeout(1.0)).try_acquire()
    with pytest.raises(InvalidArgument, match="guard"):
        ratelimit.Shadow(ratelimit.Timeout(1.0)).reserve()
    with pytest.raises(InvalidArgument, match="guard"):
        asyncio.run(ratelimit.Shadow(ratelimit.Timeout(1.0)).reserve_async())
    with pytest.raises(InvalidArgument, match="guard"):
        step = ratelimit.StepRule(ratelimit.TokenBucket("1/s"), max_p95=1.0)
        ratelimit.Shadow(step).try_acquire()
    with pytest.raises(AttributeError):
        ratelimit.Shadow(ratelimit.Timeout(1.0)).peek  # noqa: B018


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("token-bucket", {"rate": "1/min"}),
        ("concurrency-limit", {"limit": 1}),
        ("adaptive-limit", {}),
        ("circuit-breaker", {}),
        ("retry", {}),
        ("timeout", {"seconds": 1}),
    ],
)
def test_out_of_configuration(kind, more):
    entry = {"kind": kind, "shadow": True, **more}
    settings = config.load(env=None, override={"ratelimit": {"it": entry}}).ratelimit["it"]
    guard = ratelimit.from_config(settings, name="it")
    assert isinstance(guard, ratelimit.Shadow)
    assert guard.name == "it"
    assert guard.active
