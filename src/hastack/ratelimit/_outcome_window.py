"""Which outcomes a breaker still remembers: the last N calls, or those of the last seconds.

A window belongs to one closed generation of a breaker and is thrown away with it. A late result
therefore lands in an object that nobody reads any more.

Calls are counted by an `itertools.count`, whose step is atomic, so that an ordinary success takes
no lock. Everything else (a failure, a slow call, a new time slot) happens under the breaker's
lock, through `add`. ``calm_until`` says up to which time a success needs no attention.
"""

from __future__ import annotations

from itertools import count
from math import floor, inf
from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from collections.abc import Callable

SLOTS = 10
"""Parts of a time window: it covers between 9/10 and the whole of its length."""


class Epoch:
    """What a permit was given under. This base remembers nothing: a switched-off breaker.

    Attributes:
        calm_until: Before this time a success only needs ``total = tick()``.
        tick: Counts one call and returns the new total; atomic.
        total: The last total; may lag by calls in flight when read without the lock.
        calls: Calls in the window, as of the last `add` or `look`.
        failures: Failed ones among them.
        slow: Slow ones among them.
    """

    def __init__(self, calm_until: float) -> None:
        self.calm_until: float = calm_until
        self.tick: Callable[[], int] = count(1).__next__
        self.total: int = 0
        self.calls: int = 0
        self.failures: int = 0
        self.slow: int = 0

    def add(self, now: float, failed: bool, slow: bool) -> None:
        """Count one call that ended at ``now``."""

    def look(self, now: float) -> None:
        """Bring ``calls``, ``failures`` and ``slow`` up to date without counting a call."""


@final
class CountWindow(Epoch):
    """The last ``size`` calls, in a ring; all steps are O(1).

    Args:
        size: How many calls are remembered.
    """

    def __init__(self, size: int) -> None:
        super().__init__(inf)
        self.size: int = size
        # Bit 0: failed, bit 1: slow. A calm window is all zeros, which is why a success may
        # leave its place unwritten.
        self.ring: bytearray = bytearray(size)

    def add(self, now: float, failed: bool, slow: bool) -> None:
        """Count one call in the place of the oldest."""
        self.total = total = self.tick()
        place = total % self.size
        old = self.ring[place]
        new = (1 if failed else 0) | (2 if slow else 0)
        self.ring[place] = new
        self.failures += (new & 1) - (old & 1)
        self.slow += (new >> 1) - (old >> 1)
        self.calls = min(total, self.size)
        self.calm_until = -inf if self.failures or self.slow else inf

    def look(self, now: float) -> None:
        """Bring the number of calls up to date."""
        self.calls = min(self.total, self.size)


@final
class TimeWindow(Epoch):
    """The calls of the last ``seconds``, in `SLOTS` slots.

    Each slot keeps the running totals as they were when it began, so that the sums over the
    window are differences, and forgetting a slot is one step. A clock that goes backwards
    counts into the current slot.

    Args:
        seconds: Length of the window.
        min_calls: From this many calls on, successes can no longer trip the breaker inside a
            slot (they only lower the rates), so the window is calm.
    """

    def __init__(self, seconds: float, min_calls: int) -> None:
        super().__init__(-inf)
        self.width: float = seconds / SLOTS
        self.min_calls: int = min_calls
        self.slot: int = 0
        self.number: int = 0
        self.slot_end: float = -inf
        self.failed_ever: int = 0
        self.slow_ever: int = 0
        self.calls_before: list[int] = [0] * SLOTS
        self.failed_before: list[int] = [0] * SLOTS
        self.slow_before: list[int] = [0] * SLOTS

    def add(self, now: float, failed: bool, slow: bool) -> None:
        """Count one call that ended at ``now``."""
        self.total = total = self.tick()
        if now >= self.slot_end:
            self._advance(now, total - 1)
        if failed:
            self.failed_ever += 1
        if slow:
            self.slow_ever += 1
        self._sum(total)

    def look(self, now: float) -> None:
        """Forget what is too old by now."""
        if now >= self.slot_end:
            self._advance(now, self.total)
        self._sum(self.total)

    def _sum(self, total: int) -> None:
        oldest = (self.slot + 1) % SLOTS
        self.calls = total - self.calls_before[oldest]
        self.failures = self.failed_ever - self.failed_before[oldest]
        self.slow = self.slow_ever - self.slow_before[oldest]
        settled = self.calls >= self.min_calls or not (self.failures or self.slow)
        self.calm_until = self.slot_end if settled else -inf

    def _advance(self, now: float, total: int) -> None:
        """Begin the slot of ``now``; slots in which nothing ended begin with the same totals."""
        # Whole numbers: differences of times would lose a slot to rounding now and then.
        number = floor(now / self.width)
        for _ in range(min(number - self.number, SLOTS)):
            self.slot = (self.slot + 1) % SLOTS
            self.calls_before[self.slot] = total
            self.failed_before[self.slot] = self.failed_ever
            self.slow_before[self.slot] = self.slow_ever
        self.number = number
        self.slot_end = (number + 1) * self.width
