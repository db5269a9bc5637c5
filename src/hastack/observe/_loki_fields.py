"""Fields of a log record as metadata, under the names that Loki's OTLP endpoint gives them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._otlp_lenient import enum_value, number, read
from ._prometheus_kinds import text_of

if TYPE_CHECKING:
    from ._loki_labels import Pairs
    from ._otlp_values import Tally


def time_of(record: Any, tally: Tally) -> int:
    """When it happened, or at least when it was seen, in nanoseconds; 0 if nobody knows."""
    for name in ("timestamp", "observed_timestamp"):
        time = number(read(record, name, tally), 63, tally)
        if time:
            return time
    return 0


def repeated_fields(record: Any) -> Pairs:
    """The fields that many records have in common, of a record as the SDK's logger makes it.

    Raises:
        Exception: A field holds something else.
    """
    found: Pairs = []
    severity = record.severity_number
    if severity is not None:
        found.append(("severity_number", str(severity._value_)))
    if record.severity_text:
        found.append(("severity_text", record.severity_text))
    if record.trace_flags:
        found.append(("flags", str(int(record.trace_flags))))
    event = getattr(record, "event_name", None)
    if event:
        found.append(("event_name", event))
    return found


def careful_fields(record: Any, tally: Tally) -> Pairs:
    """All fields of any object."""
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
    if observed and time_of(record, tally) != observed:
        found.append(("observed_timestamp", str(observed)))
    return [(name, value) for name, value in found if value]
