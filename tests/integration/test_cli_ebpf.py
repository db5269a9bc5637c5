"""The command line of eBPF."""

from __future__ import annotations

import json

from bpf_objects import built
from click.testing import CliRunner

from hastack.cli._app import app


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
