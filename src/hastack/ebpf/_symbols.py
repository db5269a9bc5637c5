"""Where in an executable or library a function starts, as uprobes want it: an offset in the file."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from hastack._core._errors import InvalidArgument

from . import _elf

if TYPE_CHECKING:
    from ._elf import Elf

__all__ = ("file_offset", "is_go", "split_target")

_TARGET = re.compile(
    r"^(?P<path>.+):(?P<symbol>[^:+]+|0x[0-9a-fA-F]+)(?:\+(?P<add>0x[\da-f]+|\d+))?$"
)


def split_target(target: str) -> tuple[str, str, int] | None:
    """``"/bin/x:main+4"`` as path, symbol and offset; ``None`` when it is no such thing."""
    found = _TARGET.match(target)
    if found is None:
        return None
    return found["path"], found["symbol"], int(found["add"] or "0", 0)


def is_go(content: bytes | memoryview) -> bool:
    """Whether a program was built by Go, which moves its stacks."""
    names = {section.name for section in _elf.parse(content, bpf=False).sections}
    return bool(names & {".gopclntab", ".go.buildinfo"})


def file_offset(content: bytes | memoryview, symbol: str) -> int:
    """The offset in the file of a function.

    Args:
        content: The whole file.
        symbol: Its name, or its address as a number.

    Raises:
        InvalidArgument: There is no such function.
        MalformedObject: The file is no ELF file.
    """
    elf = _elf.parse(content, bpf=False)
    if symbol[:1].isdigit():
        return int(symbol, 0)
    addresses = {s.value for s in _functions(elf) if s.name == symbol and s.section}
    if not addresses:
        raise InvalidArgument("symbol", symbol, "a function of that file")
    if len(addresses) > 1:
        places = ", ".join(hex(each) for each in sorted(addresses))
        raise InvalidArgument("symbol", symbol, f"a name of one function; there are {places}")
    return _in_file(elf, addresses.pop(), symbol)


def _functions(elf: Elf) -> list[_elf.Symbol]:
    return [s for s in elf.symbols if s.type == _elf.STT_FUNC]


def _in_file(elf: Elf, address: int, symbol: str) -> int:
    for segment in elf.segments:
        inside = segment.address <= address < segment.address + segment.file_size
        if segment.type == _elf.PT_LOAD and inside:
            return address - segment.address + segment.offset
    raise InvalidArgument("symbol", symbol, "a function that the file holds")
