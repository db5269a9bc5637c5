"""The gradient controller on a service whose answers follow from Little's law."""

from math import inf

import pytest

from hastack.ratelimit._gradient import (
    DIP,
    FAILURE,
    IGNORED,
    OVERLOAD,
    SETTLE,
    STEADY,
    SUCCESS,
    GradientController,
    GradientRules,
)


class Service:
    """``servers`` places of ``seconds`` each; whatever is in flight beyond them queues."""

    def __init__(self, servers=20, seconds=0.05, load=inf, **rules):
        self.servers, self.seconds, self.load = servers, seconds, load
        self.failing = 0  # every n-th call fails at once
        self.timing_out = False
        self.now = 1000.0
        self.controller = GradientController(GradientRules(**rules), self.now)
        self.limits = []

    def run(self, duration):
        end = self.now + duration
        calls = 0
        while self.now < end:
            capacity = self.servers / self.seconds
            wanted = min(self.load, capacity) * self.seconds
            inflight = self.controller.limit if self.load > capacity else round(wanted)
            inflight = min(max(inflight, 1), self.controller.limit)
            latency = max(self.seconds, inflight / self.servers * self.seconds)
            self.now += latency / inflight
            calls += 1
            if self.timing_out:
                outcome = OVERLOAD
            elif self.failing and calls % self.failing == 0:
                outcome, latency = FAILURE, 0.0001
            else:
                outcome = SUCCESS
            self.controller.observe(self.now, latency, outcome, inflight)
            self.limits.append(self.controller.limit)
        return self.controller

    def mean_limit(self, duration):
        self.limits.clear()
        self.run(duration)
        return sum(self.limits) / len(self.limits)


def test_finds_the_knee_from_below_and_from_above():
    for initial in (2, 200):
        service = Service(initial=initial)
        service.run(30.0)
        assert 24 <= service.mean_limit(20.0) <= 33  # tolerance 1.5 x 20 servers
        assert service.controller.baseline == pytest.approx(0.05, rel=0.15)


def test_unused_limit_stays_where_it_is():
    service = Service(load=100.0)
    controller = service.run(20.0)
    assert controller.limit == 20
    assert controller.baseline == pytest.approx(0.05)
    assert controller.throughput == pytest.approx(100.0, rel=0.05)


def test_follows_servers_down_and_up():
    service = Service()
    service.run(20.0)
    service.servers = 10
    service.run(3.0)
    assert service.controller.limit <= 17
    service.servers = 40
    service.run(6.0)
    assert service.controller.limit >= 45


def test_slower_service_is_not_mistaken_for_load():
    service = Service()
    service.run(20.0)
    service.seconds = 0.15
    service.run(20.0)
    assert service.controller.baseline == pytest.approx(0.15, rel=0.2)
    assert service.controller.limit >= 22
    service.seconds = 0.05
    service.run(20.0)
    assert service.controller.baseline == pytest.approx(0.05, rel=0.2)


def test_baseline_stays_below_the_healthy_latency():
    service = Service(max_healthy_latency=0.06)
    service.run(10.0)
    service.seconds = 0.3
    service.run(30.0)
    assert service.controller.baseline <= 0.06


def test_a_long_overload_does_not_move_the_limit():
    service = Service()
    service.run(30.0)
    before = service.mean_limit(60.0)
    service.run(1200.0)
    after = service.mean_limit(60.0)
    assert after == pytest.approx(before, rel=0.05)


def test_first_bad_period_is_held_and_the_second_cuts():
    service = Service()
    service.run(20.0)
    while service.controller.phase != STEADY:
        service.run(0.1)
    before = service.controller.limit
    service.servers = 5
    while not service.controller.bad:
        service.run(0.01)
    assert service.controller.limit == before
    while service.controller.bad == 1:
        service.run(0.01)
    assert service.controller.bad == 2
    assert service.controller.limit <= 0.6 * before


def test_limit_comes_back_at_once_after_a_blip():
    # So few calls that the smaller limit still leaves room for them: growth alone, which asks
    # for use, would never come back.
    service = Service(load=200.0, initial=60)
    service.run(10.0)
    service.seconds = 0.25
    while service.controller.bad < 2:
        service.run(0.01)
    assert service.controller.limit < 60
    service.seconds = 0.05
    service.run(2.0)
    assert service.controller.limit == 60
    assert service.controller.before_inflight == 0.0
    # Only once: what is bad again so soon is no blip.
    service.seconds = 0.25
    while service.controller.bad < 2:
        service.run(0.01)
    service.seconds = 0.05
    service.run(2.0)
    assert service.controller.limit < 60


def test_dips_are_short_and_shallow():
    service = Service()
    service.run(20.0)
    service.limits.clear()
    dips = 0
    deepest = 1000
    inside = False
    for _ in range(3000):
        service.run(0.01)
        dipping = service.controller.phase == DIP
        dips += dipping and not inside
        inside = dipping
        deepest = min(deepest, service.controller.limit)
    assert 3 <= dips <= 7  # in 30 s
    assert deepest >= 12  # of a knee of 20


def test_fast_failures_are_no_fast_successes():
    service = Service()
    service.run(20.0)
    before = service.controller.limit
    service.failing = 3
    service.run(20.0)
    assert service.controller.baseline == pytest.approx(0.05, rel=0.1)
    assert service.controller.limit <= 1.15 * before


def test_the_limit_does_not_grow_while_many_calls_fail():
    service = Service(initial=5)
    service.failing = 3
    service.run(10.0)
    assert max(service.limits) == 5
    service.failing = 0
    service.run(10.0)
    assert service.controller.limit > 10


def test_timeouts_alone_bring_the_limit_down_to_its_floor():
    service = Service(min_limit=3)
    service.run(10.0)
    service.timing_out = True
    service.run(60.0)
    assert service.controller.limit == 3
    service.timing_out = False
    service.run(20.0)
    assert service.controller.limit >= 22


def test_timeouts_before_anything_else():
    service = Service()
    service.timing_out = True
    service.run(20.0)
    assert service.controller.baseline == 0.0
    assert service.controller.limit == 1


def test_ignored_calls_and_zero_latencies():
    controller = GradientController(GradientRules(initial=5), 0.0)
    for call in range(1000):
        controller.observe(call * 0.01, 0.0, IGNORED if call % 2 else SUCCESS, 1)
    assert controller.limit == 5
    assert 0.0 < controller.baseline <= 1e-5


def test_too_few_calls_decide_nothing():
    controller = GradientController(GradientRules(initial=5), 0.0)
    for call in range(200):
        controller.observe(call * 10.0, 0.05, SUCCESS, 5)
    assert controller.limit == 5
    assert controller.baseline == 0.0


def test_clock_that_goes_far_back_starts_a_new_period():
    service = Service()
    service.run(10.0)
    service.now -= 5000.0
    service.controller.observe(service.now, 0.05, SUCCESS, 1)
    assert service.controller.began == service.now
    service.run(10.0)
    assert 22 <= service.controller.limit <= 36


def test_outcomes_right_after_a_move_are_passed_over():
    controller = GradientController(GradientRules(), 0.0)
    controller.began = SETTLE
    assert controller.observe(1.0, 0.05, SUCCESS, 20) == 20
    assert controller.count == 0


def test_stragglers_count_only_so_much():
    controller = GradientController(GradientRules(), 0.0)
    controller.baseline = 0.05
    controller.observe(0.1, 60.0, SUCCESS, 1)
    assert controller.total == pytest.approx(0.5)


def test_a_dip_learns_nothing_from_a_blip():
    service = Service()
    service.run(20.0)
    while service.controller.phase != DIP:
        service.run(0.01)
    before = service.controller.baseline
    service.seconds = 0.5
    while service.controller.phase == DIP:
        service.run(0.01)
    assert service.controller.baseline == before


def test_a_deceived_baseline_is_corrected_by_dips():
    service = Service()
    service.run(20.0)
    service.controller.baseline = 0.12
    service.controller.evidence = 100
    service.run(30.0)
    assert service.controller.baseline == pytest.approx(0.05, rel=0.2)


def test_spread_larger_than_the_mean_is_no_evidence():
    controller = GradientController(GradientRules(), 0.0)
    controller.bad = 3
    controller.count, controller.squares = 1, 100.0
    controller.before_inflight, controller.before_latency = 100.0, 1.0
    assert not controller._in_vain(10.0, 1.0)


def test_where_no_cut_is_possible_a_slow_service_is_believed_in_the_end():
    service = Service(min_limit=30, initial=30)
    service.run(10.0)
    service.seconds = 0.2
    service.run(20.0)
    assert service.controller.baseline > 0.15
    assert service.controller.limit >= 30


def test_a_second_bad_run_keeps_the_first_mark():
    service = Service()
    service.run(20.0)
    while service.controller.phase != STEADY:
        service.run(0.01)
    service.controller.before_inflight, service.controller.before_latency = 25.0, 0.2
    service.servers = 10
    while service.controller.bad < 2:
        service.run(0.01)
    assert service.controller.before_inflight == 25.0


def test_dips_in_a_row_stop_below_the_knee():
    # The first baseline was learnt with a long queue: 20 calls on 8 places.
    service = Service(servers=8)
    service.run(3.0)
    assert service.controller.baseline == pytest.approx(0.05, rel=0.15)
    service.run(7.0)
    assert min(service.limits) >= 6  # 0.8 of the knee
    assert service.mean_limit(5.0) >= 10


def test_a_limit_found_with_a_queue_in_the_baseline_does_not_come_back():
    service = Service(servers=8)
    service.controller.last_good = 60.0
    service.run(3.0)
    assert service.controller.last_good <= 1.15 * 1.5 * 8


def test_without_a_queue_the_aim_itself_is_the_next_limit():
    service = Service(servers=60)
    for expected in (30, 45, 67):
        before = service.controller.limit
        while service.controller.limit == before:
            service.run(0.01)
        assert service.controller.limit == expected


def drained(service, pause):
    """The calls in flight end and none is let in for ``pause`` seconds."""
    for left in range(service.controller.limit, 0, -1):
        service.now += 0.0025
        service.controller.observe(service.now, 0.05, SUCCESS, left)
    service.now += pause


def test_a_pause_is_no_lack_of_throughput():
    service = Service(min_samples=200)
    service.run(20.0)
    controller = service.controller
    while controller.phase != STEADY or not 5 < controller.count < 20:
        service.run(0.001)
    drained(service, 5.0)
    while controller.count >= 5:
        service.run(0.001)
    assert 300.0 < controller.throughput <= 420.0


@pytest.mark.parametrize("pause", [5.0, 100.0])
def test_a_pause_before_the_first_call_or_beyond_use_starts_the_period_over(pause):
    controller = GradientController(GradientRules(), 0.0)
    controller.observe(1.0, 0.05, SUCCESS if pause > 60.0 else IGNORED, 1)
    controller.observe(1.1 + pause, 0.1, SUCCESS, 1)
    assert controller.count == 1
    assert controller.began == pytest.approx(1.0 + pause)


def test_pauses_of_slow_traffic_count():
    controller = GradientController(GradientRules(), 0.0)
    for call in range(1, 31):
        controller.observe(call * 0.5, 0.01, SUCCESS, 1)
    assert controller.count == 30
    assert controller.began == 0.0
    controller.observe(18.0, 0.01, SUCCESS, 1)  # six times the usual
    assert controller.began == 0.0
    controller.observe(25.0, 0.01, SUCCESS, 1)  # twelve times
    assert controller.began == pytest.approx(6.99)
