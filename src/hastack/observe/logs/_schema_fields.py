"""Fields of a schema, and how many records must be looked at to find them."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any, Final, TypeAlias, final

import attrs

from ._value_types import BROKEN, CLASSES, NULL_WORDS, reader, text_of, type_of
from ._vote import vote

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ("MAX_FIELDS", "SIGHTINGS", "Count", "Path", "SchemaField", "fields_of", "writes_numbers")

Path: TypeAlias = tuple[str, ...]
"""The keys on the way to a value: ``("http", "status")``."""

MAX_FIELDS: Final = 512  # of one object; what has more is a map, and its keys are data
SIGHTINGS: Final = 3  # after so many a key among many is a field: keys that are data come once
_FEW: Final = 32  # keys, which may all be rare
_RARE: Final = 20  # is a key that fewer than one object in so many has
_MAX_DEPTH: Final = 8
_MAX_ITEMS: Final = 32  # of a list that are looked at
_EXAMPLES: Final = 3
_TRIES: Final = 12  # values that are looked at for examples
_EXAMPLE_LENGTH: Final = 40


@final
@attrs.frozen(kw_only=True)
class SchemaField:
    """One field of a schema.

    Attributes:
        path: The keys that lead to it, more than one inside of objects.
        type: One of the words for types, ``"object"`` if it has fields of its own.
        nullable: Whether it may be missing from its object, or null.
        share: How much of the values looked at are of this type, nulls left out.
        confidence: How large that share is at least: the lower end of its 95 % interval (Wilson).
        values: How many values were looked at, nulls left out.
        items: Of a list: the type of all its items if they have one.
        examples: Some of the values, shortened; they are not saved.
        declared: Whether the grammar of the format says the type. That it is a text does not count:
            an address may be one.
        numbers: Whether texts may be numbers here: not where the format says what is one.
    """

    path: Path
    type: str
    nullable: bool = True
    share: float = 0.0
    confidence: float = 0.0
    values: int = 0
    items: str | None = None
    examples: tuple[str, ...] = attrs.field(default=(), eq=False)
    declared: bool = False
    numbers: bool = True

    @property
    def name(self) -> str:
        """The path with dots: ``http.status``."""
        return ".".join(self.path)


@final
class Count:
    """What was seen at one place of the records: types, and the fields of objects."""

    __slots__ = ("_tries", "children", "examples", "items", "objects", "tally")

    def __init__(self) -> None:
        self.tally: dict[str, int] = {}
        self.items: dict[str, int] = {}
        self.children: dict[str, Count] = {}
        self.examples: list[str] = []
        self.objects = 0
        self._tries = 0

    def add_record(
        self,
        record: Mapping[Any, Any],
        *,
        numbers: bool,
        declared: Mapping[str, str] | None = None,
        skip: Mapping[str, Any] | None = None,
        depth: int = 0,
        most: int = MAX_FIELDS,
    ) -> int:
        """Count the fields of an object; those of ``skip`` are known. How many did not fit in."""
        self.objects += 1
        children = self.children
        left_out = 0
        for name, value in record.items():
            if skip is not None and name in skip:
                continue
            child = children.get(name)
            if child is None:
                # One more than may be, so that it shows that there are too many.
                if len(children) > most or name.__class__ is not str:
                    left_out += 1
                    continue
                child = children[name] = Count()
            child.add(value, name, numbers, declared.get(name) if declared else None, depth)
        return left_out

    def add(
        self, value: object, name: str, numbers: bool, declared: str | None, depth: int
    ) -> None:
        """Count one value."""
        if value is None:
            self.tally["null"] = self.tally.get("null", 0) + 1
            return
        if declared is None or declared == "str":
            word = type_of(value, numbers=numbers and declared is None, name=name)
        else:
            word = _declared(value, declared)
        self.tally[word] = self.tally.get(word, 0) + 1
        if word == "object":
            if depth < _MAX_DEPTH:
                self.add_record(value, numbers=numbers, depth=depth + 1)  # type: ignore[arg-type]
        elif word == "json" and isinstance(value, list):
            for item in islice(value, _MAX_ITEMS):
                kind = item_type(item)
                self.items[kind] = self.items.get(kind, 0) + 1
        if word != "object" and self._tries < _TRIES:
            self._tries += 1
            text = text_of(value)
            short = text if len(text) <= _EXAMPLE_LENGTH else f"{text[: _EXAMPLE_LENGTH - 1]}\u2026"
            if short not in self.examples and len(self.examples) < _EXAMPLES:
                self.examples.append(short)

    @property
    def is_map(self) -> bool:
        """Whether the keys of the objects here are data, such as ids: very many, or all rare."""
        keys = len(self.children)
        if keys <= _FEW:
            return False
        seen = sum(child.seen for child in self.children.values())
        return keys > MAX_FIELDS or seen * _RARE < keys * self.objects

    @property
    def seen(self) -> int:
        """How often there was something at this place, null included."""
        return sum(self.tally.values())


def item_type(item: object) -> str:
    """The type of an item of a list: what JSON says it is, for items are not converted."""
    return "str" if isinstance(item, str) else type_of(item)


def _declared(value: object, word: str) -> str:
    kind = value.__class__
    if kind is CLASSES.get(word):
        return "blank" if kind is str and value in NULL_WORDS else word
    return word if reader(word)(value) is not BROKEN else type_of(value)


def writes_numbers(records: Iterable[Mapping[Any, Any]], declared: Mapping[str, str]) -> bool:
    """Whether the format tells numbers from texts, so that a text that looks like one is none."""
    return any(
        value.__class__ in _WRITTEN
        or (value.__class__ is dict and writes_numbers((value,), _NOTHING))
        for record in records
        for name, value in record.items()
        if name not in declared
    )


_WRITTEN: Final = frozenset({int, float, bool})
_NOTHING: Final[dict[str, str]] = {}


def fields_of(
    count: Count,
    *,
    records: int,
    numbers: bool,
    declared: Mapping[str, str] = _NOTHING,
    parent: Path = (),
    nullable: bool = False,
) -> list[SchemaField]:
    """The fields of an object, those of objects inside of it after each.

    Args:
        count: What was seen.
        records: In how many objects.
        numbers: Whether texts may be numbers.
        declared: Types that the grammar of the format says, of those that columns have.
        parent: Where the object is.
        nullable: Whether it may be missing, and all its fields with it.
    """
    found: list[SchemaField] = []
    least = SIGHTINGS if count.is_map else 1
    for name, child in count.children.items():
        if child.seen < least:
            continue
        said = declared.get(name)
        path = (*parent, name)
        found += _field(child, path, records, said, numbers and said != "str", nullable)
    for name, word in declared.items():
        if name not in count.children:
            text = word == "str"
            found.append(
                SchemaField(
                    path=(name,), type=word, declared=not text, numbers=numbers and not text
                )
            )
    return found


def _field(
    count: Count, path: Path, records: int, declared: str | None, numbers: bool, nullable: bool
) -> Sequence[SchemaField]:
    verdict = vote(count.tally)
    word = verdict.type
    if declared is not None and not verdict.values:
        word = declared
    inner: list[SchemaField] = []
    if word == "object":
        if count.children and not count.is_map and len(path) <= _MAX_DEPTH:
            inner = fields_of(count, records=count.objects, numbers=numbers, parent=path)
        else:
            word = "json"  # keys that are data, none, or deeper than anyone wants columns
    empty = count.tally.get("null", 0) + (count.tally.get("blank", 0) if word != "str" else 0)
    field = SchemaField(
        path=path,
        type=word,
        nullable=nullable or empty > 0 or count.seen < records,
        share=verdict.share,
        confidence=verdict.bound,
        values=verdict.values,
        items=_items(count) if word == "json" else None,
        examples=tuple(count.examples),
        declared=word == declared != "str",
        numbers=numbers,
    )
    return [field, *inner]


def _items(count: Count) -> str | None:
    """The type of a list's items, if all have it; a list is not told from an object otherwise."""
    if count.tally.get("object") or not count.items or count.tally.get("str"):
        return None
    word = vote(count.items).type
    allowed = {word, "int", "null"} if word == "float" else {word, "null"}
    scalar = word in {"bool", "int", "float", "str"}
    return word if scalar and set(count.items) <= allowed else None
