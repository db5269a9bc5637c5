"""From emitted items to answered requests: exporters, and the pipeline that holds them.

Example:
    >>> from hastack.observe import pipeline
    >>> with pipeline.Pipeline([]) as nothing:
    ...     report = nothing.force_flush(1.0)
    >>> bool(report), report.account.emitted
    (True, 0)
"""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from hastack import context as _context
from hastack._core._errors import InvalidArgument
from hastack._core._fork import renew_in_child
from hastack._core._validate import seconds as _seconds
from hastack.ratelimit._backoff import Backoff

from . import _threads
from ._account import Account
from ._compress import compress, decompress
from ._encoding import Encoded, Encoder, WireFormat
from ._flow import Entry, Flow, Launch, Rules
from ._options import QueueConfig, SpillConfig
from ._queue import WhenFull
from ._report import Report
from ._retry_rules import Kind, RetryRules, judge
from ._shards import Body, shard_of
from ._spill import SpillError, SpillFiles
from ._split import halves
from ._transport import Transport

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from types import TracebackType

    from hastack._core._validate import Seconds
    from hastack.ratelimit import CircuitBreaker

    from ._options import Signal
    from ._retry_rules import Verdict
    from ._shards import Lane
    from ._split import Path as SplitPath

__all__ = (
    "Account",
    "Encoded",
    "Encoder",
    "Exporter",
    "Pipeline",
    "Report",
    "RetryRules",
    "Transport",
    "WireFormat",
)

_CACHED_SERVICES = 1024
_SPILL_RESERVE = 1.0  # seconds of a shutdown kept for writing to disk


@final
class Exporter:
    """One signal to one backend: queue, encoder, lanes, account.

    `hastack.observe.install` and the backends in the configuration make them; the constructor is
    for an encoder or a transport of your own.

    Args:
        name: Unique in its pipeline; also names its directory under `SpillConfig.directory`.
        signal: ``"traces"``, ``"metrics"`` or ``"logs"``.
        encoder: Makes request bodies.
        transport: Sends them.
        rules: Whose retry rules apply.
        compression: One of the encoder's ``format.compressions``; the first by default.
        split: Where the leaves of a body are, and how many units one of them is; ``None`` when a
            body that is too long cannot be cut.
        queue: How much is held, and what gives.
        spill: Where bodies go with ``when_full="spill"``.
        breaker: Shared with the other exporters of the backend.
        timeout: Seconds for one request.

    Raises:
        InvalidArgument: A setting is out of range or contradicts another.
    """

    def __init__(
        self,
        name: str,
        *,
        signal: Signal,
        encoder: Encoder,
        transport: Transport,
        rules: RetryRules,
        compression: str | None = None,
        split: tuple[SplitPath, Callable[[bytes], int]] | None = None,
        queue: QueueConfig | None = None,
        spill: SpillConfig | None = None,
        breaker: CircuitBreaker | None = None,
        timeout: Seconds = 10.0,
    ) -> None:
        queue = QueueConfig() if queue is None else queue
        spill = SpillConfig() if spill is None else spill
        if not name or "/" in name or name.startswith("."):
            raise InvalidArgument("name", name, "a name that can be that of a directory")
        known = encoder.format.compressions
        if compression is not None and compression not in known:
            raise InvalidArgument("compression", compression, f"one of {', '.join(known)}")
        self.name = name
        self.signal = signal
        self._encoder = encoder
        self._transport = transport
        self._retry_rules = rules
        self._compression = compression or known[0]
        self._split = split
        self._breaker = breaker
        self._timeout = _seconds("timeout", timeout)
        self._max_body = queue.max_body
        self._max_block = queue.max_block
        self._rules = Rules(
            shards=queue.shards,
            max_units=queue.max_units,
            max_bytes=queue.max_bytes,
            when_full=WhenFull(queue.when_full),
            batch_units=queue.batch,
            batch_bytes=max(queue.max_body * 4, 1024),
            linger=queue.linger,
            backoff=Backoff(
                attempts=1 << 62, base=0.5, cap=30.0, factor=2.0, jitter=True, max_retry_after=inf
            ),
        )
        self._spill = self._spill_files(spill) if queue.when_full == "spill" else None
        self._spill_drops_oldest = spill.when_full == "drop-oldest"
        self._new_state()
        renew_in_child(self)
        # Now rather than with the first item: what ends after us at exit is what was made later,
        # such as a provider of the SDK that hands in its last items then.
        _threads.end_with_process(self)

    def _spill_files(self, spill: SpillConfig) -> SpillFiles:
        if spill.directory is None:
            raise InvalidArgument("spill.directory", None, "a directory, with when_full='spill'")
        shape = self._encoder.format
        return SpillFiles(
            Path(spill.directory),
            self.name,
            shards=self._rules.shards,
            about={
                "format": shape.name,
                "signal": self.signal,
                "protocol": self._retry_rules.value,
                "content_type": shape.content_type,
                "encoding": self._compression,
                "headers": dict(shape.headers),
            },
            max_bytes=spill.max_bytes,
            fsync=spill.fsync,
        )

    def _new_state(self) -> None:
        # A finalizer or a signal handler may emit while its own thread is in here: such an item
        # goes to `_late`, and whoever leaves the lock next takes it in.
        self._lock = threading.RLock()
        self._flow = Flow(self._rules)
        self._late: deque[tuple[int, Any, int, int]] = deque()
        self._packer = _threads.Doze()
        self._senders = [_threads.Doze() for _ in range(self._rules.shards)]
        self._threads: dict[str, threading.Thread] = {}
        self._waiting: deque[threading.Event] = deque()
        self._flushes: list[tuple[tuple[int, ...], threading.Event]] = []
        self._idle = threading.Event()
        self._evacuate = False
        self._services: dict[int, tuple[Any, int]] = {}
        self._told: dict[str, float] = {}

    def _after_fork(self) -> None:
        ended = self._flow.closed
        self._new_state()
        self._transport.forget()
        if self._spill is not None:
            self._spill.forget()
        if ended:
            self._flow.abandon()

    # -- in ------------------------------------------------------------------------------------

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

    def count(self, items: Sequence[Any]) -> int:
        """The units in items."""
        return self._encoder.count(items)

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
        with lock:
            if _threads.suppressed():
                self._flow.ledger.suppressed += units
                return False
            entry = self._flow.emit(lane, item, size, units, time.monotonic())
        if entry is Entry.ADMITTED:
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
                entry = self._flow.emit(lane, item, size, units, time.monotonic())
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

    # -- threads -------------------------------------------------------------------------------

    def _wake_packer(self) -> None:
        self._ensure("pack", self._pack_loop)
        self._packer.wake()

    def _wake_sender(self, index: int) -> None:
        self._ensure(f"send-{index}", lambda: self._send_loop(index))
        self._senders[index].wake()

    def _ensure(self, name: str, work: Callable[[], None]) -> None:
        if name in self._threads:
            return
        with self._lock:
            if name in self._threads or self._flow.closed:
                return
            _threads.end_with_process(self)
            try:
                self._threads[name] = _threads.start(f"hastack-{self.name}-{name}", work)
            except RuntimeError as error:
                # No more threads, or the interpreter ends: what waits is counted at the end.
                self._say("thread", "no thread for exporter %s: %s", self.name, error)

    def _pack_loop(self) -> None:
        self._adopt()
        buffer = bytearray()
        while True:
            with self._lock:
                if self._flow.closed:
                    break
                now = time.monotonic()
                step = self._flow.pack(now)
            if isinstance(step, tuple):
                self._pack(buffer, *step)
            elif self._evacuate:
                self._evacuate = False
                self._write_all()
                self._idle.set()
            else:
                self._look_around()
                self._packer.sleep(step - now)
            if self._late:
                self._take_late()
        if self._spill is not None:
            self._spill.close()

    def _pack(self, buffer: bytearray, lane: Lane, items: list[Any], units: int, size: int) -> None:
        bodies: list[tuple[int, bytes]] = []
        dropped: list[tuple[str, int]] = []
        repaired = start = 0
        try:
            while start < units:
                buffer.clear()
                done = self._encoder.encode(items, buffer, max_bytes=self._max_body, start=start)
                if done.size:
                    bodies.append((done.units, compress(self._compression, buffer)))
                dropped += (("too_large", done.oversized), ("unsupported", done.unsupported))
                repaired += done.repaired
                start += done.taken
        except Exception as error:  # an encoder of somebody else's; its objects are lost
            self._say("encode", "%s: cannot encode: %r", self.name, error)
        with self._lock:
            to_disk = self._flow.packed(lane, bodies, dropped, repaired)
        for body in to_disk:
            self._write(lane, body)
        if bodies:
            self._wake_sender(lane.index)
        self._look_around()
        if dropped:
            self._tell_drops()

    def _look_around(self) -> None:
        """After something changed: those who wait for room or for the end of a flush."""
        self._make_way()
        if self._flushes:
            with self._lock:
                for mark, reached in self._flushes:
                    if self._flow.reached(mark):
                        reached.set()
        if self._flow.closing and self._flow.idle():
            self._idle.set()

    # -- disk ----------------------------------------------------------------------------------

    def _adopt(self) -> None:
        if self._spill is None:
            return
        try:
            found = self._spill.adopt()
        except SpillError as error:
            with self._lock:
                self._flow.unspillable(error.reason)
            self._say("disk", "%s: spill directory: %s", self.name, error.detail)
            return
        by_lane: dict[tuple[int, bool], list[Body]] = {}
        for each in found:
            foreign = each.header.shards != self._rules.shards
            bodies = by_lane.setdefault((each.header.lane, foreign), [])
            bodies += [Body(p.units, p.size, first=-1, place=p) for p in each.places]
        with self._lock:
            # Foreign ones last, which puts them before all others in the first lane.
            for (lane, foreign), bodies in sorted(by_lane.items(), key=lambda pair: pair[0][1]):
                self._flow.recover(lane, bodies, foreign=foreign)
        for lane, foreign in by_lane:
            self._wake_sender(0 if foreign else lane)

    def _write(self, lane: Lane, body: Body, *, before: bool = False) -> bool:
        """Move a body to disk; whether it is there."""
        spill, data = self._spill, body.data
        if spill is None or data is None:
            return False
        for _ in range(2):
            try:
                place = spill.append(lane.index, body.units, data, before=before)
            except SpillError as error:
                if error.reason == "spill_full" and self._spill_drops_oldest and self._give_up():
                    continue
                with self._lock:
                    self._flow.unspillable(error.reason)
                self._say("disk", "%s: spill: %s", self.name, error.detail)
                return False
            with self._lock:
                kept = self._flow.spilled(lane, body, place, place.size)
            if not kept:
                spill.settle(place)
            self._make_way()
            return True
        return False

    def _give_up(self) -> bool:
        """Drop what is oldest on disk to make room there."""
        assert self._spill is not None
        segment = self._spill.oldest()
        if segment is None:
            return False
        with self._lock:
            for lane in self._flow.lanes:
                waiting = ([] if lane.current is None else [lane.current]) + list(lane.bodies)
                for body in waiting:
                    if body.place is not None and body.place.segment is segment:
                        self._flow.damaged(lane, body, "spill_full")
        self._spill.give_up(segment)
        self._tell_drops()
        return True

    def _write_all(self) -> None:
        """At the end: everything that is still in memory goes to disk, in its order."""
        with self._lock:
            self._flow.ground()
            shed = [(lane, *self._flow.shed(lane)) for lane in self._flow.lanes]
        for lane, head, tail in shed:
            # After a failure what follows stays in memory, too: nothing may overtake it.
            if all(self._write(lane, body, before=True) for body in head):
                all(self._write(lane, body) for body in tail)

    # -- out -----------------------------------------------------------------------------------

    def _send_loop(self, index: int) -> None:
        doze = self._senders[index]
        while True:
            with self._lock:
                if self._flow.closed:
                    break
                now = time.monotonic()
                step = self._flow.launch(index, now)
            if isinstance(step, Launch):
                self._send(index, step)
            else:
                doze.sleep(step - now)
            if self._late:
                self._take_late()
        self._transport.close(index)

    def _send(self, index: int, launch: Launch) -> None:
        body, ticket = launch.body, launch.ticket
        permit = None
        if self._breaker is not None:
            permit = self._breaker.try_acquire()
            if not permit.allowed:
                with self._lock:
                    wait = 1.0 if permit.retry_after is None else permit.retry_after
                    self._flow.postpone(index, ticket, time.monotonic() + max(wait, 0.05))
                return
        data = body.data if body.place is None else self._read(body)
        if data is None:
            if permit is not None:
                permit.release()
            with self._lock:
                if self._flow.lanes[index].ticket == ticket:
                    self._flow.damaged(self._flow.lanes[index], body, "damaged")
            self._tell_drops()
            self._look_around()
            return
        answer = self._transport.send(index, data, self._timeout)
        verdict = judge(self._retry_rules, answer, units=body.units)
        if permit is not None:
            permit.success() if verdict.healthy else permit.failure()
        self._settle(index, launch, verdict, data)

    def _read(self, body: Body) -> bytes | None:
        assert self._spill is not None
        return self._spill.read(body.place)

    def _settle(self, index: int, launch: Launch, verdict: Verdict, data: bytes) -> None:
        pieces: list[tuple[int, bytes]] = []
        if verdict.kind is Kind.SPLIT:
            pieces = self._pieces(data, launch.body.units)
        with self._lock:
            foreign = bool(self._flow.foreign)
            if verdict.kind is Kind.SPLIT:
                done = self._flow.replace(index, launch.ticket, pieces)
            else:
                done = self._flow.settle(
                    index, launch.ticket, verdict, time.monotonic(), random.random()
                )
            released = foreign and not self._flow.foreign
        if done is not None and done.place is not None and self._spill is not None:
            self._spill.settle(done.place)
        if released:
            for lane in self._flow.lanes:
                if lane.bodies:
                    self._wake_sender(lane.index)
        if verdict.kind is Kind.RETRY:
            self._say("retry", "%s: %s; trying again", self.name, verdict.note)
        elif verdict.kind is not Kind.DELIVERED or verdict.rejected:
            self._say("refused", "%s: not taken: %s", self.name, verdict.note)
        self._look_around()

    def _pieces(self, data: bytes, units: int) -> list[tuple[int, bytes]]:
        if self._split is None:
            return []
        plain = decompress(self._compression, data)
        if plain is None:
            return []
        path, weight = self._split
        return [(n, compress(self._compression, p)) for n, p in halves(plain, path, units, weight)]

    # -- saying what happened --------------------------------------------------------------------

    def _say(self, what: str, message: str, *arguments: object) -> None:
        """Log, but the same thing at most once a minute: an outage is no reason for a flood."""
        now = time.monotonic()
        if now - self._told.get(what, -inf) < 60.0:
            return
        self._told[what] = now
        token = _threads._own.set(True)
        try:
            _threads.log.warning(message, *arguments)
        finally:
            _threads._own.reset(token)

    def _tell_drops(self) -> None:
        if time.monotonic() - self._told.get("drops", -inf) >= 60.0:
            account = self.account()
            if account.lost:
                self._say("drops", "%s: %s", self.name, account)

    def account(self) -> Account:
        """Where every unit is, at this moment."""
        with self._lock:
            return self._flow.ledger.snapshot()

    # -- ends ----------------------------------------------------------------------------------

    def force_flush(self, timeout: Seconds = 30.0) -> Report:
        """Send everything emitted until now; see `Pipeline.force_flush`."""
        return _flush([self], _seconds("timeout", timeout, zero=True))

    def shutdown(self, timeout: Seconds = 5.0) -> Report:
        """End the exporter; see `Pipeline.shutdown`."""
        return _shut_down([self], _seconds("timeout", timeout, zero=True))

    def _begin_flush(self) -> threading.Event:
        reached = threading.Event()
        with self._lock:
            mark = self._flow.mark()
            if self._flow.reached(mark) or self._flow.closed:
                reached.set()
            else:
                self._flushes.append((mark, reached))
        if not reached.is_set():
            self._wake_all()
        return reached

    def _end_flush(self, reached: threading.Event) -> None:
        with self._lock:
            self._flushes = [each for each in self._flushes if each[1] is not reached]

    def _wake_all(self) -> None:
        self._wake_packer()
        for doze in self._senders:
            doze.wake()

    def _begin_end(self) -> None:
        with self._lock:
            self._flow.closing = True
            self._flow.mark()
            if self._flow.idle() or self._flow.closed:
                self._idle.set()
        self._make_way()
        if self._threads or not self._idle.is_set():
            self._wake_all()

    def _to_the_disk(self) -> bool:
        """Have the rest written; whether there is any, and somewhere to write to."""
        if self._spill is None or self._idle.is_set():
            return False
        self._idle.clear()
        self._evacuate = True
        self._wake_packer()
        return True

    def _finish(self, until: float) -> None:
        with self._lock:
            self._flow.abandon()
        self._transport.abort()
        self._make_way()
        self._look_around()
        self._wake_all()
        for name, thread in list(self._threads.items()):
            # A sender may be in a look-up of a name, which nothing ends: nobody waits for that.
            patience = inf if name == "pack" and self._spill is not None else 0.2
            if thread is not threading.current_thread():
                thread.join(max(0.0, min(until - time.monotonic(), patience)))

    def _end_with_process(self, until: float) -> None:
        if not self._flow.closed:
            _shut_down([self], max(0.0, until - time.monotonic()))

    def __repr__(self) -> str:
        return f"<Exporter {self.name!r}: {self.account()}>"


def _flush(exporters: Sequence[Exporter], timeout: float) -> Report:
    began = time.monotonic()
    before = sum(each.account().lost for each in exporters)
    flights = [(each, each._begin_flush()) for each in exporters]
    complete = True
    for each, reached in flights:
        left = max(0.0, began + timeout - time.monotonic())
        complete = reached.wait(left) and complete
        each._end_flush(reached)
    accounts = {each.name: each.account() for each in exporters}
    lost = sum(account.lost for account in accounts.values()) - before
    left = any(each._flow.closed and accounts[each.name].pending for each in exporters)
    complete = complete and not lost and not left
    return Report(complete=complete, took=time.monotonic() - began, accounts=accounts)


def _shut_down(exporters: Sequence[Exporter], timeout: float) -> Report:
    began = time.monotonic()
    until = began + timeout
    before = {each.name: each.account().lost for each in exporters}
    for each in exporters:
        each._begin_end()
    reserve = min(_SPILL_RESERVE, timeout / 4)
    for each in exporters:
        kept = reserve if each._spill is not None else 0.0
        each._idle.wait(max(0.0, until - kept - time.monotonic()))
    writing = [each for each in exporters if each._to_the_disk()]
    for each in writing:
        each._idle.wait(max(0.0, until - time.monotonic()))
    for each in exporters:
        each._finish(until)
    accounts = {each.name: each.account() for each in exporters}
    complete = all(
        account.lost == before[name] and not account.pending for name, account in accounts.items()
    )
    return Report(complete=complete, took=time.monotonic() - began, accounts=accounts)


@final
class Pipeline:
    """Exporters that flush and end together.

    Reasons under which an account counts drops: ``queue_full`` (memory), ``disk_full``,
    ``spill_full`` (its byte cap), ``spill_unavailable`` (the directory cannot be used), ``damaged``
    (a record on disk), ``rejected`` (partial success), ``too_large`` (one unit alone),
    ``unsupported`` (the format has no place for it), ``unencodable``, ``http_404`` and
    ``grpc_internal`` (an answer that says not to try again), ``shutdown`` (waiting at its end),
    ``unanswered`` (in flight at its end: the backend may have it).

    Args:
        exporters: With names that differ.

    Raises:
        InvalidArgument: Two exporters have one name.
    """

    def __init__(self, exporters: Iterable[Exporter]) -> None:
        self.exporters = tuple(exporters)
        names = [each.name for each in self.exporters]
        for name in names:
            if names.count(name) > 1:
                raise InvalidArgument("exporters", name, "names that differ")

    def of(self, signal: Signal) -> tuple[Exporter, ...]:
        """The exporters of one signal."""
        return tuple(each for each in self.exporters if each.signal == signal)

    def accounts(self) -> dict[str, Account]:
        """The account of each exporter, by name."""
        return {each.name: each.account() for each in self.exporters}

    def force_flush(self, timeout: Seconds = 30.0) -> Report:
        """Send everything emitted until now, and say whether it was delivered.

        Args:
            timeout: Seconds; it returns no later. Zero only looks.

        Raises:
            InvalidArgument: ``timeout`` is negative.
        """
        return _flush(self.exporters, _seconds("timeout", timeout, zero=True))

    def shutdown(self, timeout: Seconds = 5.0) -> Report:
        """Admit nothing more, send what waits, spill or drop what is left at the end of the time.

        A second call changes nothing and reports the same accounts.

        Args:
            timeout: Seconds; it returns no later. With ``when_full="spill"`` a quarter of it, one
                second at most, is kept for writing to disk.

        Raises:
            InvalidArgument: ``timeout`` is negative.
        """
        return _shut_down(self.exporters, _seconds("timeout", timeout, zero=True))

    def __enter__(self) -> Pipeline:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.shutdown()
