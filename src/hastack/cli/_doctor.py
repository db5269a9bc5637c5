"""``hastack doctor``: what is there, what is missing, what is broken, and what mends it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from hastack._core._extras import require

from ._config import SettingsClass
from ._installed import installed
from .doctor._backends import backends
from .doctor._clocks import clocks
from .doctor._extras import extras
from .doctor._finding import SCHEMA, document, worst
from .doctor._hazards import hazards
from .doctor._kernel import kernel
from .doctor._limits import limits
from .doctor._looking import Looking
from .doctor._settings import settings
from .doctor._software import acceleration, python
from .doctor._table import print_section, print_summary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import click
    from rich.console import Console

    from .doctor._finding import Finding
else:
    click = require("click", extra="cli")
    Console = require("rich.console", extra="cli").Console

__all__ = ("doctor",)

_SECTIONS: Final[dict[str, Callable[[Looking], Iterator[Finding]]]] = {
    "python": python,
    "extras": extras,
    "acceleration": acceleration,
    "kernel": kernel,
    "clocks": clocks,
    "limits": limits,
    "hazards": hazards,
    "config": settings,
    "backends": backends,
}
_USUAL: Final = "hastack.toml"


@click.command()
@click.argument("names", nargs=-1, metavar="[SECTION[.NAME]]...")
@click.option(
    "--config",
    "files",
    multiple=True,
    type=click.Path(),
    metavar="FILE",
    help=f"Settings; repeatable, later ones win. Unless given: {_USUAL}, when it is there.",
)
@click.option(
    "--into",
    type=SettingsClass(),
    default="hastack.config:Config",
    show_default=True,
    help="Settings class of the application, as module:Class.",
)
@click.option(
    "--env-prefix", default="HASTACK_", show_default=True, help="Which variables are settings."
)
@click.option(
    "--timeout",
    type=click.FloatRange(0.0, min_open=True),
    default=5.0,
    show_default=True,
    help="Seconds for each question to a backend.",
)
@click.option("--strict", is_flag=True, help="Exit with 1 also for what is missing or noted.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--schema", "as_schema", is_flag=True, help="Print the JSON Schema of --json.")
@click.pass_context
def doctor(
    ctx: click.Context,
    names: tuple[str, ...],
    files: tuple[str, ...],
    into: type[Any],
    env_prefix: str,
    timeout: float,
    strict: bool,
    as_json: bool,
    as_schema: bool,
) -> None:
    """Say what is ok, missing or broken here, and what mends it.

    Sections: python, extras, acceleration, kernel, clocks, limits, hazards, config, backends. Exit
    status 1 when something is broken: it is installed or configured, and does not work.
    """
    if as_schema:
        click.echo(json.dumps(SCHEMA, indent=2))
        return
    looking = Looking(
        names=names,
        files=files or ((_USUAL,) if Path(_USUAL).is_file() else ()),
        into=into,
        env_prefix=env_prefix,
        timeout=timeout,
    )
    found = _look(looking, None if as_json else Console(highlight=False))
    if as_json:
        click.echo(json.dumps(document(found, installed("hastack")), indent=2))
    lacking = any(each.status == "missing" or each.notes for each in found)
    ctx.exit(1 if worst(found) == "broken" or (strict and lacking) else 0)


def _look(looking: Looking, console: Console | None) -> list[Finding]:
    """Every section that was asked for; each is printed as soon as it is known."""
    found: list[Finding] = []
    for name in looking.names:
        if name.partition(".")[0] not in _SECTIONS:
            raise click.UsageError(f"no section {name!r}; there are {', '.join(_SECTIONS)}")
    for section, look in _SECTIONS.items():
        if not looking.wants(section):
            continue
        part = [each for each in look(looking) if looking.wants(section, each.name)]
        found += part
        if console is not None and part:
            if len(found) > len(part):
                console.print()
            print_section(console, section, part)
    for name in looking.names:
        if "." in name and not any(f"{each.section}.{each.name}" == name for each in found):
            raise click.UsageError(f"nothing was found that is called {name!r}")
    if console is not None:
        print_summary(console, found)
    return found
