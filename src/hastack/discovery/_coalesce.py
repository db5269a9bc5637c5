"""When a change of a key may go on: the first at once, later ones of a flapping key bundled.

Leading edge, then trailing edge: after a change went through, the next ones of that key wait until
``window`` seconds have passed since, and then the newest of them goes. What must not wait is not
asked about here: deletions, and instances that come anew.
"""

from __future__ import annotations

from typing import final

__all__ = ("Coalescer",)


@final
class Coalescer:
    """Remembers when each key was last let through, for as long as that matters.

    Args:
        window: Seconds between two changes of one key; 0 lets everything through.
        capacity: Keys to remember. Beyond that the oldest is forgotten, and the next change of
            that key goes through at once: more is written then, never less.
    """

    __slots__ = ("_capacity", "_passed", "_window")

    def __init__(self, window: float, *, capacity: int = 100_000) -> None:
        self._window = window
        self._capacity = capacity
        self._passed: dict[bytes, float] = {}  # oldest first: times only grow

    def __len__(self) -> int:
        return len(self._passed)

    def due(self, key: bytes, now: float) -> float:
        """When a change of ``key`` that arrives now may go through; never before ``now``."""
        passed = self._passed.get(key)
        if passed is None:
            return now
        # A clock that was set back must not make anybody wait for longer than a window.
        return max(now, min(passed, now) + self._window)

    def passed(self, key: bytes, now: float) -> None:
        """A change of ``key`` went through."""
        if self._window <= 0.0:
            return
        known = self._passed
        known.pop(key, None)
        known[key] = now
        self._forget(now)

    def _forget(self, now: float) -> None:
        known = self._passed
        horizon = now - self._window
        while known:
            oldest = next(iter(known))
            if known[oldest] > horizon and len(known) <= self._capacity:
                break
            del known[oldest]
