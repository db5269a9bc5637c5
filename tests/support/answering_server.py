"""A real HTTP server on loopback that answers as each test says, byte by byte if it wants."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager


def response(status=200, body=b"ok", **headers):
    """The bytes of an answer."""
    lines = [f"HTTP/1.1 {status} X"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


CUT = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf of it"
"""An answer that promises more than comes before the connection ends."""


class Request:
    def __init__(self, head, body):
        first, *lines = head.decode("latin-1").split("\r\n")
        self.method, self.path, _ = first.split(" ", 2)
        pairs = [line.split(": ", 1) for line in lines if line]
        self.headers = {name.lower(): value for name, value in pairs}
        self.body = body


class AnsweringServer:
    """Each request goes to ``answer(request) -> bytes``; a cut answer ends its connection.

    ``answer`` may return ``None``: then nothing is ever said.
    """

    def __init__(self, answer):
        self.answer = answer
        self.requests = []
        self._sockets = set()
        self._threads = []
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._start(self._accept)

    def _start(self, target, *args):
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self._sockets.add(connection)
            self._start(self._serve, connection)

    def _serve(self, connection):
        try:
            with connection, connection.makefile("rb") as reader:
                while self._one(connection, reader):
                    pass
        except (OSError, ValueError):
            pass
        with self._lock:
            self._sockets.discard(connection)

    def _one(self, connection, reader):
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            line = reader.readline()
            if not line:
                return False
            head += line
        request = Request(head[:-4], b"")
        if request.headers.get("transfer-encoding") == "chunked":
            while size := int(reader.readline().strip() or b"0", 16):
                request.body += reader.read(size)
                reader.readline()
            reader.readline()
        else:
            request.body = reader.read(int(request.headers.get("content-length", 0)))
        with self._lock:
            self.requests.append(request)
        answer = self.answer(request)
        if answer is None:
            return bool(reader.read(1))  # until the client gives up
        connection.sendall(answer)
        return answer is not CUT

    def close(self):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            sockets = list(self._sockets)
        for each in sockets:
            try:
                each.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        for thread in self._threads:
            thread.join(20.0)


@contextmanager
def answering(answer):
    """A server that is closed with the block; ``answer`` is a function or a list of answers."""
    if not callable(answer):
        answers = iter(answer)
        server = AnsweringServer(lambda request: next(answers))
    else:
        server = AnsweringServer(answer)
    try:
        yield server
    finally:
        server.close()


def unused_port():
    """A bound port on which nobody listens, and the socket that keeps it."""
    held = socket.socket()
    held.bind(("127.0.0.1", 0))
    return held, held.getsockname()[1]
