"""Policies in front of handlers."""

from __future__ import annotations

import functools
import threading
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

from hastack._core._callables import Kind, kind_of
from hastack._core._errors import InvalidArgument, PolicyDenied, WasmError

from ._plugin import Plugin, load
from ._swap import Swap

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

__all__ = ("filter",)

P = ParamSpec("P")
R = TypeVar("R")


def filter(  # noqa: A001  # what it is called in the field; nobody imports it by itself
    policy: Plugin | Swap | str | os.PathLike[str] | bytes,
    *,
    key: Callable[..., tuple[str | bytes, str | bytes]] | None = None,
    **options: Any,
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Ask an HTTP policy before a handler runs; functions and coroutine functions.

    Args:
        policy: A plugin, a `Swap`, or what to `load` one from, on first use.
        key: From the handler's arguments to method and path. By default the first argument is a
            request with ``method`` and ``url.path`` or ``path``.
        **options: For `load`.

    Raises:
        InvalidArgument: Options for a policy that is loaded already, or none that says who must
            have signed it.
        PolicyDenied: At a call: the policy says no, or fails; the handler did not run. It is
            answered with 403 by hastack's middleware.

    Example:
        >>> from hastack import wasm
        >>> deny_long = wasm.wat('''(module (memory (export "memory") 1)
        ...   (func (export "on_http_request") (param i32 i32 i32) (result i32)
        ...     (i32.lt_u (local.get 2) (i32.const 10))))''')
        >>> @wasm.filter(deny_long, trust=wasm.Unsigned(), key=lambda path: ("GET", path))
        ... def handler(path: str) -> str:
        ...     return "served"
        >>> handler("/short")
        'served'
        >>> handler("/much/too/long")
        Traceback (most recent call last):
        ...
        hastack.errors.PolicyDenied: plugin: denied by policy
    """
    if isinstance(policy, (Plugin, Swap)):
        if options:
            raise InvalidArgument("options", options, "nothing for what is loaded already")
        source: _Lazy | Plugin | Swap = policy
    else:
        if "trust" not in options:
            raise InvalidArgument("trust", None, "a Trust, or Unsigned() for what nobody signed")
        source = _Lazy(policy, options)
    find: Callable[..., Any] = key or _of_request

    def decorate(handler: Callable[P, R]) -> Callable[P, R]:
        if kind_of(handler) is Kind.COROUTINE:

            @functools.wraps(handler)
            async def guarded(*args: Any, **kwargs: Any) -> Any:
                method, path = _bytes(find(*args, **kwargs))
                chosen = source.get() if isinstance(source, _Lazy) else source
                try:
                    allowed = await chosen.allow_async(method, path)
                except WasmError as error:
                    raise PolicyDenied(_name(chosen)) from error
                if not allowed:
                    raise PolicyDenied(_name(chosen))
                return await cast(Any, handler)(*args, **kwargs)

            return cast("Callable[P, R]", guarded)

        @functools.wraps(handler)
        def checked(*args: P.args, **kwargs: P.kwargs) -> R:
            method, path = _bytes(find(*args, **kwargs))
            chosen = source.get() if isinstance(source, _Lazy) else source
            try:
                allowed = chosen.allow(method, path)
            except WasmError as error:
                raise PolicyDenied(_name(chosen)) from error
            if not allowed:
                raise PolicyDenied(_name(chosen))
            return handler(*args, **kwargs)

        return checked

    return decorate


class _Lazy:
    """A policy that is loaded when it is first asked."""

    def __init__(self, source: str | os.PathLike[str] | bytes, options: dict[str, Any]) -> None:
        self._source = source
        self._options = options
        self._lock = threading.Lock()
        self._plugin: Plugin | None = None

    def get(self) -> Plugin:
        """The plugin.

        Raises:
            WasmError: It does not load.
        """
        plugin = self._plugin
        if plugin is None:
            with self._lock:
                plugin = self._plugin
                if plugin is None:
                    plugin = self._plugin = load(self._source, **self._options)
        return plugin


def _name(policy: Plugin | Swap) -> str:
    return policy.name


def _bytes(found: tuple[str | bytes, str | bytes]) -> tuple[bytes, bytes]:
    method, path = (one.encode() if isinstance(one, str) else one for one in found)
    return method, path


def _of_request(request: Any, *_: Any, **__: Any) -> tuple[str, str]:
    url = getattr(request, "url", None)
    path = getattr(url, "path", None) or getattr(request, "path", None)
    method = getattr(request, "method", None)
    if not isinstance(path, str) or not isinstance(method, str):
        raise InvalidArgument("key", None, "a function, where the first argument is no request")
    return method, path
