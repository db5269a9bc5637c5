"""Encoding spans, metrics and logs, with the official encoder on the same objects.

Run as ``python bench/bench_otlp.py [batch]``.
"""

from __future__ import annotations

import gc
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import TraceFlags

from hastack.observe._loki import LokiPush
from hastack.observe._otlp_logs import OtlpLogs
from hastack.observe._otlp_metrics import OtlpMetrics
from hastack.observe._otlp_traces import OtlpTraces
from hastack.observe._remote_write import RemoteWrite

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "support"))
from wire_messages import LOKI  # made from field numbers, for the tests

UNITS = 8192
RESOURCE = Resource(
    {"service.name": "orders", "service.instance.id": "i-1", "host.name": "h", "k8s.pod.name": "p"}
)
SCOPE = InstrumentationScope("bench", "1.0")


def attributes(number: int, unique: int) -> dict[str, object]:
    """Ten attributes, of which so many are never the same again."""
    found: dict[str, object] = {
        "http.request.method": ("GET", "POST", "PUT")[number % 3],
        "url.scheme": "https",
        "server.address": f"api-{number % 20}.example.com",
        "server.port": 443,
        "http.route": f"/users/{number % 40}/orders",
        "http.response.status_code": (200, 200, 200, 404, 500)[number % 5],
        "network.protocol.version": "1.1",
        "user_agent.original": f"curl/8.{number % 10}",
        "client.address": f"10.0.0.{number % 200}",
        "enduser.role": "customer",
    }
    for place in range(unique):
        found[list(found)[-1 - place]] = f"unique-{number}-{place}"
    return found


def spans(unique: int) -> list[object]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(resource=RESOURCE, shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("bench", "1.0")
    with tracer.start_as_current_span("parent"):
        for number in range(UNITS - 1):
            tracer.start_span(f"GET {number % 40}", attributes=attributes(number, unique)).end()
    return list(exporter.get_finished_spans())


def logs() -> list[ReadableLogRecord]:
    found = []
    for number in range(UNITS):
        record = LogRecord(
            timestamp=1_700_000_000_000_000_000 + number,
            observed_timestamp=1_700_000_000_000_000_000 + number,
            severity_number=SeverityNumber.INFO,
            severity_text="INFO",
            body=f"order {number} of customer {number * 7 % 1000} was taken and paid for",
            attributes=BoundedAttributes(
                128, dict(list(attributes(number, 0).items())[:6]), immutable=False
            ),
        )
        record.trace_id, record.span_id, record.trace_flags = number + 1, number + 1, TraceFlags(1)
        found.append(ReadableLogRecord(record, RESOURCE, SCOPE))
    return found


def metrics() -> object:
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], RESOURCE, shutdown_on_exit=False)
    meter = provider.get_meter("bench", "1.0")
    for place in range(4):
        counter = meter.create_counter(f"requests.{place}")
        for number in range(1000):
            counter.add(1, {"method": "GET", "route": f"/{number}", "status": 200})
    for place in range(4):
        histogram = meter.create_histogram(f"latency.{place}")
        for number in range(1000):
            histogram.record(number, {"method": "GET", "route": f"/{number}", "status": 200})
    return reader.get_metrics_data()


def loki_naive(items: list[ReadableLogRecord]) -> bytes:
    """What a hand-written exporter does: dictionaries, and ``json.dumps`` of the whole."""
    streams: dict[str, dict[str, object]] = {}
    for item in items:
        resource = dict(item.resource.attributes or {})
        labels = {
            "service_name": resource["service.name"],
            "k8s_pod_name": resource["k8s.pod.name"],
        }
        stream = streams.setdefault(json.dumps(labels), {"stream": labels, "values": []})
        record = item.log_record
        metadata = {
            "severity_text": record.severity_text,
            "severity_number": str(record.severity_number.value),
            "trace_id": f"{record.trace_id:032x}",
            "span_id": f"{record.span_id:016x}",
            **{key.replace(".", "_"): str(value) for key, value in record.attributes.items()},
        }
        stream["values"].append([str(record.timestamp), record.body, metadata])
    return json.dumps({"streams": list(streams.values())}).encode()


def loki_objects(items: list[ReadableLogRecord]) -> bytes:
    """The same with protobuf objects."""
    request = LOKI["PushRequest"]()
    streams: dict[str, object] = {}
    for item in items:
        resource = dict(item.resource.attributes or {})
        labels = f'{{service_name="{resource["service.name"]}",k8s_pod_name="{resource["k8s.pod.name"]}"}}'
        if labels not in streams:
            streams[labels] = request.streams.add(labels=labels)
        record = item.log_record
        metadata = {
            "severity_text": record.severity_text,
            "severity_number": str(record.severity_number.value),
            "trace_id": f"{record.trace_id:032x}",
            "span_id": f"{record.span_id:016x}",
            **{key.replace(".", "_"): str(value) for key, value in record.attributes.items()},
        }
        entry = streams[labels].entries.add(line=record.body)
        entry.timestamp.seconds, entry.timestamp.nanos = divmod(record.timestamp, 10**9)
        for name, value in metadata.items():
            entry.metadata.add(name=name, value=value)
    return request.SerializeToString()


def best(call: Callable[[], object], rounds: int = 9) -> float:
    """Seconds on the processor of the fastest of so many calls: other programs only ever add."""
    gc.collect()
    gc.disable()
    times = []
    for _ in range(rounds):
        start = time.process_time()
        call()
        times.append(time.process_time() - start)
    gc.enable()
    return min(times)


def encoding(encoder: object, batches: list[list[object]]) -> Callable[[], int]:
    buffer = bytearray()

    def call() -> int:
        size = 0
        for batch in batches:
            buffer.clear()
            size += encoder.encode(batch, buffer).size
        return size

    return call


def show(
    title: str, units: int, official: Callable[[], object], ours: dict[str, Callable[[], int]]
):
    base = best(official)
    print(f"\n### {title}\n\n| | units/s | ns/unit | times the first |\n|---|---:|---:|---:|")
    print(f"| {official.__name__} | {units / base:,.0f} | {base / units * 1e9:,.0f} | 1.0 |")
    for name, call in ours.items():
        size = call()
        seconds = best(call)
        print(
            f"| {name} ({size / units:.0f} B/unit) | {units / seconds:,.0f} "
            f"| {seconds / units * 1e9:,.0f} | {base / seconds:.1f} |"
        )


def main() -> None:
    size = int(sys.argv[1]) if len(sys.argv) > 1 else 512
    print(f"Python {sys.version.split()[0]}, batches of {size}; the fastest of 9 runs.")
    for unique in (0, 1, 3):
        items = spans(unique)
        batches = [items[at : at + size] for at in range(0, len(items), size)]

        def official(batches: list[list[object]] = batches) -> None:
            for batch in batches:
                encode_spans(batch).SerializeToString()

        show(
            f"Spans with 10 attributes, {unique} of them never the same",
            len(items),
            official,
            {"hastack": encoding(OtlpTraces(), batches)},
        )
    records = logs()
    log_batches = [records[at : at + size] for at in range(0, len(records), size)]

    def official_logs() -> None:
        for batch in log_batches:
            encode_logs(batch).SerializeToString()

    show(
        "Log records with 6 attributes",
        len(records),
        official_logs,
        {"hastack": encoding(OtlpLogs(), log_batches)},
    )
    data = metrics()

    def official_metrics() -> None:
        encode_metrics(data).SerializeToString()

    show(
        "Data points: 4,000 sums and 4,000 histograms of 16 buckets, 3 attributes",
        8000,
        official_metrics,
        {
            "hastack": encoding(OtlpMetrics(), [[data]]),
            "hastack, remote write 1": encoding(RemoteWrite(), [[data]]),
            "hastack, remote write 2": encoding(RemoteWrite(version=2), [[data]]),
        },
    )

    def json_dumps() -> None:
        for batch in log_batches:
            loki_naive(batch)

    def protobuf_objects() -> None:
        for batch in log_batches:
            loki_objects(batch)

    for form, naive in (("json", json_dumps), ("protobuf", protobuf_objects)):
        show(
            f"Log records to Loki, {form}",
            len(records),
            naive,
            {"hastack": encoding(LokiPush(form=form), log_batches)},
        )


if __name__ == "__main__":
    main()
