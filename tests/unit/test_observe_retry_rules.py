"""What each answer means, against the official messages."""

from __future__ import annotations

import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from hastack.observe._answers import (
    GrpcAnswer,
    HttpAnswer,
    MalformedError,
    NoAnswer,
    fields,
    partial_success,
    retry_info,
    status_message,
    varint,
)
from hastack.observe._retry_rules import Kind, RetryRules, judge, retry_after

DELIVERED, RETRY, SPLIT, DROP = Kind.DELIVERED, Kind.RETRY, Kind.SPLIT, Kind.DROP

# OTLP specification 1.x, "OTLP/HTTP Response"; remote write 2.0, "Retries & Backoff".
HTTP = {
    RetryRules.OTLP_HTTP: {
        **dict.fromkeys((200, 202, 204), DELIVERED),
        **dict.fromkeys((429, 502, 503, 504), RETRY),
        **dict.fromkeys((301, 400, 401, 403, 404, 408, 415, 422, 500, 501, 505), DROP),
        413: SPLIT,
    },
    RetryRules.REMOTE_WRITE_1: {
        **dict.fromkeys((200, 204), DELIVERED),
        **dict.fromkeys((429, 500, 503), RETRY),
        **dict.fromkeys((400, 415), DROP),
        413: SPLIT,
    },
    RetryRules.REMOTE_WRITE_2: {
        **dict.fromkeys((200, 204), Kind.FALL_BACK),  # without a word of what was written
        **dict.fromkeys((429, 500, 501, 502, 503, 504, 599), RETRY),
        **dict.fromkeys((301, 400, 401, 404, 408, 422), DROP),
        413: SPLIT,
        415: Kind.FALL_BACK,
    },
    RetryRules.LOKI: {
        204: DELIVERED,
        **dict.fromkeys((429, 500, 502, 503, 504), RETRY),
        **dict.fromkeys((400, 401, 404, 408, 415, 422), DROP),
        413: SPLIT,
    },
}


@pytest.mark.parametrize(
    ("protocol", "status", "kind"),
    [(p, status, kind) for p, table in HTTP.items() for status, kind in table.items()],
)
def test_http(protocol, status, kind):
    verdict = judge(protocol, HttpAnswer(status, {}, b"because"), units=5)
    assert verdict.kind is kind
    assert verdict.rejected == 0
    if kind is DROP:
        assert verdict.reason == f"http_{status}"
        assert verdict.note == f"HTTP {status}: because"


# OTLP specification 1.x, "Failures" of OTLP/gRPC.
GRPC_RETRIED = {
    "CANCELLED", "DEADLINE_EXCEEDED", "ABORTED", "OUT_OF_RANGE", "UNAVAILABLE", "DATA_LOSS",
}  # fmt: skip
GRPC_REFUSED = {
    "UNKNOWN", "INVALID_ARGUMENT", "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED",
    "UNAUTHENTICATED", "FAILED_PRECONDITION", "UNIMPLEMENTED", "INTERNAL",
}  # fmt: skip


@pytest.mark.parametrize("code", sorted(GRPC_RETRIED | GRPC_REFUSED))
def test_grpc(code):
    verdict = judge(RetryRules.OTLP_GRPC, GrpcAnswer(code, "because"), units=5)
    assert verdict.kind is (RETRY if code in GRPC_RETRIED else DROP)
    assert verdict.note == f"{code}: because"
    if code in GRPC_REFUSED:
        assert verdict.reason == f"grpc_{code.lower()}"


def status_with(*details: tuple[str, bytes]) -> bytes:
    """A google.rpc.Status, whose field 3 is repeated Any."""
    out = b"\x08\x08\x12\x04busy"
    for url, value in details:
        message = AnyMessage(type_url=url, value=value).SerializeToString()
        out += b"\x1a" + bytes([len(message)]) + message
    return out


RETRY_INFO = "type.googleapis.com/google.rpc.RetryInfo"


def delay_of(seconds: int, nanos: int) -> bytes:
    from google.protobuf.duration_pb2 import Duration

    inner = Duration(seconds=seconds, nanos=nanos).SerializeToString()
    return b"\x0a" + bytes([len(inner)]) + inner


def test_resource_exhausted_depends_on_what_it_says():
    info = status_with(
        ("type.googleapis.com/google.rpc.Help", b"x"), (RETRY_INFO, delay_of(3, 5 * 10**8))
    )
    verdict = judge(RetryRules.OTLP_GRPC, GrpcAnswer("RESOURCE_EXHAUSTED", "busy", info), units=1)
    assert (verdict.kind, verdict.after, verdict.healthy) == (RETRY, 3.5, True)
    alone = judge(RetryRules.OTLP_GRPC, GrpcAnswer("RESOURCE_EXHAUSTED", "quota"), units=1)
    assert (alone.kind, alone.reason) == (DROP, "grpc_resource_exhausted")
    words = "CLIENT: Sent message larger than max (5000000 vs. 4194304)"
    long = judge(RetryRules.OTLP_GRPC, GrpcAnswer("RESOURCE_EXHAUSTED", words), units=1)
    assert long.kind is SPLIT


def test_retry_info_in_its_forms():
    assert retry_info(status_with((RETRY_INFO, delay_of(0, 0)))) == 0.0
    assert retry_info(status_with((RETRY_INFO, b""))) == 0.0
    assert retry_info(status_with((RETRY_INFO, delay_of(-5, 0)))) == 0.0
    assert retry_info(status_with(("other", b"x"))) is None
    assert retry_info(b"") is None
    assert retry_info(b"\xff\xff") is None
    assert retry_info(b"\x1a\x02\x08\x01") is None  # an Any without a URL
    assert retry_info(b"\x18\x01") is None  # details that are no message
    assert retry_info(status_with((RETRY_INFO, b"\x08\x05"))) == 0.0  # a delay that is no message
    # A type URL alone, and seconds in fields that a Duration does not have.
    message = AnyMessage(type_url=RETRY_INFO).SerializeToString()
    assert retry_info(b"\x1a" + bytes([len(message)]) + message) == 0.0
    assert retry_info(status_with((RETRY_INFO, b"\x0a\x03\x0a\x01x"))) == 0.0


def test_an_unavailable_server_that_says_when():
    verdict = judge(
        RetryRules.OTLP_GRPC,
        GrpcAnswer("UNAVAILABLE", status=status_with((RETRY_INFO, delay_of(7, 0)))),
        units=1,
    )
    assert (verdict.kind, verdict.after, verdict.healthy, verdict.note) == (
        RETRY, 7.0, True, "UNAVAILABLE",
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["dns", "connect", "tls", "timeout", "cut", "unreadable"])
@pytest.mark.parametrize("protocol", list(RetryRules))
def test_no_answer_is_always_tried_again(protocol, kind):
    verdict = judge(protocol, NoAnswer(kind, "x"), units=1)
    assert (verdict.kind, verdict.healthy, verdict.note) == (RETRY, False, f"{kind}: x")
    assert judge(protocol, NoAnswer("aborted"), units=1).healthy


@pytest.mark.parametrize(
    ("response", "field"),
    [
        (ExportTraceServiceResponse, "rejected_spans"),
        (ExportLogsServiceResponse, "rejected_log_records"),
        (ExportMetricsServiceResponse, "rejected_data_points"),
    ],
)
def test_partial_success_is_counted(response, field):
    body = response(partial_success={field: 3, "error_message": "too old ä"}).SerializeToString()
    assert partial_success(body) == (3, "too old ä")
    http = judge(RetryRules.OTLP_HTTP, HttpAnswer(200, {}, body), units=5)
    grpc = judge(RetryRules.OTLP_GRPC, GrpcAnswer("OK", body=body), units=2)
    assert (http.kind, http.rejected, http.note) == (DELIVERED, 3, "too old ä")
    assert (grpc.kind, grpc.rejected) == (DELIVERED, 2)  # never more than there were
    negative = response(partial_success={field: -3}).SerializeToString()
    assert partial_success(negative) == (0, "")
    assert judge(RetryRules.LOKI, HttpAnswer(204, {}, body), units=5).rejected == 0


def test_a_success_whose_body_is_none_is_a_success():
    assert partial_success(b"") == (0, "")
    assert partial_success(b"<html>") == (0, "")
    assert partial_success(b"\x08\x01\x12\x01x") == (0, "")  # other fields
    assert partial_success(b"\x0a\x05\x12\x01x\x0d") == (0, "")  # cut off inside
    assert partial_success(b"\x0a\x02\x0a\x00") == (0, "")  # rejected as bytes
    assert partial_success(b"\x0a\x02\x10\x01") == (0, "")  # a message that is a number


def test_the_message_of_a_failure():
    body = status_with()
    answer = HttpAnswer(400, {"content-type": "application/x-protobuf"}, body)
    assert judge(RetryRules.OTLP_HTTP, answer, units=1).note == "HTTP 400: busy"
    assert status_message(b"\xff") == ""
    assert status_message(b"\x08\x01") == ""
    plain = HttpAnswer(400, {}, b"")
    assert judge(RetryRules.OTLP_HTTP, plain, units=1).note == "HTTP 400"


def test_a_receiver_of_version_2_says_what_it_wrote():
    headers = {"x-prometheus-remote-write-samples-written": "3"}
    verdict = judge(RetryRules.REMOTE_WRITE_2, HttpAnswer(204, headers), units=3)
    assert verdict.kind is DELIVERED


def test_retry_after_in_both_forms():
    assert retry_after(HttpAnswer(503, {})) is None
    assert retry_after(HttpAnswer(503, {"retry-after": "120"})) == 120.0
    headers = {
        "retry-after": "Fri, 07 Nov 2014 23:59:59 GMT",
        "date": "Fri, 07 Nov 2014 23:59:29 GMT",
    }
    assert retry_after(HttpAnswer(503, headers)) == 30.0
    headers["date"] = "Fri, 07 Nov 2014 23:59:29 -0000"
    assert retry_after(HttpAnswer(503, headers)) == 30.0
    headers["date"] = "yesterday"
    assert retry_after(HttpAnswer(503, headers)) == 0.0  # against the clock here: long ago
    verdict = judge(RetryRules.LOKI, HttpAnswer(429, {"retry-after": "9"}), units=1)
    assert (verdict.kind, verdict.after, verdict.healthy) == (RETRY, 9.0, True)
    assert not judge(RetryRules.LOKI, HttpAnswer(503, {}), units=1).healthy
    assert not judge(RetryRules.OTLP_HTTP, HttpAnswer(500, {}), units=1).healthy


@given(st.binary(max_size=40))
def test_whatever_comes_is_read_or_refused(data):
    try:
        found = list(fields(data))
    except MalformedError:
        return
    assert b"".join(data[begin:end] for _, _, begin, end in found) == data
    partial_success(data), retry_info(data), status_message(data)


def test_varints_that_never_end():
    with pytest.raises(MalformedError):
        varint(b"\xff" * 11, 0)
    with pytest.raises(MalformedError):
        varint(b"\xff", 0)
    with pytest.raises(MalformedError):
        list(fields(b"\x00\x00"))  # field number 0
    with pytest.raises(MalformedError):
        list(fields(b"\x0b"))  # a group
    assert [f[:2] for f in fields(b"\x09" + b"12345678" + b"\x0d1234")] == [
        (1, b"12345678"), (1, b"1234"),
    ]  # fmt: skip
