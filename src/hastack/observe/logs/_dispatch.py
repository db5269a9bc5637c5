"""Which format a line has: by its first characters, and by which format was right the last time.

The answer never depends on what came before: a format that was right is asked first only before
those with which it shares no line. `Reader` adds to that what is needed for whole batches: lines are
joined and decoded some hundreds at a time, so that a clean line costs little more than its format.
"""

from __future__ import annotations

from collections import Counter
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING, Any

from hastack._core._errors import MissingDependency

from ._atomic import compile_regex
from ._batch import Batch, Counts, Reject
from ._clean import clean, decode
from ._fuse import without_groups

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from ._protocols import Miner
    from .formats import Format, Record

    Hint = tuple[Callable[[str], Any], Format, Callable[[str], Any] | None]

__all__ = ("LONG", "Dispatch", "Reader")

LONG = 64 * 1024
"""Lines longer than this are counted."""

KEY = 3
"""So many characters at the begin of a line say which format is asked first."""

_MOST_HINTS = 4096
_MANY = 200  # lines of no format, until it pays to compile what tells them at once
_CHUNK = 256  # lines; usually less than LONG characters, so that no line of them is long


class Dispatch:
    """Finds the format of a line.

    Args:
        formats: In the order in which they are asked; those of one rank stand together.
    """

    def __init__(self, formats: Sequence[Format]) -> None:
        self.formats = formats
        # By first character, the formats in the order in which they are asked now; by the first
        # few characters, a shortcut where one format may be asked right away.
        self._orders: dict[str, tuple[Format, ...]] = {}
        self.hints: dict[str, Hint] = {}
        self._missed: dict[str, int] = {}  # lines that were of no format, less those that were
        self._screens: dict[str, Callable[[str], Any] | None] = {}
        self._known: dict[tuple[str, Format], tuple[tuple[Format, ...], Hint | None]] = {}

    def candidates(self, first: str) -> tuple[Format, ...]:
        """Formats whose lines may begin with ``first``."""
        key = first if first < "\x80" else ""
        return tuple(each for each in self.formats if each.starts is None or key in each.starts)

    def find_raw(self, text: str) -> tuple[Format, Record] | None:
        """The same for a text that is not clean, of those formats that want it so."""
        for each in self.formats:
            if each.raw and text.startswith(each.marks):
                record = each.try_parse(text)
                if record is not None:
                    return each, record
        return None

    def find(self, line: str) -> tuple[Format, Record] | None:
        """The format of a line and its record, or ``None`` when no format reads it."""
        first = line[:1]
        if first > "\x7f":
            first = "\x80"  # there are too many to remember each
        order = self._orders.get(first)
        if order is None:
            order = self._orders[first] = self.candidates(first)
        missed = self._missed.get(first, 0)
        if missed > _MANY:
            screen = self._screen(first, order)
            if screen is not None and screen(line) is None:
                return None
        for each in order:
            record = each.try_parse(line)
            if record is not None:
                key = line[:KEY]
                hint = self.hints.get(key)
                if hint is None or hint[1] is not each:
                    self._remember(first, key, each)
                if missed:
                    self._missed[first] = missed - 1
                return each, record
        self._missed[first] = missed + 1
        return None

    def _screen(self, first: str, order: Sequence[Format]) -> Callable[[str], Any] | None:
        """One expression instead of many, for lines that are mostly of no format."""
        if first not in self._screens:
            patterns = [each.pattern for each in order]
            known = patterns and None not in patterns
            joined = "|".join(f"(?:{each})" for each in patterns)
            self._screens[first] = _guard(joined) if known else None
        return self._screens[first]

    def _remember(self, first: str, key: str, right: Format) -> None:
        known = self._known.get((key, right))
        if known is None:
            if len(self._known) >= _MOST_HINTS:
                self._known.clear()
                self.hints.clear()
            known = self._known[key, right] = self._weigh(first, key, right)
        self._orders[first], hint = known
        if hint is not None:
            self.hints[key] = hint

    def _weigh(self, first: str, key: str, right: Format) -> tuple[tuple[Format, ...], Hint | None]:
        candidates = self.candidates(first)
        others = [each for each in candidates if each is not right]
        rivals = [each for each in others if _before(each, right, candidates)]
        after = [each for each in others if each not in rivals]
        order = (*rivals, right, *after)
        patterns = [each.pattern for each in rivals if _may_begin(each, key)]
        if None in patterns or len(key) < KEY:
            return order, None
        joined = "|".join(f"(?:{each})" for each in patterns)
        guard = _guard(joined) if patterns else None
        return order, (right.try_parse, right, guard)


def _may_begin(known: Format, key: str) -> bool:
    """Whether a line that begins with ``key`` may be of that kind."""
    marks = known.marks
    return not marks or any(key.startswith(mark) or mark.startswith(key) for mark in marks)


@lru_cache(maxsize=256)
def _guard(pattern: str) -> Callable[[str], Any]:
    """Tells lines that a format with precedence may read; without groups it is faster."""
    return compile_regex(without_groups(pattern)).match


def _before(one: Format, other: Format, order: Sequence[Format]) -> bool:
    """Whether ``one`` must be asked before ``other``: they may read the same line."""
    if one.rank is not None and one.rank == other.rank:
        return False
    return order.index(one) < order.index(other)


class Reader:
    """Reads lines in batches.

    Args:
        dispatch: Finds formats.
        longest: Longer lines are rejected; in characters.
        fallback: For lines that are not UTF-8; see `decode`.
        miner: Names what no format knows.
        mined: The format of what ``miner`` named.
    """

    def __init__(
        self,
        dispatch: Dispatch,
        *,
        longest: int,
        fallback: str,
        miner: Miner | None,
        mined: Format,
    ) -> None:
        self.dispatch = dispatch
        self._longest = longest
        self._fallback = fallback
        self._miner = miner
        self._mined = mined
        marks = [mark[0] for each in dispatch.formats if each.raw for mark in each.marks]
        self._raw = {*marks, *(mark.encode() for mark in marks)}

    def run(self, lines: Iterable[str | bytes]) -> Batch:
        """Read lines; each becomes a record or a reject."""
        batch = Batch([], [], [], [], Counts())
        source = iter(lines)
        number = 0
        first: str | bytes | None = None
        last: str | bytes = ""
        while chunk := list(islice(source, _CHUNK)):
            first = chunk[0] if first is None else first
            last = chunk[-1]
            texts = self._together(chunk)
            if texts is None:
                for place, line in enumerate(chunk, number):
                    self._read_alone(line, place, batch)
            else:
                self._read_clean(texts, chunk, number, batch)
            number += len(chunk)
        if number > 1 and first is not None and _ended(first) and not _ended(last):
            _mark_cut(batch, number - 1)
        _sum_up(batch, number)
        return batch

    def one(self, line: str | bytes) -> Batch:
        """The same for one line, without what only pays for many."""
        batch = Batch([], [], [], [], Counts())
        self._read_alone(line, 0, batch)
        counts = batch.counts
        counts.lines, counts.records = 1, len(batch.records)
        for each in batch.formats:
            counts.formats[each.name] = 1
        for reject in batch.rejects:
            counts.rejected[reject.reason] = 1
        return batch

    def _together(self, chunk: list[Any]) -> Sequence[str] | None:
        """The texts of some lines, if all of them are clean; at a fraction of the cost."""
        raw = chunk[0].__class__ is bytes
        ended = _ended(chunk[0])
        try:
            if raw:
                text = (b"" if ended else b"\n").join(chunk).decode()
            else:
                text = ("" if ended else "\n").join(chunk)
        except (TypeError, UnicodeDecodeError):
            return None  # of both kinds, or one of them is not UTF-8
        if "\x1b" in text or "\0" in text or "\r" in text or "\ufeff" in text:
            return None
        texts = text.split("\n")
        if ended and not texts[-1]:
            texts.pop()
        if len(texts) != len(chunk):
            return None  # one has more lines than one
        most = min(LONG, self._longest)
        if len(text) > most and max(map(len, texts)) > most:
            return None
        return texts

    def _read_clean(
        self, texts: Sequence[str], chunk: list[Any], number: int, batch: Batch
    ) -> None:
        """The inner loop."""
        hints, find = self.dispatch.hints, self.dispatch.find
        add_record, add_format = batch.records.append, batch.formats.append
        before = len(batch.rejects)
        for text in texts:
            hint = hints.get(text[:KEY])
            if hint is not None:
                read, known, guard = hint
                if guard is None or guard(text) is None:
                    try:
                        record = read(text)
                    except Exception:
                        record = None  # `_other` asks again, and says so
                    if record is not None:
                        add_record(record)
                        add_format(known)
                        continue
            failed = False
            try:
                found = find(text)
            except MissingDependency:
                raise  # it is no fault of the line
            except Exception:
                found, failed = None, True
            if found is not None:
                add_format(found[0])
                add_record(found[1])
            else:
                # How many lines were read before says which one this is.
                place = len(batch.records) + len(batch.rejects)
                self._read_other(text, chunk[place - number], place, batch, failed=failed)
        if len(batch.rejects) == before:
            batch.numbers.extend(range(number, number + len(texts)))
        else:
            gone = {reject.number for reject in batch.rejects[before:]}
            places = range(number, number + len(texts))
            batch.numbers.extend(place for place in places if place not in gone)

    def _read_alone(self, line: str | bytes, place: int, batch: Batch) -> None:
        """A line of which nothing is known yet."""
        counts, before = batch.counts, len(batch.records)
        if len(line) > self._longest:
            counts.long += 1
            batch.rejects.append(Reject(line, place, "too long"))
            return
        counts.long += len(line) > LONG
        text, failed = "", False
        try:
            found = self._find_raw(line)
            if found is None:
                text = line if isinstance(line, str) else decode(line, self._fallback, counts)
                text = clean(text, counts)
                found = self.find(text)
        except MissingDependency:
            raise
        except Exception:
            found, failed = None, True
        if found is None:
            self._read_other(text, line, place, batch, failed=failed)
        else:
            batch.formats.append(found[0])
            batch.records.append(found[1])
        if len(batch.records) > before:
            batch.numbers.append(place)

    def _find_raw(self, line: str | bytes) -> tuple[Format, Record] | None:
        if line[:1] not in self._raw:
            return None
        text = line if isinstance(line, str) else line.decode("utf-8", "surrogateescape")
        return self.dispatch.find_raw(text)

    def text(self, line: str | bytes) -> str:
        """The clean text of a line; nothing is counted."""
        counts = Counts()
        found = line if isinstance(line, str) else decode(line, self._fallback, counts)
        return clean(found, counts)

    def find(self, text: str) -> tuple[Format, Record] | None:
        """The format and record of a clean text, perhaps of several lines."""
        if "\n" not in text:
            return self.dispatch.find(text)
        for each in self.dispatch.candidates(text[:1]):
            if each.block:
                record = each.try_parse(text)
                if record is not None:
                    return each, record
        head, _, tail = text.partition("\n")
        found = self.dispatch.find(head)
        if found is not None:
            found[1]["continuation"] = tail
        return found

    def _read_other(
        self, text: str, line: str | bytes, place: int, batch: Batch, *, failed: bool
    ) -> None:
        """A line that no format knows."""
        if not text or text.isspace():
            batch.rejects.append(Reject(line, place, "empty"))
            return
        if failed:
            batch.rejects.append(Reject(line, place, f"{self._broken(text)} raised an exception"))
        elif self._miner is None:
            batch.rejects.append(Reject(line, place, "unknown format"))
        else:
            batch.formats.append(self._mined)
            batch.records.append(named(self._miner.add(text), text))

    def _broken(self, text: str) -> str:
        """The name of the format that fails at ``text`` with what is no `ValueError`."""
        candidates = self.dispatch.candidates(text[:1])
        return next((each.name for each in candidates if _fails(each, text)), "a format")


def _fails(known: Format, text: str) -> bool:
    try:
        known.try_parse(text)
    except Exception:
        return True
    return False


def named(mined: Any, text: str) -> Record:
    """The record of a line of which only the template is known."""
    arguments = getattr(mined, "fields", None)  # with names and types, if the miner has them
    if arguments is None:
        arguments = {f"arg{place}": value for place, value in enumerate(mined.values, start=1)}
    return {"template": mined.template, "message": text, **arguments}


def _ended(line: str | bytes) -> bool:
    return line.endswith(b"\n") if isinstance(line, bytes) else line.endswith("\n")


def _mark_cut(batch: Batch, place: int) -> None:
    batch.counts.truncated += 1
    if batch.rejects and batch.rejects[-1].number == place:
        line = batch.rejects[-1].line
        batch.rejects[-1] = Reject(line, place, "truncated")


def _sum_up(batch: Batch, number: int) -> None:
    counts = batch.counts
    counts.lines, counts.records = number, len(batch.records)
    for each, count in Counter(batch.formats).items():
        counts.formats[each.name] = counts.formats.get(each.name, 0) + count
    counts.rejected.update(Counter(reject.reason for reject in batch.rejects))
