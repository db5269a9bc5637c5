"""The dependency as a process: `Capacity` behind a TCP port.

One line in is one call (its id), one line out the answer (``<id> ok``, ``<id> error`` or
``<id> busy``); answers come in the order in which they are ready.
"""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from ._capacity import Capacity
from ._children import run_child

if TYPE_CHECKING:
    from ._children import Parent

Call: TypeAlias = tuple[asyncio.WriteTransport, bytes]


class Dependency:
    """Answers calls as `Capacity` decides.

    Args:
        capacity: The model.
        start: Monotonic time at which the load begins, and with it the plan's timetable.
    """

    def __init__(self, capacity: Capacity[Call]) -> None:
        self._capacity = capacity
        self._loop = asyncio.get_running_loop()
        self.start: float | None = None

    def _at(self) -> float:
        return -1.0 if self.start is None else time.monotonic() - self.start

    def call(self, call: Call) -> None:
        """Take in one call."""
        delay = self._capacity.arrive(call, self._at())
        if delay is None:
            _answer(call, b"busy")
        elif delay:
            self._loop.call_later(delay, self._finish, call)

    def _finish(self, call: Call) -> None:
        ok, following = self._capacity.finish(self._at())
        _answer(call, b"ok" if ok else b"error")
        if following is not None:
            waiting, delay = following
            self._loop.call_later(delay, self._finish, waiting)


def _answer(call: Call, word: bytes) -> None:
    transport, number = call
    if not transport.is_closing():
        transport.write(number + b" " + word + b"\n")


class _Lines(asyncio.Protocol):
    def __init__(self, dependency: Dependency) -> None:
        self._dependency = dependency
        self._partial = b""
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        *lines, self._partial = (self._partial + data).split(b"\n")
        for line in lines:
            self._dependency.call((self._transport, line))


async def _main(parent: Parent) -> None:
    plan = parent.plan
    dependency = Dependency(Capacity(plan))
    loop = asyncio.get_running_loop()
    server = await loop.create_server(partial(_Lines, dependency), "127.0.0.1", 0)
    parent.say(port=server.sockets[0].getsockname()[1])
    dependency.start = (await parent.hear())["start"]
    await parent.gone()
    server.close()


if __name__ == "__main__":
    run_child(_main)
