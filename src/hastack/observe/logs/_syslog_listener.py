"""Syslog over UDP and TCP (RFC 5426, RFC 6587), for senders that may be slow, many or hostile.

One thread receives; messages wait in a queue of bounded size until the engine takes them. What
happens when it is full differs: a TCP sender is not read from until there is room, so it waits; a
datagram is dropped and counted, for nothing can make its sender wait.
"""

from __future__ import annotations

import os
import selectors
import socket
import struct
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any, final

from hastack import context as _context
from hastack._core._errors import ClosedError, InvalidArgument
from hastack._core._fork import renew_in_child
from hastack._core._validate import integer
from hastack._core._validate import optional_seconds as _optional_seconds
from hastack._core._validate import seconds as _seconds

from ._batching import Chunk
from ._engine_events import LINES_DROPPED, LinesDropped
from ._syslog_frames import Framer, FramingError
from .sources import LOOK, Tallies

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hastack._core._validate import Seconds

    from ._batching import Batching

__all__ = ("SyslogListener",)

_PIECE = 1 << 16
_DATAGRAM = 65535
_TURNS = 64  # reads from one socket before the others have their turn
_SO_RXQ_OVFL = 40  # Linux: how many datagrams the kernel dropped, with each one that it did not
_SWEEP = 1.0  # seconds between two looks at idle connections
_PATIENCE = 5.0  # seconds to wait for the engine at the end
_TELL = 1.0  # seconds between two events about drops


@final
class SyslogListener:
    r"""Receives syslog messages. Each message is a line, whatever it contains.

    Memory is bounded by ``max_queue`` plus ``max_connections * (max_message + 64 KiB)``. What is lost is in
    `Account.dropped`: ``udp_queue_full``, ``udp_kernel`` (dropped by the kernel, on Linux),
    ``connection_refused`` (connections beyond the bound, messages unknown), ``torn`` (the beginning
    of a message whose sender left; it is delivered), ``framing`` (connections closed for it),
    ``frame_timeout`` and ``idle_timeout`` (connections closed for them), ``stopped`` (connections that
    were not read to the end because the engine took nothing any more), ``cancelled`` (waiting when
    the context ended). Encryption is the business of a proxy in front.

    Args:
        host: Address to bind. The default is this machine only.
        port: For both protocols; 0 takes free ones, see `udp_address` and `tcp_address`.
        udp: Whether to listen to datagrams.
        tcp: Whether to accept connections.
        framing: ``"auto"`` looks at each frame, ``"octet"`` and ``"newline"`` insist.
        max_message: Bytes of a message that are kept; the rest is cut and counted.
        max_queue: Bytes of messages that wait for the engine.
        max_connections: More are closed at once, and counted.
        frame_timeout: Seconds for one message to arrive in; a sender that dribbles is cut off.
        idle_timeout: Seconds without a byte after which a connection is closed; ``None`` never.

    Raises:
        InvalidArgument: An argument is out of range, or neither protocol is wanted.
        OSError: The address cannot be bound.

    Example:
        >>> import socket
        >>> from hastack.observe import logs
        >>> listener = logs.SyslogListener(tcp=False)
        >>> with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        ...     _ = sender.sendto(b"<13>1 2026-10-10T10:00:00Z web1 shop - - - up", listener.udp_address)
        >>> engine = logs.Engine(listener)
        >>> for record in engine.records():
        ...     print(record["host"])
        ...     engine.stop()
        web1
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        udp: bool = True,
        tcp: bool = True,
        framing: str = "auto",
        max_message: int = 1 << 16,
        max_queue: int = 1 << 24,
        max_connections: int = 256,
        frame_timeout: Seconds = 30.0,
        idle_timeout: Seconds | None = 3600.0,
    ) -> None:
        if framing not in _FRAMINGS:
            raise InvalidArgument("framing", framing, "'auto', 'octet' or 'newline'")
        if not udp and not tcp:
            raise InvalidArgument("udp", udp, "at least one of udp and tcp")
        self._counted = _FRAMINGS[framing]
        self._max_message = integer("max_message", max_message)
        self._max_queue = integer("max_queue", max_queue)
        self._max_connections = integer("max_connections", max_connections)
        self._frame_timeout = _seconds("frame_timeout", frame_timeout)
        self._idle_timeout = _optional_seconds("idle_timeout", idle_timeout)
        self._tallies = Tallies()
        self._told: dict[str, tuple[float, int]] = {}
        self._lock = threading.Condition()
        self._queue: deque[bytes] = deque()
        self._queued = 0
        self._stopping = False
        self._stop_at = 0.0
        self._closed = False
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None
        self._owner = os.getpid()
        self._connections: dict[socket.socket, _Connection] = {}
        self._paused = False
        self._udp, self._tcp = _bound(host, integer("port", port, minimum=0), udp=udp, tcp=tcp)
        self._wake_out, self._wake_in = socket.socketpair()
        self._wake_in.setblocking(False)
        self._wake_out.setblocking(False)
        self._selector = selectors.DefaultSelector()
        renew_in_child(self)

    def _after_fork(self) -> None:
        # The sockets are the parent's: reading them here would take messages away from it.
        self._lock = threading.Condition()
        self._closed = True
        # Closed, not unregistered: the epoll instance is the parent's as well.
        self._selector.close()
        for each in (*self._connections, self._udp, self._tcp, self._wake_in, self._wake_out):
            if each is not None:
                each.close()
        self._connections = {}

    @property
    def udp_address(self) -> Any:
        """Where datagrams are received."""
        return None if self._udp is None else self._udp.getsockname()

    @property
    def tcp_address(self) -> Any:
        """Where connections are accepted."""
        return None if self._tcp is None else self._tcp.getsockname()

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._connections)

    # -- the engine's side ---------------------------------------------------------------------

    def chunks(self, rules: Batching) -> Iterator[Chunk | None]:
        """Messages as they come."""
        if self._closed:
            raise ClosedError("the listener is closed, or belongs to the parent of this process")
        thread = self._thread
        if thread is None:
            thread = threading.Thread(target=self._receive, name="hastack-logs-syslog", daemon=True)
            self._thread = thread
            thread.start()
        try:
            while True:
                _context.current().check()
                taken, size = self._take(rules)
                if taken:
                    yield Chunk("syslog", lines=taken, size=size, live=True)  # type: ignore[arg-type]
                    continue
                if self._failure is not None:
                    raise self._failure
                if not thread.is_alive():
                    return
                yield None
        finally:
            self.stop()
            with self._lock:
                left = len(self._queue)
                self._queue.clear()
                self._queued = 0
            if left:
                self._drop("cancelled", left)

    def _take(self, rules: Batching) -> tuple[list[bytes], int]:
        with self._lock:
            if not self._queue:
                left = _context.current().remaining()
                self._lock.wait(LOOK if left is None else min(LOOK, left))
            taken: list[bytes] = []
            size = 0
            while self._queue and len(taken) < rules.lines and size < rules.bytes:
                message = self._queue.popleft()
                size += len(message)
                taken.append(message)
            self._queued -= size
            resume = self._paused and self._queued <= self._max_queue // 2
        if resume:
            self._wake()
        return taken, size

    def settle(self, position: object) -> None:
        """Nothing can be asked for again."""

    def stop(self) -> None:
        """Accept nothing new; what has arrived is still handed out."""
        self._stopping = True
        self._wake()

    def close(self) -> None:
        """Close the sockets."""
        if self._owner != os.getpid():
            return
        self.stop()
        thread = self._thread
        if thread is None:
            self._let_go()
        elif thread is not threading.current_thread():
            thread.join(5.0)

    def tallies(self) -> Tallies:
        """What it counted."""
        return self._tallies

    def _wake(self) -> None:
        try:
            self._wake_out.send(b"w")
        except OSError:
            pass  # it is awake, or closed

    # -- the thread ----------------------------------------------------------------------------

    def _receive(self) -> None:
        selector = self._selector
        try:
            selector.register(self._wake_in, selectors.EVENT_READ)
            for listening in (self._udp, self._tcp):
                if listening is not None:
                    selector.register(listening, selectors.EVENT_READ)
            swept = time.monotonic()
            while not self._stopping:
                for key, _ in selector.select(_SWEEP):
                    self._serve(key.fileobj)
                now = time.monotonic()
                if now >= swept + _SWEEP:
                    swept = now
                    self._sweep(now)
            self._last_round()
        except BaseException as error:
            self._failure = error
        finally:
            self._let_go()
            with self._lock:
                self._lock.notify_all()

    def _serve(self, ready: Any) -> None:
        if ready is self._wake_in:
            self._wake_in.recv(4096)
            if self._paused and self._queued <= self._max_queue // 2:
                self._resume()
        elif ready is self._udp:
            self._read_datagrams()
        elif ready is self._tcp:
            self._accept()
        else:
            connection = self._connections.get(ready)
            if connection is not None and not self._paused:
                self._read(connection)

    def _last_round(self) -> None:
        """What the kernel holds already, for what was sent before the stop is expected to arrive."""
        if self._udp is not None:
            self._read_datagrams()
        until = time.monotonic() + _PATIENCE
        for connection in list(self._connections.values()):
            while self._queued >= self._max_queue and time.monotonic() < until:
                time.sleep(0.01)  # the engine is taking what is there
            if self._queued < self._max_queue:
                self._read(connection)
            else:
                self._drop("stopped", 1)
            self._lose(connection)

    def _read_datagrams(self) -> None:
        assert self._udp is not None
        for _ in range(_TURNS * 16):
            try:
                data, ancillary, _flags, _ = self._udp.recvmsg(_DATAGRAM, 64)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                return  # what an ICMP answer to somebody left behind
            for level, kind, value in ancillary:
                if level == socket.SOL_SOCKET and kind == _SO_RXQ_OVFL and len(value) == 4:
                    self._kernel_dropped(struct.unpack("=I", value)[0])
            self._tallies.bytes_read += len(data)
            message = data.rstrip(b"\n\0")
            if len(message) > self._max_message:
                self._cut(1, len(message) - self._max_message)
                message = message[: self._max_message]
            if message and not self._put([message], datagram=True):
                self._drop("udp_queue_full", 1)

    def _kernel_dropped(self, total: int) -> None:
        new = total - self._tallies.dropped.get("udp_kernel", 0)
        if new > 0:
            self._drop("udp_kernel", new)

    def _accept(self) -> None:
        assert self._tcp is not None
        for _ in range(_TURNS):
            try:
                accepted, _ = self._tcp.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                # No file descriptors left: the connection stays in the backlog. A listening socket
                # that stays readable must not make this loop spin.
                self._drop("connection_refused", 1)
                time.sleep(0.05)
                return
            if len(self._connections) >= self._max_connections:
                accepted.close()
                self._drop("connection_refused", 1)
                continue
            accepted.setblocking(False)
            connection = _Connection(accepted, Framer(self._max_message, counted=self._counted))
            self._connections[accepted] = connection
            if not self._paused:
                self._selector.register(accepted, selectors.EVENT_READ)

    def _read(self, connection: _Connection) -> None:
        now = time.monotonic()
        framer = connection.framer
        for _ in range(_TURNS):
            try:
                piece = connection.socket.recv(_PIECE)
            except (BlockingIOError, InterruptedError):
                break
            except OSError:
                piece = b""
            if not piece:
                self._lose(connection)
                return
            self._tallies.bytes_read += len(piece)
            connection.heard = now
            try:
                messages = framer.feed(piece)
            except FramingError:
                self._lose(connection, "framing")
                return
            if framer.cut_lines or framer.cut_bytes:
                self._cut(framer.cut_lines, framer.cut_bytes)
                framer.cut_lines = framer.cut_bytes = 0
            if messages:
                connection.began = now
                # The queue may pass its bound by what one read brought; then nobody is read.
                if not self._put(messages, datagram=False):
                    break
        if not framer.inside:
            connection.began = None
        elif connection.began is None:
            connection.began = now

    def _put(self, messages: list[bytes], *, datagram: bool) -> bool:
        """Queue messages; False when the queue is full, and a datagram was not taken."""
        size = sum(map(len, messages))
        with self._lock:
            if datagram and self._queued + size > self._max_queue:
                return False
            self._queue.extend(messages)
            self._queued += size
            full = self._queued >= self._max_queue
            self._lock.notify()
        if full and not datagram:
            self._pause()
        return not full or datagram

    def _pause(self) -> None:
        if self._paused or self._stopping:
            return
        self._paused = True
        for each in self._connections:
            self._selector.unregister(each)
        with self._lock:
            resume = self._queued <= self._max_queue // 2  # taken meanwhile, before we said so
        if resume:
            self._resume()

    def _resume(self) -> None:
        self._paused = False
        now = time.monotonic()
        for each, connection in self._connections.items():
            # The time in which we did not listen is not theirs.
            connection.heard = now
            if connection.began is not None:
                connection.began = now
            self._selector.register(each, selectors.EVENT_READ)

    def _sweep(self, now: float) -> None:
        if self._paused:
            return
        for connection in list(self._connections.values()):
            began = connection.began
            if began is not None and now - began > self._frame_timeout:
                self._lose(connection, "frame_timeout")
            elif self._idle_timeout is not None and now - connection.heard > self._idle_timeout:
                self._lose(connection, "idle_timeout")

    def _lose(self, connection: _Connection, reason: str | None = None) -> None:
        if self._connections.pop(connection.socket, None) is None:
            return
        try:
            self._selector.unregister(connection.socket)
        except (KeyError, ValueError):
            pass  # paused
        connection.socket.close()
        counted = connection.framer.counting
        rest = connection.framer.finish()
        if reason is not None:
            self._drop(reason, 1)
        if rest is not None:
            if counted or reason is not None:
                self._drop("torn", 1)
            self._put([rest], datagram=False)

    def _let_go(self) -> None:
        self._closed = True
        for connection in list(self._connections.values()):
            self._lose(connection)
        self._selector.close()
        for each in (self._udp, self._tcp, self._wake_in, self._wake_out):
            if each is not None:
                each.close()

    # -- counting ------------------------------------------------------------------------------

    def _cut(self, lines: int, size: int) -> None:
        self._tallies.cut_lines += lines
        self._tallies.cut_bytes += size

    def _drop(self, reason: str, count: int) -> None:
        dropped = self._tallies.dropped
        dropped[reason] = dropped.get(reason, 0) + count
        if not LINES_DROPPED.subscribers:
            return
        now = time.monotonic()
        last, told = self._told.get(reason, (float("-inf"), 0))
        if now >= last + _TELL:
            self._told[reason] = now, dropped[reason]
            LINES_DROPPED.publish(
                LinesDropped(name="syslog", reason=reason, count=dropped[reason] - told)
            )


_FRAMINGS: dict[str, bool | None] = {"auto": None, "octet": True, "newline": False}


@final
class _Connection:
    """A sender."""

    __slots__ = ("began", "framer", "heard", "socket")

    def __init__(self, accepted: socket.socket, framer: Framer) -> None:
        self.socket = accepted
        self.framer = framer
        self.heard = time.monotonic()
        self.began: float | None = None  # when the message that is not complete yet began


def _bound(
    host: str, port: int, *, udp: bool, tcp: bool
) -> tuple[socket.socket | None, socket.socket | None]:
    """The sockets; with port 0 one number that is free for both."""
    family = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0][0]
    for _ in range(20):
        made: list[socket.socket] = []
        try:
            listening = None
            if tcp:
                listening = socket.socket(family, socket.SOCK_STREAM)
                made.append(listening)
                listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listening.setblocking(False)
                listening.bind((host, port))
                listening.listen(128)
            datagrams = None
            if udp:
                datagrams = socket.socket(family, socket.SOCK_DGRAM)
                made.append(datagrams)
                datagrams.setblocking(False)
                datagrams.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 21)
                try:
                    datagrams.setsockopt(socket.SOL_SOCKET, _SO_RXQ_OVFL, 1)
                except OSError:
                    pass  # not Linux
                datagrams.bind((host, port or (listening.getsockname()[1] if listening else 0)))
        except OSError:
            for each in made:
                each.close()
            if port or not (tcp and udp):
                raise
        else:
            return datagrams, listening
    raise OSError(f"no port of {host} is free for UDP and TCP")
