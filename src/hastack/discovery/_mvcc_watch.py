"""Who is told of which change, and what a subscriber that falls behind is told instead.

A subscriber has a bounded buffer. When that is full, what it holds is folded into the difference
between what the subscriber was given and the present: per key the first value replaced and the
last event, nothing for a key that came and went. That needs room for the keys that differ, not for
the changes, and no listing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from ._mvcc import TO_THE_LAST, Change, Mvcc
from ._records import Batch, WatchEvent, prefix_end

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

__all__ = ("Subscribers", "Subscription")


@final
class Subscription:
    """One subscriber: what it wants, and what is waiting for it.

    Args:
        key: Key or prefix.
        prefix: Whether it is a prefix.
        start_revision: First revision to hand over; ``None`` begins with a snapshot.
        prev: Whether events carry what the key held before.
        buffer: Events kept before they are folded.
    """

    __slots__ = (
        *("_changes", "_differing", "_listing", "buffer", "end", "key", "prefix", "prev"),
        *("revision", "start_revision", "wake"),
    )

    def __init__(
        self, key: bytes, *, prefix: bool, start_revision: int | None, prev: bool, buffer: int
    ) -> None:
        self.key = key
        self.prefix = prefix
        self.end = prefix_end(key) if prefix else None
        self.start_revision = start_revision
        self.prev = prev
        self.buffer = buffer
        self.revision = 0  # handed over up to here
        self.wake: Callable[[], None] | None = None  # for whoever waits; the shell's
        self._listing = "snapshot"  # why the next batch is a listing; empty when it is none
        self._changes: list[Change] = []
        self._differing: dict[bytes, Change] | None = None

    def begin(self, store: Mvcc) -> None:
        """Find the place in the store's history at which to begin."""
        start = self.start_revision
        if start is None:
            return
        if start < store.floor:
            self._listing = "compacted"
            return
        self._listing = ""
        self.revision = start - 1
        # History that is kept anyway may exceed the buffer: nothing is lost that need not be.
        key, end = self._span()
        self._changes = store.changes(key, end, start)

    def _span(self) -> tuple[bytes, bytes | None]:
        return (self.key, self.end) if self.key else (b"\0", TO_THE_LAST)

    def offer(self, change: Change) -> bool:
        """Note a change; says whether somebody who waits can be given something now."""
        if self._listing or change[0] <= self.revision:
            return bool(self._listing)
        if self._differing is not None:
            _fold(self._differing, change)
        else:
            self._changes.append(change)
        return True

    def bound(self) -> None:
        """At the end of a revision: fold what the buffer cannot hold."""
        if len(self._changes) > self.buffer:
            self._differing = {}
            for change in self._changes:
                _fold(self._differing, change)
            self._changes = []

    def take(self, store: Mvcc) -> Batch | None:
        """Everything that is waiting, in whole revisions; ``None`` when nothing is."""
        if self._listing:
            reason, self._listing = self._listing, ""
            kvs = store.range(*self._span()).kvs
            events = [WatchEvent("put", kv) for kv in kvs]
        elif self._differing is not None:
            reason = "overflow"
            events = _events(self._differing.values(), prev=self.prev)
            self._differing = None
        elif self._changes:
            reason = ""
            events = _events(self._changes, prev=self.prev)
            self._changes = []
        else:
            return None
        self.revision = store.revision
        return Batch(events, store.revision, bool(reason), reason)


def _events(changes: Iterable[Change], *, prev: bool) -> list[WatchEvent]:
    if not prev:
        return [event for _, event, _ in changes]
    return [WatchEvent(event.kind, event.kv, before) for _, event, before in changes]


def _fold(differing: dict[bytes, Change], change: Change) -> None:
    """Make one change out of those of a key: what it held first, what it holds last."""
    revision, event, prev = change
    key = event.kv.key
    # Taken out and put in again: the order stays that of the last change.
    earlier = differing.pop(key, None)
    if earlier is not None:
        prev = earlier[2]
    if prev is not None or event.kind == "put":
        differing[key] = revision, event, prev


@final
class Subscribers:
    """Finds those whom a change concerns: by key, and by each length that a prefix has."""

    def __init__(self) -> None:
        self._keys: dict[bytes, dict[Subscription, None]] = {}
        self._prefixes: dict[int, dict[bytes, dict[Subscription, None]]] = {}

    def add(self, one: Subscription) -> None:
        """Tell ``one`` of what happens from now on."""
        self._home(one).setdefault(one.key, {})[one] = None

    def _home(self, one: Subscription) -> dict[bytes, dict[Subscription, None]]:
        return self._prefixes.setdefault(len(one.key), {}) if one.prefix else self._keys

    def remove(self, one: Subscription) -> None:
        """Tell it no more; nothing happens when it was not told."""
        home = self._home(one)
        members = home.get(one.key, {})
        members.pop(one, None)
        if not members:
            home.pop(one.key, None)
        if one.prefix and not home:
            del self._prefixes[len(one.key)]

    def __iter__(self) -> Iterator[Subscription]:
        for home in (self._keys, *self._prefixes.values()):
            for members in home.values():
                yield from members

    def offer(self, changes: Iterable[Change]) -> dict[Subscription, None]:
        """Tell everybody of the changes of one revision; the answer has something to take."""
        told: dict[Subscription, None] = {}
        for change in changes:
            key = change[1].kv.key
            groups = [self._keys.get(key)]
            groups += [group.get(key[:length]) for length, group in self._prefixes.items()]
            for members in filter(None, groups):
                for one in members:
                    if one.offer(change):
                        told[one] = None
        for one in told:
            one.bound()
        return told
