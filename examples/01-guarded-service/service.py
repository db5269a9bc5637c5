"""A Starlette service that stays up: guarded handlers, health, an orderly end.

usage: service.py [--port 8000] [--health-port 8081] [--lame-duck SECONDS]
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import logging

from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from hastack import context, ratelimit
from hastack.contrib.asgi import ContextMiddleware, GuardMiddleware, HealthMiddleware
from hastack.contrib.health_server import HealthServer
from hastack.contrib.uvicorn import serve
from hastack.health import Health
from hastack.lifecycle import Lifecycle


class Inventory:
    """Stands for a database: 5 ms per answer, and a switch that breaks it."""

    def __init__(self):
        self.broken = False
        self.open = False

    async def start(self):
        await asyncio.sleep(0.05)
        self.open = True

    async def stop(self):
        self.open = False

    async def ping(self):
        if self.broken:
            raise ConnectionRefusedError("inventory:5432")

    async def count(self, item):
        await self.ping()
        await asyncio.sleep(0.005)
        return len(item)


log = logging.getLogger("stock")
inventory = Inventory()

# Who asks too often is told when to come back (429); a broken inventory is left in peace (503).
per_client = ratelimit.TokenBucket(
    "5/s", burst=5, key=lambda client, **_: client, name="per-client"
)
breaker = ratelimit.CircuitBreaker(window=10.0, min_calls=5, open_for=2.0, name="inventory")


@ratelimit.compose(per_client, breaker)
async def stock(client, *, item):
    return await inventory.count(item)


async def get_stock(request):
    client = request.headers.get("x-client", "anonymous")
    return JSONResponse({"stock": await stock(client, item=request.path_params["item"])})


async def slow(request):
    """Works for a second, unless its caller has less time than that."""
    await asyncio.sleep(1.0)
    return JSONResponse({"left": context.current().remaining()})


async def switch(request):
    inventory.broken = not inventory.broken
    return JSONResponse({"broken": inventory.broken})


def sweeper():
    """A plain thread that works until the service ends."""
    ctx = context.current()
    for sweep in itertools.count():
        if ctx.wait(1.0):
            log.info("sweeper: %d sweeps, ended by: %s", sweep, ctx.cause())
            return


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--health-port", type=int, default=8081)
    parser.add_argument("--lame-duck", type=float, default=None, help="default: 10 s x 3 probes")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")

    life = Lifecycle("stock", lame_duck=options.lame_duck, drain=10.0, stop=5.0)
    health = Health("stock", lifecycle=life)
    health.add_check("inventory", inventory.ping, timeout=0.5, ttl=0.2, failures=1)

    life.add(HealthServer(health, port=options.health_port))
    life.add("inventory", start=inventory.start, stop=inventory.stop)
    life.add_worker("sweeper", sweeper, depends_on=["inventory"])

    app = Starlette(
        routes=[
            Route("/stock/{item}", get_stock),
            Route("/slow", slow),
            Route("/switch", switch, methods=["POST"]),
        ]
    )
    app.add_middleware(GuardMiddleware)
    app.add_middleware(ContextMiddleware, lifecycle=life, max_timeout=5.0)
    app.add_middleware(HealthMiddleware, health=health)
    log.info("a shutdown takes up to %g s", life.budget)
    report = serve(app, lifecycle=life, health=health, port=options.port, log_level="warning")
    log.info("%s", report)


if __name__ == "__main__":
    main()
