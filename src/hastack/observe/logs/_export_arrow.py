"""Schemas as Arrow has them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hastack._core._extras import require

from ._export_columns import columns_of
from ._export_sql import NAME_BYTES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ._schema_fields import Path, SchemaField

__all__ = ("arrow_schema",)


def arrow_schema(fields: Sequence[SchemaField], *, flat: bool) -> Any:
    """A ``pyarrow.Schema``; see `hastack.observe.logs.Schema.arrow`."""
    pa = require("pyarrow", extra="arrow")
    if flat:
        return pa.schema(
            [
                pa.field(each.name, _type(pa, each.field), each.nullable, _meaning(each.field))
                for each in columns_of(fields, longest=NAME_BYTES)
            ]
        )
    return pa.schema(_inside(pa, fields, ()))


def _inside(pa: Any, fields: Sequence[SchemaField], path: Path) -> list[Any]:
    found = []
    for field in fields:
        if field.path[:-1] == path:
            kind = (
                pa.struct(_inside(pa, fields, field.path))
                if field.type == "object"
                else _type(pa, field)
            )
            found.append(pa.field(field.path[-1], kind, field.nullable, _meaning(field)))
    return found


def _type(pa: Any, field: SchemaField) -> Any:
    kinds = {
        "bool": pa.bool_(),
        "int": pa.int64(),
        "float": pa.float64(),
        "timestamp": pa.timestamp("us", tz="UTC"),
        "duration": pa.float64(),
        "size": pa.int64(),
    }
    if field.items is not None:
        return pa.list_(kinds.get(field.items, pa.string()))
    return kinds.get(field.type, pa.string())


def _meaning(field: SchemaField) -> dict[str, str]:
    """What Arrow's types do not say: that a float is a duration, or a text JSON."""
    return {"hastack.type": field.type}
