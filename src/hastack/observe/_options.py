"""Settings of the pipeline: code and configuration files use the same classes."""
# ruff: noqa: RUF009  # setting() is an attrs.field(), made anew for each class

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003  # annotations are resolved at runtime
from pathlib import Path  # noqa: TC003  # as above
from types import MappingProxyType
from typing import Literal, TypeAlias, final

import attrs

from hastack._config._fields import Bytes, Seconds, setting
from hastack._config._secret import Secret  # noqa: TC001  # annotations are resolved at runtime
from hastack._config._settings import BreakerConfig, section

Signal: TypeAlias = Literal["traces", "metrics", "logs"]
SIGNALS: tuple[Signal, ...] = ("traces", "metrics", "logs")


def _breaker() -> BreakerConfig:
    return BreakerConfig(window_calls=10, min_calls=5, open_for=1.0, open_max=30.0)


@final
@attrs.frozen(kw_only=True)
class SpillConfig:
    """Where bodies go when memory is full and `QueueConfig.when_full` is ``"spill"``."""

    directory: Path | None = setting(None, help="Made when it is missing; one for all exporters.")
    max_bytes: Bytes = setting(1024 * 1024 * 1024, minimum=65536, help="On disk, per exporter.")
    when_full: Literal["drop-newest", "drop-oldest"] = setting(
        "drop-newest", help="What is lost when max_bytes are used."
    )
    fsync: Literal["record", "segment", "never"] = setting(
        "segment", help="When written bodies are forced to the disk itself."
    )


@final
@attrs.frozen(kw_only=True)
class QueueConfig:
    """How much one exporter holds, and what happens when that is reached."""

    max_units: int = setting(
        1_000_000, minimum=1, unit="units", help="Spans, records or data points in memory."
    )
    max_bytes: Bytes = setting(64 * 1024 * 1024, minimum=1024, help="Memory for them.")
    when_full: Literal["block", "drop-newest", "drop-oldest", "spill"] = setting(
        "block", help="What happens to a new item then."
    )
    max_block: Seconds = setting(
        1.0, minimum=0.0, help="Longest wait for room; the context's deadline may end it earlier."
    )
    batch: int = setting(2048, minimum=1, unit="units", help="Units encoded together.")
    max_body: Bytes = setting(
        3 * 1024 * 1024, minimum=1024, help="Longest request body before compression."
    )
    linger: Seconds = setting(1.0, minimum=0.0, help="Longest wait for a batch to fill.")
    shards: int = setting(4, minimum=1, maximum=64, help="Requests in flight at most.")


@final
@attrs.frozen(kw_only=True)
class BackendConfig:
    """Where signals go."""

    kind: Literal["otlp-http", "otlp-grpc", "loki", "remote-write"] = setting(
        "otlp-http", help="Protocol."
    )
    endpoint: str = setting(help="URL; for otlp-http without /v1/traces and so on.")
    signals: tuple[Literal["traces", "metrics", "logs"], ...] | None = setting(
        None, help="What is sent there; unset: all that the protocol carries."
    )
    headers: Mapping[str, str] = setting(
        factory=lambda: MappingProxyType({}), help="Further header fields."
    )
    token: Secret | None = setting(None, help="Sent as 'Authorization: Bearer ...'.")
    compression: str | None = setting(None, help="Unset: the best that the protocol knows.")
    form: Literal["protobuf", "json"] = setting(
        "protobuf", help="Of the body; 'json' is for loki only."
    )
    histograms: Literal["native", "classic", "custom"] = setting(
        "native",
        help="remote-write: 'native' sends exponential histograms as native ones, 'custom' those "
        "with explicit bounds as well (version 2), 'classic' buckets for all.",
    )
    timeout: Seconds = setting(10.0, above=0.0, help="Time for one request.")
    ca_file: str | None = setting(None, help="Trusted certificates, in place of the system's.")
    cert_file: str | None = setting(None, help="Own certificate.")
    key_file: str | None = setting(None, help="Key of the own certificate.")
    breaker: BreakerConfig = setting(
        factory=_breaker, help="When to stop trying; shared by all signals of the backend."
    )


@final
@attrs.frozen(kw_only=True)
class EventsConfig:
    """What `hastack.events` become."""

    metrics: bool = setting(True, help="Count them.")
    spans: bool = setting(True, help="Those that say how long something took become spans.")
    logs: bool = setting(True, help="Write a log record for each.")


@final
@attrs.frozen(kw_only=True)
class PrometheusConfig:
    """A page for Prometheus to scrape."""

    enabled: bool = setting(False, help="Whether it is served.")
    host: str | None = setting(
        None, help="Address to listen on; unset: OTEL_EXPORTER_PROMETHEUS_HOST, or localhost."
    )
    port: int | None = setting(
        None, minimum=0, maximum=65535, help="Unset: OTEL_EXPORTER_PROMETHEUS_PORT, or 9464."
    )
    path: str = setting("/metrics", help="Where the page is.")
    strategy: Literal[
        "UnderscoreEscapingWithSuffixes",
        "UnderscoreEscapingWithoutSuffixes",
        "NoUTF8EscapingWithSuffixes",
        "NoTranslation",
    ] = setting("UnderscoreEscapingWithSuffixes", help="How names are translated.")
    scope_labels: bool = setting(True, help="Series carry otel_scope_name and the like.")
    target_info: bool = setting(True, help="The resource is shown as target_info.")
    resource_labels: tuple[str, ...] = setting(
        (), help="Resource attributes that each series carries as well."
    )
    created: bool = setting(False, help="Show when counters started, as _created.")
    max_scrapes: int = setting(4, minimum=1, unit="scrapes", help="At once.")
    timeout: Seconds = setting(5.0, above=0.0, help="Time a client has to ask, and to listen.")


@final
@attrs.frozen(kw_only=True)
class ObserveConfig:
    """The ``observe`` table of the configuration."""

    service: str | None = setting(
        None, help="service.name; unset: OTEL_SERVICE_NAME or OTEL_RESOURCE_ATTRIBUTES."
    )
    resource: Mapping[str, str] = setting(
        factory=lambda: MappingProxyType({}), help="Further resource attributes."
    )
    backends: Mapping[str, BackendConfig] = setting(
        factory=lambda: MappingProxyType({}), help="Backends by name."
    )
    queue: QueueConfig = setting(factory=QueueConfig, help="What each exporter holds.")
    spill: SpillConfig = setting(factory=SpillConfig, help="What goes to disk.")
    events: EventsConfig = setting(factory=EventsConfig, help="What hastack's own events become.")
    metrics_every: Seconds = setting(60.0, above=0.0, help="Time between two collections.")
    max_series: int = setting(
        2000, minimum=2, unit="series", help="Of one of hastack's instruments in one process."
    )
    metrics_directory: Path | None = setting(
        None, help="Shared by processes that count together; see hastack.observe.instruments."
    )
    prometheus: PrometheusConfig = setting(
        factory=PrometheusConfig, help="A page for Prometheus to scrape."
    )
    status: Path | None = setting(
        None, help="A directory where each process writes its accounts, for hastack observe tail."
    )
    log_level: str | None = setting(
        "INFO", help="Records of the logging module from this level on; unset: none."
    )

    def __attrs_post_init__(self) -> None:
        if self.queue.when_full == "spill" and self.spill.directory is None:
            raise ValueError("queue.when_full = 'spill' needs spill.directory")


OBSERVE = section("observe", ObserveConfig)
