"""hastack for ASGI applications: limits, health, metrics, guard errors, request contexts.

Independent middlewares and two applications, for any ASGI 3 framework; nothing needs to be
installed. Inside out::

    app = GuardMiddleware(app)                    # RateLimited -> 429, CircuitOpen -> 503, ...
    app = RateLimitMiddleware(app, rules=rules)   # see hastack.contrib.http_limits
    app = ContextMiddleware(app, max_timeout=30)  # deadline from headers, cancel on disconnect
    app = HealthMiddleware(app, health=health)    # /healthz /readyz /startupz /metrics

In Starlette and FastAPI use ``app.add_middleware(GuardMiddleware)``: wrapped around the whole
application it would come after the framework has answered 500. Lifespan scopes pass through
untouched, and so do WebSockets but for limits and policies.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, final

from hastack import context as _context
from hastack._core import _validate
from hastack._core._errors import ContextError, InvalidArgument, PolicyDenied, WasmError
from hastack._health_endpoints import Endpoints
from hastack._health_http import question
from hastack._rejection import problem

from ._asgi_answer import refuse
from ._asgi_limits import RateLimitMiddleware

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Protocol

    from hastack._core._validate import Seconds
    from hastack._health_http import Reply
    from hastack.context import Context
    from hastack.health import Health
    from hastack.lifecycle import Lifecycle
    from hastack.observe import MetricsEndpoint

    from ._asgi_answer import ASGIApp, Message, Receive, Scope, Send

    class Policy(Protocol):
        """Who decides about requests."""

        async def allow_async(self, method: bytes, path: bytes) -> bool:
            """Whether it may pass."""
            ...


__all__ = (
    "ContextMiddleware",
    "GuardMiddleware",
    "HealthApp",
    "HealthMiddleware",
    "MetricsApp",
    "MetricsMiddleware",
    "PolicyMiddleware",
    "RateLimitMiddleware",
)


@final
class HealthMiddleware:
    """Answers the health paths and passes everything else on.

    The first request also makes `Health.watch_loop` watch the loop that serves. When it is
    blocked, the answer comes from another host, such as `hastack.contrib.health_server`.

    Args:
        app: The application.
        health: Who knows.
        paths: Path -> ``live``, ``ready``, ``startup`` or ``metrics``; by default ``/healthz``,
            ``/readyz``, ``/startupz`` and ``/metrics``.
        metrics: Whether ``/metrics`` is there, with a counter for each class of event.
        watch_loop: Whether to watch the loop.

    Raises:
        InvalidArgument: A path is not absolute or asks something unknown.

    Example:
        >>> from hastack.contrib.asgi import HealthMiddleware
        >>> from hastack.health import Health
        >>> async def app(scope, receive, send): ...
        >>> app = HealthMiddleware(app, health=Health())
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        health: Health,
        paths: Mapping[str, str] | None = None,
        metrics: bool = True,
        watch_loop: bool = True,
    ) -> None:
        self._app = app
        self._endpoints = Endpoints(health, paths=paths, metrics=metrics)
        self._watch_loop = watch_loop
        self._watched: object = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One ASGI connection."""
        self._watch()
        if scope["type"] == "http":
            asked = self._endpoints.question(scope["path"], scope.get("root_path", ""))
            if asked is not None:
                await _answer(self._endpoints, asked, scope, send)
                return
        await self._app(scope, receive, send)

    def _watch(self) -> None:
        import asyncio

        if not self._watch_loop:
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # trio, by way of anyio: no loop to watch
            return
        if loop is not self._watched:
            self._watched = loop
            self._endpoints.health.watch_loop(loop)


@final
class HealthApp:
    """The health endpoints as an application of their own, to be mounted or served alone.

    Args:
        health: Who knows.
        paths: As in `HealthMiddleware`.
        metrics: As in `HealthMiddleware`.
    """

    def __init__(
        self, health: Health, *, paths: Mapping[str, str] | None = None, metrics: bool = True
    ) -> None:
        self._inner = HealthMiddleware(_nothing, health=health, paths=paths, metrics=metrics)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One ASGI connection."""
        await self._inner(scope, receive, send)


async def _nothing(scope: Scope, receive: Receive, send: Send) -> None:
    """What is behind the endpoints when nothing is."""
    if scope["type"] == "http":
        headers = [(b"content-type", b"text/plain"), (b"content-length", b"10")]
        await send({"type": "http.response.start", "status": 404, "headers": headers})
        await send({"type": "http.response.body", "body": b"not found\n"})
    elif scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 1000})
    else:
        while True:
            message = await receive()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return


async def _answer(endpoints: Endpoints, asked: str, scope: Scope, send: Send) -> None:
    query = scope.get("query_string", b"").decode("latin-1")
    accept = ",".join(_fields(scope, b"accept"))
    await _reply(await endpoints.answer_async(asked, scope["method"], query, accept), scope, send)


async def _reply(reply: Reply, scope: Scope, send: Send) -> None:
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in reply.headers]
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    body = b"" if scope["method"] == "HEAD" else reply.body
    await send({"type": "http.response.body", "body": body})


def _fields(scope: Scope, name: bytes) -> Iterable[str]:
    return (value.decode("latin-1") for key, value in scope["headers"] if key.lower() == name)


@final
class MetricsApp:
    """The page for Prometheus as an application, to be mounted: it answers at any path.

    Collecting and writing the page happens on a thread, so that the loop serves on meanwhile.

    Args:
        endpoint: Who knows; `Installed.endpoint`, or one of your own.

    Example:
        >>> from hastack import observe
        >>> from hastack.contrib.asgi import MetricsApp
        >>> from hastack.observe import instruments
        >>> metrics = instruments.Metrics()
        >>> app = MetricsApp(observe.MetricsEndpoint(metrics.collect))
        >>> # Starlette, FastAPI: application.mount("/metrics", app)
    """

    def __init__(self, endpoint: MetricsEndpoint) -> None:
        self._endpoint = endpoint

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One ASGI connection."""
        if scope["type"] != "http":
            await _nothing(scope, receive, send)
            return
        answer = partial(
            self._endpoint.answer,
            scope["method"],
            accept=",".join(_fields(scope, b"accept")),
            encoding=",".join(_fields(scope, b"accept-encoding")),
        )
        await _reply(await _on_a_thread(answer), scope, send)


async def _on_a_thread(answer: Callable[[], Reply]) -> Reply:
    import asyncio

    try:
        asyncio.get_running_loop()
    except RuntimeError:  # trio, by way of anyio
        return answer()
    return await asyncio.to_thread(answer)


@final
class MetricsMiddleware:
    """Answers scrapes at one path and passes everything else on.

    Args:
        app: The application.
        endpoint: Who knows.
        path: Where the page is.
    """

    def __init__(self, app: ASGIApp, *, endpoint: MetricsEndpoint, path: str = "/metrics") -> None:
        self._app = app
        self._page = MetricsApp(endpoint)
        self._paths = {path: path}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One ASGI connection."""
        ours = scope["type"] == "http" and question(
            scope["path"], scope.get("root_path", ""), self._paths
        )
        await (self._page if ours else self._app)(scope, receive, send)


@final
class PolicyMiddleware:
    """Asks an HTTP policy about each request; what it denies never reaches the application.

    The policy sees the method, and the path as the application does: decoded, without the query. A
    WebSocket is asked about as ``GET`` and closed with 1008.

    Args:
        app: The application.
        policy: Who decides: a `hastack.wasm.Plugin`, a `hastack.wasm.Swap`, or anything with
            ``allow_async(method, path)``.
        fail_open: Let requests pass when the policy fails, instead of answering 403.

    Example:
        >>> from hastack import wasm
        >>> from hastack.contrib.asgi import PolicyMiddleware
        >>> async def app(scope, receive, send): ...
        >>> app = PolicyMiddleware(app, policy=wasm.Swap("policy", trust=wasm.Unsigned()))
    """

    def __init__(self, app: ASGIApp, *, policy: Policy, fail_open: bool = False) -> None:
        self._app = app
        self._policy = policy
        self._fail_open = fail_open

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One ASGI connection."""
        kind = scope["type"]
        if kind not in {"http", "websocket"} or await self._allows(scope):
            await self._app(scope, receive, send)
        elif kind == "http":
            answer = problem(PolicyDenied("policy"))
            assert answer is not None
            await refuse(answer, scope, send)
        else:
            await receive()
            await send({"type": "websocket.close", "code": 1008})

    async def _allows(self, scope: Scope) -> bool:
        method = scope.get("method", "GET").encode()
        path = scope["path"].encode("utf-8", "surrogateescape")
        try:
            return await self._policy.allow_async(method, path)
        except (WasmError, InvalidArgument):
            return self._fail_open


@final
class GuardMiddleware:
    """Turns hastack's errors into responses with a problem document (RFC 9457).

    =====================================  ======  ==========================================
    error                                  status
    =====================================  ======  ==========================================
    `RateLimited`, `ConcurrencyLimited`    429     ``Retry-After``, whole seconds, at least 1
    `PolicyDenied`                         403
    `CircuitOpen` and other `Rejected`     503     ``Retry-After`` when known
    `DeadlineExceeded`                     504
    `Cancelled`                            499     503 when the service is shutting down
    =====================================  ======  ==========================================

    An error after the response has started passes through: the server then cuts the
    connection, which is the only way left to tell the client.

    Args:
        app: The application.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One ASGI connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def watching(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, watching)
        except Exception as error:
            answer = None if started else problem(error)
            if answer is None:
                raise
            await refuse(answer, scope, send)


@final
class ContextMiddleware:
    """Gives each request a context, and ends the request when the context ends.

    The deadline comes from the request's headers (`hastack.contrib.propagate`), bounded by
    ``max_timeout``. The context is cancelled when the client disconnects (noticed once the
    request body has been read) and when the service's root context is, and the task that serves
    the request is cancelled with it. A context that ended before the response started is
    answered as by `GuardMiddleware`; to a client that has gone nothing is sent.

    Args:
        app: The application.
        lifecycle: The service whose root context is the parent of every request.
        max_timeout: Longest time a request may take, in seconds; ``None`` sets no bound.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        lifecycle: Lifecycle | None = None,
        max_timeout: Seconds | None = None,
    ) -> None:
        self._app = app
        self._parent: Context = _context.background() if lifecycle is None else lifecycle.context
        self._max_timeout = _validate.optional_seconds("max_timeout", max_timeout)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One ASGI connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        from .propagate import from_headers

        started = False

        async def watching(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        ctx = from_headers(scope["headers"], parent=self._parent, max_timeout=self._max_timeout)
        incoming = _Incoming(receive, ctx)
        try:
            async with ctx:
                try:
                    await self._app(scope, incoming.receive, watching)
                finally:
                    await incoming.close()
        except ContextError as error:
            if incoming.gone:
                return
            answer = None if started else problem(error)
            if answer is None:
                raise
            await refuse(answer, scope, send)


class _Incoming:
    """Reads ahead of the application, just far enough to see the client go.

    At most one message is held: the next one is asked for when the application has taken it,
    so the server's flow control keeps working.
    """

    def __init__(self, receive: Receive, ctx: Context) -> None:
        import asyncio

        self.gone = False
        self._receive = receive
        self._ctx = ctx
        self._held: asyncio.Queue[Message] = asyncio.Queue()
        self._taken = asyncio.Event()
        self._task = asyncio.get_running_loop().create_task(self._pump())

    async def receive(self) -> Message:
        if self.gone and self._held.empty():
            return {"type": "http.disconnect"}
        message = await self._held.get()
        self._taken.set()
        return message

    async def close(self) -> None:
        import asyncio

        self._task.cancel()
        await asyncio.wait([self._task])
        if not self._task.cancelled():
            self._task.exception()  # the application has ended: nobody else wants to know

    async def _pump(self) -> None:
        while not self.gone:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self.gone = True
                self._ctx.cancel(ConnectionResetError("the client disconnected"))
            self._taken.clear()
            self._held.put_nowait(message)
            if message.get("more_body", False):
                await self._taken.wait()
