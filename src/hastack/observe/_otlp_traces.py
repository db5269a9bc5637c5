"""Spans as the body of an OTLP ExportTraceServiceRequest.

Field numbers are those of opentelemetry-proto, ``trace.proto``. A link's trace state and the W3C
flags of spans and links are encoded too, as the protocol has them; the official Python encoder
leaves them out.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Final

from ._encoding import WireFormat
from ._otlp_attributes import Attributes
from ._otlp_batch import RecordEncoder, Texts
from ._otlp_lenient import (
    MadeBy,
    enum_value,
    ident,
    number,
    read,
    sequence,
    string,
    trace_state_field,
)
from ._protobuf import delimited, fixed64, pack_fixed32, uint

if TYPE_CHECKING:
    from ._otlp_values import Tally

FORMAT: Final = WireFormat("otlp-traces", "application/x-protobuf", ("gzip", "identity"))

HAS_IS_REMOTE: Final = 0x100
IS_REMOTE: Final = 0x200

# trace_id, span_id, [parent_span_id,] start, end, flags, kind
_ROOT: Final = struct.Struct("<2s16s2s8sBQBQ2sIBB").pack
_CHILD: Final = struct.Struct("<2s16s2s8s2s8sBQBQ2sIBB").pack
_STATUS: Final = (b"\x7a\x00", b"\x7a\x02\x18\x01", b"\x7a\x02\x18\x02")

_SPAN = MadeBy(
    "opentelemetry.sdk.trace",
    *("attributes", "context", "dropped_attributes", "dropped_events", "dropped_links"),
    *("end_time", "events", "get_span_context", "kind", "links", "name", "parent", "start_time"),
    "status",
)


class OtlpTraces(RecordEncoder):
    """Encodes spans for OTLP; see `hastack.observe._encoding.Encoder`."""

    __slots__ = ("_event_attributes", "_link_attributes", "_names")

    _format = FORMAT

    def __init__(self) -> None:
        super().__init__(b"\x4a")
        self._event_attributes = Attributes(b"\x1a")
        self._link_attributes = Attributes(b"\x22")
        self._names = Texts(b"\x2a")

    def _record(self, span: Any, tally: Tally) -> bytes | None:
        if type(span) in _SPAN.known or _SPAN.made(type(span)):
            repaired = tally.repaired
            try:
                return self._plain(span, tally)
            except Exception:  # a value that needs repair, or another thread at work
                tally.repaired = repaired
        return self._careful(span, tally)

    def _plain(self, span: Any, tally: Tally) -> bytes:
        """A span as the SDK's tracer makes it; raises on anything else."""
        trace_id, span_id, _, flags, trace_state, _ = span._context
        parent = span._parent
        if parent is None:
            head = _ROOT(
                b"\x0a\x10",
                trace_id.to_bytes(16, "big"),
                b"\x12\x08",
                span_id.to_bytes(8, "big"),
                0x39,
                span._start_time,
                0x41,
                span._end_time,
                b"\x85\x01",
                flags | HAS_IS_REMOTE,
                0x30,
                span._kind._value_ + 1,
            )
        else:
            head = _CHILD(
                b"\x0a\x10",
                trace_id.to_bytes(16, "big"),
                b"\x12\x08",
                span_id.to_bytes(8, "big"),
                b"\x22\x08",
                parent[1].to_bytes(8, "big"),
                0x39,
                span._start_time,
                0x41,
                span._end_time,
                b"\x85\x01",
                flags | HAS_IS_REMOTE | (IS_REMOTE if parent[2] else 0),
                0x30,
                span._kind._value_ + 1,
            )
        parts = [head, self._names.known.get(span._name) or self._names.field(span._name, tally)]
        attributes = span._attributes
        self._attributes.encode(attributes._dict.items(), parts)
        events = span._events
        links = span._links
        if attributes.dropped or events.dropped or links.dropped or events._dq or links._dq:
            self._rare(span, parts, tally)
        if trace_state._dict:
            parts.append(trace_state_field(b"\x1a", trace_state, tally))
        status = span._status
        if status._description:
            parts.append(_status(status, tally))
        else:
            parts.append(_STATUS[status._status_code._value_])
        return b"".join(parts)

    def _careful(self, span: Any, tally: Tally) -> bytes | None:
        """Anything that has the properties of a span; ``None`` without a span context."""
        context = read(span, "context", tally)
        if context is None:
            return None
        flags = number(read(context, "trace_flags", tally), 8, tally) | HAS_IS_REMOTE
        parts = [
            delimited(b"\x0a", ident(read(context, "trace_id", tally), 16, tally)),
            delimited(b"\x12", ident(read(context, "span_id", tally), 8, tally)),
        ]
        parent = read(span, "parent", tally)
        if parent is not None:
            parts.append(delimited(b"\x22", ident(read(parent, "span_id", tally), 8, tally)))
            if read(parent, "is_remote", tally):
                flags |= IS_REMOTE
        parts += (
            trace_state_field(b"\x1a", read(context, "trace_state", tally), tally),
            string(b"\x2a", read(span, "name", tally), tally),
            uint(b"\x30", enum_value(read(span, "kind", tally), 4, tally) + 1),
            fixed64(b"\x39", number(read(span, "start_time", tally), 64, tally)),
            fixed64(b"\x41", number(read(span, "end_time", tally), 64, tally)),
            b"\x85\x01" + pack_fixed32(flags),
        )
        self._attributes.encode_any(read(span, "attributes", tally), parts, tally)
        self._rare(span, parts, tally)
        status = read(span, "status", tally)
        if status is not None:
            parts.append(_status(status, tally))
        return b"".join(parts)

    @staticmethod
    def _origin(item: Any, tally: Tally) -> tuple[Any, Any]:
        try:
            return item.resource, item.instrumentation_scope
        except Exception:
            return read(item, "resource", tally), read(item, "instrumentation_scope", tally)

    def _rare(self, span: Any, parts: list[bytes], tally: Tally) -> None:
        """What most spans do not have."""
        for key, name in ((b"\x50", "attributes"), (b"\x60", "events"), (b"\x70", "links")):
            parts.append(uint(key, number(read(span, f"dropped_{name}", tally), 32, tally)))
        events = sequence(read(span, "events", tally), tally)
        links = sequence(read(span, "links", tally), tally)
        parts += [delimited(b"\x5a", self._event(event, tally)) for event in events]
        parts += [delimited(b"\x6a", self._link(link, tally)) for link in links]

    def _event(self, event: Any, tally: Tally) -> bytes:
        parts = [
            fixed64(b"\x09", number(read(event, "timestamp", tally), 64, tally)),
            string(b"\x12", read(event, "name", tally), tally),
            uint(b"\x20", number(read(event, "dropped_attributes", tally), 32, tally)),
        ]
        self._event_attributes.encode_any(read(event, "attributes", tally), parts, tally)
        return b"".join(parts)

    def _link(self, link: Any, tally: Tally) -> bytes:
        context = read(link, "context", tally)
        flags = number(read(context, "trace_flags", tally), 8, tally) | HAS_IS_REMOTE
        if read(context, "is_remote", tally):
            flags |= IS_REMOTE
        parts = [
            delimited(b"\x0a", ident(read(context, "trace_id", tally), 16, tally)),
            delimited(b"\x12", ident(read(context, "span_id", tally), 8, tally)),
            trace_state_field(b"\x1a", read(context, "trace_state", tally), tally),
            uint(b"\x28", number(read(link, "dropped_attributes", tally), 32, tally)),
            b"\x35" + pack_fixed32(flags),
        ]
        self._link_attributes.encode_any(read(link, "attributes", tally), parts, tally)
        return b"".join(parts)


def _status(status: Any, tally: Tally) -> bytes:
    code = enum_value(read(status, "status_code", tally), 2, tally)
    message = string(b"\x12", read(status, "description", tally), tally)
    return delimited(b"\x7a", message + uint(b"\x18", code))
