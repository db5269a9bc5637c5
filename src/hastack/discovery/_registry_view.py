"""One view of a service over all that is known of it, local and mirrored.

Fed with the batches of the store's watches, one watch per origin; answers with the difference.
The view is a function of what the store holds and of which origins are stale: it does not depend
on the order in which the watches came to know it.
"""

from __future__ import annotations

import re
from bisect import bisect_left, insort
from typing import TYPE_CHECKING, final

import attrs

from ._instance import Instance, MalformedInstance
from ._layout import Area, InstanceKey
from ._merge import rank, settles_at
from ._registry_changes import Change

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ._records import Batch, KeyValue

__all__ = ("Contest", "Malformed", "Source", "View")

_PLAIN = re.compile(rb"[A-Za-z0-9_.~-]+").fullmatch  # what percent-encoding leaves alone


@attrs.frozen(order=True)
class Source:
    """Where instances are read from: an area of the store and an origin within it."""

    area: Area
    origin: str


@attrs.frozen
class Contest:
    """The origins that claim one id, and whose claim counts."""

    origins: tuple[str, ...]
    winner: str


@attrs.frozen
class Malformed:
    """A key that holds no instance, found for the first time."""

    key: bytes
    problem: str
    revision: int


@final
class View:
    """What is known of one service.

    Where several origins claim one id, the order of `_merge.rank` decides; ``wall`` is the wall
    clock in seconds since the epoch, against which incarnations are judged.

    Attributes:
        revision: The newest revision that went into it.
        stale: Origins whose instances may be out of date.
    """

    def __init__(self) -> None:
        self.revision = 0
        self.stale: frozenset[str] = frozenset()
        self._held: dict[Source, dict[bytes, Instance]] = {}
        self._malformed: dict[Source, dict[bytes, int]] = {}
        self._claims: dict[str, dict[Source, Instance]] = {}
        self._contested: dict[str, None] = {}
        self._winners: dict[str, Instance] = {}
        self._order: list[str] = []  # their ids, sorted
        self._sorted: tuple[Instance, ...] | None = ()
        self._prefixes: dict[bytes, InstanceKey] = {}  # a sample key for each

    @property
    def instances(self) -> tuple[Instance, ...]:
        """All instances, one per id, in the order of their ids."""
        found = self._sorted
        if found is None:
            found = self._sorted = tuple(map(self._winners.__getitem__, self._order))
        return found

    @property
    def sources(self) -> frozenset[Source]:
        """Those that have said what they hold."""
        return frozenset(self._held)

    @property
    def contests(self) -> dict[str, Contest]:
        """Which ids more than one origin claims."""
        return {
            each: Contest(
                tuple(sorted(source.origin for source in self._claims[each])),
                self._winners[each].origin,
            )
            for each in self._contested
        }

    def apply(
        self, source: Source, batch: Batch, *, fresh: bool, wall: float
    ) -> tuple[list[Change], list[Malformed]]:
        """Take in a batch.

        Args:
            source: Whose watch it is from.
            batch: The batch.
            fresh: It is the first one of a new watch and says all that there is.
            wall: The wall clock.

        Returns:
            The difference, and the keys found malformed by this batch.
        """
        held = self._held.setdefault(source, {})
        malformed = self._malformed.setdefault(source, {})
        self._prefixes.clear()
        touched: dict[str, None] = {}
        if fresh:
            there = {event.kv.key for event in batch.events if event.kind == "put"}
            for key in [key for key in held if key not in there]:
                self._remove(source, held, key, touched)
            for key in [key for key in malformed if key not in there]:
                del malformed[key]
        found: list[Malformed] = []
        for event in batch.events:
            if event.kind == "delete":
                self._remove(source, held, event.kv.key, touched)
                malformed.pop(event.kv.key, None)
                continue
            problem = self._put(source, held, event.kv, touched)
            if problem is None:
                malformed.pop(event.kv.key, None)
            elif malformed.get(event.kv.key) != event.kv.mod_revision:
                malformed[event.kv.key] = event.kv.mod_revision
                found.append(Malformed(event.kv.key, problem, event.kv.mod_revision))
        # Not the larger of both: after a restore from a backup, revisions begin lower.
        self.revision = batch.revision
        return self._settle(touched, wall), found

    def drop(self, source: Source, *, wall: float) -> list[Change]:
        """Forget a source and what only it knew."""
        held = self._held.pop(source, {})
        self._malformed.pop(source, None)
        touched: dict[str, None] = {}
        for key in list(held):
            self._remove(source, held, key, touched)
        return self._settle(touched, wall)

    def set_stale(self, origins: Iterable[str], *, wall: float) -> list[Change]:
        """Say which origins are out of reach; where several claim an id, that may decide."""
        stale = frozenset(origins)
        moved = stale != self.stale
        self.stale = stale
        return self.review(wall=wall) if moved else []

    def review(self, *, wall: float) -> list[Change]:
        """Decide anew where several claim one id: `settles_at` has passed."""
        return self._settle(self._contested, wall)

    def settles_at(self, *, wall: float) -> float | None:
        """The wall clock's reading at which `review` may change something by itself."""
        contested = (each for key in self._contested for each in self._claims[key].values())
        return settles_at(contested, wall=wall)

    def _put(
        self, source: Source, held: dict[bytes, Instance], kv: KeyValue, touched: dict[str, None]
    ) -> str | None:
        """Take in one key; says what is wrong with it, if anything is: it then counts as absent."""
        key = self._key(kv.key)
        if key is None:
            return "the key is no instance's"
        try:
            instance = Instance.parse(
                kv.value,
                service=key.service,
                id=key.instance,
                namespace=key.namespace,
                origin=key.origin,
            )
        except MalformedInstance as error:
            self._remove(source, held, kv.key, touched)
            return str(error)
        held[kv.key] = instance
        claims = self._claims.setdefault(instance.id, {})
        claims[source] = instance
        if len(claims) == 2:
            self._contested[instance.id] = None
        touched[instance.id] = None
        return None

    def _key(self, key: bytes) -> InstanceKey | None:
        """Take a key apart; only the one spelling that we write ourselves counts."""
        prefix, _, last = key.rpartition(b"/")
        known = self._prefixes.get(prefix)
        if known is not None and _PLAIN(last):
            # Of 10,000 keys under one prefix, the prefix is the same.
            return InstanceKey(
                known.area, known.origin, known.namespace, known.service, last.decode()
            )
        found = InstanceKey.parse(key)
        if found is None or found.to_bytes() != key:
            return None
        self._prefixes[prefix] = found
        return found

    def _remove(
        self, source: Source, held: dict[bytes, Instance], key: bytes, touched: dict[str, None]
    ) -> None:
        instance = held.pop(key, None)
        if instance is None:
            return
        touched[instance.id] = None
        claims = self._claims[instance.id]
        del claims[source]
        if len(claims) == 1:
            del self._contested[instance.id]
        elif not claims:
            del self._claims[instance.id]

    def _settle(self, touched: Iterable[str], wall: float) -> list[Change]:
        """Decide who has each of these ids, and say what that changes."""
        changes: list[Change] = []
        winners, revision = self._winners, self.revision
        for each in touched:
            before = winners.get(each)
            claims = self._claims.get(each)
            if claims is None:
                if before is not None:
                    del winners[each], self._order[bisect_left(self._order, each)]
                    changes.append(Change(kind="removed", instance=before, revision=revision))
                continue
            now = self._winner(claims, wall)
            winners[each] = now
            if before is None:
                insort(self._order, each)
                changes.append(Change(kind="added", instance=now, revision=revision))
            elif now != before:
                changes.append(
                    Change(kind="updated", instance=now, previous=before, revision=revision)
                )
        if changes:
            self._sorted = None
        return changes

    def _winner(self, claims: Mapping[Source, Instance], wall: float) -> Instance:
        if len(claims) == 1:
            return next(iter(claims.values()))
        best = min(
            claims,
            key=lambda source: rank(
                claims[source],
                live=source.origin not in self.stale,
                wall=wall,
                registered=source.area == "reg",
            ),
        )
        return claims[best]
