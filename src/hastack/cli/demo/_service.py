"""The service under test: a Starlette application on uvicorn, with everything hastack gives one.

Guards around the handler, their errors as responses, health endpoints, an ordered shutdown.
"""

from __future__ import annotations

import asyncio
import itertools
import socket
import threading
import time
from typing import TYPE_CHECKING

from hastack._core._extras import require
from hastack.contrib.asgi import GuardMiddleware, HealthMiddleware
from hastack.contrib.uvicorn import UvicornServer
from hastack.health import Health
from hastack.lifecycle import Lifecycle

from ._children import run_child
from ._strategies import by_name

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.requests import Request
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route

    from hastack.contrib._asgi_answer import ASGIApp

    from ._children import Parent
    from ._strategies import Guarded
    from ._workload import Plan
else:
    Starlette = require("starlette.applications", extra="web").Starlette
    Middleware = require("starlette.middleware", extra="web").Middleware
    PlainTextResponse = require("starlette.responses", extra="web").PlainTextResponse
    Route = require("starlette.routing", extra="web").Route


class DependencyError(Exception):
    """The dependency answered with an error, refused, or is gone."""


class DependencyClient(asyncio.Protocol):
    """Calls over one connection, told apart by number."""

    def __init__(self) -> None:
        self._numbers = itertools.count()
        self._calls: dict[bytes, asyncio.Future[bytes]] = {}
        self._partial = b""
        self._transport: asyncio.WriteTransport | None = None

    @property
    def connected(self) -> bool:
        """Whether calls can be made."""
        return self._transport is not None and not self._transport.is_closing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        *lines, self._partial = (self._partial + data).split(b"\n")
        for line in lines:
            number, _, word = line.partition(b" ")
            answer = self._calls.get(number)
            if answer is not None and not answer.done():
                answer.set_result(word)

    def connection_lost(self, exc: Exception | None) -> None:
        for answer in self._calls.values():
            if not answer.done():
                answer.set_result(b"connection lost")

    async def call(self) -> None:
        """One call; returns when it succeeded.

        Raises:
            DependencyError: It did not.
        """
        if self._transport is None or not self.connected:
            raise DependencyError("not connected")
        number = b"%d" % next(self._numbers)
        answer = self._calls[number] = asyncio.get_running_loop().create_future()
        self._transport.write(number + b"\n")
        try:
            word = await answer
        finally:
            del self._calls[number]
        if word != b"ok":
            raise DependencyError(word.decode())


class Orders:
    """The handler behind ``/order``, which asks the dependency.

    Guards are put on it when the load begins: some of them judge the time before it, too, and
    a service that is up earlier must not be judged differently.

    Args:
        dependency: Where the work is done.
    """

    def __init__(self, dependency: DependencyClient) -> None:
        self.dependency = dependency
        self.breaker_state: Callable[[], str] = lambda: "closed"
        self._handle: Callable[[], Awaitable[str]] = self._order

    def protect(self, guarded: Guarded) -> None:
        """Put a strategy's guards around the handler."""
        self.breaker_state = guarded.state
        self._handle = self._order if guarded.guard is None else guarded.guard(self._order)

    async def _order(self) -> str:
        await self.dependency.call()
        return "ordered\n"

    async def answer(self, request: Request) -> PlainTextResponse:
        """Answer one request."""
        return PlainTextResponse(await self._handle())


async def _failed(request: Request, error: Exception) -> PlainTextResponse:
    return PlainTextResponse(f"dependency: {error}\n", status_code=502)


def make_app(orders: Orders, life: Lifecycle) -> ASGIApp:
    """The application with everything around it.

    It is ready while the dependency is connected; an open breaker only degrades.
    """
    health = Health("demo", lifecycle=life)
    health.add_check("dependency", lambda: orders.dependency.connected)
    health.add_check("breaker", lambda: orders.breaker_state() == "closed", critical=False)
    app = Starlette(
        routes=[Route("/order", orders.answer)],
        middleware=[Middleware(GuardMiddleware)],
        exception_handlers={DependencyError: _failed},
    )
    return HealthMiddleware(app, health=health)


def watch(parent: Parent, plan: Plan, guarded: Guarded, start: float) -> None:
    """Tell the parent every tick what the guards look like, from a thread of its own.

    A thread, because the loop is what is under load; a tick that the loop delays would hide
    exactly what is to be seen.
    """
    for number in itertools.count():
        at = number * plan.tick
        if at >= plan.duration:
            break
        time.sleep(max(0.0, start + at - time.monotonic()))
        parent.say(at=at, state=guarded.state(), limit=guarded.limit())
    parent.say(done=True)


async def _main(parent: Parent) -> None:
    plan = parent.plan
    _, client = await asyncio.get_running_loop().create_connection(
        DependencyClient, "127.0.0.1", parent.spec["dependency"]
    )
    # Nobody balances load here, so there is nobody to wait for: no lame duck.
    life = Lifecycle("demo", lame_duck=0.0, drain=0.5, stop=0.5)
    listener = socket.create_server(("127.0.0.1", parent.spec["port"]), backlog=2048)
    orders = Orders(client)
    server = UvicornServer(
        make_app(orders, life),
        lifecycle=life,
        sockets=[listener],
        lifespan="off",
        log_level="warning",
        access_log=False,
        timeout_keep_alive=60,
    )
    life.add(server)
    async with life:
        parent.say(port=listener.getsockname()[1])
        start = (await parent.hear())["start"]
        guarded = by_name(parent.spec["strategy"]).build(plan)
        orders.protect(guarded)
        watching = threading.Thread(
            target=watch, args=(parent, plan, guarded, start), name="ticks", daemon=True
        )
        watching.start()
        await parent.gone()


if __name__ == "__main__":
    run_child(_main)
