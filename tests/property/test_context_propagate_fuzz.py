"""Hostile headers never raise; honest ones survive the trip."""

from __future__ import annotations

import re

from hypothesis import given, settings
from hypothesis import strategies as st

from hastack import context
from hastack.contrib.propagate import (
    ACCEPTED_TIMEOUTS,
    TraceParent,
    format_grpc_timeout,
    format_traceparent,
    from_headers,
    outgoing_headers,
    parse_grpc_timeout,
    parse_traceparent,
    traceparent,
)
from hastack.testing import ManualClock

ROOT = context.background(clock=ManualClock(0.0))

names = st.one_of(
    st.sampled_from([*ACCEPTED_TIMEOUTS, "Traceparent", "tracestate", "X-Request-Timeout-Ms"]),
    st.text(max_size=20),
)
near_values = st.one_of(
    st.from_regex(r"[0-9]{0,14}[HMSmunx.]?[0-9]{0,3}", fullmatch=True),
    st.from_regex(r"[0-9a-f]{2}-[0-9a-f]{31,33}-[0-9a-f]{16}-[0-9a-f]{2}.{0,3}", fullmatch=True),
    st.from_regex(r"[a-z0-9@=,\- ]{0,40}", fullmatch=True),
    st.text(max_size=60),
)
anything = st.one_of(
    near_values,
    st.binary(max_size=60),
    st.none(),
    st.integers(),
    st.lists(st.text(max_size=3), max_size=3),
)


@settings(max_examples=400, deadline=None)
@given(headers=st.lists(st.one_of(st.tuples(st.one_of(names, st.binary()), anything), anything)))
def test_hostile_headers_never_raise(headers):
    ctx = from_headers(headers, ROOT, max_timeout=60.0)
    assert 0.0 <= ctx.remaining() <= 60.0
    sent = outgoing_headers(ctx)
    for name, value in sent.items():
        assert re.fullmatch(r"[a-z0-9-]+", name)
        assert re.fullmatch(r"[\x20-\x7e]+", value)
    again = from_headers(sent, ROOT)
    assert traceparent(again) in {traceparent(ctx), _masked(traceparent(ctx))}


def _masked(parent):
    return parent and parent._replace(flags=parent.flags & 3)


@given(st.dictionaries(names, near_values, max_size=5))
def test_mappings_never_raise(headers):
    from_headers(headers, ROOT)


@given(st.floats(min_value=1e-9, max_value=1e13))
def test_grpc_timeout_round_trip_never_grants_more(seconds):
    text = format_grpc_timeout(seconds)
    assert re.fullmatch(r"[0-9]{1,8}[HMSmun]", text)
    back = parse_grpc_timeout(text)
    assert 0.0 < back <= max(seconds * (1 + 1e-6), 1e-9)
    if seconds < 3.5e11:
        assert back >= seconds * (1 - 1e-3) - 1e-9


@given(st.integers(1, 2**128 - 1), st.integers(1, 2**64 - 1), st.integers(0, 3))
def test_traceparent_round_trip(trace, span, flags):
    parent = TraceParent(f"{trace:032x}", f"{span:016x}", flags)
    assert parse_traceparent(format_traceparent(parent)) == parent


@given(st.text(max_size=80))
def test_parsers_never_raise(text):
    parse_traceparent(text)
    for form in ACCEPTED_TIMEOUTS.values():
        seconds = form.parse(text)
        assert seconds is None or seconds >= 0.0
