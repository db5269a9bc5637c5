"""The service under test: a Starlette app on uvicorn whose handler carries hastack guards."""

from __future__ import annotations

import asyncio
import itertools
import math
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

from hastack._core._extras import require
from hastack.errors import ContextError, RateLimited, Rejected

from ._children import run_child
from ._strategies import by_name

if TYPE_CHECKING:
    from collections.abc import Callable

    import uvicorn
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route

    from ._children import Parent
    from ._strategies import Guarded
    from ._workload import Plan
else:
    uvicorn = require("uvicorn", extra="web")
    Starlette = require("starlette.applications", extra="web").Starlette
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
        if self._transport is None or self._transport.is_closing():
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


def make_app(guarded: Guarded, dependency: DependencyClient) -> Starlette:
    """The application: ``/order`` asks the dependency, behind the strategy's guards."""

    async def order() -> str:
        await dependency.call()
        return "ordered\n"

    guarded_order = order if guarded.guard is None else guarded.guard(order)

    async def endpoint(request: Request) -> PlainTextResponse:
        return PlainTextResponse(await guarded_order())

    async def shed(request: Request, error: Exception) -> PlainTextResponse:
        assert isinstance(error, Rejected)
        after = max(1, math.ceil(error.retry_after or 0.0))
        return PlainTextResponse(
            f"{error}\n",
            status_code=429 if isinstance(error, RateLimited) else 503,
            headers={"retry-after": str(after)},
        )

    async def failed(request: Request, error: Exception) -> PlainTextResponse:
        status = 504 if isinstance(error, ContextError) else 502
        return PlainTextResponse(f"{error}\n", status_code=status)

    return Starlette(
        routes=[Route("/order", endpoint)],
        exception_handlers={Rejected: shed, ContextError: failed, DependencyError: failed},
    )


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


class _Server(uvicorn.Server):
    """Says when it listens."""

    def __init__(self, config: uvicorn.Config, started: Callable[[], None]) -> None:
        super().__init__(config)
        self._say_started = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._say_started()


async def _main(parent: Parent) -> None:
    plan = parent.plan
    guarded = by_name(parent.spec["strategy"]).build(plan)
    loop = asyncio.get_running_loop()
    _, client = await loop.create_connection(
        DependencyClient, "127.0.0.1", parent.spec["dependency"]
    )
    listener = socket.create_server(("127.0.0.1", parent.spec["port"]), backlog=2048)
    config = uvicorn.Config(
        make_app(guarded, client),
        lifespan="off",
        log_level="warning",
        access_log=False,
        timeout_keep_alive=60,
        timeout_graceful_shutdown=1,
    )
    server = _Server(config, lambda: parent.say(port=listener.getsockname()[1]))
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    start: dict[str, Any] = await parent.hear()
    threading.Thread(
        target=watch, args=(parent, plan, guarded, start["start"]), daemon=True
    ).start()
    await parent.gone()
    server.should_exit = True
    await serving


if __name__ == "__main__":
    run_child(_main)
