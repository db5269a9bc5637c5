"""``hastack logs explain``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from hastack._core._extras import require

from ._logs import clean_end, parser_of

if TYPE_CHECKING:
    import click
    from rich.console import Console
    from rich.text import Text

    from hastack.observe.logs.combinators import LineError
    from hastack.observe.logs.parser import Explanation, Format
else:
    click = require("click", extra="cli")
    Console = require("rich.console", extra="cli").Console
    Text = require("rich.text", extra="cli").Text

__all__ = ("explain",)

_SHOWN = 5


@click.command()
@click.argument("line")
@click.option("--format", "formats", multiple=True, help="Only this format; repeat.")
@click.option("--all", "everything", is_flag=True, help="Every format that does not read it.")
def explain(line: str, formats: tuple[str, ...], everything: bool) -> None:
    """Say which format reads LINE (- for one from standard input), and why others do not.

    Exit status 1: none reads it.
    """
    clean_end(lambda: _explain(line, formats, everything=everything))


def _explain(line: str, formats: tuple[str, ...], *, everything: bool) -> int:
    given: str | bytes = sys.stdin.buffer.readline() if line == "-" else line
    found = parser_of(formats).explain(given)
    console = Console(highlight=False)
    if found.format is not None:
        console.print(Text.assemble(("format  ", "dim"), (found.format.name, "bold green")))
        _show_record(console, found.record or {})
    else:
        console.print(Text("no known format reads this line", style="bold yellow"))
    misses = found.misses if everything or found.format is None else []
    shown = misses if everything else misses[:_SHOWN]
    if shown:
        console.print()
        _show_misses(console, found, shown)
    if len(misses) > len(shown):
        console.print(Text(f"and {len(misses) - len(shown)} more formats: --all", style="dim"))
    return 0 if found.format is not None else 1


def _show_record(console: Console, record: dict[str, Any]) -> None:
    width = max((len(name) for name in record), default=0)
    for name, value in record.items():
        shown = "-" if value is None else str(value)
        kind = "" if value is None else type(value).__name__
        console.print(
            Text.assemble(f"  {name:{width}}  ", (shown, "cyan"), (f"  {kind}", "dim")),
            overflow="fold",
        )


def _show_misses(
    console: Console, found: Explanation, misses: list[tuple[Format, LineError]]
) -> None:
    last = None
    for known, miss in misses:
        if miss.column != last:
            last = miss.column
            window, at = _window(found.line, miss.column - 1, console.width)
            console.print(Text(window), no_wrap=True, overflow="crop")
            console.print(Text(f"{' ' * at}^", style="bold red"), no_wrap=True, overflow="crop")
        console.print(Text.assemble((known.name, "bold"), f": {miss}"), overflow="fold")


def _window(line: str, at: int, width: int) -> tuple[str, int]:
    """The part of a line around a place, and where the place is in it."""
    shown = line.replace("\t", " ")
    if len(shown) <= width:
        return shown, at
    start = max(0, min(at - width // 2, len(shown) - width))
    part = shown[start : start + width]
    if start:
        part = f"...{part[3:]}"
    if start + width < len(shown):
        part = f"{part[:-3]}..."
    return part, at - start
