"""Attributes as repeated KeyValue fields, mostly from fragments that were encoded before."""

from __future__ import annotations

from typing import Any, Final

from ._fragments import Fragments
from ._otlp_values import Tally, any_value, entries, key_value
from ._protobuf import INT64_MAX, INT64_MIN, delimited, pack_double, varint

# How a string's AnyValue starts inside a KeyValue, by the length of the string.
_STRING_HEADS: Final = tuple(bytes((0x12, n + 2, 0x0A, n)) for n in range(126))
# An integer's, by the length of its varint.
_INT_HEADS: Final = tuple(bytes((0x12, n + 1, 0x18)) for n in range(11))


class _KeyValue:
    """A KeyValue message under one field key."""

    __slots__ = ("_field",)

    def __init__(self, field: bytes) -> None:
        self._field = field

    def head(self, key: str) -> bytes:
        return delimited(b"\x0a", key.encode()) if key else b""

    def string(self, value: str) -> bytes:
        raw = value.encode()
        if len(raw) < 126:
            return _STRING_HEADS[len(raw)] + raw
        return delimited(b"\x12", delimited(b"\x0a", raw))

    def integer(self, value: int) -> bytes:
        if INT64_MIN <= value <= INT64_MAX:
            raw = varint(value)
            return _INT_HEADS[len(raw)] + raw
        raise OverflowError

    def other(self, value: Any) -> bytes:
        if type(value) is bool:
            return b"\x12\x02\x10\x01" if value else b"\x12\x02\x10\x00"
        if type(value) is float:
            return b"\x12\x09\x21" + pack_double(value)
        tally = Tally()
        tail = delimited(b"\x12", any_value(value, tally))
        if tally.repaired:
            raise ValueError("an attribute that needs repair")
        return tail

    def pair(self, head: bytes, tail: bytes) -> bytes:
        return b"".join((self._field, varint(len(head) + len(tail)), head, tail))


class Attributes:
    """Encodes attribute mappings under one field key."""

    __slots__ = ("_field", "_fragments", "encode")

    def __init__(self, field: bytes) -> None:
        self._field = field
        self._fragments = Fragments(_KeyValue(field))
        self.encode = self._fragments.encode

    def began(self, mappings: int) -> None:
        """So many mappings follow."""
        self._fragments.blocks += mappings

    def encode_any(self, attributes: Any, parts: list[bytes], tally: Tally) -> None:
        """Append a field for each pair of any mapping, or of ``None``; repairs what it must."""
        try:
            pairs = entries(attributes)
        except Exception:  # not a mapping, or one of the user's own that fails
            tally.repaired += 1
            return
        before = len(parts)
        try:
            self.encode(pairs, parts)
        except Exception:
            del parts[before:]
            for key, value in pairs:
                if type(key) is not str:
                    tally.repaired += 1
                parts.append(delimited(self._field, key_value(key, value, tally)))
