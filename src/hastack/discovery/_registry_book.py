"""What a registry knows and keeps in one process: feeds, origins, registrations, the cache file.

Lives on the portal's loop. A forked child makes a book of its own.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import time
from typing import TYPE_CHECKING, final
from urllib.parse import unquote

import attrs

from hastack import context
from hastack._core._errors import ClosedError, InvalidArgument, NotAuthorized, StoreUnavailable
from hastack._core._whole_file import replace

from ._layout import CHECKPOINTS, HEARTBEATS
from ._origin import Heartbeat
from ._registry_cachefile import MAX_BYTES, CachedService, UnusableCache, decode, encode
from ._registry_feed import FINAL, Follower, Known, ServiceFeed
from ._registry_threads import in_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from ._records import Batch
    from ._registration import Registration
    from ._registry_feed import Resolved, Subscriber
    from ._store import Store

__all__ = ("Book", "Options", "Remembered")

_log = logging.getLogger("hastack.discovery")

_TICK = 0.5  # seconds
_CACHE_EVERY = 2.0  # seconds between two writes of the cache file
_CACHE_REFRESH = 60.0  # seconds after which unchanged services are written again, as current
_MOST_REMEMBERED = 1024  # services that nobody asks for any more, of which the last state is kept
_FRESH_WITHIN = 0.5  # seconds to wait for the store where something older is known already


@attrs.frozen(kw_only=True)
class Options:
    """The settings of a registry."""

    namespace: str
    origin: str
    timeout: float
    idle: float
    stale_after: float
    cache: Path | None


@attrs.frozen
class Remembered:
    """What was known of a service before its feed ended."""

    known: Known
    certain_at: float  # monotonic


@final
class Book:
    """One process's part of a registry."""

    def __init__(
        self, store: Store, options: Options, remembered: Mapping[str, Remembered] | None = None
    ) -> None:
        self.store = store
        self.options = options
        self.feeds: dict[str, ServiceFeed] = {}
        self.remembered: dict[str, Remembered] = dict(remembered or {})
        self.registrations: dict[bytes, Registration] = {}
        self.closed = False
        self._loaded = False
        self._origins: _Origins | None = None
        self._ticker: asyncio.Task[None] | None = None
        self._dirty = False
        self._written_at = 0.0

    # Knowing ----------------------------------------------------------------------------

    def feed(self, service: str) -> ServiceFeed:
        """The feed of ``service``, opened if there is none."""
        if self.closed:
            raise ClosedError("the registry")
        found = self.feeds.get(service)
        if found is None:
            # It outlives whoever asked first: nobody's deadline, nobody's trace.
            found = contextvars.Context().run(self._open, service)
        return found

    def _open(self, service: str) -> ServiceFeed:
        self._load_cache()
        old = self.remembered.pop(service, None)
        found = ServiceFeed(
            self.store,
            service,
            namespace=self.options.namespace,
            origin=self.options.origin,
            known=None if old is None else old.known,
            certain_at=None if old is None else old.certain_at,
            changed=self._changed,
        )
        self.feeds[service] = found
        if self._origins is None:
            self._origins = _Origins(self.store, self._origins_changed)
        if self._origins.complete:
            found.set_origins(self._origins.mirrored, self._origins.stale)
        self._tick_on()
        return found

    async def resolve(self, service: str, timeout: float) -> Resolved:
        """What is known of ``service``; waits for the first that is."""
        feed = self.feed(service)
        feed.used_at = time.monotonic()
        limit = timeout if feed.known is None else min(timeout, _FRESH_WITHIN)
        ctx = context.current()
        try:
            async with context.timeout(limit):
                while not feed.live and not isinstance(feed.error, FINAL):
                    feed.ready.clear()
                    await feed.ready.wait()
        except TimeoutError:
            if ctx.done and feed.known is None:
                raise
        if feed.known is None:
            raise _unknown(feed, limit)
        feed.settled = True
        return feed.resolved()

    def subscribe(self, service: str, subscriber: Subscriber) -> None:
        """Tell ``subscriber`` what is known of ``service`` and what follows."""
        self.feed(service).subscribe(subscriber)

    def unsubscribe(self, service: str, subscriber: Subscriber) -> None:
        """Tell it nothing more."""
        feed = self.feeds.get(service)
        if feed is not None:
            feed.unsubscribe(subscriber)

    def memory(self) -> dict[str, Remembered]:
        """What is known now, for whoever comes after this book."""
        now = time.monotonic()
        found = dict(self.remembered)
        for service, feed in self.feeds.items():
            if feed.known is not None:
                found[service] = Remembered(feed.known, now - feed.age())
        return found

    def _origins_changed(self) -> None:
        origins = self._origins
        if origins is not None and origins.complete:
            for feed in list(self.feeds.values()):
                feed.set_origins(origins.mirrored, origins.stale)

    # Keeping ----------------------------------------------------------------------------

    def enter(self, registration: Registration) -> None:
        """Take up a registration of this process."""
        if self.closed:
            raise ClosedError("the registry")
        if registration.key in self.registrations:
            raise InvalidArgument(
                "id", registration.instance.id, "an id that this process has not registered"
            )
        self.registrations[registration.key] = registration
        contextvars.Context().run(self._tick_on)

    def leave(self, registration: Registration) -> None:
        """It is gone."""
        if self.registrations.get(registration.key) is registration:
            del self.registrations[registration.key]

    # Ending -----------------------------------------------------------------------------

    async def close(self) -> None:
        """End everything; what is registered is deregistered."""
        if self.closed:
            return
        self.closed = True
        leaving = [each.leave(grace=0.0) for each in list(self.registrations.values())]
        await asyncio.gather(*leaving, return_exceptions=True)
        await self._write_cache()
        feeds, self.feeds = list(self.feeds.values()), {}
        for feed in feeds:
            await feed.close("the registry")
        if self._origins is not None:
            await self._origins.close()
        if self._ticker is not None:
            self._ticker.cancel()
            await asyncio.wait([self._ticker])

    # Now and then -----------------------------------------------------------------------

    def _tick_on(self) -> None:
        if self._ticker is None or self._ticker.done():
            self._ticker = asyncio.get_running_loop().create_task(
                self._tick(), name="hastack-registry"
            )

    async def _tick(self) -> None:
        """Look after ages, idle feeds and the cache file, for as long as there is anything."""
        while self.feeds or self.registrations:
            await asyncio.sleep(min(_TICK, self.options.stale_after / 2, self.options.idle / 2))
            now = time.monotonic()
            for registration in list(self.registrations.values()):
                registration.check()
            for service, feed in list(self.feeds.items()):
                feed.check(self.options.stale_after)
                if not feed.in_use and now - feed.used_at > self.options.idle:
                    await self._put_away(service, feed)
            since = now - self._written_at
            if (self._dirty and since >= _CACHE_EVERY) or since >= _CACHE_REFRESH:
                await self._write_cache()
        if self._origins is not None:
            origins, self._origins = self._origins, None
            await origins.close()

    async def _put_away(self, service: str, feed: ServiceFeed) -> None:
        """End a feed that nobody uses; remember what it knew, should the store be away later."""
        del self.feeds[service]
        if feed.known is not None:
            self.remembered[service] = Remembered(feed.known, time.monotonic() - feed.age())
            while len(self.remembered) > _MOST_REMEMBERED:
                del self.remembered[next(iter(self.remembered))]
        await feed.close(f"the feed of {service}")

    # The cache file ---------------------------------------------------------------------

    def _changed(self) -> None:
        self._dirty = True

    def _load_cache(self) -> None:
        path = self.options.cache
        if path is None or self._loaded:
            return
        self._loaded = True
        for each in _read(path):
            if each.namespace == self.options.namespace:
                known = Known(each.instances, each.revision, False, frozenset())
                age = max(0.0, time.time() - each.at)
                self.remembered.setdefault(each.service, Remembered(known, time.monotonic() - age))

    async def _write_cache(self) -> None:
        path = self.options.cache
        self._dirty, self._written_at = False, time.monotonic()
        if path is None:
            return
        self._load_cache()  # what was not asked for this time is kept as well
        wall, now = time.time(), time.monotonic()
        rows = [
            CachedService(
                namespace=self.options.namespace,
                service=service,
                instances=each.known.instances,
                revision=each.known.revision,
                at=wall - (now - each.certain_at),
            )
            for service, each in self.memory().items()
        ]
        try:
            await in_thread(lambda: _write(path, rows), name="hastack-cache")
        except Exception as error:
            _log.warning("the discovery cache %s could not be written: %s", path, error)


def _unknown(feed: ServiceFeed, limit: float) -> Exception:
    error = feed.error
    if isinstance(error, Exception) and isinstance(error, FINAL):
        return error
    said = f": {error}" if error is not None else ""
    unknown = StoreUnavailable(
        f"nothing is known of {feed.service!r}, and the store gave no answer "
        f"within {limit:.3g} s{said}"
    )
    unknown.__cause__ = error
    return unknown


def _read(path: Path) -> list[CachedService]:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise UnusableCache("it is too large")
        return decode(content)
    except FileNotFoundError:
        return []
    except (OSError, UnusableCache) as error:
        _log.warning("the discovery cache %s is not used: %s", path, error)
        return []


def _write(path: Path, rows: Iterable[CachedService]) -> None:
    """Replace the file as a whole, or not at all."""
    replace(path, encode(rows))


@final
class _Origins:
    """Which clusters are mirrored in this store, and which of their forwarders are out of reach."""

    def __init__(self, store: Store, changed: Callable[[], None]) -> None:
        self.refused = False
        self._changed = changed
        self._named: dict[bytes, set[str]] = {CHECKPOINTS: set(), HEARTBEATS: set()}
        self._out_of_reach: set[str] = set()  # their forwarders say so
        self._followers = [self._follow(store, prefix) for prefix in self._named]

    @property
    def complete(self) -> bool:
        """Whether all are known. A user that may not read them has none."""
        return self.refused or all(each.heard for each in self._followers)

    @property
    def mirrored(self) -> set[str]:
        """Their names."""
        return self._named[CHECKPOINTS] | self._named[HEARTBEATS]

    @property
    def stale(self) -> set[str]:
        """Those without a heartbeat, and those whose forwarder says that it lost them."""
        return (self._named[CHECKPOINTS] - self._named[HEARTBEATS]) | self._out_of_reach

    async def close(self) -> None:
        for each in self._followers:
            each.close()
        await asyncio.wait([each.task for each in self._followers])

    def _follow(self, store: Store, prefix: bytes) -> Follower:
        def take(batch: Batch, fresh: bool) -> None:
            names = self._named[prefix]
            if fresh:
                names.clear()
                if prefix == HEARTBEATS:
                    self._out_of_reach.clear()
            for event in batch.events:
                name = unquote(event.kv.key[len(prefix) :].decode("ascii", "replace"))
                (names.discard if event.kind == "delete" else names.add)(name)
                if prefix == HEARTBEATS:
                    lost = event.kind == "put" and not Heartbeat.parse(event.kv.value).live
                    (self._out_of_reach.add if lost else self._out_of_reach.discard)(name)
            self._changed()

        def failed() -> None:
            if isinstance(follower.error, NotAuthorized) and not self.refused:
                self.refused = True
                _log.warning("mirrored instances are not read: %s", follower.error)
                self._changed()

        follower = Follower(store, prefix, take, certain_at=time.monotonic(), failed=failed)
        return follower
