"""The process that compiles: it may be killed at any time, and has nothing to lose.

Request: 8 bytes of length of a JSON header, the header, the module. Answer: one byte, ``+`` or
``-``, 8 bytes of length, then the artefact or the message. One after the other, until the end.
"""

from __future__ import annotations

import json
import resource
import struct
import sys
import threading
from ctypes import byref, c_void_p
from typing import BinaryIO

from hastack._core._errors import WasmError

from ._capi import Bytes, library
from ._engine import configuration

__all__ = ("main",)

_LENGTH = struct.Struct("<Q")
_engines: dict[tuple[int, bool], int] = {}
_lock = threading.Lock()


def main() -> None:
    """Answer requests on standard input until it ends."""
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    while True:
        head = source.read(8)
        if len(head) < 8:
            return
        header = json.loads(_exactly(source, _LENGTH.unpack(head)[0]))
        data = _exactly(source, header["size"])
        try:
            answer = b"+", _compile(data, header)
        except (WasmError, MemoryError) as error:
            answer = b"-", str(error).encode()
        sink.write(answer[0] + _LENGTH.pack(len(answer[1])) + answer[1])
        sink.flush()


def _exactly(source: BinaryIO, length: int) -> bytes:
    data = source.read(length)
    if len(data) < length:
        raise SystemExit(1)
    return data


def _compile(data: bytes, header: dict[str, int]) -> bytes:
    lib = library(str(header["library"]))
    key = (header["stack"], bool(header["pooled"]))
    with _lock:
        if key not in _engines:
            config = configuration(lib, key[0], pooled=key[1])
            _engines[key] = lib.wasm_engine_new_with_config(config)
    _confine(header)
    module = lib.module(_engines[key], data)
    vector = Bytes()
    try:
        lib.check(lib.wasmtime_module_serialize(c_void_p(module), byref(vector)))
    finally:
        lib.wasmtime_module_delete(module)
    return lib.take(vector)


def _confine(header: dict[str, int]) -> None:
    """So much more processor time and address space from here, and no further."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    spent = int(used.ru_utime + used.ru_stime)
    limits = {
        resource.RLIMIT_CPU: spent + max(int(header["seconds"]), 1) + 1,
        resource.RLIMIT_AS: _address_space() + header["memory"],
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_CORE: 0,
    }
    for limit, value in limits.items():
        hard = resource.getrlimit(limit)[1]
        soft = min(value, hard) if hard != resource.RLIM_INFINITY else value
        resource.setrlimit(limit, (soft, hard))


def _address_space() -> int:
    with open("/proc/self/statm", encoding="ascii") as pages:  # noqa: PTH123  # Path costs more than it gives here
        return int(pages.read().split()[0]) * resource.getpagesize()
