"""Response headers about limits, read by a parser that is not ours."""

from __future__ import annotations

import pytest
from structured_fields import read_list

from hastack import ratelimit
from hastack.contrib._limit_fields import Policy, Standing, fields, policy_of, styles
from hastack.errors import InvalidArgument


@pytest.mark.parametrize(
    ("limiter", "policy"),
    [
        (ratelimit.TokenBucket("100/s", burst=200), Policy(200, 2)),
        (ratelimit.TokenBucket("100/s"), Policy(100, 1)),
        (ratelimit.TokenBucket("100/s", burst=10), Policy(100, 1)),
        (ratelimit.TokenBucket("100/min", burst=1), Policy(100, 60)),
        (ratelimit.TokenBucket("5/min"), Policy(5, 60)),
        (ratelimit.TokenBucket("7/h"), Policy(7, 3600)),
        (ratelimit.TokenBucket("1.5/s", burst=1), Policy(90, 60)),
        (ratelimit.TokenBucket(1 / 86_400.5, burst=1), Policy(1, 86_401)),
        (ratelimit.TokenBucket(1 / 86_400, burst=1.5), Policy(1, 129_600)),
        (ratelimit.FixedWindow("1000/h"), Policy(1000, 3600)),
        (ratelimit.SlidingWindowLog("3 per 10 minutes"), Policy(3, 600)),
        (ratelimit.SlidingWindowCounter(10, window=0.5), Policy(20, 1)),
        (ratelimit.LeakyBucket("20/s"), Policy(20, 1)),
        (ratelimit.ConcurrencyLimit(7), Policy(7, None)),
    ],
)
def test_policies_are_whole_numbers_and_never_more_than_there_is(limiter, policy):
    assert policy_of(limiter) == policy


def test_a_policy_never_promises_more_than_the_rate():
    for rate in (0.001, 0.3, 0.7, 1.01, 1.99, 17.3, 99.99, 12345.6):
        for burst in (1, 1.5, 2, 7, 1000):
            quota, window = policy_of(ratelimit.TokenBucket(rate, burst=burst))
            assert quota >= 1
            assert quota <= rate * window + 1e-3 or quota == 1
            assert type(quota) is type(window) is int


API = Standing("api", Policy(100, 60), 41, 35.2, refused=False)
DAY = Standing("day", Policy(1000, 86_400), 0, 4000.0, refused=True)


def test_the_two_fields_of_the_draft():
    got = dict(fields([API], ("draft",)))
    assert read_list(got["ratelimit-policy"]) == {"api": {"q": 100, "w": 60}}
    assert read_list(got["ratelimit"]) == {"api": {"r": 41, "t": 36}}


def test_beside_a_retry_after_only_what_refused_is_said_to_be_used_up():
    got = dict(fields([API, DAY], ("draft",)))
    assert list(read_list(got["ratelimit-policy"])) == ["api", "day"]
    assert read_list(got["ratelimit"]) == {"day": {"r": 0, "t": 4000}}


def test_a_refusal_says_at_least_one_second():
    soon = Standing("api", Policy(100, 1), 0, 0.01, refused=True)
    assert read_list(dict(fields([soon], ("draft",)))["ratelimit"])["api"]["t"] == 1
    assert dict(fields([soon], ("legacy",)))["ratelimit-reset"] == "1"


def test_units_partitions_and_names_that_need_care():
    bytes_ = Standing('a"\\é\n', Policy(64, 10), 3, 2.0, False, unit=1024, partition=b"eu\xff")
    held = Standing("held", Policy(4, None), 1, None, refused=False)
    got = dict(fields([bytes_, held], ("draft",)))
    name = 'a"\\??'
    assert read_list(got["ratelimit-policy"]) == {
        name: {"q": 65536, "qu": "content-bytes", "w": 10, "pk": b"eu\xff"},
        "held": {"q": 4, "qu": "concurrent-requests"},
    }
    assert read_list(got["ratelimit"]) == {
        name: {"r": 3072, "t": 2, "pk": b"eu\xff"},
        "held": {"r": 1},
    }


def test_numbers_stay_within_what_a_structured_field_holds():
    huge = Standing("huge", Policy(10**18, 10**18), 10**18, 1e30, refused=False)
    got = dict(fields([huge], ("draft",)))
    assert read_list(got["ratelimit"])["huge"] == {"r": 10**15 - 1, "t": 10**15 - 1}
    assert read_list(got["ratelimit-policy"])["huge"]["q"] == 10**15 - 1


def test_the_older_headers_speak_for_the_tightest_limit():
    other = Standing("other", Policy(10, 1), 50, 1.0, refused=False)
    got = dict(fields([other, API], ("legacy", "x")))
    assert got == {
        "ratelimit-limit": "100",
        "ratelimit-remaining": "41",
        "ratelimit-reset": "36",
        "x-ratelimit-limit": "100",
        "x-ratelimit-remaining": "41",
        "x-ratelimit-reset": "36",
    }
    assert dict(fields([API, DAY], ("x",)))["x-ratelimit-limit"] == "1000"
    held = Standing("held", Policy(4, None), 1, None, refused=False)
    assert "ratelimit-reset" not in dict(fields([held], ("legacy",)))


def test_nothing_to_say_is_no_header():
    assert fields([], ("draft", "legacy")) == ()
    assert fields([API], ()) == ()


def test_styles():
    assert styles(None) == styles(()) == ()
    assert styles("draft") == ("draft",)
    assert styles(["legacy", "x"]) == ("legacy", "x")
    for wrong in ("dratf", ("draft", "y")):
        with pytest.raises(InvalidArgument, match="headers="):
            styles(wrong)
