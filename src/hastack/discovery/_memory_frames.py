"""Frames and their fields: how the processes that share an embedded store pack what they say.

A frame is a length (4 bytes, big-endian) and a body of fixed fields and counted bytes. A reader
never takes more than there is, and refuses a count for which there is no room.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Any, final

from ._records import KeyValue

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ("KV_SIZE", "SIZE", "Frames", "Malformed", "Reader", "Writer")

_INT = Struct("!q")
SIZE = Struct("!I")
_FLOAT = Struct("!d")
_KV = Struct("!IIqqqq")
_NONE = 0xFFFFFFFF  # in place of a length: there is nothing, not even something empty


_BYTES = [bytes((value,)) for value in range(256)]

KV_SIZE = _KV.size


class Malformed(ValueError):  # as the field says
    """Bytes that are no message; the text says why, for the peer to read."""


@final
class Frames:
    """Cuts a stream of bytes into messages.

    Args:
        limit: Bytes of one message at most.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """The messages that ``data`` completes.

        Raises:
            Malformed: One is announced that is empty or longer than the limit.
        """
        buffer = self._buffer
        buffer += data
        found = []
        at = 0
        while len(buffer) - at >= 4:
            size = int.from_bytes(buffer[at : at + 4], "big")
            if not 0 < size <= self._limit:
                raise Malformed(f"a message of {size} bytes: 1 to {self._limit} are accepted")
            if len(buffer) - at - 4 < size:
                break
            found.append(bytes(buffer[at + 4 : at + 4 + size]))
            at += 4 + size
        del buffer[:at]
        return found


@final
class Writer:
    """Collects the parts of a message."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []

    def byte(self, value: int) -> None:
        self.parts.append(_BYTES[value])

    def flags(self, *flags: bool) -> None:
        value, bit = 0, 1
        for flag in flags:
            if flag:
                value |= bit
            bit <<= 1
        self.byte(value)

    def size(self, value: int) -> None:
        self.parts.append(SIZE.pack(value))

    def int(self, value: int) -> None:
        self.parts.append(_INT.pack(value))

    def float(self, value: float) -> None:
        self.parts.append(_FLOAT.pack(value))

    def bytes(self, value: bytes | None) -> None:
        if value is None:
            self.parts.append(SIZE.pack(_NONE))
        else:
            self.parts += (SIZE.pack(len(value)), value)

    def text(self, value: str) -> None:
        self.bytes(value.encode(errors="surrogatepass"))

    def kv(self, kv: KeyValue) -> None:
        key, value = kv.key, kv.value
        head = _KV.pack(
            len(key), len(value), kv.create_revision, kv.mod_revision, kv.version, kv.lease
        )
        self.parts += (head, key, value)

    def maybe_kv(self, kv: KeyValue | None) -> None:
        if kv is None:
            self.byte(0)
        else:
            self.byte(1)
            self.kv(kv)

    def kvs(self, kvs: Sequence[KeyValue]) -> None:
        self.size(len(kvs))
        for kv in kvs:
            self.kv(kv)


@final
class Reader:
    """Takes a message apart, and never reads beyond it."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def raw(self, size: int) -> bytes:
        begin, self.at = self.at, self.at + size
        if self.at > len(self.data):
            raise Malformed("it ends early")
        return self.data[begin : self.at]

    def struct(self, struct: Struct) -> tuple[Any, ...]:
        begin, self.at = self.at, self.at + struct.size
        if self.at > len(self.data):
            raise Malformed("it ends early")
        return struct.unpack_from(self.data, begin)

    def byte(self, limit: int) -> int:
        (value,) = self.raw(1)
        if value >= limit:
            raise Malformed(f"{value} where a number below {limit} belongs")
        return value

    def flags(self, count: int) -> list[bool]:
        value = self.byte(1 << count)
        return [bool(value >> n & 1) for n in range(count)]

    def size(self) -> int:
        return int(self.struct(SIZE)[0])

    def count(self, least: int) -> int:
        """How many follow that have at least ``least`` bytes each: not more than there is room."""
        count = self.size()
        if count * least > len(self.data) - self.at:
            raise Malformed(f"{count} parts are announced, for which there is no room")
        return count

    def int(self) -> int:
        return int(self.struct(_INT)[0])

    def float(self) -> float:
        return float(self.struct(_FLOAT)[0])

    def maybe_bytes(self) -> bytes | None:
        size = self.size()
        return None if size == _NONE else self.raw(size)

    def bytes(self) -> bytes:
        return self.raw(self.size())

    def text(self) -> str:
        try:
            return self.bytes().decode(errors="surrogatepass")
        except UnicodeDecodeError as error:
            raise Malformed("text that is not UTF-8") from error

    def kv(self) -> KeyValue:
        # Written out, because most of what comes is of these.
        data, at = self.data, self.at + KV_SIZE
        if at > len(data):
            raise Malformed("it ends early")
        key, value, create, mod, version, lease = _KV.unpack_from(data, self.at)
        middle = at + key
        self.at = end = middle + value
        if end > len(data):
            raise Malformed("it ends early")
        return KeyValue(data[at:middle], data[middle:end], create, mod, version, lease)

    def maybe_kv(self) -> KeyValue | None:
        return self.kv() if self.byte(2) else None

    def kvs(self) -> tuple[KeyValue, ...]:
        return tuple([self.kv() for _ in range(self.count(_KV.size))])
