"""``hastack logs infer``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from hastack._core._extras import require

from ._logs import NOTHING, clean_end, lines_of, parser_of, plain_count, source_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    import click
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from hastack.observe.logs.schema import Schema, SchemaField
else:
    click = require("click", extra="cli")
    Console = require("rich.console", extra="cli").Console
    Table = require("rich.table", extra="cli").Table
    Text = require("rich.text", extra="cli").Text

__all__ = ("infer",)

_SHOWN = 60  # characters of a line of no known format


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--sample", default=100, show_default=True, help="Records of each format looked at.")
@click.option("--format", "formats", multiple=True, help="Only this format; repeat.")
@click.option("--save", type=click.Path(), help="Write the schemas for parse --schema.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def infer(
    files: tuple[str, ...],
    sample: int,
    formats: tuple[str, ...],
    save: str | None,
    as_json: bool,
) -> None:
    """Show the fields of each format in FILE: type, how sure that is, examples.

    All lines are read; a sample of them without bias is looked at. What of it is of no known format
    is counted on standard error. Exit status 1: no line is of a
    known format.
    """
    clean_end(lambda: _infer(files, sample, formats, save, as_json=as_json))


def _infer(
    files: tuple[str, ...],
    sample: int,
    formats: tuple[str, ...],
    save: str | None,
    *,
    as_json: bool,
) -> int:
    from hastack.observe import logs

    count = 0

    def counted() -> Any:
        nonlocal count
        for line in lines_of(source):
            count += 1
            yield line

    source = source_of(files)
    watched = _Watched(parser_of(formats))
    schemas = logs.infer(counted(), sample=sample, parser=watched)
    for name, reason in source.tallies().damaged.items():
        click.echo(f"{name}: {reason}; what could be read counts", err=True)
    if save is not None:
        schemas.save(save)
    if schemas and watched.unknown:
        click.echo(watched.about_unknown(count), err=True)
    if as_json:
        click.echo(json.dumps([schema.to_data() for schema in schemas.values()], indent=2))
        return 0 if schemas else 1
    if not count:
        click.echo(NOTHING, err=True)
        return 1
    if not schemas:
        click.echo(
            f"none of {plain_count(count)} lines is of a known format; "
            "try hastack logs templates, or hastack logs explain LINE",
            err=True,
        )
        return 1
    console = Console()
    for number, schema in enumerate(schemas.values()):
        if number:
            console.print()
        console.print(Text.assemble((schema.format, "bold"), f"  {_about(schema)}"))
        console.print(_table(schema, console.width))
    return 0


class _Watched:
    """A parser that remembers which of the lines it was given no format reads."""

    def __init__(self, parser: Any) -> None:
        self._parser = parser
        self.looked_at = 0
        self.unknown: list[str | bytes] = []

    def parse_lines(self, lines: Iterable[str | bytes], /) -> Any:
        """Like the parser's own."""
        batch = self._parser.parse_lines(lines)
        self.looked_at += batch.counts.lines
        self.unknown += [each.line for each in batch.rejects if each.reason != "empty"]
        return batch

    def about_unknown(self, count: int) -> str:
        """How many lines they are, and one of them."""
        found, first = len(self.unknown), self.unknown[0]
        text = first if isinstance(first, str) else first.decode("utf-8", "backslashreplace")
        shown = text.strip() if len(text.strip()) <= _SHOWN else f"{text.strip()[:_SHOWN]}..."
        sampled = "" if self.looked_at == count else " looked at"
        are = "is" if found == 1 else "are"
        return (
            f"{plain_count(found)} of {plain_count(self.looked_at)} lines{sampled} {are} of no known "
            f"format, for example {shown!r}; hastack logs explain says why, hastack logs templates "
            "what they have in common"
        )


def _about(schema: Schema) -> str:
    records = f"{plain_count(schema.records)} record{'s' if schema.records != 1 else ''} looked at"
    return f"version {schema.version}, {records}"


def _table(schema: Schema, width: int) -> Table:
    rows = [
        (
            Text(f"{'  ' * (len(field.path) - 1)}{field.path[-1]}"),
            Text(f"{field.type} of {field.items}" if field.items else field.type, style="cyan"),
            Text("yes" if field.nullable else ""),
            _sure(field),
        )
        for field in schema.fields
    ]
    titles = ("field", "type", "null", "sure")
    widths = [
        max(len(title), *(row[at].cell_len for row in rows), 0) for at, title in enumerate(titles)
    ]
    # Examples get what is left, and nothing else gives way to them.
    widths[0] = min(widths[0], 32)
    left = max(12, width - sum(widths) - 2 * len(titles))
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for title, wide in zip(titles, widths, strict=True):
        table.add_column(title, width=wide, overflow="fold")
    table.add_column("examples", width=left, overflow="ellipsis", no_wrap=True)
    for field, row in zip(schema.fields, rows, strict=True):
        table.add_row(*row, Text(", ".join(field.examples), style="dim"))
    return table


def _sure(field: SchemaField) -> Text:
    if field.declared:
        return Text("declared", style="green")
    if not field.values:
        return Text("no value", style="yellow")
    style = "green" if field.confidence >= 0.7 else "yellow"
    return Text(f"{field.share:.0%} (>{field.confidence:.0%})", style=style)
