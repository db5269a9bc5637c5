"""The language that chooses records."""

from __future__ import annotations

import pickle
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hastack.errors import InvalidArgument
from hastack.observe.logs import Where, WhereMistake

NOON = datetime(2026, 10, 10, 12, tzinfo=UTC)
RECORD: dict[str, Any] = {
    "status": 503,
    "took": 0.25,
    "size": 5000,
    "path": "/api/orders",
    "agent": "curl/8.1",
    "tags": ["slow", "db"],
    "ok": True,
    "empty": "",
    "none": None,
    "time": NOON,
    "naive": datetime(2026, 10, 10, 12),  # noqa: DTZ001
    "http": {"method": "GET", "deep": {"er": 1}},
    "a.b": 7,
    "odd name": 1,
    "@id": 4,
}


@pytest.mark.parametrize(
    "expression",
    [
        "status >= 500",
        "status == 503 and took < 1",
        "status = 503.0",
        "status != 200",
        "missing != 3",
        "missing == null",
        "none == null",
        "not missing",
        "not empty",
        "path",
        "took >= 250ms and took <= 0.25s",
        "size > 4KiB and size < 5kB or size == 5000",
        "status > -1",
        "size >= 1e3",
        "path contains 'api'",
        'path contains "/orders"',
        "tags contains 'db'",
        "http contains 'method'",
        "path startswith '/api'",
        "path endswith 'orders'",
        "agent matches 'curl/[0-9]'",
        r"agent matches 'curl/\d[.]\d'",
        "status in (500, 503)",
        "status in [503]",
        "status not in (200, 204)",
        "'slow' in ('slow', 'fast')",
        "not (status < 500 or took > 1)",
        "ok == true",
        "ok != 1",
        "time >= '2026-10-10T12:00:00Z'",
        "'2026-10-10T14:00:00+02:00' == time",
        "time < '2026-10-11'",
        "time == naive",
        "naive == '2026-10-10 12:00:00'",
        "http.method == 'GET'",
        "http.deep.er == 1",
        "a.b == 7",
        "`odd name` == 1",
        "@id == 4",
        "'it\\'s' == \"it's\"",
        "'a\\tb' contains '\\t'",
        "path.x == null",
        " status>=500 ",
    ],
)
def test_what_fits(expression: str) -> None:
    assert Where(expression)(RECORD) is True


@pytest.mark.parametrize(
    "expression",
    [
        "status < 500",
        "path > 3",
        "missing > 3",
        "3 < missing",
        "status > 'x'",
        "ok == 1",
        "path contains 3",
        "status contains 5",
        "status startswith '5'",
        "path endswith 3",
        "status matches '5'",
        "agent matches '^8'",
        "time > 'no moment'",
        "time == 'no moment'",
        "time > 5",
        "status in (1, 2)",
        "status == 503 and not ok",
        "false or null",
        "http.method.x == 'GET'",
    ],
)
def test_what_does_not(expression: str) -> None:
    assert Where(expression)(RECORD) is False


@pytest.mark.parametrize(
    ("expression", "column", "expected"),
    [
        ("", 1, "a value or a field"),
        ("status >=", 10, "a value or a field"),
        ("status >= and", 11, "a value or a field"),
        ("status 5", 8, "'and', 'or', or the end"),
        ("(status", 8, "')'"),
        ("status in 5", 11, "a list such as"),
        ("status in (5", 13, "',' or ')'"),
        ("status in [5)", 13, "',' or ']'"),
        ("status not 5", 12, "'in'"),
        ("path matches x", 14, "a regular expression in quotes"),
        ("path matches '('", 14, "a regular expression of bounded cost"),
        ("path matches '(a+)+b'", 14, "a regular expression of bounded cost"),
        ("path == 'x", 9, "a closing quote"),
        ("a == #", 6, "a field, value or sign"),
        ("took > 5parsecs", 9, "a unit of"),
        ("(" * 60 + "a" + ")" * 60, 51, "at most 50 levels"),
        ("not " * 60 + "a", 201, "at most 50 levels"),
        ("a" * 10_001, 10_001, "at most 10000 characters"),
    ],
)
def test_a_mistake_says_where_and_what(expression: str, column: int, expected: str) -> None:
    with pytest.raises(WhereMistake) as caught:
        Where(expression)
    mistake = caught.value
    assert isinstance(mistake, InvalidArgument)
    assert mistake.column == column
    assert expected in str(mistake)
    line, caret = mistake.drawn().splitlines()[:2]
    assert caret.index("^") == column - 1
    assert str(pickle.loads(pickle.dumps(mistake))) == str(mistake)


def test_a_filter_can_be_sent_to_another_process() -> None:
    again = pickle.loads(pickle.dumps(Where("status == 503")))
    assert again(RECORD)
    assert repr(again) == "Where('status == 503')"
    with pytest.raises(InvalidArgument, match="expression"):
        Where(7)  # type: ignore[arg-type]


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        Where(text)(RECORD)
    except WhereMistake as mistake:
        assert 1 <= mistake.column <= len(text) + 1  # noqa: PT017


VALUES = st.one_of(st.integers(-9, 9), st.sampled_from(["a", "b", ""]), st.none(), st.booleans())


@given(st.dictionaries(st.sampled_from("xyz"), VALUES), st.integers(-9, 9))
def test_negation_and_or_are_those_of_logic(record: dict[str, Any], number: int) -> None:
    less, most = Where(f"x < {number}")(record), Where(f"y == {number}")(record)
    assert Where(f"not x < {number}")(record) is not less
    assert Where(f"x < {number} and y == {number}")(record) is (less and most)
    assert Where(f"x < {number} or y == {number}")(record) is (less or most)


def test_a_regular_expression_looks_at_a_bounded_part() -> None:
    assert not Where("text matches 'z'")({"text": "a" * 5000 + "z"})
