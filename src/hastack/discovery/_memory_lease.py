"""Leases of the embedded store in one process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self, final

from hastack import context
from hastack._core._errors import InvalidArgument, LeaseLost, StoreError

if TYPE_CHECKING:
    from types import TracebackType

    from hastack.context import Context

    from .memory import Store

__all__ = ("MemoryLease",)


@final
class MemoryLease:
    """See `hastack.discovery.Lease`. It lives as long as its block: the store is in this process.

    One block at a time, on any event loop.

    Attributes:
        id: Its number; 0 before it is entered.
        ttl: Seconds that it outlives an outage.
    """

    def __init__(self, store: Store, ttl: float) -> None:
        self.id = 0
        self.ttl = ttl
        assert store._engine is not None
        self._store = store
        self._engine = store._engine
        self._entered = False
        self._context: Context | None = None

    @property
    def context(self) -> Context:
        """Cancelled, with a `LeaseLost` as cause, the moment the lease ends.

        A child of the context in which it was entered.
        """
        if self._context is None:
            raise InvalidArgument("lease", self, "a lease that was entered")
        return self._context

    async def __aenter__(self) -> Self:
        if self._entered:
            raise InvalidArgument("lease", self, "a lease that is not entered already")
        self._store._check()
        ctx = context.with_cancel()
        self.id = self._engine.grant(self.ttl, held=True, ended=ctx.cancel)
        self._context = ctx
        self._entered = True
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._end(LeaseLost(f"lease {self.id:x} was left", lease=self.id))

    async def _end(self, why: Exception) -> None:
        """Give it back: nobody needs what hangs on it any more."""
        if not self._entered:
            return
        self._entered = False
        assert self._context is not None
        self._engine.forget(self.id)
        try:
            self._engine.revoke(self.id)
        except StoreError:
            pass  # it had ended, or ends by itself: the store is away
        self._context.cancel(why)

    def __repr__(self) -> str:
        return f"<lease {self.id:x}, {self.ttl:g} s>"
