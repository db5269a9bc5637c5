"""The ASGI rate limit middleware, driven message by message, and cancelled at every await."""

from __future__ import annotations

import asyncio
import json

import pytest
from structured_fields import read_list

from hastack import context, ratelimit
from hastack.contrib.asgi import ContextMiddleware, RateLimitMiddleware
from hastack.contrib.http_limits import Rule, TrustedProxies, by_client, by_route


def http(path="/", *, kind="http", headers=(), peer="203.0.113.9", root="", **more):
    scope = {
        "type": kind,
        "path": path,
        "root_path": root,
        "query_string": b"",
        "headers": [(k.encode(), v.encode()) for k, v in headers],
        "client": None if peer is None else (peer, 4711),
        **more,
    }
    if kind == "http":
        scope.setdefault("method", "GET")
    return scope


async def nothing():
    return {"type": "http.request", "body": b""}


def call(app, scope, receive=nothing):
    """What the server was sent."""
    sent = []

    async def main():
        async def send(message):
            sent.append(message)

        await app(scope, receive, send)

    asyncio.run(main())
    return sent


def headers(sent):
    return {name.decode(): value.decode() for name, value in sent[0]["headers"]}


def app_that(*messages):
    async def app(scope, receive, send):
        for message in messages:
            await send(message)

    return app


START = {"type": "http.response.start", "status": 200, "headers": [(b"x-own", b"1")]}
BODY = {"type": "http.response.body", "body": b"hello"}
hello = app_that(START, BODY)


def limited(app=hello, rate="2/min", **options):
    rule = Rule(ratelimit.TokenBucket(rate, name="api"), key=by_client())
    return RateLimitMiddleware(app, rules=[rule], **options)


def held(app, limit=1):
    guard = ratelimit.ConcurrencyLimit(limit, name="held")
    return guard, RateLimitMiddleware(app, rules=[Rule(guard)])


class TestRequests:
    def test_allowed_and_refused_requests_carry_the_fields(self):
        app = limited()
        first = call(app, http())
        assert first[0]["status"] == 200
        assert headers(first)["x-own"] == "1"
        assert read_list(headers(first)["ratelimit"])["api"]["r"] == 1
        assert START["headers"] == [(b"x-own", b"1")]  # the application's own is left alone
        call(app, http())
        refused = call(app, http())
        assert refused[0]["status"] == 429
        got = headers(refused)
        assert got["retry-after"] == str(read_list(got["ratelimit"])["api"]["t"])
        assert got["content-length"] == str(len(refused[1]["body"]))
        assert json.loads(refused[1]["body"])["status"] == 429
        assert call(app, http(peer="203.0.113.10"))[0]["status"] == 200

    def test_head_is_refused_without_a_body(self):
        app = limited(rate="1/min")
        call(app, http())
        assert call(app, http(method="HEAD"))[1]["body"] == b""

    def test_other_styles_and_no_headers(self):
        assert headers(call(limited(headers="x"), http()))["x-ratelimit-limit"] == "2"
        assert list(headers(call(limited(headers=None), http()))) == ["x-own"]

    def test_headers_of_the_application_and_of_an_inner_rule(self):
        start = {**START, "headers": [(b"RateLimit", b'"own";r=1'), (b"ratelimit-limit", b"9")]}
        sent = call(limited(app_that(start, BODY), headers=("draft", "legacy")), http())
        names = [name.lower() for name, _ in sent[0]["headers"]]
        assert names.count(b"ratelimit") == 2  # one list over two lines
        assert names.count(b"ratelimit-limit") == 1

    def test_an_x_forwarded_for_that_the_client_made_up_changes_nothing(self):
        app = limited(rate="1/min", proxies=TrustedProxies("10.0.0.0/8"))
        for n in range(3):
            lie = [("x-forwarded-for", f"6.6.6.{n}"), ("x-forwarded-for", "203.0.113.9")]
            status = call(app, http(peer="10.0.0.1", headers=lie))[0]["status"]
            assert status == (429 if n else 200)
        direct = [("x-forwarded-for", "7.7.7.7")]
        assert call(app, http(peer="203.0.113.9", headers=direct))[0]["status"] == 429

    def test_paths_are_seen_below_the_mount_point(self):
        guard = ratelimit.TokenBucket("1/min")
        app = RateLimitMiddleware(hello, rules=[Rule(guard, path="/a")])
        for path, root in (("/api/a", "/api"), ("/a", "")):
            call(app, http(path, root=root))
        assert call(app, http("/a"))[0]["status"] == 429
        assert call(app, http("/api", root="/api"))[0]["status"] == 200
        assert call(app, http("/apia", root="/api"))[0]["status"] == 200

    def test_a_route_that_the_framework_has_chosen(self):
        class Route:
            path = "/orders/{id}"

        guard = ratelimit.TokenBucket("1/min")
        app = RateLimitMiddleware(hello, rules=[Rule(guard, key=by_route())])
        call(app, http("/orders/1", route=Route()))
        assert call(app, http("/orders/2", route=Route()))[0]["status"] == 429
        assert call(app, http("/unknown", app=object()))[0]["status"] == 200

    def test_lifespan_passes_through(self):
        seen = []

        async def app(scope, receive, send):
            seen.append(scope["type"])

        call(limited(app), {"type": "lifespan"})
        assert seen == ["lifespan"]

    def test_without_a_matching_rule_nothing_is_added(self):
        assert call(RateLimitMiddleware(hello, rules=[]), http()) == [START, BODY]

    def test_who_stands_outside_sees_what_was_written_into_the_scope(self):
        async def routing(scope, receive, send):
            scope["route"] = "chosen"

        scope = http()
        call(limited(routing), scope)
        assert scope["route"] == "chosen"


class TestHolding:
    def test_until_the_last_byte_and_not_until_the_background_work_is_done(self):
        inside = []

        async def app(scope, receive, send):
            await send(START)
            await send({**BODY, "more_body": True})
            inside.append(guard.in_flight())
            await send(BODY)
            inside.append(guard.in_flight())

        guard, wrapped = held(app)
        call(wrapped, http())
        assert inside == [1, 0]

    @pytest.mark.parametrize(
        ("messages", "after"),
        [
            ([START, {"type": "http.response.pathsend", "path": "/x"}], 0),
            ([START, {"type": "http.response.zerocopysend", "file": 3, "more_body": True}], 1),
            ([START, {"type": "http.response.zerocopysend", "file": 3}], 0),
            ([{**START, "trailers": True}, BODY], 1),
            ([{**START, "trailers": True}, BODY, {"type": "http.response.trailers"}], 0),
            ([START, {"type": "http.response.debug", "info": {}}], 1),
        ],
    )
    def test_every_way_in_which_a_response_ends(self, messages, after):
        seen = []

        async def app(scope, receive, send):
            await app_that(*messages)(scope, receive, send)
            seen.append(guard.in_flight())

        guard, wrapped = held(app)
        call(wrapped, http())
        assert seen == [after]
        assert guard.in_flight() == 0

    def test_an_application_that_fails_or_says_nothing_gives_back(self):
        async def failing(scope, receive, send):
            raise RuntimeError

        guard, app = held(failing)
        with pytest.raises(RuntimeError):
            call(app, http())
        assert guard.in_flight() == 0
        guard, app = held(app_that())
        assert call(app, http()) == []
        assert guard.in_flight() == 0

    def test_a_server_that_refuses_a_message_gives_back(self):
        guard, app = held(hello)

        async def main():
            async def send(message):
                raise OSError("gone")

            with pytest.raises(OSError, match="gone"):
                await app(http(), nothing, send)

        asyncio.run(main())
        assert guard.in_flight() == 0

    def test_a_breaker_sees_answers_that_say_they_failed(self):
        breaker = ratelimit.CircuitBreaker(failure_rate=0.5, min_calls=2, name="db")
        broken = app_that({**START, "status": 500}, BODY)
        app = RateLimitMiddleware(broken, rules=[Rule(breaker)])
        assert [call(app, http())[0]["status"] for _ in range(3)] == [500, 500, 503]

    def test_cancelled_at_every_await_nothing_stays_taken(self):
        """Steps are counted first; then one run for each, cancelled at that step."""

        async def app(scope, receive, send):
            await asyncio.sleep(0)
            await send(START)
            await asyncio.sleep(0)
            await send(BODY)
            await asyncio.sleep(0)

        rate = ratelimit.ConcurrencyLimit(4, name="first")
        slow = ratelimit.ConcurrencyLimit(1, max_wait=None, name="slow")
        wrapped = RateLimitMiddleware(app, rules=[Rule(rate), Rule(slow)])

        async def cancelled_at(step):
            async def send(message):
                await asyncio.sleep(0)

            slow.acquire()  # so that the request waits first
            task = asyncio.create_task(wrapped(http(), nothing, send))
            for each in range(step):
                if each == 3:
                    slow.release()
                if task.done():
                    break
                await asyncio.sleep(0)
            ended = task.done()
            task.cancel()
            await asyncio.wait([task])
            if step < 4:
                slow.release()
            assert (rate.in_flight(), slow.in_flight()) == (0, 0)
            return ended

        async def main():
            step = 0
            while not await cancelled_at(step):
                step += 1
            return step

        assert asyncio.run(main()) > 6

    def test_waits_end_with_the_deadline_of_the_request(self):
        slow = ratelimit.ConcurrencyLimit(1, max_wait=None, name="slow")
        app = RateLimitMiddleware(hello, rules=[Rule(slow)])
        app = ContextMiddleware(app, max_timeout=0.05)
        slow.acquire()

        async def waiting():
            await asyncio.sleep(30)

        sent = call(app, http(), waiting)
        assert sent[0]["status"] in {429, 504}
        assert context.current().err() is None


class TestSockets:
    def test_a_refused_handshake_is_closed(self):
        app = limited(rate="1/min")

        async def connect():
            return {"type": "websocket.connect"}

        socket = app_that({"type": "websocket.accept"}, {"type": "websocket.close"})
        app = limited(socket, rate="1/min")
        accepted = call(app, http(kind="websocket"), connect)
        assert read_list(headers(accepted)["ratelimit"])["api"]["r"] == 0
        assert call(app, http(kind="websocket"), connect)[0]["type"] == "websocket.close"
        able = http(kind="websocket", extensions={"websocket.http.response": {}})
        refused = call(app, able, connect)
        assert refused[0]["status"] == 429
        assert "retry-after" in headers(refused)
        assert json.loads(refused[1]["body"])["status"] == 429

    def test_a_socket_holds_its_permit_while_it_is_open(self):
        seen = []

        async def socket(scope, receive, send):
            await send({"type": "websocket.accept"})
            seen.append(guard.in_flight())

        guard, app = held(socket)
        call(app, http(kind="websocket"))
        assert seen == [1]
        assert guard.in_flight() == 0
