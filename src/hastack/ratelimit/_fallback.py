"""Answer in place of a call that failed."""

from __future__ import annotations

from inspect import isawaitable
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from hastack._core._callables import Kind, kind_of
from hastack._core._errors import InvalidArgument

from ._failures import failures
from ._guard import Guard
from ._policy_events import FALLBACK_USED, FallbackUsed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ._failures import Failures
    from ._guard import AsyncCall, Call

_MISSING: Any = object()


class Fallback(Guard):
    """Gives another answer when the call fails or a guard inside refuses it.

    It acts on rejections and on `DeadlineExceeded` too, but never on cancellation: neither
    `Cancelled` nor anything that is no `Exception` is answered. What ``call`` raises goes to the
    caller, with the first error as its context.

    Generators and ``with`` blocks cannot have a fallback: part of their work is already done.

    Args:
        value: The answer. The same object each time; use ``call`` for a fresh one.
        call: Function that gets the error and returns the answer; around coroutine functions it
            may be a coroutine function. Give either this or ``value``.
        on: Error classes, or a predicate that takes the error. By default every `Exception`
            except `InvalidArgument`.
        name: Appears in events.

    Raises:
        InvalidArgument: An argument is out of its range.

    Example:
        >>> from hastack import ratelimit
        >>> @ratelimit.Fallback(call=lambda error: f"sorry: {error}", on=KeyError)
        ... def price(item: str) -> str:
        ...     return {"tea": "3.20"}[item]
        >>> price("tea"), price("gold")
        ('3.20', "sorry: 'gold'")
    """

    def __init__(
        self,
        *,
        value: object = _MISSING,
        call: Callable[[Exception], Any | Awaitable[Any]] | None = None,
        on: Failures | None = None,
        name: str = "fallback",
    ) -> None:
        if (value is _MISSING) == (call is None):
            raise InvalidArgument(
                "call", call, "a function, when value= is not given, and only then"
            )
        if call is not None and not callable(call):
            raise InvalidArgument("call", call, "a function that takes the error")
        self.name = name
        self._value = value
        self._call = call
        self._on = failures("on", on)

    def __repr__(self) -> str:
        given = f"value={self._value!r}" if self._call is None else f"call={self._call!r}"
        return f"Fallback({given})"

    def _around(self, call: Call) -> Call:
        if self._call is not None and kind_of(self._call) is not Kind.CALL:
            raise self._unfit("a Fallback whose call= is a plain function, for synchronous code")

        def covered(*args: Any, **kwargs: Any) -> Any:
            try:
                return call(*args, **kwargs)
            except Exception as error:
                if not self._on(error):
                    raise
                answer = self._answer(error)
                if isinstance(answer, CoroutineType):
                    answer.close()
                    raise self._unfit("a Fallback whose call= returns no coroutine") from error
                return answer

        return covered

    def _around_async(self, call: AsyncCall) -> AsyncCall:
        async def covered(*args: Any, **kwargs: Any) -> Any:
            try:
                return await call(*args, **kwargs)
            except Exception as error:
                if not self._on(error):
                    raise
                answer = self._answer(error)
                if self._call is not None and isawaitable(answer):
                    answer = await answer
                return answer

        return covered

    def _would_act(self, took: float, error: BaseException | None, result: Any) -> str | None:
        return "fallback" if isinstance(error, Exception) and self._on(error) else None

    def _answer(self, error: Exception) -> Any:
        if FALLBACK_USED.subscribers:
            FALLBACK_USED.publish(FallbackUsed(name=self.name, error=error))
        return self._value if self._call is None else self._call(error)
