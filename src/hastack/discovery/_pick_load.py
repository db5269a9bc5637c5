"""The less loaded of two chosen at random."""

from __future__ import annotations

from bisect import bisect
from itertools import accumulate
from typing import TYPE_CHECKING

import attrs

from ._endpoint import usable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ._endpoint import Chooser, Endpoint, Random

__all__ = ("LeastLoaded",)

_DRAWS = 4  # random draws for a usable endpoint before all are looked at


@attrs.frozen
class LeastLoaded:
    """The one of two random endpoints that has fewer calls in flight for its weight.

    Two are nearly as good as all, and unlike the least loaded of all they do not make a fleet of
    clients run to the same endpoint at once. "The Power of Two Choices in Randomized Load
    Balancing" (Mitzenmacher, 2001).
    """

    def chooser(self, endpoints: Sequence[Endpoint], rng: Random) -> Chooser:
        """See `Policy`."""
        return _TwoChoices(endpoints, rng)


class _TwoChoices:
    __slots__ = ("_bounds", "_endpoints", "_rng", "_total")

    def __init__(self, endpoints: Sequence[Endpoint], rng: Random) -> None:
        self._endpoints = tuple(endpoints)
        self._rng = rng
        weights = [endpoint.instance.weight for endpoint in endpoints]
        even = min(weights) == max(weights)
        self._bounds = None if even else list(accumulate(weights))
        self._total = float(len(weights)) if even else sum(weights)

    def refresh(self) -> None:
        """See `Chooser`; it looks at each choice."""

    def choose(self, key: bytes | None, avoid: frozenset[str]) -> Endpoint | None:
        first = self._draw(avoid, None)
        if first is None:
            return None
        second = self._draw(avoid, first)
        if second is None or _load(first) <= _load(second):
            return first
        return second

    def _draw(self, avoid: frozenset[str], other: Endpoint | None) -> Endpoint | None:
        endpoints, bounds = self._endpoints, self._bounds
        at = 0
        for _ in range(_DRAWS):
            spot = self._rng() * self._total
            at = int(spot) if bounds is None else bisect(bounds, spot)
            if at == len(endpoints):  # rounding, at the very end
                at = 0
            if usable(endpoints[at], avoid) and endpoints[at] is not other:
                return endpoints[at]
        # Few are usable. From where the draws ended, so that it is not always the first.
        for endpoint in (*endpoints[at:], *endpoints[:at]):
            if usable(endpoint, avoid) and endpoint is not other:
                return endpoint
        return None


def _load(endpoint: Endpoint) -> float:
    return (endpoint.in_flight + 1) / endpoint.instance.weight
