from datetime import timedelta

import pytest

from hastack.errors import InvalidArgument
from hastack.ratelimit import FixedWindow, LeakyBucket, Quota, SlidingWindowLog, TokenBucket
from hastack.ratelimit._quota import to_quota


@pytest.mark.parametrize(
    ("text", "permits", "per"),
    [
        ("100/s", 100, 1),
        ("5000 per hour", 5000, 3600),
        ("10/min", 10, 60),
        ("1000/100ms", 1000, 0.1),
        ("5 per 2 minutes", 5, 120),
        ("1_000_000/day", 1_000_000, 86400),
        ("0.5/s", 0.5, 1),
        ("  3 PER 1.5 Hours ", 3, 5400),
        ("7/us", 7, 1e-6),
        ("1e6/s", 1e6, 1),
        ("2/2secs", 2, 2),
        ("9/h", 9, 3600),
        ("9/m", 9, 60),
        ("9/hrs", 9, 3600),
        ("4/d", 4, 86400),
    ],
)
def test_strings(text, permits, per):
    quota = Quota.parse(text)
    assert quota == Quota(permits, per)
    assert quota.rate == pytest.approx(permits / per)


@pytest.mark.parametrize(
    "text",
    ["", "100", "100/", "/s", "100/fortnight", "x/s", "-5/s", "1,000/s", "nan/s", "5 s", "5pers", "1/s/s", "0/s", "5/0s"],
)  # fmt: skip
def test_bad_strings_name_the_parameter_and_the_units(text):
    with pytest.raises(InvalidArgument) as caught:
        TokenBucket(text)
    assert caught.value.parameter == "rate"
    assert caught.value.value == text
    assert "minute" in caught.value.accepted


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), True, None, b"1/s"])
@pytest.mark.parametrize("limiter", [TokenBucket, LeakyBucket])
def test_bad_rates(limiter, value):
    with pytest.raises(InvalidArgument) as caught:
        limiter(value)
    assert caught.value.parameter == "rate"


@pytest.mark.parametrize("value", [0, 0.5, -1, float("nan"), float("inf"), True, None, "0.5/s"])
@pytest.mark.parametrize("limiter", [FixedWindow, SlidingWindowLog])
def test_bad_limits(limiter, value):
    with pytest.raises(InvalidArgument) as caught:
        limiter(value)
    assert caught.value.parameter == "limit"


def test_quota_takes_timedelta_and_prints():
    quota = Quota(30, timedelta(minutes=1))
    assert quota.rate == 0.5
    assert str(quota) == "30/60s"
    assert to_quota("rate", quota) is quota
    assert to_quota("rate", 2) == Quota(2, 1)


@pytest.mark.parametrize(("permits", "per", "parameter"), [(0, 1, "permits"), (1, 0, "per")])
def test_bad_quota(permits, per, parameter):
    with pytest.raises(InvalidArgument) as caught:
        Quota(permits, per)
    assert caught.value.parameter == parameter
