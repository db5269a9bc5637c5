"""The same against every backend that there is: these tests' own, and what is on PATH."""

from __future__ import annotations

import time

import backend_servers
import pytest
from observe_items import numbers
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import Status, StatusCode

from hastack.observe import BackendConfig, QueueConfig
from hastack.observe._backends import exporter_of
from hastack.observe.records import LogRecordProcessor
from hastack.observe.traces import SpanProcessor

FAST = QueueConfig(linger=0.01, batch=100)


def arrived(ask, expected):
    """What is there once all of it is, or after a time."""
    until = time.monotonic() + 40
    while True:
        found = ask()
        if len(found) >= len(expected) or time.monotonic() > until:
            return found
        time.sleep(0.1)


@pytest.mark.parametrize("kind", ["otlp-http", "otlp-grpc"])
@pytest.mark.parametrize("name", backend_servers.TRACE_BACKENDS)
def test_spans_arrive_once(name, kind, tmp_path):
    with backend_servers.running(name, tmp_path) as backend:
        for compression in (None, "gzip", "identity"):
            config = BackendConfig(kind=kind, endpoint=backend.url(kind), compression=compression)
            exporter = exporter_of("traces", config, "traces", queue=FAST)
            service = f"shop-{compression}"
            provider = TracerProvider(
                resource=Resource({"service.name": service, "host.name": "é"}),
                shutdown_on_exit=False,
            )
            provider.add_span_processor(SpanProcessor(exporter))
            tracer = provider.get_tracer("tests", "1.0", attributes={"team": "a"})
            for line in numbers(250):
                with tracer.start_as_current_span(
                    line, attributes={"i": 1, "f": 1.5, "b": True, "l": ["a", "b"]}
                ) as span:
                    span.add_event("paid", {"order.id": "o-1"})
                    span.set_status(Status(StatusCode.ERROR, "declined"))
            report = exporter.force_flush(30.0)
            assert report, report
            assert exporter.account().sent == 250
            exporter.shutdown(1.0)
            found = arrived(lambda service=service: backend.spans(service), range(250))
            assert sorted(found) == numbers(250)


@pytest.mark.parametrize("form", ["protobuf", "json"])
@pytest.mark.parametrize("name", backend_servers.LOG_BACKENDS)
def test_lines_arrive_once_and_in_order(name, form, tmp_path):
    with backend_servers.running(name, tmp_path, logs=True) as backend:
        config = BackendConfig(kind="loki", endpoint=backend.push, form=form)
        exporter = exporter_of("logs", config, "logs", queue=FAST)
        provider = LoggerProvider(Resource({"service.name": "shop"}), shutdown_on_exit=False)
        provider.add_log_record_processor(LogRecordProcessor(exporter))
        logger = provider.get_logger("tests")
        for line in numbers(500):
            logger.emit(body=line, attributes={"order.id": "o-1", "user": "é\n"})
        report = exporter.force_flush(30.0)
        assert report, report
        exporter.shutdown(1.0)
        assert arrived(lambda: backend.lines("shop"), range(500)) == numbers(500)
