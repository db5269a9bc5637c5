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
from ._loki_forms import Form, JsonForm, ProtobufForm, plain_text
from ._loki_labels import (
    RESERVED,
    Pairs,
    record_metadata,
    scope_metadata,
    split_resource,
    together,
)
from ._otlp_lenient import enum_value, number, read
from ._otlp_logs import origin
from ._otlp_resource import keepable
from ._otlp_values import Tally
from ._prometheus_kinds import text_of
from ._prometheus_names import underscored_label

if TYPE_CHECKING:
    from collections.abc import Sequence

LIMIT: Final = 4 * 1024 * 1024
"""Bytes of a body before compression; Loki's parts talk in messages of at most that size."""

LINE: Final = 256 * 1024
"""Bytes of a line (``max_line_size``)."""

ENTRIES: Final = 128
"""Metadata of an entry (``max_structured_metadata_entries_count``)."""

METADATA: Final = 64 * 1024
"""Bytes of it (``max_structured_metadata_size``)."""

KEPT: Final = 256
"""Pairs of resource and scope that are remembered."""

SHAPES: Final = 1024
"""Sets of attribute keys that a stream remembers."""


class _Origin:
    """A resource and a scope: the labels of their stream and the metadata that they add."""

    __slots__ = ("alive", "common", "head", "names", "resource", "scope", "shapes")

    def __init__(self, form: Form, resource: Any, scope: Any, tally: Tally) -> None:
        self.alive = resource, scope  # known by their ids
        labels, self.resource = split_resource(resource, tally)
        self.scope = scope_metadata(scope, tally)
        self.head = form.stream(labels)
        pairs = together([], self.scope, self.resource)
        self.names = {name for name, _ in pairs} | RESERVED
        self.common = b"".join(encoded(form, pairs))
        self.shapes: dict[tuple[Any, ...], bool] = {}

    def plain(self, shape: tuple[Any, ...]) -> bool:
        """Whether attributes with these keys need no other names, and are not too many."""
        found = self.shapes.get(shape)
        if found is None:
            names = [underscored_label(key) for key in shape]
            distinct = set(names)
            found = (
                len(distinct) == len(names)
                and not distinct & self.names
                and len(names) + len(self.names) <= ENTRIES
            )
            if len(self.shapes) >= SHAPES:
                self.shapes.clear()
            self.shapes[shape] = found
        return found


class _Stream:
    """Entries under one set of labels."""

    __slots__ = ("entries", "head", "origin", "shown")

    def __init__(self, head: bytes) -> None:
        self.head = head
        self.entries: list[bytes] = []
        self.origin = -1  # the time of the last record
        self.shown = -1  # and of its entry

    def time(self, nanoseconds: int) -> int:
        """The time of an entry; of those that are equal each gets one nanosecond more."""
        if self.origin <= nanoseconds <= self.shown:
            self.shown += 1
        else:
            self.shown = nanoseconds
        self.origin = nanoseconds
        return self.shown


def encoded(form: Form, pairs: Pairs) -> list[bytes]:
    """Each pair as metadata."""
    return [form.pair(form.head(name), form.string(value)) for name, value in pairs]


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
        self._kept: dict[tuple[int, int], _Origin] = {}

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
        streams: dict[bytes, _Stream] = {}
        room = max_bytes - form.frame
        units = oversized = unsupported = 0
        end = len(items)
        self._metadata.blocks += end - start
        for position in range(start, end):
            item = items[position]
            record = read(item, "log_record", tally)
            time = _time(record, tally)
            if not time:  # not a record
                unsupported += 1
                continue
            place = self._origin(*origin(item, tally), tally)
            stream = streams.get(place.head)
            cost = form.between
            if stream is None:
                stream = _Stream(place.head)
                cost += form.between + len(place.head)
            entry = self._entry(record, stream.time(time), place, tally)
            cost += len(entry)
            if cost > room:
                if units and cost + form.frame + len(place.head) <= max_bytes:
                    end = position  # it may fit into a body of its own
                    break
                oversized += 1
                continue
            streams[place.head] = stream
            stream.entries.append(entry)
            room -= cost
            units += 1
        size = len(out)
        form.write([(each.head, each.entries) for each in streams.values()], out)
        size = len(out) - size
        return Encoded(end - start, units, size, oversized, unsupported, tally.repaired)

    def _origin(self, resource: Any, scope: Any, tally: Tally) -> _Origin:
        key = id(resource), id(scope)
        found = self._kept.get(key)
        if found is None:
            repaired = tally.repaired
            found = _Origin(self._form, resource, scope, tally)
            if tally.repaired == repaired and keepable(resource) and keepable(scope):
                if len(self._kept) >= KEPT:
                    self._kept.clear()
                self._kept[key] = found
        return found

    def _entry(self, record: Any, time: int, place: _Origin, tally: Tally) -> bytes:
        try:
            body = record.body
            line = self._form.line(body if type(body) is str else plain_text(body))
            if len(line) > self._max_line:
                raise ValueError("a line that needs repair")
            metadata = [place.common]
            self._metadata.encode(_fields(record), metadata)
            attributes = record.attributes
            if attributes:
                pairs = attributes if type(attributes) is dict else attributes._dict
                if not place.plain(tuple(pairs)):
                    raise ValueError("names that need repair")
                self._metadata.encode(pairs.items(), metadata)
            if sum(map(len, metadata)) > METADATA:
                raise ValueError("metadata that need repair")
            return self._form.entry(time, line, metadata)
        except Exception:  # a value that needs repair, or another thread at work
            return self._careful(record, time, place, tally)

    def _careful(self, record: Any, time: int, place: _Origin, tally: Tally) -> bytes:
        line = attribute_text(read(record, "body", tally), tally)
        raw = line.encode()
        if len(raw) > self._max_line:
            tally.repaired += 1
            line = raw[: self._max_line].decode(errors="ignore")
        fields = _careful_fields(record, tally)
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


def _time(record: Any, tally: Tally) -> int:
    """When it happened, or at least when it was seen, in nanoseconds; 0 if nobody knows."""
    for name in ("timestamp", "observed_timestamp"):
        time = number(read(record, name, tally), 63, tally)
        if time:
            return time
    return 0


def _fields(record: Any) -> Pairs:
    """Fields of a record as the SDK's logger makes it, under the names of Loki's OTLP endpoint.

    Raises:
        Exception: A field holds something else.
    """
    found: Pairs = []
    severity = record.severity_number
    if severity is not None:
        found.append(("severity_number", str(severity._value_)))
    if record.severity_text:
        found.append(("severity_text", record.severity_text))
    if record.trace_id:
        found.append(("trace_id", f"{record.trace_id:032x}"))
    if record.span_id:
        found.append(("span_id", f"{record.span_id:016x}"))
    if record.trace_flags:
        found.append(("flags", str(int(record.trace_flags))))
    event = getattr(record, "event_name", None)
    if event:
        found.append(("event_name", event))
    observed = record.observed_timestamp
    if observed and record.timestamp and observed != record.timestamp:
        found.append(("observed_timestamp", str(observed)))
    return found


def _careful_fields(record: Any, tally: Tally) -> Pairs:
    """The same of any object."""
    found: Pairs = []
    severity = read(record, "severity_number", tally)
    if severity is not None:
        found.append(("severity_number", str(enum_value(severity, 24, tally))))
    found.append(("severity_text", text_of(read(record, "severity_text", tally), tally)))
    for name, digits in (("trace_id", 32), ("span_id", 16)):
        value = number(read(record, name, tally), digits * 4, tally)
        if value:
            found.append((name, f"{value:0{digits}x}"))
    flags = number(read(record, "trace_flags", tally), 32, tally)
    if flags:
        found.append(("flags", str(flags)))
    found.append(("event_name", text_of(read(record, "event_name", tally), tally)))
    observed = number(read(record, "observed_timestamp", tally), 63, tally)
    if observed and _time(record, tally) != observed:
        found.append(("observed_timestamp", str(observed)))
    return [(name, value) for name, value in found if value]
