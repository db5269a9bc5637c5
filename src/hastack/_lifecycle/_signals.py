"""Owning the termination signals of a process, and giving them back."""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable

LOOK_UP = 0.2
"""Seconds. A signal that arrives just before the main thread falls asleep does not wake it, and its
handler waits for as long as that sleep lasts; so no sleep lasts longer than this."""


class SignalWatch:
    """Calls ``deliver(signum, count)`` for each signal, from the moment `install` returns.

    ``deliver`` runs inside the handler, on top of whatever the main thread was doing, so it may
    take no lock. From the second signal on the default action is back in place: when even the
    orderly abort hangs, one more signal ends the process without our help.
    """

    def __init__(self, signals: Iterable[int], deliver: Callable[[int, int], None]) -> None:
        self._signals = tuple(signals)
        self._deliver = deliver
        self._previous: dict[int, Any] = {}
        self._pid = 0
        self._count = 0

    def install(self) -> bool:
        """Take the signals over; False outside of the main thread, where Python allows none."""
        if threading.current_thread() is not threading.main_thread():
            return False
        self._pid = os.getpid()
        for each in self._signals:
            self._previous[each] = signal.signal(each, self._handle)
        return True

    def restore(self) -> None:
        """Put the previous handlers back; only from the main thread, otherwise nothing happens."""
        if threading.current_thread() is not threading.main_thread():
            return
        while self._previous:
            each, previous = self._previous.popitem()
            # None stands for a handler that was not installed from Python.
            if signal.getsignal(each) in {self._handle, signal.SIG_DFL}:
                signal.signal(each, signal.SIG_DFL if previous is None else previous)

    def wait(self, event: threading.Event, limit: float | None) -> None:
        """``event.wait(limit)``, open to signals all the time."""
        end = None if limit is None else time.monotonic() + limit
        left = LOOK_UP if limit is None else limit
        while left > 0.0 and not event.wait(min(left, LOOK_UP)):
            if end is not None:
                left = end - time.monotonic()

    def keep_awake(self, loop: asyncio.AbstractEventLoop) -> None:
        """The same for an event loop, until `restore`."""
        if self._previous:
            loop.call_later(LOOK_UP, self.keep_awake, loop)

    def _handle(self, signum: int, frame: object) -> None:
        if os.getpid() != self._pid:
            # A forked child inherits the handler but not the thread behind it: it must still
            # die when told to.
            previous = self._previous.get(signum)
            signal.signal(signum, signal.SIG_DFL if previous is None else previous)
            os.kill(os.getpid(), signum)
            return
        self._count += 1
        if self._count > 1:
            for each in self._signals:
                signal.signal(each, signal.SIG_DFL)
        self._deliver(signum, self._count)
