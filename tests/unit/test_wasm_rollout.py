"""How a new version proves itself, and logs that show when they were changed."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hastack.errors import AuditBroken, InvalidArgument
from hastack.wasm import Plan, PrivateKey
from hastack.wasm._chain import Chain, check
from hastack.wasm._rollout import Rollout

KEY = PrivateKey.generate()


def test_a_version_goes_through_its_phases() -> None:
    rollout = Rollout(Plan(shadow=2, canary=4, share=0.5, trial=2))
    routes = []
    while not rollout.over:
        routes.append((rollout.phase, rollout.route()))
        rollout.answered()
    assert routes == [
        *[("shadow", "both")] * 2,
        *[("canary", "active"), ("canary", "candidate")] * 2,
        *[("trial", "candidate")] * 2,
    ]
    assert rollout.phase == "good"
    assert rollout.route() == "active"
    rollout.failed("late")
    rollout.answered(differs=True)
    assert rollout.phase == "good"


def test_without_a_plan_it_is_good_at_once() -> None:
    assert Rollout(Plan()).phase == "good"


def test_answers_that_differ_end_it() -> None:
    rollout = Rollout(Plan(shadow=10, differences=1))
    rollout.route()
    rollout.answered(differs=True)
    assert not rollout.over
    rollout.route()
    rollout.answered(differs=True)
    assert (rollout.phase, rollout.reason) == ("bad", "2 answers differ")


def test_calls_that_fail_end_it() -> None:
    rollout = Rollout(Plan(trial=10, failures=1))
    rollout.route()
    rollout.failed("a trap")
    assert rollout.phase == "trial"
    rollout.route()
    rollout.failed("another trap")
    assert rollout.phase == "bad"
    assert rollout.reason == "2 calls failed, the last with: another trap"


@given(st.integers(1, 500), st.floats(0.01, 1.0))
def test_a_share_is_a_share(calls: int, share: float) -> None:
    if calls * share < 1.0:
        with pytest.raises(InvalidArgument, match="canary"):
            Plan(canary=calls, share=share)
        return
    rollout = Rollout(Plan(canary=calls, share=share))
    got = 0
    while not rollout.over:
        got += rollout.route() == "candidate"
        rollout.answered()
    assert got == int(calls * share)


@pytest.mark.parametrize("wrong", [{"shadow": -1}, {"share": 0}, {"share": 2}, {"trial": 1.5}])
def test_plans_outside_of_their_range(wrong: dict[str, object]) -> None:
    with pytest.raises(InvalidArgument):
        Plan(**wrong)


def log(count: int = 3) -> list[bytes]:
    chain = Chain()
    lines = [chain.line({"event": "X", "detail": f"grüß {n}"}) for n in range(count)]
    return [*lines, chain.sign(KEY)]


def test_a_log_that_nobody_changed_holds() -> None:
    found = check(log(), {KEY.public.id: KEY.public})
    assert (found.lines, found.signed) == (4, 4)
    assert check(log()).signed == 0
    assert check([]).lines == 0


@given(st.data())
def test_each_change_is_found_at_its_line(data: st.DataObject) -> None:
    lines = log()
    index = data.draw(st.integers(0, 3))
    line = bytearray(lines[index])
    line[data.draw(st.integers(0, len(line) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    changed = [*lines[:index], bytes(line), *lines[index + 1 :]]
    with pytest.raises(AuditBroken) as caught:
        check(changed, {KEY.public.id: KEY.public})
    assert caught.value.line == index + 1


def test_lines_that_are_gone_moved_or_written_anew() -> None:
    lines = log()
    for broken, line in [
        (lines[1:], 1),
        ([lines[0], lines[2], lines[1], lines[3]], 2),
        ([lines[0], lines[0]], 2),
        ([b"{}\n"], 1),
        ([b"5\n"], 1),
        ([b'{"hash":"x"}\n'], 1),
        ([b"[" * 99_999], 1),
    ]:
        with pytest.raises(AuditBroken) as caught:
            check(broken)
        assert caught.value.line == line
        assert str(caught.value).startswith(f"line {line}:")
    other = PrivateKey.generate()
    for keys in ({}, {KEY.public.id: other.public}):
        with pytest.raises(AuditBroken, match="line 4: a head that nobody"):
            check(lines, keys)
    chain = Chain()
    forged = chain.line({"event": "Head", "key": KEY.public.id, "signature": "no hex"})
    with pytest.raises(AuditBroken, match="nobody signed"):
        check([forged], {KEY.public.id: KEY.public})
    assert json.loads(forged)["n"] == 1
