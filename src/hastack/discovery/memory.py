"""The embedded store: etcd's data model without a server.

For development, tests and small deployments; registry, locks and federation run on it as they run
on etcd.

Example:
    >>> import asyncio
    >>> from hastack.discovery import memory
    >>> async def main():
    ...     store = memory.connect("memory://example")
    ...     await store.put("/config/size", "3")
    ...     async with store.watch("/config/", prefix=True) as watch:
    ...         first = await anext(watch)
    ...         await store.put("/config/size", "4")
    ...         second = await anext(watch)
    ...     return first.reason, [event.kv.value for event in second.events]
    >>> asyncio.run(main())
    ('snapshot', [b'4'])
"""

from __future__ import annotations

import threading
import weakref
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self, final
from urllib.parse import unquote, urlsplit

from hastack._core._cancel import _current
from hastack._core._clock import SYSTEM_CLOCK
from hastack._core._errors import ClosedError, InvalidArgument
from hastack._core._fork import renew_in_child
from hastack._core._validate import integer, optional_seconds, seconds, text

from ._memory_engine import Engine
from ._memory_kept import MemoryKept
from ._memory_lease import MemoryLease
from ._memory_watch import MemoryWatch
from ._mvcc import TO_THE_LAST, check_txn
from ._mvcc_watch import Subscription
from ._records import as_bytes, prefix_end

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence
    from types import TracebackType

    from hastack.typing import Clock

    from ._memory_shared import Shared
    from ._memory_shared_lease import SharedLease
    from ._memory_shared_watch import SharedWatch
    from ._memory_sync import SyncStore
    from ._records import (
        ClusterId,
        Compare,
        DeleteResult,
        Key,
        KeyValue,
        Op,
        PutResult,
        RangeResult,
        TxnResult,
    )
    from ._store import Kept, Lease, Watch

__all__ = ("Store", "connect")

_BOUNDS = {"history_events": 10_000, "history_bytes": 16 * 2**20, "quota": 256 * 2**20}


@final
class Store:
    """A store in this process; satisfies `hastack.discovery.Store`.

    Each is a new and empty one; `connect` gives access to those that have a name. It may be used
    from any number of threads and event loops at once.

    History is kept for reads at an older revision and for watches that begin there. When one of
    its two bounds is reached, the oldest quarter is compacted away. A watch is not affected by
    that: it keeps what it has not handed over yet, and folds it into an exact difference when its
    own buffer is full.

    A forked child gets a copy that is a store of its own, with another identity.

    Args:
        clock: Where the time of leases comes from; the process clock by default.
        history_events: Changes that the history holds.
        history_bytes: Bytes of keys and values that it holds.
        quota: Bytes of keys and values that the store holds; a put beyond is refused with a
            `StoreError` of code ``"RESOURCE_EXHAUSTED"``.

    Raises:
        InvalidArgument: A bound is not a positive integer.

    Example:
        >>> import asyncio
        >>> from hastack.discovery import memory
        >>> async def main():
        ...     store = memory.Store()
        ...     await store.put("a", "1")
        ...     return (await store.get("a")).value
        >>> asyncio.run(main())
        b'1'
    """

    def __init__(
        self,
        *,
        clock: Clock | None = None,
        history_events: int = 10_000,
        history_bytes: int = 16 * 2**20,
        quota: int = 256 * 2**20,
    ) -> None:
        self.url = "memory://"
        self._open(
            Engine(
                clock=SYSTEM_CLOCK if clock is None else clock,
                history_events=integer("history_events", history_events),
                history_bytes=integer("history_bytes", history_bytes),
                quota=integer("quota", quota),
            )
        )

    def _open(self, engine: Engine | None, shared: Shared | None = None) -> None:
        self._engine = engine
        self._shared = shared
        self._closed = False
        self._open_watches: weakref.WeakSet[MemoryWatch | SharedWatch] = weakref.WeakSet()
        self._open_leases: weakref.WeakSet[MemoryLease | SharedLease] = weakref.WeakSet()

    @classmethod
    def _of(cls, url: str, engine: Engine | None, shared: Shared | None = None) -> Store:
        """Another handle on the data of ``engine``, or on a store of several processes."""
        store = cls.__new__(cls)
        store.url = url
        store._open(engine, shared)
        return store

    def _check(self, timeout: float | None = None) -> None:
        if self._closed:
            raise ClosedError(self.url)
        optional_seconds("timeout", timeout, zero=True)
        _current.get().check()

    async def _call(self, timeout: float | None, name: str, *args: Any) -> Any:
        """Call a method of the engine, wherever that is."""
        self._check(timeout)
        if self._engine is not None:
            return getattr(self._engine, name)(*args)
        assert self._shared is not None
        return await self._shared.call(timeout, name, args)

    async def get(
        self, key: Key, *, revision: int = 0, timeout: float | None = None
    ) -> KeyValue | None:
        """The key, now or at ``revision``; ``None`` when it is not there."""
        found = await self.range(key, revision=revision, timeout=timeout)
        return found.kvs[0] if found.kvs else None

    async def range(
        self,
        key: Key,
        *,
        end: bytes | None = None,
        prefix: bool = False,
        revision: int = 0,
        limit: int = 0,
        keys_only: bool = False,
        count_only: bool = False,
        timeout: float | None = None,
    ) -> RangeResult:
        r"""The key, all keys in ``[key, end)``, or all under a prefix.

        Args:
            key: Key or prefix.
            end: First key beyond the range; ``b"\0"`` goes to the last key.
            prefix: Whether ``key`` is a prefix.
            revision: As of this revision; 0 for now.
            limit: Keys at most; 0 for all.
            keys_only: Leave the values empty.
            count_only: Count only.
            timeout: Seconds at most.

        Raises:
            Compacted: The revision is no longer kept.
            StoreError: It is in the future.
        """
        first, last = _span(key, end, prefix=prefix)
        integer("revision", revision, minimum=0)
        integer("limit", limit, minimum=0)
        result: RangeResult = await self._call(
            timeout, "range", first, last, revision, limit, keys_only, count_only
        )
        return result

    async def scan(
        self, prefix: Key, *, page: int = 1000, revision: int = 0, keys_only: bool = False
    ) -> AsyncIterator[KeyValue]:
        """All keys under ``prefix`` as of one revision, page by page.

        Raises:
            Compacted: The revision was compacted before the last page was read.
        """
        integer("page", page)
        key, end = _span(prefix, None, prefix=True)
        while True:
            found = await self.range(
                key, end=end, revision=revision, limit=page, keys_only=keys_only
            )
            for kv in found.kvs:
                yield kv
            if not found.more:
                return
            key, revision = found.kvs[-1].key + b"\0", revision or found.revision

    async def put(
        self,
        key: Key,
        value: Key,
        *,
        lease: int | Lease = 0,
        prev: bool = False,
        timeout: float | None = None,
    ) -> PutResult:
        """Set a key.

        Args:
            key: Key, not empty.
            value: Value.
            lease: What to hang it on; 0 for nothing.
            prev: Whether to answer what it held before.
            timeout: Seconds at most.

        Raises:
            LeaseLost: There is no such lease.
            StoreError: The request is too large, or the store is full.
        """
        number = lease if isinstance(lease, int) else lease.id
        name = _span(key, None, prefix=False)[0]
        result: PutResult = await self._call(
            timeout, "put", name, as_bytes("value", value), number, prev
        )
        return result

    async def delete(
        self,
        key: Key,
        *,
        end: bytes | None = None,
        prefix: bool = False,
        prev: bool = False,
        timeout: float | None = None,
    ) -> DeleteResult:
        """Delete the key, all keys in ``[key, end)``, or all under a prefix."""
        first, last = _span(key, end, prefix=prefix)
        result: DeleteResult = await self._call(timeout, "delete", first, last, prev)
        return result

    async def txn(
        self,
        compare: Sequence[Compare],
        then: Sequence[Op],
        otherwise: Sequence[Op] = (),
        *,
        timeout: float | None = None,
    ) -> TxnResult:
        """Run ``then`` if all conditions hold, else ``otherwise``, as one revision.

        Raises:
            RequestTooLarge: More than 128 conditions or operations.
            LeaseLost: A put names a lease that there is not; nothing was done.
            StoreError: Two operations of one branch write the same key, or the store is full.
        """
        check_txn(compare, then, otherwise)
        result: TxnResult = await self._call(timeout, "txn", compare, then, otherwise)
        return result

    def watch(
        self,
        key: Key,
        *,
        prefix: bool = False,
        start_revision: int | None = None,
        prev: bool = False,
        buffer: int = 10_000,
    ) -> Watch:
        """Watch a key or prefix; see `hastack.discovery.Store`.

        History before the first batch may exceed ``buffer``: it is kept in any case.
        """
        name = as_bytes("key", key)
        if not name and not prefix:
            raise InvalidArgument("key", key, "a key that is not empty")
        if start_revision is not None:
            integer("start_revision", start_revision)
        integer("buffer", buffer)
        watch: MemoryWatch | SharedWatch
        if self._shared is None:
            one = Subscription(
                name, prefix=prefix, start_revision=start_revision, prev=prev, buffer=buffer
            )
            watch = MemoryWatch(self, one)
        else:
            from ._memory_shared_watch import SharedWatch
            from ._memory_wire import WatchCall

            self._check()
            call = WatchCall(name, prefix, start_revision, prev, buffer)
            watch = SharedWatch(self._shared, call)
        self._open_watches.add(watch)
        return watch

    def lease(self, ttl: float) -> Lease:
        """A lease that is kept alive until its block is left.

        In one process, and in the owner of a shared store, it lives as long as the store does.

        Args:
            ttl: Seconds that it outlives the last sign of life of its holder.
        """
        ttl = seconds("ttl", ttl)
        lease: MemoryLease | SharedLease
        if self._shared is None:
            lease = MemoryLease(self, ttl)
        else:
            from ._memory_shared_lease import SharedLease

            self._check()
            lease = SharedLease(self._shared, ttl)
        self._open_leases.add(lease)
        return lease

    def keep(self, key: Key, value: Key, *, ttl: float) -> Kept:
        """A key that is there for as long as the block runs, and put back when it has gone."""
        name = _span(key, None, prefix=False)[0]
        return MemoryKept(self, name, as_bytes("value", value), seconds("ttl", ttl))

    async def grant(self, ttl: float, *, timeout: float | None = None) -> int:
        """A raw lease, which ends after ``ttl`` seconds without `renew`; the answer is its id."""
        lease: int = await self._call(timeout, "grant", seconds("ttl", ttl))
        return lease

    async def renew(self, lease: int, *, timeout: float | None = None) -> float:
        """Begin the time of a lease anew; the answer is its TTL in seconds.

        Raises:
            LeaseLost: There is no such lease.
        """
        ttl: float = await self._call(timeout, "renew", lease)
        return ttl

    async def revoke(self, lease: int, *, timeout: float | None = None) -> None:
        """End a lease and delete what hangs on it.

        Raises:
            LeaseLost: There is no such lease.
        """
        await self._call(timeout, "revoke", lease)

    async def compact(self, revision: int, *, timeout: float | None = None) -> None:
        """Forget what happened before ``revision``.

        Raises:
            Compacted: That has been done already.
            StoreError: The revision is in the future.
        """
        await self._call(timeout, "compact", integer("revision", revision))

    async def identity(self, *, timeout: float | None = None) -> ClusterId:
        """Who this is: a random number, another one in each process and each life of a store."""
        identity: ClusterId = await self._call(timeout, "identity")
        return identity

    async def aclose(self) -> None:
        """Take no more calls through this handle; the data of a named store stays.

        Its watches end with a `ClosedError`, its leases as if their blocks had been left.
        """
        if self._closed:
            return
        self._closed = True
        for watch in list(self._open_watches):
            watch._end(ClosedError(self.url))
        try:
            for lease in list(self._open_leases):
                await lease._end(ClosedError(self.url))
        finally:
            if self._shared is not None:
                await self._shared.close()

    async def __aenter__(self) -> Self:
        self._check()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    @property
    def sync(self) -> SyncStore:
        """The same store for threads without an event loop."""
        from ._memory_sync import SyncStore

        return SyncStore(self)

    @contextmanager
    def outage(self) -> Iterator[None]:
        """For tests: the store answers nobody while the block runs, and renews no lease.

        Calls raise `StoreUnavailable` at once, watches wait, and what hangs on a lease is gone when
        the block takes longer than its TTL.

        Example:
            >>> import asyncio
            >>> from hastack.discovery import memory
            >>> from hastack.testing import ManualClock
            >>> async def main():
            ...     store = memory.Store(clock=clock)
            ...     async with store.lease(5.0) as lease:
            ...         with store.outage():
            ...             await asyncio.sleep(6.0)
            ...         return lease.context.cause()
            >>> clock = ManualClock()
            >>> type(clock.run(main())).__name__
            'LeaseLost'
        """
        if self._engine is None:
            raise InvalidArgument("outage", self, "a store of one process")
        self._engine.begin_outage()
        try:
            yield
        finally:
            self._engine.end_outage()

    def __repr__(self) -> str:
        return f"<memory.Store {self.url}>"


def _span(key: Key, end: bytes | None, *, prefix: bool) -> tuple[bytes, bytes | None]:
    first = as_bytes("key", key)
    if prefix:
        if end is not None:
            raise InvalidArgument("end", end, "None together with prefix=True")
        return (first, prefix_end(first)) if first else (b"\0", TO_THE_LAST)
    if end is None:
        if not first:
            raise InvalidArgument("key", key, "a key that is not empty")
        return first, None
    last = as_bytes("end", end)
    if not last:
        raise InvalidArgument("end", end, r"a key that is not empty; b'\0' for no end")
    return first or b"\0", last


class _Named:
    """The stores of this process that have a name; ``""`` is the default."""

    def __init__(self) -> None:
        self.engines: dict[str, Engine] = {}
        self._after_fork()
        renew_in_child(self)

    def _after_fork(self) -> None:
        self.lock = threading.Lock()

    def get(self, name: str) -> Engine:
        with self.lock:
            engine = self.engines.get(name)
            if engine is None:
                engine = self.engines[name] = Engine(clock=SYSTEM_CLOCK, **_BOUNDS)
            return engine


_named = _Named()


def connect(url: str = "memory://") -> Store:
    """The store of that name: of this process, or of all that name the same file.

    Args:
        url: ``"memory://name"`` for a store of this process, made when it is first asked for;
            without a name, the default one. ``"memory:///path/to/file"`` for one that processes
            of one user on one machine share: the first serves it to the others. Names and paths
            are percent-encoded. Nothing is opened before the first call.

    Raises:
        InvalidArgument: It is no such URL.

    Example:
        >>> from hastack.discovery import memory
        >>> memory.connect("memory://jobs")
        <memory.Store memory://jobs>
    """
    accepted = "memory://NAME or memory:///PATH"
    try:
        parts = urlsplit(text("url", url))
    except ValueError:
        raise InvalidArgument("url", url, accepted) from None
    path = unquote(parts.path)
    if parts.scheme != "memory" or parts.query or parts.fragment or (parts.netloc and path):
        raise InvalidArgument("url", url, accepted)
    if not path:
        return Store._of(url, _named.get(unquote(parts.netloc)))
    if path.endswith("/") or "\0" in path:
        raise InvalidArgument("url", url, "memory:///PATH of a file")
    from ._memory_shared import shared

    one = shared(path, _BOUNDS)
    one.open()
    return Store._of(url, None, one)
