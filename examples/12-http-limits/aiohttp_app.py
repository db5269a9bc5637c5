"""aiohttp: contexts, guard errors and rules for the whole application.

python examples/12-http-limits/aiohttp_app.py
"""

from aiohttp import web
from shop_rules import PROXIES, rules

from hastack import ratelimit
from hastack.contrib.aiohttp import serve_contexts, serve_guard_errors, serve_rate_limits
from hastack.contrib.http_limits import Rule, by_client


async def order(request: web.Request) -> web.Response:
    return web.json_response({"order": int(request.match_info["number"])})


async def find(request: web.Request) -> web.Response:
    return web.json_response({"found": []})


async def report(request: web.Request) -> web.Response:
    return web.json_response({"report": request.match_info["name"]})


async def login(request: web.Request) -> web.Response:
    return web.json_response({"hello": "ada"})


async def upload(request: web.Request) -> web.Response:
    return web.json_response({"stored": len(await request.read())})


def make_app() -> web.Application:
    app = web.Application()
    search = Rule(
        ratelimit.SlidingWindowLog("2 per 10 s", name="search"), key=by_client(), path="/search"
    )
    serve_contexts(app, max_timeout=10.0)
    serve_guard_errors(app)
    serve_rate_limits(app, rules=[*rules(), search], proxies=PROXIES)
    app.add_routes(
        [
            web.get(r"/orders/{number:\d+}", order),
            web.get("/search", find),
            web.get("/reports/{name}", report),
            web.post("/login", login),
            web.put("/photos", upload),
        ]
    )
    return app


if __name__ == "__main__":
    # Without handler_cancellation nobody is told that a client has gone.
    web.run_app(make_app(), port=8000, handler_cancellation=True)
