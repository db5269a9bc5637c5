"""The sliding-window log: every admission is remembered for exactly one window."""

from __future__ import annotations

from collections import deque
from math import ceil
from typing import Final, final

SLACK: Final = 1e-9
"""What rounding may take away from a float second; see `_gcra`."""


@final
class WindowLimit:
    """What all keys of one limiter share; changed live.

    Attributes:
        permits: Most permits in one window.
        length: Of the window, in seconds.
        slot: Of a slot, in seconds; only `WindowCounter` looks at it.
    """

    __slots__ = ("length", "permits", "slot")

    def __init__(self, permits: float, length: float, slot: float = 0.0) -> None:
        self.permits = permits
        self.length = length
        self.slot = slot


@final
class WindowLog:
    """Admissions of one key, newest last; at most one entry per instant and ``permits`` in all.

    An admission at ``t`` counts in every window up to ``t + length``, so no window of that
    length, wherever it begins, holds more than the limit.
    """

    __slots__ = ("_entries", "_limit", "_total", "busy_until")

    def __init__(self, limit: WindowLimit) -> None:
        self._limit = limit
        self._entries: deque[tuple[float, float]] = deque()
        self._total = 0.0
        self.busy_until = 0.0

    def wait(self, cost: float, now: float) -> float:
        """Seconds until ``cost`` fits; 0.0 when it does now."""
        self._expire(now)
        excess = self._total + cost - self._limit.permits
        if excess <= 0.0:
            return 0.0
        for at, size in self._entries:
            excess -= size
            if excess <= 0.0:
                return max(at + self._limit.length - now, SLACK)
        return self._limit.length  # more than a window holds: the limit was lowered

    def take(self, cost: float, now: float) -> None:
        """Count ``cost`` at ``now``, whether it fits or not."""
        entries = self._entries
        if entries and entries[-1][0] >= now:
            # The same instant, or a clock that went backwards: the entry keeps the later time.
            at, size = entries.pop()
            entries.append((at, size + cost))
        else:
            at = now
            entries.append((now, cost))
        self._total += cost
        self.busy_until = at + self._limit.length

    def give_back(self, cost: float, now: float) -> None:
        """Uncount ``cost``, newest first."""
        self._expire(now)
        while cost > 0.0 and self._entries:
            at, size = self._entries.pop()
            self._total -= min(size, cost)
            if size > cost:
                self._entries.append((at, size - cost))
            cost -= size
        self._settle_total()

    def level(self, now: float) -> float:
        """Permits left at ``now``."""
        self._expire(now)
        return max(0.0, self._limit.permits - self._total)

    def reset_after(self, now: float) -> float:
        """Seconds until nothing is counted any more."""
        self._expire(now)
        return max(0.0, self.busy_until - now) if self._entries else 0.0

    def slot_in(self, ahead: float, cost: float, now: float) -> float:
        """Seconds until ``cost`` fits after ``ahead`` other permits; exact when each cost is 1.

        A window that is always full repeats itself: what is admitted at ``t`` makes room at
        ``t + length``.
        """
        windows, rest = rounds(ahead + cost, self._limit.permits)
        return self.wait(rest, now) + windows * self._limit.length

    def _expire(self, now: float) -> None:
        entries = self._entries
        edge = now - self._limit.length + SLACK
        while entries and entries[0][0] <= edge:
            self._total -= entries.popleft()[1]
        self._settle_total()

    def _settle_total(self) -> None:
        if not self._entries:
            self._total = 0.0  # fractions leave rounding errors; here they end


def rounds(permits: float, limit: float) -> tuple[int, float]:
    """How many full windows ``permits`` fill, and what is left for the one after; above zero."""
    full = max(0, ceil(permits / limit) - 1)
    return full, permits - full * limit
