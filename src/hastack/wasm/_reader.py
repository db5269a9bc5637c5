"""Reads the structure of a WebAssembly module, without its instructions.

The binary format of https://webassembly.github.io/spec/core/binary/modules.html. What the bodies
of functions hold is validated by the engine; what can make compiling them dear is counted here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from hastack._core._errors import InvalidModule

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ("Export", "Facts", "Import", "Reader", "Section", "inspect", "sections")

MAGIC: Final = b"\0asm\1\0\0\0"
COMPONENT: Final = b"\0asm\x0d\0\1\0"
KINDS: Final = ("func", "table", "memory", "global", "tag")
VALUES: Final = {
    0x7F: "i32",
    0x7E: "i64",
    0x7D: "f32",
    0x7C: "f64",
    0x7B: "v128",
    0x70: "funcref",
    0x6F: "externref",
}
# Each known section may stand once, in this order; 0 is custom, anywhere.
_ORDER: Final = {
    1: 1,
    2: 2,
    3: 3,
    4: 4,
    5: 5,
    13: 6,
    6: 7,
    7: 8,
    8: 9,
    9: 10,
    12: 11,
    10: 12,
    11: 13,
}


@attrs.frozen
class Section:
    """One section: its id, where it begins, where its payload begins and where it ends."""

    id: int
    start: int
    payload: int
    end: int
    name: str = ""
    canonical: bool = True


@attrs.frozen
class Import:
    """What a module wants from its host."""

    module: str
    name: str
    kind: str
    type: str
    """``"(i32, i32) -> i32"`` for a function; the shape in words for anything else."""

    def __str__(self) -> str:
        return f"{self.module}.{self.name}: {self.kind} {self.type}".rstrip()


@attrs.frozen
class Export:
    """What a module offers."""

    name: str
    kind: str
    type: str


@attrs.frozen(kw_only=True)
class Facts:
    """Everything about a module that can be known without compiling it.

    Attributes:
        size: Bytes of the module.
        imports: What it wants.
        exports: What it offers.
        start: Whether it has a start function.
        counts: How many of each thing, by the name of the limit for it.
        memories: Minimum and maximum of each memory in bytes; ``None`` without a maximum.
        tables: Minimum elements of each table.
        customs: Names of its custom sections.
    """

    size: int
    imports: tuple[Import, ...]
    exports: tuple[Export, ...]
    start: bool
    counts: dict[str, int]
    memories: tuple[tuple[int, int | None], ...]
    tables: tuple[int, ...]
    customs: tuple[str, ...]

    def export(self, name: str, kind: str = "func") -> Export | None:
        """The export of that name and kind, or ``None``."""
        for export in self.exports:
            if export.name == name and export.kind == kind:
                return export
        return None


class Reader:
    """A place in bytes, up to an end."""

    __slots__ = ("canonical", "data", "end", "offset")

    def __init__(self, data: bytes, offset: int, end: int) -> None:
        self.data = data
        self.offset = offset
        self.end = end
        self.canonical = True
        """Whether every number so far was written as short as it can be."""

    def bad(self, message: str) -> InvalidModule:
        """The error for what stands here."""
        return InvalidModule(message, offset=self.offset)

    def byte(self) -> int:
        """The next byte."""
        if self.offset >= self.end:
            raise self.bad("unexpected end")
        value = self.data[self.offset]
        self.offset += 1
        return value

    def number(self, bits: int = 32) -> int:
        """An unsigned LEB128 number of at most ``bits`` bits."""
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
            if shift >= bits:
                raise self.bad("number is too long")
        if value >> bits:
            raise self.bad("number is too large")
        if byte == 0 and shift > 7:
            self.canonical = False
        return value

    def signed(self, bits: int) -> None:
        """Step over a signed LEB128 number."""
        for _ in range((bits + 6) // 7):
            if self.byte() < 0x80:
                return
        raise self.bad("number is too long")

    def take(self, length: int) -> bytes:
        """The next ``length`` bytes."""
        self.skip(length)
        return self.data[self.offset - length : self.offset]

    def skip(self, length: int) -> None:
        """Step over ``length`` bytes."""
        if length > self.end - self.offset:
            raise self.bad("unexpected end")
        self.offset += length

    def name(self) -> str:
        """A name: UTF-8 behind its length."""
        raw = self.take(self.number())
        try:
            return raw.decode()
        except UnicodeDecodeError:
            raise self.bad("name is not UTF-8") from None

    def count(self) -> int:
        """Length of a vector, each element of which takes a byte at least."""
        found = self.number()
        if found > self.end - self.offset:
            raise self.bad("more elements than bytes")
        return found

    def finish(self) -> None:
        """Nothing may be left."""
        if self.offset != self.end:
            raise self.bad("bytes are left over")


def sections(data: bytes) -> tuple[Section, ...]:
    """All sections of a module, in order; the outer structure is checked.

    Raises:
        InvalidModule: It is none, or is a component.
    """
    if data[:8] == COMPONENT:
        raise InvalidModule("a component, not a core module", offset=4)
    if data[:8] != MAGIC:
        raise InvalidModule("no WebAssembly module of version 1", offset=0)
    reader = Reader(data, 8, len(data))
    found = []
    last = 0
    while reader.offset < reader.end:
        start = reader.offset
        reader.canonical = True
        number = reader.byte()
        length = reader.number()
        payload = reader.offset
        reader.skip(length)
        name = ""
        inner = Reader(data, payload, reader.offset)
        if number == 0:
            name = inner.name()
        elif number not in _ORDER:
            raise InvalidModule(f"unknown section {number}", offset=start)
        elif _ORDER[number] <= last:
            raise InvalidModule(f"section {number} twice or out of order", offset=start)
        else:
            last = _ORDER[number]
        canonical = reader.canonical and inner.canonical
        found.append(Section(number, start, inner.offset, reader.offset, name, canonical))
    return tuple(found)


def inspect(data: bytes) -> Facts:
    """What a module wants, offers and holds.

    Raises:
        InvalidModule: Its structure is broken, at the byte that is named.
    """
    return _Inspection(data).run()


def imported(data: bytes) -> tuple[str, ...]:
    """What a module imports, as ``module.name``; sorted, and nothing else of it is read.

    Raises:
        InvalidModule: It cannot be read that far.
    """
    inspection = _Inspection(data)
    for section in sections(data):
        reader = Reader(data, section.payload, section.end)
        if section.id == 1:
            inspection._types(reader)
        elif section.id == 2:
            inspection._imports(reader)
    return tuple(sorted({f"{one.module}.{one.name}" for one in inspection.imports}))


class _Inspection:
    """The facts while they are read."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.types: list[str] = []
        self.imports: list[Import] = []
        self.exports: list[tuple[str, int, int]] = []
        self.spaces: dict[str, list[str]] = {kind: [] for kind in KINDS}
        self.memories: list[tuple[int, int | None]] = []
        self.tables: list[int] = []
        self.start = False
        self.bodies = -1
        self.declared = 0
        self.counts: dict[str, int] = dict.fromkeys(
            (
                *("functions", "function_bytes", "locals", "total_locals", "types", "globals"),
                *("imports", "exports", "segments", "custom_bytes"),
            ),
            0,
        )

    def run(self) -> Facts:
        readers: dict[int, Callable[[Reader], None]] = {
            1: self._types,
            2: self._imports,
            3: self._functions,
            4: self._tables,
            5: self._memories,
            6: self._globals,
            7: self._exports,
            8: self._start,
            9: self._segments,
            10: self._code,
            11: self._segments,
        }
        customs = []
        for section in sections(self.data):
            if section.id == 0:
                customs.append(section.name)
                self.counts["custom_bytes"] += section.end - section.start
                continue
            read = readers.get(section.id)
            if read is not None:
                reader = Reader(self.data, section.payload, section.end)
                read(reader)
                if section.id not in {6, 9, 11}:  # what these hold is for the engine
                    reader.finish()
        if max(self.bodies, 0) != self.declared:
            raise InvalidModule("as many bodies as functions are expected")
        return self._facts(tuple(customs))

    def _facts(self, customs: tuple[str, ...]) -> Facts:
        exports = []
        for name, kind, index in self.exports:
            space = self.spaces[KINDS[kind]]
            if index >= len(space) and KINDS[kind] != "global":
                raise InvalidModule(f"export {name!r} of something that is not there")
            exports.append(Export(name, KINDS[kind], space[index] if index < len(space) else ""))
        self.counts["functions"] = len(self.spaces["func"])
        self.counts["imports"] = len(self.imports)
        self.counts["exports"] = len(exports)
        self.counts["types"] = len(self.types)
        return Facts(
            size=len(self.data),
            imports=tuple(self.imports),
            exports=tuple(exports),
            start=self.start,
            counts=self.counts,
            memories=tuple(self.memories),
            tables=tuple(self.tables),
            customs=customs,
        )

    def _types(self, reader: Reader) -> None:
        for _ in range(reader.count()):
            if reader.byte() != 0x60:
                raise reader.bad("only types of functions are supported")
            parameters = self._values(reader)
            results = self._values(reader)
            shown = results[0] if len(results) == 1 else f"({', '.join(results)})"
            self.types.append(f"({', '.join(parameters)}) -> {shown}")

    def _values(self, reader: Reader) -> list[str]:
        return [self._value(reader) for _ in range(reader.count())]

    def _value(self, reader: Reader) -> str:
        code = reader.byte()
        if code in {0x63, 0x64}:
            reader.signed(33)
            return "ref"
        if code not in VALUES:
            raise reader.bad(f"unknown type of value 0x{code:02x}")
        return VALUES[code]

    def _type(self, reader: Reader) -> str:
        index = reader.number()
        if index >= len(self.types):
            raise reader.bad(f"no type {index}")
        return self.types[index]

    def _imports(self, reader: Reader) -> None:
        for _ in range(reader.count()):
            module, name, kind = reader.name(), reader.name(), reader.byte()
            if kind >= len(KINDS):
                raise reader.bad(f"unknown kind of import {kind}")
            shape = self._shape(reader, kind)
            self.imports.append(Import(module, name, KINDS[kind], shape))
            self.spaces[KINDS[kind]].append(shape)

    def _shape(self, reader: Reader, kind: int) -> str:
        if kind == 0:
            return self._type(reader)
        if kind == 1:
            return self._table(reader)
        if kind == 2:
            return self._memory(reader)
        if kind == 3:
            value = self._value(reader)
            return f"mut {value}" if reader.byte() else value
        reader.byte()
        return self._type(reader)

    def _limits(self, reader: Reader) -> tuple[int, int | None, int]:
        flags = reader.byte()
        if flags > 7:
            raise reader.bad(f"unknown limits 0x{flags:02x}")
        bits = 64 if flags & 4 else 32
        least = reader.number(bits)
        return least, reader.number(bits) if flags & 1 else None, flags

    def _table(self, reader: Reader) -> str:
        value = self._value(reader)
        least, most, _ = self._limits(reader)
        self.tables.append(least)
        return f"{value} {least}..{'' if most is None else most}"

    def _memory(self, reader: Reader) -> str:
        least, most, flags = self._limits(reader)
        self.memories.append((least << 16, None if most is None else most << 16))
        words = "shared " * bool(flags & 2) + "64-bit " * bool(flags & 4)
        return f"{words}{least}..{'' if most is None else most} pages"

    def _functions(self, reader: Reader) -> None:
        self.declared = reader.count()
        for _ in range(self.declared):
            self.spaces["func"].append(self._type(reader))

    def _tables(self, reader: Reader) -> None:
        for _ in range(reader.count()):
            self.spaces["table"].append(self._table(reader))

    def _memories(self, reader: Reader) -> None:
        for _ in range(reader.count()):
            self.spaces["memory"].append(self._memory(reader))

    def _globals(self, reader: Reader) -> None:
        self.counts["globals"] = reader.count()

    def _exports(self, reader: Reader) -> None:
        seen = set()
        for _ in range(reader.count()):
            name, kind, index = reader.name(), reader.byte(), reader.number()
            if kind >= len(KINDS):
                raise reader.bad(f"unknown kind of export {kind}")
            if name in seen:
                raise reader.bad(f"export {name!r} twice")
            seen.add(name)
            self.exports.append((name, kind, index))

    def _start(self, reader: Reader) -> None:
        reader.number()
        self.start = True

    def _segments(self, reader: Reader) -> None:
        self.counts["segments"] += reader.count()

    def _code(self, reader: Reader) -> None:
        self.bodies = reader.count()
        largest = most = total = 0
        for _ in range(self.bodies):
            size = reader.number()
            body = Reader(reader.data, reader.offset, reader.offset + size)
            reader.skip(size)
            largest = max(largest, size)
            here = 0
            for _ in range(body.count()):
                here += body.number()
                self._value(body)
            most = max(most, here)
            total += here
        self.counts["function_bytes"] = largest
        self.counts["locals"] = most
        self.counts["total_locals"] = total
