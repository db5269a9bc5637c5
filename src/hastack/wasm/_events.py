"""What happens to plugins, as events; `Audit` writes them down."""

from __future__ import annotations

import attrs

from hastack import events

__all__ = (
    "PluginActivated",
    "PluginCompiled",
    "PluginEvent",
    "PluginRefused",
    "PluginRolledBack",
    "PluginSwapped",
    "PluginTrapped",
    "PluginVerified",
)


@attrs.frozen(kw_only=True)
class PluginEvent(events.Event):
    """Something happened to a plugin.

    Attributes:
        plugin: Its name.
        digest: SHA-256 of its bytes, in hexadecimal.
        detail: What else there is to say.
    """

    plugin: str
    digest: str
    detail: str = ""


@attrs.frozen(kw_only=True)
class PluginVerified(PluginEvent):
    """A module is signed as its trust policy demands; ``detail`` names who signed."""


@attrs.frozen(kw_only=True)
class PluginRefused(PluginEvent):
    """A module was refused before anything of it was compiled; ``detail`` says why."""


@attrs.frozen(kw_only=True)
class PluginCompiled(PluginEvent):
    """A module was compiled, or came out of the cache."""


@attrs.frozen(kw_only=True)
class PluginActivated(PluginEvent):
    """A plugin takes calls from here on."""


@attrs.frozen(kw_only=True)
class PluginTrapped(PluginEvent):
    """An instance did what it may not and was thrown away; ``detail`` says what."""


@attrs.frozen(kw_only=True)
class PluginSwapped(PluginEvent):
    """Another version took over; ``digest`` is the new one's."""


@attrs.frozen(kw_only=True)
class PluginRolledBack(PluginEvent):
    """A new version was taken back; ``digest`` is that of the last good one."""


VERIFIED = events.topic(PluginVerified)
REFUSED = events.topic(PluginRefused)
COMPILED = events.topic(PluginCompiled)
ACTIVATED = events.topic(PluginActivated)
TRAPPED = events.topic(PluginTrapped)
SWAPPED = events.topic(PluginSwapped)
ROLLED_BACK = events.topic(PluginRolledBack)
