"""Django in one file: the setting, the middleware, and a decorator for one view.

python examples/12-http-limits/django_app.py runserver --noreload
"""

import sys

import django
from django.conf import settings
from django.core.handlers.wsgi import WSGIHandler
from django.core.management import execute_from_command_line
from django.http import HttpRequest, JsonResponse
from django.urls import path
from shop_rules import PROXIES, rules

if not settings.configured:
    settings.configure(
        ALLOWED_HOSTS=["*"],
        HASTACK_LIMITS={"rules": rules(), "proxies": PROXIES},
        MIDDLEWARE=["hastack.contrib.django.RateLimitMiddleware"],
        ROOT_URLCONF=__name__,
        SECRET_KEY="an example has no secrets",
    )
    django.setup()

from hastack import ratelimit  # Django wants its settings first
from hastack.contrib.django import limit
from hastack.contrib.http_limits import by_client


def order(request: HttpRequest, number: int) -> JsonResponse:
    return JsonResponse({"order": number})


@limit(ratelimit.SlidingWindowLog("2 per 10 s", name="search"), key=by_client())
async def find(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"found": []})


def report(request: HttpRequest, name: str) -> JsonResponse:
    return JsonResponse({"report": name})


def login(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"hello": "ada"})


def upload(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"stored": len(request.body)})


urlpatterns = [
    path("orders/<int:number>", order),
    path("search", find),
    path("reports/<name>", report),
    path("login", login),
    path("photos", upload),
]
app = WSGIHandler()

if __name__ == "__main__":
    execute_from_command_line(sys.argv)
