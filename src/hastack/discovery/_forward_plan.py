"""What is to be written into a mirror next, and how far that brings it.

A plan knows what the mirror holds and what the source has said since, newest word per key. It is
asked for chunks that fit into one transaction, each with the range of revisions that the token
then has to claim. A chunk counts as written once it is taken: whoever cannot write it throws the
whole plan away and begins again from what the destination holds.
"""

from __future__ import annotations

import heapq
from itertools import islice
from typing import TYPE_CHECKING, final

import attrs

from ._coalesce import Coalescer
from ._origin import drained
from ._origin_guard import EvictionGuard

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ("Change", "Chunk", "Counts", "Limits", "Plan", "newest")


@attrs.frozen
class Change:
    """A key has another value now, or none.

    Attributes:
        key: The key in the mirror.
        value: Its value; ``None`` for a deletion.
        revision: The source's revision at which that happened.
        reborn: Whether the key was deleted since it was last spoken of: a new life.
    """

    key: bytes
    value: bytes | None
    revision: int
    reborn: bool = False


def newest(changes: Iterable[Change]) -> list[Change]:
    """The last word per key, in order of time; a life that ended in between is remembered."""
    found: dict[bytes, Change] = {}
    for change in changes:
        earlier = found.pop(change.key, None)
        if earlier is not None and (earlier.value is None or earlier.reborn):
            change = attrs.evolve(change, reborn=True)  # noqa: PLW2901  # the same, knowing more
        found[change.key] = change
    return list(found.values())


@attrs.frozen(kw_only=True)
class Limits:
    """Bounds of what one origin may ask of a destination.

    Attributes:
        ops: Operations in one transaction, the token not counted; etcd refuses more than 128.
        size: Bytes of keys and values in one transaction; etcd refuses more than 1.5 MiB.
        instances: Keys that the mirror may hold.
        value: Bytes of one value.
    """

    ops: int = 120
    size: int = 512 * 1024
    instances: int = 100_000
    value: int = 64 * 1024


@attrs.frozen
class Chunk:
    """Changes for one transaction.

    Attributes:
        changes: What to write.
        low: Every change up to this revision is then in the mirror; 0 when no such one is.
        high: No change after this revision is.
    """

    changes: Sequence[Change]
    low: int
    high: int


@attrs.define
class Counts:
    """What became of the changes of an origin.

    Attributes:
        puts: Written.
        deletes: Written.
        unchanged: Had been in the mirror already.
        coalesced: Overtaken by a later change of their key before they were written.
        refused: Beyond a limit; the mirror lacks them.
    """

    puts: int = 0
    deletes: int = 0
    unchanged: int = 0
    coalesced: int = 0
    refused: int = 0


@final
class Plan:
    """The mirror of one origin and what is still to be written into it.

    Args:
        mirror: What the destination holds of this origin; taken over and kept up to date.
        low, high: What the token says of it.
        coalescer: When changes of flapping keys may pass.
        guard: Whether deletions are believed.
        limits: Bounds.
        counts: Counted into.
    """

    def __init__(
        self,
        mirror: dict[bytes, bytes],
        *,
        low: int = 0,
        high: int = 0,
        coalescer: Coalescer | None = None,
        guard: EvictionGuard | None = None,
        limits: Limits | None = None,
        counts: Counts | None = None,
    ) -> None:
        self.mirror = mirror
        self.counts = counts or Counts()
        self.guard = guard or EvictionGuard()
        self._coalescer = coalescer or Coalescer(5.0)
        self._limits = limits or Limits()
        self._pending: dict[bytes, Change] = {}  # in the order of revisions
        self._ready: dict[bytes, float] = {}  # since when
        self._waiting: list[tuple[float, bytes]] = []  # a heap; entries may be out of date
        self._due: dict[bytes, float] = {}
        self._held: dict[bytes, None] = {}
        self._new = 0  # pending keys that the mirror does not have
        self._seen = low
        self._high = high
        self._unlisted: set[bytes] = set()
        self._lacking = False  # something was refused since the last listing began
        # Whether the mirror was drained or revoked since then: only a listing brings it back.
        self.spoiled = False
        self._crowded = False  # for want of room
        # Whether the mirror is of no revision: a listing is under way, was never finished, or
        # something was refused or taken away on purpose.
        self.partial = low == 0
        self.written = (low, high)

    # What it knows

    @property
    def pending(self) -> int:
        """Changes that are still to be written."""
        return len(self._pending)

    @property
    def held(self) -> int:
        """Deletions that a freeze holds back."""
        return len(self._held)

    @property
    def ready(self) -> int:
        """Changes that may be written now, as of the last look."""
        return len(self._ready)

    @property
    def low(self) -> int:
        """Every change up to this revision is in the mirror; 0 while that cannot be said."""
        if self.partial:
            return 0
        if self._pending:
            # A listing's changes have revision 0, and are first as long as there is one.
            return max(0, next(iter(self._pending.values())).revision - 1)
        return self._seen

    @property
    def high(self) -> int:
        """No change after this revision is in the mirror, or it is one of this plan's listing."""
        return max(self._high, self.low)

    @property
    def seen(self) -> int:
        """The newest revision that the source has spoken of."""
        return self._seen

    @property
    def wants_listing(self) -> bool:
        """Whether instances were turned away for want of room, and there is room again."""
        taken = len(self.mirror) + self._new
        return self._crowded and taken <= 0.95 * self._limits.instances

    @property
    def unsaid(self) -> bool:
        """Whether the token that was last written does not say all that is known."""
        return (self.low, self.high) != self.written

    def waited(self, now: float) -> float:
        """Seconds for which the oldest change has waited since nothing holds it back any more."""
        return max(0.0, now - next(iter(self._ready.values()), now))

    def next_due(self) -> float | None:
        """When the next change may be written that may not be now."""
        self._drop_old()
        return self._waiting[0][0] if self._waiting else None

    # What the source says

    def offer(self, changes: Iterable[Change], revision: int, now: float) -> None:
        """Take in what the source says has changed, all that it says up to ``revision``."""
        said = newest(changes)
        if said:
            self._high = max(self._high, *(change.revision for change in said))
        self._take_in(said, now)
        self._seen = max(self._seen, revision)

    def begin_listing(self) -> None:
        """A full listing of the source comes: what was to be written so far is void."""
        self._forget_pending()
        self.partial = True
        self._lacking = self._crowded = self.spoiled = False
        self._unlisted = set(self.mirror)

    def list(self, page: Iterable[tuple[bytes, bytes]], now: float) -> None:
        """Take in a part of the listing: keys in the mirror's area, and values."""
        page = tuple(page)
        self._unlisted.difference_update(key for key, _ in page)
        self._take_in([Change(key, value, 0) for key, value in page], now)

    def end_listing(self, revision: int, now: float) -> None:
        """That was all at ``revision``: what was not listed goes."""
        swept, self._unlisted = sorted(self._unlisted), set()
        self._take_in([Change(key, None, 0) for key in swept], now)
        self.partial = self._lacking or self.spoiled
        self._seen = self._high = revision

    # What is done about an origin as a whole

    def drain(self, now: float) -> None:
        """Mark all instances as draining."""
        self._rewrite([(key, drained(value)) for key, value in self.mirror.items()], now)

    def revoke(self, now: float) -> None:
        """Take all instances away."""
        self._rewrite([(key, None) for key in self.mirror], now)

    def _rewrite(self, wanted: Iterable[tuple[bytes, bytes | None]], now: float) -> None:
        self._forget_pending()
        self.partial = self.spoiled = True
        for key, value in wanted:
            if self.mirror[key] != value:
                self._set(Change(key, value, 0))
                self._release(key, now)

    def let_go(self, now: float) -> None:
        """A freeze has ended: what it held may be written."""
        for key in tuple(self._held):
            self._release(key, now)

    # What is to be written

    def take(self, now: float, room: int | None = None) -> Chunk | None:
        """The next changes to write, as many as fit; ``None`` when none may be written now."""
        self._drop_old()
        while self._waiting and self._waiting[0][0] <= now:
            self._release(heapq.heappop(self._waiting)[1], now)
            self._drop_old()
        limits = self._limits
        ops = limits.ops if room is None else min(room, limits.ops)
        size = 0
        taken: list[Change] = []
        for key in list(islice(self._ready, ops)):
            change = self._pending[key]
            size += len(key) + len(change.value or b"")
            if taken and size > limits.size:
                break
            taken.append(change)
            self._write(change, now)
        if not taken:
            return None
        return self._say(taken)

    def say(self) -> Chunk:
        """A chunk without changes, for its token."""
        return self._say(())

    def _say(self, taken: Sequence[Change]) -> Chunk:
        self.written = (self.low, self.high)
        return Chunk(taken, *self.written)

    def _write(self, change: Change, now: float) -> None:
        key = change.key
        self._remove(key)
        if change.value is None:
            del self.mirror[key]
            self.counts.deletes += 1
            return
        # Neither the beginning of a life nor what a listing found is a change that flaps.
        if key in self.mirror and change.revision:
            self._coalescer.passed(key, now)
        self.mirror[key] = change.value
        self.counts.puts += 1

    # Bookkeeping

    def _take_in(self, said: Sequence[Change], now: float) -> None:
        if self.guard.look(now):
            self.let_go(now)
        back = [change.key for change in said if change.value is not None]
        if back and self.guard.came_back(back):
            self.let_go(now)
        gone = [change.key for change in said if self._ends(change)]
        hold = bool(gone) and self.guard.vanish(gone, len(self.mirror), now)
        # In the order of revisions, on which `low` relies.
        for change in said:
            if not self._ends(change):
                self._put(change, now)
                continue
            self._set(change)
            if hold:
                self._hold(change.key)
            else:
                self._release(change.key, now)

    def _ends(self, change: Change) -> bool:
        """Whether it takes something away that the mirror has."""
        return change.value is None and change.key in self.mirror

    def _put(self, change: Change, now: float) -> None:
        """Take in a value, or the end of a key that the mirror never had."""
        key, value = change.key, change.value
        current = self.mirror.get(key)
        earlier = self._pending.get(key)
        if value is not None and not self._fits(key, value):
            self.counts.refused += 1
            self.partial = self._lacking = True
            return
        if value == current:
            if earlier is None:
                self.counts.unchanged += 1
            else:
                self.counts.coalesced += 1
                self._remove(key)
            return
        reborn = (
            change.reborn
            or current is None
            or (earlier is not None and (earlier.value is None or earlier.reborn))
        )
        self._set(attrs.evolve(change, reborn=reborn))
        # A listing says how things are, not that they flap; a new life must not be waited for.
        due = now if reborn or change.revision == 0 else self._coalescer.due(key, now)
        if due <= now:
            self._release(key, now)
        elif key not in self._ready and self._due.get(key) != due:
            self._due[key] = due
            heapq.heappush(self._waiting, (due, key))

    def _fits(self, key: bytes, value: bytes) -> bool:
        if len(value) > self._limits.value:
            return False
        if key in self.mirror or key in self._pending:
            return True
        if len(self.mirror) + self._new < self._limits.instances:
            return True
        self._crowded = True
        return False

    def _set(self, change: Change) -> None:
        """Make it the last word on its key; it is neither ready nor waiting nor held yet."""
        key = change.key
        earlier = self._pending.pop(key, None)
        if earlier is not None:
            self.counts.coalesced += 1
        elif key not in self.mirror:
            self._new += 1
        self._held.pop(key, None)
        self._pending[key] = change

    def _release(self, key: bytes, now: float) -> None:
        self._due.pop(key, None)
        self._held.pop(key, None)
        self._ready.setdefault(key, now)

    def _hold(self, key: bytes) -> None:
        self._due.pop(key, None)
        self._ready.pop(key, None)
        self._held[key] = None

    def _remove(self, key: bytes) -> None:
        del self._pending[key]
        self._ready.pop(key, None)
        self._due.pop(key, None)
        self._held.pop(key, None)
        if key not in self.mirror:
            self._new -= 1

    def _drop_old(self) -> None:
        """Leave no entry on top of the heap that something else has overtaken."""
        waiting = self._waiting
        while waiting and self._due.get(waiting[0][1]) != waiting[0][0]:
            heapq.heappop(waiting)

    def _forget_pending(self) -> None:
        for each in (self._pending, self._ready, self._waiting, self._due, self._held):
            each.clear()
        self._new = 0
