"""Stay in one's own zone for as long as it can carry the traffic."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from hastack._core import _validate

from ._endpoint import open_share
from ._pick_load import LeastLoaded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ._endpoint import Chooser, Endpoint, Policy, Random

__all__ = ("LocalityFirst",)


def _at_least_one(value: float) -> bool:
    return value >= 1.0


@attrs.frozen(kw_only=True)
class LocalityFirst:
    """Endpoints of the caller's zone first; the others take what these can't carry.

    With a healthy share h of the zone's weight, ``min(1, h * overprovisioning)`` of the calls stay
    in the zone, so that it spills over gradually as it fails: Envoy's locality rule with its
    factor of 1.4, at which up to 28 % of a zone may fail before the first call leaves it.

    Args:
        zone: The caller's zone, compared with `Instance.zone`.
        within: How to choose inside the zone, and among the others.
        overprovisioning: See above; at least 1.

    Raises:
        InvalidArgument: ``zone`` is empty or ``overprovisioning`` out of its range.
    """

    zone: str
    within: Policy = attrs.field(factory=LeastLoaded)
    overprovisioning: float = 1.4

    def __attrs_post_init__(self) -> None:
        _validate.text("zone", self.zone)
        _validate.number(
            "overprovisioning", self.overprovisioning, "a number >= 1", valid=_at_least_one
        )

    def chooser(self, endpoints: Sequence[Endpoint], rng: Random) -> Chooser:
        """See `Policy`."""
        near = [each for each in endpoints if each.instance.zone == self.zone]
        far = [each for each in endpoints if each.instance.zone != self.zone]
        if not near or not far:
            return self.within.chooser(endpoints, rng)
        return _NearFirst(self, near, far, rng)


class _NearFirst:
    __slots__ = ("_far", "_near", "_near_endpoints", "_overprovisioning", "_rng", "_stays")

    def __init__(
        self,
        rule: LocalityFirst,
        near: Sequence[Endpoint],
        far: Sequence[Endpoint],
        rng: Random,
    ) -> None:
        self._near_endpoints = near
        self._near = rule.within.chooser(near, rng)
        self._far = rule.within.chooser(far, rng)
        self._overprovisioning = rule.overprovisioning
        self._rng = rng
        self._stays = 1.0
        self.refresh()

    def refresh(self) -> None:
        """See `Chooser`."""
        self._stays = open_share(self._near_endpoints) * self._overprovisioning
        self._near.refresh()
        self._far.refresh()

    def choose(self, key: bytes | None, avoid: frozenset[str]) -> Endpoint | None:
        first, second = self._near, self._far
        if self._stays < 1.0 and self._rng() >= self._stays:
            first, second = second, first
        return first.choose(key, avoid) or second.choose(key, avoid)
