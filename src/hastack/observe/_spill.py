"""Spill files on disk: one directory per process, so that no two ever write to the same file.

Layout: ``ROOT/EXPORTER/NUMBER-PID/``, with a lock held for the life of the process and segments
named by lane and age. A directory whose lock is free belonged to a process that ended; the next
exporter of that name takes it over, and sends what is in it before anything new.

What is acknowledged, `SpillFiles.append` having returned, is in the page cache at least: it survives
the process, killed or not. It survives the machine from the next ``fsync`` on: with
``fsync="record"`` at once, with ``"segment"`` (the default) when a segment of a few MiB is full and
at shutdown, with ``"never"`` when the kernel pleases.
"""

from __future__ import annotations

import errno
import os
import threading
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, final

import attrs

from hastack._core._errors import MissingDependency
from hastack._core._extras import require

from . import _crc32c
from ._segments import (
    FIRST_NUMBER,
    SETTLED,
    STATE_OFFSET,
    Header,
    SegmentName,
    body_of,
    pack_header,
    pack_record,
    scan,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

Fsync: TypeAlias = Literal["record", "segment", "never"]

SEGMENT_BYTES = 8 * 1024 * 1024
_LOCK = "lock"
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@cache
def checksum() -> Callable[[bytes], int]:
    """CRC-32C by cramjam, or in Python where that is missing (``hastack observe`` without it)."""
    try:
        snappy = require("cramjam", extra="otel").snappy
    except MissingDependency:
        return _crc32c.crc32c
    return _crc32c.by_frames(snappy.compress)


class SpillError(Exception):
    """A body could not be written; the argument is the reason under which it may be dropped."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


@final
@attrs.define(eq=False)
class Segment:
    """One file.

    Attributes:
        path: Where it is.
        name: Lane and number.
        size: Bytes in it.
        kept: Records that are not settled.
        fd: Open for appending while it is the newest of its lane.
        units: Units in records that are not settled.
        about: How its bodies travel.
    """

    path: Path
    name: SegmentName
    size: int
    kept: int = 0
    fd: int | None = None
    units: int = 0
    about: Mapping[str, Any] = attrs.field(factory=dict)


@final
@attrs.frozen(eq=False)
class Place:
    """A record on disk."""

    segment: Segment
    at: int
    size: int
    units: int


@final
@attrs.frozen
class Found:
    """Records of one lane that a process left behind, oldest first."""

    header: Header
    places: tuple[Place, ...]


@final
class SpillFiles:
    """The spill of one exporter in one process; any thread may use it.

    Args:
        root: Directory for all exporters; made when it is missing.
        name: The exporter.
        shards: Its lanes.
        about: How its bodies travel; written into every segment.
        max_bytes: Bytes on disk at most, those taken over included.
        segment_bytes: A segment that has grown to this is followed by a new one.
        fsync: See above.
    """

    def __init__(
        self,
        root: Path,
        name: str,
        *,
        shards: int,
        about: Mapping[str, Any],
        max_bytes: int,
        segment_bytes: int = SEGMENT_BYTES,
        fsync: Fsync = "segment",
    ) -> None:
        self._lock = threading.RLock()
        self._home = root / name
        self._shards = shards
        self._about = dict(about)
        self._max_bytes = max_bytes
        self._segment_bytes = min(segment_bytes, max_bytes)
        self._fsync = fsync
        self._own: Path | None = None
        self._locks: dict[Path, int] = {}
        self._segments: list[Segment] = []  # by age
        self._open: dict[tuple[int, bool], Segment] = {}  # by lane, and whether before all others
        self._numbers: dict[tuple[int, bool], int] = {}
        self.bytes = 0
        self.damaged_records = 0
        self.torn_bytes = 0

    # -- directories ---------------------------------------------------------------------------

    def adopt(self, accepts: Callable[[Mapping[str, Any]], bool]) -> list[Found]:
        """Take over what processes that ended have left, the oldest directory first.

        Args:
            accepts: Whether a segment can be sent, by what it says about its bodies; others stay
                where they are, for ``hastack observe replay``.

        Raises:
            SpillError: The directory cannot be used.
        """
        with self._lock:
            found: list[Found] = []
            try:
                self._home.mkdir(parents=True, exist_ok=True)
                for path in sorted(p for p in self._home.iterdir() if p.is_dir()):
                    if path not in self._locks and self._hold(path):
                        found += self._load(path, accepts)
            except OSError as error:
                raise _failure(error) from error
            return found

    def _load(self, path: Path, accepts: Callable[[Mapping[str, Any]], bool]) -> Iterator[Found]:
        foreign = False
        for segment, header, places in load(path, self):
            if places and not accepts(header.about):
                foreign = True
                continue
            if not places:
                segment.path.unlink(missing_ok=True)
                continue
            self._segments.append(segment)
            self.bytes += segment.size
            yield Found(header, tuple(places))
        if not foreign:
            self._tidy(path)

    def _hold(self, path: Path) -> bool:
        fd = lock_directory(path)
        if fd is None:
            return False
        self._locks[path] = fd
        return True

    def _directory(self) -> Path:
        if self._own is None:
            self._home.mkdir(parents=True, exist_ok=True)
            taken = [p.name.partition("-")[0] for p in self._home.iterdir()]
            # Numbers, because the wall clock may have been set back since the last process.
            number = 1 + max((int(n) for n in taken if n.isdecimal()), default=0)
            own = self._home / f"{number:08d}-{os.getpid()}"
            own.mkdir()
            if not self._hold(own):  # pragma: no cover - somebody took it for left behind
                raise OSError(errno.EAGAIN, "the new directory is locked")
            self._own = own
        return self._own

    # -- records -------------------------------------------------------------------------------

    def append(self, lane: int, units: int, body: bytes, *, before: bool = False) -> Place:
        """Write a body as the newest of its lane, or before all others of this process.

        Raises:
            SpillError: There is no room, or the directory cannot be written to. Nothing is left
                of the record then.
        """
        with self._lock:
            record = pack_record(units, body, checksum())
            if self.bytes + len(record) > self._max_bytes:
                raise SpillError("spill_full", f"{self._max_bytes} bytes are used")
            try:
                segment = self._segment(lane, before=before)
                self._write(segment, record)
                if self._fsync == "record":
                    os.fsync(_fd(segment))
            except OSError as error:
                raise _failure(error) from error
            place = Place(segment, segment.size - len(record), len(record), units)
            segment.kept += 1
            segment.units += units
            if segment.size >= self._segment_bytes and not before:
                self._finish(segment)
            return place

    def go_on_with(self, about: Mapping[str, Any]) -> None:
        """From now on bodies travel in another way."""
        with self._lock:
            self._about = dict(about)
            for segment in list(self._open.values()):
                self._finish(segment)

    def _segment(self, lane: int, *, before: bool) -> Segment:
        segment = self._open.get((lane, before))
        if segment is not None:
            return segment
        directory = self._directory()
        number = self._numbers.get((lane, before), FIRST_NUMBER - before)
        name = SegmentName(lane, number)
        path = directory / str(name)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        segment = Segment(path, name, 0, fd=fd, about=self._about)
        try:
            header = Header(self._shards, lane, self._about)
            self._write(segment, pack_header(header, checksum()))
        except OSError:
            os.close(fd)
            with suppress(OSError):
                path.unlink()
            raise
        self._numbers[lane, before] = number - 1 if before else number + 1
        self._segments.append(segment)
        self._open[lane, before] = segment
        return segment

    def _write(self, segment: Segment, data: bytes) -> None:
        fd, begin = _fd(segment), segment.size
        view = memoryview(data)
        try:
            while view:
                view = view[os.pwrite(fd, view, begin + len(data) - len(view)) :]
        except OSError:
            # A record is there as a whole or not at all, also for whoever reads after a crash.
            with suppress(OSError):
                os.ftruncate(fd, begin)
            raise
        segment.size += len(data)
        self.bytes += len(data)

    def read(self, place: Place) -> bytes | None:
        """The body at ``place``; ``None`` when it cannot be read or its checksum is wrong."""
        try:
            with place.segment.path.open("rb") as file:
                file.seek(place.at)
                record = file.read(place.size)
        except OSError:
            return None
        return body_of(record, checksum())

    def settle(self, place: Place) -> None:
        """The record is done with; its file goes with the last one."""
        with self._lock:
            segment = place.segment
            segment.kept -= 1
            segment.units -= place.units
            if segment.kept <= 0 and segment.fd is None:
                self._remove(segment)
                return
            try:
                mark_settled(segment.path, place.at)
            except OSError:
                pass  # it will be sent once more after a restart: at least once is the promise

    def _remove(self, segment: Segment) -> None:
        with suppress(OSError):
            segment.path.unlink(missing_ok=True)
        if segment in self._segments:
            self._segments.remove(segment)
            self.bytes -= segment.size
        self._tidy(segment.path.parent)

    def _tidy(self, path: Path) -> None:
        """Remove a directory of another process once nothing is left in it."""
        if path == self._own or any(s.path.parent == path for s in self._segments):
            return
        fd = self._locks.pop(path, None)
        with suppress(OSError):
            (path / _LOCK).unlink(missing_ok=True)
            path.rmdir()
        if fd is not None:
            os.close(fd)

    def oldest(self) -> Segment | None:
        """The segment to give up first: complete, and the oldest."""
        with self._lock:
            if len(self._segments) > len(self._open):
                return next(s for s in self._segments if s.fd is None)
            for segment in self._segments:
                self._finish(segment)
                return segment
            return None

    def give_up(self, segment: Segment) -> None:
        """Remove a segment with all that is in it."""
        with self._lock:
            segment.kept = segment.units = 0
            self._remove(segment)

    # -- ends ----------------------------------------------------------------------------------

    def _finish(self, segment: Segment) -> None:
        if segment.fd is None:
            return
        for key in [key for key, each in self._open.items() if each is segment]:
            del self._open[key]
        with suppress(OSError):
            if self._fsync != "never":
                os.fsync(segment.fd)
        os.close(segment.fd)
        segment.fd = None
        if segment.kept <= 0:
            self._remove(segment)

    def close(self) -> None:
        """Sync and close; what is not settled stays for the next process."""
        with self._lock:
            for segment in list(self._segments):
                self._finish(segment)
            own = self._own
            self._own = None
            if own is not None:
                self._sync_directory(own)
                self._tidy(own)
            for fd in self._locks.values():
                os.close(fd)
            self._locks.clear()
            self._segments.clear()
            self.bytes = 0

    def _sync_directory(self, path: Path) -> None:
        if self._fsync == "never":
            return
        with suppress(OSError):
            fd = os.open(path, os.O_RDONLY)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)

    def forget(self) -> None:
        """In a forked child: the files are the parent's."""
        self._lock = threading.RLock()
        for fd in (*self._locks.values(), *(s.fd for s in self._segments if s.fd is not None)):
            with suppress(OSError):
                os.close(fd)
        self._own = None
        self._locks.clear()
        self._segments.clear()
        self._open.clear()
        self._numbers.clear()
        self.bytes = 0


def lock_directory(path: Path) -> int | None:
    """Lock the directory of a process; ``None`` while that one lives."""
    import fcntl

    fd = os.open(path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        return None
    return fd


def load(
    path: Path, counters: SpillFiles | None = None
) -> Iterator[tuple[Segment, Header, list[Place]]]:
    """Each segment of a directory with its records, in the order of lanes and age."""
    names = sorted((n, p) for p in path.iterdir() if (n := SegmentName.parse(p.name)) is not None)
    for name, file in names:
        data = file.read_bytes()
        seen = scan(data, checksum())
        if counters is not None:
            counters.damaged_records += seen.damaged
            counters.torn_bytes += seen.torn
        segment = Segment(file, name, len(data), kept=len(seen.records))
        segment.units = sum(record.units for record in seen.records)
        header = seen.header or Header(0, name.lane, {})
        segment.about = header.about
        yield (
            segment,
            header,
            [Place(segment, r.at, r.body_at - r.at + r.size, r.units) for r in seen.records],
        )


def mark_settled(path: Path, at: int) -> None:
    """Settle the record that begins at ``at``."""
    with path.open("r+b", buffering=0) as file:
        file.seek(at + STATE_OFFSET)
        file.write(bytes([SETTLED]))


def _fd(segment: Segment) -> int:
    assert segment.fd is not None
    return segment.fd


def _failure(error: OSError) -> SpillError:
    reason = "disk_full" if error.errno in _FULL else "spill_unavailable"
    return SpillError(reason, str(error))
