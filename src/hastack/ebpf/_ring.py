"""Records out of the memory of a BPF ring buffer.

The memory is a word where the consumer says how far it has read, one where the producer says how
far it has reserved, and the data, mapped twice in a row so that no record is ever split. A record
is a word with its length, where two bits say "not yet submitted" and "thrown away", a word for the
kernel, and its bytes, rounded up to 8. Source: ``kernel/bpf/ringbuf.c``.

Records of one size that follow each other are unpacked by one `struct.Struct.iter_unpack`: their
headers are compared in one go, and nothing in Python happens per record.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from ._codec import record

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._codec import Codec

__all__ = ("Taken", "Walker")

BUSY, DISCARD, LENGTH = 1 << 31, 1 << 30, (1 << 30) - 1
_HEADER = 8
_SHORT_RUN = 4  # records; below that, one by one is as fast


class Taken(NamedTuple):
    """What one look brought.

    Args:
        rows: One item per record, in order.
        others: Records of another size than the type's, as bytes.
        discarded: How many had been thrown away by their program.
        position: How far the consumer has read now.
        stopped: Whether it stopped before a record that is not submitted yet.
    """

    rows: list[Any]
    others: list[bytes]
    discarded: int
    position: int
    stopped: bool


class Walker:
    """Reads records of one type from the data of a ring buffer.

    Args:
        size: Size of the ring in bytes, a power of two.
        codec: Type of the records; ``None`` for bytes.
    """

    def __init__(self, size: int, codec: Codec | None) -> None:
        self._mask = size - 1
        self._codec = codec
        self._unpackers: dict[int, Callable[[Any], Any]] = {}

    def _unpacker(self, step: int) -> Callable[[Any], Any] | None:
        """Unpacks a run of records that take ``step`` bytes each, if the type allows that."""
        codec = self._codec
        if codec is None or codec.row_format is None:
            return None
        found = self._unpackers.get(step)
        if found is None:
            rest = step - _HEADER - codec.size
            form = f"{_HEADER}x{codec.row_format}{rest}x"
            found = record(form, sys.byteorder).iter_unpack
            self._unpackers[step] = found
        return found

    def take(self, data: memoryview, words: memoryview, start: int, end: int, limit: int) -> Taken:
        """Read the records between two positions.

        Args:
            data: The data, twice in a row.
            words: The same as words of 4 bytes.
            start: Where the consumer is.
            end: Where the producer is.
            limit: How many records at most.
        """
        rows: list[Any] = []
        others: list[bytes] = []
        discarded = 0
        mask, codec = self._mask, self._codec
        size = -1 if codec is None else codec.size
        while start < end and len(rows) + len(others) < limit:
            at = start & mask
            header = self._header(words, at)
            if header & BUSY:
                return Taken(rows, others, discarded, start, True)
            length = header & LENGTH
            step = (length + _HEADER + 7) & ~7
            if header & DISCARD:
                discarded += 1
                start += step
                continue
            count = 1
            if length == size or codec is None:
                room = limit - len(rows) - len(others)
                count = self._run(words, at, step, header, min((end - start) // step, room))
                self._decode(data, at, length, step, count, rows)
            else:
                others.append(bytes(data[at + _HEADER : at + _HEADER + length]))
            start += step * count
        return Taken(rows, others, discarded, start, False)

    def _header(self, words: memoryview, at: int) -> int:
        """The length and the marks of a record."""
        header: int = words[at >> 2]
        return header

    def _run(self, words: memoryview, at: int, step: int, header: int, most: int) -> int:
        """How many records with that very header follow each other."""
        if most < _SHORT_RUN:
            return 1
        first, stride = at >> 2, step >> 2
        headers = words[first : first + most * stride : stride].tolist()
        if headers.count(header) == most:
            return most
        return next(n for n, each in enumerate(headers) if each != header)

    def _decode(
        self, data: memoryview, at: int, length: int, step: int, count: int, rows: list[Any]
    ) -> None:
        codec = self._codec
        unpack = self._unpacker(step)
        if unpack is not None:
            rows.extend(unpack(data[at : at + step * count]))
        elif codec is not None:
            decode = codec.decode
            rows.extend([decode(data, at + n * step + _HEADER) for n in range(count)])
        else:
            places = range(at + _HEADER, at + _HEADER + step * count, step)
            rows.extend([bytes(data[place : place + length]) for place in places])
