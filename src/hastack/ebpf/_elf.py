"""ELF files as far as eBPF needs them: sections, symbols and relocations of 64-bit files.

Everything is checked while it is read: whatever is not exactly such a file is `MalformedObject`.
Source: System V ABI, chapters 4 and 5 (object files, program loading); the relocation types are in
``Documentation/bpf/llvm_reloc.rst`` of the kernel.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Literal

import attrs

from hastack._core._errors import MalformedObject

if TYPE_CHECKING:
    from collections.abc import Iterator

    Order = Literal["little", "big"]

__all__ = ("Elf", "Relocation", "Section", "Symbol", "parse", "structure", "text_at")

EM_BPF = 247
ET_REL = 1
SHT_SYMTAB, SHT_RELA, SHT_NOBITS, SHT_REL, SHT_DYNSYM = 2, 4, 8, 9, 11
SHF_EXECINSTR = 4
STT_OBJECT, STT_FUNC, STT_SECTION = 1, 2, 3
STB_LOCAL, STV_HIDDEN = 0, 2
PT_LOAD = 1
_RESERVED = 0xFF00  # section numbers from here on mean "absolute", "common" and the like

_HEADER = "HHIQQQIHHHHHH"
_SECTION = "IIQQQQIIQQ"
_SYMBOL = "IBBHQQ"
_SEGMENT = "IIQQQQQQ"


@attrs.frozen
class Section:
    """A section: its header and, unless it has none in the file, its bytes."""

    index: int
    name: str
    type: int
    flags: int
    address: int
    offset: int
    size: int
    link: int
    info: int
    data: memoryview = attrs.field(repr=False, eq=False)

    @property
    def executable(self) -> bool:
        """Whether it holds instructions."""
        return bool(self.flags & SHF_EXECINSTR)


@attrs.frozen
class Symbol:
    """A name for a place in a section."""

    name: str
    value: int
    size: int
    type: int
    binding: int
    visibility: int
    section: int


@attrs.frozen
class Relocation:
    """A place in a section that depends on a symbol."""

    offset: int
    type: int
    symbol: Symbol
    addend: int = 0


@attrs.frozen
class Segment:
    """A part of the file that is mapped into memory."""

    type: int
    flags: int
    offset: int
    address: int
    file_size: int


@attrs.frozen
class Elf:
    """An ELF file that was read."""

    order: Order
    type: int
    machine: int
    sections: tuple[Section, ...]
    symbols: tuple[Symbol, ...] = attrs.field(repr=False)
    segments: tuple[Segment, ...] = attrs.field(repr=False)

    def section(self, name: str) -> Section | None:
        """The first section of that name."""
        return next((each for each in self.sections if each.name == name), None)

    def relocations(self, section: Section) -> tuple[Relocation, ...]:
        """What in ``section`` depends on symbols, in the order of the file."""
        found: list[Relocation] = []
        for table in self.sections:
            if table.info == section.index and table.type in {SHT_REL, SHT_RELA}:
                found += self._table(table)
        return tuple(found)

    def _table(self, table: Section) -> Iterator[Relocation]:
        record = structure(self.order, "QQq" if table.type == SHT_RELA else "QQ")
        if table.size % record.size:
            raise MalformedObject("no whole number of relocations", where=table.name)
        for offset, info, *addend in record.iter_unpack(table.data):
            number = info >> 32
            if number >= len(self.symbols):
                raise MalformedObject(f"relocation to symbol {number}", where=table.name)
            yield Relocation(offset, info & 0xFFFFFFFF, self.symbols[number], *addend)


def structure(order: Order, fields: str) -> Struct:
    """A packed record in the byte order of the file."""
    return Struct(("<" if order == "little" else ">") + fields)


def text_at(data: memoryview, offset: int, *, where: str) -> str:
    """The string that starts at ``offset`` and ends with a zero byte."""
    if 0 <= offset < len(data):
        piece = bytes(data[offset : offset + 4096])  # names are short; a long one ends here
        end = piece.find(b"\0")
        if end >= 0:
            return piece[:end].decode("utf-8", "backslashreplace")
    raise MalformedObject(f"no string at offset {offset}", where=where)


def parse(content: bytes | memoryview, *, bpf: bool = True) -> Elf:
    """Read an ELF file.

    Args:
        content: The whole file.
        bpf: Only accept relocatable files for eBPF; else executables and libraries as well.

    Raises:
        MalformedObject: It is something else.
    """
    data = memoryview(content)
    order = _identify(data)
    fields = _unpack(order, _HEADER, data, 16, "ELF header")
    kind, machine, _, _, phoff, shoff, _, _, phsize, phnum, shsize, shnum, names = fields
    if bpf and (kind != ET_REL or machine not in {0, EM_BPF}):
        raise MalformedObject(
            f"an ELF file for machine {machine}, type {kind}; an eBPF object is "
            f"relocatable (type 1) and for machine {EM_BPF}"
        )
    headers = _records(order, _SECTION, data, shoff, shsize, shnum, "section headers")
    sections = _named(data, headers, names)
    segments = _records(order, _SEGMENT, data, phoff, phsize, phnum, "program headers")
    return Elf(
        order,
        kind,
        machine,
        sections,
        _symbols(order, sections),
        tuple(Segment(s[0], s[1], s[2], s[3], s[5]) for s in segments),
    )


def _identify(data: memoryview) -> Order:
    if bytes(data[:4]) != b"\x7fELF":
        raise MalformedObject("not an ELF file", where="ELF header")
    if len(data) < 16 or data[4] != 2 or data[5] not in {1, 2}:
        raise MalformedObject("not a 64-bit ELF file", where="ELF header")
    return "little" if data[5] == 1 else "big"


def _unpack(
    order: Order, fields: str, data: memoryview, offset: int, where: str
) -> tuple[int, ...]:
    record = structure(order, fields)
    if offset + record.size > len(data):
        raise MalformedObject("cut off", where=where)
    return record.unpack_from(data, offset)


def _records(
    order: Order, fields: str, data: memoryview, offset: int, size: int, count: int, where: str
) -> list[tuple[int, ...]]:
    if count and size != structure(order, fields).size:
        raise MalformedObject(f"records of {size} bytes", where=where)
    return [_unpack(order, fields, data, offset + n * size, where) for n in range(count)]


def _named(data: memoryview, headers: list[tuple[int, ...]], names: int) -> tuple[Section, ...]:
    plain = [_section(data, n, fields) for n, fields in enumerate(headers)]
    if not plain:
        return ()
    if names >= len(plain):
        raise MalformedObject(f"names in section {names}", where="ELF header")
    table = plain[names].data
    return tuple(
        attrs.evolve(section, name=text_at(table, headers[n][0], where=f"section {n}"))
        for n, section in enumerate(plain)
    )


def _section(data: memoryview, index: int, fields: tuple[int, ...]) -> Section:
    _, kind, flags, address, offset, size, link, info, _, _ = fields
    inside = data[:0]
    if kind not in {0, SHT_NOBITS}:
        if offset + size > len(data):
            raise MalformedObject("reaches past the end of the file", where=f"section {index}")
        inside = data[offset : offset + size]
    return Section(index, "", kind, flags, address, offset, size, link, info, inside)


def _symbols(order: Order, sections: tuple[Section, ...]) -> tuple[Symbol, ...]:
    # An object has .symtab; a stripped executable only .dynsym.
    tables = [s for kind in (SHT_SYMTAB, SHT_DYNSYM) for s in sections if s.type == kind]
    if not tables:
        return ()
    table = tables[0]
    record = structure(order, _SYMBOL)
    if table.size % record.size or table.link >= len(sections):
        raise MalformedObject("not a symbol table", where=table.name)
    names = sections[table.link].data
    found = []
    for name, info, other, section, value, size in record.iter_unpack(table.data):
        if len(sections) <= section < _RESERVED:
            raise MalformedObject(f"symbol in section {section}", where=table.name)
        text = text_at(names, name, where=table.name)
        found.append(Symbol(text, value, size, info & 15, info >> 4, other & 3, section))
    return tuple(found)
