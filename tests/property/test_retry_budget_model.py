"""A retry budget against a model that remembers every call."""

from hypothesis import given, settings
from hypothesis import strategies as st

from hastack.ratelimit._backoff import Backoff, Stop
from hastack.ratelimit._budget import SLOTS, BudgetWindow

steps = st.lists(
    st.tuples(st.sampled_from(["call", "spend", "wait"]), st.integers(0, 35)), max_size=200
)


@settings(max_examples=300)
@given(
    steps=steps,
    ratio=st.sampled_from([0.1, 0.2, 0.5, 1.0]),
    floor=st.sampled_from([0.0, 0.1, 0.3, 1.0]),
    window=st.sampled_from([1.0, 10.0, 60.0]),
)
def test_never_more_than_the_rule_and_never_less(steps, ratio, floor, window):
    budget = BudgetWindow(ratio=ratio, min_per_second=floor, window=window)
    width = window / SLOTS
    now = 1000.0
    calls, retries = [], []
    for kind, amount in steps:
        if kind == "wait":
            now += amount * width / 3
            continue
        for _ in range(amount):
            if kind == "call":
                budget.count_call(now)
                calls.append(now // width)
                continue
            slot = now // width
            called = sum(at > slot - SLOTS for at in calls)
            retried = sum(at > slot - SLOTS for at in retries)
            allowed = ratio * called + floor * window - retried >= 1.0
            assert budget.spend(now) is allowed
            if not allowed:
                break
            retries.append(slot)
    assert len(budget._cells) <= SLOTS


@settings(max_examples=200)
@given(
    times=st.lists(st.floats(-100.0, 100.0, allow_nan=False), max_size=100),
    ratio=st.sampled_from([0.2, 1.0]),
)
def test_no_clock_makes_more_retries_than_calls_allow(times, ratio):
    budget = BudgetWindow(ratio=ratio, min_per_second=0.0, window=10.0)
    spent = 0
    for count, now in enumerate(times, 1):
        budget.count_call(now)
        while budget.spend(now):
            spent += 1
        assert spent <= ratio * count


@given(
    attempts=st.integers(1, 10),
    base=st.floats(0, 10),
    cap=st.floats(0, 100),
    factor=st.floats(1, 1e6),
    jitter=st.booleans(),
    tries=st.integers(1, 2000),
    drawn=st.floats(0, 1, exclude_max=True),
    retry_after=st.none() | st.floats(0, 200),
    remaining=st.none() | st.floats(0, 200),
)
def test_delays_keep_every_bound(
    attempts, base, cap, factor, jitter, tries, drawn, retry_after, remaining
):
    policy = Backoff(
        attempts=attempts, base=base, cap=cap, factor=factor, jitter=jitter, max_retry_after=60.0
    )
    verdict = policy.next_delay(tries, drawn=drawn, retry_after=retry_after, remaining=remaining)
    if tries >= attempts:
        assert verdict is Stop.ATTEMPTS
    elif retry_after is not None and retry_after > 60.0:
        assert verdict is Stop.TOO_LATE
    elif isinstance(verdict, Stop):
        assert verdict is Stop.DEADLINE
        assert remaining is not None
        assert remaining <= policy.ceiling(tries) + (retry_after or 0.0)
    else:
        assert (retry_after or 0.0) <= verdict <= (retry_after or 0.0) + cap
        assert remaining is None or verdict < remaining
