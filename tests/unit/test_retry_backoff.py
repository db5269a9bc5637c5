"""Pure decisions of retries: delays, budget, Retry-After."""

import math
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from hastack.errors import RateLimited
from hastack.ratelimit._backoff import Backoff, Stop
from hastack.ratelimit._budget import SLOTS, BudgetWindow
from hastack.ratelimit._retry_after import http_retry_after, parse_retry_after, said_by


def backoff(**changes):
    options = {
        "attempts": 4,
        "base": 0.1,
        "cap": 1.0,
        "factor": 4.0,
        "jitter": True,
        "max_retry_after": 60.0,
    }
    return Backoff(**(options | changes))


def delay(policy, tries, *, drawn=1.0, retry_after=None, remaining=None):
    return policy.next_delay(tries, drawn=drawn, retry_after=retry_after, remaining=remaining)


def test_ceiling_grows_up_to_the_cap():
    policy = backoff(attempts=10**6)
    assert [policy.ceiling(n) for n in (1, 2, 3)] == [0.1, 0.4, 1.0]
    assert policy.ceiling(10**5) == 1.0  # 4.0 ** 10**5 overflows


def test_full_jitter():
    policy = backoff()
    assert delay(policy, 1, drawn=0.0) == 0.0
    assert delay(policy, 2, drawn=0.5) == pytest.approx(0.2)
    assert delay(backoff(jitter=False), 2, drawn=0.5) == pytest.approx(0.4)


def test_attempts():
    assert delay(backoff(), 3) == 1.0
    assert delay(backoff(), 4) is Stop.ATTEMPTS
    assert delay(backoff(attempts=1), 1) is Stop.ATTEMPTS


def test_deadline():
    assert delay(backoff(), 1, remaining=0.11) == 0.1
    assert delay(backoff(), 1, remaining=0.1) is Stop.DEADLINE
    assert delay(backoff(), 1, drawn=0.0, remaining=0.0) is Stop.DEADLINE


def test_retry_after_is_never_undercut_and_spread():
    assert delay(backoff(), 1, drawn=0.0, retry_after=3.0) == 3.0
    assert delay(backoff(), 1, drawn=0.5, retry_after=3.0) == pytest.approx(3.05)
    assert delay(backoff(), 1, drawn=0.5, retry_after=3.0, remaining=3.0) is Stop.DEADLINE
    assert delay(backoff(), 1, retry_after=60.1) is Stop.TOO_LATE


def window(**changes):
    return BudgetWindow(**({"ratio": 0.5, "min_per_second": 0.0, "window": 10.0} | changes))


def test_budget_follows_calls():
    budget = window()
    assert not budget.spend(0.0)
    for _ in range(4):
        budget.count_call(0.0)
    assert budget.left(0.0) == 2.0
    assert [budget.spend(0.5) for _ in range(3)] == [True, True, False]


def test_budget_floor():
    budget = window(min_per_second=0.3)
    assert [budget.spend(100.0) for _ in range(4)] == [True, True, True, False]
    assert not budget.spend(109.9)
    assert budget.spend(110.0)  # the slot of second 100 is out of the window


def test_budget_forgets_slot_by_slot():
    budget = window()
    for second in range(30):
        budget.count_call(float(second))
    assert budget.left(29.0) == SLOTS * 0.5
    assert budget.left(33.0) == 6 * 0.5
    assert budget.left(1000.0) == 0.0


def test_budget_keeps_no_more_than_its_window():
    budget = window()
    for second in range(100):
        budget.count_call(float(second))
        assert len(budget._cells) <= SLOTS


def test_budget_with_a_clock_that_goes_back():
    budget = window()
    budget.count_call(50.0)
    budget.count_call(50.0)
    assert budget.left(10.0) == 1.0  # nothing is gained by it
    assert budget.spend(10.0)
    assert not budget.spend(50.0)


NOW = datetime(2025, 3, 1, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("120", 120.0),
        (" 0 ", 0.0),
        ("Sat, 01 Mar 2025 12:00:30 GMT", 30.0),
        ("Sat, 01 Mar 2025 12:00:30 -0000", 30.0),
        ("Saturday, 01-Mar-25 12:00:30 GMT", 30.0),
        ("Sat, 01 Mar 2025 13:00:30 +0100", 30.0),
        ("Sat, 01 Mar 2025 11:00:00 GMT", 0.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", None),
        ("Fri, 31 Dec 9999 23:59:59 -1200", None),
        ("99999999999999999999999999999999999999999999", None),
        ("-5", None),
        ("1.5", None),
        ("٣", None),
        ("soon", None),
        ("", None),
        ("Sat, 99 Mar 2025 99:00:00 GMT", None),
    ],
)
def test_parse_retry_after(text, want):
    assert parse_retry_after(text, now=NOW) == want


def test_parse_retry_after_compares_with_the_present():
    assert parse_retry_after("Sat, 01 Mar 2025 12:00:30 GMT") == 0.0


@pytest.mark.parametrize(
    ("value", "want"),
    [
        (1, 1.0),
        (2.5, 2.5),
        (timedelta(seconds=3), 3.0),
        (None, None),
        ("4", None),
        (True, None),
        (-1.0, None),
        (math.inf, None),
        (math.nan, None),
        (1e12, None),
    ],
)
def test_said_by(value, want):
    assert said_by(SimpleNamespace(retry_after=value)) == want
    assert http_retry_after(SimpleNamespace(retry_after=value)) == want


def test_said_by_hastack_errors():
    assert said_by(RateLimited("api", retry_after=0.5)) == 0.5
    assert said_by(RateLimited("api")) is None
    assert said_by(ValueError()) is None


def test_http_retry_after():
    response = SimpleNamespace(headers={"Retry-After": "7"})
    assert http_retry_after(response) == 7.0
    assert http_retry_after(SimpleNamespace(headers={"retry-after": "8"})) == 8.0
    assert http_retry_after(SimpleNamespace(response=response)) == 7.0
    assert http_retry_after(SimpleNamespace(headers={}, response=response)) == 7.0
    assert http_retry_after(SimpleNamespace(headers=3, response=None)) is None
    assert http_retry_after(SimpleNamespace(headers={"Retry-After": 3})) is None
    assert http_retry_after(ValueError()) is None
