"""The loop that spans and log records share: one record after the other while there is room."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._encoding import Encoded
from ._otlp_resource import Request
from ._otlp_values import Tally
from ._protobuf import RECORD_HEADS, TABLE_SIZE, varint

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ._otlp_resource import Outlines


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
