"""OpenTelemetry SDK objects of every shape, as hypothesis strategies."""

from hypothesis import strategies as st
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.attributes import BoundedAttributes
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
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util import BoundedList
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.trace.span import TraceState

U64 = (1 << 64) - 1
TEXT = st.text(max_size=12) | st.sampled_from(["", "a" * 130, "é" * 70, "x" * 5000])
KEYS = st.sampled_from(["a", "http.method", "k" * 200, "ключ"]) | st.text(min_size=1, max_size=6)
INTS = st.integers(-(1 << 63), (1 << 63) - 1) | st.sampled_from([0, 1, -1, 127, 128, 16384])
DOUBLES = st.floats() | st.sampled_from([0.0, -0.0, 1.0])
SCALARS = st.booleans() | INTS | DOUBLES | TEXT | st.binary(max_size=9) | st.none()
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=6,
)
ATTRIBUTES = st.dictionaries(KEYS, VALUES, max_size=5)
TIMES = st.integers(0, U64)
TRACE_IDS = st.integers(1, (1 << 128) - 1)
SPAN_IDS = st.integers(1, U64)
TRACE_STATES = st.none() | st.dictionaries(
    st.from_regex(r"[a-z][a-z0-9_]{0,5}", fullmatch=True),
    st.from_regex(r"[a-zA-Z0-9]{1,6}", fullmatch=True),
    max_size=3,
).map(lambda pairs: TraceState(list(pairs.items())))
URLS = st.sampled_from(["", "https://opentelemetry.io/schemas/1.37.0"])


def bounded(attributes, most=3):
    return BoundedAttributes(most, attributes, immutable=False)


@st.composite
def resources(draw):
    # Resources that differ only in 1, True and 1.0 are equal to the SDK: numbers it apart.
    number = draw(st.integers(0, 2))
    return Resource({"service.name": f"s{number}", "n": [number]}, draw(URLS))


@st.composite
def scopes(draw):
    number = draw(st.integers(0, 2))
    version = draw(st.sampled_from([None, "1.2"]))
    attributes = draw(st.sampled_from([None, {"scope": "x", "deep": {"a": [1, None]}}]))
    return InstrumentationScope(f"scope{number}", version, draw(URLS), attributes)


@st.composite
def contexts(draw):
    return SpanContext(
        draw(TRACE_IDS),
        draw(SPAN_IDS),
        draw(st.booleans()),
        TraceFlags(draw(st.integers(0, 255))),
        draw(TRACE_STATES),
    )


@st.composite
def spans(draw):
    events = [
        Event(draw(TEXT), bounded(draw(ATTRIBUTES), 2), draw(TIMES))
        for _ in range(draw(st.integers(0, 2)))
    ]
    links = [
        Link(draw(contexts()), draw(st.none() | ATTRIBUTES.map(bounded)))
        for _ in range(draw(st.integers(0, 2)))
    ]
    attributes = draw(ATTRIBUTES)
    if draw(st.booleans()):  # as the tracer makes them
        attributes = bounded(attributes)
        events = BoundedList.from_seq(draw(st.integers(1, 3)), events)
        links = BoundedList.from_seq(1, links)
    code = draw(st.sampled_from(StatusCode))
    return ReadableSpan(
        name=draw(TEXT),
        context=draw(contexts()),
        parent=draw(st.none() | contexts()),
        resource=draw(resources()),
        attributes=draw(st.sampled_from([attributes, attributes, None])),
        events=events,
        links=links,
        kind=draw(st.sampled_from(SpanKind)),
        status=Status(code, draw(TEXT) if code is StatusCode.ERROR else None),
        start_time=draw(st.none() | TIMES),
        end_time=draw(TIMES),
        instrumentation_scope=draw(st.none() | scopes()),
    )


@st.composite
def log_records(draw):
    record = LogRecord(
        timestamp=draw(st.none() | TIMES),
        observed_timestamp=draw(TIMES),
        severity_text=draw(st.none() | TEXT),
        severity_number=draw(st.none() | st.sampled_from(SeverityNumber)),
        body=draw(VALUES),
        attributes=draw(st.none() | ATTRIBUTES | ATTRIBUTES.map(bounded)),
        event_name=draw(st.none() | TEXT),
    )
    if draw(st.booleans()):
        record.trace_id = draw(TRACE_IDS)
        record.span_id = draw(st.just(0) | SPAN_IDS)
        record.trace_flags = TraceFlags(draw(st.integers(0, 255)))
    return ReadableLogRecord(record, draw(resources()), draw(st.none() | scopes()))


@st.composite
def exemplars(draw):
    return Exemplar(
        draw(ATTRIBUTES),
        draw(INTS | DOUBLES),
        draw(TIMES),
        draw(st.none() | SPAN_IDS),
        draw(st.none() | TRACE_IDS),
    )


EXEMPLARS = st.lists(exemplars(), max_size=2)
COUNTS = st.lists(st.integers(0, U64), max_size=4)
BUCKETS = st.builds(Buckets, st.integers(-(1 << 31), (1 << 31) - 1), COUNTS)
NUMBERS = st.builds(NumberDataPoint, ATTRIBUTES, TIMES, TIMES, INTS | DOUBLES, EXEMPLARS)
HISTOGRAMS = st.builds(
    HistogramDataPoint,
    ATTRIBUTES,
    TIMES,
    TIMES,
    st.integers(0, U64),
    INTS | DOUBLES,
    COUNTS | COUNTS.map(tuple),
    st.lists(DOUBLES, max_size=4),
    st.none() | DOUBLES,
    st.none() | DOUBLES,
    EXEMPLARS,
)
EXPONENTIALS = st.builds(
    ExponentialHistogramDataPoint,
    ATTRIBUTES,
    TIMES,
    TIMES,
    st.integers(0, U64),
    INTS | DOUBLES,
    st.integers(-11, 20),
    st.integers(0, U64),
    BUCKETS,
    BUCKETS,
    st.integers(0, 1),
    st.none() | DOUBLES,
    DOUBLES,
    EXEMPLARS,
)
TEMPORALITIES = st.sampled_from([AggregationTemporality.DELTA, AggregationTemporality.CUMULATIVE])


def some(points):
    return st.lists(points, min_size=1, max_size=3)


DATA = (
    st.builds(Gauge, some(NUMBERS))
    | st.builds(Sum, some(NUMBERS), TEMPORALITIES, st.booleans())
    | st.builds(Histogram, some(HISTOGRAMS), TEMPORALITIES)
    | st.builds(ExponentialHistogram, some(EXPONENTIALS), TEMPORALITIES)
)
METRICS = st.builds(Metric, TEXT, TEXT | st.none(), TEXT | st.none(), DATA)


@st.composite
def metrics_data(draw):
    groups = []
    for number in draw(st.lists(st.integers(0, 3), unique=True, min_size=1, max_size=2)):
        resource = Resource({"service.name": f"s{number}"}, draw(URLS))
        within = [
            ScopeMetrics(scope, draw(some(METRICS)), scope.schema_url)
            for scope in draw(st.lists(scopes(), min_size=1, max_size=2, unique_by=hash))
        ]
        groups.append(ResourceMetrics(resource, within, resource.schema_url))
    return MetricsData(groups)
