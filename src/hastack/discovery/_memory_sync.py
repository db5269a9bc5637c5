"""The blocking face of the embedded store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self, TypeVar, final

from hastack._core._cancel import BACKGROUND
from hastack._core._portal import PORTAL

from ._sync import Face, SyncKept, SyncLease, SyncWatch, blocking, pull
from .memory import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator
    from types import TracebackType

    from ._records import Key, KeyValue

T = TypeVar("T")

__all__ = ("SyncStore",)


@final
class SyncStore(Face[Store]):
    """A store for threads: ``store.sync``. Every call honours the current context.

    Calls of a store of this process are made at once, in any thread. Those of a shared store, and
    whatever waits, run on the background loop while the thread waits; inside a running event loop
    they raise `RuntimeError`, since they would stop that loop.

    Example:
        >>> from hastack.discovery import memory
        >>> store = memory.Store().sync
        >>> store.put("a", "1").revision
        2
        >>> store.get("a").value
        b'1'
    """

    def _run(self, call: Callable[[], Coroutine[Any, Any, T]]) -> T:
        if self._face._engine is None:
            return PORTAL.call(call)
        # Of a store in this process no call ever waits, so no loop is needed.
        try:
            call().send(None)
        except StopIteration as end:
            result: T = end.value
            return result
        raise AssertionError("a call of a store in this process has waited")

    get = blocking(Store.get)
    range = blocking(Store.range)
    put = blocking(Store.put)
    delete = blocking(Store.delete)
    txn = blocking(Store.txn)
    grant = blocking(Store.grant)
    renew = blocking(Store.renew)
    revoke = blocking(Store.revoke)
    compact = blocking(Store.compact)
    identity = blocking(Store.identity)
    close = blocking(Store.aclose)

    def scan(
        self, prefix: Key, *, page: int = 1000, revision: int = 0, keys_only: bool = False
    ) -> Iterator[KeyValue]:
        """See `Store.scan`."""
        return pull(self._face.scan(prefix, page=page, revision=revision, keys_only=keys_only))

    def watch(
        self,
        key: Key,
        *,
        prefix: bool = False,
        start_revision: int | None = None,
        prev: bool = False,
        buffer: int = 10_000,
    ) -> SyncWatch:
        """See `Store.watch`."""
        return SyncWatch(
            self._face.watch(
                key, prefix=prefix, start_revision=start_revision, prev=prev, buffer=buffer
            )
        )

    def lease(self, ttl: float) -> SyncLease:
        """See `Store.lease`."""
        return SyncLease(self._face.lease(ttl))

    def keep(self, key: Key, value: Key, *, ttl: float) -> SyncKept:
        """See `Store.keep`."""
        return SyncKept(self._face.keep(key, value, ttl=ttl))

    def __enter__(self) -> Self:
        self._face._check()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        PORTAL.call(self._face.aclose, ctx=BACKGROUND)
