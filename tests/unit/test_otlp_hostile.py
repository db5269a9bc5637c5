"""Values that OTLP cannot hold, objects that lie, other threads at work: encoded anyway, and counted."""

import math
import threading
from types import SimpleNamespace

import pytest
from opentelemetry._logs import LogRecord
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk.metrics import Exemplar
from opentelemetry.sdk.metrics._internal.point import Buckets
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    ExponentialHistogram,
    ExponentialHistogramDataPoint,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan, TracerProvider
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, Status, StatusCode, TraceFlags
from opentelemetry.trace.span import TraceState

from hastack.observe import (
    _fragments,
    _otlp_attributes,
    _otlp_lenient,
    _otlp_points,
    _otlp_values,
)
from hastack.observe._otlp_logs import OtlpLogs
from hastack.observe._otlp_metrics import OtlpMetrics
from hastack.observe._otlp_traces import OtlpTraces

RESOURCE = Resource({"service.name": "orders"})
SCOPE = InstrumentationScope("tests", "1.0")
CONTEXT = SpanContext(5, 7, is_remote=False, trace_flags=TraceFlags(1))


class Silent:
    """Has no text."""

    def __str__(self):
        raise RuntimeError("no text")

    __repr__ = __str__


class Boolless:
    def __bool__(self):
        raise RuntimeError("neither")


class Breaking(dict):
    """A mapping that fails while it is read."""

    def items(self):
        raise KeyError("gone")


class Racing(dict):
    """A mapping that changes under every reader, or only under the first few."""

    def __init__(self, *args, times=1000):
        super().__init__(*args)
        self.times = times

    def items(self):
        self.times -= 1
        if self.times >= 0:
            raise RuntimeError("dictionary changed size during iteration")
        return super().items()


def span(**fields):
    defaults = {
        "context": CONTEXT,
        "resource": RESOURCE,
        "instrumentation_scope": SCOPE,
        "start_time": 1,
        "end_time": 2,
    }
    return ReadableSpan(fields.pop("name", "work"), **(defaults | fields))


def encode(encoder, items, message):
    out = bytearray()
    done = encoder.encode(items, out)
    assert done.size == len(out)
    return message.FromString(bytes(out)), done


def encode_spans(*items):
    return encode(OtlpTraces(), items, ExportTraceServiceRequest)


def only_span(message):
    ((resource,),) = (message.resource_spans,)
    ((scope,),) = (resource.scope_spans,)
    ((found,),) = (scope.spans,)
    return found


def attribute_of(value):
    """How a span attribute arrives: its AnyValue and what was repaired."""
    message, done = encode_spans(span(attributes={"key": value}))
    (pair,) = only_span(message).attributes
    assert pair.key == "key"
    return pair.value, done.repaired


cycle = []
cycle.append(cycle)
wide = []
for _ in range(40):
    wide = [wide, wide]


@pytest.mark.parametrize(
    ("value", "field", "expected"),
    [
        ("a\ud800b", "string_value", "a\ufffdb"),
        ("\ud83d\ude00", "string_value", "\U0001f600"),  # a pair that was split, made whole
        (1 << 63, "string_value", str(1 << 63)),
        (-(1 << 63) - 1, "string_value", str(-(1 << 63) - 1)),
        (1 << 20000, "string_value", hex(1 << 20000)),
        (Silent(), "string_value", "<Silent>"),
        (2 + 1j, "string_value", "(2+1j)"),
        (Breaking(a=1), "string_value", "<Breaking>"),
        (
            {
                1,
            },
            "string_value",
            "{1}",
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_value_that_otlp_cannot_hold_is_repaired_and_counted(value, field, expected):
    found, repaired = attribute_of(value)
    assert getattr(found, field) == expected
    assert repaired == 1


class Name(str):
    __slots__ = ()

    def encode(self, *_):
        return b"a lie"

    def __str__(self):
        return "another lie"


def test_a_string_of_a_subclass_is_its_characters():
    found, repaired = attribute_of(Name("true"))
    assert found.string_value == "true"
    assert repaired == 0


def test_bytes_of_any_kind_and_nan():
    for value in (b"\xff", bytearray(b"\xff"), memoryview(b"\xff")):
        assert attribute_of(value)[0].bytes_value == b"\xff"
    assert math.isnan(attribute_of(math.nan)[0].double_value)


def test_nesting_without_end_is_cut_where_receivers_stop_parsing():
    found, repaired = attribute_of(cycle)
    assert repaired == 1
    depth = 0
    while found.HasField("array_value"):
        (found,) = found.array_value.values
        depth += 1
    assert depth == _otlp_values.DEPTH
    assert found.string_value == "<list nested too deep or too large>"


def test_nesting_that_doubles_at_each_level_ends(monkeypatch):
    monkeypatch.setattr(_otlp_values, "NODES", 1000)
    _, repaired = attribute_of(wide)
    assert repaired > 100


def test_keys_that_are_none():
    message, done = encode_spans(span(attributes={1: "a", "\udfff": "b", "": True, Silent(): "c"}))
    keys = [pair.key for pair in only_span(message).attributes]
    assert keys == ["1", "\ufffd", "", "<Silent>"]
    assert done.repaired == 3


def test_the_good_attributes_beside_a_bad_one_stay():
    attributes = {"a": 1, "b": "\ud800", "c": [1, "\udc00"], "d": 2.5, "e": "x"}
    message, done = encode_spans(span(attributes=BoundedAttributes(9, attributes)))
    values = {pair.key: pair.value for pair in only_span(message).attributes}
    assert values["a"].int_value == 1
    assert values["b"].string_value == "\ufffd"
    assert values["c"].array_value.values[1].string_value == "\ufffd"
    assert values["d"].double_value == 2.5
    assert values["e"].string_value == "x"
    assert done.repaired == 2


@pytest.mark.parametrize("attributes", [Breaking(a=1), 5, Racing({"a": 1}, times=2000)])
def test_attributes_that_cannot_be_read_are_left_out_and_counted(attributes):
    broken = SimpleNamespace(context=CONTEXT, name="x", attributes=attributes)
    message, done = encode_spans(broken)
    if isinstance(attributes, Racing):  # the whole is copied at last
        assert only_span(message).attributes[0].key == "a"
        assert done.repaired == 0
    else:
        assert not only_span(message).attributes
        assert done.repaired == 1


def test_attributes_that_change_meanwhile_are_read_again():
    busy = SimpleNamespace(context=CONTEXT, name="x", attributes=Racing({"a": 1}, times=3))
    message, done = encode_spans(busy)
    assert only_span(message).attributes[0].value.int_value == 1
    assert done.repaired == 0


@pytest.mark.parametrize(
    ("field", "value", "attribute", "expected", "repaired"),
    [
        ("name", None, "name", "", 0),
        ("name", 5, "name", "5", 0),
        ("name", "\ud800", "name", "\ufffd", 1),
        ("name", Boolless(), "name", "", 1),
        ("start_time", -1, "start_time_unix_nano", 0, 1),
        ("start_time", None, "start_time_unix_nano", 0, 0),
        ("end_time", 1 << 64, "end_time_unix_nano", (1 << 64) - 1, 1),
        ("end_time", "soon", "end_time_unix_nano", 0, 1),
        ("end_time", math.inf, "end_time_unix_nano", 0, 1),
        ("kind", None, "kind", 1, 0),
        ("kind", 77, "kind", 1, 1),
        ("parent", object(), "parent_span_id", bytes(8), 1),
        ("status", Status(StatusCode.ERROR, "\ud800"), "status", None, 1),
        ("status", None, "status", None, 0),
        ("events", 5, "events", [], 1),
        ("links", None, "links", [], 1),
        ("context", SpanContext(1 << 200, 7, is_remote=True), "trace_id", bytes(16), 1),
        ("context", SimpleNamespace(trace_id=1, span_id=2, trace_flags=300), "flags", 0x1FF, 1),
    ],
)
def test_one_bad_field_costs_only_itself(field, value, attribute, expected, repaired):
    good = span()
    setattr(good, f"_{field}", value)
    message, done = encode_spans(good)
    found = only_span(message)
    if expected is not None:
        assert type(expected)(getattr(found, attribute)) == expected
    assert done.repaired == repaired
    assert done.units == 1


def test_what_is_no_span_is_left_out_and_counted():
    message, done = encode_spans(span(), None, object(), span(context=None), span(name="last"))
    names = [s.name for s in message.resource_spans[0].scope_spans[0].spans]
    assert names == ["work", "last"]
    assert (done.taken, done.units, done.unsupported, done.repaired) == (5, 2, 3, 0)


def test_fields_that_are_no_sequences():
    odd = SimpleNamespace(context=CONTEXT, name="x", events=5, links=Silent())
    message, done = encode_spans(odd)
    assert not only_span(message).events
    assert done.repaired == 2


def test_a_trace_state_beside_bad_fields():
    state = TraceState([("k", "v")])
    message, done = encode_spans(span(context=SpanContext(5, 7, is_remote=True, trace_state=state)))
    assert only_span(message).trace_state == "k=v"
    assert done.repaired == 0


def test_a_remote_parent_beside_bad_fields():
    message, done = encode_spans(span(parent=SpanContext(5, 9, is_remote=True), start_time=-1))
    assert only_span(message).flags == 0x301
    assert only_span(message).parent_span_id == (9).to_bytes(8, "big")
    assert done.repaired == 1


def test_mappings_inside_values():
    found, repaired = attribute_of({"a": {"b": 1, 2: None}})
    (inner,) = found.kvlist_value.values
    assert [pair.key for pair in inner.value.kvlist_value.values] == ["b", "2"]
    assert repaired == 0


def test_equal_resources_share_a_group():
    twins = [span(resource=Resource({"service.name": "orders"})) for _ in range(2)]
    scopes = [span(instrumentation_scope=InstrumentationScope("tests", "1.0")) for _ in range(2)]
    message, _ = encode_spans(*twins, *scopes)
    assert len(message.resource_spans[0].scope_spans[0].spans) == 4


def test_events_and_links_with_bad_fields():
    events = [Event("e", {"k": "\ud800"}, -1), object()]
    links = [Link(CONTEXT, {"k": 1}), Link(None)]
    message, done = encode_spans(span(events=events, links=links))
    found = only_span(message)
    assert [event.name for event in found.events] == ["e", ""]
    assert found.events[0].attributes[0].value.string_value == "\ufffd"
    assert found.links[0].flags == 0x101
    assert found.links[1].trace_id == bytes(16)
    assert done.repaired == 4


class Redacting(ReadableSpan):
    @property
    def attributes(self):
        return {"redacted": True}

    @property
    def resource(self):
        raise RuntimeError("none of your business")


def test_a_property_that_a_subclass_overrides_is_honoured():
    secret = Redacting("x", context=CONTEXT, attributes={"password": "p"}, resource=RESOURCE)
    encoder = OtlpTraces()
    for _ in range(2):
        message, done = encode(encoder, [secret], ExportTraceServiceRequest)
        assert [pair.key for pair in only_span(message).attributes] == ["redacted"]
        assert done.repaired == 1  # the resource
        assert not message.resource_spans[0].resource.attributes


def test_a_trace_state_that_fails():
    class State:
        def __len__(self):
            return 1

    bad = SpanContext(5, 7, is_remote=False, trace_state=State())
    message, done = encode_spans(span(context=bad))
    assert only_span(message).trace_state == ""
    assert done.repaired == 1


def test_resources_and_scopes_with_bad_fields_are_encoded_anew_each_time():
    resource = Resource({"service.name": "\ud800"})
    scope = InstrumentationScope("\ud800", attributes={"a": "\ud800"})
    encoder = OtlpTraces()
    for _ in range(2):
        bad = span(resource=resource, instrumentation_scope=scope)
        message, done = encode(encoder, [bad], ExportTraceServiceRequest)
        assert done.repaired == 3
        assert message.resource_spans[0].resource.attributes[0].value.string_value == "\ufffd"
        assert message.resource_spans[0].scope_spans[0].scope.name == "\ufffd"


def test_a_resource_that_may_change_is_not_kept():
    resource = SimpleNamespace(attributes={"a": 1}, schema_url="")
    encoder = OtlpTraces()
    for number in (1, 2):
        resource.attributes["a"] = number
        message, _ = encode(encoder, [span(resource=resource)], ExportTraceServiceRequest)
        assert message.resource_spans[0].resource.attributes[0].value.int_value == number


def test_resources_made_anew_by_each_access_are_not_mixed_up():
    class Fresh(ReadableSpan):
        @property
        def resource(self):
            return Resource({"service.name": self.name})

    items = [Fresh(str(n), context=CONTEXT) for n in range(300)]
    message, _ = encode_spans(*items)
    assert len(message.resource_spans) == 300
    for group in message.resource_spans:
        assert group.resource.attributes[0].value.string_value == group.scope_spans[0].spans[0].name


def test_names_and_classes_are_forgotten_when_there_are_too_many(monkeypatch):
    monkeypatch.setattr("hastack.observe._otlp_batch.TEXTS", 4)
    monkeypatch.setattr(_otlp_lenient, "KNOWN", 2)
    encoder = OtlpTraces()
    for n in range(9):
        provider = TracerProvider()
        live = provider.get_tracer("t").start_span(f"n{n}")
        live.end()
        other = type(f"Span{n}", (ReadableSpan,), {"kind": property(lambda self: None)})
        message, _ = encode(encoder, [live, other("x", context=CONTEXT)], ExportTraceServiceRequest)
        assert message.resource_spans[0].scope_spans[0].spans[0].name == f"n{n}"
    assert len(encoder._names.known) <= 4
    logs = OtlpLogs()
    for n in range(9):
        record = LogRecord(observed_timestamp=1, severity_text=f"T{n}")
        message, _ = encode(logs, [ReadableLogRecord(record, RESOURCE)], ExportLogsServiceRequest)
        assert message.resource_logs[0].scope_logs[0].log_records[0].severity_text == f"T{n}"
    assert len(logs._severities.known) <= 4


def test_fragments_stay_within_their_budget(monkeypatch):
    monkeypatch.setattr(_fragments, "BUDGET", 20_000)
    monkeypatch.setattr(_fragments, "DISTINCT", 16)
    attributes = _otlp_attributes.Attributes(b"\x4a")
    attributes._fragments.room = 20_000
    for n in range(2000):
        parts = []
        attributes.began(1)
        pairs = {"id": f"v{n}", f"key{n % 700}": n % 3, "often": f"o{n % 2}", "n": n}
        attributes.encode(pairs.items(), parts)
        assert len(parts) == 4
        kept = sum(map(len, attributes._fragments.strings.values())) + sum(
            map(len, attributes._fragments.integers.values())
        )
        assert kept < 20_000 / 200
    assert len(attributes._fragments.strings["often"]) in {1, 2}


def test_a_key_whose_values_never_repeat_is_no_longer_kept(monkeypatch):
    monkeypatch.setattr(_fragments, "DISTINCT", 16)
    attributes = _otlp_attributes.Attributes(b"\x4a")
    for n in range(200):
        attributes.began(1)
        attributes.encode([("id", f"v{n}"), ("class", f"c{n // 20}")], [])
    assert not attributes._fragments.strings["id"]
    assert not attributes._fragments.strings["id"].kept
    assert attributes._fragments.strings["class"].kept
    for n in range(200):
        attributes.began(5)  # most spans have another value: worth keeping
        attributes.encode([("some", f"v{n}")], [])
    assert attributes._fragments.strings["some"].kept


@pytest.mark.parametrize("bits", range(1, 64))
def test_varints_of_every_length(bits):
    for number in ((1 << bits) - 1, 1 << bits - 1, -(1 << bits - 1)):
        assert attribute_of(number)[0].int_value == number


def test_dropped_attributes_of_log_records():
    for attributes, dropped in ((BoundedAttributes(1, {"a": 1, "b": 2}), 1), ({"a": 1}, 0)):
        found, _ = only_log(log(attributes=attributes))
        assert found.dropped_attributes_count == dropped
        assert len(found.attributes) == 1
    found, _ = only_log(log(attributes=BoundedAttributes(2, {"a": 1, "b": 2})))
    assert found.dropped_attributes_count == 0


def log(**fields):
    record = LogRecord(observed_timestamp=1)
    for name, value in fields.items():
        setattr(record, name, value)
    return ReadableLogRecord(record, RESOURCE, SCOPE)


def only_log(*items):
    message, done = encode(OtlpLogs(), items, ExportLogsServiceRequest)
    return message.resource_logs[0].scope_logs[0].log_records[0], done


@pytest.mark.parametrize(
    ("field", "value", "attribute", "expected", "repaired"),
    [
        ("timestamp", -5, "time_unix_nano", 0, 1),
        ("body", "\ud800", "body", None, 1),
        ("body", Silent(), "body", None, 1),
        ("severity_number", 3, "severity_number", 3, 0),
        ("severity_number", 99, "severity_number", 0, 1),
        ("severity_text", 3, "severity_text", "3", 0),
        ("event_name", "\ud800", "event_name", "\ufffd", 1),
        ("trace_id", 1 << 129, "trace_id", bytes(16), 1),
        ("trace_flags", None, "flags", 0, 0),
        ("attributes", {"a": "\ud800"}, "dropped_attributes_count", 0, 1),
        ("attributes", 7, "dropped_attributes_count", 0, 1),
    ],
)
def test_one_bad_field_of_a_log_record(field, value, attribute, expected, repaired):
    found, done = only_log(log(**{field: value}))
    if expected is not None:
        assert getattr(found, attribute) == expected
    assert found.observed_time_unix_nano == 1
    assert (done.units, done.repaired) == (1, repaired)


def test_log_data_of_older_sdks_keep_the_resource_in_the_record():
    record = SimpleNamespace(
        timestamp=3,
        observed_timestamp=None,
        body="b",
        attributes={"a": 1},
        resource=RESOURCE,
        severity_number=None,
        severity_text=None,
        trace_id=1,
        span_id=2,
        trace_flags=TraceFlags(1),
    )
    data = SimpleNamespace(log_record=record, instrumentation_scope=SCOPE)
    message, done = encode(OtlpLogs(), [data, object()], ExportLogsServiceRequest)
    (group,) = message.resource_logs
    assert group.resource.attributes[0].value.string_value == "orders"
    assert group.scope_logs[0].scope.name == "tests"
    assert group.scope_logs[0].log_records[0].flags == 1
    assert (done.units, done.unsupported, done.repaired) == (1, 1, 0)


def metrics(*data, name="m"):
    return MetricsData(
        [
            ResourceMetrics(
                RESOURCE,
                [ScopeMetrics(SCOPE, [Metric(name, None, None, each) for each in data], "")],
                "",
            )
        ]
    )


def encode_metrics(*items):
    message, done = encode(OtlpMetrics(), items, ExportMetricsServiceRequest)
    groups = message.resource_metrics
    return (groups[0].scope_metrics[0].metrics if groups else []), done


CUMULATIVE = AggregationTemporality.CUMULATIVE


def test_numbers_that_are_none():
    points = [
        NumberDataPoint({"a": "\ud800"}, 1, 2, 1 << 70, []),
        NumberDataPoint({}, None, -2, "much", []),
        NumberDataPoint({}, 1, 2, True, []),
        NumberDataPoint({}, 1, 2, 3.5, [Exemplar({}, 1 << 70, 5, -1, 1), object()]),
    ]
    for data in (Gauge(points), Sum(points, CUMULATIVE, False)):
        (metric,), done = encode_metrics(metrics(data))
        found = metric.gauge.data_points or metric.sum.data_points
        assert found[0].as_double == float(1 << 70)
        assert found[0].attributes[0].value.string_value == "\ufffd"
        assert math.isnan(found[1].as_double)
        assert found[2].as_int == 1
        assert found[3].exemplars[0].as_double == float(1 << 70)
        assert found[3].exemplars[0].span_id == bytes(8)
        assert math.isnan(found[3].exemplars[1].as_double)
        assert (done.units, done.repaired) == (4, 7)


def test_histograms_with_bad_numbers():
    bad = HistogramDataPoint({"a": 1}, 1, 2, -3, "s", [1, -1], [2.0, None], None, None, [])
    exponential = ExponentialHistogramDataPoint(
        {"a": 1}, 1, 2, 3, 4.0, 1 << 40, 0, Buckets("x", [1, -1]), None, 0, 1.0, None, []
    )
    found, done = encode_metrics(
        metrics(Histogram([bad], CUMULATIVE), ExponentialHistogram([exponential], 9))
    )
    (point,) = found[0].histogram.data_points
    assert (point.count, list(point.bucket_counts), point.explicit_bounds[0]) == (0, [1, 0], 2.0)
    assert not point.HasField("min")
    (point,) = found[1].exponential_histogram.data_points
    assert (point.scale, point.positive.offset) == (0, 0)
    assert list(point.positive.bucket_counts) == [1, 0]
    assert found[1].exponential_histogram.aggregation_temporality == 0
    assert done.repaired == 4 + 4


def test_bounds_are_kept_while_they_are_the_same(monkeypatch):
    monkeypatch.setattr(_otlp_points, "BOUNDS", 2)
    encoder = OtlpMetrics()
    for n in range(6):
        bounds = [float(n), 100.0]
        for shown in (tuple(bounds), bounds, ()):
            point = HistogramDataPoint({}, 1, 2, 3, 1.0, [1] * (len(shown) + 1), shown, 1, 2, [])
            for _ in range(2):
                data = metrics(Histogram([point], CUMULATIVE))
                message, done = encode(encoder, [data], ExportMetricsServiceRequest)
                (metric,) = message.resource_metrics[0].scope_metrics[0].metrics
                assert list(metric.histogram.data_points[0].explicit_bounds) == list(shown)
                assert done.repaired == 0
    assert len(encoder._points._bounds) <= 2


def test_a_histogram_of_many_buckets():
    point = HistogramDataPoint({}, 1, 2, 3, 1.0, [7] * 2001, list(range(2000)), 1, 2, [])
    (metric,), _ = encode_metrics(metrics(Histogram([point], CUMULATIVE)))
    assert list(metric.histogram.data_points[0].bucket_counts) == [7] * 2001
    point = HistogramDataPoint({}, 1, 2, 3, 1.0, [], [], 1, 2, [])
    (metric,), _ = encode_metrics(metrics(Histogram([point], CUMULATIVE)))
    assert not metric.histogram.data_points[0].bucket_counts


class Special(Sum):
    """A subclass is what its parent is."""


def test_an_exponential_histogram_without_extremes():
    point = ExponentialHistogramDataPoint(
        {}, 1, 2, 3, 4.0, -3, 0, Buckets(-7, [1, 2]), Buckets(0, []), 0, None, None, []
    )
    (found,), done = encode_metrics(metrics(ExponentialHistogram([point], CUMULATIVE)))
    (point,) = found.exponential_histogram.data_points
    assert (point.scale, point.positive.offset) == (-3, -7)
    assert not point.HasField("negative")
    assert done.repaired == 0


def test_kinds_of_data():
    point = NumberDataPoint({}, 1, 2, 3, [])
    unknown = SimpleNamespace(data_points=[point, point])
    data = metrics(unknown, Special([point], CUMULATIVE, True), None, Gauge(None))
    found, done = encode_metrics(data, object(), MetricsData(None))
    assert [metric.sum.is_monotonic for metric in found] == [True]
    assert (done.taken, done.units, done.unsupported) == (5, 1, 4)
    again, done = encode(OtlpMetrics(), [], ExportMetricsServiceRequest)
    assert (again.ByteSize(), done.taken) == (0, 0)
    out = bytearray()
    assert OtlpMetrics().encode([data], out, start=4).taken == 1
    assert not out


def test_spans_that_other_threads_write_to():
    provider = TracerProvider()
    live = provider.get_tracer("t").start_span("live")
    stop = threading.Event()

    def write():
        n = 0
        while not stop.is_set():
            n += 1
            live.set_attribute(f"k{n % 100}", n)
            live.add_event("e", {"n": n})

    writers = [threading.Thread(target=write) for _ in range(2)]
    for writer in writers:
        writer.start()
    try:
        encoder = OtlpTraces()
        for _ in range(200):
            message, done = encode(encoder, [live], ExportTraceServiceRequest)
            assert (done.units, done.repaired) == (1, 0)
            assert len(only_span(message).attributes) <= 128
    finally:
        stop.set()
        for writer in writers:
            writer.join()
