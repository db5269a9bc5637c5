"""Contexts over gRPC, for asyncio: server and client interceptors.

The same as `hastack.contrib.grpc` for `grpc.aio`: a handler is one ``async with`` scope, so that
the end of its context cancels it; a call takes the remaining time, is cancelled with its context
and raises the context's error.

Example:
    >>> from hastack.contrib import grpc_aio
    >>> len(grpc_aio.client_interceptors())
    4
"""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING, Any, final

from hastack import context
from hastack._core._errors import ContextError, Rejected
from hastack._core._extras import require
from hastack._core._validate import optional_seconds

from ._client_calls import Attempt, Tries, guarded_async
from ._grpc_calls import CallRules, Outgoing, judged, judged_code
from ._grpc_rules import Incoming, Rules
from .grpc import (
    ServerContext as _ThreadServerContext,
)
from .grpc import (
    call_options,
    context_error,
    open_context,
    own_trailers,
    status_of,
    wrap_handler,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from hastack._core._validate import Seconds
    from hastack.ratelimit import Guard, Retry

    from ._grpc_calls import Idempotent
    from ._grpc_rules import Guards

# grpc ships no types; whether stubs are installed must not matter here.
aio: Any = require("grpc.aio", extra="grpc")

__all__ = ("Incoming", "Outgoing", "ServerContext", "client_interceptors")


@final
class ServerContext(aio.ServerInterceptor):  # type: ignore[misc]  # a class without types
    """Server interceptor for `grpc.aio.server`.

    A caller that cancels reaches the handler as `asyncio.CancelledError`, as always in grpc.aio;
    the context ends when the handler is left. Handlers that are plain functions run on the
    server's threads and learn of deadlines only: grpc.aio tells them of nothing else in time.

    Args:
        root: Parent of every RPC's context, usually the service's root context; the background
            by default.
        max_timeout: Upper bound in seconds for the callers' deadlines, and the deadline of calls
            without one; ``None`` for no bound.
        guards: A guard for every method, or guards by method: ``"/package.Service/Method"``,
            ``"/package.Service/*"`` or ``"*"``, the most exact one counts. Their key and cost
            functions get an `Incoming`. A streaming call holds its permits until it ends; only
            limiters and breakers can stand around one that streams responses.

    Raises:
        InvalidArgument: ``max_timeout`` is not above zero, or ``guards`` are something else.
    """

    def __init__(
        self,
        *,
        root: context.Context | None = None,
        max_timeout: Seconds | None = None,
        guards: Guards | None = None,
    ) -> None:
        self._root = root
        self._max_timeout = optional_seconds("max_timeout", max_timeout)
        self._rules = Rules(guards)
        self._threads = _ThreadServerContext(root=root, max_timeout=max_timeout)

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], handler_call_details: Any
    ) -> Any:
        """Called by grpc."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        method, guarded = handler_call_details.method, self._rules.guarded
        return wrap_handler(
            handler,
            lambda behavior: self._unary(guarded(method, behavior, streams=False)),
            lambda behavior: self._stream(guarded(method, behavior, streams=True)),
        )

    def _unary(self, behavior: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        if not inspect.iscoroutinefunction(behavior):
            return self._threads._unary(behavior)

        async def run(request: Any, servicer_context: Any) -> Any:
            try:
                async with open_context(servicer_context, self._root, self._max_timeout):
                    return await behavior(request, servicer_context)
            except (ContextError, Rejected) as error:
                await self._abort(servicer_context, error)

        return run

    def _stream(self, behavior: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        if inspect.isasyncgenfunction(behavior):
            # Written out here instead of being handed on as a generator: a scope held across a
            # yield would be cancelled while grpc's own code runs.
            async def serve(request: Any, servicer_context: Any) -> None:
                responses = behavior(request, servicer_context)
                try:
                    async for response in responses:
                        await servicer_context.write(response)
                finally:
                    await responses.aclose()

            return self._unary(serve)
        if inspect.iscoroutinefunction(behavior):
            return self._unary(behavior)
        return self._threads._stream(behavior)

    async def _abort(self, servicer_context: Any, error: ContextError | Rejected) -> None:
        code, details, trailers = status_of(error, self._root)
        await servicer_context.abort(code, details, (*own_trailers(servicer_context), *trailers))


def client_interceptors(
    *, guard: Guard | None = None, retry: Retry | None = None, idempotent: Idempotent = ()
) -> list[Any]:
    """Interceptors for a `grpc.aio` channel, one for each kind of call.

    Each call takes the smaller of its own ``timeout`` and the current context's remaining time,
    carries the trace identity, and is cancelled when the context ends.

    Args:
        guard: See `hastack.contrib.grpc.context_channel`, as for all that follow.
        retry: When to make a call with one request and one response again.
        idempotent: Full names of methods that may be served twice; ``True`` for all.

    Raises:
        InvalidArgument: An argument is something else, or ``guard`` would repeat calls.
        Cancelled: (from calls) The context was cancelled, before or during the call.
        DeadlineExceeded: (from calls) Its deadline passed.
        Rejected: (from calls) A guard refused.
    """
    rules = CallRules(guard, retry, idempotent)
    unary, stream = (
        (_Guarded(rules).unary, _Guarded(rules).stream) if rules.any else (_unary, _stream)
    )
    return [_UnaryUnary(unary), _UnaryStream(stream), _StreamUnary(unary), _StreamStream(stream)]


class _Guarded:
    """Calls behind guards; those with one response are tried again where that is safe."""

    def __init__(self, rules: CallRules) -> None:
        self._rules = rules
        self._whole = guarded_async(rules.guard, self._call, judged)
        self._begun = guarded_async(rules.guard, self._begin, judged)
        self._ending: set[asyncio.Task[None]] = set()

    async def unary(self, continuation: Any, details: Any, request: Any) -> Any:
        outgoing = Outgoing(details.method, request, details.metadata)
        tries = Tries(self._rules.retry, outgoing, self._rules.repeatable)
        while True:
            attempt = Attempt(outgoing, (continuation, details))
            try:
                call = await self._whole(attempt)
            except BaseException as error:
                attempt.end(judged(error))
                delay = tries.after(error)
                if delay is None:
                    raise
            else:
                attempt.end()
                return call
            await context.sleep_async(delay)

    async def stream(self, continuation: Any, details: Any, request: Any) -> Any:
        outgoing = Outgoing(details.method, request, details.metadata)
        attempt = Attempt(outgoing, (continuation, details))
        try:
            call, ctx = await self._begun(attempt)
        except BaseException as error:
            attempt.end(judged(error))
            raise

        def ended(call: Any) -> None:
            if attempt.holds:
                task = asyncio.ensure_future(self._end(call, attempt))
                self._ending.add(task)
                task.add_done_callback(self._ending.discard)

        call.add_done_callback(ended)
        return _responses(call, ctx)

    async def _end(self, call: Any, attempt: Attempt) -> None:
        attempt.end(judged_code(await call.code(), None))  # it is done: this does not wait

    async def _call(self, attempt: Attempt) -> Any:
        continuation, details = attempt.options
        return await _unary(continuation, details, attempt.request.request)

    async def _begin(self, attempt: Attempt) -> Any:
        continuation, details = attempt.options
        return await _start(continuation, details, attempt.request.request)


async def _start(
    continuation: Callable[[Any, Any], Awaitable[Any]], details: Any, request: Any
) -> tuple[Any, context.Context]:
    """The call, begun under the current context and tied to it."""
    ctx = context.current()
    timeout, metadata = call_options(ctx, details.timeout, details.metadata)
    details = aio.ClientCallDetails(
        details.method,
        timeout,
        None if metadata is None else aio.Metadata(*metadata),
        details.credentials,
        details.wait_for_ready,
    )
    call = await continuation(details, request)
    loop = asyncio.get_running_loop()

    def cancel() -> None:
        try:
            loop.call_soon_threadsafe(call.cancel)
        except RuntimeError:
            pass  # the loop is closed, and the call with it

    stop = ctx._watch(cancel)  # the deadline is in grpc's hands already
    call.add_done_callback(lambda _: stop())
    return call, ctx


async def _unary(
    continuation: Callable[[Any, Any], Awaitable[Any]], details: Any, request: Any
) -> Any:
    call, ctx = await _start(continuation, details, request)
    try:
        await call
    except (aio.AioRpcError, asyncio.CancelledError) as error:
        mine = await _own_error(call, ctx)
        if mine is None:
            raise
        raise mine from error
    return call


async def _stream(
    continuation: Callable[[Any, Any], Awaitable[Any]], details: Any, request: Any
) -> AsyncIterator[Any]:
    return _responses(*await _start(continuation, details, request))


async def _responses(call: Any, ctx: context.Context) -> AsyncIterator[Any]:
    try:
        async for response in call:
            yield response
    except (aio.AioRpcError, asyncio.CancelledError) as error:
        mine = await _own_error(call, ctx)
        if mine is None:
            raise
        raise mine from error


async def _own_error(call: Any, ctx: context.Context) -> ContextError | None:
    """The context's error if it ended the call; ``None`` when this task is being cancelled."""
    task = asyncio.current_task()
    if (task is not None and task.cancelling()) or not call.done():
        return None
    return context_error(ctx, await call.code())


class _Interceptor:
    def __init__(self, run: Callable[[Any, Any, Any], Awaitable[Any]]) -> None:
        self._run = run


class _UnaryUnary(_Interceptor, aio.UnaryUnaryClientInterceptor):  # type: ignore[misc]  # a class without types
    async def intercept_unary_unary(
        self, continuation: Any, client_call_details: Any, request: Any
    ) -> Any:
        return await self._run(continuation, client_call_details, request)


class _StreamUnary(_Interceptor, aio.StreamUnaryClientInterceptor):  # type: ignore[misc]  # a class without types
    async def intercept_stream_unary(
        self, continuation: Any, client_call_details: Any, request_iterator: Any
    ) -> Any:
        return await self._run(continuation, client_call_details, request_iterator)


class _UnaryStream(_Interceptor, aio.UnaryStreamClientInterceptor):  # type: ignore[misc]  # a class without types
    async def intercept_unary_stream(
        self, continuation: Any, client_call_details: Any, request: Any
    ) -> Any:
        return await self._run(continuation, client_call_details, request)


class _StreamStream(_Interceptor, aio.StreamStreamClientInterceptor):  # type: ignore[misc]  # a class without types
    async def intercept_stream_stream(
        self, continuation: Any, client_call_details: Any, request_iterator: Any
    ) -> Any:
        return await self._run(continuation, client_call_details, request_iterator)
