"""Limits for Django: a middleware set up by ``settings``, and a decorator for single views.

Both work with plain and with asynchronous views, under WSGI and ASGI.

In ``settings.py``::

    from hastack import ratelimit
    from hastack.contrib.http_limits import Rule, TrustedProxies, by_client

    MIDDLEWARE = ["hastack.contrib.django.RateLimitMiddleware", ...]
    HASTACK_LIMITS = {
        "rules": [Rule(ratelimit.TokenBucket("50/s", name="api"), key=by_client())],
        "proxies": TrustedProxies("10.0.0.0/8"),
    }

and for a view::

    @limit(ratelimit.TokenBucket("5/min", name="logins"), key=by_client())
    def login(request): ...
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, final

from hastack._core._callables import Kind, kind_of
from hastack._core._errors import InvalidArgument
from hastack._core._extras import require

from ._http_limits import Limits, decide, decide_async
from ._http_rule import Rule
from ._wsgi_limits import WsgiRequest

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ._client_address import TrustedProxies
    from ._http_limits import Verdict

# Untyped on purpose: whether Django is installed must not matter to whoever checks types.
_conf: Any = require("django.conf", extra="django")
_deprecation: Any = require("django.utils.deprecation", extra="django")
_http: Any = require("django.http", extra="django")
_loading: Any = require("django.utils.module_loading", extra="django")
_urls: Any = require("django.urls", extra="django")

__all__ = ("RateLimitMiddleware", "limit")

_SETTING = "HASTACK_LIMITS"
_OPTIONS = frozenset(("rules", "headers", "proxies"))


class _DjangoRequest(WsgiRequest):
    """A request of Django's, whichever way it came in."""

    __slots__ = ()

    def __init__(self, request: Any, proxies: TrustedProxies | None) -> None:
        super().__init__(request.META, proxies, request)
        self.method = request.method
        self.path = request.path_info

    def _template(self) -> str:
        match = self.native.resolver_match
        if match is None:  # in a middleware, before Django has looked
            try:
                match = _urls.resolve(self.native.path_info, getattr(self.native, "urlconf", None))
            except _urls.Resolver404:
                return ""
        return f"/{match.route}"


# The setting that was read last and what it means. A function in the settings is called once: its
# limits keep what they have counted.
_known: tuple[Any, Limits] | None = None


def _from_settings() -> Limits:
    global _known
    setting = getattr(_conf.settings, _SETTING, None)
    known = _known
    if known is None or known[0] is not setting:
        known = _known = (setting, _read(setting))
    return known[1]


def _read(given: Any) -> Limits:
    if isinstance(given, str):
        given = _loading.import_string(given)
    if callable(given):
        given = given()
    if not isinstance(given, dict) or "rules" not in given or not set(given) <= _OPTIONS:
        accepted = 'a dict with "rules", and perhaps "headers" and "proxies", or a path to one'
        raise InvalidArgument(_SETTING, given, accepted)
    return Limits(**given)


@final
class RateLimitMiddleware(_deprecation.MiddlewareMixin):  # type: ignore[misc]  # a class without types
    """Asks the rules of ``settings.HASTACK_LIMITS`` about each request.

    The setting is a dict with ``"rules"`` and, as for `hastack.contrib.asgi.RateLimitMiddleware`,
    ``"headers"`` and ``"proxies"``; or the dotted path of such a dict, or of a function that
    returns one. Put the middleware first, or behind those that tell who the user is.

    Permits are held until the response is closed.

    Args:
        get_response: What Django gives to every middleware.

    Raises:
        InvalidArgument: The setting is missing, or something in it is wrong.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[Any], Any]) -> None:
        super().__init__(get_response)
        self._limits = _from_settings()

    def __call__(self, request: Any) -> Any:
        """One request."""
        if self.async_mode:
            return self.__acall__(request)
        verdict = decide(self._limits, _DjangoRequest(request, self._limits.proxies))
        return _guarded(verdict, lambda: self.get_response(request))

    async def __acall__(self, request: Any) -> Any:
        """One request under ASGI."""
        limits = self._limits
        verdict = await decide_async(limits, _DjangoRequest(request, limits.proxies))
        return await _guarded_async(verdict, lambda: self.get_response(request))


def limit(
    guard: Any,
    *,
    headers: str | tuple[str, ...] | None = "draft",
    proxies: TrustedProxies | None = None,
    **options: Any,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A decorator that limits one view, plain or ``async``.

    For a class-based view: ``limit(...)(Page.as_view())`` in the URLs.

    Args:
        guard: As for `Rule`, like ``key``, ``cost``, ``when``, ``name``, ``partition`` and
            ``shadow``.
        headers: Which response headers.
        proxies: Who may say who the client is; default: as ``settings.HASTACK_LIMITS`` says.
        **options: The rule's.

    Raises:
        InvalidArgument: An argument is outside of its range.
    """
    rule = guard if isinstance(guard, Rule) else Rule(guard, **options)
    limits = Limits([rule], headers=headers, proxies=proxies)

    def asked(request: Any) -> _DjangoRequest:
        return _DjangoRequest(request, _proxies() if proxies is None else proxies)

    def decorate(view: Callable[..., Any]) -> Callable[..., Any]:
        if kind_of(view) is Kind.COROUTINE:

            @functools.wraps(view)
            async def limited_async(request: Any, *args: Any, **kwargs: Any) -> Any:
                verdict = await decide_async(limits, asked(request))
                return await _guarded_async(verdict, lambda: view(request, *args, **kwargs))

            return limited_async

        @functools.wraps(view)
        def limited(request: Any, *args: Any, **kwargs: Any) -> Any:
            verdict = decide(limits, asked(request))
            return _guarded(verdict, lambda: view(request, *args, **kwargs))

        return limited

    return decorate


def _proxies() -> TrustedProxies | None:
    return _from_settings().proxies if hasattr(_conf.settings, _SETTING) else None


def _guarded(verdict: Verdict, run: Callable[[], Any]) -> Any:
    if verdict.problem is not None:
        return _refusal(verdict)
    try:
        response = run()
    except BaseException as error:
        verdict.finish(*_outcome(error))
        raise
    return _answered(verdict, response)


async def _guarded_async(verdict: Verdict, run: Callable[[], Awaitable[Any]]) -> Any:
    if verdict.problem is not None:
        return _refusal(verdict)
    try:
        response = await run()
    except BaseException as error:
        verdict.finish(*_outcome(error))
        raise
    return _answered(verdict, response)


def _outcome(error: BaseException) -> tuple[BaseException | None, int]:
    """What a guard is told: ``Http404`` is an answer and no failure."""
    return (None, 404) if isinstance(error, _http.Http404) else (error, 500)


def _answered(verdict: Verdict, response: Any) -> Any:
    """Give a response the limits' headers, and let its end be the end of what is held."""
    for name, value in verdict.fields:
        if name in {"ratelimit", "ratelimit-policy"} and response.has_header(name):
            # Django keeps one line for each name; both fields are lists.
            response[name] = f"{response[name]}, {value}"
        elif not response.has_header(name):
            response[name] = value
    if verdict.holds:
        finish = functools.partial(verdict.finish, status=response.status_code)
        response._resource_closers.append(finish)
    return response


def _refusal(verdict: Verdict) -> Any:
    answer = verdict.problem
    assert answer is not None
    response = _http.HttpResponse(answer.body, status=answer.status)
    for name, value in (*answer.headers, *verdict.fields):
        response[name] = value
    return response
