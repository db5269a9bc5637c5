"""One frame: a snapshot as tables that fit the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from hastack._core._extras import require

from ._tables import SECTIONS, SORTS, VIEWS, ordered
from ._words import clean, rate, seconds

if TYPE_CHECKING:
    from rich import console as _console
    from rich import table as _table
    from rich import text as _text

    from ._tables import Section
else:
    _console = require("rich.console", extra="cli")
    _table = require("rich.table", extra="cli")
    _text = require("rich.text", extra="cli")

__all__ = ("Choice", "frame")

_STYLES = {"good": "green", "warn": "yellow", "bad": "bold red", "idle": "dim"}
_MARKS = {"good": "●", "warn": "▲", "bad": "■", "idle": "○"}
_PLAIN = {"good": "ok", "warn": "!", "bad": "!!", "idle": "-"}


@attrs.define
class Choice:
    """What whoever looks has chosen."""

    sort: int = 0
    view: int = 0
    paused: bool = False

    def next_sort(self) -> None:
        """The order after this one."""
        self.sort = (self.sort + 1) % len(SORTS)


def frame(
    snapshot: dict[str, Any] | None,
    choice: Choice,
    *,
    width: int,
    height: int | None,
    status: str,
    lost: bool,
    plain: bool,
) -> Any:
    """What is on the screen.

    Args:
        snapshot: What was fetched last; ``None`` before the first.
        choice: Order and view.
        width: Columns of the terminal.
        height: Lines of the terminal; ``None`` shows everything.
        status: Where it comes from, or why nothing comes.
        lost: Whether the connection is lost, so that the values are old.
        plain: Whether the terminal only knows ASCII.
    """
    parts: list[Any] = [_head(snapshot, status, lost=lost, plain=plain)]
    if snapshot is None:
        return _console.Group(*parts)
    room = None if height is None else max(height - len(parts) - 2, 3)
    shown = [
        (section, ordered(section, snapshot.get(section.key) or [], SORTS[choice.sort]))
        for section in SECTIONS
        if VIEWS[choice.view] in {"all", section.view} and snapshot.get(section.key)
    ]
    if not shown:
        parts.append(_text.Text("nothing here", style="dim"))
    shares = _shares(shown, room)
    needed = sum(2 + len(rows) for _, rows in shown)
    airy = room is None or needed <= room
    for (section, rows), most in zip(shown, shares, strict=True):
        if airy:
            parts.append(_text.Text(""))
        if most > 0:
            parts.append(_section(section, rows, most, width, lost=lost, plain=plain))
        else:
            parts.append(_text.Text(f"{section.title}: {len(rows)}", style="dim"))
    if height is not None:
        parts.append(_foot(choice))
    return _console.Group(*parts)


def _shares(shown: list[tuple[Section, list[Any]]], room: int | None) -> list[int]:
    """How many rows of each section there is room for; each takes two lines more."""
    wanted = [len(rows) for _, rows in shown]
    if room is None:
        return wanted
    shares = [0] * len(shown)
    left = room - len(shown)  # a section without rows still takes its line
    while True:
        moved = False
        for at, most in enumerate(wanted):
            cost = 2 if shares[at] == 0 else 1
            # The line that says how many more there are.
            if shares[at] < most and left >= cost + (1 if shares[at] + 1 < most else 0):
                shares[at] += 1
                left -= cost
                moved = True
        if not moved:
            return shares


def _head(snapshot: dict[str, Any] | None, status: str, *, lost: bool, plain: bool) -> Any:
    line = _text.Text(no_wrap=True, overflow="ellipsis")
    if snapshot is not None:
        line.append(clean(snapshot["service"], 40), style="bold")
        line.append(f"  pid {snapshot['pid']}  up {seconds(snapshot['uptime'])}  ")
        guards = [*snapshot["limiters"], *snapshot["adaptive"]]
        allowed = sum(row["allowed_rate"] or 0.0 for row in guards)
        refused: dict[str, float] = {}
        for row in [*guards, *snapshot["breakers"]]:  # guards of one name share their refusals
            refused[row["name"]] = max(refused.get(row["name"], 0.0), row["rejected_rate"] or 0.0)
        line.append(f"allowed {rate(allowed)}/s  refused {rate(sum(refused.values()))}/s  ")
    marks = _PLAIN if plain else _MARKS
    level = "bad" if lost else "good"
    line.append(f"{marks[level]} {clean(status, 160)}", style=_STYLES[level])
    return line


def _section(
    section: Section, rows: list[Any], most: int, width: int, *, lost: bool, plain: bool
) -> Any:
    table = _table.Table(
        box=None, pad_edge=False, show_edge=False, header_style="dim", padding=(0, 2, 0, 0)
    )
    columns = [each for each in section.columns if width >= each.least]
    table.add_column(_text.Text(section.title, style="bold"), no_wrap=True, min_width=16)
    table.add_column("state", no_wrap=True, min_width=14)
    for column in columns:
        # Texts give way, numbers do not: half a number is a wrong one.
        if column.right:
            table.add_column(column.head, justify="right", no_wrap=True, min_width=len(column.head))
        else:
            table.add_column(column.head, no_wrap=True, overflow="ellipsis")
    marks = _PLAIN if plain else _MARKS
    for row in rows[:most]:
        level = section.level(row)
        cells = [_text.Text(section.name(row))]
        cells.append(_text.Text(f"{marks[level]} {section.state(row)}", style=_STYLES[level]))
        for column in columns:
            text = column.text(row)
            # No markup: what stands there is not ours.
            cells.append(_text.Text(text))
        table.add_row(*cells, style="dim" if lost else None)
    if len(rows) > most:
        table.add_row(_text.Text(f"and {len(rows) - most} more", style="dim"))
    return table


def _foot(choice: Choice) -> Any:
    line = _text.Text(no_wrap=True, overflow="ellipsis", style="dim")
    line.append(f"q quit  s sort: {SORTS[choice.sort]}  p {'go on' if choice.paused else 'pause'}")
    line.append("  view: ")
    for at, view in enumerate(VIEWS):
        line.append(f"{at} {view}  ", style="bold not dim" if at == choice.view else "dim")
    return line
