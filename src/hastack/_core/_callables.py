"""What a callable gives back when it is called: the one sync/async detector of hastack."""

from __future__ import annotations

import enum
import functools
import inspect
import sys
from types import BuiltinFunctionType, FunctionType, MethodType


class Kind(enum.Enum):
    """How a callable has to be run."""

    CALL = "function"
    COROUTINE = "coroutine function"
    GENERATOR = "generator function"
    ASYNC_GENERATOR = "async generator function"


_PLAIN = (FunctionType, MethodType, BuiltinFunctionType, type)


def kind_of(fn: object) -> Kind:
    """The kind of ``fn``, seen through `functools.partial`, methods and ``__call__``.

    A function that merely returns a coroutine cannot be told from any other; its caller has to
    look at the result.
    """
    while isinstance(fn, functools.partial):
        fn = fn.func
    kind = _kind(fn)
    if kind is Kind.CALL and not isinstance(fn, _PLAIN):
        # inspect looks at functions only, never at the __call__ of an object.
        kind = _kind(inspect.getattr_static(type(fn), "__call__", None))
    return kind


def _kind(fn: object) -> Kind:
    if inspect.iscoroutinefunction(fn) or _is_marked(fn):
        return Kind.COROUTINE
    if inspect.isasyncgenfunction(fn):
        return Kind.ASYNC_GENERATOR
    if inspect.isgeneratorfunction(fn):
        flags = getattr(getattr(fn, "__code__", None), "co_flags", 0)
        # types.coroutine makes an awaitable out of a generator function.
        return Kind.COROUTINE if flags & inspect.CO_ITERABLE_COROUTINE else Kind.GENERATOR
    return Kind.CALL


def _is_marked(fn: object) -> bool:
    # Before inspect.markcoroutinefunction (3.12) asyncio kept a marker of its own, which mocks
    # still set. Nobody can have set it while asyncio is not imported.
    coroutines = sys.modules.get("asyncio.coroutines")
    marker = getattr(coroutines, "_is_coroutine", None)
    return marker is not None and getattr(fn, "_is_coroutine", None) is marker
