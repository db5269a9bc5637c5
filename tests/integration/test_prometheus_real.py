"""A real Prometheus scrapes what is rendered and takes what is written remotely."""

import time

import cramjam
import prometheus_servers
import pytest
from opentelemetry import trace
from opentelemetry.sdk.metrics import Counter, Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader
from opentelemetry.sdk.metrics.view import (
    ExplicitBucketHistogramAggregation,
    ExponentialBucketHistogramAggregation,
    View,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.trace import SpanContext, TraceFlags

from hastack.observe import BackendConfig, MetricsEndpoint, MetricsServer, QueueConfig
from hastack.observe._backends import exporter_of
from hastack.observe._prometheus_text import PrometheusText
from hastack.observe._remote_write import RemoteWrite
from hastack.observe.metrics import MetricReader

pytestmark = pytest.mark.skipif(
    prometheus_servers.BINARY is None, reason="prometheus is not installed"
)

RESOURCE = Resource(
    {
        "service.name": "orders",
        "service.namespace": "shop",
        "service.instance.id": "i-1",
        "host.name": 'a"b\\c\nd',
    }
)
SAMPLED = trace.set_span_in_context(
    trace.NonRecordingSpan(
        SpanContext(0xABCDEF, 0x1234, is_remote=False, trace_flags=TraceFlags(1))
    )
)


@pytest.fixture
def readers():
    classic = InMemoryMetricReader()
    exponential = InMemoryMetricReader(
        preferred_aggregation={Histogram: ExponentialBucketHistogramAggregation()}
    )
    bounds = ExplicitBucketHistogramAggregation((0.1, 1, 2500000))
    view = View(instrument_name="explicit", aggregation=bounds)
    provider = MeterProvider([classic, exponential], RESOURCE, views=[view], shutdown_on_exit=False)
    meter = provider.get_meter("tests", "1.0", attributes={"team": "a"})
    counter = meter.create_counter("http.requests", "{request}", 'All "requests"\n\\ of them')
    counter.add(5, {"http.route": "/a", "status": 200}, context=SAMPLED)
    counter.add(7, {"http.route": 'q"u\\o\nte é', "status": 500})
    meter.create_up_down_counter("queue.size").add(-3)
    meter.create_gauge("cpu.load", "1").set(0.25)
    for name in ("latency", "explicit"):
        histogram = meter.create_histogram(name, "s", "Latency")
        for value in (0.05, 0.5, 0.7, 3.0):
            histogram.record(value, {"http.route": "/a"}, context=SAMPLED)
    other = provider.get_meter("other")
    other.create_counter("http.requests", "{request}", "Another description").add(1, {"x": "y"})
    other.create_gauge("http.requests.total").set(9)  # another kind under the same name
    yield classic, exponential
    provider.shutdown()


def labels(result):
    return {name: value for name, value in result["metric"].items() if name != "__name__"}


def test_scrapes(readers, scraping):
    classic, _ = readers
    text = PrometheusText(created=True)
    pages = []
    server, port = scraping, scraping.free.pop()
    page = f'job="page-{port}"'

    def answer(accept):
        found = text.render(classic.get_metrics_data(), accept=accept)
        pages.append(found)
        return found.content_type, found.body

    with prometheus_servers.page(answer, port) as accepts:
        assert server.wait_for(f"up{{{page}}} == 1")
        (a,) = server.wait_for('http_requests_total{http_route="/a"}')
        assert a["value"][1] == "5"
        assert labels(a) == {
            "http_route": "/a",
            "status": "200",
            "otel_scope_name": "tests",
            "otel_scope_version": "1.0",
            "otel_scope_team": "a",
            "instance": f"127.0.0.1:{port}",
            "job": f"page-{port}",
        }
        (b,) = server.query('http_requests_total{status="500"}')
        assert b["metric"]["http_route"] == 'q"u\\o\nte é'
        (c,) = server.query('http_requests_total{otel_scope_name="other"}')
        assert c["value"][1] == "1"
        assert server.query("queue_size")[0]["value"][1] == "-3"
        assert server.query("cpu_load_ratio")[0]["value"][1] == "0.25"
        (target,) = server.query(f"target_info{{{page}}}")
        assert target["metric"]["host_name"] == 'a"b\\c\nd'
        assert target["metric"]["service_name"] == "orders"
        assert server.query("sum(latency_seconds_count)")[0]["value"][1] == "4"
        bounds = server.query("explicit_seconds_bucket")
        by_bound = {each["metric"]["le"]: each["value"][1] for each in bounds}
        assert by_bound == {"0.1": "1", "1.0": "3", "2.5e+06": "4", "+Inf": "4"}
        metadata = server.get("/api/v1/metadata")
        found = [entry for key, entry in metadata.items() if key.startswith("http_requests")]
        assert found[0][0]["type"] == "counter"
        assert found[0][0]["help"] == 'All "requests"\n\\ of them'
        exemplars = server.exemplars("http_requests_total")
        ids = exemplars[0]["exemplars"][0]["labels"]
        assert ids == {"trace_id": f"{0xABCDEF:032x}", "span_id": f"{0x1234:016x}"}
        buckets = server.exemplars("explicit_seconds_bucket")
        values = {float(e["value"]) for each in buckets for e in each["exemplars"]}
        assert values == {0.05, 0.7, 3.0}
        assert server.query("http_requests_created")
        assert "openmetrics" in accepts[0]
    assert pages[-1].conflicts == 1
    assert pages[-1].conflicting == ("http_requests_total",)


def send(server, encoder, data):
    out = bytearray()
    done = encoder.encode([data], out)
    body = bytes(cramjam.snappy.compress_raw(bytes(out)))
    form = encoder.format
    status, message = server.write(body, form.content_type, form.headers)
    assert (status, message) == (204, "")
    return done


def test_takes_remote_writes(readers, tmp_path):
    classic, exponential = readers
    with prometheus_servers.running(tmp_path) as server:
        encoder = RemoteWrite()
        done = send(server, encoder, classic.get_metrics_data())
        assert (done.taken, done.units, done.unsupported) == (8, 8, 0)
        (a,) = server.wait_for('http_requests_total{http_route="/a"}')
        assert a["value"][1] == "5"
        assert labels(a) == {
            "http_route": "/a",
            "status": "200",
            "otel_scope_name": "tests",
            "otel_scope_version": "1.0",
            "otel_scope_team": "a",
            "job": "shop/orders",
            "instance": "i-1",
        }
        (target,) = server.query("target_info")
        assert labels(target) == {
            "host_name": 'a"b\\c\nd',
            "job": "shop/orders",
            "instance": "i-1",
        }
        quantile = "histogram_quantile(0.5, sum by (le) (explicit_seconds_bucket))"
        assert 0.1 < float(server.query(quantile)[0]["value"][1]) <= 1.0
        exemplars = server.exemplars("http_requests_total")
        assert exemplars[0]["exemplars"][0]["labels"]["trace_id"] == f"{0xABCDEF:032x}"

        time.sleep(0.01)  # another millisecond: samples of one time would be duplicates
        send(server, encoder, exponential.get_metrics_data())
        (count,) = server.wait_for("histogram_count(latency_seconds)")
        assert count["value"][1] == "4"
        (total,) = server.query("histogram_sum(latency_seconds)")
        assert float(total["value"][1]) == pytest.approx(4.25)
        (share,) = server.query("histogram_fraction(0, 0.6, latency_seconds)")
        assert float(share["value"][1]) == pytest.approx(0.5, abs=0.01)
        (half,) = server.query("histogram_quantile(1, latency_seconds)")
        assert float(half["value"][1]) == pytest.approx(3.0, rel=0.05)


def test_differences_become_totals(scraping):
    """A reader of delta temporality, pushed and scraped: Prometheus sees counters that rise."""
    temporality = {Counter: AggregationTemporality.DELTA, Histogram: AggregationTemporality.DELTA}
    pulled = InMemoryMetricReader(preferred_temporality=temporality)
    endpoint = MetricsEndpoint(pulled.get_metrics_data)
    server, port = scraping, scraping.free.pop()
    with MetricsServer(endpoint, port=port):
        backend = BackendConfig(kind="remote-write", endpoint=server.url)
        exporter = exporter_of("prom", backend, "metrics", queue=QueueConfig(linger=0.01))
        pushed = MetricReader(exporter, every=3600.0, temporality=temporality)
        provider = MeterProvider([pulled, pushed], RESOURCE, shutdown_on_exit=False)
        meter = provider.get_meter("tests")
        counter = meter.create_counter("shop.orders")
        histogram = meter.create_histogram("shop.latency", "s")
        for _ in range(3):
            counter.add(2, {"kind": "a"})
            histogram.record(0.5)
            assert pushed.force_flush(30_000)
            time.sleep(0.01)  # another millisecond
        counter.add(1, {"kind": "b"})  # the other one is idle meanwhile
        assert pushed.force_flush(30_000)
        for job in (f"page-{port}", "shop/orders"):
            (a,) = server.wait_for(f'shop_orders_total{{job="{job}",kind="a"}} == 6')
            assert a["value"][1] == "6"
            (b,) = server.wait_for(f'shop_orders_total{{job="{job}",kind="b"}}')
            assert b["value"][1] == "1"
            (count,) = server.wait_for(f'shop_latency_seconds_count{{job="{job}"}} == 3')
            assert count["value"][1] == "3"
        account = exporter.account()
        assert account.sent == account.emitted == 3 * 2 + 3  # idle series are sent as well
        provider.shutdown()
