"""Which guard stands before which method, and what its key and cost functions see."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, TypeAlias, final

from hastack._core._errors import InvalidArgument
from hastack.ratelimit import Guard

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator, Mapping

Guards: TypeAlias = "Guard | Mapping[str, Guard]"

_MOST_METHODS = 10_000


@final
class Incoming:
    """One call that a server is about to serve; what key and cost functions get.

    Attributes:
        method: Full name, ``"/orders.v1.Orders/Create"``.
        request: The message, or the iterator of messages of a streaming client.
        context: grpc's own servicer context.
    """

    __slots__ = ("_behavior", "_metadata", "context", "method", "request")

    def __init__(
        self, method: str, request: Any, context: Any, behavior: Callable[[Any, Any], Any]
    ) -> None:
        self.method = method
        self.request = request
        self.context = context
        self._behavior = behavior
        self._metadata: dict[str, Any] | None = None

    @property
    def metadata(self) -> dict[str, Any]:
        """The call's metadata by name, names in lower case; of several values the first."""
        if self._metadata is None:
            pairs: list[tuple[Any, Any]] = list(self.context.invocation_metadata() or ())
            self._metadata = {str(name).lower(): value for name, value in reversed(pairs)}
        return self._metadata

    @property
    def peer(self) -> str:
        """Who calls, ``"ipv4:10.0.0.7"``: without the port, which changes with the connection."""
        peer: str = self.context.peer()
        kind, _, rest = peer.partition(":")
        host, colon, _ = rest.rpartition(":")
        return f"{kind}:{host}" if colon and kind in {"ipv4", "ipv6"} else peer

    def __repr__(self) -> str:
        return f"Incoming({self.method!r})"


@final
class Rules:
    """Guards by method: the whole name first, then ``/package.Service/*``, then ``*``.

    Raises:
        InvalidArgument: ``guards`` is neither a guard nor a mapping of patterns to guards.
    """

    def __init__(self, guards: Guards | None) -> None:
        given: dict[str, Guard] = {}
        if isinstance(guards, Guard):
            given = {"*": guards}
        elif guards is not None:
            try:
                given = dict(guards)
            except (TypeError, ValueError):
                raise _unfit(guards) from None
        for pattern, guard in given.items():
            named = pattern == "*" or str(pattern).startswith("/")
            if not named or not isinstance(guard, Guard):
                raise _unfit(guards)
        self._given = given
        # One plan per guard and kind of handler: grpc asks for a handler with every call.
        self._plans: dict[tuple[int, str], Callable[[Incoming], Any]] = {}
        self._found: dict[str, Guard | None] = {}

    def guard_of(self, method: str) -> Guard | None:
        """The guard of a method, or ``None``."""
        try:
            return self._found[method]
        except KeyError:
            pass
        service = method[: method.rfind("/") + 1] + "*"
        guard = next(
            (self._given[name] for name in (method, service, "*") if name in self._given), None
        )
        if len(self._found) < _MOST_METHODS:  # strangers may ask for any name
            self._found[method] = guard
        return guard

    def guarded(
        self, method: str, behavior: Callable[[Any, Any], Any], *, streams: bool
    ) -> Callable[[Any, Any], Any]:
        """``behavior``, of whichever kind, behind the guard of ``method``."""
        guard = self.guard_of(method)
        if guard is None:
            return behavior
        call, shape = _kind(behavior, streams=streams)
        plan = self._plans.get((id(guard), call.__name__))
        if plan is None:
            plan = self._plans[id(guard), call.__name__] = guard(call)
        wrapped: Callable[[Any, Any], Any] = shape(method, behavior, plan)
        return wrapped


def _kind(behavior: Callable[[Any, Any], Any], *, streams: bool) -> tuple[Any, Any]:
    """How a handler of this kind is called, and the shape that grpc knows it by."""
    if inspect.isasyncgenfunction(behavior):
        return _iterate_async, _as_async_generator
    if inspect.iscoroutinefunction(behavior):
        return _await, _as_coroutine
    return (_iterate if streams else _call), _as_function


def _call(incoming: Incoming) -> Any:
    return incoming._behavior(incoming.request, incoming.context)


async def _await(incoming: Incoming) -> Any:
    return await incoming._behavior(incoming.request, incoming.context)


def _iterate(incoming: Incoming) -> Iterator[Any]:
    yield from incoming._behavior(incoming.request, incoming.context)


async def _iterate_async(incoming: Incoming) -> AsyncGenerator[Any, None]:
    responses = incoming._behavior(incoming.request, incoming.context)
    try:
        async for response in responses:
            yield response
    finally:
        await responses.aclose()


def _as_function(
    method: str, behavior: Callable[[Any, Any], Any], plan: Callable[[Incoming], Any]
) -> Callable[[Any, Any], Any]:
    return lambda request, context: plan(Incoming(method, request, context, behavior))


def _as_coroutine(
    method: str, behavior: Callable[[Any, Any], Any], plan: Callable[[Incoming], Any]
) -> Callable[[Any, Any], Any]:
    async def run(request: Any, context: Any) -> Any:
        return await plan(Incoming(method, request, context, behavior))

    return run


def _as_async_generator(
    method: str, behavior: Callable[[Any, Any], Any], plan: Callable[[Incoming], Any]
) -> Callable[[Any, Any], Any]:
    async def run(request: Any, context: Any) -> AsyncGenerator[Any, None]:
        responses = plan(Incoming(method, request, context, behavior))
        try:
            async for response in responses:
                yield response
        finally:
            await responses.aclose()

    return run


def _unfit(guards: object) -> InvalidArgument:
    accepted = (
        "a guard, or a mapping of '/package.Service/Method', '/package.Service/*' or '*' to guards"
    )
    return InvalidArgument("guards", guards, accepted)
