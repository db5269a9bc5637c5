"""What the encoders of spans and of log records share: one record after the other while there is room."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ._encoding import REQUEST_LIMIT, Encoded
from ._otlp_attributes import Attributes
from ._otlp_lenient import string
from ._otlp_resource import Outlines, Request
from ._otlp_values import Tally
from ._protobuf import RECORD_HEADS, TABLE_SIZE, varint

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ._encoding import WireFormat

TEXTS: Final = 4096
"""Texts of one field whose fragments are kept."""


class Texts:
    """A field that has few values: names of spans, severities. Each is written once.

    Attributes:
        known: The fields by text; look here first.
    """

    __slots__ = ("_key", "known")

    def __init__(self, key: bytes) -> None:
        self._key = key
        self.known: dict[str, bytes] = {}

    def field(self, text: Any, tally: Tally) -> bytes:
        """The field, kept if it is fit to be."""
        repaired = tally.repaired
        field = string(self._key, text, tally)
        if tally.repaired == repaired and type(text) is str:
            if len(self.known) >= TEXTS:
                self.known.clear()
            self.known[text] = field
        return field


class RecordEncoder:
    """An encoder whose units are records; see `hastack.observe._encoding.Encoder`.

    Args:
        attributes: The key of a record's attributes.
    """

    __slots__ = ("_attributes", "_outlines")

    _format: WireFormat

    def __init__(self, attributes: bytes) -> None:
        self._outlines = Outlines()
        self._attributes = Attributes(attributes)

    @property
    def format(self) -> WireFormat:
        """OTLP over HTTP; over gRPC the body is the same message."""
        return self._format

    def count(self, items: Sequence[Any]) -> int:
        """Records in ``items``."""
        return len(items)

    def encode(
        self,
        items: Sequence[Any],
        out: bytearray,
        *,
        max_bytes: int = REQUEST_LIMIT,
        start: int = 0,
    ) -> Encoded:
        """Append one request body; see `hastack.observe._encoding.Encoder.encode`."""
        self._attributes.began(len(items))
        return encode_records(
            items,
            out,
            max_bytes=max_bytes,
            start=start,
            outlines=self._outlines,
            origin=self._origin,
            record=self._record,
        )

    if TYPE_CHECKING:  # each has its own

        @staticmethod
        def _origin(item: Any, tally: Tally) -> tuple[Any, Any]:
            """The resource and the scope of an item."""
            ...

        def _record(self, item: Any, tally: Tally, /) -> bytes | None:
            """The body of an item's message, ``None`` if it cannot be one."""
            ...


def encode_records(
    items: Sequence[Any],
    out: bytearray,
    *,
    max_bytes: int,
    start: int,
    outlines: Outlines,
    origin: Callable[[Any, Tally], tuple[Any, Any]],
    record: Callable[[Any, Tally], bytes | None],
) -> Encoded:
    """Append one request body of ``items[start:]``, grouped by resource and scope.

    Args:
        items: Spans or log records; any field of them may be anything.
        out: Appended to.
        max_bytes: The longest body.
        start: The first item.
        outlines: Where fragments of resources and scopes are kept.
        origin: The resource and the scope of an item.
        record: The body of an item's message, ``None`` if it cannot be one.
    """
    tally = Tally()
    request = Request(outlines, tally)
    group, resource, scope = None, tally, None  # nobody's
    room = max_bytes
    units = oversized = unsupported = 0
    end = len(items)
    for position in range(start, end):
        item = items[position]
        body = record(item, tally)
        if body is None:
            unsupported += 1
            continue
        above, within = origin(item, tally)
        if group is None or above is not resource or within is not scope:
            resource, scope = above, within
            group = request.group(above, within)
        size = len(body)
        head = RECORD_HEADS[size] if size < TABLE_SIZE else b"\x12" + varint(size)
        size += len(head)
        parts = group.parts
        cost = size if parts else size + group.outline()
        if cost > room and (units or group.alone(size) > max_bytes):
            if units and size < max_bytes:
                end = position  # it may fit into a body of its own
                break
            oversized += 1
            continue
        room -= cost
        parts.append(head)
        parts.append(body)
        units += 1
    size = request.write(out)
    return Encoded(end - start, units, size, oversized, unsupported, tally.repaired)
