"""Global variables of a loaded object: memory that the programs and this process share."""

from __future__ import annotations

import mmap
from typing import TYPE_CHECKING, Any

from hastack._core._errors import ClosedError, InvalidArgument

from . import _libbpf
from ._handle import Handle

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ._spec import Global, Spec

__all__ = ("Globals",)


class Globals:
    """Global variables as attributes; what is written is what the programs see next.

    Integers are read and written in one piece. Larger values are not: a program may write while
    they are read. Constants (``.rodata``) are set with ``load(globals=...)`` only.
    """

    def __init__(self, spec: Spec, sections: dict[str, Handle]) -> None:
        memory: dict[str, tuple[mmap.mmap | Handle, memoryview | None]] = {}
        for name, handle in sections.items():
            protection = mmap.PROT_READ
            if not name.startswith(".rodata"):
                protection |= mmap.PROT_WRITE
            try:
                area = mmap.mmap(handle.fd, len(spec.data(name)), mmap.MAP_SHARED, protection)
            except OSError:
                # libbpf makes no mappable map of a section with nothing but static variables.
                memory[name] = handle, None
            else:
                memory[name] = area, memoryview(area)
        object.__setattr__(self, "_spec", spec)
        object.__setattr__(self, "_memory", memory)
        object.__setattr__(self, "_words", {})

    def __repr__(self) -> str:
        return f"<ebpf.Globals {', '.join(self._spec.globals)}>"

    def __dir__(self) -> list[str]:
        return sorted(self._spec.globals)

    def __iter__(self) -> Iterator[str]:
        return iter(self._spec.globals)

    def __contains__(self, name: object) -> bool:
        return name in self._spec.globals

    def _find(self, name: str) -> tuple[Global, memoryview | Handle]:
        each = self._spec.globals.get(name)
        if each is None:
            raise AttributeError(f"{self._spec.name} has no global variable {name!r}")
        if each.section not in self._memory:
            raise ClosedError(f"globals of {self._spec.name}")
        area, view = self._memory[each.section]
        return each, area if view is None else view

    def _word(self, each: Global, view: memoryview) -> Any:
        """The variable as one machine word, when it is one."""
        word = self._words.get(each.name)
        if word is None:
            form = each.codec.row_format
            scalar = isinstance(form, str) and len(form) == 1 and each.size in {1, 2, 4, 8}
            if not scalar or each.offset % each.size or type(each.codec).__name__ != "_Scalar":
                return None
            piece: Any = view[each.offset : each.offset + each.size]
            word = self._words[each.name] = piece.cast(form)
        return word

    def __getattr__(self, name: str) -> Any:
        known = self._words.get(name)
        if known is not None:
            try:
                return known[0]
            except ValueError:  # released just now
                raise ClosedError(f"globals of {self._spec.name}") from None
        each, view = self._find(name)
        if isinstance(view, Handle):
            return each.codec.decode(self._read(each, view), each.offset)
        try:
            word = self._word(each, view)
            return each.codec.decode(view, each.offset) if word is None else word[0]
        except ValueError:  # a view that was released
            raise ClosedError(f"globals of {self._spec.name}") from None

    def __setattr__(self, name: str, value: Any) -> None:
        each, view = self._find(name)
        if each.constant:
            raise InvalidArgument(
                name, value, "load(globals=...): constants are set before loading"
            )
        raw = each.codec.encode(value, name=name)
        if isinstance(view, Handle):
            self._write(each, view, raw)
            return
        try:
            word = self._word(each, view)
            if word is None:
                view[each.offset : each.offset + each.size] = raw
            else:
                word[0] = each.codec.decode(raw)
        except ValueError:
            raise ClosedError(f"globals of {self._spec.name}") from None

    def _read(self, each: Global, handle: Handle) -> bytearray:
        """A whole section through the system call."""
        library = _libbpf.library()
        room = bytearray(len(self._spec.data(each.section)))
        with handle as fd:
            view = library.ffi.from_buffer(room)
            if library.lib.bpf_map_lookup_elem_flags(fd, bytes(4), view, 0) < 0:
                raise _libbpf.refused(f"read {each.name}", library.ffi.errno)
        return room

    def _write(self, each: Global, handle: Handle, raw: bytes) -> None:
        library = _libbpf.library()
        with handle as fd:
            room = self._read(each, handle)
            room[each.offset : each.offset + each.size] = raw
            if library.lib.bpf_map_update_elem(fd, bytes(4), bytes(room), 0) < 0:
                raise _libbpf.refused(f"write {each.name}", library.ffi.errno)

    __getitem__ = __getattr__

    def __setitem__(self, name: str, value: Any) -> None:
        setattr(self, name, value)

    def _close(self) -> None:
        memory, words = dict(self._memory), list(self._words.values())
        self._memory.clear()
        self._words.clear()
        for word in words:
            word.release()
        for area, view in memory.values():
            if view is not None:
                view.release()
                area.close()
