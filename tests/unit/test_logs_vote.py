"""Types of values, and the vote on the type of a field."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from ipaddress import ip_address
from uuid import UUID

import pytest

from hastack.observe.logs import _vote
from hastack.observe.logs._sample import Reservoir
from hastack.observe.logs._value_types import (
    BROKEN,
    CLASSES,
    TYPES,
    epoch_unit,
    reader,
    text_of,
    type_of,
    type_of_text,
)
from hastack.observe.logs._vote import holds, support, vote, wilson

UUID_TEXT = "f81d4fae-7dec-11d0-a765-00a0c91e6bf6"


@pytest.mark.parametrize(
    ("tally", "word"),
    [
        ({"int": 60, "float": 40}, "float"),
        ({"int": 100}, "int"),
        ({"int": 71, "str": 29}, "int"),
        ({"int": 70, "str": 30}, "str"),  # exactly 70 % does not decide
        ({"int": 7, "str": 3}, "str"),
        ({"int": 701, "str": 299}, "int"),
        ({"int": 80, "float": 20}, "float"),  # as ints, 20 values would break
        ({"int": 40, "float": 31, "str": 29}, "float"),
        ({"int": 40, "float": 30, "str": 30}, "str"),
        ({"int": 71, "null": 1000}, "int"),  # nulls are not in the denominator
        ({"int": 71, "str": 29, "null": 1000}, "int"),
        ({"int": 7, "blank": 93}, "int"),
        ({"blank": 5, "null": 5}, "str"),
        ({"null": 5}, "null"),
        ({}, "null"),
        ({"str": 100}, "str"),
        ({"ip": 50, "url": 50}, "str"),
        ({"bool": 71, "int": 29}, "bool"),
        ({"object": 71, "json": 29}, "json"),
        ({"object": 71, "str": 29}, "object"),
        ({"timestamp": 3}, "timestamp"),
    ],
)
def test_votes(tally, word):
    assert vote(tally).type == word


def test_a_verdict_says_how_sure_it_is():
    verdict = vote({"int": 60, "float": 20, "str": 20, "null": 7})
    assert (verdict.type, verdict.share, verdict.values) == ("float", 0.8, 100)
    assert verdict.bound == pytest.approx(0.7112, abs=1e-4)
    assert vote({"null": 3}) == _vote.Verdict("null", 0.0, 0.0, 0)
    assert vote({"int": 1, "str": 1}).share == 1.0  # everything is a text


def test_a_type_is_left_below_half():
    assert holds("int", {"int": 50, "str": 50})
    assert not holds("int", {"int": 49, "str": 51})
    assert holds("float", {"int": 30, "float": 20, "str": 50})
    assert holds("int", {"null": 9})
    assert support("str", {"int": 3, "null": 2}) == 3


def test_wilson_is_what_the_textbook_says():
    # R: prop.test(c(9, 50), c(10, 100), correct = FALSE), each alone.
    assert wilson(9, 10) == pytest.approx(0.5958, abs=1e-4)
    assert wilson(50, 100) == pytest.approx(0.4038, abs=1e-4)
    assert wilson(0, 10) == 0.0
    assert wilson(0, 0) == 0.0
    assert wilson(10, 10, z=1.0) == pytest.approx(10 / 11)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("42", "int"),
        ("-1", "int"),
        ("0", "int"),
        ("9223372036854775807", "int"),
        ("9223372036854775808", "str"),  # no store has it; a text keeps it exactly
        ("-9223372036854775808", "int"),
        ("99999999999999999999", "float"),
        ("007", "str"),  # a number would lose the zeros
        ("1.5", "float"),
        ("-1.5e-3", "float"),
        ("1e400", "float"),
        ("1.2.3", "str"),
        ("NaN", "float"),
        ("+Inf", "float"),
        ("Infinite", "str"),
        ("Not", "str"),
        ("true", "bool"),
        ("False", "bool"),
        ("trueish", "str"),
        ("yes", "str"),
        ("2026-10-10T13:55:36Z", "timestamp"),
        ("2026-10-10 13:55:36,123", "timestamp"),
        ("2026-02-31T13:55:36Z", "str"),
        ("10/Oct/2026:13:55:36 +0200", "timestamp"),
        ("Sun, 06 Nov 1994 08:49:37 GMT", "timestamp"),
        ("Thu Oct 11 22:14:15 2000", "timestamp"),
        ("Thursday", "str"),
        ("250ms", "duration"),
        ("1h2m3.5s", "duration"),
        ("-3s", "duration"),
        ("4 KiB", "size"),
        ("1.5MB", "size"),
        ("10.0.0.7", "ip"),
        ("::1", "ip"),
        ("fe80::1%eth0", "ip"),
        ("2001:db8::7", "ip"),
        ("10.0.0.7:80", "str"),
        (UUID_TEXT, "uuid"),
        (UUID_TEXT.upper(), "uuid"),
        ("00000000-0000-0000-0000-000000000000", "uuid"),
        ("beef", "str"),
        ("https://example.org/a?b=c", "url"),
        ("see https://example.org", "str"),
        ('{"a": 1}', "json"),
        ("[1, 2]", "json"),
        ("{a}", "str"),
        ("[" * 100_000, "str"),
        ("[" * 60_000, "str"),
        ("1" * 5000, "str"),
        ("-", "blank"),
        ("", "blank"),
        ("null", "blank"),
        ("hello", "str"),
        ("\u0663", "str"),  # a digit, but none that a number is written with
    ],
)
def test_types_of_texts(text, word):
    assert type_of_text(text) == word
    if word not in {"blank", "str"}:
        value = reader(word)(text)
        assert value is not BROKEN
        assert isinstance(value, CLASSES.get(word, (dict, list)))
        assert reader(word)(value) is not BROKEN  # and such a value is one already


def test_where_numbers_are_written_as_numbers_texts_are_none():
    for text in ("42", "1.5", "true", "NaN", "[1]", '{"a":1}'):
        assert type_of_text(text, numbers=False) == "str"
    assert type_of_text("10.0.0.7", numbers=False) == "ip"
    assert type_of_text("1.5s", numbers=False) == "duration"
    assert type_of_text("2026-10-10T13:55:36Z", numbers=False) == "timestamp"


@pytest.mark.parametrize(
    ("value", "word"),
    [
        (None, "null"),
        (True, "bool"),
        (7, "int"),
        (2**63, "str"),
        (-(2**63), "int"),
        (1.5, "float"),
        ({}, "object"),
        ([], "json"),
        ((), "json"),
        (datetime.now(UTC), "timestamp"),
        (timedelta(1), "duration"),
        (ip_address("::1"), "ip"),
        (UUID(UUID_TEXT), "uuid"),
        (Decimal(1), "float"),
        (b"x", "str"),
        (date(2026, 1, 1), "str"),
    ],
)
def test_types_of_values(value, word):
    assert type_of(value) == word
    made = reader(word)(value)
    if word not in {"null", "object"}:
        assert isinstance(made, CLASSES.get(word, (list, tuple)))


@pytest.mark.parametrize(
    ("value", "unit"),
    [(1_700_000_000, 1), (1_700_000_000_123, 1e3), (1.7e15, 1e6), (1.7e18, 1e9), (200, 0), (0, 0)],
)
def test_numbers_in_a_field_that_is_called_a_time(value, unit):
    assert epoch_unit(value) == unit
    word = "timestamp" if unit else ("int" if isinstance(value, int) else "float")
    assert type_of(value, name="ts") == word
    assert type_of(value, name="size") in {"int", "float"}
    made = reader("timestamp")(value)
    assert made is BROKEN if not unit else made.year == 2023
    if isinstance(value, int):
        assert type_of_text(str(value), name="@timestamp", numbers=False) == (
            "timestamp" if unit else "str"
        )
        again = reader("timestamp")(str(value))
        assert again is BROKEN if not unit else again.year == 2023


def test_a_time_in_milliseconds_is_exact():
    made = reader("timestamp")(1_700_000_000_123)
    assert made == datetime(2023, 11, 14, 22, 13, 20, 123_000, UTC)


def test_texts_of_everything():
    assert text_of("a") == "a"
    assert text_of(True) == "true"
    assert text_of(False) == "false"
    assert text_of(1.5) == "1.5"
    assert text_of({"a": [1, None, datetime(2026, 1, 1, tzinfo=UTC)]}) == (
        '{"a":[1,null,"2026-01-01T00:00:00+00:00"]}'
    )
    assert text_of(b"\xff") == "\\xff"
    assert text_of(date(2026, 1, 1)) == "2026-01-01"
    assert text_of(ip_address("::1")) == "::1"
    round_about: list[object] = []
    round_about.append(round_about)
    assert text_of(round_about) == "[[...]]"
    assert text_of({(1, 2): 3}) == "{(1, 2): 3}"


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("bool", 1),
        ("bool", "yes"),
        ("int", "1.5"),
        ("int", 1.5),
        ("int", True),
        ("int", 2**70),
        ("int", "9223372036854775808"),
        ("float", "x"),
        ("float", 2**70),
        ("float", []),
        ("duration", "x"),
        ("duration", {}),
        ("size", "16EB"),
        ("size", "x"),
        ("timestamp", "x"),
        ("timestamp", []),
        ("timestamp", "12345"),
        ("ip", "1.2.3"),
        ("ip", 7),
        ("uuid", "x"),
        ("url", 7),
        ("json", 7),
        ("json", "x"),
        ("json", "{"),
        ("null", 7),
        ("object", 7),
    ],
)
def test_what_breaks_a_type(word, value):
    assert reader(word)(value) is BROKEN
    assert repr(BROKEN) == "BROKEN"


def test_readers_make_one_thing_of_many_forms():
    assert reader("float")(3) == 3.0
    assert isinstance(reader("float")("3"), float)
    assert reader("float")(Decimal("1.5")) == 1.5
    assert reader("duration")(2) == 2.0
    assert reader("duration")("1m") == 60.0
    assert reader("duration")(timedelta(minutes=1)) == 60.0
    assert reader("size")("4 KiB") == 4096
    assert reader("size")("17") == 17
    assert reader("int")("-") is None
    assert reader("ip")("") is None
    assert reader("str")("-") == "-"
    assert reader("json")("[1]") == [1]
    assert set(TYPES) >= set(CLASSES)


def test_readers_remember_a_bounded_number_of_texts():
    read = reader("int")
    assert [read(str(n)) for n in range(3000)] == list(range(3000))
    (known,) = (cell.cell_contents for cell in read.__closure__ if type(cell.cell_contents) is dict)
    assert len(known) <= 1024


def test_json_texts_of_any_depth_are_read_or_refused():
    assert type_of_text("[" * 30_000 + "]" * 30_000) in {"json", "str"}
    assert json.loads(text_of([1, {"a": None}])) == [1, {"a": None}]


def test_a_reservoir_keeps_everything_until_it_is_full():
    sample = Reservoir(5)
    for n in range(5):
        sample.add(n)
    assert sample.items == [0, 1, 2, 3, 4]
    sample.clear()
    assert (sample.items, sample.seen, sample.skip) == ([], 0, 0)


def test_every_item_has_the_same_chance():
    # 2000 samples of 10 in 100: each item is expected 200 times, with a deviation of 13.4.
    counts = [0] * 100
    for seed in range(2000):
        sample = Reservoir(10, seed=seed)
        for n in range(100):
            sample.add(n)
        assert len(set(sample.items)) == 10
        for n in sample.items:
            counts[n] += 1
    assert sum(counts) == 20_000
    assert min(counts) > 200 - 6 * 13.4
    assert max(counts) < 200 + 6 * 13.4


def test_items_that_are_passed_by_are_those_that_would_not_be_kept():
    one, other = Reservoir(7, seed=3), Reservoir(7, seed=3)
    for n in range(5000):
        one.add(n)
    at = 0
    while at < 5000:
        skip = min(other.skip, 5000 - at)
        other.pass_by(skip)
        at += skip
        if at < 5000:
            other.add(at)
            at += 1
    assert one.items == other.items
    assert one.seen == other.seen == 5000
