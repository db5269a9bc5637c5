"""The sliding-window counter: admissions are counted in slots of 100 ms."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, final

from ._window_log import SLACK, rounds

if TYPE_CHECKING:
    from ._window_log import WindowLimit


@final
class WindowCounter:
    """Counts of one key per slot, with their exact running total.

    A slot counts for as long as any part of it lies in the window, so the limit holds in every
    window, aligned to slots or not; the price is that permits come back up to one slot later
    than a log would give them back. Empty slots take no memory: at most
    ``min(permits, length / slot + 1)`` are held.
    """

    __slots__ = ("_limit", "_slots", "_total", "busy_until")

    def __init__(self, limit: WindowLimit) -> None:
        self._limit = limit
        self._slots: deque[tuple[float, float]] = deque()  # end of the slot, count
        self._total = 0.0
        self.busy_until = 0.0

    def wait(self, cost: float, now: float) -> float:
        """Seconds until ``cost`` fits; 0.0 when it does now."""
        self._expire(now)
        excess = self._total + cost - self._limit.permits
        if excess <= 0.0:
            return 0.0
        for end, count in self._slots:
            excess -= count
            if excess <= 0.0:
                return max(end + self._limit.length - now, SLACK)
        return self._limit.length + self._limit.slot  # the limit was lowered below the cost

    def take(self, cost: float, now: float) -> None:
        """Count ``cost`` at ``now``, whether it fits or not."""
        slots = self._slots
        if slots and now < slots[-1][0]:
            end, count = slots.pop()
            slots.append((end, count + cost))
        else:
            # The next multiple of the slot after now; a whole number of slots plus rounding may
            # fall on now itself, and then one more is right.
            size = self._limit.slot
            end = (now // size + 1.0) * size
            if end <= now:
                end += size
            slots.append((end, cost))
        self._total += cost
        self.busy_until = end + self._limit.length

    def give_back(self, cost: float, now: float) -> None:
        """Uncount ``cost``, newest first."""
        self._expire(now)
        while cost > 0.0 and self._slots:
            end, count = self._slots.pop()
            self._total -= min(count, cost)
            if count > cost:
                self._slots.append((end, count - cost))
            cost -= count
        self._settle_total()

    def level(self, now: float) -> float:
        """Permits left at ``now``."""
        self._expire(now)
        return max(0.0, self._limit.permits - self._total)

    def reset_after(self, now: float) -> float:
        """Seconds until nothing is counted any more."""
        self._expire(now)
        return max(0.0, self.busy_until - now) if self._slots else 0.0

    def slot_in(self, ahead: float, cost: float, now: float) -> float:
        """Seconds until ``cost`` fits after ``ahead`` other permits; see `WindowLog.slot_in`."""
        windows, rest = rounds(ahead + cost, self._limit.permits)
        return self.wait(rest, now) + windows * (self._limit.length + self._limit.slot)

    def _expire(self, now: float) -> None:
        slots = self._slots
        edge = now - self._limit.length + SLACK
        while slots and slots[0][0] <= edge:
            self._total -= slots.popleft()[1]
        self._settle_total()

    def _settle_total(self) -> None:
        if not self._slots:
            self._total = 0.0
