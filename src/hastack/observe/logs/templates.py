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
    {'session': 17, 'user': 'edsger', 'ip': '10.0.0.7', 'port': 2200}
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any, Final, Literal, final

import attrs

from hastack._core._errors import InvalidArgument
from hastack._core._validate import integer

from ._template_explain import Difference, TemplateExplanation, explain
from ._template_header import Header, detect_header
from ._template_index import Index
from ._template_names import Slot, named, slots
from ._template_state import read_state, write_state
from ._template_table import Template, TemplateTable
from ._template_tokens import Reader

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ._template_form import Form
    from ._template_index import Entry
    from ._template_tokens import Pattern

__all__ = (
    "Difference",
    "Header",
    "Match",
    "Slot",
    "Template",
    "TemplateExplanation",
    "TemplateMiner",
    "TemplateTable",
    "detect_header",
    "table",
)

_CHUNK: Final = 20_000


@final
class Match:
    """A line and its template.

    Attributes:
        values: What stands in the holes of the template, as text, from left to right.
        head: The header that was in front of the message, if the miner cuts headers.
    """

    __slots__ = ("_entry", "_form", "head", "values")

    def __init__(self, entry: Entry, values: tuple[str, ...], head: str) -> None:
        self._entry = entry
        self._form: Form = entry.form
        self.values = values
        self.head = head

    @property
    def template_id(self) -> int:
        """The id of the template: of the one that took it in, if one has since."""
        return self._entry.current().id

    @property
    def text(self) -> str:
        """The template, with ``<*>`` for every value."""
        return self._form.text

    @property
    def template(self) -> str:
        """The same as `text`."""
        return self._form.text

    @property
    def fields(self) -> dict[str, object]:
        """The values by name, of the type of their slot where they have it."""
        if self._form is self._entry.form:
            return named(self._entry.slots(), self.values)
        # The template has grown more general since; these are the values of what it was.
        form = self._form
        return named(slots(form.tokens, form.holes, [self.values]), self.values)

    def render(self) -> str:
        """The message again, up to how much blank there is between its tokens."""
        return self._form.render(self.values)

    def __repr__(self) -> str:
        return f"Match({self.template_id}, {self.text!r}, {self.values!r})"


@final
class TemplateMiner:
    """Finds the templates of lines and the values in them.

    Lines are read as they are; when a header is known, only the message behind it counts. What is
    remembered is bounded by the arguments, whatever the lines are: about 10 KB for a template and
    1 KB for a pattern of usual lines.

    Args:
        header: What to cut off in front; ``"auto"`` looks for one when `fit` is called first.
        max_templates: Above this, those that were not seen for the longest time are forgotten, an
            eighth of all at a time; `evicted` counts them.
        max_tokens: Tokens that are looked at; the rest of a longer line is one value.
        max_chars: Characters that are looked at, likewise.
        max_patterns: Ways in which lines look whose template is remembered; when full, all are
            forgotten and looked up again.

    Raises:
        InvalidArgument: A bound is no positive integer, or ``header`` is none.

    Example:
        >>> miner = TemplateMiner().fit(["took 5 ms", "took 17 ms", "failed"])
        >>> miner.match("took 3 ms").values
        ('3',)
        >>> print(miner.table())
        count   share  id  template
            2   66.7%   1  took <*> ms
            1   33.3%   2  failed
    """

    def __init__(
        self,
        *,
        header: Header | Literal["auto"] | None = "auto",
        max_templates: int = 4096,
        max_tokens: int = 128,
        max_chars: int = 8192,
        max_patterns: int = 16_384,
    ) -> None:
        if header != "auto" and not isinstance(header, (Header, type(None))):
            raise InvalidArgument("header", header, 'a Header, "auto" or None')
        patterns = integer("max_patterns", max_patterns)
        self._bounds = {
            "max_templates": integer("max_templates", max_templates),
            "max_tokens": integer("max_tokens", max_tokens, minimum=2),
            "max_chars": integer("max_chars", max_chars),
            "max_patterns": patterns,
        }
        self._header = header
        self._index = Index(max_templates=max_templates, max_patterns=patterns)
        self._reader = Reader(max_tokens=max_tokens, max_chars=max_chars, memory=patterns)

    @property
    def header(self) -> Header | None:
        """What is cut off in front of messages."""
        return self._header if isinstance(self._header, Header) else None

    @property
    def lines(self) -> int:
        """How many lines were learned from."""
        return self._index.tick

    @property
    def evicted(self) -> int:
        """How many templates were forgotten for lack of room."""
        return self._index.evicted

    def __len__(self) -> int:
        return len(self._index.entries)

    def _cut(self, line: str) -> tuple[str, str]:
        return self._header.split(line) if isinstance(self._header, Header) else ("", line)

    def add(self, line: str) -> Match:
        """Learn from a line.

        Args:
            line: The line, or its message alone.

        Returns:
            Its template, which fits it exactly: `Match.render` gives its tokens back.
        """
        head = ""
        if self._header.__class__ is Header:
            head, line = self._cut(line)
        index = self._index
        pattern, said = self._reader.read(line)
        entry = index.find(pattern)
        if entry is None:
            entry = index.insert(line, pattern, said)
        return Match(entry, self._note(entry, pattern, said), head)

    def _note(self, entry: Entry, pattern: Pattern, said: list[str]) -> tuple[str, ...]:
        index = self._index
        values = entry.form.values(said, pattern)
        if values is None:
            values = index.widen(entry, said, pattern)
        index.tick += 1
        entry.note(values, index.tick)
        if len(index.entries) > index.max_templates:
            index.evict()
        return values

    def fit(self, lines: Iterable[str]) -> TemplateMiner:
        """Learn from many lines at once, some thousand at a time.

        What they have in common is decided after all of such a batch were seen; the outcome is
        hardly different from adding them one by one, and does not depend on their order.

        Args:
            lines: The lines. Read once, never held all at the same time.

        Returns:
            The miner itself.
        """
        rest = iter(lines)
        while chunk := list(islice(rest, _CHUNK)):
            if self._header == "auto":
                self._header = None if self.lines else detect_header(chunk)
            self._fit(chunk)
        return self

    def _fit(self, lines: list[str]) -> None:
        index = self._index
        cut = [self._cut(line)[1] for line in lines] if self.header else lines
        read = list(map(self._reader.read, cut))
        fresh: dict[Pattern, int] = {}
        for i, (pattern, _) in enumerate(read):
            if pattern not in fresh:
                fresh[pattern] = i
        for pattern, i in fresh.items():
            if index.find(pattern) is None:
                index.insert(cut[i], pattern, read[i][1], settle=False)
                if len(index.entries) > index.max_templates:
                    index.settle_all()
        index.settle_all()
        for line, (pattern, said) in zip(cut, read, strict=True):
            # A batch of more templates than there is room for has lost some of its own.
            entry = index.find(pattern) or index.insert(line, pattern, said)
            self._note(entry, pattern, said)

    def match(self, line: str) -> Match | None:
        """The template of a line, without learning from it.

        Returns:
            None when no template fits exactly.
        """
        head, line = self._cut(line)
        pattern, said = self._reader.read(line)
        entry = self._index.find(pattern)
        if entry is None:
            return None
        values = entry.form.values(said, pattern)
        return None if values is None else Match(entry, values, head)

    def resolve(self, template_id: int) -> int:
        """Today's id of a template: its own, or that of the one that took it in."""
        return self._index.current(template_id)

    def templates(self) -> list[Template]:
        """All templates, by id. What is still to be drawn together is, first."""
        self._index.settle_all()
        total = self.lines
        return [
            Template(
                id=entry.id,
                text=entry.form.text,
                count=entry.count,
                share=entry.count / total if total else 0.0,
                slots=entry.slots(),
                example=entry.example,
            )
            for entry in sorted(self._index.entries.values(), key=lambda entry: entry.id)
        ]

    def table(self, *, limit: int | None = None) -> TemplateTable:
        """The templates with most lines first.

        Args:
            limit: How many at most.
        """
        rows = sorted(self.templates(), key=lambda row: (-row.count, row.id))
        return TemplateTable(tuple(rows[:limit]), self.lines, len(rows), self.evicted)

    def explain(self, first: str, second: str) -> TemplateExplanation:
        """Why two lines have the same template, or why not.

        Args:
            first: A line.
            second: Another.

        Example:
            >>> miner = TemplateMiner().fit(["port 1 is up", "port 2 is up", "port 2 is down"])
            >>> print(miner.explain("port 1 is up", "port 2 is up"))
            together, as 'port <*> is up'
            1 | 2: values by their looks
        """
        a, b = self._cut(first)[1], self._cut(second)[1]
        return explain(self._index, self._reader.read(a), self._reader.read(b))

    def merge(self, other: TemplateMiner) -> dict[int, int]:
        """Take in what another miner has learned, which stays as it is.

        Args:
            other: The other one, as another process may have sent it with `dump`.

        Returns:
            For each id there, the id here.
        """
        moved = self._index.take_in(other._index)
        self._index.evict()
        return {old: self.resolve(new) for old, new in moved.items()}

    def dump(self) -> str:
        """All that was learned, as JSON."""
        header = attrs.astuple(self.header) if self.header else self._header
        return write_state(self._index, {"header": header, **self._bounds})

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return TemplateMiner.load, (self.dump(),)

    @classmethod
    def load(cls, text: str) -> TemplateMiner:
        """A miner that goes on where another was dumped.

        Args:
            text: What `dump` gave.

        Raises:
            InvalidArgument: It is something else.
        """
        options, fill = read_state(text)
        header: Any = options.pop("header")
        miner = cls(header=Header(*header) if isinstance(header, list) else header, **options)
        fill(miner._index)
        return miner


def table(
    lines: Iterable[str],
    *,
    header: Header | Literal["auto"] | None = "auto",
    limit: int | None = None,
) -> TemplateTable:
    """The templates of some lines, with most lines first.

    Args:
        lines: The lines, read once.
        header: What to cut off in front of the message; looked for by default.
        limit: How many rows at most.

    Example:
        >>> from hastack.observe.logs import templates
        >>> found = templates.table(f"user u{i} has {i} mails" for i in range(3))
        >>> found.rows[0].text, found.rows[0].count
        ('user u<*> has <*> mails', 3)
    """
    return TemplateMiner(header=header).fit(lines).table(limit=limit)
