"""hastack for aiohttp: guarded and balanced clients; contexts, guard errors and limits for servers.

`guarded` is a client middleware that puts guards around each request and repeats what is safe.
`balanced` is one that chooses an instance per request: the host in the URL names the service;
other hosts pass through. The ``Host`` header stays that of the URL. With https, certificates are
checked against the instance's address: aiohttp takes the server name from where it connects.

For a server there are `serve_contexts`, `serve_guard_errors` and `serve_rate_limits`, each for an
``aiohttp.web.Application``.

Example:
    >>> from hastack.contrib.aiohttp import balanced
    >>> from hastack.discovery.balance import Balancer
    >>> orders = Balancer("orders")  # .follow(registry)
    >>> async def main():
    ...     async with aiohttp.ClientSession(middlewares=[balanced(orders)]) as session:
    ...         await session.get("http://orders/")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hastack import context
from hastack._core._extras import require

from ._balanced import another, by_host, host_and_port, status_verdict
from ._client_calls import (
    Attempt,
    Tries,
    check_rules,
    guarded_async,
    idempotent,
    not_sent,
    outgoing,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from hastack.ratelimit import Guard, Retry

    from ._aiohttp_server import serve_contexts, serve_guard_errors, serve_rate_limits
    from ._balanced import Balancers

aiohttp: Any = require("aiohttp", extra="aiohttp")

__all__ = ("balanced", "guarded", "serve_contexts", "serve_guard_errors", "serve_rate_limits")


def __getattr__(name: str) -> Any:
    # A client needs nothing of aiohttp.web, which is large.
    if not name.startswith("serve_") or name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import _aiohttp_server

    return getattr(_aiohttp_server, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def balanced(
    balancers: Balancers,
    *,
    key: Callable[[Any], str | bytes | int | None] | None = None,
) -> Callable[[Any, Callable[[Any], Awaitable[Any]]], Awaitable[Any]]:
    """A client middleware (aiohttp 3.12 or newer) that sends requests to instances.

    A call is in flight until its connection is released. Errors and 5xx answers count against the
    instance. One to which no connection can be made has not seen the request: another one gets it,
    as long as there are some that were not tried.

    Args:
        balancers: One balancer, whose service's name is the host, or several by host.
        key: Key of an `aiohttp.ClientRequest`, for `ConsistentHash`.

    Raises:
        InvalidArgument: ``balancers`` is something else.
        NoInstance: (from requests) The service has no instance.
    """
    known = by_host(balancers)

    async def send(request: Any, handler: Callable[[Any], Awaitable[Any]]) -> Any:
        balancer = known.get(request.url.host)
        if balancer is None:
            return await handler(request)
        asked = request.url
        tried: list[str] = []
        while True:
            pick = balancer.pick(key=None if key is None else key(request), avoid=tried)
            try:
                host, port = host_and_port(pick.address)
                request.url = asked.with_host(host).with_port(port or asked.port)
                response = await handler(request)
                break
            except BaseException as error:
                pick.done(error)
                # No connection was made, so nobody has seen the request.
                if not isinstance(error, aiohttp.ClientConnectorError) or not another(
                    balancer, pick, tried
                ):
                    raise
            finally:
                request.url = asked  # a middleware further out that sends again asks anew
        verdict = status_verdict(response.status)
        connection = response.connection
        if connection is None:  # the whole answer is here
            pick.done(verdict)
        else:
            connection.add_callback(lambda: pick.done(verdict))
        return response

    return send


def guarded(
    *, guard: Guard | None = None, retry: Retry | None = None
) -> Callable[[Any, Callable[[Any], Awaitable[Any]]], Awaitable[Any]]:
    """A client middleware (aiohttp 3.12 or newer) with guards around each request.

    A request holds its permits until its connection is released. A breaker is told of errors, of
    bodies that break off, and of 5xx answers. Requests carry the current context: its deadline
    and trace identity go along in headers, and ``async with context.timeout(...)`` ends them.

    Args:
        guard: Around each try: limiters, breakers, `ServerLimits`, timeouts, or a `compose` of
            them. Their key and cost functions get the `aiohttp.ClientRequest`.
        retry: When to try again after an error of the connection, a refusal of ``guard``, or a
            429, 502, 503 or 504, with the wait that ``Retry-After`` asks for. Only what is safe
            is repeated: requests that did not leave, and idempotent ones (by method, or with an
            ``Idempotency-Key``) whose body is at hand. With no try left, the last answer is
            returned.

    Raises:
        InvalidArgument: An argument is something else, or ``guard`` would repeat requests.
        Rejected: (from requests) A guard refused.
        ContextError: (from requests) The current context has ended.

    Example:
        >>> import aiohttp
        >>> from hastack import ratelimit
        >>> from hastack.contrib.aiohttp import guarded
        >>> middleware = guarded(guard=ratelimit.ServerLimits(), retry=ratelimit.Retry(3))
        >>> async def main():
        ...     async with aiohttp.ClientSession(middlewares=[middleware]) as session:
        ...         await session.get("http://orders/")
    """
    check_rules(guard, retry)

    async def attempt_once(attempt: Attempt) -> Any:
        request = attempt.request
        headers = outgoing(request.headers)
        request.headers.update(headers)
        try:
            return await attempt.options(request)
        finally:
            for name in headers:  # a later try has less time left
                request.headers.popall(name, None)

    call = guarded_async(guard, attempt_once)

    async def send(request: Any, handler: Callable[[Any], Awaitable[Any]]) -> Any:
        tries = Tries(retry, request, _repeatable)
        while True:
            attempt = Attempt(request, handler)
            try:
                response = await call(attempt)
            except BaseException as error:
                attempt.end(error)
                delay = tries.after(error)
                if delay is None:
                    raise
            else:
                _end_with(response, attempt)
                delay = tries.after_answer(response.status, response)
                if delay is None:
                    return response
                response.close()
            await context.sleep_async(delay)

    return send


def _repeatable(request: Any, error: Exception) -> bool:
    """Whether sending ``request`` again after ``error`` can do no harm."""
    if isinstance(error, aiohttp.ClientConnectorError) or not_sent(error):
        return True
    replayable = request.body == b"" or isinstance(request.body, aiohttp.BytesPayload)
    return replayable and idempotent(request.method, request.headers)


def _end_with(response: Any, attempt: Attempt) -> None:
    """Let the attempt end when the connection of ``response`` is released."""
    verdict = status_verdict(response.status)
    connection = getattr(response, "connection", None)
    if connection is None:  # the whole answer is here
        attempt.end(verdict, response)
    else:
        connection.add_callback(
            lambda: attempt.end(response.content.exception() or verdict, response)
        )
