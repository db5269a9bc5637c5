"""Instruments in one process: what is counted, what is refused, what comes out."""

import dataclasses
import threading
from math import inf, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from hastack import events
from hastack.errors import InvalidArgument
from hastack.observe import PrometheusText, _metrics_data, instruments
from hastack.observe.instruments import Metrics, SeriesOverflowed

RESOURCE = Resource({"service.name": "shop"})
SECONDS = {"bounds": (0.1, 1.0), "unit": "s"}


def meter(**options):
    metrics = Metrics(**options)
    return metrics, metrics.meter("shop", "1.0")


def totals(metrics):
    return {(s.descriptor.name, s.attributes): s.numbers[0] for s in metrics.series()}


def test_each_set_of_attributes_counts_for_itself_in_whatever_order_it_is_written():
    metrics, shop = meter()
    counter = shop.counter("c")
    counter.add(1, {"a": 1, "b": "x"})
    counter.add(2, {"b": "x", "a": 1})
    counter.bind({"a": 1, "b": "x"}).add(0.5)
    counter.add()
    counter.bind({}).add(2)
    counter.add(1, {"list": [1, 2]})
    counter.add(1, {"list": (1, 2)})
    assert totals(metrics) == {
        ("c", (("a", 1), ("b", "x"))): 3.5,
        ("c", ()): 3,
        ("c", (("list", (1, 2)),)): 2,
    }


def test_every_kind():
    metrics, shop = meter()
    shop.up_down_counter("u").add(-2)
    shop.gauge("g").set(inf)
    shop.gauge("g").set(7, {"k": "v"})
    shop.histogram("h", **SECONDS).record(0.1)
    shop.histogram("h", **SECONDS).record(5)
    shop.observe("o", lambda: 3)
    shop.observe("p", lambda: [(1, {"q": "a"}), (2.5, {"q": "b"})], kind="counter")
    found = {(s.descriptor.name, s.attributes): s.numbers for s in metrics.series()}
    assert found["u", ()][0] == -2
    assert found["g", ()][0] == inf
    assert found["g", (("k", "v"),)][0] == 7
    assert found["h", ()] == [5.1, 0.1, 5, 1, 0, 1]
    assert found["o", ()][0] == 3
    assert found["p", (("q", "b"),)][0] == 2.5


def test_asking_again_gives_the_same_and_anything_else_by_that_name_is_refused():
    metrics, shop = meter()
    assert shop.counter("c") is shop.counter("c")
    assert metrics.meter("shop", "1.0") is shop
    assert metrics.meter("shop", "2.0") is not shop
    shop.observe("o", lambda: 1)
    for again in (
        lambda: shop.gauge("c"),
        lambda: shop.counter("c", unit="s"),
        lambda: shop.observe("c", lambda: 1),
    ):
        with pytest.raises(InvalidArgument, match="name='c'"):
            again()
    shop.histogram("h", bounds=(1,))
    with pytest.raises(InvalidArgument, match="Histogram 'h'"):
        shop.histogram("h", bounds=(1, 2))
    with pytest.raises(InvalidArgument, match="name='o'"):
        shop.observe("o", lambda: 2)
    with pytest.raises(InvalidArgument, match="name='o'"):
        shop.counter("o")


@pytest.mark.parametrize("amount", [-1, nan, inf])
def test_a_counter_takes_no_nonsense(amount):
    metrics, shop = meter()
    with pytest.raises(InvalidArgument, match="amount="):
        shop.counter("c").add(amount)
    assert totals(metrics) == {("c", ()): 0}


@pytest.mark.parametrize("value", [nan, inf, -inf])
def test_neither_do_the_others(value):
    metrics, shop = meter()
    with pytest.raises(InvalidArgument, match="value="):
        shop.histogram("h").record(value)
    with pytest.raises(InvalidArgument, match="amount="):
        shop.up_down_counter("u").add(value)
    assert set(totals(metrics).values()) == {0}


@pytest.mark.parametrize(
    "attributes", [{"a": None}, {"a": object()}, {"a": {}}, {"a": [[1]]}, {"a": b"x"}, 7]
)
def test_attributes_of_other_types_are_named(attributes):
    _, shop = meter()
    with pytest.raises(InvalidArgument, match="attributes="):
        shop.counter("c").add(1, attributes)


def test_names_that_cannot_be_sorted_are_named():
    _, shop = meter()
    with pytest.raises(InvalidArgument, match="attributes="):
        shop.counter("c").add(1, {1: "a", "b": "c"})


@pytest.mark.parametrize(
    ("make", "parameter"),
    [
        (lambda: Metrics(limit=1), "limit"),
        (lambda: Metrics().meter(""), "name"),
        (lambda: Metrics().meter("m").counter(""), "name"),
        (lambda: Metrics().meter("m").gauge("g", across="mean"), "across"),
        (lambda: Metrics().meter("m").histogram("h", bounds=(2, 1)), "bounds"),
        (lambda: Metrics().meter("m").histogram("h", bounds=(1, inf)), "bounds"),
        (lambda: Metrics().meter("m").observe("o", lambda: 1, kind="sum"), "kind"),
        (lambda: Metrics().meter("m").observe("o", 3), "callback"),
    ],
)
def test_bad_settings_are_named(make, parameter):
    with pytest.raises(InvalidArgument) as caught:
        make()
    assert caught.value.parameter == parameter


def test_beyond_its_limit_an_instrument_counts_together_and_loses_nothing():
    metrics, shop = meter(limit=5)
    counter = shop.counter("c")
    with events.record(SeriesOverflowed) as seen:
        for number in range(100):
            counter.add(1, {"id": number})
        counter.add(1, {"id": 0})
    found = totals(metrics)
    assert len(found) == 5
    assert found["c", (("otel.metric.overflow", True),)] == 96
    assert found["c", (("id", 0),)] == 2
    assert [(event.name, event.limit, event.attributes) for event in seen] == [
        ("c", 5, (("id", 4),))
    ]
    assert len(counter._written) <= 20


def test_a_callback_that_raises_is_reported_once_and_the_others_are_heard(caplog):
    metrics, shop = meter()

    def broken():
        raise KeyError

    shop.observe("b", broken)
    shop.observe("n", lambda: None)
    shop.observe("o", lambda: 1)
    for _ in range(3):
        assert totals(metrics) == {("o", ()): 1}
    assert [r.message for r in caplog.records] == [
        "b: its callback raised (reported once)",
        "n: its callback raised (reported once)",
    ]


def test_threads_lose_no_count():
    metrics, shop = meter()
    counter, histogram = shop.counter("c"), shop.histogram("h", **SECONDS)

    def work(number):
        mine = counter.bind({"t": number % 3})
        for step in range(3000):
            mine.add()
            counter.add(1, {"step": step % 7})
            histogram.record(step % 2)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for _ in range(20):
        metrics.series()
    for thread in threads:
        thread.join(30)
    found = totals(metrics)
    assert sum(found["c", (("t", n),)] for n in range(3)) == 18_000
    assert sum(found["c", (("step", n),)] for n in range(7)) == 18_000
    [h] = [s for s in metrics.series() if s.descriptor.name == "h"]
    assert h.numbers == [9000, 0, 1, 9000, 9000, 0]


@given(
    st.lists(st.floats(-100, 100), max_size=30),
    st.lists(st.floats(-50, 50), unique=True, max_size=6).map(sorted),
)
def test_what_comes_out_is_what_the_official_sdk_counts(values, bounds):
    metrics, shop = meter()
    reader = InMemoryMetricReader()
    provider = MeterProvider(
        [reader], resource=Resource({"service.name": "s"}), shutdown_on_exit=False
    )
    theirs = provider.get_meter("shop", "1.0")
    histogram = shop.histogram("h", unit="s", description="d", bounds=bounds)
    other = theirs.create_histogram(
        "h", unit="s", description="d", explicit_bucket_boundaries_advisory=bounds
    )
    up, their_up = shop.up_down_counter("u"), theirs.create_up_down_counter("u")
    count, their_count = shop.counter("c", unit="1"), theirs.create_counter("c", unit="1")
    for value in values:
        attributes = {"sign": value > 0}
        histogram.record(abs(value), attributes)
        other.record(abs(value), attributes)
        up.add(value, attributes)
        their_up.add(value, attributes)
        count.add(abs(value), attributes)
        their_count.add(abs(value), attributes)
    expected = _points(reader.get_metrics_data())
    found = metrics.collect(Resource({"service.name": "s"}))
    assert _points(found) == expected
    provider.shutdown()


def _points(data):
    """Everything but times and the order of things."""
    found = {}
    for resource in data.resource_metrics if data else ():
        assert resource.resource.attributes["service.name"] == "s"
        for scope in resource.scope_metrics:
            assert (scope.scope.name, scope.scope.version) == ("shop", "1.0")
            for metric in scope.metrics:
                for point in metric.data.data_points:
                    numbers = {
                        name: getattr(point, name)
                        for name in ("value", "count", "bucket_counts", "min", "max")
                        if hasattr(point, name)
                    }
                    if "bucket_counts" in numbers:
                        numbers["bucket_counts"] = list(numbers["bucket_counts"])
                        numbers["bounds"] = list(point.explicit_bounds)
                        numbers["sum"] = pytest.approx(point.sum)
                    else:
                        numbers["value"] = pytest.approx(numbers["value"])
                    key = (metric.name, metric.unit, metric.description, *point.attributes.items())
                    found[key] = (
                        type(metric.data).__name__,
                        getattr(metric.data, "is_monotonic", None),
                        getattr(metric.data, "aggregation_temporality", None),
                        numbers,
                    )
    return found


def test_exemplars_name_the_trace_under_which_something_was_counted():
    metrics, shop = meter(exemplars=instruments.current_trace)
    counter, histogram = shop.counter("c"), shop.histogram("h", **SECONDS)
    counter.add()
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("t")
    with tracer.start_as_current_span("s") as span:
        counter.add(3)
        histogram.record(0.5)
        seen = span.get_span_context()
    with (
        TracerProvider(ALWAYS_OFF, shutdown_on_exit=False)
        .get_tracer("t")
        .start_as_current_span("n")
    ):
        counter.add(4)
    assert trace.get_current_span().get_span_context().is_valid is False
    data = metrics.collect().resource_metrics[0].scope_metrics[0].metrics
    for metric, value in zip(data, (3, 0.5), strict=True):
        [point] = metric.data.data_points
        [exemplar] = point.exemplars
        assert (exemplar.value, exemplar.trace_id, exemplar.span_id) == (
            value,
            seen.trace_id,
            seen.span_id,
        )


def test_an_empty_registry_is_empty_data():
    data = Metrics().collect()
    assert data.resource_metrics[0].scope_metrics == []


@pytest.mark.parametrize("shared", [False, True])
def test_what_stays_is_the_same_object_at_each_collection(tmp_path, shared):
    """Encoders and pages find again what they made of it."""
    metrics = Metrics(directory=tmp_path if shared else None)
    shop = metrics.meter("shop")
    counter, histogram = shop.counter("c"), shop.histogram("h")
    page = PrometheusText()
    seen = []
    for number in range(3):
        counter.add(1, {"kind": "a"})
        histogram.record(0.5, {"kind": "a"})
        data = metrics.collect(RESOURCE)
        (scope,) = data.resource_metrics[0].scope_metrics
        points = [metric.data.data_points[0] for metric in scope.metrics]
        seen.append([id(scope.scope), *[id(point.attributes) for point in points]])
        assert points[0].value == number + 1
        body = page.render(data).body.decode()
        assert f'c_total{{kind="a",otel_scope_name="shop"}} {number + 1}\n' in body
    assert seen[0] == seen[1] == seen[2]
    (writer,) = page._writers.values()
    assert sorted(len(each.lines._known) for each in writer._kept.values()) == [2, 2]


def test_points_are_those_of_the_sdk():
    metrics = Metrics()
    metrics.meter("shop").counter("c").add(2.0, {"kind": "a"})
    (scope,) = metrics.collect(RESOURCE).resource_metrics[0].scope_metrics
    (point,) = scope.metrics[0].data.data_points
    made = type(point)({"kind": "a"}, metrics.started, point.time_unix_nano, 2, point.exemplars)
    assert point == made
    assert dataclasses.asdict(point) == dataclasses.asdict(made)
    assert point.to_json() == made.to_json()


def test_a_point_of_another_making_is_made_by_its_own_class():
    """A later SDK may do more than to set five fields."""

    @dataclasses.dataclass(frozen=True)
    class Other:
        attributes: dict
        start_time_unix_nano: int
        time_unix_nano: int
        value: float
        exemplars: list
        more: int = 7

    build = _metrics_data.Builder()
    assert build._plain
    assert not _metrics_data._is_plain(Other)
    metrics = Metrics()
    metrics.meter("shop").counter("c").add(3)
    metrics._builder = build
    before = metrics.collect(RESOURCE)
    build._plain = False
    after = metrics.collect(RESOURCE)
    values = [
        data.resource_metrics[0].scope_metrics[0].metrics[0].data.data_points[0].value
        for data in (before, after)
    ]
    assert values == [3, 3]
