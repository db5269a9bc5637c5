"""Cutting encoded bodies: nothing lost, nothing changed, order kept."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from hastack.observe._split import LOKI_JSON, OTLP, REMOTE_WRITE_1, data_points, halves, one


def request(shape):
    """Resources, each with scopes, each with as many spans as the number says."""
    out = ExportTraceServiceRequest()
    number = 0
    for r, scopes in enumerate(shape):
        resource = out.resource_spans.add(schema_url=f"r{r}")
        resource.resource.attributes.add(key="service.name").value.string_value = f"s{r}"
        for s, spans in enumerate(scopes):
            scope = resource.scope_spans.add(schema_url=f"s{s}")
            scope.scope.name = f"scope-{r}-{s}"
            for _ in range(spans):
                scope.spans.add(name=f"n{number}" * (1 + number % 40))
                number += 1
    return out


def flat(body):
    message = ExportTraceServiceRequest.FromString(body)
    return [
        (r.SerializeToString()[:0] or r.schema_url, r.resource.attributes[0].value.string_value,
         s.schema_url, s.scope.name, span.name)
        for r in message.resource_spans
        for s in r.scope_spans
        for span in s.spans
    ]  # fmt: skip


@given(st.lists(st.lists(st.integers(0, 4), max_size=3), max_size=3))
def test_halves_hold_everything_in_order(shape):
    body = request(shape).SerializeToString()
    spans = flat(body)
    parts = halves(body, OTLP, len(spans))
    if len(spans) < 2:
        assert parts == []
        return
    (n, first), (m, second) = parts
    assert flat(first) + flat(second) == spans
    assert (n, m) == (len(flat(first)), len(flat(second)))
    assert n == len(spans) // 2


def test_metrics_weigh_their_data_points():
    message = ExportMetricsServiceRequest()
    scope = message.resource_metrics.add().scope_metrics.add()
    for kind, points in (
        ("gauge", 3),
        ("sum", 2),
        ("histogram", 1),
        ("exponential_histogram", 4),
        ("summary", 5),
    ):
        metric = scope.metrics.add(name=kind, unit="s")
        for _ in range(points):
            getattr(metric, kind).data_points.add(start_time_unix_nano=1)
    parts = halves(message.SerializeToString(), OTLP, 15, data_points)
    assert [units for units, _ in parts] == [5, 10]


def test_units_that_are_no_leaves_are_shared():
    series = b"".join(b"\x0a\x02\x08" + bytes([n]) for n in range(4))
    parts = halves(series, REMOTE_WRITE_1, 2, one)
    assert [units for units, _ in parts] == [1, 1]
    assert b"".join(part for _, part in parts) == series


def test_what_surrounds_the_leaves_stays_in_both():
    body = b"\x22\x01a" + b"\x0a\x01x" + b"\x08\x05" + b"\x0a\x01y"
    assert halves(body, REMOTE_WRITE_1, 2) == [
        (1, b"\x22\x01a\x0a\x01x\x08\x05"), (1, b"\x22\x01a\x08\x05\x0a\x01y"),
    ]  # fmt: skip


def test_what_is_no_message_is_not_cut():
    assert halves(b'{"streams": []}', OTLP, 5) == []
    assert halves(b"", OTLP, 0) == []


def json_push(shape):
    number = iter(range(1000))
    return json.dumps(
        {
            "streams": [
                {
                    "stream": {"service_name": f"s{n}"},
                    "values": [[str(next(number)), "é", {"a": "b"}] for _ in range(count)],
                }
                for n, count in enumerate(shape)
            ]
        }
    ).encode()


def json_flat(body):
    return [
        (tuple(stream["stream"].items()), value)
        for stream in json.loads(body)["streams"]
        for value in stream["values"]
    ]


@given(st.lists(st.integers(0, 5), max_size=4))
def test_halves_of_json_hold_everything_in_order(shape):
    body = json_push(shape)
    entries = json_flat(body)
    parts = halves(body, LOKI_JSON, len(entries))
    if len(entries) < 2:
        assert parts == []
        return
    (n, first), (m, second) = parts
    assert json_flat(first) + json_flat(second) == entries
    assert (n, m) == (len(json_flat(first)), len(json_flat(second)))


def test_what_is_no_such_json_is_not_cut():
    for body in (b"", b"[", b"[]", b"{}", b'{"streams": 5}', b'{"streams": [{"stream": {}}]}'):
        assert halves(body, LOKI_JSON, 2) == []
