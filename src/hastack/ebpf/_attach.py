"""One way to attach per kind of program."""

from __future__ import annotations

import mmap
import os
import socket
from errno import EACCES, EINVAL, ENOENT, EPERM
from functools import partial
from pathlib import Path
from struct import pack
from typing import TYPE_CHECKING, Any

from hastack._core._errors import InvalidArgument, Unsupported

from . import _kernel, _libbpf, _links, _usdt
from ._handle import Handle
from ._kinds import ATTACH_TYPES
from ._links import Link
from ._symbols import file_offset, is_go, split_target
from ._usdt_places import SPECS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from ._object import Program

__all__ = ("attach",)

_XDP_MODES = {None: 0, "generic": 2, "native": 4, "offload": 8}
# What a uprobe must not stand on: on kernels before the fix, the optimised form of a probe there
# writes below the stack pointer (anchors: linux-trace-kernel, May 2026).
_NOP5 = bytes.fromhex("0f1f440000")


def attach(program: Program, target: Any, options: Mapping[str, Any]) -> Link:
    """Attach a program, by its type and section."""
    way = _WAYS.get(program.type)
    if program.type == "kprobe":
        way = _KPROBES.get(program.spec.section.lstrip("?").partition("/")[0].split(".")[0])
    if way is None:
        raise Unsupported(
            f"attaching {program.name}", f"hastack attaches no programs of type {program.type}"
        )
    given = dict(options)
    try:
        if given.pop("swappable", False):
            return _through_slot(way, program, target, given)
        return way(program, target, **given)
    except TypeError as error:
        if "unexpected keyword argument" not in str(error):
            raise
        raise InvalidArgument("options", sorted(options), f"options of {program.type}") from None


class _Stub:
    """What a way of attaching needs to know of a program: here, of the one in front of the slot."""

    def __init__(self, program: Program, handle: Handle) -> None:
        self._handle = handle
        self.spec = program.spec
        self.name = program.name
        self.type = program.type
        self.attach_type = program.attach_type
        self._owner = program._owner


def _through_slot(
    way: Callable[..., Link], program: Program, target: Any, options: dict[str, Any]
) -> Link:
    """Attach a stub that jumps to the program, so that another can take its place."""
    if program.type not in _SLOTS:
        raise InvalidArgument("swappable", True, f"a program of type {' or '.join(_SLOTS)}")
    operation = f"make a slot for {program.name}"
    name = f"slot of {program.name}"
    slot = Handle(name, _kernel.create_map("prog_array", 4, 4, 1), keep_in_child=False)
    stub = None
    try:
        with slot as fd, program._handle as first:
            _links.fill_slot(fd, first, operation)
            made = _links.stub(program.type, program.attach_type, fd, operation)
        stub = Handle(f"stub of {program.name}", made)
        link = way(_Stub(program, stub), target, **options)
    except BaseException:
        slot.close()
        raise
    finally:
        if stub is not None:
            stub.close()  # the link holds the program
    link.program = program
    link._slot = slot
    return link


_SLOTS = ("kprobe", "raw_tracepoint", "tracepoint", "perf_event")


def _link(program: Program, at: int, where: str, **more: Any) -> Link:
    with program._handle as fd:
        operation = f"attach {program.name} to {where}"
        made = _kernel.link(fd, at, more.pop("attach", program.attach_type), operation, **more)
    return Link(made, program, where)


def _cgroup(program: Program, target: Any, *, cgroup: Any = None) -> Link:
    folder = cgroup if target is None else target
    if folder is None:
        raise InvalidArgument("target", target, "the folder of a cgroup (version 2)")
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    attach_type = program.attach_type or "cgroup_inet_ingress"
    try:
        return _link(program, fd, f"cgroup {os.fspath(folder)}", attach=attach_type)
    finally:
        os.close(fd)


def _interface(target: Any) -> int:
    if isinstance(target, int) and target > 0:
        return target
    if not isinstance(target, str):
        raise InvalidArgument("target", target, "the name or number of a network interface")
    try:
        return socket.if_nametoindex(target)
    except OSError:
        known = ", ".join(name for _, name in socket.if_nameindex())
        raise InvalidArgument("target", target, f"a network interface: {known}") from None


def _xdp(program: Program, target: Any, *, interface: Any = None, mode: str | None = None) -> Link:
    if mode not in _XDP_MODES:
        raise InvalidArgument("mode", mode, "None, 'native', 'generic' or 'offload'")
    at = interface if target is None else target
    number = _interface(at)
    return _link(program, number, f"interface {at}", attach="xdp", flags=_XDP_MODES[mode])


def _tc(
    program: Program, target: Any, *, interface: Any = None, direction: str | None = None
) -> Link:
    at = interface if target is None else target
    attach_type = program.attach_type
    if direction is not None:
        if direction not in {"ingress", "egress"}:
            raise InvalidArgument("direction", direction, "'ingress' or 'egress'")
        attach_type = f"tcx_{direction}"
    if not attach_type:
        raise InvalidArgument("direction", direction, "'ingress' or 'egress'")
    number = _interface(at)
    where = f"{attach_type} of interface {at}"
    try:
        return _link(program, number, where, attach=attach_type)
    except OSError as error:
        if error.errno != EINVAL:
            raise
        raise Unsupported(
            "tcx", "the kernel does not link programs to tc", remedy="Linux 6.6 has it"
        ) from None


def _netns(program: Program, target: Any, *, netns: Any = None) -> Link:
    path = netns or target or "/proc/self/ns/net"
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return _link(program, fd, f"network namespace {path}")
    finally:
        os.close(fd)


def _raw_tracepoint(program: Program, target: Any) -> Link:
    name = target or program.spec.target
    if not isinstance(name, str) or not name:
        raise InvalidArgument("target", target, "the name of a raw tracepoint")
    held = bytearray(name.encode() + b"\0")
    hint_free = f"attach {program.name} to raw tracepoint {name}"
    with program._handle as fd:
        attributes = pack("=QIIQ", _libbpf.address(held), fd, 0, 0)
        made = _libbpf.bpf(_kernel.RAW_TP_OPEN, attributes)
    if made < 0:
        hint = "the kernel has no tracepoint of that name" if made == -ENOENT else ""
        raise _libbpf.refused(hint_free, -made, hint=hint)
    return Link(made, program, f"raw tracepoint {name}")


def _tracing(program: Program, target: Any, *, map: Any = None) -> Link:  # noqa: A002  # iterates it
    """fentry, fexit, LSM and tp_btf know their place from loading; iterators may take a map."""
    if program.attach_type == "trace_iter":
        where = f"iterator over {program.spec.target}"
        if map is None:
            return _link(program, 0, where)
        with map._handle as fd:
            held = bytearray(pack("=I", fd).ljust(16, b"\0"))
            return _link(program, 0, where, extra=pack("=QI", _libbpf.address(held), len(held)))
    with program._handle as fd:
        attributes = pack("=QIIQ", 0, fd, 0, 0)
        made = _kernel.call(_kernel.RAW_TP_OPEN, attributes, f"attach {program.name}")
    return Link(made, program, program.spec.target)


def _perf_link(program: Program, event: int, where: str, cookie: int = 0) -> Link:
    """A link to a perf event, which ends with it."""
    if event < 0:
        hint = "perf events take CAP_PERFMON" if event in {-EACCES, -EPERM} else ""
        raise _libbpf.refused(f"open {where} for {program.name}", -event, hint=hint)
    try:
        with program._handle as fd:
            operation = f"attach {program.name} to {where}"
            extra = pack("=Q", cookie)
            made = _kernel.link(fd, event, "perf_event", operation, extra=extra)
    except BaseException:
        os.close(event)
        raise
    return Link(made, program, where, (event,))


def _tracepoint(program: Program, target: Any, *, cookie: int = 0) -> Link:
    name = target or program.spec.target
    group, slash, each = str(name).partition("/")
    if not slash or not each:
        raise InvalidArgument("target", target, "a tracepoint: 'syscalls/sys_enter_openat'")
    number = _links.tracepoint_id(group, each)
    event = _kernel.perf_event(2, number, pid=-1, cpu=0)
    return _perf_link(program, event, f"tracepoint {name}", cookie)


def _perf_event(
    program: Program,
    target: Any,
    *,
    kind: int = 1,
    config: int = 0,
    frequency: int = 99,
    pid: int = -1,
    cpu: int = 0,
    cookie: int = 0,
) -> Link:
    """By default 99 times per second of one processor's time (``PERF_COUNT_SW_CPU_CLOCK``)."""
    event = _kernel.perf_event(kind, config, pid=pid, cpu=cpu, period=frequency)
    return _perf_link(program, event, f"perf event {kind}:{config} on cpu {cpu}", cookie)


def _places(
    program: Program, target: Any, symbol: str | None, offset: int, symbols: Any
) -> tuple[str, list[int]]:
    """The file and the offsets in it where a uprobe goes."""
    spelled = str(target or program.spec.target or "")
    parts = split_target(spelled) if symbol is None and symbols is None else None
    if parts is not None:
        path, symbol, add = parts
        offset += add
    else:
        path = spelled
    if not path or (symbol is None and symbols is None):
        raise InvalidArgument("target", target, "'/path/of/file:symbol', or a path and symbol=")
    path = _found(path)
    names = [symbol] if symbols is None else list(symbols)
    offsets = []
    with _mapped(path) as content:
        for name in names:
            at = file_offset(content, str(name)) + offset
            if os.uname().machine == "x86_64" and content[at : at + 5] == _NOP5:
                raise Unsupported(
                    f"a uprobe at {name}+{offset}",
                    "it stands on a 5-byte nop, where this kernel's probes may corrupt the stack",
                    remedy="Move it to another instruction with offset=",
                )
            offsets.append(at)
    return path, offsets


class _mapped:  # noqa: N801  # used like a function
    def __init__(self, path: str) -> None:
        self._path = path

    def __enter__(self) -> memoryview:
        with open(self._path, "rb") as file:  # noqa: PTH123
            self._area = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
        self._view = memoryview(self._area)
        return self._view

    def __exit__(self, *_: object) -> None:
        self._view.release()
        try:
            self._area.close()
        except BufferError:  # an exception on its way still holds a piece of it
            pass


def _found(name: str) -> str:
    """A program or library by its path, or by its name as the shell and the linker would."""
    if "/" in name:
        return os.path.realpath(name)
    import shutil

    path = shutil.which(name)
    if path is not None:
        return os.path.realpath(path)
    for folder in _library_folders():
        for found in sorted(folder.glob(f"{name}*")):
            if found.name == name or found.name.startswith((f"{name}.so", f"lib{name}.so")):
                return str(found.resolve())
    raise InvalidArgument("target", name, "the path of a file, or a program or library by name")


def _library_folders() -> Iterator[Path]:
    machine = os.uname().machine
    for root in ("/lib", "/usr/lib", "/usr/local/lib"):
        yield Path(root, f"{machine}-linux-gnu")
        yield Path(f"{root}64")
        yield Path(root)


def _uprobe(
    program: Program,
    target: Any,
    *,
    symbol: str | None = None,
    symbols: Any = None,
    offset: int = 0,
    pid: int | None = None,
    ret: bool | None = None,
    cookie: int = 0,
) -> Link:
    section = program.spec.section.lstrip("?")
    returns = section.startswith("uretprobe") if ret is None else ret
    path, offsets = _places(program, target, symbol, offset, symbols)
    if returns:
        with _mapped(path) as content:
            moves = is_go(content)
        if moves:
            raise Unsupported(
                f"a uretprobe in {path}",
                "Go moves its stacks, and ends with a fatal error when it meets a changed return",
                remedy="Probe the return instructions with offset=, or another function's entry",
            )
    none = [0] * len(offsets)
    return _at_offsets(program, path, offsets, none, pid, returns, [cookie] * len(offsets))


def _at_offsets(
    program: Program,
    path: str,
    offsets: list[int],
    counters: list[int],
    pid: int | None,
    returns: bool,
    cookies: list[int],
) -> Link:
    where = f"{path}+{offsets[0]:#x}" + (f" and {len(offsets) - 1} more" if offsets[1:] else "")
    if program.attach_type == "trace_uprobe_multi":
        held = bytearray(os.fsencode(path) + b"\0")
        parts = (offsets, counters, cookies)
        lists = [bytearray(pack(f"={len(offsets)}Q", *part)) for part in parts]
        at = [_libbpf.address(each) for each in (held, *lists)]
        if not any(counters):
            at[2] = 0
        extra = pack("=QQQQIII", *at, len(offsets), int(returns), pid or 0)
        return _link(program, 0, where, extra=extra)
    if len(offsets) > 1:
        raise Unsupported(
            "one link for several uprobes",
            "the kernel has no uprobe_multi",
            remedy="Linux 6.6 has it; attach them one by one",
        )
    unit = _links.unit_type("uprobe")
    held = bytearray(os.fsencode(path) + b"\0")
    event = _kernel.perf_event(
        unit,
        int(returns) | counters[0] << 32,
        pid=-1 if pid is None else pid,
        cpu=0 if pid is None else -1,
        extra=(_libbpf.address(held), offsets[0]),
    )
    return _perf_link(program, event, where, cookies[0])


def _usdt_probe(program: Program, target: Any, *, pid: int | None = None, cookie: int = 0) -> Link:
    spelled = str(target or program.spec.target or "")
    path, _, rest = spelled.partition(":")
    provider, _, name = rest.partition(":")
    if not path or not provider or not name:
        raise InvalidArgument("target", target, "'/path/of/file:provider:name'")
    path = _found(path)
    with _mapped(path) as content:
        probes = _usdt.find(content, provider, name)
    if not probes:
        raise InvalidArgument("target", spelled, "a USDT probe of that file")
    offsets = [probe.offset for probe in probes]
    counters = [probe.semaphore for probe in probes]
    if SPECS not in program.spec.maps:
        cookies = [cookie] * len(probes)
        return _at_offsets(program, path, offsets, counters, pid, False, cookies)
    places = program._owner._usdt_places()
    taken = places.take([probe.arguments for probe in probes], cookie)
    try:
        link = _at_offsets(program, path, offsets, counters, pid, False, taken)
    except BaseException:
        places.give(taken)
        raise
    link._ended = partial(places.give, taken)
    return link


def _no_kprobe(program: Program, target: Any, **_: Any) -> Link:
    raise Unsupported(
        f"attaching {program.name}",
        "hastack attaches no kprobes",
        remedy="Use fentry, a tracepoint or a raw tracepoint",
    )


def _no_struct_ops(program: Program, target: Any, **_: Any) -> Link:
    raise Unsupported(
        f"attaching {program.name} alone",
        "it is a function in a table",
        remedy="Attach the table: obj.maps.NAME.attach()",
    )


class _SocketLink(Link):
    """Programs on maps of sockets have no kernel link on older kernels; this looks like one."""

    def __init__(self, program: Program, fd: int, attach: int, where: str) -> None:
        self._handle = Handle(where, fd, keep_in_child=False)
        self._others = ()
        self._attach = attach
        self.program = program
        self.target = where
        self.id = 0
        self.type = "sockmap"

    def close(self) -> None:
        if self._handle.closed:
            return
        with self._handle as fd, self.program._handle as prog:
            _libbpf.bpf(_kernel.PROG_DETACH, pack("=IIIII", fd, prog, self._attach, 0, 0))
        self._handle.close()

    def query(self) -> dict[str, object]:
        return {"id": 0, "type": self.type, "program_id": self.program.id}


def _sockets(program: Program, target: Any, *, map: Any = None) -> Link:  # noqa: A002
    sockets = map if target is None else target
    handle = getattr(sockets, "_handle", None)
    if handle is None:
        raise InvalidArgument("target", sockets, "a Map of type sockmap or sockhash")
    where = f"sockets of {sockets.name}"
    number = ATTACH_TYPES.index(program.attach_type)
    with handle as fd, program._handle as prog:
        attributes = pack("=IIIII", fd, prog, number, 0, 0)
        _kernel.call(_kernel.PROG_ATTACH, attributes, f"attach {program.name} to {where}")
    return _SocketLink(program, handle.duplicate(), number, where)


_CGROUPS = (
    *("cgroup_skb", "cgroup_sock", "cgroup_sock_addr", "cgroup_sockopt", "cgroup_sysctl"),
    *("cgroup_device", "sock_ops"),
)
_WAYS: dict[str, Callable[..., Link]] = {
    **dict.fromkeys(_CGROUPS, _cgroup),
    "xdp": _xdp,
    "sched_cls": _tc,
    "sk_lookup": _netns,
    "flow_dissector": _netns,
    "raw_tracepoint": _raw_tracepoint,
    "raw_tracepoint_writable": _raw_tracepoint,
    "tracing": _tracing,
    "lsm": _tracing,
    "struct_ops": _no_struct_ops,
    "tracepoint": _tracepoint,
    "perf_event": _perf_event,
    "sk_msg": _sockets,
    "sk_skb": _sockets,
}
_KPROBES: dict[str, Callable[..., Link]] = {
    "uprobe": _uprobe,
    "uretprobe": _uprobe,
    "usdt": _usdt_probe,
    "kprobe": _no_kprobe,
    "kretprobe": _no_kprobe,
    "ksyscall": _no_kprobe,
    "kretsyscall": _no_kprobe,
}
