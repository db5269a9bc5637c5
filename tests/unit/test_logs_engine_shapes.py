"""Follow plans, syslog frames, objects and columns: what is decided without a clock or a socket."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from two_line_parser import PAIR, Kind, TwoLineParser

from hastack.errors import InvalidArgument
from hastack.observe.logs import Folder
from hastack.observe.logs._batching import Chunk
from hastack.observe.logs._columns import REST, columns, types_of, word_of
from hastack.observe.logs._folded import Folded, redacted
from hastack.observe.logs._follow_plan import (
    Found,
    Identity,
    Step,
    chosen,
    is_rotated_name,
    missed,
    next_step,
)
from hastack.observe.logs._objects import ObjectMaker, attribute_names, class_of
from hastack.observe.logs._syslog_frames import Framer, FramingError

# -- plans of a follower -------------------------------------------------------------------------

A, B = Identity(1, 10), Identity(1, 11)


def found(identity: Identity, size: int = 0, *, name: str = "x", changed: int = 0) -> Found:
    return Found(name, identity, size, changed)


@pytest.mark.parametrize(
    ("current", "offset", "size", "path", "known", "step"),
    [
        (None, 0, 0, None, True, Step.WAIT),
        (None, 0, 0, found(A), True, Step.OPEN),
        (A, 5, 5, found(A), True, Step.WAIT),
        (A, 5, 9, found(A), True, Step.READ),
        (A, 5, 9, found(B), True, Step.READ),  # what is left of it comes first
        (A, 5, 5, found(B), True, Step.REPLACED),
        (A, 5, 5, None, True, Step.VANISHED),
        (A, 5, 3, found(A), True, Step.TRUNCATED),
        (A, 5, 9, found(A), False, Step.TRUNCATED),
    ],
)
def test_the_next_step(
    current: Identity | None, offset: int, size: int, path: Found | None, known: bool, step: Step
) -> None:
    assert next_step(current, offset, size, path, known=known) is step


@pytest.mark.parametrize(
    ("name", "base", "rotated"),
    [
        ("app.log.1", "app.log", True),
        ("app.log-20261009", "app.log", True),
        ("app.log.2026-10-09T10:00Z", "app.log", True),
        ("app.log.old", "app.log", True),
        ("app-2026.log", "app.log", True),
        ("app.log", "app.log", False),
        ("app.log.1.gz", "app.log", False),
        ("app.log.err", "app.log", False),
        ("application.log", "app.log", False),
        ("messages.1", "messages", True),
        ("messages-x", "messages", False),
        (".hidden.1", ".hidden", True),
    ],
)
def test_names_that_rotations_give(name: str, base: str, rotated: bool) -> None:
    assert is_rotated_name(name, base) is rotated


def test_files_that_were_missed_are_new_changed_and_in_order() -> None:
    siblings = [
        found(Identity(1, 1), changed=50),
        found(Identity(1, 2), changed=40),
        found(Identity(1, 3), changed=10),  # older than what was read
        found(A, changed=60),  # open
        found(B, changed=45),  # lay there before, and is the same
        found(Identity(1, 5), changed=70),  # a number that was another file's
    ]
    known = [found(B, changed=45), found(Identity(1, 5), changed=5)]
    assert [each.changed for each in missed(siblings, after=10, opened=[A], known=known)] == [
        40,
        50,
        70,
    ]


def test_a_position_is_in_the_same_file_or_in_a_copy() -> None:
    same = found(A, 100, name="log.1", changed=1)
    copy = found(B, 100, name="log.2", changed=9)
    assert chosen([same, copy], A, 50, ["log.1", "log.2"]) is same
    assert chosen([same, copy], A, 50, ["log.2"]) is copy
    assert chosen([same, copy], A, 500, ["log.1", "log.2"]) is None


# -- syslog frames -------------------------------------------------------------------------------

MESSAGES = st.lists(
    st.tuples(st.booleans(), st.text(alphabet="ab1 <>", max_size=30).map("<1>".__add__)),
    max_size=12,
)


@given(MESSAGES, st.integers(1, 9))
def test_both_framings_mix_and_any_pieces_do(messages: list[tuple[bool, str]], size: int) -> None:
    stream = b"".join(
        f"{len(text)} {text}".encode() if counted else f"{text}\n".encode()
        for counted, text in messages
    )
    framer = Framer(1000)
    cut: list[bytes] = []
    for start in range(0, len(stream), size):
        cut += framer.feed(stream[start : start + size])
    assert cut == [text.encode() for _, text in messages]
    assert not framer.inside
    assert framer.finish() is None


def test_a_counted_message_may_hold_line_feeds() -> None:
    assert Framer(100).feed(b"7 <1>a\nbc<2>x\n") == [b"<1>a\nbc", b"<2>x"]


def test_what_only_begins_like_a_count_is_a_line() -> None:
    framer = Framer(100)
    assert framer.feed(b"2026") == []
    assert framer.feed(b"-10-10 up\n") == [b"2026-10-10 up"]
    assert framer.feed(b"1234567890 is no count\n") == [b"1234567890 is no count"]
    assert framer.feed(b"\n\n\0<1>a\0") == [b"<1>a"]


def test_long_messages_are_cut_and_the_rest_skipped() -> None:
    framer = Framer(4)
    assert framer.feed(b"10 abcd") == [b"abcd"]
    assert framer.inside
    assert framer.counting
    assert framer.feed(b"ef") == []
    assert framer.feed(b"ghij<1>\n") == [b"<1>"]
    assert (framer.cut_lines, framer.cut_bytes) == (1, 6)
    assert framer.feed(b"abcdefg\nxy\n") == [b"abcd", b"xy"]
    assert (framer.cut_lines, framer.cut_bytes) == (2, 9)
    assert framer.feed(b"abcdefg") == [b"abcd"]
    assert framer.feed(b"hij") == []
    assert framer.feed(b"k\nz\n") == [b"z"]
    assert (framer.cut_lines, framer.cut_bytes) == (3, 16)
    assert framer.feed(b"9 a") == []
    assert framer.held == 3


def test_the_beginning_of_a_message_is_what_is_left_of_it() -> None:
    framer = Framer(100)
    framer.feed(b"50 <1>the begin")
    assert framer.counting
    assert framer.finish() == b"<1>the begin"
    framer.feed(b"<1>no end")
    assert not framer.counting
    assert framer.finish() == b"<1>no end"
    framer.feed(b"5 ")
    assert framer.finish() is None


def test_who_insists_on_counts_refuses_lines() -> None:
    framer = Framer(100, counted=True)
    assert framer.feed(b"3 abc\n2 de") == [b"abc", b"de"]
    assert framer.feed(b"3 abcxyz") == [b"abc"]
    with pytest.raises(FramingError):
        framer.feed(b"\n")
    with pytest.raises(FramingError):
        Framer(100, counted=True).feed(b"<1>a line\n")


def test_who_insists_on_lines_takes_counts_for_text() -> None:
    framer = Framer(100, counted=False)
    assert framer.feed(b"3 abc\n2") == [b"3 abc"]
    assert not framer.counting
    assert framer.finish() == b"2"


# -- objects -------------------------------------------------------------------------------------


def test_names_of_attributes_are_valid_and_differ() -> None:
    names = attribute_names(["a.b", "a-b", "class", "1st", "", "@t", "a_b"])
    assert names["a.b"] == "a_b"
    assert names["class"] == "class_"
    assert names["1st"] == "field_1st"
    assert len(set(names.values())) == 7
    assert all(name.isidentifier() for name in names.values())


def test_a_class_is_made_for_each_format_and_grows_with_its_fields() -> None:
    maker = ObjectMaker()
    one = maker.make(PAIR, {"key": "a", "value": 1})
    assert (type(one).__name__, one.key, one.value) == ("Pair", "a", 1)
    assert type(maker.make(PAIR, {"key": "b"})) is type(one)
    wider = maker.make(PAIR, {"key": "b", "http.status": 200})
    assert (wider.key, wider.value, wider.http_status) == ("b", None, 200)
    assert class_of("9.x-y", []).__name__ == "Format9XY"
    assert class_of("", []).__name__ == "Record"
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        one.key = "c"


@attrs.frozen
class Call:
    key: str
    http_status: int = 0
    _hidden: int = 1
    made: int = attrs.field(init=False, default=3)


def test_a_given_class_takes_the_fields_that_it_has() -> None:
    maker = ObjectMaker({"pair": Call, "word": dict})
    assert maker.make(PAIR, {"key": "a", "value": 1, "http.status": 404}) == Call("a", 404)
    assert maker.make(PAIR, {"key": "a", "_hidden": 5}) == Call("a", hidden=5)
    assert maker.make(Kind("word"), {"text": "x", "a.b": 2}) == {"text": "x", "a_b": 2}
    with pytest.raises(InvalidArgument, match="a class for pair"):
        ObjectMaker({"pair": 3})  # type: ignore[dict-item]


def test_classes_of_many_formats_are_bounded() -> None:
    maker = ObjectMaker()
    for number in range(300):
        maker.make(Kind(f"kind{number}"), {"a": 1})
    assert len(maker._made) <= 256


# -- columns -------------------------------------------------------------------------------------


def test_types_are_known_or_seen() -> None:
    records: list[dict[str, Any]] = [
        {"a": 1, "b": 1, "c": "x", "d": None, "e": True, "f": [1]},
        {"a": 2.5, "b": 7, "c": 1, "e": False, "g": datetime(2026, 1, 1, tzinfo=UTC)},
    ]
    assert types_of(records, {"b": "size"}) == {
        "b": "size",
        "a": "float",
        "c": "str",
        "e": "bool",
        "f": "json",
        "g": "timestamp",
    }
    assert word_of(2.5) == "float"


def test_what_fits_no_column_is_kept_beside() -> None:
    moment = datetime(2026, 1, 1)  # noqa: DTZ001
    records: list[dict[str, Any]] = [
        {"n": 1, "x": 0.5, "t": moment, "ok": True, "s": "a", "j": {"k": 1}},
        {"n": 2**70, "x": "no", "t": "no", "ok": 1, "s": "\ud800", "new": 5, "none": None},
        {"x": 3, "s": 7},
        {"x": 2**60},
    ]
    types = {"n": "int", "x": "float", "t": "timestamp", "ok": "bool", "s": "str", "j": "json"}
    made, moved = columns(records, types)
    assert made["n"] == [1, None, None, None]
    assert made["x"] == [0.5, None, 3.0, None]
    assert made["t"] == [moment.replace(tzinfo=UTC), None, None, None]
    assert made["ok"] == [True, None, None, None]
    assert made["s"] == ["a", "?", "7", None]
    assert made["j"] == ['{"k": 1}', None, None, None]
    assert made[REST][0] is None
    assert made[REST][1] is not None
    assert "new" in str(made[REST][1])
    assert moved == 6
    aware = datetime(2026, 1, 1, tzinfo=UTC)
    assert columns([{"t": aware}], {"t": "timestamp"})[0]["t"] == [aware]


# -- folding -------------------------------------------------------------------------------------


def test_positions_go_with_the_chunk_that_brings_out_all_before_them() -> None:
    folded = Folded(Folder())
    assert list(folded.add(Chunk("f", b"a", position=1), 0.0)) == []
    (one,) = folded.add(Chunk("f", lines=["  more of a", "b"], position=2, size=9), 0.5)
    assert (one.lines, one.position, one.size) == (["a\n  more of a"], 1, 9)
    assert list(folded.poll(1.4)) == []
    (two,) = folded.poll(1.5)
    assert (two.lines, two.position) == (["b"], 2)
    assert list(folded.poll(9.0)) == []
    assert folded.folded == 1
    assert list(folded.flush()) == []


def test_another_source_ends_what_is_held() -> None:
    folded = Folded(Folder())
    list(folded.add(Chunk("f", lines=["a"]), 0.0))
    (one,) = folded.add(Chunk("g", lines=["  indented"]), 0.0)
    assert (one.source, one.lines, one.position) == ("f", ["a"], None)
    (two,) = folded.flush()
    assert (two.source, two.lines) == ("g", ["  indented"])


def test_rejects_are_redacted_where_the_redaction_knows_lines() -> None:
    class Hides:
        def apply(self, batch: Any) -> None:
            raise AssertionError

        def lines(self, lines: list[str]) -> list[str]:
            return [line.replace("secret", "***") for line in lines]

    rejects = TwoLineParser().parse_lines(["?secret", b"?\xffsecret"]).rejects
    assert [(r.line, r.number, r.reason) for r in redacted(Hides(), rejects)] == [
        ("?***", 0, "no format"),
        ("?\ufffd***", 1, "no format"),
    ]
    assert redacted(object(), rejects) is rejects  # type: ignore[arg-type]
