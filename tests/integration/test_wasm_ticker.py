"""The clock of the guests: its native thread, its stand-in in Python, and its machine code."""

from __future__ import annotations

import base64
import ctypes
import os
import platform
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from hastack.wasm import _ticker
from hastack.wasm._ticker import MOST, PERIOD, QUIET, Ticker

SOURCE = Path(_ticker.__file__).with_name("_ticker.c")
counted = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


def wait_until(holds, seconds: float = 20.0) -> bool:
    ends = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > ends:
            return False
        time.sleep(0.005)
    return True


@pytest.mark.parametrize("native", [True, False])
def test_it_ticks_while_calls_are_made_and_then_stops(native: bool) -> None:
    if native and (sys.platform, platform.machine()) != ("linux", "x86_64"):
        pytest.skip("native code is for Linux on x86-64")
    # An engine that is two words of memory: what increments it is the C library's inc, in spirit.
    seen: list[int] = []
    increment = counted(seen.append)
    _kept.append(increment)  # the thread ticks for a second after the test
    clock = Ticker(increment, native=native)
    clock.add(1234)
    assert clock.kind == ("native" if native else "python")
    now = time.monotonic()
    clock.keep(now, 0.1)
    assert clock.until == pytest.approx(now + 0.1 + QUIET)
    assert wait_until(lambda: len(seen) > 50)
    assert set(seen) == {1234}
    assert wait_until(lambda: time.monotonic() > clock.until + 0.3)
    before = clock.passes
    time.sleep(0.1)
    assert clock.passes == before
    clock.keep(time.monotonic(), 0.1)
    assert wait_until(lambda: clock.passes > before + 5)
    # Never fewer ticks than time has passed, however many it missed while it slept.
    begun = time.monotonic()
    ticks, place = clock.ticks(begun, 0.05)
    assert ticks * PERIOD >= 0.05
    assert ticks <= 0.05 / PERIOD + MOST + 2
    assert place <= time.monotonic_ns()


def test_a_busy_interpreter_does_not_hold_it_up() -> None:
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        pytest.skip("native code is for Linux on x86-64")
    script = """
import threading, time
from hastack import wasm
from hastack.errors import GuestDeadline
plugin = wasm.load(wasm.wat('(module (func (export "spin") (loop br 0)))'), trust=wasm.Unsigned())
stop = []
def busy():
    while not stop: pass
threads = [threading.Thread(target=busy) for _ in range(2)]
for t in threads: t.start()
early = 0
for _ in range(5):
    begun = time.monotonic()
    try: plugin.call("spin")
    except GuestDeadline: pass
    early += time.monotonic() - begun < 0.05
stop.append(1)
print(early)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=50, check=False,
    )  # fmt: skip
    assert done.stdout.strip() == "0", done.stderr  # it ends, and never before its time


def test_too_many_engines_are_an_error() -> None:
    clock = Ticker(counted(lambda _: None), native=False)
    for number in range(_ticker.ENGINES):
        clock.add(number + 1)
    with pytest.raises(Exception, match="at most 64"):
        clock.add(1)


def test_signals_find_a_thread_that_runs_python() -> None:
    from hastack.wasm._engine import engine

    clock = engine(128 << 10).ticker
    clock.keep(time.monotonic(), 0.01)
    if clock.kind != "native":
        pytest.skip("there is no native thread here")
    blocked = []
    for task in Path("/proc/self/task").iterdir():
        known = {str(t.native_id) for t in threading.enumerate()}
        if task.name not in known:
            status = (task / "status").read_text()
            blocked.append(int(status.partition("SigBlk:")[2].split()[0], 16))
    assert any(mask & (1 << 14) for mask in blocked)  # SIGTERM


def test_the_machine_code_is_what_the_source_says(tmp_path: Path) -> None:
    """Built anew by another version of a compiler it may differ in bytes, not in what it does."""
    if platform.machine() != "x86_64" or not shutil.which("clang") or not shutil.which("objcopy"):
        pytest.skip("needs clang and binutils on x86-64")
    flags = ["-Os", "-fPIC", "-fno-stack-protector", "-fomit-frame-pointer"]
    flags += ["-fcf-protection=none", "-fno-asynchronous-unwind-tables"]
    built, raw = tmp_path / "t.o", tmp_path / "t.bin"
    subprocess.run(["clang", *flags, "-c", str(SOURCE), "-o", str(built)], check=True)
    subprocess.run(["objcopy", "-O", "binary", "-j", ".text", str(built), str(raw)], check=True)
    relocations = subprocess.run(
        ["objdump", "-r", str(built)], check=True, capture_output=True, text=True
    ).stdout
    assert "R_X86_64" not in relocations
    code = raw.read_bytes()
    if (
        b"clang version 14"
        in subprocess.run(["clang", "--version"], check=True, capture_output=True).stdout
    ):
        assert code == base64.b64decode(_ticker._CODE)
    seen: list[int] = []
    kept = counted(seen.append)
    clock = Ticker(kept, native=False)
    clock.add(7)
    clock._code = clock._executable(code)
    clock.keep(time.monotonic(), 0.1)
    assert wait_until(lambda: len(seen) > 20)
    # The thread goes on to tick for a second: what it calls must live as long.
    assert wait_until(lambda: time.monotonic() > clock.until + 0.3)
    _kept.append(kept)


_kept: list[object] = []


def test_a_forked_child_has_its_own() -> None:
    clock = Ticker(counted(lambda _: None), native=False)
    clock.keep(time.monotonic(), 0.0)
    child = os.fork()
    if child == 0:
        before = clock.passes
        os._exit(0 if wait_until(lambda: clock.passes > before + 5, 10.0) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
