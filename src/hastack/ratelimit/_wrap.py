"""Stand guards around any callable: what `Guard.__call__` does."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

from hastack._core._callables import Kind, kind_of
from hastack._core._errors import InvalidArgument

from ._guard import Admission
from ._plan import admit_all, admit_all_async, around, around_async, settle_all

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator, Sequence

    from ._guard import Call, Guard

P = ParamSpec("P")
R = TypeVar("R")


def decorate(guard: Guard, fn: Callable[P, R]) -> Callable[P, R]:
    """``fn`` behind ``guard``, of the same kind and with the same metadata."""
    if isinstance(fn, (staticmethod, classmethod)):
        return cast("Callable[P, R]", type(fn)(decorate(guard, fn.__func__)))
    if isinstance(fn, type) or not callable(fn):
        raise InvalidArgument("fn", fn, "a function, method or other callable that is no class")
    guards = guard._flat()
    kind = kind_of(fn)
    if kind is Kind.CALL:
        wrapper = around(guards, fn)
    elif kind is Kind.COROUTINE:
        wrapper = around_async(guards, cast("Call", fn))
    elif kind is Kind.GENERATOR:
        wrapper = _generator(_admissions(guards, fn, kind), fn)
    else:
        wrapper = _async_generator(_admissions(guards, fn, kind), fn)
    return cast("Callable[P, R]", functools.update_wrapper(wrapper, fn))


def guarded(guard: Guard, fn: Callable[..., Any]) -> Call:
    """The plan for one direct, synchronous call."""
    kind = kind_of(fn)
    if kind is not Kind.CALL:
        raise InvalidArgument(
            "fn",
            fn,
            f"a plain function, not a {kind.value}: use .call_async() or decorate it",
        )
    return around(guard._flat(), fn)


def _admissions(guards: Sequence[Guard], fn: object, kind: Kind) -> tuple[Admission, ...]:
    """``guards``, when all of them can stand around an iteration."""
    for guard in guards:
        if not isinstance(guard, Admission):
            raise InvalidArgument(
                "fn",
                fn,
                f"a function or coroutine function: {type(guard).__name__} cannot stand around "
                f"{'an' if kind.value[0] in 'aeiou' else 'a'} {kind.value}, whose items its consumer may already have used",
            )
    return tuple(guard for guard in guards if isinstance(guard, Admission))


def _generator(guards: tuple[Admission, ...], fn: Call) -> Call:
    """Admitted at the first ``next``, settled when the iteration ends in any way."""

    def iterated(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        permits = admit_all(guards, args, kwargs)
        try:
            result = yield from fn(*args, **kwargs)
        except BaseException as error:
            settle_all(permits, error, None)
            raise
        settle_all(permits, None, result)
        return result

    return iterated


def _async_generator(guards: tuple[Admission, ...], fn: Call) -> Call:
    async def iterated(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        permits = await admit_all_async(guards, args, kwargs)
        try:
            inner = fn(*args, **kwargs)
            step = inner.asend(None)
            while True:
                try:
                    item = await step
                except StopAsyncIteration:
                    break
                try:
                    sent = yield item
                except GeneratorExit:
                    await inner.aclose()
                    raise
                except BaseException as error:
                    step = inner.athrow(error)
                else:
                    step = inner.asend(sent)
        except BaseException as error:
            settle_all(permits, error, None)
            raise
        settle_all(permits, None, None)

    return iterated
