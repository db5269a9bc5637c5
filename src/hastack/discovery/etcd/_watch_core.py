"""All watches of a client on one stream: which are on it, from where they go on, what to list.

The core is told what happened (`attach`, `opened`, `received`, `listed`, `lost`, `tick` ...) and
appends what is to be done to `commands`; the shell in ``_watch`` does it. A feed goes through these
phases::

    unknown ──listed──> ready ──stream──> creating ──created──> live
                          ^                                       │ stream lost: ready
                          └────listed──── relisting <─────────────┘ history gone, or with a hole

Rules that keep every change from being lost or told twice:

- A watch goes on at the revision of the last change that was told, inclusive, and what is known is
  left out. Neither a header's revision nor that of ``created`` ever moves it. The change that comes
  again shows that this is still the same history.
- Progress notifications move it only on servers that are known not to send them ahead of changes
  (from 3.4.31 and 3.5.13 on; etcd 15220).
- A history that begins with another past is another one. Where the last change was a put, the
  watch itself shows that; where it was none, a listing of the last revision does: it has to hold
  as many keys, and the newest of them.
- Whatever cannot be true (a change that does not follow from the state, a late one, a cluster that
  is another one, a revision smaller than known) ends in a listing, whose difference is exact.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Literal, TypeAlias, final

from hastack._core._errors import NotAuthorized

from ._watch_feed import Feed
from ._watch_fragments import Fragments
from ._watch_liveness import Liveness, Look
from ._watch_records import (
    AskProgress,
    CancelWatch,
    CreateWatch,
    CutStream,
    ForgetListing,
    ListRange,
    OpenStream,
    Overflowed,
    Resynced,
    Wake,
)

if TYPE_CHECKING:
    from ._watch_records import Answer, Command, Failure, Listing, Range, State, Version
    from ._watch_subscriber import Subscriber

__all__ = ("WatchCore", "is_fixed")

Purpose: TypeAlias = Literal["base", "resync", "join", "whole", "verify"]

_ALL = -1  # the watch id of answers that concern the whole stream
_DENIALS = 3  # refused so often on fresh streams, a watch is not permitted
_RETRY = (0.1, 0.5, 2.0, 5.0)  # seconds until a watch that the server ended is asked for again

# From which version on the bugs are fixed, by minor; whatever is newer has them fixed.
_PROGRESS = {(3, 4): 31, (3, 5): 13}
_COMPACTED_DELETE = {(3, 4): 36, (3, 5): 18}


def is_fixed(version: Version | None, fixes: dict[tuple[int, int], int]) -> bool:
    """Whether a server of this version has a fix; one of unknown version has not."""
    if version is None or version[:2] < (3, 4):
        return False
    return version[2] >= fixes.get(version[:2], 0)


@final
class _Stream:
    """What is known of the stream that is open."""

    __slots__ = ("denied", "fragments", "ids", "last_id", "liveness", "pending", "version")

    def __init__(self, liveness: Liveness) -> None:
        self.ids: dict[int, Feed] = {}
        self.last_id = 0
        self.pending: deque[int] = deque()  # watches asked for, in order: so they are answered
        self.fragments = Fragments()
        self.liveness = liveness
        self.version: Version | None = None
        self.denied: deque[Feed] = deque()


@final
class _Asked:
    """A listing under way."""

    __slots__ = ("at", "count", "feed", "newest", "purpose", "revision")

    def __init__(self, feed: Feed, purpose: Purpose, at: float) -> None:
        self.feed = feed
        self.purpose: Purpose = purpose
        self.at = at
        self.revision = feed.revision
        self.newest: State = {}  # what is to be found, and how many keys
        self.count = 0


@final
class WatchCore:
    """Decides for all watches of one client.

    Args:
        interval: Seconds between two questions for progress.
        deadline: Seconds after a question within which the stream has to say anything.

    Attributes:
        commands: What the shell is to do next; it takes them out.
    """

    def __init__(self, *, interval: float = 5.0, deadline: float = 5.0) -> None:
        self.commands: deque[Command] = deque()
        self._interval = interval
        self._deadline = deadline
        self._shared: dict[Range, Feed] = {}
        self._feeds: dict[Feed, None] = {}
        self._listings: dict[int, _Asked] = {}
        self._retrying: dict[Feed, None] = {}
        self._last_ticket = 0
        self._stream: _Stream | None = None
        self._opening = False

    @property
    def watches(self) -> int:
        """Ranges that are watched."""
        return len(self._feeds)

    # Subscribers

    def attach(self, one: Subscriber, now: float) -> None:
        """Somebody begins to watch."""
        feed = self._shared.get(one.where) if one.start is None else None
        if feed is None:
            feed = Feed(one.where, one.start, now)
            self._feeds[feed] = None
            if one.start is None:
                self._shared[one.where] = feed
        one.join(feed, now)
        if one.start == 1:  # there is nothing that it has already
            feed.admit(one)
            feed.phase = "ready"
            self._create(feed, now)
        self._next_listing(feed, now)
        if self._stream is None and not self._opening:
            self._open()

    def detach(self, one: Subscriber, now: float) -> None:
        """Somebody watches no more."""
        feed = one.feed
        if feed is None:
            return
        one.leave()
        if feed.leave(one):
            self._drop(feed)
            self._check_denied(now)

    def _drop(self, feed: Feed) -> None:
        self._forget(feed)
        self._off_stream(feed)
        self._retrying.pop(feed, None)
        del self._feeds[feed]
        if self._shared.get(feed.where) is feed:
            del self._shared[feed.where]
        if not self._feeds:
            self._stream = None
            self._opening = False
            self.commands.append(CutStream())

    def drained(self, one: Subscriber, now: float) -> None:
        """A subscriber that lagged has taken everything that it had."""
        feed = one.feed
        # While the feed is listed anew its state is old; the listing's difference comes on top.
        if feed is not None and one.lagging:
            feed.drained(one, now)
            self._collect(feed)

    def fail_all(self, error: Exception) -> None:
        """Nobody can be told anything any more, for this reason."""
        for feed in list(self._feeds):
            self._fail(feed, [*feed.subscribers, *feed.joining], error)

    def _fail(self, feed: Feed, whom: list[Subscriber], error: Exception) -> None:
        if not whom:
            return
        for each in whom:
            each.error = error
            each.leave()
            feed.leave(each)
        self.commands.append(Wake(whom))
        if not (feed.subscribers or feed.joining):
            self._drop(feed)

    # Listings

    def _list(
        self, feed: Feed, purpose: Purpose, now: float, *, revision: int = 0, since: int = 0
    ) -> None:
        self._last_ticket = ticket = self._last_ticket + 1
        feed.ticket = ticket
        self._listings[ticket] = asked = _Asked(feed, purpose, now)
        if purpose == "verify":
            asked.newest, asked.count = feed.newest(), len(feed.state)
            since = next((kv.mod_revision - 1 for kv in asked.newest.values()), 0)
        self.commands.append(ListRange(ticket, feed.where, revision, since))

    def _forget(self, feed: Feed) -> None:
        if feed.ticket:
            del self._listings[feed.ticket]
            self.commands.append(ForgetListing(feed.ticket))
            feed.ticket = 0

    def _next_listing(self, feed: Feed, now: float) -> None:
        """Have a listing made: for the feed itself, or for those who wait for one.

        Only while a stream is open, and the answer counts only as long as it is: a store that
        was restored in between would be noticed on neither side.
        """
        if feed.ticket or self._stream is None:
            return
        feed.asking = tuple(feed.joining)
        if feed.phase == "unknown":
            self._list(feed, "base", now, revision=feed.base_revision())
        elif feed.phase == "relisting":
            self._list(feed, "resync", now)
        elif feed.unverified:
            feed.asking = ()
            self._list(feed, "verify", now, revision=feed.revision)
        elif feed.joining and feed.is_confirmed:
            self._list(feed, "join", now, since=feed.revision)

    def _relist(self, feed: Feed, reason: str, now: float) -> None:
        """The history cannot go on: find out what is there."""
        self._forget(feed)
        self._off_stream(feed)
        feed.phase = "relisting"
        feed.unverified = False
        feed.reason = reason
        self._next_listing(feed, now)

    def _check(self, feed: Feed, now: float) -> None:
        """Have the history compared with what is known; every listing does that."""
        if not feed.ticket:
            feed.asking = ()
            self._list(feed, "join", now, since=feed.revision)

    def listed(self, ticket: int, listing: Listing, now: float) -> None:
        """A listing has come."""
        asked = self._listings.pop(ticket, None)
        if asked is None:
            return
        feed, purpose = asked.feed, asked.purpose
        feed.ticket = 0
        another = bool(feed.cluster) and (
            listing.cluster != feed.cluster or listing.revision < asked.revision
        )
        newcomers = [each for each in feed.asking if each in feed.joining]
        if purpose == "base":
            self._based(feed, listing, newcomers, asked.at, now)
        elif purpose == "resync":
            reason = "restored" if another else feed.reason
            changes = feed.replace(listing, reason, now)
            self.commands.append(Resynced(feed.where, reason, changes, listing.revision))
            feed.welcome(newcomers, "snapshot", now)
            self._known_anew(feed, asked.at, now)
        elif another:
            self._relist(feed, "restored", now)
        elif purpose == "verify":
            feed.unverified = False
            if listing.count != asked.count or listing.state != asked.newest:
                self._relist(feed, "gap", now)
        elif purpose == "whole":
            feed.join_whole(listing, newcomers, now)
        elif not feed.join(listing, newcomers, now) and newcomers:
            feed.asking = tuple(feed.joining)
            self._list(feed, "whole", now)
        self._collect(feed)
        if feed.phase == "denied" and not feed.ticket:
            self._cut("its token is not accepted any more", now)
        self._next_listing(feed, now)
        self._check_denied(now)

    def _based(
        self, feed: Feed, listing: Listing, newcomers: list[Subscriber], asked_at: float, now: float
    ) -> None:
        """The first listing has come: of now, or of what was before the start."""
        if feed.quiet_until and listing.revision > feed.quiet_until:
            feed.quiet_until = 0  # what was yet to come has come meanwhile
            return
        feed.learn(listing)
        if feed.start is None:
            feed.welcome(newcomers, "snapshot", now)
        elif feed.truncated:
            feed.welcome(newcomers, "compacted", now)
        else:
            for each in newcomers:
                feed.admit(each)
            if not feed.quiet_until:
                feed.phase = "ready"
                self._create(feed, now)
                return
        self._known_anew(feed, asked_at, now)

    def _known_anew(self, feed: Feed, asked_at: float, now: float) -> None:
        """What a feed holds was listed a moment ago."""
        feed.current_at = asked_at
        feed.begin_at = "after"
        feed.phase = "ready"
        self._create(feed, now)

    def listing_failed(self, ticket: int, failure: Failure, error: Exception, now: float) -> None:
        """A listing will not come."""
        asked = self._listings.pop(ticket, None)
        if asked is None:
            return
        feed = asked.feed
        feed.ticket = 0
        if asked.purpose == "base" and feed.start is not None and failure != "final":
            feed.truncated = failure == "compacted"
            feed.quiet_until = 0 if feed.truncated else feed.start - 1
            self._next_listing(feed, now)
            return
        feed.unverified = False
        if asked.purpose == "verify" and failure != "final":
            self._relist(feed, "compacted" if failure == "compacted" else "restored", now)
        elif asked.purpose in {"base", "resync"} or feed.phase == "denied":
            self._fail(feed, [*feed.subscribers, *feed.joining], error)
        else:
            self._fail(feed, [each for each in feed.asking if each in feed.joining], error)
            self._next_listing(feed, now)
        self._check_denied(now)

    # The stream

    def _open(self) -> None:
        self._opening = True
        self.commands.append(OpenStream())

    def opened(self, now: float) -> None:
        """The stream that was asked for is open."""
        self._opening = False
        self._stream = _Stream(Liveness(self._interval, self._deadline, now))
        self._retrying.clear()
        for feed in self._feeds:
            feed.retry_at = None
            self._create(feed, now)
            self._next_listing(feed, now)

    def serves(self, version: Version) -> None:
        """The server at the other end of the open stream has this version."""
        if self._stream is not None:
            self._stream.version = version

    def lost(self, now: float) -> None:
        """The stream has ended."""
        self._stream = None
        for feed in self._feeds:
            self._forget(feed)
            feed.watch_id = 0
            if feed.phase in {"creating", "live", "denied"}:
                feed.phase = "ready"
            if feed.is_behind:
                # What somebody was given ahead of it may be another history's by now.
                feed.phase = "relisting"
                feed.reason = "gap"
        if self._feeds and not self._opening:
            self._open()

    def _cut(self, why: str, now: float, *, silent: bool = False) -> None:
        self.commands.append(CutStream(why, silent))
        self.lost(now)

    def _create(self, feed: Feed, now: float) -> None:
        """Put a feed on the stream, if there is one and the feed can be."""
        stream = self._stream
        if stream is None or feed.phase != "ready" or feed.retry_at is not None:
            return
        stream.last_id = watch_id = stream.last_id + 1
        stream.ids[watch_id] = feed
        stream.pending.append(watch_id)
        stream.liveness.asked(now)
        feed.watch_id = watch_id
        feed.phase = "creating"
        self.commands.append(CreateWatch(watch_id, feed.where, feed.next_start()))
        self._next_listing(feed, now)

    def _off_stream(self, feed: Feed) -> None:
        """End the watch of a feed that goes on otherwise."""
        if feed.watch_id and self._stream is not None:
            del self._stream.ids[feed.watch_id]
            self._stream.fragments.drop(feed.watch_id)
            self.commands.append(CancelWatch(feed.watch_id))
        feed.watch_id = 0

    def received(self, answer: Answer, now: float) -> None:
        """Something came on the stream."""
        stream = self._stream
        if stream is None:
            return
        stream.liveness.heard()
        if answer.created:
            # Refused, a watch has no id: it is known by its turn.
            watch_id = stream.pending.popleft() if stream.pending else answer.watch_id
            feed = stream.ids.get(watch_id)
            if feed is None:
                return  # nobody wants it any more
            if answer.canceled:
                self._ended(stream, feed, answer, now)
            else:
                self._created(stream, feed, answer, now)
        elif answer.watch_id == _ALL and not answer.canceled:
            for feed in list(stream.ids.values()):
                self._progressed(stream, feed, answer, now)
        else:
            feed = stream.ids.get(answer.watch_id)
            if feed is None:
                return
            if answer.canceled:
                self._ended(stream, feed, answer, now)
            elif answer.events:
                self._changed(stream, feed, answer, now)

    def _created(self, stream: _Stream, feed: Feed, answer: Answer, now: float) -> None:
        feed.phase = "live"
        feed.created_at = now
        feed.denials = 0
        if feed.cluster and answer.cluster != feed.cluster:
            self._relist(feed, "restored", now)
        elif feed.term and answer.term < feed.term:
            # Terms only grow, unless the cluster is another one or this member is not yet up to
            # date. Seldom enough to be sure.
            self._relist(feed, "gap", now)
        elif answer.revision < feed.revision:
            self._check(feed, now)
        elif answer.revision > feed.revision and not is_fixed(stream.version, _COMPACTED_DELETE):
            # If the store is compacted right where the server reads on, it leaves deletions out.
            feed.suspect = True
            if feed.began_after:
                self._off_stream(feed)
                feed.begin_at = "from"
                feed.phase = "ready"
                self._create(feed, now)
        feed.cluster = answer.cluster
        feed.term = answer.term
        self._next_listing(feed, now)

    def _changed(self, stream: _Stream, feed: Feed, answer: Answer, now: float) -> None:
        events = stream.fragments.take(feed.watch_id, answer.events, more=answer.fragment)
        if not events:
            return
        whole = feed.advance(events, now)
        if whole and not answer.fragment and events[-1].kv.mod_revision == answer.revision:
            feed.current_at = now
            self._caught_up(feed)
        self._collect(feed)
        if not whole:
            self._relist(feed, "gap", now)
        elif feed.joining or feed.unverified:
            self._next_listing(feed, now)

    def _caught_up(self, feed: Feed) -> None:
        feed.failures = 0
        if feed.suspect:
            feed.suspect = False
            feed.unverified = True

    def _progressed(self, stream: _Stream, feed: Feed, answer: Answer, now: float) -> None:
        """The server says that everything up to a revision was told."""
        asked_at = stream.liveness.asked_at
        if feed.phase != "live" or feed.created_at > asked_at or feed.watch_id in stream.fragments:
            return
        if answer.revision < feed.revision:
            self._check(feed, now)
            return
        believed = is_fixed(stream.version, _PROGRESS)
        if not believed and asked_at - feed.created_at < self._interval:
            return  # it may still be catching up, whatever the server says
        whole = not feed.expecting  # the mark should have come by now
        if whole:
            feed.current_at = asked_at
            self._caught_up(feed)
            if believed:
                whole = feed.progressed(answer.revision)
            self._next_listing(feed, now)
        if not whole:
            self._relist(feed, "gap", now)

    def _ended(self, stream: _Stream, feed: Feed, answer: Answer, now: float) -> None:
        """The server ended a watch, or refused it."""
        del stream.ids[feed.watch_id]
        stream.fragments.drop(feed.watch_id)
        feed.watch_id = 0
        if answer.compact_revision or "compacted" in answer.reason:
            if feed.expecting and feed.mark_is_older:
                feed.begin_at = "from"
                feed.phase = "ready"
                self._create(feed, now)
            else:
                self._relist(feed, "compacted", now)
        elif _is_denial(answer.reason):
            self._refused(stream, feed, answer.reason, now)
        else:
            feed.phase = "ready"
            feed.retry_at = now + _RETRY[min(feed.failures, len(_RETRY) - 1)]
            self._retrying[feed] = None
            feed.failures += 1

    # Permission

    def _refused(self, stream: _Stream, feed: Feed, reason: str, now: float) -> None:
        """Not permitted, says the server: to this user, or only to a token that is too old.

        A stream's token is that of its beginning. A listing, which gets a new token where it
        needs one, finds out which it is.
        """
        feed.denials += 1
        if feed.denials >= _DENIALS:
            error = NotAuthorized(reason, code="PERMISSION_DENIED")
            self._fail(feed, [*feed.subscribers, *feed.joining], error)
            return
        feed.phase = "denied"
        stream.denied.append(feed)
        self._check_denied(now)

    def _check_denied(self, now: float) -> None:
        """See about the first watch that was refused; the others were for the same reason."""
        denied = self._stream.denied if self._stream is not None else ()
        while denied:
            if denied[0] in self._feeds and denied[0].phase == "denied":
                self._check(denied[0], now)
                return
            denied.popleft()

    # Time

    def tick(self, now: float) -> None:
        """See what is due."""
        for feed in [f for f in self._retrying if f.retry_at is None or f.retry_at <= now]:
            del self._retrying[feed]
            feed.retry_at = None
            self._create(feed, now)
        stream = self._stream
        if stream is None or not stream.ids:
            return
        look = stream.liveness.look(now)
        if look is Look.ASK:
            self.commands.append(AskProgress())
        elif look is Look.DEAD:
            self._cut(f"nothing came within {self._deadline:g} s", now, silent=True)

    def due(self) -> float | None:
        """When to call `tick` next; ``None`` when nothing is due."""
        times = [feed.retry_at for feed in self._retrying if feed.retry_at is not None]
        if self._stream is not None and self._stream.ids:
            times.append(self._stream.liveness.due())
        return min(times, default=None)

    def _collect(self, feed: Feed) -> None:
        """Pass on what a feed has for its subscribers."""
        if feed.woken:
            self.commands.append(Wake(tuple(feed.woken)))
            feed.woken = {}
        if feed.overflowed:
            self.commands.extend(map(Overflowed, feed.overflowed))
            feed.overflowed = []


def _is_denial(reason: str) -> bool:
    return any(word in reason for word in ("permission denied", "auth", "user name"))
