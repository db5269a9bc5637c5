"""Tables of functions that programs fill in (``struct_ops``): a congestion control of TCP, say.

libbpf knows the kernel's layout of a table and puts the programs into it, but only when it attaches
it; so its object stays open for those. What is attached is a real link, also with a libbpf that
knows none: the map is made for one, and the system call does the rest.
"""

from __future__ import annotations

import os
import threading
from errno import EBADF, EBUSY, EEXIST, EINVAL, EOPNOTSUPP
from struct import pack
from typing import TYPE_CHECKING, Any, Final

from hastack._core._errors import ClosedError, KernelRefused, Unsupported
from hastack._core._fork import renew_in_child

from . import _kernel, _libbpf
from ._codec import BytesCodec
from ._kinds import ATTACH_TYPES
from ._links import Link
from ._maps import Map

if TYPE_CHECKING:
    from ._handle import Handle
    from ._object import Object
    from ._spec import MapSpec

__all__ = ("FLAG", "LONG", "SHORT", "Table", "Tables", "known")

FLAG: Final = 1 << 13
"""``BPF_F_LINK``: the map goes on a link."""

LONG, SHORT = b".struct_ops.link\0", b".struct_ops\0\0\0\0\0\0"
"""Sections with such tables; libbpf 1.1 knows the short name only."""


_HINTS: Final = {
    EINVAL: "it lacks a function that the kernel wants",
    EEXIST: "one of that name is registered already",
    EBADF: "one of its programs was not loaded: leave programs= out",
}


def known(content: bytes) -> bytes:
    """An object file with the section's name that every libbpf knows."""
    if LONG not in content or SHORT[:12] in content.replace(LONG, b""):
        return content
    return content.replace(LONG, SHORT)


class Tables:
    """The open object of libbpf that such maps belong to.

    Args:
        handle: ``struct bpf_object *``; this object closes it.
    """

    def __init__(self, handle: Any) -> None:
        self._handle = handle
        self._lock = threading.Lock()
        self._filled: set[str] = set()
        renew_in_child(self)

    def fill(self, name: str) -> int | None:
        """Give a map its functions, once; the descriptor of a link where libbpf made one, too.

        Raises:
            KernelRefused: The kernel does not take the table.
        """
        library = _libbpf.library()
        ffi, lib = library.ffi, library.lib
        with self._lock:
            if self._handle is None:
                raise ClosedError(name)
            if name in self._filled:
                return None
            found = lib.bpf_object__find_map_by_name(self._handle, name.encode())
            library.take_messages()
            link = lib.bpf_map__attach_struct_ops(found)
            if link == ffi.NULL:
                errno = int(ffi.errno)
                if errno not in {EBUSY, EEXIST}:  # those are about the link, not about the table
                    raise _refused(name, errno)
                self._filled.add(name)
                return None
            self._filled.add(name)
            fd = int(lib.bpf_link__fd(link))
            own = fd != int(lib.bpf_map__fd(found))
            lib.bpf_link__disconnect(link)  # its descriptor is ours from here on
            lib.bpf_link__destroy(link)
            return fd if own else None

    def close(self) -> None:
        """Give libbpf's object back."""
        with self._lock:
            handle, self._handle = self._handle, None
        if handle is not None:
            _libbpf.library().lib.bpf_object__close(handle)

    def _after_fork(self) -> None:
        self._lock = threading.Lock()


def _refused(name: str, errno: int) -> KernelRefused:
    return _libbpf.refused(f"register {name}", errno, hint=_HINTS.get(errno, ""))


class Table(Map):
    """A table of functions in the kernel; `attach` registers it.

    Its value is bytes, laid out as the kernel has them.

    Example:
        >>> from hastack import ebpf
        >>> with ebpf.load("steady.bpf.o") as obj:  # doctest: +SKIP
        ...     with obj.maps.steady.attach():
        ...         ...  # sockets may ask for it with TCP_CONGESTION
    """

    def __init__(self, handle: Handle, spec: MapSpec, tables: Tables, owner: Object) -> None:
        super().__init__(handle, spec)
        self.value = BytesCodec("bytes", _kernel.MapInfo(handle.fd).value_size)
        self._room = bytearray(self.value.size)
        self._view = self._ffi.from_buffer(self._room)
        self._tables = tables
        self._owner = owner

    def attach(self) -> Link:
        """Register the table; closing the link takes it back.

        Raises:
            KernelRefused: The kernel does not take it, or has one of that name.
            Unsupported: The kernel makes no links to tables.
        """
        made = self._tables.fill(self.name)
        if made is None:
            number = ATTACH_TYPES.index("struct_ops")
            with self._handle as fd:
                attributes = bytearray(pack("=IIII", fd, 0, number, 0).ljust(64, b"\0"))
                made = _libbpf.bpf(_kernel.LINK_CREATE, attributes)
        if made < 0:
            if -made in {EOPNOTSUPP, 524}:
                raise Unsupported(f"registering {self.name}", "the kernel makes no such links")
            raise _refused(self.name, -made)
        link = Link(made, self, f"struct_ops {self.spec.value.spelling.removeprefix('struct ')}")
        self._owner._adopt(link)
        return link

    def ready(self) -> None:
        """Have its functions in it, so that a link can go over to it."""
        made = self._tables.fill(self.name)
        if made is not None:  # libbpf could not fill it without registering it
            os.close(made)
