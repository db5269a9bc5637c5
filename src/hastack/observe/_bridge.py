"""hastack's own events as metrics, log records and spans, and the accounts as metrics."""

from __future__ import annotations

import time
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any, final

from hastack import events
from hastack._core._extras import require

from ._event_mapping import mapped
from ._threads import suppressed

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hastack.events import Event

    from ._event_mapping import Mapped
    from ._options import EventsConfig
    from ._scrape import MetricsEndpoint
    from .instruments import Histogram, Metrics
    from .pipeline import Pipeline

_SCOPE = "hastack"
_inside: ContextVar[bool] = ContextVar("hastack-observe-bridge", default=False)


@final
class EventBridge:
    """Subscribes to everything, and hands on what the settings ask for.

    Args:
        settings: What events become.
        metrics: Where they are counted.
        tracer_provider: Where spans are made.
        logger_provider: Where records are written.
    """

    def __init__(
        self,
        settings: EventsConfig,
        *,
        metrics: Metrics | None,
        tracer_provider: Any,
        logger_provider: Any,
    ) -> None:
        self._counter = None
        if settings.metrics and metrics is not None:
            self._counter = metrics.meter(_SCOPE).counter(
                "hastack.events", unit="{event}", description="Events of hastack"
            )
        self._tracer = None
        if settings.spans and tracer_provider is not None:
            self._tracer = tracer_provider.get_tracer(_SCOPE)
        self._logger = None
        if settings.logs and logger_provider is not None:
            self._logger = logger_provider.get_logger(_SCOPE)
        self._end = events.subscribe(self._take)

    def close(self) -> None:
        """Listen no more."""
        self._end()

    def _take(self, event: Event) -> None:
        # An event that handing on an event causes is handed on by nobody, or it would not end.
        if _inside.get():
            return
        token = _inside.set(True)
        try:
            self._hand_on(event)
        finally:
            _inside.reset(token)

    def _hand_on(self, event: Event) -> None:
        found = mapped(event)
        if self._counter is not None:
            self._counter.add(1, {"event": found.name, **found.counted})
        if suppressed():
            return
        # Events have monotonic times; the difference to now holds on the wall clock, too.
        at = time.time_ns() - int(max(0.0, time.monotonic() - event.at) * 1e9)
        if self._tracer is not None and found.took is not None:
            self._span(self._tracer, found, at)
        if self._logger is not None and found.severity is not None:
            api = require("opentelemetry._logs", extra="otel")
            severity = api.SeverityNumber(found.severity)
            self._logger.emit(
                api.LogRecord(
                    timestamp=at,
                    severity_number=severity,
                    severity_text=severity.name,
                    body=found.name,
                    attributes=found.attributes,
                    event_name=found.name,
                )
            )

    def _span(self, tracer: Any, found: Mapped, at: int) -> None:
        api = require("opentelemetry.trace", extra="otel")
        took = int((found.took or 0.0) * 1e9)
        span = tracer.start_span(found.name, attributes=found.attributes, start_time=at - took)
        if found.failed:
            span.set_status(api.Status(api.StatusCode.ERROR))
        span.end(end_time=at)


def observe_accounts(metrics: Metrics, pipeline: Pipeline) -> None:
    """Make the accounts of a pipeline metrics: what is exported says how exporting goes."""
    meter = metrics.meter("hastack.observe")

    def totals() -> Iterable[tuple[float, dict[str, Any]]]:
        for name, account in pipeline.accounts().items():
            yield account.emitted, {"exporter": name, "state": "emitted"}
            yield account.recovered, {"exporter": name, "state": "recovered"}
            yield account.sent, {"exporter": name, "state": "sent"}
            for reason, count in account.dropped.items():
                yield count, {"exporter": name, "state": "dropped", "reason": reason}

    def waiting() -> Iterable[tuple[float, dict[str, Any]]]:
        for name, account in pipeline.accounts().items():
            yield account.queued, {"exporter": name, "state": "queued"}
            yield account.in_flight, {"exporter": name, "state": "in_flight"}
            yield account.spilled, {"exporter": name, "state": "spilled"}

    def effort() -> Iterable[tuple[float, dict[str, Any]]]:
        for name, account in pipeline.accounts().items():
            for kind in ("retried", "repaired", "suppressed"):
                yield getattr(account, kind), {"exporter": name, "kind": kind}

    durations = meter.histogram(
        "hastack.observe.request.duration", unit="s", description="Time of requests to backends"
    )
    for exporter in pipeline.exporters:
        exporter._took = partial(_record, durations, exporter.name)
    meter.observe(
        "hastack.observe.effort",
        effort,
        kind="counter",
        unit="{occurrence}",
        description="Requests made again, values repaired, units of the exporter's own left out",
    )
    meter.observe(
        "hastack.observe.units",
        totals,
        kind="counter",
        unit="{unit}",
        description="Spans, records and data points by what became of them",
    )
    meter.observe(
        "hastack.observe.waiting",
        waiting,
        unit="{unit}",
        description="Spans, records and data points that wait",
    )


def _record(durations: Histogram, exporter: str, outcome: str, took: float) -> None:
    durations.record(took, {"exporter": exporter, "outcome": outcome})


def observe_scrapes(metrics: Metrics, endpoint: MetricsEndpoint) -> None:
    """Make what a page says of itself metrics, seen at the next scrape."""
    meter = metrics.meter("hastack.observe")

    def scrapes() -> Iterable[tuple[float, dict[str, Any]]]:
        return [(count, {"outcome": name}) for name, count in endpoint.counts().items()]

    def left_out() -> Iterable[tuple[float, dict[str, Any]]]:
        return [(count, {"reason": name}) for name, count in endpoint.left_out().items()]

    meter.observe(
        "hastack.observe.scrapes",
        scrapes,
        kind="counter",
        unit="{scrape}",
        description="Answered requests for the page, by outcome",
    )
    meter.observe(
        "hastack.observe.scrape.left_out",
        left_out,
        unit="{point}",
        description="Data points that the last page left out, by reason",
    )
    meter.observe(
        "hastack.observe.scrape.duration",
        lambda: endpoint.took,
        unit="s",
        description="Time that the last page took",
    )
