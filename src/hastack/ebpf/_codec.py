"""Python values from the bytes of C types and back, as an object's BTF describes them.

A codec is made once per type. For structs it generates a function that unpacks all members with one
`struct.Struct` call, so that a value costs one call and not one per member.

| C | Python |
|---|---|
| integer, pointer, ``_Bool``, ``float`` | ``int``, ``int``, ``bool``, ``float`` |
| bitfield | ``int`` |
| ``enum`` | a generated ``IntEnum``; a value without a name stays an ``int`` |
| ``char [n]`` | ``str`` up to the first zero byte; bytes that are no UTF-8 come as surrogates |
| ``unsigned char [n]`` | ``bytes`` |
| other arrays | ``tuple`` |
| ``struct`` | a generated ``NamedTuple`` |
| ``union`` | a generated ``NamedTuple``: every member read from the same bytes |
"""

from __future__ import annotations

import keyword
import struct
import sys
from collections import namedtuple
from collections.abc import Mapping, Sequence
from enum import IntEnum
from struct import Struct
from typing import TYPE_CHECKING, Any, TypeAlias

from hastack._core._errors import InvalidArgument, MalformedObject

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._btf import Btf, Member, Type
    from ._elf import Order

__all__ = ("BytesCodec", "Codec", "codec_of", "index_codec", "record")

Buffer: TypeAlias = bytes | bytearray | memoryview

_INTEGERS = {1: "b", 2: "h", 4: "i", 8: "q"}
_DEPTH = 32
_LARGEST = 1 << 26  # bytes; the kernel's own limit for a value is below that
_MOST_ITEMS = 1 << 16


class Codec:
    """How values of one C type are read and written.

    Args:
        spelling: The type in C's words.
        size: Bytes that a value takes.
    """

    fields: tuple[str, ...] = ()
    """Names of the members of a struct or union."""
    row_items: tuple[tuple[str, int, int], ...] = ()
    """The same, item by item: its format, its offset and its size."""
    row_format: str | None = None
    """What `struct.Struct` needs to read a value as plain items, one per member; ``None`` when that
    takes more than one call."""

    def __init__(self, spelling: str, size: int) -> None:
        self.spelling = spelling
        self.size = size

    def __repr__(self) -> str:
        return f"<{self.spelling}, {self.size} bytes>"

    @property
    def layout(self) -> str:
        """What two types must have in common for one to read what the other has written."""
        return f"{self.row_format or 'bytes'}/{self.size}"

    def decode(self, data: Buffer, offset: int = 0) -> Any:
        """The value whose bytes start at ``offset``."""
        raise NotImplementedError

    def _encode(self, value: Any, where: str) -> bytes:
        raise NotImplementedError

    def decode_many(self, data: Buffer, count: int) -> Sequence[Any]:
        """Values that lie one after the other."""
        size, decode = self.size, self.decode
        return [decode(data, n * size) for n in range(count)]

    def encode_many(self, values: Sequence[Any], *, name: str = "value") -> bytes:
        """The bytes of many values, one after the other."""
        encode = self.encode
        return b"".join([encode(value, name=name) for value in values])

    def encoder(self, name: str) -> Callable[[Any], bytes]:
        """`encode` for values that the error calls ``name``, as fast as it can be."""
        encode = self.encode
        return lambda value: encode(value, name=name)

    def encode(self, value: Any, *, name: str = "value") -> bytes:
        """The bytes of a value; bytes of the right length are taken as they are.

        Raises:
            InvalidArgument: The value does not fit; the error names the member.
        """
        if isinstance(value, (bytes, bytearray, memoryview)) and len(value) == self.size:
            return bytes(value)
        return self._encode(value, name)


class BytesCodec(Codec):
    """Values of which nothing is known but their size."""

    def decode(self, data: Buffer, offset: int = 0) -> bytes:
        return bytes(data[offset : offset + self.size])

    def _encode(self, value: Any, where: str) -> bytes:
        raise InvalidArgument(where, value, f"{self.size} bytes")


class _Scalar(Codec):
    def __init__(self, spelling: str, order: Order, form: str) -> None:
        self._struct = record(form, order)
        self._order: Order = order
        super().__init__(spelling, self._struct.size)
        self.row_format = form

    def decode(self, data: Buffer, offset: int = 0) -> Any:
        return self._struct.unpack_from(data, offset)[0]

    def _encode(self, value: Any, where: str) -> bytes:
        try:
            return self._struct.pack(value)
        except (struct.error, OverflowError, TypeError):
            raise InvalidArgument(where, value, f"a value of {self.spelling}") from None

    def decode_many(self, data: Buffer, count: int) -> Sequence[Any]:
        if type(self) is not _Scalar:  # enums have names to find
            return super().decode_many(data, count)
        return record(f"{count}{self.row_format}", self._order).unpack_from(data)

    def encode_many(self, values: Sequence[Any], *, name: str = "value") -> bytes:
        try:
            return record(f"{len(values)}{self.row_format}", self._order).pack(*values)
        except (struct.error, OverflowError, TypeError):
            return super().encode_many(values, name=name)  # which finds the one that does not fit

    def encoder(self, name: str) -> Callable[[Any], bytes]:
        pack, encode = self._struct.pack, self.encode

        def encoder(value: Any) -> bytes:
            try:
                return pack(value)
            except (struct.error, OverflowError, TypeError):
                return encode(value, name=name)

        return encoder


class _Wide(Codec):
    """Integers of 16 bytes, which `struct` does not know."""

    def __init__(self, spelling: str, order: Order, size: int, *, signed: bool) -> None:
        super().__init__(spelling, size)
        self._order: Order = order
        self._signed = signed

    def decode(self, data: Buffer, offset: int = 0) -> int:
        piece = data[offset : offset + self.size]
        return int.from_bytes(piece, self._order, signed=self._signed)

    def _encode(self, value: Any, where: str) -> bytes:
        try:
            return int(value).to_bytes(self.size, self._order, signed=self._signed)
        except (OverflowError, TypeError, ValueError):
            raise InvalidArgument(where, value, f"a value of {self.spelling}") from None


class _Enum(_Scalar):
    def __init__(self, spelling: str, order: Order, form: str, each: Type) -> None:
        super().__init__(spelling, order, form)
        names = {_identifier(name): value for name, value in each.values}
        members: Any = IntEnum(_identifier(each.name or "enum"), names) if names else None
        self.members = members
        self._by_value: dict[int, Any] = {} if members is None else members._value2member_map_
        self._by_name: dict[str, int] = dict(each.values)

    def decode(self, data: Buffer, offset: int = 0) -> Any:
        value = self._struct.unpack_from(data, offset)[0]
        return self._by_value.get(value, value)

    def _encode(self, value: Any, where: str) -> bytes:
        if isinstance(value, str):
            if value not in self._by_name:
                raise InvalidArgument(where, value, f"one of {', '.join(self._by_name)}")
            value = self._by_name[value]
        return super()._encode(value, where)


class _Text(Codec):
    """``char [n]``."""

    def __init__(self, spelling: str, size: int) -> None:
        super().__init__(spelling, size)
        self.row_format = f"{size}s"

    def decode(self, data: Buffer, offset: int = 0) -> str:
        return _text(bytes(data[offset : offset + self.size]))

    def _encode(self, value: Any, where: str) -> bytes:
        raw = value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value
        if not isinstance(raw, bytes) or len(raw) > self.size:
            raise InvalidArgument(where, value, f"text of at most {self.size} bytes")
        return raw.ljust(self.size, b"\0")


class _Octets(BytesCodec):
    """``unsigned char [n]``."""

    def __init__(self, spelling: str, size: int) -> None:
        super().__init__(spelling, size)
        self.row_format = f"{size}s"


class _Array(Codec):
    def __init__(self, spelling: str, inner: Codec, count: int, order: Order) -> None:
        super().__init__(spelling, inner.size * count)
        self.inner = inner
        self.count = count
        self._struct = None
        if type(inner) is _Scalar:
            self._struct = record(f"{count}{inner.row_format}", order)

    @property
    def layout(self) -> str:
        return f"[{self.count}]{self.inner.layout}"

    def decode(self, data: Buffer, offset: int = 0) -> tuple[Any, ...]:
        if self._struct is not None:
            return self._struct.unpack_from(data, offset)
        size, decode = self.inner.size, self.inner.decode
        return tuple(decode(data, offset + n * size) for n in range(self.count))

    def _encode(self, value: Any, where: str) -> bytes:
        if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != self.count:
            raise InvalidArgument(where, value, f"a sequence of {self.count}")
        encode = self.inner.encode
        return b"".join(encode(each, name=f"{where}[{n}]") for n, each in enumerate(value))


class _Compound(Codec):
    """Structs and unions: members by name, at an offset each."""

    def __init__(self, spelling: str, size: int, name: str, parts: list[_Part]) -> None:
        super().__init__(spelling, size)
        self.parts = tuple(parts)
        self.fields = tuple(part.name for part in parts)
        named: Any = namedtuple  # noqa: PYI024  # the members are only known at run time
        make = named(_identifier(name or "anonymous"), self.fields)
        make.__module__ = __name__
        self.make = make

    @property
    def layout(self) -> str:
        members = (f"{p.name}@{p.start}.{p.shift}.{p.bits}:{p.codec.layout}" for p in self.parts)
        return f"{{{', '.join(members)}}}/{self.size}"

    def _members(self, value: Any, where: str) -> dict[str, Any]:
        if isinstance(value, Mapping):
            given = dict(value)
        elif isinstance(value, Sequence) and not isinstance(value, (str, bytes, bytearray)):
            if len(value) != len(self.fields):
                raise InvalidArgument(where, value, f"{len(self.fields)} values")
            given = dict(zip(self.fields, value, strict=True))
        else:
            raise InvalidArgument(where, value, f"{self.spelling}: a mapping or a sequence")
        unknown = set(given) - set(self.fields)
        if unknown:
            name = min(map(str, unknown))
            accepted = ", ".join(self.fields)
            raise InvalidArgument(f"{where}.{name}", given.get(name), f"one of {accepted}")
        return given

    def _write(self, given: dict[str, Any], where: str) -> bytes:
        room = bytearray(self.size)
        for part in self.parts:
            if part.name in given:
                part.put(room, given[part.name], f"{where}.{part.name}")
        return bytes(room)


class _Union(_Compound):
    def decode(self, data: Buffer, offset: int = 0) -> Any:
        return self.make(*(part.take(data, offset) for part in self.parts))

    def _encode(self, value: Any, where: str) -> bytes:
        # What was decoded is written back by the first member that covers the whole union.
        if isinstance(value, tuple) and len(value) == len(self.fields) > 1:
            whole = [part for part in self.parts if part.codec.size == self.size]
            if whole:
                value = {whole[0].name: getattr(value, whole[0].name, value[0])}
        given = self._members(value, where)
        if len(given) > 1:
            raise InvalidArgument(where, value, "one member of the union")
        return self._write(given, where)


class _Struct(_Compound):
    def __init__(
        self, spelling: str, size: int, name: str, parts: list[_Part], order: Order
    ) -> None:
        super().__init__(spelling, size, name, parts)
        self._order: Order = order
        # A value from the plain items that `row_format` unpacks, where there is one.
        self.from_row: Callable[[tuple[Any, ...]], Any] = tuple
        self.decode = self._compile()  # type: ignore[method-assign, assignment]  # generated for this type
        self.row_format = self._row_format()
        if self.row_format is not None:
            self.row_items = tuple(
                ((p.codec.row_format or "s")[-1], p.start, p.codec.size) for p in parts
            )

    def _layout(self) -> tuple[str, list[str], dict[str, Any]] | None:
        """Format, one expression per member, and the names they use; ``None`` if members overlap."""
        form, at = "", 0
        expressions: list[str] = []
        scope: dict[str, Any] = {"make": self.make, "text": _text}
        for number, part in enumerate(self.parts):
            codec, start = part.codec, part.start
            if part.bits or start < at:
                return None
            form += f"{start - at}x" if start > at else ""
            at = start + codec.size
            piece = f"v[{number}]"
            if isinstance(codec, (_Scalar, _Text, _Octets)):
                form += codec.row_format or ""
            else:
                form += f"{codec.size}s"
            if isinstance(codec, _Text):
                piece = f"text({piece})"
            elif isinstance(codec, _Enum):
                scope[f"e{number}"] = codec._by_value.get
                piece = f"e{number}({piece}, {piece})"
            elif not isinstance(codec, (_Scalar, _Octets)):
                scope[f"d{number}"] = codec.decode
                piece = f"d{number}({piece})"
            expressions.append(piece)
        return form + (f"{self.size - at}x" if self.size > at else ""), expressions, scope

    def _compile(self) -> Callable[[Buffer, int], Any]:
        layout = self._layout()
        if layout is None:
            make, parts = self.make, self.parts

            def decode(data: Buffer, offset: int = 0) -> Any:
                return make(*[part.take(data, offset) for part in parts])

            return decode
        form, expressions, scope = layout
        scope |= {"unpack": record(form, self._order).unpack_from, "new": tuple.__new__}
        plain = all(piece == f"v[{n}]" for n, piece in enumerate(expressions))
        value = "new(make, v)" if plain else f"new(make, ({', '.join(expressions)},))"
        lines = (
            "def decode(data, offset=0):",
            "    v = unpack(data, offset)",
            f"    return {value}",
            "def from_row(v):",
            f"    return {value}",
        )
        # The text holds numbers and fixed words only; no name from the object gets into it.
        exec("\n".join(lines), scope)  # noqa: S102
        self.from_row = scope["from_row"]
        made: Callable[[Buffer, int], Any] = scope["decode"]
        return made

    def _row_format(self) -> str | None:
        layout = self._layout()
        if layout is None or any(part.codec.row_format is None for part in self.parts):
            return None
        flat = all(isinstance(part.codec, (_Scalar, _Text, _Octets)) for part in self.parts)
        return layout[0] if flat else None

    def _encode(self, value: Any, where: str) -> bytes:
        return self._write(self._members(value, where), where)


class _Part:
    """A member: where it lies and how it is read."""

    def __init__(self, name: str, codec: Codec, start: int, bits: int, shift: int) -> None:
        self.name = name
        self.codec = codec
        self.start = start
        self.bits = bits
        self.shift = shift

    def take(self, data: Buffer, offset: int) -> Any:
        """The member of the struct that starts at ``offset``."""
        return self.codec.decode(data, offset + self.start)

    def put(self, room: bytearray, value: Any, where: str) -> None:
        """Write the member into the struct's bytes."""
        room[self.start : self.start + self.codec.size] = self.codec.encode(value, name=where)


class _Bits(_Part):
    """A bitfield: some bits of the bytes that hold it."""

    def __init__(
        self, name: str, start: int, size: int, bits: int, shift: int, order: Order, *, signed: bool
    ) -> None:
        super().__init__(name, BytesCodec(f"{bits} bits", size), start, bits, shift)
        self._order: Order = order
        self._signed = signed
        # Big-endian machines fill from the most significant bit.
        self._right = shift if order == "little" else size * 8 - shift - bits

    def take(self, data: Buffer, offset: int) -> int:
        at = offset + self.start
        word = int.from_bytes(data[at : at + self.codec.size], self._order)
        value = word >> self._right & ((1 << self.bits) - 1)
        return value - (1 << self.bits) if self._signed and value >> (self.bits - 1) else value

    def put(self, room: bytearray, value: Any, where: str) -> None:
        low, high = (
            (-(1 << self.bits - 1), 1 << self.bits - 1)
            if self._signed
            else (
                0,
                1 << self.bits,
            )
        )
        if not isinstance(value, int) or not low <= value < high:
            raise InvalidArgument(where, value, f"an integer of {self.bits} bits")
        piece = slice(self.start, self.start + self.codec.size)
        mask = (1 << self.bits) - 1
        word = int.from_bytes(room[piece], self._order) & ~(mask << self._right)
        word |= (value & mask) << self._right
        room[piece] = word.to_bytes(self.codec.size, self._order)


def _text(raw: bytes) -> str:
    return raw.partition(b"\0")[0].decode("utf-8", "surrogateescape")


def _identifier(name: str) -> str:
    """A name of C as a name of Python; ``mro`` and leading underscores mean something there."""
    plain = "".join(ch if ch.isascii() and ch.isalnum() else "_" for ch in name)
    if not plain or not plain[0].isalpha():
        return f"f{plain}"
    return f"{plain}_" if keyword.iskeyword(plain) or plain == "mro" else plain


def record(form: str, order: Order) -> Struct:
    """A packed record; where C's own alignment gives the same, in the form that `struct` reads fastest.

    In its native form it copies numbers as words, in the others byte by byte.
    """
    packed, native = Struct(("<" if order == "little" else ">") + form), Struct("@" + form)
    return native if order == sys.byteorder and native.size == packed.size else packed


def index_codec(order: Order) -> Codec:
    """How the index of an array is read and written where the object names no type for it."""
    return _Scalar("unsigned int", order, "I")


def codec_of(btf: Btf, number: int, order: Order) -> Codec:
    """The codec of a BTF type.

    Raises:
        MalformedObject: The type contains itself, or is larger than the kernel takes.
    """
    return _Builder(btf, order).build(number)


class _Builder:
    def __init__(self, btf: Btf, order: Order) -> None:
        self._btf = btf
        self._order: Order = order
        self._items = 0

    def build(self, number: int, depth: int = 0) -> Codec:
        each = self._btf.resolve(number)
        where = f"BTF type {number}"
        self._items += 1
        if depth > _DEPTH or self._items > _MOST_ITEMS:
            raise MalformedObject("nested too deeply", where=where)
        size = self._btf.size_of(each.id)
        if size > _LARGEST:
            raise MalformedObject(f"takes {size} bytes", where=where)
        spelling = self._btf.spell(each.id)
        match each.kind:
            case "int":
                return self._integer(spelling, each)
            case "ptr":
                return _Scalar(spelling, self._order, "Q")
            case "enum" | "enum64" if each.size in _INTEGERS:
                form = _INTEGERS[each.size]
                form = form if each.signed else form.upper()
                return _Enum(spelling, self._order, form, each)
            case "float" if each.size in {4, 8}:
                return _Scalar(spelling, self._order, "f" if each.size == 4 else "d")
            case "array":
                return self._array(spelling, each, depth)
            case "struct" | "union":
                return self._compound(spelling, each, depth)
            case "var":
                return self.build(each.target, depth + 1)
        return BytesCodec(spelling, size)

    def _integer(self, spelling: str, each: Type) -> Codec:
        if each.boolean and each.size == 1:
            return _Scalar(spelling, self._order, "?")
        form = _INTEGERS.get(each.size)
        if form is None:
            return _Wide(spelling, self._order, each.size, signed=each.signed)
        return _Scalar(spelling, self._order, form if each.signed else form.upper())

    def _array(self, spelling: str, each: Type, depth: int) -> Codec:
        inner = self._btf.resolve(each.target)
        size = self._btf.size_of(each.id)
        if inner.kind == "int" and inner.size == 1 and not inner.boolean:
            if inner.name == "char":
                return _Text(spelling, size)
            if not inner.signed:
                return _Octets(spelling, size)
        if not size:
            return BytesCodec(spelling, 0)
        return _Array(spelling, self.build(each.target, depth + 1), each.count, self._order)

    def _compound(self, spelling: str, each: Type, depth: int) -> Codec:
        parts: list[_Part] = []
        taken: set[str] = set()
        for member in each.members:
            part = self._part(each, member, depth)
            name = _identifier(member.name or f"anonymous_{member.offset // 8}")
            while name in taken:  # two members without a name at one place
                name += "_"
            taken.add(name)
            part.name = name
            parts.append(part)
        if each.kind == "union":
            return _Union(spelling, each.size, each.name, parts)
        return _Struct(spelling, each.size, each.name, parts, self._order)

    def _part(self, each: Type, member: Member, depth: int) -> _Part:
        where = f"{each.kind} {each.name}"
        if member.bits:
            start, shift = divmod(member.offset, 8)
            size = (shift + member.bits + 7) // 8
            if start + size > each.size or member.bits > 64:
                raise MalformedObject(f"{member.name} lies outside", where=where)
            signed = self._btf.resolve(member.type).signed
            return _Bits(member.name, start, size, member.bits, shift, self._order, signed=signed)
        codec = self.build(member.type, depth + 1)
        start, rest = divmod(member.offset, 8)
        if rest or start + codec.size > each.size:
            raise MalformedObject(f"{member.name} lies outside", where=where)
        return _Part(member.name, codec, start, 0, 0)
