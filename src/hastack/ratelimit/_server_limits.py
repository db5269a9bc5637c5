"""A limiter that holds a client to what the server says."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, final

from hastack._core._clock import SYSTEM_CLOCK
from hastack._core._errors import InvalidArgument, RateLimited
from hastack._core._fork import renew_in_child
from hastack._core._validate import integer, optional_seconds

from ._guard import Admission, Refusal, checked_name
from ._limit_events import REJECTED, RequestRejected
from ._limiter import context_or_current
from ._retry_after import parse_retry_after
from ._server_book import ServerBook
from ._server_fields import read_limits
from ._waiters import WaitingRoom

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from hastack._core._validate import Seconds
    from hastack.typing import Clock

_TOLD_TO_WAIT = frozenset({429, 503})


@final
class ServerLimits(Admission):
    """Sends no more than the server's own header fields allow, so that it never has to refuse.

    Learns from each response that the guarded call returns: ``RateLimit-Policy`` and
    ``RateLimit`` (draft-ietf-httpapi-ratelimit-headers), the older ``RateLimit-Limit``,
    ``-Remaining`` and ``-Reset`` with or without ``X-``, and ``Retry-After`` of a 429 or 503.
    Calls beyond what is left wait for the reset in the order in which they came, or are refused
    here at once when that would be after ``max_wait`` or the context's deadline.

    Requests under way count as not yet seen by the server. A server that says nothing limits
    nothing. After a reset, one request asks what there is now before the others follow.

    A response is whatever has ``headers.get`` and ``status_code`` or ``status``: those of httpx,
    requests and aiohttp do, and the adapters for them take this as a guard.

    Args:
        max_wait: Longest time in seconds that a call waits; 0 refuses at once, ``None`` waits
            until the context's deadline.
        key: From the arguments of the guarded call, whose limits count. Default: host and port
            of the ``url`` of the first argument; one for all where it has none.
        max_waiting: Most callers in the queue of one key.
        max_keys: Most keys remembered.
        name: Appears in errors and events.
        clock: Source of time.

    Raises:
        InvalidArgument: An argument is outside of its range.

    Example:
        >>> from types import SimpleNamespace
        >>> from hastack import ratelimit
        >>> polite = ratelimit.ServerLimits(max_wait=0.0)
        >>> @polite
        ... def get() -> SimpleNamespace:
        ...     return SimpleNamespace(status_code=200, headers={"RateLimit": '"api";r=0;t=30'})
        >>> get().status_code
        200
        >>> get()
        Traceback (most recent call last):
            ...
        hastack.errors.RateLimited: ServerLimits: rate limit exceeded; retry after 30 s
    """

    _settles = True
    _hears_answers = True

    def __init__(
        self,
        *,
        max_wait: Seconds | None = None,
        key: Callable[..., Hashable] | None = None,
        max_waiting: int = 10_000,
        max_keys: int = 10_000,
        name: str | None = None,
        clock: Clock | None = None,
    ) -> None:
        if key is not None and not callable(key):
            raise InvalidArgument("key", key, "a function of the guarded call's arguments, or None")
        self.name = checked_name(self, name)
        self._clock = SYSTEM_CLOCK if clock is None else clock
        self._key = _origin if key is None else key
        self._max_wait = optional_seconds("max_wait", max_wait, zero=True)
        self._waits = self._max_wait != 0.0
        self._lock = threading.RLock()
        self._epoch = 0
        self._book = ServerBook(integer("max_keys", max_keys))
        self._room = WaitingRoom(
            self._book,
            name=self.name,
            clock=self._clock,
            lock=self._lock,
            max_waiting=integer("max_waiting", max_waiting, minimum=0),
            refuse=self._refuse,
        )
        renew_in_child(self)

    def __repr__(self) -> str:
        return f"<ServerLimits {self.name!r}>"

    def peek(self, key: Hashable = None) -> float:
        """Seconds until a request may leave under ``key``: 0.0 now, ``inf`` after an answer."""
        with self._lock:
            return self._book.wait_of(key, self._clock.monotonic())

    def _admit(self, now: float, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        permit, refusal = self._decide(now, args, kwargs)
        if refusal is not None:
            raise self._refuse(refusal.key, 1.0, "limited", refusal.retry_after)
        return permit

    def _decide(
        self, now: float, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Any, Refusal | None]:
        key = self._key(*args, **kwargs)
        with self._lock:
            if self._room.ahead(key) > 0.0:
                return None, Refusal(key, 1.0, "limited", self._book.slot_in(key, 0.0, 1.0, now))
            wait = self._book.send(key, now)
            if wait == 0.0:
                return (key, self._book.heard(key), self._epoch), None
        return None, Refusal(key, 1.0, "limited", None if wait == float("inf") else wait)

    def _admit_waiting(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        permit, refusal = self._decide(self._clock.monotonic(), args, kwargs)
        if refusal is None:
            return permit
        mark = self._room.wait(refusal.key, 1.0, self._max_wait, context_or_current(None))
        return refusal.key, mark, self._epoch

    async def _admit_waiting_async(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        permit, refusal = self._decide(self._clock.monotonic(), args, kwargs)
        if refusal is None:
            return permit
        ctx = context_or_current(None)
        mark = await self._room.wait_async(refusal.key, 1.0, self._max_wait, ctx)
        return refusal.key, mark, self._epoch

    def _settle(self, permit: Any, now: float, error: BaseException | None, result: Any) -> None:
        key, mark, epoch = permit
        if epoch != self._epoch:
            return  # sent before a fork, by the parent
        said, retry_after = _said_by(result if result is not None else error)
        with self._lock:
            self._book.answered(key, mark, now, said, retry_after)
            waiting = self._book.waiting
        if waiting:
            self._room.serve(key)

    def _refuse(
        self, key: Hashable, cost: float, reason: str, retry_after: float | None
    ) -> RateLimited:
        if REJECTED.subscribers:
            REJECTED.publish(
                RequestRejected(
                    at=self._clock.monotonic(),
                    name=self.name,
                    key=key,
                    cost=cost,
                    reason=reason,
                    retry_after=retry_after,
                )
            )
        return RateLimited(self.name, retry_after=retry_after)

    def _after_fork(self) -> None:
        self._lock = threading.RLock()
        self._epoch += 1
        self._book.forget_callers()
        self._room.after_fork(self._lock)


def _said_by(outcome: Any) -> tuple[Any, float | None]:
    """Quotas and the time to wait in a response, or in the response that an error carries."""
    headers = getattr(outcome, "headers", None)
    if headers is None:
        outcome = getattr(outcome, "response", None)
        headers = getattr(outcome, "headers", None)
    get = getattr(headers, "get", None)
    if get is None:
        return (), None
    said = read_limits(_joining(headers, get), time.time())
    status = getattr(outcome, "status_code", None) or getattr(outcome, "status", None)
    after = get("Retry-After") or get("retry-after") if status in _TOLD_TO_WAIT else None
    return said, parse_retry_after(after) if isinstance(after, str) else None


def _joining(headers: Any, get: Callable[[str], Any]) -> Callable[[str], str | None]:
    """Fields by name; aiohttp's headers keep several of one name apart, the others join them."""
    every = getattr(headers, "getall", None)

    def field(name: str) -> str | None:
        if every is not None:
            values = every(name, ())
            return ", ".join(values) if values else None
        value = get(name)
        return value if isinstance(value, str) else None

    return field


def _origin(*args: Any, **kwargs: Any) -> Hashable:
    """Host and port of the first argument's URL."""
    url = getattr(args[0], "url", None) if args else None
    host = getattr(url, "host", None)
    if host is not None:
        return host, getattr(url, "port", None)
    if isinstance(url, str):
        from urllib.parse import urlsplit

        return urlsplit(url).netloc.rpartition("@")[2].lower()
    return None
