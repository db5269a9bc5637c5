"""One exporter's decisions: what is admitted, encoded, sent, sent again, spilled and dropped.

Pure: the caller holds a lock, says what time it is, and does what it is told:

    emit()                  an item comes in
    pack() ... packed()     a lane's objects are taken to be encoded; the bodies come back
    launch() ... settle()   a lane's oldest body goes into a request; the verdict comes back
    shed() ... spilled()    bodies are taken to be written to disk; they are there

Every step keeps the account balanced, whatever happens between the two halves of a pair.
"""

from __future__ import annotations

import enum
from math import inf
from typing import TYPE_CHECKING, Any, final

import attrs

from ._account import Ledger
from ._queue import Bound, WhenFull, fullest
from ._retry_rules import Kind
from ._shards import Body, Lane

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hastack.ratelimit._backoff import Backoff

    from ._retry_rules import Verdict

LONGEST_WAIT = 3600.0
"""Seconds; a backend that asks for more is asked again after this time."""


class Entry(enum.Enum):
    """What became of an item that was emitted."""

    ADMITTED = "admitted"
    WAKE = "admitted; there is something to encode or to wait for"
    FULL = "not admitted, not counted: wait for room, or refuse() it"
    DROPPED = "counted as dropped"


_ADMITTED = Entry.ADMITTED  # a look-up less for each item


@final
@attrs.frozen(kw_only=True)
class Rules:
    """Settings of one flow.

    Attributes:
        shards: Lanes.
        max_units: Units held in memory at most.
        max_bytes: Bytes held in memory at most.
        when_full: What gives.
        batch_units: Units that are encoded at once.
        batch_bytes: Estimated bytes that are encoded at once.
        linger: Seconds that an object waits for others before it is encoded.
        backoff: Delays between tries.
    """

    shards: int
    max_units: int
    max_bytes: int
    when_full: WhenFull
    batch_units: int
    batch_bytes: int
    linger: float
    backoff: Backoff


@final
@attrs.frozen
class Launch:
    """A body that goes into a request now."""

    body: Body
    ticket: int


@final
class Flow:
    """Everything that waits in one exporter.

    Attributes:
        ledger: The account.
        lanes: One per shard.
        bound: Room in memory.
        closing: Nothing is admitted any more.
        grounded: Nothing is sent any more; what is left goes to disk.
        closed: Everything was sent or given up; the threads end.
        asleep: Whoever encodes does not look by itself, and wants to be told of a first item. While
            items keep coming it looks now and then, which costs the application no wake-up each.
        stalled: A caller waited for room in vain, and none was made since.
        hold_until: The backend asked for a pause, which holds for every lane.
        no_disk: Why writing to disk failed last; ``None`` while it works.
        foreign: Recovered bodies that were written under another number of shards. They wait in
            the first lane, and the others wait for them: nothing overtakes what is older.
    """

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self._batch_units = rules.batch_units
        self._batch_bytes = rules.batch_bytes
        self.ledger = Ledger()
        self.lanes = [Lane(index) for index in range(rules.shards)]
        self.bound = Bound(rules.max_units, rules.max_bytes)
        self.closing = False
        self.closed = False
        self.grounded = False
        self.asleep = True
        self.stalled = False
        self.hold_until = -inf
        self.no_disk: str | None = None
        self.foreign: set[Body] = set()

    # -- in ------------------------------------------------------------------------------------

    def emit(
        self, index: int, item: Any, size: int, units: int, now: float, *, early: bool = False
    ) -> Entry:
        """Take an item of ``units`` units and about ``size`` bytes into a lane.

        With ``early`` it was handed in before the end began, and is still taken.
        """
        bound, ledger = self.bound, self.ledger
        if self.closing and (self.closed or not early):
            ledger.refuse(units, "shutdown")
            return Entry.DROPPED
        if not (
            bound.units + units <= bound.max_units and bound.bytes + size <= bound.max_bytes
        ) and not self._make_room(units, size):
            if self.rules.when_full is WhenFull.DROP_NEWEST or self.stalled:
                ledger.refuse(units, self.reason())
                return Entry.DROPPED
            return Entry.FULL
        lane = self.lanes[index]
        lane.items.append(item)
        lane.sizes.append(size)
        lane.weights.append(units)
        lane.entered += units
        before = lane.held_units - lane.packing_units
        lane.held_units += units
        lane.held_bytes += size
        bound.units += units
        bound.bytes += size
        ledger.emitted += units
        ledger.queued += units
        if not before:
            lane.since = now
            if self.asleep:
                return Entry.WAKE
            return _ADMITTED
        if before < self._batch_units <= before + units:
            return Entry.WAKE
        waiting = lane.held_bytes - lane.packing_bytes
        if waiting - size < self._batch_bytes <= waiting:
            return Entry.WAKE
        return _ADMITTED

    def reason(self) -> str:
        """Why there is no room."""
        return self.no_disk or "queue_full"

    def _make_room(self, units: int, size: int) -> bool:
        if self.rules.when_full is WhenFull.DROP_OLDEST:
            while not self.bound.has_room(units, size):
                lane = fullest(self.lanes)
                if lane is None:
                    break
                self._drop_oldest(lane)
        return self.bound.has_room(units, size)

    def _drop_oldest(self, lane: Lane) -> None:
        if lane.bodies:
            body = lane.bodies.popleft()
            self._forget(lane, body)
            self.ledger.drop_queued(body.units, "queue_full")
            return
        lane.items.popleft()
        units, size = lane.weights.popleft(), lane.sizes.popleft()
        lane.held_units -= units
        lane.held_bytes -= size
        self.bound.give(units, size)
        self.ledger.drop_queued(units, "queue_full")

    def _forget(self, lane: Lane, body: Body) -> None:
        """A body that waited in memory leaves it."""
        lane.body_bytes -= body.size
        self.bound.give(body.units, body.size)

    # -- encoding ------------------------------------------------------------------------------

    def due(self, lane: Lane) -> float:
        """When the objects of a lane are to be encoded; ``inf`` when there are none."""
        units = lane.held_units - lane.packing_units
        if not units:
            return inf
        if (
            units >= self.rules.batch_units
            or lane.held_bytes - lane.packing_bytes >= self.rules.batch_bytes
            or lane.entered - lane.held_units < lane.flush_to
            or self.closing
        ):
            return -inf
        return lane.since + self.rules.linger

    def pack(self, now: float) -> tuple[Lane, list[Any], int, int] | float:
        """The next objects to encode with their units and bytes, or when there will be some."""
        soonest = inf
        for lane in self.lanes:
            at = self.due(lane)
            if at <= now and not lane.packing_units:
                return self._take(lane, now)
            soonest = min(soonest, at)
        return soonest

    def _take(self, lane: Lane, now: float) -> tuple[Lane, list[Any], int, int]:
        rules = self.rules
        items: list[Any] = []
        units = size = 0
        while lane.items and (
            not items or (units + lane.weights[0] <= rules.batch_units and size < rules.batch_bytes)
        ):
            items.append(lane.items.popleft())
            units += lane.weights.popleft()
            size += lane.sizes.popleft()
        lane.packing_units, lane.packing_bytes = units, size
        lane.since = now
        return lane, items, units, size

    def packed(
        self,
        lane: Lane,
        bodies: Sequence[tuple[int, bytes]],
        dropped: Sequence[tuple[str, int]],
        repaired: int = 0,
        *,
        wire: Any = None,
        source: Any = None,
    ) -> list[Body]:
        """Take the bodies that came of the objects taken last.

        Args:
            lane: The lane whose objects they were.
            bodies: Units and bytes of each, in order.
            dropped: Units that are in no body, by reason. Units that neither list accounts for
                are dropped as ``"unencodable"``.
            repaired: Values that were changed to be encodable.
            wire: How the bodies are sent; opaque here.
            source: The objects of a single body, to encode it anew; opaque here.

        Returns:
            Bodies that have to be written to disk, in order; they count as queued until
            `spilled` is told.
        """
        if self.closed:
            return []  # given up meanwhile
        first = lane.entered - lane.held_units
        units, size = lane.packing_units, lane.packing_bytes
        lane.packing_units = lane.packing_bytes = 0
        lane.held_units -= units
        lane.held_bytes -= size
        self.bound.give(units, size)
        self.ledger.repaired += repaired
        left = units
        for reason, count in dropped:
            self.ledger.drop_queued(count, reason)
            left -= count
        to_disk = []
        for count, data in bodies:
            body = Body(count, len(data), first=first, data=data, wire=wire)
            body.source = source
            first += count
            left -= count
            self.bound.take(count, body.size)
            if self._to_disk(lane):
                to_disk.append(body)
            lane.bodies.append(body)
            lane.body_bytes += body.size
        self.ledger.drop_queued(left, "unencodable")
        return to_disk

    # -- disk ----------------------------------------------------------------------------------

    def _to_disk(self, lane: Lane) -> bool:
        """Whether the next body of a lane goes to disk.

        What follows a body on disk goes there, too, so that a lane is memory, then disk. After a
        failed write it is memory again, until the disk part was sent.
        """
        if self.rules.when_full is not WhenFull.SPILL:
            return False
        if lane.on_disk:
            return lane.bodies[-1].place is not None
        return self.bound.crowded()

    def spilled(self, lane: Lane, body: Body, place: Any, size: int) -> bool:
        """A body is on disk: it takes ``size`` bytes at ``place`` there.

        Returns:
            False when it was sent or given up meanwhile: then it has to leave the disk again.
        """
        self.no_disk = None
        if body is lane.current and not lane.flying:
            self.bound.give(body.units, body.size)
        elif body in lane.bodies:
            self._forget(lane, body)
            lane.on_disk += 1
        else:
            return False
        self.ledger.spill(body.units)
        body.data, body.place, body.size, body.source = None, place, size, None
        self.stalled = False
        return True

    def unspillable(self, reason: str) -> None:
        """Writing failed; the body stays in memory."""
        self.no_disk = reason

    def damaged(self, lane: Lane, body: Body, reason: str) -> None:
        """A body on disk cannot be read or was removed to make room."""
        if body is lane.current:
            lane.current = None
            if lane.flying:
                lane.flying = False
                lane.ticket += 1
                self.ledger.drop_in_flight(body.units, reason)
            else:
                self.ledger.drop_spilled(body.units, reason)
        else:
            lane.bodies.remove(body)
            lane.on_disk -= 1
            self.ledger.drop_spilled(body.units, reason)
        self.foreign.discard(body)

    def recover(self, index: int, bodies: Sequence[Body], *, foreign: bool) -> None:
        """Put bodies found on disk before everything that waits in a lane."""
        lane = self.lanes[0 if foreign else index]
        for body in reversed(bodies):
            lane.bodies.appendleft(body)
            lane.on_disk += 1
            self.ledger.recover(body.units)
            if foreign:
                self.foreign.add(body)

    # -- out -----------------------------------------------------------------------------------

    def launch(self, index: int, now: float) -> Launch | float:
        """The body that a lane sends now, or when to ask again; ``inf``: after a wake-up."""
        lane = self.lanes[index]
        if lane.flying or self.grounded or (self.foreign and index):
            return inf
        if lane.current is None:
            if not lane.bodies:
                return inf
            body = lane.current = lane.bodies.popleft()
            lane.not_before = -inf
            if body.place is None:
                lane.body_bytes -= body.size
            else:
                lane.on_disk -= 1
        at = max(lane.not_before, self.hold_until)
        if at > now:
            return at
        body = lane.current
        lane.flying = True
        lane.ticket += 1
        self.ledger.launch(body.units, from_disk=body.place is not None)
        if body.tries:
            self.ledger.retried += 1
        body.tries += 1
        return Launch(body, lane.ticket)

    def postpone(self, index: int, ticket: int, until: float) -> None:
        """The request was not made: the breaker is open until then."""
        lane = self.lanes[index]
        body = lane.current
        if not lane.flying or ticket != lane.ticket or body is None:
            return
        body.tries -= 1
        self.ledger.requests -= 1
        if body.tries:
            self.ledger.retried -= 1
        self._come_back(lane, body)
        lane.not_before = until

    def settle(
        self, index: int, ticket: int, verdict: Verdict, now: float, drawn: float
    ) -> Body | None:
        """Take the verdict on the request that was launched.

        Args:
            index: The lane.
            ticket: That of the launch.
            verdict: What the answer means. `Kind.SPLIT` changes nothing here: call `replace`.
            now: The time.
            drawn: A random number in [0, 1) for the jitter.

        Returns:
            The body, when it is done with: whoever holds it on disk can let it go.
        """
        lane = self.lanes[index]
        body = lane.current
        if not lane.flying or ticket != lane.ticket or body is None:
            return None  # given up meanwhile
        if verdict.kind is Kind.RETRY:
            self._come_back(lane, body)
            delay = self.rules.backoff.next_delay(
                body.tries, drawn=drawn, retry_after=None, remaining=None
            )
            wait = delay if isinstance(delay, float) else self.rules.backoff.cap
            lane.not_before = now + wait
            if verdict.after is not None:
                asked = min(verdict.after, LONGEST_WAIT)
                # The jitter comes on top: all who got the same answer should not come back at once.
                lane.not_before += asked
                self.hold_until = max(self.hold_until, now + asked)
            return None
        if verdict.kind is Kind.SPLIT:
            return None
        lane.flying = False
        lane.current = None
        if verdict.kind is Kind.DELIVERED:
            self.ledger.land(body.units, min(verdict.rejected, body.units))
            self.stalled = False
        else:
            self.ledger.drop_in_flight(body.units, verdict.reason)
        self._release(body)
        return body

    def replace(
        self,
        index: int,
        ticket: int,
        pieces: Sequence[tuple[int, bytes]],
        reason: str = "too_large",
        *,
        wire: Any = None,
    ) -> Body | None:
        """Go on with other bodies in place of the one in flight, or give it up without any.

        Those are in memory, also in place of one that was on disk.

        Args:
            index: The lane.
            ticket: That of the launch.
            pieces: Units and bytes of each.
            reason: Under which units that are in no piece are dropped.
            wire: How they are sent, if not like the one in flight.
        """
        lane = self.lanes[index]
        body = lane.current
        if not lane.flying or ticket != lane.ticket or body is None:
            return None
        lane.flying = False
        lane.current = None
        left = body.units
        self._release(body)
        first = body.first
        parts = []
        for units, data in pieces:
            part = Body(units, len(data), first=first, data=data, wire=wire or body.wire)
            part.tries = body.tries
            parts.append(part)
            first += units
            left -= units
        self.ledger.drop_in_flight(left, reason)
        for part in reversed(parts):
            self.ledger.come_back(part.units, to_disk=False)
            lane.bodies.appendleft(part)
            lane.body_bytes += part.size
            self.bound.take(part.units, part.size)
        return body

    def _come_back(self, lane: Lane, body: Body) -> None:
        lane.flying = False
        self.ledger.come_back(body.units, to_disk=body.place is not None)

    def _release(self, body: Body) -> None:
        if body.place is None:
            self.bound.give(body.units, body.size)
        self.foreign.discard(body)

    def begin_anew(self, index: int | None) -> None:
        """Whoever sent for a lane, or encoded (``None``), failed in the middle of it."""
        if index is None:
            for lane in self.lanes:
                if lane.packing_units:
                    self.packed(lane, [], [])
            return
        lane = self.lanes[index]
        if lane.flying and lane.current is not None:
            self._come_back(lane, lane.current)

    # -- ending --------------------------------------------------------------------------------

    def mark(self) -> tuple[int, ...]:
        """What was emitted until now, for `reached`; those objects are encoded without waiting."""
        for lane in self.lanes:
            lane.flush_to = lane.entered
        return tuple(lane.entered for lane in self.lanes)

    def reached(self, mark: tuple[int, ...]) -> bool:
        """Whether everything that was emitted before the mark has been answered or dropped."""
        return all(lane.oldest() >= at for lane, at in zip(self.lanes, mark, strict=True))

    def idle(self) -> bool:
        """Whether nothing waits anywhere."""
        return all(lane.idle() for lane in self.lanes)

    def ground(self) -> None:
        """Give up on answers: what is in flight came back, and a late answer is ignored."""
        self.grounded = True
        for lane in self.lanes:
            if lane.flying and lane.current is not None:
                self._come_back(lane, lane.current)

    def shed(self, lane: Lane) -> tuple[list[Body], list[Body]]:
        """All bodies of a lane that are in memory only: those before and those behind its disk part."""
        waiting = [] if lane.current is None else [lane.current]
        waiting += lane.bodies
        memory = [body.place is None for body in waiting]
        head = memory.index(False) if False in memory else 0
        return waiting[:head], [body for body in waiting[head:] if body.place is None]

    def abandon(self, reason: str = "shutdown", in_flight: str = "unanswered") -> None:
        """Drop everything in memory and end; what is on disk stays there and counts as spilled."""
        self.closing = self.closed = True
        for lane in self.lanes:
            body = lane.current
            if body is not None and lane.flying:
                if body.place is not None:
                    self._come_back(lane, body)
                else:
                    lane.flying = False
                    lane.current = None
                    self.ledger.drop_in_flight(body.units, in_flight)
                    self._release(body)
            elif body is not None and body.place is None:
                lane.current = None
                self.ledger.drop_queued(body.units, reason)
                self._release(body)
            lane.ticket += 1
            self._abandon_waiting(lane, reason)

    def _abandon_waiting(self, lane: Lane, reason: str) -> None:
        for body in [body for body in lane.bodies if body.place is None]:
            lane.bodies.remove(body)
            self._forget(lane, body)
            self.ledger.drop_queued(body.units, reason)
        self.ledger.drop_queued(lane.held_units, reason)
        self.bound.give(lane.held_units, lane.held_bytes)
        lane.items.clear()
        lane.sizes.clear()
        lane.weights.clear()
        lane.held_units = lane.held_bytes = lane.packing_units = lane.packing_bytes = 0
