"""What hastack encodes for OTLP is what the official encoder means, object for object."""

import sdk_objects
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans

from hastack.observe._otlp_logs import OtlpLogs
from hastack.observe._otlp_metrics import OtlpMetrics
from hastack.observe._otlp_traces import OtlpTraces

# They outlive the examples, so that their caches take part.
TRACES = OtlpTraces()
LOGS = OtlpLogs()
METRICS = OtlpMetrics()


def canonical(message):
    return message.SerializeToString(deterministic=True)


def bodies(encoder, items, max_bytes=1 << 26):
    start, total = 0, encoder.count(items)
    while start < total:
        out = bytearray(b"before")
        done = encoder.encode(items, out, max_bytes=max_bytes, start=start)
        assert out.startswith(b"before")
        assert done.size == len(out) - 6 <= max_bytes
        assert done.taken > 0
        yield bytes(out[6:]), done
        start += done.taken
    assert start == total


def only(encoder, items):
    ((body, done),) = bodies(encoder, items)
    assert (done.oversized, done.unsupported, done.repaired) == (0, 0, 0)
    assert done.units == done.taken
    return body


def official_spans(items):
    """The official message, and in it what the protocol has and that encoder leaves out."""
    message = encode_spans(items)
    by_id = {}
    for span in items:
        by_id.setdefault(span.context.span_id.to_bytes(8, "big"), span)
    for resource in message.resource_spans:
        for scope in resource.scope_spans:
            for span in scope.spans:
                source = by_id[span.span_id]
                span.flags |= source.context.trace_flags
                for link, original in zip(span.links, source.links, strict=True):
                    link.flags |= original.context.trace_flags
                    link.trace_state = original.context.trace_state.to_header()
    return message


@given(st.lists(sdk_objects.spans(), min_size=1, max_size=5, unique_by=lambda s: s.context.span_id))
@settings(deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate))
def test_spans(items):
    expected = official_spans(items)
    body = only(TRACES, items)
    assert canonical(type(expected).FromString(body)) == canonical(expected)


@given(st.lists(sdk_objects.log_records(), min_size=1, max_size=5))
@settings(deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate))
def test_log_records(items):
    expected = encode_logs(items)
    body = only(LOGS, items)
    assert canonical(type(expected).FromString(body)) == canonical(expected)


@given(sdk_objects.metrics_data())
@settings(deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate))
def test_metrics(data):
    expected = encode_metrics(data)
    body = only(METRICS, [data])
    assert canonical(type(expected).FromString(body)) == canonical(expected)
