"""Python values from C types and back."""

from __future__ import annotations

from struct import pack

import pytest
from elf_images import Types
from hypothesis import given
from hypothesis import strategies as st

from hastack.ebpf import _btf, _codec
from hastack.errors import InvalidArgument, MalformedObject


def codec(t: Types, number: int) -> _codec.Codec:
    order = "big" if t.big else "little"
    return _codec.codec_of(_btf.parse(memoryview(t.build()), order), number, order)


def char(t: Types) -> int:
    return t.int("char", 1, 1)


def octet(t: Types) -> int:
    return t.int("unsigned char", 1, 0)


@pytest.mark.parametrize("big", [False, True])
def test_numbers(big):
    t = Types(big=big)
    plain = t.int("unsigned int", 4, 0)
    cases = [
        (t.int("int", 4, 1), -5, "i"),
        (plain, 5, "I"),
        (t.int("long long", 8, 1), -(1 << 40), "q"),
        (t.int("_Bool", 1, 4), True, "?"),
        (t.add("float", "float", 4), 0.5, "f"),
        (t.add("float", "double", 8), 0.1, "d"),
        (t.add("ptr", "", plain), 1 << 47, "Q"),
    ]
    wide = t.int("__int128", 16, 1, 128)
    for number, value, form in cases:
        each = codec(t, number)
        raw = pack((">" if big else "<") + form, value)
        assert each.encode(value) == raw
        assert each.decode(b"x" + raw, 1) == value
        assert each.encode(raw) == raw
        assert each.row_format == form
    each = codec(t, wide)
    assert each.decode(each.encode(-7)) == -7
    for bad in (1 << 127, "x", None):
        with pytest.raises(InvalidArgument, match=r"value=.*__int128"):
            each.encode(bad)
    for bad in (-1, 1 << 32, "x", None, 0.5):
        with pytest.raises(InvalidArgument, match=r"value=.*unsigned int"):
            codec(t, plain).encode(bad)


def test_enums_are_enums():
    t = Types()
    number = t.add("enum", "color", 4, t.name("RED"), 1, t.name("mro"), 2, count=2)
    large = t.add("enum64", "", 8, t.name("__X"), 0, 1, count=1)
    empty = t.add("enum", "none", 4)
    odd = t.add("enum", "odd", 3, t.name("A"), 1, count=1)
    color = codec(t, number)
    red = color.decode(color.encode("RED"))
    assert (red, red.name, type(red).__name__) == (1, "RED", "color")
    assert color.decode(color.encode(2)).name == "mro_"
    assert color.decode(color.encode(77)) == 77
    with pytest.raises(InvalidArgument, match="one of RED, mro"):
        color.encode("BLUE")
    each = codec(t, large)
    assert each.decode(each.encode("__X")).name == "f__X"
    assert codec(t, empty).decode(bytes(4)) == 0
    assert codec(t, odd).decode(b"abc") == b"abc"


def test_text_bytes_and_arrays():
    t = Types()
    text = codec(t, t.array(char(t), 4))
    assert text.decode(b"ab\0x") == "ab"
    assert text.decode(b"\xff\xfeab") == "\udcff\udcfeab"
    assert text.encode("\udcff") == b"\xff\0\0\0"
    assert text.encode(b"abc") == b"abc\0"
    for bad in ("abcde", 5, b"abcde"):
        with pytest.raises(InvalidArgument, match="at most 4 bytes"):
            text.encode(bad)
    octets = codec(t, t.array(octet(t), 4))
    assert octets.decode(b"\0\1\2\3") == b"\0\1\2\3"
    with pytest.raises(InvalidArgument, match="4 bytes"):
        octets.encode("abcd")
    signed = codec(t, t.array(t.int("signed char", 1, 1), 2))
    assert signed.decode(b"\xff\1") == (-1, 1)
    flags = codec(t, t.array(t.int("_Bool", 1, 4), 2))
    assert flags.decode(b"\0\1") == (False, True)
    matrix = codec(t, t.array(t.array(t.int(), 2), 2))
    assert matrix.decode(matrix.encode([[1, 2], (3, 4)])) == ((1, 2), (3, 4))
    for bad in ([1], "ab", 5):
        with pytest.raises(InvalidArgument, match="a sequence of 2"):
            matrix.encode(bad)
    with pytest.raises(InvalidArgument, match=r"v\[1\]\[0\]"):
        matrix.encode([[1, 2], ["x", 4]], name="v")
    nothing = t.compound("struct", "nothing", 0)
    assert codec(t, t.array(nothing, 1 << 31)).decode(b"") == b""
    assert codec(t, t.array(t.int(), 0)).decode(b"") == b""
    variable = t.add("var", "v", t.int(), 1)
    assert codec(t, variable).encode(1) == b"\1\0\0\0"
    assert codec(t, 0).encode(b"") == b""


@pytest.mark.parametrize("big", [False, True])
def test_structs(big):
    t = Types(big=big)
    number = t.int("unsigned int", 4, 0)
    color = t.add("enum", "color", 4, t.name("RED"), 1, count=1)
    inner = t.compound("struct", "inner", 4, ("x", number, 0))
    outer = t.compound(
        "struct",
        "outer",
        40,
        ("a", number, 0),
        ("comm", t.array(char(t), 4), 64),
        ("mac", t.array(octet(t), 3), 96),
        ("class", inner, 128),
        ("color", color, 160),
        ("list", t.array(number, 2), 192),
        ("", inner, 256),
    )
    each = codec(t, outer)
    assert each.fields == ("a", "comm", "mac", "class_", "color", "list", "anonymous_32")
    assert each.row_format is None
    value = each.decode(
        each.encode({"a": 1, "comm": "hi", "mac": b"abc", "class_": [7], "color": "RED"})
    )
    assert (value.a, value.comm, value.mac, value.class_.x) == (1, "hi", b"abc", 7)
    assert value.color.name == "RED"
    assert each.decode(each.encode(value)) == value
    assert "struct outer, 40 bytes" in repr(each)
    for bad, match in (
        ({"a": -1}, r"value\.a=-1"),
        ({"nope": 1}, r"value\.nope=1: expected one of a, comm"),
        ([1], "7 values"),
        (5, "a mapping or a sequence"),
        (b"12", "a mapping or a sequence"),
        ({"class_": {"x": "y"}}, r"value\.class_\.x='y'"),
    ):
        with pytest.raises(InvalidArgument, match=match):
            each.encode(bad)


def test_flat_structs_can_be_read_as_rows():
    from struct import Struct

    t = Types()
    number = t.int("unsigned int", 4, 0)
    color = t.add("enum", "color", 4, t.name("RED"), 1, count=1)
    flat = codec(
        t,
        t.compound(
            "struct",
            "flat",
            24,
            ("a", number, 0),
            ("b", t.int("long", 8, 1), 64),
            ("comm", t.array(char(t), 2), 128),
            ("c", color, 160),
        ),
    )
    raw = flat.encode((1, -2, "x", 1))
    row = Struct("=" + flat.row_format).unpack(raw)
    assert row == (1, -2, b"x\0", 1)
    value = flat.from_row(row)
    assert value == flat.decode(raw)
    assert (value.comm, value.c.name) == ("x", "RED")
    only = codec(t, t.compound("struct", "only", 4, ("a", number, 0)))
    assert only.decode(only.encode([3])) == (3,)


def test_unions_show_every_member():
    t = Types()
    number = t.int("unsigned int", 4, 0)
    short = t.int("unsigned short", 2, 0)
    union = codec(t, t.compound("union", "u", 4, ("s", short, 0), ("w", number, 0), ("", short, 0)))
    assert union.fields == ("s", "w", "anonymous_0")
    value = union.decode(pack("<I", 0x10002))
    assert (value.s, value.w) == (2, 0x10002)
    assert union.encode(value) == pack("<I", 0x10002)
    assert union.encode({"s": 5}) == pack("<I", 5)
    assert union.encode({}) == bytes(4)
    with pytest.raises(InvalidArgument, match="one member"):
        union.encode({"s": 5, "w": 6})
    holes = codec(t, t.compound("union", "h", 8, ("s", short, 0), ("t", short, 0)))
    with pytest.raises(InvalidArgument, match="one member"):
        holes.encode((1, 2))
    single = codec(t, t.compound("union", "one", 4, ("w", number, 0)))
    assert single.encode((9,)) == pack("<I", 9)


def test_members_at_one_place_get_names_of_their_own():
    t = Types()
    number = t.int("unsigned int", 4, 0)
    union = t.compound("union", "u", 4, ("", number, 0), ("", number, 0))
    assert codec(t, union).fields == ("anonymous_0", "anonymous_0_")
    over = codec(t, t.compound("struct", "over", 4, ("a", number, 0), ("b", number, 0)))
    assert over.decode(over.encode({"b": 3})) == (3, 3)
    assert over.row_format is None


@given(
    st.lists(st.tuples(st.integers(1, 20), st.booleans()), min_size=1, max_size=6),
    st.booleans(),
    st.data(),
)
def test_bitfields_come_back(widths, big, data):
    t = Types(big=big)
    signed, unsigned = t.int("int", 4, 1), t.int("unsigned int", 4, 0)
    members, at, values = [], 0, []
    for number, (bits, negative) in enumerate(widths):
        members.append((f"m{number}", signed if negative else unsigned, bits << 24 | at))
        at += bits
        low, high = (
            (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if negative else (0, (1 << bits) - 1)
        )
        values.append(data.draw(st.integers(low, high)))
    size = (at + 31) // 32 * 4
    each = codec(t, t.compound("struct", "b", size, *members, bitfields=True))
    raw = each.encode(values)
    assert list(each.decode(raw)) == values
    assert each.encode(each.decode(raw)) == raw


def test_bitfields_lie_where_c_has_them():
    for big, raw in ((False, b"\x65\x00\x00\x00"), (True, b"\xa6\x00\x00\x00")):
        t = Types(big=big)
        number = t.int("unsigned int", 4, 0)
        each = codec(
            t,
            t.compound(
                "struct",
                "b",
                4,
                *(("low", number, 3 << 24), ("next", number, 5 << 24 | 3)),
                bitfields=True,
            ),
        )
        assert each.decode(raw) == (5, 12 if not big else 6)
    for bad in (8, -1, "x"):
        with pytest.raises(InvalidArgument, match=r"value\.low=.*3 bits"):
            each.encode({"low": bad})


def test_types_that_lie_are_refused():
    t = Types()
    number = t.int("unsigned int", 4, 0)
    cases = [
        (t.compound("struct", "s", 4, ("a", number, 32)), "a lies outside"),
        (t.compound("struct", "s", 4, ("a", number, 3)), "a lies outside"),
        (t.compound("struct", "s", 4, ("a", number, 30 << 24 | 31), bitfields=True), "outside"),
        (t.compound("struct", "s", 40, ("a", number, 80 << 24), bitfields=True), "outside"),
        (t.array(number, 1 << 30), "takes 4294967296 bytes"),
    ]
    chain = t.compound("struct", "deep", 4, ("a", number, 0))
    for _ in range(40):
        chain = t.compound("struct", "deep", 4, ("a", chain, 0))
    cases.append((chain, "nested too deeply"))
    for which, match in cases:
        with pytest.raises(MalformedObject, match=match):
            codec(t, which)
    plain = _codec.Codec("x", 1)
    with pytest.raises(NotImplementedError):
        plain.decode(b"x")
    with pytest.raises(NotImplementedError):
        plain.encode(5)


def test_many_at_once():
    t = Types()
    number = t.int("unsigned int", 4, 0)
    color = t.add("enum", "color", 4, t.name("RED"), 1, count=1)
    pair = t.compound("struct", "pair", 8, ("x", number, 0), ("y", number, 32))
    for each, values in (
        (codec(t, number), [1, 2, 1 << 31]),
        (codec(t, color), [1, 7]),
        (codec(t, pair), [(1, 2), (3, 4)]),
    ):
        raw = each.encode_many(values)
        assert raw == b"".join(map(each.encode, values))
        assert list(each.decode_many(raw, len(values))) == values
        assert each.encoder("key")(values[0]) == each.encode(values[0])
    assert codec(t, color).decode_many(b"\1\0\0\0", 1)[0].name == "RED"
    plain = codec(t, number)
    assert plain.encode_many([b"abcd", 1]) == b"abcd\1\0\0\0"
    assert plain.encoder("key")(b"abcd") == b"abcd"
    with pytest.raises(InvalidArgument, match="key=-1"):
        plain.encoder("key")(-1)
    with pytest.raises(InvalidArgument, match="entry='x'"):
        plain.encode_many([1, "x"], name="entry")


def test_layouts_say_what_two_types_have_in_common():
    def struct(name: str, last: str, size: int = 8):
        t = Types()
        number = t.int("unsigned int", 4, 0)
        other = t.int("u32_by_another_name", 4, 0)
        text = t.array(char(t), 4)
        kinds = {"number": number, "other": other, "text": text, "list": t.array(number, 1)}
        return codec(t, t.compound("struct", name, size, ("a", number, 0), ("b", kinds[last], 32)))

    same = struct("one", "number").layout
    assert struct("two", "other").layout == same
    assert len({same, struct("one", "text").layout, struct("one", "list").layout}) == 3
    assert struct("one", "number", 12).layout != same
    assert _codec.BytesCodec("x", 4).layout != _codec.BytesCodec("x", 5).layout
