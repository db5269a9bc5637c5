"""The event that says who did what through a dashboard."""

from __future__ import annotations

import attrs

from hastack.events import Event, topic

__all__ = ("ACTED", "DashboardAction")


@attrs.frozen(kw_only=True)
class DashboardAction(Event):
    """Somebody asked a dashboard for an action, allowed or not.

    Attributes:
        who: What the ``actions`` callable said, ``"token"``, or ``"?"`` for somebody unknown.
        client: Address that the request came from, as the server saw it.
        action: The action, as it was asked for.
        target: Name of the guard or service; the row that was asked for when there is none.
        value: The new limit, for ``"limit"``.
        outcome: ``"done"``, ``"refused"`` (not allowed) or ``"failed"``.
        detail: Why.
    """

    who: str
    client: str
    action: str
    target: str
    value: float | None
    outcome: str
    detail: str = ""


ACTED = topic(DashboardAction)
