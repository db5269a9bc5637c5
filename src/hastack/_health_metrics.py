"""Events counted, and written as OpenMetrics text.

A small exposition for services without a metrics library: one counter per event class, labelled
by the few fields that have few values.
"""

from __future__ import annotations

import enum
import os
import re
import threading
import weakref
from typing import TYPE_CHECKING, Any

import attrs

from .events import subscribe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from .events import Event

Labels = tuple[tuple[str, str], ...]

LABEL_FIELDS = frozenset({"check", "component", "kind", "limiter", "name", "outcome", "policy"})
"""Text fields that name something of the program. Keys, reasons and details have no bound."""

MAX_SERIES = 200
"""Series per event class; what comes on top is counted under ``overflow="true"``."""

_OVERFLOW: Labels = (("overflow", "true"),)


class EventCounter:
    """Counts every event by class and by its enumerated fields; call `close` to end.

    Args:
        max_series: Bound on the label combinations of one event class.
    """

    def __init__(self, *, max_series: int = MAX_SERIES) -> None:
        self._counts = _Counts(max_series)
        # The subscription holds the counts only, so that a counter which is dropped rather than
        # closed stops counting too.
        finalizer = weakref.finalize(self, subscribe(self._counts.count))
        finalizer.atexit = False
        self.close: Callable[[], object] = finalizer

    def families(self) -> list[Family]:
        """All counters, as they stand."""
        return [
            Family(
                f"hastack_{_snake(kind.__name__)}",
                "counter",
                f"{kind.__name__} events.",
                tuple((labels, float(count)) for labels, count in series.items()),
            )
            for kind, series in sorted(
                self._counts.copy().items(), key=lambda item: item[0].__name__
            )
        ]


class _Counts:
    """The numbers themselves, apart from the one who may be dropped."""

    def __init__(self, max_series: int) -> None:
        self._max = max_series
        # Reentrant: a signal handler or a finalizer on this very thread may publish as well.
        self._lock = threading.RLock()
        self._counts: dict[type[Event], dict[Labels, int]] = {}
        self._fields: dict[type[Event], tuple[str, ...]] = {}
        _all.add(self)

    def count(self, event: Event) -> None:
        """One more."""
        kind = type(event)
        fields = self._fields.get(kind)
        if fields is None:
            fields = self._fields[kind] = tuple(
                f.name for f in attrs.fields(kind) if f.name != "at"
            )
        labels = tuple(
            (name, text) for name in fields if (text := _label(name, getattr(event, name)))
        )
        with self._lock:
            series = self._counts.setdefault(kind, {})
            if labels not in series and len(series) >= self._max:
                labels = _OVERFLOW
            series[labels] = series.get(labels, 0) + 1

    def copy(self) -> dict[type[Event], dict[Labels, int]]:
        """As they stand."""
        with self._lock:
            return {kind: dict(series) for kind, series in list(self._counts.items())}


def _label(name: str, value: Any) -> str | None:
    if isinstance(value, enum.Enum):
        return str(value.value)
    if name in LABEL_FIELDS and isinstance(value, str):
        return value[:100]
    return None


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


@attrs.frozen
class Family:
    """One metric with its samples."""

    name: str
    kind: str
    help: str
    samples: tuple[tuple[Labels, float], ...]


def exposition(families: Iterable[Family]) -> str:
    """OpenMetrics 1.0 text, ``# EOF`` included.

    Source: https://github.com/prometheus/OpenMetrics, "Text format".
    """
    lines: list[str] = []
    for family in families:
        lines += [f"# TYPE {family.name} {family.kind}", f"# HELP {family.name} {family.help}"]
        suffix = "_total" if family.kind == "counter" else ""
        for labels, value in family.samples:
            number = str(int(value)) if value == int(value) else repr(value)
            lines.append(f"{family.name}{suffix}{_braces(labels)} {number}")
    lines.append("# EOF")
    return "\n".join(lines) + "\n"


def _braces(labels: Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escape(text)}"' for name, text in labels) + "}"


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def states(name: str, help_text: str, label: str, now: str, known: Iterable[str]) -> Family:
    """A gauge per possible state, 1 for the one that holds."""
    return Family(
        name, "gauge", help_text, tuple((((label, each),), float(each == now)) for each in known)
    )


def flags(name: str, help_text: str, label: str, values: Mapping[str, bool]) -> Family:
    """A gauge per name, 1 for true."""
    return Family(
        name,
        "gauge",
        help_text,
        tuple((((label, each),), float(value)) for each, value in values.items()),
    )


_all: weakref.WeakSet[_Counts] = weakref.WeakSet()


def _after_fork() -> None:
    for counts in list(_all):
        counts._lock = threading.RLock()  # the parent's may have been held at the fork


os.register_at_fork(after_in_child=_after_fork)
