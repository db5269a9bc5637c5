"""Batches longer than a request may be: split between units, nothing twice, nothing lost."""

import random

import pytest
from opentelemetry._logs import LogRecord
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Metric,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext

from hastack.observe._otlp_logs import OtlpLogs
from hastack.observe._otlp_metrics import OtlpMetrics
from hastack.observe._otlp_traces import OtlpTraces

RESOURCES = [Resource({"service.name": name * 9}, "u") for name in "ab"]
SCOPES = [InstrumentationScope(name * 9, "1", "u") for name in "cd"]
BIG = "x" * 3000


def places(count):
    chance = random.Random(7)
    return [(chance.choice(RESOURCES), chance.choice(SCOPES), n) for n in range(count)]


def spans(count, big):
    return [
        ReadableSpan(
            BIG if n in big else f"n{n}",
            context=SpanContext(1, n + 1, is_remote=False),
            resource=resource,
            instrumentation_scope=scope,
            start_time=1,
            end_time=2,
        )
        for resource, scope, n in places(count)
    ]


def logs(count, big):
    found = []
    for resource, scope, n in places(count):
        record = LogRecord(observed_timestamp=n + 1, body=BIG if n in big else f"n{n}")
        found.append(ReadableLogRecord(record, resource, scope))
    return found


def metrics(count, big):
    def data(kind, numbers):
        points = [
            NumberDataPoint({"big": BIG} if n in big else {"n": n}, 1, n + 1, n) for n in numbers
        ]
        return Gauge(points) if kind else Sum(points, AggregationTemporality.CUMULATIVE, True)

    numbers = list(range(count))
    cuts = [numbers[: count // 3], numbers[count // 3 : count // 2], numbers[count // 2 :]]
    found = [Metric(f"m{i}", "d", "u", data(i % 2, cut)) for i, cut in enumerate(cuts)]
    scopes = [
        ScopeMetrics(SCOPES[0], found[:2], "u"),
        ScopeMetrics(SCOPES[1], found[2:], "u"),
    ]
    return [MetricsData([ResourceMetrics(RESOURCES[0], scopes, "u")])]


def span_numbers(message):
    return [
        int.from_bytes(span.span_id, "big") - 1
        for group in message.resource_spans
        for scope in group.scope_spans
        for span in scope.spans
    ]


def log_numbers(message):
    return [
        record.observed_time_unix_nano - 1
        for group in message.resource_logs
        for scope in group.scope_logs
        for record in scope.log_records
    ]


def point_numbers(message):
    return [
        point.as_int
        for group in message.resource_metrics
        for scope in group.scope_metrics
        for metric in scope.metrics
        for point in (metric.gauge.data_points or metric.sum.data_points)
    ]


SIGNALS = {
    "traces": (OtlpTraces, spans, ExportTraceServiceRequest, span_numbers),
    "logs": (OtlpLogs, logs, ExportLogsServiceRequest, log_numbers),
    "metrics": (OtlpMetrics, metrics, ExportMetricsServiceRequest, point_numbers),
}


@pytest.fixture(params=SIGNALS, name="signal")
def a_signal(request):
    return SIGNALS[request.param]


def send(encoder, items, max_bytes):
    """All bodies and reports, as the pipeline asks for them."""
    start, total = 0, encoder.count(items)
    out = bytearray()
    while start < total:
        out.clear()
        done = encoder.encode(items, out, max_bytes=max_bytes, start=start)
        assert done.taken >= 1
        assert len(out) == done.size <= max_bytes
        assert bool(done.size) == bool(done.units)
        assert done.taken == done.units + done.oversized + done.unsupported
        yield bytes(out), done
        start += done.taken


@pytest.mark.parametrize("max_bytes", [200, 333, 1000, 2900])
def test_every_unit_arrives_once_in_bodies_within_the_limit(signal, max_bytes):
    make, items_of, message, numbers = signal
    big = {0, 17, 18, 39}
    sent, oversized = [], 0
    for body, done in send(make(), items_of(40, big), max_bytes):
        found = numbers(message.FromString(body))
        assert len(found) == done.units
        sent += found
        oversized += done.oversized
    assert oversized == 4
    assert sorted(sent) == sorted(set(range(40)) - big)


def test_a_body_that_fits_exactly_is_sent_and_one_byte_less_is_too_little(signal):
    make, items_of, _, _ = signal
    encoder = make()
    items = items_of(1, ())
    ((body, _),) = send(encoder, items, 1 << 20)
    ((again, done),) = send(encoder, items, len(body))
    assert again == body
    assert (done.units, done.oversized) == (1, 0)
    ((nothing, done),) = send(encoder, items, len(body) - 1)
    assert nothing == b""
    assert (done.taken, done.units, done.oversized) == (1, 0, 1)


def test_long_records_and_no_records(signal):
    make, items_of, message, numbers = signal
    ((body, done),) = send(make(), items_of(4, {0, 1, 2, 3}), 1 << 20)
    assert done.units == 4
    assert sorted(numbers(message.FromString(body))) == [0, 1, 2, 3]
    out = bytearray(b"kept")
    assert make().encode([], out).taken == 0
    assert out == b"kept"


def test_the_wire_formats_are_named(signal):
    form = signal[0]().format
    assert form.name.startswith("otlp-")
    assert form.content_type == "application/x-protobuf"
    assert form.compressions == ("gzip", "identity")
