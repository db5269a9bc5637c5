"""The step rule and the sliding histogram under it."""

import asyncio

import pytest

from hastack.errors import InvalidArgument, RateLimited
from hastack.ratelimit import StepRule, TokenBucket
from hastack.ratelimit._quantile import BUCKETS, SMALLEST, LatencyWindow, bucket_of, lower_bound
from hastack.ratelimit._step_rule import StepCore
from hastack.testing import ManualClock


@pytest.fixture
def clock():
    return ManualClock()


def test_buckets_cover_everything_in_order():
    for bucket in range(1, BUCKETS - 1):
        low = lower_bound(bucket)
        assert bucket_of(low * 1.0001) == bucket
        assert bucket_of(low * 0.9999) == bucket - 1
        assert lower_bound(bucket + 1) / low <= 1.34
    assert bucket_of(0.0) == 0
    assert bucket_of(-1.0) == 0
    assert bucket_of(1e9) == BUCKETS - 1
    assert lower_bound(0) == 0.0
    assert lower_bound(1) == SMALLEST


def test_quantiles_and_success_rate_slide():
    window = LatencyWindow(1.0, 0.1)
    assert window.quantile(0.95) == 0.0
    assert window.success_rate == 1.0
    for call in range(100):
        window.add(call * 0.001, 0.010 if call < 90 else 1.0, failed=call >= 98)
    assert window.quantile(0.5) == pytest.approx(0.010, rel=0.2)
    assert window.quantile(0.95) == pytest.approx(1.0, rel=0.2)
    assert window.success_rate == pytest.approx(0.98)
    window.roll(0.95)
    assert window.calls == 100
    window.roll(1.05)
    assert (window.calls, window.failures) == (0, 0)
    window.roll(0.0)  # a clock that goes back rolls nothing
    window.add(50.0, 1e9, failed=False)
    assert window.quantile(0.95) == lower_bound(BUCKETS - 1)


def run(core, start, seconds, latency, failed=False):
    for tenth in range(int(seconds * 10)):
        core.observe(start + tenth / 10, latency, failed)
    return start + seconds


def test_grows_by_a_tenth_up_to_half_more_than_at_first():
    core = StepCore(100.0, max_p95=0.2, min_success=0.95, now=0.0)
    run(core, 0.0, 5.1, 0.05)
    assert core.rate == pytest.approx(110.0)
    run(core, 5.1, 60.0, 0.05)
    assert core.rate == pytest.approx(150.0)


@pytest.mark.parametrize("bad", [{"latency": 0.5}, {"latency": 0.05, "failed": True}])
def test_two_abnormal_judgements_lower_and_the_first_still_grows(bad):
    core = StepCore(100.0, max_p95=0.2, min_success=0.95, now=0.0)
    run(core, 0.0, 5.1, **bad)
    assert core.rate == pytest.approx(110.0)
    run(core, 5.1, 5.0, **bad)
    assert core.rate == pytest.approx(88.0)
    run(core, 10.1, 5.0, **bad)
    assert core.rate == pytest.approx(70.4)


def test_one_blip_counts_as_six_judgements():
    """The known fault: judgements share five sixths of their window, so they are not independent."""
    core = StepCore(100.0, max_p95=0.2, min_success=0.95, now=0.0)
    at = run(core, 0.0, 30.0, 0.05)
    at = run(core, at, 4.0, 1.0)
    rates = []
    for _ in range(8):
        at = run(core, at, 5.0, 0.05)
        rates.append(core.rate)
    assert [rate < before for before, rate in zip([150.0, *rates], rates, strict=False)] == [
        False,
        True,
        True,
        True,
        True,
        True,
        False,
        False,
    ]


def test_missed_judgements_are_made_up_for():
    core = StepCore(100.0, max_p95=0.2, min_success=0.95, now=0.0)
    core.observe(15.5, 0.05, failed=False)
    assert core.rate == pytest.approx(133.1)
    run(core, 16.0, 12.0, 1.0)
    core.observe(1e7, 0.05, failed=False)
    assert core.rate == 150.0
    assert core.abnormal_in_row == 0


def test_guard_drives_its_bucket(clock):
    rule = StepRule(TokenBucket(100, burst=1000, clock=clock), max_p95=0.2)
    assert rule.name == "TokenBucket"

    @rule
    def call(seconds, error=None):
        clock.advance(seconds)
        if error is not None:
            raise error

    for _ in range(60):
        call(0.1)
    assert rule.rate == pytest.approx(110.0)
    for _ in range(30):
        with pytest.raises(OSError, match="down"):
            call(0.4, OSError("down"))
    assert rule.rate < 110.0
    failures = rule._core.window.failures
    with pytest.raises(RateLimited):
        call(0.0, RateLimited("further in"))
    with pytest.raises(asyncio.CancelledError):
        call(0.0, asyncio.CancelledError())
    assert rule._core.window.failures == failures
    rule._after_fork()
    call(0.0)


def test_guard_waits_where_its_bucket_waits(clock):
    rule = StepRule(TokenBucket(10, burst=1, max_wait=5.0, clock=clock), max_p95=0.2, name="api")
    seen = []

    @rule
    def call():
        seen.append(clock.monotonic())

    @rule
    async def call_async():
        seen.append(clock.monotonic())

    call()
    call()

    async def main():
        await call_async()

    clock.run(main())
    assert [round(at - seen[0], 6) for at in seen] == [0.0, 0.1, 0.2]


@pytest.mark.parametrize(
    ("parameter", "value"), [("bucket", 5), ("max_p95", 0.0), ("min_success", 1.5)]
)
def test_bad_settings_are_named(parameter, value):
    settings = {"bucket": TokenBucket(1), "max_p95": 1.0, "min_success": 0.9} | {parameter: value}
    with pytest.raises(InvalidArgument) as caught:
        StepRule(settings.pop("bucket"), **settings)
    assert caught.value.parameter == parameter
