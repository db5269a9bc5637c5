"""The health endpoints on a port of their own.

``/healthz`` stays fast while the application's event loop is busy or blocked, and can tell that
it is blocked, because it does not run on it: liveness is answered by a small process of its own
from shared memory, everything else by one thread. Standard library only.

Example:
    >>> import urllib.request
    >>> from hastack.contrib.health_server import HealthServer
    >>> from hastack.health import Health
    >>> with HealthServer(Health(), port=0) as server:
    ...     with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/healthz") as reply:
    ...         reply.status, reply.read().strip()
    (200, b'live: pass')
"""

from __future__ import annotations

import errno
import os
import selectors
import socket
import subprocess
import sys
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any, final

import attrs

from hastack._core import _validate
from hastack._core._errors import ClosedError, InvalidArgument
from hastack._health_endpoints import Endpoints
from hastack._health_http import BAD, MAX_HEAD, NOT_FOUND, TOO_LARGE, parsed, render, wire

from ._health_process import SharedPulses, spawn

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from hastack._core._validate import Seconds
    from hastack.health import Health

__all__ = ("HealthServer",)


@attrs.define(eq=False)
class _Connection:
    """One client: it sends a head, gets a reply, and is gone by ``deadline``."""

    sock: socket.socket
    deadline: float
    incoming: bytes = b""
    outgoing: bytes = b""
    events: int = 0
    unread: bool = False  # it may have sent more than was read
    lingering: bool = False  # replied to; what it still sends is dropped


@attrs.define(eq=False)
class _Asked:
    """A question that takes more than memory, and the clients that wait for its answer."""

    asked: str
    query: str
    accept: str
    method: str
    connection: _Connection


@final
class HealthServer:
    """Serves the health endpoints on a port; a component for `Lifecycle.add`.

    One thread does all input and output without blocking. A request that has to wait for checks
    does so on a second thread (one per question), so that ``/healthz`` never waits for a
    dependency. A forked child closes its copy of the listening socket and serves nothing.

    Args:
        health: Who knows.
        host: Address to listen on.
        port: Port; 0 takes a free one, see `port`.
        paths: Path -> ``live``, ``ready``, ``startup`` or ``metrics``; by default ``/healthz``,
            ``/readyz``, ``/startupz`` and ``/metrics``.
        metrics: Whether ``/metrics`` is there.
        max_connections: Open connections; more wait in the kernel's backlog.
        timeout: Seconds a client has to send its request and to take the response, on top of
            the time that checks need.
        process: Whether a small process of its own takes the connections and answers liveness
            from shared memory, while everything else is passed on to the thread. It costs some
            megabytes; in return ``/healthz`` waits for nobody, not even for the interpreter of
            a service that is busy to the last drop or stuck in a C extension. Without it, the
            thread answers that as well.
        switch_interval: Bound in seconds for `sys.setswitchinterval` while serving, ``None``
            to leave it alone. A thread that wakes up waits this long for the interpreter when
            another one is computing, and answering a request takes three such waits; with
            Python's default of 5 ms, probes of a busy service are slow.

    Raises:
        InvalidArgument: A number is out of range, or a path is unknown.
    """

    name = "health-server"

    def __init__(
        self,
        health: Health,
        *,
        host: str = "127.0.0.1",
        port: int = 8081,
        paths: Mapping[str, str] | None = None,
        metrics: bool = True,
        max_connections: int = 64,
        timeout: Seconds = 5.0,
        process: bool = True,
        switch_interval: Seconds | None = 0.0005,
    ) -> None:
        _validate.integer("port", port, minimum=0)
        if port > 65535:
            raise InvalidArgument("port", port, "an integer in 0..65535")
        self._endpoints = Endpoints(health, paths=paths, metrics=metrics)
        self._address = (host, port)
        self._max = _validate.integer("max_connections", max_connections)
        self._timeout = _validate.seconds("timeout", timeout)
        self._switch = _validate.optional_seconds("switch_interval", switch_interval)
        self._previous_switch: float | None = None
        self._process = process
        self._shared: SharedPulses | None = None
        self._helper: tuple[subprocess.Popen[bytes], socket.socket] | None = None
        self._public: socket.socket | None = None
        self._listener: socket.socket | None = None
        self._wake: socket.socket | None = None
        self._thread: threading.Thread | None = None
        self._closed = False
        self._lock = threading.Lock()
        self._waiting: dict[str, list[_Asked]] = {}  # by question; a thread works on each key
        self._answered: list[tuple[_Connection, bytes]] = []

    @property
    def port(self) -> int:
        """Where it listens, once started."""
        listener = self._public or self._listener
        return self._address[1] if listener is None else int(listener.getsockname()[1])

    def start(self) -> None:
        """Listen and serve.

        Raises:
            ClosedError: It was stopped before.
            OSError: The address is taken.
        """
        if self._closed:
            raise ClosedError(self.name)
        host, port = self._address
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family, backlog=128)
        listener.setblocking(False)
        if hasattr(socket, "TCP_DEFER_ACCEPT"):
            # Accept only when the request is there: one wake-up less for each probe.
            seconds = max(int(self._timeout), 1)
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, seconds)
        if self._process and sys.executable:  # an embedded interpreter may have no program
            self._public, listener = listener, socket.create_server(("127.0.0.1", 0))
            listener.setblocking(False)
            self._start_process(self._public, int(listener.getsockname()[1]))
        self._listener = listener
        wake, self._wake = socket.socketpair()
        wake.setblocking(False)
        self._wake.setblocking(False)
        _open.add(self)
        if self._switch is not None and sys.getswitchinterval() > self._switch:
            self._previous_switch = sys.getswitchinterval()
            sys.setswitchinterval(self._switch)
        serve = _Serving(self, listener, wake).run
        self._thread = threading.Thread(target=serve, name="hastack-health-server", daemon=True)
        self._thread.start()

    def _start_process(self, public: socket.socket, upstream: int) -> None:
        paths = self._endpoints.paths
        self._shared = SharedPulses()
        self._shared.sync(self._endpoints.health._watched())
        self._helper = spawn(
            public,
            self._shared,
            upstream=upstream,
            live=[path for path, asked in paths.items() if asked == "live"],
            timeout=self._timeout,
            limit=self._max,
        )

    def _stop_process(self) -> None:
        if self._helper is None or self._public is None or self._shared is None:
            return
        process, lifeline = self._helper
        self._helper = None
        lifeline.close()
        try:
            process.wait(2.0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._public.close()
        self._shared.close()

    def stop(self) -> None:
        """Stop serving; calling it again does nothing."""
        self._closed = True
        self._endpoints.close()
        if self._thread is None:
            return
        self._stop_process()
        self._nudge()
        self._thread.join(self._timeout + 1.0)
        self._thread = None
        if self._wake is not None:
            self._wake.close()
        if self._previous_switch is not None:
            sys.setswitchinterval(self._previous_switch)
            self._previous_switch = None
        _open.discard(self)

    def __enter__(self) -> HealthServer:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.stop()

    # Requests ---------------------------------------------------------------------------

    def _answer(self, connection: _Connection) -> bytes | None:
        """The response to a complete head, or ``None`` when it follows from another thread."""
        request = parsed(connection.incoming.partition(b"\r\n\r\n")[0])
        if request is None:
            return wire(BAD, "GET")
        method, query, accept = request.method, request.query, request.fields.get("accept", "")
        asked = self._endpoints.question(request.path)
        if asked is None:
            return wire(NOT_FOUND, method)
        quick = self._endpoints.quick(asked, method, query, accept)
        if quick is not None:
            return wire(quick, method)
        self._ask(_Asked(asked, query, accept, method, connection))
        return None

    def _ask(self, item: _Asked) -> None:
        with self._lock:
            waiting = self._waiting.get(item.asked)
            if waiting is not None:
                waiting.append(item)
                return
            self._waiting[item.asked] = [item]
        name = f"hastack-health-{item.asked}"
        threading.Thread(target=self._work, args=(item.asked,), name=name, daemon=True).start()

    def _work(self, asked: str) -> None:
        """Answer ``asked`` for everybody who waits for it, until nobody does."""
        health = self._endpoints.health
        while True:
            with self._lock:
                items = self._waiting[asked]
                if not items:
                    del self._waiting[asked]
                    return
                self._waiting[asked] = []
            verdict = health.readiness() if asked == "ready" else health.startup()
            replies = [
                (
                    i.connection,
                    wire(render(asked, verdict, query=i.query, accept=i.accept), i.method),
                )
                for i in items
            ]
            with self._lock:
                self._answered += replies
            self._nudge()

    def _take_answered(self) -> list[tuple[_Connection, bytes]]:
        with self._lock:
            answered, self._answered = self._answered, []
            return answered

    def _nudge(self) -> None:
        try:
            assert self._wake is not None
            self._wake.send(b"x")
        except OSError:  # full: it is awake; closed: it is gone
            pass

    def _forget(self) -> None:
        """In a forked child: the port belongs to the parent."""
        self._lock = threading.Lock()
        self._thread = None
        lifeline = None if self._helper is None else self._helper[1]
        for each in (self._listener, self._wake, self._public, lifeline):
            if each is not None:
                each.close()
        self._helper = None
        self._closed = True

    def _sync(self) -> float | None:
        """Share what is watched by now; says after how many seconds to look again."""
        if self._helper is None or self._shared is None:
            return None
        self._shared.sync(self._endpoints.health._watched())
        return 0.5


class _Serving:
    """The loop of the serving thread; nothing in here is touched by another."""

    def __init__(self, server: HealthServer, listener: socket.socket, wake: socket.socket) -> None:
        self._server = server
        self._listener = listener
        self._wake = wake
        self._selector = selectors.DefaultSelector()
        self._connections: dict[_Connection, None] = {}
        self._accepting = False

    def run(self) -> None:
        self._selector.register(self._wake, selectors.EVENT_READ, None)
        try:
            while not self._server._closed:
                self._accept_if(len(self._connections) < self._server._max)
                for key, events in self._selector.select(self._pause()):
                    self._handle(key.data, events)
                for connection, reply in self._server._take_answered():
                    if connection in self._connections:
                        self._send(connection, reply)
                self._drop_late()
        finally:
            for connection in list(self._connections):
                self._close(connection)
            self._selector.close()
            self._listener.close()
            self._wake.close()

    def _accept_if(self, room: bool) -> None:
        if room and not self._accepting:
            self._selector.register(self._listener, selectors.EVENT_READ, self._listener)
        elif self._accepting and not room:
            self._selector.unregister(self._listener)
        self._accepting = room

    def _pause(self) -> float | None:
        soon = self._server._sync()
        late = self._next_deadline()
        return late if soon is None or (late is not None and late < soon) else soon

    def _next_deadline(self) -> float | None:
        # The oldest connection has the earliest deadline: all are given the same time.
        for connection in self._connections:
            return max(connection.deadline - time.monotonic(), 0.0)
        return None

    def _drop_late(self) -> None:
        now = time.monotonic()
        for connection in list(self._connections):
            if connection.deadline > now:
                return
            self._close(connection)

    def _handle(self, data: Any, events: int) -> None:
        if data is None:
            try:
                self._wake.recv(4096)
            except OSError:
                pass
        elif data is self._listener:
            self._accept()
        elif events & selectors.EVENT_READ:
            self._receive(data)
        else:
            self._send(data, b"")

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except OSError as error:
            if error.errno in {errno.EMFILE, errno.ENFILE}:
                time.sleep(0.05)  # nothing to be had now; asking on and on would only burn time
            return
        connection = _Connection(sock, time.monotonic() + self._server._timeout)
        self._connections[connection] = None
        self._receive(connection)

    def _receive(self, connection: _Connection) -> None:
        if connection.lingering:
            self._discard(connection)
            return
        try:
            # MSG_DONTWAIT rather than setblocking(): each system call gives the interpreter
            # away, and it takes a switch interval to get it back from a busy thread.
            data = connection.sock.recv(MAX_HEAD, socket.MSG_DONTWAIT)
        except BlockingIOError:
            self._await(connection, selectors.EVENT_READ)
            return
        except OSError:
            data = b""
        if not data:
            self._close(connection)
            return
        connection.incoming += data
        if b"\r\n\r\n" in connection.incoming:
            reply = self._server._answer(connection)
            connection.unread = not connection.incoming.startswith((b"GET ", b"HEAD "))
        elif len(connection.incoming) >= MAX_HEAD:
            reply = wire(TOO_LARGE, "GET")
            connection.unread = True
        else:
            self._await(connection, selectors.EVENT_READ)
            return
        if reply is None:
            self._await(connection, 0)
        else:
            self._send(connection, reply)

    def _send(self, connection: _Connection, more: bytes) -> None:
        connection.outgoing += more
        try:
            sent = connection.sock.send(connection.outgoing, socket.MSG_DONTWAIT)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._close(connection)
            return
        connection.outgoing = connection.outgoing[sent:]
        if connection.outgoing:
            self._await(connection, selectors.EVENT_WRITE)
        elif connection.unread:
            self._linger(connection)
        else:
            self._close(connection)

    def _linger(self, connection: _Connection) -> None:
        """Wait for the client to close first."""
        # Closing on unread data would reset the connection, and with it destroy the response
        # (RFC 9112, section 9.6).
        connection.lingering = True
        try:
            connection.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self._close(connection)
            return
        self._await(connection, selectors.EVENT_READ)

    def _discard(self, connection: _Connection) -> None:
        try:
            more = connection.sock.recv(65536, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError:
            more = b""
        if not more:
            self._close(connection)

    def _await(self, connection: _Connection, events: int) -> None:
        if events == connection.events:
            return
        if not connection.events:
            self._selector.register(connection.sock, events, connection)
        elif not events:
            self._selector.unregister(connection.sock)
        else:
            self._selector.modify(connection.sock, events, connection)
        connection.events = events

    def _close(self, connection: _Connection) -> None:
        self._await(connection, 0)
        del self._connections[connection]
        connection.sock.close()


_open: weakref.WeakSet[HealthServer] = weakref.WeakSet()


def _after_fork() -> None:
    for server in list(_open):
        server._forget()
    _open.clear()


os.register_at_fork(after_in_child=_after_fork)
