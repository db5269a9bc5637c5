"""Whether many deletions at once are believed: self-preservation, as in Eureka.

An instance that is gone from the list may be gone, or its cluster may have lost sight of it: a
store that came back with an old backup or with expired leases looks exactly like a service that
was switched off. What tells them apart is whether the origin was in good health while it happened,
that is, whether it has been watched without a break.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ("EvictionGuard",)


@final
class EvictionGuard:
    """Holds deletions back while an origin is in doubt and a large share of it vanishes.

    An origin is *in doubt* while it is out of reach and for ``window`` seconds after it came
    back; so is one that was never watched before. While in doubt, up to ``share`` of its
    instances may go. When more do, eviction *freezes*: that batch and all later deletions are
    held. It thaws when the doubt ends, a whole window without a break, or as soon as so many
    have come back that no more than ``share`` are missing, or by `thaw`. What is still gone then
    is gone.

    Args:
        share: Of the instances known when the doubt began to cost the first one, in (0, 1].
        window: Seconds.
        least: So many must vanish at least: of three instances, one is a third.
    """

    __slots__ = ("_base", "_doubt_ends", "_gone", "_least", "_share", "_window", "frozen")

    def __init__(self, *, share: float = 0.15, window: float = 30.0, least: int = 5) -> None:
        self._share = share
        self._window = window
        self._least = least
        self._doubt_ends: float | None = None
        self._base = 0
        self._gone: set[bytes] = set()
        self.frozen = False

    @property
    def missing(self) -> int:
        """Instances that have vanished since the doubt began and have not come back."""
        return len(self._gone)

    @property
    def thaws_at(self) -> float | None:
        """When the doubt ends if nothing more happens; ``None`` when there is none."""
        return self._doubt_ends

    def interrupted(self, now: float) -> None:
        """The origin is out of reach now, or was until now."""
        self._doubt_ends = now + self._window

    def look(self, now: float) -> bool:
        """Let time pass; whether this ended a freeze."""
        if self._doubt_ends is None or now < self._doubt_ends:
            return False
        self._doubt_ends = None
        return self.thaw()

    def thaw(self) -> bool:
        """Believe everything so far; whether that ended a freeze."""
        was_frozen, self.frozen = self.frozen, False
        self._gone.clear()
        return was_frozen

    def vanish(self, keys: Iterable[bytes], population: int, now: float) -> bool:
        """These are gone from the origin's list; whether they must be held.

        Args:
            keys: Those that vanish together.
            population: Instances known before that.
            now: Monotonic time in seconds.
        """
        if self._doubt_ends is None or now >= self._doubt_ends:
            return self.frozen
        if not self._gone:
            self._base = population
        self._gone.update(keys)
        self.frozen = self.frozen or self._too_many()
        return self.frozen

    def came_back(self, keys: Iterable[bytes]) -> bool:
        """These are there again; whether that ended a freeze."""
        self._gone.difference_update(keys)
        if not self.frozen or self._too_many():
            return False
        self.frozen = False
        return True

    def _too_many(self) -> bool:
        gone = len(self._gone)
        return gone >= self._least and gone > self._share * self._base
