"""The registry: say where an instance of a service is, and find those of others.

Written once against `hastack.discovery.Store`: it runs on etcd and on the embedded store alike.

Example:
    >>> import asyncio
    >>> from hastack import discovery
    >>> async def main():
    ...     async with discovery.connect("memory://registry-example") as reg:
    ...         async with reg.watch("orders") as feed:
    ...             async with reg.register("orders", "10.0.0.7:8080", grace=0.0):
    ...                 change = await anext(feed)
    ...                 print(change.kind, change.instance.address)
    ...             print((await anext(feed)).kind)
    >>> asyncio.run(main())
    added 10.0.0.7:8080
    removed
"""

from __future__ import annotations

import os
import secrets
import threading
import time
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, final

from hastack import context
from hastack._config._secret import Secret
from hastack._core import _validate
from hastack._core._errors import ClosedError, InvalidArgument
from hastack._core._fork import renew_in_child
from hastack._core._portal import PORTAL

from ._hlc import HybridClock
from ._instance import Instance
from ._layout import MIRRORED, REGISTERED, InstanceKey, origin_prefix
from ._probe import GrpcHealth, Health, Http, Probe, ProbeFailed, Tcp
from ._registration import Applied, Registration
from ._registry_book import Book, Options
from ._registry_changes import Change
from ._registry_events import (
    InstanceContested,
    InstanceDeregistered,
    InstanceEvicted,
    InstanceRegistered,
    InstanceRestored,
    InstanceSettled,
    MalformedEntry,
    WatchFresh,
    WatchStale,
)
from ._registry_feed import Resolved
from ._registry_watch import ServiceWatch, call_back

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType
    from typing import Self

    from hastack._core._validate import Seconds
    from hastack.lifecycle import Lifecycle

    from ._registry_book import Remembered
    from ._store import Store

__all__ = (
    "Applied",
    "Change",
    "GrpcHealth",
    "Health",
    "Http",
    "InstanceContested",
    "InstanceDeregistered",
    "InstanceEvicted",
    "InstanceRegistered",
    "InstanceRestored",
    "InstanceSettled",
    "MalformedEntry",
    "Probe",
    "ProbeFailed",
    "Registration",
    "Registry",
    "Resolved",
    "ServiceWatch",
    "Tcp",
    "WatchFresh",
    "WatchStale",
    "connect",
)

LOCAL = "local"
"""Name of the cluster in a store without federation."""

# Books of the parent, kept unused in a forked child: ending their tasks would run clean-up, and
# grpc's destructors, for connections that are the parent's.
_forgotten: list[Book] = []

_incarnations = HybridClock(node=secrets.randbits(32))
_incarnations_lock = threading.Lock()


def _renew_incarnations() -> None:
    # A forked child that went on with the parent's node could mint what the parent mints.
    global _incarnations, _incarnations_lock
    _incarnations = HybridClock(node=secrets.randbits(32))
    _incarnations_lock = threading.Lock()


os.register_at_fork(after_in_child=_renew_incarnations)


def _incarnation() -> int:
    with _incarnations_lock:
        return _incarnations.tick(time.time())


@final
class Registry:
    """Registers instances and finds them, over one store.

    Nothing happens before the first use. Any thread and any event loop may use one registry; the
    work is done on hastack's background loop. Each service that is asked for is watched once,
    for all who watch, subscribe and resolve; a watch that nobody used for ``idle`` seconds ends.

    A forked child may go on using it: what the parent registered stays the parent's, and the
    child opens watches of its own.

    Args:
        store: Where instances are kept. It is not closed with the registry.
        namespace: Tenant or environment; registries of different ones do not see each other.
        origin: Name of the cluster that the store belongs to. All who use one store give the
            same; only with federation do they need to give one.
        timeout: Seconds that a call waits for the store at most.
        idle: Seconds after which a watch ends that nobody uses.
        stale_after: Seconds without certainty after which `WatchStale` is published.
        cache: File in which the last good views are kept, so that a process can start while the
            store is away. Give each process its own.

    Raises:
        InvalidArgument: An argument is out of its range.

    Example:
        >>> from hastack.discovery import Registry, memory
        >>> with Registry(memory.Store()) as reg:
        ...     with reg.register("orders", "10.0.0.7:8080", grace=0.0):
        ...         [each.address for each in reg.resolve("orders").instances]
        ['10.0.0.7:8080']
    """

    def __init__(
        self,
        store: Store,
        *,
        namespace: str = "default",
        origin: str = LOCAL,
        timeout: Seconds = 5.0,
        idle: Seconds = 300.0,
        stale_after: Seconds = 15.0,
        cache: str | os.PathLike[str] | None = None,
    ) -> None:
        if not all(hasattr(store, name) for name in ("watch", "keep", "scan")):
            raise InvalidArgument("store", store, "a hastack.discovery.Store; for a URL: connect()")
        self.store = store
        self.namespace = _validate.text("namespace", namespace)
        self.origin = _validate.text("origin", origin)
        self._options = Options(
            namespace=namespace,
            origin=origin,
            timeout=_validate.seconds("timeout", timeout),
            idle=_validate.seconds("idle", idle),
            stale_after=_validate.seconds("stale_after", stale_after),
            cache=None if cache is None else Path(cache),
        )
        self._owns_store = False
        self._lock = threading.Lock()
        self._book: Book | None = None
        self._closed = False
        self._remembered: dict[str, Remembered] = {}
        self._finalizer: weakref.finalize[..., Any] | None = None
        renew_in_child(self)

    def __repr__(self) -> str:
        return f"<Registry {self.store.url} {self.namespace!r}>"

    # Registering ------------------------------------------------------------------------

    def register(
        self,
        service: str,
        address: str,
        *,
        id: str | None = None,  # noqa: A002  # the field's name
        metadata: Mapping[str, str] | None = None,
        weight: float = 1.0,
        zone: str = "",
        home: str = "",
        ttl: Seconds = 10.0,
        grace: Seconds = 1.0,
        health: Health | Callable[[], Any] | None = None,
        when_unhealthy: Literal["remove", "drain"] = "remove",
        lifecycle: Lifecycle | None = None,
        wait: bool = True,
        timeout: Seconds | None = None,
    ) -> Registration:
        """Offer an instance for as long as a block runs.

        Args:
            service: Name of the service.
            address: Where it listens.
            id: Identity; unique within the service, across all clusters. By default made of the
                address and, with federation, of the origin: the same after a restart.
            metadata: Whatever clients want to know; text to text.
            weight: Share of traffic relative to its peers; 0 takes none.
            zone: Failure domain.
            home: The cluster that wins when several claim this id.
            ttl: Seconds after which it vanishes when this process is gone without a word.
            grace: Seconds between saying that it drains and its deletion, for clients to move.
            health: A `Health`, or a probe or function for one with the defaults. The instance is
                offered after the first success.
            when_unhealthy: ``"remove"`` an unhealthy instance, or mark it with ``"drain"``.
            lifecycle: Offered while that service serves, draining from its lame duck on, and gone
                shortly before the lame duck ends. To be sure that it is gone before a listener
                closes, also add the registration as a component that depends on the listener.
            wait: Entering the block returns once the store holds the instance, and raises if it
                does not within ``timeout``. False: the store may be away at the start.
            timeout: Seconds; the registry's by default.

        Raises:
            InvalidArgument: An argument is out of its range.

        Example:
            >>> from hastack.discovery import Registry, memory
            >>> reg = Registry(memory.Store())
            >>> with reg.register("orders", "10.0.0.7:8080", weight=2.0, grace=0.0) as one:
            ...     one.update(weight=1.0).wait()
            ...     one.state, one.instance.weight
            ('present', 1.0)
            >>> reg.close()
        """
        _validate.text("address", address)
        instance = Instance(
            service=service,
            id=self._default_id(address) if id is None else id,
            address=address,
            namespace=self.namespace,
            metadata={} if metadata is None else metadata,
            weight=weight,
            zone=zone,
            origin=self.origin,
            home=home,
            incarnation=_incarnation(),
        )
        try:
            instance.to_bytes()
        except UnicodeEncodeError as error:
            raise InvalidArgument("metadata", metadata, f"text that is UTF-8 ({error})") from None
        if when_unhealthy not in {"remove", "drain"}:
            raise InvalidArgument("when_unhealthy", when_unhealthy, "'remove' or 'drain'")
        if lifecycle is not None and not hasattr(lifecycle, "on_phase"):
            raise InvalidArgument("lifecycle", lifecycle, "a hastack.lifecycle.Lifecycle")
        return Registration(
            instance,
            book=self._opened,
            timeout=self._limit(timeout),
            ttl=_validate.seconds("ttl", ttl),
            grace=_validate.seconds("grace", grace, zero=True),
            health=Health(health)
            if health is not None and not isinstance(health, Health)
            else health,
            when_unhealthy=when_unhealthy,
            lifecycle=lifecycle,
            wait=wait,
        )

    def _default_id(self, address: str) -> str:
        return address if self.origin == LOCAL else f"{address}@{self.origin}"

    # Finding ----------------------------------------------------------------------------

    def watch(self, service: str) -> ServiceWatch:
        """The instances of ``service`` and each change; see `ServiceWatch`.

        Entering the block does not wait for the store: iterating does, for as long as it takes.

        Example:
            >>> from hastack.discovery import Registry, memory
            >>> reg = Registry(memory.Store())
            >>> with reg.register("orders", "10.0.0.7:8080", grace=0.0), reg.watch("orders") as feed:
            ...     next(feed).instance.address
            '10.0.0.7:8080'
            >>> reg.close()
        """
        return ServiceWatch(_validate.text("service", service), book=self._opened)

    def resolve(self, service: str, *, timeout: Seconds | None = None) -> Resolved:
        """The instances of ``service``, from memory.

        Only the first call for a service waits, until its instances are known. After that the
        answer is what was known last, however long the store is away: see `Resolved.age`.

        Args:
            service: Name of the service.
            timeout: Seconds that the first call waits; the registry's by default.

        Raises:
            StoreUnavailable: Nothing is known, and the store did not answer in time.
            NotAuthorized: The store does not let this user read that.
            ContextError: The current context ended first.
            RuntimeError: The call would have to wait, in a thread that runs an event loop: use
                `resolve_async` there.
        """
        found = self._at_hand(service)
        if found is not None:
            return found
        return PORTAL.call(self._opened().resolve, service, self._limit(timeout))

    async def resolve_async(self, service: str, *, timeout: Seconds | None = None) -> Resolved:
        """Like `resolve`, for coroutines."""
        found = self._at_hand(service)
        if found is not None:
            return found
        return await PORTAL.run(self._opened().resolve(service, self._limit(timeout)))

    def _at_hand(self, service: str) -> Resolved | None:
        """What is known without waiting. Takes no lock: this is what every call of a client asks."""
        book = self._book
        feed = None if book is None else book.feeds.get(service)
        if feed is None or not feed.settled:
            _validate.text("service", service)
            return None
        feed.used_at = time.monotonic()
        return feed.resolved()

    def subscribe(
        self, service: str, callback: Callable[[tuple[Instance, ...]], object], /
    ) -> Callable[[], None]:
        """Call ``callback`` with all instances of ``service``, now and after each change.

        It runs on hastack's background loop: it must be quick, and must not block. What it raises
        is logged.

        Returns:
            A function that ends this; any thread may call it, again and again.
        """
        if not callable(callback):
            raise InvalidArgument("callback", callback, "a function of a tuple of instances")
        return call_back(self._opened(), _validate.text("service", service), callback)

    def services(self, *, timeout: Seconds | None = None) -> tuple[str, ...]:
        """Names of all services that have an instance, as the store says now.

        Raises:
            StoreError: The store did not answer.
            ContextError: The current context ended first.
        """
        return PORTAL.call(self._services, self._opened(), self._limit(timeout))

    async def services_async(self, *, timeout: Seconds | None = None) -> tuple[str, ...]:
        """Like `services`, for coroutines."""
        return await PORTAL.run(self._services(self._opened(), self._limit(timeout)))

    async def _services(self, book: Book, limit: float) -> tuple[str, ...]:
        names: set[str] = set()
        async with context.timeout(limit):
            for prefix in (origin_prefix("reg", self.origin), MIRRORED):
                async for kv in book.store.scan(prefix, keys_only=True):
                    key = InstanceKey.parse(kv.key)
                    if key is not None and key.namespace == self.namespace:
                        names.add(key.service)
        return tuple(sorted(names))

    def origins(self, *, timeout: Seconds | None = None) -> tuple[str, ...]:
        """Names of the clusters that have instances registered in this store, mirrored ones not.

        More than one, or another one than `origin`, is a mistake in somebody's configuration.

        Raises:
            StoreError: The store did not answer.
        """
        return PORTAL.call(self._origins, self._opened(), self._limit(timeout))

    async def _origins(self, book: Book, limit: float) -> tuple[str, ...]:
        found: list[str] = []
        after = REGISTERED
        async with context.timeout(limit):
            while True:
                page = await book.store.range(
                    after, end=REGISTERED[:-1] + b"0", limit=1, keys_only=True
                )
                key = InstanceKey.parse(page.kvs[0].key) if page.kvs else None
                if key is None:
                    return tuple(found)
                found.append(key.origin)
                after = origin_prefix("reg", key.origin)[:-1] + b"0"  # "0" follows "/"

    # Ending -----------------------------------------------------------------------------

    def close(self) -> None:
        """Deregister what is registered, end all watches; a store of `connect` is closed too."""
        book = self._shut()
        if book is not None:
            PORTAL.call(self._end, book, ctx=context.without_cancel())

    async def aclose(self) -> None:
        """Like `close`, for coroutines."""
        book = self._shut()
        if book is not None:
            await PORTAL.run(self._end(book))

    def _shut(self) -> Book | None:
        with self._lock:
            self._closed = True
            book, self._book = self._book, None
        if self._finalizer is not None:
            self._finalizer.detach()
        return book

    async def _end(self, book: Book) -> None:
        await _close(book, self.store if self._owns_store else None)

    def __enter__(self) -> Self:
        self._check()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        self._check()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    # Inside -----------------------------------------------------------------------------

    def _limit(self, timeout: Seconds | None) -> float:
        return self._options.timeout if timeout is None else _validate.seconds("timeout", timeout)

    def _check(self) -> None:
        if self._closed:
            raise ClosedError(repr(self))

    def _opened(self) -> Book:
        book = self._book
        if book is not None:
            return book
        with self._lock:
            self._check()
            if self._book is None:
                book = self._book = Book(self.store, self._options, self._remembered)
                # A registry that is dropped without a word must not watch for ever.
                self._finalizer = weakref.finalize(
                    self, _dropped, book, self.store if self._owns_store else None
                )
                self._finalizer.atexit = False
            return self._book

    def _after_fork(self) -> None:
        self._lock = threading.Lock()
        if self._finalizer is not None:
            self._finalizer.detach()
            self._finalizer = None
        book, self._book = self._book, None
        if book is not None:
            # What the parent knew is a start, should the store be away.
            self._remembered = book.memory()
            _forgotten.append(book)


async def _close(book: Book, store: Store | None) -> None:
    try:
        await book.close()
    finally:
        if store is not None:
            await store.aclose()


def _dropped(book: Book, store: Store | None) -> None:
    try:
        with context.using(context.background()):
            PORTAL.spawn(_close(book, store), name="hastack-registry-dropped")
    except RuntimeError:
        pass  # the interpreter exits


def connect(
    url: str | Secret = "memory://",
    *,
    namespace: str = "default",
    origin: str = LOCAL,
    timeout: Seconds = 5.0,
    idle: Seconds = 300.0,
    stale_after: Seconds = 15.0,
    cache: str | os.PathLike[str] | None = None,
) -> Registry:
    """A registry on the store at ``url``.

    Args:
        url: ``"memory://"`` or ``"memory://name"`` for the embedded store of this process,
            ``"etcd://user:password@host:2379,host2:2379/prefix"`` for etcd (see
            `hastack.discovery.etcd.connect`). A `hastack.config.Secret` will do too.
        namespace: As in `Registry`, like all that follow.
        origin: Name of the cluster that the store belongs to.
        timeout: Seconds that a call waits for the store at most.
        idle: Seconds after which a watch ends that nobody uses.
        stale_after: Seconds without certainty after which `WatchStale` is published.
        cache: File in which the last good views are kept.

    Raises:
        InvalidArgument: The URL or an option is none.
        MissingDependency: The packages for that store are not installed.

    Example:
        >>> from hastack import discovery
        >>> discovery.connect("memory://docs", namespace="staging")
        <Registry memory://docs 'staging'>

        With settings from files and the environment (``HASTACK_DISCOVERY__URL``):

        >>> import attrs
        >>> from hastack import config
        >>> settings = config.load(env={"HASTACK_DISCOVERY__URL": "memory://docs"}).discovery
        >>> discovery.connect(**attrs.asdict(settings, recurse=False))
        <Registry memory://docs 'default'>
    """
    address = url.reveal() if isinstance(url, Secret) else _validate.text("url", url)
    scheme = address.partition("://")[0]
    store: Store
    if scheme == "memory":
        from . import memory

        store = memory.connect(address)
    elif scheme in {"etcd", "etcds"}:
        from . import etcd

        store = etcd.connect(address)
    else:
        raise InvalidArgument("url", url, "memory://NAME or etcd://HOST:PORT,HOST:PORT")
    registry = Registry(
        store,
        namespace=namespace,
        origin=origin,
        timeout=timeout,
        idle=idle,
        stale_after=stale_after,
        cache=cache,
    )
    registry._owns_store = True
    return registry
