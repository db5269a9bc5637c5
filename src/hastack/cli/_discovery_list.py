"""``hastack discovery list``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from hastack._core._extras import require

from ._discovery import connection, open_registry, plain, run
from ._discovery_table import instances_table

if TYPE_CHECKING:
    import click
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from hastack.discovery import Registry, Resolved
else:
    click = require("click", extra="cli")
    Console = require("rich.console", extra="cli").Console
    Table = require("rich.table", extra="cli").Table
    Text = require("rich.text", extra="cli").Text

__all__ = ("list_services",)


@click.command("list")
@click.argument("service", required=False)
@connection
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_services(service: str | None, as_json: bool, **options: Any) -> None:
    """Print the services with the number of their instances, or the instances of SERVICE."""
    registry = open_registry(**options)
    run(_list(registry, service, as_json))


async def _list(registry: Registry, service: str | None, as_json: bool) -> None:
    async with registry:
        names = await registry.services_async() if service is None else (service,)
        found = {name: await registry.resolve_async(name) for name in names}
    if as_json:
        print(json.dumps({name: _plain(each) for name, each in found.items()}, indent=2))
    elif service is not None:
        _print_one(service, found[service])
    else:
        _print_all(found)


def _plain(resolved: Resolved) -> dict[str, Any]:
    return {
        "revision": resolved.revision,
        "stale_origins": sorted(resolved.stale),
        "instances": [plain(each) for each in resolved.instances],
    }


def _print_one(service: str, resolved: Resolved) -> None:
    if resolved.instances:
        Console().print(instances_table(resolved.instances, stale=resolved.stale))
    else:
        click.echo(f"{service} has no instance")


def _print_all(found: dict[str, Resolved]) -> None:
    if not found:
        click.echo("nothing is registered")
        return
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("service", overflow="fold")
    for name in ("instances", "draining"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("origins", overflow="fold")
    for name, resolved in found.items():
        draining = sum(each.draining for each in resolved.instances)
        origins = sorted({each.origin for each in resolved.instances})
        table.add_row(
            Text(name),
            Text(str(len(resolved.instances))),
            Text(str(draining) if draining else "-", style="yellow" if draining else "dim"),
            Text(
                ", ".join(f"{each} (stale)" if each in resolved.stale else each for each in origins)
            ),
        )
    Console().print(table)
