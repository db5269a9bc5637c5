"""What this kernel can do, found out by trying; every answer is kept for the process.

Versions say little: distributions take parts of newer kernels, and builds leave parts out.

Example:
    >>> from hastack.ebpf import features
    >>> features.has("map:no_such_type")
    False
"""

from __future__ import annotations

import os
import socket
import sys
import threading
from errno import EBADF, EINVAL, ENODEV, ENOENT, ENOTSUP, EOPNOTSUPP
from pathlib import Path
from struct import pack
from typing import TYPE_CHECKING

import attrs

from hastack._core._errors import HastackError

from . import _kernel, _libbpf, _links
from ._kinds import MAP_TYPES, PROGRAM_TYPES
from ._symbols import file_offset

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ("Feature", "check", "has", "survey")


@attrs.frozen
class Feature:
    """Whether something works here.

    Args:
        name: ``"map:ringbuf"``, ``"program:xdp"``, ``"link:tcx"``, ``"btf"``.
        there: Whether it does.
        reason: How that was found out; for what is missing, what to do about it.
    """

    name: str
    there: bool
    reason: str = ""

    def __bool__(self) -> bool:
        return self.there


_known: dict[str, Feature] = {}
_lock = threading.Lock()


def has(name: str) -> bool:
    """Whether something works here; False also where eBPF itself does not."""
    return check(name).there


def check(name: str) -> Feature:
    """Whether something works here, and how that was found out.

    Args:
        name: ``"map:TYPE"``, ``"program:TYPE"``, ``"link:KIND"``, or one of those that `survey`
            lists.
    """
    with _lock:
        if name in _known:
            return _known[name]
    found = _look(name)
    with _lock:
        return _known.setdefault(name, found)


def survey() -> tuple[Feature, ...]:
    """Everything that `check` knows of."""
    maps = [f"map:{each}" for each in MAP_TYPES[1:] if each not in _NOT_MADE]
    programs = [f"program:{each}" for each in PROGRAM_TYPES[1:]]
    return tuple(check(name) for name in (*_TRIES, *maps, *programs))


def _look(name: str) -> Feature:
    kind, _, what = name.partition(":")
    try:
        if name in _TRIES:
            return Feature(name, *_TRIES[name]())
        if kind == "map" and what in MAP_TYPES:
            return Feature(name, *_map(what))
        if kind == "program" and what in PROGRAM_TYPES:
            return Feature(name, *_program(what))
    except (HastackError, OSError) as error:
        return Feature(name, False, str(error))
    return Feature(name, False, "nothing of that name is known")


# Kinds that only come to be with something else: a type of the kernel, a program, a cgroup.
_NOT_MADE = frozenset(("struct_ops", "cgroup_storage", "percpu_cgroup_storage"))
_SHAPES: dict[str, tuple[int, int, int, int]] = {
    # type: key, value, entries, flags
    "lpm_trie": (8, 8, 1, 1),
    "stack_trace": (4, 8, 1, 0),
    "queue": (0, 4, 1, 0),
    "stack": (0, 4, 1, 0),
    "bloom_filter": (0, 4, 1, 0),
    "ringbuf": (0, 0, 4096, 0),
    "user_ringbuf": (0, 0, 4096, 0),
    "arena": (0, 0, 1, 1 << 10),
}
_STORAGES = frozenset(("sk_storage", "inode_storage", "task_storage", "cgrp_storage"))


def _map(kind: str) -> tuple[bool, str]:
    if kind in _STORAGES:
        return _storage(kind)
    key, value, entries, flags = _SHAPES.get(kind, (4, 4, 1, 0))
    inner = 0
    if kind.endswith("_of_maps"):
        inner = _kernel.create_map("array", 4, 4, 1)
    try:
        fd = _kernel.create_map(kind, key, value, entries, flags=flags, inner=inner)
        os.close(fd)
    finally:
        if inner:
            os.close(inner)
    return True, "made one"


def _storage(kind: str) -> tuple[bool, str]:
    """Storage maps take BTF of their values; without it, EINVAL instead of another error."""
    fd = _libbpf.bpf(_kernel.BTF_LOAD, _tiny_btf())
    if fd < 0:
        raise _libbpf.refused("load types", -fd)
    try:
        attributes = bytearray(152)
        head = pack("=IIIII", MAP_TYPES.index(kind), 4, 4, 0, 1)
        attributes[: len(head)] = head
        attributes[48:60] = pack("=III", fd, 1, 1)
        made = _kernel.call(_kernel.MAP_CREATE, attributes, f"create a map of type {kind}")
        os.close(made)
    finally:
        os.close(fd)
    return True, "made one"


_held: list[bytearray] = []


def _tiny_btf() -> bytes:
    """The attributes that load the type ``int``."""
    strings = b"\0int\0"
    types = pack("=IIII", 1, 1 << 24, 4, 1 << 24 | 32)
    header = pack("=HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(types), len(types), len(strings))
    content = bytearray(header + types + strings)
    _held[:] = [content]  # the kernel reads it after this returns
    return pack("=QQIIII", _libbpf.address(content), 0, len(content), 0, 0, 0)


# r0 = 0; exit
_NOTHING = bytes.fromhex("b700000000000000 9500000000000000".replace(" ", ""))
_ONE = bytes.fromhex("b700000001000000 9500000000000000".replace(" ", ""))
_ATTACH_OF = {
    "cgroup_sock_addr": "cgroup_inet4_bind",
    "cgroup_sockopt": "cgroup_setsockopt",
    "sk_lookup": "sk_lookup",
    "tracing": "trace_fentry",
    "lsm": "lsm_mac",
    "netfilter": "netfilter",
}


def _program(kind: str) -> tuple[bool, str]:
    if kind in {"tracing", "lsm", "ext", "struct_ops"}:
        return _with_target(kind)
    code = _ONE if kind in {"sk_lookup", "cgroup_sockopt", "cgroup_sock_addr"} else _NOTHING
    done = _kernel.load_program(kind, code, attach=_ATTACH_OF.get(kind, ""))
    if done < 0:
        return False, f"the kernel refused one ({_error(-done)})"
    os.close(done)
    return True, "loaded one"


def _with_target(kind: str) -> tuple[bool, str]:
    """These name a type of the kernel; type 1 is none of theirs. What matters is the error."""
    attach = {"tracing": "trace_fentry", "lsm": "lsm_mac"}.get(kind, "")
    wanted = _function(kind)
    done = _kernel.load_program(kind, _NOTHING, attach=attach, target=wanted)
    if done >= 0:
        os.close(done)
        return True, "loaded one"
    if kind in {"struct_ops", "ext"} and -done in {EINVAL, ENOTSUP, ENOENT, EBADF, 524}:
        return kind == "struct_ops", f"the kernel knows the type ({_error(-done)} for an empty one)"
    return False, f"the kernel refused one ({_error(-done)}); it may have no BPF trampolines"


def _function(kind: str) -> int:
    """The number of a function of the kernel that such programs may be attached to."""
    from . import _btf

    name = {"tracing": "bpf_fentry_test1", "lsm": "bpf_lsm_file_open"}.get(kind)
    if name is None:
        return 1
    data = memoryview(Path("/sys/kernel/btf/vmlinux").read_bytes())
    return _btf.number_of_function(data, name, sys.byteorder)


def _error(number: int) -> str:
    from errno import errorcode

    return errorcode.get(number, str(number))


def _uprobe_multi() -> tuple[bool, str]:
    fd = _kernel.load_program("kprobe", _NOTHING, attach="trace_uprobe_multi")
    if fd < 0:
        return False, f"the kernel refused the program ({_error(-fd)})"
    try:
        path, offsets = bytearray(b"/\0"), bytearray(8)
        at = _libbpf.address
        extra = pack("=QQQQIII", at(path), at(offsets), 0, 0, 1, 0, 0)
        attributes = pack("=IIII", fd, 0, 48, 0) + extra
        done = _libbpf.bpf(_kernel.LINK_CREATE, bytearray(attributes.ljust(64, b"\0")))
    finally:
        os.close(fd)
    if done >= 0:
        os.close(done)
    # A directory is no file to probe: EBADF. A kernel without such links answers EINVAL before.
    return done == -EBADF, f"a link to a folder gives {_error(-done)}"


def _uprobe() -> tuple[bool, str]:
    """A probe at a function that this process never calls, opened for itself only."""
    path = next(
        (
            line.split()[-1]
            for line in Path("/proc/self/maps").read_text("utf-8").splitlines()
            if line.rpartition("/")[2].startswith(("libc.so", "libc-", "ld-musl"))
        ),
        "",
    )
    if not path:
        return False, "no C library of this process was found to try it on"
    offset = file_offset(memoryview(Path(path).read_bytes()), "l64a")
    held = bytearray(os.fsencode(path) + b"\0")
    unit = _links.unit_type("uprobe")
    event = _kernel.perf_event(unit, 0, pid=0, cpu=-1, extra=(_libbpf.address(held), offset))
    if event < 0:
        return False, f"the kernel refused one ({_error(-event)})"
    os.close(event)
    return True, "opened one"


def _tcx() -> tuple[bool, str]:
    fd = _kernel.load_program("sched_cls", _NOTHING, attach="tcx_ingress")
    if fd < 0:
        return False, f"the kernel refused the program ({_error(-fd)})"
    try:
        # An interface that is not there: ENODEV where such links are known, EINVAL elsewhere.
        attributes = pack("=IIII", fd, 0x7FFFFFFF, 46, 0)
        done = _libbpf.bpf(_kernel.LINK_CREATE, bytearray(attributes.ljust(64, b"\0")))
    finally:
        os.close(fd)
    return done == -ENODEV, f"a link to no interface gives {_error(-done)}"


def _tracefs() -> tuple[bool, str]:
    os.close(_links._private_tracefs("mount tracefs"))
    return True, "mounted one that no path leads to"


def _bpffs() -> tuple[bool, str]:
    for line in Path("/proc/self/mounts").read_text("utf-8").splitlines():
        fields = line.split()
        if fields[2] == "bpf":
            return True, f"mounted at {fields[1]}"
    return False, "not mounted; mount -t bpf bpf /sys/fs/bpf"


def _btf_there() -> tuple[bool, str]:
    if Path("/sys/kernel/btf/vmlinux").exists():
        return True, "/sys/kernel/btf/vmlinux"
    return False, "no /sys/kernel/btf/vmlinux; load(btf=FILE) takes one from elsewhere"


def _libbpf_there() -> tuple[bool, str]:
    found = _libbpf.library()
    return True, f"{found.version} at {found.path}"


def _cgroups() -> tuple[bool, str]:
    for line in Path("/proc/self/mounts").read_text("utf-8").splitlines():
        fields = line.split()
        if fields[2] == "cgroup2":
            return True, f"version 2 at {fields[1]}"
    return False, "no cgroup of version 2 is mounted"


def _bpf_call() -> tuple[bool, str]:
    fd = _kernel.create_map("array", 4, 4, 1)
    os.close(fd)
    return True, "made a map"


def _signed() -> tuple[bool, str]:
    """An empty signature is refused in another way by kernels that check signatures."""
    attributes = bytearray(168)
    code, terms, mark = bytearray(_NOTHING), bytearray(b"GPL\0"), bytearray(8)
    at = _libbpf.address
    head = pack("=IIQQ", PROGRAM_TYPES.index("socket_filter"), 2, at(code), at(terms))
    attributes[: len(head)] = head
    attributes[152:168] = pack("=QII", at(mark), 8, 0)
    done = _libbpf.bpf(_kernel.PROG_LOAD, attributes)
    if done >= 0:
        os.close(done)
        return False, "the kernel ignores signatures"
    missing = -done in {EOPNOTSUPP, 524, 7}
    return not missing, f"a false signature gives {_error(-done)}"


def _sockets_map() -> tuple[bool, str]:
    """FIONREAD of a socket in a sockmap: some kernels answer 0 whatever is there to read."""
    import fcntl
    from struct import unpack

    held = _kernel.create_map("sockmap", 4, 4, 1)
    with socket.socket() as server, socket.socket() as client:
        try:
            server.bind(("127.0.0.1", 0))
            server.listen(1)
            client.settimeout(2.0)
            client.connect(server.getsockname())
            peer, _ = server.accept()
            with peer:
                lib, ffi = _libbpf.library().lib, _libbpf.library().ffi
                if lib.bpf_map_update_elem(held, bytes(4), pack("=I", peer.fileno()), 0) < 0:
                    raise _libbpf.refused("put a socket into a sockmap", ffi.errno)
                client.sendall(bytes(100))
                peer.settimeout(2.0)
                peer.recv(1, socket.MSG_PEEK)
                (waiting,) = unpack("=i", fcntl.ioctl(peer, 0x541B, bytes(4)))
        finally:
            os.close(held)
    return waiting == 100, f"FIONREAD says {waiting} for 100 bytes in a sockmap"


_TRIES: dict[str, Callable[[], tuple[bool, str]]] = {
    "libbpf": _libbpf_there,
    "bpf": _bpf_call,
    "btf": _btf_there,
    "bpffs": _bpffs,
    "tracefs": _tracefs,
    "cgroup2": _cgroups,
    "uprobe": _uprobe,
    "link:uprobe_multi": _uprobe_multi,
    "link:tcx": _tcx,
    "signatures": _signed,
    "sockmap:fionread": _sockets_map,
}
