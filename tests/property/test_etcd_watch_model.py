"""The watch core against a simulated store: whatever happens, each subscriber is told the truth."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from watch_model import Oracle, Store, Stream

from hastack.discovery._records import prefix_end
from hastack.discovery.etcd._watch_core import WatchCore
from hastack.discovery.etcd._watch_records import (
    AskProgress,
    CancelWatch,
    CreateWatch,
    CutStream,
    ForgetListing,
    ListRange,
    OpenStream,
    Range,
    Wake,
)
from hastack.discovery.etcd._watch_subscriber import Subscriber
from hastack.errors import StoreError

KEYS = [b"a1", b"a2", b"a3", b"b1"]
RANGES = [Range(b"a", b"b"), Range(b"a", b"b", prev=True), Range(b"a2", None), Range(b"b", b"c")]
assert prefix_end(b"a") == b"b"


class Watching(RuleBasedStateMachine):
    """The test is the shell: it does what the core commands, in its own time."""

    @initialize(careless=st.booleans(), version=st.sampled_from([None, (3, 4, 23), (3, 6, 0)]))
    def start(self, careless, version):
        if version == (3, 6, 0):
            careless = False
        self.version = version
        self.store = Store(careless=careless)
        self.core = WatchCore(interval=5.0, deadline=5.0)
        self.now = 0.0
        self.stream = None
        self.opening = False
        self.listings = {}  # ticket -> command
        self.listed = {}  # ticket -> what the store said
        self.subscribers = {}  # subscriber -> oracle
        self.lag = 0
        self.values = 0

    # What the core commands

    def obey(self):
        core = self.core
        while core.commands:
            command = core.commands.popleft()
            match command:
                case CreateWatch():
                    assert command.start >= 1
                    self.stream.create(command, lag=self.lag)
                case CancelWatch():
                    self.stream.cancel(command.watch_id)
                case AskProgress():
                    self.stream.progress()
                case ListRange():
                    self.listings[command.ticket] = command
                case ForgetListing():
                    self.listings.pop(command.ticket, None)
                    self.listed.pop(command.ticket, None)
                case OpenStream():
                    assert not self.opening
                    assert self.stream is None
                    self.opening = True
                case CutStream():
                    self.stream = None
                    self.opening = False
                case Wake():
                    assert command.subscribers

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
            self.store.now.change([(k, v and v + b"%d" % self.values) for k, v in ops.items()])

    @rule(back=st.integers(0, 4))
    def compact(self, back):
        self.store.compact(max(0, self.store.now.revision - back))

    @rule(back=st.integers(0, 6), same_cluster=st.booleans())
    def restore(self, back, same_cluster):
        self.cut()
        self.store.restore(self.store.now.revision - back, same_cluster=same_cluster)

    @rule()
    def restart(self):
        self.cut()
        self.store.restart()

    # What happens to the stream

    @rule(lag=st.sampled_from([0, 0, 2]))
    def open(self, lag):
        if self.opening:
            self.opening = False
            self.stream = Stream(self.store)
            self.lag = lag
            self.core.opened(self.now)
            if self.version:
                self.core.serves(self.version)
            self.obey()

    @rule()
    def cut(self):
        if self.stream is not None:
            self.stream = None
            self.core.lost(self.now)
            self.obey()

    @rule(
        data=st.data(),
        revisions=st.integers(1, 4),
        pieces=st.lists(st.integers(1, 5), max_size=2),
    )
    def pump(self, data, revisions, pieces):
        if self.stream is not None and self.stream.watchers:
            watch_id = data.draw(st.sampled_from(sorted(self.stream.watchers)))
            self.stream.pump(watch_id, revisions, pieces)

    @rule(count=st.integers(1, 4))
    def arrive(self, count):
        for _ in range(count):
            if self.stream is not None and self.stream.sent:
                self.core.received(self.stream.sent.popleft(), self.now)
                self.obey()

    @precondition(lambda self: self.stream is not None and self.stream.watchers)
    @rule(data=st.data())
    def end_a_watch(self, data):
        watch_id = data.draw(st.sampled_from(sorted(self.stream.watchers)))
        del self.stream.watchers[watch_id]
        self.stream.answer(watch_id, canceled=True, reason="etcdserver: something else")

    @precondition(lambda self: self.stream is not None and self.stream.sent)
    @rule()
    def refuse(self):
        """The watch that was asked for last is refused, as if the token were too old."""
        last = self.stream.sent[-1]
        if last.created and not last.canceled and last.watch_id in self.stream.watchers:
            self.stream.sent.pop()
            del self.stream.watchers[last.watch_id]
            self.stream.refuse("etcdserver: permission denied")

    # What happens to listings

    @precondition(lambda self: self.listings)
    @rule(data=st.data(), at_once=st.booleans())
    def list(self, data, at_once):
        ticket = data.draw(st.sampled_from(sorted(self.listings)))
        self.listed[ticket] = self.store.list(self.listings.pop(ticket))
        if at_once:
            self.hand(ticket)

    @precondition(lambda self: self.listed)
    @rule(data=st.data())
    def hand_listing(self, data):
        self.hand(data.draw(st.sampled_from(sorted(self.listed))))

    def hand(self, ticket):
        found = self.listed.pop(ticket)
        if isinstance(found, str):
            self.core.listing_failed(ticket, found, StoreError(found), self.now)
        else:
            self.core.listed(ticket, found, self.now)
        self.obey()

    # Subscribers

    @rule(where=st.sampled_from(RANGES), limit=st.sampled_from([1, 3, 100]))
    def subscribe(self, where, limit):
        if len(self.subscribers) < 5:
            one = Subscriber(where, start=None, limit=limit)
            self.subscribers[one] = Oracle(self.store, where, None)
            self.core.attach(one, self.now)
            self.obey()

    @rule(
        where=st.sampled_from(RANGES),
        limit=st.sampled_from([1, 3, 100]),
        back=st.integers(-2, 6),
    )
    def subscribe_from(self, where, limit, back):
        if len(self.subscribers) < 5:
            start = max(1, self.store.now.revision - back)
            one = Subscriber(where, start=start, limit=limit)
            self.subscribers[one] = Oracle(self.store, where, start)
            self.core.attach(one, self.now)
            self.obey()

    @precondition(lambda self: self.subscribers)
    @rule(data=st.data())
    def unsubscribe(self, data):
        one = data.draw(st.sampled_from(list(self.subscribers)))
        del self.subscribers[one]
        self.core.detach(one, self.now)
        self.obey()

    @precondition(lambda self: self.subscribers)
    @rule(data=st.data(), everything=st.booleans())
    def take(self, data, everything):
        one = data.draw(st.sampled_from(list(self.subscribers)))
        self.take_from(one)
        while everything and (one.parcels or one.drained):
            self.take_from(one)

    def take_from(self, one):
        batch = one.take()
        if batch is not None:
            self.subscribers[one].took(batch)
        if one.drained:
            self.core.drained(one, self.now)
            self.obey()

    @rule(seconds=st.sampled_from([0.2, 3.0, 6.0, 60.0]))
    def pass_time(self, seconds):
        self.now += seconds
        due = self.core.due()
        if due is not None and due <= self.now:
            self.core.tick(self.now)
            self.obey()

    # What holds

    @invariant()
    def buffers_are_bounded(self):
        for one in self.subscribers:
            waiting = [p.events for p in one.parcels]
            assert len(waiting) <= 1 or sum(waiting) <= one.limit
            assert len(one.had) <= 2 * len(KEYS)
            assert one.error is None

    def teardown(self):
        if not hasattr(self, "store"):
            return
        for _ in range(300):
            if self.opening:
                self.open(lag=0)
            self.lag = 0
            for ticket in sorted(self.listings):
                if ticket in self.listings:
                    self.listed[ticket] = self.store.list(self.listings.pop(ticket))
                    self.hand(ticket)
            for ticket in sorted(self.listed):
                self.hand(ticket)
            if self.stream is not None:
                for watch_id in sorted(self.stream.watchers):
                    self.stream.pump(watch_id, 1000, [])
            self.arrive(1000)
            for one in self.subscribers:
                while one.parcels or one.drained:
                    self.take_from(one)
            self.pass_time(5.5)
        for one, oracle in self.subscribers.items():
            assert one.error is None
            oracle.settled()
        for one in list(self.subscribers):
            self.core.detach(one, self.now)
            self.obey()
        assert self.core.watches == 0
        assert self.stream is None
        assert not self.opening
        assert not self.listings
        assert self.core.due() is None


Watching.TestCase.settings = settings(max_examples=100, stateful_step_count=50, deadline=None)
TestWatching = Watching.TestCase
