"""ELF and BTF are read whole, and whatever is broken in them has one typed error."""

from __future__ import annotations

from struct import pack

import pytest
from elf_images import EXIT, Image, Types, call, load_address

from hastack import ebpf
from hastack.ebpf import _btf, _elf, _insns, _symbols, _usdt
from hastack.errors import InvalidArgument, MalformedObject


def types_of(types: Types) -> _btf.Btf:
    return _btf.parse(memoryview(types.build()), "big" if types.big else "little")


def refused(content: bytes, match: str) -> None:
    with pytest.raises(MalformedObject, match=match):
        ebpf.open(content)


# ELF


def test_what_is_no_elf_file_is_refused():
    refused(b"", "not an ELF file")
    refused(b"MZ" * 40, "not an ELF file")
    refused(b"\x7fELF", "not a 64-bit")
    refused(b"\x7fELF\x01\x01" + bytes(60), "not a 64-bit")
    refused(b"\x7fELF\x02\x03" + bytes(60), "not a 64-bit")
    refused(b"\x7fELF\x02\x01" + bytes(20), "cut off")


def test_an_executable_is_no_object():
    refused(Image(type=2).build(), "type 2")
    refused(Image(machine=62).build(), "machine 62")
    ebpf.open(Image(machine=0).build())  # old compilers said nothing


def test_headers_that_lie_are_refused():
    whole = Image().build()
    assert _elf.parse(whole).sections[0].name == ""
    refused(whole[:58] + pack("<H", 63) + whole[60:], "records of 63 bytes")
    refused(whole[:62] + pack("<H", 99) + whole[64:], "names in section 99")
    refused(whole[:-1], "cut off")
    long = Image()
    long.add("x", b"1234", size=1 << 40)
    refused(long.build(), "past the end")
    none = whole[:60] + pack("<H", 0) + whole[62:]
    assert _elf.parse(none).sections == ()
    assert _elf.parse(none).symbols == ()


def test_symbols_and_relocations_that_lie_are_refused():
    image = Image()
    image.symbol("f", 77)
    refused(image.build(), "symbol in section 77")
    image = Image()
    image.symbol("f", 0xFFF1)  # absolute
    assert _elf.parse(image.build()).symbols[1].name == "f"
    image = Image()
    section = image.code("xdp", EXIT)
    image.relocate(section, (0, 9))
    refused(image.build(), "relocation to symbol 9")
    image = Image()
    section = image.code("xdp", EXIT)
    image.add(".relxdp", b"123", type=9, info=section)
    refused(image.build(), "whole number of relocations")
    image = Image()
    image.add("odd", b"123", type=2)
    refused(image.build(), "not a symbol table")


def test_a_string_ends_with_a_zero():
    data = memoryview(b"ab\0cd")
    assert _elf.text_at(data, 1, where="x") == "b"
    for offset in (3, 9, -1):
        with pytest.raises(MalformedObject, match="x: no string"):
            _elf.text_at(data, offset, where="x")


def test_relocations_with_addends_are_read():
    image = Image()
    section = image.code("xdp", EXIT)
    symbol = image.symbol("f", section, 0, 16)
    image.relocate(section, (8, symbol), kind=4)
    elf = _elf.parse(image.build())
    (found,) = elf.relocations(elf.sections[section])
    assert (found.offset, found.symbol.name, found.addend) == (8, "f", 0)


# BTF


def test_every_kind_is_read_in_both_byte_orders():
    for big in (False, True):
        t = Types(big=big)
        number = t.int()
        pointer = t.add("ptr", "", number)
        array = t.array(number, 3)
        t.compound("struct", "s", 8, ("a", number, 0), ("b", pointer, 32))
        t.compound("union", "u", 4, ("x", number, 0))
        t.add("enum", "e", 4, t.name("A"), 7, count=1)
        t.add("enum", "se", 4, t.name("N"), -1, count=1, flag=True, form="Ii")
        t.add("fwd", "f")
        define = t.add("typedef", "number_t", number)
        t.add("volatile", "", define)
        t.add("const", "", define)
        t.add("restrict", "", pointer)
        proto = t.add("func_proto", "", number, t.name("p"), number, count=1)
        t.add("func", "fn", proto, count=1)
        variable = t.add("var", "v", array, 1)
        t.add("datasec", ".bss", 12, variable, 0, 12, count=1)
        t.add("float", "double", 8)
        t.add("decl_tag", "tag", number, -1, form="i")
        tagged = t.add("type_tag", "rcu", number)
        t.add("enum64", "big", 8, t.name("B"), 1, 1, count=1)
        t.add("enum64", "small", 8, t.name("M"), 0xFFFFFFFE, 0xFFFFFFFF, count=1, flag=True)
        btf = types_of(t)
        assert len(btf) == t.count + 1
        assert btf.find("se").values == (("N", -1),)
        assert btf.find("big").values == (("B", (1 << 32) + 1),)
        assert btf.find("small").values == (("M", -2),)
        assert btf.find("v", "var").kind == "var"
        assert btf.find("v", "func") is None
        assert btf.size_of(variable) == 12
        assert btf.size_of(pointer) == 8
        assert btf.resolve(tagged).name == "int"
        assert btf.spell(btf.find("s").members[1].type) == "int *"
        spelled = [btf.spell(n) for n in range(len(btf))]
        assert "const number_t" in spelled
        assert "enum big" in spelled
        assert "struct f" in spelled
        assert spelled[0] == "void"


def test_btf_that_lies_is_refused():
    for content, match in (
        (b"", "cut off"),
        (bytes(24), "not BTF version 1"),
        (pack("<HBBIIIII", 0xEB9F, 1, 0, 99, 0, 0, 0, 0), "not BTF version 1"),
        (pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, 99, 0, 0), "past the end"),
    ):
        with pytest.raises(MalformedObject, match=match):
            _btf.parse(memoryview(content), "little")
    t = Types()
    t.add(25, "x")
    with pytest.raises(MalformedObject, match="unknown kind 25"):
        types_of(t)
    t = Types()
    t.add("struct", "x", 4, count=3)
    with pytest.raises(MalformedObject, match="cut off"):
        types_of(t)
    t = Types()
    t.add("typedef", "x", 9)
    with pytest.raises(MalformedObject, match="refers to type 9"):
        types_of(t)
    t = Types()
    t.data += pack("<III", 99, 1 << 24, 4) + bytes(4)
    with pytest.raises(MalformedObject, match="no string"):
        types_of(t)


def test_types_that_contain_themselves_end():
    t = Types()
    t.add("typedef", "x", 1)
    btf = types_of(t)
    with pytest.raises(MalformedObject, match="refers to itself"):
        btf.resolve(1)
    assert btf.spell(1) == "x"
    t = Types()
    t.array(1, 2)
    btf = types_of(t)
    with pytest.raises(MalformedObject, match="contains itself"):
        btf.size_of(1)
    assert btf.spell(1).startswith("...")


def extension(t: Types, content: bytes) -> _btf.Extension:
    data = memoryview(t.build())
    return _btf.parse_ext(
        memoryview(content), types_of(t), _btf.strings_of(data, "little"), "little"
    )


def test_relocations_say_which_member_is_meant():
    t = Types()
    number = t.int()
    inner = t.compound("struct", "in", 8, ("deep", number, 0), ("", t.array(number, 1), 32))
    outer = t.compound("struct", "out", 40, ("list", t.array(inner, 5), 0))
    color = t.add("enum", "color", 4, t.name("RED"), 7, count=1)
    places = [t.name(text) for text in ("0:0:2:0", "1:0", "0", "5", "0:0:1:1:3")]
    section = {
        "xdp": [
            (8 * n, kind, at, how)
            for n, (kind, at, how) in enumerate(
                (
                    (outer, places[0], 0),
                    (outer, places[1], 2),
                    (color, places[2], 10),
                    (color, places[3], 10),
                    (outer, places[4], 1),
                )
            )
        ]
    }
    found = extension(t, t.extension(lines=None, relocations=section)).relocations
    assert [(each.type, each.access, each.kind) for each in found] == [
        ("struct out", "list[2].deep", "field_byte_offset"),
        ("struct out", "[1].list", "field_exists"),
        ("enum color", "RED", "enumval_exists"),
        ("enum color", "5", "enumval_exists"),
        ("struct out", "list[1].1[3]", "field_byte_size"),
    ]


def test_relocations_that_lie_are_refused():
    t = Types()
    number = t.int()
    outer = t.compound("struct", "out", 4, ("a", number, 0))
    bad, words, low = t.name("0:7"), t.name("a:b"), t.name("0:-1")
    for record, match in (
        ((0, 99, bad, 0), "no known type"),
        ((0, outer, bad, 99), "no known type"),
        ((0, outer, bad, 0), "access '0:7'"),
        ((0, outer, low, 0), "access '0:-1'"),
        ((0, outer, words, 0), "access 'a:b'"),
        ((0, outer, 1 << 20, 0), "no string"),
    ):
        content = t.extension(relocations={"xdp": [record]})
        with pytest.raises(MalformedObject, match=match):
            extension(t, content)


def test_a_broken_extension_is_refused():
    t = Types()
    head = pack("<HBBI", 0xEB9F, 1, 0, 32)
    for content, match in (
        (b"", "cut off"),
        (head[:4], "cut off"),
        (head, "cut off"),
        (head + pack("<6I", 0, 0, 0, 2, 0, 0) + bytes(2), "cut off"),
        (head + pack("<6I", 0, 0, 0, 8, 0, 0) + pack("<II", 16, 0), "cut off"),
        (head + pack("<6I", 0, 0, 0, 12, 0, 0) + pack("<III", 4, 0, 1), "records of 4 bytes"),
        (head + pack("<6I", 0, 0, 0, 12, 0, 0) + pack("<III", 16, 0, 99), "99 records"),
    ):
        with pytest.raises(MalformedObject, match=match):
            extension(t, content)
    old = extension(t, t.extension(lines={"xdp": [(0, 0, 0, 5 << 10)]}, core=False))
    assert old.lines["xdp"][0].number == 5
    assert old.relocations == ()
    assert str(old.lines["xdp"][0]) == ":5: "


def test_a_function_of_the_kernel_is_found_without_reading_all_types():
    t = Types()
    number = t.int()
    t.compound("struct", "s", 4, ("a", number, 0))
    proto = t.add("func_proto", "", number, t.name("p"), number, count=1)
    wanted = t.add("func", "do_it", proto, count=1)
    data = memoryview(t.build())
    assert _btf.number_of_function(data, "do_it", "little") == wanted
    assert _btf.number_of_function(data, "absent", "little") == 0
    assert _btf.number_of_function(data, "int", "little") == 0  # a name, but of no function


# Instructions


def test_calls_are_told_apart():
    code = call(1) + call(5, 1) + call(77, 2) + load_address(call(2)[1]) + EXIT
    found = _insns.decode(code, "little", where="x")
    assert [(each.index, each.kind) for each in found] == [
        (0, "helper"),
        (1, "subprogram"),
        (2, "kfunc"),
        (3, "address"),
    ]
    big = pack(">BBhi", 0x85, 0x01, 0, 3)
    assert _insns.decode(big, "big", where="x")[0].kind == "subprogram"
    for broken, match in (
        (code[:-3], "whole number"),
        (call(1, 9), "unknown way"),
        (load_address()[:8], "ends within"),
    ):
        with pytest.raises(MalformedObject, match=match):
            _insns.decode(broken, "little", where="x")


def test_helpers_have_names():
    assert _insns.helper_name(1) == "bpf_map_lookup_elem"
    assert _insns.helper_name(211) == "bpf_cgrp_storage_delete"
    assert _insns.helper_name(4000) == "bpf_helper_4000"
    assert _insns.helper_name(-1) == "bpf_helper_-1"


# Functions and probes in executables


def executable(**more) -> Image:
    image = Image(type=3, machine=62, **more)
    image.segments = [
        (6, 4, 0, 0, 0, 0, 0, 8),
        (1, 5, 0x1000, 0x401000, 0x401000, 0x2000, 0x2000, 4096),
    ]
    return image


def test_functions_are_found_by_name():
    image = executable()
    text = image.code(".text", bytes(64))
    image.symbol("main", text, 0x401010, 8)
    image.symbol("twice", text, 0x401020, 8)
    image.symbol("twice", text, 0x401030, 8)
    image.symbol("far", text, 0x999999, 8)
    image.symbol("data", text, 0x401010, 8, info=0x11)
    for symtab in (2, 11):
        content = image.build(symtab=symtab)
        assert _symbols.file_offset(content, "main") == 0x1010
    assert _symbols.file_offset(content, "0x77") == 0x77
    for name, match in (("none", "a function"), ("twice", "0x401020, 0x401030"), ("far", "holds")):
        with pytest.raises(InvalidArgument, match=match):
            _symbols.file_offset(content, name)


def test_go_is_recognised():
    image = executable()
    assert not _symbols.is_go(image.build())
    image.add(".gopclntab", bytes(8))
    assert _symbols.is_go(image.build())


def test_targets_are_split():
    assert _symbols.split_target("/bin/x:main") == ("/bin/x", "main", 0)
    assert _symbols.split_target("/bin/x:main+0x10") == ("/bin/x", "main", 16)
    assert _symbols.split_target("/bin/x") is None


def note(name: bytes, described: bytes, kind: int = 3) -> bytes:
    padded = name.ljust((len(name) + 3) // 4 * 4, b"\0")
    return (
        pack("<III", len(name), len(described), kind)
        + padded
        + described.ljust((len(described) + 3) // 4 * 4, b"\0")
    )


def probe(place: int, counter: int, texts: bytes = b"app\0hit\0-4@%edi\0") -> bytes:
    return pack("<QQQ", place, 0x402000, counter) + texts


def with_notes(notes: bytes, base: int | None = 0x402000) -> bytes:
    image = executable()
    image.add(".note.stapsdt", notes, type=7)
    if base is not None:
        image.add(".stapsdt.base", b"\0", address=base)
    return image.build()


def test_usdt_probes_are_found():
    notes = (
        note(b"stapsdt\0", probe(0x401100, 0x401800))
        + note(b"other\0", b"1234", kind=9)
        + note(b"stapsdt\0", probe(0x401200, 0))
        + note(b"stapsdt\0", probe(0x401300, 0, b"app\0miss\0\0"))
    )
    assert _usdt.find(with_notes(notes), "app", "hit") == [
        (0x1100, 0x1800, "-4@%edi"),
        (0x1200, 0, "-4@%edi"),
    ]
    # Prelinked: everything has moved with its base.
    assert _usdt.find(with_notes(notes, 0x402010), "app", "hit")[0].offset == 0x1110
    assert _usdt.find(with_notes(notes, None), "app", "hit")[0].offset == 0x1100
    assert _usdt.find(executable().build(), "app", "hit") == []


@pytest.mark.parametrize(
    ("notes", "match"),
    [
        (note(b"stapsdt\0", b"short"), "cut off"),
        (note(b"stapsdt\0", probe(0, 0, b"no zeros")), "without names"),
        (note(b"stapsdt\0", probe(0x999999, 0)), "in no segment"),
        (pack("<III", 8, 99, 3) + b"stapsdt\0", "cut off"),
    ],
)
def test_broken_notes_are_refused(notes, match):
    with pytest.raises(MalformedObject, match=match):
        _usdt.find(with_notes(notes), "app", "hit")
