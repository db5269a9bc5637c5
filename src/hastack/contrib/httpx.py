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

from hastack import context
from hastack._core._extras import require

from ._balanced import another, by_host, host_and_port, status_verdict
from ._client_calls import (
    Attempt,
    Tries,
    check_rules,
    guarded,
    guarded_async,
    idempotent,
    not_sent,
    outgoing,
    own_error,
    remaining,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection, Iterator

    import httpx

    from hastack.discovery.balance import Balancer, Pick
    from hastack.ratelimit import Guard, Retry

    from ._balanced import Balancers
else:
    httpx = require("httpx", extra="httpx")

__all__ = (
    "AsyncBalancedTransport",
    "AsyncGuardedTransport",
    "BalancedTransport",
    "GuardedTransport",
)


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


# Nothing left for the server before one of these.
_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


def _carrying(request: httpx.Request) -> httpx.Request:
    """``request`` with the current context's deadline and trace identity."""
    ctx = context.current()
    if ctx is context.background():
        return request
    headers = httpx.Headers(request.headers)
    headers.update(outgoing(request.headers))
    extensions = dict(request.extensions)
    left = remaining()
    if left is not None:
        given = extensions.get("timeout") or {}
        extensions["timeout"] = {
            each: left if given.get(each) is None else min(given[each], left)
            for each in ("connect", "read", "write", "pool")
        }
    return httpx.Request(
        request.method, request.url, headers=headers, stream=request.stream, extensions=extensions
    )


def _repeatable(request: httpx.Request, error: Exception) -> bool:
    """Whether sending ``request`` again after ``error`` can do no harm."""
    if isinstance(error, _NOT_SENT) or not_sent(error):
        return True
    # Other bodies may have been read to their end.
    replayable = isinstance(request.stream, httpx.ByteStream)
    return replayable and idempotent(request.method, request.headers)


@final
class GuardedTransport(httpx.BaseTransport):
    """Transport for `httpx.Client` with guards around each request.

    A request holds its permits until its response is closed. A breaker is told of errors, of
    bodies that break off, and of 5xx answers. Requests carry the current context: its deadline
    bounds every timeout and goes along in a header, as does its trace identity.

    Args:
        inner: What really sends; an `httpx.HTTPTransport` by default.
        guard: Around each try: limiters, breakers, `ServerLimits`, timeouts, or a `compose` of
            them. Their key and cost functions get the `httpx.Request`.
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
        >>> import httpx
        >>> from hastack import ratelimit
        >>> from hastack.contrib.httpx import GuardedTransport
        >>> guard = ratelimit.compose(ratelimit.ServerLimits(), ratelimit.CircuitBreaker())
        >>> retry = ratelimit.Retry(3, budget=ratelimit.RetryBudget())
        >>> client = httpx.Client(transport=GuardedTransport(guard=guard, retry=retry))
        >>> client.close()
    """

    def __init__(
        self,
        inner: httpx.BaseTransport | None = None,
        *,
        guard: Guard | None = None,
        retry: Retry | None = None,
    ) -> None:
        check_rules(guard, retry)
        self._inner = httpx.HTTPTransport() if inner is None else inner
        self._retry = retry
        self._call = guarded(guard, self._send)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Called by httpx."""
        tries = Tries(self._retry, request, _repeatable)
        while True:
            attempt = Attempt(request)
            try:
                response: httpx.Response = self._call(attempt)
            except BaseException as error:
                attempt.end(error)
                delay = tries.after(error)
                if delay is None:
                    raise
            else:
                if attempt.holds:
                    response.stream = _HeldStream(response, attempt)
                delay = tries.after_answer(response.status_code, response)
                if delay is None:
                    return response
                response.close()
            context.sleep(delay)

    def _send(self, attempt: Attempt) -> httpx.Response:
        try:
            return self._inner.handle_request(_carrying(attempt.request))
        except httpx.TimeoutException as error:
            mine = own_error()
            if mine is None:
                raise
            raise mine from error

    def close(self) -> None:
        """Close the inner transport."""
        self._inner.close()


@final
class AsyncGuardedTransport(httpx.AsyncBaseTransport):
    """Transport for `httpx.AsyncClient`; see `GuardedTransport`."""

    def __init__(
        self,
        inner: httpx.AsyncBaseTransport | None = None,
        *,
        guard: Guard | None = None,
        retry: Retry | None = None,
    ) -> None:
        check_rules(guard, retry)
        self._inner = httpx.AsyncHTTPTransport() if inner is None else inner
        self._retry = retry
        self._call = guarded_async(guard, self._send)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Called by httpx."""
        tries = Tries(self._retry, request, _repeatable)
        while True:
            attempt = Attempt(request)
            try:
                response: httpx.Response = await self._call(attempt)
            except BaseException as error:
                attempt.end(error)
                delay = tries.after(error)
                if delay is None:
                    raise
            else:
                if attempt.holds:
                    response.stream = _HeldAsyncStream(response, attempt)
                delay = tries.after_answer(response.status_code, response)
                if delay is None:
                    return response
                await response.aclose()
            await context.sleep_async(delay)

    async def _send(self, attempt: Attempt) -> httpx.Response:
        try:
            return await self._inner.handle_async_request(_carrying(attempt.request))
        except httpx.TimeoutException as error:
            mine = own_error()
            if mine is None:
                raise
            raise mine from error

    async def aclose(self) -> None:
        """Close the inner transport."""
        await self._inner.aclose()


class _HeldStream(httpx.SyncByteStream):
    """A body whose end settles the attempt."""

    def __init__(self, response: httpx.Response, attempt: Attempt) -> None:
        self._inner: Any = response.stream
        self._response = response
        self._attempt = attempt

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._inner
        except BaseException as error:
            self._attempt.end(error)
            raise

    def close(self) -> None:
        response = self._response
        self._attempt.end(status_verdict(response.status_code), response)
        self._inner.close()


class _HeldAsyncStream(httpx.AsyncByteStream):
    def __init__(self, response: httpx.Response, attempt: Attempt) -> None:
        self._inner: Any = response.stream
        self._response = response
        self._attempt = attempt

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for part in self._inner:
                yield part
        except BaseException as error:
            self._attempt.end(error)
            raise

    async def aclose(self) -> None:
        response = self._response
        self._attempt.end(status_verdict(response.status_code), response)
        await self._inner.aclose()
