"""What a subscriber has been given, to tell it the difference when its store is another one."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, final

from ._records import Batch, KeyValue, WatchEvent

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ("View",)

_mod_revision = attrgetter("mod_revision")


@final
class View:
    """Keys and revisions that one subscriber knows of.

    Args:
        prev: Whether its events carry what the key held before; then values are kept, too.

    Attributes:
        cluster: Whose revisions they are; 0 before anything is known.
        revision: Everything up to and including it has been handed over.
    """

    def __init__(self, *, prev: bool) -> None:
        self.cluster = 0
        self.revision = 0
        self._prev = prev
        self._held: dict[bytes, KeyValue] = {}

    def begin(self, kvs: Iterable[KeyValue], revision: int) -> None:
        """The subscriber knows these keys, as of ``revision``, from elsewhere."""
        self.revision = revision
        for kv in kvs:
            self._held[kv.key] = kv

    def note(self, batch: Batch) -> Batch:
        """``batch`` is handed over as it is."""
        self.revision = batch.revision
        for event in batch.events:
            self._hold(event)
        return batch

    def _hold(self, event: WatchEvent) -> None:
        kv = event.kv
        if event.kind == "delete":
            self._held.pop(kv.key, None)
        elif self._prev:
            self._held[kv.key] = kv
        else:
            self._held[kv.key] = KeyValue(
                kv.key, b"", kv.create_revision, kv.mod_revision, kv.version, kv.lease
            )

    def compare(self, listing: Batch, reason: str, *, cluster: int) -> Batch:
        """What to hand over for a listing: the exact difference to what was handed over."""
        now = {event.kv.key: event.kv for event in listing.events}
        same = cluster == self.cluster
        held = self._held
        events = [
            WatchEvent("delete", KeyValue(key, b"", 0, listing.revision, 0), self._before(key))
            for key in held
            if key not in now
        ]
        for kv in sorted(now.values(), key=_mod_revision):
            known = held.get(kv.key)
            # Another store's revisions may be the same by chance, and mean something else.
            if known is None or not same or known.mod_revision != kv.mod_revision:
                events.append(WatchEvent("put", kv, self._before(kv.key)))
        self.cluster = cluster
        return self.note(Batch(events, listing.revision, True, reason))

    def _before(self, key: bytes) -> KeyValue | None:
        return self._held.get(key) if self._prev else None
