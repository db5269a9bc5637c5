"""What a limiter answers."""

from __future__ import annotations

from typing import final


@final
class Decision:
    """The answer to one `try_acquire` or `peek`; truthy when allowed.

    Attributes:
        allowed: Whether the call may go ahead.
        remaining: Whole permits left for this key right now.
        retry_after: Seconds until the same cost would be allowed; 0.0 when allowed.
        reset_after: Seconds until the key is back at its full allowance.
    """

    __slots__ = ("allowed", "remaining", "reset_after", "retry_after")

    def __init__(
        self, allowed: bool, remaining: int, retry_after: float, reset_after: float
    ) -> None:
        self.allowed = allowed
        self.remaining = remaining
        self.retry_after = retry_after
        self.reset_after = reset_after

    def __bool__(self) -> bool:
        return self.allowed

    def __repr__(self) -> str:
        return (
            f"Decision(allowed={self.allowed}, remaining={self.remaining}, "
            f"retry_after={self.retry_after:.6g}, reset_after={self.reset_after:.6g})"
        )
