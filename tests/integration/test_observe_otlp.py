"""The pipeline against OTLP servers that fail on command."""

from __future__ import annotations

import time

import grpc
import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from otlp_servers import GrpcServer, HttpServer

from hastack import config
from hastack.observe import BackendConfig, QueueConfig
from hastack.observe._backends import exporter_of
from hastack.observe.traces import SpanExporter, SpanProcessor

pytestmark = pytest.mark.usefixtures("short_pauses")

FAST = QueueConfig(linger=0.01, batch=10)


@pytest.fixture(params=["otlp-http", "otlp-grpc"])
def kind(request):
    return request.param


@pytest.fixture
def server(kind):
    with HttpServer() if kind == "otlp-http" else GrpcServer() as running:
        yield running


def exporter_to(kind, url, *, queue=FAST, timeout=5.0, signal="traces", breaker=None, **options):
    backend = BackendConfig(kind=kind, endpoint=url, timeout=timeout, **options)
    return exporter_of("test", backend, signal, queue=queue, breaker=breaker)


@pytest.fixture
def exporter(kind, server):
    made = exporter_to(kind, server.url)
    yield made
    made.shutdown(0.0)


def tracer_of(exporter, service="shop"):
    provider = TracerProvider(resource=Resource({"service.name": service}), shutdown_on_exit=False)
    provider.add_span_processor(SpanProcessor(exporter))
    return provider.get_tracer("test")


def spans(tracer, count, start=0):
    for n in range(start, start + count):
        tracer.start_span(f"s{n}").end()


def names(server, service="shop"):
    return [name for s, name in server.spans() if s == service]


def numbered(count):
    return [f"s{n}" for n in range(count)]


def test_spans_arrive_once_and_in_order(server, exporter):
    spans(tracer_of(exporter), 1000)
    report = exporter.force_flush(20.0)
    assert report, report
    assert names(server) == numbered(1000)
    assert report.account.sent == report.account.emitted == 1000
    assert exporter.shutdown(5.0)


NOT_NOW = ("CANCELLED", "DEADLINE_EXCEEDED", "ABORTED", "OUT_OF_RANGE", "UNAVAILABLE", "DATA_LOSS")
TROUBLE = {
    "otlp-http": [503, 429, 502, 504, "cut request", "garbage"],
    "otlp-grpc": [("code", getattr(grpc.StatusCode, name), "not now") for name in NOT_NOW],
}


def test_what_may_be_sent_again_is_and_stays_in_order(kind, server, exporter):
    server.script.extend(TROUBLE[kind][:3])
    spans(tracer_of(exporter), 30)
    report = exporter.force_flush(30.0)
    assert report, report
    assert names(server) == numbered(30)
    assert report.account.retried == 3


@pytest.mark.parametrize("n", range(3, 6))
def test_each_kind_of_trouble(kind, server, exporter, n):
    server.script.append(TROUBLE[kind][n])
    spans(tracer_of(exporter), 5)
    assert exporter.force_flush(30.0)
    assert names(server) == numbered(5)


REFUSED = {
    "otlp-http": (400, "http_400"),
    "otlp-grpc": (("code", grpc.StatusCode.INTERNAL, "no"), "grpc_internal"),
}


def test_what_must_not_be_sent_again_is_counted(kind, server, exporter):
    action, reason = REFUSED[kind]
    server.script.append(action)
    spans(tracer_of(exporter), 5)
    report = exporter.force_flush(20.0)
    assert not report
    assert report.account.dropped == {reason: 5}
    assert report.account.retried == 0
    assert len(server.requests) == 1


def test_partial_success_is_counted_and_not_sent_again(server, exporter):
    server.script.append(("partial", 2))
    spans(tracer_of(exporter), 5)
    report = exporter.force_flush(20.0)
    assert not report
    assert (report.account.sent, dict(report.account.dropped)) == (3, {"rejected": 2})
    assert len(server.requests) == 1


def test_a_server_that_says_when_is_heard(kind, server, exporter):
    ask = (503, {"Retry-After": "1"}) if kind == "otlp-http" else ("retry info", 1.0)
    server.script.append(ask)
    spans(tracer_of(exporter), 5)
    assert exporter.force_flush(30.0)
    (first, *_), (second, *_) = server.requests
    assert second - first >= 1.0


def test_a_pause_beyond_every_budget_keeps_the_data(kind, server, exporter):
    ask = (429, {"Retry-After": "3600"}) if kind == "otlp-http" else ("retry info", 3600.0)
    server.script.append(ask)
    spans(tracer_of(exporter), 5)
    report = exporter.force_flush(1.0)
    assert not report
    assert report.account.queued == 5
    assert not report.account.lost
    ended = exporter.shutdown(0.5)
    assert dict(ended.account.dropped) == {"shutdown": 5}
    assert ended.took < 5.0


def test_batches_that_are_too_long_are_split(kind, server, exporter):
    if kind == "otlp-http":
        server.limit = 3
    else:
        text = "CLIENT: Received message larger than max (5 vs. 4)"
        server.script.extend([("code", grpc.StatusCode.RESOURCE_EXHAUSTED, text)] * 2)
    spans(tracer_of(exporter), 10)
    assert exporter.force_flush(30.0)
    assert names(server) == numbered(10)


def test_one_span_that_is_too_long_is_counted(kind, server, exporter):
    text = "CLIENT: Received message larger than max (5 vs. 4)"
    server.script.append(
        413 if kind == "otlp-http" else ("code", grpc.StatusCode.RESOURCE_EXHAUSTED, text)
    )
    spans(tracer_of(exporter), 1)
    report = exporter.force_flush(30.0)
    assert dict(report.account.dropped) == {"too_large": 1}


def test_services_do_not_wait_for_each_other(server, exporter):
    """One lane each; the script's trouble hits whoever comes first, and order holds for both."""
    server.script.extend(
        ["ok", *TROUBLE["otlp-http"][:1]] if isinstance(server, HttpServer) else []
    )
    first, second = tracer_of(exporter, "orders"), tracer_of(exporter, "payments")
    for n in range(100):
        first.start_span(f"s{n}").end()
        second.start_span(f"s{n}").end()
    assert exporter.force_flush(30.0)
    assert names(server, "orders") == names(server, "payments") == numbered(100)


def test_headers_and_compression(kind, server):
    options = {"headers": {"X-Scope": "a"}, "token": config.Secret("s3cr3t"), "compression": "gzip"}
    exporter = exporter_to(kind, server.url, **options)
    spans(tracer_of(exporter), 1)
    assert exporter.force_flush(20.0)
    seen = {name.lower(): value for name, value in server.headers[0].items()}
    assert seen["x-scope"] == "a"
    assert seen["authorization"] == "Bearer s3cr3t"
    exporter.shutdown(1.0)


def test_as_an_exporter_of_the_sdk_s_own_processor(server, exporter):
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor

    provider = TracerProvider(resource=Resource({"service.name": "shop"}), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(SpanExporter(exporter)))
    spans(provider.get_tracer("test"), 3)
    assert provider.force_flush(20_000)
    assert exporter.force_flush(20.0)
    assert names(server) == numbered(3)
    provider.shutdown()


# -- faults of HTTP itself ---------------------------------------------------------------------


@pytest.fixture
def http():
    with HttpServer() as running:
        yield running


@pytest.mark.parametrize("action", ["cut answer", "huge", "bad gzip", "gzip bomb"])
def test_an_answer_that_is_no_good_after_its_status_is_an_answer(http, action):
    """The server said 200: a second request would only double the data."""
    exporter = exporter_to("otlp-http", http.url)
    # The server says so without keeping anything: what it does with the data is its business.
    http.script.append(action)
    spans(tracer_of(exporter), 5)
    report = exporter.force_flush(20.0)
    assert report, report
    assert report.account.sent == 5
    assert len(http.requests) == 1
    spans(tracer_of(exporter), 5, start=5)
    assert exporter.force_flush(20.0)
    assert names(http) == [f"s{n}" for n in range(5, 10)]
    exporter.shutdown(1.0)


@pytest.mark.parametrize("action", ["loris", "black hole"])
def test_a_request_has_an_end(http, action):
    exporter = exporter_to("otlp-http", http.url, timeout=0.5)
    http.script.append(action)
    spans(tracer_of(exporter), 5)
    assert exporter.force_flush(30.0)
    assert names(http) == numbered(5)
    assert exporter.account().retried == 1
    exporter.shutdown(1.0)


def test_a_slow_answer_has_the_time_of_the_request(http, monkeypatch):
    """And not that of connecting, which is shorter."""
    from hastack.observe import _http

    monkeypatch.setattr(_http, "_CONNECT_TIMEOUT", 0.2)
    exporter = exporter_to("otlp-http", http.url, timeout=20.0)
    http.script.extend([("slow", 0.5), ("slow", 0.5)])
    for start in (0, 5):  # on a new connection, and on a kept one
        spans(tracer_of(exporter), 5, start=start)
        assert exporter.force_flush(30.0)
    assert names(http) == numbered(10)
    assert exporter.account().retried == 0
    exporter.shutdown(1.0)


def test_an_answer_that_was_lost_doubles_at_most(http):
    exporter = exporter_to("otlp-http", http.url)
    http.script.append("lost answer")
    spans(tracer_of(exporter), 5)
    assert exporter.force_flush(30.0)
    assert names(http) == numbered(5) * 2
    exporter.shutdown(1.0)


@pytest.mark.parametrize("kind", ["otlp-http", "otlp-grpc"])
def test_nobody_listens(kind):
    url = "127.0.0.1:9" if kind == "otlp-grpc" else "http://127.0.0.1:9"
    exporter = exporter_to(kind, url)
    spans(tracer_of(exporter), 5)
    report = exporter.force_flush(0.5)
    assert not report
    assert report.account.pending == 5
    ended = exporter.shutdown(0.5)
    assert ended.account.lost == 5
    assert ended.account.balanced
    assert ended.took < 5.0


@pytest.mark.parametrize("kind", ["otlp-http", "otlp-grpc"])
def test_a_name_that_does_not_resolve(kind):
    host = "does-not-exist.invalid:4317"
    exporter = exporter_to(kind, host if kind == "otlp-grpc" else f"http://{host}")
    answer = exporter._wire.transport.send(0, b"", 10.0)
    assert answer.kind == "dns", answer
    exporter.shutdown(0.0)


@pytest.mark.parametrize("kind", ["otlp-http", "otlp-grpc"])
def test_a_black_hole_does_not_hold_up_the_end(kind):
    with HttpServer() if kind == "otlp-http" else GrpcServer() as server:
        server.always = "black hole"
        exporter = exporter_to(kind, server.url, timeout=30.0)
        spans(tracer_of(exporter), 25)
        while not exporter.account().in_flight:
            time.sleep(0.005)
        began = time.monotonic()
        report = exporter.shutdown(1.0)
        took = time.monotonic() - began
        assert 0.8 < took < 9.0  # noise of a busy machine; bench_observe_pipeline.py prints it
        account = report.account
        assert not report
        assert account.balanced
        assert account.lost == account.emitted == 25
        assert account.dropped["unanswered"] >= 1
        assert account.dropped["unanswered"] + account.dropped.get("shutdown", 0) == 25
        again = exporter.shutdown(5.0)
        assert again.took < 4.0
        assert again.account == account


def test_a_server_that_goes_away_and_comes_back():
    """GOAWAY and a closed port, then another server on it."""
    with GrpcServer() as first:
        port = first.port
        exporter = exporter_to("otlp-grpc", first.url)
        tracer = tracer_of(exporter)
        spans(tracer, 10)
        assert exporter.force_flush(20.0)
    spans(tracer, 10, start=10)
    assert not exporter.force_flush(0.3)
    with GrpcServer(port) as second:
        assert exporter.force_flush(40.0)
        assert names(first) + names(second) == numbered(20)
    exporter.shutdown(1.0)
