"""A subscription to one service: the snapshot, then every change, for tasks and threads."""

from __future__ import annotations

import asyncio
import os
import threading
from typing import TYPE_CHECKING, final

from hastack import context
from hastack._core._cancel import BACKGROUND, _current
from hastack._core._errors import ClosedError, InvalidArgument
from hastack._core._portal import PORTAL

from ._registry_changes import Change, Pending

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

    from hastack._core._cancel import Context

    from ._instance import Instance
    from ._registry_book import Book
    from ._registry_changes import ChangeLog, Entry
    from ._registry_feed import Known, Resolved, Wakes

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
        self._loop: object = self  # the feed's; a forked child has another one, or none
        self._closed = False
        # Set by the feed's thread.
        self._wakes: Wakes | None = None
        self._log: ChangeLog | None = None
        self._ended: str | None = None  # what was closed beneath it
        # Belongs to whoever iterates.
        self._at: Entry | None = None  # the last step of the log that was read
        self._pending = Pending()
        self._came = False  # the snapshot has, and `next_batch` has not told so yet
        self._waiter: asyncio.Future[None] | None = None
        self._news: threading.Event | None = None  # for a thread that waits

    def __repr__(self) -> str:
        return f"<ServiceWatch {self.service!r}>"

    # Looking at it ----------------------------------------------------------------------

    @property
    def synced(self) -> bool:
        """Whether the snapshot has come; before that, no instance does not mean none."""
        return self._log is not None

    @property
    def instances(self) -> tuple[Instance, ...]:
        """All instances as of now, also those whose changes were not iterated over yet."""
        log = self._log
        return () if log is None else log.last.known.instances

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
        self._loop = PORTAL.loop
        follow(self._book, self.service, self)

    def _leave(self) -> None:
        self._closed = True
        book = self._book
        if book is not None and self._pid == os.getpid():
            PORTAL.loop.call_soon_threadsafe(book.unsubscribe, self.service, self)
        self._wake()

    # Taking -----------------------------------------------------------------------------

    def __aiter__(self) -> Self:
        return self

    def __iter__(self) -> Self:
        return self

    async def __anext__(self) -> Change:
        while True:
            found = self._take()
            if found is not None:
                return found
            if self._over():
                raise StopAsyncIteration
            future = self._begin_to_wait()
            ctx = _current.get()
            try:
                if ctx is BACKGROUND:
                    await future
                else:
                    await _wait_under(ctx, future)
            finally:
                self._waiter = None

    def __next__(self) -> Change:
        while True:
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
            self._read()
            found = self._pending.take_all()
            came, self._came = self._came, False
            if found or came or self._over():
                return found
            future = self._begin_to_wait()
            try:
                await _wait_under(_current.get(), future)
            finally:
                self._waiter = None

    def _read(self) -> None:
        """Take over what the feed has told since."""
        log = self._log
        if log is None or self._at is log.last or self._closed:
            return
        if self._at is None:
            self._at = log.last
            known = self._at.known
            self._pending = Pending(known.instances, revision=known.revision)
            self._came = True
        else:
            self._at = log.read(self._at, self._pending)

    def _take(self) -> Change | None:
        """The change that waits for the longest; a thousand subscribers ask this per change."""
        self._came = False  # iterating has no word for an empty snapshot
        log, at, pending = self._log, self._at, self._pending
        if log is not None and log.last is not at:
            if at is not None and not pending and not self._closed:
                step = log.single(at)
                if step is not None:
                    self._at = step
                    return step.changes[0]
            self._read()
            self._came = False
            pending = self._pending
        return pending.take()

    def _over(self) -> bool:
        """Whether the block was left; raises when the feed has ended otherwise."""
        if self._closed:
            return True
        if self._ended is not None or self._loop is not PORTAL._loop:
            self._check()
        ctx = _current.get()
        if ctx is not BACKGROUND:
            ctx.check()
        return False

    def _check(self) -> None:
        if not self._pid:
            raise InvalidArgument("watch", self, "a watch inside its `async with` or `with`")
        if self._pid != os.getpid():
            raise ClosedError(f"the watch of {self.service!r}, from before a fork,")
        if self._ended is not None:
            raise ClosedError(self._ended)

    def _has_news(self) -> bool:
        """Whether to look again; asked after entering those who are woken, so nothing is missed."""
        log = self._log
        if log is not None and log.last is not self._at:
            return True
        return self._closed or self._ended is not None

    def _begin_to_wait(self) -> asyncio.Future[None]:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            raise InvalidArgument("watch", self, "one task at a time that iterates")
        loop = asyncio.get_running_loop()
        self._waiter = waiter = loop.create_future()
        if self._wakes is not None:
            self._wakes.add(self, loop, waiter)
        if self._has_news():
            waiter.set_result(None)
        return waiter

    def _wait(self) -> None:
        """Block this thread until there may be something new, or the context has ended."""
        ctx = context.current()
        news = self._news = threading.Event()
        stop = ctx._watch(news.set)
        try:
            if self._wakes is not None:
                self._wakes.add_thread(self, news)
            if not self._has_news():
                ctx._clock.wait(news, ctx.remaining())
        finally:
            stop()
            self._news = None

    def _wake(self) -> None:
        """Have whoever waits look; from any thread."""
        news, waiter = self._news, self._waiter
        if news is not None:
            news.set()
        if waiter is not None:
            _resolve_soon(waiter)

    # A subscriber of the feed, on the portal's loop ---------------------------------------

    def _take_up(self, log: ChangeLog, wakes: Wakes) -> None:
        self._wakes = wakes
        self._log = log
        self._wake()

    def _hear(self, known: Known) -> None:
        """It reads the log."""

    def _let_go(self, what: str) -> None:
        self._ended = what
        self._wake()


async def _wait_under(ctx: Context, future: asyncio.Future[None]) -> None:
    """Wait for ``future``, and no longer than the context lasts."""
    stop = ctx.after_func(lambda: _resolve_soon(future))
    try:
        await future
    finally:
        stop()


def _resolve_soon(future: asyncio.Future[None]) -> None:
    try:
        future.get_loop().call_soon_threadsafe(_resolve, future)
    except RuntimeError:
        pass  # the loop is closed, and the waiter with it


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


@final
class _Callback:
    """A plain function as a subscriber."""

    def __init__(self, call: Callable[[tuple[Instance, ...]], object]) -> None:
        self._call = call
        self.stopped = False

    def _take_up(self, log: ChangeLog, wakes: Wakes) -> None:
        self._hear(log.last.known)

    def _hear(self, known: Known) -> None:
        if not self.stopped:
            self._call(known.instances)

    def _let_go(self, what: str) -> None:
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
            subscriber._let_go(error.name)

    PORTAL.loop.call_soon_threadsafe(begin)
