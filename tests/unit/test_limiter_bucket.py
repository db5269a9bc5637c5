import asyncio
import math

import pytest

from hastack import events
from hastack.errors import ClosedError, HastackError, InvalidArgument, InvalidKey, RateLimited
from hastack.ratelimit import Decision, RequestRejected, TokenBucket
from hastack.ratelimit._decision import decision
from hastack.testing import ManualClock


def make(rate="10/s", **options):
    clock = ManualClock(start=0.0)
    return TokenBucket(rate, clock=clock, **options), clock


def admitted(limiter, tries, key=None, cost=1.0):
    return sum(bool(limiter.try_acquire(key, cost)) for _ in range(tries))


def test_burst_then_rate():
    bucket, clock = make(burst=5)
    assert admitted(bucket, 20) == 5
    clock.advance(0.1)
    assert admitted(bucket, 20) == 1
    clock.advance(100)
    assert admitted(bucket, 20) == 5


def test_decision_tells_everything():
    bucket, clock = make(burst=3)
    yes = bucket.try_acquire("a")
    assert (yes.allowed, yes.remaining, yes.retry_after) == (True, 2, 0.0)
    assert yes.reset_after == pytest.approx(0.1)
    bucket.try_acquire("a", 2)
    no = bucket.try_acquire("a", 2)
    assert not no
    assert no.remaining == 0
    assert no.retry_after == pytest.approx(0.2)
    assert no.reset_after == pytest.approx(0.3)
    clock.advance(no.retry_after)
    assert bucket.try_acquire("a", 2)
    assert repr(yes).startswith("Decision(allowed=True, remaining=2, retry_after=0, reset_after=")
    assert decision(False, -1.0, 0.5, 1.0).remaining == 0
    assert isinstance(yes, Decision)


def test_keys_are_apart_and_none_is_one():
    bucket, _ = make(burst=1)
    assert bucket.try_acquire("a")
    assert bucket.try_acquire("b")
    assert bucket.try_acquire(("a", 1))
    assert bucket.try_acquire()
    assert not bucket.try_acquire(None)
    assert len(bucket) == 4
    assert bool(bucket)


def test_rejected_cost_takes_nothing():
    bucket, _ = make(burst=5)
    bucket.try_acquire(cost=3)
    assert not bucket.try_acquire(cost=3)
    assert bucket.peek().remaining == 2
    assert bucket.try_acquire(cost=2)


def test_peek_takes_nothing_and_agrees():
    bucket, clock = make(burst=2)
    assert bucket.peek("new").remaining == 2
    assert len(bucket) == 0
    bucket.try_acquire("a", 2)
    clock.advance(0.05)
    peeked, asked = bucket.peek("a"), bucket.try_acquire("a")
    for field in ("allowed", "remaining", "retry_after", "reset_after"):
        assert getattr(peeked, field) == pytest.approx(getattr(asked, field))
    assert bucket.peek("a", 2).retry_after == pytest.approx(0.15)


def test_default_burst_is_the_quota():
    assert TokenBucket("500/min").burst == 500
    assert TokenBucket("0.2/s").burst == 1
    assert TokenBucket("500/min").rate == pytest.approx(500 / 60)


@pytest.mark.parametrize(
    ("options", "parameter"),
    [
        ({"burst": 0.5}, "burst"),
        ({"burst": math.nan}, "burst"),
        ({"burst": math.inf}, "burst"),
        ({"burst": "3"}, "burst"),
        ({"cost": 11}, "cost"),
        ({"cost": 0}, "cost"),
        ({"cost": "1"}, "cost"),
        ({"max_keys": 0}, "max_keys"),
        ({"max_waiting": -1}, "max_waiting"),
        ({"max_wait": -1}, "max_wait"),
        ({"max_wait": math.nan}, "max_wait"),
        ({"when_full": "explode"}, "when_full"),
        ({"start": "later"}, "start"),
        ({"start": "warm-up"}, "warm_up"),
        ({"warm_up": 3.0}, "warm_up"),
        ({"start": "warm-up", "warm_up": -3.0}, "warm_up"),
        ({"key": "user"}, "key"),
    ],
)
def test_bad_options(options, parameter):
    with pytest.raises(InvalidArgument) as caught:
        TokenBucket("10/s", **options)
    assert caught.value.parameter == parameter


@pytest.mark.parametrize("cost", [0, -1, 11, math.nan, math.inf, "1", None, [], 10.000001])
@pytest.mark.parametrize("method", ["try_acquire", "peek", "acquire", "reserve"])
@pytest.mark.parametrize("changed", [False, True])
def test_bad_costs(cost, method, changed):
    bucket, _ = make()
    if changed:
        bucket.update(rate="20/s")
    with pytest.raises(InvalidArgument) as caught:
        getattr(bucket, method)("a", cost)
    assert caught.value.parameter == "cost"
    assert "10" in caught.value.accepted
    assert bucket.peek("a").remaining == 10


@pytest.mark.parametrize("changed", [False, True])
def test_unhashable_key(changed):
    bucket, _ = make(key=lambda key: key)
    if changed:
        bucket.update(rate="20/s")
    for call in (bucket.try_acquire, bucket.peek, bucket.acquire, bucket.reset, bucket(print)):
        with pytest.raises(InvalidKey) as caught:
            call(["a"])
        assert caught.value.parameter == "key"
        assert isinstance(caught.value, TypeError)


def test_errors_of_the_key_itself_pass():
    class Key:
        def __hash__(self):
            return 1

        def __eq__(self, other):
            raise TypeError("mine")

    bucket, _ = make()
    bucket.try_acquire(Key())
    with pytest.raises(TypeError, match="mine"):
        bucket.try_acquire(Key())
    assert bucket.try_acquire("a")  # and no lock stays held


def test_timeouts_are_checked():
    bucket, _ = make(burst=1)
    bucket.try_acquire()
    with pytest.raises(InvalidArgument) as caught:
        bucket.acquire(timeout=-1)
    assert caught.value.parameter == "timeout"
    with pytest.raises(InvalidArgument):
        asyncio.run(bucket.acquire_async(timeout=math.nan))


def test_closed():
    bucket, _ = make(name="api")
    guarded = bucket(lambda: 1)
    bucket.close()
    bucket.close()
    for call in (bucket.try_acquire, bucket.peek, bucket.acquire, bucket.reserve, guarded):
        with pytest.raises(ClosedError, match="api is closed"):
            call()
    with pytest.raises(ClosedError):
        asyncio.run(bucket.acquire_async())


def test_backward_clock_adds_nothing():
    bucket, clock = make(burst=3)
    clock.set(100.0)
    assert admitted(bucket, 9) == 3
    clock.set(50.0)
    assert admitted(bucket, 9) == 0
    clock.set(100.0)
    assert admitted(bucket, 9) == 0
    clock.set(100.1)
    assert admitted(bucket, 9) == 1


def test_start_empty():
    bucket, clock = make(burst=5, start="empty")
    assert not bucket.try_acquire("a")
    clock.advance(0.1)
    assert admitted(bucket, 9, "a") == 1
    clock.advance(0.2)
    assert admitted(bucket, 9, "b") == 3  # fills from the start of the limiter
    clock.advance(100)
    assert admitted(bucket, 9, "new") == 5


def test_reset_fills_even_when_it_started_empty():
    bucket, _ = make(burst=5, start="empty")
    bucket.reset("a")
    assert admitted(bucket, 9, "a") == 5
    assert admitted(bucket, 9, "b") == 0
    bucket.reset()
    assert admitted(bucket, 9, "b") == 5


def test_reset():
    bucket, _ = make(burst=2)
    for key in "ab":
        assert admitted(bucket, 9, key) == 2
    bucket.reset("a")
    assert admitted(bucket, 9, "a") == 2
    assert admitted(bucket, 9, "b") == 0
    bucket.reset()
    assert admitted(bucket, 9, "b") == 2


def test_warm_up_ramps_from_a_third():
    bucket, clock = make("300/s", burst=1000, start="warm-up", warm_up=10.0)
    seen = []
    for _ in range(12):
        clock.advance(1.0)
        seen.append(admitted(bucket, 400))
    # The rate goes linearly from 100 to 300 over ten seconds.
    assert seen == [110, 130, 150, 170, 190, 210, 230, 250, 270, 290, 300, 300]


def test_warm_up_waits_are_exact():
    bucket, clock = make("300/s", burst=1000, start="warm-up", warm_up=10.0)
    for cost in (1, 50, 900):
        no = bucket.try_acquire("a", cost)
        assert not no
        clock.advance(no.retry_after - 1e-6)
        assert not bucket.try_acquire("a", cost)
        clock.advance(2e-6)
        assert bucket.try_acquire("a", cost)
    bucket.update(rate="600/s")  # in the middle of it
    no = bucket.try_acquire("a", 1000)
    clock.advance(no.retry_after - 1e-6)
    assert not bucket.try_acquire("a", 1000)
    clock.advance(2e-6)
    assert bucket.try_acquire("a", 1000)


def test_update_during_warm_up_keeps_the_share():
    bucket, clock = make("300/s", burst=1000, start="warm-up", warm_up=10.0)
    clock.advance(4.0)
    before = bucket.peek("a").level
    assert before == pytest.approx(560.0)
    bucket.update(rate="600/s", burst=500)
    assert bucket.peek("a").level == pytest.approx(before / 2)
    clock.advance(0.1)  # at 600/s times the 0.6 that the warm-up has reached
    assert bucket.peek("a").level == pytest.approx(before / 2 + 36.2, abs=0.01)


def test_update_keeps_the_share():
    bucket, clock = make(burst=10)
    bucket.try_acquire("a", 5)
    bucket.update(rate="20/s", burst=100)
    assert bucket.peek("a").remaining == 50
    assert bucket.peek("b").remaining == 100
    assert (bucket.rate, bucket.burst) == (20, 100)
    clock.advance(1.0)
    assert bucket.peek("a").remaining == 70
    bucket.update(burst=10)
    assert bucket.peek("a").remaining == 7
    bucket.update(rate=1.0)
    clock.advance(2.0)
    assert bucket.peek("a").remaining == 9
    no = bucket.try_acquire("a", 10)
    assert no.retry_after == pytest.approx(1.0)
    clock.advance(no.retry_after)
    assert bucket.try_acquire("a", 10)
    with pytest.raises(InvalidArgument) as caught:
        bucket.update(burst=0)
    assert caught.value.parameter == "burst"


def test_reserve_settles_both_ways():
    bucket, clock = make(burst=10)
    first = bucket.reserve("a", 6)
    first.settle(4)
    first.settle(0)  # only the first counts
    assert first.settled
    assert bucket.peek("a").remaining == 6
    second = bucket.reserve("a", 2)
    second.settle(12)  # more than there is: owed
    assert bucket.peek("a").remaining == 0
    assert bucket.peek("a").retry_after == pytest.approx(0.7)
    clock.advance(0.7)
    assert bucket.try_acquire("a")
    third = bucket.reserve("b", 10)
    third.cancel()
    assert bucket.peek("b").remaining == 10
    with pytest.raises(RateLimited):
        bucket.reserve("a")
    for actual in (-1, math.nan, math.inf, "1"):
        with pytest.raises(InvalidArgument) as caught:
            bucket.reserve("c", 0.001).settle(actual)
        assert caught.value.parameter == "actual"


def test_reservation_of_a_forgotten_key():
    bucket, _ = make(burst=10)
    reserved = bucket.reserve("a", 5)
    bucket.reset()
    reserved.settle(7)
    assert bucket.peek("a").remaining == 8
    reserved = bucket.reserve("b", 5)
    bucket.reset()
    reserved.cancel()
    assert bucket.peek("b").remaining == 10


def test_reservation_as_a_block():
    bucket, _ = make(burst=10)
    with bucket.reserve("a", 4):
        pass
    assert bucket.peek("a").remaining == 6
    with pytest.raises(KeyError), bucket.reserve("a", 4):
        raise KeyError
    assert bucket.peek("a").remaining == 6

    async def main():
        async with await bucket.reserve_async("a", 3) as reserved:
            assert reserved.cost == 3
            reserved.settle(1)

    asyncio.run(main())
    assert bucket.peek("a").remaining == 5


def test_guards():
    bucket, clock = make(burst=2, key=lambda user, **_: user, cost=lambda user, size=1: size)

    @bucket
    def get(user, size=1):
        return user, size

    assert get("a") == ("a", 1)
    assert get("b", size=2) == ("b", 2)
    with pytest.raises(RateLimited) as caught:
        get("a", size=2)
    assert caught.value.name == "TokenBucket"
    assert caught.value.retry_after == pytest.approx(0.1)
    clock.advance(0.1)
    assert get("a", size=2) == ("a", 2)

    plain, _ = make(burst=1, cost=1)
    with plain:
        pass
    with pytest.raises(RateLimited, match=r"TokenBucket: rate limit exceeded; retry after 0\.1 s"):
        plain(lambda: 1)()


def test_guard_that_waits():
    bucket, clock = make(burst=1, max_wait=0.25)
    f = bucket(clock.monotonic)
    assert [f(), f()] == pytest.approx([0.0, 0.1])

    @bucket
    async def g():
        return clock.monotonic()

    async def main():
        return await asyncio.gather(*[g() for _ in range(4)], return_exceptions=True)

    *got, last = clock.run(main())
    assert got[0] == pytest.approx(0.2)
    assert got[1] == pytest.approx(0.3)
    assert isinstance(got[2], RateLimited)  # would come 0.3 s from now
    assert last.retry_after == pytest.approx(0.3)


def test_rejections_are_events():
    bucket, _ = make(burst=1, name="api")
    bucket.try_acquire("a")
    with events.record(RequestRejected) as seen:
        bucket.try_acquire("a")
        bucket.peek("a")
        with pytest.raises(RateLimited):
            bucket.acquire("a", timeout=0.05)
        with pytest.raises(RateLimited):
            bucket.acquire("a", timeout=0)
        with pytest.raises(RateLimited):
            bucket(lambda: 1)()
            bucket(lambda: 1)()
        bucket.update(rate="10/s", burst=1.5)
        bucket.try_acquire("a")
    assert [(e.name, e.key, e.reason) for e in seen] == [
        ("api", "a", "limited"),
        ("api", "a", "deadline"),
        ("api", "a", "limited"),
        ("api", None, "limited"),
        ("api", "a", "limited"),
    ]
    assert seen[0].retry_after == pytest.approx(0.1)
    assert seen[0].cost == 1.0


@pytest.mark.parametrize("changed", [False, True])
def test_raising_subscribers_change_no_decision(changed, caplog):
    def tell(listen):
        bucket, clock = make(burst=3)
        if changed:
            bucket.update(rate="30/s")
        answers = []
        for _ in range(40):
            answers.append(bucket.try_acquire("a").allowed)
            clock.advance(0.01)
        return answers

    quiet = tell(False)
    unsubscribe = events.subscribe(lambda event: 1 / 0, RequestRejected)
    try:
        assert tell(True) == quiet
    finally:
        unsubscribe()
    assert False in quiet


def test_a_subscriber_may_ask_the_limiter():
    bucket, _ = make(burst=1)
    seen = []
    unsubscribe = events.subscribe(
        lambda event: seen.append(bucket.peek(event.key).allowed), RequestRejected
    )
    try:
        bucket.try_acquire("a")
        bucket.try_acquire("a")
    finally:
        unsubscribe()
    assert seen == [False]


def test_every_error_is_one_of_ours():
    assert issubclass(InvalidArgument, HastackError)
    assert issubclass(RateLimited, HastackError)


def test_what_comes_back_late_does_not_come_on_top_of_what_the_bucket_gained_meanwhile():
    clock = ManualClock()
    bucket = TokenBucket("1/s", burst=10, clock=clock)
    held = bucket.reserve(cost=10)
    clock.advance(4.0)  # never taken, the bucket would have been full all along
    assert bucket.peek().remaining == 4
    assert bucket.try_acquire(cost=2)
    held.cancel()
    assert bucket.peek().remaining == 8


@pytest.mark.parametrize(("actual", "remaining"), [(0.0, 6), (3.0, 3), (6.0, 0), (10.0, 0)])
def test_a_settled_estimate_leaves_what_the_true_cost_would_have_left(actual, remaining):
    clock = ManualClock()
    bucket = TokenBucket("1/s", burst=10, clock=clock)
    assert bucket.try_acquire(cost=4)
    held = bucket.reserve(cost=6)
    clock.advance(2.0)
    assert bucket.try_acquire(cost=2)
    held.settle(actual)
    assert bucket.peek().remaining == remaining
