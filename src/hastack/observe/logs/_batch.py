"""What became of some lines: records, and the lines that became none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from .formats import Format

__all__ = ("Batch", "Counts", "Reject")


@attrs.frozen
class Reject:
    """A line that became no record.

    Attributes:
        line: The line as it was handed in.
        number: Its place among the lines handed in, from 0.
        reason: Why, in words that can be counted: ``"empty"``, ``"too long"``, ``"truncated"``,
            ``"unknown format"``.

    Example:
        >>> from hastack.observe import logs
        >>> logs.Parser().parse_lines(["what is this?"]).rejects
        [Reject(line='what is this?', number=0, reason='unknown format')]
    """

    line: str | bytes
    number: int
    reason: str


@attrs.define
class Counts:
    """How many lines were what.

    Attributes:
        lines: All of them: ``records`` and ``rejected``.
        records: Those that became a record.
        rejected: Those that did not, by reason.
        formats: Records by the name of their format.
        crlf: Lines that ended in CR LF.
        ansi: Lines with colours or other escape sequences, which were taken out.
        nul: Lines with NUL bytes, which were taken out.
        invalid: Lines that were not UTF-8; they were decoded as the parser's ``fallback`` says.
        bom: Lines that began with a byte order mark.
        long: Lines longer than 64 KiB.
        truncated: Last lines without an end although the others had one.
    """

    lines: int = 0
    records: int = 0
    rejected: dict[str, int] = attrs.Factory(dict)
    formats: dict[str, int] = attrs.Factory(dict)
    crlf: int = 0
    ansi: int = 0
    nul: int = 0
    invalid: int = 0
    bom: int = 0
    long: int = 0
    truncated: int = 0

    def add(self, other: Counts) -> None:
        """Add what ``other`` counted."""
        self.lines += other.lines
        self.records += other.records
        self.crlf += other.crlf
        self.ansi += other.ansi
        self.nul += other.nul
        self.invalid += other.invalid
        self.bom += other.bom
        self.long += other.long
        self.truncated += other.truncated
        for mine, theirs in ((self.rejected, other.rejected), (self.formats, other.formats)):
            for key, count in theirs.items():
                mine[key] = mine.get(key, 0) + count


@attrs.frozen
class Batch:
    """What became of some lines: each is in ``records`` or in ``rejects``.

    Attributes:
        records: The fields of each line that was read, in order.
        formats: The format of each record.
        numbers: The place of the line of each record, from 0.
        rejects: The other lines.
        counts: The same in numbers.

    Example:
        >>> from hastack.observe import logs
        >>> batch = logs.Parser().parse_lines(['{"took": 7}', "level=info took=8", "?"])
        >>> [(f.name, r["took"]) for f, r in zip(batch.formats, batch.records)]
        [('json', 7), ('logfmt', 8)]
        >>> len(batch.records) + len(batch.rejects)
        3
    """

    records: list[dict[str, Any]]
    formats: list[Format]
    numbers: list[int]
    rejects: list[Reject]
    counts: Counts
