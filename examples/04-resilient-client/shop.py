"""An unreliable price service on loopback, for the example to talk to."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class Shop(ThreadingHTTPServer):
    """Answers as its mood says; counts what reaches it."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.requests = 0
        self.mood: list[str] = []  # what happens to the next requests: "busy", "slow"
        self.down = False
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def next_mood(self) -> str:
        with self.lock:
            self.requests += 1
            if self.down:
                return "busy"
            return self.mood.pop(0) if self.mood else "fine"


class _Handler(BaseHTTPRequestHandler):
    server: Shop

    def do_GET(self) -> None:
        mood = self.server.next_mood()
        if mood == "slow":
            time.sleep(1.0)
        body = b"busy" if mood == "busy" else b"3.20"
        try:
            self.send_response(503 if mood == "busy" else 200)
            if mood == "busy":
                self.send_header("Retry-After", "0")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        except OSError:
            pass  # the client did not want to wait any longer

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class's name
        pass


@contextmanager
def shop() -> Iterator[Shop]:
    server = Shop()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
