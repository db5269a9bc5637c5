"""What the kernel holds, compared with what was meant to be loaded.

A file may be exchanged between check and load, and a loader has bugs: after loading, the kernel is
asked for the tag of each program (a hash of its instructions), the maps it uses, and the helpers it
calls.
"""

from __future__ import annotations

import hashlib
from struct import iter_unpack, pack
from typing import TYPE_CHECKING

from hastack._core._errors import PolicyViolation

from . import _insns, _kernel

if TYPE_CHECKING:
    from ._object import Object, Program

__all__ = ("compare",)

_LOAD_64, _CALL = 0x18, 0x85
_MAP_FD, _MAP_VALUE = 1, 2


def compare(obj: Object) -> None:
    """Compare every program of an object with what was handed to the kernel.

    Raises:
        PolicyViolation: They differ; the error says in what.
    """
    found = [each for program in obj.programs.values() for each in _differences(obj, program)]
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
