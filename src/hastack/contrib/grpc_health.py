"""The gRPC health protocol (``grpc.health.v1``) answered from a `hastack.health.Health`.

``SERVING`` is what ``/readyz`` calls pass or degraded. Works on ``grpc.server`` and
``grpc.aio.server``. The two messages of the protocol are so small that they are read and written
here: nothing is registered in protobuf's descriptor pool, so nothing can collide there.

Source: https://github.com/grpc/grpc/blob/master/doc/health-checking.md

Example:
    >>> import grpc
    >>> from concurrent.futures import ThreadPoolExecutor
    >>> from hastack.contrib.grpc_health import add_health
    >>> from hastack.health import Health
    >>> server = grpc.server(ThreadPoolExecutor(4))
    >>> add_health(server, Health(), services=["orders.v1.Orders"])
"""

from __future__ import annotations

import enum
import threading
from typing import TYPE_CHECKING, Any

from hastack._core import _validate
from hastack._core._extras import require
from hastack.lifecycle import Phase

grpc = require("grpc", extra="grpc")

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator

    from hastack._core._validate import Seconds
    from hastack.health import Health, Verdict

__all__ = ("ServingStatus", "add_health")


class ServingStatus(enum.IntEnum):
    """``HealthCheckResponse.ServingStatus``."""

    UNKNOWN = 0
    SERVING = 1
    NOT_SERVING = 2
    SERVICE_UNKNOWN = 3


def add_health(
    server: Any,
    health: Health,
    *,
    services: Iterable[str] = (),
    interval: Seconds = 1.0,
    max_watchers: int = 8,
) -> None:
    """Register the health service on a server that has not started.

    Args:
        server: A ``grpc.Server`` or ``grpc.aio.Server``.
        health: Who knows.
        services: Names that may be asked for besides ``""``; all share one verdict.
        interval: Seconds between two looks on behalf of a watcher. Checks are cached, so many
            watchers cost no more than one.
        max_watchers: ``Watch`` calls at a time; on a synchronous server each of them occupies
            a thread of its pool. What is above is refused with ``RESOURCE_EXHAUSTED``.

    Raises:
        MissingDependency: grpcio is not installed.
        InvalidArgument: A number is out of range.
    """
    known = frozenset(("", *services))
    pause = _validate.seconds("interval", interval)
    limit = threading.BoundedSemaphore(_validate.integer("max_watchers", max_watchers))
    kind = _Async if isinstance(server, grpc.aio.Server) else _Sync
    servicer = kind(health, known, pause, limit)
    handlers = {
        "Check": grpc.unary_unary_rpc_method_handler(servicer.check, _request, _response),
        "Watch": grpc.unary_stream_rpc_method_handler(servicer.watch, _request, _response),
    }
    generic = grpc.method_handlers_generic_handler("grpc.health.v1.Health", handlers)
    server.add_generic_rpc_handlers((generic,))


class _Servicer:
    def __init__(
        self,
        health: Health,
        known: frozenset[str],
        pause: float,
        limit: threading.BoundedSemaphore,
    ) -> None:
        self._health = health
        self._known = known
        self._pause = pause
        self._limit = limit

    @property
    def _over(self) -> bool:
        """Whether watchers must let go, lest they hold up the drain."""
        life = self._health.lifecycle
        return life is not None and life.phase in {Phase.DRAINING, Phase.STOPPING, Phase.STOPPED}


class _Sync(_Servicer):
    def check(self, service: str, rpc: Any) -> ServingStatus:
        if service not in self._known:
            rpc.abort(grpc.StatusCode.NOT_FOUND, f"no service {service!r}")
        return _status(self._health.readiness())

    def watch(self, service: str, rpc: Any) -> Iterator[ServingStatus]:
        if not self._limit.acquire(blocking=False):
            rpc.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many watchers")
        ended = threading.Event()
        try:
            if not rpc.add_callback(ended.set):
                return
            last = None
            while not ended.is_set() and not self._over:
                now = ServingStatus.SERVICE_UNKNOWN
                if service in self._known:
                    now = _status(self._health.readiness())
                if now is not last:
                    yield now
                last = now
                ended.wait(self._pause)
        finally:
            self._limit.release()


class _Async(_Servicer):
    async def check(self, service: str, rpc: Any) -> ServingStatus:
        if service not in self._known:
            await rpc.abort(grpc.StatusCode.NOT_FOUND, f"no service {service!r}")
        return _status(await self._health.readiness_async())

    async def watch(self, service: str, rpc: Any) -> AsyncIterator[ServingStatus]:
        import asyncio

        if not self._limit.acquire(blocking=False):
            await rpc.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many watchers")
        try:
            last = None
            while not self._over:  # the call is cancelled when the client goes
                now = ServingStatus.SERVICE_UNKNOWN
                if service in self._known:
                    now = _status(await self._health.readiness_async())
                if now is not last:
                    yield now
                last = now
                await asyncio.sleep(self._pause)
        finally:
            self._limit.release()


def _status(verdict: Verdict) -> ServingStatus:
    return ServingStatus.SERVING if verdict else ServingStatus.NOT_SERVING


def _response(status: ServingStatus) -> bytes:
    """``message HealthCheckResponse { ServingStatus status = 1; }``."""
    return b"\x08" + bytes([status]) if status else b""


def _request(data: bytes) -> str:
    """``message HealthCheckRequest { string service = 1; }``; unknown fields are skipped."""
    service = ""
    position = 0
    while position < len(data):
        tag, position = _varint(data, position)
        wire = tag & 7
        if wire == 0:
            _, position = _varint(data, position)
            continue
        if wire == 2:
            length, position = _varint(data, position)
        elif wire in {1, 5}:
            length = 8 if wire == 1 else 4
        else:
            raise ValueError(f"wire type {wire} in a HealthCheckRequest")
        end = position + length
        if end > len(data):
            raise ValueError("truncated HealthCheckRequest")
        if tag == (1 << 3 | 2):
            service = data[position:end].decode()
        position = end
    return service


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if position >= len(data) or shift > 63:
            raise ValueError("truncated HealthCheckRequest")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
