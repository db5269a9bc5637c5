"""hastack for WSGI applications: limits, health, metrics, guard errors, request contexts.

The same middlewares as in `hastack.contrib.asgi`, for Flask, Django and every other WSGI
application. Wrap the application object itself where the framework lets errors through
(Flask: ``app.config["PROPAGATE_EXCEPTIONS"] = True``), or map them in an error handler.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from hastack import context as _context
from hastack._core import _validate
from hastack._core._errors import ContextError
from hastack._health_endpoints import Endpoints
from hastack._health_http import REASONS
from hastack._rejection import problem

from ._wsgi_limits import RateLimitMiddleware

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from hastack._core._validate import Seconds
    from hastack._health_http import Reply
    from hastack._rejection import Problem
    from hastack.context import Context
    from hastack.health import Health
    from hastack.lifecycle import Lifecycle
    from hastack.observe import MetricsEndpoint

    from ._wsgi_limits import Environ, StartResponse, WSGIApp

__all__ = (
    "ContextMiddleware",
    "GuardMiddleware",
    "HealthMiddleware",
    "MetricsApp",
    "MetricsMiddleware",
    "RateLimitMiddleware",
)


@final
class HealthMiddleware:
    """Answers the health paths and passes everything else on.

    Args:
        app: The application.
        health: Who knows.
        paths: Path -> ``live``, ``ready``, ``startup`` or ``metrics``; by default ``/healthz``,
            ``/readyz``, ``/startupz`` and ``/metrics``.
        metrics: Whether ``/metrics`` is there.

    Raises:
        InvalidArgument: A path is not absolute or asks something unknown.
    """

    def __init__(
        self,
        app: WSGIApp,
        *,
        health: Health,
        paths: Mapping[str, str] | None = None,
        metrics: bool = True,
    ) -> None:
        self._app = app
        self._endpoints = Endpoints(health, paths=paths, metrics=metrics)

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """One request."""
        # WSGI keeps the mount point in SCRIPT_NAME, apart from the path.
        asked = self._endpoints.question(environ.get("PATH_INFO", ""))
        if asked is None:
            return self._app(environ, start_response)
        method = environ["REQUEST_METHOD"]
        query, accept = environ.get("QUERY_STRING", ""), environ.get("HTTP_ACCEPT", "")
        return _reply(self._endpoints.answer(asked, method, query, accept), method, start_response)


def _reply(reply: Reply, method: str, start_response: StartResponse) -> Iterable[bytes]:
    start_response(f"{reply.status} {REASONS[reply.status]}", list(reply.headers))
    return [b"" if method == "HEAD" else reply.body]


@final
class MetricsApp:
    """The page for Prometheus as an application, to be mounted: it answers at any path.

    Args:
        endpoint: Who knows; `Installed.endpoint`, or one of your own.

    Example:
        >>> from hastack import observe
        >>> from hastack.contrib.wsgi import MetricsApp
        >>> from hastack.observe import instruments
        >>> metrics = instruments.Metrics()
        >>> app = MetricsApp(observe.MetricsEndpoint(metrics.collect))
        >>> # werkzeug: DispatcherMiddleware(application, {"/metrics": app})
    """

    def __init__(self, endpoint: MetricsEndpoint) -> None:
        self._endpoint = endpoint

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """One request."""
        reply = self._endpoint.answer(
            environ["REQUEST_METHOD"],
            accept=environ.get("HTTP_ACCEPT", ""),
            encoding=environ.get("HTTP_ACCEPT_ENCODING", ""),
        )
        return _reply(reply, environ["REQUEST_METHOD"], start_response)


@final
class MetricsMiddleware:
    """Answers scrapes at one path and passes everything else on.

    Args:
        app: The application.
        endpoint: Who knows.
        path: Where the page is.
    """

    def __init__(self, app: WSGIApp, *, endpoint: MetricsEndpoint, path: str = "/metrics") -> None:
        self._app = app
        self._page = MetricsApp(endpoint)
        self._path = path

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """One request."""
        app = self._page if environ.get("PATH_INFO", "") == self._path else self._app
        return app(environ, start_response)


@final
class GuardMiddleware:
    """Turns hastack's errors into responses; the table is in `hastack.contrib.asgi`.

    An error while the body is being produced is answered as long as nothing was sent.

    Args:
        app: The application.
    """

    def __init__(self, app: WSGIApp) -> None:
        self._app = app

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """One request."""
        try:
            body = self._app(environ, start_response)
        except Exception as error:
            return _refuse(error, environ, start_response)
        return _Body(body, environ, start_response)


class _Body:
    """A response body whose first failure may still become a response of its own."""

    def __init__(
        self, body: Iterable[bytes], environ: Environ, start_response: StartResponse
    ) -> None:
        self._body = body
        self._environ = environ
        self._start_response = start_response

    def __iter__(self) -> Iterator[bytes]:
        sent = False
        try:
            for chunk in self._body:
                sent = sent or bool(chunk)
                yield chunk
        except Exception as error:
            if sent:
                raise
            yield from _refuse(error, self._environ, self._start_response)

    def close(self) -> None:
        close = getattr(self._body, "close", None)
        if close is not None:
            close()


def _refuse(error: Exception, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    answer: Problem | None = problem(error)
    if answer is None:
        raise error
    # exc_info lets start_response replace headers that were set but not sent (PEP 3333).
    start_response(
        answer.status_line, list(answer.headers), (type(error), error, error.__traceback__)
    )
    return [b"" if environ["REQUEST_METHOD"] == "HEAD" else answer.body]


@final
class ContextMiddleware:
    """Gives each request a context with the deadline of its headers.

    The context is current in the application and while its body is produced, and ends with the
    response. Synchronous code notices its end at the next `Context.check` or blocking call of
    hastack.

    Args:
        app: The application.
        lifecycle: The service whose root context is the parent of every request.
        max_timeout: Longest time a request may take, in seconds; ``None`` sets no bound.
    """

    def __init__(
        self,
        app: WSGIApp,
        *,
        lifecycle: Lifecycle | None = None,
        max_timeout: Seconds | None = None,
    ) -> None:
        self._app = app
        self._parent: Context = _context.background() if lifecycle is None else lifecycle.context
        self._max_timeout = _validate.optional_seconds("max_timeout", max_timeout)

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """One request."""
        from .propagate import from_headers

        headers = {
            key[5:].replace("_", "-").lower(): value
            for key, value in environ.items()
            if key.startswith("HTTP_") and isinstance(value, str)
        }
        ctx = from_headers(headers, parent=self._parent, max_timeout=self._max_timeout)
        try:
            with _context.using(ctx):
                body = self._app(environ, start_response)
        except ContextError as error:
            ctx.cancel()
            return _refuse(error, environ, start_response)
        except BaseException:
            ctx.cancel()
            raise
        return _ScopedBody(body, ctx)


class _ScopedBody:
    """A body whose every piece is produced inside the request's context."""

    def __init__(self, body: Iterable[bytes], ctx: Context) -> None:
        self._body = body
        self._rest: Iterator[bytes] | None = None
        self._ctx = ctx

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        # The scope must not stay open across a yield: the server's own code runs there.
        with _context.using(self._ctx):
            if self._rest is None:
                self._rest = iter(self._body)
            return next(self._rest)

    def close(self) -> None:
        try:
            close = getattr(self._body, "close", None)
            if close is not None:
                with _context.using(self._ctx):
                    close()
        finally:
            self._ctx.cancel()
