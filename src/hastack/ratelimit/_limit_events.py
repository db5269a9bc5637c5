"""Events of the limiters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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


@attrs.frozen(kw_only=True)
class ShadowRejected(Event):
    """A guard in the shadow would not have left a call alone; the call went on.

    Attributes:
        name: Name of the `Shadow`.
        key: Key of the call, ``None`` for a guard without keys.
        cost: How many permits were asked for.
        reason: As in `RequestRejected`; ``"delayed"`` for a call that would have waited for its
            turn; what a policy would have done (``"timeout"``, ``"retry"``, ``"hedge"``,
            ``"fallback"``); ``"error"`` when the rule itself failed.
        retry_after: Seconds until a new try would have succeeded; ``None`` when unknown.
        error: What the rule raised, with ``"error"``.
    """

    name: str
    key: Hashable
    cost: Any
    reason: str
    retry_after: float | None
    error: Exception | None = None


REJECTED: Topic[RequestRejected] = topic(RequestRejected)
SHADOW_REJECTED: Topic[ShadowRejected] = topic(ShadowRejected)
