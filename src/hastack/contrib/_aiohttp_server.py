"""Contexts, guard errors and limits for aiohttp's server."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from hastack import context as _context
from hastack._core import _validate
from hastack._core._errors import ContextError
from hastack._core._extras import require
from hastack._rejection import problem

from ._http_limits import Limits, decide_async
from ._http_request import HttpRequest
from .propagate import from_headers

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from hastack._core._validate import Seconds
    from hastack._rejection import Problem
    from hastack.lifecycle import Lifecycle

    from ._client_address import TrustedProxies
    from ._http_limits import Verdict
    from ._http_rule import Rule

    Handler = Callable[[Any], Awaitable[Any]]

web: Any = require("aiohttp.web", extra="aiohttp")

# Since 3.14 aiohttp warns about keys that are plain strings; before, it knew no others.
_key: Any = getattr(web, "RequestKey", lambda name, _: name)
_STARTED: Any = _key("hastack.started", bool)
_VERDICTS: Any = _key("hastack.verdicts", tuple)


def serve_contexts(
    app: Any, *, lifecycle: Lifecycle | None = None, max_timeout: Seconds | None = None
) -> None:
    """Give each request a context, and end the request when the context ends.

    The deadline comes from the request's headers (`hastack.contrib.propagate`), bounded by
    ``max_timeout``. A context that ended before the response started is answered with 504 or, when
    it was cancelled, 499 or 503. aiohttp tells handlers that the client has gone only when it is
    asked to, with ``handler_cancellation=True`` in ``web.run_app`` or ``web.AppRunner``: the
    handler, and with it the context, is then cancelled.

    Args:
        app: The ``aiohttp.web.Application``. What is called first is outermost: contexts, then
            guard errors, then limits.
        lifecycle: The service whose root context is the parent of every request.
        max_timeout: Longest time a request may take, in seconds; ``None`` sets no bound.
    """
    parent = _context.background() if lifecycle is None else lifecycle.context
    bound = _validate.optional_seconds("max_timeout", max_timeout)

    @web.middleware  # type: ignore[untyped-decorator]  # aiohttp is untyped here
    async def contexts(request: Any, handler: Handler) -> Any:
        ctx = from_headers(request.headers, parent=parent, max_timeout=bound)
        try:
            async with ctx:
                return await handler(request)
        except ContextError as error:
            return _instead(request, error)

    _add(app, contexts)


def serve_guard_errors(app: Any) -> None:
    """Turn hastack's errors into responses; the table is in `hastack.contrib.asgi`.

    Args:
        app: The ``aiohttp.web.Application``.
    """

    @web.middleware  # type: ignore[untyped-decorator]  # aiohttp is untyped here
    async def guard_errors(request: Any, handler: Handler) -> Any:
        try:
            return await handler(request)
        except Exception as error:
            return _instead(request, error)

    _add(app, guard_errors)


def serve_rate_limits(
    app: Any,
    *,
    rules: Iterable[Rule],
    headers: str | tuple[str, ...] | None = "draft",
    proxies: TrustedProxies | None = None,
) -> None:
    """Ask rules about each request, WebSockets included; refused ones never reach a handler.

    The same as `hastack.contrib.asgi.RateLimitMiddleware`. Permits are held until the response has
    been sent, or the client has gone and aiohttp has noticed.

    Args:
        app: The ``aiohttp.web.Application``.
        rules: As there, like the others.
        headers: Which response headers.
        proxies: Who may say who the client is.

    Raises:
        InvalidArgument: An argument is something else.

    Example:
        >>> from aiohttp import web
        >>> from hastack import ratelimit
        >>> from hastack.contrib import aiohttp
        >>> from hastack.contrib.http_limits import Rule, by_client
        >>> async def main():
        ...     app = web.Application()
        ...     rule = Rule(ratelimit.TokenBucket("50/s", name="api"), key=by_client())
        ...     aiohttp.serve_rate_limits(app, rules=[rule])
    """
    limits = Limits(rules, headers=headers, proxies=proxies)

    @web.middleware  # type: ignore[untyped-decorator]  # aiohttp is untyped here
    async def rate_limits(request: Any, handler: Handler) -> Any:
        verdict = await decide_async(limits, _AiohttpRequest(request, limits.proxies))
        request[_VERDICTS] = (*request.get(_VERDICTS, ()), verdict)
        if verdict.problem is not None:
            return _response(verdict.problem)
        if not verdict.holds:
            return await handler(request)
        status = 200
        # aiohttp runs each request in a task of its own, which ends when the response is sent.
        task = asyncio.current_task()
        assert task is not None
        task.add_done_callback(lambda _: verdict.finish(status=status))
        try:
            response = await handler(request)
        except web.HTTPException as error:
            status = error.status
            raise
        except BaseException as error:
            verdict.finish(error)
            raise
        status = response.status
        return response

    _add(app, rate_limits)


class _AiohttpRequest(HttpRequest):
    """A request of aiohttp's server."""

    __slots__ = ()

    def __init__(self, request: Any, proxies: TrustedProxies | None) -> None:
        super().__init__(request.method, request.path, request.remote, request, proxies)

    def header(self, name: str) -> str | None:
        found = self.native.headers.getall(name, ())
        return ",".join(found) if found else None

    def _template(self) -> str:
        resource = self.native.match_info.route.resource
        return "" if resource is None else str(resource.canonical)


def _add(app: Any, middleware: Any) -> None:
    app.middlewares.append(middleware)
    if _prepared not in app.on_response_prepare:
        app.on_response_prepare.append(_prepared)


async def _prepared(request: Any, response: Any) -> None:
    """Just before the headers of any response are sent."""
    request[_STARTED] = True
    for verdict in request.get(_VERDICTS, ()):
        _add_fields(response.headers, verdict)


def _add_fields(headers: Any, verdict: Verdict) -> None:
    for name, value in verdict.fields:
        if name in {"ratelimit", "ratelimit-policy"} or name not in headers:
            headers.add(name, value)


def _instead(request: Any, error: Exception) -> Any:
    """The response for ``error``, unless another one is on its way already."""
    answer = None if request.get(_STARTED) else problem(error)
    if answer is None:
        raise error
    return _response(answer)


def _response(answer: Problem) -> Any:
    # aiohttp counts the body itself, and leaves it out for HEAD.
    headers = [(name, value) for name, value in answer.headers if name != "content-length"]
    return web.Response(status=answer.status, body=answer.body, headers=headers)
