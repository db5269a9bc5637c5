"""Records out of the memory of a perf buffer.

A header (type, flags, size), then: for a sample, its length and bytes; for a loss, an id and how many
records found no room. The memory is mapped once, so a record may be split at its end. Source:
``perf_event_open(2)``.
"""

from __future__ import annotations

from struct import Struct
from typing import NamedTuple

__all__ = ("Samples", "take")

_HEADER = Struct("=IHH")
_LOST, _SAMPLE = 2, 9
_COUNT, _LENGTH = Struct("=QQ"), Struct("=I")


class Samples(NamedTuple):
    """What one look brought.

    Args:
        samples: Bytes of each sample, with what the kernel added to make it a multiple of 8.
        lost: How many found no room.
        position: How far the consumer has read now.
    """

    samples: list[bytes]
    lost: int
    position: int


def take(data: memoryview, start: int, end: int, limit: int) -> Samples:
    """Read the records between two positions.

    Args:
        data: The data of one processor's buffer; its size is a power of two.
        start: Where the consumer is.
        end: Where the producer is.
        limit: How many samples at most.
    """
    samples: list[bytes] = []
    lost = 0
    while start < end and len(samples) < limit:
        # Headers are never split: records are multiples of 8 bytes.
        kind, _, size = _HEADER.unpack_from(data, start % len(data))
        if size < _HEADER.size:  # nothing that a kernel writes; reading on would not end
            return Samples(samples, lost, end)
        record = _piece(data, start % len(data), size)
        if kind == _SAMPLE:
            (length,) = _LENGTH.unpack_from(record, 8)
            samples.append(record[12 : 12 + length])
        elif kind == _LOST:
            lost += _COUNT.unpack_from(record, 8)[1]
        start += size
    return Samples(samples, lost, start)


def _piece(data: memoryview, at: int, size: int) -> bytes:
    first = bytes(data[at : at + size])
    return first + bytes(data[: size - len(first)])
