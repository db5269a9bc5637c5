"""An event that is safe to set from anywhere, signal handlers included."""

from __future__ import annotations

import threading
from typing import final


@final
class Latch(threading.Event):
    """An event for one waiter that a signal handler may set.

    `threading.Event.set` takes a lock that the interrupted thread may hold itself.
    """

    def __init__(self) -> None:
        self._gate = threading.Lock()
        self._gate.acquire()
        self._set = False

    def is_set(self) -> bool:
        return self._set

    def set(self) -> None:
        if not self._set:
            self._set = True
            self._gate.release()

    def wait(self, timeout: float | None = None) -> bool:
        if not self._set and self._gate.acquire(
            timeout=-1 if timeout is None else min(timeout, threading.TIMEOUT_MAX)
        ):
            # Set; leave the gate open for the next look.
            self._gate.release()
        return self._set
