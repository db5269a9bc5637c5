"""One encoder in several threads, its caches thrown away all the time: the bodies stay right."""

import sys
import threading

import pytest
from opentelemetry._logs import LogRecord
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext

from hastack.observe import PrometheusText, _attribute_memory, _fragments
from hastack.observe._loki import LokiPush
from hastack.observe._otlp_logs import OtlpLogs
from hastack.observe._otlp_metrics import OtlpMetrics
from hastack.observe._otlp_traces import OtlpTraces
from hastack.observe._remote_write import RemoteWrite

RESOURCES = [Resource({"service.name": name}) for name in "ab"]
SCOPE = InstrumentationScope("tests")


def spans(seed):
    return [
        ReadableSpan(
            f"n{n % 7}",
            context=SpanContext(1, n + 1, is_remote=False),
            resource=RESOURCES[n % 2],
            instrumentation_scope=SCOPE,
            attributes={"a": f"v{(n + seed) % 40}", "n": n, f"k{n % 9}": "x"},
            start_time=1,
            end_time=2,
        )
        for n in range(60)
    ]


def logs(seed):
    found = []
    for n in range(60):
        attributes = {"a": f"v{(n + seed) % 40}", "n": n, f"k{n % 9}": "x"}
        record = LogRecord(observed_timestamp=n + 1, body=f"{n}", attributes=attributes)
        found.append(ReadableLogRecord(record, RESOURCES[n % 2], SCOPE))
    return found


def metrics(seed):
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], RESOURCES[0], shutdown_on_exit=False)
    meter = provider.get_meter("tests")
    for n in range(60):
        meter.create_counter(f"c{n % 3}").add(n, {"a": f"v{(n + seed) % 40}", "n": n})
        meter.create_histogram("h").record(n, {"a": f"v{n % 5}"})
    data = reader.get_metrics_data()
    provider.shutdown()
    return [data]


def body(encoder):
    def encode(items):
        out = bytearray()
        encoder.encode(items, out)
        return bytes(out)

    return encode


def page(text):
    return lambda items: text.render(items[0]).body


MAKERS = {
    "traces": (lambda: body(OtlpTraces()), spans),
    "logs": (lambda: body(OtlpLogs()), logs),
    "metrics": (lambda: body(OtlpMetrics()), metrics),
    "loki-protobuf": (lambda: body(LokiPush()), logs),
    "loki-json": (lambda: body(LokiPush(form="json")), logs),
    "remote-write-1": (lambda: body(RemoteWrite()), metrics),
    "remote-write-2": (lambda: body(RemoteWrite(version=2)), metrics),
    "text": (lambda: page(PrometheusText()), metrics),
}


@pytest.mark.parametrize("name", MAKERS)
def test_threads_share_an_encoder(name, monkeypatch):
    monkeypatch.setattr(_fragments, "BUDGET", 4000)
    monkeypatch.setattr(_fragments, "DISTINCT", 8)
    monkeypatch.setattr(_attribute_memory, "_SPARE", 0)
    make, items_of = MAKERS[name]
    shared = make()
    batches = [items_of(seed) for seed in range(4)]
    expected = [make()(batch) for batch in batches]
    wrong = []

    def work(number):
        for turn in range(12):
            place = (number + turn) % 4
            if shared(batches[place]) != expected[place]:
                wrong.append((number, turn))

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert not wrong
