"""ELF files and BTF made by hand, whole or broken in a chosen place."""

from __future__ import annotations

from dataclasses import dataclass, field
from struct import pack

KINDS = {
    name: number
    for number, name in enumerate(
        [
            "void",
            "int",
            "ptr",
            "array",
            "struct",
            "union",
            "enum",
            "fwd",
            "typedef",
            "volatile",
            "const",
            "restrict",
            "func",
            "func_proto",
            "var",
            "datasec",
            "float",
            "decl_tag",
            "type_tag",
            "enum64",
        ]
    )
}
EXIT = bytes.fromhex("b7000000000000009500000000000000")  # r0 = 0; exit


def call(number: int, source: int = 0) -> bytes:
    return pack("<BBhi", 0x85, source << 4, 0, number)


def load_address(number: int = 0) -> bytes:
    return pack("<BBhi", 0x18, 0x11, 0, number) + bytes(8)


@dataclass
class Types:
    """BTF; `add` answers the number of the new type."""

    big: bool = False
    strings: bytearray = field(default_factory=lambda: bytearray(b"\0"))
    data: bytearray = field(default_factory=bytearray)
    count: int = 0

    def pack(self, form: str, *values: int) -> bytes:
        return pack((">" if self.big else "<") + form, *values)

    def name(self, text: str) -> int:
        if not text:
            return 0
        at = len(self.strings)
        self.strings += text.encode() + b"\0"
        return at

    def add(
        self,
        kind: str | int,
        name: str = "",
        word: int = 0,
        *extra: int,
        count: int = 0,
        flag: bool = False,
        form: str = "",
    ) -> int:
        number = KINDS[kind] if isinstance(kind, str) else kind
        info = number << 24 | count | flag << 31
        self.data += self.pack("III", self.name(name), info, word)
        self.data += self.pack(form or "I" * len(extra), *extra)
        self.count += 1
        return self.count

    def int(self, name: str = "int", size: int = 4, encoding: int = 1, bits: int | None = None):
        return self.add("int", name, size, encoding << 24 | (size * 8 if bits is None else bits))

    def compound(self, kind: str, name: str, size: int, *members, bitfields: bool = False):
        words = []
        for label, type_, offset in members:
            words += [self.name(label), type_, offset]
        return self.add(kind, name, size, *words, count=len(members), flag=bitfields)

    def array(self, of: int, count: int, index: int = 1):
        return self.add("array", "", 0, of, index, count)

    def number(self, value: int, base: int = 1):
        """What ``__uint(name, value)`` makes."""
        return self.add("ptr", "", self.array(base, value))

    def build(self) -> bytes:
        head = self.pack("HBBIII", 0xEB9F, 1, 0, 24, 0, len(self.data))
        return (
            head
            + self.pack("II", len(self.data), len(self.strings))
            + bytes(self.data)
            + bytes(self.strings)
        )

    def extension(self, lines: dict[str, list] | None = None, relocations=None, core=True) -> bytes:
        parts = [b"", self._records(lines, 16), self._records(relocations, 16)]
        head = 32 if core else 24
        words, at = [], 0
        for part in parts if core else parts[:2]:
            words += [at, len(part)]
            at += len(part)
        body = b"".join(parts if core else parts[:2])
        return self.pack("HBBI", 0xEB9F, 1, 0, head) + self.pack("I" * len(words), *words) + body

    def _records(self, groups: dict[str, list] | None, size: int) -> bytes:
        if groups is None:
            return b""
        found = self.pack("I", size)
        for section, records in groups.items():
            found += self.pack("II", self.name(section), len(records))
            for record in records:
                found += self.pack("IIII", *record)
        return found


@dataclass
class Part:
    name: str
    data: bytes = b""
    type: int = 1
    flags: int = 2
    link: int = 0
    info: int = 0
    address: int = 0
    size: int | None = None


@dataclass
class Image:
    """An ELF file; sections and symbols are added in order, section 0 is the empty one."""

    big: bool = False
    type: int = 1
    machine: int = 247
    parts: list[Part] = field(default_factory=lambda: [Part("", type=0, flags=0)])
    symbols: list[tuple] = field(default_factory=lambda: [("", 0, 0, 0, 0)])
    segments: list[tuple] = field(default_factory=list)

    def pack(self, form: str, *values: int) -> bytes:
        return pack((">" if self.big else "<") + form, *values)

    def add(self, name: str, data: bytes = b"", **more) -> int:
        self.parts.append(Part(name, data, **more))
        return len(self.parts) - 1

    def code(self, name: str, data: bytes) -> int:
        return self.add(name, data, flags=6)

    def symbol(self, name: str, section: int, value: int = 0, size: int = 0, info: int = 0x12):
        self.symbols.append((name, section, value, size, info))
        return len(self.symbols) - 1

    def relocate(self, section: int, *entries: tuple[int, int], kind: int = 9) -> int:
        data = b""
        for offset, symbol in entries:
            data += self.pack("QQ", offset, symbol << 32 | 1)
            if kind == 4:
                data += self.pack("q", 0)
        return self.add(f".rel{self.parts[section].name}", data, type=kind, flags=0, info=section)

    def build(self, *, symtab: int = 2) -> bytes:
        names, spelled = bytearray(b"\0"), {}
        table = b""
        for name, section, value, size, info in self.symbols:
            spelled.setdefault(name, len(names))
            names += name.encode() + b"\0"
            table += self.pack("IBBHQQ", spelled[name], info, 0, section, value, size)
        parts = [*self.parts, Part(".symtab", table, symtab, 0, len(self.parts) + 1)]
        for part in parts:
            spelled.setdefault(part.name, len(names))
            names += part.name.encode() + b"\0"
        spelled.setdefault(".strtab", len(names))
        names += b".strtab\0"
        parts.append(Part(".strtab", bytes(names), 3, 0))
        at = 64 + 56 * len(self.segments)
        headers, body = b"", b""
        for part in parts:
            size = len(part.data) if part.size is None else part.size
            fields = (spelled[part.name], part.type, part.flags, part.address, at, size)
            headers += self.pack("IIQQQQIIQQ", *fields, part.link, part.info, 8, 0)
            body += part.data
            at += len(part.data)
        segments = b"".join(self.pack("IIQQQQQQ", *each) for each in self.segments)
        ident = b"\x7fELF\x02" + (b"\x02" if self.big else b"\x01") + b"\x01" + bytes(9)
        head = self.pack(
            "HHIQQQIHHHHHH",
            *(self.type, self.machine, 1, 0, 64 if self.segments else 0, at, 0, 64),
            *(56, len(self.segments), 64, len(parts), len(parts) - 1),
        )
        return ident + head + segments + body + headers
