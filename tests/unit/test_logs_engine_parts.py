"""The parts of the log engine that decide: lines, batches, archives, accounts."""

from __future__ import annotations

import bz2
import gzip
import itertools
import lzma
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from two_line_parser import TwoLineParser

from hastack.errors import InvalidArgument, MissingDependency
from hastack.observe.logs import _archive
from hastack.observe.logs._archive import Damaged, Inflater, kind_of
from hastack.observe.logs._batching import Batcher, Batching, Chunk, Work
from hastack.observe.logs._lines import LineSplitter, Utf8, lines_of
from hastack.observe.logs._run_account import Account, Ledger, Tally

# -- lines ---------------------------------------------------------------------------------------


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=8))
def test_lines_do_not_depend_on_the_pieces_they_come_in(data: bytes, cuts: list[int]) -> None:
    splitter = LineSplitter(1 << 20)
    found: list[bytes] = []
    edges = sorted({0, len(data), *(min(cut, len(data)) for cut in cuts)})
    for start, end in itertools.pairwise(edges):
        whole = splitter.feed(data[start:end])
        if whole is not None:
            found += whole.split(b"\n")
    last = splitter.finish()
    if last is not None:
        found.append(last)
    expected = data.split(b"\n")
    if expected[-1] == b"":
        expected.pop()
    assert found == expected
    assert splitter.cut_lines == 0


def test_a_line_may_come_in_many_pieces() -> None:
    splitter = LineSplitter(100)
    assert [splitter.feed(piece) for piece in (b"a", b"b", b"c\nd", b"\n")] == [
        None,
        None,
        b"abc",
        b"d",
    ]


def test_a_line_that_never_ends_is_cut_and_the_rest_counted() -> None:
    splitter = LineSplitter(4)
    assert splitter.feed(b"abcdef") == b"abcd"
    assert splitter.held == 0
    assert splitter.feed(b"ghi") is None
    assert splitter.feed(b"jk\nnext\nxy") == b"next"
    assert splitter.held == 2
    assert (splitter.cut_lines, splitter.cut_bytes) == (1, 7)
    assert splitter.feed(b"z1 and more") == b"xyz1"
    assert splitter.finish() is None
    assert splitter.feed(b"new\n") == b"new"


def test_a_cut_line_behind_whole_ones_comes_with_them() -> None:
    splitter = LineSplitter(3)
    assert splitter.feed(b"a\nb\nlonger") == b"a\nb\nlon"
    assert (splitter.cut_lines, splitter.cut_bytes) == (1, 3)


def test_text_when_it_is_utf8_and_else_bytes() -> None:
    assert lines_of("ä\nb".encode()) == ["ä", "b"]
    assert lines_of(b"\xff\nb") == [b"\xff", b"b"]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-8"])
@pytest.mark.parametrize("size", [1, 3, 100])
def test_utf16_becomes_utf8_and_all_else_passes(encoding: str, size: int) -> None:
    text = "first \u00e4\U0001f600\nsecond"
    data = text.encode(encoding)
    if encoding == "utf-16-be":
        data = b"\xfe\xff" + data
    utf8 = Utf8()
    out = b"".join(utf8.feed(data[at : at + size]) for at in range(0, len(data), size))
    assert (out + utf8.finish()).decode() == text
    assert Utf8().finish() == b""
    short = Utf8()
    assert short.feed(b"x") + short.finish() == b"x"
    torn = Utf8()
    assert (torn.feed("ab".encode("utf-16")[:-1]) + torn.finish()).decode() == "a\ufffd"


# -- batches -------------------------------------------------------------------------------------


def numbered(batcher: Batcher, chunks: list[tuple[Chunk, float]]) -> list[Work]:
    found: list[Work] = []
    for chunk, now in chunks:
        found += batcher.add(chunk, now)
    return [*found, *batcher.flush()]


def test_a_block_goes_as_it_is_and_a_large_one_in_parts() -> None:
    batcher = Batcher(Batching(lines=2))
    works = numbered(
        batcher,
        [
            (Chunk("f", b"a\nb", size=3, position="p"), 0.0),
            (Chunk("f", b"c\nd\ne", size=5, position="q"), 0.0),
        ],
    )
    assert [work.take() for work in works] == [["a", "b"], ["c", "d"], ["e"]]
    assert [work.first for work in works] == [0, 2, 4]
    assert [work.positions for work in works] == [["p"], [], ["q"]]
    assert sum(work.size for work in works) == 8
    assert works[0].data == b"a\nb"


def test_live_lines_wait_for_others_until_enough_or_too_long() -> None:
    batcher = Batcher(Batching(lines=3, linger=1.0))
    assert list(batcher.add(Chunk("s", lines=["a"], size=1, live=True, position=1), 0.0)) == []
    assert list(batcher.poll(0.5)) == []
    assert list(batcher.add(Chunk("s", b"b", size=1, live=True, position=2), 0.6)) == []
    (full,) = batcher.poll(1.0)
    assert (full.take(), full.positions) == (["a", "b"], [1, 2])
    assert list(batcher.poll(9.0)) == []
    (full,) = batcher.add(Chunk("s", lines=["a", "b", "c"], live=True), 2.0)
    assert full.count == 3
    assert full.first == 2


def test_batches_hold_lines_of_one_source_and_keep_to_their_bounds() -> None:
    batcher = Batcher(Batching(lines=10, bytes=4, linger=1.0))
    works = numbered(
        batcher,
        [
            (Chunk("a", lines=["xx"], size=2, live=True), 0.0),
            (Chunk("b", lines=["y"], size=1, live=True), 0.0),
            (Chunk("b", lines=["zzzz"], size=4, live=True), 0.0),
            (Chunk("b", lines=["end"], size=3), 0.0),
            (Chunk("b", lines=["q"], size=1, live=True), 0.0),
            (Chunk("b", lines=["r"], size=1), 0.0),
        ],
    )
    assert [(work.source, work.take()) for work in works] == [
        ("a", ["xx"]),
        ("b", ["y"]),
        ("b", ["zzzz"]),
        ("b", ["end"]),
        ("b", ["q", "r"]),
    ]


@given(
    st.lists(
        st.tuples(st.sampled_from("ab"), st.integers(1, 9), st.booleans(), st.floats(0, 1)),
        max_size=20,
    ),
    st.integers(1, 6),
)
def test_no_line_is_lost_or_moved(parts: list[tuple[str, int, bool, float]], most: int) -> None:
    batcher = Batcher(Batching(lines=most, linger=0.5))
    given: dict[str, list[Any]] = {"a": [], "b": []}
    found: dict[str, list[Any]] = {"a": [], "b": []}
    now = 0.0
    works: list[Work] = []
    for source, count, live, pause in parts:
        now += pause
        lines = [f"{len(given[source]) + n}" for n in range(count)]
        given[source] += lines
        works += batcher.add(Chunk(source, lines=list(lines), live=live), now)
        works += batcher.poll(now)
    works += batcher.flush()
    for work in works:
        assert work.count == len(work.take()) <= most
        assert work.first == len(found[work.source])
        found[work.source] += work.take()
    assert found == given


@pytest.mark.parametrize("wrong", [{"lines": 0}, {"bytes": "1"}, {"linger": -1.0}])
def test_bounds_of_batches_are_checked(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument, match=next(iter(wrong))):
        Batching(**wrong)
    assert Batching(linger=timedelta(seconds=2)).linger == 2.0


# -- archives ------------------------------------------------------------------------------------

TEXT = b"".join(b"line %d of an archive\n" % n for n in range(20_000))


def zstd(data: bytes) -> bytes:
    module = pytest.importorskip("backports.zstd")
    return module.compress(data)


PACKERS = {"gzip": gzip.compress, "bzip2": bz2.compress, "xz": lzma.compress, "zstd": zstd}


def unpacked(kind: str, data: bytes, *, piece: int = 1 << 16, fed: int = 5000) -> list[bytes]:
    inflater = Inflater(kind, piece)
    found: list[bytes] = []
    for start in range(0, len(data), fed):
        for out in inflater.feed(data[start : start + fed]):
            assert len(out) <= piece
            found.append(out)
    inflater.finish()
    return found


@pytest.mark.parametrize("kind", PACKERS)
def test_an_archive_of_several_streams_is_one(kind: str) -> None:
    packed = PACKERS[kind](TEXT) + PACKERS[kind](b"more\n")
    assert kind_of(packed[:6]) == kind
    assert b"".join(unpacked(kind, packed)) == TEXT + b"more\n"
    assert b"".join(unpacked(kind, packed, piece=999, fed=7)) == TEXT + b"more\n"


@pytest.mark.parametrize("kind", PACKERS)
def test_a_truncated_archive_gives_what_is_there(kind: str) -> None:
    packed = PACKERS[kind](TEXT)
    inflater = Inflater(kind, 1 << 16)
    found = b"".join(inflater.feed(packed[: len(packed) * 2 // 3]))
    assert TEXT.startswith(found)
    with pytest.raises(Damaged, match=f"truncated {kind}"):
        inflater.finish()


@pytest.mark.parametrize("kind", PACKERS)
def test_a_damaged_archive_gives_what_came_before(kind: str) -> None:
    whole = PACKERS[kind](b"first\n")
    inflater = Inflater(kind, 1 << 16)
    assert b"".join(inflater.feed(whole)) == b"first\n"
    with pytest.raises(Damaged, match=f"damaged {kind}"):
        list(inflater.feed(b"what is this, no archive at all?" * 4))


def test_padding_between_gzip_streams_is_none() -> None:
    packed = gzip.compress(b"a\n") + bytes(512) + gzip.compress(b"b\n") + bytes(100)
    assert b"".join(unpacked("gzip", packed)) == b"a\nb\n"


def test_an_empty_archive_is_truncated() -> None:
    with pytest.raises(Damaged, match="truncated"):
        Inflater("gzip", 10).finish()


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"BZh91A", "bzip2"),
        (b"BZh9\x17r", "bzip2"),
        (b"BZhang", None),
        (b"BZh9 w", None),
        (b"\x50\x2a\x4d\x18\x00", "zstd"),
        (b"plain ", None),
        (b"", None),
    ],
)
def test_the_first_bytes_say_what_it_is(head: bytes, kind: str | None) -> None:
    assert kind_of(head) == kind


def test_zstd_of_python_itself_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    class Module:
        ZstdDecompressor = object
        ZstdError = ValueError

    def require(module: str, *, extra: str) -> Any:
        asked.append(module)
        if len(asked) == 1:
            raise MissingDependency("compression", extra)
        return Module

    monkeypatch.setattr(_archive, "require", require)
    Inflater("zstd", 10)
    Inflater("zstd", 10)
    assert asked == ["compression.zstd", "backports.zstd", "compression.zstd"]


# -- accounts ------------------------------------------------------------------------------------


def account(ledger: Ledger, **changes: Any) -> Account:
    known: dict[str, Any] = {
        "bytes_read": 9,
        "cut_lines": 0,
        "cut_bytes": 0,
        "dropped": {},
        "damaged": {},
        "undelivered": 0,
    }
    return ledger.account(**{**known, **changes})


def test_each_line_is_a_record_or_a_reject() -> None:
    ledger = Ledger()
    assert ledger.book("f", 3, TwoLineParser().parse_lines(["a=1", "word", "??"]))
    assert ledger.book("g", 1, TwoLineParser().parse_lines(["??"]))
    found = account(ledger)
    assert found.balanced
    assert found.complete
    assert (found.lines, found.records, found.rejects, found.batches) == (4, 2, 2, 2)
    assert found.by_format == {"pair": 1, "word": 1}
    assert found.by_reason == {"no format": 2}
    assert found.by_source == {"f": 3, "g": 1}
    assert str(found) == "4 lines = 2 records + 2 rejects, 9 bytes"


def test_a_parser_that_loses_a_line_is_found_out() -> None:
    ledger = Ledger()
    assert not ledger.book("f", 2, TwoLineParser().parse_lines(["a=1"]))
    assert not account(ledger).balanced


def test_what_is_missing_is_said() -> None:
    ledger = Ledger()
    lost = account(ledger, dropped={"udp_kernel": 2}, damaged={"f": "truncated"}, cut_lines=1)
    assert not lost.complete
    assert "1 cut, 2 dropped, 1 sources damaged" in str(lost)
    assert not account(ledger, undelivered=1).complete


def test_reasons_are_bounded() -> None:
    ledger = Ledger()
    for number in range(1005):
        lot = TwoLineParser().parse_lines(["?"])
        lot.rejects = [type(lot.rejects[0])("?", 0, f"reason {number}")]
        ledger.book("f", 1, lot)
    assert len(ledger.by_reason) == 1001
    assert ledger.by_reason["other"] == 5


class Counted:
    def __init__(self, lot: Any, **counts: int) -> None:
        self.records, self.formats = lot.records, lot.formats
        self.numbers, self.rejects = lot.numbers, lot.rejects
        self.counts = type("Counts", (), counts)()


def test_what_was_cleaned_is_added_up() -> None:
    ledger = Ledger()
    for _ in range(2):
        ledger.book("f", 1, Counted(TwoLineParser().parse_lines(["a=1"]), crlf=1, ansi=0, nul=3))
    assert account(ledger).cleaned == {"crlf": 2, "nul": 6}


def test_what_a_worker_kept_back_counts() -> None:
    ledger = Ledger()
    lot: Any = TwoLineParser().parse_lines(["a=1", "??"])
    batch = Counted(lot)
    batch.records, batch.formats = [], []
    batch.tally = Tally(3, 2, {"pair": 3})  # type: ignore[attr-defined]
    assert ledger.book("f", 4, batch)
    found = account(ledger)
    assert (found.records, found.filtered, found.by_format) == (3, 2, {"pair": 3})
    assert found.balanced
