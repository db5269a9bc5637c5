"""Other processes that have part in a shared embedded store, told what to do over a pipe."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

_PROGRAM = """
import asyncio, json, os, sys
from hastack.discovery import Compare, Delete, Get, Put, memory

async def main():
    loop = asyncio.get_running_loop()
    names = {"store": memory.connect("memory://" + sys.argv[1]), "memory": memory, "os": os,
             "asyncio": asyncio, "Put": Put, "Delete": Delete, "Compare": Compare, "held": []}
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        body = "".join(f"\\n    {part}" for part in json.loads(line).splitlines())
        exec(f"async def step():{body}", names)
        try:
            answer = await names["step"]()
        except Exception as error:
            answer = f"{type(error).__name__}: {error}"
        print(json.dumps(answer), flush=True)

asyncio.run(main())
"""


class Worker:
    """A process with ``store``, a store at ``path``. `do` runs lines of Python in it."""

    def __init__(self, path: object) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore::DeprecationWarning", "-c", _PROGRAM, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def begin(self, lines: str) -> None:
        """Have it run ``lines``, the body of a coroutine function."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(lines).encode() + b"\n")
        self.process.stdin.flush()

    def end(self, seconds: float = 30.0) -> Any:
        """What `begin` has come to."""
        assert self.process.stdout is not None
        if not select.select([self.process.stdout], [], [], seconds)[0]:
            raise TimeoutError("the worker does not answer")
        line = self.process.stdout.readline()
        if not line:
            raise EOFError("the worker has ended")
        return json.loads(line)

    def do(self, lines: str, seconds: float = 30.0) -> Any:
        """Run ``lines`` in it; their ``return`` comes back if it is JSON."""
        self.begin(lines)
        return self.end(seconds)

    def pause(self) -> None:
        """SIGSTOP, and wait until all its threads stand still."""
        os.kill(self.process.pid, signal.SIGSTOP)
        tasks = Path(f"/proc/{self.process.pid}/task")
        end = time.monotonic() + 10.0
        while time.monotonic() < end and not all(
            (task / "stat").read_text().rpartition(")")[2].split()[0] == "T"
            for task in tasks.iterdir()
        ):
            time.sleep(0.001)

    def resume(self) -> None:
        os.kill(self.process.pid, signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL, as a crash; also of one that is stopped."""
        self.process.kill()
        self.process.wait(10)
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            with contextlib.suppress(OSError):
                pipe.close()
