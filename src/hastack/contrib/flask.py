"""Limits for Flask applications: rules for all of one, and a decorator for single views.

Refusals are problem documents with 429 or 503, as everywhere in hastack; they pass through the
application's ``after_request`` functions like any other response.

Example:
    >>> import flask
    >>> from hastack import ratelimit
    >>> from hastack.contrib.flask import RateLimits, limit
    >>> from hastack.contrib.http_limits import Rule, TrustedProxies, by_client
    >>> app = flask.Flask("shop")
    >>> _ = RateLimits(
    ...     app,
    ...     rules=[Rule(ratelimit.TokenBucket("50/s", name="api"), key=by_client())],
    ...     proxies=TrustedProxies("10.0.0.0/8"),
    ... )
    >>> @app.post("/login")
    ... @limit(ratelimit.TokenBucket("5/min", name="logins"), key=by_client())
    ... def login(): ...
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, final

from hastack._core._callables import Kind, kind_of
from hastack._core._extras import require

from ._http_limits import Limits, decide
from ._http_rule import Rule
from ._wsgi_limits import WsgiRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ._client_address import TrustedProxies
    from ._http_limits import Verdict

# Untyped on purpose: whether Flask is installed must not matter to whoever checks types.
flask: Any = require("flask", extra="flask")

__all__ = ("RateLimits", "limit")

_EXTENSION = "hastack.limits"
_VERDICT = "hastack.verdict"


class _FlaskRequest(WsgiRequest):
    """The request that Flask is serving now."""

    __slots__ = ()

    def __init__(self, proxies: TrustedProxies | None) -> None:
        request = flask.request
        super().__init__(request.environ, proxies, request)

    def _template(self) -> str:
        rule = self.native.url_rule
        return "" if rule is None else str(rule.rule)


@final
class RateLimits:
    """Asks rules about each request of an application; a Flask extension.

    Permits are held until the server has closed the response.

    Args:
        app: The application; or call `init_app` later.
        rules: As for `hastack.contrib.asgi.RateLimitMiddleware`, like ``headers``.
        headers: Which response headers.
        proxies: Who may say who the client is; also for views with `limit`.

    Raises:
        InvalidArgument: An argument is something else.
    """

    def __init__(
        self,
        app: Any = None,
        *,
        rules: Iterable[Rule] = (),
        headers: str | tuple[str, ...] | None = "draft",
        proxies: TrustedProxies | None = None,
    ) -> None:
        self._limits = Limits(rules, headers=headers, proxies=proxies)
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Any) -> None:
        """Connect to an application."""
        app.extensions[_EXTENSION] = self._limits
        app.before_request(self._before)
        app.teardown_request(self._teardown)

    def _before(self) -> Any:
        verdict = decide(self._limits, _FlaskRequest(self._limits.proxies))
        if verdict.problem is not None:
            return _refusal(verdict)
        flask.request.environ[_VERDICT] = verdict
        flask.after_this_request(functools.partial(_answered, verdict, flask.request.environ))
        return None

    def _teardown(self, error: BaseException | None) -> None:
        # Still there only when no response was made: an error that nobody handles is passed on.
        verdict = flask.request.environ.pop(_VERDICT, None)
        if verdict is not None:
            verdict.finish(error)


def _answered(verdict: Verdict, environ: dict[str, Any] | None, response: Any) -> Any:
    """Give a response the limits' headers, and let its end be the end of what is held."""
    if environ is not None:
        environ.pop(_VERDICT, None)
    _add_fields(response.headers, verdict)
    if verdict.holds:
        status = response.status_code
        response.call_on_close(functools.partial(verdict.finish, status=status))
    return response


def _add_fields(headers: Any, verdict: Verdict) -> None:
    """Add the limits' headers; of the older ones there may be only one each."""
    for name, value in verdict.fields:
        if name in {"ratelimit", "ratelimit-policy"}:
            headers.add(name, value)
        else:
            headers.setdefault(name, value)


def _refusal(verdict: Verdict) -> Any:
    answer = verdict.problem
    assert answer is not None
    headers = [*answer.headers, *verdict.fields]
    return flask.Response(answer.body, status=answer.status, headers=headers)


def limit(
    guard: Any,
    *,
    headers: str | tuple[str, ...] | None = "draft",
    proxies: TrustedProxies | None = None,
    **options: Any,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A decorator that limits one view, plain or ``async``; put it below ``@app.route``.

    Args:
        guard: As for `Rule`, like ``key``, ``cost``, ``when``, ``name``, ``partition`` and
            ``shadow``.
        headers: Which response headers.
        proxies: Who may say who the client is; default: as the application's `RateLimits` says.
        **options: The rule's.

    Raises:
        InvalidArgument: An argument is outside of its range.
    """
    rule = guard if isinstance(guard, Rule) else Rule(guard, **options)
    limits = Limits([rule], headers=headers, proxies=proxies)

    def decorate(view: Callable[..., Any]) -> Callable[..., Any]:
        asynchronous = kind_of(view) is Kind.COROUTINE

        # An async view runs through Flask's own bridge, inside of this plain function.
        @functools.wraps(view)
        def limited(*args: Any, **kwargs: Any) -> Any:
            of_all = flask.current_app.extensions.get(_EXTENSION)
            believed = of_all.proxies if proxies is None and of_all is not None else proxies
            verdict = decide(limits, _FlaskRequest(believed))
            if verdict.problem is not None:
                return _refusal(verdict)
            flask.after_this_request(functools.partial(_answered, verdict, None))
            run = flask.current_app.ensure_sync(view) if asynchronous else view
            try:
                return run(*args, **kwargs)
            except BaseException as error:
                # The error page is small and comes from elsewhere: nothing is held for it.
                verdict.finish(*_outcome(error))
                raise

        return limited

    return decorate


def _outcome(error: BaseException) -> tuple[BaseException | None, int]:
    """What a guard is told: ``abort(404)`` is an answer and no failure."""
    code = getattr(error, "code", None)
    return (None, code) if isinstance(code, int) else (error, 500)
