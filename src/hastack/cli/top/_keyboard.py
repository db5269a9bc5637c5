"""Single keys from a terminal, which is put back as it was whatever happens."""

from __future__ import annotations

import os
import select
import sys
import termios
import tty
from typing import TYPE_CHECKING, Any, Self, final

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ("Keyboard",)


@final
class Keyboard:
    """Reads keys inside a ``with`` block; without a terminal it only waits.

    Ctrl-C goes on raising KeyboardInterrupt.
    """

    def __init__(self) -> None:
        self._before: list[Any] | None = None
        self._fd = -1

    def __enter__(self) -> Self:
        try:
            self._fd = sys.stdin.fileno()
            if os.isatty(self._fd):
                self._before = termios.tcgetattr(self._fd)
                tty.setcbreak(self._fd)
        except (OSError, ValueError, termios.error):  # no standard input at all
            self._before = None
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._before is not None:
            termios.tcsetattr(self._fd, termios.TCSADRAIN, self._before)

    def keys(self, wake: int, timeout: float) -> str:
        """What was typed within ``timeout`` seconds; "" for nothing, or when ``wake`` has news.

        Args:
            wake: A descriptor that ends the wait; it is emptied.
            timeout: Seconds.
        """
        watched = [wake] if self._before is None else [wake, self._fd]
        ready, _, _ = select.select(watched, [], [], timeout)
        if wake in ready:
            os.read(wake, 4096)
        if self._fd not in ready:
            return ""
        typed = os.read(self._fd, 64)
        if not typed:  # the terminal is gone: nobody will type any more
            self._before = None
            return "q"
        return typed.decode("ascii", "ignore")
