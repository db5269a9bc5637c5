"""Files for WASI modules: folders that were granted, and nothing that is not inside them.

A path is walked one name at a time, from a descriptor of the folder, and no symbolic link is
followed anywhere on the way: there is no moment at which something outside could be reached, however
the folder is changed meanwhile. ``..`` goes back on the way that was come, never above the folder.

https://github.com/WebAssembly/WASI/blob/main/legacy/preview1/docs.md
"""

from __future__ import annotations

import errno
import os
import stat
import struct
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import attrs

from hastack._core._errors import WasmError
from hastack.wasm._sizes import size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from hastack.wasm._instance import Instance

__all__ = ("CALLS", "Directory", "Files")

BAD_FILE, INVALID, NOT_CAPABLE = 8, 28, 76
_CODES: Final[dict[int, int]] = {
    errno.EACCES: 2,
    errno.EEXIST: 20,
    errno.EFBIG: 22,
    errno.EINVAL: 28,
    errno.EIO: 29,
    errno.EISDIR: 31,
    errno.ELOOP: 32,
    errno.EMFILE: 33,
    errno.ENFILE: 41,
    errno.ENXIO: 60,
    errno.ENAMETOOLONG: 37,
    errno.ENOENT: 44,
    errno.ENOSPC: 51,
    errno.ENOTDIR: 54,
    errno.ENOTEMPTY: 55,
    errno.EPERM: 63,
    errno.EROFS: 69,
    errno.ESPIPE: 70,
    errno.EDQUOT: 19,
    errno.EBADF: 8,
    errno.EXDEV: 75,
    errno.EOVERFLOW: 61,
    errno.EBUSY: 10,
    errno.ETXTBSY: 74,
}
_ALL: Final = (1 << 29) - 1
# Rights that change something: datasync and sync change nothing.
_CHANGES: Final = sum(1 << n for n in (6, 8, 9, 10, 11, 12, 16, 17, 19, 20, 21, 22, 23, 24, 25, 26))
_OPEN: Final = 64
"""Files that one instance may have open."""

_NAMES: Final = 10_000
"""Names of one folder that are listed, at most."""

_PATH: Final = 4_096
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def _bytes(value: int | str) -> int:
    return size("write_bytes", value)


@attrs.frozen
class Directory:
    """A folder that a WASI module may use, see `Wasi`.

    Attributes:
        path: Where it is.
        write: Whether files in it may be made, changed and removed. Without, they can be read.
        write_bytes: Bytes that one instance may write in it; or ``"16MiB"``.

    Raises:
        InvalidArgument: The size is none.
    """

    path: str = attrs.field(converter=os.fspath)
    write: bool = attrs.field(default=False, kw_only=True)
    write_bytes: int = attrs.field(default=16 << 20, kw_only=True, converter=_bytes)


class _Refused(Exception):  # never leaves this module
    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class _Open:
    """What a number of the guest's stands for."""

    __slots__ = ("append", "directory", "fd", "listing", "name", "root")

    def __init__(
        self,
        root: _Root,
        fd: int,
        *,
        directory: bool,
        name: bytes | None = None,
        append: bool = False,
    ) -> None:
        self.root = root
        self.fd = fd
        self.directory = directory
        self.name = name
        self.append = append
        self.listing: list[tuple[bytes, int, int]] = []


class _Root:
    """A granted folder, and how much may still be written to it."""

    __slots__ = ("granted", "left")

    def __init__(self, granted: Directory) -> None:
        self.granted = granted
        self.left = granted.write_bytes

    def changes(self) -> None:
        if not self.granted.write:
            raise _Refused(69)  # a file system for reading


class Files:
    """The open files of one instance, by the guest's numbers; folders come first, from 3 on."""

    def __init__(self, granted: Mapping[str, Directory]) -> None:
        self._open: dict[int, _Open] = {}
        try:
            for number, (name, each) in enumerate(granted.items(), 3):
                fd = os.open(each.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                self._open[number] = _Open(_Root(each), fd, directory=True, name=os.fsencode(name))
        except OSError as error:
            self.close()
            raise WasmError(f"granted folder {error.filename}: {error.strerror}") from None

    def close(self) -> None:
        """Give every descriptor back."""
        while self._open:
            os.close(self._open.popitem()[1].fd)

    __del__ = close

    def get(self, number: int, *, directory: bool | None = None) -> _Open:
        """What a number stands for."""
        found = self._open.get(number)
        if found is None:
            raise _Refused(BAD_FILE)
        if directory is not None and found.directory != directory:
            raise _Refused(31 if found.directory else 54)
        return found

    def add(self, opened: _Open) -> int:
        """Give it the lowest number that is free."""
        number = 3
        while number in self._open:
            number += 1
        self._open[number] = opened
        return number

    def full(self) -> bool:
        """Whether no more may be opened."""
        return len(self._open) >= _OPEN

    def drop(self, number: int) -> None:
        """Close one."""
        os.close(self.get(number).fd)
        del self._open[number]

    def move(self, source: int, target: int) -> None:
        """Let ``target`` stand for what ``source`` stands for."""
        moved, there = self.get(source), self.get(target)
        if moved is not there:
            del self._open[source]
            os.close(there.fd)
            self._open[target] = moved


@contextmanager
def _parent(opened: _Open, path: bytes) -> Iterator[tuple[int, bytes]]:
    """A descriptor of the folder that the last name of a path is in, and that name."""
    if path.startswith(b"/") or b"\0" in path:
        raise _Refused(NOT_CAPABLE)
    names = [name for name in path.split(b"/") if name not in {b"", b"."}]
    way: list[int] = []
    try:
        while names and (len(names) > 1 or names[0] == b".."):
            name = names.pop(0)
            if name == b"..":
                if not way:
                    raise _Refused(NOT_CAPABLE)
                os.close(way.pop())
            else:
                way.append(os.open(name, _DIRECTORY, dir_fd=way[-1] if way else opened.fd))
        yield (way[-1] if way else opened.fd), (names[0] if names else b".")
    finally:
        for fd in way:
            os.close(fd)


def _call(function: Callable[..., int]) -> Callable[..., int]:
    """A call that answers with the number of its error."""

    def called(instance: Instance, *arguments: int) -> int:
        files: Files | None = getattr(instance.state, "files", None)
        if files is None:
            return BAD_FILE
        try:
            return function(instance, files, *arguments)
        except _Refused as refusal:
            return refusal.code
        except OSError as error:
            return _CODES.get(error.errno or 0, 29)

    return called


def _path(instance: Instance, pointer: int, length: int) -> bytes:
    length &= 0xFFFFFFFF
    if length > _PATH:
        raise _Refused(37)
    return instance.open_memory().read(pointer, length)


def _put(instance: Instance, pointer: int, form: str, *values: int) -> int:
    instance.open_memory().write(pointer, struct.pack(form, *values))
    return 0


def _prestat_get(instance: Instance, files: Files, fd: int, out: int) -> int:
    name = files.get(fd).name
    return BAD_FILE if name is None else _put(instance, out, "<BxxxI", 0, len(name))


def _prestat_name(instance: Instance, files: Files, fd: int, out: int, length: int) -> int:
    name = files.get(fd).name
    if name is None:
        return BAD_FILE
    if length & 0xFFFFFFFF < len(name):
        return 37
    instance.open_memory().write(out, name)
    return 0


def _require_file(name: bytes, parent: int) -> None:
    """Opening a device or a pipe may already do something; neither is anybody's file."""
    try:
        kind = os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return
    if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind) or stat.S_ISLNK(kind)):
        raise _Refused(2)


def _path_open(
    instance: Instance,
    files: Files,
    fd: int,
    _follow: int,
    pointer: int,
    length: int,
    how: int,
    rights: int,
    _inherited: int,
    flags: int,
    out: int,
) -> int:
    folder = files.get(fd, directory=True)
    path = _path(instance, pointer, length)
    create, want, exclusive, cut = (bool(how & bit) for bit in (1, 2, 4, 8))
    writes = bool(rights & 64)
    if create or cut or writes:
        # wasi-libc asks for every right that there is when it opens a folder.
        if want and not (create or cut):
            writes = False
        else:
            folder.root.changes()
    if files.full():
        return 33
    wanted = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK  # a pipe must not hold anybody up
    if want:
        wanted |= os.O_DIRECTORY
    else:
        reads = bool(rights & 2) or not writes
        wanted |= os.O_RDWR if reads and writes else os.O_WRONLY if writes else os.O_RDONLY
        wanted |= (os.O_CREAT if create else 0) | (os.O_EXCL if exclusive else 0)
        wanted |= os.O_TRUNC if cut else 0
    with _parent(folder, path) as (parent, name):
        _require_file(name, parent)
        made = os.open(name, wanted, 0o600, dir_fd=parent)
    try:
        kind = os.fstat(made).st_mode
        if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
            raise _Refused(2)
        opened = _Open(folder.root, made, directory=stat.S_ISDIR(kind), append=bool(flags & 1))
        number = files.add(opened)
    except BaseException:
        os.close(made)
        raise
    return _put(instance, out, "<I", number)


def _vectors(instance: Instance, pointer: int, count: int) -> list[tuple[int, int]]:
    if not 0 <= count <= 1024:
        raise _Refused(INVALID)
    return list(struct.iter_unpack("<II", instance.open_memory().read(pointer, 8 * count)))


def _read(instance: Instance, files: Files, fd: int, pointer: int, count: int, out: int) -> int:
    opened, total = files.get(fd, directory=False), 0
    for at, length in _vectors(instance, pointer, count):
        piece = os.read(opened.fd, min(length, instance.code.limits.memory))
        instance.open_memory().write(at, piece)
        total += len(piece)
        if len(piece) < length:
            break
    return _put(instance, out, "<I", total)


def _pread(
    instance: Instance, files: Files, fd: int, pointer: int, count: int, offset: int, out: int
) -> int:
    opened, total = files.get(fd, directory=False), 0
    for at, length in _vectors(instance, pointer, count):
        piece = os.pread(opened.fd, min(length, instance.code.limits.memory), offset + total)
        instance.open_memory().write(at, piece)
        total += len(piece)
        if len(piece) < length:
            break
    return _put(instance, out, "<I", total)


def _gathered(instance: Instance, opened: _Open, pointer: int, count: int) -> bytes:
    """What is to be written; it counts against the folder's budget."""
    opened.root.changes()
    vectors = _vectors(instance, pointer, count)
    total = sum(length for _, length in vectors)
    if total > opened.root.left:
        raise _Refused(51)  # no space
    memory = instance.open_memory()
    data = b"".join(memory.read(at, length) for at, length in vectors)
    opened.root.left -= total
    return data


def _write(instance: Instance, files: Files, fd: int, pointer: int, count: int, out: int) -> int:
    opened = files.get(fd, directory=False)
    data = _gathered(instance, opened, pointer, count)
    if opened.append:
        os.lseek(opened.fd, 0, os.SEEK_END)
    return _put(instance, out, "<I", os.write(opened.fd, data))


def _pwrite(
    instance: Instance, files: Files, fd: int, pointer: int, count: int, offset: int, out: int
) -> int:
    opened = files.get(fd, directory=False)
    _bound(opened, offset)
    data = _gathered(instance, opened, pointer, count)
    return _put(instance, out, "<I", os.pwrite(opened.fd, data, offset))


def _bound(opened: _Open, end: int) -> None:
    """Files get no longer than what may be written in all: a hole is no way around that."""
    if not 0 <= end <= opened.root.granted.write_bytes:
        raise _Refused(22)


def _seek(instance: Instance, files: Files, fd: int, offset: int, whence: int, out: int) -> int:
    opened = files.get(fd, directory=False)
    if whence not in {0, 1, 2}:
        return INVALID
    before = os.lseek(opened.fd, 0, os.SEEK_CUR)
    at = os.lseek(opened.fd, offset, whence)
    if opened.root.granted.write and at > opened.root.granted.write_bytes:
        os.lseek(opened.fd, before, os.SEEK_SET)
        return 22
    return _put(instance, out, "<Q", at)


def _tell(instance: Instance, files: Files, fd: int, out: int) -> int:
    return _put(instance, out, "<Q", os.lseek(files.get(fd, directory=False).fd, 0, os.SEEK_CUR))


def _close(instance: Instance, files: Files, fd: int) -> int:
    files.drop(fd)
    return 0


def _renumber(instance: Instance, files: Files, source: int, target: int) -> int:
    files.move(source, target)
    return 0


def _fdstat_get(instance: Instance, files: Files, fd: int, out: int) -> int:
    opened = files.get(fd)
    rights = _ALL if opened.root.granted.write else _ALL & ~_CHANGES
    kind = 3 if opened.directory else 4
    return _put(instance, out, "<BxHxxxxQQ", kind, int(opened.append), rights, rights)


def _fdstat_set_flags(instance: Instance, files: Files, fd: int, flags: int) -> int:
    files.get(fd, directory=False).append = bool(flags & 1)
    return 0


def _kind(mode: int) -> int:
    return 3 if stat.S_ISDIR(mode) else 4 if stat.S_ISREG(mode) else 7 if stat.S_ISLNK(mode) else 0


def _stat(instance: Instance, found: os.stat_result, out: int) -> int:
    times = (found.st_atime_ns, found.st_mtime_ns, found.st_ctime_ns)
    return _put(
        instance,
        out,
        "<QQBxxxxxxxQQQQQ",
        *(0, found.st_ino, _kind(found.st_mode), found.st_nlink, found.st_size),
        *(max(each, 0) for each in times),
    )


def _filestat_get(instance: Instance, files: Files, fd: int, out: int) -> int:
    return _stat(instance, os.fstat(files.get(fd).fd), out)


def _path_filestat_get(
    instance: Instance, files: Files, fd: int, _follow: int, pointer: int, length: int, out: int
) -> int:
    folder, path = files.get(fd, directory=True), _path(instance, pointer, length)
    with _parent(folder, path) as (parent, name):
        return _stat(instance, os.stat(name, dir_fd=parent, follow_symlinks=False), out)


def _set_size(instance: Instance, files: Files, fd: int, length: int) -> int:
    opened = files.get(fd, directory=False)
    opened.root.changes()
    _bound(opened, length)
    os.ftruncate(opened.fd, length)
    return 0


def _sync(instance: Instance, files: Files, fd: int) -> int:
    files.get(fd)  # data of plugins are not worth waiting for a disk
    return 0


def _readdir(
    instance: Instance, files: Files, fd: int, out: int, length: int, cookie: int, used: int
) -> int:
    opened = files.get(fd, directory=True)
    if cookie == 0:
        with os.scandir(opened.fd) as entries:
            opened.listing = []
            for entry in entries:
                if len(opened.listing) >= _NAMES:
                    raise _Refused(61)
                mode = entry.stat(follow_symlinks=False).st_mode
                opened.listing.append((os.fsencode(entry.name), entry.inode(), _kind(mode)))
    room = length & 0xFFFFFFFF
    made = bytearray()
    for position, (name, inode, kind) in enumerate(opened.listing[max(cookie, 0) :], cookie + 1):
        made += struct.pack("<QQIBxxx", position, inode, len(name), kind) + name
        if len(made) >= room:
            break
    instance.open_memory().write(out, bytes(made[:room]))
    return _put(instance, used, "<I", min(len(made), room))


def _at_path(act: Callable[[int, bytes], None]) -> Callable[..., int]:
    """Something that changes one name in a folder."""

    def changed(instance: Instance, files: Files, fd: int, pointer: int, length: int) -> int:
        folder, path = files.get(fd, directory=True), _path(instance, pointer, length)
        folder.root.changes()
        with _parent(folder, path) as (parent, name):
            if name == b".":
                return INVALID
            act(parent, name)
        return 0

    return changed


def _rename(
    instance: Instance,
    files: Files,
    fd: int,
    pointer: int,
    length: int,
    new_fd: int,
    new_pointer: int,
    new_length: int,
) -> int:
    source, target = files.get(fd, directory=True), files.get(new_fd, directory=True)
    before, after = _path(instance, pointer, length), _path(instance, new_pointer, new_length)
    source.root.changes()
    target.root.changes()
    with _parent(source, before) as (old, name), _parent(target, after) as (new, renamed):
        if b"." in {name, renamed}:
            return INVALID
        os.rename(name, renamed, src_dir_fd=old, dst_dir_fd=new)
    return 0


def _never(instance: Instance, files: Files, *_: int) -> int:
    return NOT_CAPABLE


def _nothing(instance: Instance, files: Files, fd: int, *_: int) -> int:
    files.get(fd)
    return 0


_FUNCTIONS: Final[dict[str, Callable[..., int]]] = {
    "fd_prestat_get": _prestat_get,
    "fd_prestat_dir_name": _prestat_name,
    "path_open": _path_open,
    "fd_read": _read,
    "fd_pread": _pread,
    "fd_write": _write,
    "fd_pwrite": _pwrite,
    "fd_seek": _seek,
    "fd_tell": _tell,
    "fd_close": _close,
    "fd_renumber": _renumber,
    "fd_fdstat_get": _fdstat_get,
    "fd_fdstat_set_flags": _fdstat_set_flags,
    "fd_fdstat_set_rights": _nothing,
    "fd_filestat_get": _filestat_get,
    "fd_filestat_set_size": _set_size,
    "fd_filestat_set_times": _never,
    "fd_advise": _nothing,
    "fd_allocate": _never,
    "fd_sync": _sync,
    "fd_datasync": _sync,
    "fd_readdir": _readdir,
    "path_filestat_get": _path_filestat_get,
    "path_filestat_set_times": _never,
    "path_create_directory": _at_path(lambda at, name: os.mkdir(name, 0o700, dir_fd=at)),
    "path_remove_directory": _at_path(lambda at, name: os.rmdir(name, dir_fd=at)),
    "path_unlink_file": _at_path(lambda at, name: os.unlink(name, dir_fd=at)),
    "path_rename": _rename,
    "path_link": _never,
    "path_symlink": _never,
    "path_readlink": _never,
}
CALLS: Final[dict[str, Callable[..., int]]] = {
    name: _call(function) for name, function in _FUNCTIONS.items()
}
