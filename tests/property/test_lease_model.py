"""Leases and kept keys against a simulated store, network and clock, in any order of misfortune."""

from __future__ import annotations

from collections import deque

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from hastack.discovery._records import KeyValue
from hastack.discovery.etcd._lease_core import DRIFT, SLACK, Keepalives
from hastack.discovery.etcd._lease_reconcile import (
    FIGHT_CAP,
    REFUSED_CAP,
    Grant,
    Reconcile,
    Rest,
    Wait,
    Write,
)

DRAWN = st.floats(0.0, 1.0, exclude_max=True)


class KeepaliveStream(RuleBasedStateMachine):
    """Plays the shell, the network and the server.

    The server's clock runs slower or faster than ours by up to DRIFT; ours may jump.
    """

    @initialize(skew=st.floats(-DRIFT, DRIFT), drawn=DRAWN)
    def build(self, skew, drawn):
        self.now = 100.0
        self.rate = 1.0 + skew  # the server's seconds per second
        self.drawn = drawn
        self.table = Keepalives()
        self.server: dict[int, float] = {}  # when each lease ends, true time
        self.ttl: dict[int, float] = {}
        self.ended_by_hand: set[int] = set()
        self.unharmed: set[int] = set()
        self.offset = 0.0  # our clock minus true time
        self.latency = 0.01
        self.flowing = True
        self.stream: deque | None = None  # (arrives at, lease), in order
        self.answers: deque = deque()
        self.reopen_at = self.now
        self.next_lease = 1
        self.sends = 0
        self.said_expired: list[int] = []

    def clock(self):
        return self.now + self.offset

    # What happens to it

    @rule(ttl=st.sampled_from([1.0, 2.0, 3.0, 10.0, 60.0]), took=st.floats(0.0, 0.1))
    def grant(self, ttl, took):
        sent = self.clock()
        lease = self.next_lease
        self.next_lease += 1
        self.server[lease] = self.now + ttl / self.rate
        self.ttl[lease] = ttl
        self.time_passes(took, self.latency)
        self.table.add(lease, ttl, sent=sent, drawn=self.drawn)
        if self.flowing and not self.offset:
            self.unharmed.add(lease)

    @precondition(lambda self: self.server)
    @rule(data=st.data())
    def revoke(self, data):
        lease = data.draw(st.sampled_from(sorted(self.server)))
        del self.server[lease]
        self.ended_by_hand.add(lease)
        self.unharmed.discard(lease)

    @rule()
    def wiped(self):
        self.ended_by_hand |= set(self.server)
        self.unharmed -= set(self.server)
        self.server.clear()

    @precondition(lambda self: len(self.table))
    @rule(data=st.data())
    def leave(self, data):
        lease = data.draw(st.sampled_from(sorted(self.table._terms)))
        self.table.remove(lease)
        self.unharmed.discard(lease)

    @rule()
    def cut(self):
        self.drop(0.1)

    @rule()
    def freeze(self):
        self.flowing = False
        self.unharmed.clear()

    @rule()
    def heal(self):
        self.flowing = True

    @rule(seconds=st.floats(0.0, 400.0))
    def suspended(self, seconds):
        """The machine sleeps: time goes on everywhere, and nothing runs here."""
        self.now += seconds
        self.unharmed.clear()

    @rule(seconds=st.floats(0.0, 50.0))
    def clock_set_back(self, seconds):
        """Nothing is asserted about lateness afterwards, but nothing may live longer either."""
        self.offset = min(self.offset, 0.0)  # a clock that was never ahead of true time
        self.table._forward(self.clock())
        self.offset -= seconds
        self.unharmed.clear()

    @rule(seconds=st.floats(0.0, 30.0), latency=st.sampled_from([0.001, 0.02, 0.1]))
    def time_passes(self, seconds, latency):
        self.latency = latency
        end = self.now + seconds
        steps = 0
        while True:
            steps += 1
            assert steps < 3_000, "busy loop"
            self.work()
            wake = self.table.wake_at()
            times = [end]
            if wake is not None:
                times.append(max(wake - self.offset, self.now + 1e-6))
            if self.stream is None and self.flowing and len(self.table):
                times.append(self.reopen_at)
            if self.flowing and self.stream:
                times.append(self.stream[0][0])
            if self.flowing and self.answers:
                times.append(self.answers[0][0])
            following = max(min(times), self.now)
            if following >= end:
                self.now = end
                return
            self.now = following

    # The shell

    def drop(self, delay):
        self.table.cut()
        self.stream = None
        self.answers.clear()
        self.reopen_at = self.now + delay

    def work(self):
        if self.flowing:
            self.serve()
        while self.flowing and self.answers and self.answers[0][0] <= self.now:
            _, lease, ttl = self.answers.popleft()
            result = self.table.answered(lease, ttl, now=self.clock(), drawn=self.drawn)
            if result == "lost":
                assert lease not in self.server
                self.unharmed.discard(lease)
        look = self.table.look(self.clock())
        self.said_expired += look.expired
        for lease in look.expired:
            assert lease not in self.unharmed
        if look.stalled:
            self.drop(0.05)
        if self.stream is None and self.flowing and self.now >= self.reopen_at:
            self.stream = deque()
        if self.stream is not None:
            asked = {lease for _, lease in self.stream} | {a[1] for a in self.answers}
            for lease in self.table.take():
                assert lease not in asked, "two requests of one lease on one stream"
                self.table.sent(lease, self.clock())
                self.sends += 1
                self.stream.append((self.now + self.latency / 2, lease))

    def serve(self):
        for lease in [n for n, ends in self.server.items() if ends <= self.now]:
            del self.server[lease]
        while self.stream and self.stream[0][0] <= self.now:
            arrived, lease = self.stream.popleft()
            ttl = 0.0
            if lease in self.server:
                ttl = self.ttl[lease]
                # Served now, which is later than `arrived` if the server stood still.
                self.server[lease] = max(arrived, self.now) + ttl / self.rate
            self.answers.append((max(arrived, self.now) + self.latency / 2, lease, ttl))

    # What must hold

    @invariant()
    def what_is_relied_on_is_there(self):
        if not hasattr(self, "table") or self.offset < 0:
            return
        for lease in self.table._terms:
            if self.table.remaining(lease, self.clock()) > 0 and lease not in self.ended_by_hand:
                assert self.server.get(lease, 0.0) >= self.now - 1e-6

    @invariant()
    def no_busy_loop(self):
        if hasattr(self, "table") and not len(self.table):
            assert self.table.wake_at() is None

    def teardown(self):
        if not hasattr(self, "table"):
            return
        self.flowing = True
        self.offset = max(self.offset, self.table._now - self.now)
        self.time_passes(45.0, 0.001)  # all that is known is renewed or found to be lost
        before, sends = self.now, self.sends
        self.time_passes(30.0, 0.001)
        for lease in self.table._terms:
            assert lease in self.server
            assert self.table.remaining(lease, self.clock()) > 0
        bound = sum(30.0 / (self.ttl[lease] * 0.9 / 3 - SLACK) + 2 for lease in self.table._terms)
        assert self.sends - sends <= bound, (self.sends - sends, bound, self.now - before)


class KeptKey(RuleBasedStateMachine):
    """Plays the shell, the watch and the store for one kept key."""

    @initialize()
    def build(self):
        self.now = 0.0
        self.revision = 10
        self.kv: KeyValue | None = None
        self.leases: set[int] = set()
        self.next_lease = 1
        self.known_lost: set[int] = set()
        self.history: deque[tuple[int, KeyValue | None]] = deque()  # what the watch will tell
        self.up = True
        self.core = Reconcile(b"v1")
        self.late: list[Write] = []  # given up, and perhaps still on their way
        self.writes: list[float] = []
        self.restored = False

    # The store

    def change(self, kv_value, lease):
        self.revision += 1
        old = self.kv
        if kv_value is None:
            if old is None:
                self.revision -= 1
                return
            self.kv = None
        else:
            create = old.create_revision if old else self.revision
            version = old.version + 1 if old else 1
            self.kv = KeyValue(b"k", kv_value, create, self.revision, version, lease)
        self.history.append((self.revision, self.kv))

    def txn(self, write: Write):
        """Returns the record that was written, or None and what is there instead."""
        if write.lease not in self.leases:
            raise LookupError
        found = self.kv.mod_revision if self.kv else 0
        if found != write.revision:
            return None
        self.change(write.value, write.lease)
        return self.kv

    def end_lease(self, lease):
        self.leases.discard(lease)
        if self.kv is not None and self.kv.lease == lease:
            self.change(None, 0)

    # Misfortunes

    @precondition(lambda self: self.kv)
    @rule()
    def deleted_by_hand(self):
        self.change(None, 0)

    @rule()
    def overwritten(self):
        self.change(b"foreign", 999)

    @rule()
    def overwritten_on_our_lease(self):
        if self.core.lease in self.leases:
            self.change(b"foreign", self.core.lease)

    @precondition(lambda self: self.leases)
    @rule(data=st.data())
    def revoked(self, data):
        self.end_lease(data.draw(st.sampled_from(sorted(self.leases))))

    @rule()
    def wiped(self):
        self.leases.clear()
        self.kv = None
        self.revision = 1
        self.history.clear()
        self.restored = True

    @rule(value=st.sampled_from([b"v1", b"v2", b"v3"]))
    def want(self, value):
        self.core.want(value)

    @rule()
    def down(self):
        self.up = False

    @rule()
    def back(self):
        self.up = True

    @rule(drawn=DRAWN)
    def keepalive_answers(self, drawn):
        if self.up and self.core.lease and self.core.lease not in self.leases:
            self.core.lost_lease(self.now, drawn)

    @rule(count=st.integers(1, 3), drawn=DRAWN)
    def watch_tells(self, count, drawn):
        if not self.up:
            return
        self.notice_restore()
        for _ in range(min(count, len(self.history))):
            revision, kv = self.history.popleft()
            before = self.core.present or self.core._doubtful
            loss = self.core.seen(kv, revision, self.now, drawn)
            if loss is not None:
                assert before

    def notice_restore(self):
        if self.restored:
            self.restored = False
            self.core.forget()

    @rule()
    def late_request_arrives(self):
        if self.late:
            write = self.late.pop(0)
            try:
                self.txn(write)
            except LookupError:
                pass

    @rule(seconds=st.floats(0.0, 120.0))
    def time_passes(self, seconds):
        self.now += seconds

    # The shell

    @rule(
        outcome=st.sampled_from(["done", "done", "answer lost", "request lost", "refused"]),
        drawn=DRAWN,
    )
    def act(self, outcome, drawn):
        self.step(outcome, drawn)

    def step(self, outcome, drawn):
        action = self.core.decide(self.now)
        if isinstance(action, Rest):
            assert self.core.present
            assert self.core.stored == self.core.version
            return action
        if isinstance(action, Wait):
            assert self.now < action.until <= self.now + max(FIGHT_CAP, REFUSED_CAP)
            return action
        if isinstance(action, Write):
            self.writes.append(self.now)
        if not self.up or outcome in {"refused", "request lost"}:
            if isinstance(action, Write) and outcome == "request lost":
                self.late.append(action)
            self.core.failed(self.now, drawn, refused=outcome == "refused")
            return action
        if isinstance(action, Grant):
            lease, self.next_lease = self.next_lease, self.next_lease + 1
            self.leases.add(lease)
            if outcome == "answer lost":
                self.core.failed(self.now, drawn)
            else:
                self.core.granted(lease)
            return action
        try:
            written = self.txn(action)
        except LookupError:
            self.core.lost_lease(self.now, drawn)
            return action
        if outcome == "answer lost":
            self.core.failed(self.now, drawn)
        elif written is not None:
            self.core.wrote(action, written.mod_revision)
        else:
            self.core.missed(action, self.kv, self.revision, self.now, drawn)
        return action

    @invariant()
    def never_says_present_of_what_it_cannot_know(self):
        if hasattr(self, "core") and self.core.present:
            assert self.core.lease

    def teardown(self):
        """Left alone, it gets where it should, without a storm."""
        if not hasattr(self, "core"):
            return
        self.up = True
        self.late.clear()
        self.notice_restore()
        for _ in range(60):
            while self.history:
                revision, kv = self.history.popleft()
                self.core.seen(kv, revision, self.now, 0.5)
            if self.core.lease and self.core.lease not in self.leases:
                self.core.lost_lease(self.now, 0.5)
            action = self.step("done", 0.5)
            if isinstance(action, Rest) and not self.history:
                break
            if isinstance(action, Wait):
                self.now = action.until
        assert self.core.present
        assert self.kv is not None
        assert (self.kv.value, self.kv.lease) == (self.core.wanted, self.core.lease)
        assert self.core.lease in self.leases


TestKeepaliveStream = KeepaliveStream.TestCase
TestKeepaliveStream.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
TestKeptKey = KeptKey.TestCase
TestKeptKey.settings = settings(max_examples=300, stateful_step_count=40, deadline=None)
