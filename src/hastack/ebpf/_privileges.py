"""Giving up every privilege once everything is loaded."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from struct import pack

from hastack._core._errors import InvalidArgument, Unsupported

from . import _libbpf

__all__ = ("drop_privileges",)

_CAPABILITY_VERSION_3 = 0x20080522
_NO_NEW_PRIVS, _AMBIENT, _AMBIENT_CLEAR_ALL = 38, 47, 4

_LEAVING = 0.5
"""Seconds for threads that Python has joined to be gone for the kernel as well."""


def drop_privileges(user: str | int | None = None) -> None:
    """Give up all capabilities, for good: also programs started later get none.

    What is open goes on: maps, globals and rings are read and written, links exchange programs that
    are loaded (`Object.prepare` before, `Object.update` after), test runs run. Loading ends with
    `KernelRefused`, and so does attaching of most kinds.

    Args:
        user: Name or number of the user to become, with its group and no others. Root without
            capabilities still owns root's files, so name one where you can. ``None`` stays.

    Raises:
        InvalidArgument: There is no such user, or it is root.
        Unsupported: The process has several threads and stays who it is: the kernel takes
            capabilities from one thread only. Drop them before threads start, or name a user.
        PermissionError: This process may not change its user.

    Example:
        >>> from hastack import ebpf
        >>> obj = ebpf.load("flows.bpf.o")  # doctest: +SKIP
        >>> ebpf.drop_privileges("nobody")  # doctest: +SKIP
    """
    if user is None:
        if not _alone() and _capable():
            raise Unsupported(
                "dropping capabilities",
                "the process has several threads, and the kernel takes them from one only",
                remedy="Name a user, or drop them before threads start",
            )
    else:
        _become(user)
    _prctl(_AMBIENT, _AMBIENT_CLEAR_ALL)
    _prctl(_NO_NEW_PRIVS, 1)
    header = bytearray(pack("=Ii", _CAPABILITY_VERSION_3, 0))
    none = bytearray(24)
    done = _libbpf.syscall("capset", _libbpf.address(header), none)
    if done < 0:
        raise _libbpf.refused("drop all capabilities", -done)
    left = _capable()
    if left:
        raise Unsupported("dropping capabilities", f"threads {left} still have some")


def _alone() -> bool:
    """Whether this is the only thread; those that are just ending are waited for."""
    ends = time.monotonic() + _LEAVING
    while len(list(Path("/proc/self/task").iterdir())) > 1:
        if threading.active_count() > 1 or time.monotonic() > ends:
            return False
        time.sleep(0.001)
    return True


def _become(user: str | int) -> None:
    import pwd

    try:
        entry = pwd.getpwnam(user) if isinstance(user, str) else pwd.getpwuid(user)
    except (KeyError, OverflowError):
        raise InvalidArgument("user", user, "a user of this machine") from None
    if entry.pw_uid == 0:
        raise InvalidArgument("user", user, "another user than root")
    # The C library does these in every thread; changing to another user clears capabilities.
    os.setgroups([])
    os.setresgid(entry.pw_gid, entry.pw_gid, entry.pw_gid)
    os.setresuid(entry.pw_uid, entry.pw_uid, entry.pw_uid)


def _prctl(option: int, value: int) -> None:
    done = _libbpf.syscall("prctl", option, _libbpf.pointer(value), 0, 0, 0)
    if done < 0:
        raise _libbpf.refused(f"prctl {option}", -done)


def _capable() -> list[str]:
    """Threads that have a capability, in force or in reserve."""
    found = []
    for task in Path("/proc/self/task").iterdir():
        try:
            text = (task / "status").read_text("ascii", "replace")
        except OSError:  # ended meanwhile
            continue
        for line in text.splitlines():
            name, _, value = line.partition(":")
            if name in {"CapPrm", "CapEff"} and int(value, 16):
                found.append(task.name)
                break
    return found
