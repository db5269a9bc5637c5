"""A descriptor that cannot be used after it was closed, whoever closes it."""

from __future__ import annotations

import os
import threading

from hastack._core._errors import ClosedError
from hastack._core._fork import renew_in_child

__all__ = ("Handle",)


class Handle:
    """A descriptor and the lock that its uses hold.

    A number that was closed may be another file the next moment: whoever uses the descriptor holds
    ``lock`` while it does, and `close` waits for that.

    Args:
        name: What `ClosedError` calls it.
        fd: The descriptor; the handle owns it.
        keep_in_child: Whether a forked child may go on using it.
    """

    __slots__ = ("__weakref__", "_fd", "_keep_in_child", "_owner", "lock", "name")

    def __init__(self, name: str, fd: int, *, keep_in_child: bool = True) -> None:
        self.name = name
        self.lock = threading.RLock()
        self._fd = fd
        self._keep_in_child = keep_in_child
        self._owner = os.getpid()
        renew_in_child(self)

    @property
    def closed(self) -> bool:
        """Whether it can no longer be used."""
        return self._fd < 0

    @property
    def fd(self) -> int:
        """The descriptor.

        Raises:
            ClosedError: There is none any more.
        """
        if self._fd < 0:
            raise ClosedError(self.name)
        return self._fd

    def __enter__(self) -> int:
        self.lock.acquire()
        if self._fd < 0:
            self.lock.release()
            raise ClosedError(self.name)
        return self._fd

    def __exit__(self, *_: object) -> None:
        self.lock.release()

    def duplicate(self) -> int:
        """Another descriptor of the same object, which the caller owns."""
        with self as fd:
            return os.dup(fd)

    def close(self) -> None:
        """Give the descriptor back; more than once does nothing."""
        with self.lock:
            fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __del__(self) -> None:
        if getattr(self, "_fd", -1) >= 0:
            self.close()

    def _after_fork(self) -> None:
        self.lock = threading.RLock()
        if not self._keep_in_child:
            self.close()
