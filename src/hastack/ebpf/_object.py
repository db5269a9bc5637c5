"""Objects and programs in the kernel."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Mapping
from struct import pack, unpack_from
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Self, TypeVar

from hastack._core._alive import track
from hastack._core._errors import ClosedError
from hastack._core._fork import renew_in_child

from . import _attach, _kernel, _libbpf, _loading
from ._globals import Globals
from ._handle import Handle
from ._maps import Map
from ._spec import Spec
from ._structops import Table
from ._usdt_places import SPECS, Places

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path
    from types import TracebackType

    from ._links import Link
    from ._perfbuf import PerfBuffer
    from ._ringbuf import RingBuffer
    from ._signing import Strict
    from ._spec import MapSpec, ProgramSpec
    from ._userring import UserRingBuffer

__all__ = ("Named", "Object", "Program", "Run")

T = TypeVar("T")


class Named(Mapping[str, T], Generic[T]):
    """Parts of an object by name: ``maps["counts"]`` or ``maps.counts``."""

    def __init__(self, what: str, parts: dict[str, T]) -> None:
        self._what = what
        self._parts = parts

    def __getitem__(self, name: str) -> T:
        try:
            return self._parts[name]
        except KeyError:
            known = ", ".join(self._parts) or "nothing"
            raise KeyError(f"no {self._what} {name!r}; there is: {known}") from None

    def __getattr__(self, name: str) -> T:
        parts: dict[str, T] = self.__dict__.get("_parts", {})
        if name in parts:
            return parts[name]
        raise AttributeError(f"no {self.__dict__.get('_what')} {name!r}")

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self._parts]

    def __repr__(self) -> str:
        return f"<{self._what}s: {', '.join(self._parts) or 'none'}>"


class Run(NamedTuple):
    """What a test run of a program came to.

    Attributes:
        result: What the program returned.
        data: The packet after the program.
        context: The context after the program.
        duration: Nanoseconds per run, averaged over ``repeat``.
    """

    result: int
    data: bytes
    context: bytes
    duration: int


class Program:
    """A program in the kernel; `attach` makes it run.

    Args:
        handle: Its descriptor.
        spec: What the object says about it.
        owner: The object that it belongs to.
        attach_type: Attach type that it was loaded for.
    """

    def __init__(self, handle: Handle, spec: ProgramSpec, owner: Object, attach_type: str) -> None:
        self._handle = handle
        self._owner = owner
        self.spec = spec
        self.name = spec.name
        self.type = spec.type
        self.attach_type = attach_type
        info = _kernel.ProgramInfo(handle.fd)
        self.id = info.id
        self.tag = info.tag

    def __repr__(self) -> str:
        state = ", closed" if self.closed else ""
        return f"<ebpf.Program {self.name}: {self.type}, id {self.id}{state}>"

    @property
    def fd(self) -> int:
        """Its descriptor, which stays the program's."""
        return self._handle.fd

    @property
    def closed(self) -> bool:
        """Whether it, or the object that it belongs to, was closed."""
        return self._handle.closed

    def info(self) -> _kernel.ProgramInfo:
        """What the kernel says about it now: runs, nanoseconds, sizes, maps."""
        with self._handle as fd:
            return _kernel.ProgramInfo(fd)

    def attach(self, target: Any = None, **options: Any) -> Link:
        """Attach it; which target and options there are depends on its type.

        - uprobe, uretprobe: ``"/path:symbol+offset"``, or a path with ``symbol=`` or ``symbols=``;
          ``offset=``, ``pid=``, ``ret=``, ``cookie=``
        - USDT probe: ``"/path:provider:name"``; ``pid=``, ``cookie=``
        - tracepoint: ``"group/name"``; raw tracepoint: its name
        - perf event: ``kind=``, ``config=``, ``frequency=``, ``pid=``, ``cpu=``
        - cgroup programs: the folder of the cgroup
        - XDP: an interface; ``mode=`` ``"native"``, ``"generic"`` or ``"offload"``
        - tc: an interface; ``direction=``
        - sk_lookup, flow dissector: the file of a network namespace
        - sk_msg, sk_skb: the `Map` of sockets
        - iterator: ``map=`` where it goes over one; fentry, fexit, LSM: nothing

        Without a target, the one in the section's name is taken.

        Raises:
            KernelRefused: The kernel refused; the hint says what usually causes that.
            InvalidArgument: The target is missing or is not one for this type.
        """
        link = _attach.attach(self, target, options)
        self._owner._adopt(link)
        return link

    def test_run(
        self, data: bytes = b"", *, context: bytes = b"", repeat: int = 1, cpu: int | None = None
    ) -> Run:
        """Run the program once, or some times, on data that you give.

        Args:
            data: A packet; XDP and tc want 14 bytes at least.
            context: The context, ``struct __sk_buff`` for example, for types that take one.
            repeat: How many times.
            cpu: On which processor, for raw tracepoints.

        Raises:
            KernelRefused: The kernel cannot run such programs by hand, or not with such data.
        """
        room, after = bytearray(len(data) + 4096), bytearray(max(len(context), 1))
        given, before = bytearray(data), bytearray(context)
        at = _libbpf.address
        flags = 0 if cpu is None else 1
        with self._handle as fd:
            attributes = bytearray(
                pack(
                    "=IIIIQQIIIIQQIII",
                    *(fd, 0, len(data), len(room) if data else 0),
                    *(at(given) if data else 0, at(room) if data else 0, repeat, 0),
                    *(len(context), len(context), at(before) if context else 0),
                    *(at(after) if context else 0, flags, cpu or 0, 0),
                )
            )
            # These refuse a repeat that is set, even to 1, and room for a context that never changes.
            if self.type in {"raw_tracepoint", "syscall", "sk_lookup"} and repeat == 1:
                attributes[32:36] = bytes(4)
            if self.type == "raw_tracepoint":
                attributes[44:48], attributes[56:64] = bytes(4), bytes(8)
            _kernel.call(_kernel.TEST_RUN, attributes, f"run {self.name} once")
        (result,) = unpack_from("=I", attributes, 4)
        (size,) = unpack_from("=I", attributes, 12)
        (duration,) = unpack_from("=I", attributes, 36)
        return Run(result, bytes(room[:size]), bytes(after[: len(context)]), duration)

    def pin(self, path: str | Path) -> None:
        """Give the program a name in a BPF file system, under which it outlives this process."""
        with self._handle as fd:
            _kernel.pin(fd, os.fspath(path))


class Object:
    """An object in the kernel: `load` makes it, `close` or the end of ``with`` ends it.

    Programs, maps and global variables are attributes of ``programs``, ``maps`` and ``globals``;
    where a name is used once only, also of the object itself. Closing detaches all its links.

    Example:
        >>> from hastack import ebpf
        >>> with ebpf.load("egress.bpf.o", globals={"port": 443}) as obj:  # doctest: +SKIP
        ...     obj.programs.count.attach("/sys/fs/cgroup/app")
        ...     print(dict(obj.maps.bytes_by_host.items()), obj.globals.packets)
    """

    def __init__(self, spec: Spec, loaded: _loading.Loaded, types: Mapping[str, str]) -> None:
        self.spec = spec
        self.name = spec.name
        self._tables = loaded.tables
        # Everything has an owner before anything can fail.
        held = {name: Handle(f"map {name}", fd) for name, fd in loaded.maps.items()}
        owned = {name: Handle(f"program {name}", fd) for name, fd in loaded.programs.items()}
        self._sections = {name: each for name, each in held.items() if name not in spec.maps}
        self.maps: Named[Map] = Named(
            "map",
            {name: self._map(held[name], each) for name, each in spec.maps.items() if name in held},
        )
        attached = {name: types.get(name, spec.programs[name].attach) for name in owned}
        self.programs: Named[Program] = Named(
            "program",
            {
                name: Program(handle, spec.programs[name], self, attached[name])
                for name, handle in owned.items()
            },
        )
        self.globals = Globals(spec, self._sections)
        self._code = loaded.code
        self._links: list[Link] = []
        self._places: Places | None = None
        self._lock = threading.Lock()
        renew_in_child(self)
        self._rings: weakref.WeakSet[RingBuffer | PerfBuffer | UserRingBuffer] = weakref.WeakSet()
        self._closed = False
        # What it was loaded with, for its successors.
        self._values: dict[str, Any] = {}
        self._sizes: dict[str, int] = {}
        self._btf = ""
        self._strict: Strict | None = None
        self._shared: frozenset[str] = frozenset()
        track(self)

    def __repr__(self) -> str:
        if self._closed:
            return f"<ebpf.Object {self.name}, closed>"
        return (
            f"<ebpf.Object {self.name}: programs {', '.join(self.programs) or 'none'}; "
            f"maps {', '.join(self.maps) or 'none'}; {len(self.links)} links>"
        )

    def __getattr__(self, name: str) -> Any:
        own = self.__dict__
        for part in ("maps", "programs"):
            if part in own and name in own[part]:
                return own[part][name]
        if "globals" in own and name in own["globals"]:
            return own["globals"][name]
        raise AttributeError(f"{own.get('name', 'object')} has no map, program or global {name!r}")

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._closed

    @property
    def links(self) -> tuple[Link, ...]:
        """Its links that are attached now."""
        self._links = [link for link in self._links if not link.closed]
        return tuple(self._links)

    def _map(self, handle: Handle, spec: MapSpec) -> Map:
        if spec.type == "struct_ops" and self._tables is not None:
            return Table(handle, spec, self._tables, self)
        return Map(handle, spec)

    def _after_fork(self) -> None:
        self._lock = threading.Lock()

    def _adopt(self, link: Link) -> None:
        if self._closed:
            link.close()
            raise ClosedError(self.name)
        self._links = [*(each for each in self._links if not each.closed), link]

    def ring(
        self,
        name: str,
        *,
        type: str | None = None,  # noqa: A002  # C's word
        extension: bool | None = None,
    ) -> RingBuffer:
        """A reader of a ring buffer.

        Args:
            name: The map.
            type: Name of the struct that the programs write; without one, the struct that the
                variable ``<map>_event`` points to, else bytes.
            extension: Whether the C extension reads: ``None`` for where there is one.

        Raises:
            Unsupported: This machine's memory ordering is not known.
        """
        from ._ringbuf import RingBuffer

        codec = self.spec.type(type) if type else _event_type(self.spec, name)
        lost = self._counter(f"{name}_lost")
        reader = RingBuffer(self.maps[name], codec, lost=lost, extension=extension)
        self._rings.add(reader)
        return reader

    def perf(self, name: str, *, type: str | None = None, pages: int = 8) -> PerfBuffer:  # noqa: A002  # C's word
        """A reader of a perf buffer.

        Args:
            name: The map.
            type: Name of the struct that the programs write; without one, as in `ring`.
            pages: Memory per processor in pages, a power of two.
        """
        from ._perfbuf import PerfBuffer

        codec = self.spec.type(type) if type else _event_type(self.spec, name)
        reader = PerfBuffer(self.maps[name], codec, pages=pages)
        self._rings.add(reader)
        return reader

    def sender(self, name: str, *, type: str | None = None) -> UserRingBuffer:  # noqa: A002  # C's word
        """A writer of a user ring buffer.

        Args:
            name: The map.
            type: Name of the struct that the programs read; without one, as in `ring`.
        """
        from ._userring import UserRingBuffer

        codec = self.spec.type(type) if type else _event_type(self.spec, name)
        writer = UserRingBuffer(self.maps[name], codec)
        self._rings.add(writer)
        return writer

    def _usdt_places(self) -> Places:
        with self._lock:
            held = self.maps[SPECS]
            if self._places is None or not self._places.of(held):
                self._places = Places(held)
            return self._places

    def _counter(self, name: str) -> Any:
        if name not in self.globals:
            return None
        shared = self.globals
        return lambda: int(shared[name])

    def attach(self) -> tuple[Link, ...]:
        """Attach every program whose section says where, and every table; all of them or none.

        Raises:
            InvalidArgument: A program's section does not say where.
        """
        made: list[Link] = []
        try:
            made += [p.attach() for p in self.programs.values() if p.type != "struct_ops"]
            made += [table.attach() for table in self.maps.values() if isinstance(table, Table)]
        except BaseException:
            for link in made:
                link.close()
            raise
        return tuple(made)

    def _become(self, new: Object) -> None:
        """Take over the parts of a successor, which is closed by that.

        Maps that both share stay the same Python objects: whoever holds one goes on with it.
        """
        gone: list[Any] = []
        maps: dict[str, Map] = {}
        for name, each in new.maps.items():
            shared = name in new._shared
            maps[name] = self.maps[name] if shared else each
            gone.append(each if shared else self.maps.get(name, each))
        gone += [each for name, each in self.maps.items() if name not in maps]
        gone += [program._handle for program in self.programs.values()]
        gone += self._sections.values()
        earlier = self.globals
        for program in new.programs.values():
            program._owner = self
        for table in new.maps.values():
            if isinstance(table, Table):
                table._owner = self
        tables, self._tables, new._tables = self._tables, new._tables, None
        if tables is not None:
            tables.close()
        self.spec, self.programs, self._sections = new.spec, new.programs, new._sections
        self.maps, self.globals = Named("map", maps), new.globals
        self._code, self._values, self._sizes = new._code, new._values, new._sizes
        new._closed = True
        earlier._close()
        kept = set(map(id, maps.values()))
        for each in gone:
            if id(each) not in kept:
                each.close()

    def prepare(
        self,
        source: Spec | str | Path | bytes,
        *,
        name: str | None = None,
        globals: Mapping[str, Any] | None = None,  # noqa: A002  # what C calls them
        programs: Iterable[str] | None = None,
        on_incompatible: str = "fail",
        signature: bytes | str | Path | None = None,
    ) -> Object:
        """Load a successor of this object, which shares its maps, for a later `update`.

        Maps of the same name and layout are shared, and so are sections of global variables whose
        layout is the same: nothing that the programs have counted is lost. Constants keep the
        values that this object was loaded with, unless ``globals`` gives others.

        Args:
            source: An object file: its path, its content, or what `open` made of it.
            name: What to call it.
            globals: Values of constants, by name.
            programs: Names of the programs to load; without it, those that this object has.
            on_incompatible: What to do with a map of another layout: ``"fail"``, ``"recreate"``
                (it starts empty) or ``"migrate"`` (entries are copied, members by name).
            signature: Where this object was loaded strictly, so is its successor.

        Raises:
            MapIncompatible: A map has another layout, or its entries do not fit.
        """
        from ._open import open  # noqa: A004  # opens objects
        from ._update import prepare

        spec = source if isinstance(source, Spec) else open(source, name=name)
        return prepare(self, spec, globals or {}, programs, on_incompatible, signature)

    def update(self, source: Object | Spec | str | Path | bytes, **options: Any) -> None:
        """Exchange the programs of this object for those of another, in place.

        Every link goes over to the program of the same name: in one step where the kernel
        exchanges programs (cgroup, XDP, tcx, sk_lookup, iterators), through the slot where the
        program was attached with ``swappable=True``. When one of them cannot, those before it go
        back, and nothing has changed. Global variables of shared sections go on; others are copied
        by name just before.

        Args:
            source: What `prepare` returned, or what it takes.
            **options: The options of `prepare`.

        Raises:
            Unsupported: A link can neither be exchanged nor goes through a slot.
            InvalidArgument: A program that is attached has no successor.
            KernelRefused: The kernel refused; everything is as it was.
        """
        from ._update import update

        if isinstance(source, Object):
            update(self, source)
            return
        candidate = self.prepare(source, **options)
        try:
            update(self, candidate)
        finally:
            candidate.close()

    def close(self) -> None:
        """Stop readers, detach links, give maps and programs back; more than once does nothing."""
        if self._closed:
            return
        self._closed = True
        for ring in list(self._rings):
            ring.close()
        for link in self._links:
            link.close()
        self.globals._close()
        for each in self.maps.values():
            each.close()
        for program in self.programs.values():
            program._handle.close()
        for handle in self._sections.values():
            handle.close()
        if self._tables is not None:
            self._tables.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()


def _event_type(spec: Spec, ring: str) -> Any:
    """What the variable ``<map>_event`` points to."""
    variable = spec.globals.get(f"{ring}_event")
    if variable is None:
        return None
    name = variable.codec.spelling.removeprefix("const ").removesuffix(" *")
    return spec.type(name)
