"""aiohttp's server: contexts, guard errors, limits."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import threading

import pytest
from structured_fields import read_list

pytest.importorskip("aiohttp")

import aiohttp
from aiohttp import web
from http_servers import WAIT, ask, eventually, serving_aiohttp

from hastack import context, ratelimit
from hastack.contrib.aiohttp import serve_contexts, serve_guard_errors, serve_rate_limits
from hastack.contrib.http_limits import Rule, TrustedProxies, by_client, by_route
from hastack.errors import Cancelled, CircuitOpen, RateLimited


def bucket(rate="2/min", **options):
    return ratelimit.TokenBucket(rate, **{"name": "api", **options})


async def hello(request):
    return web.Response(text="hello")


def app_with(*routes, rules=(), **options):
    def make():
        app = web.Application()
        if rules is not None:
            serve_rate_limits(app, rules=rules, **options)
        for path, handler in routes:
            app.router.add_route("*", path, handler)
        return app

    return make


def test_requests_are_limited_and_told_so():
    rules = [Rule(bucket(), key=by_route())]
    with serving_aiohttp(app_with(("/orders/{id}", hello), rules=rules)) as port:
        first = ask(port, "/orders/1")
        assert (first.status, first.body) == (200, b"hello")
        assert read_list(first["ratelimit-policy"]) == {"api": {"q": 2, "w": 60}}
        assert read_list(first["ratelimit"])["api"]["r"] == 1
        ask(port, "/orders/2")
        refused = ask(port, "/orders/3")
        assert refused.status == 429
        assert read_list(refused["ratelimit"])["api"]["t"] == int(refused["retry-after"])
        assert json.loads(refused.body)["violated-policies"] == ["api"]
        head = ask(port, "/orders/3", method="HEAD")
        assert (head.status, head.body) == (429, b"")
        missing = [ask(port, f"/{n}") for n in range(3)]  # one route: none
        assert [each.status for each in missing] == [404, 404, 429]
        assert "ratelimit" in missing[0]


def test_a_client_cannot_choose_who_it_is():
    for proxies, wanted in (
        (None, [200, 429, 429]),
        (TrustedProxies("127.0.0.1"), [200, 429, 200]),
    ):
        rules = [Rule(bucket("1/min"), key=by_client())]
        make = app_with(("/", hello), rules=rules, proxies=proxies, headers="legacy")
        with serving_aiohttp(make) as port:
            got = []
            for n in range(3):
                lies = [("X-Forwarded-For", "6.6.6.6"), ("X-Forwarded-For", f"203.0.113.{n // 2}")]
                got.append(ask(port, headers=lies))
            assert [each.status for each in got] == wanted
            assert got[0]["ratelimit-limit"] == "1"


def test_a_stream_holds_its_permit_to_the_last_byte():
    gate, guard = threading.Event(), ratelimit.ConcurrencyLimit(1, name="held")

    async def stream(request):
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"first")
        await asyncio.to_thread(gate.wait, WAIT)
        await response.write(b"last")
        return response

    with serving_aiohttp(app_with(("/", stream), rules=[Rule(guard)])) as port:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT)
        connection.request("GET", "/")
        response = connection.getresponse()
        assert read_list(response.getheader("ratelimit")) == {"held": {"r": 0}}
        assert response.read(5) == b"first"
        assert ask(port).status == 429
        gate.set()
        assert response.read() == b"last"
        connection.close()
        eventually(lambda: guard.in_flight() == 0)


def test_the_body_of_a_plain_response_counts_as_well():
    """A body that the client does not take: the handler has long returned."""
    guard = ratelimit.ConcurrencyLimit(1, name="held")
    returned = threading.Event()

    async def large(request):
        returned.set()
        return web.Response(body=b"x" * 64_000_000)

    with serving_aiohttp(app_with(("/", large), rules=[Rule(guard)])) as port:
        with socket.create_connection(("127.0.0.1", port), timeout=WAIT) as sock:
            sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert returned.wait(WAIT)
            sock.recv(1000)
            assert guard.in_flight() == 1
        eventually(lambda: guard.in_flight() == 0)


def test_whatever_a_handler_does_permits_come_back():
    guard = ratelimit.ConcurrencyLimit(1, name="held")
    breaker = ratelimit.CircuitBreaker(failure_rate=0.5, min_calls=3, name="db")

    async def missing(request):
        raise web.HTTPNotFound

    async def broken(request):
        raise RuntimeError("boom")

    async def socket_(request):
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        await ws.send_str(str(guard.in_flight()))
        await ws.close()
        return ws

    routes = [("/missing", missing), ("/broken", broken), ("/ws", socket_), ("/", hello)]
    rules = [Rule(guard), Rule(breaker)]

    async def main(port):
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(f"http://127.0.0.1:{port}/ws") as ws,
        ):
            assert await ws.receive_str() == "1"

    with serving_aiohttp(app_with(*routes, rules=rules)) as port:
        asyncio.run(main(port))
        eventually(lambda: guard.in_flight() == 0)
        for path, status in (("/missing", 404), ("/broken", 500), ("/missing", 404), ("/", 200)):
            assert ask(port, path).status == status
            eventually(lambda: guard.in_flight() == 0)
        assert breaker.snapshot().failures == 1
        for _ in range(4):
            last = ask(port, "/broken").status
            eventually(lambda: guard.in_flight() == 0)
        assert last == 503


def test_a_client_that_goes_away_ends_the_handler_and_its_context():
    guard = ratelimit.ConcurrencyLimit(1, name="held")
    entered, ended = threading.Event(), []

    async def slow(request):
        ctx = context.current()
        entered.set()
        try:
            await asyncio.sleep(WAIT)
        except asyncio.CancelledError:
            ended.append(ctx)
            raise

    def make():
        app = web.Application()
        serve_contexts(app)
        serve_rate_limits(app, rules=[Rule(guard)])
        app.router.add_get("/", slow)
        return app

    with serving_aiohttp(make) as port:
        with socket.create_connection(("127.0.0.1", port), timeout=WAIT) as sock:
            sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert entered.wait(WAIT)
        eventually(lambda: ended and guard.in_flight() == 0)
        eventually(lambda: isinstance(ended[0].err(), Cancelled))


def test_deadlines_come_in_from_headers_and_end_as_504():
    async def slow(request):
        assert context.current().remaining() < 10.0
        await asyncio.sleep(WAIT)

    async def started(request):
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"first")
        await asyncio.sleep(WAIT)

    async def cancelled(request):
        context.current().cancel()
        await asyncio.sleep(WAIT)

    def make():
        app = web.Application()
        serve_contexts(app, max_timeout=0.2)
        app.router.add_get("/", slow)
        app.router.add_get("/started", started)
        app.router.add_get("/cancelled", cancelled)
        return app

    with serving_aiohttp(make) as port:
        got = ask(port, headers=[("X-Request-Timeout-Ms", "50")])
        assert got.status == 504
        assert json.loads(got.body)["title"] == "Gateway Timeout"
        assert ask(port).status == 504
        assert ask(port, "/cancelled").status == 499
        # Too late for an answer of its own: the connection is cut.
        with pytest.raises((http.client.HTTPException, ConnectionError)):
            ask(port, "/started")


def test_errors_of_guards_become_responses():
    async def limited(request):
        raise RateLimited("api", retry_after=2.5)

    async def opened(request):
        raise CircuitOpen("db")

    async def other(request):
        raise LookupError

    def make():
        app = web.Application()
        serve_guard_errors(app)
        for path, handler in (("/limited", limited), ("/open", opened), ("/other", other)):
            app.router.add_get(path, handler)
        return app

    with serving_aiohttp(make) as port:
        got = ask(port, "/limited")
        assert (got.status, got["retry-after"]) == (429, "3")
        assert got["content-length"] == str(len(got.body))
        assert ask(port, "/open").status == 503
        assert ask(port, "/other").status == 500
