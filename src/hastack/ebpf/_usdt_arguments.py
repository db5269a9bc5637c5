"""Where the arguments of a USDT probe are, as compilers write it into its note.

Source of the forms: SystemTap's ``sys/sdt.h``, and the assemblers' ways to write operands. What
programs read is laid down by libbpf's ``usdt.bpf.h``.
"""

from __future__ import annotations

import re
from typing import Any, Final, NamedTuple

from hastack._core._errors import Unsupported

__all__ = ("CONSTANT", "INDEXED", "MEMORY", "MOST", "REGISTER", "Argument", "parse")

CONSTANT, REGISTER, MEMORY, INDEXED = 0, 1, 2, 3
"""A number, a register, memory at a register, memory at a register and a multiple of another."""

MOST: Final = 12
"""Arguments of one probe that ``usdt.bpf.h`` has room for."""

_ONE = re.compile(r"\s*(-?)(\d+)(f?)@(\[[^\]]*\]|\S+)")
_NUMBER = r"-?(?:0x[0-9a-fA-F]+|\d+)"
_X86_MEMORY = re.compile(rf"({_NUMBER})?\(%(\w+)(?:,%(\w+)(?:,([1248]))?)?\)")
_ARM_MEMORY = re.compile(rf"\[(\w+)(?:\s*,\s*#?({_NUMBER}))?\]")

# Offsets in struct pt_regs (x86-64) and in struct user_pt_regs (arm64).
_LETTERS = {"ax": 80, "bx": 40, "cx": 88, "dx": 96}
_POINTERS = {"si": 104, "di": 112, "bp": 32, "sp": 152}
_X86: Final = {
    **{f"r{n}{part}": at for n, at in zip(range(8, 16), (72, 64, 56, 48, 24, 16, 8, 0), strict=True)
       for part in ("", "d", "w", "b")},
    **{f"{part}{name}": at for name, at in (*_LETTERS.items(), *_POINTERS.items())
       for part in ("r", "e", "")},
    **{f"{name[0]}l": at for name, at in _LETTERS.items()},
    **{f"{name}l": at for name, at in _POINTERS.items()},
    "rip": 128,
    "eip": 128,
}  # fmt: skip
_ARM: Final = {
    **{f"{part}{n}": 8 * n for n in range(31) for part in ("x", "w")},
    "sp": 248,
}


class Argument(NamedTuple):
    """One argument.

    Attributes:
        kind: `CONSTANT`, `REGISTER`, `MEMORY` or `INDEXED`.
        size: Its bytes: 1, 2, 4 or 8.
        signed: Whether it is a signed number.
        value: The constant, or what is added to the address; 64 bits, unsigned.
        register: Where the register lies among the saved ones.
        other: The same for the register that is multiplied.
        shift: By which power of two it is multiplied.
    """

    kind: int
    size: int
    signed: bool
    value: int = 0
    register: int = 0
    other: int = 0
    shift: int = 0

    def fields(self) -> dict[str, Any]:
        """Members of ``struct __bpf_usdt_arg_spec`` that are not zero."""
        found: dict[str, Any] = {
            "arg_type": self.kind,
            "val_off": self.value,
            "reg_off": self.register,
            "arg_signed": self.signed,
            "arg_bitshift": 64 - 8 * self.size,
        }
        if self.kind == INDEXED:
            found |= {"idx_reg_off": self.other, "scale_bitshift": self.shift}
        return found


def parse(text: str, machine: str) -> tuple[Argument, ...]:
    """The arguments of a probe.

    Args:
        text: As its note has it, ``"-4@%edi 8@16(%rbp)"``.
        machine: ``"x86_64"`` or ``"aarch64"``.

    Raises:
        Unsupported: One of them lies where no program can read it, or there are more than 12.
    """
    read = {"x86_64": _x86, "aarch64": _arm}.get(machine)
    if read is None:
        raise Unsupported("arguments of USDT probes", f"their form on {machine} is not known")
    found: list[Argument] = []
    at = 0
    text = text.rstrip()
    while at < len(text):
        one = _ONE.match(text, at)
        place = None
        if one is not None and one[2] in {"1", "2", "4", "8"} and not one[3]:
            place = read(one[4], int(one[2]), bool(one[1]))
        if one is None or place is None:
            shown = one[0].strip() if one is not None else text[at:].strip()
            raise Unsupported(
                f"argument {len(found) + 1} of the probe ({shown})",
                "it is in no register and no memory that a program can read",
                remedy="Attach a program that reads no arguments",
            )
        found.append(place)
        at = one.end()
    if len(found) > MOST:
        raise Unsupported(f"{len(found)} arguments of one probe", f"there is room for {MOST}")
    return tuple(found)


def _unsigned(text: str | None) -> int:
    return int(text or "0", 0) & 0xFFFF_FFFF_FFFF_FFFF


def _x86(operand: str, size: int, signed: bool) -> Argument | None:
    if operand.startswith("$") and re.fullmatch(_NUMBER, operand[1:]):
        return Argument(CONSTANT, size, signed, _unsigned(operand[1:]))
    if operand.startswith("%"):
        at = _X86.get(operand[1:])
        return None if at is None else Argument(REGISTER, size, signed, register=at)
    memory = _X86_MEMORY.fullmatch(operand)
    base = _X86.get(memory[2]) if memory else None
    if memory is None or base is None:
        return None
    added = _unsigned(memory[1])
    if memory[3] is None:
        return Argument(MEMORY, size, signed, added, base)
    index = _X86.get(memory[3])
    shift = int(memory[4] or "1").bit_length() - 1
    return None if index is None else Argument(INDEXED, size, signed, added, base, index, shift)


def _arm(operand: str, size: int, signed: bool) -> Argument | None:
    memory = _ARM_MEMORY.fullmatch(operand)
    if memory is not None:
        base = _ARM.get(memory[1])
        return None if base is None else Argument(MEMORY, size, signed, _unsigned(memory[2]), base)
    if re.fullmatch(_NUMBER, operand):
        return Argument(CONSTANT, size, signed, _unsigned(operand))
    at = _ARM.get(operand)
    return None if at is None else Argument(REGISTER, size, signed, register=at)
