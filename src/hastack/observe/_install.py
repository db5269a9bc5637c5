"""Everything wired from the configuration, in one call."""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, final

import attrs

from hastack import config as _config
from hastack import context as _context
from hastack._core._errors import InvalidArgument, LifecycleError
from hastack._core._extras import require
from hastack._core._validate import seconds

from . import _threads
from ._backends import exporters_of
from ._bridge import EventBridge, observe_accounts, observe_scrapes
from ._metrics_server import MetricsServer, address_of
from ._options import OBSERVE, ObserveConfig
from ._prometheus_text import PrometheusText
from ._scrape import MetricsEndpoint
from ._status import StatusFile
from .instruments import Metrics, current_trace
from .metrics import Collector, MetricReader
from .pipeline import Pipeline
from .records import LogHandler, LogRecordProcessor
from .traces import SpanProcessor

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from hastack._core._validate import Seconds

    from ._report import Report


@final
@attrs.define(eq=False)
class Installed:
    """What `install` set up. Use it as a context manager, or call `shutdown` at the end.

    It is a component, too: as the first of a `hastack.lifecycle.Lifecycle`, on which the others
    depend, it ends last and exports what they say on their way out. Without any of these, it ends
    with the interpreter, in 5 seconds at most.

    Attributes:
        pipeline: All exporters.
        metrics: For `hastack.observe.instruments`; collected together with the SDK's.
        tracer_provider: OpenTelemetry's; ``None`` when no backend takes traces.
        meter_provider: OpenTelemetry's; ``None`` when no backend takes metrics.
        logger_provider: OpenTelemetry's; ``None`` when no backend takes logs.
        endpoint: Answers scrapes; ``None`` unless ``prometheus.enabled``.
        server: Serves it.
    """

    pipeline: Pipeline
    metrics: Metrics
    tracer_provider: Any = None
    meter_provider: Any = None
    logger_provider: Any = None
    endpoint: MetricsEndpoint | None = None
    server: MetricsServer | None = None
    _reader: Any = None
    _collector: Collector | None = None
    _handler: LogHandler | None = None
    _bridge: EventBridge | None = None
    _status: StatusFile | None = None

    def force_flush(self, timeout: Seconds = 30.0) -> Report:
        """Collect metrics now and send everything; see `Pipeline.force_flush`.

        Raises:
            InvalidArgument: ``timeout`` is negative.
        """
        began = time.monotonic()
        limit = seconds("timeout", timeout, zero=True)
        self._collect()
        return self.pipeline.force_flush(max(0.0, began + limit - time.monotonic()))

    def follow(self, watched: _config.Watched[_config.Config]) -> Callable[[], None]:
        """Take over what a reload changes: the queues' sizes and times, timeouts, levels.

        That is ``queue`` without ``shards`` and ``when_full``, the ``timeout`` of each backend,
        ``metrics_every`` and ``log_level``. What changes beside these is named in a warning and
        needs a restart. Like every part that prepares, it follows the whole configuration or not
        at all.

        Args:
            watched: Made by `hastack.config.watch`.

        Returns:
            A function that ends it.

        Raises:
            InvalidArgument: ``watched`` is none.
        """
        from ._follow_config import follow

        return follow(self, watched)

    def _collect(self) -> None:
        if self._reader is not None:
            self._reader._collect_once()
        if self._collector is not None:
            self._collector._collect_once()

    def shutdown(self, timeout: Seconds = 5.0) -> Report:
        """Take everything down, metrics collected a last time; see `Pipeline.shutdown`.

        The providers stay where OpenTelemetry keeps them, and what goes to them is counted as
        dropped. The page for Prometheus is served until everything else has ended.

        Raises:
            InvalidArgument: ``timeout`` is negative.
        """
        began = time.monotonic()
        limit = seconds("timeout", timeout, zero=True)
        _threads.has_ended(self)
        if self._bridge is not None:
            self._bridge.close()
        if self._handler is not None:
            logging.getLogger().removeHandler(self._handler)
        if self._reader is not None and self._reader._ticker.stop():
            self._reader._collect_once()
        if self._collector is not None:
            self._collector.close()
        report = self.pipeline.shutdown(max(0.0, began + limit - time.monotonic()))
        if self._status is not None:
            self._status.close()
        if self.server is not None:
            self.server.stop(max(0.0, began + limit - time.monotonic()))
        return report

    @property
    def name(self) -> str:
        """Its name as a component: give it to `hastack.lifecycle.Lifecycle.add`, as the first."""
        return "observe"

    def stop(self) -> None:
        """`shutdown`, as the last step of a service: within the current context's deadline.

        Raises:
            LifecycleError: Not everything was delivered; the message is the account.
        """
        left = _context.current().remaining()
        # A little is kept to say how it went, before whoever waits gives up on the answer.
        report = self.shutdown(5.0 if left is None else left - min(0.25, left / 4))
        if not report:
            raise LifecycleError(f"not everything was delivered: {report.account}")

    def _end_with_process(self, until: float) -> None:
        with suppress(Exception):  # nobody is left to hear of it
            self.shutdown(max(0.0, until - time.monotonic()))

    def __enter__(self) -> Installed:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.shutdown()


def install(
    config: _config.Config | ObserveConfig | None = None, *, set_global: bool = True
) -> Installed:
    """Wire tracing, metrics, logging and hastack's own events to the configured backends.

    Args:
        config: The whole configuration or its ``observe`` table; ``None`` loads it from the
            environment (``HASTACK_OBSERVE__...``).
        set_global: Make the providers OpenTelemetry's global ones, and add a handler to the root
            logger. A global provider of the SDK that is there already is used instead of a new
            one, with its own resource.

    Raises:
        ConfigError: The environment holds mistakes.
        InvalidArgument: Settings contradict each other.
        OSError: The port for Prometheus is taken, or ``metrics_directory`` cannot be used.
        MissingDependency: A package of ``hastack[otel]`` is not installed, or grpcio for a backend
            of the kind ``otlp-grpc``.

    Example:
        >>> from hastack import observe
        >>> installed = observe.install(observe.ObserveConfig(service="shop"), set_global=False)
        >>> bool(installed.shutdown())
        True
    """
    settings = _settings(config)
    resource = _resource(settings)
    exporters = [
        exporter
        for name, backend in settings.backends.items()
        for exporter in exporters_of(name, backend, queue=settings.queue, spill=settings.spill)
    ]
    pipeline = Pipeline(exporters)
    metrics = Metrics(
        exemplars=current_trace, directory=settings.metrics_directory, limit=settings.max_series
    )
    installed = Installed(pipeline, metrics)
    try:
        _wire(installed, settings, resource, set_global)
    except BaseException:
        installed.shutdown(0.0)
        raise
    _threads.end_with_process(installed, first=True)
    return installed


def _wire(installed: Installed, settings: ObserveConfig, resource: Any, set_global: bool) -> None:
    pipeline, metrics = installed.pipeline, installed.metrics
    if settings.prometheus.enabled:
        _page(installed, settings, resource)  # before anything global, as the port may be taken
    _traces(installed, resource, set_global)
    _metrics(installed, settings, resource, set_global)
    _logs(installed, settings, resource, set_global)
    installed._bridge = EventBridge(
        settings.events,
        metrics=metrics if pipeline.of("metrics") or installed.endpoint is not None else None,
        tracer_provider=installed.tracer_provider,
        logger_provider=installed.logger_provider,
    )
    observe_accounts(metrics, pipeline)
    if settings.status is not None:
        service = str(resource.attributes.get("service.name", ""))
        installed._status = StatusFile(settings.status, service, pipeline)
    if installed.server is not None and installed.endpoint is not None:
        observe_scrapes(metrics, installed.endpoint)
        installed.server.start()


def _settings(config: object) -> ObserveConfig:
    if config is None:
        return OBSERVE.of(_config.load())
    if isinstance(config, _config.Config):
        return OBSERVE.of(config)
    if isinstance(config, ObserveConfig):
        return config
    raise InvalidArgument("config", config, "a hastack.config.Config or an ObserveConfig")


def _resource(settings: ObserveConfig) -> Any:
    attributes: dict[str, Any] = dict(settings.resource)
    if settings.service is not None:
        attributes["service.name"] = settings.service
    return require("opentelemetry.sdk.resources", extra="otel").Resource.create(attributes)


def _page(installed: Installed, settings: ObserveConfig, resource: Any) -> None:
    """Take the port; connections wait until everything is there."""
    wanted = settings.prometheus
    shared = settings.metrics_directory is not None

    def of_sdk() -> Any:
        # The SDK counts for each process by itself: shown by whichever of several happens to
        # answer, its counters would jump.
        return None if shared or installed._reader is None else installed._reader.read()

    page = PrometheusText(
        strategy=wanted.strategy,
        scope_labels=wanted.scope_labels,
        target_info=wanted.target_info,
        resource_labels=wanted.resource_labels,
        created=wanted.created,
    )
    host, port = address_of(wanted)
    installed.endpoint = MetricsEndpoint(
        lambda: installed.metrics.collect(resource),
        of_sdk,
        page=page,
        max_scrapes=wanted.max_scrapes,
    )
    installed.server = MetricsServer(
        installed.endpoint,
        host=host,
        port=port,
        path=wanted.path,
        shared=shared,
        timeout=wanted.timeout,
    )
    installed.server.listen()


def _traces(installed: Installed, resource: Any, set_global: bool) -> None:
    exporters = installed.pipeline.of("traces")
    if not exporters:
        return
    sdk = require("opentelemetry.sdk.trace", extra="otel")
    api = require("opentelemetry.trace", extra="otel")
    provider: Any = api.get_tracer_provider() if set_global else None
    if not isinstance(provider, sdk.TracerProvider):
        provider = sdk.TracerProvider(resource=resource, shutdown_on_exit=False)
        if set_global:
            api.set_tracer_provider(provider)
    provider.add_span_processor(SpanProcessor(*exporters))
    installed.tracer_provider = provider


def _metrics(
    installed: Installed, settings: ObserveConfig, resource: Any, set_global: bool
) -> None:
    exporters = installed.pipeline.of("metrics")
    if not exporters and installed.endpoint is None:
        return
    sdk = require("opentelemetry.sdk.metrics", extra="otel")
    api = require("opentelemetry.metrics", extra="otel")
    reader = MetricReader(*exporters, every=settings.metrics_every)
    provider: Any = api.get_meter_provider() if set_global else None
    if isinstance(provider, sdk.MeterProvider) and hasattr(provider, "add_metric_reader"):
        provider.add_metric_reader(reader)
    else:
        provider = sdk.MeterProvider(
            metric_readers=[reader], resource=resource, shutdown_on_exit=False
        )
        if set_global:
            api.set_meter_provider(provider)
    installed.meter_provider = provider
    installed._reader = reader
    installed._collector = Collector(
        installed.metrics, *exporters, every=settings.metrics_every, resource=resource
    )


def _logs(installed: Installed, settings: ObserveConfig, resource: Any, set_global: bool) -> None:
    exporters = installed.pipeline.of("logs")
    if not exporters:
        return
    sdk = require("opentelemetry.sdk._logs", extra="otel")
    api = require("opentelemetry._logs", extra="otel")
    provider: Any = api.get_logger_provider() if set_global else None
    if not isinstance(provider, sdk.LoggerProvider):
        provider = sdk.LoggerProvider(resource=resource, shutdown_on_exit=False)
        if set_global:
            api.set_logger_provider(provider)
    provider.add_log_record_processor(LogRecordProcessor(*exporters))
    installed.logger_provider = provider
    if set_global and settings.log_level is not None:
        installed._handler = LogHandler(provider, settings.log_level)
        logging.getLogger().addHandler(installed._handler)
