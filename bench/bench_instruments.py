"""Counting and collecting: hastack's instruments, the OpenTelemetry SDK's, prometheus_client's.

usage: python bench/bench_instruments.py
"""

import tempfile

import prometheus_client
from harness import ns_per_call, table
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from hastack.observe.instruments import Metrics

ATTRIBUTES = {"http.route": "/order", "http.response.status_code": "200", "server.address": "a"}
SERIES = 10_000


def counting():
    rows = {}
    for label, metrics in (
        ("hastack", Metrics()),
        ("hastack, shared directory", Metrics(directory=tempfile.mkdtemp())),
    ):
        counter = metrics.meter("m").counter("c")
        histogram = metrics.meter("m").histogram("h").bind(ATTRIBUTES)
        rows[f"{label}, bound add"] = ns_per_call(counter.bind(ATTRIBUTES).add)
        rows[f"{label}, add with attributes"] = ns_per_call(lambda c=counter: c.add(1, ATTRIBUTES))
        rows[f"{label}, bound record"] = ns_per_call(lambda h=histogram: h.record(0.3))
    registry = prometheus_client.CollectorRegistry()
    names = [name.replace(".", "_") for name in ATTRIBUTES]
    theirs = prometheus_client.Counter("c", "c", names, registry=registry)
    child = theirs.labels(*ATTRIBUTES.values())
    rows["prometheus_client, child inc"] = ns_per_call(child.inc)
    rows["prometheus_client, labels().inc"] = ns_per_call(
        lambda: theirs.labels(*ATTRIBUTES.values()).inc()
    )
    provider = MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False)
    otel = provider.get_meter("m").create_counter("c")
    histogram = provider.get_meter("m").create_histogram("h")
    rows["OpenTelemetry SDK, add"] = ns_per_call(lambda: otel.add(1, ATTRIBUTES))
    rows["OpenTelemetry SDK, record"] = ns_per_call(lambda: histogram.record(0.3, ATTRIBUTES))
    table("Counting", rows, base="hastack, bound add")


def collecting():
    rows = {}
    for label, directory in (("hastack", None), ("hastack, shared directory", tempfile.mkdtemp())):
        metrics = Metrics(limit=SERIES + 1, directory=directory)
        counter = metrics.meter("m").counter("c")
        for number in range(SERIES):
            counter.add(1, {"n": number})
        rows[f"{label}, series"] = ns_per_call(metrics.series, number=1) / 1e3
        rows[f"{label}, as MetricsData"] = ns_per_call(metrics.collect, number=1) / 1e3
    directory = tempfile.mkdtemp()
    for _ in range(50):
        worker = Metrics(directory=directory)
        counter = worker.meter("m").counter("c")
        for number in range(200):
            counter.add(1, {"n": number})
        workers.append(worker)
    rows["hastack, 50 workers x 200, series"] = ns_per_call(workers[0].series, number=1) / 1e3
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    otel = provider.get_meter("m").create_counter("c")
    for number in range(SERIES):
        otel.add(1, {"n": number})
    rows["OpenTelemetry SDK (2,000 of them)"] = ns_per_call(reader.get_metrics_data, number=1) / 1e3
    table(f"Collecting {SERIES:,} series", rows, base="hastack, series", unit="us")


workers: list[Metrics] = []

if __name__ == "__main__":
    counting()
    collecting()
