"""Data points of metrics as protobuf messages, with their exemplars."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Final

from ._attribute_memory import DICTS
from ._otlp_attributes import Attributes
from ._otlp_lenient import ident, number, read, real, sequence
from ._protobuf import (
    INT64_MAX,
    INT64_MIN,
    delimited,
    fixed64,
    pack_double,
    packed_varints,
    uint,
    varint,
    zigzag,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._otlp_values import Tally

# [start,] time, value
_SUM_INT: Final = struct.Struct("<BQBQBq").pack
_SUM_DOUBLE: Final = struct.Struct("<BQBQBd").pack
_GAUGE_INT: Final = struct.Struct("<BQBq").pack
_GAUGE_DOUBLE: Final = struct.Struct("<BQBd").pack
# start, time, count, sum, min, max
_HISTOGRAM: Final = struct.Struct("<BQBQBQBdBdBd").pack
# start, time, count, sum, zero_count, min, max
_EXPONENTIAL: Final = struct.Struct("<BQBQBQBdBQBdBd").pack
_SFIXED64: Final = struct.Struct("<q").pack
_PACKS: Final[dict[int, Callable[..., bytes]]] = {}  # so many fixed64

BOUNDS: Final = 256
"""Sets of histogram bounds whose fragments are kept."""


class Points:
    """Encodes one data point at a time; fragments of attributes are kept."""

    __slots__ = ("_bounds", "_exemplar", "_exponential", "_histogram", "_number")

    def __init__(self) -> None:
        self._number = Attributes(b"\x3a")
        self._histogram = Attributes(b"\x4a")
        self._exponential = Attributes(b"\x0a")
        self._exemplar = Attributes(b"\x3a")
        # The tuple is kept too: while it lives nothing else has its id.
        self._bounds: dict[int, tuple[Any, bytes]] = {}

    def began(self, points: int) -> None:
        """So many points follow: the caches of attributes judge their hit rates by it."""
        self._number.began(points)
        self._histogram.began(points)
        self._exponential.began(points)

    def sum(self, point: Any, tally: Tally) -> bytes:
        """A NumberDataPoint with the time where its sum started."""
        repaired = tally.repaired
        try:
            value = point.value
            if type(value) is float:
                head = _SUM_DOUBLE(
                    0x11, point.start_time_unix_nano, 0x19, point.time_unix_nano, 0x21, value
                )
            else:
                head = _SUM_INT(
                    0x11, point.start_time_unix_nano, 0x19, point.time_unix_nano, 0x31, value
                )
            return self._plain_number(head, point, tally)
        except Exception:
            tally.repaired = repaired
        start = number(read(point, "start_time_unix_nano", tally), 64, tally)
        return self._careful_number(fixed64(b"\x11", start), point, tally)

    def gauge(self, point: Any, tally: Tally) -> bytes:
        """A NumberDataPoint; a gauge has no start."""
        repaired = tally.repaired
        try:
            value = point.value
            if type(value) is float:
                head = _GAUGE_DOUBLE(0x19, point.time_unix_nano, 0x21, value)
            else:
                head = _GAUGE_INT(0x19, point.time_unix_nano, 0x31, value)
            return self._plain_number(head, point, tally)
        except Exception:
            tally.repaired = repaired
        return self._careful_number(b"", point, tally)

    def _plain_number(self, head: bytes, point: Any, tally: Tally) -> bytes:
        parts = [head]
        attributes = point.attributes
        if attributes:
            pairs = attributes if type(attributes) in DICTS else attributes._dict
            self._number.encode(pairs.items(), parts)
        if point.exemplars:
            self._exemplars(b"\x2a", point, parts, tally)
        return b"".join(parts)

    def _careful_number(self, start: bytes, point: Any, tally: Tally) -> bytes:
        parts = [
            start,
            fixed64(b"\x19", number(read(point, "time_unix_nano", tally), 64, tally)),
            _value(b"\x31", b"\x21", read(point, "value", tally), tally),
        ]
        self._number.encode_any(read(point, "attributes", tally), parts, tally)
        self._exemplars(b"\x2a", point, parts, tally)
        return b"".join(parts)

    def histogram(self, point: Any, tally: Tally) -> bytes:
        """A HistogramDataPoint."""
        repaired = tally.repaired
        try:
            parts = [
                _HISTOGRAM(
                    0x11,
                    point.start_time_unix_nano,
                    0x19,
                    point.time_unix_nano,
                    0x21,
                    point.count,
                    0x29,
                    point.sum,
                    0x59,
                    point.min,
                    0x61,
                    point.max,
                ),
                self._buckets(point.bucket_counts, point.explicit_bounds),
            ]
            attributes = point.attributes
            if attributes:
                pairs = attributes if type(attributes) in DICTS else attributes._dict
                self._histogram.encode(pairs.items(), parts)
            if point.exemplars:
                self._exemplars(b"\x42", point, parts, tally)
            return b"".join(parts)
        except Exception:
            tally.repaired = repaired
        parts = _head(point, tally, minimum=b"\x59", maximum=b"\x61")
        counts = [
            number(n, 64, tally) for n in sequence(read(point, "bucket_counts", tally), tally)
        ]
        bounds = [real(n, tally) for n in sequence(read(point, "explicit_bounds", tally), tally)]
        parts.append(_counts(counts) + _doubles(bounds))
        self._histogram.encode_any(read(point, "attributes", tally), parts, tally)
        self._exemplars(b"\x42", point, parts, tally)
        return b"".join(parts)

    def _buckets(self, counts: Any, bounds: Any) -> bytes:
        """Counts and bounds; the SDK shows the same tuple of bounds each time."""
        known = self._bounds.get(id(bounds))
        if known is None:
            tail = _doubles(bounds)
            if type(bounds) is not tuple:
                return _counts(counts) + tail
            if len(self._bounds) >= BOUNDS:
                self._bounds.clear()
            self._bounds[id(bounds)] = bounds, tail
            return _counts(counts) + tail
        return _counts(counts) + known[1]

    def exponential(self, point: Any, tally: Tally) -> bytes:
        """An ExponentialHistogramDataPoint."""
        repaired = tally.repaired
        try:
            positive = point.positive
            negative = point.negative
            parts = [
                _EXPONENTIAL(
                    0x11,
                    point.start_time_unix_nano,
                    0x19,
                    point.time_unix_nano,
                    0x21,
                    point.count,
                    0x29,
                    point.sum,
                    0x39,
                    point.zero_count,
                    0x61,
                    point.min,
                    0x69,
                    point.max,
                ),
                b"\x30" + zigzag(point.scale),
                _side(b"\x42", positive.offset, positive.bucket_counts),
                _side(b"\x4a", negative.offset, negative.bucket_counts),
                uint(b"\x50", point.flags),
            ]
            attributes = point.attributes
            if attributes:
                pairs = attributes if type(attributes) in DICTS else attributes._dict
                self._exponential.encode(pairs.items(), parts)
            if point.exemplars:
                self._exemplars(b"\x5a", point, parts, tally)
            return b"".join(parts)
        except Exception:
            tally.repaired = repaired
        parts = _head(point, tally, minimum=b"\x61", maximum=b"\x69")
        parts += (
            fixed64(b"\x39", number(read(point, "zero_count", tally), 64, tally)),
            b"\x30" + zigzag(_signed(read(point, "scale", tally), tally)),
            _careful_side(b"\x42", read(point, "positive", tally), tally),
            _careful_side(b"\x4a", read(point, "negative", tally), tally),
            uint(b"\x50", number(read(point, "flags", tally), 32, tally)),
        )
        self._exponential.encode_any(read(point, "attributes", tally), parts, tally)
        self._exemplars(b"\x5a", point, parts, tally)
        return b"".join(parts)

    def _exemplars(self, key: bytes, point: Any, parts: list[bytes], tally: Tally) -> None:
        for exemplar in sequence(read(point, "exemplars", tally), tally):
            fields = [
                fixed64(b"\x11", number(read(exemplar, "time_unix_nano", tally), 64, tally)),
                _value(b"\x31", b"\x19", read(exemplar, "value", tally), tally),
            ]
            span_id = read(exemplar, "span_id", tally)
            trace_id = read(exemplar, "trace_id", tally)
            if span_id is not None and trace_id is not None:
                fields.append(delimited(b"\x22", ident(span_id, 8, tally)))
                fields.append(delimited(b"\x2a", ident(trace_id, 16, tally)))
            attributes = read(exemplar, "filtered_attributes", tally)
            self._exemplar.encode_any(attributes, fields, tally)
            parts.append(delimited(key, b"".join(fields)))


def _counts(counts: Any) -> bytes:
    """The field ``bucket_counts``."""
    size = len(counts)
    if not 0 < size < 1000:
        return delimited(b"\x32", struct.pack(f"<{size}Q", *counts)) if counts else b""
    pack = _PACKS.get(size)
    if pack is None:
        pack = _PACKS[size] = struct.Struct(f"<{size}Q").pack
    return b"".join((b"\x32", varint(8 * size), pack(*counts)))


def _doubles(bounds: Any) -> bytes:
    """The field ``explicit_bounds``."""
    return delimited(b"\x3a", struct.pack(f"<{len(bounds)}d", *bounds)) if bounds else b""


def _value(whole: bytes, double: bytes, value: Any, tally: Tally) -> bytes:
    """A value under the key for integers or, also if beyond 64 bits, the one for doubles."""
    if isinstance(value, int):
        if INT64_MIN <= value <= INT64_MAX:
            return whole + _SFIXED64(value)
        tally.repaired += 1
    return double + pack_double(real(value, tally))


def _head(point: Any, tally: Tally, *, minimum: bytes, maximum: bytes) -> list[bytes]:
    """What both kinds of histogram have in common, under equal keys but for the extremes."""
    parts = [
        fixed64(b"\x11", number(read(point, "start_time_unix_nano", tally), 64, tally)),
        fixed64(b"\x19", number(read(point, "time_unix_nano", tally), 64, tally)),
        fixed64(b"\x21", number(read(point, "count", tally), 64, tally)),
    ]
    for key, name in ((b"\x29", "sum"), (minimum, "min"), (maximum, "max")):
        value = read(point, name, tally)
        if value is not None:
            parts.append(key + pack_double(real(value, tally)))
    return parts


def _signed(value: Any, tally: Tally) -> int:
    """A number that fits sint32, 0 for any other."""
    if isinstance(value, int) and -(1 << 31) <= value < 1 << 31:
        return value
    tally.repaired += 1
    return 0


def _side(key: bytes, offset: int, counts: Any) -> bytes:
    """The buckets of one sign; none at all without counts, as the official encoder has it."""
    if not counts:
        return b""
    body = packed_varints(counts)
    return delimited(key, b"\x08" + zigzag(offset) + delimited(b"\x12", body))


def _careful_side(key: bytes, buckets: Any, tally: Tally) -> bytes:
    counts = sequence(read(buckets, "bucket_counts", tally), tally)
    offset = _signed(read(buckets, "offset", tally), tally) if counts else 0
    return _side(key, offset, [number(n, 64, tally) for n in counts])
