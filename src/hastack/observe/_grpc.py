"""OTLP over gRPC without generated code: method paths, and bytes for messages."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, final

from hastack._core._errors import InvalidArgument
from hastack._core._extras import require

from ._answers import GrpcAnswer, NoAnswer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ._answers import Answer

METHODS = {
    "traces": "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
    "metrics": "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
    "logs": "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
}

# How gRPC's versions word it when a name does not resolve.
_UNRESOLVED = ("dns resolution failed", "errors resolving", "address lookup failed")

RESPONSE_LIMIT = 4 * 1024 * 1024
_left_behind: list[Any] = []  # closing the parent's channel in a forked child may block


@final
class GrpcTransport:
    """Sends messages to one method over one channel.

    Args:
        target: ``host:port``; ``http://`` and ``https://`` before it say whether to use TLS.
        signal: ``"traces"``, ``"metrics"`` or ``"logs"``.
        headers: Metadata of every call; names are made lower case.
        compression: ``"gzip"``, or ``"identity"`` for none.
        ca_file: Certificates that are trusted, in place of the system's.
        cert_file: Own certificate, when the server asks for one.
        key_file: Key of that certificate.

    Raises:
        InvalidArgument: ``target`` names no host, or has a path.
    """

    def __init__(
        self,
        target: str,
        signal: str,
        *,
        headers: Mapping[str, str],
        compression: str = "identity",
        ca_file: str | None = None,
        cert_file: str | None = None,
        key_file: str | None = None,
    ) -> None:
        self._grpc: Any = require("grpc", extra="grpc")
        scheme, split, rest = target.partition("://")
        host = (rest if split else target).rstrip("/")
        if (split and scheme not in {"http", "https"}) or not host or "/" in host:
            raise InvalidArgument("endpoint", target, "host:port, or http(s)://host:port")
        self._secure = scheme == "https" if split else False
        self._host = host
        self._method = METHODS[signal]
        self._metadata = tuple((name.lower(), value) for name, value in headers.items())
        self._compression = (
            self._grpc.Compression.Gzip
            if compression == "gzip"
            else self._grpc.Compression.NoCompression
        )
        self._files = (ca_file, cert_file, key_file)
        self._lock = threading.Lock()
        self._channel: Any = None
        self._call: Any = None
        self._flying: set[Any] = set()
        self._aborted = False

    def send(self, lane: int, body: bytes, timeout: float) -> Answer:
        """Make one call; return within ``timeout`` seconds, whatever the server does."""
        grpc = self._grpc
        try:
            with self._lock:
                if self._aborted:
                    return NoAnswer("aborted")
                future = self._stub().future(
                    body,
                    timeout=timeout,
                    metadata=self._metadata,
                    compression=self._compression,
                    wait_for_ready=False,
                )
                self._flying.add(future)
        except (OSError, ValueError) as error:  # files of certificates; a closed channel
            return NoAnswer("tls" if isinstance(error, OSError) else "aborted", str(error))
        try:
            return GrpcAnswer("OK", body=bytes(future.result()))
        except grpc.FutureCancelledError:
            return NoAnswer("aborted")
        except grpc.RpcError as error:
            return self._failure(error)
        finally:
            with self._lock:
                self._flying.discard(future)

    def _failure(self, error: Any) -> Answer:
        return NoAnswer("aborted") if self._aborted else _answer(error)

    def _stub(self) -> Any:
        if self._call is None:
            self._channel = self._open()
            # Without serializers the messages are bytes on both sides.
            self._call = self._channel.unary_unary(self._method)
        return self._call

    def _open(self) -> Any:
        grpc = self._grpc
        options = (
            ("grpc.max_receive_message_length", RESPONSE_LIMIT),
            ("grpc.max_send_message_length", -1),
            ("grpc.enable_retries", 0),  # hastack's own rules decide
            ("grpc.max_reconnect_backoff_ms", 5000),
            ("grpc.use_local_subchannel_pool", 1),
        )
        if not self._secure:
            return grpc.insecure_channel(self._host, options=options)
        ca, cert, key = (None if path is None else _read(path) for path in self._files)
        credentials = grpc.ssl_channel_credentials(ca, key, cert)
        return grpc.secure_channel(self._host, credentials, options=options)

    def abort(self) -> None:
        """End all calls under way, from another thread, and refuse further ones."""
        with self._lock:
            self._aborted = True
            flying = list(self._flying)
            channel, self._channel, self._call = self._channel, None, None
        for future in flying:
            future.cancel()
        if channel is not None:
            with suppress(Exception):
                channel.close()

    def close(self, lane: int) -> None:
        """Nothing belongs to one lane."""

    def forget(self) -> None:
        """In a forked child: leave the parent's channel alone, and open an own one."""
        if self._channel is not None:
            _left_behind.append((self._channel, self._call, self._flying))
        self._lock = threading.Lock()
        self._channel = self._call = None
        self._flying = set()
        self._aborted = False


def _read(path: str) -> bytes:
    with open(path, "rb") as file:  # noqa: PTH123  # a path as the configuration has it
        return file.read()


def _answer(error: Any) -> Answer:
    code = error.code().name
    details = error.details() or ""
    said = details.lower()
    if code == "UNAVAILABLE" and any(words in said for words in _UNRESOLVED):
        return NoAnswer("dns", details)
    status = b""
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            status = bytes(value)
    return GrpcAnswer(code, details, status)
