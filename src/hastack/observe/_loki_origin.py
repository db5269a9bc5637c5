"""Where log records come from, for Loki: streams, and the metadata that a stream's entries share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ._loki_fields import repeated_fields
from ._loki_labels import RESERVED, Pairs, scope_metadata, split_resource, together
from ._prometheus_names import underscored_label

if TYPE_CHECKING:
    from ._loki_forms import Form
    from ._otlp_values import Tally

ENTRIES: Final = 128
"""Metadata of an entry (``max_structured_metadata_entries_count``)."""

SHAPES: Final = 1024
"""Sets of attribute keys, and of fields, that an origin remembers."""


class Origin:
    """A resource and a scope: the labels of their stream and the metadata that they add."""

    __slots__ = (
        "_common",
        "_fields",
        "_form",
        "_shapes",
        "alive",
        "head",
        "names",
        "resource",
        "scope",
    )

    def __init__(self, form: Form, resource: Any, scope: Any, tally: Tally) -> None:
        self.alive = resource, scope  # known by their ids
        labels, self.resource = split_resource(resource, tally)
        self.scope = scope_metadata(scope, tally)
        self.head = form.stream(labels)
        pairs = together([], self.scope, self.resource)
        self.names = {name for name, _ in pairs} | RESERVED
        self._form = form
        self._common = b"".join(encoded(form, pairs))
        self._fields: dict[tuple[Any, ...], bytes] = {}
        self._shapes: dict[tuple[Any, ...], bool] = {}

    def common(self, record: Any) -> bytes:
        """Metadata that the record has in common with others.

        Raises:
            Exception: A field holds something that needs repair.
        """
        severity = record.severity_number
        key = (
            severity if severity is None else severity._value_,
            record.severity_text,
            record.trace_flags,
            getattr(record, "event_name", None),
        )
        found = self._fields.get(key)
        if found is None:
            pairs = encoded(self._form, repeated_fields(record))
            found = b"".join((self._common, *pairs))
            if len(self._fields) >= SHAPES:
                self._fields.clear()
            self._fields[key] = found
        return found

    def plain(self, shape: tuple[Any, ...]) -> bool:
        """Whether attributes with these keys need no other names, and are not too many."""
        found = self._shapes.get(shape)
        if found is None:
            names = [underscored_label(key) for key in shape]
            distinct = set(names)
            found = (
                len(distinct) == len(names)
                and not distinct & self.names
                and len(names) + len(self.names) <= ENTRIES
            )
            if len(self._shapes) >= SHAPES:
                self._shapes.clear()
            self._shapes[shape] = found
        return found


class Stream:
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
