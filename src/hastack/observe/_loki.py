"""Log records as the body of a push to Loki, in protobuf or in JSON.

Fields of the messages, from Loki's ``push.proto``:

    request { 1: stream* }   stream { 1: labels, 2: entry* }
    entry { 1: timestamp { 1: seconds, 2: nanoseconds }, 2: line, 3: metadata* }
    metadata { 1: name, 2: value }

Loki does not return entries of equal time in order (grafana/loki#13295), and takes two that are
equal in everything for one: within a stream each gets a nanosecond more than the one before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from hastack._core._errors import InvalidArgument

from ._attribute_text import attribute_text
from ._encoding import Encoded, WireFormat
from ._fragments import Fragments
from ._loki_fields import careful_fields, time_of
from ._loki_forms import Form, JsonForm, ProtobufForm, plain_text
from ._loki_labels import record_metadata, together
from ._loki_origin import ENTRIES, Origin, Stream, encoded
from ._otlp_lenient import read
from ._otlp_logs import origin
from ._otlp_resource import keepable
from ._otlp_values import Tally

if TYPE_CHECKING:
    from collections.abc import Sequence

LIMIT: Final = 4 * 1024 * 1024
"""Bytes of a body before compression; Loki's parts talk in messages of at most that size."""

LINE: Final = 256 * 1024
"""Bytes of a line (``max_line_size``)."""

METADATA: Final = 64 * 1024
"""Bytes of it (``max_structured_metadata_size``)."""

_LATEST: Final = 1 << 63

KEPT: Final = 256
"""Pairs of resource and scope that are remembered."""


class LokiPush:
    """Encodes log records for Loki's own push endpoint; see `hastack.observe._encoding.Encoder`.

    Args:
        form: ``"protobuf"`` or ``"json"``.
        max_line: Bytes of a line; what is longer is cut, and counted as repaired.

    Raises:
        InvalidArgument: Another form.
    """

    __slots__ = ("_form", "_kept", "_max_line", "_metadata")

    def __init__(self, *, form: str = "protobuf", max_line: int = LINE) -> None:
        if form not in {"protobuf", "json"}:
            raise InvalidArgument("form", form, "'protobuf' or 'json'")
        self._form: Form = ProtobufForm() if form == "protobuf" else JsonForm()
        self._max_line = max_line
        self._metadata = Fragments(self._form)
        self._kept: dict[tuple[int, int], Origin] = {}

    @property
    def format(self) -> WireFormat:
        """One of the two forms; Loki takes each only with certain compressions."""
        return self._form.format

    def count(self, items: Sequence[Any]) -> int:
        """Log records in ``items``."""
        return len(items)

    def encode(
        self, items: Sequence[Any], out: bytearray, *, max_bytes: int = LIMIT, start: int = 0
    ) -> Encoded:
        """Append one request body; see `hastack.observe._encoding.Encoder.encode`."""
        tally = Tally()
        form = self._form
        streams: dict[bytes, Stream] = {}
        place = stream = above = within = None
        room = max_bytes - form.frame
        units = oversized = unsupported = 0
        end = len(items)
        self._metadata.blocks += end - start
        for position in range(start, end):
            record, time, resource, scope = _seen(items[position], tally)
            if not time:  # not a record
                unsupported += 1
                continue
            if place is None or resource is not above or scope is not within:
                place = self._origin(resource, scope, tally)
                above, within = resource, scope
                stream = streams.get(place.head)
            cost = form.between
            if stream is None:
                stream = Stream(place.head)
                cost += form.between + len(place.head)
            entry = self._entry(record, stream.time(time), place, tally)
            cost += len(entry)
            if cost > room:
                if units and cost + form.frame + len(place.head) <= max_bytes:
                    end = position  # it may fit into a body of its own
                    break
                oversized += 1
                stream = streams.get(place.head)
                continue
            if not stream.entries:
                streams[place.head] = stream
            stream.entries.append(entry)
            room -= cost
            units += 1
        size = len(out)
        form.write([(each.head, each.entries) for each in streams.values()], out)
        size = len(out) - size
        return Encoded(end - start, units, size, oversized, unsupported, tally.repaired)

    def _origin(self, resource: Any, scope: Any, tally: Tally) -> Origin:
        key = id(resource), id(scope)
        found = self._kept.get(key)
        if found is None:
            repaired = tally.repaired
            found = Origin(self._form, resource, scope, tally)
            if tally.repaired == repaired and keepable(resource) and keepable(scope):
                if len(self._kept) >= KEPT:
                    self._kept.clear()
                self._kept[key] = found
        return found

    def _entry(self, record: Any, time: int, place: Origin, tally: Tally) -> bytes:
        try:
            body = record.body
            line = self._form.line(body if type(body) is str else plain_text(body))
            if len(line) > self._max_line:
                raise ValueError("a line that needs repair")
            metadata = [place.common(record)]
            trace_id = record.trace_id
            span_id = record.span_id
            if trace_id or span_id:
                if trace_id >> 128 or span_id >> 64:
                    raise ValueError("identifiers that need repair")
                metadata.append(self._form.ids(trace_id, span_id))
            if record.timestamp and record.observed_timestamp != record.timestamp:
                metadata.append(self._observed(record.observed_timestamp))
            attributes = record.attributes
            if attributes is not None:
                pairs = attributes if type(attributes) is dict else attributes._dict
                if not place.plain(tuple(pairs)):
                    raise ValueError("names that need repair")
                self._metadata.encode(pairs.items(), metadata)
            entry = self._form.entry(time, line, metadata)
            if len(entry) - len(line) > METADATA:
                raise ValueError("metadata that need repair")
            return entry
        except Exception:  # a value that needs repair, or another thread at work
            return self._careful(record, time, place, tally)

    def _observed(self, time: int | None) -> bytes:
        pairs = [("observed_timestamp", str(time))] if time else []
        return b"".join(encoded(self._form, pairs))

    def _careful(self, record: Any, time: int, place: Origin, tally: Tally) -> bytes:
        line = attribute_text(read(record, "body", tally), tally)
        raw = line.encode()
        if len(raw) > self._max_line:
            tally.repaired += 1
            line = raw[: self._max_line].decode(errors="ignore")
        fields = careful_fields(record, tally)
        pairs = record_metadata(read(record, "attributes", tally), fields, tally)
        metadata: list[bytes] = []
        room = METADATA
        for name, value in together(pairs, place.scope, place.resource):
            size = len(name) + len(value.encode())
            if len(metadata) < ENTRIES and size <= room:
                metadata += encoded(self._form, [(name, value)])
                room -= size
            else:
                tally.repaired += 1
        return self._form.entry(time, self._form.line(line), metadata)


def _seen(item: Any, tally: Tally) -> tuple[Any, int, Any, Any]:
    """Record, time, resource and scope of what exporters get; the time is 0 if it is no record."""
    try:
        record = item.log_record
        time = record.timestamp or record.observed_timestamp
        if 0 < time < _LATEST:
            return record, time, item.resource, item.instrumentation_scope
    except Exception:  # made in another way than the SDK does
        record = read(item, "log_record", tally)
    return record, time_of(record, tally), *origin(item, tally)
