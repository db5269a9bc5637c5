"""Templates for people to read: how often, which, with what in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from ._template_names import Slot

__all__ = ("Template", "TemplateTable")

_WIDEST = 160


@attrs.frozen
class Template:
    """What a miner knows of a template.

    Attributes:
        id: Its id.
        text: Its text, with ``<*>`` for every value.
        count: How many lines it had.
        share: The same as a share of all lines.
        slots: Names, types and examples of the values, from left to right.
        example: The message of its first line.
    """

    id: int
    text: str
    count: int
    share: float
    slots: tuple[Slot, ...]
    example: str

    @property
    def named(self) -> str:
        """The text with ``<name:type>`` for every value."""
        first, *rest = self.text.split("<*>")
        if len(rest) != len(self.slots):  # the line itself has the mark in it
            return self.text
        named = (
            f"<{slot.name}:{slot.type}>{text}" for slot, text in zip(self.slots, rest, strict=True)
        )
        return first + "".join(named)


@attrs.frozen
class TemplateTable:
    """Templates, those with most lines first.

    Attributes:
        rows: The templates.
        lines: How many lines there were.
        total: How many templates there are, with those left out.
        evicted: How many were forgotten for lack of room.
    """

    rows: tuple[Template, ...]
    lines: int
    total: int
    evicted: int

    def __str__(self) -> str:
        lines = ["count   share  id  template"]
        width = max([5, *(len(str(row.count)) for row in self.rows)])
        for row in self.rows:
            text = row.text if len(row.text) <= _WIDEST else row.text[: _WIDEST - 3] + "..."
            lines.append(f"{row.count:{width}}  {row.share:6.1%}  {row.id:2}  {text}")
        if self.total > len(self.rows):
            lines.append(f"and {self.total - len(self.rows)} more")
        return "\n".join(lines)
