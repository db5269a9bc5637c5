"""How long to wait before the next try, and when to stop trying."""

from __future__ import annotations

import enum
from typing import final


class Stop(enum.Enum):
    """Why no further try is made; the value reads well in a note."""

    ATTEMPTS = "all attempts used"
    DEADLINE = "the next try would start after the deadline"
    TOO_LATE = "the service asked to wait longer than max_retry_after"
    BUDGET = "the shared retry budget is used up"
    ENDED = "the context ended"


@final
class Backoff:
    """Exponential backoff with full jitter, bounded by attempts and by the time that is left.

    Full jitter draws each delay evenly from zero to ``base * factor**n``, which spreads clients
    that failed together better than a random part on top of a fixed one: Marc Brooker,
    "Exponential Backoff and Jitter", AWS Architecture Blog, 2015.
    """

    __slots__ = ("attempts", "base", "cap", "factor", "jitter", "max_retry_after")

    def __init__(
        self,
        *,
        attempts: int,
        base: float,
        cap: float,
        factor: float,
        jitter: bool,
        max_retry_after: float,
    ) -> None:
        self.attempts = attempts
        self.base = base
        self.cap = cap
        self.factor = factor
        self.jitter = jitter
        self.max_retry_after = max_retry_after

    def ceiling(self, tries: int) -> float:
        """The longest delay after ``tries`` failed tries, in seconds."""
        try:
            return min(self.cap, self.base * self.factor ** (tries - 1))
        except OverflowError:
            return self.cap

    def next_delay(
        self, tries: int, *, drawn: float, retry_after: float | None, remaining: float | None
    ) -> float | Stop:
        """Seconds to wait after ``tries`` failed tries, or why to stop.

        Args:
            tries: Tries made so far, at least 1.
            drawn: A random number in [0, 1).
            retry_after: Seconds that the other side asked for. The delay is never shorter, and
                the jitter comes on top: all who got the same answer should not come back at once.
            remaining: Seconds until the deadline; ``None`` when there is none.
        """
        if tries >= self.attempts:
            return Stop.ATTEMPTS
        delay = self.ceiling(tries)
        if self.jitter:
            delay *= drawn
        if retry_after is not None:
            if retry_after > self.max_retry_after:
                return Stop.TOO_LATE
            delay += retry_after
        if remaining is not None and delay >= remaining:
            return Stop.DEADLINE
        return delay
