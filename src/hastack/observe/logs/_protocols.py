"""What the parts of the log engine ask of each other.

Formats read lines, a schema and a redaction change records, a miner names what no format knows:
none of them imports another, and any object of the right shape takes a part's place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = (
    "BatchLike",
    "FormatLike",
    "Line",
    "Mined",
    "Miner",
    "ParserLike",
    "Record",
    "RejectLike",
    "Stage",
)

Record: TypeAlias = dict[str, Any]
"""The fields of one line, typed; a field that the line does not have is ``None`` or missing."""

Line: TypeAlias = str | bytes
"""A line as it was read, with or without its end."""


class FormatLike(Protocol):
    """A known kind of line."""

    @property
    def name(self) -> str:
        """Such as ``"nginx.combined"``."""
        ...

    @property
    def fields(self) -> Mapping[str, str]:
        """Name of each field that the grammar knows, and the word for its type."""
        ...

    def try_parse(self, line: str, /) -> Record | None:
        """The record, or ``None`` when the line is not of this kind."""
        ...

    def explain(self, line: str, /) -> object | None:
        """Why the line is not of this kind: a mistake with ``column``; ``None`` if it is."""
        ...


class RejectLike(Protocol):
    """A line that became no record."""

    @property
    def line(self) -> Line:
        """The line."""
        ...

    @property
    def number(self) -> int:
        """Its place among the lines handed in, from 0."""
        ...

    @property
    def reason(self) -> str:
        """Why, in a few words that can be counted."""
        ...


class BatchLike(Protocol):
    """What became of some lines: each is in ``records`` or in ``rejects``."""

    @property
    def records(self) -> list[Record]:
        """In the order of the lines."""
        ...

    @property
    def formats(self) -> Sequence[FormatLike]:
        """The format of each record."""
        ...

    @property
    def numbers(self) -> Sequence[int]:
        """The place of the line of each record, from 0."""
        ...

    @property
    def rejects(self) -> Sequence[RejectLike]:
        """The others."""
        ...


class ParserLike(Protocol):
    """Lines to records."""

    def parse_lines(self, lines: Iterable[Line], /) -> BatchLike:
        """Read lines; ``len(lines) == len(records) + len(rejects)``."""
        ...


class Stage(Protocol):
    """Something that records pass through between parser and sink: schemas, a redaction."""

    def apply(self, batch: BatchLike, /) -> object:
        """Change records where they are. None is added, none is taken away."""
        ...


class Mined(Protocol):
    """What a miner says of one message."""

    @property
    def template(self) -> str:
        """The fixed text, with a mark for each variable part."""
        ...

    @property
    def values(self) -> Sequence[str]:
        """The variable parts, in order."""
        ...


@runtime_checkable
class Miner(Protocol):
    """Finds the templates of messages that no format knows."""

    def add(self, message: str, /) -> Mined:
        """Take a message into account, and say what it is made of."""
        ...
