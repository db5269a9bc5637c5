"""Records as columns of one type each; what fits nowhere is kept in a column of its own."""

from __future__ import annotations

import datetime as dt
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ._protocols import Record

__all__ = ("REST", "columns", "types_of", "word_of")

REST = "_rest"
"""The column of what has no other: a JSON object, or null."""

_LARGEST = 2**63


def _whole(value: object) -> int | None:
    if type(value) is int and -_LARGEST <= value < _LARGEST:
        return value
    return None


def _number(value: object) -> float | None:
    if type(value) is float:
        return value
    return float(value) if type(value) is int and abs(value) <= 2**53 else None


def _truth(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


def _moment(value: object) -> dt.datetime | None:
    if not isinstance(value, dt.datetime):
        return None
    return value if value.tzinfo else value.replace(tzinfo=dt.UTC)


def _text(value: object) -> str | None:
    if isinstance(value, str):
        # What UTF-8 cannot say, no file of columns can.
        return value.encode("utf-8", "replace").decode() if _has_surrogates(value) else value
    if isinstance(value, (dict, list, tuple)):
        return json.dumps(value, default=str)
    return str(value)


def _has_surrogates(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return True
    return False


_CASTS: dict[str, Callable[[object], object | None]] = {
    "bool": _truth,
    "int": _whole,
    "size": _whole,
    "float": _number,
    "duration": _number,
    "timestamp": _moment,
}


def word_of(value: object) -> str:
    """The word for the type of a value."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int"
    if isinstance(value, float):
        return "float"
    if isinstance(value, dt.datetime):
        return "timestamp"
    if isinstance(value, (dict, list, tuple)):
        return "json"
    return "str"


def types_of(records: Sequence[Record], known: Mapping[str, str]) -> dict[str, str]:
    """The word for the type of each field: what is known, else what its values show.

    Integers and floats together are floats; any other mixture is text.
    """
    seen: dict[str, set[str]] = {}
    for record in records:
        for field, value in record.items():
            if value is not None and field not in known:
                seen.setdefault(field, set()).add(word_of(value))
    found = dict(known)
    for field, words in seen.items():
        if len(words) == 1:
            found[field] = next(iter(words))
        else:
            found[field] = "float" if words == {"int", "float"} else "str"
    return found


def columns(
    records: Sequence[Record], types: Mapping[str, str]
) -> tuple[dict[str, list[object]], int]:
    """A list of values for each field of ``types`` and for `REST`.

    Returns:
        The columns, and the number of values that had to go to the rest.
    """
    made: dict[str, list[object]] = {}
    rest: list[dict[str, object]] = [
        {
            field: value
            for field, value in record.items()
            if field not in types and value is not None
        }
        for record in records
    ]
    moved = sum(map(len, rest))
    for field, word in types.items():
        cast = _CASTS.get(word, _text)
        values: list[object] = []
        for number, record in enumerate(records):
            value = record.get(field)
            fitting = None if value is None else cast(value)
            if fitting is None and value is not None:
                rest[number][field] = value
                moved += 1
            values.append(fitting)
        made[field] = values
    made[REST] = [json.dumps(each, default=str) if each else None for each in rest]
    return made, moved
