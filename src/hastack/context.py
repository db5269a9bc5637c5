"""One context for a call: its deadline, its cancellation and the values that travel with it.

The current context is ambient (a `contextvars.ContextVar`), and everything in hastack also takes
``ctx=``. A context is its own scope::

    with context.timeout(0.25):            # sync: checks and blocking calls take remaining()
        save(user)

    async with context.timeout(0.25):      # asyncio: cancels the awaiting task as well
        await get_user("ada")

Sync code is cancelled cooperatively: `Context.check`, `sleep`, `Context.wait` and everything in
hastack that blocks look at the context; a thread inside foreign code is never interrupted. A
plain ``with`` inside async code does not cancel the task either; use ``async with`` there.

The semantics follow Go's ``context`` package.

Example:
    >>> from hastack import context
    >>> with context.timeout(5.0) as ctx:
    ...     ctx.done, context.current() is ctx, 0 < ctx.remaining() <= 5.0
    (False, True, True)
    >>> ctx.done
    True
"""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, final

from ._core._cancel import BACKGROUND, Background, Carrier, Context, _current, restore
from ._core._errors import InvalidArgument
from ._core._validate import number
from ._core._validate import seconds as _seconds

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Token
    from types import TracebackType

    from ._core._validate import Seconds
    from .typing import Clock

__all__ = (
    "Context",
    "background",
    "bind",
    "current",
    "deadline",
    "sleep",
    "sleep_async",
    "timeout",
    "using",
    "with_cancel",
    "with_value",
    "without_cancel",
)

P = ParamSpec("P")
R = TypeVar("R")


def background(*, clock: Clock | None = None) -> Context:
    """The root of all contexts: no deadline, no values, never cancelled.

    Args:
        clock: Clock for the deadlines of the contexts below; the process clock by default.
            Tests pass a `hastack.testing.ManualClock`.

    Example:
        >>> from hastack import context
        >>> context.background().remaining() is None
        True
    """
    return BACKGROUND if clock is None else Background(clock)


def current() -> Context:
    """The context of the running code; the background when none was entered."""
    return _current.get()


def timeout(
    seconds: Seconds | None,
    *,
    parent: Context | None = None,
    cause: BaseException | None = None,
) -> Context:
    """A context that ends ``seconds`` from now, or with its parent if that is earlier.

    Args:
        seconds: Seconds, as a number >= 0 or a timedelta; ``None`` adds no deadline.
        parent: Where it belongs; the current context by default.
        cause: What `Context.cause` says when this very deadline passes.

    Raises:
        InvalidArgument: ``seconds`` is negative or not a finite number.

    Example:
        >>> from hastack import context
        >>> with context.timeout(0.0) as ctx:
        ...     ctx.err()
        DeadlineExceeded('deadline exceeded')
    """
    if seconds is None:
        return with_cancel(parent)
    # The common cases first: the full check costs as much as the rest of this function.
    if (type(seconds) is not float and type(seconds) is not int) or not 0.0 <= seconds < 1e300:
        seconds = _seconds("seconds", seconds, zero=True)
    if parent is None:
        parent = _current.get()
    clock = parent._clock
    at = clock.monotonic() + seconds
    return Context(
        None if parent.__class__ is Background else parent, clock, parent._values, at, cause
    )


def deadline(
    at: float | None, *, parent: Context | None = None, cause: BaseException | None = None
) -> Context:
    """A context that ends when its clock reads ``at``, or with its parent if that is earlier.

    Args:
        at: Reading of the parent's `Context.clock`, in seconds; ``None`` adds no deadline.
        parent: Where it belongs; the current context by default.
        cause: What `Context.cause` says when this very deadline passes.

    Raises:
        InvalidArgument: ``at`` is not a finite number.
    """
    if at is not None:
        at = number("at", at, "a finite reading of the context's clock, or None", valid=_any)
    if parent is None:
        parent = _current.get()
    above = None if parent.__class__ is Background else parent
    if above is not None:
        above._look()  # ``at`` may lie before an end that nobody has looked at: that came first
    return Context(above, parent._clock, parent._values, at, cause)


def _any(reading: float) -> bool:
    return True


def with_cancel(parent: Context | None = None) -> Context:
    """A context that ends when it is cancelled or with its parent.

    Example:
        >>> from hastack import context
        >>> ctx = context.with_cancel()
        >>> ctx.cancel("shutting down")
        True
        >>> ctx.cause()
        Cancelled('shutting down')
    """
    if parent is None:
        parent = _current.get()
    above = None if parent.__class__ is Background else parent
    return Context(above, parent._clock, parent._values)


def with_value(key: object, value: object, parent: Context | None = None) -> Context:
    """A context that carries ``value`` under ``key`` and otherwise lives like its parent.

    Leaving its scope does not end it, so work that was handed to another thread may go on.

    Args:
        key: Compared with ``==``; use a private object to avoid clashes between packages.
        value: Anything; shared, not copied.
        parent: Where it belongs; the current context by default.

    Example:
        >>> from hastack import context
        >>> with context.with_value("user", "ada"):
        ...     context.current().value("user")
        'ada'
    """
    if parent is None:
        parent = _current.get()
    above = None if parent.__class__ is Background else parent
    return Carrier(above, parent._clock, (key, value, parent._values))


def without_cancel(parent: Context | None = None) -> Context:
    """A context with the values of its parent, without its deadline and its cancellation.

    For work that has to be finished although the call has ended: clean-up, audit, refunds.
    """
    if parent is None:
        parent = _current.get()
    return Carrier(None, parent._clock, parent._values)


@final
class using:  # noqa: N801  # reads as a statement, like contextlib's
    """Make ``ctx`` current for a block without owning it: leaving ends nothing.

    The same context may be in use many times at once, on any number of threads and tasks.

    Example:
        >>> from hastack import context
        >>> ctx = context.with_cancel()
        >>> with context.using(ctx):
        ...     context.current() is ctx
        True
        >>> ctx.done
        False
    """

    __slots__ = ("_ctx", "_token")

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._token: Token[Context] | None = None

    def __enter__(self) -> Context:
        if self._token is not None:
            raise InvalidArgument("using", self, "a block that is not entered already")
        self._token = _current.set(self._ctx)
        return self._ctx

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        token = self._token
        self._token = None
        assert token is not None
        try:
            _current.reset(token)
        except ValueError:
            restore(token, self._ctx)


def bind(fn: Callable[P, R], ctx: Context | None = None) -> Callable[P, R]:
    """``fn``, to be run elsewhere under the context of here.

    New tasks and `asyncio.to_thread` inherit the context by themselves; a raw
    `threading.Thread`, an executor and ``run_in_executor`` do not. Every other context variable
    of the caller travels along; a coroutine function takes the context only, since its task has
    its own variables.

    Args:
        fn: Function or coroutine function.
        ctx: What is current while it runs; the current context by default.

    Raises:
        InvalidArgument: ``fn`` is not callable.

    Example:
        >>> import threading
        >>> from hastack import context
        >>> with context.with_value("user", "ada"):
        ...     hello = context.bind(lambda: print(context.current().value("user")))
        >>> thread = threading.Thread(target=hello); thread.start(); thread.join()
        ada
    """
    import inspect
    from contextvars import copy_context

    if not callable(fn):
        raise InvalidArgument("fn", fn, "a function or coroutine function")
    bound = _current.get() if ctx is None else ctx
    if inspect.iscoroutinefunction(fn):

        @wraps(fn)
        async def run_async(*args: Any, **kwargs: Any) -> Any:
            with using(bound):
                return await fn(*args, **kwargs)

        return run_async  # type: ignore[return-value]  # R is the coroutine
    variables = copy_context()
    variables.run(_current.set, bound)

    @wraps(fn)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        # A copy for each call: one contextvars.Context cannot be entered twice at a time.
        return variables.copy().run(fn, *args, **kwargs)

    return run


def sleep(seconds: Seconds, *, ctx: Context | None = None) -> None:
    """Let ``seconds`` pass on the context's clock, or less if the context ends.

    Raises:
        Cancelled: The context was cancelled before or meanwhile.
        DeadlineExceeded: Its deadline passed before or meanwhile.
    """
    pause = _seconds("seconds", seconds, zero=True)
    if ctx is None:
        ctx = _current.get()
    ctx.check()
    if ctx.wait(pause):
        ctx.check()


async def sleep_async(seconds: Seconds, *, ctx: Context | None = None) -> None:
    """Like `sleep`, on the running asyncio loop; other tasks run at least once.

    Raises:
        Cancelled: The context was cancelled before or meanwhile.
        DeadlineExceeded: Its deadline passed before or meanwhile.
    """
    pause = _seconds("seconds", seconds, zero=True)
    if ctx is None:
        ctx = _current.get()
    ctx.check()
    if await ctx.wait_async(pause):
        ctx.check()
