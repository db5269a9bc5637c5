"""Whatever was measured, a page is one that the parsers of prometheus_client take."""

import math
import re

import sdk_objects
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from opentelemetry.sdk.metrics import Exemplar
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
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
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as plain
from wire_messages import RW1, RW2

from hastack.observe import PrometheusText
from hastack.observe._prometheus_names import STRATEGIES
from hastack.observe._remote_write import RemoteWrite

CUMULATIVE = AggregationTemporality.CUMULATIVE
NAMES = st.sampled_from(
    ["a", "a.b", "a_total", "a.count", "b", "1st", "é", "a-b", "target", "b_sum"]
)
UNITS = st.sampled_from(["", "s", "1", "By/s", "{x}"])
ATTRIBUTES = st.dictionaries(
    st.sampled_from(["a.b", "a_b", "x", "le", "otel.scope.name", "é", "1a"]) | st.text(max_size=4),
    st.sampled_from(["", "v", 'q"\\\n', 1, True, 1.0, None]) | st.text(max_size=4),
    max_size=3,
)
VALUES = st.integers(0, 2**53) | st.floats(0, 1e300)
# The oracle takes no escaped quotation mark in an exemplar.
EXEMPLARS = st.lists(
    st.builds(
        Exemplar,
        st.dictionaries(st.sampled_from(["a.b", "é", "span_id"]), st.sampled_from([1, "x{},#"])),
        st.integers(-9, 9) | st.floats(allow_nan=False, allow_infinity=False),
        st.integers(0, 2**62),
        st.none() | st.integers(1, 2**64 - 1),
        st.none() | st.integers(1, 2**128 - 1),
    ),
    max_size=2,
)
NUMBERS = st.builds(
    NumberDataPoint,
    ATTRIBUTES,
    st.integers(0, 2**62),
    st.integers(0, 2**62),
    VALUES,
    EXEMPLARS,
)


@st.composite
def histogram_points(draw):
    bounds = sorted(draw(st.sets(st.floats(allow_nan=False, allow_infinity=False), max_size=4)))
    counts = draw(st.lists(st.integers(0, 9), min_size=len(bounds) + 1, max_size=len(bounds) + 1))
    return HistogramDataPoint(
        *(draw(ATTRIBUTES), 1, 2, sum(counts), 1.5, counts, bounds),
        *(draw(st.none() | st.floats(allow_nan=False)), 2.0, draw(EXEMPLARS)),
    )


def some(points):
    return st.lists(points, min_size=1, max_size=3)


DATA = (
    st.builds(Gauge, some(NUMBERS))
    | st.builds(Sum, some(NUMBERS), st.just(CUMULATIVE), st.booleans())
    | st.builds(Histogram, some(histogram_points()), st.just(CUMULATIVE))
)
METRICS = st.builds(Metric, NAMES, st.text(max_size=6), UNITS, DATA)


@st.composite
def collections(draw):
    resource = draw(sdk_objects.resources())
    within = [
        ScopeMetrics(scope, draw(some(METRICS)), "")
        for scope in draw(st.lists(sdk_objects.scopes(), min_size=1, max_size=2))
    ]
    return MetricsData([ResourceMetrics(resource, within, "")])


def points(data):
    return sum(
        len(metric.data.data_points)
        for within in data.resource_metrics[0].scope_metrics
        for metric in within.metrics
    )


QUICK = settings(
    deadline=None, max_examples=60, phases=(Phase.explicit, Phase.reuse, Phase.generate)
)


@given(
    collections(),
    st.sampled_from(STRATEGIES),
    st.booleans(),
    st.booleans(),
    # Not dots: they make `__a` of `_a`, which the parsers reserve, other than Prometheus.
    st.sampled_from(["", ";escaping=allow-utf-8", ";escaping=values"]),
)
@QUICK
def test_pages(data, strategy, scopes, created, escaping):
    page = PrometheusText(strategy=strategy, scope_labels=scopes, created=created)
    for kind, parse in (("application/openmetrics-text", openmetrics), ("text/plain", plain)):
        found = page.render(data, accept=f"{kind};version=1.0.0{escaping}")
        text = found.body.decode()
        families = list(parse(text))
        names = [family.name for family in families]
        assert found.points + found.conflicts + found.duplicates + found.unsupported == points(data)
        comments = re.findall(r"^# (TYPE|HELP|UNIT) (\"[^\"]*\"|\S+)", text, re.MULTILINE)
        assert len(set(comments)) == len(comments)
        assert len(set(names)) == len(names)
        series = [
            (sample.name, tuple(sorted(sample.labels.items())))
            for family in families
            for sample in family.samples
        ]
        assert len(set(series)) == len(series)
        again = page.render(data, accept=f"{kind};version=1.0.0{escaping}")
        assert again == found


def read_write_1(body):
    for series in RW1["WriteRequest"].FromString(body).timeseries:
        yield [(label.name, label.value) for label in series.labels], series


def read_write_2(body):
    message = RW2["Request"].FromString(body)
    for series in message.timeseries:
        refs = [message.symbols[ref] for ref in series.labels_refs]
        yield list(zip(refs[::2], refs[1::2], strict=True)), series


@given(st.lists(collections(), min_size=1, max_size=2), st.sampled_from(STRATEGIES))
@QUICK
def test_remote_writes(items, strategy):
    bodies = []
    for version in (1, 2):
        out = bytearray()
        done = RemoteWrite(version=version, strategy=strategy).encode(items, out)
        assert done.units + done.unsupported == done.taken == sum(map(points, items))
        bodies.append(bytes(out))
    first, second = list(read_write_1(bodies[0])), list(read_write_2(bodies[1]))
    assert len(first) == len(second)
    seen = set()
    for (labels, series), (others, other) in zip(first, second, strict=True):
        assert labels == others
        names = [name for name, _ in labels]
        assert names == sorted(set(names))
        assert all(value for _, value in labels)
        assert [(s.value, s.timestamp) for s in series.samples] == [
            (s.value, s.timestamp) for s in other.samples
        ]
        assert len(series.exemplars) == len(other.exemplars)
        key = tuple(labels), series.samples[0].timestamp
        assert key not in seen
        assert not math.isnan(series.samples[0].value)
        seen.add(key)
