"""The doctor's findings for people, in as many columns as the terminal has."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Final

from hastack._core._extras import require

from ._finding import worst

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import Console
    from rich.text import Text

    from ._finding import Finding
else:
    Text = require("rich.text", extra="cli").Text

__all__ = ("print_section", "print_summary")

_STYLES: Final = {"ok": "green", "missing": "yellow", "broken": "bold red"}
_MARK: Final = 9  # columns: two before, the word, one or more after
_NAME: Final = 18
_NARROW: Final = 60  # columns; below that, what is said goes under the name


def print_section(console: Console, name: str, findings: Sequence[Finding]) -> None:
    """One section: a heading, and a paragraph for each finding."""
    console.print(Text(name, style="bold"))
    # As wide as its longest name, so that nothing is pushed out of line.
    names = max((len(each.name) for each in findings), default=0) + 2
    left = _MARK + max(_NAME, min(names, 26))
    if console.width < _NARROW:
        left = 4
    for each in findings:
        _print(console, each, left)


def _print(console: Console, found: Finding, left: int) -> None:
    head = Text.assemble("  ", (f"{found.status:<8}", _STYLES[found.status]), found.name)
    lines = _wrapped(found.says, console.width - left)
    if len(head) + 1 < left and lines:
        head.append(" " * (left - len(head)))
        head.append(lines.pop(0))
    _line(console, head)
    for line in lines:
        _line(console, Text(" " * left + line))
    for note in found.notes:
        first, *rest = _wrapped(note, console.width - left - 2)
        _line(console, Text.assemble(" " * left, ("! ", "yellow"), first))
        for line in rest:
            _line(console, Text(" " * (left + 2) + line))
    if found.fix:
        # Never broken, as it is there to be copied whole: rather further to the left.
        room = max(4, min(left, console.width - len(found.fix)))
        _line(console, Text.assemble(" " * (left if room == left else 4), (found.fix, "cyan")))


def _line(console: Console, text: Text) -> None:
    console.print(text, soft_wrap=True)


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, max(20, width), break_on_hyphens=False) or [""]


def print_summary(console: Console, findings: Iterable[Finding]) -> None:
    """How many of each, and how the whole is."""
    found = list(findings)
    status = worst(found)
    counts = [(sum(each.status == name for each in found), name) for name in _STYLES]
    notes = sum(len(each.notes) for each in found)
    said = [f"{number} {name}" for number, name in counts if number]
    if notes:
        said.append(f"{notes} worth a look (!)")
    console.print()
    console.print(Text(", ".join(said) or "nothing was looked at", style=_STYLES[status]))
