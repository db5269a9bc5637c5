"""What an event of hastack becomes: a count, a log record, a span.

Attributes of a count are a closed set of fields with few values: names of guards and components,
reasons, states. Keys and messages, of which there may be any number, stay in the log record.
"""

from __future__ import annotations

import enum
import re
from typing import TYPE_CHECKING, Any, final

import attrs

if TYPE_CHECKING:
    from hastack.events import Event

COUNTED_BY = ("name", "component", "reason", "old", "new", "status", "check", "phase", "step")
"""Fields that become attributes of the count."""

# So frequent that each one as a record would be a flood; they are counted.
_ONLY_COUNTED = frozenset({"RequestRejected", "ShadowRejected", "RetryScheduled", "HedgeStarted"})

# OpenTelemetry's severity numbers.
INFO, WARN, ERROR = 9, 13, 17
_WARNED = re.compile("Rejected|Expired|Lost|Opened|Stale|Dropped|NotShared|Fallback")
_FAILED = re.compile("Failed|Error")

_LONGEST = 500


@final
@attrs.frozen
class Mapped:
    """An event in OpenTelemetry's terms.

    Attributes:
        name: Its name, ``"hastack.breaker_changed"`` for example.
        counted: Attributes of its count.
        severity: Severity number of its record; ``None`` when it has none.
        attributes: Attributes of its record and its span.
        took: Seconds that its span lasted; ``None`` when it has none.
        failed: Whether the span is one of a failure.
    """

    name: str
    counted: dict[str, str]
    severity: int | None
    attributes: dict[str, Any]
    took: float | None
    failed: bool


def mapped(event: Event) -> Mapped:
    """What ``event`` becomes."""
    kind = type(event).__name__
    found = {f.name: getattr(event, f.name) for f in attrs.fields(type(event)) if f.name != "at"}
    failed = _FAILED.search(kind) is not None
    severity: int | None = ERROR if failed else INFO
    if not failed and (_WARNED.search(kind) or str(_plain(found.get("new", ""))) == "open"):
        severity = WARN
    took = found.get("took")
    return Mapped(
        name=event_name(kind),
        counted={
            key: str(_plain(found[key]))
            for key in COUNTED_BY
            if isinstance(found.get(key), (str, enum.Enum))
        },
        severity=None if kind in _ONLY_COUNTED else severity,
        attributes={
            f"hastack.{key}": _plain(value) for key, value in found.items() if value is not None
        },
        took=float(took) if isinstance(took, (int, float)) else None,
        failed=failed,
    )


def event_name(kind: str) -> str:
    """``"hastack.breaker_changed"`` for ``BreakerChanged``."""
    return "hastack." + re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", kind).lower()


def _plain(value: object) -> str | bool | int | float:
    if isinstance(value, enum.Enum):
        return _plain(value.value)
    if isinstance(value, (str, bool, int, float)):
        return value[:_LONGEST] if isinstance(value, str) else value
    if isinstance(value, BaseException):
        return f"{type(value).__name__}: {value}"[:_LONGEST]
    return str(value)[:_LONGEST]
