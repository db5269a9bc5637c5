"""Limits around WSGI applications: bare ones, Flask's and Django's, on a threaded server."""

from __future__ import annotations

import http.client
import json
import socket
import threading

import pytest
from structured_fields import read_list

pytest.importorskip("flask")

import flask
from http_servers import WAIT, ask, eventually, serving_wsgi

from hastack import ratelimit
from hastack.contrib.flask import RateLimits, limit
from hastack.contrib.http_limits import BodyCost, Rule, TrustedProxies, by_client, by_route
from hastack.contrib.wsgi import RateLimitMiddleware


def bucket(rate="2/min", **options):
    return ratelimit.TokenBucket(rate, **{"name": "api", **options})


def held():
    return ratelimit.ConcurrencyLimit(1, name="held")


def hello(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello"]


class TestBare:
    def test_requests_are_limited_and_told_so(self):
        app = RateLimitMiddleware(hello, rules=[Rule(bucket(), key=by_client())])
        with serving_wsgi(app) as port:
            first = ask(port)
            assert (first.status, first.body) == (200, b"hello")
            assert read_list(first["ratelimit-policy"]) == {"api": {"q": 2, "w": 60}}
            assert read_list(first["ratelimit"])["api"]["r"] == 1
            assert ask(port).status == 200
            refused = ask(port)
            assert refused.status == 429
            assert read_list(refused["ratelimit"])["api"]["t"] == int(refused["retry-after"])
            assert json.loads(refused.body)["status"] == 429
            assert ask(port, method="HEAD").body == b""

    def test_a_client_cannot_choose_who_it_is(self):
        for proxies, wanted in (
            (None, [200, 429, 429]),
            (TrustedProxies("127.0.0.1"), [200, 429, 200]),
            (TrustedProxies("127.0.0.1", header="forwarded"), [200, 429, 429]),
        ):
            rules = [Rule(bucket("1/min"), key=by_client())]
            with serving_wsgi(RateLimitMiddleware(hello, rules=rules, proxies=proxies)) as port:
                got = [
                    ask(port, headers=[("X-Forwarded-For", f"6.6.6.{n}, 203.0.113.{n // 2}")])
                    for n in range(3)
                ]
                assert [each.status for each in got] == wanted

    def test_bodies_and_paths(self):
        uploads = bucket("10/min")
        rules = [Rule(uploads, cost=BodyCost(per=10), methods=["POST"], path="/\N{SNOWMAN}/{id}")]
        with serving_wsgi(RateLimitMiddleware(hello, rules=rules)) as port:
            assert ask(port, "/%E2%98%83/1", method="POST", body=b"x" * 70).status == 200
            assert uploads.peek().remaining == 3
            assert ask(port, "/%E2%98%83/1", method="POST", body=b"x" * 70).status == 429
            assert ask(port, "/%E2%98%83/1").status == 200

    def test_a_stream_holds_its_permit_to_the_last_byte(self):
        gate, guard = threading.Event(), held()

        def stream(environ, start_response):
            start_response("200 OK", [])
            yield b"first"
            assert gate.wait(WAIT)
            yield b"last"

        with serving_wsgi(RateLimitMiddleware(stream, rules=[Rule(guard)])) as port:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT)
            connection.request("GET", "/")
            response = connection.getresponse()
            assert response.read(5) == b"first"
            assert ask(port).status == 429
            gate.set()
            assert response.read() == b"last"
            response.close()
            connection.close()
            eventually(lambda: guard.in_flight() == 0)

    def test_a_client_that_goes_away_gives_back(self):
        guard, entered = held(), threading.Event()

        def endless(environ, start_response):
            start_response("200 OK", [])
            entered.set()
            while True:
                yield b"x" * 65536

        with serving_wsgi(RateLimitMiddleware(endless, rules=[Rule(guard)])) as port:
            with socket.create_connection(("127.0.0.1", port), timeout=WAIT) as sock:
                sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
                assert entered.wait(WAIT)
            eventually(lambda: guard.in_flight() == 0)

    def test_applications_that_fail(self):
        guard = held()
        breaker = ratelimit.CircuitBreaker(failure_rate=0.5, min_calls=3, name="db")

        def early(environ, start_response):
            raise RuntimeError("boom")

        def late(environ, start_response):
            start_response("200 OK", [])
            yield b""
            raise RuntimeError("boom")

        def says_so(environ, start_response):
            start_response("500 Oops", [])
            return [b""]

        for app in (early, late, says_so):
            wrapped = RateLimitMiddleware(app, rules=[Rule(guard), Rule(breaker)])
            try:
                body = wrapped({"REQUEST_METHOD": "GET"}, lambda *args: None)
                try:
                    list(body)
                finally:
                    body.close()
            except RuntimeError:
                pass
            assert guard.in_flight() == 0
        assert breaker.state is ratelimit.BreakerState.OPEN
        statuses = []
        wrapped({"REQUEST_METHOD": "GET"}, lambda status, headers: statuses.append(status))
        assert statuses == ["503 Service Unavailable"]

    def test_a_body_that_holds_nothing_is_left_to_the_server(self):
        body = [b"hello"]

        def app(environ, start_response):
            start_response("200 OK", [("RateLimit-Limit", "9")])
            return body

        started = []
        wrapped = RateLimitMiddleware(app, rules=[Rule(bucket())], headers=("draft", "legacy"))
        got = wrapped({"REQUEST_METHOD": "GET"}, lambda status, headers: started.extend(headers))
        assert got is body
        assert [name for name, _ in started].count("ratelimit-limit") == 0
        assert "ratelimit" in dict(started)


class TestFlask:
    def test_rules_for_the_application_and_for_views(self):
        app = flask.Flask("shop")
        logins = bucket("2/min", name="logins")
        RateLimits(
            app,
            rules=[Rule(bucket("3/min"), key=by_route())],
            headers=("draft", "x"),
            proxies=TrustedProxies("127.0.0.1"),
        )

        @app.get("/orders/<int:number>")
        def order(number):
            return f"order {number}"

        @app.post("/login")
        @limit(logins, key=by_client())
        def login():
            return "in"

        with serving_wsgi(app) as port:
            first = ask(port, "/orders/1")
            assert first.body == b"order 1"
            assert first["x-ratelimit-remaining"] == "2"
            assert [ask(port, "/orders/2").status for _ in range(3)] == [200, 200, 429]
            assert ask(port, "/unknown").status == 404
            seen = [("X-Forwarded-For", "6.6.6.6, 203.0.113.9")]
            got = ask(port, "/login", method="POST", headers=seen)
            assert [list(read_list(each)) for each in got.all("ratelimit")] == [["api"], ["logins"]]
            assert logins.peek("203.0.113.9").remaining == 1
            ask(port, "/login", method="POST", headers=seen)
            refused = ask(port, "/login", method="POST", headers=seen)
            assert refused.status == 429
            assert json.loads(refused.body)["violated-policies"] == ["logins"]
            assert refused["content-type"] == "application/problem+json"

    def test_the_end_of_a_response_gives_back_however_it_came_about(self):
        app = flask.Flask("shop")
        all_, one = held(), held()
        RateLimits(rules=[Rule(all_)]).init_app(app)

        @app.get("/stream")
        @limit(one)
        def stream():
            def parts():
                yield f"{all_.in_flight()} {one.in_flight()}"

            return parts()

        @app.get("/async")
        @limit(one)
        async def asynchronous():
            return "async"

        @app.get("/abort")
        @limit(one)
        def aborting():
            flask.abort(404)

        @app.get("/broken")
        @limit(one)
        def broken():
            raise RuntimeError("boom")

        app.logger.disabled = True
        with serving_wsgi(app) as port:
            for path, status in (
                ("/stream", 200),
                ("/async", 200),
                ("/abort", 404),
                ("/broken", 500),
                ("/stream", 200),
            ):
                got = ask(port, path)
                assert got.status == status
                assert len(got.all("ratelimit")) == 2
                eventually(lambda: all_.in_flight() == one.in_flight() == 0)
            assert got.body == b"1 1"

    def test_errors_that_are_passed_on_give_back_too(self):
        app = flask.Flask("shop")
        app.config["PROPAGATE_EXCEPTIONS"] = True
        guard, one = held(), ratelimit.CircuitBreaker(failure_rate=0.5, min_calls=1, name="db")
        RateLimits(app, rules=[Rule(guard)])

        @app.get("/")
        @limit(Rule(one))
        def broken():
            raise RuntimeError("boom")

        with pytest.raises(RuntimeError):
            app.test_client().get("/", buffered=True)
        assert guard.in_flight() == 0
        assert app.test_client().get("/", buffered=True).status_code == 503
        assert guard.in_flight() == 0

    def test_refused_requests_leave_nothing_behind(self):
        app = flask.Flask("shop")
        guard = held()
        RateLimits(app, rules=[Rule(guard)])
        guard.acquire()
        client = app.test_client()
        assert [client.get("/", buffered=True).status_code for _ in range(3)] == [429] * 3
        guard.release()
        assert client.get("/", buffered=True).status_code == 404
        assert guard.in_flight() == 0
