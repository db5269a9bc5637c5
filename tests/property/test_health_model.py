"""Hysteresis and verdicts against what they promise, for any sequence of results."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hastack._health_http import render
from hastack._health_metrics import Family, exposition
from hastack._health_verdict import CheckResult, CheckState, Pulse, Status, judge

checks = st.builds(
    CheckResult,
    name=st.text(min_size=1, max_size=8),
    ok=st.sampled_from([True, False, None]),
    critical=st.booleans(),
    detail=st.text(max_size=8),
)


def turned(history, failures, successes):
    """The definition, read backwards: the last run of equal results that is long enough rules."""
    good = None
    for end in range(1, len(history) + 1):
        needed = successes if history[end - 1] else failures
        run = history[max(end - needed, 0) : end]
        if good is None or (len(run) == needed and len(set(run)) == 1):
            good = history[end - 1]
    return good


@given(st.lists(st.booleans()), st.integers(1, 4), st.integers(1, 4))
def test_hysteresis_is_its_definition(history, failures, successes):
    state = CheckState("x", failures=failures, successes=successes)
    before = state.good
    for n, ok in enumerate(history, 1):
        changed = state.record(float(n), ok)
        assert changed is (state.good is not before)
        before = state.good
        assert state.good is turned(history[:n], failures, successes)


@given(st.lists(st.booleans(), min_size=1), st.integers(2, 4))
def test_fewer_results_than_needed_never_turn_it(history, needed):
    state = CheckState("x", failures=needed, successes=needed)
    state.record(0.0, history[0])
    for ok in history[1:]:
        was, streak = state.good, state.streak
        state.record(0.0, ok)
        if state.good is not was:
            assert streak >= needed - 1


@given(st.lists(checks, max_size=6), st.lists(st.text(min_size=1, max_size=8), max_size=2))
def test_a_verdict_fails_exactly_for_its_reasons(results, against):
    verdict = judge(results, against)
    critical = any(each.critical and each.ok is not True for each in results)
    assert (verdict.status is Status.FAIL) == (critical or bool(against))
    assert bool(verdict) == (verdict.status is not Status.FAIL)
    assert (verdict.status is Status.PASS) == (not verdict.failing)
    for query in ("", "verbose"):
        for accept in ("", "application/json"):
            reply = render("ready", verdict, query=query, accept=accept)
            assert (reply.status == 200) == bool(verdict)
            assert dict(reply.headers)["content-length"] == str(len(reply.body))


@given(st.floats(0.001, 1e6), st.floats(0.0, 1e6), st.floats(0.0, 1e6))
def test_a_pulse_dies_with_age_and_never_before(max_age, last, later):
    pulse = Pulse("x", max_age, last)
    assert pulse.against(last) is None
    assert (pulse.against(last + later) is None) == (last + later - last <= max_age)


@given(st.lists(st.tuples(st.text(max_size=6), st.floats(0, 1e9)), max_size=5))
def test_the_exposition_has_one_line_per_sample(samples):
    family = Family("x", "counter", "X.", tuple(((("l", text),), v) for text, v in samples))
    lines = exposition([family]).split("\n")
    assert lines[-2:] == ["# EOF", ""]
    assert len([each for each in lines if each.startswith("x_total{")]) == len(samples)
