"""Instances as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hastack._core._extras import require

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from rich.table import Table
    from rich.text import Text

    from hastack.discovery import Instance
else:
    Table = require("rich.table", extra="cli").Table
    Text = require("rich.text", extra="cli").Text

__all__ = ("instances_table", "seconds")


def instances_table(
    instances: Iterable[Instance],
    *,
    stale: Collection[str] = (),
    marks: dict[str, str] | None = None,
    gone: Iterable[Instance] = (),
) -> Table:
    """A row per instance; columns in which nobody has anything are left out.

    Args:
        instances: Those that are there.
        stale: Origins whose forwarder is out of reach.
        marks: What happened lately, by id: ``"added"`` or ``"updated"``.
        gone: Those that went lately.
    """
    rows = list(instances)
    left = list(gone)
    everything = rows + left
    named = any(each.id != each.address for each in everything)
    optional = {
        "zone": any(each.zone for each in everything),
        "origin": len({each.origin for each in everything}) > 1
        or any(each.origin != "local" for each in everything),
        "metadata": any(each.metadata for each in everything),
    }
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    if named:
        table.add_column("instance", overflow="fold")
    table.add_column("address", overflow="fold")
    table.add_column("state", no_wrap=True)
    table.add_column("weight", justify="right", no_wrap=True)
    for name, shown in optional.items():
        if shown:
            table.add_column(name, overflow="fold")
    for each in sorted(everything, key=lambda i: (i.service, i.id)):
        state = _state(each, each in left, stale, (marks or {}).get(each.id, ""))
        cells = [Text(each.id)] if named else []
        cells += [Text(each.address), state, Text(f"{each.weight:g}")]
        cells += [Text(_cell(each, name)) for name, shown in optional.items() if shown]
        table.add_row(*cells, style="dim" if each in left else None)
    return table


def _state(instance: Instance, gone: bool, stale: Collection[str], mark: str) -> Text:
    if gone:
        return Text("gone", style="red")
    if instance.origin in stale:
        return Text("stale", style="yellow")
    if instance.draining:
        return Text("draining", style="yellow")
    if instance.weight == 0.0:
        return Text("no weight", style="yellow")
    if mark:
        return Text({"added": "new", "updated": "changed"}[mark], style="bold green")
    return Text("up", style="green")


def _cell(instance: Instance, name: str) -> str:
    if name == "metadata":
        return " ".join(f"{key}={value}" for key, value in sorted(instance.metadata.items()))
    return str(getattr(instance, name))


def seconds(value: float) -> str:
    """A time for people."""
    if value < 1.0:
        return f"{value * 1000:.0f} ms"
    if value < 120.0:
        return f"{value:.1f} s"
    return f"{value / 60:.0f} min"
