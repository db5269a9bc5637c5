"""Hybrid logical clocks: time stamps that order the lives of an instance across clusters.

A reading is the wall clock in milliseconds (48 bits), a counter for what happens within one
millisecond or while the wall clock stands or runs backwards (16 bits), and the node that took it
(32 bits, so that two processes never mint the same one), as one integer. Kulkarni et al.,
"Logical Physical Clocks and Consistent Snapshots in Globally Distributed Databases", 2014.

A clock that runs ahead would win for ever: readings more than half a second ahead of one's own
wall clock are not believed, neither here nor in the choice between claims (`_merge`).
"""

from __future__ import annotations

from typing import final

from hastack._core import _validate
from hastack._core._errors import InvalidArgument

__all__ = ("MAX_AHEAD", "HybridClock", "ahead", "believed", "parts")

MAX_AHEAD = 0.5
"""Seconds that another's reading may be ahead of one's own wall clock."""

_COUNTER_BITS = 16
_NODE_BITS = 32
_NODES = 1 << _NODE_BITS
_MILLISECONDS = 1 << 48


def parts(incarnation: int) -> tuple[int, int, int]:
    """Milliseconds since the epoch, counter and node of a reading.

    Example:
        >>> from hastack.discovery._hlc import HybridClock, parts
        >>> parts(HybridClock(node=7).tick(1_700_000_000.25))
        (1700000000250, 0, 7)
    """
    logical = incarnation >> _NODE_BITS
    return logical >> _COUNTER_BITS, logical & 0xFFFF, incarnation & (_NODES - 1)


def ahead(incarnation: int, wall: float) -> float:
    """Seconds that a reading is ahead of the wall clock; negative when it lies in the past."""
    return parts(incarnation)[0] / 1000.0 - wall


def believed(incarnation: int, wall: float, *, max_ahead: float = MAX_AHEAD) -> bool:
    """Whether a reading may count; one from a clock too far ahead may not, and no negative one."""
    return incarnation >= 0 and ahead(incarnation, wall) <= max_ahead


@final
class HybridClock:
    """Mints readings that only grow, whatever the wall clock does.

    Not safe from several threads at once: the caller holds its lock.

    Args:
        node: Who mints, 0 up to 2**32 - 1; draw it at random once per process.
        max_ahead: Seconds that an observed reading may be ahead of the wall clock.

    Raises:
        InvalidArgument: An argument is out of its range.

    Example:
        >>> from hastack.discovery._hlc import HybridClock
        >>> clock = HybridClock(node=1)
        >>> first = clock.tick(1_700_000_000.0)
        >>> clock.tick(1_699_999_999.0) > first       # the wall clock was set back
        True
    """

    __slots__ = ("_last", "_max_ahead", "_node")

    def __init__(self, *, node: int = 0, max_ahead: float = MAX_AHEAD) -> None:
        _validate.integer("node", node, minimum=0)
        if node >= _NODES:
            raise InvalidArgument("node", node, f"an integer < {_NODES}")
        self._node = node
        self._max_ahead = _validate.seconds("max_ahead", max_ahead, zero=True)
        self._last = -1  # milliseconds and counter as one number: a full counter carries over

    def tick(self, wall: float) -> int:
        """A reading larger than every one minted or observed before.

        Args:
            wall: The wall clock, in seconds since the epoch.
        """
        # What wall clocks cannot say is clamped: a broken one must not make readings that shrink.
        milliseconds = min(max(int(wall * 1000.0), 0), _MILLISECONDS - 1)
        self._last = max(self._last + 1, milliseconds << _COUNTER_BITS)
        return self._last << _NODE_BITS | self._node

    def observe(self, incarnation: int, wall: float) -> bool:
        """Let all later readings be larger than ``incarnation``; false when it is not believed."""
        if not believed(incarnation, wall, max_ahead=self._max_ahead):
            return False
        self._last = max(self._last, incarnation >> _NODE_BITS)
        return True
