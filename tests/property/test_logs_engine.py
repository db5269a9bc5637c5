"""Whatever the bytes are and however they come: each line is a record or a reject."""

from __future__ import annotations

import gzip
import io
import tempfile
from pathlib import Path
from typing import Any

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st

from hastack.observe import logs

PARSER = logs.Parser()
MINING = logs.Parser(templates=logs.TemplateMiner(header=None))

KNOWN = st.sampled_from(
    [
        b'10.0.0.7 - ada [10/Oct/2026:13:55:36 +0200] "GET / HTTP/1.1" 200 23 "-" "curl/8"',
        b'{"level": "info", "took": 7, "nested": {"a": [1, "x"]}}',
        b"<165>1 2026-10-10T22:14:15.003Z web1 shop 42 - - started",
        b"level=warn took=7.5 user=ada",
        b"Traceback (most recent call last):",
        b'  File "a.py", line 1, in <module>',
        "gr\u00fc\u00dfe \x1b[31mrot\x1b[0m".encode(),
        b"\xff\xfe\x00 not text",
        b"",
        b"word " * 300,
    ]
)
LINES = st.lists(st.one_of(KNOWN, st.binary(max_size=80)), max_size=30)


def whole(lines: list[bytes], end: bool) -> tuple[bytes, int]:
    data = b"\n".join(lines) + (b"\n" if end else b"")
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        data = b" " + data  # else it would be UTF-16, with line feeds elsewhere
    return data, data.count(b"\n") + (bool(data) and not data.endswith(b"\n"))


@settings(deadline=None)
@given(LINES, st.booleans(), st.integers(1, 9), st.integers(3, 200), st.booleans(), st.booleans())
def test_no_line_is_lost(
    lines: list[bytes], end: bool, most: int, size: int, packed: bool, mining: bool
) -> None:
    data, count = whole(lines, end)
    batching = logs.Batching(lines=most, bytes=size)
    parser = MINING if mining else PARSER
    with tempfile.TemporaryDirectory() as name:
        path = Path(name, "log")
        path.write_bytes(gzip.compress(data) if packed else data)
        # What begins like an archive is read as one; then there is damage rather than lines.
        plain = logs.Engine(path, parser=parser, batching=batching)
        seen = 0
        for batch in plain:
            assert batch.first == seen
            assert batch.lines <= most
            places = [*batch.numbers, *(seen + reject.number for reject in batch.rejects)]
            assert sorted(places) == list(range(seen, seen + batch.lines))
            seen += batch.lines
        account = plain.account()
    assert account.balanced
    assert account.undelivered == 0
    assert seen == account.lines == count or account.damaged


@settings(deadline=None)
@given(LINES, st.booleans(), st.integers(1, 50))
def test_sources_agree(lines: list[bytes], end: bool, size: int) -> None:
    data, count = whole(lines, end)
    batching = logs.Batching(bytes=size)

    def records(source: Any) -> tuple[list[Any], logs.Account]:
        engine = logs.Engine(source, parser=PARSER, batching=batching)
        return list(engine.records()), engine.account()

    streamed, account = records(io.BytesIO(data))
    if account.damaged:
        return
    given = data.split(b"\n")
    listed, other = records(given[:count])
    assert streamed == listed
    assert account.lines == other.lines == count


@settings(deadline=None, max_examples=50)
@given(LINES)
def test_folding_and_sinks_lose_nothing(lines: list[bytes]) -> None:
    fold = logs.Folder()
    out = io.BytesIO()
    objects: list[Any] = []

    class Both:
        def write(self, batch: logs.Parsed) -> None:
            logs.JsonLines(out).write(batch)
            logs.Objects(objects.append).write(batch)

    account = logs.Engine(lines, parser=PARSER, fold=fold, redact=logs.Redactor()).run(Both())
    assert account.balanced
    assert account.lines + account.folded == len(lines)
    assert out.getvalue().count(b"\n") == account.records == len(objects)
    assert all(attrs.has(type(each)) for each in objects)
