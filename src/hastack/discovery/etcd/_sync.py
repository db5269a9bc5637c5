"""The blocking face of the client: the same calls, for threads.

Nothing is written twice: each method here is the coroutine function of the same name, run on the
process's background loop while the calling thread waits.
"""

from __future__ import annotations

from functools import partial, wraps
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, Self, TypeVar, final

from hastack._core._cancel import BACKGROUND
from hastack._core._portal import PORTAL

from ._admin import Auth, Cluster, Maintenance
from ._client import Client

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
    from types import TracebackType

    from hastack.context import Context
    from hastack.discovery._records import Batch, Key, KeyValue

P = ParamSpec("P")
T = TypeVar("T")
A = TypeVar("A")

__all__ = (
    "SyncAuth",
    "SyncClient",
    "SyncCluster",
    "SyncKept",
    "SyncLease",
    "SyncMaintenance",
    "SyncWatch",
)


class _Face(Generic[A]):
    """Blocking twins of the methods of ``A``."""

    def __init__(self, face: A) -> None:
        self._face = face


def _blocking(
    method: Callable[Concatenate[A, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[_Face[A], P], T]:
    """The twin of a coroutine method."""

    @wraps(method)
    def run(self: _Face[A], /, *args: P.args, **kwargs: P.kwargs) -> T:
        return PORTAL.call(partial(method, self._face, *args, **kwargs))

    return run


def _pull(items: AsyncIterator[T]) -> Iterator[T]:
    """An asynchronous iterator for threads; ended on the loop when it is left early."""

    async def step() -> tuple[T, ...]:
        try:
            return (await anext(items),)
        except StopAsyncIteration:
            return ()

    async def close() -> None:
        aclose = getattr(items, "aclose", None)
        if aclose is not None:
            await aclose()

    try:
        while found := PORTAL.call(step):
            yield found[0]
    finally:
        PORTAL.call(close, ctx=BACKGROUND)


class _Scope:
    """An object of the client that is entered and left."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self._entered = False

    def __enter__(self) -> Self:
        try:
            PORTAL.call(self._enter)
        except BaseException:
            if self._entered:  # and this thread was interrupted before it knew
                self.__exit__(None, None, None)
            raise
        return self

    async def _enter(self) -> None:
        await self._inner.__aenter__()
        self._entered = True

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._entered = False
        # Also when the context has ended: what was entered has to be left.
        PORTAL.call(self._inner.__aexit__, exc_type, exc, traceback, ctx=BACKGROUND)


@final
class SyncWatch(_Scope):
    """A watch for one thread: ``for batch in watch`` inside ``with watch``."""

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        found = PORTAL.call(self._step)
        if not found:
            raise StopIteration
        return found[0]

    async def _step(self) -> tuple[Batch, ...]:
        try:
            return (await anext(self._inner),)
        except StopAsyncIteration:
            return ()

    @property
    def age(self) -> float:
        """Seconds since it was last certain to be current."""
        age: float = self._inner.age
        return age


@final
class SyncLease(_Scope):
    """A lease that is kept alive in the background until its block is left, or it is lost."""

    @property
    def id(self) -> int:
        """Its id, once entered."""
        number: int = self._inner.id
        return number

    @property
    def ttl(self) -> float:
        """Seconds it lives without being kept alive."""
        ttl: float = self._inner.ttl
        return ttl

    @property
    def context(self) -> Context:
        """Cancelled the moment the lease can no longer be relied on."""
        ctx: Context = self._inner.context
        return ctx

    def remaining(self) -> float:
        """Seconds for which it can be relied on if no further keepalive is answered."""
        left: float = self._inner.remaining()
        return left


@final
class SyncKept(_Scope):
    """A key that is kept present until its block is left."""

    @property
    def key(self) -> bytes:
        """The key."""
        key: bytes = self._inner.key
        return key

    @property
    def present(self) -> bool:
        """Whether the store was last known to hold it."""
        present: bool = self._inner.present
        return present

    def set(self, value: Key) -> None:
        """Change the value; returns once the store has it."""
        PORTAL.call(self._inner.set, value)


@final
class SyncCluster(_Face[Cluster]):
    """`Cluster`, blocking."""

    members = _blocking(Cluster.members)
    add = _blocking(Cluster.add)
    remove = _blocking(Cluster.remove)
    update = _blocking(Cluster.update)
    promote = _blocking(Cluster.promote)


@final
class SyncMaintenance(_Face[Maintenance]):
    """`Maintenance`, blocking."""

    status = _blocking(Maintenance.status)
    compact = _blocking(Maintenance.compact)
    defragment = _blocking(Maintenance.defragment)
    hash_kv = _blocking(Maintenance.hash_kv)
    alarms = _blocking(Maintenance.alarms)
    disarm = _blocking(Maintenance.disarm)
    move_leader = _blocking(Maintenance.move_leader)
    save_snapshot = _blocking(Maintenance.save_snapshot)
    leases = _blocking(Maintenance.leases)
    lease_info = _blocking(Maintenance.lease_info)

    def snapshot(
        self, endpoint: str | None = None, *, timeout: float | None = None
    ) -> Iterator[bytes]:
        """See `Maintenance.snapshot`."""
        return _pull(self._face.snapshot(endpoint, timeout=timeout))


@final
class SyncAuth(_Face[Auth]):
    """`Auth`, blocking."""

    enable = _blocking(Auth.enable)
    disable = _blocking(Auth.disable)
    add_user = _blocking(Auth.add_user)
    delete_user = _blocking(Auth.delete_user)
    change_password = _blocking(Auth.change_password)
    users = _blocking(Auth.users)
    roles_of = _blocking(Auth.roles_of)
    grant_role = _blocking(Auth.grant_role)
    revoke_role = _blocking(Auth.revoke_role)
    add_role = _blocking(Auth.add_role)
    delete_role = _blocking(Auth.delete_role)
    roles = _blocking(Auth.roles)
    permissions = _blocking(Auth.permissions)
    grant = _blocking(Auth.grant)
    revoke = _blocking(Auth.revoke)


@final
class SyncClient(_Face[Client]):
    """A client for threads: ``client.sync``. Every call blocks and honours the current context.

    It shares everything with the client that it belongs to, and closing one closes both. Inside a
    running event loop its calls raise `RuntimeError`, since they would stop that loop.
    """

    get = _blocking(Client.get)
    range = _blocking(Client.range)
    put = _blocking(Client.put)
    delete = _blocking(Client.delete)
    txn = _blocking(Client.txn)
    identity = _blocking(Client.identity)
    close = _blocking(Client.aclose)

    def scan(
        self, prefix: Key, *, page: int = 1000, revision: int = 0, keys_only: bool = False
    ) -> Iterator[KeyValue]:
        """See `Client.scan`."""
        return _pull(self._face.scan(prefix, page=page, revision=revision, keys_only=keys_only))

    def watch(
        self,
        key: Key,
        *,
        prefix: bool = False,
        start_revision: int | None = None,
        prev: bool = False,
        buffer: int = 10_000,
    ) -> SyncWatch:
        """See `Client.watch`."""
        return SyncWatch(
            self._face.watch(
                key, prefix=prefix, start_revision=start_revision, prev=prev, buffer=buffer
            )
        )

    def lease(self, ttl: float) -> SyncLease:
        """See `Client.lease`."""
        return SyncLease(self._face.lease(ttl))

    def keep(self, key: Key, value: Key, *, ttl: float) -> SyncKept:
        """See `Client.keep`."""
        return SyncKept(self._face.keep(key, value, ttl=ttl))

    @property
    def cluster(self) -> SyncCluster:
        """The members of the cluster."""
        return SyncCluster(self._face.cluster)

    @property
    def maintenance(self) -> SyncMaintenance:
        """The data of the cluster and of single members."""
        return SyncMaintenance(self._face.maintenance)

    @property
    def auth(self) -> SyncAuth:
        """Users and roles."""
        return SyncAuth(self._face.auth)

    def __enter__(self) -> Self:
        self._face._check_open()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        PORTAL.call(self._face.aclose, ctx=BACKGROUND)
