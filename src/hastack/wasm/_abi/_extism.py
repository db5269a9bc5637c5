"""Extism plug-ins, on a kernel of our own that runs in the sandbox with them.

A plug-in of Extism sees its input and its output through functions that load and store eight bytes.
Those functions are WebAssembly, in a module with a memory of its own beside the guest's: none of
them crosses into Python. The kernel's variables lie at the start of its memory, where the host puts
the input and reads the output with one copy each, so that a call is one crossing.

https://github.com/extism/extism
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Final

from hastack._core._errors import GuestFailed, InvalidArgument, OutOfBounds, WasmError
from hastack.wasm._host import HostFunction
from hastack.wasm._instance import Bound, Instance

from ._adapted import Adapted

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from hastack.wasm._capi import Extern
    from hastack.wasm._instance import Shape
    from hastack.wasm._memory import Memory
    from hastack.wasm._reader import Facts

__all__ = ("KERNEL", "adapt")

MODULE: Final = "extism:host/env"
_HEAD: Final = struct.Struct("<qqqqqq")
"""Where the next block goes; offset and length of input and output; offset of the error."""

FIRST: Final = 64
_START: Final = struct.Struct("<qqqqqq16xQQ").pack_into
"""The same, and the head of the first block."""

MAGIC: Final = 0x6B6C6F6273616E68


def outside(size: int) -> str:
    """A trap unless so many bytes at the first parameter were allocated; in place, not a call."""
    return (
        f"(if (i32.or (i64.lt_u (local.get 0) (i64.const {FIRST})) (i64.gt_u (local.get 0)"
        f" (i64.sub (i64.load (i32.const 0)) (i64.const {size})))) (then (unreachable)))"
    )


def outside_input(size: int) -> str:
    """The same for the input, from its start. A length below ``size`` has no room for any."""
    return (
        "(if (i32.or (i64.ge_u (local.get 0) (i64.load (i32.const 16))) (i64.gt_u"
        f" (i64.add (local.get 0) (i64.const {size})) (i64.load (i32.const 16))))"
        " (then (unreachable)))"
    )


# A block is 16 bytes of magic and length, then its bytes; all offsets are of the bytes. Loads and
# stores outside of what was allocated are traps: the kernel's own variables cannot be reached.
KERNEL: Final = f"""(module
  (memory (export "memory") 2)
  (data (i32.const 0) "\\40")
  (func $room (param $end i64) (result i32)
    (local $more i64)
    (local.set $more (i64.sub (local.get $end)
      (i64.shl (i64.extend_i32_u (memory.size)) (i64.const 16))))
    (if (i64.le_s (local.get $more) (i64.const 0)) (then (return (i32.const 1))))
    (i32.ne (i32.const -1) (memory.grow (i32.wrap_i64
      (i64.shr_u (i64.add (local.get $more) (i64.const 65535)) (i64.const 16))))))
  (func $alloc (export "alloc") (param $n i64) (result i64)
    (local $at i64) (local $end i64)
    (if (i64.gt_u (local.get $n) (i64.const 0xf0000000)) (then (return (i64.const 0))))
    (local.set $at (i64.add (i64.load (i32.const 0)) (i64.const 16)))
    (local.set $end (i64.and (i64.const -16)
      (i64.add (i64.add (local.get $at) (local.get $n)) (i64.const 15))))
    (if (i64.gt_u (local.get $end) (i64.const 0xffff0000)) (then (return (i64.const 0))))
    (if (i32.eqz (call $room (local.get $end))) (then (return (i64.const 0))))
    (i64.store (i32.wrap_i64 (i64.sub (local.get $at) (i64.const 16))) (i64.const {MAGIC}))
    (i64.store (i32.wrap_i64 (i64.sub (local.get $at) (i64.const 8))) (local.get $n))
    (i64.store (i32.const 0) (local.get $end))
    (local.get $at))
  (func (export "free") (param i64))
  (func $length (export "length") (param $at i64) (result i64)
    (if (i32.or (i64.lt_u (local.get $at) (i64.const {FIRST + 16}))
        (i64.gt_u (local.get $at) (i64.load (i32.const 0)))) (then (return (i64.const 0))))
    (if (i64.ne (i64.const {MAGIC})
        (i64.load (i32.wrap_i64 (i64.sub (local.get $at) (i64.const 16)))))
      (then (return (i64.const 0))))
    (i64.load (i32.wrap_i64 (i64.sub (local.get $at) (i64.const 8)))))
  (export "length_unsafe" (func $length))
  (func (export "load_u8") (param i64) (result i32) {outside(1)}
    (i32.load8_u (i32.wrap_i64 (local.get 0))))
  (func (export "load_u64") (param i64) (result i64) {outside(8)}
    (i64.load (i32.wrap_i64 (local.get 0))))
  (func (export "store_u8") (param i64 i32) {outside(1)}
    (i32.store8 (i32.wrap_i64 (local.get 0)) (local.get 1)))
  (func (export "store_u64") (param i64 i64) {outside(8)}
    (i64.store (i32.wrap_i64 (local.get 0)) (local.get 1)))
  (func (export "input_offset") (result i64) (i64.load (i32.const 8)))
  (func (export "input_length") (result i64) (i64.load (i32.const 16)))
  (func (export "input_load_u8") (param i64) (result i32) {outside_input(1)}
    (i32.load8_u (i32.wrap_i64 (i64.add (local.get 0) (i64.load (i32.const 8))))))
  (func (export "input_load_u64") (param i64) (result i64) {outside_input(8)}
    (i64.load (i32.wrap_i64 (i64.add (local.get 0) (i64.load (i32.const 8))))))
  (func (export "output_set") (param i64 i64)
    (i64.store (i32.const 24) (local.get 0)) (i64.store (i32.const 32) (local.get 1)))
  (func (export "error_set") (param i64) (i64.store (i32.const 40) (local.get 0)))
  (func (export "error_get") (result i64) (i64.load (i32.const 40)))
  (func (export "output_offset") (result i64) (i64.load (i32.const 24)))
  (func (export "output_length") (result i64) (i64.load (i32.const 32))))"""

IN_KERNEL: Final = (
    *("alloc", "free", "length", "length_unsafe", "load_u8", "load_u64", "store_u8", "store_u64"),
    *("input_offset", "input_length", "input_load_u8", "input_load_u64", "output_set"),
    *("error_set", "error_get", "output_offset", "output_length"),
)
_LEVELS: Final = ("trace", "debug", "info", "warn", "error")


class State:
    """What one plug-in keeps between its calls: variables, and the kernel's memory."""

    __slots__ = ("config", "kernel", "logged", "variables")

    def __init__(self, config: Mapping[str, str]) -> None:
        self.config = config
        self.kernel: Memory | None = None
        self.variables: dict[bytes, bytes] = {}
        self.logged: list[tuple[str, str]] = []


class PluginBound(Bound):
    """A function of a plug-in: bytes in, bytes out."""

    __slots__ = ()

    def own_entry(self) -> Callable[[tuple[Any, ...]], Any]:
        """The way in for one argument of bytes; everything else goes the long way."""
        instance, view, unpack, trap = self.instance, self._view, self._unpack, self._trap
        call = self._call
        context, function, slots, count, trap_at = self.wire
        slow, most = self._own_entry, min(instance.code.limits.input_bytes, 1 << 30)
        limit = instance.code.limits.output_bytes
        at, head, fill = FIRST + 16, _HEAD, _START

        def enter(arguments: tuple[Any, ...]) -> Any:
            kernel: Memory = instance.state.kernel
            if len(arguments) != 1 or arguments[0].__class__ is not bytes:
                return slow(arguments)
            data = arguments[0]
            length = len(data)
            end = (at + length + 15) & -16
            if length > most or end > kernel.size:
                return slow(arguments)
            memory = kernel.view
            fill(memory, 0, end, at, length, 0, 0, 0, MAGIC, length)
            memory[at : at + length] = data
            error = call(context, function, slots, count, trap_at)
            if error or trap:
                raise instance.failure(error)
            end, _, _, output, length, wrong = head.unpack_from(memory)
            if end > kernel.size:
                kernel.look()
                memory = kernel.view
            status = unpack(view)
            if status[0] or wrong or not 0 <= length <= limit or not 0 <= output <= end - length:
                return self.unpack(status)
            return bytes(memory[output : output + length])

        return enter

    def pack(self, arguments: tuple[Any, ...]) -> list[int | float]:
        """Put the input where the kernel has it, and everything else of it back to the start."""
        if len(arguments) > 1:
            raise InvalidArgument(f"{self.name}()", arguments, "one argument: the input")
        value = arguments[0] if arguments else b""
        data = value.encode() if isinstance(value, str) else value
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise InvalidArgument(f"{self.name}() argument 1", value, "bytes or str")
        length = len(data)
        if length > self.instance.code.limits.input_bytes:
            raise InvalidArgument("input", length, "at most Limits.input_bytes")
        kernel = _kernel(self.instance)
        at = FIRST + 16
        end = (at + length + 15) & -16
        if end > kernel.size and kernel.grow(end - kernel.size) is None:
            raise WasmError(f"no place for an input of {length:,} bytes")
        head = _HEAD.pack(end, at, length, 0, 0, 0) + bytes(FIRST - _HEAD.size)
        kernel.write(0, head + struct.pack("<QQ", MAGIC, length) + bytes(data))
        return []

    def unpack(self, results: tuple[Any, ...]) -> Any:
        """The output, or what the plug-in says went wrong."""
        kernel = _kernel(self.instance)
        end, _, _, output, length, error = _HEAD.unpack(kernel.read(0, _HEAD.size))
        if results[0] or error:
            text = _block(kernel, error, end) if error else b""
            said = text.decode(errors="replace") or f"{self.name}() returned {results[0]}"
            raise GuestFailed(said[:4096])
        limit = self.instance.code.limits.output_bytes
        if not 0 <= length <= limit or output < 0 or output + length > end:
            self.instance.broken = True
            raise OutOfBounds(output, length, end)
        return kernel.read(output, length)


def adapt(facts: Facts, config: Mapping[str, str] | None) -> Adapted | None:
    """A module that imports Extism's host functions, or ``None``."""
    if not any(wanted.module == MODULE for wanted in facts.imports):
        return None
    given = dict(config or {})
    grants: dict[str, Any] = {
        "config_get": _config_get,
        "var_get": _var_get,
        "var_set": _var_set,
        "get_log_level": lambda _: 2,
        "http_request": _no_http,
        "http_status_code": lambda _: 0,
        "http_headers": lambda _: 0,
        **{f"log_{level}": _log(level) for level in _LEVELS},
    }
    return Adapted(
        name="extism",
        grants={MODULE: {n: HostFunction(f, None, inside=True) for n, f in grants.items()}},
        state=lambda: State(given),
        kernel=KERNEL,
        kernel_module=MODULE,
        kernel_functions=IN_KERNEL,
        bound=_bound,
    )


def _bound(instance: Instance, shape: Shape, extern: Extern) -> Bound:
    kind = PluginBound if shape.core == "() -> i32" else Bound
    return kind(instance, shape, extern)


def _kernel(instance: Instance) -> Memory:
    kernel: Memory = instance.state.kernel
    return kernel


def _block(kernel: Memory, at: int, end: int) -> bytes:
    """The bytes of a block, as the kernel would say."""
    if not FIRST + 16 <= at <= end:
        return b""
    magic, length = struct.unpack("<QQ", kernel.read(at - 16, 16))
    if magic != MAGIC or at + length > end:
        return b""
    return kernel.read(at, length)


def _text(instance: Instance, at: int) -> bytes:
    kernel = _kernel(instance)
    return _block(kernel, at, _HEAD.unpack(kernel.read(0, _HEAD.size))[0])


def _give(instance: Instance, data: bytes) -> int:
    """A new block with these bytes, made as the kernel makes one."""
    kernel = _kernel(instance)
    kernel.look()
    head = list(_HEAD.unpack(kernel.read(0, _HEAD.size)))
    at = int(head[0]) + 16
    end = (at + len(data) + 15) & -16
    if end > kernel.size and kernel.grow(end - kernel.size) is None:
        return 0
    kernel.write(head[0], struct.pack("<QQ", MAGIC, len(data)) + data)
    head[0] = end
    kernel.write(0, _HEAD.pack(*head))
    return at


def _config_get(instance: Instance, name: int) -> int:
    key = _text(instance, name).decode(errors="replace")
    value = instance.state.config.get(key)
    return 0 if value is None else _give(instance, value.encode())


def _var_get(instance: Instance, name: int) -> int:
    value = instance.state.variables.get(_text(instance, name))
    return 0 if value is None else _give(instance, value)


def _var_set(instance: Instance, name: int, value: int) -> None:
    variables = instance.state.variables
    key = _text(instance, name)
    if value == 0:
        variables.pop(key, None)
        return
    data = _text(instance, value)
    used = sum(len(k) + len(v) for k, v in variables.items() if k != key)
    if used + len(key) + len(data) > instance.code.limits.output_bytes:
        raise WasmError("guest keeps more in variables than Limits.output_bytes")
    variables[key] = data


def _no_http(instance: Instance, _request: int, _body: int) -> int:
    raise WasmError("guest asks for HTTP, which nobody granted")


def _log(level: str) -> Any:
    def log(instance: Instance, at: int) -> None:
        if len(instance.state.logged) < 1000:
            said = _text(instance, at)[:4096].decode(errors="replace")
            instance.state.logged.append((level, said))

    return log
