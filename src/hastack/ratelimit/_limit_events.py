"""Events of the limiters."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from hastack.events import Event, Topic, topic

if TYPE_CHECKING:
    from collections.abc import Hashable


@attrs.frozen(kw_only=True)
class RequestRejected(Event):
    """A limiter refused a call.

    Attributes:
        name: Name of the limiter.
        key: Key of the call, ``None`` for a limiter without keys.
        cost: How many permits were asked for.
        reason: One of ``"limited"``, ``"queue full"``, ``"deadline"`` (its turn would come too
            late) and ``"limit lowered"`` (below the cost, while it waited).
        retry_after: Seconds until a new try may succeed; ``None`` when unknown.
    """

    name: str
    key: Hashable
    cost: float
    reason: str
    retry_after: float | None


REJECTED: Topic[RequestRejected] = topic(RequestRejected)
