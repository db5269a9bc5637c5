"""What discovery needs from a store: implemented by etcd and by the embedded one.

Registry, federation, locks and elections are written once, against these Protocols, and the
contract tests (tests/integration/test_store_contract.py) hold every implementation to them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, Self

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from types import TracebackType

    from hastack.context import Context

    from ._records import (
        Batch,
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

__all__ = ("Kept", "Lease", "Store", "Watch")


class Watch(Protocol):
    """Changes of a key or prefix, in order, each once. Iterate inside ``async with``.

    Iterating again goes on where it stopped; two tasks must not iterate one watch.
    """

    async def __aenter__(self) -> Self: ...
    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...
    def __aiter__(self) -> AsyncIterator[Batch]: ...
    async def __anext__(self) -> Batch: ...

    @property
    def age(self) -> float:
        """Seconds since it was last certain to be current; grows while the store is away."""
        ...

    @property
    def trouble(self) -> Exception | None:
        """Why the store could not be asked last; ``None`` as soon as it answers."""
        ...


class Lease(Protocol):
    """A lease that is kept alive in the background until it is left or lost."""

    id: int
    ttl: float

    @property
    def context(self) -> Context:
        """Cancelled, with a cause, the moment the lease can no longer be relied on."""
        ...

    async def __aenter__(self) -> Self: ...
    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...


class Kept(Protocol):
    """A key that is there, on a lease of this process, with the value last asked for.

    If it vanishes (store killed for longer than the TTL, key deleted, lease revoked, backup
    restored), it is put back.
    """

    key: bytes

    @property
    def present(self) -> bool:
        """Whether the store was last known to hold it."""
        ...

    async def set(self, value: Key) -> None:
        """Change the value; returns once the store has it."""
        ...

    async def __aenter__(self) -> Self: ...
    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...


class Store(Protocol):
    """A replicated map with revisions, leases and watches.

    Every call takes ``timeout`` seconds at most and never longer than the current context.
    """

    url: str

    async def get(
        self, key: Key, *, revision: int = 0, timeout: float | None = None
    ) -> KeyValue | None: ...

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
    ) -> RangeResult: ...

    def scan(
        self, prefix: Key, *, page: int = 1000, revision: int = 0, keys_only: bool = False
    ) -> AsyncIterator[KeyValue]:
        """All keys under ``prefix`` as of one revision, however many pages it takes."""
        ...

    async def put(
        self,
        key: Key,
        value: Key,
        *,
        lease: int | Lease = 0,
        prev: bool = False,
        timeout: float | None = None,
    ) -> PutResult: ...

    async def delete(
        self,
        key: Key,
        *,
        end: bytes | None = None,
        prefix: bool = False,
        prev: bool = False,
        timeout: float | None = None,
    ) -> DeleteResult: ...

    async def txn(
        self,
        compare: Sequence[Compare],
        then: Sequence[Op],
        otherwise: Sequence[Op] = (),
        *,
        timeout: float | None = None,
    ) -> TxnResult: ...

    def watch(
        self,
        key: Key,
        *,
        prefix: bool = False,
        start_revision: int | None = None,
        prev: bool = False,
        buffer: int = 10_000,
    ) -> Watch:
        """Watch a key or prefix.

        Args:
            key: Key or prefix.
            prefix: Whether it is a prefix.
            start_revision: First revision to hand over. Without one, the first batch is a
                snapshot of what is there (``resync``, reason ``"snapshot"``).
            prev: Whether events carry what the key held before.
            buffer: Events held for this subscriber; one that falls further behind gets a
                resync instead of what overflowed.
        """
        ...

    def lease(self, ttl: float) -> Lease:
        """A lease of ``ttl`` seconds, granted on entering."""
        ...

    def keep(self, key: Key, value: Key, *, ttl: float) -> Kept:
        """A key kept present with ``value`` for as long as the block runs."""
        ...

    async def identity(self, *, timeout: float | None = None) -> ClusterId: ...

    async def aclose(self) -> None: ...
