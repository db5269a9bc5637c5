"""Of which type a value of a log is, and how it becomes a value of that type.

There is one vocabulary for all formats. An int is a float is a text, and everything is a text; other
types share nothing. Inferring looks at texts, because most formats have nothing else; but where a
format can write numbers, as JSON can, a text that looks like one is none.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Any, Final, final
from uuid import UUID

from . import _times, _values

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = (
    "BROKEN",
    "CLASSES",
    "COLUMN_TYPES",
    "NULL_WORDS",
    "TYPES",
    "reader",
    "text_of",
    "type_of",
    "type_of_text",
)

TYPES: Final = (
    "null",
    "bool",
    "int",
    "float",
    "timestamp",
    "duration",
    "size",
    "ip",
    "uuid",
    "url",
    "json",
    "object",
    "str",
)
"""Words for types: a duration is seconds as a float, a size is bytes as an int, an ip, a uuid and a
url are texts, json is any list or dict, and an object is a dict whose fields are known."""

COLUMN_TYPES: Final = tuple(word for word in TYPES if word != "object")
"""The types that a field without fields of its own may have."""

NULL_WORDS: Final = frozenset({"", "-", "null", "NULL", "nil", "<nil>", "None", "none", "(null)"})
"""What formats write that have no null. Texts stay what they are; in other types it is ``None``."""

CLASSES: Final[dict[str, type]] = {
    "bool": bool,
    "int": int,
    "float": float,
    "timestamp": datetime,
    "duration": float,
    "size": int,
    "ip": str,
    "uuid": str,
    "url": str,
    "str": str,
}
"""The class of the values of each type, as far as it has one."""

INT64: Final = 2**63  # what every store calls an integer; a longer one is kept exactly, as a text
_MOST_TEXT: Final = 2048  # of a value that may be something else than a text
_MOST_JSON: Final = 65_536
_REMEMBERED: Final = 1024

_INT = r"-?(?:0|[1-9][0-9]{0,18})"
_FLOAT = r"-?(?:0|[1-9][0-9]{0,39})(?:\.[0-9]{1,40})?(?:[eE][+-]?[0-9]{1,4})?|NaN|[+-]?Inf"
_MOMENTS = {
    "iso": (_times.ISO, _times.iso(UTC)),
    "clf": (_times.CLF, _times.clf),
    "http": (_times.HTTP, _times.http),
    "ctime": (_times.CTIME, _times.ctime(UTC)),
}
# Words are told apart by how they begin, so that an ordinary one costs next to nothing.
_NUMERIC = re.compile(
    f"(?P<int>{_INT})|(?P<float>{_FLOAT})|(?P<duration>{_values.DURATION})|(?P<size>{_values.SIZE})"
)
_MOMENT = re.compile("|".join(f"(?P<{name}>{form})" for name, (form, _) in _MOMENTS.items()))
_BOOL = re.compile("true|false|True|False|TRUE|FALSE")
_IP = re.compile(_values.IP)
_UUID = re.compile(_values.UUID)
_URL = re.compile(_values.URL)
_DURATION = re.compile(_values.DURATION)
_SIZE = re.compile(_values.SIZE)
_EPOCH = re.compile(_times.EPOCH)
_ZONED = re.compile("[Zz]$|[+-][0-9]{2}:?[0-9]{2}$")
_NAMED_TIME = frozenset(
    [
        "ts",
        "time",
        "timestamp",
        "@timestamp",
        "eventtime",
        "starttime",
        "datetime",
        "epoch",
        "createdat",
    ]
)
# Seconds since 1970 from 2001-09-09 to 2100, in seconds, milli-, micro- and nanoseconds.
_EPOCHS = tuple((1e9 * unit, 4.1e9 * unit, unit) for unit in (1, 1e3, 1e6, 1e9))


@final
class _Broken:
    """The one value that says that there is none."""

    def __repr__(self) -> str:
        return "BROKEN"


BROKEN: Final[Any] = _Broken()
"""What a reader answers when the value is not of its type."""


def type_of(value: object, *, numbers: bool = True, name: str = "") -> str:
    """The type of a value.

    Args:
        value: What a format read, or a text.
        numbers: Whether texts may be numbers and booleans.
        name: Of the field: numbers in a field called ``ts`` are moments if they look like such.
    """
    kind = value.__class__
    if kind is str:
        return type_of_text(value, numbers=numbers, name=name)  # type: ignore[arg-type]
    if kind is int or kind is float:
        if named_time(name) and epoch_unit(value):  # type: ignore[arg-type]
            return "timestamp"
        if kind is float:
            return "float"
        return "int" if -INT64 <= value < INT64 else "str"  # type: ignore[operator]
    return _type_of_class(value)


def _type_of_class(value: object) -> str:
    if value is None:
        return "null"
    for kinds, word in _KINDS:
        if isinstance(value, kinds):
            return word
    return "str"


_KINDS: Final[tuple[tuple[Any, str], ...]] = (
    (bool, "bool"),
    (dict, "object"),
    ((list, tuple), "json"),
    (datetime, "timestamp"),
    (timedelta, "duration"),
    ((IPv4Address, IPv6Address), "ip"),
    (UUID, "uuid"),
    (Decimal, "float"),
)


def type_of_text(text: str, *, numbers: bool = True, name: str = "") -> str:
    """The type of which a text is the written form; ``"str"`` if of none.

    ``"blank"`` is one of `NULL_WORDS`: nothing in a field of another type, and a text among texts.
    """
    if text in NULL_WORDS:
        return "blank"
    first = text[0]
    if len(text) > _MOST_TEXT and first not in "{[":
        return "str"
    if first in "0123456789-":
        return _type_of_digits(text, numbers, name)
    if first in "{[":
        return "json" if numbers and _decoded(text) is not BROKEN else "str"
    if numbers and first in "tTfFNI+" and (_BOOL.fullmatch(text) or _FLOAT_WORD.fullmatch(text)):
        return "bool" if first in "tTfF" else "float"
    if "://" in text:
        return "url" if _URL.fullmatch(text) else "str"
    if first in "abcdefABCDEF:" and (found := _type_of_hex(text)):
        return found
    return "timestamp" if first in "MTWFS" and _is_moment(text) else "str"


_FLOAT_WORD = re.compile("NaN|[+-]?Inf")


def _type_of_digits(text: str, numbers: bool, name: str) -> str:
    found = _NUMERIC.fullmatch(text)
    if found is not None:
        word = str(found.lastgroup)
        if word == "int" and not -INT64 <= int(text) < INT64:
            return "str"
        if word in {"int", "float"}:
            if named_time(name) and _EPOCH.fullmatch(text) and epoch_unit(float(text)):
                return "timestamp"
            return word if numbers else "str"
        return word
    if _is_moment(text):
        return "timestamp"
    return _type_of_hex(text) or "str"


def _type_of_hex(text: str) -> str | None:
    if _IP.fullmatch(text):
        return "ip"
    return "uuid" if _UUID.fullmatch(text) else None


def _is_moment(text: str) -> bool:
    return _moment(text) is not BROKEN


def _moment(text: str) -> Any:
    found = _MOMENT.fullmatch(text)
    if found is None:
        return BROKEN
    try:
        return _MOMENTS[str(found.lastgroup)][1](text)
    except (ValueError, OverflowError):  # the 31st of February
        return BROKEN


def named_time(name: str) -> bool:
    """Whether a field of this name, if it holds numbers, holds moments."""
    return name.lower().replace("_", "").replace("-", "") in _NAMED_TIME


def epoch_unit(value: float) -> float:
    """How many of its unit a second has, if this may be a time since 1970; else 0."""
    for low, high, unit in _EPOCHS:
        if low <= value < high:
            return unit
    return 0.0


def _decoded(text: str) -> Any:
    if len(text) > _MOST_JSON:
        return BROKEN
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return BROKEN


def text_of(value: object) -> str:
    """A value as the text that a field of texts has for it."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (dict, list, tuple)):
        try:
            return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=text_of)
        except (ValueError, TypeError, RecursionError):
            return repr(value)
    if isinstance(value, (datetime, date)):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return str(value)


def _as_bool(value: Any) -> Any:
    if value.__class__ is str and _BOOL.fullmatch(value):
        return value.lower() == "true"
    return BROKEN


def _as_int(value: Any) -> Any:
    if value.__class__ is str and _INT_WORD.fullmatch(value):
        value = int(value)
        return value if -INT64 <= value < INT64 else BROKEN
    return BROKEN


_INT_WORD = re.compile(_INT)
_NUMBER_WORD = re.compile(_FLOAT)


def _as_float(value: Any) -> Any:
    kind = value.__class__
    if (kind is int and -INT64 <= value < INT64) or isinstance(value, Decimal):
        return float(value)
    if kind is str and _NUMBER_WORD.fullmatch(value):
        return float(value)
    return BROKEN


def _as_duration(value: Any) -> Any:
    if isinstance(value, timedelta):
        return value.total_seconds()
    if value.__class__ is str and _DURATION.fullmatch(value):
        return _values.duration(value)
    return _as_float(value) if value.__class__ is int else BROKEN


def _as_size(value: Any) -> Any:
    if value.__class__ is str and _SIZE.fullmatch(value):
        found = _values.size(value)
        return found if found < INT64 else BROKEN
    return _as_int(value)


def _as_timestamp(value: Any) -> Any:
    kind = value.__class__
    if kind is str:
        found = _moment(value)
        if found is BROKEN and _EPOCH.fullmatch(value):
            return _from_epoch(float(value))
        return found
    return _from_epoch(value) if kind is int or kind is float else BROKEN


def _from_epoch(value: float) -> Any:
    unit = epoch_unit(value)
    if not unit:
        return BROKEN
    if isinstance(value, int):
        micros = value * 1_000_000 // int(unit)
        return _ZERO + timedelta(microseconds=micros)
    return _ZERO + timedelta(seconds=value / unit)


_ZERO = datetime(1970, 1, 1, tzinfo=UTC)


def _as_word(form: re.Pattern[str], kinds: tuple[type, ...]) -> Callable[[Any], Any]:
    def read(value: Any) -> Any:
        if value.__class__ is str:
            return value if form.fullmatch(value) else BROKEN
        return str(value) if isinstance(value, kinds) else BROKEN

    return read


def _as_json(value: Any) -> Any:
    if value.__class__ is str:
        return _decoded(value) if value[:1] in {"{", "["} else BROKEN
    return value if isinstance(value, (dict, list, tuple)) else BROKEN


def _no_value(value: Any) -> Any:
    return BROKEN


_READERS: Final[dict[str, Callable[[Any], Any]]] = {
    "null": _no_value,
    "bool": _as_bool,
    "int": _as_int,
    "float": _as_float,
    "timestamp": _as_timestamp,
    "duration": _as_duration,
    "size": _as_size,
    "ip": _as_word(_IP, (IPv4Address, IPv6Address)),
    "uuid": _as_word(_UUID, (UUID,)),
    "url": _as_word(_URL, ()),
    "json": _as_json,
    "object": _no_value,
    "str": text_of,
}


def reader(word: str) -> Callable[[Any], Any]:
    """What makes a value one of this type: the value, ``None``, or `BROKEN`.

    Texts that mean nothing are ``None``, except for texts themselves. Where values repeat, which
    they do in logs, the last thousand texts are remembered.
    """
    read = _READERS[word]
    native = CLASSES.get(word)
    if word in {"str", "json", "object"}:
        return read
    known: dict[str, Any] = {}

    def look(value: Any) -> Any:
        if value.__class__ is not str:
            return value if value.__class__ is native and _fits(value) else read(value)
        found = known.get(value, _UNKNOWN)
        if found is _UNKNOWN:
            if len(known) >= _REMEMBERED:
                known.clear()
            found = known[value] = None if value in NULL_WORDS else read(value)
        return found

    return look


_UNKNOWN: Final = object()


def _fits(value: Any) -> bool:
    return value.__class__ is not int or -INT64 <= value < INT64
