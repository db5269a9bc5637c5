"""Arrival times out of an access log."""

from __future__ import annotations

import gzip
import io
import re
from array import array
from calendar import timegm
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import attrs

from hastack.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

MOST = 1_000_000
"""Requests read of one log; the rest is left out, and the description says so."""

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
# Common and combined log format, and nginx's `$time_local`: [10/Oct/2026:13:55:36 +0200]
_CLF = re.compile(
    r"\[(\d{2})/(\w{3})/(\d{4}):(\d{2}):(\d{2}):(\d{2})(?:\.(\d+))? ([+-])(\d{2})(\d{2})\]"
)
# nginx's `$time_iso8601`, and what structured logs print: 2026-10-10T13:55:36.123+02:00
_ISO = re.compile(r"\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}:\d{2}(?:[.,]\d+)?(?:Z|[+-]\d{2}:?\d{2})?")
# nginx's `$msec`: seconds since the epoch with milliseconds, 1791633336.123
_EPOCH = re.compile(r"(?<![\d.])\d{10}\.\d{3}(?!\d)")


@attrs.frozen(kw_only=True)
class Trace:
    """What a log says about arrivals.

    Attributes:
        stamps: One time per request, in seconds, in the log's order.
        resolution: Step of the stamps: 1.0, or 0.001 when the log writes fractions.
        skipped: Lines without a time.
        cut: Whether the log was longer than `MOST` requests.
    """

    stamps: Sequence[float]
    resolution: float
    skipped: int = 0
    cut: bool = False

    @property
    def description(self) -> str:
        """One clause for people."""
        span = max(self.stamps) - min(self.stamps) + self.resolution
        text = f"{len(self.stamps):,} requests over {span:,.0f} s"
        if self.cut:
            text = f"the first {text}"
        if self.skipped:
            text += f", {self.skipped:,} lines without a time skipped"
        return text


def stamp(line: str) -> tuple[float, bool] | None:
    """The time in one line, in seconds, and whether it has a fraction; ``None`` without one."""
    found = _CLF.search(line)
    if found is not None:
        return _common(found)
    found = _ISO.search(line)
    if found is not None:
        return _iso(found.group())
    found = _EPOCH.search(line)
    return (float(found.group()), True) if found is not None else None


def _common(found: re.Match[str]) -> tuple[float, bool] | None:
    day, month, year, hour, minute, second, part, sign, hours, minutes = found.groups()
    if month.lower() not in _MONTHS:
        return None
    number = _MONTHS.index(month.lower()) + 1
    offset = int(hours) * 3600 + int(minutes) * 60
    at = timegm((int(year), number, int(day), int(hour), int(minute), int(second), 0, 0, 0))
    at += -offset if sign == "+" else offset
    return at + (float(f"0.{part}") if part else 0.0), part is not None


def _iso(text: str) -> tuple[float, bool] | None:
    try:
        moment = datetime.fromisoformat(text.replace(",", "."))
    except ValueError:
        return None
    if moment.tzinfo is None:
        # Only differences count, so a missing zone is as good as any.
        moment = moment.replace(tzinfo=UTC)
    return moment.timestamp(), "." in text or "," in text


def parse(lines: Iterable[str], *, most: int = MOST) -> Trace:
    """The times of all lines.

    Raises:
        InvalidArgument: No line holds a time.
    """
    stamps = array("d")
    fine = True
    skipped = 0
    for line in lines:
        if len(stamps) >= most:
            return Trace(stamps=stamps, resolution=_resolution(fine), skipped=skipped, cut=True)
        found = stamp(line)
        if found is None:
            skipped += 1
            continue
        stamps.append(found[0])
        fine = fine and found[1]
    if not stamps:
        raise InvalidArgument(
            "trace",
            f"{skipped} lines",
            "an access log with times like [10/Oct/2026:13:55:36 +0000], "
            "2026-10-10T13:55:36Z or 1791633336.123",
        )
    return Trace(stamps=stamps, resolution=_resolution(fine), skipped=skipped)


def _resolution(fine: bool) -> float:
    return 0.001 if fine else 1.0


def read(path: Path) -> Trace:
    """`parse` the log at ``path``; one that ends in ``.gz`` is unpacked on the way."""
    unpack = gzip.open if path.suffix == ".gz" else open
    with (
        unpack(path, "rb") as raw,
        io.TextIOWrapper(raw, encoding="utf-8", errors="replace") as text,
    ):
        return parse(text)
