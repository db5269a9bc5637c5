"""Limits in Django, under WSGI and under ASGI, with plain and with asynchronous views."""

from __future__ import annotations

import json
import sys
import types

import pytest
from structured_fields import read_list

pytest.importorskip("django")
pytest.importorskip("uvicorn")

from django.conf import settings

if not settings.configured:
    settings.configure(
        ALLOWED_HOSTS=["*"],
        DEBUG=False,
        LOGGING_CONFIG=None,
        MIDDLEWARE=["hastack.contrib.django.RateLimitMiddleware"],
        ROOT_URLCONF="hastack_test_urls",
        SECRET_KEY="only for tests",
    )

import django
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.http import Http404, HttpResponse, StreamingHttpResponse
from django.test import override_settings
from django.urls import include, path
from django.views import View
from http_servers import ask, eventually, serving_asgi, serving_wsgi

from hastack import ratelimit
from hastack.contrib.django import limit
from hastack.contrib.http_limits import Rule, TrustedProxies, by_client, by_route
from hastack.errors import InvalidArgument

django.setup()
ONE = ratelimit.ConcurrencyLimit(1, name="one")
BREAKER = ratelimit.CircuitBreaker(failure_rate=0.5, min_calls=2, name="db")
LOGINS = ratelimit.TokenBucket("2/min", name="logins")


def hello(request, **captured):
    response = HttpResponse("hello")
    response["RateLimit"] = '"own";r=1'
    return response


@limit(LOGINS, key=by_client())
def login(request):
    return HttpResponse("in")


@limit(LOGINS, key=by_client())
async def login_async(request):
    return HttpResponse("in")


@limit(ONE)
def stream(request):
    return StreamingHttpResponse(str(ONE.in_flight()) for _ in range(1))


@limit(ONE)
async def stream_async(request):
    async def parts():
        yield str(ONE.in_flight())

    return StreamingHttpResponse(parts())


@limit(ONE)
def missing(request):
    raise Http404


@limit(ONE)
async def missing_async(request):
    raise Http404


@limit(Rule(BREAKER))
def broken(request):
    raise RuntimeError("boom")


class Page(View):
    async def get(self, request):
        return HttpResponse("page")


orders = [path("orders/<int:number>", hello)]
urls = types.ModuleType("hastack_test_urls")
urls.urlpatterns = [
    path("v1/", include(orders)),
    path("login", login),
    path("login-async", login_async),
    path("stream", stream),
    path("stream-async", stream_async),
    path("missing", missing),
    path("missing-async", missing_async),
    path("broken", broken),
    path("page", limit(LOGINS, key=by_client())(Page.as_view())),
]


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    monkeypatch.setitem(sys.modules, "hastack_test_urls", urls)
    LOGINS.reset()
    BREAKER.reset()


def served(kind, **limits):
    """The whole application with these limits, on a real server."""
    if kind == "wsgi":
        return serving_wsgi(get_wsgi_application())
    return serving_asgi(get_asgi_application())


both = pytest.mark.parametrize("kind", ["wsgi", "asgi"])


@both
def test_rules_of_the_settings(kind):
    rules = [Rule(ratelimit.TokenBucket("2/min", name="api"), key=by_route())]
    with override_settings(HASTACK_LIMITS={"rules": rules}), served(kind) as port:
        first = ask(port, "/v1/orders/1")
        assert first.body == b"hello"
        assert read_list(first["ratelimit"]).keys() == {"own", "api"}
        assert read_list(first["ratelimit-policy"]) == {"api": {"q": 2, "w": 60}}
        assert ask(port, "/v1/orders/2").status == 200
        refused = ask(port, "/v1/orders/3")
        assert refused.status == 429
        assert read_list(refused["ratelimit"])["api"]["t"] == int(refused["retry-after"])
        assert json.loads(refused.body)["violated-policies"] == ["api"]
        assert [ask(port, "/no", method="GET").status for _ in range(3)] == [404, 404, 429]
        assert ask(port, "/login").status == 200


@both
def test_views_with_limits_of_their_own(kind):
    limits = {"rules": [], "proxies": TrustedProxies("127.0.0.1")}
    seen = [("X-Forwarded-For", "6.6.6.6, 203.0.113.9")]
    with override_settings(HASTACK_LIMITS=limits), served(kind) as port:
        assert ask(port, "/login", headers=seen).body == b"in"
        assert LOGINS.peek("203.0.113.9").remaining == 1
        assert ask(port, "/login-async", headers=seen).body == b"in"
        for url in ("/login", "/login-async", "/page"):
            assert ask(port, url, headers=seen).status == 429
        other = ask(port, "/page", headers=[("X-Forwarded-For", "203.0.113.10")])
        assert other.body == b"page"
        assert read_list(other["ratelimit"])["logins"]["r"] == 1


@both
def test_what_is_held_comes_back(kind):
    guard = ratelimit.ConcurrencyLimit(1, name="all")
    limits = {"rules": [Rule(guard)], "headers": None}
    with override_settings(HASTACK_LIMITS=limits), served(kind) as port:
        streamed = "/stream" if kind == "wsgi" else "/stream-async"
        for url, status in ((streamed, 200), ("/missing", 404), ("/missing-async", 404)):
            got = ask(port, url)
            assert got.status == status
            eventually(lambda: guard.in_flight() == ONE.in_flight() == 0)
        assert ask(port, streamed).body == b"1"


@both
def test_a_breaker_learns_of_views_that_fail(kind, caplog):
    with override_settings(HASTACK_LIMITS={"rules": []}), served(kind) as port:
        assert [ask(port, "/broken").status for _ in range(3)] == [500, 500, 503]


def test_the_setting_may_be_a_function_or_the_path_of_one(monkeypatch):
    calls = []

    def limits():
        calls.append(1)
        return {"rules": [Rule(ratelimit.TokenBucket("1/min", name="api"))]}

    monkeypatch.setattr(urls, "limits", limits, raising=False)
    for setting in (limits, "hastack_test_urls.limits"):
        calls.clear()
        with override_settings(HASTACK_LIMITS=setting), served("wsgi") as port:
            assert [ask(port, "/login").status for _ in range(2)] == [200, 429]
        assert calls == [1]


@pytest.mark.parametrize("setting", [None, [], {}, {"rules": [], "rulez": 1}, {"rules": [1]}])
def test_a_setting_that_says_something_else(setting):
    with override_settings(HASTACK_LIMITS=setting), pytest.raises(InvalidArgument):
        get_wsgi_application()


def test_without_the_setting_views_still_have_their_limits():
    with override_settings(MIDDLEWARE=[]), served("wsgi") as port:
        assert [ask(port, "/login").status for _ in range(3)] == [200, 200, 429]
