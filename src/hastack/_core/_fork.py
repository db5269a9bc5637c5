"""One fork hook for every object that owns a lock."""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class ForkAware(Protocol):
    """Something whose locks must be made anew in a forked child."""

    def _after_fork(self) -> None: ...


# Weak, because `os.register_at_fork` never forgets: a hook per limiter would keep each alive.
_members: weakref.WeakSet[ForkAware] = weakref.WeakSet()


def renew_in_child(member: ForkAware) -> None:
    """Call ``member._after_fork()`` in every child forked while ``member`` is alive."""
    _members.add(member)


def _renew() -> None:
    failed: Exception | None = None
    for member in list(_members):
        try:
            member._after_fork()
        except Exception as error:  # the others need theirs all the same
            failed = failed or error
    if failed is not None:
        raise failed  # out of a fork hook, which prints it


os.register_at_fork(after_in_child=_renew)
