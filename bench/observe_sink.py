"""An OTLP/HTTP server in a process of its own: counts spans as fast as they come.

Run by ``bench_observe_pipeline.py``: prints its port, then answers commands on standard input, one
JSON line each: ``state``, ``down`` (503 to everything), ``up``, ``hole`` (no answers), ``quit``.
"""

from __future__ import annotations

import gzip
import json
import re
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

# A span's name as bench_observe_pipeline.py gives it: the service, and the number of the span.
NAME = re.compile(rb"\x2a.(svc\d)-(\d{8})")


class Sink:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.mode = "up"
        self.bytes = self.requests = self.refused = 0
        self.seen: dict[str, list[int]] = {}
        self.stop = threading.Event()

    def take(self, body: bytes) -> None:
        numbers: dict[str, list[int]] = {}
        for service, number in NAME.findall(body):
            numbers.setdefault(service.decode(), []).append(int(number))
        with self.lock:
            self.requests += 1
            self.bytes += len(body)
            for service, found in numbers.items():
                self.seen.setdefault(service, []).extend(found)

    def state(self) -> dict[str, object]:
        with self.lock:
            services = {
                name: {
                    "spans": len(found),
                    "once": len(set(found)) == len(found),
                    "in order": found == sorted(found),
                    "complete": sorted(set(found)) == list(range(len(set(found)))),
                }
                for name, found in sorted(self.seen.items())
            }
            return {
                "spans": sum(len(found) for found in self.seen.values()),
                "requests": self.requests,
                "refused": self.refused,
                "bytes": self.bytes,
                "services": services,
            }


def handler(sink: Sink) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if sink.mode == "hole":
                sink.stop.wait(120)
                return
            if sink.mode == "down":
                sink.refused += 1
                self.send_response(503)
            else:
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                sink.take(body)
                self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    return Handler


def main() -> None:
    sink = Sink()
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler(sink))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_port, flush=True)
    for line in sys.stdin:
        command = line.strip()
        if command == "quit":
            break
        if command == "reset":
            with sink.lock:
                sink.seen, sink.bytes, sink.requests, sink.refused = {}, 0, 0, 0
        elif command != "state":
            sink.mode = command
        print(json.dumps(sink.state()), flush=True)
    sink.stop.set()


if __name__ == "__main__":
    main()
