"""The decisions of the registry: presence, verdicts, what a slow subscriber is told, the cache."""

from __future__ import annotations

import gc
import hashlib
import itertools
import json
import weakref

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hastack.discovery import Change, Instance
from hastack.discovery._probe_verdict import Thresholds, Verdict
from hastack.discovery._registration_rule import Standing
from hastack.discovery._registry_cachefile import (
    CachedService,
    UnusableCache,
    decode,
    encode,
)
from hastack.discovery._registry_changes import KEPT, ChangeLog, Pending, difference
from hastack.discovery._registry_feed import Known
from hastack.errors import InvalidArgument


def instance(name="a", **more):
    return Instance(**{"service": "orders", "id": name, "address": f"{name}:80", **more})


# Presence ---------------------------------------------------------------------------------


def test_what_stands_against_being_offered() -> None:
    fine = {"open": True, "serving": True, "healthy": True}
    assert Standing(**fine).presence == "present"
    for wrong in (
        {"open": False},
        {"serving": False},
        {"gone": True},
        {"healthy": None},
        {"healthy": False},
    ):
        assert Standing(**{**fine, **wrong}).presence == "absent", wrong
    for leaving in ({"leaving": True}, {"draining": True}):
        assert Standing(**{**fine, **leaving}).presence == "draining"
    marked = Standing(**{**fine, "healthy": False, "when_unhealthy": "drain"})
    assert marked.presence == "draining"


def test_evicted_is_only_what_health_alone_keeps_away() -> None:
    for opened, serving, healthy, draining in itertools.product([True, False], repeat=4):
        standing = Standing(open=opened, serving=serving, healthy=healthy, draining=draining)
        assert standing.evicted == (opened and serving and not healthy and not draining)
        assert not standing.undecided
    unknown = Standing(open=True, healthy=None)
    assert unknown.undecided
    assert not Standing(open=True, healthy=None, serving=False).undecided


# Verdicts ---------------------------------------------------------------------------------


def verdicts(answers, **thresholds):
    verdict, found = Verdict(), []
    for ok in answers:
        verdict = verdict.after(ok, Thresholds(**thresholds))
        found.append(verdict.healthy)
    return found


def test_the_first_answer_decides_at_once() -> None:
    assert Verdict().healthy is None
    assert verdicts([True]) == [True]
    assert verdicts([False]) == [False]


def test_a_verdict_turns_after_so_many_in_a_row() -> None:
    answers = [True, False, False, True, False, False, False, True, False, True, True]
    assert verdicts(answers, fail_after=3, recover_after=2) == (
        [True, True, True, True, True, True, False, False, False, False, True]
    )


@pytest.mark.parametrize("name", ["fail_after", "recover_after"])
def test_thresholds_below_one_are_refused(name) -> None:
    with pytest.raises(InvalidArgument, match=name):
        Thresholds(**{name: 0})


@given(
    st.lists(st.booleans(), min_size=1),
    st.integers(1, 4),
    st.integers(1, 4),
)
def test_a_verdict_turns_only_on_an_unbroken_row(answers, fail_after, recover_after) -> None:
    found = verdicts(answers, fail_after=fail_after, recover_after=recover_after)
    for at in range(1, len(answers)):
        now, before = found[at], found[at - 1]
        row = fail_after if before else recover_after  # answers that turn the verdict before
        against = answers[max(1, at - row + 1) : at + 1]
        assert (now != before) == (len(against) == row and set(against) == {not before})


# Pending changes ----------------------------------------------------------------------------

NAMES = ["a", "b", "c"]


@st.composite
def histories(draw):
    """States one after the other: name -> weight."""
    one = st.dictionaries(st.sampled_from(NAMES), st.integers(1, 3))
    return draw(st.lists(one, min_size=1, max_size=8))


def as_instances(state):
    return [instance(name, weight=float(w)) for name, w in sorted(state.items())]


def applied(known, change):
    """The state after ``change``; fails when it does not fit."""
    name = change.instance.id
    if change.kind == "added":
        assert name not in known
    else:
        assert name in known
    if change.kind == "updated":
        assert change.previous == known[name] != change.instance
    if change.kind == "removed":
        assert known.pop(name) == change.instance
    else:
        known[name] = change.instance
    return known


@given(histories(), st.data())
def test_whenever_a_subscriber_takes_it_is_led_to_the_present(states, data) -> None:
    first = as_instances(states[0])
    pending = Pending(first, revision=1)
    known, present = {}, first
    for revision, state in enumerate(states[1:], 2):
        after = as_instances(state)
        for change in difference(present, after, revision=revision):
            pending.push(change)
        present = after
        assert len(pending) <= len(NAMES)
        for _ in range(data.draw(st.integers(0, 2))):
            change = pending.take()
            if change is not None:
                known = applied(known, change)
    for change in pending.take_all():
        known = applied(known, change)
    assert known == {each.id: each for each in present}
    assert pending.take() is None
    assert pending.take_all() == ()


def known_of(state, revision):
    return Known(tuple(as_instances(state)), revision, True, frozenset())


@given(histories(), st.lists(st.sampled_from([0, 1, KEPT, KEPT + 1]), min_size=8), st.data())
def test_readers_of_one_log_are_led_to_the_present_however_late_they_read(
    states, lulls, data
) -> None:
    """The first of them always reads at once, the last only at the end."""
    now = known_of(states[0], 1)
    log = ChangeLog(now)
    readers = [[log.last, Pending(now.instances, revision=1), {}] for _ in range(3)]

    def read(reader):
        step = None if reader[1] else log.single(reader[0])
        at = log.read(reader[0], reader[1])
        if step is not None:  # the short way to the same
            assert step is at
            assert reader[1].take_all() == step.changes
            reader[1].push(step.changes[0])
        reader[0] = at
        for change in reader[1].take_all():
            reader[2] = applied(reader[2], change)
        assert reader[2] == {each.id: each for each in now.instances}

    def tell(then):
        nonlocal now
        changes = difference(now.instances, then.instances, revision=then.revision)
        now = then
        log.append(changes, now)

    for revision, (state, lull) in enumerate(zip(states[1:], lulls, strict=False), 2):
        tell(known_of(state, revision))
        for n in range(lull):  # much that comes and goes again
            tell(known_of({"a": 1 + n % 3}, revision))
        read(readers[0])
        if data.draw(st.booleans()):
            read(readers[1])
    for each in readers:
        read(each)
        assert each[0] is log.last


def test_a_log_keeps_little_alive_for_whoever_never_reads() -> None:
    log = ChangeLog(known_of({"a": 0}, 1))
    at, pending = log.last, Pending()
    told = []
    for n in range(1, 3 * KEPT):
        before, now = log.last.known, known_of({"a": n}, n)
        changes = difference(before.instances, now.instances, revision=n)
        told.append(weakref.ref(changes[0].instance))
        log.append(changes, now)
    del before, now, changes
    gc.collect()
    assert sum(each() is not None for each in told) <= KEPT + 2
    assert log.read(at, pending) is log.last
    (change,) = pending.take_all()
    assert (change.kind, change.previous.weight) == ("updated", 0.0)
    assert change.instance is told[-1]()


def test_changes_of_one_instance_become_one() -> None:
    a1, a2, a3 = (instance("a", weight=w) for w in (1.0, 2.0, 3.0))

    def together(*changes):
        pending = Pending()
        for change in changes:
            pending.push(change)
        return pending.take_all()

    added = Change(kind="added", instance=a1, revision=1)
    first = Change(kind="updated", instance=a2, previous=a1, revision=2)
    second = Change(kind="updated", instance=a3, previous=a2, revision=3)
    back = Change(kind="updated", instance=a1, previous=a2, revision=4)
    removed = Change(kind="removed", instance=a2, revision=5)
    again = Change(kind="added", instance=a1, revision=6)
    other = Change(kind="added", instance=a3, revision=6)
    assert together(added, first) == (Change(kind="added", instance=a2, revision=2),)
    assert together(first, second) == (
        Change(kind="updated", instance=a3, previous=a1, revision=3),
    )
    assert together(first, back) == ()
    assert together(first, removed) == (Change(kind="removed", instance=a1, revision=5),)
    assert together(added, first, removed) == ()
    assert together(first, removed, again) == ()
    assert together(first, removed, other) == (
        Change(kind="updated", instance=a3, previous=a1, revision=6),
    )


# The cache file -----------------------------------------------------------------------------

TEXT = st.text(min_size=1, max_size=8).filter(lambda t: t.isprintable() or t.isspace())


@given(
    st.dictionaries(
        TEXT,
        st.lists(st.builds(instance, TEXT, zone=TEXT, origin=TEXT), max_size=3),
        max_size=3,
    )
)
def test_a_cache_says_what_was_written(services) -> None:
    rows = [
        CachedService(
            namespace="default",
            service=service,
            instances=tuple(Instance(**{**fields(one), "service": service}) for one in found),
            revision=7,
            at=1000.0,
        )
        for service, found in services.items()
    ]
    assert sorted(decode(encode(rows)), key=lambda r: r.service) == sorted(
        rows, key=lambda r: r.service
    )


def fields(one):
    return {name: getattr(one, name) for name in ("id", "address", "zone", "origin")}


def row(service="orders", at=1.0, count=1):
    found = tuple(instance(f"{n:04}", service=service) for n in range(count))
    return CachedService(namespace="n", service=service, instances=found, revision=1, at=at)


def test_a_cache_has_a_bound_and_keeps_what_is_newest() -> None:
    rows = [row("old", at=1.0, count=20), row("new", at=2.0, count=20), row("tiny", at=0.5)]
    limit = 256 + len(encode([rows[1]])) + 100
    content = encode(rows, limit=limit)
    assert len(content) <= limit
    assert [each.service for each in decode(content)] == ["new", "tiny"]


def test_a_damaged_cache_is_refused_wherever_it_is_damaged() -> None:
    content = encode([row()])
    for at in range(len(content)):
        damaged = bytearray(content)
        damaged[at] ^= 1
        with pytest.raises(UnusableCache):
            decode(bytes(damaged))
    for end in range(len(content)):
        with pytest.raises(UnusableCache):
            decode(content[:end])


def test_a_cache_of_another_version_is_refused() -> None:
    with pytest.raises(UnusableCache, match="version"):
        decode(encode([row()]).replace(b"cache 1 ", b"cache 2 ", 1))


def test_a_cache_with_a_good_checksum_over_nonsense_is_refused() -> None:
    body = json.dumps([{"namespace": "n"}]).encode()
    head = b"hastack-discovery-cache 1 " + hashlib.sha256(body).hexdigest().encode()
    with pytest.raises(UnusableCache, match="no service"):
        decode(head + b"\n" + body)
