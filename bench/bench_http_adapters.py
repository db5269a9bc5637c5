"""What limiting costs per request: hastack's adapters beside slowapi, fastapi-limiter, flask-limiter.

    python bench/bench_http_adapters.py

The same small application each time, in one process and without sockets: the server would be most of
the time and is nobody's. One limit by client address, kept in memory, which is what all of them do
without further setup (fastapi-limiter since 0.2; before, it needed Redis). What counts is the processor time of
the one thread that does it all, and rounds take turns. Peers that are not installed are left out.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import statistics
import sys
import time
from importlib.metadata import version
from typing import Any

import flask
from fastapi import Depends, FastAPI, Request, Response

from hastack import ratelimit
from hastack.contrib.asgi import RateLimitMiddleware
from hastack.contrib.flask import RateLimits
from hastack.contrib.flask import limit as flask_limit
from hastack.contrib.http_limits import Rule, by_client
from hastack.contrib.starlette import Limit

ROUNDS = 15
NUMBER = 300
PLENTY = "1000000/s"
NONE = "1 per 10 hours"


def bucket(quota: str) -> ratelimit.TokenBucket:
    return ratelimit.TokenBucket(quota, name="api")


# -- FastAPI --------------------------------------------------------------------------------------


def plain(*dependencies: Any) -> FastAPI:
    app = FastAPI()

    @app.get("/", dependencies=[Depends(each) for each in dependencies])
    async def index() -> dict[str, str]:
        return {"hello": "world"}

    return app


def middleware(quota: str, headers: str | None) -> FastAPI:
    app = plain()
    rule = Rule(bucket(quota), key=by_client())
    app.add_middleware(RateLimitMiddleware, rules=[rule], headers=headers)
    return app


def slowapi_app(quota: str, *, headers: bool) -> FastAPI:
    from slowapi import Limiter, _rate_limit_exceeded_handler
    from slowapi.errors import RateLimitExceeded
    from slowapi.util import get_remote_address

    limiter = Limiter(key_func=get_remote_address, headers_enabled=headers)
    app = FastAPI()
    app.state.limiter = limiter
    app.add_exception_handler(RateLimitExceeded, _rate_limit_exceeded_handler)

    @app.get("/")
    @limiter.limit(quota.replace("/s", "/second"))
    async def index(request: Request, response: Response) -> dict[str, str]:
        return {"hello": "world"}

    return app


def slowapi_middleware(quota: str, *, headers: bool) -> FastAPI:
    from slowapi import Limiter
    from slowapi.middleware import SlowAPIASGIMiddleware
    from slowapi.util import get_remote_address

    app = plain()
    app.state.limiter = Limiter(
        key_func=get_remote_address,
        default_limits=[quota.replace("/s", "/second")],
        headers_enabled=headers,
    )
    app.add_middleware(SlowAPIASGIMiddleware)
    return app


def fastapi_limiter_app(quota: str) -> FastAPI:
    from fastapi_limiter.depends import RateLimiter
    from pyrate_limiter import Duration, Limiter, Rate

    rate = Rate(1_000_000, Duration.SECOND) if quota == PLENTY else Rate(1, Duration.HOUR * 10)
    return plain(RateLimiter(limiter=Limiter(rate)))


def fastapi_apps(quota: str) -> dict[str, Any]:
    apps: dict[str, Any] = {
        "no limit": plain(),
        "hastack middleware, headers": middleware(quota, "draft"),
        "hastack middleware": middleware(quota, None),
        "hastack `Depends(Limit(...))`, headers": plain(Limit(bucket(quota), key=by_client())),
        "hastack `Depends(Limit(...))`": plain(Limit(bucket(quota), key=by_client(), headers=None)),
    }
    with contextlib.suppress(ImportError):
        apps["slowapi middleware, headers"] = slowapi_middleware(quota, headers=True)
        apps["slowapi middleware"] = slowapi_middleware(quota, headers=False)
        apps["slowapi decorator, headers"] = slowapi_app(quota, headers=True)
        apps["slowapi decorator"] = slowapi_app(quota, headers=False)
    with contextlib.suppress(ImportError):
        apps["fastapi-limiter dependency"] = fastapi_limiter_app(quota)
    return apps


def scope() -> dict[str, Any]:
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "path": "/",
        "raw_path": b"/",
        "root_path": "",
        "scheme": "http",
        "query_string": b"",
        "headers": [(b"host", b"127.0.0.1"), (b"user-agent", b"bench"), (b"accept", b"*/*")],
        "client": ("203.0.113.9", 4711),
        "server": ("127.0.0.1", 80),
    }


async def asgi_round(app: Any, number: int, status: int) -> float:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    got: list[int] = []

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            got.append(message["status"])

    start = time.thread_time()
    for _ in range(number):
        await app(scope(), receive, send)
    took = time.thread_time() - start
    assert set(got) == {status}, set(got)
    return took / number * 1e6


# -- Flask ----------------------------------------------------------------------------------------


def flask_app(*decorators: Any) -> flask.Flask:
    app = flask.Flask("bench")

    def index() -> dict[str, str]:
        return {"hello": "world"}

    view: Any = index
    for decorate in decorators:
        view = decorate(view)
    app.add_url_rule("/", "index", view)
    return app


def flask_extension(quota: str, headers: str | None) -> flask.Flask:
    app = flask_app()
    RateLimits(app, rules=[Rule(bucket(quota), key=by_client())], headers=headers)
    return app


def flask_limiter_app(quota: str, *, headers: bool) -> flask.Flask:
    from flask_limiter import Limiter
    from flask_limiter.util import get_remote_address

    app = flask_app()
    Limiter(
        get_remote_address,
        app=app,
        default_limits=[quota.replace("/s", "/second")],
        storage_uri="memory://",
        headers_enabled=headers,
    )
    return app


def flask_apps(quota: str) -> dict[str, Any]:
    def own(headers: str | None) -> flask.Flask:
        return flask_app(flask_limit(bucket(quota), key=by_client(), headers=headers))

    apps: dict[str, Any] = {
        "no limit": flask_app(),
        "hastack `RateLimits`, headers": flask_extension(quota, "draft"),
        "hastack `RateLimits`": flask_extension(quota, None),
        "hastack `@limit`, headers": own("draft"),
        "hastack `@limit`": own(None),
    }
    with contextlib.suppress(ImportError):
        apps["flask-limiter, headers"] = flask_limiter_app(quota, headers=True)
        apps["flask-limiter"] = flask_limiter_app(quota, headers=False)
    return apps


def wsgi_round(app: Any, number: int, status: int) -> float:
    from io import BytesIO

    got: list[str] = []

    def start_response(line: str, headers: object, *rest: object) -> None:
        got.append(line[:3])

    start = time.thread_time()
    for _ in range(number):
        environ = {
            "REQUEST_METHOD": "GET",
            "PATH_INFO": "/",
            "SCRIPT_NAME": "",
            "QUERY_STRING": "",
            "SERVER_NAME": "127.0.0.1",
            "SERVER_PORT": "80",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "REMOTE_ADDR": "203.0.113.9",
            "HTTP_HOST": "127.0.0.1",
            "wsgi.url_scheme": "http",
            "wsgi.input": BytesIO(),
            "wsgi.errors": sys.stderr,
        }
        body = app(environ, start_response)
        for _ in body:
            pass
        body.close()
    took = time.thread_time() - start
    assert set(got) == {str(status)}, set(got)
    return took / number * 1e6


# -- Tables ---------------------------------------------------------------------------------------


def in_turns(apps: dict[str, Any], run: Any) -> dict[str, float]:
    """Microseconds per request: the median of what each round saw."""
    seen: dict[str, list[float]] = {name: [] for name in apps}
    for _ in range(ROUNDS):
        for name, app in apps.items():
            gc.collect()
            seen[name].append(run(name, app))
    return {name: statistics.median(values) for name, values in seen.items()}


def show(title: str, rows: dict[str, float], base: str) -> None:
    bare = rows["no limit"]
    unit = rows[base] - bare
    print(f"\n### {title}\n")
    print(f"| | us per request | added | x {base} |")
    print("|---|---:|---:|---:|")
    for name, value in rows.items():
        added = value - bare
        ratio = "" if name == "no limit" else f"{added / unit:.1f}"
        print(f"| {name} | {value:.0f} | {added:.0f} | {ratio} |")


def show_refused(title: str, rows: dict[str, float], base: str) -> None:
    """A refusal replaces the application's work, so there is nothing to take off."""
    print(f"\n### {title}\n")
    print(f"| | us per request | x {base} |")
    print("|---|---:|---:|")
    for name, value in rows.items():
        print(f"| {name} | {value:.0f} | {value / rows[base]:.1f} |")


def main() -> None:
    names = ("fastapi", "slowapi", "fastapi-limiter", "flask", "flask-limiter")
    found = []
    for name in names:
        with contextlib.suppress(Exception):
            found.append(f"{name} {version(name)}")
    print(f"Python {sys.version.split()[0]}; {', '.join(found)}")
    with asyncio.Runner() as runner:
        apps = fastapi_apps(PLENTY)
        rows = in_turns(apps, lambda _, app: runner.run(asgi_round(app, NUMBER, 200)))
        show("FastAPI, allowed", rows, "hastack middleware, headers")
        refused = {name: app for name, app in fastapi_apps(NONE).items() if name != "no limit"}
        for app in refused.values():
            runner.run(asgi_round(app, 1, 200))
        rows = in_turns(refused, lambda _, app: runner.run(asgi_round(app, NUMBER, 429)))
        show_refused("FastAPI, refused", rows, "hastack middleware, headers")
    rows = in_turns(flask_apps(PLENTY), lambda _, app: wsgi_round(app, NUMBER, 200))
    show("Flask, allowed", rows, "hastack `RateLimits`, headers")
    refused = {name: app for name, app in flask_apps(NONE).items() if name != "no limit"}
    for app in refused.values():
        wsgi_round(app, 1, 200)
    rows = in_turns(refused, lambda _, app: wsgi_round(app, NUMBER, 429))
    show_refused("Flask, refused", rows, "hastack `RateLimits`, headers")


if __name__ == "__main__":
    main()
