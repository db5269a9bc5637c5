"""From any lines to schemas, values, tables and redacted records: nothing is lost, nothing breaks.

``HASTACK_FUZZ_EXAMPLES`` says how many examples are tried; for minutes, take 20000.
"""

from __future__ import annotations

import copy
import json
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hastack.observe import logs

EXAMPLES = int(os.environ.get("HASTACK_FUZZ_EXAMPLES", "60"))
LINES = (
    '203.0.113.7 - ada [10/Oct/2026:13:55:36 +0200] "GET /a?b=c@d.co HTTP/1.1" 200 2326 "-" "curl"',
    '<165>1 2026-10-10T13:55:36.123Z web1 shop 7 ID1 [x@1 a="b"] password=hunter2',
    "<34>Oct 11 22:14:15 web1 su: 'su root' failed for ada",
    "level=info took=7 user=ada@example.org ip=10.0.0.7",
    "E1011 22:14:15.123456       7 main.go:7] oops",
    "CEF:0|a|b|1|100|c|10|src=10.0.0.1 dst=2.1.2.2",
    "2026-10-10 13:55:36,123 - app - ERROR - went wrong",
)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(
        ["10.0.0.7", "5ms", "4KiB", "2026-10-10T13:55:36Z", "1", "1.5", "-", "a@b.co"]
    ),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3)
    ),
    max_leaves=5,
)
objects = st.dictionaries(
    st.sampled_from(["ts", "n", "user.id", "o"]) | st.text(max_size=4), values
)
lines = st.lists(
    st.sampled_from(LINES)
    | objects.map(json.dumps)
    | st.text(max_size=40)
    | st.binary(max_size=40)
    | st.tuples(st.sampled_from(LINES), st.integers(0, 60)).map(lambda pair: pair[0][: pair[1]]),
    max_size=12,
)


@settings(max_examples=EXAMPLES, deadline=None)
@given(lines, lines)
@pytest.mark.timeout(max(60, EXAMPLES))
def test_any_lines(some, others):
    schemas = logs.infer(some)
    parser = logs.Parser()
    tracker = logs.SchemaTracker(schemas, window=5, sustain=1, sample=5)
    for each in (some, others, some):
        batch = parser.parse_lines(each)
        assert len(batch.records) + len(batch.rejects) == len(each)
        numbers = list(batch.numbers)
        keys = [set(record) for record in batch.records]
        done = tracker.apply(batch)
        assert sum(one.records for one in done.values()) == len(batch.records)
        for form, record, fields in zip(batch.formats, batch.records, keys, strict=True):
            assert set(record) == fields
            row = tracker.schemas[form.name].row(record)
            assert row["_rest"] is None or json.loads(row["_rest"])
        before = copy.deepcopy(batch.records)
        logs.Redactor(ip="mask").apply(batch)
        assert numbers == list(batch.numbers)
        assert list(map(len, before)) == list(map(len, batch.records))
        assert not any(b"d.co" in _bytes(reject.line) for reject in batch.rejects)
    for schema in tracker.schemas.values():
        assert logs.Schema.from_data(json.loads(json.dumps(schema.to_data()))) == schema
        json.dumps(schema.json_schema())
        assert schema.postgresql().count("\n") == schema.clickhouse().count("\n") - 3
        assert schema.describe()
        schema.arrow()


def _bytes(line):
    return line if isinstance(line, bytes) else line.encode("utf-8", "surrogatepass")
