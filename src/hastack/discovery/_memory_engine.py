"""The embedded store in one process: the data, its lock, its timers, and who waits for it.

Nothing here knows an event loop. A call takes the lock, decides, and wakes those whom the change
concerns after it has let the lock go; whoever waits has left a callable behind.
"""

from __future__ import annotations

import os
import random
import threading
import weakref
from typing import TYPE_CHECKING, final

from hastack._core._errors import InvalidArgument, LeaseLost, StoreUnavailable

from ._mvcc import Change, Mvcc
from ._mvcc_watch import Subscribers, Subscription
from ._records import ClusterId

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hastack.typing import Clock

    from ._records import Batch, Compare, DeleteResult, Op, PutResult, RangeResult, TxnResult

__all__ = ("Engine",)


_STALL = 1.0  # seconds without a beat that say that this process did not run


def _number() -> int:
    """A random identity, positive and of 63 bits, as etcd's are."""
    return random.SystemRandom().getrandbits(62) + 1


@final
class _Turn:
    """One call's time with the data: begins with what is due, ends with telling others."""

    __slots__ = ("_engine",)

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def __enter__(self) -> None:
        engine = self._engine
        engine._lock.acquire()
        try:
            if engine.away is not None:
                raise StoreUnavailable("the store is away: a simulated outage", code="UNAVAILABLE")
            engine._expire()
        except BaseException:
            engine._lock.release()
            raise

    def __exit__(self, *exc_info: object) -> None:
        engine = self._engine
        engine._arm()
        engine._lock.release()
        if engine._due:
            engine._settle()


@final
class Engine:
    """One store's data, for any number of threads and event loops of this process.

    Args:
        clock: Where the time of leases comes from.
        history_events, history_bytes, quota: See `Mvcc`.

    Attributes:
        cluster: Random identity of this store's life.
        away: When a simulated outage began; ``None`` while there is none.
    """

    def __init__(
        self, *, clock: Clock, history_events: int, history_bytes: int, quota: int
    ) -> None:
        self.clock = clock
        self.cluster = _number()
        self.away: float | None = None
        self._data = Mvcc(history_events=history_events, history_bytes=history_bytes, quota=quota)
        self._subscribers = Subscribers()
        self._ended: dict[int, Callable[[LeaseLost], object]] = {}  # told when a lease ends
        self._lock = threading.RLock()
        self._turn = _Turn(self)
        self._beat: float | None = None
        self._timer: Callable[[], object] | None = None
        self._timer_at: float | None = None
        self._due: list[Callable[[], object]] = []  # to call when the lock is free
        _engines.add(self)

    def _after_fork(self) -> None:
        """The child's copy is a store of its own: nobody of the parent waits in it."""
        self._lock = threading.RLock()
        self._timer = self._timer_at = self._beat = None
        self.cluster = _number()
        self._due = []
        for one in self._subscribers:
            one.wake = None

    # Transactions

    def range(
        self,
        key: bytes,
        end: bytes | None,
        revision: int = 0,
        limit: int = 0,
        keys_only: bool = False,
        count_only: bool = False,
    ) -> RangeResult:
        """See `Mvcc.range`."""
        with self._turn:
            return self._data.range(
                key,
                end,
                revision=revision,
                limit=limit,
                keys_only=keys_only,
                count_only=count_only,
            )

    def put(self, key: bytes, value: bytes, lease: int = 0, prev: bool = False) -> PutResult:
        """See `Mvcc.put`."""
        with self._turn:
            result, changes = self._data.put(key, value, lease=lease, prev=prev)
            self._tell(changes)
        return result

    def delete(self, key: bytes, end: bytes | None, prev: bool = False) -> DeleteResult:
        """See `Mvcc.delete`."""
        with self._turn:
            result, changes = self._data.delete(key, end, prev=prev)
            self._tell(changes)
        return result

    def txn(
        self, compare: Sequence[Compare], then: Sequence[Op], otherwise: Sequence[Op]
    ) -> TxnResult:
        """See `Mvcc.txn`."""
        with self._turn:
            result, changes = self._data.txn(compare, then, otherwise)
            self._tell(changes)
        return result

    def compact(self, revision: int) -> None:
        """See `Mvcc.compact`."""
        with self._turn:
            self._data.compact(revision)

    def identity(self) -> ClusterId:
        """Who answers, and at which revision."""
        with self._turn:
            return ClusterId(self.cluster, self._data.revision)

    # Leases

    def grant(
        self,
        ttl: float,
        *,
        held: bool = False,
        ended: Callable[[LeaseLost], object] | None = None,
    ) -> int:
        """Begin a lease.

        Args:
            ttl: Seconds that it lives without a renewal.
            held: It has no end of its own, because its holder lives in this process.
            ended: Called, without the lock, when it ends in any other way than `revoke` by its
                holder, who takes it back with `forget` before.
        """
        with self._turn:
            lease = _number()
            deadline = None if held else self.clock.monotonic() + ttl
            self._data.leases.grant(lease, ttl, deadline)
            if ended is not None:
                self._ended[lease] = ended
        return lease

    def renew(self, lease: int) -> float:
        """Begin a lease's time anew; the answer is its time in seconds."""
        with self._turn:
            return self._data.leases.renew(lease, self.clock.monotonic()).ttl

    def remaining(self, lease: int) -> float | None:
        """Seconds until a lease ends unless it is renewed; ``None`` for one that is held."""
        with self._turn:
            deadline = self._data.leases[lease].deadline
        return None if deadline is None else max(0.0, deadline - self.clock.monotonic())

    def revoke(self, lease: int) -> None:
        """End a lease and delete what hangs on it."""
        with self._turn:
            self._end(lease, "was revoked")

    def forget(self, lease: int) -> None:
        """Tell nobody when this lease ends."""
        with self._lock:
            self._ended.pop(lease, None)

    def _end(self, lease: int, how: str) -> None:
        keys = self._data.leases.end(lease)
        self._tell(self._data.drop(keys))
        ended = self._ended.pop(lease, None)
        if ended is not None:
            lost = LeaseLost(f"lease {lease:x} {how}", lease=lease)
            self._due.append(lambda: ended(lost))

    # Watches

    def subscribe(self, one: Subscription) -> None:
        """Have ``one`` told of changes, from its start revision on."""
        with self._lock:
            one.begin(self._data)
            self._subscribers.add(one)

    def unsubscribe(self, one: Subscription) -> None:
        """Tell ``one`` no more, and wake whoever waits for it."""
        with self._lock:
            self._subscribers.remove(one)
            wake, one.wake = one.wake, None
        if wake is not None:
            wake()

    def take(self, one: Subscription, wake: Callable[[], None]) -> Batch | None:
        """What waits for ``one``; when nothing does, ``wake`` is called once something may."""
        with self._lock:
            batch = None if self.away is not None else one.take(self._data)
            one.wake = None if batch is not None else wake
        return batch

    def _tell(self, changes: list[Change]) -> None:
        if not changes:
            return
        for one in self._subscribers.offer(changes):
            if one.wake is not None and self.away is None:
                self._due.append(one.wake)
                one.wake = None

    # Time

    def beat(self) -> None:
        """Say that this process runs; from the first time on, its leases need to hear that.

        A process that was stopped, or had no processor, could not take renewals meanwhile: its
        leases are prolonged by the time that was lost.
        """
        with self._lock:
            self._expire()
            self._beat = self.clock.monotonic()
            self._arm()
        self._settle()

    def _expire(self) -> None:
        leases = self._data.leases
        if leases.next_due() is None:
            return
        now = self.clock.monotonic()
        if self._beat is not None and now - self._beat > _STALL:
            for grant in leases:
                if grant.deadline is not None:
                    leases.set_deadline(grant.id, grant.deadline + now - self._beat)
            self._beat = now
        while (lease := leases.expired(now)) is not None:
            self._end(lease, "expired")

    def _arm(self) -> None:
        """Have the clock call when the next lease ends."""
        at = self._data.leases.next_due()
        if at is None or (self._timer_at is not None and self._timer_at <= at):
            return
        if self._timer is not None:
            self._timer()
        self._timer_at = at
        me: weakref.ref[Engine] = weakref.ref(self)
        self._timer = self.clock.call_at(at, lambda: _ring(me))

    def _rung(self) -> None:
        with self._lock:
            self._timer = self._timer_at = None
            self._expire()
            self._arm()
        self._settle()

    def _settle(self) -> None:
        """Make the calls that had to wait for the lock; each once, whoever comes first."""
        while self._due:
            try:
                call = self._due.pop(0)
            except IndexError:  # another thread was faster
                return
            call()

    # Tests

    def begin_outage(self) -> None:
        """Answer nobody from now on, and renew no lease."""
        with self._lock:
            if self.away is not None:
                raise InvalidArgument("outage", self, "a store that is not away already")
            self.away = now = self.clock.monotonic()
            for grant in self._data.leases:
                if grant.held:
                    self._data.leases.set_deadline(grant.id, now + grant.ttl)
            self._arm()
        self._settle()

    def end_outage(self) -> None:
        """Answer again; leases that are held and have not ended meanwhile go on."""
        with self._lock:
            self._expire()
            self.away = None
            for grant in self._data.leases:
                if grant.held:
                    self._data.leases.set_deadline(grant.id, None)
            for one in self._subscribers:
                if one.wake is not None:
                    self._due.append(one.wake)
                    one.wake = None
        self._settle()


def _ring(me: weakref.ref[Engine]) -> None:
    engine = me()
    if engine is not None:
        engine._rung()


# A fork copies the data, so nobody may be changing it at that moment.
_engines: weakref.WeakSet[Engine] = weakref.WeakSet()
_at_fork: list[Engine] = []


def _before_fork() -> None:
    while True:
        try:
            engines = list(_engines)
            break
        except RuntimeError:  # another thread made one meanwhile
            continue
    _at_fork.extend(sorted(engines, key=id))
    for engine in _at_fork:
        engine._lock.acquire()


def _after_fork_in_parent() -> None:
    while _at_fork:
        _at_fork.pop()._lock.release()


def _after_fork_in_child() -> None:
    while _at_fork:
        _at_fork.pop()._after_fork()


os.register_at_fork(
    before=_before_fork,
    after_in_parent=_after_fork_in_parent,
    after_in_child=_after_fork_in_child,
)
