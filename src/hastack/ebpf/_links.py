"""Links: programs where they run, and the way back."""

from __future__ import annotations

import os
import warnings
from errno import ENODEV, ENOENT, EOPNOTSUPP
from pathlib import Path
from struct import pack
from typing import TYPE_CHECKING, Any, Self

from hastack._core._errors import ClosedError

from . import _kernel, _libbpf
from ._handle import Handle

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from ._object import Program
    from ._structops import Table

__all__ = ("Link",)

# The kernel exchanges the program of these links; of the others it answers EINVAL.
_UPDATABLE = frozenset(("cgroup", "netns", "xdp", "tcx", "iter", "netkit", "struct_ops"))


class Link:
    """A program that is attached, until `close`, the end of a ``with`` block, or of the process.

    A link that is forgotten warns with a `ResourceWarning` and is closed; links do not end
    silently. A forked child holds none of its parent's.

    Args:
        fd: The link's descriptor; the link owns it.
        program: The program that is attached.
        target: Where, for people.
        others: Further descriptors that end with it.
    """

    _slot: Handle | None = None
    _ended: Callable[[], None] | None = None

    def __init__(
        self, fd: int, program: Program | Table, target: str, others: tuple[int, ...] = ()
    ) -> None:
        name = f"link of {program.name} to {target}"
        self._handle = Handle(name, fd, keep_in_child=False)
        self._others = tuple(Handle(name, each, keep_in_child=False) for each in others)
        self.program: Any = program  # for a table, the map
        self.target = target
        info = _kernel.LinkInfo(fd)
        self.id = info.id
        self.type = info.type

    def __repr__(self) -> str:
        state = ", closed" if self.closed else ""
        return f"<ebpf.Link {self.program.name} -> {self.target} ({self.type}){state}>"

    @property
    def fd(self) -> int:
        """Its descriptor, which stays the link's."""
        return self._handle.fd

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._handle.closed

    @property
    def updatable(self) -> bool:
        """Whether `update` can exchange its program."""
        return self._slot is not None or self.type in _UPDATABLE

    def update(self, program: Program | Table) -> None:
        """Exchange the program in one step: every packet or call meets the old or the new one.

        Args:
            program: A loaded program of the same type; for a table of functions, another table.

        Raises:
            KernelRefused: The kernel does not exchange programs of such links, or not for this one.
        """
        if self._slot is not None:
            with self._handle, self._slot as fd, program._handle as new:
                fill_slot(fd, new, f"update {self._handle.name}")
                self.program = program
            return
        ready = getattr(program, "ready", None)  # a table of functions has to be filled first
        if ready is not None:
            ready()
        with self._handle as fd, program._handle as new:
            attributes = pack("=IIII", fd, new, 0, 0)
            _kernel.call(_kernel.LINK_UPDATE, attributes, f"update {self._handle.name}")
            self.program = program

    def query(self) -> dict[str, object]:
        """What the kernel says: id and type of the link, and the id of its program."""
        with self._handle as fd:
            info = _kernel.LinkInfo(fd)
        return {"id": info.id, "type": info.type, "program_id": info.program_id}

    def read(self) -> bytes:
        """Run an iterator and return all it writes.

        Raises:
            ClosedError: The link was closed.
            KernelRefused: It is no link of an iterator.
        """
        with self._handle as fd:
            made = _kernel.call(_kernel.ITER_CREATE, pack("=II", fd, 0), f"run {self._handle.name}")
        with os.fdopen(made, "rb") as file:
            return file.read()

    def pin(self, path: str | Path) -> None:
        """Give the link a name in a BPF file system: it then outlives this process."""
        with self._handle as fd:
            _kernel.pin(fd, os.fspath(path))

    def close(self) -> None:
        """Detach; more than once does nothing."""
        if self._handle.closed:
            return
        try:
            # Also detaches where a copy of the descriptor lives on, in another process for example.
            with self._handle as fd:
                _libbpf.bpf(_kernel.LINK_DETACH, bytearray(pack("=I", fd)))
        except ClosedError:  # by another thread, just now
            return
        self._handle.close()
        for each in self._others:
            each.close()
        if self._slot is not None:
            self._slot.close()
        ended, self._ended = self._ended, None
        if ended is not None:
            ended()

    def release(self) -> None:
        """Give the descriptor back without detaching: a pinned link goes on."""
        self._handle.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        handle = getattr(self, "_handle", None)
        if handle is not None and not handle.closed:
            warnings.warn(
                f"{handle.name} was never closed", ResourceWarning, stacklevel=2, source=self
            )
            self.close()


def fill_slot(fd: int, program: int, operation: str) -> None:
    """Put a program into the first slot of a program array: the next run is its."""
    library = _libbpf.library()
    if library.lib.bpf_map_update_elem(fd, bytes(4), pack("=I", program), 0) < 0:
        raise _libbpf.refused(operation, library.ffi.errno)


def stub(kind: str, attach: str, slot: int, operation: str) -> int:
    """A program that jumps to the one in a slot, and returns 0 when there is none.

    Kinds of links that the kernel does not exchange (uprobe, raw tracepoint) stay attached to this
    while the slot changes. Source: ``bpf_tail_call`` in bpf-helpers(7).
    """
    code = b"".join(
        (
            pack("=BBhi", 0x18, 0x12, 0, slot) + bytes(8),  # r2 = the array; r1 is the context
            pack("=BBhi", 0xB7, 3, 0, 0),  # r3 = its first slot
            pack("=BBhi", 0x85, 0, 0, 12),  # bpf_tail_call, which does not come back
            pack("=BBhi", 0xB7, 0, 0, 0),
            pack("=BBhi", 0x95, 0, 0, 0),
        )
    )
    done = _kernel.load_program(kind, code, attach=attach)
    if done < 0:
        raise _libbpf.refused(operation, -done)
    return done


def tracepoint_id(group: str, name: str) -> int:
    """The number of a tracepoint, from tracefs; that need not be mounted.

    Raises:
        KernelRefused: There is no such tracepoint, or no tracefs.
    """
    path = f"events/{group}/{name}/id"
    for root in ("/sys/kernel/tracing", "/sys/kernel/debug/tracing"):
        try:
            return int(Path(root, path).read_text("ascii"))
        except (OSError, ValueError):
            continue
    # A mount of our own that no path leads to, and that ends with its descriptor.
    folder = _private_tracefs(f"find tracepoint {group}/{name}")
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=folder)
    except OSError as error:
        known = "the kernel has no tracepoint of that name"
        errno = error.errno or ENOENT
        raise _libbpf.refused(f"find tracepoint {group}/{name}", errno, hint=known) from None
    finally:
        os.close(folder)
    with os.fdopen(file, "r") as text:
        return int(text.read())


def _private_tracefs(operation: str) -> int:
    create, cloexec = 6, 1  # FSCONFIG_CMD_CREATE, FSOPEN_CLOEXEC and FSMOUNT_CLOEXEC
    name = bytearray(b"tracefs\0")
    context = _libbpf.syscall("fsopen", _libbpf.address(name), _libbpf.pointer(cloexec))
    if context < 0:
        missing = "the kernel has no tracefs" if -context == ENODEV else ""
        raise _libbpf.refused(operation, -context, hint=missing)
    try:
        made = _libbpf.syscall("fsconfig", context, _libbpf.pointer(create))
        if made >= 0:
            made = _libbpf.syscall("fsmount", context, _libbpf.pointer(cloexec))
    finally:
        os.close(context)
    if made < 0:
        raise _libbpf.refused(operation, -made, hint="tracefs cannot be mounted")
    return made


def unit_type(unit: str) -> int:
    """The number of a dynamic performance unit, ``"uprobe"`` for example."""
    path = Path(f"/sys/bus/event_source/devices/{unit}/type")
    try:
        return int(path.read_text("ascii"))
    except (OSError, ValueError):
        hint = f"the kernel has no {unit}s"
        raise _libbpf.refused(f"find performance unit {unit}", EOPNOTSUPP, hint=hint) from None
