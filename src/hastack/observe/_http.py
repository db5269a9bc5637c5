"""HTTP requests with an end: urllib3 connections, with limits that urllib3 does not have.

A socket timeout bounds the time between two bytes, not the time of a request: a server that sends
one byte a second keeps a client for ever. Here a timer shuts the socket down at the deadline, which
ends whatever the thread is waiting for. The response is read up to a limit, whatever its
``Content-Length`` promises, and decompressed up to a limit, so that neither fills the memory.
"""

from __future__ import annotations

import socket
import threading
import time
import zlib
from contextlib import suppress
from typing import TYPE_CHECKING, Any, final

import attrs

from hastack._core._clock import SYSTEM_CLOCK
from hastack._core._errors import InvalidArgument
from hastack._core._extras import require

from ._answers import HttpAnswer, NoAnswer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hastack.typing import Clock

    from ._answers import Answer

RESPONSE_LIMIT = 256 * 1024
"""Bytes; OTLP asks clients to read 4 MiB at most ("OTLP/HTTP Response", 1.x), and no answer that
says something is anywhere near."""

_CONNECT_TIMEOUT = 5.0


@final
@attrs.define(eq=False)
class _Call:
    """The request that one lane makes: its connection, and whether its time is over."""

    connection: Any = None
    sock: socket.socket | None = None
    ended: str | None = None
    lock: threading.Lock = attrs.field(factory=threading.Lock)

    def end(self, why: str) -> None:
        """Break the connection off, from another thread."""
        with self.lock:
            if self.ended is None:
                self.ended = why
            sock = self.sock
        if sock is not None:
            with suppress(OSError):
                # Not SSLSocket.shutdown: it would take the TLS state from under the other thread.
                socket.socket.shutdown(sock, socket.SHUT_RDWR)

    def attach(self, sock: socket.socket) -> None:
        """The connection has a socket now."""
        with self.lock:
            self.sock = sock
            over = self.ended is not None
        if over:
            self.end("")


@final
class HttpTransport:
    """Sends bodies to one URL, one kept-alive connection per lane.

    Args:
        url: Where to.
        headers: Header fields of every request.
        max_response: Bytes of a response that are read, before and after decompression.
        ca_file: Certificates that are trusted, in place of the system's.
        cert_file: Own certificate, when the server asks for one.
        key_file: Key of that certificate.
        clock: Source of time for the deadline of a request.

    Raises:
        InvalidArgument: ``url`` is no HTTP URL.
    """

    def __init__(
        self,
        url: str,
        *,
        headers: Mapping[str, str],
        max_response: int = RESPONSE_LIMIT,
        ca_file: str | None = None,
        cert_file: str | None = None,
        key_file: str | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._urllib3: Any = require("urllib3", extra="otel")
        require("urllib3.connection", extra="otel")
        try:
            parsed = self._urllib3.util.parse_url(url)
        except self._urllib3.exceptions.LocationParseError:
            raise InvalidArgument("endpoint", url, "an http:// or https:// URL") from None
        if parsed.scheme not in {"http", "https"} or not parsed.host:
            raise InvalidArgument("endpoint", url, "an http:// or https:// URL")
        self.url = url
        self._parsed = parsed
        self._target = parsed.request_uri
        self._headers = {"User-Agent": "hastack", **headers}
        self._max_response = max_response
        self._files = (ca_file, cert_file, key_file)
        self._clock = clock
        self._calls: dict[int, _Call] = {}
        self._aborted = False

    def send(self, lane: int, body: bytes, timeout: float) -> Answer:
        """Make one request; return within ``timeout`` seconds, whatever the server does.

        Name resolution is the exception: no thread can be called back from it. It has the
        system's own limits, and nobody waits for this thread.
        """
        call = self._calls.setdefault(lane, _Call())
        if call.ended is not None:
            call = self._calls[lane] = _Call()
        if self._aborted:  # looked at last: abort() ends the calls that it finds after this is set
            return NoAnswer("aborted")
        ends = self._clock.monotonic() + timeout
        try:
            cancel = self._clock.call_at(ends, lambda: call.end("timeout"))
        except RuntimeError:  # no thread that could: each step is bound instead of the whole
            cancel = _nothing
        try:
            answer = self._exchange(call, body, timeout)
        except Exception as error:
            self._drop(call)
            return self._failure(call, error)
        finally:
            cancel()
        if call.ended is not None:
            self._drop(call)
        return answer

    def _exchange(self, call: _Call, body: bytes, timeout: float) -> Answer:
        connection = call.connection
        # A server may close a kept-alive connection at any time (RFC 9112, 9.3.1).
        if connection is not None and not connection.is_connected:
            self._drop(call)
            connection = None
        if connection is None:
            connection = self._connect(call, timeout)
        connection.timeout = timeout  # request() gives the socket this one, not that of connect()
        self._request(connection, body)
        return self._read(call, connection.getresponse())

    def _request(self, connection: Any, body: bytes) -> None:
        connection.request(
            "POST",
            self._target,
            body=body,
            headers=self._headers,
            preload_content=False,
            decode_content=False,
        )

    def _connect(self, call: _Call, timeout: float) -> Any:
        classes = self._urllib3.connection
        options: dict[str, Any] = {"timeout": min(_CONNECT_TIMEOUT, timeout)}
        secure = self._parsed.scheme == "https"
        if secure:
            ca_file, cert_file, key_file = self._files
            options |= {"ca_certs": ca_file, "cert_file": cert_file, "key_file": key_file}
            options["cert_reqs"] = "CERT_REQUIRED"
        base = classes.HTTPSConnection if secure else classes.HTTPConnection
        connection = _observed(base)(
            self._parsed.hostname, self._parsed.port or (443 if secure else 80), **options
        )
        connection.hastack_call = call
        connection.hastack_faults = self._urllib3.exceptions
        call.connection = connection
        connection.connect()
        return connection

    def _read(self, call: _Call, response: Any) -> Answer:
        headers = {name.lower(): value for name, value in response.headers.items()}
        try:
            raw, whole = self._body(response)
        except Exception:
            # The status was there. What follows it only says more, and is not worth a second
            # request when the first was taken.
            raw, whole = b"", False
        if not whole or headers.get("connection", "").lower() == "close":
            self._drop(call)
        body = _decoded(raw, headers.get("content-encoding", ""), self._max_response)
        return HttpAnswer(response.status, headers, body)

    def _body(self, response: Any) -> tuple[bytes, bool]:
        """Up to the limit of the body's bytes, and whether that was all."""
        pieces: list[bytes] = []
        left = self._max_response
        while left > 0:
            piece = response.read(min(left, 65536), decode_content=False)
            if not piece:
                return b"".join(pieces), True
            pieces.append(piece)
            left -= len(piece)
        return b"".join(pieces), False

    def _failure(self, call: _Call, error: Exception) -> NoAnswer:
        if call.ended:
            return NoAnswer(call.ended)
        return NoAnswer(kind_of(error, self._urllib3), f"{type(error).__name__}: {error}")

    def _drop(self, call: _Call) -> None:
        connection, call.connection = call.connection, None
        with call.lock:
            call.sock = None
        if connection is not None:
            with suppress(Exception):
                connection.close()

    def abort(self) -> None:
        """End all requests under way, from another thread, and refuse further ones."""
        self._aborted = True
        for call in list(self._calls.values()):
            call.end("aborted")

    def close(self, lane: int) -> None:
        """Close the connection of a lane; called by its thread, which ends."""
        call = self._calls.pop(lane, None)
        if call is not None:
            self._drop(call)

    def forget(self) -> None:
        """In a forked child: leave the parent's connections alone, and start anew."""
        # Closing the child's copies of the descriptors does not disturb the parent.
        self._calls = {}
        self._aborted = False


_classes: dict[type, type] = {}


def _observed(base: type) -> type:
    """A connection class that shows its socket as soon as there is one, before any handshake."""
    known = _classes.get(base)
    if known is None:

        class Observed(base):  # type: ignore[misc]  # urllib3 came in at runtime
            hastack_call: _Call
            hastack_faults: Any

            def _new_conn(self) -> socket.socket:
                return _reach(self, self.hastack_call, self.hastack_faults)

        known = _classes[base] = Observed
    return known


def _reach(connection: Any, call: _Call, faults: Any) -> socket.socket:
    """A connected socket; the first address that answers, all of them in the time for one."""
    ends = time.monotonic() + connection.timeout
    addresses = socket.getaddrinfo(connection.host, connection.port, type=socket.SOCK_STREAM)
    error: OSError | None = None
    for family, kind, protocol, _, address in addresses:
        sock = socket.socket(family, kind, protocol)
        call.attach(sock)
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.settimeout(max(0.001, ends - time.monotonic()))
            sock.connect(address)
            return sock
        except OSError as failure:
            sock.close()
            error = failure
    raise faults.NewConnectionError(connection, str(error)) from error


def kind_of(error: BaseException, urllib3: Any) -> str:
    """Which of the kinds of `NoAnswer` an error of urllib3 or of a socket is."""
    import http.client
    import ssl

    faults = urllib3.exceptions
    if isinstance(error, (faults.NameResolutionError, socket.gaierror)):
        return "dns"
    if isinstance(error, (faults.SSLError, ssl.SSLError)):
        return "tls"
    if isinstance(error, (faults.ConnectTimeoutError, faults.NewConnectionError)):
        return "connect"
    if isinstance(error, (TimeoutError, faults.TimeoutError)):
        return "timeout"
    if isinstance(error, http.client.RemoteDisconnected):
        return "cut"
    if isinstance(error, (faults.ProtocolError, OSError, http.client.IncompleteRead)):
        return "cut"
    return "unreadable"


def _decoded(raw: bytes, encoding: str, limit: int) -> bytes:
    """The body behind its ``Content-Encoding``; empty when it is not what that says."""
    if encoding in {"", "identity"}:
        return raw
    if encoding not in {"gzip", "x-gzip", "deflate"}:
        return b""
    try:
        return zlib.decompressobj(47 if "gzip" in encoding else 15).decompress(raw, limit)
    except zlib.error:
        return b""


def _nothing() -> None:
    """There is no timer to cancel."""
