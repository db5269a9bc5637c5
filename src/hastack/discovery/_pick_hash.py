"""The same key to the same endpoint, whoever asks and whatever else comes and goes."""

from __future__ import annotations

from bisect import bisect
from hashlib import blake2b
from math import ceil
from typing import TYPE_CHECKING

import attrs

from hastack._core import _validate
from hastack._core._errors import InvalidArgument

from ._endpoint import usable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ._endpoint import Chooser, Endpoint, Random

__all__ = ("ConsistentHash",)

_LIGHTEST = 0.01  # of the mean weight: what is lighter still has a point or two


def _spread(value: float | None) -> float | None:
    if value is None:
        return None
    return _validate.number("spread", value, "a finite number > 1, or None", valid=_above_one)


def _above_one(value: float) -> bool:
    return value > 1.0


@attrs.frozen(kw_only=True)
class ConsistentHash:
    """The endpoint that a key belongs to; when one leaves, only its keys move.

    Every endpoint has points on a ring, in proportion to its weight, that depend on its id alone,
    so all clients agree. With ``spread`` no endpoint takes more than that multiple of its fair
    share of the calls in flight: what is too much goes on to the next on the ring ("Consistent
    Hashing with Bounded Loads", Mirrokni et al., 2018). Calls without a key are spread at random.

    Args:
        points: Points of an endpoint of average weight. More are more even, and cost more when the
            membership changes.
        spread: Bound of the load relative to the fair share, above 1; ``None`` for no bound.

    Raises:
        InvalidArgument: An argument is out of its range.
    """

    points: int = attrs.field(default=100)
    spread: float | None = attrs.field(default=1.25, converter=_spread)

    def __attrs_post_init__(self) -> None:
        _validate.integer("points", self.points)

    def chooser(self, endpoints: Sequence[Endpoint], rng: Random) -> Chooser:
        """See `Policy`."""
        return _Ring(endpoints, rng, self.points, self.spread)


def hashed(data: bytes) -> int:
    """Where ``data`` falls on the ring: 64 bits that are the same in every process."""
    return int.from_bytes(blake2b(data, digest_size=8).digest(), "big")


def as_key(value: object) -> bytes:
    """A key as bytes that are the same in every process."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, int) and not isinstance(value, bool):
        return b"%d" % value
    raise InvalidArgument("key", value, "str, bytes or int")


class _Ring:
    __slots__ = ("_endpoints", "_hashes", "_owners", "_rng", "_spread", "_total")

    def __init__(
        self, endpoints: Sequence[Endpoint], rng: Random, points: int, spread: float | None
    ) -> None:
        self._endpoints = tuple(endpoints)
        self._rng = rng
        self._spread = spread
        self._total = sum(endpoint.instance.weight for endpoint in endpoints)
        mean = self._total / len(endpoints)
        ring = sorted(
            (hashed(b"%s\0%d" % (endpoint.instance.id.encode(), number)), order)
            for order, endpoint in enumerate(endpoints)
            for number in range(ceil(points * max(endpoint.instance.weight / mean, _LIGHTEST)))
        )
        self._hashes = [place for place, _ in ring]
        self._owners = [order for _, order in ring]

    def refresh(self) -> None:
        """See `Chooser`; it looks at each choice."""

    def choose(self, key: bytes | None, avoid: frozenset[str]) -> Endpoint | None:
        place = int(self._rng() * 2.0**64) if key is None else hashed(key)
        endpoints, owners = self._endpoints, self._owners
        start = bisect(self._hashes, place)
        capacity = 0.0  # not known yet
        seen: set[int] = set()
        first = None
        while len(seen) < len(endpoints):
            order = owners[start % len(owners)]
            start += 1
            if order in seen:
                continue
            seen.add(order)
            endpoint = endpoints[order]
            if usable(endpoint, avoid):
                # One call is within any share; the sum over all endpoints is made only if needed.
                if self._spread is None or endpoint.in_flight == 0:
                    return endpoint
                capacity = capacity or self._capacity(self._spread)
                if endpoint.in_flight + 1 <= ceil(capacity * endpoint.instance.weight):
                    return endpoint
                first = first or endpoint
        # Every usable one is full, which happens when others are ejected: where it belongs.
        return first

    def _capacity(self, spread: float) -> float:
        """Calls in flight allowed per weight, this one included."""
        running = sum(endpoint.in_flight for endpoint in self._endpoints)
        return spread * (running + 1) / self._total
