"""Commands of the bpf() system call that need no libbpf, by name.

Source: ``union bpf_attr`` in ``include/uapi/linux/bpf.h``; ``perf_event_open(2)``.
"""

from __future__ import annotations

import os
from errno import ENOENT
from pathlib import Path
from struct import pack, pack_into, unpack_from
from typing import TYPE_CHECKING

from . import _libbpf
from ._kinds import ATTACH_TYPES, LINK_TYPES, MAP_TYPES, PROGRAM_TYPES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ("LinkInfo", "MapInfo", "ProgramInfo")

MAP_CREATE, PROG_LOAD, OBJ_PIN, OBJ_GET, PROG_ATTACH, PROG_DETACH = 0, 5, 6, 7, 8, 9
TEST_RUN, OBJ_INFO, PROG_QUERY, RAW_TP_OPEN, BTF_LOAD = 10, 15, 16, 17, 18
LINK_CREATE, LINK_UPDATE, ENABLE_STATS, ITER_CREATE, LINK_DETACH = 28, 29, 32, 33, 34
# Kind -> (first command of "next id", "file descriptor by id").
_IDS = {"program": (11, 13), "map": (12, 14), "link": (31, 30)}
_BTF_BY_ID = 19
_ROOM = 152  # bytes of `union bpf_attr` that the commands here use at most


def call(command: int, attributes: bytes | bytearray, operation: str) -> int:
    """Run a command, or raise `KernelRefused` about ``operation``."""
    done = _libbpf.bpf(command, attributes)
    if done < 0:
        raise _libbpf.refused(operation, -done)
    return done


def _text(raw: bytes) -> str:
    return raw.partition(b"\0")[0].decode("utf-8", "replace")


class ProgramInfo:
    """What the kernel says about a program that is loaded."""

    def __init__(self, fd: int) -> None:
        info = _info(fd, 232, "program")
        kind, self.id = unpack_from("=II", info)
        self.type = PROGRAM_TYPES[kind] if kind < len(PROGRAM_TYPES) else f"type_{kind}"
        self.tag = info[8:16].hex()
        self.jited_bytes, self.xlated_bytes = unpack_from("=II", info, 16)
        (maps,) = unpack_from("=I", info, 52)
        self.name = _text(bytes(info[64:80]))
        self.run_ns, self.runs = unpack_from("=QQ", info, 192)
        (self.verified_instructions,) = unpack_from("=I", info, 216)
        (self.recursion_misses,) = unpack_from("=Q", info, 208)
        self.map_ids: tuple[int, ...] = ()
        if maps:
            ids = bytearray(4 * maps)
            info = _info(fd, 232, "program", {52: pack("=I", maps), 56: _at(ids)})
            self.map_ids = unpack_from(f"={maps}I", ids)


def translated(fd: int) -> bytes:
    """The instructions that the kernel runs, after its own changes to them."""
    size = ProgramInfo(fd).xlated_bytes
    code = bytearray(size)
    _info(fd, 232, "program", {20: pack("=I", size), 32: _at(code)})
    return bytes(code)


class MapInfo:
    """What the kernel says about a map."""

    def __init__(self, fd: int) -> None:
        info = _info(fd, 88, "map")
        kind, self.id, self.key_size, self.value_size = unpack_from("=IIII", info)
        self.max_entries, self.flags = unpack_from("=II", info, 16)
        self.type = MAP_TYPES[kind] if kind < len(MAP_TYPES) else f"type_{kind}"
        self.name = _text(bytes(info[24:40]))
        self.btf_id, self.btf_key, self.btf_value = unpack_from("=III", info, 64)


class LinkInfo:
    """What the kernel says about a link."""

    def __init__(self, fd: int) -> None:
        info = _info(fd, 64, "link")
        kind, self.id, self.program_id = unpack_from("=III", info)
        self.type = LINK_TYPES[kind] if kind < len(LINK_TYPES) else f"type_{kind}"


def _at(data: bytearray) -> bytes:
    return pack("=Q", _libbpf.address(data))


def _info(fd: int, size: int, what: str, fill: dict[int, bytes] | None = None) -> bytearray:
    """Information about the object behind a descriptor; older kernels fill in less of it."""
    info = bytearray(size)
    for offset, value in (fill or {}).items():
        info[offset : offset + len(value)] = value
    attributes = bytearray(pack("=IIQ", fd, size, _libbpf.address(info)))
    call(OBJ_INFO, attributes, f"look at a {what}")
    return info


def types_of(number: int) -> bytes:
    """The BTF that the kernel holds under a number."""
    fd = call(_BTF_BY_ID, pack("=III", number, 0, 0), f"open types {number}")
    try:
        size = unpack_from("=I", _info(fd, 32, "type"), 8)[0]
        data = bytearray(size)
        _info(fd, 32, "type", {0: _at(data), 8: pack("=I", size)})
    finally:
        os.close(fd)
    return bytes(data)


def count_runs() -> int:
    """A descriptor: while it is open, the kernel counts runs of programs and their time."""
    return call(ENABLE_STATS, pack("=I", 0), "count runs of programs")


def ids(kind: str) -> Iterator[int]:
    """Ids of all programs, maps or links of the machine."""
    current = 0
    while True:
        attributes = bytearray(pack("=II", current, 0))
        done = _libbpf.bpf(_IDS[kind][0], attributes)
        if done == -ENOENT:
            return
        if done < 0:
            raise _libbpf.refused(f"list {kind}s", -done)
        (current,) = unpack_from("=I", attributes, 4)
        yield current


def open_id(kind: str, number: int) -> int:
    """A descriptor of the program, map or link with that id."""
    return call(_IDS[kind][1], pack("=III", number, 0, 0), f"open {kind} {number}")


def create_map(
    kind: str, key: int, value: int, entries: int, *, flags: int = 0, inner: int = 0, name: str = ""
) -> int:
    """A new map; its descriptor."""
    attributes = bytearray(_ROOM)
    number = MAP_TYPES.index(kind)
    pack_into("=IIIIIII", attributes, 0, number, key, value, entries, flags, inner, 0)
    attributes[28:43] = name.encode()[:15].ljust(15, b"\0")
    return call(MAP_CREATE, attributes, f"create a map of type {kind}")


def load_program(
    kind: str, code: bytes, *, attach: str = "", license_: bytes = b"GPL", target: int = 0
) -> int:
    """Load raw instructions; minus the error number when the kernel refuses."""
    attributes = bytearray(_ROOM)
    held, terms = bytearray(code), bytearray(license_ + b"\0")
    number = PROGRAM_TYPES.index(kind)
    pack_into("=IIQQ", attributes, 0, number, len(code) // 8, *map(_libbpf.address, (held, terms)))
    pack_into("=I", attributes, 68, ATTACH_TYPES.index(attach) if attach else 0)
    pack_into("=I", attributes, 108, target)
    return _libbpf.bpf(PROG_LOAD, attributes)


def pin(fd: int, path: str) -> None:
    """Give the object behind a descriptor a name in the BPF file system."""
    name = bytearray(os.fsencode(path) + b"\0")
    call(OBJ_PIN, pack("=QII", _libbpf.address(name), fd, 0), f"pin {path}")


def open_pin(path: str) -> int:
    """A descriptor of the object that is pinned there."""
    name = bytearray(os.fsencode(path) + b"\0")
    return call(OBJ_GET, pack("=QII", _libbpf.address(name), 0, 0), f"open pin {path}")


def link(
    program: int,
    target: int,
    attach: str,
    operation: str,
    *,
    flags: int = 0,
    extra: bytes = b"",
) -> int:
    """Attach a program; the descriptor of the link.

    Args:
        program: Descriptor of the program.
        target: Descriptor or interface number of what it is attached to.
        attach: Attach type.
        operation: What to call this when the kernel refuses it.
        flags: Flags of the link.
        extra: The part that differs by attach type.
    """
    head = pack("=IIII", program, target, ATTACH_TYPES.index(attach) if attach else 0, flags)
    return call(LINK_CREATE, bytearray((head + extra).ljust(64, b"\0")), operation)


def perf_event(
    kind: int,
    config: int,
    *,
    pid: int,
    cpu: int,
    extra: Sequence[int] = (0, 0),
    period: int = 0,
    sample: int = 0,
) -> int:
    """A perf event; its descriptor, or minus the error number.

    Args:
        kind: Which unit counts: ``PERF_TYPE_*`` or the number of a dynamic one.
        config: What it counts.
        pid: The process that is watched, -1 for all.
        cpu: The processor that is watched, -1 for all.
        extra: Two more numbers whose meaning depends on ``kind``.
        period: How many times per second, 0 for every time.
        sample: What a sample holds, ``PERF_SAMPLE_*``.
    """
    attributes = bytearray(112)
    frequency = 1 << 10 if period else 0
    pack_into("=IIQQQQQ", attributes, 0, kind, 112, config, period or 1, sample, 0, frequency)
    pack_into("=II", attributes, 48, 1, 0)
    pack_into("=QQ", attributes, 56, *extra)
    held = _libbpf.address(attributes)
    # The second argument of perf_event_open is a number: a pointer with that value.
    return _perf(held, pid, cpu)


def _perf(attributes: int, pid: int, cpu: int) -> int:
    close_on_exec = 8
    return _libbpf.syscall(
        "perf_event_open", attributes, _libbpf.pointer(pid), cpu, -1, close_on_exec
    )


def possible_cpus() -> int:
    """How many values a per-CPU value has."""
    return _ranges(Path("/sys/devices/system/cpu/possible").read_text("ascii"))


def _ranges(text: str) -> int:
    total = 0
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        total += int(last or first) - int(first) + 1
    return total
