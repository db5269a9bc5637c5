"""The same questions to every framework, on real servers."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SHOP = [("X-Forwarded-For", "6.6.6.6, 203.0.113.9")]


def load(name):
    spec = importlib.util.spec_from_file_location(f"http_limits_{name}", HERE / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # Django finds its URLs by this name
    spec.loader.exec_module(module)
    return module


@pytest.fixture(params=["fastapi", "starlette", "flask", "django", "aiohttp"])
def port(request, monkeypatch):
    from http_servers import serving_aiohttp, serving_asgi, serving_wsgi

    framework = request.param
    pytest.importorskip(framework)
    monkeypatch.syspath_prepend(str(HERE))
    monkeypatch.delitem(sys.modules, "shop_rules", raising=False)
    if framework == "django":
        with django_settings() as module, serving_wsgi(module.app) as port:
            yield port
        return
    module = load(f"{framework}_app")
    if framework == "aiohttp":
        server = serving_aiohttp(module.make_app)
    else:
        server = (serving_wsgi if framework == "flask" else serving_asgi)(module.app)
    with server as port:
        yield port
    monkeypatch.delitem(sys.modules, "shop_rules", raising=False)


class django_settings:  # noqa: N801  # a context manager, used like a function
    """Another test of this process may have set Django up already, and only one can."""

    def __enter__(self):
        import django
        from django.conf import settings
        from django.test import override_settings

        if not settings.configured:
            settings.configure(ALLOWED_HOSTS=["*"], SECRET_KEY="only for tests")
            django.setup()
        import shop_rules

        self.override = override_settings(
            ALLOWED_HOSTS=["*"],
            HASTACK_LIMITS={"rules": shop_rules.rules(), "proxies": shop_rules.PROXIES},
            MIDDLEWARE=["hastack.contrib.django.RateLimitMiddleware"],
            ROOT_URLCONF="http_limits_django_app",
        )
        self.override.enable()
        return load("django_app")

    def __exit__(self, *error):
        self.override.disable()


def test_every_framework_answers_alike(port):
    from http_servers import ask
    from structured_fields import read_list

    got = ask(port, "/orders/7", headers=SHOP)
    assert json.loads(got.body) == {"order": 7}
    assert read_list(got["ratelimit-policy"]) == {"clients": {"q": 10, "w": 2}}

    logins = [ask(port, "/login", method="POST", headers=SHOP) for _ in range(4)]
    assert [each.status for each in logins] == [200, 200, 200, 429]
    refused = logins[-1]
    assert json.loads(refused.body)["violated-policies"] == ["logins"]
    assert int(refused["retry-after"]) == read_list(refused["ratelimit"])["logins"]["t"]
    assert ask(port, "/login", method="POST").status == 200  # somebody else

    other = [("X-Forwarded-For", "203.0.113.10")]
    searches = [ask(port, "/search", headers=other).status for _ in range(3)]
    assert searches == [200, 200, 429]

    weight = b"x" * 200 * 1024
    uploads = [ask(port, "/photos", method="PUT", body=weight, headers=[("X-Api-Key", "k")])]
    uploads.append(ask(port, "/photos", method="PUT", body=weight, headers=[("X-Api-Key", "k")]))
    assert uploads[0].status == 200
    assert list(read_list(uploads[0]["ratelimit-policy"])) == ["clients", "uploads"]
    assert uploads[1].status == 429 or uploads[1].status == 200  # a slow machine earns it back

    assert ask(port, "/reports/sales").status == 200
