"""Time for guests: a native thread that advances the epochs of all engines, whoever holds the GIL.

An engine's epoch is a counter; a guest is interrupted when it passes the store's deadline. A
Python thread that counts would wait for the GIL while other threads are busy, so that deadlines of
5 ms came after 100 ms. The thread here runs 281 bytes of machine code, the whole of which is
``_ticker.c`` beside this file: it sleeps, calls ``wasmtime_engine_increment_epoch`` and never
touches Python. It stops to tick a second after the last call and then costs nothing.

Elsewhere than on Linux for x86-64, or where executable memory is refused, a Python thread does the
same, and deadlines are late by what the interpreter makes it wait.
"""

from __future__ import annotations

import base64
import ctypes
import os
import platform
import signal
import sys
import threading
import time
from ctypes import (
    addressof,
    byref,
    c_int,
    c_int32,
    c_int64,
    c_long,
    c_size_t,
    c_uint32,
    c_uint64,
    c_void_p,
)
from typing import Any, Final

from hastack._core._errors import WasmError
from hastack._core._fork import renew_in_child

__all__ = ("PERIOD", "Ticker", "ticker")

PERIOD: Final = 0.001
"""Seconds between two ticks."""

MOST: Final = 200
"""Ticks that are made up for at once; more than that, and time had stood still."""

QUIET: Final = 1.0
"""Seconds without a call after which the ticking stops."""

ENGINES: Final = 64

_CODE: Final = (
    "VUFXQVZBVUFUU0iD7ChIiftIi1doSIXSdA1Ii3tgMfYxyTHA/1NYTI18JAi/AQAAAEyJ/v8TSGlsJAgAypo7SANs"
    "JBBIiehIK0NASJlI93soSIXAfl5JicZIi0MwSTnGTYn1TA9P6EiDe1AAfipFMf9NiexNhe1+DUqLfPtw/1MYSf/M"
    "dfNJ/8dMO3tQfOJIi0MwTI18JAhIielJOcZ/DEwPr3MoTANzQEyJ8UiJS0BI/0NISDtrOH4MSIt7IP9TEOlm////"
    "SItLKEgDS0BIichIurOU1iboCy4RSPfqSInQSMHoP0jB+hpIAcJIiVQkGEhpwgDKmjtIKcFIiUwkIL8BAAAAvgEA"
    "AABIjVQkGDHJ/1MI6RP///8="
)

_PROT_READ, _PROT_WRITE, _PROT_EXEC, _MAP_PRIVATE, _MAP_ANONYMOUS = 1, 2, 4, 2, 0x20


class Shared(ctypes.Structure):
    """``struct ticker`` of ``_ticker.c``."""

    _fields_ = (
        ("clock_gettime", c_void_p),
        ("clock_nanosleep", c_void_p),
        ("sem_wait", c_void_p),
        ("increment_epoch", c_void_p),
        ("semaphore", c_void_p),
        ("period", c_int64),
        ("most", c_int64),
        ("until", c_int64),
        ("last", c_int64),
        ("passes", c_int64),
        ("engines", c_int64),
        ("syscall", c_void_p),
        ("sched_setattr", c_int64),
        ("attributes", c_void_p),
        ("engine", c_void_p * ENGINES),
    )


class Attributes(ctypes.Structure):
    """``struct sched_attr``: the slice of a thread of ordinary priority."""

    _fields_ = (
        ("size", c_uint32),
        ("policy", c_uint32),
        ("flags", c_uint64),
        ("nice", c_int32),
        ("priority", c_uint32),
        ("runtime", c_uint64),
        ("deadline", c_uint64),
        ("period", c_uint64),
    )


_SLICE: Final = 100_000
"""Nanoseconds. Linux lets a thread with a short slice run as soon as it wakes, since 6.12; without,
it may wait for the 3 ms of whoever runs."""

_SCHED_SETATTR: Final = 314  # on x86-64, where the code is for

_UNTIL, _LAST, _PASSES = 7, 8, 9  # 8-byte fields by number


class Ticker:
    """The one clock of a process for all its guests.

    Attributes:
        kind: ``"native"``, or ``"python"`` where native code does not run.
        until: Monotonic time in seconds up to which it certainly ticks.
    """

    def __init__(self, increment_epoch: Any, *, native: bool | None = None) -> None:
        self._increment = increment_epoch
        self._lock = threading.Lock()
        self.until = 0.0
        # Never unmapped: the native thread reads it to the very end of the process.
        libc: Any = ctypes.CDLL(None, use_errno=True)
        self._libc = libc
        libc.mmap.restype = c_void_p
        libc.mmap.argtypes = (c_void_p, c_size_t, c_int, c_int, c_int, c_long)
        libc.mprotect.argtypes = (c_void_p, c_size_t, c_int)
        self._page = self._map()
        self._shared = Shared.from_address(self._page)
        self._fields = (c_int64 * 12).from_address(self._page)
        self._semaphore = self._page + 2048
        self._code: int | None = None
        self._thread: threading.Thread | None = None
        self._wake = threading.Event()
        self._running = False
        if native is None:
            native = sys.platform == "linux" and platform.machine() == "x86_64"
        if native:
            self._code = self._executable(base64.b64decode(_CODE))
        self.kind = "native" if self._code else "python"
        self._fill()
        renew_in_child(self)

    def add(self, engine: int) -> None:
        """Advance this engine from now on, and for ever.

        Raises:
            WasmError: There are too many.
        """
        with self._lock:
            count = self._shared.engines
            if count >= ENGINES:
                raise WasmError(f"at most {ENGINES} sizes of stack in one process")
            self._shared.engine[count] = engine
            self._shared.engines = count + 1

    def ticks(self, now: float, budget: float) -> tuple[int, int]:
        """How many ticks from the current epoch on ``budget`` seconds from ``now`` will be over.

        Args:
            now: Monotonic time in seconds.
            budget: Seconds.

        Returns:
            The ticks, never too few, and the place in time that they were counted from: when
            `place` has moved on meanwhile, count again.
        """
        last = self._fields[_LAST]
        behind = min(now - last * 1e-9, MOST * PERIOD)
        return int((max(behind, 0.0) + budget) / PERIOD) + 1, last

    def place(self) -> int:
        """Up to when ticks were made."""
        return self._fields[_LAST]

    def keep(self, now: float, budget: float) -> None:
        """Tick at least until a call that begins now has ended."""
        with self._lock:
            self.until = now + budget + QUIET
            self._fields[_UNTIL] = int((self.until + 10 * PERIOD) * 1e9)
            if not self._running:
                self._start()
            self._awake()

    @property
    def passes(self) -> int:
        """How often it has ticked; for tests."""
        return self._fields[_PASSES]

    def _fill(self) -> None:
        shared, libc = self._shared, self._libc
        for name in ("clock_gettime", "clock_nanosleep", "sem_wait"):
            setattr(shared, name, ctypes.cast(getattr(libc, name), c_void_p))
        shared.increment_epoch = ctypes.cast(self._increment, c_void_p)
        shared.semaphore = self._semaphore
        if sys.platform == "linux" and os.sched_getscheduler(0) == os.SCHED_OTHER:
            nice = os.getpriority(os.PRIO_PROCESS, 0)
            at = self._page + 2560
            Attributes.from_address(at).__init__(48, 0, 0, nice, 0, _SLICE, 0, 0)  # type: ignore[misc]
            shared.syscall = ctypes.cast(libc.syscall, c_void_p)
            shared.sched_setattr, shared.attributes = _SCHED_SETATTR, at
        shared.period = int(PERIOD * 1e9)
        shared.most = MOST
        shared.last = time.monotonic_ns()
        libc.sem_init(c_void_p(self._semaphore), 0, 0)

    def _map(self) -> int:
        page: int | None = self._libc.mmap(
            None, 4096, _PROT_READ | _PROT_WRITE, _MAP_PRIVATE | _MAP_ANONYMOUS, -1, 0
        )
        if page in {None, c_void_p(-1).value}:
            raise WasmError("no memory for the clock of the guests")
        assert page
        return page

    def _executable(self, code: bytes) -> int | None:
        """Where the code lies, or ``None`` where executable memory is refused."""
        page = self._map()
        ctypes.memmove(page, code, len(code))
        if self._libc.mprotect(page, 4096, _PROT_READ | _PROT_EXEC):
            return None
        return page

    def _start(self) -> None:
        self._shared.last = time.monotonic_ns()
        if self._code is None:
            self._thread = threading.Thread(
                target=self._run, name="hastack-wasm-ticker", daemon=True
            )
            self._thread.start()
        else:
            self._start_native()
        self._running = True

    def _start_native(self) -> None:
        thread = c_void_p()
        # It inherits the mask: signals must find a thread that runs Python.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            failed = self._libc.pthread_create(
                byref(thread), None, c_void_p(self._code), c_void_p(addressof(self._shared))
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if failed:
            raise WasmError(f"no thread for the clock of the guests: {os.strerror(failed)}")
        self._libc.pthread_detach(thread)

    def _awake(self) -> None:
        if self._code is None:
            self._wake.set()
        else:
            self._libc.sem_post(c_void_p(self._semaphore))

    def _run(self) -> None:
        """What ``_ticker.c`` does, in Python."""
        fields, shared, period = self._fields, self._shared, int(PERIOD * 1e9)
        while True:
            now = time.monotonic_ns()
            missed = (now - fields[_LAST]) // period
            if missed > 0:
                for number in range(shared.engines):
                    for _ in range(min(missed, MOST)):
                        self._increment(shared.engine[number])
                fields[_LAST] = now if missed > MOST else fields[_LAST] + missed * period
                fields[_PASSES] += 1
            if now > fields[_UNTIL]:
                self._wake.wait()
                self._wake.clear()
            else:
                time.sleep(max(fields[_LAST] + period - time.monotonic_ns(), 0) * 1e-9)

    def _after_fork(self) -> None:
        """The thread did not come along; a call under way in this thread must still end."""
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._running = False
        self._libc.sem_init(c_void_p(self._semaphore), 0, 0)
        now = time.monotonic()
        if now < self.until:
            self.keep(now, 0.0)


_lock = threading.Lock()
_ticker: Ticker | None = None


def _renew_lock() -> None:
    global _lock
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_renew_lock)


def ticker(increment_epoch: Any) -> Ticker:
    """The ticker of this process."""
    global _ticker
    with _lock:
        if _ticker is None:
            _ticker = Ticker(increment_epoch)
        return _ticker
