"""The embedded store's data: keys, revisions, history and compaction.

The semantics are etcd's: one counter moves with every transaction that changes anything, reads at
an older revision see what was there then, and compaction forgets what lies before a revision. What
is kept is the present state and a log of changes that remember what they replaced; the past is the
present with the later changes taken back. Nothing here waits, locks or looks at a clock.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from operator import itemgetter
from typing import TYPE_CHECKING, TypeAlias, final

from hastack._core._errors import (
    Compacted,
    InvalidArgument,
    LeaseLost,
    RequestTooLarge,
    StoreError,
)

from ._mvcc_leases import Leases
from ._records import (
    Delete,
    DeleteResult,
    Get,
    KeyValue,
    Op,
    OpResult,
    Put,
    PutResult,
    RangeResult,
    TxnResult,
    WatchEvent,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ._records import Compare

__all__ = ("MAX_OPS", "TO_THE_LAST", "Change", "Mvcc", "check_txn")

MAX_OPS = 128  # etcd's --max-txn-ops
MAX_REQUEST = 1_572_864  # bytes; etcd's --max-request-bytes
TO_THE_LAST = b"\0"  # as the end of a range

Change: TypeAlias = tuple[int, WatchEvent, KeyValue | None]
"""A revision, the event, and what the key held before."""

_revision_of = itemgetter(0)


@final
class Mvcc:
    """Keys and their history.

    Args:
        history_events: Changes kept for reads of the past and for watches that begin there.
        history_bytes: Bytes of keys and values that those changes may hold.
        quota: Bytes of keys and values that the present may hold.

    Attributes:
        revision: The newest revision; 1 for a store in which nothing has happened.
        compacted: The oldest revision that can be read; 0 while everything can.
        floor: The first revision from which a watch misses nothing.
    """

    def __init__(self, *, history_events: int, history_bytes: int, quota: int) -> None:
        self.revision = 1
        self.compacted = 0
        self.floor = 1
        self.leases = Leases()
        self.size = 0
        self._history_events = history_events
        self._history_bytes = history_bytes
        self._quota = quota
        self._live: dict[bytes, KeyValue] = {}
        self._order: list[bytes] = []  # the keys of ``_live``, sorted
        self._log: list[Change] = []
        self._log_bytes = 0
        self._fresh: list[Change] = []  # what the running transaction has changed so far

    # Reading

    def range(
        self,
        key: bytes,
        end: bytes | None = None,
        *,
        revision: int = 0,
        limit: int = 0,
        keys_only: bool = False,
        count_only: bool = False,
    ) -> RangeResult:
        """What is in ``[key, end)``, or under ``key`` alone without an ``end``."""
        now = self.revision + bool(self._fresh)
        if revision > now:
            raise StoreError(
                f"revision {revision} is in the future: the store is at {now}", code="OUT_OF_RANGE"
            )
        if 0 < revision < self.compacted:
            raise Compacted(
                f"revision {revision} has been compacted: the oldest is {self.compacted}",
                revision=self.compacted,
            )
        if 0 < revision < now:
            found = self._then(key, end, revision)
            count = len(found)
            kvs = found[:limit] if limit > 0 else found
        elif end:
            first, last = self._span(key, end)
            count = last - first
            if limit > 0:
                last = min(last, first + limit)
            kvs = [] if count_only else list(map(self._live.__getitem__, self._order[first:last]))
        else:
            one = self._live.get(key)
            kvs = [] if one is None else [one]
            count = len(kvs)
        if count_only:
            return RangeResult((), count, False, now)
        if keys_only:
            kvs = [_without_value(kv) for kv in kvs]
        return RangeResult(tuple(kvs), count, len(kvs) < count, now)

    def _span(self, key: bytes, end: bytes) -> tuple[int, int]:
        """Where the keys of ``[key, end)`` begin and end in the order of all keys."""
        first = bisect_left(self._order, key)
        if end == TO_THE_LAST:
            return first, len(self._order)
        return first, bisect_left(self._order, end, first) if end > key else first

    def _then(self, key: bytes, end: bytes | None, revision: int) -> list[KeyValue]:
        """The range as of an older revision: later changes are taken back."""
        before: dict[bytes, KeyValue | None] = {}
        for _, event, prev in self.changes(key, end, revision + 1):
            before.setdefault(event.kv.key, prev)
        if end:
            first, last = self._span(key, end)
            present = self._order[first:last]
        else:
            present = [key] if key in self._live else []
        kept = [self._live[name] for name in present if name not in before]
        kept += filter(None, before.values())
        kept.sort(key=_key_of)
        return kept

    def changes(self, key: bytes, end: bytes | None, revision: int) -> list[Change]:
        """The kept changes in a range, from ``revision`` on."""
        first = bisect_left(self._log, revision, key=_revision_of)
        return [c for c in self._log[first:] if covers(key, end, c[1].kv.key)]

    # Writing: one call is one transaction

    def put(
        self, key: bytes, value: bytes, *, lease: int = 0, prev: bool = False
    ) -> tuple[PutResult, list[Change]]:
        """Set one key."""
        op = Put(key, value, lease, prev)
        self._admit((op,))
        result = self._put(op)
        return result, self._commit()

    def delete(
        self, key: bytes, end: bytes | None = None, *, prev: bool = False
    ) -> tuple[DeleteResult, list[Change]]:
        """Delete one key or a range."""
        self._admit((Delete(key, end),))
        result = self._delete(Delete(key, end, prev))
        return result, self._commit()

    def txn(
        self, compare: Sequence[Compare], then: Sequence[Op], otherwise: Sequence[Op]
    ) -> tuple[TxnResult, list[Change]]:
        """Run one of two lists of operations, as one revision, whole or not at all."""
        check_txn(compare, then, otherwise)
        held = all(map(self._holds, compare))
        chosen = then if held else otherwise
        self._admit(chosen)
        results = tuple(map(self._run, chosen))
        changes = self._commit()
        return TxnResult(held, results, self.revision), changes

    def drop(self, keys: Iterable[bytes]) -> list[Change]:
        """Delete keys as one revision: what the end of a lease does."""
        for key in sorted(keys):
            self._delete(Delete(key))
        return self._commit()

    def compact(self, revision: int) -> None:
        """Forget what happened before ``revision``."""
        if revision > self.revision:
            raise StoreError(
                f"revision {revision} is in the future: the store is at {self.revision}",
                code="OUT_OF_RANGE",
            )
        if revision <= self.compacted:
            raise Compacted(
                f"revision {revision} has been compacted: the oldest is {self.compacted}",
                revision=self.compacted,
            )
        self._forget(revision)

    def _forget(self, revision: int) -> None:
        gone = bisect_left(self._log, revision, key=_revision_of)
        self._log_bytes -= sum(map(_weight, self._log[:gone]))
        del self._log[:gone]
        self.compacted = self.floor = revision

    def _holds(self, compare: Compare) -> bool:
        kv = self._live.get(compare.key)
        if kv is None:
            # Nothing is not an empty value: etcd lets every comparison of it fail.
            actual: int | bytes = 0
            if compare.target == "value":
                return False
        else:
            actual = getattr(kv, compare.target)
        if compare.relation == "==":
            return actual == compare.value
        if compare.relation == "!=":
            return actual != compare.value
        if compare.relation == "<":
            return actual < compare.value  # type: ignore[operator]  # both of the target's type
        return actual > compare.value  # type: ignore[operator]  # as above

    def _admit(self, ops: Sequence[Op]) -> None:
        """Refuse what cannot be done before anything of it is."""
        size = added = 0
        for op in ops:
            if not op.key:
                raise InvalidArgument("key", op.key, "a key that is not empty")
            size += len(op.key)
            if isinstance(op, Put):
                size += len(op.value)
                added += len(op.key) + len(op.value)
                if op.lease and op.lease not in self.leases:
                    raise LeaseLost(f"no lease {op.lease:x}", lease=op.lease)
        if size > MAX_REQUEST:
            raise RequestTooLarge("bytes", size, MAX_REQUEST)
        if added and self.size + added > self._quota:
            raise StoreError(
                f"the store is full: {self.size} of {self._quota} bytes are taken",
                code="RESOURCE_EXHAUSTED",
            )

    def _run(self, op: Op) -> OpResult:
        if isinstance(op, Put):
            return self._put(op)
        if isinstance(op, Delete):
            return self._delete(op)
        return self.range(op.key, op.end, limit=op.limit)

    def _put(self, op: Put) -> PutResult:
        key, value, lease = op.key, op.value, op.lease
        revision = self.revision + 1
        prev = self._live.get(key)
        if prev is None:
            kv = KeyValue(key, value, revision, revision, 1, lease)
            insort(self._order, key)
            self.size += len(key) + len(value)
        else:
            kv = KeyValue(key, value, prev.create_revision, revision, prev.version + 1, lease)
            self.size += len(value) - len(prev.value)
        if prev is not None and prev.lease != lease:
            self.leases.detach(prev.lease, key)
        self.leases.attach(lease, key)
        self._live[key] = kv
        self._fresh.append((revision, WatchEvent("put", kv), prev))
        return PutResult(revision, prev if op.prev else None)

    def _delete(self, op: Delete) -> DeleteResult:
        first, last = self._span(op.key, op.end or op.key + b"\0")
        gone = self._order[first:last]
        prev = tuple([self._live[key] for key in gone]) if op.prev else ()
        del self._order[first:last]
        for key in gone:
            self._remove(key)
        return DeleteResult(len(gone), self.revision + bool(self._fresh), prev)

    def _remove(self, key: bytes) -> None:
        """Delete a key that is out of the order already."""
        prev = self._live.pop(key)
        self.leases.detach(prev.lease, key)
        self.size -= len(key) + len(prev.value)
        revision = self.revision + 1
        gone = KeyValue(key, b"", 0, revision, 0)
        self._fresh.append((revision, WatchEvent("delete", gone), prev))

    def _commit(self) -> list[Change]:
        """End a transaction: its changes become a revision and part of the history."""
        fresh = self._fresh
        if fresh:
            self._fresh = []
            self.revision += 1
            self._log += fresh
            self._log_bytes += sum(map(_weight, fresh))
            if len(self._log) > self._history_events or self._log_bytes > self._history_bytes:
                self._trim()
        return fresh

    def _trim(self) -> None:
        """Compact the oldest quarter away, in whole revisions; all of it if need be."""
        events, size = self._history_events * 3 // 4, self._history_bytes * 3 // 4
        first, weight = 0, self._log_bytes
        while len(self._log) - first > events or weight > size:
            weight -= _weight(self._log[first])
            first += 1
        revision = self._log[first - 1][0] + 1
        self._forget(revision)
        if revision > self.revision:
            # The present stays readable, but the changes that led to it are not kept.
            self.compacted = self.revision


def covers(key: bytes, end: bytes | None, name: bytes) -> bool:
    """Whether ``name`` lies in ``[key, end)``, or is ``key`` when there is no ``end``."""
    if not end:
        return name == key
    return name >= key and (end == TO_THE_LAST or name < end)


def check_txn(compare: Sequence[Compare], then: Sequence[Op], otherwise: Sequence[Op]) -> None:
    """Refuse a transaction that no state of the store would make sense of.

    Raises:
        RequestTooLarge: It has too many conditions or operations.
        StoreError: A branch writes one key twice: in which order would be unclear.
    """
    most = max(len(compare), len(then), len(otherwise))
    if most > MAX_OPS:
        raise RequestTooLarge("operations", most, MAX_OPS)
    for ops in (then, otherwise):
        puts: set[bytes] = set()
        deletes = [op for op in ops if isinstance(op, Delete)]
        for op in ops:
            if isinstance(op, Put):
                if op.key in puts or any(covers(d.key, d.end, op.key) for d in deletes):
                    raise StoreError(
                        f"{op.key!r} is written twice by one transaction", code="INVALID_ARGUMENT"
                    )
                puts.add(op.key)
            elif not isinstance(op, (Delete, Get)):
                raise InvalidArgument("op", op, "a Put, a Delete or a Get")


def _weight(change: Change) -> int:
    """Bytes that keeping a change costs, roughly: what it replaced is kept with it."""
    _, event, prev = change
    kv = event.kv
    return 2 * len(kv.key) + len(kv.value) + (0 if prev is None else len(prev.value))


def _key_of(kv: KeyValue) -> bytes:
    return kv.key


def _without_value(kv: KeyValue) -> KeyValue:
    return KeyValue(kv.key, b"", kv.create_revision, kv.mod_revision, kv.version, kv.lease)
