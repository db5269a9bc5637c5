"""One watched range: what it holds, how far that is known, and what each subscriber is told.

A feed keeps the state of its range, which is what makes a difference exact: one listing compared
with the state says what changed while nobody looked, deletions included. A subscriber's own state
is the feed's, but for the keys in `Subscriber.had`.

The state also shows whether the history has a hole. Every put counts its key's version up by one
and every deletion takes away a key that is there, so a change that does not follow from the state
means that another one was lost, whoever lost it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias, final

from hastack.discovery._records import Batch, KeyValue, WatchEvent

from ._watch_subscriber import Parcel

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ._watch_records import Listing, Range, State
    from ._watch_subscriber import Subscriber

__all__ = ("Feed", "Phase", "difference")

Phase: TypeAlias = Literal["unknown", "relisting", "ready", "denied", "creating", "live"]
Start: TypeAlias = Literal["after", "from", "mark"]

_REACH = 10_000
"""Revisions that are read again at most in order to recognise the history. The server reads all of
them, of the whole store."""


def difference(before: State, now: State) -> list[tuple[bytes, KeyValue | None, KeyValue | None]]:
    """Each key that differs, with what it held and what it holds."""
    changes = [(key, kv, now.get(key)) for key, kv in before.items() if now.get(key) != kv]
    new = [(key, None, kv) for key, kv in now.items() if key not in before]
    return [*changes, *new]


def _follows(before: KeyValue | None, event: WatchEvent) -> bool:
    """Whether ``event`` can come next for a key that held ``before``."""
    if event.kind == "delete":
        return before is not None
    if before is None:
        return event.kv.version == 1
    kv = event.kv
    return kv.version == before.version + 1 and kv.create_revision == before.create_revision


def _is_known(now: KeyValue | None, event: WatchEvent) -> bool:
    """Whether a key that holds ``now`` shows that ``event`` was seen before."""
    if event.kind == "delete":
        return now is None or now.mod_revision > event.kv.mod_revision
    return now is not None and now.mod_revision >= event.kv.mod_revision


@final
class Feed:
    """One watched range. Made by the watch core, which moves it from phase to phase.

    Attributes:
        where: The range.
        start: First revision that was asked for; ``None`` when it begins with a snapshot.
        phase: ``unknown``: being listed for the first time. ``relisting``: being listed because
            its history cannot go on. ``ready``: waits for a stream. ``denied``: the stream's
            token is in doubt. ``creating``: the stream was asked for it. ``live``: on the stream.
        state: What the range holds at ``revision``.
        revision: Everything up to here is in the state.
        cluster: Whose history it is; 0 when not known yet.
        term: The Raft term when its watch began; 0 when not known yet.
        begin_at: Where the next watch begins: ``after`` the revision; ``from`` it, as a revision
            at which the history was compacted may be served without its deletions (etcd 18089,
            19179); or at the ``mark``.
        began_after: Whether the present watch began after the revision.
        expecting: Whether the mark has to come first.
        unverified: What was deleted is in doubt: because the mark is older than the revision, or
            the server is. A listing of the revision will show how many keys there are.
        suspect: The server may have left out deletions while it caught up.
        truncated: The history that was asked for was gone from the beginning.
        quiet_until: Changes up to here are nobody's business: they come before ``start``.
        current_at: When the state was last certain to be current.
        created_at: When the present watch began.
        subscribers: Who is told of changes.
        joining: Who waits for a first listing.
        asking: Those of them that the listing under way is for.
        ticket: The listing under way; 0 for none.
        reason: Why it is listed anew.
        watch_id: Its number on the stream; 0 for none.
        failures: Watches in a row that the server ended for no known reason.
        denials: Watches in a row that it did not permit.
        retry_at: When to ask for a watch again.
        woken: For the core to collect: who has something new.
        overflowed: For the core to collect: who began to lag.
    """

    __slots__ = (
        *("_ahead", "_hole", "_mark", "_mark_revision", "_whole", "asking", "began_after"),
        *("begin_at", "cluster", "created_at", "current_at", "denials", "expecting", "failures"),
        *("joining", "overflowed", "phase", "quiet_until", "reason", "retry_at", "revision"),
        *("start", "state", "subscribers", "suspect", "term", "ticket", "truncated"),
        *("unverified", "watch_id", "where", "woken"),
    )

    def __init__(self, where: Range, start: int | None, now: float) -> None:
        self.where = where
        self.start = start
        self.phase: Phase = "unknown"
        self.state: State = {}
        self.revision = 0
        self.cluster = 0
        self.term = 0
        self.begin_at: Start = "from"
        self.began_after = False
        self.expecting = False
        self.unverified = False
        self.suspect = False
        self.truncated = False
        self.quiet_until = 0
        self.current_at = now
        self.created_at = now
        self.subscribers: dict[Subscriber, None] = {}
        self.joining: dict[Subscriber, None] = {}
        self.asking: tuple[Subscriber, ...] = ()
        self.ticket = 0
        self.reason = ""
        self.watch_id = 0
        self.failures = 0
        self.denials = 0
        self.retry_at: float | None = None
        self.woken: dict[Subscriber, None] = {}
        self.overflowed: list[Subscriber] = []
        # The newest put that is known: a history that does not contain it is another one.
        self._ahead: dict[Subscriber, None] = {}  # who began where the feed is not yet
        self._hole = False
        self._mark: State = {}
        self._mark_revision = 0
        self._whole: tuple[WatchEvent, ...] | None = None

    # Where the next watch begins

    def next_start(self) -> int:
        """First revision for a watch to begin with now."""
        begin_at, self.begin_at = self.begin_at, "mark"  # the next time there is history between
        self.unverified = begin_at == "mark" and 0 < self.revision != self._mark_revision
        self.expecting = begin_at == "mark" and self.has_mark
        self.began_after = begin_at == "after"
        self.suspect = False
        if self.expecting:
            return self._mark_revision
        return self.revision + 1 if self.began_after else max(self.revision, 1)

    def base_revision(self) -> int:
        """Which revision to list first: what whoever asks for a start has already; 0 for now."""
        if self.start is None or self.truncated or self.quiet_until:
            return 0
        return self.start - 1

    @property
    def is_behind(self) -> bool:
        """Whether somebody was given more than the stream has brought."""
        return bool(self._ahead)

    @property
    def is_confirmed(self) -> bool:
        """Whether the state is known to be part of the history that the stream goes on with."""
        return self.phase == "live" and not (self.expecting or self.unverified)

    @property
    def has_mark(self) -> bool:
        """Whether there is a change near enough by which to recognise the history."""
        return self._mark_revision > 0 and self.revision - self._mark_revision <= _REACH

    @property
    def mark_is_older(self) -> bool:
        """Whether the history may go on even where the mark is gone."""
        return self._mark_revision < self.revision

    def newest(self) -> State:
        """The keys that changed last, of those that are there."""
        last = max((kv.mod_revision for kv in self.state.values()), default=0)
        return {key: kv for key, kv in self.state.items() if kv.mod_revision == last}

    # From a listing

    def learn(self, listing: Listing) -> None:
        """Take over the first listing; nobody is told."""
        self.state = listing.state
        self._moved(listing)

    def _moved(self, listing: Listing) -> None:
        self.revision = listing.revision
        self.cluster = listing.cluster
        self.term = 0
        self.expecting = False
        self._whole = None
        self._mark = self.newest()
        self._mark_revision = next((kv.mod_revision for kv in self._mark.values()), 0)

    def replace(self, listing: Listing, reason: str, now: float) -> int:
        """Take over a listing and tell everybody the difference; says how large it is."""
        changes = difference(self.state, listing.state)
        self.state = listing.state
        self.quiet_until = 0
        self._moved(listing)
        shared: Parcel | None = None
        for each in self.subscribers:
            if not each.given:
                self._give(each, self._all(reason, now))
                continue
            if not (each.lagging or each.had):
                if shared is None:
                    had = {key: before for key, before, _ in changes}
                    shared = Parcel(self._catch_up(had, reason), now)
                if self._give(each, shared):
                    continue
            self._replace_for(each, changes, reason, now)
        return len(changes)

    def _replace_for(
        self,
        one: Subscriber,
        changes: Iterable[tuple[bytes, KeyValue | None, KeyValue | None]],
        reason: str,
        now: float,
    ) -> None:
        """A subscriber whose own state is another than the feed's, or whose buffer is full."""
        for change in changes:
            one.skip(*change)
        one.floor = 0
        self._ahead.pop(one, None)
        if one.lagging:
            one.reason = reason
        elif self._give(one, Parcel(self._catch_up(one.had, reason), now)):
            one.had = {}
        else:
            self._lag(one, reason, now)

    def welcome(self, newcomers: Iterable[Subscriber], reason: str, now: float) -> None:
        """Give newcomers the whole state, and everything that follows."""
        for each in newcomers:
            self.admit(each)
            self._give(each, self._all(reason, now))

    def admit(self, newcomer: Subscriber) -> None:
        """Tell a newcomer what follows."""
        del self.joining[newcomer]
        self.subscribers[newcomer] = None

    def leave(self, one: Subscriber) -> bool:
        """Tell it nothing more; says whether nobody is left."""
        self.joining.pop(one, None)
        self.subscribers.pop(one, None)
        self._ahead.pop(one, None)
        self.woken.pop(one, None)
        return not (self.subscribers or self.joining)

    def join(self, listing: Listing, newcomers: Sequence[Subscriber], now: float) -> bool:
        """Begin with what a listing adds to the state; false when only a whole one will do.

        The listing has the keys that changed after some revision that the feed has passed. Where
        their number says that no other key is gone, state and listing make up the new state.
        """
        newer = {k: kv for k, kv in listing.state.items() if kv.mod_revision > self.revision}
        state = {**self.state, **newer}
        if listing.revision <= self.revision or (not newer and len(state) == listing.count):
            self.welcome(newcomers, "snapshot", now)
            return True
        if len(state) != listing.count:
            return False
        self._join_at(listing.revision, state, newcomers, now)
        return True

    def join_whole(self, listing: Listing, newcomers: Sequence[Subscriber], now: float) -> None:
        """Begin with a listing of everything."""
        if listing.revision <= self.revision:
            self.welcome(newcomers, "snapshot", now)
        else:
            self._join_at(listing.revision, listing.state, newcomers, now)

    def _join_at(
        self, revision: int, state: State, newcomers: Iterable[Subscriber], now: float
    ) -> None:
        """Begin with a state that the feed itself has yet to reach."""
        ahead = {key: had for key, _, had in difference(self.state, state)}
        events = _puts(state)
        parcel = Parcel(Batch(events, revision, True, "snapshot"), now, counted=False)
        for each in newcomers:
            self.admit(each)
            each.floor = revision
            each.had = dict(ahead)
            self._ahead[each] = None
            self._give(each, parcel)

    # From the stream

    def advance(self, events: Sequence[WatchEvent], now: float) -> bool:
        """Take over changes, and tell everybody.

        Returns:
            False when they do not follow from the state: the history has a hole or is another
            one, and a listing has to say what is there.
        """
        if self.expecting:
            if not self._recognises(events):
                return False
            self.expecting = False
        if events[0].kv.mod_revision <= self.revision:
            for event in events:
                kv = event.kv
                if kv.mod_revision <= self.revision and not _is_known(
                    self.state.get(kv.key), event
                ):
                    return False
            events = [each for each in events if each.kv.mod_revision > self.revision]
            if not events:
                return True
        olds = self._apply(events)
        if olds is None:
            return False
        self._whole = None
        self.revision = events[-1].kv.mod_revision
        self._set_mark(events)
        self._hand_over(events, olds, now)
        return self._is_whole()

    def _is_whole(self) -> bool:
        hole, self._hole = self._hole, False
        return not hole

    def _set_mark(self, events: Sequence[WatchEvent]) -> None:
        """Remember the newest put: unlike a deletion, it does not look like any other."""
        for event in reversed(events):
            if event.kind == "put":
                newest = event.kv.mod_revision
                self._mark_revision = newest
                self._mark = {
                    e.kv.key: e.kv
                    for e in events
                    if e.kv.mod_revision == newest and e.kind == "put"
                }
                return

    def _recognises(self, events: Sequence[WatchEvent]) -> bool:
        """Whether the newest change that is known comes first."""
        first = {e.kv.key: e.kv for e in events if e.kv.mod_revision == self._mark_revision}
        return events[0].kv.mod_revision == self._mark_revision and all(
            first.get(key) == kv for key, kv in self._mark.items()
        )

    def _apply(self, events: Sequence[WatchEvent]) -> list[KeyValue | None] | None:
        """Change the state; hands out what the keys held before, or ``None`` without a change."""
        state = self.state
        olds: list[KeyValue | None] = []
        last = self.revision
        for event in events:
            kv = event.kv
            old = state.get(kv.key)
            if kv.mod_revision < last or not _follows(old, event):
                for done, before in zip(reversed(events[: len(olds)]), reversed(olds), strict=True):
                    if before is None:
                        state.pop(done.kv.key, None)
                    else:
                        state[done.kv.key] = before
                return None
            last = kv.mod_revision
            olds.append(old)
            if event.kind == "put":
                state[kv.key] = kv
            else:
                del state[kv.key]
        return olds

    def _hand_over(
        self, events: Sequence[WatchEvent], olds: Sequence[KeyValue | None], now: float
    ) -> None:
        loud = events
        if self.quiet_until:
            loud = [each for each in events if each.kv.mod_revision > self.quiet_until]
            if not loud:
                return
            self.quiet_until = 0
        parcel = Parcel(Batch(tuple(loud), self.revision), now)
        woken = self.woken
        for each in self.subscribers:
            if each.lagging or each.floor or not each.offer(parcel):
                self._hand_over_to(each, events, olds, now)
            else:
                woken[each] = None

    def _hand_over_to(
        self,
        one: Subscriber,
        events: Sequence[WatchEvent],
        olds: Sequence[KeyValue | None],
        now: float,
    ) -> None:
        """A subscriber that was given some of these changes already, or has no room."""
        if one.floor:
            known = sum(each.kv.mod_revision <= one.floor for each in events)
            self._skip(one, events[:known], olds)
            self._reach(one)
            events, olds = events[known:], olds[known:]
            if not events:
                return
            if one.had:
                self._skip(one, events, olds)
                return
            if self._give(one, Parcel(Batch(tuple(events), self.revision), now)):
                return
        self._skip(one, events, olds)
        if not one.lagging:
            self._lag(one, "overflow", now)

    def _reach(self, one: Subscriber) -> None:
        """See whether the feed has come to where ``one`` began."""
        if one.floor <= self.revision:
            one.floor = 0
            del self._ahead[one]
            # What it was given and the feed was not is lost to the feed.
            self._hole = self._hole or bool(one.had)

    def _skip(
        self, one: Subscriber, events: Sequence[WatchEvent], olds: Sequence[KeyValue | None]
    ) -> None:
        for event, old in zip(events, olds, strict=False):
            one.skip(event.kv.key, old, event.kv if event.kind == "put" else None)

    def progressed(self, revision: int) -> bool:
        """Nothing has happened up to ``revision`` that was not told; false when that is not so."""
        if revision > self.revision:
            self.revision = revision
            for each in list(self._ahead):
                self._reach(each)
        return self._is_whole()

    # To a subscriber

    def drained(self, one: Subscriber, now: float) -> None:
        """A subscriber that lagged has taken what it had: tell it the difference to the present."""
        batch = self._catch_up(one.had, one.reason)
        one.had = {}
        one.lagging = False
        one.reason = ""
        self._give(one, Parcel(batch, now))

    def _give(self, one: Subscriber, parcel: Parcel) -> bool:
        if not one.offer(parcel):
            return False
        self.woken[one] = None
        return True

    def _lag(self, one: Subscriber, reason: str, now: float) -> None:
        one.lagging = True
        one.lagging_since = now
        one.reason = reason
        # It may have taken everything a moment ago, and would wait for ever.
        self.woken[one] = None
        self.overflowed.append(one)

    def _all(self, reason: str, now: float) -> Parcel:
        if self._whole is None:
            self._whole = _puts(self.state)
        return Parcel(Batch(self._whole, self.revision, True, reason), now, counted=False)

    def _catch_up(self, had: dict[bytes, KeyValue | None], reason: str) -> Batch:
        """What makes the present of what somebody had."""
        events: list[WatchEvent] = []
        with_prev = self.where.prev
        for key in sorted(had):
            before = had[key]
            kv = self.state.get(key)
            prev = before if with_prev else None
            if kv is not None:
                events.append(WatchEvent("put", kv, prev))
            else:
                gone = KeyValue(key, b"", 0, self.revision, 0)
                events.append(WatchEvent("delete", gone, prev))
        return Batch(tuple(events), self.revision, True, reason)


def _puts(state: State) -> tuple[WatchEvent, ...]:
    return tuple(WatchEvent("put", state[key]) for key in sorted(state))
