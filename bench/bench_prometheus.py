"""A page of 10,000 series, with prometheus_client and OpenTelemetry's exporter on the same numbers.

Run as ``python bench/bench_prometheus.py``. What hastack renders is what the SDK collected, so the
collection by the SDK is shown apart; OpenTelemetry's exporter cannot do without it.
"""

from __future__ import annotations

import sys

from bench_otlp import best
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.resources import Resource
from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics

from hastack.observe import MetricsEndpoint, PrometheusText
from hastack.observe.instruments import Metrics

try:
    from opentelemetry.exporter.prometheus import PrometheusMetricReader
except ImportError:
    PrometheusMetricReader = None

RESOURCE = Resource({"service.name": "orders"})
OPENMETRICS = "application/openmetrics-text;version=1.0.0"


def fill(provider: MeterProvider) -> None:
    meter = provider.get_meter("bench", "1.0")
    for place in range(10):
        counter = meter.create_counter(f"http.requests.{place}", description="Requests")
        for number in range(1000):
            counter.add(number, {"method": "GET", "route": f"/r/{number}", "status": "200"})


def peers() -> CollectorRegistry:
    registry = CollectorRegistry()
    names = ["method", "route", "status", "otel_scope_name", "otel_scope_version"]
    for place in range(10):
        counter = Counter(f"http_requests_{place}", "Requests", names, registry=registry)
        for number in range(1000):
            counter.labels("GET", f"/r/{number}", "200", "bench", "1.0").inc(number)
    return registry


def own() -> Metrics:
    """The same numbers in hastack's instruments."""
    metrics = Metrics(limit=2000)
    for place in range(10):
        counter = metrics.meter("bench", "1.0").counter(f"http.requests.{place}")
        for number in range(1000):
            counter.add(number, {"method": "GET", "route": f"/r/{number}", "status": "200"})
    return metrics


def main() -> None:
    metrics = own()
    endpoint = MetricsEndpoint(lambda: metrics.collect(RESOURCE))
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], RESOURCE, shutdown_on_exit=False)
    fill(provider)
    data = reader.get_metrics_data()
    page = PrometheusText()
    registry = peers()
    rows = {
        "prometheus_client, text": lambda: generate_latest(registry),
        "prometheus_client, OpenMetrics": lambda: generate_openmetrics(registry),
        "hastack, text": lambda: page.render(data),
        "hastack, OpenMetrics": lambda: page.render(data, accept=OPENMETRICS),
        "hastack, the first page": lambda: PrometheusText().render(data),
        "hastack's instruments: collecting alone": lambda: metrics.collect(RESOURCE),
        "hastack's instruments, collected and rendered": lambda: page.render(
            metrics.collect(RESOURCE)
        ),
        "the same, compressed: a whole scrape": lambda: endpoint.answer(encoding="gzip"),
        "OpenTelemetry SDK: collecting alone": reader.get_metrics_data,
        "hastack, with that collection": lambda: page.render(reader.get_metrics_data()),
    }
    if PrometheusMetricReader is not None:
        exporter = PrometheusMetricReader()
        fill(MeterProvider([exporter], RESOURCE, shutdown_on_exit=False))
        rows["OpenTelemetry's exporter, with that collection"] = generate_latest
    times = {name: best(call, 7) for name, call in rows.items()}
    base = times["hastack, text"]
    print(
        f"Python {sys.version.split()[0]}, 10,000 counters with 5 labels; the fastest of 7 runs.\n"
    )
    print("| | ms | x hastack, text |\n|---|---:|---:|")
    for name, seconds in times.items():
        print(f"| {name} | {seconds * 1000:.1f} | {seconds / base:.1f} |")


if __name__ == "__main__":
    main()
