"""The optional C extension reads rings exactly as Python does."""

from __future__ import annotations

import importlib.util
import os
import runpy
import shutil
import sys
from pathlib import Path

import pytest
from bpf_objects import built, needs

from hastack import ebpf
from hastack.errors import Unsupported

SCRIPT = Path(__file__).parents[2] / "scripts" / "ring_native.py"


@pytest.fixture(scope="module")
def native(tmp_path_factory):
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    include = Path(__import__("sysconfig").get_path("include"))
    if compiler is None or not (include / "Python.h").exists():
        pytest.skip("no C compiler, or no headers of Python")
    folder = tmp_path_factory.mktemp("native")
    before = os.environ.get("CC")
    os.environ["CC"] = compiler
    try:
        path = runpy.run_path(str(SCRIPT))["builder"]().compile(tmpdir=str(folder))
    finally:
        os.environ.pop("CC")
        if before is not None:
            os.environ["CC"] = before
    spec = importlib.util.spec_from_file_location("hastack.ebpf._native", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def bursts(obj: ebpf.Object, ring: ebpf.RingBuffer):
    rows, others = [], []
    for count in (1, 3, 4, 500, 7):
        obj.burst.test_run(count.to_bytes(2, "little") + bytes(62))
        obj.odd_sizes.test_run(bytes(64))
    while batch := ring.take(limit=100):
        rows += [(row[0], row[1], row[3]) for row in batch.rows]
        others += batch.others
    return rows, others, ring.account()


@pytest.mark.parametrize("label", ["", "discard"])
def test_both_read_the_same(native, monkeypatch, label):
    needs("program:xdp", "map:ringbuf")
    found = []
    for extension in (False, True):
        if extension:
            monkeypatch.setitem(sys.modules, "hastack.ebpf._native", native)
        with (
            ebpf.load(built("basics"), name="basics", globals={"label": label}) as obj,
            obj.ring("events", extension=extension) as ring,
        ):
            assert ring.accelerated == extension
            found.append(bursts(obj, ring))
            obj.burst.test_run(bytes([9]) + bytes(63))
            assert ring.take().objects()[0].comm == Path("/proc/self/comm").read_text().strip()
    assert found[0] == found[1]
    assert found[0][0]


def test_every_kind_of_number_comes_out_of_c_as_out_of_python(native):
    """One record with every format that a row can have, unpacked by both."""
    import struct

    from elf_images import Types

    from hastack.ebpf import _btf, _codec
    from hastack.ebpf._ring import Walker
    from hastack.ebpf._ringbuf import _NativeWalker

    t = Types()
    kinds = [
        t.int(name, size, encoding)
        for name, size, encoding in (
            *(("long long", 8, 1), ("unsigned long long", 8, 0), ("int", 4, 1)),
            *(("unsigned int", 4, 0), ("short", 2, 1), ("unsigned short", 2, 0)),
            *(("signed char", 1, 1), ("unsigned char", 1, 0), ("_Bool", 1, 4)),
        )
    ]
    kinds.insert(2, t.add("float", "double", 8))
    kinds.insert(3, t.add("float", "float", 4))
    kinds.append(t.array(t.int("char", 1, 1), 5))
    sizes = [8, 8, 8, 4, 4, 4, 2, 2, 1, 1, 1, 5]
    places = [sum(sizes[:n]) for n in range(len(sizes))]
    members = [(f"m{n}", kind, places[n] * 8) for n, kind in enumerate(kinds)]
    made = t.compound("struct", "all", 48, *members)
    codec = _codec.codec_of(_btf.parse(memoryview(t.build()), "little"), made, "little")
    values = [-5, 1 << 63, 0.1, 0.5, -7, 1 << 31, -3, 65535, -1, 255, True, "text"]
    raw = codec.encode(values)
    memory = bytearray(8192)
    record = struct.pack("<II", len(raw), 0) + raw
    for n in range(6):
        memory[n * 56 : n * 56 + 56] = record
    view = memoryview(memory)
    plain = Walker(4096, codec).take(view, view.cast("I"), 0, 6 * 56, 100)
    fast = _NativeWalker(4096, codec, native, view).take(view, view.cast("I"), 0, 6 * 56, 100)
    assert plain == fast
    assert codec.from_row(fast.rows[5])[:2] == (-5, 1 << 63)


def test_where_there_is_no_extension(monkeypatch):
    needs("map:ringbuf", "program:xdp")
    monkeypatch.setitem(sys.modules, "hastack.ebpf._native", None)
    with ebpf.load(built("basics"), programs=["burst"]) as obj:
        with obj.ring("events") as ring:
            assert not ring.accelerated
        with pytest.raises(Unsupported, match="HASTACK_COMPILE=1"):
            obj.ring("events", extension=True)
        monkeypatch.setattr("platform.machine", lambda: "riscv64")
        with pytest.raises(Unsupported, match="riscv64 may reorder"):
            obj.ring("events")
