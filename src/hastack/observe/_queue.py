"""How much waits in memory, and what gives when there is no more room.

The bound counts units and bytes over all lanes together. Objects are counted with an estimate of
the memory they take until they are encoded, which makes them several times smaller; from then on
the bytes are exact.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ._shards import Lane


class WhenFull(enum.Enum):
    """What happens to a new item when the queue is full."""

    BLOCK = "block"
    """The caller waits for room, until its context's deadline or ``max_block``; then drop it."""
    DROP_NEWEST = "drop-newest"
    """Drop the new item."""
    DROP_OLDEST = "drop-oldest"
    """Drop the oldest items of the lane that holds the most."""
    SPILL = "spill"
    """Write encoded bodies to disk; the caller waits for that like with `BLOCK`."""


@final
class Bound:
    """Room for units and bytes.

    Args:
        max_units: Units at most.
        max_bytes: Bytes at most. One item always finds room in an empty queue, whatever its size.
    """

    __slots__ = ("bytes", "max_bytes", "max_units", "units")

    def __init__(self, max_units: int, max_bytes: int) -> None:
        self.max_units = max_units
        self.max_bytes = max_bytes
        self.units = 0
        self.bytes = 0

    def has_room(self, units: int, size: int) -> bool:
        """Whether an item fits."""
        return (
            self.units + units <= self.max_units and self.bytes + size <= self.max_bytes
        ) or not self.units

    def take(self, units: int, size: int) -> None:
        """An item came in."""
        self.units += units
        self.bytes += size

    def give(self, units: int, size: int) -> None:
        """An item left."""
        self.units -= units
        self.bytes -= size

    def crowded(self) -> bool:
        """Whether half of the room is used: time to spill, before anybody has to wait."""
        return self.units * 2 > self.max_units or self.bytes * 2 > self.max_bytes


def fullest(lanes: Sequence[Lane]) -> Lane | None:
    """The lane that holds the most droppable bytes: one service's flood pushes out no other's."""
    best = max(lanes, key=_droppable)
    return best if best.droppable() else None


def _droppable(lane: Lane) -> int:
    return lane.droppable()
