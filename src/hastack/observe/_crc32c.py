"""CRC-32C (Castagnoli) at the speed of C without a C extension of its own.

Snappy's framed format carries the CRC-32C of each piece of up to 64 KiB. Compressing a piece with
cramjam therefore also computes its checksum, some hundred times faster than Python could, and the
checksums of pieces are put together with tables that advance one over 64 KiB of zeros. Polynomial
and test vectors: RFC 3720, appendix B.4; masking: snappy's framing_format.txt, section 3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_POLYNOMIAL = 0x82F63B78  # reflected
_PIECE = 65536
_MASK = 0xA282EAD8


def _byte_table() -> tuple[int, ...]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (_POLYNOMIAL if value & 1 else 0)  # noqa: PLW2901
        table.append(value)
    return tuple(table)


_TABLE = _byte_table()


def crc32c(data: bytes | memoryview, start: int = 0) -> int:
    """The checksum of ``data``, going on from that of what came before; in Python, slowly."""
    crc = ~start & 0xFFFF_FFFF
    table = _TABLE
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ crc >> 8
    return ~crc & 0xFFFF_FFFF


def _times(matrix: list[int], vector: int) -> int:
    result, row = 0, 0
    while vector:
        if vector & 1:
            result ^= matrix[row]
        vector >>= 1
        row += 1
    return result


def _zero_operators() -> list[list[int]]:
    """Matrices over GF(2) that advance a checksum over 2**n zero bytes, n from 0 to 16."""
    bit = [_POLYNOMIAL, *(1 << n for n in range(31))]
    operators = []
    matrix = bit
    for power in range(3 + 17):  # three squarings make a byte of a bit
        if power >= 3:
            operators.append(matrix)
        matrix = [_times(matrix, row) for row in matrix]
    return operators


_ZEROS: list[list[int]] = []


def append(first: int, second: int, size: int) -> int:
    """The checksum of two pieces together, the second ``size`` <= 64 KiB long."""
    if not _ZEROS:
        _ZEROS.extend(_zero_operators())
    for power in range(17):
        if size >> power & 1:
            first = _times(_ZEROS[power], first)
    return first ^ second


def by_frames(compress: Callable[[memoryview], Any]) -> Callable[[bytes | memoryview], int]:
    """The checksum function on top of a compressor to snappy's framed format.

    Args:
        compress: ``cramjam.snappy.compress``, or anything that makes the same bytes.
    """

    def checksum(data: bytes | memoryview) -> int:
        view = memoryview(data)
        result = 0
        for at in range(0, len(view), _PIECE):
            piece = view[at : at + _PIECE]
            # Ten bytes of stream identifier, four of chunk header, then the masked checksum.
            masked = (
                int.from_bytes(bytes(memoryview(compress(piece))[14:18]), "little") - _MASK
                & 0xFFFF_FFFF
            )
            own = (masked << 15 | masked >> 17) & 0xFFFF_FFFF
            result = append(result, own, len(piece)) if at else own
        return result

    return checksum
