"""A compiled module, linked with what it was granted: what instances are made from."""

from __future__ import annotations

import threading
from ctypes import byref, c_int64, c_size_t, c_uint64, c_void_p
from typing import TYPE_CHECKING, Any, Final

from hastack._core._errors import InvalidArgument, UnresolvedImports

from . import _signatures
from ._engine import engine
from ._host import HostFunction, callback, define

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ._abi._adapted import Adapted
    from ._instance import Instance, Shape
    from ._limits import Limits
    from ._reader import Facts, Import

__all__ = ("Code", "grants_of")

SHARED_CALLS: Final = 5_000

DRIVERS: Final = 64
"""Instances in one store: the guest, and drivers of our own. A guest cannot make any."""


class Code:
    """Compiled code with its limits and grants. Shared by instances, never changed.

    Args:
        module: Handle of the compiled module, which this object frees.
        facts: What is known about it.
        limits: What each instance may use.
        adapted: What its ABI and its user grant and declare.

    Raises:
        UnresolvedImports: It imports what was not granted.
        InvalidArgument: A signature does not fit the module's.
    """

    def __init__(
        self,
        module: int,
        facts: Facts,
        limits: Limits,
        adapted: Adapted,
    ) -> None:
        self.engine = engine(limits.stack)
        lib = self.lib = self.engine.lib
        self._module: int | None = module
        self._linker: int | None = None
        self._granted: list[tuple[Import, _signatures.Signature, Any]] = []
        self.kernel: int | None = None
        self._lock = threading.Lock()
        self.pre = c_void_p()
        self.facts = facts
        self.limits = limits
        self.abi = adapted
        self.state = adapted.state
        self.memory_name = "memory"
        if facts.export("memory", "memory") is None:
            # A module with one memory may call it what it likes.
            named = [e.name for e in facts.exports if e.kind == "memory"]
            self.memory_name = named[0] if named else "memory"
        self.hosts = bool(facts.imports)
        # Calls of one tick share what is set once per tick. A tick is too short for a thousand calls
        # of the host, so that sharing takes nothing from a budget of that size or more.
        self.each = limits.exact_fuel or (self.hosts and limits.host_calls < SHARED_CALLS)
        self.names: dict[str, tuple[bytes, c_size_t]] = {}
        self.allocators = [
            name
            for name in ("malloc", "alloc", "allocate")
            if (export := facts.export(name)) is not None and export.type == "(i32) -> i32"
        ]
        self.shapes: dict[str, Shape] = {}
        self.running: dict[int, Instance] = {}
        self._signatures = {
            name: self._declared(name, text) for name, text in adapted.functions.items()
        }
        self.reactor = facts.export("_initialize") is not None
        self.fuel = c_uint64(limits.fuel)
        # The limit for memory is one for all memories together, the engine's is for each.
        memories = len(facts.memories) + bool(adapted.kernel)
        share = limits.memory // max(memories, 1)
        elements = limits.table_elements // max(len(facts.tables), 1)
        self.limits_raw = tuple(
            map(c_int64, (share, elements, DRIVERS, limits.tables + 1, limits.memories + 1))
        )
        self.store_new = lib.wasmtime_store_new
        self.store_context = lib.wasmtime_store_context
        self.store_delete = lib.wasmtime_store_delete
        self.limiter = lib.wasmtime_store_limiter
        self.set_fuel = lib.wasmtime_context_set_fuel
        self.set_deadline = lib.wasmtime_context_set_epoch_deadline
        self.instantiate = lib.wasmtime_instance_pre_instantiate
        self.export_get = lib.wasmtime_instance_export_get
        self.call: Callable[..., int | None] = lib.wasmtime_func_call_unchecked
        self._link(adapted.grants)

    @property
    def module(self) -> int:
        """Handle of the compiled module."""
        assert self._module is not None
        return self._module

    def signature(self, name: str) -> _signatures.Signature:
        """How callers see an export; checked once.

        Raises:
            InvalidArgument: There is no such function, or its values are no Python values.
        """
        found = self._signatures.get(name)
        if found is None:
            found = self._signatures[name] = self._declared(name, None)
        return found

    def _declared(self, name: str, text: str | None) -> _signatures.Signature:
        export = self.facts.export(name)
        if export is None:
            known = ", ".join(e.name for e in self.facts.exports[:20] if e.kind == "func")
            raise InvalidArgument("name", name, f"an exported function ({known or 'none'})")
        return _signatures.bind(name, text, export.type)

    def shape(self, name: str) -> Shape:
        """How values of an export lie in its slots; made once."""
        found = self.shapes.get(name)
        if found is None:
            from ._instance import Shape

            export = self.facts.export(name)
            found = self.shapes[name] = Shape(
                name, self.signature(name), export.type if export is not None else ""
            )
        return found

    def linker(self) -> int:
        """A linker with everything that was granted; whoever asks deletes it."""
        made: int = self.lib.wasmtime_linker_new(self.engine.handle)
        for wanted, signature, called in self._granted:
            define(self.lib, made, wanted, signature, called)
        return made

    def _link(self, grants: Mapping[str, Mapping[str, HostFunction]]) -> None:
        inside = {(self.abi.kernel_module, name) for name in self.abi.kernel_functions}
        wanted = {(w.module, w.name): w for w in self.facts.imports}
        missing = [
            str(one)
            for key, one in wanted.items()
            if key not in inside
            and (one.kind != "func" or one.name not in grants.get(one.module, {}))
        ]
        if missing:
            raise UnresolvedImports(missing)
        for key, one in wanted.items():
            if key not in inside:
                made = callback(self, one, grants[one.module][one.name])
                self._granted.append((one, *made))
        if self.abi.kernel:
            self.kernel = self.lib.module(self.engine.handle, self.lib.wat(self.abi.kernel))
            return
        self._linker = self.linker()
        self.lib.check(
            self.lib.wasmtime_linker_instantiate_pre(self._linker, self.module, byref(self.pre))
        )

    def __del__(self) -> None:
        pre = getattr(self, "pre", None)
        if pre:
            self.lib.wasmtime_instance_pre_delete(pre)
        linker, self._linker = getattr(self, "_linker", None), None
        if linker:
            self.lib.wasmtime_linker_delete(linker)
        kernel, self.kernel = getattr(self, "kernel", None), None
        if kernel:
            self.lib.wasmtime_module_delete(kernel)
        module, self._module = getattr(self, "_module", None), None
        if module:
            self.lib.wasmtime_module_delete(module)


def grants_of(
    imports: Mapping[str, Mapping[str, Any]] | None,
) -> dict[str, dict[str, HostFunction]]:
    """``imports=`` as given by users.

    Raises:
        InvalidArgument: It is not a mapping of mappings of functions.
    """
    accepted = "a mapping of module names to mappings of names to functions"
    found: dict[str, dict[str, HostFunction]] = {}
    try:
        for module, names in (imports or {}).items():
            for name, value in names.items():
                grant = value if isinstance(value, HostFunction) else None
                if grant is None:
                    if not callable(value):
                        raise InvalidArgument("imports", value, accepted)
                    grant = HostFunction(value)
                found.setdefault(module, {})[name] = grant
    except AttributeError:
        raise InvalidArgument("imports", imports, accepted) from None
    return found
