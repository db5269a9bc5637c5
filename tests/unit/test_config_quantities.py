"""Texts that stand for seconds, bytes and rates."""

from datetime import timedelta

import pytest

from hastack._config._quantities import (
    EnvText,
    UnfitError,
    kind_of,
    parse_bytes,
    parse_rate,
    parse_seconds,
    plain_number,
    shown,
)
from hastack.errors import InvalidArgument


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        (5, 5.0),
        (0.25, 0.25),
        (-1, -1.0),  # the range is the setting's business
        ("5s", 5.0),
        ("250ms", 0.25),
        ("10us", 1e-5),
        ("1.5min", 90.0),
        ("2m", 120.0),
        ("1h30m", 5400.0),
        (" 1 h 30 m ", 5400.0),
        ("1d", 86400.0),
        (timedelta(minutes=2), 120.0),
        (EnvText("5"), 5.0),
        (EnvText("5s"), 5.0),
    ],
)
def test_seconds(given, seconds):
    assert parse_seconds(given) == pytest.approx(seconds, rel=1e-12)


@pytest.mark.parametrize(
    "given",
    ["", "5", "s", "5 apples", "5s!", "-5s", "\u0665s", True, None, [5], float("nan"), float("inf"),
     EnvText("nan"), EnvText("x"), 10**400, "9" * 400 + "s"],
)  # fmt: skip
def test_no_seconds(given):
    with pytest.raises(UnfitError) as caught:
        parse_seconds(given)
    assert "250ms" in caught.value.accepted


@pytest.mark.parametrize(
    ("given", "size"),
    [
        (1024, 1024),
        ("16MiB", 16 * 2**20),
        ("1 GB", 10**9),
        ("512kib", 512 * 1024),
        ("1.5KB", 1500),
        ("10b", 10),
        ("2TiB", 2 * 2**40),
        (EnvText("77"), 77),
    ],
)
def test_bytes(given, size):
    assert parse_bytes(given) == size


@pytest.mark.parametrize(
    "given", ["16", "", "MiB", "1.0001KB", "-1KB", "5 apples", 1.5, True, None, EnvText("1.5")]
)
def test_no_bytes(given):
    with pytest.raises(UnfitError) as caught:
        parse_bytes(given)
    assert "16MiB" in caught.value.accepted


RATES = ["100/s", "5000 per hour", "1000/100ms", "5 per 2 minutes", "1_000/s", "2.5/min", " 1/d ", "1e3/S"]  # fmt: skip
NO_RATES = ["", "100", "/s", "0/s", "5/0s", "5/apples", "-5/s", "5 / s / s", "5pers", "1e999/s"]


@pytest.mark.parametrize("given", RATES)
def test_rates_stay_as_written(given):
    assert parse_rate(given) == given


def test_rates_as_numbers():
    assert parse_rate(100) == 100.0
    assert parse_rate(EnvText("2.5")) == 2.5
    assert type(parse_rate(EnvText("5/s"))) is str


@pytest.mark.parametrize("given", [*NO_RATES, 0, -1, True, None, float("nan"), EnvText("-1")])
def test_no_rates(given):
    with pytest.raises(UnfitError) as caught:
        parse_rate(given)
    assert "5000 per hour" in caught.value.accepted


@pytest.mark.parametrize("given", RATES + NO_RATES)
def test_the_same_rates_as_ratelimit(given):
    quota = pytest.importorskip("hastack.ratelimit._quota").Quota
    try:
        quota.parse(given)
    except InvalidArgument:
        with pytest.raises(UnfitError):
            parse_rate(given)
    else:
        parse_rate(given)


def test_numbers_are_finite_and_no_booleans():
    assert plain_number(EnvText("1e3"), "x") == 1000.0
    for wrong in (True, "5", EnvText(""), float("inf"), 10**400):
        with pytest.raises(UnfitError):
            plain_number(wrong, "x")


def test_words():
    assert kind_of({}) == "a table"
    assert kind_of(EnvText("x")) == "a string"
    assert kind_of(3j) == "complex"
    assert shown(EnvText("x")) == "'x'"
    assert len(shown("x" * 1000)) == 60
