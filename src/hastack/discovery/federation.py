"""Federation: the instances of one cluster, mirrored into another.

A `Forwarder` watches what is registered in a *source* and keeps a copy of it in a *destination*,
under a prefix that belongs to that origin alone. What others mirrored into the source is never
passed on, so clusters may be joined in any shape, rings included: every cluster that wants the
instances of another runs one forwarder from there.

What a forwarder promises:

- **Exactly once in effect.** How far it came is written in the transaction that writes the data.
  A forwarder killed at any moment goes on where the destination says, and writes nothing twice.
- **One writer.** Two forwarders of one origin cannot both write; the one that came last does, and
  the other stands by.
- **A dead source blocks nothing.** Its instances stay (*static stability*) while it is out of
  reach, count as stale, and are drained or revoked after a time of grace if the policy says so.
- **No mass eviction on hearsay.** When many instances vanish at once while the source is in doubt,
  deletions freeze until it has been watched without a break for a while.

Example:
    >>> import asyncio
    >>> from hastack.discovery import Instance, federation, memory
    >>> async def main():
    ...     east, west = memory.Store(), memory.Store()
    ...     here = Instance(service="db", id="1", address="10.0.0.1:5432")
    ...     await east.put("/hs/1/reg/east/default/db/1", here.to_bytes())
    ...     async with federation.Forwarder(east, west, origin="east") as forwarder:
    ...         while forwarder.status().mirrored < 1:
    ...             await asyncio.sleep(0.01)
    ...         return (await west.get("/hs/1/mir/east/default/db/1")).value
    >>> asyncio.run(main())
    b'{"address":"10.0.0.1:5432"}'
"""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import socket
from typing import TYPE_CHECKING, Self, final

import attrs

from hastack import context
from hastack._core import _validate
from hastack._core._errors import InvalidArgument, LifecycleError, OriginHeld
from hastack.ratelimit._quota import to_quota

from ._coalesce import Coalescer
from ._forward_events import (
    FORWARDER_FAILED,
    FORWARDER_SUPERSEDED,
    EvictionFrozen,
    EvictionThawed,
    ForwarderFailed,
    ForwarderSuperseded,
    OriginChanged,
    OriginRelisted,
)
from ._forward_settings import Journal, Settings, Status
from ._forward_source import backoff_of
from ._forward_tenure import Eviction, Standing, Superseded, Tenure
from ._origin import OriginState, OriginVigil, Policy
from ._origin_guard import EvictionGuard

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

    from hastack._core._validate import Seconds
    from hastack.ratelimit import TokenBucket
    from hastack.ratelimit._quota import QuotaLike

    from ._store import Store

__all__ = (
    "Eviction",
    "EvictionFrozen",
    "EvictionThawed",
    "Forwarder",
    "ForwarderFailed",
    "ForwarderSuperseded",
    "OriginChanged",
    "OriginRelisted",
    "OriginState",
    "Policy",
    "Status",
    "evict",
)


@final
class Forwarder:
    """Mirrors the registrations of ``source`` into ``destination``, until it is stopped.

    Use it as ``async with``, or add it to a `hastack.lifecycle.Lifecycle` as a component. It
    starts at once and never waits for either store; `status` says how it stands. The stores stay
    the caller's to close.

    A change goes on at once when it is the first of its key for ``coalesce`` seconds, ends a
    life, or begins one; later ones of a flapping key are bundled. A transaction of the source may
    become visible in parts.

    Args:
        source: Cluster to read.
        destination: Cluster to write.
        origin: Name of the source's cluster: what its services register under. No two clusters
            of a federation may share one.
        namespaces: Which to forward; all by default.
        policy: What becomes of the instances when the source stays out of reach: ``"keep"``
            them, ``"drain"`` or ``"revoke"`` them after ``grace``.
        grace: Seconds.
        stale_after: Seconds without certainty after which the origin counts as stale.
        coalesce: Seconds; 0 passes every change on.
        share: Share of the instances that may vanish while the source is in doubt, in (0, 1];
            1 switches self-preservation off.
        window: Seconds that the source must have been watched without a break to be believed
            when more vanish.
        ttl: Seconds that the origin's heartbeat outlives this forwarder.
        timeout: Seconds for one request to either store.
        backoff: Longest delay in seconds between two tries to reach a store.
        rate: Most writes to the destination, such as ``"5000/s"``.
        burst: Writes at once; at least 120, the size of one transaction.
        max_instances: Most instances in the mirror; more are refused, counted in `status`, and
            fetched once there is room.
        preempt: Take over at the start from a forwarder that is alive or was until now. Without
            it, a restarted forwarder waits until the heartbeat of its earlier life has expired.
        name: Name as a component; default: ``"federation-"`` and the origin.

    Raises:
        InvalidArgument: An argument is out of its range.

    Example:
        >>> from hastack.discovery import federation, memory
        >>> from hastack.lifecycle import Lifecycle
        >>> life = Lifecycle("bridge", lame_duck=0.0)
        >>> forwarder = federation.Forwarder(memory.Store(), memory.Store(), origin="east")
        >>> life.add(forwarder)
        >>> with life:
        ...     forwarder.status().origin
        'east'
        >>> forwarder.status().phase
        'stopped'
    """

    def __init__(
        self,
        source: Store,
        destination: Store,
        *,
        origin: str,
        namespaces: Iterable[str] | None = None,
        policy: Policy = "keep",
        grace: Seconds = 300.0,
        stale_after: Seconds = 15.0,
        coalesce: Seconds = 5.0,
        share: float = 0.15,
        window: Seconds = 30.0,
        ttl: Seconds = 10.0,
        timeout: Seconds = 5.0,
        backoff: Seconds = 5.0,
        rate: QuotaLike = "5000/s",
        burst: int = 10_000,
        max_instances: int = 100_000,
        preempt: bool = True,
        name: str | None = None,
    ) -> None:
        if source is destination:
            raise InvalidArgument("destination", destination, "another store than the source")
        self._settings = Settings.of(
            origin=origin,
            namespaces=namespaces,
            policy=policy,
            grace=grace,
            stale_after=stale_after,
            coalesce=coalesce,
            share=share,
            window=window,
            ttl=ttl,
            timeout=timeout,
            backoff=backoff,
            max_instances=max_instances,
            preempt=preempt,
        )
        self._rate = to_quota("rate", rate)
        self._burst = _validate.integer("burst", burst, minimum=self._settings.limits.ops)
        self.name = f"federation-{origin}" if name is None else _validate.text("name", name)
        self._source = source
        self._destination = destination
        self._journal = Journal()
        self._standing: Standing | None = None
        self._tenure: Tenure | None = None
        self._task: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._yielded = False

    def __repr__(self) -> str:
        ends = f"{self._source.url} to {self._destination.url}"
        return f"<Forwarder {self._settings.origin!r} from {ends}: {self._journal.phase}>"

    # Living

    async def start(self) -> None:
        """Begin, on the running loop and under the current context; returns at once.

        Raises:
            LifecycleError: It was started before.
        """
        if self._task is not None:
            raise LifecycleError(f"{self.name} was started before")
        from hastack.ratelimit import TokenBucket

        settings = self._settings
        self._loop = asyncio.get_running_loop()
        self._standing = _standing(
            self._source,
            self._destination,
            settings,
            self._journal,
            TokenBucket(
                self._rate, burst=self._burst, name=self.name, clock=context.current().clock
            ),
            self._loop.time(),
        )
        self._task = asyncio.create_task(self._run(self._standing))

    async def stop(self) -> None:
        """End, and let the origin's heartbeat go; what is mirrored stays. Twice does no harm."""
        if self._task is None:
            return
        self._task.cancel()
        await asyncio.wait({self._task})

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()

    async def _run(self, standing: Standing) -> None:
        try:
            await self._tenures(standing)
        finally:
            self._journal.phase = "stopped"

    async def _tenures(self, standing: Standing) -> None:
        """One tenure after the other, until the context ends."""
        loop = asyncio.get_running_loop()
        settings, journal = self._settings, self._journal
        backoff = backoff_of(settings)
        tries = 0
        while not context.current().done:
            began = loop.time()
            preempt = settings.preempt and not self._yielded
            self._tenure = Tenure(standing, preempt=preempt)
            try:
                await self._tenure.run()
            except Superseded as other:
                self._step_back(str(other))
                await asyncio.sleep(settings.ttl / 3.0 * (1.0 + random.random()))
            except Exception as error:
                tries = 1 if loop.time() - began > settings.backoff else tries + 1
                delay = backoff.ceiling(tries) * random.random()
                journal.error = f"destination: {error!r}"
                if FORWARDER_FAILED.subscribers:
                    FORWARDER_FAILED.publish(
                        ForwarderFailed(
                            origin=settings.origin,
                            part="destination",
                            error=error,
                            retry_in=delay,
                        )
                    )
                await asyncio.sleep(delay)

    def _step_back(self, writer: str) -> None:
        """Another forwarder has the origin: stand by, and no more take it from that one."""
        journal = self._journal
        if journal.phase != "standby":
            journal.superseded += 1
            if FORWARDER_SUPERSEDED.subscribers:
                FORWARDER_SUPERSEDED.publish(
                    ForwarderSuperseded(origin=self._settings.origin, writer=writer)
                )
        journal.phase = "standby"
        self._yielded = True

    # Saying how it stands

    def thaw(self) -> None:
        """Believe the deletions that self-preservation holds back. On the forwarder's loop."""
        if self._tenure is not None:
            self._tenure.thaw()

    def status(self) -> Status:
        """How it stands at this moment. On the forwarder's loop."""
        journal, standing, counts = self._journal, self._standing, self._journal.counts
        status = Status(
            origin=self._settings.origin,
            state=OriginState.STALE,
            phase=journal.phase,
            puts=counts.puts,
            deletes=counts.deletes,
            unchanged=counts.unchanged,
            coalesced=counts.coalesced,
            refused=counts.refused,
            connects=journal.connects,
            relists=journal.relists,
            superseded=journal.superseded,
            error=journal.error,
        )
        if standing is None or self._loop is None:
            return status
        now = self._loop.time()
        guard, plan = standing.guard, journal.plan
        status = attrs.evolve(
            status,
            state=standing.vigil.look(now),
            silence=standing.vigil.silence(now),
            frozen=guard.frozen,
            thaws_in=max(0.0, guard.thaws_at - now) if guard.frozen and guard.thaws_at else None,
        )
        if plan is None:
            return status
        return attrs.evolve(
            status,
            revision=plan.low,
            behind=plan.seen - plan.low,
            lag=plan.waited(now),
            mirrored=len(plan.mirror),
            pending=plan.pending,
            held=plan.held,
        )


def _standing(
    source: Store,
    destination: Store,
    settings: Settings,
    journal: Journal,
    rate: TokenBucket,
    now: float,
) -> Standing:
    guard = EvictionGuard(share=settings.share, window=settings.window)
    guard.interrupted(now)
    return Standing(
        source=source,
        destination=destination,
        settings=settings,
        journal=journal,
        writer=f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}",
        vigil=OriginVigil(
            policy=settings.policy,
            stale_after=settings.stale_after,
            grace=settings.grace,
            now=now,
        ),
        guard=guard,
        coalescer=Coalescer(settings.coalesce, capacity=settings.limits.instances),
        rate=rate,
    )


async def evict(
    store: Store,
    *,
    origin: str,
    eviction: Eviction,
    timeout: Seconds = 5.0,
    rate: QuotaLike = "5000/s",
) -> int:
    """Do by hand what a forwarder's policy would do, where no forwarder runs.

    A cluster that is gone for good leaves its mirror behind, and whoever forwarded it may be gone
    with it. What is written is fenced like everything that forwarders write: one that starts
    meanwhile takes over. A forwarder of that origin that is started later lists its source in full
    and brings the instances back.

    Args:
        store: Where the mirror is.
        origin: The cluster whose instances are mirrored.
        eviction: ``"drain"`` marks them as draining, ``"revoke"`` deletes them, ``"forget"`` also
            deletes how far it was forwarded: registries no longer know of that cluster.
        timeout: Seconds for one request.
        rate: Most writes.

    Returns:
        How many instances that changed.

    Raises:
        OriginHeld: A forwarder of that origin is alive, or was until its heartbeat expires.
        InvalidArgument: An argument is out of its range.
        StoreError: The store could not be reached or refused. Some of it may be done; asked again,
            it goes on.

    Example:
        >>> import asyncio
        >>> from hastack.discovery import federation, memory
        >>> asyncio.run(federation.evict(memory.Store(), origin="east", eviction="revoke"))
        0
    """
    from hastack.ratelimit import TokenBucket

    if eviction not in {"drain", "revoke", "forget"}:
        raise InvalidArgument("eviction", eviction, "'drain', 'revoke' or 'forget'")
    settings = Settings.of(origin=origin, timeout=timeout)
    bucket = TokenBucket(to_quota("rate", rate), burst=settings.limits.ops, name=f"evict-{origin}")
    now = asyncio.get_running_loop().time()
    standing = _standing(store, store, settings, Journal(), bucket, now)
    try:
        return await Tenure(standing, preempt=False).evict(eviction)
    except Superseded as other:
        raise OriginHeld(origin, str(other)) from None
