"""Taking turns: round robin, and round robin by weight."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

import attrs

from ._endpoint import usable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ._endpoint import Chooser, Endpoint, Random

__all__ = ("RoundRobin", "WeightedRoundRobin")


@attrs.frozen
class RoundRobin:
    """One after the other, whatever their weights; each balancer begins somewhere else."""

    def chooser(self, endpoints: Sequence[Endpoint], rng: Random) -> Chooser:
        """See `Policy`."""
        return _Turns(endpoints, rng)


class _Turns:
    __slots__ = ("_endpoints", "_next")

    def __init__(self, endpoints: Sequence[Endpoint], rng: Random) -> None:
        self._endpoints = tuple(endpoints)
        self._next = int(rng() * len(self._endpoints))

    def refresh(self) -> None:
        """See `Chooser`; it looks at each choice."""

    def choose(self, key: bytes | None, avoid: frozenset[str]) -> Endpoint | None:
        endpoints, first = self._endpoints, self._next
        size = len(endpoints)
        for step in range(size):
            at = (first + step) % size
            if usable(endpoints[at], avoid):
                self._next = at + 1
                return endpoints[at]
        return None


@attrs.frozen
class WeightedRoundRobin:
    """Turns in proportion to the weights, spread evenly.

    Each endpoint is due again ``1 / weight`` after its last turn and the one that is due first is
    next: earliest deadline first, as in Envoy's and gRPC's weighted round robin. A choice costs
    O(log n).
    """

    def chooser(self, endpoints: Sequence[Endpoint], rng: Random) -> Chooser:
        """See `Policy`."""
        return _Deadlines(endpoints, rng)


class _Deadlines:
    __slots__ = ("_heap", "_now")

    def __init__(self, endpoints: Sequence[Endpoint], rng: Random) -> None:
        # Somewhere in their first period, so that a fleet of clients does not move in step.
        self._heap = [
            (rng() / endpoint.instance.weight, order, endpoint)
            for order, endpoint in enumerate(endpoints)
        ]
        heapq.heapify(self._heap)
        self._now = 0.0

    def refresh(self) -> None:
        """See `Chooser`; it looks at each choice."""

    def choose(self, key: bytes | None, avoid: frozenset[str]) -> Endpoint | None:
        heap = self._heap
        passed = []
        chosen = None
        while heap:
            due, order, endpoint = heap[0]
            if usable(endpoint, avoid):
                # One that was passed over for long does not make up for it in a burst.
                self._now = max(self._now, due)
                again = self._now + 1.0 / endpoint.instance.weight
                heapq.heapreplace(heap, (again, order, endpoint))
                chosen = endpoint
                break
            passed.append(heapq.heappop(heap))
        for entry in passed:
            heapq.heappush(heap, entry)
        return chosen
