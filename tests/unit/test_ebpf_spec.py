"""What an object declares is read without the kernel; what no loader would take is refused."""

from __future__ import annotations

from struct import pack

import pytest
from elf_images import EXIT, Image, Types, call, load_address

from hastack import ebpf
from hastack.ebpf._kinds import _SECTIONS, ATTACH_TYPES, PROGRAM_TYPES, role_of
from hastack.errors import InvalidArgument, MalformedObject


def whole(big: bool = False) -> Image:
    """A small object with everything that a `Spec` lists."""
    t = Types(big=big)
    number = t.int("unsigned int", 4, 0)
    pointer = t.add("ptr", "", number)
    shape = t.compound(
        "struct",
        "",
        40,
        ("type", t.number(1), 0),
        ("max_entries", t.number(64), 64),
        ("key", pointer, 128),
        ("value", pointer, 192),
        ("pinning", t.number(1), 256),
    )
    counts = t.add("var", "counts", shape, 1)
    step = t.add("var", "step", number, 1)
    absent = t.add("var", "absent", number, 1)
    hits = t.add("var", "hits", number, 1)
    t.add("datasec", ".maps", 0, counts, 0, 40, count=1)
    t.add("datasec", ".rodata", 0, step, 0, 4, absent, 0, 4, count=2)
    t.add("datasec", ".bss", 0, hits, 0, 4, count=1)
    t.add("datasec", ".kconfig", 0, hits, 0, 4, count=1)
    place = t.name("0")
    line = (0, t.name("/src/one.bpf.c"), t.name("  return 0;"), 7 << 10 | 3)
    extension = t.extension(lines={"xdp": [line]}, relocations={"xdp": [(0, number, place, 0)]})
    image = Image(big=big)
    text = image.code(".text", call(6) + EXIT[8:] if not big else b"")
    xdp = image.code("xdp", load_address() + call(1) + call(-1 + 0, 1) + EXIT if not big else b"")
    maps = image.add(".maps", bytes(40))
    rodata = image.add(".rodata", image.pack("I", 3))
    bss = image.add(".bss", type=8, size=4)
    image.add(".rodata.str1.1", b"hello\0")
    image.add("license", b"GPL\0")
    image.add(".BTF", t.build())
    image.add(".BTF.ext", extension)
    counts_symbol = image.symbol("counts", maps, 0, 40, info=0x11)
    image.symbol("step", rodata, 0, 4, info=0x11)
    image.symbol("hits", bss, 0, 4, info=0x11)
    section = image.symbol("", text, info=0x03)
    if not big:
        image.symbol("sub", text, 0, 16, info=0x02)
        image.symbol("count", xdp, 0, 48)
        image.relocate(xdp, (0, counts_symbol), (24, section))
    return image


def test_an_object_is_read_whole():
    content = whole().build()
    spec = ebpf.open(content, name="one")
    assert repr(spec) == repr(ebpf.open(content, name="one"))
    assert (spec.name, spec.license, spec.order) == ("one", "GPL", "little")
    program = spec.programs["count"]
    assert (program.type, program.attach, program.instructions) == ("xdp", "xdp", 6)
    assert program.helpers == ("bpf_map_lookup_elem", "bpf_trace_printk")
    assert program.kfuncs == ()
    assert program.maps == ("counts",)
    assert [call.source for call in program.calls] == ["", "one.bpf.c:7: return 0;"]
    each = spec.maps["counts"]
    assert (each.type, each.max_entries, each.pinning) == ("hash", 64, "by_name")
    assert each.key.size == each.value.size == 4
    assert list(spec.globals) == ["step", "hits"]
    assert spec.initial("step") == 3
    assert spec.initial("hits") == 0
    assert spec.globals["step"].constant
    assert not spec.globals["hits"].constant
    assert spec.data(".bss") == bytes(4)
    assert spec.relocations[0].type == "unsigned int"
    assert spec.type("unsigned int").size == 4
    assert len(spec.calls) == 2
    with pytest.raises(InvalidArgument, match="a type of one"):
        spec.type("struct none")
    with pytest.raises(InvalidArgument, match="one of step, hits"):
        spec.initial("none")


def test_a_big_endian_object_is_read_too():
    spec = ebpf.open(whole(big=True).build())
    assert spec.order == "big"
    assert spec.initial("step") == 3
    assert spec.type("unsigned int").decode(b"\0\0\0\1") == 1


def test_paths_names_and_wrong_sources(tmp_path):
    path = tmp_path / "egress.bpf.o"
    path.write_bytes(whole().build())
    assert ebpf.open(path).name == "egress"
    assert ebpf.open(str(path), name="x").name == "x"
    assert ebpf.open(path.read_bytes()).name == "object"
    with pytest.raises(InvalidArgument, match="source=5"):
        ebpf.open(5)
    with pytest.raises(FileNotFoundError):
        ebpf.open(tmp_path / "none.o")


def with_code(code: bytes, *relocated: tuple[int, str], section: str = "xdp", size=None) -> Image:
    image = Image()
    number = image.code(section, code)
    image.symbol("prog", number, 0, len(code) if size is None else size)
    places = [(offset, image.symbol(name, 0, info=0x10)) for offset, name in relocated]
    if places:
        image.relocate(number, *places)
    return image


def test_functions_of_the_kernel_are_listed():
    code = call(-1, 1) + load_address() + call(77, 2) + EXIT
    spec = ebpf.open(with_code(code, (0, "bpf_cpumask_create"), (8, "some_ksym")).build())
    assert spec.kernel_symbols == ("bpf_cpumask_create", "some_ksym")
    assert spec.programs["prog"].kfuncs == ("77", "bpf_cpumask_create")


def test_callbacks_count_as_called():
    image = with_code(load_address() + EXIT)
    text = image.code(".text", call(2) + EXIT[8:])
    callback = image.symbol("callback", text, 0, 16, info=0x02)
    image.relocate(1, (0, callback))
    assert ebpf.open(image.build()).programs["prog"].helpers == ("bpf_map_update_elem",)


def test_subprograms_of_the_same_section_and_recursion():
    # 0: call +1 (2: call itself), 1: exit
    code = call(1, 1) + EXIT[8:] + call(-1, 1) + EXIT[8:]
    image = Image()
    section = image.code("xdp", code)
    image.symbol("main", section, 0, 16)
    image.symbol("loop", section, 16, 16, info=0x02)
    assert set(ebpf.open(image.build()).programs) == {"main", "loop"}
    named = Image()
    section = named.code("xdp", call(-1, 1) + EXIT)
    text = named.code(".text", call(6) + EXIT[8:])
    named.symbol("main", section, 0, 24)
    sub = named.symbol("sub", text, 0, 16)
    named.relocate(section, (0, sub))
    assert ebpf.open(named.build()).programs["main"].helpers == ("bpf_trace_printk",)


@pytest.mark.parametrize(
    ("image", "match"),
    [
        (with_code(EXIT, size=12), "function prog"),
        (with_code(EXIT, size=0), "function prog"),
        (with_code(EXIT, size=64), "function prog"),
        (with_code(EXIT[:12], size=8), "whole number"),
        (with_code(call(99, 1) + EXIT), "in no function"),
    ],
)
def test_code_that_lies_is_refused(image, match):
    with pytest.raises(MalformedObject, match=match):
        ebpf.open(image.build())


def test_two_programs_of_one_name_are_refused():
    image = with_code(EXIT)
    image.symbol("prog", image.code("tc", EXIT), 0, 16)
    with pytest.raises(MalformedObject, match="two programs prog"):
        ebpf.open(image.build())


def test_an_address_in_no_section_is_refused():
    image = with_code(load_address() + EXIT)
    image.relocate(1, (0, image.symbol("abs", 0xFFF1, info=0x10)))
    with pytest.raises(MalformedObject, match="address of abs"):
        ebpf.open(image.build())


def test_sections_of_no_known_meaning():
    spec = ebpf.open(with_code(EXIT, section="?strange").build())
    assert (spec.programs["prog"].type, spec.programs["prog"].autoload) == ("", False)
    assert spec.license == ""
    old = Image()
    old.add("maps", bytes(20))
    with pytest.raises(MalformedObject, match="old map definitions"):
        ebpf.open(old.build())
    large = Image()
    large.add(".bss", type=8, size=1 << 40)
    with pytest.raises(MalformedObject, match="takes 1099511627776 bytes"):
        ebpf.open(large.build())


def map_object(*members, kind: str = "struct", extra=lambda t: None):
    t = Types()
    number = t.int("unsigned int", 4, 0)
    made = [(name, make(t, number), 64 * n) for n, (name, make) in enumerate(members)]
    shape = t.compound("struct", "", 8 * len(made), *made) if kind == "struct" else number
    variable = t.add("var", "m", shape, 1)
    t.add("datasec", ".maps", 0, variable, 0, 8 * len(made), count=1)
    image = Image()
    maps = image.add(".maps", bytes(8 * len(made)))
    image.add(".BTF", t.build())
    image.symbol("m", maps, 0, 8 * len(made), info=0x11)
    return image.build()


def value(n: int):
    return lambda t, number: t.number(n, number)


def inner_map(t, number):
    inner = t.compound(
        "struct", "", 16, ("type", t.number(2), 0), ("values", t.array(number, 0), 64)
    )
    return t.array(t.add("ptr", "", inner), 0)


def function_pointers(t, number):
    proto = t.add("func_proto", "", number)
    return t.array(t.add("ptr", "", proto), 0)


def test_maps_that_hold_others():
    spec = ebpf.open(map_object(("type", value(12)), ("values", inner_map)))
    assert spec.maps["m"].inner.type == "array"
    assert spec.maps["m"].key.size == spec.maps["m"].value.size == 4
    spec = ebpf.open(map_object(("type", value(3)), ("values", function_pointers)))
    assert spec.maps["m"].inner is None
    assert ebpf.open(map_object(("values", lambda t, n: n))).maps["m"].inner is None
    sizes = [("key_size", value(8)), ("value_size", value(16)), ("pinning", value(9))]
    spec = ebpf.open(map_object(("type", value(999)), *sizes))
    assert (spec.maps["m"].type, spec.maps["m"].key.size, spec.maps["m"].value.size) == (
        "type_999",
        8,
        16,
    )
    assert spec.maps["m"].pinning == "9"
    flags = [("map_flags", lambda t, n: t.add("enum", "", 4, t.name("v"), 1, count=1))]
    assert ebpf.open(map_object(*flags)).maps["m"].flags == 1


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (map_object(kind="int"), "m: is no struct"),
        (map_object(("type", lambda t, n: n)), "no number"),
        (map_object(("type", lambda t, n: t.add("ptr", "", n))), "no number"),
        (map_object(("type", lambda t, n: t.add("enum", "", 4))), "no number"),
        (map_object(("key", lambda t, n: n)), "no type"),
    ],
)
def test_maps_that_lie_are_refused(content, match):
    with pytest.raises(MalformedObject, match=match):
        ebpf.open(content)


def test_a_variable_outside_of_its_section_is_refused():
    image = whole()
    for n, each in enumerate(image.symbols):
        if each[0] == "hits":
            image.symbols[n] = ("hits", each[1], 2, 4, 0x11)
    with pytest.raises(MalformedObject, match=r"\.bss: hits lies outside"):
        ebpf.open(image.build())


def test_sections_that_are_no_data_are_none():
    image = Image()
    image.code(".data.code", EXIT)
    t = Types()
    t.add("datasec", ".data", 0)
    image.add(".BTF", t.build())
    assert ebpf.open(image.build()).globals == {}
    text = Image()
    text.symbol("f", text.add("xdp", pack("<Q", 0)), 0, 8)  # a function, but nothing executable
    assert ebpf.open(text.build()).programs == {}


def test_every_section_name_has_a_type_of_the_kernel():
    for kind, attach in _SECTIONS.values():
        assert kind in PROGRAM_TYPES
        assert not attach or attach in ATTACH_TYPES
    assert len(set(PROGRAM_TYPES)) == len(PROGRAM_TYPES)


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ("xdp", ("xdp", "xdp", "", False, True)),
        (
            "?tp/syscalls/sys_enter_read",
            ("tracepoint", "", "syscalls/sys_enter_read", False, False),
        ),
        ("uprobe.s//bin/x:f+4", ("kprobe", "", "/bin/x:f+4", True, True)),
        ("fentry/do_exit", ("tracing", "trace_fentry", "do_exit", False, True)),
        ("iter.s/task", ("tracing", "trace_iter", "task", True, True)),
        ("uprobe", ("kprobe", "", "", False, True)),
        ("cgroup/connect4", ("cgroup_sock_addr", "cgroup_inet4_connect", "", False, True)),
        ("cgroup/sendmsg6", ("cgroup_sock_addr", "cgroup_udp6_sendmsg", "", False, True)),
        ("syscall.s", ("syscall", "", "", True, True)),
    ],
)
def test_roles_of_sections(section, expected):
    role = role_of(section)
    assert (role.type, role.attach, role.target, role.sleepable, role.autoload) == expected


def test_other_sections_have_no_role():
    assert role_of(".text") is None
    assert role_of("xdp_nothing") is None
