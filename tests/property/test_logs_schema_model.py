"""The vote, the drift of a field and whole schemas against simple models."""

from __future__ import annotations

import copy
from fractions import Fraction
from math import isclose, isnan

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from hastack.observe import logs
from hastack.observe.logs._drift import FieldWatch
from hastack.observe.logs._value_types import BROKEN, COLUMN_TYPES, TYPES, reader, type_of
from hastack.observe.logs._vote import support, vote, wilson

words = st.sampled_from(TYPES)
tallies = st.dictionaries(
    st.sampled_from(["int", "float", "str", "ip", "object", "json", "null", "blank"]),
    st.integers(0, 10) | st.integers(0, 1000),
)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=12)
    | st.sampled_from(["10.0.0.1", "2026-10-10T13:55:36Z", "5ms", "4KiB", "-", "1", "1.5", "true"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)
records = st.lists(
    st.dictionaries(st.sampled_from("abcdef"), json_values, max_size=5), min_size=1, max_size=12
)


def held(word, tally):
    """What a type holds, said once more."""
    under = {"float": {"float", "int"}, "json": {"json", "object"}}.get(word, {word})
    return sum(n for w, n in tally.items() if w in under)


def model_vote(tally):
    values = sum(n for w, n in tally.items() if w not in {"null", "blank"})
    if not values:
        return "str" if tally.get("blank") else "null"
    able = [
        (held(w, tally), -at, w)
        for at, w in enumerate(["int", "ip", "object", "float", "json"])
        if Fraction(held(w, tally), values) > Fraction(7, 10)
    ]
    return max(able)[2] if able else "str"


@given(tallies)
def test_the_vote_is_what_its_words_say(tally):
    verdict = vote(tally)
    assert verdict.type == model_vote(tally)
    assert 0.0 <= verdict.bound <= verdict.share <= 1.0
    assert vote({**tally, "null": tally.get("null", 0) + 500}).type == verdict.type
    if verdict.values:
        assert isclose(verdict.share, support(verdict.type, tally) / verdict.values)


@given(st.integers(0, 1000), st.integers(1, 1000))
def test_the_bound_is_below_the_share_and_grows_with_what_was_looked_at(part, whole):
    part = min(part, whole)
    bound = wilson(part, whole)
    assert 0.0 <= bound <= part / whole
    assert wilson(part * 10, whole * 10) >= bound


@given(json_values | st.text(max_size=40), st.sampled_from(COLUMN_TYPES))
def test_a_value_becomes_one_of_its_type_once_and_for_all(value, word):
    read = reader(word)
    made = read(value)
    if made is not BROKEN and made is not None:
        again = read(made)
        assert again == made or (isnan(made) and isnan(again))
    kind = type_of(value)
    if kind not in {"null", "blank", "object"}:
        assert reader(kind)(value) is not BROKEN


class Watched(RuleBasedStateMachine):
    """A field against a model that keeps whole windows."""

    def __init__(self):
        super().__init__()
        self.watch = FieldWatch("int", sustain=2)
        self.type = "int"
        self.open: dict[str, int] = {}
        self.against: list[dict[str, int]] = []

    @rule(tally=tallies)
    def window(self, tally):
        verdict = self.watch.judge(tally)
        self.open = added(self.open, tally)
        if sum(n for w, n in self.open.items() if w not in {"null", "blank"}) < 10:
            assert verdict is None
            return
        window, self.open = self.open, {}
        values = sum(n for w, n in window.items() if w not in {"null", "blank"})
        if self.type == "str":
            agrees = model_vote(window) == "str"
        else:
            agrees = Fraction(held(self.type, window), values) >= Fraction(1, 2)
        self.against = [] if agrees else [*self.against, window]
        if len(self.against) < 2:
            assert verdict is None
            return
        found = model_vote(added(*self.against))
        self.against = []
        assert (verdict.type if verdict else self.type) == found
        assert (verdict is None) == (found == self.type)
        self.type = found

    @invariant()
    def same(self):
        assert self.watch.type == self.type
        assert self.watch.strikes == len(self.against)


def added(one, other):
    return {w: one.get(w, 0) + other.get(w, 0) for w in {**one, **other}}


TestWatched = Watched.TestCase


def leaves(record, path=()):
    for name, value in record.items():
        yield (*path, name), value
        if isinstance(value, dict):
            yield from leaves(value, (*path, name))


@given(records)
def test_a_schema_changes_values_only_and_counts_what_it_leaves(given_records):
    schema = logs.infer({"app": given_records})["app"]
    assert [field.path[:-1] for field in schema.fields if len(field.path) > 1] == [
        field.path[:-1]
        for field in schema.fields
        if len(field.path) > 1 and schema.field(field.path[:-1]).type == "object"
    ]
    changed = copy.deepcopy(given_records)
    done = schema.apply(changed)
    broken: dict[str, int] = {}
    for before, after in zip(given_records, changed, strict=True):
        assert before.keys() == after.keys()
        olds = dict(leaves(before))
        for field in schema.fields:
            old = olds.get(field.path)
            if old is None:
                continue
            new = dict(leaves(after)).get(field.path)
            kind = type(new)
            if new is None:
                assert field.type != "str"
            elif field.type in {"str", "ip", "uuid", "url"}:
                broken[field.name] = broken.get(field.name, 0) + (
                    kind is not str or reader(field.type)(new) is BROKEN
                )
            elif field.type not in {"json", "object"}:
                wrong = reader(field.type)(new) is BROKEN or type_of(new) in {"str", "json"}
                broken[field.name] = broken.get(field.name, 0) + wrong
                if wrong:
                    assert new == old
    for name, count in broken.items():
        assert done.broken.get(name, 0) >= count
    assert done.unknown == {}
    again = copy.deepcopy(changed)
    assert schema.apply(again).broken == done.broken
    assert again == changed


@given(records)
def test_saved_schemas_are_the_same(given_records):
    schema = logs.infer({"app": given_records})["app"]
    assert logs.Schema.from_data(schema.to_data()) == schema
    assert not schema.diff(schema)
