"""The messages of remote write 1 and 2.

``prometheus.WriteRequest`` has each label spelled out and metadata of families at the end,
``io.prometheus.write.v2.Request`` (2.0-rc.4) a table of symbols first and metadata in each series.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

import attrs

from ._encoding import WireFormat
from ._protobuf import delimited, pack_double, uint, varint, zigzag
from ._remote_series import STALE, Native

if TYPE_CHECKING:
    from ._exponential import NativeBuckets
    from ._remote_series import Key, Pairs, Series

RW1: Final = WireFormat(
    "remote-write-1",
    "application/x-protobuf",
    ("snappy",),
    (("X-Prometheus-Remote-Write-Version", "0.1.0"),),
    cumulative=True,
)
RW2: Final = WireFormat(
    "remote-write-2",
    "application/x-protobuf;proto=io.prometheus.write.v2.Request",
    ("snappy",),
    (("X-Prometheus-Remote-Write-Version", "2.0.0"),),
    cumulative=True,
)

KINDS: Final = {"counter": 1, "gauge": 2, "histogram": 3, "info": 6}
"""``MetricType`` of both versions."""


@attrs.frozen
class Family:
    """Metadata of a metric."""

    name: str
    kind: str
    description: str
    unit: str


class Form(Protocol):
    """One request in the making."""

    def series(self, series: Series, family: Family) -> bytes:
        """A series as a field of the request."""
        ...

    def cost(self) -> int:
        """Bytes of the request that are not series, so far."""
        ...

    def mark(self) -> object:
        """The present state, for `undo`."""
        ...

    def undo(self, mark: object) -> None:
        """Forget what was written since; its series are not sent."""
        ...

    def write(self, series: list[bytes], out: bytearray) -> None:
        """Append the request."""
        ...


class Form1:
    """``prometheus.WriteRequest``."""

    __slots__ = ("_families", "_size")

    def __init__(self) -> None:
        self._families: dict[str, bytes] = {}
        self._size = 0

    def series(self, series: Series, family: Family) -> bytes:
        key = series.key
        head = key.encoded or self._head(key)
        parts = [head]
        if isinstance(series.value, Native):
            parts.append(delimited(b"\x22", histogram(series.value, series.time, 0)))
        else:
            sample = b"\x09" + pack_double(series.value) + uint(b"\x10", series.time)
            parts.append(delimited(b"\x12", sample))
        for each in series.exemplars:
            body = (
                _labels(each.pairs) + b"\x11" + pack_double(each.value) + uint(b"\x18", each.time)
            )
            parts.append(delimited(b"\x1a", body))
        if family.name not in self._families:
            self._describe(family)
        return delimited(b"\x0a", b"".join(parts))

    def _head(self, key: Key) -> bytes:
        key.encoded = _labels(key.pairs)
        return key.encoded

    def _describe(self, family: Family) -> None:
        body = b"".join(
            (
                uint(b"\x08", KINDS[family.kind]),
                delimited(b"\x12", family.name.encode()),
                delimited(b"\x22", family.description.encode()) if family.description else b"",
                delimited(b"\x2a", family.unit.encode()) if family.unit else b"",
            )
        )
        self._families[family.name] = field = delimited(b"\x1a", body)
        self._size += len(field)

    def cost(self) -> int:
        return self._size

    def mark(self) -> object:
        return len(self._families)

    def undo(self, mark: object) -> None:
        while len(self._families) > mark:  # type: ignore[operator]
            self._size -= len(self._families.popitem()[1])

    def write(self, series: list[bytes], out: bytearray) -> None:
        out += b"".join(series)
        if series:
            out += b"".join(self._families.values())


class Form2:
    """``io.prometheus.write.v2.Request``."""

    __slots__ = ("_size", "_symbols")

    def __init__(self) -> None:
        self._symbols = {"": 0}
        self._size = 2

    def _symbol(self, text: str) -> int:
        found = self._symbols.get(text)
        if found is None:
            found = self._symbols[text] = len(self._symbols)
            self._size += _symbol_size(text)
        return found

    def _refs(self, pairs: Pairs) -> bytes:
        symbol = self._symbol
        refs = [varint(symbol(text)) for pair in pairs for text in pair]
        return delimited(b"\x0a", b"".join(refs)) if refs else b""

    def series(self, series: Series, family: Family) -> bytes:
        parts = [self._refs(series.key.pairs)]
        if isinstance(series.value, Native):
            body = histogram(series.value, series.time, series.start)
            parts.append(delimited(b"\x1a", body))
        else:
            body = b"\x09" + pack_double(series.value) + uint(b"\x10", series.time)
            parts.append(delimited(b"\x12", body + uint(b"\x18", series.start)))
        for each in series.exemplars:
            body = self._refs(each.pairs) + b"\x11" + pack_double(each.value)
            parts.append(delimited(b"\x22", body + uint(b"\x18", each.time)))
        metadata = (
            uint(b"\x08", KINDS[family.kind])
            + uint(b"\x18", self._symbol(family.description))
            + uint(b"\x20", self._symbol(family.unit))
        )
        parts.append(delimited(b"\x2a", metadata))
        return delimited(b"\x2a", b"".join(parts))

    def cost(self) -> int:
        return self._size

    def mark(self) -> object:
        return len(self._symbols)

    def undo(self, mark: object) -> None:
        while len(self._symbols) > mark:  # type: ignore[operator]
            self._size -= _symbol_size(self._symbols.popitem()[0])

    def write(self, series: list[bytes], out: bytearray) -> None:
        if series:
            for text in self._symbols:
                out += delimited(b"\x22", text.encode())
            out += b"".join(series)


def _symbol_size(text: str) -> int:
    return len(delimited(b"\x22", text.encode()))


def _labels(pairs: Pairs) -> bytes:
    """Repeated ``Label`` fields, number 1 in series and exemplars."""
    return b"".join(
        [
            delimited(
                b"\x0a", delimited(b"\x0a", name.encode()) + delimited(b"\x12", value.encode())
            )
            for name, value in pairs
        ]
    )


def histogram(native: Native, time: int, start: int) -> bytes:
    """A ``Histogram`` message, the same in both versions but for the start."""
    if native.stale:
        return b"\x08\x00\x19" + STALE + b"\x30\x00" + uint(b"\x78", time)
    return b"".join(
        (
            b"\x08" + varint(native.count),
            b"\x19" + pack_double(native.total),
            b"\x20" + zigzag(native.schema),
            b"\x29" + pack_double(native.zero_threshold),
            b"\x30" + varint(native.zero_count),
            _buckets(b"\x42", b"\x4a", native.negative),
            _buckets(b"\x5a", b"\x62", native.positive),
            uint(b"\x78", time),
            delimited(b"\x82\x01", b"".join(map(pack_double, native.bounds)))
            if native.bounds
            else b"",
            uint(b"\x88\x01", start),
        )
    )


def _buckets(spans: bytes, deltas: bytes, buckets: NativeBuckets) -> bytes:
    if not buckets.spans:
        return b""
    found = [
        delimited(spans, b"\x08" + zigzag(gap) + b"\x10" + varint(length))
        for gap, length in buckets.spans
    ]
    found.append(delimited(deltas, b"".join([zigzag(delta) for delta in buckets.deltas])))
    return b"".join(found)


def written(version: int) -> tuple[WireFormat, type[Form1 | Form2]]:
    """The format and the form of a version."""
    return (RW1, Form1) if version == 1 else (RW2, Form2)
