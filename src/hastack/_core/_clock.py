"""The process clock, and the one timer thread behind it."""

from __future__ import annotations

import heapq
import itertools
import os
import sys
import threading
import time
from operator import itemgetter
from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from collections.abc import Callable


@final
class SystemClock:
    """Monotonic process time; satisfies `hastack.typing.Clock`.

    Timers run on one daemon thread that starts with the first `call_at` and is started anew
    in a forked child. Callbacks must be short and must not block.
    """

    monotonic = staticmethod(time.monotonic)

    def __init__(self) -> None:
        self._reset()
        os.register_at_fork(after_in_child=self._reset)

    def _reset(self) -> None:
        # A forked child has no timer thread, and the lock may have been held at the fork. The
        # parent's timers belong to the parent.
        #
        # A signal handler or a finalizer may set or cancel a timer while its own thread is in
        # here. Hence a reentrant lock, changes to the heap that are one C call each, and a plain
        # lock to wake the thread (`threading.Event` is not reentrant).
        self._lock = threading.RLock()
        self._asleep = threading.Lock()
        self._heap: list[tuple[float, int, list[Callable[[], None]]]] = []
        self._order = itertools.count()
        self._cancelled = 0
        self._thread: threading.Thread | None = None

    def call_at(self, when: float, callback: Callable[[], None]) -> Callable[[], None]:
        """Run ``callback`` once at monotonic time ``when``; the result cancels it.

        What the callback raises goes to `threading.excepthook`.
        """
        # An empty cell is a cancelled or finished timer: the callback is let go at once, the
        # heap entry is pruned later.
        cell = [callback]
        with self._lock:
            self._start()
            heapq.heappush(self._heap, (when, next(self._order), cell))
            first = self._heap[0][2] is cell
        if first:
            self._wake()

        def cancel() -> None:
            with self._lock:
                if not cell:
                    return
                cell.clear()
                self._cancelled += 1
                crowded = self._crowded()
            if crowded:
                self._wake()

        return cancel

    def wait(self, event: threading.Event, timeout: float | None = None) -> bool:
        """Block until ``event`` is set or ``timeout`` seconds passed; say whether it is set."""
        return event.wait(timeout if timeout is None else min(timeout, threading.TIMEOUT_MAX))

    def _start(self) -> None:
        if self._thread is None:
            thread = threading.Thread(target=self._run, name="hastack-timers", daemon=True)
            self._thread = thread
            try:
                thread.start()
            except BaseException:
                self._thread = None  # no more threads: the caller hears of it, a later one retries
                raise

    def _wake(self) -> None:
        try:
            self._asleep.release()
        except RuntimeError:
            pass  # awake already, or not asleep yet and about to find the door open

    def _crowded(self) -> bool:
        return self._cancelled > 64 and self._cancelled * 2 > len(self._heap)

    def _run(self) -> None:
        asleep = self._asleep
        while True:
            due, pause = self._take_due()
            if due:
                _run_due(due)
            else:
                asleep.acquire(timeout=-1 if pause is None else min(pause, threading.TIMEOUT_MAX))

    def _take_due(self) -> tuple[list[Callable[[], None]], float | None]:
        """The callbacks to run now, and without any the seconds until the next one."""
        due: list[Callable[[], None]] = []
        with self._lock:
            if self._crowded():
                self._heap[:] = filter(itemgetter(2), self._heap)
                heapq.heapify(self._heap)
                self._cancelled = 0
            heap, now = self._heap, time.monotonic()
            while heap and (not heap[0][2] or heap[0][0] <= now):
                cell = heapq.heappop(heap)[2]
                if cell:
                    due.append(cell.pop())
                else:
                    self._cancelled -= 1
            return due, max(0.0, heap[0][0] - now) if heap else None


def _run_due(due: list[Callable[[], None]]) -> None:
    for callback in due:
        try:
            callback()
        except BaseException:
            threading.excepthook(
                threading.ExceptHookArgs((*sys.exc_info(), threading.current_thread()))
            )


SYSTEM_CLOCK = SystemClock()
"""The clock of everything that was not given another."""
