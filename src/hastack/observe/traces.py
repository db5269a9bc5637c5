"""Spans of the OpenTelemetry SDK into the pipeline.

Example:
    >>> from hastack.observe import traces
    >>> processor = traces.SpanProcessor()  # to no exporter at all
    >>> processor.force_flush()
    True
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

from hastack._core._extras import require

from ._ends import flushed
from .pipeline import Pipeline

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import ReadableSpan, Span
    from opentelemetry.sdk.trace import SpanProcessor as _SpanProcessor
    from opentelemetry.sdk.trace.export import SpanExporter as _SpanExporter
    from opentelemetry.sdk.trace.export import SpanExportResult

    from .pipeline import Exporter
else:
    # The SDK asks for the methods, not for the class; so this module needs no SDK.
    _SpanProcessor = _SpanExporter = object

__all__ = ("SpanExporter", "SpanProcessor")


@final
class SpanProcessor(_SpanProcessor):
    """Puts sampled spans into the queues of exporters, as they end.

    Stands in for ``BatchSpanProcessor`` and its exporter together:
    ``provider.add_span_processor(SpanProcessor(exporter))``.

    Args:
        *exporters: Where spans go.
        timeout: Seconds that `shutdown` takes at most; the SDK gives none.
    """

    def __init__(self, *exporters: Exporter, timeout: float = 5.0) -> None:
        self._pipeline = Pipeline(exporters)
        self._exporters = exporters
        self._timeout = timeout

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Nothing happens before the end of a span."""

    def _on_ending(self, span: Span) -> None:
        """Nothing either; the SDK calls it."""

    def on_end(self, span: ReadableSpan) -> None:
        """Queue the span, if it is sampled."""
        context: Any = span._context
        if context is None or not context.trace_flags & 1:
            return
        for exporter in self._exporters:
            exporter.hand_in(span)

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Whether everything emitted so far was delivered within the time."""
        return flushed(self._pipeline.exporters, timeout_millis)

    def shutdown(self) -> None:
        """End the exporters; what became of everything is in their accounts."""
        self._pipeline.shutdown(self._timeout)


@final
class SpanExporter(_SpanExporter):
    """Takes batches from a processor of the SDK, where that one cannot be replaced.

    Queueing twice is a detour: prefer `SpanProcessor`.

    Args:
        *exporters: Where spans go.
        timeout: Seconds that `shutdown` takes at most.
    """

    def __init__(self, *exporters: Exporter, timeout: float = 5.0) -> None:
        self._pipeline = Pipeline(exporters)
        self._exporters = exporters
        self._timeout = timeout

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Queue the spans; a failure means that at least one was dropped right away."""
        results: Any = require("opentelemetry.sdk.trace.export", extra="otel").SpanExportResult
        admitted = True
        for span in spans:
            for exporter in self._exporters:
                admitted = exporter.hand_in(span) and admitted
        result: SpanExportResult = results.SUCCESS if admitted else results.FAILURE
        return result

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Whether everything emitted so far was delivered within the time."""
        return flushed(self._pipeline.exporters, timeout_millis)

    def shutdown(self) -> None:
        """End the exporters."""
        self._pipeline.shutdown(self._timeout)
