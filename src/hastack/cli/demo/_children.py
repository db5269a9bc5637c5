"""Child processes that speak JSON lines with their parent and never outlive it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from typing import TYPE_CHECKING, Any

import attrs

from hastack.errors import HastackError

from ._workload import Plan

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


class ChildFailed(HastackError):
    """A child process ended or fell silent; the message ends with what it said last."""


_LONGEST = 1 << 26  # bytes of one message; the longest is the schedule of a long run


@attrs.define
class Parent:
    """The child's side of the pipes.

    Attributes:
        spec: What the parent wants of this child; holds ``plan`` and more.
        reader: The child's standard input.
    """

    spec: dict[str, Any]
    reader: asyncio.StreamReader

    @property
    def plan(self) -> Plan:
        """The experiment."""
        return Plan(**self.spec["plan"])

    def say(self, **message: object) -> None:
        """Send one message. Several threads may when it is short: then its write is atomic."""
        data = json.dumps(message).encode() + b"\n"
        try:
            while data:
                data = data[os.write(sys.stdout.fileno(), data) :]
        except BrokenPipeError:
            pass  # the parent is gone; `gone` is about to notice

    async def hear(self) -> dict[str, Any]:
        """The next message; ends the process when the parent is gone."""
        line = await self.reader.readline()
        if not line:
            raise SystemExit(0)
        message: dict[str, Any] = json.loads(line)
        return message

    async def gone(self) -> None:
        """Wait until the parent closes the pipe, by will or by dying."""
        while await self.reader.read(4096):
            pass


def run_child(main: Callable[[Parent], Awaitable[None]]) -> None:
    """Run ``main`` in this process with the spec that the parent sends first."""

    async def start() -> None:
        reader = asyncio.StreamReader(limit=_LONGEST)
        protocol = asyncio.StreamReaderProtocol(reader)
        await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, sys.stdin)
        line = await reader.readline()
        if line:
            await main(Parent(json.loads(line), reader))

    # The parent ends its children itself; a Ctrl-C in the terminal is the parent's to handle.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        asyncio.run(start())
    except (OSError, HastackError) as error:  # the machine's or the user's fault: no traceback
        raise SystemExit(str(error)) from None


class Child:
    """The parent's side. Made by `Child.start`.

    Attributes:
        name: For messages to people.
        pid: Process id.
    """

    def __init__(self, name: str, process: asyncio.subprocess.Process) -> None:
        self.name = name
        self.pid = process.pid
        self._process = process
        assert process.stderr is not None
        self._last_words = bytearray()
        self._listening = asyncio.create_task(self._keep_last_words(process.stderr))

    @classmethod
    async def start(cls, module: str, name: str, **spec: object) -> Child:
        """Start ``module`` of this package in its own interpreter and send it ``spec``."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            f"{__package__}.{module}",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=_LONGEST,
            # Its own session: Ctrl-C reaches only the parent, which then ends the child.
            start_new_session=True,
        )
        child = cls(name, process)
        child.say(**spec)
        return child

    def say(self, **message: object) -> None:
        """Send one message."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(message).encode() + b"\n")

    async def hear(self, within: float | None = None) -> dict[str, Any]:
        """The next message.

        Args:
            within: Seconds to wait at most; ``None`` waits as long as the child lives.

        Raises:
            ChildFailed: It ended, or said nothing in time.
        """
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(within):
                line = await self._process.stdout.readline()
                if not line:
                    await self._listening
        except TimeoutError:
            raise ChildFailed(f"{self.name}: no answer within {within:g} s{self._tail()}") from None
        if not line:
            raise ChildFailed(f"{self.name} ended early{self._tail()}")
        message: dict[str, Any] = json.loads(line)
        return message

    async def stop(self, within: float = 2.0) -> None:
        """End the process: close its input, then SIGTERM, then SIGKILL."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        for sign in (None, signal.SIGTERM, signal.SIGKILL):
            if sign is not None and self._process.returncode is None:
                try:
                    self._process.send_signal(sign)
                except ProcessLookupError:
                    pass
            try:
                async with asyncio.timeout(within):
                    await self._process.wait()
                    break
            except TimeoutError:
                continue
        self._listening.cancel()

    async def _keep_last_words(self, stream: asyncio.StreamReader) -> None:
        while data := await stream.read(4096):
            self._last_words += data
            del self._last_words[:-4096]

    def _tail(self) -> str:
        words = self._last_words.decode(errors="replace").strip()
        return f":\n{words}" if words else ""
