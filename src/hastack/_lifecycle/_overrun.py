"""A process that was told to end ends, whatever its threads are stuck in.

`asyncio.run` waits for the threads of `asyncio.to_thread`, and the interpreter for those of every
executor, before anything else of the exit: without a bound, one call that hangs in foreign code
keeps a service alive that has stopped in good order.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, final

from hastack._core._clock import SYSTEM_CLOCK

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

_log = logging.getLogger("hastack.lifecycle")

EXIT_OVERRUN = 70
"""Exit status (EX_SOFTWARE) of a process that could not end in time."""


@final
class Overrun:
    """What happens when a process does not end.

    Args:
        name: Name of the service.
        seconds: How long each stage of the exit may take.
    """

    def __init__(self, name: str, seconds: float) -> None:
        self._name = name
        self._seconds = seconds
        self._pid = os.getpid()
        self._disarm: Callable[[], None] | None = None

    def watch(self, released: threading.Event) -> None:
        """Give the main thread the time to come back; for a thread of the caller."""
        if not released.wait(self._seconds):
            self._end("the main thread is still busy")

    def bound_exit(self, loop: asyncio.AbstractEventLoop | None) -> None:
        """The same for the rest of the process: the end of ``loop``, and that of the interpreter."""
        if loop is not None:
            self._bound_executor(loop)
        # concurrent.futures uses it for the very wait that is bounded here. Who registers last is
        # called first. None is left to be had once the interpreter ends.
        with suppress(RuntimeError, AttributeError):
            threading._register_atexit(self._arm)  # type: ignore[attr-defined]

    def _bound_executor(self, loop: asyncio.AbstractEventLoop) -> None:
        usual: Any = loop.shutdown_default_executor

        async def shutdown_default_executor(*args: Any, **options: Any) -> None:
            self._arm()
            try:
                await usual(*args, **options)
            finally:
                self.disarm()

        with suppress(AttributeError):  # a loop of another kind
            loop.shutdown_default_executor = shutdown_default_executor  # type: ignore[method-assign]

    def _arm(self) -> None:
        if self._pid != os.getpid() or self._disarm is not None:
            return
        at = SYSTEM_CLOCK.monotonic() + self._seconds
        with suppress(RuntimeError):  # no more threads, and no timers with them
            self._disarm = SYSTEM_CLOCK.call_at(
                at, lambda: self._end("threads are still busy, such as those of asyncio.to_thread")
            )
            # These run when all threads have ended; what comes then has bounds of its own.
            atexit.register(self.disarm)

    def disarm(self) -> None:
        """It has ended after all."""
        disarm, self._disarm = self._disarm, None
        if disarm is not None:
            disarm()
            atexit.unregister(self.disarm)

    def _end(self, why: str) -> None:
        _log.critical(
            "%s: %s %.3g s after the end of the shutdown; exiting", self._name, why, self._seconds
        )
        logging.shutdown()
        os._exit(EXIT_OVERRUN)
