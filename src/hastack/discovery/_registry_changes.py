"""What a subscriber is told about a service, and what is kept for one that is slow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, final

import attrs

from ._instance import Instance  # noqa: TC001  # attrs.resolve_types() wants it here

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ("Change", "Pending", "difference")


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
