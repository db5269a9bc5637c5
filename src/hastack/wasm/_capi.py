"""The C API of the wasmtime library that the wheel ships, through ctypes.

Only what is documented in wasmtime's headers. `library` loads it once and puts it to the test: the
direct call is used only when it does what the checked call does.
"""

from __future__ import annotations

import ctypes
import os
import platform
import threading
from ctypes import addressof, byref, c_char_p, c_int64, c_size_t, c_uint8, c_uint64, c_void_p
from importlib import metadata
from typing import Any, Final

from hastack._core._errors import InvalidModule, WasmError
from hastack._core._extras import require

from ._advisories import known_bad

__all__ = ("Bytes", "Extern", "Library", "library")

TRAPS: Final = (
    *("stack_overflow", "memory_out_of_bounds", "heap_misaligned", "table_out_of_bounds"),
    *("indirect_call_to_null", "bad_signature", "integer_overflow", "integer_division_by_zero"),
    *("bad_conversion_to_integer", "unreachable", "interrupt", "out_of_fuel"),
)
"""Names of the trap codes, by number."""

FUNC, GLOBAL, TABLE, MEMORY = 0, 1, 2, 3

# (module (func (export "f") (param i64 i64) (result i64) ... traps when the first is 0, else sub))
_PROBE: Final = bytes.fromhex(
    "0061736d0100000001070160027e7e017e03020100070501016600000a10010e002000500440000b200020017d0b"
)


class Bytes(ctypes.Structure):
    """``wasm_byte_vec_t``."""

    _fields_ = (("size", c_size_t), ("data", c_void_p))


class _Of(ctypes.Union):
    _fields_ = (("words", c_uint64 * 3), ("bytes", c_uint8 * 24))


class Extern(ctypes.Structure):
    """``wasmtime_extern_t``: a kind, and a handle of at most 24 bytes."""

    _fields_ = (("kind", c_uint8), ("of", _Of))


class Value(ctypes.Structure):
    """``wasmtime_val_t`` of the numbers."""

    class _Of(ctypes.Union):
        _fields_ = (("i64", c_int64), ("raw", c_uint64 * 3))

    _fields_ = (("kind", c_uint8), ("of", _Of))


# name -> (result, arguments); None for arguments leaves them to the caller, who gives ctypes
# objects that were made beforehand: that is what makes a call cheap.
_P, _S, _U = c_void_p, c_size_t, c_uint64
_PROTOTYPES: Final[dict[str, tuple[Any, tuple[Any, ...] | None]]] = {
    "wasm_config_new": (_P, ()),
    "wasm_engine_new_with_config": (_P, (_P,)),
    "wasm_byte_vec_delete": (None, (_P,)),
    "wasm_trap_delete": (None, (_P,)),
    "wasm_trap_message": (None, (_P, _P)),
    "wasm_functype_new": (_P, (_P, _P)),
    "wasm_functype_delete": (None, (_P,)),
    "wasm_valtype_new": (_P, (c_uint8,)),
    "wasm_valtype_vec_new": (None, (_P, _S, _P)),
    "wasmtime_engine_increment_epoch": (None, (_P,)),
    "wasmtime_error_message": (None, (_P, _P)),
    "wasmtime_error_delete": (None, (_P,)),
    "wasmtime_trap_code": (ctypes.c_bool, (_P, _P)),
    "wasmtime_trap_new": (_P, (c_char_p, _S)),
    "wasmtime_module_new": (_P, (_P, c_char_p, _S, _P)),
    "wasmtime_module_delete": (None, (_P,)),
    "wasmtime_module_serialize": (_P, (_P, _P)),
    "wasmtime_module_deserialize": (_P, (_P, _P, _S, _P)),
    "wasmtime_linker_new": (_P, (_P,)),
    "wasmtime_linker_delete": (None, (_P,)),
    "wasmtime_linker_define": (_P, (_P, _P, c_char_p, _S, c_char_p, _S, _P)),
    "wasmtime_linker_define_func_unchecked": (
        _P,
        (_P, c_char_p, _S, c_char_p, _S, _P, _P, _P, _P),
    ),
    "wasmtime_linker_instantiate": (_P, (_P, _P, _P, _P, _P)),
    "wasmtime_linker_instantiate_async": (_P, (_P, _P, _P, _P, _P, _P)),
    "wasmtime_linker_instantiate_pre": (_P, (_P, _P, _P)),
    "wasmtime_instance_new": (_P, (_P, _P, _P, _S, _P, _P)),
    "wasmtime_instance_pre_delete": (None, (_P,)),
    "wasmtime_instance_pre_instantiate": (_P, None),
    "wasmtime_instance_export_get": (ctypes.c_bool, None),
    "wasmtime_store_new": (_P, None),
    "wasmtime_store_context": (_P, None),
    "wasmtime_store_delete": (None, None),
    "wasmtime_store_limiter": (None, None),
    "wasmtime_context_set_fuel": (_P, None),
    "wasmtime_context_get_fuel": (_P, (_P, _P)),
    "wasmtime_context_set_epoch_deadline": (None, None),
    "wasmtime_context_epoch_deadline_async_yield_and_update": (None, (_P, _U)),
    "wasmtime_caller_context": (_P, None),
    "wasmtime_memory_data": (_P, None),
    "wasmtime_memory_data_size": (_S, None),
    "wasmtime_memory_grow": (_P, (_P, _P, _U, _P)),
    "wasmtime_global_get": (None, (_P, _P, _P)),
    "wasmtime_func_call": (_P, (_P, _P, _P, _S, _P, _S, _P)),
    "wasmtime_func_call_unchecked": (_P, None),
    "wasmtime_func_call_async": (_P, (_P, _P, _P, _S, _P, _S, _P, _P)),
    "wasmtime_instance_pre_instantiate_async": (_P, (_P, _P, _P, _P, _P)),
    "wasmtime_call_future_poll": (ctypes.c_bool, None),
    "wasmtime_call_future_delete": (None, (_P,)),
    "wasmtime_wat2wasm": (_P, (c_char_p, _S, _P)),
}

TRAMPOLINE = ctypes.CFUNCTYPE(c_void_p, c_void_p, c_void_p, c_void_p, c_size_t)
"""``wasmtime_func_unchecked_callback_t``."""


class Library:
    """The loaded library with its prototypes.

    Attributes:
        path: Where it lies.
        tier: ``"direct"`` when the unchecked call passed its test, else ``"checked"``.
        why: What the test found, when it is ``"checked"``.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.dll = ctypes.CDLL(path)
        for name, (result, arguments) in _PROTOTYPES.items():
            function = getattr(self.dll, name, None)
            if function is None:
                raise WasmError(f"this version of wasmtime has no {name}")
            function.restype = result
            if arguments is not None:
                function.argtypes = arguments
        self.tier = "checked"
        self.why = ""
        if os.environ.get("HASTACK_WASM_TIER") == "checked":
            self.why = "HASTACK_WASM_TIER"
            return
        self.why = self._differs()
        if not self.why:
            self.tier = "direct"

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["dll"], name)

    def message(self, vector: Bytes) -> str:
        """Text of a vector, which is freed."""
        text = ctypes.string_at(vector.data, vector.size).rstrip(b"\0").decode(errors="replace")
        self.wasm_byte_vec_delete(byref(vector))
        return text

    def take(self, vector: Bytes) -> bytes:
        """Bytes of a vector, which is freed."""
        data = ctypes.string_at(vector.data, vector.size)
        self.wasm_byte_vec_delete(byref(vector))
        return data

    def error_text(self, error: int) -> str:
        """What an error says; it is freed."""
        vector = Bytes()
        self.wasmtime_error_message(error, byref(vector))
        self.wasmtime_error_delete(error)
        return self.message(vector)

    def trap_text(self, trap: int) -> tuple[str, str]:
        """What a trap says and the name of its code; it is freed."""
        vector = Bytes()
        self.wasm_trap_message(trap, byref(vector))
        code = c_uint8(255)
        coded = self.wasmtime_trap_code(trap, byref(code))
        self.wasm_trap_delete(trap)
        name = TRAPS[code.value] if coded and code.value < len(TRAPS) else ""
        return self.message(vector), name

    def check(self, error: int | None) -> None:
        """Raise what an error says, if there is one."""
        if error:
            raise WasmError(self.error_text(error))

    def module(self, engine: int, data: bytes) -> int:
        """Compile a module.

        Raises:
            InvalidModule: It is not valid.
        """
        module = c_void_p()
        error = self.wasmtime_module_new(engine, data, len(data), byref(module))
        if error:
            raise InvalidModule(self.error_text(error))
        assert module.value
        return module.value

    def wat(self, text: str) -> bytes:
        """Assemble WebAssembly text.

        Raises:
            InvalidModule: It is not valid.
        """
        raw, vector = text.encode(), Bytes()
        error = self.wasmtime_wat2wasm(raw, len(raw), byref(vector))
        if error:
            raise InvalidModule(self.error_text(error))
        return self.take(vector)

    def _differs(self) -> str:
        """How the direct call differs from the checked one; empty when it does not."""
        sizes = tuple(ctypes.sizeof(kind) for kind in (Extern, Value))
        if sizes != (32, 32):
            return f"unexpected sizes {sizes}"
        engine = self.wasm_engine_new_with_config(self.wasm_config_new())
        module = self.module(engine, _PROBE)
        store = c_void_p(self.wasmtime_store_new(c_void_p(engine), None, None))
        try:
            return self._probe(engine, module, c_void_p(self.wasmtime_store_context(store)))
        finally:
            self.wasmtime_store_delete(store)
            self.wasmtime_module_delete(module)

    def _probe(self, engine: int, module: int, context: c_void_p) -> str:
        linker = self.wasmtime_linker_new(engine)
        instance, trap, found = (c_uint64 * 2)(), c_void_p(), Extern()
        self.check(self.wasmtime_linker_instantiate(linker, context, module, instance, byref(trap)))
        self.wasmtime_linker_delete(linker)
        self.wasmtime_instance_export_get(context, instance, b"f", c_size_t(1), byref(found))
        if found.kind != FUNC:
            return "an export was not found"
        for left, right in ((7, 9), (-1, 1 << 62), (0, 1)):
            slots = (c_int64 * 4)(left, 0, right, 0)
            direct = self._outcome(
                self.wasmtime_func_call_unchecked(
                    context, byref(found.of), slots, c_size_t(2), byref(trap)
                ),
                trap,
                slots[0],
            )
            checked = self._checked(context, found, (left, right), trap)
            if direct != checked:
                return f"f({left}, {right}) is {direct}, not {checked}"
        return ""

    def _checked(
        self, context: c_void_p, function: Extern, given: tuple[int, ...], trap: c_void_p
    ) -> object:
        values, out = (Value * 2)(), (Value * 1)()
        for value, number in zip(values, given, strict=True):
            value.kind, value.of.i64 = 1, number
        error = self.wasmtime_func_call(
            context, addressof(function.of), values, 2, out, 1, byref(trap)
        )
        return self._outcome(error, trap, out[0].of.i64)

    def _outcome(self, error: int | None, trap: c_void_p, value: int) -> object:
        if error:
            return self.error_text(error)
        if trap.value:
            text = self.trap_text(trap.value)
            trap.value = None
            return text
        return value


_lock = threading.Lock()
_library: Library | None = None


def _after_fork_in_child() -> None:
    global _lock
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_after_fork_in_child)


def library(path: str | None = None) -> Library:
    """The library of the wasmtime package, or of ``path`` in a process that only compiles.

    Raises:
        MissingDependency: wasmtime is not installed.
        WasmError: Its version is known to be unsafe; ``HASTACK_WASM_ENGINE=any`` uses it anyway.
    """
    global _library
    if _library is None:
        with _lock:
            if _library is None:
                _library = Library(path or _installed())
    return _library


def _installed() -> str:
    package = require("wasmtime", extra="wasm")
    try:
        version = metadata.version("wasmtime")
    except metadata.PackageNotFoundError:  # put there without an installer
        version = ""
    bad = known_bad(version, platform.machine())
    if bad and os.environ.get("HASTACK_WASM_ENGINE") != "any":
        raise WasmError(f"{bad}; install a newer one, or set HASTACK_WASM_ENGINE=any")
    path: str = package._ffi.dll._name
    return path
