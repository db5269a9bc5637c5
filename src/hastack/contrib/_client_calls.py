"""What the adapters of HTTP and gRPC clients share: guards around a call, and trying again.

A call is guarded until its answer has been read, which is after the function that sends it has
returned: so permits are held by an `Attempt` and settled when the adapter says that it ended.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias, final

from hastack import context
from hastack._core._errors import HastackError, InvalidArgument, Rejected
from hastack.ratelimit import Admission, Guard, Hedge, Retry, http_retry_after
from hastack.ratelimit._plan import settle_all

from . import propagate

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from hastack.ratelimit._plan import Permits

    Send: TypeAlias = "Callable[[Attempt], Any]"
    SendAsync: TypeAlias = "Callable[[Attempt], Awaitable[Any]]"
    Judge: TypeAlias = "Callable[[BaseException], BaseException | None]"

# After these the same request may succeed a little later.
_REPEATED = frozenset({429, 502, 503, 504})

# RFC 9110, section 9.2.2.
_IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})

# A client's own timer may ring this many seconds before the context's clock says so.
_TICK = 0.01


class Answered(HastackError):
    """An answer that asks for another try.

    Attributes:
        retry_after: Seconds that the server asked for, or ``None``.
    """

    def __init__(self, status: object, retry_after: float | None) -> None:
        super().__init__(f"status {status}")
        self.retry_after = retry_after


@final
class Attempt:
    """One request on its way, with the permits that it holds.

    Args:
        request: What key and cost functions see.
        options: Whatever else the adapter needs to send it.
    """

    __slots__ = ("_held", "options", "request")

    def __init__(self, request: Any, options: Any = None) -> None:
        self.request = request
        self.options = options
        self._held: Permits = []

    def hold(self, guard: Admission, permit: Any) -> None:
        """Keep ``permit`` until `end`."""
        self._held.append((guard, permit))

    @property
    def holds(self) -> bool:
        """Whether somebody wants to know when this ends."""
        return bool(self._held)

    def end(self, error: BaseException | None = None, result: Any = None) -> None:
        """Tell every guard the outcome; the first word counts."""
        held, self._held = self._held, []
        if held:
            settle_all(held, error, result)


@final
class Tries:
    """How often one call was tried, and whether it may be once more.

    Args:
        retry: When to try again; ``None`` for never.
        request: What is sent.
        repeatable: Whether sending ``request`` again after an error can do no harm.
    """

    __slots__ = ("_count", "_repeatable", "_request", "_retry")

    def __init__(
        self, retry: Retry | None, request: Any, repeatable: Callable[[Any, Exception], bool]
    ) -> None:
        self._retry = retry
        self._request = request
        self._repeatable = repeatable
        self._count = 0
        if retry is not None and retry.budget is not None:
            retry.budget.count_call()

    def after(self, error: BaseException) -> float | None:
        """Seconds until the next try after ``error``; ``None`` when that was the last one."""
        if self._retry is None or not isinstance(error, Exception):
            return None
        if not self._repeatable(self._request, error):
            return None
        self._count += 1
        return self._retry._delay_after(self._count, error, None)

    def after_answer(self, status: int, response: object) -> float | None:
        """The same after an answer of HTTP; ``None`` also when it is a good one."""
        if self._retry is None or status not in _REPEATED:
            return None
        return self.after(Answered(status, http_retry_after(response)))


def guarded(guard: Guard | None, send: Send, judge: Judge | None = None) -> Send:
    """``send`` behind ``guard``, whose admissions hold their permits in the attempt.

    Args:
        guard: Key and cost functions get ``attempt.request``.
        send: Sends the request of an attempt and returns the answer.
        judge: From an error of ``send`` to what guards are told; default: that error.
    """
    call = send
    for each in reversed(_flat(guard)):
        call = _holding(each, call, judge) if isinstance(each, Admission) else each._around(call)
    return call


def guarded_async(guard: Guard | None, send: SendAsync, judge: Judge | None = None) -> SendAsync:
    """`guarded` for a coroutine function."""
    call = send
    for each in reversed(_flat(guard)):
        if isinstance(each, Admission):
            call = _holding_async(each, call, judge)
        else:
            call = each._around_async(call)
    return call


def _flat(guard: Guard | None) -> tuple[Guard, ...]:
    return () if guard is None else guard._flat()


def _holding(guard: Admission, call: Send, judge: Judge | None) -> Send:
    read = guard._clock.monotonic

    def holding(attempt: Attempt) -> Any:
        asked = (attempt.request,)
        if guard._waits:
            permit = guard._admit_waiting(asked, {})
        else:
            permit = guard._admit(read(), asked, {})
        if not guard._settles:
            return call(attempt)
        try:
            answer = call(attempt)
        except BaseException as error:
            guard._settle(permit, read(), error if judge is None else judge(error), None)
            raise
        if guard._hears_answers:
            guard._settle(permit, read(), None, answer)
        else:
            attempt.hold(guard, permit)
        return answer

    return holding


def _holding_async(guard: Admission, call: SendAsync, judge: Judge | None) -> SendAsync:
    read = guard._clock.monotonic

    async def holding(attempt: Attempt) -> Any:
        asked = (attempt.request,)
        if guard._waits:
            permit = await guard._admit_waiting_async(asked, {})
        else:
            permit = guard._admit(read(), asked, {})
        if not guard._settles:
            return await call(attempt)
        try:
            answer = await call(attempt)
        except BaseException as error:
            guard._settle(permit, read(), error if judge is None else judge(error), None)
            raise
        if guard._hears_answers:
            guard._settle(permit, read(), None, answer)
        else:
            attempt.hold(guard, permit)
        return answer

    return holding


def check_rules(guard: object, retry: object) -> None:
    """Raise when an adapter cannot do with these.

    Raises:
        InvalidArgument: ``guard`` is none or would repeat calls itself; ``retry`` is no `Retry`,
            or one that judges results.
    """
    if guard is not None and not isinstance(guard, Guard):
        raise InvalidArgument("guard", guard, "a guard, or None")
    for each in () if guard is None else guard._flat():
        if isinstance(each, (Retry, Hedge)):
            accepted = "a guard without Retry and Hedge; retry= repeats only what is safe"
            raise InvalidArgument("guard", guard, accepted)
    if retry is not None and not isinstance(retry, Retry):
        raise InvalidArgument("retry", retry, "a Retry, or None")
    if retry is not None and retry._retry_result is not None:
        raise InvalidArgument("retry", retry, "a Retry without retry_result")


def idempotent(method: str, headers: Mapping[str, Any]) -> bool:
    """Whether a request may be sent again after it may have been served.

    By its method, or because it has an ``Idempotency-Key``, by which the server knows it again.
    """
    return method.upper() in _IDEMPOTENT or "Idempotency-Key" in headers


def not_sent(error: BaseException) -> bool:
    """Whether a guard refused, so that nobody has seen the request."""
    return isinstance(error, Rejected)


def outgoing(given: Iterable[str]) -> dict[str, str]:
    """Headers that carry the current context, without those that are ``given`` already.

    Raises:
        ContextError: It has ended.
    """
    ctx = context.current()
    if ctx is context.background():
        return {}
    ctx.check()
    names = {name.lower() for name in given}
    headers = propagate.outgoing_headers(ctx)
    return {name: value for name, value in headers.items() if name not in names}


def remaining() -> float | None:
    """Seconds that the current context has left, if it ends at all; never quite zero."""
    left = context.current().remaining()
    return None if left is None else max(left, 0.001)


def own_error() -> HastackError | None:
    """The context's error when a timeout of the client was its deadline."""
    ctx = context.current()
    left = ctx.remaining()
    if left is None or left >= _TICK:
        return None
    if not ctx.done:
        ctx._ring()
    return ctx.err()
