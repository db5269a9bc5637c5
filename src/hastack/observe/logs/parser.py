"""Lines to records, whatever their formats."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import attrs

from hastack._core._errors import InvalidArgument
from hastack._core._fork import renew_in_child

from . import formats as _formats
from ._batch import Batch, Counts, Reject
from ._clean import length
from ._dispatch import Dispatch, Reader
from .formats import Format, _registry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from datetime import datetime, tzinfo

    from ._protocols import Miner
    from .combinators import LineError

__all__ = ("Batch", "Counts", "Explanation", "Format", "Parser", "Reject", "parse")


def _never(line: str) -> None:
    return None


MINED = Format("template", _never, fields={"template": "str", "message": "str"})


@attrs.frozen
class Explanation:
    """Which format reads a line, and why the others do not. Made by `Parser.explain`.

    Attributes:
        line: The line, cleaned.
        format: The one that reads it, or ``None``.
        record: What it reads.
        misses: For each other format what it expected and where; those that got furthest first.
    """

    line: str
    format: Format | None
    record: dict[str, Any] | None
    misses: list[tuple[Format, LineError]]

    def __str__(self) -> str:
        if self.format is not None:
            return f"{self.format.name}: {self.record}"
        shown = [self.line]
        for each, miss in self.misses[:5]:
            shown += [" " * (miss.column - 1) + "^", f"{each.name}: {miss}"]
        return "\n".join(shown)


class Parser:
    """Reads lines of any known format.

    Which format a line has is found by its first character, and by what was right for the last line
    that began so; the answer depends on the line alone. May be used by several threads at once.

    Args:
        formats: These, or their names, and no others; those that come first are asked first. By
            default all that are known: see `hastack.observe.logs.formats.register`.
        templates: Names the lines that no format knows; their format is called ``"template"``, and
            no line is rejected as unknown.
        zone: Of timestamps that name none. Applies to the formats that are built in.
        now: Asked for the present, where a timestamp has no year; the system's clock by default.
        longest: Longer lines are rejected: bytes, characters, or a text such as ``"1MiB"``.
        fallback: What becomes of lines that are not UTF-8: ``"replace"`` puts U+FFFD where they are
            not, ``"backslashreplace"`` keeps the bytes readable; ``"latin-1"``, ``"cp1252"`` or
            another encoding of single bytes reads the whole line so.

    Raises:
        InvalidArgument: A format or an encoding is not known.

    Attributes:
        formats: The formats, in the order in which they are asked.

    Example:
        >>> from hastack.observe import logs
        >>> parser = logs.Parser()
        >>> parser.parse('{"level": "info", "took": 7}')
        {'level': 'info', 'took': 7}
        >>> batch = parser.parse_lines([
        ...     '<165>1 2003-10-11T22:14:15.003Z web1 shop 42 - - started',
        ...     'level=warn took=7.5',
        ... ])
        >>> [f.name for f in batch.formats]
        ['syslog.rfc5424', 'logfmt']
        >>> parser.counts.lines
        3
    """

    def __init__(
        self,
        formats: Iterable[Format | str] | None = None,
        *,
        templates: Miner | None = None,
        zone: tzinfo | None = None,
        now: Callable[[], datetime] | None = None,
        longest: int | str = "1MiB",
        fallback: str = "replace",
    ) -> None:
        self.formats: Sequence[Format] = _chosen(formats, zone, now)
        self._reader = Reader(
            Dispatch(self.formats),
            longest=length("longest", longest),
            fallback=_encoding(fallback),
            miner=templates,
            mined=MINED,
        )
        self._lock = threading.Lock()
        self._counts = Counts()
        renew_in_child(self)

    def _after_fork(self) -> None:
        self._lock = threading.Lock()

    def parse(self, line: str | bytes) -> dict[str, Any] | None:
        """The record of a line, or ``None`` when no format reads it."""
        batch = self._reader.one(line)
        with self._lock:
            self._counts.add(batch.counts)
        return batch.records[0] if batch.records else None

    def parse_lines(self, lines: Iterable[str | bytes]) -> Batch:
        """The records of lines, with or without their ends; those that are none are rejects.

        A line of several lines, as `Folder` makes them, is read as its first one, and the others
        are its ``continuation``; unless a format knows what they are together.

        Args:
            lines: As many as are to be in memory at once: `Batch` holds all of their records.
        """
        batch = self._reader.run(lines)
        with self._lock:
            self._counts.add(batch.counts)
        return batch

    @property
    def counts(self) -> Counts:
        """What this parser read so far."""
        with self._lock:
            found = Counts()
            found.add(self._counts)
            return found

    def explain(self, line: str | bytes) -> Explanation:
        """Which format reads a line, or for each that might have why it does not.

        Example:
            >>> from hastack.observe import logs
            >>> found = logs.Parser(["syslog.rfc5424"]).explain("<165>1 yesterday web1 - - - -")
            >>> print(found)
            <165>1 yesterday web1 - - - -
                   ^
            syslog.rfc5424: column 8: expected an RFC 3339 time
        """
        text = self._reader.text(line)
        found = self._reader.find(text)
        misses = []
        for each in self.formats:
            miss = each.explain(text) if found is None or each is not found[0] else None
            if miss is not None:
                misses.append((each, miss))
        misses.sort(key=lambda pair: -pair[1].at)
        known, record = found or (None, None)
        return Explanation(text, known, record, misses)


def _chosen(
    wanted: Iterable[Format | str] | None,
    zone: tzinfo | None,
    now: Callable[[], datetime] | None,
) -> list[Format]:
    def resolved(each: Format | str) -> Format:
        if isinstance(each, str):
            return _formats.get(each, zone=zone, now=now)
        if not isinstance(each, Format):
            raise InvalidArgument("formats", each, "formats, or names of formats")
        return each

    if wanted is None:
        return [resolved(each.name) for each in _formats.known()]
    if isinstance(wanted, (str, Format)):
        raise InvalidArgument("formats", wanted, "a list of formats, or of their names")
    return [resolved(each) for each in wanted]


def _encoding(fallback: str) -> str:
    if fallback in {"replace", "backslashreplace", "surrogateescape"}:
        return fallback
    try:
        bytes(range(256)).decode(fallback, "replace")
        if len(bytes(range(256)).decode(fallback, "replace")) == 256:
            return fallback
    except (LookupError, UnicodeError, TypeError):
        pass
    allowed = "'replace', 'backslashreplace', or an encoding of single bytes"
    raise InvalidArgument("fallback", fallback, allowed)


_default: Parser | None = None
_default_of = -1


def parse(line: str | bytes) -> dict[str, Any] | None:
    """The record of a line of any known format, or ``None`` when no format reads it.

    Example:
        >>> from hastack.observe import logs
        >>> logs.parse("I1010 13:55:36.123456    4242 server.go:7] ready")["file"]
        'server.go'
    """
    global _default, _default_of
    known = _registry.version
    if _default is None or known != _default_of:
        _default, _default_of = Parser(), known
    return _default.parse(line)
