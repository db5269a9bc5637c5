"""A small program for each extra that uses what the extra is for; run in an environment with nothing else.

usage: extras_smoke.py EXTRA

An extra without a program here is imported only. Servers are bound to loopback, waits end.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.request import urlopen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def base() -> None:
    """Guards, a context, configuration, the embedded registry, without any extra."""
    from hastack import config, context, discovery, ratelimit

    guard = ratelimit.compose(ratelimit.Timeout(1.0), ratelimit.TokenBucket("10/s"))
    assert guard(lambda: 5)() == 5
    with context.timeout(1.0):
        assert (context.current().remaining() or 0.0) > 0.5
    assert config.load(env=None, override={"health": {"failures": 2}}).health.failures == 2

    async def registry() -> None:
        async with (
            discovery.connect("memory://smoke") as found,
            found.register("orders", "127.0.0.1:1"),
        ):
            assert (await found.resolve_async("orders")).instances

    asyncio.run(registry())


def compiled() -> None:
    """The same on compiled modules."""
    from hastack._core._accel import report
    from hastack.ebpf import _native  # type: ignore[attr-defined]  # built here only

    assert set(report().values()) == {"compiled"}, report()
    assert _native.lib
    base()


def cli() -> None:
    """The command, as a process."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "hastack.toml")
        path.write_text("[health]\nfailuers = 1\n", encoding="ascii")
        check = [sys.executable, "-m", "hastack", "config", "check", str(path)]
        done = subprocess.run(check, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 1, done.stderr
        assert "did you mean 'failures'?" in done.stdout
        subprocess.run([sys.executable, "-m", "hastack", "--help"], check=True, timeout=60)


def web() -> None:
    """A Starlette application behind a limit, served by uvicorn."""
    import uvicorn
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route

    from hastack import ratelimit
    from hastack.contrib.asgi import ContextMiddleware, GuardMiddleware

    @ratelimit.TokenBucket("100/s")
    async def hello(_: object) -> PlainTextResponse:
        return PlainTextResponse("served")

    app: Any = Starlette(routes=[Route("/", hello)])
    app = GuardMiddleware(ContextMiddleware(app))
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        until = 30.0
        while not server.started and until > 0.0:
            threading.Event().wait(0.05)
            until -= 0.05
        port = server.servers[0].sockets[0].getsockname()[1]
        with urlopen(f"http://127.0.0.1:{port}/", timeout=10.0) as reply:
            assert reply.read() == b"served"
    finally:
        server.should_exit = True
        thread.join(30.0)


def grpc() -> None:
    """A server with a guard that says how it is, and a client with a deadline."""
    from concurrent.futures import ThreadPoolExecutor

    import grpc as library
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    from hastack import context
    from hastack.contrib.grpc import ServerContext, context_channel
    from hastack.contrib.grpc_health import add_health
    from hastack.health import Health

    server = library.server(ThreadPoolExecutor(2), interceptors=[ServerContext()])
    add_health(server, Health())
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        channel = context_channel(library.insecure_channel(f"127.0.0.1:{port}"))
        with channel, context.timeout(10.0):
            health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
    finally:
        server.stop(1.0).wait(10.0)


def anyio() -> None:
    """A deadline that a shield respects."""
    import anyio as library

    from hastack.contrib.anyio import fail_after, sleep

    async def main() -> None:
        try:
            with fail_after(0.02):
                await sleep(10.0)
        except TimeoutError:
            return
        raise AssertionError("the deadline did not end the sleep")

    library.run(main)


def etcd() -> None:
    """A client whose cluster is away says so within its time."""
    from hastack.discovery import etcd as library
    from hastack.errors import HastackError

    async def main() -> None:
        async with library.connect("etcd://127.0.0.1:1") as client:
            try:
                await client.get("key", timeout=1.0)
            except HastackError:
                return
        raise AssertionError("nobody is there, and a key was found")

    asyncio.run(main())


class _Taker(BaseHTTPRequestHandler):
    """Answers everything with 200 and nothing."""

    taken = 0

    def do_POST(self) -> None:
        """Take what is sent."""
        self.rfile.read(int(self.headers["content-length"]))
        type(self).taken += 1
        self.do_GET()

    def do_GET(self) -> None:
        """Nothing, well received."""
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def _http() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Taker)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def otel() -> None:
    """A span, a counter and a log record to a collector."""
    import logging

    from hastack import observe

    with _http() as address:
        backend = observe.BackendConfig(endpoint=f"http://{address}")
        settings = observe.ObserveConfig(service="smoke", backends={"collector": backend})
        with observe.install(settings) as installed:
            installed.tracer_provider.get_tracer("smoke").start_span("order").end()
            logging.getLogger("smoke").warning("a record")
            assert installed.force_flush(30.0)
        assert _Taker.taken >= 3, _Taker.taken


def logs() -> None:
    """A line to a record, and the schema of some."""
    from hastack.observe import logs as library

    line = '10.0.0.1 - - [01/Jan/2026:00:00:00 +0000] "GET /a HTTP/1.1" 200 12 "-" "curl/8"'
    record = library.parse(line)
    assert record is not None
    assert library.infer([line] * 10)


def arrow() -> None:
    """Columns to a file of Parquet and back."""
    import pyarrow as pa
    from pyarrow import parquet

    with tempfile.TemporaryDirectory() as folder:
        parquet.write_table(pa.table({"status": [200, 404]}), f"{folder}/x.parquet")
        assert parquet.read_table(f"{folder}/x.parquet").num_rows == 2


def httpx() -> None:
    """A balanced request."""
    import httpx as library

    from hastack.contrib.httpx import BalancedTransport
    from hastack.discovery.balance import Balancer

    with _http() as address:
        balancer = Balancer("orders")
        _fill(balancer, address)
        with library.Client(transport=BalancedTransport(balancer)) as client:
            assert client.get("http://orders/").status_code == 200


def _fill(balancer: Any, address: str) -> None:
    from hastack.discovery import Instance

    balancer.update([Instance(service="orders", id="a", address=address)])


def aiohttp() -> None:
    """A balanced request, in a loop."""
    import aiohttp as library

    from hastack.contrib.aiohttp import balanced
    from hastack.discovery.balance import Balancer

    async def main(address: str) -> None:
        balancer = Balancer("orders")
        _fill(balancer, address)
        async with (
            library.ClientSession(middlewares=[balanced(balancer)]) as session,
            session.get("http://orders/") as reply,
        ):
            assert reply.status == 200

    with _http() as address:
        asyncio.run(main(address))


def flask() -> None:
    """A view with a limit, allowed and refused."""
    import flask as library

    from hastack import ratelimit
    from hastack.contrib.flask import limit

    app = library.Flask("smoke")
    app.add_url_rule("/", view_func=limit(ratelimit.TokenBucket("1/h"))(lambda: "hello"))
    client = app.test_client()
    assert [client.get("/").status_code for _ in range(2)] == [200, 429]


def django() -> None:
    """A view with a limit, allowed and refused."""
    from django.conf import settings
    from django.http import HttpResponse
    from django.test import RequestFactory

    from hastack import ratelimit
    from hastack.contrib.django import limit

    settings.configure()
    view = limit(ratelimit.TokenBucket("1/h"))(lambda _: HttpResponse("hello"))
    request = RequestFactory().get("/")
    assert [view(request).status_code for _ in range(2)] == [200, 429]


def ebpf() -> None:
    """The kernel is asked, and types are read; what it refuses, it refuses with a reason."""
    from hastack.ebpf import features

    assert all(each or each.reason for each in features.survey())
    assert features.check("libbpf").reason


def wasm() -> None:
    """A module is compiled, limited and called."""
    from hastack import wasm as library

    code = library.wat(
        '(module (memory (export "memory") 1) (func (export "add") (param i32 i32) (result i32)'
        " (i32.add (local.get 0) (local.get 1))))"
    )
    plugin = library.load(code, trust=library.Unsigned())
    assert plugin.call("add", 2, 3) == 5


PROGRAMS: dict[str, Callable[[], None]] = {
    each.__name__: each
    for each in (
        *(base, compiled, cli, web, grpc, anyio, etcd, otel, logs, arrow, httpx, aiohttp),
        *(flask, django, ebpf, wasm),
    )
}


def main() -> None:
    """Run the program of one extra; ``all`` runs every one."""
    extra = sys.argv[1]
    if extra == "all":
        for name, program in PROGRAMS.items():
            if name != "compiled":
                program()
    elif extra in PROGRAMS:
        PROGRAMS[extra]()


if __name__ == "__main__":
    main()
