"""A simulated store with a watch stream, and the oracle that knows what a subscriber may be told.

The store keeps every history it ever had: restoring a backup begins another one. A subscriber's
batches must be explained by one of them, change by change.
"""

from __future__ import annotations

from collections import deque

from hastack.discovery import KeyValue, WatchEvent
from hastack.discovery.etcd._watch_core import WatchCore
from hastack.discovery.etcd._watch_records import (
    Answer,
    AskProgress,
    CancelWatch,
    CreateWatch,
    CutStream,
    ForgetListing,
    Listing,
    ListRange,
    OpenStream,
    Wake,
)
from hastack.discovery.etcd._watch_subscriber import Subscriber
from hastack.errors import StoreError


def in_range(key, where):
    if where.end is None:
        return key == where.key
    return key >= where.key and (where.end == b"\0" or key < where.end)


class History:
    """What happened since revision 1, and what was there after each revision."""

    def __init__(self, states=None, log=None):
        self.states = states or {0: {}, 1: {}}
        self.log = log or {}

    @property
    def revision(self):
        return max(self.states)

    def until(self, revision):
        return History(
            {r: s for r, s in self.states.items() if r <= revision},
            {r: e for r, e in self.log.items() if r <= revision},
        )

    def change(self, ops):
        """Apply ``(key, value)`` pairs, where ``None`` deletes, as one revision."""
        state = dict(self.states[self.revision])
        revision = self.revision + 1
        events = []
        for key, value in ops:
            old = state.get(key)
            if value is None:
                if old is None:
                    continue
                del state[key]
                events.append(WatchEvent("delete", KeyValue(key, b"", 0, revision, 0), old))
            else:
                created, version = (
                    (revision, 1)
                    if old is None
                    else (
                        old.create_revision,
                        old.version + 1,
                    )
                )
                state[key] = KeyValue(key, value, created, revision, version)
                events.append(WatchEvent("put", state[key], old))
        if events:
            self.states[revision] = state
            self.log[revision] = events

    def events(self, where, after, until):
        found = []
        for revision in range(after + 1, until + 1):
            for event in self.log.get(revision, ()):
                if in_range(event.kv.key, where):
                    found.append(event if where.prev else WatchEvent(event.kind, event.kv))
        return found

    def state(self, where, revision):
        return {k: v for k, v in self.states[revision].items() if in_range(k, where)}


class Store:
    """The server. ``careless``: it has the known bugs."""

    def __init__(self, *, careless):
        self.careless = careless
        self.histories = [History()]
        self.compacted = 0
        self.cluster = 1
        self.term = 100

    @property
    def now(self):
        return self.histories[-1]

    def compact(self, revision):
        self.compacted = max(self.compacted, revision)

    def restart(self):
        self.term += 1

    def restore(self, revision, *, same_cluster, same_term=False):
        """Go back to a backup."""
        self.histories.append(self.now.until(max(revision, 1)))
        self.compacted = min(self.compacted, self.now.revision)
        if not same_term:
            self.term -= 50
        if not same_cluster:
            self.cluster += 1

    def list(self, command):
        """A `Listing`, or why there is none."""
        history = self.now
        revision = command.revision or history.revision
        if revision < self.compacted:
            return "compacted"
        if revision > history.revision:
            return "future"
        state = history.state(command.where, revision)
        newer = {k: v for k, v in state.items() if v.mod_revision > command.since}
        return Listing(newer, len(state), revision, self.cluster, self.term)


class Watcher:
    def __init__(self, where, start):
        self.where = where
        self.next = start
        self.start = start
        self.synced = False  # it has caught up, and is told of changes as they are made


class Stream:
    """The server's half of a watch stream."""

    def __init__(self, store):
        self.store = store
        self.watchers = {}
        self.sent = deque()

    def answer(self, watch_id, **more):
        store = self.store
        self.sent.append(
            Answer(
                watch_id,
                store.cluster,
                more.pop("revision", store.now.revision),
                store.term,
                **more,
            )
        )

    def create(self, command, *, lag=0):
        now = self.store.now.revision
        self.answer(command.watch_id, created=True, revision=max(1, now - lag))
        if command.start < self.store.compacted:
            self.gone(command.watch_id)
        else:
            self.watchers[command.watch_id] = Watcher(command.where, command.start)

    def refuse(self, reason):
        self.answer(-1, created=True, canceled=True, reason=reason)

    def gone(self, watch_id):
        self.watchers.pop(watch_id, None)
        self.answer(
            watch_id,
            canceled=True,
            compact_revision=self.store.compacted,
            reason="etcdserver: mvcc: required revision has been compacted",
        )

    def cancel(self, watch_id):
        if self.watchers.pop(watch_id, None) is not None:
            self.answer(watch_id, canceled=True)

    def pump(self, watch_id, revisions, pieces):
        """Send what a watcher has not been sent, of some revisions, in some pieces."""
        watcher, store = self.watchers[watch_id], self.store
        if watcher.next < store.compacted:
            self.gone(watch_id)
            return
        until = min(store.now.revision, watcher.next + revisions - 1)
        events = store.now.events(watcher.where, watcher.next - 1, until)
        if store.careless and not watcher.synced:  # etcd 18089, 19179
            events = [
                e
                for e in events
                if not (e.kind == "delete" and e.kv.mod_revision == store.compacted)
            ]
        watcher.next = max(watcher.next, until + 1)
        watcher.synced = watcher.synced or watcher.next > store.now.revision
        if not events:
            return
        cuts = sorted({c for c in pieces if 0 < c < len(events)})
        for first, last in zip([0, *cuts], [*cuts, len(events)], strict=True):
            self.answer(watch_id, events=tuple(events[first:last]), fragment=last < len(events))

    def progress(self):
        now = self.store.now.revision
        if self.store.careless or all(w.next > now for w in self.watchers.values()):
            self.answer(-1)


class Oracle:
    """Checks what one subscriber is told."""

    def __init__(self, store, where, start):
        self.store = store
        self.where = where
        self.start = start
        self.view = None if start is None else {}
        self.fresh = True
        self.revision = 0
        self.explained = None
        self.resyncs = []

    def took(self, batch):
        if batch.resync:
            self._resync(batch)
        else:
            self._changes(batch)
        self.fresh = False
        self.revision = batch.revision

    def _resync(self, batch):
        assert batch.reason in {"snapshot", "compacted", "overflow", "restored", "gap"}
        assert (batch.reason == "snapshot") == (self.start is None and self.fresh)
        view = {} if self.fresh else dict(self.view)
        assert len({e.kv.key for e in batch.events}) == len(batch.events)
        for event in batch.events:
            before = view.get(event.kv.key)
            if event.kind == "put":
                assert before != event.kv, "nothing changed"
                view[event.kv.key] = event.kv
            else:
                assert before is not None, "there was nothing to delete"
                del view[event.kv.key]
            if self.where.prev and not self.fresh:
                assert event.prev == before
        self.view = view
        self.resyncs.append(batch.reason)
        self.explained = [
            h
            for h in self.store.histories
            if h.revision >= batch.revision and h.state(self.where, batch.revision) == view
        ]
        assert self.explained, "no history has this state"

    def _changes(self, batch):
        assert self.view is not None, "no snapshot came first"
        assert batch.events
        assert batch.events[-1].kv.mod_revision == batch.revision
        if self.fresh:
            self.revision = self.start - 1
            self.explained = [h for h in self.store.histories if h.revision >= self.start]
        assert batch.revision > self.revision
        explained = [
            h
            for h in self.explained
            if h.revision >= batch.revision
            and h.events(self.where, self.revision, batch.revision) == list(batch.events)
        ]
        if not explained:  # it may go on in another history where the range was the same
            explained = [
                h
                for h in self.store.histories
                if h.revision >= batch.revision
                and any(self._same(h, each) for each in self.explained)
                and h.events(self.where, self.revision, batch.revision) == list(batch.events)
            ]
        assert explained, "no history has these changes"
        self.explained = explained
        if self.fresh:
            self.view = explained[0].state(self.where, self.start - 1)
        for event in batch.events:
            if event.kind == "put":
                self.view[event.kv.key] = event.kv
            else:
                del self.view[event.kv.key]

    def _same(self, one, other):
        """Whether the range was the same in both histories when this one was told last."""
        return self.revision <= min(one.revision, other.revision) and one.state(
            self.where, self.revision
        ) == other.state(self.where, self.revision)

    def settled(self):
        """After everything: it knows what is there."""
        now = self.store.now
        if self.fresh:
            assert self.start is not None
            assert not now.events(self.where, self.start - 1, now.revision)
        else:
            assert self.view == now.state(self.where, now.revision)


class Driver:
    """Plays the shell: does what the core commands, when the test says so."""

    def __init__(self, *, careless=False, version=None):
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
        self.told = []  # commands for those who observe

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
                    self.told.append(command)
                    self.stream = None
                    self.opening = False
                case Wake():
                    assert command.subscribers
                case _:
                    self.told.append(command)

    # The stream

    def open(self, *, lag=0):
        if self.opening:
            self.opening = False
            self.stream = Stream(self.store)
            self.lag = lag
            self.core.opened(self.now)
            if self.version:
                self.core.serves(self.version)
            self.obey()

    def cut(self):
        if self.stream is not None:
            self.stream = None
            self.core.lost(self.now)
            self.obey()

    def arrive(self, count=1000):
        for _ in range(count):
            if self.stream is not None and self.stream.sent:
                self.core.received(self.stream.sent.popleft(), self.now)
                self.obey()

    def pump(self):
        if self.stream is not None:
            for watch_id in sorted(self.stream.watchers):
                self.stream.pump(watch_id, 1000, [])

    # Listings

    def list(self, ticket):
        self.listed[ticket] = self.store.list(self.listings.pop(ticket))

    def hand(self, ticket):
        found = self.listed.pop(ticket)
        if isinstance(found, str):
            self.core.listing_failed(ticket, found, StoreError(found), self.now)
        else:
            self.core.listed(ticket, found, self.now)
        self.obey()

    def list_all(self):
        while self.listings or self.listed:
            for ticket in sorted(self.listings):
                self.list(ticket)
            for ticket in sorted(self.listed):
                if ticket in self.listed:
                    self.hand(ticket)

    # Subscribers

    def subscribe(self, where, *, start=None, limit=100):
        one = Subscriber(where, start=start, limit=limit)
        self.subscribers[one] = Oracle(self.store, where, start)
        self.core.attach(one, self.now)
        self.obey()
        return one

    def unsubscribe(self, one):
        del self.subscribers[one]
        self.core.detach(one, self.now)
        self.obey()

    def take(self, one):
        batch = one.take()
        if batch is not None:
            self.subscribers[one].took(batch)
        if one.drained:
            self.core.drained(one, self.now)
            self.obey()
        return batch

    def take_all(self, one):
        found = []
        while one.parcels or one.drained:
            found.append(self.take(one))
        return [batch for batch in found if batch is not None]

    # Time

    def pass_time(self, seconds):
        self.now += seconds
        due = self.core.due()
        if due is not None and due <= self.now:
            self.core.tick(self.now)
            self.obey()

    def settle(self, rounds=1):
        """Let everything that is under way come to its end."""
        for _ in range(rounds):
            self.open()
            self.lag = 0
            self.list_all()
            self.pump()
            self.arrive()

    def finish(self):
        """Let everything heal; everybody must know what there is, and nothing may be left."""
        for _ in range(40):
            self.settle()
            for one in self.subscribers:
                self.take_all(one)
            self.pass_time(5.5)
        for one, oracle in self.subscribers.items():
            assert one.error is None
            oracle.settled()
        for one in list(self.subscribers):
            self.unsubscribe(one)
        assert self.core.watches == 0
        assert self.stream is None
        assert not self.opening
        assert not self.listings
        assert self.core.due() is None
