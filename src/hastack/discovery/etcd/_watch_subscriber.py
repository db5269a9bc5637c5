"""One subscriber: what waits for it, and where what it was given differs from the present.

The core's thread offers and the subscriber's thread takes. Each counter is written by one of them
only, and a deque's ends are safe, so neither takes a lock.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hastack.discovery._records import Batch, KeyValue, WatchEvent

    from ._watch_feed import Feed
    from ._watch_records import Range

__all__ = ("BYTES", "Parcel", "Subscriber", "size_of")

BYTES = 64 * 2**20
"""Bytes of keys and values that may wait for one subscriber; one batch alone may be larger."""


def size_of(events: Iterable[WatchEvent]) -> int:
    """Bytes of keys and values in ``events``."""
    total = 0
    for event in events:
        kv = event.kv
        total += len(kv.key) + len(kv.value)
        if event.prev is not None:
            total += len(event.prev.value)
    return total


@final
class Parcel:
    """A batch on its way, shared by all who are given the same.

    Args:
        batch: What is handed over.
        at: When it was known.
        counted: Whether it counts against the subscribers' buffers.
    """

    __slots__ = ("at", "batch", "events", "size")

    def __init__(self, batch: Batch, at: float, *, counted: bool = True) -> None:
        self.batch = batch
        self.at = at
        self.events = len(batch.events) if counted else 0
        self.size = size_of(batch.events) if counted else 0


@final
class Subscriber:
    """Somebody who watches a range.

    Args:
        where: The range.
        start: First revision to hand over; ``None`` begins with a snapshot.
        limit: Events that may wait.
        owner: For the shell: whom to wake.

    Attributes:
        feed: What it is subscribed to; the core's.
        floor: It was given everything up to here, while its feed is not that far yet.
        had: By key, what it was given where that differs from its feed's state.
        lagging_since: Since when it lags.
        lagging: Its buffer was full. It gets the difference once it has taken what waits.
        reason: Why that difference will be a listing's.
        given: Whether anything was offered so far.
        error: Why nothing more will come.
    """

    __slots__ = (
        *("_offered", "_offered_bytes", "_taken", "_taken_bytes"),
        *("_certain_at", "error", "feed", "floor", "given", "had", "lagging", "lagging_since"),
        *("limit", "owner", "parcels", "reason", "start", "where"),
    )

    def __init__(
        self, where: Range, *, start: int | None, limit: int, owner: object = None
    ) -> None:
        self.where = where
        self.start = start
        self.limit = limit
        self.owner = owner
        self.feed: Feed | None = None
        self.floor = 0
        self.had: dict[bytes, KeyValue | None] = {}
        self.lagging = False
        self.lagging_since = 0.0
        self.reason = ""
        self.given = False
        self.error: Exception | None = None
        self.parcels: deque[Parcel] = deque()
        self._offered = 0
        self._offered_bytes = 0
        self._taken = 0
        self._taken_bytes = 0
        self._certain_at = 0.0

    # The core's side

    def join(self, feed: Feed, now: float) -> None:
        """Wait for the first listing of ``feed``."""
        self.feed = feed
        self._certain_at = now
        feed.joining[self] = None

    def leave(self) -> None:
        """Nothing more will come."""
        self._certain_at = self.certain_at()
        self.feed = None

    def offer(self, parcel: Parcel) -> bool:
        """Have a batch wait; false when there is no room for it."""
        if self.parcels and (
            self._offered + parcel.events - self._taken > self.limit
            or self._offered_bytes + parcel.size - self._taken_bytes > BYTES
        ):
            return False
        self._offered += parcel.events
        self._offered_bytes += parcel.size
        self.given = True
        self.parcels.append(parcel)
        return True

    def skip(self, key: bytes, before: KeyValue | None, now: KeyValue | None) -> None:
        """A key of the feed changed from ``before`` to ``now``, and this one is not told."""
        had = self.had.pop(key, before)
        if had != now:
            self.had[key] = had

    # The subscriber's side

    def take(self) -> Batch | None:
        """The batch that waits for the longest; ``None`` when none does."""
        if not self.parcels:
            return None
        parcel = self.parcels.popleft()
        self._taken += parcel.events
        self._taken_bytes += parcel.size
        return parcel.batch

    @property
    def drained(self) -> bool:
        """Whether it has taken everything and the core has to be told so."""
        return self.lagging and not self.parcels

    def certain_at(self) -> float:
        """When what it was given was last certain to be the present."""
        feed = self.feed
        if feed is None or self in feed.joining:
            return self._certain_at
        at = min(feed.current_at, self.lagging_since) if self.lagging else feed.current_at
        try:
            return min(at, self.parcels[0].at)
        except IndexError:
            return at
