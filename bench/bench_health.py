"""How long probes wait while the application is busy: the health server and its alternatives.

The service runs in a process of its own; this one probes it over loopback, one new connection
per probe, and prints quantiles.

usage: bench_health.py [--probes 400] [--real-time]
"""

from __future__ import annotations

import argparse
import os
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path

from harness import ns_per_call, table

SERVICE = """
import asyncio, sys, threading, time
from hastack.contrib.asgi import HealthMiddleware
from hastack.contrib.health_server import HealthServer
from hastack.health import Health

health = Health()
load, host = sys.argv[1:]
switch = None if host == "thread-5ms" else 0.0005

async def nothing(scope, receive, send): ...

async def chatter():  # a loop that is never idle: many small callbacks
    while True:
        await asyncio.sleep(0)

def crunch(seconds):  # a handler that computes
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        sum(range(200))

async def cruncher():
    while True:
        crunch(0.05)
        await asyncio.sleep(0)

async def main():
    health.watch_loop()
    if host.startswith("thread"):
        process = host == "thread-process"
        server = HealthServer(health, port=0, switch_interval=switch, process=process)
        server.start()
        port = server.port
    else:
        import uvicorn
        config = uvicorn.Config(HealthMiddleware(nothing, health=health), port=0,
                                log_level="error", lifespan="off")
        uv = uvicorn.Server(config)
        serving = asyncio.create_task(uv.serve())
        while not uv.started:
            await asyncio.sleep(0.01)
        port = uv.servers[0].sockets[0].getsockname()[1]
    print(port, flush=True)
    if load == "chatter":
        await asyncio.gather(*(chatter() for _ in range(50)))
    elif load == "crunch":
        await cruncher()
    await asyncio.sleep(3600)

asyncio.run(main())
"""


def probe(port: int) -> float:
    begin = time.perf_counter()
    with socket.create_connection(("127.0.0.1", port), timeout=10.0) as sock:
        sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        head = sock.recv(4096)
    assert head.startswith(b"HTTP/1.1 200"), head
    return time.perf_counter() - begin


def measure(load: str, host: str, probes: int) -> tuple[float, float, float]:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1] / "src")}
    service = subprocess.Popen(
        [sys.executable, "-c", SERVICE, load, host], stdout=subprocess.PIPE, env=environment
    )
    try:
        port = int(service.stdout.readline())
        time.sleep(1.0)
        times = []
        stop = time.monotonic() + 6.0
        while len(times) < probes and time.monotonic() < stop:
            times.append(probe(port) * 1000)
            time.sleep(0.005)
    finally:
        service.kill()
        service.wait()
        service.stdout.close()
    cuts = statistics.quantiles(times, n=100)
    return cuts[49], cuts[98], max(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--probes", type=int, default=400)
    parser.add_argument(
        "--real-time", action="store_true", help="keep other work out (needs privileges)"
    )
    options = parser.parse_args()
    if options.real_time:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    print(f"\n### /healthz while the event loop is busy, Python {sys.version.split()[0]}\n")
    print("| load on the loop | endpoint on | P50 ms | P99 ms | max ms |")
    print("|---|---|---:|---:|---:|")
    hosts = {
        "thread-process": "health_server",
        "thread": "health_server, process=False",
        "thread-5ms": "the same with Python's 5 ms switch interval",
        "uvicorn": "the application's own loop",
    }
    for load, what in {
        "idle": "none",
        "chatter": "50 tasks that are always ready",
        "crunch": "computes in slices of 50 ms",
    }.items():
        for host, name in hosts.items():
            p50, p99, worst = measure(load, host, options.probes)
            print(f"| {what} | {name} | {p50:.2f} | {p99:.2f} | {worst:.2f} |", flush=True)

    from hastack.health import Health

    health, empty = Health(), Health()
    for name in "abcdefgh":
        health.add_check(name, lambda: None, ttl=3600.0)
    health.heartbeat("worker", max_age=3600.0)
    health.readiness()
    rows = {
        "liveness(), 1 heartbeat": ns_per_call(health.liveness),
        "readiness(), no checks": ns_per_call(empty.readiness),
        "readiness(), 8 cached checks": ns_per_call(health.readiness, number=5000),
    }
    table("Verdicts from memory", rows, base="liveness(), 1 heartbeat")


if __name__ == "__main__":
    main()
