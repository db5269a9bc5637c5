import faulthandler
import os

import pytest

from hastack.errors import RateLimited
from hastack.ratelimit import ConcurrencyLimit, SlidingWindowLog, TokenBucket
from hastack.ratelimit._keyed import KeyTable
from hastack.testing import ManualClock


def test_idle_keys_make_room():
    clock = ManualClock()
    bucket = TokenBucket("10/s", burst=1, max_keys=100, clock=clock)
    for n in range(5000):
        assert bucket.try_acquire(n)
        clock.advance(0.01)
        # A bucket of one is full again after 0.1 s: ten keys are in use, twice that are held.
        assert len(bucket) <= 21
    assert bucket.stats().evicted > 4900
    assert bucket.stats().turned_away == 0


@pytest.mark.parametrize("kind", [TokenBucket, SlidingWindowLog])
def test_a_full_table_of_active_keys_rejects(kind):
    clock = ManualClock()
    limiter = kind("1/s", max_keys=100, clock=clock)
    assert sum(bool(limiter.try_acquire(n)) for n in range(300)) == 100
    assert len(limiter) == 100
    assert limiter.stats().turned_away == 200
    # Those who used up their limit have not been forgotten for it.
    assert not any(limiter.try_acquire(n) for n in range(100))
    refused = limiter.try_acquire("new")
    assert 0 < refused.retry_after < 2.001
    with pytest.raises(RateLimited):
        kind(1, max_keys=1, clock=clock).reserve("a").cancel() or limiter.reserve("new")
    clock.advance(1.0)
    assert sum(bool(limiter.try_acquire(n)) for n in range(1000, 1300)) == 100


@pytest.mark.parametrize("kind", [TokenBucket, SlidingWindowLog])
def test_a_full_table_may_admit(kind):
    clock = ManualClock()
    limiter = kind("1/s", max_keys=100, when_full="admit", clock=clock)
    assert sum(bool(limiter.try_acquire(n)) for n in range(300)) == 300
    assert len(limiter) == 100
    assert limiter.stats().turned_away == 200
    assert limiter(lambda: 1)() == 1
    assert not any(limiter.try_acquire(n) for n in range(100))


def test_admitting_when_full_reads_sensibly():
    bucket = TokenBucket("1/s", burst=5, max_keys=1, when_full="admit", clock=ManualClock())
    bucket.try_acquire("a")
    extra = bucket.try_acquire("b", 2)
    assert (extra.allowed, extra.remaining, extra.retry_after) == (True, 3, 0.0)
    bucket.update(rate="2/s")
    assert bucket.try_acquire("c")
    bucket.reserve("d").settle(3)
    assert len(bucket) == 1


def test_concurrency_keys_live_as_long_as_their_calls():
    limit = ConcurrencyLimit(1, max_keys=2)
    assert limit.try_acquire("a")
    assert limit.try_acquire("b")
    assert not limit.try_acquire("c")
    assert limit.stats().turned_away == 1
    limit.release("a")
    assert limit.try_acquire("c")
    limit.release("b")
    limit.release("c")
    assert len(limit) == 0
    assert ConcurrencyLimit(1, max_keys=1, when_full="admit").try_acquire("a")


def test_table_work_per_new_key_is_bounded():
    looked = []

    def until(state):
        looked.append(state)
        return state

    table = KeyTable(1000, until)
    for n in range(1000):
        assert table.make_room(0.0)
        table.young[n] = 100.0
    for _ in range(20):
        looked.clear()
        assert not table.make_room(50.0)
        assert len(looked) <= 64
    assert table.soonest == 100.0
    looked.clear()
    assert table.make_room(100.0)
    assert len(looked) == 2


def test_table_finds_what_the_hand_moved():
    table = KeyTable(10, float)
    for n in range(6):
        table.make_room(0.0)
        table.young[n] = 9.0
    assert sorted(n for n in range(8) if table.find(n)) == list(range(6))
    for n in range(6):
        if n not in table.young:
            assert table.recall(n) == 9.0
        assert n in table.young
    assert table.recall("unknown") is None
    table.forget(3)
    assert table.find(3) is None
    table.clear()
    assert len(table) == 0


def test_fork_renews_locks():
    bucket = TokenBucket("1/h", burst=2)
    limit = ConcurrencyLimit(1)
    bucket.try_acquire("a")
    limit.try_acquire()
    with bucket._lock, limit._lock:  # as if another thread held them
        child = os.fork()
        if child == 0:
            faulthandler.dump_traceback_later(10, exit=True)  # instead of hanging
            ok = bucket.try_acquire("a") and not bucket.try_acquire("a")
            os._exit(0 if ok and limit.try_acquire() else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert bucket.try_acquire("a")
    assert not limit.try_acquire()
