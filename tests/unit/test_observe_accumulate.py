"""Differences become the totals that the SDK itself would have collected."""

from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.metrics import (
    Counter,
    Histogram,
    MeterProvider,
    ObservableCounter,
    UpDownCounter,
)
from opentelemetry.sdk.metrics._internal.point import Buckets
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    ExponentialHistogram,
    ExponentialHistogramDataPoint,
    Gauge,
    HistogramDataPoint,
    InMemoryMetricReader,
    Metric,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.metrics.export import Histogram as HistogramData
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from hastack.observe._accumulate import Accumulator
from hastack.observe._metrics_walk import walk

DELTA, CUMULATIVE = AggregationTemporality.DELTA, AggregationTemporality.CUMULATIVE
RESOURCE = Resource({"service.name": "shop"})
SCOPE = InstrumentationScope("tests", "1.0")


def point(value, start, end, **attributes):
    return NumberDataPoint(attributes, start, end, value)


def buckets(counts, start, end, bounds=(1.0, 2.0), **more):
    found = {"count": sum(counts), "sum": 1.0 * sum(counts), "min": 0.5, "max": 3.0, **more}
    return HistogramDataPoint({}, start, end, explicit_bounds=bounds, bucket_counts=counts, **found)


def exponential(scale, positive, start, end, negative=(0, ())):
    return ExponentialHistogramDataPoint(
        {}, start, end, sum(positive[1]) + sum(negative[1]), 1.0, scale, 0,
        Buckets(*positive), Buckets(*negative), 0, 0.5, 2.0,
    )  # fmt: skip


def data(*metrics, resource=RESOURCE):
    return MetricsData([ResourceMetrics(resource, [ScopeMetrics(SCOPE, list(metrics), "")], "")])


def total(*points, name="c", temporality=DELTA, monotonic=True):
    return Metric(name, "", "", Sum(list(points), temporality, monotonic))


def shown(found):
    """Points by metric name."""
    return {metric.name: metric.data.data_points for _, _, metric in walk([found.data])}


def values(found, name="c"):
    return {
        tuple(each.attributes.items()): (each.value, each.start_time_unix_nano, each.time_unix_nano)
        for each in shown(found).get(name, ())
    }


def test_without_differences_nothing_is_touched():
    accumulator = Accumulator()
    for given_data in (None, data(), data(total(point(1, 0, 5), temporality=CUMULATIVE))):
        assert accumulator.add(given_data).data is given_data
    assert len(accumulator) == 0


def test_points_are_added_and_idle_series_stay():
    accumulator = Accumulator()
    first = accumulator.add(data(total(point(3, 10, 20, k="a"), point(1, 10, 20, k="b"))))
    assert values(first) == {(("k", "a"),): (3, 10, 20), (("k", "b"),): (1, 10, 20)}
    second = accumulator.add(data(total(point(4, 20, 30, k="a"))))
    assert values(second) == {(("k", "a"),): (7, 10, 30), (("k", "b"),): (1, 10, 30)}
    assert all(
        metric.data.aggregation_temporality is CUMULATIVE for _, _, metric in walk([second.data])
    )
    nothing = accumulator.add(None)  # the SDK has nothing to say, the totals are what they were
    assert values(nothing) == {(("k", "a"),): (7, 10, 30), (("k", "b"),): (1, 10, 30)}
    third = accumulator.add(data(total(point(1, 45, 50, k="b"))))  # after a gap
    assert values(third) == {(("k", "a"),): (7, 10, 50), (("k", "b"),): (2, 10, 50)}
    assert third.left_out == 0


def test_what_was_counted_already_is_left_out():
    accumulator = Accumulator()
    accumulator.add(data(total(point(3, 10, 20))))
    again = accumulator.add(data(total(point(3, 10, 20))))
    assert (values(again), again.left_out) == ({(): (3, 10, 20)}, 0)
    for start, end in ((5, 10), (10, 30), (15, 25), (0, 20)):
        late = accumulator.add(data(total(point(9, start, end))))
        assert (values(late)[()][0], late.left_out) == (3, 1)
    assert values(accumulator.add(data(total(point(1, 20, 40)))))[()] == (4, 10, 40)


def test_exemplars_are_shown_once():
    accumulator = Accumulator()
    one = NumberDataPoint({}, 10, 20, 1, ["exemplar"])
    assert shown(accumulator.add(data(total(one))))["c"][0].exemplars == ["exemplar"]
    assert shown(accumulator.add(None))["c"][0].exemplars == []


def test_what_is_no_difference_stays_where_it_is():
    accumulator = Accumulator()
    gauge = Metric("g", "", "", Gauge([point(1, None, 20)]))
    whole = total(point(9, 0, 20), name="whole", temporality=CUMULATIVE)
    found = accumulator.add(data(gauge, total(point(1, 10, 20)), whole))
    assert {name: points[0].value for name, points in shown(found).items()} == {
        "g": 1,
        "c": 1,
        "whole": 9,
    }
    assert [name for name, _ in found.data.resource_metrics[0].resource.attributes.items()]


def test_metrics_differ_by_all_that_tells_them_apart():
    accumulator = Accumulator()
    accumulator.add(data(total(point(1, 10, 20))))
    accumulator.add(data(total(point(2, 10, 20)), resource=Resource({"service.name": "other"})))
    accumulator.add(data(total(point(4, 10, 20), monotonic=False)))
    accumulator.add(data(total(point(8, 10, 20, k=1), point(16, 10, 20, k=True))))
    found = [each for _, _, m in walk([accumulator.add(None).data]) for each in m.data.data_points]
    assert sorted(each.value for each in found) == [1, 2, 4, 8, 16]


def test_series_are_bounded_the_longest_idle_go_first():
    accumulator = Accumulator(series=2)
    accumulator.add(data(total(point(1, 0, 10, k="a"))))
    accumulator.add(data(total(point(1, 10, 20, k="b"))))
    accumulator.add(data(total(point(1, 20, 30, k="a"))))
    found = accumulator.add(data(total(point(1, 30, 40, k="c"))))
    assert values(found) == {(("k", "a"),): (2, 0, 40), (("k", "c"),): (1, 30, 40)}
    assert (accumulator.forgotten, len(accumulator)) == (1, 2)
    found = accumulator.add(data(total(point(5, 40, 50, k="b"))))  # begins anew, and says so
    assert values(found)[(("k", "b"),)] == (5, 40, 50)


def test_idle_series_are_forgotten_after_a_time():
    accumulator = Accumulator(stale=100)
    accumulator.add(data(total(point(1, 0, 10)), total(point(1, 0, 10), name="d")))
    assert len(accumulator) == 2
    found = accumulator.add(data(total(point(1, 100, 111), name="d")))
    assert set(shown(found)) == {"d"}
    accumulator.add(data(total(point(1, 300, 400), name="e")))
    assert (len(accumulator), accumulator.forgotten) == (1, 2)


def test_histograms_add_up_while_their_bounds_stay():
    accumulator = Accumulator()

    def add(*points):
        found = accumulator.add(data(Metric("h", "", "", HistogramData(list(points), DELTA))))
        (each,) = shown(found)["h"]
        return each, found.left_out

    add(buckets([1, 0, 2], 10, 20))
    each, _ = add(buckets([0, 1, 1], 20, 30, min=0.1, max=9.0))
    assert (each.bucket_counts, each.count, each.sum) == ([1, 1, 3], 5, 5.0)
    assert (each.min, each.max, each.start_time_unix_nano) == (0.1, 9.0, 10)
    each, _ = add(buckets([1, 0, 0], 30, 40, min=None, sum=None))
    assert (each.min, each.max, each.sum) == (None, 9.0, None)
    each, left_out = add(buckets([1, 0], 40, 50))  # too few counts
    assert (each.count, left_out) == (6, 1)
    each, _ = add(buckets([7], 50, 60, bounds=()))  # other bounds: it begins anew
    assert (each.bucket_counts, each.start_time_unix_nano) == ([7], 50)


def test_exponential_histograms_meet_on_the_coarser_scale():
    accumulator = Accumulator()

    def add(one):
        found = accumulator.add(data(Metric("e", "", "", ExponentialHistogram([one], DELTA))))
        (each,) = shown(found)["e"]
        return each

    add(exponential(2, (4, [1, 2, 3]), 10, 20))
    each = add(exponential(1, (3, [5]), 20, 30, negative=(0, [0, 1])))
    assert (each.scale, each.count) == (1, 12)
    assert (each.positive.offset, each.positive.bucket_counts) == (2, [3, 8])
    assert (each.negative.offset, each.negative.bucket_counts) == (1, [1])
    # Far apart: as coarse as it takes to hold both.
    each = add(exponential(1, (1 << 20, [1]), 30, 40))
    assert len(each.positive.bucket_counts) <= 320
    assert (sum(each.positive.bucket_counts), each.count) == (12, 13)
    each = add(exponential(20, (0, []), 40, 50))
    assert sum(each.positive.bucket_counts) == 12


@dataclass
class Odd:
    """A point that holds no numbers."""

    attributes: object
    start_time_unix_nano: object
    time_unix_nano: object
    value: object


@pytest.mark.parametrize(
    "bad",
    [None, object(), Odd({}, 10, None, 1), Odd({}, "x", 20, 1), Odd({}, 20, 30, "x"), Odd({}, 20, 30, None)],
)  # fmt: skip
def test_points_that_are_none_are_left_out(bad):
    accumulator = Accumulator()
    accumulator.add(data(total(point(1, 10, 20))))
    found = accumulator.add(data(total(bad)))
    assert (values(found)[()][0], found.left_out) == (1, 1)
    assert Accumulator().add(data(total(None))).left_out == 1


def test_attributes_that_are_none_have_a_series_all_the_same():
    accumulator = Accumulator()
    for start in (10, 20):
        found = accumulator.add(data(total(NumberDataPoint(5, start, start + 10, 1))))
    (each,) = shown(found)["c"]
    assert each.value == 2


def test_what_is_not_made_of_dataclasses_is_handed_on():
    class Own:
        name, unit, description = "c", "", ""
        data = total(point(1, 10, 20)).data

    class Broken:
        name = "x"

        @property
        def data(self):
            raise RuntimeError

    class Holder:
        def __init__(self, **fields):
            self.__dict__.update(fields)

    own, accumulator = Own(), Accumulator()
    scope = ScopeMetrics(SCOPE, [own, Broken(), total(point(2, 10, 20))], "")
    found = accumulator.add(Holder(resource_metrics=[ResourceMetrics(RESOURCE, [scope], "")]))
    assert [metric.data.data_points[0].value for _, _, metric in walk([found.data]) if metric.name == "c"] == [1, 2]  # fmt: skip
    plain = Holder(resource=RESOURCE, scope_metrics=[replace(scope, metrics=[own])])
    handed = Holder(resource_metrics=[plain])
    assert Accumulator().add(handed).left_out == 0


MEASUREMENTS = st.lists(
    st.none()  # collect
    | st.tuples(
        st.sampled_from(["counter", "updown", "histogram", "exponential"]),
        st.integers(-50, 1000),
        st.sampled_from(["a", "b", "c"]),
    ),
    max_size=30,
)


@given(MEASUREMENTS)
def test_the_same_as_the_sdk_collects_itself(measurements):
    temporality = dict.fromkeys((Counter, UpDownCounter, Histogram, ObservableCounter), DELTA)
    delta = InMemoryMetricReader(preferred_temporality=temporality)
    whole = InMemoryMetricReader()
    view = View(instrument_name="exponential", aggregation=ExponentialBucketHistogramAggregation())
    provider = MeterProvider([delta, whole], RESOURCE, views=[view], shutdown_on_exit=False)
    meter = provider.get_meter("tests")
    add = {
        "counter": lambda value, a: meter_of["counter"].add(abs(value), a),
        "updown": lambda value, a: meter_of["updown"].add(value, a),
        "histogram": lambda value, a: meter_of["histogram"].record(abs(value), a),
        "exponential": lambda value, a: meter_of["exponential"].record(abs(value), a),
    }
    meter_of = {
        "counter": meter.create_counter("counter"),
        "updown": meter.create_up_down_counter("updown"),
        "histogram": meter.create_histogram("histogram"),
        "exponential": meter.create_histogram("exponential"),
    }
    accumulator = Accumulator()
    for measurement in [*measurements, None]:
        if measurement is not None:
            name, value, who = measurement
            add[name](value, {"who": who})
            continue
        found = accumulator.add(delta.get_metrics_data())
        assert found.left_out == 0
        assert comparable(found.data) == comparable(whole.get_metrics_data())
    provider.shutdown()


def comparable(found):
    result = {}
    for _, _, metric in walk([found]):
        for each in metric.data.data_points:
            key = (metric.name, each.attributes["who"])
            if metric.name in {"counter", "updown"}:
                result[key] = each.value
            elif metric.name == "histogram":
                result[key] = (list(each.bucket_counts), each.count, each.sum, each.min, each.max)
            else:
                result[key] = (each.count, each.sum, each.zero_count, each.min, each.max,
                               sum(each.positive.bucket_counts))  # fmt: skip
    return result
