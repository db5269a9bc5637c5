"""Spill segments: what a crash can do to a file, and what is read back then."""

from __future__ import annotations

import cramjam
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hastack.observe import _crc32c
from hastack.observe._segments import (
    SETTLED,
    STATE_OFFSET,
    Header,
    SegmentName,
    body_of,
    pack_header,
    pack_record,
    scan,
)

FAST = _crc32c.by_frames(cramjam.snappy.compress)
HEADER = Header(4, 2, {"format": "otlp-traces"})
bodies = st.lists(st.tuples(st.integers(0, 2**32 - 1), st.binary(max_size=60)), max_size=6)


def segment(records, header=HEADER):
    return pack_header(header, FAST) + b"".join(pack_record(n, body, FAST) for n, body in records)


def test_crc32c_vectors():
    # RFC 3720, B.4.
    assert _crc32c.crc32c(b"\x00" * 32) == 0x8A9136AA
    assert _crc32c.crc32c(b"\xff" * 32) == 0x62A8AB43
    assert _crc32c.crc32c(bytes(range(32))) == 0x46DD794E
    assert FAST(bytes(range(31, -1, -1))) == 0x113FDB5C
    assert FAST(b"") == _crc32c.crc32c(b"") == 0


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_checksums_go_together(first, second):
    whole = _crc32c.crc32c(first + second)
    assert _crc32c.crc32c(second, _crc32c.crc32c(first)) == whole
    assert _crc32c.append(FAST(first), FAST(second), len(second)) == whole == FAST(first + second)


@pytest.mark.parametrize("size", [65535, 65536, 65537, 200_001])
def test_the_fast_checksum_is_the_slow_one(size):
    data = bytes(n * 7 % 251 for n in range(size))
    assert FAST(data) == FAST(memoryview(data)) == _crc32c.crc32c(data)


@given(bodies)
def test_a_whole_segment_comes_back(records):
    data = segment(records)
    seen = scan(data, FAST)
    assert seen.header == HEADER
    assert [(r.units, data[r.body_at : r.body_at + r.size]) for r in seen.records] == records
    assert (seen.damaged, seen.torn) == (0, 0)
    for r in seen.records:
        assert (
            body_of(data[r.at : r.body_at + r.size], FAST) == data[r.body_at : r.body_at + r.size]
        )


@given(bodies, st.data())
def test_a_torn_tail_is_skipped_and_counted(records, data):
    whole = segment(records)
    length = data.draw(st.integers(0, len(whole)))
    seen = scan(whole[:length], FAST)
    if seen.header is None:
        assert (seen.records, seen.torn) == ((), length)
        assert length < len(segment([]))
        return
    kept = [(r.units, whole[r.body_at : r.body_at + r.size]) for r in seen.records]
    assert kept == records[: len(kept)]
    assert len(segment(kept)) + seen.torn == length
    assert seen.damaged == 0
    if len(kept) < len(records):
        assert length < len(segment(records[: len(kept) + 1]))


@given(bodies.filter(bool), st.data())
def test_a_flipped_bit_never_yields_a_wrong_body(records, data):
    whole = bytearray(segment(records))
    at = data.draw(st.integers(0, len(whole) - 1))
    whole[at] ^= 1 << data.draw(st.integers(0, 7))
    seen = scan(bytes(whole), FAST)
    rows = [(r.units, bytes(whole[r.body_at : r.body_at + r.size])) for r in seen.records]
    remaining = list(records)
    for row in rows:  # a subsequence of what was written
        assert row in remaining
        remaining = remaining[remaining.index(row) + 1 :]


def test_a_damaged_record_in_the_middle_loses_only_itself():
    whole = bytearray(segment([(1, b"one"), (2, b"two"), (3, b"three")]))
    whole[whole.index(b"two")] ^= 1
    seen = scan(bytes(whole), FAST)
    assert [r.units for r in seen.records] == [1, 3]
    assert (seen.damaged, seen.torn) == (1, 0)


def test_settled_records_are_skipped():
    whole = bytearray(segment([(1, b"one"), (2, b"two")]))
    (first, _) = scan(bytes(whole), FAST).records
    whole[first.at + STATE_OFFSET] = SETTLED
    assert [r.units for r in scan(bytes(whole), FAST).records] == [2]
    # Its checksum does not cover the state, and needs not be right any more.
    assert body_of(bytes(whole[first.at : first.body_at + first.size]), FAST) == b"one"


def test_headers_that_are_none():
    good = segment([])
    for bad in (
        b"",
        b"HSEG",
        b"XSEG" + good[4:],
        good[:4] + b"\x09" + good[5:],
        good[:-1],
        good[:-1] + bytes([good[-1] ^ 1]),
    ):
        assert scan(bad, FAST).header is None
    # Right by its checksum, but written by somebody else.
    for about in (b"[1]", b"{nope"):
        head = good[:10] + len(about).to_bytes(2, "little") + about
        assert scan(head + FAST(head).to_bytes(4, "little"), FAST).header is None


def test_records_that_are_none():
    assert body_of(b"short", FAST) is None
    good = pack_record(1, b"body", FAST)
    assert body_of(b"\x00" + good[1:], FAST) is None
    assert body_of(good + b"x", FAST) is None
    assert body_of(good[:-1] + b"Y", FAST) is None


def test_names_sort_by_lane_and_age():
    names = [SegmentName(1, 10), SegmentName(0, 11), SegmentName(0, 9)]
    assert sorted(names) == [SegmentName(0, 9), SegmentName(0, 11), SegmentName(1, 10)]
    assert sorted(map(str, names)) == [str(n) for n in sorted(names)]
    assert SegmentName.parse(str(names[0])) == names[0]
    assert SegmentName.parse("lock") is None
    assert SegmentName.parse("1-x.seg") is None
