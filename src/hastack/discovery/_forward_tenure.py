"""Writing one origin's mirror, for as long as this forwarder is the one that may.

Two conditions stand before every write: the origin's heartbeat key hangs on this forwarder's lease,
and the token is the one that this forwarder wrote or read last. Whoever took over in between, and
whatever write of an earlier life arrives late, thereby makes the next write fail, and everything
begins again from what the destination holds.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Literal, NoReturn, TypeAlias, final

import attrs

from hastack._core._errors import LeaseLost, StoreError

from ._forward_events import (
    EVICTION_FROZEN,
    EVICTION_THAWED,
    ORIGIN_CHANGED,
    EvictionFrozen,
    EvictionThawed,
    OriginChanged,
)
from ._forward_plan import Plan
from ._forward_source import Follower
from ._forward_token import Token
from ._layout import checkpoint, heartbeat
from ._origin import Heartbeat, OriginState
from ._records import Compare, Delete, Get, Put, RangeResult, prefix_end

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence
    from typing import Any

    from hastack.ratelimit import TokenBucket

    from ._coalesce import Coalescer
    from ._forward_plan import Chunk
    from ._forward_settings import Journal, Settings
    from ._origin import OriginVigil
    from ._origin_guard import EvictionGuard
    from ._records import KeyValue, Op, OpResult
    from ._store import Lease, Store

__all__ = ("Eviction", "Standing", "Superseded", "Tenure")

Eviction: TypeAlias = Literal["drain", "revoke", "forget"]


class Superseded(Exception):
    """Another forwarder has this origin now."""


@attrs.frozen(kw_only=True)
class Standing:
    """What outlives a tenure: the ends of the bridge, its rules and its memory."""

    source: Store
    destination: Store
    settings: Settings
    journal: Journal
    writer: str
    vigil: OriginVigil
    guard: EvictionGuard
    coalescer: Coalescer
    rate: TokenBucket


@final
class Tenure:
    """From taking an origin over in the destination to losing it."""

    def __init__(self, standing: Standing, *, preempt: bool) -> None:
        self._standing = standing
        self._preempt = preempt
        self._wake = asyncio.Event()
        self._token_revision = 0
        self._said_at = float("-inf")
        self._state: OriginState | None = None
        self._was_frozen = False
        self._checked_at = 0.0
        self._follower: Follower | None = None

    async def run(self) -> None:
        """Take over, forward until something fails, let go.

        Raises:
            Superseded: Another forwarder holds the origin, or took it over.
            StoreError: The destination failed.
        """
        standing = self._standing
        standing.journal.phase = "claiming"
        timeout = standing.settings.timeout
        here = (await standing.destination.identity(timeout=timeout)).cluster
        await self._refuse_own_origin()
        async with standing.destination.lease(standing.settings.ttl) as lease:
            await self._claim(lease)
            token, plan = await self._load()
            standing.journal.plan = plan
            follower = self._follower = Follower(
                standing.source,
                standing.settings,
                plan,
                token,
                journal=standing.journal,
                wake=self._wake.set,
                interrupted=self._interrupted,
                here=here,
            )
            await _first(
                follower.run(), self._write(lease, plan, follower), self._watch_over(lease, plan)
            )

    async def evict(self, eviction: Eviction) -> int:
        """Take over without a source, do something about the mirror as a whole, let go.

        Returns:
            How many instances that changed.

        Raises:
            Superseded: Another forwarder holds the origin, or took it over.
            StoreError: The destination failed.
        """
        standing = self._standing
        now = asyncio.get_running_loop().time()
        async with standing.destination.lease(standing.settings.ttl) as lease:
            await self._claim(lease)
            token, plan = await self._load()
            if eviction == "drain":
                plan.drain(now)
            else:
                plan.revoke(now)
            changed = plan.pending
            place = token or Token(cluster=0)
            while plan.ready:
                room = min(plan.ready, standing.settings.limits.ops)
                await standing.rate.acquire_async(cost=room)
                chunk = plan.take(now, room)
                assert chunk is not None
                await self._commit(lease, chunk, place)
            if eviction == "forget":
                gone = Delete(checkpoint(standing.settings.origin))
                await self._fenced(lease, [gone], and_token=True)
        return changed

    # Taking over

    async def _refuse_own_origin(self) -> None:
        """One name for two clusters would mix their instances up."""
        settings = self._standing.settings
        own = await self._standing.destination.range(
            settings.exported, prefix=True, count_only=True, limit=1, timeout=settings.timeout
        )
        if own.count:
            raise StoreError(f"instances of {settings.origin!r} are registered in the destination")

    async def _claim(self, lease: Lease) -> None:
        """Hang the origin's heartbeat on ``lease``."""
        standing = self._standing
        key, timeout = heartbeat(standing.settings.origin), standing.settings.timeout
        held = await standing.destination.get(key, timeout=timeout)
        if held is not None and held.lease != lease.id:
            holder = Heartbeat.parse(held.value).writer
            if holder != standing.writer and not self._preempt:
                raise Superseded(holder)
        beat = Heartbeat(OriginState.STALE, standing.writer).to_bytes()
        unchanged = Compare(key, "mod_revision", "==", 0 if held is None else held.mod_revision)
        claimed = await standing.destination.txn(
            [unchanged], [Put(key, beat, lease=lease.id)], timeout=timeout
        )
        if not claimed.succeeded:
            raise StoreError("the heartbeat changed while it was claimed")

    async def _load(self) -> tuple[Token | None, Plan]:
        """The token and the mirror, as of one revision."""
        standing = self._standing
        settings, store = standing.settings, standing.destination
        found = await store.range(checkpoint(settings.origin), timeout=settings.timeout)
        token = None
        if found.kvs:
            token = Token.parse(found.kvs[0].value)
            self._token_revision = found.kvs[0].mod_revision
        mirror: dict[bytes, bytes] = {}
        key, end = settings.mirrored, prefix_end(settings.mirrored)
        while True:
            part = await store.range(
                key,
                end=end,
                revision=found.revision,
                limit=settings.page,
                timeout=settings.timeout,
            )
            mirror.update((kv.key, kv.value) for kv in part.kvs)
            if not part.more or not part.kvs:
                break
            key = part.kvs[-1].key + b"\0"
        plan = Plan(
            mirror,
            low=0 if token is None else token.low,
            high=0 if token is None else token.high,
            coalescer=standing.coalescer,
            guard=standing.guard,
            limits=settings.limits,
            counts=standing.journal.counts,
        )
        return token, plan

    # Writing

    async def _write(self, lease: Lease, plan: Plan, follower: Follower) -> None:
        loop = asyncio.get_running_loop()
        standing = self._standing
        while True:
            self._wake.clear()
            now = loop.time()
            due = plan.next_due()
            if plan.ready or (due is not None and due <= now):
                room = min(max(plan.ready, 1), standing.settings.limits.ops)
                await standing.rate.acquire_async(cost=room)
                chunk = plan.take(loop.time(), room)
                if chunk is not None:
                    await self._commit(lease, chunk, follower.place)
                continue
            say_at = self._said_at + standing.settings.checkpoint if plan.unsaid else None
            if say_at is not None and say_at <= now:
                await self._commit(lease, plan.say(), follower.place)
                continue
            times = [at - now for at in (due, say_at) if at is not None]
            await self._sleep(min(times, default=None))

    async def _sleep(self, seconds: float | None) -> None:
        """Until there is something new to write, or for ``seconds``."""
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            pass

    async def _commit(self, lease: Lease, chunk: Chunk, place: Token) -> None:
        """Write a chunk and its token, or neither."""
        standing = self._standing
        origin = standing.settings.origin
        token = attrs.evolve(place, low=chunk.low, high=chunk.high, writer=standing.writer)
        ops: list[Op] = [
            Delete(change.key) if change.value is None else Put(change.key, change.value)
            for change in chunk.changes
        ]
        ops.append(Put(checkpoint(origin), token.to_bytes()))
        revision = await self._fenced(lease, ops, and_token=True)
        self._token_revision = revision
        self._said_at = asyncio.get_running_loop().time()

    async def _fenced(self, lease: Lease, ops: Sequence[Op], *, and_token: bool) -> int:
        """Run ``ops`` if this forwarder still has the origin; the answer is the revision."""
        settings = self._standing.settings
        beat, token = heartbeat(settings.origin), checkpoint(settings.origin)
        conditions = [Compare(beat, "lease", "==", lease.id)]
        if and_token:
            conditions.append(Compare(token, "mod_revision", "==", self._token_revision))
        done = await self._standing.destination.txn(
            conditions, ops, [Get(beat)], timeout=settings.timeout
        )
        if not done.succeeded:
            self._lost(lease, done.results[0])
        return done.revision

    def _lost(self, lease: Lease, found: OpResult) -> NoReturn:
        assert isinstance(found, RangeResult)
        self._check_holder(lease, found.kvs[0] if found.kvs else None)
        raise StoreError("a write of an earlier life of this forwarder came in between")

    def _check_holder(self, lease: Lease, kv: KeyValue | None) -> None:
        if kv is None:
            raise LeaseLost("the heartbeat of the origin is gone", lease=lease.id)
        if kv.lease != lease.id:
            raise Superseded(Heartbeat.parse(kv.value).writer)

    # Watching over it

    def _interrupted(self) -> None:
        self._standing.guard.interrupted(asyncio.get_running_loop().time())

    async def _watch_over(self, lease: Lease, plan: Plan) -> None:
        """Twice a second: the lease, the origin's state, a freeze, and who has the heartbeat."""
        settings = self._standing.settings
        loop = asyncio.get_running_loop()
        self._checked_at = loop.time()
        while True:
            if lease.context.done:
                raise LeaseLost(f"lost the lease: {lease.context.cause()}", lease=lease.id)
            now = loop.time()
            if self._look(plan, now):
                await self._beat(lease)
            elif now - self._checked_at >= settings.ttl / 3.0:
                self._checked_at = now
                key = heartbeat(settings.origin)
                held = await self._standing.destination.get(key, timeout=settings.timeout)
                self._check_holder(lease, held)
            await asyncio.sleep(settings.tick)

    def _look(self, plan: Plan, now: float) -> bool:
        """Let the states move on; whether the origin's did."""
        standing = self._standing
        vigil, guard = standing.vigil, standing.guard
        assert self._follower is not None
        age = self._follower.age
        if age is not None:
            vigil.heard(now - age)
        state = vigil.look(now)
        if state is not OriginState.LIVE:
            guard.interrupted(now)
        if guard.look(now):
            plan.let_go(now)
            self._wake.set()
        self._note_freeze(plan, now)
        if plan.wants_listing:
            self._follower.relist("room")
        before, self._state = self._state, state
        if before is state:
            return False
        self._carry_out(plan, state, now)
        known, standing.journal.state = standing.journal.state, state
        if ORIGIN_CHANGED.subscribers and known is not state:
            ORIGIN_CHANGED.publish(
                OriginChanged(
                    origin=standing.settings.origin,
                    before=known,
                    after=state,
                    silence=vigil.silence(now),
                )
            )
        return True

    def _carry_out(self, plan: Plan, state: OriginState, now: float) -> None:
        if state is OriginState.DRAINED:
            plan.drain(now)
        elif state is OriginState.REVOKED:
            plan.revoke(now)
        elif state is OriginState.LIVE and plan.spoiled:
            assert self._follower is not None
            self._follower.relist("returned")
        self._wake.set()

    def _note_freeze(self, plan: Plan, now: float) -> None:
        guard, origin = self._standing.guard, self._standing.settings.origin
        was, self._was_frozen = self._was_frozen, guard.frozen
        if was is guard.frozen:
            return
        if guard.frozen and EVICTION_FROZEN.subscribers:
            EVICTION_FROZEN.publish(
                EvictionFrozen(
                    origin=origin,
                    missing=guard.missing,
                    held=plan.held,
                    population=len(plan.mirror),
                    thaws_in=max(0.0, (guard.thaws_at or now) - now),
                )
            )
        elif not guard.frozen and EVICTION_THAWED.subscribers:
            EVICTION_THAWED.publish(EvictionThawed(origin=origin, population=len(plan.mirror)))

    async def _beat(self, lease: Lease) -> None:
        """Say in the destination how the origin stands."""
        standing = self._standing
        assert self._state is not None
        beat = Heartbeat(self._state, standing.writer).to_bytes()
        key = heartbeat(standing.settings.origin)
        await self._fenced(lease, [Put(key, beat, lease=lease.id)], and_token=False)

    def thaw(self) -> None:
        """End a freeze now."""
        plan = self._standing.journal.plan
        if plan is not None and self._standing.guard.thaw():
            plan.let_go(asyncio.get_running_loop().time())
            self._wake.set()


async def _first(*parts: Coroutine[Any, Any, None]) -> None:
    """Run all until one ends, end the others, and raise what that one raised."""
    tasks = [asyncio.create_task(part) for part in parts]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        # Gathered, so that what the others raise on their way out counts as seen.
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()
