"""The pure parts of the breaker: windows, table, verdicts."""

from math import inf

import pytest

from hastack.ratelimit._breaker import (
    FAILURE,
    SUCCESS,
    TRANSITIONS,
    BreakerCore,
    BreakerRules,
    BreakerState,
    Probe,
    Signal,
    transition_diagram,
)
from hastack.ratelimit._breaker_gate import Verdicts
from hastack.ratelimit._outcome_window import SLOTS, CountWindow, Epoch, TimeWindow


def rules(**settings):
    defaults = {
        "failure_rate": 0.5,
        "slow_rate": 0.5,
        "slow_call": inf,
        "window": 10.0,
        "window_calls": 0,
        "min_calls": 2,
        "open_for": 5.0,
        "open_factor": 2.0,
        "open_max": 60.0,
        "jitter": 0.0,
        "half_open_calls": 1,
        "half_open_success": 1.0,
        "half_open_timeout": 30.0,
    }
    return BreakerRules(**(defaults | settings))


def counts(window):
    return window.calls, window.failures, window.slow


def test_time_window_forgets_slot_by_slot():
    window = TimeWindow(10.0, min_calls=1)
    for second in range(10):
        window.add(second + 0.5, failed=second % 2 == 0, slow=second == 3)
    assert counts(window) == (10, 5, 1)
    window.look(10.5)  # the slot of second 0 is gone
    assert counts(window) == (9, 4, 1)
    window.look(13.5)
    assert counts(window) == (6, 3, 0)
    window.look(19.9)
    assert counts(window) == (0, 0, 0)


def test_time_window_after_a_long_silence_is_empty():
    window = TimeWindow(10.0, min_calls=1)
    window.add(0.0, failed=True, slow=True)
    window.add(1e9, failed=False, slow=False)
    assert counts(window) == (1, 0, 0)


def test_time_window_counts_into_the_current_slot_when_time_goes_back():
    window = TimeWindow(10.0, min_calls=1)
    window.add(100.0, failed=True, slow=False)
    window.add(3.0, failed=True, slow=False)
    assert counts(window) == (2, 2, 0)
    window.look(109.9)
    assert counts(window) == (2, 2, 0)
    window.look(110.0)
    assert counts(window) == (0, 0, 0)


def test_time_window_is_calm_only_while_a_success_can_decide_nothing():
    window = TimeWindow(10.0, min_calls=3)
    assert window.calm_until == -inf
    window.add(0.5, failed=False, slow=False)
    assert window.calm_until == 1.0
    window.add(0.5, failed=True, slow=False)
    assert window.calm_until == -inf  # the third call may be the one that decides
    window.add(0.5, failed=False, slow=False)
    assert window.calm_until == 1.0
    window.total = window.tick()  # what a calm success does
    window.look(0.6)
    assert counts(window) == (4, 1, 0)


def test_calm_successes_are_in_the_slot_in_which_they_were_counted():
    window = TimeWindow(10.0, min_calls=1)
    window.add(0.5, failed=False, slow=False)
    for _ in range(5):
        window.total = window.tick()
    window.add(9.5, failed=True, slow=False)
    assert counts(window) == (7, 1, 0)
    window.look(10.5)
    assert counts(window) == (1, 1, 0)


def test_count_window_is_a_ring():
    window = CountWindow(3)
    window.add(0.0, failed=True, slow=True)
    window.add(0.0, failed=False, slow=True)
    assert counts(window) == (2, 1, 2)
    assert window.calm_until == -inf
    for _ in range(3):
        window.add(0.0, failed=False, slow=False)
    assert counts(window) == (3, 0, 0)
    assert window.calm_until == inf
    window.total = window.tick()
    window.look(0.0)
    assert counts(window) == (3, 0, 0)


def test_count_window_stays_right_after_calm_successes():
    window = CountWindow(4)
    for _ in range(7):
        window.total = window.tick()
    window.add(0.0, failed=True, slow=False)
    window.add(0.0, failed=False, slow=False)
    window.look(0.0)
    assert counts(window) == (4, 1, 0)


def test_epoch_counts_nothing():
    epoch = Epoch(inf)
    epoch.add(0.0, failed=True, slow=True)
    epoch.look(1.0)
    assert counts(epoch) == (0, 0, 0)


def test_automatic_transitions_are_exactly_these():
    automatic = {BreakerState.CLOSED, BreakerState.OPEN, BreakerState.HALF_OPEN}
    found = {
        (state.name, signal.name, target.name)
        for (state, signal), target in TRANSITIONS.items()
        if {state, target} <= automatic and signal is not Signal.RESET
    }
    assert found == {
        ("CLOSED", "FAILURE_RATE", "OPEN"),
        ("CLOSED", "SLOW_RATE", "OPEN"),
        ("OPEN", "OPEN_TIME_OVER", "HALF_OPEN"),
        ("HALF_OPEN", "PROBES_SUCCEEDED", "CLOSED"),
        ("HALF_OPEN", "PROBES_FAILED", "OPEN"),
    }


@pytest.mark.parametrize("state", list(BreakerState))
def test_every_state_can_be_left_by_hand(state):
    assert TRANSITIONS[state, Signal.RESET] is BreakerState.CLOSED
    assert TRANSITIONS.get((state, Signal.FORCE_OPEN), state) is BreakerState.FORCED_OPEN
    assert TRANSITIONS.get((state, Signal.DISABLE), state) is BreakerState.DISABLED
    assert TRANSITIONS.get((state, Signal.OBSERVE_ONLY), state) is BreakerState.OBSERVE_ONLY
    automatic = state in {BreakerState.CLOSED, BreakerState.OPEN, BreakerState.HALF_OPEN}
    assert TRANSITIONS.get((state, Signal.ENABLE)) is (None if automatic else BreakerState.CLOSED)


def test_diagram_comes_from_the_table():
    lines = transition_diagram().splitlines()
    assert len(lines) == 5
    assert lines[0] == "closed     ── failure rate reached ────▶  open"
    assert lines[4] == "half-open  ── probes failed ───────────▶  open"


def test_a_jitter_source_that_raises_leaves_the_state_whole():
    def broken():
        raise ZeroDivisionError

    core = BreakerCore(rules(jitter=0.5), broken, 0.0)
    window = core.epoch
    core.record(window, 0.0, 0.0, FAILURE)
    with pytest.raises(ZeroDivisionError):
        core.record(window, 0.0, 0.0, FAILURE)
    assert core.state is BreakerState.CLOSED
    assert core.epoch is window
    assert core.generation == 0


def test_forget_callers_frees_the_probe_slots():
    core = BreakerCore(rules(), lambda: 0.5, 0.0)
    for _ in range(2):
        core.record(core.epoch, 0.0, 0.0, FAILURE)
    core.wake(5.0)
    probe = core.grant(5.0)
    assert isinstance(probe, Probe)
    assert core.grant(5.0) is None
    core.forget_callers()
    assert core.grant(5.0) is not None
    assert core.record(probe, 5.0, 5.0, SUCCESS) is None
    assert core.state is BreakerState.HALF_OPEN


def test_number_of_probes_needed_is_exact_where_floats_are_not():
    assert rules(half_open_calls=30, half_open_success=0.1).probes_needed == 3
    assert rules(half_open_calls=1, half_open_success=0.01).probes_needed == 1


def test_window_length_in_slots():
    assert TimeWindow(5.0, 1).width * SLOTS == pytest.approx(5.0)


def test_without_a_result_predicate_every_result_is_a_success():
    verdicts = Verdicts((OSError,), None, (), None, lambda *_: None, lambda: False)
    assert verdicts.of_result(None) == SUCCESS
    assert verdicts.of_error(OSError()) == FAILURE
