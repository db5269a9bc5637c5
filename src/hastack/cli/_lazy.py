"""A group of commands whose modules load when they are asked for."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from hastack._core._extras import require

if TYPE_CHECKING:
    from collections.abc import Mapping

    import click
else:
    click = require("click", extra="cli")

__all__ = ("LazyGroup",)


class LazyGroup(click.Group):
    """Commands by name: the module, the attribute in it, and what the help says.

    The summaries are given apart from the commands, so that a list of them imports none.
    """

    def __init__(
        self, *args: Any, commands: Mapping[str, tuple[str, str, str]], **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self._homes = commands

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(self._homes)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        home = self._homes.get(cmd_name)
        if home is None:
            return None
        module = importlib.import_module(f"{__package__}.{home[0]}")
        command: click.Command = getattr(module, home[1])
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, home[2]) for name, home in sorted(self._homes.items())])
