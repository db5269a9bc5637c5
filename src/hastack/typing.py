"""Protocols that users may implement."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

__all__ = ("Clock",)


@runtime_checkable
class Clock(Protocol):
    """A source of monotonic time, timers and bounded waits.

    Everything in hastack that looks at the time takes ``clock=``; the default is the process's
    monotonic clock and `hastack.testing.ManualClock` is the one for tests.
    """

    def monotonic(self) -> float:
        """Seconds since an arbitrary point; never goes backwards."""
        ...

    def call_at(self, when: float, callback: Callable[[], None], /) -> Callable[[], None]:
        """Run ``callback`` once at time ``when``, on any thread; the result cancels it."""
        ...

    def wait(self, event: threading.Event, timeout: float | None = None, /) -> bool:
        """Block until ``event`` is set or ``timeout`` seconds passed; say whether it is set."""
        ...
