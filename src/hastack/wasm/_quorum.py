"""Whether those who signed are enough: n of m by role, each person counted once."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ("chosen",)


def chosen(valid: Sequence[tuple[str, str]], require: Mapping[str, int]) -> dict[str, str] | None:
    """Who fills which role, or ``None`` when some role stays short.

    A person with keys for two roles fills one of them: whoever writes does not review as well.

    Args:
        valid: Identity and role of each key that has signed.
        require: How many persons each role takes.

    Returns:
        Role by identity, for those who are needed.
    """
    roles: dict[str, set[str]] = {}
    for identity, role in valid:
        roles.setdefault(identity, set()).add(role)
    places = [role for role, count in sorted(require.items()) for _ in range(count)]
    holder: list[str | None] = [None] * len(places)
    # Augmenting paths: a person who holds a place moves to another one when somebody needs it.
    for identity in sorted(roles):
        _seat(identity, roles, places, holder, set())
    if None in holder:
        return None
    return {person: role for person, role in zip(holder, places, strict=True) if person}


def _seat(
    identity: str,
    roles: Mapping[str, set[str]],
    places: list[str],
    holder: list[str | None],
    tried: set[int],
) -> bool:
    for place, role in enumerate(places):
        if role not in roles[identity] or place in tried:
            continue
        tried.add(place)
        current = holder[place]
        if current is None or _seat(current, roles, places, holder, tried):
            holder[place] = identity
            return True
    return False
