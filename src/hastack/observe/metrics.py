"""Metrics of the OpenTelemetry SDK into the pipeline.

Example:
    >>> from hastack.observe import metrics
    >>> reader = metrics.MetricReader(every=60.0)  # to no exporter at all
    >>> reader.shutdown()
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Self, final

from hastack._core._extras import require
from hastack._core._fork import renew_in_child
from hastack._core._validate import seconds

from . import _threads
from ._ends import flushed
from ._sizes import size_of_points
from .pipeline import Pipeline

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.sdk.metrics.export import MetricExporter as _MetricExporter
    from opentelemetry.sdk.metrics.export import MetricExportResult, MetricsData
    from opentelemetry.sdk.metrics.export import MetricReader as _MetricReader

    from hastack._core._validate import Seconds

    from .instruments import Metrics
    from .pipeline import Exporter
else:
    # The SDK asks an exporter for its methods, not for its class. A reader has to be of the SDK's
    # class: that joins as the first one is made.
    _MetricExporter = _MetricReader = object

__all__ = ("Collector", "MetricExporter", "MetricReader")

_reader_class: type[Any] | None = None


def _real_class() -> type[Any]:
    global _reader_class
    if _reader_class is None:
        base = require("opentelemetry.sdk.metrics.export", extra="otel").MetricReader
        _reader_class = type("MetricReader", (MetricReader, base), {"__module__": __name__})
    return _reader_class


@final
class Ticker:
    """Calls something periodically, on a daemon thread that starts anew in a forked child.

    It is not one of the exporters' own threads: what observable instruments do there is the
    application's, and is exported.
    """

    def __init__(self, every: float, call: Callable[[], None]) -> None:
        self._every = every
        self._call = call
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        renew_in_child(self)

    def pace(self, every: float) -> None:
        """Seconds between two calls, from the next one on."""
        self._every = every

    def start(self) -> None:
        """Begin, unless it has begun or ended."""
        if self._thread is None and not self._stopped.is_set():
            self._thread = threading.Thread(
                target=self._run, args=(self._stopped,), name="hastack-metrics", daemon=True
            )
            self._thread.start()

    def stop(self) -> bool:
        """End it; whether it was not at its end already."""
        first = not self._stopped.is_set()
        self._stopped.set()
        return first

    def _run(self, stopped: threading.Event) -> None:
        while not stopped.wait(self._every):
            self._call()

    def _after_fork(self) -> None:
        ended, ran = self._stopped.is_set(), self._thread is not None
        self._stopped = threading.Event()
        self._thread = None
        if ended:
            self._stopped.set()
        elif ran:
            self.start()


class MetricReader(_MetricReader):
    """Collects metrics periodically and puts them into the queues of exporters.

    Stands in for ``PeriodicExportingMetricReader`` and its exporter together:
    ``MeterProvider(metric_readers=[MetricReader(exporter)])``. The thread starts with the provider,
    and anew in a forked child.

    Args:
        *exporters: Where metrics go.
        every: Seconds between two collections.
        temporality: Preferred temporality by instrument class, as the SDK takes it.
        aggregation: Preferred aggregation by instrument class, as the SDK takes it.
        timeout: Seconds that `shutdown` takes at most when the caller gives none.

    Raises:
        InvalidArgument: ``every`` is not above zero.
        MissingDependency: The SDK is not installed.
    """

    if not TYPE_CHECKING:

        def __new__(cls, *_: Any, **__: Any) -> Self:
            """Make one that is a reader of the SDK as well."""
            return object.__new__(_real_class() if cls is MetricReader else cls)

    def __init__(
        self,
        *exporters: Exporter,
        every: Seconds = 60.0,
        temporality: dict[type, Any] | None = None,
        aggregation: dict[type, Any] | None = None,
        timeout: float = 5.0,
    ) -> None:
        every = seconds("every", every)
        super().__init__(preferred_temporality=temporality, preferred_aggregation=aggregation)
        self._pipeline = Pipeline(exporters)
        self._exporters = exporters
        self._timeout = timeout
        self._ticker = Ticker(every, self._collect_once)
        self._reading = threading.local()

    def _set_meter_provider(self, meter_provider: Any) -> None:
        super()._set_meter_provider(meter_provider)
        if self._exporters:
            self._ticker.start()

    def _collect_once(self) -> None:
        try:
            self.collect()
        except Exception as error:  # an observable instrument of somebody's
            _threads.log.warning("metrics were not collected: %r", error)

    def _receive_metrics(
        self, metrics_data: MetricsData, timeout_millis: float = 10_000, **_: Any
    ) -> None:
        found = getattr(self._reading, "found", None)
        if found is None:
            emit(self._exporters, metrics_data)
        else:
            found.append(metrics_data)

    def read(self) -> MetricsData | None:
        """Collect now, for the caller alone; ``None`` when there is nothing.

        Raises:
            Exception: Whatever an observable instrument raises.
        """
        found: list[MetricsData] = []
        self._reading.found = found
        try:
            self.collect()
        finally:
            del self._reading.found
        return found[0] if found else None

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """Collect now; whether everything was delivered within the time."""
        self._collect_once()
        return flushed(self._pipeline.exporters, timeout_millis)

    def shutdown(self, timeout_millis: float | None = None, **_: Any) -> None:
        """Collect for the last time and end the exporters."""
        if not self._ticker.stop():
            return
        if self._exporters:
            self._collect_once()
        timeout = self._timeout if timeout_millis is None else timeout_millis / 1e3
        self._pipeline.shutdown(max(0.0, min(timeout, self._timeout)))


@final
class Collector:
    """Collects `hastack.observe.instruments` periodically and puts them into exporters' queues.

    Args:
        metrics: What is collected.
        *exporters: Where it goes.
        every: Seconds between two collections.
        resource: Whose numbers they are; by default what the environment says.

    Raises:
        InvalidArgument: ``every`` is not above zero.

    Example:
        >>> from hastack.observe import instruments, metrics
        >>> collector = metrics.Collector(instruments.Metrics())
        >>> collector.collect()
        True
        >>> collector.close()
    """

    def __init__(
        self,
        metrics: Metrics,
        *exporters: Exporter,
        every: Seconds = 60.0,
        resource: Any = None,
    ) -> None:
        self._metrics = metrics
        self._exporters = exporters
        self._resource = resource
        self._ticker = Ticker(seconds("every", every), self._collect_once)
        if exporters:
            self._ticker.start()

    def _collect_once(self) -> None:
        try:
            self.collect()
        except Exception as error:  # the directory of several workers cannot be read
            _threads.log.warning("metrics were not collected: %r", error)

    def collect(self) -> bool:
        """Collect now; whether every exporter took it.

        Raises:
            OSError: The directory that several processes share cannot be read.
        """
        if not self._exporters:
            return True
        return emit(self._exporters, self._metrics.collect(self._resource))

    def close(self) -> None:
        """Collect for the last time, and no more."""
        if self._ticker.stop() and self._exporters:
            self._collect_once()


@final
class MetricExporter(_MetricExporter):
    """Takes collections from a reader of the SDK, where that one cannot be replaced.

    Args:
        *exporters: Where metrics go.
        temporality: Preferred temporality by instrument class, as the SDK takes it.
        aggregation: Preferred aggregation by instrument class, as the SDK takes it.
        timeout: Seconds that `shutdown` takes at most.
    """

    def __init__(
        self,
        *exporters: Exporter,
        temporality: dict[type, Any] | None = None,
        aggregation: dict[type, Any] | None = None,
        timeout: float = 5.0,
    ) -> None:
        self._preferred_temporality = temporality
        self._preferred_aggregation = aggregation
        self._pipeline = Pipeline(exporters)
        self._exporters = exporters
        self._timeout = timeout

    def export(
        self, metrics_data: MetricsData, timeout_millis: float = 10_000, **_: Any
    ) -> MetricExportResult:
        """Queue a collection; a failure means that it was dropped right away."""
        results: Any = require("opentelemetry.sdk.metrics.export", extra="otel").MetricExportResult
        admitted = emit(self._exporters, metrics_data)
        result: MetricExportResult = results.SUCCESS if admitted else results.FAILURE
        return result

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """Whether everything emitted so far was delivered within the time."""
        return flushed(self._pipeline.exporters, timeout_millis)

    def shutdown(self, timeout_millis: float = 30_000, **_: Any) -> None:
        """End the exporters."""
        self._pipeline.shutdown(max(0.0, min(timeout_millis / 1e3, self._timeout)))


def emit(exporters: tuple[Exporter, ...], data: MetricsData) -> bool:
    """Put a collection into the queues; whether all took it."""
    admitted = True
    for exporter in exporters:
        cumulated = exporter._cumulated(data)
        units = exporter.count([cumulated])
        if units:
            resource = cumulated.resource_metrics[0].resource
            lane = exporter.lane_of(resource)
            admitted = exporter.emit(lane, cumulated, size_of_points(units), units) and admitted
    return admitted
