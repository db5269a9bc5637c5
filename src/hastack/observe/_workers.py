"""The numbers of all processes of a service: reading them, and burying the dead.

A directory holds one file for each live worker and one for all that have ended. Whoever collects,
any process, adds the files of ended workers to the latter, so that their number stays bounded.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import secrets
import struct
from typing import TYPE_CHECKING

from ._mapped_format import (
    EXEMPLAR_SIZE,
    EXEMPLARS_AT,
    HEADER,
    USED_AT,
    CellRecord,
    Descriptor,
    Malformed,
    header,
    numbers_at,
    pack_cell,
    pack_descriptor,
    parse,
    used,
    write_exemplar,
)
from ._series import Identities, Identity, Series, merge, read, remains
from ._worker_file import LIVE, SUFFIX, is_abandoned

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

__all__ = ("WorkerDirectory",)

_DEAD = f"ended{SUFFIX}"
_LOCK = "lock"
_BURIED = Descriptor("hastack.buried", "counter")  # one cell for each file that `ended` includes
_TRIES = 10


class _Mapped:
    """A file of another process, with what was read of it so far."""

    def __init__(self, path: Path, identities: Identities) -> None:
        self._identities = identities
        with path.open("rb") as file:
            self.identity = os.fstat(file.fileno()).st_ino
            self._map = memoryview(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ))
        self._words = self._map.cast("d")
        self._at = HEADER
        self._descriptors: dict[int, Descriptor] = {}
        self._cells: list[tuple[Identity, CellRecord]] = []
        self._path = path
        self.pid: int = struct.unpack_from("=Q", self._map, 16)[0] if len(self._map) > 24 else 0

    def series(self) -> list[Series]:
        """All its cells as they are now."""
        try:
            end = used(self._map)
        except Malformed:
            if self._path.stat().st_size <= len(self._map):
                raise
            self._remap()  # it has grown meanwhile
            end = used(self._map)
        if end > self._at:
            of = self._identities.of
            cells = list(parse(self._map, self._at, end, self._descriptors))
            self._cells += [(of(cell.descriptor, cell.attributes), cell) for cell in cells]
            self._at = end
        data, words, exemplars = self._map, self._words, bool(self._map[EXEMPLARS_AT])
        return [
            read(identity, cell, data, words, exemplars=exemplars, worker=self.pid)
            for identity, cell in self._cells
        ]

    def _remap(self) -> None:
        with self._path.open("rb") as file:
            self._map = memoryview(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ))
        self._words = self._map.cast("d")


class WorkerDirectory:
    """Where the workers of one service keep their numbers.

    Args:
        path: The directory; made if it is not there. It must be on one machine, and emptied when
            the service as a whole starts anew, or totals go on from where they were.
        identities: Of the metrics of this process.

    Raises:
        OSError: It cannot be made.
    """

    def __init__(self, path: Path, identities: Identities) -> None:
        self.path = path
        self._identities = identities
        path.mkdir(parents=True, exist_ok=True)
        self._known: dict[str, _Mapped] = {}
        self.malformed: dict[str, str] = {}  # file name -> what is wrong with it

    def collect(self) -> list[Series]:
        """The numbers of all workers, live and ended, added up.

        Raises:
            OSError: The directory cannot be read.
        """
        self.bury()
        before = self._identity_of_dead()
        names, alive, dead = self._read_all()
        for _ in range(_TRIES):
            # Had somebody buried a worker in between, it would be missing here.
            after = self._identity_of_dead()
            if after == before:
                break
            before = after
            names, alive, dead = self._read_all()
        for name in set(self._known) - {*names, _DEAD}:
            del self._known[name]
        return merge(alive, dead, self._identities)

    def _read_all(self) -> tuple[list[str], list[Series], list[Series]]:
        """Names of live workers' files, what these say, and what the one of the dead says."""
        dead = self._read(_DEAD)
        buried = {str(each.attributes[0][1]) for each in dead if each.descriptor == _BURIED}
        names = [name for name in self._live_names() if name not in buried]
        alive = [series for name in names for series in self._read(name)]
        return names, alive, [each for each in dead if each.descriptor != _BURIED]

    def bury(self) -> int:
        """Add the files of workers that have ended to the one for all of them; how many."""
        with self._alone() as alone:
            if not alone:
                return 0  # somebody else is at it
            with contextlib.ExitStack() as held:
                ended = [name for name in self._live_names() if self._take(name, held)]
                if ended:
                    self._merge_into_dead(ended)
                return len(ended)

    def _merge_into_dead(self, names: list[str]) -> None:
        known = self._read(_DEAD)
        buried = {str(each.attributes[0][1]) for each in known if each.descriptor == _BURIED}
        totals = [each for each in known if each.descriptor != _BURIED]
        for name in names:
            # One that is in already only was not deleted any more.
            if name not in buried:
                totals += filter(remains, self._read(name))
        self._replace_dead(merge([], totals, self._identities), names)
        for name in names:
            self._known.pop(name, None)
            with contextlib.suppress(FileNotFoundError):
                (self.path / name).unlink()

    def _replace_dead(self, totals: Iterable[Series], buried: list[str]) -> None:
        marks = [
            Series(Identity(_BURIED, (("file", name),)), [0.0, 0.0], [None]) for name in buried
        ]
        hidden = self.path / f".{_DEAD}-{secrets.token_hex(4)}"
        try:
            hidden.write_bytes(_packed([*totals, *marks]))
            hidden.replace(self.path / _DEAD)
        except BaseException:
            hidden.unlink(missing_ok=True)
            raise

    def _read(self, name: str) -> list[Series]:
        """What a file says now; nothing if it is gone or broken."""
        try:
            mapped = self._known.get(name)
            if mapped is None or (
                name == _DEAD and mapped.identity != (self.path / name).stat().st_ino
            ):
                mapped = self._known[name] = _Mapped(self.path / name, self._identities)
            return mapped.series()
        except FileNotFoundError:
            return []
        except (Malformed, ValueError, OSError) as error:
            self.malformed[name] = str(error)
            return []

    def _take(self, name: str, held: contextlib.ExitStack) -> bool:
        """Whether its worker has ended; then its lock is ours until ``held`` ends."""
        try:
            fd = os.open(self.path / name, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        held.callback(os.close, fd)
        return is_abandoned(fd)

    def _live_names(self) -> list[str]:
        return sorted(path.name for path in self.path.iterdir() if path.name.startswith(LIVE))

    def _identity_of_dead(self) -> tuple[int, int]:
        try:
            found = (self.path / _DEAD).stat()
        except FileNotFoundError:
            return 0, 0
        return found.st_ino, found.st_mtime_ns

    @contextlib.contextmanager
    def _alone(self) -> Iterator[bool]:
        fd = os.open(self.path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            yield is_abandoned(fd)
        finally:
            os.close(fd)


def _packed(series: Iterable[Series]) -> bytes:
    """A whole file of these cells."""
    data = bytearray(header(0))
    places: dict[Descriptor, int] = {}
    exemplars = []
    for each in series:
        place = places.get(each.descriptor)
        if place is None:
            place = places[each.descriptor] = len(data)
            data += pack_descriptor(each.descriptor)
        record = pack_cell(each.descriptor, place, each.attributes, each.numbers)
        first = numbers_at(len(data), record) + 8 * each.descriptor.numbers
        data += record
        exemplars += [
            (first + EXEMPLAR_SIZE * number, exemplar)
            for number, exemplar in enumerate(each.exemplars)
            if exemplar is not None
        ]
    struct.pack_into("=Q", data, USED_AT, len(data))
    with memoryview(data) as view:
        for at, exemplar in exemplars:
            write_exemplar(view, at, *exemplar)
    return bytes(data)
