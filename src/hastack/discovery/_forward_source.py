"""Reading a source into a plan: where to begin, listing, watching, beginning again."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, final

import attrs

from hastack import context
from hastack._core._errors import StoreError
from hastack.ratelimit._backoff import Backoff

from ._forward_events import FORWARDER_FAILED, ORIGIN_RELISTED, ForwarderFailed, OriginRelisted
from ._forward_plan import Change, newest
from ._forward_token import Token
from ._layout import EPOCH
from ._records import prefix_end

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._forward_plan import Plan
    from ._forward_settings import Journal, Settings
    from ._records import Batch
    from ._store import Store, Watch

__all__ = ("Follower", "backoff_of")

_SAME_HISTORY = {"compacted", "overflow"}

# Collapse what is read again before it is compared, at the latest when so much has come together.
_COLLAPSE = 10_000


class _Relist(Exception):
    """The watch cannot go on from what is known."""


def backoff_of(settings: Settings) -> Backoff:
    """Exponential with full jitter, for ever."""
    return Backoff(
        attempts=1 << 62,
        base=0.1,
        cap=settings.backoff,
        factor=2.0,
        jitter=True,
        max_retry_after=0.0,
    )


@final
class Follower:
    """Keeps a plan informed of one source, until it is cancelled.

    Args:
        source: Where to read.
        settings: What to read.
        plan: Whom to inform.
        token: Where the plan begins; ``None`` for nowhere.
        journal: Where to note how it goes.
        wake: Called when the plan has something new.
        interrupted: Called when there was no connection until now.
        here: Identity of the destination's data, which cannot be its own source.
    """

    def __init__(
        self,
        source: Store,
        settings: Settings,
        plan: Plan,
        token: Token | None,
        *,
        journal: Journal,
        wake: Callable[[], None],
        interrupted: Callable[[], None],
        here: int,
    ) -> None:
        self._source = source
        self._settings = settings
        self._plan = plan
        # What tokens written from now on say of the source, apart from revisions.
        self.place = token or Token(cluster=0)
        self._journal = journal
        self._wake = wake
        self._interrupted = interrupted
        self._here = here
        self._watch: Watch | None = None
        self._following: asyncio.Task[None] | None = None
        self._wanted = "" if token is not None else "first"
        self._steady_since: float | None = None

    @property
    def age(self) -> float | None:
        """Seconds since the plan was last certain to be current; ``None`` when it is not."""
        watch = self._watch
        return None if watch is None or self._plan.high > self._plan.seen else watch.age

    def relist(self, reason: str) -> None:
        """Break off and list in full."""
        self._wanted = reason
        if self._following is not None:
            self._following.cancel()

    async def run(self) -> None:
        """Follow, and begin again whenever that ends."""
        backoff = backoff_of(self._settings)
        tries = 0
        while True:
            context.current().check()
            error = await self._one_connection()
            steady = self._steady_since
            now = asyncio.get_running_loop().time()
            tries = 1 if steady is not None and now - steady > self._settings.backoff else tries + 1
            delay = backoff.ceiling(tries) * random.random()
            if error is not None:
                self._journal.error = f"source: {error!r}"
                if FORWARDER_FAILED.subscribers:
                    FORWARDER_FAILED.publish(
                        ForwarderFailed(
                            origin=self._settings.origin,
                            part="source",
                            error=error,
                            retry_in=delay,
                        )
                    )
            await asyncio.sleep(delay)

    async def _one_connection(self) -> BaseException | None:
        """Follow until it ends; the answer is the error that ended it, if it was one."""
        task = self._following = asyncio.create_task(self._follow())
        self._steady_since = None
        try:
            await asyncio.wait({task})
        finally:
            self._following = self._watch = None
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        if task.cancelled():  # by relist(), which said why
            return None
        error = task.exception()
        if isinstance(error, _Relist):
            self._wanted = str(error)
            return None
        return error

    async def _follow(self) -> None:
        self._journal.phase = "connecting"
        self._interrupted()
        source, settings, plan = self._source, self._settings, self._plan
        found = await source.identity(timeout=settings.timeout)
        if found.cluster == self._here:
            raise StoreError("source and destination are the same cluster")
        epoch_key = await source.get(EPOCH, timeout=settings.timeout)
        epoch = "" if epoch_key is None else epoch_key.value.decode(errors="replace")
        self._journal.connects += 1
        reached = attrs.evolve(
            self.place,
            low=0 if plan.partial else max(plan.seen, 1),
            high=max(plan.high, plan.seen, 1),
        )
        reason = self._wanted or reached.relist_reason(
            found.cluster, epoch, settings.selection, found.revision
        )
        if reason:
            place = Token(cluster=found.cluster, epoch=epoch, selection=settings.selection)
            await self._list(place, reason)
        async with source.watch(
            settings.exported, prefix=True, start_revision=plan.seen + 1
        ) as watch:
            self._watch = watch
            self._settled()
            await self._read(watch)

    def _settled(self) -> None:
        """Note whether all that was in doubt has been read."""
        if self._plan.high > self._plan.seen:
            self._journal.phase = "replaying"
        elif self._steady_since is None:
            self._journal.phase = "forwarding"
            self._journal.error = ""
            self._steady_since = asyncio.get_running_loop().time()

    async def _list(self, place: Token, reason: str) -> None:
        """Compare the mirror with all that the source holds, as of one revision."""
        settings, plan, journal = self._settings, self._plan, self._journal
        loop = asyncio.get_running_loop()
        began = loop.time()
        journal.phase = "listing"
        plan.begin_listing()
        # Together with the line above: no token may bring the old revisions to the new place.
        self.place = place
        key, end, revision = settings.exported, prefix_end(settings.exported), 0
        written = journal.counts.puts + journal.counts.deletes
        while True:
            page = await self._source.range(
                key,
                end=end,
                revision=revision,
                limit=settings.page,
                timeout=settings.timeout,
            )
            revision = revision or page.revision
            plan.list(settings.pairs(page.kvs), loop.time())
            self._wake()
            if not page.more or not page.kvs:
                break
            key = page.kvs[-1].key + b"\0"
        plan.end_listing(revision, loop.time())
        self._wanted = ""
        self._wake()
        journal.relists += 1
        if ORIGIN_RELISTED.subscribers:
            counts = journal.counts
            ORIGIN_RELISTED.publish(
                OriginRelisted(
                    origin=settings.origin,
                    reason=reason,
                    revision=revision,
                    changes=plan.pending + counts.puts + counts.deletes - written,
                    took=loop.time() - began,
                )
            )

    async def _read(self, watch: Watch) -> None:
        plan = self._plan
        loop = asyncio.get_running_loop()
        doubtful: list[Change] = []
        told = False
        async for batch in watch:
            # The watch has listed the source already, and says exactly what differs from what it
            # told. Not so when it has told nothing yet, or doubts that it is the same history.
            if batch.resync and not (told and batch.reason in _SAME_HISTORY):
                raise _Relist(batch.reason)
            told = True
            changes = self._changes(batch)
            if plan.high > plan.seen:
                # Some of this may have been written before: only the last word on each key, as
                # of the end of the doubt, can be compared with the mirror.
                doubtful += changes
                if batch.revision < plan.high:
                    if len(doubtful) > _COLLAPSE:
                        doubtful = newest(doubtful)
                        if len(doubtful) > self._settings.limits.instances:
                            raise _Relist("overflow")
                    continue
                changes, doubtful = doubtful, []
            plan.offer(changes, batch.revision, loop.time())
            self._settled()
            self._wake()

    def _changes(self, batch: Batch) -> list[Change]:
        changes = [Change(*told) for told in self._settings.told(batch.events)]
        if batch.resync:  # in the order of keys; a plan wants that of revisions
            changes.sort(key=lambda change: change.revision)
        return changes
