"""Serve an ASGI application with uvicorn under a `Lifecycle`: with a real lame duck.

Uvicorn by itself closes its listeners on the first SIGTERM, while balancers still send. Here
the lifecycle owns the signals: readiness goes false, uvicorn keeps accepting for the lame-duck
time and asks clients with ``Connection: close`` to come back elsewhere, then it drains, and is
cut off when the drain time is over.

Example::

    from hastack.contrib.uvicorn import serve
    from hastack.lifecycle import Lifecycle

    life = Lifecycle("orders", probe_period=5.0)
    life.add("db", start=pool.open, stop=pool.close)
    serve(app, lifecycle=life, depends_on=["db"], host="0.0.0.0", port=8000)
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING, Any, final

from hastack._core._errors import LifecycleError
from hastack._core._extras import require
from hastack.lifecycle import Phase

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from hastack.health import Health
    from hastack.lifecycle import Lifecycle, ShutdownReport

    from ._asgi_answer import ASGIApp, Message, Receive, Scope, Send

__all__ = ("UvicornServer", "serve")

_LEAVING = (Phase.LAME_DUCK, Phase.DRAINING, Phase.STOPPING)


@final
class UvicornServer:
    """A uvicorn server as a component: give it to `Lifecycle.add`.

    Args:
        app: The ASGI application.
        lifecycle: The service that it belongs to; told when the server ends by itself.
        name: Name of the component.
        depends_on: Components that must be up before the first request.
        sockets: Listening sockets to use in place of ``host`` and ``port``.
        options: Everything that ``uvicorn.Config`` takes. ``timeout_graceful_shutdown``
            defaults to the lifecycle's drain time; reload and workers have no meaning here.

    Raises:
        MissingDependency: uvicorn is not installed.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        lifecycle: Lifecycle,
        name: str = "http",
        depends_on: Iterable[str] = (),
        sockets: list[Any] | None = None,
        **options: Any,
    ) -> None:
        uvicorn = require("uvicorn", extra="web")
        self.name = name
        self.depends_on = tuple(depends_on)
        self._lifecycle = lifecycle
        self._sockets = sockets
        for each in sockets or ():
            _without_delay(each)
        drain = lifecycle.times.drain
        # Whole seconds is what uvicorn declares; a float works and the drain step bounds it too.
        options.setdefault("timeout_graceful_shutdown", drain)
        self._server = _own_server(uvicorn)(uvicorn.Config(_Leaving(app, lifecycle), **options))
        self._task: asyncio.Task[None] | None = None

    @property
    def addresses(self) -> list[Any]:
        """Where it listens, once started: the names of its sockets."""
        found = []
        for server in getattr(self._server, "servers", ()):
            found += [each.getsockname() for each in server.sockets]
        return found

    async def start(self) -> None:
        """Listen, and run the application's lifespan start."""
        self._task = asyncio.get_running_loop().create_task(self._serve(), name="uvicorn")
        while not self._server.started:
            if self._task.done():
                await self._task
                raise LifecycleError("uvicorn ended before it served; its log says why")
            await asyncio.sleep(0.005)
        self._task.add_done_callback(self._ended)

    async def drain(self) -> None:
        """Stop listening and wait for the requests in flight."""
        self._server.should_exit = True
        if self._task is not None:
            await asyncio.wait([self._task])

    async def stop(self) -> None:
        """Cut off what is still there."""
        self._server.should_exit = self._server.force_exit = True
        if self._task is None:
            return
        for request in list(self._server.server_state.tasks):
            request.cancel()
        for connection in list(self._server.server_state.connections):
            if connection.transport is not None:
                connection.transport.abort()
        await asyncio.wait([self._task])

    async def _serve(self) -> None:
        try:
            await self._server.serve(sockets=self._sockets)
        except SystemExit as error:
            # How uvicorn reports that it cannot start; let through it would end the loop.
            raise LifecycleError("uvicorn could not start; its log says why") from error

    def _ended(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if self._lifecycle.phase is Phase.SERVING:
            self._lifecycle.shutdown(error or LifecycleError("uvicorn ended by itself"))


def _without_delay(listener: socket.socket) -> None:
    """Send at once what is written: connections inherit this from their listener.

    asyncio does so itself where it knows that a socket is TCP, which those made without a protocol
    number (`socket.create_server`) do not say. There the body of each answer would wait for the
    client to acknowledge its head, 40 ms on Linux.
    """
    if listener.family in {socket.AF_INET, socket.AF_INET6}:
        with contextlib.suppress(OSError):
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _own_server(uvicorn: Any) -> Any:
    class Server(uvicorn.Server):  # type: ignore[misc]  # only known at run time
        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield  # they belong to the lifecycle

    return Server


class _Leaving:
    """Asks keep-alive clients to go away while the service is on its way out.

    Otherwise a connection that idles in a balancer's pool is closed at the very moment at which
    the balancer may be putting a request on it.
    """

    def __init__(self, app: ASGIApp, lifecycle: Lifecycle) -> None:
        self._app = app
        self._lifecycle = lifecycle

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def closing(message: Message) -> None:
            if message["type"] == "http.response.start" and self._lifecycle.phase in _LEAVING:
                headers = [
                    (name, value)
                    for name, value in message.get("headers", ())
                    if name.lower() != b"connection"
                ]
                message = {**message, "headers": [*headers, (b"connection", b"close")]}
            await send(message)

        await self._app(scope, receive, closing)


def serve(
    app: ASGIApp,
    *,
    lifecycle: Lifecycle,
    health: Health | None = None,
    depends_on: Iterable[str] | None = None,
    **options: Any,
) -> ShutdownReport:
    """Serve ``app`` until the process is told to end; returns after an orderly shutdown.

    Args:
        app: The ASGI application.
        lifecycle: Its components, times and root context.
        health: When given, the loop is watched for it.
        depends_on: Components that must be up before the first request; by default all that
            have been added.
        options: For ``uvicorn.Config``: ``host``, ``port``, ``uds``, ``log_level`` ...

    Raises:
        MissingDependency: uvicorn is not installed.
        StartFailed: A component, or uvicorn, did not start.
        StopFailed: Something did not end within the budget.
    """
    needs = lifecycle.components if depends_on is None else tuple(depends_on)
    lifecycle.add(UvicornServer(app, lifecycle=lifecycle, depends_on=needs, **options))

    async def main() -> ShutdownReport:
        if health is not None:
            health.watch_loop()
        return await lifecycle.run_async()

    return asyncio.run(main())
