"""A reader of perf buffers, which programs write with ``bpf_perf_event_output``."""

from __future__ import annotations

import fcntl
import mmap
import os
from pathlib import Path
from struct import pack
from typing import TYPE_CHECKING, Any

from hastack._core import _validate
from hastack._core._errors import InvalidArgument

from . import _kernel, _libbpf
from ._perf_records import take
from ._ringbuf import Account, Batch, order_of_memory
from ._waiting import Reader

if TYPE_CHECKING:
    from ._codec import Codec
    from ._maps import Map

__all__ = ("PerfBuffer",)

_SOFTWARE, _BPF_OUTPUT, _SAMPLE_RAW, _ENABLE = 1, 10, 1 << 10, 0x2400
_HEAD, _TAIL = 1024, 1032  # where the first page says how far both are


class PerfBuffer(Reader[Batch]):
    """Reads a perf buffer: one per processor, filled by ``bpf_perf_event_output``.

    A ring buffer is better where the kernel has one (Linux 5.8): one memory for all processors, in
    the order of time. This is for programs that were written for perf buffers. The kernel counts
    what it loses. It reads like a `RingBuffer`: batches, threads, tasks, closing.

    Args:
        source: The map, of type perf_event_array.
        codec: Type of the records, or ``None`` for bytes.
        pages: Memory per processor in pages, a power of two.
    """

    _what = "perf buffer"

    def __init__(self, source: Map, codec: Codec | None = None, *, pages: int = 8) -> None:
        if source.type != "perf_event_array":
            raise InvalidArgument("source", source.type, "a map of type perf_event_array")
        _validate.integer("pages", pages)
        if pages & (pages - 1):
            raise InvalidArgument("pages", pages, "a power of two")
        self._native = order_of_memory()
        self.codec = codec
        self._consumed = self._lost = 0
        self._map = source
        self._cpus: list[tuple[int, mmap.mmap, tuple[memoryview, ...]]] = []
        events: list[int] = []
        try:
            for cpu in _online():
                events.append(_event(source, cpu))
                self._open(cpu, events[-1], pages)
        except BaseException:
            self._release()
            for fd in events:
                os.close(fd)
            raise
        super().__init__(source.name, tuple(events))

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"{self._consumed} records read"
        return f"<ebpf.PerfBuffer {self.name}, {state}>"

    def _open(self, cpu: int, fd: int, pages: int) -> None:
        area = mmap.mmap(fd, (1 + pages) * mmap.PAGESIZE, mmap.MAP_SHARED)
        whole = memoryview(area)
        places = [whole[at : at + 8].cast("Q") for at in (_HEAD, _TAIL)]
        self._cpus.append((cpu, area, (*places, whole[mmap.PAGESIZE :], whole)))
        fcntl.ioctl(fd, _ENABLE, 0)
        library = _libbpf.library()
        with self._map._handle as held:
            if library.lib.bpf_map_update_elem(held, pack("=I", cpu), pack("=I", fd), 0) < 0:
                raise _libbpf.refused(f"write to {self._map.name}", library.ffi.errno)

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the members of a record."""
        return () if self.codec is None else self.codec.fields

    def account(self) -> Account:
        """Where the records went; ``waiting`` counts bytes of all processors."""
        waiting = 0
        with self._lock:
            if not self._closed:
                waiting = sum(views[0][0] - views[1][0] for _, _, views in self._cpus)
        return Account(self._consumed, 0, self._lost, waiting)

    def _look(self, limit: int) -> tuple[Batch, bool]:
        rows: list[Any] = []
        others: list[bytes] = []
        codec, native = self.codec, self._native
        for _, _, (head, tail, data, _) in self._cpus:
            end = head[0] if native is None else native.lib.hastack_load(_of(native, head))
            found = take(data, tail[0], end, limit - len(rows) - len(others))
            if native is None:
                tail[0] = found.position
            else:
                native.lib.hastack_store(_of(native, tail), found.position)
            self._lost += found.lost
            for each in found.samples:
                # The kernel fills a sample up to a multiple of 8 bytes.
                if codec is None:
                    rows.append(each)
                elif 0 <= len(each) - codec.size < 8:
                    rows.append(codec.decode(each))
                else:
                    others.append(each)
        self._consumed += len(rows) + len(others)
        return Batch(rows, self.fields, others, None), False

    def _release(self) -> None:
        for _, area, views in self._cpus:
            for view in views:
                view.release()
            area.close()
        self._cpus = []


def _of(native: Any, view: memoryview) -> Any:
    return native.ffi.from_buffer(view)


def _event(source: Map, cpu: int) -> int:
    fd = _kernel.perf_event(_SOFTWARE, _BPF_OUTPUT, pid=-1, cpu=cpu, sample=_SAMPLE_RAW)
    if fd < 0:
        raise _libbpf.refused(f"open a perf buffer for {source.name} on cpu {cpu}", -fd)
    return fd


def _online() -> list[int]:
    found: list[int] = []
    for part in Path("/sys/devices/system/cpu/online").read_text("ascii").strip().split(","):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found
