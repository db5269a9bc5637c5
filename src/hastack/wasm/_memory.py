"""The linear memory of one instance, seen from the host: every place is checked at every use."""

from __future__ import annotations

from ctypes import addressof, byref, c_uint8, c_uint64, c_void_p, memmove, string_at
from typing import TYPE_CHECKING

from hastack._core._errors import OutOfBounds

if TYPE_CHECKING:
    from ._capi import Extern, Library

__all__ = ("Memory",)

PAGE = 65_536


class Memory:
    """Guest memory. Pointers and lengths come from the guest and are believed in nothing.

    What is read is copied: nothing here refers to guest memory after it returns. A guest's memory
    neither moves nor shrinks while its instance lives, so that what was inside once stays so.

    Example:
        >>> from hastack import wasm
        >>> def shout(memory: wasm.Memory, pointer: int, length: int) -> None:
        ...     memory.write(pointer, memory.read(pointer, length).upper())
        >>> grant = wasm.host(shout, "(i32, i32)", memory=True)
    """

    __slots__ = ("_base", "_context", "_extern", "_lib", "_pointer", "_view", "calm", "size")

    def __init__(self, lib: Library, context: c_void_p, extern: Extern) -> None:
        self._lib = lib
        self._context = context
        self._extern = extern
        self._pointer = c_void_p(addressof(extern.of))
        self._base: int = lib.wasmtime_memory_data(context, self._pointer) or 0
        self._view: memoryview | None = None
        self.size = 0
        self.calm = False
        """Written to before: worth a view of all of it, which is dear to make and cheap to use."""
        self.look()

    @property
    def view(self) -> memoryview:
        """All that is known of, for who has checked the place already. Made when it is asked for."""
        view = self._view
        if view is None:
            size = self.size
            view = self._view = memoryview((c_uint8 * size).from_address(self._base)).cast("B")
        return view

    def look(self) -> None:
        """Find out how large it is by now."""
        size = self._lib.wasmtime_memory_data_size(self._context, self._pointer)
        if size != self.size:
            self.size = size
            self._view = None

    def read(self, pointer: int, length: int) -> bytes:
        """A copy of ``length`` bytes at ``pointer``, both unsigned.

        Raises:
            OutOfBounds: They are not all inside.
        """
        pointer &= 0xFFFFFFFF
        length &= 0xFFFFFFFF
        if pointer + length > self.size:
            self.within(pointer, length)
        return string_at(self._base + pointer, length)

    def write(self, pointer: int, data: bytes) -> None:
        """Put ``data`` at ``pointer``.

        Raises:
            OutOfBounds: It would not all be inside; then nothing is written.
        """
        pointer &= 0xFFFFFFFF
        length = len(data)
        if pointer + length > self.size:
            self.within(pointer, length)
        memmove(self._base + pointer, data, length)
        self.calm = True

    def text(self, pointer: int, limit: int = PAGE) -> bytes:
        """The bytes at ``pointer`` up to a zero.

        Raises:
            OutOfBounds: There is none within ``limit`` bytes, or before the end.
        """
        pointer &= 0xFFFFFFFF
        self.look()
        piece = string_at(self._base + pointer, max(min(limit, self.size - pointer), 0))
        end = piece.find(b"\0")
        if end < 0:
            raise OutOfBounds(pointer, limit, self.size)
        return piece[:end]

    def grow(self, length: int) -> int | None:
        """Pages of the host's own at the end, for ``length`` bytes; ``None`` when refused."""
        before = c_uint64()
        error = self._lib.wasmtime_memory_grow(
            self._context, self._pointer, -(-length // PAGE), byref(before)
        )
        if error:
            self._lib.wasmtime_error_delete(error)
            return None
        self.look()
        return before.value * PAGE

    def within(self, pointer: int, length: int) -> None:
        """Look again whether a place is inside.

        Raises:
            OutOfBounds: It is not.
        """
        self.look()
        if pointer + length > self.size:
            raise OutOfBounds(pointer, length, self.size)
