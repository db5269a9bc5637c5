"""Putting together what the server splits, so that a revision is never handed over in parts."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hastack.discovery._records import WatchEvent

__all__ = ("Fragments",)


@final
class Fragments:
    """What has arrived in part, by watch.

    A response with the changes of many revisions is split by size, wherever that falls. Complete
    revisions go on at once; only the last one waits, so no more than one revision is ever held.
    """

    __slots__ = ("_parts",)

    def __init__(self) -> None:
        self._parts: dict[int, list[WatchEvent]] = {}

    def take(
        self, watch_id: int, events: Sequence[WatchEvent], *, more: bool
    ) -> Sequence[WatchEvent]:
        """Add ``events``, and hand out those of complete revisions.

        Args:
            watch_id: Whose they are.
            events: In order of their revisions.
            more: Whether another part follows.
        """
        part = self._parts.pop(watch_id, None)
        if part is not None:
            part += events
            events = part
        if not more or not events:
            return events
        last = events[-1].kv.mod_revision
        cut = len(events)
        while cut and events[cut - 1].kv.mod_revision == last:
            cut -= 1
        self._parts[watch_id] = list(events[cut:])
        return events[:cut]

    def __contains__(self, watch_id: int) -> bool:
        return watch_id in self._parts

    def drop(self, watch_id: int) -> None:
        """The watch has ended; the rest will not come."""
        self._parts.pop(watch_id, None)
