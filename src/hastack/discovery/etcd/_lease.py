"""Leases that are kept alive in the background."""

from __future__ import annotations

import asyncio
import contextvars
import math
import os
import secrets
from typing import TYPE_CHECKING, Any, Final, Self, final

from hastack import context
from hastack._core._errors import (
    ClosedError,
    HastackError,
    InvalidArgument,
    LeaseLost,
    StoreError,
    StoreUnavailable,
)
from hastack._core._portal import PORTAL
from hastack._core._validate import seconds
from hastack.discovery._records import as_bytes

from . import _wire
from ._lease_events import LEASE_ENDED, LEASE_GRANTED, LeaseEnded, LeaseGranted
from ._lease_gate import Gate
from ._lease_stream import KeepaliveStream, clock

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from types import TracebackType

    from hastack.context import Context
    from hastack.discovery._records import Key

    from ._client import Client
    from ._lease_kept import Kept
    from ._transport import Transport

LEAVING: Final = 2.0
"""Seconds that leaving waits for a lease to be revoked; then it ends with its TTL."""
OVERTAKEN: Final = (0.05, 0.2, 0.5)
"""Pauses in seconds before a lease that was not found is revoked again: its own grant was given up,
and may have been overtaken by the revocation."""
LONGEST_TTL: Final = 9_000_000_000
"""What etcd accepts at most."""


@final
class LeaseKeeper:
    """All leases of one client. What it does, it does on the process's background loop.

    A program's own loop may stand still for as long as it likes: keepalives go on.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._pid = os.getpid()
        self._closed = False
        self._transport: Transport | None = None
        self._stream: KeepaliveStream | None = None
        self._gate: Gate | None = None
        self._held: set[Lease | Kept] = set()
        self._leaving: dict[int, asyncio.Task[None]] = {}

    def lease(self, ttl: float) -> Lease:
        """See `hastack.discovery.Store.lease`."""
        return Lease(self, _ttl(ttl))

    def keep(self, key: Key, value: Key, ttl: float) -> Kept:
        """See `hastack.discovery.Store.keep`."""
        from ._lease_kept import Kept

        return Kept(self, as_bytes("key", key), as_bytes("value", value), _ttl(ttl))

    async def aclose(self) -> None:
        """Let all leases go; nothing that holds one can rely on it any more."""
        if self._pid == os.getpid() and PORTAL._loop is not None:
            await PORTAL.run(_apart(self._close()))

    async def _close(self) -> None:
        self._closed = True
        for each in list(self._held):
            each._closed()
        if self._leaving:
            await asyncio.wait(tuple(self._leaving.values()), timeout=LEAVING)
        if self._stream is not None:
            self._stream.close()

    # On the background loop

    def _stream_of_loop(self) -> KeepaliveStream:
        if self._closed:
            raise ClosedError("etcd client")
        if self._stream is None:
            self._transport = self._client._transport()
            self._gate = Gate()
            self._stream = KeepaliveStream(self._transport, self._gate.succeeded)
        return self._stream

    async def _grant(self, ttl: int, *, timeout: float | None = None) -> tuple[int, float, float]:
        """Have a lease granted.

        The id is chosen here, so that a grant whose answer was lost can be asked for again, and
        revoked when nobody wants it any more.

        Returns:
            Its id, its TTL, and when the request was sent.
        """
        self._stream_of_loop()
        assert self._transport is not None
        lease = secrets.randbelow(2**63 - 1) + 1
        request = _wire.LeaseGrantRequest(TTL=ttl, ID=lease)
        sent = clock()
        try:
            answer = await self._transport.call(
                _wire.LEASE_GRANT, request, timeout=timeout, idempotent=True
            )
            granted = float(answer.TTL)
        except StoreError as error:
            # Ours, from a try whose answer was lost: nobody else draws the same 63 bits.
            if "lease already exists" not in str(error):
                if isinstance(error, StoreUnavailable):
                    self._let_go(lease, ttl, again=OVERTAKEN)
                raise
            granted = float(ttl)
        except BaseException:
            self._let_go(lease, ttl, again=OVERTAKEN)
            raise
        if LEASE_GRANTED.subscribers:
            LEASE_GRANTED.publish(LeaseGranted(lease=lease, ttl=granted))
        return lease, granted, sent

    def _let_go(
        self, lease: int, ttl: float, *, told: bool = False, again: tuple[float, ...] = ()
    ) -> None:
        """Revoke ``lease`` in the background; if it is not found, once more after each pause."""
        if lease in self._leaving or self._transport is None:
            return
        if self._stream is not None:
            self._stream.remove(lease)
        task = asyncio.get_running_loop().create_task(
            self._give_back(lease, min(ttl, LEAVING), told=told, again=again),
            name=f"etcd lease {lease:x}, leaving",
            context=contextvars.Context(),  # the deadline of whoever leaves is not its own
        )
        self._leaving[lease] = task
        task.add_done_callback(lambda _: self._leaving.pop(lease, None))

    async def _give_back(
        self, lease: int, timeout: float, *, told: bool, again: tuple[float, ...]
    ) -> None:
        reason = "left"
        try:
            found = await self._revoke(lease, timeout)
            for pause in again:
                if found:
                    break
                await asyncio.sleep(pause)
                found = await self._revoke(lease, timeout)
        except HastackError:
            reason = "not revoked"
        if told:
            ended(lease, reason)

    async def _revoke(self, lease: int, timeout: float) -> bool:
        """Revoke it; say whether it was there."""
        assert self._transport is not None
        request = _wire.LeaseRevokeRequest(ID=lease)
        try:
            await self._transport.call(
                _wire.LEASE_REVOKE, request, timeout=timeout, idempotent=True
            )
        except LeaseLost:
            return False
        return True

    async def _left(self, lease: int) -> None:
        """Wait until ``lease`` is revoked or time is up; being cancelled stops only the waiting."""
        await asyncio.sleep(0)  # on this very loop, leaving has only been scheduled
        task = self._leaving.get(lease)
        if task is not None:
            await asyncio.wait((task,), timeout=LEAVING)

    # From any thread

    def _soon(self, step: Callable[..., object], *args: object) -> None:
        """Run ``step`` on the background loop, whatever becomes of the caller."""
        try:
            PORTAL.loop.call_soon_threadsafe(step, *args, context=contextvars.Context())
        except RuntimeError:
            pass  # the interpreter is ending; the lease ends with its TTL


def _ttl(value: float) -> int:
    """Whole seconds, as etcd counts them."""
    found = math.ceil(seconds("ttl", value))
    if found > LONGEST_TTL:
        raise InvalidArgument("ttl", value, f"at most {LONGEST_TTL} seconds")
    return found


async def _apart(work: Coroutine[Any, Any, Any]) -> Any:
    """``work`` without the caller's context: its deadline is not that of the leases."""
    with context.using(context.background()):
        return await work


def ended(lease: int, reason: str) -> None:
    """Say that a lease is kept no longer."""
    if LEASE_ENDED.subscribers:
        LEASE_ENDED.publish(LeaseEnded(lease=lease, reason=reason))


@final
class Lease:
    """A lease, granted on entering, kept alive until it is left or lost, and revoked on leaving.

    One block at a time, on any event loop; threads use ``client.sync.lease``. Keepalives are sent
    from the process's background loop, so no loop or thread of the program can hold them up. A
    forked child holds nothing: its copies read as lost, and leaving them does nothing.

    Attributes:
        id: Its number; 0 until it is granted.
        ttl: Its TTL in seconds; the store may grant more than was asked for.

    Raises:
        InvalidArgument: (from entering) It is entered already.
        StoreError: (from entering) The store could not be reached or refused.

    Example:
        >>> from hastack.discovery import etcd
        >>> async def lead(client: etcd.Client) -> None:
        ...     async with client.lease(5.0) as lease:
        ...         await client.put("/leader", "me", lease=lease)
        ...         async with lease.context:  # cancelled when the lease is lost
        ...             await work()
    """

    def __init__(self, keeper: LeaseKeeper, ttl: int) -> None:
        self.id = 0
        self.ttl = float(ttl)
        self._asked = ttl
        self._keeper = keeper
        self._entered = False
        self._lost_already = False
        self._ctx: Context | None = None

    @property
    def context(self) -> Context:
        """Cancelled, with a `LeaseLost` as cause, the moment the lease can no longer be relied on.

        That is when the store says that it is gone, or when its TTL has passed since the last
        keepalive that was answered was sent, whether or not the store can be reached. It is a
        child of the context in which the lease was entered.

        Raises:
            InvalidArgument: The lease was never entered.
        """
        if self._ctx is None:
            raise InvalidArgument("lease", self, "a lease that was entered")
        if not self._ours:
            self._ctx.cancel(LeaseLost("the lease belongs to the parent process", lease=self.id))
        return self._ctx

    def remaining(self) -> float:
        """Seconds for which it can be relied on if no further keepalive is answered; else 0.0."""
        stream = self._keeper._stream
        return stream.remaining(self.id) if stream is not None and self._ours else 0.0

    async def __aenter__(self) -> Self:
        self._begin()
        try:
            await PORTAL.run(self._enter())
        except BaseException:
            self._end("the lease was not entered")
            raise
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        lease = self._end("the lease was left")
        if lease and self._ours:
            await PORTAL.run(self._keeper._left(lease))

    def __repr__(self) -> str:
        state = f"{self.remaining():.3g} s left" if self._entered else "not entered"
        return f"<etcd.Lease {self.id:x}, {state}>"

    @property
    def _ours(self) -> bool:
        return self._keeper._pid == os.getpid()

    def _begin(self) -> None:
        if self._entered:
            raise InvalidArgument("lease", self, "a lease that is not entered already")
        self._entered = True
        self._lost_already = False
        self.id = 0
        self._ctx = context.with_cancel()
        if not self._ours:
            self._keeper = self._keeper._client._lease_keeper()

    async def _enter(self) -> None:
        lease, ttl, sent = await self._keeper._grant(self._asked)
        # No await from here on: what was granted is kept, and is let go by `_end`.
        if not self._entered or self._keeper._closed:
            self._keeper._let_go(lease, ttl)
            raise ClosedError("lease")
        self.id, self.ttl = lease, ttl
        self._keeper._held.add(self)
        self._keeper._stream_of_loop().add(lease, ttl, sent=sent, holder=self)

    def _end(self, why: str) -> int:
        """Begin to leave, from any thread; returns the lease that is on its way out, if any."""
        self._entered = False
        assert self._ctx is not None
        self._ctx.cancel(why)
        if self._ours:
            self._keeper._soon(self._let_go)
        return self.id

    def _let_go(self) -> None:
        if self in self._keeper._held:
            self._keeper._held.discard(self)
            self._keeper._let_go(self.id, self.ttl, told=not self._lost_already)

    # Told by the keepalives, on the background loop

    def _renewed(self, ttl: float) -> None:
        self.ttl = ttl

    def _lapsed(self) -> None:
        self._lost("unreachable", f"no keepalive was answered within its TTL of {self.ttl:g} s")
        stream = self._keeper._stream
        assert stream is not None
        stream.remove(self.id)

    def _gone(self) -> None:
        self._lost("gone", "the store says that it does not exist: expired or revoked")
        self._keeper._held.discard(self)

    def _closed(self) -> None:
        self._lost("closed", "the client was closed")
        self._let_go()

    def _lost(self, reason: str, why: str) -> None:
        assert self._ctx is not None
        self._lost_already = True
        self._ctx.cancel(LeaseLost(f"lease {self.id:x} is lost: {why}", lease=self.id))
        ended(self.id, reason)
