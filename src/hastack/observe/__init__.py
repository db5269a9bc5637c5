"""One exporter for metrics, traces and logs to Prometheus, Jaeger and Loki.

Submodules load on first use; OpenTelemetry comes in with the first exporter.

Example:
    >>> from hastack import config, observe
    >>> settings = config.load(env=None, override={"observe": {"service": "shop"}})
    >>> with observe.install(settings, set_global=False) as installed:
    ...     installed.pipeline.accounts()
    {}
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

# Eagerly, so that a configuration with an `observe` table can be read from now on.
from ._options import (
    BackendConfig,
    EventsConfig,
    ObserveConfig,
    PrometheusConfig,
    QueueConfig,
    SpillConfig,
)

if TYPE_CHECKING:
    from ._install import Installed, install
    from ._metrics_server import MetricsServer
    from ._prometheus_page import Exposition
    from ._prometheus_text import PrometheusText
    from ._scrape import MetricsEndpoint
    from .pipeline import Account, Exporter, Pipeline, Report

_HOMES: dict[str, tuple[str, ...]] = {
    "_install": ("Installed", "install"),
    "_metrics_server": ("MetricsServer",),
    "_prometheus_page": ("Exposition",),
    "_prometheus_text": ("PrometheusText",),
    "_scrape": ("MetricsEndpoint",),
    "pipeline": ("Account", "Exporter", "Pipeline", "Report"),
}
_WHERE = {name: home for home, names in _HOMES.items() for name in names}
_MODULES: tuple[str, ...] = ("instruments", "logs", "metrics", "pipeline", "records", "traces")

__all__ = (
    "Account",
    "BackendConfig",
    "EventsConfig",
    "Exporter",
    "Exposition",
    "Installed",
    "MetricsEndpoint",
    "MetricsServer",
    "ObserveConfig",
    "Pipeline",
    "PrometheusConfig",
    "PrometheusText",
    "QueueConfig",
    "Report",
    "SpillConfig",
    "install",
)


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
