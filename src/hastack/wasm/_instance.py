"""One guest in a store of its own, and the way into it.

A call costs one crossing: arguments are packed into slots that were made with the instance, and the
C function is called with objects that were made beforehand. Deadline and fuel are set at most once
per tick, not per call: within a tick nothing would change.
"""

from __future__ import annotations

import struct
from ctypes import addressof, byref, c_size_t, c_uint64, c_void_p
from time import monotonic
from typing import TYPE_CHECKING, Any

from hastack._core._cancel import BACKGROUND, _current
from hastack._core._errors import (
    DeadlineExceeded,
    GuestDeadline,
    InvalidArgument,
    OutOfFuel,
    PoolExhausted,
    Trap,
    WasmError,
)

from ._capi import FUNC, MEMORY, Extern, Value
from ._memory import Memory
from ._signatures import ENDED, WIDE, number, raw_layout
from ._stack import require_room
from ._ticker import PERIOD

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._code import Code
    from ._signatures import Signature

__all__ = ("Bound", "Instance", "Shape")

SCRATCH = 65_536
"""Bytes that guest memory grows by for arguments."""

PLACE = 4_096
"""Bytes that a guest's malloc is asked for at least, once per instance."""

_ONE = c_size_t(1)
_KINDS = {"i32": 0, "i64": 1, "f32": 2, "f64": 3}


class Instance:
    """A guest. One thread at a time is inside; who takes it from the pool owns it.

    Attributes:
        code: What it was made from.
        broken: It trapped, or an exception passed through it: never to be entered again.
        raised: The exception of a host function on its way through the guest.
        state: Whatever an ABI keeps for it.
    """

    __slots__ = (
        *("scratch", "scratch_size", "_trap", "_trap_at", "bound", "broken", "by_context"),
        *("entries",),
        *("calls", "code", "context", "deadline_at", "fiber", "fresh_until", "handle", "memory"),
        *("raised", "state", "store"),
    )

    def __init__(self, code: Code, *, fiber: bool = False) -> None:
        self.store: c_void_p | None = None  # for __del__, whatever fails below
        self.state: Any = None
        self.code = code
        self.fiber = fiber
        self.broken = False
        self.raised: BaseException | None = None
        self.by_context = False
        self.fresh_until = self.deadline_at = 0.0
        self.calls = 0
        self.bound: dict[str, Bound] = {}
        self.entries: dict[str, Callable[[tuple[Any, ...]], Any]] = {}
        self.scratch = self.scratch_size = 0
        self.memory: Memory | None = None
        self._trap: Any = c_void_p()  # Any: it is false while it holds null
        self._trap_at = c_void_p(addressof(self._trap))
        self.handle = (c_uint64 * 2)()
        store = c_void_p(code.store_new(code.engine.pointer, None, None))
        self.store = store
        self.context = c_void_p(code.store_context(store))
        code.limiter(store, *code.limits_raw)
        if code.state is not None:
            self.state = code.state()
        if code.hosts:
            code.running[self.context.value or 0] = self
        if not fiber:
            self.prepare(monotonic())
            if code.abi.kernel:
                error = self._beside_kernel()
            else:
                error = code.instantiate(code.pre, self.context, self.handle, self._trap_at)
            if error or self._trap.value:
                raise self.failure(error)
            if code.reactor:
                self.bind("_initialize")(())

    def _beside_kernel(self) -> int | None:
        """Make the kernel first, and the guest with its functions."""
        linker = self.kernel_linker()
        try:
            made: int | None = self.code.lib.wasmtime_linker_instantiate(
                linker, self.context, self.code.module, self.handle, self._trap_at
            )
            return made
        finally:
            self.code.lib.wasmtime_linker_delete(linker)

    def kernel_linker(self) -> int:
        """A kernel for this instance, and a linker that knows it; whoever asks deletes that."""
        lib, code = self.code.lib, self.code
        kernel, found = (c_uint64 * 2)(), Extern()
        linker = code.linker()
        try:
            error = lib.wasmtime_linker_instantiate(
                linker, self.context, code.kernel, kernel, self._trap_at
            )
            if error or self._trap.value:
                raise self.failure(error)
            wanted = {i.name for i in code.facts.imports if i.module == code.abi.kernel_module}
            module = code.abi.kernel_module.encode()
            for name in sorted(wanted & set(code.abi.kernel_functions)):
                raw = name.encode()
                code.export_get(self.context, kernel, raw, c_size_t(len(raw)), byref(found))
                lib.check(
                    lib.wasmtime_linker_define(
                        *(linker, self.context, module, len(module), raw, len(raw), byref(found))
                    )
                )
            memory = Extern()
            code.export_get(self.context, kernel, b"memory", c_size_t(6), byref(memory))
            self.state.kernel = Memory(lib, self.context, memory)
        except BaseException:
            lib.wasmtime_linker_delete(linker)
            raise
        return linker

    def close(self) -> None:
        """Free it; what it holds is gone."""
        store, self.store = self.store, None
        if store is not None:
            self.memory = None
            self.bound = {}  # and with it the cycle between the two
            self.entries = {}
            if self.code.hosts:
                self.code.running.pop(self.context.value or 0, None)
            self.code.store_delete(store)
            end = getattr(self.state, "close", None)
            if end is not None:
                end()

    def __del__(self) -> None:
        self.close()

    def prepare(self, now: float) -> None:
        """Set deadline and fuel for a call that begins now.

        Raises:
            ContextError: The current context has ended.
            WasmError: The thread has too little stack.
        """
        code = self.code
        if not self.fiber:
            require_room(code.limits.stack, hosts=code.hosts)
        ctx = _current.get()
        budget = code.limits.deadline
        self.by_context = False
        fresh = 0.0 if code.each else now + PERIOD
        if ctx is not BACKGROUND:
            ctx.check()
            left = ctx.remaining()
            fresh = 0.0
            if left is not None and left < budget:
                budget, self.by_context = left, True
        self.calls = 0
        self.deadline_at = now + budget + PERIOD  # calls of one tick share it
        self.fresh_until = fresh
        self.arm(now, budget)
        code.lib.check(code.set_fuel(self.context, code.fuel))

    def arm(self, now: float, budget: float) -> None:
        """Let the epoch end what runs ``budget`` seconds from now."""
        clock = self.code.engine.ticker
        if now + budget > clock.until:
            clock.keep(now, budget)
        if self.fiber:
            return  # it comes back to the event loop at each tick, and is looked at there
        for _ in range(3):
            ticks, place = clock.ticks(now, budget)
            self.code.set_deadline(self.context, c_uint64(ticks))
            if clock.place() == place:
                return

    def bind(self, name: str) -> Bound:
        """The export of that name, ready to be called.

        Raises:
            InvalidArgument: There is none that can be called.
        """
        bound = self.bound.get(name)
        if bound is None:
            shape = self.code.shapes.get(name)
            if shape is None:
                shape = self.code.shapes[name] = self.code.shape(name)
            make = self.code.abi.bound or Bound
            bound = self.bound[name] = make(self, shape, self.export(name, FUNC))
            self.entries[name] = bound.enter
        return bound

    def export(self, name: str, kind: int) -> Extern:
        """The handle of an export.

        Raises:
            InvalidArgument: There is none of that name and kind.
        """
        code, found = self.code, Extern()
        known = code.names.get(name)
        if known is None:
            raw = name.encode()
            known = code.names[name] = raw, c_size_t(len(raw))
        if (
            not code.export_get(self.context, self.handle, *known, byref(found))
            or found.kind != kind
        ):
            raise InvalidArgument("name", name, "an export of the module")
        return found

    def put(self, base: int, data: bytes) -> None:
        """Write to its own place, which was checked when it was made."""
        memory = self.memory
        if memory is None:
            memory = self.open_memory()
        if memory.calm:
            memory.view[base : base + len(data)] = data
        else:
            memory.write(base, data)

    def open_memory(self) -> Memory:
        """Its memory.

        Raises:
            InvalidArgument: It exports none.
        """
        if self.memory is None:
            self.memory = Memory(
                self.code.lib, self.context, self.export(self.code.memory_name, MEMORY)
            )
        return self.memory

    def place(self, length: int) -> int:
        """Where ``length`` bytes of the host's may lie in guest memory until the next call.

        Raises:
            InvalidArgument: That is more than the limit for input.
            WasmError: The memory may not grow, and the guest has no ``malloc``.
        """
        if length <= self.scratch_size:
            return self.scratch
        if length > self.code.limits.input_bytes:
            limit = f"at most {self.code.limits.input_bytes:,} bytes (Limits.input_bytes)"
            raise InvalidArgument("arguments", length, limit)
        # A place of the guest's own choice costs one call; else pages of ours, which no allocator of
        # the guest knows of.
        size = 1 << (max(length, PLACE) - 1).bit_length()
        found = self._allocate(size)
        if found is None:
            size = max(size, SCRATCH)
            found = self.open_memory().grow(size)
        if found is None:
            raise WasmError(
                f"no place for {size:,} bytes: the guest has no malloc that gives it, and its memory "
                "may not grow"
            )
        self.scratch, self.scratch_size = found, size
        return found

    def _allocate(self, size: int) -> int | None:
        code = self.code
        if self.fiber:  # which cannot be entered from here
            return None
        for name in code.allocators:
            if code.lib.tier == "direct":
                # Once per instance: not worth what it takes to call it often.
                slots = (c_uint64 * 2)(size)
                function = self.export(name, FUNC)
                error = code.call(self.context, byref(function, 8), slots, _ONE, self._trap_at)
                if error or self._trap:
                    raise self.failure(error)
                found = slots[0] & 0xFFFFFFFF
            else:
                found = self.bind(name).raw(size) & 0xFFFFFFFF
            if found:
                memory = self.open_memory()
                if found + size > memory.size:
                    memory.within(found, size)  # is it all inside?
                return found
        return None

    def failure(self, error: int | None) -> BaseException:
        """The exception for a call that failed; the instance is broken from here on."""
        self.broken = True
        lib = self.code.lib
        trap, self._trap.value = self._trap.value, None
        text, code = lib.trap_text(trap) if trap else ("", "")
        if error:
            text = lib.error_text(error)
        raised, self.raised = self.raised, None
        if raised is not None:
            return raised
        if code == "interrupt":
            return self.expired()
        if code == "out_of_fuel":
            return OutOfFuel(f"guest used up its fuel of {self.code.limits.fuel:,}", code)
        if trap:
            first = text.rpartition("wasm trap: ")[2].strip() or text.strip()
            return Trap(first.partition("\n")[0] if code else text.strip(), code)
        if "concurrent" in text:
            return PoolExhausted(text)
        return WasmError(text)

    def expired(self) -> BaseException:
        """The exception for a call that took too long."""
        self.broken = True
        if self.by_context:
            return DeadlineExceeded("deadline exceeded while a guest was running")
        return GuestDeadline(f"guest ran longer than {self.code.limits.deadline:g} s", "interrupt")


class Shape:
    """What all instances share of one function: how its values lie in the slots."""

    __slots__ = (
        *(
            "ended",
            "length",
            "name",
            "pack",
            "plain",
            "plan",
            "pointers",
            "signature",
            "single",
            "slots",
        ),
        *("core", "unpack", "wide_result"),
    )

    def __init__(self, name: str, signature: Signature, core: str = "") -> None:
        self.name = name
        self.core = core
        self.signature = signature
        inward, outward = signature.core_parameters, signature.core_results
        self.length = max(len(inward), len(outward), 1)
        self.slots = c_uint64 * (2 * self.length)
        self.pack: Callable[..., None] = raw_layout(inward).pack_into
        self.unpack = raw_layout(outward).unpack_from
        self.plain = signature.plain
        self.single = len(outward) == 1
        self.wide_result = bool(signature.results) and signature.results[0] in WIDE
        # 0 a number, 1 a pointer to bytes that end with a zero, 2 a pointer and a length
        at, pointers = 0, []
        for kind in signature.parameters:
            if kind in WIDE or kind in ENDED:
                pointers.append(at)
            at += 2 if kind in WIDE else 1
        self.pointers = tuple(pointers)
        self.plan = tuple(
            (
                2 if kind in WIDE else 1 if kind in ENDED else 0,
                str if kind in {"str", "cstr"} else bytes,
            )
            for kind in signature.parameters
        )


class Bound:
    """One function of one instance: its slots are made once."""

    __slots__ = (
        *("_call", "_pack", "_shape", "_slots", "_trap", "_unpack", "_view"),
        *("enter", "extern", "instance", "name", "signature", "single", "wire"),
    )

    def __init__(self, instance: Instance, shape: Shape, extern: Extern) -> None:
        self.instance = instance
        self._shape = shape
        self.name = shape.name
        self.signature = shape.signature
        self.extern = extern
        self._slots = shape.slots()
        self._view = memoryview(self._slots).cast("B")
        self._pack = shape.pack
        self._unpack = shape.unpack
        self.single = shape.single
        self._trap = instance._trap
        self.wire = (
            instance.context,
            c_void_p(addressof(extern) + 8),
            c_void_p(addressof(self._slots)),
            c_size_t(shape.length),
            instance._trap_at,
        )
        self._call: Callable[..., int | None] = instance.code.call
        if instance.code.lib.tier != "direct":
            self._call = self._checked
        self.enter: Callable[[tuple[Any, ...]], Any]
        if type(self) is not Bound:
            self.enter = self.own_entry()
        else:
            self.enter = self._plain_entry() if shape.plain else self._wide_entry()

    def __call__(self, arguments: tuple[Any, ...]) -> Any:
        return self.enter(arguments)

    def own_entry(self) -> Callable[[tuple[Any, ...]], Any]:
        """The way in for an ABI of its own."""
        return self._own_entry

    def _own_entry(self, arguments: tuple[Any, ...]) -> Any:
        """The way in for an ABI that packs and unpacks by itself."""
        self._pack(self._view, 0, *self.pack(arguments))
        error = self._call(*self.wire)
        if error or self._trap:
            raise self.instance.failure(error)
        return self.unpack(self._unpack(self._view))

    def _plain_entry(self) -> Callable[[tuple[Any, ...]], Any]:
        """The way in for numbers alone: a closure, since attributes would be a tenth of the call."""
        pack, unpack, view, trap = self._pack, self._unpack, self._view, self._trap
        call, single, instance, numbers = self._call, self.single, self.instance, self._numbers
        context, function, slots, length, trap_at = self.wire

        def enter(arguments: tuple[Any, ...]) -> Any:
            try:
                pack(view, 0, *arguments)
            except (struct.error, OverflowError):
                pack(view, 0, *numbers(arguments))
            error = call(context, function, slots, length, trap_at)
            if error or trap:
                raise instance.failure(error)
            return unpack(view)[0] if single else (unpack(view) or None)

        return enter

    def _wide_entry(self) -> Callable[[tuple[Any, ...]], Any]:
        """The way in when bytes or strings are among the arguments or the results."""
        pack, unpack, view, trap = self._pack, self._unpack, self._view, self._trap
        call, single, instance = self._call, self.single, self.instance
        context, function, slots, length, trap_at = self.wire
        plan, wide_result, slow = self._shape.plan, self._shape.wide_result, self.pack
        expected, pointers, place = len(plan), self._shape.pointers, self.instance.place

        def enter(given: tuple[Any, ...]) -> Any:
            arguments: Any = given
            if len(given) != expected:
                slow(given)
            values: list[Any] = []
            parts = []
            used = 0
            for (code, wanted), value in zip(plan, arguments, strict=True):
                if not code:
                    values.append(value)
                    continue
                data = value
                if wanted is str and value.__class__ is str:
                    data = value.encode()
                elif value.__class__ is not wanted:
                    break  # the slow way converts, or says what is wrong
                if code == 1 and b"\0" in data:
                    break
                parts.append(data)
                values.append(used)
                size = len(data)
                if code == 2:
                    values.append(size)
                used += size + 1
            else:
                if used:
                    # Its own place is inside for as long as the instance lives.
                    base = instance.scratch if used <= instance.scratch_size else place(used)
                    instance.put(base, b"\0".join(parts) + b"\0")
                    for index in pointers:
                        values[index] += base
                arguments = values
            try:
                pack(view, 0, *(arguments if arguments is values else slow(arguments)))
            except (struct.error, OverflowError):
                pack(view, 0, *slow(given))
            error = call(context, function, slots, length, trap_at)
            if error or trap:
                raise instance.failure(error)
            if wide_result:
                return self.unpack(unpack(view))
            return unpack(view)[0] if single else (unpack(view) or None)

        return enter

    def raw(self, *numbers: int) -> int:
        """Call with integers that are known to fit; the one result."""
        self._pack(self._view, 0, *numbers)
        error = self._call(*self.wire)
        if error or self._trap:
            raise self.instance.failure(error)
        return int(self._unpack(self._view)[0])

    def pack(self, arguments: tuple[Any, ...]) -> list[int | float]:
        """The core values for arguments, whose bytes are put into guest memory."""
        kinds = self.signature.parameters
        if len(arguments) != len(kinds):
            raise InvalidArgument(f"{self.name}()", arguments, f"{len(kinds)} arguments")
        values: list[int | float] = []
        pieces: list[tuple[int, bytes]] = []
        length = 0
        for position, (kind, value) in enumerate(zip(kinds, arguments, strict=True)):
            if kind in WIDE or kind in ENDED:
                data = self._bytes(position, kind, value)
                pieces.append((len(values), data))
                values.append(length)
                if kind in WIDE:
                    values.append(len(data))
                length += len(data) + 1  # a zero behind each, for guests written in C
            else:
                values.append(number(self.name, position, kind, value))
        if pieces:
            at = self.instance.place(length)
            self.instance.open_memory().write(at, b"\0".join(d for _, d in pieces) + b"\0")
            for index, _ in pieces:
                values[index] = _signed(int(values[index]) + at)
        return values

    def unpack(self, results: tuple[Any, ...]) -> Any:
        """What a caller gets for core values."""
        wanted = self.signature.results
        if not self._shape.wide_result:
            return results[0] if self.single else (results or None)
        if self.single:  # one number: the pointer in its upper half, the length in its lower
            pointer, length = (results[0] >> 32) & 0xFFFFFFFF, results[0] & 0xFFFFFFFF
        else:
            pointer, length = results[0] & 0xFFFFFFFF, results[1] & 0xFFFFFFFF
        limit = self.instance.code.limits.output_bytes
        if length > limit:
            self.instance.broken = True
            raise WasmError(f"{self.name}() returns {length:,} bytes, at most {limit:,}")
        try:
            data = self.instance.open_memory().read(pointer, length)
            return data.decode() if wanted[0] == "str" else data
        except (LookupError, UnicodeDecodeError) as error:
            self.instance.broken = True
            if isinstance(error, UnicodeDecodeError):
                raise WasmError(f"{self.name}() returns a str that is not UTF-8") from None
            raise

    def values(self, numbers: list[int | float]) -> Any:
        """``wasmtime_val_t`` of core values, for the calls that take those."""
        array = (Value * max(len(numbers), 1))()
        for value, kind, given in zip(array, self.signature.core_parameters, numbers, strict=False):
            value.kind = _KINDS[kind]
            memoryview(value.of).cast("B")[:8] = raw_layout((kind,)).pack(given)[:8]
        return array

    def taken(self, array: Any) -> tuple[Any, ...]:
        """Core values out of ``wasmtime_val_t``."""
        return tuple(
            raw_layout((kind,)).unpack_from(memoryview(value.of).cast("B"))[0]
            for value, kind in zip(array, self.signature.core_results, strict=False)
        )

    def outputs(self) -> Any:
        """Room for results as ``wasmtime_val_t``."""
        return (Value * max(len(self.signature.core_results), 1))()

    def _bytes(self, position: int, kind: str, value: object) -> bytes:
        ended = kind in ENDED
        if isinstance(value, str) and kind in {"str", "cstr"}:
            data = value.encode()
        elif isinstance(value, (bytes, bytearray, memoryview)) and kind in {"bytes", "cbytes"}:
            data = bytes(value)
        else:
            where = f"{self.name}() argument {position + 1}"
            raise InvalidArgument(where, value, kind.removeprefix("c"))
        if ended and b"\0" in data:
            where = f"{self.name}() argument {position + 1}"
            raise InvalidArgument(where, value, "nothing with a zero inside")
        return data

    def _numbers(self, arguments: tuple[Any, ...]) -> list[int | float]:
        kinds = self.signature.parameters
        if len(arguments) != len(kinds):
            raise InvalidArgument(f"{self.name}()", arguments, f"{len(kinds)} arguments")
        return [
            number(self.name, position, kind, value)
            for position, (kind, value) in enumerate(zip(kinds, arguments, strict=True))
        ]

    def _checked(self, *wire: Any) -> int | None:
        """The call through the API that checks types itself: for when the direct one is not used."""
        inward, out = self.signature.core_parameters, self.outputs()
        given = list(raw_layout(inward).unpack_from(self._view))
        error: int | None = self.instance.code.lib.wasmtime_func_call(
            wire[0],
            wire[1],
            self.values(given),
            len(inward),
            out,
            len(self.signature.core_results),
            wire[4],
        )
        if not error and not self._trap:
            raw_layout(self.signature.core_results).pack_into(self._view, 0, *self.taken(out))
        return error


def _signed(pointer: int) -> int:
    return pointer - (1 << 32) if pointer >> 31 else pointer
