"""Log records as the body of an OTLP ExportLogsServiceRequest.

Field numbers are those of opentelemetry-proto, ``logs.proto``.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Final

from ._encoding import WireFormat
from ._otlp_batch import RecordEncoder, Texts
from ._otlp_lenient import enum_value, ident, number, read, string
from ._otlp_values import any_value
from ._protobuf import delimited, fixed64, pack_fixed32, uint, varint

if TYPE_CHECKING:
    from ._otlp_values import Tally

FORMAT: Final = WireFormat("otlp-logs", "application/x-protobuf", ("gzip", "identity"))

# time, observed time
_TIMES: Final = struct.Struct("<BQBQ").pack
# trace_id, span_id, flags
_TRACE: Final = struct.Struct("<2s16s2s8sBI").pack


class OtlpLogs(RecordEncoder):
    """Encodes log records for OTLP; see `hastack.observe._encoding.Encoder`.

    Takes what the SDK hands to exporters: ``ReadableLogRecord``, or ``LogData`` of older versions.
    """

    __slots__ = ("_events", "_severities")

    _format = FORMAT

    def __init__(self) -> None:
        super().__init__(b"\x32")
        self._severities = Texts(b"\x1a")
        self._events = Texts(b"\x62")

    def _record(self, item: Any, tally: Tally) -> bytes | None:
        repaired = tally.repaired
        try:
            return self._plain(item.log_record, tally)
        except Exception:  # a value that needs repair, or another thread at work
            tally.repaired = repaired
            return self._careful(item, tally)

    def _plain(self, record: Any, tally: Tally) -> bytes:
        """A record as the SDK's logger makes it; raises on anything else."""
        parts = [_TIMES(0x09, record.timestamp or 0, 0x59, record.observed_timestamp or 0)]
        severity = record.severity_number
        if severity is not None:
            parts.append(b"\x10" + varint(severity._value_))
        severity_text = record.severity_text
        if severity_text:
            texts = self._severities
            parts.append(texts.known.get(severity_text) or texts.field(severity_text, tally))
        body = record.body
        if type(body) is str:
            raw = body.encode()
            length = varint(len(raw))
            parts += (b"\x2a", varint(len(raw) + len(length) + 1), b"\x0a", length, raw)
        else:
            parts.append(delimited(b"\x2a", any_value(body, tally)))
        attributes = record.attributes
        if attributes is not None:
            if type(attributes) is dict:
                self._attributes.encode(attributes.items(), parts)
            else:
                self._attributes.encode(attributes._dict.items(), parts)
                if attributes.dropped:
                    parts.append(uint(b"\x38", attributes.dropped))
        if record.trace_id and record.span_id:
            trace_id = record.trace_id.to_bytes(16, "big")
            span_id = record.span_id.to_bytes(8, "big")
            parts.append(
                _TRACE(b"\x4a\x10", trace_id, b"\x52\x08", span_id, 0x45, record.trace_flags)
            )
        else:
            parts += _trace(record, tally)
        event = getattr(record, "event_name", None)
        if event:
            parts.append(self._events.known.get(event) or self._events.field(event, tally))
        return b"".join(parts)

    def _careful(self, item: Any, tally: Tally) -> bytes | None:
        """Anything that has the fields of a log record; ``None`` where there is no record."""
        record = read(item, "log_record", tally)
        if record is None:
            return None
        attributes = read(record, "attributes", tally)
        parts = [
            fixed64(b"\x09", number(read(record, "timestamp", tally), 64, tally)),
            fixed64(b"\x59", number(read(record, "observed_timestamp", tally), 64, tally)),
            uint(b"\x10", enum_value(read(record, "severity_number", tally), 24, tally)),
            string(b"\x1a", read(record, "severity_text", tally), tally),
            delimited(b"\x2a", any_value(read(record, "body", tally), tally)),
            uint(b"\x38", number(getattr(attributes, "dropped", 0), 32, tally)),
            string(b"\x62", read(record, "event_name", tally), tally),
            *_trace(record, tally),
        ]
        self._attributes.encode_any(attributes, parts, tally)
        return b"".join(parts)

    @staticmethod
    def _origin(item: Any, tally: Tally) -> tuple[Any, Any]:
        return origin(item, tally)


def origin(item: Any, tally: Tally) -> tuple[Any, Any]:
    """The resource and the scope of what exporters get; older SDKs keep the first in the record."""
    try:
        return item.resource, item.instrumentation_scope
    except Exception:
        record = read(item, "log_record", tally)
        return read(record, "resource", tally), read(item, "instrumentation_scope", tally)


def _trace(record: Any, tally: Tally) -> list[bytes]:
    """The record's place in a trace, as far as it has one."""
    trace_id = read(record, "trace_id", tally)
    span_id = read(record, "span_id", tally)
    flags = number(read(record, "trace_flags", tally), 32, tally)
    return [
        delimited(b"\x4a", ident(trace_id, 16, tally)) if trace_id else b"",
        delimited(b"\x52", ident(span_id, 8, tally)) if span_id else b"",
        b"\x45" + pack_fixed32(flags) if flags else b"",
    ]
