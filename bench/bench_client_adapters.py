"""What each client adapter adds to a call, beside the bare client and wrapped peers.

Run as ``python bench/bench_client_adapters.py``. The servers run in a process of their own, on
loopback; each row is one keep-alive connection. What is counted is the client process's own time on
the processor, all of its threads together: how long a call takes is up to network and server. Rows of
one client take turns, so that a change of the machine's load meets all of them.
"""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import socket
import statistics
import time
from concurrent import futures

import aiohttp
import grpc
import httpx
import requests
from harness import table

from hastack import ratelimit
from hastack.contrib import grpc_aio
from hastack.contrib.aiohttp import guarded
from hastack.contrib.grpc import context_channel
from hastack.contrib.httpx import AsyncGuardedTransport, GuardedTransport
from hastack.contrib.requests import GuardedAdapter

ANSWER = b'HTTP/1.1 200 OK\r\nRateLimit: "a";r=1000000;t=1\r\nContent-Length: 2\r\n\r\nok'
CALLS, ROUNDS = 100, 7


class _Answers(asyncio.Protocol):
    def connection_made(self, transport):
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.transport = transport

    def data_received(self, data):
        self.transport.write(ANSWER * data.count(b"\r\n\r\n"))


class _Echo(grpc.GenericRpcHandler):
    def service(self, details):
        return grpc.unary_unary_rpc_method_handler(lambda request, _: request)


def serve(ports):
    """Both servers, until the process is ended."""

    async def main():
        server = await asyncio.get_running_loop().create_server(_Answers, "127.0.0.1", 0)
        echo = grpc.server(futures.ThreadPoolExecutor(4))
        echo.add_generic_rpc_handlers((_Echo(),))
        ports.send((server.sockets[0].getsockname()[1], echo.add_insecure_port("127.0.0.1:0")))
        echo.start()
        await server.serve_forever()

    asyncio.run(main())


def rules(*, obey=True):
    """Limits that the server says, a breaker and a deadline; retries within a budget."""
    guards = [ratelimit.ServerLimits()] if obey else []
    guards += [ratelimit.CircuitBreaker(), ratelimit.Timeout(10.0)]
    retry = ratelimit.Retry(3, budget=ratelimit.RetryBudget())
    return {"guard": ratelimit.compose(*guards), "retry": retry}


def wrapped(call):
    """``call`` behind pybreaker inside tenacity, as services do by hand."""
    try:
        import pybreaker
        import tenacity
    except ImportError:
        print("tenacity or pybreaker is not installed")
        return None
    breaker = pybreaker.CircuitBreaker(fail_max=5)
    return tenacity.retry(stop=tenacity.stop_after_attempt(3))(lambda: breaker.call(call))


def wrapped_async(call):
    """The same without pybreaker, which has no asyncio."""
    try:
        import tenacity
    except ImportError:
        return None
    return tenacity.retry(stop=tenacity.stop_after_attempt(3))(call)


def compare(rows):
    """Microseconds on the processor per call; the rows take turns."""
    rows = {name: call for name, call in rows.items() if call is not None}
    costs = {name: [] for name in rows}
    for _ in range(ROUNDS):
        for name, call in rows.items():
            gc.collect()
            start = time.process_time_ns()
            for _ in range(CALLS):
                call()
            costs[name].append((time.process_time_ns() - start) / CALLS / 1000)
    return {name: statistics.median(found) for name, found in costs.items()}


async def compare_async(rows):
    rows = {name: call for name, call in rows.items() if call is not None}
    costs = {name: [] for name in rows}
    for _ in range(ROUNDS):
        for name, call in rows.items():
            gc.collect()
            start = time.process_time_ns()
            for _ in range(CALLS):
                await call()
            costs[name].append((time.process_time_ns() - start) / CALLS / 1000)
    return {name: statistics.median(found) for name, found in costs.items()}


def sync_http(url):
    inner = httpx.HTTPTransport(verify=False)
    bare = httpx.Client(transport=inner)
    ours = httpx.Client(transport=GuardedTransport(httpx.HTTPTransport(verify=False), **rules()))
    found = compare({
        "httpx": lambda: bare.get(url),
        "hastack": lambda: ours.get(url),
        "tenacity + pybreaker": wrapped(lambda: bare.get(url)),
    })  # fmt: skip
    table("httpx: one request", found, base="httpx", unit="us")
    plain, mounted = requests.Session(), requests.Session()
    plain.trust_env = mounted.trust_env = False
    mounted.mount("http://", GuardedAdapter(**rules()))
    found = compare({
        "requests": lambda: plain.get(url),
        "hastack": lambda: mounted.get(url),
        "tenacity + pybreaker": wrapped(lambda: plain.get(url)),
    })  # fmt: skip
    table("requests: one request", found, base="requests", unit="us")


async def async_http(url):
    inner = httpx.AsyncHTTPTransport(verify=False)
    ours = AsyncGuardedTransport(httpx.AsyncHTTPTransport(verify=False), **rules())
    async with httpx.AsyncClient(transport=inner) as bare, httpx.AsyncClient(transport=ours) as us:
        found = await compare_async({
            "httpx": lambda: bare.get(url),
            "hastack": lambda: us.get(url),
            "tenacity": wrapped_async(lambda: bare.get(url)),
        })  # fmt: skip
    table("httpx, asyncio: one request", found, base="httpx", unit="us")

    async def get(session):
        async with session.get(url) as answer:
            return await answer.read()

    async with (
        aiohttp.ClientSession() as bare,
        aiohttp.ClientSession(middlewares=[guarded(**rules())]) as us,
    ):
        found = await compare_async({
            "aiohttp": lambda: get(bare),
            "hastack": lambda: get(us),
            "tenacity": wrapped_async(lambda: get(bare)),
        })  # fmt: skip
    table("aiohttp: one request", found, base="aiohttp", unit="us")


def sync_grpc(port):
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        bare = channel.unary_unary("/a/b")
        following = context_channel(channel).unary_unary("/a/b")
        ours = context_channel(channel, **rules(obey=False)).unary_unary("/a/b")
        found = compare({
            "grpc": lambda: bare(b"x"),
            "hastack, context only": lambda: following(b"x"),
            "hastack": lambda: ours(b"x"),
            "tenacity + pybreaker": wrapped(lambda: bare(b"x")),
        })  # fmt: skip
    table("gRPC: one unary call", found, base="grpc", unit="us")


async def async_grpc(port):
    target = f"127.0.0.1:{port}"
    ours = grpc_aio.client_interceptors(**rules(obey=False))
    context_only = grpc_aio.client_interceptors()
    async with (
        grpc.aio.insecure_channel(target) as bare,
        grpc.aio.insecure_channel(target, interceptors=context_only) as following,
        grpc.aio.insecure_channel(target, interceptors=ours) as us,
    ):
        calls = [channel.unary_unary("/a/b") for channel in (bare, following, us)]

        async def ask(call):
            return await call(b"x")

        found = await compare_async({
            "grpc.aio": lambda: ask(calls[0]),
            "hastack, context only": lambda: ask(calls[1]),
            "hastack": lambda: ask(calls[2]),
            "tenacity": wrapped_async(lambda: ask(calls[0])),
        })  # fmt: skip
    table("gRPC, asyncio: one unary call", found, base="grpc.aio", unit="us")


def main():
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs,), daemon=True)
    server.start()
    try:
        http, echo = ours.recv()
        url = f"http://127.0.0.1:{http}/"
        sync_http(url)
        asyncio.run(async_http(url))
        sync_grpc(echo)
        asyncio.run(async_grpc(echo))
    finally:
        server.kill()
        server.join()


if __name__ == "__main__":
    main()
