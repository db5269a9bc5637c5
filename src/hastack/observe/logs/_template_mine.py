"""Which masked lines are one template: the batch pass over distinct patterns.

Two lines are of one kind when they have as many tokens and differ only in columns that hold
values. Whether a column does is decided from everything seen in it while the rest of the line
stayed the same: how its words look, what stands before them, and how many there are.
"""

from __future__ import annotations

import re
from collections import Counter
from functools import partial
from itertools import combinations
from typing import TYPE_CHECKING, TypeAlias

from ._template_tokens import DATE_WORDS, HOLE, LIST, OPEN, TAIL, normal, word_set

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from ._template_tokens import Pattern

Reasons: TypeAlias = dict[int, str]
"""Why a column is one of values, by column."""

__all__ = (
    "Neighbours",
    "Reasons",
    "Rows",
    "compress",
    "edges",
    "fits",
    "judge",
    "merge_rows",
    "without",
)

_NOUNS = word_set(
    "user users username host hosts hostname node file filename path dir directory "
    "device client server address addr id name interface account group database table "
    "class"
)
_AGENTS = word_set("for from by to")
_PREPOSITIONS = word_set("for from by to at with as of in is was on via")
_CONSTANTS = word_set("true false null none nil yes no nan undefined unknown")
_SIZES = word_set("B KB MB GB TB KiB MiB GiB TiB kB K M G T")
# They are few everywhere, and each says what happened.
_METHODS = word_set("GET PUT POST HEAD DELETE PATCH OPTIONS CONNECT TRACE")
_EDGE = re.compile(r"[^A-Za-z0-9_\0\2*.\\/@$~-]")
_STATE = re.compile(r"[A-Z][A-Z_]*")
# Names of packages and classes; an enumeration's constants are states.
_DOTTED = re.compile(r"[A-Za-z][\w$-]*(?:\.[\w$-]+){1,12}\.(?![A-Z_]+\W*\Z)[\w$-]+\W?")
_NO_KEY = re.compile(r"[\0\2/?&]")
_LETTER = re.compile(r"[A-Za-z]")
_FEWEST = 3
_SIGNATURES = 64
_PAIRED = 12
_SEEN = 16
_COMMON = 8


def edges(values: Sequence[str]) -> tuple[str, str]:
    """What all values begin and end with, cut back to where a word ends."""
    low, high = min(values), max(values)
    size = 0
    for a, b in zip(low, high, strict=False):
        if a != b:
            break
        size += 1
    while size and not _EDGE.match(low[size - 1]):
        size -= 1
    start, rest = low[:size], min(map(len, values)) - size
    size = 0
    while size < rest and all(v[-1 - size] == low[-1 - size] for v in values):
        size += 1
    while size and not _EDGE.match(low[len(low) - size]):
        size -= 1
    return start, low[len(low) - size :]


def _name_like(word: str) -> bool:
    """Whether a word looks like the name of something rather than a word of language or a state."""
    letters = word.strip(".,:;!?()[]{}\"'<>")
    plain = letters.islower() or letters[1:].islower()
    return not (_STATE.fullmatch(letters) or (letters.isalpha() and plain))


def _is_value(core: str) -> bool:
    if core in DATE_WORDS or core in _SIZES or core.lower() in _CONSTANTS:
        return True
    if core.count(HOLE) > 1 and "=" not in core:  # put together from several values
        return True
    return not _LETTER.search(core) and core[:1] != ":"


def _anchors(pattern: Pattern, without: int = -1) -> int:
    """How many other tokens of a line are words."""
    return sum(
        1
        for i, token in enumerate(pattern)
        if i != without and len(token) > 1 and _LETTER.search(token)
    )


def _fewest(plain: Sequence[str], pattern: Pattern, column: int, start: str) -> int:
    """How many different words a column must have shown to be one of values."""
    if all(map(_DOTTED.fullmatch, plain)):
        return 2
    before = pattern[column - 1] if column else ""
    bare = before.rstrip(":=#").lower()
    if bare in _NOUNS and all(HOLE in core for core in plain):
        return 2
    if start[-1:] in {"'", '"'}:
        need = _FEWEST
    elif start:
        need = 4
    elif bare in _NOUNS or (bare in _AGENTS and all(map(str.islower, plain))):
        need = _FEWEST
    elif bare in _PREPOSITIONS or before.endswith((":", "=")):
        need = 4
    else:
        need = 5 if column else 8
    if sum(map(_name_like, plain)) * 2 > len(plain):
        need -= 1
    return max(need, _FEWEST)


def judge(values: Sequence[str], pattern: Pattern, column: int, *, extra: int = 0) -> str | None:
    """Why a column that has shown ``values`` is one of values; None when it is not.

    Args:
        values: The different masked tokens.
        pattern: One of the lines; tells what stands around.
        column: Where.
        extra: How many more different words it takes, because the lines differ elsewhere too.
    """
    start, end = edges(values)
    stop = -len(end) or None
    cores = {normal(value[len(start) : stop]) for value in values}
    if any(LIST in core or TAIL in core for core in cores):
        return None
    if any(OPEN in core for core in cores):
        return "values were found there before"
    plain = [core for core in cores if not _is_value(core)]
    if not plain:
        return "only numbers and the like there"
    words = _anchors(pattern, column)
    if not words or cores <= _METHODS:
        return None
    if len(plain) < len(cores) and "" not in cores and (words > 1 or start[-1:] in {"=", ":"}):
        return "numbers there in other lines"
    need = _fewest(plain, pattern, column, start) + extra + (3 if words < 2 else 0)
    if len(cores) < need:
        return None
    return f"{len(cores)} different words, and {need} are enough"


def _column(values: Sequence[str]) -> str:
    """One masked token for all: what they share at the edges, and a hole."""
    start, end = edges(values)
    return start + OPEN + end


class Rows:
    """Distinct patterns of one length while they are drawn together.

    Args:
        rows: The patterns, each with the reasons known for its open columns.
    """

    def __init__(self, rows: dict[Pattern, Reasons]) -> None:
        self.reasons = {row: dict(reasons) for row, reasons in rows.items()}
        self.moved: dict[Pattern, Pattern] = {}

    def resolve(self, row: Pattern) -> Pattern:
        """The pattern that stands for ``row`` now."""
        while row in self.moved:
            row = self.moved[row]
        return row

    def _join(self, members: Sequence[Pattern], reasons: Reasons) -> None:
        columns = [sorted(set(column)) for column in zip(*members, strict=True)]
        target = tuple(c[0] if len(c) == 1 else _column(c) for c in columns)
        known: Reasons = {}
        for row in members:
            known |= self.reasons.pop(row)
            if row != target:
                self.moved[row] = target
        # A pattern that was given up earlier may be the very one that is needed now.
        self.moved.pop(target, None)
        self.reasons[target] = self.reasons.get(target, {}) | reasons | known

    def draw(
        self,
        keys: Callable[[Pattern], Iterable[object]],
        decide: Callable[[list[Pattern]], Reasons | None],
    ) -> bool:
        """Joins the rows that share a key where ``decide`` says so; whether any were."""
        buckets: dict[object, list[Pattern]] = {}
        for row in sorted(self.reasons):
            for key in keys(row):
                buckets.setdefault(key, []).append(row)
        changed = False
        for bucket in sorted(buckets.values(), key=len, reverse=True):
            if len(bucket) < 2:
                break
            reasons = decide(bucket)
            # Those that were joined to others in this round take these along.
            members = sorted({self.resolve(row) for row in bucket})
            if reasons is not None and len(members) > 1:
                self._join(members, reasons)
                changed = True
        return changed


def _key(token: str) -> str:
    """What says that a value follows: ``uid=`` of ``uid=0``, but nothing of ``/a?b=c``."""
    key = token[: token.find("=") + 1]
    return "" if _NO_KEY.search(key) else key


def _but_one(row: Pattern) -> Iterator[object]:
    # A key that stands before the value belongs to the rest: `uid=0` and `gid=0` are no column.
    return ((i, row[:i], _key(t), row[i + 1 :]) for i, t in enumerate(row))


class Neighbours:
    """What rows have shown in one column while the rest was the same, to know when to look again.

    Args:
        limit: Columns that are remembered; when full, all are forgotten.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.seen: dict[int, set[str]] = {}

    def ripe(self, row: Pattern) -> bool:
        """Whether a new row makes one of its columns one of values."""
        found = False
        if len(self.seen) + len(row) > self._limit:
            self.seen.clear()
        for i, key in enumerate(_but_one(row)):
            # Only a hint, for which two keys with one hash do no harm.
            tokens = self.seen.setdefault(hash(key), set())
            if len(tokens) < _SEEN:
                tokens.add(row[i])
            if len(tokens) > 1 and not found:
                found = judge(sorted(tokens), row, i) is not None
        return found


def _decide_one(bucket: list[Pattern]) -> Reasons | None:
    first, second = bucket[:2]
    column = next(i for i, (x, y) in enumerate(zip(first, second, strict=True)) if x != y)
    reason = judge([row[column] for row in bucket], first, column)
    return None if reason is None else {column: reason}


def _skeleton(row: Pattern) -> list[object]:
    bones = tuple(map(_bone, row))
    return [bones] if _anchors(bones) >= 2 else []


def _bone(token: str) -> str:
    """A hole for what may be a value; a key in front of it stays."""
    if token[0] == LIST:
        return token
    is_hole = HOLE in token or OPEN in token or _name_like(token) or _is_value(token)
    return _key(token) + HOLE if is_hole else token


def _frame(rows: Iterable[Pattern]) -> Callable[[Pattern], list[object]]:
    """Keys of what many rows share, for lines of which several words vary at once."""
    counts = Counter(item for row in rows for item in enumerate(row))

    def key(row: Pattern) -> list[object]:
        bones = tuple(t if counts[i, t] >= _COMMON else HOLE for i, t in enumerate(row))
        varying = bones.count(HOLE)
        return [bones] if _anchors(bones) >= 2 and varying * 2 <= len(row) else []

    return key


def _decide_many(extra: int, bucket: list[Pattern]) -> Reasons | None:
    reasons: Reasons = {}
    for i, column in enumerate(zip(*bucket, strict=True)):
        values = sorted(set(column))
        if len(values) > 1:
            reason = judge(values, bucket[0], i, extra=extra)
            if reason is None:
                return None
            reasons[i] = reason
    return reasons


def _signatures(rows: Iterable[Pattern]) -> list[tuple[int, ...]]:
    """Sets of several columns that are open, in one row or in two together."""
    found = Counter(tuple(i for i, t in enumerate(row) if OPEN in t) for row in rows)
    single = [columns for columns, _ in found.most_common(_SIGNATURES) if columns]
    pairs = combinations(single[:_PAIRED], 2)
    united = {tuple(sorted({*one, *other})) for one, other in pairs}
    return sorted({columns for columns in (*single, *united) if len(columns) > 1})


def fits(general: Pattern, row: Pattern) -> bool:
    """Whether a row is a case of a more general one."""
    return all(a == b or (OPEN in a and _fits(a, b)) for a, b in zip(general, row, strict=True))


def _fits(general: str, token: str) -> bool:
    start, _, end = general.partition(OPEN)
    return len(token) >= len(start) + len(end) and token.startswith(start) and token.endswith(end)


def _but_these(signatures: Iterable[tuple[int, ...]], row: Pattern) -> Iterator[object]:
    return ((columns, without(row, columns)) for columns in signatures)


def without(row: Pattern, columns: Sequence[int]) -> Pattern:
    """The tokens of the other columns."""
    return tuple(token for i, token in enumerate(row) if i not in columns)


def _decide_cases(bucket: list[Pattern]) -> Reasons | None:
    """Rows that differ only where one of them is open, and fits the others."""
    for column in zip(*bucket, strict=True):
        tokens = set(column)
        if len(tokens) > 1 and not any(
            OPEN in general and all(token == general or _fits(general, token) for token in tokens)
            for general in tokens
        ):
            return None
    return {}


def merge_rows(rows: dict[Pattern, Reasons]) -> Rows:
    """Draws together patterns of one length that differ in values only."""
    state = Rows(rows)
    changed = True
    while changed:  # each time there are fewer
        changed = (
            state.draw(_but_one, _decide_one)
            or state.draw(_skeleton, partial(_decide_many, 1))
            or state.draw(partial(_but_these, _signatures(state.reasons)), _decide_cases)
            or state.draw(_frame(state.reasons), partial(_decide_many, _COMMON // 2))
        )
    return state


def compress(row: Pattern) -> list[tuple[str, int]]:
    """Neighbours that look alike as one, each with how many there were."""
    out: list[tuple[str, int]] = []
    for token in map(normal, row):
        if out and HOLE in token and out[-1][0] == token:
            out[-1] = token, out[-1][1] + 1
        else:
            out.append((token, 1))
    return out
