import asyncio
import threading

import pytest

from hastack import context, events
from hastack.errors import (
    Cancelled,
    ClosedError,
    ConcurrencyLimited,
    InvalidArgument,
    InvalidKey,
    RateLimited,
)
from hastack.ratelimit import AllOf, ConcurrencyLimit, RequestRejected, TokenBucket
from hastack.ratelimit._all_of import _AllCore, _Ask
from hastack.testing import ManualClock


def test_limit():
    limit = ConcurrencyLimit(2, name="db")
    assert limit.limit == 2
    assert limit.try_acquire()
    second = limit.try_acquire()
    assert second.remaining == 0
    no = limit.try_acquire()
    assert not no
    assert no.retry_after == 0.0
    assert not limit.peek()
    assert limit.in_flight() == 2
    limit.release()
    assert limit.peek()
    assert limit.try_acquire()
    limit.release()
    limit.release()
    limit.release()  # one too many is none
    assert limit.in_flight() == 0
    with (
        pytest.raises(ConcurrencyLimited, match="db: concurrency limit reached") as caught,
        limit,
        limit,
        limit,
    ):
        raise AssertionError
    assert caught.value.retry_after is None
    assert limit.in_flight() == 0


def test_guards_give_back_whatever_happens():
    limit = ConcurrencyLimit(1, key=lambda *a: a[0], cost=lambda *a: 1)

    @limit
    def call(key, error=None):
        assert limit.in_flight(key) == 1
        if error is not None:
            raise error
        return limit.in_flight(key)

    @limit
    async def sleep(key):
        await asyncio.sleep(60)

    async def main():
        task = asyncio.ensure_future(sleep("a"))
        await asyncio.sleep(0)
        assert limit.in_flight("a") == 1
        with pytest.raises(ConcurrencyLimited):
            await sleep("a")
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    assert call("a") == 1
    with pytest.raises(KeyError):
        call("a", KeyError())
    asyncio.run(main())
    assert len(limit) == 0


def test_reserve_holds_for_a_block():
    limit = ConcurrencyLimit(5)
    with limit.reserve("a", 3) as held:
        assert limit.in_flight("a") == 3
        assert held.cost == 3
    assert limit.in_flight("a") == 0
    held = limit.reserve("a", 2)
    held.settle(2)
    held.cancel()
    assert limit.in_flight("a") == 0

    async def main():
        async with await limit.reserve_async("a", 0.5):
            assert limit.in_flight("a") == 0.5

    asyncio.run(main())
    assert limit.in_flight("a") == 0


@pytest.mark.parametrize("value", [0, 0.5, -1, float("nan"), float("inf"), "3", None, True])
def test_bad_limits(value):
    for call in (ConcurrencyLimit, lambda v: ConcurrencyLimit(3).update(limit=v)):
        with pytest.raises(InvalidArgument) as caught:
            call(value)
        assert caught.value.parameter == "limit"


@pytest.mark.parametrize("cost", [0, -1, 4, float("nan"), "1", None])
def test_bad_costs_and_keys(cost):
    limit = ConcurrencyLimit(3)
    for call in (limit.try_acquire, limit.peek, limit.acquire, limit.reserve):
        with pytest.raises(InvalidArgument) as caught:
            call("a", cost)
        assert caught.value.parameter == "cost"
        with pytest.raises(InvalidKey):
            call([])
    assert len(limit) == 0


def test_a_key_that_cannot_be_compared():
    class Key:
        def __hash__(self):
            return 1

        def __eq__(self, other):
            raise TypeError("mine")

    limit = ConcurrencyLimit(3)
    limit.try_acquire(Key())
    with pytest.raises(TypeError, match="mine"):
        limit.try_acquire(Key())


def test_closed():
    limit = ConcurrencyLimit(1)
    limit.try_acquire()
    limit.close()
    for call in (limit.try_acquire, limit.acquire, limit(print), limit.peek):
        with pytest.raises(ClosedError):
            call()
    limit.release()


def test_permits_are_handed_over_in_order():
    clock = ManualClock(start=0.0)
    limit = ConcurrencyLimit(2, max_wait=None, clock=clock)
    order = []

    @limit
    async def work(n):
        order.append(n)
        assert limit.in_flight() <= 2
        await asyncio.sleep(1.0)

    async def main():
        await asyncio.gather(*[work(n) for n in range(10)])

    clock.run(main())
    assert order == list(range(10))
    assert clock.monotonic() == pytest.approx(5.0)
    assert limit.stats().wakeups == 8
    assert limit.in_flight() == 0


def test_queue_bounds_and_timeouts():
    clock = ManualClock(start=0.0)
    limit = ConcurrencyLimit(1, max_waiting=2, clock=clock)

    async def main():
        limit.try_acquire()
        waiting = [asyncio.ensure_future(limit.acquire_async(timeout=t)) for t in (1, 2, 3)]
        answers = await asyncio.gather(*waiting, return_exceptions=True)
        assert [str(a) for a in answers] == [
            "ConcurrencyLimit: concurrency limit reached (deadline)",
            "ConcurrencyLimit: concurrency limit reached (deadline)",
            "ConcurrencyLimit: concurrency limit reached (queue full)",
        ]
        assert all(type(a) is ConcurrencyLimited for a in answers)

    clock.run(main())
    assert clock.monotonic() == pytest.approx(2.0)
    limit.release()
    assert limit.try_acquire()


def test_nobody_overtakes():
    clock = ManualClock(start=0.0)
    limit = ConcurrencyLimit(3, clock=clock)

    async def main():
        limit.try_acquire(cost=2)
        big = asyncio.ensure_future(limit.acquire_async(cost=3))
        await asyncio.sleep(0)
        assert not limit.try_acquire()
        assert not limit.peek()
        assert limit.try_acquire("other")
        limit.release(cost=2)
        await big
        assert limit.in_flight() == 3
        limit.release(cost=3)

    clock.run(main())


def test_update_grows_and_shrinks():
    clock = ManualClock(start=0.0)
    limit = ConcurrencyLimit(1, clock=clock)

    async def main():
        limit.try_acquire()
        waiting = [asyncio.ensure_future(limit.acquire_async()) for _ in range(3)]
        await asyncio.sleep(0)
        limit.update(limit=3)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert [task.done() for task in waiting] == [True, True, False]
        limit.update(limit=1)
        limit.release()
        limit.release()
        await asyncio.sleep(0)
        assert not waiting[2].done()
        limit.release()
        await waiting[2]
        assert limit.in_flight() == 1

    clock.run(main())


def test_cancelled_after_the_handover_passes_the_permit_on():
    clock = ManualClock(start=0.0)
    limit = ConcurrencyLimit(1, clock=clock)

    async def main():
        limit.try_acquire()
        first, second = [asyncio.ensure_future(limit.acquire_async()) for _ in range(2)]
        await asyncio.sleep(0)
        limit.release()
        first.cancel()
        await asyncio.gather(first, second, return_exceptions=True)
        assert first.cancelled()
        assert limit.in_flight() == 1
        limit.release()

    clock.run(main())
    assert limit.in_flight() == 0


def test_threads_and_contexts():
    limit = ConcurrencyLimit(1, max_wait=None)
    limit.try_acquire()
    ctx = context.with_cancel()
    threading.Timer(0.02, ctx.cancel).start()
    with pytest.raises(Cancelled):
        limit.acquire(ctx=ctx)
    threading.Timer(0.02, limit.release).start()
    with limit:
        assert limit.in_flight() == 1
    assert limit.in_flight() == 0


def test_events():
    limit = ConcurrencyLimit(1, name="db")
    limit.try_acquire("a")
    with events.record(RequestRejected) as seen:
        limit.try_acquire("a")
    (event,) = seen
    assert (event.name, event.key, event.reason, event.retry_after) == ("db", "a", "limited", None)


# -- all or nothing ---------------------------------------------------------------------------


def both(**options):
    clock = ManualClock(start=0.0)
    fast = TokenBucket("10/s", burst=5, clock=clock, name="fast")
    slow = TokenBucket("1/s", burst=20, clock=clock, name="slow")
    return AllOf(fast, slow, **options), fast, slow, clock


def test_all_or_nothing():
    all_of, fast, slow, clock = both()
    assert all_of.try_acquire("a", 5)
    no = all_of.try_acquire("a", 5)
    assert not no
    assert no.retry_after == pytest.approx(0.5)
    assert no.remaining == 0
    assert slow.peek("a").remaining == 15  # nothing was taken
    clock.advance(0.5)
    assert all_of.try_acquire("a", 5)
    assert slow.peek("a").remaining == 10
    assert all_of.try_acquire("b", (1, 20))
    clock.advance(1.0)
    no = all_of.try_acquire("b", (5, 20))
    assert no.retry_after == pytest.approx(19.0)
    assert fast.peek("b").remaining == 5
    assert all_of.peek("b").remaining == 1
    assert not all_of.peek("b", (5, 20))


def test_all_of_waits_for_all():
    all_of, _fast, _slow, clock = both()
    all_of.acquire("a", (1, 20))
    all_of.acquire("a", (5, 2))
    assert clock.monotonic() == pytest.approx(2.0)

    async def main():
        served = []

        async def one(n):
            await all_of.acquire_async("a", (1, 2))
            served.append((n, clock.monotonic()))

        await asyncio.gather(*[one(n) for n in range(3)])
        return served

    served = clock.run(main())
    assert served == [(n, pytest.approx(4.0 + 2 * n)) for n in range(3)]
    with pytest.raises(RateLimited, match="slow: rate limit exceeded") as caught:
        all_of.acquire("a", timeout=0)
    assert caught.value.name == "AllOf"
    assert caught.value.retry_after == pytest.approx(1.0)
    with pytest.raises(RateLimited, match="deadline"):
        all_of.acquire("a", timeout=0.9)
    assert clock.monotonic() == pytest.approx(8.0)


def test_all_of_respects_the_queues_of_its_limits():
    all_of, fast, _slow, clock = both()

    async def main():
        fast.try_acquire(cost=5)
        first = asyncio.ensure_future(fast.acquire_async(cost=5))
        await asyncio.sleep(0.2)
        assert not all_of.try_acquire()
        mine = asyncio.ensure_future(all_of.acquire_async(cost=(2, 1)))
        await asyncio.sleep(0)
        assert not all_of.try_acquire()
        await first
        assert clock.monotonic() == pytest.approx(0.5)
        await mine
        assert clock.monotonic() == pytest.approx(0.7)

    clock.run(main())


def test_all_of_with_a_concurrency_limit():
    clock = ManualClock(start=0.0)
    rate = TokenBucket("10/s", burst=2, clock=clock)
    inside = ConcurrencyLimit(1, clock=clock)
    all_of = AllOf(rate, inside, max_wait=None)
    order = []

    @all_of
    async def work(n):
        order.append((n, clock.monotonic()))
        assert inside.in_flight() == 1
        await asyncio.sleep(0.07)

    async def main():
        await asyncio.gather(*[work(n) for n in range(4)])

    clock.run(main())
    assert [n for n, _ in order] == [0, 1, 2, 3]
    assert [t for _, t in order] == pytest.approx([0.0, 0.07, 0.14, 0.21])
    assert inside.in_flight() == 0
    with all_of:
        assert inside.in_flight() == 1
        assert not all_of.try_acquire("x") or all_of.release("x") is None
        strict = AllOf(rate, inside)
        with pytest.raises(ConcurrencyLimited) as caught:
            strict(lambda: 1)()
        assert caught.value.retry_after is None
    assert inside.in_flight() == 0
    with events.record(RequestRejected) as seen, inside:
        AllOf(rate, inside, name="both").try_acquire()
    assert [e.name for e in seen] == ["both"]


def test_all_of_reserves():
    all_of, fast, slow, clock = both()
    with all_of.reserve("a", (1, 10)) as reserved:
        reserved.settle((1, 3))
    assert (fast.peek("a").remaining, slow.peek("a").remaining) == (4, 17)
    with pytest.raises(KeyError), all_of.reserve("a", 2):
        raise KeyError
    assert (fast.peek("a").remaining, slow.peek("a").remaining) == (4, 17)
    all_of.reserve("a").cancel()
    assert slow.peek("a").remaining == 17
    inside = ConcurrencyLimit(3, clock=clock)
    group = AllOf(fast, inside)

    async def main():
        async with await group.reserve_async("b", 2):
            assert inside.in_flight("b") == 2

    asyncio.run(main())
    assert inside.in_flight("b") == 0
    assert fast.peek("b").remaining == 3


def test_all_of_cancelled_after_its_turn_gives_back():
    all_of, fast, _slow, clock = both()

    async def main():
        all_of.try_acquire(None, (5, 1))
        one = asyncio.ensure_future(all_of.acquire_async(cost=5))
        await asyncio.sleep(0)
        clock.advance(0.5)
        all_of._room.serve_all()  # its turn; the task has not run yet
        assert fast.peek().remaining == 0
        one.cancel()
        await asyncio.gather(one, return_exceptions=True)
        assert fast.peek().remaining == 5

    clock.run(main())


def test_all_of_keys_and_costs_of_its_limits():
    clock = ManualClock(start=0.0)
    per_user = TokenBucket("10/s", key=lambda user, size: user, clock=clock)
    volume = TokenBucket("100/s", key=lambda user, size: "all", cost=lambda user, size: size, clock=clock)  # fmt: skip
    all_of = AllOf(AllOf(per_user), volume)
    assert all_of.limits == (per_user, volume)
    f = all_of(lambda user, size: user)
    assert f("a", 60) == "a"
    with events.record(RequestRejected) as seen, pytest.raises(RateLimited):
        f("b", 60)
    assert seen[0].key == ("b", "all")
    assert per_user.peek("b").remaining == 10
    assert volume.peek("all").remaining == 40


def test_all_of_bad_input():
    all_of, fast, slow, _clock = both()
    for bad in ((), ("x",), (TokenBucket("1/s"), fast)):
        with pytest.raises(InvalidArgument) as caught:
            AllOf(*bad)
        assert caught.value.parameter == "limits"
    for cost in ((1,), (1, 2, 3), 6, (1, 0)):
        with pytest.raises(InvalidArgument) as caught:
            all_of.try_acquire("a", cost)
        assert caught.value.parameter == "cost"
    with pytest.raises(InvalidKey):
        all_of.try_acquire([])
    all_of.close()
    with pytest.raises(ClosedError):
        all_of.try_acquire()
    assert fast.try_acquire()
    again = AllOf(fast, slow)
    slow.close()
    with pytest.raises(ClosedError):
        again.try_acquire()


def test_nothing_stays_taken_when_a_limit_fails_in_the_middle():
    _all_of, fast, slow, _clock = both()
    core = _AllCore((fast, slow))
    slow._core.closed = True
    with pytest.raises(ClosedError):
        core.ask(_Ask(("a", "a"), (1.0, 1.0)))
    assert fast.peek("a").remaining == 5
