"""The order service: HTTP in front, gRPC to the inventory behind; run several of it.

usage: orders.py [hastack.toml]
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
import uuid
from typing import TYPE_CHECKING

import grpc.aio
from access import AccessLog, follow
from opentelemetry import propagate
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route
from wiring import Wiring

from hastack import context, discovery, ratelimit, wasm
from hastack.contrib.asgi import (
    ContextMiddleware,
    GuardMiddleware,
    HealthMiddleware,
    MetricsMiddleware,
    PolicyMiddleware,
    RateLimitMiddleware,
)
from hastack.contrib.dashboard import Dashboard
from hastack.contrib.http_limits import Rule, by_client, by_header
from hastack.contrib.uvicorn import UvicornServer

if TYPE_CHECKING:
    from starlette.requests import Request

FAILED = frozenset(
    {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL, grpc.StatusCode.DEADLINE_EXCEEDED}
)


def failed(error: Exception) -> bool:
    """Whether the inventory was to blame: worth another try, and counted by the breaker."""
    if isinstance(error, grpc.aio.AioRpcError):
        return error.code() in FAILED
    return isinstance(error, TimeoutError)


async def ordered(request: Request) -> str:
    """The item of an order."""
    try:
        return sold((await request.json())["item"])
    except (ValueError, TypeError, KeyError):
        raise HTTPException(400, 'expected {"item": ...}') from None


def sold(item: str) -> str:
    """``item``, if there is such a thing: strangers choose no keys of what is kept here."""
    if item not in {"tea", "coffee"}:
        raise HTTPException(404, f"{item!r} is not sold here")
    return item


class Orders:
    """The handlers, and the guards around what they call."""

    def __init__(self, wiring: Wiring) -> None:
        self.channel = wiring.channel_to("inventory")
        self.breaker = wiring.guard("inventory", failures=failed)
        guarded = ratelimit.compose(
            wiring.guard("order"),
            wiring.guard("again", retry_on=failed),
            self.breaker,
            wiring.guard("attempt"),
        )
        self.call = guarded(self._call)
        # An old answer serves a reader better than none.
        self.read = ratelimit.Fallback(call=lambda error: {"because": str(error)})(self.call)
        self.last_known: dict[str, int] = {}

    async def _call(self, method: str, asked: dict) -> dict:
        metadata: dict[str, str] = {}
        propagate.inject(metadata)  # the trace; the deadline goes along by itself
        call = self.channel.unary_unary(f"/shop.Inventory/{method}")
        return json.loads(await call(json.dumps(asked).encode(), metadata=tuple(metadata.items())))

    async def post_order(self, request: Request) -> JSONResponse:
        left = context.current().remaining()
        key = request.headers.get("idempotency-key") or uuid.uuid4().hex
        item = await ordered(request)
        answer = await self.call("Reserve", {"item": item, "key": key})
        return JSONResponse({"order": key, "left": {"orders": left, **answer}}, 201)

    async def get_stock(self, request: Request) -> JSONResponse:
        item = sold(request.path_params["item"])
        answer = {"stock": self.last_known.get(item), **await self.read("Stock", {"item": item})}
        self.last_known[item] = answer["stock"]
        return JSONResponse(answer)

    async def unavailable(self, request: Request, error: Exception) -> JSONResponse:
        """The inventory refused the last try, too; the client should come back."""
        return JSONResponse({"detail": str(error)}, 503, headers={"retry-after": "1"})


def limits(wiring: Wiring) -> list[Rule]:
    """Who comes in: so much for each client, and for all as much as the service can carry."""
    client = by_header("x-client", otherwise=by_client())
    return [
        Rule(wiring.guard("per-client"), key=client),
        Rule(wiring.guard("capacity"), path="/orders"),
    ]


def policy(wiring: Wiring) -> wasm.Swap:
    """Who may do what: a plugin that its owner signed, changed when its file is."""
    swap = wasm.live(
        wiring.watched,
        "policy",
        # A new one has to answer first; then it answers, with the old one standing by.
        health=lambda plugin: plugin.allow(b"GET", b"/stock/tea"),
        plan=wasm.Plan(trial=10),
    )
    path = wiring.watched.current.sections["wasm"].plugins["policy"].path
    end = swap.watch(path.parent, every=0.2)
    wiring.life.add("policy-file", stop=end, depends_on=["observe"])
    wiring.life.add("policy", stop=swap.close, depends_on=["policy-file"])
    return swap


async def main(path: str) -> None:
    wiring = Wiring("orders", path)
    listener = socket.create_server(("127.0.0.1", 0))
    address = "{}:{}".format(*listener.getsockname())
    orders = Orders(wiring)
    plugin = policy(wiring)
    written = wiring.shop.logs / f"access-{os.getpid()}.log"
    schemas = follow(written, wiring)
    wiring.health.add_check(
        "inventory", lambda: orders.breaker.guard.state.value == "closed", critical=False
    )

    dashboard = Dashboard(service="orders")

    async def get_schemas(request: Request) -> JSONResponse:
        known = schemas.schemas.values()
        return JSONResponse({s.format: {f.name: f.type for f in s.fields} for s in known})

    app = Starlette(
        routes=[
            Route("/orders", orders.post_order, methods=["POST"]),
            Route("/stock/{item}", orders.get_stock),
            Route("/schemas", get_schemas),
            Mount("/dashboard", dashboard),
        ],
        middleware=[  # outermost first
            Middleware(HealthMiddleware, health=wiring.health, metrics=False),
            Middleware(MetricsMiddleware, endpoint=wiring.observed.endpoint),
            Middleware(AccessLog, path=written),
            Middleware(PolicyMiddleware, policy=plugin),
            Middleware(ContextMiddleware, lifecycle=wiring.life, max_timeout=3.0),
            Middleware(RateLimitMiddleware, rules=limits(wiring)),
            Middleware(GuardMiddleware),
        ],
        exception_handlers={grpc.aio.AioRpcError: orders.unavailable},
    )

    life = wiring.life
    life.add(dashboard, depends_on=["http"])  # its streams end before the server waits for them
    life.add("inventory", stop=orders.channel.close, depends_on=["registry"])
    life.add(
        UvicornServer(
            app,
            lifecycle=life,
            sockets=[listener],
            depends_on=["inventory", "policy", "access-log-end"],
            access_log=False,
            log_level="warning",
        )
    )
    wiring.offer(address, discovery.Http(f"http://{address}/healthz"), "http")
    await life.run_async()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "hastack.toml"))
