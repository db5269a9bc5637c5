"""What passes between the watch core and its shell: answers in, commands out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

import attrs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hastack.discovery._records import KeyValue, WatchEvent

    from ._watch_subscriber import Subscriber

__all__ = (
    "Answer",
    "AskProgress",
    "CancelWatch",
    "Command",
    "CreateWatch",
    "CutStream",
    "Failure",
    "ForgetListing",
    "ListRange",
    "Listing",
    "OpenStream",
    "Overflowed",
    "Range",
    "Resynced",
    "State",
    "Version",
    "Wake",
)

State: TypeAlias = "dict[bytes, KeyValue]"
Version: TypeAlias = tuple[int, int, int]


@attrs.frozen
class Range:
    """What is watched: one key, or all keys in ``[key, end)``.

    With ``prev`` changes carry what the key held before; the server is not asked for it.
    """

    key: bytes
    end: bytes | None
    prev: bool = False


# From the server


@attrs.frozen
class Answer:
    """One message of the watch stream.

    Attributes:
        watch_id: Whose it is; -1 for all watches of the stream.
        cluster: Identity of the cluster.
        revision: The store's newest revision. With events, it is ahead of them.
        term: The Raft term.
        events: Changes, in order.
        created: The watch begins.
        canceled: The watch has ended.
        fragment: More of the same changes follows.
        compact_revision: Set when the watch ended because its history is gone.
        reason: Why the watch ended.
    """

    watch_id: int
    cluster: int
    revision: int
    term: int = 0
    events: Sequence[WatchEvent] = ()
    created: bool = False
    canceled: bool = False
    fragment: bool = False
    compact_revision: int = 0
    reason: str = ""


@attrs.frozen
class Listing:
    """What a range holds.

    Attributes:
        state: The keys, or those of them that changed since the revision that was asked for.
        count: How many keys there are, whatever was left out.
        revision: What it is the state of.
        cluster: Identity of the cluster.
        term: The Raft term.
    """

    state: State
    count: int
    revision: int
    cluster: int
    term: int = 0


Failure: TypeAlias = Literal["compacted", "future", "final"]
"""Why a listing failed: its revision is gone, is yet to come, or asking again will not help."""


# To the server


@attrs.frozen
class CreateWatch:
    """Begin a watch on the stream, with the changes of revision ``start``."""

    watch_id: int
    where: Range
    start: int


@attrs.frozen
class CancelWatch:
    """End a watch of the stream."""

    watch_id: int


@attrs.frozen
class AskProgress:
    """Ask how far all watches of the stream have come."""


@attrs.frozen
class ListRange:
    """List a range, linearizably, for as long as it takes.

    Attributes:
        ticket: To be given back with the answer.
        where: What to list.
        revision: The state of which revision; 0 for now.
        since: Leave out what has not changed after this revision.
    """

    ticket: int
    where: Range
    revision: int = 0
    since: int = 0


@attrs.frozen
class ForgetListing:
    """The answer to a listing is not wanted any more."""

    ticket: int


@attrs.frozen
class OpenStream:
    """Open a stream, for as long as it takes."""


@attrs.frozen
class CutStream:
    """End the stream, or the opening of one.

    Attributes:
        why: For people; empty when nobody needs it any more.
        silent: It was given up because nothing came: another endpoint may do better.
    """

    why: str = ""
    silent: bool = False


# To the subscribers


@attrs.frozen
class Wake:
    """There is something new for these."""

    subscribers: Sequence[Subscriber]


@attrs.frozen
class Resynced:
    """For those who observe: a range was listed anew, and what came of it."""

    where: Range
    reason: str
    changes: int
    revision: int


@attrs.frozen
class Overflowed:
    """For those who observe: this subscriber is behind by more than its buffer."""

    subscriber: Subscriber


Command: TypeAlias = (
    CreateWatch
    | CancelWatch
    | AskProgress
    | ListRange
    | ForgetListing
    | OpenStream
    | CutStream
    | Wake
    | Resynced
    | Overflowed
)
