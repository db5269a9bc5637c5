"""The promises of the limiters under real threads, event loops and forks."""

import asyncio
import faulthandler
import os
import random
import sys
import threading
import time

import pytest

from hastack.errors import Rejected
from hastack.ratelimit import (
    AllOf,
    ConcurrencyLimit,
    FixedWindow,
    LeakyBucket,
    SlidingWindowCounter,
    SlidingWindowLog,
    TokenBucket,
)


@pytest.fixture(autouse=True)
def switch_often():
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def hammer(work, threads=8):
    """Run ``work(n)`` on many threads at once; their results."""
    results, errors = [], []
    ready = threading.Barrier(threads)

    def run(n):
        try:
            ready.wait()
            results.append(work(n))
        except BaseException as error:
            errors.append(error)

    pool = [threading.Thread(target=run, args=(n,)) for n in range(threads)]
    for thread in pool:
        thread.start()
    for thread in pool:
        thread.join(30)
        assert not thread.is_alive()
    if errors:
        raise errors[0]
    return results


@pytest.mark.parametrize(
    "make",
    [
        lambda: TokenBucket("1/day", burst=1000),
        lambda: TokenBucket("1/day", burst=1000, start="warm-up", warm_up=1e-9),
        lambda: SlidingWindowLog("1000/day"),
        lambda: SlidingWindowCounter("1000/day", slot=60),
        lambda: FixedWindow("1000/day"),
        lambda: ConcurrencyLimit(1000),
        lambda: AllOf(TokenBucket("1/day", burst=1000), FixedWindow("5000/day")),
    ],
)
@pytest.mark.parametrize("through", ["try_acquire", "guard"])
def test_counts_are_exact(make, through):
    limiter = make()
    empty = isinstance(limiter, TokenBucket) and not limiter.peek()
    if empty:
        limiter.reset()

    def ask():
        try:
            return bool(limiter._admit(time.monotonic(), (), {}) or True)
        except Rejected:
            return False

    call = limiter.try_acquire if through == "try_acquire" else ask
    counts = hammer(lambda n: sum(bool(call()) for _ in range(400)))
    assert sum(counts) == 1000


def test_counts_are_exact_while_the_limit_changes():
    bucket = TokenBucket("1/day", burst=1000)
    stop = threading.Event()

    def change():
        while not stop.is_set():
            bucket.update(rate="1/day", burst=1000)

    changer = threading.Thread(target=change)
    changer.start()
    counts = hammer(lambda n: sum(bool(bucket.try_acquire("k")) for _ in range(400)), threads=4)
    stop.set()
    changer.join()
    assert sum(counts) == 1000


def test_keys_in_a_crowded_table():
    bucket = TokenBucket("1/day", burst=5, max_keys=50)

    def work(n):
        seed = random.Random(n)
        allowed = {}
        for _ in range(2000):
            key = seed.randrange(100)
            if bucket.try_acquire(key):
                allowed[key] = allowed.get(key, 0) + 1
        return allowed

    totals = {}
    for allowed in hammer(work):
        for key, count in allowed.items():
            totals[key] = totals.get(key, 0) + count
    assert len(totals) == 50
    assert set(totals.values()) == {5}
    assert len(bucket) == 50


def test_settling_is_exact():
    bucket = TokenBucket("1/day", burst=100_000)

    def work(n):
        for _ in range(200):
            bucket.reserve("k", 10).settle(7)
            bucket.reserve("k", 10).cancel()

    hammer(work)
    assert bucket.peek("k").remaining == 100_000 - 8 * 200 * 7


def test_concurrency_is_never_exceeded_and_no_permit_is_lost():
    limit = ConcurrencyLimit(3, max_wait=5.0, max_waiting=100)
    inside = []
    seen = []

    def work(n):
        for _ in range(150):
            with limit:
                inside.append(n)
                seen.append(len(inside))
                inside.remove(n)

    hammer(work)
    assert max(seen) <= 3
    assert limit.in_flight() == 0
    assert limit.stats().waiting == 0


def test_concurrency_with_timeouts_and_changes():
    limit = ConcurrencyLimit(2, max_waiting=3)
    outcomes = []

    def work(n):
        seed = random.Random(n)
        for _ in range(150):
            try:
                with limit.reserve(timeout=seed.choice([0.0, 0.0002, 0.005])):
                    if seed.random() < 0.2:
                        limit.update(limit=seed.choice([1, 2, 3]))
                outcomes.append(True)
            except Rejected:
                outcomes.append(False)

    hammer(work)
    assert True in outcomes
    assert limit.in_flight() == 0
    assert limit.stats().waiting == 0


def test_threads_and_loops_share_one_queue():
    bucket = TokenBucket("2000/s", burst=1)
    count = []

    def block(n):
        for _ in range(30):
            bucket.acquire(timeout=20)
            count.append(1)

    def loop(n):
        async def one():
            await bucket.acquire_async(timeout=20)
            count.append(1)

        async def main():
            await asyncio.gather(*[one() for _ in range(60)])

        asyncio.run(main())

    start = time.monotonic()
    hammer(lambda n: (block if n % 2 else loop)(n), threads=6)
    took = time.monotonic() - start
    assert len(count) == 3 * 30 + 3 * 60
    assert took >= (len(count) - 1) / 2000 - 1e-3
    stats = bucket.stats()
    assert stats.waiting == 0
    assert stats.wakeups <= len(count) - 1


@pytest.mark.parametrize(
    "make",
    [
        lambda: TokenBucket("3000/s", burst=2),
        lambda: LeakyBucket("3000/s"),
        lambda: AllOf(TokenBucket("3000/s", burst=2), ConcurrencyLimit(10_000)),
    ],
)
def test_random_cancellation_in_real_time(make):
    limiter = make()
    seed = random.Random(1)

    async def main():
        tasks = [asyncio.ensure_future(limiter.acquire_async()) for _ in range(300)]
        for _ in range(200):
            await asyncio.sleep(0)
            seed.choice(tasks).cancel()
        await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 20)

    hammer(lambda n: asyncio.run(main()), threads=2)
    assert len(limiter._room) == 0
    time.sleep(0.005)
    if not isinstance(limiter, AllOf):
        assert limiter.peek().reset_after == 0.0


def test_all_of_in_both_orders_does_not_deadlock():
    a, b = TokenBucket("1/day", burst=5000), ConcurrencyLimit(2)
    forth, back = AllOf(a, b, max_wait=10.0), AllOf(b, a, max_wait=10.0)

    def work(n):
        guard = forth if n % 2 else back
        for _ in range(100):
            with guard:
                assert b.in_flight() <= 2

    hammer(work)
    assert b.in_flight() == 0
    assert a.peek().remaining == 5000 - 800


def test_fork_while_others_hold_the_locks():
    bucket = TokenBucket("1/day", burst=1e9)
    limit = ConcurrencyLimit(1_000_000)
    stop = threading.Event()

    def work():
        while not stop.is_set():
            bucket.try_acquire()
            with limit:
                pass

    pool = [threading.Thread(target=work) for _ in range(2)]
    for thread in pool:
        thread.start()
    codes = []
    try:
        for _ in range(5):
            child = _fork()
            if child == 0:
                faulthandler.dump_traceback_later(10, exit=True)  # instead of hanging
                bucket.try_acquire()
                ok = limit.in_flight() == 0
                with limit:
                    ok = ok and limit.in_flight() == 1
                os._exit(0 if ok else 1)
            codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    finally:
        stop.set()
        for thread in pool:
            thread.join()
    assert codes == [0] * 5


def _fork():
    import warnings

    with warnings.catch_warnings():
        # Python 3.12 warns of forks in threaded programs; that is what is tested here.
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()
