"""Run something in a forked child and hear of it when it fails or hangs."""

from __future__ import annotations

import os
import signal
import time
import traceback
from collections.abc import Callable


def run_in_fork(work: Callable[[], object], *, seconds: float = 20.0) -> None:
    """Run ``work`` in a forked child.

    Raises:
        AssertionError: It raised (the message has its traceback), died, or did not end in time.
    """
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        status = 1
        try:
            work()
            status = 0
        except BaseException:
            os.write(writing, traceback.format_exc().encode()[-4000:])
        finally:
            os._exit(status)
    os.close(writing)
    try:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                text = os.read(reading, 4000).decode(errors="replace")
                assert status == 0, f"the child ended with status {status}\n{text}"
                return
            time.sleep(0.01)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise AssertionError("the child hangs")
    finally:
        os.close(reading)
