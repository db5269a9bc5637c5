"""The owner's side of a shared store: serves the data of an engine to other processes.

Everything here runs on the process's background loop. A peer that does not read is not read from
either, so what is kept for it is bounded: the requests of one read, and per watch the buffer that
the watch asked for.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, cast, final

from hastack._core._errors import HastackError, StoreError

from . import _memory_lock, _memory_wire
from ._memory_wire import Call, Frames, Goodbye, Hello, Malformed, Next, Ping, Unwatch, WatchCall
from ._mvcc_watch import Subscription

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from ._memory_engine import Engine
    from ._memory_wire import Message

__all__ = ("Server",)

MAX_PEERS = 1000
MAX_WATCHES = 10_000  # of one peer
_AT_ONCE = 2**16  # bytes of answers that are written at once
_SILENCE = 30.0  # seconds without a sign of life after which a peer is given up


@final
class Server:
    """Listens, and keeps the peers.

    Args:
        engine: The data.
        listener: The socket, which it closes in the end.
    """

    def __init__(self, engine: Engine, listener: socket.socket) -> None:
        self.engine = engine
        self.peers: set[_Peer] = set()
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[object]] = set()
        self._loop.add_reader(listener, self._accept)

    def _accept(self) -> None:
        try:
            one = _memory_lock.accept(self._listener)
        except OSError:
            return  # no more file descriptors, or the peer has gone: it tries again
        if one is None:
            return
        task = self._loop.create_task(self._loop.connect_accepted_socket(lambda: _Peer(self), one))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def check(self) -> None:
        """Give up peers that have been silent for too long; to be called now and then."""
        now = self._loop.time()
        for peer in list(self.peers):
            if now - peer.heard > _SILENCE:
                peer.close(f"nothing was heard for {_SILENCE:g} s")

    def close(self, reason: str) -> None:
        """Close everything."""
        self._loop.remove_reader(self._listener)
        _memory_lock.close(self._listener)
        for task in self._tasks:
            task.cancel()
        for peer in list(self.peers):
            peer.close(reason)


@final
class _Peer(asyncio.Protocol):
    """One connection of another process."""

    def __init__(self, server: Server) -> None:
        self.heard = server._loop.time()
        self._server = server
        self._engine = server.engine
        self._frames = Frames(_memory_wire.REQUEST_LIMIT)
        self._todo: deque[bytes] = deque()
        self._greeted = False
        self._closed = False
        self._full = False  # what was written has not been read by the peer
        self._out: list[bytes] = []
        self._out_size = 0
        self._watches: dict[int, Subscription] = {}
        self._parked: dict[int, int] = {}  # watch -> number of the request that waits for it
        self._ready: dict[int, None] = {}  # parked watches that have something by now

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._socket = transport.get_extra_info("socket")._sock
        self._server.peers.add(self)
        if len(self._server.peers) > MAX_PEERS:
            self.close(f"more than {MAX_PEERS} processes")

    def connection_lost(self, exc: Exception | None) -> None:
        self._closed = True
        self._server.peers.discard(self)
        self._todo.clear()
        for one in self._watches.values():
            self._engine.unsubscribe(one)
        self._watches.clear()
        self._parked.clear()
        _memory_lock.close(self._socket)

    def pause_writing(self) -> None:
        self._full = True
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._full = False
        self._transport.resume_reading()
        self._work()

    def data_received(self, data: bytes) -> None:
        self.heard = self._server._loop.time()
        try:
            self._todo += self._frames.feed(data)
            self._work()
        except Malformed as error:
            self.close(f"malformed: {error}")

    def close(self, reason: str) -> None:
        """Say why, and close; also a peer that does not read is rid of in the end."""
        if not self._closed:
            self._flush()
            self._closed = True
            self._todo.clear()
            self._transport.write(_memory_wire.encode(0, Goodbye(reason)))
            self._transport.close()
            self._server._loop.call_later(1.0, self._transport.abort)

    def _work(self) -> None:
        """Do what was asked and send what is ready, as long as the peer reads."""
        try:
            while not self._full and not self._closed:
                if self._ready:
                    self._hand_over(self._ready.popitem()[0])
                elif self._todo:
                    self._handle(*_memory_wire.decode(self._todo.popleft()))
                else:
                    break
            self._flush()
        except Malformed as error:
            self.close(f"malformed: {error}")

    def _send(self, number: int, message: Message) -> None:
        frame = _memory_wire.encode(number, message)
        self._out.append(frame)
        self._out_size += len(frame)
        if self._out_size > _AT_ONCE:
            self._flush()

    def _flush(self) -> None:
        """Write what was said since the last time, all at once."""
        if self._out and not self._closed:
            frames, self._out, self._out_size = self._out, [], 0
            self._transport.write(b"".join(frames))

    def _handle(self, number: int, message: Message) -> None:
        if not self._greeted:
            self._greet(message)
        elif isinstance(message, Call):
            self._send(number, self._answer(message))
        elif isinstance(message, Next):
            if message.watch not in self._watches or message.watch in self._parked:
                raise Malformed(f"no watch {message.watch} that could hand over")
            self._parked[message.watch] = number
            self._hand_over(message.watch)
        elif isinstance(message, WatchCall):
            self._send(number, self._watch(number, message))
        elif isinstance(message, Unwatch):
            self._parked.pop(message.watch, None)
            one = self._watches.pop(message.watch, None)
            if one is not None:
                self._engine.unsubscribe(one)
        elif isinstance(message, Ping):
            self._send(number, message)
        else:
            raise Malformed("a message that only the owner sends")

    def _greet(self, message: Message) -> None:
        if not isinstance(message, Hello):
            raise Malformed("no greeting")
        if message.version != _memory_wire.VERSION:
            self.close(f"version {message.version}: the owner speaks {_memory_wire.VERSION}")
            return
        self._greeted = True
        self._send(0, Hello(_memory_wire.VERSION, self._engine.cluster))

    def _answer(self, call: Call) -> Message:
        try:
            method: Callable[..., Message] = getattr(self._engine, call.name)
            return method(*call.args)
        except HastackError as error:
            return error

    def _watch(self, number: int, call: WatchCall) -> Message:
        if number in self._watches:
            raise Malformed(f"a second watch {number}")
        if len(self._watches) >= MAX_WATCHES:
            return StoreError(
                f"more than {MAX_WATCHES} watches of one process", code="RESOURCE_EXHAUSTED"
            )
        one = Subscription(
            call.key,
            prefix=call.prefix,
            start_revision=call.start_revision,
            prev=call.prev,
            buffer=call.buffer,
        )
        self._watches[number] = one
        self._engine.subscribe(one)
        return None

    def _hand_over(self, watch: int) -> None:
        """Answer a request that waits for a watch, now or as soon as there is something."""
        one, number = self._watches.get(watch), self._parked.get(watch)
        if one is None or number is None:
            return
        batch = self._engine.take(one, lambda: self._wake(watch))
        if batch is not None:
            del self._parked[watch]
            self._send(number, batch)

    def _wake(self, watch: int) -> None:
        """From any thread: a parked watch has something."""
        try:
            self._server._loop.call_soon_threadsafe(self._woken, watch)
        except RuntimeError:
            pass  # the loop has ended, and the connection with it

    def _woken(self, watch: int) -> None:
        self._ready[watch] = None
        self._work()
