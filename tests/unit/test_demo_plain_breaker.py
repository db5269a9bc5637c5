"""The baselines' breaker does what the textbook says."""

import pytest

from hastack.cli.demo._plain_breaker import ConsecutiveFailures, PlainBreaker
from hastack.errors import CircuitOpen, RateLimited
from hastack.testing import ManualClock


def opened():
    core = ConsecutiveFailures(failures=3, open_for=2.0)
    for _ in range(3):
        assert core.admit(0.0)
        core.fail(0.0)
    return core


def test_opens_after_failures_in_a_row():
    assert opened().state == "open"


def test_a_success_in_between_starts_the_count_anew():
    core = ConsecutiveFailures(failures=3, open_for=2.0)
    for outcome in "ffsff":
        if outcome == "f":
            core.fail(0.0)
        else:
            core.succeed()
    assert core.state == "closed"
    core.fail(0.0)
    assert core.state == "open"


def test_open_refuses_until_its_time_and_then_lets_one_probe_through():
    core = opened()
    assert core.retry_after(0.5) == pytest.approx(1.5)
    assert not core.admit(1.999)
    assert core.admit(2.0)
    assert core.state == "half-open"
    assert not core.admit(2.0)


def test_a_good_probe_closes():
    core = opened()
    core.admit(2.0)
    core.succeed()
    assert core.state == "closed"


def test_a_bad_probe_opens_anew():
    core = opened()
    core.admit(2.0)
    core.fail(2.5)
    assert core.state == "open"
    assert not core.admit(4.4)
    assert core.admit(4.5)


def test_results_that_arrive_while_open_change_nothing():
    core = opened()
    core.succeed()
    assert core.state == "open"
    core.fail(1.9)
    assert core.admit(2.0)


def test_an_abandoned_probe_frees_its_place():
    core = opened()
    core.admit(2.0)
    core.abandon(2.1)
    assert core.state == "open"
    assert core.admit(2.1)


def test_an_abandoned_call_of_a_closed_breaker_is_nothing():
    core = ConsecutiveFailures(failures=1, open_for=2.0)
    core.abandon(0.0)
    assert core.state == "closed"


def test_as_a_guard():
    clock = ManualClock()
    breaker = PlainBreaker(failures=1, open_for=2.0, clock=clock)
    outcomes = [ValueError("no"), None, RateLimited("inner"), None, KeyError("x"), None]

    @breaker
    def call():
        outcome = outcomes.pop(0)
        if outcome is not None:
            raise outcome
        return "fine"

    with pytest.raises(ValueError, match="no"):
        call()
    with pytest.raises(CircuitOpen) as refused:
        call()
    assert refused.value.retry_after == pytest.approx(2.0)
    clock.advance(2.0)
    assert call() == "fine"
    assert breaker.state == "closed"
    with pytest.raises(RateLimited):
        call()
    assert breaker.state == "closed", "a refusal further in says nothing about the dependency"


def test_default_clock_is_the_process_clock():
    breaker = PlainBreaker(failures=1, open_for=2.0)
    assert breaker(lambda: 7)() == 7
