"""Limits for single endpoints of Starlette and FastAPI applications.

For rules by path, and for whole applications, there is `hastack.contrib.asgi.RateLimitMiddleware`.

Example:
    >>> from hastack import ratelimit
    >>> from hastack.contrib.http_limits import by_client
    >>> from hastack.contrib.starlette import Limit
    >>> logins = Limit(ratelimit.TokenBucket("5/min", name="logins"), key=by_client())
    >>> # FastAPI:   @app.post("/login", dependencies=[Depends(logins)])
    >>> @logins.endpoint
    ... async def login(request): ...
"""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any, final

from hastack._core._errors import InvalidArgument
from hastack._core._extras import require

from ._asgi_limits import INNER_FIELDS, AsgiRequest, answered, refuse_socket
from ._http_limits import Limits, decide_async
from ._http_rule import Rule

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from typing import Self

    from ._asgi_answer import Receive, Scope, Send
    from ._client_address import TrustedProxies
    from ._http_limits import Verdict

# Untyped on purpose: whether Starlette is installed must not matter to whoever checks types.
_concurrency: Any = require("starlette.concurrency", extra="web")
_exceptions: Any = require("starlette.exceptions", extra="web")
_requests: Any = require("starlette.requests", extra="web")
_responses: Any = require("starlette.responses", extra="web")
_websockets: Any = require("starlette.websockets", extra="web")

__all__ = ("Limit", "LimitRefused", "answer_refused")


@final
class LimitRefused(_exceptions.HTTPException):  # type: ignore[misc]  # a class without types
    """What the dependency `Limit` raises: 429 or 503, with ``Retry-After`` and the limits' headers.

    Frameworks answer it in their own form, ``{"detail": ...}`` in FastAPI. For the problem document
    that hastack answers everywhere else: ``app.add_exception_handler(LimitRefused,
    answer_refused)``.

    Attributes:
        verdict: What the rules said.
    """

    def __init__(self, verdict: Verdict) -> None:
        answer = verdict.problem
        assert answer is not None
        content = {"content-type", "content-length"}  # of the document, which is not sent
        headers = dict((*(h for h in answer.headers if h[0] not in content), *verdict.fields))
        super().__init__(answer.status, detail=str(verdict.error), headers=headers)
        self.verdict = verdict


async def answer_refused(request: Any, error: Exception) -> Any:
    """An exception handler that answers `LimitRefused` with a problem document."""
    if not isinstance(error, LimitRefused):
        raise error
    return _refusal(error.verdict)


def _refusal(verdict: Verdict) -> Any:
    answer = verdict.problem
    assert answer is not None
    headers = dict((*answer.headers, *verdict.fields))
    return _responses.Response(answer.body, status_code=answer.status, headers=headers)


class Limit:
    """One rule for one endpoint: a FastAPI dependency, and a decorator for Starlette's endpoints.

    As a dependency, ``Depends(limit)`` or ``dependencies=[Depends(limit)]``, it refuses by raising
    `LimitRefused`, and holds what it holds until the response has been sent and its background tasks
    are done (FastAPI 0.118 or newer). The response headers are on every answer that FastAPI builds;
    for those on which an endpoint returns a ``Response`` itself, add `RateLimitMiddleware` to the
    application, with rules or without.

    As ``@limit.endpoint`` it stands around functions and methods that take a request or a WebSocket.

    Args:
        guard: As for `Rule`, like ``key``, ``cost``, ``when``, ``name``, ``partition`` and
            ``shadow``.
        headers: As for `RateLimitMiddleware`, like ``proxies``.
        proxies: Who may say who the client is.
        **options: The rule's.

    Raises:
        InvalidArgument: An argument is outside of its range.
    """

    def __new__(cls, guard: Any, **_options: Any) -> Self:
        """A limit whose call is a generator when its guard holds something."""
        # FastAPI looks at __call__: a generator is told of the end, at a price that a rate limit,
        # which holds nothing, need not pay.
        behind = guard.guard if isinstance(guard, Rule) else guard
        holds = getattr(behind, "_settles", False)
        kind: type[Any] = _HoldingLimit if holds else cls
        made: Self = object.__new__(kind)
        return made

    def __init__(
        self,
        guard: Any,
        *,
        headers: str | tuple[str, ...] | None = "draft",
        proxies: TrustedProxies | None = None,
        **options: Any,
    ) -> None:
        rule = guard if isinstance(guard, Rule) else Rule(guard, **options)
        self._limits = Limits([rule], headers=headers, proxies=proxies)
        # FastAPI reads this; what is written below it could not resolve, since an instance has no
        # globals.
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        self.__signature__ = inspect.Signature(
            [
                inspect.Parameter("request", kind, annotation=_requests.HTTPConnection),
                inspect.Parameter("response", kind, annotation=_responses.Response),
            ]
        )

    async def __call__(self, request: Any, response: Any) -> None:
        """The dependency; FastAPI calls it."""
        await self._admit(request, response)

    async def _admit(self, request: Any, response: Any) -> Verdict:
        verdict = await self._decide(request)
        if verdict.problem is not None:
            if request.scope["type"] == "websocket":
                raise _exceptions.WebSocketException(1013, str(verdict.error))
            raise LimitRefused(verdict)
        inner = request.scope.get(INNER_FIELDS)
        if inner is None:
            for name, value in verdict.fields:
                response.headers.append(name, value)
        else:
            inner.extend(verdict.fields)
        return verdict

    def endpoint(self, fn: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
        """Decorate an endpoint: ``(request)``, ``(self, request)`` or ``(websocket)``.

        A plain function runs on a thread, as it would without.
        """
        if not inspect.isroutine(fn):
            raise InvalidArgument("fn", fn, "a function that takes a request or a WebSocket")

        @functools.wraps(fn)
        async def limited(*args: Any, **kwargs: Any) -> Any:
            kind = _requests.HTTPConnection
            request = next((a for a in (*args, *kwargs.values()) if isinstance(a, kind)), None)
            if request is None:
                raise InvalidArgument("fn", fn, "a function that takes a request or a WebSocket")
            verdict = await self._decide(request)
            if isinstance(request, _websockets.WebSocket):
                return await _socket(request, verdict, lambda: fn(*args, **kwargs))
            if verdict.problem is not None:
                return _refusal(verdict)
            try:
                if inspect.iscoroutinefunction(fn):
                    answer = await fn(*args, **kwargs)
                else:
                    answer = await _concurrency.run_in_threadpool(fn, *args, **kwargs)
            except _exceptions.HTTPException as error:
                verdict.finish(status=error.status_code)
                raise
            except BaseException as error:
                verdict.finish(error)
                raise
            return _Limited(answer, verdict)

        return limited

    async def _decide(self, request: Any) -> Verdict:
        limits = self._limits
        return await decide_async(limits, AsgiRequest(request.scope, limits.proxies))


class _HoldingLimit(Limit):
    """One whose guard has to learn of the end."""

    async def __call__(  # type: ignore[override]  # FastAPI takes either
        self, request: Any, response: Any
    ) -> AsyncIterator[None]:
        verdict = await self._admit(request, response)
        try:
            yield
        except _exceptions.HTTPException as error:
            verdict.finish(status=error.status_code)
            raise
        except BaseException as error:
            verdict.finish(error)
            raise
        verdict.finish()


async def _socket(socket: Any, verdict: Verdict, run: Callable[[], Awaitable[Any]]) -> None:
    if verdict.problem is not None:
        await refuse_socket(verdict, socket.scope, socket.receive, socket._send)
        return
    try:
        await run()
    except BaseException as error:
        verdict.finish(error)
        raise
    verdict.finish()


class _Limited(_responses.Response):  # type: ignore[misc]  # a class without types
    """An endpoint's response that carries headers, and ends what the request holds with it."""

    def __init__(self, inner: Any, verdict: Verdict) -> None:
        # No super(): this is the inner response in every respect.
        self.__dict__.update(inner.__dict__)
        self._inner = inner
        self._verdict = verdict

    def __del__(self) -> None:
        # One that nobody sent: a decorator further out put another in its place.
        self._verdict.finish()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await answered(self._inner, self._verdict, scope, receive, send)
