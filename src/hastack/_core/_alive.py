"""What hastack objects this process holds, for whoever wants to show them.

Held weakly: being found keeps nothing alive. Objects that own a lock are known already, because
a forked child has to give them another; the rest says so here when it is made.
"""

from __future__ import annotations

import weakref
from typing import Any

from . import _fork

__all__ = ("alive", "track")

_tracked: weakref.WeakSet[Any] = weakref.WeakSet()


def track(thing: object) -> None:
    """Have ``thing`` found by `alive` for as long as it lives."""
    _tracked.add(thing)


def alive() -> list[Any]:
    """Everything that is known and alive, in no order."""
    return [*_listed(_fork._members), *_listed(_tracked)]


def _listed(things: weakref.WeakSet[Any]) -> list[Any]:
    # Another thread may add while we look; a set says so instead of showing it. Nobody adds so
    # fast that this fails again and again, and to miss one look is no harm.
    for _ in range(10):
        try:
            return list(things)
        except RuntimeError:
            continue
    return []
