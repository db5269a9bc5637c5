"""What keeps a key there, on whatever store: decide, write, watch, look again, tell.

The stores differ in how a lease is come by, and in when that may be tried: theirs is `_act`.
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Final, Protocol

from hastack import context
from hastack._core._errors import ClosedError, HastackError, StoreError, StoreUnavailable

from ._records import Compare, Get, Put, RangeResult
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
    from collections.abc import Sequence

    from ._records import Batch, Key, KeyValue, Op, TxnResult
    from ._store import Watch
    from .etcd._lease_reconcile import Loss

__all__ = ("ATTEMPT", "Keeping")

ATTEMPT: Final = 2.0
"""Seconds for one try; a store that does not answer is asked again, elsewhere if possible."""


class _Keys(Protocol):
    """What is asked of a store."""

    async def range(self, key: Key, *, timeout: float | None = None) -> RangeResult: ...

    async def txn(
        self,
        compare: Sequence[Compare],
        then: Sequence[Op],
        otherwise: Sequence[Op] = (),
        *,
        timeout: float | None = None,
    ) -> TxnResult: ...

    def watch(self, key: Key, *, start_revision: int | None = None) -> Watch: ...


class Keeping:
    """A key that is kept, from one entering to the next leaving.

    Attributes:
        key: The key.
    """

    def __init__(self, key: bytes, value: bytes) -> None:
        self.key = key
        self._value = value
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._core = Reconcile(self._value)
        self._error: HastackError | None = None
        self._down_since: float | None = None

    def _make_events(self) -> None:
        """On the loop that will use them."""
        self._changed = asyncio.Event()  # there is something to decide
        self._settled = asyncio.Event()  # something was decided

    # A store's own

    @property
    def _keys(self) -> _Keys:
        raise NotImplementedError

    def _now(self) -> float:
        raise NotImplementedError

    def _check_entered(self) -> None:
        """Raise `ClosedError` when the block was left."""
        raise NotImplementedError

    async def _act(self, action: Grant | Write) -> None:
        """Do that, and whatever is to be done next if it goes well."""
        raise NotImplementedError

    # The value

    @property
    def lease(self) -> int:
        """The lease that it hangs on now; 0 while there is none."""
        return self._core.lease

    def _want(self, value: bytes) -> int:
        self._check_entered()
        self._value = value
        self._error = None
        version = self._core.want(value)
        self._changed.set()
        return version

    async def _until_stored(self, version: int, limit: float) -> None:
        ctx = context.current()
        try:
            async with asyncio.timeout(limit):
                async with context.with_cancel(ctx):
                    while self._core.stored < version:
                        self._check_entered()
                        error = self._error
                        if error is not None and not isinstance(error, StoreUnavailable):
                            raise error
                        self._settled.clear()
                        await self._settled.wait()
        except TimeoutError as error:
            ctx.check()
            if isinstance(error, HastackError):
                raise
            raise self._error or StoreUnavailable(
                f"{self.key!r} was not stored within {limit:g} s"
            ) from None

    # Keeping

    async def _run(self) -> None:
        core = self._core
        while True:
            self._changed.clear()
            action = core.decide(self._now())
            if isinstance(action, Rest):
                self._note_restored()
                await self._changed.wait()
            elif isinstance(action, Wait):
                try:
                    async with asyncio.timeout(action.until - self._now()):
                        await self._changed.wait()
                except TimeoutError:
                    pass
            else:
                await self._act(action)
            self._settled.set()

    async def _write(self, write: Write) -> None:
        answer = await self._keys.txn(
            [Compare(self.key, "mod_revision", "==", write.revision)],
            [Put(self.key, write.value, write.lease)],
            [Get(self.key)],
            timeout=ATTEMPT,
        )
        if answer.succeeded:
            self._core.wrote(write, answer.revision)
            return
        found = answer.results[0]
        assert isinstance(found, RangeResult)
        kv = found.kvs[0] if found.kvs else None
        loss = self._core.missed(write, kv, answer.revision, self._now(), random.random())
        self._note_loss(loss, kv)

    # Noticing

    async def _hear(self, batch: Batch) -> None:
        if batch.reason == "restored":
            # Revisions have begun anew, so it cannot be told which of these is news.
            self._core.forget()
            self._changed.set()
        else:
            for event in batch.events:
                self._see(event.kv if event.kind == "put" else None, event.kv.mod_revision)
        if batch.resync:
            await self._read()  # of what was never handed over, it does not tell the deletion

    async def _read(self) -> None:
        try:
            found = await self._keys.range(self.key, timeout=ATTEMPT)
        except (StoreError, ClosedError):
            return
        self._see(found.kvs[0] if found.kvs else None, found.revision)

    def _see(self, kv: KeyValue | None, revision: int) -> None:
        self._note_loss(self._core.seen(kv, revision, self._now(), random.random()), kv)
        self._changed.set()

    def _lose_lease(self) -> None:
        self._note_loss(self._core.lost_lease(self._now(), random.random()), None)
        self._changed.set()

    # Telling

    def _note_loss(self, loss: Loss | None, kv: KeyValue | None) -> None:
        if loss is None:
            return
        now = self._now()
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
            KEY_RESTORED.publish(KeyRestored(key=self.key, after=self._now() - since))
