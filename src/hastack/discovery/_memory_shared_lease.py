"""A lease of a shared store, kept alive from the background loop."""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING, Self, final

from hastack import context
from hastack._core._cancel import BACKGROUND, _current
from hastack._core._errors import InvalidArgument, LeaseLost, StoreError, StoreUnavailable
from hastack._core._portal import PORTAL

from ._memory_client import LinkLost, LocalLink
from ._memory_shared import TIMEOUT

if TYPE_CHECKING:
    from types import TracebackType

    from hastack.context import Context

    from ._memory_client import Link
    from ._memory_shared import Shared

__all__ = ("SharedLease",)

_GOODBYE = 1.0  # seconds that giving it back may take; without an answer it ends by itself


@final
class SharedLease:
    """See `hastack.discovery.Lease`.

    Attributes:
        id: Its number; 0 before it is entered.
        ttl: Seconds that it lives without a sign of life of this process.
    """

    def __init__(self, shared: Shared, ttl: float) -> None:
        self.id = 0
        self.ttl = ttl
        self._shared = shared
        self._entered = False
        self._context: Context | None = None
        self._pid = os.getpid()
        self._until = 0.0
        self._task: asyncio.Task[None] | None = None

    @property
    def context(self) -> Context:
        """Cancelled, with a `LeaseLost` as cause, the moment the lease cannot be relied on.

        A child of the context in which it was entered.
        """
        if self._context is None:
            raise InvalidArgument("lease", self, "a lease that was entered")
        if self._pid != os.getpid():
            self._lose(LeaseLost("the lease belongs to the parent process", lease=self.id))
        return self._context

    async def __aenter__(self) -> Self:
        if self._entered:
            raise InvalidArgument("lease", self, "a lease that is not entered already")
        self._entered = True
        self._pid = os.getpid()
        self._context = context.with_cancel()
        try:
            await PORTAL.run(self._begin())
        except BaseException:
            self._entered = False
            raise
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
        lost = self._ctx.done
        self._lose(why)
        if self._pid == os.getpid():
            await PORTAL.run(self._give_back(lost=lost))

    @property
    def _ctx(self) -> Context:
        assert self._context is not None
        return self._context

    def __repr__(self) -> str:
        return f"<lease {self.id:x}, {self.ttl:g} s>"

    # On the background loop

    async def _begin(self) -> None:
        link: Link | None = None
        left = _current.get().remaining()
        try:
            async with asyncio.timeout(TIMEOUT if left is None else min(TIMEOUT, left)):
                while link is None:
                    link = await self._grant(self._shared.link or await self._shared.linked())
        except TimeoutError:
            _current.get().check()
            raise StoreUnavailable("no answer from the store", code="UNAVAILABLE") from None
        with context.using(BACKGROUND):
            self._task = asyncio.create_task(self._keep(link), name=repr(self))

    async def _grant(self, link: Link) -> Link | None:
        """Ask for it over ``link``; ``None`` when another one is needed."""
        self._until = time.monotonic() + self.ttl
        if isinstance(link, LocalLink):
            # The owner's own: it lives as long as the store does.
            self.id = link.engine.grant(self.ttl, held=True, ended=self._lose)
            return link
        try:
            self.id = await link.call("grant", (self.ttl,))
        except LinkLost:
            return None
        return link

    def _lose(self, why: Exception) -> None:
        self._ctx.cancel(why)

    async def _give_back(self, *, lost: bool) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))
        link = self._shared.link
        if lost or link is None:
            return
        if isinstance(link, LocalLink):
            link.engine.forget(self.id)
        try:
            async with asyncio.timeout(_GOODBYE):
                await link.call("revoke", (self.id,))
        except (StoreError, TimeoutError):
            pass  # it ends by itself

    async def _keep(self, link: Link) -> None:
        """Renew it until it is lost."""
        cluster = link.cluster
        changed = asyncio.Event()
        forget = self._shared.tell(changed.set)
        try:
            while not self._ctx.done:
                now = self._shared.link
                if now is not None and now.cluster != cluster:
                    raise LeaseLost("the store is another one now", lease=self.id)
                left = self._until - time.monotonic()
                if not isinstance(now, LocalLink):
                    if left <= 0.0:
                        raise LeaseLost(
                            f"lease {self.id:x} could not be renewed for {self.ttl:g} s",
                            lease=self.id,
                        )
                    if now is not None and left <= self.ttl * 2 / 3:
                        left = await self._renew(now, left)
                changed.clear()
                pause = None if isinstance(now, LocalLink) else _pause(left, self.ttl, now)
                try:
                    async with asyncio.timeout(pause):
                        if self._shared.link is now:
                            await changed.wait()
                except TimeoutError:
                    pass
        except LeaseLost as lost:
            self._lose(lost)
        finally:
            forget()

    async def _renew(self, link: Link, left: float) -> float:
        """Begin its time anew; seconds that are left afterwards."""
        sent = time.monotonic()
        try:
            async with asyncio.timeout(min(left, max(self.ttl / 3, 0.2))):
                await link.call("renew", (self.id,))
        except LeaseLost:
            raise
        except (StoreError, TimeoutError):
            return self._until - time.monotonic()
        self._until = sent + self.ttl
        return self._until - time.monotonic()


def _pause(left: float, ttl: float, link: Link | None) -> float:
    """Seconds until there is something to do: a third of the TTL has gone, or all of it."""
    if link is None:
        return max(0.0, left)
    return max(min(left, 0.1), left - ttl * 2 / 3)
