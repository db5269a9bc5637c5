"""The thread that lets an observer look once a period, and ends with it."""

from __future__ import annotations

import logging
import threading
import time
import weakref
from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from ._observer import Observer

__all__ = ("Ticker",)

_log = logging.getLogger("hastack.dashboard")


@final
class Ticker:
    """Looks again and again until it is stopped, forked away, or the observer is gone.

    Args:
        observer: Held weakly by the thread.
    """

    def __init__(self, observer: Observer) -> None:
        self._observer = weakref.ref(observer)
        self._period = observer.period
        self._gate = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def ensure(self) -> None:
        """Have the thread run: a forked child, for example, has none."""
        thread = self._thread
        if thread is not None and thread.is_alive():
            return
        with self._gate:
            if self._stop.is_set() or (self._thread is not None and self._thread.is_alive()):
                return
            self._thread = threading.Thread(
                target=_run,
                args=(self._observer, self._stop, self._period),
                name="hastack-dashboard",
                daemon=True,
            )
            self._thread.start()

    def after_fork(self) -> None:
        """The thread and whoever held the lock are the parent's."""
        self._gate = threading.Lock()
        stopped = self._stop.is_set()
        self._stop = threading.Event()
        if stopped:
            self._stop.set()
        self._thread = None

    def stop(self, timeout: float) -> None:
        """End the thread and wait for it."""
        self._stop.set()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout)


def _run(reference: weakref.ref[Observer], stop: threading.Event, period: float) -> None:
    failed = False
    while True:
        observer = reference()
        if observer is None:
            return
        try:
            observer.look(time.monotonic(), time.time())
        except Exception:
            if not failed:  # once: the next look will most likely fail alike
                _log.exception("looking at this process failed")
            failed = True
        del observer
        if stop.wait(period):
            return
