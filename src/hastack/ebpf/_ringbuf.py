"""A reader of BPF ring buffers: batches for threads and for asyncio, and an exact account."""

from __future__ import annotations

import importlib
import mmap
import os
import platform
import select
import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from hastack import context
from hastack._core import _validate
from hastack._core._errors import ClosedError, ForkUnsafe, InvalidArgument, Unsupported
from hastack._core._fork import renew_in_child

from ._ring import Walker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence
    from types import TracebackType

    from hastack._core._validate import Seconds

    from ._codec import Codec
    from ._maps import Map

__all__ = ("Account", "Batch", "RingBuffer")

# Where plain loads and stores are not reordered among each other as the kernel's protocol forbids.
_ORDERED = frozenset(("x86_64", "AMD64"))
# Records in a batch: more at once are slower, as their memory leaves the processor's cache.
_BATCH = 2048
_BUSY_PAUSE = 0.001  # seconds, while a program is writing the record that is next


def _native() -> Any:
    """The C extension, where this installation has it."""
    try:
        return importlib.import_module("hastack.ebpf._native")
    except ImportError:
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


class RingBuffer:
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
        native = _native() if extension is not False else None
        if native is None and (extension or platform.machine() not in _ORDERED):
            raise Unsupported(
                "reading ring buffers" if not extension else "the C extension for ring buffers",
                f"{platform.machine()} may reorder what Python reads from shared memory"
                if not extension
                else "this installation has none",
                remedy="HASTACK_COMPILE=1 pip install, with a C compiler, builds the extension",
            )
        self.name = source.name
        self.codec = codec
        size, page = source.max_entries, mmap.PAGESIZE
        self._native = native
        self._lost = lost
        self._final_lost: int | None = None
        self._fd = source._handle.duplicate()
        self._consumer = mmap.mmap(self._fd, page, mmap.MAP_SHARED, offset=0)
        self._producer = mmap.mmap(
            self._fd, page + 2 * size, mmap.MAP_SHARED, mmap.PROT_READ, offset=page
        )
        self._views = self._map_views(page)
        self._walker = Walker(size, codec)
        if native is not None:
            self._walker = _NativeWalker(size, codec, native, self._views[2])
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._lock = threading.Lock()  # who holds it reads records or closes
        self._idle = threading.Condition()
        self._waiting = 0
        self._loops: set[Any] = set()
        self._closed = self._forked = False
        self._consumed = self._discarded = 0
        renew_in_child(self)

    def _map_views(self, page: int) -> tuple[memoryview, ...]:
        consumer, producer = memoryview(self._consumer), memoryview(self._producer)
        at, reserved = consumer[:8].cast("Q"), producer[:8].cast("Q")
        data = producer[page:]
        return at, reserved, data, data.cast("I"), consumer, producer

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"{self._consumed} records read"
        return f"<ebpf.RingBuffer {self.name}, {state}>"

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._closed

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
        return self._fd

    def account(self) -> Account:
        """Where the records went; also after closing."""
        lost = self._final_lost
        waiting = 0
        with self._lock:
            if not self._closed:
                lost = self._lost() if self._lost is not None else None
                waiting = self._views[1][0] - self._views[0][0]
        return Account(self._consumed, self._discarded, lost, waiting)

    def _check(self) -> None:
        if self._forked:
            raise ForkUnsafe(
                f"ring buffer {self.name} was opened before the fork: open one in this process"
            )
        if self._closed:
            raise ClosedError(f"ring buffer {self.name}")

    def take(self, *, limit: int = _BATCH) -> Batch:
        """What is there now, without waiting.

        Args:
            limit: How many records at most.

        Raises:
            ClosedError: The reader was closed.
            ForkUnsafe: It belongs to the parent process.
        """
        return self._take(_validate.integer("limit", limit))[0]

    def _take(self, limit: int) -> tuple[Batch, bool]:
        self._check()
        with self._lock:
            self._check()
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

    def read_batch(self, *, timeout: Seconds | None = None, limit: int = _BATCH) -> Batch:
        """Wait for records and take them; an empty batch when there are none in time.

        Args:
            timeout: Seconds to wait at most, ``None`` for no limit. The context's deadline counts
                as well.
            limit: How many records at most.

        Raises:
            ContextError: The context ended.
            ClosedError: The reader was closed.
            ForkUnsafe: It belongs to the parent process.
        """
        limit = _validate.integer("limit", limit)
        patience = _validate.optional_seconds("timeout", timeout, zero=True)
        ctx = context.current()
        ends = None if patience is None else time.monotonic() + patience
        while True:
            batch, stopped = self._take(limit)
            if batch:
                return batch
            left = None if ends is None else ends - time.monotonic()
            if left is not None and left <= 0.0:
                return batch
            ctx.check()
            remaining = ctx.remaining()
            if remaining is not None and (left is None or remaining < left):
                left = remaining
            if stopped:
                time.sleep(_BUSY_PAUSE)
            else:
                self._wait(left, ctx)

    def _wait(self, timeout: float | None, ctx: context.Context) -> None:
        """Until there are records, the time is over, the context has ended, or it is closed."""
        with self._idle:
            self._check()
            self._waiting += 1
        stop = ctx._watch(self._ring_up)
        try:
            with select.epoll() as poll:
                poll.register(self._fd, select.EPOLLIN)
                poll.register(self._wake, select.EPOLLIN)
                poll.poll(timeout)
        finally:
            stop()
            with self._idle:
                self._waiting -= 1
                if not self._closed and not self._waiting:
                    self._quiet()
                self._idle.notify_all()

    def _ring_up(self) -> None:
        try:
            os.eventfd_write(self._wake, 1)
        except (OSError, ValueError):  # closed meanwhile, or rung already
            pass

    def _quiet(self) -> None:
        try:
            os.eventfd_read(self._wake)
        except BlockingIOError:
            pass

    async def read_batch_async(
        self, *, timeout: Seconds | None = None, limit: int = _BATCH
    ) -> Batch:
        """`read_batch` for a task: the event loop watches the ring meanwhile."""
        import asyncio

        limit = _validate.integer("limit", limit)
        patience = _validate.optional_seconds("timeout", timeout, zero=True)
        loop = asyncio.get_running_loop()
        ends = None if patience is None else loop.time() + patience
        while True:
            batch, stopped = self._take(limit)
            if batch:
                return batch
            left = None if ends is None else ends - loop.time()
            if left is not None and left <= 0.0:
                return batch
            context.current().check()
            remaining = context.current().remaining()
            if remaining is not None and (left is None or remaining < left):
                left = remaining
            if stopped:
                await asyncio.sleep(_BUSY_PAUSE)
            else:
                await self._wait_async(left)

    async def _wait_async(self, timeout: float | None) -> None:
        import asyncio

        loop = asyncio.get_running_loop()
        ready: asyncio.Future[None] = loop.create_future()

        def there() -> None:
            if not ready.done():
                ready.set_result(None)

        def call_up() -> None:
            try:
                loop.call_soon_threadsafe(there)
            except RuntimeError:  # the loop has ended, and its tasks with it
                pass

        # A descriptor of its own: another task of this loop may watch the ring as well, and a
        # loop knows one callback per descriptor.
        with self._idle:
            self._check()
            self._loops.add(call_up)
            fd = os.dup(self._fd)
        stop = context.current()._watch(call_up)
        try:
            loop.add_reader(fd, there)
            await asyncio.wait_for(ready, timeout)
        except TimeoutError:
            pass  # the caller looks at the clock
        finally:
            stop()
            loop.remove_reader(fd)
            os.close(fd)
            self._loops.discard(call_up)

    def __iter__(self) -> Iterator[Batch]:
        """Batches as they come, until the reader is closed."""
        try:
            while True:
                yield self.read_batch()
        except ClosedError:
            return

    async def __aiter__(self) -> AsyncIterator[Batch]:
        """Batches as they come, until the reader is closed."""
        try:
            while True:
                yield await self.read_batch_async()
        except ClosedError:
            return

    def close(self) -> None:
        """Stop reading; waits for a batch that is being taken, ends those that wait."""
        if self._forked:
            return
        with self._lock:
            if self._closed:
                return
            if self._lost is not None:
                try:
                    self._final_lost = self._lost()
                except ClosedError:
                    pass
            self._closed = True
        self._ring_up()
        for call_up in list(self._loops):
            call_up()
        with self._idle:
            self._idle.wait_for(lambda: not self._waiting, timeout=10.0)
        self._release()

    def _release(self) -> None:
        for view in self._views:
            view.release()
        self._consumer.close()
        self._producer.close()
        os.close(self._fd)
        os.close(self._wake)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if not getattr(self, "_closed", True):
            self.close()

    def _after_fork(self) -> None:
        """The parent goes on reading; here the records would be taken away from it."""
        self._lock = threading.Lock()
        self._idle = threading.Condition()
        if not self._closed:
            self._closed = self._forked = True
            self._release()
