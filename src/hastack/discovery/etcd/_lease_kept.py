"""Keys that are there for as long as a block runs."""

from __future__ import annotations

import asyncio
import contextvars
import os
import random
from typing import TYPE_CHECKING, Final, Self, final

from hastack._core._errors import (
    ClosedError,
    HastackError,
    InvalidArgument,
    LeaseLost,
    StoreUnavailable,
)
from hastack._core._portal import PORTAL
from hastack.discovery._keeping import ATTEMPT, Keeping
from hastack.discovery._records import as_bytes

from ._lease import ended
from ._lease_reconcile import RETRY_CAP, Grant, Write
from ._lease_stream import clock

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from types import TracebackType
    from typing import Any

    from hastack.discovery._records import Key

    from ._client import Client
    from ._lease import LeaseKeeper

LOOK_AGAIN: Final = 60.0
"""Seconds after which the key is read although its watch says nothing: etcd has lost delete events
before (etcd#19179)."""


@final
class Kept(Keeping):
    """A key that is there, on a lease of this process, with the value last asked for.

    It is put back whenever it goes away: the store was away for longer than the TTL, the lease
    was revoked, the key was deleted or overwritten, the data were wiped or restored from a backup.
    One block at a time, on any event loop; threads use ``client.sync.keep``. Leaving revokes the
    lease, and so deletes the key if it is still ours. A forked child keeps nothing.

    Two processes that keep one key take it from each other a few times at once and then ever more
    slowly, each about twice a minute at most, and say so with
    `KeyContested`.

    Attributes:
        key: The key.

    Raises:
        InvalidArgument: (from entering) It is entered already.
        StoreUnavailable: (from entering) The store could not be reached within the client's
            timeout.
        StoreError: (from entering) The store refused.

    Example:
        >>> from hastack.discovery import etcd
        >>> async def serve(client: etcd.Client) -> None:
        ...     async with client.keep("/workers/7", "10.0.0.7:80", ttl=5.0) as kept:
        ...         await work()
        ...         await kept.set("10.0.0.7:81")
    """

    def __init__(self, keeper: LeaseKeeper, key: bytes, value: bytes, ttl: int) -> None:
        self._ttl = ttl
        self._keeper = keeper
        self._entered = False
        super().__init__(key, value)

    def _begin_anew(self) -> None:
        super()._begin_anew()
        self._tasks: set[asyncio.Task[None]] = set()
        self._unsure = False
        self._following = False
        self._last_lease = 0

    @property
    def _keys(self) -> Client:
        return self._keeper._client

    @property
    def _timeout(self) -> float:
        return self._keeper._client._shared.options.timeout

    def _now(self) -> float:
        return clock()

    @property
    def present(self) -> bool:
        """Whether the store was last known to hold it, on a lease that can be relied on."""
        return self._core.present and not self._unsure and self._ours

    async def set(self, value: Key, *, timeout: float | None = None) -> None:
        """Change the value; return once the store has it, or a later one.

        Args:
            value: The value.
            timeout: Seconds; the client's by default, and never longer than the current context.

        Raises:
            StoreUnavailable: The store could not be reached in time. The value stays asked for.
            StoreError: The store refuses it. It stays asked for.
            ClosedError: The block was left.
        """
        data = as_bytes("value", value)
        self._check_entered()
        await PORTAL.run(self._set(data, timeout))

    async def __aenter__(self) -> Self:
        self._begin()
        try:
            await PORTAL.run(self._enter())
        except BaseException:
            self._end()
            raise
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._end()
        if self._ours:
            await PORTAL.run(self._left())

    def __repr__(self) -> str:
        state = "present" if self.present else "absent" if self._entered else "not entered"
        return f"<etcd.Kept {self.key!r}, {state}>"

    # Entering and leaving

    @property
    def _ours(self) -> bool:
        return self._keeper._pid == os.getpid()

    def _check_entered(self) -> None:
        if not self._entered or not self._ours or self not in self._keeper._held:
            raise ClosedError(f"kept key {self.key!r}")

    def _begin(self) -> None:
        if self._entered:
            raise InvalidArgument("kept", self, "a kept key that is not entered already")
        self._entered = True
        if not self._ours:
            self._keeper = self._keeper._client._lease_keeper()
        self._begin_anew()

    async def _enter(self) -> None:
        keeper = self._keeper
        self._stream = keeper._stream_of_loop()
        assert keeper._gate is not None
        self._gate = keeper._gate
        self._make_events()
        keeper._held.add(self)
        self._spawn(self._run(), "keeping")
        await self._until_stored(self._core.version, self._timeout)

    def _spawn(self, work: Coroutine[Any, Any, None], what: str) -> None:
        # Without the caller's variables: its deadline is not that of the key.
        task = asyncio.get_running_loop().create_task(
            work, name=f"etcd {what} {self.key!r}", context=contextvars.Context()
        )
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _end(self) -> None:
        """Begin to leave, from any thread."""
        self._entered = False
        if self._ours:
            self._keeper._soon(self._let_go)

    def _let_go(self) -> None:
        keeper = self._keeper
        if self not in keeper._held:
            return
        keeper._held.discard(self)
        for task in self._tasks:
            task.cancel()
        lease, self._core.lease = self._core.lease, 0
        self._core.forget()
        self._settled.set()
        self._last_lease = lease
        if lease:
            keeper._let_go(lease, self._ttl, told=True)

    async def _left(self) -> None:
        await asyncio.sleep(0)  # on this very loop, leaving has only been scheduled
        if self._tasks:
            await asyncio.wait(tuple(self._tasks))
        await self._keeper._left(self._last_lease)

    def _closed(self) -> None:
        """The client is being closed."""
        if self._core.lease:
            ended(self._core.lease, "closed")
        self._let_go()

    # The value

    async def _set(self, value: bytes, timeout: float | None) -> None:
        version = self._want(value)
        await self._until_stored(version, self._timeout if timeout is None else timeout)

    # Keeping

    async def _act(self, action: Grant | Write) -> None:
        """Do what is to be done when it is this key's turn, for as long as it goes well."""
        async with self._gate:
            while isinstance(now := self._core.decide(clock()), (Grant, Write)):
                if not await self._try(now):
                    return

    async def _try(self, action: Grant | Write) -> bool:
        core = self._core
        try:
            if isinstance(action, Grant):
                await self._grant()
            else:
                await self._write(action)
        except LeaseLost:
            self._drop_lease()
        except StoreUnavailable as error:
            self._error = error
            core.failed(clock(), random.random())
            self._gate.failed(RETRY_CAP * random.random())
            return False
        except HastackError as error:  # also of a client that cannot be used, after a fork
            self._error = error
            core.failed(clock(), random.random(), refused=True)
            return False
        self._error = None
        self._gate.succeeded()
        return True

    async def _grant(self) -> None:
        lease, ttl, sent = await self._keeper._grant(self._ttl, timeout=ATTEMPT)
        self._core.granted(lease)
        self._unsure = False
        self._stream.add(lease, ttl, sent=sent, holder=self)

    async def _write(self, write: Write) -> None:
        await super()._write(write)
        if not self._following:
            self._following = True
            self._spawn(self._follow(), "watching")
            self._spawn(self._verify(), "verifying")

    # Noticing

    async def _follow(self) -> None:
        """Watch the key; one watch after another."""
        client = self._keeper._client
        while True:
            try:
                async with client.watch(self.key, start_revision=self._core.revision + 1) as watch:
                    async for batch in watch:
                        await self._hear(batch)
            except Exception:  # noqa: S110  # whatever it was, the key is read and watched anew
                pass
            await asyncio.sleep(RETRY_CAP * (0.5 + 0.5 * random.random()))
            await self._read()

    async def _verify(self) -> None:
        """Read the key now and then, whatever the watch says."""
        while True:
            await asyncio.sleep(LOOK_AGAIN * (0.75 + 0.5 * random.random()))
            await self._read()

    def _drop_lease(self) -> None:
        lease = self._core.lease
        self._stream.remove(lease)
        if lease:
            ended(lease, "gone")
        self._lose_lease()

    # Told by the keepalives

    def _renewed(self, ttl: float) -> None:
        self._unsure = False

    def _lapsed(self) -> None:
        # The lease may outlive this: a cluster that lost its leader gives its leases more time. So
        # it is asked for until the store says that it is gone, and the key never goes away.
        self._unsure = True

    def _gone(self) -> None:
        self._drop_lease()
