"""Fields as the columns of a table: one for each value, whatever it is inside of."""

from __future__ import annotations

from hashlib import blake2b
from math import isfinite
from typing import TYPE_CHECKING, Any, Final, final

import attrs

from hastack._core._errors import InvalidArgument

from ._columns import REST
from ._convert import list_reader
from ._value_types import BROKEN, reader, text_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from ._schema_fields import Path, SchemaField

__all__ = ("Column", "columns_of", "row_of", "shortened")

_MOST: Final = 1599  # what PostgreSQL takes, with the column of the rest


@final
@attrs.frozen
class Column:
    """A column.

    Attributes:
        name: Unique among the columns.
        field: What it holds.
        nullable: Whether the field, or an object around it, may be missing.
        read: The value for the column, or `BROKEN` when it breaks the type.
    """

    name: str
    field: SchemaField
    nullable: bool
    read: Callable[[Any], Any] = attrs.field(eq=False, repr=False)


def columns_of(
    fields: Iterable[SchemaField], *, separator: str = "_", longest: int | None = None
) -> list[Column]:
    """A column for each field that holds values.

    Args:
        fields: Objects before what is in them.
        separator: Stands between the names of an object and of what is in it. Not a dot: ClickHouse
            takes what shares the part before it for columns of one nested table.
        longest: How many bytes a name may have.

    Raises:
        InvalidArgument: There are more columns than a table can have.
    """
    taken = {REST}
    found: list[Column] = []
    optional: set[Path] = set()
    for field in fields:
        inside = field.path[:-1] in optional
        if field.type == "object":
            if inside or field.nullable:
                optional.add(field.path)
            continue
        name = shortened(_cleaned(separator.join(field.path)), longest)
        count = 1
        unique = name
        while unique in taken:
            count += 1
            unique = shortened(f"{name}{separator}{count}", longest)
        taken.add(unique)
        found.append(Column(unique, field, inside or field.nullable, _reader(field)))
    if len(found) > _MOST:
        raise InvalidArgument("fields", len(found), f"at most {_MOST} columns")
    return found


def _cleaned(name: str) -> str:
    """No characters that a terminal or a store would not take."""
    text = "".join(char if char.isprintable() else "_" for char in name)
    return text or "_"


def shortened(name: str, longest: int | None) -> str:
    """A name of at most so many bytes: cut, with a digest of what was cut off at its end."""
    data = name.encode()
    if longest is None or len(data) <= longest:
        return name
    digest = blake2b(data, digest_size=4).hexdigest()
    return f"{data[: longest - 9].decode('utf-8', 'ignore')}_{digest}"


def row_of(record: Mapping[str, Any], columns: Sequence[Column]) -> dict[str, Any]:
    """The values of a record by column; what has no column, or breaks its type, is in the rest."""
    rest = _copied(record)
    row = {column.name: _taken(rest, column) for column in columns}
    left = _pruned(rest)
    row[REST] = text_of(_storable(left)) if left else None
    return row


def _reader(field: SchemaField) -> Callable[[Any], Any]:
    read = reader(field.type) if field.items is None else list_reader(field.items)
    if field.type == "json" and field.items is None:
        return lambda value: BROKEN if read(value) is BROKEN else text_of(_storable(value))
    if field.type == "ip":  # one with a zone is of this machine only, and none to PostgreSQL
        return lambda value: BROKEN if "%" in str(value) else read(value)
    if field.type in {"str", "url"} or field.items == "str":
        return lambda value: _storable(read(value))
    return read


def _storable(value: Any) -> Any:
    """A value without what stores refuse.

    That is zeros and halves of characters in texts, and in JSON numbers that are none.
    """
    if isinstance(value, str):
        if value.isascii() and "\0" not in value:
            return value
        return value.encode("utf-8", "replace").decode().replace("\0", "\ufffd")
    if isinstance(value, float) and not isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {_storable(str(key)): _storable(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_storable(inner) for inner in value]
    return value


def _copied(record: Mapping[str, Any]) -> dict[str, Any]:
    """The objects anew, with the same values in them."""
    return {
        key: _copied(value) if isinstance(value, dict) else value for key, value in record.items()
    }


def _taken(rest: dict[str, Any], column: Column) -> Any:
    """Take a value out if it is what its field says."""
    inside: Any = rest
    path = column.field.path
    for name in path[:-1]:
        inside = inside.get(name)
        if not isinstance(inside, dict):
            return None
    value = inside.get(path[-1])
    if value is None:
        return None
    found = column.read(value)
    if found is BROKEN:
        return None
    del inside[path[-1]]
    return found


def _pruned(value: dict[str, Any]) -> dict[str, Any]:
    """Without what is null or empty."""
    found = {}
    for key, inner in value.items():
        left = _pruned(inner) if isinstance(inner, dict) else inner
        if left is not None and left != {}:
            found[key] = left
    return found
