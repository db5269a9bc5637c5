"""The pipeline against Loki's push endpoint and remote write receivers."""

from __future__ import annotations

import logging
import time

import prometheus_servers
import pytest
from observe_items import numbers
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.resources import Resource
from push_servers import LokiServer, RemoteWriteServer

from hastack.errors import InvalidArgument
from hastack.observe import BackendConfig, QueueConfig, SpillConfig, instruments
from hastack.observe._backends import exporter_of, exporters_of
from hastack.observe.metrics import Collector
from hastack.observe.records import LogHandler, LogRecordProcessor

pytestmark = pytest.mark.usefixtures("short_pauses")

FAST = QueueConfig(linger=0.01, batch=50)
RESOURCE = Resource({"service.name": "shop", "k8s.pod.name": "p-1", "process.pid": 7})


@pytest.fixture
def loki():
    with LokiServer() as running:
        yield running


def to_loki(server, *, queue=FAST, **options):
    backend = BackendConfig(kind="loki", endpoint=server.url)
    return exporter_of("loki", backend, "logs", queue=queue, **options)


def logger_of(exporter, resource=RESOURCE):
    provider = LoggerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_log_record_processor(LogRecordProcessor(exporter))
    return provider, provider.get_logger("app")


def write(logger, lines, **fields):
    for line in lines:
        logger.emit(LogRecord(body=line, severity_number=SeverityNumber.INFO, **fields))


def lines_of(server):
    return [line for stream in server.streams.values() for _, line, _ in stream]


def test_logs_arrive_in_order_within_all_limits(loki):
    loki.script.extend([500, 429, 503])
    exporter = to_loki(loki)
    _, logger = logger_of(exporter)
    write(logger, numbers(500), attributes={"order.id": "o-1", "user.id": "u-7"})
    report = exporter.force_flush(40.0)
    assert report, report
    assert lines_of(loki) == numbers(500)
    assert exporter.account().retried == 3
    ((labels, entries),) = loki.streams.items()
    # Identifiers never become labels.
    assert dict(labels) == {"service_name": "shop", "k8s_pod_name": "p-1"}
    assert {"order_id", "user_id"} <= {name for name, _ in entries[0][2]}
    assert len({at for at, _, _ in entries}) == 500
    exporter.shutdown(1.0)


def test_a_push_that_is_too_long_is_split(loki):
    loki.limit = 7
    exporter = to_loki(loki)
    _, logger = logger_of(exporter)
    write(logger, numbers(50))
    assert exporter.force_flush(40.0)
    assert lines_of(loki) == numbers(50)
    exporter.shutdown(1.0)


def test_a_line_that_is_too_long_is_cut_and_counted(loki):
    exporter = to_loki(loki)
    _, logger = logger_of(exporter)
    write(logger, ["x" * 300_000])
    assert exporter.force_flush(20.0)
    (line,) = lines_of(loki)
    assert len(line.encode()) <= 256 * 1024
    assert exporter.account().repaired == 1
    exporter.shutdown(1.0)


def test_a_record_that_loki_refuses_is_counted(loki):
    exporter = to_loki(loki)
    _, logger = logger_of(exporter)
    write(logger, ["old"], timestamp=10**9)
    report = exporter.force_flush(20.0)
    assert not report
    assert exporter.account().dropped == {"http_400": 1}
    assert len(loki.requests) == 1
    exporter.shutdown(1.0)


def test_standard_logging_reaches_loki(loki):
    exporter = to_loki(loki)
    provider, _ = logger_of(exporter)
    logger = logging.getLogger("hastack-test-loki")
    logger.propagate = False
    handler = LogHandler(provider)
    logger.addHandler(handler)
    try:
        try:
            raise KeyError("k")
        except KeyError:
            logger.exception("order %s failed", "o-1", extra={"order": "o-1"})
    finally:
        logger.removeHandler(handler)
    assert exporter.force_flush(20.0)
    ((_, line, metadata),) = next(iter(loki.streams.values()))
    found = dict(metadata)
    assert line == "order o-1 failed"
    assert found["order"] == "o-1"
    assert found["exception_type"] == "KeyError"
    assert found["severity_text"] == "ERROR"
    exporter.shutdown(1.0)


def test_an_outage_with_a_spill(loki, tmp_path):
    loki.always = 503
    queue = QueueConfig(when_full="spill", max_bytes=50_000, batch=50, linger=0.01, max_block=20.0)
    exporter = to_loki(loki, queue=queue, spill=SpillConfig(directory=tmp_path))
    _, logger = logger_of(exporter)
    write(logger, numbers(2000))
    assert exporter.account().spilled > 0
    assert exporter.shutdown(1.0).account.spilled == 2000
    loki.always = None
    exporter = to_loki(loki, queue=queue, spill=SpillConfig(directory=tmp_path))
    _, logger = logger_of(exporter)
    write(logger, ["new"])
    assert exporter.force_flush(40.0)
    assert lines_of(loki) == [*numbers(2000), "new"]
    exporter.shutdown(1.0)


# -- remote write ------------------------------------------------------------------------------


def writing(url, **options):
    (exporter,) = exporters_of(
        "prometheus", BackendConfig(kind="remote-write", endpoint=url), queue=FAST, **options
    )
    metrics = instruments.Metrics()
    return exporter, metrics, Collector(metrics, exporter, every=3600.0, resource=RESOURCE)


def values(server, name):
    return [value for _, value in server.samples[name]]


def test_remote_write_of_version_2():
    with RemoteWriteServer() as server:
        server.script.extend([500, 429])
        exporter, metrics, collector = writing(server.url)
        metrics.meter("app").counter("app.orders").add(3)
        collector.collect()
        assert exporter.force_flush(30.0)
        assert values(server, "app_orders_total") == [3.0]
        assert set(server.seen) == {2}
        exporter.shutdown(1.0)


@pytest.mark.parametrize(
    ("histograms", "names"),
    [
        ("custom", {"app_latency_seconds"}),
        ("native", {f"app_latency_seconds_{each}" for each in ("bucket", "count", "sum")}),
    ],
)
def test_histograms_as_the_configuration_says(histograms, names):
    with RemoteWriteServer() as server:
        backend = BackendConfig(kind="remote-write", endpoint=server.url, histograms=histograms)
        exporter = exporter_of("prom", backend, "metrics", queue=FAST)
        metrics = instruments.Metrics()
        metrics.meter("app").histogram("app.latency", unit="s").record(0.1)
        Collector(metrics, exporter, resource=RESOURCE).close()
        assert exporter.force_flush(20.0)
        exporter.shutdown(1.0)
        assert {*server.samples, *server.histograms} - {"target_info"} == names
        assert exporter.account().sent == 1


@pytest.mark.parametrize(
    ("kind", "option", "value"),
    [
        ("loki", "histograms", "custom"),
        ("otlp-http", "form", "json"),
    ],
)
def test_options_of_another_protocol_are_refused(kind, option, value):
    backend = BackendConfig(kind=kind, endpoint="http://127.0.0.1:9", **{option: value})
    with pytest.raises(InvalidArgument, match=option):
        exporters_of("x", backend)


@pytest.mark.parametrize("compression", [None, "identity"])
def test_loki_takes_json_as_well(loki, compression):
    loki.script.extend([500, 429])
    loki.limit = 30
    backend = BackendConfig(kind="loki", endpoint=loki.url, form="json", compression=compression)
    exporter = exporter_of("loki", backend, "logs", queue=FAST)
    _, logger = logger_of(exporter)
    write(logger, numbers(120))
    assert exporter.force_flush(20.0)
    assert lines_of(loki) == numbers(120)
    ((labels, entries),) = loki.streams.items()
    assert dict(labels)["service_name"] == "shop"
    assert ("process_pid", "7") in entries[0][2]
    assert exporter.account().sent == 120
    exporter.shutdown(1.0)


@pytest.mark.parametrize("polite", [True, False])
def test_a_receiver_of_version_1_gets_version_1_and_everything(polite):
    with RemoteWriteServer(versions=(1,), polite=polite) as server:
        exporter, metrics, collector = writing(server.url)
        counter = metrics.meter("app").counter("app.orders")
        for _ in range(3):  # several bodies in the newer format before anything is known
            counter.add(1)
            collector.collect()
            time.sleep(0.005)  # two samples of one millisecond are one to Prometheus
        assert exporter.force_flush(30.0)
        counter.add(1)
        collector.collect()
        report = exporter.force_flush(30.0)
        assert report, report
        assert not report.account.lost
        assert values(server, "app_orders_total") == [1.0, 2.0, 3.0, 4.0]
        assert server.seen[0] == 2
        assert server.seen[-1] == 1
        exporter.shutdown(1.0)


def test_a_receiver_that_knows_neither():
    with RemoteWriteServer(versions=()) as server:
        exporter, metrics, collector = writing(server.url)
        metrics.meter("app").counter("app.orders").add(1)
        collector.collect()
        report = exporter.force_flush(30.0)
        assert not report
        assert report.account.dropped["http_415"] == report.account.emitted
        assert server.seen == [2, 1]
        exporter.shutdown(1.0)


@pytest.mark.skipif(prometheus_servers.BINARY is None, reason="prometheus is not installed")
def test_a_real_prometheus_whatever_version_it_knows(tmp_path):
    with prometheus_servers.running(tmp_path) as server:
        exporter, metrics, collector = writing(server.url)
        counter = metrics.meter("app").counter("app.orders")
        counter.add(5, {"kind": "paid"})
        collector.collect()
        report = exporter.force_flush(30.0)
        assert report, report
        (found,) = server.wait_for('app_orders_total{kind="paid"}')
        assert found["value"][1] == "5"
        assert found["metric"]["job"] == "shop"
        counter.add(1, {"kind": "paid"})
        collector.close()
        assert exporter.force_flush(30.0)
        assert server.wait_for('app_orders_total{kind="paid"} == 6')
        exporter.shutdown(1.0)
