"""Before a fork, gRPC is given the time to end what was closed.

It ends its threads a moment after the last channel was closed, on a thread of its own. A child that
is forked in between has their locks without them, and waits for ever for its first connection
(measured with 1.85: in one of eight on a busy machine). So the fork waits, for as long as such
threads can be seen; if some stay, somebody else uses gRPC, and the child is told so.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Final

from hastack._core import _extras

from . import _channel

_PATIENCE: Final = 1.0  # seconds, once after the last channel
_LOOK: Final = 0.005
_TASKS: Final = Path("/proc/self/task")
_NAMES: Final = ("event_engine", "grpc_", "lifeguard")


def threads_of_grpc() -> bool:
    """Whether some run in this process; false where that cannot be seen."""
    try:
        tasks = list(_TASKS.iterdir())
    except OSError:
        return False
    return any(_name_of(task).startswith(_NAMES) for task in tasks)


def _name_of(task: Path) -> str:
    try:
        return (task / "comm").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""  # it has just ended


def _before_fork() -> None:
    _channel._lingering = False
    if not _channel.loaded() or _channel._open:
        return
    if _extras.grpc_has_fork_hooks():
        return
    end = time.monotonic() + (_PATIENCE if _channel._used else 0.0)
    _channel._used = False
    while threads_of_grpc():
        if time.monotonic() >= end:
            _channel._lingering = True
            return
        time.sleep(_LOOK)


os.register_at_fork(before=_before_fork)
