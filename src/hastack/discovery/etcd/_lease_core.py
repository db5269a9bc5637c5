"""When keepalives are due, and for how long a lease can be relied on.

Everything is measured from the moment a request was *sent*: the server starts its count when the
request arrives, so what is relied on here ends before the lease does there. Of an answer whose
request nobody remembers, nothing is concluded but bad news.
"""

from __future__ import annotations

import heapq
import itertools
from typing import Final, Literal, TypeAlias, final

import attrs

__all__ = ("Keepalives", "Look", "patience")

Answer: TypeAlias = Literal["renewed", "lost", "stray"]

BEAT: Final = 1 / 3
"""Share of the TTL after which the next keepalive is sent."""
DRIFT: Final = 0.01
"""How much slower than the server's clock this machine's may run."""
SLACK: Final = 0.1
"""Keepalives due within so many seconds go out together: one wake-up for many leases."""


def patience(ttl: float) -> float:
    """Seconds to wait for the answer to a keepalive before asking elsewhere.

    A sixth of the TTL leaves time for three more tries between the first one, after a third, and
    the end of the lease.
    """
    return min(max(ttl / 6, 0.2), 3.0)


@attrs.frozen
class Look:
    """What has come to pass since the last look.

    Attributes:
        expired: Leases that can no longer be relied on; each is named once until it is renewed.
        stalled: An answer is overdue: the stream is to be cut.
        due: Keepalives are waiting to be taken.
    """

    expired: tuple[int, ...]
    stalled: bool
    due: bool


@final
class _Term:
    """One lease between two answers."""

    __slots__ = ("armed", "asked", "beat", "blamed", "expired", "lease", "ready", "ttl", "until")

    def __init__(self, lease: int, ttl: float) -> None:
        self.lease = lease
        self.ttl = ttl
        self.until = 0.0  # relied on no longer than this
        self.beat = 0.0  # the next keepalive
        self.asked: float | None = None  # when the keepalive under way was sent
        self.ready = False  # its keepalive is due and not taken yet
        self.expired = False  # `until` has passed, and that was said
        self.blamed = 0  # streams that hung on this lease's keepalive
        self.armed = 0.0  # the entry of the queue that counts

    def at(self) -> float:
        """When this lease wants to be looked at next."""
        soon = self.beat if self.asked is None else self.asked + patience(self.ttl)
        if self.expired:
            return soon
        return self.until if self.ready or self.until < soon else soon


@final
class Keepalives:
    """The keepalives of many leases over one stream.

    The stream answers in order and one request of a lease is under way at a time, so an answer
    belongs to the request that is.
    """

    __slots__ = ("_now", "_numbers", "_queue", "_ready", "_terms")

    def __init__(self) -> None:
        self._terms: dict[int, _Term] = {}
        self._ready: dict[int, None] = {}
        self._queue: list[tuple[float, int, _Term]] = []
        self._numbers = itertools.count()
        self._now = float("-inf")

    def __len__(self) -> int:
        return len(self._terms)

    def add(self, lease: int, ttl: float, *, sent: float, drawn: float) -> None:
        """Keep a lease that was granted, or last renewed, by a request sent at ``sent``.

        Args:
            lease: Its id.
            ttl: Its TTL in seconds, as the server granted it.
            sent: When that request was sent.
            drawn: A random number in [0, 1): leases granted together drift apart.
        """
        term = self._terms[lease] = _Term(lease, ttl)
        self._renew(term, ttl, sent, drawn)

    def remove(self, lease: int) -> None:
        """Forget a lease; one that is not kept is no error."""
        self._terms.pop(lease, None)
        self._ready.pop(lease, None)
        if not self._terms:
            self._queue.clear()

    def remaining(self, lease: int, now: float) -> float:
        """Seconds for which the lease can still be relied on; 0.0 when it cannot."""
        term = self._terms.get(lease)
        return 0.0 if term is None else max(0.0, term.until - self._forward(now))

    def wake_at(self) -> float | None:
        """When to look next; ``None`` when nothing will come by itself."""
        while self._queue:
            at, _, term = self._queue[0]
            if self._terms.get(term.lease) is term and term.armed == at:
                return at
            heapq.heappop(self._queue)
        return None

    def look(self, now: float) -> Look:
        """Find out what is due at ``now``."""
        now = self._forward(now)
        expired: list[int] = []
        overdue: list[_Term] = []
        seen: list[_Term] = []
        while (at := self.wake_at()) is not None and at <= now + SLACK:
            term = heapq.heappop(self._queue)[2]
            term.armed = float("inf")
            seen.append(term)
            if not term.expired and term.until <= now:
                term.expired = True
                expired.append(term.lease)
            if term.asked is not None and term.asked + patience(term.ttl) <= now:
                overdue.append(term)
            elif term.asked is None and not term.ready and term.beat <= now + SLACK:
                term.ready = True
                self._ready[term.lease] = None
        if overdue:
            # The server works through the stream in order, so all wait for the first of them.
            min(overdue, key=_asked).blamed += 1
        for term in seen:
            self._arm(term)
        return Look(tuple(expired), bool(overdue), bool(self._ready))

    def take(self) -> list[int]:
        """The leases whose keepalives are due, in the order in which to send them.

        The most urgent first; one on which streams hung goes last, so that it holds up no other.
        """
        terms = sorted((self._terms[lease] for lease in self._ready), key=_urgency)
        return [term.lease for term in terms]

    def patience(self) -> float:
        """Seconds that the most urgent of the keepalives due can wait for a stream."""
        return min((patience(self._terms[lease].ttl) for lease in self._ready), default=0.0)

    def sent(self, lease: int, now: float) -> None:
        """The keepalive of ``lease`` is about to be written to the stream."""
        term = self._terms.get(lease)
        if term is None:
            return
        term.asked = self._forward(now)
        term.ready = False
        self._ready.pop(lease, None)
        self._arm(term)

    def answered(self, lease: int, ttl: float, *, now: float, drawn: float) -> Answer:
        """The server answered a keepalive of ``lease``.

        Args:
            lease: The lease that the answer names.
            ttl: The TTL it was renewed to; 0 says that there is no such lease.
            now: The time.
            drawn: A random number in [0, 1).

        Returns:
            ``"renewed"``, ``"lost"`` (and forgotten), or ``"stray"`` when it answers nothing that
            is known.
        """
        now = self._forward(now)
        term = self._terms.get(lease)
        if term is None:
            return "stray"
        if ttl <= 0:
            self.remove(lease)
            return "lost"
        if term.asked is None:
            return "stray"
        self._renew(term, ttl, term.asked, drawn)
        return "renewed"

    def cut(self) -> None:
        """The stream is gone: what was asked on it is to be asked on the next one."""
        for term in self._terms.values():
            if term.asked is not None:
                term.asked = None
                term.ready = True
                self._ready[term.lease] = None
                self._arm(term)

    def _renew(self, term: _Term, ttl: float, sent: float, drawn: float) -> None:
        term.ttl = ttl
        term.asked = None
        term.blamed = 0
        term.expired = False
        term.until = sent + ttl * (1.0 - DRIFT)
        term.beat = sent + ttl * BEAT * (0.9 + 0.1 * drawn)
        self._arm(term)

    def _arm(self, term: _Term) -> None:
        at = term.at()
        if term.ready and term.expired:
            term.armed = float("inf")  # all has been said; only sending or an answer goes on
            return
        if at != term.armed:
            term.armed = at
            heapq.heappush(self._queue, (at, next(self._numbers), term))

    def _forward(self, now: float) -> float:
        """Time as it may be believed: a clock that is set back gives no lease a longer life."""
        self._now = max(self._now, now)
        return self._now


def _asked(term: _Term) -> float:
    assert term.asked is not None
    return term.asked


def _urgency(term: _Term) -> tuple[int, float]:
    return term.blamed, term.until
