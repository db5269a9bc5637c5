"""The WSGI middlewares."""

from __future__ import annotations

import json
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest

from hastack import context, errors
from hastack.contrib.wsgi import ContextMiddleware, GuardMiddleware, HealthMiddleware
from hastack.health import Health


def call(app, path="/", *, method="GET", **more):
    environ = {
        "PATH_INFO": path,
        "REQUEST_METHOD": method,
        "QUERY_STRING": "",
        "SCRIPT_NAME": "",
        **more,
    }
    setup_testing_defaults(environ)
    started = []

    def start_response(status, headers, exc_info=None):
        started.append((int(status.split()[0]), dict(headers)))
        return lambda data: None

    # The validator knows the rules of PEP 3333 better than we do.
    body = validator(app)(environ, start_response)
    try:
        data = b"".join(body)
    finally:
        body.close()
    return *started[-1], data


def hello(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello"]


def test_health_paths_are_answered_and_others_passed_on():
    health = Health()
    health.add_check("db", lambda: False)
    app = HealthMiddleware(hello, health=health)
    assert call(app)[2] == b"hello"
    assert call(app, "/healthz")[::2] == (200, b"live: pass\n")
    status, headers, body = call(app, "/readyz", HTTP_ACCEPT="application/json")
    assert status == 503
    assert headers["content-type"] == "application/json"
    assert json.loads(body)["failing"] == ["db: returned False"]
    assert call(app, "/healthz", SCRIPT_NAME="/api")[0] == 200
    assert call(app, "/healthz", method="POST")[0] == 405
    assert call(app, "/metrics")[2].endswith(b"# EOF\n")


def test_errors_become_problem_documents():
    def app(environ, start_response):
        raise errors.RateLimited("api", retry_after=1.5)

    status, headers, body = call(GuardMiddleware(app))
    assert status == 429
    assert headers["retry-after"] == "2"
    assert json.loads(body)["guard"] == "api"
    environ = {"REQUEST_METHOD": "HEAD"}
    assert list(GuardMiddleware(app)(environ, lambda *a: None)) == [b""]


def test_other_errors_pass():
    def app(environ, start_response):
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        call(GuardMiddleware(app))


def test_an_error_in_the_body_is_answered_until_something_was_sent():
    def app(*chunks):
        def inner(environ, start_response):
            start_response("200 OK", [("Content-Type", "text/plain")])
            yield from chunks
            raise errors.CircuitOpen("db", retry_after=3.0)

        return inner

    status, headers, body = call(GuardMiddleware(app(b"")))
    assert (status, headers["retry-after"]) == (503, "3")
    assert json.loads(body)["title"] == "Service Unavailable"
    with pytest.raises(errors.CircuitOpen):
        call(GuardMiddleware(app(b"x")))


def test_streaming_and_close_pass_through():
    closed = []

    class Body:
        def __iter__(self):
            return iter([b"a", b"b"])

        def close(self):
            closed.append(1)

    def app(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        return Body()

    assert call(GuardMiddleware(app))[2] == b"ab"
    assert closed == [1]


class TestContext:
    def test_the_deadline_is_current_in_the_application_and_its_body(self):
        seen = []

        def app(environ, start_response):
            start_response("200 OK", [("Content-Type", "text/plain")])
            seen.append(context.current())

            def body():
                seen.append(context.current())
                yield b"x"

            return body()

        _, _, data = call(ContextMiddleware(app, max_timeout=30.0), HTTP_GRPC_TIMEOUT="500m")
        assert data == b"x"
        assert seen[0] is seen[1]
        assert seen[0].done  # ended with the response
        assert context.current() is context.background()

    def test_a_passed_deadline_is_answered(self):
        def app(environ, start_response):
            context.sleep(10.0)

        status, _, _ = call_plain(ContextMiddleware(app, max_timeout=0.01))
        assert status == 504

    def test_other_errors_end_the_context_and_pass(self):
        seen = []

        def app(environ, start_response):
            seen.append(context.current())
            raise ValueError("mine")

        with pytest.raises(ValueError, match="mine"):
            call(ContextMiddleware(app))
        assert seen[0].done


def call_plain(app):
    started = []

    def start_response(status, headers, exc_info=None):
        started.append((int(status.split()[0]), dict(headers)))

    body = b"".join(app({"REQUEST_METHOD": "GET", "PATH_INFO": "/"}, start_response))
    return *started[-1], body
