"""What became of every line: the account of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

import attrs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ._protocols import BatchLike

__all__ = ("Account", "Ledger", "Tally")

_REASONS = 1000  # different reasons of rejects that are told apart


@final
@attrs.frozen
class Tally:
    """What a worker process counted before it chose records and encoded them."""

    records: int
    filtered: int
    by_format: Mapping[str, int]


_CLEANED = ("crlf", "ansi", "nul", "invalid", "bom", "long")


@final
@attrs.frozen(kw_only=True)
class Account:
    """What a run of the engine read and what became of it.

    ``lines == records + rejects`` at any moment. Filtered records are among ``records``.

    Attributes:
        lines: Lines that were read and parsed.
        records: Those that became records.
        rejects: Those that did not.
        folded: Lines that were put to one before them, and are not among ``lines``.
        filtered: Records that ``where`` kept back.
        batches: Batches made of them.
        bytes_read: Bytes taken from the sources; of an archive, compressed.
        cut_lines: Lines longer than ``max_line``, of which only the beginning was parsed.
        cut_bytes: What was left out of them.
        undelivered: Lines that were read and not parsed, because the run was ended.
        retried: Batches parsed again because a worker process died.
        cleaned: What the parser took out of lines or put right, by kind; see `Counts`.
        by_format: Records of each format.
        by_reason: Rejects for each reason.
        by_source: Lines of each source.
        dropped: Messages lost before they could be read, by reason; see `SyslogListener`.
        damaged: Sources that could not be read to their end, and why.
    """

    lines: int = 0
    records: int = 0
    rejects: int = 0
    folded: int = 0
    filtered: int = 0
    batches: int = 0
    bytes_read: int = 0
    cut_lines: int = 0
    cut_bytes: int = 0
    undelivered: int = 0
    retried: int = 0
    cleaned: Mapping[str, int] = attrs.Factory(dict)
    by_format: Mapping[str, int] = attrs.Factory(dict)
    by_reason: Mapping[str, int] = attrs.Factory(dict)
    by_source: Mapping[str, int] = attrs.Factory(dict)
    dropped: Mapping[str, int] = attrs.Factory(dict)
    damaged: Mapping[str, str] = attrs.Factory(dict)

    @property
    def balanced(self) -> bool:
        """Whether each line is a record or a reject."""
        return self.lines == self.records + self.rejects

    @property
    def complete(self) -> bool:
        """Whether everything that the sources held or sent was read."""
        return not (self.dropped or self.damaged or self.cut_lines or self.undelivered)

    def __str__(self) -> str:
        parts = [f"{self.lines} lines = {self.records} records + {self.rejects} rejects"]
        parts += [
            f"{count} {name}"
            for name, count in (
                ("folded", self.folded),
                ("filtered", self.filtered),
                ("cut", self.cut_lines),
                ("undelivered", self.undelivered),
                ("dropped", sum(self.dropped.values())),
                ("sources damaged", len(self.damaged)),
            )
            if count
        ]
        return ", ".join([*parts, f"{self.bytes_read} bytes"])


@final
class Ledger:
    """The counts while a run goes on."""

    def __init__(self) -> None:
        self.lines = self.records = self.rejects = self.filtered = self.batches = 0
        self.retried = 0
        self.cleaned: dict[str, int] = {}
        self.by_format: dict[str, int] = {}
        self.by_reason: dict[str, int] = {}
        self.by_source: dict[str, int] = {}

    def book(self, source: str, lines: int, batch: BatchLike) -> bool:
        """Count a batch; whether all of its ``lines`` are in it."""
        tally: Tally | None = getattr(batch, "tally", None)
        records, rejects = len(batch.records), len(batch.rejects)
        if tally is not None:  # a worker process kept back what nobody has to see here
            records = tally.records
            self.filtered += tally.filtered
        self.lines += lines
        self.records += records
        self.rejects += rejects
        self.batches += 1
        self.by_source[source] = self.by_source.get(source, 0) + lines
        by_format = self.by_format
        if tally is not None:
            for name, count in tally.by_format.items():
                by_format[name] = by_format.get(name, 0) + count
        else:
            for found in batch.formats:
                by_format[found.name] = by_format.get(found.name, 0) + 1
        for reject in batch.rejects:
            reason = reject.reason
            if reason not in self.by_reason and len(self.by_reason) >= _REASONS:
                reason = "other"
            self.by_reason[reason] = self.by_reason.get(reason, 0) + 1
        counts = getattr(batch, "counts", None)  # only the parsers of this package have them
        if counts is not None:
            for kind in _CLEANED:
                if count := getattr(counts, kind, 0):
                    self.cleaned[kind] = self.cleaned.get(kind, 0) + count
        return records + rejects == lines

    def account(
        self,
        *,
        bytes_read: int,
        cut_lines: int,
        cut_bytes: int,
        dropped: Mapping[str, int],
        damaged: Mapping[str, str],
        undelivered: int,
        folded: int = 0,
    ) -> Account:
        """The account of now; the arguments are what the sources count."""
        return Account(
            lines=self.lines,
            records=self.records,
            rejects=self.rejects,
            folded=folded,
            filtered=self.filtered,
            batches=self.batches,
            bytes_read=bytes_read,
            cut_lines=cut_lines,
            cut_bytes=cut_bytes,
            undelivered=undelivered,
            retried=self.retried,
            cleaned=dict(self.cleaned),
            by_format=dict(self.by_format),
            by_reason=dict(self.by_reason),
            by_source=dict(self.by_source),
            dropped=dict(dropped),
            damaged=dict(damaged),
        )
