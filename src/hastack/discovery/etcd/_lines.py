"""The connections of one client on one event loop: one to each endpoint, replaced when silent."""

from __future__ import annotations

import asyncio
import contextvars
import random
import time
import weakref
from typing import TYPE_CHECKING, Final, final

from hastack._core._errors import ClosedError

from . import _fork, _wire  # noqa: F401  # forks are seen to from the first connection on
from ._channel import Line, load

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any

    from ._shared import Shared

__all__ = ("Lines",)

SILENCE: Final = 2.0
"""Seconds for which a connection may owe an answer before it is asked whether it is there."""
ANSWER: Final = 1.0
"""Seconds within which it has to say so."""
SPREAD: Final = 0.2
"""Seconds over which those who waited for one connection begin again."""


@final
class Lines:
    """Opens, watches, replaces and closes connections.

    A network that swallows everything leaves a connection open, and requests in it without an
    answer; HTTP/2 pings find that after 13 seconds. So a connection that has said nothing for a
    while although it should have is asked for the server's status, which needs neither a token nor
    a leader. A slow request does not keep the server from answering that. Without an answer, a new
    connection is made; what may be repeated is given up, to be repeated there, and what may not
    keeps the old one for as long as a request may take.
    """

    def __init__(self, shared: Shared, loop: asyncio.AbstractEventLoop) -> None:
        self._shared = shared
        self._loop = loop
        self._grpc = load()
        self._current: dict[str, Line] = {}
        self._replaced: set[Line] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def to(self, address: str) -> Line:
        """The connection to ``address``, made if there is none.

        Raises:
            ClosedError: The client was closed.
            ForkUnsafe: The parent process had connections when this one was forked.
        """
        line = self._current.get(address)
        if line is None:
            if self._shared.closed:
                raise ClosedError("etcd client")
            channel = self._grpc.channel(address, self._shared.options.tls)
            line = self._current[address] = Line(address, channel)
        return line

    async def rest(self, address: str, seconds: float) -> None:
        """Pause before another try; no longer than until a broken connection is there again."""
        line, ready = self._current.get(address), self._grpc.READY
        if line is None or line.channel.get_state(True) is ready:
            await asyncio.sleep(seconds)
            return
        try:
            async with asyncio.timeout(seconds):
                while (state := line.channel.get_state(True)) is not ready:
                    await line.channel.wait_for_state_change(state)
                # It comes back for all clients at about the same time.
                await asyncio.sleep(random.random() * SPREAD)
        except (TimeoutError, self._grpc.UsageError):
            pass

    # Silence

    def asked(self, line: Line) -> None:
        """A request is on its way; `Line.since` is cleared with whatever is heard."""
        line.since = time.monotonic()
        if line.timer is None:
            self._look_in(SILENCE, line)

    def doubt(self, line: Line) -> None:
        """Ask whether the server is there, now."""
        if not line.doubted and self._current.get(line.address) is line:
            line.doubted = True
            self._start(self._ask(line), f"etcd, asking {line.address}")

    def _look_in(self, seconds: float, line: Line) -> None:
        # Without the variables of whoever asked first; and nothing is kept alive, since a loop may
        # end with its connections open, and as long as there is one no child can use grpc.
        line.timer = self._loop.call_later(
            seconds, _look, weakref.ref(self), weakref.ref(line), context=contextvars.Context()
        )

    def _look(self, line: Line) -> None:
        line.timer = None
        if line.since is None or self._current.get(line.address) is not line:
            return
        left = line.since + SILENCE - time.monotonic()
        if left > 0.0:
            self._look_in(left, line)
        else:
            self.doubt(line)

    async def _ask(self, line: Line) -> None:
        try:
            await line.unary(_wire.STATUS)(b"", timeout=ANSWER)  # a StatusRequest
        except self._grpc.Error as error:
            if error.code().name == "DEADLINE_EXCEEDED":
                self._replace(line)
        except self._grpc.UsageError:
            return  # it was closed
        finally:
            line.doubted = False
        line.since = None

    def _replace(self, line: Line) -> None:
        if self._current.get(line.address) is not line:
            return
        del self._current[line.address]
        self._replaced.add(line)
        line.silent = True
        self._shared.missed(line.address)
        for call in tuple(line.calls):
            call.cancel()
        self._start(self._put_away(line), f"etcd, leaving {line.address}")

    async def _put_away(self, line: Line) -> None:
        await line.aclose(grace=self._shared.options.timeout)
        self._replaced.discard(line)

    # Ending

    def _start(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = self._loop.create_task(work, name=name, context=contextvars.Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def aclose(self) -> None:
        """Close all; what waits on them is cancelled."""
        for task in self._tasks:
            task.cancel()
        lines = (*self._current.values(), *self._replaced)
        self._current = {}
        self._replaced = set()
        for line in lines:
            await line.aclose()


def _look(lines: weakref.ref[Any], line: weakref.ref[Any]) -> None:
    whose, what = lines(), line()
    if whose is not None and what is not None:
        whose._look(what)
