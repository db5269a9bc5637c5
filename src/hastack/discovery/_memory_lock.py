"""Which process owns a shared store, and the socket on which it serves the others.

The owner is the process that holds the lock of a file. The kernel lets go of a lock when its
process dies, however that happens; the socket's name stays behind then, and only the next owner
takes it away. What is open here is known, so that a forked child can let go of it at once: else it
would hold the lock, and keep connections half alive, after its parent's death.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import socket
import stat
import sys
import threading
from typing import TYPE_CHECKING, final

from hastack._core._errors import InvalidArgument, NotAuthorized

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ("OwnerLock", "accept", "close", "dial", "listen")

_MODE = 0o600  # for nobody but this user
_BACKLOG = 128

# Nothing may be open that is not in here while the process forks.
_lock = threading.Lock()
_sockets: set[socket.socket] = set()
_files: set[int] = set()


def _in_child() -> None:
    # An open file of the parent is not touched by this: only the child's number for it goes.
    for one in _sockets:
        number = one.detach()
        if number >= 0:
            os.close(number)
    for number in _files:
        os.close(number)
    _sockets.clear()
    _files.clear()
    _lock.release()


os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_in_child)


@final
class OwnerLock:
    """The lock of a file, held until `release`."""

    def __init__(self, path: Path, file: int) -> None:
        self._path = path
        self._file = file

    @classmethod
    def take(cls, path: Path) -> OwnerLock | None:
        """The lock, or ``None`` when another process has it.

        Raises:
            InvalidArgument: There is no such directory.
            NotAuthorized: The file is another user's, or no plain file.
        """
        with _lock:
            try:
                file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, _MODE)
            except (FileNotFoundError, NotADirectoryError):
                raise InvalidArgument("url", str(path), "a path in a directory") from None
            except OSError as error:
                raise NotAuthorized(
                    f"{path}: {error.strerror}", code="PERMISSION_DENIED"
                ) from error
            _files.add(file)
        lock = cls(path, file)
        try:
            found = os.fstat(file)
            if found.st_uid != os.geteuid() or not stat.S_ISREG(found.st_mode):
                raise NotAuthorized(
                    f"{path} is not a plain file of this user", code="PERMISSION_DENIED"
                )
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock._close()
            return None
        except BaseException:
            lock._close()
            raise
        if not lock.stands():  # somebody deleted the file in between
            lock._close()
            return None
        os.ftruncate(file, 0)
        os.pwrite(file, b"%d\n" % os.getpid(), 0)  # for people who wonder
        return lock

    def stands(self) -> bool:
        """Whether the file is still the one that others would lock."""
        try:
            there = self._path.stat(follow_symlinks=False)
        except OSError:
            return False
        mine = os.fstat(self._file)
        return (there.st_dev, there.st_ino) == (mine.st_dev, mine.st_ino)

    def release(self) -> None:
        """Let another process be the owner; the socket's name goes first."""
        with contextlib.suppress(OSError):
            _socket_path(self._path).unlink()
        self._close()

    def _close(self) -> None:
        with _lock:
            if self._file in _files:
                _files.discard(self._file)
                os.close(self._file)


def _socket_path(path: Path) -> Path:
    name = f"{path.name}.sock"
    if len(os.fsencode(name)) > 80:
        digest = hashlib.sha256(os.fsencode(path.name)).hexdigest()[:24]
        name = f".hastack-{digest}.sock"
    return path.with_name(name)


@contextlib.contextmanager
def _address(path: Path) -> Iterator[str]:
    """A name of the socket that is short enough for the kernel: it takes about 100 bytes."""
    place = _socket_path(path)
    if len(os.fsencode(place)) <= 100:
        yield str(place)
        return
    if sys.platform != "linux":
        raise InvalidArgument("url", str(path), "a path of at most 90 bytes")
    directory = os.open(place.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{place.name}"
    finally:
        os.close(directory)


def _new() -> socket.socket:
    one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    _sockets.add(one)
    one.setblocking(False)
    return one


def listen(path: Path) -> socket.socket:
    """The owner's socket: in place of one that was left behind, and for this user only."""
    with contextlib.suppress(FileNotFoundError):
        _socket_path(path).unlink()
    with _lock:
        one = _new()
    try:
        if sys.platform == "linux":
            # The name gets its mode from the socket when it is bound: never open to others.
            os.fchmod(one.fileno(), _MODE)
        with _address(path) as address:
            one.bind(address)
        _socket_path(path).chmod(_MODE)
        one.listen(_BACKLOG)
    except BaseException:
        close(one)
        raise
    return one


def is_there(path: Path) -> bool:
    """Whether the owner's socket can be found."""
    return _socket_path(path).exists()


def accept(listener: socket.socket) -> socket.socket | None:
    """The next connection, if one is waiting."""
    with _lock:
        try:
            one, _ = listener.accept()
        except BlockingIOError:
            return None
        _sockets.add(one)
    one.setblocking(False)
    return one


def dial(path: Path) -> socket.socket | None:
    """A connection to the owner; ``None`` when nobody listens, or too many are in the queue."""
    with _lock:
        one = _new()
    try:
        with _address(path) as address:
            one.connect(address)
    except OSError as error:
        close(one)
        nobody = {errno.ENOENT, errno.ECONNREFUSED, errno.EAGAIN, errno.ENOTDIR, errno.ECONNRESET}
        if error.errno in nobody:
            return None
        raise NotAuthorized(f"{path}: {error.strerror}", code="PERMISSION_DENIED") from error
    except BaseException:
        close(one)
        raise
    return one


def close(one: socket.socket) -> None:
    """Close a socket that came from here."""
    with _lock:
        _sockets.discard(one)
        one.close()
