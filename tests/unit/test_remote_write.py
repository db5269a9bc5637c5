"""Remote write 1 and 2, read back by messages made from their definitions."""

import math
from types import SimpleNamespace

import pytest
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
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from wire_messages import RW1, RW2

from hastack.errors import InvalidArgument
from hastack.observe import _remote_series, _remote_write
from hastack.observe._remote_write import RemoteWrite

RESOURCE = Resource(
    {"service.name": "orders", "service.namespace": "shop", "service.instance.id": "i", "h": "x"}
)
SCOPE = InstrumentationScope("tests")
CUMULATIVE = AggregationTemporality.CUMULATIVE
SECOND = 1_000_000_000
LABELS = {"job": "shop/orders", "instance": "i", "otel_scope_name": "tests"}


def number(value, attributes=None, exemplars=(), time=7 * SECOND):
    return NumberDataPoint(attributes or {}, 5 * SECOND, time, value, list(exemplars))


def counter(name, *points, unit="", temporality=CUMULATIVE):
    return Metric(name, f"About {name}", unit, Sum(list(points), temporality, True))


def gauge(name, *points, unit=""):
    return Metric(name, "", unit, Gauge(list(points)))


def data(*metrics, resource=RESOURCE, scope=SCOPE):
    return MetricsData([ResourceMetrics(resource, [ScopeMetrics(scope, list(metrics), "")], "")])


class Version:
    """Reads requests of one version into plain values."""

    def __init__(self, number):
        self.number = number
        self.message = RW1["WriteRequest"] if number == 1 else RW2["Request"]

    def encode(self, items, encoder=None, *, max_bytes=1 << 26, start=0, **options):
        encoder = encoder or RemoteWrite(version=self.number, **options)
        out = bytearray(b"kept")
        done = encoder.encode(items, out, max_bytes=max_bytes, start=start)
        assert len(out) == done.size + 4
        return self.message.FromString(bytes(out[4:])), done

    def labels(self, message, carrier):
        if self.number == 1:
            pairs = [(pair.name, pair.value) for pair in carrier.labels]
        else:
            refs = [message.symbols[ref] for ref in carrier.labels_refs]
            pairs = list(zip(refs[::2], refs[1::2], strict=True))
        names = [name for name, _ in pairs]
        assert names == sorted(set(names))
        assert all(value for _, value in pairs)
        return dict(pairs)

    def series(self, message):
        """Name, other labels and the message of each series but ``target_info``."""
        if self.number == 2 and message.timeseries:
            assert message.symbols[0] == ""
            assert len(set(message.symbols)) == len(message.symbols)
        found = []
        for series in message.timeseries:
            labels = self.labels(message, series)
            assert bool(series.samples) != bool(series.histograms)
            found.append((labels.pop("__name__"), labels, series))
        return [each for each in found if each[0] != "target_info"]

    def values(self, message):
        found = []
        for name, labels, series in self.series(message):
            (sample,) = series.samples
            found.append((name, labels, sample.value, sample.timestamp))
        return found

    def metadata(self, message):
        if self.number == 1:
            return {
                each.metric_family_name: (each.type, each.help, each.unit)
                for each in message.metadata
            }
        return {
            name: (
                series.metadata.type,
                message.symbols[series.metadata.help_ref],
                message.symbols[series.metadata.unit_ref],
            )
            for name, _, series in self.series(message)
        }


@pytest.fixture(params=[1, 2], name="version")
def a_version(request):
    return Version(request.param)


def test_counters_and_gauges(version):
    message, done = version.encode(
        [
            data(
                counter("c", number(5, {"a.b": "x", "empty": ""}), unit="s"),
                gauge("g", number(0.5)),
            )
        ]
    )
    assert (done.taken, done.units, done.unsupported) == (2, 2, 0)
    assert version.values(message) == [
        ("c_seconds_total", {**LABELS, "a_b": "x"}, 5, 7000),
        ("g", LABELS, 0.5, 7000),
    ]
    assert version.metadata(message) == {
        "c_seconds_total": (1, "About c", "seconds"),
        "g": (2, "", ""),
        **({"target_info": (2, "Target metadata", "")} if version.number == 1 else {}),
    }


def test_the_target(version):
    message, _ = version.encode([data(gauge("g", number(1)))])
    (target,) = [
        labels
        for labels in (version.labels(message, each) for each in message.timeseries)
        if labels["__name__"] == "target_info"
    ]
    assert target == {"__name__": "target_info", "job": "shop/orders", "instance": "i", "h": "x"}
    for resource, labels in [
        (Resource({"service.name": "s"}), {"job": "s"}),
        (Resource({"service.namespace": "n"}), {}),
        (None, {}),
        (SimpleNamespace(attributes=5), {}),
    ]:
        message, _ = version.encode([data(gauge("g", number(1)), resource=resource)])
        assert version.series(message)[0][1] == {**labels, "otel_scope_name": "tests"}
        assert len(message.timeseries) == 1
    message, _ = version.encode([data(gauge("g", number(1)))], target_info=False)
    assert len(message.timeseries) == 1


def test_classic_histograms(version):
    exemplars = [Exemplar({}, value, 6 * SECOND, 2, 1) for value in (0.5, 0.7, 5.0)]
    point = HistogramDataPoint(
        {"le": "own"}, 5 * SECOND, 7 * SECOND, 3, 6.25, [2, 0, 1], [1, 2.5], 0.5, 5, exemplars
    )
    message, _ = version.encode([data(Metric("h", "", "", Histogram([point], CUMULATIVE)))])
    own = {**LABELS, "exported_le": "own"}
    plain = {**LABELS, "exported_le": "own"}
    assert version.values(message) == [
        ("h_bucket", {**own, "le": "1.0"}, 2, 7000),
        ("h_bucket", {**own, "le": "2.5"}, 2, 7000),
        ("h_bucket", {**own, "le": "+Inf"}, 3, 7000),
        ("h_count", plain, 3, 7000),
        ("h_sum", plain, 6.25, 7000),
    ]
    found = [
        [(each.value, each.timestamp, version.labels(message, each)) for each in series.exemplars]
        for _, _, series in version.series(message)
    ]
    trace = {"trace_id": f"{1:032x}", "span_id": f"{2:016x}"}
    assert found == [
        [(0.5, 6000, trace), (0.7, 6000, trace)],
        [],
        [(5.0, 6000, trace)],
        [],
        [],
    ]
    assert {kind for kind, _, _ in version.metadata(message).values()} <= {2, 3}


def histogram(*points):
    return data(Metric("h", "", "", Histogram(list(points), CUMULATIVE)))


def test_histograms_without_buckets_or_with_a_sum_that_falls(version):
    message, _ = version.encode([histogram(HistogramDataPoint({}, 1, 2, 7, 3.5, [], [], 1, 2, []))])
    assert [(name, value) for name, _, value, _ in version.values(message)] == [
        ("h_bucket", 7),
        ("h_count", 7),
        ("h_sum", 3.5),
    ]
    message, done = version.encode(
        [
            histogram(
                HistogramDataPoint({"n": 1}, 1, 2, 2, 3.5, [1, 1], [-1], None, None, []),
                HistogramDataPoint({"n": 2}, 1, 2, 2, 3.5, [1, 1], [1], -3, 2, []),
                HistogramDataPoint({"n": 3}, 1, 2, 2, None, [1, 1], [1], 1, 2, []),
                HistogramDataPoint({"n": 4}, 1, 2, 2, 1, [1, 1], [math.inf], 1, 2, []),
                HistogramDataPoint({"n": 5}, 1, 2, 2, 1, [1, 1], [2, 1], 1, 2, []),
            )
        ]
    )
    sums = [labels["n"] for name, labels, _, _ in version.values(message) if name == "h_sum"]
    assert sums == ["4"]
    assert (done.units, done.unsupported) == (4, 1)


def exponential(scale, positive, negative, *, zero=0, flags=0, total=5.5, **more):
    found = ExponentialHistogramDataPoint(
        *({}, 5 * SECOND, 7 * SECOND, 40, total, scale, zero, positive, negative, flags),
        *(0.0, 2.0, [Exemplar({}, 1, 6 * SECOND, 2, 1)]),
    )
    for name, value in more.items():
        object.__setattr__(found, name, value)
    return found


def native(version, point):
    metric = Metric("e", "", "", ExponentialHistogram([point], CUMULATIVE))
    message, done = version.encode([data(metric)])
    if not done.units:
        return None
    ((name, labels, series),) = version.series(message)
    assert (name, labels) == ("e", LABELS)
    assert len(series.exemplars) == 1
    (found,) = series.histograms
    assert found.timestamp == 7000
    return found


def spans(found):
    return [(span.offset, span.length) for span in found]


def test_native_histograms(version):
    found = native(
        version, exponential(3, Buckets(3, [10, 0, 0, 20, 5, 2]), Buckets(-2, [3]), zero=0)
    )
    assert (found.count_int, found.sum, found.schema) == (40, 5.5, 3)
    assert (found.zero_count_int, found.zero_threshold) == (0, 1e-128)
    assert found.WhichOneof("count") == "count_int"
    assert found.WhichOneof("zero") == "zero_count_int"
    assert spans(found.positive_spans) == [(4, 1), (2, 3)]
    assert list(found.positive_deltas) == [10, 10, -15, -3]
    assert spans(found.negative_spans) == [(-1, 1)]
    assert list(found.negative_deltas) == [3]
    assert found.start_timestamp == (5000 if version.number == 2 else 0)


def test_scales_that_prometheus_does_not_know(version):
    found = native(version, exponential(10, Buckets(0, [1, 2, 3, 4, 5]), Buckets(0, [])))
    assert found.schema == 8
    assert spans(found.positive_spans) == [(1, 2)]
    assert list(found.positive_deltas) == [10, -5]
    assert native(version, exponential(-5, Buckets(0, [1]), Buckets(0, []))) is None
    assert native(version, exponential(99, Buckets(0, [1]), Buckets(0, []))) is None
    assert native(version, exponential(None, Buckets(0, [1]), Buckets(0, []))) is None


def test_no_recorded_value_is_stale(version):
    found = native(version, exponential(0, Buckets(0, [1]), Buckets(0, []), flags=1))
    field = found.SerializeToString()
    assert b"\x02\x00\x00\x00\x00\x00\xf0\x7f" in field
    assert (found.count_int, len(found.positive_spans)) == (0, 0)


def test_a_zero_threshold_and_no_sum(version):
    point = exponential(0, Buckets(0, [1]), Buckets(0, []), total=None, zero_threshold=0.5)
    found = native(version, point)
    assert (found.zero_threshold, found.sum) == (0.5, 0)


def custom(point):
    """The one native histogram that a classic one becomes."""
    version = Version(2)
    message, done = version.encode([histogram(point)], custom_buckets=True)
    assert done.units == 1
    ((name, labels, series),) = version.series(message)
    (found,) = series.histograms
    assert (name, labels, found.schema) == ("h", LABELS, -53)
    assert (found.zero_count_int, found.zero_threshold, len(found.negative_spans)) == (0, 0, 0)
    return found, series


def test_custom_buckets():
    exemplars = [Exemplar({}, 1, 6 * SECOND, 2, 1)]
    counts, bounds = [10, 0, 0, 20, 5, 2], [-2, -1, 0, 1, 2]
    found, series = custom(
        HistogramDataPoint({}, 5 * SECOND, 7 * SECOND, 37, 3.5, counts, bounds, -3, 9, exemplars)
    )
    # The vector of the compatibility specification.
    assert spans(found.positive_spans) == [(0, 1), (2, 3)]
    assert list(found.positive_deltas) == [10, 10, -15, -3]
    assert list(found.custom_values) == bounds
    assert (found.count_int, found.sum) == (37, 3.5)  # a native sum may fall
    assert (found.timestamp, found.start_timestamp) == (7000, 5000)
    assert len(series.exemplars) == 1


def test_custom_buckets_of_odd_histograms():
    found, _ = custom(HistogramDataPoint({}, 1, 2, 7, None, [], [], 1, 2, []))
    assert (found.count_int, found.sum, list(found.custom_values)) == (7, 0, [])
    assert list(found.positive_deltas) == [7]
    found, _ = custom(HistogramDataPoint({}, 1, 2, 7, 1, [1, 2, 4], [1, math.inf], 1, 2, []))
    assert list(found.custom_values) == [1]
    assert (found.count_int, list(found.positive_deltas)) == (7, [1, 5])
    found, _ = custom(HistogramDataPoint({}, 1, 2, 3, 1, [1, 2], [1, 2, 3], 1, 2, []))
    assert (found.count_int, spans(found.positive_spans)) == (3, [(0, 2)])
    point = HistogramDataPoint({}, 1, 2, 3, 1, [1, 2], [2, 1], 1, 2, [])
    _, done = Version(2).encode([histogram(point)], custom_buckets=True)
    assert (done.units, done.unsupported) == (0, 1)
    with pytest.raises(InvalidArgument, match="custom_buckets"):
        RemoteWrite(version=1, custom_buckets=True)


def test_exponential_histograms_as_classic_ones(version):
    metric = Metric(
        "e", "", "", ExponentialHistogram([exponential(0, Buckets(0, [1, 2]), Buckets(0, []))], 2)
    )
    message, _ = version.encode([data(metric)], native_histograms=False)
    assert [
        (name, labels.get("le"), value) for name, labels, value, _ in version.values(message)
    ] == [
        ("e_bucket", "2.0", 1),
        ("e_bucket", "4.0", 3),
        ("e_bucket", "+Inf", 40),
        ("e_count", None, 40),
        ("e_sum", None, 5.5),
    ]


def test_what_is_not_sent_is_counted(version):
    message, done = version.encode(
        [
            data(
                counter("d", number(1), temporality=AggregationTemporality.DELTA),
                Metric("x", "", "", None),
                counter("c", number(1), number(2), number(3, time=8 * SECOND)),
            )
        ]
    )
    assert (done.taken, done.units, done.unsupported) == (5, 2, 3)
    assert [value for _, _, value, _ in version.values(message)] == [1, 3]
    message, done = version.encode([])
    assert (done.taken, done.size) == (0, 0)


def test_a_series_that_two_metrics_share(version):
    encoder = RemoteWrite(version=version.number)
    items = [data(counter("c", number(1)), counter("c.total", number(2)))]
    for _ in range(2):
        message, done = version.encode(items, encoder)
        assert (done.units, done.unsupported) == (1, 1)
        assert [value for _, _, value, _ in version.values(message)] == [1]


def test_labels_are_kept_from_one_request_to_the_next(version):
    encoder = RemoteWrite(version=version.number)
    point = HistogramDataPoint({"a": "b"}, 1, 2, 2, 3.5, [1, 1], (1,), 1, 2, [])
    first, _ = version.encode([histogram(point)], encoder)
    again, _ = version.encode([histogram(point)], encoder)
    assert first == again
    assert encoder._kept


def test_splits(version):
    points = [number(n, {"n": str(n), "x": "y" * (2000 if n == 5 else 20)}) for n in range(40)]
    items = [data(counter("a", *points[:20]), counter("b", *points[20:]))]
    encoder = RemoteWrite(version=version.number)
    start, seen, oversized = 0, [], 0
    while start < encoder.count(items):
        message, done = version.encode(items, encoder, max_bytes=900, start=start)
        assert done.size <= 900
        assert done.taken > 0
        start += done.taken
        oversized += done.oversized
        seen += [value for _, _, value, _ in version.values(message)]
        if version.number == 1:
            assert len(message.metadata) <= 3
    assert start == 40
    assert seen == [n for n in range(40) if n != 5]
    assert oversized == 1
    message, done = version.encode(items, encoder, max_bytes=20)
    assert (done.size, done.oversized) == (0, 40)


def test_scopes_resources_and_options(version):
    message, _ = version.encode([data(gauge("a.b", number(1, {"c.d": "e"})))], scope_labels=False)
    assert version.series(message)[0][:2] == (
        "a_b",
        {"job": "shop/orders", "instance": "i", "c_d": "e"},
    )
    message, _ = version.encode(
        [data(gauge("a.b", number(1, {"c.d": "e"})))],
        strategy="NoTranslation",
        resource_labels=["h"],
    )
    assert version.series(message)[0][:2] == ("a.b", {**LABELS, "c.d": "e", "h": "x"})
    with pytest.raises(InvalidArgument, match="version"):
        RemoteWrite(version=3)
    with pytest.raises(InvalidArgument, match="strategy"):
        RemoteWrite(strategy="none")


def test_a_histogram_that_lacks_counts(version):
    point = HistogramDataPoint({}, 1, 2, 3, 3.5, [1, 2], [1, 2, 3], 1, 2, [])
    message, _ = version.encode([histogram(point)])
    assert [value for _, _, value, _ in version.values(message)] == [1, 3, 3, 3, 3, 3.5]


def test_formats():
    assert RemoteWrite().format.headers == (("X-Prometheus-Remote-Write-Version", "0.1.0"),)
    assert RemoteWrite(version=2).format.content_type.endswith(
        "proto=io.prometheus.write.v2.Request"
    )


def test_nothing_raises(version):
    bad = [
        gauge("\ud800", number("x", {"\ud800": "\udfff"}), number(None, {"a": 1})),
        Metric(None, 5, None, Gauge([object(), number(1, 5)])),
        counter(
            "c", number(1, {"z": 1}, [object(), Exemplar({}, 1, -1), Exemplar({}, math.nan, 1)])
        ),
    ]
    resource = SimpleNamespace(attributes={"a": "\ud800"})
    message, done = version.encode([data(*bad, resource=resource)])
    assert done.units + done.unsupported == 5
    assert done.repaired > 0
    assert math.isnan(version.values(message)[0][2])


def test_what_is_kept_stays_within_bounds(version, monkeypatch):
    monkeypatch.setattr(_remote_write, "KEPT", 3)
    monkeypatch.setattr(_remote_series, "KEYS", 2)
    encoder = RemoteWrite(version=version.number)
    attributes = {"a": "b"}
    for n in range(12):
        fresh = [number(n, {"n": str(i)}) for i in range(40)]
        kept = HistogramDataPoint(attributes, 1, 2, 2, 1, [1] * 5, [1, 2, 3, 4], 1, 2, [])
        items = [data(gauge(f"g{n % 5}", *fresh)), histogram(kept)]
        message, _ = version.encode(items, encoder)
        values = [value for name, _, value, _ in version.values(message) if name == f"g{n % 5}"]
        assert values == [n] * 40
        buckets = [labels["le"] for name, labels, _, _ in version.values(message) if "le" in labels]
        assert buckets == ["1.0", "2.0", "3.0", "4.0", "+Inf"]
    assert len(encoder._kept) <= 3
    for n in range(12):
        version.encode([data(gauge("g", *[number(n, {"n": str(i)}) for i in range(40)]))], encoder)
    assert all(len(each.series._known) <= 2 * (2 * 40 + 64 + 40) for each in encoder._kept.values())
