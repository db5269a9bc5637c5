"""Metrics as the body of an OTLP ExportMetricsServiceRequest.

Field numbers are those of opentelemetry-proto, ``metrics.proto``. A unit is one data point, so a
collection that exceeds the limit of a request is split between points, its metric repeated.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ._encoding import REQUEST_LIMIT, Encoded, WireFormat
from ._metrics_walk import (
    EXPONENTIAL,
    GAUGE,
    HISTOGRAM,
    NOTHING,
    SUM,
    UNKNOWN,
    count_points,
    kind_of,
    points_of,
    walk,
)
from ._otlp_lenient import enum_value, read, string
from ._otlp_points import Points
from ._otlp_resource import Outlines, Request
from ._otlp_values import Tally
from ._protobuf import RECORD_HEADS, TABLE_SIZE, uint, varint

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ._otlp_resource import ScopeGroup

FORMAT: Final = WireFormat("otlp-metrics", "application/x-protobuf", ("gzip", "identity"))

_DATA: Final = {GAUGE: b"\x2a", SUM: b"\x3a", HISTOGRAM: b"\x4a", EXPONENTIAL: b"\x52"}

_LENGTHS: Final = 2 * (1 + 10)  # bytes at most, for key and length of a metric and its data


class OtlpMetrics:
    """Encodes ``MetricsData`` for OTLP; see `hastack.observe._encoding.Encoder`."""

    __slots__ = ("_kinds", "_outlines", "_points")

    def __init__(self) -> None:
        self._outlines = Outlines()
        self._points = points = Points()
        self._kinds: dict[str, Callable[[Any, Tally], bytes]] = {
            GAUGE: points.gauge,
            SUM: points.sum,
            HISTOGRAM: points.histogram,
            EXPONENTIAL: points.exponential,
        }

    @property
    def format(self) -> WireFormat:
        """OTLP over HTTP; over gRPC the body is the same message."""
        return FORMAT

    def count(self, items: Sequence[Any]) -> int:
        """Data points in ``items``."""
        return count_points(items)

    def encode(
        self,
        items: Sequence[Any],
        out: bytearray,
        *,
        max_bytes: int = REQUEST_LIMIT,
        start: int = 0,
    ) -> Encoded:
        """Append one request body; see `hastack.observe._encoding.Encoder.encode`."""
        body = _Body(self._outlines, max_bytes)
        passed = 0
        for resource, scope, metric in walk(items):
            points = points_of(metric)
            skipped = start - passed if start > passed else 0
            passed += len(points)
            if skipped >= len(points):
                continue
            kind = kind_of(read(metric, "data", body.tally))
            if kind == UNKNOWN or points is NOTHING:
                body.unsupported += len(points) - skipped
                body.taken += len(points) - skipped
                continue
            self._points.began(len(points))
            group = body.request.group(resource, scope)
            fields = _MetricFields(metric, kind, body.tally)
            if not body.add(group, fields, self._kinds[kind], points, skipped):
                break
        size = body.request.write(out)
        return Encoded(
            *(body.taken, body.units, size, body.oversized, body.unsupported, body.tally.repaired)
        )


class _MetricFields:
    """A metric's message around its points."""

    __slots__ = ("head", "key", "tail")

    def __init__(self, metric: Any, kind: str, tally: Tally) -> None:
        self.head = b"".join(
            (
                string(b"\x0a", read(metric, "name", tally), tally),
                string(b"\x12", read(metric, "description", tally), tally),
                string(b"\x1a", read(metric, "unit", tally), tally),
            )
        )
        self.key = _DATA[kind]
        self.tail = b""
        if kind != GAUGE:
            data = metric.data
            temporality = enum_value(read(data, "aggregation_temporality", tally), 2, tally)
            self.tail = uint(b"\x10", temporality)
            if kind == SUM and read(data, "is_monotonic", tally):
                self.tail += b"\x18\x01"

    def wrap(self, points: list[bytes]) -> bytes:
        """The message's body."""
        data = b"".join((*points, self.tail))
        return b"".join((self.head, self.key, varint(len(data)), data))


class _Body:
    """One request body in the making, and what came of the points so far."""

    __slots__ = ("_max", "_room", "oversized", "request", "taken", "tally", "units", "unsupported")

    def __init__(self, outlines: Outlines, max_bytes: int) -> None:
        self.tally = Tally()
        self.request = Request(outlines, self.tally)
        self._max = max_bytes
        self._room = max_bytes
        self.taken = self.units = self.oversized = self.unsupported = 0

    def add(
        self,
        group: ScopeGroup,
        fields: _MetricFields,
        encode: Callable[[Any, Tally], bytes],
        points: Sequence[Any],
        start: int,
    ) -> bool:
        """Put ``points[start:]`` into ``group``; false if the body is full before their end."""
        outline = _LENGTHS + len(fields.head) + len(fields.tail)
        if not group.parts:
            outline += group.outline()
        parts: list[bytes] = []
        tally = self.tally
        full = False
        for position in range(start, len(points)):
            body = encode(points[position], tally)
            length = varint(len(body))
            cost = outline + 1 + len(length) + len(body)
            if cost > self._room and (self.units or self._alone(group, fields, body) > self._max):
                if self.units and len(body) < self._max:
                    full = True  # it may fit into a body of its own
                    break
                self.oversized += 1
            else:
                self._room -= cost
                outline = 0
                self.units += 1
                parts += (b"\x0a", length, body)
            self.taken += 1
        if parts:
            whole = fields.wrap(parts)
            size = len(whole)
            group.parts.append(RECORD_HEADS[size] if size < TABLE_SIZE else b"\x12" + varint(size))
            group.parts.append(whole)
        return not full

    def _alone(self, group: ScopeGroup, fields: _MetricFields, body: bytes) -> int:
        """The length of a request with this one point."""
        whole = len(fields.wrap([b"\x0a", varint(len(body)), body]))
        return group.alone(1 + len(varint(whole)) + whole)
