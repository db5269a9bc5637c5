"""Templates of log lines that no format knows: what is fixed in them, and what varies.

A `TemplateMiner` learns them while lines pass, with one configuration for all sources. Numbers,
addresses, paths and the like are values by their looks; other words are, once a place has shown
enough different ones while the rest of the line stayed the same. A template only ever grows more
general, and ids stay: the id of one that was taken in by another leads to that one.

A miner is used by one thread at a time. Give each thread or process its own, and `merge` them.

Example:
    >>> from hastack.observe.logs.templates import TemplateMiner
    >>> miner = TemplateMiner()
    >>> for user in ("ada", "grace", "edsger"):
    ...     match = miner.add(f"session 17 opened for user {user} from 10.0.0.7:2200")
    >>> match.text
    'session <*> opened for user <*> from <*>:<*>'
    >>> match.fields
    {'session': 17, 'user': 'edsger', 'from': '10.0.0.7', 'port': 2200}
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

import attrs

from hastack._core._validate import integer

from ._template_index import Entry, Index
from ._template_names import convert, names, vote
from ._template_tokens import Reader, words

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ._template_form import Form
    from ._template_tokens import Pattern

__all__ = ("Match", "Slot", "Template", "TemplateMiner")

_CHUNK = 50_000


@attrs.frozen
class Slot:
    """A variable part: its name and the type that most of its values have."""

    name: str
    type: str


class Match:
    """A line and its template.

    Attributes:
        template_id: The id of the template.
        values: What stands in its holes, as text, from left to right.
    """

    __slots__ = ("_entry", "_form", "template_id", "values")

    def __init__(self, entry: Entry, values: tuple[str, ...]) -> None:
        self._entry = entry
        self._form = entry.form
        self.template_id = entry.id
        self.values = values

    @property
    def text(self) -> str:
        """The template, with ``<*>`` for every value."""
        return self._form.text

    @property
    def fields(self) -> dict[str, object]:
        """The values by name, converted where they have the type of their slot."""
        slots = _slots(self._entry, self._form)
        return {
            slot.name: convert(value, slot.type)
            for slot, value in zip(slots, self.values, strict=True)
        }

    def render(self) -> str:
        """The line again, up to how much blank is between its tokens."""
        return self._form.render(self.values)

    def __repr__(self) -> str:
        return f"Match({self.template_id}, {self.text!r}, {self.values!r})"


@attrs.frozen
class Template:
    """What a miner knows of a template.

    Attributes:
        id: Its id.
        text: Its text, with ``<*>`` for every value.
        count: How many lines it had.
        share: The same as a share of all lines.
        slots: Names and types of the values.
        example: A line.
        values: The values in some lines, named.
    """

    id: int
    text: str
    count: int
    share: float
    slots: tuple[Slot, ...]
    example: str
    values: tuple[dict[str, object], ...]


def _slots(entry: Entry, form: Form) -> tuple[Slot, ...]:
    if form is entry.form:
        columns: Sequence[Sequence[str]] = list(zip(*entry.samples, strict=True))
    else:
        columns = ()
    kinds = [vote(column) for column in columns] or ["str"] * form.holes
    return tuple(map(Slot, names(form.tokens, kinds), kinds))


class TemplateMiner:
    def __init__(
        self,
        *,
        max_templates: int = 4096,
        max_tokens: int = 128,
        max_chars: int = 8192,
        max_patterns: int = 65_536,
    ) -> None:
        self._index = Index(max_templates=integer("max_templates", max_templates), max_patterns=integer("max_patterns", max_patterns))
        self._reader = Reader(max_tokens=max_tokens, max_chars=max_chars, memory=max_patterns)

    def add(self, line: str) -> Match:
        index = self._index
        pattern = self._reader.pattern(line)
        entry = index.find(pattern)
        if entry is None:
            entry = index.insert(line, pattern)
        return self._note(entry, line, pattern)

    def _note(self, entry: Entry, line: str, pattern: Pattern) -> Match:
        index = self._index
        said = words(line, pattern)
        values = entry.form.values(said, pattern)
        if values is None:
            entry.form = entry.form.widened(said, pattern)
            entry.samples = []
            values = entry.form.values(said, pattern)
            assert values is not None
        index.tick += 1
        entry.note(values, index.tick)
        if len(index.entries) > index.max_templates:
            index.evict()
        return Match(entry, values)

    def fit(self, lines: Iterable[str]) -> TemplateMiner:
        rest = iter(lines)
        while chunk := list(islice(rest, _CHUNK)):
            self._fit(chunk)
        return self

    def _fit(self, lines: list[str]) -> None:
        index = self._index
        patterns = list(map(self._reader.pattern, lines))
        for pattern, line in dict(zip(reversed(patterns), reversed(lines), strict=True)).items():
            if index.find(pattern) is None:
                index.insert(line, pattern, settle=False)
        index.settle_all()
        for line, pattern in zip(lines, patterns, strict=True):
            entry = index.find(pattern)
            if entry is None:
                entry = index.insert(line, pattern)
            self._note(entry, line, pattern)

    def match(self, line: str) -> Match | None:
        pattern = self._reader.pattern(line)
        entry = self._index.find(pattern)
        if entry is None:
            return None
        values = entry.form.values(words(line, pattern), pattern)
        return None if values is None else Match(entry, values)

    def resolve(self, template_id: int) -> int:
        return self._index.current(template_id)
