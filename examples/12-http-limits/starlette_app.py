"""Starlette: rules for the whole application, and a decorator for one endpoint.

python examples/12-http-limits/starlette_app.py
"""

from shop_rules import PROXIES, rules
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from hastack import ratelimit
from hastack.contrib.asgi import ContextMiddleware, RateLimitMiddleware
from hastack.contrib.http_limits import by_client
from hastack.contrib.starlette import Limit

search = Limit(
    ratelimit.SlidingWindowLog("2 per 10 s", name="search"), key=by_client(), proxies=PROXIES
)


async def order(request: Request) -> JSONResponse:
    return JSONResponse({"order": request.path_params["number"]})


@search.endpoint
async def find(request: Request) -> JSONResponse:
    return JSONResponse({"found": []})


async def report(request: Request) -> JSONResponse:
    return JSONResponse({"report": request.path_params["name"]})


async def login(request: Request) -> JSONResponse:
    return JSONResponse({"hello": "ada"})


async def upload(request: Request) -> JSONResponse:
    return JSONResponse({"stored": len(await request.body())})


app = Starlette(
    routes=[
        Route("/orders/{number:int}", order),
        Route("/search", find),
        Route("/reports/{name}", report),
        Route("/login", login, methods=["POST"]),
        Route("/photos", upload, methods=["PUT"]),
    ],
    middleware=[
        Middleware(ContextMiddleware, max_timeout=10.0),
        Middleware(RateLimitMiddleware, rules=rules(), proxies=PROXIES),
    ],
)

if __name__ == "__main__":
    import uvicorn

    # The rules know the proxies; uvicorn must not rewrite addresses as well.
    uvicorn.run(app, port=8000, proxy_headers=False)
