"""Limits around ASGI applications."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

from ._asgi_answer import encoded, refuse
from ._http_limits import Limits, decide_async
from ._http_request import HttpRequest

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ._asgi_answer import ASGIApp, Message, Receive, Scope, Send
    from ._client_address import TrustedProxies
    from ._http_limits import Verdict
    from ._http_rule import Rule

INNER_FIELDS = "hastack.limit_fields"
"""Key of a scope: a list to which limits inside of the application add response headers."""

_FULL = 2  # starlette.routing.Match.FULL


class AsgiRequest(HttpRequest):
    """A request out of an ASGI scope."""

    __slots__ = ()

    def __init__(self, scope: Scope, proxies: TrustedProxies | None) -> None:
        client = scope.get("client")
        path: str = scope["path"]
        root: str = scope.get("root_path", "")
        below = path.removeprefix(root)
        if below != path and below[:1] in {"", "/"}:
            path = below or "/"
        peer = client[0] if client else None
        super().__init__(scope.get("method", "GET"), path, peer, scope, proxies)

    def header(self, name: str) -> str | None:
        wanted = name.encode("latin-1", "replace")
        found = [value for key, value in self.native["headers"] if key == wanted]
        if not found:
            return None
        return (found[0] if len(found) == 1 else b",".join(found)).decode("latin-1")

    def _template(self) -> str:
        scope = self.native
        route = scope.get("route")
        if route is None:
            # In a middleware nobody has chosen a route yet; Starlette's router can be asked.
            routes = getattr(getattr(scope.get("app"), "router", None), "routes", ())
            return _matching(routes, scope)
        return str(getattr(route, "path", ""))


def _matching(routes: Iterable[Any], scope: Scope) -> str:
    for route in routes:
        matches = getattr(route, "matches", None)
        if matches is None:
            continue
        match, child = matches(scope)
        if match.value == _FULL:
            inner = getattr(route, "routes", None)
            below = _matching(inner, {**scope, **child}) if inner else ""
            return f"{getattr(route, 'path', '')}{below}"
    return ""


@final
class RateLimitMiddleware:
    """Asks rules about each request; what they refuse never reaches the application.

    A refusal is answered as by `GuardMiddleware`: 429 with ``Retry-After`` for limits, 503 for
    open breakers, a problem document as the body. Response headers say how the limits stand, on
    allowed and on refused requests. Permits of concurrency limits are held until the last byte of
    the response has been handed to the server, whatever way the request ends.

    A WebSocket's opening handshake is a ``GET``: refused, it is answered with the same response
    where the server can (the ``websocket.http.response`` extension), and otherwise with 403.

    Rules wait only when their limiters have a ``max_wait``, and then within the deadline of the
    current context: put this inside of `ContextMiddleware`.

    Args:
        app: The application.
        rules: In the order in which they are asked; a request that one refuses gives back what
            it got from those before.
        headers: ``"draft"`` for the fields ``RateLimit-Policy`` and ``RateLimit`` of the IETF's
            current draft, ``"legacy"`` for ``RateLimit-Limit``, ``-Remaining`` and ``-Reset``,
            ``"x"`` for the same with ``X-`` before, a tuple of several, or ``None``.
        proxies: Who may say who the client is; by default nobody, so that the client is the peer
            that the server reports.

    Raises:
        InvalidArgument: An argument is something else.

    Example:
        >>> from hastack import ratelimit
        >>> from hastack.contrib.asgi import RateLimitMiddleware
        >>> from hastack.contrib.http_limits import Rule, by_client
        >>> async def app(scope, receive, send): ...
        >>> app = RateLimitMiddleware(
        ...     app, rules=[Rule(ratelimit.TokenBucket("50/s", name="api"), key=by_client())]
        ... )
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        rules: Iterable[Rule],
        headers: str | tuple[str, ...] | None = "draft",
        proxies: TrustedProxies | None = None,
    ) -> None:
        self._app = app
        self._limits = Limits(rules, headers=headers, proxies=proxies)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One ASGI connection."""
        kind = scope["type"]
        if kind not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        limits = self._limits
        verdict = await decide_async(limits, AsgiRequest(scope, limits.proxies))
        if verdict.problem is None:
            await answered(self._app, verdict, scope, receive, send)
        elif kind == "http":
            await refuse(verdict.problem, scope, send, verdict.fields)
        else:
            await refuse_socket(verdict, scope, receive, send)


async def answered(
    app: ASGIApp, verdict: Verdict, scope: Scope, receive: Receive, send: Send
) -> None:
    """Let ``app`` answer a request that the rules let pass."""
    status = 200
    trailers = False
    # What limits further in have to say; see `hastack.contrib.starlette`. Not in a copy of the
    # scope: those outside (tracing) look there for the route that was chosen inside.
    inner: list[tuple[str, str]] = []
    scope[INNER_FIELDS] = inner

    async def watching(message: Message) -> None:
        nonlocal status, trailers
        kind = message["type"]
        if kind in {"http.response.start", "websocket.accept", "websocket.http.response.start"}:
            status = message.get("status", 101)
            trailers = bool(message.get("trailers"))
            own = message.get("headers", ())
            message = {**message, "headers": with_fields(own, (*verdict.fields, *inner))}
        await send(message)
        # Before the application returns, which may have background work left.
        if ends_response(message, trailers=trailers):
            verdict.finish(status=status)

    try:
        await app(scope, receive, watching)
    except BaseException as error:
        verdict.finish(error)
        raise
    verdict.finish(status=status)


def ends_response(message: Message, *, trailers: bool) -> bool:
    """Whether nothing follows ``message``."""
    kind = message["type"]
    if kind in {"http.response.body", "http.response.zerocopysend"}:
        return not (message.get("more_body") or trailers)
    if kind == "http.response.trailers":
        return not message.get("more_trailers")
    return kind == "http.response.pathsend" and not trailers


def with_fields(
    headers: Iterable[tuple[bytes, bytes]], fields: tuple[tuple[str, str], ...]
) -> list[tuple[bytes, bytes]]:
    """``headers`` and the limits' own.

    The two fields of the draft are lists: another line adds to those of the application. Of the
    older ones there may be only one, and the application's own stays.
    """
    kept = list(headers)
    there = {bytes(name).lower() for name, _ in kept}
    for name, value in encoded(fields):
        if name not in there or name in {b"ratelimit", b"ratelimit-policy"}:
            kept.append((name, value))
    return kept


async def refuse_socket(verdict: Verdict, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a WebSocket's opening handshake with a no."""
    answer = verdict.problem
    assert answer is not None
    await receive()  # the handshake itself
    if "websocket.http.response" not in (scope.get("extensions") or {}):
        await send({"type": "websocket.close", "code": 1013})  # "try again later"
        return
    headers = encoded((*answer.headers, *verdict.fields))
    start = "websocket.http.response.start"
    await send({"type": start, "status": answer.status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": answer.body})
