"""OTLP's AnyValue, and the stated policy for values that it cannot hold.

What the official encoder takes is encoded the same. Of the rest: integers beyond 64 bits and
objects of other types become strings (OpenTelemetry specification, "Mapping Arbitrary Data to
OTLP AnyValue"), lone surrogates become U+FFFD, and what is nested deeper than receivers parse is
named instead. Each of these is counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from ._protobuf import INT64_MAX, INT64_MIN, delimited, pack_double, varint

DEPTH: Final = 24
"""Levels of nesting; three messages each, and protobuf parsers stop at a hundred."""

NODES: Final = 1 << 20
"""Values inside one value. A few lists that hold each other many times are soon more."""

_TRIES: Final = 8


class Tally:
    """What was repaired and what was left out while one body was encoded."""

    __slots__ = ("nodes", "repaired", "unsupported")

    def __init__(self) -> None:
        self.repaired = 0
        self.unsupported = 0
        self.nodes = 0


def utf8(value: str, tally: Tally) -> bytes:
    """``value`` in UTF-8, with U+FFFD for each lone surrogate."""
    try:
        return value.encode()
    except UnicodeEncodeError:
        tally.repaired += 1
        return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace").encode()


def as_text(value: object) -> str:
    """``str(value)``, or the name of its type where that fails."""
    try:
        # A subclass may lie about its own characters; what is encoded is a plain copy.
        return str.__str__(value) if isinstance(value, str) else f"{value!s}"
    except Exception:
        return f"<{type(value).__name__}>"


def entries(attributes: Any) -> list[tuple[Any, Any]]:
    """The pairs of a mapping as they are at one moment, though other threads may write to it.

    Raises:
        Exception: Whatever a mapping of the user's own raises.
    """
    if not attributes:
        return []
    for _ in range(_TRIES):
        try:
            return list(attributes.items())
        except RuntimeError:  # changed size during iteration
            continue
    return list(dict(attributes).items())


def any_value(value: Any, tally: Tally) -> bytes:
    """The body of an AnyValue message; empty for ``None``."""
    tally.nodes = 0
    return _any_value(value, tally, DEPTH)


def key_value(key: Any, value: Any, tally: Tally) -> bytes:
    """The body of a KeyValue message."""
    return _key_value(key, any_value(value, tally), tally)


def _key_value(key: Any, body: bytes, tally: Tally) -> bytes:
    name = utf8(key if type(key) is str else as_text(key), tally)
    head = delimited(b"\x0a", name) if name else b""
    return head + delimited(b"\x12", body)


def _string(value: str, tally: Tally) -> bytes:
    return delimited(b"\x0a", utf8(value, tally))


def _repaired(value: str, tally: Tally) -> bytes:
    tally.repaired += 1
    return _string(value, tally)


def _any_value(value: Any, tally: Tally, depth: int) -> bytes:
    tally.nodes += 1
    if value is None:
        return b""
    if isinstance(value, bool):
        return b"\x10\x01" if value else b"\x10\x00"
    try:
        if isinstance(value, str):
            return _string(value if type(value) is str else as_text(value), tally)
        if isinstance(value, int):
            number = int(value)
            if INT64_MIN <= number <= INT64_MAX:
                return b"\x18" + varint(number)
            return _repaired(_decimal(number), tally)
        if isinstance(value, float):
            return b"\x21" + pack_double(value)
        if isinstance(value, (bytes, bytearray, memoryview)):
            return delimited(b"\x3a", bytes(value))
        if isinstance(value, (Sequence, Mapping)):
            return _nested(value, tally, depth)
    except Exception:
        return _repaired(f"<{type(value).__name__}>", tally)
    return _repaired(as_text(value), tally)


def _decimal(number: int) -> str:
    try:
        return str(number)
    except ValueError:  # more digits than sys.get_int_max_str_digits() allows
        return hex(number)


def _nested(value: Any, tally: Tally, depth: int) -> bytes:
    if not depth or tally.nodes > NODES:
        return _repaired(f"<{type(value).__name__} nested too deep or too large>", tally)
    if isinstance(value, Sequence):
        parts = [delimited(b"\x0a", _any_value(item, tally, depth - 1)) for item in value]
        return delimited(b"\x2a", b"".join(parts))
    parts = [
        delimited(b"\x0a", _key_value(key, _any_value(item, tally, depth - 1), tally))
        for key, item in entries(value)
    ]
    return delimited(b"\x32", b"".join(parts))
