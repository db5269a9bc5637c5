"""What the kernel holds, compared with what was meant to be loaded.

A file may be exchanged between check and load, and a loader has bugs: after loading, the kernel is
asked for the tag of each program (a hash of its instructions), the maps it uses, and the functions
that its own instructions call.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from struct import iter_unpack, pack
from typing import TYPE_CHECKING

from hastack._core._errors import PolicyViolation

from . import _insns, _kernel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ._object import Object, Program
    from ._policy import Policy

__all__ = ("called_functions", "compare", "tags")

_LOAD_64, _CALL = 0x18, 0x85
_MAP_FD, _MAP_VALUE = 1, 2


def compare(obj: Object, policy: Policy | None = None) -> None:
    """Compare every program of an object with what was handed to the kernel.

    Args:
        obj: The object.
        policy: What its programs may call; held against the kernel's instructions where the
            kernel lets this process see its addresses.

    Raises:
        PolicyViolation: They differ; the error says in what.
    """
    found = [each for program in obj.programs.values() for each in _differences(obj, program)]
    if policy is not None:
        found += _forbidden(list(obj.programs.values()), policy)
    if found:
        raise PolicyViolation(found)


def _differences(obj: Object, program: Program) -> list[str]:
    code = obj._code[program.name]
    found = []
    if program.tag not in tags(code):
        found.append(f"{program.name}: the kernel's tag is {program.tag}, which is not its own")
    info = program.info()
    own = {each.id for each in obj.maps.values()}
    own |= {_kernel.MapInfo(handle.fd).id for handle in obj._sections.values()}
    strange = sorted(set(info.map_ids) - own)
    if strange:
        found.append(f"{program.name}: uses maps {strange}, which are not the object's")
    meant = set(program.spec.helpers)
    called = {
        _insns.helper_name(each.number)
        for each in _insns.decode(code, "little" if _little() else "big", where=program.name)
        if each.kind == "helper"
    }
    # libbpf exchanges helpers for older ones of the same meaning where the kernel lacks the newer.
    extra = sorted(called - meant - _EXCHANGED)
    if extra:
        found.append(f"{program.name}: calls {', '.join(extra)}, which its file does not")
    return found


def _forbidden(programs: list[Program], policy: Policy) -> list[str]:
    """Calls in the kernel's own instructions that a policy forbids."""
    found = []
    for program, names in zip(
        programs, called_functions([_kernel.translated(each.fd) for each in programs]), strict=True
    ):
        for name in sorted(names):
            reason = policy.denies(name, program.type)
            if reason:
                found.append(f"{program.name}: {name}, in the kernel's instructions: {reason}")
    return found


def called_functions(
    codes: Sequence[bytes], symbols: Path = Path("/proc/kallsyms")
) -> list[set[str]]:
    """Names of the functions that translated instructions call; empty where addresses are hidden.

    The kernel has replaced the numbers of helpers by distances from ``__bpf_call_base``. Helpers that
    it has inlined are gone, and those of maps have the name of the map type's own function.
    """
    calls = [
        {
            number
            for opcode, registers, _, number in iter_unpack("=BBhi", code)
            if opcode == _CALL and not (registers >> 4 if _little() else registers & 15)
        }
        for code in codes
    ]
    lines = symbols.read_bytes().splitlines()
    base = next((int(line[:16], 16) for line in lines if line.endswith(b" __bpf_call_base")), 0)
    if not base:
        return [set() for _ in codes]
    names: dict[bytes, set[str]] = {b"%016x" % (base + n): set() for n in set().union(*calls)}
    for line in lines:
        if line[:16] in names:
            names[line[:16]].add(line[19:].split(b"\t")[0].decode("ascii", "replace"))
    return [set().union(*(names[b"%016x" % (base + n)] for n in each)) for each in calls]


_EXCHANGED = frozenset(("bpf_probe_read", "bpf_probe_read_str"))


def _little() -> bool:
    return pack("=H", 1) == b"\1\0"


def tags(code: bytes) -> set[str]:
    """The tags that kernels give to instructions: SHA-1 until 6.17, SHA-256 from 6.18 on.

    Addresses of maps are left out, as they differ each time. Source: ``bpf_prog_calc_tag``.
    """
    plain = bytearray()
    second = False
    for opcode, registers, offset, number in iter_unpack("=BBhi", code):
        source = registers >> 4 if _little() else registers & 15
        if second:
            plain += pack("=BBhi", opcode, registers, offset, 0)
            second = False
            continue
        held = opcode == _LOAD_64 and source in {_MAP_FD, _MAP_VALUE}
        plain += pack("=BBhi", opcode, registers, offset, 0 if held else number)
        second = held
    content = bytes(plain)
    sha1 = hashlib.sha1(content, usedforsecurity=False).hexdigest()
    return {sha1[:16], hashlib.sha256(content).hexdigest()[:16]}
