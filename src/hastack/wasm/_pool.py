"""Instances that wait for calls: how many there may be, and which come back."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING

from hastack._core._errors import ClosedError, PoolExhausted
from hastack._core._fork import renew_in_child

from ._instance import Instance

if TYPE_CHECKING:
    from ._code import Code

__all__ = ("Pool",)


class Pool:
    """The instances of one plugin.

    Taking and giving back is one operation on a deque, which needs no lock. A call gets the
    instance that was used last; one that broke is freed, and the next call makes another.

    Args:
        code: What to make them from.
        most: How many there may be, busy ones included.
        fiber: Whether they are for calls on event loops.
        name: For errors.
    """

    def __init__(self, code: Code, most: int, *, fiber: bool, name: str) -> None:
        self.code = code
        self.idle: deque[Instance] = deque()
        self.made = 0
        self.closed = False
        self._most = most
        self._fiber = fiber
        self._name = name
        self._lock = threading.Lock()
        renew_in_child(self)

    def another(self) -> Instance:
        """An instance that was idle, or a new one.

        Raises:
            PoolExhausted: All are busy, and no more are allowed.
        """
        with self._lock:
            if self.closed:
                raise ClosedError(self._name)
            if self.made >= self._most:
                try:
                    return self.idle.pop()
                except IndexError:
                    raise PoolExhausted(
                        f"{self._name}: all {self._most} instances are busy"
                    ) from None
            self.made += 1
        try:
            return Instance(self.code, fiber=self._fiber)
        except BaseException:
            with self._lock:
                self.made -= 1
            raise

    def drop(self, instance: Instance) -> None:
        """Free one that will not come back."""
        with self._lock:
            self.made -= 1
        instance.close()

    def warm(self, count: int) -> None:
        """Have ``count`` instances ready."""
        ready = [self.another() for _ in range(max(count - len(self.idle), 0))]
        self.idle.extend(ready)

    def close(self) -> None:
        """Free what is idle; what is busy is freed when it comes back."""
        with self._lock:
            self.closed = True
        while True:
            try:
                instance = self.idle.pop()
            except IndexError:
                return
            self.drop(instance)

    def _after_fork(self) -> None:
        self._lock = threading.Lock()
