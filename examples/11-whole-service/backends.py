"""What the shop needs around it: a store to register in, and who takes its telemetry.

The embedded store and a collector of a few lines by default; with ``--real``, etcd and Prometheus.

usage: backends.py memory:///FILE    owns the embedded store, and does nothing else
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

from hastack import discovery
from hastack.lifecycle import Lifecycle

if TYPE_CHECKING:
    from pathlib import Path


class Collector:
    """Stands in for an OTLP collector: counts what arrives by signal, and is away when told."""

    def __init__(self) -> None:
        self.away = False
        self.requests: Counter[str] = Counter()  # "traces", "metrics", "logs"
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                if not outer.away:
                    outer.requests[self.path.rpartition("/")[2]] += 1
                self.send_response(503 if outer.away else 200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None:
                pass  # a client was killed in the middle of it

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


class Program:
    """A process of somebody else's program, started until it answers, on ports it may have."""

    ask = "/"  # what it answers when it is up

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = 0
        self.process: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str]:
        raise NotImplementedError

    def start(self) -> None:
        for _ in range(5):  # somebody else may take a port between the look and the start
            self.port = self.port or free_port()
            with (self.folder / f"{type(self).__name__.lower()}.log").open("ab") as log:
                self.process = subprocess.Popen(self.command(), stdout=log, stderr=log)
            if self.answers(self.process):
                return
            self.stop()
            self.port = 0
        raise RuntimeError(f"{self.command()[0]} did not start")

    def answers(self, process: subprocess.Popen[bytes]) -> bool:
        end = time.monotonic() + 60.0
        while process.poll() is None and time.monotonic() < end:
            with contextlib.suppress(OSError):
                url = f"http://127.0.0.1:{self.port}{self.ask}"
                urllib.request.urlopen(url, timeout=5.0).close()
                return True
            time.sleep(0.05)
        return False

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


class Etcd(Program):
    """A real store. Lost and back: it keeps what it had, but leases may have ended."""

    ask = "/health"
    lost = "killed, and started again with its data"

    @property
    def url(self) -> str:
        return f"etcd://127.0.0.1:{self.port}"

    def command(self) -> list[str]:
        clients, peers = f"http://127.0.0.1:{self.port}", f"http://127.0.0.1:{free_port()}"
        return [
            *("etcd", "--data-dir", str(self.folder / "etcd"), "--log-level", "error"),
            *("--listen-client-urls", clients, "--advertise-client-urls", clients),
            *("--listen-peer-urls", peers, "--initial-advertise-peer-urls", peers),
            *("--initial-cluster", f"default={peers}"),
            *("--heartbeat-interval", "20", "--election-timeout", "100"),  # it is alone
        ]

    def lose(self) -> None:
        self.stop()

    def bring_back(self) -> None:
        self.start()


class Embedded:
    """The embedded store, owned by a process that does nothing else, so that it can be killed."""

    lost = "its owner killed: another process took over, and all registered anew"

    def __init__(self, folder: Path) -> None:
        self.socket = folder / "store.sock"
        self.url = f"memory://{folder}/store"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.process = subprocess.Popen([sys.executable, __file__, self.url])
        end = time.monotonic() + 60.0
        while not self.socket.exists():
            if self.process.poll() is not None or time.monotonic() > end:
                raise RuntimeError("the owner of the store did not start")
            time.sleep(0.02)

    def lose(self) -> None:
        self.stop()

    def bring_back(self) -> None:
        """Nobody has to: the processes that share it see to that."""

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


class Prometheus(Program):
    """Takes the metrics by remote write."""

    ask = "/-/ready"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def command(self) -> list[str]:
        (self.folder / "prometheus.yml").write_text("global: {}\n")
        return [
            *("prometheus", f"--config.file={self.folder}/prometheus.yml"),
            *(
                f"--storage.tsdb.path={self.folder}/prometheus",
                "--web.enable-remote-write-receiver",
            ),
            f"--web.listen-address=127.0.0.1:{self.port}",
        ]

    def query(self, expression: str) -> float:
        """The one number that ``expression`` is; 0 when there is none yet."""
        asked = urllib.parse.urlencode({"query": expression})
        with urllib.request.urlopen(f"{self.url}/api/v1/query?{asked}", timeout=10.0) as answer:
            found = json.load(answer)["data"]["result"]
        return float(found[0]["value"][1]) if found else 0.0


def missing() -> list[str]:
    """What ``--real`` needs and this machine has not."""
    return [each for each in ("etcd", "prometheus") if shutil.which(each) is None]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


async def own(url: str) -> None:
    async with discovery.connect(url) as registry:
        await registry.services_async()  # whoever asks first owns it
        await Lifecycle("store", lame_duck=0.0).run_async()


if __name__ == "__main__":
    asyncio.run(own(sys.argv[1]))
