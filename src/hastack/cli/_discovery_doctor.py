"""``hastack discovery doctor``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from hastack._core._extras import require

from ._discovery import connection, open_registry, run
from ._discovery_findings import findings
from ._discovery_survey import survey
from ._discovery_table import seconds

if TYPE_CHECKING:
    import click
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from hastack.discovery import Registry
else:
    click = require("click", extra="cli")
    Console = require("rich.console", extra="cli").Console
    Table = require("rich.table", extra="cli").Table
    Text = require("rich.text", extra="cli").Text

__all__ = ("doctor",)


@click.command()
@connection
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def doctor(as_json: bool, **options: Any) -> None:
    """Examine the store: endpoints, lease, watch lag, what is registered.

    Writes one scratch key and deletes it. Exit status 1 when the store does not do its work; a
    warning alone is 0.
    """
    registry = open_registry(**options)
    run(_doctor(registry, options["timeout"] or 5.0, as_json))


async def _doctor(registry: Registry, timeout: float, as_json: bool) -> int:
    async with registry:
        report = await survey(registry, timeout)
    warnings = findings(report)
    if as_json:
        print(json.dumps({**report, "warnings": warnings}, indent=2))
    else:
        _print(report, warnings)
    broken = any("error" in report[part] for part in ("lease", "watch", "registry"))
    return 1 if broken else 0


def _print(report: dict[str, Any], warnings: list[str]) -> None:
    console = Console()
    console.print(Text.assemble(("store ", "bold"), report["url"]))
    if report["endpoints"]:
        console.print(_endpoints(report["endpoints"]))
    console.print()
    facts = Table.grid(padding=(0, 2, 0, 0))
    for name, text in _facts(report):
        facts.add_row(Text(name, style="bold"), text)
    console.print(facts)
    console.print()
    for each in warnings:
        console.print(Text.assemble(("! ", "bold yellow"), each))
    if not warnings:
        console.print(Text("nothing to complain about", style="green"))


def _endpoints(endpoints: list[dict[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("endpoint", overflow="fold")
    table.add_column("version", no_wrap=True)
    table.add_column("role", no_wrap=True)
    for name in ("revision", "db size", "in use", "answers in", "clock"):
        table.add_column(name, justify="right", no_wrap=True)
    for each in endpoints:
        if "error" in each:
            table.add_row(Text(each["endpoint"]), Text("-"), Text("no answer", style="red"))
            continue
        role = "leader" if each["leads"] else "learner" if each["learner"] else "follower"
        table.add_row(
            Text(each["endpoint"]),
            Text(each["version"]),
            Text(role if each["leader"] else "no leader", style="" if each["leader"] else "red"),
            Text(str(each["revision"])),
            Text(_size(each["db_size"])),
            Text(_size(each["db_size_in_use"])),
            Text(seconds(each["round_trip"])),
            Text(_clock(each["clock"])),
        )
    return table


def _clock(found: dict[str, float] | None) -> str:
    return "-" if found is None else f"{found['ahead']:+.2f} s"


def _facts(report: dict[str, Any]) -> list[tuple[str, Text]]:
    lease, watch, found = report["lease"], report["watch"], report["registry"]
    facts = []
    if "error" in lease:
        facts.append(("lease", Text(lease["error"], style="red")))
    else:
        said = (
            f"granted in {seconds(lease['granted'])}, and revoked: {seconds(lease['round_trip'])}"
        )
        facts.append(("lease", Text(said)))
    if "error" in watch:
        facts.append(("watch", Text(watch["error"], style="red")))
    else:
        said = (
            f"{watch['puts']} puts: heard {seconds(watch['put_to_event'])} after the put was sent "
            f"(at most {seconds(watch['put_to_event_max'])}), put answered in {seconds(watch['put'])}"
        )
        facts.append(("watch", Text(said)))
    if "error" in found:
        facts.append(("registry", Text(found["error"], style="red")))
        return facts
    said = f"{_count(found['instances'], 'instance')} of {_count(found['services'], 'service')}"
    if found["mirrored"]:
        said += f", and {found['mirrored']} mirrored"
    facts.append(("registry", Text(said)))
    facts.append(("origin", Text(f"{report['origin']}; in the store: {_names(found['origins'])}")))
    return facts


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' if number != 1 else ''}"


def _names(names: list[str]) -> str:
    return ", ".join(names) or "none"


def _size(count: int) -> str:
    return f"{count / 2**20:.1f} MiB" if count >= 1 << 20 else f"{count / 1024:.0f} KiB"
