"""Which lane a service's items take, and what waits in one lane.

One request at a time is in flight in a lane, and what has to be sent again goes before everything
behind it: so one service's items arrive in the order in which they were emitted, whatever the
backend answers, while other lanes go on.
"""

from __future__ import annotations

import zlib
from collections import deque
from typing import Any, final


def shard_of(service: str, shards: int) -> int:
    """The lane of a service: the same in every process and on every machine, unlike ``hash()``."""
    return zlib.crc32(service.encode("utf-8", "surrogatepass")) % shards


@final
class Body:
    """One encoded request body: in memory (``data``) or on disk (``place``).

    Attributes:
        units: Units in it.
        first: Number of its first unit in its lane; -1 for what another process left.
        data: The bytes as they travel, already compressed; ``None`` while they are on disk only.
        place: Where they are on disk; opaque here. ``None`` for bodies in memory only.
        size: Bytes held in memory, or on disk.
        tries: Requests made for it so far.
        wire: How it is sent; opaque here.
        source: The objects in it, while it may have to be encoded anew.
    """

    __slots__ = ("data", "first", "place", "size", "source", "tries", "units", "wire")

    def __init__(
        self,
        units: int,
        size: int,
        *,
        first: int,
        data: bytes | None = None,
        place: Any = None,
        wire: Any = None,
    ) -> None:
        self.units = units
        self.size = size
        self.first = first
        self.data = data
        self.place = place
        self.tries = 0
        self.wire = wire
        self.source: Any = None


@final
class Lane:
    """Everything of one shard, oldest first: the body that is tried, bodies, then objects.

    Attributes:
        items: Objects not yet encoded, with their ``sizes`` and ``weights`` (units) beside them.
        bodies: Encoded ones behind the current one.
        current: The body that is in flight or waits for its next try.
        flying: Whether it is in flight.
        ticket: Grows with each launch; an answer to an older one is ignored.
        not_before: Time of the next try.
        entered: Units that ever came in.
        held_units: Units among the objects, those being encoded included.
        held_bytes: Estimated bytes among the objects, those being encoded included.
        packing_units: Units being encoded now.
        packing_bytes: Estimated bytes being encoded now.
        body_bytes: Bytes of ``bodies`` in memory.
        on_disk: Bodies among ``bodies`` that are on disk.
        since: When the oldest object came in.
        flush_to: Objects up to this number are encoded without waiting for more.
    """

    __slots__ = (
        "bodies",
        "body_bytes",
        "current",
        "entered",
        "flush_to",
        "flying",
        "held_bytes",
        "held_units",
        "index",
        "items",
        "not_before",
        "on_disk",
        "packing_bytes",
        "packing_units",
        "since",
        "sizes",
        "ticket",
        "weights",
    )

    def __init__(self, index: int) -> None:
        self.index = index
        self.items: deque[Any] = deque()
        self.sizes: deque[int] = deque()
        self.weights: deque[int] = deque()
        self.bodies: deque[Body] = deque()
        self.current: Body | None = None
        self.flying = False
        self.ticket = 0
        self.not_before = 0.0
        self.entered = 0
        self.held_units = 0
        self.held_bytes = 0
        self.packing_units = 0
        self.packing_bytes = 0
        self.body_bytes = 0
        self.on_disk = 0
        self.since = 0.0
        self.flush_to = 0

    def oldest(self) -> int:
        """Number of the oldest unit whose fate is open; ``entered`` when there is none."""
        if self.current is not None:
            return self.current.first
        if self.bodies:
            return self.bodies[0].first
        return self.entered - self.held_units

    def droppable(self) -> int:
        """Bytes in memory that could be dropped to make room."""
        return self.held_bytes - self.packing_bytes + self.body_bytes

    def idle(self) -> bool:
        """Whether nothing waits here."""
        return self.current is None and not self.bodies and not self.held_units
