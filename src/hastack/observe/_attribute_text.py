"""Attribute values as text, for formats that know nothing else.

OpenTelemetry specification, "AnyValue representation for non-OTLP protocols": numbers and
booleans as JSON has them, bytes in base64, sequences and mappings as JSON.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping, Sequence
from math import isfinite, isnan
from typing import TYPE_CHECKING, Any

from ._otlp_values import DEPTH, NODES, as_text, entries

if TYPE_CHECKING:
    from ._otlp_values import Tally


def clean(value: str, tally: Tally) -> str:
    """``value`` with U+FFFD for each lone surrogate."""
    try:
        value.encode()
    except UnicodeEncodeError:
        tally.repaired += 1
        return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return value


def attribute_text(value: Any, tally: Tally) -> str:
    """``value`` as a string that can be encoded."""
    if type(value) is str:
        return clean(value, tally)
    tally.nodes = 0
    plain = _plain(value, tally, DEPTH)
    if isinstance(plain, str):
        return plain
    if plain is None:
        return ""
    return json.dumps(plain, ensure_ascii=False, separators=(",", ":"))


def _plain(value: Any, tally: Tally, depth: int) -> Any:
    """``value`` out of what JSON knows; other floats are strings."""
    tally.nodes += 1
    if value is None or type(value) is bool:
        return value
    try:
        if isinstance(value, str):
            return clean(as_text(value), tally)
        if isinstance(value, int):
            return _whole(int(value), tally)
        if isinstance(value, float):
            number = float(value)
            return number if isfinite(number) else _unbounded(number)
        if isinstance(value, (bytes, bytearray, memoryview)):
            return b64encode(value).decode()
        if isinstance(value, (Sequence, Mapping)):
            return _nested(value, tally, depth)
    except Exception:
        tally.repaired += 1
        return f"<{type(value).__name__}>"
    tally.repaired += 1
    return clean(as_text(value), tally)


def _whole(number: int, tally: Tally) -> Any:
    if -(1 << 63) <= number < 1 << 64:
        return number
    tally.repaired += 1
    try:
        return str(number)
    except ValueError:  # more digits than sys.get_int_max_str_digits() allows
        return hex(number)


def _unbounded(number: float) -> str:
    if isnan(number):
        return "NaN"
    return "Infinity" if number > 0 else "-Infinity"


def _nested(value: Any, tally: Tally, depth: int) -> Any:
    if not depth or tally.nodes > NODES:
        tally.repaired += 1
        return f"<{type(value).__name__} nested too deep or too large>"
    if isinstance(value, Sequence):
        return [_plain(item, tally, depth - 1) for item in value]
    return {
        clean(as_text(key), tally): _plain(item, tally, depth - 1) for key, item in entries(value)
    }
