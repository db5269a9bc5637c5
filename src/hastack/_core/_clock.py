"""The process clock, and the one timer thread behind it."""

from __future__ import annotations

import heapq
import itertools
import os
import threading
import time
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
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._heap: list[tuple[float, int, list[Callable[[], None]]]] = []
        self._order = itertools.count()
        self._cancelled = 0
        self._thread: threading.Thread | None = None

    def call_at(self, when: float, callback: Callable[[], None]) -> Callable[[], None]:
        """Run ``callback`` once at monotonic time ``when``; the result cancels it."""
        # An empty cell is a cancelled or finished timer: the callback is let go at once, the
        # heap entry is pruned later.
        cell = [callback]
        with self._lock:
            heapq.heappush(self._heap, (when, next(self._order), cell))
            first = self._heap[0][2] is cell
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="hastack-timers", daemon=True
                )
                self._thread.start()
        if first:
            self._wake.set()

        def cancel() -> None:
            with self._lock:
                if not cell:
                    return
                cell.clear()
                self._cancelled += 1
                if self._cancelled > 64 and self._cancelled * 2 > len(self._heap):
                    self._heap = [entry for entry in self._heap if entry[2]]
                    heapq.heapify(self._heap)
                    self._cancelled = 0

        return cancel

    def wait(self, event: threading.Event, timeout: float | None = None) -> bool:
        """Block until ``event`` is set or ``timeout`` seconds passed; say whether it is set."""
        return event.wait(timeout)

    def _run(self) -> None:
        while True:
            due: list[Callable[[], None]] = []
            with self._lock:
                self._wake.clear()
                now = time.monotonic()
                while self._heap and (not self._heap[0][2] or self._heap[0][0] <= now):
                    cell = heapq.heappop(self._heap)[2]
                    if cell:
                        due.append(cell.pop())
                    else:
                        self._cancelled -= 1
                pause = self._heap[0][0] - now if self._heap else None
            for callback in due:
                try:
                    callback()
                except Exception:
                    threading.excepthook(
                        threading.ExceptHookArgs((*_exc_info(), threading.current_thread()))
                    )
            if not due:
                self._wake.wait(pause if pause is None else min(pause, threading.TIMEOUT_MAX))


def _exc_info() -> tuple[type[BaseException], BaseException | None, object]:
    import sys

    kind, value, trace = sys.exc_info()
    assert kind is not None
    return kind, value, trace


SYSTEM_CLOCK = SystemClock()
"""The clock of everything that was not given another."""
