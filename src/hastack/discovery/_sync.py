"""What the blocking faces of all stores share.

A method for threads is the coroutine function of the same name, run on the process's background
loop while the calling thread waits.
"""

from __future__ import annotations

from functools import partial, wraps
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, Self, TypeVar, final

from hastack._core._cancel import BACKGROUND
from hastack._core._portal import PORTAL

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
    from types import TracebackType

    from hastack.context import Context

    from ._records import Batch, Key, KeyValue
    from ._store import Store

P = ParamSpec("P")
T = TypeVar("T")
A = TypeVar("A")
S = TypeVar("S", bound="Store")

__all__ = (
    "Face",
    "Scope",
    "StoreFace",
    "SyncKept",
    "SyncLease",
    "SyncWatch",
    "blocking",
    "pull",
)


class Face(Generic[A]):
    """Blocking twins of the methods of ``A``."""

    def __init__(self, face: A) -> None:
        self._face = face

    def _run(self, call: Callable[[], Coroutine[Any, Any, T]]) -> T:
        return PORTAL.call(call)


def blocking(
    method: Callable[Concatenate[A, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[Face[A], P], T]:
    """The twin of a coroutine method."""

    @wraps(method)
    def run(self: Face[A], /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._run(partial(method, self._face, *args, **kwargs))

    return run


def pull(items: AsyncIterator[T]) -> Iterator[T]:
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
        # Nobody waits for it: an iterator that was dropped is ended wherever the collector finds
        # it, inside a running loop perhaps, or while the interpreter exits.
        try:
            PORTAL.spawn(close(), name="end of a scan")
        except RuntimeError:
            pass  # the background loop has ended, and what ran on it


class Scope:
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
class SyncWatch(Scope):
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

    @property
    def trouble(self) -> Exception | None:
        """Why the store could not be asked last; ``None`` as soon as it answers."""
        trouble: Exception | None = self._inner.trouble
        return trouble


@final
class SyncLease(Scope):
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
class SyncKept(Scope):
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


class StoreFace(Face[S]):
    """What is entered or iterated over, the same for all stores."""

    def _check_open(self) -> None:
        """Raise `ClosedError` when the store was closed."""
        raise NotImplementedError

    def scan(
        self, prefix: Key, *, page: int = 1000, revision: int = 0, keys_only: bool = False
    ) -> Iterator[KeyValue]:
        """See `hastack.discovery.Store.scan`."""
        return pull(self._face.scan(prefix, page=page, revision=revision, keys_only=keys_only))

    def watch(
        self,
        key: Key,
        *,
        prefix: bool = False,
        start_revision: int | None = None,
        prev: bool = False,
        buffer: int = 10_000,
    ) -> SyncWatch:
        """See `hastack.discovery.Store.watch`."""
        return SyncWatch(
            self._face.watch(
                key, prefix=prefix, start_revision=start_revision, prev=prev, buffer=buffer
            )
        )

    def lease(self, ttl: float) -> SyncLease:
        """See `hastack.discovery.Store.lease`."""
        return SyncLease(self._face.lease(ttl))

    def keep(self, key: Key, value: Key, *, ttl: float) -> SyncKept:
        """See `hastack.discovery.Store.keep`."""
        return SyncKept(self._face.keep(key, value, ttl=ttl))

    def __enter__(self) -> Self:
        self._check_open()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        PORTAL.call(self._face.aclose, ctx=BACKGROUND)
