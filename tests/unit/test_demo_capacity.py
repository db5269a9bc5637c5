"""The model of a dependency with limited capacity."""

import heapq

import pytest

from hastack.cli.demo._capacity import Capacity
from hastack.cli.demo._workload import Plan

PLAN = Plan(workers=2, service_time=0.05, queue=3, duration=9.0)


def test_a_free_worker_starts_at_once():
    capacity = Capacity(PLAN)
    delay = capacity.arrive("a", 0.0)
    assert delay is not None
    assert 0.025 <= delay <= 0.075
    assert capacity.busy == 1


def test_calls_beyond_the_workers_wait_in_order():
    capacity = Capacity(PLAN)
    for call in "ab":
        assert capacity.arrive(call, 0.0)
    assert capacity.arrive("c", 0.0) == 0.0
    assert capacity.arrive("d", 0.0) == 0.0
    assert capacity.queued == 2
    _, following = capacity.finish(0.05)
    assert following is not None
    assert following[0] == "c"
    assert following[1] > 0.0
    assert capacity.busy == 2


def test_a_full_queue_refuses():
    capacity = Capacity(PLAN)
    assert [capacity.arrive(n, 0.0) is None for n in range(6)] == [False] * 5 + [True]


def test_the_last_call_frees_its_worker():
    capacity = Capacity(PLAN)
    capacity.arrive("a", 0.0)
    assert capacity.finish(0.05) == (True, None)
    assert capacity.busy == 0


def test_a_brownout_is_slow_and_fails_by_its_share():
    capacity = Capacity(Plan(workers=1, sick_capacity=0.25, sick_errors=0.6))
    healthy = [capacity._service_time(1.0) for _ in range(2000)]
    sick = [capacity._service_time(4.0) for _ in range(2000)]
    assert sum(sick) / sum(healthy) == pytest.approx(4.0, rel=0.05)
    outcomes = []
    for _ in range(2000):
        capacity.arrive("a", 4.0)
        outcomes.append(capacity.finish(4.0)[0])
    assert sum(outcomes) / 2000 == pytest.approx(0.4, abs=0.05)
    capacity.arrive("a", 1.0)
    assert capacity.finish(1.0)[0] is True


def test_saturated_it_answers_at_its_nominal_rate():
    plan = Plan()
    capacity = Capacity(plan)
    ends = []
    for number in range(plan.workers):
        heapq.heappush(ends, capacity.arrive(number, 0.0))
    for number in range(300):
        assert capacity.arrive(number, 0.0) == 0.0
    done = 0
    now = 0.0
    while capacity.busy:
        now = heapq.heappop(ends)
        done += 1
        _, following = capacity.finish(now)
        if following is not None:
            heapq.heappush(ends, now + following[1])
    assert done / now == pytest.approx(plan.capacity, rel=0.1)
