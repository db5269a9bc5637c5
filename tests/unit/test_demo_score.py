"""The numbers, and the comparison with what was aimed at."""

import pytest

from hastack.cli.demo._score import (
    BINS,
    FAILED,
    LATE,
    OK,
    SHED,
    Accuracy,
    Sample,
    Tick,
    accuracy,
    percentile,
    score,
    series,
)
from hastack.cli.demo._verdict import HEADLINES, compare
from hastack.cli.demo._workload import Plan

PLAN = Plan(duration=9.0)
TICKS = [number / 10 for number in range(90)]


def follow(state_at):
    return accuracy(PLAN, [Tick(at, state_at(at), None) for at in TICKS])


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [
        ([], 0.99, 0.0),
        ([5.0], 0.5, 5.0),
        ([3.0, 1.0, 2.0], 0.5, 2.0),
        ([float(n) for n in range(1, 101)], 0.99, 99.0),
        ([float(n) for n in range(1, 102)], 0.99, 100.0),
        ([1.0, 2.0], 0.0, 1.0),
        ([1.0, 2.0], 1.0, 2.0),
    ],
)
def test_percentile_is_the_nearest_rank(values, share, expected):
    assert percentile(values, share) == expected


def test_a_breaker_that_follows_the_oracle_is_right():
    right = follow(lambda at: "open" if PLAN.sick(at) else "closed")
    assert (right.judged, right.false_open, right.missed_open) == (70, 0, 0)
    assert right.share == 1.0


def test_one_that_follows_within_the_grace_is_right():
    assert follow(lambda at: "open" if PLAN.sick(at - 0.9) else "closed").share == 1.0


def test_one_that_never_opens_misses_the_brownout():
    always = follow(lambda at: "closed")
    assert (always.false_open, always.missed_open) == (0, 20)
    assert always.share == pytest.approx(50 / 70)


@pytest.mark.parametrize("state", ["open", "half-open"])
def test_one_that_never_closes_is_false_open(state):
    never = follow(lambda at: state)
    assert (never.false_open, never.missed_open) == (50, 0)


def test_no_ticks_is_not_an_error():
    assert accuracy(PLAN, []).share == 1.0


SAMPLES = [
    Sample(0.1, 0.05, OK),
    Sample(0.1, 0.07, OK),
    Sample(4.0, 1.5, LATE),
    Sample(4.0, 0.9, FAILED),
    Sample(8.99, 0.001, SHED),
    Sample(9.0, 0.001, SHED),
]


def test_every_request_is_counted_once():
    result = score(PLAN, SAMPLES, [], [0.001, 0.002])
    assert (result.sent, result.ok, result.late, result.failed, result.shed) == (6, 2, 1, 1, 2)
    assert result.goodput == pytest.approx(2 / 9)
    assert result.lag_p99 == 0.002


def test_latency_is_that_of_the_accepted():
    result = score(PLAN, SAMPLES, [], [])
    assert result.p50 == 0.07
    assert result.p99 == 1.5
    assert score(PLAN, SAMPLES[-2:], [], []).p99 == 0.0


def test_series_add_up_to_the_samples():
    charts = series(PLAN, SAMPLES)
    width = PLAN.duration / BINS
    assert [sum(charts[name]) * width for name in (OK, LATE, FAILED, SHED)] == pytest.approx(
        [2, 1, 1, 2]
    )
    assert charts["at"][0] == pytest.approx(width / 2)
    assert charts["p50"][0] == 0.05
    assert charts["p99"][0] == 0.07
    assert charts["p99"][16] == 1.5
    assert charts["p99"][-1] is None


def made(goodput, p99, right):
    base = score(PLAN, [], [], [])
    judged = Accuracy(judged=100, false_open=100 - right, missed_open=0)
    return base.__class__(
        **{
            **{name: getattr(base, name) for name in base.__slots__ if name != "__weakref__"},
            "goodput": goodput,
            "p99": p99,
            "accuracy": judged,
        }
    )


def test_ratios_against_a_baseline():
    ours = compare(
        HEADLINES[0], {"hastack": made(120.0, 0.2, 95), "fixed-window": made(80.0, 0.4, 70)}
    )
    assert ours is not None
    assert (ours.goodput, ours.p99, ours.points) == pytest.approx((1.5, 0.5, 25.0))


def test_ratios_against_nothing():
    against_zero = {"hastack": made(1.0, 0.0, 50), "fixed-window": made(0.0, 0.0, 50)}
    ours = compare(HEADLINES[0], against_zero)
    assert ours is not None
    assert (ours.goodput, ours.p99) == (float("inf"), 1.0)


@pytest.mark.parametrize("missing", ["hastack", "token-bucket"])
def test_no_ratios_without_both(missing):
    scores = {name: made(1.0, 1.0, 1) for name in ("hastack", "token-bucket") if name != missing}
    assert compare(HEADLINES[1], scores) is None
