"""``hastack observe``: reach the backends, watch the accounts, send what was spilled."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from hastack import config as configuration
from hastack._core._extras import require
from hastack.errors import ConfigError
from hastack.observe._options import OBSERVE

from ._lazy import LazyGroup

if TYPE_CHECKING:
    import click

    from hastack.observe import ObserveConfig
else:
    click = require("click", extra="cli")

__all__ = ("observe", "settings_of")

# name -> (module, attribute, what the help says of it); each loads when it is asked for.
_COMMANDS = {
    "check": ("_observe_check", "check", "Can each backend be reached, and what is wrong if not."),
    "replay": ("_observe_replay", "replay", "Send what processes left in a spill directory."),
    "tail": ("_observe_tail", "tail", "Show what running processes export, live."),
}


@click.group(cls=LazyGroup, commands=_COMMANDS)
def observe() -> None:
    """Reach the backends, watch what is exported, send what was spilled.

    Settings are the observe table of --config files and of the environment (HASTACK_OBSERVE__...).
    """


def settings_of(files: tuple[str, ...]) -> ObserveConfig:
    """The ``observe`` table of files and environment, or an end with every mistake in it."""
    try:
        return OBSERVE.of(configuration.load(*files, env=os.environ))
    except ConfigError as error:
        raise click.UsageError(str(error)) from None
