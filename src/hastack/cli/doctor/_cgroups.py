"""What the control groups of this process allow, in version 1 and 2.

The tightest limit on the way from the process's group up to the root counts. Source:
``cpu.max``, ``memory.max`` and ``pids.max`` in the kernel's cgroup-v2 documentation;
``cpu.cfs_quota_us``, ``memory.limit_in_bytes`` and ``pids.max`` in version 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ("cpu_quota", "memory_limit", "process_limit")

Read: TypeAlias = "Callable[[str], str | None]"
_ENDLESS: Final = 1 << 60  # version 1 says "no limit" with a number near 2^63


def cpu_quota(read: Read) -> float | None:
    """Processors that the cgroup allows, ``None`` without a limit.

    Args:
        read: Content of a file, or ``None`` when there is none.
    """
    found = []
    for second, folder in _folders(read, "cpu"):
        limit = _quota_2(read, folder) if second else _quota_1(read, folder)
        if limit is not None:
            found.append(limit)
    return min(found, default=None)


def memory_limit(read: Read) -> int | None:
    """Bytes that the cgroup allows, ``None`` without a limit."""
    return _least(read, "memory", "memory.max", "memory.limit_in_bytes")


def process_limit(read: Read) -> int | None:
    """Threads and processes that the cgroup allows, ``None`` without a limit."""
    return _least(read, "pids", "pids.max", "pids.max")


def _folders(read: Read, controller: str) -> Iterator[tuple[bool, str]]:
    """Where limits may stand: whether it is version 2, and the folder."""
    for line in (read("/proc/self/cgroup") or "").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        second = not controllers
        if not second and controller not in controllers.split(","):
            continue
        top = "/sys/fs/cgroup" if second else f"/sys/fs/cgroup/{controller}"
        for folder in _upwards(group):
            yield second, top + folder


def _upwards(group: str) -> list[str]:
    parts = [part for part in group.split("/") if part and part != ".."]
    return ["".join(f"/{part}" for part in parts[:depth]) for depth in range(len(parts), -1, -1)]


def _least(read: Read, controller: str, second: str, first: str) -> int | None:
    found = []
    for is_second, folder in _folders(read, controller):
        text = (read(f"{folder}/{second if is_second else first}") or "").strip()
        if text.isdecimal() and int(text) < _ENDLESS:
            found.append(int(text))
    return min(found, default=None)


def _quota_2(read: Read, folder: str) -> float | None:
    words = (read(f"{folder}/cpu.max") or "").split()
    if len(words) != 2 or words[0] == "max":
        return None
    return int(words[0]) / int(words[1])


def _quota_1(read: Read, folder: str) -> float | None:
    quota = read(f"{folder}/cpu.cfs_quota_us")
    period = read(f"{folder}/cpu.cfs_period_us")
    if quota is None or period is None or int(quota) <= 0:
        return None
    return int(quota) / int(period)
