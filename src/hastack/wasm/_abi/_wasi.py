"""WASI preview 1, of our own: nothing in it waits longer than the call may take.

The engine's own WASI sleeps outside of guest code, where no epoch reaches it: a sleep of 1.5 s
outlived a deadline of 20 ms. There are standard streams in memory, arguments, a coarse clock and
random numbers; there are no files but those in folders that were granted, and there is no network,
and a guest that asks is told so.

https://github.com/WebAssembly/WASI/blob/main/legacy/preview1/docs.md
"""

from __future__ import annotations

import os
import random
import struct
import time
from typing import TYPE_CHECKING, Any, Final

import attrs

from hastack._core import _validate
from hastack._core._errors import GuestExit, InvalidArgument, WasmError
from hastack.wasm._host import HostFunction

from . import _wasi_files as _files
from ._adapted import Adapted
from ._wasi_files import Directory, Files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from hastack.wasm._instance import Instance
    from hastack.wasm._reader import Facts

__all__ = ("Directory", "Output", "Wasi", "adapt", "run")

MODULES: Final = ("wasi_snapshot_preview1", "wasi_unstable")
BAD_FILE, INVALID, NOT_SUPPORTED, NOT_A_SEEK = 8, 28, 58, 70
_VECTORS: Final = 1024
_ABSENT: Final = ("sock_accept", "sock_recv", "sock_send", "sock_shutdown")


def _strings(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(values)


def _folders(given: Mapping[str, Any]) -> dict[str, Directory]:
    try:
        return {
            name: each if isinstance(each, Directory) else Directory(os.fspath(each))
            for name, each in given.items()
        }
    except (AttributeError, TypeError):
        raise InvalidArgument("files", given, "folders by name") from None


@attrs.frozen(kw_only=True)
class Wasi:
    """What a WASI module gets from its host.

    Attributes:
        args: Its arguments; the first is its name.
        env: Its environment.
        clock: Resolution of its clocks in seconds; coarse, so that little can be told from time.
        files: Folders by the name that the guest knows them by, ``{"/data": "/srv/data"}`` or a
            `Directory`; nothing else can be reached, and no symbolic link is followed.
        seed: Where its random numbers begin; ``None`` for those of the system.

    Raises:
        InvalidArgument: ``clock`` is not above zero, or the rest are no strings.
    """

    args: tuple[str, ...] = attrs.field(default=("guest",), converter=_strings)
    env: Mapping[str, str] = attrs.field(factory=dict)
    clock: float = 0.001
    seed: int | None = None
    files: Mapping[str, Directory] = attrs.field(factory=dict, converter=_folders)

    def __attrs_post_init__(self) -> None:
        _validate.seconds("clock", self.clock)
        checked = {
            "args": self.args,
            "env": [*self.env, *self.env.values()],
            "files": [*self.files, *(each.path for each in self.files.values())],
        }
        for parameter, values in checked.items():
            given: list[object] = list(values)
            if not all(isinstance(one, str) and "\0" not in one for one in given):
                raise InvalidArgument(parameter, values, "strings without a zero inside")


@attrs.frozen
class Output:
    """What a command left behind: its status, and what it wrote."""

    status: int
    stdout: bytes
    stderr: bytes


class Finished(Exception):  # no error: a guest that ended itself with status 0
    """A guest called ``proc_exit(0)``."""


class State:
    """The streams of one instance."""

    __slots__ = ("args", "at", "env", "files", "random", "stdin", "streams", "wasi")

    def __init__(self, wasi: Wasi) -> None:
        self.wasi = wasi
        self.files = Files(wasi.files) if wasi.files else None
        self.args = [one.encode() + b"\0" for one in wasi.args]
        self.env = [f"{name}={value}".encode() + b"\0" for name, value in wasi.env.items()]
        self.stdin = b""
        self.at = 0
        self.streams = {1: bytearray(), 2: bytearray()}
        seed = wasi.seed
        self.random: Callable[[int], bytes] = (
            os.urandom if seed is None else random.Random(seed).randbytes
        )

    def close(self) -> None:
        """Close what the guest left open."""
        if self.files is not None:
            self.files.close()


def adapt(facts: Facts, wasi: Wasi | None) -> Adapted | None:
    """A module that imports WASI or is a command, or ``None``."""
    modules = [name for name in MODULES if any(i.module == name for i in facts.imports)]
    command = facts.export("_start") is not None
    if not modules and not command:
        return None
    settings = wasi or Wasi()
    grants = {name: HostFunction(function, None, inside=True) for name, function in CALLS.items()}
    return Adapted(
        name="wasi",
        grants={module: dict(grants) for module in modules},
        command=command,
        state=lambda: State(settings),
    )


def _put(instance: Instance, pointer: int, form: str, *values: int) -> int:
    instance.open_memory().write(pointer, struct.pack(form, *values))
    return 0


def _list_sizes(
    which: str,
) -> tuple[Callable[[Instance, int, int], int], Callable[[Instance, int, int], int]]:
    def sizes(instance: Instance, count: int, length: int) -> int:
        items = getattr(instance.state, which)
        _put(instance, count, "<I", len(items))
        return _put(instance, length, "<I", sum(map(len, items)))

    def get(instance: Instance, pointers: int, buffer: int) -> int:
        at = buffer & 0xFFFFFFFF
        memory = instance.open_memory()
        for number, item in enumerate(getattr(instance.state, which)):
            memory.write(pointers + 4 * number, struct.pack("<I", at))
            memory.write(at, item)
            at += len(item)
        return 0

    return sizes, get


def _now(instance: Instance, clock: int) -> int | None:
    """Nanoseconds of a clock, as coarse as granted; ``None`` for one that there is not."""
    if clock not in {0, 1, 2, 3}:
        return None
    step = max(int(instance.state.wasi.clock * 1e9), 1)
    now = time.time_ns() if clock == 0 else time.monotonic_ns()
    return now // step * step


def _clock_time_get(instance: Instance, clock: int, _precision: int, out: int) -> int:
    now = _now(instance, clock)
    return INVALID if now is None else _put(instance, out, "<Q", now)


def _clock_res_get(instance: Instance, clock: int, out: int) -> int:
    if clock not in {0, 1, 2, 3}:
        return INVALID
    return _put(instance, out, "<Q", max(int(instance.state.wasi.clock * 1e9), 1))


def _vectors(instance: Instance, pointer: int, count: int) -> list[tuple[int, int]] | None:
    if not 0 <= count <= _VECTORS:
        return None
    raw = instance.open_memory().read(pointer, 8 * count)
    return list(struct.iter_unpack("<II", raw))


def _fd_write(instance: Instance, fd: int, pointer: int, count: int, out: int) -> int:
    if fd > 2:
        return _files.CALLS["fd_write"](instance, fd, pointer, count, out)
    stream = instance.state.streams.get(fd)
    vectors = _vectors(instance, pointer, count)
    if stream is None or vectors is None:
        return BAD_FILE if stream is None else INVALID
    total = sum(length for _, length in vectors)
    if len(stream) + total > instance.code.limits.output_bytes:
        raise WasmError("guest writes more than Limits.output_bytes")
    for at, length in vectors:
        stream += instance.open_memory().read(at, length)
    return _put(instance, out, "<I", total)


def _fd_read(instance: Instance, fd: int, pointer: int, count: int, out: int) -> int:
    if fd > 2:
        return _files.CALLS["fd_read"](instance, fd, pointer, count, out)
    vectors = _vectors(instance, pointer, count)
    if fd != 0 or vectors is None:
        return BAD_FILE if fd else INVALID
    state, total = instance.state, 0
    for at, length in vectors:
        piece = state.stdin[state.at : state.at + length]
        instance.open_memory().write(at, piece)
        state.at += len(piece)
        total += len(piece)
    return _put(instance, out, "<I", total)


def _fd_fdstat_get(instance: Instance, fd: int, out: int) -> int:
    if fd not in {0, 1, 2}:
        return _files.CALLS["fd_fdstat_get"](instance, fd, out)
    rights = 2 if fd == 0 else 64  # to read, to write
    return _put(instance, out, "<BxHxxxxQQ", 2, 0, rights, 0)


def _fd_seek(instance: Instance, fd: int, offset: int, whence: int, out: int) -> int:
    if fd in {0, 1, 2}:
        return NOT_A_SEEK
    return _files.CALLS["fd_seek"](instance, fd, offset, whence, out)


def _poll_oneoff(instance: Instance, asked: int, out: int, count: int, done: int) -> int:
    """Waits for clocks, but not beyond the deadline of the call; streams are always ready."""
    if not 0 < count <= _VECTORS:
        return INVALID
    memory = instance.open_memory()
    subscriptions = []
    wait: float | None = None
    for number in range(count):
        raw = memory.read(asked + 48 * number, 48)
        user, kind = struct.unpack_from("<QB", raw)
        seconds = 0.0
        if kind == 0:
            clock, timeout, flags = *struct.unpack_from("<IxxxxQ", raw, 16), raw[40]
            now = _now(instance, clock)
            if now is None:
                return INVALID
            seconds = max(timeout - now * (flags & 1), 0) * 1e-9
        subscriptions.append((user, kind, seconds))
        wait = seconds if wait is None or seconds < wait else wait
    _sleep(instance, wait or 0.0)
    ready = [(user, kind) for user, kind, seconds in subscriptions if seconds <= (wait or 0.0)]
    for number, (user, kind) in enumerate(ready):
        memory.write(out + 32 * number, struct.pack("<QHBxxxxxQHxxxxxx", user, 0, kind, 0, 0))
    return _put(instance, done, "<I", len(ready))


def _sleep(instance: Instance, seconds: float) -> None:
    if seconds <= 0.0:
        return
    if instance.fiber:
        raise WasmError("guest sleeps on an event loop, which would stand still")
    left = instance.deadline_at - time.monotonic()
    time.sleep(max(min(seconds, left), 0.0))
    if seconds >= left:
        raise instance.expired()


def _random_get(instance: Instance, pointer: int, length: int) -> int:
    length &= 0xFFFFFFFF
    if length > instance.code.limits.output_bytes:
        raise WasmError("guest asks for more random bytes than Limits.output_bytes")
    instance.open_memory().write(pointer, instance.state.random(length))
    return 0


def _proc_exit(instance: Instance, status: int) -> None:
    raise Finished if status == 0 else GuestExit(status)


def _proc_raise(instance: Instance, _signal: int) -> int:
    return NOT_SUPPORTED


def _sched_yield(instance: Instance) -> int:
    return 0


def _nothing(instance: Instance, *_: Any) -> int:
    return BAD_FILE


CALLS: Final[dict[str, Callable[..., Any]]] = {
    **dict.fromkeys(_ABSENT, _nothing),
    **_files.CALLS,
    "args_sizes_get": _list_sizes("args")[0],
    "args_get": _list_sizes("args")[1],
    "environ_sizes_get": _list_sizes("env")[0],
    "environ_get": _list_sizes("env")[1],
    "clock_time_get": _clock_time_get,
    "clock_res_get": _clock_res_get,
    "fd_write": _fd_write,
    "fd_read": _fd_read,
    "fd_fdstat_get": _fd_fdstat_get,
    "fd_seek": _fd_seek,
    "poll_oneoff": _poll_oneoff,
    "random_get": _random_get,
    "proc_exit": _proc_exit,
    "proc_raise": _proc_raise,
    "sched_yield": _sched_yield,
}


def run(instance: Instance, args: Sequence[str] | None, stdin: bytes) -> Output:
    """Run a command to its end."""
    state: State = instance.state
    if args is not None:
        state.args = [one.encode() + b"\0" for one in Wasi(args=args).args]
    state.stdin = bytes(stdin)
    status = 0
    try:
        instance.prepare(time.monotonic())
        instance.bind("_start").enter(())
    except Finished:
        pass
    except GuestExit as end:
        status = end.status
    return Output(status, bytes(state.streams[1]), bytes(state.streams[2]))
