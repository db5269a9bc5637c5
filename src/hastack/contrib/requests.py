"""Guards around each request of a `requests.Session`.

Example:
    >>> import requests
    >>> from hastack import ratelimit
    >>> from hastack.contrib.requests import GuardedAdapter
    >>> session = requests.Session()
    >>> adapter = GuardedAdapter(
    ...     guard=ratelimit.compose(ratelimit.ServerLimits(), ratelimit.CircuitBreaker()),
    ...     retry=ratelimit.Retry(3, budget=ratelimit.RetryBudget()),
    ... )
    >>> session.mount("https://", adapter); session.mount("http://", adapter)
    >>> session.close()
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from hastack import context
from hastack._core._extras import require

from ._balanced import status_verdict
from ._client_calls import (
    Attempt,
    Tries,
    check_rules,
    guarded,
    idempotent,
    not_sent,
    outgoing,
    own_error,
    remaining,
)

if TYPE_CHECKING:
    from hastack.ratelimit import Guard, Retry

# requests ships no types; whether stubs are installed must not matter here.
requests: Any = require("requests", extra="requests")
_adapters: Any = require("requests.adapters", extra="requests")

__all__ = ("GuardedAdapter",)


class GuardedAdapter(_adapters.HTTPAdapter):  # type: ignore[misc]  # a class without types
    """Adapter for `requests.Session.mount` with guards around each request.

    A request holds its permits until its body was read: with ``stream=True`` until the response
    is read to its end or closed. A breaker is told of errors, of bodies that break off, and of
    5xx answers. Requests carry the current context: its deadline bounds the timeouts and goes
    along in a header, as does its trace identity.

    Args:
        guard: Around each try: limiters, breakers, `ServerLimits`, timeouts, or a `compose` of
            them. Their key and cost functions get the `requests.PreparedRequest`.
        retry: When to try again after an error, a refusal of ``guard``, or a 429, 502, 503 or
            504, with the wait that ``Retry-After`` asks for. Only what is safe is repeated:
            requests that did not leave, and idempotent ones (by method, or with an
            ``Idempotency-Key``) whose body is at hand. With no try left, the last answer is
            returned.
        **options: See `requests.adapters.HTTPAdapter`; leave ``max_retries`` alone.

    Raises:
        InvalidArgument: An argument is something else, or ``guard`` would repeat requests.
        Rejected: (from requests) A guard refused.
        ContextError: (from requests) The current context has ended.
    """

    def __init__(
        self, *, guard: Guard | None = None, retry: Retry | None = None, **options: Any
    ) -> None:
        check_rules(guard, retry)
        super().__init__(**options)
        self._retry = retry
        self._call = guarded(guard, self._attempt)

    def send(
        self,
        request: Any,
        stream: bool = False,
        timeout: Any = None,
        verify: Any = True,
        cert: Any = None,
        proxies: Any = None,
    ) -> Any:
        """Called by requests."""
        options = {
            "stream": stream,
            "timeout": timeout,
            "verify": verify,
            "cert": cert,
            "proxies": proxies,
        }
        tries = Tries(self._retry, request, _repeatable)
        while True:
            attempt = Attempt(request, options)
            try:
                response = self._call(attempt)
            except BaseException as error:
                attempt.end(error)
                delay = tries.after(error)
                if delay is None:
                    raise
            else:
                _end_with(response, attempt, stream=stream)
                delay = tries.after_answer(response.status_code, response)
                if delay is None:
                    return response
                response.close()
            context.sleep(delay)

    def _attempt(self, attempt: Attempt) -> Any:
        options: dict[str, Any] = dict(attempt.options)
        sent = attempt.request
        headers = outgoing(sent.headers)
        if headers:
            sent = sent.copy()
            sent.headers.update(headers)
        left = remaining()
        if left is not None:
            options["timeout"] = _bounded(options["timeout"], left)
        try:
            response = super().send(sent, **options)
            if not options["stream"]:
                response.content  # noqa: B018  # read here, where guards and retries see it fail
        except requests.exceptions.RequestException as error:
            # requests itself calls a read timeout inside a body a ConnectionError.
            mine = own_error()
            if mine is None:
                raise
            raise mine from error
        return response

    def __reduce__(self) -> Any:
        raise TypeError("a GuardedAdapter has guards, which belong to this process")


def _bounded(timeout: Any, left: float) -> tuple[float, float]:
    """The timeouts for connecting and for each read, none longer than ``left`` seconds."""
    pair = timeout if isinstance(timeout, tuple) else (timeout, timeout)
    connect, read = (left if each is None else min(each, left) for each in pair)
    return connect, read


def _repeatable(request: Any, error: Exception) -> bool:
    """Whether sending ``request`` again after ``error`` can do no harm."""
    if not_sent(error) or isinstance(error, requests.exceptions.ConnectTimeout):
        return True
    # What urllib3 calls by another name than the errors of connections that were made.
    reason = getattr(error.args[0] if error.args else None, "reason", None)
    if isinstance(reason, requests.packages.urllib3.exceptions.NewConnectionError):
        return True
    body = request.body
    replayable = body is None or isinstance(body, (bytes, str))
    return replayable and idempotent(request.method, request.headers)


def _end_with(response: Any, attempt: Attempt, *, stream: bool) -> None:
    """Let the attempt end when the body of ``response`` has been read, or was given up."""
    verdict = status_verdict(response.status_code)
    if not attempt.holds or not stream:
        attempt.end(verdict, response)
        return
    release = response.raw.release_conn

    def released() -> None:
        # urllib3 gives the connection back in a finally: what broke the body is under way.
        attempt.end(sys.exc_info()[1] or verdict, response)
        release()

    response.raw.release_conn = released
