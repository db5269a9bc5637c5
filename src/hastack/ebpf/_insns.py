"""eBPF instructions, read for what they call.

Source: RFC 9669 (BPF instruction set), and the numbers of helpers in ``include/uapi/linux/bpf.h``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from hastack._core._errors import MalformedObject

from ._elf import structure

if TYPE_CHECKING:
    from ._elf import Order

__all__ = ("HELPERS", "Instruction", "decode", "helper_name")

_CALL, _LOAD_64 = 0x85, 0x18
# What the source register of a call says about its number.
_CALL_KINDS = {0: "helper", 1: "subprogram", 2: "kfunc"}

_NAMES = """Names of the kernel's helpers by number; no more are added, new functions are kfuncs."""

HELPERS: tuple[str, ...] = tuple(_NAMES.split())
"""Names of the kernel's helpers by number; no more are added, new functions are kfuncs."""


@attrs.frozen
class Instruction:
    """An instruction that calls something, or loads an address.

    Args:
        index: Its place, counted in instructions of 8 bytes.
        kind: ``"helper"``, ``"subprogram"``, ``"kfunc"`` or ``"address"``.
        number: Number of the helper or kfunc; how far away a subprogram is.
    """

    index: int
    kind: str
    number: int


def helper_name(number: int) -> str:
    """``"bpf_map_lookup_elem"`` for 1; an unknown number stays one."""
    name = HELPERS[number] if 0 < number < len(HELPERS) else f"helper_{number}"
    return f"bpf_{name}"


def decode(code: memoryview | bytes, order: Order, *, where: str) -> tuple[Instruction, ...]:
    """The instructions that call something or load an address, in order.

    Raises:
        MalformedObject: It is no whole number of instructions, or a call is of no known kind.
    """
    record = structure(order, "BBhi")
    if len(code) % record.size:
        raise MalformedObject("no whole number of instructions", where=where)
    found = []
    second = False
    for index, (opcode, registers, _, number) in enumerate(record.iter_unpack(code)):
        if second:  # the upper half of a 64-bit constant is no instruction
            second = False
            continue
        source = registers >> 4 if order == "little" else registers & 15
        if opcode == _CALL:
            kind = _CALL_KINDS.get(source)
            if kind is None:
                raise MalformedObject(
                    f"instruction {index} calls in an unknown way ({source})", where=where
                )
            found.append(Instruction(index, kind, number))
        elif opcode == _LOAD_64:
            second = True
            found.append(Instruction(index, "address", number))
    if second:
        raise MalformedObject("ends within an instruction", where=where)
    return tuple(found)
