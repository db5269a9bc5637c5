"""A schema as a function that makes the values of records what the schema says they are.

The function is written for the schema: one test per field whether the class of the value is right
already, and everything else only where it is not.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, final

from ._schema_fields import item_type
from ._value_types import BROKEN, CLASSES, INT64, reader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from ._schema_fields import Path, SchemaField

__all__ = ("Converter", "Level", "Outcome", "list_reader")

_LOOKED_AT: Final = {"ip", "uuid", "url"}  # texts all, so that their class says nothing
_KEPT: Final = 256  # records with unknown fields of one batch whose fields are counted


@final
class Outcome:
    """What happened to the values of one batch.

    Attributes:
        records: How many records there were.
        objects: How many objects there were at each level.
        nulls: For each field, how often it was missing or null.
        broken: For each field, the values that broke its type, by the type that they are of.
        strange: Objects with fields that the schema does not know, and their levels.
        unkept: How many more of these there were.
    """

    __slots__ = ("broken", "nulls", "objects", "records", "strange", "unkept")

    def __init__(self, fields: int, levels: int) -> None:
        self.records = 0
        self.objects = [0] * levels
        self.nulls = [0] * fields
        self.broken: dict[int, list[Any]] = {}
        self.strange: list[tuple[int, dict[Any, Any]]] = []
        self.unkept = 0


@final
class Level:
    """The fields of one object: their names, their numbers in the schema, and its objects."""

    __slots__ = ("inner", "names", "number", "path")

    def __init__(self, path: Path, number: int) -> None:
        self.path = path
        self.number = number
        self.names: dict[str, int] = {}
        self.inner: dict[str, Level] = {}


@final
class Converter:
    """Changes records where they are.

    Args:
        fields: Of the schema, objects before what is in them.
    """

    __slots__ = ("_functions", "fields", "levels")

    def __init__(self, fields: Sequence[SchemaField]) -> None:
        self.fields = tuple(fields)
        root = Level((), 0)
        self.levels = [root]
        places: dict[Path, Level] = {(): root}
        for number, field in enumerate(fields):
            level = places[field.path[:-1]]
            level.names[field.path[-1]] = number
            if field.type == "object":
                inner = Level(field.path, len(self.levels))
                places[field.path] = level.inner[field.path[-1]] = inner
                self.levels.append(inner)
        self._functions: dict[int, Callable[..., None]] = {}

    def run(self, records: Sequence[dict[Any, Any]]) -> Outcome:
        """Convert; a value that breaks its type stays as it is."""
        outcome = Outcome(len(self.fields), len(self.levels))
        outcome.records = len(records)
        self._run(self.levels[0], records, outcome)
        return outcome

    def _run(self, level: Level, records: Sequence[dict[Any, Any]], outcome: Outcome) -> None:
        function = self._functions.get(level.number)
        if function is None:
            function = self._functions[level.number] = _written(level, self.fields)
        outcome.objects[level.number] = len(records)
        strange: list[dict[Any, Any]] = []
        inner: tuple[list[Any], ...] = tuple([] for _ in level.inner)
        function(records, outcome.nulls, outcome.broken, strange, inner)
        outcome.strange += [(level.number, each) for each in strange[:_KEPT]]
        outcome.unkept += max(0, len(strange) - _KEPT)
        for part, objects in zip(level.inner.values(), inner, strict=True):
            self._run(part, objects, outcome)


def _written(level: Level, fields: Sequence[SchemaField]) -> Callable[..., None]:
    """The function for the objects of one level."""
    lines = [
        "def convert(records, nulls, broken, strange, inner):",
        "    for r in records:",
        f"        n = {len(level.names)}",
    ]
    scope: dict[str, Any] = {"BROKEN": BROKEN, "datetime": datetime}
    objects = list(level.inner)
    for at, (name, number) in enumerate(level.names.items()):
        scope[f"k{at}"] = name
        field = fields[number]
        slow = ""
        if field.type == "object":
            slow = f"elif v.__class__ is dict: inner[{objects.index(name)}].append(v)"
        scope[f"f{at}"] = reader(field.type) if field.items is None else list_reader(field.items)
        lines += _lines_of(at, number, _test(field), slow)
    lines += ["        if len(r) != n:", "            strange.append(r)"]
    arguments = ", ".join(f"{name}={name}" for name in scope)
    lines[0] = f"def convert(records, nulls, broken, strange, inner, {arguments}):"
    exec("\n".join(lines), scope)  # noqa: S102  # names of fields come in as values, not as code
    return scope["convert"]  # type: ignore[no-any-return]


def _test(field: SchemaField) -> str:
    """An expression that is false when the value is right as it is."""
    kind = CLASSES.get(field.type)
    if field.type == "json":
        return "v.__class__ is not list and v.__class__ is not dict" if not field.items else "True"
    if kind is None or (field.type in _LOOKED_AT and not field.declared):
        return "True"
    test = f"v.__class__ is not {kind.__name__}"
    return f"{test} or not {-INT64} <= v < {INT64}" if kind is int else test


def _lines_of(at: int, number: int, test: str, slow: str) -> Iterable[str]:
    yield f"        v = r.get(k{at})"
    yield f"        if {test}:"
    yield "            if v is None:"
    yield f"                nulls[{number}] += 1"
    yield f"                if k{at} not in r: n -= 1"
    if slow:
        yield f"            {slow}"
    yield "            else:"
    yield f"                w = f{at}(v)"
    yield "                if w is BROKEN:"
    yield f"                    if {number} in broken: broken[{number}].append(v)"
    yield f"                    else: broken[{number}] = [v]"
    yield "                elif w is not v:"
    yield f"                    r[k{at}] = w"
    yield f"                    if w is None: nulls[{number}] += 1"


def list_reader(word: str) -> Callable[[Any], Any]:
    """Reads lists whose items are all of one type, or null."""
    allowed = {word, "int", "null"} if word == "float" else {word, "null"}

    def read(value: Any) -> Any:
        if value.__class__ is not list or not allowed.issuperset(map(item_type, value)):
            return BROKEN
        if word == "float":
            return [None if item is None else float(item) for item in value]
        return value

    return read
