"""Exponential histograms on coarser scales, as native histograms and as classic buckets.

Bucket ``i`` of scale ``s`` holds what is above ``2**(i / 2**s)`` and not above
``2**((i + 1) / 2**s)``; OpenTelemetry counts buckets by their lower bounds, Prometheus by the
upper ones. One scale less joins buckets ``2*i`` and ``2*i + 1``.
"""

from __future__ import annotations

from math import inf, ldexp
from typing import TYPE_CHECKING, Final

import attrs

if TYPE_CHECKING:
    from collections.abc import Sequence

HIGHEST_SCHEMA: Final = 8
LOWEST_SCHEMA: Final = -4
CUSTOM_BUCKETS: Final = -53
"""The schema that says that a native histogram brings its own bounds."""

ZERO_THRESHOLD: Final = 1e-128
"""Width of the zero bucket unless something else is known (compatibility specification)."""

GAP: Final = 1
"""Empty buckets that cost less inside a span than a new span would."""

SCALES: Final = range(-16, 33)
"""What can be computed with; the SDK makes -10 to 20."""


@attrs.frozen
class Side:
    """Buckets of one sign: the first has index ``offset``, by lower bound."""

    offset: int
    counts: tuple[int, ...]

    def coarser(self, steps: int) -> Side:
        """The same on a scale that is lower by ``steps``."""
        if not steps or not self.counts:
            return self
        first = self.offset >> steps
        last = (self.offset + len(self.counts) - 1) >> steps
        counts = [0] * (last - first + 1)
        for index, count in enumerate(self.counts, self.offset):
            counts[(index >> steps) - first] += count
        return Side(first, tuple(counts))

    def trimmed(self) -> Side:
        """Without empty buckets at both ends."""
        filled = [index for index, count in enumerate(self.counts) if count]
        if not filled:
            return Side(0, ())
        start = filled[0]
        return Side(self.offset + start, self.counts[start : filled[-1] + 1])

    def joined(self, other: Side) -> Side:
        """The buckets of both, which are of one scale."""
        if not self.counts or not other.counts:
            return self if self.counts else other
        first = min(self.offset, other.offset)
        last = max(self.offset + len(self.counts), other.offset + len(other.counts))
        counts = [0] * (last - first)
        for side in (self, other):
            for index, count in enumerate(side.counts, side.offset - first):
                counts[index] += count
        return Side(first, tuple(counts))


@attrs.frozen
class NativeBuckets:
    """Sparse buckets: ``spans`` of (gap since the last one, length), counts as differences."""

    spans: tuple[tuple[int, int], ...]
    deltas: tuple[int, ...]


def native_buckets(side: Side) -> NativeBuckets:
    """``side`` in the layout of Prometheus, which indexes buckets by their upper bounds."""
    return sparse(side.offset + 1, side.counts)


def sparse(index: int, counts: Sequence[int]) -> NativeBuckets:
    """Buckets from ``index`` on, without long runs of empty ones."""
    spans: list[tuple[int, int]] = []
    deltas: list[int] = []
    position = 0  # where the next span's gap is counted from
    last = 0
    empty = 0
    length = 0
    for number, count in enumerate(counts, index):
        if not count:
            empty += 1
            continue
        if length and empty <= GAP:
            for _ in range(empty):
                deltas.append(-last)
                last = 0
            length += empty + 1
            spans[-1] = (spans[-1][0], length)
        else:
            spans.append((number - position, 1))
            length = 1
        position = number + 1
        deltas.append(count - last)
        last = count
        empty = 0
    return NativeBuckets(tuple(spans), tuple(deltas))


def upper_bound(index: int, scale: int) -> float:
    """The upper bound of bucket ``index``, infinite beyond the largest double."""
    index += 1
    try:
        if scale <= 0:
            return ldexp(1.0, index << -scale)
        whole, rest = divmod(index, 1 << scale)
        return ldexp(2.0 ** (rest / (1 << scale)), whole)
    except OverflowError:
        return inf


def classic_bounds(scale: int, positive: Side, negative: Side, most: int) -> tuple[int, Side, Side]:
    """The scale at which each side has at most ``most`` buckets, two at least, and the sides on it."""
    positive = positive.trimmed()
    negative = negative.trimmed()
    while max(len(positive.counts), len(negative.counts)) > most:
        positive = positive.coarser(1)
        negative = negative.coarser(1)
        scale -= 1
    return scale, positive, negative


def classic(
    scale: int, positive: Side, negative: Side, zero_count: int, *, most: int
) -> list[tuple[float, int]]:
    """Upper bounds and cumulative counts of at most ``2 * most + 1`` classic buckets.

    The bounds are powers of one base, so they stay the same, or become fewer, while the histogram
    grows. The bucket up to infinity is left to the caller.
    """
    scale, positive, negative = classic_bounds(scale, positive, negative, most)
    found: list[tuple[float, int]] = []
    total = 0
    # Of a negative bucket the upper bound is the one nearer to zero.
    for place in range(len(negative.counts) - 1, -1, -1):
        total += negative.counts[place]
        found.append((-upper_bound(negative.offset + place - 1, scale), total))
    if zero_count or negative.counts:
        total += zero_count
        found.append((0.0, total))
    for place, count in enumerate(positive.counts):
        total += count
        bound = upper_bound(positive.offset + place, scale)
        if bound < inf:
            found.append((bound, total))
    return found
