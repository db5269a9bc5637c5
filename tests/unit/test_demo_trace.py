"""Arrival times out of real access logs."""

import gzip

import pytest

from hastack.cli.demo._trace import parse, read, stamp
from hastack.errors import InvalidArgument

COMMON = '127.0.0.1 - frank [10/Oct/2000:13:55:36 -0700] "GET /apache_pb.gif HTTP/1.0" 200 2326'
COMBINED = (
    '203.0.113.9 - - [10/Oct/2000:22:55:37 +0200] "GET /a HTTP/1.1" 200 12 '
    '"https://example.org/2001-01-01" "curl/8.0"'
)
ISO = '{"time": "2000-10-10T20:55:36+00:00", "status": 200}'
ISO_FINE = '2000-10-10T20:55:36,250Z 200 "GET /"'
ISO_BARE = "2000-10-10 20:55:36 GET /"
EPOCH = "971211336.123 GET /"
EPOCH_NOW = "1791633336.123 200 GET /"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (COMMON, (971211336.0, False)),
        (COMBINED, (971211337.0, False)),
        (COMMON.replace(":36 ", ":36.500 "), (971211336.5, True)),
        (ISO, (971211336.0, False)),
        (ISO_FINE, (971211336.25, True)),
        (ISO_BARE, (971211336.0, False)),
        (EPOCH_NOW, (1791633336.123, True)),
        (EPOCH, None),  # nine digits before the point: not a time since the epoch of our days
        ("GET / 200", None),
        ("[10/Foo/2000:13:55:36 -0700]", None),
        ("2000-13-45T20:55:36Z", None),
        ("", None),
    ],
)
def test_formats(line, expected):
    found = stamp(line)
    if expected is None:
        assert found is None
    else:
        assert found == pytest.approx(expected)


def test_a_log_is_parsed_in_its_order_and_bad_lines_are_counted():
    found = parse([COMMON, "garbage", COMBINED])
    assert list(found.stamps) == [971211336.0, 971211337.0]
    assert (found.resolution, found.skipped, found.cut) == (1.0, 1, False)
    assert found.description == "2 requests over 2 s, 1 lines without a time skipped"


def test_fractions_make_a_fine_resolution_only_when_all_have_them():
    assert parse([ISO_FINE]).resolution == 0.001
    assert parse([ISO_FINE, ISO]).resolution == 1.0


def test_reading_stops_at_the_bound():
    found = parse([COMMON] * 5, most=3)
    assert len(found.stamps) == 3
    assert found.cut
    assert found.description.startswith("the first 3 requests")
    assert not parse([COMMON] * 3, most=3).cut


def test_a_file_without_times_is_refused():
    with pytest.raises(InvalidArgument, match=r"trace='2 lines'.*access log"):
        parse(["a", "b"])


def test_files_plain_and_packed(tmp_path):
    plain = tmp_path / "access.log"
    plain.write_bytes(COMMON.encode() + b"\n\xff\xfe broken bytes\n" + COMBINED.encode() + b"\n")
    packed = tmp_path / "access.log.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert list(read(plain).stamps) == list(read(packed).stamps) == [971211336.0, 971211337.0]
