"""What OpenTelemetry names, units and Accept fields become."""

import pytest

from hastack.observe._prometheus_accept import DEFAULT, negotiate
from hastack.observe._prometheus_names import (
    STRATEGIES,
    Translation,
    escape,
    family_name,
    label_name,
    unit_words,
)

SUFFIXED, PLAIN, UTF8_SUFFIXED, UNTOUCHED = [Translation.named(name) for name in STRATEGIES]


@pytest.mark.parametrize(
    ("unit", "words"),
    [
        ("", ""),
        ("s", "seconds"),
        ("By", "bytes"),
        ("TiBy", "tebibytes"),
        ("kBy", "kilobytes"),
        ("By/s", "bytes_per_second"),
        ("m/s", "meters_per_second"),
        ("{packet}", ""),
        ("{packet}/s", "per_second"),
        ("By{transmitted}", "bytes"),
        ("1", ""),
        ("1/s", "per_second"),
        ("1/{x}", ""),
        ("foo", "foo"),
        ("foo/bar", "foo_per_bar"),
        ("foo bar-baz", "foo_bar_baz"),
        ("%", "percent"),
        ("°", ""),
        (" s / min ", "seconds_per_min"),
        ("s/", "seconds"),
    ],
)
def test_units(unit, words):
    assert unit_words(unit) == words


@pytest.mark.parametrize(
    ("name", "unit", "translation", "kind", "expected"),
    [
        ("http.server.duration", "s", SUFFIXED, "", "http_server_duration_seconds"),
        ("http.server.duration", "s", PLAIN, "", "http_server_duration"),
        ("http.server.duration", "s", UTF8_SUFFIXED, "", "http.server.duration_seconds"),
        ("http.server.duration", "s", UNTOUCHED, "", "http.server.duration"),
        ("duration.seconds", "s", SUFFIXED, "", "duration_seconds"),
        ("seconds_used", "s", SUFFIXED, "", "seconds_used"),
        ("milliseconds", "s", SUFFIXED, "", "milliseconds_seconds"),
        ("a..b__c--d", "", SUFFIXED, "", "a_b_c_d"),
        ("1abc", "", SUFFIXED, "", "_1abc"),
        ("foo_", "s", SUFFIXED, "", "foo_seconds"),
        ("a:b", "", SUFFIXED, "", "a:b"),
        ("é", "s", SUFFIXED, "", "__seconds"),
        ("é", "", SUFFIXED, "", "_"),
        ("requests", "", SUFFIXED, "counter", "requests"),
        ("requests_total", "s", SUFFIXED, "counter", "requests_seconds"),
        ("requests.total", "", UTF8_SUFFIXED, "counter", "requests"),
        ("_total", "", SUFFIXED, "counter", "_total"),
        ("ratio", "1", SUFFIXED, "gauge", "ratio"),
        ("load", "1", SUFFIXED, "gauge", "load_ratio"),
        ("load", "1", SUFFIXED, "counter", "load"),
        ("load", "1", PLAIN, "gauge", "load"),
    ],
)
def test_metric_names(name, unit, translation, kind, expected):
    found = family_name(name, unit, translation, counter=kind == "counter", gauge=kind == "gauge")
    assert found.name == expected


def test_the_unit_is_one_that_ends_the_name():
    assert family_name("a", "s", SUFFIXED).unit == "seconds"
    assert family_name("a.seconds", "s", SUFFIXED).unit == "seconds"
    assert family_name("seconds.a", "s", SUFFIXED).unit == ""
    assert family_name("a", "{x}", SUFFIXED).unit == ""
    assert family_name("a", "s", UNTOUCHED).unit == ""


@pytest.mark.parametrize(
    ("key", "translation", "expected"),
    [
        ("http.method", SUFFIXED, "http_method"),
        ("http.method", UNTOUCHED, "http.method"),
        ("a:b", SUFFIXED, "a_b"),
        ("1a", SUFFIXED, "_1a"),
        ("", SUFFIXED, "_"),
        ("", UNTOUCHED, "_"),
        ("__name__", SUFFIXED, "_name_"),
        ("__name__", UNTOUCHED, "_name_"),
        ("_a", UNTOUCHED, "_a"),
    ],
)
def test_label_names(key, translation, expected):
    assert label_name(key, translation.underscores, "allow-utf-8") == expected


@pytest.mark.parametrize(
    ("name", "escaping", "expected"),
    [
        ("http.a_b:c é1", "allow-utf-8", "http.a_b:c é1"),
        ("http.a_b:c é1", "underscores", "http_a_b:c__1"),
        ("http.a_b:c é1", "dots", "http_dot_a__b:c____1"),
        ("http.a_b:c é1", "values", "U__http_2e_a__b:c_20__e9_1"),
        ("a_b", "underscores", "a_b"),
        ("a_b", "dots", "a__b"),
        ("a_b", "values", "a_b"),
        ("1a", "underscores", "_a"),
        ("", "underscores", "_"),
    ],
)
def test_escaping(name, escaping, expected):
    assert escape(name, escaping) == expected


def test_a_label_does_not_become_one_of_prometheus():
    assert label_name("éé", False, "underscores") == "_"
    assert label_name("é.a", False, "underscores") == "_a"
    assert label_name("é", False, "underscores") == "_"
    assert label_name("é.a", False, "values") == "U___e9__2e_a"


def test_a_colon_is_none_in_a_label():
    assert escape("a:b", "underscores", label=True) == "a_b"
    assert escape("a:b", "values", label=True) == "U__a_3a_b"
    assert escape("a:b", "dots", label=True) == "a__b"


OLD = (  # Prometheus 2.42
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
NEW = (  # Prometheus 3
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,"
    "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)
PROTOBUF = (
    "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"
)


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("", "text/plain; version=0.0.4; charset=utf-8"),
        ("*/*", "text/plain; version=0.0.4; charset=utf-8"),
        ("text/html, text/*;q=0.1", "text/plain; version=0.0.4; charset=utf-8"),
        (OLD, "application/openmetrics-text; version=1.0.0; charset=utf-8"),
        (
            NEW,
            "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=allow-utf-8",
        ),
        (f"{PROTOBUF};q=0.9,{OLD}", "application/openmetrics-text; version=1.0.0; charset=utf-8"),
        (
            'text/plain;version="1.0.0";escaping=dots',
            "text/plain; version=1.0.0; charset=utf-8; escaping=dots",
        ),
        ("text/plain;version=1.0.0;escaping=no", "text/plain; version=1.0.0; charset=utf-8"),
        (
            "text/plain;version=0.0.4;escaping=dots",
            "text/plain; version=0.0.4; charset=utf-8",
        ),
        ("application/openmetrics-text;q=x", DEFAULT.content_type),
        ("application/openmetrics-text;q=7", DEFAULT.content_type),
        ("application/openmetrics-text;q=0", DEFAULT.content_type),
        ("application/openmetrics-text;version=9", DEFAULT.content_type),
        (",;q,=", DEFAULT.content_type),
    ],
)
def test_what_a_scraper_gets(accept, content_type):
    assert negotiate(accept).content_type == content_type


def test_the_escaping_is_underscores_unless_asked_for():
    assert negotiate(OLD).escaping == "underscores"
    assert negotiate(NEW).escaping == "allow-utf-8"
