"""All templates of a miner: found by what their lines look like, joined, bounded."""

from __future__ import annotations

from operator import eq
from typing import TYPE_CHECKING

from ._template_form import Form, first_form
from ._template_mine import Neighbours, Reasons, compress, fits, merge_rows, without
from ._template_names import slots
from ._template_tokens import LIST, OPEN, normal

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ._template_names import Slot
    from ._template_tokens import Pattern

__all__ = ("Entry", "Index")

_LONG_RUN = 3
_SAMPLES = 32
_LONG_SAMPLE = 1024
_LONG_EXAMPLE = 2048
_LONG_PATTERN = 2048
_COLUMNS = 16
_PATIENCE = 16
_BATCH = 64


class Entry:
    """One template: how its lines look, how it reads, and what was seen of it."""

    __slots__ = (
        *("_slots", "count", "example", "flat", "form", "id"),
        *("into", "reasons", "row", "samples", "seen"),
    )

    def __init__(self, number: int, row: Pattern, form: Form, example: str) -> None:
        self.id = number
        self.row = row
        self.flat = _flat(row)
        self.form = form
        self.example = example[:_LONG_EXAMPLE]
        self.count = 0
        self.seen = 0
        self.into: Entry | None = None  # the template that took this one in
        self.reasons: Reasons = {}
        self.samples: list[tuple[str, ...]] = []
        self._slots: tuple[Form, int, tuple[Slot, ...]] | None = None

    def note(self, values: tuple[str, ...], tick: int) -> None:
        """Counts a line; keeps the values of the first ones, and of ever fewer later ones."""
        self.seen = tick
        count = self.count = self.count + 1
        if len(self.samples) < _SAMPLES:
            if sum(map(len, values)) <= _LONG_SAMPLE:
                self.samples.append(values)
        elif not count & (count - 1) and sum(map(len, values)) <= _LONG_SAMPLE:
            self.samples[count.bit_length() % _SAMPLES] = values

    def current(self) -> Entry:
        """The template that lines of this one have today."""
        entry = self
        while entry.into is not None:
            entry = entry.into
        return entry

    def slots(self) -> tuple[Slot, ...]:
        """Names and types of the values; looked at again when there is twice as much to see."""
        known = self._slots
        if known is None or known[0] is not self.form or self.count >= 2 * known[1]:
            found = slots(self.form.tokens, self.form.holes, self.samples)
            known = self._slots = (self.form, self.count, found)
        return known[2]


class Index:
    """The templates of one miner.

    Args:
        max_templates: Above this, those that were not seen for the longest time are forgotten, an
            eighth of all at a time.
        max_patterns: Ways in which lines look whose template is remembered; when full, all are
            forgotten and looked up again.
    """

    def __init__(self, *, max_templates: int, max_patterns: int) -> None:
        self.max_templates = max_templates
        self.max_patterns = max_patterns
        self.entries: dict[int, Entry] = {}
        self.aliases: dict[int, int] = {}
        self.next_id = 1
        self.tick = 0
        self.evicted = 0
        self.known: dict[Pattern, Entry] = {}
        self._rows: dict[Pattern, Entry] = {}
        self._lists: dict[Pattern, set[int]] = {}
        # By length, by which columns are open, by the tokens in the other columns.
        self._open: dict[int, dict[tuple[int, ...], dict[Pattern, list[Entry]]]] = {}
        self._lengths: dict[int, set[int]] = {}
        self._fresh: dict[int, int] = {}
        self._patience: dict[int, int] = {}
        self._near = Neighbours(_COLUMNS * max_templates)

    def find(self, pattern: Pattern) -> Entry | None:
        """The template of lines that look like ``pattern``."""
        entry = self.known.get(pattern)
        if entry is not None:
            if entry.into is None:
                return entry
            entry = entry.current()
        else:
            entry = self._search(pattern)
            if entry is None:
                return None
        self._remember(pattern, entry)
        return entry

    def _remember(self, pattern: Pattern, entry: Entry) -> None:
        if len(self.known) >= self.max_patterns:
            self.known.clear()
        if sum(map(len, pattern)) <= _LONG_PATTERN:
            self.known[pattern] = entry

    def _search(self, pattern: Pattern) -> Entry | None:
        row = tuple(map(normal, pattern))
        entry = self._rows.get(row)
        if entry is None:
            alike = (self.entries[i] for i in self._lists.get(_flat(row), ()))
            entry = next((e for e in alike if LIST in "".join(e.row)), None)
        if entry is None:
            entry = self._search_open(row)
        return entry

    def _search_open(self, row: Pattern) -> Entry | None:
        found: list[Entry] = []
        for columns, entries in self._open.get(len(row), {}).items():
            here = entries.get(without(row, columns), ())
            found += [entry for entry in here if fits(entry.row, row)]
        return min(found, key=lambda e: (sum(OPEN in t for t in e.row), e.id)) if found else None

    def insert(
        self, line: str, pattern: Pattern, said: Sequence[str], *, settle: bool = True
    ) -> Entry:
        """A template for a line that has none.

        Args:
            line: The line.
            pattern: How it looks.
            said: Its tokens.
            settle: Whether to look at once for others that it belongs to, not only when there are
                many new ones.
        """
        row = tuple(map(normal, pattern))
        entry = Entry(self.next_id, row, first_form(line, said, pattern), line)
        self.next_id += 1
        self.put(entry)
        self._unify(entry.flat)
        if entry.into is None:
            length = len(row)
            fresh = self._fresh[length] = self._fresh.get(length, 0) + 1
            ripe = self._near.ripe(row) if settle else fresh > _BATCH
            if (ripe and settle) or ((ripe or settle) and self._due(length)):
                self.settle(length)
        entry = entry.current()
        self._remember(pattern, entry)
        return entry

    def _unify(self, flat: Pattern) -> None:
        """Makes lists of what templates differ in when it is only how long they are there."""
        entries = [self.entries[i] for i in sorted(self._lists.get(flat, ()))]
        if len(entries) < 2:
            return
        counts = [
            [_LONG_RUN if token[0] == LIST else count for token, count in compress(entry.row)]
            for entry in entries
        ]
        if max(map(max, counts)) < _LONG_RUN:
            return
        # Every run becomes a list, also one that is as long in all lines: so one look decides.
        lists = tuple(
            LIST + token if max(column) > 1 else token
            for token, column in zip(flat, zip(*counts, strict=True), strict=True)
        )
        for entry in entries:
            self._drop(entry)
            entry.form = entry.form.with_lists(entry.row, lists)
            entry.row, entry.samples = lists, []
            self.put(entry)
        self._join(entries, lists, {})
        # It is as long as others now, which it may belong to.
        self._fresh[len(lists)] = self._fresh.get(len(lists), 0) + 1

    def settle(self, length: int) -> None:
        """Draws together the templates of one length that differ in values only."""
        self._fresh.pop(length, None)
        ids = self._lengths.get(length, set())
        entries = [self.entries[i] for i in sorted(ids)]
        state = merge_rows({entry.row: entry.reasons for entry in entries})
        groups: dict[Pattern, list[Entry]] = {}
        for entry in entries:
            groups.setdefault(state.resolve(entry.row), []).append(entry)
        joined = [row for row, members in groups.items() if len(members) > 1]
        for row in joined:
            self._join(groups[row], row, state.reasons[row])
        for row in joined:
            self._unify(_flat(row))
        in_vain = not joined
        self._patience[length] = min(2 * self._patience.get(length, 1), _PATIENCE) if in_vain else 1

    def _due(self, length: int) -> bool:
        """Whether there is enough new to look at all, which takes longer where it was in vain."""
        size = len(self._lengths[length])
        return self._fresh.get(length, 0) * 2 > size * self._patience.get(length, 1)

    def _join(self, members: list[Entry], row: Pattern, reasons: Reasons) -> None:
        first, *others = members
        for entry in members:
            self._drop(entry)
        form = first.form.joined([entry.form for entry in others])
        for entry in others:
            entry.into = first
            self._alias(entry.id, first.id)
            first.count += entry.count
            first.seen = max(first.seen, entry.seen)
        if form.tokens != first.form.tokens:
            first.samples = resampled(members, form)
        first.form, first.row, first.flat, first.reasons = form, row, _flat(row), dict(reasons)
        self.put(first)

    def widen(self, entry: Entry, said: Sequence[str], pattern: Pattern) -> tuple[str, ...]:
        """Makes a template fit a line that is of it but for a word taken as fixed; its values."""
        form = entry.form.widened(said, pattern)
        entry.samples = resampled([entry], form)
        entry.form = form
        values = form.values(said, pattern)
        assert values is not None, "a widened form fits"
        return values

    def take_in(self, other: Index) -> dict[int, int]:
        """Adds the templates of another index; for each id there the id here."""
        moved = {}
        for entry in sorted(other.entries.values(), key=lambda entry: entry.id):
            twin = self._rows.get(entry.row)
            if twin is None:
                twin = Entry(self.next_id, entry.row, entry.form, entry.example)
                self.next_id += 1
                self.put(twin)
                self._fresh[len(twin.row)] = self._fresh.get(len(twin.row), 0) + 1
                twin.samples = list(entry.samples)
            elif twin.form.tokens != entry.form.tokens:
                form = twin.form.joined([entry.form])
                twin.samples = resampled([twin, entry], form)
                twin.form = form
            twin.count += entry.count
            twin.seen = self.tick + entry.seen
            twin.reasons = entry.reasons | twin.reasons
            moved[entry.id] = twin.id
        for entry in other.entries.values():
            self._unify(entry.flat)
        self.tick += other.tick
        self.evicted += other.evicted
        self.settle_all()
        return {
            old: self.current(moved[other.current(old)])
            for old in (*other.entries, *other.aliases)
            if other.current(old) in moved
        }

    def settle_all(self) -> None:
        """Settles whatever has new templates."""
        while self._fresh:
            self.settle(next(iter(self._fresh)))

    def evict(self) -> None:
        """Makes room when there are too many templates."""
        if len(self.entries) > self.max_templates:
            for length in [length for length in self._fresh if self._due(length)]:
                self.settle(length)
        excess = len(self.entries) - self.max_templates
        if excess <= 0:
            return
        oldest = sorted(self.entries.values(), key=lambda e: (e.seen, e.id))
        for entry in oldest[: max(excess, self.max_templates // 8)]:
            self._drop(entry)
            self.evicted += 1
        self.known.clear()
        self.aliases = {a: b for a, b in self.aliases.items() if self.current(b) in self.entries}

    def _alias(self, old: int, new: int) -> None:
        if len(self.aliases) >= self.max_patterns:
            del self.aliases[next(iter(self.aliases))]
        self.aliases[old] = new

    def current(self, number: int) -> int:
        """The id under which a template goes today."""
        while number in self.aliases:
            number = self.aliases[number]
        return number

    def _signature(self, row: Pattern) -> tuple[int, ...]:
        return tuple(i for i, token in enumerate(row) if OPEN in token)

    def put(self, entry: Entry) -> None:
        """Makes a template known."""
        row = entry.row
        self.entries[entry.id] = entry
        self._rows[row] = entry
        self._lengths.setdefault(len(row), set()).add(entry.id)
        if len(entry.flat) > 1:
            self._lists.setdefault(entry.flat, set()).add(entry.id)
        columns = self._signature(row)
        if columns:
            by_rest = self._open.setdefault(len(row), {}).setdefault(columns, {})
            by_rest.setdefault(without(row, columns), []).append(entry)

    def restore(self, entries: Iterable[Entry]) -> None:
        """Makes the templates of a saved index known, which may have waited to be settled."""
        for entry in entries:
            self.put(entry)
            self._fresh[len(entry.row)] = 1

    def _drop(self, entry: Entry) -> None:
        row = entry.row
        del self.entries[entry.id]
        self._rows.pop(row, None)
        self._lengths[len(row)].discard(entry.id)
        if len(entry.flat) > 1:
            self._lists[entry.flat].discard(entry.id)
            if not self._lists[entry.flat]:
                del self._lists[entry.flat]
        columns = self._signature(row)
        if columns:
            by_rest = self._open[len(row)][columns]
            rest = without(row, columns)
            by_rest[rest].remove(entry)
            if not by_rest[rest]:
                del by_rest[rest]
                if not by_rest:
                    del self._open[len(row)][columns]


def _flat(row: Pattern) -> Pattern:
    """A row with one of each run, and without marks of lists."""
    if any(map(eq, row, row[1:])) or any(token[0] == LIST for token in row):
        return tuple(token.lstrip(LIST) for token, _ in compress(row))
    return row


def resampled(members: Sequence[Entry], form: Form) -> list[tuple[str, ...]]:
    """Samples of all, read anew: the holes are others now."""
    lines = (
        (entry, entry.form.render_words(values)) for entry in members for values in entry.samples
    )
    read = (form.values(said, entry.row) for entry, said in lines)
    return [values for values in read if values is not None][:_SAMPLES]
