"""The format of spill files: segments that only grow, made of records with a checksum.

A segment begins with a header, which names its lane and how its bodies travel, and goes on with
records::

    header:  "HSEG" version:u8 0:u8 shards:u16 lane:u16 size:u16 | size bytes of JSON | crc32c:u32
    record:  0xA5 state:u8 units:u32 size:u32 crc32c:u32         | size bytes of body

Numbers are little-endian. A record's checksum covers ``units``, ``size`` and the body. ``state`` is
0xFF until the record is settled, then 0x00: one byte, written in place, which no crash can tear
and no full disk can prevent. What is cut off at the end, by a crash in the middle of a write, is
skipped and counted.
"""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING, Any, final

import attrs

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MAGIC = b"HSEG"
VERSION = 1
KEPT, SETTLED = 0xFF, 0x00
STATE_OFFSET = 1
"""Of the state within its record."""

_HEAD = struct.Struct("<4sBBHHH")
_RECORD = struct.Struct("<BBIII")
_COUNTED = struct.Struct("<II")
_CRC = struct.Struct("<I")
_MARK = 0xA5


@final
@attrs.frozen
class Header:
    """What a segment says about itself.

    Attributes:
        shards: Lanes of the exporter that wrote it.
        lane: The lane it belongs to.
        about: How its bodies travel: ``format``, ``content_type``, ``encoding`` ...
    """

    shards: int
    lane: int
    about: Mapping[str, Any]


@final
@attrs.frozen
class Record:
    """A record that is whole.

    Attributes:
        at: Where it begins in the segment.
        units: Units in it.
        body_at: Where its body begins.
        size: Bytes of the body.
    """

    at: int
    units: int
    body_at: int
    size: int


@final
@attrs.frozen
class Scan:
    """What a segment holds.

    Attributes:
        header: Its header; ``None`` when that is damaged, and then everything is torn.
        records: Records that are whole and not settled, in order.
        damaged: Records in the middle whose checksum is wrong.
        torn: Bytes at the end that make no record.
    """

    header: Header | None
    records: tuple[Record, ...]
    damaged: int
    torn: int


def pack_header(header: Header, checksum: Callable[[bytes], int]) -> bytes:
    """The bytes that a segment begins with."""
    about = json.dumps(dict(header.about), sort_keys=True).encode()
    head = _HEAD.pack(MAGIC, VERSION, 0, header.shards, header.lane, len(about)) + about
    return head + _CRC.pack(checksum(head))


def pack_record(units: int, body: bytes, checksum: Callable[[bytes], int]) -> bytes:
    """The bytes of a record that is not settled."""
    crc = checksum(_COUNTED.pack(units, len(body)) + body)
    return _RECORD.pack(_MARK, KEPT, units, len(body), crc) + body


def scan(data: bytes, checksum: Callable[[bytes], int]) -> Scan:
    """Read a segment. Never raises, whatever the bytes are."""
    header, at = _header(data, checksum)
    if header is None:
        return Scan(None, (), 0, len(data))
    records: list[Record] = []
    damaged = 0
    while len(data) - at >= _RECORD.size:
        mark, state, units, size, crc = _RECORD.unpack_from(data, at)
        begin = at + _RECORD.size
        if mark != _MARK or size > len(data) - begin:
            break
        if state != SETTLED:
            if checksum(data[at + 2 : at + 10] + data[begin : begin + size]) == crc:
                records.append(Record(at, units, begin, size))
            else:
                damaged += 1
        at = begin + size
    return Scan(header, tuple(records), damaged, len(data) - at)


def _header(data: bytes, checksum: Callable[[bytes], int]) -> tuple[Header | None, int]:
    if len(data) < _HEAD.size:
        return None, 0
    magic, version, _, shards, lane, size = _HEAD.unpack_from(data)
    end = _HEAD.size + size
    if magic != MAGIC or version != VERSION or len(data) < end + _CRC.size:
        return None, 0
    if checksum(data[:end]) != _CRC.unpack_from(data, end)[0]:
        return None, 0
    try:
        about = json.loads(data[_HEAD.size : end])
    except ValueError:
        return None, 0
    if not isinstance(about, dict):
        return None, 0
    return Header(shards, lane, about), end + _CRC.size


def body_of(record: bytes, checksum: Callable[[bytes], int]) -> bytes | None:
    """The body of one record as it was read back, or ``None`` when it is damaged."""
    if len(record) < _RECORD.size:
        return None
    mark, _, _, size, crc = _RECORD.unpack_from(record)
    body = record[_RECORD.size :]
    if mark != _MARK or size != len(body) or checksum(record[2:10] + body) != crc:
        return None
    return body


@final
@attrs.frozen(order=True)
class SegmentName:
    """File names that sort by lane and age."""

    lane: int
    number: int

    def __str__(self) -> str:
        return f"{self.lane:05d}-{self.number:012d}.seg"

    @classmethod
    def parse(cls, name: str) -> SegmentName | None:
        """The name of a segment file, or ``None`` for any other file."""
        lane, _, rest = name.removesuffix(".seg").partition("-")
        if not name.endswith(".seg") or not (lane.isdecimal() and rest.isdecimal()):
            return None
        return cls(int(lane), int(rest))


FIRST_NUMBER = 500_000_000_000
"""Of a lane's first segment; what has to be read before it gets smaller ones."""
