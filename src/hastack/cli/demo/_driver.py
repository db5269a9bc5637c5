"""The load: an open-loop generator over HTTP/1.1 keep-alive connections.

Each request leaves when its arrival time has come, whether or not earlier ones were answered,
and its latency counts from that time. A generator that waits for answers would send less
exactly when the service is slow, and hide it (coordinated omission).
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from ._score import FAILED, LATE, OK, SHED, Sample

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ._workload import Plan

_SHED_STATUS = frozenset({429, 503})


class _Connection(asyncio.Protocol):
    """One request at a time; understands what uvicorn sends: a length, or the end."""

    def __init__(self) -> None:
        self._buffer = b""
        self._answer: asyncio.Future[int] | None = None
        self._transport: asyncio.Transport | None = None

    @property
    def usable(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, separator, body = self._buffer.partition(b"\r\n\r\n")
        if not separator or self._answer is None:
            return
        lower = head.lower()
        _, found, rest = lower.partition(b"\r\ncontent-length:")
        length = int(rest.partition(b"\r\n")[0]) if found else 0
        if len(body) < length:
            return
        self._buffer = b""
        if b"\r\nconnection: close" in lower:
            self.close()
        if not self._answer.done():
            self._answer.set_result(int(head[9:12]))

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(exc or ConnectionResetError("closed by the service"))

    async def exchange(self, request: bytes) -> int:
        """Send ``request``; the answer's status."""
        assert self._transport is not None
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        try:
            return await self._answer
        finally:
            self._answer = None

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()


class Driver:
    """Sends one schedule to one service.

    Args:
        port: Of the service, on the loopback interface.
        plan: The experiment.

    Attributes:
        samples: What became of each request that has ended.
        lag: How late each request left, in seconds: the generator's own error.
    """

    def __init__(self, port: int, plan: Plan) -> None:
        self._port = port
        self._plan = plan
        self._idle: list[_Connection] = []
        self._request = b"GET /order HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n" % port
        self.samples: list[Sample] = []
        self.lag: list[float] = []

    async def run(self, arrivals: Sequence[float], start: float) -> None:
        """Send every request at ``start`` plus its arrival time; return when all have ended."""
        try:
            async with asyncio.TaskGroup() as group:
                for due in arrivals:
                    await asyncio.sleep(max(0.0, start + due - time.monotonic()))
                    self.lag.append(time.monotonic() - start - due)
                    group.create_task(self._send(due, start))
        finally:
            for connection in self._idle:
                connection.close()

    async def _send(self, due: float, start: float) -> None:
        plan = self._plan
        status = 0
        connection = None
        try:
            async with asyncio.timeout(start + due + plan.patience - time.monotonic()):
                connection = await self._connection()
                status = await connection.exchange(self._request)
        except TimeoutError:
            status = -1
        except OSError:
            pass
        latency = time.monotonic() - start - due
        if connection is not None:
            if status > 0 and connection.usable:
                self._idle.append(connection)
            else:
                connection.close()
        outcome = _outcome(status, latency, plan.deadline)
        self.samples.append(Sample(due, min(latency, plan.patience), outcome))

    async def _connection(self) -> _Connection:
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:
                return connection
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(_Connection, "127.0.0.1", self._port)
        return connection


def _outcome(status: int, latency: float, deadline: float) -> str:
    """What one answer is worth; ``status`` is 0 for a broken connection, -1 for silence."""
    if status in _SHED_STATUS:
        return SHED
    if latency > deadline:
        return LATE
    return OK if status == 200 else FAILED
