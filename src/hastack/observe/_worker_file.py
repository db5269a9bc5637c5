"""The file in which one process keeps its numbers."""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import secrets
import struct
import threading
from typing import TYPE_CHECKING

from ._cells import Slots
from ._mapped_format import (
    HEADER,
    USED_AT,
    Descriptor,
    header,
    numbers_at,
    pack_cell,
    pack_descriptor,
)

if TYPE_CHECKING:
    from pathlib import Path

    from ._mapped_format import Attributes

__all__ = ("LIVE", "WorkerFile", "is_abandoned")

LIVE = "live-"  # what the names of worker files begin with
SUFFIX = ".metrics"
_FIRST_SIZE = 64 * 1024
_USED = struct.Struct("=Q")


class WorkerFile:
    """A worker's own file, locked for as long as the process lives.

    The lock is what tells others that the worker lives: the kernel takes it away with the process,
    whatever became of that. Numbers are shared memory: what was counted is there for the others
    even if the process is killed in the next instant.

    Args:
        directory: Where all workers of the service keep theirs.

    Raises:
        OSError: The file cannot be made there.
    """

    def __init__(self, directory: Path) -> None:
        self._lock = threading.Lock()
        self.path = directory / f"{LIVE}{os.getpid()}-{secrets.token_hex(4)}{SUFFIX}"
        # It gets its name only once it is locked: without the lock it would be taken for dead.
        hidden = self.path.with_name(f".{self.path.name}")
        self._held = os.open(hidden, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        # Opened once more for the maps: they keep what they were made from, also in a forked
        # child, and with it they would keep the lock.
        self._fd = os.open(hidden, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(self._held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._grow(_FIRST_SIZE)
            self._data[:HEADER] = header(os.getpid())
            hidden.rename(self.path)
        except BaseException:
            with contextlib.suppress(OSError):
                hidden.unlink()
            self.close()
            raise
        self._end = HEADER
        self._places: dict[Descriptor, int] = {}

    def _grow(self, size: int) -> None:
        # Blocks are set aside now: a full disk is an error here, and not a SIGBUS at some later add.
        os.posix_fallocate(self._fd, 0, size)
        # Cells go on using the map they began with: all maps show the same memory.
        self._data = memoryview(mmap.mmap(self._fd, size))

    def add(self, descriptor: Descriptor, attributes: Attributes) -> Slots:
        """Make room for a cell.

        Raises:
            Malformed: Its names and attributes are too long.
            OSError: The disk is full.
        """
        with self._lock:
            place = self._places.get(descriptor)
            if place is None:
                place = self._append(pack_descriptor(descriptor))
                self._places[descriptor] = place
            record = pack_cell(descriptor, place, attributes)
            first = numbers_at(self._append(record), record)
            return Slots(self._data, first, first + 8 * descriptor.numbers)

    def _append(self, record: bytes) -> int:
        at = self._end
        after = at + len(record)
        size = len(self._data)
        while size < after:
            size *= 2
        if size > len(self._data):
            self._grow(size)
        self._data[at:after] = record
        _USED.pack_into(self._data, USED_AT, after)
        self._end = after
        return at

    def close(self) -> None:
        """Give it up: whoever collects next counts it among the dead."""
        held, self._held = self._held, -1
        mapped, self._fd = self._fd, -1
        for fd in (held, mapped):
            if fd >= 0:
                os.close(fd)


def is_abandoned(fd: int) -> bool:
    """Whether the worker whose file this is has ended.

    With True the caller holds the lock in its stead, until ``fd`` is closed.
    """
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
