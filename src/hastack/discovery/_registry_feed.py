"""What this process knows of one service. Lives on the portal's loop; any thread may read.

One watch of the store per origin that has the service feeds any number of subscribers.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Protocol, final

import attrs

from hastack._core._errors import StoreError

from ._layout import service_prefix
from ._registry_changes import ChangeLog, difference
from ._registry_events import (
    CONTESTED,
    FRESH,
    MALFORMED,
    SETTLED,
    STALE,
    InstanceContested,
    InstanceSettled,
    MalformedEntry,
    WatchFresh,
    WatchStale,
)
from ._registry_view import Source, View

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterable

    from ._instance import Instance
    from ._records import Batch
    from ._registry_changes import Change
    from ._registry_view import Contest
    from ._store import Store, Watch

__all__ = ("FINAL", "Follower", "Known", "Resolved", "ServiceFeed", "Subscriber", "Wakes")

_log = logging.getLogger("hastack.discovery")

_RETRY = (0.1, 0.3, 1.0, 3.0)  # seconds between tries to open a watch that failed

FINAL = (PermissionError, ImportError, ValueError, RuntimeError)
"""Errors of a store that the next try would only give again: a refusal, a missing package, a client
that cannot be used, after a fork or because it is closed."""


@final
@attrs.frozen(kw_only=True)
class Resolved:
    """The instances of a service, and how well they are known.

    Attributes:
        instances: One per id, in the order of their ids; those that drain included.
        age: Seconds since this was last certain to be what the store holds.
        revision: The store's revision.
        complete: Everything that the store holds has been heard; false with what came from the
            cache file, or while a newly federated origin is being read.
        stale: Origins of mirrored instances whose forwarder is out of reach.
    """

    instances: tuple[Instance, ...]
    age: float
    revision: int
    complete: bool
    stale: frozenset[str] = frozenset()


@attrs.frozen
class Known:
    """One state of a feed; replaced as a whole, so that any thread may look."""

    instances: tuple[Instance, ...]
    revision: int
    complete: bool
    stale: frozenset[str]


class Wakes:
    """Who waits: whom to wake, with one call into each loop and not one per subscriber.

    Whoever waits enters first and then looks once more whether there is something new, and what is
    new is there before anybody is woken: so none is missed, in whatever thread.
    """

    def __init__(self) -> None:
        self._futures: dict[asyncio.AbstractEventLoop, dict[object, asyncio.Future[None]]] = {}
        self._threads: dict[object, threading.Event] = {}

    def add(
        self, who: object, loop: asyncio.AbstractEventLoop, future: asyncio.Future[None]
    ) -> None:
        """Have ``future``, of the running ``loop``, done with the next `send`."""
        waiting = self._futures.get(loop)
        if waiting is None:
            waiting = self._futures[loop] = {}
        waiting[who] = future  # in the place of one that was given up

    def add_thread(self, who: object, news: threading.Event) -> None:
        """Have ``news`` set with the next `send`."""
        self._threads[who] = news

    def send(self) -> None:
        """Wake all, who are then forgotten."""
        found, self._futures = self._futures, {}
        for loop, futures in list(found.items()):  # somebody may be about to enter
            try:
                loop.call_soon_threadsafe(_resolve_all, futures)
            except RuntimeError:
                pass  # that loop is closed, and those who waited on it are gone
        if self._threads:
            threads, self._threads = self._threads, {}
            for news in list(threads.values()):
                news.set()


def _resolve_all(futures: dict[object, asyncio.Future[None]]) -> None:
    for future in futures.values():
        if not future.done():
            future.set_result(None)


class Subscriber(Protocol):
    """Somebody who is told of changes, on the portal's loop. Must be quick."""

    def _take_up(self, log: ChangeLog, wakes: Wakes) -> None:
        """What is known at first. What follows is in the log, and ``wakes`` tells of it."""
        ...

    def _hear(self, known: Known) -> None:
        """Something happened next."""
        ...

    def _let_go(self, what: str) -> None:
        """Nothing will follow: ``what`` was closed."""
        ...


async def follow_prefix(store: Store, prefix: bytes, follower: Follower) -> None:
    """Watch ``prefix`` for ever, whatever happens to the watch."""
    failures = 0
    while True:
        error: Exception = StoreError("the watch has ended")
        try:
            async with store.watch(prefix, prefix=True) as watch:
                follower.opened(watch)
                try:
                    fresh = True
                    async for batch in watch:
                        follower.took(batch, fresh)
                        fresh = False
                        failures = 0
                finally:
                    follower.lost()
        except Exception as caught:
            error = caught
        follower.failed(error)
        await asyncio.sleep(_RETRY[min(failures, len(_RETRY) - 1)])
        failures += 1


class Follower:
    """One watch of the store, opened again whenever it is lost.

    Attributes:
        heard: It has said what there is, ever.
        error: Why the watch was lost, while it is.
    """

    def __init__(
        self,
        store: Store,
        prefix: bytes,
        take: Callable[[Batch, bool], None],
        *,
        certain_at: float,
        failed: Callable[[], None],
    ) -> None:
        self.heard = False
        self.error: BaseException | None = None
        self._watch: Watch | None = None  # one that has said what there is
        self._opened: Watch | None = None
        self._certain_at = certain_at
        self._take = take
        self._failed = failed
        self._closed = False
        self.task = asyncio.get_running_loop().create_task(
            follow_prefix(store, prefix, self), name=f"hastack-follow-{prefix.decode()}"
        )

    def age(self, now: float) -> float:
        """Seconds since what it says was last certain; any thread may ask."""
        watch = self._watch
        return max(0.0, now - self._certain_at if watch is None else watch.age)

    @property
    def trouble(self) -> Exception | None:
        """Why the watch hears nothing, as far as it knows."""
        watch = self._opened
        return None if watch is None else watch.trouble

    def close(self) -> None:
        """Say nothing more."""
        self._closed = True
        self.task.cancel()

    def opened(self, watch: Watch) -> None:
        self._opened = watch

    def took(self, batch: Batch, fresh: bool) -> None:
        if self._closed:
            return
        self._watch = self._opened
        self.heard = True
        self.error = None
        try:
            self._take(batch, fresh)
        except Exception:
            # A mistake here must not end the watch: the next resync sets the view right.
            _log.exception("a batch of %s could not be taken in", self.task.get_name())

    def lost(self) -> None:
        if self._watch is not None:
            self._certain_at = time.monotonic() - self._watch.age
        self._watch = self._opened = None

    def failed(self, error: Exception) -> None:
        self.error = error
        self._failed()


@final
class ServiceFeed:
    """Everything about one service.

    Attributes:
        known: What is known; ``None`` before anything is.
        live: `known` comes from the store, not from a cache.
        settled: `known` may be handed out without waiting for better.
        ready: Set when there is reason to look again.
        used_at: Monotonic time of its last use.
    """

    def __init__(
        self,
        store: Store,
        service: str,
        *,
        namespace: str,
        origin: str,
        known: Known | None = None,
        certain_at: float | None = None,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self.service = service
        self.namespace = namespace
        self.known = known
        self.live = False
        self.settled = False
        self.used_at = time.monotonic()
        self.ready = asyncio.Event()
        self._store = store
        self._changed = changed
        self._view = View()
        self._home = Source("reg", origin)
        self._started = self.used_at if certain_at is None else certain_at
        # Replaced, never changed in place: read by any thread.
        self._followers: dict[Source, Follower] = {}
        self._subscribers: dict[int, Subscriber] = {}
        self._log: ChangeLog | None = None if known is None else ChangeLog(known)
        self._wakes = Wakes()
        self._origins_known = False
        self._told_stale: float | None = None
        self._contests: dict[str, Contest] = {}
        self._review: asyncio.TimerHandle | None = None
        self._follow(self._home)

    # From any thread --------------------------------------------------------------------

    def age(self) -> float:
        """Seconds since what is known was last certain to be current."""
        now = time.monotonic()
        if not self.live:
            return max(0.0, now - self._started)
        return max((each.age(now) for each in self._followers.values()), default=0.0)

    def resolved(self) -> Resolved:
        """What is known, and how well."""
        known = self.known
        assert known is not None
        return Resolved(
            instances=known.instances,
            age=self.age(),
            revision=known.revision,
            complete=known.complete,
            stale=known.stale,
        )

    @property
    def error(self) -> BaseException | None:
        """What the store said last when a watch was lost, or why it says nothing."""
        found = (each.error or each.trouble for each in self._followers.values())
        return next((each for each in found if each is not None), None)

    @property
    def in_use(self) -> bool:
        """Whether somebody is subscribed."""
        return bool(self._subscribers)

    # On the portal's loop ---------------------------------------------------------------

    def subscribe(self, subscriber: Subscriber) -> None:
        """Tell ``subscriber`` what is known, once something is, and what follows."""
        self._subscribers[id(subscriber)] = subscriber
        if self._log is not None:
            subscriber._take_up(self._log, self._wakes)

    def unsubscribe(self, subscriber: Subscriber) -> None:
        """Tell it nothing more."""
        self._subscribers.pop(id(subscriber), None)
        self.used_at = time.monotonic()

    def set_origins(self, mirrored: Iterable[str], stale: Iterable[str]) -> None:
        """Say which origins are mirrored here, and which of them are out of reach."""
        self._origins_known = True
        wanted = {Source("mir", each) for each in mirrored if each != self._home.origin}
        changes: list[Change] = []
        for source in wanted - self._followers.keys():
            self._follow(source)
        for source in self._followers.keys() - wanted - {self._home}:
            self._unfollow(source)
            changes += self._view.drop(source, wall=time.time())
        changes += self._view.set_stale(
            {each for each in stale if each != self._home.origin}, wall=time.time()
        )
        self._settle(changes)

    def check(self, stale_after: float) -> None:
        """Say when what is known turns stale or fresh; called now and then."""
        age = self.age()
        if age > stale_after:
            if self._told_stale is None:
                self._told_stale = time.monotonic() - age
                if STALE.subscribers:
                    STALE.publish(
                        WatchStale(
                            service=self.service,
                            namespace=self.namespace,
                            age=age,
                            error=self.error,
                        )
                    )
        elif self._told_stale is not None:
            since, self._told_stale = self._told_stale, None
            if FRESH.subscribers:
                FRESH.publish(
                    WatchFresh(
                        service=self.service,
                        namespace=self.namespace,
                        after=time.monotonic() - since,
                    )
                )

    async def close(self, what: str) -> None:
        """Stop watching; whoever is subscribed hears that ``what`` was closed."""
        if self._review is not None:
            self._review.cancel()
        for each in list(self._subscribers.values()):
            each._let_go(what)
        self._subscribers.clear()
        tasks = [each.task for each in self._followers.values()]
        for follower in self._followers.values():
            follower.close()
        await asyncio.wait(tasks)

    def _follow(self, source: Source) -> None:
        def take(batch: Batch, fresh: bool) -> None:
            self._take(source, batch, fresh)

        def failed() -> None:
            if isinstance(self.error, FINAL):
                self.ready.set()  # waiting would not help

        prefix = service_prefix(source.area, source.origin, self.namespace, self.service)
        follower = Follower(self._store, prefix, take, certain_at=self._started, failed=failed)
        self._followers = {**self._followers, source: follower}

    def _unfollow(self, source: Source) -> None:
        followers = dict(self._followers)
        followers.pop(source).close()
        self._followers = followers

    def _take(self, source: Source, batch: Batch, fresh: bool) -> None:
        changes, malformed = self._view.apply(source, batch, fresh=fresh, wall=time.time())
        for each in malformed:
            _log.warning("%r holds no instance: %s", each.key, each.problem)
            if MALFORMED.subscribers:
                MALFORMED.publish(
                    MalformedEntry(key=each.key, problem=each.problem, revision=each.revision)
                )
        self._settle(changes)

    def _settle(self, changes: list[Change]) -> None:
        """Make the view known, and tell."""
        view = self._view
        complete = self._origins_known and all(f.heard for f in self._followers.values())
        before = self.known
        if not self.live:
            if not complete:
                return  # the first state is whole, or it is the cache's
            self.live = True
            told = () if before is None else before.instances
            changes = list(difference(told, view.instances, revision=view.revision))
        self._await_review()
        self._note_contests()
        known = Known(view.instances, view.revision, complete, view.stale)
        if before is not None and known == before:
            return
        self.known = known
        self.settled = True
        self._changed()
        self._tell(tuple(changes), known)
        self.ready.set()

    def _tell(self, changes: tuple[Change, ...], known: Known) -> None:
        first = self._log is None
        if self._log is None:
            self._log = ChangeLog(known)
        elif changes:
            self._log.append(changes, known)
        else:
            self._log.last.known = known
            return
        for each in list(self._subscribers.values()):
            try:
                if first:
                    each._take_up(self._log, self._wakes)
                else:
                    each._hear(known)
            except Exception:
                _log.exception("a subscriber of %s failed", self.service)
        self._wakes.send()

    def _note_contests(self) -> None:
        """Say which instances several clusters claim, when that changes."""
        before, now = self._contests, self._view.contests
        if before == now:
            return
        self._contests = now
        if CONTESTED.subscribers:
            for name, contest in now.items():
                if before.get(name) != contest:
                    CONTESTED.publish(
                        InstanceContested(
                            service=self.service,
                            namespace=self.namespace,
                            id=name,
                            origins=contest.origins,
                            winner=contest.winner,
                        )
                    )
        if SETTLED.subscribers:
            left = {each.id: each.origin for each in self._view.instances}
            for name in before.keys() - now.keys():
                SETTLED.publish(
                    InstanceSettled(
                        service=self.service,
                        namespace=self.namespace,
                        id=name,
                        origin=left.get(name, ""),
                    )
                )

    def _await_review(self) -> None:
        """A registrar's clock that ran ahead is believed once this one has caught up."""
        if self._review is not None:
            self._review.cancel()
            self._review = None
        wall = time.time()
        at = self._view.settles_at(wall=wall)
        if at is None:
            return

        def review() -> None:
            self._review = None
            self._settle(self._view.review(wall=time.time()))

        # Not for longer than an hour at a time: a clock may be years ahead, or be set meanwhile.
        delay = min(max(at - wall, 0.001), 3600.0)
        self._review = asyncio.get_running_loop().call_later(delay, review)
