"""A guest on a stack of its own, beside the event loop on one thread."""

from __future__ import annotations

import asyncio
import time
from ctypes import addressof, byref, c_size_t, c_void_p
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._instance import Bound, Instance

__all__ = ("run",)


async def run(instance: Instance, name: str, arguments: tuple[Any, ...]) -> Any:
    """One call of a guest that gives way to the loop at each tick.

    Raises:
        WasmError: As with `Instance`; it is broken then.
    """
    instance.prepare(time.monotonic())
    if instance.handle[0] == 0:
        await _instantiate(instance)
    bound = instance.bind(name)
    inward = bound.values(bound.pack(arguments))
    out = bound.outputs()
    error = c_void_p()
    lib = instance.code.lib

    def start() -> int:
        made: int = lib.wasmtime_func_call_async(
            instance.context,
            addressof(bound.extern.of),
            inward,
            len(bound.signature.core_parameters),
            out,
            len(bound.signature.core_results),
            instance._trap_at,
            byref(error),
        )
        return made

    await _drive(instance, start, error)
    return bound.unpack(bound.taken(out))


async def _instantiate(instance: Instance) -> None:
    lib, code = instance.code.lib, instance.code
    linker: int | None = None
    if code.abi.kernel:  # ours, and done in no time; before the store takes asynchronous calls only
        code.set_deadline(instance.context, c_size_t(1000))
        linker = instance.kernel_linker()
    # Its documented result is not returned: reading it would be reading whatever was there.
    lib.wasmtime_context_epoch_deadline_async_yield_and_update(instance.context, 1)
    code.set_deadline(instance.context, c_size_t(1))
    error = c_void_p()
    context, handle, trap = instance.context, instance.handle, instance._trap_at

    def start() -> int:
        if linker is not None:
            begun: int = lib.wasmtime_linker_instantiate_async(
                linker, context, code.module, handle, trap, byref(error)
            )
            return begun
        made: int = lib.wasmtime_instance_pre_instantiate_async(
            code.pre, context, handle, trap, byref(error)
        )
        return made

    try:
        await _drive(instance, start, error)
    finally:
        if linker is not None:
            lib.wasmtime_linker_delete(linker)
    if instance.code.reactor:
        await _drive_bound(instance, instance.bind("_initialize"))


async def _drive_bound(instance: Instance, bound: Bound) -> None:
    out, error = bound.outputs(), c_void_p()
    lib = instance.code.lib
    await _drive(
        instance,
        lambda: int(
            lib.wasmtime_func_call_async(
                *(instance.context, addressof(bound.extern.of), bound.values([]), 0, out, 0),
                *(instance._trap_at, byref(error)),
            )
        ),
        error,
    )


async def _drive(instance: Instance, start: Callable[[], int], error: c_void_p) -> None:
    """Poll until it is done, giving way in between; whatever ends this early ends the guest."""
    lib = instance.code.lib
    instance.broken = True  # until it is over: an instance left half-way is never entered again
    future = c_void_p(start())
    poll = lib.wasmtime_call_future_poll
    try:
        while not poll(future):
            now = time.monotonic()
            if now > instance.deadline_at:
                raise instance.expired()
            instance.arm(now, instance.deadline_at - now)
            await asyncio.sleep(0)
    finally:
        lib.wasmtime_call_future_delete(future)
    if error.value or instance._trap:
        raise instance.failure(error.value)
    instance.broken = False
