"""``google.rpc.Status`` with a ``RetryInfo``, written by hand. Pure.

Two small messages are not worth generated code, which would have to be kept out of protobuf's
default pool, where other packages register the same files.
"""

from __future__ import annotations

from math import ceil
from typing import Final

DETAILS: Final = "grpc-status-details-bin"
PUSHBACK: Final = "grpc-retry-pushback-ms"

_RETRY_INFO: Final = b"type.googleapis.com/google.rpc.RetryInfo"
_LONGEST: Final = 1e6


def retry_trailers(
    code: int, message: str, retry_after: float | None
) -> tuple[tuple[str, str | bytes], ...]:
    """Trailers that say when to come back; none when nobody knows, or the number is absurd.

    Args:
        code: Number of the status code, which the details repeat.
        message: The status's message.
        retry_after: Seconds.
    """
    if retry_after is None or not 0.0 <= retry_after < _LONGEST:
        return ()
    return (
        (PUSHBACK, str(ceil(retry_after * 1000.0))),
        (DETAILS, status_details(code, message, retry_after)),
    )


def status_details(code: int, message: str, retry_after: float) -> bytes:
    """A ``google.rpc.Status`` whose one detail says to come back in ``retry_after`` seconds."""
    nanos = ceil(retry_after * 1e9)
    delay = _number(1, nanos // 10**9) + _number(2, nanos % 10**9)
    packed = _bytes(1, _RETRY_INFO) + _bytes(2, _bytes(1, delay))
    return _number(1, code) + _bytes(2, message.encode()) + _bytes(3, packed)


def _number(field: int, value: int) -> bytes:
    return bytes((field << 3,)) + _varint(value) if value else b""


def _bytes(field: int, value: bytes) -> bytes:
    return bytes((field << 3 | 2,)) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    groups = bytearray()
    while value > 0x7F:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    groups.append(value)
    return bytes(groups)
