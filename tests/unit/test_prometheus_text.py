"""Pages for scrapers, read back by the parsers of prometheus_client."""

import math
from types import SimpleNamespace

import pytest
from opentelemetry.sdk.metrics import Exemplar, MeterProvider
from opentelemetry.sdk.metrics._internal.point import Buckets
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    ExponentialHistogram,
    ExponentialHistogramDataPoint,
    Gauge,
    Histogram,
    HistogramDataPoint,
    InMemoryMetricReader,
    Metric,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as plain

from hastack.errors import InvalidArgument
from hastack.observe import _prometheus_page
from hastack.observe._attribute_memory import Memory
from hastack.observe._attribute_text import attribute_text
from hastack.observe._otlp_values import Tally
from hastack.observe._prometheus_numbers import bound_text, number_text, seconds_text
from hastack.observe._prometheus_text import PrometheusText

OPENMETRICS = "application/openmetrics-text;version=1.0.0"
UTF8 = f"{OPENMETRICS};escaping=allow-utf-8"
RESOURCE = Resource({"service.name": "orders", "host.name": 'a"b\\c\nd'})
SCOPE = InstrumentationScope("tests")
CUMULATIVE = AggregationTemporality.CUMULATIVE
DELTA = AggregationTemporality.DELTA


def number(value, attributes=None, exemplars=()):
    return NumberDataPoint(attributes or {}, 1_500_000_000, 2_000_000_000, value, list(exemplars))


def counter(name, *points, unit="", description="", temporality=CUMULATIVE):
    return Metric(name, description, unit, Sum(list(points), temporality, True))


def gauge(name, *points, unit="", description=""):
    return Metric(name, description, unit, Gauge(list(points)))


def histogram_point(bounds, counts, total=1.0, attributes=None, exemplars=(), least=0.0):
    return HistogramDataPoint(
        attributes or {}, 1, 2, sum(counts), total, counts, bounds, least, 9.0, list(exemplars)
    )


def histogram(name, *points, unit="", temporality=CUMULATIVE):
    return Metric(name, "", unit, Histogram(list(points), temporality))


def data(*metrics, scope=SCOPE, resource=RESOURCE):
    return MetricsData([ResourceMetrics(resource, [ScopeMetrics(scope, list(metrics), "")], "")])


def families(text):
    return {family.name: family for family in openmetrics(text)}


def render(*metrics, accept=OPENMETRICS, page=None, **options):
    found = (page or PrometheusText(**options)).render(data(*metrics), accept=accept)
    text = found.body.decode()
    parse = openmetrics if "openmetrics" in found.content_type else plain
    return found, text, {family.name: family for family in parse(text)}


def samples(family):
    return [(s.name, s.labels, s.value) for s in family.samples]


SCOPED = {"otel_scope_name": "tests"}


def test_a_page_in_both_formats():
    metrics = [
        counter("http.requests", number(5, {"a.b": "x"}), description='All\n"of"\\them', unit="s"),
        gauge("load", number(0.5), unit="1"),
        histogram("size", histogram_point([1, 2.5], [1, 0, 2], 9.5), unit="By"),
    ]
    found, text, parsed = render(*metrics)
    assert text.endswith("# EOF\n")
    assert found.points == 3
    family = parsed["http_requests_seconds"]
    assert (family.type, family.unit) == ("counter", "seconds")
    assert family.documentation == 'All\n"of"\\them'
    assert samples(family) == [("http_requests_seconds_total", {"a_b": "x", **SCOPED}, 5)]
    assert samples(parsed["load_ratio"]) == [("load_ratio", SCOPED, 0.5)]
    assert samples(parsed["size_bytes"]) == [
        ("size_bytes_bucket", {"le": "1.0", **SCOPED}, 1),
        ("size_bytes_bucket", {"le": "2.5", **SCOPED}, 1),
        ("size_bytes_bucket", {"le": "+Inf", **SCOPED}, 3),
        ("size_bytes_count", SCOPED, 3),
        ("size_bytes_sum", SCOPED, 9.5),
    ]
    (target,) = parsed["target"].samples
    assert target.labels == {"service_name": "orders", "host_name": 'a"b\\c\nd'}

    found, text, parsed = render(*metrics, accept="")
    assert found.content_type == "text/plain; version=0.0.4; charset=utf-8"
    assert "# TYPE http_requests_seconds_total counter\n" in text
    assert "# UNIT" not in text
    assert "EOF" not in text
    assert parsed["http_requests_seconds"].documentation == 'All\n"of"\\them'
    assert samples(parsed["http_requests_seconds"])[0][2] == 5
    assert parsed["target_info"].type == "gauge"
    assert len(parsed["size_bytes"].samples) == 5


def test_nothing_to_show():
    found = PrometheusText().render(None)
    assert (found.body, found.points) == (b"", 0)
    assert PrometheusText().render(None, accept=OPENMETRICS).body == b"# EOF\n"
    bare = data(gauge("g", number(1)), resource=Resource({}))
    assert b"target" not in PrometheusText().render(bare).body
    assert b"target" not in PrometheusText(target_info=False).render(data()).body


def test_values():
    values = [0, -1, 1.5, 1e300, math.inf, -math.inf, math.nan, True, None, "x", 10**5000, 2**70]
    _, _, parsed = render(gauge("g", *[number(v, {"n": n}) for n, v in enumerate(values)]))
    found = [sample.value for sample in parsed["g"].samples]
    assert found[:6] == values[:6]
    assert math.isnan(found[6])
    assert found[7] == 1
    assert math.isnan(found[8])
    assert math.isnan(found[9])
    assert found[10] == math.inf
    assert found[11] == 2.0**70
    assert number_text(-(10**5000)) == "-Inf"


def test_bounds_are_written_as_go_does():
    texts = [bound_text(b) for b in (0.005, 1, 999999, 1e6, 2500000, 1e10, 1.5e22, -1e7, math.inf)]
    assert texts == [
        *("0.005", "1.0", "999999.0", "1e+06", "2.5e+06", "1e+10", "1.5e+22", "-10000000.0"),
        "+Inf",
    ]
    assert seconds_text(1_500_000_001) == "1.500000001"


def test_attribute_values_of_every_kind_become_text():
    attributes = {
        "b": True,
        "f": 0.5,
        "i": 7,
        "l": ["x", 1, None],
        "m": {"k": b"\xff"},
        "n": None,
        "nan": math.nan,
        "inf": [math.inf, -math.inf],
        "raw": b"\x00\x01",
    }
    _, _, parsed = render(gauge("g", number(1, attributes)), scope_labels=False)
    assert parsed["g"].samples[0].labels == {
        "b": "true",
        "f": "0.5",
        "i": "7",
        "l": '["x",1,null]',
        "m": '{"k":"/w=="}',
        "n": "",
        "nan": "NaN",
        "inf": '["Infinity","-Infinity"]',
        "raw": "AAE=",
    }


def test_colliding_label_keys_are_joined_in_the_order_of_the_original_keys():
    point = number(1, {"a_b": "2", "a.b": "1", "a-b": "0", "c": "d"})
    _, _, parsed = render(gauge("g", point))
    assert parsed["g"].samples[0].labels == {"a_b": "0;1;2", "c": "d", **SCOPED}


def test_two_scopes_with_one_name_keep_their_labels_apart():
    one = InstrumentationScope("one", "1", "https://schema", {"deep.er": 1})
    two = InstrumentationScope("two")
    text = PrometheusText()
    collected = MetricsData(
        [
            ResourceMetrics(
                RESOURCE,
                [
                    ScopeMetrics(
                        one, [counter("c", number(1, {"alpha": "A"}), description="x")], ""
                    ),
                    ScopeMetrics(
                        two, [counter("c", number(2, {"beta": "B"}), description="y")], ""
                    ),
                ],
                "",
            )
        ]
    )
    for _ in range(2):
        body = text.render(collected, accept=OPENMETRICS).body.decode()
        assert body.count("# TYPE c counter") == body.count("# HELP c ") == 1
        assert [s.labels for s in families(body)["c"].samples] == [
            {
                "alpha": "A",
                "otel_scope_name": "one",
                "otel_scope_version": "1",
                "otel_scope_schema_url": "https://schema",
                "otel_scope_deep_er": "1",
            },
            {"beta": "B", "otel_scope_name": "two"},
        ]


def test_a_metric_of_another_kind_under_a_taken_name_is_left_out():
    found, text, parsed = render(
        histogram("h", histogram_point([1], [1, 1])),
        gauge("h", number(1)),
        gauge("h_count", number(1), number(2, {"a": 1})),
        gauge("target.info", number(1)),
        counter("h.bucket", number(1)),
        gauge("free", number(1)),
        counter("free", number(1)),
    )
    assert sorted(parsed) == ["free", "h", "target"]
    assert found.conflicts == 6
    assert found.conflicting == (*("h", "h_count", "target_info", "h_bucket_total", "free_total"),)
    assert found.points == 2


def test_a_series_that_is_there_twice_is_left_out_once():
    metrics = [
        counter("c", number(1, {"a": 1}), number(2, {"a": "1"}), number(3, {"a": 2})),
        counter("c.total", number(4, {"a": 2})),
    ]
    found, _, parsed = render(*metrics)
    assert [s.value for s in parsed["c"].samples] == [1, 3]
    assert (found.points, found.duplicates, found.conflicting) == (2, 2, ("c_total",))


def test_what_is_not_cumulative_or_unknown_is_counted():
    found, _, parsed = render(
        counter("delta", number(1), temporality=DELTA),
        histogram("h", histogram_point([1], [1, 1]), temporality=DELTA),
        Metric("u", "", "", Sum([number(-1)], CUMULATIVE, False)),
        Metric("d", "", "", Sum([number(-1)], DELTA, False)),
        Metric("x", "", "", SimpleNamespace(data_points=[1], aggregation_temporality=2)),
        Metric("y", "", "", None),
    )
    assert sorted(parsed) == ["target", "u"]
    assert parsed["u"].type == "gauge"
    assert (found.unsupported, found.points) == (5, 1)


def test_histograms_that_are_none():
    points = [
        histogram_point(bounds, [1] * (len(bounds) + 1), attributes={"n": n})
        for n, bounds in enumerate([[2, 1], [1, 1], ["x"], [math.nan], [1, math.inf]])
    ]
    found, _, parsed = render(histogram("h", *points))
    assert found.unsupported == 4
    bounds = [s.labels.get("le") for s in parsed["h"].samples]
    assert bounds == ["1.0", "+Inf", None, None]


def test_a_histogram_without_buckets():
    _, _, parsed = render(
        histogram("h", HistogramDataPoint({}, 1, 2, 7, 3.5, [], [], 1, 2, [])),
    )
    assert samples(parsed["h"]) == [
        ("h_bucket", {"le": "+Inf", **SCOPED}, 7),
        ("h_count", SCOPED, 7),
        ("h_sum", SCOPED, 3.5),
    ]


def test_a_histogram_that_lacks_counts():
    _, _, parsed = render(histogram("h", histogram_point([1, 2, 3], [1, 2])))
    assert [s.value for s in parsed["h"].samples] == [1, 3, 3, 3, 3, 1]


def test_a_family_without_any_series():
    _, text, _ = render(histogram("h", histogram_point([2, 1], [1])))
    assert "TYPE h" not in text


def test_a_sum_that_can_fall_is_not_shown():
    points = [
        histogram_point([-1, 1], [1, 1, 1], attributes={"n": 1}),
        histogram_point([1], [1, 1], attributes={"n": 2}, least=-5),
        histogram_point([1], [1, 1], None, attributes={"n": 3}),
    ]
    found, text, _ = render(histogram("h", *points))
    assert "h_sum" not in text
    assert "h_count" not in text  # OpenMetrics has none without the other
    found, text, _ = render(histogram("h", *points), accept="")
    assert "h_sum" not in text
    assert text.count("h_count") == 3


def test_a_label_le_of_the_metrics_own():
    point = histogram_point([1], [1, 1], attributes={"le": "own"})
    _, _, parsed = render(histogram("h", point))
    assert parsed["h"].samples[0].labels == {"le": "1.0", "exported_le": "own", **SCOPED}


def test_bounds_that_change():
    page = PrometheusText()
    attributes = {"a": 1}
    for bounds in ([1, 2], [1, 2], [3]):
        point = histogram_point(bounds, [1] * (len(bounds) + 1), attributes=attributes)
        _, _, parsed = render(histogram("h", point), page=page)
        found = [s.labels["le"] for s in parsed["h"].samples if "le" in s.labels]
        assert found == [*[f"{bound}.0" for bound in bounds], "+Inf"]


def exponential(*points):
    return Metric("e", "", "s", ExponentialHistogram(list(points), CUMULATIVE))


def exponential_point(scale, positive, negative, zero=0, count=None, attributes=None):
    total = zero + sum(positive.bucket_counts) + sum(negative.bucket_counts)
    return ExponentialHistogramDataPoint(
        *(attributes or {}, 1, 2, total if count is None else count, 5.5, scale, zero),
        *(positive, negative, 0, 0.0, 2.0, []),
    )


def test_exponential_histograms_become_classic_ones():
    found, _, parsed = render(
        exponential(
            exponential_point(0, Buckets(0, [1, 2]), Buckets(0, []), 4),
            exponential_point(99, Buckets(0, [1]), Buckets(0, []), attributes={"n": 1}),
            exponential_point("x", Buckets(0, [1]), Buckets(0, []), attributes={"n": 2}),
            exponential_point(0, Buckets(1 << 40, [1]), Buckets(0, []), attributes={"n": 3}),
        )
    )
    assert found.unsupported == 2
    assert samples(parsed["e_seconds"])[:6] == [
        ("e_seconds_bucket", {"le": "0.0", **SCOPED}, 4),
        ("e_seconds_bucket", {"le": "2.0", **SCOPED}, 5),
        ("e_seconds_bucket", {"le": "4.0", **SCOPED}, 7),
        ("e_seconds_bucket", {"le": "+Inf", **SCOPED}, 7),
        ("e_seconds_count", SCOPED, 7),
        ("e_seconds_sum", SCOPED, 5.5),
    ]


def exemplar(value, attributes=None, time=1_500_000_000, span_id=2, trace_id=1):
    return Exemplar(attributes or {}, value, time, span_id, trace_id)


TRACE = {"trace_id": f"{1:032x}", "span_id": f"{2:016x}"}


def test_exemplars_of_counters():
    point = number(5, {}, [exemplar(1), exemplar(3, {"a.b": "x"}), exemplar(2), exemplar("no")])
    _, _, parsed = render(counter("c", point), gauge("g", number(1, {}, [exemplar(1)])))
    found = parsed["c"].samples[0].exemplar
    assert found.labels == {**TRACE, "a_b": "x"}
    assert (found.value, float(found.timestamp)) == (3, 1.5)
    assert parsed["g"].samples[0].exemplar is None
    _, text, _ = render(counter("c", point), accept="")
    assert "trace_id" not in text


def test_exemplars_of_buckets():
    exemplars = [exemplar(value) for value in (0.5, 1.0, 0.7, 5)]
    point = histogram_point([1, 2], [3, 0, 1], exemplars=exemplars)
    _, _, parsed = render(histogram("h", point))
    found = [s.exemplar and s.exemplar.value for s in parsed["h"].samples]
    assert found == [1.0, None, 5, None, None]


def test_an_exemplar_without_a_trace_or_a_time():
    point = number(5, {}, [exemplar(1, time=None, span_id=None), object()])
    _, text, parsed = render(counter("c", point))
    assert parsed["c"].samples[0].exemplar.labels == {}
    assert text.count(" # {} 1\n") == 1
    _, text, _ = render(counter("c", number(5, {}, [object()])))
    assert " # {" not in text


def test_attributes_of_exemplars_stay_within_128_characters():
    attributes = {"a": "x" * 60, "b": "y" * 30, "span_id": "other", "z": "1"}
    point = number(5, {}, [exemplar(1, attributes)])
    _, _, parsed = render(counter("c", point))
    labels = parsed["c"].samples[0].exemplar.labels
    assert labels == {**TRACE, "a": "x" * 60, "z": "1"}
    assert sum(len(name) + len(value) for name, value in labels.items()) <= 128


def test_when_counters_and_histograms_started():
    page = PrometheusText(created=True)
    metrics = [
        counter("c", number(1)),
        histogram("h", histogram_point([1], [1, 1])),
        counter("d", NumberDataPoint({}, None, 2, 3)),
        gauge("g", number(1)),
    ]
    _, _, parsed = render(*metrics, page=page)
    assert samples(parsed["c"])[1] == ("c_created", SCOPED, 1.5)
    assert samples(parsed["h"])[-1] == ("h_created", SCOPED, 1e-9)
    assert len(parsed["d"].samples) == len(parsed["g"].samples) == 1
    assert "_created" not in render(*metrics, page=page, accept="")[1]


def test_resource_labels():
    _, _, parsed = render(gauge("g", number(1)), resource_labels=["service.name"])
    assert parsed["g"].samples[0].labels == {"service_name": "orders", **SCOPED}


def test_utf8_names_by_negotiation():
    metrics = [
        counter("http.requests", number(5, {"http.method": "GET"}), unit="s"),
        histogram("la.tency", histogram_point([1], [1, 1])),
    ]
    options = {"strategy": "NoUTF8EscapingWithSuffixes", "target_info": False}
    _, text, parsed = render(*metrics, accept=UTF8, **options)
    assert '# TYPE "http.requests_seconds" counter' in text
    assert '{"http.requests_seconds_total","http.method"="GET",otel_scope_name="tests"} 5' in text
    (sample,) = parsed["http.requests_seconds"].samples
    assert sample.name == "http.requests_seconds_total"
    assert sample.labels == {"http.method": "GET", **SCOPED}
    assert parsed["la.tency"].samples[0].name == "la.tency_bucket"
    _, text, parsed = render(*metrics, **options)
    assert samples(parsed["http_requests_seconds"])[0][1] == {"http_method": "GET", **SCOPED}
    _, text, _ = render(*metrics, accept=f"{OPENMETRICS};escaping=values", **options)
    assert "U__http_2e_requests__seconds_total{" in text
    _, text, _ = render(*metrics, accept="text/plain;version=1.0.0;escaping=dots", **options)
    assert "http_dot_requests__seconds__total{http_dot_method=" in text


def test_names_as_they_are():
    metrics = [counter("requests", number(5), unit="s"), counter("all_total", number(1))]
    found, text, parsed = render(*metrics, strategy="NoTranslation")
    assert parsed["requests"].type == "unknown"  # OpenMetrics wants _total of a counter
    assert parsed["all"].type == "counter"
    _, text, parsed = render(*metrics, strategy="NoTranslation", accept="")
    assert "# TYPE requests counter\n" in text
    assert "# TYPE all_total counter\n" in text


def test_the_untyped_of_text_and_an_unknown_strategy():
    with pytest.raises(InvalidArgument, match="strategy"):
        PrometheusText(strategy="nothing")


class Failing(list):
    def __iter__(self):
        raise RuntimeError("gone")


def test_attribute_values_without_end_or_sense():
    cycle = []
    cycle.append(cycle)
    point = number(1, {"c": cycle, "f": Failing(), "h": {1: Failing()}})
    found, _, parsed = render(gauge("g", point))
    labels = parsed["g"].samples[0].labels
    assert labels["c"].count("[") == 24
    assert "nested too deep" in labels["c"]
    assert labels["f"] == "<Failing>"
    assert labels["h"] == '{"1":"<Failing>"}'
    assert found.repaired == 3


class Unhashable(str):
    __slots__ = ()
    __hash__ = None


def test_nothing_in_an_instrument_makes_a_scrape_fail():
    class Bad:
        def __str__(self):
            raise RuntimeError("no text")

    scope = SimpleNamespace(name="\ud800", version=5, schema_url=None, attributes=7)
    bad = [
        gauge("\ud800", number(1, {"\ud800": "\udfff", 5: Bad()}), description="\ud800"),
        gauge(Unhashable("u"), number(1)),
        gauge(None, number(1, 5), unit=7),
        Metric("l", None, None, Gauge([object(), None])),
        Metric("deep", None, None, Gauge([number(1, {"x": {"\ud800": 2**65}})])),
        None,
    ]
    resource = SimpleNamespace(attributes={"a": object, "b": 10**5000})
    for accept in (OPENMETRICS, ""):
        page = PrometheusText()
        for _ in range(2):
            collected = data(*bad, scope=scope, resource=resource)
            found = page.render(collected, accept=accept)
            found.body.decode()
            assert found.repaired > 0
            assert found.points + found.duplicates == 6
            assert found.unsupported == 1


def test_what_is_kept_stays_within_bounds(monkeypatch):
    monkeypatch.setattr(_prometheus_page, "KEPT", 4)
    page = PrometheusText()
    for n in range(40):
        fresh = [number(n, {"a": i}) for i in range(50)]
        _, _, parsed = render(gauge(f"g{n % 7}", *fresh), page=page)
        assert [s.value for s in parsed[f"g{n % 7}"].samples] == [n] * 50
    (writer,) = page._writers.values()
    assert len(writer._kept) <= 4
    for n in range(12):
        render(gauge("g", *[number(n, {"a": i}) for i in range(50)]), page=page)
    assert all(len(each.lines._known) <= 2 * (2 * 50 + 64 + 50) for each in writer._kept.values())


def test_equal_attributes_made_anew():
    page = PrometheusText()
    for value in (1, True, 1.0, "1", 1):
        _, _, parsed = render(gauge("g", number(1, {"a": value})), page=page)
        assert parsed["g"].samples[0].labels["a"] == attribute_text(value, Tally())
    (writer,) = page._writers.values()
    (known,) = writer._kept.values()
    assert len(known.lines._known) == 4 + 2  # mappings, and contents that tell all


def test_what_is_remembered():
    memory = Memory()
    for n in range(200):
        memory.began(1)
        memory.keep({"a": n}, n)
        assert memory.find({"a": n}) == n
    assert len(memory) < 2 * 70
    for nothing in (5, None, {"b": 1}, {"b": [1]}):
        assert memory.find(nothing) is None
        memory.keep(5, 5)
    assert memory.find(5) is None


def test_attributes_that_change_under_one_identity():
    page = PrometheusText()
    attributes = {"a": "1"}
    for value in ("1", "2"):
        attributes["a"] = value
        _, _, parsed = render(gauge("g", number(1, attributes)), page=page)
        assert parsed["g"].samples[0].labels["a"] == value


def test_what_a_meter_makes():
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], RESOURCE, shutdown_on_exit=False)
    meter = provider.get_meter("tests")
    created = meter.create_counter("requests")
    page = PrometheusText()
    for n in range(1, 4):
        created.add(1, {"route": "/a"})
        created.add(1, {"route": "/b"})
        text = page.render(reader.get_metrics_data(), accept=OPENMETRICS).body.decode()
        assert [s.value for s in families(text)["requests"].samples] == [n, n]
    provider.shutdown()
