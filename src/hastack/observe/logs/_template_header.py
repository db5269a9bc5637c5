"""Where the header of a line ends: time, level, process and the like, found by looking at many."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

__all__ = ("Header", "detect_header")

_SAMPLE = 400
_MOST = 0.9
_COLUMNS = 14
_GAP = 2
_NAME = 80

_CLASSES = (
    ("time", re.compile(r"\[?\W?[\w./:-]{0,40}?[0-9]{1,2}:[0-9]{2}(?![0-9]).*", re.DOTALL)),
    ("time", re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[-T_][0-9].*", re.DOTALL)),
    ("date", re.compile(r"\[?(?:[0-9]{2,4}[-/.][0-9]{1,2}[-/.][0-9]{1,4}|[0-9]{1,2}[-/.][0-9]{1,2}),?\]?")),
    ("date", re.compile(r"Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec|Mon|Tue|Wed|Thu|Fri|Sat|Sun")),
    ("epoch", re.compile(r"1[0-9]{9}(?:[0-9]{3}){0,3}(?:\.[0-9]+)?")),
    ("number", re.compile(r"[0-9]+")),
    (
        "level",
        re.compile(
            r"[\[<(]?(?:trace|debug|info|information|notice|warn|warning|err|error|severe|fatal|crit|"
            r"critical|alert|emerg|panic|failure|[VDIWEF])[\])>]?[:,]?",
            re.IGNORECASE,
        ),
    ),
    ("bracket", re.compile(r"\[.*\]:?", re.DOTALL)),
    ("dash", re.compile(r"[-|:]")),
)
_PLACE = re.compile(r"(?=\D*[0-9])[A-Za-z][\w./:-]*")
_SEPARATORS = (": ", " - ")


def _columns(line: str) -> list[tuple[str, int]]:
    """The first tokens and where they end; a bracket with blanks in it is one."""
    found: list[tuple[str, int]] = []
    at, size = 0, len(line)
    while at < size and len(found) < _COLUMNS:
        while at < size and line[at].isspace():
            at += 1
        start, depth = at, 0
        while at < size and at - start < 256 and (depth > 0 or not line[at].isspace()):
            if line[start] == "[":
                depth += (line[at] == "[") - (line[at] == "]")
            at += 1
        if at > start:
            found.append((line[start:at], at))
    return found


def _classes(text: str) -> set[str]:
    found = {name for name, expression in _CLASSES if expression.fullmatch(text)}
    if not found and _PLACE.fullmatch(text):
        found.add("place")
    return found


@attrs.frozen
class Header:
    """The header that most lines of a source have.

    Attributes:
        columns: How many tokens it has, with what is in brackets as one.
        separator: What ends it, somewhere after these; empty when they are all.
        fields: With columns separated by ``|``, how many of these; else 0.
        when: Which column tells the time: a line that has none there has no header.
    """

    columns: int
    separator: str
    fields: int
    when: int

    def split(self, line: str) -> tuple[str, str]:
        """The header and the message; no header when the line does not have it."""
        if self.fields:
            parts = line.split("|", self.fields)
            return ("|".join(parts[:-1]), parts[-1]) if len(parts) > self.fields else ("", line)
        columns = _columns(line)
        if len(columns) < self.columns or not _classes(columns[self.when][0]) & {"time", "date", "epoch"}:
            return "", line
        end = columns[self.columns - 1][1]
        if self.separator:
            end = _after(line, end, self.separator) or end
        return line[:end], line[end:].lstrip()


def _after(line: str, start: int, separator: str) -> int | None:
    """Where the message begins when a name and then the separator follow."""
    at = (line + " ").find(separator, start, start + _NAME)
    if at < 0 or len(line[start:at].split()) > 3:
        return None
    return min(at + len(separator), len(line))


def _share(values: Sequence[object], test: Callable[[object], bool]) -> float:
    return sum(map(test, values)) / len(values)


def detect_header(lines: Iterable[str]) -> Header | None:
    """The header of the lines, from up to 400 of them; None when most have none that is known.

    A header has the time in it. It goes on to the last column that looks the same in nine of ten
    lines, and to the colon or dash behind a name there.
    """
    everything = [line for line in lines if line.strip()]
    sample = everything[:: max(1, len(everything) // _SAMPLE)]
    if not sample:
        return None
    return _piped(sample) or _spaced(sample)


def _piped(sample: Sequence[str]) -> Header | None:
    counts = Counter(line.split(None, 1)[0].count("|") for line in sample)
    fields = min((n for n, _ in counts.most_common(3)), default=0)
    timed = _share(sample, lambda line: "time" in _classes(str(line).split("|")[0]))
    return Header(0, "", fields, 0) if fields >= 2 and timed >= _MOST else None


def _spaced(sample: Sequence[str]) -> Header | None:
    rows = [_columns(line) for line in sample]
    strong: dict[int, set[str]] = {}
    gap = 0
    for i in range(_COLUMNS):
        column = [row[i][0] for row in rows if len(row) > i]
        if len(column) < _MOST * len(rows):
            break
        votes = Counter(name for text in column for name in _classes(text))
        regular = {name for name, n in votes.items() if n >= _MOST * len(rows)}
        if regular - {"place"} or _padded(sample, rows, i) and strong:
            strong[i] = regular
            gap = 0
        elif not regular and Counter(column).most_common(1)[0][1] < _MOST * len(rows):
            gap += 1
            if gap > _GAP:
                break
    when = [i for i, names in strong.items() if names & {"time", "date", "epoch"}]
    if not when:
        return None
    end = max(strong) + 1
    for separator in _SEPARATORS:
        ends = [_after(line, row[end - 1][1], separator) for line, row in zip(sample, rows, strict=True) if len(row) >= end]
        if sum(at is not None for at in ends) >= _MOST * len(sample):
            return Header(end, separator, 0, when[-1])
    return Header(end, "", 0, when[-1])


def _padded(sample: Sequence[str], rows: Sequence[list[tuple[str, int]]], i: int) -> bool:
    """Whether most lines have more than one blank behind a column: it is one of a table."""
    wide = sum(len(row) > i and line[row[i][1] : row[i][1] + 2] == "  " for line, row in zip(sample, rows, strict=True))
    return wide >= _MOST * len(sample)
