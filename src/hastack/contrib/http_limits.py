"""Limits on HTTP requests: rules, whose permits a request takes, and who sent it.

The same rules serve every framework; the middlewares and decorators are in the modules of the
frameworks (`hastack.contrib.asgi`, ``starlette``, ``wsgi``, ``flask``, ``django``, ``aiohttp``)::

    from hastack import ratelimit
    from hastack.contrib.asgi import RateLimitMiddleware
    from hastack.contrib.http_limits import Rule, TrustedProxies, by_client

    rules = [
        Rule(ratelimit.TokenBucket("50/s", name="api"), key=by_client()),
        Rule(ratelimit.ConcurrencyLimit(4, name="reports"), path="/reports/*"),
    ]
    app = RateLimitMiddleware(app, rules=rules, proxies=TrustedProxies("10.0.0.0/8"))
"""

from __future__ import annotations

from ._client_address import TrustedProxies
from ._http_keys import (
    BodyCost,
    by_all,
    by_client,
    by_header,
    by_method,
    by_route,
    header_cost,
)
from ._http_limits import ServerFailed
from ._http_request import HttpRequest
from ._http_rule import Rule

__all__ = (
    "BodyCost",
    "HttpRequest",
    "Rule",
    "ServerFailed",
    "TrustedProxies",
    "by_all",
    "by_client",
    "by_header",
    "by_method",
    "by_route",
    "header_cost",
)
