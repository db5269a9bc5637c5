"""The ASGI middlewares, driven message by message."""

from __future__ import annotations

import asyncio
import json

import pytest

from hastack import context, errors
from hastack.contrib.asgi import ContextMiddleware, GuardMiddleware, HealthApp, HealthMiddleware
from hastack.health import Health
from hastack.lifecycle import Lifecycle, ShutdownRequested


def http(path="/", *, method="GET", headers=(), query=b"", root=""):
    return {
        "type": "http",
        "method": method,
        "path": path,
        "root_path": root,
        "query_string": query,
        "headers": [(k.encode(), v.encode()) for k, v in headers],
    }


class Client:
    """One connection: what the server would deliver, and what it was sent."""

    def __init__(self, *incoming):
        self.incoming = list(incoming) or [{"type": "http.request", "body": b""}]
        self.sent = []
        self.gone = asyncio.Event()

    async def receive(self):
        if self.incoming:
            return self.incoming.pop(0)
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message):
        self.sent.append(message)

    @property
    def status(self):
        return self.sent[0]["status"]

    @property
    def headers(self):
        return {k.decode(): v.decode() for k, v in self.sent[0]["headers"]}

    @property
    def body(self):
        return b"".join(each.get("body", b"") for each in self.sent[1:])


def call(app, scope, client=None):
    async def main():
        nonlocal client
        client = client or Client()
        await app(scope, client.receive, client.send)
        return client

    return asyncio.run(main())


async def hello(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})


def failing(error, *, after=()):
    async def app(scope, receive, send):
        for message in after:
            await send(message)
        raise error

    return app


START = {"type": "http.response.start", "status": 200, "headers": []}


class TestHealth:
    def test_health_paths_are_answered_and_others_passed_on(self):
        health = Health()
        health.add_check("db", lambda: False)
        app = HealthMiddleware(hello, health=health)
        assert call(app, http("/")).body == b"hello"
        assert call(app, http("/healthz")).status == 200
        ready = call(app, http("/readyz", headers=[("accept", "application/json")]))
        assert ready.status == 503
        assert json.loads(ready.body)["failing"] == ["db: returned False"]
        assert call(app, http("/startupz")).status == 200
        metrics = call(app, http("/metrics"))
        assert metrics.headers["content-type"].startswith("application/openmetrics-text")
        assert metrics.body.endswith(b"# EOF\n")

    def test_head_has_the_headers_without_the_body(self):
        got = call(HealthMiddleware(hello, health=Health()), http("/healthz", method="HEAD"))
        assert got.headers["content-length"] == "11"
        assert got.body == b""

    def test_mounted_under_a_prefix(self):
        app = HealthMiddleware(hello, health=Health())
        assert call(app, http("/api/healthz", root="/api")).body == b"live: pass\n"
        assert call(app, http("/api/other", root="/api")).body == b"hello"

    def test_the_serving_loop_is_watched_once(self):
        health = Health()
        app = HealthMiddleware(hello, health=health)

        async def main():
            for _ in range(3):
                client = Client()
                await app(http("/"), client.receive, client.send)
            assert list(health._loops) == [asyncio.get_running_loop()]

        asyncio.run(main())
        unwatched = Health()
        call(HealthMiddleware(hello, health=unwatched, watch_loop=False), http("/"))
        assert unwatched._loops == {}

    def test_the_application_alone(self):
        app = HealthApp(Health())
        assert call(app, http("/readyz")).status == 200
        assert call(app, http("/else")).status == 404
        lifespan = Client({"type": "lifespan.startup"}, {"type": "lifespan.shutdown"})
        assert [m["type"] for m in call(app, {"type": "lifespan"}, lifespan).sent] == [
            "lifespan.startup.complete",
            "lifespan.shutdown.complete",
        ]
        socket = call(
            app, {"type": "websocket", "path": "/"}, Client({"type": "websocket.connect"})
        )
        assert socket.sent == [{"type": "websocket.close", "code": 1000}]


class TestGuards:
    @pytest.mark.parametrize(
        ("error", "status", "after"),
        [
            (errors.RateLimited("api", retry_after=0.2), 429, "1"),
            (errors.RateLimited("api", retry_after=2.0001), 429, "3"),
            (errors.RateLimited("api", retry_after=2.0), 429, "2"),
            (errors.RateLimited("api", retry_after=0.0), 429, "1"),
            (errors.RateLimited("api", retry_after=float("inf")), 429, None),
            (errors.ConcurrencyLimited("db"), 429, None),
            (errors.CircuitOpen("db", retry_after=5.0), 503, "5"),
            (errors.RetryBudgetExhausted("db"), 503, None),
            (errors.DeadlineExceeded("too late"), 504, None),
            (errors.Cancelled(cause=ConnectionResetError("gone")), 499, None),
            (errors.Cancelled(cause=ShutdownRequested()), 503, None),
            (ExceptionGroup("x", [errors.RateLimited("api", retry_after=1.0)]), 429, "1"),
        ],
    )
    def test_errors_become_problem_documents(self, error, status, after):
        client = call(GuardMiddleware(failing(error)), http())
        assert client.status == status
        assert client.headers.get("retry-after") == after
        assert client.headers["content-type"] == "application/problem+json"
        assert client.headers["content-length"] == str(len(client.body))
        body = json.loads(client.body)
        assert body["status"] == status
        if isinstance(error, errors.Rejected):
            assert body["guard"] == error.name
            assert body["detail"] == str(error)

    @pytest.mark.parametrize(
        "error",
        [
            ValueError("mine"),
            errors.InvalidArgument("x", 1, "y"),
            ExceptionGroup("x", [errors.RateLimited("api"), ValueError()]),
        ],
    )
    def test_other_errors_pass(self, error):
        with pytest.raises(type(error)):
            call(GuardMiddleware(failing(error)), http())

    def test_after_the_start_of_a_response_the_error_passes(self):
        client = None
        with pytest.raises(errors.RateLimited):
            client = call(
                GuardMiddleware(failing(errors.RateLimited("api"), after=[START])), http()
            )
        assert client is None

    def test_a_message_before_the_response_is_no_start(self):
        hint = {"type": "http.response.debug", "info": {}}
        client = call(GuardMiddleware(failing(errors.RateLimited("api"), after=[hint])), http())
        assert client.sent[1]["status"] == 429

    def test_streaming_passes_unchanged(self):
        chunks = [START] + [
            {"type": "http.response.body", "body": b"x", "more_body": more}
            for more in (True, False)
        ]

        async def app(scope, receive, send):
            for each in chunks:
                await send(each)

        assert call(GuardMiddleware(app), http()).sent == chunks

    @pytest.mark.parametrize("kind", ["websocket", "lifespan"])
    def test_other_scopes_pass_through_untouched(self, kind):
        seen = []

        async def app(scope, receive, send):
            seen.append((receive, send))
            raise errors.RateLimited("api")

        for wrap in (GuardMiddleware, ContextMiddleware):
            client = None

            async def main(wrap=wrap):
                nonlocal client
                client = Client()
                await wrap(app)(
                    {"type": kind, "path": "/", "headers": []}, client.receive, client.send
                )

            with pytest.raises(errors.RateLimited):
                asyncio.run(main())
            assert seen.pop() == (client.receive, client.send)

    def test_head(self):
        assert (
            call(GuardMiddleware(failing(errors.RateLimited("a"))), http(method="HEAD")).body == b""
        )


class TestContext:
    def test_the_deadline_comes_from_the_header_bounded_by_the_maximum(self):
        seen = []

        async def app(scope, receive, send):
            seen.append(context.current().remaining())
            await hello(scope, receive, send)

        wrapped = ContextMiddleware(app, max_timeout=30.0)
        call(wrapped, http())
        call(wrapped, http(headers=[("grpc-timeout", "500m")]))
        call(wrapped, http(headers=[("grpc-timeout", "500S")]))
        assert 29.0 < seen[0] <= 30.0
        assert 0.4 < seen[1] <= 0.5
        assert 29.0 < seen[2] <= 30.0

    def test_a_deadline_cancels_the_handler_and_answers_504(self):
        ends = []

        async def app(scope, receive, send):
            try:
                await asyncio.sleep(30.0)
            finally:
                ends.append(1)

        client = call(ContextMiddleware(app, max_timeout=0.02), http())
        assert client.status == 504
        assert ends == [1]

    def test_a_deadline_after_the_start_of_the_response_passes(self):
        async def app(scope, receive, send):
            await send(START)
            await asyncio.sleep(30.0)

        with pytest.raises(errors.DeadlineExceeded):
            call(ContextMiddleware(app, max_timeout=0.02), http())

    def test_a_disconnect_cancels_the_handler_and_sends_nothing(self):
        causes = []

        async def main():
            client = Client({"type": "http.request", "body": b"x", "more_body": False})

            async def app(scope, receive, send):
                assert (await receive())["body"] == b"x"
                ctx = context.current()
                try:
                    client.gone.set()
                    await asyncio.sleep(30.0)
                finally:
                    causes.append(ctx.cause())

            await ContextMiddleware(app)(http(), client.receive, client.send)
            return client

        assert asyncio.run(main()).sent == []
        assert isinstance(causes[0], ConnectionResetError)

    def test_the_body_is_read_one_message_ahead_only(self):
        async def main():
            parts = [
                {"type": "http.request", "body": bytes([n]), "more_body": n < 9} for n in range(10)
            ]
            client = Client(*parts)
            left = []

            async def app(scope, receive, send):
                for _ in range(10):
                    await asyncio.sleep(0.001)
                    left.append(len(client.incoming))
                    assert await receive() in parts
                assert client.incoming == []
                client.gone.set()
                assert (await receive())["type"] == "http.disconnect"
                assert (await receive())["type"] == "http.disconnect"

            try:
                await ContextMiddleware(app)(http(), client.receive, client.send)
            finally:
                assert left == [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]

        asyncio.run(main())

    def test_the_end_of_the_service_answers_503(self):
        life = Lifecycle("orders", lame_duck=0.0)

        async def app(scope, receive, send):
            life.context.cancel(ShutdownRequested())
            await asyncio.sleep(30.0)

        assert call(ContextMiddleware(app, lifecycle=life), http()).status == 503

    def test_an_error_of_the_application_passes_and_nothing_leaks(self):
        async def main():
            client = Client()
            with pytest.raises(ValueError):
                await ContextMiddleware(failing(ValueError()))(http(), client.receive, client.send)
            assert len(asyncio.all_tasks()) == 1
            assert context.current() is context.background()

        asyncio.run(main())
