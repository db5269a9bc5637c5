"""A port of its own for scrapes, on threads of its own."""

from __future__ import annotations

import contextlib
import errno
import os
import selectors
import socket
import threading
import time
from typing import TYPE_CHECKING, final

from hastack._core import _validate
from hastack._core._errors import ClosedError, InvalidArgument
from hastack._core._fork import renew_in_child
from hastack._health_http import BAD, MAX_HEAD, NOT_FOUND, TOO_LARGE, Reply, parsed, wire

from ._threads import log

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from hastack._core._validate import Seconds

    from ._options import PrometheusConfig
    from ._scrape import MetricsEndpoint


@final
class MetricsServer:
    """Serves a `MetricsEndpoint` on a port; a component for `Lifecycle.add`.

    It runs on threads, so that a busy or blocked event loop does not keep scrapes waiting. A forked
    child serves nothing, unless the port is shared.

    Args:
        endpoint: Who answers.
        host: Address to listen on.
        port: Port; 0 takes a free one, see `port`. The default is OpenTelemetry's.
        path: Where the page is.
        shared: Whether processes share the port (``SO_REUSEPORT``), and forked children serve as
            well. For processes that share their numbers, so that it does not matter who answers.
        max_connections: Connections served at once; more wait in the kernel's backlog.
        timeout: Seconds a client has to send its request, and again to take the response.

    Raises:
        InvalidArgument: A number is out of range, or ``path`` is not absolute.

    Example:
        >>> import urllib.request
        >>> from hastack import observe
        >>> from hastack.observe import instruments
        >>> endpoint = observe.MetricsEndpoint(instruments.Metrics().collect)
        >>> with observe.MetricsServer(endpoint, port=0) as server:
        ...     with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics") as reply:
        ...         reply.status
        200
    """

    name = "metrics-server"

    def __init__(
        self,
        endpoint: MetricsEndpoint,
        *,
        host: str = "localhost",
        port: int = 9464,
        path: str = "/metrics",
        shared: bool = False,
        max_connections: int = 8,
        timeout: Seconds = 5.0,
    ) -> None:
        _validate.integer("port", port, minimum=0)
        if port > 65535:
            raise InvalidArgument("port", port, "an integer in 0..65535")
        if not path.startswith("/"):
            raise InvalidArgument("path", path, "an absolute path")
        self.endpoint = endpoint
        self._address = (host, port)
        self._path = path
        self._shared = shared
        self._max = _validate.integer("max_connections", max_connections)
        self._timeout = _validate.seconds("timeout", timeout)
        self._listener: socket.socket | None = None
        self._thread: threading.Thread | None = None
        self._closed = False
        self._fresh()
        renew_in_child(self)

    def _fresh(self) -> None:
        self._places = threading.Semaphore(self._max)
        self._open: set[socket.socket] = set()

    @property
    def port(self) -> int:
        """Where it listens, once started."""
        listener = self._listener
        return self._address[1] if listener is None else int(listener.getsockname()[1])

    def listen(self) -> None:
        """Take the port; connections wait until `start`.

        Raises:
            ClosedError: It was stopped before.
            OSError: The address is taken, or there is none such.
        """
        if self._closed:
            raise ClosedError(self.name)
        if self._listener is not None:
            return
        host, port = self._address
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        # RFC 6761: it is the loopback, also where no /etc/hosts says so, as in bare containers.
        bound = "127.0.0.1" if host == "localhost" else host
        try:
            self._listener = socket.create_server(
                (bound, port), family=family, backlog=128, reuse_port=self._shared
            )
        except OSError as error:
            why = error.strerror
            if error.errno == errno.EADDRINUSE and not self._shared:
                why = f"{why}; processes that serve together share it with a metrics directory"
            raise OSError(
                error.errno, f"metrics cannot be served on {host}:{port}: {why}"
            ) from error
        self._listener.setblocking(False)
        self._address = (host, self.port)  # a child that is forked takes the same one

    def start(self) -> None:
        """Listen and serve.

        Raises:
            ClosedError: It was stopped before.
            OSError: The address is taken, or there is none such.
        """
        self.listen()
        if self._thread is None and self._listener is not None:
            self._wake, ours = socket.socketpair()
            listener = self._listener
            self._thread = _thread("server", self._run, listener, ours)

    def stop(self, timeout: Seconds | None = None) -> None:
        """Take no more connections, and give the scrapes that run ``timeout`` seconds to end.

        Args:
            timeout: Seconds; by default the server's own.

        Raises:
            InvalidArgument: ``timeout`` is negative.
        """
        limit = (
            self._timeout if timeout is None else _validate.seconds("timeout", timeout, zero=True)
        )
        until = time.monotonic() + limit
        self._closed = True
        if self._thread is not None:
            self._wake.close()  # which ends the other side's wait
            self._thread.join(max(0.1, limit))
            self._thread = None
            for _ in range(self._max):
                if not self._places.acquire(timeout=max(0.0, until - time.monotonic())):
                    break
        if self._listener is not None:
            self._listener.close()
        self._cut()

    def _cut(self) -> None:
        for sock in list(self._open):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)  # ends the wait of its thread, which closes it

    def __enter__(self) -> MetricsServer:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.stop()

    def _after_fork(self) -> None:
        if self._listener is None:
            return
        self._listener.close()
        self._listener = None
        for sock in self._open:
            sock.close()  # the parent's; open here, it would stay open when that one closes it
        self._fresh()
        served = self._thread is not None
        if served:
            self._wake.close()
            self._thread = None
        if not self._shared:
            self._closed = True
        elif served and not self._closed:
            try:
                self.start()
            except OSError as error:
                log.warning("%s", error)

    def _run(self, listener: socket.socket, wake: socket.socket) -> None:
        with wake, selectors.DefaultSelector() as selector:
            selector.register(wake, selectors.EVENT_READ)
            selector.register(listener, selectors.EVENT_READ)
            while True:
                events = selector.select()
                if self._closed:
                    return
                # When all places are taken it still has to be seen that it is over.
                if events and self._places.acquire(timeout=1.0):
                    self._accept(listener)

    def _accept(self, listener: socket.socket) -> None:
        """Give the next connection a thread; a place was taken for it."""
        try:
            sock, _ = listener.accept()
        except BlockingIOError:  # gone again, or another process was faster
            self._places.release()
            return
        except OSError:
            self._places.release()
            time.sleep(0.05)  # out of descriptors: asking on and on would only burn time
            return
        try:
            self._open.add(sock)
            _thread("scrape", self._serve, sock)
        except RuntimeError:  # no more threads
            self._done(sock)

    def _done(self, sock: socket.socket) -> None:
        self._open.discard(sock)
        sock.close()
        self._places.release()

    def _serve(self, sock: socket.socket) -> None:
        try:
            reply = self._answered(sock)
            if reply is not None:
                sock.settimeout(self._timeout)
                sock.sendall(reply)
                _linger(sock, time.monotonic() + self._timeout)
        except OSError:  # the client is slow or gone
            pass
        finally:
            self._done(sock)

    def _answered(self, sock: socket.socket) -> bytes | None:
        """The response to what the client sends in time; ``None`` if that is nothing whole."""
        until = time.monotonic() + self._timeout
        head = b""
        while b"\r\n\r\n" not in head:
            if len(head) >= MAX_HEAD:
                return wire(TOO_LARGE, "GET")
            # One time for all of it: a byte now and then must not hold the place for ever.
            left = until - time.monotonic()
            if left <= 0.0:
                return None
            sock.settimeout(left)
            data = sock.recv(MAX_HEAD)
            if not data:
                return None
            head += data
        request = parsed(head.partition(b"\r\n\r\n")[0])
        if request is None:
            return wire(BAD, "GET")
        fields = request.fields
        reply: Reply = NOT_FOUND
        if request.path == self._path:
            reply = self.endpoint.answer(
                request.method,
                accept=fields.get("accept", ""),
                encoding=fields.get("accept-encoding", ""),
            )
        return wire(reply, request.method)


def address_of(settings: PrometheusConfig) -> tuple[str, int]:
    """Where the page is served.

    Raises:
        InvalidArgument: ``OTEL_EXPORTER_PROMETHEUS_PORT`` counts, and is none.
    """
    host = settings.host or os.environ.get("OTEL_EXPORTER_PROMETHEUS_HOST") or "localhost"
    if settings.port is not None:
        return host, settings.port
    port = os.environ.get("OTEL_EXPORTER_PROMETHEUS_PORT") or "9464"
    if not port.isdecimal():
        raise InvalidArgument("OTEL_EXPORTER_PROMETHEUS_PORT", port, "a port")
    return host, int(port)


def _thread(what: str, work: Callable[..., None], *args: object) -> threading.Thread:
    # None of the exporters' own: what an observable instrument does there is the application's.
    thread = threading.Thread(target=work, args=args, name=f"hastack-metrics-{what}", daemon=True)
    thread.start()
    return thread


def _linger(sock: socket.socket, until: float) -> None:
    """Let the client close first: closing on unread data would destroy the response."""
    sock.shutdown(socket.SHUT_WR)
    while (left := until - time.monotonic()) > 0.0:
        sock.settimeout(left)
        if not sock.recv(65536):
            return
