"""Many calls in one crossing: a driver in WebAssembly calls the guest in a loop.

The driver is a module of our own in the guest's store. It takes the arguments of each call from a
table that the host wrote into guest memory, calls the guest's function, and writes the result
back. A call from one module to another costs nanoseconds; the boundary to Python is crossed once.
"""

from __future__ import annotations

import threading
from array import array
from ctypes import addressof, byref, c_size_t, c_uint64, c_void_p
from itertools import accumulate, islice
from typing import TYPE_CHECKING, Any, Final

from hastack._core._errors import InvalidArgument

from ._capi import FUNC, MEMORY, Extern
from ._instance import Bound, Shape
from ._signatures import ENDED, WIDE, Signature, number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ._code import Code
    from ._instance import Instance

__all__ = ("Batch",)

_DRIVER: Final = Signature(("i32", "i32"), ("i32",), ("i32", "i32"), ("i32",))


class Batch:
    """The driver for one function of one plugin, compiled once.

    Args:
        code: The plugin's.
        name: Name of the function.

    Raises:
        InvalidArgument: It takes something else than i32 on the wire, or does not return one i32
            or nothing.
    """

    def __init__(self, code: Code, name: str) -> None:
        signature = code.signature(name)
        core = (*signature.core_parameters, *signature.core_results)
        if any(kind != "i32" for kind in core) or len(signature.core_results) > 1:
            raise InvalidArgument(name, str(signature), "a function of i32 with one result or none")
        self._code = code
        self._name = name
        self._signature = signature
        self._width = len(signature.core_parameters)
        self._lock = threading.Lock()
        self._shape = Shape(f"batch of {name}", _DRIVER)
        self._module: int | None = code.lib.module(
            code.engine.handle, code.lib.wat(_text(self._width, bool(signature.core_results)))
        )

    def __del__(self) -> None:
        module, self._module = getattr(self, "_module", None), None
        if module:
            self._code.lib.wasmtime_module_delete(module)

    def run(self, instance: Instance, calls: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Call the guest for each, in order."""
        count = len(calls)
        if not count:
            return []
        driver = self._driver(instance)
        kinds = self._signature.parameters
        for arguments in calls:
            if len(arguments) != len(kinds):
                raise InvalidArgument(f"{self._name}()", arguments, f"{len(kinds)} arguments")
        columns = [
            self._column(position, kind, values)
            for position, (kind, values) in enumerate(
                zip(kinds, zip(*calls, strict=True), strict=True)
            )
        ]
        table = 4 * count * max(self._width, 1)
        data = b"".join(b"\0".join(c) + b"\0" for c in columns if not isinstance(c, array))
        at = instance.place(table + len(data))
        memory = instance.open_memory()
        memory.write(at, self._words(columns, count, at + table).tobytes() + data)
        driver.raw(at - (1 << 32) if at >> 31 else at, count)
        if not self._signature.core_results:
            return [None] * count
        return array("i", memory.read(at, 4 * count)).tolist()

    def _words(self, columns: list[Any], count: int, at: int) -> array[int]:
        """The table: column by column, since a loop in C beats one over rows in Python."""
        words = array("I", bytes(4 * count * max(self._width, 1)))
        place = 0
        for kind, column in zip(self._signature.parameters, columns, strict=True):
            if isinstance(column, array):
                words[place :: self._width] = column
                place += 1
                continue
            lengths = array("I", map(len, column))
            ends = accumulate((length + 1 for length in lengths), initial=at)
            starts = array("I", islice(ends, count))
            at = starts[-1] + lengths[-1] + 1
            words[place :: self._width] = starts
            if kind in WIDE:
                words[place + 1 :: self._width] = lengths
            place += 2 if kind in WIDE else 1
        return words

    def _column(self, position: int, kind: str, values: tuple[Any, ...]) -> Any:
        """One argument of all calls: numbers in an array, or a list of bytes."""
        if kind == "i32":
            return array(
                "I", (int(number(self._name, position, kind, v)) & 0xFFFFFFFF for v in values)
            )
        column = values if set(map(type, values)) == {bytes} else None
        if column is None or kind in {"str", "cstr"}:
            column = tuple(self._bytes(position, kind, value) for value in values)
        if kind in ENDED and any(b"\0" in data for data in column):
            where = f"{self._name}() argument {position + 1}"
            raise InvalidArgument(where, values, "nothing with a zero inside")
        return column

    def _bytes(self, position: int, kind: str, value: object) -> bytes:
        if isinstance(value, str) and kind in {"str", "cstr"}:
            return value.encode()
        if isinstance(value, (bytes, bytearray, memoryview)) and kind in {"bytes", "cbytes"}:
            return bytes(value)
        where = f"{self._name}() argument {position + 1}"
        raise InvalidArgument(where, value, kind.removeprefix("c"))

    def _driver(self, instance: Instance) -> Bound:
        key = f"\0{self._name}"  # no export of the guest can be asked for by that
        found = instance.bound.get(key)
        if found is None:
            found = instance.bound[key] = self._instantiate(instance)
        return found

    def _instantiate(self, instance: Instance) -> Bound:
        lib = self._code.lib
        given = (Extern * 2)()
        given[0] = instance.export(self._code.memory_name, MEMORY)
        given[1] = instance.export(self._name, FUNC)
        handle, found = (c_uint64 * 2)(), Extern()
        error = lib.wasmtime_instance_new(
            instance.context, self._module, given, 2, handle, instance._trap_at
        )
        if error or instance._trap:
            raise instance.failure(error)
        lib.wasmtime_instance_export_get(
            instance.context, c_void_p(addressof(handle)), b"run", c_size_t(3), byref(found)
        )
        return Bound(instance, self._shape, found)


def _text(width: int, result: bool) -> str:
    """The driver: for each call, its arguments out of the table, its result into the table."""
    inward = " ".join(["i32"] * width)
    loads = "".join(f"(i32.load offset={4 * n} (local.get 2)) " for n in range(width))
    call = f"(call $f {loads})"
    done = f"(i32.store (local.get 3) {call})" if result else call
    return f"""(module
      (import "g" "m" (memory 0))
      (import "g" "f" (func $f (param {inward}) {"(result i32)" if result else ""}))
      (func (export "run") (param i32 i32) (result i32) (local i32 i32)
        (local.set 2 (local.get 0)) (local.set 3 (local.get 0))
        (loop $next
          {done}
          (local.set 2 (i32.add (local.get 2) (i32.const {4 * width})))
          (local.set 3 (i32.add (local.get 3) (i32.const 4)))
          (br_if $next (local.tee 1 (i32.sub (local.get 1) (i32.const 1)))))
        (i32.const 0)))"""
