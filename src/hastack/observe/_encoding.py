"""What the pipeline asks of an encoder: one complete request body at a time, never too long.

An encoder walks the SDK's objects and appends bytes; nothing else is built. It keeps nothing
between calls but bounded caches of fragments, so one encoder may serve several threads.

    buffer = bytearray()
    start, total = 0, encoder.count(items)
    while start < total:
        buffer.clear()
        done = encoder.encode(items, buffer, max_bytes=LIMIT, start=start)
        if done.size:
            send(memoryview(buffer))  # of `done.units` units
        start += done.taken
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import attrs

if TYPE_CHECKING:
    from collections.abc import Sequence

REQUEST_LIMIT = 64 * 1024 * 1024
"""Bytes; what an OTLP/HTTP receiver must accept before compression (OTLP 1.x, "OTLP/HTTP Request")."""


@attrs.frozen
class WireFormat:
    """How a body travels.

    Args:
        name: For logs and metrics, such as ``"otlp-traces"``.
        content_type: The value of ``Content-Type``.
        compressions: Names that `compress` takes and every receiver of the format reads, the best
            first; ``"identity"`` is none at all.
        headers: Further header fields that the format prescribes.
        cumulative: Metrics of delta temporality have no place in it; they are added up before.
    """

    name: str
    content_type: str
    compressions: tuple[str, ...]
    headers: tuple[tuple[str, str], ...] = ()
    cumulative: bool = False


@attrs.frozen
class Encoded:
    """What one call of `Encoder.encode` did.

    Args:
        taken: Units of the input that are dealt with, at least one; go on at ``start + taken``.
        units: Units in the body. The other ``taken - units`` must be counted as dropped.
        size: Bytes appended; 0 if there is nothing to send.
        oversized: Units left out because even alone they exceed ``max_bytes``.
        unsupported: Units left out because the format cannot carry them.
        repaired: Values that could not be encoded as they were: surrogates became U+FFFD, integers
            beyond 64 bits and objects of other types became strings.
    """

    taken: int
    units: int
    size: int
    oversized: int = 0
    unsupported: int = 0
    repaired: int = 0


class Encoder(Protocol):
    """Turns SDK objects into request bodies.

    A unit is what a receiver counts: a span, a log record, a data point of a metric.
    """

    @property
    def format(self) -> WireFormat:
        """Content type, compressions and headers."""
        ...

    def count(self, items: Sequence[Any]) -> int:
        """The units in ``items``."""
        ...

    def encode(
        self, items: Sequence[Any], out: bytearray, *, max_bytes: int = ..., start: int = 0
    ) -> Encoded:
        """Append one complete request body with as many units as fit, in order.

        Never raises because of what is in ``items``: what cannot be encoded is repaired or left
        out, and counted. Objects that other threads change meanwhile are encoded as they are at
        one moment between the call and its return.

        Args:
            items: Spans, log records, or ``MetricsData`` objects.
            out: Appended to; what it holds already is kept.
            max_bytes: The longest body, before compression.
            start: The first unit to take, for a batch that needs more than one body.
        """
        ...
