"""How many registrations a client has under way at once, and how they wait for an absent store."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any, Final, final

from ._lease_reconcile import RETRY_CAP, slot, spread
from ._lease_stream import clock

if TYPE_CHECKING:
    from types import TracebackType

AT_ONCE: Final = 16


@final
class Gate:
    """Lets registrations through one by one: ``async with gate: ...``.

    While the store is away, one of them at a time tries whether it is back, and the others wait
    for that one. When it is back they go through spread out.
    """

    def __init__(self) -> None:
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._busy_until = float("-inf")
        self._away = False
        self._back = asyncio.Event()
        self._waiting = 0
        self._probe: asyncio.Task[Any] | None = None
        self._probe_at = float("-inf")

    async def __aenter__(self) -> None:
        try:
            waited = await self._wait_for_store()
            if waited:
                await asyncio.sleep(spread(waited, random.random()))
            begin, self._busy_until = slot(clock(), self._busy_until)
            await asyncio.sleep(begin - clock())
            await self._slots.acquire()
        except BaseException:
            self._end_probe()
            raise

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._slots.release()
        self._end_probe()

    async def _wait_for_store(self) -> int:
        """Return when the store is there, or when it is this task's turn to see.

        Returns:
            How many waited for it to come back; 0 when this task did not.
        """
        waited = 0
        while self._away:
            if self._probe is None and clock() >= self._probe_at:
                self._probe = asyncio.current_task()
                return 0
            self._waiting += 1
            waited = max(waited, self._waiting)
            try:
                async with asyncio.timeout(RETRY_CAP * (0.5 + 0.5 * random.random())):
                    await self._back.wait()
            except TimeoutError:
                pass
            finally:
                self._waiting -= 1
        return waited

    def _end_probe(self) -> None:
        if self._probe is asyncio.current_task():
            self._probe = None

    def failed(self, pause: float) -> None:
        """The store could not be reached; nobody tries again before ``pause`` seconds passed."""
        self._away = True
        self._back.clear()
        self._probe_at = clock() + pause

    def succeeded(self) -> None:
        """The store has answered."""
        if self._away:
            self._away = False
            self._back.set()
