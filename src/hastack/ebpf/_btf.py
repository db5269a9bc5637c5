"""BTF, the type information of eBPF objects, and what .BTF.ext says about their instructions.

Source: ``Documentation/bpf/btf.rst`` of the kernel. Every reference is checked while it is read.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import attrs

from hastack._core._errors import MalformedObject

from ._elf import structure, text_at

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ._elf import Order

__all__ = ("Btf", "CoreRelocation", "Extension", "Line", "Member", "Type", "parse", "parse_ext")

_MAGIC = 0xEB9F
_NESTING = 64  # what C programs do not exceed; deeper is a loop
_KINDS = (
    *("void", "int", "ptr", "array", "struct", "union", "enum", "fwd", "typedef", "volatile"),
    *("const", "restrict", "func", "func_proto", "var", "datasec", "float", "decl_tag"),
    *("type_tag", "enum64"),
)
# Kinds whose third word is a type and not a size.
_REFERS = frozenset(
    (
        *("ptr", "typedef", "volatile", "const", "restrict", "func", "func_proto", "var"),
        *("decl_tag", "type_tag"),
    )
)
# What a type is wrapped in without becoming another one.
_WRAPS = frozenset(("typedef", "volatile", "const", "restrict", "type_tag"))
_CORE_KINDS = (
    *("field_byte_offset", "field_byte_size", "field_exists", "field_signed", "field_lshift_u64"),
    *("field_rshift_u64", "type_id_local", "type_id_target", "type_exists", "type_size"),
    *("enumval_exists", "enumval_value", "type_matches"),
)


@attrs.frozen
class Member:
    """A member of a struct or union, a parameter, or a variable of a section.

    ``offset`` counts bits in structs and bytes in sections; ``bits`` is 0 unless it is a bitfield.
    """

    name: str
    type: int
    offset: int = 0
    bits: int = 0
    size: int = 0


@attrs.frozen
class Type:
    """One BTF type; which of the fields mean something depends on ``kind``."""

    id: int
    kind: str
    name: str = ""
    size: int = 0
    target: int = 0
    members: tuple[Member, ...] = ()
    values: tuple[tuple[str, int], ...] = ()
    count: int = 0
    index: int = 0
    bits: int = 0
    signed: bool = False
    boolean: bool = False
    linkage: int = 0


@attrs.frozen
class Btf:
    """All types of an object. Type 0 is ``void``."""

    types: tuple[Type, ...] = attrs.field(repr=False)

    def __len__(self) -> int:
        return len(self.types)

    def find(self, name: str, *kinds: str) -> Type | None:
        """The first type of that name, and of one of ``kinds`` if any are given."""
        for each in self.types:
            if each.name == name and (not kinds or each.kind in kinds):
                return each
        return None

    def resolve(self, number: int) -> Type:
        """The type behind typedefs and qualifiers."""
        each = self.types[number]
        for _ in range(_NESTING):
            if each.kind not in _WRAPS:
                return each
            each = self.types[each.target]
        raise MalformedObject("refers to itself", where=f"BTF type {number}")

    def size_of(self, number: int, *, _depth: int = 0) -> int:
        """Bytes that a value of the type takes; 0 for void and functions."""
        each = self.resolve(number)
        if each.kind == "ptr":
            return 8
        if each.kind in {"var", "array"}:
            if _depth > _NESTING:
                raise MalformedObject("contains itself", where=f"BTF type {number}")
            inner = self.size_of(each.target, _depth=_depth + 1)
            return inner * each.count if each.kind == "array" else inner
        return each.size

    def spell(self, number: int, *, _depth: int = 0) -> str:
        """The type in C's words, shortened: ``const struct event *``, ``__u32 [4]``."""
        each = self.types[number]
        if _depth > _NESTING:
            return "..."
        if each.kind in {"struct", "union", "enum", "fwd", "enum64"}:
            word = {"enum64": "enum", "fwd": "struct"}.get(each.kind, each.kind)
            return f"{word} {each.name or '{...}'}"
        if each.kind in {"ptr", "array", "const", "volatile", "restrict", "type_tag"}:
            inner = self.spell(each.target, _depth=_depth + 1)
            return {
                "ptr": f"{inner} *",
                "array": f"{inner} [{each.count}]",
                "type_tag": inner,
            }.get(each.kind, f"{each.kind} {inner}")
        return each.name or each.kind


def parse(data: memoryview, order: Order) -> Btf:
    """Read a ``.BTF`` section.

    Raises:
        MalformedObject: It is cut off, or a type is of no known kind or refers to one that is not
            there.
    """
    header = structure(order, "HBBIIIII")
    types, strings = _parts(data, header.size, order, 2)
    found = [Type(0, "void", "void")]
    reader = _Reader(types, strings, order)
    while not reader.done:
        found.append(reader.type(len(found)))
    _check_references(found)
    return Btf(tuple(found))


def _parts(data: memoryview, least: int, order: Order, count: int) -> list[memoryview]:
    """Parts of a section whose offsets and lengths follow its magic, version and header length."""
    if len(data) < least:
        raise MalformedObject("cut off", where="BTF header")
    magic, version, _, length = structure(order, "HBBI").unpack_from(data)
    if magic != _MAGIC or version != 1 or not least <= length <= len(data):
        raise MalformedObject("not BTF version 1", where="BTF header")
    words = structure(order, "I" * 2 * count).unpack_from(data, 8)
    parts = []
    for offset, size in zip(words[::2], words[1::2], strict=True):
        if length + offset + size > len(data):
            raise MalformedObject("reaches past the end", where="BTF header")
        parts.append(data[length + offset : length + offset + size])
    return parts


class _Reader:
    """Walks over the types of a section."""

    def __init__(self, types: memoryview, strings: memoryview, order: Order) -> None:
        self._data = types
        self._strings = strings
        self._order: Order = order
        self._at = 0

    @property
    def done(self) -> bool:
        return self._at >= len(self._data)

    def _take(self, fields: str, count: int = 1) -> list[tuple[int, ...]]:
        record = structure(self._order, fields)
        end = self._at + record.size * count
        if end > len(self._data):
            raise MalformedObject("cut off", where=".BTF types")
        found = list(record.iter_unpack(self._data[self._at : end]))
        self._at = end
        return found

    def _name(self, offset: int) -> str:
        return text_at(self._strings, offset, where=".BTF strings")

    def type(self, number: int) -> Type:
        ((name, info, word),) = self._take("III")
        kind, many, flag = info >> 24 & 0x1F, info & 0xFFFF, bool(info >> 31)
        if not 0 < kind < len(_KINDS):
            raise MalformedObject(f"unknown kind {kind}", where=f"BTF type {number}")
        refers = _KINDS[kind] in _REFERS
        size, target = (0, word) if refers else (word, 0)
        each = Type(number, _KINDS[kind], self._name(name), size=size, target=target)
        change: dict[str, Any] = {}
        match each.kind:
            case "int":
                ((data,),) = self._take("I")
                encoding = data >> 24 & 15
                change = {"bits": data & 0xFF, "signed": bool(encoding & 1)}
                change["boolean"] = bool(encoding & 4)
            case "array":
                ((target, index, count),) = self._take("III")
                change = {"target": target, "index": index, "count": count}
            case "struct" | "union":
                change = {"members": tuple(self._members(many, bitfields=flag))}
            case "enum":
                pairs = self._take("Ii" if flag else "II", many)
                values = tuple((self._name(n), value) for n, value in pairs)
                change = {"values": values, "signed": flag}
            case "enum64":
                change = {"values": tuple(self._values64(many, signed=flag)), "signed": flag}
            case "func":
                change = {"linkage": many}
            case "func_proto":
                pairs = self._take("II", many)
                change = {"members": tuple(Member(self._name(n), kind) for n, kind in pairs)}
            case "var":
                ((linkage,),) = self._take("I")
                change = {"linkage": linkage}
            case "datasec":
                records = self._take("III", many)
                change = {
                    "members": tuple(Member("", kind, at, 0, size) for kind, at, size in records)
                }
            case "decl_tag":
                ((component,),) = self._take("i")
                change = {"index": component}
        return attrs.evolve(each, **change)

    def _members(self, count: int, *, bitfields: bool) -> Iterator[Member]:
        for name, kind, offset in self._take("III", count):
            if bitfields:
                yield Member(self._name(name), kind, offset & 0xFFFFFF, offset >> 24)
            else:
                yield Member(self._name(name), kind, offset)

    def _values64(self, count: int, *, signed: bool) -> Iterator[tuple[str, int]]:
        for name, low, high in self._take("III", count):
            value = high << 32 | low
            yield self._name(name), value - (1 << 64) if signed and high >> 31 else value


def _check_references(types: list[Type]) -> None:
    for each in types:
        named = [each.target, each.index if each.kind == "array" else 0]
        for number in (*named, *(member.type for member in each.members)):
            if number >= len(types):
                raise MalformedObject(f"refers to type {number}", where=f"BTF type {each.id}")


@attrs.frozen
class CoreRelocation:
    """A place that the loader changes to fit the running kernel's types (CO-RE)."""

    section: str
    offset: int
    kind: str
    type: str
    access: str


@attrs.frozen
class Line:
    """The line of the source that an instruction comes from."""

    offset: int
    file: str
    text: str
    number: int
    column: int

    def __str__(self) -> str:
        return f"{self.file.rpartition('/')[2]}:{self.number}: {self.text.strip()}"


@attrs.frozen
class Extension:
    """What ``.BTF.ext`` says: lines by section, and the CO-RE relocations."""

    lines: dict[str, tuple[Line, ...]] = attrs.field(factory=dict, repr=False)
    relocations: tuple[CoreRelocation, ...] = ()


def parse_ext(data: memoryview, btf: Btf, strings: memoryview, order: Order) -> Extension:
    """Read a ``.BTF.ext`` section.

    Args:
        data: The section.
        btf: Types that it refers to.
        strings: The string part of ``.BTF``, which it shares.
        order: Byte order of the file.
    """
    # Older compilers write no CO-RE part.
    try:
        (length,) = structure(order, "I").unpack_from(data, 4)
    except struct.error:
        raise MalformedObject("cut off", where=".BTF.ext") from None
    parts = _parts(data, 32 if length >= 32 else 24, order, 3 if length >= 32 else 2)
    lines: dict[str, tuple[Line, ...]] = {}
    for section, records in _by_section(parts[1], strings, order, "IIII"):
        lines[section] = tuple(
            Line(
                offset,
                text_at(strings, file, where=".BTF.ext lines"),
                text_at(strings, text, where=".BTF.ext lines"),
                place >> 10,
                place & 0x3FF,
            )
            for offset, file, text, place in records
        )
    found: list[CoreRelocation] = []
    for section, records in _by_section(parts[2], strings, order, "IIII") if parts[2:] else ():
        for offset, number, access, kind in records:
            if number >= len(btf) or kind >= len(_CORE_KINDS):
                raise MalformedObject("CO-RE relocation of no known type", where=section)
            path = text_at(strings, access, where=".BTF.ext relocations")
            spelled = btf.spell(number)
            named = _access(btf, number, path, _CORE_KINDS[kind])
            found.append(CoreRelocation(section, offset, _CORE_KINDS[kind], spelled, named))
    return Extension(lines, tuple(found))


def strings_of(data: memoryview, order: Order) -> memoryview:
    """The string part of a ``.BTF`` section that `parse` has accepted."""
    return _parts(data, 24, order, 2)[1]


def _by_section(
    part: memoryview, strings: memoryview, order: Order, fields: str
) -> Iterator[tuple[str, list[tuple[int, ...]]]]:
    """Records of a part, each group with the name of its section."""
    record, group = structure(order, fields), structure(order, "II")
    if not len(part):
        return
    if len(part) < 4:
        raise MalformedObject("cut off", where=".BTF.ext")
    (size,) = structure(order, "I").unpack_from(part)
    at = 4
    while at < len(part):
        if at + group.size > len(part):
            raise MalformedObject("cut off", where=".BTF.ext")
        name, count = group.unpack_from(part, at)
        at += group.size
        # A newer compiler may write longer records: what follows our fields is passed over.
        if size < record.size or at + size * count > len(part):
            raise MalformedObject(f"{count} records of {size} bytes", where=".BTF.ext")
        records = [record.unpack_from(part, at + n * size) for n in range(count)]
        yield text_at(strings, name, where=".BTF.ext"), records
        at += size * count


def _access(btf: Btf, number: int, path: str, kind: str) -> str:
    """``0:1:2`` in words: names of the members on the way."""
    try:
        steps = [int(step) for step in path.split(":")]
    except ValueError:
        raise MalformedObject(f"access {path!r}", where=".BTF.ext relocations") from None
    each = btf.resolve(number)
    if kind.startswith("enumval"):
        return each.values[steps[0]][0] if 0 <= steps[0] < len(each.values) else path
    words = f"[{steps[0]}]" if steps[0] else ""
    for step in steps[1:]:
        if each.kind == "array":
            words += f"[{step}]"
            each = btf.resolve(each.target)
        elif 0 <= step < len(each.members):
            words += f".{each.members[step].name or step}"
            each = btf.resolve(each.members[step].type)
        else:
            raise MalformedObject(f"access {path!r}", where=".BTF.ext relocations")
    return words.lstrip(".")


def number_of_function(data: memoryview, name: str, order: Order) -> int:
    """The number of a function in BTF as large as the kernel's; 0 when it is not there.

    Only as much is looked at as it takes to walk over the types.
    """
    types, strings = _parts(data, 24, order, 2)
    spelled = bytes(strings).find(b"\0" + name.encode() + b"\0") + 1
    if not spelled:
        return 0
    head = structure(order, "III")
    at, number = 0, 0
    while at + 12 <= len(types):
        number += 1
        offset, info, _ = head.unpack_from(types, at)
        kind = info >> 24 & 0x1F
        if kind == 12 and offset == spelled:
            return number
        each, fixed = _EXTRA.get(kind, (0, 0))
        at += 12 + fixed + each * (info & 0xFFFF)
    return 0


# Kind -> bytes per member, and bytes once, that follow the three words of every type.
_EXTRA = {1: (0, 4), 3: (0, 12), 4: (12, 0), 5: (12, 0), 6: (8, 0), 13: (8, 0), 14: (0, 4)}
_EXTRA |= {15: (12, 0), 17: (0, 4), 19: (12, 0)}
