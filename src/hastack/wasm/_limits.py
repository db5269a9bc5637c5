"""What a plugin may use at most; every limit is on unless it is lifted."""

from __future__ import annotations

from typing import Any

import attrs

from hastack._core import _validate
from hastack._core._errors import InvalidArgument

from ._sizes import size

__all__ = ("Limits",)

EXACT_FUEL = 100_000_000
"""Below this the fuel is set anew for each call, from here on at most once per tick.

A tick of a millisecond burns a few million units at most, so that what calls of one tick share is
no more than a few percent of so large a budget.
"""


def _seconds(instance: object, attribute: attrs.Attribute[float], value: object) -> None:
    _validate.seconds(attribute.name, value)


def _count(instance: object, attribute: attrs.Attribute[int], value: object) -> None:
    _validate.integer(attribute.name, value, minimum=0)


def _positive(instance: object, attribute: attrs.Attribute[int], value: object) -> None:
    _validate.integer(attribute.name, value)


def _stack(instance: object, attribute: attrs.Attribute[int], value: int) -> None:
    if not 16 << 10 <= value <= 64 << 20:
        raise InvalidArgument(attribute.name, value, 'between "16KiB" and "64MiB"')


def _memory(instance: object, attribute: attrs.Attribute[int], value: int) -> None:
    if value > 4 << 30:
        raise InvalidArgument(attribute.name, value, 'at most "4GiB"')


def _bytes(name: str, default: int, *, validator: Any = None) -> Any:
    return attrs.field(
        default=default, converter=lambda value: size(name, value), validator=validator
    )


@attrs.frozen(kw_only=True)
class Limits:
    """What a plugin may use; each limit holds for one instance, those of time for one call.

    Attributes:
        deadline: Wall-clock seconds for one call, including what the host does for it. The
            context's deadline counts as well when it is earlier.
        fuel: Instructions for one call, roughly. Below 100 million exactly the same in each
            call, which costs half a microsecond; from there on a last resort beside the
            deadline, filled up once per millisecond.
        memory: Bytes of all linear memories together, at most 4 GiB; or ``"16MiB"``.
        memories: How many memories a module may have.
        tables: How many tables a module may have.
        table_elements: Elements of all its tables together.
        stack: Bytes of stack for guest code. A thread whose own stack does not leave that much
            and some more is refused.
        host_calls: How often one call may call the host.
        input_bytes: Bytes that one call may bring in as bytes and strings.
        output_bytes: Bytes of one result.
        module_bytes: Size of a module.
        functions: Functions in a module, its imports included.
        function_bytes: Code of its largest function.
        locals: Local variables of one function.
        total_locals: Local variables of all functions together: what compilers choke on.
        types: Types of a module.
        globals: Global variables of a module.
        imports: Imports of a module.
        exports: Exports of a module.
        segments: Data and element segments together.
        custom_bytes: Bytes of its custom sections.
        compile_seconds: CPU seconds for compiling, and four times as much of wall-clock time.
        compile_memory: Bytes of address space for the compiler, beyond what it starts with.

    Raises:
        InvalidArgument: A limit is outside of its range.

    Example:
        >>> from hastack import wasm
        >>> wasm.Limits(deadline=0.005, memory="1MiB").memory
        1048576
    """

    deadline: float = attrs.field(default=0.05, validator=_seconds)
    fuel: int = attrs.field(default=10_000_000_000, validator=_positive)
    memory: int = _bytes("memory", 16 << 20, validator=_memory)
    memories: int = attrs.field(default=1, validator=_count)
    tables: int = attrs.field(default=4, validator=_count)
    table_elements: int = attrs.field(default=20_000, validator=_count)
    stack: int = _bytes("stack", 128 << 10, validator=_stack)
    host_calls: int = attrs.field(default=10_000, validator=_count)
    input_bytes: int = _bytes("input_bytes", 4 << 20)
    output_bytes: int = _bytes("output_bytes", 4 << 20)
    module_bytes: int = _bytes("module_bytes", 16 << 20)
    functions: int = attrs.field(default=20_000, validator=_count)
    function_bytes: int = _bytes("function_bytes", 512 << 10)
    locals: int = attrs.field(default=10_000, validator=_count)
    total_locals: int = attrs.field(default=500_000, validator=_count)
    types: int = attrs.field(default=10_000, validator=_count)
    globals: int = attrs.field(default=10_000, validator=_count)
    imports: int = attrs.field(default=1_000, validator=_count)
    exports: int = attrs.field(default=10_000, validator=_count)
    segments: int = attrs.field(default=20_000, validator=_count)
    custom_bytes: int = _bytes("custom_bytes", 16 << 20)
    compile_seconds: float = attrs.field(default=10.0, validator=_seconds)
    compile_memory: int = _bytes("compile_memory", 1 << 30)

    @property
    def exact_fuel(self) -> bool:
        """Whether each call gets the same fuel, to the unit."""
        return self.fuel < EXACT_FUEL
