"""hastack for aiohttp: client-side balancing; contexts, guard errors and limits for its server.

`balanced` is a client middleware that chooses an instance per request. The host in the URL names the service; other hosts pass through. The ``Host`` header stays that of
the URL. With https, certificates are checked against the instance's address: aiohttp takes the
server name from where it connects.

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

from hastack._core._extras import require

from ._balanced import another, by_host, host_and_port, status_verdict

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ._aiohttp_server import serve_contexts, serve_guard_errors, serve_rate_limits
    from ._balanced import Balancers

aiohttp: Any = require("aiohttp", extra="aiohttp")

__all__ = ("balanced", "serve_contexts", "serve_guard_errors", "serve_rate_limits")


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
