"""Elections: of several processes one leads, and the others take over when it dies.

An election is a lock whose holder says who it is. What `hastack.discovery.lock` says about fencing
holds here as well: a leader that was stopped for longer than its TTL may act for a moment after
another has taken over, unless what it acts on refuses its smaller fence.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from hastack._core._errors import LeaseLost
from hastack._core._validate import seconds, text

from . import _layout
from ._queue import first
from ._records import Compare, KeyValue, Put, as_bytes
from .lock import Turn

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from types import TracebackType

    from hastack._core._validate import Seconds
    from hastack.context import Context

    from ._records import Batch, Key
    from ._store import Store

__all__ = ("Campaign", "Election", "Term")


@final
class Election:
    """An election among processes, in any store.

    Args:
        store: Where it is held.
        name: Name of the election.
        ttl: Seconds after which a leader that has died or cannot be reached is replaced.

    Raises:
        InvalidArgument: An argument is not what its name asks for.

    Example:
        >>> import asyncio
        >>> from hastack.discovery import memory
        >>> from hastack.discovery.election import Election
        >>> async def main():
        ...     election = Election(memory.Store(), "scheduler", ttl=5.0)
        ...     async with election.campaign("10.0.0.7:80") as term:
        ...         await term.proclaim("10.0.0.7:81")
        ...         leader = await election.leader()
        ...     return leader.value, await election.leader()
        >>> asyncio.run(main())
        (b'10.0.0.7:81', None)
    """

    def __init__(self, store: Store, name: str, *, ttl: Seconds = 10.0) -> None:
        self.name = text("name", name)
        self._store = store
        self._prefix = _layout.election_prefix(name)
        self._ttl = seconds("ttl", ttl)

    def campaign(self, value: Key) -> Campaign:
        """Stand for election: ``async with election.campaign(value) as term: ...``.

        Entering waits until this one leads, for as long as the current context allows; whoever
        has waited longest is next. The block runs under `Term.context`: when the lead is lost it
        is cancelled, and `hastack.errors.Cancelled` with the `LeaseLost` as cause is raised.

        Args:
            value: What the others are told about the leader, its address for example.

        Raises:
            InvalidArgument: ``value`` is neither bytes nor text.
            ContextError: (from entering) The current context ended first.
            LeaseLost: (from entering) The place in the queue was lost.
            StoreError: (from entering) The store could not be reached, or refused.
        """
        data = as_bytes("value", value)
        return Campaign(self._store, Turn(self._store, self._prefix, self._ttl, data))

    async def leader(self) -> KeyValue | None:
        """The leader's key: its value is what it proclaimed; ``None`` while nobody leads.

        Raises:
            StoreError: The store could not be reached, or refused.
        """
        return first((await self._store.range(self._prefix, prefix=True)).kvs)

    async def observe(self) -> AsyncIterator[KeyValue | None]:
        """Yield the leader's key now and whenever it changes; ``None`` while nobody leads.

        Of changes in quick succession, those in between may be left out.

        Raises:
            StoreError: The store refused.
        """
        candidates: dict[bytes, KeyValue] = {}
        known: KeyValue | None = None
        begun = False
        async with self._store.watch(self._prefix, prefix=True) as watch:
            async for batch in watch:
                _apply(batch, candidates)
                found = first(tuple(candidates.values()))
                if not begun or found != known:
                    begun, known = True, found
                    yield found

    def __repr__(self) -> str:
        return f"<Election {self.name!r}>"


def _apply(batch: Batch, candidates: dict[bytes, KeyValue]) -> None:
    for event in batch.events:
        if event.kind == "put":
            candidates[event.kv.key] = event.kv
        else:
            candidates.pop(event.kv.key, None)


@final
class Campaign:
    """A candidacy; from `Election.campaign`. One block at a time."""

    def __init__(self, store: Store, turn: Turn) -> None:
        self._store = store
        self._turn = turn

    async def __aenter__(self) -> Term:
        place, ctx = await self._turn.enter()
        return Term(self._store, self._turn, place.key, place.revision, ctx)

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._turn.leave(exc_type, exc, traceback)


@final
class Term:
    """The time for which this process leads.

    Attributes:
        key: The leader's key in the store.
        fence: Fencing token: larger than that of every leader before.
        context: Ends when the lead can no longer be relied on, with a `LeaseLost` as cause.
    """

    def __init__(self, store: Store, turn: Turn, key: bytes, fence: int, ctx: Context) -> None:
        self.key = key
        self.fence = fence
        self.context = ctx
        self._store = store
        self._turn = turn

    @property
    def check(self) -> Compare:
        """The condition that this process still leads, for a transaction of the store."""
        return Compare(self.key, "create_revision", "==", self.fence)

    async def proclaim(self, value: Key) -> None:
        """Tell the others something else about the leader.

        Raises:
            LeaseLost: This process does not lead any more.
            StoreError: The store could not be reached, or refused.
        """
        lease = self._turn.lease
        assert lease is not None
        put = Put(self.key, as_bytes("value", value), lease.id)
        if not (await self._store.txn([self.check], [put])).succeeded:
            raise LeaseLost(f"{self.key!r} leads no more", lease=lease.id)

    async def resign(self) -> None:
        """Let the next one lead, before the block ends.

        `context` ends, the rest of the block runs without it. For the task that entered the block.
        """
        await self._turn.leave()

    def __repr__(self) -> str:
        return f"<Term of {self.key!r}, fence {self.fence}>"
