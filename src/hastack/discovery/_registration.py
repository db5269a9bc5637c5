"""One instance of this process, registered for as long as a block runs."""

from __future__ import annotations

import asyncio
import contextvars
import os
import time
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, final

import attrs

from hastack import context
from hastack._core import _validate
from hastack._core._errors import ClosedError, LifecycleError, StoreUnavailable
from hastack._core._portal import PORTAL
from hastack.lifecycle import Phase

from ._layout import InstanceKey
from ._probe import Prober
from ._probe_verdict import Verdict
from ._registration_rule import Standing
from ._registry_events import (
    DEREGISTERED,
    EVICTED,
    REGISTERED,
    RESTORED,
    InstanceDeregistered,
    InstanceEvicted,
    InstanceRegistered,
    InstanceRestored,
)
from ._registry_feed import FINAL

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator, Mapping
    from types import TracebackType

    from hastack._core._validate import Seconds
    from hastack.lifecycle import Lifecycle

    from ._instance import Instance
    from ._probe import Health
    from ._registry_book import Book
    from ._store import Kept

__all__ = ("Applied", "Registration", "State")

State: TypeAlias = Literal[
    "new", "waiting", "present", "draining", "unhealthy", "lost", "absent", "closed"
]

_RETRY = (0.1, 0.3, 1.0, 3.0)  # seconds between tries to register
_DELETE_AHEAD = 0.5  # seconds before the end of the lame duck at which the instance is gone


@final
class Applied:
    """A change that was asked for. Await it, `wait` for it, or let it take its course."""

    __slots__ = ("_registration", "_timeout")

    def __init__(self, registration: Registration, timeout: float) -> None:
        self._registration = registration
        self._timeout = timeout

    def wait(self, timeout: Seconds | None = None) -> None:
        """Block until the store has it.

        Args:
            timeout: Seconds at most; the registry's by default.

        Raises:
            StoreUnavailable: It has not, within that time.
        """
        limit = self._timeout if timeout is None else _validate.seconds("timeout", timeout)
        PORTAL.call(self._registration._settled, limit)

    def __await__(self) -> Generator[Any, None, None]:
        return PORTAL.run(self._registration._settled(self._timeout)).__await__()


@final
class Registration:
    """An instance that is offered for as long as a block runs. Made by `Registry.register`.

    Use it with ``async with`` or ``with``, or give it to `Lifecycle.add`. Entering returns when
    the store has it; leaving marks it as draining, lets clients move for the grace time, and
    deletes it. Whatever happens to the store in between, it comes back.
    """

    def __init__(
        self,
        instance: Instance,
        *,
        book: Callable[[], Book],
        timeout: float,
        ttl: float,
        grace: float,
        health: Health | None,
        when_unhealthy: Literal["remove", "drain"],
        lifecycle: Lifecycle | None,
        wait: bool,
    ) -> None:
        self.key = InstanceKey(
            "reg", instance.origin, instance.namespace, instance.service, instance.id
        ).to_bytes()
        self.name = f"discovery {instance.service}"  # as a component of a lifecycle
        self._instance = instance
        self._open_book = book
        self._timeout = timeout
        self._ttl = ttl
        self._grace = grace
        self._health = health
        self._lifecycle = lifecycle
        self._wait = wait
        self._standing = Standing(
            serving=lifecycle is None,
            healthy=True if health is None else None,
            when_unhealthy=when_unhealthy,
        )
        self._pid = 0  # of the process that entered it
        self._book: Book | None = None
        self._home: asyncio.AbstractEventLoop | None = None
        self._unfollow: Callable[[], None] | None = None
        # From here on: the portal's loop only.
        self._kept: Kept | None = None
        self._kept_value = b""
        self._task: asyncio.Task[None] | None = None
        self._prober: asyncio.Task[None] | None = None
        self._leaving: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        self._settling = asyncio.Event()
        self._gone = asyncio.Event()
        self._error: BaseException | None = None
        self._refused: Exception | None = None  # for whoever waits: trying again would not help
        self._announced = False
        self._clean = True
        self._lost_at: float | None = None
        self._unhealthy_at: float | None = None
        self._probe_error: BaseException | None = None
        self._gone_timer: asyncio.TimerHandle | None = None

    # Looking at it ----------------------------------------------------------------------

    @property
    def instance(self) -> Instance:
        """The instance as it is offered, or would be."""
        draining = self._standing.presence == "draining"
        return attrs.evolve(self._instance, draining=draining)

    @property
    def present(self) -> bool:
        """Whether the store was last known to hold it."""
        kept = self._kept
        return kept is not None and kept.present

    @property
    def healthy(self) -> bool | None:
        """What its probes say; ``None`` before the first answer, true without a probe."""
        return self._standing.healthy

    @property
    def error(self) -> BaseException | None:
        """What the last probe or the store said, when it was not well."""
        return self._probe_error or self._error

    @property
    def state(self) -> State:
        """Where it stands.

        ``"new"`` before the block, ``"waiting"`` for the service to serve, the first probe or the
        store, ``"present"``, ``"draining"``, ``"unhealthy"``, ``"lost"`` while the store does not
        hold it although it should, ``"absent"`` once withdrawn, ``"closed"`` after the block.
        """
        standing = self._standing
        if not self._pid:
            return "new"
        if not standing.open:
            return "closed" if self._task is None else "draining"
        if standing.evicted:
            return "unhealthy"
        wanted = standing.presence
        if wanted == "absent":
            return "absent" if standing.gone else "waiting"
        if not self.present:
            return "lost" if self._announced else "waiting"
        return wanted

    def __repr__(self) -> str:
        one = self._instance
        return f"<Registration {one.service}/{one.id} at {one.address}: {self.state}>"

    # Changing it ------------------------------------------------------------------------

    def update(
        self,
        *,
        address: str | None = None,
        metadata: Mapping[str, str] | None = None,
        weight: float | None = None,
        zone: str | None = None,
    ) -> Applied:
        """Change what is offered; what is not given stays.

        Returns:
            Await it, or ``wait()`` for it, to know that the store has it.

        Raises:
            InvalidArgument: A value is none that an `Instance` takes.
        """
        given = {"address": address, "metadata": metadata, "weight": weight, "zone": zone}
        changes: dict[str, Any] = {name: v for name, v in given.items() if v is not None}
        changed = attrs.evolve(self._instance, **changes)
        changed.to_bytes()
        self._instance = changed
        return self._apply()

    def draining(self, on: bool = True) -> Applied:  # reads as a switch
        """Say that it wants nothing new, or that it does again."""
        return self._apply(draining=on)

    def _apply(self, **changes: Any) -> Applied:
        def apply() -> None:
            self._stand(**changes)

        if self._pid == os.getpid():
            PORTAL.loop.call_soon_threadsafe(apply)
        else:
            self._standing = attrs.evolve(self._standing, **changes)
        return Applied(self, self._timeout)

    # The block --------------------------------------------------------------------------

    async def __aenter__(self) -> Registration:
        self._begin(asyncio.get_running_loop())
        try:
            await PORTAL.run(self._entered())
        except BaseException:
            self._abandon()
            raise
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._pid != os.getpid():
            return
        # Set going before anything is awaited: what is cancelled there may never have begun.
        PORTAL.loop.call_soon_threadsafe(self._begin_leaving)
        try:
            await PORTAL.run(self._left())
        except asyncio.CancelledError:
            PORTAL.loop.call_soon_threadsafe(self._withdraw)
            raise

    def __enter__(self) -> Registration:
        self._begin(None)
        try:
            PORTAL.call(self._entered)
        except BaseException:
            self._abandon()
            raise
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._pid == os.getpid():
            # The end of the call must not keep it from being cleaned up behind.
            PORTAL.call(self._left, ctx=context.without_cancel())

    # As a component of a lifecycle ------------------------------------------------------

    def start(self) -> None:
        """Register, or with ``lifecycle=`` be ready to as soon as it serves."""
        self.__enter__()

    def drain(self) -> None:
        """Deregister. Components that this one depends on drain after that."""
        if self._pid == os.getpid():
            PORTAL.call(self._left)

    def stop(self) -> None:
        """Deregister at once, if `drain` did not."""
        if self._pid == os.getpid():
            PORTAL.call(self.leave, 0.0)

    # From here on: the portal's loop ----------------------------------------------------

    def _begin(self, home: asyncio.AbstractEventLoop | None) -> None:
        if self._pid:
            raise LifecycleError(f"{self!r} was entered before: register anew")
        self._book = self._open_book()
        self._home = home
        self._pid = os.getpid()

    def _abandon(self) -> None:
        """Entering failed; whatever was begun ends in the background."""
        with context.using(context.background()):
            PORTAL.spawn(self.leave(0.0), name="hastack-deregister")

    async def _entered(self) -> None:
        assert self._book is not None
        self._book.enter(self)
        if self._lifecycle is not None:
            self._follow(self._lifecycle)
        self._standing = attrs.evolve(self._standing, open=True)
        # It outlives the call that entered the block: nobody's deadline, nobody's trace.
        contextvars.Context().run(self._begin_tasks)
        if self._wait:
            await self._settled(self._timeout)

    def _begin_tasks(self) -> None:
        loop = asyncio.get_running_loop()
        self._task = loop.create_task(self._live(), name=f"hastack-{self.name}")
        if self._health is not None:
            self._prober = loop.create_task(
                self._probe(self._health), name=f"hastack-probe {self._instance.service}"
            )

    async def _settled(self, timeout: float) -> None:
        """Return once the store holds what it should, or nobody wants it to."""
        task, ctx = self._task, context.current()
        if task is None:
            raise ClosedError(self.name)
        await asyncio.sleep(0)  # what was asked for a moment ago is taken up first
        try:
            async with context.timeout(timeout):
                while not self._settling.is_set():
                    await self._settling.wait()
                    if self._refused is not None:
                        error, self._refused = self._refused, None
                        self._settling.clear()
                        raise error
        except TimeoutError:
            if ctx.done:
                raise
            said = "" if self._error is None else f": {self._error}"
            raise StoreUnavailable(
                f"{self._instance.service!r} could not be registered within {timeout:.3g} s{said}"
            ) from self._error

    def _stand(self, **changes: Any) -> None:
        """Something has happened that may decide whether it is offered."""
        before = self._standing
        self._standing = now = attrs.evolve(before, **changes)
        self._settling.clear()
        self._changed.set()
        if now.evicted and not before.evicted and self._announced:
            self._unhealthy_at = time.monotonic()
            if EVICTED.subscribers:
                EVICTED.publish(
                    InstanceEvicted(
                        instance=self._instance, reason="unhealthy", error=self._probe_error
                    )
                )

    async def _live(self) -> None:
        """Have the store hold what it should, until the block has been left."""
        failures = 0
        try:
            while True:
                self._changed.clear()
                try:
                    if not await self._reconcile(self._standing.presence):
                        continue
                except Exception as error:
                    self._error = error
                    if isinstance(error, FINAL):
                        self._refused = error
                        self._settling.set()
                    pause = _RETRY[min(failures, len(_RETRY) - 1)]
                    failures += 1
                    await self._unless_changed(asyncio.sleep(pause))
                    continue
                failures, self._error, self._refused = 0, None, None
                if not self._changed.is_set():
                    if not self._standing.undecided:
                        self._settling.set()
                    if not self._standing.open:
                        return
                    await self._changed.wait()
        finally:
            await self._release()
            self._departed()

    async def _unless_changed(self, work: Coroutine[Any, Any, None]) -> bool:
        """Do ``work``; give it up when what is wanted changes. Says whether it was done."""
        loop = asyncio.get_running_loop()
        doing = loop.create_task(work)
        changing = loop.create_task(self._changed.wait())
        try:
            await asyncio.wait((doing, changing), return_when=asyncio.FIRST_COMPLETED)
        finally:
            changing.cancel()
            if not doing.done():
                doing.cancel()
                await asyncio.wait((doing,))
        if doing.cancelled():
            return False
        doing.result()
        return True

    async def _reconcile(self, wanted: str) -> bool:
        """Have the store hold what is wanted; says whether it does, or more has changed."""
        if wanted == "absent":
            # Not given up halfway: what is not deleted now would stay until its lease ends.
            await self._release()
            if not self._standing.evicted:
                self._departed()
            return True
        value = self.instance.to_bytes()
        if self._kept is None:
            done = await self._unless_changed(self._keep(value))
        elif value != self._kept_value:
            done = await self._unless_changed(self._kept.set(value))
        else:
            done = True
        if done:
            self._kept_value = value
            self._arrived()
        return done

    async def _keep(self, value: bytes) -> None:
        assert self._book is not None
        kept = self._book.store.keep(self.key, value, ttl=self._ttl)
        await kept.__aenter__()
        self._kept = kept

    async def _release(self) -> None:
        """Take it out of the store; without the store, its lease does that."""
        kept, self._kept = self._kept, None
        if kept is None:
            return
        self._clean = kept.present
        try:
            await kept.__aexit__(None, None, None)
        except Exception as error:
            self._error, self._clean = error, False

    def _arrived(self) -> None:
        if not self._announced:
            self._announced = True
            if REGISTERED.subscribers:
                REGISTERED.publish(InstanceRegistered(instance=self.instance))
        elif self._unhealthy_at is not None and not self._standing.evicted:
            since, self._unhealthy_at = self._unhealthy_at, None
            self._restored("unhealthy", time.monotonic() - since)

    def _departed(self) -> None:
        if self._announced:
            self._announced = False
            if DEREGISTERED.subscribers:
                DEREGISTERED.publish(
                    InstanceDeregistered(instance=self.instance, clean=self._clean)
                )

    def check(self) -> None:
        """Say when the store has lost it, and when it is back; called now and then."""
        now = time.monotonic()
        kept = self._kept
        if kept is None:
            self._lost_at = None
        elif kept.present:
            if self._lost_at is not None:
                since, self._lost_at = self._lost_at, None
                self._restored("lost", now - since)
        elif self._lost_at is None:
            self._lost_at = now
            if EVICTED.subscribers:
                EVICTED.publish(InstanceEvicted(instance=self.instance, reason="lost"))

    def _restored(self, reason: Literal["unhealthy", "lost"], after: float) -> None:
        if RESTORED.subscribers:
            RESTORED.publish(InstanceRestored(instance=self.instance, reason=reason, after=after))

    # Health -----------------------------------------------------------------------------

    async def _probe(self, health: Health) -> None:
        prober, verdict = Prober(health, self._home), Verdict()
        while True:
            began = time.monotonic()
            self._probe_error = await prober.ask()
            verdict = verdict.after(self._probe_error is None, health.thresholds)
            if verdict.healthy != self._standing.healthy:
                self._stand(healthy=verdict.healthy)
            await asyncio.sleep(max(0.0, began + health.interval - time.monotonic()))

    # A lifecycle ------------------------------------------------------------------------

    def _follow(self, lifecycle: Lifecycle) -> None:
        loop = asyncio.get_running_loop()

        def entered(phase: Phase) -> None:
            try:
                loop.call_soon_threadsafe(self._phase, phase)
            except RuntimeError:
                pass  # the interpreter exits

        self._unfollow = lifecycle.on_phase(entered)
        self._phase(lifecycle.phase)

    def _phase(self, phase: Phase) -> None:
        if phase is Phase.SERVING:
            self._stand(serving=True)
        elif phase is Phase.LAME_DUCK:
            assert self._lifecycle is not None
            self._stand(leaving=True)
            # Gone a little before the listeners close, for clients to hear of it in time.
            lame_duck = self._lifecycle.times.lame_duck
            delay = max(lame_duck - _DELETE_AHEAD, lame_duck / 2)
            self._gone_timer = asyncio.get_running_loop().call_later(delay, self._withdraw)
        elif phase in {Phase.DRAINING, Phase.STOPPING, Phase.STOPPED}:
            self._withdraw()

    def _withdraw(self) -> None:
        self._gone.set()
        self._stand(leaving=True, gone=True)

    # Leaving ----------------------------------------------------------------------------

    def _begin_leaving(self) -> None:
        if self._leaving is None:
            self._leaving = asyncio.get_running_loop().create_task(self.leave(self._grace))

    async def _left(self) -> None:
        """Leave with the grace time; cancelled, leave at once."""
        self._begin_leaving()
        assert self._leaving is not None
        try:
            await asyncio.shield(self._leaving)
        except asyncio.CancelledError:
            self._withdraw()
            await asyncio.wait((self._leaving,))
            raise

    async def leave(self, grace: float) -> None:
        """Mark it as draining, wait ``grace`` seconds, delete it. Never longer than the lease."""
        if self._unfollow is not None:
            self._unfollow()
            self._unfollow = None
        task = self._task
        if task is None:
            self._forget()
            return
        if self._kept is not None and self._standing.presence != "absent" and grace > 0.0:
            self._stand(leaving=True)
            try:
                async with asyncio.timeout(grace):
                    await self._gone.wait()
            except TimeoutError:
                pass
        self._stand(open=False)
        if self._prober is not None:
            self._prober.cancel()
        await asyncio.wait((task,), timeout=min(self._ttl, self._timeout))
        if not task.done():
            task.cancel()
            await asyncio.wait((task,), timeout=1.0)
        self._task = None
        self._forget()

    def _forget(self) -> None:
        if self._gone_timer is not None:
            self._gone_timer.cancel()
        self._standing = attrs.evolve(self._standing, open=False)
        if self._book is not None:
            self._book.leave(self)
