"""``hastack discovery watch``."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import TYPE_CHECKING, Any

from hastack._core._extras import require

from ._discovery import connection, line, open_registry, plain, run
from ._discovery_table import instances_table, seconds

if TYPE_CHECKING:
    import click
    from rich.console import Console, Group
    from rich.live import Live
    from rich.text import Text

    from hastack.discovery import Change, Instance, Registry, ServiceWatch
else:
    click = require("click", extra="cli")
    Console = require("rich.console", extra="cli").Console
    Group = require("rich.console", extra="cli").Group
    Live = require("rich.live", extra="cli").Live
    Text = require("rich.text", extra="cli").Text

__all__ = ("watch",)

_FRESH_MARK = 5.0  # seconds for which a change is pointed out
_STALE = 10.0  # seconds without certainty that are worth a warning


@click.command()
@click.argument("service")
@connection
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per change.")
def watch(service: str, as_json: bool, **options: Any) -> None:
    """Show the instances of SERVICE as they change, until Ctrl-C.

    On a terminal a live table; elsewhere a line per change.
    """
    registry = open_registry(**options)
    live = not as_json and sys.stdout.isatty()
    run(_watch(registry, service, live=live, as_json=as_json))


async def _watch(registry: Registry, service: str, *, live: bool, as_json: bool) -> None:
    async with registry, registry.watch(service) as feed:
        if live:
            await _Table(feed).run()
            return
        first = True
        while True:
            changes = await feed.next_batch()
            if as_json:
                _print_json(feed, changes, first=first)
            else:
                _print_lines(feed, changes, first=first)
            first = False


def _print_json(feed: ServiceWatch, changes: tuple[Change, ...], *, first: bool) -> None:
    for change in changes:
        line(
            kind=change.kind,
            at=round(time.time(), 3),
            service=feed.service,
            revision=change.revision,
            instance=plain(change.instance),
        )
    if first:
        line(
            kind="synced",
            at=round(time.time(), 3),
            service=feed.service,
            instances=len(feed.instances),
        )


def _print_lines(feed: ServiceWatch, changes: tuple[Change, ...], *, first: bool) -> None:
    if first and not changes:
        click.echo(f"{feed.service} has no instance yet")
    for change in changes:
        one = change.instance
        said = " draining" if one.draining else ""
        sign = {"added": "+", "updated": "~", "removed": "-"}[change.kind]
        stamp = time.strftime("%H:%M:%S")
        where = "" if one.origin == "local" else f" from {one.origin}"
        click.echo(f"{stamp} {sign} {one.id} {one.address} weight {one.weight:g}{said}{where}")


class _Table:
    """The live table."""

    def __init__(self, feed: ServiceWatch) -> None:
        self.feed = feed
        self.marks: dict[str, tuple[str, float]] = {}
        self.gone: dict[str, tuple[Instance, float]] = {}

    async def run(self) -> None:
        with Live(self.render(), console=Console(), auto_refresh=False) as shown:
            taking = asyncio.ensure_future(self.feed.next_batch())
            try:
                while True:
                    await asyncio.wait({taking}, timeout=0.5)
                    if taking.done():
                        self.note(taking.result())
                        taking = asyncio.ensure_future(self.feed.next_batch())
                    self.forget()
                    shown.update(self.render(), refresh=True)
            finally:
                taking.cancel()

    def note(self, changes: tuple[Change, ...]) -> None:
        now = time.monotonic()
        for change in changes:
            name = change.instance.id
            if change.kind == "removed":
                self.gone[name] = (change.instance, now)
                self.marks.pop(name, None)
            else:
                self.gone.pop(name, None)
                self.marks[name] = (change.kind, now)

    def forget(self) -> None:
        old = time.monotonic() - _FRESH_MARK
        for table in (self.marks, self.gone):
            for name in [name for name, (_, at) in table.items() if at < old]:
                del table[name]

    def render(self) -> Group:
        feed = self.feed
        head = Text.assemble((feed.service, "bold"), "  ")
        resolved = feed.resolved
        if resolved is None:
            head.append("waiting for the store", style="yellow")
            return Group(head)
        count = len(resolved.instances)
        head.append(f"{count} instance{'s' if count != 1 else ''}, revision {resolved.revision}")
        if resolved.age > _STALE:
            head.append(f", not heard for {seconds(resolved.age)}", style="bold yellow")
        elif not resolved.complete:
            head.append(", incomplete", style="yellow")
        for origin in sorted(resolved.stale):
            head.append(f", {origin} out of reach", style="yellow")
        gone = [one for one, _ in self.gone.values()]
        if not resolved.instances and not gone:
            return Group(head)
        table = instances_table(
            resolved.instances,
            stale=resolved.stale,
            marks={name: kind for name, (kind, _) in self.marks.items()},
            gone=gone,
        )
        return Group(head, Text(), table)
