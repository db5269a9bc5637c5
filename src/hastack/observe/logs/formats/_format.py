"""A kind of line: how it is read, what its fields are, with which characters it may begin."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Protocol, final

from hastack._core import _validate
from hastack._core._errors import InvalidArgument, MissingDependency
from hastack.observe.logs._fuse import without_groups

from ._shape import field_kinds, first_characters

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from hastack.observe.logs.combinators import Compiled, LineError, Parser

__all__ = ("Format", "Record")

Record = dict[str, Any]


class ReadLine(Protocol):
    """A function from a line to a record; a `Callable` in a class is a method to type checkers."""

    def __call__(self, line: str, /) -> Record | None:
        """The record, or ``None``."""
        ...


@final
class Format:
    """A kind of line.

    A line belongs to the first format that reads it, in order of ``rank``; those of one rank never
    read the same line. A format that was made without a rank comes before all that are built in.

    Args:
        name: Such as ``"shop.orders"``.
        grammar: Of combinators, compiled or not, or a function from a line to a record, which
            answers ``None`` or raises `ValueError` for a line that is not of this kind.
        fields: Name of each field and the word for its type, where ``grammar`` does not say it.
        rank: Smaller is asked first.
        starts: The characters that a line may begin with, where ``grammar`` does not say it; of a
            function it is believed to be any.
        marks: Its lines begin with one of these texts.
        explain: For a function: where a line stops to be of this kind, and what was expected
            there; ``None`` if it is of this kind.
        block: Its records are texts of several lines; see `hastack.observe.logs.Folder`.
        raw: It reads such a text as it is, with NUL bytes; what is not UTF-8 comes as lone
            surrogates.

    Raises:
        Unbounded: The time to read a line is not bound by its length.
        InvalidArgument: ``grammar`` has no fields, or is none.

    Attributes:
        name: The same.
        rank: The same; ``None`` comes before every number.

    Example:
        >>> from hastack.observe.logs import combinators as c, formats
        >>> line = c.seq(c.field("took", c.duration), " ", c.field("order", c.integer))
        >>> orders = formats.Format("shop.orders", line)
        >>> orders.try_parse("250ms 42")
        {'took': 0.25, 'order': 42}
        >>> dict(orders.fields)
        {'took': 'duration', 'order': 'int'}
        >>> str(orders.explain("250ms x"))
        'column 7: expected an integer'
    """

    __slots__ = (
        "_build",
        "_explain",
        "_fields",
        "_pattern",
        "_starts",
        "_where",
        "_why",
        "block",
        "marks",
        "name",
        "rank",
        "raw",
        "try_parse",
    )

    _explain: Callable[[str], LineError | None]
    try_parse: ReadLine
    """The record of a whole line, or ``None`` when it is not of this kind."""

    def __init__(
        self,
        name: str,
        grammar: Parser | Compiled | Callable[[str], Record | None],
        *,
        fields: Mapping[str, str] | None = None,
        rank: int | None = None,
        starts: Iterable[str] | None = None,
        marks: Iterable[str] = (),
        explain: Callable[[str], tuple[int, str] | None] | None = None,
        block: bool = False,
        raw: bool = False,
    ) -> None:
        self._set(name, rank, starts, marks, block=block, raw=raw)
        self._why = explain
        self._take(grammar, fields)

    def _set(
        self,
        name: str,
        rank: int | None,
        starts: Iterable[str] | None,
        marks: Iterable[str],
        *,
        block: bool,
        raw: bool,
    ) -> None:
        self.name = _validate.text("name", name)
        self.rank = rank
        self.marks = tuple(marks)
        self.block = block
        self.raw = raw
        if starts is None and self.marks:
            starts = (mark[0] for mark in self.marks)
        self._starts = None if starts is None else frozenset(starts)
        self._fields: Mapping[str, str] = {}
        self._build: Callable[[], Format] | None = None
        self._pattern: str | None = None
        if self.marks:
            self._pattern = "|".join(map(re.escape, self.marks))
        self._where: tuple[Any, Any] = (None, None)

    @classmethod
    def _later(
        cls,
        name: str,
        build: Callable[[], Format],
        *,
        rank: int,
        starts: str | None,
        marks: tuple[str, ...],
        block: bool,
        raw: bool,
        where: tuple[Any, Any],
    ) -> Format:
        """One whose grammar is made when it is first needed."""
        made = cls.__new__(cls)
        made._set(name, rank, starts, marks, block=block, raw=raw)
        made._where = where
        made._build = build
        made.try_parse = made._first
        made._explain = made._first_explain
        return made

    def _first(self, line: str) -> Record | None:
        self._complete()
        return self.try_parse(line)

    def _first_explain(self, line: str) -> LineError | None:
        self._complete()
        return self._explain(line)

    def _complete(self) -> None:
        build = self._build
        if build is not None:  # two threads may both build it: they build the same
            other = build()
            self._fields = other._fields
            self._explain = other._explain
            self.try_parse = other.try_parse
            self._pattern = other._pattern
            self._build = None

    def _take(self, grammar: Any, fields: Mapping[str, str] | None) -> None:
        if hasattr(grammar, "node") and hasattr(grammar, "compile"):
            self._take_compiled(grammar.compile(), fields)
        elif hasattr(grammar, "node") and hasattr(grammar, "read"):
            self._take_compiled(grammar, fields)
        elif callable(grammar):
            read: Any = grammar
            self._fields = dict(fields or {})
            self.try_parse = _guarded(read)
            self._explain = self._reason(read)
        else:
            raise InvalidArgument("grammar", grammar, "combinators, or a function")

    def _take_compiled(self, compiled: Compiled, fields: Mapping[str, str] | None) -> None:
        if not compiled.names:
            raise InvalidArgument("grammar", compiled, "combinators with at least one field()")
        self._fields = field_kinds(compiled.node) if fields is None else dict(fields)
        self.try_parse = compiled.read
        if compiled.start is not None:
            if self._starts is None:
                self._starts = first_characters(compiled.start)
            self._pattern = self._pattern or without_groups(compiled.start)

        def explain(line: str) -> LineError | None:
            return None if compiled.read(line) is not None else compiled.explain(line)

        self._explain = explain

    def _reason(self, read: Callable[[str], Record | None]) -> Callable[[str], LineError | None]:
        def explain(line: str) -> LineError | None:
            expected = f"a line of {self.name}"
            try:
                if read(line) is not None:
                    return None
            except ValueError:
                pass
            except MissingDependency:
                raise
            except Exception as error:
                expected = f"what {self.name} does not fail at with {error!r}"
            found = self._why(line) if self._why is not None else None
            return _mistake(line, *(found or (0, expected)))

        return explain

    @property
    def fields(self) -> Mapping[str, str]:
        """Name of each field that is known, and the word for its type."""
        self._complete()
        return self._fields

    @property
    def starts(self) -> frozenset[str] | None:
        """The characters that a line may begin with; ``None`` is any.

        ``""`` stands for all beyond ASCII.
        """
        return self._starts

    @property
    def pattern(self) -> str | None:
        """A regular expression that matches at the begin of every line of this kind, if known."""
        if self._pattern is None:
            self._complete()
        return self._pattern

    def explain(self, line: str) -> LineError | None:
        """Why ``line`` is not of this kind, and where; ``None`` if it is."""
        return self._explain(line)

    def __repr__(self) -> str:
        return f"<Format {self.name}>"

    def __reduce__(self) -> tuple[Any, ...]:
        from ._registry import look_up

        return look_up, (self.name, *self._where)


def _mistake(line: str, at: int, expected: str) -> LineError:
    from hastack.observe.logs.combinators import LineError

    return LineError(line, at, (expected,))


def _guarded(read: Callable[[str], Record | None]) -> Callable[[str], Record | None]:
    def try_parse(line: str) -> Record | None:
        try:
            return read(line)
        except MissingDependency:
            raise
        except Exception:  # a line must not be lost over it; `explain` says it
            return None

    return try_parse
