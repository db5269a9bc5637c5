"""Whether the stack of a thread has room for a guest.

wasmtime stops a guest that has used its own allowance, counted from where the host entered it. A
thread with less than that left would run over its end first, and the process would die.
"""

from __future__ import annotations

import ctypes
import platform
import sys
import threading
from ctypes import byref, c_size_t, c_void_p
from typing import Any, Final

from hastack._core._errors import WasmError

__all__ = ("HOST_ROOM", "require_room")

HOST_ROOM: Final = 64 << 10
"""Bytes beside the guest's own: the engine's frames, and the signal frame of a trap."""

CALL_ROOM: Final = 96 << 10
"""Bytes beside the guest's own when it may call functions of the host."""

_ROOMY: Final = 4 << 20
"""What is left of so large a stack is measured once per thread."""

_USED: Final = 64 << 10
"""What is taken to be used where the stack pointer cannot be read."""

_local = threading.local()


def require_room(stack: int, *, hosts: bool) -> None:
    """Raise unless this thread has ``stack`` bytes left, and some for the host.

    Raises:
        WasmError: It has not.
    """
    need = stack + (CALL_ROOM if hosts else HOST_ROOM)
    known = getattr(_local, "room", None)
    if known is not None and known >= need:
        return
    left, size = _left()
    if size >= _ROOMY:
        # Python's own recursion takes no more than half of the rest.
        _local.room = left // 2
        left = left // 2
    if left < need:
        raise WasmError(
            f"this thread has {left:,} bytes of stack left and the guest needs {need:,}: "
            "raise threading.stack_size() or lower Limits.stack"
        )


def _left() -> tuple[int, int]:
    """Bytes left on this thread's stack, and its size."""
    if sys.platform != "linux":
        return 8 << 20, 8 << 20
    libc: Any = ctypes.CDLL(None)
    attributes = (ctypes.c_char * 128)()
    low, size = c_void_p(), c_size_t()
    libc.pthread_self.restype = c_void_p
    if libc.pthread_getattr_np(c_void_p(libc.pthread_self()), attributes):
        return 8 << 20, 8 << 20
    libc.pthread_attr_getstack(attributes, byref(low), byref(size))
    libc.pthread_attr_destroy(attributes)
    at = _pointer(libc)
    used = (low.value or 0) + size.value - at if at else _USED
    return max(size.value - used, 0), size.value


def _pointer(libc: Any) -> int:
    """The stack pointer, or 0 where it is not known how to read it."""
    if platform.machine() != "x86_64":
        return 0
    context = (ctypes.c_uint64 * 256)()
    libc.getcontext(context)
    return int(context[20])  # uc_mcontext.gregs[REG_RSP]
