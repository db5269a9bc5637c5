"""What a forwarder decides, against models that remember everything."""

from __future__ import annotations

import itertools

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from hastack.discovery import Instance
from hastack.discovery._coalesce import Coalescer
from hastack.discovery._forward_plan import Change, Limits, Plan, newest
from hastack.discovery._forward_token import Token, fingerprint
from hastack.discovery._origin import Heartbeat, OriginState, OriginVigil, drained
from hastack.discovery._origin_guard import EvictionGuard

KEYS = [b"a", b"b", b"c", b"d", b"e", b"f"]
WINDOW = 5.0
times = st.floats(0.0, 4.0)


# The plan


class Forwarding(RuleBasedStateMachine):
    """A source, a plan that follows it, and the mirror that is left when its process dies."""

    def __init__(self):
        super().__init__()
        self.now = 0.0
        self.serial = itertools.count()
        self.states = [{}]  # the source at each revision
        self.changes = []  # of the source
        self.told = 0  # changes handed to the plan
        self.disk = {}  # the mirror as the destination holds it
        self.token = (0, 0)
        self.written = []
        self.coalescer = Coalescer(WINDOW)
        self.visible_since = {}
        self.begin()

    def begin(self):
        """A new process: read the destination, then list or resume as it says."""
        low, high = self.token
        self.plan = Plan(
            dict(self.disk),
            low=low,
            high=high,
            coalescer=Coalescer(WINDOW),
            limits=Limits(ops=3, size=60),
        )
        self.doubt = []
        if self.plan.partial:
            self.list()
        else:
            self.told = sum(change.revision <= low for change in self.changes)

    def list(self):
        self.plan.begin_listing()
        state = sorted(self.states[-1].items())
        for i in range(0, len(state), 2):
            self.plan.list(state[i : i + 2], self.now)
        self.plan.end_listing(len(self.states) - 1, self.now)
        self.told = len(self.changes)

    @rule(key=st.sampled_from(KEYS), size=st.integers(0, 40))
    def put(self, key, size):
        value = b"%d" % next(self.serial) + b"." * size
        self.states.append({**self.states[-1], key: value})
        self.changes.append(Change(key, value, len(self.states) - 1))

    @rule(keys=st.sets(st.sampled_from(KEYS), min_size=1))
    def delete(self, keys):
        keys = sorted(keys & set(self.states[-1]))
        if keys:
            self.states.append({k: v for k, v in self.states[-1].items() if k not in keys})
            self.changes += [Change(key, None, len(self.states) - 1) for key in keys]

    @rule(count=st.integers(1, 4))
    def tell(self, count):
        """Hand over whole revisions, at least ``count`` changes."""
        batch = self.changes[self.told : self.told + count]
        if not batch:
            return
        last = batch[-1].revision
        batch += [c for c in self.changes[self.told + count :] if c.revision == last]
        self.told += len(batch)
        if self.plan.high > self.plan.seen:
            self.doubt += batch
            if last < self.plan.high:
                return
            batch, self.doubt = newest(self.doubt), []
        self.plan.offer(batch, last, self.now)

    @rule(seconds=times)
    def wait(self, seconds):
        self.now += seconds

    @rule(room=st.none() | st.integers(1, 3), lost=st.booleans())
    def write(self, room, lost):
        chunk = self.plan.take(self.now, room)
        if chunk is not None:
            self.carry_out(chunk)
            if lost:  # the answer never came
                self.begin()

    @rule()
    def say(self):
        if self.plan.unsaid:
            self.carry_out(self.plan.say())
        assert not self.plan.unsaid

    @rule()
    def die(self):
        self.begin()

    @rule()
    def die_in_the_middle_of_a_listing(self):
        self.plan.begin_listing()
        state = sorted(self.states[-1].items())
        self.plan.list(state[: len(state) // 2], self.now)
        while (chunk := self.plan.take(self.now)) is not None:
            self.carry_out(chunk)
            assert self.token[0] == 0
        self.begin()

    def carry_out(self, chunk):
        assert len(chunk.changes) <= 3
        size = sum(len(c.key) + len(c.value or b"") for c in chunk.changes)
        assert size <= 60 or len(chunk.changes) == 1
        for change in chunk.changes:
            assert self.disk.get(change.key) != change.value  # nothing is written twice
            if change.value is None:
                del self.disk[change.key]
            else:
                self.disk[change.key] = change.value
            self.written.append((change.key, change.value))
        self.token = (chunk.low, chunk.high)

    @invariant()
    def the_token_tells_the_truth(self):
        low, high = self.token
        assert 0 <= low <= high
        if low == 0:
            return
        between = {c.key for c in self.changes if low < c.revision <= high}
        at_high = self.states[high]
        for key in KEYS:
            if key not in between:
                assert self.disk.get(key) == at_high.get(key)

    @invariant()
    def what_is_written_is_the_history_of_each_key_in_order(self):
        for key in KEYS:
            said = [c.value for c in self.changes if c.key == key]
            place = 0
            for name, value in self.written:
                if name == key:
                    assert value in said[place:]
                    place = said.index(value, place) + 1

    @invariant()
    def nothing_but_later_changes_of_a_standing_key_waits(self):
        plan = self.plan
        assert plan.waited(self.now) >= 0.0
        due = plan.next_due()
        assert due is None or due <= self.now + WINDOW
        for key, change in plan._pending.items():
            waits = key not in plan._ready
            if waits:
                assert change.value is not None
                assert plan.mirror.get(key) is not None
                assert not change.reborn

    def teardown(self):
        self.tell(len(self.changes))
        for _ in range(50):
            while (chunk := self.plan.take(self.now)) is not None:
                self.carry_out(chunk)
            due = self.plan.next_due()
            if due is None:
                break
            self.now = due
        assert self.plan.pending == self.plan.ready == 0
        assert self.disk == self.plan.mirror == self.states[-1]


TestForwarding = Forwarding.TestCase
TestForwarding.settings = settings(stateful_step_count=40)


def put(key, value, revision=1):
    return Change(key, value, revision)


def test_a_flapping_key_waits_with_its_newest_value():
    plan = Plan({b"a": b"0"}, low=1, high=1)
    plan.offer([put(b"a", b"1", 2)], 2, 10.0)
    assert plan.take(10.0).changes[0].value == b"1"
    plan.offer([put(b"a", b"2", 3)], 3, 11.0)
    plan.offer([put(b"a", b"3", 4)], 4, 12.0)
    assert plan.take(14.9) is None
    assert plan.next_due() == 15.0
    assert (plan.low, plan.high, plan.pending, plan.seen) == (3, 4, 1, 4)
    chunk = plan.take(15.0)
    assert ([c.value for c in chunk.changes], chunk.low, chunk.high) == ([b"3"], 4, 4)
    assert plan.counts.coalesced == 1


def test_back_to_what_the_mirror_has_needs_no_write():
    plan = Plan({b"a": b"0"}, low=1, high=1)
    plan.offer([put(b"a", b"1", 2)], 2, 10.0)
    plan.take(10.0)
    plan.offer([put(b"a", b"2", 3)], 3, 11.0)
    plan.offer([put(b"a", b"1", 4)], 4, 12.0)
    plan.offer([put(b"a", b"1", 5), put(b"zz", None, 6)], 6, 12.0)
    assert (plan.pending, plan.next_due(), plan.low) == (0, None, 6)
    assert plan.counts.unchanged == 2


@pytest.mark.parametrize("apart", [True, False])
def test_a_new_life_is_never_waited_for(apart):
    plan = Plan({b"a": b"0"}, low=1, high=1)
    plan.offer([put(b"a", b"1", 2)], 2, 10.0)
    plan.take(10.0)
    plan.offer([put(b"a", b"2", 3)], 3, 10.1)
    life = [put(b"a", None, 4), put(b"a", b"new", 5)]
    if apart:
        plan.offer(life[:1], 4, 10.2)
        plan.offer(life[1:], 5, 10.2)
    else:
        plan.offer(life, 5, 10.2)
    plan.offer([put(b"a", b"newer", 6)], 6, 10.3)
    assert [c.value for c in plan.take(10.3).changes] == [b"newer"]
    plan.offer([put(b"a", None, 7)], 7, 10.4)
    assert [c.value for c in plan.take(10.4).changes] == [None]


def test_what_is_too_large_or_too_much_is_refused_and_makes_a_listing_necessary():
    plan = Plan({b"a": b"0"}, low=1, high=1, limits=Limits(instances=2, value=3))
    plan.offer([put(b"b", b"1", 2), put(b"c", b"1", 3), put(b"a", b"1111", 4)], 4, 10.0)
    assert plan.counts.refused == 2
    assert (plan.partial, plan.low, plan.high) == (True, 0, 4)
    assert not plan.wants_listing
    while plan.take(10.0):
        pass
    assert plan.mirror == {b"a": b"0", b"b": b"1"}
    plan.offer([put(b"b", None, 5)], 5, 11.0)
    plan.take(11.0)
    assert plan.wants_listing
    plan.begin_listing()
    plan.list([(b"a", b"1"), (b"c", b"1")], 12.0)
    plan.end_listing(5, 12.0)
    assert not plan.wants_listing
    assert not plan.partial
    assert plan.low == 0  # until all of it is written
    plan.take(12.0)
    assert (plan.low, plan.high, plan.mirror) == (5, 5, {b"a": b"1", b"c": b"1"})
    plan.begin_listing()
    plan.list([(b"a", b"1"), (b"c", b"1"), (b"d", b"1")], 12.0)
    plan.end_listing(6, 12.0)
    assert plan.partial


def test_draining_and_revoking_spoil_the_mirror_until_it_is_listed():
    one = Instance(service="s", id="1", address="h:1").to_bytes()
    plan = Plan({b"a": one, b"b": b"odd"}, low=1, high=1)
    plan.drain(10.0)
    assert plan.spoiled
    chunk = plan.take(10.0)
    assert [c.key for c in chunk.changes] == [b"a"]  # the other is no instance
    assert chunk.low == 0
    plan.begin_listing()
    plan.drain(11.0)  # while the listing is under way
    plan.list([(b"a", one), (b"b", b"odd")], 11.0)
    plan.end_listing(9, 11.0)
    assert plan.partial
    plan.revoke(12.0)
    plan.take(12.0)
    assert plan.mirror == {}


def test_the_size_of_a_chunk_is_bounded():
    plan = Plan({}, limits=Limits(size=100))
    plan.begin_listing()
    plan.list([(b"%d" % n, b"." * 60) for n in range(3)], 0.0)
    plan.end_listing(3, 0.0)
    assert [len(plan.take(0.0).changes) for _ in range(3)] == [1, 1, 1]


def test_a_freeze_holds_deletions_and_lets_them_go():
    guard = EvictionGuard(share=0.5, window=30.0, least=2)
    plan = Plan(dict.fromkeys(KEYS, b"0"), low=1, high=1, guard=guard)
    guard.interrupted(100.0)
    plan.offer([put(key, None, 2) for key in KEYS[:4]], 2, 100.0)
    assert (plan.held, plan.ready, plan.low, plan.high) == (4, 0, 1, 2)
    plan.offer([put(KEYS[0], b"1", 3), put(KEYS[5], b"1", 4)], 4, 101.0)
    assert plan.held == 0  # so many are missing no more
    assert {c.key: c.value for c in plan.take(101.0).changes} == {
        KEYS[0]: b"1",
        KEYS[5]: b"1",
        **dict.fromkeys(KEYS[1:4]),
    }
    plan.offer([put(KEYS[4], None, 5)], 5, 102.0)
    assert (guard.frozen, plan.held) == (True, 1)  # as many as with the three before
    plan.offer([], 6, 131.0)  # believed by now
    assert plan.held == 0
    assert plan.take(131.0).low == 6


# The guard


@settings(max_examples=200)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("interrupted"), st.just(())),
            st.tuples(st.just("wait"), st.floats(0.0, 20.0)),
            st.tuples(st.just("vanish"), st.sets(st.integers(0, 39), min_size=1)),
            st.tuples(st.just("back"), st.sets(st.integers(0, 39), min_size=1)),
        ),
        max_size=40,
    ),
    st.sampled_from([0.1, 0.15, 0.5, 1.0]),
)
def test_while_in_doubt_no_more_than_the_share_goes(steps, share):
    guard = EvictionGuard(share=share, window=30.0, least=5)
    there = set(range(40))
    now, quiet_since, gone, base = 0.0, None, set(), 40
    for what, detail in steps:
        if what == "wait":
            now += detail
            guard.look(now)
        elif what == "interrupted":
            guard.interrupted(now)
            quiet_since = now
        elif what == "back":
            guard.came_back(str(n).encode() for n in detail)
            there |= detail
            gone -= detail
        else:
            vanished = detail & there
            if not gone:
                base = len(there)
            held = guard.vanish([str(n).encode() for n in vanished], len(there), now)
            if not held:
                there -= vanished
                gone |= vanished
            else:
                assert quiet_since is not None
                assert now < quiet_since + 30.0  # only while in doubt
        if quiet_since is None or now >= quiet_since + 30.0:
            assert not guard.frozen
            gone = set()
        elif not guard.frozen:
            assert len(gone) < 5 or len(gone) <= share * base
        assert guard.missing <= 40
    guard.look(now + 31.0)
    assert not guard.frozen
    assert guard.thaws_at is None


# Coalescing


@given(
    st.lists(st.tuples(st.sampled_from(KEYS), st.floats(-2.0, 4.0), st.booleans()), max_size=60),
    st.integers(1, 4),
)
def test_changes_pass_at_once_or_after_the_window_and_memory_is_bounded(steps, capacity):
    coalescer = Coalescer(WINDOW, capacity=capacity)
    now = 100.0
    passed = {}
    for key, step, lets in steps:
        now += step  # a clock may even go back
        due = coalescer.due(key, now)
        assert now <= due <= now + WINDOW
        if due > now:
            assert key in passed
        if lets and due == now:
            coalescer.passed(key, now)
            passed[key] = now
        assert len(coalescer) <= capacity


def test_what_no_longer_matters_is_forgotten():
    coalescer = Coalescer(WINDOW)
    for n in range(20):
        coalescer.passed(b"%d" % n, float(n))
    assert len(coalescer) == 5
    coalescer.passed(b"x", 1e18)  # where five seconds are less than a float can tell
    coalescer.passed(b"x", 1e18)
    assert len(coalescer) <= 1


def test_without_a_window_nothing_waits():
    coalescer = Coalescer(0.0)
    coalescer.passed(b"a", 1.0)
    assert coalescer.due(b"a", 1.0) == 1.0
    assert len(coalescer) == 0


# The token

tokens = st.builds(
    lambda cluster, epoch, selection, span, writer: Token(
        cluster=cluster,
        epoch=epoch,
        selection=selection,
        low=min(span),
        high=max(span),
        writer=writer,
    ),
    st.integers(0, 2**64 - 1),
    st.text(max_size=5),
    st.text(max_size=5),
    st.tuples(st.integers(0, 2**63), st.integers(0, 2**63)),
    st.text(max_size=5),
)


@given(tokens)
def test_a_token_is_read_as_it_was_written(token):
    assert Token.parse(token.to_bytes()) == token


@given(st.binary(max_size=60) | tokens.map(lambda t: t.to_bytes()[:-3]))
def test_what_is_no_token_asks_for_a_listing(value):
    assert Token.parse(value) is None


@pytest.mark.parametrize("value", [b"[]", b"null", b'{"cluster":"1"}', b'{"cluster":1}'])
def test_json_that_is_no_token_is_none(value):
    assert Token.parse(value) is None


def test_a_token_whose_range_is_upside_down_is_none():
    token = Token(cluster=1, low=5, high=9)
    assert Token.parse(attrs.evolve(token, low=10).to_bytes()) is None


@pytest.mark.parametrize(
    ("reason", "now"),
    [
        ("", (1, "e", "s", 20)),
        ("replaced", (2, "e", "s", 20)),
        ("epoch", (1, "f", "s", 20)),
        ("selection", (1, "e", "t", 20)),
        ("restored", (1, "e", "s", 19)),
    ],
)
def test_why_a_source_cannot_be_resumed(reason, now):
    token = Token(cluster=1, epoch="e", selection="s", low=10, high=20)
    assert token.relist_reason(*now) == reason
    incomplete = attrs.evolve(token, low=0)
    if not reason:
        assert incomplete.relist_reason(*now) == "incomplete"


def test_a_selection_is_a_set():
    assert fingerprint(None) == ""
    assert fingerprint(["a", "b"]) == fingerprint(["b", "a", "a"]) != fingerprint(["a"])


# The origin


@pytest.mark.parametrize("policy", ["keep", "drain", "revoke"])
@given(steps=st.lists(st.tuples(times, st.booleans()), max_size=30))
def test_an_origin_is_stale_or_worse_by_its_silence_alone(policy, steps):
    vigil = OriginVigil(policy=policy, stale_after=2.0, grace=5.0, now=50.0)
    now, heard = 50.0, None
    for step, speaks in steps:
        now += step
        if speaks:
            vigil.heard(now)
            vigil.heard(now - 1.0)  # older news change nothing
            heard = now
        silence = now - (50.0 if heard is None else heard)
        assert vigil.silence(now) == silence
        state = vigil.look(now)
        if heard is not None and silence <= 2.0:
            assert state is OriginState.LIVE
        elif silence <= 7.0 or policy == "keep":
            assert state is OriginState.STALE
        else:
            assert state.value == {"drain": "drained", "revoke": "revoked"}[policy]


def test_draining_keeps_what_it_does_not_know():
    assert drained(b'{"address":"h:1","later":[1]}') == (
        b'{"address":"h:1","later":[1],"draining":true}'
    )
    for value in (b"no json", b"[1]", b'{"draining":true}', b"\xff"):
        assert drained(value) == value


@pytest.mark.parametrize("state", list(OriginState))
def test_a_heartbeat_is_read_as_it_was_written(state):
    beat = Heartbeat(state, "w")
    assert Heartbeat.parse(beat.to_bytes()) == beat
    assert beat.live is (state is OriginState.LIVE)


@pytest.mark.parametrize("value", [b"", b"[]", b"{}", b'{"state":"well"}', b"3", b"\xff"])
def test_something_else_is_a_sign_of_life(value):
    assert Heartbeat.parse(value).live
