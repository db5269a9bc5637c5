"""The exporters' threads: how they sleep, what marks them, how they end.

They are daemons, started with the first item and anew in a forked child. What they do themselves
(log records, spans of an instrumented HTTP library) is never exported, or each export would cause
the next.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
import threading
import time
import weakref
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Protocol, final

from hastack._core._errors import MissingDependency
from hastack._core._extras import require

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_own: ContextVar[bool] = ContextVar("hastack-observe-suppressed", default=False)

suppressed = _own.get
"""Whether the running code belongs to an exporter, so that what it emits is not exported."""

log = logging.getLogger("hastack.observe")


@final
class Doze:
    """Sleep that anybody can end, from a signal handler or a finalizer too.

    `threading.Event` is not reentrant: setting it while the same thread is inside of it hangs.
    """

    def __init__(self) -> None:
        self._door = threading.Lock()
        self._door.acquire()

    def wake(self) -> None:
        """End the sleep of now, or the next one."""
        try:
            self._door.release()
        except RuntimeError:
            pass  # awake already, or about to find the door open

    def sleep(self, seconds: float) -> None:
        """Until `wake`, or until the time is over."""
        if seconds > 0.0:
            self._door.acquire(timeout=min(seconds, threading.TIMEOUT_MAX))


def start(name: str, work: Callable[[], None]) -> threading.Thread:
    """Run ``work`` on a daemon thread of an exporter.

    Raises:
        RuntimeError: The system gives no more threads, or the interpreter is ending.
    """
    thread = threading.Thread(target=_run, args=(work,), name=name, daemon=True)
    thread.start()
    return thread


@contextmanager
def as_own() -> Iterator[None]:
    """Do an exporter's work on a thread of somebody else."""
    token = _own.set(True)
    try:
        yield
    finally:
        _own.reset(token)


def _run(work: Callable[[], None]) -> None:
    _own.set(True)
    try:
        api = require("opentelemetry.context", extra="otel")
        api.attach(api.set_value(api._SUPPRESS_INSTRUMENTATION_KEY, True))
    except (MissingDependency, AttributeError):
        pass  # nobody instruments anything
    while True:
        try:
            work()
        except Exception:
            # Nothing is known that leads here (out of memory, perhaps). A pipeline that stands still
            # for ever would be worse than one that tries again.
            log.exception("%s failed, and begins anew", threading.current_thread().name)
            time.sleep(_ANEW)
        else:
            return


def blocks_a_loop() -> bool:
    """Whether waiting here would stop an event loop."""
    events = sys.modules.get("asyncio.events")
    return events is not None and events._get_running_loop() is not None


class Ending(Protocol):
    """What is shut down when the interpreter ends."""

    def _end_with_process(self, until: float) -> None: ...


_ANEW = 1.0  # seconds

EXIT_TIMEOUT = 5.0
"""Seconds for everything together at the end of the interpreter, unless `shutdown` was called."""

# Those that feed others end before these, so that a last collection of metrics still goes out.
# Nobody else has to hold on to them.
_feeding: dict[int, Ending] = {}
_live: weakref.WeakSet[Ending] = weakref.WeakSet()
_hooked_in = 0


def end_with_process(member: Ending, *, first: bool = False) -> None:
    """Shut ``member`` down at the latest when the interpreter ends."""
    global _hooked_in
    if first:
        _feeding[id(member)] = member
    else:
        _live.add(member)
    if _hooked_in == os.getpid():
        return
    if not _hooked_in:
        atexit.register(_at_exit)
    _hooked_in = os.getpid()
    processes = sys.modules.get("multiprocessing.process")
    if processes is not None and processes.parent_process() is not None:
        _end_with_worker()


def _end_with_worker() -> None:
    """The children of multiprocessing leave by os._exit: only its own finalizers run there."""
    from multiprocessing.util import Finalize

    Finalize(None, _at_exit, exitpriority=100)


def _after_fork(_: object) -> None:
    global _hooked_in
    if _hooked_in != os.getpid():
        _hooked_in = os.getpid()
        _end_with_worker()


def _after_fork_in_child() -> None:
    """See that a child of multiprocessing ends what it inherited, even if it never exports.

    What counts there may be collected at the end only. It forgets all finalizers when it begins,
    and asks those that are registered like this afterwards.
    """
    util = sys.modules.get("multiprocessing.util")
    if util is not None and (_feeding or _live):
        util.register_after_fork(_after_fork, _after_fork)


os.register_at_fork(after_in_child=_after_fork_in_child)


def has_ended(member: Ending) -> None:
    """Nothing is left to do for ``member`` when the interpreter ends."""
    _feeding.pop(id(member), None)


def _at_exit() -> None:
    until = time.monotonic() + EXIT_TIMEOUT
    for member in (*_feeding.values(), *_live):
        member._end_with_process(until)
