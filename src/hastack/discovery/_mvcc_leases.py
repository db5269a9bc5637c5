"""Which leases there are, what hangs on them, and when they end."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, final

from hastack._core._errors import LeaseLost

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ("Grant", "Leases")


@final
class Grant:
    """One lease.

    Attributes:
        id: Its number.
        ttl: Seconds that it lives without being renewed.
        deadline: When it ends; ``None`` for never.
        held: Its holder lives in the store's process, so it has no end of its own.
        keys: What is deleted with it.
    """

    __slots__ = ("deadline", "held", "id", "keys", "ttl")

    def __init__(self, id: int, ttl: float, deadline: float | None) -> None:  # noqa: A002  # the field's name
        self.id = id
        self.ttl = ttl
        self.deadline = deadline
        self.held = deadline is None
        self.keys: set[bytes] = set()


@final
class Leases:
    """All leases of a store. Those without a deadline are never due."""

    def __init__(self) -> None:
        self._grants: dict[int, Grant] = {}
        # One entry per lease that has a deadline, which may be earlier than that by now.
        self._due: list[tuple[float, int]] = []

    def __contains__(self, lease: int) -> bool:
        return lease in self._grants

    def __iter__(self) -> Iterator[Grant]:
        return iter(list(self._grants.values()))

    def __getitem__(self, lease: int) -> Grant:
        try:
            return self._grants[lease]
        except KeyError:
            raise LeaseLost(f"no lease {lease:x}", lease=lease) from None

    def grant(self, lease: int, ttl: float, deadline: float | None) -> None:
        """Begin a lease."""
        self._grants[lease] = Grant(lease, ttl, deadline)
        if deadline is not None:
            heapq.heappush(self._due, (deadline, lease))

    def renew(self, lease: int, now: float) -> Grant:
        """Begin the time of a lease anew."""
        grant = self[lease]
        if grant.deadline is not None:
            grant.deadline = now + grant.ttl
        return grant

    def set_deadline(self, lease: int, deadline: float | None) -> None:
        """Let a lease end at ``deadline``, or not by itself."""
        self[lease].deadline = deadline
        if deadline is not None:
            heapq.heappush(self._due, (deadline, lease))

    def end(self, lease: int) -> set[bytes]:
        """End a lease; the answer hung on it."""
        grant = self[lease]
        del self._grants[lease]
        return grant.keys

    def attach(self, lease: int, key: bytes) -> None:
        """Hang ``key`` on a lease; 0 is none."""
        if lease:
            self._grants[lease].keys.add(key)

    def detach(self, lease: int, key: bytes) -> None:
        """Take ``key`` from a lease, which may have ended."""
        grant = self._grants.get(lease)
        if grant is not None:
            grant.keys.discard(key)

    def next_due(self) -> float | None:
        """When the next lease ends unless it is renewed; ``None`` when none will."""
        due = self._due
        while due:
            at, lease = due[0]
            grant = self._grants.get(lease)
            if grant is None or grant.deadline is None:
                heapq.heappop(due)
            elif grant.deadline > at:
                heapq.heapreplace(due, (grant.deadline, lease))
            else:
                return at
        return None

    def expired(self, now: float) -> int | None:
        """A lease whose time is over, the longest first."""
        at = self.next_due()
        return self._due[0][1] if at is not None and at <= now else None
