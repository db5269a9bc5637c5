"""Client-side balancing for httpx: transports that send each request to an instance of a service.

The host in the URL names the service; other hosts pass through. The ``Host`` header and the TLS
server name stay those of the URL. An instance to which no connection can be made has not seen the
request: another one gets it, as long as there are some that were not tried.

Example:
    >>> import httpx
    >>> from hastack.contrib.httpx import BalancedTransport
    >>> from hastack.discovery.balance import Balancer
    >>> orders = Balancer("orders")  # .follow(registry)
    >>> client = httpx.Client(transport=BalancedTransport(orders))
    >>> client.get("http://orders/")
    Traceback (most recent call last):
        ...
    hastack.errors.NoInstance: orders: no instance
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

from hastack._core._extras import require

from ._balanced import another, by_host, host_and_port, status_verdict

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection, Iterator

    import httpx

    from hastack.discovery.balance import Balancer, Pick

    from ._balanced import Balancers
else:
    httpx = require("httpx", extra="httpx")

__all__ = ("AsyncBalancedTransport", "BalancedTransport")


class _Routing:
    """Where a request goes."""

    def __init__(
        self, balancers: Balancers, key: Callable[[httpx.Request], str | bytes | int | None] | None
    ) -> None:
        self._balancers: dict[str, Balancer] = by_host(balancers)
        self._key = key

    def balancer(self, request: httpx.Request) -> Balancer | None:
        """Who chooses for this request; ``None`` when its host is no service."""
        return self._balancers.get(request.url.host)

    def route(
        self, balancer: Balancer, request: httpx.Request, tried: Collection[str]
    ) -> tuple[Pick, httpx.Request]:
        """An instance, and the request as it goes there."""
        pick = balancer.pick(key=None if self._key is None else self._key(request), avoid=tried)
        try:
            host, port = host_and_port(pick.address)
            extensions = dict(request.extensions)
            extensions.setdefault("sni_hostname", request.url.host)
            sent = httpx.Request(
                request.method,
                request.url.copy_with(host=host, port=port or request.url.port),
                headers=request.headers,
                stream=request.stream,
                extensions=extensions,
            )
        except BaseException:
            pick.release()
            raise
        return pick, sent


def _again(error: BaseException, balancer: Balancer, pick: Pick, tried: list[str]) -> bool:
    """Whether nobody has seen the request, as no connection was made, and somebody else may."""
    if not isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        return False
    return another(balancer, pick, tried)


@final
class BalancedTransport(httpx.BaseTransport):
    """Transport for `httpx.Client`.

    A call is in flight until its response is closed. Errors of the connection and 5xx answers
    count against the instance.

    Args:
        balancers: One balancer, whose service's name is the host, or several by host.
        inner: What really sends; an `httpx.HTTPTransport` by default.
        key: Key of a request, for `ConsistentHash`.

    Raises:
        InvalidArgument: ``balancers`` is something else.
        NoInstance: (from requests) The service has no instance.
    """

    def __init__(
        self,
        balancers: Balancers,
        inner: httpx.BaseTransport | None = None,
        *,
        key: Callable[[httpx.Request], str | bytes | int | None] | None = None,
    ) -> None:
        self._routing = _Routing(balancers, key)
        self._inner = httpx.HTTPTransport() if inner is None else inner

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Called by httpx."""
        balancer = self._routing.balancer(request)
        if balancer is None:
            return self._inner.handle_request(request)
        tried: list[str] = []
        while True:
            pick, sent = self._routing.route(balancer, request, tried)
            try:
                response = self._inner.handle_request(sent)
            except BaseException as error:
                pick.done(error)
                if not _again(error, balancer, pick, tried):
                    raise
            else:
                response.stream = _Stream(response.stream, pick, response.status_code)
                return response

    def close(self) -> None:
        """Close the inner transport."""
        self._inner.close()


@final
class AsyncBalancedTransport(httpx.AsyncBaseTransport):
    """Transport for `httpx.AsyncClient`; see `BalancedTransport`."""

    def __init__(
        self,
        balancers: Balancers,
        inner: httpx.AsyncBaseTransport | None = None,
        *,
        key: Callable[[httpx.Request], str | bytes | int | None] | None = None,
    ) -> None:
        self._routing = _Routing(balancers, key)
        self._inner = httpx.AsyncHTTPTransport() if inner is None else inner

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Called by httpx."""
        balancer = self._routing.balancer(request)
        if balancer is None:
            return await self._inner.handle_async_request(request)
        tried: list[str] = []
        while True:
            pick, sent = self._routing.route(balancer, request, tried)
            try:
                response = await self._inner.handle_async_request(sent)
            except BaseException as error:
                pick.done(error)
                if not _again(error, balancer, pick, tried):
                    raise
            else:
                response.stream = _AsyncStream(response.stream, pick, response.status_code)
                return response

    async def aclose(self) -> None:
        """Close the inner transport."""
        await self._inner.aclose()


class _Stream(httpx.SyncByteStream):
    def __init__(self, inner: Any, pick: Pick, status: int) -> None:
        self._inner = inner
        self._pick = pick
        self._status = status

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._inner
        except BaseException as error:
            self._pick.done(error)
            raise

    def close(self) -> None:
        self._pick.done(status_verdict(self._status))
        self._inner.close()


class _AsyncStream(httpx.AsyncByteStream):
    def __init__(self, inner: Any, pick: Pick, status: int) -> None:
        self._inner = inner
        self._pick = pick
        self._status = status

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for part in self._inner:
                yield part
        except BaseException as error:
            self._pick.done(error)
            raise

    async def aclose(self) -> None:
        self._pick.done(status_verdict(self._status))
        await self._inner.aclose()
