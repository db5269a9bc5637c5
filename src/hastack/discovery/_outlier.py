"""Which endpoints are set aside because their calls fail."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

    from ._endpoint import Endpoint

__all__ = ("may_eject",)


def may_eject(endpoints: Collection[Endpoint], max_share: float) -> bool:
    """Whether one more may be ejected.

    At most ``max_share`` of all, rounded down, but one of two or more always, and never the last:
    when everything fails the fault is hardly the endpoints', and calls had better be spread over
    all of them than be refused here.
    """
    size = len(endpoints)
    out = sum(endpoint.ejected for endpoint in endpoints)
    if out + 1 >= size:
        return False
    return out + 1 <= max(1, int(size * max_share))
