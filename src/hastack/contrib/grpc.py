"""Contexts over gRPC, for threads: server interceptor and client channel.

Server: handlers run under a context that carries the caller's deadline and trace identity and is
cancelled when the RPC ends; a context error or a rejection that leaves a handler becomes the
right status, with ``grpc-retry-pushback-ms``.

Client: calls through `context_channel` take the remaining time as their timeout, are cancelled
with the context, and raise its error.

Example:
    >>> import grpc
    >>> from concurrent import futures
    >>> from hastack.contrib.grpc import ServerContext, context_channel
    >>> server = grpc.server(futures.ThreadPoolExecutor(4), interceptors=[ServerContext()])
    >>> channel = context_channel(grpc.insecure_channel("127.0.0.1:1"))
    >>> channel.close()
"""

from __future__ import annotations

import contextvars
from typing import TYPE_CHECKING, Any, Self, final

from hastack import context
from hastack._core._cancel import _current
from hastack._core._errors import (
    CircuitOpen,
    ContextError,
    DeadlineExceeded,
    PolicyDenied,
    Rejected,
)
from hastack._core._extras import require
from hastack._core._validate import optional_seconds

from . import propagate
from ._client_calls import Attempt, Tries, guarded
from ._grpc_calls import CallRules, Outgoing, judged, judged_code
from ._grpc_rules import Incoming, Rules
from ._grpc_status import retry_trailers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from hastack._core._validate import Seconds
    from hastack.ratelimit import Guard, Retry

    from ._grpc_calls import Idempotent
    from ._grpc_rules import Guards

# grpc ships no types; whether stubs are installed must not matter here.
grpc: Any = require("grpc", extra="grpc")

__all__ = ("Incoming", "Outgoing", "ServerContext", "context_channel", "status_of")

# The sync server reports 9.2e18 seconds when the caller set no deadline, and a timeout of that
# size, sent on, fails at once (https://github.com/grpc/grpc/issues/26236). Thirty years is none.
_NO_DEADLINE = 1e9

# A call's own timer may ring this many seconds before the context's clock says so.
_TICK = 0.01


def status_of(
    error: ContextError | Rejected, root: context.Context | None = None
) -> tuple[Any, str, tuple[tuple[str, str | bytes], ...]]:
    """Status, details and trailers for an error that left a handler.

    Args:
        error: `DeadlineExceeded` is DEADLINE_EXCEEDED and `Cancelled` CANCELLED; an open circuit
            is UNAVAILABLE, a policy's no PERMISSION_DENIED, every other rejection
            RESOURCE_EXHAUSTED. ``retry_after`` becomes ``grpc-retry-pushback-ms`` (gRFC A6) and
            a ``google.rpc.RetryInfo`` in ``grpc-status-details-bin``.
        root: The context of the whole service: when it has ended, calls are UNAVAILABLE, since
            another replica may serve them.

    Example:
        >>> from hastack.contrib.grpc import status_of
        >>> from hastack.errors import RateLimited
        >>> code, details, trailers = status_of(RateLimited("api", retry_after=0.25))
        >>> code.name, details
        ('RESOURCE_EXHAUSTED', 'api: rate limit exceeded; retry after 0.25 s')
        >>> [name for name, _ in trailers], trailers[0][1]
        (['grpc-retry-pushback-ms', 'grpc-status-details-bin'], '250')
    """
    if isinstance(error, Rejected):
        code = grpc.StatusCode.RESOURCE_EXHAUSTED
        if isinstance(error, CircuitOpen):
            code = grpc.StatusCode.UNAVAILABLE
        elif isinstance(error, PolicyDenied):
            code = grpc.StatusCode.PERMISSION_DENIED
        return code, str(error), retry_trailers(code.value[0], str(error), error.retry_after)
    if isinstance(error, DeadlineExceeded):
        return grpc.StatusCode.DEADLINE_EXCEEDED, str(error), ()
    if root is not None and root.done:
        return grpc.StatusCode.UNAVAILABLE, str(error), ()
    return grpc.StatusCode.CANCELLED, str(error), ()


def open_context(
    servicer_context: Any, root: context.Context | None, max_timeout: float | None
) -> context.Context:
    """The context of one incoming RPC."""
    ctx = propagate.from_headers(
        servicer_context.invocation_metadata() or (),
        root or context.background(),
        max_timeout=max_timeout,
        timeouts={},  # the deadline of the RPC itself is the truth
    )
    left = servicer_context.time_remaining()
    if left is None or left > _NO_DEADLINE:
        return ctx
    return context.timeout(max(0.0, left), parent=ctx)


@final
class ServerContext(grpc.ServerInterceptor):  # type: ignore[misc]  # a class without types
    """Server interceptor for `grpc.server`.

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

    def intercept_service(
        self, continuation: Callable[[Any], Any], handler_call_details: Any
    ) -> Any:
        """Called by grpc."""
        handler = continuation(handler_call_details)
        if handler is None:
            return None
        method, guarded = handler_call_details.method, self._rules.guarded
        return wrap_handler(
            handler,
            lambda behavior: self._unary(guarded(method, behavior, streams=False)),
            lambda behavior: self._stream(guarded(method, behavior, streams=True)),
        )

    def _unary(self, behavior: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        def run(request: Any, servicer_context: Any) -> Any:
            with self._open(servicer_context):
                try:
                    return behavior(request, servicer_context)
                except (ContextError, Rejected) as error:
                    self._abort(servicer_context, error)

        return run

    def _stream(self, behavior: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        def run(request: Any, servicer_context: Any) -> Iterator[Any]:
            ctx = self._open(servicer_context)
            # The handler's steps run in a contextvars.Context of their own: a scope held across
            # a yield would show in grpc's thread.
            variables = contextvars.copy_context()
            variables.run(_current.set, ctx)
            try:
                responses = iter(variables.run(behavior, request, servicer_context))
                try:
                    while True:
                        try:
                            response = variables.run(next, responses)
                        except StopIteration:
                            return
                        yield response
                finally:
                    close = getattr(responses, "close", None)
                    if close is not None:
                        variables.run(close)
            except (ContextError, Rejected) as error:
                self._abort(servicer_context, error)
            finally:
                ctx._leave()

        return run

    def _open(self, servicer_context: Any) -> context.Context:
        ctx = open_context(servicer_context, self._root, self._max_timeout)
        if servicer_context.add_callback(lambda: ctx.cancel("RPC ended")) is False:
            ctx.cancel("RPC ended")  # over before it began
        return ctx

    def _abort(self, servicer_context: Any, error: ContextError | Rejected) -> None:
        code, details, trailers = status_of(error, self._root)
        if trailers:
            servicer_context.set_trailing_metadata((*own_trailers(servicer_context), *trailers))
        servicer_context.abort(code, details)


def own_trailers(servicer_context: Any) -> tuple[Any, ...]:
    """The trailers that the handler has set so far; some of grpc's classes cannot tell."""
    tell = getattr(servicer_context, "trailing_metadata", None)
    return tuple((tell and tell()) or ())


def wrap_handler(
    handler: Any,
    unary: Callable[[Any], Any],
    stream: Callable[[Any], Any],
) -> Any:
    """``handler`` with its behaviour, whichever of the four kinds it is, wrapped."""
    kinds = {
        (False, False): ("unary_unary", grpc.unary_unary_rpc_method_handler, unary),
        (False, True): ("unary_stream", grpc.unary_stream_rpc_method_handler, stream),
        (True, False): ("stream_unary", grpc.stream_unary_rpc_method_handler, unary),
        (True, True): ("stream_stream", grpc.stream_stream_rpc_method_handler, stream),
    }
    name, make, wrap = kinds[bool(handler.request_streaming), bool(handler.response_streaming)]
    return make(
        wrap(getattr(handler, name)),
        request_deserializer=handler.request_deserializer,
        response_serializer=handler.response_serializer,
    )


def context_channel(
    channel: Any,
    *,
    guard: Guard | None = None,
    retry: Retry | None = None,
    idempotent: Idempotent = (),
) -> Any:
    """A `grpc.Channel` whose calls honour the context that is current where they are made.

    A wrapper rather than an interceptor: a blocking call that goes through interceptors cannot
    be cancelled from outside.

    Each call takes the smaller of its own ``timeout`` and the context's remaining time, carries
    the trace identity, and is cancelled when the context ends.

    Args:
        channel: The `grpc.Channel` to call through; closing the result closes it.
        guard: Around each try: limiters, breakers, timeouts, or a `compose` of them. Their key
            and cost functions get an `Outgoing`. A call holds its permits until it ends, a stream
            with its last response. Breakers are told of UNKNOWN, DEADLINE_EXCEEDED, INTERNAL,
            UNAVAILABLE and DATA_LOSS; other codes are answers of a server that works.
        retry: When to make a blocking call with one request again: after a refusal of
            ``guard``, and for an idempotent method after UNAVAILABLE, or after RESOURCE_EXHAUSTED
            with a time to come back. ``grpc-retry-pushback-ms`` and ``google.rpc.RetryInfo`` are
            waited for; a negative pushback is the end.
        idempotent: Full names of methods that may be served twice; ``True`` for all.

    Raises:
        InvalidArgument: An argument is something else, or ``guard`` would repeat calls.
        Rejected: (from calls) A guard refused.
        Cancelled: (from calls) The context was cancelled, before or during the call.
        DeadlineExceeded: (from calls) Its deadline passed.
    """
    return _ContextChannel(channel, CallRules(guard, retry, idempotent))


def call_options(
    ctx: context.Context, timeout: float | None, metadata: Iterable[tuple[str, Any]] | None
) -> tuple[float | None, list[tuple[str, Any]] | None]:
    """Timeout and metadata of an outgoing call under ``ctx``; raises when it has ended."""
    ctx.check()
    left = ctx.remaining()
    if left is not None and (timeout is None or left < timeout):
        timeout = left
    headers = propagate.outgoing_headers(ctx, timeouts={})
    if not headers:
        return timeout, None if metadata is None else list(metadata)
    given = list(metadata or ())
    names = {str(name).lower() for name, _ in given}
    return timeout, given + [item for item in headers.items() if item[0] not in names]


def context_error(ctx: context.Context, code: Any) -> ContextError | None:
    """The context's error when a call that ended with ``code`` ended because of it."""
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        left = ctx.remaining()
        if left is not None and left < _TICK:
            if not ctx.done:
                ctx._ring()
            return ctx.err()
    elif code is grpc.StatusCode.CANCELLED and ctx.done:
        return ctx.err()
    return None


class _ContextChannel(grpc.Channel):  # type: ignore[misc]  # a class without types
    def __init__(self, channel: Any, rules: CallRules) -> None:
        self._channel = channel
        self._rules = rules

    def subscribe(self, callback: Any, try_to_connect: bool | None = False) -> None:
        self._channel.subscribe(callback, try_to_connect)

    def unsubscribe(self, callback: Any) -> None:
        self._channel.unsubscribe(callback)

    def unary_unary(self, method: str, *args: Any, **kwargs: Any) -> Any:
        return self._unary(method, self._channel.unary_unary(method, *args, **kwargs))

    def stream_unary(self, method: str, *args: Any, **kwargs: Any) -> Any:
        return self._unary(method, self._channel.stream_unary(method, *args, **kwargs))

    def unary_stream(self, method: str, *args: Any, **kwargs: Any) -> Any:
        return self._stream(method, self._channel.unary_stream(method, *args, **kwargs))

    def stream_stream(self, method: str, *args: Any, **kwargs: Any) -> Any:
        return self._stream(method, self._channel.stream_stream(method, *args, **kwargs))

    def _unary(self, method: str, inner: Any) -> _UnaryCall:
        call = _UnaryCall(inner)
        return _GuardedUnaryCall(call, method, self._rules) if self._rules.any else call

    def _stream(self, method: str, inner: Any) -> _StreamCall:
        call = _StreamCall(inner)
        return _GuardedStreamCall(call, method, self._rules) if self._rules.any else call

    def close(self) -> None:
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


class _UnaryCall:
    """Multi-callable with one response."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __call__(
        self,
        request: Any,
        timeout: float | None = None,
        metadata: Sequence[tuple[str, Any]] | None = None,
        **options: Any,
    ) -> Any:
        return self.with_call(request, timeout, metadata, **options)[0]

    def with_call(
        self,
        request: Any,
        timeout: float | None = None,
        metadata: Sequence[tuple[str, Any]] | None = None,
        **options: Any,
    ) -> tuple[Any, Any]:
        ctx = context.current()
        timeout, metadata = call_options(ctx, timeout, metadata)
        if ctx is context.background():
            # Nothing can end it: the blocking call is the cheaper one.
            response, call = self._inner.with_call(request, timeout, metadata, **options)
            return response, call
        call = self._inner.future(request, timeout, metadata, **options)
        stop = ctx._watch(call.cancel)  # the deadline is in grpc's hands already
        try:
            return call.result(), call
        except (grpc.RpcError, grpc.FutureCancelledError) as error:
            mine = context_error(ctx, call.code())
            if mine is None:
                raise
            raise mine from error
        except BaseException:
            call.cancel()  # interrupted while waiting
            raise
        finally:
            stop()

    def future(
        self,
        request: Any,
        timeout: float | None = None,
        metadata: Sequence[tuple[str, Any]] | None = None,
        **options: Any,
    ) -> Any:
        ctx = context.current()
        timeout, metadata = call_options(ctx, timeout, metadata)
        call = self._inner.future(request, timeout, metadata, **options)
        stop = ctx._watch(call.cancel)
        call.add_done_callback(lambda _: stop())
        return call


class _StreamCall:
    """Multi-callable with a stream of responses."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __call__(
        self,
        request: Any,
        timeout: float | None = None,
        metadata: Sequence[tuple[str, Any]] | None = None,
        **options: Any,
    ) -> Any:
        ctx = context.current()
        timeout, metadata = call_options(ctx, timeout, metadata)
        call = self._inner(request, timeout, metadata, **options)
        stop = ctx._watch(call.cancel)
        if not call.add_callback(stop):
            stop()
        return _Responses(call, ctx)


class _Responses:
    """A streaming call whose iteration raises the context's error when that ended it."""

    def __init__(self, call: Any, ctx: context.Context) -> None:
        self._call = call
        self._ctx = ctx

    def __iter__(self) -> _Responses:
        return self

    def __next__(self) -> Any:
        try:
            return next(self._call)
        except grpc.RpcError as error:
            mine = context_error(self._ctx, self._call.code())
            if mine is None:
                raise
            raise mine from error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._call, name)


class _GuardedUnaryCall(_UnaryCall):
    """A multi-callable with one response, behind guards, tried again where that is safe."""

    def __init__(self, inner: _UnaryCall, method: str, rules: CallRules) -> None:
        super().__init__(inner)
        self._method = method
        self._rules = rules
        self._blocking = guarded(rules.guard, self._now, judged)
        self._begun = guarded(rules.guard, self._later, judged)

    def with_call(
        self,
        request: Any,
        timeout: float | None = None,
        metadata: Sequence[tuple[str, Any]] | None = None,
        **options: Any,
    ) -> tuple[Any, Any]:
        outgoing = Outgoing(self._method, request, metadata)
        tries = Tries(self._rules.retry, outgoing, self._rules.repeatable)
        while True:
            attempt = Attempt(outgoing, (timeout, options))
            try:
                answer: tuple[Any, Any] = self._blocking(attempt)
            except BaseException as error:
                attempt.end(judged(error))
                delay = tries.after(error)
                if delay is None:
                    raise
            else:
                attempt.end(None, answer[0])
                return answer
            context.sleep(delay)

    def future(
        self,
        request: Any,
        timeout: float | None = None,
        metadata: Sequence[tuple[str, Any]] | None = None,
        **options: Any,
    ) -> Any:
        attempt = Attempt(Outgoing(self._method, request, metadata), (timeout, options))
        try:
            call = self._begun(attempt)
        except BaseException as error:
            attempt.end(judged(error))
            raise
        call.add_done_callback(lambda done: attempt.end(judged_code(done.code(), None)))
        return call

    def _now(self, attempt: Attempt) -> tuple[Any, Any]:
        timeout, options = attempt.options
        outgoing = attempt.request
        answer: tuple[Any, Any] = self._inner.with_call(
            outgoing.request, timeout, outgoing.metadata, **options
        )
        return answer

    def _later(self, attempt: Attempt) -> Any:
        timeout, options = attempt.options
        outgoing = attempt.request
        return self._inner.future(outgoing.request, timeout, outgoing.metadata, **options)


class _GuardedStreamCall(_StreamCall):
    """A multi-callable with a stream of responses, behind guards until the stream ends."""

    def __init__(self, inner: _StreamCall, method: str, rules: CallRules) -> None:
        super().__init__(inner)
        self._method = method
        self._begun = guarded(rules.guard, self._start, judged)

    def __call__(
        self,
        request: Any,
        timeout: float | None = None,
        metadata: Sequence[tuple[str, Any]] | None = None,
        **options: Any,
    ) -> Any:
        attempt = Attempt(Outgoing(self._method, request, metadata), (timeout, options))
        try:
            call = self._begun(attempt)
        except BaseException as error:
            attempt.end(judged(error))
            raise

        def ended() -> None:
            attempt.end(judged_code(call.code(), None))

        if not call.add_callback(ended):
            ended()
        return call

    def _start(self, attempt: Attempt) -> Any:
        timeout, options = attempt.options
        outgoing = attempt.request
        return self._inner(outgoing.request, timeout, outgoing.metadata, **options)
