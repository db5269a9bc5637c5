"""The protobuf wire format: varints, tags and length-delimited fields as bytes.

https://protobuf.dev/programming-guides/encoding/. Callers know their tags as constants; what is
computed here is lengths and the rare large number.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

TABLE_SIZE: Final = 4096
MASK_64: Final = (1 << 64) - 1
INT64_MIN: Final = -(1 << 63)
INT64_MAX: Final = (1 << 63) - 1

VARINTS: Final[tuple[bytes, ...]] = (
    *(bytes((n,)) for n in range(128)),
    *(bytes((n & 0x7F | 0x80, n >> 7)) for n in range(128, TABLE_SIZE)),
)
"""Varints of small numbers, since nearly every length is one."""

RECORD_HEADS: Final[tuple[bytes, ...]] = tuple(b"\x12" + length for length in VARINTS)
"""Key and length of a record in its scope: field 2 in all three signals of OTLP."""

pack_double: Final = struct.Struct("<d").pack
pack_fixed32: Final = struct.Struct("<I").pack
pack_fixed64: Final = struct.Struct("<Q").pack


def varint(number: int) -> bytes:
    """``number`` as a varint; a negative one as protobuf's int64, in ten bytes."""
    if 0 <= number < TABLE_SIZE:
        return VARINTS[number]
    number &= MASK_64
    if number < 1 << 14:
        return bytes((number & 0x7F | 0x80, number >> 7))
    if number < 1 << 21:
        return bytes((number & 0x7F | 0x80, number >> 7 & 0x7F | 0x80, number >> 14))
    if number < 1 << 28:
        low = number & 0x7F | 0x80, number >> 7 & 0x7F | 0x80, number >> 14 & 0x7F | 0x80
        return bytes((*low, number >> 21))
    if number < 1 << 35:  # seconds since 1970 among them
        low = number & 0x7F | 0x80, number >> 7 & 0x7F | 0x80, number >> 14 & 0x7F | 0x80
        return bytes((*low, number >> 21 & 0x7F | 0x80, number >> 28))
    groups = bytearray()
    while number > 0x7F:
        groups.append(number & 0x7F | 0x80)
        number >>= 7
    groups.append(number)
    return bytes(groups)


def zigzag(number: int) -> bytes:
    """``number`` as sint32 or sint64."""
    return varint(number << 1 if number >= 0 else (-number << 1) - 1)


def delimited(key: bytes, body: bytes) -> bytes:
    """A string, bytes or message field with its key and length."""
    return b"".join((key, varint(len(body)), body))


def fixed64(key: bytes, number: int) -> bytes:
    """A fixed64 field, left out when zero.

    Raises:
        struct.error: Not within 64 bits.
    """
    return key + pack_fixed64(number) if number else b""


def uint(key: bytes, number: int) -> bytes:
    """A varint field, left out when zero."""
    return key + varint(number) if number else b""


def packed_varints(numbers: Iterable[int]) -> bytes:
    """The body of a packed repeated uint64."""
    return b"".join([varint(number) for number in numbers])
