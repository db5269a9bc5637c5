"""``hastack doctor``: what hastack finds on this machine."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from hastack._core._extras import require

from ._machine import survey

if TYPE_CHECKING:
    import click
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text
else:
    click = require("click", extra="cli")
    Console = require("rich.console", extra="cli").Console
    Table = require("rich.table", extra="cli").Table
    Text = require("rich.text", extra="cli").Text

__all__ = ("doctor",)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def doctor(as_json: bool) -> None:
    """Say what hastack finds: versions, extras, acceleration, clocks, limits."""
    found = survey()
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    table = Table.grid(padding=(0, 2))
    for section, entries in found.items():
        table.add_row(Text(section.replace("_", " "), style="bold"), "")
        for name, value in _rows(section, entries):
            table.add_row(Text(f"  {name}"), value)
    Console().print(table)


def _rows(section: str, entries: dict[str, Any]) -> list[tuple[str, Text]]:
    if section == "extras":
        return [(name, _extra(entry)) for name, entry in entries.items()]
    if section == "acceleration":
        return _accelerated(entries)
    return [(name.replace("_", " "), _value(value)) for name, value in entries.items()]


def _extra(entry: dict[str, Any]) -> Text:
    present = ", ".join(f"{name} {version}" for name, version in entry["packages"].items())
    if not entry["missing"]:
        return Text(present, style="green")
    # On a line of its own, so that it can be copied whole.
    return Text(f"missing: {', '.join(entry['missing'])}\n{entry['install']}", style="yellow")


def _accelerated(entries: dict[str, str]) -> list[tuple[str, Text]]:
    if "compiled" not in entries.values():
        return [("modules", Text("pure Python"))]
    return [
        (name.removeprefix("hastack."), Text(kind, style="green" if kind == "compiled" else ""))
        for name, kind in entries.items()
    ]


def _value(value: Any) -> Text:
    if isinstance(value, dict):
        inner = (f"{name.replace('_', ' ')} {_plain(each)}" for name, each in value.items())
        return Text(", ".join(inner))
    return Text(_plain(value))


def _plain(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
