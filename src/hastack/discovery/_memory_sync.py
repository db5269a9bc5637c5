"""The blocking face of the embedded store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, final

from hastack._core._portal import PORTAL

from ._sync import StoreFace, blocking
from .memory import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine


T = TypeVar("T")

__all__ = ("SyncStore",)


@final
class SyncStore(StoreFace[Store]):
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

    def _check_open(self) -> None:
        self._face._check()
