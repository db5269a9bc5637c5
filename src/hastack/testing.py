"""Time that stands still until a test moves it.

Example:
    >>> from hastack.testing import ManualClock
    >>> clock = ManualClock()
    >>> rang = []
    >>> cancel = clock.call_at(clock.monotonic() + 5.0, lambda: rang.append("five"))
    >>> clock.advance(4.0); rang
    []
    >>> clock.advance(1.0); rang
    ['five']
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import selectors
import threading
from typing import TYPE_CHECKING, Any, TypeVar, final

from ._core._errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

T = TypeVar("T")

__all__ = ("ManualClock",)


@final
class ManualClock:
    """A clock for tests; satisfies `hastack.typing.Clock`.

    Time moves by `advance`, and, with ``autojump``, by itself whenever everybody waits: a
    blocked thread jumps to the next timer or the end of a wait, and an event loop made by `run`
    jumps when no task is ready and no file descriptor is either. No test needs to sleep.

    Args:
        start: First reading, in seconds.
        autojump: Real seconds without any progress after which a blocking `wait` jumps.
            ``None`` turns jumping off: waits then last until another thread calls `advance`.
    """

    def __init__(self, start: float = 1000.0, *, autojump: float | None = 0.0) -> None:
        if autojump is not None and not autojump >= 0.0:
            raise InvalidArgument("autojump", autojump, "seconds >= 0, or None")
        self._now = float(start)
        self._autojump = autojump
        self._changed = threading.Condition()
        self._timers: list[tuple[float, int, list[Callable[[], None]]]] = []
        self._order = itertools.count()
        self._waiting: dict[int, float] = {}  # token -> end of that wait

    def monotonic(self) -> float:
        """The current reading, in seconds."""
        return self._now

    def call_at(self, when: float, callback: Callable[[], None], /) -> Callable[[], None]:
        """Run ``callback`` inside the `advance` that reaches ``when``."""
        cell = [callback]
        with self._changed:
            heapq.heappush(self._timers, (when, next(self._order), cell))
            self._changed.notify_all()

        def cancel() -> None:
            with self._changed:
                cell.clear()

        return cancel

    def advance(self, seconds: float) -> None:
        """Move time on by ``seconds`` and run every timer that falls due, in order."""
        if not seconds >= 0.0:
            raise InvalidArgument("seconds", seconds, "a number >= 0")
        self._advance_to(self._now + seconds)

    def set(self, now: float) -> None:
        """Set the reading outright, even backwards; no timer runs. For clock-fault tests."""
        with self._changed:
            self._now = float(now)
            self._changed.notify_all()

    def wait(self, event: threading.Event, timeout: float | None = None, /) -> bool:
        """Wait in manual time; see the class for when time moves by itself."""
        end = float("inf") if timeout is None else self._now + timeout
        token = next(self._order)
        with self._changed:
            self._waiting[token] = end
        try:
            while not event.is_set() and self._now < end:
                before = self._now
                # A set() from another thread notifies nobody here, so the event itself is
                # polled in real time while this clock stands still.
                if event.wait(self._autojump if self._autojump is not None else 0.01):
                    break
                if self._autojump is not None and self._now == before:
                    self._jump(end)
        finally:
            with self._changed:
                del self._waiting[token]
        return event.is_set()

    def sleep(self, seconds: float) -> None:
        """Let ``seconds`` of manual time pass for this thread."""
        self.wait(threading.Event(), seconds)

    def loop(self) -> asyncio.AbstractEventLoop:
        """A new event loop on this clock; real sockets and threads still work in it."""
        return _ManualLoop(self)

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        """`asyncio.run` on this clock: sleeps and timeouts take no real time."""
        with asyncio.Runner(loop_factory=self.loop) as runner:
            return runner.run(main)

    def _next_due(self) -> float | None:
        with self._changed:
            while self._timers and not self._timers[0][2]:
                heapq.heappop(self._timers)
            return self._timers[0][0] if self._timers else None

    def _jump(self, end: float) -> None:
        """Go to the nearest point at which anything can happen, if there is one."""
        due = self._next_due()
        with self._changed:
            targets = [*self._waiting.values(), end]
        if due is not None:
            targets.append(due)
        target = min(targets)
        if target < float("inf"):
            self._advance_to(max(target, self._now))
        elif self._autojump == 0.0:
            threading.Event().wait(0.001)  # only another thread can help now

    def _advance_to(self, target: float) -> None:
        while True:
            with self._changed:
                while self._timers and not self._timers[0][2]:
                    heapq.heappop(self._timers)
                if not self._timers or self._timers[0][0] > target:
                    self._now = max(self._now, target)
                    self._changed.notify_all()
                    return
                when, _, cell = heapq.heappop(self._timers)
                self._now = max(self._now, when)
                callback = cell.pop()
            callback()


class _JumpingSelector(selectors.DefaultSelector):
    """Turns the loop's wait for its next timer into a jump of the clock."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__()
        self.clock = clock

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        # Threads (executors, portals) get a real moment to answer before time moves.
        ready = super().select(self.clock._autojump or 0.001)
        if ready:
            return ready
        due = self.clock._next_due()
        target = None if timeout is None else self.clock.monotonic() + timeout
        if due is not None and (target is None or due < target):
            target = due
        if target is not None and self.clock._autojump is not None:
            self.clock._advance_to(target)
        return ready


class _ManualLoop(asyncio.SelectorEventLoop):
    def __init__(self, clock: ManualClock) -> None:
        super().__init__(_JumpingSelector(clock))
        self._hastack_clock = clock

    def time(self) -> float:
        return self._hastack_clock.monotonic()
