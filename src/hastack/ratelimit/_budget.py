"""How many retries a group of calls may add to its load."""

from __future__ import annotations

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

    __slots__ = ("_cells", "_current", "_floor", "_ratio", "_width")

    def __init__(self, *, ratio: float, min_per_second: float, window: float) -> None:
        self._ratio = ratio
        self._floor = min_per_second * window
        self._width = window / SLOTS
        self._cells: dict[int, list[int]] = {}  # slot -> [calls, retries]
        self._current = (float("-inf"), [0, 0])  # when the slot ends, and its cell

    def change(self, ratio: float | None, min_per_second: float | None) -> None:
        """Another rule for the same counts; ``None`` leaves a number as it is."""
        if ratio is not None:
            self._ratio = ratio
        if min_per_second is not None:
            self._floor = min_per_second * self._width * SLOTS

    def count_call(self, now: float) -> None:
        """Count one call, not its retries, at time ``now``."""
        ends, cell = self._current
        if now >= ends:
            cell = self._turn(now)
        cell[0] += 1

    def spend(self, now: float) -> bool:
        """Take one retry out of the budget when it has one left."""
        ends, cell = self._current
        if now >= ends:
            cell = self._turn(now)
        if self.left(now) < 1.0:
            return False
        cell[1] += 1
        return True

    def left(self, now: float) -> float:
        """Retries that the budget would allow at ``now``."""
        cells = tuple(self._cells.items())
        newest = max([int(now // self._width), *[slot for slot, _ in cells]])
        calls = retries = 0
        for slot, (called, retried) in cells:
            if slot > newest - SLOTS:
                calls += called
                retries += retried
        return self._ratio * calls + self._floor - retries

    def _turn(self, now: float) -> list[int]:
        # Two threads may come here at once; setdefault gives both the same cell.
        slot = int(now // self._width)
        cell = self._cells.setdefault(slot, [0, 0])
        self._current = ((slot + 1) * self._width, cell)
        for old in tuple(self._cells):
            if old <= slot - SLOTS:
                self._cells.pop(old, None)
        return cell
