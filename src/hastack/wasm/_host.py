"""Functions of the host that a guest may call: granted one by one, none by default."""

from __future__ import annotations

import threading
from ctypes import byref, c_uint64, c_void_p
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

import attrs

from hastack._core._errors import InvalidArgument, WasmError

from ._capi import TRAMPOLINE, Bytes
from ._signatures import WIDE, bind, number, raw_layout

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._capi import Library
    from ._code import Code
    from ._instance import Instance
    from ._reader import Import
    from ._signatures import Signature

__all__ = ("HostFunction", "callback", "define", "host")

NESTING: Final = 4
"""Guests that may stand on one thread's stack, each called by a host function of the one below."""

_local = threading.local()


@attrs.frozen
class HostFunction:
    """A function that guests may call. Made by `host`."""

    call: Callable[..., Any]
    signature: str | None = None
    memory: bool = False
    inside: bool = False
    """Gets the instance itself; for the ABIs of this package."""


def host(
    call: Callable[..., Any], signature: str | None = None, *, memory: bool = False
) -> HostFunction:
    """A function to be granted to guests, in ``imports=`` of `load`.

    Args:
        call: Called on the thread that called the guest; what it raises reaches the guest's caller
            and ends the instance.
        signature: What it takes, ``"(str, i32) -> i32"``; ``bytes`` and ``str`` are read from guest
            memory, with bounds checked. By default the type that the module imports.
        memory: Give it the caller's `Memory` as its first argument.

    Raises:
        InvalidArgument: ``call`` cannot be called.

    Example:
        >>> from hastack import wasm
        >>> seen = []
        >>> grants = {"env": {"log": wasm.host(seen.append, "(str)")}}
    """
    if not callable(call):
        raise InvalidArgument("call", call, "something that can be called")
    return HostFunction(call, signature, memory)


def callback(code: Code, wanted: Import, granted: HostFunction) -> tuple[Signature, Any]:
    """The signature of a host function, and what native code calls.

    Raises:
        InvalidArgument: What was declared does not fit what the module imports.
    """
    signature = bind(f"{wanted.module}.{wanted.name}", granted.signature, wanted.type)
    if any(kind not in {"i32", "i64", "f32", "f64"} for kind in signature.results):
        raise InvalidArgument("signature", granted.signature, "results that are numbers")
    return signature, TRAMPOLINE(_trampoline(code, signature, granted, wanted))


def define(lib: Library, linker: int, wanted: Import, signature: Signature, called: Any) -> None:
    """Put a host function into a linker; ``called`` must live as long as anything linked."""
    kind = _functype(lib, signature)
    module, name = wanted.module.encode(), wanted.name.encode()
    error = lib.wasmtime_linker_define_func_unchecked(
        *(linker, module, len(module), name, len(name), kind, called, None, None)
    )
    lib.wasm_functype_delete(kind)
    lib.check(error)


def _functype(lib: Library, signature: Signature) -> int:
    vectors = []
    for core in (signature.core_parameters, signature.core_results):
        codes = {"i32": 0, "i64": 1, "f32": 2, "f64": 3}
        values = (c_void_p * max(len(core), 1))(
            *(lib.wasm_valtype_new(codes[kind]) for kind in core)
        )
        vector = Bytes()
        lib.wasm_valtype_vec_new(byref(vector), len(core), values)
        vectors.append(vector)
    made: int = lib.wasm_functype_new(byref(vectors[0]), byref(vectors[1]))
    return made


def _trampoline(
    code: Code, signature: Signature, granted: HostFunction, wanted: Import
) -> Callable[[int, int, int, int], int | None]:
    lib, running = code.lib, code.running
    find_context = lib.wasmtime_caller_context
    inward = raw_layout(signature.core_parameters)
    outward = raw_layout(signature.core_results)
    limit = code.limits.host_calls
    refuse, message = lib.wasmtime_trap_new, b"host function raised"

    def called(env: int, caller: int, slots: int, count: int) -> int | None:
        instance: Instance | None = running.get(find_context(c_void_p(caller)))
        try:
            if instance is None:
                raise WasmError("a guest that is not known calls the host")
            instance.calls += 1
            if instance.calls > limit:
                raise WasmError(f"guest called the host more than {limit:,} times in one call")
            raw = (
                memoryview((c_uint64 * (2 * count)).from_address(slots)).cast("B") if count else b""
            )
            arguments = inward.unpack_from(raw)
            if not signature.plain:
                arguments = _read(instance, signature, arguments)
            result = _enter(instance, granted, arguments)
            if monotonic() > instance.deadline_at:
                raise instance.expired()
            if signature.core_results:
                _put(signature, outward, raw, result, wanted)
        except BaseException as error:  # must not pass through native frames
            if instance is not None:
                instance.raised = error
            trap: int | None = refuse(message, len(message))
            return trap
        return None

    return called


def _enter(instance: Instance, granted: HostFunction, arguments: tuple[Any, ...]) -> Any:
    depth = getattr(_local, "depth", 0)
    if depth >= NESTING:
        raise WasmError(f"guests called each other through the host more than {NESTING} deep")
    _local.depth = depth + 1
    try:
        if granted.inside:
            return granted.call(instance, *arguments)
        if granted.memory:
            return granted.call(instance.open_memory(), *arguments)
        return granted.call(*arguments)
    finally:
        _local.depth = depth


def _read(instance: Instance, signature: Signature, raw: tuple[Any, ...]) -> tuple[Any, ...]:
    memory = instance.open_memory()
    found: list[Any] = []
    at = 0
    for kind in signature.parameters:
        if kind in WIDE:
            if raw[at + 1] & 0xFFFFFFFF > instance.code.limits.output_bytes:
                raise WasmError("guest gives the host more bytes than Limits.output_bytes")
            data = memory.read(raw[at], raw[at + 1])
            at += 2
        elif kind in {"cbytes", "cstr"}:
            data = memory.text(raw[at])
            at += 1
        else:
            found.append(raw[at])
            at += 1
            continue
        found.append(data.decode() if kind in {"str", "cstr"} else data)
    return tuple(found)


def _put(signature: Signature, outward: Any, raw: Any, result: Any, wanted: Import) -> None:
    results = (result,) if len(signature.core_results) == 1 else tuple(result)
    where = f"{wanted.module}.{wanted.name}"
    outward.pack_into(
        raw,
        0,
        *(
            number(where, position, kind, value)
            for position, (kind, value) in enumerate(
                zip(signature.core_results, results, strict=True)
            )
        ),
    )
