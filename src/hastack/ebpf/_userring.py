"""A writer of user ring buffers, which programs read with ``bpf_user_ringbuf_drain``."""

from __future__ import annotations

import mmap
import os
import threading
from struct import pack_into
from typing import TYPE_CHECKING, Any, Self

from hastack._core._errors import ClosedError, InvalidArgument
from hastack._core._fork import renew_in_child

from ._ringbuf import order_of_memory

if TYPE_CHECKING:
    from types import TracebackType

    from ._codec import Codec
    from ._maps import Map

__all__ = ("UserRingBuffer",)


class UserRingBuffer:
    """Writes records for programs to read, in the order of writing.

    The kernel is not woken: programs read when they run. In a forked child it is closed.

    Args:
        target: The map, of type user_ringbuf.
        codec: Type of the records, or ``None`` for bytes.

    Example:
        >>> from hastack import ebpf
        >>> with ebpf.load("orders.bpf.o") as obj, obj.sender("orders") as out:  # doctest: +SKIP
        ...     out.send({"kind": 1, "amount": 5})
        True
    """

    def __init__(self, target: Map, codec: Codec | None = None) -> None:
        if target.type != "user_ringbuf":
            raise InvalidArgument("target", target.type, "a map of type user_ringbuf")
        self._native = order_of_memory()
        self.name = target.name
        self.codec = codec
        self._size, page = target.max_entries, mmap.PAGESIZE
        fd = target._handle.duplicate()
        try:
            self._consumer = mmap.mmap(fd, page, mmap.MAP_SHARED, mmap.PROT_READ, offset=0)
            length = page + 2 * self._size
            self._producer = mmap.mmap(fd, length, mmap.MAP_SHARED, offset=page)
        finally:
            os.close(fd)
        whole, theirs = memoryview(self._producer), memoryview(self._consumer)
        self._mine, self._theirs = whole[:8].cast("Q"), theirs[:8].cast("Q")
        self._data, self._views = whole[page:], (whole, theirs)
        self._lock = threading.Lock()
        self._closed = False
        renew_in_child(self)

    def __repr__(self) -> str:
        return f"<ebpf.UserRingBuffer {self.name}{', closed' if self._closed else ''}>"

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._closed

    @property
    def waiting(self) -> int:
        """Bytes that programs have not read yet."""
        with self._lock:
            self._check()
            return int(self._mine[0] - self._load())

    def _check(self) -> None:
        if self._closed:
            raise ClosedError(f"user ring buffer {self.name}")

    def _load(self) -> int:
        if self._native is None:
            return self._theirs[0]
        return int(self._native.lib.hastack_load(self._native.ffi.from_buffer(self._theirs)))

    def send(self, value: Any) -> bool:
        """Write a record; False when there is no room, and then nothing is written.

        Args:
            value: A value of the type, or bytes.

        Raises:
            InvalidArgument: It does not fit the type, or is larger than the ring.
            ClosedError: The writer was closed.
        """
        raw = bytes(value) if self.codec is None else self.codec.encode(value)
        step = (len(raw) + 15) & ~7
        if step > self._size:
            raise InvalidArgument("value", len(raw), f"at most {self._size - 8} bytes")
        with self._lock:
            self._check()
            start = self._mine[0]
            if step > self._size - (start - self._load()):
                return False
            at = start & (self._size - 1)
            pack_into("=II", self._data, at, len(raw), 0)
            self._data[at + 8 : at + 8 + len(raw)] = raw
            # Only now, whole, it is there for the kernel.
            if self._native is None:
                self._mine[0] = start + step
            else:
                place = self._native.ffi.from_buffer(self._mine)
                self._native.lib.hastack_store(place, start + step)
        return True

    def close(self) -> None:
        """Stop writing; what was written stays for the programs."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            for view in (self._mine, self._theirs, self._data, *self._views):
                view.release()
            self._consumer.close()
            self._producer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()

    def _after_fork(self) -> None:
        self._lock = threading.Lock()
        self.close()
