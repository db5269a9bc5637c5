"""All keepalives of one client over one stream, on the process's background loop."""

from __future__ import annotations

import asyncio
import contextvars
import random
import time
from typing import TYPE_CHECKING, Final, Protocol, final

from hastack._core._errors import HastackError

from . import _wire
from ._lease_core import Keepalives
from ._lease_events import KEEPALIVE_INTERRUPTED, KeepaliveInterrupted

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._stream import Stream
    from ._transport import Transport

LONGEST_SLEEP: Final = 1.0
"""Timers stand still while a machine is suspended; the clock is looked at this often."""
LATE: Final = 0.1
"""A look that comes later than this says that this process was held up, perhaps not the server."""
GRACE: Final = 0.05
PAUSE: Final = (0.05, 0.75)
"""First and longest pause before the stream is opened again."""
SHORTEST_OPENING: Final = 1.0
"""Seconds that opening a stream may take, however short the TTL."""

# Counts the time during which a machine is suspended as well: leases run out meanwhile.
_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def clock() -> float:
    """The clock that leases are measured with, in seconds."""
    return time.clock_gettime(_CLOCK)


class Holder(Protocol):
    """Whoever holds a lease; told on the background loop's thread."""

    def _renewed(self, ttl: float) -> None:
        """It lives for another ``ttl`` seconds."""

    def _lapsed(self) -> None:
        """It can no longer be relied on, though it may still be there."""

    def _gone(self) -> None:
        """The store says that it does not exist. It is no longer kept."""


@final
class KeepaliveStream:
    """Sends keepalives when they are due, matches the answers, and says what became of leases.

    Every method runs on the background loop. What is timed runs in timer callbacks, never behind
    an ``await``: a stream that hangs delays no verdict.

    Args:
        transport: The connections of that loop.
        answered: Called when a stream has got its first answer: the store is there.
    """

    def __init__(self, transport: Transport, answered: Callable[[], object]) -> None:
        self._transport = transport
        self._on_answer = answered
        self._loop = asyncio.get_running_loop()
        self._table = Keepalives()
        self._holders: dict[int, Holder] = {}
        self._stream: Stream | None = None
        self._task: asyncio.Task[None] | None = None
        self._due = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._planned = float("inf")
        self._graced = False
        self._stalled = False
        self.opened = 0  # streams so far
        self.answers = 0  # answers so far

    def add(self, lease: int, ttl: float, *, sent: float, holder: Holder) -> None:
        """Keep a lease alive that was granted by a request sent at ``sent``."""
        self._holders[lease] = holder
        self._table.add(lease, ttl, sent=sent, drawn=random.random())
        self._arm()

    def remove(self, lease: int) -> None:
        """Keep it alive no longer."""
        self._holders.pop(lease, None)
        self._table.remove(lease)
        if not self._holders:
            self.close()

    def remaining(self, lease: int) -> float:
        """Seconds for which it can still be relied on."""
        return self._table.remaining(lease, clock())

    def close(self) -> None:
        """End the stream and the timer; the next lease begins anew."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
        self._stream = None

    # Timing

    def _arm(self) -> None:
        at = self._table.wake_at()
        if self._timer is not None:
            if at is not None and self._planned <= at:
                return  # it rings early enough, and then looks again
            self._timer.cancel()
            self._timer = None
        if at is not None:
            self._set_timer(at)

    def _set_timer(self, at: float) -> None:
        now = clock()
        self._planned = min(max(at, now), now + LONGEST_SLEEP)
        # Without the variables of whoever added the lease: its deadline is not the keepalives'.
        self._timer = self._loop.call_later(
            self._planned - now, self._look, context=contextvars.Context()
        )

    def _look(self) -> None:
        self._timer = None
        now = clock()
        late = now - self._planned
        look = self._table.look(now)
        for lease in look.expired:
            holder = self._holders.get(lease)
            if holder is not None:
                holder._lapsed()
        if look.stalled:
            if late > LATE and not self._graced:
                # The answers may have come while this process was held up: read them first.
                self._graced = True
                self._set_timer(now + GRACE)
                return
            self._cut()
        self._graced = False
        if look.due and self._holders:
            self._due.set()
            if self._task is None:
                self._task = self._loop.create_task(self._serve(), name="etcd keepalives")
        self._arm()

    def _cut(self) -> None:
        """No answer in time: give this stream up, and its endpoint for a while."""
        stream, self._stream = self._stream, None
        self._table.cut()
        if stream is not None:
            self._stalled = True
            stream.give_up()

    # The stream

    async def _serve(self) -> None:
        """One stream after another, for as long as there are leases."""
        failures = 0
        while self._holders:
            stream: Stream | None = None
            self._stalled = False
            before = self.answers
            try:
                stream = await self._open()
                await self._use(stream)
                reason = ""
            except HastackError as error:
                reason = str(error)
            except Exception as error:  # whatever it was, the leases need the next stream
                reason = repr(error)
            failures = 0 if self.answers > before else failures + 1
            if self._stalled:
                reason = "no answer in time"
            if KEEPALIVE_INTERRUPTED.subscribers and self._holders:
                KEEPALIVE_INTERRUPTED.publish(
                    KeepaliveInterrupted(
                        endpoint="" if stream is None else stream.endpoint,
                        reason=reason,
                        leases=len(self._holders),
                    )
                )
            first, longest = PAUSE
            pause = min(longest, first * 2.0 ** min(failures, 16))
            await self._transport.rest(random.random() * pause)

    async def _open(self) -> Stream:
        return await self._transport.stream(
            _wire.LEASE_KEEP_ALIVE,
            require_leader=True,
            timeout=max(SHORTEST_OPENING, self._table.patience()),
        )

    async def _use(self, stream: Stream) -> None:
        """Ask and listen until the stream ends."""
        self._stream = stream
        self.opened += 1
        writer = self._loop.create_task(self._write(stream), name="etcd keepalives, asking")
        try:
            await self._read(stream)
        finally:
            writer.cancel()
            stream.cancel()
            if self._stream is stream:
                self._stream = None
                self._table.cut()
                self._arm()
            await asyncio.wait((writer,))
            if not writer.cancelled():
                writer.exception()  # the reader has met the same end

    async def _write(self, stream: Stream) -> None:
        while True:
            self._due.clear()
            for lease in self._table.take():
                if self._stream is not stream:
                    return
                # Noted before it is sent: the server cannot have begun to count earlier.
                self._table.sent(lease, clock())
                self._arm()
                await stream.write(_wire.LeaseKeepAliveRequest(ID=lease))
            await self._due.wait()

    async def _read(self, stream: Stream) -> None:
        fresh = True
        while True:
            answer = await stream.read()
            if self._stream is not stream:
                return  # given up meanwhile: what it says belongs to no request any more
            self.answers += 1
            if fresh:
                fresh = False
                self._on_answer()
            self._take(answer.ID, answer.TTL)

    def _take(self, lease: int, ttl: int) -> None:
        holder = self._holders.get(lease)
        result = self._table.answered(lease, ttl, now=clock(), drawn=random.random())
        if holder is None:
            return
        if result == "renewed":
            holder._renewed(float(ttl))
            self._arm()
        elif result == "lost":
            del self._holders[lease]
            holder._gone()
            if not self._holders:
                self.close()
