"""Engines: how guests are compiled and where their memory comes from."""

from __future__ import annotations

import os
import resource
import threading
from ctypes import c_bool, c_size_t, c_uint32, c_uint64, c_void_p
from typing import TYPE_CHECKING, Final

from hastack._core._errors import WasmError

from ._capi import library
from ._ticker import ticker

if TYPE_CHECKING:
    from ._capi import Library
    from ._ticker import Ticker

__all__ = ("Engine", "configuration", "engine")

INSTANCES: Final = 1_000
"""Instances of all plugins of one engine together, at most."""

SPACE: Final = 6 << 40
"""Bytes of address space that the pool takes, and some more; nearly all of it is never touched."""

SMALL: Final = 256 << 20
"""Bytes of address space for one memory where there is not that much."""

FIBERS: Final = 200
"""Calls under way on event loops at a time, at most."""

FIBER_HOST: Final = 1 << 20
"""Stack for host functions that a guest on a fiber calls, in bytes."""

# What no plugin needs; less of the engine can be reached by a guest.
_OFF: Final = (
    *("wasm_threads", "shared_memory", "wasm_gc", "gc_support", "wasm_function_references"),
    *("wasm_exceptions", "wasm_stack_switching", "wasm_component_model", "wasm_memory64"),
    *("parallel_compilation", "wasm_custom_page_sizes", "wasm_wide_arithmetic"),
    *("memory_may_move",),
)
_ON: Final = ("epoch_interruption", "consume_fuel", "cranelift_nan_canonicalization")
_POOL: Final = {
    "total_memories": (c_uint32, INSTANCES),
    "total_tables": (c_uint32, INSTANCES),
    "total_stacks": (c_uint32, FIBERS),
    "total_core_instances": (c_uint32, INSTANCES),
    "max_tables_per_module": (c_uint32, 16),
    "max_memories_per_module": (c_uint32, 16),
    "table_elements": (c_size_t, 100_000),
    "max_core_instance_size": (c_size_t, 4 << 20),
    "linear_memory_keep_resident": (c_size_t, 128 << 10),
    "table_keep_resident": (c_size_t, 16 << 10),
    "async_stack_keep_resident": (c_size_t, 0),
}


def configuration(lib: Library, stack: int, *, pooled: bool) -> c_void_p:
    """A configuration of the engine; the process that only compiles makes the same."""
    config = c_void_p(lib.wasm_config_new())
    for names, value in ((_OFF, False), (_ON, True)):
        for name in names:
            switch = getattr(lib.dll, f"wasmtime_config_{name}_set", None)
            if switch is not None:  # features come and go with versions
                switch(config, c_bool(value))
    lib.dll.wasmtime_config_max_wasm_stack_set(config, c_size_t(stack))
    lib.dll.wasmtime_config_async_stack_size_set(config, c_size_t(stack + FIBER_HOST))
    if pooled:
        make = lib.dll.wasmtime_pooling_allocation_config_new
        make.restype = c_void_p
        pool = c_void_p(make())
        for name, (kind, count) in _POOL.items():
            getattr(lib.dll, f"wasmtime_pooling_allocation_config_{name}_set")(pool, kind(count))
        lib.dll.wasmtime_pooling_allocation_strategy_set(config, pool)
        lib.dll.wasmtime_pooling_allocation_config_delete(pool)
    else:
        lib.dll.wasmtime_config_memory_reservation_set(config, c_uint64(SMALL))
        lib.dll.wasmtime_config_memory_guard_size_set(config, c_uint64(64 << 10))
        lib.dll.wasmtime_config_memory_reservation_for_growth_set(config, c_uint64(0))
    return config


def _address_space() -> float:
    """What ``ulimit -v`` leaves to this process."""
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return float("inf") if limit == resource.RLIM_INFINITY else limit


class Engine:
    """An engine for one size of stack; it lives as long as the process.

    Attributes:
        lib: The library.
        ticker: What advances its epoch.
        stack: Bytes of stack for guest code.
        pooled: Whether memory comes from a pool that was reserved beforehand.
    """

    def __init__(self, lib: Library, stack: int) -> None:
        self.lib = lib
        self.stack = stack
        # Asked first: an engine that does not get its pool ends the process.
        self.pooled = _address_space() > SPACE
        handle = lib.wasm_engine_new_with_config(configuration(lib, stack, pooled=self.pooled))
        if not handle:
            raise WasmError("wasmtime refuses the configuration of the engine")
        self.handle: int = handle
        self.pointer = c_void_p(handle)
        self.ticker: Ticker = ticker(lib.wasmtime_engine_increment_epoch)
        self.ticker.add(handle)


_lock = threading.Lock()
_engines: dict[int, Engine] = {}


def _after_fork_in_child() -> None:
    global _lock
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_after_fork_in_child)


def engine(stack: int) -> Engine:
    """The engine for guests with ``stack`` bytes of stack."""
    found = _engines.get(stack)
    if found is None:
        lib = library()
        with _lock:
            found = _engines.get(stack)
            if found is None:
                found = _engines[stack] = Engine(lib, stack)
    return found
