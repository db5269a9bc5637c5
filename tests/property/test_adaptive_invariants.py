"""Windows against naive ones, and what the controller keeps whatever it is told."""

import math

from hypothesis import given, settings
from hypothesis import strategies as st

from hastack.ratelimit._gradient import (
    FAILURE,
    IGNORED,
    OVERLOAD,
    SUCCESS,
    GradientController,
    GradientRules,
)
from hastack.ratelimit._outcome_window import SLOTS, TimeWindow
from hastack.ratelimit._quantile import LatencyWindow, bucket_of, lower_bound

STEPS = st.lists(
    st.tuples(
        st.floats(0.0, 3.0) | st.sampled_from([0.0, 0.1, 0.2, 1.0, 50.0]),
        st.floats(0.0, 200.0),
        st.booleans(),
    ),
    max_size=60,
)


@given(STEPS, st.sampled_from([0.1, 0.3, 1.0]))
@settings(max_examples=150, deadline=None)
def test_latency_window_counts_like_a_list(steps, slot):
    window = LatencyWindow(3.0, slot)
    slots = round(3.0 / slot)
    seen = []
    now = 1000.0
    for wait, latency, failed in steps:
        now += wait
        window.add(now, latency, failed)
        seen.append((math.floor(now / slot), latency, failed))
        kept = [entry for entry in seen if entry[0] > math.floor(now / slot) - slots]
        assert window.calls == len(kept)
        assert window.failures == sum(failed for _, _, failed in kept)
        for share in (0.5, 0.95):
            exact = sorted(latency for _, latency, _ in kept)[math.ceil(share * len(kept)) - 1]
            bucket = bucket_of(exact)
            assert lower_bound(bucket) <= window.quantile(share) <= lower_bound(bucket + 1)


@given(STEPS, st.sampled_from([1.0, 3.0, 0.7]))
@settings(max_examples=150, deadline=None)
def test_time_window_counts_like_a_list(steps, seconds):
    window = TimeWindow(seconds, 1)
    width = seconds / SLOTS
    seen = []
    now = 1000.0
    for wait, latency, failed in steps:
        now += wait
        slow = latency > 100.0
        window.add(now, failed, slow)
        seen.append((math.floor(now / width), failed, slow))
        kept = [entry for entry in seen if entry[0] > math.floor(now / width) - SLOTS]
        assert (window.calls, window.failures, window.slow) == (
            len(kept),
            sum(failed for _, failed, _ in kept),
            sum(slow for _, _, slow in kept),
        )


@given(
    st.integers(1, 20),
    st.integers(0, 200),
    st.lists(
        st.tuples(
            st.floats(-5.0, 5.0) | st.sampled_from([0.001, 0.01, 0.3, -1e6, 1e6]),
            st.floats(0.0, 100.0) | st.sampled_from([0.0, 0.05]),
            st.sampled_from([SUCCESS, SUCCESS, SUCCESS, FAILURE, OVERLOAD, IGNORED]),
            st.integers(1, 60),
            st.booleans(),
        ),
        max_size=40,
    ),
)
@settings(max_examples=300, deadline=None)
def test_the_limit_stays_within_its_bounds(floor, room, batches):
    rules = GradientRules(
        min_limit=floor, max_limit=floor + room, initial=floor, min_samples=10, period=0.1
    )
    controller = GradientController(rules, 0.0)
    now = 0.0
    for wait, latency, outcome, times, full in batches:
        for _ in range(times):
            now += wait / times
            limit = controller.observe(now, latency, outcome, controller.limit if full else 1)
            assert floor <= limit <= floor + room
            assert 0.0 <= controller.baseline <= 101.0
            assert math.isfinite(controller.goal)
