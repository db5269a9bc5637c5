"""Liveness answered by a process of its own, from signs of life in shared memory.

A thread has to wait for the interpreter that the application is using. This process does not: it
reads the times at which the application's loops and threads were last alive, judges them, and
answers. Everything else it passes on to the application's own health thread.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from typing import TYPE_CHECKING

from hastack._health_http import parsed, refused, render, wire
from hastack._health_verdict import Pulse, judge

if TYPE_CHECKING:
    from collections.abc import Iterable

SLOTS = 32
_SLOT = struct.Struct("=dd64s")  # last sign of life, limit (0: unused), name
_LAST = struct.Struct("=d")


class SharedPulses:
    """The signs of life of this process where another one can read them.

    Args:
        fd: Descriptor of existing memory, or ``None`` to make some.
    """

    def __init__(self, fd: int | None = None) -> None:
        if fd is None:
            with tempfile.TemporaryFile() as file:
                file.truncate(SLOTS * _SLOT.size)
                fd = os.dup(file.fileno())
        self.fd = fd
        self._memory = mmap.mmap(fd, SLOTS * _SLOT.size)
        self._slots: dict[int, Pulse] = {}

    def sync(self, pulses: Iterable[Pulse]) -> None:
        """Share exactly these from now on; what is above the number of slots stays unshared."""
        wanted = {id(each): each for each in pulses}
        for slot, pulse in list(self._slots.items()):
            if id(pulse) not in wanted:
                pulse.mirror = None
                _SLOT.pack_into(self._memory, slot * _SLOT.size, 0.0, 0.0, b"")
                del self._slots[slot]
        shared = {id(each) for each in self._slots.values()}
        free = [slot for slot in range(SLOTS) if slot not in self._slots]
        for pulse in wanted.values():
            if id(pulse) not in shared and free:
                self._share(free.pop(0), pulse)

    def _share(self, slot: int, pulse: Pulse) -> None:
        memory, offset = self._memory, slot * _SLOT.size
        self._slots[slot] = pulse
        _SLOT.pack_into(memory, offset, pulse.last, pulse.max_age, pulse.name.encode()[:64])

        def mirror(now: float) -> None:
            _LAST.pack_into(memory, offset, now)

        pulse.mirror = mirror

    def read(self) -> list[Pulse]:
        """What is shared now."""
        found = []
        for slot in range(SLOTS):
            last, limit, name = _SLOT.unpack_from(self._memory, slot * _SLOT.size)
            if limit > 0.0:
                found.append(Pulse(name.rstrip(b"\0").decode(errors="replace"), limit, last))
        return found

    def close(self) -> None:
        """Unshare everything."""
        self.sync(())
        self._memory.close()
        os.close(self.fd)


def spawn(
    listener: socket.socket,
    pulses: SharedPulses,
    *,
    upstream: int,
    live: Iterable[str],
    timeout: float,
    limit: int,
) -> tuple[subprocess.Popen[bytes], socket.socket]:
    """Start the process; it ends when the returned socket is closed, or with this process."""
    ours, theirs = socket.socketpair()
    options = {
        "listener": listener.fileno(),
        "memory": pulses.fd,
        "parent": theirs.fileno(),
        "upstream": upstream,
        "live": list(live),
        "timeout": timeout,
        "limit": limit,
    }
    code = (
        f"import sys; sys.path[:] = {sys.path!r}; "
        f"from hastack.contrib._health_process import main; main({json.dumps(options)!r})"
    )
    with theirs:
        process = subprocess.Popen(  # noqa: S603  # our own interpreter with our own code
            [sys.executable, "-c", code],
            pass_fds=(listener.fileno(), pulses.fd, theirs.fileno()),
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for the service, which then ends this process
        )
    return process, ours


def main(arguments: str) -> None:
    """The process."""
    options = json.loads(arguments)
    listener = socket.socket(fileno=options["listener"])
    listener.setblocking(True)
    parent = socket.socket(fileno=options["parent"])
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    pulses = SharedPulses(options["memory"])
    limit = threading.BoundedSemaphore(options["limit"])

    live, upstream = frozenset(options["live"]), options["upstream"]

    def serve(sock: socket.socket, head: bytes) -> None:
        try:
            with sock:
                sock.settimeout(options["timeout"])
                _serve(sock, head, pulses, live, upstream)
        except OSError:  # the client is slow or gone
            pass
        finally:
            limit.release()

    while True:
        limit.acquire()
        try:
            sock, _ = listener.accept()
        except OSError:  # gone already, or out of descriptors
            limit.release()
            time.sleep(0.01)
            continue
        head = b""
        with contextlib.suppress(OSError):  # nothing there yet; or gone, as the thread will see
            head = sock.recv(8192, socket.MSG_DONTWAIT)
        # A probe is here in one piece, and its answer fits into the socket: no thread for that.
        reply = _liveness(head, pulses, live) if b"\r\n\r\n" in head else None
        if reply is None:
            threading.Thread(target=serve, args=(sock, head), daemon=True).start()
            continue
        limit.release()
        with sock, contextlib.suppress(OSError):
            sock.send(reply, socket.MSG_DONTWAIT)


def _end_with(parent: socket.socket) -> None:
    try:
        parent.recv(1)
    finally:
        os._exit(0)


def _serve(
    sock: socket.socket, head: bytes, pulses: SharedPulses, live: frozenset[str], upstream: int
) -> None:
    while b"\r\n\r\n" not in head and len(head) < 8192:
        data = sock.recv(8192)
        if not data:
            return
        head += data
    reply = _liveness(head, pulses, live)
    if reply is None:
        _pass_on(sock, head, upstream)
    else:
        sock.sendall(reply)


def _liveness(head: bytes, pulses: SharedPulses, live: frozenset[str]) -> bytes | None:
    """The response when ``head`` asks for liveness."""
    request = parsed(head)
    if request is None or request.path not in live:
        return None
    now = time.monotonic()  # the same clock in every process of the machine
    against = [why for each in pulses.read() if (why := each.against(now)) is not None]
    reply = refused(request.method) or render(
        "live",
        judge((), against),
        query=request.query,
        accept=request.fields.get("accept", ""),
    )
    return wire(reply, request.method)


def _pass_on(sock: socket.socket, head: bytes, upstream: int) -> None:
    with socket.create_connection(("127.0.0.1", upstream), timeout=1.0) as behind:
        behind.settimeout(120.0)  # checks have their own times
        behind.sendall(head)
        while data := behind.recv(65536):
            sock.sendall(data)
    # Let the client close first: closing on unread data would reset the connection and with it
    # destroy the response (RFC 9112, section 9.6).
    sock.shutdown(socket.SHUT_WR)
    while sock.recv(65536):
        pass
