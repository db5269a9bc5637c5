"""What a limiter answers."""

from __future__ import annotations

from typing import final


@final
class Decision:
    """The answer to one `try_acquire` or `peek`; truthy when allowed.

    Limiters make them; `decision` makes one by hand.

    Attributes:
        allowed: Whether the call may go ahead.
        level: Permits left for this key right now, fractions included.
        retry_after: Seconds until the same cost would be allowed; 0.0 when allowed. A
            concurrency limit cannot know it and says 0.0 as well.
        reset_after: Seconds until the key is back at its full allowance.
    """

    # No __init__: entering one costs as much as everything else about a decision, so the hot
    # path fills in the slots itself.
    __slots__ = ("allowed", "level", "reset_after", "retry_after")

    allowed: bool
    level: float
    retry_after: float
    reset_after: float

    @property
    def remaining(self) -> int:
        """Whole permits left for this key right now."""
        # Here and not in the limiter, because few callers ask. The addend is what rounding may
        # have taken away from a whole permit.
        return int(self.level + 1e-6) if self.level > 0.0 else 0

    def __bool__(self) -> bool:
        return self.allowed

    def __repr__(self) -> str:
        return (
            f"Decision(allowed={self.allowed}, remaining={self.remaining}, "
            f"retry_after={self.retry_after:.6g}, reset_after={self.reset_after:.6g})"
        )


def decision(allowed: bool, level: float, retry_after: float, reset_after: float) -> Decision:
    """A `Decision` with these attributes."""
    made = Decision()
    made.allowed = allowed
    made.level = level
    made.retry_after = retry_after
    made.reset_after = reset_after
    return made
