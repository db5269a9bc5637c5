"""What holds for every workload, every dependency and every set of samples."""

import heapq
import math

from hypothesis import given, settings
from hypothesis import strategies as st

from hastack.cli.demo._capacity import Capacity
from hastack.cli.demo._plain_breaker import ConsecutiveFailures
from hastack.cli.demo._score import OUTCOMES, Sample, Tick, accuracy, percentile, score, series
from hastack.cli.demo._trace import stamp
from hastack.cli.demo._workload import Plan, poisson, replay

rates = st.floats(1.0, 1000.0)
durations = st.floats(2.0, 20.0)
seeds = st.integers(0, 2**32)


@settings(max_examples=50)
@given(rates, durations, seeds)
def test_arrivals_are_ascending_and_inside(rate, duration, seed):
    times = poisson(rate, duration, seed)
    assert times == sorted(times)
    assert all(0.0 <= at < duration for at in times)


@settings(max_examples=100)
@given(
    st.lists(st.integers(0, 100_000).map(float), min_size=1, max_size=200),
    rates,
    durations,
    seeds,
)
def test_a_replay_has_the_wanted_count_inside_the_duration(stamps, rate, duration, seed):
    times = replay(stamps, 1.0, rate=rate, duration=duration, seed=seed)
    assert len(times) == max(1, round(rate * duration))
    assert times == sorted(times)
    assert all(0.0 <= at < duration for at in times)
    assert times == replay(stamps, 1.0, rate=rate, duration=duration, seed=seed)


@settings(max_examples=100)
@given(
    st.lists(st.floats(0.0, 9.0), max_size=200),
    st.integers(1, 10),
    st.integers(0, 30),
    seeds,
)
def test_the_dependency_answers_or_refuses_every_call_once(arrivals, workers, queue, seed):
    plan = Plan(workers=workers, queue=queue, seed=seed)
    capacity = Capacity(plan)
    ends, answered, refused, waiting = [], 0, 0, []
    pending = sorted(arrivals)
    while pending or ends:
        if ends and (not pending or ends[0] <= pending[0]):
            now = heapq.heappop(ends)
            answered += 1
            _, following = capacity.finish(now)
            if following is not None:
                assert following[0] == waiting.pop(0), "first come, first served"
                heapq.heappush(ends, now + following[1])
        else:
            now = pending.pop(0)
            delay = capacity.arrive(now, now)
            if delay is None:
                refused += 1
                assert capacity.queued == queue
            elif delay:
                heapq.heappush(ends, now + delay)
            else:
                waiting.append(now)
        assert capacity.busy == len(ends) <= workers
        assert capacity.queued == len(waiting) <= queue
    assert answered + refused == len(arrivals)
    assert not waiting


samples = st.lists(
    st.builds(Sample, st.floats(0.0, 9.0), st.floats(0.0, 2.0), st.sampled_from(OUTCOMES)),
    max_size=100,
)


@settings(max_examples=100)
@given(samples)
def test_every_sample_is_counted_exactly_once(found):
    plan = Plan()
    numbers = score(plan, found, [], [])
    assert numbers.sent == len(found)
    assert numbers.sent == numbers.ok + numbers.late + numbers.failed + numbers.shed
    charts = series(plan, found)
    for name in OUTCOMES:
        total = sum(charts[name]) * plan.duration / len(charts["at"])
        assert math.isclose(total, getattr(numbers, name), abs_tol=1e-6)


@given(st.lists(st.floats(0.0, 10.0), min_size=1), st.floats(0.0, 1.0))
def test_a_percentile_is_one_of_the_values_and_covers_its_share(values, share):
    found = percentile(values, share)
    assert found in values
    assert sum(value <= found for value in values) >= share * len(values) - 1e-9


@given(st.lists(st.sampled_from(["closed", "open", "half-open"]), min_size=90, max_size=90))
def test_accuracy_counts_each_judged_tick_as_right_or_one_kind_of_wrong(states):
    plan = Plan()
    found = accuracy(plan, [Tick(n / 10, state, None) for n, state in enumerate(states)])
    turned = accuracy(
        plan,
        [
            Tick(n / 10, "open" if state == "closed" else "closed", None)
            for n, state in enumerate(states)
        ],
    )
    assert found.judged == 70
    assert math.isclose(found.share + turned.share, 1.0)


@given(st.lists(st.sampled_from(["admit", "ok", "fail", "abandon", "wait"]), max_size=60))
def test_the_plain_breaker_lets_nothing_through_before_its_time(steps):
    core, now, until = ConsecutiveFailures(failures=3, open_for=2.0), 0.0, 0.0
    for step in steps:
        before = core.state
        if step == "wait":
            now += 1.0
        elif step == "ok":
            core.succeed()
        elif step == "fail":
            core.fail(now)
        elif step == "abandon":
            core.abandon(now)
        else:
            expected = {"closed": True, "open": now >= until, "half-open": False}
            assert core.admit(now) is expected[before]
        if core.state == "open" and before != "open":
            until = now if step == "abandon" else now + 2.0
            assert core.retry_after(now) == until - now


@given(st.text(max_size=200))
def test_any_line_is_survived(line):
    found = stamp(line)
    assert found is None or math.isfinite(found[0])


@given(st.datetimes())
def test_iso_times_are_found_wherever_they_stand(moment):
    found = stamp(f"x {moment.replace(microsecond=0).isoformat()}Z y")
    assert found is not None or moment.year < 2
