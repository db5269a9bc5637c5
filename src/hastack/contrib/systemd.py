"""Tell systemd how the service is: READY, STOPPING, EXTEND_TIMEOUT_USEC, WATCHDOG.

The protocol of sd_notify(3) over ``NOTIFY_SOCKET``, abstract sockets included, without any
package. Outside of systemd everything here does nothing.

Example:
    >>> from hastack.contrib import systemd
    >>> from hastack.lifecycle import Lifecycle
    >>> life = Lifecycle("orders", lame_duck=0.0)
    >>> stop = systemd.follow(life)
"""

from __future__ import annotations

import os
import socket
import threading
from typing import TYPE_CHECKING

from hastack._core._clock import SYSTEM_CLOCK
from hastack.lifecycle import Phase

if TYPE_CHECKING:
    from collections.abc import Callable

    from hastack.health import Health
    from hastack.lifecycle import Lifecycle
    from hastack.typing import Clock

__all__ = ("follow", "notify", "watchdog_interval")


def notify(*assignments: str) -> bool:
    """Send ``NAME=value`` assignments to systemd in one datagram.

    Args:
        assignments: For example ``"READY=1"``, ``"STATUS=serving"``.

    Returns:
        Whether they were sent; False outside of systemd and when its socket does not take them.
        A service must not fail because its supervisor is slow, so nothing is raised and
        nothing blocks.
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return False
    if address.startswith("@"):
        address = "\0" + address[1:]  # the abstract namespace of Linux
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out:
            out.setblocking(False)
            out.sendto("\n".join(assignments).encode(), address)
    except OSError:
        return False
    return True


def watchdog_interval() -> float | None:
    """Seconds within which systemd wants a sign of life, or ``None``."""
    try:
        pid = int(os.environ.get("WATCHDOG_PID", os.getpid()))
        interval = int(os.environ["WATCHDOG_USEC"]) / 1e6
    except (KeyError, ValueError):
        return None
    return interval if pid == os.getpid() and interval > 0.0 else None


def follow(
    lifecycle: Lifecycle, *, health: Health | None = None, clock: Clock = SYSTEM_CLOCK
) -> Callable[[], None]:
    """Keep systemd informed about ``lifecycle``.

    Sends ``READY=1`` when serving, ``STOPPING=1`` with ``EXTEND_TIMEOUT_USEC`` (the budget of
    the shutdown) when told to end, and, when the unit has ``WatchdogSec=``, ``WATCHDOG=1`` twice
    per interval for as long as ``health`` is alive: systemd then restarts a service whose event
    loop is blocked.

    Args:
        lifecycle: The service; call this before it starts.
        health: Decides about ``WATCHDOG=1``; without it, the process being there is enough.
        clock: Source of time for the watchdog.

    Returns:
        A function that ends this.
    """
    interval = watchdog_interval()
    dog = None if interval is None else _Watchdog(interval / 2.0, health, clock)

    told = False

    def entered(phase: Phase) -> None:
        nonlocal told
        if phase is Phase.SERVING:
            notify("READY=1", "STATUS=serving")
            if dog is not None:
                dog.start()
        elif phase in {Phase.LAME_DUCK, Phase.DRAINING, Phase.STOPPING}:
            words = [f"STATUS={phase.value}"]
            if not told:  # the budget counts from the first word of the end
                told = True
                words += ["STOPPING=1", f"EXTEND_TIMEOUT_USEC={int(lifecycle.budget * 1e6)}"]
            notify(*words)
        elif phase is Phase.STOPPED and dog is not None:
            dog.stop()

    remove = lifecycle.on_phase(entered)

    def end() -> None:
        remove()
        if dog is not None:
            dog.stop()

    return end


class _Watchdog:
    """Feeds the watchdog again and again, on the clock's timer thread: sending never blocks."""

    def __init__(self, every: float, health: Health | None, clock: Clock) -> None:
        self._every = every
        self._health = health
        self._clock = clock
        self._lock = threading.Lock()
        self._cancel: Callable[[], None] | None = None
        self._on = False

    def start(self) -> None:
        self._on = True
        self._feed()

    def stop(self) -> None:
        with self._lock:
            self._on = False
            if self._cancel is not None:
                self._cancel()

    def _feed(self) -> None:
        if self._health is None or self._health.liveness():
            notify("WATCHDOG=1")
        with self._lock:
            if self._on:
                self._cancel = self._clock.call_at(
                    self._clock.monotonic() + self._every, self._feed
                )
