"""A subscription to one service: the snapshot, then every change, for tasks and threads."""

from __future__ import annotations

import asyncio
import os
import threading
from typing import TYPE_CHECKING, final

from hastack import context
from hastack._core._cancel import BACKGROUND
from hastack._core._errors import ClosedError, InvalidArgument
from hastack._core._portal import PORTAL

from ._registry_changes import Change, Pending
from ._registry_feed import Wakes

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

    from ._instance import Instance
    from ._registry_book import Book
    from ._registry_feed import Known, Resolved

__all__ = ("ServiceWatch", "call_back")


@final
class ServiceWatch:
    """The changes of one service, in order. Made by `Registry.watch`.

    Iterate inside ``async with`` or ``with``: first each instance that there is as ``"added"``,
    then what changes. However slow the iteration, it costs at most one pending change per
    instance, and following it leads to the present: what came and went unseen is left out, and of
    an instance that changed twice the newest state is told. After an outage only the real
    difference arrives.

    One task or thread at a time may iterate.
    """

    def __init__(self, service: str, *, book: Callable[[], Book]) -> None:
        self.service = service
        self._open_book = book
        self._book: Book | None = None
        self._pid = 0
        self._closed = False
        self._lock = threading.Lock()
        self._pending = Pending()
        self._known: Known | None = None
        self._came = False  # the snapshot has, and `next_batch` has not told so yet
        self._ended: str | None = None  # what was closed beneath it
        self._waiter: tuple[asyncio.AbstractEventLoop, asyncio.Future[None]] | None = None
        self._news: threading.Event | None = None  # for a thread that waits

    def __repr__(self) -> str:
        return f"<ServiceWatch {self.service!r}, {len(self._pending)} pending>"

    # Looking at it ----------------------------------------------------------------------

    @property
    def synced(self) -> bool:
        """Whether the snapshot has come; before that, no instance does not mean none."""
        return self._known is not None

    @property
    def instances(self) -> tuple[Instance, ...]:
        """All instances as of now, also those whose changes were not iterated over yet."""
        known = self._known
        return () if known is None else known.instances

    @property
    def resolved(self) -> Resolved | None:
        """The same with its age; ``None`` before the snapshot."""
        feed = None if self._book is None else self._book.feeds.get(self.service)
        return None if feed is None or feed.known is None else feed.resolved()

    @property
    def age(self) -> float:
        """Seconds since this was last certain to be current; grows while the store is away."""
        feed = None if self._book is None else self._book.feeds.get(self.service)
        return float("inf") if feed is None else feed.age()

    # The block --------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        self._begin()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._leave()

    def __enter__(self) -> Self:
        self._begin()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._leave()

    def _begin(self) -> None:
        if self._pid:
            raise InvalidArgument("watch", self, "a watch that was not entered before")
        self._book = self._open_book()
        self._pid = os.getpid()
        follow(self._book, self.service, self)

    def _leave(self) -> None:
        self._closed = True
        book = self._book
        if book is not None and self._pid == os.getpid():
            PORTAL.loop.call_soon_threadsafe(book.unsubscribe, self.service, self)
        self._wake_here()

    # Taking -----------------------------------------------------------------------------

    def __aiter__(self) -> Self:
        return self

    def __iter__(self) -> Self:
        return self

    async def __anext__(self) -> Change:
        while True:
            found = self._take_or_wait()
            if isinstance(found, Change):
                return found
            if found is None:
                raise StopAsyncIteration
            await self._waited(found)

    def __next__(self) -> Change:
        while True:
            with self._lock:
                found = self._take()
            if found is not None:
                return found
            if self._over():
                raise StopIteration
            self._wait()

    async def next_batch(self) -> tuple[Change, ...]:
        """All pending changes at once; waits until there is one, or the snapshot has come.

        The first batch is the snapshot, and empty for a service without instances. Empty also
        when the block has been left.
        """
        while True:
            with self._lock:
                found = self._pending.take_all()
                came, self._came = self._came, False
                future = None if found or came or self._over() else self._begin_to_wait()
            if future is None:
                return found
            await self._waited(future)

    def _take(self) -> Change | None:
        self._came = False  # iterating has no word for an empty snapshot
        return self._pending.take()

    def _take_or_wait(self) -> Change | asyncio.Future[None] | None:
        """A change, or what to wait for; ``None`` when the block was left.

        In one critical section, because this is what a thousand subscribers run per change.
        """
        with self._lock:
            found = self._take()
            if found is not None:
                return found
            return None if self._over() else self._begin_to_wait()

    def _over(self) -> bool:
        """Whether the block was left; raises when the feed has ended otherwise."""
        if self._closed:
            return True
        if not self._pid:
            raise InvalidArgument("watch", self, "a watch inside its `async with` or `with`")
        if self._pid != os.getpid():
            raise ClosedError(f"the watch of {self.service!r}, from before a fork,")
        if self._ended is not None:
            raise ClosedError(self._ended)
        context.current().check()
        return False

    def _begin_to_wait(self) -> asyncio.Future[None]:
        if self._waiter is not None and not self._waiter[1].done():
            raise InvalidArgument("watch", self, "one task at a time that iterates")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        self._waiter = (loop, future)
        return future

    async def _waited(self, future: asyncio.Future[None]) -> None:
        """Return when there may be something new, or the context has ended."""
        ctx = context.current()
        stop: Callable[[], bool] | None = None
        if ctx is not BACKGROUND:
            loop = asyncio.get_running_loop()

            def ended() -> None:
                try:
                    loop.call_soon_threadsafe(_resolve, future)
                except RuntimeError:
                    pass  # the loop is closed, and the waiter with it

            stop = ctx.after_func(ended)
        try:
            await future
        finally:
            if stop is not None:
                stop()
            self._waiter = None

    def _wait(self) -> None:
        ctx = context.current()
        with self._lock:
            if self._pending or self._ended is not None or self._closed:
                return
            news = self._news = threading.Event()
        stop = ctx._watch(news.set)
        try:
            ctx._clock.wait(news, ctx.remaining())
        finally:
            stop()
            self._news = None

    def _wake_here(self) -> None:
        wakes = Wakes()
        with self._lock:
            self._wake(wakes)
        wakes.send()

    # A subscriber of the feed, on the portal's loop ---------------------------------------

    def begin(self, known: Known, wakes: Wakes) -> None:
        with self._lock:
            self._known = known
            self._came = True
            self._pending = Pending(known.instances, revision=known.revision)
            self._wake(wakes)

    def push(self, changes: tuple[Change, ...], known: Known, wakes: Wakes) -> None:
        with self._lock:
            self._known = known
            for change in changes:
                self._pending.push(change)
            self._wake(wakes)

    def end(self, what: str, wakes: Wakes) -> None:
        with self._lock:
            self._ended = what
            self._wake(wakes)

    def _wake(self, wakes: Wakes) -> None:
        if self._news is not None:
            self._news.set()
        if self._waiter is not None:
            wakes.add(*self._waiter)


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


@final
class _Callback:
    """A plain function as a subscriber."""

    def __init__(self, call: Callable[[tuple[Instance, ...]], object]) -> None:
        self._call = call
        self.stopped = False

    def begin(self, known: Known, wakes: Wakes) -> None:
        if not self.stopped:
            self._call(known.instances)

    def push(self, changes: tuple[Change, ...], known: Known, wakes: Wakes) -> None:
        self.begin(known, wakes)

    def end(self, what: str, wakes: Wakes) -> None:
        self.stopped = True


def call_back(
    book: Book, service: str, callback: Callable[[tuple[Instance, ...]], object]
) -> Callable[[], None]:
    """Call ``callback`` with all instances, now and after each change; the result ends that."""
    subscriber = _Callback(callback)
    pid = os.getpid()
    follow(book, service, subscriber)

    def stop() -> None:
        if not subscriber.stopped and pid == os.getpid():
            subscriber.stopped = True
            PORTAL.loop.call_soon_threadsafe(book.unsubscribe, service, subscriber)

    return stop


def follow(book: Book, service: str, subscriber: ServiceWatch | _Callback) -> None:
    """Subscribe on the portal's loop, from whatever thread."""

    def begin() -> None:
        try:
            book.subscribe(service, subscriber)
        except ClosedError as error:
            wakes = Wakes()
            subscriber.end(error.name, wakes)
            wakes.send()

    PORTAL.loop.call_soon_threadsafe(begin)
