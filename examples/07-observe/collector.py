"""Stands in for a collector: counts requests by signal, and is down when told."""

from __future__ import annotations

import gzip
import re
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Collector:
    def __init__(self) -> None:
        self.down = False
        self.requests: Counter[str] = Counter()
        self.bodies: list[bytes] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if not outer.down:
                    outer.requests[self.path] += 1
                    outer.bodies.append(gzip.decompress(body))
                self.send_response(503 if outer.down else 200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def orders(self) -> list[int]:
        """The numbers of the orders whose spans arrived."""
        return [int(n) for body in self.bodies for n in re.findall(rb"order-(\d{4})", body)]
