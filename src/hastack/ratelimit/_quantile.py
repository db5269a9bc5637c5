"""A sliding histogram of latencies: quantiles and the success rate of the last seconds.

One log-linear histogram (three buckets to each doubling, from 0.1 ms to 100 s) per time slot,
and running sums over the window, so that a call costs two increments and a new slot one pass over
62 buckets. Each slot takes 62 x 4 bytes; this is state of one resource, never of a key.
"""

from __future__ import annotations

from array import array
from math import floor, frexp, inf
from typing import Final, final

BUCKETS: Final = 62
SMALLEST: Final = 1e-4
"""Seconds; whatever is shorter shares the first bucket."""


def bucket_of(seconds: float) -> int:
    """Index of the bucket for a latency."""
    scaled = seconds / SMALLEST
    if scaled < 1.0:
        return 0
    if scaled >= 2.0**20:
        return BUCKETS - 1
    mantissa, exponent = frexp(scaled)  # scaled = mantissa * 2 ** exponent, mantissa in [0.5, 1)
    return 1 + 3 * (exponent - 1) + int((mantissa - 0.5) * 6.0)


def lower_bound(bucket: int) -> float:
    """Shortest latency, in seconds, that falls into ``bucket``."""
    if bucket == 0:
        return 0.0
    octave, third = divmod(bucket - 1, 3)
    return SMALLEST * 2.0**octave * (1.0 + third / 3.0)


@final
class LatencyWindow:
    """Latencies and outcomes of the last ``seconds``.

    Args:
        seconds: Length of the window; it moves on by slots.
        slot: Length of a slot in seconds.
    """

    def __init__(self, seconds: float, slot: float) -> None:
        self.slot: float = slot
        self.slots: int = max(1, round(seconds / slot))
        self.ring: array[int] = array("I", bytes(4 * self.slots * BUCKETS))
        self.failed_ring: array[int] = array("I", bytes(4 * self.slots))
        self.sums: list[int] = [0] * BUCKETS
        self.place: int = 0
        self.number: int = 0
        self.slot_end: float = -inf
        self.calls: int = 0
        self.failures: int = 0

    def add(self, now: float, latency: float, failed: bool) -> None:
        """Count one call that ended at ``now``."""
        if now >= self.slot_end:
            self.roll(now)
        bucket = bucket_of(latency)
        self.ring[self.place * BUCKETS + bucket] += 1
        self.sums[bucket] += 1
        self.calls += 1
        if failed:
            self.failed_ring[self.place] += 1
            self.failures += 1

    def roll(self, now: float) -> None:
        """Forget what is older than the window at ``now``."""
        if now < self.slot_end:
            return
        # Whole numbers: differences of times would lose a slot to rounding now and then.
        number = floor(now / self.slot)
        for _ in range(min(number - self.number, self.slots)):
            self._forget_oldest()
        self.number = number
        self.slot_end = (number + 1) * self.slot

    def quantile(self, share: float) -> float:
        """Latency below which ``share`` of the calls stayed; 0.0 without calls.

        Exact to the bucket (a third of a doubling), with interpolation inside.
        """
        rank = share * self.calls
        below = 0
        for bucket in range(BUCKETS - 1):
            count = self.sums[bucket]
            if count and below + count >= rank:
                low = lower_bound(bucket)
                return low + (lower_bound(bucket + 1) - low) * (rank - below) / count
            below += count
        return lower_bound(BUCKETS - 1) if self.calls else 0.0

    @property
    def success_rate(self) -> float:
        """Share of calls that did not fail; 1.0 without calls."""
        return 1.0 - self.failures / self.calls if self.calls else 1.0

    def _forget_oldest(self) -> None:
        self.place = (self.place + 1) % self.slots
        self.failures -= self.failed_ring[self.place]
        self.failed_ring[self.place] = 0
        start = self.place * BUCKETS
        for bucket in range(BUCKETS):
            count = self.ring[start + bucket]
            if count:
                self.sums[bucket] -= count
                self.calls -= count
                self.ring[start + bucket] = 0
