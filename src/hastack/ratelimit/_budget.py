"""How many retries a group of calls may add to its load."""

from __future__ import annotations

from collections import deque
from typing import final

SLOTS = 10
"""Parts of the window; one part is the precision with which old calls are forgotten."""


@final
class BudgetWindow:
    """Calls and retries of the last ``window`` seconds.

    A retry is allowed while ``retries < ratio * calls + min_per_second * window``, so a total
    outage multiplies the load by at most ``1 + ratio`` however many attempts each call may make.
    The rule and the default values are those of Finagle's and Linkerd's retry budgets; the window
    here is counted in slots, so the bound holds in every window and not only on average.

    `count_call` may run on several threads without a lock: a lost update makes the budget smaller
    by one call, never larger. `spend` needs one.
    """

    __slots__ = ("_cells", "_current", "_floor", "_ratio", "_slot", "_width")

    def __init__(self, *, ratio: float, min_per_second: float, window: float) -> None:
        self._ratio = ratio
        self._floor = min_per_second * window
        self._width = window / SLOTS
        self._slot = -1
        self._current = [0, 0]
        # (slot, [calls, retries]), oldest first
        self._cells: deque[tuple[int, list[int]]] = deque(maxlen=SLOTS)

    def count_call(self, now: float) -> None:
        """Count one call, not its retries, at time ``now``."""
        slot = int(now / self._width)
        if slot > self._slot:
            self._turn(slot)
        self._current[0] += 1

    def spend(self, now: float) -> bool:
        """Take one retry out of the budget when it has one left."""
        slot = int(now / self._width)
        if slot > self._slot:
            self._turn(slot)
        if self.left(now) < 1.0:
            return False
        self._current[1] += 1
        return True

    def left(self, now: float) -> float:
        """Retries that the budget would allow at ``now``."""
        oldest = max(self._slot, int(now / self._width)) - SLOTS
        calls = retries = 0
        for slot, (called, retried) in tuple(self._cells):
            if slot > oldest:
                calls += called
                retries += retried
        return self._ratio * calls + self._floor - retries

    def _turn(self, slot: int) -> None:
        # The cell is filled before it becomes current, so a count on another thread goes either
        # to the old slot or to this one.
        cell = [0, 0]
        self._cells.append((slot, cell))
        self._current = cell
        self._slot = slot
