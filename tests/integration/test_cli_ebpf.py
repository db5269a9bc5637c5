"""The command line of eBPF."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from bpf_objects import SOURCES, built, has_clang, needs
from click.testing import CliRunner

from hastack import ebpf
from hastack.cli._app import app
from hastack.errors import EbpfError, InvalidArgument, KernelRefused, Unsupported


def run(*args: str):
    return CliRunner().invoke(app, ["ebpf", *args])


def test_inspect_prints_what_is_declared(tmp_path):
    path = tmp_path / "basics.bpf.o"
    path.write_bytes(built("basics"))
    out = run("inspect", str(path)).output
    assert "basics: licence GPL, little-endian" in out
    assert "program egress: cgroup_skb (section cgroup_skb/egress)" in out
    assert "map table: hash, unsigned int -> struct value, 1024 entries" in out
    assert "  calls bpf_get_current_comm" in out
    assert "program strange: unknown type" in out
    assert "global step: unsigned int in .rodata" in out
    described = json.loads(run("inspect", str(path), "--json").output)
    assert described["programs"]["burst"]["helpers"][-1] == "bpf_ringbuf_submit"
    path.write_bytes(built("iterator"))
    assert (
        "CO-RE field_exists struct task_struct.no_such_member" in run("inspect", str(path)).output
    )


def test_inspect_says_what_is_wrong(tmp_path):
    path = tmp_path / "x.o"
    path.write_bytes(b"no object")
    done = run("inspect", str(path))
    assert done.exit_code == 1
    assert "not an ELF file" in done.output


def test_features_are_listed():
    done = run("features", "--json")
    found = json.loads(done.output)
    assert found["map:hash"]["reason"]
    assert done.exit_code == (0 if any(each["there"] for each in found.values()) else 1)
    assert "program:xdp" in run("features").output


def test_building_an_object(tmp_path, monkeypatch):
    has_clang()
    out = tmp_path / "deep" / "it.bpf.o"
    done = run("build", str(SOURCES / "iterator.bpf.c"), "-o", str(out))
    assert done.exit_code == 0, done.output
    assert ebpf.open(out).programs["maps"].type == "tracing"
    assert list(out.parent.iterdir()) == [out]
    plain = ebpf.build(SOURCES / "version.bpf.c", output=tmp_path / "v.o", flags=["-DVERSION=3"])
    assert "extra" in ebpf.open(plain).maps["table"].value.fields
    broken = tmp_path / "broken.bpf.c"
    broken.write_text("int main( {")
    with pytest.raises(EbpfError, match="expected"):
        ebpf.build(broken)
    assert run("build", str(broken)).exit_code == 1
    assert not broken.with_suffix(".o").exists()
    with pytest.raises(InvalidArgument, match="a file of C"):
        ebpf.build(tmp_path / "none.bpf.c")
    header = tmp_path / "vmlinux.h"
    own = tmp_path / "own.bpf.c"
    own.write_text('#include "vmlinux.h"\nnumber n;\n')
    with pytest.raises(Unsupported, match="is not there"):
        ebpf.build(own, vmlinux=tmp_path / "no.btf")
    elsewhere = tmp_path / "types"
    elsewhere.mkdir()
    (elsewhere / "vmlinux.h").write_text("typedef int number;\n")
    assert ebpf.build(own, vmlinux=elsewhere / "vmlinux.h").exists()
    header.write_text("typedef long number;\n")
    assert ebpf.build(own).exists()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unsupported, match="apt-get install clang"):
        ebpf.build(own)


@pytest.fixture
def obj(tmp_path) -> str:
    needs("program:cgroup_skb", "program:raw_tracepoint")
    path = tmp_path / "version.bpf.o"
    path.write_bytes(built("version"))
    return str(path)


def test_loading_and_taking_out(obj, tmp_path):
    done = run("load", obj, "--program", "count", "--global", "threshold=0x10")
    assert re.search(r"count: cgroup_skb, \d+ verified, \d+ instructions", done.output)
    for args, message in (
        (["--global", "none=1"], "a variable of the object"),
        (["--global", "none"], "expected name=value"),
        (["--program", "none"], "programs of the object"),
    ):
        done = run("load", obj, *args)
        assert done.exit_code
        assert message in done.output
    path = tmp_path / "basics.bpf.o"
    path.write_bytes(built("basics"))
    assert "map_value_or_null" in run("load", str(path), "--program", "unchecked").output


def test_attaching_for_a_while(obj, cgroup, tmp_path):
    done = run("attach", obj, "--to", f"count={cgroup}", "--seconds", "0.1")
    assert f"attached count to cgroup {cgroup}" in done.output
    wrong = run("attach", obj, "--to", "none", "--seconds", "0.1")
    assert "programs of the object" in wrong.output
    assert "folder of a cgroup" in run("attach", obj, "--seconds", "0.1").output
    path = tmp_path / "basics.bpf.o"
    path.write_bytes(built("basics"))
    command = [sys.executable, "-m", "hastack", "ebpf", "attach", str(path), "--to"]
    with subprocess.Popen(
        [*command, "up=libc.so.6:getppid", "--ring", "events", "--seconds", "20"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(ebpf.__file__).parents[2])},
    ) as process:
        assert "attached up to" in process.stdout.readline()
        os.getppid()
        assert "event(pid=" in process.stdout.readline()
        process.send_signal(2)
        rest = process.stdout.read()
    assert rest.endswith("detached\n")


def test_maps_of_others_with_their_own_types(obj):
    with ebpf.load(obj) as held:
        held.table[7] = {"packets": 3, "bytes": 4}
        number = str(held.table.id)
        out = run("maps", "dump", number).output
        assert "7: stats(packets=3, bytes=4)" in out
        out = run("maps", "watch", number, "--count", "2", "--interval", "0.01").output
        assert out == "+ 7: stats(packets=3, bytes=4)\n"
        with ebpf.Map.open(held.table.id) as same:
            assert same.name == "table"
            same[8] = {"packets": 1}
        assert held.table[8].packets == 1
    with ebpf.Map.create("array", key_size=4, value_size=8, max_entries=2) as plain:
        with ebpf.Map.open(plain.id) as same:
            same[1] = b"12345678"
        assert plain[1] == b"12345678"
    for wrong in ("4294967295", "/nowhere"):
        done = run("maps", "dump", wrong)
        assert done.exit_code == 1
        assert "ENOENT" in done.output
    with pytest.raises(KernelRefused):
        ebpf.Map.open(0)


def test_what_programs_cost(obj):
    with ebpf.load(obj) as held, held.raw.attach():
        lines = run("prof", "--seconds", "0.2").output.splitlines()
        mine = next(line for line in lines if line.split()[0] == str(held.raw.id))
        assert float(mine.split()[3].replace(",", "")) > 0
