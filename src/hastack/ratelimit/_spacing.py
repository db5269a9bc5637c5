"""The leaky bucket as a queue: calls leave it one by one, evenly spaced."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

if TYPE_CHECKING:
    from ._window_log import WindowLimit

SLACK: Final = 1e-9


@final
class Spacing:
    """When the next call of one key may leave.

    A call of cost ``c`` keeps the next one away for ``c / rate`` seconds.
    """

    __slots__ = ("_limit", "busy_until")

    def __init__(self, limit: WindowLimit) -> None:
        self._limit = limit
        self.busy_until = float("-inf")

    def wait(self, cost: float, now: float) -> float:
        """Seconds until the next call may leave; 0.0 when it may now."""
        left = self.busy_until - now
        return left if left > SLACK else 0.0

    def take(self, cost: float, now: float) -> None:
        """Let a call leave at ``now``."""
        self.busy_until = max(self.busy_until, now) + cost * self._gap

    def give_back(self, cost: float, now: float) -> None:
        """Shorten the gap again."""
        self.busy_until -= cost * self._gap

    def level(self, now: float) -> float:
        """1.0 when a call may leave now, else 0.0."""
        return 0.0 if self.wait(1.0, now) else 1.0

    def reset_after(self, now: float) -> float:
        """Seconds until the next call may leave."""
        return self.wait(1.0, now)

    def slot_in(self, ahead: float, cost: float, now: float) -> float:
        """Seconds until the turn of a call with ``ahead`` permits before it."""
        left = max(self.busy_until - now, 0.0) + ahead * self._gap
        return left if left > SLACK else 0.0

    @property
    def _gap(self) -> float:
        return self._limit.length / self._limit.permits
