"""What a look says about guards, and what counting costs nobody: by a clock that is an argument."""

from __future__ import annotations

import gc
import threading
import time

import pytest

from hastack import health, lifecycle, ratelimit
from hastack.contrib._dashboard._actions import asked, perform
from hastack.contrib._dashboard._observer import MOST_ROWS, Observer
from hastack.errors import ClosedError, InvalidArgument, Rejected
from hastack.ratelimit import (
    AdaptiveLimit,
    AllOf,
    ConcurrencyLimit,
    Fallback,
    FixedWindow,
    LeakyBucket,
    Retry,
    TokenBucket,
)
from hastack.ratelimit._tally import Tally, tallied, untallied


@pytest.fixture
def looking():
    """Observers of some objects, or of all; each look is a second after the one before."""
    made = []

    def make(*objects):
        observer = Observer(objects or None, service="svc", period=1.0, history=8)
        made.append(observer)
        now = iter(range(1_000))
        return observer, lambda: observer.look(float(next(now)), time.time())

    yield make
    for each in made:
        each.close()


def test_each_limiter_says_its_limit_and_what_it_counts(looking):
    limits = [
        TokenBucket("10/s", burst=20, name="a"),
        FixedWindow("100/min", name="b"),
        LeakyBucket("5/s", name="c"),
        ConcurrencyLimit(3, name="d"),
    ]
    every = AllOf(*limits[:2], name="e")
    _, look = looking(*limits, every)
    rows = look().limiters
    assert [(row.name, row.limit, row.unit) for row in rows] == [
        ("a", 10.0, "/s, burst 20"),
        ("b", 100.0, "per 60 s"),
        ("c", 5.0, "/s, evenly spaced"),
        ("d", 3.0, "at once"),
        ("e", None, "all of a, b"),
    ]
    assert [row.adjustable for row in rows] == [True, True, True, True, False]


def test_states_of_a_limiter(looking):
    bucket = TokenBucket("1/min", burst=1, name="states")
    _, look = looking(bucket)
    assert look().limiters[0].state == "open"
    bucket.try_acquire()
    bucket.try_acquire()
    row = look().limiters[0]
    assert (row.state, row.allowed_rate, row.rejected_rate) == ("limiting", 1.0, 1.0)
    assert row.reasons == {"limited": 1.0}
    assert row.history == [None, 1.0]

    def wait():
        with pytest.raises(ClosedError):
            bucket.acquire()

    waiter = threading.Thread(target=wait)
    waiter.start()
    end = time.monotonic() + 30.0
    while not len(bucket._room):
        assert time.monotonic() < end
        time.sleep(0.01)
    row = look().limiters[0]
    assert (row.state, row.waiting) == ("queueing", 1)
    bucket.close()
    waiter.join(30.0)
    assert look().limiters[0].state == "closed"
    assert not look().limiters[0].adjustable


def test_two_guards_of_one_name_share_their_refusals_and_no_more(looking):
    one, two = (TokenBucket("1/min", burst=1, name="twins") for _ in range(2))
    _, look = looking(one, two)
    look()
    for _ in range(3):
        one.try_acquire()
    shot = look()
    assert sorted(row.allowed for row in shot.limiters) == [0, 1]
    assert [(row.rejected, row.rejected_rate) for row in shot.limiters] == [(2, 2.0)] * 2


def test_retries_and_fallbacks_are_known_by_their_events(looking):
    _, look = looking()
    look()

    @Fallback(value=7, name="calm")
    @Retry(attempts=3, base=0.0001, cap=0.0001, name="again")
    def fail():
        raise OSError

    assert fail() == 7
    bucket = TokenBucket("1/min", burst=1)
    assert [bool(bucket.try_acquire()) for _ in range(2)] == [True, False]  # no policy
    found = {(row.kind, row.name): row for row in look().policies}
    assert (found["retry", "again"].total, found["retry", "again"].rate) == (2, 2.0)
    assert found["fallback", "calm"].total == 1


def test_a_refused_all_of_and_a_full_adaptive_limit_are_not_counted_as_passed():
    bucket = TokenBucket("1/min", burst=1)
    every = AllOf(bucket, TokenBucket("1/min", burst=1))
    adaptive = AdaptiveLimit(initial=1, max_limit=1, max_wait=0.001)
    counts = [tallied(each) for each in (every, adaptive)]
    assert every.try_acquire()
    assert not every.try_acquire()
    with adaptive:
        assert not adaptive.try_acquire()
        with pytest.raises(Rejected), adaptive:
            pass
    assert [each.total() for each in counts] == [1, 1]
    for each in (every, adaptive):
        untallied(each)
        untallied(each)  # once too often changes nothing
    assert every.limits[0] is bucket


def test_all_of_counts_whoever_waited_for_its_turn():
    every = AllOf(TokenBucket("200/s", burst=1), name="waits")
    tally = tallied(every)
    for _ in range(3):
        every.acquire()
    assert tally.total() == 3
    untallied(every)


def test_decorated_calls_that_are_refused_are_not_counted_as_passed():
    bucket = TokenBucket("1/min", burst=1)
    guarded = bucket(lambda: 1)
    tally = tallied(bucket)
    assert guarded() == 1
    with pytest.raises(Rejected):
        guarded()
    assert tally.total() == 1
    bucket.close()  # what the shell sets on its core reaches the core
    untallied(bucket)
    assert bucket._core.closed


def test_looking_at_a_tally_is_no_step():
    tally = Tally()
    assert [tally.total() for _ in range(3)] == [0, 0, 0]
    tally.step()
    assert [tally.total() for _ in range(3)] == [1, 1, 1]


def test_a_limiter_that_is_gone_needs_no_taking_away():
    observer = Observer(None, service="svc", period=1.0, history=2)
    bucket = TokenBucket("1/s", name="early gone")
    observer.look(0.0, 0.0)
    del bucket
    gc.collect()
    observer.close()
    assert observer.look(1.0, 0.0).service == "svc"  # after the end: what was known last


def test_rows_are_bounded_and_say_how_many_are_left_out(looking):
    many = [TokenBucket("1/s", name=f"{n:04}") for n in range(MOST_ROWS + 7)]
    _, look = looking(*many)
    shot = look()
    assert len(shot.limiters) == MOST_ROWS
    assert shot.hidden == {"limiters": 7}


@pytest.mark.parametrize(
    ("body", "parameter"),
    [
        (b"{", "body"),
        (b"\xff", "body"),
        (b"[]", "body"),
        (b'{"action": "erase", "target": "x"}', "action"),
        (b'{"action": ["open"], "target": "x"}', "action"),
        (b'{"action": "open"}', "target"),
        (b'{"action": "limit", "target": "x"}', "value"),
        (b'{"action": "limit", "target": "x", "value": true}', "value"),
        (b'{"action": "limit", "target": "x", "value": "1"}', "value"),
        (b'{"action": "open", "target": "x", "value": 1}', "value"),
        (b'{"action": "open", "target": "x", "value": "1"}', "value"),
    ],
)
def test_a_body_that_is_no_action_names_what_is_wrong(body, parameter):
    with pytest.raises(InvalidArgument) as caught:
        asked(body)
    assert caught.value.parameter == parameter


def test_actions_on_services(looking):
    life = lifecycle.Lifecycle("ends", lame_duck=0.0)
    checks = health.Health("holds")
    observer, look = looking(life, checks)
    shot = look()
    held, ended = shot.health[0].id, shot.lifecycles[0].id

    def do(action, target):
        wanted = asked(f'{{"action": "{action}", "target": "{target}"}}'.encode())
        perform(observer, wanted, observer.find(target))

    do("release", held)  # nobody held it
    do("hold", held)
    do("hold", held)
    assert look().health[0].held
    assert not checks.last_readiness()
    do("release", held)
    assert checks.last_readiness()
    life.start()
    do("shutdown", ended)
    report = life.wait(30.0)
    assert report is not None
    assert str(report.cause) == "asked for on the dashboard"
    assert observer.find("limiters-99") is None
    for action, target in (("hold", ended), ("open", held), ("shutdown", held)):
        with pytest.raises(InvalidArgument, match="action"):
            do(action, target)


def test_names_that_come_and_go_do_not_grow_memory():
    from hastack.contrib._dashboard import _recorder

    recorder = _recorder.Recorder(most=10)
    for n in range(_recorder._MOST_NAMES + 50):
        recorder.step("rejected", f"name {n}", "limited")
        recorder.put("info", "kind", "name", "x" * 1000)
    assert len(recorder.counts()) == _recorder._MOST_NAMES + 1
    assert recorder.counts()["rejected", "(others)", ""] == 50
    assert len(recorder.log) == 10
    assert len(recorder.log[0].text) == 200


def test_every_event_that_is_heard_has_its_line():
    import importlib

    from hastack.contrib._dashboard import _recorder

    heard = {name for names in _recorder._EVENTS.values() for name in names}
    assert heard == set(_recorder._HEARERS)
    for module, names in _recorder._EVENTS.items():
        for name in names:
            assert hasattr(importlib.import_module(module), name)


def test_the_lines_of_guards_and_lifecycles(looking):
    breaker = ratelimit.CircuitBreaker(name="lines", min_calls=1)
    life = lifecycle.Lifecycle("lines", lame_duck=0.0)
    observer, look = looking(breaker, life)
    breaker.try_acquire().failure()
    with life:
        pass
    shot = look()
    lines = [(row.level, row.kind, row.text) for row in shot.events if row.name == "lines"]
    assert ("bad", "breaker", "closed -> open: failure rate reached (1 of 1 calls failed)") in lines
    assert ("good", "lifecycle", "serving") in lines
    assert ("info", "lifecycle", "ended in order") in lines
    assert [row.number for row in shot.events] == sorted(
        (row.number for row in shot.events), reverse=True
    )
