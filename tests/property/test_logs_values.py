"""Values that logs are full of, against the standard library's opinion of them."""

import ipaddress
from datetime import UTC, datetime, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st

from hastack.observe.logs import combinators as c

naive = datetime  # hypothesis adds the zones
IP = c.ip.compile()
zones = st.integers(-23 * 60, 23 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
moments = st.datetimes(naive(1, 1, 3), naive(9999, 12, 29), timezones=zones | st.just(UTC))


@given(st.ip_addresses())
def test_every_address_is_one(address):
    assert IP.try_parse(str(address)) == str(address)
    if address.version == 6:
        assert IP.try_parse(address.exploded) == address.exploded


@given(st.text("0123456789abcdef:.%", max_size=24))
def test_what_is_taken_for_an_address_is_one(text):
    if IP.try_parse(text) is not None:
        ipaddress.ip_address(text)


@given(moments, st.sampled_from(["T", " "]), st.booleans())
def test_iso_times(moment, separator, short):
    if short:
        moment = moment.replace(microsecond=0)
    assert c.iso_time().compile().parse(moment.isoformat(separator)) == moment


@given(moments)
def test_clf_times(moment):
    moment = moment.replace(microsecond=0, year=max(moment.year, 1004), day=min(moment.day, 28))
    assert c.clf_time.compile().parse(moment.strftime("%d/%b/%Y:%H:%M:%S %z")) == moment


@given(st.datetimes(naive(1971, 1, 1), naive(2280, 1, 1), timezones=st.just(UTC)))
def test_epoch_times(moment):
    micros = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    if micros >= 10**14:
        assert c.epoch_time.compile().parse(str(micros)) == moment
        assert c.epoch_time.compile().parse(f"{micros // 10**6}.{micros % 10**6:06}") == moment


@given(
    st.datetimes(naive(2000, 1, 1), naive(2100, 1, 1), timezones=st.just(UTC)),
    st.integers(0, 363),
)
def test_a_date_without_its_year_is_the_last_one(now, days):
    moment = (now - timedelta(days=days)).replace(microsecond=0)
    parser = c.syslog_time(now=lambda: now).compile()
    assert parser.parse(moment.strftime("%b %d %H:%M:%S")) == moment


@given(st.integers(0, 10**12), st.sampled_from(["B", "kB", "KiB", "M", "GB"]))
def test_sizes(number, unit):
    factor = {"B": 1, "kB": 1000, "KiB": 1024, "M": 1024**2, "GB": 1000**3}[unit]
    assert c.size.compile().parse(f"{number}{unit}") == number * factor


@given(
    st.dictionaries(st.from_regex("[a-z_]{1,8}", fullmatch=True), st.text(max_size=8), max_size=5)
)
def test_pairs(pairs):
    written = " ".join(
        '{}="{}"'.format(k, v.replace("\\", "\\\\").replace('"', '\\"')) for k, v in pairs.items()
    )
    assert (c.pairs.compile().try_parse(written) or {}) == pairs
