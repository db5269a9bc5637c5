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

from ._memory_watch import Wake
from ._records import Compare, Get, Put, RangeResult, as_bytes
from .etcd._lease_events import (
    KEY_CONTESTED,
    KEY_DOWN,
    KEY_RESTORED,
    KeyContested,
    KeyDown,
    KeyRestored,
)
from .etcd._lease_reconcile import Grant, Reconcile, Rest, Wait, Write

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from ._records import Batch, Key, KeyValue
    from ._store import Lease
    from .etcd._lease_reconcile import Action, Loss
    from .memory import Store

__all__ = ("MemoryKept",)

ATTEMPT: Final = 2.0  # seconds for one try
PATIENCE: Final = 5.0  # seconds within which the store has to have a value


@final
class MemoryKept:
    """See `hastack.discovery.Kept`. Works on the event loop on which it is entered.

    What is decided is what the etcd client decides, see its ``Kept``.
    """

    def __init__(self, store: Store, key: bytes, value: bytes, ttl: float) -> None:
        self.key = key
        self._store = store
        self._value = value
        self._ttl = ttl
        self._core = Reconcile(value)
        self._lease: Lease | None = None
        self._unwatch: Callable[[], object] = _nothing
        self._tasks: list[asyncio.Task[None]] = []
        self._error: HastackError | None = None
        self._down_since: float | None = None

    @property
    def present(self) -> bool:
        """Whether the store was last known to hold it."""
        lease = self._lease
        return self._core.present and lease is not None and not lease.context.done

    @property
    def lease(self) -> int:
        """The lease that it hangs on now; 0 while there is none."""
        return self._core.lease

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
        data = as_bytes("value", value)
        if not self._tasks:
            raise ClosedError(f"kept key {self.key!r}")
        self._value = data
        version = self._core.want(data)
        self._error = None
        self._changed.set()
        await self._until_stored(version, PATIENCE if timeout is None else timeout)

    async def __aenter__(self) -> Self:
        if self._tasks:
            raise InvalidArgument("kept", self, "a kept key that is not entered already")
        self._loop = asyncio.get_running_loop()
        self._core = Reconcile(self._value)
        self._error = self._down_since = None
        self._changed = asyncio.Event()  # there is something to decide
        self._settled = asyncio.Event()  # something was decided
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

    async def _until_stored(self, version: int, limit: float) -> None:
        try:
            async with asyncio.timeout(limit):
                async with context.with_cancel():
                    while self._core.stored < version:
                        if not self._tasks:
                            raise ClosedError(f"kept key {self.key!r}")
                        error = self._error
                        if error is not None and not isinstance(error, StoreUnavailable):
                            raise error
                        self._settled.clear()
                        await self._settled.wait()
        except TimeoutError as error:
            context.current().check()
            if isinstance(error, HastackError):
                raise
            raise self._error or StoreUnavailable(
                f"{self.key!r} was not stored within {limit:g} s"
            ) from None

    # Keeping

    async def _run(self) -> None:
        while True:
            self._changed.clear()
            action = self._core.decide(self._loop.time())
            if isinstance(action, Rest):
                self._note_restored()
                await self._changed.wait()
            elif isinstance(action, Wait):
                try:
                    async with asyncio.timeout_at(action.until):
                        await self._changed.wait()
                except TimeoutError:
                    pass
            else:
                await self._act(action)
            self._settled.set()

    async def _act(self, action: Action) -> None:
        try:
            if isinstance(action, Grant):
                await self._grant()
            elif isinstance(action, Write):
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
        answer = await self._store.txn(
            [Compare(self.key, "mod_revision", "==", write.revision)],
            [Put(self.key, write.value, write.lease)],
            [Get(self.key)],
            timeout=ATTEMPT,
        )
        if answer.succeeded:
            self._core.wrote(write, answer.revision)
        else:
            found = answer.results[0]
            assert isinstance(found, RangeResult)
            kv = found.kvs[0] if found.kvs else None
            now = self._loop.time()
            self._note_loss(self._core.missed(write, kv, answer.revision, now, random.random()), kv)
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

    async def _hear(self, batch: Batch) -> None:
        if batch.reason == "restored":
            self._core.forget()
        for event in batch.events:
            self._see(event.kv if event.kind == "put" else None, event.kv.mod_revision)
        if batch.resync:
            await self._read()  # of what was never handed over, it does not tell the deletion

    async def _read(self) -> None:
        try:
            found = await self._store.range(self.key, timeout=ATTEMPT)
        except HastackError:
            return
        self._see(found.kvs[0] if found.kvs else None, found.revision)

    def _see(self, kv: KeyValue | None, revision: int) -> None:
        loss = self._core.seen(kv, revision, self._loop.time(), random.random())
        self._note_loss(loss, kv)
        self._changed.set()

    def _lease_gone(self) -> None:
        if not self._core.lease:
            return
        self._unwatch()
        self._note_loss(self._core.lost_lease(self._loop.time(), random.random()), None)
        self._changed.set()

    # Telling

    def _note_loss(self, loss: Loss | None, kv: KeyValue | None) -> None:
        if loss is None:
            return
        now = self._loop.time()
        if self._down_since is None:
            self._down_since = now
        if KEY_DOWN.subscribers:
            KEY_DOWN.publish(KeyDown(key=self.key, loss=loss))
        if self._core.contested and KEY_CONTESTED.subscribers:
            action = self._core.decide(now)
            KEY_CONTESTED.publish(
                KeyContested(
                    key=self.key,
                    loss=loss,
                    losses=self._core.losses,
                    rival=0 if kv is None else kv.lease,
                    pause=action.until - now if isinstance(action, Wait) else 0.0,
                )
            )

    def _note_restored(self) -> None:
        since, self._down_since = self._down_since, None
        if since is not None and KEY_RESTORED.subscribers:
            KEY_RESTORED.publish(KeyRestored(key=self.key, after=self._loop.time() - since))


def _nothing() -> None:
    """Nothing is watched."""
