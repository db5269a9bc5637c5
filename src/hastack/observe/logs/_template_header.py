"""Where the header of a line ends: time, level, process and the like, found by looking at many."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ("Header", "detect_header")

_SAMPLE = 200
_WIDEST = 256
_FEWEST = 5
_MOST = 0.9
_COLUMNS = 14
_GAP = 2
_NAME = 160
_WORDS = 4

_CLASSES = (
    ("time", re.compile(r"\[?\W?[\w./:-]{0,40}?[0-9]{1,2}:[0-9]{2}(?![0-9]).*", re.DOTALL)),
    ("time", re.compile(r"\[[^\]]{0,40}[0-9]{1,2}:[0-9]{2}[^\]]{0,20}\]", re.DOTALL)),
    ("time", re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[-T_][0-9].*", re.DOTALL)),
    (
        "date",
        re.compile(
            r"\[?(?:[0-9]{2,4}[-/.][0-9]{1,2}[-/.][0-9]{1,4}|[0-9]{1,2}[-/][0-9]{1,2}),?\]?"
        ),
    ),
    (
        "date",
        re.compile(r"Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec|Mon|Tue|Wed|Thu|Fri|Sat|Sun"),
    ),
    ("date", re.compile(r"(?:20)?[0-9]{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12][0-9]|3[01])")),
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
_TOKEN = re.compile(r"\S+")
_PLACE = re.compile(r"(?=\D*[0-9])[A-Za-z][\w./:-]*")
_TIMES = frozenset({"time", "date", "epoch"})
_SEPARATORS = (": ", " - ")


def _columns(line: str) -> list[tuple[str, int]]:
    """The first tokens and where they end; a bracket with blanks in it is one."""
    found: list[tuple[str, int]] = []
    at = 0
    while len(found) < _COLUMNS:
        token = _TOKEN.search(line, at)
        if token is None:
            break
        start, at = token.span()
        depth = line.count("[", start, at) - line.count("]", start, at)
        if depth > 0 and line[start] == "[":
            at = _closed(line, at, depth, start + _WIDEST)
        found.append((line[start:at], at))
    return found


def _closed(line: str, at: int, depth: int, end: int) -> int:
    """Where brackets that are open at ``at`` close and the token ends; there, if not before ``end``."""
    for i in range(at, min(end, len(line))):
        depth += (line[i] == "[") - (line[i] == "]")
        if depth <= 0 and (i + 1 == len(line) or line[i + 1].isspace()):
            return i + 1
    return at


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
            at = len(line) - len(parts[-1]) if len(parts) > self.fields else 0
            return line[:at], line[at:]
        columns = _columns(line)
        if len(columns) < self.columns or not _classes(columns[self.when][0]) & {
            "time",
            "date",
            "epoch",
        }:
            return "", line
        end = columns[self.columns - 1][1]
        if self.separator:
            end = _after(line, end, self.separator) or end
        return line[:end], line[end:].lstrip()


def _after(line: str, start: int, separator: str) -> int | None:
    """Where the message begins when a name and then the separator follow."""
    at = (line + " ").find(separator, start, start + _NAME)
    if at < 0 or len(line[start:at].split()) > _WORDS:
        return None
    return min(at + len(separator), len(line))


def detect_header(lines: Iterable[str]) -> Header | None:
    """The header of the lines, from some hundreds of them; None when most have none that is known.

    A header has the time in it. It goes on to the last column that looks the same in nine of ten
    lines, and to the colon or dash behind a name there.
    """
    everything = [line for line in lines if line.strip()]
    sample = everything[:: max(1, len(everything) // _SAMPLE)]
    if len(sample) < _FEWEST:
        return None
    header = _piped(sample) or _spaced(sample)
    if header and sum(header.split(line)[1] != "" for line in sample) < _MOST * len(sample):
        return None  # nothing is left to read
    return header


def _piped(sample: Sequence[str]) -> Header | None:
    counts = Counter(line.split(None, 1)[0].count("|") for line in sample)
    fields = min((n for n, _ in counts.most_common(3)), default=0)
    timed = sum("time" in _classes(line.split("|", 1)[0]) for line in sample)
    return Header(0, "", fields, 0) if fields >= 2 and timed >= _MOST * len(sample) else None


def _spaced(sample: Sequence[str]) -> Header | None:
    rows = [_columns(line) for line in sample]
    need = _MOST * len(rows)
    strong: dict[int, set[str]] = {}
    gap, beside = 0, True
    seen: set[str] = set()
    for i in range(_COLUMNS):
        column = [row[i][0] for row in rows if len(row) > i]
        if len(column) < need:
            break
        votes = Counter(name for text in column for name in _classes(text))
        regular = {name for name, n in votes.items() if n >= need}
        # A number is a column of the header only beside another one: messages have numbers, too.
        sure = regular - ({"place"} if beside else {"place", "number"})
        if sure or (strong and _padded(sample, rows, i)):
            strong[i] = regular
            seen |= regular
            gap, beside = 0, True
        elif regular or Counter(column).most_common(1)[0][1] >= need:
            beside = "place" in regular
        else:
            gap, beside = gap + 1, False
            if gap > (_GAP if seen & _TIMES else _GAP + 1):
                break
    if not (seen & {"time", "epoch"} or {"date", "level"} <= seen):
        return None
    return _ended(sample, rows, strong)


def _ended(
    sample: Sequence[str], rows: Sequence[list[tuple[str, int]]], strong: dict[int, set[str]]
) -> Header:
    """The header of these columns, and of the name and separator behind them if there are any."""
    when = max(i for i, names in strong.items() if names & _TIMES)
    end = max(strong) + 1
    full = [
        (line, row[end - 1][1]) for line, row in zip(sample, rows, strict=True) if len(row) >= end
    ]
    for separator in _SEPARATORS:
        if sum(_after(line, at, separator) is not None for line, at in full) >= _MOST * len(rows):
            return Header(end, separator, 0, when)
    return Header(end, "", 0, when)


def _padded(sample: Sequence[str], rows: Sequence[list[tuple[str, int]]], i: int) -> bool:
    """Whether most lines have more than one blank behind a column: it is one of a table."""
    wide = sum(
        len(row) > i and line[row[i][1] : row[i][1] + 2] == "  "
        for line, row in zip(sample, rows, strict=True)
    )
    return wide >= _MOST * len(sample)
