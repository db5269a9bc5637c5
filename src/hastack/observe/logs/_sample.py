"""A sample in which every item has the same chance, however many there are."""

from __future__ import annotations

from math import exp, floor, log, log1p
from random import Random
from typing import Any, final

__all__ = ("Reservoir",)

_ALMOST = 1.0 - 2.0**-53  # a weight of 1 would have no logarithm


@final
class Reservoir:
    """Keeps ``size`` of the items that pass, each with the same probability.

    Kim-Hung Li's Algorithm L ("Reservoir-sampling algorithms of time complexity O(n(1+log(N/n)))",
    ACM TOMS 20, 1994): it draws how many items to let pass rather than once for each. `skip` says
    so to callers that need not look at them.

    Args:
        size: How many are kept.
        seed: The same seed and items give the same sample.

    Example:
        >>> sample = Reservoir(3, seed=1)
        >>> for item in range(1000):
        ...     sample.add(item)
        >>> len(sample.items), sample.seen
        (3, 1000)
    """

    __slots__ = ("_next", "_random", "_size", "_weight", "items", "seen")

    def __init__(self, size: int, *, seed: int = 0) -> None:
        self._random = Random(seed)
        self._size = size
        self.clear()

    def clear(self) -> None:
        """Begin anew; the draws go on where they were."""
        self.items: list[Any] = []
        self.seen = 0
        self._weight = 1.0
        self._next = 0  # the number of the item that is kept next

    @property
    def skip(self) -> int:
        """How many items would not be kept from now on: `pass_by` them unseen."""
        return self._next - self.seen

    def pass_by(self, count: int) -> None:
        """Items that `skip` said are not kept."""
        self.seen += count

    def add(self, item: object) -> None:
        """One item."""
        if self.seen != self._next:
            self.seen += 1
            return
        self.seen += 1
        if len(self.items) < self._size:
            self.items.append(item)
            if len(self.items) < self._size:
                self._next += 1
                return
        else:
            self.items[self._random.randrange(self._size)] = item
        self._weight *= exp(log(1.0 - self._random.random()) / self._size)
        gap = log(1.0 - self._random.random()) / log1p(-min(self._weight, _ALMOST))
        self._next = self.seen + floor(gap)
