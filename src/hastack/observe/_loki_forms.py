"""The two forms of a push to Loki: protobuf and JSON."""

from __future__ import annotations

from json.encoder import encode_basestring_ascii
from typing import TYPE_CHECKING, Any, Final, Protocol

from ._attribute_text import attribute_text
from ._encoding import WireFormat
from ._loki_labels import stream_labels
from ._otlp_values import Tally
from ._prometheus_names import underscored_label
from ._protobuf import RECORD_HEADS, TABLE_SIZE, delimited, uint, varint

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ._loki_labels import Pairs

PROTOBUF: Final = WireFormat("loki-protobuf", "application/x-protobuf", ("snappy",))
JSON: Final = WireFormat("loki-json", "application/json", ("gzip", "identity"))

_SECOND: Final = 1_000_000_000
# LabelPairs: lengths, names, and the values in hexadecimal digits.
_TRACE_ID: Final = b"\x1a\x2c\x0a\x08trace_id\x12\x20%032x"
_SPAN_ID: Final = b"\x1a\x1b\x0a\x07span_id\x12\x10%016x"
_IDS: Final = _TRACE_ID + _SPAN_ID


class Form(Protocol):
    """How streams and entries are written. Also the coding of metadata."""

    format: WireFormat
    frame: int  # bytes of a request around its streams
    between: int  # bytes at most that an entry costs beside itself

    def head(self, key: str) -> bytes: ...
    def string(self, value: str) -> bytes: ...
    def integer(self, value: int) -> bytes: ...
    def other(self, value: Any) -> bytes: ...
    def pair(self, head: bytes, tail: bytes) -> bytes: ...

    def stream(self, labels: Pairs) -> bytes:
        """What stands before the entries of a stream."""
        ...

    def ids(self, trace_id: int, span_id: int) -> bytes:
        """Metadata ``trace_id`` and ``span_id``, each unless it is zero; both are in range."""
        ...

    def entry(self, time: int, line: bytes, metadata: list[bytes]) -> bytes:
        """An entry; ``line`` is what `line` made, ``time`` in nanoseconds."""
        ...

    def line(self, line: str) -> bytes:
        """A line that can be encoded."""
        ...

    def write(self, streams: Iterable[tuple[bytes, list[bytes]]], out: bytearray) -> None:
        """Append the request: for each stream what `stream` made, and its entries."""
        ...


def plain_text(value: Any) -> str:
    """An attribute as text.

    Raises:
        ValueError: It needs repair.
    """
    tally = Tally()
    text = attribute_text(value, tally)
    if tally.repaired:
        raise ValueError("an attribute that needs repair")
    return text


class ProtobufForm:
    """A ``logproto.PushRequest``."""

    __slots__ = ("_second",)

    format = PROTOBUF
    frame = 0
    between = 11

    def __init__(self) -> None:
        self._second = (0, b"")  # of the last entry, and its field: most are of the same second

    def head(self, key: str) -> bytes:
        return delimited(b"\x0a", underscored_label(key).encode())

    def string(self, value: str) -> bytes:
        return delimited(b"\x12", value.encode())

    def integer(self, value: int) -> bytes:
        return delimited(b"\x12", b"%d" % value)

    def other(self, value: Any) -> bytes:
        return self.string(plain_text(value))

    def pair(self, head: bytes, tail: bytes) -> bytes:
        return b"".join((b"\x1a", varint(len(head) + len(tail)), head, tail))

    def stream(self, labels: Pairs) -> bytes:
        return delimited(b"\x0a", stream_labels(labels).encode())

    def line(self, line: str) -> bytes:
        return line.encode()

    def ids(self, trace_id: int, span_id: int) -> bytes:
        if trace_id and span_id:
            return _IDS % (trace_id, span_id)
        return _TRACE_ID % trace_id if trace_id else _SPAN_ID % span_id

    def entry(self, time: int, line: bytes, metadata: list[bytes]) -> bytes:
        seconds, rest = divmod(time, _SECOND)
        last, field = self._second
        if last != seconds:
            field = b"\x08" + varint(seconds)
            self._second = seconds, field
        stamp = field + uint(b"\x10", rest)
        head = b"\x0a", varint(len(stamp)), stamp, b"\x12", varint(len(line)), line
        body = b"".join((*head, *metadata))
        size = len(body)
        return (RECORD_HEADS[size] if size < TABLE_SIZE else b"\x12" + varint(size)) + body

    def write(self, streams: Iterable[tuple[bytes, list[bytes]]], out: bytearray) -> None:
        for head, entries in streams:
            body = b"".join(entries)
            out += b"\x0a"
            out += varint(len(head) + len(body))
            out += head
            out += body


class JsonForm:
    """``{"streams": [{"stream": labels, "values": [[time, line, metadata], ...]}, ...]}``."""

    __slots__ = ()

    format = JSON
    frame = 14
    between = 1

    def head(self, key: str) -> bytes:
        return encode_basestring_ascii(underscored_label(key)).encode()

    def string(self, value: str) -> bytes:
        if not value.isascii():
            value.encode()  # a lone surrogate is to be repaired, not escaped
        return encode_basestring_ascii(value).encode()

    def integer(self, value: int) -> bytes:
        return b'"%d"' % value

    def other(self, value: Any) -> bytes:
        return self.string(plain_text(value))

    def pair(self, head: bytes, tail: bytes) -> bytes:
        return b"".join((b",", head, b":", tail))

    def stream(self, labels: Pairs) -> bytes:
        pairs = b"".join(
            [self.pair(self.string(name), self.string(value)) for name, value in labels]
        )
        return b'{"stream":{%b},"values":[' % pairs[1:]

    def line(self, line: str) -> bytes:
        return self.string(line)

    def ids(self, trace_id: int, span_id: int) -> bytes:
        if trace_id and span_id:
            return b',"trace_id":"%032x","span_id":"%016x"' % (trace_id, span_id)
        return b',"trace_id":"%032x"' % trace_id if trace_id else b',"span_id":"%016x"' % span_id

    def entry(self, time: int, line: bytes, metadata: list[bytes]) -> bytes:
        pairs = b"".join(metadata)
        if pairs:
            return b',["%d",%b,{%b}]' % (time, line, pairs[1:])
        return b',["%d",%b]' % (time, line)

    def write(self, streams: Iterable[tuple[bytes, list[bytes]]], out: bytearray) -> None:
        before = len(out)
        for head, entries in streams:
            out += b"," if len(out) > before else b'{"streams":['
            out += head
            out += b"".join(entries)[1:]
            out += b"]}"
        if len(out) > before:
            out += b"]}"
