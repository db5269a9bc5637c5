"""Events of guards that follow their configuration."""

from __future__ import annotations

import attrs

from hastack.events import Event, Topic, topic


@attrs.frozen(kw_only=True)
class GuardReloaded(Event):
    """A guard took over changed settings, keeping its counters.

    Attributes:
        name: Name of the guard.
        changed: Settings that are in force now.
        kept: Settings that changed, too, and need a restart.
    """

    name: str
    changed: tuple[str, ...]
    kept: tuple[str, ...]


@attrs.frozen(kw_only=True)
class GuardReloadFailed(Event):
    """A guard could not follow its configuration and goes on as before.

    Attributes:
        name: Name of the guard.
        reason: One of ``"kind changed"``, ``"removed"`` and ``"refused"``.
        detail: What was wanted and what stays.
    """

    name: str
    reason: str
    detail: str


GUARD_RELOADED: Topic[GuardReloaded] = topic(GuardReloaded)
GUARD_RELOAD_FAILED: Topic[GuardReloadFailed] = topic(GuardReloadFailed)
