"""Schemas as JSON Schema, Arrow, and the definitions of tables."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime

import pytest

from hastack.errors import InvalidArgument, MissingDependency
from hastack.observe import logs
from hastack.observe.logs import _export_columns
from hastack.observe.logs._export_columns import columns_of, shortened

MOMENT = datetime(2026, 10, 10, 13, 55, 36, tzinfo=UTC)
RECORD = {
    "ts": MOMENT,
    "ok": True,
    "n": 7,
    "took": 1.5,
    "client": "10.0.0.7",
    "id": "f81d4fae-7dec-11d0-a765-00a0c91e6bf6",
    "ref": "https://example.org/",
    "wait": "250ms",
    "size": "4KiB",
    "msg": "hello",
    "tags": ["a", None],
    "ns": [1, 2],
    "any": [1, "a"],
    "user": {"name": "ada", "at": {"x": 1}},
    "none": None,
}


@pytest.fixture
def schema():
    records = [dict(RECORD) for _ in range(3)]
    del records[2]["msg"]
    return logs.infer({"shop.orders": records})["shop.orders"]


def test_json_schema(schema):
    made = schema.json_schema()
    json.dumps(made)
    assert made["title"] == "shop.orders"
    assert made["properties"]["ts"] == {"type": "string", "format": "date-time"}
    assert made["properties"]["msg"] == {"type": ["string", "null"]}
    assert made["properties"]["none"] == {}
    assert made["properties"]["client"]["anyOf"] == [{"format": "ipv4"}, {"format": "ipv6"}]
    assert made["properties"]["tags"] == {"type": "array", "items": {"type": ["string", "null"]}}
    assert made["properties"]["any"] == {"type": ["object", "array"]}
    assert made["properties"]["user"]["properties"]["at"]["required"] == ["x"]
    assert "msg" not in made["required"]
    assert "none" not in made["required"]
    optional = logs.infer({"a": [{"j": [{}], "ip": "::1"}, {}]})["a"].json_schema()["properties"]
    assert optional["j"] == {"type": ["object", "array", "null"]}
    assert optional["ip"]["anyOf"][-1] == {"type": "null"}
    assert optional["ip"]["type"] == ["string", "null"]


def test_records_are_what_the_json_schema_says(schema):
    validator = pytest.importorskip("jsonschema").Draft202012Validator
    made = schema.json_schema()
    validator.check_schema(made)
    check = validator(made, format_checker=validator.FORMAT_CHECKER)
    record = dict(RECORD)
    schema.apply([record])
    written = json.loads(json.dumps(record, default=datetime.isoformat))
    assert not list(check.iter_errors(written))
    assert not list(check.iter_errors({**written, "msg": None, "new": 1}))
    for name, wrong in (
        ("n", "7"),
        ("ok", 1),
        ("ts", 5),
        ("client", "x"),
        ("tags", [1]),
        ("user", 1),
    ):
        assert list(check.iter_errors({**written, name: wrong})), name
    del written["n"]
    assert list(check.iter_errors(written))


def test_arrow(schema):
    pa = pytest.importorskip("pyarrow")
    made = schema.arrow()
    assert made.field("ts").type == pa.timestamp("us", tz="UTC")
    assert made.field("user").type == pa.struct(
        [
            pa.field("name", pa.string(), nullable=False),
            pa.field("at", pa.struct([pa.field("x", pa.int64(), nullable=False)]), nullable=False),
        ]
    )
    assert made.field("tags").type == pa.list_(pa.string())
    assert made.field("ns").type == pa.list_(pa.int64())
    assert made.field("wait").type == pa.float64()
    assert made.field("wait").metadata == {b"hastack.type": b"duration"}
    assert made.field("msg").nullable
    assert not made.field("n").nullable
    record = {**RECORD, "any": "[]"}
    schema.apply([record])
    record["any"] = "[]"
    table = pa.Table.from_pylist([record], schema=made)
    assert table.to_pylist()[0]["user"] == {"name": "ada", "at": {"x": 1}}
    flat = schema.arrow(flat=True)
    row = schema.row(record)
    del row["_rest"]
    assert flat.names == list(row)
    assert pa.Table.from_pylist([row], schema=flat).to_pylist() == [row]


def test_without_pyarrow_the_package_is_named(schema, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingDependency, match=r"hastack\[arrow\]"):
        schema.arrow()


def test_postgresql(schema):
    assert schema.postgresql(not_null=True) == (
        "CREATE TABLE shop_orders (\n"
        "    ts timestamptz NOT NULL,\n"
        "    ok boolean NOT NULL,\n"
        "    n bigint NOT NULL,\n"
        "    took double precision NOT NULL,\n"
        "    client inet NOT NULL,\n"
        "    id uuid NOT NULL,\n"
        "    ref text NOT NULL,\n"
        "    wait double precision NOT NULL, -- seconds\n"
        "    size bigint NOT NULL, -- bytes\n"
        "    msg text,\n"
        "    tags text[] NOT NULL,\n"
        "    ns bigint[] NOT NULL,\n"
        '    "any" jsonb NOT NULL,\n'
        "    user_name text NOT NULL,\n"
        "    user_at_x bigint NOT NULL,\n"
        "    none text,\n"
        "    _rest jsonb\n"
        ");\n"
    )
    assert "NOT NULL" not in schema.postgresql()
    assert schema.postgresql('a"b.c').startswith('CREATE TABLE "a""b".c (')
    assert schema.postgresql(("A.b", "c")).startswith('CREATE TABLE "A.b".c (')


def test_clickhouse(schema):
    made = schema.clickhouse("db.t", order_by=["ts", "client"])
    assert made == (
        "CREATE TABLE `db`.`t`\n"
        "(\n"
        "    `ts` DateTime64(6, 'UTC'),\n"
        "    `ok` Nullable(Bool),\n"
        "    `n` Nullable(Int64),\n"
        "    `took` Nullable(Float64),\n"
        "    `client` String,\n"
        "    `id` Nullable(UUID),\n"
        "    `ref` Nullable(String),\n"
        "    `wait` Nullable(Float64), -- seconds\n"
        "    `size` Nullable(Int64), -- bytes\n"
        "    `msg` Nullable(String),\n"
        "    `tags` Array(Nullable(String)),\n"
        "    `ns` Array(Nullable(Int64)),\n"
        "    `any` Nullable(String),\n"
        "    `user_name` Nullable(String),\n"
        "    `user_at_x` Nullable(Int64),\n"
        "    `none` Nullable(String),\n"
        "    `_rest` Nullable(String)\n"
        ")\n"
        "ENGINE = MergeTree\n"
        "ORDER BY (`ts`, `client`);\n"
    )
    strict = schema.clickhouse(not_null=True)
    assert "CREATE TABLE `shop_orders`" in strict
    assert "`n` Int64," in strict
    assert "`msg` Nullable(String)," in strict
    assert strict.endswith("ORDER BY tuple();\n")
    assert "ORDER BY (`ts`);" in schema.clickhouse(order_by="ts")
    odd = logs.infer({"t": [{"a`b\\c": 1, "--": 2}]})["t"]
    assert "`a\\`b\\\\c` Nullable(Int64)" in odd.clickhouse()


def test_what_is_no_table(schema):
    for table in ("a..b", ".", (), ("a", ""), "a\0"):
        with pytest.raises(InvalidArgument, match="table"):
            schema.postgresql(table) if table else logs.Schema(format="", fields=()).clickhouse(
                table
            )
    with pytest.raises(InvalidArgument, match="order_by"):
        schema.clickhouse(order_by=["absent"])


def test_names_of_columns_are_unique_and_short_enough():
    long = "n" * 80
    record = {
        "a": {"b": 1, "c": None},
        "a_b": 2,
        "a.b": 3,
        "_rest": 4,
        "": 5,
        "x\n": 6,
        "x_": 7,
        long: 8,
        long + "x": 9,
        "\u00e9" * 40: 10,
        "\u00e9" * 31: 11,
    }
    schema = logs.infer({"t": [record]})["t"]
    names = list(schema.row(record))
    assert names[:9] == ["a_b", "a_c", "a_b_2", "a.b", "_rest_2", "_", "x_", "x__2", names[8]]
    assert len(set(names)) == len(names)
    assert all(len(name.encode()) <= 63 for name in names)
    assert names[-1] == "_rest"
    row = schema.row(record)
    assert row["_rest"] is None
    assert sorted(v for v in row.values() if v is not None) == list(range(1, 12))
    assert shortened("abc", None) == shortened("abc", 3) == "abc"


def test_rows_leave_out_what_breaks_its_type():
    schema = logs.infer(
        {"t": [{"ip": "10.0.0.1", "n": 1, "o": {"p": {"x": 1}}, "l": [1], "j": [[]]}]}
    )["t"]
    record = {
        "ip": "fe80::1%eth0",
        "n": "x",
        "o": {"p": {"x": "y", "z": None, "q": {}}, "new": MOMENT},
        "l": ["x"],
        "j": 5,
        "more": {"deep": [1]},
    }
    row = schema.row(record)
    rest = json.loads(row.pop("_rest"))
    assert row == {"ip": None, "n": None, "o_p_x": None, "l": None, "j": None}
    assert rest == {
        "ip": "fe80::1%eth0",
        "n": "x",
        "o": {"p": {"x": "y"}, "new": "2026-10-10T13:55:36+00:00"},
        "l": ["x"],
        "j": 5,
        "more": {"deep": [1]},
    }
    assert schema.row({"o": 7})["_rest"] == '{"o":7}'
    assert schema.row({"o": {"p": None}, "j": {"a": 1}}) == {
        "ip": None,
        "n": None,
        "o_p_x": None,
        "l": None,
        "j": '{"a":1}',
        "_rest": None,
    }


def test_rows_hold_nothing_that_a_store_refuses():
    schema = logs.infer({"t": [{"s": "x", "u": "http://a/", "l": ["a"], "j": [[]], "f": 1.5}]})["t"]
    record = {
        "s": "a\0\udcff\u00e9",
        "u": "http://\0",
        "l": ["\0", None],
        "j": {"\0": [float("nan"), "\0", (1.5, float("inf"))]},
        "f": float("inf"),
        "more": {"\udcff": float("-inf"), 7: "\\u0000"},
    }
    assert schema.row(record) == {
        "s": "a\ufffd?\u00e9",
        "u": "http://\ufffd",
        "l": ["\ufffd", None],
        "j": '{"\ufffd":["nan","\ufffd",[1.5,"inf"]]}',
        "f": float("inf"),
        "_rest": '{"more":{"?":"-inf","7":"\\\\u0000"}}',
    }


def test_objects_that_may_be_missing_make_their_columns_nullable():
    schema = logs.infer({"t": [{"o": {"p": {"x": 1}}, "n": 1}, {"o": None, "n": 1}]})["t"]
    assert [(c.name, c.nullable) for c in columns_of(schema.fields)] == [
        ("o_p_x", True),
        ("n", False),
    ]


def test_a_table_has_a_bounded_number_of_columns(monkeypatch):
    monkeypatch.setattr(_export_columns, "_MOST", 3)
    schema = logs.infer({"t": [{f"k{n}": 1 for n in range(4)}]})["t"]
    with pytest.raises(InvalidArgument, match="at most 3 columns"):
        schema.postgresql()
