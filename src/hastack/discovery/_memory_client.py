"""A process's link to the data of a shared store: direct in the owner, by socket elsewhere.

Everything here runs on the process's background loop.
"""

from __future__ import annotations

import asyncio
import itertools
import struct
from collections import deque
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, cast, final

from hastack._core._errors import (
    HastackError,
    InvalidArgument,
    RequestTooLarge,
    StoreError,
    StoreUnavailable,
)

from . import _memory_lock, _memory_wire
from ._memory_watch import Wake, resolve
from ._memory_wire import Call, Frames, Goodbye, Hello, Malformed, Next, Ping, Unwatch, WatchCall
from ._mvcc_watch import Subscription

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from ._memory_engine import Engine
    from ._memory_wire import Message
    from ._records import Batch

__all__ = ("Feed", "Link", "LinkLost", "LocalLink", "NotSent", "SocketLink", "VersionRefused")

PING = 1.0  # seconds of silence after which the owner is asked whether it lives
SILENCE = 5.0  # seconds of silence after which it is given up
IN_FLIGHT = 16 * 2**20  # bytes of requests that wait for the owner to read them
GREETING = 2.0  # seconds for the owner's greeting


class LinkLost(StoreUnavailable):
    """The owner is out of reach, or does not answer any more; another one may come."""

    def again(self) -> LinkLost:
        """A new error: a shared one would collect the tracebacks of every raise."""
        return LinkLost(str(self), code="UNAVAILABLE")


class NotSent(LinkLost):
    """The link had ended before the request was sent."""


class VersionRefused(StoreError):
    """The owner runs another version of hastack, with which this one cannot speak."""


class Feed(Protocol):
    """A watch over one link."""

    async def next(self) -> Batch:
        """What has changed, as soon as something has.

        Raises:
            LinkLost: The link has ended.
        """
        ...

    def close(self) -> None:
        """End it."""
        ...


@final
class LocalLink:
    """The owner's own access."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.cluster = engine.cluster
        self.lost: LinkLost | None = None
        self._feeds: set[_LocalFeed] = set()

    @property
    def heard(self) -> float:
        """Always just now."""
        return asyncio.get_running_loop().time()

    async def call(self, name: str, args: tuple[Any, ...]) -> Any:
        """Call a method of the engine."""
        return getattr(self.engine, name)(*args)

    async def watch(self, call: WatchCall) -> Feed:
        """Begin a watch."""
        one = Subscription(
            call.key,
            prefix=call.prefix,
            start_revision=call.start_revision,
            prev=call.prev,
            buffer=call.buffer,
        )
        feed = _LocalFeed(self, one)
        self._feeds.add(feed)
        self.engine.subscribe(one)
        return feed

    def end(self, why: LinkLost) -> None:
        """This process is the owner no more."""
        self.lost = why
        for feed in list(self._feeds):
            feed.close()


@final
class _LocalFeed:
    def __init__(self, link: LocalLink, one: Subscription) -> None:
        self._link = link
        self._one = one

    async def next(self) -> Batch:
        loop = asyncio.get_running_loop()
        while True:
            if self._link.lost is not None:
                raise self._link.lost.again()
            ready: asyncio.Future[None] = loop.create_future()
            batch = self._link.engine.take(self._one, Wake(loop, resolve(ready)))
            if batch is not None:
                return batch
            await ready

    def close(self) -> None:
        self._link._feeds.discard(self)
        self._link.engine.unsubscribe(self._one)


@final
class SocketLink(asyncio.Protocol):
    """A connection to the owner. Requests are numbered; answers may come in any order."""

    def __init__(self, ended: Callable[[LinkLost], object]) -> None:
        self.cluster = 0
        self.lost: LinkLost | None = None
        self._ended = ended
        self._loop = asyncio.get_running_loop()
        self.heard = self._loop.time()
        self._frames = Frames(_memory_wire.ANSWER_LIMIT)
        self._numbers = itertools.count(1)
        self._hello: asyncio.Future[Hello] = self._loop.create_future()
        # What was asked and waits for its answer: whose loop, and the future there.
        self._waiting: dict[int, _Waiter] = {}
        self._outbox: deque[tuple[int, bytes, _Waiter]] = deque()  # from any thread
        self._flushing = False
        self._goodbye = ""
        self._pinger: asyncio.TimerHandle | None = None

    @classmethod
    async def over(cls, one: socket.socket, ended: Callable[[LinkLost], object]) -> SocketLink:
        """Greet the owner at the other end of ``one``.

        Raises:
            LinkLost: It does not answer.
            VersionRefused: It speaks another version.
        """
        loop = asyncio.get_running_loop()
        try:
            _, link = await loop.create_unix_connection(lambda: cls(ended), sock=one)
        except BaseException:
            _memory_lock.close(one)
            raise
        try:
            async with asyncio.timeout(GREETING):
                hello = await link._hello
        except TimeoutError:
            link._end(f"the owner did not answer within {GREETING:g} s")
            assert link.lost is not None
            raise link.lost from None
        except BaseException:
            link._end("the greeting was given up")
            raise
        link.cluster = hello.cluster
        link._ping()
        return link

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._socket = transport.get_extra_info("socket")._sock
        self._send(0, Hello(_memory_wire.VERSION))

    def connection_lost(self, exc: Exception | None) -> None:
        _memory_lock.close(self._socket)
        self._end(self._goodbye or "the owner has gone")

    def data_received(self, data: bytes) -> None:
        self.heard = self._loop.time()
        answers: _Answers = {}
        try:
            for frame in self._frames.feed(data):
                self._take(*_memory_wire.decode(frame), answers)
        except Malformed as error:
            self._end(f"the owner sent what is no message: {error}")
        _hand_out(answers)

    def _take(self, number: int, message: Message, answers: _Answers) -> None:
        if isinstance(message, Goodbye):
            self._goodbye = message.reason
            if message.reason.startswith("version") and not self._hello.done():
                refused = VersionRefused(message.reason, code="FAILED_PRECONDITION")
                self._hello.set_exception(refused)
        elif isinstance(message, Hello):
            if not self._hello.done():
                self._hello.set_result(message)
        elif number in self._waiting:
            loop, future = self._waiting.pop(number)
            answers.setdefault(loop, []).append((future, message))

    def _send(self, number: int, message: Message) -> None:
        self._transport.write(_memory_wire.encode(number, message))

    def _end(self, why: str) -> None:
        """Nothing more will come."""
        if self.lost is not None:
            return
        self.lost = LinkLost(why, code="UNAVAILABLE")
        if self._pinger is not None:
            self._pinger.cancel()
        self._transport.abort()
        if not self._hello.done():
            self._hello.set_exception(self.lost.again())
            self._hello.exception()  # nobody may be there to look at it
        self._flush()
        self._ended(self.lost)

    def close(self) -> None:
        """Let the owner go."""
        self._end("the store was closed")

    def _ping(self) -> None:
        """Look whether the owner lives: an open connection says nothing of a stopped process."""
        silent = self._loop.time() - self.heard
        if silent > SILENCE:
            self._end(f"the owner has been silent for {silent:.1f} s")
            return
        if silent > PING / 2:
            self._send(next(self._numbers), Ping())
        self._pinger = self._loop.call_later(PING, self._ping)

    def ask(self, message: Message) -> tuple[int, asyncio.Future[Any]]:
        """Send ``message``, from any event loop; its number, and the answer as it comes."""
        if self.lost is not None:
            raise NotSent(str(self.lost), code="UNAVAILABLE")
        number = next(self._numbers)
        try:
            frame = _memory_wire.encode(number, message)
        except struct.error as error:
            raise InvalidArgument("request", message, "whole numbers of 64 bits") from error
        if len(frame) > _memory_wire.REQUEST_LIMIT:
            raise RequestTooLarge("bytes", len(frame), _memory_wire.REQUEST_LIMIT)
        if self._transport.get_write_buffer_size() > IN_FLIGHT:
            raise StoreUnavailable("the owner reads nothing of what is sent", code="UNAVAILABLE")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        self._outbox.append((number, frame, (loop, future)))
        # Who comes while the flag is set has left its frame before the outbox is emptied.
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon_threadsafe(self._flush)
        return number, future

    def _flush(self) -> None:
        """Write what was asked since the last time, all at once."""
        self._flushing = False
        frames = []
        while self._outbox:
            number, frame, waiter = self._outbox.popleft()
            self._waiting[number] = waiter
            frames.append(frame)
        if self.lost is None:
            self._transport.write(b"".join(frames))
            return
        answers: _Answers = {}
        for loop, future in self._waiting.values():
            answers.setdefault(loop, []).append((future, self.lost.again()))
        self._waiting.clear()
        _hand_out(answers)

    async def call(self, name: str, args: tuple[Any, ...]) -> Any:
        """Call a method of the owner's engine; without a time limit."""
        return await self.ask(Call(name, args))[1]

    async def watch(self, call: WatchCall) -> Feed:
        """Begin a watch at the owner."""
        number, begun = self.ask(call)
        await begun
        return _SocketFeed(self, number)


_Waiter: TypeAlias = tuple[asyncio.AbstractEventLoop, asyncio.Future[Any]]
_Answers: TypeAlias = dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[Any], Any]]]


def _hand_out(answers: _Answers) -> None:
    """Resolve the futures of each loop there, with one wake-up."""
    here = asyncio.get_running_loop()
    for loop, answered in answers.items():
        if loop is here:
            _resolve_all(answered)
            continue
        try:
            loop.call_soon_threadsafe(_resolve_all, answered)
        except RuntimeError:
            pass  # the loop is closed, and nobody waits on it


def _resolve_all(answered: list[tuple[asyncio.Future[Any], Any]]) -> None:
    for future, answer in answered:
        if future.done():
            continue
        if isinstance(answer, HastackError):
            future.set_exception(answer)
            future.exception()  # who asked may have gone
        else:
            future.set_result(answer)


@final
class _SocketFeed:
    def __init__(self, link: SocketLink, number: int) -> None:
        self._link = link
        self._number = number

    async def next(self) -> Batch:
        batch: Batch = await self._link.ask(Next(self._number))[1]
        return batch

    def close(self) -> None:
        if self._link.lost is None:
            self._link._send(0, Unwatch(self._number))


Link: TypeAlias = LocalLink | SocketLink
"""Access to one life of the store."""
