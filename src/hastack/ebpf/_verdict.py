"""What a verifier's log says: the reason, the instruction, the source line, and what helps."""

from __future__ import annotations

import re
from typing import NamedTuple

__all__ = ("Verdict", "read")


class Verdict(NamedTuple):
    """Why a program was rejected.

    Args:
        reason: The verifier's own sentence.
        instruction: Index of the instruction it stopped at, or ``None``.
        source: Its line, ``"file.c:12: text"``; the text alone where the log has no file.
        hint: What usually causes that, or ``""``.
    """

    reason: str
    instruction: int | None
    source: str
    hint: str


# "12: (85) call bpf_probe_read#4", also with the state after a semicolon.
_INSTRUCTION = re.compile(r"^(\d+): (?:\([0-9a-f]{2}\)|<invalid CO-RE relocation>)")
# "; return *(int *)p; @ probe.bpf.c:23" since Linux 6.8, without the place before.
_SOURCE = re.compile(r"^; (?P<text>.*?)(?: @ (?P<place>\S+:\d+))?$")
_SILENT = "rejected without a reason"
# Lines that follow the reason, or stand between instructions, and are not the reason.
_NOISE = re.compile(
    r"^(processed \d+ insns|verification time|stack depth|func#\d|from \d+|last_idx|regs=|"
    r"mark_precise|parent |arg#\d+ reference|Live regs|R\d+(_\w+)?=|\d+: R\d|max_states|peak_states|"
    r"propagating|-- END|Validating|BPF program is too large.*Proc)|^\d+: (safe|\.\.)"
)
_HINTS: tuple[tuple[str, str], ...] = (
    (
        r"invalid mem access 'map_value_or_null'|map_value_or_null",
        "compare the result of bpf_map_lookup_elem with NULL before using it",
    ),
    (
        r"invalid mem access '(ringbuf_)?mem_or_null'|mem_or_null",
        "compare the result of bpf_ringbuf_reserve with NULL before using it",
    ),
    (
        r"invalid mem access '(scalar|inv)'",
        "a number is used as a pointer: read it with BPF_CORE_READ or bpf_probe_read_kernel",
    ),
    (r"invalid access to packet", "compare with data_end before each access to the packet"),
    (
        r"Unreleased reference|reference has not been released|BPF_EXIT instruction.* reference",
        "every path must release what it took: submit or discard a reserved record",
    ),
    (
        r"unknown func|helper call is not allowed|program of this type cannot use helper",
        "programs of this type may not call that helper on this kernel",
    ),
    (r"cannot call GPL", 'the helper needs: char LICENSE[] SEC("license") = "GPL"'),
    (
        r"infinite loop|back-edge|too many states|program is too large|sequence of \d+ jumps",
        "bound the loop by a constant, or use bpf_loop",
    ),
    (
        r"stack (depth|limit|.*size)|invalid (write|read|variable).* stack",
        "a stack frame has 512 bytes at most",
    ),
    (
        r"(min|max) value is (negative|outside)|unbounded|R\d+ invalid zero-sized",
        "bound the index or length first, with an 'if' or with '& (SIZE - 1)'",
    ),
    (
        r"CO-RE relocation",
        "this kernel has no such type or member: ask with bpf_core_field_exists before",
    ),
    (r"!read_ok", "a variable is read before every path has set it"),
    (r"attach_btf_id|btf_id|jit is disabled|trampoline", "this kernel has no BPF trampolines"),
)


def read(log: str) -> Verdict:
    """Read a verifier's log.

    Args:
        log: The log at level 1 or 2.
    """
    instruction: int | None = None
    source = ""
    clauses: list[str] = []
    for line in log.splitlines():
        text = line.strip()
        found, said = _INSTRUCTION.match(text), _SOURCE.match(text)
        if found:
            # Two verifications may follow each other: what counts is the last line without noise.
            instruction = int(found[1])
            clauses.clear()
        elif said:
            place = said["place"]
            source = f"{place}: {said['text']}" if place else said["text"]
        elif text and not _NOISE.search(text):
            clauses.append(text)
    said_last = "\n".join(clauses)
    hint = next((hint for pattern, hint in _HINTS if re.search(pattern, said_last)), "")
    return Verdict(clauses[0] if clauses else _SILENT, instruction, source, hint)
