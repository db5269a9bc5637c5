"""The watch core against a simulated store: whatever happens, each subscriber is told the truth."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from watch_model import Driver

from hastack.discovery.etcd._watch_records import Range

KEYS = [b"a1", b"a2", b"a3", b"b1"]
RANGES = [Range(b"a", b"b"), Range(b"a", b"b", prev=True), Range(b"a2", None), Range(b"b", b"c")]
LIMITS = st.sampled_from([1, 3, 100])


class Watching(RuleBasedStateMachine):
    """The test is the shell: it does what the core commands, in its own time."""

    @initialize(careless=st.booleans(), version=st.sampled_from([None, (3, 4, 23), (3, 6, 0)]))
    def start(self, careless, version):
        self.driver = Driver(careless=careless and version != (3, 6, 0), version=version)
        self.values = 0

    @rule(rounds=st.integers(1, 2))
    def settle(self, rounds):
        """Without this the machine would seldom come to a watch that is live."""
        self.driver.settle(rounds)

    # What happens to the store

    @rule(
        ops=st.dictionaries(
            st.sampled_from(KEYS), st.sampled_from([b"x", b"y", None]), min_size=1, max_size=3
        ),
        times=st.integers(1, 3),
    )
    def change(self, ops, times):
        for _ in range(times):
            self.values += 1
            self.driver.store.now.change(
                [(k, v and v + b"%d" % self.values) for k, v in ops.items()]
            )

    @rule(back=st.integers(0, 4))
    def compact(self, back):
        store = self.driver.store
        store.compact(max(0, store.now.revision - back))

    @rule(back=st.integers(0, 6), same_cluster=st.booleans(), same_term=st.booleans())
    def restore(self, back, same_cluster, same_term):
        self.driver.cut()
        store = self.driver.store
        store.restore(
            store.now.revision - back,
            same_cluster=same_cluster,
            # Compacted beyond what is known, and with nothing to tell it by: that is too much.
            same_term=same_term and not store.compacted,
        )

    @rule()
    def restart(self):
        self.driver.cut()
        self.driver.store.restart()

    # What happens to the stream

    @rule(lag=st.sampled_from([0, 0, 2]))
    def open(self, lag):
        self.driver.open(lag=lag)

    @rule()
    def cut(self):
        self.driver.cut()

    @rule(
        data=st.data(),
        revisions=st.integers(1, 4),
        pieces=st.lists(st.integers(1, 5), max_size=2),
    )
    def pump(self, data, revisions, pieces):
        stream = self.driver.stream
        if stream is not None and stream.watchers:
            watch_id = data.draw(st.sampled_from(sorted(stream.watchers)))
            stream.pump(watch_id, revisions, pieces)

    @rule(count=st.integers(1, 4))
    def arrive(self, count):
        self.driver.arrive(count)

    @precondition(lambda self: self.driver.stream is not None and self.driver.stream.watchers)
    @rule(data=st.data())
    def end_a_watch(self, data):
        stream = self.driver.stream
        watch_id = data.draw(st.sampled_from(sorted(stream.watchers)))
        del stream.watchers[watch_id]
        stream.answer(watch_id, canceled=True, reason="etcdserver: something else")

    @precondition(lambda self: self.driver.stream is not None and self.driver.stream.sent)
    @rule()
    def refuse(self):
        """The watch that was asked for last is refused, as if the token were too old."""
        stream = self.driver.stream
        last = stream.sent[-1]
        if last.created and not last.canceled and last.watch_id in stream.watchers:
            feed = self.driver.core._stream.ids.get(last.watch_id)
            if feed is not None and feed.denials < 2:
                stream.sent.pop()
                del stream.watchers[last.watch_id]
                stream.refuse("etcdserver: permission denied")

    # What happens to listings

    @precondition(lambda self: self.driver.listings)
    @rule(data=st.data(), at_once=st.booleans())
    def list(self, data, at_once):
        ticket = data.draw(st.sampled_from(sorted(self.driver.listings)))
        self.driver.list(ticket)
        if at_once:
            self.driver.hand(ticket)

    @precondition(lambda self: self.driver.listed)
    @rule(data=st.data())
    def hand(self, data):
        self.driver.hand(data.draw(st.sampled_from(sorted(self.driver.listed))))

    # Subscribers

    @rule(where=st.sampled_from(RANGES), limit=LIMITS)
    def subscribe(self, where, limit):
        if len(self.driver.subscribers) < 5:
            self.driver.subscribe(where, limit=limit)

    @rule(where=st.sampled_from(RANGES), limit=LIMITS, back=st.integers(-2, 6))
    def subscribe_from(self, where, limit, back):
        if len(self.driver.subscribers) < 5:
            start = max(1, self.driver.store.now.revision - back)
            self.driver.subscribe(where, start=start, limit=limit)

    @precondition(lambda self: self.driver.subscribers)
    @rule(data=st.data())
    def unsubscribe(self, data):
        self.driver.unsubscribe(data.draw(st.sampled_from(list(self.driver.subscribers))))

    @precondition(lambda self: self.driver.subscribers)
    @rule(data=st.data(), everything=st.booleans())
    def take(self, data, everything):
        one = data.draw(st.sampled_from(list(self.driver.subscribers)))
        self.driver.take(one)
        if everything:
            self.driver.take_all(one)

    @rule(seconds=st.sampled_from([0.2, 3.0, 6.0, 60.0]))
    def pass_time(self, seconds):
        self.driver.pass_time(seconds)

    # What holds

    @invariant()
    def buffers_are_bounded(self):
        for one in self.driver.subscribers:
            waiting = [p.events for p in one.parcels]
            assert len(waiting) <= 1 or sum(waiting) <= one.limit
            assert len(one.had) <= len(KEYS)
            assert one.error is None

    def teardown(self):
        if hasattr(self, "driver"):
            self.driver.finish()


Watching.TestCase.settings = settings(max_examples=100, stateful_step_count=50, deadline=None)
TestWatching = Watching.TestCase
