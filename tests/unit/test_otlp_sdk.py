"""What tracers, meters and loggers really make, next to the official encoder."""

import pytest
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Link, SpanContext, Status, StatusCode, TraceFlags
from opentelemetry.trace.span import TraceState

from hastack.observe._otlp_logs import OtlpLogs
from hastack.observe._otlp_metrics import OtlpMetrics
from hastack.observe._otlp_traces import OtlpTraces

RESOURCE = Resource({"service.name": "orders", "host.id": 5}, "https://example.com/schema")
REMOTE = SpanContext(
    0xABC, 0xDEF, is_remote=True, trace_flags=TraceFlags(1), trace_state=TraceState([("k", "v")])
)


def encode(encoder, items, expected):
    out = bytearray()
    done = encoder.encode(items, out)
    assert (done.oversized, done.unsupported, done.repaired) == (0, 0, 0)
    assert type(expected).FromString(bytes(out)) == expected


@pytest.fixture
def finished_spans():
    exporter = InMemorySpanExporter()
    provider = TracerProvider(resource=RESOURCE, shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("tests", "1.0", attributes={"a": 1})
    with tracer.start_as_current_span("root", attributes={"n": 1, "f": 0.5, "b": True}):
        with tracer.start_as_current_span("child", kind=trace.SpanKind.CLIENT) as span:
            span.add_event("happened", {"x": ("a", "b")})
            span.set_status(Status(StatusCode.ERROR, "broken"))
    parent = otel_context.Context()
    parent = trace.set_span_in_context(trace.NonRecordingSpan(REMOTE), parent)
    links = [Link(REMOTE, {"l": 1})]
    tracer.start_span("remote", context=parent, links=links, attributes={"raw": b"\x00"}).end()
    return exporter.get_finished_spans()


def test_spans(finished_spans):
    expected = encode_spans(finished_spans)
    found = expected.resource_spans[0].scope_spans[0].spans
    for span, source in zip(found, finished_spans, strict=True):
        span.flags |= source.context.trace_flags  # what the official encoder leaves out
        for link in span.links:
            link.flags |= 1
            link.trace_state = "k=v"
    encode(OtlpTraces(), finished_spans, expected)


def test_metrics():
    reader = InMemoryMetricReader()
    exponential = InMemoryMetricReader(
        preferred_aggregation={Histogram: ExponentialBucketHistogramAggregation()}
    )
    provider = MeterProvider([reader, exponential], RESOURCE, shutdown_on_exit=False)
    meter = provider.get_meter("tests", "1.0")
    span_context = trace.set_span_in_context(trace.NonRecordingSpan(REMOTE))
    counter = meter.create_counter("c", "1", "counts")
    counter.add(1, {"a": "x"}, context=span_context)
    counter.add(2.5, {"a": "y", "n": 2})
    meter.create_up_down_counter("u").add(-3)
    meter.create_gauge("g", "s").set(1.5, {"z": True})
    histogram = meter.create_histogram("h", "ms", "times")
    for value in (0, 1, 7.5, 1000, 1e6):
        histogram.record(value, {"a": "x"}, context=span_context)
    histogram.record(3)
    for each in (reader, exponential):
        data = each.get_metrics_data()
        encode(OtlpMetrics(), [data], encode_metrics(data))
    provider.shutdown()


@pytest.mark.filterwarnings("ignore:Log record attributes were dropped")
def test_log_records():
    exporter = InMemoryLogRecordExporter()
    provider = LoggerProvider(RESOURCE, shutdown_on_exit=False)
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    logger = provider.get_logger("tests", "1.0")
    span_context = trace.set_span_in_context(trace.NonRecordingSpan(REMOTE))
    for body in ("text", {"a": [1, None]}, None, b"\xff"):
        logger.emit(
            LogRecord(
                timestamp=1,
                context=span_context,
                severity_number=SeverityNumber.WARN,
                severity_text="WARN",
                body=body,
                attributes={"n": 1, "s": "x", "": "dropped"},
                event_name="event",
            )
        )
    logger.emit(LogRecord(body="no trace"))
    items = exporter.get_finished_logs()
    assert len(items) == 5
    encode(OtlpLogs(), items, encode_logs(items))
