"""Tables that a schema defines, in a real PostgreSQL."""

from __future__ import annotations

import json
from datetime import datetime

import pytest
from postgres_servers import Postgres, binaries

from hastack.observe import logs
from hastack.observe.logs._export_sql import RESERVED, quoted_double

RECORD = {
    "ts": "2026-10-10T13:55:36.123+02:00",
    "select": "a",
    "User": "ada",
    'we"ird; DROP TABLE x; --': 1,
    "\u00fcber": True,
    "@timestamp": 1_700_000_000,
    "n" * 100: 1.5,
    "n" * 101: 2.5,
    "client": "2001:db8::7",
    "id": "f81d4fae-7dec-11d0-a765-00a0c91e6bf6",
    "took": "250ms",
    "tags": ["a", "b\"'{},", None],
    "ns": [1, 2],
    "any": {"x": [1, {"y": None}]},
    "list": [{"a": 1}],
    "http": {"status": 200, "": {"table": "x"}},
}


@pytest.fixture(scope="module")
def postgres():
    if binaries() is None:
        pytest.skip("no PostgreSQL on this machine")
    with Postgres() as server:
        yield server


def literal(value):
    """A value as an SQL literal."""
    if value is None:
        return "NULL"
    if isinstance(value, list):
        return f"ARRAY[{', '.join(map(literal, value))}]"
    if isinstance(value, (bool, int, float)):
        return str(value)
    text = value.isoformat() if isinstance(value, datetime) else value
    return "'" + text.replace("'", "''") + "'"


def test_every_reserved_word_is_quoted(postgres):
    rows = postgres.sql("SELECT word FROM pg_get_keywords() WHERE catcode IN ('R', 'T');")
    words = {word for (word,) in rows}
    assert len(words) > 90
    assert not words - RESERVED
    for word in words:
        assert quoted_double(word) == f'"{word}"'


def test_a_table_takes_the_rows_of_its_schema(postgres):
    schema = logs.infer({"shop.orders": [dict(RECORD)]})["shop.orders"]
    postgres.sql(schema.postgresql(not_null=True))
    record = dict(RECORD)
    assert schema.apply([record]).broken == {}
    columns = list(schema.row(record))
    for each in (record, {**record, "ns": ["x"], "client": "nobody", "new": {"a": MOMENT}}):
        row = schema.row(each)
        assert list(row) == columns
        names = ", ".join(map(quoted_double, row))
        values = ", ".join(map(literal, row.values()))
        if row["ns"] is None:
            with pytest.raises(RuntimeError, match="not-null constraint"):
                postgres.sql(f"INSERT INTO shop_orders ({names}) VALUES ({values});")
            postgres.sql("DROP TABLE shop_orders;\n" + schema.postgresql())
        postgres.sql(f"INSERT INTO shop_orders ({names}) VALUES ({values});")
    ((kept,),) = postgres.sql("SELECT to_jsonb(t) FROM shop_orders t;")
    found = json.loads(kept)
    assert set(found) == set(columns)
    assert found["tags"] == RECORD["tags"]
    assert found["http__table"] == "x"
    assert found["_rest"] == {"ns": ["x"], "client": "nobody", "new": {"a": "2026-01-01"}}
    ((family, year),) = postgres.sql(
        "SELECT family('2001:db8::7'::inet), extract(year from \"@timestamp\") FROM shop_orders;"
    )
    assert (family, year) == ("6", "2023")


MOMENT = "2026-01-01"


def test_no_row_is_refused(postgres):
    schema = logs.infer({"t": [{"s": "x", "l": ["a"], "j": [[]], "f": 1.5, "ip": "::1"}]})["t"]
    postgres.sql(schema.postgresql("odd"))
    for record in (
        {"s": "a\0\udcff", "l": ["\0'\\"], "j": {"\0": [float("nan"), "\0"]}, "new": "\\u0000\0"},
        {"s": "", "l": [], "j": [1e308, 2**100], "f": "x", "ip": "fe80::1%eth0"},
        {"ip": "::ffff:10.0.0.1", "j": 5, "l": 7, "more": {"deep": [{"a": float("inf")}]}},
        {},
    ):
        row = schema.row(record)
        values = ", ".join(
            f"{literal(value)}::text[]" if isinstance(value, list) else literal(value)
            for value in row.values()
        )
        postgres.sql(f"INSERT INTO odd VALUES ({values});")
    assert postgres.sql("SELECT count(*) FROM odd;") == [["4"]]


def test_what_stands_in_names_is_no_code(postgres):
    names = ['"; DROP TABLE t; --', "a\nb", "'", "\\", "$$", "/*", "*/", "x y", "1", "%s", ":a"]
    schema = logs.infer({"t": [dict.fromkeys(names, 1)]})["t"]
    postgres.sql(schema.postgresql('t";x'))
    rows = postgres.sql(
        "SELECT column_name FROM information_schema.columns WHERE table_name = 't\";x' "
        "ORDER BY ordinal_position;"
    )
    assert [name for (name,) in rows] == list(schema.row({}))
