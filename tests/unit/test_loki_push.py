"""What is pushed to Loki: labels, metadata, times and limits, in both forms."""

import json
import math
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import TraceFlags
from prometheus_client.parser import text_string_to_metric_families
from sdk_objects import log_records
from wire_messages import LOKI

from hastack.errors import InvalidArgument
from hastack.observe import _loki, _loki_origin
from hastack.observe._loki import LokiPush
from hastack.observe._loki_labels import INDEX

RESOURCE = Resource(
    {"service.name": 'or"d\ners', "k8s.pod.name": "p-1", "host.name": "h", "process.pid": 7}
)
SCOPE = InstrumentationScope("lib", "1.0", attributes={"team": "a"})


def log(body="hello", *, resource=RESOURCE, scope=SCOPE, **fields):
    record = LogRecord(timestamp=5_000_000_007, observed_timestamp=5_000_000_007)
    record.body = body
    for name, value in fields.items():
        setattr(record, name, value)
    return ReadableLogRecord(record, resource, scope)


def labels_of(text):
    """Labels as Loki's parser, which is Prometheus's, reads them."""
    (family,) = text_string_to_metric_families(f"stream{text} 1\n")
    return family.samples[0].labels


def read_protobuf(body):
    return [
        (
            labels_of(stream.labels),
            [
                (
                    entry.timestamp.seconds * 10**9 + entry.timestamp.nanos,
                    entry.line,
                    [(pair.name, pair.value) for pair in entry.metadata],
                )
                for entry in stream.entries
            ],
        )
        for stream in LOKI["PushRequest"].FromString(bytes(body)).streams
    ]


def read_json(body):
    def pairs(found):
        return list(found.items())

    if not body:
        return []
    streams = json.loads(bytes(body))["streams"]
    return [
        (
            stream["stream"],
            [
                (int(time), line, pairs(more[0]) if more else [])
                for time, line, *more in stream["values"]
            ],
        )
        for stream in streams
    ]


FORMS = {"protobuf": read_protobuf, "json": read_json}


@pytest.fixture(params=FORMS, name="form")
def a_form(request):
    return request.param


def push(form, *items, encoder=None, **options):
    encoder = encoder or LokiPush(form=form)
    out = bytearray(b"kept")
    done = encoder.encode(items, out, **options)
    assert out[:4] == b"kept"
    assert len(out) == done.size + 4
    return FORMS[form](out[4:]), done


def only(form, item, **options):
    """Time, line and metadata of the only entry, and what was repaired."""
    (((_, ((time, line, metadata),)),), done) = push(form, item, **options)
    assert len(dict(metadata)) == len(metadata)
    return time, line, dict(metadata), done.repaired


def test_labels_are_the_documented_ones_and_the_rest_is_metadata(form):
    ((labels, (entry,)),), _ = push(form, log())
    assert labels == {"service_name": 'or"d\ners', "k8s_pod_name": "p-1"}
    assert entry == (
        5_000_000_007,
        "hello",
        [
            *(("scope_name", "lib"), ("scope_version", "1.0"), ("team", "a")),
            *(("host_name", "h"), ("process_pid", "7")),
        ],
    )


def test_labels_are_fifteen_at_most(form):
    resource = Resource(dict.fromkeys(INDEX, "x"))
    ((labels, (entry,)),), _ = push(form, log(resource=resource, scope=None))
    assert len(labels) == 15
    assert {"service_name", "k8s_pod_name"} <= set(labels)
    assert [name for name, _ in entry[2]] == [
        "k8s_cronjob_name",
        "k8s_daemonset_name",
        "k8s_job_name",
    ]


def test_a_stream_without_a_name_has_one_label(form):
    ((labels, _),), _ = push(form, log(resource=None, scope=None))
    assert labels == {"service_name": "unknown_service"}


def test_the_fields_of_a_record(form):
    item = log(
        severity_number=SeverityNumber.WARN,
        severity_text="WARN",
        trace_id=0xABC,
        span_id=0xDEF,
        trace_flags=TraceFlags(1),
        event_name="login",
        observed_timestamp=6,
        attributes={"user.id": "u", "n": 5, "ok": True, "list": [1, "x"]},
    )
    _, _, metadata, repaired = only(form, item)
    assert repaired == 0
    assert metadata == {
        "scope_name": "lib",
        "scope_version": "1.0",
        "team": "a",
        "host_name": "h",
        "process_pid": "7",
        "severity_number": "13",
        "severity_text": "WARN",
        "trace_id": f"{0xABC:032x}",
        "span_id": f"{0xDEF:016x}",
        "flags": "1",
        "event_name": "login",
        "observed_timestamp": "6",
        "user_id": "u",
        "n": "5",
        "ok": "true",
        "list": '[1,"x"]',
    }
    bad = log(
        severity_number=SeverityNumber.WARN,
        severity_text="WARN",
        trace_id=0xABC,
        span_id=0xDEF,
        trace_flags=TraceFlags(1),
        event_name="login",
        observed_timestamp=6,
        attributes={"user.id": "u", "n": 5, "ok": True, "list": [1, "x"], "bad": "\ud800"},
    )
    _, _, careful, repaired = only(form, bad)
    assert careful == {**metadata, "bad": "\ufffd"}
    assert repaired == 1


@pytest.mark.parametrize(
    ("body", "line"),
    [
        ('a"b\n\\é😀', 'a"b\n\\é😀'),
        (None, ""),
        ({"k": [1, None, b"\xff"]}, '{"k":[1,null,"/w=="]}'),
        (b"\x00\xff", "AP8="),
        (0.5, "0.5"),
        (math.inf, "Infinity"),
        (True, "true"),
    ],
)
def test_lines(form, body, line):
    assert only(form, log(body))[1:] == (line, only(form, log("x"))[2], 0)


def test_equal_times_get_a_nanosecond_more_within_a_stream(form):
    times = [5, 5, 5, 6, 7, 9, 9, 3, 3]
    items = [log(str(n), timestamp=time) for n, time in enumerate(times)]
    other = log("other", timestamp=5, resource=Resource({"service.name": "b"}))
    streams, _ = push(form, *items, other)
    assert [time for time, _, _ in streams[0][1]] == [5, 6, 7, 8, 9, 10, 11, 3, 4]
    assert [line for _, line, _ in streams[0][1]] == [str(n) for n in range(9)]
    assert [time for time, _, _ in streams[1][1]] == [5]


def test_the_time_when_it_was_seen_stands_in(form):
    assert only(form, log(timestamp=None, observed_timestamp=9))[0] == 9
    streams, done = push(form, log(timestamp=0, observed_timestamp=0), None, object(), log("ok"))
    assert (done.taken, done.units, done.unsupported) == (4, 1, 3)
    assert streams[0][1][0][1] == "ok"
    assert push(form)[0] == []


def test_names_that_are_taken_get_a_prefix_and_nothing_is_lost(form):
    resource = Resource({"service.name": "s", "team": "r", "x": "r", "trace_id": "r"})
    scope = InstrumentationScope("lib", attributes={"team": "s", "x": "s"})
    attributes = {"x": "1", "x.y": "2", "x_y": "3", "trace_id": "own", "host.name": "mine"}
    _, _, metadata, _ = only(
        form, log(resource=resource, scope=scope, attributes=attributes, trace_id=1, span_id=2)
    )
    assert metadata == {
        "trace_id": f"{1:032x}",
        "span_id": f"{2:016x}",
        "attribute_trace_id": "own",
        "x": "1",
        "x_y": "2;3",
        "host_name": "mine",
        "scope_name": "lib",
        "team": "s",
        "scope_x": "s",
        "resource_team": "r",
        "resource_x": "r",
        "resource_trace_id": "r",
    }


def test_lines_and_metadata_are_cut_to_what_loki_takes(form):
    encoder = LokiPush(form=form, max_line=10)
    _, line, _, repaired = only(form, log("é" * 20), encoder=encoder)
    assert (line, repaired) == ("é" * 5, 1)
    _, line, _, repaired = only(form, log('"' * 10), encoder=encoder)
    assert (line, repaired) == ('"' * 10, 0)
    many = {f"k{n}": n for n in range(200)}
    _, _, metadata, repaired = only(form, log(attributes=many))
    assert len(metadata) == 128
    assert repaired == 200 + 5 - 128
    _, _, metadata, repaired = only(form, log(attributes={"a": "x" * 70_000, "b": "y"}))
    assert set(metadata) == {"b", "scope_name", "scope_version", "team", "host_name", "process_pid"}
    assert repaired == 1


def test_records_with_the_same_keys(form):
    items = [log(attributes={"a": n, "b": "x"}) for n in range(3)]
    ((_, entries),), _ = push(form, *items)
    assert [dict(metadata)["a"] for _, _, metadata in entries] == ["0", "1", "2"]


def test_batches_are_split(form):
    resources = [Resource({"service.name": name}) for name in "ab"]
    items = [log(f"{n}" * 20, resource=resources[n % 2]) for n in range(60)]
    items[7] = log("x" * 3000)
    encoder = LokiPush(form=form)
    start, seen, oversized = 0, [], 0
    while start < encoder.count(items):
        out = bytearray()
        done = encoder.encode(items, out, max_bytes=1000, start=start)
        assert len(out) == done.size <= 1000
        assert done.taken > 0
        start += done.taken
        oversized += done.oversized
        seen += [line for _, entries in FORMS[form](out) for _, line, _ in entries]
    assert oversized == 1
    assert sorted(seen) == sorted(f"{n}" * 20 for n in range(60) if n != 7)


def test_one_bad_field_costs_only_itself(form):
    class Bad:
        def __str__(self):
            raise RuntimeError("no text")

    bad = {
        "body": Bad(),
        "severity_number": 99,
        "severity_text": "\ud800",
        "trace_id": -1,
        "trace_flags": "x",
        "attributes": 5,
        "event_name": Bad(),
        "timestamp": "x",
        "observed_timestamp": 1 << 70,
    }
    for name, value in bad.items():
        _, line, metadata, _ = only(form, log(**{name: value}))
        assert line == ("<Bad>" if name == "body" else "hello")
        assert metadata["host_name"] == "h"
    resource = SimpleNamespace(attributes={"service.name": "\ud800", "x": "y"})
    encoder = LokiPush(form=form)
    for value in ("y", "z"):  # not kept: it may change
        resource.attributes["x"] = value
        ((labels, (entry,)),), done = push(form, log(resource=resource), encoder=encoder)
        assert labels == {"service_name": "\ufffd"}
        assert ("x", value) in entry[2]
        assert done.repaired == 1


def test_what_is_kept_stays_within_bounds(form, monkeypatch):
    monkeypatch.setattr(_loki, "KEPT", 3)
    monkeypatch.setattr(_loki_origin, "SHAPES", 3)
    encoder = LokiPush(form=form)
    for n in range(10):
        resource = Resource({"service.name": f"s{n}"})
        items = [
            log(
                resource=resource,
                attributes=BoundedAttributes(9, {f"k{i}": i}),
                event_name=f"e{i}",
            )
            for i in range(9)
        ]
        ((labels, entries),), _ = push(form, *items, encoder=encoder)
        assert labels == {"service_name": f"s{n}"}
        assert [dict(metadata)[f"k{i}"] for i, (_, _, metadata) in enumerate(entries)] == [
            str(i) for i in range(9)
        ]
    assert len(encoder._kept) <= 3
    assert all(len(place._shapes) <= 3 for place in encoder._kept.values())


def test_the_form_is_one_of_two():
    with pytest.raises(InvalidArgument, match="form"):
        LokiPush(form="xml")
    assert LokiPush().format.compressions == ("snappy",)
    assert LokiPush(form="json").format.content_type == "application/json"


@given(st.lists(log_records(), min_size=1, max_size=4))
@settings(deadline=None, max_examples=40)
def test_both_forms_say_the_same(items):
    protobuf, done = push("protobuf", *items)
    as_json, again = push("json", *items)
    assert (done.taken, done.units, done.repaired) == (again.taken, again.units, again.repaired)
    assert [(labels, entries) for labels, entries in as_json] == protobuf
    for _, entries in protobuf:
        for _, _, metadata in entries:
            assert len(dict(metadata)) == len(metadata) <= 128
