"""``hastack logs templates``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from hastack._core._extras import require

from ._logs import NOTHING, clean_end, lines_of, plain_count, source_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    import click
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text
else:
    click = require("click", extra="cli")
    Console = require("rich.console", extra="cli").Console
    Table = require("rich.table", extra="cli").Table
    Text = require("rich.text", extra="cli").Text

__all__ = ("templates",)


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--limit", default=20, show_default=True, help="Templates shown; 0 for all.")
@click.option("--names", is_flag=True, help="Show names and types of what varies.")
@click.option("--json", "as_json", is_flag=True, help="One object per template.")
def templates(files: tuple[str, ...], limit: int, names: bool, as_json: bool) -> None:
    """Show what is fixed in the lines of FILE, and how often each such template occurs.

    A header that all lines share (time, level) is looked for and left out.
    """
    clean_end(lambda: _templates(files, limit, names=names, as_json=as_json))


def _templates(files: tuple[str, ...], limit: int, *, names: bool, as_json: bool) -> int:
    from hastack.observe.logs import templates as mining

    source = source_of(files)

    def texts() -> Iterator[str]:
        for line in lines_of(source):
            text = line if isinstance(line, str) else line.decode("utf-8", "replace")
            yield text.removesuffix("\r")

    found = mining.table(texts(), limit=limit or None)
    for name, reason in source.tallies().damaged.items():
        click.echo(f"{name}: {reason}; what could be read counts", err=True)
    if as_json:
        for row in found.rows:
            click.echo(
                json.dumps(
                    {
                        "id": row.id,
                        "count": row.count,
                        "share": round(row.share, 6),
                        "template": row.named if names else row.text,
                        "example": row.example,
                    },
                    ensure_ascii=False,
                )
            )
        return 0
    if not found.lines:
        click.echo(NOTHING, err=True)
        return 0
    console = Console(highlight=False)
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for title in ("count", "share", "id"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("template", overflow="fold", ratio=1)
    for row in found.rows:
        table.add_row(
            plain_count(row.count),
            f"{row.share:.1%}",
            str(row.id),
            _marked(row.named if names else row.text),
        )
    console.print(table)
    left = found.total - len(found.rows)
    more = f", {plain_count(left)} more with --limit 0" if left else ""
    console.print(
        Text(f"{plain_count(found.lines)} lines, {plain_count(found.total)} templates{more}", "dim")
    )
    return 0


def _marked(template: str) -> Text:
    """The text with what varies in a colour."""
    text = Text(template)
    text.highlight_regex(r"<[^<> ]*>", "cyan")
    return text
