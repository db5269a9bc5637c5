"""What a verifier's log says, in logs that kernels have written."""

from __future__ import annotations

import pickle

import pytest

from hastack.ebpf._verdict import read
from hastack.errors import KernelRefused, MalformedObject, Unsupported, VerifierError

OLD = """\
func#0 @0
0: R1=ctx(off=0,imm=0) R10=fp0
; u32 key = 1;
0: (b7) r1 = 1                        ; R1_w=1
1: (63) *(u32 *)(r10 -4) = r1
; return *value;
5: (85) call bpf_map_lookup_elem#1
6: (61) r0 = *(u32 *)(r0 +0)
R0 invalid mem access 'map_value_or_null'
processed 7 insns (limit 1000000) max_states_per_insn 0 total_states 0 peak_states 0 mark_read 0
"""
NEW = """\
; return e->pid; @ probe.bpf.c:19
7: (61) r0 = *(u32 *)(r0 +0)
R0 invalid mem access 'map_value_or_null'
verification time 80 usec
stack depth 4
"""


def test_the_reason_stands_before_the_statistics():
    old = read(OLD)
    assert old.reason == "R0 invalid mem access 'map_value_or_null'"
    assert (old.instruction, old.source) == (6, "return *value;")
    assert "NULL" in old.hint
    new = read(NEW)
    assert (new.instruction, new.source) == (7, "probe.bpf.c:19: return e->pid;")


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("R1 invalid mem access 'scalar'", "BPF_CORE_READ"),
        ("R0 invalid mem access 'ringbuf_mem_or_null'", "bpf_ringbuf_reserve"),
        ("invalid access to packet, off=0 size=4, R1(id=0,off=0,r=0)", "data_end"),
        ("Unreleased reference id=2 alloc_insn=4", "submit or discard"),
        ("unknown func bpf_probe_write_user#36", "may not call"),
        ("cannot call GPL-restricted function from non-GPL compatible program", "LICENSE"),
        ("infinite loop detected at insn 4", "bpf_loop"),
        ("R2 unbounded memory access, use 'var &= const'", "bound the index"),
        ("R3 !read_ok", "set it"),
        ("something new", ""),
    ],
)
def test_known_causes_have_a_hint(line, hint):
    verdict = read(f"3: (95) exit\n{line}\nsecond line\nprocessed 4 insns (limit 1000000)\n")
    assert verdict.reason == line
    assert hint in verdict.hint
    assert bool(verdict.hint) == bool(hint)


def test_a_member_that_the_kernel_lacks_is_named():
    verdict = read("""\
0: (85) call bpf_get_current_task#35          ; R0=scalar()
1: <invalid CO-RE relocation>
failed to resolve CO-RE relocation <byte_off> [23] struct task_struct.gone (0:1 @ offset 4)
processed 2 insns (limit 1000000) max_states_per_insn 0 total_states 0 peak_states 0 mark_read 0
""")
    assert "struct task_struct.gone" in verdict.reason
    assert verdict.instruction == 1
    assert "bpf_core_field_exists" in verdict.hint


def test_a_log_that_says_nothing():
    assert read("") == ("rejected without a reason", None, "", "")


@pytest.mark.parametrize(
    "error",
    [
        VerifierError("p", 13, reason="no", instruction=3, source="f.c:1: x", hint="h", log="l"),
        KernelRefused("load x", 22, hint="h", detail="d"),
        Unsupported("x", "y", remedy="z"),
        MalformedObject("x", where="y"),
    ],
)
def test_errors_survive_pickling(error):
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error)
    assert vars(again) == vars(error)
    assert getattr(again, "errno", 0) == getattr(error, "errno", 0)
