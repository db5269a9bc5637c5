"""Events of watches: what happens between a client and its store, for those who observe."""

from __future__ import annotations

import attrs

from hastack.events import Event, topic

__all__ = ("WatchOverflowed", "WatchResynced", "WatchStreamLost", "WatchStreamOpened")


@attrs.frozen(kw_only=True)
class WatchStreamOpened(Event):
    """The stream for all watches of a client is open.

    Attributes:
        endpoint: Who is on the other end.
        watches: Ranges that are watched.
    """

    endpoint: str
    watches: int


@attrs.frozen(kw_only=True)
class WatchStreamLost(Event):
    """The stream for all watches has ended, or could not be opened; it is opened again.

    Attributes:
        endpoint: Who was on the other end; empty when nobody could be reached.
        reason: What happened, in words.
        watches: Ranges that are watched.
    """

    endpoint: str
    reason: str
    watches: int


@attrs.frozen(kw_only=True)
class WatchResynced(Event):
    """The history of a range could not go on: it was listed, and the difference handed over.

    Attributes:
        key: First key of the range.
        end: End of the range; ``None`` for the one key.
        reason: ``"compacted"``, ``"restored"`` or ``"gap"``, as in `hastack.discovery.Batch`.
        changes: Keys that differed.
        revision: Revision of the listing.
    """

    key: bytes
    end: bytes | None
    reason: str
    changes: int
    revision: int


@attrs.frozen(kw_only=True)
class WatchOverflowed(Event):
    """A subscriber is behind by more than its buffer, and will be given a difference.

    Attributes:
        key: First key of the range.
        end: End of the range; ``None`` for the one key.
        buffer: Events that may wait for it.
    """

    key: bytes
    end: bytes | None
    buffer: int


STREAM_OPENED = topic(WatchStreamOpened)
STREAM_LOST = topic(WatchStreamLost)
RESYNCED = topic(WatchResynced)
OVERFLOWED = topic(WatchOverflowed)
