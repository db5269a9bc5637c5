"""A reader of BPF ring buffers: batches, and an exact account."""

from __future__ import annotations

import importlib
import mmap
import os
import platform
from typing import TYPE_CHECKING, Any, NamedTuple

from hastack._core._errors import ClosedError, InvalidArgument, Unsupported

from ._ring import Walker
from ._waiting import Reader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ._codec import Codec
    from ._maps import Map

__all__ = ("Account", "Batch", "RingBuffer")

# Where plain loads and stores are not reordered among each other as the kernel's protocol forbids.
_ORDERED = frozenset(("x86_64", "AMD64"))


def _native() -> Any:
    """The C extension, where this installation has it."""
    try:
        return importlib.import_module("hastack.ebpf._native")
    except ImportError:
        return None


def order_of_memory(*, extension: bool | None = None) -> Any:
    """The C extension, or ``None`` where plain loads and stores will do.

    Raises:
        Unsupported: Neither is there.
    """
    native = _native() if extension is not False else None
    if native is not None:
        return native
    remedy = "HASTACK_COMPILE=1 pip install, with a C compiler, builds the extension"
    if extension:
        what = "the C extension for ring buffers"
        raise Unsupported(what, "this installation has none", remedy=remedy)
    if platform.machine() not in _ORDERED:
        reason = f"{platform.machine()} may reorder what Python reads from shared memory"
        raise Unsupported("reading ring buffers", reason, remedy=remedy)
    return None


class _NativeWalker(Walker):
    """Counts records in C, with loads in the order that every machine keeps."""

    def __init__(self, size: int, codec: Codec | None, native: Any, data: memoryview) -> None:
        super().__init__(size, codec)
        self._lib = native.lib
        # Without the view: that must be free to be released. The reader's lock guards its end.
        held = native.ffi.from_buffer(data)
        self._base = native.ffi.cast("char *", native.ffi.cast("uintptr_t", held))
        native.ffi.release(held)
        items = () if codec is None else codec.row_items
        self._items = native.ffi.new("struct hastack_item[]", max(1, len(items)))
        self._width = len(items)
        for item, (kind, offset, length) in zip(self._items, items, strict=False):
            item.kind, item.offset, item.size = kind.encode(), offset + 8, length

    def _decode(
        self, data: memoryview, at: int, length: int, step: int, count: int, rows: list[Any]
    ) -> None:
        if not self._width:
            super()._decode(data, at, length, step, count, rows)
        elif self._lib.hastack_rows(
            id(rows), self._base + at, step, count, self._items, self._width
        ):
            raise MemoryError

    def _header(self, words: memoryview, at: int) -> int:
        header: int = self._lib.hastack_header(self._base + at)
        return header

    def _run(self, words: memoryview, at: int, step: int, header: int, most: int) -> int:
        count: int = self._lib.hastack_run(self._base + at, step, header, most)
        return count


class Account(NamedTuple):
    """Where the records went.

    Attributes:
        consumed: Records that batches have brought.
        discarded: Records that their program threw away after reserving them.
        lost: Records for which there was no room, where the programs count that in a variable
            ``<map>_lost``; else ``None``.
        waiting: Bytes that are in the ring now.
    """

    consumed: int
    discarded: int
    lost: int | None
    waiting: int

    @property
    def produced(self) -> int | None:
        """Records that programs wanted to write and that are no longer in the ring."""
        return None if self.lost is None else self.consumed + self.discarded + self.lost


class Batch:
    """Records that were read together.

    Args:
        rows: One tuple per record where the type allows that (its members are numbers, text and
            bytes); else one decoded value per record; bytes without a type. Text in such plain
            tuples is ``bytes`` with its zeros.
        fields: Names of the items of a row.
        others: Records of another size than the type, as bytes.
        codec: Type of the records, or ``None``.
    """

    __slots__ = ("_codec", "fields", "others", "rows")

    def __init__(
        self,
        rows: list[Any],
        fields: tuple[str, ...],
        others: Sequence[bytes],
        codec: Codec | None,
    ) -> None:
        self.rows = rows
        self.fields = fields
        self.others = tuple(others)
        self._codec = codec

    def __repr__(self) -> str:
        more = f", {len(self.others)} of another size" if self.others else ""
        return f"<ebpf.Batch of {len(self.rows)} ({', '.join(self.fields)}){more}>"

    def __len__(self) -> int:
        return len(self.rows) + len(self.others)

    def __bool__(self) -> bool:
        return bool(self.rows or self.others)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.rows)

    def column(self, field: str) -> list[Any]:
        """One member of every record."""
        if field not in self.fields:
            raise InvalidArgument("field", field, f"one of {', '.join(self.fields) or 'nothing'}")
        number = self.fields.index(field)
        return [row[number] for row in self.rows]

    def objects(self) -> list[Any]:
        """The records with their members as attributes, and text as ``str``."""
        codec = self._codec
        if codec is None or codec.row_format is None:
            return list(self.rows)
        make = getattr(codec, "from_row", None)
        return list(self.rows) if make is None else list(map(make, self.rows))


class RingBuffer(Reader[Batch]):
    """Reads a ring buffer map in batches.

    One reader per map: records go to whoever takes them. Batches can be awaited (`read_batch_async`,
    ``async for batch in ring``) or waited for in a thread (`read_batch`, ``for batch in ring``).
    Closing it from anywhere ends every wait: iterations stop, and calls raise `ClosedError`. In a
    forked child it is invalid.

    Programs should reserve with the kernel's default, which wakes the reader only when it has
    caught up; every forced wake-up costs the program more than the record does.

    Args:
        source: The map.
        codec: Type of the records, or ``None`` for bytes.
        lost: Reads how many records found no room.
        extension: Whether the C extension does the counting: ``None`` for where there is one.

    Example:
        >>> from hastack import ebpf
        >>> with ebpf.load("connect.bpf.o") as obj, obj.ring("events") as ring:  # doctest: +SKIP
        ...     for batch in ring:
        ...         for pid, port, comm in batch:
        ...             print(pid, port, comm)
    """

    _what = "ring buffer"

    def __init__(
        self,
        source: Map,
        codec: Codec | None = None,
        *,
        lost: Callable[[], int] | None = None,
        extension: bool | None = None,
    ) -> None:
        if source.type != "ringbuf":
            raise InvalidArgument("source", source.type, "a map of type ringbuf")
        native = order_of_memory(extension=extension)
        self.codec = codec
        size, page = source.max_entries, mmap.PAGESIZE
        self._native = native
        self._lost = lost
        self._final_lost: int | None = None
        self._consumed = self._discarded = 0
        fd = source._handle.duplicate()
        try:
            self._consumer = mmap.mmap(fd, page, mmap.MAP_SHARED, offset=0)
            self._producer = mmap.mmap(
                fd, page + 2 * size, mmap.MAP_SHARED, mmap.PROT_READ, offset=page
            )
        except BaseException:
            os.close(fd)
            raise
        self._views = self._map_views(page)
        self._walker = Walker(size, codec)
        if native is not None:
            self._walker = _NativeWalker(size, codec, native, self._views[2])
        super().__init__(source.name, (fd,))

    def _map_views(self, page: int) -> tuple[memoryview, ...]:
        consumer, producer = memoryview(self._consumer), memoryview(self._producer)
        at, reserved = consumer[:8].cast("Q"), producer[:8].cast("Q")
        data = producer[page:]
        return at, reserved, data, data.cast("I"), consumer, producer

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"{self._consumed} records read"
        return f"<ebpf.RingBuffer {self.name}, {state}>"

    @property
    def accelerated(self) -> bool:
        """Whether the C extension does the counting."""
        return self._native is not None

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the members of a record."""
        return () if self.codec is None else self.codec.fields

    def fileno(self) -> int:
        """A descriptor that is readable when there are records, for an event loop of your own."""
        self._check()
        return self._descriptors[0]

    def account(self) -> Account:
        """Where the records went; also after closing."""
        lost = self._final_lost
        waiting = 0
        with self._lock:
            if not self._closed:
                lost = self._lost() if self._lost is not None else None
                waiting = self._views[1][0] - self._views[0][0]
        return Account(self._consumed, self._discarded, lost, waiting)

    def _look(self, limit: int) -> tuple[Batch, bool]:
        at, reserved, data, words, _, _ = self._views
        native = self._native
        if native is None:
            taken = self._walker.take(data, words, at[0], reserved[0], limit)
            at[0] = taken.position  # after the records were read: what is there may go now
        else:
            end = native.lib.hastack_load(native.ffi.from_buffer(reserved))
            taken = self._walker.take(data, words, at[0], end, limit)
            native.lib.hastack_store(native.ffi.from_buffer(at), taken.position)
        self._consumed += len(taken.rows) + len(taken.others)
        self._discarded += taken.discarded
        return Batch(taken.rows, self.fields, taken.others, self.codec), taken.stopped

    def _settle(self) -> None:
        if self._lost is not None:
            try:
                self._final_lost = self._lost()
            except ClosedError:
                pass

    def _release(self) -> None:
        for view in self._views:
            view.release()
        self._consumer.close()
        self._producer.close()
