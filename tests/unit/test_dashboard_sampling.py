"""Rates, histories and who may come in: everything that decides without a clock."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hastack.contrib._dashboard._access import bearer, foreign, host_name, known_host, same_token
from hastack.contrib._dashboard._document import Snapshot
from hastack.contrib._dashboard._sampling import Rate, Sampler, Track


def test_a_rate_is_the_mean_of_its_window_and_forgets_what_is_older():
    rate = Rate(3.0)
    assert rate.value is None
    assert rate.latest is None
    assert rate.look(0.0, 1000) is None
    assert [rate.look(float(n), 1000 + 10 * n) for n in (1, 2, 3)] == [10.0, 10.0, 10.0]
    for n in (4, 5, 6, 7):
        rate.look(float(n), 1030)
    assert rate.value == 0.0
    rate.look(8.0, 1330)
    assert rate.latest == 300.0
    assert rate.value == 100.0


def test_a_total_that_begins_anew_is_growth_and_not_a_fall():
    rate = Rate(10.0)
    rate.look(0.0, 50)
    rate.look(1.0, 60)
    assert rate.look(2.0, 8) == 9.0
    assert rate.grown == 18.0


def test_a_clock_that_stands_adds_no_time_and_loses_no_growth():
    rate = Rate(10.0)
    rate.look(5.0, 0)
    assert rate.look(5.0, 40) is None
    assert rate.look(4.0, 50) is None
    assert rate.look(7.0, 60) == 30.0


readings = st.lists(
    st.tuples(
        st.floats(-1e6, 1e6, allow_nan=False, width=32),
        st.integers(0, 10**12),
    ),
    max_size=60,
)


@given(readings, st.floats(0.1, 100.0), st.integers(1, 20))
def test_no_readings_make_a_rate_negative_or_infinite(seen, window, most):
    rate = Rate(window, most)
    for now, total in seen:
        found = rate.look(now, total)
        assert found is None or (math.isfinite(found) and found >= 0.0)
        assert rate.latest is None or rate.latest >= 0.0
        assert len(rate._seen) <= max(most, 2)
    grown = sum(b - a if b >= a else b for (_, a), (_, b) in pairwise(seen))
    assert rate.grown == pytest.approx(grown)


@given(st.lists(st.none() | st.floats(allow_nan=False), max_size=50), st.integers(1, 10))
def test_a_track_keeps_the_last_ones_in_order(values, most):
    track = Track(most)
    for value in values:
        track.put(value)
    assert track.values == values[-most:]


def look(sampler, now, totals, *, born=False):
    sampler.begin(now)
    rates = {key: sampler.rate(key, total, born=born) for key, total in totals.items()}
    for key, rate in rates.items():
        sampler.track(key, rate)
    sampler.end()
    return rates


def test_what_no_longer_reports_is_forgotten():
    sampler = Sampler(window=5.0, most=4)
    look(sampler, 0.0, {"a": 0, "b": 0})
    look(sampler, 1.0, {"a": 5, "b": 7})
    assert len(sampler) == 4
    assert look(sampler, 2.0, {"a": 10}) == {"a": 5.0}
    assert len(sampler) == 2
    assert sampler.history("b") == []
    assert sampler.latest("b") is None
    assert sampler.latest("a") == 5.0
    assert look(sampler, 3.0, {"a": 10, "b": 100})["b"] is None
    assert sampler.history("a") == [None, 5.0, 5.0, pytest.approx(10 / 3)]


def test_a_total_that_was_born_between_two_looks_was_zero_at_the_first():
    sampler = Sampler(window=5.0, most=4)
    assert look(sampler, 0.0, {"early": 3}, born=True) == {"early": None}
    assert look(sampler, 2.0, {"early": 3, "late": 10}, born=True)["late"] == 5.0


@given(st.lists(st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 100)), max_size=30))
def test_a_sampler_holds_what_reported_last_and_no_more(looks):
    sampler = Sampler(window=3.0, most=5)
    for now, totals in enumerate(looks):
        look(sampler, float(now), totals, born=True)
        assert len(sampler) == 2 * len(totals)
        assert all(len(sampler.history(key)) <= 5 for key in totals)


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("localhost", "localhost"),
        ("LocalHost:8000", "localhost"),
        ("127.0.0.1:1", "127.0.0.1"),
        ("[::1]", "::1"),
        ("[::1]:8080", "::1"),
        ("example.org.", "example.org"),
        ("", ""),
        ("[::1", ""),
        ("[::1]x", ""),
        ("[::1]:x", ""),
        ("localhost:", "localhost"),
        ("localhost:8o", ""),
        ("user@localhost", ""),
        ("localhost/x", ""),
        ("::1", ""),
    ],
)
def test_the_name_in_a_host_header(header, name):
    assert host_name(header) == name


def test_only_known_hosts_are_answered():
    assert known_host("localhost:80", {"localhost"})
    assert not known_host("localhost.evil.example", {"localhost"})
    assert not known_host("evil.example", {"localhost"})
    assert not known_host("", {"localhost", ""})
    assert known_host("anything at all", None)


@given(st.text(max_size=40))
def test_no_header_passes_for_a_host_that_it_does_not_name(header):
    if known_host(header, {"localhost"}):
        assert header.strip().lower().partition(":")[0].removesuffix(".") == "localhost"


PAGE = {"host": "localhost:80", "content-type": "application/json; charset=utf-8"}


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        (PAGE, ""),
        (PAGE | {"origin": "http://localhost:80", "sec-fetch-site": "same-origin"}, ""),
        (PAGE | {"sec-fetch-site": "none"}, ""),
        (PAGE | {"content-type": "text/plain"}, "application/json"),
        ({"host": "localhost"}, "application/json"),
        (PAGE | {"sec-fetch-site": "cross-site"}, "another site"),
        (PAGE | {"sec-fetch-site": "same-site"}, "another site"),
        (PAGE | {"origin": "http://localhost:81"}, "another origin"),
        (PAGE | {"origin": "null"}, "another origin"),
    ],
)
def test_an_action_comes_from_the_page_itself_or_from_a_program(fields, why):
    found = foreign(fields)
    assert (found == "") is (why == "")
    assert why in found


def test_tokens():
    assert bearer({"authorization": "Bearer  abc "}) == "abc"
    assert bearer({"authorization": "bearer abc"}) == "abc"
    assert bearer({"authorization": "Basic abc"}) == ""
    assert bearer({}) == ""
    assert same_token("abc", "abc")
    assert not same_token("abd", "abc")
    assert not same_token("", "")
    assert not same_token("ä", "abc")


def test_an_empty_document_is_plain():
    assert Snapshot().as_json()["version"] == 1
