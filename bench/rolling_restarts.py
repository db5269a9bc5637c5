"""Restart the backends behind a real nginx again and again under load, and count what fails.

Two backends; one at a time gets SIGTERM, is waited for, and is started anew. The driver does
what Kubernetes does: it probes readiness, takes a backend that is not ready out of the balancer
(new upstream list, ``nginx -s reload``) and puts it back when it is ready. nginx never retries
(``proxy_next_upstream off``, ``max_fails=0``), so each request that a backend loses is seen.
Arrivals are open-loop: they do not wait for answers.

usage: rolling_restarts.py [--restarts 200] [--rps 300] [--kind hastack|bare|both] [--limit 900]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

SERVICE = Path(__file__).with_name("rolling_service.py")
NGINX = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")

CONFIG = """\
{user}
worker_processes 1;
daemon off;
pid {home}/nginx.pid;
error_log {home}/error.log warn;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    client_body_temp_path {home}/body;
    proxy_temp_path {home}/proxy;
    fastcgi_temp_path {home}/fastcgi;
    uwsgi_temp_path {home}/uwsgi;
    scgi_temp_path {home}/scgi;
    upstream backends {{
{servers}
        keepalive 32;
        keepalive_timeout 3s;  # shorter than the backend's own 5 s
    }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location / {{
            proxy_pass http://backends;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_next_upstream off;
            proxy_connect_timeout 2s;
            proxy_read_timeout 5s;
        }}
    }}
}}
"""


def free_ports(count: int) -> list[int]:
    socks = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in socks]
    for each in socks:
        each.close()
    return ports


async def get(port: int, path: str) -> int:
    """Status of one GET on a connection of its own."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n".encode())
        answer = await reader.read()
        return int(answer.split(b" ", 2)[1])
    finally:
        writer.close()


class Rig:
    """nginx and two backends."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.home = Path(tempfile.mkdtemp(prefix="rolling-"))
        self.port, *self.backends = free_ports(3)
        self.active = list(self.backends)
        self.processes: dict[int, subprocess.Popen[bytes]] = {}
        self.nginx: subprocess.Popen[bytes] | None = None
        self.exit_codes: Counter[int] = Counter()

    def configure(self) -> Path:
        servers = "\n".join(f"        server 127.0.0.1:{each} max_fails=0;" for each in self.active)
        user = "user root;" if os.geteuid() == 0 else ""
        text = CONFIG.format(home=self.home, servers=servers, port=self.port, user=user)
        path = self.home / "nginx.conf"
        path.write_text(text)
        return path

    async def start(self) -> None:
        for port in self.backends:
            self.spawn(port)
        for port in self.backends:
            await self.until_ready(port)
        assert NGINX is not None
        arguments = [NGINX, "-p", str(self.home), "-c", str(self.configure())]
        arguments += ["-e", str(self.home / "error.log")]
        self.nginx = self.run(arguments)
        await self.until(lambda: get(self.port, "/"), "nginx to answer")

    @staticmethod
    def run(arguments: list[str]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(arguments)

    def spawn(self, port: int) -> None:
        self.processes[port] = subprocess.Popen(
            [sys.executable, str(SERVICE), str(port), self.kind]
        )

    async def until_ready(self, port: int) -> None:
        await self.until(lambda: get(port, "/readyz"), f"backend {port} to be ready")

    async def until(self, ask, what: str) -> None:
        end = time.monotonic() + 20.0
        while time.monotonic() < end:
            try:
                if await ask() == 200:
                    return
            except (OSError, IndexError, ValueError):
                pass
            await asyncio.sleep(0.02)
        raise TimeoutError(f"waited 20 s for {what}")

    async def until_not_ready(self, port: int) -> None:
        """Probe like a kubelet with a period of 50 ms and a threshold of one."""
        while True:
            try:
                if await get(port, "/readyz") != 200:
                    return
            except (OSError, IndexError, ValueError):
                return
            await asyncio.sleep(0.05)

    def route(self, active: list[int]) -> None:
        self.active = active
        self.configure()
        assert self.nginx is not None
        self.nginx.send_signal(signal.SIGHUP)

    async def restart(self, port: int) -> None:
        process = self.processes[port]
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(20.0):
            await self.until_not_ready(port)
        self.route([each for each in self.backends if each != port])
        self.exit_codes[await asyncio.to_thread(process.wait, 20.0)] += 1
        self.spawn(port)
        await self.until_ready(port)
        self.route(list(self.backends))
        await asyncio.sleep(0.2)  # the reload takes effect

    def stop(self) -> None:
        for process in [*self.processes.values(), *([self.nginx] if self.nginx else [])]:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in [*self.processes.values(), *([self.nginx] if self.nginx else [])]:
            try:
                process.wait(10.0)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(self.home, ignore_errors=True)


class Load:
    """Requests at fixed times, whatever the answers do."""

    def __init__(self, port: int, rps: float) -> None:
        self.port = port
        self.rps = rps
        self.sent = 0
        self.failed: Counter[str] = Counter()
        self.latencies: list[float] = []
        self.on = True
        self.flying: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        begin = time.monotonic()
        while self.on:
            due = begin + self.sent / self.rps
            pause = due - time.monotonic()
            if pause > 0:
                await asyncio.sleep(pause)
            self.sent += 1
            task = asyncio.create_task(self.one(due))
            self.flying.add(task)
            task.add_done_callback(self.flying.discard)
        if self.flying:
            await asyncio.wait(list(self.flying), timeout=10.0)

    async def one(self, due: float) -> None:
        try:
            async with asyncio.timeout(8.0):
                status = await get(self.port, "/work")
        except (OSError, IndexError, ValueError, TimeoutError) as error:
            self.failed[type(error).__name__] += 1
            return
        if status == 200:
            self.latencies.append(time.monotonic() - due)
        else:
            self.failed[str(status)] += 1


async def roll(kind: str, restarts: int, rps: float, limit: float, show=str) -> dict:
    """Roll ``restarts`` times under ``rps``; what happened, as data."""
    rig = Rig(kind)
    begin = time.monotonic()
    done = 0
    try:
        await rig.start()
        load = Load(rig.port, rps)
        driving = asyncio.create_task(load.run())
        while done < restarts and time.monotonic() - begin < limit:
            await rig.restart(rig.backends[done % len(rig.backends)])
            done += 1
            if done % 20 == 0:
                show(f"{kind}: {done} restarts, {load.sent} requests, failed {dict(load.failed)}")
        load.on = False
        await driving
    finally:
        rig.stop()
    cuts = statistics.quantiles(load.latencies, n=100)
    return {
        "kind": kind,
        "restarts": done,
        "seconds": round(time.monotonic() - begin, 1),
        "requests": load.sent,
        "failed": sum(load.failed.values()),
        "how": dict(load.failed),
        "p50_ms": round(cuts[49] * 1000, 1),
        "p99_ms": round(cuts[98] * 1000, 1),
        "exit_codes": dict(rig.exit_codes),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--restarts", type=int, default=200)
    parser.add_argument("--rps", type=float, default=300.0)
    parser.add_argument("--kind", choices=["hastack", "bare", "both"], default="both")
    parser.add_argument("--limit", type=float, default=900.0, help="seconds per kind")
    options = parser.parse_args()
    if NGINX is None:
        raise SystemExit("nginx is not installed (Debian: apt-get install nginx-light)")
    kinds = ["hastack", "bare"] if options.kind == "both" else [options.kind]
    results = []
    for kind in kinds:
        # What is lost without a lame duck shows after a few restarts.
        count = options.restarts if kind == "hastack" else min(options.restarts, 20)
        rolling = roll(kind, count, options.rps, options.limit, show=lambda t: print(t, flush=True))
        results.append(asyncio.run(rolling))
    print(f"\nPython {sys.version.split()[0]}, {options.rps:g} requests/s through nginx\n")
    print("| backend | restarts | requests | failed | P50 ms | P99 ms | exit codes |")
    print("|---|---:|---:|---:|---:|---:|---|")
    for each in results:
        print(
            f"| {each['kind']} | {each['restarts']} | {each['requests']:,} | {each['failed']} "
            f"{each['how'] or ''} | {each['p50_ms']} | {each['p99_ms']} | {each['exit_codes']} |"
        )


if __name__ == "__main__":
    main()
