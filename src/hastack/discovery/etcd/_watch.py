"""All watches of one client: one stream, read on the process's background loop.

The shell of the watch core: it opens the stream, reads and writes it, makes listings, keeps time
and wakes subscribers, as `WatchCore` commands. All of it runs on the background loop, so a
subscriber whose own loop is blocked delays nobody.
"""

from __future__ import annotations

import asyncio
import contextvars
import random
import time
from collections import deque
from typing import TYPE_CHECKING, Any, final

from hastack._core._errors import ClosedError, HastackError, NotAuthorized, StoreError
from hastack._core._portal import PORTAL
from hastack._core._validate import integer

from . import _wire
from ._watch_core import WatchCore
from ._watch_events import (
    OVERFLOWED,
    RESYNCED,
    STREAM_LOST,
    STREAM_OPENED,
    WatchOverflowed,
    WatchResynced,
    WatchStreamLost,
    WatchStreamOpened,
)
from ._watch_handle import EtcdWatch, wake_all
from ._watch_listing import Failed, list_range
from ._watch_records import (
    AskProgress,
    CancelWatch,
    CreateWatch,
    CutStream,
    ForgetListing,
    ListRange,
    OpenStream,
    Overflowed,
    Range,
    Resynced,
    Wake,
)
from ._watch_subscriber import Subscriber
from ._watch_wire import answer_of, request_of

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from ._client import Client
    from ._stream import Stream
    from ._watch_records import Command

__all__ = ("WatchHub",)

_LISTINGS = 8  # that one client makes at once; the others queue
_PAUSE = (0.05, 1.0)  # seconds before a stream is opened again: first and longest
_DENIALS = 3  # streams in a row that end with the user refused
_LATE = 0.1  # a timer that rings later says that this process was held up
_GRACE = 0.05  # seconds to read what came meanwhile


@final
class WatchHub:
    """All watches of one client.

    Args:
        client: Whose connections to use.
        interval: Seconds between two questions for progress.
        deadline: Seconds after which a stream that answers nothing is given up.
    """

    def __init__(self, client: Client, *, interval: float = 5.0, deadline: float = 3.0) -> None:
        self._client = client
        self._codec = client._codec
        self._core = WatchCore(interval=interval, deadline=deadline)
        self._closed = False
        # Everything below belongs to the background loop.
        self._tasks: set[asyncio.Task[None]] = set()
        self._listings: dict[int, asyncio.Task[None]] = {}
        self._turn = asyncio.Semaphore(_LISTINGS)
        self._serving: asyncio.Task[None] | None = None
        self._stream: Stream | None = None
        self._outbox: deque[Any] = deque()
        self._outgoing = asyncio.Event()
        self._failures = 0
        self._denials = 0
        self._timer: asyncio.TimerHandle | None = None
        self._rings_at = 0.0
        self._graced = False

    # From any thread

    def watch(
        self,
        key: bytes,
        end: bytes | None,
        start_revision: int | None,
        prev: bool,  # the order of the Protocol's arguments
        buffer: int,
    ) -> EtcdWatch:
        """A watch that begins when it is entered.

        Raises:
            InvalidArgument: ``start_revision`` or ``buffer`` is below 1.
        """
        integer("buffer", buffer)
        if start_revision is not None:
            integer("start_revision", start_revision)
        where = Range(key, end or None, bool(prev))
        return EtcdWatch(self, Subscriber(where, start=start_revision, limit=buffer))

    @property
    def trouble(self) -> Exception | None:
        """Why the store could not be asked last."""
        return self._client._shared.trouble

    def check_open(self) -> None:
        """Raise `ClosedError` when the client was closed."""
        if self._closed:
            raise ClosedError("etcd client")

    def attach(self, one: Subscriber) -> None:
        """Begin to tell a subscriber."""
        self._post(self._core.attach, one)

    def detach(self, one: Subscriber) -> None:
        """Tell it no more."""
        self._post(self._core.detach, one)

    def drained(self, one: Subscriber) -> None:
        """It lagged and has taken everything that waited."""
        self._post(self._core.drained, one)

    def _post(self, what: Callable[[Subscriber, float], None], one: Subscriber) -> None:
        loop = PORTAL.loop
        if asyncio._get_running_loop() is loop:
            self._tell(what, one)
            return
        try:
            loop.call_soon_threadsafe(self._tell, what, one)
        except RuntimeError:
            pass  # the interpreter is exiting

    async def aclose(self) -> None:
        """End all watches: whoever iterates gets a `ClosedError`."""
        self._closed = True
        await PORTAL.run(self._close())

    # On the background loop

    async def _close(self) -> None:
        self._core.fail_all(ClosedError("etcd client"))
        self._run()
        if self._timer is not None:
            self._timer.cancel()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _tell(self, what: Callable[[Subscriber, float], None], one: Subscriber) -> None:
        what(one, time.monotonic())
        if self._closed:
            self._core.fail_all(ClosedError("etcd client"))
        self._run()

    def _start(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        # Without the variables of whoever subscribed: its deadline is not the stream's.
        task = asyncio.get_running_loop().create_task(
            work, name=name, context=contextvars.Context()
        )
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _run(self) -> None:
        """Do what the core commands."""
        commands = self._core.commands
        while commands:
            self._do(commands.popleft())
        self._arm()

    def _do(self, command: Command) -> None:
        match command:
            case Wake(subscribers):
                self._wake(subscribers)
            case CreateWatch() | CancelWatch() | AskProgress():
                self._outbox.append(request_of(command))
                self._outgoing.set()
            case ListRange(ticket):
                self._listings[ticket] = self._start(self._list(command), "etcd watch, listing")
            case ForgetListing(ticket):
                task = self._listings.pop(ticket, None)
                if task is not None:
                    task.cancel()
            case OpenStream():
                self._serving = self._start(self._serve(), "etcd watch stream")
            case CutStream():
                self._cut(command)
            case Resynced(where, reason, changes, revision):
                if RESYNCED.subscribers:
                    key, end = self._shown(where)
                    RESYNCED.publish(
                        WatchResynced(
                            key=key, end=end, reason=reason, changes=changes, revision=revision
                        )
                    )
            case Overflowed(one):
                if OVERFLOWED.subscribers:
                    key, end = self._shown(one.where)
                    OVERFLOWED.publish(WatchOverflowed(key=key, end=end, buffer=one.limit))

    def _shown(self, where: Range) -> tuple[bytes, bytes | None]:
        """A range without the client's namespace."""
        inner = self._codec.inner
        return inner(where.key), where.end if where.end is None else inner(where.end)

    def _wake(self, subscribers: Sequence[Subscriber]) -> None:
        loops: dict[asyncio.AbstractEventLoop, list[EtcdWatch]] = {}
        for one in subscribers:
            watch = one.owner
            assert isinstance(watch, EtcdWatch)
            assert watch._loop is not None
            loops.setdefault(watch._loop, []).append(watch)
        here = asyncio.get_running_loop()
        for loop, watches in loops.items():
            if loop is here:
                wake_all(watches)
                continue
            try:
                loop.call_soon_threadsafe(wake_all, watches)
            except RuntimeError:  # that loop was closed with watches open: they are left now
                for watch in watches:
                    self.detach(watch._subscriber)

    # Time

    def _arm(self) -> None:
        at = self._core.due()
        if at is None or (self._timer is not None and self._rings_at <= at):
            return  # when it rings too early, it looks again
        if self._timer is not None:
            self._timer.cancel()
        self._set_timer(at)

    def _set_timer(self, at: float) -> None:
        self._rings_at = at
        delay = max(0.0, at - time.monotonic())
        self._timer = asyncio.get_running_loop().call_later(
            delay, self._ring, context=contextvars.Context()
        )

    def _ring(self) -> None:
        self._timer = None
        now = time.monotonic()
        if now - self._rings_at > _LATE and not self._graced:
            self._graced = True
            self._set_timer(now + _GRACE)
            return
        self._graced = False
        self._core.tick(now)
        self._run()

    # Listings

    async def _list(self, command: ListRange) -> None:
        try:
            transport = self._client._transport()
            listing = await list_range(transport, self._codec, command, self._turn)
        except Failed as failed:
            if self._listings.pop(command.ticket, None) is not None:
                self._core.listing_failed(
                    command.ticket, failed.failure, failed.error, time.monotonic()
                )
        except ClosedError:
            return  # whoever closed the client tells the subscribers
        except Exception as error:  # better an error than a subscriber that waits for ever
            if self._listings.pop(command.ticket, None) is not None:
                self._core.listing_failed(command.ticket, "final", error, time.monotonic())
        else:
            if self._listings.pop(command.ticket, None) is not None:
                self._core.listed(command.ticket, listing, time.monotonic())
        self._run()

    # The stream

    def _cut(self, command: CutStream) -> None:
        task, self._serving = self._serving, None
        stream, self._stream = self._stream, None
        if stream is not None:
            if command.why:
                self._lost(stream.endpoint, command.why)
            if command.silent:
                stream.give_up()
            else:
                stream.cancel()
        elif task is not None:
            task.cancel()  # it was still being opened

    def _lost(self, endpoint: str, reason: str) -> None:
        if STREAM_LOST.subscribers:
            STREAM_LOST.publish(
                WatchStreamLost(endpoint=endpoint, reason=reason, watches=self._core.watches)
            )

    async def _serve(self) -> None:
        """Open a stream, and use it until it ends."""
        me = asyncio.current_task()
        try:
            stream = await self._open()
        except Exception as error:  # whoever waits for the stream would wait for ever
            self._core.fail_all(error)
            self._run()
            return
        if self._serving is not me:
            stream.cancel()
            return
        self._stream = stream
        self._outbox, self._outgoing = deque(), asyncio.Event()
        self._core.opened(time.monotonic())
        if STREAM_OPENED.subscribers:
            STREAM_OPENED.publish(
                WatchStreamOpened(endpoint=stream.endpoint, watches=self._core.watches)
            )
        self._run()
        helpers = (
            self._start(
                self._write(stream, self._outbox, self._outgoing), "etcd watch stream, asking"
            ),
            self._start(self._ask_version(stream), "etcd watch stream, version"),
        )
        reason = ""
        began = time.monotonic()
        try:
            await self._read(stream)
        except NotAuthorized as error:
            self._denials += 1
            reason = str(error)
            if self._denials >= _DENIALS and self._stream is stream:
                self._core.fail_all(error)
        except HastackError as error:
            reason = str(error)
        except Exception as error:  # whatever it was, a new stream begins at what is known
            reason = repr(error)
        finally:
            for helper in helpers:
                helper.cancel()
            stream.cancel()
        if self._stream is not stream or time.monotonic() - began > _PAUSE[1]:
            self._failures = 0  # it ended because nobody needed it, or after a while
        if self._stream is stream:
            self._stream = self._serving = None
            self._lost(stream.endpoint, reason)
            self._core.lost(time.monotonic())
        self._run()

    async def _open(self) -> Stream:
        """Open a stream, for as long as it takes."""
        while True:
            if self._failures:
                first, longest = _PAUSE
                pause = min(longest, first * 2.0 ** min(self._failures, 16))
                await self._client._transport().rest(random.random() * pause)
            self._failures += 1
            try:
                return await self._client._transport().stream(_wire.WATCH, require_leader=True)
            except NotAuthorized:
                raise
            except StoreError as error:
                self._lost("", str(error))

    async def _read(self, stream: Stream) -> None:
        core, cut = self._core, len(self._codec.namespace)
        first = True
        while True:
            message = await stream.read()
            if self._stream is not stream:
                return  # given up meanwhile
            if first:
                first = False
                self._denials = 0
            core.received(answer_of(message, cut), time.monotonic())
            self._run()

    async def _write(self, stream: Stream, outbox: deque[Any], outgoing: asyncio.Event) -> None:
        try:
            while True:
                while outbox:
                    await stream.write(outbox.popleft())
                outgoing.clear()
                await outgoing.wait()
        except HastackError:
            pass  # the reader meets the same end

    async def _ask_version(self, stream: Stream) -> None:
        """Until it is known, the server is believed to have every bug."""
        try:
            version = await self._client._transport().server_version(stream.endpoint)
        except HastackError:
            return
        if self._stream is stream:
            self._core.serves(version)
