"""How items get in: on the application's threads, cheaply, and never for longer than agreed."""

from __future__ import annotations

import threading
import time
from collections import deque
from math import inf
from typing import TYPE_CHECKING, Any

import attrs

from hastack import context as _context

from . import _threads
from ._flow import Entry, Flow
from ._shards import shard_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._account import Account
    from ._flow import Rules

_CACHED_SERVICES = 1024
_ADMITTED = Entry.ADMITTED
_INBOX = 2048
_LARGE_ITEM = 4096  # bytes: a span with ten attributes
_MANY_ENOUGH = 512  # items in the inbox that are worth waking the packer
_suppressed = _threads.suppressed


def inbox_limit(rules: Rules) -> int:
    """How many items may wait to be looked at."""
    return min(_INBOX, rules.max_units // 8, rules.max_bytes // (8 * _LARGE_ITEM))


class Intake:
    """The side of an exporter that the application sees."""

    name: str
    _rules: Rules
    _measure: Callable[[Any], tuple[Any, int]]
    _max_block: float

    def _new_intake(self) -> None:
        # A finalizer or a signal handler may emit while its own thread is in here: such an item
        # goes to `_late`, and whoever leaves the lock next takes it in.
        self._lock = threading.RLock()
        self._flow = Flow(self._rules)
        self._late: deque[tuple[int, Any, int, int]] = deque()
        self._inbox: deque[Any] = deque()
        self._inbox_limit = inbox_limit(self._rules)
        self._waiting: deque[threading.Event] = deque()
        self._services: dict[int, tuple[Any, int]] = {}
        self._told: dict[str, float] = {}
        self._set_pace()

    def _wake_packer(self) -> None:
        raise NotImplementedError

    def lane_of(self, resource: Any) -> int:
        """The lane of an OpenTelemetry resource, by its ``service.name``."""
        known = self._services.get(id(resource))
        if known is not None:
            return known[1]
        attributes = getattr(resource, "attributes", None) or {}
        lane = shard_of(str(attributes.get("service.name", "")), self._rules.shards)
        if len(self._services) >= _CACHED_SERVICES:
            self._services = {}
        self._services[id(resource)] = (resource, lane)  # kept, so that its id stays its own
        return lane

    def hand_in(self, item: Any) -> bool:
        """Take a span or a log record of the SDK; the fast way in, without a lock.

        It is admitted for good, and counted in bytes, a moment later by the exporter's thread. There
        are at most 2048 items of this kind, fewer with a small queue; from then on, and whenever
        room gets scarce, it is like `emit`.

        Returns:
            Whether it was admitted so far; if not, it has been counted as dropped.
        """
        if _suppressed():
            return self._suppress(1)
        pace = self._pace
        if not pace:
            return self._hand_in_slowly(item)
        inbox = self._inbox
        inbox.append(item)
        if len(inbox) >= pace:
            self._nudge()
        return True

    def _suppress(self, units: int) -> bool:
        with self._lock:
            self._flow.ledger.suppressed += units
        return False

    def _nudge(self) -> None:
        """There is a first item, or there are many."""
        if len(self._inbox) < self._inbox_limit:
            self._pace = self._inbox_limit
            self._wake_packer()
            return
        if not self._lock._is_owned():  # type: ignore[attr-defined]
            with self._lock:
                self._take_in()
            self._wake_packer()

    def _hand_in_slowly(self, item: Any) -> bool:
        try:
            resource, size = self._measure(item)
            lane = self.lane_of(resource)
        except Exception as error:
            with self._lock:
                self._refuse_strange(error)
            return False
        if not self.emit(lane, item, size):
            return False
        with self._lock:
            self._set_pace()
        return True

    def _take_in(self) -> bool:
        """Move what was handed in to its lanes; whether all of it found room. With the lock held."""
        inbox, flow, now = self._inbox, self._flow, time.monotonic()
        while inbox:
            item = inbox[0]
            try:
                resource, size = self._measure(item)
                entry = flow.emit(self.lane_of(resource), item, size, 1, now, early=True)
            except Exception as error:
                entry = self._refuse_strange(error)
            if entry is Entry.FULL:
                self._pace = 0
                return False
            inbox.popleft()
        self._set_pace()
        return True

    def _refuse_strange(self, error: Exception) -> Entry:
        """An item that is none of the SDK's."""
        self._flow.ledger.refuse(1, "unencodable")
        self._say("encode", "%s: what was handed in is no item: %r", self.name, error)
        return Entry.DROPPED

    def _set_pace(self) -> None:
        """How many items may be handed in before somebody has to look; 0: each one is looked at."""
        flow, limit = self._flow, self._inbox_limit
        bound = flow.bound
        if (
            flow.closing
            or flow.stalled
            or bound.units + limit > bound.max_units
            or bound.bytes * 4 > bound.max_bytes * 3
            or limit < _MANY_ENOUGH
        ):
            self._pace = 0
        else:
            self._pace = 1 if flow.asleep else min(_MANY_ENOUGH, limit)

    def emit(self, lane: int, item: Any, size: int, units: int = 1) -> bool:
        """Hand in one item; never raises, and never waits longer than ``max_block``.

        Args:
            lane: From `lane_of`.
            item: What the encoder takes; not to be changed afterwards.
            size: About how many bytes of memory it takes.
            units: Units in it.

        Returns:
            Whether it was admitted; if not, it has been counted as dropped.
        """
        lock = self._lock
        if lock._is_owned():  # type: ignore[attr-defined]
            self._late.append((lane, item, size, units))
            return True
        if _suppressed():
            return self._suppress(units)
        with lock:
            if self._inbox and not self._take_in():
                entry = Entry.FULL  # nothing may overtake what came before
            else:
                entry = self._flow.emit(lane, item, size, units, time.monotonic())
        if entry is _ADMITTED:
            if self._late:
                self._take_late()
            return True
        if entry is Entry.WAKE:
            self._wake_packer()
            if self._late:
                self._take_late()
            return True
        if entry is Entry.DROPPED:
            self._tell_drops()
            return False
        return self._wait_for_room(lane, item, size, units)

    def _wait_for_room(self, lane: int, item: Any, size: int, units: int) -> bool:
        self._wake_packer()
        limit = 0.0 if _threads.blocks_a_loop() else self._max_block
        remaining = _context.current().remaining()
        if remaining is not None:
            limit = min(limit, remaining)
        until = time.monotonic() + limit
        while True:
            room = threading.Event()
            with self._lock:
                if self._take_in():
                    entry = self._flow.emit(lane, item, size, units, time.monotonic())
                else:
                    entry = Entry.FULL
                left = until - time.monotonic()
                if entry is Entry.FULL:
                    if left <= 0.0:
                        # From now on nobody waits until there was room again: one wait for each
                        # caller is backpressure, one for each item would be a standstill.
                        self._flow.stalled = True
                        self._flow.ledger.refuse(units, self._flow.reason())
                        break
                    self._waiting.append(room)
            if entry is not Entry.FULL:
                self._wake_packer()
                return entry is not Entry.DROPPED
            room.wait(left)
        self._tell_drops()
        return False

    def _take_late(self) -> None:
        while self._late:
            try:
                lane, item, size, units = self._late.popleft()
            except IndexError:
                return
            with self._lock:
                entry = self._flow.emit(lane, item, size, units, time.monotonic())
                if entry is Entry.FULL:
                    self._flow.ledger.refuse(units, self._flow.reason())
            if entry is Entry.WAKE:
                self._wake_packer()

    def _make_way(self) -> None:
        """There may be room again."""
        while self._waiting:
            try:
                self._waiting.popleft().set()
            except IndexError:
                return

    def _say(self, what: str, message: str, *arguments: object) -> None:
        """Log, but the same thing at most once a minute: an outage is no reason for a flood."""
        now = time.monotonic()
        if now - self._told.get(what, -inf) < 60.0:
            return
        self._told[what] = now
        with _threads.as_own():
            _threads.log.warning(message, *arguments)

    def _tell_drops(self) -> None:
        if time.monotonic() - self._told.get("drops", -inf) >= 60.0:
            account = self.account()
            if account.lost:
                self._say("drops", "%s: %s", self.name, account)

    def _lost(self) -> int:
        """Units dropped so far; what was handed in and not looked at yet may still be."""
        with self._lock:
            return sum(self._flow.ledger.dropped.values())

    def account(self) -> Account:
        """Where every unit is, at this moment."""
        with self._lock:
            self._take_in()
            account = self._flow.ledger.snapshot()
            waiting = len(self._inbox)
        if not waiting:
            return account
        return attrs.evolve(
            account, emitted=account.emitted + waiting, queued=account.queued + waiting
        )
