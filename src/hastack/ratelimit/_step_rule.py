"""The step rule: judge the last 30 seconds every 5, and turn the rate by a fixed step. Pure."""

from __future__ import annotations

from typing import Final, final

from ._quantile import LatencyWindow

WINDOW: Final = 30.0
SLOT: Final = 0.1
PERIOD: Final = 5.0
DOWN: Final = 0.8
UP: Final = 1.1
CEILING: Final = 1.5
"""The rate never exceeds this multiple of the initial one."""


@final
class StepCore:
    """Rate after each judgement.

    Args:
        initial: Rate to begin with.
        max_p95: A period whose 95th percentile is above this many seconds is abnormal.
        min_success: So is one whose success rate is below this share.
        now: Time of the start.
    """

    def __init__(self, initial: float, max_p95: float, min_success: float, now: float) -> None:
        self.rate: float = initial
        self.ceiling: float = CEILING * initial
        self.max_p95: float = max_p95
        self.min_success: float = min_success
        self.window: LatencyWindow = LatencyWindow(WINDOW, SLOT)
        self.next_judgement: float = now + PERIOD
        self.abnormal_in_row: int = 0

    def observe(self, now: float, latency: float, failed: bool) -> float:
        """Take the outcome of a call that ended at ``now``; returns the rate."""
        if now >= self.next_judgement:
            self.judge(now)
        self.window.add(now, latency, failed)
        return self.rate

    def judge(self, now: float) -> None:
        """Make up for every judgement that fell due until ``now``."""
        # A silence longer than the window leaves nothing to judge by: the rest is all growth,
        # which ends at the ceiling.
        missed = now - self.next_judgement
        if missed > 100.0 * PERIOD:
            self.rate = self.ceiling
            self.abnormal_in_row = 0
            self.next_judgement = now
        while now >= self.next_judgement:
            self.window.roll(self.next_judgement)
            self._step()
            self.next_judgement += PERIOD

    def _step(self) -> None:
        window = self.window
        abnormal = window.quantile(0.95) > self.max_p95 or window.success_rate < self.min_success
        self.abnormal_in_row = self.abnormal_in_row + 1 if abnormal else 0
        if self.abnormal_in_row >= 2:
            self.rate *= DOWN
        else:
            self.rate = min(self.rate * UP, self.ceiling)
