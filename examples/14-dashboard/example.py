"""A shop with a dashboard. See README.md beside this file."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import socket
import time

import uvicorn
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from hastack import discovery, ratelimit
from hastack.contrib.dashboard import Dashboard
from hastack.errors import Rejected
from hastack.health import Health

TOKEN = "tea-and-biscuits-1"

orders = ratelimit.TokenBucket("40/s", burst=10, name="orders")
stock = ratelimit.CircuitBreaker(name="stock", window=3.0, min_calls=10, open_for=2.0)
workers = ratelimit.AdaptiveLimit(name="workers", initial=4, max_limit=32, min_samples=10)
health = Health("shop")
began = time.monotonic()


@health.check("stock", critical=False)
def stock_is_well() -> bool:
    return stock.state is ratelimit.BreakerState.CLOSED


@ratelimit.compose(orders, workers, stock)
async def order() -> str:
    await asyncio.sleep(random.uniform(0.002, 0.01))
    if (time.monotonic() - began) % 10.0 > 7.0 and random.random() < 0.9:
        raise OSError("the stock service is ill")
    return "tea"


async def load(stop: asyncio.Event) -> None:
    async def one() -> None:
        with contextlib.suppress(Rejected, OSError):
            await order()

    async with asyncio.TaskGroup() as tasks:
        while not stop.is_set():
            tasks.create_task(one())
            await asyncio.sleep(random.expovariate(60.0))
            await health.readiness_async()


async def serve(port: int) -> None:
    dashboard = Dashboard(service="shop", actions=TOKEN)
    app = Starlette(
        routes=[
            Route("/", lambda _request: PlainTextResponse("a shop; see /dashboard/\n")),
            Mount("/dashboard", dashboard),
        ]
    )
    sock = socket.create_server(("127.0.0.1", port))
    address = f"http://127.0.0.1:{sock.getsockname()[1]}/dashboard/"
    print(f"dashboard: {address}\nactions:   token {TOKEN}", flush=True)
    # A page that is open holds a stream; this bounds how long the end waits for it.
    config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1)
    stop = asyncio.Event()
    registry = discovery.connect("memory://shop")
    async with registry, registry.register("orders", address, grace=0.0):
        await registry.resolve_async("orders")
        busy = asyncio.create_task(load(stop))
        try:
            with dashboard:
                await uvicorn.Server(config).serve(sockets=[sock])
        finally:
            stop.set()
            await busy
            sock.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=8000)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(parser.parse_args().port))
