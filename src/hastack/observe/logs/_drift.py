"""When a schema no longer says what its records are, and what it says then.

Types are hard to get and hard to lose: a type decides above 70 % of the values of a window and is
left when it holds fewer than half of them, in ``sustain`` windows one after the other. Between the
two nothing changes, so that a field that is half one thing and half another does not flap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, final

import attrs

from ._convert import Converter
from ._sample import Reservoir
from ._schema_fields import MAX_FIELDS, SIGHTINGS, Count, fields_of
from ._value_types import type_of
from ._vote import Verdict, decided_values, holds, vote

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ._convert import Outcome
    from ._schema_fields import Path, SchemaField

__all__ = ("Drift", "FieldWatch")

_LEAST: Final = 10  # values that a window must have to say something; fewer wait for the next


@final
class FieldWatch:
    """One field over time.

    Args:
        type: What it is now.
        sustain: How many windows in a row must disagree.

    Example:
        >>> watch = FieldWatch("int", sustain=2)
        >>> watch.judge({"int": 40, "str": 60}) is None
        True
        >>> watch.judge({"int": 10, "str": 90}).type
        'str'
    """

    __slots__ = ("_open", "_struck", "strikes", "sustain", "type")

    def __init__(self, type: str, *, sustain: int) -> None:  # noqa: A002  # the field's own word
        self.type = type
        self.sustain = sustain
        self.strikes = 0
        self._open: dict[str, int] = {}
        self._struck: dict[str, int] = {}

    def judge(self, tally: Mapping[str, int]) -> Verdict | None:
        """Take one window into account; the verdict if the field is something else now."""
        _merge(self._open, tally)
        if decided_values(self._open) < _LEAST:
            return None
        window, self._open = self._open, {}
        if self._agrees(window):
            self.strikes = 0
            self._struck = {}
            return None
        self.strikes += 1
        _merge(self._struck, window)
        # Of a field that was always null nothing is given up.
        if self.strikes < self.sustain and self.type != "null":
            return None
        verdict = vote(self._struck)
        self.strikes = 0
        self._struck = {}
        if verdict.type == self.type:
            return None  # windows that agreed on nothing but that it is no text
        self.type = verdict.type
        return verdict

    def _agrees(self, window: Mapping[str, int]) -> bool:
        if self.type == "str":
            return vote(window).type == "str"
        return holds(self.type, window)


def _merge(into: dict[str, int], tally: Mapping[str, int]) -> None:
    for word, count in tally.items():
        into[word] = into.get(word, 0) + count


@final
class Drift:
    """The schema of one format over time.

    Breaks and nulls are counted exactly. Texts that might have become something else are looked at
    in a sample, because looking at all of them would cost more than everything else.

    Args:
        fields: Of the first version.
        numbers: Whether texts of new fields may be numbers.
        window: Records of a window.
        sustain: Windows in a row that must disagree before a type changes.
        sample: Records of a window whose texts are looked at.
        seed: For the sample.
    """

    def __init__(
        self,
        fields: Sequence[SchemaField],
        *,
        numbers: bool,
        window: int = 1000,
        sustain: int = 2,
        sample: int = 100,
        seed: int = 0,
    ) -> None:
        self._numbers = numbers
        self._window = window
        self._sustain = sustain
        self._watches: dict[Path, FieldWatch] = {}
        self._sample = Reservoir(sample, seed=seed)
        self._news: dict[Path, Count] = {}
        self._begin(fields)

    def _begin(self, fields: Sequence[SchemaField]) -> None:
        self.converter = Converter(fields)
        for field in fields:
            if field.path not in self._watches:
                self._watches[field.path] = FieldWatch(field.type, sustain=self._sustain)
        self._numbers_of = {level.path: level.number for level in self.converter.levels}
        self._texts = [
            (number, field.path)
            for number, field in enumerate(fields)
            if field.type == "str" and not field.declared
        ]
        self._clear()

    def _clear(self) -> None:
        self._records = 0
        self._objects = [0] * len(self.converter.levels)
        self._nulls = [0] * len(self.converter.fields)
        self._broken: list[dict[str, int]] = [{} for _ in self.converter.fields]
        self._sample.clear()

    def take(
        self, converter: Converter, outcome: Outcome, records: Sequence[Mapping[str, Any]]
    ) -> tuple[SchemaField, ...] | None:
        """Count what `Converter.run` did to records; the fields of the next version if one is due.

        Args:
            converter: Which did it; one of an earlier version no longer counts.
            outcome: What it said.
            records: What it changed.
        """
        if converter is not self.converter:
            return None
        self._records += outcome.records
        for at, count in enumerate(outcome.objects):
            self._objects[at] += count
        for at, count in enumerate(outcome.nulls):
            self._nulls[at] += count
        for at, values in outcome.broken.items():
            tally = self._broken[at]
            for value in values:
                word = type_of(value, numbers=converter.fields[at].numbers)
                tally[word] = tally.get(word, 0) + 1
        for number, each in outcome.strange:
            level = converter.levels[number]
            news = self._news.setdefault(level.path, Count())
            news.add_record(each, numbers=self._numbers, skip=level.names, depth=len(level.path))
        if self._texts:
            self._look_at_texts(records)
        return self._close() if self._records >= self._window else None

    def _look_at_texts(self, records: Sequence[Mapping[str, Any]]) -> None:
        sample, at = self._sample, 0
        while (skip := sample.skip) < len(records) - at:
            sample.pass_by(skip)
            at += skip
            sample.add([_at(records[at], path) for _, path in self._texts])
            at += 1
        sample.pass_by(len(records) - at)

    def _close(self) -> tuple[SchemaField, ...] | None:
        fields = list(self.converter.fields)
        sampled = self._sampled()
        changed = False
        for at, field in enumerate(fields):
            known = self._judged(at, field, sampled.get(at))
            if known is not field:
                fields[at] = known
                changed = True
        objects = {field.path for field in fields if field.type == "object"}
        fields = [field for field in fields if _inside(field.path[:-1], objects)]
        news = self._grown(objects)
        if not changed and not news:
            self._clear()
            return None
        fields += news
        for path in set(self._watches) - {field.path for field in fields}:
            del self._watches[path]
            self._news.pop(path, None)
        self._begin(fields)
        return tuple(fields)

    def _sampled(self) -> dict[int, dict[str, int]]:
        tallies: dict[int, dict[str, int]] = {}
        for column, (number, path) in enumerate(self._texts):
            tally = tallies[number] = {}
            for values in self._sample.items:
                numbers = self.converter.fields[number].numbers
                word = type_of(values[column], numbers=numbers, name=path[-1])
                tally[word] = tally.get(word, 0) + 1
        return tallies

    def _judged(
        self, at: int, field: SchemaField, sampled: Mapping[str, int] | None
    ) -> SchemaField:
        broken = self._broken[at]
        values = self._objects[self._numbers_of[field.path[:-1]]] - self._nulls[at]
        if self._nulls[at] and not field.nullable:
            field = attrs.evolve(field, nullable=True)
        if field.items is not None and broken:
            field = attrs.evolve(field, items=None)
        tally = {**broken, field.type: values - sum(broken.values()) + broken.get(field.type, 0)}
        if field.type == "str":
            tally = dict(sampled or {})
        verdict = self._watches[field.path].judge(tally)
        if verdict is None:
            return field
        word = "json" if verdict.type == "object" else verdict.type
        self._watches[field.path].type = word
        return attrs.evolve(
            field,
            type=word,
            share=verdict.share,
            confidence=verdict.bound,
            values=verdict.values,
            nullable=True,
            items=None,
            examples=(),
            declared=False,
        )

    def _grown(self, objects: set[Path]) -> list[SchemaField]:
        """Fields that were seen often enough to be some; they may be missing, for they were."""
        news: list[SchemaField] = []
        for level in self.converter.levels:
            count = self._news.get(level.path)
            if count is None or not _inside(level.path, objects):
                continue
            room = MAX_FIELDS - len(level.names)
            ready = [name for name, each in count.children.items() if each.seen >= SIGHTINGS]
            grown = Count()
            grown.children = {name: count.children.pop(name) for name in ready[:room]}
            news += fields_of(
                grown, records=0, numbers=self._numbers, parent=level.path, nullable=True
            )
            if len(count.children) > MAX_FIELDS // 2:
                count.children.clear()  # keys that are data: no two of them are the same
        return news


def _at(record: Mapping[str, Any], path: Path) -> object:
    value: Any = record
    for name in path:
        if not isinstance(value, dict):
            return None
        value = value.get(name)
    return value


def _inside(path: Path, objects: set[Path]) -> bool:
    """Whether there may be fields at a path: what leads to it are objects."""
    return all(path[:end] in objects for end in range(1, len(path) + 1))
