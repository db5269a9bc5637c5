"""Records written by a small writer of its own for each format are read back; no bytes are lost."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from log_lines import SAMPLES
from log_writers import WRITERS, ZONES, moments

from hastack.observe import logs
from hastack.observe.logs import combinators as c
from hastack.observe.logs import formats
from hastack.observe.logs._times import iso

PARSER = logs.Parser()


def test_every_format_has_a_writer():
    assert set(WRITERS) == set(formats.names())


@pytest.mark.parametrize("name", sorted(WRITERS))
def test_what_was_written_is_read_and_by_no_other(name):
    mine = formats.get(name)

    @settings(max_examples=30)
    @given(WRITERS[name])
    def check(pair):
        line, record = pair
        found = mine.try_parse(line)
        assert found is not None, mine.explain(line)
        for field, value in record.items():
            if not isinstance(value, float) or math.isfinite(value):
                assert (field, found[field]) == (field, value)
        batch = PARSER.parse_lines([line])
        assert [each.name for each in batch.formats] == [name]

    check()


LINES = [line for lines in SAMPLES.values() for line in lines]
pieces = st.sampled_from(
    [*LINES, "", "\x1b[0m", "\0", "\r", "\ufeff", " ", "{", "<13>1 ", "[", '"']
)
texts = st.lists(pieces | st.text(max_size=20), max_size=4).map("".join)
cuts = st.tuples(texts, st.integers(0, 200), st.integers(0, 200)).map(
    lambda t: t[0][t[1] : t[1] + t[2]]
)
anything = st.binary(max_size=60) | texts | cuts | texts.map(lambda t: t.encode("utf-8", "ignore"))


@settings(max_examples=300)
@given(st.lists(anything, max_size=12), st.sampled_from(["replace", "latin-1"]))
def test_whatever_comes_each_line_is_a_record_or_a_reject(lines, fallback):
    parser = logs.Parser(fallback=fallback)
    batch = parser.parse_lines(lines)
    places = [*batch.numbers, *(reject.number for reject in batch.rejects)]
    assert sorted(places) == list(range(len(lines)))
    assert batch.counts.lines == len(lines)
    for number, record, known in zip(batch.numbers, batch.records, batch.formats, strict=True):
        alone = PARSER.parse_lines([lines[number]]) if fallback == "replace" else None
        if alone is not None:
            assert (repr(alone.records[0]), alone.formats[0]) == (repr(record), known)
    for line in lines[:2]:
        assert str(parser.explain(line)) is not None


@settings(max_examples=300)
@given(st.tuples(*[st.sampled_from(LINES).map(lambda line: line.split("\n")[0])] * 2), st.data())
def test_formats_of_one_rank_read_no_line_together(pair, data):
    one, other = (line.split(" ") for line in pair)
    line = " ".join(one[: data.draw(st.integers(0, len(one)))] + other)
    readers = [each.rank for each in PARSER.formats if each.try_parse(line) is not None]
    assert len(readers) == len(set(readers)), line


@given(st.lists(cuts, max_size=20))
def test_what_a_line_is_does_not_depend_on_those_before_it(lines):
    together = PARSER.parse_lines(lines)
    alone = [PARSER.parse_lines([line]) for line in lines]
    assert repr(together.records) == repr([r for each in alone for r in each.records])
    assert [f.name for f in together.formats] == [f.name for each in alone for f in each.formats]


@given(
    moments,
    st.integers(0, 9),
    st.sampled_from("T ,t"),
    st.sampled_from(["Z", "z", "", "+02:00", "+0200", " -0330"]),
)
def test_the_fast_reader_of_times_is_the_slow_one(moment, digits, mark, zone):
    text = f"{moment:%Y-%m-%d}{'T' if mark == ',' else mark}{moment:%H:%M:%S}"
    if digits:
        text += ("," if mark == "," else ".") + f"{moment.microsecond:06}123"[:digits]
    text += zone
    assert c.iso_time().compile().try_parse(text) is not None
    found = iso(ZONES[1])(text)
    micro = int(f"{moment.microsecond:06}123"[:digits][:6].ljust(6, "0"))
    assert found.replace(tzinfo=None) == moment.replace(tzinfo=None, microsecond=micro)
    offset = {"": 7200, "+02:00": 7200, "+0200": 7200, " -0330": -12600}.get(zone, 0)
    assert found.utcoffset().total_seconds() == offset
