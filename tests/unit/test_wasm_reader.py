"""What is read from a module, and what is refused before anything is compiled."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hastack.errors import InvalidModule, ModuleRefused
from hastack.wasm import Limits, inspect
from hastack.wasm._admission import admit, excesses
from hastack.wasm._reader import MAGIC, Reader, sections


def leb(number: int) -> bytes:
    out = bytearray()
    while True:
        byte, number = number & 0x7F, number >> 7
        out.append(byte | (0x80 if number else 0))
        if not number:
            return bytes(out)


def vec(*items: bytes) -> bytes:
    return leb(len(items)) + b"".join(items)


def name(text: str) -> bytes:
    return leb(len(text.encode())) + text.encode()


def section(number: int, payload: bytes) -> bytes:
    return bytes([number]) + leb(len(payload)) + payload


def module(*parts: bytes) -> bytes:
    return MAGIC + b"".join(parts)


TYPE = section(1, vec(b"\x60" + vec(b"\x7f", b"\x7e") + vec(b"\x7d"), b"\x60" + vec() + vec()))
WHOLE = module(
    section(0, name("note") + b"hello"),
    TYPE,
    section(
        2,
        vec(
            name("env") + name("f") + b"\x00\x00",
            name("env") + name("t") + b"\x01\x70\x00\x03",
            name("env") + name("m") + b"\x02\x01\x01\x02",
            name("env") + name("g") + b"\x03\x7f\x01",
            name("env") + name("h") + b"\x03\x7f\x00",
            name("env") + name("e") + b"\x04\x00\x01",
        ),
    ),
    section(3, vec(b"\x01")),
    section(4, vec(b"\x6f\x01\x05\x06")),
    section(5, vec(b"\x03\x01\x01", b"\x04\x01")),
    section(6, vec(b"\x7f\x00\x41\x00\x0b")),
    section(
        7,
        vec(
            name("run") + b"\x00\x01",
            name("mem") + b"\x02\x01",
            name("mine") + b"\x03\x05",
        ),
    ),
    section(8, b"\x01"),
    section(9, vec()),
    section(12, b"\x01"),
    section(10, vec(leb(6) + vec(b"\x02\x7f", b"\x03\x7c") + b"\x0b")),
    section(11, vec(b"\x00\x41\x00\x0b\x00")),
)


def test_everything_about_a_module_is_found() -> None:
    facts = inspect(WHOLE)
    assert [str(item) for item in facts.imports] == [
        "env.f: func (i32, i64) -> f32",
        "env.t: table funcref 3..",
        "env.m: memory 1..2 pages",
        "env.g: global mut i32",
        "env.h: global i32",
        "env.e: tag () -> ()",
    ]
    assert [(e.name, e.kind, e.type) for e in facts.exports] == [
        ("run", "func", "() -> ()"),
        ("mem", "memory", "shared 1..1 pages"),
        ("mine", "global", ""),
    ]
    assert facts.start
    assert facts.memories == ((65536, 131072), (65536, 65536), (65536, None))
    assert facts.tables == (3, 5)
    assert facts.customs == ("note",)
    assert facts.counts["locals"] == facts.counts["total_locals"] == 5
    assert facts.counts["function_bytes"] == 6
    assert facts.counts["functions"] == 2
    assert facts.counts["segments"] == 1
    assert facts.export("run") is not None
    assert facts.export("run", "memory") is None


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "no WebAssembly module"),
        (b"\0asm\x0d\0\1\0", "component"),
        (module(b"\x01"), "unexpected end"),
        (module(b"\x01\x05"), "unexpected end"),
        (module(section(99, b"")), "unknown section 99"),
        (module(TYPE, TYPE), "twice or out of order"),
        (module(section(3, vec()), TYPE), "twice or out of order"),
        (module(section(0, b"\x02\xff\xff")), "not UTF-8"),
        (module(section(1, b"\xff\xff\xff\xff\xff\x01")), "too long"),
        (module(section(1, b"\xff\xff\xff\xff\x7f")), "too large"),
        (module(section(1, b"\x7f")), "more elements than bytes"),
        (module(section(1, vec(b"\x5f"))), "only types of functions"),
        (module(section(1, vec(b"\x60\x01\x40\x00"))), "unknown type of value"),
        (module(section(1, vec() + b"\x00")), "left over"),
        (module(section(3, vec(b"\x00"))), "no type 0"),
        (module(TYPE, section(2, vec(name("a") + name("b") + b"\x09"))), "kind of import"),
        (module(section(5, vec(b"\x08\x01"))), "unknown limits"),
        (module(section(7, vec(name("a") + b"\x00\x00"))), "not there"),
        (module(section(7, vec(name("a") + b"\x09\x00"))), "kind of export"),
        (module(section(7, vec(*[name("a") + b"\x03\x00"] * 2))), "'a' twice"),
        (module(TYPE, section(3, vec(b"\x00"))), "as many bodies"),
        (module(section(1, vec(b"\x60\x01\x63" + b"\x80" * 5 + b"\x00\x00"))), "too long"),
        (module(section(10, vec(leb(9) + b"\x00"))), "unexpected end"),
    ],
)
def test_broken_structure_is_one_error(data: bytes, message: str) -> None:
    with pytest.raises(InvalidModule, match=message):
        inspect(data)


def test_references_to_types_are_stepped_over() -> None:
    facts = inspect(module(section(1, vec(b"\x60" + vec(b"\x63\x70") + vec()))))
    assert facts.counts["types"] == 1


def test_the_offset_is_named() -> None:
    with pytest.raises(InvalidModule, match=r"at byte 8") as caught:
        inspect(module(section(99, b"")))
    assert caught.value.offset == 8


def test_long_forms_of_numbers_are_noticed() -> None:
    found = sections(module(b"\x01\x81\x00\x00"))
    assert [one.canonical for one in found] == [False]
    assert [one.canonical for one in sections(WHOLE)] == [True] * 13
    assert sections(module(b"\x00\x03\x81\x00n"))[0].canonical is False


def test_what_is_too_large_is_refused_before_it_is_read() -> None:
    with pytest.raises(ModuleRefused, match="module_bytes"):
        admit(b"\xff" * 100, Limits(module_bytes=99))


def test_every_excess_is_named() -> None:
    tight = Limits(
        functions=1, locals=4, total_locals=4, types=1, globals=0, imports=5, exports=2,
        segments=0, custom_bytes=1, memories=2, memory=65536, tables=1, table_elements=7,
        function_bytes=5,
    )  # fmt: skip
    with pytest.raises(ModuleRefused) as caught:
        admit(WHOLE, tight)
    named = [reason.partition(" ")[0] for reason in caught.value.reasons]
    assert named == [
        *("functions", "function_bytes", "locals", "total_locals", "types", "globals"),
        *("imports", "exports", "segments", "custom_bytes", "memories", "memory", "tables"),
        *("table_elements", "shared"),
    ]


def test_a_small_module_is_admitted() -> None:
    facts = admit(module(TYPE), Limits())
    assert excesses(facts, Limits()) == []


@given(st.binary(max_size=200))
def test_no_bytes_do_anything_but_read_or_refuse(tail: bytes) -> None:
    try:
        inspect(MAGIC + tail)
    except InvalidModule as error:
        offset = error.offset or 0
    else:
        offset = 0
    assert 0 <= offset <= len(tail) + 8


@given(st.data())
def test_cut_or_changed_modules_read_or_refuse(data: st.DataObject) -> None:
    changed = bytearray(WHOLE)
    changed[data.draw(st.integers(8, len(WHOLE) - 1))] ^= data.draw(st.integers(1, 255))
    for broken in (bytes(changed), WHOLE[: data.draw(st.integers(0, len(WHOLE)))]):
        try:
            inspect(broken)
        except InvalidModule:
            pass


@given(st.integers(0, 2**32 - 1))
def test_numbers_come_back(number: int) -> None:
    raw = leb(number)
    reader = Reader(raw, 0, len(raw))
    assert reader.number() == number
    assert reader.canonical
    reader.finish()
