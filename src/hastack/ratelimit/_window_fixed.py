"""The fixed window: one count that starts again at every multiple of the window."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from ._window_log import SLACK, rounds

if TYPE_CHECKING:
    from ._window_log import WindowLimit


@final
class WindowFixed:
    """The count of one key. Two windows' worth may pass around a boundary; that is its nature."""

    __slots__ = ("_limit", "_total", "busy_until")

    def __init__(self, limit: WindowLimit) -> None:
        self._limit = limit
        self._total = 0.0
        self.busy_until = float("-inf")

    def wait(self, cost: float, now: float) -> float:
        """Seconds until ``cost`` fits; 0.0 when it does now."""
        self._turn(now)
        if self._total + cost <= self._limit.permits:
            return 0.0
        return max(self.busy_until - now, SLACK)

    def take(self, cost: float, now: float) -> None:
        """Count ``cost`` at ``now``, whether it fits or not."""
        self._turn(now)
        if self._total == 0.0:
            length = self._limit.length
            self.busy_until = ((now + SLACK) // length + 1.0) * length
        self._total += cost

    def give_back(self, cost: float, now: float) -> None:
        """Uncount ``cost``."""
        self._turn(now)
        self._total = max(0.0, self._total - cost)

    def level(self, now: float) -> float:
        """Permits left at ``now``."""
        self._turn(now)
        return max(0.0, self._limit.permits - self._total)

    def reset_after(self, now: float) -> float:
        """Seconds until the count starts again."""
        self._turn(now)
        return max(0.0, self.busy_until - now) if self._total else 0.0

    def slot_in(self, ahead: float, cost: float, now: float) -> float:
        """Seconds until ``cost`` fits after ``ahead`` other permits."""
        self._turn(now)
        windows, _ = rounds(self._total + ahead + cost, self._limit.permits)
        if windows == 0:
            return 0.0
        return max(self.busy_until - now, SLACK) + (windows - 1) * self._limit.length

    def _turn(self, now: float) -> None:
        if now + SLACK >= self.busy_until:
            self._total = 0.0
