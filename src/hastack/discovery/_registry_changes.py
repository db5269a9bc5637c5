"""What a subscriber is told about a service, and what is kept for one that is slow."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final, Literal, final

import attrs

from ._instance import Instance  # noqa: TC001  # attrs.resolve_types() wants it here

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ._registry_feed import Known

__all__ = ("Change", "ChangeLog", "Entry", "Pending", "difference")

KEPT: Final = 256
"""Steps that a log keeps for those who lag; beyond, they get the difference."""


@final
@attrs.frozen(kw_only=True)
class Change:
    """One instance of a service came, changed or went.

    Attributes:
        kind: ``"added"``, ``"updated"`` or ``"removed"``.
        instance: The instance as it is now; of one removed, as it was last.
        previous: Of an update, the instance as this subscriber knew it before.
        revision: The store's revision at which the view became so.
    """

    kind: Literal["added", "updated", "removed"]
    instance: Instance
    previous: Instance | None = None
    revision: int = 0


@final
class Pending:
    """Changes that a subscriber has not taken yet: per instance, the one that leads to the present.

    However slow the subscriber, it holds at most one change per instance that it knows or that
    there is; one that came and went unseen leaves nothing behind.
    """

    __slots__ = ("_changes",)

    def __init__(self, known: Iterable[Instance] = (), *, revision: int = 0) -> None:
        self._changes: dict[str, Change] = {
            each.id: Change(kind="added", instance=each, revision=revision) for each in known
        }

    def __len__(self) -> int:
        return len(self._changes)

    def push(self, change: Change) -> None:
        """Add what happened next."""
        changes, key = self._changes, change.instance.id
        before = changes.pop(key, None) if changes else None
        merged = change if before is None else _together(before, change)
        if merged is not None:
            changes[key] = merged

    def take(self) -> Change | None:
        """The one that has waited longest; ``None`` when there is none."""
        changes = self._changes
        return changes.pop(next(iter(changes))) if changes else None

    def take_all(self) -> tuple[Change, ...]:
        """All of them, in order."""
        found = tuple(self._changes.values())
        self._changes.clear()
        return found


def _together(first: Change, then: Change) -> Change | None:
    """The two as one, from what the subscriber knows to what is."""
    if first.kind == "added":
        if then.kind == "removed":
            return None
        return Change(kind="added", instance=then.instance, revision=then.revision)
    known = first.previous if first.kind == "updated" else first.instance
    assert known is not None
    if then.kind == "removed":
        return Change(kind="removed", instance=known, revision=then.revision)
    if then.instance == known:
        return None
    return Change(kind="updated", instance=then.instance, previous=known, revision=then.revision)


def difference(
    before: Iterable[Instance], after: Iterable[Instance], *, revision: int
) -> tuple[Change, ...]:
    """What leads from one set of instances to another."""
    known = {each.id: each for each in before}
    changes: list[Change] = []
    for each in after:
        previous = known.pop(each.id, None)
        if previous is None:
            changes.append(Change(kind="added", instance=each, revision=revision))
        elif previous != each:
            changes.append(
                Change(kind="updated", instance=each, previous=previous, revision=revision)
            )
    changes += [Change(kind="removed", instance=each, revision=revision) for each in known.values()]
    return tuple(changes)


@final
class Entry:
    """One step of a service: what changed, what is known since, and the step that came next."""

    __slots__ = ("changes", "known", "next")

    def __init__(self, changes: tuple[Change, ...], known: Known) -> None:
        self.changes = changes
        self.known = known
        self.next: Entry | _Cut | None = None


class _Cut:
    """Stands for the next step where that is not kept any more."""


_CUT: Final = _Cut()


@final
class ChangeLog:
    """What was told of one service lately, once for all subscribers.

    Each subscriber keeps its place and reads on from there, so a change costs the feed the same
    however many there are. Steps are linked, not numbered, so they can be read in any thread while
    the feed's appends. Whoever never reads keeps nothing alive but the step at which it stands.

    Attributes:
        last: The newest step.
    """

    __slots__ = ("_recent", "last")

    def __init__(self, known: Known) -> None:
        self.last = Entry((), known)
        self._recent: deque[Entry] = deque()

    def append(self, changes: tuple[Change, ...], known: Known) -> None:
        """Add what happened next."""
        before, self.last = self.last, Entry(changes, known)
        before.next = self.last
        self._recent.append(before)
        if len(self._recent) > KEPT:
            self._recent.popleft().next = _CUT

    def single(self, at: Entry) -> Entry | None:
        """The step after ``at``, if it is the last one and holds one change."""
        then = self.last
        return then if at.next is then and len(then.changes) == 1 else None

    def read(self, at: Entry, pending: Pending) -> Entry:
        """Add to ``pending`` what came after ``at``; the answer is where to read on."""
        while (then := at.next) is not None:
            if isinstance(then, Entry):
                changes, at = then.changes, then
            else:
                before, at = at.known.instances, self.last
                now = at.known
                changes = difference(before, now.instances, revision=now.revision)
            for change in changes:
                pending.push(change)
        return at
