"""Schemas that follow a stream."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest

from hastack import events
from hastack.errors import InvalidArgument
from hastack.observe import logs
from hastack.observe.logs import _drift
from hastack.observe.logs._drift import FieldWatch


def tracker(**options):
    return logs.SchemaTracker(**{"window": 100, "sustain": 2, **options})


def types(schema):
    return {field.name: field.type for field in schema.fields}


def test_a_type_stays_while_half_of_the_values_are_of_it():
    watch = FieldWatch("int", sustain=1)
    assert watch.judge({"int": 50, "str": 50}) is None
    assert watch.judge({"int": 49, "str": 51}).type == "str"
    assert watch.type == "str"
    assert watch.judge({"int": 70, "str": 30}) is None
    assert watch.judge({"int": 71, "str": 29}).type == "int"


def test_only_windows_in_a_row_change_a_type():
    watch = FieldWatch("int", sustain=2)
    for _ in range(3):
        assert watch.judge({"str": 100}) is None
        assert watch.strikes == 1
        assert watch.judge({"int": 100}) is None
        assert watch.strikes == 0
    watch.judge({"float": 100})
    verdict = watch.judge({"float": 100})
    assert (verdict.type, verdict.values) == ("float", 200)


def test_windows_that_agree_on_nothing_leave_a_text_a_text():
    watch = FieldWatch("str", sustain=2)
    assert watch.judge({"int": 100}) is None
    assert watch.judge({"ip": 100}) is None
    assert (watch.type, watch.strikes) == ("str", 0)


def test_few_values_wait_for_more():
    watch = FieldWatch("int", sustain=1)
    assert watch.judge({"str": 9, "null": 991}) is None
    assert watch.judge({"str": 1}).type == "str"


def test_first_records_come_one_by_one():
    t = tracker(sample=10)
    with events.record(logs.SchemaChanged) as seen:
        for n in range(20):
            record = {"n": str(n) if n else "-", "late": None if n < 5 else "10.0.0.1"}
            t.apply_records("app", [record])
    assert types(t.schemas["app"]) == {"n": "int", "late": "ip"}
    assert [(event.version, str(event.changes)) for event in seen] == [
        (2, "~ n: str -> int\n~ n: nullable"),
        (3, "~ late: null -> ip"),
    ]
    assert t.schemas["app"].records == 10
    assert t.schemas["app"].field("n").values == 9
    assert record == {"n": 19, "late": "10.0.0.1"}
    assert t.counts()["app"].broken == {}
    assert [each.early for each in t._tracked.values()] == [None]


def test_a_thread_that_comes_late_finds_the_sample_whole():
    t = tracker(sample=2)
    t.apply_records("app", [{"n": 1}])
    (tracked,) = t._tracked.values()
    t.apply_records("app", [{"n": 2.5}])
    t._learn(tracked, "app", [{"n": "x"}])
    assert tracked.schema.field("n").type == "float"


def test_fields_that_were_always_null_get_a_type_at_once():
    t = tracker(sample=10)
    t.apply_records("app", [{"n": None}] * 10)
    done = t.apply_records("app", [{"n": "7"} for _ in range(100)])
    assert (done.broken, done.unknown) == ({}, {"n": 100})
    assert types(t.schemas["app"]) == {"n": "int"}


def test_sustained_drift_makes_a_version():
    t = tracker(sample=1)
    t.apply_records("app", [{"n": 1, "s": "x"}] * 50)
    assert t.schemas["app"].version == 1
    with events.record(logs.SchemaChanged) as seen:
        for _ in range(3):
            record = {"n": "E", "s": "x"}
            done = t.apply_records("app", [dict(record) for _ in range(100)])
            assert done.broken in ({"n": 100}, {})
    assert [(e.format, e.version, str(e.changes)) for e in seen] == [
        ("app", 2, "~ n: int -> str\n~ n: nullable")
    ]
    assert t.schemas["app"].field("n").type == "str"
    counts = t.counts()["app"]
    assert (counts.records, dict(counts.broken)) == (350, {"n": 200})


def test_a_burst_is_counted_and_changes_nothing():
    t = tracker()
    for n in range(20):
        t.apply_records("app", [{"n": "x" if n == 10 else 1}] * 100)
    assert t.schemas["app"].version == 1
    assert t.counts()["app"].broken == {"n": 100}


def test_texts_become_numbers_again():
    t = tracker(sustain=1)
    t.apply_records("app", [{"n": "x"}] * 100)
    assert types(t.schemas["app"]) == {"n": "str"}
    t.apply_records("app", [{"n": "7"} for _ in range(100)])
    assert types(t.schemas["app"]) == {"n": "int"}
    record = {"n": "8"}
    t.apply_records("app", [record])
    assert record == {"n": 8}


def test_texts_inside_of_objects_are_looked_at_too():
    t = tracker(sustain=1)
    t.apply_records("app", [{"o": {"n": "x"}}] * 100)
    t.apply_records("app", [{"o": {"n": "7"}}] * 60 + [{"o": None}] * 40)
    assert t.schemas["app"].field("o.n").type == "int"
    assert t.schemas["app"].field("o").nullable


def test_new_fields_appear_once_they_were_seen_often_enough():
    t = tracker(sample=1)
    t.apply_records("app", [{"a": 1, "o": {"x": 1}}] * 10)
    t.apply_records("app", [{"a": 1, "o": {"x": 1}, "once": 1}] * 2)
    t.apply_records("app", [{"a": 1, "o": {"x": 1, "y": "10.0.0.1"}, "b": {"c": 2}}] * 100)
    schema = t.schemas["app"]
    assert types(schema) == {
        "a": "int",
        "o": "object",
        "o.x": "int",
        "b": "object",
        "b.c": "int",
        "o.y": "ip",
    }
    assert schema.version == 2
    assert schema.field("b").nullable
    assert schema.field("o.y").nullable
    assert t.counts()["app"].unknown == {"*": 202}


def test_three_sightings_make_a_field():
    t = tracker(sample=10)
    t.apply_records("app", [{"a": 1}] * 10)
    t.apply_records("app", [{"a": 1, "twice": 1}] * 2 + [{"a": 1, "thrice": 1}] * 3)
    t.apply_records("app", [{"a": 1}] * 100)
    assert types(t.schemas["app"]) == {"a": "int", "thrice": "int"}
    t.apply_records("app", [{"a": 1, "twice": 1}] + [{"a": 1}] * 100)
    assert types(t.schemas["app"]) == {"a": "int", "thrice": "int", "twice": "int"}


def test_texts_that_mean_nothing_are_nulls():
    t = tracker(sample=10, sustain=1)
    t.apply_records("app", [{"n": "1"} for _ in range(10)])
    assert not t.schemas["app"].field("n").nullable
    for _ in range(3):
        t.apply_records("app", [{"n": "-"} for _ in range(100)])
    field = t.schemas["app"].field("n")
    assert (field.type, field.nullable) == ("int", True)


def test_fields_that_vanish_become_nullable():
    t = tracker()
    t.apply_records("app", [{"a": 1, "b": 1}] * 100)
    assert not t.schemas["app"].field("b").nullable
    t.apply_records("app", [{"a": 1}] * 100)
    assert t.schemas["app"].field("b").nullable
    assert t.schemas["app"].version == 2
    t.apply_records("app", [{"a": 1}] * 300)
    assert t.schemas["app"].version == 2


def test_keys_that_are_data_do_not_become_fields():
    t = tracker()
    t.apply_records("app", [{"a": 1}] * 10)
    for start in range(0, 5000, 100):
        t.apply_records("app", [{"a": 1, f"k{start + n}": 1} for n in range(100)])
    assert types(t.schemas["app"]) == {"a": "int"}
    (drift,) = [each.drift for each in t._tracked.values()]
    assert len(drift._news[()].children) <= 512


def test_an_object_that_is_one_no_more_loses_its_fields():
    t = tracker(sustain=1)
    t.apply_records("app", [{"o": {"x": 1, "p": {"y": 2}}}] * 100)
    t.apply_records("app", [{"o": {"x": 1, "p": {"y": 2}, "new": 1}}] * 50 + [{"o": "gone"}] * 51)
    assert types(t.schemas["app"]) == {"o": "str"}
    record = {"o": {"x": 1}}
    t.apply_records("app", [record])
    assert record == {"o": '{"x":1}'}


def test_what_becomes_an_object_is_json():
    t = tracker(sustain=1, sample=10)
    t.apply_records("app", [{"o": 1}] * 10)
    t.apply_records("app", [{"o": {"x": 1}} for _ in range(100)])
    assert types(t.schemas["app"]) == {"o": "json"}
    t.apply_records("app", [{"o": {"x": 1}} for _ in range(300)])
    assert t.schemas["app"].version == 2


def test_lists_of_mixed_items_lose_the_type_of_their_items():
    t = tracker(sample=10)
    t.apply_records("app", [{"l": [1]}] * 10)
    assert t.schemas["app"].field("l").items == "int"
    t.apply_records("app", [{"l": ["x"]}] * 100)
    assert t.schemas["app"].field("l").items is None
    assert t.apply_records("app", [{"l": ["x"]}]).broken == {}


def test_declared_texts_stay_texts():
    form = SimpleNamespace(name="f", fields={"user": "str", "status": "int"})
    t = tracker(sustain=1)
    batch = SimpleNamespace(
        records=[{"user": "x", "status": 1} for _ in range(100)], formats=[form] * 100
    )
    t.apply(batch)
    batch.records = [{"user": "7", "status": 1} for _ in range(100)]
    t.apply(batch)
    assert types(t.schemas["f"]) == {"user": "str", "status": "int"}
    assert t.schemas["f"].version == 1


def test_pinned_schemas_stay():
    schema = logs.infer({"app": [{"n": 1}]})["app"].pin()
    for given in ([schema], logs.Schemas([schema])):
        t = tracker(schemas=given) if False else logs.SchemaTracker(given, window=10, sustain=1)
        for _ in range(5):
            t.apply_records("app", [{"n": "x", "new": 1}] * 100)
        assert t.schemas["app"] == schema
        assert t.counts()["app"].broken == {"n": 500}


def test_the_cache_gives_the_first_schema_and_gets_the_next():
    cache = logs.SchemaCache()
    schema = logs.infer({"app": [{"n": 1}]}, cache=cache)["app"]
    t = tracker(cache=cache, sustain=1)
    t.apply_records("app", [{"n": "x"}] * 50)
    assert t.schemas["app"] is schema
    t.apply_records("app", [{"n": "x"}] * 50)
    assert cache.get(logs.fingerprint("app")) == t.schemas["app"]
    assert t.schemas["app"].version == 2


def test_the_first_schema_is_kept_and_found():
    cache = logs.SchemaCache()
    first = tracker(cache=cache)
    first.apply_records("app", [{"n": 1}])
    assert cache.get(logs.fingerprint("app")) == first.schemas["app"]
    second = tracker(cache=cache)
    second.apply_records("app", [{"n": "x"}])
    assert second.schemas["app"] is first.schemas["app"]


def test_formats_beyond_the_capacity_are_forgotten():
    t = tracker(capacity=2)
    for name in ("a", "b", "a", "c"):
        t.apply_records(name, [{"n": 1}])
    assert set(t.schemas) == {"a", "c"}
    assert t.forgotten == 1


def test_bad_numbers():
    for name in ("sample", "window", "sustain", "capacity"):
        with pytest.raises(InvalidArgument, match=name):
            logs.SchemaTracker(**{name: 0})


def test_an_outcome_of_an_earlier_version_does_not_count():
    fields = logs.infer({"app": [{"n": 1}]})["app"].fields
    drift = _drift.Drift(fields, numbers=True, window=10, sustain=1)
    old = drift.converter
    records = [{"n": "x"}] * 10
    outcome = old.run(records)
    assert drift.take(old, outcome, records) is not None
    assert drift.converter is not old
    assert drift.take(old, old.run(records[:5]), records[:5]) is None
    assert drift._records == 0


def test_threads_lose_no_count():
    t = tracker(window=50, sample=1)
    t.apply_records("app", [{"n": 1}])

    def work():
        for n in range(100):
            t.apply_records("app", [{"n": 1}, {"n": "x"}, {"n": n, f"k{n % 7}": n}])

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    counts = t.counts()["app"]
    assert counts.records == 1201
    assert counts.broken == {"n": 400}


def test_a_forked_child_goes_on():
    t, cache = tracker(), logs.SchemaCache()
    with t._lock, cache._lock:  # held by the thread that forks, as far as the child knows
        held = t._lock, cache._lock
        for each in (t, cache):
            each._after_fork()
        t.apply_records("app", [{"n": 1}])
        assert cache.get("x") is None
        assert t._lock is not held[0]
        assert cache._lock is not held[1]
        t._lock, cache._lock = held
