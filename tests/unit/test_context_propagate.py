"""Headers: what is accepted, what is ignored, what is sent."""

from __future__ import annotations

import email.message

import pytest

from hastack import context
from hastack.contrib import propagate
from hastack.contrib.propagate import (
    GRPC,
    MILLISECONDS,
    SECONDS,
    TraceParent,
    format_grpc_timeout,
    format_traceparent,
    from_headers,
    outgoing_headers,
    parse_grpc_timeout,
    parse_traceparent,
    traceparent,
    with_traceparent,
)
from hastack.errors import InvalidArgument
from hastack.testing import ManualClock

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = "00f067aa0ba902b7"
HEADER = f"00-{TRACE}-{SPAN}-01"


@pytest.fixture
def root():
    return context.background(clock=ManualClock())


class TestGrpcTimeout:
    @pytest.mark.parametrize(
        ("text", "seconds"),
        [
            ("1H", 3600.0),
            ("2M", 120.0),
            ("3S", 3.0),
            ("4m", 0.004),
            ("5u", 5e-6),
            ("6n", 6e-9),
            ("99999999H", 99_999_999 * 3600.0),
            ("00000001S", 1.0),
            ("0S", 0.0),
        ],
    )
    def test_parses(self, text, seconds):
        assert parse_grpc_timeout(text) == pytest.approx(seconds)

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "S",
            "1",
            "1s",
            "1h",
            "123456789S",
            "-1S",
            "+1S",
            "1.5S",
            "1 S",
            " 1S",
            "1S\n",
            "\u0661S",
        ],
    )
    def test_ignores(self, text):
        assert parse_grpc_timeout(text) is None

    @pytest.mark.parametrize(
        ("seconds", "text"),
        [
            (0.25, "250000u"),
            (0.05, "50000000n"),
            (0.29, "290000u"),
            (1.0, "1000000u"),
            (3600.0, "3600000m"),
            (100_000.0, "100000S"),
            (0.0, "1n"),
            (-5.0, "1n"),
            (1e-12, "1n"),
            (1e9, "16666666M"),
            (1e10, "2777777H"),
            (1e15, "99999999H"),
        ],
    )
    def test_formats(self, seconds, text):
        assert format_grpc_timeout(seconds) == text


class TestHttpTimeouts:
    @pytest.mark.parametrize(
        ("form", "text", "seconds"),
        [
            (MILLISECONDS, "250", 0.25),
            (MILLISECONDS, "0", None),
            (MILLISECONDS, "1.5", None),
            (MILLISECONDS, "-1", None),
            (MILLISECONDS, "1" * 13, None),
            (MILLISECONDS, "", None),
            (MILLISECONDS, "²", None),
            (SECONDS, "2", 2.0),
            (SECONDS, "0.25", 0.25),
            (SECONDS, "0", None),
            (SECONDS, "0.000", None),
            (SECONDS, "1e3", None),
            (SECONDS, "nan", None),
            (SECONDS, "inf", None),
            (SECONDS, ".5", None),
            (SECONDS, "5.", None),
            (SECONDS, "1_0", None),
        ],
    )
    def test_parse(self, form, text, seconds):
        assert form.parse(text) == seconds

    @pytest.mark.parametrize(
        ("form", "seconds", "text"),
        [
            (MILLISECONDS, 0.25, "250"),
            (MILLISECONDS, 0.0, "1"),
            (MILLISECONDS, 0.0019, "1"),
            (MILLISECONDS, 0.29, "290"),
            (MILLISECONDS, 1e12, "100000000000"),
            (SECONDS, 0.25, "0.250"),
            (SECONDS, 0.0, "0.001"),
            (SECONDS, 1e12, "100000000.000"),
        ],
    )
    def test_format(self, form, seconds, text):
        assert form.format(seconds) == text
        assert form.parse(text) is not None


class TestTraceparent:
    def test_parses(self):
        parent = parse_traceparent(HEADER)
        assert parent == TraceParent(TRACE, SPAN, 1)
        assert parent.sampled
        assert not parse_traceparent(HEADER[:-2] + "02").sampled
        assert format_traceparent(parent) == HEADER

    def test_future_versions(self):
        assert parse_traceparent("01" + HEADER[2:]) is not None
        longer = parse_traceparent("cc" + HEADER[2:] + "-what-the-future-brings")
        assert longer == TraceParent(TRACE, SPAN, 1)
        assert format_traceparent(longer) == HEADER

    def test_unknown_flags_are_not_sent_on(self):
        assert format_traceparent(TraceParent(TRACE, SPAN, 0xFF)).endswith("-03")

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "garbage",
            HEADER.upper(),
            "ff" + HEADER[2:],
            HEADER + "-more",
            HEADER + "x",
            "01" + HEADER[2:] + "x",
            HEADER[:-1],
            HEADER.replace("-", "_"),
            f"00-{'0' * 32}-{SPAN}-01",
            f"00-{TRACE}-{'0' * 16}-01",
            f"00-{TRACE}-{SPAN}-0g",
            f"0-{TRACE}-{SPAN}-01",
            HEADER + "\n",
            " " + HEADER,
        ],
    )
    def test_ignores(self, text):
        assert parse_traceparent(text) is None

    def test_is_carried_and_replaced(self, root):
        assert traceparent(root) is None
        outer = with_traceparent(TraceParent(TRACE, SPAN), root)
        inner = with_traceparent(TraceParent(TRACE, "1" * 16), outer)
        assert traceparent(context.timeout(1.0, parent=outer)).span_id == SPAN
        assert traceparent(inner).span_id == "1" * 16
        with inner:
            assert traceparent().span_id == "1" * 16
        assert traceparent(context.with_value("hastack.traceparent", "not one", root)) is None


class TestFromHeaders:
    @pytest.mark.parametrize(
        ("headers", "seconds"),
        [
            ({}, None),
            ({"grpc-timeout": "250m"}, 0.25),
            ({"GRPC-Timeout": " 250m "}, 0.25),
            ({"X-Envoy-Expected-Rq-Timeout-Ms": "1500"}, 1.5),
            ({"x-request-timeout-ms": "1500"}, 1.5),
            ({"Request-Timeout": "1.5"}, 1.5),
            ([(b"Request-Timeout", b"1.5")], 1.5),
            ([("request-timeout", "3"), ("grpc-timeout", "2S")], 2.0),
            ([("request-timeout", "3"), ("request-timeout", "2")], 2.0),
            ({"request-timeout": "never"}, None),
            ({"grpc-timeout": "0n"}, 0.0),
        ],
    )
    def test_timeouts(self, root, headers, seconds):
        assert from_headers(headers, root).remaining() == seconds

    def test_containers_that_are_no_mappings(self, root):
        message = email.message.Message()
        message["Request-Timeout"] = "1.5"
        assert from_headers(message, root).remaining() == 1.5

    def test_bound(self, root):
        assert from_headers({}, root, max_timeout=5.0).remaining() == 5.0
        slow = {"request-timeout": "60"}
        assert from_headers(slow, root, max_timeout=5.0).remaining() == 5.0
        assert from_headers({"request-timeout": "1"}, root, max_timeout=5).remaining() == 1.0
        parent = context.timeout(2.0, parent=root)
        assert from_headers(slow, parent).remaining() == 2.0
        for bad in (0.0, -1.0, float("nan")):
            with pytest.raises(InvalidArgument, match="max_timeout"):
                from_headers({}, root, max_timeout=bad)

    def test_own_headers(self, root):
        timeouts = {"x-deadline": GRPC}
        assert from_headers({"X-Deadline": "3S"}, root, timeouts=timeouts).remaining() == 3.0
        assert from_headers({"Grpc-Timeout": "3S"}, root, timeouts=timeouts).remaining() is None

    def test_trace(self, root):
        ctx = from_headers({"Traceparent": HEADER, "Tracestate": "a=1, b@c=2"}, root)
        assert traceparent(ctx) == TraceParent(TRACE, SPAN, 1, "a=1,b@c=2")
        several = [("traceparent", HEADER), ("tracestate", "a=1"), ("tracestate", " ,b=2")]
        assert traceparent(from_headers(several, root)).state == "a=1,b=2"

    def test_contradicting_traceparents_are_none(self, root):
        twice = [("traceparent", HEADER), ("traceparent", HEADER)]
        assert traceparent(from_headers(twice, root)) is None

    @pytest.mark.parametrize(
        "state",
        [
            *["a", "A=1", "a=1,a=2", "a=\x01", "a==", "=1", "a=" + "x" * 257, "é=1", "1=2"],
            ",".join(f"k{n}=1" for n in range(33)),
        ],
    )
    def test_invalid_state_is_dropped_the_trace_stays(self, root, state):
        found = traceparent(from_headers({"traceparent": HEADER, "tracestate": state}, root))
        assert found == TraceParent(TRACE, SPAN, 1)

    @pytest.mark.parametrize(
        "headers",
        [
            [None, 5, "ab", (), ("a",), ("a", "b", "c")],
            [(None, None), (5, "x"), ("request-timeout", 5), (b"\xff\xfe", b"\xff")],
            {"request-timeout": ["1"], None: "x"},
            {"request-timeout": "9" * 100_000, "traceparent": "-" * 100_000},
        ],
    )
    def test_what_is_no_header_is_ignored(self, root, headers):
        ctx = from_headers(headers, root)
        assert ctx.remaining() is None
        assert traceparent(ctx) is None

    def test_is_the_requests_own_scope(self, root):
        with from_headers({}, root) as ctx:
            assert context.current() is ctx
        assert ctx.done


class TestOutgoing:
    def test_sends_what_there_is(self, root):
        assert outgoing_headers(root) == {}
        ctx = context.timeout(1.5, parent=root)
        assert outgoing_headers(ctx) == {"x-request-timeout-ms": "1500"}
        both = {"grpc-timeout": GRPC, "request-timeout": SECONDS}
        assert outgoing_headers(ctx, timeouts=both) == {
            "grpc-timeout": "1500000u",
            "request-timeout": "1.500",
        }
        traced = with_traceparent(TraceParent(TRACE, SPAN, 1, "a=1"), root)
        assert outgoing_headers(traced) == {"traceparent": HEADER, "tracestate": "a=1"}
        with traced:
            assert outgoing_headers()["traceparent"] == HEADER

    def test_time_spent_here_is_gone(self, root):
        ctx = from_headers({"request-timeout": "2"}, root)
        root.clock.advance(0.5)
        assert outgoing_headers(ctx) == {"x-request-timeout-ms": "1500"}
        root.clock.advance(5.0)
        assert outgoing_headers(ctx) == {"x-request-timeout-ms": "1"}

    def test_round_trip(self, root):
        ctx = from_headers({"traceparent": HEADER, "request-timeout": "2"}, root)
        again = from_headers(outgoing_headers(ctx), root)
        assert again.remaining() == 2.0
        assert traceparent(again) == traceparent(ctx)


def test_module_is_pure():
    for name in ("time", "threading", "asyncio", "socket"):
        assert not hasattr(propagate, name)
