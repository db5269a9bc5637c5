"""Events of circuit breakers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from hastack.events import Event, topic

if TYPE_CHECKING:
    from ._breaker import BreakerState

__all__ = ("BreakerChanged",)


@attrs.frozen(kw_only=True)
class BreakerChanged(Event):
    """A circuit breaker changed its state.

    An observe-only breaker sends it with ``old`` and ``new`` both ``OBSERVE_ONLY`` when it would
    have opened.

    Attributes:
        name: Name of the breaker.
        old: The state before.
        new: The state after.
        reason: Why, in words: ``"failure rate reached"``, ``"open time over"``,
            ``"force_open()"`` ...
        generation: Number of the new state; orders the events of one breaker.
        calls: Calls counted in the state that ended (probes, when it was half-open).
        failures: Failed ones among them.
        slow: Slow ones among them.
    """

    name: str
    old: BreakerState
    new: BreakerState
    reason: str
    generation: int
    calls: int
    failures: int
    slow: int


BREAKER_CHANGED = topic(BreakerChanged)
