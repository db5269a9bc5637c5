"""One signal to one backend: the threads between the queue and the requests."""

from __future__ import annotations

import random
import threading
import time
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import attrs

from hastack._core._errors import InvalidArgument
from hastack._core._fork import renew_in_child
from hastack._core._validate import seconds as _seconds
from hastack.ratelimit._backoff import Backoff

from . import _threads
from ._answers import NoAnswer
from ._compress import compress
from ._ends import flush, shut_down
from ._flow import Launch, Rules
from ._intake import inbox_limit
from ._options import QueueConfig, SpillConfig
from ._queue import WhenFull
from ._retry_rules import Kind, judge
from ._sizes import of_record, of_span
from ._spill import SpillFiles
from ._spilling import Spilling
from ._totals import Totals

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from hastack._core._validate import Seconds
    from hastack.context import Context
    from hastack.ratelimit import CircuitBreaker

    from ._options import Signal
    from ._report import Report
    from ._retry_rules import Verdict
    from ._shards import Body, Lane
    from ._wire import Wire

_PAUSE = 0.5  # seconds; the first one between two tries, at most
_LOOK = 0.1  # seconds; below this, a first item wakes whoever encodes
_IDLE_LOOKS = 10  # looks in vain before it sleeps until a first item wakes it


@final
class Exporter(Spilling):
    """One signal to one backend: queue, encoder, lanes, account.

    `hastack.observe.install` and the backends in the configuration make them; the constructor is
    for an encoder or a transport of your own.

    Args:
        name: Unique in its pipeline; also names its directory under `SpillConfig.directory`.
        signal: ``"traces"``, ``"metrics"`` or ``"logs"``.
        wire: How it is sent.
        fallback: How it is sent from then on when the backend says that it does not know the
            format (415).
        queue: How much is held, and what gives.
        spill: Where bodies go with ``when_full="spill"``.
        breaker: Shared with the other exporters of the backend.
        timeout: Seconds for one request.
        measure: The resource of an item of `hand_in`, and about how many bytes of memory the item
            takes; by default those of the SDK's spans or log records.

    Raises:
        InvalidArgument: A setting is out of range or contradicts another.
    """

    def __init__(
        self,
        name: str,
        *,
        signal: Signal,
        wire: Wire,
        fallback: Wire | None = None,
        queue: QueueConfig | None = None,
        spill: SpillConfig | None = None,
        breaker: CircuitBreaker | None = None,
        timeout: Seconds = 10.0,
        measure: Callable[[Any], tuple[Any, int]] | None = None,
    ) -> None:
        queue = QueueConfig() if queue is None else queue
        spill = SpillConfig() if spill is None else spill
        if not name or "/" in name or name.startswith("."):
            raise InvalidArgument("name", name, "a name that can be that of a directory")
        self.name = name
        self.signal = signal
        self._took: Callable[[str, float], None] | None = None  # told of each request
        self._measure = measure or (of_record if signal == "logs" else of_span)
        self._wires = (wire,) if fallback is None else (wire, fallback)
        self._wire = wire
        # Until the backend took one body, its format is on trial: the objects are kept.
        self._on_trial = fallback is not None
        self._breaker = breaker
        self._timeout = _seconds("timeout", timeout)
        self._max_body = queue.max_body
        self._max_block = queue.max_block
        self._rules = _rules_of(queue)
        self._spill = self._spill_files(spill) if queue.when_full == "spill" else None
        self._spill_drops_oldest = spill.when_full == "drop-oldest"
        self._totals = Totals() if wire.encoder.format.cumulative else None
        self._new_state()
        renew_in_child(self)
        # Now rather than with the first item: what ends after us at exit is what was made later,
        # such as a provider of the SDK that hands in its last items then.
        _threads.end_with_process(self)

    def _retune(self, queue: QueueConfig, timeout: float) -> None:
        """Take over what can change while it runs; from the next batch and request on."""
        with self._lock:
            self._timeout = timeout
            self._max_block = queue.max_block
            self._max_body = queue.max_body
            kept = {name: getattr(self._rules, name) for name in ("shards", "when_full")}
            self._rules = attrs.evolve(_rules_of(queue), **kept)
            self._flow.rules = self._rules
            self._flow.bound.max_units = queue.max_units
            self._flow.bound.max_bytes = queue.max_bytes
            self._inbox_limit = inbox_limit(self._rules)
            self._set_pace()
        self._make_way()
        self._packer.wake()

    def _spill_files(self, spill: SpillConfig) -> SpillFiles:
        if spill.directory is None:
            raise InvalidArgument("spill.directory", None, "a directory, with when_full='spill'")
        return SpillFiles(
            Path(spill.directory),
            self.name,
            shards=self._rules.shards,
            about={"signal": self.signal, **self._wire.about()},
            max_bytes=spill.max_bytes,
            fsync=spill.fsync,
        )

    def _new_state(self) -> None:
        self._new_intake()
        self._packer = _threads.Doze()
        self._senders = [_threads.Doze() for _ in range(self._rules.shards)]
        self._threads: dict[str, threading.Thread] = {}
        self._undone: dict[str, Iterator[float]] = {}  # work for which there was no thread
        self._by_hand = threading.Lock()  # held by who does it instead
        self._flushes: list[tuple[tuple[int, ...] | None, threading.Event]] = []
        self._idle = threading.Event()
        self._evacuate = False

    def _after_fork(self) -> None:
        ended = self._flow.closed
        self._new_state()
        for wire in self._wires:
            wire.transport.forget()
        if self._spill is not None:
            self._spill.forget()
        if ended:
            self._flow.abandon()

    def _cumulated(self, data: Any) -> Any:
        """``data`` of metrics as the backend takes them; what cannot be is counted as dropped."""
        if self._totals is None:
            return data
        found = self._totals.of(lambda: data)
        if found.left_out:
            with self._lock:
                self._flow.ledger.refuse(found.left_out, "out_of_order")
            self._tell_drops()
        return found.data

    def count(self, items: Sequence[Any]) -> int:
        """The units in items."""
        return self._wire.encoder.count(items)

    # -- threads -------------------------------------------------------------------------------

    def _wake_packer(self) -> None:
        self._ensure("pack", self._packing, self._packer)
        self._packer.wake()

    def _wake_sender(self, index: int) -> None:
        self._ensure(f"send-{index}", lambda: self._sending(index), self._senders[index])
        self._senders[index].wake()

    def _ensure(self, name: str, work: Callable[[], Iterator[float]], doze: _threads.Doze) -> None:
        """See that ``work``, which says how many seconds it can sleep, is done."""
        if name in self._threads:
            return

        def loop() -> None:
            for pause in work():
                doze.sleep(pause)

        with self._lock:
            if name in self._threads or self._flow.closed:
                return
            _threads.end_with_process(self)
            try:
                self._threads[name] = _threads.start(f"hastack-{self.name}-{name}", loop)
            except RuntimeError as error:
                # No more threads; since Python 3.12 none begins once the interpreter ends (gh-104690).
                self._undone.setdefault(name, work())
                if "interpreter shutdown" not in str(error):
                    self._say("thread", "no thread for exporter %s: %s", self.name, error)
            else:
                self._undone.pop(name, None)

    def _packing(self) -> Iterator[float]:
        with self._lock:
            self._flow.begin_anew(None)
        self._adopt()
        buffer = bytearray()
        look = max(_LOOK, self._rules.linger / 2)
        idle = 0
        while True:
            with self._lock:
                if self._flow.closed:
                    break
                self._take_in()
                now = time.monotonic()
                step = self._flow.pack(now)
                idle = idle + 1 if step == inf else 0
                self._flow.asleep = self._rules.linger < _LOOK or idle > _IDLE_LOOKS
                self._set_pace()
            if isinstance(step, tuple):
                self._pack(buffer, *step)
            elif self._evacuate:
                self._write_all()
                with self._lock:
                    # Room for what was handed in and found none: that goes the same way.
                    self._take_in()
                    left = any(lane.held_units for lane in self._flow.lanes)
                if not left:
                    self._evacuate = False
                    self._idle.set()
            else:
                self._look_around()
                yield step - now if self._flow.asleep else min(step - now, look)
            if self._late:
                self._take_late()
        if self._spill is not None:
            self._spill.close()

    def _pack(self, buffer: bytearray, lane: Lane, items: list[Any], units: int, size: int) -> None:
        wire = self._wire
        bodies, dropped, repaired = self._encode(wire, buffer, items, units)
        source = items if self._on_trial and len(bodies) == 1 else None
        with self._lock:
            to_disk = self._flow.packed(lane, bodies, dropped, repaired, wire=wire, source=source)
        for body in to_disk:
            self._write(lane, body)
        if bodies:
            self._wake_sender(lane.index)
        self._look_around()
        if dropped:
            self._tell_drops()

    def _encode(
        self, wire: Wire, buffer: bytearray, items: list[Any], units: int
    ) -> tuple[list[tuple[int, bytes]], list[tuple[str, int]], int]:
        bodies: list[tuple[int, bytes]] = []
        dropped: list[tuple[str, int]] = []
        repaired = start = 0
        try:
            while start < units:
                buffer.clear()
                done = wire.encoder.encode(items, buffer, max_bytes=self._max_body, start=start)
                if done.size:
                    bodies.append((done.units, compress(wire.compression, buffer)))
                dropped += [
                    (reason, count)
                    for reason, count in (
                        ("too_large", done.oversized),
                        ("unsupported", done.unsupported),
                    )
                    if count
                ]
                repaired += done.repaired
                start += done.taken
        except Exception as error:  # an encoder of somebody else's; its objects are lost
            self._say("encode", "%s: cannot encode: %r", self.name, error)
        return bodies, dropped, repaired

    def _look_around(self) -> None:
        """After something changed: those who wait for room or for the end of a flush."""
        self._make_way()
        if self._flushes:
            with self._lock:
                for n, (mark, reached) in enumerate(self._flushes):
                    if mark is None and self._take_in():
                        self._flushes[n] = (self._flow.mark(), reached)
                    elif mark is not None and self._flow.reached(mark):
                        reached.set()
        if self._flow.closing and not self._inbox and self._flow.idle():
            self._idle.set()

    # -- out -----------------------------------------------------------------------------------

    def _sending(self, index: int) -> Iterator[float]:
        with self._lock:
            self._flow.begin_anew(index)
        while True:
            with self._lock:
                if self._flow.closed:
                    break
                now = time.monotonic()
                step = self._flow.launch(index, now)
            if isinstance(step, Launch):
                self._send(index, step)
            else:
                yield step - now
            if self._late:
                self._take_late()
        for wire in self._wires:
            wire.transport.close(index)

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
        wire: Wire = body.wire
        if wire is not self._wire and wire is self._wires[0]:
            if permit is not None:
                permit.release()
            self._translate(index, launch)
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
        began = time.monotonic()
        try:
            answer = wire.transport.send(index, data, self._timeout)
        except Exception as error:  # a transport of somebody else's
            answer = NoAnswer("unreadable", repr(error))
        verdict = judge(wire.rules, answer, units=body.units)
        if self._took is not None:
            self._took(verdict.kind.value, time.monotonic() - began)
        if permit is not None:
            permit.success() if verdict.healthy else permit.failure()
        self._settle(index, launch, verdict, data)

    def _settle(self, index: int, launch: Launch, verdict: Verdict, data: bytes) -> None:
        pieces: list[tuple[int, bytes]] = []
        if verdict.kind is Kind.SPLIT:
            pieces = launch.body.wire.pieces(data, launch.body.units)
        elif verdict.kind is Kind.FALL_BACK and launch.body.wire is not self._wires[-1]:
            self._fall_back()
            self._say("format", "%s: %s; going on with the older format", self.name, verdict.note)
            self._translate(index, launch)
            return
        elif verdict.kind is Kind.DELIVERED:
            self._on_trial = False
        with self._lock:
            foreign = bool(self._flow.foreign)
            if verdict.kind is Kind.SPLIT:
                done = self._flow.replace(index, launch.ticket, pieces)
            else:
                done = self._flow.settle(
                    index, launch.ticket, verdict, time.monotonic(), random.random()
                )
            released = foreign and not self._flow.foreign
        self._let_go(done)
        if released:
            for lane in self._flow.lanes:
                if lane.bodies:
                    self._wake_sender(lane.index)
        if verdict.kind is Kind.RETRY and self._flow.closed:
            pass  # nobody tries again
        elif verdict.kind is Kind.RETRY:
            self._say("retry", "%s: %s; trying again", self.name, verdict.note)
        elif verdict.kind is not Kind.DELIVERED or verdict.rejected:
            self._say("refused", "%s: not taken: %s", self.name, verdict.note)
        self._look_around()

    def _let_go(self, done: Body | None) -> None:
        if done is not None and done.place is not None and self._spill is not None:
            self._spill.settle(done.place)

    def _fall_back(self) -> None:
        self._wire = self._wires[-1]
        if self._spill is not None:
            self._spill.go_on_with({"signal": self.signal, **self._wire.about()})

    def _translate(self, index: int, launch: Launch) -> None:
        """Encode a body in the older format, if its objects are still there."""
        body = launch.body
        pieces: list[tuple[int, bytes]] = []
        if body.source is not None:
            pieces, _, _ = self._encode(self._wire, bytearray(), body.source, body.units)
        with self._lock:
            done = self._flow.replace(index, launch.ticket, pieces, "http_415", wire=self._wire)
        self._let_go(done)
        self._look_around()

    # -- ends ----------------------------------------------------------------------------------

    def force_flush(self, timeout: Seconds = 30.0) -> Report:
        """Send everything emitted until now; see `Pipeline.force_flush`."""
        return flush([self], _seconds("timeout", timeout, zero=True))

    def shutdown(self, timeout: Seconds = 5.0) -> Report:
        """End the exporter; see `Pipeline.shutdown`."""
        return shut_down([self], _seconds("timeout", timeout, zero=True))

    def _begin_flush(self) -> threading.Event:
        reached = threading.Event()
        with self._lock:
            # Without room for all that was handed in, the mark is set as soon as there is.
            mark = self._flow.mark() if self._take_in() else None
            if self._flow.closed or (mark is not None and self._flow.reached(mark)):
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
            self._take_in()
            self._flow.closing = True
            self._flow.mark()
            self._set_pace()
            if (self._flow.idle() and not self._inbox) or self._flow.closed:
                self._idle.set()
        self._make_way()
        if self._threads or not self._idle.is_set():
            self._wake_all()

    def _await(self, event: threading.Event, timeout: float, ctx: Context | None = None) -> bool:
        """Wait for ``event``, or for the end of ``ctx``; what finds no thread is done here."""
        until = time.monotonic() + timeout
        while not self._undone:
            left = until - time.monotonic()
            if event.wait(max(0.0, min(left, _LOOK))) or left <= 0.0:
                return event.is_set()
            if ctx is not None and ctx.done:
                return False
        if not self._by_hand.acquire(timeout=max(0.0, until - time.monotonic())):
            return event.is_set()  # another thread is at it
        try:
            self._do_undone(event, until)
        finally:
            self._by_hand.release()
        return event.is_set()

    def _do_undone(self, event: threading.Event, until: float) -> None:
        """Do what found no thread, until there is ``event``."""
        # A request cannot be ended from here: what ends after this one wants some time, too.
        left = until - time.monotonic()
        until -= left / 2
        usual, self._timeout = self._timeout, min(self._timeout, max(left / 2, 0.1))
        try:
            with _threads.as_own():
                while not event.is_set() and (left := until - time.monotonic()) > 0.0:
                    pauses = [next(work, left) for work in list(self._undone.values())]
                    event.wait(min(left, _LOOK, *pauses))  # others may have work for it
        finally:
            self._timeout = usual

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
        for wire in self._wires:
            wire.transport.abort()
        self._make_way()
        self._look_around()
        self._wake_all()
        for work in self._undone.values():
            next(work, None)
        for name, thread in list(self._threads.items()):
            # A sender may be in a look-up of a name, which nothing ends: nobody waits for that.
            patience = inf if name == "pack" and self._spill is not None else 0.2
            if thread is not threading.current_thread():
                thread.join(max(0.0, min(until - time.monotonic(), patience)))

    def _end_with_process(self, until: float) -> None:
        if not self._flow.closed:
            shut_down([self], max(0.0, until - time.monotonic()))

    def __repr__(self) -> str:
        return f"<Exporter {self.name!r}: {self.account()}>"


def _rules_of(queue: QueueConfig) -> Rules:
    return Rules(
        shards=queue.shards,
        max_units=queue.max_units,
        max_bytes=queue.max_bytes,
        when_full=WhenFull(queue.when_full),
        batch_units=queue.batch,
        batch_bytes=queue.max_body * 4,
        linger=queue.linger,
        backoff=Backoff(
            attempts=1 << 62,
            base=_PAUSE,
            cap=30.0,
            factor=2.0,
            jitter=True,
            max_retry_after=inf,
        ),
    )
