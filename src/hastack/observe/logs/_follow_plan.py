"""What a follower does next, decided from what it sees of a path and of the file it has open.

Rotation comes in five ways: the file is renamed and another made, it is copied and truncated, it
vanishes and comes back, a link is pointed elsewhere, or a combination happens between two looks.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import TYPE_CHECKING, final

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ("MARK", "Found", "Identity", "Step", "chosen", "is_rotated_name", "missed", "next_step")

MARK = 64
"""Bytes before a position by which it is known again; they hold the time of the last line."""


@final
@attrs.frozen
class Identity:
    """Which file it is, whatever its name."""

    device: int
    inode: int


@final
@attrs.frozen
class Found:
    """A file as it is seen under a name."""

    name: str
    identity: Identity
    size: int
    changed: int  # mtime, nanoseconds


class Step(Enum):
    """What to do now."""

    READ = "read"
    WAIT = "wait"
    OPEN = "open"
    TRUNCATED = "truncated"
    REPLACED = "replaced"
    VANISHED = "vanished"


def next_step(
    current: Identity | None, offset: int, size: int, path: Found | None, *, known: bool
) -> Step:
    """The next step for one path.

    Args:
        current: The file that is open; ``None`` without one.
        offset: How far it was read.
        size: How long it is now.
        path: What the path leads to now; ``None`` when to nothing.
        known: The bytes before the last line's end are still what was read there. They are not
            when the file was truncated and has outgrown the old position since.
    """
    if current is None:
        return Step.OPEN if path is not None else Step.WAIT
    if size < offset or not known:
        return Step.TRUNCATED
    if size > offset:
        return Step.READ  # to its end first: what replaces it comes later
    if path is None:
        return Step.VANISHED
    return Step.WAIT if path.identity == current else Step.REPLACED


_WHEN = r"\d[\d.\-_:TZ]*"


def is_rotated_name(name: str, base: str) -> bool:
    """Whether ``name`` is how a rotation may call an older ``base``.

    Example:
        >>> [is_rotated_name(each, "app.log") for each in ("app.log.1", "app-20261009.log")]
        [True, True]
        >>> [is_rotated_name(each, "app.log") for each in ("app.log.gz", "app.log.err", "app.log")]
        [False, False, False]
    """
    stem, dot, suffix = base.rpartition(".")
    ways = [rf"{re.escape(base)}[.\-_]?(?:{_WHEN}|old|bak|prev)"]
    if dot and stem:
        ways.append(rf"{re.escape(stem)}[.\-_]{_WHEN}\.{re.escape(suffix)}")
    return any(re.fullmatch(way, name) for way in ways)


def missed(
    siblings: Iterable[Found],
    *,
    after: int,
    opened: Iterable[Identity],
    known: Iterable[Found],
) -> list[Found]:
    """Files that a path may have led to for a while, between two looks.

    Args:
        siblings: What lies beside the path now.
        after: When the file that the path led to before was written to last.
        opened: What is open; no other file can have its identity.
        known: What lay there before. A file system gives the identity of a deleted file to the
            next one, so a file counts as known only if it has not changed either.
    """
    ours = set(opened)
    seen = {(each.identity, each.changed) for each in known}
    return sorted(
        (
            each
            for each in siblings
            if each.changed > after
            and each.identity not in ours
            and (each.identity, each.changed) not in seen
        ),
        key=lambda each: each.changed,
    )


def chosen(
    siblings: Iterable[Found], identity: Identity, offset: int, marked: Iterable[str]
) -> Found | None:
    """The file that holds a position: the same one under another name, or else a copy of it.

    Args:
        siblings: What lies beside the path, and the path itself.
        identity: The file in which the position was.
        offset: The position.
        marked: Names of those that hold the right bytes before it.
    """
    names = set(marked)
    fitting = [each for each in siblings if each.name in names and each.size >= offset]
    same = [each for each in fitting if each.identity == identity]
    return max(same or fitting, key=lambda each: each.changed, default=None)
