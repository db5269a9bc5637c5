"""Events of adaptive limits."""

from __future__ import annotations

import attrs

from hastack.events import Event, Topic, topic

__all__ = ("LimitChanged",)


@attrs.frozen(kw_only=True)
class LimitChanged(Event):
    """An adaptive limit moved.

    Attributes:
        name: Name of the limit.
        old: Calls that could be in flight before.
        new: Calls that can be in flight now.
        latency: Mean latency in seconds of the period that decided.
        baseline: Estimated latency in seconds without queueing.
    """

    name: str
    old: int
    new: int
    latency: float
    baseline: float


LIMIT_CHANGED: Topic[LimitChanged] = topic(LimitChanged)
