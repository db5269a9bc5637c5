"""Limits around WSGI applications."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

from ._http_limits import Limits, decide
from ._http_request import HttpRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import TypeAlias

    from ._client_address import TrustedProxies
    from ._http_limits import Verdict
    from ._http_rule import Rule

    Environ: TypeAlias = dict[str, Any]
    StartResponse: TypeAlias = Callable[..., Any]
    WSGIApp: TypeAlias = Callable[[Environ, StartResponse], Iterable[bytes]]

# WSGI has these two without HTTP_ before them.
_BARE = {"content-length": "CONTENT_LENGTH", "content-type": "CONTENT_TYPE"}


class WsgiRequest(HttpRequest):
    """A request out of a WSGI environment, or out of Django's copy of one."""

    __slots__ = ("_environ",)

    def __init__(
        self, environ: Environ, proxies: TrustedProxies | None, native: Any = None
    ) -> None:
        # PATH_INFO holds bytes, one in each character (PEP 3333).
        path = environ.get("PATH_INFO", "").encode("latin-1", "replace").decode("utf-8", "replace")
        peer = environ.get("REMOTE_ADDR") or None
        native = environ if native is None else native
        super().__init__(environ["REQUEST_METHOD"], path or "/", peer, native, proxies)
        self._environ = environ

    def header(self, name: str) -> str | None:
        field = _BARE.get(name)
        if field is not None:
            return self._environ.get(field) or None
        value: str | None = self._environ.get(f"HTTP_{name.upper().replace('-', '_')}")
        return value


@final
class RateLimitMiddleware:
    """Asks rules about each request; what they refuse never reaches the application.

    The same as `hastack.contrib.asgi.RateLimitMiddleware`. A rule whose limiter has a ``max_wait``
    blocks the thread that long. Permits are held until the server closes the response's body.

    Args:
        app: The application.
        rules: As there, like the others.
        headers: Which response headers.
        proxies: Who may say who the client is.

    Raises:
        InvalidArgument: An argument is something else.

    Example:
        >>> from hastack import ratelimit
        >>> from hastack.contrib.http_limits import Rule, by_client
        >>> from hastack.contrib.wsgi import RateLimitMiddleware
        >>> def app(environ, start_response): ...
        >>> app = RateLimitMiddleware(
        ...     app, rules=[Rule(ratelimit.TokenBucket("50/s", name="api"), key=by_client())]
        ... )
    """

    def __init__(
        self,
        app: WSGIApp,
        *,
        rules: Iterable[Rule],
        headers: str | tuple[str, ...] | None = "draft",
        proxies: TrustedProxies | None = None,
    ) -> None:
        self._app = app
        self._limits = Limits(rules, headers=headers, proxies=proxies)

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """One request."""
        verdict = decide(self._limits, WsgiRequest(environ, self._limits.proxies))
        answer = verdict.problem
        if answer is not None:
            start_response(answer.status_line, [*answer.headers, *verdict.fields])
            return [b"" if environ["REQUEST_METHOD"] == "HEAD" else answer.body]
        started = _Started(verdict, start_response)
        try:
            body = self._app(environ, started)
        except BaseException as error:
            verdict.finish(error)
            raise
        # Unwrapped where nothing is held: the server may know a faster way to send a file.
        return _HeldBody(body, verdict, started) if verdict.holds else body


class _Started:
    """``start_response`` with the limits' headers."""

    def __init__(self, verdict: Verdict, start_response: StartResponse) -> None:
        self._verdict = verdict
        self._start_response = start_response
        self.status = 200

    def __call__(self, status: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
        self.status = int(status[:3])
        return self._start_response(status, with_fields(headers, self._verdict), *rest)


def with_fields(headers: Iterable[tuple[str, str]], verdict: Verdict) -> list[tuple[str, str]]:
    """``headers`` and the limits' own; see `hastack.contrib._asgi_limits.with_fields`."""
    kept = list(headers)
    there = {name.lower() for name, _ in kept}
    for name, value in verdict.fields:
        if name not in there or name in {"ratelimit", "ratelimit-policy"}:
            kept.append((name, value))
    return kept


class _HeldBody:
    """A body at whose end permits are given back."""

    def __init__(self, body: Iterable[bytes], verdict: Verdict, started: _Started) -> None:
        self._body = body
        self._verdict = verdict
        self._started = started

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._body
        except GeneratorExit:
            raise
        except BaseException as error:
            self._verdict.finish(error)
            raise

    def close(self) -> None:
        try:
            close = getattr(self._body, "close", None)
            if close is not None:
                close()
        finally:
            self._verdict.finish(status=self._started.status)
