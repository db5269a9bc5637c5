"""How a worker's numbers lie in its file, so that other processes can read them at any moment.

A file is a header and records, in native byte order and multiples of 8 bytes; it is shared memory
between processes of one machine, not a format to keep. Records never move and never change their
size, so a writer updates numbers in place without telling anybody. What is written becomes visible
by one aligned store of ``used``, which lies behind everything that it covers.

    header   magic 8s | used u64 | process id u64 | has exemplars u64 | reserved, to 64 bytes
    record   size u32 | kind u16 | numbers u16 | exemplars u16 | text u16 | descriptor u32
             text, padded | numbers f64 * n | exemplars * m

A descriptor is a metric: its text is JSON and its cells name it by its place. A cell is one set of
attributes. Exemplars carry a sequence number that is odd while they are being written.
"""

from __future__ import annotations

import json
import struct
from math import inf
from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    Attributes = tuple[tuple[str, Any], ...]

__all__ = (
    "HEADER",
    "MAGIC",
    "CellRecord",
    "Descriptor",
    "Malformed",
    "pack_cell",
    "pack_descriptor",
    "parse",
)

MAGIC = b"hsmet\x01\0\0"
HEADER = 64
USED_AT = 8
EXEMPLARS_AT = 24
_HEAD = struct.Struct("=IHHHHI")
_EXEMPLAR = struct.Struct("=QdQ16s8s")
EXEMPLAR_SIZE = _EXEMPLAR.size
_SEQUENCE = struct.Struct("=Q")
_DESCRIPTOR = 1
_CELL = 2
TEXT_LIMIT = 0xFFFF


class Malformed(ValueError):
    """Bytes that no writer of this format leaves behind."""


@attrs.frozen
class Descriptor:
    """One metric.

    Attributes:
        name: As the OpenTelemetry instrument.
        kind: ``counter``, ``updown``, ``gauge`` or ``histogram``.
        unit: UCUM unit.
        description: For people.
        scope: Name and version of the meter.
        bounds: Upper bounds of a histogram's buckets but the last.
        across: What becomes of gauges of several processes: ``sum``, ``max``, ``min``, ``last``
            or ``each``.
    """

    name: str
    kind: str
    unit: str = ""
    description: str = ""
    scope: tuple[str, str] = ("", "")
    bounds: tuple[float, ...] = ()
    across: str = "sum"

    @property
    def numbers(self) -> int:
        """How many numbers a cell has: value and time, or sum, least, largest and the buckets."""
        return 3 + len(self.bounds) + 1 if self.kind == "histogram" else 2

    @property
    def zeros(self) -> list[float]:
        """The numbers of a cell that has counted nothing."""
        if self.kind == "histogram":
            return [0, inf, -inf, *[0] * (len(self.bounds) + 1)]
        return [0, 0]

    @property
    def exemplars(self) -> int:
        """Exemplars of a cell: one, or one for each bucket."""
        return len(self.bounds) + 1 if self.kind == "histogram" else 1


@attrs.frozen
class CellRecord:
    """Where one cell's numbers and exemplars lie.

    Attributes:
        descriptor: Its metric.
        attributes: Its attributes, sorted.
        numbers_at: Offset of its first number in the file.
        exemplars_at: Offset of its first exemplar.
    """

    descriptor: Descriptor
    attributes: Attributes
    numbers_at: int
    exemplars_at: int


def header(pid: int) -> bytes:
    """The first bytes of a file that holds nothing yet."""
    return MAGIC + _SEQUENCE.pack(HEADER) + _SEQUENCE.pack(pid) + bytes(HEADER - 24)


def used(data: memoryview) -> int:
    """How many bytes count.

    Raises:
        Malformed: It is no such file.
    """
    if len(data) < HEADER or data[:8] != MAGIC:
        raise Malformed("not a metrics file of this version")
    end: int = _SEQUENCE.unpack_from(data, USED_AT)[0]
    if not HEADER <= end <= len(data) or end % 8:
        raise Malformed(f"says that {end} of its {len(data)} bytes are used")
    return end


def pack_descriptor(descriptor: Descriptor) -> bytes:
    """A metric's record.

    Raises:
        Malformed: Its names take more than 65,535 bytes.
    """
    text = json.dumps(attrs.astuple(descriptor, recurse=False), separators=(",", ":")).encode()
    return _record(_DESCRIPTOR, text, 0, [], 0)


def pack_cell(
    descriptor: Descriptor,
    place: int,
    attributes: Attributes,
    numbers: Sequence[float] | None = None,
) -> bytes:
    """A cell's record.

    Args:
        descriptor: Its metric.
        place: Offset of the metric's record.
        attributes: Its attributes, sorted.
        numbers: What it has counted; nothing by default.

    Raises:
        Malformed: The attributes take more than 65,535 bytes.
    """
    text = json.dumps(attributes, separators=(",", ":")).encode()
    return _record(_CELL, text, place, numbers or descriptor.zeros, descriptor.exemplars)


def _record(
    kind: int, text: bytes, descriptor: int, numbers: Sequence[float], exemplars: int
) -> bytes:
    if len(text) > TEXT_LIMIT:
        raise Malformed(f"{len(text)} bytes of names and attributes, of at most {TEXT_LIMIT}")
    padded = text + bytes(-len(text) % 8)
    rest = struct.pack(f"={len(numbers)}d", *numbers) + bytes(EXEMPLAR_SIZE * exemplars)
    size = _HEAD.size + len(padded) + len(rest)
    return _HEAD.pack(size, kind, len(numbers), exemplars, len(text), descriptor) + padded + rest


def numbers_at(record_at: int, record: bytes) -> int:
    """Offset of the numbers of a cell's record that lies at ``record_at``."""
    return record_at + _HEAD.size + _padded(_HEAD.unpack_from(record)[4])


def _padded(size: int) -> int:
    return size + -size % 8


def parse(
    data: memoryview, start: int, end: int, descriptors: dict[int, Descriptor]
) -> Iterator[CellRecord]:
    """The cells between two offsets; metrics among them are added to ``descriptors``.

    Raises:
        Malformed: A record is not one.
    """
    at = start
    while at < end:
        if end - at < _HEAD.size:
            raise Malformed(f"a record cut short at {at}")
        size, kind, numbers, exemplars, text_size, place = _HEAD.unpack_from(data, at)
        body = at + _HEAD.size
        first = body + _padded(text_size)
        after = first + 8 * numbers
        if size % 8 or at + size > end or after + EXEMPLAR_SIZE * exemplars != at + size:
            raise Malformed(f"a record of {size} bytes at {at}")
        try:
            text = json.loads(bytes(data[body : body + text_size]))
            if kind == _DESCRIPTOR:
                descriptors[at] = _descriptor(text)
            elif kind == _CELL:
                metric = descriptors[place]
                if (metric.numbers, metric.exemplars) != (numbers, exemplars):
                    raise Malformed(f"{numbers} numbers of a {metric.kind} at {at}")
                yield CellRecord(metric, tuple((k, _frozen(v)) for k, v in text), first, after)
            else:
                raise Malformed(f"a record of kind {kind} at {at}")
        except Malformed:
            raise
        except Exception as error:
            raise Malformed(f"a record at {at}: {error!r}") from error
        at += size


def _descriptor(text: Any) -> Descriptor:
    name, kind, unit, description, scope, bounds, across = text
    return Descriptor(name, kind, unit, description, tuple(scope), tuple(bounds), across)


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


def write_exemplar(
    data: memoryview, at: int, value: float, stamp: int, trace_id: int, span_id: int
) -> None:
    """Replace an exemplar; a reader that looks meanwhile sees that it is not whole."""
    sequence: int = _SEQUENCE.unpack_from(data, at)[0]
    data[EXEMPLARS_AT] = 1
    _SEQUENCE.pack_into(data, at, sequence | 1)
    after = (sequence | 1) + 1
    packed = _EXEMPLAR.pack(
        after, value, stamp, trace_id.to_bytes(16, "big"), span_id.to_bytes(8, "big")
    )
    data[at + 8 : at + EXEMPLAR_SIZE] = packed[8:]
    _SEQUENCE.pack_into(data, at, after)


def read_exemplar(data: memoryview, at: int) -> tuple[float, int, int, int] | None:
    """Value, time, trace and span; ``None`` when there is none or it is being written."""
    before, value, stamp, trace_id, span_id = _EXEMPLAR.unpack_from(data, at)
    if before == 0 or before & 1 or _SEQUENCE.unpack_from(data, at)[0] != before:
        return None
    return value, stamp, int.from_bytes(trace_id, "big"), int.from_bytes(span_id, "big")
