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
import contextvars
import heapq
import itertools
import selectors
import sys
import threading
import time
import weakref
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple, Unpack, final

from ._core._cancel import Background, _current
from ._core._validate import number, optional_seconds
from ._core._validate import seconds as _seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from concurrent.futures import Executor

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

__all__ = ("ManualClock",)


# Real seconds that others get before time moves: threads of which nobody knows what they do, and
# work that the loop itself has handed to an executor.
_STRANGER = 0.005
_WORKER = 0.05
# The most that a thread gets which is running or waits for a processor. Only Linux tells.
_RUNNING = 2.0
# Nanoseconds on a processor, of eight milliseconds, that make a thread a running one.
_WORKED = 500_000


@final
class ManualClock:
    """A clock for tests; satisfies `hastack.typing.Clock`.

    Time moves by `advance`, and, with ``autojump``, by itself whenever everybody waits: to the
    next timer, or to the end of the wait that ends first. A thread that waits on this clock
    waits in `wait` or `sleep`; an event loop made by `run` waits when no task and no file
    descriptor is ready. No test needs to sleep.

    When every thread waits on this clock, the jump is immediate and exact. Otherwise somebody
    may be about to do something, and gets a few real milliseconds (50 while ``run_in_executor``
    or `asyncio.to_thread` work is under way) before time moves on; on Linux, one that is running
    or waits for a processor gets up to two seconds, so that a busy machine changes little.
    Threads that are older than the clock count from their first wait on it. Give a larger
    ``autojump`` to threads that work for longer than that between two waits.

    Args:
        start: First reading, in seconds.
        autojump: Real seconds without any progress before time jumps, at least.
            ``None`` turns jumping off: waits then last until another thread calls `advance`.

    Raises:
        InvalidArgument: ``start`` is not finite or ``autojump`` is negative.
    """

    def __init__(self, start: float = 1000.0, *, autojump: float | None = 0.0) -> None:
        self._now = number("start", start, "a finite number of seconds", valid=lambda _: True)
        self._autojump = optional_seconds("autojump", autojump, zero=True)
        self._lock = threading.RLock()
        self._timers: list[tuple[float, int, list[Callable[[], None]]]] = []
        self._order = itertools.count()
        # (token, native id of the thread) -> end of that wait
        self._waiting: dict[tuple[int, int], float] = {}
        # Threads that were there before and have not used this clock since.
        self._bystanders = weakref.WeakSet(threading.enumerate())
        self._bystanders.discard(threading.current_thread())
        self._workers = 0  # executor calls under way in loops of this clock

    def monotonic(self) -> float:
        """The current reading, in seconds."""
        return self._now

    def call_at(self, when: float, callback: Callable[[], None], /) -> Callable[[], None]:
        """Run ``callback`` inside the `advance` or jump that reaches ``when``.

        What it raises reaches the caller of `advance`.
        """
        cell = [callback]
        with self._lock:
            heapq.heappush(self._timers, (when, next(self._order), cell))
        return cell.clear

    def advance(self, seconds: float) -> None:
        """Move time on by ``seconds`` and run every timer that falls due, in order.

        Raises:
            InvalidArgument: ``seconds`` is negative or not finite.
        """
        self._advance_to(self._now + _seconds("seconds", seconds, zero=True))

    def set(self, now: float) -> None:
        """Set the reading outright, even backwards; no timer runs. For clock-fault tests."""
        reading = number("now", now, "a finite number of seconds", valid=lambda _: True)
        with self._lock:
            self._now = reading

    def wait(self, event: threading.Event, timeout: float | None = None, /) -> bool:
        """Wait in manual time; see the class for when time moves by itself."""
        end = inf if timeout is None else self._now + timeout
        self._wait(event.wait, event.is_set, end)
        return event.is_set()

    def sleep(self, seconds: float) -> None:
        """Let ``seconds`` of manual time pass for this thread."""
        self.wait(threading.Event(), _seconds("seconds", seconds, zero=True))

    def loop(self) -> asyncio.AbstractEventLoop:
        """A new event loop on this clock; real sockets and threads still work in it."""
        return _ManualLoop(self)

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        """`asyncio.run` on this clock: sleeps and timeouts take no real time.

        The contexts of `hastack.context` made inside run on this clock, too.
        """
        variables = contextvars.copy_context()
        variables.run(_current.set, Background(self))
        with asyncio.Runner(loop_factory=self.loop) as runner:
            return runner.run(main, context=variables)

    def _wait(
        self,
        poll: Callable[[float], object],
        ready: Callable[[], bool],
        end: float,
        *,
        patience: float = 0.0,
    ) -> None:
        """Poll and jump until ``ready()`` or ``end``; both threads and loops wait in here.

        What a thread waits for is set in real time and tells this clock nothing, therefore the
        polling. ``patience`` is a lower bound for the real time given to others.
        """
        token = next(self._order), threading.get_native_id()
        self._bystanders.discard(threading.current_thread())
        with self._lock:
            self._waiting[token] = end
        try:
            waited = 0.0
            before = self._now
            while not ready() and self._now < end:
                if self._now != before:
                    waited, before = 0.0, self._now
                    if poll(0.0):  # a timer that ran in the jump may have woken this loop
                        return
                grace = inf if self._autojump is None else self._grace(patience, waited)
                if waited < grace:
                    pause = min(_STRANGER, grace - waited)
                    if poll(pause):
                        return
                    waited += pause
                elif not self._jump() and poll(0.001):
                    return  # nothing was due at all: only another thread could help, and did
        finally:
            with self._lock:
                del self._waiting[token]

    def _grace(self, patience: float, waited: float = 0.0) -> float:
        """Real seconds for others before time may move, ``waited`` of which have gone by."""
        grace = max(self._autojump or 0.0, patience)
        threads = everybody = {t for t in threading.enumerate() if t.name != "hastack-timers"}
        if not self._workers:
            threads = everybody.difference(self._bystanders)
        strangers = len(threads) > len(self._waiting)
        if strangers:
            grace = max(grace, _WORKER if self._workers else _STRANGER)
        if grace <= waited < _RUNNING and (strangers or patience):
            # Whoever serves the other end of a socket may be older than this clock.
            with self._lock:
                waiting = {native_id for _, native_id in self._waiting}
            looked_at = everybody if patience else threads
            if _anyone_runs([t for t in looked_at if t.native_id not in waiting]):
                grace = _RUNNING
        return grace

    def _jump(self) -> bool:
        """Go to the nearest point at which anything can happen; say whether time moved."""
        with self._lock:
            targets = list(self._waiting.values())
            self._drop_cancelled()
            if self._timers:
                targets.append(self._timers[0][0])
            target = min(targets, default=inf)
            if target == inf or (target <= self._now and not self._due(self._now)):
                return False
        self._advance_to(target)
        return True

    def _drop_cancelled(self) -> None:
        while self._timers and not self._timers[0][2]:
            heapq.heappop(self._timers)

    def _due(self, target: float) -> bool:
        self._drop_cancelled()
        return bool(self._timers) and self._timers[0][0] <= target

    def _advance_to(self, target: float) -> None:
        while True:
            with self._lock:
                if not self._due(target):
                    self._now = max(self._now, target)
                    return
                when, _, cell = heapq.heappop(self._timers)
                self._now = max(self._now, when)
                callback = cell.pop() if cell else None
            if callback is not None:
                callback()


def _anyone_runs(threads: list[threading.Thread]) -> bool:
    """Whether one of ``threads`` is running, or was for a good part of a few milliseconds.

    A thread that computes sleeps for a moment whenever another one holds the interpreter, so one
    look at its state is not enough.
    """
    before = [_on_cpu(thread) for thread in threads]
    for _ in range(8):
        if any(map(_runs, threads)):
            return True
        time.sleep(0.001)
        worked = (_on_cpu(t) - begin for t, begin in zip(threads, before, strict=True))
        if max(worked, default=0) > _WORKED:
            return True
    return False


def _on_cpu(thread: threading.Thread) -> int:
    """Nanoseconds that ``thread`` has spent on a processor; 0 when nobody knows."""
    if sys.platform != "linux" or thread.native_id is None:
        return 0
    try:
        # The kernel's name for that thread's own CPU clock; see clock_getcpuclockid(3). Unlike
        # pthread_getcpuclockid it fails cleanly when the thread has ended.
        return time.clock_gettime_ns((~thread.native_id << 3) | 6)
    except OSError:
        return 0


def _runs(thread: threading.Thread) -> bool:
    """Whether ``thread`` is running or would if it were given a processor."""
    try:
        stat = Path(f"/proc/self/task/{thread.native_id}/stat").read_text(encoding="latin-1")
        # After the name, which may contain anything, comes the state.
        return stat.rpartition(")")[2].split()[0] in {"R", "D"}
    except (OSError, IndexError):  # another system, or the thread has ended
        return False


class _JumpingSelector(selectors.DefaultSelector):
    """Turns the loop's wait for its next timer into a jump of the clock."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__()
        self.clock = clock

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        found = super().select(0)
        if found or (timeout is not None and timeout <= 0.0):
            return found

        def poll(pause: float) -> bool:
            nonlocal found
            found = super(_JumpingSelector, self).select(pause)
            return bool(found)

        # Beyond the loop's own wake-up pipe there are sockets whose peers need real time.
        patience = _STRANGER if len(self.get_map()) > 1 else 0.0
        end = inf if timeout is None else self.clock.monotonic() + timeout
        self.clock._wait(poll, lambda: False, end, patience=patience)
        return found


class _ManualLoop(asyncio.SelectorEventLoop):
    def __init__(self, clock: ManualClock) -> None:
        super().__init__(_JumpingSelector(clock))
        self._hastack_clock = clock

    def time(self) -> float:
        return self._hastack_clock.monotonic()

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[Unpack[Ts]], T], *args: *Ts
    ) -> asyncio.Future[T]:
        clock = self._hastack_clock
        future = super().run_in_executor(executor, func, *args)
        clock._workers += 1

        def finished(_: object) -> None:
            clock._workers -= 1

        future.add_done_callback(finished)
        return future
