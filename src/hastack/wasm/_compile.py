"""Compiling in another process, which is killed when it takes too long or too much.

What compiles hostile code may be made to work for minutes, or to take all memory: 1,624 bytes cost
0.6 s before anything of them runs. Here a process does it that is kept for the next one.
"""

from __future__ import annotations

import atexit
import json
import os
import select
import struct
import subprocess
import sys
import threading
import time
from ctypes import byref, c_char_p, c_void_p, cast
from typing import IO, TYPE_CHECKING

from hastack._core._errors import CompileFailed, InvalidModule
from hastack._core._fork import renew_in_child

from ._engine import engine

if TYPE_CHECKING:
    from ._limits import Limits

__all__ = ("Compiler", "compiled", "compiler")

_LENGTH = struct.Struct("<Q")
_ANSWER = struct.Struct("<cQ")
_STARTING = 20.0
"""Seconds for a new process to import what it needs, beyond the time for the module."""


class Compiler:
    """One process at a time, started on first use and again after it was killed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        renew_in_child(self)

    def compile(self, data: bytes, limits: Limits) -> bytes:
        """The artefact for a module.

        Raises:
            InvalidModule: The engine refuses it.
            CompileFailed: It took too long or too much memory; the process was killed.
        """
        with self._lock:
            process = self._running()
            try:
                sign, answer = self._ask(process, data, limits)
            except BaseException:
                self._kill()
                raise
        if sign == b"-":
            text = answer.decode(errors="replace")
            if "memory" in text and "allocat" in text:
                raise CompileFailed(text)
            raise InvalidModule(text)
        return answer

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._kill()

    def _running(self) -> subprocess.Popen[bytes]:
        process = self._process
        if process is None or process.poll() is not None:
            self._kill()
            script = (
                f"import sys; sys.path[:] = {sys.path!r}; "
                "from hastack.wasm._compile_process import main; main()"
            )
            process = self._process = subprocess.Popen(  # noqa: S603  # our own module
                [sys.executable, "-c", script],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={k: v for k, v in os.environ.items() if not k.startswith("COV_")},
                start_new_session=True,  # a Ctrl-C at the terminal is not for it
            )
        return process

    def _ask(
        self, process: subprocess.Popen[bytes], data: bytes, limits: Limits
    ) -> tuple[bytes, bytes]:
        host = engine(limits.stack)
        header = json.dumps(
            {
                "library": host.lib.path,
                "stack": limits.stack,
                "pooled": host.pooled,
                "seconds": limits.compile_seconds,
                "memory": limits.compile_memory,
                "size": len(data),
            }
        ).encode()
        ends = time.monotonic() + _STARTING + 4 * limits.compile_seconds
        assert process.stdin is not None
        assert process.stdout is not None
        sent = _LENGTH.pack(len(header)) + header + data
        _write(process.stdin, sent, ends)
        sign, length = _ANSWER.unpack(_read(process.stdout, _ANSWER.size, ends))
        return sign, _read(process.stdout, length, ends)

    def _kill(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                try:
                    if pipe is not None:
                        pipe.close()
                except OSError:  # what was not yet sent to it
                    pass

    def _after_fork(self) -> None:
        self._lock = threading.Lock()
        process, self._process = self._process, None
        if process is not None:  # the parent's; its pipes must not be held open here
            process.returncode = 0
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    os.close(pipe.fileno())
                    pipe.detach()  # type: ignore[attr-defined]


def _write(pipe: IO[bytes], data: bytes, ends: float) -> None:
    view = memoryview(data)
    os.set_blocking(pipe.fileno(), False)
    while view:
        if not select.select([], [pipe], [], max(ends - time.monotonic(), 0.0))[1]:
            raise CompileFailed("compiling took too long")
        try:
            view = view[os.write(pipe.fileno(), view) :]
        except BrokenPipeError:
            raise CompileFailed("the process that compiles died") from None


def _read(pipe: IO[bytes], length: int, ends: float) -> bytes:
    parts = bytearray()
    while len(parts) < length:
        if not select.select([pipe], [], [], max(ends - time.monotonic(), 0.0))[0]:
            raise CompileFailed("compiling took too long")
        piece = os.read(pipe.fileno(), min(length - len(parts), 1 << 20))
        if not piece:
            raise CompileFailed("compiling took too long or too much memory, and was killed")
        parts += piece
    return bytes(parts)


compiler = Compiler()
atexit.register(compiler.close)


def compiled(artefact: bytes, limits: Limits, start: int = 0) -> int:
    """The module of an artefact that this host made itself, which begins at ``start``.

    Raises:
        CompileFailed: It is not one, or of another version or configuration.
    """
    host = engine(limits.stack)
    module = c_void_p()
    place = (cast(c_char_p(artefact), c_void_p).value or 0) + start
    error = host.lib.wasmtime_module_deserialize(
        host.handle, place, len(artefact) - start, byref(module)
    )
    if error or not module.value:
        raise CompileFailed(host.lib.error_text(error) if error else "no module")
    return module.value
