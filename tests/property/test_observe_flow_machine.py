"""Queue, lanes, retries, disk and account together, under a server that does as it likes."""

from __future__ import annotations

from math import inf

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from hastack.observe._account import Account
from hastack.observe._flow import Entry, Flow, Launch, Rules
from hastack.observe._queue import WhenFull
from hastack.observe._retry_rules import Kind, Verdict
from hastack.observe._shards import Body
from hastack.ratelimit._backoff import Backoff

LANES = 3


def rules_of(when_full, *, shards=LANES, max_units=24, max_bytes=2000):
    return Rules(
        shards=shards,
        max_units=max_units,
        max_bytes=max_bytes,
        when_full=when_full,
        batch_units=5,
        batch_bytes=400,
        linger=1.0,
        backoff=Backoff(
            attempts=1 << 62, base=0.5, cap=8.0, factor=2.0, jitter=True, max_retry_after=inf
        ),
    )


def encoded(items):
    return ",".join(str(n) for n in items).encode()


def decoded(data):
    return [int(n) for n in data.split(b",") if n]


class Machine(RuleBasedStateMachine):
    """One exporter, its disk and its server. An item is its number; all items have one unit."""

    @initialize(
        when_full=st.sampled_from(list(WhenFull)), old=st.integers(0, 3), foreign=st.booleans()
    )
    def begin(self, when_full, old, foreign):
        self.when_full = when_full
        self.flow = Flow(rules_of(when_full))
        self.now = 0.0
        self.next = 1
        self.lane_of = {}
        self.arrived = {lane: [] for lane in range(LANES)}
        self.accepted = 0  # units that the server said it took
        self.disk = {}  # place -> data
        self.packing = None
        self.writing = []
        self.flights = {}
        self.marks = []
        if when_full is WhenFull.SPILL and old:
            found = [[] for _ in range(LANES)]
            for n in range(old):
                lane = 0 if foreign else n % LANES
                number = -10 + n
                self.lane_of[number] = lane
                data = encoded([number])
                self.disk[number] = data
                found[lane].append(Body(1, len(data), first=-1, place=number))
            for lane in range(LANES):
                self.flow.recover(lane, found[lane], foreign=foreign)

    # -- the application -----------------------------------------------------------------------

    @rule(lane=st.integers(0, LANES - 1), size=st.integers(1, 300))
    def emit(self, lane, size):
        before = self.flow.bound.units, self.flow.bound.bytes
        entry = self.flow.emit(lane, self.next, size, 1, self.now)
        if entry is Entry.FULL:
            assert self.when_full in {WhenFull.BLOCK, WhenFull.SPILL}
            assert before[0] + 1 > 24 or before[1] + size > 2000
            return
        if entry is Entry.DROPPED:
            assert self.flow.closing or self.flow.stalled or self.when_full is WhenFull.DROP_NEWEST
            return
        self.lane_of[self.next] = lane
        self.next += 1

    @precondition(lambda self: self.when_full in {WhenFull.BLOCK, WhenFull.SPILL})
    @rule()
    def a_wait_was_in_vain(self):
        self.flow.stalled = True

    @rule(asleep=st.booleans())
    def the_encoder_sleeps(self, asleep):
        self.flow.asleep = asleep

    @rule(seconds=st.sampled_from([0.1, 1.0, 10.0, 4000.0]))
    def time_passes(self, seconds):
        self.now += seconds

    # -- encoding ------------------------------------------------------------------------------

    @precondition(lambda self: self.packing is None)
    @rule()
    def pack(self):
        step = self.flow.pack(self.now)
        if isinstance(step, tuple):
            self.packing = step
        else:
            assert step > self.now

    @precondition(lambda self: self.packing is not None)
    @rule(cut=st.integers(0, 5), bad=st.integers(0, 2), silent=st.integers(0, 1))
    def packed(self, cut, bad, silent):
        """Encode in two bodies; some objects come out as too large, some just do not come out."""
        lane, items, units, _ = self.packing
        self.packing = None
        assert len(items) == units
        bad, silent = min(bad, len(items)), min(silent, max(0, len(items) - bad))
        good = items[bad + silent :]
        bodies = [(len(part), encoded(part)) for part in (good[:cut], good[cut:]) if part]
        to_disk = self.flow.packed(lane, bodies, [("too_large", bad)])
        self.writing += [(lane, body) for body in to_disk]

    # -- disk ----------------------------------------------------------------------------------

    @precondition(lambda self: self.writing)
    @rule(works=st.booleans())
    def write(self, works):
        lane, body = self.writing.pop(0)
        if body.data is None:
            return
        if not works:
            self.flow.unspillable("disk_full")
            # The real thread goes on with the next body, which then stays in memory, too.
            return
        place = ("w", id(body), len(self.disk))
        data = body.data
        if self.flow.spilled(lane, body, place, len(data) + 14):
            self.disk[place] = data

    @precondition(lambda self: self.disk)
    @rule(data=st.data())
    def a_record_is_damaged(self, data):
        place = data.draw(st.sampled_from(sorted(self.disk, key=str)))
        for lane in self.flow.lanes:
            for body in ([lane.current] if lane.current else []) + list(lane.bodies):
                if body.place == place:
                    self.flow.damaged(lane, body, "damaged")
                    del self.disk[place]
                    flight, _ = self.flights.get(lane.index, (None, None))
                    if flight is not None and flight.body is body:
                        del self.flights[lane.index]
                    return

    # -- the server ----------------------------------------------------------------------------

    @rule(lane=st.integers(0, LANES - 1))
    def launch(self, lane):
        step = self.flow.launch(lane, self.now)
        if isinstance(step, Launch):
            assert lane not in self.flights  # one request at a time
            assert not (self.flow.foreign and lane)
            assert self.now >= self.flow.hold_until
            body = step.body
            data = self.disk[body.place] if body.place is not None else body.data
            assert len(decoded(data)) == body.units
            self.flights[lane] = (step, data)
        else:
            assert step > self.now

    @precondition(lambda self: self.flights)
    @rule(
        data=st.data(),
        kind=st.sampled_from(["taken", "partly", "busy", "down", "lost answer", "refused", "long"]),
        after=st.sampled_from([None, 0.0, 2.0, 1e6]),
        drawn=st.floats(0.0, 0.999),
    )
    def answer(self, data, kind, after, drawn):
        lane = data.draw(st.sampled_from(sorted(self.flights)))
        flight, content = self.flights.pop(lane)
        numbers = decoded(content)
        if kind == "long":
            self._split(lane, flight, numbers)
            return
        rejected = 0
        if kind in {"taken", "partly", "lost answer"}:
            self.arrived[lane] += numbers
        if kind in {"taken", "partly"}:
            rejected = 1 if kind == "partly" else 0
            verdict = Verdict(kind=Kind.DELIVERED, rejected=rejected)
            self.accepted += len(numbers) - rejected
        elif kind == "refused":
            verdict = Verdict(kind=Kind.DROP, reason="http_400")
        else:
            verdict = Verdict(kind=Kind.RETRY, after=after if kind == "busy" else None)
        done = self.flow.settle(lane, flight.ticket, verdict, self.now, drawn)
        assert (done is None) == (verdict.kind is Kind.RETRY)
        if done is not None and done.place is not None:
            del self.disk[done.place]
        if verdict.kind is Kind.RETRY and verdict.after:
            asked = min(verdict.after, 3600.0)
            assert self.flow.launch(lane, self.now + asked * 0.99) == max(
                self.flow.lanes[lane].not_before, self.flow.hold_until
            )
        # An answer that comes twice, or late, changes nothing.
        before = self.flow.ledger.snapshot()
        assert self.flow.settle(lane, flight.ticket, verdict, self.now, drawn) is None
        assert self.flow.ledger.snapshot() == before

    def _split(self, lane, flight, numbers):
        verdict = Verdict(kind=Kind.SPLIT)
        assert self.flow.settle(lane, flight.ticket, verdict, self.now, 0.5) is None
        middle = len(numbers) // 2
        pieces = [(len(p), encoded(p)) for p in (numbers[:middle], numbers[middle:])]
        done = self.flow.replace(lane, flight.ticket, pieces if middle else [])
        assert done is flight.body
        if done.place is not None:
            del self.disk[done.place]

    @precondition(lambda self: self.flights)
    @rule(data=st.data(), wait=st.floats(0.1, 5.0))
    def breaker_is_open(self, data, wait):
        lane = data.draw(st.sampled_from(sorted(self.flights)))
        flight, _ = self.flights.pop(lane)
        self.flow.postpone(lane, flight.ticket, self.now + wait)

    # -- ends ----------------------------------------------------------------------------------

    @rule()
    def flush(self):
        self.marks.append((self.flow.mark(), self.next - 1))

    def open_numbers(self):
        """Numbers whose fate is open: as objects, bodies, in flight, or on disk."""
        found = set(self.packing[1]) if self.packing else set()
        for lane in self.flow.lanes:
            found |= set(lane.items)
            for body in ([lane.current] if lane.current else []) + list(lane.bodies):
                found |= set(decoded(body.data if body.place is None else self.disk[body.place]))
        return found

    @invariant()
    def a_flush_ends_when_nothing_before_it_is_open(self):
        if not hasattr(self, "flow") or not self.marks:
            return
        waiting = self.open_numbers()
        for mark, last in self.marks:
            older = {n for n in waiting if n <= last}
            # Which units of a batch were dropped is not known, so that after drops a flush may
            # wait for some that came later. It never ends early but for what was dropped.
            if not self.flow.ledger.dropped:
                assert self.flow.reached(mark) == (not older)
            elif not waiting:
                assert self.flow.reached(mark)

    @invariant()
    def the_account_balances(self):
        if not hasattr(self, "flow"):
            return
        ledger, account = self.flow.ledger, self.flow.ledger.snapshot()
        assert isinstance(account, Account)
        assert account.balanced, account
        assert min(account.queued, account.in_flight, account.spilled, account.sent) >= 0
        assert account.in_flight == sum(f.body.units for f, _ in self.flights.values())
        assert account.sent == self.accepted
        assert account.spilled == sum(
            len(decoded(data))
            for place, data in self.disk.items()
            if place not in {f.body.place for f, _ in self.flights.values()}
        )
        held = self.bound_by_hand()
        assert (self.flow.bound.units, self.flow.bound.bytes) == held
        assert ledger.queued == account.queued

    def bound_by_hand(self):
        units = sum(lane.held_units for lane in self.flow.lanes)
        size = sum(lane.held_bytes for lane in self.flow.lanes)
        for lane in self.flow.lanes:
            assert lane.on_disk == sum(body.place is not None for body in lane.bodies)
            assert lane.body_bytes == sum(b.size for b in lane.bodies if b.place is None)
            for body in ([lane.current] if lane.current else []) + list(lane.bodies):
                if body.place is None:
                    units += body.units
                    size += body.size
        return units, size

    @invariant()
    def each_lane_arrives_in_order(self):
        if not hasattr(self, "flow"):
            return
        for lane, numbers in self.arrived.items():
            first_time = list(dict.fromkeys(numbers))
            assert first_time == sorted(first_time)
            assert all(self.lane_of[n] == lane for n in numbers)

    @invariant()
    def a_lane_is_memory_then_disk_then_memory(self):
        if not hasattr(self, "flow"):
            return
        for lane in self.flow.lanes:
            head, tail = self.flow.shed(lane)
            waiting = ([lane.current] if lane.current else []) + list(lane.bodies)
            disk = [body for body in waiting if body.place is not None]
            assert len(head) + len(tail) + len(disk) == len(waiting)
            assert waiting[: len(head)] == head

    def teardown(self):
        """Whatever happened, the end adds up: with a server that is well, or without one."""
        if not hasattr(self, "flow"):
            return
        flow = self.flow
        if self.next % 2:
            self.drain()
            assert flow.idle()
            assert not flow.ledger.snapshot().pending
            assert flow.ledger.sent + flow.ledger.snapshot().lost == (
                flow.ledger.emitted + flow.ledger.recovered
            )
        late = dict(self.flights)
        flow.ground()
        assert not flow.ledger.in_flight
        assert flow.launch(0, self.now + 1e9) == inf
        flow.abandon()
        for lane, (flight, _) in late.items():
            assert flow.settle(lane, flight.ticket, Verdict(kind=Kind.DELIVERED), 0.0, 0.0) is None
        account = flow.ledger.snapshot()
        assert account.balanced
        assert account.queued == account.in_flight == 0
        assert (flow.bound.units, flow.bound.bytes) == (0, 0)
        if self.packing is not None:
            assert flow.packed(self.packing[0], [(1, b"1")], []) == []
        assert flow.ledger.snapshot() == account
        assert flow.emit(0, 0, 1, 1, 0.0) is Entry.DROPPED
        assert flow.ledger.snapshot().balanced

    def drain(self):
        self.flow.closing = True
        for _ in range(10_000):
            if self.flow.idle():
                return
            self.now = max(self.now + 1.0, self.flow.hold_until)
            if self.packing is not None:
                self.packed(5, 0, 0)
            self.pack()
            while self.writing:
                self.write(True)
            for lane in range(LANES):
                if lane not in self.flights:
                    self.launch(lane)
                if lane in self.flights:
                    flight, content = self.flights.pop(lane)
                    numbers = decoded(content)
                    self.arrived[lane] += numbers
                    self.accepted += len(numbers)
                    done = self.flow.settle(
                        lane, flight.ticket, Verdict(kind=Kind.DELIVERED), self.now, 0.5
                    )
                    if done.place is not None:
                        del self.disk[done.place]
            self.the_account_balances()
            self.each_lane_arrives_in_order()
        raise AssertionError(self.flow.ledger.snapshot())


TestFlow = Machine.TestCase
TestFlow.settings = settings(stateful_step_count=60)
