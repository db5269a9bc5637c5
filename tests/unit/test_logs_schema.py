"""Schemas: inferred, applied, pinned, saved, compared, cached."""

from __future__ import annotations

import pickle
from datetime import datetime
from types import SimpleNamespace

import pytest

from hastack.errors import InvalidArgument
from hastack.observe import logs
from hastack.observe.logs import _schema_fields
from hastack.observe.logs._schema_fields import Count, fields_of


def types(schema):
    return {field.name: field.type for field in schema.fields}


def one(records, **options):
    return logs.infer({"app": records}, **options)["app"]


def form(name, **fields):
    return SimpleNamespace(name=name, fields=fields)


def test_a_field_has_the_type_of_most_of_its_values():
    records = [{"n": str(n) if n < 71 else "x", "m": str(n) if n < 70 else "x"} for n in range(100)]
    assert types(one(records)) == {"n": "int", "m": "str"}
    mixed = [{"n": n if n < 60 else n / 7} for n in range(100)]
    field = one(mixed).field("n")
    assert (field.type, field.share, field.values) == ("float", 1.0, 100)
    assert 0.95 < field.confidence < 0.97


def test_nulls_and_missing_fields_do_not_vote_but_make_a_field_nullable():
    records = [{"a": 1, "b": None}, {"b": 2, "c": 1}, {"a": "-", "b": 3, "c": 1}]
    schema = one(records)
    assert types(schema) == {"a": "int", "b": "int", "c": "int"}
    assert [field.nullable for field in schema.fields] == [True, True, True]
    assert [field.values for field in schema.fields] == [1, 2, 2]
    assert one([{"a": 1}]).field("a").nullable is False
    assert types(one([{"a": None}, {"b": ""}])) == {"a": "null", "b": "str"}


def test_a_text_that_looks_like_a_number_is_one_unless_the_format_writes_numbers():
    assert types(one([{"a": "1", "b": "x"}])) == {"a": "int", "b": "str"}
    assert types(one([{"a": "1", "b": 2}])) == {"a": "str", "b": "int"}
    assert types(one([{"a": "1", "o": {"b": True}}]))["a"] == "str"
    assert types(one([{"ts": 1_700_000_000, "n": 2}])) == {"ts": "timestamp", "n": "int"}


def test_objects_have_fields_of_their_own_and_lists_types_of_items():
    records = [
        {"http": {"status": 200, "took": 0.5}, "tags": ["a", "b"], "ns": [1, 2.5, None]},
        {"http": {"status": 404}, "tags": [], "ns": [1], "odd": [1, "a"]},
        {"http": None, "tags": ["c"], "odd": [{"a": 1}]},
    ]
    schema = one(records)
    assert types(schema) == {
        "http": "object",
        "http.status": "int",
        "http.took": "float",
        "tags": "json",
        "ns": "json",
        "odd": "json",
    }
    assert schema.field("http.took").nullable
    assert not schema.field("http.status").nullable  # of an object that is there
    assert schema.field("http").nullable
    items = {field.name: field.items for field in schema.fields}
    assert (items["tags"], items["ns"], items["odd"]) == ("str", "float", None)
    assert schema.columns[0].name == "http.status"
    assert types(one([{"a": {"x": 1}}, {"a": [1]}, {"a": {"x": 2}}, {"a": 3}]))["a"] == "json"
    assert types(one([{"a": {}}])) == {"a": "json"}


def test_an_object_with_very_many_keys_is_a_map():
    records = [{"users": {f"u{n}": n}} for n in range(600)]
    schema = one(records, sample=600)
    assert types(schema) == {"users": "json"}
    rare = [{"by": {f"u{n}": n, "same": 1}, "n": 1, f"k{n}": n} for n in range(100)]
    assert types(one(rare)) == {"by": "json", "n": "int"}
    often = [{f"k{n % 40}": n} for n in range(1000)]
    assert len(one(often, sample=1000).fields) == 40
    deep: dict[str, object] = {"x": 1}
    for _ in range(20):
        deep = {"d": deep}
    assert max(len(field.path) for field in one([deep]).fields) == 9
    assert one([{f"k{n}": n for n in range(2000)}]).records == 1


def test_names_that_are_no_texts_are_left_alone():
    schema = one([{1: 2, "a": 3}])
    assert types(schema) == {"a": "int"}
    record = {1: "x", "a": "4"}
    assert schema.apply([record]).unknown == {"1": 1}
    assert record == {1: "x", "a": 4}


def test_one_key_with_a_dot_is_not_two_keys():
    schema = one([{"a.b": 1, "a": {"b": "x"}}])
    assert schema.field("a.b").type == "int"
    assert schema.field(("a", "b")).type == "str"
    assert schema.field("a").type == "object"
    with pytest.raises(KeyError):
        schema.field("c")


def test_what_the_grammar_says_holds():
    declared = form("nginx", status="int", took="duration", user="str", none="ip", weird="hex")
    batch = SimpleNamespace(
        records=[
            {"status": 200, "took": 0.5, "user": "7", "weird": "a", "x": "1"},
            {"status": None, "took": "1.5s", "user": "-", "weird": "b", "x": "2"},
        ],
        formats=[declared] * 2,
    )
    schema = logs.infer(batch)["nginx"]
    assert types(schema) == {
        "status": "int",
        "took": "duration",
        "user": "str",
        "weird": "str",
        "x": "int",
        "none": "ip",
    }
    assert schema.field("status").declared
    assert not schema.field("x").declared
    assert schema.field("none").values == 0
    blank = SimpleNamespace(records=[{"client": "-"}], formats=[form("f", client="ip")])
    assert types(logs.infer(blank)["f"]) == {"client": "ip"}
    wrong = SimpleNamespace(records=[{"n": "x"}], formats=[form("f", n="int")])
    assert not logs.infer(wrong)["f"].field("n").declared


def test_values_become_what_the_schema_says():
    schema = one(
        [
            {
                "s": "x",
                "i": "1",
                "f": "1.5",
                "b": "true",
                "t": "2026-10-10T13:55:36Z",
                "ip": "10.0.0.1",
                "d": "5ms",
                "z": "4KiB",
                "u": "http://a/b",
                "j": "[1]",
                "n": None,
            }
        ]
    )
    record = {
        "s": 5,
        "i": "-",
        "f": "2",
        "b": "no",
        "t": "2026-10-10T13:55:36+02:00",
        "ip": "::1",
        "d": "1s",
        "z": "7",
        "u": "no",
        "j": '{"a":1}',
        "n": "now",
        "more": 1,
    }
    done = schema.apply([record])
    assert done.records == 1
    assert done.broken == {"b": 1, "u": 1}
    assert done.unknown == {"more": 1, "n": 1}
    assert record == {
        "s": "5",
        "i": None,
        "f": 2.0,
        "b": "no",
        "t": datetime.fromisoformat("2026-10-10T13:55:36+02:00"),
        "ip": "::1",
        "d": 1.0,
        "z": 7,
        "u": "no",
        "j": {"a": 1},
        "n": "now",
        "more": 1,
    }
    before = dict(record)
    assert schema.apply([record]).broken == done.broken  # and again: nothing changes
    assert record == before


def test_values_inside_of_objects_are_converted_too():
    schema = one([{"a": {"t": "2026-10-10T13:55:36Z", "b": {"n": 1.5}}}] * 3)
    records = [
        {"a": {"t": "x", "b": {"n": 2}}},
        {"a": {"t": None, "b": None, "c": 1}},
        {"a": [1]},
        {},
    ]
    done = schema.apply(records)
    assert done.broken == {"a": 1, "a.t": 1}
    assert done.unknown == {"a.c": 1}
    assert isinstance(records[0]["a"]["b"]["n"], float)


def test_lists_whose_items_break_their_type_are_broken():
    schema = one([{"a": [1.5, 2], "b": ["x"]}])
    records = [{"a": [1, None], "b": ["y", None]}, {"a": ["x"], "b": "z"}]
    assert schema.apply(records).broken == {"a": 1, "b": 1}
    assert records[0] == {"a": [1.0, None], "b": ["y", None]}
    assert isinstance(records[0]["a"][0], float)


def test_an_integer_that_no_store_holds_breaks_its_type():
    schema = one([{"n": 1}])
    record = {"n": 2**63}
    assert schema.apply([record]).broken == {"n": 1}
    assert record == {"n": 2**63}


def test_an_unknown_field_in_place_of_a_known_one_is_noticed():
    schema = one([{"a": 1, "b": 1}])
    assert schema.apply([{"b": 1, "x": 1}]).unknown == {"x": 1}
    assert schema.apply([{"a": None, "b": 1}]).unknown == {}
    assert schema._converter.run([{"b": 1}]).strange == []
    assert schema._converter.run([{"a": None, "b": 1}]).strange == []


def test_unknown_fields_are_named_up_to_a_bound():
    schema = one([{"a": 1}])
    done = schema.apply([{f"k{n}": 1 for n in range(100)}])
    assert len(done.unknown) == 64
    many = [{"a": 1, "b": 1}] * 1000
    assert schema.apply(many).unknown == {"b": 256}


def test_pinning():
    schema = one([{"port": "80", "o": {"x": 1}}])
    pinned = schema.pin(port="str", o="json")
    assert pinned.pinned
    assert types(pinned) == {"port": "str", "o": "json"}
    assert schema.pin().fields == schema.fields
    with pytest.raises(InvalidArgument, match="nothing='int'"):
        schema.pin(nothing="int")
    with pytest.raises(InvalidArgument, match="port='number'"):
        schema.pin(port="number")


def test_a_schema_says_no_nonsense():
    field = logs.SchemaField(path=("a",), type="int")
    for bad in (
        [field, field],
        [logs.SchemaField(path=("a", "b"), type="int")],
        [logs.SchemaField(path=(), type="int")],
        [logs.SchemaField(path=("a",), type="number")],
    ):
        with pytest.raises(InvalidArgument):
            logs.Schema(format="app", fields=bad)


def test_saved_and_loaded(tmp_path):
    records = [{"a": 1, "o": {"b": "2026-10-10T13:55:36Z"}, "l": [1]}]
    schemas = logs.infer({"app": records, "other": [{"x": "1"}]})
    path = tmp_path / "schemas.json"
    schemas.save(path)
    loaded = logs.Schemas.load(path)
    assert dict(loaded) == dict(schemas)
    assert loaded["app"].field("a").examples == ()  # examples are data, and not written
    assert "2026" not in path.read_text("utf-8")
    assert [each.name for each in tmp_path.iterdir()] == ["schemas.json"]
    for text in ("", "[]", "{}", '{"schemas": [{"fields": [{"path": 7}]}]}', '{"schemas": [7]}'):
        path.write_text(text)
        with pytest.raises(InvalidArgument):
            logs.Schemas.load(path)
    with pytest.raises(OSError):
        logs.Schemas.load(tmp_path / "absent.json")
    with pytest.raises(TypeError):
        logs.Schemas([logs.Schema(format="app", fields=(), records=object())]).save(path)
    assert [each.name for each in tmp_path.iterdir()] == ["schemas.json"]


def test_pickled_schemas_apply():
    schema = one([{"a": "1"}])
    schema.apply([{"a": "2"}])
    again = pickle.loads(pickle.dumps(schema))
    assert again == schema
    record = {"a": "3"}
    again.apply([record])
    assert record == {"a": 3}


def test_differences_for_people_and_as_data():
    before = one([{"gone": 1, "port": 80, "n": 1, "same": "x", "l": [1], "o": None, "p": "x"}])
    after = one(
        [
            {"port": "http", "n": 1.5, "same": "y", "l": ["a"], "new": True, "o": 1, "p": "x"},
            {"port": "http", "n": 1, "same": None, "l": ["a"], "new": True, "o": 1, "p": "x"},
        ]
    )
    diff = before.diff(after)
    assert str(diff).splitlines() == [
        "+ new: bool",
        "- gone: int",
        "~ port: int -> str",
        "~ n: int -> float",
        "~ same: nullable",
        "~ l: items int -> str",
        "~ o: null -> int",
        "~ o: never null",
    ]
    assert {str(c): c.breaking for c in diff.changes} == {
        "+ new: bool": True,  # records of before do not have it
        "- gone: int": True,
        "~ port: int -> str": False,
        "~ n: int -> float": False,
        "~ same: nullable": False,
        "~ l: items int -> str": True,
        "~ o: null -> int": False,
        "~ o: never null": True,
    }
    assert diff.breaking
    assert diff.to_data()[2] == {
        "path": ["port"],
        "kind": "type",
        "before": "int",
        "after": "str",
        "breaking": False,
    }
    assert not before.diff(before)
    assert not before.diff(before).breaking
    widened = one([{"l": [1]}]).diff(one([{"l": [1, "a"]}]))
    assert [str(change) for change in widened.changes] == ["~ l: items int -> any"]
    assert not widened.breaking


def test_differences_of_several_formats():
    one_, other = logs.infer({"a": [{"x": 1}], "b": [{"y": 1}]}), logs.infer({"a": [{"x": 1}]})
    assert one_.diff(other).keys() == {"b"}
    assert other.diff(one_)["b"].changes[0].kind == "added"
    assert repr(one_) == "Schemas(a v1, b v1)"
    assert "a, version 1, 1 records" in one_.describe()
    with pytest.raises(InvalidArgument):
        logs.Schemas([one_["a"], one_["a"]])


def test_schemas_apply_to_a_batch_each_to_its_format():
    a, b, c = form("a"), form("b"), form("c")
    schemas = logs.infer({"a": [{"x": "1"}], "b": [{"x": "1.5"}]})
    batch = SimpleNamespace(records=[{"x": "1"}, {"x": "2"}, {"x": "3"}], formats=[a, b, c])
    done = schemas.apply(batch)
    assert batch.records == [{"x": 1}, {"x": 2.0}, {"x": "3"}]
    assert done.keys() == {"a", "b"}


def test_what_can_be_inferred_from():
    assert dict(logs.infer([])) == {}
    assert dict(logs.infer({"a": []})) == {}
    assert types(logs.infer(iter([{"x": 1}]))["record"]) == {"x": "int"}
    for bad in ("a line", b"a line", 7, [7], {"a": ["line"]}, {"": [{}]}):
        with pytest.raises(InvalidArgument):
            logs.infer(bad)
    with pytest.raises(InvalidArgument):
        logs.infer([], sample=0)
    with pytest.raises(InvalidArgument):
        logs.infer([], seed=-1)


def test_lines_go_through_the_parser():
    class Parser:
        def parse_lines(self, lines):
            self.lines = len(lines)
            forms = [form("even"), form("odd")]
            return SimpleNamespace(
                records=[{"n": line} for line in lines],
                formats=[forms[int(line) % 2] for line in lines],
            )

    parser = Parser()
    schemas = logs.infer((str(n) for n in range(5000)), parser=parser, sample=50, seed=4)
    assert parser.lines == 500
    assert schemas["even"].records == schemas["odd"].records == 50
    assert types(schemas["even"]) == {"n": "int"}


def test_records_that_were_inferred_from_are_as_they_were():
    records = [{"a": "1", "o": {"b": "2"}}]
    one(records)
    assert records == [{"a": "1", "o": {"b": "2"}}]


def test_the_cache_is_asked_first_and_bounded():
    cache = logs.SchemaCache(capacity=2)
    first = one([{"a": 1}], cache=cache)
    assert one([{"a": "x"}], cache=cache) is first
    logs.infer({"b": [{"a": 1}]}, cache=cache)
    assert cache.get(logs.fingerprint("app")) is first  # used now: b is older
    logs.infer({"c": [{"a": 1}]}, cache=cache)
    assert len(cache) == 2
    assert cache.get(logs.fingerprint("b")) is None
    assert cache.get(logs.fingerprint("app")) is first
    with pytest.raises(InvalidArgument):
        logs.SchemaCache(0)


def test_a_fingerprint_is_of_the_name_and_the_fields_of_the_grammar():
    assert logs.fingerprint("a") == logs.fingerprint(form("a"))
    assert logs.fingerprint(form("a", x="int")) != logs.fingerprint(form("a"))
    assert logs.fingerprint(form("a", x="int", y="ip")) == logs.fingerprint(
        SimpleNamespace(name="a", fields={"y": "ip", "x": "int"})
    )


def test_a_table_for_people():
    schema = one([{"n": None, "l": ["a"], "long": "x" * 100}])
    lines = schema.describe().splitlines()
    assert lines[0] == "app, version 1, 1 records"
    assert lines[1].split() == ["field", "type", "null", "share", "at", "least", "examples"]
    assert lines[2].split() == ["n", "null", "yes"]
    assert lines[3].split() == ["l", "json<str>", "100%", "21%", '["a"]']
    assert lines[4].endswith("x" * 39 + "\u2026")


def test_counting_stops_at_a_bound(monkeypatch):
    count = Count()
    for n in range(_schema_fields.MAX_FIELDS + 10):
        count.add_record({f"k{n}": 1}, numbers=True)
    assert len(count.children) == _schema_fields.MAX_FIELDS + 1
    assert fields_of(count, records=1, numbers=True) == []
