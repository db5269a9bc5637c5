"""A few threads for calls whose caller must be free to wait for something else."""

from __future__ import annotations

import os
import queue
import threading
import weakref
from typing import TYPE_CHECKING, TypeAlias, final

if TYPE_CHECKING:
    from collections.abc import Callable

    Job: TypeAlias = Callable[[], object]

IDLE = 10.0
"""Seconds after which a thread without work ends."""


@final
class Workers:
    """At most ``limit`` daemon threads, started when needed; never a queue in front of them.

    They are daemons because the call that lost a race may hang, and must not keep the process
    from ending. A forked child starts its own.
    """

    def __init__(self, limit: int, name: str) -> None:
        self._limit = limit
        self._name = name
        self._reset()
        _all.add(self)

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[queue.SimpleQueue[Job]] = []
        self._running = 0

    def submit(self, job: Job) -> bool:
        """Run ``job``, which must not raise, on a thread now; false when all are busy."""
        with self._lock:
            if self._idle:
                self._idle.pop().put(job)
                return True
            if self._running >= self._limit:
                return False
            self._running += 1
        inbox: queue.SimpleQueue[Job] = queue.SimpleQueue()
        inbox.put(job)
        try:
            threading.Thread(
                target=self._run, args=(inbox,), name=f"hastack-{self._name}", daemon=True
            ).start()
        except RuntimeError:  # no more threads, or the interpreter is going down
            with self._lock:
                self._running -= 1
            return False
        return True

    def _run(self, inbox: queue.SimpleQueue[Job]) -> None:
        while True:
            try:
                job = inbox.get(timeout=IDLE)
            except queue.Empty:
                with self._lock:
                    if inbox not in self._idle:
                        continue  # a job is on its way
                    self._idle.remove(inbox)
                    self._running -= 1
                return
            job()
            del job  # let go of the call's arguments while idle
            with self._lock:
                self._idle.append(inbox)


_all: weakref.WeakSet[Workers] = weakref.WeakSet()


def _reset_all() -> None:
    for workers in tuple(_all):
        workers._reset()


os.register_at_fork(after_in_child=_reset_all)
