"""Limits around Starlette and FastAPI applications, served by a real uvicorn."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import threading

import pytest
from structured_fields import read_list

pytest.importorskip("uvicorn")
pytest.importorskip("starlette")
pytest.importorskip("fastapi")

import aiohttp
from fastapi import Depends, FastAPI
from fastapi import Response as FastAPIResponse
from http_servers import WAIT, ask, eventually, serving_asgi
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.endpoints import HTTPEndpoint
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.websockets import WebSocket

from hastack import ratelimit
from hastack.contrib.asgi import ContextMiddleware, RateLimitMiddleware
from hastack.contrib.http_limits import (
    BodyCost,
    Rule,
    TrustedProxies,
    by_client,
    by_route,
)
from hastack.contrib.starlette import Limit, LimitRefused, answer_refused
from hastack.errors import InvalidArgument


def bucket(rate="2/min", **options):
    return ratelimit.TokenBucket(rate, **{"name": "api", **options})


async def hello(request):
    return PlainTextResponse("hello")


def statuses(port, count, path="/", **options):
    return [ask(port, path, **options).status for _ in range(count)]


class TestMiddleware:
    def test_requests_are_limited_and_told_so(self):
        app = Starlette(routes=[Route("/", hello)])
        app.add_middleware(RateLimitMiddleware, rules=[Rule(bucket(), key=by_client())])
        with serving_asgi(app) as port:
            first = ask(port)
            assert (first.status, first.body) == (200, b"hello")
            assert read_list(first["ratelimit-policy"]) == {"api": {"q": 2, "w": 60}}
            assert read_list(first["ratelimit"])["api"]["r"] == 1
            assert ask(port).status == 200
            refused = ask(port)
            assert refused.status == 429
            assert 1 <= int(refused["retry-after"]) <= 30
            assert read_list(refused["ratelimit"])["api"]["t"] == int(refused["retry-after"])
            assert json.loads(refused.body)["violated-policies"] == ["api"]

    def test_a_client_cannot_choose_who_it_is(self):
        """The peer is 127.0.0.1: once a stranger, once a proxy."""
        for proxies, wanted in (
            (None, [200, 429, 429, 429]),
            (TrustedProxies("10.0.0.0/8"), [200, 429, 429, 429]),
            (TrustedProxies("127.0.0.1"), [200, 429, 200, 429]),
            (TrustedProxies(hops=1), [200, 429, 200, 429]),
        ):
            rules = [Rule(bucket("1/min"), key=by_client())]
            app = RateLimitMiddleware(
                Starlette(routes=[Route("/", hello)]), rules=rules, proxies=proxies
            )
            with serving_asgi(app) as port:
                got = []
                for seen in ("203.0.113.1", "203.0.113.1", "203.0.113.2", "203.0.113.2"):
                    lies = [("X-Forwarded-For", f"6.6.6.{len(got)}"), ("X-Forwarded-For", seen)]
                    got.append(ask(port, headers=lies).status)
                assert got == wanted

    def test_each_route_has_its_limit_and_unknown_paths_share_one(self):
        routes = [
            Route("/orders/{id}", hello),
            Mount("/v2", routes=[Route("/orders/{id}", hello)]),
        ]
        app = Starlette(routes=routes)
        app.add_middleware(RateLimitMiddleware, rules=[Rule(bucket("1/min"), key=by_route())])
        with serving_asgi(app) as port:
            assert statuses(port, 1, "/orders/1") == [200]
            assert statuses(port, 1, "/orders/2") == [429]
            assert statuses(port, 1, "/v2/orders/1") == [200]
            assert statuses(port, 1, "/v2/orders/2") == [429]
            assert statuses(port, 1, "/a") == [404]
            assert statuses(port, 1, "/b") == [429]

    def test_bodies_cost_what_they_weigh(self):
        async def upload(request):
            return PlainTextResponse(str(len(await request.body())))

        uploads = bucket("10/min", name="uploads")
        rules = [Rule(uploads, cost=BodyCost(per=1000), methods=["POST"])]
        app = RateLimitMiddleware(
            Starlette(routes=[Route("/", upload, methods=["GET", "POST"])]), rules=rules
        )
        with serving_asgi(app) as port:
            assert ask(port, method="POST", body=b"x" * 4000).body == b"4000"
            assert uploads.peek().remaining == 6
            assert ask(port, method="POST", body=b"x" * 6001).status == 429
            assert uploads.peek().remaining == 6
            assert ask(port).status == 200

    def test_a_stream_holds_its_permit_to_the_last_byte(self):
        gate = threading.Event()
        guard = ratelimit.ConcurrencyLimit(1, name="streams")

        async def stream(request):
            async def parts():
                yield b"first"
                await asyncio.to_thread(gate.wait, WAIT)
                yield b"last"

            return StreamingResponse(parts())

        app = RateLimitMiddleware(Starlette(routes=[Route("/", stream)]), rules=[Rule(guard)])
        with serving_asgi(app) as port:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT)
            connection.request("GET", "/")
            response = connection.getresponse()
            assert response.read(5) == b"first"
            assert ask(port).status == 429
            gate.set()
            assert response.read() == b"last"
            connection.close()
            eventually(lambda: guard.in_flight() == 0)
            assert ask(port).status == 200

    def test_background_work_holds_nothing(self):
        gate, seen = threading.Event(), []
        guard = ratelimit.ConcurrencyLimit(1, name="held")

        async def work():
            await asyncio.to_thread(gate.wait, WAIT)
            seen.append("done")

        async def endpoint(request):
            return PlainTextResponse("hello", background=BackgroundTask(work))

        app = RateLimitMiddleware(Starlette(routes=[Route("/", endpoint)]), rules=[Rule(guard)])
        with serving_asgi(app) as port:
            assert statuses(port, 1) == [200]
            eventually(lambda: guard.in_flight() == 0)
            assert not seen
            assert statuses(port, 1) == [200]
            gate.set()
            eventually(lambda: len(seen) == 2)

    def test_a_client_that_goes_away_gives_back(self):
        entered = threading.Event()
        guard = ratelimit.ConcurrencyLimit(1, name="held")

        async def slow(request):
            entered.set()
            await asyncio.sleep(WAIT)

        app = RateLimitMiddleware(Starlette(routes=[Route("/", slow)]), rules=[Rule(guard)])
        app = ContextMiddleware(app)
        with serving_asgi(app) as port:
            with socket.create_connection(("127.0.0.1", port), timeout=WAIT) as sock:
                sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                assert entered.wait(WAIT)
                assert guard.in_flight() == 1
            eventually(lambda: guard.in_flight() == 0)

    def test_websockets_are_limited_like_requests(self):
        async def echo(websocket):
            await websocket.accept()
            await websocket.send_text(await websocket.receive_text())
            await websocket.close()

        guard = ratelimit.ConcurrencyLimit(1, name="sockets")
        app = RateLimitMiddleware(
            Starlette(routes=[WebSocketRoute("/", echo)]), rules=[Rule(guard)]
        )

        async def main(port):
            async with aiohttp.ClientSession() as session:
                url = f"http://127.0.0.1:{port}/"
                async with session.ws_connect(url) as first:
                    assert guard.in_flight() == 1
                    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                        await session.ws_connect(url)
                    assert refused.value.status == 429
                    assert "ratelimit" in refused.value.headers
                    await first.send_str("hello")
                    assert await first.receive_str() == "hello"
                eventually(lambda: guard.in_flight() == 0)
                async with session.ws_connect(url) as again:
                    assert not again.closed

        with serving_asgi(app) as port:
            asyncio.run(main(port))


def fastapi_app(**limits):
    app = FastAPI()

    @app.get("/built", dependencies=[Depends(limits["rate"])])
    async def built():
        return {"hello": "world"}

    @app.get("/own", dependencies=[Depends(limits["rate"])])
    async def own():
        return FastAPIResponse(b"own")

    @app.get("/plain", dependencies=[Depends(limits["held"])])
    def plain():
        return limits["held_guard"].in_flight()

    @app.get("/failing", dependencies=[Depends(limits["breaker"])])
    async def failing(status: int):
        if status == 500:
            raise HTTPException(500)
        if status == 404:
            raise HTTPException(404)
        raise RuntimeError("boom")

    return app


@pytest.fixture
def limits():
    held = ratelimit.ConcurrencyLimit(1, name="held")
    breaker = ratelimit.CircuitBreaker(failure_rate=0.5, min_calls=2, name="db")
    return {
        "rate": Limit(bucket("3/min"), key=by_client()),
        "held": Limit(held),
        "held_guard": held,
        "breaker": Limit(breaker),
        "breaker_guard": breaker,
    }


class TestFastAPI:
    def test_a_dependency_limits_and_tells(self, limits):
        with serving_asgi(fastapi_app(**limits)) as port:
            first = ask(port, "/built")
            assert json.loads(first.body) == {"hello": "world"}
            assert read_list(first["ratelimit"])["api"]["r"] == 2
            assert statuses(port, 2, "/built") == [200, 200]
            refused = ask(port, "/built")
            assert refused.status == 429
            assert read_list(refused["ratelimit"])["api"]["r"] == 0
            assert int(refused["retry-after"]) >= 1
            assert "rate limit exceeded" in json.loads(refused.body)["detail"]

    def test_refusals_as_problem_documents(self, limits):
        app = fastapi_app(**limits)
        app.add_exception_handler(LimitRefused, answer_refused)
        with serving_asgi(app) as port:
            statuses(port, 3, "/built")
            refused = ask(port, "/built")
            assert refused.status == 429
            assert refused["content-type"] == "application/problem+json"
            assert refused["content-length"] == str(len(refused.body))
            assert json.loads(refused.body)["violated-policies"] == ["api"]
            assert "ratelimit" in refused

    def test_the_middleware_carries_headers_past_an_endpoints_own_response(self, limits):
        app = fastapi_app(**limits)
        app.add_middleware(RateLimitMiddleware, rules=[])
        with serving_asgi(app) as port:
            for path in ("/own", "/built"):
                assert len(ask(port, path).all("ratelimit")) == 1

    def test_permits_are_held_for_plain_functions_too_and_come_back(self, limits):
        with serving_asgi(fastapi_app(**limits)) as port:
            assert ask(port, "/plain").body == b"1"
            eventually(lambda: limits["held_guard"].in_flight() == 0)

    def test_a_breaker_counts_what_failed_and_not_what_was_not_found(self, limits):
        breaker = limits["breaker_guard"]
        with serving_asgi(fastapi_app(**limits)) as port:
            assert statuses(port, 4, "/failing?status=404") == [404] * 4
            eventually(lambda: breaker.snapshot().calls == 4)
            assert breaker.snapshot().failures == 0
            assert statuses(port, 2, "/failing?status=500") == [500] * 2
            assert statuses(port, 2, "/failing?status=0") == [500] * 2
            eventually(lambda: breaker.state is ratelimit.BreakerState.OPEN)
            assert ask(port, "/failing?status=404").status == 503

    def test_a_websocket_with_the_dependency(self):
        app = FastAPI()

        @app.websocket("/ws", dependencies=[Depends(Limit(bucket("1/min")))])
        async def ws(websocket: WebSocket):
            await websocket.accept()
            await websocket.close()

        async def main(port):
            async with aiohttp.ClientSession() as session:
                url = f"http://127.0.0.1:{port}/ws"
                async with session.ws_connect(url) as first:
                    await first.receive()
                with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                    await session.ws_connect(url)
                assert refused.value.status == 403

        with serving_asgi(app) as port:
            asyncio.run(main(port))


class TestEndpoints:
    def test_a_decorated_endpoint(self):
        limit = Limit(bucket(), key=by_client())
        held = ratelimit.ConcurrencyLimit(1, name="held")

        @limit.endpoint
        async def counted(request):
            return PlainTextResponse("hello")

        @Limit(held).endpoint
        def plain(request):
            async def parts():
                yield str(held.in_flight()).encode()

            return StreamingResponse(parts())

        @Limit(held).endpoint
        async def failing(request):
            raise HTTPException(404)

        @Limit(held).endpoint
        async def broken(request):
            raise RuntimeError("boom")

        class Thing(HTTPEndpoint):
            @limit.endpoint
            async def get(self, request):
                return PlainTextResponse("thing")

        routes = [
            Route("/counted", counted),
            Route("/plain", plain),
            Route("/failing", failing),
            Route("/broken", broken),
            Route("/thing", Thing),
        ]
        with serving_asgi(Starlette(routes=routes)) as port:
            first = ask(port, "/counted")
            assert first.body == b"hello"
            assert read_list(first["ratelimit"])["api"]["r"] == 1
            assert ask(port, "/thing").body == b"thing"
            refused = ask(port, "/counted")
            assert refused.status == 429
            assert json.loads(refused.body)["status"] == 429
            assert "ratelimit" in refused
            assert ask(port, "/plain").body == b"1"
            for path, status in (("/failing", 404), ("/broken", 500), ("/failing", 404)):
                assert ask(port, path).status == status
            eventually(lambda: held.in_flight() == 0)

    def test_a_response_that_is_never_sent_gives_back(self):
        held = ratelimit.ConcurrencyLimit(1, name="held")
        inner = Limit(held).endpoint(hello)

        async def replaced(request):
            await inner(request)
            return PlainTextResponse("other")

        with serving_asgi(Starlette(routes=[Route("/", replaced)])) as port:
            assert [ask(port).body for _ in range(3)] == [b"other"] * 3

    def test_a_websocket_endpoint(self):
        held = ratelimit.ConcurrencyLimit(1, name="held")

        @Limit(held).endpoint
        async def ws(websocket):
            await websocket.accept()
            await websocket.receive_text()
            raise RuntimeError("boom")

        async def main(port):
            async with aiohttp.ClientSession() as session:
                url = f"http://127.0.0.1:{port}/"
                async with session.ws_connect(url) as first:
                    assert held.in_flight() == 1
                    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                        await session.ws_connect(url)
                    assert refused.value.status == 429
                    await first.send_str("go")
                    await first.receive()
                eventually(lambda: held.in_flight() == 0)

        with serving_asgi(Starlette(routes=[WebSocketRoute("/", ws)])) as port:
            asyncio.run(main(port))

    def test_what_is_no_endpoint(self):
        limit = Limit(Rule(bucket()))
        with pytest.raises(InvalidArgument):
            limit.endpoint(HTTPEndpoint)
        with pytest.raises(InvalidArgument):
            asyncio.run(limit.endpoint(hello)("no request"))
        with pytest.raises(RuntimeError):
            asyncio.run(answer_refused(None, RuntimeError()))
