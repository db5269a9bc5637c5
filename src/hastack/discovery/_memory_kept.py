"""Keys of the embedded store that are there for as long as a block runs."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Final, Self, final

from hastack import context
from hastack._core._cancel import BACKGROUND
from hastack._core._errors import (
    ClosedError,
    HastackError,
    InvalidArgument,
    LeaseLost,
    StoreError,
    StoreUnavailable,
)

from ._keeping import Keeping
from ._memory_watch import Wake
from ._records import as_bytes
from .etcd._lease_reconcile import Grant, Write

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from ._records import Key
    from ._store import Lease
    from .memory import Store

__all__ = ("MemoryKept",)

PATIENCE: Final = 5.0  # seconds within which the store has to have a value


@final
class MemoryKept(Keeping):
    """See `hastack.discovery.Kept`. Works on the event loop on which it is entered.

    What is decided is what the etcd client decides, see its ``Kept``.
    """

    def __init__(self, store: Store, key: bytes, value: bytes, ttl: float) -> None:
        super().__init__(key, value)
        self._store = store
        self._ttl = ttl
        self._lease: Lease | None = None
        self._unwatch: Callable[[], object] = _nothing
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def _keys(self) -> Store:
        return self._store

    def _now(self) -> float:
        return self._loop.time()

    def _check_entered(self) -> None:
        if not self._tasks:
            raise ClosedError(f"kept key {self.key!r}")

    @property
    def present(self) -> bool:
        """Whether the store was last known to hold it."""
        lease = self._lease
        return self._core.present and lease is not None and not lease.context.done

    def __repr__(self) -> str:
        state = "present" if self.present else "absent" if self._tasks else "not entered"
        return f"<memory.Kept {self.key!r}, {state}>"

    async def set(self, value: Key, *, timeout: float | None = None) -> None:
        """Change the value; returns once the store has it, or a later one.

        Raises:
            StoreUnavailable: The store could not be reached in time. The value stays asked for.
            StoreError: The store refuses it. It stays asked for.
            ClosedError: The block was left.
        """
        version = self._want(as_bytes("value", value))
        await self._until_stored(version, PATIENCE if timeout is None else timeout)

    async def __aenter__(self) -> Self:
        if self._tasks:
            raise InvalidArgument("kept", self, "a kept key that is not entered already")
        self._loop = asyncio.get_running_loop()
        self._begin_anew()
        self._make_events()
        with context.using(BACKGROUND):  # the deadline of this call is not that of the key
            self._tasks = [self._loop.create_task(self._run(), name=f"keeping {self.key!r}")]
        try:
            await self._until_stored(self._core.version, PATIENCE)
        except BaseException:
            await self._leave()
            raise
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._leave()

    async def _leave(self) -> None:
        self._unwatch()
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        self._core.lease = 0
        self._core.forget()
        self._settled.set()
        lease, self._lease = self._lease, None
        if lease is not None:
            await lease.__aexit__(None, None, None)
        if tasks:
            await asyncio.wait(tasks)

    # Keeping

    async def _act(self, action: Grant | Write) -> None:
        try:
            if isinstance(action, Grant):
                await self._grant()
            else:
                await self._write(action)
        except LeaseLost:
            self._lease_gone()
        except StoreUnavailable as error:
            self._error = error
            self._core.failed(self._loop.time(), random.random())
        except HastackError as error:
            self._error = error
            self._core.failed(self._loop.time(), random.random(), refused=True)
        else:
            self._error = None

    async def _grant(self) -> None:
        if self._lease is not None:
            old, self._lease = self._lease, None
            await old.__aexit__(None, None, None)
        lease = self._store.lease(self._ttl)
        await lease.__aenter__()
        self._lease = lease
        self._core.granted(lease.id)
        self._unwatch = lease.context.after_func(Wake(self._loop, self._lease_gone))

    async def _write(self, write: Write) -> None:
        await super()._write(write)
        if len(self._tasks) == 1:
            self._tasks.append(self._loop.create_task(self._follow(), name=f"watch {self.key!r}"))

    # Noticing

    async def _follow(self) -> None:
        """Watch the key; one watch after another."""
        while True:
            try:
                start = self._core.revision + 1
                async with self._store.watch(self.key, start_revision=start) as watch:
                    async for batch in watch:
                        await self._hear(batch)
            except ClosedError:
                return
            except StoreError:
                await asyncio.sleep(random.uniform(0.5, 1.0))
            await self._read()

    def _lease_gone(self) -> None:
        if not self._core.lease:
            return
        self._unwatch()
        self._lose_lease()


def _nothing() -> None:
    """Nothing is watched."""
