"""What the store should hold of an instance, decided from everything that has a say in it."""

from __future__ import annotations

from typing import Literal, TypeAlias, final

import attrs

__all__ = ("Presence", "Standing", "WhenUnhealthy")

Presence: TypeAlias = Literal["absent", "present", "draining"]
WhenUnhealthy: TypeAlias = Literal["remove", "drain"]


@final
@attrs.frozen(kw_only=True)
class Standing:
    """All that is known about one registration.

    Attributes:
        open: Its block runs.
        serving: The service is up: its lifecycle serves or is on its way out; true without one.
        leaving: The lame duck has begun, or the block is being left.
        gone: It may not be found any more: the listener is about to close.
        healthy: What its probes say; ``None`` before the first answer. True without a probe.
        draining: The program asked for that.
        when_unhealthy: Whether an unhealthy instance is removed or marked as draining.
    """

    open: bool = False
    serving: bool = True
    leaving: bool = False
    gone: bool = False
    healthy: bool | None = True
    draining: bool = False
    when_unhealthy: WhenUnhealthy = "remove"

    @property
    def presence(self) -> Presence:
        """What the store should hold."""
        if not self.open or self.gone or not self.serving or self.healthy is None:
            return "absent"
        if not self.healthy and self.when_unhealthy == "remove":
            return "absent"
        return "draining" if self.leaving or self.draining or not self.healthy else "present"

    @property
    def evicted(self) -> bool:
        """Whether it would be offered, were it healthy."""
        return self.healthy is False and attrs.evolve(self, healthy=True).presence == "present"

    @property
    def undecided(self) -> bool:
        """Whether only the first answer of its probes is missing."""
        return self.healthy is None and attrs.evolve(self, healthy=True).presence != "absent"
