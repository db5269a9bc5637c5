"""What an eBPF object file declares, read without the kernel.

Source of the conventions (sections, BTF-defined maps, relocations): libbpf's documentation, and
``Documentation/bpf/llvm_reloc.rst``.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, Any

import attrs

from hastack._core._errors import InvalidArgument, MalformedObject

from . import _btf, _elf, _insns
from ._codec import BytesCodec, Codec, codec_of, index_codec
from ._kinds import MAP_TYPES, Role, role_of

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ("Call", "Global", "MapSpec", "ProgramSpec", "Spec", "read")

_DATA = (".rodata", ".data", ".bss")
_PINNING = {0: "none", 1: "by_name"}
# Types whose values are descriptors, and types whose keys are indices.
_HOLDERS = frozenset(("prog_array", "perf_event_array", "array_of_maps", "hash_of_maps"))
_INDEXED = frozenset(
    (
        *("array", "percpu_array", "prog_array", "perf_event_array", "array_of_maps"),
        *("cgroup_array", "stack_trace", "devmap", "cpumap", "xskmap", "sockmap"),
    )
)
_LARGEST = 1 << 26  # bytes of one data section


@attrs.frozen
class Call:
    """A call of a helper or kfunc.

    Args:
        name: ``"bpf_map_lookup_elem"``.
        kind: ``"helper"`` or ``"kfunc"``.
        section: Where the instruction is.
        index: Which instruction of the section it is.
        source: The line that it comes from; empty without line information.
    """

    name: str
    kind: str
    section: str
    index: int
    source: str = ""


@attrs.frozen
class ProgramSpec:
    """A program as the object declares it.

    Args:
        name: Name of the function.
        section: Name of its ELF section, which says what it is.
        type: Program type, ``"xdp"`` for example; empty when the section's name is not known.
        attach: Attach type; empty where there is none.
        target: What the section's name says it is for: a function, a tracepoint.
        sleepable: Whether it may sleep.
        autoload: Whether it is loaded unless that is switched off.
        instructions: How many instructions it has, without its subprograms.
        calls: Helpers and kfuncs it calls, also through subprograms.
        maps: Names of the maps it uses.
        globals: Names of the data sections it uses.
    """

    name: str
    section: str
    type: str
    attach: str
    target: str
    sleepable: bool
    autoload: bool
    instructions: int
    calls: tuple[Call, ...] = attrs.field(repr=False)
    maps: tuple[str, ...]
    globals: tuple[str, ...]

    @property
    def helpers(self) -> tuple[str, ...]:
        """Names of the helpers it calls, sorted."""
        return tuple(sorted({call.name for call in self.calls if call.kind == "helper"}))

    @property
    def kfuncs(self) -> tuple[str, ...]:
        """Names of the kernel functions it calls, sorted."""
        return tuple(sorted({call.name for call in self.calls if call.kind == "kfunc"}))


@attrs.frozen
class MapSpec:
    """A map as the object declares it.

    Args:
        name: Its name.
        type: Map type, ``"hash"`` for example.
        key: How keys are read and written.
        value: The same for values.
        max_entries: How many entries it holds; for ring buffers bytes. 0: set before loading.
        flags: Flags of its creation, ``BPF_F_*``.
        pinning: ``"none"`` or ``"by_name"``.
        inner: Shape of the maps that this one holds, or ``None``.
    """

    name: str
    type: str
    key: Codec
    value: Codec
    max_entries: int
    flags: int = 0
    pinning: str = "none"
    inner: MapSpec | None = None


@attrs.frozen
class Global:
    """A global variable.

    Args:
        name: Its name.
        section: ``".rodata"``, ``".data"``, ``".bss"``, or one of their kind.
        offset: Where it lies in the section, in bytes.
        size: Its size in bytes.
        codec: How it is read and written.
    """

    name: str
    section: str
    offset: int
    size: int
    codec: Codec

    @property
    def constant(self) -> bool:
        """Whether only loading sets it."""
        return self.section.startswith(".rodata")


@attrs.frozen
class Spec:
    """An object file that was read; nothing of it is in the kernel.

    Args:
        name: Name of the object, used for its maps of globals.
        license: What it is licensed under; some helpers need ``"GPL"``.
        order: Byte order, ``"little"`` or ``"big"``.
        programs: Its programs by name, in the order of the file.
        maps: Its maps by name.
        globals: Its global variables by name.
        relocations: Places that CO-RE changes to fit the kernel.
        kernel_symbols: Functions and variables of the kernel that it needs (``.ksyms``).
        content: The file itself.
    """

    name: str
    license: str
    order: str
    programs: Mapping[str, ProgramSpec]
    maps: Mapping[str, MapSpec]
    globals: Mapping[str, Global]
    relocations: tuple[_btf.CoreRelocation, ...] = attrs.field(repr=False)
    kernel_symbols: tuple[str, ...] = attrs.field(repr=False)
    content: bytes = attrs.field(repr=False)
    _types: _btf.Btf = attrs.field(alias="types", repr=False, eq=False)
    _data: Mapping[str, bytes] = attrs.field(alias="data", repr=False, eq=False)
    _calls: tuple[Call, ...] = attrs.field(alias="calls", repr=False, eq=False)

    @property
    def calls(self) -> tuple[Call, ...]:
        """Every call of a helper or kfunc in any executable section, reached or not."""
        return self._calls

    def type(self, name: str) -> Codec:
        """How values of a type of this object are read and written.

        Args:
            name: Name of a struct, union, enum, typedef or variable.

        Raises:
            InvalidArgument: The object has no such type.
        """
        kinds = ("struct", "union", "enum", "enum64", "typedef", "int", "float", "var")
        found = self._types.find(name.removeprefix("struct ").removeprefix("union "), *kinds)
        if found is None:
            raise InvalidArgument("type", name, f"a type of {self.name}")
        return codec_of(self._types, found.id, _order(self.order))

    def data(self, section: str) -> bytes:
        """The bytes that a data section starts with."""
        return self._data[section]

    def initial(self, name: str) -> Any:
        """The value that a global variable starts with."""
        if name not in self.globals:
            raise InvalidArgument("name", name, f"one of {', '.join(self.globals) or 'nothing'}")
        each = self.globals[name]
        return each.codec.decode(self._data[each.section], each.offset)


def _order(name: str) -> _elf.Order:
    return "big" if name == "big" else "little"


def read(content: bytes, name: str) -> Spec:
    """Read an object file.

    Args:
        content: The whole file.
        name: What to call the object.

    Raises:
        MalformedObject: It is no eBPF object that could be loaded.
    """
    return _Object(content).spec(name)


class _Object:
    """An object file while it is read."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.elf = _elf.parse(content)
        self.order: _elf.Order = self.elf.order
        section = self.elf.section(".BTF")
        self.btf = _btf.Btf((_btf.Type(0, "void", "void"),))
        self.extension = _btf.Extension()
        if section is not None:
            self.btf = _btf.parse(section.data, self.order)
            extra = self.elf.section(".BTF.ext")
            if extra is not None:
                strings = _btf.strings_of(section.data, self.order)
                self.extension = _btf.parse_ext(extra.data, self.btf, strings, self.order)
        self.code = _Code(self.elf, self.extension)
        self.sections = {s.index: s for s in self.elf.sections}

    def spec(self, name: str) -> Spec:
        maps = self._maps()
        data = self._data()
        return Spec(
            name=name,
            license=self._license(),
            order=self.order,
            programs=self._programs(maps, data),
            maps=maps,
            globals=self._globals(data),
            relocations=self.extension.relocations,
            kernel_symbols=tuple(sorted(self.code.kernel_symbols)),
            content=self.content,
            types=self.btf,
            data=data,
            calls=tuple(call for calls in self.code.calls.values() for call in calls),
        )

    def _license(self) -> str:
        section = self.elf.section("license")
        if section is None:
            return ""
        return _elf.text_at(section.data, 0, where="license")

    def _data(self) -> dict[str, bytes]:
        found = {}
        for section in self.elf.sections:
            if not section.name.startswith(_DATA) or section.executable:
                continue
            if section.size > _LARGEST:
                raise MalformedObject(f"takes {section.size} bytes", where=section.name)
            # String constants of the compiler lie in .rodata.str and the like: data as well.
            found[section.name] = bytes(section.data) or bytes(section.size)
        return found

    def _globals(self, data: dict[str, bytes]) -> dict[str, Global]:
        found: dict[str, Global] = {}
        for section, variable, symbol in self._variables(*data):
            size = self.btf.size_of(variable.id)
            if symbol.value + size > len(data[section]):
                raise MalformedObject(f"{variable.name} lies outside", where=section)
            codec = codec_of(self.btf, variable.id, self.order)
            found[variable.name] = Global(variable.name, section, symbol.value, size, codec)
        return found

    def _variables(self, *sections: str) -> list[tuple[str, _btf.Type, _elf.Symbol]]:
        """Variables of data sections that BTF and the symbol table both know."""
        symbols = {
            (self.sections[s.section].name, s.name): s
            for s in self.elf.symbols
            if s.type == _elf.STT_OBJECT and s.section in self.sections
        }
        found = []
        for group in self.btf.types:
            if group.kind != "datasec" or group.name not in sections:
                continue
            for member in group.members:
                variable = self.btf.types[member.type]
                symbol = symbols.get((group.name, variable.name))
                if variable.kind == "var" and symbol is not None:
                    found.append((group.name, variable, symbol))
        return found

    def _maps(self) -> dict[str, MapSpec]:
        if self.elf.section("maps") is not None:
            raise MalformedObject(
                'old map definitions; declare maps in SEC(".maps") instead', where="maps"
            )
        found = {}
        for _, variable, _ in self._variables(".maps"):
            each = self.btf.resolve(variable.target)
            found[variable.name] = self._map(variable.name, each, inner=False)
        for _, variable, _ in self._variables(".struct_ops", ".struct_ops.link"):
            index = index_codec(self.order)
            table = codec_of(self.btf, variable.id, self.order)
            found[variable.name] = MapSpec(variable.name, "struct_ops", index, table, 1)
        return found

    def _map(self, name: str, each: _btf.Type, *, inner: bool) -> MapSpec:
        if each.kind != "struct":
            raise MalformedObject("is no struct", where=f"map {name}")
        numbers = {"type": 0, "max_entries": 0, "map_flags": 0, "pinning": 0}
        codecs: dict[str, Codec] = {}
        held = None
        for member in each.members:
            target = self.btf.resolve(member.type)
            if member.name in {"key", "value"}:
                codecs[member.name] = self._pointed(name, target)
            elif member.name in {"key_size", "value_size"}:
                size = self._number(name, target)
                codecs.setdefault(member.name.removesuffix("_size"), BytesCodec("bytes", size))
            elif member.name == "values" and not inner:
                held = self._held(name, target)
            elif member.name != "values":
                numbers[member.name] = self._number(name, target)
        number = numbers["type"]
        kind = MAP_TYPES[number] if number < len(MAP_TYPES) else f"type_{number}"
        small = BytesCodec("bytes", 4)
        key, value = codecs.get("key"), codecs.get("value")
        if kind in _HOLDERS:
            key, value = key or small, value or small  # libbpf fills these in, too
        if kind in _INDEXED and type(key) is BytesCodec and key.size == 4:
            key = index_codec(self.order)
        none = BytesCodec("bytes", 0)
        return MapSpec(
            name,
            kind,
            key or none,
            value or none,
            numbers["max_entries"],
            numbers["map_flags"],
            _PINNING.get(numbers["pinning"], str(numbers["pinning"])),
            held,
        )

    def _number(self, name: str, target: _btf.Type) -> int:
        """``__uint(name, 7)`` is a pointer to an array of 7; newer ``__ulong`` an enum of one."""
        if target.kind == "ptr":
            array = self.btf.resolve(target.target)
            if array.kind == "array":
                return array.count
        if target.kind in {"enum", "enum64"} and target.values:
            return target.values[0][1]
        raise MalformedObject("has a setting that is no number", where=f"map {name}")

    def _pointed(self, name: str, target: _btf.Type) -> Codec:
        """``__type(key, T)`` is a pointer to T."""
        if target.kind != "ptr":
            raise MalformedObject("has a key or value that is no type", where=f"map {name}")
        return codec_of(self.btf, target.target, self.order)

    def _held(self, name: str, target: _btf.Type) -> MapSpec | None:
        """``__array(values, T)`` is an array of pointers to T, a map or a function."""
        inner = target
        for _ in range(2):
            if inner.kind in {"array", "ptr"}:
                inner = self.btf.resolve(inner.target)
        if inner.kind == "struct":
            return self._map(f"{name}.inner", inner, inner=True)
        return None

    def _programs(self, maps: dict[str, MapSpec], data: dict[str, bytes]) -> dict[str, ProgramSpec]:
        found: dict[str, ProgramSpec] = {}
        for function in self.code.functions:
            section = self.sections[function.section].name
            if section == ".text":
                continue
            if function.name in found:
                raise MalformedObject(f"two programs {function.name}", where=section)
            calls, used = self.code.reach(function)
            role = role_of(section) or Role("", autoload=not section.startswith("?"))
            found[function.name] = ProgramSpec(
                name=function.name,
                section=section,
                type=role.type,
                attach=role.attach,
                target=role.target,
                sleepable=role.sleepable,
                autoload=role.autoload,
                instructions=function.size // 8,
                calls=tuple(sorted(calls, key=lambda call: (call.section, call.index))),
                maps=tuple(each for each in maps if each in used),
                globals=tuple(each for each in data if each in used),
            )
        return found


class _Code:
    """The executable sections: which function calls what."""

    def __init__(self, elf: _elf.Elf, extension: _btf.Extension) -> None:
        self._elf = elf
        self.functions: list[_elf.Symbol] = []
        self.calls: dict[int, list[Call]] = {}
        self.kernel_symbols: set[str] = set()
        # Section -> (instruction, callee's section and instruction), and uses of maps and data.
        self._edges: dict[int, list[tuple[int, int, int]]] = {}
        self._uses: dict[int, list[tuple[int, str]]] = {}
        executable = {s.index: s for s in elf.sections if s.executable and s.type == 1}
        for symbol in elf.symbols:
            if symbol.type == _elf.STT_FUNC and symbol.section in executable:
                section = executable[symbol.section]
                end = symbol.value + symbol.size
                if symbol.value % 8 or symbol.size % 8 or end > section.size or not symbol.size:
                    raise MalformedObject(f"function {symbol.name}", where=section.name)
                self.functions.append(symbol)
        self.functions.sort(key=lambda each: (each.section, each.value))
        for section in executable.values():
            self._read(section, extension.lines.get(section.name, ()))

    def _read(self, section: _elf.Section, lines: tuple[_btf.Line, ...]) -> None:
        targets = {r.offset // 8: r for r in self._elf.relocations(section)}
        starts = [line.offset for line in lines]
        calls = self.calls[section.index] = []
        edges = self._edges[section.index] = []
        uses = self._uses[section.index] = []
        for each in _insns.decode(section.data, self._elf.order, where=section.name):
            relocation = targets.get(each.index)
            symbol = relocation.symbol if relocation else None
            line = bisect_right(starts, each.index * 8) - 1
            source = str(lines[line]) if line >= 0 else ""
            if each.kind in {"subprogram", "kfunc"} and symbol is not None and not symbol.section:
                self.kernel_symbols.add(symbol.name)
                calls.append(Call(symbol.name, "kfunc", section.name, each.index, source))
            elif each.kind == "subprogram":
                edges.append((each.index, *self._callee(section, each, symbol)))
            elif each.kind == "kfunc":
                calls.append(Call(str(each.number), "kfunc", section.name, each.index, source))
            elif each.kind == "helper":
                name = _insns.helper_name(each.number)
                calls.append(Call(name, "helper", section.name, each.index, source))
            elif symbol is not None:
                self._address(section, each, symbol, edges, uses)

    def _callee(
        self, section: _elf.Section, call: _insns.Instruction, symbol: _elf.Symbol | None
    ) -> tuple[int, int]:
        if symbol is None:
            return section.index, call.index + 1 + call.number
        if symbol.type == _elf.STT_SECTION:
            return symbol.section, call.number + 1
        return symbol.section, symbol.value // 8

    def _address(
        self,
        section: _elf.Section,
        load: _insns.Instruction,
        symbol: _elf.Symbol,
        edges: list[tuple[int, int, int]],
        uses: list[tuple[int, str]],
    ) -> None:
        """A loaded address: of a map, of data, of a function to call back, of the kernel."""
        if not symbol.section:
            self.kernel_symbols.add(symbol.name)
            return
        if symbol.section >= len(self._elf.sections):
            raise MalformedObject(f"address of {symbol.name}", where=section.name)
        home = self._elf.sections[symbol.section]
        if home.executable:
            edges.append((load.index, home.index, (symbol.value + load.number) // 8))
        else:
            uses.append((load.index, symbol.name if home.name == ".maps" else home.name))

    def reach(self, function: _elf.Symbol) -> tuple[set[Call], set[str]]:
        """What a function and all that it calls do: calls of helpers, uses of maps and data."""
        calls: set[Call] = set()
        used: set[str] = set()
        todo, seen = [function], {(function.section, function.value)}
        while todo:
            current = todo.pop()
            first, end = current.value // 8, (current.value + current.size) // 8
            home = current.section
            calls.update(call for call in self.calls[home] if first <= call.index < end)
            used.update(name for index, name in self._uses[home] if first <= index < end)
            for index, section, target in self._edges[home]:
                if not first <= index < end:
                    continue
                callee = self._at(section, target)
                if (callee.section, callee.value) not in seen:
                    seen.add((callee.section, callee.value))
                    todo.append(callee)
        return calls, used

    def _at(self, section: int, instruction: int) -> _elf.Symbol:
        for each in self.functions:
            inside = each.value <= instruction * 8 < each.value + each.size
            if each.section == section and inside:
                return each
        raise MalformedObject(f"call of instruction {instruction}, which is in no function")
